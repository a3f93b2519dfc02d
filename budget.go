package tenant

import (
	"cmp"
	"context"
	"fmt"
	"math/big"
	"slices"
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

// Budget is a tenant's settings: what is its own, without what it inherits. [BudgetStatus] says what is in force.
type Budget struct {
	TenantID string
	Name     string

	// ParentID is the id of the tenant above it, whose budget counts the calls of this one too; empty: none but the
	// [Root], if there is one. Who is moved takes effect with the next call, and takes no history along: what was spent
	// below the old parent stays on its books.
	ParentID string `json:",omitzero"`

	// Enforcement is Hard, Soft or None; empty: inherited from the ledger where Inherit says so, otherwise Soft.
	Enforcement Enforcement `json:",omitzero"`

	// Counts is what the budget's limits of cost count, [CountsCharge] or [CountsCost]; empty: what the ledger says
	// ([WithDefaultCounts]), otherwise the charge. Both are kept, so that a change is exact at once, in the windows that are open
	// too. The limits of the tenants above count what their own budgets say.
	Counts Counts `json:",omitzero"`

	// Inherit: the ledger's default limits hold for what Limits leaves absent, and its enforcement where there is none
	// here.
	Inherit bool

	// TimeZone is the IANA name of the zone in which the tenant's days and months begin; empty: the ledger's.
	TimeZone string `json:",omitzero"`

	Limits Limits

	// Suspended: the tenant may make no calls. Those that are running go on and are booked.
	Suspended bool
}

// Status is what a tenant's budget stands at.
type Status struct {
	TenantID string

	// Enforcement is the one in force, never empty.
	Enforcement Enforcement

	// Suspended: the tenant, or one above it, may make no calls.
	Suspended bool

	// PricesAsOf is the day of the ledger's price book (see [DatedPrices]), zero where it does not say.
	PricesAsOf time.Time `json:",omitzero"`

	// Limits are those in force, its own, the inherited ones and those of all tenants above it: those that count every call
	// first, by window, then by metric, the nearest tenant's first.
	Limits []LimitStatus
}

// BudgetFor returns a tenant's settings. For a record that was registered and has no budget yet, they are those that its
// first call will give it. Any other tenant without a budget is an [ErrNoBudget], and so is a nil Tenant.
//
// Its other errors are those of [Cost]; it reads where Cost reads.
func BudgetFor(ctx context.Context, db *gorm.DB, t Tenant) (*Budget, error) {
	q, err := ask(ctx, db, t)
	if err != nil {
		return nil, err
	}
	s, err := q.answer(ctx)
	if err != nil {
		return nil, err
	}
	switch own := q.expected(s); {
	case own.Deleted:
		return nil, fmt.Errorf("%w: tenant %q was deleted", ErrNoBudget, q.who.Key)
	case s.Tenant == nil && q.who.Declaration == nil, q.who.none():
		return nil, q.noBudget()
	default:
		return budget(own, q.name(t, s), s.Ancestors), nil
	}
}

func (q *question) noBudget() error {
	if q.who.none() {
		return fmt.Errorf("%w: calls without a tenant have none", ErrNoBudget)
	}
	return fmt.Errorf("%w: tenant %q", ErrNoBudget, q.who.Key)
}

// name is the tenant's name, or the one that its record is going to give it.
func (q *question) name(t Tenant, s *books.State) string {
	if q.made(s) {
		return s.Name
	}
	if bound, ok := t.(*recordTenant); ok {
		return bound.name
	}
	if t != nil {
		if name, declared := q.records.NameOf(t); declared {
			return name
		}
	}
	return q.who.Key
}

func budget(t *book.Tenant, name string, above []*book.Tenant) *Budget {
	parent := ""
	if len(above) > 0 && above[0].ID != book.Root {
		parent = above[0].Key
	}
	return &Budget{
		TenantID: t.Key, Name: name, ParentID: parent, Enforcement: Enforcement(t.Enforcement), Counts: Counts(t.Counts), Inherit: t.Inherit, TimeZone: t.Zone,
		Limits: limitsOf(t.Limits), Suspended: t.Suspended,
	}
}

// BudgetStatus returns the limits in force for a tenant and what each stands at, at one moment. A limit's window is the
// present one: when the last call was made in an earlier one, nothing is spent. Each has its [Forecast]. For a tenant without a budget it is what
// its first call will meet, and without a tenant there are no limits.
//
// Its errors are those of [Cost]; it reads where Cost reads.
func BudgetStatus(ctx context.Context, db *gorm.DB, t Tenant) (Status, error) {
	return budgetStatus(ctx, db, t, true)
}

func budgetStatus(ctx context.Context, db *gorm.DB, t Tenant, forecasts bool) (Status, error) {
	return ofOneMoment(ctx, onPrimary(ctx, db), func(db *gorm.DB) (Status, error) { return standingOf(ctx, db, t, forecasts) })
}

func standingOf(ctx context.Context, db *gorm.DB, t Tenant, forecasts bool) (Status, error) {
	q, err := ask(ctx, db, t)
	if err != nil {
		return Status{}, err
	}
	s, err := q.answer(ctx)
	if err != nil {
		return Status{}, err
	}
	own := q.expected(s)
	standings, err := q.standings(ctx, s, own)
	if err != nil {
		return Status{}, err
	}
	slices.SortStableFunc(standings, func(a, b decide.Standing) int { return compareLimits(&a.Limit, &b.Limit) })
	status := Status{
		TenantID:    own.Key,
		Enforcement: Enforcement(decide.Enforcement(own, &s.Defaults)),
		Suspended: slices.ContainsFunc(append([]*book.Tenant{own}, s.Ancestors...), func(t *book.Tenant) bool {
			return t.Suspended || t.Deleted
		}),
		PricesAsOf: q.pricesAsOf(),
	}
	first := map[book.ID]time.Time{}
	for i := range standings {
		l := limitStatus(standings[i].Tenant, &standings[i].Limit, &standings[i].Balance)
		if forecasts {
			id := standings[i].Tenant.ID
			if _, known := first[id]; !known {
				if first[id], err = q.books.FirstUse(ctx, id); err != nil {
					return Status{}, q.failure(ctx, err)
				}
			}
			f, err := q.forecast(ctx, &standings[i], decide.Time(standings[i].Tenant, s.Now), first[id])
			if err != nil {
				return Status{}, err
			}
			l.Forecast = &f
		}
		status.Limits = append(status.Limits, l)
	}
	return status, nil
}

// compareLimits orders limits for reading.
func compareLimits(a, b *book.Limit) int {
	metric := func(l *book.Limit) int {
		return slices.Index([]book.Metric{book.Cost, book.Tokens, book.Calls}, l.Metric)
	}
	return cmp.Or(cmp.Compare(a.Agent, b.Agent), cmp.Compare(a.Model, b.Model),
		cmp.Compare(length(a.Window), length(b.Window)), cmp.Compare(metric(a), metric(b)))
}

// all returns the limits that count every call. One agent's or one model's say nothing about the calls of others.
func (s Status) all() []LimitStatus {
	return slices.DeleteFunc(slices.Clone(s.Limits), func(l LimitStatus) bool { return l.Agent != "" || l.Model != "" })
}

// WithinBudget reports whether every limit in force has something left, of those that count every call. What running
// calls hold is not left. It is about the limits, whatever their enforcement; [CheckBudget] knows of suspension too. A
// call may need more than is left, and what is left now may be gone when a call is made: only the call itself is told
// for certain.
//
// Its errors are those of [Cost]; it writes nothing, and reads where Cost reads.
func WithinBudget(ctx context.Context, db *gorm.DB, t Tenant) (bool, error) {
	status, err := budgetStatus(ctx, db, t, false)
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(status.all(), func(l LimitStatus) bool { return l.Remaining.IsZero() }), nil
}

// RemainingBudget returns how many US dollars are left under the tightest of the cost limits in force that count every
// call; never less than zero. It reports false where there is no such limit. What running calls hold is not left.
//
// Its errors are those of [Cost]; it reads where Cost reads.
func RemainingBudget(ctx context.Context, db *gorm.DB, t Tenant) (decimal.Decimal, bool, error) {
	status, err := budgetStatus(ctx, db, t, false)
	if err != nil {
		return decimal.Decimal{}, false, err
	}
	left, limited := decimal.Decimal{}, false
	for _, l := range status.all() {
		if l.Metric == CostMetric && (!limited || l.Remaining.LessThan(left)) {
			left, limited = l.Remaining, true
		}
	}
	return left, limited, nil
}

// CheckBudget returns the error with which a call would be refused now for the limits in force that count every call, if
// it needed the least that can be: a [*BudgetExceededError], Contended where only running calls are in the way, or
// [ErrTenantSuspended]. It returns nil where there is something left under each of them. It says what [Hard] would say,
// also where the limits are enforced less strictly, so that a program can look before it does what leads to a call. It
// writes nothing, holds nothing, and promises nothing: see [WithinBudget].
//
// Its other errors are those of [Cost]; it reads where Cost reads.
func CheckBudget(ctx context.Context, db *gorm.DB, t Tenant) error {
	status, err := budgetStatus(ctx, db, t, false)
	if err != nil {
		return err
	}
	if status.Suspended {
		return fmt.Errorf("%w: %q", ErrTenantSuspended, status.TenantID)
	}
	var contended error
	for _, l := range status.all() {
		if !l.Remaining.IsZero() {
			continue
		}
		refusal := &BudgetExceededError{TenantID: status.TenantID, Limit: l, Requested: l.Metric.decimal(1), ResetsAt: l.ResetsAt}
		if l.Spent.GreaterThanOrEqual(l.Limit) {
			return refusal
		}
		if contended == nil {
			refusal.Contended = true
			contended = refusal
		}
	}
	return contended
}

// Forecast says where a limit is going, if its calls go on as they did for the length of one window before now: so it is
// no worse in a window's first minute than in its last. Under a limit in total it is for 30 days. A tenant whose first
// call is not that long ago is judged by the time since then, an hour at least.
type Forecast struct {
	// PerDay is the run rate: US dollars, tokens or calls a day.
	PerDay decimal.Decimal

	// Projected is what will be spent when the window ends; of a window that never ends, what is spent now.
	Projected decimal.Decimal

	// ExhaustedAt is when the limit will be used up; zero if that is not before the window ends, or not in the next
	// hundred years.
	ExhaustedAt time.Time `json:",omitzero"`
}

const (
	day = 24 * time.Hour

	// lookback is that of a window that never ends.
	lookback = 30 * day

	// shortest is the time for which a tenant's first calls are taken to stand.
	shortest = time.Hour

	never = 100 * 365 * day
)

// forecast looks at how a limit was used of late. Now is the time that a decision would be made at.
func (q *question) forecast(ctx context.Context, s *decide.Standing, now, first time.Time) (Forecast, error) {
	span := lookback
	if s.Limit.Window != period.Total {
		span = s.Balance.End.Sub(s.Balance.Start)
	}
	if since := max(now.Sub(first), shortest); since < span {
		span = since
	}
	sum, err := q.books.Spent(ctx, books.Calls{
		Tenant: s.Tenant.ID, Agent: s.Limit.Agent, Model: s.Limit.Model, Range: books.Range{From: now.Add(-span), To: now.Add(time.Microsecond)},
	})
	if err != nil {
		return Forecast{}, q.failure(ctx, err)
	}
	return project(s, max(s.Limit.Of(sum), 0), span, now), nil
}

// project draws the line from what was used in a span of time.
func project(s *decide.Standing, used int64, span time.Duration, now time.Time) Forecast {
	m, spent := Metric(s.Limit.Metric), s.Limit.Of(s.Balance.Spent)
	f := Forecast{PerDay: m.decimal(scale(used, day, span)), Projected: m.decimal(spent)}
	ends := now.Add(never)
	if s.Limit.Window != period.Total {
		ends = s.Balance.End
		f.Projected = m.decimal(money.Add(spent, scale(used, ends.Sub(now), span)))
	}
	switch left := s.Limit.Max - spent; {
	case left <= 0:
		f.ExhaustedAt = now
	case used > 0:
		if in := scale(int64(span), time.Duration(left), time.Duration(used)); in < int64(ends.Sub(now)) {
			f.ExhaustedAt = now.Add(time.Duration(in))
		}
	}
	return f
}

// scale returns amount × by / of, rounded, without overflowing on the way.
func scale(amount int64, by, of time.Duration) int64 {
	if of <= 0 {
		return 0
	}
	n := new(big.Int).Mul(big.NewInt(amount), big.NewInt(int64(by)))
	n.Add(n, big.NewInt(int64(of)/2))
	n.Div(n, big.NewInt(int64(of)))
	if !n.IsInt64() {
		return 1<<63 - 1
	}
	return n.Int64()
}

// UnmarshalJSON reads like that of [Limits], so that the body of a PATCH can be read into a budget in [ConfigureBudget].
func (b *Budget) UnmarshalJSON(data []byte) error {
	type plain Budget
	return text.Strictly(ErrInvalidOption, "Budget", data, (*plain)(b))
}
