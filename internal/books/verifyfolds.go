package books

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/units"
)

// foldedAtOnce is how many days or months are compared in one statement.
const foldedAtOnce = 31

// Folded compares what is folded of a tenant, or of everybody, with the hours that it is folded of. A day or month of which an
// hour has changed since is read by its hours, and not compared. Each statement is one snapshot.
func (b Books) Folded(ctx context.Context, id book.ID, now time.Time, zones Zones) (out []Difference, err error) {
	records, err := b.records(ctx, Everybody, id)
	if err != nil {
		return nil, err
	}
	var version int64
	for _, r := range records {
		version = max(version, r.version)
	}
	for _, r := range records {
		if r.unit == period.Total {
			continue
		}
		w, ok := r.windows([]Span{{Range: Range{r.from, r.to}}}, zones, now.Add(-book.Late))
		for ok && len(w.starts) > 1 {
			n := min(foldedAtOnce, len(w.starts)-1)
			f := folding{answer: answer{Books: b, Question: Question{Tenant: id, Everybody: id == Everybody}}, of: w, starts: w.starts[:n+1], rows: map[string]*foldedRow{}}
			current, err := f.read(ctx, version)
			if err != nil {
				return nil, err
			}
			if !current {
				return b.Folded(ctx, id, now, zones) // somebody has folded meanwhile
			}
			out = append(out, f.differences(id)...)
			w.starts = w.starts[n:]
		}
	}
	return out, nil
}

// folding reads some folded windows, and their hours.
type folding struct {
	answer
	of     foldedWindows
	starts []time.Time // and where the last one ends
	rows   map[string]*foldedRow
	late   []time.Time
}

// foldedRow is a row of a folded window as it is, and as its hours say.
type foldedRow struct {
	period int
	where  string
	sums   [2]book.HourSum
}

// read reports whether nobody has folded since a version was read.
func (f *folding) read(ctx context.Context, version int64) (current bool, err error) {
	pieces := make([]piece, len(f.starts)-1)
	for i := range pieces {
		pieces[i] = piece{Range{f.starts[i], f.starts[i+1]}, i}
	}
	const named = ", e.agent, e.model, e.billed_model, e.provider, e.service_tier, "
	add := func(side int, pieces []piece, named string, from source, where string, args ...any) {
		if len(pieces) == 0 {
			return
		}
		at, rows := f.within(pieces, from, where, args)
		f.parts = append(f.parts, fmt.Sprintf("SELECT %d AS side, %s AS period%s, %s FROM %s", side, at, named, from.columns, rows))
	}
	own, id := named+"e.below AS below", f.Tenant.String()
	mine, kept := "e.tenant = ?", []any{id}
	if f.Everybody {
		mine, kept = "NOT e.below", nil
	}
	add(0, pieces, own, source{table: "llm_usage_windows", at: "window_start", columns: f.columns("e.@", "e.latencies") + ", e.unit, e.amount"},
		"e.tenant = ? AND e.window_unit = ? AND e.time_zone = ?", id, f.of.unit.String(), f.of.zone)

	c := f.cover(Span{Range: Range{f.starts[0], f.starts[len(f.starts)-1]}, Periods: f.starts[:len(f.starts)-1]})
	hours := source{table: "llm_usage", at: "hour", columns: f.columns("e.@", "e.latencies") + noUnit}
	add(1, c.hours, own, hours, mine, kept...)
	add(1, c.hours, own, source{table: "llm_usage_units", at: "hour", columns: f.columns("0", f.NoCounts) + ", e.unit, e.amount"}, mine, kept...)
	hours.columns = f.refused()
	add(1, c.cut, own, hours, and("e.refusals > 0", mine), kept...)
	calls, each := f.callsAndUnits()
	for _, from := range []source{calls, each, f.pruned(calls), f.pruned(each)} {
		where := from.where
		if !f.Everybody {
			where = and(where, mine)
		}
		add(1, c.calls, named+"false AS below", from, where, kept...)
		if !f.Everybody {
			add(1, c.calls, named+"true AS below", from, and(from.where, "e.parents <> '{}'", f.Below("e.parents")), id)
		}
	}
	return f.ask(ctx, version)
}

