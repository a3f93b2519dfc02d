package tenant

import (
	"errors"
	"fmt"
	"time"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/money"
)

// What can go wrong. Errors of this package wrap one of these where a program may want to tell it apart; use errors.Is,
// and errors.As for the types below.
var (
	// ErrInvalidTenant: a tenant whose id cannot be one, a nil pointer, or a record that was not saved yet.
	ErrInvalidTenant = errors.New("tenant: invalid tenant")

	// ErrTenantRequired: a call without a tenant on an agent that requires one.
	ErrTenantRequired = errors.New("tenant: the call has no tenant, and its agent requires one")

	// ErrTenantSuspended: the tenant may not make calls, because it was suspended or its record was deleted.
	ErrTenantSuspended = errors.New("tenant: the tenant is suspended")

	// ErrIdentityConflict: two records claim one tenant id.
	ErrIdentityConflict = errors.New("tenant: the tenant id belongs to another record")

	// ErrNoBudget: a tenant that has no budget of its own yet. Its first call gives it one, and so does ConfigureBudget.
	ErrNoBudget = errors.New("tenant: no budget")

	// ErrBudgetExceeded is matched by every *BudgetExceededError.
	ErrBudgetExceeded = errors.New("tenant: budget exceeded")

	// ErrNoPrice is matched by every *NoPriceError.
	ErrNoPrice = errors.New("tenant: no price is known")

	// ErrDuplicate is matched by every *DuplicateError.
	ErrDuplicate = errors.New("tenant: the idempotency key was used before")

	// ErrNotMigrated: the ledger's tables are not in the database. Ledger.Migrate makes them.
	ErrNotMigrated = errors.New("tenant: the ledger's tables are missing or incomplete; call ledger.Migrate(ctx) first")

	// ErrNotOpen: a handle that no ledger was opened on.
	ErrNotOpen = errors.New("tenant: no ledger is open on this *gorm.DB; use the one given to tenant.Open, or a session of it")

	// ErrClosed: the ledger was closed.
	ErrClosed = errors.New("tenant: the ledger is closed")

	// ErrUnavailable: the database cannot be reached, so nothing can be admitted.
	ErrUnavailable = errors.New("tenant: the database cannot be reached")

	// ErrReleased: a settle of a hold that was released before. Its usage is not booked.
	ErrReleased = errors.New("tenant: the hold was released, so its usage is not booked; Record books a call without a hold")

	// ErrInvalidOption: an option, a limit or an argument that cannot be meant.
	ErrInvalidOption = errors.New("tenant: invalid option")

	// ErrNotBilled is what a [Model] wraps its error in when it knows that the provider charges nothing for the call: it
	// was never sent, or the provider answered with an error.
	ErrNotBilled = errors.New("the provider charges nothing for it")
)

// BudgetExceededError says which limit left no room for a call. It matches [ErrBudgetExceeded].
type BudgetExceededError struct {
	TenantID string

	// Limit is the limit and what it stood at.
	Limit LimitStatus

	// Requested is the least that the call would have needed, in the limit's unit.
	Requested decimal.Decimal

	// Contended says that what is spent would leave room, and that the calls running at the time held it for longer than
	// this one would wait. Trying again makes sense.
	Contended bool

	// ResetsAt is when the limit's window ends.
	ResetsAt time.Time
}

func (e *BudgetExceededError) Error() string {
	l, metric := e.Limit, e.Limit.Metric
	why := "exceeded"
	if e.Contended {
		why = "held by running calls"
	}
	scope := ""
	if l.Agent != "" {
		scope += fmt.Sprintf(" of agent %q", l.Agent)
	}
	if l.Model != "" {
		scope += fmt.Sprintf(" of model %q", l.Model)
	}
	resets := ""
	if !e.ResetsAt.IsZero() {
		resets = "; resets at " + e.ResetsAt.Format(time.RFC3339)
	}
	return fmt.Sprintf("tenant %q: %s limit of %s%s %s: %s spent, %s held, %s requested%s", e.TenantID, l.label(),
		metric.format(l.Limit), scope, why, metric.format(l.Spent), metric.format(l.Held), metric.format(e.Requested), resets)
}

