package tenant_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"pgregory.net/rapid"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/period"
)

func TestCost_OfTodayAndThisMonthIsWhatTheLedgerHasBooked(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		ctx := t.Context()
		settle := func(org tenant.Tenant, cost string) {
			hold, err := ledger.Reserve(ctx, org, tenant.Estimate{Model: "m", InputTokens: 100, OutputTokens: 1000, Cost: tenant.USD("0.1")})
			require.NoError(t, err)
			_, err = ledger.Settle(ctx, hold, tenant.Actual{Usage: tenant.Usage{Input: 60, CacheRead: 30, Output: 10}, Cost: tenant.USD(cost)})
			require.NoError(t, err)
		}
		settle(acme, "0.000000004")
		settle(acme, "0.02")
		settle(tenant.ID("globex"), "0.5")
		settle(nil, "0.7")
		_, err := ledger.Record(ctx, acme, tenant.Actual{Model: "m", Usage: tenant.Usage{Output: 5}, Cost: tenant.USD("0.003"), ErrorCode: "http_500"})
		require.NoError(t, err)
		released, err := ledger.Reserve(ctx, acme, tenant.Estimate{Cost: tenant.USD("9")})
		require.NoError(t, err)
		_, err = ledger.Release(ctx, released)
		require.NoError(t, err)
		held, err := ledger.Reserve(ctx, acme, tenant.Estimate{Cost: tenant.USD("9"), InputTokens: 9})
		require.NoError(t, err)

		want := figures{cost: 23_000_004, tokens: 205, calls: 3} // the failed call counts; what is released or held does not
		for _, p := range []tenant.Period{
			tenant.Today, tenant.ThisWeek, tenant.ThisMonth, tenant.AllTime, tenant.Today.In(time.UTC),
			tenant.Between(time.Now().Add(-50*time.Hour), time.Now().Add(50*time.Hour)),
			tenant.Between(time.Now().Add(-3*time.Minute), time.Now().Add(3*time.Minute)),
		} {
			require.Equal(t, want, ask(t, db, acme, p), p)
		}
		for _, p := range []tenant.Period{tenant.Yesterday, tenant.LastWeek, tenant.LastMonth} {
			require.Zero(t, ask(t, db, acme, p), p)
		}
		require.Equal(t, figures{5e8, 100, 1}, ask(t, db, tenant.ID("globex"), tenant.Today))
		require.Equal(t, figures{7e8, 100, 1}, ask(t, db, nil, tenant.Today), "calls without a tenant")
		require.Equal(t, figures{7e8, 100, 1}, ask(t, db, nil, tenant.AllTime), "calls without a tenant")

		cost, err := tenant.CostToday(ctx, db, acme)
		require.NoError(t, err)
		require.Equal(t, "0.023000004", cost.String())
		cost, err = tenant.CostThisMonth(ctx, db, acme)
		require.NoError(t, err)
		require.Equal(t, "0.023000004", cost.String())
		for _, f := range []struct {
			of   func(context.Context, *gorm.DB, tenant.Tenant, ...tenant.QueryOption) (int64, error)
			want int64
		}{
			{tenant.TokensToday, 205}, {tenant.TokensThisMonth, 205},
			{tenant.ExecutionCountToday, 3}, {tenant.ExecutionCountThisMonth, 3},
		} {
			n, err := f.of(ctx, db, acme)
			require.NoError(t, err)
			require.Equal(t, f.want, n)
		}
		_, err = ledger.Release(ctx, held)
		require.NoError(t, err)
	})
}

