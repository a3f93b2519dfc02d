package tenant

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/callctx"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/lane"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/text"
)

// RepriceOption is an option of [Ledger.Reprice].
type RepriceOption func(*repricing) error

// WithDryRun has Reprice report what it would correct, and write nothing. Defaults to off.
func WithDryRun() RepriceOption {
	return func(r *repricing) error {
		r.dry = true
		return nil
	}
}

// OnlyTenants has Reprice look at the own calls of these tenants alone, whatever they were called when they made them. A nil
// Tenant stands for the calls without a tenant. Defaults to all calls.
func OnlyTenants(tenants ...Tenant) RepriceOption {
	return func(r *repricing) error {
		if len(tenants) == 0 {
			return fmt.Errorf("OnlyTenants: there is none")
		}
		r.only = append(r.only, tenants...)
		return nil
	}
}

// OnlyModels has Reprice look at the calls alone that asked for one of these models or were billed as one, by the names that
// executions have them by. Defaults to all models.
func OnlyModels(models ...string) RepriceOption {
	return func(r *repricing) error {
		if len(models) == 0 || slices.Contains(models, "") {
			return fmt.Errorf("OnlyModels: %q is not a list of names of models", models)
		}
		r.models = append(r.models, models...)
		return nil
	}
}

// RepriceReport is what a [Ledger.Reprice] has found and done.
type RepriceReport struct {
	RepriceTotals // of all calls that were looked at

	// Pruned are the calls of that time that were pruned (see [Ledger.Prune]), or whose tenant was erased: they are left as they
	// are, and count nowhere else.
	Pruned int64

	// Lines are the same by tenant and model, where something is to correct or has no price, in the order of their names.
	Lines []RepriceLine
}

// RepriceLine is the calls of one tenant to one model.
type RepriceLine struct {
	TenantID        string // as it was at the calls; empty for those without a tenant
	Provider, Model string // as billed, else as asked for
	RepriceTotals
}

// WithRepriceProgress has Reprice tell a function how many calls were looked at so far, after every some hundred. Defaults to none.
func WithRepriceProgress(told func(calls int64)) RepriceOption {
	return func(r *repricing) error {
		if told == nil {
			return fmt.Errorf("WithRepriceProgress: the function is nil")
		}
		r.told = told
		return nil
	}
}

// RepriceTotals are sums over calls.
type RepriceTotals struct {
	// Calls are those that the price book has a price for, and Corrected those of them for which it comes to another cost
	// or charge than the books: they have been corrected, or would be without [WithDryRun].
	Calls, Corrected int64

	// Unpriced are the calls without a price, or without one for all that they used, or with one by which the call would cost more than a million dollars. They
	// are left as they are, and count nowhere else.
	Unpriced int64

	// Booked is what the calls cost by the books before, with earlier corrections, and Right what they cost by the price
	// book, in US dollars; BookedCharge and RightCharge are what their tenants are charged for them.
	Booked, Right             decimal.Decimal
	BookedCharge, RightCharge decimal.Decimal
}

// Difference is what is corrected of the cost: positive where too little was booked.
func (t RepriceTotals) Difference() decimal.Decimal { return t.Right.Sub(t.Booked) }

// ChargeDifference is what is corrected of the charge: positive where too little was charged.
func (t RepriceTotals) ChargeDifference() decimal.Decimal { return t.RightCharge.Sub(t.BookedCharge) }

