package books

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"sort"
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
// transaction: such a day is read by its hours until it is folded anew. The hours since the last day are folded of everybody.

// Everybody has the folded days and months of all tenants' calls together, by the dimensions of the roll-up; EachTenant has them by
// tenant alone.
var (
	Everybody  = uuid.UUID{15: 2}
	EachTenant = uuid.UUID{15: 3}
)

// settled is how long a day has been over when it is folded. It is longer than book.Late by far more than a transaction takes.
const settled = book.Late + time.Hour

// Zones are the time zones of tenants, and the tags that are rolled up.
type Zones struct {
	Ledger string // the zone of tenants that have none
	Load   func(name string) *time.Location
	Tags   []string
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
	return (q.rolled() || q.tag() != "") && slices.ContainsFunc(q.Spans, func(s Span) bool { return s.To.Sub(s.From) > most })
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
		if r.tag != a.tag() || r.unit == period.Hour && !a.hasHours() {
			continue
		}
		if w, ok := r.windows(a.Spans, zones, a.At.Add(-book.Late)); ok {
			s.of = append(s.of, w)
		}
	}
	if len(s.of) == 0 {
		return nil
	}
	// Months before days, days before hours.
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

// whatChanges is two expressions: the version of what is folded, and how many hours have changed since.
func (a *answer) whatChanges() (version, late string, args []any) {
	from, args := a.lateOf()
	return "(SELECT version FROM llm_usage_folds WHERE window_unit = 'total')", "(SELECT count(*)" + from + ")", args
}

// unchanged reports whether what is folded is what was looked up.
func (a *answer) unchanged(ctx context.Context) (is bool, err error) {
	version, late, args := a.whatChanges()
	err = a.query(ctx)(a.Bind(`SELECT `+version+`, `+late), args, func(row sqldb.Row) error {
		var now, changed int64
		err := row.Scan(&now, &changed)
		is = a.is(now, changed)
		return err
	})
	return is, err
}

// is reports whether what is folded was looked up at a version, when so many hours had changed.
func (a *answer) is(version, changed int64) bool {
	return version == a.state.version && changed == int64(len(a.state.late))
}

// guard adds a row that says whether what is folded is what was looked up.
func (a *answer) guard() {
	version, late, args := a.whatChanges()
	columns := strings.ReplaceAll(a.columns("0", a.NoCounts), " AS amount", "")
	a.parts = append(a.parts, `SELECT -1 AS span, `+version+` AS period, '' AS k0, '' AS k1, `+columns+`, '' AS unit, `+late+` AS amount`)
	a.args = append(a.args, args...)
}

// windows adds up what is folded of some spans.
func (a *answer) windows(ctx context.Context, covers []cover) error {
	r := windowReader{answer: a, covers: covers, ids: map[string]string{}, each: map[lineKey][]*book.HourSum{}}
	for k := range a.state.of {
		var pieces []piece
		for _, c := range covers {
			pieces = append(pieces, c.folded[k]...)
		}
		slices.SortFunc(pieces, func(x, y piece) int { return x.From.Compare(y.From) })
		// Pieces that are close to each other are read at once.
		for len(pieces) > 0 {
			whole, n := pieces[0].Range, 1
			for ; n < len(pieces) && pieces[n].From.Sub(whole.To) < slice; n++ {
				if pieces[n].To.After(whole.To) {
					whole.To = pieces[n].To
				}
			}
			if err := r.read(ctx, k, whole); err != nil {
				return err
			}
			pieces = pieces[n:]
		}
	}
	return nil
}

// windowReader reads folded windows.
type windowReader struct {
	*answer
	packed unpacker
	covers []cover
	ids    map[string]string // of tenants, by their bytes

	// each has the lines of each tenant, by the number of its text: they are looked up for each tenant in each window.
	each map[lineKey][]*book.HourSum
}

// read adds up the windows of the k-th kind that begin in a range.
func (r *windowReader) read(ctx context.Context, k int, in Range) error {
	w := r.state.of[k]
	who, args := "tenant = ?", []any{w.zone, w.unit.String(), r.tag(), r.Time(in.From), r.Time(in.To)}
	tenants := r.Everybody && slices.ContainsFunc(r.By, func(g Group) bool { return g.Dimension == ByTenant })
	switch {
	case tenants && len(r.By) == 1:
		args = append(args, eachTenant)
	case tenants:
		who, args = "tenant <> ? AND tenant <> ?", append(args, Everybody.String(), eachTenant)
	default:
		args = append(args, r.record().String())
	}
	var (
		tenant string
		start  time.Time
		sums   sql.RawBytes // not copied: they are large, and read at once
	)
	return r.query(ctx)(r.Bind(`SELECT CAST(tenant AS text), window_start, sums FROM llm_usage_windows
		WHERE time_zone = ? AND window_unit = ? AND tag = ? AND window_start >= ? AND window_start < ? AND `+who), args, func(row sqldb.Row) error {
		if err := row.Scan(&tenant, sqldb.Instant(&start), &sums); err != nil {
			return err
		}
		for span, c := range r.covers {
			of := c.folded[k]
			i := sort.Search(len(of), func(i int) bool { return of[i].From.After(start) }) - 1
			if i < 0 || !start.Before(of[i].To) {
				continue
			}
			if err := r.window(sums, tenant, lineKey{span: span, period: of[i].period}); err != nil {
				return err
			}
		}
		return nil
	})
}

