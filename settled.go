package tenant

import (
	"context"
	"encoding/json"
	"time"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/callctx"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/money"
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
