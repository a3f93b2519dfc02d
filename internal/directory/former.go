package directory

import (
	"context"
	"time"
	"unicode/utf8"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Near returns ids of tenants among which the one that is meant by another id is to be looked for: those beside it in their
// order, and those that are about as long. It does not read more than some thousands of them.
func (d Directory) Near(ctx context.Context, c sqldb.Conn, key string, off int) ([]string, error) {
	const living = `tenant_id IS NOT NULL AND deleted_at IS NULL`
	length := utf8.RuneCountInString(key)
	var keys []string
	err := sqldb.List(ctx, c, &keys, d.Bind(`SELECT tenant_id FROM (SELECT tenant_id FROM llm_tenants
			WHERE tenant_id >= ? AND `+living+` ORDER BY tenant_id LIMIT 200) a
		UNION SELECT tenant_id FROM (SELECT tenant_id FROM llm_tenants
			WHERE tenant_id < ? AND `+living+` ORDER BY tenant_id DESC LIMIT 200) b
		UNION SELECT tenant_id FROM (SELECT tenant_id FROM llm_tenants
			WHERE length(tenant_id) BETWEEN ? AND ? AND `+living+` LIMIT 20000) c`), key, key, length-off, length+off)
	return keys, err
}

// Former is a tenant that is deleted.
type Former struct {
	ID        book.ID
	Key, Name string // the key as it was when its record was removed
	DeletedAt time.Time
}

// Formers returns the tenants that had an id and are deleted, the last one first. The audit log knows them: it has every
// removal.
func (d Directory) Formers(ctx context.Context, c sqldb.Conn, key string) ([]Former, error) {
	var all []Former
	err := sqldb.EachRow(ctx, c, d.Bind(`SELECT t.id, t.name, t.deleted_at FROM llm_tenants t
		WHERE t.deleted_at IS NOT NULL AND t.owner_type IS NULL
			AND t.id IN (SELECT a.tenant FROM llm_audit a WHERE a.tenant_id = ? AND a.action IN ('remove', 'delete'))
		ORDER BY t.deleted_at DESC, t.id DESC`), []any{key}, func(row sqldb.Row) error {
		f := Former{Key: key}
		err := row.Scan(&f.ID, &f.Name, sqldb.Instant(&f.DeletedAt))
		all = append(all, f)
		return err
	})
	return all, err
}
