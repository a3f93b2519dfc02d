package sqlite_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/internal/store"
	"github.com/llmtenant/tenant/internal/store/sqlite"
	"github.com/llmtenant/tenant/internal/store/storetest"
	"github.com/llmtenant/tenant/migrations"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// file opens a new database without tables.
func file(t testing.TB) *sql.DB {
	t.Helper()
	return pool(t, filepath.Join(t.TempDir(), "ledger.db"))
}

func pool(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driverName, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func open(t testing.TB) (store.Store, *sql.DB) {
	t.Helper()
	db := file(t)
	require.NoError(t, sqlite.Configure(t.Context(), db))
	require.NoError(t, migrations.Up(t.Context(), db, "sqlite"))
	return sqlite.New(db, nil), db
}

func books(t *testing.T) *storetest.Books {
	t.Helper()
	s, db := open(t)
	return storetest.New(t, s, db)
}

func TestStore_KeepsItsContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, open)
}

func BenchmarkBatch(b *testing.B) { storetest.Benchmark(b, open) }

func TestBatch_ReadsWhatWasWrittenWhileItWaited(t *testing.T) {
	t.Parallel()
	b := books(t)
	polls := 0
	storetest.LocksBeforeReads(b, func() bool { // what waits cannot be seen; whichever comes first, the outcome is the same
		polls++
		return polls > 20
	})
}

func TestBatch_OnABusyDatabaseSaysWhatHoldsIt(t *testing.T) {
	t.Parallel()
	b := books(t)
	host, err := b.DB.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = host.ExecContext(t.Context(), `DELETE FROM llm_tenants`)
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	err = b.Session.Batch(ctx, &book.Want{}, func(*book.State) book.Effects { panic("not locked") })
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, fault.Unavailable, b.Store.Classify(err))
	require.Less(t, time.Since(start), 4*time.Second, "the context ends the waiting")

	err = b.Session.Batch(t.Context(), &book.Want{}, func(*book.State) book.Effects { panic("not locked") })
	require.ErrorContains(t, err, "the SQLite database is busy: another transaction is writing")
	require.ErrorContains(t, err, "must be made after its commit")
	require.Equal(t, fault.Locked, b.Store.Classify(err))
	require.GreaterOrEqual(t, time.Since(start), 5*time.Second)

	require.NoError(t, host.Rollback())
	_, err = storetest.Decide(t.Context(), b.Session, storetest.Reserve(book.NoTenant, book.Amount{Cost: 1}))
	require.NoError(t, err)
}

// Without it those who poll for the lock, the host and other processes, get it by chance only.
func TestWriteLock_IsLeftToOthersForAFifthOfTheTime(t *testing.T) {
	t.Parallel()
	s := sqlite.New(file(t), nil)
	var ended time.Time
	for range 2 {
		end, err := s.LockWriter(t.Context())
		require.NoError(t, err)
		<-time.After(250 * time.Millisecond)
		ended = time.Now()
		end()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := s.LockWriter(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded, "the context ends the waiting")
	end, err := s.LockWriter(t.Context())
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(ended), 100*time.Millisecond)
	end()
}

func TestNow_IsTheClockGivenInMicroseconds(t *testing.T) {
	t.Parallel()
	_, db := open(t)
	at := time.Date(2026, 5, 6, 7, 8, 9, 123456789, time.FixedZone("", 3600))
	b := storetest.New(t, sqlite.New(db, func() time.Time { return at }), db)
	require.Equal(t, time.Date(2026, 5, 6, 6, 8, 9, 123456000, time.UTC), b.Read(&book.Want{}).Now)

	// A clock that steps back decides by the window that is stored.
	require.Equal(t, []decide.Code{decide.Granted}, b.Decide(storetest.Reserve(book.NoTenant, book.Amount{Cost: 1})))
	at = at.AddDate(0, 0, -2)
	require.Equal(t, []decide.Code{decide.Granted}, b.Decide(storetest.Reserve(book.NoTenant, book.Amount{Cost: 1})))
	require.EqualValues(t, 2, b.Int(`SELECT day_held_cost FROM llm_balances`))
	require.EqualValues(t, 1, b.Int(`SELECT count(*) FROM llm_executions WHERE admitted_at = $1`,
		sqldb.Text(time.Date(2026, 5, 6, 0, 0, 0, 0, time.UTC))))
}

