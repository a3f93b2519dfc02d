package books

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Difference is a figure of the books that is not what the executions add up to.
type Difference struct {
	Tenant book.ID
	Where  string // such as "balance day" or "hour 2026-11-24 08:00:00+00 agent support model m"
	Column string // such as "spent_cost"
	Have   int64  // what stands there
	Want   int64  // what the executions say
}

// Placed is a tenant, and the number of the place that has its books.
type Placed struct {
	Place int
	ID    book.ID
}

// Tenants returns some tenants that have books in places, in the order of their ids, after a given one. It is one statement, so that whoever is moved
// meanwhile is among them once. The calls without a tenant are in the first place.
func (b Books) Tenants(ctx context.Context, places []*sqldb.Schema, after *book.ID, limit int) (found []Placed, err error) {
	var (
		parts []string
		args  []any
	)
	for i, place := range places {
		where := "window_unit = 'total' AND agent = '' AND model = ''"
		if i > 0 {
			where, args = where+" AND tenant <> ?", append(args, book.NoTenant.String())
		}
		if after != nil {
			where, args = where+" AND tenant > ?", append(args, after.String())
		}
		part := fmt.Sprintf("SELECT %d AS place, tenant FROM %s WHERE %s ORDER BY tenant LIMIT ?", i, place.Table("llm_balances"), where)
		args = append(args, limit)
		if len(places) > 1 {
			part = "(" + part + ")"
		}
		parts = append(parts, part)
	}
	statement := parts[0]
	if len(parts) > 1 {
		statement, args = strings.Join(parts, " UNION ALL ")+" ORDER BY tenant LIMIT ?", append(args, limit)
	}
	err = b.query(ctx)(b.Bind(statement), args, func(row sqldb.Row) error {
		var p Placed
		err := row.Scan(&p.Place, &p.ID)
		found = append(found, p)
		return err
	})
	return found, err
}

// figure is a column of the books, and the expression that gives it from the executions e.
type figure struct{ column, from string }

// of a balance: sums over the executions that it counts.
var balanceFigures = []figure{
	{"spent_cost", "e.cost"}, {"spent_charge", "e.charge"}, {"spent_tokens", "e.tokens"}, {"spent_calls", "e.calls"},
	{"held_cost", "CASE e.status WHEN 'running' THEN e.held_cost ELSE 0 END"},
	{"held_charge", "CASE e.status WHEN 'running' THEN e.held_charge ELSE 0 END"},
	{"held_tokens", "CASE e.status WHEN 'running' THEN e.held_tokens ELSE 0 END"},
	{"held_calls", "CASE e.status WHEN 'running' THEN 1 ELSE 0 END"},
}

// hourFigures are those of an hour of the roll-up.
var hourFigures = func() []figure {
	out := []figure{
		{"calls", "e.calls"}, {"errors", "CASE e.status WHEN 'failed' THEN e.calls ELSE 0 END"}, {"cost", "e.cost"}, {"charge", "e.charge"},
		{"tokens", "e.tokens"}, {"estimated", "CASE WHEN e.estimated THEN e.calls ELSE 0 END"}, {"unpriced", "CASE WHEN e.unpriced THEN e.calls ELSE 0 END"},
		{"timed", "e.timed"}, {"latency_us", "e.latency_us"},
	}
	return append(out, classFigures...)
}()

// classFigures are the classes of a usage.
var classFigures = func() (out []figure) {
	for _, column := range book.UsageColumns {
		out = append(out, figure{column, "e." + column})
	}
	return out
}()

func total(expression string) string { return "CAST(coalesce(sum(" + expression + "), 0) AS bigint)" }

// hasDescendants reports whether anything of tenants below it may count for a tenant.
func (b Books) hasDescendants(ctx context.Context, id book.ID) (bool, error) {
	found := id == book.Root
	err := b.query(ctx)(b.Bind(`SELECT 1 FROM llm_tenants t WHERE t.id = ? AND (`+hasBelow+`)`),
		[]any{id.String()}, func(sqldb.Row) error { found = true; return nil })
	return found, err
}

