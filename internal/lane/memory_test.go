package lane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/internal/store"
)

// memory is a store that keeps the books in memory, and fails as a test tells it to.
type memory struct {
	mu         sync.Mutex
	now        time.Time
	tenant     book.Tenant // the only one; its key is "acme"
	executions map[book.ExecutionKey]book.Execution
	hours      map[book.HourKey]book.HourSum
	locked     bool        // somebody else has the tenant's anchor
	others     bool        // other processes are alive
	batches    []book.Want // those that were tried
	sizes      []int
	rehearsals int // the calls whose booking was rehearsed
	beats      int
	full       bool // no further connection is to be had
	denied     int  // connections

	// before and after are called around each commit; their error is the batch's. After before's, nothing was done; after
	// after's, everything was.
	before, after func(want *book.Want, e *book.Effects) error
}

var (
	errConflict    = errors.New("conflict")
	errLocked      = errors.New("locked")
	errUnavailable = errors.New("unavailable")
	errAway        = fmt.Errorf("%w: %w", fault.ErrConnect, errUnavailable)
	errFatal       = errors.New("fatal")
	errNotMigrated = errors.New("not migrated")
)

func newMemory(limit int64) *memory {
	id := book.NewID()
	m := &memory{
		now:        time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC),
		tenant:     book.Tenant{ID: id, Key: "acme", Enforcement: book.Hard},
		executions: map[book.ExecutionKey]book.Execution{}, hours: map[book.HourKey]book.HourSum{},
	}
	m.tenant.Limits = []book.Limit{{Scope: book.Scope{Window: period.Day}, Metric: book.Calls, Max: limit}}
	for _, s := range book.Standing {
		b := book.Balance{Scope: s, Start: time.Unix(0, 0), End: time.Unix(0, 0)}
		if s == book.Anchor {
			b.End = time.Time{}
		}
		m.tenant.Balances = append(m.tenant.Balances, b)
	}
	return m
}

func (m *memory) Session() store.Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.full {
		return denied{m}
	}
	return m
}

// denied is a session without a connection.
type denied struct{ *memory }

func (d denied) Do(context.Context, func(context.Context, sqldb.Conn) error) error {
	d.set(func() { d.denied++ })
	return errAway
}

func (m *memory) Close() error { return nil }

func (m *memory) Classify(err error) fault.Class {
	switch {
	case errors.Is(err, errConflict):
		return fault.Conflict
	case errors.Is(err, errLocked):
		return fault.Locked
	case errors.Is(err, errNotMigrated):
		return fault.NotMigrated
	case errors.Is(err, errUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fault.Unavailable
	}
	return fault.Fatal
}

func (m *memory) Batch(ctx context.Context, want *book.Want, decide func(*book.State) book.Effects) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	m.batches = append(m.batches, *want)
	if m.locked && !want.NoWait {
		return errLocked
	}
	t := m.tenant
	t.Balances = slices.Clone(t.Balances)
	s := &book.State{
		Now: m.now, Keys: map[string]book.ID{t.Key: t.ID}, Tenants: map[book.ID]*book.Tenant{},
		Busy: map[book.ID]bool{}, Executions: map[book.ExecutionKey]*book.Execution{},
		Idempotent: map[book.IdempotencyKey]*book.Execution{}, Processes: map[book.ID]book.Process{},
	}
	if m.locked {
		s.Busy[t.ID] = true
	} else {
		s.Tenants[t.ID] = &t
	}
	s.Tenants[book.NoTenant] = &book.Tenant{Balances: []book.Balance{{Scope: book.Anchor}}}
	for _, k := range want.Executions {
		if e, ok := m.executions[k]; ok {
			s.Executions[k] = &e
		}
	}
	effects := decide(s)
	if effects.Empty() {
		return nil
	}
	if m.before != nil {
		if err := m.before(want, &effects); err != nil {
			return err
		}
	}
	var rehearsed book.Effects
	if want.Rehearse != nil {
		for i, row := range effects.Balances { // what is rehearsed changes the state, and these are of it
			effects.Balances[i].Balance, effects.Balances[i].Day, effects.Balances[i].Month = clone(row.Balance), clone(row.Day), clone(row.Month)
		}
		rehearsed = want.Rehearse(s)
		m.rehearsals += len(rehearsed.Update)
	}
	if m.before != nil && !rehearsed.Empty() {
		if err := m.before(want, &rehearsed); err != nil {
			return err
		}
	}
	m.sizes = append(m.sizes, len(effects.Insert)+len(effects.Update))
	for _, e := range effects.Insert {
		key := book.ExecutionKey{Tenant: e.Tenant, ID: e.ID}
		if _, there := m.executions[key]; there {
			return errFatal
		}
		m.executions[key] = *e
	}
	for _, u := range effects.Update {
		m.executions[book.ExecutionKey{Tenant: u.Tenant, ID: u.ID}] = *u.Execution
	}
	for _, b := range effects.Balances {
		for _, balance := range []*book.Balance{b.Balance, b.Day, b.Month} {
			if balance != nil && b.Tenant.ID == m.tenant.ID {
				*m.tenant.Balance(balance.Scope) = *balance
			}
		}
	}
	for k, h := range effects.Hours {
		sum := m.hours[k]
		sum.Refusals += h.Refusals
		sum.Charged = sum.Charged.Plus(h.Charged)
		m.hours[k] = sum
	}
	if m.after != nil {
		return m.after(want, &effects)
	}
	return nil
}

func clone(b *book.Balance) *book.Balance {
	if b == nil {
		return nil
	}
	c := *b
	return &c
}

func (m *memory) Do(ctx context.Context, do func(context.Context, sqldb.Conn) error) error {
	return do(ctx, nil)
}

func (m *memory) held() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tenant.Balance(book.Scope{Window: period.Day}).Held.Calls
}

// Beat, Lapsed and Leave implement Processes.
func (m *memory) Beat(context.Context, sqldb.Conn, book.Process) (all []book.Process, now time.Time, err error) {
	if m.others {
		all = append(all, book.Process{ID: book.NewID(), BeatAt: m.now, Lease: time.Hour})
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.beats++
	return all, m.now, nil
}

func (m *memory) Lapsed(context.Context, []book.Process, int) ([]book.Execution, error) {
	return nil, nil
}
func (m *memory) Leave(context.Context, book.ID) error { return nil }
func (m *memory) set(change func())                    { m.mu.Lock(); defer m.mu.Unlock(); change() }
func (m *memory) statuses() (out map[book.Status]int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out = map[book.Status]int{}
	for _, e := range m.executions {
		out[e.Status]++
	}
	return out
}
