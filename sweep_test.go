package tenant_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/pgtest"
	"github.com/llmtenant/tenant/internal/process"
	"github.com/llmtenant/tenant/internal/sqldb"
)

func TestLapsed_AreCallsPastTheirDeadlineAndThoseOfProcessesThatAreGone(t *testing.T) {
	t.Parallel()
	onOneSet(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		dialect := sqldb.Of(db.Name())
		pool, err := db.DB()
		require.NoError(t, err)
		processes := process.Table{Dialect: dialect, DB: pool}
		at := func(d time.Duration) any { return dialect.Time(time.Now().Add(d)) }
		var holds []*tenant.Hold
		call := func() string {
			hold, err := ledger.Reserve(t.Context(), tenant.ID("acme"), cent)
			require.NoError(t, err)
			holds = append(holds, hold)
			return hold.ExecutionID
		}
		process := func(beat, lease time.Duration) string {
			id := book.NewID().String()
			require.NoError(t, db.Exec(`INSERT INTO llm_processes (id, started_at, beat_at, lease_ms) VALUES (?, ?, ?, ?)`,
				id, at(-3*time.Hour), at(beat), lease.Milliseconds()).Error)
			return id
		}
		of := func(process, execution string) string {
			require.NoError(t, db.Exec(`UPDATE llm_executions SET process = ?, admitted_at = ? WHERE id = ?`, process, at(-2*time.Hour), execution).Error)
			return execution
		}

		call() // its own, with a heartbeat of just now
		of(process(0, time.Minute), call())
		of(process(-time.Hour, time.Minute), call()) // whatever the database's clock says of its heartbeat
		silent := process(time.Hour, time.Minute)
		over := of(silent, call())
		unknown := of(book.NewID().String(), call())
		late := of(process(0, time.Minute), call())
		require.NoError(t, db.Exec(`UPDATE llm_executions SET deadline_at = ? WHERE id = ?`, at(-time.Minute), late).Error)
		settled := of(process(-time.Hour, time.Minute), call())
		require.NoError(t, db.Exec(`UPDATE llm_executions SET status = 'succeeded' WHERE id = ?`, settled).Error)

		lapsed, err := processes.Lapsed(t.Context(), []book.Process{{ID: book.NewID()}, {ID: uuid.MustParse(silent)}}, 100)
		require.NoError(t, err)
		var ids []string
		for _, e := range lapsed {
			ids = append(ids, e.ID.String())
		}
		require.ElementsMatch(t, []string{over, unknown, late}, ids)

		require.NoError(t, db.Exec(`UPDATE llm_executions SET status = 'running' WHERE id = ?`, settled).Error)
		for _, hold := range holds {
			_, err := ledger.Release(t.Context(), hold)
			require.NoError(t, err)
		}
	})
}

// One of two processes is killed. When the sweep has ended its call, which is younger than the other's, it has looked at
// a call that is older than its process's lease, and has left it alone.
func TestSweep_LeavesTheCallsOfLivingProcessesAlone(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	db := openAt(t, postgres.Open(dsn))
	ledger := openLedger(t, db, tenant.WithLease(time.Second))
	hold, err := ledger.Reserve(t.Context(), tenant.ID("acme"), cent) // it starts the sweep
	require.NoError(t, err)
	_, err = ledger.Release(t.Context(), hold)
	require.NoError(t, err)
	living, killed := start(t, "hold", dsn), start(t, "hold", dsn)
	living.tell(t, "reserve")
	old := living.hear(t)
	killed.tell(t, "reserve")
	young := killed.hear(t)
	require.NoError(t, killed.cmd.Process.Kill())
	_ = killed.cmd.Wait()

	status := func(id string) (s string) {
		require.NoError(t, db.Raw(`SELECT status FROM llm_executions WHERE id = ?`, id).Scan(&s).Error)
		return s
	}
	abandoned := func(id string) func() bool { return func() bool { return status(id) == "abandoned" } }
	require.Eventually(t, abandoned(young), time.Minute, 10*time.Millisecond)
	require.Equal(t, "running", status(old))
	living.tell(t, "settle")
	require.Equal(t, string(tenant.Settled), living.hear(t))

	living.tell(t, "reserve")
	last := living.hear(t)
	require.NoError(t, living.cmd.Process.Kill())
	_ = living.cmd.Wait()
	require.Eventually(t, abandoned(last), time.Minute, 10*time.Millisecond)
	require.Equal(t, balance{SpentCost: 3e7, SpentCalls: 3}, balanceOf(t, db, "acme", "total"))
	requireConservation(t, db)
}

// holdAndWait reserves and settles as it is told.
func holdAndWait(t *testing.T, db *gorm.DB, _ []string) {
	ledger, err := tenant.Open(db, tenant.WithLease(4*time.Second)) // a busy machine may keep a heartbeat for long
	require.NoError(t, err)
	var hold *tenant.Hold
	for line := range commands() {
		switch line {
		case "reserve":
			hold, err = ledger.Reserve(t.Context(), tenant.ID("acme"), cent)
			require.NoError(t, err)
			say("%s", hold.ExecutionID)
		case "settle":
			s, err := ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.01")})
			require.NoError(t, err)
			say("%s", s.Outcome)
		}
	}
}
