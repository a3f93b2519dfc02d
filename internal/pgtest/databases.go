package pgtest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the "pgx" driver of database/sql, for the migrations

	"github.com/llmtenant/tenant/migrations"
)

const (
	namePrefix = "pgtest_"

	// templateLock is the advisory lock under which a template is made. Any number does that nothing else on a test
	// server locks.
	templateLock = 0x7067_7465_7374

	// leftOver is the age from which a database is taken for the remains of a test binary that was killed.
	leftOver = time.Hour

	// dropTimeout bounds the clean-up of one test.
	dropTimeout = time.Minute

	// keptConnections is how many connections that make and drop databases stay open for the next test: as many as do so at once.
	keptConnections = 4
)

// databases makes and drops databases on one server.
type databases struct {
	admin    *url.URL // of the database through which the others are made
	template func() (string, error)

	mu       sync.Mutex
	prepared map[string]func() (string, error) // by their names

	kept  chan *pgx.Conn // open connections to it; nil where none are kept
	files bool           // a database is made by copying files, where the server can
}

func newDatabases(admin string) (*databases, error) {
	u, err := url.Parse(admin)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		// Not wrapped: what url.Parse says repeats the URL, and the URL may hold a password.
		return nil, fmt.Errorf("pgtest: $%s must be a URL like postgres://user:password@host:5432/postgres", URLVariable)
	}
	d := &databases{admin: u}
	d.template = sync.OnceValues(func() (string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		name, err := d.migratedTemplate(ctx)
		if err != nil {
			return "", fmt.Errorf("pgtest: template database: %w", err)
		}
		return name, nil
	})
	return d, nil
}

// url returns the URL of a database on the server.
func (d *databases) url(name string) string {
	u := *d.admin
	u.Path = "/" + name
	u.RawPath = ""
	return u.String()
}

// create makes a database that lives as long as the test, and returns its URL.
func (d *databases) create(t testing.TB, template string) string {
	t.Helper()
	name := newName(time.Now())
	if err := d.clone(t.Context(), name, template); err != nil {
		t.Fatalf("pgtest: create database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), dropTimeout)
		defer cancel()
		if err := d.exec(ctx, dropSQL(name)); err != nil {
			t.Errorf("pgtest: drop database: %v", err)
		}
	})
	return d.url(name)
}

// preparedTemplate returns the name of a database that a function has prepared, once for the binary.
func (d *databases) preparedTemplate(ctx context.Context, name string, prepare func(url string) error) (string, error) {
	d.mu.Lock()
	once, ok := d.prepared[name]
	if !ok {
		ctx := context.WithoutCancel(ctx) // the others' too
		once = sync.OnceValues(func() (string, error) {
			template, err := d.template()
			if err != nil {
				return "", err
			}
			made := newName(time.Now())
			if err := d.exec(ctx, createSQL(made, template)); err != nil {
				return "", err
			}
			return made, prepare(d.url(made))
		})
		if d.prepared == nil {
			d.prepared = map[string]func() (string, error){}
		}
		d.prepared[name] = once
	}
	d.mu.Unlock()
	return once()
}

// keep has connections stay open until close. They are no pool: that has goroutines, which the tests' leak checks would find.
func (d *databases) keep() { d.kept = make(chan *pgx.Conn, keptConnections) }

// close closes what is kept.
func (d *databases) close() {
	for {
		select {
		case conn := <-d.kept:
			_ = conn.Close(context.Background())
		default:
			return
		}
	}
}

// connect returns a connection that was kept and still works, or a new one.
func (d *databases) connect(ctx context.Context) (*pgx.Conn, error) {
	for {
		select {
		case conn := <-d.kept:
			if err := conn.Ping(ctx); err == nil {
				return conn, nil
			}
			_ = conn.Close(context.WithoutCancel(ctx))
		default:
			return pgx.Connect(ctx, d.admin.String())
		}
	}
}

// done keeps a connection, or closes it.
func (d *databases) done(ctx context.Context, conn *pgx.Conn) {
	if !conn.IsClosed() {
		select {
		case d.kept <- conn:
			return
		default:
		}
	}
	_ = conn.Close(context.WithoutCancel(ctx))
}

func (d *databases) exec(ctx context.Context, statement string) error {
	conn, err := d.connect(ctx)
	if err != nil {
		return err
	}
	defer d.done(ctx, conn)
	_, err = conn.Exec(ctx, statement)
	return err
}

