package tenant

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/directory"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/lane"
	"github.com/llmtenant/tenant/internal/process"
	"github.com/llmtenant/tenant/internal/records"
	"github.com/llmtenant/tenant/internal/report"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/internal/store/postgres"
	"github.com/llmtenant/tenant/internal/store/sqlite"
	"github.com/llmtenant/tenant/migrations"
)

// Ledger is the library opened on one database: the declared models, the prices, and the path on which calls are
// admitted and booked. It is safe for concurrent use.
type Ledger struct {
	reports
	db      *gorm.DB
	host    *sql.DB // of db
	pool    *sql.DB // of the write path
	dialect *sqldb.Dialect
	places  []*place     // the home first
	placed  atomic.Bool  // the database has them
	faults  fault.Reader // of the stores
	lanes   *lane.Places
	options openOptions
	zones   process.Zones
	reads   *reads // nil: there is no replica
	timers  lane.Timers
	windows decide.Config

	records    *records.Registry
	hostErrors sync.Map // that were named in the log

	outages   outages
	insisting chan struct{} // held by the call that insists; see insist
	firstUses singleflight.Group
	unmetered atomic.Int64  // requests
	looked    atomic.Int64  // first uses that asked the database
	making    chan struct{} // has an element for each first use that has a connection

	closing chan struct{}

	mu      sync.Mutex
	closed  bool
	pending map[*pendingEnd]bool
	open    map[book.ID]*Hold // holds that are neither settled nor released
	inside  int               // calls in the ledger, with or without a hold
	empty   chan struct{}     // closed when closing and nobody is inside any more
}

// reports is what package tenanthttp tells the ledger of, and programs do not.
type reports = report.Reports

// Open opens a ledger on the host's database, PostgreSQL or SQLite. It installs itself as a gorm plugin, so that
// the budgets of declared models follow their records, and so that the functions of this package find the ledger
// from any handle derived from db. One ledger can be open on a db at a time. Call it before db is used by more than one
// goroutine; Open itself does not talk to PostgreSQL.
//
// Errors: [ErrInvalidOption], for an invalid option, and for a db that cannot be used. It fails for another database, for one in memory, for connections that are not pgx's, and for a pool, or a pgxpool under
// it, that is too small for the lanes (see [WithLanes]) and one more connection. Connections that instruments have wrapped
// around pgx's are looked at: those of otelsql and others that show what is under them are used, and for those that do not
// (sqlmw), [WithLaneDB] gives the ledger a pool without them.
func Open(db *gorm.DB, options ...OpenOption) (*Ledger, error) {
	if db == nil {
		return nil, fmt.Errorf("%w: Open: the *gorm.DB is nil", ErrInvalidOption)
	}
	o := openOptions{
		log: slog.Default(), zone: "UTC", weekStart: time.Monday, clock: time.Now,
		thresholds: []int64{50, 80, 100},
		settleWait: 2 * time.Second, lease: 30 * time.Second, callTime: time.Hour, keysKept: 365 * 24 * time.Hour, maxReadLag: 30 * time.Second,
	}
	for _, option := range options {
		if option == nil {
			return nil, nilOption[OpenOption]("Open")
		}
		if err := option(&o); err != nil {
			return nil, err
		}
	}
	if o.lanes == 0 {
		o.lanes = 2
		if len(o.places) > 0 {
			o.lanes = 1 // of each place
		}
	}
	if len(o.observers) == 0 {
		o.observers = []Observer{LogObserver(o.log)}
	}
	o.told = o.listens()
	l := &Ledger{
		db: db, options: o, pending: map[*pendingEnd]bool{}, open: map[book.ID]*Hold{}, closing: make(chan struct{}), empty: make(chan struct{}),
		outages: outages{log: o.log}, insisting: make(chan struct{}, 1), making: make(chan struct{}, makingAtOnce),
	}
	l.reports = report.To(l.reportedUnmetered, l.reportedHostError, func(ctx context.Context, c report.Call) context.Context {
		h, _ := c.Hold.(*Hold)
		return l.contextOfCall(ctx, h)
	})
	if err := l.connect(); err != nil {
		return nil, err
	}
	c := records.Config{
		DB: db, Dialect: l.dialect, Places: o.places, Log: o.log, Faults: l.faults, Parent: parentOf, LimitTags: limitTags,
		Transaction: func(ctx context.Context, do func(*gorm.DB) error) error { return l.transaction(ctx, db, do) },
	}
	if o.knownOnly {
		c.Known = l.unknown
	}
	l.records = records.New(c)
	if err := l.zones.Init(o.zone, o.log); err != nil {
		return nil, err
	}
	l.windows = decide.Config{Zone: l.zones.Location, WeekStart: o.weekStart, Thresholds: o.thresholds}
	l.openLanes()
	if err := l.install(db); err != nil {
		_ = l.lanes.Close(context.Background())
		return nil, err
	}
	if o.readDB != nil {
		if err := l.attachReplica(); err != nil {
			_ = l.lanes.Close(context.Background())
			l.uninstall()
			return nil, err
		}
	}
	return l, nil
}

