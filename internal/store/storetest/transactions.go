package storetest

import (
	"context"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/internal/store"
)

// example is effects of every kind on a tenant.
func example(tenant book.ID) book.Effects {
	running, over := execution(tenant), execution(tenant)
	running.Status, over.IdempotencyKey = book.Running, "another"
	return book.Effects{
		Insert:   []*book.Execution{running, over},
		Balances: []book.BalanceRow{{Tenant: &book.Tenant{ID: tenant}, Balance: &book.Balance{Scope: book.Anchor, Spent: book.Amount{Cost: 7}}}},
		Hours:    map[book.HourKey]book.HourSum{over.Hour(): {Charged: over.Charged, Usage: over.Usage}},
	}
}

// written returns how many executions, roll-ups and changed balances there are.
func (b *Books) written() [3]int64 {
	b.Helper()
	return [3]int64{
		b.Int(`SELECT count(*) FROM llm_executions`), b.Int(`SELECT count(*) FROM llm_usage`),
		b.Int(`SELECT count(*) FROM llm_balances WHERE spent_cost <> 0`),
	}
}

func effectsAreAtomic(b *Books) {
	id := b.Tenant("acme")
	eff := example(id)
	require.NoError(b, b.Write(eff))
	require.Equal(b, [3]int64{2, 1, 1}, b.written())

	more := example(id)
	more.Insert = append(more.Insert, eff.Insert[0]) // its id is taken
	require.Error(b, b.Write(more))
	require.Equal(b, [3]int64{2, 1, 1}, b.written())

	more.Insert = more.Insert[:2]
	more.Insert[0].IdempotencyKey, more.Insert[1].IdempotencyKey = "", ""
	require.NoError(b, b.Write(more), "the session goes on after an error")
	require.Equal(b, [3]int64{4, 1, 1}, b.written())
}

func emptyWritesNothing(b *Books) {
	id := b.Tenant("acme")
	hours := map[book.HourKey]book.HourSum{{Tenant: id, Hour: now.Truncate(time.Hour)}: {Refusals: 1}}
	require.NoError(b, b.Write(book.Effects{Hours: hours}))
	require.Equal(b, [3]int64{}, b.written())
}

func rehearsalIsUndone(b *Books) {
	id := b.Tenant("acme")
	reserve := func() (*book.Want, func(*book.State) book.Effects, *decide.Op) {
		op := Reserve(id, book.Amount{Cost: 5})
		want := &book.Want{
			Tenants: []book.ID{id},
			Missing: func(s *book.State) []book.Sum { return decide.Missing(config, s) },
			Rehearse: func(s *book.State) book.Effects {
				e := *s.Executions[book.ExecutionKey{Tenant: id, ID: op.Exec.ID}]
				s.Executions[book.ExecutionKey{Tenant: id, ID: op.Exec.ID}] = &e
				_, effects := decide.Batch(config, s, []*decide.Op{Settle(op, book.Amount{Cost: 7, Calls: 1})})
				return effects
			},
		}
		return want, func(s *book.State) book.Effects {
			_, effects := decide.Batch(config, s, []*decide.Op{op})
			return effects
		}, op
	}
	want, decision, first := reserve()
	require.NoError(b, b.Batch(want, decision))
	require.Equal(b, [3]int64{1, 0, 0}, b.written())
	require.EqualValues(b, 1, b.Int(`SELECT count(*) FROM llm_executions WHERE status = 'running'`))

	b.Exec(`ALTER TABLE llm_usage RENAME TO elsewhere`)
	want, decision, _ = reserve()
	err := b.Batch(want, decision)
	require.Equal(b, fault.NotMigrated, b.Store.Classify(err), "%v", err)
	want.Rehearse = func(*book.State) book.Effects { return book.Effects{} }
	require.NoError(b, b.Batch(want, decision), "nothing to rehearse is nothing that can fail")
	b.Exec(`ALTER TABLE elsewhere RENAME TO llm_usage`)
	require.Equal(b, [3]int64{2, 0, 0}, b.written(), "the one that failed left nothing")

	require.Equal(b, []decide.Code{decide.Settled}, b.Decide(Settle(first, book.Amount{Cost: 7, Calls: 1})), "it can be settled yet")
	require.EqualValues(b, 7, b.Int(`SELECT cost FROM llm_executions WHERE status = 'succeeded'`))
}

