package tenantui

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/period"
)

// spanOfTime is a time that charts are of.
type spanOfTime struct {
	key, name string
	days      int
	group     tenant.Group
}

var spansOfTime = []spanOfTime{
	{"7", "7 days", 7, tenant.ByDay}, {"30", "30 days", 30, tenant.ByDay}, {"90", "90 days", 90, tenant.ByDay}, {"365", "12 months", 365, tenant.ByMonth},
}

// chosen is the span that the address asks for.
func (q *request) chosen() spanOfTime {
	for _, s := range spansOfTime {
		if s.key == q.query("days") {
			return s
		}
	}
	return spansOfTime[1]
}

// choices are the spans to choose from.
func (q *request) choices() []choice {
	now := q.chosen()
	var all []choice
	for _, s := range spansOfTime {
		all = append(all, choice{s.name, q.with("days", s.key), s == now})
	}
	return all
}

// period is the span up to today: whole days of a zone, or the months from the first of the one that lies a year back.
func (s spanOfTime) period(now time.Time, zone *time.Location) tenant.Period {
	return through(s.first(now.In(zone)), dateOf(now.In(zone)))
}

// first is the first day of the span whose last one is given.
func (s spanOfTime) first(last time.Time) period.Date {
	if s.group == tenant.ByMonth {
		return dateOf(time.Date(last.Year(), last.Month()-11, 1, 12, 0, 0, 0, last.Location()))
	}
	return dateOf(last.AddDate(0, 0, 1-s.days))
}

// asking is whom the figures of a page are about.
type asking struct {
	tenant    tenant.Tenant
	everybody bool
	zone      *time.Location
}

func (a asking) query(p tenant.Period, by ...tenant.Group) tenant.Query {
	return tenant.Query{Tenant: a.tenant, Descendants: a.tenant != nil, Everybody: a.everybody, Period: p, TimeZone: a.zone.String(), By: by}
}

func (q *request) ask(query tenant.Query) (tenant.UsageAnswer, error) {
	return tenant.QueryUsage(q.Context(), q.ledger.ReadDB(q.Context()), query)
}

// overTime is what was used over the chosen span, beside the span before.
func (q *request) overTime(a asking, days *daily) (tenant.UsageAnswer, error) {
	s := q.chosen()
	if s.group == tenant.ByDay {
		return days.compared(s), nil
	}
	query := a.query(s.period(q.now, a.zone), s.group)
	query.Compare = true
	return q.ask(query)
}

// when is the label of a row of time.
func when(r tenant.UsageRow, group tenant.Group) string {
	switch {
	case r.Start.IsZero() && len(r.Keys) > 0:
		return r.Keys[0]
	case group == tenant.ByMonth:
		return r.Start.Format("Jan 2006")
	}
	return r.Start.Format("Mon 2 Jan 2006")
}

// axisDate is the label of a row of time below a chart.
func axisDate(r tenant.UsageRow, group tenant.Group) string {
	if group == tenant.ByDay && !r.Start.IsZero() {
		return r.Start.Format("2 Jan")
	}
	return when(r, group)
}

// spendChart draws what was spent.
func spendChart(answer tenant.UsageAnswer, group tenant.Group, a asking) *chart {
	of := a.money()
	var spans []span
	for _, r := range answer.Rows {
		s := span{Label: when(r, group), Axis: axisDate(r, group), Parts: []decimal.Decimal{of(r.Measures)}}
		if r.Before != nil {
			s.Before = of(*r.Before)
		}
		spans = append(spans, s)
	}
	return plot{
		id: "spend", title: a.verb() + " " + each(group), empty: "Nothing was spent in this time.", series: []string{strings.ToLower(a.verb())}, before: "the period before",
		write: dollars, axis: axisDollars, value: money,
	}.draw(spans)
}

func each(group tenant.Group) string {
	if group == tenant.ByMonth {
		return "by month"
	}
	return "by day"
}

func axisDollars(d decimal.Decimal) string {
	if d.Abs().GreaterThanOrEqual(decimal.NewFromInt(10_000)) {
		return "$" + short(d)
	}
	if d.Equal(d.Round(0)) {
		return "$" + grouped(d.String())
	}
	return dollars(d)
}

