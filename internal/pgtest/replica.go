package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Replica copies a server of the test's own, and returns one that follows it by streaming, as a read replica does: it takes no writes,
// and tells its primary nothing of its snapshots (hot_standby_feedback is off).
func Replica(t testing.TB, primary *Server) *Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	c, err := primary.cluster.follow(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
	config, err := pgx.ParseConfig(primary.url)
	if err != nil {
		t.Fatal(err)
	}
	return &Server{t: t, cluster: c, url: c.url(config.Database)}
}

// follow makes a cluster that follows another one.
func (c *cluster) follow(ctx context.Context) (_ *cluster, err error) {
	f := &cluster{postgres: c.postgres, password: c.password} // the copy has the primary's
	if f.dir, err = os.MkdirTemp(c.postgres.tempDir(), "pgtest-replica-"); err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	if err := f.watch(); err != nil {
		return nil, errors.Join(fmt.Errorf("pgtest: start the watchdog: %w", err), os.RemoveAll(f.dir))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	if err := f.postgres.own(f.dir); err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	from := fmt.Sprintf("host=127.0.0.1 port=%d user=%s password=%s application_name=%s", c.port, superuser, c.password, rand.Text())
	done, err := f.launch("pg_basebackup", "--pgdata", f.data(), "--dbname", from, "--write-recovery-conf", "--wal-method", "stream", "--checkpoint", "fast", "--no-sync")
	if err != nil {
		return nil, fmt.Errorf("pgtest: pg_basebackup: %w", err)
	}
	select {
	case <-done:
		f.process = nil
	case <-ctx.Done():
		return nil, fmt.Errorf("pgtest: pg_basebackup: %w", ctx.Err())
	}
	if _, err := os.Stat(filepath.Join(f.data(), "standby.signal")); err != nil {
		return nil, fmt.Errorf("pgtest: pg_basebackup failed; it said:\n%s", f.logTail())
	}
	for range 3 { // as for any server: someone else may take the port
		if f.port, err = freePort(); err != nil {
			return nil, err
		}
		if err = f.start(ctx); err == nil {
			return f, nil
		}
	}
	return nil, err
}
