package books

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// The roll-up by the hour is written by whoever books a call. Days and months are folded from it when they have been over for a
// while, which nobody waits for: of all tenants, and of everybody together, in the ledger's time zone; of a tenant that has
// another zone, in its own as well. Who changes an hour that may be folded already says so in llm_usage_late, in the same
// transaction: such a day is read by its hours until it is folded anew.

// Everybody has the folded days and months of all tenants' calls together.
var Everybody = uuid.UUID{15: 2}

// settled is how long a day has been over when it is folded. It is longer than book.Late by far more than a transaction takes.
const settled = book.Late + time.Hour

// Zones are the time zones of tenants.
type Zones struct {
	Ledger string // the zone of tenants that have none
	Load   func(name string) *time.Location
}

// folds are what is folded and of use to a question.
type folds struct {
	of      []foldedWindows
	version int64
	late    []time.Time // hours that have changed since
}

func (a *answer) folded() bool { return len(a.state.of) > 0 }

// long reports whether a question is about a time in which there may be a whole day.
func (q *Question) long() bool {
	const most = 20 * time.Hour
	return q.rolled() && slices.ContainsFunc(q.Spans, func(s Span) bool { return s.To.Sub(s.From) > most })
}

// of is whose folded windows a question is about: a tenant's own, or everybody's.
func (q *Question) record() book.ID {
	if q.Everybody {
		return Everybody
	}
	return q.Tenant
}

// maxLate is how many changed hours a question looks at.
const maxLate = 10_000

// look finds out what is folded.
func (a *answer) look(ctx context.Context, zones Zones) error {
	s := &a.state
	records, err := a.records(ctx, Everybody, a.record())
	if err != nil {
		return err
	}
	for _, r := range records {
		if r.unit == period.Total {
			s.version = r.version
			continue
		}
		if w, ok := r.windows(a.Spans, zones, a.At.Add(-book.Late)); ok {
			s.of = append(s.of, w)
		}
	}
	if len(s.of) == 0 {
		return nil
	}
	// Months before days.
	slices.SortStableFunc(s.of, func(x, y foldedWindows) int { return int(y.unit) - int(x.unit) })
	from, who := a.lateOf()
	err = a.query(ctx)(a.Bind(`SELECT hour`+from+` LIMIT ?`), append(who, maxLate+1), func(row sqldb.Row) error {
		var hour time.Time
		err := row.Scan(sqldb.Instant(&hour))
		s.late = append(s.late, hour)
		return err
	})
	if err != nil {
		return err
	}
	if len(s.late) > maxLate {
		*s = folds{}
	}
	for _, hour := range s.late {
		for i := range s.of {
			s.of[i].touch(hour)
		}
	}
	return nil
}

func (a *answer) lateOf() (from string, args []any) {
	if a.Everybody {
		return " FROM llm_usage_late", nil
	}
	return " FROM llm_usage_late WHERE tenant = ?", []any{a.Tenant.String()}
}

// guard adds a row that says whether what is folded is what was looked up.
func (a *answer) guard() {
	from, args := a.lateOf()
	columns := strings.ReplaceAll(a.columns("0", a.NoCounts), " AS amount", "")
	a.parts = append(a.parts, `SELECT -1 AS span, (SELECT version FROM llm_usage_folds WHERE window_unit = 'total') AS period, '' AS k0, '' AS k1, `+
		columns+`, '' AS unit, (SELECT count(*)`+from+`) AS amount`)
	a.args = append(a.args, args...)
}

// windows adds the rows of folded windows.
func (a *answer) windows(i int, pieces []piece, w foldedWindows) {
	if len(pieces) == 0 {
		return
	}
	from := source{
		table: "llm_usage_windows", at: "window_start", rolled: true, where: "e.window_unit = ? AND e.time_zone = ?",
		columns: a.columns("e.@", "e.latencies") + ", e.unit, e.amount", args: []any{w.unit.String(), w.zone},
	}
	switch {
	case !a.Everybody:
		a.rows(i, pieces, from)
	case slices.ContainsFunc(a.By, func(g Group) bool { return g.Dimension == ByTenant }):
		a.add(i, pieces, from, "NOT e.below AND e.tenant <> '"+Everybody.String()+"'")
	default:
		a.add(i, pieces, from, "e.tenant = '"+Everybody.String()+"'")
	}
}

// record is what is folded of one kind of windows: those between two times. That of no window is there once, and locked by
// whoever folds.
type record struct {
	tenant   book.ID
	zone     string
	unit     period.Window
	from, to time.Time
	offsets  string // of the zone in the years of the windows, as whoever folds them sees it
	version  int64
}