// counted is the executions e that count for a tenant, with whether they are of tenants below it, and its arguments.
func (b Books) counted(id book.ID, descendants bool) (from string, args []any) {
	from, args = `SELECT e.*, false AS below FROM `+booked+` e WHERE e.tenant = ?`, []any{id.String()}
	if descendants {
		from += ` UNION ALL SELECT e.*, true FROM ` + booked + ` e WHERE e.parents <> '{}' AND ` + b.Below("e.parents")
		args = append(args, id.String())
	}
	return "(" + from + ") e", args
}

// by says which executions e a balance b counts.
const by = `(b.agent = '' OR e.agent = b.agent) AND (b.model = '' OR e.model = b.model)
	AND e.admitted_at >= b.window_start AND (b.window_end IS NULL OR e.admitted_at < b.window_end)`

// within says which executions e were admitted in a window.
func within(start, end string) string {
	return "e.admitted_at >= " + start + " AND e.admitted_at < " + end
}

// Balances compares a tenant's balances with its executions. It is one statement, and so one snapshot.
func (b Books) Balances(ctx context.Context, id book.ID) ([]Difference, error) {
	descendants, err := b.hasDescendants(ctx, id)
	if err != nil {
		return nil, err
	}
	var have, want, named []string
	for _, f := range balanceFigures {
		have = append(have, "min(b."+f.column+")") // of one
		want = append(want, total(f.from))
		named = append(named, "@"+f.column+" AS "+f.column)
	}
	from, args := b.counted(id, descendants)
	all := windows(`SELECT @unit AS window_unit, @agent AS agent, @model AS model, @start AS window_start, @end AS window_end, ` +
		strings.Join(named, ", ") + ` FROM llm_balances b WHERE b.tenant = ? AND @here`)
	args = append([]any{id.String(), id.String(), id.String()}, args...)
	return b.differences(ctx, id, balanceFigures, `SELECT 'balance ' || b.window_unit || ' agent "' || b.agent || '" model "' || b.model || '"', `+
		strings.Join(have, ", ")+`, `+strings.Join(want, ", ")+`
		FROM (`+all+`) b LEFT JOIN `+from+` ON `+by+` GROUP BY b.window_unit, b.agent, b.model`, args...)
}

// windows is a select from the balances b in three parts: of what each row is the balance of, and of the day and the month that
// an anchor has beside that. The columns are written @unit, @agent, @model, @start, @end, @spent_cost …, and @here is the
// condition that a row has the part.
func windows(part string) string {
	own := strings.NewReplacer("@unit", "b.window_unit", "@agent", "b.agent", "@model", "b.model", "@start", "b.window_start", "@end", "b.window_end",
		"@here", "true", "@", "b.")
	parts := []string{own.Replace(part)}
	for _, unit := range []string{"day", "month"} {
		beside := strings.NewReplacer("@unit", "'"+unit+"'", "@agent", "''", "@model", "''", "@here", anchor, "@", "b."+unit+"_")
		parts = append(parts, beside.Replace(part))
	}
	return strings.Join(parts, " UNION ALL ")
}

// anchor is the condition that a row of balances b is an anchor.
const anchor = "b.window_unit = 'total' AND b.agent = '' AND b.model = ''"

