package decide_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/period"
)

// database keeps the books between batches as a real one does: it hands out copies, and it refuses effects that do not
// fit what it holds.
type database struct {
	t          require.TestingT
	now        time.Time
	config     decide.Config
	defaults   book.Tenant
	tenants    map[book.ID]*book.Tenant
	busy       map[book.ID]bool
	executions map[book.ExecutionKey]book.Execution
	hours      map[book.HourKey]book.HourSum
	processes  map[book.ID]book.Process
}

var (
	acme   = book.ID{0: 0xac}
	globex = book.ID{0: 0x61}
	group  = book.ID{0: 0x90}

	noon = time.Date(2026, time.March, 10, 12, 0, 0, 0, time.UTC)
)

const lease = time.Minute

// id is the id of the nth execution or process.
func id(n int) book.ID { return book.ID{14: byte(n >> 8), 15: byte(n)} }

func newDatabase(t require.TestingT) *database {
	db := &database{
		t: t, now: noon,
		defaults: book.Tenant{Counts: book.CountsCost},
		config: decide.Config{
			Zone: func(name string) *time.Location {
				location, err := time.LoadLocation(name)
				require.NoError(t, err)
				return location
			},
			WeekStart: time.Monday,
		},
		tenants: map[book.ID]*book.Tenant{}, busy: map[book.ID]bool{}, executions: map[book.ExecutionKey]book.Execution{},
		hours: map[book.HourKey]book.HourSum{}, processes: map[book.ID]book.Process{},
	}
	db.beat()
	return db
}

// beat renews the lease of process 0, whose executions are all those that say no other.
func (db *database) beat() {
	db.processes[id(0)] = book.Process{ID: id(0), BeatAt: db.now, Lease: lease}
}

// tenant adds one with the standing balances, unused.
func (db *database) tenant(tenant book.ID, key string, enforcement book.Enforcement, limits ...book.Limit) *book.Tenant {
	t := &book.Tenant{ID: tenant, Key: key, OwnerType: "orgs", OwnerID: "1", Enforcement: enforcement, Inherit: true, Limits: limits}
	epoch := time.Unix(0, 0).UTC()
	for _, s := range book.Standing {
		b := book.Balance{Scope: s, Start: epoch, End: epoch}
		if s.Window == period.Total {
			b.End = time.Time{}
		}
		t.Balances = append(t.Balances, b)
	}
	db.tenants[tenant] = t
	return t
}

// limit sets a limit. A scope that has no balance yet gets one in the next batch.
func (db *database) limit(t *book.Tenant, l book.Limit) {
	i := slices.IndexFunc(t.Limits, func(o book.Limit) bool { return o.Scope == l.Scope && o.Metric == l.Metric })
	if i >= 0 {
		t.Limits[i] = l
	} else {
		t.Limits = append(t.Limits, l)
	}
}

// fill gives new balances what their windows have seen, as a store does.
func (db *database) fill(s *book.State) {
	for _, sum := range decide.Missing(db.config, s) {
		latest := sum.Start
		for _, e := range db.executions {
			if e.Status != book.Cancelled && counts(&e, sum.Tenant) && e.AdmittedAt.After(latest) {
				latest = e.AdmittedAt
			}
		}
		if !sum.End.IsZero() && !latest.Before(sum.End) {
			sum.Open(latest)
		}
		sum.Spent, sum.Held = db.sums(sum.Tenant, sum.Balance)
	}
}

// counts reports whether a tenant's balances count an execution.
func counts(e *book.Execution, tenant book.ID) bool {
	return e.Tenant == tenant || slices.Contains(e.Ancestors, tenant)
}

// sums adds up the executions that a balance has to count.
func (db *database) sums(tenant book.ID, b *book.Balance) (spent, held book.Amount) {
	for _, e := range db.executions {
		if !counts(&e, tenant) || !b.Covers(e.Agent, e.Model) || !b.Holds(e.AdmittedAt) {
			continue
		}
		if e.Status == book.Running {
			held = held.Plus(e.Held)
		} else {
			spent = spent.Plus(e.Charged)
		}
	}
	return spent, held
}

