package tenant

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/shopspring/decimal"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/money"
)

// QueryOption is an option of a question about usage.
type QueryOption func(*query)

type query struct{ descendants bool }

func queryOf(options []QueryOption) (q query, err error) {
	for _, option := range options {
		if option == nil {
			return q, fmt.Errorf("%w: a nil QueryOption", ErrInvalidOption)
		}
		option(&q)
	}
	return q, nil
}

// WithDescendants adds the calls of all tenants that stood below the tenant when they were made. Defaults to off: a question
// is about the tenant's own calls alone, so that the answers of all tenants add up to the whole.
func WithDescendants() QueryOption { return func(q *query) { q.descendants = true } }

// Cost returns what the calls of a tenant that were admitted in a period have cost, in US dollars: what providers bill for them.
// [Charge] is what the tenant is charged for them, by its terms and with credits and debits. A call counts when it
// has ended: what running calls hold is no cost. A tenant without calls, or one that does not exist, has spent nothing;
// a nil Tenant asks about the calls without a tenant.
//
// It reads on db's own connection, so that it sees what a transaction of db sees, and never a replica. The present day
// and month, in the tenant's own time zone, and AllTime are kept as one row, however many calls there are; any other
// period, and the own calls of a tenant that has others below it, are the sum of the hours, and of the calls in the two
// hours that the period cuts.
//
// Errors: [ErrNotOpen], [ErrClosed], [ErrNotMigrated], [ErrInvalidTenant], [ErrIdentityConflict], [ErrInvalidOption] for
// a period that cannot be and for a nil option, [ErrNoBudget] for the [Root] where there is no root budget, [*UnknownTenantError] with
// [WithKnownTenantsOnly], [ErrRowsOpen], [ErrUnavailable], and ctx's own.
func Cost(ctx context.Context, db *gorm.DB, t Tenant, p Period, options ...QueryOption) (decimal.Decimal, error) {
	sum, err := spent(ctx, db, t, p, options)
	return money.Decimal(sum.Cost), err
}

// CostToday is [Cost] of [Today], with the errors of [Cost].
func CostToday(ctx context.Context, db *gorm.DB, t Tenant, options ...QueryOption) (decimal.Decimal, error) {
	return Cost(ctx, db, t, Today, options...)
}

// CostThisMonth is [Cost] of [ThisMonth], with the errors of [Cost].
func CostThisMonth(ctx context.Context, db *gorm.DB, t Tenant, options ...QueryOption) (decimal.Decimal, error) {
	return Cost(ctx, db, t, ThisMonth, options...)
}

// Charge returns what a tenant is charged for its calls that were admitted in a period, in US dollars: what they cost by its
// terms (its mark-up, its discount, its negotiated prices, its own keys), with what [Ledger.Credit] has given back and
// [Ledger.Debit] has charged. It is what budgets count, unless they say otherwise (see [Counts]). What Charge is above [Cost] is
// the margin. Otherwise it is like Cost, with its errors.
func Charge(ctx context.Context, db *gorm.DB, t Tenant, p Period, options ...QueryOption) (decimal.Decimal, error) {
	sum, err := spent(ctx, db, t, p, options)
	return money.Decimal(sum.Charge), err
}

// ChargeToday is [Charge] of [Today], with the errors of [Cost].
func ChargeToday(ctx context.Context, db *gorm.DB, t Tenant, options ...QueryOption) (decimal.Decimal, error) {
	return Charge(ctx, db, t, Today, options...)
}

// ChargeThisMonth is [Charge] of [ThisMonth], with the errors of [Cost].
func ChargeThisMonth(ctx context.Context, db *gorm.DB, t Tenant, options ...QueryOption) (decimal.Decimal, error) {
	return Charge(ctx, db, t, ThisMonth, options...)
}

// Tokens returns how many tokens, of all classes, were charged for the calls of a tenant that were admitted in a period;
// otherwise it is like [Cost], with its errors.
func Tokens(ctx context.Context, db *gorm.DB, t Tenant, p Period, options ...QueryOption) (int64, error) {
	sum, err := spent(ctx, db, t, p, options)
	return sum.Tokens, err
}

// TokensToday is [Tokens] of [Today], with the errors of [Cost].
func TokensToday(ctx context.Context, db *gorm.DB, t Tenant, options ...QueryOption) (int64, error) {
	return Tokens(ctx, db, t, Today, options...)
}