func sessionRunsStatements(b *Books) {
	id := b.Tenant("acme")
	var n int64
	count := func(ctx context.Context, c sqldb.Conn) error {
		return c.QueryRowContext(ctx, `SELECT count(*) FROM llm_tenants WHERE tenant_id = 'acme'`).Scan(&n)
	}
	require.NoError(b, b.Session.Do(b.Context(), count))
	require.EqualValues(b, 1, n)
	err := b.Session.Do(b.Context(), func(ctx context.Context, c sqldb.Conn) error {
		_, err := c.ExecContext(ctx, `SELECT 1 FROM nowhere`)
		return err
	})
	require.Equal(b, fault.NotMigrated, b.Store.Classify(err), "%v", err)
	ctx, cancel := context.WithCancel(b.Context())
	cancel()
	require.Equal(b, fault.Unavailable, b.Store.Classify(b.Session.Do(ctx, count)))
	require.NoError(b, b.Write(example(id)), "the session goes on")
	require.NoError(b, b.Session.Do(b.Context(), count))
}

func panicLeavesNothing(b *Books) {
	id := b.Tenant("acme")
	require.PanicsWithValue(b, "the decision", func() {
		_ = b.Batch(&book.Want{Tenants: []book.ID{id}}, func(*book.State) book.Effects { panic("the decision") })
	})
	other := b.NewSession() // would wait for what the first one left locked
	_, err := try(b.Context(), b, other, Reserve(id, book.Amount{Cost: 1}))
	require.NoError(b, err)
	require.NoError(b, b.Write(example(id)), "the session goes on")
	require.Equal(b, [3]int64{3, 1, 1}, b.written())
}

func cancelLeavesNothing(b *Books) {
	id := b.Tenant("acme")
	want := &book.Want{Tenants: []book.ID{id}}

	ctx, cancel := context.WithCancel(b.Context())
	cancel()
	err := b.Session.Batch(ctx, want, func(*book.State) book.Effects { return example(id) })
	require.ErrorIs(b, err, context.Canceled)
	require.Equal(b, fault.Unavailable, b.Store.Classify(err))

	ctx, cancel = context.WithCancel(b.Context())
	err = b.Session.Batch(ctx, want, func(*book.State) book.Effects {
		cancel()
		return example(id)
	})
	require.ErrorIs(b, err, context.Canceled)
	require.Equal(b, fault.Unavailable, b.Store.Classify(err))
	require.Equal(b, [3]int64{}, b.written())

	// While it waits for another session.
	ctx, cancel = context.WithCancel(b.Context())
	require.NoError(b, b.Batch(want, func(*book.State) book.Effects {
		done := make(chan error)
		other := b.NewSession()
		go func() {
			done <- other.Batch(ctx, want, func(*book.State) book.Effects { return example(id) })
		}()
		cancel()
		require.Error(b, <-done)
		return book.Effects{}
	}))
	require.Equal(b, [3]int64{}, b.written())

	require.NoError(b, b.Write(example(id)), "the session goes on")
	require.Equal(b, [3]int64{2, 1, 1}, b.written())
}

func decideNotCalledOnError(b *Books) {
	b.Exec(`ALTER TABLE llm_tenants RENAME TO elsewhere`)
	err := b.Batch(&book.Want{}, func(*book.State) book.Effects {
		b.Error("decide was called")
		return book.Effects{}
	})
	require.Error(b, err)
	require.Equal(b, fault.NotMigrated, b.Store.Classify(err))
	b.Exec(`ALTER TABLE elsewhere RENAME TO llm_tenants`)
	require.NoError(b, b.Write(book.Effects{}))
}

