package books

import (
	"context"
	"database/sql"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Defer gives a running execution an idempotency key, where it has none. It reports false where it has one, or has ended. It
// changes no column that a lane writes, and locks no row but the execution's own.
func Defer(ctx context.Context, d *sqldb.Dialect, pool *sql.DB, schema *sqldb.Schema, citus bool, tenant, id book.ID, key string) (done bool, err error) {
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback() }()
	if err := d.Begin(ctx, tx, citus); err != nil {
		return false, err
	}
	conn := schema.On(tx)
	result, err := conn.ExecContext(ctx, d.Bind(`UPDATE llm_executions SET idempotency_key = ?
		WHERE tenant = ? AND id = ? AND status = 'running' AND idempotency_key IS NULL`), key, tenant.String(), id.String())
	if err != nil {
		return false, err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return false, err
	}
	if _, err := conn.ExecContext(ctx, d.Bind(`INSERT INTO llm_idempotency (tenant, key, execution, status, taken_at)
		SELECT tenant, idempotency_key, id, status, admitted_at FROM llm_executions WHERE tenant = ? AND id = ?`),
		tenant.String(), id.String()); err != nil {
		return false, err
	}
	return true, tx.Commit()
}

// keepKeys enters how executions that are about to go had ended into the idempotency keys that they have taken.
func (b Books) keepKeys(ctx context.Context, tenant book.ID, ids []book.ID) error {
	_, err := b.Conn.ExecContext(ctx, b.Bind(`UPDATE llm_idempotency AS k SET status = e.status, cost = e.cost, charge = e.charge
		FROM llm_executions e WHERE e.tenant = ? AND `+b.Among("e.id")+` AND k.tenant = e.tenant AND k.key = e.idempotency_key AND k.execution = e.id`),
		tenant.String(), b.IDs(ids))
	return err
}

// PruneKeys frees idempotency keys that were taken before a time by executions that are gone, in their order behind one: as many
// as there are, up to a limit. It returns how many it has looked at and the last one.
func (b Books) PruneKeys(ctx context.Context, tenant book.ID, before time.Time, after string, limit int) (n int, last string, err error) {
	last = after
	var gone []any
	err = b.query(ctx)(b.Bind(`SELECT k.key, CASE WHEN EXISTS (SELECT 1 FROM llm_executions e WHERE e.tenant = k.tenant AND e.id = k.execution) THEN 1 ELSE 0 END
		FROM llm_idempotency k WHERE k.tenant = ? AND k.key > ? AND k.taken_at < ? ORDER BY k.key LIMIT ?`),
		[]any{tenant.String(), after, b.Time(before), limit}, func(row sqldb.Row) error {
			var kept int
			err := row.Scan(&last, &kept)
			if n++; kept == 0 {
				gone = append(gone, last)
			}
			return err
		})
	if err != nil || len(gone) == 0 {
		return n, last, err
	}
	_, err = b.Conn.ExecContext(ctx, b.Bind(`DELETE FROM llm_idempotency WHERE tenant = ? AND key IN (`+sqldb.Marks(len(gone))+`)`),
		append([]any{tenant.String()}, gone...)...)
	return n, last, err
}

// KeysTaken returns which of some idempotency keys of a tenant are taken.
func (b Books) KeysTaken(ctx context.Context, tenant book.ID, keys []string) (map[string]bool, error) {
	args := []any{tenant.String()}
	for _, key := range keys {
		args = append(args, key)
	}
	var found []string
	err := sqldb.List(ctx, b.Conn, &found, b.Bind(`SELECT key FROM llm_idempotency WHERE tenant = ? AND key IN (`+sqldb.Marks(len(keys))+`)`), args...)
	taken := make(map[string]bool, len(found))
	for _, key := range found {
		taken[key] = true
	}
	return taken, err
}
