package directory

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/callctx"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Change is a change of a tenant's budget, for the audit log. Was and Became are what it was and what it became, each a
// value that becomes JSON, or nil.
type Change struct {
	Tenant, Key string
	Action      string
	Was, Became any
}

// Audit writes changes down, with who acts and why by the context. It runs in the transaction of its caller.
func (d Directory) Audit(ctx context.Context, c sqldb.Conn, changes ...Change) error {
	for chunk := range slices.Chunk(changes, maxProfiles) {
		var (
			values []string
			args   []any
		)
		for _, change := range chunk {
			was, err := document(change.Was)
			if err != nil {
				return err
			}
			became, err := document(change.Became)
			if err != nil {
				return err
			}
			values = append(values, "(?, ?, ?, "+d.Clock+", ?, ?, ?, ?, ?)")
			args = append(args, change.Tenant, book.NewID().String(), change.Key, callctx.Actor(ctx), change.Action, callctx.Reason(ctx), was, became)
		}
		if _, err := c.ExecContext(ctx, d.Bind(`INSERT INTO llm_audit (tenant, id, tenant_id, changed_at, actor, action, reason, was, became)
			VALUES `+strings.Join(values, ", ")), args...); err != nil {
			return err
		}
	}
	return nil
}

// LastAudit enters the last change of one action of a tenant, if there was one.
func (d Directory) LastAudit(ctx context.Context, c sqldb.Conn, id book.ID, action string, enter func(at time.Time, actor string, became []byte) error) error {
	return sqldb.EachRow(ctx, c, d.Bind(`SELECT changed_at, actor, CAST(became AS text) FROM llm_audit
		WHERE tenant = ? AND action = ? ORDER BY id DESC LIMIT 1`), []any{id.String(), action}, func(row sqldb.Row) error {
		var (
			at            time.Time
			actor, became string
		)
		if err := row.Scan(sqldb.Instant(&at), &actor, &became); err != nil {
			return err
		}
		return enter(at, actor, []byte(became))
	})
}

// auditDocument is changes as one document of JSON, for a statement that does more than write them down.
func auditDocument(changes []Change) (string, error) {
	type row struct {
		Tenant string `json:"tenant"`
		ID     string `json:"id"`
		Key    string `json:"tenant_id"`
		Action string `json:"action"`
		Was    any    `json:"was"`
		Became any    `json:"became"`
	}
	rows := make([]row, len(changes))
	for i, c := range changes {
		rows[i] = row{c.Tenant, book.NewID().String(), c.Key, c.Action, c.Was, c.Became}
	}
	b, err := json.Marshal(rows)
	return string(b), err
}

func document(value any) (*string, error) {
	if value == nil {
		return nil, nil
	}
	encoded, err := json.Marshal(value)
	s := string(encoded)
	return &s, err
}

// state is a part of a budget as the audit log has it.
type state map[string]any

// limitsOf returns the limits of some tenants as the audit log has them, by tenant.
func (d Directory) limitsOf(ctx context.Context, c sqldb.Conn, ids []any) (map[string][]string, error) {
	all := map[string][]string{}
	for chunk := range slices.Chunk(ids, maxProfiles) {
		err := sqldb.EachRow(ctx, c, d.Bind(`SELECT CAST(id AS text), CAST(limits AS text) FROM llm_tenants WHERE id IN (`+sqldb.Marks(len(chunk))+`)`),
			chunk, func(row sqldb.Row) error {
				var id, document string
				if err := row.Scan(&id, &document); err != nil {
					return err
				}
				limits, err := sqldb.ParseLimits(document)
				for _, l := range limits.Own {
					all[id] = append(all[id], limitText(l))
				}
				slices.Sort(all[id])
				return err
			})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

func limitText(l book.Limit) string {
	text := fmt.Sprintf("%s %s %d", l.Window, l.Metric, l.Max)
	if l.Agent != "" {
		text += " of agent " + l.Agent
	}
	if l.Model != "" {
		text += " of model " + l.Model
	}
	return text
}
