package main

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/pgtest"
)

// heard is what a proxy told.
type heard struct {
	mu   sync.Mutex
	what map[string]int
}

func (h *heard) add(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.what[what]++
}

func (h *heard) of(what string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.what[what]
}

// proxied starts a proxy in front of a new database, and returns the database's URLs with it and without.
func proxied(t *testing.T) (p *proxy, through, direct string, h *heard) {
	t.Helper()
	direct = pgtest.DSN(t)
	h = &heard{what: map[string]int{}}
	p, err := startProxy(direct, rand.New(rand.NewPCG(1, 2)), h.add)
	require.NoError(t, err)
	t.Cleanup(p.close)
	through, err = p.through(direct)
	require.NoError(t, err)
	return p, through, direct, h
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

func requireCode(t *testing.T, code string, err error) {
	t.Helper()
	said := (*pgconn.PgError)(nil)
	require.ErrorAs(t, err, &said)
	require.Equal(t, code, said.Code)
}

func TestProxy_FailsAnyStatementAndKeepsTheSession(t *testing.T) {
	t.Parallel()
	p, through, direct, h := proxied(t)
	bare := connect(t, direct)
	_, err := bare.Exec(t.Context(), "CREATE TABLE things (n int)")
	require.NoError(t, err)
	count := func() (n int) {
		require.NoError(t, bare.QueryRow(t.Context(), "SELECT count(*) FROM things").Scan(&n))
		return n
	}
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		_, err := bare.Exec(t.Context(), "TRUNCATE things")
		require.NoError(t, err)
		conn := connect(t, through)
		insert := func(n int) error {
			_, err := conn.Exec(t.Context(), "INSERT INTO things VALUES ($1)", mode, n)
			return err
		}
		require.NoError(t, insert(1), mode)
		p.do(harm{codes: []string{"42501"}, oneIn: 1})
		requireCode(t, "42501", insert(2))
		p.do(harm{codes: []string{"XY123"}, oneIn: 1})
		requireCode(t, "XY123", insert(3))
		p.do(harm{})
		require.NoError(t, insert(4), mode)
		require.Equal(t, 2, count(), mode)

		// In a transaction, of which the server knows that it has failed.
		tx, err := conn.Begin(t.Context())
		require.NoError(t, err)
		require.NoError(t, insert(5))
		p.do(harm{codes: []string{"25P04"}, oneIn: 1})
		requireCode(t, "25P04", insert(6))
		p.do(harm{})
		requireCode(t, "25P02", insert(7))
		require.NoError(t, tx.Rollback(t.Context()))
		require.NoError(t, insert(8))
		require.Equal(t, 3, count(), mode)

		// In the middle of a pipeline, after what the server itself refuses, and before what it accepts.
		for _, c := range []struct {
			statements []string
			code       string
		}{
			{[]string{"BEGIN", "INSERT INTO things VALUES (9)", "COMMIT"}, ""},
			{[]string{"INSERT INTO nothing VALUES (9)", "SELECT 1"}, "42P01"},
		} {
			for range 20 {
				batch := &pgx.Batch{}
				for _, s := range c.statements {
					batch.Queue(s)
				}
				p.do(harm{codes: []string{"P0001"}, oneIn: 3})
				err := conn.SendBatch(t.Context(), batch).Close()
				p.do(harm{})
				if said := (*pgconn.PgError)(nil); errors.As(err, &said) {
					require.Contains(t, []string{"P0001", c.code}, said.Code, mode)
				} else {
					require.NoError(t, err)
				}
				_, err = conn.Exec(t.Context(), "ROLLBACK")
				require.NoError(t, err)
				var one int
				require.NoError(t, conn.QueryRow(t.Context(), "SELECT 1", mode).Scan(&one), "the session goes on")
				require.Equal(t, 1, one)
			}
		}
	}
	require.NotZero(t, h.of(injected))
}

func TestProxy_CutsAfterWhatWasSentAndBeforeItIsAnswered(t *testing.T) {
	t.Parallel()
	p, through, direct, h := proxied(t)
	conn, bare := connect(t, through), connect(t, direct)
	_, err := conn.Exec(t.Context(), "CREATE TABLE things (n int)")
	require.NoError(t, err)
	p.do(harm{cutIn: 1})
	_, err = conn.Exec(t.Context(), "INSERT INTO things VALUES (1)")
	require.Error(t, err)
	require.True(t, conn.IsClosed())
	require.Equal(t, 1, h.of(unanswered))
	var n int
	require.NoError(t, bare.QueryRow(t.Context(), "SELECT count(*) FROM things").Scan(&n))
	require.Equal(t, 1, n, "it was carried out")
}

func TestProxy_LeadsLoginsAstrayAndSpeaksLikePgpool(t *testing.T) {
	t.Parallel()
	p, through, direct, h := proxied(t)
	p.do(harm{astray: true})
	_, err := pgx.Connect(t.Context(), through)
	requireCode(t, "3D000", err)
	require.Equal(t, 1, h.of(led))

	p.do(harm{pgpool: true})
	conn, bare := connect(t, through), connect(t, direct)
	_, err = bare.Exec(t.Context(), "SELECT pg_terminate_backend($1, 10000)", conn.PgConn().PID())
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "SELECT 1")
	requireCode(t, "XX000", err)
	require.Equal(t, 1, h.of(pgpooled))

	nowhere, err := startProxy("postgres://127.0.0.1:1/x", rand.New(rand.NewPCG(1, 2)), h.add)
	require.NoError(t, err)
	defer nowhere.close()
	nowhere.do(harm{pgpool: true})
	through, err = nowhere.through(direct)
	require.NoError(t, err)
	_, err = pgx.Connect(t.Context(), through)
	requireCode(t, "XX000", err)
	require.Equal(t, 2, h.of(pgpooled))
}