// clone copies a template. To copy its files is half the work of writing all pages to the log, as PostgreSQL does by itself since
// version 15. It takes two checkpoints, though, which only a server of the tests' own, whose files are mostly in memory, is asked for.
func (d *databases) clone(ctx context.Context, name, template string) error {
	conn, err := d.connect(ctx)
	if err != nil {
		return err
	}
	defer d.done(ctx, conn)
	statement := createSQL(name, template)
	if version, _, _ := strings.Cut(conn.PgConn().ParameterStatus("server_version"), "."); d.files && len(version) == 2 && version >= "15" {
		statement += " STRATEGY FILE_COPY"
	}
	_, err = conn.Exec(ctx, statement)
	return err
}

// migratedTemplate returns the name of a database with all migrations applied, and makes it if no other process has.
// Templates of other states of the migrations are left alone: the tests of another working copy may be using them.
func (d *databases) migratedTemplate(ctx context.Context) (string, error) {
	digest, err := migrationsDigest()
	if err != nil {
		return "", err
	}
	name := namePrefix + "template_" + digest

	conn, err := pgx.Connect(ctx, d.admin.String())
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // which gives the lock back
	if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", templateLock); err != nil {
		return "", err
	}
	var exists bool
	const existsSQL = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)"
	if err := conn.QueryRow(ctx, existsSQL, name).Scan(&exists); err != nil || exists {
		return name, err
	}

	// It gets its name last, so that no process ever clones one that a killed process left half migrated.
	draft := newName(time.Now())
	if _, err := conn.Exec(ctx, createSQL(draft, "template0")); err != nil {
		return "", err
	}
	err = d.migrate(ctx, draft)
	for _, statement := range []string{
		"ALTER DATABASE %s WITH IS_TEMPLATE true ALLOW_CONNECTIONS false",
		"ALTER DATABASE %s RENAME TO " + pgx.Identifier{name}.Sanitize(),
	} {
		if err == nil {
			_, err = conn.Exec(ctx, fmt.Sprintf(statement, pgx.Identifier{draft}.Sanitize()))
		}
	}
	return name, err
}

func (d *databases) migrate(ctx context.Context, name string) (err error) {
	db, err := sql.Open("pgx", d.url(name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return migrations.Up(ctx, db, "postgres")
}

// sweep drops what killed test binaries left on a shared server. It is best effort: what is still in use, or another
// binary is dropping at the same time, stays or goes without us.
func (d *databases) sweep(ctx context.Context) {
	conn, err := pgx.Connect(ctx, d.admin.String())
	if err != nil {
		return // the first test to create a database reports it
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	// What is in use is left out at once: to drop it, Postgres would wait seconds for its sessions to end.
	rows, err := conn.Query(ctx, `SELECT datname FROM pg_database d WHERE NOT datistemplate
		AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid)`)
	if err != nil {
		return
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return
	}
	for _, name := range names {
		if made, ok := madeAt(name); ok && time.Since(made) > leftOver {
			_, _ = conn.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize())
		}
	}
}

// newName returns a name that no other process uses and that tells when it was made.
func newName(now time.Time) string {
	return fmt.Sprintf("%s%d_%d_%s", namePrefix, now.Unix(), os.Getpid(), strings.ToLower(rand.Text()[:10]))
}

// madeAt is the inverse of newName. It reports false for every name that newName does not make.
func madeAt(name string) (time.Time, bool) {
	rest, ok := strings.CutPrefix(name, namePrefix)
	parts := strings.Split(rest, "_")
	if !ok || len(parts) != 3 {
		return time.Time{}, false
	}
	seconds, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil {
		return time.Time{}, false
	}
	return time.Unix(seconds, 0), true
}

func createSQL(name, template string) string {
	return "CREATE DATABASE " + pgx.Identifier{name}.Sanitize() + " TEMPLATE " + pgx.Identifier{template}.Sanitize()
}

func dropSQL(name string) string {
	return "DROP DATABASE IF EXISTS " + pgx.Identifier{name}.Sanitize() + " WITH (FORCE)"
}

// migrationsDigest identifies the state of the migrations, by the names and the contents of their files.
func migrationsDigest() (string, error) {
	files, err := migrations.FS("postgres")
	if err != nil {
		return "", err
	}
	digest := sha256.New()
	err = fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(digest, "%q %q\n", path, content)
		return err
	})
	return hex.EncodeToString(digest.Sum(nil))[:16], err
}