// run decides a batch, writes it and checks the books.
func (db *database) run(ops ...*decide.Op) []decide.Outcome {
	state := db.read(ops)
	db.fill(state)
	out, effects := decide.Batch(db.config, state, ops)
	require.Len(db.t, out, len(ops))
	db.write(&effects)
	db.check()
	return out
}

// codes is run for those who want to know no more.
func (db *database) codes(ops ...*decide.Op) []decide.Code {
	var codes []decide.Code
	for _, o := range db.run(ops...) {
		codes = append(codes, o.Code)
	}
	return codes
}

// read copies everything that the operations concern.
func (db *database) read(ops []*decide.Op) *book.State {
	s := &book.State{
		Now: db.now, Defaults: db.defaults, Keys: map[string]book.ID{},
		Tenants: map[book.ID]*book.Tenant{}, Busy: map[book.ID]bool{}, Executions: map[book.ExecutionKey]*book.Execution{},
		Idempotent: map[book.IdempotencyKey]*book.Execution{}, Processes: map[book.ID]book.Process{},
	}
	s.Defaults.Limits = slices.Clone(db.defaults.Limits)
	for tenant, t := range db.tenants {
		if t.Key != "" {
			s.Keys[t.Key] = tenant
		}
		if db.busy[tenant] {
			s.Busy[tenant] = true
			continue
		}
		c := *t
		c.Limits, c.TopUps, c.Balances = slices.Clone(t.Limits), slices.Clone(t.TopUps), slices.Clone(t.Balances)
		s.Tenants[tenant] = &c
	}
	asked := map[string]bool{}
	for _, op := range ops {
		asked[op.Exec.IdempotencyKey] = true
		tenant := op.Exec.Tenant
		if op.ByKey() {
			tenant = s.Keys[op.Key]
		}
		key := book.ExecutionKey{Tenant: tenant, ID: op.Exec.ID}
		if e, ok := db.executions[key]; ok {
			s.Executions[key] = &e
			s.Processes[e.Process] = db.processes[e.Process]
		}
	}
	for key, e := range db.executions {
		if !live(&e) || e.IdempotencyKey == "" || !asked[e.IdempotencyKey] {
			continue
		}
		holder := &e
		if same := s.Executions[key]; same != nil {
			holder = same
		}
		s.Idempotent[book.IdempotencyKey{Tenant: e.Tenant, Key: e.IdempotencyKey}] = holder
	}
	return s
}

// live reports whether an execution keeps its idempotency key from others.
func live(e *book.Execution) bool {
	return e.Status == book.Running || e.Status == book.Succeeded || e.Status == book.Abandoned || e.Status == book.Adjusted
}

func (db *database) write(eff *book.Effects) {
	for _, u := range eff.Update {
		key := book.ExecutionKey{Tenant: u.Tenant, ID: u.ID}
		was, ok := db.executions[key]
		require.True(db.t, ok, "update of an execution that is not there")
		require.Equal(db.t, u.From, was.Status, "update of an execution from another status")
		require.True(db.t, was.SettledAt.IsZero(), "update of an execution that is settled")
		db.executions[key] = *u.Execution
	}
	for _, e := range eff.Insert {
		key := book.ExecutionKey{Tenant: e.Tenant, ID: e.ID}
		require.NotContains(db.t, db.executions, key, "insert of an execution that is there")
		db.executions[key] = *e
	}
	for _, row := range eff.Balances {
		t := db.tenants[row.Tenant.ID]
		for _, written := range []*book.Balance{row.Balance, row.Day, row.Month} {
			if written != nil {
				written.New = false
				*t.Balance(written.Scope) = *written
			}
		}
	}
	if eff.Empty() {
		return // nobody writes for refusals alone
	}
	for key, sum := range eff.Hours {
		was := db.hours[key]
		was.Errors, was.Refusals = was.Errors+sum.Errors, was.Refusals+sum.Refusals
		was.Estimated, was.Unpriced = was.Estimated+sum.Estimated, was.Unpriced+sum.Unpriced
		was.Charged, was.Usage = was.Charged.Plus(sum.Charged), was.Usage.Plus(sum.Usage)
		was.Timed, was.LatencyUS = was.Timed+sum.Timed, was.LatencyUS+sum.LatencyUS
		for _, c := range sum.Latencies {
			was.Latencies.Add(c.Bucket, c.Calls)
		}
		db.hours[key] = was
	}
}

