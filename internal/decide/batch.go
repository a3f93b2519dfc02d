package decide

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/period"
)

// batch is the state while it is being decided on, and what has changed of it.
type batch struct {
	Config
	*book.State

	accounts map[book.ID]*account
	room     []account    // for those that are still to come
	limits   []book.Limit // of the account at hand
	allLines []line
	insert   []*book.Execution
	update   []book.Update
	touched  map[*book.Execution]bool // those in insert or update
	hours    map[book.HourKey]book.HourSum
	met      []*book.Threshold
	balances []book.BalanceRow
	ids      []book.ID
	out      []Outcome
}

// account is a tenant of a batch, and what the batch has done to it.
type account struct {
	*book.Tenant
	self    [1]*account
	chain   []*account // itself and those above it, the nearest first; see batch.chain
	lines   []line     // of the limits in force; see batch.lines
	opened  time.Time  // up to when its windows are the present ones
	changed []bool     // which of the balances
	few     [8]bool    // what changed begins with
}

// line is a limit in force and those who stand in line for it. A scope has a line for each metric: who needs nothing of one
// stands in none for it.
type line struct {
	book.Limit
	asking  int // reserves still to be decided
	waiting int // reserves that were made to wait
}

func newBatch(c Config, s *book.State, ops []*Op) *batch {
	b := &batch{}
	b.begin(c, s, ops)
	return b
}

// begin begins a batch in the memory of the one before.
func (b *batch) begin(c Config, s *book.State, ops []*Op) {
	was := *b
	if was.accounts == nil {
		was.accounts, was.touched, was.hours = map[book.ID]*account{}, map[*book.Execution]bool{}, map[book.HourKey]book.HourSum{}
	}
	clear(was.accounts)
	clear(was.touched)
	clear(was.hours)
	*b = batch{
		Config: c, State: s, accounts: was.accounts, touched: was.touched, hours: was.hours, limits: was.limits[:0],
		room: slices.Grow(emptied(was.room), len(s.Tenants)), allLines: emptied(was.allLines), insert: emptied(was.insert),
		update: emptied(was.update), balances: emptied(was.balances), ids: was.ids[:0], out: emptied(was.out),
	}
	if s.New {
		b.keep()
	}
	for _, op := range ops {
		if op.Kind != Reserve {
			continue
		}
		if a, _ := b.account(op); a != nil {
			b.ask(b.chain(a), op, 1)
		}
	}
}

// emptied returns the memory of a slice that holds on to nothing any more.
func emptied[T any](s []T) []T {
	clear(s)
	return s[:0]
}

// keep has the balances written that are not stored yet, whatever becomes of the operations: nobody is to add them up
// again.
func (b *batch) keep() {
	for id := range b.Tenants {
		a := b.locked(id)
		for i := 0; a != nil && i < len(a.Balances); i++ {
			if a.Balances[i].New {
				a.mark(i)
			}
		}
	}
}

// locked returns the account of a tenant that the batch has locked, nil where it has not. One whose anchor was not read
// is another's, who has moved it since the lock.
func (b *batch) locked(id book.ID) *account {
	if a := b.accounts[id]; a != nil {
		return a
	}
	t := b.Tenants[id]
	if t == nil || !t.Has(book.Anchor) {
		return nil
	}
	if len(b.room) == cap(b.room) { // what is there stays where it is
		b.room = make([]account, 0, max(1, len(b.Tenants)))
	}
	b.room = append(b.room, account{Tenant: t})
	a := &b.room[len(b.room)-1]
	a.self[0], a.changed = a, a.few[:0]
	b.accounts[id] = a
	return a
}

// chain returns a tenant and all that stand above it, the nearest first; nil where one of them is not locked.
func (b *batch) chain(a *account) []*account {
	if a.chain != nil {
		return a.chain
	}
	chain := a.self[:]
	for id := b.parentOf(a.Tenant); id != uuid.Nil && len(chain) <= book.MaxDepth+1; {
		next := b.locked(id)
		if next == nil {
			return nil
		}
		if slices.Contains(chain, next) {
			break // two that were moved at the same time stand above each other: each counts once
		}
		chain = append(chain, next)
		id = b.parentOf(next.Tenant)
	}
	a.chain = chain
	return chain
}

