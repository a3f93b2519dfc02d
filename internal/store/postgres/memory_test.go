package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/internal/store"
	"github.com/llmtenant/tenant/internal/store/storetest"
)

// What a session has seen of tenants is never taken for what is there: whoever writes it, and however, the next batch reads what a
// session reads that has seen nothing.
func TestMemory_IsWhatTheDatabaseSays(t *testing.T) {
	t.Parallel()
	b := books(t)
	var (
		ids  []book.ID
		want = &book.Want{Tenants: []book.ID{book.NoTenant}}
		dice = rand.New(rand.NewPCG(7, 9))
	)
	for i := range 9 {
		key := fmt.Sprintf("tenant %d", i)
		ids = append(ids, b.Tenant(key, book.Limit{Scope: book.Day, Metric: book.Cost, Max: 1e12}))
		want.Keys = append(want.Keys, key)
		want.Tenants = append(want.Tenants, ids[i])
	}
	b.Limit(ids[5], book.Limit{Scope: book.Scope{Window: period.Week, Agent: "support"}, Metric: book.Calls, Max: 1e6}) // a row of its own
	calls := func(s store.Session) func(book.ID) {
		return func(book.ID) { // one of each: of a few tenants, a session does not keep in mind what it writes
			var reserves, settles []*decide.Op
			for _, id := range ids {
				reserves = append(reserves, storetest.Reserve(id, book.Amount{Cost: 1000, Tokens: 10}))
			}
			outcomes, err := storetest.Decide(t.Context(), s, reserves...)
			require.NoError(t, err)
			for i, out := range outcomes {
				if out.Code == decide.Granted && dice.IntN(3) > 0 {
					settles = append(settles, storetest.Settle(reserves[i], book.Amount{Cost: 900, Tokens: 9, Calls: 1}))
				}
			}
			_, err = storetest.Decide(t.Context(), s, settles...)
			require.NoError(t, err)
		}
	}
	exec := func(statement string) func(book.ID) { return func(id book.ID) { b.Exec(statement, id.String()) } }
	changes := []func(book.ID){
		calls(b.Session), calls(b.Session), calls(b.Session), calls(b.NewSession()),
		exec(`UPDATE llm_balances SET spent_cost = spent_cost + 7 WHERE tenant = $1 AND window_unit = 'total'`), // and says nothing
		exec(`UPDATE llm_tenants SET suspended_at = CASE WHEN suspended_at IS NULL THEN now() END WHERE id = $1`),
		exec(`UPDATE llm_tenants SET tenant_id = tenant_id || '+' WHERE id = $1`),
		exec(`UPDATE llm_tenants SET time_zone = 'UTC', counts = 'cost' WHERE id = $1`),
		func(id book.ID) {
			b.Limit(id, book.Limit{Scope: book.Month, Metric: book.Tokens, Max: dice.Int64N(100)})
		},
		exec(`UPDATE llm_tenants SET parent = '` + ids[4].String() + `' WHERE id = $1 AND id <> '` + ids[4].String() + `'`),
		exec(`UPDATE llm_tenants SET parent = NULL WHERE id = $1`),
		func(book.ID) { b.Exec(`VACUUM FULL llm_balances`); b.Exec(`VACUUM FULL llm_tenants`) },
	}
	same := func(what any) {
		t.Helper()
		got := b.Read(want)
		seen := b.Session
		b.Session = b.NewSession()
		fresh := b.Read(want)
		require.NoError(t, b.Session.Close())
		b.Session = seen
		got.Now, fresh.Now = time.Time{}, time.Time{}
		require.Equal(t, fresh, got, "%v", what)
	}
	same("nothing")
	for i := range 120 {
		n := dice.IntN(len(changes))
		changes[n](ids[dice.IntN(len(ids))])
		same([2]int{i, n})
	}
	exec(`DELETE FROM llm_tenants WHERE id = $1`)(ids[0])
	same("a row of a tenant is gone")
	exec(`DELETE FROM llm_balances WHERE tenant = $1`)(ids[1])
	same("an anchor is gone")
	require.NotContains(t, b.Read(want).Tenants, ids[1])
}

func TestMemory_OfMoreTenantsThanItHasRoomFor(t *testing.T) {
	t.Parallel()
	b := books(t)
	const tenants, part = 3000, 750
	b.Exec(`INSERT INTO llm_tenants (id, tenant_id) SELECT gen_random_uuid(), 'tenant ' || i FROM generate_series(1, $1::int) i`, tenants)
	b.Exec(`INSERT INTO llm_balances (tenant, window_unit, window_end) SELECT id, 'total', NULL FROM llm_tenants`)
	for range 2 {
		for from := 1; from <= tenants; from += part {
			var ops []*decide.Op
			for i := range part {
				op := storetest.Reserve(book.NoTenant, book.Amount{Cost: 1})
				op.Key = fmt.Sprint("tenant ", from+i)
				ops = append(ops, op)
			}
			for _, code := range b.Decide(ops...) {
				require.Equal(t, decide.Granted, code)
			}
		}
	}
	require.EqualValues(t, tenants, b.Int(`SELECT count(*) FROM llm_balances WHERE held_calls = 2 AND day_held_calls = 2 AND held_cost = 2`))
}

func TestMemory_AnExecutionThatIsKnownIsNotReadAndItsEndIsAsserted(t *testing.T) {
	t.Parallel()
	b := books(t)
	id := b.Tenant("acme")
	begin := func() *book.Execution {
		op := storetest.Reserve(id, book.Amount{Cost: 5})
		outcomes, err := storetest.Decide(t.Context(), b.Session, op)
		require.NoError(t, err)
		require.NotZero(t, outcomes[0].Exec.Place)
		return outcomes[0].Exec
	}
	end := func(known *book.Execution) (code decide.Code, err error) {
		e := *known
		op := storetest.Settle(&decide.Op{Exec: e}, book.Amount{Cost: 4, Calls: 1})
		err = b.Batch(&book.Want{Tenants: []book.ID{id}, Known: []*book.Execution{&e}}, func(s *book.State) book.Effects {
			require.Same(t, &e, s.Executions[book.ExecutionKey{Tenant: id, ID: e.ID}])
			out, effects := decide.Batch(decide.Config{Zone: func(string) *time.Location { return time.UTC }}, s, []*decide.Op{op})
			code = out[0].Code
			return effects
		})
		return code, err
	}
	one, two := begin(), begin()
	code, err := end(one)
	require.NoError(t, err)
	require.Equal(t, decide.Settled, code)
	_, err = end(one)
	require.Equal(t, fault.Conflict, b.Store.Classify(err), "it is settled: %v", err)

	elsewhere := *two
	elsewhere.Place = one.Place
	_, err = end(&elsewhere)
	require.Equal(t, fault.Conflict, b.Store.Classify(err), "another one is there: %v", err)
	b.Exec(`UPDATE llm_executions SET actor = actor WHERE id = $1`, two.ID.String())
	_, err = end(two)
	require.Equal(t, fault.Conflict, b.Store.Classify(err), "it is not there any more: %v", err)
	require.EqualValues(t, 4, b.Int(`SELECT spent_cost FROM llm_balances WHERE tenant = $1`, id.String()))

	require.Equal(t, []decide.Code{decide.Settled}, b.Decide(storetest.Settle(&decide.Op{Exec: book.Execution{Tenant: id, ID: two.ID}}, book.Amount{Cost: 4, Calls: 1})))
	b.Conserved(id)
}
