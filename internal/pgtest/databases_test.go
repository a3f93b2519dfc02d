package pgtest

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

func TestBinaries_ThatShareAServerMakeOneTemplate(t *testing.T) {
	t.Parallel()
	server := Cluster(t)
	admin := server.cluster.url("postgres")

	names := make([]string, 4)
	var group errgroup.Group
	for i := range names {
		group.Go(func() error {
			d, err := newDatabases(admin)
			if err == nil {
				names[i], err = d.template()
			}
			return err
		})
	}
	require.NoError(t, group.Wait())

	for _, name := range names {
		require.Equal(t, names[0], name)
	}
	require.ElementsMatch(t, []string{"template0", "template1", "postgres", "tenant", names[0]},
		databaseNames(t, connect(t, admin)))
}

func TestSweep_DropsOnlyWhatKilledBinariesLeft(t *testing.T) {
	t.Parallel()
	server := Cluster(t)
	d, err := newDatabases(server.cluster.url("postgres"))
	require.NoError(t, err)
	template, err := d.template()
	require.NoError(t, err)
	old, used, young := newName(time.Now().Add(-2*time.Hour)), newName(time.Now().Add(-2*time.Hour)), newName(time.Now())
	for _, name := range []string{old, used, young} {
		require.NoError(t, d.exec(t.Context(), createSQL(name, template)))
	}
	connect(t, d.url(used))

	d.sweep(t.Context())

	require.ElementsMatch(t, []string{"template0", "template1", "postgres", "tenant", template, used, young},
		databaseNames(t, connect(t, d.url("postgres"))))
}

func TestMadeAt_KnowsOnlyItsOwnNames(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	made, ok := madeAt(newName(now))
	require.True(t, ok)
	require.True(t, made.Equal(now))

	for _, name := range []string{"postgres", "pgtest", "pgtest_", "pgtest_template_0123456789abcdef", "mine_1_2_3", "pgtest_x_1_y"} {
		_, ok := madeAt(name)
		require.False(t, ok, name)
	}
}

func TestServerURL_KeepsItsParametersAndIsNotRepeatedWhenBad(t *testing.T) {
	t.Parallel()
	for admin, want := range map[string]string{
		"postgres://u:p@db:5433/postgres?sslmode=disable": "postgres://u:p@db:5433/x?sslmode=disable",
		"postgresql://db": "postgresql://db/x",
		"postgres:///postgres?host=/var/run/postgresql": "postgres:///x?host=/var/run/postgresql",
	} {
		d, err := newDatabases(admin)
		require.NoError(t, err, admin)
		require.Equal(t, want, d.url("x"))
	}
	for _, admin := range []string{"host=db password=hush", "mysql://u:hush@db/x", "postgres://u:hush@db:port/x"} {
		_, err := newDatabases(admin)
		require.ErrorContains(t, err, URLVariable)
		require.NotContains(t, err.Error(), "hush")
	}
}

func databaseNames(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), "SELECT datname FROM pg_database")
	require.NoError(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return names
}

func TestConnections_ThatAreKeptAreUsedAgainWhileTheyWork(t *testing.T) {
	t.Parallel()
	d, err := newDatabases(Cluster(t).cluster.url("postgres"))
	require.NoError(t, err)
	d.keep()
	d.files = true
	t.Cleanup(d.close)
	require.NoError(t, d.clone(t.Context(), "one", "template0"))
	first, err := d.connect(t.Context())
	require.NoError(t, err)
	require.Empty(t, d.kept, "it is the one that has made the database")
	pid := first.PgConn().PID()
	d.done(t.Context(), first)

	_, err = connect(t, d.url("postgres")).Exec(t.Context(), "SELECT pg_terminate_backend($1, 10000)", pid)
	require.NoError(t, err)
	require.NoError(t, d.exec(t.Context(), dropSQL("one")))
	second, err := d.connect(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, pid, second.PgConn().PID())
	d.done(t.Context(), second)
	d.close()
	require.True(t, second.IsClosed())
}
