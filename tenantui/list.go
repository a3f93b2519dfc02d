package tenantui

import (
	"strings"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant"
)

const (
	listed  = 100  // tenants on a page
	nearest = 1000 // limits on a page
)

// scopes are what a question about many tenants is asked about: all of them at once, or each of the viewer's own.
func (q *request) scopes() []tenant.Tenant {
	if q.viewer.All {
		return []tenant.Tenant{nil}
	}
	return q.viewer.Tenants
}

type listBody struct {
	Search string
	Own    *table // of the viewer's own tenants, where he does not see all
	Table  *table
}

func (d *dashboard) tenants(q *request) error {
	body := listBody{Search: strings.TrimSpace(q.query("search"))}
	zone, err := q.zone(nil)
	if err != nil {
		return err
	}
	var below tenant.Tenant
	if !q.viewer.All {
		if body.Own, err = q.ownTenants(); err != nil {
			return err
		}
		own, err := q.keys()
		if err != nil {
			return err
		}
		if len(own) == 0 {
			return errNotFound
		}
		below = tenant.ID(own[0])
		if id := q.query("below"); id != "" {
			if below, err = q.own(id); err != nil {
				return err
			}
		}
	} else if id := q.query("below"); id != "" {
		if below, err = q.own(id); err != nil {
			return err
		}
	}
	page, err := tenant.ListTenants(q.Context(), q.db, tenant.TenantList{Below: below, Search: body.Search, After: q.query("after"), Limit: listed})
	if err != nil {
		return err
	}
	caption := "All tenants"
	if below != nil {
		caption = "Tenants below " + below.LLMTenantID()
	}
	body.Table = &table{ID: "tenants", Caption: caption, Head: heads("Tenant", "Name", "Below", "#Today", "#This month", "#In all", "#Held", "State"),
		Empty: "There is no such tenant."}
	if body.Search == "" {
		body.Table.Empty = "No tenant has a budget yet. A record that is created, or a first call, makes one."
		if below != nil {
			body.Table.Empty = "No tenant stands below this one."
		}
	}
	for _, l := range page {
		body.Table.Rows = append(body.Table.Rows, listedRow(l))
	}
	if len(page) == listed {
		body.Table.Next = q.with("after", page[listed-1].TenantID)
	}
	return q.show("tenants", page0("Tenants", "tenants", zone.String(), body), body.Own, body.Table)
}

// page0 is a page without anything that was just done.
func page0(title, nav, zone string, body any) page {
	return page{Title: title, Nav: nav, Zone: zone, Body: body}
}

func listedRow(l tenant.ListedTenant) []cell {
	state := cell{Text: "active", Badge: "good"}
	if l.Suspended {
		state = cell{Text: "suspended", Badge: "warn"}
	}
	parent := named(l.ParentID, "—")
	if l.ParentID != "" {
		parent = parent.linked(tenantPage(l.ParentID))
	}
	name := l.Name
	if name == l.TenantID {
		name = ""
	}
	return []cell{
		text(l.TenantID).linked(tenantPage(l.TenantID)), named(name, "—"), parent,
		money(l.Today), money(l.Month), money(l.Total), money(l.Held), state,
	}
}

// ownTenants is the table of those that the viewer was given.
func (q *request) ownTenants() (*table, error) {
	t := &table{ID: "own", Caption: "Your tenants", Head: heads("Tenant", "Name", "State")}
	for _, own := range q.viewer.Tenants {
		e, err := tenant.EffectiveBudget(q.Context(), q.db, own)
		if ok, err := exists(err); err != nil {
			return nil, err
		} else if !ok {
			continue
		}
		status, err := tenant.BudgetStatus(q.Context(), q.db, own)
		if err != nil {
			return nil, err
		}
		name := ""
		if b, err := tenant.BudgetFor(q.Context(), q.db, own); err == nil {
			name = b.Name
		}
		state := cell{Text: "active", Badge: "good"}
		if status.Suspended {
			state = cell{Text: "suspended", Badge: "warn"}
		}
		t.Rows = append(t.Rows, []cell{text(e.TenantID).linked(tenantPage(e.TenantID)), named(name, "—"), state})
	}
	return t, nil
}

// near shows the limits that are almost used up.
func (d *dashboard) near(q *request) error {
	zone, err := q.zone(nil)
	if err != nil {
		return err
	}
	t := &table{ID: "near", Caption: "Limits of which 80 % or more are spent", Head: heads("Tenant", "Limit", "#Spent", "#Of", "#Used"),
		Empty: "No limit is near: less than 80 % of each is spent."}
	for _, below := range q.scopes() {
		limits, err := tenant.NearLimits(q.Context(), q.db, tenant.LimitList{Below: below, Limit: nearest})
		if err != nil {
			return err
		}
		for _, l := range limits {
			t.Rows = append(t.Rows, nearRow(l))
		}
	}
	if len(t.Rows) >= nearest {
		t.Foot = "These are the 1,000 that are used up the most."
	}
	return q.show("near", page0("Near a limit", "near", zone.String(), t), t)
}

func nearRow(l tenant.NearLimit) []cell {
	used := cell{Text: percent(l.Percent), Value: l.Percent.String()}
	if l.Percent.GreaterThanOrEqual(hundred) {
		used = used.badged("bad")
	}
	return []cell{text(display(l.TenantID)).linked(tenantPage(l.TenantID)), text(limitName(l.LimitStatus)), amount(l.Metric, l.Spent), amount(l.Metric, l.LimitStatus.Limit), used}
}

// display is a tenant's id as it is shown.
func display(id string) string {
	if id == string(tenant.Root) {
		return "all tenants"
	}
	return id
}

// limitName is a limit in words: daily cost of agent "support".
func limitName(l tenant.LimitStatus) string {
	name := windowNames[l.Window] + " " + string(l.Metric)
	if l.Agent != "" {
		name += " of agent " + l.Agent
	}
	if l.Model != "" {
		name += " of model " + l.Model
	}
	return name
}

var windowNames = map[tenant.Window]string{
	tenant.Hour: "hourly", tenant.Day: "daily", tenant.Week: "weekly", tenant.Month: "monthly", tenant.Total: "total",
}

// amount is a figure of a metric.
func amount(m tenant.Metric, d decimal.Decimal) cell {
	if m == tenant.CostMetric {
		return money(d)
	}
	return cell{Text: grouped(d.String()), Value: d.String()}
}
