package tenant

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/report"
)

// Observer hears of what a host may want to count or to tell somebody: that a call was settled, that a budget is used up to
// a threshold, that a call was refused, or cost more than was held. It is called in the goroutine of the call, after the books are written, and is to
// be quick; what it does cannot change what has happened. It is called by several goroutines at once.
type Observer interface {
	// Observe is given one of *AdmittedEvent, *SettledEvent, *ReleasedEvent, *DeferredEvent, *ThresholdEvent, *RefusalEvent,
	// *HostErrorEvent, *OverrunEvent, *UnpricedEvent, *CostDiffersEvent, *PendingEvent, *TimeZoneDiffersEvent, *UnmeteredEvent,
	// *BatchEvent and *SweepEvent. There may be more kinds in later versions, so that others are to be ignored.
	Observe(ctx context.Context, e Event)
}

// CallObserver is an [Observer] that puts something into the context with which a call is made, such as a span, so that what
// is done for the call is done under it.
type CallObserver interface {
	Observer

	// ContextOfCall is given a call that was admitted, after Observe was, and returns a context derived from ctx: an [Agent]
	// and package tenanthttp's Transport make the call with it, and settle, release or defer it with it. A call of [Ledger.Reserve]'s own has
	// the context that its program gives it.
	ContextOfCall(ctx context.Context, e *AdmittedEvent) context.Context
}

// Event is something that an [Observer] hears of.
type Event interface{ event() }

// ThresholdEvent says that a part of a limit is used up. It comes once for each limit, window and threshold, whatever
// process has used it up; a limit that is changed is another one. It comes after the call that has met the threshold is on
// the books, and is lost if the process ends just then.
type ThresholdEvent struct {
	TenantID string      // whose limit it is
	Percent  int         // that are used up
	Limit    LimitStatus // at that moment
}

// RefusalEvent says that a call was not admitted, for no error of the program that makes it (see [HostErrorEvent]).
type RefusalEvent struct {
	TenantID               string // empty for a call without a tenant
	Agent, Provider, Model string
	Operation              string // see Estimate.Operation

	// Err is what the caller got: a [*BudgetExceededError], a [*NoPriceError], a [*DuplicateError], [ErrTenantSuspended],
	// [ErrUnavailable], [ErrNotMigrated], [ErrClosed], or that of its context.
	Err error

	// Waited is how long it took to decide, with the time that the call waited for room.
	Waited time.Duration
}

// OverrunEvent says that a call used more than was held for it, so that limits may be passed.
type OverrunEvent struct {
	TenantID, ExecutionID  string
	Agent, Provider, Model string
	HeldCost, Cost         decimal.Decimal // US dollars that the provider bills
	HeldCharge, Charge     decimal.Decimal // US dollars that the tenant is charged
	HeldTokens, Tokens     int64
}

// UnpricedEvent says that a call was booked without a cost, or without that of some of its units, because no price of them
// was known.
type UnpricedEvent struct {
	TenantID, ExecutionID  string
	Agent, Provider, Model string
}

// CostDiffersEvent says that what the provider stated as the cost of a call is more than one per cent away from what its
// usage costs by the price book, so that one of the two is wrong. Which one is charged is a rule of the price book.
type CostDiffersEvent struct {
	TenantID, ExecutionID  string
	Agent, Provider, Model string

	// Computed is by the usage and the price book, Reported is what the provider stated, in US dollars; Charged is what
	// the tenant is charged.
	Computed, Reported, Charged decimal.Decimal
}

// PendingEvent says that a call has ended and is not on the books yet: [Ledger.Settle], [Ledger.SettleDeferred], [Ledger.Release] or
// [Ledger.Record] was answered [Pending]. It comes once for each, and once more, Booked, when it is on the books. In between it
// is tried again and again, whatever the database says; [Ledger.Pending] says how many are. The ledger's logger has the same.
type PendingEvent struct {
	TenantID, ExecutionID  string // the latter empty for a deferred call that could not be read yet
	IdempotencyKey         string // see WithIdempotencyKey; of a deferred call, its key
	Agent, Provider, Model string

	// Err is what stands in the way, in the words of the database; nil where that has given no answer, and once it is Booked.
	// A second event that is not Booked has [ErrNotDeferred]: no call of the tenant has that key.
	Err error

	// Booked: the call is on the books now, After that time.
	Booked bool
	After  time.Duration

	// Unbooked: no hold stands for the call; see [WithAdmitWhenUnavailable], and [Ledger.Record].
	Unbooked bool
}

// UnmeteredEvent says that a request was let pass without being metered.
type UnmeteredEvent struct {
	TenantID     string
	Method, Host string
	Path         string

	// Service says what the request is for, and what it is charged by, where that is known: "Deepgram, by seconds of audio and
	// characters". Otherwise it is empty.
	Service string
}

func (*ThresholdEvent) event()   {}
func (*RefusalEvent) event()     {}
func (*OverrunEvent) event()     {}
func (*UnpricedEvent) event()    {}
func (*UnmeteredEvent) event()   {}
func (*PendingEvent) event()     {}
func (*CostDiffersEvent) event() {}