func (b Books) records(ctx context.Context, tenants ...book.ID) (found []record, err error) {
	in, args := "", []any{}
	if len(tenants) > 0 {
		in = " WHERE window_unit = 'total' OR tenant IN (" + sqldb.Marks(len(tenants)) + ")"
		for _, id := range tenants {
			args = append(args, id.String())
		}
	}
	err = b.query(ctx)(b.Bind(`SELECT tenant, time_zone, window_unit, starts_at, ends_at, offsets, version FROM llm_usage_folds`+in), args,
		func(row sqldb.Row) error {
			var (
				r    record
				unit string
			)
			if err := row.Scan(&r.tenant, &r.zone, &unit, sqldb.Instant(&r.from), sqldb.Instant(&r.to), &r.offsets, &r.version); err != nil {
				return err
			}
			r.unit, err = period.ParseWindow(unit)
			found = append(found, r)
			return err
		})
	return found, err
}

// offsetsOf is what a zone does in the years of some windows.
func offsetsOf(loc *time.Location, from, to time.Time) string {
	year := from.UTC().Year() - 1
	return strings.Join(period.Offsets(loc, year, to.UTC().Year()+2-year), " ")
}

// windows are those of a record that may lie in some spans. There are none where this process sees the zone otherwise.
// Nor are those that end after a time: a clock that went back has come to an hour again, and what changes it is not late.
func (r *record) windows(spans []Span, zones Zones, until time.Time) (w foldedWindows, ok bool) {
	loc := zones.Load(r.zone)
	if !r.from.Before(r.to) || loc == nil || offsetsOf(loc, r.from, r.to) != r.offsets {
		return w, false
	}
	from, to := r.to, r.from
	for _, s := range spans {
		if s.From.Before(from) {
			from = s.From
		}
		if s.To.After(to) {
			to = s.To
		}
	}
	if from.Before(r.from) {
		from = r.from
	}
	if to.After(r.to) {
		to = r.to
	}
	w = foldedWindows{unit: r.unit, zone: r.zone}
	for at := from; at.Before(to); {
		start, end := period.Bounds(r.unit, at, loc, time.Monday)
		if end.After(until) {
			break
		}
		if !start.Before(r.from) {
			w.starts = append(w.starts, start)
		}
		at = end
	}
	if len(w.starts) == 0 {
		return w, false
	}
	_, end := period.Bounds(r.unit, w.starts[len(w.starts)-1], loc, time.Monday)
	w.starts = append(w.starts, end)
	w.stale = make([]bool, len(w.starts)-1)
	return w, true
}

// dimensions are the columns that name a row of a folded window within its tenant, but what it has used by the piece.
const dimensions = "agent, model, billed_model, provider, service_tier, below"

// Fold brings days and months up to date, as far as a short transaction of its caller goes. It reports whether there is more to
// do. Nobody else folds meanwhile.
func (b Books) Fold(ctx context.Context, zones Zones, budget time.Duration) (more bool, err error) {
	started := time.Now()
	const total = ` WHERE window_unit = 'total'`
	if _, err := b.Conn.ExecContext(ctx, `UPDATE llm_usage_folds SET version = version + 1`+total); err != nil {
		return false, err
	}
	var now time.Time
	if err := b.query(ctx)(`SELECT `+b.Clock, nil, func(row sqldb.Row) error { return row.Scan(sqldb.Instant(&now)) }); err != nil {
		return false, err
	}
	f := folder{Books: b, zones: zones, until: now.Add(-settled)}
	if f.all, err = b.records(ctx); err != nil {
		return false, err
	}
	if slices.ContainsFunc(f.all, func(r record) bool { return r.unit == period.Total && now.Before(r.to) }) {
		// The clock went back: what was changed since is not known.
		if _, err := b.Conn.ExecContext(ctx, `DELETE FROM llm_usage_folds WHERE window_unit <> 'total'`); err != nil {
			return false, err
		}
		f.all = nil
	}
	if _, err := b.Conn.ExecContext(ctx, b.Bind(`UPDATE llm_usage_folds SET ends_at = ?`+total), b.Time(now)); err != nil {
		return false, err
	}
	if err := f.want(ctx); err != nil {
		return false, err
	}
	if more, err = f.again(ctx); more || err != nil {
		return more, err
	}
	for i := range f.all {
		r := &f.all[i]
		for r.unit == period.Day {
			done, err := f.next(ctx, r)
			if err != nil {
				return false, err
			}
			if done {
				break
			}
			if time.Since(started) > budget {
				return true, nil
			}
		}
	}
	return false, nil
}

