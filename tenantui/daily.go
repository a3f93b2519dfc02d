package tenantui

import (
	"cmp"
	"slices"
	"time"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/period"
)

// daily is what was used day by day, up to today. One question gives it, and the figures of a page are added up of it.
type daily struct {
	now  time.Time // in the zone of the days
	rows []tenant.UsageRow
}

func dateOf(t time.Time) period.Date {
	year, month, day := t.Date()
	return period.Date{Year: year, Month: month, Day: day}
}

// daily asks for as many days as the figures at the top and the chart of the chosen span need.
func (q *request) daily(a asking) (*daily, error) {
	d := &daily{now: q.now.In(a.zone)}
	from := dateOf(d.now.AddDate(0, 0, -forecastDays))
	for _, first := range []period.Date{d.lastMonth(), d.before(q.chosen())} {
		if first.Before(from) {
			from = first
		}
	}
	answer, err := q.ask(a.query(through(from, dateOf(d.now)), tenant.ByDay))
	d.rows = answer.Rows
	return d, err
}

func through(first, last period.Date) tenant.Period {
	return tenant.Date(first.Year, first.Month, first.Day).Through(last.Year, last.Month, last.Day)
}

// lastMonth is when the month before begins, and thisMonth when this one does.
func (d *daily) lastMonth() period.Date {
	return dateOf(time.Date(d.now.Year(), d.now.Month()-1, 1, 0, 0, 0, 0, time.UTC))
}

func (d *daily) thisMonth() period.Date {
	return period.Date{Year: d.now.Year(), Month: d.now.Month(), Day: 1}
}

// before is when the time before a span begins that is shown by days; today for another one.
func (d *daily) before(s spanOfTime) period.Date {
	if s.group != tenant.ByDay {
		return dateOf(d.now)
	}
	first, _ := period.Preceding(s.first(d.now), dateOf(d.now))
	return first
}

// days are the rows from one date up to another one, which is not among them.
func (d *daily) days(from, to period.Date) []tenant.UsageRow {
	at := func(date period.Date) int {
		i, _ := slices.BinarySearchFunc(d.rows, date.String(), func(r tenant.UsageRow, key string) int { return cmp.Compare(r.Keys[0], key) })
		return i
	}
	return d.rows[at(from):at(to)]
}

// since are the rows from a date on.
func (d *daily) since(from period.Date) []tenant.UsageRow {
	return d.days(from, dateOf(d.now.AddDate(0, 0, 1)))
}

// compared is a span, day by day, beside the days before it.
func (d *daily) compared(s spanOfTime) tenant.UsageAnswer {
	first := s.first(d.now)
	rows, was := slices.Clone(d.since(first)), d.days(d.before(s), first)
	for i := range rows {
		rows[i].Before = &tenant.Measures{}
		if i < len(was) {
			rows[i].Before = &was[i].Measures
		}
	}
	return tenant.UsageAnswer{Rows: rows, Total: total(rows), Before: &tenant.UsageBefore{Total: total(was)}}
}

// total adds rows up, but for the latencies.
func total(rows []tenant.UsageRow) (sum tenant.Measures) {
	for _, r := range rows {
		sum = plus(sum, r.Measures)
	}
	return sum
}

func plus(m, o tenant.Measures) tenant.Measures {
	m.Cost, m.Charge, m.Margin = m.Cost.Add(o.Cost), m.Charge.Add(o.Charge), m.Margin.Add(o.Margin)
	m.Usage = tenant.Usage(book.Usage(m.Usage).Plus(book.Usage(o.Usage)))
	m.Tokens, m.Calls, m.Errors, m.Refusals = m.Tokens+o.Tokens, m.Calls+o.Calls, m.Errors+o.Errors, m.Refusals+o.Refusals
	m.Estimated, m.Unpriced = m.Estimated+o.Estimated, m.Unpriced+o.Unpriced
	m.AverageLatency, m.P95Latency = 0, 0
	return m
}

// regroup is an answer taken apart by one of its groups alone, those first that cost the most, by a figure; and the first of these.
func regroup(answer tenant.UsageAnswer, group int, of amountOf) tenant.UsageAnswer {
	rows := map[string]*tenant.UsageRow{}
	for _, r := range answer.Rows {
		key := r.Keys[group]
		sum := rows[key]
		if sum == nil {
			sum = &tenant.UsageRow{Keys: []string{key}, Before: &tenant.Measures{}}
			rows[key] = sum
		}
		sum.Measures = plus(sum.Measures, r.Measures)
		if r.Before != nil {
			before := plus(*sum.Before, *r.Before)
			sum.Before = &before
		}
	}
	answer.Rows = make([]tenant.UsageRow, 0, len(rows))
	for _, r := range rows {
		answer.Rows = append(answer.Rows, *r)
	}
	slices.SortFunc(answer.Rows, func(x, y tenant.UsageRow) int {
		return cmp.Or(of(y.Measures).Cmp(of(x.Measures)), cmp.Compare(x.Keys[0], y.Keys[0]))
	})
	answer.Rows = answer.Rows[:min(most, len(answer.Rows))]
	return answer
}
