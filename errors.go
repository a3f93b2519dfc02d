package tenant

import (
	"fmt"
	"time"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/money"
)

// What can go wrong. Errors of this package wrap one of these where a program may want to tell it apart; use errors.Is,
// and errors.As for the types below.
var (
	// ErrInvalidTenant: a tenant whose id cannot be one, a nil pointer, or a record that was not saved yet.
	ErrInvalidTenant = fault.ErrInvalidTenant

	// ErrUnknownTenant is matched by every *UnknownTenantError.
	ErrUnknownTenant = fault.ErrUnknownTenant

	// ErrReadDB: the replica of WithReadDB does not answer, is too far behind, or has ended a query.
	ErrReadDB = fault.ErrReadDB

	// ErrRowsOpen: rows of the host's own query are still open on the transaction that a function was given, and PostgreSQL
	// answers one query of a connection at a time. Close them, or read them into a slice, first.
	ErrRowsOpen = fault.ErrRowsOpen

	// ErrTenantRequired: a call without a tenant on an agent that requires one.
	ErrTenantRequired = fault.ErrTenantRequired

	// ErrTenantSuspended: the tenant may not make calls, because it was suspended or its record was deleted.
	ErrTenantSuspended = fault.ErrTenantSuspended

	// ErrIdentityConflict: two records claim one tenant id.
	ErrIdentityConflict = fault.ErrIdentityConflict

	// ErrHierarchy: a tenant cannot stand below the one that it is to stand below: there would be a circle, or more than
	// eight would stand above each other, or there is none.
	ErrHierarchy = fault.ErrHierarchy

	// ErrNoBudget: a tenant that has no budget of its own yet. Its first call gives it one, and so does ConfigureBudget; the
	// Root has none unless it was given one, and counts nothing then.
	ErrNoBudget = fault.ErrNoBudget

	// ErrBudgetExceeded is matched by every *BudgetExceededError.
	ErrBudgetExceeded = fault.ErrBudgetExceeded

	// ErrNoPrice is matched by every *NoPriceError.
	ErrNoPrice = fault.ErrNoPrice

	// ErrDuplicate is matched by every *DuplicateError.
	ErrDuplicate = fault.ErrDuplicate

	// ErrNotMigrated: the ledger's tables are not in the database. Ledger.Migrate makes them.
	ErrNotMigrated = fault.ErrNotMigrated

	// ErrNotOpen: a handle that no ledger was opened on.
	ErrNotOpen = fault.ErrNotOpen

	// ErrClosed: the ledger was closed.
	ErrClosed = fault.ErrClosed

	// ErrUnavailable: the books cannot be written, so nothing can be admitted: the database cannot be reached or refuses to
	// write them, or somebody has them locked. The error says which. See WithAdmitWhenUnavailable.
	ErrUnavailable = fault.ErrUnavailable

	// ErrReleased: a settle of a hold that was released before. Its usage is not booked.
	ErrReleased = fault.ErrReleased

	// ErrNotDeferred: a call that [Ledger.Defer] cannot leave, or has not left.
	ErrNotDeferred = fault.ErrNotDeferred

	// ErrPruned: what was asked for needs single calls that [Ledger.Prune] or [Ledger.Erase] has replaced by sums; the error says
	// of which time.
	ErrPruned = fault.ErrPruned

	// ErrInvalidOption: an option, a limit or an argument is invalid; the error names it.
	ErrInvalidOption = fault.ErrInvalidOption

	// ErrNotBilled is what a [Model] wraps its error in when it knows that the provider charges nothing for the call: it
	// was never sent, or the provider answered with an error.
	ErrNotBilled = fault.ErrNotBilled
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
	ResetsAt time.Time `json:",omitzero"`
}

func (e *BudgetExceededError) Error() string {
	l, metric := e.Limit, e.Limit.Metric
	why := "exceeded"
	if e.Contended {
		why = "held by running calls"
	}
	resets := ""
	if !e.ResetsAt.IsZero() {
		resets = "; resets at " + e.ResetsAt.Format(time.RFC3339)
	}
	of := ""
	if l.TenantID != e.TenantID {
		of = fmt.Sprintf(", of tenant %q above it,", l.TenantID)
	}
	return fmt.Sprintf("tenant %q: %s%s %s: %s spent, %s held, %s requested%s", e.TenantID, l.describe(), of, why,
		metric.format(l.Spent), metric.format(l.Held), metric.format(e.Requested), resets)
}

// Is reports whether target is [ErrBudgetExceeded].
func (e *BudgetExceededError) Is(target error) bool { return target == ErrBudgetExceeded }

// NoPriceError says that a call cannot be admitted against a cost limit because its model has no price. It matches
// [ErrNoPrice].
type NoPriceError struct {
	TenantID, Provider, Model string

	// PricesAsOf is the day of the price book (see [DatedPrices]), zero where it does not say.
	PricesAsOf time.Time `json:",omitzero"`
}

func (e *NoPriceError) Error() string {
	model := fmt.Sprintf("model %q", e.Model)
	if e.Provider != "" {
		model += fmt.Sprintf(" of provider %q", e.Provider)
	}
	of := ""
	if !e.PricesAsOf.IsZero() {
		of = " of " + e.PricesAsOf.Format(time.DateOnly)
	}
	return fmt.Sprintf("tenant %q has a cost limit that is enforced, and the price book%s has no price for %s; put a newer list into a "+
		"pricing.Live with pricing.Load, or a row for it with pricing.Override, and give that to tenant.WithPrices (docs/prices.md)", e.TenantID, of, model)
}

