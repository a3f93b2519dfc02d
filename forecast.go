package tenant

import (
	"context"
	"math/big"
	"time"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/period"
)

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
	return project(s, max(sum.Of(s.Limit.Metric), 0), span, now), nil
}

// project draws the line from what was used in a span of time.
func project(s *decide.Standing, used int64, span time.Duration, now time.Time) Forecast {
	m, spent := Metric(s.Limit.Metric), s.Balance.Spent.Of(s.Limit.Metric)
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
