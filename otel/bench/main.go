// Command bench is what `go run ./bench -only telemetry` starts: it makes the calls of one hot tenant with and without telemetry by
// turns, on one database, and prints calls per second as JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/llmtenant/tenant"
	tenantotel "github.com/llmtenant/tenant/otel"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var (
		url      = flag.String("db", "", "the `URL` of an empty PostgreSQL database")
		duration = flag.Duration("duration", 5*time.Second, "how long each of the ways is measured")
		callers  = flag.Int("callers", 512, "how many callers make one call after the other")
	)
	flag.Parse()
	report, err := measure(ctx, *url, *duration, *callers)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(report)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// report is calls per second without telemetry, with metrics and the span of each call, and with metrics and the span of each tenth.
type report struct{ Plain, Traced, Sampled float64 }

// turns is how often each of the ways has its turn, in an order that goes back and forth: the machine is not as fast all of the time, and
// what one turn leaves to be done is done in the next.
const turns = 20

func measure(ctx context.Context, url string, duration time.Duration, callers int) (r report, err error) {
	const part = 0.1
	var sides []*side
	defer func() {
		for _, s := range sides {
			err = errors.Join(err, s.close(context.WithoutCancel(ctx)))
		}
	}()
	for _, sampler := range []trace.Sampler{nil, trace.AlwaysSample(), trace.TraceIDRatioBased(part)} {
		s, err := open(ctx, url, tenant.ID(fmt.Sprintf("tenant-%d", len(sides))), sampler)
		if err != nil {
			return r, err
		}
		sides = append(sides, s)
	}
	for range turns {
		for _, s := range sides {
			if err := s.busy(ctx, duration/turns, callers); err != nil {
				return r, err
			}
		}
		slices.Reverse(sides)
	}
	differences, err := sides[0].ledger.Verify(ctx)
	if err == nil && len(differences) > 0 {
		err = fmt.Errorf("the books differ in %d figures, the first: %v", len(differences), differences[0])
	}
	return report{Plain: sides[0].perSecond(), Traced: sides[1].perSecond(), Sampled: sides[2].perSecond()}, err
}

// side is one of the ways.
type side struct {
	ledger    *tenant.Ledger
	db        *gorm.DB
	who       tenant.ID
	tracers   *trace.TracerProvider // nil: it has no telemetry
	meters    *metric.MeterProvider
	telemetry *tenantotel.Telemetry
	calls     atomic.Int64
	took      time.Duration
}

func open(ctx context.Context, url string, who tenant.ID, sampler trace.Sampler) (*side, error) {
	s := &side{who: who}
	var (
		options []tenant.OpenOption
		err     error
	)
	if sampler != nil {
		s.tracers = trace.NewTracerProvider(trace.WithBatcher(nowhere{}), trace.WithSampler(sampler))
		s.meters = metric.NewMeterProvider(metric.WithReader(metric.NewPeriodicReader(nowhere{}, metric.WithInterval(time.Second))))
		s.telemetry, err = tenantotel.New(tenantotel.WithMeterProvider(s.meters), tenantotel.WithTracerProvider(s.tracers), tenantotel.WithTenants(string(who)))
		if err != nil {
			return nil, err
		}
		options = append(options, tenant.WithObserver(s.telemetry))
	}
	if s.db, err = gorm.Open(postgres.Open(url), &gorm.Config{Logger: logger.Discard}); err != nil {
		return nil, err
	}
	if s.ledger, err = tenant.Open(s.db, options...); err != nil {
		return nil, err
	}
	if s.telemetry != nil {
		if err := s.telemetry.Watch(s.ledger); err != nil {
			return nil, err
		}
	}
	if err := s.ledger.Migrate(ctx); err != nil {
		return nil, err
	}
	err = tenant.ConfigureBudget(ctx, s.db, who, func(b *tenant.Budget) error {
		b.Enforcement = tenant.Hard
		b.Limits = tenant.Limits{DailyCost: tenant.USD("1000000000"), MonthlyTokens: tenant.Count(1 << 60)}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, s.call(ctx)
}

func (s *side) close(ctx context.Context) error {
	pool, err := s.db.DB()
	err = errors.Join(err, s.ledger.Close(ctx), pool.Close())
	if s.telemetry != nil {
		err = errors.Join(err, s.telemetry.Close(), s.tracers.Shutdown(ctx), s.meters.Shutdown(ctx))
	}
	return err
}

// call is one call: reserve and settle, with nothing in between.
func (s *side) call(ctx context.Context) error {
	hold, err := s.ledger.Reserve(ctx, s.who, tenant.Estimate{Provider: "openai", Model: "m", InputTokens: 1000, Cost: tenant.USD("0.01")})
	if err == nil {
		_, err = s.ledger.Settle(ctx, hold, tenant.Actual{Cost: tenant.USD("0.008"), Usage: tenant.Usage{Input: 700}})
	}
	return err
}

// busy lets callers make one call after the other for a while.
func (s *side) busy(ctx context.Context, duration time.Duration, callers int) error {
	var (
		group  sync.WaitGroup
		failed atomic.Pointer[error]
	)
	start := time.Now()
	for range callers {
		group.Go(func() {
			for time.Since(start) < duration && failed.Load() == nil {
				if err := s.call(ctx); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				s.calls.Add(1)
			}
		})
	}
	group.Wait()
	s.took += time.Since(start)
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *side) perSecond() float64 { return float64(s.calls.Load()) / s.took.Seconds() }

// nowhere takes spans and metrics, as an exporter does.
type nowhere struct{}

func (nowhere) ExportSpans(context.Context, []trace.ReadOnlySpan) error   { return nil }
func (nowhere) Export(context.Context, *metricdata.ResourceMetrics) error { return nil }
func (nowhere) ForceFlush(context.Context) error                          { return nil }
func (nowhere) Shutdown(context.Context) error                            { return nil }
func (nowhere) Aggregation(k metric.InstrumentKind) metric.Aggregation {
	return metric.DefaultAggregationSelector(k)
}
func (nowhere) Temporality(k metric.InstrumentKind) metricdata.Temporality {
	return metric.DefaultTemporalitySelector(k)
}
