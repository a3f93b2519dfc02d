package books

import (
	"cmp"
	"context"
	"math/big"
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
	return `WITH RECURSIVE descendants (id) AS (SELECT c.id FROM llm_tenants c WHERE c.parent = ?
		UNION SELECT c.id FROM descendants b JOIN llm_tenants c ON c.parent = b.id) `, []any{w.Below.String()}
}

// condition is that a tenant is one of them.
func (w Within) condition(id string) string {
	if w.all() {
		return ""
	}
	return " AND " + id + " IN (SELECT id FROM descendants)"
}

// NearLimits returns the limits of living tenants of which a number of per cent or more is spent, the most used up first. A
// limit that no call has met since it was set has no balance yet, and is not among them.
func (b Books) NearLimits(ctx context.Context, w Within, percent int64, limit int) (all []Near, err error) {
	const (
		spent   = `CASE metric WHEN 'cost' THEN CASE counts WHEN 'cost' THEN spent_cost ELSE spent_charge END WHEN 'tokens' THEN spent_tokens ELSE spent_calls END`
		key     = "window_unit, agent, model, metric"
		figures = "spent_cost, spent_charge, spent_tokens, spent_calls, held_cost, held_charge, held_tokens, held_calls"
	)
	// The day and the month of all calls stand in the anchor's row.
	beside := `CASE WHEN l.agent = '' AND l.model = '' THEN l.window_unit ELSE '' END`
	column := func(name, own string) string {
		return `CASE ` + beside + ` WHEN 'day' THEN b.day_` + name + ` WHEN 'month' THEN b.month_` + name + ` ELSE b.` + own + ` END AS ` + own
	}
	columns := []string{column("start", "window_start"), column("end", "window_end")}
	for _, name := range strings.Split(figures, ", ") {
		columns = append(columns, column(name, name))
	}
	scope := `b.agent = l.agent AND b.model = l.model AND b.window_unit = CASE ` + beside + ` WHEN 'day' THEN 'total' WHEN 'month' THEN 'total' ELSE l.window_unit END`
	// A limit of the defaults holds for whoever inherits and has none of the same scope and metric. What a tenant has, with its top-ups,
	// is taken apart once.
	with, args := w.with()
	living := `t.deleted_at IS NULL AND t.tenant_id IS NOT NULL` + w.condition("t.id")
	limits := `SELECT t.id, t.tenant_id, t.name, coalesce(nullif(t.counts, ''), (SELECT d.counts FROM llm_tenants d WHERE d.id = '` + book.Defaults.String() + `'), '') AS counts,
			y.window_unit, y.agent, y.model, y.metric, y.amount
		FROM (SELECT id, ` + key + `, max(CASE topup WHEN '' THEN amount END) + coalesce(sum(CASE topup WHEN '' THEN NULL ELSE amount END), 0) AS amount
			FROM (SELECT t.id, l.window_unit, l.agent, l.model, l.metric, l.topup, l.amount
				FROM llm_tenants t JOIN llm_limits l ON l.tenant = t.id AND (l.topup = '' OR l.ends_at IS NULL OR l.ends_at > ` + b.Clock + `)
				WHERE ` + living + ` AND t.id <> '` + book.Defaults.String() + `'
				UNION ALL SELECT t.id, l.window_unit, l.agent, l.model, l.metric, l.topup, l.amount
				FROM llm_tenants t JOIN llm_limits l ON l.tenant = '` + book.Defaults.String() + `' AND l.topup = ''
				WHERE ` + living + ` AND t.inherit AND t.id NOT IN ('` + book.Root.String() + `', '` + book.Defaults.String() + `')
					AND NOT EXISTS (SELECT 1 FROM llm_limits o WHERE o.tenant = t.id AND o.window_unit = l.window_unit
						AND o.agent = l.agent AND o.model = l.model AND o.metric = l.metric AND o.topup = '')) z
			GROUP BY id, ` + key + ` HAVING max(CASE topup WHEN '' THEN 1 ELSE 0 END) = 1) y
		JOIN llm_tenants t ON t.id = y.id`
	statement := with + `SELECT tenant_id, name, counts, window_unit, agent, model, metric, amount, ` + figures + `, window_start, window_end
		FROM (SELECT x.*, CASE WHEN amount = 0 THEN 1.0 ELSE CAST(` + spent + ` AS double precision) / CAST(amount AS double precision) END AS used
			FROM (SELECT l.tenant_id, l.name, l.counts, l.window_unit, l.agent, l.model, l.metric, CAST(l.amount AS bigint) AS amount, ` + strings.Join(columns, ", ") + `
			FROM (` + limits + `) l
			JOIN ` + b.Present("l.id", scope) + `) x
			WHERE window_end IS NULL OR window_end > ` + b.Clock + `) n
		WHERE used >= CAST(? AS double precision) / 100 ORDER BY used DESC, tenant_id, window_unit, metric, agent, model LIMIT ?`
	args = append(args, percent, limit)
	err = b.query(ctx)(b.Bind(statement), args, func(row sqldb.Row) error {
		var (
			n      Near
			window string
			metric string
			counts book.Counting
		)
		if err := row.Scan(&n.TenantID, &n.Name, &counts, &window, &n.Limit.Agent, &n.Limit.Model, &metric, &n.Limit.Max,
			&n.Balance.Spent.Cost, &n.Balance.Spent.Charge, &n.Balance.Spent.Tokens, &n.Balance.Spent.Calls,
			&n.Balance.Held.Cost, &n.Balance.Held.Charge, &n.Balance.Held.Tokens, &n.Balance.Held.Calls,
			sqldb.Instant(&n.Balance.Start), sqldb.Instant(&n.Balance.End)); err != nil {
			return err
		}
		var err error
		n.Limit.Metric = book.Metric(metric)
		n.Limit.AtCost = n.Limit.Metric == book.Cost && counts == book.CountsCost
		n.Limit.Window, err = period.ParseWindow(window)
		n.Balance.Scope = n.Limit.Scope
		all = append(all, n)
		return err
	})
	return all, err
}

