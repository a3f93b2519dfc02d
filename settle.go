package tenant

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/callctx"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/lane"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/text"
)

// Actual is what a call used in truth.
type Actual struct {
	// Provider and Model are those that the provider billed. Empty: as asked.
	Provider, Model string

	Usage Usage

	// ServiceTier is the tier that the provider says it served the call in, as in [Price.ForService].
	ServiceTier string

	// Cost, where set, is what the provider bills, in US dollars. Otherwise the usage is priced: at the price of the billed
	// model, otherwise at that of the model asked for. One that is Estimated gives way to a ReportedCost that the price charges.
	// With a key of the tenant's own it costs nothing in any case.
	Cost Money

	// Charge, where set, is what the tenant is charged, in US dollars. Otherwise its terms make it of the cost, also of one that
	// is named in Cost; without terms, it is the cost.
	Charge Money

	// Duration is how long the call took. Zero: what the process that has made it has measured; of what is recorded, nobody
	// knows.
	Duration time.Duration

	// ReportedCost is what the provider said that the call costs. It is stored beside the charge, and is the charge where
	// the price says so; see [Price].
	ReportedCost Money

	// RequestID is the provider's name for the call.
	RequestID string

	// ErrorCode says why the call failed, in a word such as "http_500": at most 64 of a-z, 0-9, _, - and dot, so that no
	// message with a secret in it gets here. Empty: it succeeded. A failed call is charged what it used all the same.
	ErrorCode string

	// Estimated marks a usage that the provider did not report itself.
	Estimated bool

	// AsHeld books the cost, the charge and the tokens that the call holds, in the place of what Usage costs, and marks them as
	// estimated: for whoever learns that the call has ended, and not what it used. A ReportedCost that the price charges is
	// charged all the same.
	AsHeld bool
}

// Outcome says what became of a settle or a release.
type Outcome string

// The outcomes.
const (
	Settled         Outcome = "settled"          // the usage is on the books
	Released        Outcome = "released"         // the hold is dropped
	Corrected       Outcome = "corrected"        // the hold had expired and was charged; now the usage is charged instead
	Pending         Outcome = "pending"          // not yet on the books; its hold stands for it, if it has one, and the booking goes on
	AlreadySettled  Outcome = "already settled"  // by an earlier settle; nothing was done
	AlreadyReleased Outcome = "already released" // by an earlier release; nothing was done
)

// Settlement is how a call ended on the books.
type Settlement struct {
	Outcome     Outcome
	ExecutionID string

	// Cost is what the provider bills, and Charge what the tenant is charged, in US dollars; what is between them is the margin.
	Cost, Charge decimal.Decimal
	Tokens       int64 // of all classes

	// Overrun and ChargeOverrun are how far the cost and the charge went beyond the hold, in US dollars.
	Overrun, ChargeOverrun decimal.Decimal

	// Estimated: cost and charge are not by usage that the provider reported. Unpriced: no price was known, and they are zero
	// for want of one.
	Estimated, Unpriced bool
}

// Settle books what a held call used, and drops its hold. It records the truth, also past the hold and past the limit:
// that is an overrun. It books although ctx has ended. Where the books cannot be reached it returns after the time of
// [WithSettleWait] with the outcome Pending: the booking goes on, whatever the database says, until it succeeds or
// [Ledger.Close] ends it; see [Ledger.Pending]. An unbooked hold's call enters the books only now.
//
// A usage that cannot be true (negative, or beyond 2^40 tokens or a million dollars) is not believed: the hold is
// charged, and the execution is marked estimated. Settling twice does nothing the second time.
//
// Errors: [ErrReleased], [ErrInvalidOption], [ErrClosed].
func (l *Ledger) Settle(ctx context.Context, h *Hold, a Actual) (Settlement, error) {
	if h == nil || h.ledger != l {
		return Settlement{}, fmt.Errorf("%w: Settle: the hold is not of this ledger", ErrInvalidOption)
	}
	e := *h.exec
	if err := l.conclude(&e, a, h.fixed); err != nil {
		return Settlement{}, err
	}
	l.mu.Lock()
	h.usage, h.settling = a.Usage, true
	if h.took == 0 && !h.began.IsZero() {
		h.took = time.Since(h.began)
	}
	if e.Latency == 0 && h.took > 0 {
		e.Latency = max(h.took, time.Microsecond) // nothing that was measured is nothing
	}
	l.mu.Unlock()
	s, err := l.finish(callctx.Detach(ctx), h, decide.Op{Kind: decide.Settle, Exec: e})
	if s.Outcome == AlreadyReleased {
		return s, ErrReleased
	}
	return s, err
}