// tokenClasses are the classes of tokens as charts have them: some together, so that the colours can be told apart.
var tokenClasses = []struct {
	name string
	of   func(tenant.Usage) int64
}{
	{"input", func(u tenant.Usage) int64 { return u.Input }},
	{"cache read", func(u tenant.Usage) int64 { return u.CacheRead + u.CacheReadAudio }},
	{"cache write", func(u tenant.Usage) int64 { return u.CacheWrite5m + u.CacheWrite1h }},
	{"output", func(u tenant.Usage) int64 { return u.Output }},
	{"reasoning", func(u tenant.Usage) int64 { return u.Reasoning }},
	{"audio", func(u tenant.Usage) int64 { return u.InputAudio + u.OutputAudio }},
	{"image", func(u tenant.Usage) int64 { return u.InputImage + u.OutputImage }},
}

// tokenChart draws the tokens by class. Classes that nobody has used are left out.
func tokenChart(answer tenant.UsageAnswer, group tenant.Group) *chart {
	p := plot{
		id: "tokens", title: "Tokens " + each(group), empty: "No tokens were used in this time.",
		write: func(d decimal.Decimal) string { return grouped(d.String()) }, axis: short,
		value: func(d decimal.Decimal) cell { return cell{Text: grouped(d.String()), Value: d.String()} },
	}
	for i, c := range tokenClasses {
		if c.of(answer.Total.Usage) > 0 {
			p.colours, p.series = append(p.colours, i), append(p.series, c.name) // each class has its own, whichever others there are
		}
	}
	var spans []span
	for _, r := range answer.Rows {
		s := span{Label: when(r, group), Axis: axisDate(r, group)}
		for _, i := range p.colours {
			s.Parts = append(s.Parts, decimal.NewFromInt(tokenClasses[i].of(r.Usage)))
		}
		spans = append(spans, s)
	}
	return p.draw(spans)
}

const most = 8 // rows of a breakdown

// breakdown is a table of the parts that cost the most.
func (q *request) breakdown(a asking, id, caption string, group tenant.Group, name func(string) cell) (*table, error) {
	query := a.query(q.chosen().period(q.now, a.zone), group)
	query.Top, query.Compare, query.OrderBy = most, true, a.measure()
	answer, err := q.ask(query)
	if err != nil {
		return nil, err
	}
	return q.parts(a, answer, id, caption, group, name), nil
}

// modelsAndAgents are the models and the agents that cost the most, of one question.
func (q *request) modelsAndAgents(a asking) (models, agents *table, err error) {
	query := a.query(q.chosen().period(q.now, a.zone), tenant.ByModel, tenant.ByAgent)
	query.Compare = true
	answer, err := q.ask(query)
	if err != nil {
		return nil, nil, err
	}
	return q.parts(a, regroup(answer, 0, a.money()), "models", "By model", tenant.ByModel, modelCell),
		q.parts(a, regroup(answer, 1, a.money()), "agents", "By agent", tenant.ByAgent, agentCell), nil
}

// parts is a table of what an answer is taken apart by.
func (q *request) parts(a asking, answer tenant.UsageAnswer, id, caption string, group tenant.Group, name func(string) cell) *table {
	of := a.money()
	t := &table{ID: id, Caption: caption, Head: heads(column0(group), "#"+a.verb(), "#Share", "#Before", "#Calls", "#Errors"), Empty: "Nothing was used in this time."}
	if q.portal == nil {
		name, _ := a.other(answer.Total)
		t.Head = slices.Insert(t.Head, 2, column{name, true})
	}
	whole, largest := of(answer.Total), decimal.Zero
	for _, r := range answer.Rows {
		largest = decimal.Max(largest, of(r.Measures))
	}
	for _, r := range answer.Rows {
		part := of(r.Measures)
		if part.IsZero() && r.Calls == 0 {
			continue
		}
		share := cell{Text: "—", Value: " "}
		if whole.IsPositive() {
			p := part.Mul(hundred).DivRound(whole, 2)
			share = cell{Text: percent(p), Value: p.String()}
			if p.IsZero() && part.IsPositive() {
				share.Text = "< 1 %"
			}
		}
		before := "—"
		if r.Before != nil {
			before = change(part, of(*r.Before))
		}
		row := name(r.Keys[0]).bar(part, largest)
		row.Class = "t"
		line := []cell{row, money(part), share, text(before), number(r.Calls), number(r.Errors)}
		if q.portal == nil { // what calls cost the host is not the customer's to know
			_, beside := a.other(r.Measures)
			line = slices.Insert(line, 2, money(beside))
		}
		t.Rows = append(t.Rows, line)
	}
	if n := len(answer.Rows); n == most {
		t.Foot = "The " + strconv.Itoa(most) + " that cost the most."
	}
	return t
}

func column0(group tenant.Group) string {
	switch group {
	case tenant.ByModel:
		return "Model"
	case tenant.ByAgent:
		return "Agent"
	case tenant.ByTenant:
		return "Tenant"
	}
	return "Value"
}

