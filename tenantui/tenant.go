package tenantui

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant"
)

type tenantBody struct {
	ID, Name  string
	Crumbs    []cell
	State     cell
	Acts      []action
	Figures   []figure
	Limits    *table
	Periods   []choice
	Spend     *chart
	Models    *table
	Agents    *table
	Latest    *table
	History   *table
	Below     *table
	Settings  []pair
	Former    *table
	Executing string // the address of its executions
}

// choice is one of several ways to see a page.
type choice struct {
	Name, Link string
	Now        bool
}

func (d *dashboard) tenant(q *request) error {
	id, err := q.own(q.query("id"))
	if errors.Is(err, errNotFound) && q.viewer.All {
		return d.former(q)
	}
	if err != nil {
		return err
	}
	body, zone, err := q.about(id)
	if err != nil {
		return err
	}
	p := page{Title: body.Name, Nav: "tenants", Zone: zone.String(), Body: body, Done: doneText(q.query("done"))}
	return q.show("tenant", p, body.tables()...)
}

func (b *tenantBody) tables() []*table {
	return append([]*table{b.Limits, b.Models, b.Agents, b.Latest, b.History, b.Below}, b.Spend.Table)
}

// about is what is shown of a tenant that the viewer sees.
func (q *request) about(id tenant.ID) (*tenantBody, *time.Location, error) {
	zone, err := q.zone(id)
	if err != nil {
		return nil, nil, err
	}
	effective, err := tenant.EffectiveBudget(q.Context(), q.db, id)
	if err != nil {
		return nil, nil, err
	}
	status, err := tenant.BudgetStatus(q.Context(), q.db, id)
	if err != nil {
		return nil, nil, err
	}
	budget, err := tenant.BudgetFor(q.Context(), q.db, id)
	if ok, err := exists(err); err != nil {
		return nil, nil, err
	} else if !ok {
		budget = &tenant.Budget{TenantID: string(id), Name: string(id)}
	}
	b := &tenantBody{ID: string(id), Name: budget.Name, Executing: address("executions", "tenant", string(id))}
	if id == tenant.Root {
		b.Name = "All tenants"
	} else if b.Name == "" {
		b.Name = b.ID
	}
	b.State = cell{Text: "active", Badge: "good"}
	if status.Suspended {
		b.State = cell{Text: "suspended", Badge: "warn"}
	}
	if err := q.place(b, budget, effective); err != nil {
		return nil, nil, err
	}
	if b.Limits, err = q.limits(status, effective, zone); err != nil {
		return nil, nil, err
	}
	if err := q.series(b, id, zone); err != nil {
		return nil, nil, err
	}
	b.Acts = q.actions(budget, id)
	if q.portal != nil {
		return b, zone, nil
	}
	if b.Latest, err = q.latest(id, zone); err != nil {
		return nil, nil, err
	}
	if b.History, err = q.history(id, zone, 10); err != nil {
		return nil, nil, err
	}
	return b, zone, nil
}

// place fills in where a tenant stands, and its settings.
func (q *request) place(b *tenantBody, budget *tenant.Budget, e tenant.Effective) error {
	parent := cell{Text: "none", Value: " ", Class: "none"}
	if budget.ParentID != "" {
		seen, err := q.allowed(q.Context(), tenant.ID(budget.ParentID))
		if err != nil {
			return err
		}
		if seen {
			parent = text(budget.ParentID).linked(tenantPage(budget.ParentID))
			b.Crumbs = append(b.Crumbs, parent)
		}
	}
	inherits := "its own limits alone"
	if budget.Inherit {
		inherits = "the ledger's defaults, for what it does not set itself"
	}
	b.Settings = []pair{
		{"Tenant id", cell{Text: b.ID, Class: "id"}}, {"Below", parent},
		{"Enforcement", text(string(e.Enforcement) + ", " + sources[e.EnforcementFrom])},
		{"Time zone", text(e.TimeZone + ", " + sources[e.TimeZoneFrom])}, {"Limits", text(inherits)},
	}
	if q.viewer.All {
		uuid, err := tenant.UUIDFor(q.Context(), q.db, tenant.ID(b.ID))
		if ok, err := exists(err); err != nil {
			return err
		} else if ok {
			b.Settings = append(b.Settings, pair{"UUID", cell{Text: string(uuid), Class: "id"}})
			if err := q.bookedIn(b); err != nil {
				return err
			}
		}
	}
	if b.ID == string(tenant.Root) {
		return nil
	}
	below, err := tenant.ListTenants(q.Context(), q.db, tenant.TenantList{Below: tenant.ID(b.ID), Limit: 20})
	if err != nil {
		return err
	}
	if len(below) > 0 {
		b.Below = &table{ID: "below", Caption: "Tenants below", Head: heads("Tenant", "Name", "Below", "#Today", "#This month", "#In all", "#Held", "State")}
		for _, l := range below {
			b.Below.Rows = append(b.Below.Rows, listedRow(l))
		}
		if len(below) == 20 {
			b.Below.Next = address("tenants", "below", b.ID)
		}
	}
	return nil
}

