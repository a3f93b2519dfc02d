package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/internal/store"
)

// Lists are bound as JSON arrays.
const (
	// ?1 is the ids of the tenants of a batch, ?2 the keys of those that are known by key. All that stand above them are wanted
	// too, and the root, if there is one.
	chains = `WITH RECURSIVE chain (id) AS (SELECT value FROM json_each(?1)
			UNION SELECT w.id FROM llm_tenants w WHERE w.tenant_id IN (SELECT value FROM json_each(?2))
			UNION SELECT t.parent FROM chain JOIN llm_tenants t ON t.id = chain.id WHERE t.parent IS NOT NULL)
		SELECT id FROM chain UNION SELECT id FROM llm_tenants WHERE id = '00000000-0000-0000-0000-000000000001'`

	// Elsewhere ?1 is all that are wanted, and the defaults, which have no balances.
	wanted = `SELECT value FROM json_each(?1)`

	// Nobody else writes, so the anchors that are there are locked.
	locked = `SELECT b.tenant FROM llm_balances b
		WHERE b.tenant IN (` + wanted + `) AND b.window_unit = 'total' AND b.agent = '' AND b.model = ''`

	tenants  = `SELECT ` + store.TenantColumns + ` FROM llm_tenants t WHERE t.id IN (` + wanted + `)`
	balances = `SELECT ` + store.BalanceColumns + ` FROM llm_balances b WHERE b.tenant IN (` + wanted + `)`

	// ?1 is pairs of tenant and id. CROSS JOIN keeps the order: one look-up for each pair.
	executions = `SELECT ` + store.ExecutionColumns + ` FROM json_each(?1) k
		CROSS JOIN llm_executions e ON e.tenant = json_extract(k.value, '$[0]') AND e.id = json_extract(k.value, '$[1]')`
	processes = `SELECT ` + store.ProcessColumns + ` FROM llm_processes p WHERE p.id IN (SELECT value FROM json_each(?1))`
)

// taken is from where idempotency keys are read that are among ?2, of the tenants of ?1.
const taken = ` FROM llm_idempotency k%s WHERE k.tenant IN (` + wanted + `) AND k.key IN (SELECT value FROM json_each(?2))`

var (
	idempotent = `SELECT ` + store.ExecutionColumns + fmt.Sprintf(taken, ` JOIN llm_executions e ON e.tenant = k.tenant AND e.id = k.execution`)
	gone       = `SELECT ` + store.GoneColumns + fmt.Sprintf(taken, "") + `
		AND NOT EXISTS (SELECT 1 FROM llm_executions e WHERE e.tenant = k.tenant AND e.id = k.execution)`
)

func (s *Store) read(ctx context.Context, conn *sql.Conn, want *book.Want) (*book.State, error) {
	r := store.Reader{
		ID:   func(id *book.ID) any { return (*identity)(id) },
		Time: sqldb.Instant,
	}
	state := r.Reset(len(want.Tenants) + len(want.Keys))
	state.Now = s.clock().UTC().Truncate(time.Microsecond)
	all := []string{book.Defaults.String()}
	err := query{chains, []any{list(texts(want.Tenants)), list(want.Keys)}, func(row sqldb.Row) error {
		var id string
		err := row.Scan(&id)
		all = append(all, id)
		return err
	}}.run(ctx, conn)
	if err != nil {
		return nil, err
	}
	ids := list(all)

	queries := []query{
		{locked, []any{ids}, r.Locked},
		{tenants, []any{ids}, func(row sqldb.Row) error { _, err := r.Tenant(row); return err }},
		{balances, []any{ids}, func(row sqldb.Row) error { _, err := r.Balance(row); return err }},
	}
	if len(want.Executions) > 0 {
		pairs := make([][2]string, len(want.Executions))
		for i, k := range want.Executions {
			pairs[i] = [2]string{k.Tenant.String(), k.ID.String()}
		}
		queries = append(queries, query{executions, []any{list(pairs)}, r.Execution})
	}
	if len(want.Idempotent) > 0 {
		uses := make([]string, len(want.Idempotent))
		for i, use := range want.Idempotent {
			uses[i] = use.Key
		}
		queries = append(queries, query{idempotent, []any{ids, list(uses)}, r.Idempotent}, query{gone, []any{ids, list(uses)}, r.Gone})
	}
	if len(want.Processes) > 0 {
		queries = append(queries, query{processes, []any{list(texts(want.Processes))}, r.Process})
	}
	for _, q := range queries {
		if err := q.run(ctx, conn); err != nil {
			return nil, err
		}
	}
	return state, nil
}

type query struct {
	sql   string
	args  []any
	enter func(sqldb.Row) error
}

func (q query) run(ctx context.Context, conn *sql.Conn) error {
	rows, err := conn.QueryContext(ctx, q.sql, q.args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := q.enter(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// list is a JSON array.
func list[T string | [2]string](values []T) string {
	if values == nil {
		return "[]"
	}
	text, _ := json.Marshal(values) // of strings: it cannot fail
	return string(text)
}

func texts(ids []book.ID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = id.String()
	}
	return out
}

// identity is the target to scan a UUID into. NULL is the zero one.
type identity book.ID

// Scan implements sql.Scanner.
func (i *identity) Scan(value any) error {
	if value == nil {
		*i = identity{}
		return nil
	}
	return (*book.ID)(i).Scan(value)
}

// fill gives balances that are not stored yet what their windows have seen.
func fill(ctx context.Context, conn *sql.Conn, sums []book.Sum) error {
	for i := range sums {
		err := books.Fill(sqldb.SQLite, &sums[i], func(statement string, args []any, enter func(sqldb.Row) error) error {
			return query{statement, args, enter}.run(ctx, conn)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