// check holds the books to the executions: balances and roll-up are their sums, nothing is negative, and no idempotency
// key is used twice.
func (db *database) check() {
	for tenant, t := range db.tenants {
		for i := range t.Balances {
			b := &t.Balances[i]
			spent, held := db.sums(tenant, b)
			if b.Spent == spent && b.Held == held && spent.Cost >= 0 && spent.Charge >= 0 && spent.Tokens >= 0 && held.Cost >= 0 && held.Charge >= 0 && held.Tokens >= 0 {
				continue
			}
			require.Fail(db.t, "a balance is not the sum of its executions", "%s %+v: executions say spent %v, held %v", t.Key, *b, spent, held)
		}
	}
	hours := map[book.HourKey]book.HourSum{}
	used := map[book.IdempotencyKey]bool{}
	for _, e := range db.executions {
		if e.IdempotencyKey != "" && live(&e) {
			key := book.IdempotencyKey{Tenant: e.Tenant, Key: e.IdempotencyKey}
			require.False(db.t, used[key], "idempotency key %q is used twice", e.IdempotencyKey)
			used[key] = true
		}
		if e.Status == book.Running || e.Status == book.Cancelled {
			require.Zero(db.t, e.Charged)
			require.Zero(db.t, e.Usage)
			continue
		}
		key := book.HourKey{
			Tenant: e.Tenant, Hour: e.AdmittedAt.Truncate(time.Hour).UTC(), Agent: e.Agent, Model: e.Model, BilledModel: e.BilledModel,
			Provider: e.Provider, ServiceTier: e.ServiceTier,
		}
		for _, tenant := range append([]book.ID{e.Tenant}, e.Ancestors...) {
			key.Tenant, key.Below = tenant, tenant != e.Tenant
			sum := hours[key]
			for to, is := range map[*int64]bool{
				&sum.Errors: e.Status == book.Failed, &sum.Estimated: e.Estimated, &sum.Unpriced: e.Unpriced, &sum.Timed: e.Latency > 0,
			} {
				if is {
					*to++
				}
			}
			if e.Latency > 0 {
				sum.LatencyUS += e.Latency.Microseconds()
				sum.Latencies.Add(book.LatencyBucket(e.Latency.Microseconds()), 1)
			}
			sum.Charged, sum.Usage = sum.Charged.Plus(e.Charged), sum.Usage.Plus(e.Usage)
			hours[key] = sum
		}
	}
	for key, got := range db.hours {
		got.Refusals = 0
		require.Equal(db.t, hours[key], got, "the hour %v is not the sum of its executions", key)
		delete(hours, key)
	}
	require.Empty(db.t, hours, "executions are in no hour")
}

// execution returns a row as it is stored.
func (db *database) execution(n int) book.Execution {
	e, ok := db.executions[book.ExecutionKey{Tenant: acme, ID: id(n)}]
	require.True(db.t, ok, "there is no execution %d", n)
	return e
}

// balance returns acme's balance of a scope.
func (db *database) balance(s book.Scope) book.Balance {
	for _, b := range db.tenants[acme].Balances {
		if b.Scope == s {
			return b
		}
	}
	require.Fail(db.t, fmt.Sprintf("there is no balance %v", s))
	return book.Balance{}
}
