package postgres_test

import (
	"database/sql"
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