// Is reports whether target is [ErrBudgetExceeded].
func (e *BudgetExceededError) Is(target error) bool { return target == ErrBudgetExceeded }

// NoPriceError says that a call cannot be admitted against a cost limit because its model has no price. It matches
// [ErrNoPrice].
type NoPriceError struct {
	TenantID, Provider, Model string
}

func (e *NoPriceError) Error() string {
	model := fmt.Sprintf("model %q", e.Model)
	if e.Provider != "" {
		model += fmt.Sprintf(" of provider %q", e.Provider)
	}
	return fmt.Sprintf("tenant %q has a cost limit that is enforced, and the price book has no price for %s; give tenant.Open a "+
		"price book that knows it (tenant.WithPrices)", e.TenantID, model)
}

// Is reports whether target is [ErrNoPrice].
func (e *NoPriceError) Is(target error) bool { return target == ErrNoPrice }

// DuplicateError says that an idempotency key belongs to a call that is running or was made. It matches [ErrDuplicate].
type DuplicateError struct {
	IdempotencyKey string
	ExecutionID    string          // of the call that has the key
	Status         string          // of that call: running, succeeded or abandoned
	Cost           decimal.Decimal // US dollars charged for it so far
}

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("tenant: the idempotency key %q was used before, by execution %s (%s)", e.IdempotencyKey, e.ExecutionID, e.Status)
}

// Is reports whether target is [ErrDuplicate].
func (e *DuplicateError) Is(target error) bool { return target == ErrDuplicate }

// UnsettledError says what was not on the books when Close had to end. Each of these calls is covered by its hold, which
// is charged in its place.
type UnsettledError struct {
	Unsettled []Unsettled
}

// Unsettled is a call whose usage was not booked.
type Unsettled struct {
	TenantID    string
	ExecutionID string
	Model       string
	Usage       Usage // zero where the call was still running
	Settling    bool  // the usage is known and was about to be booked
}

func (e *UnsettledError) Error() string {
	settling := 0
	for _, u := range e.Unsettled {
		if u.Settling {
			settling++
		}
	}
	return fmt.Sprintf("tenant: closed with %d calls running and %d whose usage could not be booked; their holds stand for them",
		len(e.Unsettled)-settling, settling)
}

// Metric is what a limit counts.
type Metric string

// The metrics.
const (
	CostMetric   Metric = "cost"   // US dollars
	TokensMetric Metric = "tokens" // of all classes
	CallsMetric  Metric = "calls"
)

func (m Metric) format(d decimal.Decimal) string {
	if m == CostMetric {
		if nano, err := money.FromDecimal(d); err == nil {
			return money.Format(nano)
		}
		return "$" + d.String()
	}
	return d.String()
}

func (m Metric) decimal(v int64) decimal.Decimal {
	if m == CostMetric {
		return money.Decimal(v)
	}
	return decimal.NewFromInt(v)
}

// LimitStatus is a limit and how much of it is used.
type LimitStatus struct {
	Metric Metric
	Window string // "day" or "month"
	Agent  string // the agent whose calls are counted; empty for all
	Model  string // the model whose calls are counted; empty for all

	// In US dollars for a cost limit, else tokens or calls. Remaining is never negative.
	Limit, Spent, Held, Remaining decimal.Decimal

	// StartsAt and ResetsAt are the window, half-open; zero for one that never ends.
	StartsAt, ResetsAt time.Time
}

func (s LimitStatus) label() string {
	window := map[string]string{"hour": "hourly", "day": "daily", "week": "weekly", "month": "monthly"}[s.Window]
	if window == "" {
		window = s.Window
	}
	return window + " " + string(s.Metric)
}

func limitStatus(l *book.Limit, b *book.Balance) LimitStatus {
	m := Metric(l.Metric)
	spent, held := b.Spent.Of(l.Metric), b.Held.Of(l.Metric)
	remaining := max(money.Sub(money.Sub(l.Max, spent), held), 0)
	return LimitStatus{
		Metric: m, Window: l.Window.String(), Agent: l.Agent, Model: l.Model,
		Limit: m.decimal(l.Max), Spent: m.decimal(spent), Held: m.decimal(held), Remaining: m.decimal(remaining),
		StartsAt: b.Start, ResetsAt: b.End,
	}
}
