package tenantotel_test

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/llmtenant/tenant"
	tenantotel "github.com/llmtenant/tenant/otel"
)

func succeeded(cost int64) *tenant.SettledEvent {
	return &tenant.SettledEvent{Model: "m", Status: "succeeded", Operation: "chat", Cost: decimal.New(cost, -9), Usage: tenant.Usage{Input: 3, Output: 2}, Duration: time.Second}
}

// totals are what a reader collects: the calls, their cost, and how many have a duration and tokens.
type totals struct{ calls, cost, durations, tokens int64 }

func collect(t *testing.T, r metric.Reader) (got totals) {
	t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(t, r.Collect(t.Context(), &all))
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					switch m.Name {
					case "llmtenant.calls":
						got.calls += p.Value
					case "llmtenant.cost.nano_usd":
						got.cost += p.Value
					}
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					if m.Name == "gen_ai.client.operation.duration" {
						got.durations += int64(p.Count)
					}
				}
			case metricdata.Histogram[int64]:
				for _, p := range data.DataPoints {
					if m.Name == "gen_ai.client.token.usage" {
						got.tokens += p.Sum
					}
				}
			}
		}
	}
	return got
}

// What was told before metrics are collected is in them, to the last call, whoever tells of others meanwhile, and for every reader.
func TestBuffer_IsEmptiedWheneverMetricsAreCollected(t *testing.T) {
	t.Parallel()
	readers := []metric.Reader{
		metric.NewManualReader(),
		metric.NewManualReader(metric.WithTemporalitySelector(func(metric.InstrumentKind) metricdata.Temporality { return metricdata.DeltaTemporality })),
	}
	m := metric.NewMeterProvider(metric.WithReader(readers[0]), metric.WithReader(readers[1]))
	telemetry, err := tenantotel.New(tenantotel.WithMeterProvider(m), tenantotel.WithStabilityOptIn(""))
	require.NoError(t, err)
	telemetry.Observe(t.Context(), succeeded(7))
	require.Equal(t, totals{1, 7, 1, 5}, collect(t, readers[0]), "a single call waits for no others")
	require.Equal(t, totals{1, 7, 1, 5}, collect(t, readers[1]))

	const callers, each = 8, 501
	var (
		told  atomic.Int64
		group sync.WaitGroup
	)
	for range callers {
		group.Go(func() {
			for range each {
				telemetry.Observe(t.Context(), succeeded(7))
				told.Add(1)
			}
		})
	}
	var deltas totals
	for done := false; !done; {
		before := 1 + told.Load()
		done = before == 1+callers*each
		got := collect(t, readers[0])
		require.GreaterOrEqual(t, got.calls, before)
		require.GreaterOrEqual(t, got.tokens, 5*before)
		delta := collect(t, readers[1])
		deltas = totals{deltas.calls + delta.calls, deltas.cost + delta.cost, deltas.durations + delta.durations, deltas.tokens + delta.tokens}
	}
	group.Wait()
	require.Equal(t, totals{1 + callers*each, 7 * (1 + callers*each), 1 + callers*each, 5 * (1 + callers*each)}, collect(t, readers[0]))
	require.Equal(t, totals{callers * each, 7 * callers * each, callers * each, 5 * callers * each}, deltas, "of delta temporality")
}

func TestClose_LeavesNothingInABuffer(t *testing.T) {
	t.Parallel()
	drop := func(name string) metric.View {
		return metric.NewView(metric.Instrument{Name: name}, metric.Stream{Aggregation: metric.AggregationDrop{}})
	}
	for name, views := range map[string][]metric.View{
		"all instruments": nil,
		"no gauges":       {drop("llmtenant.holds"), drop("llmtenant.held.*"), drop("llmtenant.pending*")}, // so that nothing is asked when metrics are collected
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reader := metric.NewManualReader()
			telemetry, err := tenantotel.New(
				tenantotel.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(reader), metric.WithView(views...))), tenantotel.WithStabilityOptIn(""),
			)
			require.NoError(t, err)
			for range 70 {
				telemetry.Observe(t.Context(), succeeded(2))
			}
			require.NoError(t, telemetry.Close())
			require.Equal(t, totals{70, 140, 70, 350}, collect(t, reader))
			telemetry.Observe(t.Context(), succeeded(2))
			require.Equal(t, totals{71, 142, 71, 355}, collect(t, reader), "nobody would ask for it any more")
		})
	}
}

// Names that are made up for each call have no buffers, beyond the first.
func TestBuffer_KeepsNothingOfSeriesThatAreNotKept(t *testing.T) {
	t.Parallel()
	reader := metric.NewManualReader()
	telemetry, err := tenantotel.New(tenantotel.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(reader))), tenantotel.WithStabilityOptIn(""))
	require.NoError(t, err)
	const n = 4096 + 100
	for i := range n {
		e := succeeded(1)
		e.Model = "made-up-" + strconv.Itoa(i)
		telemetry.Observe(t.Context(), e)
	}
	require.Equal(t, totals{n, n, n, 5 * n}, collect(t, reader))
}

// A histogram leads to the trace of one of its calls.
func TestBuffer_HasTheTraceOfACall(t *testing.T) {
	t.Parallel()
	reader, exporter := metric.NewManualReader(), tracetest.NewInMemoryExporter()
	telemetry, err := tenantotel.New(
		tenantotel.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(reader))),
		tenantotel.WithTracerProvider(sdk.NewTracerProvider(sdk.WithSyncer(exporter))), tenantotel.WithStabilityOptIn(""),
	)
	require.NoError(t, err)
	telemetry.Observe(t.Context(), succeeded(1))
	var all metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &all))
	var traces []string
	for _, m := range all.ScopeMetrics[0].Metrics {
		if data, ok := m.Data.(metricdata.Histogram[float64]); ok && m.Name == "gen_ai.client.operation.duration" {
			for _, e := range data.DataPoints[0].Exemplars {
				traces = append(traces, string(e.TraceID))
			}
		}
	}
	spans := exporter.GetSpans()
	require.Len(t, spans, 1)
	id := spans[0].SpanContext.TraceID()
	require.Equal(t, []string{string(id[:])}, traces)
}