func TestCost_IsHalfOpen(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, _ *tenant.Ledger) {
		known(t, db, "acme")
		midnight := at(t, "2026-03-10T00:00:00Z")
		tick := time.Microsecond
		remember(t, db, "acme",
			past{at: midnight.Add(-tick), cost: 1}, past{at: midnight, cost: 10}, past{at: midnight.Add(tick), cost: 100},
			past{at: midnight.Add(24*time.Hour - tick), cost: 1000}, past{at: midnight.Add(24 * time.Hour), cost: 10_000})
		day := 24 * time.Hour
		for _, c := range []struct {
			from, to time.Duration
			want     int64
		}{
			{0, day, 1110},
			{-tick, day, 1111},
			{tick, day, 1100},
			{0, day + tick, 11_110},
			{0, day - tick, 110},
			{0, tick, 10},
			{tick, 2 * tick, 100},
			{0, 0, 0},
			{day, day, 0},
			{-tick, 0, 1},
			{-time.Hour, 0, 1},
			{-day, 2 * day, 11_111},
			{time.Minute, 2 * time.Minute, 0},
			{1, day, 1100},       // a nanosecond after midnight, the call at midnight is over
			{0, 1, 10},           // and a nanosecond before the next tick, that one has not come
			{0, 1001, 110},       // a nanosecond after a tick, it counts
			{-1, time.Hour, 110}, // a nanosecond before midnight, the tick before is over
		} {
			p := tenant.Between(midnight.Add(c.from), midnight.Add(c.to))
			require.Equal(t, c.want, ask(t, db, acme, p).cost, p)
		}
		require.EqualValues(t, 11_111, ask(t, db, acme, tenant.AllTime).cost)
		require.EqualValues(t, 11_111, ask(t, db, acme, tenant.Between(time.Time{}, midnight.AddDate(20_000, 0, 0))).cost)
		require.EqualValues(t, 1, ask(t, db, acme, tenant.Between(time.Time{}.AddDate(-5000, 0, 0), midnight)).cost)
		require.Zero(t, ask(t, db, acme, tenant.Between(time.Time{}, time.Time{})), "no time is not all time")
	})
}

func TestCost_OfAPartitionIsTheWhole(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, _ *tenant.Ledger) {
		known(t, db, "acme", "globex")
		start := at(t, "2026-03-28T20:00:00Z")
		const span = 40 * time.Hour
		instant := func(r *rand.Rand) time.Time {
			when := start.Add(time.Duration(r.Int64N(int64(span))))
			switch r.IntN(4) {
			case 0:
				when = when.Truncate(time.Hour)
			case 1:
				when = when.Truncate(15 * time.Minute)
			case 2:
				when = when.Truncate(time.Hour).Add(time.Duration(r.IntN(5)-2) * time.Microsecond)
			}
			return when.Truncate(time.Microsecond)
		}
		r := rand.New(rand.NewPCG(1, 2))
		calls := make([]past, 400)
		for i := range calls {
			calls[i] = past{
				at: instant(r), cost: r.Int64N(1e6), tokens: r.Int64N(1000), agent: []string{"", "a"}[r.IntN(2)],
				status: []string{"succeeded", "succeeded", "failed", "abandoned", "running", "cancelled"}[r.IntN(6)],
			}
		}
		remember(t, db, "acme", calls...)
		remember(t, db, "globex", calls[:50]...)

		rapid.Check(t, func(t *rapid.T) {
			seed := rapid.Uint64().Draw(t, "seed")
			r := rand.New(rand.NewPCG(seed, 3))
			cuts := make([]time.Time, rapid.IntRange(2, 6).Draw(t, "cuts"))
			for i := range cuts {
				cuts[i] = instant(r)
				if i > 0 && r.IntN(3) == 0 {
					cuts[i] = cuts[i-1].Add(time.Duration(r.Int64N(int64(time.Hour)))).Truncate(time.Microsecond)
				}
			}
			slices.SortFunc(cuts, time.Time.Compare)
			var sum int64
			for i := range cuts[1:] {
				cost, err := tenant.Cost(context.Background(), db, acme, tenant.Between(cuts[i], cuts[i+1]))
				require.NoError(t, err)
				sum += cost.Shift(9).IntPart()
			}
			var naive figures
			for _, c := range calls {
				if c.made() && !c.at.Before(cuts[0]) && c.at.Before(cuts[len(cuts)-1]) {
					naive = figures{naive.cost + c.cost, naive.tokens + c.tokens, naive.calls + 1}
				}
			}
			whole := tenant.Between(cuts[0], cuts[len(cuts)-1])
			require.Equal(t, naive, ask(t, db, acme, whole), "the whole is the sum of its executions")
			require.Equal(t, naive.cost, sum, "the parts add up to the whole")
			s, err := tenant.UsageSummary(context.Background(), db, acme, whole)
			require.NoError(t, err)
			summed := figures{s.Cost.Shift(9).IntPart(), s.Tokens, s.Calls}
			require.Equal(t, naive, summed, "the summary says the same")
		})
	})
}