// DB returns the handle that the ledger was opened on: for whoever is given the ledger alone, and asks questions.
func (l *Ledger) DB() *gorm.DB { return l.db }

// Prices returns the price book that the ledger was opened with; nil where it has none.
func (l *Ledger) Prices() Prices { return l.options.prices }

// Lanes returns how many operations wait in each of this process's lanes for the next transaction, one place after the other, for status
// pages. It asks nothing of the database.
func (l *Ledger) Lanes() []int { return l.lanes.Queued() }

// Places returns the names of [WithPlaces], in their order; none without it. It asks nothing of the database.
func (l *Ledger) Places() []string { return slices.Clone(l.options.places) }

// Unmetered returns how many requests of this process package tenanthttp has let pass without metering them; see
// [UnmeteredEvent].
func (l *Ledger) Unmetered() int64 { return l.unmetered.Load() }

// connect chooses the store.
func (l *Ledger) connect() error {
	if _, ok := l.db.Statement.ConnPool.(gorm.TxCommitter); ok {
		return fmt.Errorf("%w: Open: the *gorm.DB is a transaction; give the one that it was begun on", ErrInvalidOption)
	}
	pool, err := l.db.DB()
	if err != nil {
		return fmt.Errorf("%w: Open: the *gorm.DB has no connection pool: %w", ErrInvalidOption, err)
	}
	l.host = pool
	if l.options.laneDB != nil {
		pool = l.options.laneDB
	}
	l.pool = pool
	l.places = []*place{{Ledger: l}}
	if len(l.options.places) > 0 {
		if l.options.root != nil {
			return fmt.Errorf("%w: Open: WithPlaces: %w (WithRootBudget)", ErrInvalidOption, directory.RootInPlaces())
		}
		l.places[0].schema = &sqldb.Schema{}
	}
	for _, name := range l.options.places {
		l.places = append(l.places, &place{Ledger: l, number: len(l.places), schema: &sqldb.Schema{Name: name}})
	}
	switch name := l.db.Name(); name {
	case "postgres":
		l.dialect = sqldb.Postgres
		sessions := l.sessions()
		if most := postgres.MaxConns(pool); most > 0 && most < sessions+1 {
			return fmt.Errorf("%w: Open: %s allows %d connections, and %d lanes need %d: raise SetMaxOpenConns (MaxConns of a pgxpool), or use WithLanes or WithLaneDB",
				ErrInvalidOption, l.poolName(), most, sessions, sessions+1)
		}
		for _, p := range l.places {
			books, err := postgres.New(pool)
			if err != nil {
				return fmt.Errorf("%w: Open: %w", ErrInvalidOption, err)
			}
			books.Sessions, books.Short, books.Schema = sessions, l.shortOf, p.schema
			p.store = books
		}
	case "sqlite":
		l.dialect = sqldb.SQLite
		if len(l.options.places) > 0 {
			return fmt.Errorf("%w: Open: WithPlaces: SQLite has no schemas; places need PostgreSQL", ErrInvalidOption)
		}
		l.options.lanes = 1
		if err := sqlite.Configure(context.Background(), pool); err != nil {
			return fmt.Errorf("%w: Open: %w", ErrInvalidOption, err)
		}
		l.places[0].store = sqlite.New(pool, nil)
	default:
		return fmt.Errorf("%w: Open: the database is %q, and the ledger runs on postgres and sqlite", ErrInvalidOption, name)
	}
	l.faults = l.places[0].store.Classify
	return nil
}

