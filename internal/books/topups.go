package books

import (
	"context"
	"slices"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// TopUp adds to the limits of a tenant, whose settings are locked, and reports whether any of the top-ups was not there yet.
// Those that have ended are gone then.
func (b Books) TopUp(ctx context.Context, t *book.Tenant, added []book.TopUp, now time.Time) (bool, error) {
	lasting := slices.DeleteFunc(slices.Clone(t.TopUps), func(up book.TopUp) bool { return !up.Ends.IsZero() && !up.Ends.After(now) })
	n := len(lasting)
	for _, up := range added {
		if !slices.ContainsFunc(lasting, func(had book.TopUp) bool {
			return had.Key == up.Key && had.Scope == up.Scope && had.Metric == up.Metric
		}) {
			lasting = append(lasting, up)
		}
	}
	if len(lasting) == n {
		return false, nil
	}
	_, err := b.Conn.ExecContext(ctx, b.Bind(`UPDATE llm_tenants SET limits = ? WHERE id = ?`),
		sqldb.Limits{Own: t.Limits, TopUps: lasting}.String(), t.ID.String())
	return true, err
}
