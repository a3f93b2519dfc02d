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

// dimensions are the columns that name a row of a folded window within its tenant, but what it has used by the piece.
const dimensions = "agent, model, billed_model, provider, service_tier"

// mostAtOnce is how many days are folded in one statement at most: all of them are in memory.
const mostAtOnce = 31

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
		for days := 1; r.unit == period.Day; {
			began := time.Now()
			done, err := f.next(ctx, r, days)
			if err != nil {
				return false, err
			}
			if done {
				break
			}
			days = min(DaysAtOnce(days, time.Since(began)), mostAtOnce)
			if time.Since(started) > budget {
				return true, nil
			}
		}
	}
	return f.hours(ctx, started.Add(budget))
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
	err := f.query(ctx)(f.Bind(`SELECT id, time_zone FROM llm_tenants WHERE time_zone <> '' AND time_zone <> ? AND id <> ?`), []any{f.zones.Ledger, book.Defaults.String()},
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
		if f.zones.Load(r.zone) == nil {
			continue
		}
		for _, r.tag = range append([]string{""}, f.zones.Tags...) {
			for _, r.unit = range []period.Window{period.Day, period.Month} {
				if f.record(&r) == nil {
					f.all = append(f.all, r)
				}
			}
		}
	}
	if hours := hoursOfEverybody(); f.record(&hours) == nil {
		f.all = append(f.all, hours)
	}
	return nil
}

// record returns the one that is of the same windows; nil where there is none.
func (f *folder) record(of *record) *record {
	for i := range f.all {
		if r := &f.all[i]; r.tenant == of.tenant && r.zone == of.zone && r.unit == of.unit && r.tag == of.tag {
			return r
		}
	}
	return nil
}

// store keeps a record.
func (f *folder) store(ctx context.Context, r *record) error {
	r.offsets = offsetsOf(f.zones.Load(r.zone), r.from, r.to)
	_, err := f.Conn.ExecContext(ctx, f.Bind(`INSERT INTO llm_usage_folds (tenant, time_zone, window_unit, tag, starts_at, ends_at, offsets)
		VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, time_zone, window_unit, tag) DO UPDATE
		SET starts_at = excluded.starts_at, ends_at = excluded.ends_at, offsets = excluded.offsets`),
		r.tenant.String(), r.zone, r.unit.String(), r.tag, f.Time(r.from), f.Time(r.to), r.offsets)
	return err
}

