package tenant_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// executionStatus is the status of an execution on the books.
func executionStatus(t *testing.T, db *gorm.DB, id string) (status string) {
	t.Helper()
	require.NoError(t, db.Raw(`SELECT status FROM llm_executions WHERE id = ?`, id).Scan(&status).Error)
	return status
}

// killed gives a hold to a process that has beaten just now, and never will again.
func killed(t *testing.T, db *gorm.DB, hold *tenant.Hold, lease time.Duration) {
	t.Helper()
	id := book.NewID().String()
	require.NoError(t, db.Exec(`INSERT INTO llm_processes (id, started_at, beat_at, lease_ms) VALUES (?, clock_timestamp(), clock_timestamp(), ?)`,
		id, lease.Milliseconds()).Error)
	require.NoError(t, db.Exec(`UPDATE llm_executions SET process = ? WHERE id = ?`, id, hold.ExecutionID).Error)
}

// With every connection taken that the service may have, its heartbeats go on over those of its lanes, so that nobody ends
// its calls: a process that fell silent at the same time is found meanwhile.
func TestHeartbeat_NeedsNoConnectionMoreWhereNoneIsToBeHad(t *testing.T) {
	t.Parallel()
	const lease = time.Second
	s := newService(t, tenant.WithLease(lease))
	sweeper := openLedger(t, s.owner, tenant.WithLease(lease))
	reserve := func(ledger *tenant.Ledger, key string) *tenant.Hold {
		hold, err := ledger.Reserve(t.Context(), tenant.ID(key), cent)
		require.NoError(t, err)
		return hold
	}
	var running []*tenant.Hold
	for i := range 8 { // of both lanes
		running = append(running, reserve(s.ledger, fmt.Sprint("acme-", i)))
	}
	lost := reserve(sweeper, "lost")

	pool, err := s.db.DB()
	require.NoError(t, err)
	pool.SetMaxIdleConns(0)
	s.do(t, s.admin, "ALTER ROLE @role CONNECTION LIMIT 1") // fewer than its lanes have
	require.Eventually(t, func() bool {
		return s.db.Exec(`SELECT 1`).Error != nil
	}, time.Minute, time.Millisecond, "no other connection is to be had")
	require.ErrorContains(t, s.db.Exec(`SELECT 1`).Error, "53300")
	killed(t, s.owner, lost, lease)
	require.Eventually(t, func() bool { return executionStatus(t, s.owner, lost.ExecutionID) == "abandoned" }, time.Minute, 5*time.Millisecond)
	for _, hold := range running {
		require.Equal(t, "running", executionStatus(t, s.owner, hold.ExecutionID))
		settlement, err := s.ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.01")})
		require.NoError(t, err)
		require.Contains(t, []tenant.Outcome{tenant.Settled, tenant.Pending}, settlement.Outcome)
	}
	require.Eventually(t, func() bool { return s.ledger.Pending().Bookings == 0 }, time.Minute, 5*time.Millisecond)
	s.do(t, s.admin, "ALTER ROLE @role CONNECTION LIMIT -1")
	_, err = sweeper.Settle(t.Context(), lost, tenant.Actual{})
	require.NoError(t, err)
	requireConservation(t, s.owner)
}

// The clock of a database goes back or forward, or another one takes its place. What a killed process held is charged about
// a lease later all the same, and the calls of living ones go on.
func TestSweep_GoesByHeartbeatsAndNotByTheDatabasesClock(t *testing.T) {
	t.Parallel()
	for name, jump := range map[string]time.Duration{"two hours back": -2 * time.Hour, "half an hour forward": 30 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const lease = time.Second
			dsn := pgtest.DSN(t)
			db := openAt(t, postgres.Open(dsn))
			for _, statement := range []string{
				`CREATE SCHEMA shifted`,
				`CREATE TABLE shifted.clock (one boolean PRIMARY KEY, ahead interval NOT NULL)`,
				`INSERT INTO shifted.clock VALUES (true, '0')`,
				`CREATE FUNCTION shifted.clock_timestamp() RETURNS timestamptz VOLATILE LANGUAGE plpgsql AS $$
				BEGIN
					RETURN pg_catalog.clock_timestamp() + (SELECT ahead FROM shifted.clock WHERE one);
				END $$`,
			} {
				require.NoError(t, db.Exec(statement).Error)
			}
			shifted := dsn + "&search_path=shifted,public,pg_catalog"
			one, other := openAt(t, postgres.Open(shifted)), openAt(t, postgres.Open(shifted))
			sweeper, living := openLedger(t, one, tenant.WithLease(lease)), openLedger(t, other, tenant.WithLease(lease))
			lost, err := sweeper.Reserve(t.Context(), tenant.ID("acme"), cent)
			require.NoError(t, err)
			running, err := living.Reserve(t.Context(), tenant.ID("acme"), cent)
			require.NoError(t, err)
			killed(t, one, lost, lease)

			require.NoError(t, db.Exec(`UPDATE shifted.clock SET ahead = ?`, jump.String()).Error)
			var now time.Time
			require.NoError(t, one.Raw(`SELECT clock_timestamp()`).Scan(&now).Error)
			require.WithinDuration(t, time.Now().Add(jump), now, time.Minute)
			require.Eventually(t, func() bool { return executionStatus(t, db, lost.ExecutionID) == "abandoned" }, time.Minute, 5*time.Millisecond)
			require.Equal(t, "running", executionStatus(t, db, running.ExecutionID))
			settlement, err := living.Settle(t.Context(), running, tenant.Actual{Cost: tenant.USD("0.01")})
			require.NoError(t, err)
			require.Equal(t, tenant.Settled, settlement.Outcome)
			_, err = sweeper.Settle(t.Context(), lost, tenant.Actual{})
			require.NoError(t, err)
			requireConservation(t, db)
		})
	}
}
