package tenant

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/internal/text"
)

// Query is a question about usage, which [QueryUsage] answers: whose calls, of which time, taken apart by what. Its zero
// value asks about the calls without a tenant, and lacks a period.
type Query struct {
	// Tenant is whose calls are meant; nil: the calls without a tenant.
	Tenant Tenant

	// Descendants adds the calls of all tenants that stood below the tenant when they were made. Defaults to its own alone.
	Descendants bool

	// Everybody means the calls of all tenants, and those without one, in the place of Tenant, which is nil then.
	Everybody bool

	// Period is when the calls were admitted.
	Period Period

	// TimeZone is the IANA name of the time zone in which the period's dates, and the hours, days, weeks and months of By
	// begin. Defaults to the zone that the period is in (see [Period]), otherwise the tenant's, otherwise the ledger's.
	TimeZone string

	// By says what the calls are taken apart by: none, one or two groups, of which at most one is of time.
	By []Group

	// Top keeps the rows that have the most of OrderBy, as many as it says. With a group of time and another group, these are
	// the keys of the other one that have the most in all of the period, and every row of theirs stays. Defaults to 0: all.
	Top int

	// OrderBy is what Top goes by, and the order of the rows: the most first, but rows of different times by their time. Defaults
	// to [CostMeasure].
	OrderBy Measure

	// Compare adds what each row was in the period before: the day before a day, the month before a month, otherwise the time of
	// the same length that ends where the period begins. [AllTime] has none, which is an [ErrInvalidOption].
	Compare bool
}

// Group is what the answer to a [Query] is taken apart by: one of the constants, or a tag by [ByTag].
type Group string

// The groups. A call without an agent, a tag and the like is in the group of the empty text.
const (
	ByTenant      Group = "tenant"       // by the id that the tenant has now
	ByAgent       Group = "agent"        // see WithAgent
	ByAskedModel  Group = "asked model"  // the model that was asked for
	ByModel       Group = "model"        // the model that was billed; where nobody billed any, the one that was asked for
	ByProvider    Group = "provider"     // as its price was looked up
	ByServiceTier Group = "service tier" // that the provider says it was served in
	ByActor       Group = "actor"        // see ContextWithActor
	ByHour        Group = "hour"         // of the clocks in the time zone
	ByDay         Group = "day"
	ByWeek        Group = "week" // which begins as those of limits do: see WithWeekStart
	ByMonth       Group = "month"
)

const tagGroup = "tag:"

// ByTag is the group of a tag's values; see [WithTag]. As text it is "tag:" and the name.
func ByTag(name string) Group { return Group(tagGroup + name) }

// Measure names a figure of [Measures].
type Measure string

// The measures.
const (
	CostMeasure           Measure = "cost"
	ChargeMeasure         Measure = "charge"
	MarginMeasure         Measure = "margin"
	TokensMeasure         Measure = "tokens"
	CallsMeasure          Measure = "calls"
	ErrorsMeasure         Measure = "errors"
	RefusalsMeasure       Measure = "refusals"
	EstimatedMeasure      Measure = "estimated"
	UnpricedMeasure       Measure = "unpriced"
	AverageLatencyMeasure Measure = "average latency"
	P95LatencyMeasure     Measure = "p95 latency"
)

// Measures are the figures of calls that have ended. Whatever they are taken apart by, the figures of the parts add up to
// those of the whole, but for the latencies.
type Measures struct {
	Cost   decimal.Decimal // US dollars that the provider bills
	Charge decimal.Decimal // US dollars that the tenants pay
	Margin decimal.Decimal // Charge less Cost

	Tokens int64 // of all classes

	// Usage is the tokens by class, and the units. A call that was abandoned, or whose usage could not be believed, is charged
	// the tokens that it held without anybody knowing their classes: so Tokens can be more than the classes add up to.
	Usage Usage

	Calls     int64 // made, with those that failed
	Errors    int64 // calls that failed
	Refusals  int64 // calls that were not made because a limit had no room; counted by the hour; written within a minute, and lost where the process dies before
	Estimated int64 // calls whose cost is not by usage that the provider reported
	Unpriced  int64 // calls for which no price was known: their cost is not the truth

	AverageLatency time.Duration // of the calls of which it is known how long they took; 0 where there are none
	P95Latency     time.Duration // which 95 per cent of those calls did not exceed, to within 12.5 per cent
}

// UsageAnswer is what [QueryUsage] returns.
type UsageAnswer struct {
	// From and To are the period, half-open, in UTC; both are zero for [AllTime].
	From time.Time `json:",omitzero"`
	To   time.Time `json:",omitzero"`

	// TimeZone is the zone in which dates and hours begin: an IANA name, or that of a zone that was given in code.
	TimeZone string

	// Rows are the parts; one where the query takes nothing apart. With a group of time, every hour, day, week or month of the
	// period has its row, also without a call.
	Rows []UsageRow

	// Total is all of it, also what Top leaves out.
	Total Measures

	// Before is the period before, and what all of it was then; nil without Compare.
	Before *UsageBefore `json:",omitempty"`
}

