package tenantotel_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/glebarez/sqlite"
	prom "github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	tenantotel "github.com/llmtenant/tenant/otel"
)

func Example() {
	ctx := context.Background()
	folder, err := os.MkdirTemp("", "telemetry")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(folder) }()
	db, err := gorm.Open(sqlite.Open(filepath.Join(folder, "books.db") + "?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)&_txlock=immediate"))
	if err != nil {
		panic(err)
	}

	pool, err := db.DB()
	if err != nil {
		panic(err)
	}
	defer func() { _ = pool.Close() }()

	registry := prom.NewRegistry() // of what promhttp.HandlerFor serves
	exporter, err := prometheus.New(prometheus.WithRegisterer(registry))
	if err != nil {
		panic(err)
	}
	meters := metric.NewMeterProvider(metric.WithReader(exporter))
	defer func() { _ = meters.Shutdown(ctx) }()

	telemetry, err := tenantotel.New(tenantotel.WithMeterProvider(meters)) // and WithTracerProvider, for spans
	if err != nil {
		panic(err)
	}
	defer func() { _ = telemetry.Close() }()
	ledger, err := tenant.Open(db,
		tenant.WithObserver(telemetry),
		tenant.WithObserver(tenant.LogObserver(nil))) // the log goes on
	if err != nil {
		panic(err)
	}
	defer func() { _ = ledger.Close(ctx) }()
	if err := ledger.Migrate(ctx); err != nil {
		panic(err)
	}
	if err := telemetry.Watch(ledger); err != nil {
		panic(err)
	}

	_, err = ledger.Record(ctx, tenant.ID("acme"), tenant.Actual{Provider: "openai", Model: "gpt-4.1", Cost: tenant.USD("0.0123")})
	if err != nil {
		panic(err)
	}
	families, err := registry.Gather()
	if err != nil {
		panic(err)
	}
	for _, f := range families {
		if f.GetName() == "llmtenant_cost_nano_usd_total" {
			fmt.Printf("%s %.0f\n", f.GetName(), f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	// Output: llmtenant_cost_nano_usd_total 12300000
}
