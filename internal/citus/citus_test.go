package citus_test

import (
	"database/sql"
	"fmt"
	"net/url"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/citus"
	"github.com/llmtenant/tenant/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func open(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func exec(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		_, err := db.ExecContext(t.Context(), s)
		require.NoError(t, err, s)
	}
}

func TestPlainDatabase_HasNothingToSay(t *testing.T) {
	t.Parallel()
	db := open(t, pgtest.DSN(t))
	exec(t, db, `CREATE TABLE orgs (id bigint PRIMARY KEY)`)
	role, err := citus.RoleOf(t.Context(), db)
	require.NoError(t, err)
	require.Equal(t, citus.None, role)
	node, err := citus.NodeOf(t.Context(), db, "public")
	require.NoError(t, err)
	require.Nil(t, node)
	require.NoError(t, citus.CommitsWith(t.Context(), db, "orgs", "public"))
	require.NoError(t, citus.CommitsWith(t.Context(), db, "nowhere.at_all", "public"))
}

func TestRoleOf_TellsACoordinatorFromAWorker(t *testing.T) {
	t.Parallel()
	_, coordinator, node := pgtest.CitusSchema(t)
	for dsn, want := range map[string]citus.Role{coordinator: citus.Coordinator, node: citus.Worker} {
		role, err := citus.RoleOf(t.Context(), open(t, dsn))
		require.NoError(t, err)
		require.Equal(t, want, role)
	}
}

func TestNodeOf_IsTheSameOnEveryNodeAndFollowsAMove(t *testing.T) {
	t.Parallel()
	name, coordinator, worker := pgtest.CitusSchema(t)
	u, err := url.Parse(worker)
	require.NoError(t, err)
	db, straight := open(t, coordinator), open(t, worker)
	for _, c := range []*sql.DB{db, straight} {
		node, err := citus.NodeOf(t.Context(), c, name)
		require.NoError(t, err)
		require.Equal(t, u.Host, node.String())
		for _, none := range []string{"public", "nowhere"} {
			node, err = citus.NodeOf(t.Context(), c, none)
			require.NoError(t, err)
			require.Nil(t, node)
		}
	}

	var other citus.Node
	require.NoError(t, db.QueryRowContext(t.Context(), `SELECT nodename, nodeport FROM pg_dist_node
		WHERE shouldhaveshards AND isactive AND nodename || ':' || nodeport <> $1 LIMIT 1`, u.Host).Scan(&other.Host, &other.Port), "two workers")
	exec(t, db, fmt.Sprintf(`SELECT citus_schema_move('%s', '%s', %d, 'block_writes')`, name, other.Host, other.Port))
	for _, c := range []*sql.DB{db, straight} {
		node, err := citus.NodeOf(t.Context(), c, name)
		require.NoError(t, err)
		require.Equal(t, other, *node)
	}
}

func TestCommitsWith_NamesTheTableAndTheLineToRun(t *testing.T) {
	t.Parallel()
	place, coordinator, _ := pgtest.CitusSchema(t)
	db := open(t, coordinator)
	host := place + "_host"
	t.Cleanup(func() {
		_, err := open(t, coordinator).Exec(`DROP SCHEMA "` + host + `" CASCADE`)
		require.NoError(t, err)
	})
	exec(t, db, `CREATE SCHEMA "`+host+`"`,
		`CREATE TABLE "`+host+`"."Org's" (id bigint PRIMARY KEY)`,
		`CREATE TABLE "`+host+`".firms (id bigint PRIMARY KEY)`,
		`CREATE TABLE "`+host+`".clerks (id bigint PRIMARY KEY, firm bigint REFERENCES "`+host+`".firms)`,
		`CREATE VIEW "`+host+`".seen AS SELECT 1 AS id`)
	commits := func(table string) error {
		return citus.CommitsWith(t.Context(), db, `"`+host+`".`+table, "elsewhere", place)
	}

	var local *citus.LocalTableError
	for table, line := range map[string]string{
		`"Org's"`: `SELECT citus_add_local_table_to_metadata('` + host + `."Org''s"')`,
		"firms":   `SELECT citus_add_local_table_to_metadata('` + host + `.firms', cascade_via_foreign_keys => true)`,
		"clerks":  `SELECT citus_add_local_table_to_metadata('` + host + `.clerks', cascade_via_foreign_keys => true)`,
	} {
		err := commits(table)
		require.ErrorAs(t, err, &local)
		require.ErrorContains(t, err, "the table "+host+"."+table)
		require.ErrorContains(t, err, line)
		require.NoError(t, citus.CommitsWith(t.Context(), db, `"`+host+`".`+table, "public"), "no place is a schema of Citus")
	}
	require.NoError(t, commits("seen"), "a view")
	require.NoError(t, commits("missing"))
	require.NoError(t, citus.CommitsWith(t.Context(), db, place+".llm_tenants", place), "a table of a place")

	exec(t, db, `SELECT citus_add_local_table_to_metadata('`+host+`."Org''s"')`,
		`SELECT citus_add_local_table_to_metadata('`+host+`.clerks', cascade_via_foreign_keys => true)`)
	for _, table := range []string{`"Org's"`, "firms", "clerks"} {
		require.NoError(t, commits(table), table)
	}
}
