package tenant

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/internal/text"
)

// Credit gives a tenant back an amount in US dollars: what it has spent in the present day, month and other windows is that
// much less, and so it has that much more room, also where that takes it below zero. It is a row of its own among the
// executions, with the status "adjusted", a cost below zero, the reason and the actor of ctx, and changes none that is
// there. Nothing can refuse it. [WithIdempotencyKey] makes it happen once: a second time changes nothing, and says
// AlreadySettled. [WithAgent] and [WithTag] are kept with it.
//
//	_, err := ledger.Credit(ctx, org, tenant.USD("5"), "outage of 12 May", tenant.WithIdempotencyKey("incident-17"))
//
// Errors: [ErrInvalidOption] for an amount that is absent, zero or negative (to charge a tenant there is [Ledger.Debit]),
// and for a reason that is empty or longer than 255 bytes; a [*DuplicateError] where the key belongs to anything but a
// credit; [ErrUnavailable] where the books cannot be reached: whoever gives a credit is told, and it is never Pending as a call
// is that was made. It may have been booked or not then; only with an idempotency key can it be tried again. Otherwise those of
// [Ledger.Record].
func (l *Ledger) Credit(ctx context.Context, t Tenant, amount Money, reason string, options ...RecordOption) (Settlement, error) {
	return l.adjust(ctx, t, credit, amount, reason, options)
}

// Debit charges a tenant an amount in US dollars that no call has cost, such as a fee: what it has spent in the present day,
// month and other windows is that much more. It is otherwise like [Ledger.Credit], its opposite.
//
// Errors: those of Credit, with a [*DuplicateError] where the key belongs to anything but a debit.
func (l *Ledger) Debit(ctx context.Context, t Tenant, amount Money, reason string, options ...RecordOption) (Settlement, error) {
	return l.adjust(ctx, t, debit, amount, reason, options)
}

// adjustment is what changes what is spent without a call: 1 for more, -1 for less.
type adjustment int64

const (
	credit adjustment = -1
	debit  adjustment = 1
)

func (a adjustment) String() string {
	if a == credit {
		return "Credit"
	}
	return "Debit"
}

// rule says what amounts it takes, and which verb is the opposite.
func (a adjustment) rule() string {
	if a == credit {
		return "Credit takes a positive amount, and gives it back to the tenant; to charge it, use Debit"
	}
	return "Debit takes a positive amount, and charges it to the tenant; to give it back, use Credit"
}

// nano is what an amount adds to what is spent.
func (a adjustment) nano(amount Money) (int64, error) {
	switch {
	case errors.Is(amount.err, money.ErrNegative):
		return 0, fmt.Errorf("%w: %v: %w: %s", ErrInvalidOption, a, amount.err, a.rule())
	case amount.err != nil:
		return 0, fmt.Errorf("%w: %v: %w", ErrInvalidOption, a, amount.err)
	case amount.nano == 0:
		return 0, fmt.Errorf("%w: %v: the amount is %v: %s", ErrInvalidOption, a, amount, a.rule())
	}
	return int64(a) * amount.nano, nil
}

func (l *Ledger) adjust(ctx context.Context, t Tenant, a adjustment, amount Money, reason string, options []RecordOption) (Settlement, error) {
	nano, err := a.nano(amount)
	if err != nil {
		return Settlement{}, err
	}
	if err := text.Valid(ErrInvalidOption, "reason of "+a.String(), reason, true); err != nil {
		return Settlement{}, err
	}
	var o callOptions
	if err := applyAll(&o, a.String(), options); err != nil {
		return Settlement{}, err
	}
	who, err := l.identify(t)
	if err != nil {
		return Settlement{}, err
	}
	op := &decide.Op{Kind: decide.Record}
	if err := l.describe(ctx, op, who, &o); err != nil {
		return Settlement{}, err
	}
	op.Exec.Status, op.Exec.Reason, op.Exec.Charged = book.Adjusted, reason, book.Amount{Charge: nano}
	s, err := l.bookAdjustment(context.WithoutCancel(ctx), who, op)
	if d := (*DuplicateError)(nil); errors.As(err, &d) && d.Status == string(book.Adjusted) && d.Charge.Sign() == int(a) {
		return Settlement{Outcome: AlreadySettled, ExecutionID: d.ExecutionID, Cost: d.Cost, Charge: d.Charge}, nil
	}
	return s, err
}

func (l *Ledger) bookAdjustment(ctx context.Context, who identity, op *decide.Op) (Settlement, error) {
	if err := l.enter(); err != nil {
		return Settlement{}, err
	}
	defer l.leave(nil)
	out, err := l.admit(ctx, &asking{who: who, op: *op}, DefaultWait)
	if err != nil {
		return Settlement{}, err
	}
	l.booked(ctx, &out)
	s := settlement(out.Exec.ID.String(), out.Exec)
	s.Outcome = Settled
	return s, nil
}

// TopUp is more room under a limit; see [Ledger.TopUp].
type TopUp struct {
	// Limit names a limit in force by its window, agent and model. What it sets in US dollars, in tokens and in calls is added
	// to the tenant's limits of these, and at least one of them is needed.
	Limit Limit

	// Reason says why, for the audit log. It is needed, and at most 255 bytes.
	Reason string

	// IdempotencyKey makes the top-up happen once in the limit's present window, however often it is given: it is then what
	// names the top-up, such as an invoice's number, in at most 255 bytes. Defaults to none: every call adds to the limit.
	IdempotencyKey string

	// DryRun has everything checked, and nothing written.
	DryRun bool
}

