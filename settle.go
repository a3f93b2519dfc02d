package tenant

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/lane"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/text"
)

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
	l.mu.Unlock()
	s, err := l.finish(context.WithoutCancel(ctx), h, decide.Op{Kind: decide.Settle, Exec: e})
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
	return l.finish(context.WithoutCancel(ctx), h, decide.Op{Kind: decide.Release, Exec: *h.exec})
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
	timer := l.timers.start(l.options.settleWait)
	defer l.timers.stop(timer)
	select {
	case <-task.Done():
		return l.finished(ctx, h, task)
	case <-timer.C:
	}
	s, over := l.postpone(ctx, h, &op, since)
	go func() {
		<-task.Done()
		_, err := l.finished(ctx, h, task)
		over(err)
	}()
	return s, nil
}

func (l *Ledger) finished(ctx context.Context, h *Hold, task *lane.Task) (Settlement, error) {
	out, err := task.Outcome()
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
	l.outages.over()
	l.leave(h)
	if out.Code == decide.Duplicate {
		return Settlement{}, l.refusal(&decide.Op{Exec: *h.exec}, &out)
	}
	l.booked(ctx, &out)
	l.tellSettled(ctx, &out, h)
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
	s := settlement(out.Exec)
	s.Outcome = outcomes[out.Code]
	return s, nil
}

var outcomes = map[decide.Code]Outcome{
	decide.Settled: Settled, decide.Released: Released, decide.Corrected: Corrected,
	decide.AlreadySettled: AlreadySettled, decide.AlreadyReleased: AlreadyReleased,
}

func settlement(e *book.Execution) Settlement {
	return Settlement{
		ExecutionID: e.ID.String(), Cost: money.Decimal(e.Charged.Cost), Tokens: e.Charged.Tokens,
		Overrun: money.Decimal(e.Overrun.Cost), Estimated: e.Estimated, Unpriced: e.Unpriced,
	}
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
	return l.finishUnbooked(context.WithoutCancel(ctx), h, op)
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
	e.Charged = book.Amount{Tokens: a.Usage.TotalTokens(), Calls: 1}
	if a.AsHeld {
		e.Charged.Tokens, e.Estimated = e.Held.Tokens, true
	}

	cost, known := l.cost(e, a, fixed)
	e.Charged.Cost, e.Unpriced = cost, !known
	if !plausible(a.Usage) || cost > maxPlausibleCost {
		l.options.log.Error("tenant: a usage that cannot be true is not believed; the hold is charged",
			"execution", e.ID, "tenant", e.TenantKey, "model", e.BilledModel, "usage", a.Usage, "cost", money.Format(cost))
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
	}{{"Cost", a.Cost}, {"ReportedCost", a.ReportedCost}} {
		if m.err != nil {
			return fmt.Errorf("%w: Actual.%s: %w", ErrInvalidOption, m.name, m.err)
		}
	}
	return validErrorCode(a.ErrorCode)
}

// cost returns what an execution is charged, and whether that is known.
func (l *Ledger) cost(e *book.Execution, a Actual, fixed bool) (nano int64, known bool) {
	now := cmp.Or(e.SettledAt, l.options.clock()) // one that was imported is over already
	if a.Cost.set && !(a.Estimated && l.states(e, now)) {
		return a.Cost.nano, true
	}
	if a.AsHeld && !l.states(e, now) {
		e.Price = chargedHold
		return e.Held.Cost, !e.Unpriced
	}
	nano, row, known, whole := l.charge(e, now)
	switch {
	case known && (nano > 0 || whole):
		e.Price = row
		return nano, whole
	case fixed || !e.Unpriced && e.Held.Cost > 0:
		// It was held at a price that is not known any more, or at the caller's own figure.
		e.Estimated = true
		if a.Usage != (Usage{}) {
			e.Price = chargedHold
		}
		if !a.Usage.Units.IsZero() && a.Usage.TotalTokens() == 0 {
			e.Charged.Tokens = e.Held.Tokens // they measure what tokens are charged for, which nobody has counted
		}
		return e.Held.Cost, true
	default:
		return 0, a.Usage == Usage{}
	}
}

// chargedHold stands in the place of a row of the price book where the hold was charged for want of one.
const chargedHold = "hold"

// charge returns what the price book of a time charges for an execution that has ended, and by which of its rows; whether it
// has a price for it, and for all of it. The row is never empty: so a charge by the book can be told from one that the
// caller named.
func (l *Ledger) charge(e *book.Execution, at time.Time) (nano int64, row string, known, whole bool) {
	price, known := l.priceOf(e, at)
	price.Row = cmp.Or(price.Row, cmp.Or(price.Provider, e.Provider)+"/"+cmp.Or(price.Model, e.BilledModel))
	price = price.ForService(e.ServiceTier)
	switch {
	case e.Reported >= 0 && price.ChargeReported:
		return price.reported(e.Reported), text.Printable(price.Row), true, true
	case known:
		u := Usage(e.Usage)
		return price.Cost(u), text.Printable(price.Row), true, price.prices(u.TotalTokens(), u.Units)
	}
	return 0, "", false, false
}

// priceOf returns the price that the book of a time has for an execution: that of the billed model, else of the one asked for.
func (l *Ledger) priceOf(e *book.Execution, at time.Time) (price Price, known bool) {
	if price, known = l.price(e.TenantKey, e.Provider, e.BilledModel, at); known {
		return price, true
	}
	return l.price(e.TenantKey, e.Provider, e.Model, at)
}

// states reports whether an execution is charged what the provider has stated as its cost.
func (l *Ledger) states(e *book.Execution, at time.Time) bool {
	price, _ := l.priceOf(e, at)
	return e.Reported >= 0 && price.ChargeReported
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
