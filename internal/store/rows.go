package store

import (
	"cmp"
	"slices"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// The columns that the methods of Reader scan, by the aliases t (llm_tenants), l (llm_limits), b (llm_balances),
// e (llm_executions) and p (llm_processes).
const (
	TenantColumns = `t.id, coalesce(t.tenant_id, ''), coalesce(t.owner_type, ''), coalesce(t.owner_id, ''), t.enforcement,
		t.counts, t.inherit, t.time_zone, t.suspended_at IS NOT NULL, t.deleted_at IS NOT NULL, t.parent`
	LimitColumns = `l.tenant, l.window_unit, l.agent, l.model, l.metric, l.topup, l.ends_at, l.amount`

	BalanceColumns = `b.tenant, b.window_unit, b.agent, b.model, b.window_start, b.window_end,
		b.spent_cost, b.spent_charge, b.spent_tokens, b.spent_calls, b.held_cost, b.held_charge, b.held_tokens, b.held_calls, b.day_start, b.day_end,
		b.day_spent_cost, b.day_spent_charge, b.day_spent_tokens, b.day_spent_calls, b.day_held_cost, b.day_held_charge, b.day_held_tokens, b.day_held_calls,
		b.month_start, b.month_end,
		b.month_spent_cost, b.month_spent_charge, b.month_spent_tokens, b.month_spent_calls, b.month_held_cost, b.month_held_charge, b.month_held_tokens, b.month_held_calls`

	ExecutionColumns = `e.tenant, e.id, e.tenant_id, e.status, e.agent, e.provider, e.model, e.billed_model, e.request_id,
		coalesce(e.idempotency_key, ''), e.process, e.admitted_at, e.deadline_at, e.finished_at, e.settled_at,
		e.held_cost, e.held_charge, e.held_tokens, e.cost, e.charge, e.tokens, e.calls, coalesce(e.reported_cost, -1), e.estimated, e.unpriced,
		CAST(e.parents AS text)`
	ProcessColumns = `p.id, p.beat_at, p.lease_ms`

	// Of llm_idempotency, k, whose execution is gone.
	GoneColumns = `k.tenant, k.key, k.execution, k.status, k.cost, k.charge`
)

// Reader enters the rows that a batch reads into its state. The tenants that it has locked come first.
type Reader struct {
	State *book.State
	ID    func(*book.ID) any   // what a UUID is scanned into
	Time  func(*time.Time) any // what a time is scanned into; NULL leaves it zero

	// What the row at hand is scanned into, and the addresses of that: each row would else need them on the heap anew.
	id      book.ID
	window  string
	tenant  book.Tenant
	limit   book.Limit
	topUp   string
	ends    time.Time
	parents string
	balance [3]book.Balance // of the row of an anchor all three
	targets []any
}

// to collects what a row is scanned into.
func (r *Reader) to(targets ...any) []any {
	r.targets = append(r.targets[:0], targets...)
	return r.targets
}

// NewState returns a state without anything in it.
func NewState() *book.State {
	return &book.State{
		Tenants: map[book.ID]*book.Tenant{}, Busy: map[book.ID]bool{}, Keys: map[string]book.ID{},
		Executions: map[book.ExecutionKey]*book.Execution{}, Idempotent: map[book.IdempotencyKey]*book.Execution{},
		Processes: map[book.ID]book.Process{},
	}
}

// Locked enters the id of a tenant whose anchor is locked. That of the defaults, who have no anchor, says that none is. What
// else is in the row goes to more.
func (r *Reader) Locked(row sqldb.Row, more ...any) error {
	if err := row.Scan(append(r.to(r.ID(&r.id)), more...)...); err != nil {
		return err
	}
	if r.id != book.Defaults {
		r.State.Tenants[r.id] = &book.Tenant{ID: r.id}
	}
	return nil
}

// Tenant enters TenantColumns. What it returns is there until the next row.
func (r *Reader) Tenant(row sqldb.Row) (*book.Tenant, error) {
	t := &r.tenant
	*t = book.Tenant{}
	err := row.Scan(r.to(r.ID(&t.ID), &t.Key, &t.OwnerType, &t.OwnerID, &t.Enforcement, &t.Counts, &t.Inherit, &t.Zone, &t.Suspended, &t.Deleted,
		r.ID(&t.Parent))...)
	if err != nil {
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
		*locked = *t
	}
	return t, nil
}

// Limit enters LimitColumns.
func (r *Reader) Limit(row sqldb.Row) error {
	l := &r.limit
	*l, r.ends = book.Limit{}, time.Time{}
	err := row.Scan(r.to(r.ID(&r.id), &r.window, &l.Agent, &l.Model, &l.Metric, &r.topUp, r.Time(&r.ends), &l.Max)...)
	if err != nil {
		return err
	}
	if l.Window, err = period.ParseWindow(r.window); err != nil {
		return err
	}
	t := r.State.Tenants[r.id]
	if r.id == book.Defaults {
		t = &r.State.Defaults
	}
	switch {
	case t == nil:
	case r.topUp != "":
		t.TopUps = append(t.TopUps, book.TopUp{Limit: *l, Key: r.topUp, Ends: r.ends})
	default:
		t.Limits = append(t.Limits, *l)
	}
	return nil
}

// Balance enters BalanceColumns. What else is in the row goes to more. It returns the tenant, nil where that is not locked.
func (r *Reader) Balance(row sqldb.Row, more ...any) (*book.Tenant, error) {
	b := &r.balance[0]
	*b = book.Balance{}
	r.targets = append(r.targets[:0], r.ID(&r.id), &r.window, &b.Agent, &b.Model)
	for i := range r.balance {
		b := &r.balance[i]
		b.Start, b.End = time.Time{}, time.Time{}
		r.targets = append(r.targets, r.Time(&b.Start), r.Time(&b.End),
			&b.Spent.Cost, &b.Spent.Charge, &b.Spent.Tokens, &b.Spent.Calls, &b.Held.Cost, &b.Held.Charge, &b.Held.Tokens, &b.Held.Calls)
	}
	err := row.Scan(append(r.targets, more...)...)
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
		for i, s := range book.Standing {
			r.balance[i].Scope = s
		}
		t.Balances = append(t.Balances, r.balance[:]...)
	default:
		t.Balances = append(t.Balances, *b)
	}
	return t, nil
}

