package tenant

import (
	"context"
	"fmt"

	"github.com/shopspring/decimal"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/account"
	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/money"
)

// Cost returns what the calls of a tenant that were admitted in a period have cost, in US dollars. A call counts when it
// has ended: what running calls hold is no cost. A tenant without calls, or one that does not exist, has spent nothing;
// a nil Tenant asks about the calls without a tenant.
//
// It reads on db's own connection, so that it sees what a transaction of db sees, and never a replica. The present day
// and month, in the tenant's own time zone, and AllTime are kept as one row, however many calls there are; any other
// period is the sum of its hours, and of the calls in the two hours that it cuts.
//
// Errors: [ErrNotOpen], [ErrClosed], [ErrNotMigrated], [ErrInvalidTenant], [ErrIdentityConflict], [ErrInvalidOption] for
// a period that cannot be, [ErrUnavailable], and ctx's own.
func Cost(ctx context.Context, db *gorm.DB, t Tenant, p Period) (decimal.Decimal, error) {
	sum, err := spent(ctx, db, t, p)
	return money.Decimal(sum.Cost), err
}

// CostToday is [Cost] of [Today].
func CostToday(ctx context.Context, db *gorm.DB, t Tenant) (decimal.Decimal, error) {
	return Cost(ctx, db, t, Today)
}

// CostThisMonth is [Cost] of [ThisMonth].
func CostThisMonth(ctx context.Context, db *gorm.DB, t Tenant) (decimal.Decimal, error) {
	return Cost(ctx, db, t, ThisMonth)
}

// Tokens returns how many tokens, of all classes, were charged for the calls of a tenant that were admitted in a period;
// else it is like [Cost].
func Tokens(ctx context.Context, db *gorm.DB, t Tenant, p Period) (int64, error) {
	sum, err := spent(ctx, db, t, p)
	return sum.Tokens, err
}

// TokensToday is [Tokens] of [Today].
func TokensToday(ctx context.Context, db *gorm.DB, t Tenant) (int64, error) {
	return Tokens(ctx, db, t, Today)
}

// TokensThisMonth is [Tokens] of [ThisMonth].
func TokensThisMonth(ctx context.Context, db *gorm.DB, t Tenant) (int64, error) {
	return Tokens(ctx, db, t, ThisMonth)
}

// ExecutionCount returns how many calls of a tenant that were admitted in a period have been made. Calls that failed or
// were abandoned were made; those that run are counted when they end, and released ones never. Else it is like [Cost].
func ExecutionCount(ctx context.Context, db *gorm.DB, t Tenant, p Period) (int64, error) {
	sum, err := spent(ctx, db, t, p)
	return sum.Calls, err
}

// ExecutionCountToday is [ExecutionCount] of [Today].
func ExecutionCountToday(ctx context.Context, db *gorm.DB, t Tenant) (int64, error) {
	return ExecutionCount(ctx, db, t, Today)
}

// ExecutionCountThisMonth is [ExecutionCount] of [ThisMonth].
func ExecutionCountThisMonth(ctx context.Context, db *gorm.DB, t Tenant) (int64, error) {
	return ExecutionCount(ctx, db, t, ThisMonth)
}

// spent adds up what was charged in a period.
func spent(ctx context.Context, db *gorm.DB, t Tenant, p Period) (book.Amount, error) {
	q, err := ask(ctx, db, t)
	if err != nil {
		return book.Amount{}, err
	}
	s, r, err := q.during(ctx, p)
	if err != nil || s.Tenant == nil {
		return book.Amount{}, err
	}
	for _, b := range s.Tenant.Balances {
		whole := b.Scope == book.Anchor && r == account.Ever
		standing := b.Agent == "" && b.Model == "" && b.Start.Equal(r.From) && b.End.Equal(r.To)
		if whole || standing {
			return b.Spent, nil
		}
	}
	sum, err := q.books.Spent(ctx, s.Tenant.ID, r)
	if err != nil {
		return book.Amount{}, q.failure(ctx, err)
	}
	return sum, nil
}

// during reads the tenant, and finds the bounds of a period for it.
func (q *question) during(ctx context.Context, p Period) (*account.State, account.Range, error) {
	if p == nil {
		return nil, account.Range{}, fmt.Errorf("%w: the period is nil", ErrInvalidOption)
	}
	s, err := q.state(ctx)
	if err != nil {
		return nil, account.Range{}, err
	}
	t := q.expected(s)
	from, to, err := p.bounds(decide.Time(t, s.Now), q.zones.location(t.Zone))
	if err != nil {
		return nil, account.Range{}, err
	}
	return s, account.Range{From: from, To: to}, nil
}
