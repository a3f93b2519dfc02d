package store

import (
	"fmt"
	"slices"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// The columns that the methods of Reader scan, by the aliases t (llm_tenants), b (llm_balances),
// e (llm_executions) and p (llm_processes).
const (
	TenantColumns = `t.id, coalesce(t.tenant_id, ''), coalesce(t.owner_type, ''), coalesce(t.owner_id, ''), t.enforcement,
		t.counts, t.inherit, t.time_zone, t.suspended_at IS NOT NULL, t.deleted_at IS NOT NULL, t.parent, CAST(t.limits AS text)`

	BalanceColumns = `b.tenant, b.window_unit, b.agent, b.model, ` + sumColumns

	sumColumns = `b.window_start, b.window_end, b.spent_cost, b.spent_charge, b.spent_tokens, b.spent_calls, b.held_cost, b.held_charge, b.held_tokens, b.held_calls,
		b.day_start, b.day_end,
		b.day_spent_cost, b.day_spent_charge, b.day_spent_tokens, b.day_spent_calls, b.day_held_cost, b.day_held_charge, b.day_held_tokens, b.day_held_calls,
		b.month_start, b.month_end,
		b.month_spent_cost, b.month_spent_charge, b.month_spent_tokens, b.month_spent_calls, b.month_held_cost, b.month_held_charge, b.month_held_tokens, b.month_held_calls`

	// AnchorColumns are those of a row that may be missing: it has the id of the defaults then, who have none.
	AnchorColumns = `coalesce(b.tenant, 'ffffffff-ffff-ffff-ffff-ffffffffffff'), ` + sumColumns

	ExecutionColumns = `e.tenant, e.id, e.tenant_id, e.status, e.agent, e.provider, e.model, e.billed_model, e.request_id,
		coalesce(e.idempotency_key, ''), e.process, e.admitted_at, e.deadline_at, e.finished_at, e.settled_at,
		e.held_cost, e.held_charge, e.held_tokens, e.cost, e.charge, e.tokens, e.calls, coalesce(e.reported_cost, -1), e.estimated, e.unpriced,
		CAST(e.parents AS text)`
	ProcessColumns = `p.id, p.beat_at, p.lease_ms`

	// Of llm_idempotency, k, whose execution is gone.
	GoneColumns = `k.tenant, k.key, k.execution, k.status, k.cost, k.charge`
)

// Reader enters the rows that a batch reads into its state. The tenants that it has locked come first. It is there for one batch
// after the other, and so is what it gives them, but for executions.
type Reader struct {
	State *book.State
	ID    func(*book.ID) any   // what a UUID is scanned into
	Time  func(*time.Time) any // what a time is scanned into; NULL is the zero one
	Text  func(*string) any    // what a text is scanned into that many rows have; nil: itself
	Int   func(*int64) any     // what a number of an anchor is scanned into, which may be NULL and is zero then; nil: itself

	// Limits are those that rows had before; nil: none are known.
	Limits *KnownLimits

	// Place is what the place of an execution is scanned into, which comes after ExecutionColumns; nil: it does not.
	Place func(*book.Place) any

	// What the row at hand is scanned into, and the addresses of that by kind of row: each row would else need them on the
	// heap anew.
	id        book.ID
	window    string
	tenant    book.Tenant
	parents   string
	status    string
	balance   [3]book.Balance // of the row of an anchor all three
	execution book.Execution
	targets   struct{ tenant, balance, anchor, execution []any }

	tenants  []book.Tenant
	balances []book.Balance
}

// Reset forgets what was entered. The rows of the next batch, with so many tenants at most, take its memory.
func (r *Reader) Reset(tenants int) *book.State {
	clear(r.tenants)
	clear(r.balances)
	r.tenants, r.balances = slices.Grow(r.tenants[:0], tenants), slices.Grow(r.balances[:0], 2*len(r.balance)*tenants)
	if r.State == nil {
		r.State = &book.State{
			Tenants: map[book.ID]*book.Tenant{}, Busy: map[book.ID]bool{}, Keys: map[string]book.ID{},
			Executions: map[book.ExecutionKey]*book.Execution{}, Idempotent: map[book.IdempotencyKey]*book.Execution{},
			Processes: map[book.ID]book.Process{},
		}
		return r.State
	}
	s := *r.State
	clear(s.Tenants)
	clear(s.Busy)
	clear(s.Keys)
	clear(s.Executions)
	clear(s.Idempotent)
	clear(s.Processes)
	*r.State = book.State{
		Tenants: s.Tenants, Busy: s.Busy, Keys: s.Keys, Executions: s.Executions, Idempotent: s.Idempotent, Processes: s.Processes,
	}
	return r.State
}

// KnownLimits are limits as rows have them, and what that means. Those of many tenants are the same: they are read once, and
// shared by all.
type KnownLimits map[string]sqldb.Limits

// maxKnown bounds what is kept.
const maxKnown = 1_000

// limits is the target to scan a tenant's limits into.
type limits struct{ *Reader }

// ScanBytes implements pgtype.BytesScanner.
func (l limits) ScanBytes(document []byte) error {
	known, ok := (*l.Limits)[string(document)]
	if !ok {
		var err error
		if known, err = sqldb.ParseLimits(string(document)); err != nil {
			return err
		}
		if len(*l.Limits) >= maxKnown || *l.Limits == nil {
			*l.Limits = KnownLimits{}
		}
		(*l.Limits)[string(document)] = known
	}
	l.tenant.Limits, l.tenant.TopUps = slices.Clip(known.Own), slices.Clip(known.TopUps)
	return nil
}

// Scan implements sql.Scanner.
func (l limits) Scan(value any) error {
	document, ok := value.(string)
	if !ok {
		return fmt.Errorf("limits are stored as %T", value)
	}
	return l.ScanBytes([]byte(document))
}

func (r *Reader) text(to *string) any {
	if r.Text == nil {
		return to
	}
	return r.Text(to)
}

func (r *Reader) int(to *int64) any {
	if r.Int == nil {
		return to
	}
	return r.Int(to)
}

// Locked enters the id of a tenant whose anchor is locked.
func (r *Reader) Locked(row sqldb.Row) error {
	if err := row.Scan(r.ID(&r.id)); err != nil {
		return err
	}
	r.locked()
	return nil
}

func (r *Reader) locked() *book.Tenant {
	if len(r.tenants) == cap(r.tenants) { // what is there stays where it is
		r.tenants = make([]book.Tenant, 0, max(2*cap(r.tenants), 1))
	}
	r.tenants = append(r.tenants, book.Tenant{ID: r.id})
	t := &r.tenants[len(r.tenants)-1]
	r.State.Tenants[r.id] = t
	return t
}

// Anchor enters AnchorColumns of an anchor that is locked. That of the defaults, who have none, says that none is. What else is
// in the row goes to more, the same for each row.
func (r *Reader) Anchor(row sqldb.Row, more ...any) (*book.Tenant, error) {
	if r.targets.anchor == nil {
		r.targets.anchor = append(r.sums(append(r.targets.anchor, r.ID(&r.id))), more...)
	}
	if err := row.Scan(r.targets.anchor...); err != nil {
		return nil, err
	}
	if r.id == book.Defaults {
		return nil, nil
	}
	t := r.locked()
	r.stand(t)
	return t, nil
}

// sums adds the targets of the sums of all three balances.
func (r *Reader) sums(targets []any) []any {
	for i := range r.balance {
		b := &r.balance[i]
		targets = append(targets, r.Time(&b.Start), r.Time(&b.End),
			r.int(&b.Spent.Cost), r.int(&b.Spent.Charge), r.int(&b.Spent.Tokens), r.int(&b.Spent.Calls),
			r.int(&b.Held.Cost), r.int(&b.Held.Charge), r.int(&b.Held.Tokens), r.int(&b.Held.Calls))
	}
	return targets
}

// stand gives a tenant the balances of its anchor's row, which is at hand.
func (r *Reader) stand(t *book.Tenant) {
	for i, s := range book.Standing {
		r.balance[i].Scope = s
	}
	if t.Balances != nil {
		t.Balances = append(t.Balances, r.balance[:]...)
		return
	}
	t.Balances, t.Stored.Balances = r.copied(), r.copied()
}

// copied returns the balances at hand in memory that was made for many.
func (r *Reader) copied() []book.Balance {
	n := len(r.balances)
	if n+len(r.balance) > cap(r.balances) {
		r.balances, n = make([]book.Balance, 0, max(2*cap(r.balances), 2*len(r.balance))), 0
	}
	r.balances = append(r.balances, r.balance[:]...)
	return r.balances[n:len(r.balances):len(r.balances)]
}

// Tenant enters TenantColumns. What it returns is there until the next row.
func (r *Reader) Tenant(row sqldb.Row) (*book.Tenant, error) {
	t := &r.tenant
	if r.targets.tenant == nil {
		r.targets.tenant = []any{
			r.ID(&t.ID), r.text(&t.Key), r.text(&t.OwnerType), r.text(&t.OwnerID), r.text((*string)(&t.Enforcement)), r.text((*string)(&t.Counts)), &t.Inherit, r.text(&t.Zone),
			&t.Suspended, &t.Deleted, r.ID(&t.Parent), limits{r},
		}
		if r.Limits == nil {
			r.Limits = &KnownLimits{}
		}
	}
	if err := row.Scan(r.targets.tenant...); err != nil {
		return t, err
	}
	if t.ID == book.Defaults {
		r.State.Defaults = *t
		return t, nil
	}
	if t.Key != "" {
		r.State.Keys[t.Key] = t.ID
	}
	if locked := r.State.Tenants[t.ID]; locked != nil {
		balances, stored := locked.Balances, locked.Stored
		*locked = *t
		locked.Balances, locked.Stored = balances, stored
	}
	return t, nil
}

// Balance enters BalanceColumns. What else is in the row goes to more, the same for each row. It returns the tenant, nil where
// that is not locked.
func (r *Reader) Balance(row sqldb.Row, more ...any) (*book.Tenant, error) {
	b := &r.balance[0]
	if r.targets.balance == nil {
		r.targets.balance = append(r.sums([]any{r.ID(&r.id), r.text(&r.window), r.text(&b.Agent), r.text(&b.Model)}), more...)
	}
	err := row.Scan(r.targets.balance...)
	if err != nil {
		return nil, err
	}
	if b.Window, err = period.ParseWindow(r.window); err != nil {
		return nil, err
	}
	t := r.State.Tenants[r.id]
	switch anchor := b.Scope == book.Anchor; {
	case t == nil && anchor: // an anchor that was not locked
		r.State.Busy[r.id] = true
	case t == nil:
	case anchor:
		r.stand(t)
	default:
		t.Balances = append(t.Balances, *b)
	}
	return t, nil
}

// Execution enters ExecutionColumns of an execution that was asked for by id.
func (r *Reader) Execution(row sqldb.Row) error {
	e, err := r.found(row)
	if err != nil {
		return err
	}
	r.State.Executions[book.ExecutionKey{Tenant: e.Tenant, ID: e.ID}] = e
	return nil
}

// Idempotent enters ExecutionColumns of the execution that has an idempotency key. One that was read by its id already
// is the same one.
func (r *Reader) Idempotent(row sqldb.Row) error {
	e, err := r.found(row)
	if err != nil {
		return err
	}
	if same := r.State.Executions[book.ExecutionKey{Tenant: e.Tenant, ID: e.ID}]; same != nil {
		e = same
	}
	r.State.Idempotent[book.IdempotencyKey{Tenant: e.Tenant, Key: e.IdempotencyKey}] = e
	return nil
}

// Gone enters GoneColumns: an idempotency key is taken although its execution was pruned.
func (r *Reader) Gone(row sqldb.Row) error {
	var e book.Execution
	if err := row.Scan(r.ID(&e.Tenant), &e.IdempotencyKey, r.ID(&e.ID), &e.Status, &e.Charged.Cost, &e.Charged.Charge); err != nil {
		return err
	}
	r.State.Idempotent[book.IdempotencyKey{Tenant: e.Tenant, Key: e.IdempotencyKey}] = &e
	return nil
}

func (r *Reader) found(row sqldb.Row) (*book.Execution, error) {
	e := &r.execution
	if r.targets.execution == nil {
		r.targets.execution = []any{
			r.ID(&e.Tenant), r.ID(&e.ID), r.text(&e.TenantKey), r.text(&r.status), r.text(&e.Agent), r.text(&e.Provider), r.text(&e.Model), r.text(&e.BilledModel),
			&e.RequestID, &e.IdempotencyKey, r.ID(&e.Process), r.Time(&e.AdmittedAt), r.Time(&e.DeadlineAt), r.Time(&e.FinishedAt),
			r.Time(&e.SettledAt), &e.Held.Cost, &e.Held.Charge, &e.Held.Tokens, &e.Charged.Cost, &e.Charged.Charge, &e.Charged.Tokens, &e.Charged.Calls, &e.Reported,
			&e.Estimated, &e.Unpriced, r.text(&r.parents),
		}
		if r.Place != nil {
			r.targets.execution = append(r.targets.execution, r.Place(&e.Place))
		}
	}
	err := row.Scan(r.targets.execution...)
	if err != nil {
		return nil, err
	}
	e.Status, e.Held.Calls = book.Status(r.status), 1
	one := *e
	one.Ancestors, err = sqldb.ParseIDs(r.parents)
	return &one, err
}

// Process enters ProcessColumns.
func (r *Reader) Process(row sqldb.Row) error {
	var (
		p     book.Process
		lease int64
	)
	if err := row.Scan(r.ID(&p.ID), r.Time(&p.BeatAt), &lease); err != nil {
		return err
	}
	p.Lease = time.Duration(lease) * time.Millisecond
	r.State.Processes[p.ID] = p
	return nil
}
