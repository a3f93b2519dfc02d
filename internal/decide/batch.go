package decide

import (
	"maps"
	"slices"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/period"
)

// batch is the state while it is being decided on, and what has changed of it.
type batch struct {
	Config
	*book.State

	accounts map[book.ID]*account
	insert   []*book.Execution
	update   []book.Update
	touched  map[*book.Execution]bool // those in insert or update
	hours    map[book.HourKey]book.HourSum
}

// account is a tenant of a batch, and what the batch has done to it.
type account struct {
	*book.Tenant
	lines   []line // of the limits in force; see batch.lines
	rolled  bool
	changed []bool // which of the balances
}

// line is a limit in force and those who stand in line for it. Whoever draws on one metric of a scope draws on all, so
// that the lines of a scope are as long as each other.
type line struct {
	book.Limit
	asking  int // reserves still to be decided
	waiting int // reserves that were made to wait
}

func newBatch(c Config, s *book.State, ops []*Op) *batch {
	b := &batch{
		Config: c, State: s, accounts: map[book.ID]*account{},
		touched: map[*book.Execution]bool{}, hours: map[book.HourKey]book.HourSum{},
	}
	for _, op := range ops {
		if op.Kind != Reserve {
			continue
		}
		if a, _ := b.account(op); a != nil {
			b.ask(a, op, 1)
		}
	}
	return b
}

// lines returns the lines of the limits in force for a tenant.
func (b *batch) lines(a *account) []line {
	if a.lines == nil {
		limits := Effective(a.Tenant, &b.Defaults)
		a.lines = make([]line, len(limits))
		for i, l := range limits {
			a.lines[i].Limit = l
		}
	}
	return a.lines
}

// covers reports whether the limit counts the call of an operation.
func (l *line) covers(op *Op) bool { return l.Covers(op.Exec.Agent, op.Exec.Model) }

// ask puts a reserve in the lines of all limits that cover it, or takes it out again.
func (b *batch) ask(a *account, op *Op, n int) {
	lines := b.lines(a)
	for i := range lines {
		if lines[i].covers(op) {
			lines[i].asking += n
		}
	}
}

// Effective returns the limits in force for a tenant: its own, and, where it inherits, the ledger's for what it does
// not limit itself.
func Effective(t, defaults *book.Tenant) []book.Limit {
	limits := slices.Clone(t.Limits)
	if !t.Inherit {
		return limits
	}
	for _, d := range defaults.Limits {
		own := slices.ContainsFunc(t.Limits, func(l book.Limit) bool { return l.Scope == d.Scope && l.Metric == d.Metric })
		if !own {
			limits = append(limits, d)
		}
	}
	return limits
}

// Enforcement returns how the limits of a tenant are enforced.
func Enforcement(t, defaults *book.Tenant) book.Enforcement {
	e := t.Enforcement
	if e == book.Inherited && t.Inherit {
		e = defaults.Enforcement
	}
	if e == book.Inherited {
		e = book.Soft
	}
	return e
}

// time is when the decision is made.
func (b *batch) time(a *account) time.Time { return Time(a.Tenant, b.Now) }

// roll opens the present window of every balance whose own has ended.
func (b *batch) roll(a *account) {
	if a.rolled {
		return
	}
	a.rolled = true
	for _, l := range b.lines(a) {
		a.Balance(l.Scope)
	}
	zone := b.Zone(a.Zone)
	now := b.time(a)
	for i := range a.Balances {
		balance := &a.Balances[i]
		if balance.Window == period.Total || now.Before(balance.End) {
			continue
		}
		balance.Start, balance.End = period.Roll(balance.Window, now, balance.End, zone, b.WeekStart)
		balance.Spent, balance.Held = book.Amount{}, book.Amount{}
		a.mark(i)
	}
}

// apply changes every balance that counts an execution, in the windows in which it was admitted.
func (a *account) apply(e *book.Execution, change func(*book.Balance)) {
	for i := range a.Balances {
		balance := &a.Balances[i]
		if balance.Covers(e.Agent, e.Model) && balance.Holds(e.AdmittedAt) {
			change(balance)
			a.mark(i)
		}
	}
}

// mark notes that the ith balance has changed.
func (a *account) mark(i int) {
	if n := len(a.Balances) - len(a.changed); n > 0 {
		a.changed = append(a.changed, make([]bool, n)...)
	}
	a.changed[i] = true
}

// count adds what an execution was charged to its hour, or takes it out again.
func (b *batch) count(e *book.Execution, sign int64) {
	var errs int64
	if e.Status == book.Failed {
		errs = 1
	}
	key := e.Hour()
	sum := b.hours[key]
	if sign > 0 {
		sum.Errors += errs
		sum.Charged, sum.Usage = sum.Charged.Plus(e.Charged), sum.Usage.Plus(e.Usage)
	} else {
		sum.Errors -= errs
		sum.Charged, sum.Usage = sum.Charged.Minus(e.Charged), sum.Usage.Minus(e.Usage)
	}
	b.hours[key] = sum
}

func (b *batch) refusals(a *account, op *Op) {
	key := book.HourKey{
		Tenant: a.ID, Hour: b.time(a).UTC().Truncate(time.Hour), Agent: op.Exec.Agent, Model: op.Exec.Model,
	}
	sum := b.hours[key]
	sum.Refusals++
	b.hours[key] = sum
}

func (b *batch) execution(op *Op) *book.Execution {
	return b.Executions[book.ExecutionKey{Tenant: op.Exec.Tenant, ID: op.Exec.ID}]
}

func idempotency(e *book.Execution) book.IdempotencyKey {
	return book.IdempotencyKey{Tenant: e.Tenant, Key: e.IdempotencyKey}
}

func (b *batch) add(e *book.Execution) {
	b.insert = append(b.insert, e)
	b.touched[e] = true
	b.Executions[book.ExecutionKey{Tenant: e.Tenant, ID: e.ID}] = e
	if e.IdempotencyKey == "" {
		return
	}
	if e.Status != book.Failed && e.Status != book.Cancelled {
		b.Idempotent[idempotency(e)] = e
	}
}

// free gives an execution's idempotency key to whoever comes next.
func (b *batch) free(e *book.Execution) {
	if holder := b.Idempotent[idempotency(e)]; holder != nil && holder.ID == e.ID {
		delete(b.Idempotent, idempotency(e))
	}
}

// touch notes that an execution changes, with the status that it still has.
func (b *batch) touch(e *book.Execution) {
	if b.touched[e] {
		return
	}
	b.touched[e] = true
	b.update = append(b.update, book.Update{From: e.Status, Execution: e})
}

func (b *batch) effects() book.Effects {
	eff := book.Effects{Insert: b.insert, Update: b.update, Hours: b.hours}
	ids := slices.SortedFunc(maps.Keys(b.accounts), func(x, y book.ID) int { return slices.Compare(x[:], y[:]) })
	for _, id := range ids {
		a := b.accounts[id]
		for i, changed := range a.changed {
			if changed {
				eff.Balances = append(eff.Balances, book.BalanceRow{Tenant: id, Balance: &a.Balances[i]})
			}
		}
	}
	return eff
}