// Hours compares a tenant's roll-up of a range of whole hours with its executions. The units are compared by a statement
// of their own. Each is one snapshot.
func (b Books) Hours(ctx context.Context, id book.ID, r Range) ([]Difference, error) {
	descendants, err := b.hasDescendants(ctx, id)
	if err != nil {
		return nil, err
	}
	out, err := b.hours(ctx, id, r, descendants)
	if err != nil {
		return nil, err
	}
	of, err := b.units(ctx, id, r, descendants)
	if err != nil {
		return nil, err
	}
	times, err := b.latencies(ctx, id, r, descendants)
	if err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(times)) {
		t := times[key]
		for bucket := range book.LatencyBuckets {
			if have, want := t.have.At(bucket), t.want.At(bucket); have != want {
				of = append(of, Difference{Tenant: id, Where: t.where, Column: fmt.Sprintf("latencies, bucket %d", bucket), Have: have, Want: want})
			}
		}
	}
	return append(out, of...), nil
}

// hourKey are the columns that name a row of the roll-up, but its tenant.
const hourKey = "hour, agent, model, billed_model, provider, service_tier, below"

// hourOf are the same of an execution e.
func (b Books) hourOf() string {
	return b.Hour("e.admitted_at") + " AS hour, e.agent, e.model, e.billed_model, e.provider, e.service_tier, e.below"
}

// whichHour names an hour of the roll-up.
const whichHour = `'hour ' || CAST(hour AS text) || ' agent "' || agent || '" model "' || model ||
	'" billed as "' || billed_model || '" by "' || provider || '" in "' || service_tier || '"' || CASE WHEN below THEN ' of the tenants below' ELSE '' END`

func (b Books) hours(ctx context.Context, id book.ID, r Range, descendants bool) ([]Difference, error) {
	var have, want, zeros, sums []string
	for _, f := range hourFigures {
		have = append(have, "u."+f.column+" AS have_"+f.column)
		zeros = append(zeros, "0")
		want = append(want, f.from)
		sums = append(sums, total("have_"+f.column))
	}
	for _, f := range hourFigures {
		have = append(have, "0 AS want_"+f.column)
		sums = append(sums, total("want_"+f.column))
	}
	from, of := b.counted(id, descendants)
	args := append([]any{id.String(), b.Time(r.From), b.Time(r.To)}, of...)
	return b.differences(ctx, id, hourFigures, `SELECT `+whichHour+`, `+strings.Join(sums, ", ")+` FROM (
			SELECT `+hourKey+`, `+strings.Join(have, ", ")+` FROM llm_usage u
			WHERE u.tenant = ? AND u.hour >= ? AND u.hour < ?
			UNION ALL
			SELECT `+b.hourOf()+`, `+strings.Join(zeros, ", ")+`, `+strings.Join(want, ", ")+`
			FROM `+from+` WHERE e.admitted_at >= ? AND e.admitted_at < ? AND `+Ended+`
		) x GROUP BY `+hourKey, append(args, b.Time(r.From), b.Time(r.To))...)
}

func (b Books) units(ctx context.Context, id book.ID, r Range, descendants bool) ([]Difference, error) {
	from, of := b.counted(id, descendants)
	args := append([]any{id.String(), b.Time(r.From), b.Time(r.To)}, of...)
	return b.differences(ctx, id, []figure{{column: "amount"}}, `SELECT `+whichHour+` || ' unit "' || unit || '"', `+
		total("have")+`, `+total("want")+` FROM (
			SELECT `+hourKey+`, unit, amount AS have, 0 AS want FROM llm_usage_units WHERE tenant = ? AND hour >= ? AND hour < ?
			UNION ALL
			SELECT `+b.hourOf()+`, `+sqldb.UnitName+`, 0, `+sqldb.UnitAmount+`
			FROM `+from+` `+b.EachUnit()+` WHERE e.admitted_at >= ? AND e.admitted_at < ? AND e.units IS NOT NULL AND `+Ended+`
		) x GROUP BY `+hourKey+`, unit`, append(args, b.Time(r.From), b.Time(r.To))...)
}

// timed is how many calls took how long, as the roll-up has it and as the executions say, and whose row it is.
type timed struct {
	where      string
	key        []any // tenant, and the columns of hourKey, as arguments
	have, want book.Latencies
}

