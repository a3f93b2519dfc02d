package tenant

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// ExecutionQuery says which executions to list, and in which order: the newest first. Its zero value lists those of the calls
// without a tenant. A list that is empty or a bound that is not set sets no condition.
type ExecutionQuery struct {
	Tenant      Tenant // whose calls are meant; nil: the calls without a tenant
	Descendants bool   // with those of all tenants that stood below it when they were made
	Everybody   bool   // those of all tenants, and those without one, in the place of Tenant, which is nil then

	Period Period // when they were admitted; nil: at any time

	Statuses  []string // one of them; see [Execution].Status
	Agents    []string
	Models    []string // one of them asked for, or billed
	Providers []string
	Actors    []string
	Tags      map[string]string // all of them

	MinCost Money // they cost as much, or more
	MaxCost Money // they cost less

	Estimated bool // only those whose cost is not by usage that the provider reported
	Unpriced  bool // only those for which no price was known

	ByCost    bool // the dearest first. It looks at every call of the period, for each page
	Ascending bool // the oldest, or the cheapest, first

	// After is where to go on: what [ExecutionPage].Next says, or [ExecutionQuery.Cursor], of a query that is the same but for
	// it. Empty: at the beginning.
	After string
}

// ExecutionPage is a part of a list.
type ExecutionPage struct {
	Executions []Execution
	Next       string // where the next page goes on (see ExecutionQuery.After); empty where there is none
}

// ExecutionsPage returns the first executions of a list: as many as limit says, which is at least 1 and at most 1,000. A page
// costs the same wherever in the list it is. By time, no call is listed twice, also if it ends while pages are read.
//
// It is the host's own query, like [Executions], and conditions that db has hold too.
//
// Errors: those of [Cost]; [ErrInvalidOption], which names what is wrong, for a limit, a period, an amount or a cursor that
// cannot be, and for Everybody with a tenant.
func ExecutionsPage(ctx context.Context, db *gorm.DB, q ExecutionQuery, limit int) (ExecutionPage, error) {
	const most = 1000
	if limit < 1 || limit > most {
		return ExecutionPage{}, fmt.Errorf("%w: ExecutionsPage: the limit %d is not from 1 to %d", ErrInvalidOption, limit, most)
	}
	found, err := onReplica(ctx, db, func(db *gorm.DB) ([]Execution, error) {
		l, err := q.open(ctx, db)
		if err != nil {
			return nil, err
		}
		return l.page(ctx, limit+1)
	})
	if err != nil || len(found) <= limit {
		return ExecutionPage{Executions: found}, err
	}
	found = found[:limit]
	return ExecutionPage{Executions: found, Next: q.Cursor(found[limit-1])}, nil
}

// ListExecutions returns all executions of a list, one after the other. They are read by pages, the first of which is small, so
// that leaving the loop early is cheap. The list ends with an error, if there is one:
//
//	for e, err := range tenant.ListExecutions(ctx, db, tenant.ExecutionQuery{Tenant: org, Statuses: []string{"failed"}}) {
//		if err != nil {
//			return err
//		}
//		fmt.Println(e.AdmittedAt, e.ErrorCode)
//	}
//
// The errors are those of [ExecutionsPage].
func ListExecutions(ctx context.Context, db *gorm.DB, q ExecutionQuery) iter.Seq2[Execution, error] {
	const least, most = 50, 1000
	return func(yield func(Execution, error) bool) {
		var l *lister
		for size := least; ; size = min(2*size, most) {
			// Where the replica fails, the primary goes on.
			found, err := onReplica(ctx, db, func(from *gorm.DB) (found []Execution, err error) {
				if l == nil || from != db || len(l.places) > 1 { // who may have been moved since
					opened, err := q.open(ctx, from)
					if err != nil {
						return nil, err
					}
					if l != nil {
						opened.after = l.after
					}
					l = opened
				}
				return l.page(ctx, size)
			})
			if err != nil {
				yield(Execution{}, err)
				return
			}
			for _, e := range found {
				if !yield(e, nil) {
					return
				}
			}
			if len(found) < size {
				return
			}
			l.after = &mark{q.rank(&found[size-1]), found[size-1].ID}
		}
	}
}

