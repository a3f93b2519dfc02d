package tenantui

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant"
)

type executionBody struct {
	ID, Tenant string
	State      cell
	Figures    []figure
	Call       []pair
	Money      []pair
	Classes    *table
	Chain      *table
	Tags       *table
}

// executionPage is the address of an execution, as one of a tenant's or of those below it.
func executionPage(of, id string) string { return address("execution", "tenant", of, "id", id) }

// found looks an execution up, among those that the viewer sees.
func (q *request) found(id string) (*tenant.Execution, tenant.Tenant, error) {
	if err := uuidText(id); err != nil {
		return nil, nil, err
	}
	var (
		of  tenant.Tenant
		all []tenant.Execution
	)
	name := q.query("tenant")
	if name != "" {
		own, err := q.own(name)
		if err == nil {
			of = own
		} else if !q.viewer.All {
			return nil, nil, err
		}
	} else if !q.viewer.All {
		return nil, nil, errNotFound
	}
	if name == "" || of != nil {
		if err := tenant.Executions(q.Context(), q.db, of, tenant.WithDescendants()).Where("id = ?", id).Limit(1).Find(&all).Error; err != nil {
			return nil, nil, err
		}
	}
	if len(all) == 0 && q.viewer.All { // of a tenant that has another id by now
		if err := q.db.WithContext(q.Context()).Where("id = ?", id).Limit(1).Find(&all).Error; err != nil {
			return nil, nil, err
		}
	}
	if len(all) == 0 {
		return nil, nil, errNotFound
	}
	return &all[0], of, nil
}

func (d *dashboard) execution(q *request) error {
	e, of, err := q.found(q.query("id"))
	if err != nil {
		return err
	}
	zone, err := q.zone(of)
	if err != nil {
		return err
	}
	body := &executionBody{ID: e.ID, Tenant: e.TenantID, State: statusCell(e.Status)}
	took := "still running"
	if e.FinishedAt != nil {
		took = lasting(e.FinishedAt.Sub(e.AdmittedAt))
	}
	overrun := "no overrun"
	if e.OverrunChargeNano > 0 || e.OverrunCostNano > 0 || e.OverrunTokens > 0 {
		overrun = "overrun " + dollars(e.OverrunCharge()) + ", " + count(e.OverrunTokens) + " tokens"
	}
	body.Figures = []figure{
		{"Cost", dollars(e.Cost()), e.Cost().String() + " US dollars exactly"},
		{"Charged", dollars(e.Charge()), "margin " + dollars(e.Margin())},
		{"Held", dollars(e.HeldCharge()), overrun},
		{"Tokens", count(e.Tokens), count(e.HeldTokens) + " held"},
		{"Took", took, "admitted " + exactly(e.AdmittedAt, zone)},
	}
	body.Call = callPairs(e, zone)
	body.Money = moneyPairs(e)
	body.Classes = q.classes(e)
	if body.Chain, err = q.chain(e, of, zone); err != nil {
		return err
	}
	if len(e.Tags) > 0 {
		body.Tags = &table{ID: "tags", Caption: "Tags", Head: heads("Tag", "Value")}
		for _, k := range slices.Sorted(maps.Keys(e.Tags)) {
			body.Tags.Rows = append(body.Tags.Rows, []cell{text(k), text(e.Tags[k])})
		}
	}
	return q.show("execution", page0("Execution", "executions", zone.String(), body), body.Classes, body.Chain, body.Tags)
}

func statusCell(status string) cell {
	return cell{Text: status, Badge: map[string]string{"succeeded": "good", "failed": "bad", "abandoned": "bad", "running": "warn"}[status] + " is-" + status}
}

func callPairs(e *tenant.Execution, zone *time.Location) []pair {
	whose := named("", "no tenant")
	if e.TenantID != "" {
		whose = text(e.TenantID).linked(tenantPage(e.TenantID))
	}
	pairs := []pair{
		{"Tenant", whose}, {"Agent", named(e.Agent, "none")}, {"Actor", named(e.Actor, "none")}, {"Provider", named(e.Provider, "none")},
		{"Model", named(e.Model, "none")}, {"Billed model", named(e.BilledModel, "as asked for")}, {"Service tier", named(e.ServiceTier, "none stated")},
		{"Request id", cell{Text: cmp.Or(e.RequestID, "none"), Class: "id"}}, {"Idempotency key", cell{Text: cmp.Or(e.IdempotencyKey, "none"), Class: "id"}},
		{"Admitted", text(exactly(e.AdmittedAt, zone))}, {"Deadline", text(exactly(e.DeadlineAt, zone))},
	}
	if e.FinishedAt != nil {
		pairs = append(pairs, pair{"Ended", text(exactly(*e.FinishedAt, zone))})
	}
	if e.SettledAt != nil {
		pairs = append(pairs, pair{"Settled", text(exactly(*e.SettledAt, zone))})
	}
	if e.ErrorCode != "" {
		pairs = append(pairs, pair{"Error", cell{Text: e.ErrorCode, Badge: "bad"}})
	}
	if e.Reason != "" {
		pairs = append(pairs, pair{"Reason", text(e.Reason)})
	}
	return pairs
}