// latencies reads how many calls took how long, of each row of the roll-up. It is one statement, and so one snapshot.
func (b Books) latencies(ctx context.Context, id book.ID, r Range, descendants bool) (map[string]*timed, error) {
	from, of := b.counted(id, descendants)
	args := append([]any{id.String(), b.Time(r.From), b.Time(r.To)}, of...)
	rows := map[string]*timed{}
	const added = "coalesce(CAST(latencies AS text), '')"
	err := b.query(ctx)(b.Bind(`SELECT `+whichHour+`, `+hourKey+`, have, want, bucket, n FROM (
			SELECT `+hourKey+`, `+added+` AS have, '' AS want, 0 AS bucket, 0 AS n FROM llm_usage WHERE tenant = ? AND hour >= ? AND hour < ?
			UNION ALL
			SELECT `+hourKey+`, '', want, bucket, count(*) FROM (SELECT `+b.hourOf()+`, `+added+` AS want, `+b.LatencyBucket("e.latency_us")+` AS bucket
				FROM `+from+` WHERE e.admitted_at >= ? AND e.admitted_at < ? AND e.timed <> 0 AND `+Ended+`) t GROUP BY `+hourKey+`, want, bucket
		) x`), append(args, b.Time(r.From), b.Time(r.To)), func(row sqldb.Row) error {
		var (
			where, have, want                                string
			hour                                             time.Time
			agent, model, billedModel, provider, serviceTier string
			below                                            bool
			bucket                                           int
			calls                                            int64
		)
		if err := row.Scan(&where, sqldb.Instant(&hour), &agent, &model, &billedModel, &provider, &serviceTier, &below, &have, &want, &bucket, &calls); err != nil {
			return err
		}
		t := rows[where]
		if t == nil {
			t = &timed{where: where, key: []any{id.String(), b.Time(hour), agent, model, billedModel, provider, serviceTier, below}}
			rows[where] = t
		}
		if have == "" && want == "" {
			t.want.Add(bucket, calls)
			return nil
		}
		for text, to := range map[string]*book.Latencies{have: &t.have, want: &t.want} {
			counts, err := book.ParseLatencies(text)
			if err != nil {
				return err
			}
			for _, c := range counts {
				to.Add(c.Bucket, c.Calls*max(calls, 1))
			}
		}
		return nil
	})
	return rows, err
}

// differences runs a statement whose columns are a name, what stands in the books, and what the executions say.
func (b Books) differences(ctx context.Context, id book.ID, figures []figure, statement string, args ...any) ([]Difference, error) {
	var out []Difference
	err := b.query(ctx)(b.Bind(statement), args, func(row sqldb.Row) error {
		var where string
		values := make([]int64, 2*len(figures))
		to := []any{&where}
		for i := range values {
			to = append(to, &values[i])
		}
		if err := row.Scan(to...); err != nil {
			return err
		}
		for i, f := range figures {
			if have, want := values[i], values[len(figures)+i]; have != want {
				out = append(out, Difference{Tenant: id, Where: where, Column: f.column, Have: have, Want: want})
			}
		}
		return nil
	})
	return out, err
}

// NextDays returns so many whole days in UTC, of which the first is the first one, from a given time on, in which a tenant has
// executions or hours. It reports false where there is none.
func (b Books) NextDays(ctx context.Context, id book.ID, from time.Time, days int) (Range, bool, error) {
	descendants, err := b.hasDescendants(ctx, id)
	if err != nil {
		return Range{}, false, err
	}
	executions, args := b.counted(id, descendants)
	var first time.Time
	err = b.query(ctx)(b.Bind(`SELECT min(t) FROM (
			SELECT min(e.admitted_at) AS t FROM `+executions+` WHERE e.admitted_at >= ? AND `+Ended+`
			UNION ALL SELECT min(hour) FROM llm_usage WHERE tenant = ? AND hour >= ?
			UNION ALL SELECT min(hour) FROM llm_usage_units WHERE tenant = ? AND hour >= ?) x`),
		append(args, b.Time(from), id.String(), b.Time(from), id.String(), b.Time(from)),
		func(row sqldb.Row) error { return row.Scan(sqldb.Instant(&first)) })
	const day = 24 * time.Hour
	start := first.Truncate(day)
	return Range{From: start, To: start.Add(time.Duration(days) * day)}, !first.IsZero(), err
}

