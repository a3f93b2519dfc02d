package tenant_test

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// openPgxPool opens gorm on a pgxpool of some connections.
func openPgxPool(t *testing.T, dsn string, most int32) *gorm.DB {
	t.Helper()
	config, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	config.MaxConns = most
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return openAt(t, postgres.New(postgres.Config{Conn: stdlib.OpenDBFromPool(pool)}))
}

// The limit of a pgxpool is not known to the database/sql pool above it, and starves whoever else needs a connection.
func TestOpen_RefusesAPgxpoolThatIsTooSmall(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	db := openPgxPool(t, dsn, 2)
	_, err := tenant.Open(db)
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	for _, says := range []string{"the pool of the *gorm.DB allows 2 connections, and 2 lanes need 3", "MaxConns of a pgxpool", "WithLaneDB"} {
		require.ErrorContains(t, err, says)
	}
	small, err := openPgxPool(t, dsn, 2).DB()
	require.NoError(t, err)
	_, err = tenant.Open(db, tenant.WithLaneDB(small))
	require.ErrorContains(t, err, "the pool of WithLaneDB allows 2 connections")

	large, err := openPgxPool(t, dsn, 3).DB()
	require.NoError(t, err)
	ledger := openLedger(t, db, tenant.WithLaneDB(large))
	require.NoError(t, call(t, ledger, acme, "1"))
	require.NoError(t, ledger.Close(t.Context()))
	ledger = openLedger(t, openPgxPool(t, dsn, 2), tenant.WithLanes(1))
	require.NoError(t, call(t, ledger, acme, "1"))
}

// syncBuffer is a log that is written and read by different goroutines.
type syncBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

// A host that cuts its pool after Open still gets its queries through, whether the lanes are idle or busy, and is told once.
func TestPool_ThatIsCutAfterOpenStarvesNobody(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]bool{"before the first call": false, "while the lanes keep theirs": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := openDatabase(t, "postgres")
			var log syncBuffer
			ledger := openLedger(t, db, tenant.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
			pool, err := db.DB()
			require.NoError(t, err)
			tenants := []tenant.ID{"a", "b", "c", "d", "e", "f"}
			calls := func() {
				for _, id := range tenants {
					require.NoError(t, call(t, ledger, id, "0.1"))
				}
			}
			if first {
				calls()
				// A lane is chosen by an id that is drawn: now and then all of them have the same.
				for more := 0; pool.Stats().InUse < 2 && more < 64; more++ {
					tenants = append(tenants, tenant.ID(fmt.Sprint("more-", more)))
					calls()
				}
				require.Equal(t, 2, pool.Stats().InUse, "each lane keeps one")
			}
			pool.SetMaxOpenConns(2)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			require.NoError(t, db.WithContext(ctx).Exec("SELECT 1").Error, "idle lanes give theirs back")

			var busy sync.WaitGroup
			for _, id := range tenants {
				busy.Go(func() {
					for range 10 {
						if err := call(t, ledger, id, "0.1"); err != nil {
							t.Error(err)
						}
					}
				})
			}
			for range 20 {
				require.NoError(t, db.WithContext(ctx).Exec("SELECT 1").Error)
			}
			busy.Wait()
			require.Equal(t, 1, strings.Count(log.String(), "was cut to fewer connections"), log.String())
			require.Contains(t, log.String(), "the pool of the *gorm.DB was cut")
			require.Contains(t, log.String(), "WithLaneDB")
			requireConservation(t, db)
		})
	}
}

// A call that gets no connection says which pool has none left, and what to do.
func TestPool_ThatIsUsedUpIsNamed(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		pool, err := db.DB()
		require.NoError(t, err)
		pool.SetMaxOpenConns(1)
		require.NoError(t, call(t, ledger, acme, "0.1"), "the only one is in turn the lane's and the host's")
		tx := db.Begin()
		require.NoError(t, tx.Error)
		require.NoError(t, tx.Exec("SELECT 1").Error)
		soon := func() context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			t.Cleanup(cancel)
			return ctx
		}
		_, question := tenant.CostToday(soon(), db, acme)
		_, short := ledger.Reserve(soon(), acme, cent)
		require.ErrorIs(t, question, context.DeadlineExceeded)
		require.ErrorIs(t, short, context.DeadlineExceeded)
		_, long := ledger.Reserve(t.Context(), acme, cent, tenant.WithWait(0))
		require.ErrorIs(t, long, tenant.ErrUnavailable)
		for _, err := range []error{question, short, long} {
			require.ErrorContains(t, err, "all 1 connections of the pool of the *gorm.DB are in use: raise SetMaxOpenConns, or give the ledger a pool of its own with WithLaneDB")
		}
		require.NoError(t, tx.Rollback().Error)
		require.NoError(t, call(t, ledger, acme, "0.1"))
	})
}