// TokensThisMonth is [Tokens] of [ThisMonth], with the errors of [Cost].
func TokensThisMonth(ctx context.Context, db *gorm.DB, t Tenant, options ...QueryOption) (int64, error) {
	return Tokens(ctx, db, t, ThisMonth, options...)
}

// ExecutionCount returns how many calls of a tenant that were admitted in a period have been made. Calls that failed or
// were abandoned were made; those that run are counted when they end, and released ones never. Otherwise it is like [Cost], with its errors.
func ExecutionCount(ctx context.Context, db *gorm.DB, t Tenant, p Period, options ...QueryOption) (int64, error) {
	sum, err := spent(ctx, db, t, p, options)
	return sum.Calls, err
}

// ExecutionCountToday is [ExecutionCount] of [Today], with the errors of [Cost].
func ExecutionCountToday(ctx context.Context, db *gorm.DB, t Tenant, options ...QueryOption) (int64, error) {
	return ExecutionCount(ctx, db, t, Today, options...)
}

// ExecutionCountThisMonth is [ExecutionCount] of [ThisMonth], with the errors of [Cost].
func ExecutionCountThisMonth(ctx context.Context, db *gorm.DB, t Tenant, options ...QueryOption) (int64, error) {
	return ExecutionCount(ctx, db, t, ThisMonth, options...)
}

// spent adds up what was charged in a period.
func spent(ctx context.Context, db *gorm.DB, t Tenant, p Period, options []QueryOption) (book.Amount, error) {
	asked, err := queryOf(options)
	if err != nil {
		return book.Amount{}, err
	}
	db = onPrimary(ctx, db)
	alone := !asked.descendants
	q, err := ask(ctx, db, t)
	if err != nil {
		return book.Amount{}, err
	}
	s, r, err := q.during(ctx, p)
	if err != nil || s.Tenant == nil {
		return book.Amount{}, err
	}
	if sum, ok := kept(s, r, alone); ok {
		return sum, nil
	}
	if len(q.places) == 1 {
		return q.spent(ctx, s, r, alone)
	}
	return ofOneMoment(ctx, db, func(db *gorm.DB) (book.Amount, error) {
		q, err := ask(ctx, db, t)
		if err != nil {
			return book.Amount{}, err
		}
		s, r, err := q.during(ctx, p)
		if err != nil || s.Tenant == nil {
			return book.Amount{}, err
		}
		return q.spent(ctx, s, r, alone)
	})
}

// kept is what a balance says was charged in a period. It reports false where none does.
func kept(s *books.State, r books.Range, alone bool) (book.Amount, bool) {
	if alone && (s.Tenant.HasDescendants || s.Tenant.ID == book.Root) {
		return book.Amount{}, false // balances count what is below as well
	}
	for _, b := range s.Tenant.Balances {
		whole := b.Scope == book.Anchor && r == books.Ever
		standing := b.Agent == "" && b.Model == "" && b.Start.Equal(r.From) && b.End.Equal(r.To)
		if whole || standing {
			return b.Spent, true
		}
	}
	return book.Amount{}, false
}

// spent adds up the calls of a period.
func (q *question) spent(ctx context.Context, s *books.State, r books.Range, alone bool) (book.Amount, error) {
	if r.To.Sub(r.From) < 2*day {
		sum, err := q.books.Spent(ctx, books.Calls{Tenant: s.Tenant.ID, Alone: alone, Range: r, At: s.Now})
		if err != nil {
			return book.Amount{}, q.failure(ctx, err)
		}
		return sum, nil
	}
	// What is long may be folded.
	lines, err := q.add(ctx, books.Question{Tenant: s.Tenant.ID, Alone: alone, At: s.Now, Spans: []books.Span{{Range: r}}})
	var sum book.HourSum
	for i := range lines {
		books.Merge(&sum, &lines[i].HourSum)
	}
	return sum.Charged, err
}

// during reads the tenant, and finds the bounds of a period for it.
func (q *question) during(ctx context.Context, p Period) (*books.State, books.Range, error) {
	if p == nil {
		return nil, books.Range{}, fmt.Errorf("%w: the period is nil", ErrInvalidOption)
	}
	s, err := q.answer(ctx)
	if err != nil {
		return nil, books.Range{}, err
	}
	t := q.expected(s)
	from, to, err := p.bounds(moment{decide.Time(t, s.Now), q.zones.Location(t.Zone), q.windows.WeekStart})
	if err != nil {
		return nil, books.Range{}, err
	}
	return s, books.Range{From: from, To: to}, nil
}

