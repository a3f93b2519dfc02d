package books

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Question says which calls are added up, and what they are taken apart by.
type Question struct {
	Tenant    book.ID
	Alone     bool // without those of the tenants below it
	Everybody bool // of all tenants, and of none
	By        []Group
	Spans     []Span    // each is answered by itself, all of them as of one moment
	At        time.Time // when it is asked
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
	book.HourSum
}

// Merge adds what calls have used to a sum, saturating.
func Merge(to, by *book.HourSum) {
	to.Charged, to.Usage = to.Charged.Plus(by.Charged), to.Usage.Plus(by.Usage)
	to.Errors, to.Refusals = money.Add(to.Errors, by.Errors), money.Add(to.Refusals, by.Refusals)
	to.Estimated, to.Unpriced = money.Add(to.Estimated, by.Estimated), money.Add(to.Unpriced, by.Unpriced)
	to.Timed, to.LatencyUS = money.Add(to.Timed, by.Timed), money.Add(to.LatencyUS, by.LatencyUS)
	to.Latencies.Merge(by.Latencies)
}

// summed are the columns that are added up, and the expressions that give them from the executions e.
var summed = append([]figure{
	{"cost", "e.cost"}, {"charge", "e.charge"}, {"tokens", "e.tokens"}, {"calls", "e.calls"},
	{"errors", "CASE e.status WHEN 'failed' THEN e.calls ELSE 0 END"}, {"refusals", "0"},
	{"estimated", "CASE WHEN e.estimated THEN e.calls ELSE 0 END"}, {"unpriced", "CASE WHEN e.unpriced THEN e.calls ELSE 0 END"},
	{"timed", isTimed}, {"latency_us", "coalesce(e.latency_us, 0)"},
}, classFigures...)

// figuresOf are the figures of a sum, in the order of summed.
func figuresOf(s *book.HourSum) (list [len(book.UsageColumns) + 10]*int64) {
	classes := s.Usage.Classes()
	n := copy(list[:], []*int64{
		&s.Charged.Cost, &s.Charged.Charge, &s.Charged.Tokens, &s.Charged.Calls, &s.Errors, &s.Refusals, &s.Estimated, &s.Unpriced,
		&s.Timed, &s.LatencyUS,
	})
	copy(list[n:], classes[:])
	return list
}

// targets are what summed is scanned into.
func targets(s *book.HourSum) []any {
	figures := figuresOf(s)
	to := make([]any, len(figures))
	for i, figure := range figures {
		to[i] = figure
	}
	return to
}

// answer collects selects whose rows are added up.
type answer struct {
	Books
	Question
	parts []string
	args  []any
	state folds // what is folded, as far as it is of use
	lines map[lineKey]*Line

	values tagValues // of the tag that is asked about; nil: of none
}

// span adds what belongs to one of the spans and is not folded: what whole hours have from the roll-up, and what is left of a
// period before and after them from the executions.
func (a *answer) span(i int, c cover) {
	rolled := source{table: "llm_usage", at: "hour", rolled: true, columns: a.columns("e.@", "e.latencies") + noUnit}
	units := source{table: "llm_usage_units", at: "hour", rolled: true, columns: a.columns("0", a.NoCounts) + ", e.unit, e.amount"}
	a.rows(i, c.hours, rolled)
	a.rows(i, c.hours, units)

	if len(c.calls) > 0 {
		calls, each := a.callsAndUnits()
		for _, from := range []source{calls, each, a.pruned(calls), a.pruned(each)} {
			a.rows(i, c.calls, from)
		}
	}

	refusals := rolled
	refusals.where, refusals.columns = "e.refusals > 0", a.refused()
	a.rows(i, c.cut, refusals)
}

// callsAndUnits are the executions, and what each of them has used by the piece.
func (a *answer) callsAndUnits() (calls, each source) {
	calls = source{table: "llm_executions", at: "admitted_at", where: ended, columns: a.columns("", a.OneCount("e.latency_us")) + noUnit}
	each = source{
		table: "llm_executions", joins: " " + a.EachUnit(), at: "admitted_at", where: ended + " AND e.units IS NOT NULL",
		columns: a.columns("0", a.NoCounts) + ", " + sqldb.UnitName + ", " + sqldb.UnitAmount,
	}
	return calls, each
}

// refused are the columns of what has refusals alone.
func (a *answer) refused() string {
	return strings.Replace(a.columns("0", a.NoCounts), "0 AS refusals", "e.refusals AS refusals", 1) + noUnit
}

const (
	// ended is Ended of the executions e.
	ended  = "e.status <> 'running' AND e.status <> 'cancelled'"
	noUnit = ", '' AS unit, 0 AS amount"
)

// pruned is a source of executions for those that were pruned.
func (a *answer) pruned(s source) source {
	s.table, s.pruned = "llm_pruned", true
	s.columns = strings.Replace(strings.Replace(s.columns, isTimed, "e.timed", 1), a.OneCount("e.latency_us"), "e.latencies", 1)
	return s
}

