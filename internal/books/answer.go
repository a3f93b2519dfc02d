package books

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/units"
)

// Answer adds up calls as of one moment. What they used of a unit is a line of its own. Refusals are known by the hour only: they
// are counted where their hour begins.
//
// Where days and months are folded, and nothing has changed since, they are read in the place of their hours. What is folded is
// looked up before and read, and the statement that adds up the rest says whether it is still so: then both are of its moment.
//
// On SQLite, where a statement does not heed its context before its first row, a long time is asked about by slices. Who wants all
// of them to be as of one moment asks within a transaction.
func (b Books) Answer(ctx context.Context, q Question, zones Zones) ([]Line, error) {
	const tries = 3
	for try := 0; ; try++ {
		a := answer{Books: b, Question: q, lines: map[lineKey]*Line{}}
		if tag := q.tag(); tag != "" {
			var err error
			if a.values, err = b.tagValues(ctx, tag); err != nil {
				return nil, err
			}
		}
		if try < tries && q.long() {
			if err := a.look(ctx, zones); err != nil {
				return nil, err
			}
		}
		current, err := a.ask(ctx)
		if current || err != nil {
			return a.found(), cmp.Or(err, b.known(ctx, q))
		}
	}
}

// ask finds the lines. It reports whether what is folded is what was looked up.
func (a *answer) ask(ctx context.Context) (current bool, err error) {
	covers := make([]cover, len(a.Spans))
	for i := range a.Spans {
		covers[i] = a.cover(a.Spans[i])
	}
	if err := a.windows(ctx, covers); err != nil {
		return false, err
	}
	left := leftOf(covers)
	if a.LocksRows || left.To.Sub(left.From) <= slice {
		return a.rest(ctx, covers)
	}
	first, last, err := a.Extent(ctx, a.Question)
	if err != nil {
		return false, err
	}
	left = left.cut(Range{first, last.Add(time.Hour)})
	for at := left.From; at.Before(left.To); at = at.Add(slice) {
		// Nothing is asked where nothing is left, which is most of the time where days are folded.
		some := cutTo(covers, Range{at, at.Add(slice)})
		if leftOf(some).empty() {
			continue
		}
		if current, err = a.rest(ctx, some); !current {
			return false, err
		}
	}
	return a.rest(ctx, nil)
}

// leftOf is the time in which there is something to be added up that is not folded; it is empty where there is nothing.
func leftOf(covers []cover) (left Range) {
	for _, c := range covers {
		for _, pieces := range [][]piece{c.hours, c.calls, c.cut} {
			for _, p := range pieces {
				if left.empty() || p.From.Before(left.From) {
					left.From = p.From
				}
				if p.To.After(left.To) {
					left.To = p.To
				}
			}
		}
	}
	return left
}

// cutTo returns what covers have in common with a range, but for what is folded.
func cutTo(covers []cover, r Range) []cover {
	some := make([]cover, len(covers))
	for i, c := range covers {
		some[i] = cover{hours: r.within(c.hours), calls: r.within(c.calls), cut: r.within(c.cut)}
	}
	return some
}

// slice is how much time a statement of SQLite looks at.
const slice = 31 * 24 * time.Hour

// Sliced reports whether SQLite is asked more than once.
func (q *Question) Sliced() bool {
	return slices.ContainsFunc(q.Spans, func(s Span) bool { return s.To.Sub(s.From) > slice })
}

// cut returns what two ranges have in common; they may have nothing.
func (r Range) cut(o Range) Range {
	if r.From.Before(o.From) {
		r.From = o.From
	}
	if r.To.After(o.To) {
		r.To = o.To
	}
	return r
}

// within returns what pieces have in common with a range.
func (r Range) within(pieces []piece) []piece {
	var some []piece
	for _, p := range pieces {
		if p.Range = p.cut(r); !p.empty() {
			some = append(some, p)
		}
	}
	return some
}

// rest adds up what is not folded. It reports whether what is folded is what was looked up.
func (a *answer) rest(ctx context.Context, covers []cover) (current bool, err error) {
	a.parts, a.args = nil, nil
	for i, c := range covers {
		a.span(i, c)
	}
	current = !a.folded()
	switch {
	case len(a.parts) == 0 && current:
		return true, nil
	case len(a.parts) == 0:
		return a.unchanged(ctx)
	case !current:
		a.guard()
	}
	totals := make([]string, len(summed))
	for i, f := range summed {
		totals[i] = "CAST(sum(" + f.column + ") AS bigint)"
	}
	statement := `SELECT span, period, k0, k1, unit, CAST(sum(amount) AS bigint), ` + a.SumOfCounts("latencies") + `, ` +
		strings.Join(totals, ", ") + ` FROM (` + strings.Join(a.parts, " UNION ALL ") + `) u GROUP BY span, period, k0, k1, unit`
	var (
		k      lineKey
		sum    foldedSum
		target = append([]any{&k.span, &k.period, &k.keys[0], &k.keys[1]}, sum.targets()...)
	)
	err = a.query(ctx)(a.Bind(statement), a.args, func(row sqldb.Row) error {
		if err := row.Scan(target...); err != nil {
			return err
		}
		if k.span < 0 {
			current = a.is(int64(k.period), sum.amount)
			return nil
		}
		at := k
		if a.values != nil {
			at.keys[0] = a.values.named(at.keys[0])
		}
		return sum.addTo(a.line(at))
	})
	return current, err
}

// foldedSum is a row that a statement has added up: a unit, its amount, the counts of latencies, and summed.
type foldedSum struct {
	unit   units.Unit
	amount int64
	counts string
	book.HourSum
}

func (s *foldedSum) targets() []any {
	return append([]any{&s.unit, &s.amount, &s.counts}, targets(&s.HourSum)...)
}

func (s *foldedSum) addTo(to *book.HourSum) (err error) {
	s.Usage.Units = units.Of(s.unit, s.amount)
	if s.Latencies, err = book.ParseLatencies(s.counts); err == nil {
		Merge(to, &s.HourSum)
	}
	return err
}

// lineKey says which line is meant.
type lineKey struct {
	keys         [2]string
	span, period int
}

// line returns the sum of a line.
func (a *answer) line(k lineKey) *book.HourSum {
	l := a.lines[k]
	if l == nil {
		l = &Line{Keys: k.keys, Span: k.span, Period: k.period}
		a.lines[k] = l
	}
	return &l.HourSum
}

// found returns the lines.
func (a *answer) found() []Line {
	lines := make([]Line, 0, len(a.lines))
	for _, l := range a.lines {
		lines = append(lines, *l)
	}
	return lines
}