// Release drops the hold of a call that was not made. Releasing twice does nothing the second time, and so does
// releasing what was settled, or what has expired: its charge stays. Like [Ledger.Settle], it works although ctx has ended, and may return Pending.
//
// Errors: [ErrInvalidOption] for a hold of another ledger, [ErrClosed].
func (l *Ledger) Release(ctx context.Context, h *Hold) (Settlement, error) {
	if h == nil || h.ledger != l {
		return Settlement{}, fmt.Errorf("%w: Release: the hold is not of this ledger", ErrInvalidOption)
	}
	return l.finish(callctx.Detach(ctx), h, decide.Op{Kind: decide.Release, Exec: *h.exec})
}

// finish brings the end of a call to its lane. That ctx ends is no reason not to: the call was made, so it is booked.
func (l *Ledger) finish(ctx context.Context, h *Hold, op decide.Op) (Settlement, error) {
	if l.lanes.Ended() {
		return Settlement{}, ErrClosed
	}
	if h.Unbooked {
		return l.finishUnbooked(ctx, h, op)
	}
	since := time.Now()
	task := l.carry(h, l.lanes.Submit(op, h.exec.TenantKey))
	timer := l.timers.Start(l.options.settleWait)
	defer l.timers.Stop(timer)
	select {
	case <-task.Done():
		return l.finished(ctx, h, task, &op)
	case <-timer.C:
	}
	s, over := l.postpone(ctx, h, &op, since)
	late := op // the other one stays off the heap
	go func() {
		<-task.Done()
		_, err := l.finished(ctx, h, task, &late)
		over(err)
	}()
	return s, nil
}

func (l *Ledger) finished(ctx context.Context, h *Hold, task *lane.Task, op *decide.Op) (Settlement, error) {
	out, err := task.Outcome()
	for tries := 0; err == nil && out.Code == decide.Unknown && len(l.places) > 1; tries++ {
		moved := false
		err = l.insist(l.lanes.Context(), h, func() (err error) {
			moved, err = l.moved(l.lanes.Context(), op, known(h.exec.TenantKey), task)
			return err
		})
		if err != nil || !moved && tries >= maxFirstUses || tries >= maxMoves { // it may have come back meanwhile
			break
		}
		task = l.carry(h, l.lanes.Submit(*op, h.exec.TenantKey))
		<-task.Done()
		out, err = task.Outcome()
	}
	if err != nil {
		err = l.explain(err)
	}
	return l.ended(ctx, h, out, err)
}

// ended lets a call out of the ledger that has ended on the books.
func (l *Ledger) ended(ctx context.Context, h *Hold, out decide.Outcome, err error) (Settlement, error) {
	if err != nil {
		if h.inside && !errors.Is(err, ErrClosed) { // which Close names
			l.leave(h)
		}
		return Settlement{}, err
	}
	if out.Code != decide.Released { // which needs no database where nothing was held
		l.outages.over()
	}
	l.leave(h)
	if out.Code == decide.Duplicate {
		return Settlement{}, l.refusal(&decide.Op{Exec: *h.exec}, &out)
	}
	l.booked(ctx, &out)
	var s Settlement
	if out.Exec != nil {
		s = settlement(h.ExecutionID, out.Exec)
		s.Outcome = outcomes[out.Code]
	}
	l.tellSettled(ctx, &out, h, s)
	if out.Code == decide.Released {
		l.tellEnded(ctx, h, false)
	}
	if out.Code == decide.Settled || out.Code == decide.Corrected {
		l.compare(ctx, out.Exec)
	}
	if out.Exec == nil {
		l.options.log.Error("tenant: a call cannot be booked: the books of its tenant are gone", "execution", h.ExecutionID, "tenant", h.TenantID)
		return Settlement{}, fmt.Errorf("tenant: the books of execution %s are gone", h.ExecutionID)
	}
	return s, nil
}

var outcomes = map[decide.Code]Outcome{
	decide.Settled: Settled, decide.Released: Released, decide.Corrected: Corrected,
	decide.AlreadySettled: AlreadySettled, decide.AlreadyReleased: AlreadyReleased,
}

func settlement(id string, e *book.Execution) Settlement {
	s := Settlement{ExecutionID: id, Tokens: e.Charged.Tokens, Estimated: e.Estimated, Unpriced: e.Unpriced}
	s.Cost, s.Charge = money.Decimals(e.Charged.Cost, e.Charged.Charge)
	s.Overrun, s.ChargeOverrun = money.Decimals(e.Overrun.Cost, e.Overrun.Charge)
	return s
}