// Reprice books what the calls that were admitted from one time on and before another cost, or were charged, too much or too
// little by the price book as it is now: after a wrong price was in it, or none, or one was changed with effect from a day that is past.
// It changes no call. What a call is off by is an adjustment of its own: an execution with the status "adjusted", and the
// call's tenant, agent, model, tags and time, which names the call in Corrects. So it counts wherever the call counts: for
// its day in every question, in those of its windows that are still open, and for all who stood above its tenant. A
// window that has ended keeps its balance.
//
// A call is charged anew as it was charged when it was settled: by its own usage, its service tier, what the provider
// stated where the book charges that, the terms of the id that its tenant has now, and the price in force at that time, by
// the database's clock. The book has to know what held then: of terms and of rows without a date, it is assumed that they
// held at all times. Use [OnlyTenants] and [OnlyModels] where that is not so, and [WithDryRun] to see first. The reason of
// ctx ([ContextWithReason]) and its actor are kept with the corrections.
//
// Calls whose cost or charge the caller named are left alone, and so are other adjustments, abandoned calls whose usage nobody knows,
// and running ones, which are yet to be charged.
//
// It can run while calls go on, again, and in several processes at once: what is corrected already is part of what is
// booked, and no correction is booked twice. It reads some hundreds of calls at a time, of one tenant after the other, and
// hands the corrections to the path on which calls are booked. It returns what was done so far also with an error, after
// which it can be run again. A correction is never [Pending]: where the books cannot be reached, whoever reprices is told.
//
// Errors: [ErrInvalidOption], also for a ledger without prices and for a tenant that does not exist; [ErrInvalidTenant];
// [ErrUnavailable]; [ErrNotMigrated]; [ErrClosed]; and ctx's own.
func (l *Ledger) Reprice(ctx context.Context, from, to time.Time, options ...RepriceOption) (RepriceReport, error) {
	r, err := l.repricing(ctx, from, to, options)
	if err == nil {
		err = l.inPlaces(ctx)
	}
	if err != nil {
		return RepriceReport{}, err
	}
	err = r.run(ctx)
	slices.SortFunc(r.report.Lines, func(a, b RepriceLine) int {
		return cmp.Or(cmp.Compare(a.TenantID, b.TenantID), cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Model, b.Model))
	})
	return r.report, err
}