// WithObserver sets who hears of calls that are admitted, settled and refused, of thresholds, overruns, and of pending, unpriced and
// unmetered calls. Given more than once, each hears, in that order. Defaults to [LogObserver] with the ledger's logger, which is
// given beside another one where it is wanted too.
func WithObserver(o Observer) OpenOption {
	return func(options *openOptions) error {
		if o == nil {
			return fmt.Errorf("%w: WithObserver: the observer is nil", ErrInvalidOption)
		}
		options.observers = append(options.observers, o)
		return nil
	}
}

// LogObserver returns an observer that writes to a logger what somebody may have to look at: thresholds, overruns, and calls that
// are unpriced or unmetered, refusals at the level of debugging, and a model without a price once. A nil logger is [slog.Default].
func LogObserver(log *slog.Logger) Observer {
	if log == nil {
		log = slog.Default()
	}
	return &logObserver{log: log}
}

// WithThresholds sets the parts of a limit, in per cent, that are reported to the observer when they are used up; none
// reports none. Defaults to 50, 80 and 100.
func WithThresholds(percent ...int) OpenOption {
	return func(o *openOptions) error {
		o.thresholds = nil
		for _, p := range percent {
			if p < 1 || p > 1000 {
				return fmt.Errorf("%w: WithThresholds: %d is not between 1 and 1000 per cent", ErrInvalidOption, p)
			}
			o.thresholds = append(o.thresholds, int64(p))
		}
		slices.Sort(o.thresholds)
		o.thresholds = slices.Compact(o.thresholds)
		return nil
	}
}

// logObserver is the observer of a ledger that was given none. It is not told of what happens with every call. Callers that go on trying are no reason for a flood: what
// they know already, a refusal, is for debugging; a model without a price, or with a doubtful one, is named once.
type logObserver struct {
	log      *slog.Logger
	unpriced sync.Map // provider and model
	differs  sync.Map // provider and model
}

// Observe implements Observer.
func (o *logObserver) Observe(ctx context.Context, e Event) {
	switch e := e.(type) {
	case *ThresholdEvent:
		o.log.WarnContext(ctx, "tenant: a budget is used up to a threshold", "tenant", e.TenantID, "percent", e.Percent,
			"limit", e.Limit.describe(), "spent", e.Limit.Metric.format(e.Limit.Spent))
	case *RefusalEvent:
		o.log.DebugContext(ctx, "tenant: a call was refused", "tenant", e.TenantID, "agent", e.Agent, "model", e.Model, "error", e.Err)
	case *OverrunEvent:
		o.log.WarnContext(ctx, "tenant: a call used more than was held for it", "tenant", e.TenantID, "execution", e.ExecutionID,
			"model", e.Model, "held", CostMetric.format(e.HeldCost), "cost", CostMetric.format(e.Cost), "charge", CostMetric.format(e.Charge),
			"held_tokens", e.HeldTokens, "tokens", e.Tokens)
	case *UnpricedEvent:
		level := slog.LevelWarn
		if _, named := o.unpriced.LoadOrStore([2]string{e.Provider, e.Model}, true); named {
			level = slog.LevelDebug
		}
		o.log.Log(ctx, level, "tenant: a call was booked without a cost, as no price is known", "tenant", e.TenantID,
			"execution", e.ExecutionID, "provider", e.Provider, "model", e.Model)
	case *CostDiffersEvent:
		level := slog.LevelWarn
		if _, named := o.differs.LoadOrStore([2]string{e.Provider, e.Model}, true); named {
			level = slog.LevelDebug
		}
		o.log.Log(ctx, level, "tenant: the provider's cost of a call differs from the price book's", "tenant", e.TenantID,
			"execution", e.ExecutionID, "provider", e.Provider, "model", e.Model, "computed", CostMetric.format(e.Computed),
			"reported", CostMetric.format(e.Reported), "charged", CostMetric.format(e.Charged))
	case *UnmeteredEvent:
		o.log.WarnContext(ctx, "tenant: a request was not metered", "tenant", e.TenantID, "method", e.Method, "host", e.Host, "path", e.Path, "service", e.Service)
	}
}

// reportedUnmetered tells the observer of a request that package tenanthttp has passed on without metering it.
func (l *Ledger) reportedUnmetered(ctx context.Context, r report.Unmetered) {
	l.unmetered.Add(1)
	e := &UnmeteredEvent{Method: r.Method, Host: r.Host, Path: r.Path, Service: r.Service}
	if who, err := l.identify(r.Tenant); err == nil {
		e.TenantID = who.Key
	}
	l.observe(ctx, e)
}

// observe tells the observers.
func (l *Ledger) observe(ctx context.Context, e Event) {
	for _, o := range l.options.observers {
		l.tell(e, func() { o.Observe(ctx, e) })
	}
}

