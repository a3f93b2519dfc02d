package tenant_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// isCalm is when a replica answers again, whose status is known for a second, and for five where it did not answer.
const isCalm = 2 * time.Minute

// follows waits until the replica has all that was committed.
func follows(t testing.TB, ledger *tenant.Ledger) {
	t.Helper()
	require.Eventually(t, func() bool {
		status, ok := ledger.ReadStatus(t.Context())
		return ok && status.Replica && status.Lag == 0
	}, isCalm, 50*time.Millisecond)
}

// TestReadDB_OfAStreamingReplica is one story, because two servers are much to start.
func TestReadDB_OfAStreamingReplica(t *testing.T) {
	t.Parallel()
	server, db := cluster(t)
	standby := pgtest.Replica(t, server)
	replica := openAt(t, postgres.Open(standby.URL()))
	ledger := openLedger(t, db, tenant.WithReadDB(replica), tenant.WithMaxReadLag(2*time.Second))
	used(t, ledger, acme, tenant.Actual{Cost: tenant.USD("0.25"), Usage: tenant.Usage{Input: 3}})
	follows(t, ledger)
	require.Same(t, replica, ledger.ReadDB(t.Context()))
	usage := func(on *gorm.DB) string {
		t.Helper()
		answer, err := tenant.QueryUsage(t.Context(), on, tenant.Query{Tenant: acme, Period: tenant.AllTime})
		require.NoError(t, err)
		return answer.Total.Cost.String()
	}
	require.Equal(t, "0.25", usage(replica))

	// What the replica has not replayed: a list does not have it, money has, on whichever handle it is asked for.
	require.NoError(t, replica.Exec(`SELECT pg_wal_replay_pause()`).Error)
	require.Eventually(t, func() bool {
		var state string
		require.NoError(t, replica.Raw(`SELECT pg_get_wal_replay_pause_state()`).Scan(&state).Error)
		return state == "paused"
	}, isCalm, 10*time.Millisecond)
	used(t, ledger, acme, tenant.Actual{Cost: tenant.USD("0.5")})
	require.Equal(t, "0.25", usage(replica))
	require.Equal(t, "0.75", usage(db))
	require.Equal(t, "0.75", costToday(t, replica, acme))
	status, err := tenant.BudgetStatus(t.Context(), replica, acme)
	require.NoError(t, err)
	require.Empty(t, status.Limits)
	summary, err := tenant.UsageSummary(t.Context(), replica, acme, tenant.AllTime)
	require.NoError(t, err)
	require.Equal(t, "0.25", summary.Cost.String())
	page, err := tenant.ExecutionsPage(t.Context(), replica, tenant.ExecutionQuery{Tenant: acme}, 10)
	require.NoError(t, err)
	require.Len(t, page.Executions, 1)
	var n int64
	require.NoError(t, tenant.Executions(t.Context(), replica, acme).Count(&n).Error)
	require.EqualValues(t, 1, n)
	var out bytes.Buffer
	report, err := tenant.Export(t.Context(), replica, &out, tenant.CSV(), tenant.ExecutionQuery{Tenant: acme})
	require.NoError(t, err)
	require.EqualValues(t, 1, report.Rows)

	// Beyond the bound, the primary answers, and it is said how far the replica is behind.
	require.Eventually(t, func() bool { return ledger.ReadDB(t.Context()) == db }, isCalm, 50*time.Millisecond)
	reads, ok := ledger.ReadStatus(t.Context())
	require.True(t, ok)
	require.False(t, reads.Replica)
	require.Greater(t, reads.Lag, 2*time.Second)
	require.Equal(t, 2*time.Second, reads.MaxLag)
	require.ErrorIs(t, reads.Err, tenant.ErrReadDB)
	require.ErrorContains(t, reads.Err, "WithMaxReadLag")
	require.NoError(t, replica.Exec(`SELECT pg_wal_replay_resume()`).Error)
	follows(t, ledger)
	require.Equal(t, "0.75", usage(ledger.ReadDB(t.Context())))

	// Nothing is written there.
	require.ErrorIs(t, tenant.ConfigureBudget(t.Context(), replica, acme, func(*tenant.Budget) error { return nil }), tenant.ErrUnavailable)

	leavesRowsPrunable(t, ledger, db, replica)

	// A replica that is gone: the primary answers, then and there, and afterwards.
	follows(t, ledger)
	standby.Stop(pgtest.Immediate)
	require.Equal(t, usage(db), usage(replica))
	require.Same(t, db, ledger.ReadDB(t.Context()))
	reads, _ = ledger.ReadStatus(t.Context())
	require.ErrorIs(t, reads.Err, tenant.ErrReadDB)
	require.NotEmpty(t, idsOf(t, replica))
	require.NoError(t, call(t, ledger, acme, "0.01"), "calls know nothing of it")
	standby.Start()
	follows(t, ledger)

	// One that is no replica any more.
	require.NoError(t, replica.Exec(`SELECT pg_promote()`).Error)
	require.Eventually(t, func() bool { return ledger.ReadDB(t.Context()) == db }, isCalm, 50*time.Millisecond)
	reads, _ = ledger.ReadStatus(t.Context())
	require.ErrorContains(t, reads.Err, "promoted")
}

