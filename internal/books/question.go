package books

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/units"
)

// Question says which calls are added up, and what they are taken apart by.
type Question struct {
	Tenant    book.ID
	Alone     bool // without those of the tenants below it
	Everybody bool // of all tenants, and of none
	By        []Group
	Spans     []Span // each is answered by itself, all of them as of one moment
}

// Span is a range, and where the periods begin that it is taken apart by: the first of them not after the range does. None:
// it is not taken apart.
type Span struct {
	Range
	Periods []time.Time
}

// Group is what calls are taken apart by, but for time.
type Group struct {
	Dimension
	Tag string // of ByTag: its name
}

// Dimension is a kind of Group.
type Dimension uint8

// The dimensions.
const (
	ByTenant Dimension = iota // by id
	ByAgent
	ByAsked  // the model asked for
	ByBilled // the model billed; the one asked for where nobody billed any
	ByProvider
	ByTier
	ByActor
	ByTag
)

// Line is what the calls have used that are alike in all that they are taken apart by.
type Line struct {
	Keys   [2]string
	Span   int // the index of the span
	Period int // the index of the period in it
	Sum
}

// Sum is what calls have used.
type Sum struct {
	Charged             book.Amount
	Errors, Refusals    int64
	Estimated, Unpriced int64
	Usage               book.Usage
	Timed, LatencyUS    int64 // the calls of which it is known how long they took, and their times together, in microseconds
}

// Plus returns the sum of two sums, saturating.
func (s Sum) Plus(o Sum) Sum {
	return Sum{
		Charged: s.Charged.Plus(o.Charged), Usage: s.Usage.Plus(o.Usage),
		Errors: money.Add(s.Errors, o.Errors), Refusals: money.Add(s.Refusals, o.Refusals),
		Estimated: money.Add(s.Estimated, o.Estimated), Unpriced: money.Add(s.Unpriced, o.Unpriced),
		Timed: money.Add(s.Timed, o.Timed), LatencyUS: money.Add(s.LatencyUS, o.LatencyUS),
	}
}

// summed are the columns of a Sum, and the expressions that give them from the executions e.
var summed = append([]figure{
	{"cost", "e.cost"}, {"charge", "e.charge"}, {"tokens", "e.tokens"}, {"calls", "e.calls"},
	{"errors", "CASE e.status WHEN 'failed' THEN e.calls ELSE 0 END"}, {"refusals", "0"},
	{"estimated", "CASE WHEN e.estimated THEN e.calls ELSE 0 END"}, {"unpriced", "CASE WHEN e.unpriced THEN e.calls ELSE 0 END"},
	{"timed", isTimed}, {"latency_us", "coalesce(e.latency_us, 0)"},
}, classFigures...)

func (s *Sum) targets() []any {
	to := []any{&s.Charged.Cost, &s.Charged.Charge, &s.Charged.Tokens, &s.Charged.Calls, &s.Errors, &s.Refusals, &s.Estimated, &s.Unpriced, &s.Timed, &s.LatencyUS}
	for _, class := range s.Usage.Classes() {
		to = append(to, class)
	}
	return to
}

// Answer adds up calls, in one statement and so as of one moment. What they used of a unit is a line of its own. Refusals are
// known by the hour only: they are counted where their hour begins.
func (b Books) Answer(ctx context.Context, q Question) ([]Line, error) {
	a := answer{Dialect: b.Dialect, Question: q}
	for i := range q.Spans {
		a.span(i)
	}
	if len(a.parts) == 0 {
		return nil, nil
	}
	totals := make([]string, len(summed))
	for i, f := range summed {
		totals[i] = "CAST(sum(" + f.column + ") AS bigint)"
	}
	statement := `SELECT span, period, k0, k1, unit, CAST(sum(amount) AS bigint), ` + strings.Join(totals, ", ") + ` FROM (` +
		strings.Join(a.parts, " UNION ALL ") + `) u GROUP BY span, period, k0, k1, unit`
	var lines []Line
	err := b.query(ctx)(b.Bind(statement), a.args, func(row sqldb.Row) error {
		var (
			l      Line
			unit   units.Unit
			amount int64
		)
		if err := row.Scan(append([]any{&l.Span, &l.Period, &l.Keys[0], &l.Keys[1], &unit, &amount}, l.targets()...)...); err != nil {
			return err
		}
		l.Usage.Units = units.Of(unit, amount)
		lines = append(lines, l)
		return nil
	})
	return lines, cmp.Or(err, b.known(ctx, q))
}

// answer collects selects whose rows are added up.
type answer struct {
	*sqldb.Dialect
	Question
	parts []string
	args  []any
}

// source is a table, e, and what is read of it.
type source struct {
	table   string
	at      string // the column that says when
	rolled  bool   // it knows of the groups only which agent and model
	pruned  bool   // it knows neither actors nor tags
	columns string
	where   string
}

// ended is Ended of the executions e.
const ended = "e.status <> 'running' AND e.status <> 'cancelled'"

// span adds what belongs to one of the spans.
func (a *answer) span(i int) {
	calls := source{table: "llm_executions e", at: "e.admitted_at", where: ended}
	calls.columns = columns(func(f figure) string { return f.from }) + ", '' AS unit, 0 AS amount"
	each := calls
	each.table += " " + a.EachUnit()
	each.where += " AND e.units IS NOT NULL"
	each.columns = columns(func(figure) string { return "0" }) + ", " + sqldb.UnitName + ", " + sqldb.UnitAmount
	gone, eachGone := pruned(calls), pruned(each) // what pruned calls add up to has the same columns
	refusals := source{table: "llm_usage e", at: "e.hour", rolled: true, where: "e.refusals > 0"}
	refusals.columns = columns(func(f figure) string {
		if f.column == "refusals" {
			return "e.refusals"
		}
		return "0"
	}) + ", '', 0"

	const own, below = "e.tenant = ?", "NOT e.below"
	switch {
	case a.Everybody:
		for _, from := range []source{calls, each, gone, eachGone} {
			a.add(i, from, "")
		}
		a.add(i, refusals, below)
	case a.Alone:
		for _, from := range []source{calls, each, gone, eachGone} {
			a.add(i, from, own)
		}
		a.add(i, refusals, below+" AND "+own)
	default:
		descendants := "e.parents <> '{}' AND " + a.Below("e.parents")
		for _, from := range []source{calls, each, gone, eachGone} {
			a.add(i, from, own)
			a.add(i, from, descendants)
		}
		a.add(i, refusals, own)
	}
}

