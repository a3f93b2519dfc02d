package books

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/units"
)

// Hourly says which calls are added up by the hour, and what they are taken apart by beside tenants and models.
type Hourly struct {
	Tenant    book.ID
	Alone     bool // without those of the tenants below it
	Everybody bool
	Range
	By []Group // agents and tags
}

// HourLine is what the calls of an hour have used that are alike in tenant, model, provider, service tier and groups; or by how
// much adjustments of it, all booked in one month, have corrected that.
type HourLine struct {
	Hour            time.Time
	Tenant          book.ID
	TenantKey, Name string // as they are now; the key as it was last, where it was given up
	Provider, Tier  string
	Model, Asked    string // the model billed, where one was, and one that was asked for
	Keys            []string
	Adjusted        bool
	Booked          time.Time // of adjustments: the month
	book.HourSum
}

// alike reports whether two lines differ in their figures alone.
func (l *HourLine) alike(o *HourLine) bool {
	return l.Hour.Equal(o.Hour) && l.Tenant == o.Tenant && l.Provider == o.Provider && l.Tier == o.Tier && l.Model == o.Model &&
		l.Adjusted == o.Adjusted && l.Booked.Equal(o.Booked) && slices.Equal(l.Keys, o.Keys)
}

// EachHour enters what calls have used by the hour, in the order of the hours, in one statement and so as of one moment. The roll-up
// counts adjustments with the calls that they correct: they are few, and are taken from it one by one.
func (b Books) EachHour(ctx context.Context, h Hourly, enter func(*HourLine) error) error {
	q := Question{Tenant: h.Tenant, Alone: h.Alone, Everybody: h.Everybody, By: append([]Group{{Dimension: ByTenant}}, h.By...), Spans: []Span{{Range: h.Range}}}
	a := answer{Books: b, Question: q}
	c := a.cover(q.Spans[0])

	rolled := source{table: "llm_usage", at: "hour", rolled: true, columns: a.columns("e.@", "e.latencies") + noUnit}
	a.hourly(h, c.hours, rolled, usage)
	rolled.table, rolled.columns = "llm_usage_units", a.columns("0", a.NoCounts)+", e.unit, e.amount"
	a.hourly(h, c.hours, rolled, usage)
	calls, each := a.callsAndUnits()
	for _, from := range []source{calls, each, a.pruned(calls), a.pruned(each)} {
		a.hourly(h, c.calls, from, byStatus)
	}
	for _, from := range []source{calls, a.pruned(calls)} {
		from.where = and(from.where, "e.status = 'adjusted'")
		a.hourly(h, c.hours, from, adjusted)
		from.columns = a.onlyMoney("-e.@")
		a.hourly(h, c.hours, from, usage)
	}
	if len(a.parts) == 0 {
		return nil
	}
	var current *HourLine
	err := b.query(ctx)(b.Bind(a.hourlySQL(len(h.By))), a.args, func(row sqldb.Row) error {
		l, err := scanHour(row, len(h.By))
		switch {
		case err != nil:
			return err
		case current != nil && current.alike(l):
			Merge(&current.HourSum, &l.HourSum)
			current.Asked = max(current.Asked, l.Asked)
			return nil
		case current != nil:
			err = enter(current)
		}
		current = l
		return err
	})
	if err == nil && current != nil {
		err = enter(current)
	}
	if err != nil {
		return err
	}
	return b.known(ctx, Question{Tenant: h.Tenant, Alone: h.Alone, Everybody: h.Everybody, By: h.By, Spans: q.Spans})
}

// What rows of a source are.
const (
	usage    = "0"
	adjusted = "1"
	byStatus = "CASE e.status WHEN 'adjusted' THEN 1 ELSE 0 END"
)

// onlyMoney are the columns of what changes cost and charge alone, each by an expression in which @ is its name.
func (a *answer) onlyMoney(expression string) string {
	columns := a.columns("0", a.NoCounts) + noUnit
	for _, name := range []string{"cost", "charge"} {
		columns = strings.Replace(columns, "0 AS "+name+",", strings.ReplaceAll(expression, "@", name)+" AS "+name+",", 1)
	}
	return columns
}