// ancestors returns who stands directly above a tenant: its parent, or the root, if there is one.
func (b *batch) parentOf(t *book.Tenant) book.ID {
	if t.Parent == uuid.Nil && t.ID != book.Root && (b.Tenants[book.Root] != nil || b.Busy[book.Root]) {
		return book.Root
	}
	return t.Parent
}

// counting returns the tenants whose balances count an execution: those at its admission, wherever its tenant stands
// now. It is nil where one of them is not locked.
func (b *batch) counting(e *book.Execution) []*account {
	a := b.locked(e.Tenant)
	if a == nil {
		return nil
	}
	accounts := a.self[:]
	for _, id := range e.Ancestors {
		next := b.locked(id)
		if next == nil {
			return nil
		}
		accounts = append(accounts, next)
	}
	return accounts
}

// ancestors returns the ids of a chain without its first.
func ancestors(chain []*account) []book.ID {
	if len(chain) == 1 {
		return nil
	}
	ids := make([]book.ID, len(chain)-1)
	for i, a := range chain[1:] {
		ids[i] = a.ID
	}
	return ids
}

// lines returns the lines of the limits in force for a tenant.
func (b *batch) lines(a *account) []line {
	if a.lines == nil {
		b.limits = appendEffective(b.limits[:0], a.Tenant, &b.Defaults, Time(a.Tenant, b.Now))
		n := len(b.limits)
		if n > cap(b.allLines)-len(b.allLines) {
			b.allLines = make([]line, 0, n*max(1, len(b.Tenants)))
		}
		first := len(b.allLines)
		b.allLines = b.allLines[:first+n]
		a.lines = b.allLines[first : first+n : first+n]
		for i, l := range b.limits {
			a.lines[i].Limit = l
		}
	}
	return a.lines
}

// covers reports whether the limit counts the call of an operation.
func (l *line) covers(op *Op) bool { return l.Covers(op.Exec.Agent, op.Exec.Model) }

// ask puts a reserve in the lines of all limits that cover it, or takes it out again.
func (b *batch) ask(chain []*account, op *Op, n int) {
	most := op.Most()
	for _, a := range chain {
		lines := b.lines(a)
		for i := range lines {
			if lines[i].covers(op) && lines[i].Of(most) != 0 {
				lines[i].asking += n
			}
		}
	}
}

// Effective returns the limits in force for a tenant: its own, and, where it inherits, the ledger's for what it does
// not limit itself; each with the top-ups that it has at this time.
func Effective(t, defaults *book.Tenant, now time.Time) []book.Limit {
	return appendEffective(nil, t, defaults, now)
}

func appendEffective(limits []book.Limit, t, defaults *book.Tenant, now time.Time) []book.Limit {
	limits = append(limits, t.Limits...)
	for _, d := range inherited(t, defaults) {
		own := slices.ContainsFunc(t.Limits, func(l book.Limit) bool { return l.Scope == d.Scope && l.Metric == d.Metric })
		if !own {
			limits = append(limits, d)
		}
	}
	for _, up := range t.TopUps {
		for i := range limits {
			if l := &limits[i]; l.Scope == up.Scope && l.Metric == up.Metric && (up.Ends.IsZero() || now.Before(up.Ends)) {
				l.Max = money.Add(l.Max, up.Max)
			}
		}
	}
	atCost := Counting(t, defaults) == book.CountsCost
	for i := range limits {
		limits[i].AtCost = atCost && limits[i].Metric == book.Cost
	}
	return limits
}

// Counting returns what the limits of cost of a tenant count. Each tenant's own limits count what is said for it, so that those
// above it may count something else.
func Counting(t, defaults *book.Tenant) book.Counting {
	return cmp.Or(t.Counts, defaults.Counts, book.CountsCharge)
}

// inherited returns the limits that a tenant has of the ledger where it sets none of its own.
func inherited(t, defaults *book.Tenant) []book.Limit {
	if !t.Inherit {
		return nil
	}
	return defaults.Limits
}

