package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// bouncerLine is what to type where there is no PgBouncer.
const bouncerLine = "apt-get update && apt-get install -y --no-install-recommends pgbouncer"

// Bouncer starts a PgBouncer in transaction mode in front of the database of a DSN, and returns the URL by which the
// database is reached through it. It is gone when the test ends, or its binary does.
func Bouncer(t testing.TB, dsn string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	program, err := findBouncer(exec.LookPath)
	if err != nil {
		t.Fatal(err)
	}
	user, err := serverUser(os.Geteuid()) // PgBouncer does not run as root either
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{postgres: &installation{bin: filepath.Dir(program), user: user}, password: rand.Text()}
	//nolint:usetesting // the test's own folder may be closed to the user that PgBouncer runs as
	if c.dir, err = os.MkdirTemp(c.postgres.tempDir(), "pgtest-bouncer-"); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	if err := c.watch(); err != nil {
		t.Fatalf("pgtest: start the watchdog: %v", errors.Join(err, os.RemoveAll(c.dir)))
	}
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
	for range 3 { // as for the server: someone else may take the port
		if err = c.bounce(ctx, dsn); err == nil {
			return c.url("tenant")
		}
	}
	t.Fatal(err)
	return ""
}

func findBouncer(lookPath func(string) (string, error)) (string, error) {
	for _, program := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} { // a user's PATH may be without the second
		if path, err := lookPath(program); err == nil {
			return path, nil
		}
	}
	return "", errors.New("pgtest: the test needs PgBouncer and found none; type as root:\n\n\t" + bouncerLine)
}

// bounce starts PgBouncer, and returns when it takes connections.
func (c *cluster) bounce(ctx context.Context, dsn string) error {
	server, err := pgx.ParseConfig(dsn)
	if err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	if c.port, err = freePort(); err != nil {
		return err
	}
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
	ini, users := filepath.Join(c.dir, "pgbouncer.ini"), filepath.Join(c.dir, "users")
	settings := fmt.Sprintf(`[databases]
tenant = host=%s port=%d dbname=%s user=%s password=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %s
pool_mode = transaction
server_tls_sslmode = prefer
`, quote(server.Host), server.Port, quote(server.Database), quote(server.User), quote(server.Password), c.port, users)
	for path, text := range map[string]string{ini: settings, users: fmt.Sprintf("%q %q\n", superuser, c.password)} {
		if err = os.WriteFile(path, []byte(text), 0o600); err == nil {
			err = c.postgres.own(c.dir, path)
		}
		if err != nil {
			return fmt.Errorf("pgtest: %w", err)
		}
	}
	exited, err := c.launch("pgbouncer", ini)
	if err != nil {
		return fmt.Errorf("pgtest: start pgbouncer: %w", err)
	}
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		config, err := pgx.ParseConfig(c.url("tenant"))
		if err != nil {
			return err
		}
		config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
		conn, err := pgx.ConnectConfig(ctx, config)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-exited:
			c.process = nil
			return fmt.Errorf("pgtest: pgbouncer did not start; it said:\n%s", c.logTail())
		case <-ctx.Done():
			return fmt.Errorf("pgtest: pgbouncer did not start: %w; it said:\n%s", err, c.logTail())
		case <-poll.C:
		}
	}
}