// columns are those of summed, each by an expression in which @ is its name; or by what gives it from the executions.
func (a *answer) columns(expression, latencies string) string {
	var list strings.Builder
	for _, f := range summed {
		from := strings.ReplaceAll(expression, "@", f.column)
		if from == "" {
			from = f.from
		}
		list.WriteString(from + " AS " + f.column + ", ")
	}
	return list.String() + latencies + " AS latencies"
}

// source is a table, e, and what is read of it.
type source struct {
	table   string
	joins   string // what stands after it in FROM
	at      string // the column that says when
	rolled  bool   // it is of the roll-up, which has the tenants below as rows of their own
	pruned  bool   // like the roll-up, it knows no actors, and tags only that are rolled up
	columns string
	where   string
	args    []any // of where, or of the table
}

// newest is a source of the roll-up for the rows that a tenant has in a range of hours. Whoever calls now writes a row of the present
// hour again and again. While a snapshot is open its versions are all kept, those of older generations before the present one in the index.
// So the last lines are looked up one by one from the end, where the first row found is the one that is there. Those before them are
// read as they lie: they are too many for that, and hardly any of them is written. That the tenant is compared with the line keeps a
// planner to the primary key.
func (s source) newest(tenant string, from, to any) source {
	const most = 32
	line := []string{"tenant", "hour", "agent", "model", "billed_model", "provider", "service_tier", "below"}
	if s.table == "llm_usage_units" {
		line = append(line, "unit")
	}
	of := func(table string) string { return "(" + table + "." + strings.Join(line, ", "+table+".") + ")" }
	last := ` ORDER BY ` + strings.Join(line, ` DESC, `) + ` DESC, generation DESC LIMIT 1`
	before := `SELECT * FROM ` + s.table + ` u WHERE u.tenant = k.tenant AND ` + of("u") + ` < ` + of("k")
	s.table = fmt.Sprintf(`(WITH RECURSIVE k AS (
			(SELECT u.*, 1 AS nth FROM %[1]s u WHERE u.tenant = ? AND (u.tenant, u.hour) < (?, ?)%[2]s)
			UNION ALL SELECT u.*, k.nth + 1 FROM k CROSS JOIN LATERAL (%[3]s%[2]s) u WHERE k.nth < %[4]d AND k.hour >= ?)
		SELECT * FROM k UNION ALL SELECT u.*, 0 FROM k CROSS JOIN LATERAL (%[3]s AND u.hour >= ?) u WHERE k.nth = %[4]d)`, s.table, last, before, most)
	s.args = append([]any{tenant, tenant, to, from, from}, s.args...)
	return s
}

// rows adds the rows of a source that lie in some pieces of a span.
func (a *answer) rows(i int, pieces []piece, from source) {
	if len(pieces) == 0 {
		return
	}
	const own = "e.tenant = ?"
	switch {
	case from.rolled && a.Everybody:
		a.add(i, pieces, from, "NOT e.below")
	case from.rolled:
		who := own
		if a.Alone {
			who += " AND NOT e.below"
		}
		last := len(pieces) - 1
		if a.LocksRows {
			a.add(i, pieces[last:], from.newest(a.Tenant.String(), a.Time(pieces[last].From), a.Time(pieces[last].To)), who)
			pieces = pieces[:last]
		}
		if len(pieces) > 0 {
			a.add(i, pieces, from, who)
		}
	case a.Everybody:
		a.add(i, pieces, from, "")
	case a.Alone:
		a.add(i, pieces, from, own)
	default:
		a.add(i, pieces, from, own)
		a.add(i, pieces, from, "e.parents <> '{}' AND "+a.Below("e.parents"))
	}
}

// add adds the rows of those whom a condition names, whose argument is the tenant.
func (a *answer) add(i int, pieces []piece, from source, who string) {
	const few = 4
	if len(pieces) > 1 && len(pieces) <= few && !dense(pieces) {
		for n := range pieces {
			a.add(i, pieces[n:n+1], from, who)
		}
		return
	}
	var keys [2]string
	for k := range keys {
		keys[k] = "''"
		if k < len(a.By) {
			var args []any
			keys[k], args = a.key(a.By[k], from)
			a.args = append(a.args, args...)
		}
	}
	where, args := from.where, slices.Clone(from.args)
	if who != "" {
		where = and(where, who)
		if strings.Contains(who, "?") {
			args = append(args, a.Tenant.String())
		}
	}
	period, rows := a.within(pieces, from, where, args)
	a.parts = append(a.parts, fmt.Sprintf("SELECT %d AS span, %s AS period, %s AS k0, %s AS k1, %s FROM %s", i, period, keys[0], keys[1], from.columns, rows))
}