// bookedIn says where the books of the tenant are, where that can be in several places.
func (q *request) bookedIn(b *tenantBody) error {
	if len(q.ledger.Places()) == 0 {
		return nil
	}
	name, err := tenant.PlaceFor(q.Context(), q.db, tenant.ID(b.ID))
	if err != nil {
		return err
	}
	if name == "" {
		name = "the home"
	}
	b.Settings = append(b.Settings, pair{"Place", text(name)})
	return nil
}

var sources = map[tenant.Source]string{
	tenant.FromTenant: "set for it", tenant.FromDeclaration: "as its model declares", tenant.FromLedger: "from the ledger's defaults",
}

// limits is the table of the limits in force. Those of tenants that the viewer does not see are left out: they say what others spend.
func (q *request) limits(s tenant.Status, e tenant.Effective, zone *time.Location) (*table, error) {
	t := &table{ID: "limits", Caption: "Limits in force",
		Head:  heads("Limit", "#Used", "#Spent", "#Held", "#Left", "#Of", "Begins anew", "At this rate", "Whose", "Enforced", "From"),
		Empty: "No limit holds for this tenant: its calls are counted, and nothing stops them."}
	seen := map[string]bool{}
	for _, l := range s.Limits {
		visible, known := seen[l.TenantID]
		if !known {
			var err error
			if visible, err = q.allowed(q.Context(), tenant.ID(l.TenantID)); err != nil {
				return nil, err
			}
			seen[l.TenantID] = visible
		}
		if !visible {
			continue
		}
		from, enforced, topUps := source(e, l)
		of := amount(l.Metric, l.Limit)
		if topUps.IsPositive() {
			of.Text += " (with " + amount(l.Metric, topUps).Text + " topped up)"
		}
		whose := cell{Text: "its own", Value: l.TenantID}
		if l.TenantID != s.TenantID {
			whose = text(display(l.TenantID)).linked(tenantPage(l.TenantID))
		}
		used := cell{Text: percent(l.Percent), Value: l.Percent.String()}.bar(decimal.Min(l.Percent, hundred), hundred)
		switch {
		case l.Percent.GreaterThanOrEqual(hundred):
			used.Meter = "bad"
		case l.Percent.GreaterThanOrEqual(decimal.NewFromInt(80)):
			used.Meter = "warn"
		}
		t.Rows = append(t.Rows, []cell{
			text(limitName(l)).whole(), used, amount(l.Metric, l.Spent), amount(l.Metric, l.Held), amount(l.Metric, l.Remaining), of,
			resets(l, zone), rate(l, zone), whose.whole(), text(string(enforced)), text(from).whole(),
		})
	}
	return t, nil
}

func source(e tenant.Effective, l tenant.LimitStatus) (from string, enforced tenant.Enforcement, topUps decimal.Decimal) {
	for _, f := range e.Limits {
		if f.TenantID == l.TenantID && f.Metric == l.Metric && f.Window == l.Window && f.Agent == l.Agent && f.Model == l.Model {
			return sources[f.From], f.Enforcement, f.TopUps
		}
	}
	return "", "", decimal.Decimal{}
}

func resets(l tenant.LimitStatus, zone *time.Location) cell {
	if l.ResetsAt.IsZero() {
		return cell{Text: "never", Value: " "}
	}
	c := timeCell(l.ResetsAt, zone)
	c.Class = "one"
	return c
}

