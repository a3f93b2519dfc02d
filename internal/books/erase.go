package books

import (
	"context"
	"strings"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Left returns how many executions of a tenant there are, and how many of them run.
func (b Books) Left(ctx context.Context, id book.ID) (all, running int64, err error) {
	err = b.query(ctx)(b.Bind(`SELECT count(*), coalesce(sum(CASE status WHEN 'running' THEN 1 ELSE 0 END), 0) FROM llm_executions WHERE tenant = ?`),
		[]any{id.String()}, func(row sqldb.Row) error { return row.Scan(&all, &running) })
	return all, running, err
}

// Retire lets a tenant make no more calls. It runs in a short transaction of its caller.
func (b Books) Retire(ctx context.Context, id book.ID) error {
	if _, err := b.Conn.ExecContext(ctx, b.Bind(`UPDATE llm_tenants SET deleted_at = coalesce(deleted_at, (SELECT `+b.Clock+`)), updated_at = `+b.Clock+` WHERE id = ?`),
		id.String()); err != nil {
		return err
	}
	return b.LockAnchor(ctx, id)
}

// Names returns the keys that a tenant has and has had, as far as the books know.
func (b Books) Names(ctx context.Context, id book.ID) (names []string, err error) {
	const key = "tenant_id" // as the audit log says what was renamed
	err = sqldb.List(ctx, b.Conn, &names, b.Bind(`SELECT tenant_id FROM llm_tenants WHERE id = ? AND tenant_id IS NOT NULL
		UNION SELECT tenant_id FROM llm_audit WHERE tenant = ? AND tenant_id <> ''
		UNION SELECT `+b.Tag("was")+` FROM llm_audit WHERE tenant = ? AND `+b.Tag("was")+` <> ''
		UNION SELECT tenant_id FROM llm_executions WHERE tenant = ? AND tenant_id <> ''`), id.String(), id.String(), key, id.String(), key, id.String())
	return names, err
}

// Unname takes the names of a tenant out of the audit log's entries of others, which say whom they stand below.
func (b Books) Unname(ctx context.Context, names []string) error {
	nobody := `json_set(@, '$.parent', '')`
	if b.LocksRows {
		nobody = `jsonb_set(@, '{parent}', '""')`
	}
	for _, name := range names {
		for _, column := range []string{"was", "became"} {
			if _, err := b.Conn.ExecContext(ctx, b.Bind(`UPDATE llm_audit SET `+column+` = `+strings.ReplaceAll(nobody, "@", column)+`
				WHERE `+b.Tag(column)+` = ?`), "parent", name); err != nil {
				return err
			}
		}
	}
	return nil
}

// Forget deletes what names a tenant beside its executions. It runs in a short transaction of its caller, which has locked the
// tenant's anchor.
func (b Books) Forget(ctx context.Context, id book.ID) error {
	for _, table := range []string{"llm_thresholds", "llm_audit", "llm_idempotency"} {
		if _, err := b.Conn.ExecContext(ctx, b.Bind(`DELETE FROM `+table+` WHERE tenant = ?`), id.String()); err != nil {
			return err
		}
	}
	if err := b.unnameTags(ctx, id.String()); err != nil {
		return err
	}
	_, err := b.Conn.ExecContext(ctx, b.Bind(`UPDATE llm_tenants SET tenant_id = NULL, name = '', owner_type = NULL, owner_id = NULL,
		time_zone = '', limits = '[]', deleted_at = coalesce(deleted_at, (SELECT `+b.Clock+`)), updated_at = `+b.Clock+` WHERE id = ?`), id.String())
	return err
}