func (l *Ledger) repricing(ctx context.Context, from, to time.Time, options []RepriceOption) (*repricing, error) {
	r := &repricing{
		Ledger: l, told: func(int64) {},
		span:  books.Range{From: books.Admission(from), To: books.Admission(to)},
		actor: callctx.Actor(ctx), reason: cmp.Or(callctx.Reason(ctx), "price correction"),
	}
	for _, f := range []struct{ what, value string }{{"actor in ContextWithActor", r.actor}, {"reason in ContextWithReason", r.reason}} {
		if err := text.Valid(ErrInvalidOption, f.what, f.value, false); err != nil {
			return nil, err
		}
	}
	var err error
	switch {
	case l.options.prices == nil:
		err = fmt.Errorf("the ledger was opened without prices; see WithPrices")
	case !from.Before(to):
		err = fmt.Errorf("%s is not before %s", from.Format(time.RFC3339Nano), to.Format(time.RFC3339Nano))
	}
	for _, option := range options {
		switch {
		case err != nil:
		case option == nil:
			err = fmt.Errorf("a nil RepriceOption")
		default:
			err = option(r)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: Reprice: %w", ErrInvalidOption, err)
	}
	return r, nil
}

// repricing is one run of Reprice.
type repricing struct {
	*Ledger
	span          books.Range
	dry           bool
	told          func(calls int64)
	seen          int64
	only          []Tenant
	models        []string
	actor, reason string

	report RepriceReport
}

const (
	// repricePage is how many calls are read at a time.
	repricePage = 500

	// correctAtOnce is how many corrections stand in a lane at a time, so that the calls behind them do not wait long.
	correctAtOnce = 100
)

func (r *repricing) run(ctx context.Context) (err error) {
	if len(r.only) > 0 {
		ids, err := r.ids(ctx)
		for _, id := range ids {
			if err == nil {
				err = r.tenant(ctx, id)
			}
		}
		return err
	}
	failed := r.tenants(ctx, func(_ *place, id book.ID) error {
		err = r.tenant(ctx, id)
		return err
	})
	return cmp.Or(err, failed)
}

// ids are the tenants that were asked for, each once.
func (r *repricing) ids(ctx context.Context) (ids []book.ID, err error) {
	for _, t := range r.only {
		who, err := r.asked(t)
		if err != nil {
			return nil, err
		}
		q := r.questionAbout(who, r.pool, r.db.WithContext(ctx))
		s, err := q.state(ctx)
		switch {
		case err != nil:
			return nil, err
		case !q.made(s):
			return nil, fmt.Errorf("%w: Reprice: OnlyTenants: there is no tenant %q", ErrInvalidOption, who.Key)
		case !slices.Contains(ids, s.Tenant.ID):
			ids = append(ids, s.Tenant.ID)
		}
	}
	return ids, nil
}

// tenant reprices the calls of one tenant, page by page. Where another run was first with some correction, or the tenant was moved to another
// place, the page is read again: a call that is on the books never changes, nor does a correction, so that what was read is wrong only where a
// correction is there that was not.
func (r *repricing) tenant(ctx context.Context, id book.ID) error {
	p := page{repricing: r, sums: tallies{}, done: map[book.ID]bool{}, tried: map[book.ID]int64{}}
	defer p.sums.enter(&r.report)
	pruned, _, err := inItsPlace(ctx, r.Ledger, id, func(b books.Books) (int64, error) { return b.PrunedCalls(ctx, id, r.span) })
	if err != nil {
		return err
	}
	r.report.Pruned += pruned
	from := books.Charges{Tenant: id, Range: r.span, Models: r.models}
	for {
		if err := r.goesOn(); err != nil {
			return err
		}
		calls, at, err := inItsPlace(ctx, r.Ledger, id, func(b books.Books) ([]books.Charge, error) { return b.Charges(ctx, from, repricePage) })
		if err != nil {
			return err
		}
		p.at = at
		beaten, err := p.reprice(ctx, calls)
		switch {
		case err != nil:
			return err
		case beaten:
			continue
		}
		r.seen += int64(len(calls))
		r.told(r.seen)
		if len(calls) < repricePage {
			return nil
		}
		last := &calls[len(calls)-1]
		from.From, from.After = last.AdmittedAt, last.ID
		clear(p.done)
		clear(p.tried)
	}
}

// page is some calls of a tenant, in which the next ones follow.
type page struct {
	*repricing
	sums  tallies
	at    *place            // in which it was read
	moved int               // how often the tenant was in another one by then
	done  map[book.ID]bool  // those that are in the sums
	tried map[book.ID]int64 // how often those had been corrected that another run was first to correct
}

// repriced is a call, and what it costs by the books, by the price book, and by which of its rows.
type repriced struct {
	*books.Charge
	booked, right due
	row           string
}

// reprice reports whether another run was first to correct some of the calls.
func (p *page) reprice(ctx context.Context, calls []books.Charge) (beaten bool, err error) {
	var wrong []repriced
	for i := range calls {
		c := repriced{Charge: &calls[i], booked: due{
			money.Add(calls[i].Charged.Cost, calls[i].Corrected.Cost), money.Add(calls[i].Charged.Charge, calls[i].Corrected.Charge),
		}}
		if p.done[c.ID] {
			continue
		}
		charged, whole := c.Execution, false
		charged.TenantKey = c.KeyNow
		c.right, c.row, _, whole = p.dueAt(&charged, c.SettledAt)
		if c.Price == chargeNamed {
			c.right.charge = c.booked.charge
		}
		switch {
		case !whole, max(c.right.cost, c.right.charge) > maxPlausibleCost:
			p.done[c.ID] = true
			p.sums.of(&c.Execution).unpriced++
		case p.dry, c.right == c.booked:
			p.tally(c)
		default:
			wrong = append(wrong, c)
		}
	}
	for some := range slices.Chunk(wrong, correctAtOnce) {
		again, err := p.correct(ctx, some)
		if err != nil {
			return beaten, err
		}
		beaten = beaten || again
	}
	return beaten, nil
}

func (p *page) tally(c repriced) {
	p.done[c.ID] = true
	p.sums.of(&c.Execution).add(c)
}

// correct books what some calls are off by, and reports whether another run was first to correct some of them. What it has
// begun it ends, also when ctx does, so that the report says what was booked.
func (p *page) correct(ctx context.Context, calls []repriced) (beaten bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if err := p.enter(); err != nil {
		return false, err
	}
	defer p.leave(nil)
	ops, tasks := make([]decide.Op, len(calls)), make([]*lane.Task, len(calls))
	for i, c := range calls {
		ops[i] = p.correction(c)
		if i == 0 {
			if err := p.start(ctx, &ops[i]); err != nil {
				return false, err
			}
		}
		tasks[i] = p.lanes.SubmitIn(p.at.number, ops[i], c.TenantKey)
	}
	for i, task := range tasks {
		if err == nil {
			err = p.await(context.WithoutCancel(ctx), task, &ops[i], DefaultWait)
		} else {
			task.Withdraw() // the others would fail like the first
		}
		select {
		case <-task.Done():
		default:
			continue // withdrawn: the next run finds out whether it was booked
		}
		switch out, failed := task.Outcome(); {
		case failed != nil:
			err = cmp.Or(err, p.explain(failed))
		case out.Code == decide.Settled:
			p.booked(ctx, &out)
			p.tally(calls[i])
		case out.Code == decide.Duplicate && p.tried[calls[i].ID] <= calls[i].Times:
			p.tried[calls[i].ID] = calls[i].Times + 1
			beaten = true
		case out.Code == decide.Unknown && len(p.places) > 1 && p.moved < maxMoves*correctAtOnce:
			p.moved++
			beaten = true
		default:
			err = cmp.Or(err, p.refusal(&ops[i], &out))
		}
	}
	return beaten, err
}

// correction is the next one of a call. Its key makes it happen once, whoever books it.
func (r *repricing) correction(c repriced) decide.Op {
	return decide.Op{Kind: decide.Correct, Key: c.TenantKey, Exec: book.Execution{
		Tenant: c.Tenant, ID: book.NewID(), Ancestors: c.Ancestors, TenantKey: c.TenantKey, Agent: c.Agent, Provider: c.Provider,
		Model: c.Model, BilledModel: c.BilledModel, ServiceTier: c.ServiceTier, Tags: c.Tags, AdmittedAt: c.AdmittedAt,
		Process: r.lanes.ID(), Actor: r.actor, Reason: r.reason, Corrects: c.ID, Reported: -1, Price: c.row,
		IdempotencyKey: fmt.Sprintf("reprice:%s:%d", c.ID, c.Times+1),
		Charged:        book.Amount{Cost: money.Sub(c.right.cost, c.booked.cost), Charge: money.Sub(c.right.charge, c.booked.charge)},
	}}
}

// tallies are the calls of one tenant, by model and by what the tenant was called.
type tallies map[lineKey]*tally

type lineKey struct{ tenantID, provider, model string }

// tally is sums over calls; money is in nano-dollars.
type tally struct {
	calls, corrected, unpriced int64
	booked, right              due
}

// of returns the line of a call.
func (l tallies) of(e *book.Execution) *tally {
	key := lineKey{e.TenantKey, e.Provider, model(e)}
	if l[key] == nil {
		l[key] = &tally{}
	}
	return l[key]
}

func (t *tally) add(c repriced) {
	t.calls++
	t.booked, t.right = t.booked.plus(c.booked), t.right.plus(c.right)
	if c.booked != c.right {
		t.corrected++
	}
}

// enter adds the lines to a report.
func (l tallies) enter(r *RepriceReport) {
	for key, t := range l {
		line := RepriceLine{TenantID: key.tenantID, Provider: key.provider, Model: key.model, RepriceTotals: RepriceTotals{
			Calls: t.calls, Corrected: t.corrected, Unpriced: t.unpriced,
			Booked: money.Decimal(t.booked.cost), Right: money.Decimal(t.right.cost),
			BookedCharge: money.Decimal(t.booked.charge), RightCharge: money.Decimal(t.right.charge),
		}}
		r.Calls, r.Corrected, r.Unpriced = r.Calls+t.calls, r.Corrected+t.corrected, r.Unpriced+t.unpriced
		r.Booked, r.Right = r.Booked.Add(line.Booked), r.Right.Add(line.Right)
		r.BookedCharge, r.RightCharge = r.BookedCharge.Add(line.BookedCharge), r.RightCharge.Add(line.RightCharge)
		if t.corrected+t.unpriced > 0 {
			r.Lines = append(r.Lines, line)
		}
	}
}