// CompareNear puts the limits of several places in the order of NearLimits, as far as that says how much is used.
func CompareNear(a, b Near) int {
	used := func(n Near) (spent, of int64) {
		if n.Limit.Max == 0 {
			return 1, 1
		}
		return n.Limit.Of(n.Balance.Spent), n.Limit.Max
	}
	spentA, ofA := used(a)
	spentB, ofB := used(b)
	x, y := new(big.Int).Mul(big.NewInt(spentA), big.NewInt(ofB)), new(big.Int).Mul(big.NewInt(spentB), big.NewInt(ofA))
	return cmp.Or(y.Cmp(x), cmp.Compare(a.TenantID, b.TenantID))
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

// List returns the tenants of a list, by their ids.
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
			b.spent_cost, b.spent_charge, b.spent_tokens, b.spent_calls, b.held_cost, b.held_charge, b.held_tokens, b.held_calls,
			b.day_end, b.day_spent_cost, b.day_spent_charge, b.day_spent_tokens, b.day_spent_calls,
			b.month_end, b.month_spent_cost, b.month_spent_charge, b.month_spent_tokens, b.month_spent_calls, ` + b.Clock + `
		FROM (SELECT * FROM llm_tenants t WHERE ` + conditions + search + ` ORDER BY t.tenant_id LIMIT ?) t
		LEFT JOIN llm_tenants p ON p.id = t.parent
		LEFT JOIN ` + b.Present("t.id", anchor) + `
		ORDER BY t.tenant_id`
	args = append(args, l.Limit)
	err = b.query(ctx)(b.Bind(statement), args, func(row sqldb.Row) error {
		var (
			t                           Listed
			suspended                   int64
			day, month, now             time.Time
			total, held, inDay, inMonth [4]*int64
		)
		if err := row.Scan(&t.ID, &t.Key, &t.Name, &t.Parent, &suspended, &total[0], &total[1], &total[2], &total[3],
			&held[0], &held[1], &held[2], &held[3],
			sqldb.Instant(&day), &inDay[0], &inDay[1], &inDay[2], &inDay[3], sqldb.Instant(&month), &inMonth[0], &inMonth[1], &inMonth[2], &inMonth[3], sqldb.Instant(&now)); err != nil {
			return err
		}
		t.Suspended = suspended != 0
		t.Total, t.Held = amount(total), amount(held)
		if day.After(now) {
			t.Today = amount(inDay)
		}
		if month.After(now) {
			t.Month = amount(inMonth)
		}
		all = append(all, t)
		return nil
	})
	return all, err
}

// amount is what is read of a tenant that may have no balances.
func amount(read [4]*int64) book.Amount {
	if read[0] == nil {
		return book.Amount{}
	}
	return book.Amount{Cost: *read[0], Charge: *read[1], Tokens: *read[2], Calls: *read[3]}
}

// Overruns counts the executions of all tenants in a range that went beyond their holds. The condition is that of their index.
func (b Books) Overruns(ctx context.Context, r Range) (n int64, err error) {
	err = b.query(ctx)(b.Bind(`SELECT count(*) FROM llm_executions WHERE admitted_at >= ? AND admitted_at < ?
		AND (overrun_cost > 0 OR overrun_charge > 0 OR overrun_tokens > 0)`), []any{b.Time(r.From), b.Time(r.To)}, func(row sqldb.Row) error {
		return row.Scan(&n)
	})
	return n, err
}

// Running is what runs at a moment.
type Running struct {
	Calls, Overdue int64 // the latter past their deadlines
	Held           book.Amount
	Oldest         time.Time
}

// Running adds up the running executions of all tenants.
func (b Books) Running(ctx context.Context) (r Running, err error) {
	err = b.query(ctx)(`SELECT count(*), CAST(coalesce(sum(held_cost), 0) AS bigint), CAST(coalesce(sum(held_charge), 0) AS bigint), CAST(coalesce(sum(held_tokens), 0) AS bigint), min(admitted_at),
			CAST(coalesce(sum(CASE WHEN deadline_at < `+b.Clock+` THEN 1 ELSE 0 END), 0) AS bigint)
		FROM llm_executions WHERE status = 'running'`, nil, func(row sqldb.Row) error {
		return row.Scan(&r.Calls, &r.Held.Cost, &r.Held.Charge, &r.Held.Tokens, sqldb.Instant(&r.Oldest), &r.Overdue)
	})
	r.Held.Calls = r.Calls
	return r, err
}