func idsOf(t testing.TB, db *gorm.DB) (ids []string) {
	t.Helper()
	for e, err := range tenant.ListExecutions(t.Context(), db, tenant.ExecutionQuery{Tenant: acme}) {
		require.NoError(t, err)
		ids = append(ids, e.ID)
	}
	return ids
}

// leavesRowsPrunable has a report hold a snapshot open while calls write the row of a balance over and over: on the primary, its versions
// pile up; from the replica they do not, and the report is the one that is ended, with an error that says so.
func leavesRowsPrunable(t *testing.T, ledger *tenant.Ledger, db, replica *gorm.DB) {
	const calls = 400
	versions := func(on *gorm.DB) int64 {
		t.Helper()
		report := on.WithContext(t.Context()).Begin(&sql.TxOptions{Isolation: sql.LevelRepeatableRead})
		defer report.Rollback()
		_, err := tenant.QueryUsage(t.Context(), report, tenant.Query{Tenant: acme, Period: tenant.AllTime})
		require.NoError(t, err)
		require.NoError(t, db.Exec(`VACUUM llm_balances`).Error)
		for range calls {
			spendCent(t, ledger, acme)
		}
		var left int64
		require.NoError(t, db.Raw(`SELECT pg_relation_size('llm_balances') / 8192`).Scan(&left).Error)
		if on == replica {
			var held bool
			require.NoError(t, db.Raw(`SELECT bool_or(backend_xmin IS NOT NULL) FROM pg_stat_replication`).Scan(&held).Error)
			require.False(t, held, "the primary keeps nothing for the replica's snapshots")
			require.NoError(t, db.Exec(`VACUUM llm_balances`).Error)
			require.Eventually(t, func() bool {
				_, err = tenant.QueryUsage(t.Context(), report, tenant.Query{Tenant: acme, Period: tenant.AllTime})
				return err != nil
			}, isCalm, 50*time.Millisecond, "the snapshot is in the way of what the primary has cleaned up")
			require.ErrorIs(t, err, tenant.ErrReadDB)
			require.ErrorContains(t, err, "conflict with recovery")
		}
		return left
	}
	require.NoError(t, replica.Exec(`ALTER SYSTEM SET max_standby_streaming_delay = '200ms'`).Error)
	require.NoError(t, replica.Exec(`SELECT pg_reload_conf()`).Error)
	there := versions(replica)
	here := versions(db)
	t.Logf("pages of the balances after %d calls beside a report: %d where it reads the replica, %d where it reads the primary", calls, there, here)
	require.Less(t, there, here)
}

// failing is a replica that cancels queries, as one does for whom the primary is waiting for too long.
type failing struct {
	*sql.DB
	after atomic.Int64 // so many queries are let through
}

func (f *failing) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if strings.Contains(query, "llm_") && !strings.Contains(query, "to_regclass") && f.after.Add(-1) < 0 {
		return nil, &pgconn.PgError{Severity: "ERROR", Code: "40001", Message: "canceling statement due to conflict with recovery"}
	}
	return f.DB.QueryContext(ctx, query, args...)
}