// DaysAtOnce is how many days, or other windows, are looked at in one statement, after a number of them took some time. It is more where a
// day has few calls, because most of what a statement takes does not depend on them then, and no more where a snapshot would stay open
// for long: that keeps a database from cleaning up.
func DaysAtOnce(days int, took time.Duration) int {
	const quick, slow, most = 50 * time.Millisecond, 500 * time.Millisecond, 1 << 10
	switch {
	case took < quick:
		return min(4*days, most)
	case took > slow:
		return max(days/4, 1)
	default:
		return days
	}
}

// Mend makes a tenant's balances and roll-up what its executions add up to. It runs in a short transaction of its caller,
// which has locked the tenant's anchor.
func (b Books) Mend(ctx context.Context, id book.ID) error {
	descendants, err := b.hasDescendants(ctx, id)
	if err != nil {
		return err
	}
	from, of := b.counted(id, descendants)
	for _, window := range []struct{ prefix, here, by string }{
		{"", "true", by}, {"day_", anchor, within("b.day_start", "b.day_end")}, {"month_", anchor, within("b.month_start", "b.month_end")},
	} {
		var (
			set  []string
			args []any
		)
		for _, f := range balanceFigures {
			set = append(set, window.prefix+f.column+" = (SELECT "+total(f.from)+" FROM "+from+" WHERE "+window.by+")")
			args = append(args, of...)
		}
		if _, err := b.Conn.ExecContext(ctx, b.Bind(`UPDATE llm_balances AS b SET `+strings.Join(set, ", ")+` WHERE b.tenant = ? AND `+window.here),
			append(args, id.String())...); err != nil {
			return fmt.Errorf("the balances: %w", err)
		}
	}
	columns, sums, zero, add := []string{}, []string{}, []string{"latencies = " + b.NoCounts}, []string{}
	for _, f := range hourFigures {
		columns = append(columns, f.column)
		sums = append(sums, total(f.from))
		zero = append(zero, f.column+" = 0")
		add = append(add, f.column+" = excluded."+f.column)
	}
	const key = "tenant, " + hourKey
	generation, latest := b.Latest("llm_usage u", b.same("u", "x"))
	// What was folded of the hours is not, any more.
	const changed = `INSERT INTO llm_usage_late (tenant, hour) SELECT DISTINCT tenant, hour FROM llm_usage WHERE tenant = ?`
	// Refusals are nowhere else: they stay.
	for _, statement := range []struct {
		sql  string
		args []any
	}{
		{changed, []any{id.String()}},
		{`DELETE FROM llm_usage WHERE tenant = ? AND refusals = 0`, []any{id.String()}},
		{`UPDATE llm_usage SET ` + strings.Join(zero, ", ") + ` WHERE tenant = ?`, []any{id.String()}},
		{`INSERT INTO llm_usage (` + key + `, ` + strings.Join(columns, ", ") + generation + `)
			SELECT x.*` + latest + ` FROM (SELECT CAST(? AS ` + b.UUID + `) AS tenant, ` + b.hourOf() + `, ` + strings.Join(sums, ", ") + `
			FROM ` + from + ` WHERE ` + Ended + ` GROUP BY 2, 3, 4, 5, 6, 7, 8) x WHERE true
			ON CONFLICT (` + key + generation + `) DO UPDATE SET ` + strings.Join(add, ", "), append([]any{id.String()}, of...)},
		{`DELETE FROM llm_usage_units WHERE tenant = ?`, []any{id.String()}},
		{`INSERT INTO llm_usage_units (` + key + `, unit, amount)
			SELECT CAST(? AS ` + b.UUID + `), ` + b.hourOf() + `, ` + sqldb.UnitName + `, ` + total(sqldb.UnitAmount) + `
			FROM ` + from + ` ` + b.EachUnit() + ` WHERE e.units IS NOT NULL AND ` + Ended + ` GROUP BY 2, 3, 4, 5, 6, 7, 8, 9`, append([]any{id.String()}, of...)},
		{changed, []any{id.String()}},
	} {
		if _, err := b.Conn.ExecContext(ctx, b.Bind(statement.sql), statement.args...); err != nil {
			return fmt.Errorf("the roll-up: %w", err)
		}
	}
	return b.mendLatencies(ctx, id, descendants)
}

