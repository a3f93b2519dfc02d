package tenant

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/lane"
	"github.com/llmtenant/tenant/internal/money"
)

// repricing is one run of Reprice.
type repricing struct {
	*Ledger
	books         books.Books
	span          books.Range
	dry           bool
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
	failed := r.eachTenant(ctx, func(id book.ID) error {
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
		q := question{r.Ledger, who, r.books, r.db.WithContext(ctx)}
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

// tenant reprices the calls of one tenant, page by page. Where another run was first with some correction, the page is read
// again: a call that is on the books never changes, nor does a correction, so that what was read is wrong only where a
// correction is there that was not.
func (r *repricing) tenant(ctx context.Context, id book.ID) error {
	p := page{repricing: r, sums: tallies{}, done: map[book.ID]bool{}, tried: map[book.ID]int64{}}
	defer p.sums.enter(&r.report)
	pruned, err := r.books.PrunedCalls(ctx, id, r.span)
	if err != nil {
		return r.failure(ctx, err)
	}
	r.report.Pruned += pruned
	from := books.Charges{Tenant: id, Range: r.span, Models: r.models}
	for {
		if err := r.goesOn(); err != nil {
			return err
		}
		calls, err := r.books.Charges(ctx, from, repricePage)
		if err != nil {
			return r.failure(ctx, err)
		}
		beaten, err := p.reprice(ctx, calls)
		switch {
		case err != nil:
			return err
		case beaten:
			continue
		case len(calls) < repricePage:
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
		tasks[i] = p.lanes.Submit(ops[i], c.TenantKey)
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
		Process: r.lanes.ID, Actor: r.actor, Reason: r.reason, Corrects: c.ID, Reported: -1, Price: c.row,
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
