// Package report lets package tenanthttp tell a ledger of requests that are no calls on its books. Reports is embedded in
// the ledger, and what its methods take can be made within this module alone, so that no program sees or calls them.
package report

import "context"

// Tenant is a tenant as the ledger takes it; nil for none.
type Tenant = interface{ LLMTenantID() string }

// Unmetered is a request that was passed on without being metered.
type Unmetered struct {
	Tenant             Tenant
	Method, Host, Path string
	Service            string // what the request is for, where that is known
}

// HostError is a call that was refused for what is wrong with the program that makes it.
type HostError struct {
	Tenant          Tenant
	Provider, Model string
	Options         any // those of the call, a []tenant.ReserveOption
	Err             error
}

// Reports brings reports to a ledger.
type Reports struct {
	unmetered func(context.Context, Unmetered)
	hostError func(context.Context, HostError)
}

// To returns reports that are brought to two functions.
func To(unmetered func(context.Context, Unmetered), hostError func(context.Context, HostError)) Reports {
	return Reports{unmetered, hostError}
}

// ReportUnmetered tells of a request that was passed on without being metered.
func (r Reports) ReportUnmetered(ctx context.Context, u Unmetered) { r.unmetered(ctx, u) }

// ReportHostError tells of a call that was refused for what is wrong with the program.
func (r Reports) ReportHostError(ctx context.Context, e HostError) { r.hostError(ctx, e) }
