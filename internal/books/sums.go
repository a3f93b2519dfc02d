package books

import (
	"fmt"
	"strings"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/sqldb"
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

func (r Range) empty() bool { return !r.From.Before(r.To) }

// Ended is the condition that an execution is over and counts. Indexes have it.
const Ended = "status <> 'running' AND status <> 'cancelled'"

// Calls says which calls are added up: those of a tenant in a range, and in a scope, whose window is not looked at.
type Calls struct {
	Tenant book.ID
	Alone  bool // without those of the tenants below it
	Agent  string
	Model  string
	Range
	At time.Time // when it is asked; zero: within a batch
}

// cut is a range as it is summed: the whole hours of the roll-up that lie in it, and what is left before and after them,
// from the executions.
type cut struct {
	hours         Range
	before, after Range
}

// cutUp takes a range apart. A range within one hour has no whole hours and is all before.
func cutUp(r Range) cut {
	r.From, r.To = Admission(r.From), Admission(r.To)
	first, last := ceil(r.From, time.Hour), r.To.Truncate(time.Hour)
	if first.After(last) {
		first, last = r.To, r.To
	}
	return cut{hours: Range{first, last}, before: Range{r.From, first}, after: Range{last, r.To}}
}

// Admission returns the first time at or after t at which a call can be admitted: they are kept to the microsecond.
func Admission(t time.Time) time.Time {
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

// union collects selects whose rows are added up.
type union struct {
	*sqldb.Dialect
	Calls
	parts []string
	args  []any
}

// add adds the rows of a table in a range of a column that meet more conditions.
func (u *union) add(columns, table, column string, r Range, also string, args ...any) {
	conditions := also
	if u.Agent != "" {
		conditions, args = conditions+" AND agent = ?", append(args, u.Agent)
	}
	if u.Model != "" {
		conditions, args = conditions+" AND model = ?", append(args, u.Model)
	}
	u.parts = append(u.parts, fmt.Sprintf("SELECT %s FROM %s WHERE %s >= ? AND %s < ? AND %s", columns, table, column, column, conditions))
	u.args = append(append(u.args, u.Time(r.From), u.Time(r.To)), args...)
}

// hours adds the whole hours of the roll-up.
func (u *union) hours(columns string, r Range) {
	if r.empty() {
		return
	}
	own := "tenant = ?"
	if u.Alone {
		own += " AND NOT below"
	}
	from := source{table: "llm_usage"}
	if u.LocksRows && !u.At.IsZero() && r.To.After(u.At.Truncate(time.Hour)) {
		from = from.newest(u.Tenant.String(), u.Time(r.From), u.Time(r.To))
		from.table += " u"
	}
	u.args = append(u.args, from.args...)
	u.add(columns, from.table, "hour", r, own, u.Tenant.String())
}

// executions adds calls one by one.
func (u *union) executions(columns string, r Range) { u.ended(columns, booked+" e", r, Ended) }

// ended adds what a table with a row for each call, or for each of its units, has of those that meet a condition.
func (u *union) ended(columns, table string, r Range, condition string) {
	if r.empty() {
		return
	}
	u.add(columns, table, "admitted_at", r, "tenant = ? AND "+condition, u.Tenant.String())
	if !u.Alone {
		u.add(columns, table, "admitted_at", r, "parents <> '{}' AND "+u.Below("parents")+" AND "+condition, u.Tenant.String())
	}
}

// spentSQL is the statement that adds up what was used: its cost, its charge, its tokens and its calls. It is one statement, and so
// one snapshot: a settle changes an execution and its hour at once, and is seen in both or in neither. It is empty where
// there is nothing to add up.
func spentSQL(d *sqldb.Dialect, c Calls) (statement string, args []any) {
	const columns = "cost, charge, tokens, calls"
	u, cut := union{Dialect: d, Calls: c}, cutUp(c.Range)
	u.hours(columns, cut.hours)
	u.executions(columns, cut.before)
	u.executions(columns, cut.after)
	if len(u.parts) == 0 {
		return "", nil
	}
	return d.Bind(`SELECT CAST(coalesce(sum(cost), 0) AS bigint), CAST(coalesce(sum(charge), 0) AS bigint), CAST(coalesce(sum(tokens), 0) AS bigint),
		CAST(coalesce(sum(calls), 0) AS bigint) FROM (` + strings.Join(u.parts, " UNION ALL ") + `) u`), u.args
}

// Query runs a statement and enters its rows.
type Query func(statement string, args []any, enter func(sqldb.Row) error) error

// Fill gives a balance what its window has seen. Nothing may change the tenant's executions meanwhile.
func Fill(d *sqldb.Dialect, sum *book.Sum, query Query) error {
	for !sum.End.IsZero() {
		after, err := since(d, sum, sum.End, query)
		if err != nil {
			return err
		}
		if after.IsZero() {
			break
		}
		sum.Open(after)
	}
	r := Range{sum.Start, sum.End}
	if sum.End.IsZero() {
		r = Ever
	}
	c := Calls{Tenant: sum.Tenant, Agent: sum.Agent, Model: sum.Model, Range: r}
	statement, args := spentSQL(d, c)
	if statement == "" {
		return nil
	}
	err := query(statement, args, func(row sqldb.Row) error {
		return row.Scan(&sum.Spent.Cost, &sum.Spent.Charge, &sum.Spent.Tokens, &sum.Spent.Calls)
	})
	if err != nil {
		return err
	}
	statement, args = running(d, `CAST(coalesce(sum(held_cost), 0) AS bigint), CAST(coalesce(sum(held_charge), 0) AS bigint), CAST(coalesce(sum(held_tokens), 0) AS bigint), count(*)`, c)
	return query(d.Bind(statement), args, func(row sqldb.Row) error {
		return row.Scan(&sum.Held.Cost, &sum.Held.Charge, &sum.Held.Tokens, &sum.Held.Calls)
	})
}

// running is a statement on the running executions that count for a tenant. They are few in all, and are found by the
// index of those that run, which the common table expression keeps the planner to.
func running(d *sqldb.Dialect, columns string, c Calls) (statement string, args []any) {
	statement = `WITH r AS MATERIALIZED (SELECT * FROM llm_executions WHERE status = 'running') SELECT ` + columns + ` FROM r
		WHERE admitted_at >= ? AND admitted_at < ? AND (tenant = ? OR ` + d.Below("parents") + `)`
	args = []any{d.Time(c.From), d.Time(c.To), c.Tenant.String(), c.Tenant.String()}
	if c.Agent != "" {
		statement, args = statement+" AND agent = ?", append(args, c.Agent)
	}
	if c.Model != "" {
		statement, args = statement+" AND model = ?", append(args, c.Model)
	}
	return statement, args
}

// since returns when the latest call of a tenant from a time on was admitted; zero for none.
func since(d *sqldb.Dialect, sum *book.Sum, from time.Time, query Query) (time.Time, error) {
	c := Calls{Tenant: sum.Tenant, Range: Range{from, latest}}
	u := union{Dialect: d, Calls: c}
	u.executions("max(admitted_at) AS t", c.Range)
	running, args := running(d, "max(admitted_at) AS t", c)
	var at time.Time
	err := query(d.Bind(`SELECT max(t) FROM (`+strings.Join(u.parts, " UNION ALL ")+` UNION ALL SELECT * FROM (`+running+`) r) x`),
		append(u.args, args...), func(row sqldb.Row) error { return row.Scan(sqldb.Instant(&at)) })
	return at, err
}
