// Command bench is what `go run ./bench -only telemetry` starts: it makes the calls of one hot tenant with and without telemetry by
// turns, on one database, and prints calls per second of both as JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
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
		duration = flag.Duration("duration", 5*time.Second, "how long each of the two ways is measured")
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

// report is calls per second with telemetry and without.
type report struct{ Told, Plain float64 }

// turns is how often each of the two ways has its turn. The machine is not as fast all of the time.
const turns = 10

func measure(ctx context.Context, url string, duration time.Duration, callers int) (r report, err error) {
	tracers := trace.NewTracerProvider(trace.WithBatcher(nowhere{}))
	meters := metric.NewMeterProvider(metric.WithReader(metric.NewPeriodicReader(nowhere{}, metric.WithInterval(time.Second))))
	defer func() {
		end := context.WithoutCancel(ctx)
		err = errors.Join(err, tracers.Shutdown(end), meters.Shutdown(end))
	}()
	telemetry, err := tenantotel.New(tenantotel.WithMeterProvider(meters), tenantotel.WithTracerProvider(tracers), tenantotel.WithTenants("told"))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, telemetry.Close()) }()
	plain, err := open(ctx, url, "plain")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, plain.close(ctx)) }()
	told, err := open(ctx, url, "told", tenant.WithObserver(telemetry))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, told.close(ctx)) }()
	if err := telemetry.Watch(told.ledger); err != nil {
		return r, err
	}
	for range turns {
		for _, s := range []*side{plain, told} {
			if err := s.busy(ctx, duration/turns, callers); err != nil {
				return r, err
			}
		}
	}
	differences, err := plain.ledger.Verify(ctx)
	if err == nil && len(differences) > 0 {
		err = fmt.Errorf("the books differ in %d figures, the first: %v", len(differences), differences[0])
	}
	return report{Told: told.perSecond(), Plain: plain.perSecond()}, err
}

// side is one of the two ways.
type side struct {
	ledger *tenant.Ledger
	db     *gorm.DB
	who    tenant.ID
	calls  atomic.Int64
	took   time.Duration
}

func open(ctx context.Context, url string, who tenant.ID, options ...tenant.OpenOption) (*side, error) {
	s := &side{who: who}
	var err error
	if s.db, err = gorm.Open(postgres.Open(url), &gorm.Config{Logger: logger.Discard}); err != nil {
		return nil, err
	}
	if s.ledger, err = tenant.Open(s.db, options...); err != nil {
		return nil, err
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
	return errors.Join(s.ledger.Close(context.WithoutCancel(ctx)), err, pool.Close())
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
