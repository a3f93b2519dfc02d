package tenantui

import (
	"strings"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant"
)

type overviewBody struct {
	Figures []figure
	Periods []choice
	Spend   *chart
	Tokens  *chart
	Signals []signal
	Near    *table
	Tenants *table
	Models  *table
	Agents  *table
	Tags    *table
	Tag     string
}

// signal is a number that somebody may have to look at.
type signal struct {
	Name, Link string
	N          string
	On         bool
}

func (d *dashboard) overview(q *request) error {
	if !q.viewer.All {
		return d.tenants(q)
	}
	zone, err := q.zone(nil)
	if err != nil {
		return err
	}
	a := asking{everybody: true, zone: zone}
	body := overviewBody{Periods: q.choices(), Tag: strings.TrimSpace(q.query("tag"))}
	days, err := q.daily(a)
	if err != nil {
		return err
	}
	answer, err := q.overTime(a, days)
	if err != nil {
		return err
	}
	group := q.chosen().group
	body.Spend, body.Tokens = spendChart(answer, group, a), tokenChart(answer, group)
	if body.Signals, err = q.signals(a, answer.Total); err != nil {
		return err
	}
	body.Figures = q.spending(a, days)
	running, err := tenant.Running(q.Context(), q.db)
	if err != nil {
		return err
	}
	body.Figures = append(body.Figures, figure{"Held now", dollars(running.Cost), count(running.Calls) + " running calls"})
	if body.Tenants, err = q.breakdown(a, "tenants", "Top tenants", tenant.ByTenant, tenantCell); err != nil {
		return err
	}
	if body.Models, body.Agents, err = q.modelsAndAgents(a); err != nil {
		return err
	}
	if body.Tag != "" {
		name := func(s string) cell { return named(s, "without it") }
		if body.Tags, err = q.breakdown(a, "tags", "By tag "+body.Tag, tenant.ByTag(body.Tag), name); err != nil {
			return err
		}
	}
	if body.Near, err = q.nearest(nil, 8); err != nil {
		return err
	}
	return q.show("overview", page{Title: "Overview", Nav: "overview", Zone: zone.String(), Body: body},
		body.Near, body.Tenants, body.Models, body.Agents, body.Tags, body.Spend.Table, body.Tokens.Table)
}

func tenantCell(id string) cell {
	if id == "" {
		return named("", "no tenant")
	}
	return text(id).linked(tenantPage(id))
}

// nearest is the table of the limits that are used up the most.
func (q *request) nearest(below tenant.Tenant, n int) (*table, error) {
	t := &table{ID: "near", Caption: "Near a limit", Head: heads("Tenant", "Limit", "#Spent", "#Of", "#Used"),
		Empty: "No limit is near: less than 80 % of each is spent."}
	limits, err := tenant.NearLimits(q.Context(), q.db, tenant.LimitList{Below: below, Limit: n})
	if err != nil {
		return nil, err
	}
	for _, l := range limits {
		row := nearRow(l)
		used := &row[len(row)-1]
		if used.Badge == "" {
			*used = used.bar(decimal.Min(l.Percent, hundred), hundred)
			used.Meter = "warn"
		}
		t.Rows = append(t.Rows, row)
	}
	if len(t.Rows) == n {
		t.Next = "near"
	}
	return t, nil
}

// signals are the numbers that somebody may have to look at, of the time that is shown, as are the lists that they lead to; what is not metered is of this process.
func (q *request) signals(a asking, m tenant.Measures) ([]signal, error) {
	list := func(filter, value string) string {
		return address("executions", filter, value, "from", q.chosen().first(q.now.In(a.zone)).String())
	}
	overruns, err := tenant.Overruns(q.Context(), q.db, q.chosen().period(q.now, a.zone))
	if err != nil {
		return nil, err
	}
	return []signal{
		{Name: "refused", N: count(m.Refusals), On: m.Refusals > 0},
		{Name: "failed", N: count(m.Errors), Link: list("status", "failed"), On: m.Errors > 0},
		{Name: "overrun", N: count(overruns), Link: list("overrun", "yes"), On: overruns > 0},
		{Name: "estimated", N: count(m.Estimated), Link: list("estimated", "yes"), On: m.Estimated > 0},
		{Name: "without a price", N: count(m.Unpriced), Link: list("unpriced", "yes"), On: m.Unpriced > 0},
		{Name: "unmetered by this process", N: count(q.ledger.Unmetered()), On: q.ledger.Unmetered() > 0},
	}, nil
}
