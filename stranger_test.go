package tenant_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/pgtest"
	store "github.com/llmtenant/tenant/internal/store/postgres"
)

// The server ends a transaction whose process has nothing to say for 2 s, so that the others go on within 3 s.
func TestStoppedProcess_BetweenLockAndCommitLetsTheOthersGoOn(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	db := openAt(t, postgres.Open(dsn))
	ledger := openLedger(t, db)
	org := newOrganization(t, db, ledger, "acme", dollar, tenant.WithEnforcement(tenant.Hard))
	for range 3 {
		hold, err := ledger.Reserve(t.Context(), org, cent)
		require.NoError(t, err)
		_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.01")})
		require.NoError(t, err)
	}
	stopped := start(t, "locked", dsn)
	backend, ok := strings.CutPrefix(stopped.hear(t), "locked by ")
	require.True(t, ok)
	require.NoError(t, stopped.cmd.Process.Signal(syscall.SIGSTOP))

	began := time.Now()
	hold, err := ledger.Reserve(t.Context(), org, cent, tenant.WithWait(time.Minute))
	require.NoError(t, err)
	t.Logf("a call of another process on the same tenant was admitted after %v", time.Since(began).Round(time.Millisecond))
	_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.01")})
	require.NoError(t, err)
	var open int
	require.NoError(t, db.Raw(`SELECT count(*) FROM pg_locks WHERE pid = CAST(? AS int)`, backend).Scan(&open).Error)
	require.Zero(t, open, "the server has ended the transaction of the stopped process")

	require.NoError(t, stopped.cmd.Process.Signal(syscall.SIGCONT))
	stopped.tell(t, "commit")
	require.Equal(t, "not committed", stopped.hear(t), "it comes too late")
	require.Equal(t, balance{SpentCost: 4e7, SpentCalls: 4}, balanceOf(t, db, "acme", "day"))
	requireConservation(t, db)
}

// lockAndWait locks the tenant's books as a lane does, and commits when it is told to.
func lockAndWait(t *testing.T, db *gorm.DB, _ []string) {
	pool, err := db.DB()
	require.NoError(t, err)
	s, err := store.New(pool)
	require.NoError(t, err)
	session := s.Session()
	lines := commands()
	err = session.Batch(context.Background(), &book.Want{Keys: []string{"acme"}}, func(state *book.State) book.Effects {
		// Locks on rows are not listed; the one on the table that comes with them is.
		var backend int
		require.NoError(t, db.Raw(`SELECT pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
			WHERE relation = CAST('llm_balances' AS regclass) AND mode = 'RowShareLock'`).Scan(&backend).Error)
		require.NotZero(t, backend)
		say("locked by %d", backend)
		<-lines
		row := state.Tenants[state.Keys["acme"]]
		row.Balances[0].Spent.Calls += 1000
		return book.Effects{Balances: []book.BalanceRow{row.Row(book.Anchor)}}
	})
	if err == nil {
		say("committed")
	} else {
		say("not committed")
	}
	_ = session.Close()
}

// TestStrangersLock_Rate reports how fast the calls of other tenants are while one tenant's rows are locked for 2 s.
// That they go on at all is TestHostTransactionOnOneTenantsRows_DoesNotHoldUpTheOthers.
func TestStrangersLock_Rate(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openLedger(t, db)
	newOrganization(t, db, ledger, "stuck")
	call := func(key tenant.ID) error {
		hold, err := ledger.Reserve(context.Background(), key, cent)
		if err == nil {
			_, err = ledger.Settle(context.Background(), hold, tenant.Actual{Cost: tenant.USD("0.01")})
		}
		return err
	}
	const tenants = 100
	key := func(i int) tenant.ID { return tenant.ID(fmt.Sprintf("free-%d", i)) }
	require.NoError(t, call("stuck"))
	for i := range tenants {
		require.NoError(t, call(key(i)))
	}
	const during = 2 * time.Second
	rate := func() float64 {
		var made atomic.Int64
		var wg sync.WaitGroup
		began := time.Now()
		for i := range tenants {
			wg.Go(func() {
				for time.Since(began) < during {
					if err := call(key(i)); err != nil {
						t.Errorf("a call of another tenant: %v", err)
						return
					}
					made.Add(1)
				}
			})
		}
		wg.Wait()
		return float64(made.Load()) / time.Since(began).Seconds()
	}
	without := rate()
	tx := db.Begin()
	require.NoError(t, tx.Exec(`SELECT 1 FROM llm_balances b JOIN llm_tenants t ON t.id = b.tenant WHERE t.tenant_id = 'stuck' FOR UPDATE OF b`).Error)
	stuck := make(chan error, 8)
	for range cap(stuck) {
		go func() { stuck <- call("stuck") }()
	}
	with := rate()
	require.NoError(t, tx.Rollback().Error)
	for range cap(stuck) {
		require.NoError(t, <-stuck)
	}
	t.Logf("%.0f calls/s of other tenants with one tenant locked, %.0f without: %.2f", with, without, with/without)
	require.Positive(t, with)
	requireConservation(t, db)
}
