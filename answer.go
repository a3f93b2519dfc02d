package tenant

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/period"
)

// part is what is known of a row, now and before; nil: it was not asked about, or there was nothing.
type part struct {
	now  book.HourSum
	past *book.HourSum
}

// of is what was used in a span: the first one, or that before it.
func (p *part) of(span int) *book.HourSum {
	if span == 0 {
		return &p.now
	}
	if p.past == nil {
		p.past = &book.HourSum{}
	}
	return p.past
}

func (p *part) add(span int, sum *book.HourSum) { books.Merge(p.of(span), sum) }

// spot is where a row belongs: its keys but for time, and its period.
type spot struct {
	keys   [2]string
	period int
}

// rows makes an answer of what was found.
func (q *question) rows(ctx context.Context, a *asked, lines []books.Line) (UsageAnswer, error) {
	parts, whole := map[spot]*part{}, map[[2]string]*part{}
	for i := range lines {
		l := &lines[i]
		of := at(whole, l.Keys)
		if a.window == period.Total {
			*of.of(l.Span) = l.HourSum // there is one line of each
			parts[spot{keys: l.Keys}] = of
			continue
		}
		of.add(l.Span, &l.HourSum)
		if l.Span == 0 || l.Period < len(a.of.Spans[0].Periods) {
			*at(parts, spot{l.Keys, l.Period}).of(l.Span) = l.HourSum // here, too
		}
	}
	var total part
	for _, p := range whole {
		total.add(0, &p.now)
		if p.past != nil {
			total.add(1, p.past)
		}
	}
	if len(a.of.By) == 0 {
		at(whole, [2]string{}) // it is there without a call, too
	}
	answer := UsageAnswer{TimeZone: a.zone.String(), Total: measures(&total.now)}
	if r := a.of.Spans[0].Range; r != books.Ever {
		answer.From, answer.To = r.From, r.To
	}
	if a.Compare {
		r := a.of.Spans[1].Range
		answer.Before = &UsageBefore{From: r.From, To: r.To, Total: measures(total.of(1))}
	}
	places, err := a.places(parts, whole)
	if err != nil {
		return UsageAnswer{}, err
	}
	names, err := q.names(ctx, a, places)
	if err != nil {
		return UsageAnswer{}, err
	}
	answer.Rows = make([]UsageRow, len(places))
	for i, p := range places {
		answer.Rows[i] = a.row(p, at(parts, p), names)
	}
	return answer, nil
}

func at[K comparable](m map[K]*part, key K) *part {
	p := m[key]
	if p == nil {
		p = &part{}
		m[key] = p
	}
	return p
}

// places are the rows of an answer, in their order.
func (a *asked) places(parts map[spot]*part, whole map[[2]string]*part) ([]spot, error) {
	value := figureOf[a.OrderBy]
	byKeys := func(x, y [2]string) int { return slices.Compare(x[:], y[:]) }
	keys := sorted(whole, func(x, y *part) int { return cmp.Compare(value(&y.now), value(&x.now)) }, byKeys)
	timeOnly := a.window != period.Total && len(a.of.By) == 0
	if a.Top > 0 && !timeOnly {
		keys = keys[:min(a.Top, len(keys))]
	}
	if a.window == period.Total {
		places := make([]spot, len(keys))
		for i, k := range keys {
			places[i] = spot{keys: k}
		}
		return places, nil
	}
	n := len(a.of.Spans[0].Periods)
	if n*len(keys) > maxRows {
		return nil, a.invalid("Period: %v has %d of the group %q, for each of %d keys: more than %d rows", a.Period, n, a.By[a.time], len(keys), maxRows)
	}
	type worth struct {
		spot
		n int64
	}
	all := make([]worth, 0, n*len(keys))
	for i := range n {
		for _, k := range keys {
			s := spot{k, i}
			all = append(all, worth{s, value(&at(parts, s).now)})
		}
	}
	slices.SortFunc(all, func(x, y worth) int {
		if a.Top > 0 && timeOnly {
			return cmp.Or(cmp.Compare(y.n, x.n), cmp.Compare(x.period, y.period))
		}
		return cmp.Or(cmp.Compare(x.period, y.period), cmp.Compare(y.n, x.n), byKeys(x.keys, y.keys))
	})
	if a.Top > 0 && timeOnly {
		all = all[:min(a.Top, len(all))]
	}
	places := make([]spot, len(all))
	for i := range all {
		places[i] = all[i].spot
	}
	return places, nil
}

func sorted(m map[[2]string]*part, most func(x, y *part) int, byKeys func(x, y [2]string) int) [][2]string {
	keys := make([][2]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(x, y [2]string) int { return cmp.Or(most(m[x], m[y]), byKeys(x, y)) })
	return keys
}

// row is one row of an answer.
func (a *asked) row(p spot, sums *part, names map[string]string) UsageRow {
	row := UsageRow{Measures: measures(&sums.now)}
	if a.Compare {
		was := measures(sums.of(1))
		row.Before = &was
	}
	next := 0
	for i, g := range a.By {
		if i == a.time {
			row.Start = a.of.Spans[0].Periods[p.period].In(a.zone)
			row.Keys = append(row.Keys, row.Start.Format(layouts[a.window]))
			continue
		}
		key := p.keys[next]
		if next++; g == ByTenant {
			if key != "" && key != book.NoTenant.String() {
				row.Tenant = UUID(key)
			}
			key = names[key]
		}
		row.Keys = append(row.Keys, key)
	}
	return row
}

var layouts = map[period.Window]string{period.Hour: time.RFC3339, period.Day: time.DateOnly, period.Week: time.DateOnly, period.Month: "2006-01"}

// names finds the ids of tenants.
func (q *question) names(ctx context.Context, a *asked, places []spot) (map[string]string, error) {
	for i, g := range a.of.By {
		if g.Dimension != books.ByTenant {
			continue
		}
		ids := map[string]bool{}
		for _, p := range places {
			ids[p.keys[i]] = true
		}
		names, err := q.home().Keys(ctx, slices.Collect(maps.Keys(ids)))
		maps.DeleteFunc(ids, func(id string, _ bool) bool { return names[id] != "" })
		if err == nil && len(ids) > 0 && len(q.places) > 1 {
			// One that has no id any more, or is hidden, is known by its calls, wherever they are.
			err = q.everywhere(func(b books.Books) error {
				found, err := b.Keys(ctx, slices.Collect(maps.Keys(ids)))
				for id, key := range found {
					if key != "" {
						names[id] = key
					}
				}
				return err
			})
		}
		if err != nil {
			return nil, q.failure(ctx, err)
		}
		return names, nil
	}
	return nil, nil
}
