package tenantotel_test

import (
	"context"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric"
	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/llmtenant/tenant"
	tenantotel "github.com/llmtenant/tenant/otel"
)

// BenchmarkCall tells of an admission and a settle, as a program has them that makes its calls itself.
func BenchmarkCall(b *testing.B) {
	meters, tracers := metric.NewMeterProvider(metric.WithReader(metric.NewManualReader())), sdk.NewTracerProvider(sdk.WithBatcher(nowhere{}))
	defer func() { _ = tracers.Shutdown(context.WithoutCancel(b.Context())) }()
	for _, c := range []struct {
		name    string
		options []tenantotel.Option
	}{
		{"metrics", []tenantotel.Option{tenantotel.WithMeterProvider(meters)}},
		{"spans", []tenantotel.Option{tenantotel.WithTracerProvider(tracers)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			telemetry, err := tenantotel.New(c.options...)
			require.NoError(b, err)
			admitted := &tenant.AdmittedEvent{
				TenantID: "acme", ExecutionID: "x", Provider: "openai", Model: "m", Operation: "chat", HeldCost: decimal.New(10_000_000, -9), HeldTokens: 1000, Waited: time.Millisecond,
			}
			settled := &tenant.SettledEvent{
				TenantID: "acme", ExecutionID: "x", Provider: "openai", Model: "m", BilledModel: "m", Operation: "chat", Usage: tenant.Usage{Input: 700},
				Cost: decimal.New(8_000_000, -9), HeldCost: decimal.New(10_000_000, -9), Tokens: 700, HeldTokens: 1000, Duration: time.Second, Status: "succeeded",
			}
			b.ReportAllocs()
			for b.Loop() {
				telemetry.Observe(b.Context(), admitted)
				telemetry.Observe(b.Context(), settled)
			}
		})
	}
}

type nowhere struct{}

func (nowhere) ExportSpans(context.Context, []sdk.ReadOnlySpan) error { return nil }
func (nowhere) Shutdown(context.Context) error                        { return nil }