func and(conditions ...string) string {
	return strings.Join(slices.DeleteFunc(conditions, func(c string) bool { return c == "" }), " AND ")
}

// within is a piece of FROM and WHERE that gives the rows e of a table that lie in some pieces and meet a condition, and the period
// that each of them is in. What it is worth depends on what the planner gets to know: a range of its own, by which it knows how
// many rows there are, where there is one, or where the pieces fill one; otherwise each piece is looked up in an index.
func (a *answer) within(pieces []piece, from source, where string, args []any) (period, rows string) {
	table, at := from.table+" e", "e."+from.at
	first, last := pieces[0], pieces[len(pieces)-1]
	between := and(where, at+" >= ?", at+" < ?")
	switch {
	case len(pieces) == 1:
		a.args = append(append(a.args, args...), a.Time(first.From), a.Time(first.To))
		return strconv.Itoa(first.period), table + from.joins + " WHERE " + between
	case !a.Buckets:
		a.args = append(append(a.args, document(pieces)), args...)
		return "w.n", a.Pieces() + " CROSS JOIN " + table + from.joins + " WHERE " + and(at+" >= w.f", at+" < w.t", where)
	case dense(pieces):
		// A time lies in a piece where it comes after an odd number of their bounds.
		var bounds, periods []string
		for _, p := range pieces {
			bounds = append(bounds, sqldb.Text(p.From), sqldb.Text(p.To))
			periods = append(periods, strconv.Itoa(p.period))
		}
		array := func(values []string) string { return `{"` + strings.Join(values, `","`) + `"}` }
		a.args = append(append(a.args, array(bounds), array(periods)), args...)
		a.args = append(a.args, a.Time(first.From), a.Time(last.To))
		return "(e.periods)[(e.bound + 1) / 2]", `(SELECT e.*, width_bucket(` + at + `, CAST(? AS timestamptz[])) AS bound, CAST(? AS bigint[]) AS periods
			FROM ` + table + ` WHERE ` + between + ` OFFSET 0) e` + from.joins + ` WHERE e.bound % 2 = 1`
	default:
		a.args = append(append(a.args, document(pieces)), args...)
		return "w.n", a.Pieces() + " CROSS JOIN LATERAL (SELECT * FROM " + table + " WHERE " + and(where, at+" >= w.f", at+" < w.t") + " OFFSET 0) e" + from.joins + " WHERE true"
	}
}

// dense reports whether pieces fill most of the time from the first to the last.
func dense(pieces []piece) bool {
	var filled time.Duration
	for _, p := range pieces {
		filled += p.To.Sub(p.From)
	}
	return 2*filled >= pieces[len(pieces)-1].To.Sub(pieces[0].From)
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
	case ByProvider:
		return "e.provider", nil
	case ByTier:
		return "e.service_tier", nil
	}
	switch {
	case from.rolled || from.pruned && g.Dimension == ByActor:
		return "''", nil
	case g.Dimension == ByActor:
		return "e.actor", nil
	default:
		return "coalesce(" + a.Tag("e.tags") + ", '')", []any{g.Tag}
	}
}

// rolled reports whether the roll-up knows what a question takes calls apart by.
func (q *Question) rolled() bool {
	return !slices.ContainsFunc(q.By, func(g Group) bool {
		return g.Dimension == ByActor || g.Dimension == ByTag || g.Dimension == ByTenant && !q.Alone && !q.Everybody
	})
}

// piece is a range that is read from one place, and the period that it belongs to.
type piece struct {
	Range
	period int
}

// document is pieces as a document of JSON, for Pieces.
func document(pieces []piece) string {
	b := []byte{'['}
	for i, p := range pieces {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"f":"%s","t":"%s","n":%d}`, sqldb.Text(p.From), sqldb.Text(p.To), p.period)
	}
	return string(append(b, ']'))
}

// Extent returns the first and the last hour in which the roll-up has anything that a question is about; zero times for nothing.
func (b Books) Extent(ctx context.Context, q Question) (first, last time.Time, err error) {
	of, args := ` FROM llm_usage`, []any{}
	if !q.Everybody {
		of, args = of+` WHERE tenant = ?`, []any{q.Tenant.String(), q.Tenant.String()}
	}
	// Each by itself is the end of an index.
	statement := `SELECT (SELECT min(hour)` + of + `), (SELECT max(hour)` + of + `)`
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
		// A tenant that has gone elsewhere is hidden from whom its calls are not.
		for _, id := range chunk {
			if _, known := keys[id]; known {
				continue
			}
			err := b.query(ctx)(b.Bind(`SELECT tenant_id FROM llm_executions WHERE tenant = ? ORDER BY id DESC LIMIT 1`), []any{id}, func(row sqldb.Row) error {
				var key string
				err := row.Scan(&key)
				keys[id] = key
				return err
			})
			if err != nil {
				return nil, err
			}
		}
	}
	return keys, nil
}