// poolName is the pool of the write path, as its host knows it.
func (l *Ledger) poolName() string {
	if l.options.laneDB != nil {
		return "the pool of WithLaneDB"
	}
	return "the pool of the *gorm.DB"
}

// shortOf reports a pool that was made smaller after Open.
func (l *Ledger) shortOf(most int) {
	l.options.log.Warn("tenant: "+l.poolName()+" was cut to fewer connections than the ledger's lanes need, which keep none now and wait for the host's "+
		"queries: raise SetMaxOpenConns, or give the ledger a pool of its own with WithLaneDB", "connections", most, "needed", l.sessions()+1)
}

// crowded says so where no connection of a pool was left to wait for.
func (l *Ledger) crowded(err error) error {
	for _, p := range []struct {
		name string
		pool *sql.DB
	}{{l.poolName(), l.pool}, {"the pool of the *gorm.DB", l.host}} {
		stats := p.pool.Stats()
		most, limit := stats.MaxOpenConnections, "SetMaxOpenConns"
		if l.dialect == sqldb.Postgres {
			if all := postgres.MaxConns(p.pool); all != most {
				most, limit = all, "MaxConns of its pgxpool"
			}
		}
		switch { // the users of a pgxpool are not all known here
		case most > 0 && stats.InUse >= most:
			return fmt.Errorf("%w; all %d connections of %s are in use: raise %s, or give the ledger a pool of its own with WithLaneDB",
				err, most, p.name, limit)
		case most > 0 && most != stats.MaxOpenConnections:
			return fmt.Errorf("%w; %s allows %d connections: if they are all in use, raise %s, or give the ledger a pool of its own with WithLaneDB",
				err, p.name, most, limit)
		}
	}
	return err
}

func (l *Ledger) directory() directory.Directory {
	return directory.Directory{Dialect: l.dialect, Places: l.options.places}
}

// Migrate creates the ledger's tables, or brings them up to date. It may be called at every start, by several processes
// at once, but not through a PgBouncer in transaction mode, where their lock is not kept: there, let one process migrate,
// or migrate over a direct connection. It may be called within a goose run of the host's, there in a migration without a
// transaction (on SQLite, whose only writer it needs to be). The same files are in the folder migrations, for whoever runs
// them with another tool.
//
// Errors: [ErrInvalidOption] for places on a node of Citus that is not the coordinator, or where Citus would have to copy tables that
// [Ledger.MigrateRowSecurity] was called for; otherwise those of the database and ctx's own.
func (l *Ledger) Migrate(ctx context.Context) error {
	if err := l.throughCoordinator(ctx, l.pool); err != nil {
		return err
	}
	if err := migrations.Up(ctx, l.pool, l.dialect.Name); err != nil || len(l.options.places) == 0 {
		return err
	}
	return l.migratePlaces(ctx)
}

// Partition has PostgreSQL keep the executions by month from the end of the present month on, so that what [Ledger.Prune] has
// emptied goes back to the file system at once, and each month's indexes stay small. What is there stays where it is, as one partition.
// It keeps calls from the table while it runs, for some milliseconds and for as long as it takes to look once at every
// execution that there is; it is for a quiet hour, or for the beginning. Defaults to not: one table, in which the ends of calls and the
// questions that read single calls are found a little faster. It is for a role that owns the table; a second time it does nothing.
//
// From then on the ledger makes the months ahead, two at a time, where its role may create tables. Otherwise, and where none did in
// time, calls go into the last partition, which has no end, and nothing fails: this may be called by another role then, and again.
// The months are those of the ids, by the clocks of the processes that make them.
//
// Errors: [ErrInvalidOption] on SQLite; otherwise those of [Ledger.Verify].
func (l *Ledger) Partition(ctx context.Context) error {
	if !l.dialect.LocksRows {
		return fmt.Errorf("%w: Partition: SQLite has no partitions", ErrInvalidOption)
	}
	for _, p := range l.places {
		err := p.briefly(ctx, func(ctx context.Context, b books.Books) error { return b.Partition(ctx) })
		if err == nil {
			err = p.makeMonths(ctx)
		}
		if err != nil {
			return l.failure(ctx, err)
		}
	}
	return nil
}

