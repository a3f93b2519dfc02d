// Package postgres keeps the books in PostgreSQL, through the pgx connections under a database/sql pool.
package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/internal/store"
)

// Store is a PostgreSQL database.
type Store struct {
	// Sessions is how many sessions there are. In a pool that has not one more they keep no connection, and Short is told
	// once of how many it has. Both are set before the first session.
	Sessions int
	Short    func(most int)

	// Schema is where the tables of the books stand; nil: where a search_path finds them. It is set before the first session.
	Schema *sqldb.Schema

	db    *sql.DB
	under int // the limit of a pgxpool under the pool
	warn  sync.Once

	engine engine
	node   lastNode
}

// New returns the store on a pool of pgx connections, which others may be wrapped around. It does not connect but to look
// at one that is wrapped.
func New(db *sql.DB) (*Store, error) {
	if err := usable(db); err != nil {
		return nil, err
	}
	s := &Store{db: db}
	if most := MaxConns(db); most != db.Stats().MaxOpenConnections {
		s.under = most
	}
	return s, nil
}

// Session implements store.Store.
func (s *Store) Session() store.Session { return &session{store: s} }

// Classify implements store.Store.
func (s *Store) Classify(err error) fault.Class { return Classify(err) }

// Forbidden reports whether an error says that a role lacks a right.
func Forbidden(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "42501"
}

// Classify is that of every store.
func Classify(err error) fault.Class {
	var (
		pg      *pgconn.PgError
		network net.Error
		connect *pgconn.ConnectError
	)
	told := errors.As(err, &pg)
	switch {
	case errors.Is(err, fault.ErrConnect), errors.As(err, &connect):
		return fault.Unavailable
	case told && (pg.Code == "55P03" || pg.Code == "25P04"): // waited for a lock until the time of a statement, or of the transaction, was over
		return fault.Locked
	case errors.Is(err, errConnection), told && ends(pg):
		return fault.Unavailable // whatever the server said with it
	case told:
		return classes(pg)
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed), errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), pgconn.SafeToRetry(err):
		return fault.Unavailable
	}
	return fault.Fatal
}

// ends reports whether the server has ended the session with an error.
func ends(pg *pgconn.PgError) bool {
	return pg.SeverityUnlocalized == "FATAL" || pg.SeverityUnlocalized == "PANIC"
}

// classes says what the server means by an error after which the connection is there.
func classes(pg *pgconn.PgError) fault.Class {
	switch pg.Code {
	case "40001", "40P01", "57014", assertion:
		return fault.Conflict
	case "42P01", "42703":
		return fault.NotMigrated
	case "25P03", "25006":
		return fault.Unavailable
	}
	switch {
	case unprepared(pg), pg.Code == "0A000" && (pg.Routine == "RevalidateCachedQuery" || strings.Contains(pg.Message, "cached plan")):
		return fault.Conflict // the other 0A000 are refused for good
	case strings.HasPrefix(pg.Code, "08"), strings.HasPrefix(pg.Code, "57P"), strings.HasPrefix(pg.Code, "53"):
		return fault.Unavailable
	}
	return fault.Fatal
}

// unprepared reports whether the server's prepared statements are not those of this connection, as behind a PgBouncer that
// gives each transaction another one of the server's connections.
func unprepared(pg *pgconn.PgError) bool { return pg.Code == "26000" || pg.Code == "42P05" }

// assertion is the code of a division by zero: how a write says that it did not find the rows that it expects.
const assertion = "22012"

// errConnection marks an error after which the connection could not be used any more.
var errConnection = errors.New("the connection to the database is broken")

type session struct {
	store    *Store
	untyped  bool    // of the connection
	manner   *manner // of the connection; see greet
	ancestry ancestry
	words    words
	reads    *reader
	buffer   buffer
	hours    []store.Hour
	present  present
	limits   store.KnownLimits

	mu   sync.Mutex
	way  straight
	conn *sql.Conn // that is kept, nil while it is used
	look *time.Timer
}

// Close implements store.Session.
func (s *session) Close() error {
	var err error
	if conn := s.kept(); conn != nil {
		err = conn.Close()
	}
	return errors.Join(err, s.way.close())
}

