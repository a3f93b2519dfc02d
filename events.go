package tenant

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/callctx"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/report"
)

// SettledEvent says how a call ended on the books, so that metrics, spans and headers need no query. It comes once for each
// call, by whatever settled it: [Ledger.Settle], an [Agent], [Ledger.Record], or the end of its deadline or of its process,
// after the books are written. Like all events it is lost if the process ends just then. A call that was released was
// not made, and has none.
//
// Only a Corrected one is of a call that an earlier event has told of: its hold was charged then, because it had expired
// (Status "abandoned"). To keep a sum, add Cost less HeldCost, Charge less HeldCharge, and Tokens less HeldTokens.
type SettledEvent struct {
	TenantID       string // empty for a call without a tenant
	ExecutionID    string
	RequestID      string // the provider's name for the call
	IdempotencyKey string // see WithIdempotencyKey

	Agent       string // see WithAgent
	Provider    string
	Model       string // as it was asked for
	BilledModel string // as the provider reported it, else as it was asked for
	ServiceTier string // that the provider says it was served in
	Operation   string // see Estimate.Operation; "chat" where another process has admitted the call, and for what was recorded

	// Tags are those of WithTag, where the process that has made the call settles it.
	Tags map[string]string

	Usage              Usage
	Cost, HeldCost     decimal.Decimal // what the provider bills, and what was held for it at admission, in US dollars
	Charge, HeldCharge decimal.Decimal // what the tenant is charged, and what was held for it at admission, in US dollars
	Tokens, HeldTokens int64           // counted, and held at admission

	// Duration is the time from the admission to the end of the call, without that of booking it; zero for what was
	// recorded.
	Duration time.Duration

	// Status is "succeeded", "failed" or "abandoned", as in [Execution], and ErrorCode why it failed, in a word.
	Status, ErrorCode string

	// Estimated: the charge is not by usage that the provider reported. Unpriced: no price was known, and the cost is zero
	// for want of one. Corrected: see above.
	Estimated, Unpriced, Corrected bool

	// Pending: the call is not on the books yet, and the booking goes on. An observer is told when it is, so that only
	// package tenanthttp's LastCall has one that is pending.
	Pending bool
}

func (*SettledEvent) event() {}

// AdmittedEvent says that a call was admitted: its hold is on the books, unless it is Unbooked. One of [SettledEvent], [ReleasedEvent]
// and [DeferredEvent] says how that ends.
type AdmittedEvent struct {
	TenantID, ExecutionID  string // the former empty for a call without a tenant
	Agent, Provider, Model string
	Operation              string // see Estimate.Operation

	HeldCost     decimal.Decimal // US dollars
	HeldTokens   int64
	OutputTokens int64 // that the call may produce

	// Waited is how long the admission took, with the time that the call waited for room.
	Waited time.Duration

	// Unbooked: see [WithAdmitWhenUnavailable].
	Unbooked bool
}

// ReleasedEvent says that an admitted call was not made, so that its hold was dropped.
type ReleasedEvent struct {
	TenantID, ExecutionID  string
	Agent, Provider, Model string
	Operation              string // see Estimate.Operation
}

// DeferredEvent says that an admitted call goes on in the background: [Ledger.Defer] has left it to whichever process learns how
// it ended, and a [SettledEvent] there says so.
type DeferredEvent struct {
	TenantID, ExecutionID  string
	Agent, Provider, Model string
	Operation              string // see Estimate.Operation
}

// BatchEvent says that a lane has run a transaction, whatever became of it: so many admissions, settles, releases and sweeps went to the
// database together. Its context is not a call's.
type BatchEvent struct {
	Operations int
	Duration   time.Duration
	Place      string // whose lane it is; empty for the home, and without [WithPlaces]

	// Err is the database's where the transaction failed. It is run again then, in parts if it has to be.
	Err error
}

// SweepEvent says that this process has looked for calls of processes that are gone, and for those that took too long, as it
// does twice in the time of [WithLease]. Its context is not a call's.
type SweepEvent struct {
	// Abandoned is how many were found and ended, their holds charged. A [SettledEvent] tells of each.
	Abandoned int

	Place string // in which it has looked; empty for the home, and without [WithPlaces]

	// Err is why the sweep could not be made, or one of its calls not ended.
	Err error
}

func (*AdmittedEvent) event() {}
func (*ReleasedEvent) event() {}
func (*DeferredEvent) event() {}
func (*BatchEvent) event()    {}
func (*SweepEvent) event()    {}