// window adds up the lines of a window.
func (r *windowReader) window(sums []byte, tenant string, of lineKey) error {
	line := func(k *foldKeys) *book.HourSum {
		if k.below && (r.Alone || r.Everybody) {
			return nil
		}
		l := of
		for i, g := range r.By {
			l.keys[i] = r.keyOf(g.Dimension, k, tenant)
		}
		return r.line(l)
	}
	if tenant != eachTenant {
		return r.packed.add(sums, line)
	}
	each := r.each[of]
	err := r.packed.add(sums, func(k *foldKeys) *book.HourSum {
		n := r.packed.first
		if n >= len(each) {
			each = append(each, make([]*book.HourSum, n+1-len(each))...)
		}
		if each[n] == nil {
			each[n] = line(k)
		}
		return each[n]
	})
	r.each[of] = each
	return err
}

// keyOf is the key of a line of a tenant's window in a dimension.
func (r *windowReader) keyOf(d Dimension, k *foldKeys, tenant string) string {
	switch d {
	case ByTenant:
		if tenant != eachTenant {
			return tenant
		}
		id, ok := r.ids[k.names[0]]
		if !ok {
			id = uuid.UUID([]byte(k.names[0])).String()
			r.ids[k.names[0]] = id
		}
		return id
	case ByAgent, ByTag:
		return k.names[0]
	case ByAsked:
		return k.names[1]
	case ByBilled:
		return cmp.Or(k.names[2], k.names[1])
	case ByProvider:
		return k.names[3]
	default:
		return k.names[4]
	}
}

var eachTenant = EachTenant.String()

// record is what is folded of one kind of windows: those between two times. That of no window is there once, and locked by
// whoever folds.
type record struct {
	tenant   book.ID
	zone     string
	unit     period.Window
	tag      string
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
	err = b.query(ctx)(b.Bind(`SELECT tenant, time_zone, window_unit, tag, starts_at, ends_at, offsets, version FROM llm_usage_folds`+in), args,
		func(row sqldb.Row) error {
			var (
				r    record
				unit string
			)
			if err := row.Scan(&r.tenant, &r.zone, &unit, &r.tag, sqldb.Instant(&r.from), sqldb.Instant(&r.to), &r.offsets, &r.version); err != nil {
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

// hoursOf adds the rows of the roll-up by their dimensions, and of calls in hours that are cut; those count for the tenants above as well.
// By a tag, its value stands in the place of the first dimension, and there are no others.
func (a *answer) hoursOf(c cover) {
	tag := a.tag()
	mine, above := "true", ""
	var who []any
	if !a.Everybody {
		mine, above, who = "e.tenant = ?", " AND "+a.Parent()+" = ?", []any{a.Tenant.String()}
	}
	add := func(pieces []piece, tenant, below string, from source, where string, args []any) {
		if len(pieces) == 0 {
			return
		}
		named := "e.agent, e.model, e.billed_model, e.provider, e.service_tier, "
		if tag != "" {
			value, of := a.key(a.By[0], from)
			a.args = append(a.args, of...)
			named = value + " AS agent, '' AS model, '' AS billed_model, '' AS provider, '' AS service_tier, "
		}
		at, rows := a.within(pieces, from, where, args)
		a.parts = append(a.parts, "SELECT "+at+" AS period, "+tenant+" AS tenant, "+named+below+" AS below, "+from.columns+" FROM "+rows)
	}
	hours := source{table: "llm_usage", at: "hour", rolled: true, columns: a.columns("e.@", "e.latencies") + noUnit}
	add(c.hours, "e.tenant", "e.below", hours, mine, who)
	units := source{table: "llm_usage_units", at: "hour", rolled: true, columns: a.columns("0", a.NoCounts) + ", e.unit, e.amount"}
	add(c.hours, "e.tenant", "e.below", units, mine, who)
	hours.columns = a.refused()
	add(c.cut, "e.tenant", "e.below", hours, "e.refusals > 0 AND "+mine, who)
	calls, each := a.callsAndUnits()
	for _, from := range []source{calls, each, a.pruned(calls), a.pruned(each)} {
		if len(c.calls) == 0 {
			break
		}
		add(c.calls, "e.tenant", "false", from, and(from.where, mine), who)
		from.joins += " " + a.EachParent()
		add(c.calls, a.Parent(), "true", from, and("e.parents <> '{}'", from.where), nil)
		a.parts[len(a.parts)-1] += above // which only what comes after the join knows
		a.args = append(a.args, who...)
	}
}