// The balances say something else than the executions here, so that it shows which of them was asked.
func TestCost_OfAWindowThatABalanceIsInComesFromTheBalance(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		known(t, db, "acme")
		now := at(t, "2026-10-25T12:00:00Z")
		tenant.SetClock(ledger, now)
		berlin := zone(t, "Europe/Berlin")
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, acme, func(b *tenant.Budget) error {
			b.TimeZone = "Europe/Berlin"
			return nil
		}))
		remember(t, db, "acme", past{at: now.Add(-time.Hour), cost: 1}, past{at: now.AddDate(0, 0, -1), cost: 2})
		set := func(w period.Window, when time.Time, cost int64) {
			inWindow(t, db, "acme", w, when, berlin)
			require.NoError(t, db.Exec(`UPDATE llm_balances SET `+w.String()+`_spent_cost = ? WHERE tenant = (SELECT id FROM llm_tenants WHERE tenant_id = 'acme')`,
				cost).Error)
		}
		set(period.Day, now, 100)
		set(period.Month, now, 200)
		require.EqualValues(t, 100, ask(t, db, acme, tenant.Today).cost)
		require.EqualValues(t, 200, ask(t, db, acme, tenant.ThisMonth).cost)
		require.EqualValues(t, 100, ask(t, db, acme, tenant.Between(at(t, "2026-10-24T22:00:00Z"), at(t, "2026-10-25T23:00:00Z"))).cost)

		require.EqualValues(t, 3, ask(t, db, acme, tenant.ThisWeek).cost, "no balance is of this week")
		require.EqualValues(t, 1, ask(t, db, acme, tenant.Today.In(time.UTC)).cost, "nor of this day in another zone")
		require.EqualValues(t, 2, ask(t, db, acme, tenant.Yesterday).cost)

		tenant.SetClock(ledger, now.AddDate(0, 0, 1))
		require.EqualValues(t, 100, ask(t, db, acme, tenant.Yesterday).cost, "a balance that nothing has rolled over is of yesterday")
		require.Zero(t, ask(t, db, acme, tenant.Today).cost, "and today nothing is spent")
	})
}

func TestCost_OfDaysThatTheClocksMakeShortOrLong(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		known(t, db, "acme")
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, acme, func(b *tenant.Budget) error {
			b.TimeZone = "Europe/Berlin"
			return nil
		}))
		// A call in every half hour: at a quarter past and a quarter to.
		for day, hours := range map[string]int64{"2026-03-29": 23, "2026-03-30": 24, "2026-10-25": 25} {
			noon := at(t, day+"T12:00:00Z")
			var calls []past
			for when := noon.Add(-40 * time.Hour); when.Before(noon.Add(40 * time.Hour)); when = when.Add(30 * time.Minute) {
				calls = append(calls, past{at: when.Add(15 * time.Minute), cost: 1, tokens: 3})
			}
			require.NoError(t, db.Exec("DELETE FROM llm_executions").Error)
			require.NoError(t, db.Exec("DELETE FROM llm_usage").Error)
			remember(t, db, "acme", calls...)
			want := figures{2 * hours, 6 * hours, 2 * hours}
			tenant.SetClock(ledger, noon)
			require.Equal(t, want, ask(t, db, acme, tenant.Today), day)
			tenant.SetClock(ledger, noon.AddDate(0, 0, 1))
			require.Equal(t, want, ask(t, db, acme, tenant.Yesterday), day)
			berlin := zone(t, "Europe/Berlin")
			y, m, d := noon.Date()
			require.Equal(t, want, ask(t, db, acme, tenant.Date(y, m, d).In(berlin)), day)
		}
	})
}