// Record books a call that was made elsewhere: it counts against the budgets like any other, but nothing can refuse it.
// With [WithIdempotencyKey], the same call is booked once, and a second time is a [*DuplicateError]. It books although
// ctx has ended. Where the books cannot be reached it returns after the time of [WithSettleWait] with the outcome Pending,
// as [Ledger.Settle] does: the booking goes on, once, with a key and without, until it succeeds or [Ledger.Close] ends it and
// names the call. The call then counts from when it is booked. If its tenant turns out by then not to be one that can be charged,
// it is booked without a tenant; if its key turns out to be another call's, it is not booked again. The log says so.
//
// Errors: [*DuplicateError], [ErrInvalidTenant], [*UnknownTenantError], [ErrIdentityConflict], [ErrInvalidOption] (also for a usage
// that cannot be true), [ErrNotMigrated] before this ledger has found its tables, [ErrClosed].
func (l *Ledger) Record(ctx context.Context, t Tenant, a Actual, options ...RecordOption) (Settlement, error) {
	var o callOptions
	if err := applyAll(&o, "Record", options); err != nil {
		return Settlement{}, err
	}
	who, err := l.identify(t)
	if err != nil {
		return Settlement{}, err
	}
	op := decide.Op{Kind: decide.Record}
	op.Exec.Provider, op.Exec.Model = a.Provider, a.Model
	if err := l.describe(ctx, &op, who, &o); err != nil {
		return Settlement{}, err
	}
	if err := l.conclude(&op.Exec, a, false); err != nil {
		return Settlement{}, err
	}
	if op.Exec.ErrorCode == implausible {
		return Settlement{}, fmt.Errorf("%w: Record: %+v cannot be the usage of one call", ErrInvalidOption, a.Usage)
	}
	e := op.Exec
	h := &Hold{
		ExecutionID: e.ID.String(), TenantID: who.Key, Unbooked: true, ledger: l, exec: &e, usage: a.Usage, settling: true, inside: true, who: who,
	}
	if err := l.enterWith(h); err != nil {
		return Settlement{}, err
	}
	return l.finishUnbooked(callctx.Detach(ctx), h, op)
}

// implausible is the error code of a call whose reported usage cannot be true.
const implausible = "implausible_usage"

// conclude enters into an execution how the call ended and what it is charged.
func (l *Ledger) conclude(e *book.Execution, a Actual, fixed bool) error {
	if err := a.valid(); err != nil {
		return err
	}
	if a.Provider != "" {
		e.Provider = text.Printable(a.Provider)
	}
	e.BilledModel = e.Model
	if a.Model != "" {
		e.BilledModel = text.Printable(a.Model)
	}
	e.RequestID, e.ErrorCode, e.Estimated = text.Printable(a.RequestID), a.ErrorCode, a.Estimated
	e.Status = book.Succeeded
	if a.ErrorCode != "" {
		e.Status = book.Failed
	}
	if a.ReportedCost.set {
		e.Reported = a.ReportedCost.nano
	}
	e.Usage, e.ServiceTier = book.Usage(a.Usage), text.Printable(a.ServiceTier)
	e.Latency = a.Duration
	e.Charged = book.Amount{Tokens: a.Usage.TotalTokens(), Calls: 1}
	if a.AsHeld {
		e.Charged.Tokens, e.Estimated = e.Held.Tokens, true
	}

	due, known := l.due(e, a, fixed)
	e.Charged.Cost, e.Charged.Charge, e.Unpriced = due.cost, due.charge, !known
	if !plausible(a.Usage) || max(due.cost, due.charge) > maxPlausibleCost {
		l.options.log.Error("tenant: a usage that cannot be true is not believed; the hold is charged",
			"execution", e.ID, "tenant", e.TenantKey, "model", e.BilledModel, "usage", a.Usage, "cost", money.Format(due.cost), "charge", money.Format(due.charge))
		e.Usage, e.Charged = book.Usage{}, e.Held
		e.Charged.Calls = 1
		e.Estimated, e.ErrorCode, e.Status = true, implausible, book.Failed
		e.Price = "" // it is not what was charged
	}
	return nil
}

// valid says what is wrong with it, but for a usage that cannot be true.
func (a *Actual) valid() error {
	for _, m := range []struct {
		name string
		Money
	}{{"Cost", a.Cost}, {"Charge", a.Charge}, {"ReportedCost", a.ReportedCost}} {
		if m.err != nil {
			return fmt.Errorf("%w: Actual.%s: %w", ErrInvalidOption, m.name, m.err)
		}
	}
	if a.Duration < 0 {
		return fmt.Errorf("%w: Actual.Duration: %v is negative", ErrInvalidOption, a.Duration)
	}
	return validErrorCode(a.ErrorCode)
}

// due is what a provider bills for an execution, and what its tenant is charged for it, in nano-dollars.
type due struct{ cost, charge int64 }

