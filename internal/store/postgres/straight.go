package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/llmtenant/tenant/internal/citus"
	"github.com/llmtenant/tenant/internal/fault"
)

const (
	// nodeInterval is how often a session looks whether the node that it is connected to still has its schema. Until then the node
	// asks the one that has it.
	nodeInterval = 5 * time.Second

	// detour is how long a session goes through the host's pool after a node could not be reached straight.
	detour = 30 * time.Second
)

// straight is a session's way to the node that has the schema of its store, where Citus keeps it on one.
type straight struct {
	db     *sql.DB // of one connection; nil: through the host's pool
	node   citus.Node
	looked time.Time // when the node was looked up last
	barred time.Time // until then nodes are not tried; zero: they may be
}

// close gives up the way.
func (w *straight) close() error {
	if w.db == nil {
		return nil
	}
	db := w.db
	w.db = nil
	return db.Close()
}

// engine is whether a store's database has Citus, once it was asked.
type engine struct {
	mu    sync.Mutex
	asked bool
	citus bool
}

func (e *engine) hasCitus(ctx context.Context, c *sql.Conn) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.asked {
		role, err := citus.RoleOf(ctx, c)
		if err != nil {
			return false, err
		}
		e.asked, e.citus = true, role != citus.None
	}
	return e.citus, nil
}

// connect returns a connection for the session: straight to the node that has the schema, or the host's.
func (s *session) connect(ctx context.Context) (*sql.Conn, error) {
	if s.way.db != nil {
		conn, err := s.way.db.Conn(ctx)
		if err == nil {
			return conn, nil
		}
		_ = s.way.close() // and is looked for anew
		if ctx.Err() != nil {
			return nil, err
		}
	}
	conn, err := s.store.db.Conn(ctx)
	if err != nil {
		if node, e := s.known(ctx); node != nil && e == nil {
			return node, nil // the coordinator is away, and what the node has is still there
		}
		return nil, err
	}
	if s.store.Schema == nil || s.store.Schema.Name == "" || time.Now().Before(s.way.barred) {
		return conn, nil
	}
	s.way.barred = time.Time{}
	there, err := s.store.engine.hasCitus(ctx, conn)
	if err != nil || !there {
		return conn, err
	}
	node, err := citus.NodeOf(ctx, conn, s.store.Schema.Name)
	if err != nil || node == nil {
		return conn, err
	}
	config, err := configOf(conn)
	if err != nil {
		return conn, err
	}
	s.store.remember(node, config)
	if to, err := s.reach(ctx, node, config); err == nil {
		_ = conn.Close()
		return to, nil
	}
	s.way.barred = time.Now().Add(detour)
	return conn, nil
}

// reach connects to a node.
func (s *session) reach(ctx context.Context, node *citus.Node, config *pgx.ConnConfig) (*sql.Conn, error) {
	config = config.Copy()
	config.Host, config.Port, config.Fallbacks = node.Host, uint16(node.Port), nil //nolint:gosec // a port
	if config.TLSConfig != nil && config.TLSConfig.ServerName != "" {
		config.TLSConfig.ServerName = node.Host
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = lookTime
	}
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(ctx)
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	s.way.db, s.way.node, s.way.looked = db, *node, time.Now()
	return conn, nil
}

// known connects to the node that had the schema last.
func (s *session) known(ctx context.Context) (*sql.Conn, error) {
	node, config := s.store.last()
	if node == nil {
		return nil, fault.ErrConnect
	}
	return s.reach(ctx, node, config)
}

// stale reports whether a connection that was kept is not to the node that has the schema any more.
func (s *session) stale(ctx context.Context, conn *sql.Conn) bool {
	switch {
	case s.way.db == nil:
		return !s.way.barred.IsZero() && time.Now().After(s.way.barred)
	case time.Since(s.way.looked) < nodeInterval:
		return false
	}
	node, err := citus.NodeOf(ctx, conn, s.store.Schema.Name)
	s.way.looked = time.Now()
	return err != nil || node == nil || *node != s.way.node
}

// configOf is how a connection was made.
func configOf(conn *sql.Conn) (config *pgx.ConnConfig, err error) {
	err = conn.Raw(func(raw any) error {
		c, err := pgxOf(raw)
		if err == nil {
			config = c.Config()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("how the connection was made: %w", err)
	}
	return config, nil
}

// remember keeps the node that has the schema, for when the coordinator is away.
func (s *Store) remember(node *citus.Node, config *pgx.ConnConfig) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	s.node.at, s.node.config = node, config
}

func (s *Store) last() (*citus.Node, *pgx.ConnConfig) {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	return s.node.at, s.node.config
}

// lastNode is the node that had the schema of a store last.
type lastNode struct {
	mu     sync.Mutex
	at     *citus.Node
	config *pgx.ConnConfig
}