// mendLatencies enters how many calls took how long in a roll-up that has nothing of it.
func (b Books) mendLatencies(ctx context.Context, id book.ID, descendants bool) error {
	rows, err := b.latencies(ctx, id, Ever, descendants)
	if err != nil {
		return err
	}
	where := strings.ReplaceAll("tenant, "+hourKey, ", ", " = ? AND ") + " = ?"
	latest := ""
	if generation, _ := b.Latest("", ""); generation != "" {
		latest = ` AND generation = (SELECT max(generation) FROM llm_usage u WHERE ` + b.same("u", "llm_usage") + `)`
	}
	for _, t := range rows {
		counts := t.want.Text()
		if b.NoCounts == "0" {
			counts = t.want.Number()
		}
		if _, err := b.Conn.ExecContext(ctx, b.Bind(`UPDATE llm_usage SET latencies = `+b.Counts("?")+` WHERE `+where+latest),
			append([]any{counts}, t.key...)...); err != nil {
			return fmt.Errorf("the roll-up: %w", err)
		}
	}
	return nil
}

// same is the condition that two rows of the roll-up are of the same calls.
func (Books) same(a, b string) string {
	var equal []string
	for _, column := range strings.Split("tenant, "+hourKey, ", ") {
		equal = append(equal, a+"."+column+" = "+b+"."+column)
	}
	return strings.Join(equal, " AND ")
}

// limited are the balances of a tenant that it has for limits, beside those that every tenant has.
func limited() string {
	var standing []string
	for _, s := range book.Standing {
		standing = append(standing, "'"+s.Window.String()+"'")
	}
	return ` FROM llm_balances WHERE tenant = ? AND (agent <> '' OR model <> '' OR window_unit NOT IN (` + strings.Join(standing, ", ") + `))`
}

// Beyond reports whether a tenant has balances that nobody needs any more: the tenant was deleted and belongs to no record, nothing
// of it is running, and it has them for limits that it had.
func (b Books) Beyond(ctx context.Context, id book.ID) (bool, error) {
	return b.any(ctx, `SELECT 1`+limited()+`
		AND EXISTS (SELECT 1 FROM llm_tenants t WHERE t.id = llm_balances.tenant AND t.deleted_at IS NOT NULL AND t.owner_type IS NULL)
		AND EXISTS (SELECT 1 FROM llm_balances a WHERE a.tenant = llm_balances.tenant AND a.window_unit = 'total'
			AND a.agent = '' AND a.model = '' AND a.held_calls = 0) LIMIT 1`, id.String())
}

// DropBeyond removes them. It runs in a short transaction of its caller, which has locked the tenant's anchor. It is two statements: Citus
// deletes nothing from a table that it does not keep by what stands in one that it does.
func (b Books) DropBeyond(ctx context.Context, id book.ID) error {
	beyond, err := b.Beyond(ctx, id)
	if err != nil || !beyond {
		return err
	}
	_, err = b.Conn.ExecContext(ctx, b.Bind(`DELETE`+limited()), id.String())
	return err
}