// folder folds.
type folder struct {
	Books
	zones Zones
	until time.Time // what ends before it is folded
	all   []record
}

// want adds the records that should be there: of all tenants in the ledger's zone, and of each that has another one.
func (f *folder) want(ctx context.Context) error {
	wanted := []record{{tenant: Everybody, zone: f.zones.Ledger}}
	err := f.query(ctx)(f.Bind(`SELECT id, time_zone FROM llm_tenants WHERE time_zone <> '' AND time_zone <> ?`), []any{f.zones.Ledger},
		func(row sqldb.Row) error {
			var r record
			err := row.Scan(&r.tenant, &r.zone)
			wanted = append(wanted, r)
			return err
		})
	if err != nil {
		return err
	}
	for _, r := range wanted {
		for _, unit := range []period.Window{period.Day, period.Month} {
			r.unit = unit
			if f.zones.Load(r.zone) != nil && f.record(r.tenant, r.zone, unit) == nil {
				f.all = append(f.all, r)
			}
		}
	}
	return nil
}

func (f *folder) record(tenant book.ID, zone string, unit period.Window) *record {
	for i := range f.all {
		if r := &f.all[i]; r.tenant == tenant && r.zone == zone && r.unit == unit {
			return r
		}
	}
	return nil
}

// store keeps a record.
func (f *folder) store(ctx context.Context, r *record) error {
	r.offsets = offsetsOf(f.zones.Load(r.zone), r.from, r.to)
	_, err := f.Conn.ExecContext(ctx, f.Bind(`INSERT INTO llm_usage_folds (tenant, time_zone, window_unit, starts_at, ends_at, offsets)
		VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, time_zone, window_unit) DO UPDATE
		SET starts_at = excluded.starts_at, ends_at = excluded.ends_at, offsets = excluded.offsets`),
		r.tenant.String(), r.zone, r.unit.String(), f.Time(r.from), f.Time(r.to), r.offsets)
	return err
}

// next folds the next day of a record, and the month that ends with it. It reports whether there is none yet.
func (f *folder) next(ctx context.Context, r *record) (done bool, err error) {
	loc := f.zones.Load(r.zone)
	if loc == nil || !r.from.IsZero() && offsetsOf(loc, r.from, r.to) != r.offsets {
		return true, nil // whoever sees the zone as it was folded goes on
	}
	at, err := f.nextHour(ctx, r)
	if err != nil || at.IsZero() {
		return true, err
	}
	if !r.from.IsZero() && at.Before(r.to) {
		at = r.to
	}
	start, end := period.Bounds(period.Day, at, loc, time.Monday)
	if end.After(f.until) {
		return true, nil
	}
	if err := f.forget(ctx, r, start); err != nil {
		return false, err
	}
	if err := f.fold(ctx, r, start, end); err != nil {
		return false, err
	}
	if r.from.IsZero() {
		r.from = start
	}
	r.to = end
	if err := f.store(ctx, r); err != nil {
		return false, err
	}
	return false, f.months(ctx, r)
}

// forget removes what was folded once of the days between those of a record and a time, in which there is nothing now.
func (f *folder) forget(ctx context.Context, r *record, until time.Time) error {
	from := r.to
	if r.to.IsZero() {
		from = earliest
	}
	who, of := f.whose(r)
	_, err := f.Conn.ExecContext(ctx, f.Bind(`DELETE FROM llm_usage_windows WHERE time_zone = ? AND window_start >= ? AND window_start < ? AND `+who),
		append([]any{r.zone, f.Time(from), f.Time(until)}, of...)...)
	return err
}

// nextHour is the first hour of the roll-up that is not folded; zero where there is none.
func (f *folder) nextHour(ctx context.Context, r *record) (at time.Time, err error) {
	from := r.to.Add(-time.Hour)
	if r.to.IsZero() {
		from = earliest
	}
	statement, args := `SELECT min(hour) FROM llm_usage WHERE hour > ?`, []any{f.Time(from)}
	if r.tenant != Everybody {
		statement, args = statement+` AND tenant = ?`, append(args, r.tenant.String())
	}
	err = f.query(ctx)(f.Bind(statement), args, func(row sqldb.Row) error { return row.Scan(sqldb.Instant(&at)) })
	return at, err
}

