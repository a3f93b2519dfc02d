package postgres_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/internal/store/postgres"
	"github.com/llmtenant/tenant/internal/store/storetest"
)

// A call has a reserve and a settle, each a batch of its own.
func callFor(b *storetest.Books, id book.ID) {
	b.Helper()
	reserve := storetest.Reserve(id, book.Amount{Cost: 2})
	reserve.Exec.Agent = "support"
	require.Equal(b, []decide.Code{decide.Granted}, b.Decide(reserve))
	settle := storetest.Settle(reserve, book.Amount{Cost: 1, Tokens: 1, Calls: 1})
	require.Equal(b, []decide.Code{decide.Settled}, b.Decide(settle))
}

func TestGeneration_AllRowsOfATenantMoveOnTogether(t *testing.T) {
	t.Parallel()
	b := books(t)
	week := book.Scope{Window: period.Week, Agent: "support"}
	other := book.Scope{Window: period.Hour, Agent: "another"} // that no call changes
	id := b.Tenant("acme", book.Limit{Scope: week, Metric: book.Cost, Max: 1e6}, book.Limit{Scope: other, Metric: book.Cost, Max: 1e6})
	const calls = 100
	second := b.NewSession()
	for i := range calls {
		callFor(b, id)
		if i%7 == 0 { // another process
			b.Session, second = second, b.Session
		}
		generation := b.Int(`SELECT written / 64 FROM llm_balances WHERE tenant = $1 AND window_unit = 'total'`, id.String())
		require.EqualValues(t, 2*(i+1)/64, generation)
		require.EqualValues(t, 3, b.Int(`SELECT count(*) FROM llm_balances WHERE tenant = $1 AND generation = $2`, id.String(), generation))
		require.EqualValues(t, 3, b.Int(`SELECT count(*) FROM llm_balances WHERE tenant = $1`, id.String()))
		require.EqualValues(t, 1, b.Int(`SELECT count(*) FROM llm_usage WHERE tenant = $1`, id.String()), "the roll-up moves too, and stays one row")
		require.EqualValues(t, i+1, b.Int(`SELECT calls FROM llm_usage WHERE tenant = $1`, id.String()))
	}
	b.Conserved(id)
	s := b.Read(&book.Want{Tenants: []book.ID{id}})
	require.Len(t, s.Tenants[id].Balances, 5)
	require.EqualValues(t, calls, s.Tenants[id].Balance(week).Spent.Cost)
}

func TestGeneration_OfWhomIsOnlyRefusedMovesOnToo(t *testing.T) {
	t.Parallel()
	b := books(t)
	busy, refused := b.Tenant("busy"), b.Tenant("refused", book.Limit{Scope: book.Day, Metric: book.Cost, Max: 0})
	const batches = 70
	for range batches {
		require.Equal(t, []decide.Code{decide.Granted, decide.Exceeded},
			b.Decide(storetest.Reserve(busy, book.Amount{Cost: 1}), storetest.Reserve(refused, book.Amount{Cost: 1})))
	}
	require.EqualValues(t, batches, b.Int(`SELECT refusals FROM llm_usage WHERE tenant = $1`, refused.String()))
	require.EqualValues(t, 1, b.Int(`SELECT generation FROM llm_usage WHERE tenant = $1`, refused.String()))
	require.EqualValues(t, batches, b.Int(`SELECT written FROM llm_balances WHERE tenant = $1`, refused.String()))
}

// Without generations, what a batch looks up beside an open snapshot grows with the calls since that was taken.
func TestGeneration_AnOpenSnapshotDoesNotMakeALookupLonger(t *testing.T) {
	t.Parallel()
	b := books(t)
	id := b.Tenant("acme", book.Limit{Scope: book.Scope{Window: period.Week}, Metric: book.Cost, Max: 1e6})
	callFor(b, id)

	snapshot, err := b.DB.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	require.NoError(t, err)
	defer func() { require.NoError(t, snapshot.Rollback()) }()
	var seen int64
	require.NoError(t, snapshot.QueryRowContext(t.Context(), `SELECT spent_cost FROM llm_balances WHERE tenant = $1 AND window_unit = 'total'`, id).Scan(&seen))
	require.EqualValues(t, 1, seen)

	const calls = 700 // 1,400 versions of two rows, and 700 of the roll-up's
	for range calls {
		callFor(b, id)
	}
	b.Conserved(id)
	b.Exec(`ANALYZE llm_balances, llm_usage`) // with statistics a planner knows that there are few rows, and not of how many versions
	for name, query := range postgres.Lookups() {
		pages := pagesOf(t.Context(), b, query, id)
		require.Less(t, pages, 40.0, name) // those of a generation, of which a page holds a dozen versions or more
	}
	all := pagesOf(t.Context(), b, `SELECT * FROM llm_balances WHERE tenant = ANY($1::uuid[])`, id)
	require.Greater(t, all, 80.0, "the snapshot does keep the versions")
	require.NoError(t, snapshot.QueryRowContext(t.Context(), `SELECT spent_cost FROM llm_balances WHERE tenant = $1 AND window_unit = 'total'`, id).Scan(&seen))
	require.EqualValues(t, 1, seen, "and sees what it saw")
}