// chatOperation is what a call is for where nobody says it.
const chatOperation = "chat"

func (l *Ledger) admittedEvent(h *Hold) *AdmittedEvent {
	e := h.exec
	return &AdmittedEvent{
		TenantID: h.TenantID, ExecutionID: h.ExecutionID, Agent: e.Agent, Provider: e.Provider, Model: e.Model, Operation: h.operation,
		HeldCost: h.Cost, HeldTokens: h.Tokens, OutputTokens: h.OutputTokens, Waited: h.waited, Unbooked: h.Unbooked,
	}
}

// tellEnded tells of a call that was released or deferred.
func (l *Ledger) tellEnded(ctx context.Context, h *Hold, deferred bool) {
	if !l.options.told {
		return
	}
	e := h.exec
	what := ReleasedEvent{
		TenantID: h.TenantID, ExecutionID: h.ExecutionID, Agent: e.Agent, Provider: e.Provider, Model: e.Model, Operation: cmp.Or(h.operation, chatOperation),
	}
	if deferred {
		l.observe(ctx, (*DeferredEvent)(&what))
		return
	}
	l.observe(ctx, &what)
}

// ranBatch and swept tell of what the lanes do. They are nil where nobody listens.
func (p *place) ranBatch() func(int, time.Duration, error) {
	if !p.options.told {
		return nil
	}
	return func(n int, took time.Duration, err error) {
		p.observe(context.Background(), &BatchEvent{Operations: n, Duration: took, Place: p.name(), Err: err})
	}
}

func (p *place) swept() func(int, error) {
	if !p.options.told {
		return nil
	}
	return func(abandoned int, err error) {
		p.observe(context.Background(), &SweepEvent{Abandoned: abandoned, Place: p.name(), Err: err})
	}
}

// HoldStatus is what the calls of a process hold; see [Ledger.Holds].
type HoldStatus struct {
	Calls  int             // that were admitted, and whose end is not on the books
	Cost   decimal.Decimal // US dollars
	Tokens int64
}

// Holds returns what the calls hold that this ledger has admitted and that have not ended on the books, for telemetry. Calls
// of other processes, and those that are deferred or unbooked, are not among them. It asks nothing of the database.
func (l *Ledger) Holds() HoldStatus {
	var (
		s    HoldStatus
		cost int64
	)
	l.mu.Lock()
	for _, h := range l.open {
		if !h.Unbooked && h.operation != "" {
			s.Calls++
			s.Tokens += h.exec.Held.Tokens
			cost = money.Add(cost, h.exec.Held.Cost)
		}
	}
	l.mu.Unlock()
	s.Cost = money.Decimal(cost)
	return s
}

// tellSettled tells of a call that is on the books, where somebody listens. The hold is nil where none is at hand.
func (l *Ledger) tellSettled(ctx context.Context, out *decide.Outcome, h *Hold, s Settlement) {
	switch {
	case out.Exec == nil, out.Exec.Status == book.Adjusted: // a correction is no call
		return
	case out.Code != decide.Settled && out.Code != decide.Corrected && out.Code != decide.Expired:
		return
	}
	scope := callctx.ScopeOf(ctx)
	if !l.options.told && scope == nil {
		return
	}
	e := l.settledEvent(h, out.Exec, s)
	e.Corrected = out.Code == decide.Corrected
	if scope != nil {
		scope.Settled(e)
	}
	if l.options.told {
		l.observe(ctx, e)
	}
}

// tellPending tells whoever made a call that it is not on the books yet. The observer is told when it is.
func (l *Ledger) tellPending(ctx context.Context, h *Hold, op *decide.Op, s Settlement) {
	scope := callctx.ScopeOf(ctx)
	if scope == nil || op.Kind == decide.Release {
		return
	}
	e := l.settledEvent(h, &op.Exec, s)
	e.Pending = true
	scope.Settled(e)
}

// duration is how long a call took: by the clock of the process that has made it, where that settles it.
func (l *Ledger) duration(h *Hold, e *book.Execution) time.Duration {
	if e.Latency > 0 {
		return e.Latency
	}
	if h != nil && !h.began.IsZero() {
		l.mu.Lock()
		defer l.mu.Unlock()
		return h.took
	}
	if e.AdmittedAt.IsZero() || e.FinishedAt.IsZero() {
		return 0
	}
	return e.FinishedAt.Sub(e.AdmittedAt)
}

