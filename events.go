package tenant

import (
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
// (Status "abandoned"). To keep a sum, add Cost less HeldCost, and Tokens less HeldTokens.
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

	// Tags are those of WithTag, where the process that has made the call settles it.
	Tags map[string]string

	Usage              Usage
	Cost, HeldCost     decimal.Decimal // charged, and held at admission, in US dollars
	Tokens, HeldTokens int64           // charged, and held at admission

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

// tellSettled tells of a call that is on the books, where somebody listens. The hold is nil where none is at hand.
func (l *Ledger) tellSettled(ctx context.Context, out *decide.Outcome, h *Hold) {
	switch {
	case out.Exec == nil, out.Exec.Status == book.Adjusted: // a correction is no call
		return
	case out.Code != decide.Settled && out.Code != decide.Corrected && out.Code != decide.Expired:
		return
	}
	_, silent := l.options.observer.(*logObserver)
	scope := callctx.ScopeOf(ctx)
	if silent && scope == nil {
		return
	}
	e := l.settledEvent(h, out.Exec)
	e.Corrected = out.Code == decide.Corrected
	if scope != nil {
		scope.Settled(e)
	}
	if !silent {
		l.observe(ctx, e)
	}
}

// tellPending tells whoever made a call that it is not on the books yet. The observer is told when it is.
func (l *Ledger) tellPending(ctx context.Context, h *Hold, op *decide.Op) {
	scope := callctx.ScopeOf(ctx)
	if scope == nil || op.Kind == decide.Release {
		return
	}
	e := l.settledEvent(h, &op.Exec)
	e.Pending = true
	scope.Settled(e)
}

// duration is how long a call took: by the clock of the process that has made it, where that settles it.
func (l *Ledger) duration(h *Hold, e *book.Execution) time.Duration {
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

func (l *Ledger) settledEvent(h *Hold, e *book.Execution) *SettledEvent {
	event := &SettledEvent{
		TenantID: e.TenantKey, ExecutionID: e.ID.String(), RequestID: e.RequestID, IdempotencyKey: e.IdempotencyKey,
		Agent: e.Agent, Provider: e.Provider, Model: e.Model, BilledModel: e.BilledModel, ServiceTier: e.ServiceTier,
		Usage: Usage(e.Usage), Cost: money.Decimal(e.Charged.Cost), HeldCost: money.Decimal(e.Held.Cost),
		Tokens: e.Charged.Tokens, HeldTokens: e.Held.Tokens, Duration: max(l.duration(h, e), 0),
		Status: string(e.Status), ErrorCode: e.ErrorCode, Estimated: e.Estimated, Unpriced: e.Unpriced,
	}
	tags := e.Tags // which are not read back
	if h != nil {
		tags = h.exec.Tags
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