// rate says where a limit is going.
func rate(l tenant.LimitStatus, zone *time.Location) cell {
	f := l.Forecast
	switch {
	case f == nil:
		return text("")
	case l.Limit.IsZero():
		return text("nothing is allowed")
	case l.Spent.GreaterThanOrEqual(l.Limit):
		return cell{Text: "used up", Badge: "bad"}
	case !f.ExhaustedAt.IsZero():
		return cell{Text: "used up " + at(f.ExhaustedAt, zone), Badge: "warn"}
	case l.ResetsAt.IsZero():
		return text(amount(l.Metric, f.PerDay.Round(9)).Text + " a day")
	}
	return text(amount(l.Metric, f.Projected).Text + " at its end")
}

// history is what was changed of a tenant, the last change first: the audit log, and the credits and debits.
func (q *request) history(id tenant.ID, zone *time.Location, limit int) (*table, error) {
	var (
		entries     []tenant.AuditEntry
		adjustments []tenant.Execution
	)
	log, adjusted := tenant.AuditLog(q.Context(), q.db, id), tenant.Executions(q.Context(), q.db, id).Where("status = ? AND corrects IS NULL", "adjusted")
	if before := q.query("before"); before != "" {
		if err := uuidText(before); err != nil {
			return nil, err
		}
		log, adjusted = log.Where("id < ?", before), adjusted.Where("id < ?", before)
	}
	if err := log.Order("id DESC").Limit(limit).Find(&entries).Error; err != nil {
		return nil, err
	}
	if err := adjusted.Order("id DESC").Limit(limit).Find(&adjustments).Error; err != nil {
		return nil, err
	}
	type event struct {
		id  string
		row []cell
	}
	var events []event
	for _, e := range entries {
		events = append(events, event{e.ID, []cell{
			{Text: exactly(e.ChangedAt, zone), Value: e.ChangedAt.UTC().Format(time.RFC3339Nano), Class: "one"},
			named(e.Actor, "a program"), text(actionName(e.Action)), text(changes(e.Was, e.Became)), named(e.Reason, "—"),
		}})
	}
	for i := range adjustments {
		a := &adjustments[i]
		name := "Debit"
		if a.Charge().IsNegative() {
			name = "Credit"
		}
		events = append(events, event{a.ID, []cell{
			{Text: exactly(a.AdmittedAt, zone), Value: a.AdmittedAt.UTC().Format(time.RFC3339Nano), Class: "one"},
			named(a.Actor, "a program"), text(name).linked(executionPage(string(id), a.ID)), money(a.Charge()), named(a.Reason, "—"),
		}})
	}
	slices.SortFunc(events, func(a, b event) int { return strings.Compare(b.id, a.id) })
	t := &table{ID: "history", Caption: "History", Head: heads("When", "Who", "What", "Change", "Why"), Empty: "Nothing was changed yet."}
	for _, e := range events[:min(len(events), limit)] {
		t.Rows = append(t.Rows, e.row)
	}
	if len(events) > limit {
		t.Next = address("audit", "id", string(id), "before", events[limit-1].id)
	}
	return t, nil
}

// audit is the whole history of a tenant, page by page.
func (d *dashboard) audit(q *request) error {
	id, err := q.own(q.query("id"))
	if err != nil {
		return err
	}
	zone, err := q.zone(id)
	if err != nil {
		return err
	}
	t, err := q.history(id, zone, 100)
	if err != nil {
		return err
	}
	body := struct {
		ID    string
		Table *table
	}{string(id), t}
	return q.show("audit", page0("History of "+display(string(id)), "tenants", zone.String(), body), t)
}

// former shows the tenants that had an id which nobody has any more.
func (d *dashboard) former(q *request) error {
	id := q.query("id")
	if id == "" {
		return errNotFound
	}
	found, err := tenant.FormerTenants(q.Context(), q.db, tenant.ID(id))
	if ok, err := exists(err); err != nil {
		return err
	} else if !ok || len(found) == 0 {
		return errNotFound
	}
	zone, err := q.zone(nil)
	if err != nil {
		return err
	}
	t := &table{ID: "former", Caption: "Tenants that had the id " + id, Head: heads("UUID", "Name", "Deleted", "#Charged in all")}
	for _, f := range found {
		charged, err := tenant.Charge(q.Context(), q.db, f.UUID, tenant.AllTime)
		if err != nil {
			return err
		}
		t.Rows = append(t.Rows, []cell{{Text: string(f.UUID), Class: "id"}, named(f.Name, "—"), timeCell(f.DeletedAt, zone), money(charged)})
	}
	return q.show("former", page0(id+" was deleted", "tenants", zone.String(), t), t)
}
