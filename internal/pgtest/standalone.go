package pgtest

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// Standalone is a server like that of [Cluster], for a program that is no test. Its methods may not be called by several
// goroutines at once.
type Standalone struct {
	cluster *cluster
	url     string
}

// Start starts a server with one database to which all migrations are applied. Its caller closes it; it is also gone
// when the program is, however that ends.
func Start(ctx context.Context) (*Standalone, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	c, err := newCluster(ctx)
	if err != nil {
		return nil, err
	}
	const name = "tenant"
	d, err := newDatabases(c.url("postgres"))
	if err == nil {
		err = d.exec(ctx, createSQL(name, "template0"))
	}
	if err == nil {
		err = d.migrate(ctx, name)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pgtest: migrate the cluster: %w", err), c.close())
	}
	return &Standalone{cluster: c, url: d.url(name)}, nil
}

// URL returns the URL of the migrated database. It stays the same when the server is restarted.
func (s *Standalone) URL() string { return s.url }

// Restart ends the server and starts it again. It returns when the server takes connections.
func (s *Standalone) Restart(ctx context.Context, mode Mode) error {
	if err := s.cluster.stop(syscall.Signal(mode)); err != nil {
		return err
	}
	return s.cluster.restart(ctx)
}

// Close stops the server, and returns when nothing of it is left.
func (s *Standalone) Close() error { return s.cluster.close() }
