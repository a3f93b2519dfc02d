package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/llmtenant/tenant/internal/fault"
)

// foreignError says that connections cannot be used by the ledger.
type foreignError struct{ of any }

func (e *foreignError) Error() string {
	return fmt.Sprintf("the connections of the pool are of %T, in which the ledger finds none of pgx's (the default of gorm.io/driver/postgres): "+
		"give it a pool of its own on the same database with WithLaneDB", e.of)
}

// pgxOf finds the connection of pgx under those that host's instruments have wrapped around it, of which each names what
// is under it in its own way: a method, or a field that it shows.
func pgxOf(raw any) (*pgx.Conn, error) {
	const deepest = 8
	conn := raw
	for range deepest {
		switch c := conn.(type) {
		case *stdlib.Conn:
			return c.Conn(), nil
		case interface{ Raw() driver.Conn }:
			conn = c.Raw()
		case interface{ WrappedConn() driver.Conn }:
			conn = c.WrappedConn()
		case interface{ Unwrap() driver.Conn }:
			conn = c.Unwrap()
		default:
			if conn = shownConn(conn); conn == nil {
				return nil, &foreignError{raw}
			}
		}
	}
	return nil, &foreignError{raw}
}

// shownConn is the connection in a field that a struct exports, nil where there is none.
func shownConn(conn any) any {
	v := reflect.ValueOf(conn)
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return nil
	}
	for field, inner := range v.Fields() {
		if field.IsExported() && field.Type == reflect.TypeFor[driver.Conn]() && !inner.IsNil() {
			return inner.Interface()
		}
	}
	return nil
}

// lookTime is how long New looks at a connection that is wrapped.
const lookTime = 3 * time.Second

// usable returns an error where the connections of a pool cannot be the ledger's. It connects only where they are wrapped;
// a database that cannot be reached is asked again by the first batch.
func usable(db *sql.DB) error {
	if _, ok := db.Driver().(*stdlib.Driver); ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookTime)
	defer cancel()
	conn, err := db.Conn(ctx)
	if err == nil {
		err = conn.Raw(func(raw any) error {
			_, err := pgxOf(raw)
			return err
		})
		err = errors.Join(err, conn.Close())
	}
	if foreign := (*foreignError)(nil); errors.As(err, &foreign) {
		return foreign
	}
	if err != nil && Classify(err) != fault.Unavailable {
		return fmt.Errorf("%w: %w", &foreignError{db.Driver()}, err)
	}
	return nil
}

// MaxConns is how many connections a pool allows at most, of all that are on the way to the database; 0: any number. A
// pgxpool under a database/sql pool has a limit of its own, which that does not know.
func MaxConns(db *sql.DB) int {
	most := db.Stats().MaxOpenConnections
	if under := poolLimit(reflect.ValueOf(db).Elem().FieldByName("connector"), 0); under > 0 && (most == 0 || under < most) {
		return under
	}
	return most
}

// poolLimit finds the limit of a pgxpool in a connector or in one that is wrapped around it. Neither shows it, and nothing
// is known where their fields have other names.
func poolLimit(v reflect.Value, depth int) int {
	const deepest = 4
	for v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if depth > deepest || v.Kind() != reflect.Struct {
		return 0
	}
	if pool := v.FieldByName("pool"); pool.Kind() == reflect.Pointer && pool.Type().String() == "*pgxpool.Pool" && !pool.IsNil() {
		if most := pool.Elem().FieldByName("maxConns"); most.CanInt() {
			return int(most.Int())
		}
		return 0
	}
	for field, inner := range v.Fields() {
		if field.Type == reflect.TypeFor[driver.Connector]() {
			if most := poolLimit(inner, depth+1); most > 0 {
				return most
			}
		}
	}
	return 0
}

// short reports whether the pool has too few connections for sessions to keep theirs: nobody else would get one.
func (s *session) short() bool {
	if s.way.db != nil {
		return false // it is no connection of the host's
	}
	most := s.store.most(s.store.db.Stats().MaxOpenConnections)
	if most == 0 || most > s.store.Sessions {
		return false
	}
	s.store.warn.Do(func() {
		if s.store.Short != nil {
			s.store.Short(most)
		}
	})
	return true
}

func (s *Store) most(open int) int {
	if s.under > 0 && (open == 0 || s.under < open) {
		return s.under
	}
	return open
}

// lookInterval is how often a session that keeps a connection while it has nothing to do looks whether the pool has become
// too small for that.
const lookInterval = 500 * time.Millisecond

// keep keeps the connection for the next batch.
func (s *session) keep(conn *sql.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.short() {
		_ = conn.Close() // it is the pool's again; what the batch did is done
		return
	}
	s.conn = conn
	if s.look == nil {
		s.look = time.AfterFunc(lookInterval, s.giveBack)
	} else {
		s.look.Reset(lookInterval)
	}
}

// kept returns the connection that is kept, which it is no more; nil where there is none.
func (s *session) kept() *sql.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	conn := s.conn
	s.conn = nil
	if s.look != nil {
		s.look.Stop()
	}
	return conn
}

func (s *session) giveBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.conn == nil:
	case s.short():
		_ = s.conn.Close()
		s.conn = nil
	default:
		s.look.Reset(lookInterval)
	}
}
