package account

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/money"
)

// Range is a span of time by the admission of calls, half-open.
type Range struct{ From, To time.Time }

// Both databases keep times of these years, and SQLite in a form of one length.
var (
	earliest = time.Date(1, time.January, 1, 0, 0, 0, 0, time.UTC)
	latest   = time.Date(9999, time.January, 1, 0, 0, 0, 0, time.UTC)
)

// Ever is the range of all calls.
var Ever = Range{earliest, latest}

// cut is a range as it is summed: the whole hours of the roll-up that lie in it, and what is left before and after them,
// from the executions.
type cut struct {
	hours         Range
	before, after Range
}

// cutUp takes a range apart. A range within one hour has no whole hours and is all before.
func cutUp(r Range) cut {
	r.From, r.To = admission(r.From), admission(r.To)
	first, last := ceil(r.From, time.Hour), r.To.Truncate(time.Hour)
	if first.After(last) {
		first, last = r.To, r.To
	}
	return cut{hours: Range{first, last}, before: Range{r.From, first}, after: Range{last, r.To}}
}

// admission returns the first time at or after t at which a call can be admitted: they are kept to the microsecond.
func admission(t time.Time) time.Time {
	t = t.UTC()
	if t.Before(earliest) {
		return earliest
	}
	if t.After(latest) {
		return latest
	}
	return ceil(t, time.Microsecond)
}

func ceil(t time.Time, unit time.Duration) time.Time {
	down := t.Truncate(unit)
	if down.Equal(t) {
		return down
	}
	return down.Add(unit)
}

func (r Range) empty() bool { return !r.From.Before(r.To) }

// query collects parts of a statement whose rows are added up.
type query struct {
	Books
	tenant book.ID
	parts  []string
	args   []any
}

// add adds the rows of a table in a range of a column.
func (q *query) add(columns, table, column string, r Range, also string) {
	if r.empty() {
		return
	}
	q.parts = append(q.parts, fmt.Sprintf("SELECT %s FROM %s WHERE tenant = ? AND %s >= ? AND %s < ?%s", columns, table, column, column, also))
	q.args = append(q.args, q.tenant.String(), q.Time(r.From), q.Time(r.To))
}

// Spent adds up what was charged to the calls that were admitted in a range. It is one statement, and so one snapshot:
// a settle changes an execution and its hour at once, and is seen in both or in neither.
func (b Books) Spent(ctx context.Context, id book.ID, r Range) (book.Amount, error) {
	const columns = "cost, tokens, calls"
	c, q := cutUp(r), query{Books: b, tenant: id}
	q.add(columns, "llm_usage", "hour", c.hours, "")
	q.add(columns, "llm_executions", "admitted_at", c.before, " AND calls > 0")
	q.add(columns, "llm_executions", "admitted_at", c.after, " AND calls > 0")
	var sum book.Amount
	if len(q.parts) == 0 {
		return sum, nil
	}
	rows, err := b.Conn.QueryContext(ctx, b.Bind(`SELECT CAST(coalesce(sum(cost), 0) AS bigint), CAST(coalesce(sum(tokens), 0) AS bigint),
		CAST(coalesce(sum(calls), 0) AS bigint) FROM (`+strings.Join(q.parts, " UNION ALL ")+`) u`), q.args...)
	if err != nil {
		return sum, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := rows.Scan(&sum.Cost, &sum.Tokens, &sum.Calls); err != nil {
			return sum, err
		}
	}
	return sum, rows.Err()
}

// Part is what the calls of one agent to one model used. The model is the one that was billed.
type Part struct {
	Agent, Model     string
	Charged          book.Amount
	Errors, Refusals int64
	Usage            book.Usage
}

var sums = append([]string{"cost", "tokens", "calls", "errors", "refusals"}, book.UsageColumns[:]...)

// Parts adds up a range like Spent, by agent and model. Refusals are known by the hour only: they are counted where
// their hour begins.
func (b Books) Parts(ctx context.Context, id book.ID, r Range) ([]Part, error) {
	var (
		classes = strings.Join(book.UsageColumns[:], ", ")
		named   = "agent, CASE billed_model WHEN '' THEN model ELSE billed_model END AS model, "
		failed  = "CASE status WHEN 'failed' THEN 1 ELSE 0 END AS errors, 0 AS refusals, "
		nothing = strings.Repeat("0, ", len(book.UsageColumns)-1) + "0"
	)
	c, q := cutUp(r), query{Books: b, tenant: id}
	q.add(named+"cost, tokens, calls, errors, refusals, "+classes, "llm_usage", "hour", c.hours, "")
	for _, edge := range []Range{c.before, c.after} {
		q.add(named+"cost, tokens, calls, "+failed+classes, "llm_executions", "admitted_at", edge, " AND calls > 0")
	}
	if len(q.parts) == 0 {
		return nil, nil
	}
	q.add(named+"0, 0, 0, 0, refusals, "+nothing, "llm_usage", "hour", c.after, " AND refusals > 0")

	totals := make([]string, len(sums))
	for i, column := range sums {
		totals[i] = "CAST(sum(" + column + ") AS bigint)"
	}
	rows, err := b.Conn.QueryContext(ctx, b.Bind(`SELECT agent, model, `+strings.Join(totals, ", ")+
		` FROM (`+strings.Join(q.parts, " UNION ALL ")+`) u GROUP BY agent, model`), q.args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var parts []Part
	for rows.Next() {
		var p Part
		to := []any{&p.Agent, &p.Model, &p.Charged.Cost, &p.Charged.Tokens, &p.Charged.Calls, &p.Errors, &p.Refusals}
		for _, class := range p.Usage.Classes() {
			to = append(to, class)
		}
		if err := rows.Scan(to...); err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, rows.Err()
}

// Plus returns the sum of two parts, without a name.
func (p Part) Plus(o Part) Part {
	return Part{
		Charged: p.Charged.Plus(o.Charged), Usage: p.Usage.Plus(o.Usage),
		Errors: money.Add(p.Errors, o.Errors), Refusals: money.Add(p.Refusals, o.Refusals),
	}
}
