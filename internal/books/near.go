package books

import (
	"context"
	"strings"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Near is a limit of a tenant that is used up to a part, or more.
type Near struct {
	TenantID, Name string
	Limit          book.Limit // with the top-ups that are in force
	Balance        book.Balance
}

// Within limits a question about tenants to those below one, at any depth.
type Within struct{ Below book.ID }

// all reports whether it is about every tenant.
func (w Within) all() bool { return w.Below == book.NoTenant }

// with is the common table expression of the tenants below one, and its argument; nothing for all tenants.
func (w Within) with() (clause string, args []any) {
	if w.all() {
		return "", nil
	}
	return `WITH RECURSIVE below (id) AS (SELECT c.id FROM llm_tenants c WHERE c.parent = ?
		UNION SELECT c.id FROM below b JOIN llm_tenants c ON c.parent = b.id) `, []any{w.Below.String()}
}

// condition is that a tenant is one of them.
func (w Within) condition(id string) string {
	if w.all() {
		return ""
	}
	return " AND " + id + " IN (SELECT id FROM below)"
}

// NearLimits returns the limits of living tenants of which a number of per cent or more is spent, the most used up first. A
// limit that no call has met since it was set has no balance yet, and is not among them.
func (b Books) NearLimits(ctx context.Context, w Within, percent int64, limit int) (all []Near, err error) {
	const (
		spent = `CASE l.metric WHEN 'cost' THEN b.spent_cost WHEN 'tokens' THEN b.spent_tokens ELSE b.spent_calls END`
		scope = `l.window_unit = b.window_unit AND l.agent = b.agent AND l.model = b.model`
	)
	// A limit of the defaults holds for whoever inherits and has none of the same scope and metric.
	with, args := w.with()
	limits := func(whose, also string) string {
		return `SELECT t.id, t.tenant_id, t.name, l.window_unit, l.agent, l.model, l.metric, l.amount + coalesce((SELECT sum(u.amount) FROM llm_limits u
				WHERE u.tenant = t.id AND u.window_unit = l.window_unit AND u.agent = l.agent AND u.model = l.model AND u.metric = l.metric
				AND u.topup <> '' AND (u.ends_at IS NULL OR u.ends_at > ` + b.Clock + `)), 0) AS amount
			FROM llm_tenants t JOIN llm_limits l ON l.tenant = ` + whose + ` AND l.topup = ''
			WHERE t.deleted_at IS NULL AND t.tenant_id IS NOT NULL` + w.condition("t.id") + also
	}
	inherited := ` AND t.inherit AND t.id NOT IN ('` + book.Root.String() + `', '` + book.Defaults.String() + `')
		AND NOT EXISTS (SELECT 1 FROM llm_limits o WHERE o.tenant = t.id AND o.window_unit = l.window_unit
			AND o.agent = l.agent AND o.model = l.model AND o.metric = l.metric AND o.topup = '')`
	statement := with + `SELECT tenant_id, name, window_unit, agent, model, metric, amount,
			spent_cost, spent_tokens, spent_calls, held_cost, held_tokens, held_calls, window_start, window_end
		FROM (SELECT l.tenant_id, l.name, l.window_unit, l.agent, l.model, l.metric, CAST(l.amount AS bigint) AS amount,
				b.spent_cost, b.spent_tokens, b.spent_calls, b.held_cost, b.held_tokens, b.held_calls, b.window_start, b.window_end,
				CASE WHEN l.amount = 0 THEN 1.0 ELSE CAST(` + spent + ` AS double precision) / CAST(l.amount AS double precision) END AS used
			FROM (` + limits("t.id", ` AND t.id <> '`+book.Defaults.String()+`'`) + ` UNION ALL ` + limits("'"+book.Defaults.String()+"'", inherited) + `) l
			JOIN llm_balances b ON b.tenant = l.id AND ` + scope + `
			WHERE b.window_end IS NULL OR b.window_end > ` + b.Clock + `) n
		WHERE used >= CAST(? AS double precision) / 100 ORDER BY used DESC, tenant_id, window_unit, metric, agent, model LIMIT ?`
	args = append(args, percent, limit)
	err = b.query(ctx)(b.Bind(statement), args, func(row sqldb.Row) error {
		var (
			n      Near
			window string
			metric string
		)
		if err := row.Scan(&n.TenantID, &n.Name, &window, &n.Limit.Agent, &n.Limit.Model, &metric, &n.Limit.Max,
			&n.Balance.Spent.Cost, &n.Balance.Spent.Tokens, &n.Balance.Spent.Calls, &n.Balance.Held.Cost, &n.Balance.Held.Tokens, &n.Balance.Held.Calls,
			sqldb.Instant(&n.Balance.Start), sqldb.Instant(&n.Balance.End)); err != nil {
			return err
		}
		var err error
		n.Limit.Metric = book.Metric(metric)
		n.Limit.Window, err = period.ParseWindow(window)
		n.Balance.Scope = n.Limit.Scope
		all = append(all, n)
		return err
	})
	return all, err
}

// Listed is a tenant of a list.
type Listed struct {
	ID                  book.ID
	Key, Name, Parent   string
	Suspended, Deleted  bool
	Today, Month, Total book.Amount // spent, also by those below it; nothing where a window has passed since the last call
	Held                book.Amount
}

// List says which tenants are listed, and how many.
type List struct {
	Within
	Search string // a part of the id or of the name, in small letters; empty: all
	After  string // the id of the last one seen
	Limit  int
}

// Tenants of a list, by their ids.
func (b Books) List(ctx context.Context, l List) (all []Listed, err error) {
	with, args := l.with()
	search := ""
	conditions := `t.deleted_at IS NULL AND t.tenant_id IS NOT NULL AND t.id NOT IN ('` + book.Root.String() + `', '` + book.Defaults.String() + `')` + l.condition("t.id")
	if l.After != "" {
		conditions, args = conditions+" AND t.tenant_id > ?", append(args, l.After)
	}
	if l.Search != "" {
		search = ` AND (lower(t.tenant_id) LIKE ? ESCAPE '!' OR lower(t.name) LIKE ? ESCAPE '!')`
		pattern := "%" + strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(l.Search) + "%"
		args = append(args, pattern, pattern)
	}
	// The page is chosen before anything is looked up for its rows.
	statement := with + `SELECT CAST(t.id AS text), t.tenant_id, t.name, coalesce(p.tenant_id, ''), CASE WHEN t.suspended_at IS NULL THEN 0 ELSE 1 END,
			b.window_unit, b.window_end, b.spent_cost, b.spent_tokens, b.spent_calls, b.held_cost, b.held_tokens, b.held_calls, ` + b.Clock + `
		FROM (SELECT * FROM llm_tenants t WHERE ` + conditions + search + ` ORDER BY t.tenant_id LIMIT ?) t
		LEFT JOIN llm_tenants p ON p.id = t.parent
		LEFT JOIN llm_balances b ON b.tenant = t.id AND b.agent = '' AND b.model = '' AND b.window_unit IN ('total', 'day', 'month')
		ORDER BY t.tenant_id`
	args = append(args, l.Limit)
	err = b.query(ctx)(b.Bind(statement), args, func(row sqldb.Row) error {
		var (
			t           Listed
			suspended   int64
			window      *string
			end, now    time.Time
			spent, held [3]*int64
		)
		if err := row.Scan(&t.ID, &t.Key, &t.Name, &t.Parent, &suspended, &window, sqldb.Instant(&end),
			&spent[0], &spent[1], &spent[2], &held[0], &held[1], &held[2], sqldb.Instant(&now)); err != nil {
			return err
		}
		if n := len(all); n == 0 || all[n-1].ID != t.ID {
			t.Suspended = suspended != 0
			all = append(all, t)
		}
		if window == nil {
			return nil
		}
		last, sum := &all[len(all)-1], book.Amount{Cost: *spent[0], Tokens: *spent[1], Calls: *spent[2]}
		switch {
		case *window == "total":
			last.Total, last.Held = sum, book.Amount{Cost: *held[0], Tokens: *held[1], Calls: *held[2]}
		case !end.After(now):
		case *window == "day":
			last.Today = sum
		default:
			last.Month = sum
		}
		return nil
	})
	return all, err
}

// Running is what runs at a moment.
type Running struct {
	Calls, Overdue int64 // the latter past their deadlines
	Held           book.Amount
	Oldest         time.Time
}

// Running adds up the running executions of all tenants.
func (b Books) Running(ctx context.Context) (r Running, err error) {
	err = b.query(ctx)(`SELECT count(*), CAST(coalesce(sum(held_cost), 0) AS bigint), CAST(coalesce(sum(held_tokens), 0) AS bigint), min(admitted_at),
			CAST(coalesce(sum(CASE WHEN deadline_at < `+b.Clock+` THEN 1 ELSE 0 END), 0) AS bigint)
		FROM llm_executions WHERE status = 'running'`, nil, func(row sqldb.Row) error {
		return row.Scan(&r.Calls, &r.Held.Cost, &r.Held.Tokens, sqldb.Instant(&r.Oldest), &r.Overdue)
	})
	r.Held.Calls = r.Calls
	return r, err
}
