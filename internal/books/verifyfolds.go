package books

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// foldedAtOnce is how many days or months are compared in the first statement.
const foldedAtOnce = 31

// Folded compares what is folded of a tenant, of [Everybody] or of [EachTenant] with the hours that it is folded of. A day or month of which an
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
		q := Question{Tenant: id, Everybody: id == Everybody || id == EachTenant}
		if r.unit == period.Total || r.tag != "" && id == EachTenant || r.unit == period.Hour && !q.Everybody {
			continue
		}
		var values tagValues
		if r.tag != "" {
			q.By = []Group{{ByTag, r.tag}}
			if values, err = b.tagValues(ctx, r.tag); err != nil {
				return nil, err
			}
		}
		w, ok := r.windows([]Span{{Range: Range{r.from, r.to}}}, zones, now.Add(-book.Late))
		for atOnce := foldedAtOnce; ok && len(w.starts) > 1; {
			n, began := min(atOnce, len(w.starts)-1), time.Now()
			f := folding{
				answer: answer{Books: b, Question: q, values: values}, whose: id,
				of: w, starts: w.starts[:n+1], rows: map[foldedKey]*[2]book.HourSum{},
			}
			current, err := f.read(ctx, version)
			if err != nil {
				return nil, err
			}
			if !current {
				return b.Folded(ctx, id, now, zones) // somebody has folded meanwhile
			}
			out = append(out, f.differences()...)
			w.starts, atOnce = w.starts[n:], DaysAtOnce(atOnce, time.Since(began))
		}
	}
	return out, nil
}

// folding reads some folded windows, and their hours.
type folding struct {
	answer
	whose  book.ID
	of     foldedWindows
	starts []time.Time // and where the last one ends
	rows   map[foldedKey]*[2]book.HourSum
	late   []time.Time
}

// foldedKey names a line of a window.
type foldedKey struct {
	foldKeys
	period int
}

// What a row of the statement is.
const (
	foldedPacked = iota // a folded window
	foldedHours         // what its hours have of a line
	foldedVersion
	foldedLate // an hour that has changed
)

// at returns a line, as it is folded and as the hours have it.
func (f *folding) at(k foldKeys, period int) *[2]book.HourSum {
	key := foldedKey{k, period}
	if f.rows[key] == nil {
		f.rows[key] = &[2]book.HourSum{}
	}
	return f.rows[key]
}

// read reports whether nobody has folded since a version was read.
func (f *folding) read(ctx context.Context, version int64) (current bool, err error) {
	keys := "e.agent, e.model, e.billed_model, e.provider, e.service_tier, "
	if f.whose == EachTenant {
		keys = "CAST(e.tenant AS text) AS agent, '' AS model, '' AS billed_model, '' AS provider, '' AS service_tier, "
	}
	add := func(pieces []piece, below string, from source, where string, args ...any) {
		if len(pieces) == 0 {
			return
		}
		named := keys
		if f.tag() != "" {
			value, of := f.key(f.By[0], from)
			f.args = append(f.args, of...)
			named = value + " AS agent, '' AS model, '' AS billed_model, '' AS provider, '' AS service_tier, "
		}
		at, rows := f.within(pieces, from, where, args)
		f.parts = append(f.parts, fmt.Sprintf("SELECT %s AS period, %s%s AS below, %s FROM %s", at, named, below, from.columns, rows))
	}
	id := f.whose.String()
	mine, kept := "e.tenant = ?", []any{id}
	if f.Everybody {
		mine, kept = "NOT e.below", nil
	}
	c := f.cover(Span{Range: Range{f.starts[0], f.starts[len(f.starts)-1]}, Periods: f.starts[:len(f.starts)-1]})
	hours := source{table: "llm_usage", at: "hour", rolled: true, columns: f.columns("e.@", "e.latencies") + noUnit}
	add(c.hours, "e.below", hours, mine, kept...)
	add(c.hours, "e.below", source{table: "llm_usage_units", at: "hour", rolled: true, columns: f.columns("0", f.NoCounts) + ", e.unit, e.amount"}, mine, kept...)
	hours.columns = f.refused()
	add(c.cut, "e.below", hours, and("e.refusals > 0", mine), kept...)
	calls, each := f.callsAndUnits()
	for _, from := range []source{calls, each, f.pruned(calls), f.pruned(each)} {
		if f.Everybody {
			add(c.calls, "false", from, from.where)
			continue
		}
		add(c.calls, "false", from, and(from.where, mine), id)
		add(c.calls, "true", from, and(from.where, "e.parents <> '{}'", f.Below("e.parents")), id)
	}
	return f.ask(ctx, version, id)
}