func TestReadDB_ThatCancelsAQueryIsAskedNoMore(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	db := openAt(t, postgres.Open(dsn))
	pool, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	cancels := &failing{DB: pool}
	replica, err := gorm.Open(postgres.New(postgres.Config{Conn: cancels}), &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	ledger := openLedger(t, db, tenant.WithReadDB(replica))
	for range 120 {
		spendCent(t, ledger, acme)
	}
	follows(t, ledger)
	require.Len(t, idsOf(t, db), 120)
	for after := range int64(12) { // wherever in the list, or in the answer, it happens
		for name, ask := range map[string]func(on *gorm.DB) any{
			"list": func(on *gorm.DB) any { return idsOf(t, on) },
			"page": func(on *gorm.DB) any {
				page, err := tenant.ExecutionsPage(t.Context(), on, tenant.ExecutionQuery{Tenant: acme, Descendants: true}, 3)
				require.NoError(t, err)
				return page
			},
			"usage": func(on *gorm.DB) any {
				answer, err := tenant.QueryUsage(t.Context(), on, tenant.Query{Tenant: acme, Period: tenant.ThisMonth, By: []tenant.Group{tenant.ByModel}})
				require.NoError(t, err)
				return answer
			},
			"summary": func(on *gorm.DB) any {
				summary, err := tenant.UsageSummary(t.Context(), on, acme, tenant.ThisMonth)
				require.NoError(t, err)
				return summary
			},
			"conditions": func(on *gorm.DB) any {
				page, err := tenant.ExecutionsPage(t.Context(), on.Where("cost > ?", int64(1e9)), tenant.ExecutionQuery{Tenant: acme}, 3)
				require.NoError(t, err)
				return len(page.Executions)
			},
		} {
			cancels.after.Store(after)
			require.Equal(t, ask(db), ask(replica), "%s, after %d queries", name, after)
		}
		var out, want bytes.Buffer
		cancels.after.Store(after)
		_, err := tenant.Export(t.Context(), replica, &out, tenant.NDJSON(), tenant.ExecutionQuery{Tenant: acme})
		require.NoError(t, err)
		_, err = tenant.Export(t.Context(), db, &want, tenant.NDJSON(), tenant.ExecutionQuery{Tenant: acme})
		require.NoError(t, err)
		require.Equal(t, want.String(), out.String())
	}
	require.Same(t, replica, ledger.ReadDB(t.Context()), "a query that was cancelled says nothing of the next")

	// What was written cannot be taken back; nor can what was asked in a transaction be asked elsewhere.
	cancels.after.Store(1)
	written, stop := 0, errors.New("stop")
	report, err := tenant.Export(t.Context(), replica, writeFunc(func(b []byte) (int, error) { written += len(b); return len(b), nil }), eager{tenant.NDJSON()}, tenant.ExecutionQuery{Tenant: acme})
	require.ErrorIs(t, err, tenant.ErrReadDB)
	require.NotZero(t, written)
	_, err = tenant.Export(t.Context(), db, writeFunc(func(b []byte) (int, error) { return len(b), nil }), tenant.NDJSON(), tenant.ExecutionQuery{Tenant: acme}, withCursor(report)...)
	require.NoError(t, err)

	// The writer's own error is not the replica's.
	cancels.after.Store(1000)
	_, err = tenant.Export(t.Context(), replica, writeFunc(func([]byte) (int, error) { return 0, stop }), tenant.NDJSON(), tenant.ExecutionQuery{Tenant: acme})
	require.ErrorIs(t, err, stop)
	require.NotErrorIs(t, err, tenant.ErrReadDB)
}

// eager writes before the first row.
type eager struct{ tenant.ExportFormat }

func (e eager) Encoder(w io.Writer, columns []tenant.ExportColumn, more bool) (tenant.ExportEncoder, error) {
	if _, err := io.WriteString(w, "{}\n"); err != nil {
		return nil, err
	}
	return e.ExportFormat.Encoder(w, columns, more)
}

func withCursor(report tenant.ExportReport) []tenant.ExportOption {
	if report.Cursor == "" {
		return nil
	}
	return []tenant.ExportOption{tenant.WithExportAfter(report.Cursor)}
}

type writeFunc func([]byte) (int, error)

func (w writeFunc) Write(b []byte) (int, error) { return w(b) }

func TestReadDB_ThatIsNoneIsNamed(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	db := openAt(t, postgres.Open(dsn))
	for name, option := range map[string]tenant.OpenOption{
		"the *gorm.DB is nil": tenant.WithReadDB(nil), "only PostgreSQL has replicas": tenant.WithReadDB(openDatabase(t, "sqlite")),
		"less than a millisecond": tenant.WithMaxReadLag(0), "a ledger is open": tenant.WithReadDB(db),
	} {
		_, err := tenant.Open(db, option)
		require.ErrorIs(t, err, tenant.ErrInvalidOption, name)
		require.ErrorContains(t, err, name)
	}
	_, err := tenant.Open(openDatabase(t, "sqlite"), tenant.WithReadDB(openAt(t, postgres.Open(dsn))))
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	require.ErrorContains(t, err, "has no replicas")

	for want, other := range map[string]string{
		"another one": pgtest.DSN(t), "tables are not found": pgtest.Empty(t), "connect": "postgres://127.0.0.1:1/nowhere?sslmode=disable",
	} {
		replica, err := gorm.Open(postgres.Open(other), &gorm.Config{Logger: logger.Discard, DisableAutomaticPing: true})
		require.NoError(t, err)
		pool, err := replica.DB()
		require.NoError(t, err)
		ledger, err := tenant.Open(db, tenant.WithReadDB(replica))
		require.NoError(t, err)
		require.Same(t, db, ledger.ReadDB(t.Context()), want)
		status, ok := ledger.ReadStatus(t.Context())
		require.True(t, ok)
		require.ErrorIs(t, status.Err, tenant.ErrReadDB)
		require.ErrorContains(t, status.Err, want)
		require.NoError(t, ledger.Close(t.Context()))
		require.NoError(t, pool.Close())
	}

	// A second handle of the primary, as on a developer's machine, is never behind.
	second := openAt(t, postgres.Open(dsn))
	ledger := openLedger(t, db, tenant.WithReadDB(second))
	status, ok := ledger.ReadStatus(t.Context())
	require.True(t, ok)
	require.NoError(t, status.Err)
	require.True(t, status.Replica)
	require.Same(t, second, ledger.ReadDB(t.Context()))

	_, ok = openLedger(t, openDatabase(t, "postgres")).ReadStatus(t.Context())
	require.False(t, ok, "there is none")
}