func TestConnections_OfTheHostKeepTheirSettings(t *testing.T) {
	t.Parallel()
	b := books(t)
	conn, err := b.DB.Conn(t.Context())
	require.NoError(t, err)
	_, err = conn.ExecContext(t.Context(), `PRAGMA busy_timeout = 1234`)
	require.NoError(t, err)
	_, err = conn.ExecContext(t.Context(), `PRAGMA synchronous = NORMAL`)
	require.NoError(t, err)
	require.NoError(t, conn.Close())

	require.Equal(t, []decide.Code{decide.Granted}, b.Decide(storetest.Reserve(book.NoTenant, book.Amount{})))
	require.Equal(t, 1, b.DB.Stats().OpenConnections)
	require.EqualValues(t, 1234, b.Int(`PRAGMA busy_timeout`))
	require.EqualValues(t, 1, b.Int(`PRAGMA synchronous`))
}

func TestBriefly_KeepsTheHostsTimeout(t *testing.T) {
	t.Parallel()
	conn, err := file(t).Conn(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	_, err = conn.ExecContext(t.Context(), `PRAGMA busy_timeout = 1234`)
	require.NoError(t, err)
	timeout := func() (ms int) {
		require.NoError(t, conn.QueryRowContext(t.Context(), `PRAGMA busy_timeout`).Scan(&ms))
		return ms
	}
	for _, failure := range []error{nil, errors.New("busy")} {
		require.Equal(t, failure, sqlite.Briefly(t.Context(), conn, func() error {
			require.Equal(t, 10, timeout())
			return failure
		}))
		require.Equal(t, 1234, timeout())
	}
}

func TestBatch_CommitsWithFullDurability(t *testing.T) {
	t.Parallel()
	b := books(t)
	b.Exec(`CREATE TABLE seen (synchronous INTEGER)`)
	b.Exec(`CREATE TRIGGER see AFTER INSERT ON llm_executions BEGIN INSERT INTO seen SELECT * FROM pragma_synchronous; END`)
	b.Exec(`PRAGMA synchronous = OFF`)
	require.Equal(t, 1, b.DB.Stats().OpenConnections)
	b.Decide(storetest.Reserve(book.NoTenant, book.Amount{}))
	require.EqualValues(t, 2, b.Int(`SELECT synchronous FROM seen`))
	require.Zero(t, b.DB.Stats().InUse, "the connection goes back after each batch")
}

func TestLookups_UseIndexes(t *testing.T) {
	t.Parallel()
	_, db := open(t)
	for _, query := range sqlite.Queries {
		func() {
			rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, slices.Repeat([]any{"[]"}, max(3, strings.Count(query, "?")))...)
			require.NoError(t, err, query)
			defer func() { _ = rows.Close() }()
			for rows.Next() {
				var (
					id, parent, unused int
					detail             string
				)
				require.NoError(t, rows.Scan(&id, &parent, &unused, &detail))
				require.NotRegexp(t, `SCAN ([a-z]|llm_\w+)$`, detail, query)
				if strings.HasPrefix(detail, "SEARCH llm_executions ") {
					require.Contains(t, detail, "(tenant=? AND id=?)", query)
				}
			}
			require.NoError(t, rows.Err())
		}()
	}
}

func TestConfigure_SetsWAL(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger.db")
	db := pool(t, path)
	for range 2 {
		require.NoError(t, sqlite.Configure(t.Context(), db))
	}
	var mode string
	require.NoError(t, pool(t, path).QueryRow(`PRAGMA journal_mode`).Scan(&mode))
	require.Equal(t, "wal", mode, "the file keeps it")
}

func TestConfigure_RunsInManyProcessesAtOnce(t *testing.T) {
	t.Parallel()
	for range 5 {
		path := filepath.Join(t.TempDir(), "ledger.db")
		failures := make(chan error)
		for range 6 {
			db := pool(t, path)
			go func() { failures <- sqlite.Configure(t.Context(), db) }()
		}
		for range 6 {
			require.NoError(t, <-failures)
		}
	}
}