// hourly adds the rows of a source, by the hour. Adjusted is an expression for whether they are adjustments.
func (a *answer) hourly(h Hourly, pieces []piece, from source, adjusted string) {
	for n := range pieces {
		switch {
		case from.rolled && a.Everybody:
			a.hourlyOf(h, pieces[n:n+1], from, adjusted, "NOT e.below")
		case from.rolled:
			a.hourlyOf(h, pieces[n:n+1], from, adjusted, "e.tenant = ? AND NOT e.below")
		case a.Everybody:
			a.hourlyOf(h, pieces[n:n+1], from, adjusted, "")
		default:
			a.hourlyOf(h, pieces[n:n+1], from, adjusted, "e.tenant = ?")
			if !a.Alone {
				a.hourlyOf(h, pieces[n:n+1], from, adjusted, "e.parents <> '{}' AND "+a.Below("e.parents"))
			}
		}
	}
}

func (a *answer) hourlyOf(h Hourly, pieces []piece, from source, adjusted, who string) {
	var list strings.Builder
	for i, g := range h.By {
		key, args := a.key(g, from)
		list.WriteString(", " + key + " AS k" + strconv.Itoa(i))
		a.args = append(a.args, args...)
	}
	var args []any
	if strings.Contains(who, "?") {
		args = append(args, a.Tenant.String())
	}
	hour, booked := a.Hour("e."+from.at), "e."+from.at
	if !from.rolled {
		booked = "coalesce(e.finished_at, e.admitted_at)"
	}
	_, rows := a.within(pieces, from, and(from.where, who), args)
	a.parts = append(a.parts, `SELECT `+hour+` AS hour, e.tenant, e.provider, e.service_tier AS tier, CASE e.billed_model WHEN '' THEN e.model ELSE e.billed_model END AS billed,
		e.model`+list.String()+`, `+adjusted+` AS adjusted, CASE `+adjusted+` WHEN 1 THEN `+a.Month(booked)+` END AS booked, `+from.columns+` FROM `+rows)
}

// hourlySQL adds up the parts.
func (a *answer) hourlySQL(keys int) string {
	by := []string{"hour", "tenant", "provider", "tier", "billed"}
	for i := range keys {
		by = append(by, "k"+strconv.Itoa(i))
	}
	by = append(by, "adjusted", "booked", "unit")
	totals := []string{"max(x.model) AS asked", "CAST(sum(x.amount) AS bigint) AS amount"}
	for _, f := range summed {
		totals = append(totals, "CAST(sum(x."+f.column+") AS bigint) AS "+f.column)
	}
	of := func(table string) string { return table + strings.Join(by, ", "+table) }
	figures := "y.asked, y.amount"
	for _, f := range summed {
		figures += ", y." + f.column
	}
	return `SELECT coalesce(t.tenant_id, (SELECT e.tenant_id FROM llm_executions e WHERE e.tenant = t.id ORDER BY e.id DESC LIMIT 1), ''), coalesce(t.name, ''), ` +
		of("y.") + `, ` + figures + ` FROM (SELECT ` + of("x.") + `, ` + strings.Join(totals, ", ") + ` FROM (` + strings.Join(a.parts, " UNION ALL ") + `) x GROUP BY ` + of("x.") + `) y
		LEFT JOIN llm_tenants t ON t.id = y.tenant ORDER BY ` + of("y.")
}

func scanHour(row sqldb.Row, keys int) (*HourLine, error) {
	l := &HourLine{Keys: make([]string, keys)}
	var (
		unit         units.Unit
		flag, amount int64
	)
	to := []any{&l.TenantKey, &l.Name, sqldb.Instant(&l.Hour), &l.Tenant, &l.Provider, &l.Tier, &l.Model}
	for i := range l.Keys {
		to = append(to, &l.Keys[i])
	}
	to = append(to, &flag, sqldb.Instant(&l.Booked), &unit, &l.Asked, &amount)
	if err := row.Scan(append(to, targets(&l.HourSum)...)...); err != nil {
		return nil, err
	}
	l.Adjusted = flag != 0
	l.Usage.Units = units.Of(unit, amount)
	return l, nil
}
