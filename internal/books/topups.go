package books

import (
	"context"

	"github.com/llmtenant/tenant/internal/book"
)

// TopUp adds to a tenant's limits, and returns how many of the top-ups were not there yet.
func (b Books) TopUp(ctx context.Context, id book.ID, added []book.TopUp) (n int64, err error) {
	if _, err := b.Conn.ExecContext(ctx, b.Bind(`DELETE FROM llm_limits WHERE tenant = ? AND topup <> '' AND ends_at <= `+b.Clock), id.String()); err != nil {
		return 0, err
	}
	for _, up := range added {
		var ends any
		if !up.Ends.IsZero() {
			ends = b.Time(up.Ends)
		}
		result, err := b.Conn.ExecContext(ctx, b.Bind(`INSERT INTO llm_limits (tenant, window_unit, agent, model, metric, topup, amount, ends_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`),
			id.String(), up.Window.String(), up.Agent, up.Model, string(up.Metric), up.Key, up.Max, ends)
		if err != nil {
			return n, err
		}
		rows, err := result.RowsAffected()
		if err != nil {
			return n, err
		}
		n += rows
	}
	return n, nil
}