// pruned is a source of executions for those that were pruned.
func pruned(s source) source {
	s.table, s.pruned = strings.Replace(s.table, "llm_executions", "llm_pruned", 1), true
	s.columns = strings.Replace(s.columns, isTimed, "e.timed", 1)
	return s
}

func columns(of func(figure) string) string {
	list := make([]string, len(summed))
	for i, f := range summed {
		list[i] = of(f) + " AS " + f.column
	}
	return strings.Join(list, ", ")
}

// add adds the rows of a source that lie in a span, of those whom a condition names, whose argument is the tenant.
func (a *answer) add(i int, from source, who string) {
	s := a.Spans[i]
	s.From, s.To = Admission(s.From), Admission(s.To)
	if s.empty() {
		return
	}
	var (
		period, table = "0", from.table
		where         = []string{from.where}
		keys          [2]string
		args          []any
	)
	for k := range keys {
		keys[k] = "''"
		if k < len(a.By) {
			var of []any
			keys[k], of = a.key(a.By[k], from)
			args = append(args, of...)
		}
	}
	switch {
	case len(s.Periods) == 0:
	case a.Buckets:
		period = "width_bucket(" + from.at + ", CAST(? AS timestamptz[])) - 1"
		args = append(args, sqldb.Times(s.Periods))
	default:
		// SQLite looks each period up in an index.
		period = "w.key"
		table = "json_each(?) AS w CROSS JOIN " + table
		if a.Everybody {
			table = "(SELECT id FROM llm_tenants UNION ALL SELECT '" + book.NoTenant.String() + "') AS t CROSS JOIN " + table
			where = append(where, "e.tenant = t.id")
		}
		args = append(args, sqldb.Ranges(s.Periods, s.From, s.To))
		where = append(where, from.at+" >= json_extract(w.value, '$[0]')", from.at+" < json_extract(w.value, '$[1]')")
	}
	if who != "" {
		where = append(where, who)
		if strings.Contains(who, "?") {
			args = append(args, a.Tenant.String())
		}
	}
	if len(s.Periods) == 0 || a.Buckets {
		where = append(where, from.at+" >= ?", from.at+" < ?")
		args = append(args, a.Time(s.From), a.Time(s.To))
	}
	a.parts = append(a.parts, fmt.Sprintf("SELECT %d AS span, %s AS k0, %s AS k1, %s AS period, %s FROM %s WHERE %s",
		i, keys[0], keys[1], period, from.columns, table, strings.Join(where, " AND ")))
	a.args = append(a.args, args...)
}

// key is an expression for a group of the rows e, with its arguments.
func (a *answer) key(g Group, from source) (expression string, args []any) {
	switch g.Dimension {
	case ByTenant:
		return "CAST(e.tenant AS text)", nil
	case ByAgent:
		return "e.agent", nil
	case ByAsked:
		return "e.model", nil
	case ByBilled:
		return "CASE e.billed_model WHEN '' THEN e.model ELSE e.billed_model END", nil
	}
	if from.rolled || from.pruned && (g.Dimension == ByActor || g.Dimension == ByTag) {
		return "''", nil
	}
	switch g.Dimension {
	case ByProvider:
		return "e.provider", nil
	case ByTier:
		return "e.service_tier", nil
	case ByActor:
		return "e.actor", nil
	default:
		return "coalesce(" + a.Tag("e.tags") + ", '')", []any{g.Tag}
	}
}

// Extent returns the first and the last hour in which the roll-up has anything that a question is about, whose tenant is given;
// zero times for nothing.
func (b Books) Extent(ctx context.Context, q Question, t *book.Tenant) (first, last time.Time, err error) {
	if t == nil && !q.Everybody {
		return first, last, nil
	}
	statement, args := `SELECT min(hour), max(hour) FROM llm_usage`, []any{}
	if !q.Everybody {
		statement, args = statement+` WHERE tenant = ?`, append(args, t.ID.String())
	}
	err = b.query(ctx)(b.Bind(statement), args, func(row sqldb.Row) error {
		return row.Scan(sqldb.Instant(&first), sqldb.Instant(&last))
	})
	return first, last, err
}

// Keys returns the keys that tenants have, or had last, by their ids.
func (b Books) Keys(ctx context.Context, ids []string) (map[string]string, error) {
	const atOnce = 500
	keys := make(map[string]string, len(ids))
	for chunk := range slices.Chunk(ids, atOnce) {
		args := make([]any, len(chunk))
		for i, id := range chunk {
			args[i] = id
		}
		err := b.query(ctx)(b.Bind(`SELECT CAST(t.id AS text), coalesce(t.tenant_id,
				(SELECT e.tenant_id FROM llm_executions e WHERE e.tenant = t.id ORDER BY e.id DESC LIMIT 1), '')
			FROM llm_tenants t WHERE t.id IN (`+sqldb.Marks(len(chunk))+`)`), args, func(row sqldb.Row) error {
			var id, key string
			err := row.Scan(&id, &key)
			keys[id] = key
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return keys, nil
}
