package postgres_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/pgtest"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/internal/store/postgres"
	"github.com/llmtenant/tenant/internal/store/storetest"
)

func TestSession_GoesStraightToTheNodeOfItsSchema(t *testing.T) {
	t.Parallel()
	name, dsn, node := pgtest.CitusSchema(t)
	app := "straight_" + name[len(name)-10:]
	db := pool(t, dsn+"&application_name="+app)
	s, err := postgres.New(db)
	require.NoError(t, err)
	s.Schema = &sqldb.Schema{Name: name}
	b := storetest.New(t, s, db)
	id := b.Tenant("acme")
	b.Decide(storetest.Reserve(id, book.Amount{Cost: 1}))
	onNode := func(dsn string) (n int64) {
		require.NoError(t, pool(t, dsn).QueryRowContext(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE application_name = $1`, app).Scan(&n))
		return n
	}
	require.EqualValues(t, 1, onNode(node), "the session's own connection")
	db.SetMaxOpenConns(1)
	require.NoError(t, db.PingContext(t.Context()), "it takes none of the host's")

	// After a move, and with the session's connection gone, it is found where it is.
	var host string
	var port int
	require.NoError(t, db.QueryRowContext(t.Context(), `SELECT nodename, nodeport FROM pg_dist_node WHERE shouldhaveshards AND isactive
		AND position(nodename || ':' || nodeport IN $1) = 0 LIMIT 1`, node).Scan(&host, &port))
	_, err = db.ExecContext(t.Context(), fmt.Sprintf(`SELECT citus_schema_move('%s', '%s', %d, 'block_writes')`, name, host, port))
	require.NoError(t, err)
	b.Decide(storetest.Reserve(id, book.Amount{Cost: 1}))
	require.EqualValues(t, 2, b.Int(`SELECT count(*) FROM llm_executions`))
	postgres.LookAnew(b.Session)
	b.Decide(storetest.Reserve(id, book.Amount{Cost: 1}))
	require.EqualValues(t, 3, b.Int(`SELECT count(*) FROM llm_executions`))
	require.Zero(t, onNode(node), "no more to the node that had it")
}