// Summary is what a tenant used in a period.
type Summary struct {
	// From and To are the period, half-open, in UTC; both are zero for AllTime.
	From time.Time `json:",omitzero"`
	To   time.Time `json:",omitzero"`

	Totals

	// ByAgent and ByModel are the same, taken apart; the dearest come first.
	ByAgent []AgentTotals
	ByModel []ModelTotals
}

// Totals are sums over calls that have ended.
type Totals struct {
	Cost   decimal.Decimal // what providers bill, in US dollars
	Charge decimal.Decimal // what tenants are charged, in US dollars
	Tokens int64           // of all classes

	// Usage is the tokens by class. A call that was abandoned, or whose usage could not be believed, is charged the tokens
	// that it held without anybody knowing their classes: so Tokens can be more than the classes add up to.
	Usage Usage

	Calls    int64 // made, with those that failed
	Errors   int64 // calls that failed
	Refusals int64 // calls that were not made because a limit had no room; counted by the hour; written within a minute, and lost where the process dies before
}

// Margin returns what is left of the charges beyond the costs, in US dollars; less than zero where calls cost more.
func (t Totals) Margin() decimal.Decimal { return t.Charge.Sub(t.Cost) }

// AgentTotals are the calls of one agent, by the name that they were given [WithAgent]; empty for those without one.
type AgentTotals struct {
	Agent string
	Totals
}

// ModelTotals are the calls that one model was billed for; where nobody billed any, those that asked for it.
type ModelTotals struct {
	Model string
	Totals
}

// UsageSummary returns what the calls of a tenant that were admitted in a period used, by agent and by model. It counts
// like [Cost], reads where Cost reads, and returns the same errors. All of it is of one moment.
//
// Refusals belong to the whole hour in which they happened, and count where that hour begins. A refusal is
// written with the next call of its tenant, and by itself within a minute; those of a process that dies before are lost.
func UsageSummary(ctx context.Context, db *gorm.DB, t Tenant, p Period, options ...QueryOption) (Summary, error) {
	asked, err := queryOf(options)
	if err != nil {
		return Summary{}, err
	}
	return onReplica(ctx, db, func(db *gorm.DB) (Summary, error) { return summarise(ctx, db, t, p, asked) })
}

func summarise(ctx context.Context, db *gorm.DB, t Tenant, p Period, asked query) (Summary, error) {
	q, err := askThere(ctx, db, t)
	if err != nil {
		return Summary{}, err
	}
	s, r, err := q.during(ctx, p)
	if err != nil {
		return Summary{}, err
	}
	var lines []books.Line
	if s.Tenant != nil {
		lines, err = q.add(ctx, books.Question{
			Tenant: s.Tenant.ID, Alone: !asked.descendants, At: s.Now, Spans: []books.Span{{Range: r}},
			By: []books.Group{{Dimension: books.ByAgent}, {Dimension: books.ByBilled}},
		})
		if err != nil {
			return Summary{}, err
		}
	}
	return summary(r, lines), nil
}

func summary(r books.Range, lines []books.Line) Summary {
	s := Summary{From: r.From, To: r.To}
	if r == books.Ever {
		s.From, s.To = time.Time{}, time.Time{}
	}
	var all part
	agents, models := map[string]*part{}, map[string]*part{}
	for i := range lines {
		l := &lines[i]
		for _, to := range []*part{&all, at(agents, l.Keys[0]), at(models, l.Keys[1])} {
			books.Merge(&to.now, &l.HourSum)
		}
	}
	s.Totals = totals(&all.now)
	for name, p := range agents {
		s.ByAgent = append(s.ByAgent, AgentTotals{name, totals(&p.now)})
	}
	for name, p := range models {
		s.ByModel = append(s.ByModel, ModelTotals{name, totals(&p.now)})
	}
	slices.SortFunc(s.ByAgent, func(a, b AgentTotals) int {
		return cmp.Or(b.Cost.Cmp(a.Cost), cmp.Compare(a.Agent, b.Agent))
	})
	slices.SortFunc(s.ByModel, func(a, b ModelTotals) int {
		return cmp.Or(b.Cost.Cmp(a.Cost), cmp.Compare(a.Model, b.Model))
	})
	return s
}

func totals(p *book.HourSum) Totals {
	return Totals{
		Cost: money.Decimal(p.Charged.Cost), Charge: money.Decimal(p.Charged.Charge), Tokens: p.Charged.Tokens, Usage: Usage(p.Usage),
		Calls: p.Charged.Calls, Errors: p.Errors, Refusals: p.Refusals,
	}
}