// ask runs the statement, which is one so that all of it is of one moment.
func (f *folding) ask(ctx context.Context, version int64, id string) (current bool, err error) {
	var totals, zeros strings.Builder
	for _, s := range summed {
		totals.WriteString(", CAST(sum(" + s.column + ") AS bigint)")
		zeros.WriteString(", 0")
	}
	const of = "agent, model, billed_model, provider, service_tier, below, unit"
	other := func(side int, amount, at, sums string) string {
		return fmt.Sprintf("SELECT %d, 0, '', '', '', '', '', false, '', %s, ''%s, %s, %s", side, amount, zeros.String(), at, sums)
	}
	const noTime, noSums = "CAST(NULL AS timestamptz)", "(SELECT sums FROM llm_usage_windows WHERE 1 = 0)"
	late, args := f.lateOf()
	statement := other(foldedVersion, "(SELECT version FROM llm_usage_folds WHERE window_unit = 'total')", noTime, noSums) +
		" UNION ALL " + other(foldedPacked, "0", "window_start", "sums") + ` FROM llm_usage_windows WHERE tenant = ? AND window_unit = ? AND time_zone = ? AND tag = ?
			AND window_start >= ? AND window_start < ?` +
		" UNION ALL " + other(foldedLate, "0", "hour", noSums) + late
	args = append([]any{id, f.of.unit.String(), f.of.zone, f.tag(), f.Time(f.starts[0]), f.Time(f.starts[len(f.starts)-1])}, args...)
	if len(f.parts) > 0 {
		statement += " UNION ALL SELECT " + strconv.Itoa(foldedHours) + ", period, " + of + ", CAST(sum(amount) AS bigint), " + f.SumOfCounts("latencies") +
			totals.String() + ", " + noTime + ", " + noSums + " FROM (" + strings.Join(f.parts, " UNION ALL ") + ") u GROUP BY period, " + of
		args = append(args, f.args...)
	}
	var (
		u       unpacker
		side, n int
		k       foldKeys
		sum     foldedSum
		at      time.Time
		sums    []byte
	)
	to := []any{&side, &n}
	for i := range k.names {
		to = append(to, &k.names[i])
	}
	to = append(append(to, &k.below), sum.targets()...)
	to = append(to, sqldb.Instant(&at), &sums)
	err = f.query(ctx)(f.Bind(statement), args, func(row sqldb.Row) error {
		if err := row.Scan(to...); err != nil {
			return err
		}
		switch side {
		case foldedVersion:
			current = sum.amount == version
		case foldedLate:
			f.late = append(f.late, at)
		case foldedPacked:
			n := sort.Search(len(f.starts), func(i int) bool { return f.starts[i].After(at) }) - 1
			return u.add(sums, func(k *foldKeys) *book.HourSum {
				line := *k
				if f.whose == EachTenant {
					line.names[0] = uuid.UUID([]byte(k.names[0])).String()
				}
				return &f.at(line, n)[0]
			})
		case foldedHours:
			line := k
			if f.values != nil {
				line.names[0] = f.values.named(line.names[0])
			}
			return sum.addTo(&f.at(line, n)[1])
		}
		return nil
	})
	return current, err
}

// differences are those of the windows of which no hour has changed.
func (f *folding) differences() (out []Difference) {
	f.of.starts, f.of.stale = f.starts, make([]bool, len(f.starts)-1)
	for _, hour := range f.late {
		f.of.touch(hour)
	}
	for key, sums := range f.rows {
		if f.of.stale[key.period] {
			continue
		}
		where := fmt.Sprintf(`%s of %s that begins at %s agent "%s" model "%s" billed as "%s" by "%s" in "%s"`, f.of.unit, f.of.zone,
			f.starts[key.period].Format(time.RFC3339), key.names[0], key.names[1], key.names[2], key.names[3], key.names[4])
		switch {
		case f.tag() != "":
			where = fmt.Sprintf(`%s of %s that begins at %s tag %q is %q`, f.of.unit, f.of.zone, f.starts[key.period].Format(time.RFC3339), f.tag(), key.names[0])
			if key.below {
				where += " of the tenants below"
			}
		case f.whose == EachTenant:
			where = fmt.Sprintf(`%s of %s that begins at %s of the tenant %s`, f.of.unit, f.of.zone, f.starts[key.period].Format(time.RFC3339), key.names[0])
		case key.below:
			where += " of the tenants below"
		}
		differ := func(column string, have, want int64) {
			if have != want {
				out = append(out, Difference{Tenant: f.whose, Where: where, Column: column, Have: have, Want: want})
			}
		}
		have, want := &sums[0], &sums[1]
		is, should := figuresOf(have), figuresOf(want)
		for i, s := range summed {
			differ(s.column, *is[i], *should[i])
		}
		for unit := range have.Usage.Units.Plus(want.Usage.Units).All() {
			differ("unit "+string(unit), have.Usage.Units.Count(unit), want.Usage.Units.Count(unit))
		}
		for bucket := range book.LatencyBuckets {
			differ(fmt.Sprintf("latencies, bucket %d", bucket), have.Latencies.At(bucket), want.Latencies.At(bucket))
		}
	}
	slices.SortFunc(out, func(x, y Difference) int {
		return cmp.Or(cmp.Compare(x.Where, y.Where), cmp.Compare(x.Column, y.Column))
	})
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
