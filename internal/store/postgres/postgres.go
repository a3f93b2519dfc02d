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

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/store"
)

// Store is a PostgreSQL database.
type Store struct{ db *sql.DB }

// New returns the store on a pool of pgx connections. It does not connect.
func New(db *sql.DB) (*Store, error) {
	if _, ok := db.Driver().(*stdlib.Driver); !ok {
		return nil, fmt.Errorf("tenant: the connections are of %T, and the ledger needs pgx's (the default of gorm.io/driver/postgres)", db.Driver())
	}
	return &Store{db}, nil
}

// Session implements store.Store.
func (s *Store) Session() store.Session { return &session{db: s.db} }

// Classify implements store.Store.
func (s *Store) Classify(err error) store.Class {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch {
		case pg.Code == "55P03":
			return store.Locked
		case pg.Code == "40001", pg.Code == "40P01", pg.Code == "57014", pg.Code == "0A000", pg.Code == assertion:
			return store.Conflict
		case pg.Code == "42P01", pg.Code == "42703":
			return store.NotMigrated
		case strings.HasPrefix(pg.Code, "08"), strings.HasPrefix(pg.Code, "57P"), strings.HasPrefix(pg.Code, "53"),
			pg.Code == "25P03", pg.Code == "25006":
			return store.Unavailable
		}
		return store.Fatal
	}
	var (
		network net.Error
		connect *pgconn.ConnectError
	)
	switch {
	case errors.As(err, &connect), errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed), errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		pgconn.SafeToRetry(err), errors.Is(err, errConnection):
		return store.Unavailable
	}
	return store.Fatal
}

// assertion is the code of a division by zero: how a write says that it did not find the rows that it expects.
const assertion = "22012"

// errConnection marks an error after which the connection could not be used any more.
var errConnection = errors.New("the connection to the database is broken")

type session struct {
	db      *sql.DB
	conn    *sql.Conn
	untyped bool // of the connection
	kin     kin
}

// Close implements store.Session.
func (s *session) Close() error {
	if s.conn == nil {
		return nil
	}
	conn := s.conn
	s.conn = nil
	return conn.Close()
}

// Batch implements store.Session.
func (s *session) Batch(ctx context.Context, want *book.Want, decide func(*book.State) book.Effects) error {
	if s.conn == nil {
		conn, err := s.db.Conn(ctx)
		if err == nil {
			err = conn.Raw(func(raw any) error {
				s.untyped = untyped(raw.(*stdlib.Conn).Conn())
				return nil
			})
		}
		if err != nil {
			return fmt.Errorf("connect to the database: %w", err)
		}
		s.conn = conn
	}
	conn := s.conn
	s.conn = nil // until it is known to be usable; if decide panics, database/sql closes it
	var failure error
	err := conn.Raw(func(raw any) error {
		conn := raw.(*stdlib.Conn).Conn()
		failure = s.transaction(ctx, conn, want, decide)
		if failure == nil {
			return nil
		}
		// Not the batch's own context: it may be what ended the transaction.
		rollback, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		if !conn.IsClosed() {
			if _, err := conn.Exec(rollback, "ROLLBACK"); err == nil {
				return nil
			}
		}
		failure = errors.Join(failure, errConnection)
		return driver.ErrBadConn
	})
	if err != nil {
		return errors.Join(failure, err)
	}
	s.conn = conn
	return failure
}

func (s *session) transaction(ctx context.Context, conn *pgx.Conn, want *book.Want, decide func(*book.State) book.Effects) error {
	state, err := s.read(ctx, conn, want)
	if err != nil {
		return err
	}
	if want.Missing != nil {
		if err := fill(ctx, conn, want.Missing(state)); err != nil {
			return err
		}
	}
	effects := decide(state)
	if effects.Empty() {
		_, err := conn.Exec(ctx, "ROLLBACK")
		return err
	}
	return write(ctx, conn, &effects, s.untyped)
}