// months folds the months that the days of a record have reached the end of.
func (f *folder) months(ctx context.Context, days *record) error {
	loc := f.zones.Load(days.zone)
	m := f.record(days.tenant, days.zone, period.Month)
	if m.from.IsZero() {
		// The first days of the first month have nothing.
		m.from, _ = period.Bounds(period.Month, days.from, loc, time.Monday)
		m.to = m.from
	}
	for {
		start, end := period.Bounds(period.Month, m.to, loc, time.Monday)
		if end.After(days.to) {
			return nil
		}
		if err := f.foldMonth(ctx, m, start, end); err != nil {
			return err
		}
		m.to = end
		if err := f.store(ctx, m); err != nil {
			return err
		}
	}
}

// whose is the condition on the rows of folded windows that a record has, and its argument.
func (f *folder) whose(r *record) (condition string, args []any) {
	if r.tenant == Everybody {
		return "tenant <> ?", []any{Everybody.String()}
	}
	return "tenant = ?", []any{r.tenant.String()}
}

// sums are the columns of a folded window that are added up, with what adds them up.
func (f *folder) sums() (columns, totals string) {
	var sum []string
	list := []string{"amount"}
	for _, s := range summed {
		list = append(list, s.column)
	}
	for _, column := range list {
		sum = append(sum, "CAST(sum("+column+") AS bigint) AS "+column)
	}
	return strings.Join(list, ", ") + ", latencies", strings.Join(sum, ", ") + ", " + f.MergedCounts("latencies") + " AS latencies"
}

// fold writes the days of a record that begin at a time, and everybody's.
func (f *folder) fold(ctx context.Context, r *record, start, end time.Time) error {
	a := answer{Books: f.Books, Question: Question{Tenant: r.tenant, Everybody: r.tenant == Everybody}}
	c := a.cover(Span{Range: Range{start, end}})
	a.hoursOf(c)
	return f.write(ctx, r, period.Day, start, end, `(`+strings.Join(a.parts, " UNION ALL ")+`) x`, a.args)
}

// foldMonth writes the months of a record that begin at a time, of their days.
func (f *folder) foldMonth(ctx context.Context, r *record, start, end time.Time) error {
	who, args := f.whose(r)
	return f.write(ctx, r, period.Month, start, end,
		`llm_usage_windows WHERE window_unit = 'day' AND time_zone = ? AND window_start >= ? AND window_start < ? AND `+who,
		append([]any{r.zone, f.Time(start), f.Time(end)}, args...))
}

// write writes the windows of a record that begin at a time, by rows of their dimensions.
func (f *folder) write(ctx context.Context, r *record, unit period.Window, start, end time.Time, from string, args []any) error {
	columns, totals := f.sums()
	who, of := f.whose(r)
	const window = `window_unit = ? AND time_zone = ? AND window_start >= ? AND window_start < ?`
	which := []any{unit.String(), r.zone, f.Time(start), f.Time(end)}
	into := `INSERT INTO llm_usage_windows (window_unit, time_zone, window_start, tenant, ` + dimensions + `, unit, ` + columns + `)
		SELECT CAST(? AS text), CAST(? AS text), ` + f.Instant() + `, `
	begin := []any{unit.String(), r.zone, f.Time(start)}
	group := ` FROM (SELECT %s, unit, ` + totals + ` FROM ` + `%s GROUP BY %s, unit) y`
	statements := []struct {
		sql  string
		args []any
	}{
		{`DELETE FROM llm_usage_windows WHERE ` + window + ` AND ` + who, append(slices.Clone(which), of...)},
		{into + `tenant, ` + dimensions + `, unit, ` + f.compact(columns) + fmt.Sprintf(group, "tenant, "+dimensions, from, "tenant, "+dimensions), append(slices.Clone(begin), args...)},
	}
	if r.tenant == Everybody {
		const own = "agent, model, billed_model, provider, service_tier"
		statements = append(statements, []struct {
			sql  string
			args []any
		}{
			{`DELETE FROM llm_usage_windows WHERE ` + window + ` AND tenant = ?`, append(slices.Clone(which), Everybody.String())},
			{into + `CAST('` + Everybody.String() + `' AS ` + f.UUID + `), ` + own + `, false, unit, ` + f.compact(columns) +
				fmt.Sprintf(group, own, `llm_usage_windows WHERE `+window+` AND tenant <> '`+Everybody.String()+`' AND NOT below`, own), append(slices.Clone(begin), which...)},
		}...)
	}
	for _, s := range statements {
		if _, err := f.Conn.ExecContext(ctx, f.Bind(s.sql), s.args...); err != nil {
			return fmt.Errorf("folding a %v of %v: %w", unit, r.zone, err)
		}
	}
	return nil
}

