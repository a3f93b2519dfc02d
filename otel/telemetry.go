package tenantotel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shopspring/decimal"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/llmtenant/tenant"
)

// Telemetry is a [tenant.CallObserver] that counts and traces what it hears. It is safe for concurrent use, and starts no
// goroutines.
type Telemetry struct {
	tracer  trace.Tracer // nil: no spans
	metrics *metrics     // nil: no metrics
	meter   metric.Meter
	latest  bool // the GenAI names are those of today
	tenants map[string]bool
	room    sync.Pool // of *attributes

	mu       sync.Mutex
	watching []metric.Registration
}

// Option is an option of [New].
type Option func(*options) error

type options struct {
	meters  metric.MeterProvider
	tracers trace.TracerProvider
	tenants []string
	optIn   string
}

// WithMeterProvider sets where metrics go. Defaults to nowhere: there are none then.
func WithMeterProvider(p metric.MeterProvider) Option {
	return func(o *options) error {
		if p == nil {
			return fmt.Errorf("%w: WithMeterProvider: the provider is nil", tenant.ErrInvalidOption)
		}
		o.meters = p
		return nil
	}
}

// WithTracerProvider sets where spans go. Defaults to nowhere: there are none then.
func WithTracerProvider(p trace.TracerProvider) Option {
	return func(o *options) error {
		if p == nil {
			return fmt.Errorf("%w: WithTracerProvider: the provider is nil", tenant.ErrInvalidOption)
		}
		o.tracers = p
		return nil
	}
}

// WithTenants lists the tenants, at most 1,000 of them, whose id is an attribute of the metrics and spans of their calls. In metrics
// all others together are "_OTHER", and calls without a tenant have no such attribute. Defaults to none: nothing has the
// attribute.
func WithTenants(ids ...string) Option {
	return func(o *options) error {
		o.tenants = append(o.tenants, ids...)
		if len(o.tenants) > mostTenants {
			return fmt.Errorf("%w: WithTenants: %d tenants are more than %d, and each is a series of every metric", tenant.ErrInvalidOption, len(o.tenants), mostTenants)
		}
		if slices.Contains(o.tenants, "") {
			return fmt.Errorf("%w: WithTenants: an id is empty", tenant.ErrInvalidOption)
		}
		return nil
	}
}

// WithStabilityOptIn stands in the place of the environment variable OTEL_SEMCONV_STABILITY_OPT_IN, a list of words separated by commas. With
// "gen_ai_latest_experimental" in it, metrics and spans have the names of today's GenAI conventions, and those of version 1.36
// otherwise. Defaults to the environment variable.
func WithStabilityOptIn(words string) Option {
	return func(o *options) error {
		o.optIn = words
		return nil
	}
}

// New returns telemetry that is to be given to [tenant.WithObserver].
//
// Errors: [tenant.ErrInvalidOption], which names the option, also where there is neither a meter nor a tracer provider; those of
// the meter.
func New(opts ...Option) (*Telemetry, error) {
	o := options{optIn: os.Getenv(stabilityOptIn)}
	for _, option := range opts {
		if option == nil {
			return nil, fmt.Errorf("%w: New: a nil Option", tenant.ErrInvalidOption)
		}
		if err := option(&o); err != nil {
			return nil, err
		}
	}
	if o.meters == nil && o.tracers == nil {
		return nil, fmt.Errorf("%w: New: there is nothing to do without WithMeterProvider and WithTracerProvider", tenant.ErrInvalidOption)
	}
	t := &Telemetry{}
	for word := range strings.SplitSeq(o.optIn, ",") {
		t.latest = t.latest || strings.TrimSpace(word) == genAIExperimental
	}
	if len(o.tenants) > 0 {
		t.tenants = make(map[string]bool, len(o.tenants))
		for _, id := range o.tenants {
			t.tenants[id] = true
		}
	}
	if o.tracers != nil {
		t.tracer = o.tracers.Tracer(scope)
	}
	if o.meters != nil {
		t.meter = o.meters.Meter(scope)
		var err error
		if t.metrics, err = newMetrics(t); err != nil {
			return nil, err
		}
		gathering, err := t.metrics.gather(t.meter)
		if err != nil {
			return nil, err
		}
		t.watching = append(t.watching, gathering)
	}
	return t, nil
}

// Source is what [Telemetry.Watch] reads when metrics are collected: a [*tenant.Ledger].
type Source interface {
	Holds() tenant.HoldStatus
	Pending() tenant.PendingStatus
}

// Watch has the metrics say what a ledger holds, and what it has pending, whenever they are collected. Without a meter provider it
// does nothing. It is for one ledger: those of several would overwrite each other.
//
// Errors: [tenant.ErrInvalidOption] for a nil ledger, and those of the meter.
func (t *Telemetry) Watch(ledger Source) error {
	if ledger == nil {
		return fmt.Errorf("%w: Watch: the ledger is nil", tenant.ErrInvalidOption)
	}
	if t.metrics == nil {
		return nil
	}
	registration, err := t.metrics.watch(t.meter, ledger)
	if err != nil {
		return fmt.Errorf("tenantotel: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watching = append(t.watching, registration)
	return nil
}

// Close gives the meter what it has not been given yet, and ends what [Telemetry.Watch] has begun. What is told afterwards is given
// at once. The providers are their maker's to shut down, after this. Errors are those of the meter.
func (t *Telemetry) Close() error {
	if t.metrics != nil {
		t.metrics.direct.Store(true)
		t.metrics.flush()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, w := range t.watching {
		errs = append(errs, w.Unregister())
	}
	t.watching = nil
	return errors.Join(errs...)
}

// Observe implements [tenant.Observer].
func (t *Telemetry) Observe(ctx context.Context, e tenant.Event) {
	if t.tracer != nil {
		ctx = t.trace(ctx, e)
	}
	if t.metrics != nil {
		t.metrics.observe(ctx, e)
	}
}

// reason is the word for why a call was not admitted. There are no others than those in names.go.
func reason(err error) string {
	var exceeded *tenant.BudgetExceededError
	if errors.As(err, &exceeded) {
		if exceeded.Contended {
			return reasonBudgetContended
		}
		return reasonBudgetExceeded
	}
	for _, known := range [...]struct {
		err  error
		word string
	}{
		{tenant.ErrNoPrice, reasonNoPrice}, {tenant.ErrTenantSuspended, reasonTenantSuspended}, {tenant.ErrDuplicate, reasonDuplicate},
		{tenant.ErrUnavailable, reasonUnavailable}, {tenant.ErrNotMigrated, reasonNotMigrated}, {tenant.ErrClosed, reasonClosed},
		{context.Canceled, reasonCanceled}, {context.DeadlineExceeded, reasonDeadlineExceeded},
	} {
		if errors.Is(err, known.err) {
			return known.word
		}
	}
	return reasonOther
}

// nano is an amount in nano-dollars. The ledger's amounts are whole ones, and have that exponent.
func nano(usd decimal.Decimal) int64 {
	const places = 9
	if usd.Exponent() == -places {
		return usd.CoefficientInt64()
	}
	return usd.Shift(places).IntPart()
}

func seconds(d time.Duration) float64 { return d.Seconds() }
