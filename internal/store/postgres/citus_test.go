package postgres_test

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/pgtest"
	"github.com/llmtenant/tenant/internal/store"
	"github.com/llmtenant/tenant/internal/store/postgres"
	"github.com/llmtenant/tenant/internal/store/storetest"
)

// onCitus opens a store on a schema of Citus, through the coordinator or straight to its node.
func onCitus(straight bool) storetest.Open {
	return func(t testing.TB) (store.Store, *sql.DB) {
		t.Helper()
		_, dsn, node := pgtest.CitusSchema(t)
		if straight {
			dsn = node
		}
		db := pool(t, dsn)
		s, err := postgres.New(db)
		require.NoError(t, err)
		return s, db
	}
}

func TestStore_KeepsItsContractOnCitus(t *testing.T) {
	t.Parallel()
	pgtest.Citus(t)
	for name, straight := range map[string]bool{"through the coordinator": false, "straight to the node": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, onCitus(straight))
		})
	}
}

// Settings of a coordinator do not hold on its nodes, unless they are handed on.
func TestBatch_OnCitusDoesNotWaitForALockedTenant(t *testing.T) {
	t.Parallel()
	pgtest.Citus(t)
	for name, straight := range map[string]bool{"through the coordinator": false, "straight to the node": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, db := onCitus(straight)(t)
			b := storetest.New(t, s, db)
			stuck, free := b.Tenant("stuck"), b.Tenant("free")
			tx := hold(b, stuck)
			want := &book.Want{Keys: []string{"stuck", "free"}}
			err := b.Batch(want, func(*book.State) book.Effects { panic("not locked") })
			require.Equal(t, fault.Locked, s.Classify(err), "%v", err)

			want.NoWait = true
			require.NoError(t, b.Batch(want, func(s *book.State) book.Effects {
				require.Equal(t, map[book.ID]bool{stuck: true}, s.Busy)
				ops := []*decide.Op{{Key: "free", Exec: book.Execution{ID: storetest.ID()}}}
				_, eff := decide.Batch(decide.Config{Zone: func(string) *time.Location { return time.UTC }}, s, ops)
				return eff
			}))
			require.EqualValues(t, 1, b.Int(`SELECT count(*) FROM llm_executions WHERE tenant = $1`, free))
			require.NoError(t, tx.Rollback())
		})
	}
}

// What a session has written once it changes without looking whether it is there. Others may have taken it away.
func TestBatch_OnCitusAddsARowThatIsThereNoMore(t *testing.T) {
	t.Parallel()
	pgtest.Citus(t)
	s, db := onCitus(true)(t)
	b := storetest.New(t, s, db)
	id := b.Tenant("acme")
	calls := func() int64 {
		return b.Int(`SELECT coalesce(sum(calls), 0) FROM llm_usage WHERE tenant = $1`, id)
	}
	for range 3 {
		callFor(b, id)
	}
	require.EqualValues(t, 3, calls())
	b.Exec(`DELETE FROM llm_usage WHERE tenant = $1`, id)
	reserve := storetest.Reserve(id, book.Amount{Cost: 2})
	reserve.Exec.Agent = "support"
	require.Equal(t, []decide.Code{decide.Granted}, b.Decide(reserve))
	settle := storetest.Settle(reserve, book.Amount{Cost: 1, Tokens: 1, Calls: 1})
	_, err := storetest.Decide(t.Context(), b.Session, settle)
	require.Equal(t, fault.Conflict, s.Classify(err), "%v", err)
	require.Zero(t, calls())
	require.Equal(t, []decide.Code{decide.Settled}, b.Decide(settle), "as a lane does after a conflict")
	require.EqualValues(t, 1, calls())
	callFor(b, id)
	require.EqualValues(t, 2, calls())
}

// A plan that is kept names the node that it is for.
func TestBatch_OnCitusGoesWhereThePlaceIsAfterManyBatches(t *testing.T) {
	t.Parallel()
	name, coordinator, node := pgtest.CitusSchema(t)
	for way, dsn := range map[string]string{"through the coordinator": coordinator, "straight to the node": node} {
		db := pool(t, dsn)
		s, err := postgres.New(db)
		require.NoError(t, err, way)
		b := storetest.New(t, s, db)
		id := b.Tenant(way)
		const batches = 8 // a statement has a plan that is kept from its sixth time on
		for range batches {
			callFor(b, id)
		}
		admin := pool(t, coordinator)
		var host string
		var port int
		require.NoError(t, admin.QueryRowContext(t.Context(), `SELECT n.nodename, n.nodeport FROM pg_dist_node n WHERE n.shouldhaveshards AND n.isactive
			AND (n.nodename, n.nodeport) NOT IN (SELECT s.nodename, s.nodeport FROM citus_shards s WHERE s.table_name = $1::regclass) LIMIT 1`,
			name+".llm_balances").Scan(&host, &port), way)
		_, err = admin.ExecContext(t.Context(), fmt.Sprintf(`SELECT citus_schema_move('%s', '%s', %d, 'block_writes')`, name, host, port))
		require.NoError(t, err, way)
		for range batches {
			callFor(b, id)
		}
		b.Conserved(id)
		require.EqualValues(t, 2*batches, b.Int(`SELECT calls FROM llm_usage WHERE tenant = $1`, id), way)
	}
}
