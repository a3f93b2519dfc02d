package account

import (
	"context"
	"encoding/json"

	"github.com/llmtenant/tenant/internal/book"
)

// Entry is who changed a budget, how and why.
type Entry struct{ Actor, Action, Reason string }

// Audit writes down a change of a tenant's budget: what it was and what it became, each as a value that becomes JSON, or
// nil.
func (b Books) Audit(ctx context.Context, t *book.Tenant, e Entry, was, became any) error {
	before, err := text(was)
	if err != nil {
		return err
	}
	after, err := text(became)
	if err != nil {
		return err
	}
	_, err = b.Conn.ExecContext(ctx, b.Bind(`INSERT INTO llm_audit (tenant, id, tenant_id, changed_at, actor, action, reason, was, became)
		VALUES (?, ?, ?, `+b.Clock+`, ?, ?, ?, ?, ?)`), t.ID.String(), book.NewID().String(), t.Key, e.Actor, e.Action, e.Reason, before, after)
	return err
}

func text(value any) (*string, error) {
	if value == nil {
		return nil, nil
	}
	encoded, err := json.Marshal(value)
	s := string(encoded)
	return &s, err
}

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