func TestCost_OfAZoneThatIsNotAWholeHourOff(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		known(t, db, "acme")
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, acme, func(b *tenant.Budget) error {
			b.TimeZone = "Asia/Kathmandu"
			return nil
		}))
		midnight := at(t, "2026-06-10T18:15:00Z")
		remember(t, db, "acme",
			past{at: midnight.Add(-time.Microsecond), cost: 1}, past{at: midnight, cost: 10},
			past{at: at(t, "2026-06-10T18:59:59Z"), cost: 100}, past{at: at(t, "2026-06-10T19:00:00Z"), cost: 1000},
			past{at: at(t, "2026-06-11T18:14:59Z"), cost: 10_000}, past{at: at(t, "2026-06-11T18:15:00Z"), cost: 100_000})
		tenant.SetClock(ledger, midnight.Add(time.Hour))
		require.EqualValues(t, 11_110, ask(t, db, acme, tenant.Today).cost)
		require.EqualValues(t, 1, ask(t, db, acme, tenant.Yesterday).cost)
		require.EqualValues(t, 111_111, ask(t, db, acme, tenant.ThisMonth).cost)
		require.EqualValues(t, 1111, ask(t, db, acme, tenant.Today.In(time.UTC)).cost)
	})
}

func TestCost_GoesByTheTimeOfAdmission(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		hold, err := ledger.Reserve(t.Context(), acme, cent)
		require.NoError(t, err)
		// It runs for three days, over midnight.
		_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.01")})
		require.NoError(t, err)
		d := dialectOf(db)
		require.NoError(t, db.Exec(`UPDATE llm_executions SET finished_at = ?`, d.Time(time.Now().Add(72*time.Hour))).Error)
		require.EqualValues(t, 10_000_000, ask(t, db, acme, tenant.Between(time.Now().Add(-time.Minute), time.Now())).cost)
		require.Zero(t, ask(t, db, acme, tenant.Between(time.Now().Add(time.Minute), time.Now().Add(96*time.Hour))))
	})
}

// A clock that steps back must not open a day that was over: Los Angeles could spend it again.
func TestCost_OfTodayNeverGoesBackToADayThatIsOver(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		_, err := ledger.Record(t.Context(), acme, tenant.Actual{Cost: tenant.USD("0.25")})
		require.NoError(t, err)
		tenant.SetClock(ledger, time.Now().AddDate(0, 0, -2))
		require.EqualValues(t, 250_000_000, ask(t, db, acme, tenant.Today).cost)
		status, err := tenant.BudgetStatus(t.Context(), db, acme)
		require.NoError(t, err)
		require.Equal(t, "0.25", status.Limits[0].Spent.String())
	}, tenant.WithDefaultLimits(tenant.Limits{DailyCost: tenant.USD("1")}))
}

func TestCost_IsConsistentWhileCallsSettle(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		const callers, each = 8, 40
		known(t, db, "acme")
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for range each {
					if _, err := ledger.Record(context.Background(), acme, tenant.Actual{Cost: tenant.USD("0.000000007"), Usage: tenant.Usage{Output: 3}}); err != nil {
						t.Errorf("record: %v", err)
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		// The cut is within the present hour, so that the edge and the hours have to be of one moment.
		periods := []tenant.Period{
			tenant.Today, tenant.AllTime, tenant.Between(time.Now().Add(-90*time.Minute), time.Now().Add(90*time.Minute)),
		}
		least := map[tenant.Period]int64{}
		for running := true; running; {
			select {
			case <-done:
				running = false
			default:
			}
			for _, p := range periods {
				s, err := tenant.UsageSummary(context.Background(), db, acme, p)
				require.NoError(t, err)
				require.Equal(t, decimal.New(7*s.Calls, -9).String(), s.Cost.String())
				require.Equal(t, 3*s.Calls, s.Tokens)
				calls, err := tenant.ExecutionCount(context.Background(), db, acme, p)
				require.NoError(t, err)
				require.GreaterOrEqual(t, s.Calls, least[p])
				require.GreaterOrEqual(t, calls, s.Calls)
				least[p] = calls
			}
		}
		for _, p := range periods {
			require.Equal(t, figures{7 * callers * each, 3 * callers * each, callers * each}, ask(t, db, acme, p))
		}
	})
}
