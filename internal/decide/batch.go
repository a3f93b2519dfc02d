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

	limits  map[book.ID][]book.Limit
	asking  map[queue]int // reserves still to be decided
	waiting map[queue]int // reserves that were made to wait
	rolled  map[book.ID]bool

	insert  []*book.Execution
	update  []book.Update
	touched map[*book.Execution]bool // those in insert or update
	changed map[book.ID]map[book.Scope]bool
	hours   map[book.HourKey]book.HourSum
}

// queue is where reserves stand in line: one scope of one tenant.
type queue struct {
	tenant book.ID
	scope  book.Scope
}

func newBatch(c Config, s *book.State, ops []*Op) *batch {
	b := &batch{
		Config: c, State: s,
		limits: map[book.ID][]book.Limit{}, rolled: map[book.ID]bool{},
		asking: map[queue]int{}, waiting: map[queue]int{},
		touched: map[*book.Execution]bool{},
		changed: map[book.ID]map[book.Scope]bool{}, hours: map[book.HourKey]book.HourSum{},
	}
	for _, op := range ops {
		if op.Kind != Reserve {
			continue
		}
		if t, _ := b.tenant(op); t != nil {
			for _, l := range b.covering(t, op) {
				b.asking[queue{t.ID, l.Scope}]++
			}
		}
	}
	return b
}

// covering returns the limits in force that count the call of an operation.
func (b *batch) covering(t *book.Tenant, op *Op) []*book.Limit {
	limits, ok := b.limits[t.ID]
	if !ok {
		limits = Effective(t, &b.Defaults)
		b.limits[t.ID] = limits
	}
	covering := make([]*book.Limit, 0, len(limits))
	for i := range limits {
		if limits[i].Covers(op.Exec.Agent, op.Exec.Model) {
			covering = append(covering, &limits[i])
		}
	}
	return covering
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

// time is when the decision is made: the clock, but never before a window that the tenant has already entered. So a
// clock that steps back opens no window again.
func (b *batch) time(t *book.Tenant) time.Time {
	now := b.Now
	for i := range t.Balances {
		if t.Balances[i].Start.After(now) {
			now = t.Balances[i].Start
		}
	}
	return now
}

// roll opens the present window of every balance whose own has ended.
func (b *batch) roll(t *book.Tenant) {
	if b.rolled[t.ID] {
		return
	}
	b.rolled[t.ID] = true
	for _, l := range b.limits[t.ID] {
		t.Balance(l.Scope)
	}
	zone := b.Zone(t.Zone)
	now := b.time(t)
	for i := range t.Balances {
		balance := &t.Balances[i]
		if balance.Window == period.Total || now.Before(balance.End) {
			continue
		}
		balance.Start, balance.End = period.Roll(balance.Window, now, balance.End, zone, b.WeekStart)
		balance.Spent, balance.Held = book.Amount{}, book.Amount{}
		b.mark(t.ID, balance.Scope)
	}
}

// apply changes every balance that counts an execution, in the windows in which it was admitted.
func (b *batch) apply(t *book.Tenant, e *book.Execution, change func(*book.Balance)) {
	for i := range t.Balances {
		balance := &t.Balances[i]
		if balance.Covers(e.Agent, e.Model) && balance.Holds(e.AdmittedAt) {
			change(balance)
			b.mark(t.ID, balance.Scope)
		}
	}
}

func (b *batch) mark(id book.ID, s book.Scope) {
	if b.changed[id] == nil {
		b.changed[id] = map[book.Scope]bool{}
	}
	b.changed[id][s] = true
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

func (b *batch) refusals(t *book.Tenant, op *Op) {
	key := book.HourKey{
		Tenant: t.ID, Hour: b.time(t).UTC().Truncate(time.Hour), Agent: op.Exec.Agent, Model: op.Exec.Model,
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
	ids := slices.SortedFunc(maps.Keys(b.changed), func(x, y book.ID) int { return slices.Compare(x[:], y[:]) })
	for _, id := range ids {
		t := b.Tenants[id]
		for i := range t.Balances {
			if b.changed[id][t.Balances[i].Scope] {
				eff.Balances = append(eff.Balances, book.BalanceRow{Tenant: id, Balance: &t.Balances[i]})
			}
		}
	}
	return eff
}
