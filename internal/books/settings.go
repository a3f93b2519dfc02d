package books

import (
	"context"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Settings is what a tenant's row says about its budget.
type Settings struct {
	Name        string
	Enforcement book.Enforcement
	Counts      book.Counting
	Inherit     bool
	Zone        string
	Suspended   bool
}

// Write makes the transaction of a host a writer, where that has to come before it reads. It changes nothing.
func (b Books) Write(ctx context.Context) error { return b.Dialect.Write(ctx, b.Conn) }

// Lock locks a tenant's settings against whoever else changes them, until the transaction ends. It reports false if the
// tenant is not there. On SQLite the whole transaction has to be a writer already.
func (b Books) Lock(ctx context.Context, id book.ID) (bool, error) {
	statement := `SELECT 1 FROM llm_tenants WHERE id = ?`
	if b.LocksRows {
		statement += ` FOR UPDATE`
	}
	return b.any(ctx, statement, id.String())
}

// LockAnchor waits until every transaction that decides by the tenant's old limits has ended, and keeps new ones from
// deciding until this one ends. It is for the end of a short transaction.
func (b Books) LockAnchor(ctx context.Context, id book.ID) error {
	if !b.LocksRows {
		return nil // there is one writer, and it is this transaction
	}
	// Not those of older generations; it may be of a younger one when it is locked.
	_, err := b.any(ctx, `SELECT 1 FROM llm_balances b WHERE b.tenant = ? AND b.generation >= `+b.Newest("?")+` AND `+anchor+`
		FOR NO KEY UPDATE`, id.String(), id.String())
	return err
}

func (b Books) any(ctx context.Context, statement string, args ...any) (bool, error) {
	rows, err := b.Conn.QueryContext(ctx, b.Bind(statement), args...)
	if err != nil {
		return false, err
	}
	defer func() { _ = rows.Close() }()
	found := rows.Next()
	return found, rows.Err()
}

// Save writes a tenant's settings and its limits. It writes no balance.
func (b Books) Save(ctx context.Context, id book.ID, s Settings, limits sqldb.Limits) error {
	// The row is written also where it stays the same: that is what a transaction of a stricter isolation notices.
	_, err := b.Conn.ExecContext(ctx, b.Bind(`UPDATE llm_tenants SET name = ?, enforcement = ?, counts = ?, inherit = ?, time_zone = ?, limits = ?,
		suspended_at = CASE WHEN ? THEN coalesce(suspended_at, (SELECT `+b.Clock+`)) END, updated_at = `+b.Clock+` WHERE id = ?`),
		s.Name, string(s.Enforcement), string(s.Counts), s.Inherit, s.Zone, limits.String(), s.Suspended, id.String())
	return err
}
