package postgres_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/pgtest"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/internal/store"
	"github.com/llmtenant/tenant/internal/store/postgres"
	"github.com/llmtenant/tenant/internal/store/storetest"
	"github.com/llmtenant/tenant/migrations"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func pool(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func open(t testing.TB) (store.Store, *sql.DB) {
	t.Helper()
	db := pool(t, pgtest.DSN(t))
	s, err := postgres.New(db)
	require.NoError(t, err)
	return s, db
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

func TestStore_KeepsItsContractInAPlace(t *testing.T) {
	t.Parallel()
	storetest.Run(t, openPlace)
}

// openPlace opens a store on a place beside the home. What the test writes by itself goes there too: its connections find the place's
// tables first, and tenants that it makes are the place's.
func openPlace(t testing.TB) (store.Store, *sql.DB) {
	t.Helper()
	dsn := pgtest.DSN(t)
	home := pool(t, dsn)
	require.NoError(t, migrations.UpPlace(t.Context(), home, "east"))
	_, err := home.ExecContext(t.Context(), `ALTER TABLE llm_tenants ALTER COLUMN place SET DEFAULT 'east'`)
	require.NoError(t, err)
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	config.RuntimeParams["search_path"] = "east, public"
	db := stdlib.OpenDB(*config)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	s, err := postgres.New(home)
	require.NoError(t, err)
	s.Schema = &sqldb.Schema{Name: "east"}
	return s, db
}

func BenchmarkBatch(b *testing.B) { storetest.Benchmark(b, open) }

func TestBatch_ReadsWhatWasWrittenWhileItWaited(t *testing.T) {
	t.Parallel()
	b := books(t)
	storetest.LocksBeforeReads(b, func() bool { return waiting(b) > 0 })
}

// waiting returns how many sessions of the database wait for a lock.
func waiting(b *storetest.Books) int64 {
	return b.Int(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)
}

// hold locks the anchor of a tenant as a host's transaction would.
func hold(b *storetest.Books, id book.ID) *sql.Tx {
	b.Helper()
	tx, err := b.DB.BeginTx(b.Context(), nil)
	require.NoError(b, err)
	_, err = tx.ExecContext(b.Context(), `SELECT 1 FROM llm_balances WHERE tenant = $1 FOR UPDATE`, id)
	require.NoError(b, err)
	return tx
}

func TestBatch_SetsALockedTenantAsideAndServesOthers(t *testing.T) {
	t.Parallel()
	b := books(t)
	stuck, free := b.Tenant("stuck"), b.Tenant("free")
	tx := hold(b, stuck)

	want := &book.Want{Keys: []string{"stuck", "free"}}
	start := time.Now()
	err := b.Batch(want, func(*book.State) book.Effects { panic("not locked") })
	require.Equal(t, fault.Locked, b.Store.Classify(err), "%v", err)
	require.Less(t, time.Since(start), 10*time.Second, "not as long as a batch may take")

	want.NoWait = true
	s := b.Read(want)
	require.Equal(t, map[book.ID]bool{stuck: true}, s.Busy)
	require.Equal(t, map[string]book.ID{"stuck": stuck, "free": free}, s.Keys)
	require.Nil(t, s.Tenants[stuck])
	require.Len(t, s.Tenants[free].Balances, 3)

	require.NoError(t, b.Batch(want, func(s *book.State) book.Effects {
		ops := []*decide.Op{{Key: "stuck"}, {Key: "free", Exec: book.Execution{ID: storetest.ID()}}}
		out, eff := decide.Batch(decide.Config{Zone: func(string) *time.Location { return time.UTC }}, s, ops)
		require.Equal(t, []decide.Code{decide.Busy, decide.Granted}, []decide.Code{out[0].Code, out[1].Code})
		return eff
	}))
	require.EqualValues(t, 1, b.Int(`SELECT count(*) FROM llm_executions WHERE tenant = $1`, free))
	require.EqualValues(t, 0, b.Int(`SELECT count(*) FROM llm_executions WHERE tenant = $1`, stuck))

	require.NoError(t, tx.Rollback())
	require.Len(t, b.Read(want).Tenants, 2)
}

func TestBatch_AnUnknownKeyIsNotBusy(t *testing.T) {
	t.Parallel()
	s := books(t).Read(&book.Want{Keys: []string{"nobody's"}, Tenants: []book.ID{storetest.ID()}, NoWait: true})
	require.Empty(t, s.Busy)
	require.Empty(t, s.Tenants)
}

func TestBatch_IsNotBlockedByTheHostsSettingsOfATenant(t *testing.T) {
	t.Parallel()
	b := books(t)
	id := b.Tenant("acme", book.Limit{Metric: book.Cost, Max: 5})
	tx, err := b.DB.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), `UPDATE llm_tenants SET name = 'x', limits = '[]' WHERE id = $1`, id)
	require.NoError(t, err)
	require.Equal(t, []decide.Code{decide.Granted}, b.Decide(storetest.Reserve(id, book.Amount{Cost: 5})))
	require.NoError(t, tx.Rollback())
}