// Sort orders what was entered where the decision goes by the order: of two limits that are passed, the first is told.
func (r *Reader) Sort() {
	for _, t := range r.State.Tenants {
		slices.SortFunc(t.Limits, compare)
		slices.SortFunc(t.TopUps, func(a, b book.TopUp) int { return cmp.Or(compare(a.Limit, b.Limit), cmp.Compare(a.Key, b.Key)) })
	}
	slices.SortFunc(r.State.Defaults.Limits, compare)
}

func compare(a, b book.Limit) int {
	return cmp.Or(cmp.Compare(a.Window.String(), b.Window.String()), cmp.Compare(a.Agent, b.Agent), cmp.Compare(a.Model, b.Model),
		cmp.Compare(a.Metric, b.Metric))
}

// Execution enters ExecutionColumns of an execution that was asked for by id.
func (r *Reader) Execution(row sqldb.Row) error {
	e, err := r.execution(row)
	if err != nil {
		return err
	}
	r.State.Executions[book.ExecutionKey{Tenant: e.Tenant, ID: e.ID}] = e
	return nil
}

// Idempotent enters ExecutionColumns of the execution that has an idempotency key. One that was read by its id already
// is the same one.
func (r *Reader) Idempotent(row sqldb.Row) error {
	e, err := r.execution(row)
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
	if err := row.Scan(r.to(r.ID(&e.Tenant), &e.IdempotencyKey, r.ID(&e.ID), &e.Status, &e.Charged.Cost, &e.Charged.Charge)...); err != nil {
		return err
	}
	r.State.Idempotent[book.IdempotencyKey{Tenant: e.Tenant, Key: e.IdempotencyKey}] = &e
	return nil
}

func (r *Reader) execution(row sqldb.Row) (*book.Execution, error) {
	var e book.Execution
	err := row.Scan(r.to(r.ID(&e.Tenant), r.ID(&e.ID), &e.TenantKey, &e.Status, &e.Agent, &e.Provider, &e.Model, &e.BilledModel,
		&e.RequestID, &e.IdempotencyKey, r.ID(&e.Process), r.Time(&e.AdmittedAt), r.Time(&e.DeadlineAt), r.Time(&e.FinishedAt),
		r.Time(&e.SettledAt), &e.Held.Cost, &e.Held.Charge, &e.Held.Tokens, &e.Charged.Cost, &e.Charged.Charge, &e.Charged.Tokens, &e.Charged.Calls, &e.Reported,
		&e.Estimated, &e.Unpriced, &r.parents)...)
	if err != nil {
		return nil, err
	}
	e.Held.Calls = 1
	e.Ancestors, err = sqldb.ParseIDs(r.parents)
	return &e, err
}

// Process enters ProcessColumns.
func (r *Reader) Process(row sqldb.Row) error {
	var (
		p     book.Process
		lease int64
	)
	if err := row.Scan(r.to(r.ID(&p.ID), r.Time(&p.BeatAt), &lease)...); err != nil {
		return err
	}
	p.Lease = time.Duration(lease) * time.Millisecond
	r.State.Processes[p.ID] = p
	return nil
}