func TestConfigure_RefusesWhatALedgerCannotWorkWith(t *testing.T) {
	t.Parallel()
	for dsn, sentence := range map[string]string{
		":memory:":                           "is in memory",
		"file:shared?mode=memory":            "is in memory",
		"file:x?mode=memory&cache=shared":    "is in memory",
		"":                                   "is in memory",
		"file:/nonexistent/folder/ledger.db": "unable to open database",
	} {
		require.ErrorContains(t, sqlite.Configure(t.Context(), pool(t, dsn)), sentence, dsn)
	}
	single := file(t)
	single.SetMaxOpenConns(1)
	require.ErrorContains(t, sqlite.Configure(t.Context(), single), "SetMaxOpenConns(1)")
	single.SetMaxOpenConns(2)
	require.NoError(t, sqlite.Configure(t.Context(), single))
}

func TestTimes_AreScannedHoweverTheDriverHandsThemOut(t *testing.T) {
	t.Parallel()
	want := time.Date(2026, 3, 4, 5, 6, 7, 890000000, time.UTC)
	require.Equal(t, "2026-03-04 05:06:07.890000+00:00", sqldb.Text(want.In(time.FixedZone("", -7200))))
	for _, stored := range []any{
		"2026-03-04 05:06:07.890000+00:00", []byte("2026-03-04 05:06:07.890000+00:00"), want.In(time.FixedZone("", 3600)),
		"2026-03-04 05:06:07.89+00:00", "2026-03-04 06:06:07.89+01:00", "2026-03-04 05:06:07.89Z",
	} {
		var got time.Time
		require.NoError(t, sqldb.Instant(&got).(sql.Scanner).Scan(stored))
		require.Equal(t, want, got)
	}
	got := want
	require.NoError(t, sqldb.Instant(&got).(sql.Scanner).Scan(nil))
	require.True(t, got.IsZero())
	require.Error(t, sqldb.Instant(&got).(sql.Scanner).Scan("yesterday"))
	require.Error(t, sqldb.Instant(&got).(sql.Scanner).Scan(int64(1)))
}

type coded int

func (c coded) Error() string { return fmt.Sprintf("driver's words (%d)", int(c)) }
func (c coded) Code() int     { return int(c) }

func TestClassify_SaysWhatAnErrorMeansForWhoeverTriesAgain(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	_, missing := db.ExecContext(t.Context(), `SELECT 1 FROM nowhere`)
	_, column := db.ExecContext(t.Context(), `SELECT colour FROM llm_tenants`)
	_, inserted := db.ExecContext(t.Context(), `INSERT INTO llm_tenants (colour) VALUES (1)`)
	_, null := db.ExecContext(t.Context(), `INSERT INTO llm_tenants (id) VALUES (NULL)`)
	_, syntax := db.ExecContext(t.Context(), `SELEC`)
	for _, c := range []struct {
		err  error
		want fault.Class
	}{
		{errors.New("database is locked"), fault.Locked},
		{errors.New("database table is locked: llm_tenants"), fault.Locked},
		{fmt.Errorf("begin: %w", errors.New("database is locked (5) (SQLITE_BUSY)")), fault.Locked},
		{coded(5), fault.Locked},
		{fmt.Errorf("begin: %w", coded(5|2<<8)), fault.Locked},
		{coded(6), fault.Locked},
		{missing, fault.NotMigrated},
		{column, fault.NotMigrated},
		{inserted, fault.NotMigrated},
		{coded(10 | 3<<8), fault.Unavailable},
		{coded(13), fault.Unavailable},
		{coded(14), fault.Unavailable},
		{coded(9), fault.Unavailable},
		{errors.New("disk I/O error"), fault.Unavailable},
		{errors.New("unable to open database file"), fault.Unavailable},
		{errors.New("database or disk is full"), fault.Unavailable},
		{fmt.Errorf("connect: %w", driver.ErrBadConn), fault.Unavailable},
		{sql.ErrConnDone, fault.Unavailable},
		{errors.Join(context.DeadlineExceeded, coded(5)), fault.Unavailable},
		{context.Canceled, fault.Unavailable},
		{coded(17), fault.Conflict},
		{null, fault.Fatal},
		{syntax, fault.Fatal},
		{coded(19 | 8<<8), fault.Fatal},
		{coded(11), fault.Fatal},
		{errors.New("anything else"), fault.Fatal},
	} {
		require.Error(t, c.err)
		require.Equal(t, c.want, s.Classify(c.err), "%v", c.err)
	}
}