// next folds so many of the next days of a record, and the months that end with them. It reports whether there is none yet.
func (f *folder) next(ctx context.Context, r *record, days int) (done bool, err error) {
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
	var starts []time.Time // and where the last one ends
	for len(starts) <= days {
		start, end := period.Bounds(period.Day, at, loc, time.Monday)
		if starts = append(starts, start); end.After(f.until) {
			break
		}
		at = end
	}
	if len(starts) == 1 {
		return true, nil
	}
	if err := f.forget(ctx, r, starts[0]); err != nil {
		return false, err
	}
	last, err := f.fold(ctx, r, starts)
	if err != nil {
		return false, err
	}
	if r.from.IsZero() {
		r.from = starts[0]
	}
	r.to = starts[last+1]
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
	_, err := f.Conn.ExecContext(ctx, f.Bind(`DELETE FROM llm_usage_windows WHERE time_zone = ? AND tag = ? AND window_start >= ? AND window_start < ?`+who),
		append([]any{r.zone, r.tag, f.Time(from), f.Time(until)}, of...)...)
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
	m := f.record(&record{tenant: days.tenant, zone: days.zone, unit: period.Month, tag: days.tag})
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

// whose is what a condition on folded windows of a zone says beside it to mean those of a record, and its argument.
func (f *folder) whose(r *record) (condition string, args []any) {
	if r.tenant == Everybody {
		return "", nil
	}
	return " AND tenant = ?", []any{r.tenant.String()}
}

// fold writes the days, or the hours, of a record that begin at some times, but the last of these, where they end; and everybody's. It
// returns which is the last one that has something; the first where none has.
func (f *folder) fold(ctx context.Context, r *record, starts []time.Time) (last int, err error) {
	first, end := starts[0], starts[len(starts)-1]
	a := answer{Books: f.Books, Question: Question{Tenant: r.tenant, Everybody: r.tenant == Everybody}}
	if r.tag != "" {
		a.By = []Group{{ByTag, r.tag}}
	}
	a.hoursOf(a.cover(Span{Range: Range{first, end}, Periods: starts[:len(starts)-1]}))
	list := []string{"period", "CAST(tenant AS text)", dimensions, "below", "unit", "CAST(sum(amount) AS bigint)", f.SumOfCounts("latencies")}
	for _, s := range summed {
		list = append(list, "CAST(sum("+s.column+") AS bigint)")
	}
	statement := `SELECT ` + strings.Join(list, ", ") + ` FROM (` + strings.Join(a.parts, " UNION ALL ") + `) x
		GROUP BY period, tenant, ` + dimensions + `, below, unit ORDER BY period, tenant`
	var (
		p      = f.packer(r, r.unit, first, end)
		sum    foldedSum
		tenant string
		k      foldKeys
		target = []any{&last, &tenant}
	)
	for i := range k.names {
		target = append(target, &k.names[i])
	}
	target = append(append(target, &k.below), sum.targets()...)
	values, err := f.valuesOf(ctx, r, &a, first, end)
	if err != nil {
		return 0, err
	}
	err = f.query(ctx)(f.Bind(statement), a.args, func(row sqldb.Row) error {
		if err := row.Scan(target...); err != nil {
			return err
		}
		if r.tag != "" {
			k.names[0] = values.named(k.names[0])
		}
		if err := p.of(starts[last], tenant); err != nil {
			return err
		}
		return sum.addTo(p.own.at(k))
	})
	if err != nil {
		return 0, fmt.Errorf("folding from one %v of %v on: %w", r.unit, r.zone, err)
	}
	return last, p.write(ctx)
}

// foldMonth writes the months of a record that begin at a time, of their days.
func (f *folder) foldMonth(ctx context.Context, r *record, start, end time.Time) error {
	who, args := f.whose(r)
	var (
		p      = f.packer(r, period.Month, start, end)
		u      unpacker
		tenant string
		sums   []byte
	)
	err := f.query(ctx)(f.Bind(`SELECT CAST(tenant AS text), sums FROM llm_usage_windows WHERE window_unit = 'day' AND time_zone = ? AND tag = ? AND window_start >= ?
		AND window_start < ?`+who+` AND tenant <> ? AND tenant <> ? ORDER BY tenant, window_start`),
		append(append([]any{r.zone, r.tag, f.Time(start), f.Time(end)}, args...), Everybody.String(), EachTenant.String()), func(row sqldb.Row) error {
			if err := row.Scan(&tenant, &sums); err != nil {
				return err
			}
			if err := p.of(start, tenant); err != nil {
				return err
			}
			return u.add(sums, func(k *foldKeys) *book.HourSum { return p.own.at(*k) })
		})
	if err != nil {
		return fmt.Errorf("folding a month of %v: %w", r.zone, err)
	}
	return p.write(ctx)
}

// packer packs the windows of a record that begin in a time, one after the other and tenant by tenant.
type packer struct {
	*folder
	whose     *record
	unit      period.Window
	from, end time.Time

	start                   time.Time // of the window
	tenant                  string
	own, everybody, tenants foldSums // of the tenant, and of all
	rows                    []packedWindow
}

// packedWindow is a window of a tenant.
type packedWindow struct {
	tenant string
	start  time.Time
	sums   []byte
}

func (f *folder) packer(r *record, unit period.Window, from, end time.Time) *packer {
	return &packer{folder: f, whose: r, unit: unit, from: from, end: end, start: from}
}

// of says whose lines come next, and of which window. Those of a window come together, and in it those of a tenant.
func (p *packer) of(start time.Time, tenant string) error {
	var err error
	switch {
	case !start.Equal(p.start):
		err = p.pack()
	case tenant != p.tenant:
		err = p.packOwn()
	default:
		return nil
	}
	p.start, p.tenant, p.own = start, tenant, foldSums{}
	return err
}

// pack packs the lines of the last tenant of a window, and those of everybody.
func (p *packer) pack() error {
	if err := p.packOwn(); err != nil || p.whose.tenant != Everybody {
		return err
	}
	for id, sums := range map[book.ID]*foldSums{Everybody: &p.everybody, EachTenant: &p.tenants} {
		if len(sums.order) > 0 {
			p.rows = append(p.rows, packedWindow{id.String(), p.start, sums.pack()})
		}
	}
	p.everybody, p.tenants = foldSums{}, foldSums{}
	return nil
}

// packOwn packs the lines of a tenant, and adds its own calls to those of everybody.
func (p *packer) packOwn() error {
	if len(p.own.order) == 0 {
		return nil
	}
	if p.unit != period.Hour {
		p.rows = append(p.rows, packedWindow{p.tenant, p.start, p.own.pack()})
	}
	if p.whose.tenant != Everybody {
		return nil
	}
	if p.whose.tag != "" {
		for _, k := range p.own.order {
			if !k.below {
				Merge(p.everybody.at(k), p.own.of[k])
			}
		}
		return nil
	}
	id, err := uuid.Parse(p.tenant)
	if err != nil {
		return err
	}
	for _, k := range p.own.order {
		if !k.below {
			s := p.own.of[k]
			Merge(p.everybody.at(k), s)
			Merge(p.tenants.at(foldKeys{names: [rolledDimensions]string{string(id[:])}}), s)
		}
	}
	return nil
}

// write writes the windows in the place of those that there were.
func (p *packer) write(ctx context.Context) error {
	if err := p.pack(); err != nil {
		return err
	}
	who, of := p.folder.whose(p.whose)
	_, err := p.Conn.ExecContext(ctx, p.Bind(`DELETE FROM llm_usage_windows WHERE window_unit = ? AND time_zone = ? AND tag = ? AND window_start >= ? AND window_start < ?`+who),
		append([]any{p.unit.String(), p.whose.zone, p.whose.tag, p.Time(p.from), p.Time(p.end)}, of...)...)
	for _, atOnce := range []int{100, 10, 1} { // few statements are worth preparing
		for err == nil && len(p.rows) >= atOnce {
			args := make([]any, 0, 6*atOnce)
			for _, row := range p.rows[:atOnce] {
				args = append(args, row.tenant, p.whose.zone, p.unit.String(), p.whose.tag, p.Time(row.start), row.sums)
			}
			p.rows = p.rows[atOnce:]
			_, err = p.Conn.ExecContext(ctx, p.Bind(`INSERT INTO llm_usage_windows (tenant, time_zone, window_unit, tag, window_start, sums)
				VALUES (`+strings.Repeat("?, ?, ?, ?, ?, ?), (", atOnce-1)+`?, ?, ?, ?, ?, ?)`), args...)
		}
	}
	if err != nil {
		return fmt.Errorf("folding a %v of %v: %w", p.unit, p.whose.zone, err)
	}
	return nil
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
				if r.unit == period.Month {
					err = f.foldMonth(ctx, r, start, end)
				} else {
					_, err = f.fold(ctx, r, []time.Time{start, end})
				}
				if err != nil {
					return false, err
				}
			}
		}
	}
	_, err = f.Conn.ExecContext(ctx, f.Bind(`DELETE FROM llm_usage_late WHERE id IN (`+sqldb.Marks(len(ids))+`)`), ids...)
	return true, err
}
