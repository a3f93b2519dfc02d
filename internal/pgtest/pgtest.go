// Package pgtest gives each test a real Postgres database of its own, and never skips a test for want of one.
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
//	func TestStore(t *testing.T) {
//		t.Parallel()
//		pool, err := pgxpool.New(t.Context(), pgtest.DSN(t))
//		...
//	}
//
// The server is, in this order:
//
//  1. the one that $TENANT_TEST_DATABASE_URL names, which may be shared by many test binaries at once;
//  2. a throw-away cluster, made by the initdb in the folder that $TENANT_TEST_POSTGRES names, else by that on PATH or the newest in
//     the folders where packages put it;
//  3. a throw-away cluster, made by binaries that apt-get downloads into a cache folder, where there is apt-get;
//  4. a failure that gives the line to type.
//
// A throw-away cluster is started by the first test that asks for a database, belongs to one test binary, and is gone
// when the binary is, however that ends. It keeps Postgres's default durability, so that a test may kill processes and
// restart the server and judge what is left. It is in the folder for temporary files, which Main has in memory where there
// is room for it: most of what the tests take on a disk is its fsync.
//
// A package whose tests need no Postgres calls goleak.VerifyTestMain instead of Main.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// URLVariable names the environment variable with the URL of a server to use in place of a throw-away cluster. Its role
// must be allowed to create databases.
const URLVariable = "TENANT_TEST_DATABASE_URL"

// startTimeout bounds what is done once for a binary: fetching, initdb, start, migrations.
const startTimeout = 5 * time.Minute

// Main runs a package's tests, stops the cluster that they started, looks for leaked goroutines, and exits. It is the
// body of TestMain.
//
// Where TMPDIR is not set, the tests' temporary files are in memory. Where -parallel is not set, more tests run at once than
// there are processors, because tests of a database mostly wait for it. Where GOGC is not set, garbage is collected less often. What is written to the default logger is dropped: it
// would bury the names of the tests that fail. A test that reads a log gives a logger of its own.
func Main(m *testing.M, options ...goleak.Option) {
	if err := errors.Join(inMemory(sharedMemory), runMore()); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		os.Exit(2)
	}
	collectLess()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	code := m.Run()
	// The cluster goes first: its own goroutine is no leak of the tests.
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	if code == 0 {
		if err := goleak.Find(options...); err != nil {
			fmt.Fprintf(os.Stderr, "goleak: %v\n", err)
			code = 1
		}
	}
	os.Exit(code)
}

// DSN returns the URL of a fresh database with all migrations applied. It is dropped, with whatever is still connected
// to it, when the test ends.
func DSN(t testing.TB) string {
	t.Helper()
	databases := open(t)
	template, err := databases.template()
	if err != nil {
		t.Fatal(err)
	}
	return databases.create(t, template)
}

// Prepared is DSN for a database that a function has prepared, once for the binary and the name. It leaves no connection open.
func Prepared(t testing.TB, name string, prepare func(url string) error) string {
	t.Helper()
	databases := open(t)
	template, err := databases.preparedTemplate(t.Context(), name, prepare)
	if err != nil {
		t.Fatalf("pgtest: prepare %s: %v", name, err)
	}
	return databases.create(t, template)
}

// Empty is DSN without the migrations.
func Empty(t testing.TB) string {
	t.Helper()
	return open(t).create(t, "template0")
}

func open(t testing.TB) *databases {
	t.Helper()
	d, err := shared.open()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// shared is the server of all tests of this binary.
var shared binary

type binary struct {
	mu        sync.Mutex
	databases *databases
	cluster   *cluster // nil if the server is not ours
	err       error    // why there is no server: each test fails with it, none tries again
}

func (b *binary) open() (*databases, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.databases != nil || b.err != nil {
		return b.databases, b.err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if url := os.Getenv(URLVariable); url != "" {
		b.databases, b.err = newDatabases(url)
	} else if b.cluster, b.err = newCluster(ctx); b.err == nil {
		b.databases, b.err = newDatabases(b.cluster.url("postgres"))
	}
	if b.err != nil {
		return nil, b.err
	}
	b.databases.keep()
	if b.databases.files = b.cluster != nil; !b.databases.files {
		b.databases.sweep(ctx)
	}
	return b.databases, nil
}

func (b *binary) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.databases != nil {
		b.databases.close()
	}
	if b.cluster == nil {
		return nil
	}
	return b.cluster.close()
}
