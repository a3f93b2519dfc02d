package tenant

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/process"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Process is a process that has made calls on a ledger's database, and has not closed its ledger.
type Process struct {
	ID        string
	Own       bool // it is the one that asks
	StartedAt time.Time
	BeatAt    time.Time     // when its last heartbeat was, by the database's clock
	Lease     time.Duration // see WithLease
	Alive     bool          // its last heartbeat is no older than its lease; its calls are ended by others otherwise

	// OtherTimeZones are those that this process and the one that asks both use, and in which they have other days, because
	// their zone data are of different versions. See [TimeZoneDiffersEvent].
	OtherTimeZones []string
}

// Processes returns the processes that have the ledger of db open, and those that were killed and are not forgotten yet, the
// oldest first: for status pages. It writes nothing, and reads where [Cost] reads. A process sends heartbeats to each place that it has calls in
// (see [WithPlaces]): the one that is behind counts.
//
// Errors: [ErrNotOpen], [ErrClosed], [ErrNotMigrated], [ErrUnavailable], and ctx's own.
func Processes(ctx context.Context, db *gorm.DB) ([]Process, error) {
	q, err := ask(ctx, db, nil)
	if err != nil {
		return nil, err
	}
	processes := map[string]Process{}
	err = q.everywhere(func(b books.Books) error { return q.processes(ctx, b, processes) })
	if err != nil {
		return nil, q.failure(ctx, err)
	}
	return slices.SortedFunc(maps.Values(processes), func(a, b Process) int {
		return cmp.Or(a.StartedAt.Compare(b.StartedAt), cmp.Compare(a.ID, b.ID))
	}), nil
}

// processes adds those that have calls in a place.
func (q *question) processes(ctx context.Context, in books.Books, all map[string]Process) error {
	own := q.zones.Seen(time.Now())
	return sqldb.EachRow(ctx, in.Conn, `SELECT CAST(p.id AS text), p.started_at, p.beat_at, p.lease_ms, p.zones, `+q.dialect.Clock+` FROM llm_processes p`, nil, func(r sqldb.Row) error {
		var (
			p     Process
			row   book.Process
			lease int64
			now   time.Time
		)
		err := r.Scan(&p.ID, sqldb.Instant(&p.StartedAt), sqldb.Instant(&p.BeatAt), &lease, &row.Zones, sqldb.Instant(&now))
		if err != nil {
			return err
		}
		if row.ID, err = uuid.Parse(p.ID); err != nil {
			return fmt.Errorf("the id of a process: %w", err)
		}
		p.Own, p.Lease = row.ID == q.lanes.ID(), time.Duration(lease)*time.Millisecond
		p.Alive = now.Sub(p.BeatAt) < p.Lease
		p.OtherTimeZones = slices.Sorted(maps.Keys(own.Differences(process.SeenBy(row))))
		if other, there := all[p.ID]; there {
			if other.BeatAt.Before(p.BeatAt) {
				p.BeatAt = other.BeatAt
			}
			if other.StartedAt.Before(p.StartedAt) {
				p.StartedAt = other.StartedAt
			}
			p.Alive = p.Alive && other.Alive
		}
		all[p.ID] = p
		return nil
	})
}

// TimeZoneDiffersEvent says that another living process on this ledger's database has other days in a time zone: their
// zone data are of different versions. It comes once for each zone in each of the two, and the ledger's logger has it too.
// Until both have the same zone data, a window ends where its stored end is, and the next one ends where whichever process
// opens it sees the end of the day.
type TimeZoneDiffersEvent struct {
	TimeZone string // an IANA name

	// Year is the first one in which the offsets differ; 0 where one of the two processes does not know the zone.
	Year int

	// ProcessID and OtherProcessID are those of [Process].
	ProcessID, OtherProcessID string
}

func (*TimeZoneDiffersEvent) event() {}

// compareZones looks at how other living processes see the zones that this one uses.
func (l *Ledger) compareZones(living []book.Process) {
	own := l.zones.Seen(time.Now())
	for _, p := range living {
		differences := own.Differences(process.SeenBy(p))
		for _, name := range slices.Sorted(maps.Keys(differences)) {
			if !l.zones.Tell(name) {
				continue
			}
			e := &TimeZoneDiffersEvent{TimeZone: name, Year: differences[name], ProcessID: l.lanes.ID().String(), OtherProcessID: p.ID.String()}
			l.options.log.Warn("tenant: another process has other days in a time zone, by zone data of another version; "+
				"a window ends where its stored end is: give both the same zone data",
				"zone", e.TimeZone, "year", e.Year, "process", e.ProcessID, "other", e.OtherProcessID)
			l.observe(context.Background(), e)
		}
	}
}

// ReadStatus says where what may be a little old is read, for status pages; see [WithReadDB].
type ReadStatus struct {
	// Replica: the replica answers. Otherwise the primary does, and Err says why.
	Replica bool

	// Lag is how far the replica is behind: what was committed before that is there. It is zero where the replica has all that was
	// committed, and where Err says that it is not known.
	Lag time.Duration

	MaxLag time.Duration // see WithMaxReadLag
	Err    error         `json:"-"`
}

// reads is the replica, and what was last found out about it.
type reads struct {
	db     *gorm.DB
	maxLag time.Duration

	mu     sync.Mutex
	looked time.Time // zero: never
	good   time.Duration
	status ReadStatus
}

const (
	// readsKnown is for how long it is taken that a replica is as far behind as it was.
	readsKnown = time.Second

	// readsLook is how long its answer is waited for.
	readsLook = 2 * time.Second

	// readsRest is for how long a replica is left alone that did not answer.
	readsRest = 5 * time.Second
)

