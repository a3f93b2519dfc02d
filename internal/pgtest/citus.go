package pgtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// CitusVariable names the environment variable with the URL of a database on the coordinator of a Citus cluster, in which tests make
// and drop schemas. Its role must be allowed to, and the workers must know it and be reached by the address that the cluster
// has for them.
const CitusVariable = "TENANT_TEST_CITUS_URL"

// Citus returns the URL of a Citus coordinator. It skips the test where there is none: a cluster cannot be made from packages
// that are to be had everywhere.
func Citus(t testing.TB) string {
	t.Helper()
	base := os.Getenv(CitusVariable)
	if base == "" {
		t.Skip("set $" + CitusVariable + " to the URL of a database on a Citus coordinator to run this")
	}
	return base
}

// CitusSchema makes a schema of the test's own that Citus keeps on one node, with all migrations applied, and returns its name and
// two URLs with it for the search_path: of the coordinator, and of the node that has its tables.
func CitusSchema(t testing.TB) (name, coordinator, node string) {
	t.Helper()
	base := Citus(t)
	conn, err := pgx.Connect(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	name = newName(time.Now())
	for _, statement := range []string{"SET citus.enable_schema_based_sharding = on", "CREATE SCHEMA " + name} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("pgtest: %s: %v", statement, err)
		}
	}
	t.Cleanup(func() { dropCitusSchema(t, base, name) })
	coordinator = searching(t, base, name)
	d, err := newDatabases(coordinator)
	if err == nil {
		err = d.migrate(t.Context(), conn.Config().Database)
	}
	if err != nil {
		t.Fatalf("pgtest: migrate the schema %s: %v", name, err)
	}
	var host string
	var port int
	if err := conn.QueryRow(t.Context(), `SELECT nodename, nodeport FROM citus_shards WHERE table_name = $1::regclass`, name+".llm_tenants").Scan(&host, &port); err != nil {
		t.Fatalf("pgtest: find the node of the schema %s: %v", name, err)
	}
	u, err := url.Parse(coordinator)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = fmt.Sprintf("%s:%d", host, port)
	return name, coordinator, u.String()
}

func searching(t testing.TB, base, schema string) string {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatalf("pgtest: $%s is no URL", CitusVariable)
	}
	q := u.Query()
	q.Set("search_path", schema)
	u.RawQuery = q.Encode()
	return u.String()
}

func dropCitusSchema(t testing.TB, base, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), dropTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, base)
	if err == nil {
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		_, err = conn.Exec(ctx, "DROP SCHEMA "+name+" CASCADE")
	}
	if err != nil {
		t.Errorf("pgtest: drop the schema %s: %v", name, err)
	}
}

// CitusHome makes a schema of the test's own on a Citus coordinator that Citus does not keep on one node, and returns a URL with it for
// the search_path, and its name. What tests make beside it, in schemas whose names begin with its own, is dropped with it.
func CitusHome(t testing.TB) (dsn, name string) {
	t.Helper()
	base := Citus(t)
	name = newName(time.Now())
	conn, err := pgx.Connect(t.Context(), base)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if _, err := conn.Exec(t.Context(), "CREATE SCHEMA "+name); err != nil {
		t.Fatalf("pgtest: make the schema %s: %v", name, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), dropTimeout)
		defer cancel()
		conn, err := pgx.Connect(ctx, base)
		if err != nil {
			t.Errorf("pgtest: drop the schemas of %s: %v", name, err)
			return
		}
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		rows, err := conn.Query(ctx, `SELECT nspname FROM pg_namespace WHERE starts_with(nspname, $1) ORDER BY nspname DESC`, name)
		var names []string
		if err == nil {
			names, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		if err != nil {
			t.Errorf("pgtest: drop the schemas of %s: %v", name, err)
		}
		for _, n := range names {
			dropCitusSchema(t, base, n)
		}
	})
	return searching(t, base, name), name
}
