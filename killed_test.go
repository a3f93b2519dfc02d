package tenant_test

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/glebarez/sqlite"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
	"github.com/llmtenant/tenant/pricing"
)

var errKilled = errors.New("the test has killed the process")

// ending is how a process ends, or what it loses.
type ending string

const (
	beforeStatement ending = "before a statement" // nothing that it says arrives from then on, nor does an answer
	afterCommit     ending = "after a commit"     // the same, as the database has committed and nobody has heard of it
	withoutOne      ending = "without a connection"
)

// killer ends a process as its database sees it, or cuts one of its connections.
type killer struct {
	mu     sync.Mutex
	left   int // statements, or commits, until then; 0: never
	how    ending
	struck bool
	dead   chan struct{}
}

// arm has the process end at its nth statement, or commit, from now on.
func (k *killer) arm(n int, how ending) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.left, k.how = n, how
}

// passes says whether a statement, or the answer to a commit, gets through.
func (k *killer) passes(answer bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.left > 0 && (k.how == afterCommit) == answer {
		if k.left--; k.left == 0 {
			k.struck = true
			if k.how == withoutOne {
				return errKilled
			}
			close(k.dead)
		}
	}
	select {
	case <-k.dead:
		return errKilled
	default:
		return nil
	}
}

func (k *killer) lives() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.struck
}

// killable opens a database over connections that die with a killer.
func killable(t testing.TB, dialect, dsn string) (*gorm.DB, *sql.DB, *killer) {
	t.Helper()
	k := &killer{dead: make(chan struct{})}
	var dialector gorm.Dialector
	var pool *sql.DB
	if dialect == "sqlite" {
		own, err := sql.Open(sqlite.DriverName, dsn)
		require.NoError(t, err)
		pool = sql.OpenDB(&mortalFile{own.Driver(), dsn, k})
		require.NoError(t, own.Close())
		dialector = &sqlite.Dialector{Conn: pool}
	} else {
		config, err := pgx.ParseConfig(dsn)
		require.NoError(t, err)
		config.TLSConfig, config.Fallbacks = nil, nil // the messages are read on the way
		dial := config.DialFunc
		config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			if err := k.passes(true); err != nil {
				return nil, err
			}
			conn, err := dial(ctx, network, address)
			return &mortalWire{conn, k}, err
		}
		pool = stdlib.OpenDB(*config)
		dialector = postgres.New(postgres.Config{Conn: pool})
	}
	db, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	return db, pool, k
}

// mortalWire is a connection to PostgreSQL.
type mortalWire struct {
	net.Conn
	*killer
}

// Write sends what goes to the server together, which is one statement or several.
func (c *mortalWire) Write(b []byte) (int, error) {
	if err := c.passes(false); err != nil {
		return 0, errors.Join(err, c.Close())
	}
	return c.Conn.Write(b)
}

// Read reads what the server has answered.
func (c *mortalWire) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil && bytes.Contains(b[:n], []byte("COMMIT\x00")) {
		if err := c.passes(true); err != nil {
			return 0, errors.Join(err, c.Close())
		}
	}
	return n, err
}

// mortalFile connects to a file of SQLite.
type mortalFile struct {
	of  driver.Driver
	dsn string
	*killer
}

// Driver implements driver.Connector.
func (f *mortalFile) Driver() driver.Driver { return f.of }

// Connect implements driver.Connector.
func (f *mortalFile) Connect(context.Context) (driver.Conn, error) {
	conn, err := f.of.Open(f.dsn)
	return &mortalConn{conn, f.killer}, err
}

type mortalConn struct {
	driver.Conn
	*killer
}

// ExecContext implements driver.ExecerContext.
func (c *mortalConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.passes(false); err != nil {
		return nil, err
	}
	result, err := c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
	if err == nil && strings.EqualFold(query, "COMMIT") {
		err = c.passes(true)
	}
	return result, err
}