func moneyPairs(e *tenant.Execution) []pair {
	by := cell{Text: e.Price, Class: "id"}
	switch {
	case e.Price == "hold":
		by = text("what was held: no price of its usage was known")
	case e.Price == "" && e.Status == "adjusted":
		by = text("the amount that was given")
	case e.Price == "":
		by = text("no row: the caller named the cost, or nothing was charged by usage")
	}
	reported := named("", "not stated")
	if d, ok := e.ReportedCost(); ok {
		reported = text(d.String() + " US dollars")
	}
	pairs := []pair{{"Charged by", by}, {"Stated by the provider", reported}, {"Cost", text(e.Cost().String() + " US dollars, " + e.HeldCost().String() + " held")}, {"Charged", text(e.Charge().String() + " US dollars, " + e.HeldCharge().String() + " held")}}
	if e.Estimated {
		pairs = append(pairs, pair{"Estimated", cell{Text: "the charge is not by usage that the provider reported", Badge: "warn"}})
	}
	if e.Unpriced {
		pairs = append(pairs, pair{"Unpriced", cell{Text: "no price was known: the cost is not the truth", Badge: "warn"}})
	}
	return pairs
}

// usageClasses are all classes of a usage.
var usageClasses = []struct {
	name string
	of   func(*tenant.Usage) *int64
}{
	{"input", func(u *tenant.Usage) *int64 { return &u.Input }},
	{"cache read", func(u *tenant.Usage) *int64 { return &u.CacheRead }},
	{"cache read, audio", func(u *tenant.Usage) *int64 { return &u.CacheReadAudio }},
	{"cache write, 5 minutes", func(u *tenant.Usage) *int64 { return &u.CacheWrite5m }},
	{"cache write, 1 hour", func(u *tenant.Usage) *int64 { return &u.CacheWrite1h }},
	{"output", func(u *tenant.Usage) *int64 { return &u.Output }},
	{"reasoning", func(u *tenant.Usage) *int64 { return &u.Reasoning }},
	{"audio in", func(u *tenant.Usage) *int64 { return &u.InputAudio }},
	{"audio out", func(u *tenant.Usage) *int64 { return &u.OutputAudio }},
	{"image in", func(u *tenant.Usage) *int64 { return &u.InputImage }},
	{"image out", func(u *tenant.Usage) *int64 { return &u.OutputImage }},
	{"web searches", func(u *tenant.Usage) *int64 { return &u.WebSearches }},
}

// classes is the table of what an execution used, with what each class costs where the row that charged it is still in the book.
func (q *request) classes(e *tenant.Execution) *table {
	t := &table{ID: "classes", Caption: "Usage by class", Head: heads("Class", "#Used", "#US dollars per million", "#Cost")}
	rates, known := q.rates(e)
	t.Foot = "Every class is disjoint: no token is counted twice."
	if known {
		t.Foot += " Parts are rounded each by itself; the cost is rounded once."
	} else if e.Price != "" && e.Price != "hold" {
		t.Foot += " The row that charged it is not in the present price book, so that its rates are not shown."
	}
	for _, c := range usageClasses {
		n := *c.of(&e.Usage)
		row := []cell{text(c.name), number(n), named("", "—"), named("", "—")}
		if known && n > 0 {
			var one, used tenant.Usage
			*c.of(&one), *c.of(&used) = 1_000_000, n
			row[2], row[3] = exact(rates.Cost(one)), exact(rates.Cost(used))
		}
		t.Rows = append(t.Rows, row)
	}
	for unit, n := range e.Usage.Units.All() {
		t.Rows = append(t.Rows, []cell{text(string(unit)), number(n), named("", "—"), named("", "—")})
	}
	return t
}

// rates are those that charged an execution, if the book still has the row.
func (q *request) rates(e *tenant.Execution) (tenant.Price, bool) {
	book := q.ledger.Prices()
	if book == nil || e.Price == "" || e.Price == "hold" {
		return tenant.Price{}, false
	}
	at := e.AdmittedAt
	if e.FinishedAt != nil {
		at = *e.FinishedAt
	}
	for _, model := range []string{e.BilledModel, e.Model} {
		if model == "" {
			continue
		}
		p, ok := book.Price(e.Provider, model, at)
		if terms, has := book.(tenant.TenantPrices); has && e.TenantID != "" {
			p, ok = terms.TenantPrice(e.TenantID, e.Provider, model, at)
		}
		if p = p.ForService(e.ServiceTier); !ok || p.Row != e.Price {
			continue
		}
		for _, tier := range p.Tiers {
			if e.Usage.InputTokens() > tier.Above {
				p.Rates = tier.Rates
			}
		}
		p.Tiers, p.Request = nil, 0
		return p, true
	}
	return tenant.Price{}, false
}

// chain is what corrects an execution, or what it corrects.
func (q *request) chain(e *tenant.Execution, of tenant.Tenant, zone *time.Location) (*table, error) {
	var all []tenant.Execution
	root := cmp.Or(e.Corrects, e.ID)
	err := tenant.Executions(q.Context(), q.db, of, tenant.WithDescendants()).Where("id = ? OR corrects = ?", root, root).Order("id").Limit(200).Find(&all).Error
	if err != nil || len(all) < 2 {
		return nil, err
	}
	t := &table{ID: "chain", Caption: "Corrections", Head: heads("When", "What", "#Cost", "#Charged", "#Charged so far", "Why", "Who")}
	sum := decimal.Zero
	for i := range all {
		c := &all[i]
		sum = sum.Add(c.Charge())
		what := text("the call").linked(executionPage(q.query("tenant"), c.ID))
		if c.Corrects != "" {
			what.Text = "a correction"
		}
		if c.ID == e.ID {
			what = text(strings.Replace(what.Text, "a ", "this ", 1)).badged("good")
		}
		t.Rows = append(t.Rows, []cell{{Text: exactly(c.AdmittedAt, zone), Class: "one"}, what, exact(c.Cost()), exact(c.Charge()), exact(sum), named(c.Reason, "—"), named(c.Actor, "—")})
	}
	return t, nil
}