// TopUp gives a tenant more room under one of the limits in force for it, of its own or inherited, until the limit's
// present window ends; under a limit in total, for good. It takes effect before TopUp returns, and leaves a row in the
// audit log. A second one with the same key in the same window changes nothing.
//
//	err := ledger.TopUp(ctx, org, tenant.TopUp{
//		Limit:  tenant.Limit{Window: tenant.Month, Cost: tenant.USD("50")},
//		Reason: "bought credits", IdempotencyKey: "invoice-2026-113",
//	})
//
// Errors: [ErrInvalidOption], also where no such limit is in force; [*LimitOrderError] where the limit would be more than one
// that counts the same for longer, so that the top-up could not matter; [ErrNoBudget] without a tenant; otherwise those of
// [ConfigureBudget].
func (l *Ledger) TopUp(ctx context.Context, t Tenant, up TopUp) error {
	if err := text.Valid(ErrInvalidOption, "reason of TopUp", up.Reason, true); err != nil {
		return err
	}
	if err := text.Valid(ErrInvalidOption, "idempotency key of TopUp", up.IdempotencyKey, false); err != nil {
		return err
	}
	rows, err := Limits{Also: []Limit{up.Limit}}.rows()
	if err != nil {
		return fmt.Errorf("%w: TopUp: %w", ErrInvalidOption, err)
	}
	key := up.IdempotencyKey
	if key == "" {
		key = uuid.Must(uuid.NewV7()).String()
	}
	err = l.configure(ContextWithReason(ctx, up.Reason), l.db, t, "TopUp", func(c *configuration, s *books.State) (any, any, error) {
		own := c.expected(s)
		var added []book.TopUp
		for _, row := range rows {
			one, err := c.topUp(s, own, row, key)
			if err != nil {
				return nil, nil, c.fail(err)
			}
			added = append(added, one)
		}
		if up.DryRun {
			return nil, nil, c.fail(errDryRun)
		}
		changed, err := c.books.TopUp(ctx, s.Tenant, added, s.Now)
		if err != nil || !changed {
			return nil, nil, err
		}
		return nil, topUps(added), nil
	})
	if errors.Is(err, errDryRun) {
		return nil
	}
	return err
}

// errDryRun ends a transaction that was only tried.
var errDryRun = errors.New("it was a dry run")

// topUp is a limit's top-up, which ends when its present window does.
func (c *configuration) topUp(s *books.State, own *book.Tenant, row book.Limit, key string) (book.TopUp, error) {
	now := decide.Time(own, s.Now)
	limits := decide.Effective(own, &s.Defaults, now)
	for _, l := range limits {
		if l.Scope != row.Scope || l.Metric != row.Metric {
			continue
		}
		if money.Add(l.Max, row.Max) > money.Max {
			return book.TopUp{}, fmt.Errorf("%w: TopUp: the limit would be above 2^62, the largest there can be", ErrInvalidOption)
		}
		if err := bites(own, l, row, key, limits, now); err != nil {
			return book.TopUp{}, fmt.Errorf("%w: TopUp: %w", ErrInvalidOption, err)
		}
		up := book.TopUp{Limit: row, Key: key}
		_, up.Ends = period.Bounds(row.Window, now, c.zones.Location(own.Zone), c.windows.WeekStart)
		for _, b := range own.Balances {
			if b.Scope == row.Scope && now.Before(b.End) {
				up.Ends = b.End // as it is stored, whatever zone it began in
			}
		}
		return up, nil
	}
	l := LimitStatus{Metric: Metric(row.Metric), Window: Window(row.Window.String()), Agent: row.Agent, Model: row.Model}
	return book.TopUp{}, fmt.Errorf("%w: TopUp: no %s limit is in force for tenant %q%s", ErrInvalidOption, l.label(), own.Key, l.of())
}

// bites returns an error where a limit with a top-up would be more than one that counts the same for longer, and is not
// without it. A top-up that was given already is not given again.
func bites(own *book.Tenant, l, row book.Limit, key string, limits []book.Limit, now time.Time) error {
	for _, up := range own.TopUps {
		if up.Key == key && up.Scope == row.Scope && up.Metric == row.Metric && (up.Ends.IsZero() || now.Before(up.Ends)) {
			return nil
		}
	}
	raised := l
	raised.Max = money.Add(l.Max, row.Max)
	for _, longer := range limits {
		if masks(longer, raised) && !masks(longer, l) {
			name := func(l book.Limit) string {
				m := Metric(l.Metric)
				s := LimitStatus{Metric: m, Window: Window(l.Window.String()), Agent: l.Agent, Model: l.Model, Limit: m.decimal(l.Max)}
				return "the " + s.describe()
			}
			return &LimitOrderError{Shorter: name(raised) + ", with the top-up,", Longer: name(longer), topUp: true}
		}
	}
	return nil
}

// topUps are top-ups as the audit log has them.
func topUps(added []book.TopUp) any {
	type entry struct {
		Limit string    `json:"limit"`
		Key   string    `json:"key"`
		Ends  time.Time `json:"ends,omitzero"`
	}
	var entries []entry
	for _, up := range added {
		entries = append(entries, entry{limitText(up.Limit), up.Key, up.Ends})
	}
	return entries
}