// Cursor returns where a list goes on after an execution that it has: for After of a query that is otherwise the same.
func (q ExecutionQuery) Cursor(e Execution) string {
	return base64.RawURLEncoding.EncodeToString([]byte(q.order() + strconv.FormatInt(q.rank(&e), 10) + " " + e.ID))
}

// mark is a place in a list: after an execution, by what the list goes by and its id.
type mark struct {
	rank int64
	id   string
}

// order names the order of a list, for its cursors.
func (q *ExecutionQuery) order() string {
	return map[bool]string{false: "t", true: "c"}[q.ByCost] + map[bool]string{false: "-", true: "+"}[q.Ascending]
}

// rank is what a list goes by: the cost, or the time in microseconds.
func (q *ExecutionQuery) rank(e *Execution) int64 {
	if q.ByCost {
		return e.CostNano
	}
	return e.AdmittedAt.UnixMicro()
}

func (q *ExecutionQuery) mark() (*mark, error) {
	if q.After == "" {
		return nil, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(q.After)
	if err == nil {
		place, ok := strings.CutPrefix(string(text), q.order())
		rank, id, found := strings.Cut(place, " ")
		n, notNumber := strconv.ParseInt(rank, 10, 64)
		if _, noID := uuid.Parse(id); ok && found && notNumber == nil && noID == nil {
			return &mark{n, id}, nil
		}
	}
	return nil, fmt.Errorf("%w: ExecutionQuery.After: %.60q is no cursor of this list's order", ErrInvalidOption, q.After)
}

// lister reads a list.
type lister struct {
	*question
	ExecutionQuery
	all         *gorm.DB // with all conditions but those of whose they are, of time and of place
	rows        *gorm.DB // with all conditions but those of time and place
	whose       book.ID
	span        books.Range
	first, last time.Time // where something is on the roll-up
	sliced      bool      // it is read by slices of time
	width       time.Duration
	after       *mark
	nobody      bool
	others      []*lister // of everybody, in the other places
	from        *gorm.DB  // the host's handle
}

// open finds out whose executions a list is of.
func (q ExecutionQuery) open(ctx context.Context, db *gorm.DB) (*lister, error) {
	if q.Everybody && (q.Tenant != nil || q.Descendants) {
		return nil, fmt.Errorf("%w: ExecutionQuery.Everybody: there is a Tenant, or there are Descendants, too", ErrInvalidOption)
	}
	after, err := q.mark()
	if err != nil {
		return nil, err
	}
	asked, err := askThere(ctx, db, q.Tenant)
	if err != nil {
		return nil, err
	}
	s, err := asked.answer(ctx)
	if err != nil {
		return nil, err
	}
	l, err := q.openIn(ctx, db, asked, s, after)
	if err != nil || !q.Everybody {
		return l, err
	}
	for _, p := range asked.places[1:] {
		there := *asked
		there.at = p
		there.over(sqldb.Under(asked.books.Conn))
		other, err := q.openIn(ctx, db, &there, s, after)
		if err != nil {
			return nil, err
		}
		l.others = append(l.others, other)
	}
	return l, nil
}

// openIn is open for the place of a question.
func (q ExecutionQuery) openIn(ctx context.Context, db *gorm.DB, asked *question, s *books.State, after *mark) (_ *lister, err error) {
	l := &lister{question: asked, ExecutionQuery: q, from: db, after: after, nobody: s.Tenant == nil && !q.Everybody, span: books.Ever, width: time.Hour}
	l.sliced = !asked.dialect.LocksRows || !q.ByCost && (q.Everybody || q.Descendants)
	if q.Period != nil {
		t := asked.expected(s)
		if l.span.From, l.span.To, err = q.Period.bounds(moment{decide.Time(t, s.Now), asked.zones.Location(t.Zone), asked.windows.WeekStart}); err != nil {
			return nil, err
		}
	}
	l.span.From, l.span.To = books.Admission(l.span.From), books.Admission(l.span.To)
	l.rows = asked.at.table(db.WithContext(ctx).Model(&Execution{}))
	if err := l.conditions(); err != nil {
		return nil, err
	}
	l.all = l.rows.Session(&gorm.Session{})
	l.rows = l.all.Where("1 = 1")
	if s.Tenant != nil && !q.Everybody {
		l.whose = s.Tenant.ID
		id := l.whose.String()
		if q.Descendants {
			l.rows = l.rows.Where("(tenant = ? OR parents <> '{}' AND "+asked.dialect.Below("parents")+")", id, id)
		} else {
			l.rows = l.rows.Where("tenant = ?", id)
		}
	}
	l.rows = l.rows.Session(&gorm.Session{})
	if l.sliced && !l.nobody {
		extent := books.Question{Everybody: q.Everybody}
		if s.Tenant != nil {
			extent.Tenant = s.Tenant.ID
		}
		if l.first, l.last, err = asked.books.Extent(ctx, extent); err != nil {
			return nil, asked.failure(ctx, err)
		}
		if l.last = l.last.Add(time.Hour); s.Now.After(l.last) {
			l.last = s.Now
		}
		if l.first.IsZero() {
			l.first = l.last
		}
	}
	return l, nil
}

// conditions adds those of the query.
func (l *lister) conditions() error {
	for column, values := range map[string][]string{"status": l.Statuses, "agent": l.Agents, "provider": l.Providers, "actor": l.Actors} {
		if len(values) > 0 {
			l.rows = l.rows.Where(column+" IN ?", values)
		}
	}
	if len(l.Models) > 0 {
		l.rows = l.rows.Where("(model IN ? OR billed_model IN ?)", l.Models, l.Models)
	}
	for _, name := range slices.Sorted(maps.Keys(l.Tags)) {
		l.rows = l.rows.Where(l.dialect.Tag("tags")+" = ?", name, l.Tags[name])
	}
	for name, bound := range map[string]Money{"MinCost": l.MinCost, "MaxCost": l.MaxCost} {
		switch {
		case bound.err != nil:
			return fmt.Errorf("%w: ExecutionQuery.%s: %w", ErrInvalidOption, name, bound.err)
		case !bound.set:
		case name == "MinCost":
			l.rows = l.rows.Where("cost >= ?", bound.nano)
		default:
			l.rows = l.rows.Where("cost < ?", bound.nano)
		}
	}
	if l.Estimated {
		l.rows = l.rows.Where("estimated")
	}
	if l.Unpriced {
		l.rows = l.rows.Where("unpriced")
	}
	return nil
}

// page reads on from where the list is. What runs is few, and found by an index of its own; what ends in between is in both.
func (l *lister) page(ctx context.Context, size int) ([]Execution, error) {
	found, err := l.pageHere(ctx, size)
	for _, other := range l.others {
		if err != nil {
			return nil, err
		}
		var more []Execution
		other.after = l.after
		if more, err = other.pageHere(ctx, size); len(more) > 0 {
			found = l.merged(found, more, size)
		}
	}
	return found, err
}

// pageHere is page in one place.
func (l *lister) pageHere(ctx context.Context, size int) ([]Execution, error) {
	if l.nobody || !l.span.From.Before(l.span.To) {
		return nil, nil
	}
	running, err := l.find(l.rows.Where("status = 'running'"), l.span, size)
	if err != nil {
		return nil, err
	}
	rows := l.rows.Where("status <> 'running'").Session(&gorm.Session{})
	var found []Execution
	switch {
	case !l.sliced:
		found, err = l.find(rows, l.span, size)
	case l.ByCost:
		found, err = l.dearest(ctx, rows, size)
	default:
		found, err = l.slices(ctx, rows, size)
	}
	if err != nil {
		return nil, err
	}
	return l.merged(found, running, size), nil
}

// merged returns the first of two parts of a list.
func (l *lister) merged(a, b []Execution, size int) []Execution {
	have := make(map[string]bool, len(a))
	for i := range a {
		have[a[i].ID] = true
	}
	for _, e := range b {
		if !have[e.ID] {
			a = append(a, e)
		}
	}
	slices.SortFunc(a, func(x, y Execution) int {
		order := cmp.Or(cmp.Compare(l.rank(&x), l.rank(&y)), cmp.Compare(x.ID, y.ID))
		if l.Ascending {
			return order
		}
		return -order
	})
	return a[:min(size, len(a))]
}

// find reads the first rows of a range of time that the list has not had.
func (l *lister) find(rows *gorm.DB, r books.Range, size int) (found []Execution, err error) {
	column, direction, beyond := "admitted_at", " DESC", "<"
	if l.ByCost {
		column = "cost"
	}
	if l.Ascending {
		direction, beyond = "", ">"
	}
	rows = rows.Where("admitted_at >= ? AND admitted_at < ?", l.dialect.Time(r.From), l.dialect.Time(r.To))
	if l.after != nil {
		var rank any = l.after.rank
		if !l.ByCost {
			rank = l.dialect.Time(time.UnixMicro(l.after.rank))
		}
		rows = rows.Where(column+" "+beyond+"= ? AND ("+column+" "+beyond+" ? OR id "+beyond+" ?)", rank, rank, l.after.id)
	}
	if err := rows.Order(column + direction + ", id" + direction).Limit(size).Find(&found).Error; err != nil {
		return nil, l.failure(rows.Statement.Context, err)
	}
	return found, nil
}

// slices reads a page by slices of time, so that no statement takes long.
func (l *lister) slices(ctx context.Context, rows *gorm.DB, size int) (found []Execution, err error) {
	left := l.span
	if l.after != nil {
		at := time.UnixMicro(l.after.rank).UTC()
		if l.Ascending && at.After(left.From) {
			left.From = at
		} else if end := at.Add(time.Microsecond); !l.Ascending && end.Before(left.To) {
			left.To = end
		}
	}
	for left.From.Before(left.To) && len(found) < size {
		var slice books.Range
		slice, left = l.slice(left)
		started := time.Now()
		more, err := l.find(rows, slice, size-len(found))
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
		l.adapt(time.Since(started))
		if err := ctx.Err(); err != nil {
			return nil, l.failure(ctx, err)
		}
	}
	return found, nil
}

// dearest reads a page by cost, by slices of time.
func (l *lister) dearest(ctx context.Context, rows *gorm.DB, size int) (found []Execution, err error) {
	left := l.span
	for left.From.Before(left.To) {
		var slice books.Range
		slice, left = l.slice(left)
		started := time.Now()
		more, err := l.find(rows, slice, size)
		if err != nil {
			return nil, err
		}
		found = l.merged(found, more, size)
		l.adapt(time.Since(started))
		if err := ctx.Err(); err != nil {
			return nil, l.failure(ctx, err)
		}
	}
	return found, nil
}

// slice cuts the next slice off what is left, in the direction of the list. What lies before and after everything on the
// roll-up is one slice each.
func (l *lister) slice(left books.Range) (slice, rest books.Range) {
	var at time.Time
	if l.Ascending {
		switch {
		case left.From.Before(l.first):
			at = l.first
		case !left.From.Before(l.last):
			at = left.To
		default:
			at = left.From.Add(l.width)
		}
		if !at.Before(left.To) {
			return left, books.Range{From: left.To, To: left.To}
		}
		return books.Range{From: left.From, To: at}, books.Range{From: at, To: left.To}
	}
	switch {
	case left.To.After(l.last):
		at = l.last
	case !left.To.After(l.first):
		at = left.From
	default:
		at = left.To.Add(-l.width)
	}
	if !at.After(left.From) {
		return left, books.Range{From: left.From, To: left.From}
	}
	return books.Range{From: at, To: left.To}, books.Range{From: left.From, To: at}
}

// adapt makes slices longer or shorter, so that each takes some hundredths of a second.
func (l *lister) adapt(took time.Duration) {
	const short, long = 25 * time.Millisecond, 100 * time.Millisecond
	switch {
	case took < short:
		l.width = min(2*l.width, 512*time.Hour)
	case took > long:
		l.width = max(l.width/2, time.Minute)
	}
}
