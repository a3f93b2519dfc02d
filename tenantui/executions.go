package tenantui

import (
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

type executionsBody struct {
	Tenant   string
	Filters  []field
	Table    *table
	Filtered bool
	Reset    string
}

const onPage = 50 // executions

var statuses = []string{"running", "succeeded", "failed", "cancelled", "abandoned", "adjusted"}

func (d *dashboard) executions(q *request) error {
	body, zone, err := q.executionList()
	if err != nil || body == nil {
		return err
	}
	title := "Executions"
	if body.Tenant != "" {
		title += " of " + display(body.Tenant)
	}
	return q.show("executions", page0(title, "executions", zone.String(), body), body.Table)
}

// executionList is the page of executions that the address asks for. It is nil where they went out as a CSV.
func (q *request) executionList() (*executionsBody, *time.Location, error) {
	query, db, of, zone, err := q.filter()
	if err != nil {
		return nil, nil, err
	}
	body := &executionsBody{Tenant: of, Filters: q.filterFields(), Reset: address("executions", "tenant", of)}
	for _, f := range body.Filters {
		body.Filtered = body.Filtered || f.Value != ""
	}
	t := &table{ID: "executions", Caption: "The newest first", Head: heads("Admitted", "Tenant", "Agent", "Model", "Status", "#Tokens", "#Cost", "#Charged", "Marks"),
		Empty: "No execution is like that."}
	if query.ByCost {
		t.Caption = "The dearest first"
	}
	if !body.Filtered {
		t.Empty = "No call was made yet."
	}
	body.Table = t
	if q.query("csv") == t.ID {
		return nil, nil, q.exportExecutions(db, query)
	}
	page, err := tenant.ExecutionsPage(q.Context(), db, query, onPage)
	if err != nil {
		if mistake(err) {
			err = badRequest{err}
		}
		return nil, nil, err
	}
	for i := range page.Executions {
		t.Rows = append(t.Rows, executionRow(&page.Executions[i], of, zone))
	}
	if page.Next != "" {
		t.Next = q.with("after", page.Next)
	}
	return body, zone, nil
}

// filter is what the address asks for, of what the viewer sees.
func (q *request) filter() (query tenant.ExecutionQuery, db *gorm.DB, of string, zone *time.Location, err error) {
	fail := func(err error) (tenant.ExecutionQuery, *gorm.DB, string, *time.Location, error) {
		return query, nil, "", nil, err
	}
	of = q.query("tenant")
	if of == "" && !q.viewer.All {
		own, err := q.keys()
		if err != nil {
			return fail(err)
		}
		if len(own) == 0 {
			return fail(errNotFound)
		}
		of = own[0]
	}
	if of == "" {
		query.Everybody = true
	} else {
		id, err := q.own(of)
		if err != nil {
			return fail(err)
		}
		query.Tenant, query.Descendants = id, true
	}
	if zone, err = q.zone(query.Tenant); err != nil {
		return fail(err)
	}
	for name, to := range map[string]*[]string{"status": &query.Statuses, "agent": &query.Agents, "model": &query.Models, "provider": &query.Providers, "actor": &query.Actors} {
		if v := strings.TrimSpace(q.query(name)); v != "" {
			*to = []string{v}
		}
	}
	if tag := strings.TrimSpace(q.query("tag")); tag != "" {
		name, value, ok := strings.Cut(tag, "=")
		if !ok {
			return fail(bad("the tag %.40q is not of the form name=value", tag))
		}
		query.Tags = map[string]string{name: value}
	}
	for name, to := range map[string]*tenant.Money{"min": &query.MinCost, "max": &query.MaxCost} {
		if v := strings.TrimSpace(q.query(name)); v != "" {
			if *to = tenant.USD(plainNumber(v)); !isAmount(*to) {
				return fail(bad("%.40q is no amount of US dollars", v))
			}
		}
	}
	if query.Period, err = q.dates(zone); err != nil {
		return fail(err)
	}
	query.Estimated, query.Unpriced = q.query("estimated") != "", q.query("unpriced") != ""
	query.ByCost, query.After = q.query("order") == "cost", q.query("after")
	db = q.ledger.ReadDB(q.Context())
	if q.query("overrun") != "" {
		db = db.Where("(overrun_cost > 0 OR overrun_charge > 0 OR overrun_tokens > 0)")
	}
	return query, db, of, zone, nil
}

// dates are those between which the executions were admitted, in a zone; nil for any.
func (q *request) dates(zone *time.Location) (tenant.Period, error) {
	from, to := q.query("from"), q.query("to")
	if from == "" && to == "" {
		return nil, nil
	}
	first, last := time.Date(2000, 1, 1, 0, 0, 0, 0, zone), q.now.In(zone).AddDate(1, 0, 0)
	for _, d := range []struct {
		text string
		to   *time.Time
	}{{from, &first}, {to, &last}} {
		if d.text == "" {
			continue
		}
		var err error
		if *d.to, err = time.ParseInLocation(time.DateOnly, d.text, zone); err != nil {
			return nil, bad("%.40q is no date such as 2026-03-08", d.text)
		}
	}
	if last.Before(first) {
		return nil, bad("%s is before %s", to, from)
	}
	return tenant.Date(first.Year(), first.Month(), first.Day()).Through(last.Year(), last.Month(), last.Day()).In(zone), nil
}

// filterFields is the form of filters, as it was sent.
func (q *request) filterFields() []field {
	choices := []option{{"any", ""}}
	for _, s := range statuses {
		choices = append(choices, option{s, s})
	}
	marks := func(name, label string) field {
		return field{Name: name, Label: label, Value: q.query(name), Check: true}
	}
	texts := func(name, label string) field { return field{Name: name, Label: label, Value: q.query(name)} }
	fields := []field{
		{Name: "status", Label: "Status", Value: q.query("status"), Options: choices},
		texts("agent", "Agent"), texts("model", "Model"), texts("provider", "Provider"), texts("actor", "Actor"), texts("tag", "Tag (name=value)"),
		{Name: "from", Label: "From", Value: q.query("from"), Mode: "date"}, {Name: "to", Label: "Through", Value: q.query("to"), Mode: "date"},
		texts("min", "At least, US dollars"), texts("max", "Less than"),
		{Name: "order", Label: "Order", Value: q.query("order"), Options: []option{{"newest", ""}, {"dearest", "cost"}}},
		marks("estimated", "Estimated"), marks("unpriced", "Without a price"), marks("overrun", "Overrun"),
	}
	if q.viewer.All && q.query("tenant") == "" {
		fields = slices.Insert(fields, 0, texts("tenant", "Tenant's id"))
	}
	return fields
}

func executionRow(e *tenant.Execution, of string, zone *time.Location) []cell {
	whose := of
	if whose == "" {
		whose = e.TenantID
	}
	var marks []string
	for _, m := range []struct {
		name string
		is   bool
	}{{"estimated", e.Estimated}, {"no price", e.Unpriced}, {"overrun", e.OverrunCostNano > 0 || e.OverrunChargeNano > 0 || e.OverrunTokens > 0}, {"correction", e.Corrects != ""}} {
		if m.is {
			marks = append(marks, m.name)
		}
	}
	cost, charge := money(e.Cost()), money(e.Charge())
	if e.Status == "running" {
		cost, charge = cell{Text: dollars(e.HeldCost()) + " held", Value: "0"}, cell{Text: dollars(e.HeldCharge()) + " held", Value: "0"}
	}
	model := e.BilledModel
	if model == "" {
		model = e.Model
	}
	return []cell{
		cell{Text: exactly(e.AdmittedAt, zone), Class: "one"}.linked(executionPage(whose, e.ID)),
		named(e.TenantID, "no tenant"), named(e.Agent, "—"), named(model, "—").whole(), statusCell(e.Status),
		number(e.Tokens), cost, charge, named(strings.Join(marks, ", "), ""),
	}
}

// exportExecutions writes all executions of a list, however many there are.
func (q *request) exportExecutions(db *gorm.DB, query tenant.ExecutionQuery) error {
	query.After = ""
	out := startCSV(q.w, "executions")
	head := []string{"id", "tenant", "admitted_at", "finished_at", "status", "agent", "actor", "provider", "model", "billed_model", "cost", "charge", "held_cost", "held_charge", "tokens", "price", "estimated", "unpriced", "error", "reason", "corrects"}
	for _, c := range usageClasses {
		head = append(head, classKey(c.name))
	}
	if err := out.Write(head); err != nil {
		return err
	}
	for e, err := range tenant.ListExecutions(q.Context(), db, query) {
		if err != nil {
			q.log.WarnContext(q.Context(), "tenantui: a CSV of executions was cut short", "error", err)
			return nil // what was written is on its way already
		}
		finished := ""
		if e.FinishedAt != nil {
			finished = e.FinishedAt.UTC().Format(time.RFC3339Nano)
		}
		line := []string{
			e.ID, e.TenantID, e.AdmittedAt.UTC().Format(time.RFC3339Nano), finished, e.Status, e.Agent, e.Actor, e.Provider, e.Model, e.BilledModel,
			e.Cost().String(), e.Charge().String(), e.HeldCost().String(), e.HeldCharge().String(), number(e.Tokens).Value, e.Price, yesNo(e.Estimated), yesNo(e.Unpriced), e.ErrorCode, e.Reason, e.Corrects,
		}
		for _, c := range usageClasses {
			line = append(line, number(*c.of(&e.Usage)).Value)
		}
		for i := range line {
			line[i] = harmless(line[i])
		}
		if err := out.Write(line); err != nil {
			return nil // who has asked for it is gone
		}
	}
	out.Flush()
	return nil
}

// latest is the table of the last executions of a tenant and of those below it.
func (q *request) latest(id tenant.ID, zone *time.Location) (*table, error) {
	t := &table{ID: "latest", Caption: "Latest executions", Head: heads("Admitted", "Tenant", "Agent", "Model", "Status", "#Tokens", "#Cost", "#Charged", "Marks"), Empty: "No call was made yet."}
	page, err := tenant.ExecutionsPage(q.Context(), q.ledger.ReadDB(q.Context()), tenant.ExecutionQuery{Tenant: id, Descendants: true}, 8)
	if err != nil {
		return nil, err
	}
	for i := range page.Executions {
		t.Rows = append(t.Rows, executionRow(&page.Executions[i], string(id), zone))
	}
	return t, nil
}