// LocksBeforeReads holds a store to the rule that a batch reads after it has locked: a limit that is lowered while the
// batch waits for its tenant counts. Waiting reports whether some transaction waits for a lock.
func LocksBeforeReads(b *Books, waiting func() bool) {
	for attempt := 0; ; attempt++ {
		id := b.Tenant(ID().String(), book.Limit{Scope: book.Scope{Window: period.Day}, Metric: book.Cost, Max: 1000})
		host, err := b.DB.BeginTx(b.Context(), nil)
		require.NoError(b, err)
		_, err = host.ExecContext(b.Context(), `UPDATE llm_balances SET spent_cost = spent_cost WHERE tenant = $1`, id.String())
		require.NoError(b, err)

		var outcomes []decide.Outcome
		wait := Waiting(waiting, func() (err error) {
			outcomes, err = Decide(b.Context(), b.Session, Reserve(id, book.Amount{Cost: 500}))
			return err
		})
		lowered := sqldb.Limits{Own: []book.Limit{{Scope: book.Scope{Window: period.Day}, Metric: book.Cost, Max: 400}}}
		_, err = host.ExecContext(b.Context(), `UPDATE llm_tenants SET limits = $1 WHERE id = $2`, lowered.String(), id.String())
		require.NoError(b, err)
		require.NoError(b, host.Commit())

		err = wait()
		if err != nil && attempt < 10 && b.Store.Classify(err) == fault.Locked {
			continue // this machine was too slow for the lock's timeout
		}
		require.NoError(b, err)
		require.Equal(b, decide.Exceeded, outcomes[0].Code, "the limit from before the wait was used")
		require.EqualValues(b, 400, outcomes[0].Limit.Max)
		return
	}
}

// Waiting starts a function that has to wait for a lock, and returns when it does, or when it has ended all the same.
// What it returns waits for its end.
func Waiting(waiting func() bool, run func() error) (wait func() error) {
	done := make(chan error, 1)
	go func() { done <- run() }()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for len(done) == 0 && !waiting() {
		<-again.C
	}
	return func() error { return <-done }
}

func parallelSessions(b *Books) {
	id := b.Tenant("acme")
	const callers, calls = 8, 10
	b.parallel(callers, func(_ int, s store.Session) error {
		for i := range calls {
			reserve := Reserve(id, book.Amount{Cost: 1000, Tokens: 50})
			if _, err := try(b.Context(), b, s, reserve); err != nil {
				return err
			}
			if _, err := try(b.Context(), b, s, Settle(reserve, book.Amount{Cost: int64(i) + 1, Tokens: 3, Calls: 1})); err != nil {
				return err
			}
		}
		return nil
	})
	require.EqualValues(b, callers*calls*(calls+1)/2, b.Int(`SELECT sum(spent_cost) FROM llm_balances WHERE tenant = $1 AND window_unit = 'total'`, id.String()))
	require.EqualValues(b, callers*calls, b.Int(`SELECT count(*) FROM llm_executions WHERE status = 'succeeded'`))
	b.Conserved(id)
}

// parallelTenants has batches that overlap in their tenants, asked for in opposite orders.
func parallelTenants(b *Books) {
	tenants := make([]book.ID, 12)
	for i := range tenants {
		tenants[i] = b.Tenant(ID().String())
	}
	b.parallel(6, func(n int, s store.Session) error {
		for range 5 {
			var reserves, settles []*decide.Op
			for i := range tenants {
				j := (i + 5*n) % len(tenants)
				if n%2 == 1 {
					j = len(tenants) - 1 - j
				}
				reserves = append(reserves, Reserve(tenants[j], book.Amount{Cost: 10, Tokens: 10}))
			}
			if _, err := try(b.Context(), b, s, reserves...); err != nil {
				return err
			}
			for i, reserve := range reserves {
				if i%4 == 3 {
					settles = append(settles, Release(reserve))
				} else {
					settles = append(settles, Settle(reserve, book.Amount{Cost: money.Add(9, int64(i)), Tokens: 12, Calls: 1}))
				}
			}
			if _, err := try(b.Context(), b, s, settles...); err != nil {
				return err
			}
		}
		return nil
	})
	for _, id := range tenants {
		b.Conserved(id)
	}
	require.EqualValues(b, 6*5*9, b.Int(`SELECT count(*) FROM llm_executions WHERE status = 'succeeded'`))
}