// makeMonths makes the partitions that are to be made ahead, where executions are kept by month.
func (p *place) makeMonths(ctx context.Context) error {
	is, err := p.on(p.pool).Partitioned(ctx)
	for more := is; more && err == nil; {
		err = p.briefly(ctx, func(ctx context.Context, b books.Books) (err error) {
			more, err = b.NextMonth(ctx)
			return err
		})
	}
	return err
}

// idle is what a process does beside its calls: it folds the roll-up, and makes the months ahead.
func (p *place) idle() func(context.Context) {
	fold, every := p.foldNow(), time.Hour
	next := time.Now().Add(time.Minute)
	return func(ctx context.Context) {
		fold(ctx)
		if time.Now().Before(next) {
			return
		}
		next = time.Now().Add(every)
		if err := p.makeMonths(ctx); err != nil && ctx.Err() == nil {
			p.options.log.Info("tenant: the next month of executions has no partition yet; calls go into the last one", "error", err)
		}
	}
}

// Close ends the ledger: new calls get [ErrClosed], those that run may still settle, and what is settled is booked,
// until ctx ends. What was not on the books by then is named in an [*UnsettledError]; it is covered by holds, which are
// charged in its place, unless it is Unbooked. The host's database stays open, and its writes go on. A second Close does nothing.
func (l *Ledger) Close(ctx context.Context) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	close(l.closing)
	if l.inside == 0 {
		close(l.empty)
	}
	l.mu.Unlock()

	select {
	case <-l.empty:
	case <-ctx.Done():
	}
	err := l.lanes.Close(ctx)
	l.uninstall()
	if unsettled := l.unsettled(); unsettled != nil {
		return unsettled
	}
	if errors.Is(err, ctx.Err()) {
		return nil // nothing was lost
	}
	return err
}

func (l *Ledger) unsettled() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) == 0 {
		return nil
	}
	e := &UnsettledError{}
	for _, h := range l.open {
		e.Unsettled = append(e.Unsettled, Unsettled{
			TenantID: h.TenantID, ExecutionID: h.ExecutionID, IdempotencyKey: h.exec.IdempotencyKey, Model: h.exec.Model,
			Usage: h.usage, Settling: h.settling, Unbooked: h.Unbooked,
		})
	}
	return e
}

// goesOn returns ErrClosed from Close on.
func (l *Ledger) goesOn() error {
	select {
	case <-l.closing:
		return ErrClosed
	default:
		return nil
	}
}

// enter lets a call into the ledger; leave is to follow, at the latest when its hold has ended.
func (l *Ledger) enter() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	l.inside++
	return nil
}

// enterWith lets in a call that has to be ended: Close waits for it, and names it.
func (l *Ledger) enterWith(h *Hold) error {
	if err := l.enter(); err != nil {
		return err
	}
	l.mu.Lock()
	l.open[h.exec.ID] = h
	l.mu.Unlock()
	return nil
}

// start makes sure that the lanes run.
func (l *Ledger) start(ctx context.Context, op *decide.Op) error {
	if l.lanes.Started(op.Key) {
		return nil
	}
	within := ctx
	if l.options.admitWhenUnavailable && op.Kind == decide.Reserve {
		var cancel context.CancelFunc
		within, cancel = context.WithTimeout(ctx, l.outages.patience())
		defer cancel()
	}
	if err := l.lanes.Start(within, op.Key); err != nil {
		return l.explain(err)
	}
	return nil
}

func (l *Ledger) leave(h *Hold) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h != nil {
		if l.open[h.exec.ID] == nil {
			return
		}
		delete(l.open, h.exec.ID)
	}
	l.inside--
	if l.closed && l.inside == 0 {
		close(l.empty)
	}
}

// explain gives an error of the write path the form in which the host sees it.
func (l *Ledger) explain(err error) error {
	var away *fault.UnreachableError
	switch {
	case errors.As(err, &away):
		return &fault.UnreachableError{Err: l.crowded(away.Err)}
	case errors.Is(err, ErrUnavailable), errors.Is(err, ErrNotMigrated), errors.Is(err, ErrClosed), errors.Is(err, ErrInvalidOption):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return fmt.Errorf("tenant: %w", err)
}