func costOf(m tenant.Measures) decimal.Decimal { return m.Cost }

func chargeOf(m tenant.Measures) decimal.Decimal { return m.Charge }

// amountOf is which of the two amounts a page is about.
type amountOf func(tenant.Measures) decimal.Decimal

// money is what the figures of a page are first: what everybody's calls cost, and what a tenant is charged.
func (a asking) money() amountOf {
	if a.everybody {
		return costOf
	}
	return chargeOf
}

func (a asking) measure() tenant.Measure {
	if a.everybody {
		return tenant.CostMeasure
	}
	return tenant.ChargeMeasure
}

// verb is the name of the money, and other the name and the figure of the one beside it.
func (a asking) verb() string {
	if a.everybody {
		return "Cost"
	}
	return "Charged"
}

func (a asking) other(m tenant.Measures) (string, decimal.Decimal) {
	if a.everybody {
		return "Charged", m.Charge
	}
	return "Cost", m.Cost
}

// forecastDays is how many days a forecast goes by.
const forecastDays = 30

// monthEnd is what a month will come to, if its days go on as the last thirty did: those since the first that had a call.
func (d *daily) monthEnd(of amountOf, soFar decimal.Decimal) decimal.Decimal {
	days, sum := int64(0), decimal.Zero
	for _, r := range d.days(dateOf(d.now.AddDate(0, 0, -forecastDays)), dateOf(d.now)) {
		if days > 0 || r.Calls > 0 {
			days, sum = days+1, sum.Add(of(r.Measures))
		}
	}
	if days == 0 {
		return soFar
	}
	end := time.Date(d.now.Year(), d.now.Month()+1, 1, 0, 0, 0, 0, d.now.Location())
	left := decimal.NewFromInt(int64(end.Sub(d.now) / time.Minute))
	rate := sum.Div(decimal.NewFromInt(days * 24 * 60))
	return soFar.Add(rate.Mul(left))
}

// spending are the figures at the top: today, the month, what it will come to, and what is held.
func (q *request) spending(a asking, d *daily) []figure {
	figures := make([]figure, 0, 5)
	of := a.money()
	today, yesterday := dateOf(d.now), dateOf(d.now.AddDate(0, 0, -1))
	month := total(d.since(d.thisMonth()))
	for _, f := range []struct {
		name        string
		now, before tenant.Measures
		what        string
	}{
		{"Today", total(d.since(today)), total(d.days(yesterday, today)), "all of yesterday"},
		{"This month", month, total(d.days(d.lastMonth(), d.thisMonth())), "all of last month"},
	} {
		figures = append(figures, figure{f.name, dollars(of(f.now)), count(f.now.Calls) + " calls; " + dollars(of(f.before)) + " in " + f.what})
	}
	end := d.monthEnd(of, of(month))
	figures = append(figures, figure{"Forecast of the month", dollars(end), "if its days go on as the last 30 did"})
	if q.portal == nil {
		both := dollars(month.Cost) + " cost, " + dollars(month.Charge) + " charged"
		figures = append(figures, figure{"Margin of the month", dollars(month.Margin), both})
	}
	return figures
}

// series fills in what a tenant has used.
func (q *request) series(b *tenantBody, id tenant.ID, zone *time.Location) error {
	a := asking{tenant: id, zone: zone}
	b.Periods = q.choices()
	days, err := q.daily(a)
	if err != nil {
		return err
	}
	answer, err := q.overTime(a, days)
	if err != nil {
		return err
	}
	group := q.chosen().group
	b.Spend = spendChart(answer, group, a)
	if b.Models, b.Agents, err = q.modelsAndAgents(a); err != nil {
		return err
	}
	b.Figures = q.spending(a, days)
	held, err := q.held(id)
	if err != nil {
		return err
	}
	b.Figures = append(b.Figures, held)
	return nil
}

func modelCell(s string) cell { return named(s, "no model") }

func agentCell(s string) cell { return named(s, "no agent") }

// held is what running calls of a tenant hold, and of those below it.
func (q *request) held(id tenant.ID) (figure, error) {
	var rows []struct {
		Held  int64
		Calls int64
	}
	err := tenant.Executions(q.Context(), q.db, id, tenant.WithDescendants()).Select("coalesce(sum(held_charge), 0) AS held, count(*) AS calls").
		Where("status = ?", "running").Find(&rows).Error
	if err != nil || len(rows) == 0 {
		return figure{}, err
	}
	return figure{"Held now", dollars(decimal.New(rows[0].Held, -9)), count(rows[0].Calls) + " running calls"}, nil
}
