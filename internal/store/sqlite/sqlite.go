// Package sqlite keeps the books in SQLite, through any driver for database/sql. It promises one machine and one clock.
package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/internal/store"
)

// Store is a SQLite database.
type Store struct {
	db    *sql.DB
	clock func() time.Time

	// writer is held by the session whose batch runs. SQLite has one write lock and lets those who want it poll; sessions
	// of one process wait in line instead.
	writer chan struct{}

	// Of whoever holds it: when the last one ended, how long others are owed the write lock, and until when they have it.
	ended, rest time.Time
	owed        time.Duration
}

// New returns the store on a pool of connections. It does not connect. The clock is the one that decisions are made by;
// nil is time.Now.
func New(db *sql.DB, clock func() time.Time) *Store {
	if clock == nil {
		clock = time.Now
	}
	return &Store{db: db, clock: clock, writer: make(chan struct{}, 1)}
}

// Configure prepares the database for a ledger: it sets the journal mode to WAL, which the file keeps. It returns an
// error if the database, or the pool, is one that a ledger cannot work with.
func Configure(ctx context.Context, db *sql.DB) error {
	// A call made while the host reads the rows of a query of its own would wait for ever for the only connection.
	if db.Stats().MaxOpenConnections == 1 {
		return errors.New("tenant: the pool of the SQLite database has one connection (SetMaxOpenConns(1)): " +
			"the ledger needs one beside the host's, so allow at least 2")
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("tenant: open the SQLite database: %w", err)
	}
	defer func() { _ = conn.Close() }()
	restore, err := setup(ctx, conn, settings{"busy_timeout": int64(slice / time.Millisecond)})
	if err != nil {
		return explain(err)
	}
	defer restore()

	var (
		number int
		name   string
		file   sql.NullString
	)
	// The main database is the first of the list.
	if err := conn.QueryRowContext(ctx, "PRAGMA database_list").Scan(&number, &name, &file); err != nil {
		return explain(err)
	}
	if file.String == "" {
		return errors.New("tenant: the SQLite database is in memory, where each connection has a database of its own: " +
			"give it a file, such as one in t.TempDir() for a test")
	}
	var mode string
	err = patiently(ctx, func() error { return conn.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode) })
	if err != nil {
		return fmt.Errorf("tenant: set the journal mode of the SQLite database to WAL: %w", explain(err))
	}
	if mode != "wal" {
		return fmt.Errorf("tenant: the SQLite database %s keeps the journal mode %q and the ledger needs WAL: "+
			"it must be a file on a local disk that may be written", file.String, mode)
	}
	return nil
}

// LockWriter waits in line with the batches of this process, and keeps the next one waiting until end is called. Whoever writes
// to the database in another way than by a batch has to poll for its write lock without it, and may never get it while
// batches follow each other.
//
// A fifth of the time the lock is left to the host and to other processes: they poll for it, and locks that follow each
// other without a gap would keep them out until they give up. They have it for so long at once that each of them finds it.
func (s *Store) LockWriter(ctx context.Context) (end func(), err error) {
	select {
	case s.writer <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := sqldb.Pause(ctx, time.Until(s.rest)); err != nil {
		<-s.writer
		return nil, err
	}
	start := time.Now()
	s.owed = max(0, s.owed-start.Sub(s.ended))
	return func() {
		s.ended = time.Now()
		s.owed += s.ended.Sub(start) / 4
		if s.owed >= longestPoll {
			s.rest, s.owed = s.ended.Add(longestPoll), 0
		}
		<-s.writer
	}, nil
}

// longestPoll is the longest that SQLite sleeps between two looks at the lock.
const longestPoll = 100 * time.Millisecond

// Session implements store.Store. A session takes a connection for each batch only.
func (s *Store) Session() store.Session { return session{s} }

type session struct{ *Store }

// Close implements store.Session.
func (session) Close() error { return nil }

// Batch implements store.Session. The context ends the waiting, for the write lock too; what comes after that is work of
// milliseconds, and is not interrupted: a driver may take an interrupted commit for one that succeeded.
func (s session) Batch(ctx context.Context, want *book.Want, decide func(*book.State) book.Effects) error {
	return s.use(ctx, func(conn *sql.Conn) error { return s.transaction(ctx, conn, want, decide) })
}

// Do implements store.Session.
func (s session) Do(ctx context.Context, do func(context.Context, sqldb.Conn) error) error {
	return s.use(ctx, func(conn *sql.Conn) error { return do(ctx, conn) })
}

// use has a connection used while the session is the writer.
func (s session) use(ctx context.Context, with func(*sql.Conn) error) error {
	end, err := s.LockWriter(ctx)
	if err != nil {
		return err
	}
	defer end()
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", fault.ErrConnect, err)
	}
	defer func() { _ = conn.Close() }()
	return explain(with(conn))
}