// pagesOf returns how many pages a query looks at.
func pagesOf(ctx context.Context, b *storetest.Books, query string, id book.ID) float64 {
	b.Helper()
	conn, err := b.DB.Conn(ctx)
	require.NoError(b, err)
	defer func() { require.NoError(b, conn.Close()) }()
	for _, setting := range []string{"enable_seqscan", "enable_sort", "enable_bitmapscan"} { // as in a batch
		_, err = conn.ExecContext(ctx, `SET `+setting+` = off`)
		require.NoError(b, err)
	}
	defer func() {
		_, err := conn.ExecContext(ctx, `RESET ALL`)
		require.NoError(b, err)
	}()
	var text string
	require.NoError(b, conn.QueryRowContext(ctx, `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `+query, "{"+id.String()+"}").Scan(&text))
	var explained []struct {
		Plan struct {
			Hit  float64 `json:"Shared Hit Blocks"`
			Read float64 `json:"Shared Read Blocks"`
		}
	}
	require.NoError(b, json.Unmarshal([]byte(text), &explained))
	return explained[0].Plan.Hit + explained[0].Plan.Read
}

func TestUpdates_FindEachRowByItsKey(t *testing.T) {
	t.Parallel()
	b := books(t)
	id := b.Tenant("acme")
	explain := func(when string) {
		conn, err := b.DB.Conn(t.Context())
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close()) }()
		exec := func(statement string) {
			_, err := conn.ExecContext(t.Context(), statement)
			require.NoError(t, err)
		}
		for _, setting := range []string{"enable_seqscan = off", "enable_sort = off", "enable_bitmapscan = off", "plan_cache_mode = force_generic_plan"} {
			exec(`SET ` + setting) // as in a batch
		}
		defer exec(`RESET ALL`)
		for statement, arguments := range postgres.Updates() {
			exec(`PREPARE write AS ` + statement)
			var plan string
			rows, err := conn.QueryContext(t.Context(), `EXPLAIN EXECUTE write (`+strings.TrimSuffix(strings.Repeat("NULL, ", arguments), ", ")+`)`)
			require.NoError(t, err)
			defer func() { _ = rows.Close() }() // at the latest
			for rows.Next() {
				var line string
				require.NoError(t, rows.Scan(&line))
				plan += line + "\n"
			}
			require.NoError(t, rows.Err())
			exec(`DEALLOCATE write`)
			require.Contains(t, plan, "Tid Scan", when)
			require.NotContains(t, plan, "Seq Scan", when)
			require.NotContains(t, plan, "Hash Join", when)
			require.NotContains(t, plan, "Merge Join", when)
		}
	}
	explain("empty tables, without statistics")
	b.Exec(`INSERT INTO llm_executions (tenant, id, tenant_id, status, process, admitted_at, deadline_at)
		SELECT $1, gen_random_uuid(), 'acme', 'running', $1, now(), now() FROM generate_series(1, 50000)`, id)
	b.Exec(`INSERT INTO llm_balances (tenant, window_unit) SELECT gen_random_uuid(), 'total' FROM generate_series(1, 5000)`)
	b.Exec(`INSERT INTO llm_usage (tenant, hour) SELECT gen_random_uuid(), now() FROM generate_series(1, 5000)`)
	explain("many rows, without statistics")
	b.Exec(`ANALYZE llm_executions, llm_balances, llm_usage, llm_usage_units`)
	explain("many rows, with statistics")
}