// ask runs the statement. Beside the rows it reads, as of the same moment, which hours have changed.
func (f *folding) ask(ctx context.Context, version int64) (current bool, err error) {
	totals := make([]string, len(summed))
	zeros := strings.Repeat(", 0", len(summed))
	for i, s := range summed {
		totals[i] = "CAST(sum(" + s.column + ") AS bigint)"
	}
	late, args := f.lateOf()
	const of = "agent, model, billed_model, provider, service_tier, below, unit"
	statement := `SELECT side, period, ` + of + `, CAST(sum(amount) AS bigint), ` + f.SumOfCounts("latencies") + `, ` + strings.Join(totals, ", ") + `, CAST(NULL AS timestamptz)
			FROM (` + strings.Join(f.parts, " UNION ALL ") + `) u GROUP BY side, period, ` + of + `
		UNION ALL SELECT 2, 0, '', '', '', '', '', false, '', (SELECT version FROM llm_usage_folds WHERE window_unit = 'total'), ''` + zeros + `, CAST(NULL AS timestamptz)
		UNION ALL SELECT 3, 0, '', '', '', '', '', false, '', 0, ''` + zeros + `, hour` + late
	err = f.query(ctx)(f.Bind(statement), append(f.args, args...), func(row sqldb.Row) error {
		var (
			side, n                              int
			agent, model, billed, provider, tier string
			below                                bool
			unit                                 units.Unit
			amount                               int64
			counts                               string
			sum                                  book.HourSum
			hour                                 time.Time
		)
		to := append([]any{&side, &n, &agent, &model, &billed, &provider, &tier, &below, &unit, &amount, &counts}, targets(&sum)...)
		if err := row.Scan(append(to, sqldb.Instant(&hour))...); err != nil {
			return err
		}
		switch side {
		case 2:
			current = amount == version
			return nil
		case 3:
			f.late = append(f.late, hour)
			return nil
		}
		sum.Usage.Units = units.Of(unit, amount)
		if sum.Latencies, err = book.ParseLatencies(counts); err != nil {
			return err
		}
		where := fmt.Sprintf(`%s of %s that begins at %s agent "%s" model "%s" billed as "%s" by "%s" in "%s"`, f.of.unit, f.of.zone,
			f.starts[n].Format(time.RFC3339), agent, model, billed, provider, tier)
		if below {
			where += " of the tenants below"
		}
		key := fmt.Sprintf("%06d %s", n, where)
		if f.rows[key] == nil {
			f.rows[key] = &foldedRow{period: n, where: where}
		}
		Merge(&f.rows[key].sums[side], &sum)
		return nil
	})
	return current, err
}

// differences are those of the windows of which no hour has changed.
func (f *folding) differences(id book.ID) (out []Difference) {
	f.of.starts, f.of.stale = f.starts, make([]bool, len(f.starts)-1)
	for _, hour := range f.late {
		f.of.touch(hour)
	}
	for _, key := range slices.Sorted(maps.Keys(f.rows)) {
		r := f.rows[key]
		if f.of.stale[r.period] {
			continue
		}
		differ := func(column string, have, want int64) {
			if have != want {
				out = append(out, Difference{Tenant: id, Where: r.where, Column: column, Have: have, Want: want})
			}
		}
		have, want := &r.sums[0], &r.sums[1]
		is, should := targets(have), targets(want)
		for i, s := range summed {
			differ(s.column, *is[i].(*int64), *should[i].(*int64))
		}
		for unit := range have.Usage.Units.Plus(want.Usage.Units).All() {
			differ("unit "+string(unit), have.Usage.Units.Count(unit), want.Usage.Units.Count(unit))
		}
		for bucket := range book.LatencyBuckets {
			differ(fmt.Sprintf("latencies, bucket %d", bucket), have.Latencies.At(bucket), want.Latencies.At(bucket))
		}
	}
	return out
}

// Unfold has all days and months of a tenant, and of everybody, folded anew. It runs in a transaction of its caller.
func (b Books) Unfold(ctx context.Context, id book.ID) error {
	if _, err := b.Conn.ExecContext(ctx, `UPDATE llm_usage_folds SET version = version + 1 WHERE window_unit = 'total'`); err != nil {
		return err
	}
	_, err := b.Conn.ExecContext(ctx, b.Bind(`DELETE FROM llm_usage_folds WHERE window_unit <> 'total' AND tenant IN (?, ?)`), Everybody.String(), id.String())
	return err
}