// take returns the session's connection, which it has no more until it is given back: if what uses it panics, database/sql
// closes it.
func (s *session) take(ctx context.Context) (*sql.Conn, error) {
	if conn := s.kept(); conn != nil {
		if !s.stale(ctx, conn) {
			return conn, nil
		}
		_ = conn.Close()
		_ = s.way.close()
	}
	conn, err := s.connect(ctx)
	if err != nil {
		if conn != nil {
			_ = conn.Close()
		}
		return nil, fmt.Errorf("%w: %w", fault.ErrConnect, err)
	}
	err = conn.Raw(func(raw any) error {
		conn, err := pgxOf(raw)
		if err == nil {
			s.untyped = untyped(conn)
			s.manner, _ = conn.PgConn().CustomData()[mannerKey].(*manner)
		}
		return err
	})
	if err == nil && s.manner == nil {
		err = s.greet(ctx, conn)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("%w: %w", fault.ErrConnect, err)
	}
	return conn, nil
}

// Batch implements store.Session.
func (s *session) Batch(ctx context.Context, want *book.Want, decide func(*book.State) book.Effects) error {
	return s.use(ctx, func(conn *sql.Conn) (failure, broken error) {
		broken = conn.Raw(func(raw any) error {
			conn, err := pgxOf(raw)
			if err != nil {
				return err
			}
			if failure = s.transaction(ctx, conn, want, decide); failure == nil {
				return nil
			}
			return s.recover(ctx, conn, failure)
		})
		return failure, broken
	})
}

// recover ends the transaction of a batch that failed. Where it cannot, the connection is not used any more.
func (s *session) recover(ctx context.Context, conn *pgx.Conn, failure error) error {
	// Not the batch's own context: it may be what ended the transaction.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	if conn.IsClosed() {
		return driver.ErrBadConn
	}
	if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
		return driver.ErrBadConn
	}
	if pg := (*pgconn.PgError)(nil); errors.As(failure, &pg) && unprepared(pg) && conn.DeallocateAll(ctx) != nil {
		return driver.ErrBadConn
	}
	return nil
}

// Do implements store.Session.
func (s *session) Do(ctx context.Context, do func(context.Context, sqldb.Conn) error) error {
	return s.use(ctx, func(conn *sql.Conn) (failure, broken error) {
		if failure = do(ctx, conn); failure == nil {
			return nil, nil
		}
		return failure, conn.Raw(func(raw any) error {
			conn, err := pgxOf(raw)
			if err != nil {
				return err
			}
			return s.recover(ctx, conn, failure)
		})
	})
}

// use has the session's connection used, and keeps it where that is not broken by it.
func (s *session) use(ctx context.Context, with func(*sql.Conn) (failure, broken error)) error {
	conn, err := s.take(ctx)
	if err != nil {
		return err
	}
	failure, broken := with(conn)
	if broken != nil {
		_ = conn.Close() // database/sql has closed it already, unless it was broken before
		return errors.Join(failure, errConnection, broken)
	}
	s.keep(conn)
	if pg := (*pgconn.PgError)(nil); errors.As(failure, &pg) && unprepared(pg) {
		return fmt.Errorf("%w (behind a PgBouncer in transaction mode nothing can be prepared: open the database with "+
			"default_query_exec_mode=exec)", failure)
	}
	return failure
}

func (s *session) transaction(ctx context.Context, conn *pgx.Conn, want *book.Want, decide func(*book.State) book.Effects) error {
	state, err := s.read(ctx, conn, want)
	if err != nil {
		return err
	}
	if want.Missing != nil {
		if err := fill(ctx, conn, s.store.Schema, want.Missing(state)); err != nil {
			return err
		}
	}
	effects := decide(state)
	if effects.Empty() {
		_, err := conn.Exec(ctx, "ROLLBACK")
		return err
	}
	var rehearse func() book.Effects
	if want.Rehearse != nil {
		rehearse = func() book.Effects { return want.Rehearse(state) }
	}
	err = s.write(ctx, conn, state, &effects, rehearse)
	if s.manner.apart {
		s.present.learn(&effects, err)
	}
	return err
}