// Missing returns the balances that the limits in force need and that no tenant of a batch has yet: of a limit that was
// set since the last call, in a scope that nothing has counted so far. They have their windows, and are to be filled with
// what these have seen already before the batch is decided.
func Missing(c Config, s *book.State) []book.Sum {
	var sums []book.Sum
	for _, t := range s.Tenants {
		if !t.Has(book.Anchor) {
			continue
		}
		first := len(t.Balances)
		for _, limits := range [...][]book.Limit{t.Limits, inherited(t, &s.Defaults)} {
			for _, l := range limits {
				t.Balance(l.Scope)
			}
		}
		zone := c.Zone(t.Zone)
		for i := first; i < len(t.Balances); i++ {
			balance := &t.Balances[i]
			open := func(at time.Time) {
				balance.Start, balance.End = period.Bounds(balance.Window, at, zone, c.WeekStart)
			}
			open(Time(t, s.Now))
			sums = append(sums, book.Sum{Tenant: t.ID, Balance: balance, Open: open})
		}
	}
	s.New = len(sums) > 0
	return sums
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

// open opens the present window of every balance of a chain whose own has ended, and returns the time of the decision:
// the same for all of the chain, so that a call lies in the present window of each.
func (b *batch) open(chain []*account) time.Time {
	now := b.Now
	for _, a := range chain {
		now = Time(a.Tenant, now)
	}
	for _, a := range chain {
		b.enter(a, now)
	}
	return now
}

func (b *batch) enter(a *account, now time.Time) {
	if !now.After(a.opened) {
		return
	}
	a.opened = now
	for _, l := range b.lines(a) {
		a.Balance(l.Scope)
	}
	zone := b.Zone(a.Zone)
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
func apply(counting []*account, e *book.Execution, change func(*book.Balance)) {
	for _, a := range counting {
		for i := range a.Balances {
			balance := &a.Balances[i]
			if balance.Covers(e.Agent, e.Model) && balance.Holds(e.AdmittedAt) {
				change(balance)
				a.mark(i)
			}
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

// count adds what an execution was charged to its hour, and to that of all above its tenant, or takes it out again.
func (b *batch) count(e *book.Execution, sign int64) {
	key := e.Hour()
	for i := -1; i < len(e.Ancestors); i++ {
		if i >= 0 {
			key.Tenant, key.Below = e.Ancestors[i], true
		}
		sum := b.hours[key]
		sum.Add(e, sign)
		b.hours[key] = sum
	}
}

func (b *batch) refusals(chain []*account, op *Op, now time.Time) {
	for i, a := range chain {
		key := book.HourKey{
			Tenant: a.ID, Below: i > 0, Hour: now.UTC().Truncate(time.Hour), Agent: op.Exec.Agent, Model: op.Exec.Model,
			Provider: op.Exec.Provider,
		}
		sum := b.hours[key]
		sum.Refusals++
		b.hours[key] = sum
	}
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
	eff := book.Effects{Insert: b.insert, Update: b.update, Balances: b.balances, Hours: b.hours, Thresholds: b.met}
	for key := range b.hours {
		late := book.LateHour{Tenant: key.Tenant, Hour: key.Hour}
		if key.Hour.Before(b.Now.Add(-book.Late)) && !slices.Contains(eff.Late, late) {
			eff.Late = append(eff.Late, late)
		}
	}
	slices.SortFunc(eff.Late, func(x, y book.LateHour) int {
		return cmp.Or(slices.Compare(x.Tenant[:], y.Tenant[:]), x.Hour.Compare(y.Hour))
	})
	b.ids = slices.AppendSeq(b.ids, maps.Keys(b.accounts))
	slices.SortFunc(b.ids, func(x, y book.ID) int { return bytes.Compare(x[:], y[:]) })
	for _, id := range b.ids {
		a := b.accounts[id]
		standing := false // is written already
		for i, changed := range a.changed {
			if !changed {
				continue
			}
			row := a.Row(a.Balances[i].Scope)
			if row.Day != nil && standing {
				continue
			}
			standing = standing || row.Day != nil
			eff.Balances = append(eff.Balances, row)
		}
	}
	b.balances = eff.Balances
	return eff
}
