package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/llmtenant/tenant"
)

type usageCommand struct {
	ID          string   `arg:"" optional:"" name:"tenant" help:"The tenant's id. Defaults to everybody."`
	NoTenant    bool     `help:"The calls without a tenant."`
	Descendants bool     `help:"With the calls of the tenants below."`
	Period      string   `default:"this-month" placeholder:"PERIOD" help:"When the calls were admitted: ${period}. Defaults to ${default}."`
	By          []string `placeholder:"GROUP" help:"What the calls are taken apart by, at most two: hour, day, week, month, tenant, agent, model, asked-model, provider, service-tier, actor, tag:NAME."`
	Top         int      `help:"The first rows alone, by --order-by. Defaults to all."`
	OrderBy     string   `default:"cost" placeholder:"MEASURE" help:"cost, charge, margin, tokens, calls, errors, refusals, estimated, unpriced, average-latency or p95-latency. Defaults to ${default}."`
	Compare     bool     `help:"With the period before."`
	CSV         bool     `name:"csv" help:"Print CSV, as an export has it."`
}

var groups = []string{"hour", "day", "week", "month", "tenant", "agent", "model", "asked-model", "provider", "service-tier", "actor"}

var measures = []string{"cost", "charge", "margin", "tokens", "calls", "errors", "refusals", "estimated", "unpriced", "average-latency", "p95-latency"}

// whose says whose calls are meant: one tenant's, everybody's, or those without a tenant.
func whose(id string, noTenant bool) (t tenant.Tenant, everybody bool, err error) {
	switch {
	case id != "" && noTenant:
		return nil, false, wrong("a tenant and --no-tenant are both given; give one")
	case id != "":
		return tenant.ID(id), false, nil
	}
	return nil, !noTenant, nil
}

func (c *usageCommand) query() (q tenant.Query, err error) {
	if q.Tenant, q.Everybody, err = whose(c.ID, c.NoTenant); err != nil {
		return q, err
	}
	if c.Descendants && q.Tenant == nil {
		return q, wrong("--descendants is about one tenant; give its id")
	}
	if q.Period, err = period(c.Period); err != nil {
		return q, err
	}
	if c.Top < 0 {
		return q, wrong("--top: %d is less than none", c.Top)
	}
	if !slices.Contains(measures, c.OrderBy) {
		return q, wrong("--order-by: %q is none of %s", c.OrderBy, strings.Join(measures, ", "))
	}
	for _, g := range c.By {
		if name, tag := strings.CutPrefix(g, "tag:"); tag && name != "" {
			q.By = append(q.By, tenant.ByTag(name))
			continue
		}
		if !slices.Contains(groups, g) {
			return q, wrong("--by: %q is none of %s, tag:NAME", g, strings.Join(groups, ", "))
		}
		q.By = append(q.By, tenant.Group(strings.ReplaceAll(g, "-", " ")))
	}
	q.Descendants, q.Top, q.OrderBy, q.Compare = c.Descendants, c.Top, tenant.Measure(strings.ReplaceAll(c.OrderBy, "-", " ")), c.Compare
	return q, nil
}

func (c *usageCommand) Run(ctx context.Context, a *app) error {
	q, err := c.query()
	if err != nil {
		return err
	}
	l, end, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer end()
	if c.CSV {
		_, err := tenant.Export(ctx, l.db, a.out, tenant.CSV(), q)
		return err
	}
	answer, err := tenant.QueryUsage(ctx, l.db, q)
	if err != nil {
		return err
	}
	if a.JSON {
		a.out.json(answer)
		return nil
	}
	title := "Usage, " + q.Period.String()
	if !answer.From.IsZero() {
		title += ", " + span(answer)
	}
	a.out.say("%s", zoned(title, plain(answer.TimeZone)))
	t := &table{}
	for _, g := range c.By {
		t.head = append(t.head, strings.ToUpper(g[:1])+g[1:])
	}
	t.head = append(t.head, "#Cost", "#Charge", "#Margin", "#Tokens", "#Calls", "#Errors", "#Refused", "#Unpriced")
	if c.Compare {
		t.head = append(t.head, "#Cost before", "#Charge before")
	}
	row := func(keys []string, m tenant.Measures, before *tenant.Measures) {
		cells := append(slices.Clone(keys), dollars(m.Cost), dollars(m.Charge), dollars(m.Margin), number(m.Tokens), number(m.Calls), number(m.Errors), number(m.Refusals), number(m.Unpriced))
		if c.Compare && before != nil {
			cells = append(cells, dollars(before.Cost), dollars(before.Charge))
		} else if c.Compare {
			cells = append(cells, "", "")
		}
		t.add(cells...)
	}
	if len(c.By) > 0 {
		for _, r := range answer.Rows {
			keys := slices.Clone(r.Keys)
			for i := range keys {
				if keys[i] == "" {
					keys[i] = "—"
				}
			}
			row(keys, r.Measures, r.Before)
		}
		t.write(a.out, "no calls")
		t.rows = nil
	}
	keys := make([]string, len(c.By))
	if len(keys) > 0 {
		keys[0] = "All"
		a.out.say("")
	}
	var before *tenant.Measures
	if answer.Before != nil {
		before = &answer.Before.Total
	}
	row(keys, answer.Total, before)
	t.write(a.out, "")
	return nil
}

func span(a tenant.UsageAnswer) string {
	const minute = "2006-01-02 15:04"
	zone, err := time.LoadLocation(a.TimeZone)
	if err != nil {
		zone = time.UTC
	}
	return clock(a.From, zone, minute) + " to " + clock(a.To, zone, minute)
}