// compact is columns, with the counts of latencies in their shortest form.
func (f *folder) compact(columns string) string {
	return strings.TrimSuffix(columns, "latencies") + f.CompactCounts("latencies")
}

// hoursOf adds the rows of the roll-up by their dimensions, and of calls in hours that are cut; those count for the tenants above as well.
func (a *answer) hoursOf(c cover) {
	const named = "e.tenant AS tenant, e.agent, e.model, e.billed_model, e.provider, e.service_tier, "
	mine, above := "true", "true"
	var who []any
	if !a.Everybody {
		mine, above, who = "e.tenant = ?", a.Parent()+" = ?", []any{a.Tenant.String()}
	}
	add := func(pieces []piece, named string, from source, where string) {
		for n := range pieces {
			_, rows := a.within(pieces[n:n+1], from, where, who)
			a.parts = append(a.parts, "SELECT "+named+from.columns+" FROM "+rows)
		}
	}
	own := named + "e.below, "
	hours := source{table: "llm_usage", at: "hour", columns: a.columns("e.@", "e.latencies") + noUnit}
	add(c.hours, own, hours, mine)
	add(c.hours, own, source{table: "llm_usage_units", at: "hour", columns: a.columns("0", a.NoCounts) + ", e.unit, e.amount"}, mine)
	hours.columns = a.refused()
	add(c.cut, own, hours, "e.refusals > 0 AND "+mine)
	calls, each := a.callsAndUnits()
	for _, from := range []source{calls, each, a.pruned(calls), a.pruned(each)} {
		add(c.calls, named+"false AS below, ", from, and(from.where, mine))
		from.joins += " " + a.EachParent()
		add(c.calls, a.Parent()+strings.TrimPrefix(named, "e.tenant")+"true AS below, ", from, and("e.parents <> '{}'", from.where, above))
	}
}

// again folds anew what has changed since it was folded. It reports whether anything had.
func (f *folder) again(ctx context.Context) (bool, error) {
	const atOnce = 500
	type change struct {
		tenant book.ID
		hour   time.Time
	}
	var (
		changes   []change
		ids       []any
		forgotten []record
	)
	err := f.query(ctx)(f.Bind(`SELECT id, tenant, hour FROM llm_usage_late ORDER BY id LIMIT ?`), []any{atOnce}, func(row sqldb.Row) error {
		var (
			id int64
			c  change
		)
		err := row.Scan(&id, &c.tenant, sqldb.Instant(&c.hour))
		ids, changes = append(ids, id), append(changes, c)
		return err
	})
	if err != nil || len(ids) == 0 {
		return false, err
	}
	slices.SortFunc(f.all, func(x, y record) int { return int(x.unit) - int(y.unit) }) // months are folded of days
	for i := range f.all {
		r := &f.all[i]
		loc := f.zones.Load(r.zone)
		if r.unit == period.Total || r.from.IsZero() {
			continue
		}
		mine := slices.DeleteFunc(slices.Clone(changes), func(c change) bool { return r.tenant != Everybody && r.tenant != c.tenant })
		earlier := slices.ContainsFunc(mine, func(c change) bool { return r.unit == period.Day && c.hour.Before(r.from) })
		if earlier || len(mine) > 0 && (loc == nil || offsetsOf(loc, r.from, r.to) != r.offsets) {
			// What comes before all that is folded, and what cannot be folded here as it was, is folded from the start.
			if _, err := f.Conn.ExecContext(ctx, f.Bind(`DELETE FROM llm_usage_folds WHERE tenant = ? AND time_zone = ?`), r.tenant.String(), r.zone); err != nil {
				return false, err
			}
			forgotten = append(forgotten, *r)
		}
		if slices.ContainsFunc(forgotten, func(o record) bool { return o.tenant == r.tenant && o.zone == r.zone }) {
			continue
		}
		seen := map[time.Time]bool{}
		for _, c := range mine {
			for at := c.hour; at.Before(c.hour.Add(time.Hour)); {
				start, end := period.Bounds(r.unit, at, loc, time.Monday)
				if at = end; seen[start] || start.Before(r.from) || end.After(r.to) {
					continue
				}
				seen[start] = true
				fold := f.fold
				if r.unit == period.Month {
					fold = f.foldMonth
				}
				if err := fold(ctx, r, start, end); err != nil {
					return false, err
				}
			}
		}
	}
	_, err = f.Conn.ExecContext(ctx, f.Bind(`DELETE FROM llm_usage_late WHERE id IN (`+sqldb.Marks(len(ids))+`)`), ids...)
	return true, err
}