// Is reports whether target is [ErrNoPrice].
func (e *NoPriceError) Is(target error) bool { return target == ErrNoPrice }

// DuplicateError says that an idempotency key belongs to a call that is running or was made. It matches [ErrDuplicate].
type DuplicateError struct {
	IdempotencyKey string
	ExecutionID    string          // of the call that has the key
	Status         string          // of that call: running, succeeded or abandoned; "adjusted" for a credit or a debit
	Cost, Charge   decimal.Decimal // US dollars, as far as it is settled
}

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("tenant: the idempotency key %q was used before, by execution %s (%s)", e.IdempotencyKey, e.ExecutionID, e.Status)
}

// Is reports whether target is [ErrDuplicate].
func (e *DuplicateError) Is(target error) bool { return target == ErrDuplicate }

// UnsettledError says what was not on the books when Close had to end. Each of these calls is covered by its hold, which
// is charged in its place, but for those that are Unbooked.
type UnsettledError struct {
	Unsettled []Unsettled
}

// Unsettled is a call whose usage was not booked.
type Unsettled struct {
	TenantID       string
	ExecutionID    string // empty for a deferred call that could not be read: it is known by its key alone
	IdempotencyKey string // see WithIdempotencyKey; of a deferred call, its key
	Model          string
	Usage          Usage // zero where the call was still running
	Settling       bool  // the usage is known and was about to be booked

	// Unbooked: the call was admitted while the database could not be reached (see [WithAdmitWhenUnavailable]) or was handed to
	// [Ledger.Record], so no hold stands for it. What it used is known here, if it is known at all; Record can book it later.
	Unbooked bool
}

func (e *UnsettledError) Error() string {
	settling, unbooked := 0, 0
	for _, u := range e.Unsettled {
		if u.Settling {
			settling++
		}
		if u.Unbooked {
			unbooked++
		}
	}
	stands := "; their holds stand for them"
	if unbooked > 0 {
		stands = fmt.Sprintf("; their holds stand for them, but for the %d admitted while the database could not be reached, or recorded", unbooked)
	}
	return fmt.Sprintf("tenant: closed with %d calls running and %d whose usage could not be booked%s",
		len(e.Unsettled)-settling, settling, stands)
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
	// TenantID is whose limit it is: the tenant that was asked about, or one above it.
	TenantID string

	Metric Metric
	Window Window
	Agent  string `json:",omitzero"` // the agent whose calls are counted; empty for all
	Model  string `json:",omitzero"` // the model whose calls are counted; empty for all

	// Counts is what a cost limit counts of a call, and empty for the others.
	Counts Counts `json:",omitzero"`

	// In US dollars for a cost limit, otherwise tokens or calls. Remaining is never negative.
	Limit     decimal.Decimal
	Spent     decimal.Decimal
	Held      decimal.Decimal
	Remaining decimal.Decimal

	// Percent is how much of the limit is spent, rounded to hundredths; of a limit of zero, always 100.
	Percent decimal.Decimal

	// StartsAt and ResetsAt are the window, half-open; zero for one that never ends.
	StartsAt time.Time `json:",omitzero"`
	ResetsAt time.Time `json:",omitzero"`

	// Forecast is given by [BudgetStatus], and is nil elsewhere.
	Forecast *Forecast `json:",omitzero"`
}

// describe says which limit it is, such as: daily cost limit of $5.00 of agent "support".
func (s LimitStatus) describe() string {
	return s.label() + " limit of " + s.Metric.format(s.Limit) + s.of()
}

// of says whose calls the limit counts, where those are not all.
func (s LimitStatus) of() (d string) {
	if s.Agent != "" {
		d += fmt.Sprintf(" of agent %q", s.Agent)
	}
	if s.Model != "" {
		d += fmt.Sprintf(" of model %q", s.Model)
	}
	return d
}

func (s LimitStatus) label() string {
	window := map[Window]string{Hour: "hourly", Day: "daily", Week: "weekly", Month: "monthly"}[s.Window]
	if window == "" {
		window = string(s.Window)
	}
	return window + " " + string(s.Metric)
}

func limitStatus(t *book.Tenant, l *book.Limit, b *book.Balance) LimitStatus {
	m := Metric(l.Metric)
	spent, held := l.Of(b.Spent), l.Of(b.Held)
	remaining := max(money.Sub(money.Sub(l.Max, spent), held), 0)
	percent := decimal.NewFromInt(100)
	if l.Max > 0 {
		percent = decimal.NewFromInt(spent).Mul(percent).DivRound(decimal.NewFromInt(l.Max), 2)
	}
	if b.End.IsZero() {
		b = &book.Balance{} // a window that never ends has no beginning either
	}
	return LimitStatus{
		TenantID: t.Key, Counts: countsOf(l), Metric: m, Window: Window(l.Window.String()), Agent: l.Agent, Model: l.Model,
		Limit: m.decimal(l.Max), Spent: m.decimal(spent), Held: m.decimal(held), Remaining: m.decimal(remaining), Percent: percent,
		StartsAt: b.Start, ResetsAt: b.End,
	}
}

// UnmarshalText reads one of the metrics. Anything else is an [ErrInvalidOption].
func (m *Metric) UnmarshalText(text []byte) error {
	switch book.Metric(text) {
	case book.Cost, book.Tokens, book.Calls:
		*m = Metric(text)
		return nil
	}
	return fmt.Errorf("%w: Metric: %.40q is not cost, tokens or calls", ErrInvalidOption, text)
}
