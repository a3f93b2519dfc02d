package pgtest

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestDatabases_AreIsolated(t *testing.T) {
	t.Parallel()
	one, other := connect(t, Empty(t)), connect(t, Empty(t))

	_, err := one.Exec(t.Context(), "CREATE TABLE mine (id int)")
	require.NoError(t, err)

	require.True(t, hasTable(t, one, "mine"))
	require.False(t, hasTable(t, other, "mine"))
}

func TestDSN_IsMigratedAndEmptyIsNot(t *testing.T) {
	t.Parallel()
	require.True(t, hasTable(t, connect(t, DSN(t)), "llm_migrations"))
	require.False(t, hasTable(t, connect(t, Empty(t)), "llm_migrations"))
}

func TestDatabase_IsDroppedWithItsTestEvenIfInUse(t *testing.T) {
	t.Parallel()
	var dsn string
	t.Run("test", func(t *testing.T) {
		dsn = DSN(t)
		conn, err := pgx.Connect(t.Context(), dsn)
		require.NoError(t, err)
		require.NoError(t, conn.Ping(t.Context())) // and is left open
	})
	_, err := pgx.Connect(t.Context(), dsn)
	require.ErrorContains(t, err, "does not exist")
}

func TestDurability_IsThatOfProduction(t *testing.T) {
	t.Parallel()
	conn := connect(t, Empty(t))
	for _, setting := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
		var value string
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_setting($1)", setting).Scan(&value))
		require.Equal(t, "on", value, setting)
	}
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func hasTable(t *testing.T, conn *pgx.Conn, name string) bool {
	t.Helper()
	var has bool
	err := conn.QueryRow(t.Context(), "SELECT to_regclass($1) IS NOT NULL", name).Scan(&has)
	require.NoError(t, err)
	return has
}
