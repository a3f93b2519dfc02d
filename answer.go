package tenant

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/fault"
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

// ofOneMoment asks what takes several statements so that no tenant is moved to another place between two of them: in a transaction in which
// all see the same moment. In a transaction of the host's in which they do not, and on Citus, whose nodes have a moment each, it asks again where one
// was moved meanwhile.
func ofOneMoment[T any](ctx context.Context, db *gorm.DB, ask func(db *gorm.DB) (T, error)) (T, error) {
	l, closed := ledgerOf(db)
	if closed != nil || len(l.places) == 1 || db.Error != nil {
		return ask(db) // which says what is wrong, if something is
	}
	_, within := db.Statement.ConnPool.(gorm.TxCommitter)
	once := func() (answer T, err error) {
		if within {
			return ask(db)
		}
		tx := db.WithContext(ctx).Begin(&sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
		if tx.Error != nil {
			return answer, l.failure(ctx, tx.Error)
		}
		defer tx.Rollback()
		return ask(tx)
	}
	if !within {
		apart, err := l.records.OnCitus(ctx, db.Statement.ConnPool)
		if err == nil && !apart {
			return once()
		}
	}
	for range mostMoments {
		before, still, err := l.directory().Moves(ctx, db.Statement.ConnPool)
		if err != nil {
			return *new(T), l.failureOn(ctx, db.Statement.ConnPool, err)
		}
		answer, err := once()
		if still {
			return answer, err
		}
		after, _, failed := l.directory().Moves(ctx, db.Statement.ConnPool)
		if failed != nil || after == before { // it cannot be asked in a transaction that has failed
			return answer, cmp.Or(err, failed)
		}
	}
	return *new(T), fault.NotAvailable(errors.New("tenants are being moved to other places all the time, so that nothing can be asked as it was at one moment; "+
		"ask again, outside of a transaction or in one with REPEATABLE READ"), false)
}

// mostMoments is how often something is asked again because a tenant was moved meanwhile.
const mostMoments = 20

// part reads a part of an export. Where there are places, a tenant may be moved between two parts and within one: then the list is opened anew for each, which is
// of one moment, and is handed over as a whole.
func (l *lister) part(ctx context.Context, enter func([][]byte) error, read func(l *lister, enter func([][]byte) error) error) error {
	if len(l.places) == 1 {
		return read(l, enter)
	}
	rows, err := ofOneMoment(ctx, l.from, func(db *gorm.DB) (rows [][][]byte, err error) {
		now, err := l.open(ctx, db)
		if err != nil {
			return nil, err
		}
		err = read(now, func(cells [][]byte) error {
			rows = append(rows, copied(cells))
			return nil
		})
		return rows, err
	})
	for _, cells := range rows {
		if err == nil {
			err = enter(cells)
		}
	}
	return err
}

// copied is a row that stays as it is when the next one is read.
func copied(cells [][]byte) [][]byte {
	row := make([][]byte, len(cells))
	for i, cell := range cells {
		row[i] = bytes.Clone(cell)
	}
	return row
}