func (s session) transaction(ctx context.Context, conn *sql.Conn, want *book.Want, decide func(*book.State) book.Effects) error {
	undisturbed := context.WithoutCancel(ctx)
	restore, err := setup(undisturbed, conn, settings{"busy_timeout": int64(slice / time.Millisecond), "synchronous": full})
	if err != nil {
		return err
	}
	defer restore()
	if err := begin(ctx, conn); err != nil {
		return err
	}
	committed := false
	defer func() { // also when decide panics
		if !committed {
			rollback(undisturbed, conn)
		}
	}()
	state, err := s.read(undisturbed, conn, want)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if want.Missing != nil {
		if err := fill(undisturbed, conn, want.Missing(state)); err != nil {
			return err
		}
	}
	effects := decide(state)
	if effects.Empty() {
		return nil
	}
	if err := write(undisturbed, conn, &effects); err != nil {
		return err
	}
	if want.Rehearse != nil {
		if err := rehearse(undisturbed, conn, want.Rehearse(state)); err != nil {
			return fmt.Errorf("what the call will have used could not be booked: %w", err)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err = conn.ExecContext(undisturbed, "COMMIT")
	committed = err == nil
	return err
}

// rehearse writes effects and undoes that.
func rehearse(ctx context.Context, conn *sql.Conn, effects book.Effects) error {
	if effects.Empty() {
		return nil
	}
	if _, err := conn.ExecContext(ctx, "SAVEPOINT rehearsal"); err != nil {
		return err
	}
	if err := write(ctx, conn, &effects); err != nil {
		return err // the batch is undone with it
	}
	for _, statement := range []string{"ROLLBACK TO SAVEPOINT rehearsal", "RELEASE SAVEPOINT rehearsal"} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

const (
	// patience is how long a batch waits for the write lock.
	patience = 5 * time.Second

	// slice is how long SQLite waits for it without looking at the context, and the least time between two tries where it did
	// not wait. It looks the less often the longer it waits, and would hardly ever find it free beside a host that writes
	// without a pause.
	slice = 10 * time.Millisecond

	// full is the setting of PRAGMA synchronous that makes a commit survive a loss of power.
	full = 2
)

// begin takes the write lock.
func begin(ctx context.Context, conn *sql.Conn) error {
	return patiently(ctx, func() error {
		_, err := conn.ExecContext(context.WithoutCancel(ctx), "BEGIN IMMEDIATE")
		return err
	})
}

// patiently tries something until the database is not busy any more. SQLite's own waiting does not look at the context,
// and does not wait at all where that could end in a deadlock.
func patiently(ctx context.Context, try func() error) error {
	until := time.Now().Add(patience)
	for {
		start := time.Now()
		err := try()
		if err == nil || !isBusy(err) || time.Now().After(until) {
			return err
		}
		if ended := sqldb.Pause(ctx, time.Until(start.Add(slice))); ended != nil {
			return errors.Join(ended, err)
		}
	}
}

// rollback ends the transaction. A connection of which it is not certain that it has none is not used again.
func rollback(ctx context.Context, conn *sql.Conn) {
	if _, err := conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
}

// Briefly tries to take the write lock, on a connection whose own waiting for it may be a long one.
func Briefly(ctx context.Context, conn connection, take func() error) error {
	restore, err := setup(ctx, conn, settings{"busy_timeout": int64(slice / time.Millisecond)})
	if err != nil {
		return err
	}
	defer restore()
	return take()
}

// connection is a *sql.Conn, or a transaction on one.
type connection interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// settings are pragmas of a connection with whole numbers for values.
type settings map[string]int64

// setup changes settings of a connection. What it returns puts those back that the host had, whose connection it is.
func setup(ctx context.Context, conn connection, wanted settings) (restore func(), err error) {
	ctx = context.WithoutCancel(ctx) // the host's settings are put back in any case
	before := settings{}
	restore = func() {
		for name, value := range before {
			if _, err := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA %s = %d", name, value)); err != nil {
				return
			}
		}
	}
	for name, value := range wanted {
		var was int64
		if err := conn.QueryRowContext(ctx, "PRAGMA "+name).Scan(&was); err != nil {
			restore()
			return nil, err
		}
		if was == value {
			continue
		}
		if _, err := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA %s = %d", name, value)); err != nil {
			restore()
			return nil, err
		}
		before[name] = was
	}
	return restore, nil
}