// tell tells an observer of an event. Its panic is not the caller's.
func (l *Ledger) tell(e Event, do func()) {
	defer func() {
		if r := recover(); r != nil {
			l.options.log.Error("tenant: the observer panicked", "event", fmt.Sprintf("%T", e), "panic", r)
		}
	}()
	do()
}

// listens reports whether somebody hears of what happens with every call. Nothing is made for events that nobody hears of.
func (o *openOptions) listens() bool {
	return slices.ContainsFunc(o.observers, func(o Observer) bool {
		_, log := o.(*logObserver)
		return !log
	})
}

// contextOfCall is the context with which an admitted call is made, and ended.
func (l *Ledger) contextOfCall(ctx context.Context, h *Hold) context.Context {
	if !l.options.told || h == nil || h.ledger != l {
		return ctx
	}
	for _, o := range l.options.observers {
		if o, ok := o.(CallObserver); ok {
			e := l.admittedEvent(h)
			l.tell(e, func() {
				if c := o.ContextOfCall(ctx, e); c != nil {
					ctx = c
				}
			})
		}
	}
	return ctx
}

// crossed tells the observer of the thresholds that an outcome was the first to cross.
func (l *Ledger) crossed(ctx context.Context, out *decide.Outcome) {
	for _, t := range out.Thresholds {
		if t.First {
			l.observe(ctx, &ThresholdEvent{
				TenantID: t.Whose.Key, Percent: int(t.Percent), Limit: limitStatus(t.Whose, &t.Limit, &t.Balance),
			})
		}
	}
}

// booked tells the observer of an outcome that has charged something.
func (l *Ledger) booked(ctx context.Context, out *decide.Outcome) {
	l.crossed(ctx, out)
	e := out.Exec
	if e == nil || out.Code != decide.Settled && out.Code != decide.Corrected {
		return
	}
	if e.Overrun != (book.Amount{}) {
		l.observe(ctx, &OverrunEvent{
			TenantID: e.TenantKey, ExecutionID: e.ID.String(), Agent: e.Agent, Provider: e.Provider, Model: model(e),
			HeldCost: money.Decimal(e.Held.Cost), Cost: money.Decimal(e.Charged.Cost),
			HeldCharge: money.Decimal(e.Held.Charge), Charge: money.Decimal(e.Charged.Charge), HeldTokens: e.Held.Tokens, Tokens: e.Charged.Tokens,
		})
	}
	if e.Unpriced {
		l.observe(ctx, &UnpricedEvent{TenantID: e.TenantKey, ExecutionID: e.ID.String(), Agent: e.Agent, Provider: e.Provider, Model: model(e)})
	}
}

// compare tells the observer where a provider's own figure is another one than the price book's.
func (l *Ledger) compare(ctx context.Context, e *book.Execution) {
	if e == nil || e.Reported < 0 || e.Price == "" || e.Price == chargedHold {
		return
	}
	price, ok := l.price("", e.Provider, e.BilledModel, l.options.clock()) // the public one: terms of a tenant's own are no mistake
	if !ok {
		price, ok = l.price("", e.Provider, e.Model, l.options.clock())
	}
	if !ok {
		return
	}
	computed := price.ForService(e.ServiceTier).cost(Usage(e.Usage))
	if differs(computed, e.Reported) {
		l.observe(ctx, &CostDiffersEvent{
			TenantID: e.TenantKey, ExecutionID: e.ID.String(), Agent: e.Agent, Provider: e.Provider, Model: model(e),
			Computed: money.Decimal(computed), Reported: money.Decimal(e.Reported), Charged: money.Decimal(e.Charged.Charge),
		})
	}
}

func model(e *book.Execution) string {
	if e.BilledModel != "" {
		return e.BilledModel
	}
	return e.Model
}

// observeRefusal tells the observer of a call that was not admitted.
func (l *Ledger) observeRefusal(ctx context.Context, a *asking, err error) {
	op := &a.op
	l.observe(ctx, &RefusalEvent{
		TenantID: op.Key, Agent: op.Exec.Agent, Provider: op.Exec.Provider, Model: op.Exec.Model, Operation: a.operation, Err: err,
		Waited: time.Since(a.began),
	})
}

// notDecided are the errors of calls that were refused without a decision on them, which is no error of their program's either.
var notDecided = []error{ErrUnavailable, ErrNotMigrated, ErrClosed, ErrDuplicate, context.Canceled, context.DeadlineExceeded}

// observeFailure tells the observer of a call that was refused for one of these.
func (l *Ledger) observeFailure(ctx context.Context, a *asking, err error) {
	if l.options.told && !errors.Is(err, ErrBudgetExceeded) && slices.ContainsFunc(notDecided, func(known error) bool { return errors.Is(err, known) }) {
		l.observeRefusal(ctx, a, err)
	}
}

// expired tells the observer of a call that was ended for a process that is gone.
func (l *Ledger) expired(out decide.Outcome) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l.booked(ctx, &out)
	if e := out.Exec; e != nil {
		l.tellSettled(ctx, &out, nil, settlement(e.ID.String(), e))
	}
}