// Connections as instruments wrap them: one names what is under it by a method, one shows it in a field, one hides it.
type (
	byMethod struct{ inner driver.Conn }
	byField  struct{ driver.Conn }
	hidden   struct{ inner driver.Conn }
)

func (c byMethod) Prepare(query string) (driver.Stmt, error) { return c.inner.Prepare(query) }
func (c byMethod) Close() error                              { return c.inner.Close() }
func (c byMethod) Begin() (driver.Tx, error)                 { return c.inner.Begin() } //nolint:staticcheck // of the interface
func (c byMethod) Raw() driver.Conn                          { return c.inner }
func (c byMethod) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	return c.inner.(driver.ConnBeginTx).BeginTx(ctx, o)
}

func (c byField) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, o)
}

func (c hidden) Prepare(query string) (driver.Stmt, error) { return c.inner.Prepare(query) }
func (c hidden) Close() error                              { return c.inner.Close() }
func (c hidden) Begin() (driver.Tx, error)                 { return c.inner.Begin() } //nolint:staticcheck // of the interface
func (c hidden) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	return c.inner.(driver.ConnBeginTx).BeginTx(ctx, o)
}

// wrapping is a connector whose connections are wrapped, and whose driver is not pgx's.
type wrapping struct {
	driver.Connector
	wrap func(driver.Conn) driver.Conn
}

func (w wrapping) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := w.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return w.wrap(conn), nil
}

func (w wrapping) Driver() driver.Driver { return w }

func (w wrapping) Open(string) (driver.Conn, error) { return w.Connect(context.Background()) }

func TestWrappedConnections_AreUsedWhereTheyShowWhatIsUnderThem(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		wrap   func(driver.Conn) driver.Conn
		hidden bool
	}{
		"by a method":  {wrap: func(c driver.Conn) driver.Conn { return byMethod{c} }},
		"in a field":   {wrap: func(c driver.Conn) driver.Conn { return &byField{c} }},
		"one in other": {wrap: func(c driver.Conn) driver.Conn { return byMethod{byField{c}} }},
		"not at all":   {wrap: func(c driver.Conn) driver.Conn { return hidden{c} }, hidden: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.DSN(t)
			config, err := pgx.ParseConfig(dsn)
			require.NoError(t, err)
			db := openAt(t, postgres.New(postgres.Config{Conn: sql.OpenDB(wrapping{stdlib.GetConnector(*config), c.wrap})}))
			var options []tenant.OpenOption
			if c.hidden {
				_, err := tenant.Open(db)
				require.ErrorIs(t, err, tenant.ErrInvalidOption)
				require.ErrorContains(t, err, "tenant_test.hidden")
				require.ErrorContains(t, err, "WithLaneDB")
				lanes := stdlib.OpenDB(*config)
				t.Cleanup(func() { _ = lanes.Close() })
				options = append(options, tenant.WithLaneDB(lanes))
			}
			ledger := openLedger(t, db, options...)
			require.NoError(t, ledger.Migrate(t.Context()))
			org := newOrganization(t, db, ledger, "acme", dollar)
			require.NoError(t, call(t, ledger, org, "0.1"))
			cost, err := tenant.CostToday(t.Context(), db, org)
			require.NoError(t, err)
			require.Equal(t, "0.1", cost.String())
			requireConservation(t, db)
		})
	}

	pool, err := pgxpool.New(t.Context(), pgtest.DSN(t)+"&pool_max_conns=2")
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	db := openAt(t, postgres.New(postgres.Config{Conn: sql.OpenDB(wrapping{
		stdlib.GetPoolConnector(pool), func(c driver.Conn) driver.Conn { return byMethod{c} },
	})}))
	_, err = tenant.Open(db)
	require.ErrorContains(t, err, "allows 2 connections", "the pgxpool is found under the wrapping too")
}