// QueryContext implements driver.QueryerContext.
func (c *mortalConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.passes(false); err != nil {
		return nil, err
	}
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

// BeginTx implements driver.ConnBeginTx.
func (c *mortalConn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	if err := c.passes(false); err != nil {
		return nil, err
	}
	tx, err := c.Conn.(driver.ConnBeginTx).BeginTx(ctx, options)
	return &mortalTx{tx, c.killer}, err
}

type mortalTx struct {
	driver.Tx
	*killer
}

// Commit implements driver.Tx.
func (t *mortalTx) Commit() error {
	if err := t.passes(false); err != nil {
		return err
	}
	if err := t.Tx.Commit(); err != nil {
		return err
	}
	return t.passes(true)
}

// Rollback implements driver.Tx.
func (t *mortalTx) Rollback() error {
	if err := t.passes(false); err != nil {
		return err
	}
	return t.Tx.Rollback()
}

// written is what is done to the books in more than one statement.
func written(now time.Time) map[string]func(ctx context.Context, l *tenant.Ledger) error {
	return map[string]func(ctx context.Context, l *tenant.Ledger) error{
		"prune": func(ctx context.Context, l *tenant.Ledger) error {
			_, err := l.Prune(ctx, now.AddDate(0, -2, 0), tenant.WithPruneBatch(13))
			return err
		},
		"roll up": func(ctx context.Context, l *tenant.Ledger) error { return l.RollUp(ctx) },
		"erase": func(ctx context.Context, l *tenant.Ledger) error {
			_, err := l.Erase(ctx, acme)
			if errors.Is(err, tenant.ErrInvalidOption) && strings.Contains(err.Error(), `there is no tenant "acme"`) {
				return nil // the one before it had come to its end
			}
			return err
		},
		"reprice": func(ctx context.Context, l *tenant.Ledger) error {
			_, err := l.Reprice(ctx, now.AddDate(0, -1, 0), now)
			return err
		},
		"import": func(ctx context.Context, l *tenant.Ledger) error {
			_, err := l.Import(ctx, "s", each(months(now, 70)...)) // of which 45 are there
			return err
		},
	}
}

// months is the first calls of a list of some months.
func months(now time.Time, n int) (calls []tenant.ImportedCall) {
	for i := range n {
		back := time.Duration(i) * 37 * time.Hour
		calls = append(calls, tenant.ImportedCall{
			ID: fmt.Sprint("call ", i), At: now.Add(-time.Minute - back), Agent: []string{"", "support"}[i%2],
			Tags:   map[string]string{"feature": []string{"chat", "search"}[i%2]},
			Tenant: []tenant.Tenant{acme, tenant.ID("globex"), nil}[i%3],
			Actual: tenant.Actual{Provider: "openai", Model: "m", Usage: tenant.Usage{Input: int64(100 + i), Output: 7}, Duration: time.Second},
		})
	}
	return calls
}

// makeMonths fills a database with the books that the others begin with.
func makeMonths(ctx context.Context, dialector gorm.Dialector, now time.Time) error {
	book, err := pricing.New(flat("m", "1"))
	if err != nil {
		return err
	}
	live := pricing.NewLive(book)
	return fill(dialector, func(db *gorm.DB, ledger *tenant.Ledger) error { return callForMonths(ctx, db, ledger, live, now) },
		tenant.WithPrices(live), tenant.WithRollupTags("feature"))
}

func callForMonths(ctx context.Context, db *gorm.DB, ledger *tenant.Ledger, live *pricing.Live, now time.Time) error {
	if err := ledger.Migrate(ctx); err != nil {
		return err
	}
	for _, of := range []struct {
		id     tenant.ID
		parent string
	}{{"company", ""}, {"acme", "company"}, {"globex", ""}} {
		if err := tenant.ConfigureBudget(ctx, db, of.id, func(b *tenant.Budget) error {
			b.ParentID, b.Limits.MonthlyCost = of.parent, tenant.USD("0.0001")
			return nil
		}); err != nil {
			return err
		}
	}
	if _, err := ledger.Import(ctx, "s", each(months(now, 45)...)); err != nil {
		return err
	}
	// The oldest are corrected: so are pairs that leave together, and others that are kept.
	dearer, err := pricing.New(flat("m", "1.5"))
	if err != nil {
		return err
	}
	live.Set(dearer)
	if _, err := ledger.Reprice(ctx, now.AddDate(0, -3, 0), now.AddDate(0, -1, -20)); err != nil {
		return err
	}
	hold, err := ledger.Reserve(ctx, acme, tenant.Estimate{Provider: "openai", Model: "m", InputTokens: 10, OutputTokens: 10}, tenant.WithIdempotencyKey("once"))
	if err != nil {
		return err
	}
	if _, err := ledger.Release(ctx, hold); err != nil {
		return err
	}
	_, err = ledger.Credit(ctx, acme, tenant.USD("0.00001"), "goodwill")
	return err
}

// figuresOf is all that books say, but for ids and moments.
func figuresOf(t testing.TB, db *gorm.DB) string {
	t.Helper()
	var text strings.Builder
	const sums = "count(*), sum(cost), sum(charge), sum(tokens), sum(calls)"
	for _, q := range []string{
		"SELECT status, model, agent, estimated, " + sums + " FROM llm_executions GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
		"SELECT status, model, agent, sum(cost), sum(charge), sum(tokens), sum(calls) FROM llm_pruned GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
		"SELECT model, agent, " + sums + " FROM llm_usage GROUP BY 1, 2 ORDER BY 1, 2",
		"SELECT sum(spent_cost), sum(spent_charge), sum(spent_tokens), sum(spent_calls), sum(held_cost), sum(held_calls) FROM llm_balances",
		"SELECT count(*) FROM llm_idempotency",
		"SELECT count(*) FROM llm_tenants",
		"SELECT count(*) FROM llm_thresholds",
		"SELECT action, count(*) FROM llm_audit WHERE action <> 'verify' GROUP BY 1 ORDER BY 1",
	} {
		eachRow(t, db, q, func(row []string) { fmt.Fprintln(&text, row) })
	}
	for _, by := range []tenant.Group{tenant.ByModel, tenant.ByAgent, tenant.ByTag("feature"), tenant.ByMonth} {
		answer, err := tenant.QueryUsage(t.Context(), db, tenant.Query{Everybody: true, Period: tenant.AllTime, By: []tenant.Group{by}})
		require.NoError(t, err, by)
		fmt.Fprintln(&text, by, answer.Rows, answer.Total)
	}
	return text.String()
}

// eachRow hands over the rows of a query as texts.
func eachRow(t testing.TB, db *gorm.DB, query string, enter func(row []string)) {
	t.Helper()
	rows, err := db.Raw(query).Rows()
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	columns, err := rows.Columns()
	require.NoError(t, err)
	for rows.Next() {
		texts, to := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range to {
			to[i] = &texts[i]
		}
		require.NoError(t, rows.Scan(to...))
		row := make([]string, len(columns))
		for i := range row {
			row[i] = texts[i].String
		}
		enter(row)
	}
	require.NoError(t, rows.Err())
}

func TestKilled_AtAnyStatementLeavesWhatTheNextOneFinishes(t *testing.T) {
	t.Parallel()
	now := time.Now()
	made := filepath.Join(t.TempDir(), "months.db")
	require.NoError(t, makeMonths(t.Context(), sqlite.Open(made), now))
	file, err := os.ReadFile(made)
	require.NoError(t, err)
	fresh := map[string]func(t *testing.T) string{
		"sqlite": func(t *testing.T) string {
			name := filepath.Join(t.TempDir(), "test.db")
			require.NoError(t, os.WriteFile(name, file, 0o600))
			return name + "?_pragma=busy_timeout(60000)"
		},
		"postgres": func(t *testing.T) string {
			return pgtest.Prepared(t, "months", func(dsn string) error { return makeMonths(context.Background(), postgres.Open(dsn), now) })
		},
	}
	options := []tenant.OpenOption{
		tenant.WithPrices(bookOf(t, flat("m", "2"))), tenant.WithRollupTags("feature"), tenant.WithLogger(slog.New(slog.DiscardHandler)),
	}
	for name, do := range written(now) {
		for dialect, copied := range fresh {
			t.Run(name+"/"+dialect, func(t *testing.T) {
				t.Parallel()
				whole := func(t *testing.T, dsn string) string {
					db := openAt(t, map[string]gorm.Dialector{"sqlite": sqlite.Open(dsn), "postgres": postgres.Open(dsn)}[dialect])
					ledger := openLedger(t, db, options...)
					require.NoError(t, do(t.Context(), ledger))
					found, err := ledger.Verify(t.Context())
					require.NoError(t, err)
					require.Empty(t, found)
					return figuresOf(t, db)
				}
				// An import ends at each statement. The others, of which whole runs of this test are long, at each commit and at one statement of a few.
				step := map[ending]int{beforeStatement: map[string]int{"sqlite": 7, "postgres": 13}[dialect], afterCommit: 1}
				if name == "import" {
					step[beforeStatement] = 1
					if dialect == "postgres" {
						step[withoutOne] = 1
					}
				}
				want, killed := whole(t, copied(t)), 0
				for how, step := range step {
					for n, lived := 1, false; !lived; n += max(step, n/100*8) {
						t.Run(fmt.Sprint(how, " ", n), func(t *testing.T) {
							dsn := copied(t)
							db, pool, k := killable(t, dialect, dsn)
							ledger, err := tenant.Open(db, options...)
							require.NoError(t, err)
							ctx, cancel := context.WithCancel(t.Context())
							ended := make(chan error, 1)
							k.arm(n, how)
							go func() { ended <- do(ctx, ledger) }()
							select {
							case err := <-ended:
								ended <- err
							case <-k.dead:
							}
							cancel()
							_ = ledger.Close(ctx)
							err = <-ended
							if lived = k.lives(); lived {
								require.NoError(t, err)
							} else {
								killed++
							}
							_ = pool.Close() // what is dead is closed
							require.Equal(t, want, whole(t, dsn))
						})
						if t.Failed() {
							return
						}
					}
				}
				require.Greater(t, killed, 5)
			})
		}
	}
}