// settledEvent makes the event of an execution and its settlement. It shares their memory, and the hold's: a busy ledger makes many.
func (l *Ledger) settledEvent(h *Hold, e *book.Execution, s Settlement) *SettledEvent {
	event := &SettledEvent{
		TenantID: e.TenantKey, ExecutionID: s.ExecutionID, RequestID: e.RequestID, IdempotencyKey: e.IdempotencyKey,
		Agent: e.Agent, Provider: e.Provider, Model: e.Model, BilledModel: e.BilledModel, ServiceTier: e.ServiceTier,
		Usage: Usage(e.Usage), Cost: s.Cost, Charge: s.Charge,
		Tokens: e.Charged.Tokens, HeldTokens: e.Held.Tokens, Duration: max(l.duration(h, e), 0),
		Status: string(e.Status), ErrorCode: e.ErrorCode, Estimated: e.Estimated, Unpriced: e.Unpriced, Operation: chatOperation,
	}
	tags := e.Tags // which are not read back
	if h != nil {
		tags, event.Operation = h.exec.Tags, cmp.Or(h.operation, chatOperation)
		event.HeldCost, event.HeldCharge = money.Share(h.Cost, e.Held.Cost), money.Share(h.Charge, e.Held.Charge)
	} else {
		event.HeldCost, event.HeldCharge = money.Decimals(e.Held.Cost, e.Held.Charge)
	}
	if len(tags) > len("{}") {
		_ = json.Unmarshal([]byte(tags), &event.Tags) // as tagJSON has written them
	}
	return event
}

// HostErrorEvent says that a call was refused for what is wrong with the program that makes it, and not with a budget: it
// has forgotten the tenant where one is required, or has given one that was not saved, not declared or has no id, or an
// option that is invalid. No customer can do anything about it. It is written to the ledger's logger as well,
// whatever the observer: at the level of errors, and the same again for debugging.
type HostErrorEvent struct {
	TenantID               string // empty where there is none, or none that can be
	Agent, Provider, Model string

	// Err is what the caller got: one that wraps [ErrTenantRequired], [ErrInvalidTenant], [ErrUnknownTenant],
	// [ErrIdentityConflict], [ErrHierarchy] or [ErrInvalidOption], or tenanthttp's ErrUnmetered.
	Err error
}

func (*HostErrorEvent) event() {}

// hostErrors are those that a program makes, and its customers do not.
var hostErrors = []error{ErrTenantRequired, ErrInvalidTenant, ErrUnknownTenant, ErrIdentityConflict, ErrHierarchy, ErrInvalidOption}

// reportedHostError tells of a call that package tenanthttp has refused. What [Ledger.Reserve] and [Agent.Call] refuse they
// tell themselves.
func (l *Ledger) reportedHostError(ctx context.Context, r report.HostError) {
	var o callOptions
	options, _ := r.Options.([]ReserveOption)
	_ = applyAll(&o, "Reserve", options) // what is wrong with them may be what the error says
	l.hostError(ctx, r.Tenant, HostErrorEvent{Agent: o.agent, Provider: r.Provider, Model: r.Model, Err: r.Err})
}

func (l *Ledger) hostError(ctx context.Context, t Tenant, e HostErrorEvent) {
	if who, err := l.identify(t); err == nil {
		e.TenantID = who.Key
	}
	level := slog.LevelError
	if _, named := l.hostErrors.LoadOrStore(fmt.Sprint(hostErrorOf(e.Err)), true); named {
		level = slog.LevelDebug
	}
	l.options.log.Log(ctx, level, "tenant: a call was refused for an error of the program that makes it", "tenant", e.TenantID,
		"agent", e.Agent, "provider", e.Provider, "model", e.Model, "error", e.Err)
	l.observe(ctx, &e)
}

// hostErrorOf returns which of the errors that a program makes an error is; nil for none.
func hostErrorOf(err error) error {
	for _, known := range hostErrors {
		if errors.Is(err, known) {
			return known
		}
	}
	return nil
}

// notAdmitted tells of a call that was not admitted, where that is the program's error, and returns the error.
func (l *Ledger) notAdmitted(ctx context.Context, t Tenant, e HostErrorEvent) error {
	if hostErrorOf(e.Err) != nil {
		l.hostError(ctx, t, e)
	}
	return e.Err
}