func (l *Ledger) attachReplica() error {
	if l.dialect != sqldb.Postgres {
		return fmt.Errorf("%w: WithReadDB: the ledger's database is %s, which has no replicas", ErrInvalidOption, l.dialect.Name)
	}
	if err := l.attach(l.options.readDB, true); err != nil {
		return fmt.Errorf("WithReadDB: %w", err)
	}
	l.reads = &reads{db: l.options.readDB, maxLag: l.options.maxReadLag}
	return nil
}

// ReadDB returns the handle on which to ask for what may be a little old, lists, series, exports: that of [WithReadDB], or the ledger's own
// where there is none, where it is too far behind, or where it does not answer. It looks once a second at most, and waits for 2 seconds at most;
// a replica that did not answer is left alone for 5.
//
// On the replica's handle, [QueryUsage], [UsageSummary], [ExecutionsPage], [ListExecutions], [Export], [Executions] and [AuditLog] read the replica. Whatever is asked of
// balances and of what was spent ([Cost], [BudgetStatus] and the like) reads the primary all the same. Where the replica fails, or cancels a
// query because it was in the way of what the primary has sent (SQLSTATE 40001), the first four ask the primary instead; an export does
// so too, as long as nothing was written. In a transaction, and in the middle of an export, the error matches [ErrReadDB]. The last two are the
// host's own queries, with the database's errors.
func (l *Ledger) ReadDB(ctx context.Context) *gorm.DB {
	if status, ok := l.ReadStatus(ctx); ok && status.Replica {
		return l.reads.db
	}
	return l.db
}

// ReadStatus says where [Ledger.ReadDB] leads. It reports false without [WithReadDB].
func (l *Ledger) ReadStatus(ctx context.Context) (ReadStatus, bool) {
	r := l.reads
	if r == nil {
		return ReadStatus{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.looked.IsZero() && time.Since(r.looked) < r.good {
		return r.status, true
	}
	// The one who asks may go; what was found out is for all.
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), readsLook)
	defer cancel()
	status := ReadStatus{MaxLag: r.maxLag}
	lag, err := l.behind(within)
	switch {
	case err != nil:
		status.Err = fmt.Errorf("%w: %w", ErrReadDB, err)
	case lag > r.maxLag:
		status.Lag = lag
		status.Err = fmt.Errorf("%w is %v behind, and may be %v (WithMaxReadLag)", ErrReadDB, lag.Round(time.Millisecond), r.maxLag)
	default:
		status.Lag, status.Replica = lag, true
	}
	rest := readsKnown
	if err != nil {
		rest = readsRest
	}
	l.setReads(status, rest)
	return status, true
}

// setReads keeps what was found out about the replica, and says so where it is news. The caller has its mutex.
func (l *Ledger) setReads(status ReadStatus, good time.Duration) {
	r := l.reads
	switch {
	case status.Err != nil && (r.looked.IsZero() || r.status.Err == nil):
		l.options.log.Warn("tenant: the primary is asked in the place of the replica", "error", status.Err)
	case status.Err == nil && r.status.Err != nil:
		l.options.log.Info("tenant: the replica is asked again", "lag", status.Lag)
	}
	r.status, r.good, r.looked = status, good, time.Now()
}

// behind is how far the replica is behind the primary.
func (l *Ledger) behind(ctx context.Context) (time.Duration, error) {
	primary, err := books.Books{Dialect: l.dialect, Conn: l.db.Statement.ConnPool}.Server(ctx)
	if err != nil {
		return 0, fmt.Errorf("cannot be compared with the primary: %w", err)
	}
	b := books.Books{Dialect: l.dialect, Conn: l.reads.db.Statement.ConnPool}
	s, err := b.Server(ctx)
	if err != nil {
		return 0, err
	}
	return b.Behind(ctx, s, primary)
}

// isReplica reports whether a handle is of the replica.
func isReplica(db *gorm.DB) bool {
	if db == nil || db.Config == nil {
		return false
	}
	p, ok := db.Plugins[pluginName].(*plugin)
	return ok && p.replica
}

// primary is a handle with the same conditions that asks the primary.
func (l *Ledger) primary(ctx context.Context, db *gorm.DB) *gorm.DB {
	db = db.WithContext(ctx)
	db.Statement.ConnPool = l.db.Statement.ConnPool
	return db
}

// replicaFailed returns an error of the replica with its name, and whether the primary can be asked instead.
func (l *Ledger) replicaFailed(ctx context.Context, db *gorm.DB, err error) (named error, again bool) {
	if err == nil || ctx.Err() != nil || !isReplica(db) {
		return err, false
	}
	class := l.faults(err)
	switch class {
	case fault.Unavailable, fault.NotMigrated:
		l.reads.mu.Lock()
		l.setReads(ReadStatus{MaxLag: l.reads.maxLag, Err: fmt.Errorf("%w: %w", ErrReadDB, err)}, readsRest)
		l.reads.mu.Unlock()
	case fault.Conflict, fault.Locked:
	default:
		return err, false
	}
	_, within := db.Statement.ConnPool.(gorm.TxCommitter)
	return fmt.Errorf("%w: %w", ErrReadDB, err), !within
}

// onReplica asks the primary where the replica fails.
func onReplica[T any](ctx context.Context, db *gorm.DB, ask func(db *gorm.DB) (T, error)) (T, error) {
	answer, err := ofOneMoment(ctx, db, ask)
	if err == nil || !isReplica(db) {
		return answer, err
	}
	l, closed := ledgerOf(db)
	if closed != nil {
		return answer, err
	}
	named, again := l.replicaFailed(ctx, db, err)
	if !again {
		return answer, named
	}
	return ofOneMoment(ctx, l.primary(ctx, db), ask)
}