// UsageBefore is the period before, half-open, in UTC.
type UsageBefore struct {
	From, To time.Time
	Total    Measures
}

// UsageRow is one part of an answer.
type UsageRow struct {
	// Keys are those of the groups of By, in their order. A day is written 2026-03-08, a week as its first day, a month 2026-03,
	// an hour as RFC 3339 says. A tenant that has given up its id has the one that it had last.
	Keys []string `json:",omitempty"`

	// Tenant is, in an answer by tenant, what never changes of it; empty for the calls without a tenant.
	Tenant UUID `json:",omitempty"`

	// Start is, in an answer by time, when the hour, day, week or month begins, in the answer's time zone: for the first one it
	// may be before the period.
	Start time.Time `json:",omitzero"`

	Measures

	// Before is what the row was in the period before: with a group of time, in its hour, day, week or month of the same number;
	// nil without Compare.
	Before *Measures `json:",omitempty"`
}

// maxRows is how many hours, days, weeks or months, and how many rows with the empty ones, an answer has at most.
const maxRows = 1_000_000

// QueryUsage answers a question about usage:
//
//	month, err := tenant.QueryUsage(ctx, db, tenant.Query{
//		Tenant: org, Period: tenant.ThisMonth, By: []tenant.Group{tenant.ByDay, tenant.ByModel},
//	})
//
// A call counts when it has ended: what running calls hold is no cost. A call belongs to the time at which it was admitted. All
// of the answer is of one moment, to the nano-dollar. It reads where [Cost] reads.
//
// Refusals belong to the whole hour in which they happened, and count where that hour begins; by actor and by tag they are all
// in the group of the empty text, and by tenant, with descendants, those of all in the tenant's own.
//
// Errors: those of [Cost]; [ErrInvalidOption], which names what is wrong, for a group or a measure that is none, for more than
// two groups or two of time, for a period that ends before it begins, for a time zone that is none, for Everybody with a
// tenant, and for an answer of more than a million rows.
func QueryUsage(ctx context.Context, db *gorm.DB, query Query) (UsageAnswer, error) {
	asked, err := query.check()
	if err != nil {
		return UsageAnswer{}, err
	}
	return onReplica(ctx, db, func(db *gorm.DB) (UsageAnswer, error) { return answerUsage(ctx, db, query, asked) })
}

func answerUsage(ctx context.Context, db *gorm.DB, query Query, asked asked) (UsageAnswer, error) {
	q, err := askThere(ctx, db, query.Tenant)
	if err != nil {
		return UsageAnswer{}, err
	}
	s, err := q.answer(ctx)
	if err != nil {
		return UsageAnswer{}, err
	}
	asked.of.At = s.Now
	if s.Tenant != nil {
		asked.of.Tenant = s.Tenant.ID
	}
	if err := q.frame(ctx, &asked, s); err != nil {
		return UsageAnswer{}, err
	}
	var lines []books.Line
	if s.Tenant != nil || asked.of.Everybody {
		if lines, err = q.add(ctx, asked.of); err != nil {
			return UsageAnswer{}, err
		}
	}
	return q.rows(ctx, &asked, lines)
}

