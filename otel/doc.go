// Package tenantotel makes OpenTelemetry metrics and spans of what a ledger tells its observers.
//
//	telemetry, err := tenantotel.New(tenantotel.WithMeterProvider(meters), tenantotel.WithTracerProvider(tracers))
//	ledger, err := tenant.Open(db,
//		tenant.WithObserver(telemetry),
//		tenant.WithObserver(tenant.LogObserver(nil))) // the log goes on
//	err = telemetry.Watch(ledger) // what is held, and what is pending
//	defer telemetry.Close()
//
// It has names of its own for what the ledger alone knows (cost, outcomes, refusals, admissions, holds, batches, sweeps), and those
// of OpenTelemetry's GenAI conventions where these have some. docs/telemetry.md lists all of them.
//
// No metric has a series for each tenant, and none for whatever a caller chooses to name: see [WithTenants].
package tenantotel