func TestBatch_OverAKilledConnectionIsUnavailableAndTheNextConnects(t *testing.T) {
	t.Parallel()
	b := books(t)
	id := b.Tenant("acme")
	kill := func() {
		b.Int(`SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	}
	b.DB.SetMaxIdleConns(0) // so that the killed one is the session's

	b.Read(&book.Want{})
	kill() // between two batches
	require.Equal(t, fault.Unavailable, b.Store.Classify(b.Write(book.Effects{})))
	require.NoError(t, b.Write(book.Effects{}))

	err := b.Batch(&book.Want{Tenants: []book.ID{id}}, func(s *book.State) book.Effects { // within one
		kill()
		_, eff := decide.Batch(decide.Config{Zone: func(string) *time.Location { return time.UTC }}, s,
			[]*decide.Op{storetest.Reserve(id, book.Amount{Cost: 1})})
		return eff
	})
	require.Equal(t, fault.Unavailable, b.Store.Classify(err), "%v", err)
	require.Zero(t, b.Int(`SELECT count(*) FROM llm_executions`))
	require.Equal(t, []decide.Code{decide.Granted}, b.Decide(storetest.Reserve(id, book.Amount{Cost: 1})))
}

func TestBatch_OfAProcessThatStopsBetweenLockAndCommitLosesItsLocks(t *testing.T) {
	t.Parallel()
	b := books(t)
	id := b.Tenant("acme")
	want := &book.Want{Tenants: []book.ID{id}}
	other := b.NewSession()
	err := b.Batch(want, func(s *book.State) book.Effects {
		// The server ends the transaction while it is idle here.
		deadline := time.Now().Add(time.Minute)
		for {
			_, err := storetest.Decide(t.Context(), other, storetest.Reserve(id, book.Amount{Cost: 1}))
			if err == nil {
				break
			}
			require.Equal(t, fault.Locked, b.Store.Classify(err), "%v", err)
			require.True(t, time.Now().Before(deadline), "the anchor is still locked")
		}
		_, eff := decide.Batch(decide.Config{Zone: func(string) *time.Location { return time.UTC }}, s,
			[]*decide.Op{storetest.Reserve(id, book.Amount{Cost: 1})})
		return eff
	})
	require.Equal(t, fault.Unavailable, b.Store.Classify(err), "%v", err)
	require.EqualValues(t, 1, b.Int(`SELECT count(*) FROM llm_executions`))
	require.EqualValues(t, 1, b.Int(`SELECT held_cost FROM llm_balances WHERE tenant = $1 AND window_unit = 'total'`, id))
}

func TestBatch_IsNotWeakenedByDefaultsOfTheHost(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	db := pool(t, dsn+separator(dsn)+"default_transaction_isolation=repeatable%20read&synchronous_commit=off&statement_timeout=7000")
	s, err := postgres.New(db)
	require.NoError(t, err)
	b := storetest.New(t, s, db)
	b.Exec(`CREATE TABLE seen (isolation text, synchronous text)`)
	b.Exec(`CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO seen VALUES (current_setting('transaction_isolation'), current_setting('synchronous_commit')); RETURN NEW; END $$`)
	b.Exec(`CREATE TRIGGER see BEFORE INSERT ON llm_executions FOR EACH ROW EXECUTE FUNCTION see()`)
	db.SetMaxOpenConns(1)
	b.Decide(storetest.Reserve(book.NoTenant, book.Amount{}))
	require.NoError(t, b.Session.Close())

	var isolation, synchronous, timeout string
	require.NoError(t, db.QueryRow(`SELECT isolation, synchronous, current_setting('statement_timeout') FROM seen`).
		Scan(&isolation, &synchronous, &timeout))
	require.Equal(t, []string{"read committed", "on", "7s"}, []string{isolation, synchronous, timeout},
		"and the connection goes back as it came")
}

func separator(dsn string) string {
	for _, c := range dsn {
		if c == '?' {
			return "&"
		}
	}
	return "?"
}

func TestNow_IsReadAfterTheLock(t *testing.T) {
	t.Parallel()
	b := books(t)
	id := b.Tenant("acme")
	for attempt := 0; ; attempt++ {
		tx := hold(b, id)
		var now time.Time
		wait := storetest.Waiting(func() bool { return waiting(b) > 0 }, func() error {
			return b.Batch(&book.Want{Tenants: []book.ID{id}}, func(s *book.State) book.Effects {
				now = s.Now
				return book.Effects{}
			})
		})
		var held time.Time
		require.NoError(t, tx.QueryRow(`SELECT clock_timestamp()`).Scan(&held))
		require.NoError(t, tx.Rollback())
		err := wait()
		if err != nil && attempt < 10 && b.Store.Classify(err) == fault.Locked {
			continue // this machine was too slow for the lock's timeout
		}
		require.NoError(t, err)
		require.True(t, now.After(held), "%v %v", now, held)
		return
	}
}

func TestAnchors_AreLockedInTheDescendingOrderOfTheirIDs(t *testing.T) {
	t.Parallel()
	b := books(t)
	want := &book.Want{}
	for range 40 {
		want.Tenants = append(want.Tenants, b.Tenant(storetest.ID().String()))
	}
	last := want.Tenants[len(want.Tenants)-1] // ids of version 7 ascend
	for attempt := 0; ; attempt++ {
		tx := hold(b, last)
		wait := storetest.Waiting(func() bool { return waiting(b) > 0 }, func() error {
			return b.Batch(want, func(*book.State) book.Effects { return book.Effects{} })
		})
		free := b.Int(`SELECT count(*) FROM (SELECT 1 FROM llm_balances WHERE tenant <> $1 AND window_unit = 'total' FOR UPDATE SKIP LOCKED) AS f`, last)
		stillWaits := waiting(b) > 0
		require.NoError(t, tx.Rollback())
		if err := wait(); err != nil || !stillWaits {
			require.Less(t, attempt, 10, "%v", err)
			continue // this machine was too slow for the lock's timeout
		}
		require.EqualValues(t, 40, free, "39 tenants and NoTenant")
		return
	}
}

func TestNew_RefusesOtherDrivers(t *testing.T) {
	t.Parallel()
	db := sql.OpenDB(connector{})
	defer func() { require.NoError(t, db.Close()) }()
	_, err := postgres.New(db)
	require.ErrorContains(t, err, "gorm.io/driver/postgres")
}

type connector struct{}

func (connector) Connect(context.Context) (driver.Conn, error) { return nil, errors.New("unused") }
func (c connector) Driver() driver.Driver                      { return c }
func (connector) Open(string) (driver.Conn, error)             { return nil, errors.New("unused") }

func TestClassify_SaysWhatAnErrorMeansForWhoeverTriesAgain(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	_, missing := db.Exec(`SELECT 1 FROM nowhere`)
	_, column := db.Exec(`SELECT colour FROM llm_tenants`)
	_, null := db.Exec(`INSERT INTO llm_tenants (id) VALUES (NULL)`)
	_, assertion := db.Exec(`SELECT 1 / (count(*) = 1)::int FROM llm_tenants`)
	_, refused := pool(t, "host=/nonexistent").Exec(`SELECT 1`)
	_, unsupported := db.Exec(`SELECT 1 UNION SELECT 2 FOR UPDATE`)
	require.ErrorContains(t, unsupported, "SQLSTATE 0A000")
	_, ended := db.Exec(`SELECT pg_terminate_backend(pg_backend_pid())`)
	code := func(code string) error { return fmt.Errorf("batch: %w", &pgconn.PgError{Code: code}) }
	for _, c := range []struct {
		err  error
		want fault.Class
	}{
		{code("55P03"), fault.Locked},
		{code("40001"), fault.Conflict},
		{code("40P01"), fault.Conflict},
		{code("57014"), fault.Conflict},
		{&pgconn.PgError{Code: "0A000", Message: "cached plan must not change result type"}, fault.Conflict},
		{&pgconn.PgError{Code: "0A000", Message: "Zwischengespeicherter Plan", Routine: "RevalidateCachedQuery"}, fault.Conflict},
		{code("0A000"), fault.Fatal},
		{unsupported, fault.Fatal},
		{code("26000"), fault.Conflict},
		{code("42P05"), fault.Conflict},
		{code("25P04"), fault.Locked},
		{&pgconn.PgError{Code: "25P04", SeverityUnlocalized: "FATAL"}, fault.Locked},
		{errors.Join(code("25P04"), postgres.ErrConnection), fault.Locked},
		{assertion, fault.Conflict},
		{missing, fault.NotMigrated},
		{column, fault.NotMigrated},
		{code("57P01"), fault.Unavailable},
		{code("57P02"), fault.Unavailable},
		{code("57P03"), fault.Unavailable},
		{code("08006"), fault.Unavailable},
		{code("53300"), fault.Unavailable},
		{code("25P03"), fault.Unavailable},
		{code("25006"), fault.Unavailable},
		{refused, fault.Unavailable},
		{fmt.Errorf("read: %w", io.ErrUnexpectedEOF), fault.Unavailable},
		{io.EOF, fault.Unavailable},
		{net.ErrClosed, fault.Unavailable},
		{&net.OpError{Op: "read", Err: errors.New("reset")}, fault.Unavailable},
		{driver.ErrBadConn, fault.Unavailable},
		{sql.ErrConnDone, fault.Unavailable},
		{context.DeadlineExceeded, fault.Unavailable},
		{context.Canceled, fault.Unavailable},
		{ended, fault.Unavailable},
		{&pgconn.PgError{Code: "XX000", SeverityUnlocalized: "FATAL"}, fault.Unavailable},
		{errors.Join(code("XX000"), postgres.ErrConnection), fault.Unavailable},
		{errors.Join(errors.New("what a proxy says"), postgres.ErrConnection), fault.Unavailable},
		{fmt.Errorf("%w: %w", fault.ErrConnect, code("42501")), fault.Unavailable},
		{fmt.Errorf("%w: %w", fault.ErrConnect, code("42P01")), fault.Unavailable},
		{code("XX000"), fault.Fatal},
		{code("42501"), fault.Fatal},
		{code("P0001"), fault.Fatal},
		{null, fault.Fatal},
		{code("23505"), fault.Fatal},
		{code("22003"), fault.Fatal},
		{code("42601"), fault.Fatal},
		{errors.New("anything else"), fault.Fatal},
	} {
		require.Error(t, c.err)
		require.Equal(t, c.want, s.Classify(c.err), "%v", c.err)
	}
}