// add adds up calls, as of one moment.
func (q *question) add(ctx context.Context, of books.Question) ([]books.Line, error) {
	if of.Everybody && len(q.places) > 1 {
		var lines []books.Line
		type which struct {
			keys         [2]string
			span, period int
		}
		known := map[which]int{}
		err := q.everywhere(func(b books.Books) error {
			more, err := b.Answer(ctx, of, q.folded())
			for i := range more {
				l := &more[i]
				w := which{l.Keys, l.Span, l.Period}
				if at, there := known[w]; there {
					books.Merge(&lines[at].HourSum, &l.HourSum)
					continue
				}
				known[w] = len(lines)
				lines = append(lines, *l)
			}
			return err
		})
		if err != nil {
			return nil, q.failure(ctx, err)
		}
		return lines, nil
	}
	b := q.books
	if _, transaction := b.Conn.(gorm.TxCommitter); !transaction && !b.LocksRows && of.Sliced() {
		// Whatever the host has its transactions begin with, this one locks nothing.
		conn, err := q.host.Conn(ctx)
		if err != nil {
			return nil, q.failure(ctx, err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := conn.ExecContext(ctx, "BEGIN"); err != nil {
			return nil, q.failure(ctx, err)
		}
		defer func() { _, _ = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK") }()
		b.Conn = conn
	}
	lines, err := b.Answer(ctx, of, q.folded())
	if err != nil {
		return nil, q.failure(ctx, err)
	}
	return lines, nil
}

// extent is from when to when something is on the roll-up.
func (q *question) extent(ctx context.Context, of books.Question) (first, last time.Time, err error) {
	if !of.Everybody {
		return q.books.Extent(ctx, of)
	}
	err = q.everywhere(func(b books.Books) error {
		from, to, err := b.Extent(ctx, of)
		if !from.IsZero() && (first.IsZero() || from.Before(first)) {
			first = from
		}
		if to.After(last) {
			last = to
		}
		return err
	})
	return first, last, err
}

// asked is a query that was checked.
type asked struct {
	Query
	of     books.Question
	window period.Window // Total: it has no group of time
	time   int           // which group of By is of time
	zone   *time.Location
}

func (query *Query) invalid(format string, args ...any) error {
	return fmt.Errorf("%w: Query."+format, append([]any{ErrInvalidOption}, args...)...)
}

// check finds out what a query asks for, but for what depends on the tenant and the present.
func (query Query) check() (asked, error) {
	a := asked{Query: query, time: -1}
	a.of.Alone, a.of.Everybody = !query.Descendants, query.Everybody
	switch {
	case query.Everybody && query.Tenant != nil:
		return a, query.invalid("Everybody: there is a Tenant too, %q", query.Tenant.LLMTenantID())
	case query.Everybody && query.Descendants:
		return a, query.invalid("Everybody: Descendants are those of a Tenant")
	case query.Period == nil:
		return a, query.invalid("Period is nil")
	case query.Top < 0:
		return a, query.invalid("Top: %d is negative", query.Top)
	case len(query.By) > 2:
		return a, query.invalid("By: %q are more than two groups", query.By)
	}
	if a.OrderBy == "" {
		a.OrderBy = CostMeasure
	}
	if _, ok := figureOf[a.OrderBy]; !ok {
		return a, query.invalid("OrderBy: the measure %q is none", query.OrderBy)
	}
	for i, g := range query.By {
		if i > 0 && g == query.By[0] {
			return a, query.invalid("By: the group %q is there twice", g)
		}
		if w, ok := times[g]; ok {
			if a.time >= 0 {
				return a, query.invalid("By: %q and %q are both of time", query.By[0], g)
			}
			a.window, a.time = w, i
			continue
		}
		d, ok := dimensions[g]
		tag, tagged := strings.CutPrefix(string(g), tagGroup)
		switch {
		case ok:
			a.of.By = append(a.of.By, books.Group{Dimension: d})
		case tagged && tag != "":
			a.of.By = append(a.of.By, books.Group{Dimension: books.ByTag, Tag: tag})
		default:
			return a, query.invalid("By: the group %q is none", g)
		}
	}
	return a, nil
}

var times = map[Group]period.Window{ByHour: period.Hour, ByDay: period.Day, ByWeek: period.Week, ByMonth: period.Month}

var dimensions = map[Group]books.Dimension{
	ByTenant: books.ByTenant, ByAgent: books.ByAgent, ByAskedModel: books.ByAsked, ByModel: books.ByBilled,
	ByProvider: books.ByProvider, ByServiceTier: books.ByTier, ByActor: books.ByActor,
}

// figureOf is the value of each measure, to compare by.
var figureOf = map[Measure]func(s *book.HourSum) int64{
	CostMeasure:           func(s *book.HourSum) int64 { return s.Charged.Cost },
	ChargeMeasure:         func(s *book.HourSum) int64 { return s.Charged.Charge },
	MarginMeasure:         func(s *book.HourSum) int64 { return money.Sub(s.Charged.Charge, s.Charged.Cost) },
	TokensMeasure:         func(s *book.HourSum) int64 { return s.Charged.Tokens },
	CallsMeasure:          func(s *book.HourSum) int64 { return s.Charged.Calls },
	ErrorsMeasure:         func(s *book.HourSum) int64 { return s.Errors },
	RefusalsMeasure:       func(s *book.HourSum) int64 { return s.Refusals },
	EstimatedMeasure:      func(s *book.HourSum) int64 { return s.Estimated },
	UnpricedMeasure:       func(s *book.HourSum) int64 { return s.Unpriced },
	AverageLatencyMeasure: func(s *book.HourSum) int64 { return int64(average(s)) },
	P95LatencyMeasure:     func(s *book.HourSum) int64 { return int64(s.Latencies.Quantile(p95)) },
}

// p95 is in billionths.
const p95 = 950_000_000

func average(s *book.HourSum) time.Duration {
	if s.Timed <= 0 {
		return 0
	}
	return time.Duration(s.LatencyUS/s.Timed) * time.Microsecond
}

func measures(s *book.HourSum) Measures {
	return Measures{
		Cost: money.Decimal(s.Charged.Cost), Charge: money.Decimal(s.Charged.Charge), Margin: money.Decimal(money.Sub(s.Charged.Charge, s.Charged.Cost)),
		Tokens: s.Charged.Tokens, Usage: Usage(s.Usage), Calls: s.Charged.Calls,
		Errors: s.Errors, Refusals: s.Refusals, Estimated: s.Estimated, Unpriced: s.Unpriced,
		AverageLatency: average(s), P95Latency: s.Latencies.Quantile(p95),
	}
}

// frame finds the spans of time that are asked about.
func (q *question) frame(ctx context.Context, a *asked, s *books.State) error {
	t := q.expected(s)
	a.zone = q.zones.Location(t.Zone)
	if z, ok := a.Period.(zoned); ok {
		a.zone = z.zone
	}
	if a.TimeZone != "" {
		zone, err := period.LoadZone(a.TimeZone)
		if err != nil {
			return a.invalid("TimeZone: %w", err)
		}
		a.zone = zone
	}
	m := moment{decide.Time(t, s.Now), a.zone, q.windows.WeekStart}
	from, to, err := a.Period.bounds(m)
	if err != nil {
		return err
	}
	spans := []books.Range{{From: from, To: to}}
	if a.Compare {
		was, ok := before(a.Period, m, spans[0])
		if !ok {
			return a.invalid("Compare: there is no period before %v", a.Period)
		}
		spans = append(spans, was)
	}
	for _, r := range spans {
		span := books.Span{Range: r}
		if a.window != period.Total {
			if span, err = q.periods(ctx, a, s, r, m); err != nil {
				return err
			}
		}
		a.of.Spans = append(a.of.Spans, span)
	}
	return nil
}

// periods takes a range of time apart. All time is that in which something is on the books.
func (q *question) periods(ctx context.Context, a *asked, s *books.State, r books.Range, m moment) (books.Span, error) {
	span := books.Span{Range: r}
	at, end := r.From, r.To
	if r == books.Ever {
		if s.Tenant == nil && !a.of.Everybody {
			return span, nil
		}
		first, last, err := q.extent(ctx, a.of)
		if err != nil {
			return span, q.failure(ctx, err)
		}
		if at, end = first, last.Add(time.Hour); m.now.After(end) {
			end = m.now.Add(time.Microsecond)
		}
		if first.IsZero() {
			return span, nil
		}
	}
	for at.Before(end) {
		start, next := period.Bounds(a.window, at, a.zone, m.weekStart)
		span.Periods = append(span.Periods, start)
		if at = next; len(span.Periods) > maxRows {
			return span, a.invalid("Period: %v has more than %d of the group %q", a.Period, maxRows, a.By[a.time])
		}
	}
	return span, nil
}

// before returns the period before another one, whose range it is given.
func before(p Period, m moment, r books.Range) (books.Range, bool) {
	switch p := p.(type) {
	case zoned:
		return before(p.Period, m, r)
	case Calendar:
		if p == AllTime {
			return r, false
		}
		from, to := period.Bounds(calendar[p].window, r.From.Add(-time.Nanosecond), m.zone, m.weekStart)
		return books.Range{From: from, To: to}, true
	case Dates:
		first, last := period.Preceding(p.first, p.last)
		from, to := period.Dates(first, last, m.zone)
		return books.Range{From: from, To: to}, true
	default:
		return books.Range{From: r.From.Add(-r.To.Sub(r.From)), To: r.From}, true
	}
}

// maxRollupTags is how many tags are rolled up at most.
const maxRollupTags = 8

// WithRollupTags names tags (see [WithTag]) that are rolled up: questions by one of them ([ByTag]), and by it and a time, read
// days and months that are folded from the executions, and [Ledger.Prune] keeps their values, so that they can be asked of calls that are gone.
// A call costs nothing more for it. Of each tag, the first 1,000 values that come are told apart, and the
// others are the value "other". All processes on one database must give the same.
//
// At most 8 tags; an empty name, one that is there twice and more than 8 are an [ErrInvalidOption]. Defaults to none: a question by a tag reads the
// executions.
func WithRollupTags(names ...string) OpenOption {
	return func(o *openOptions) error {
		o.tags = slices.Clone(names)
		slices.Sort(o.tags)
		for i, name := range o.tags {
			if err := text.Valid(ErrInvalidOption, "name in WithRollupTags", name, true); err != nil {
				return err
			}
			if i > 0 && name == o.tags[i-1] {
				return fmt.Errorf("%w: WithRollupTags: the tag %q is there twice", ErrInvalidOption, name)
			}
		}
		if len(names) > maxRollupTags {
			return fmt.Errorf("%w: WithRollupTags: %d tags are more than %d", ErrInvalidOption, len(names), maxRollupTags)
		}
		return nil
	}
}