func (d due) plus(o due) due { return due{money.Add(d.cost, o.cost), money.Add(d.charge, o.charge)} }

func held(e *book.Execution) due { return due{e.Held.Cost, e.Held.Charge} }

// due returns what is due for an execution, and whether that is known.
func (l *Ledger) due(e *book.Execution, a Actual, fixed bool) (d due, known bool) {
	price, priced := l.priceOf(e, cmp.Or(e.SettledAt, l.options.clock())) // one that was imported is over already
	stated := e.Reported >= 0 && price.ChargeReported
	if a.Charge.set {
		defer func() {
			d.charge = a.Charge.nano
			if !a.Cost.set {
				e.Price = chargeNamed
			}
		}()
	}
	if a.Cost.set && !(a.Estimated && stated) {
		return price.named(a.Cost.nano, e, priced), true
	}
	if a.AsHeld && !stated {
		e.Price = chargedHold
		return held(e), !e.Unpriced
	}
	d, row, priced, whole := price.due(e, priced)
	switch {
	case priced && (d != due{} || whole):
		e.Price = row
		return d, whole
	case fixed || !e.Unpriced && held(e) != due{}:
		// It was held at a price that is not known any more, or at the caller's own figure.
		e.Estimated = true
		if a.Usage != (Usage{}) {
			e.Price = chargedHold
		}
		if !a.Usage.Units.IsZero() && a.Usage.TotalTokens() == 0 {
			e.Charged.Tokens = e.Held.Tokens // they measure what tokens are charged for, which nobody has counted
		}
		return held(e), true
	default:
		return due{}, a.Usage == Usage{}
	}
}

// These stand in the place of a row of the price book: the hold was charged for want of one, or the caller has named the charge.
const chargedHold, chargeNamed = "hold", "named"

// dueAt returns what is due by the price book of a time for an execution that has ended; see [Price.due].
func (l *Ledger) dueAt(e *book.Execution, at time.Time) (d due, row string, priced, whole bool) {
	price, priced := l.priceOf(e, at)
	return price.due(e, priced)
}

// due returns what is due for an execution that has ended, where this is its price, and by which row of the price book; whether
// there is a price for it, and for all of it. The row is never empty: so what was reckoned by the book can be told from what
// the caller named. Priced says whether the book has a price of the model.
func (p Price) due(e *book.Execution, priced bool) (d due, row string, _, whole bool) {
	p.Row = cmp.Or(p.Row, cmp.Or(p.Provider, e.Provider)+"/"+cmp.Or(p.Model, e.BilledModel))
	p = p.ForService(e.ServiceTier)
	u := Usage(e.Usage)
	switch {
	case e.Reported >= 0 && p.ChargeReported:
		d, whole = due{e.Reported, p.shareOf(e.Reported)}, true
		if p.OwnKey {
			d.cost = 0
		}
	case priced:
		d, whole = due{p.cost(u), p.charge(u)}, p.prices(u.TotalTokens(), u.Units)
	default:
		return due{}, "", false, false
	}
	if n := p.Negotiated; n != nil {
		d.charge, whole = n.charge(u), n.prices(u.TotalTokens(), u.Units)
	}
	return d, text.Printable(p.Row), true, whole
}

// named returns what is due for an execution whose cost the caller has named.
func (p Price) named(cost int64, e *book.Execution, priced bool) due {
	d := due{cost, p.shareOf(cost)}
	if p.Negotiated != nil {
		if by, _, _, whole := p.due(e, priced); whole {
			d.charge = by.charge
		}
	}
	if p.OwnKey {
		d.cost = 0
	}
	return d
}

// priceOf returns the price that the book of a time has for an execution: that of the billed model, else of the one asked for.
func (l *Ledger) priceOf(e *book.Execution, at time.Time) (price Price, known bool) {
	if price, known = l.price(e.TenantKey, e.Provider, e.BilledModel, at); known {
		return price, true
	}
	return l.price(e.TenantKey, e.Provider, e.Model, at)
}

func plausible(u Usage) bool {
	classes := book.Usage(u)
	for _, n := range classes.Classes() {
		if *n < 0 || *n > maxPlausibleTokens {
			return false
		}
	}
	for _, n := range u.Units.All() {
		if n < 0 || n > maxPlausibleTokens {
			return false
		}
	}
	return true
}

func validErrorCode(code string) error {
	const allowed = "abcdefghijklmnopqrstuvwxyz0123456789_-."
	if len(code) > 64 || strings.Trim(code, allowed) != "" {
		return fmt.Errorf("%w: Actual.ErrorCode: %.64q is not a word of at most 64 of a-z, 0-9, _, - and dot", ErrInvalidOption, code)
	}
	return nil
}
