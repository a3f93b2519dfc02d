package tenant_test

import (
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/period"
)

func usd(s string) decimal.Decimal { return decimal.RequireFromString(s) }

// equalStatus compares limits; decimals that are the same amount are equal.
func equalStatus(t *testing.T, want, got tenant.LimitStatus) {
	t.Helper()
	for _, d := range [][2]*decimal.Decimal{
		{&want.Limit, &got.Limit}, {&want.Spent, &got.Spent}, {&want.Held, &got.Held}, {&want.Remaining, &got.Remaining},
	} {
		require.Equal(t, d[0].String(), d[1].String(), "%+v", got)
		*d[0], *d[1] = decimal.Decimal{}, decimal.Decimal{}
	}
	require.NotNil(t, got.Forecast)
	got.Percent, got.Forecast = decimal.Decimal{}, nil // have their own tests
	require.Equal(t, want, got)
}

func TestBudgetStatus_ListsWhatIsInForceAndWhatItStandsAt(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme",
			tenant.WithLimits(tenant.Limits{MonthlyCost: tenant.USD("100"), DailyCost: tenant.USD("1"), DailyTokens: tenant.Count(1000)}))
		_, err := ledger.Record(t.Context(), org, tenant.Actual{Cost: tenant.USD("0.25"), Usage: tenant.Usage{Output: 5}})
		require.NoError(t, err)
		hold, err := ledger.Reserve(t.Context(), org, tenant.Estimate{Cost: tenant.USD("0.5"), InputTokens: 100})
		require.NoError(t, err)

		day, dayEnd := period.Bounds(period.Day, time.Now(), time.UTC, time.Monday)
		month, monthEnd := period.Bounds(period.Month, time.Now(), time.UTC, time.Monday)
		status, err := tenant.BudgetStatus(t.Context(), db, org)
		require.NoError(t, err)
		require.Equal(t, "acme", status.TenantID)
		require.Equal(t, tenant.Hard, status.Enforcement, "inherited")
		require.False(t, status.Suspended)
		require.Len(t, status.Limits, 4)
		equalStatus(t, tenant.LimitStatus{
			TenantID: "acme", Metric: tenant.CostMetric, Counts: tenant.CountsCharge, Window: "day", Limit: usd("1"), Spent: usd("0.25"), Held: usd("0.5"), Remaining: usd("0.25"), StartsAt: day, ResetsAt: dayEnd,
		}, status.Limits[0])
		equalStatus(t, tenant.LimitStatus{
			TenantID: "acme", Metric: tenant.TokensMetric, Window: "day", Limit: usd("1000"), Spent: usd("5"), Held: usd("100"), Remaining: usd("895"), StartsAt: day, ResetsAt: dayEnd,
		}, status.Limits[1])
		equalStatus(t, tenant.LimitStatus{
			TenantID: "acme", Metric: tenant.CostMetric, Counts: tenant.CountsCharge, Window: "month", Limit: usd("100"), Spent: usd("0.25"), Held: usd("0.5"), Remaining: usd("99.25"), StartsAt: month, ResetsAt: monthEnd,
		}, status.Limits[2])
		equalStatus(t, tenant.LimitStatus{ // the ledger's
			TenantID: "acme", Metric: tenant.CallsMetric, Window: "month", Limit: usd("50"), Spent: usd("1"), Held: usd("1"), Remaining: usd("48"), StartsAt: month, ResetsAt: monthEnd,
		}, status.Limits[3])

		left, limited, err := tenant.RemainingBudget(t.Context(), db, org)
		require.NoError(t, err)
		require.True(t, limited)
		require.Equal(t, "0.25", left.String(), "under the tightest limit")
		_, err = ledger.Release(t.Context(), hold)
		require.NoError(t, err)

		status, err = tenant.BudgetStatus(t.Context(), db, nil)
		require.NoError(t, err)
		require.Equal(t, tenant.Status{Enforcement: tenant.Soft}, status, "nothing limits calls without a tenant")
	}, tenant.WithDefaultLimits(tenant.Limits{DailyCost: tenant.USD("7"), MonthlyCalls: tenant.Count(50)}), tenant.WithDefaultEnforcement(tenant.Hard))
}

func TestBudgetStatus_ShowsThePresentWindowAlsoWhenNothingHasOpenedIt(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		known(t, db, "acme")
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, acme, func(b *tenant.Budget) error {
			b.TimeZone = "Europe/Berlin"
			b.Limits = tenant.Limits{DailyCost: tenant.USD("1"), MonthlyCost: tenant.USD("10")}
			return nil
		}))
		berlin := zone(t, "Europe/Berlin")
		now := at(t, "2026-10-25T12:00:00Z")
		inWindow(t, db, "acme", period.Day, now, berlin)
		inWindow(t, db, "acme", period.Month, now, berlin)
		remember(t, db, "acme", past{at: now, cost: 4e8}, past{at: now, cost: 1e8, status: "running"})
		read := func(when time.Time) []tenant.LimitStatus {
			tenant.SetClock(ledger, when)
			s, err := tenant.BudgetStatus(t.Context(), db, acme)
			require.NoError(t, err)
			require.Len(t, s.Limits, 2)
			return s.Limits
		}
		today := read(now)
		equalStatus(t, tenant.LimitStatus{
			TenantID: "acme", Metric: tenant.CostMetric, Counts: tenant.CountsCharge, Window: "day", Limit: usd("1"), Spent: usd("0.4"), Held: usd("0.1"), Remaining: usd("0.5"),
			StartsAt: at(t, "2026-10-24T22:00:00Z"), ResetsAt: at(t, "2026-10-25T23:00:00Z"),
		}, today[0])
		last := read(at(t, "2026-10-25T22:59:59.999999Z"))
		require.Equal(t, today[0].ResetsAt, last[0].ResetsAt)
		tomorrow := read(at(t, "2026-10-25T23:00:00Z"))
		equalStatus(t, tenant.LimitStatus{
			TenantID: "acme", Metric: tenant.CostMetric, Counts: tenant.CountsCharge, Window: "day", Limit: usd("1"), Spent: usd("0"), Held: usd("0"), Remaining: usd("1"),
			StartsAt: at(t, "2026-10-25T23:00:00Z"), ResetsAt: at(t, "2026-10-26T23:00:00Z"),
		}, tomorrow[0])
		equalStatus(t, tenant.LimitStatus{
			TenantID: "acme", Metric: tenant.CostMetric, Counts: tenant.CountsCharge, Window: "month", Limit: usd("10"), Spent: usd("0.4"), Held: usd("0.1"), Remaining: usd("9.5"),
			StartsAt: at(t, "2026-09-30T22:00:00Z"), ResetsAt: at(t, "2026-10-31T23:00:00Z"),
		}, tomorrow[1])

		// A new zone holds from the end of the stored windows on.
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, acme, func(b *tenant.Budget) error {
			b.TimeZone = "America/New_York"
			return nil
		}))
		require.Equal(t, today[0].ResetsAt, read(now)[0].ResetsAt)
		next := read(at(t, "2026-10-25T23:30:00Z"))[0]
		require.Equal(t, at(t, "2026-10-25T23:00:00Z"), next.StartsAt)
		require.Equal(t, at(t, "2026-10-26T04:00:00Z"), next.ResetsAt)
	})
}

func TestCheckBudget_SaysWhatACallWouldBeTold(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme", dollar, tenant.WithEnforcement(tenant.Hard))
		within := func(want bool) {
			t.Helper()
			got, err := tenant.WithinBudget(t.Context(), db, org)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		refused := func() *tenant.BudgetExceededError {
			t.Helper()
			err := tenant.CheckBudget(t.Context(), db, org)
			require.ErrorIs(t, err, tenant.ErrBudgetExceeded)
			var exceeded, actual *tenant.BudgetExceededError
			require.ErrorAs(t, err, &exceeded)
			_, err = ledger.Reserve(t.Context(), org, tenant.Estimate{Cost: tenant.USD("0.000000001")}, tenant.WithWait(0))
			require.ErrorAs(t, err, &actual)
			require.Equal(t, actual.Error(), exceeded.Error(), "it is what a call is told")
			require.Equal(t, actual.Contended, exceeded.Contended)
			return exceeded
		}
		require.NoError(t, tenant.CheckBudget(t.Context(), db, org))
		within(true)
		hold, err := ledger.Reserve(t.Context(), org, tenant.Estimate{Cost: tenant.USD("1")})
		require.NoError(t, err)
		within(false)
		require.True(t, refused().Contended, "only a running call is in the way")
		_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.999999999")})
		require.NoError(t, err)
		within(true)
		require.NoError(t, tenant.CheckBudget(t.Context(), db, org), "a nano-dollar is left")
		_, err = ledger.Record(t.Context(), org, tenant.Actual{Cost: tenant.USD("3")})
		require.NoError(t, err)
		within(false)
		exceeded := refused()
		require.False(t, exceeded.Contended)
		require.Equal(t, "acme", exceeded.TenantID)
		require.Equal(t, "3.999999999", exceeded.Limit.Spent.String())
		left, limited, err := tenant.RemainingBudget(t.Context(), db, org)
		require.NoError(t, err)
		require.True(t, limited)
		require.Equal(t, "0", left.String(), "never less than nothing")

		set := func(change func(*tenant.Budget)) {
			require.NoError(t, tenant.ConfigureBudget(t.Context(), db, org, func(b *tenant.Budget) error { change(b); return nil }))
		}
		set(func(b *tenant.Budget) { b.Enforcement = tenant.None })
		require.ErrorIs(t, tenant.CheckBudget(t.Context(), db, org), tenant.ErrBudgetExceeded, "it says what Hard would say")
		within(false)
		set(func(b *tenant.Budget) { b.Limits = tenant.Limits{DailyTokens: tenant.Count(0)} })
		err = tenant.CheckBudget(t.Context(), db, org)
		require.ErrorContains(t, err, "daily tokens limit of 0", "zero allows nothing")
		_, limited, err = tenant.RemainingBudget(t.Context(), db, org)
		require.NoError(t, err)
		require.False(t, limited, "no limit is of cost")
		set(func(b *tenant.Budget) { b.Limits = tenant.Limits{} })
		require.NoError(t, tenant.CheckBudget(t.Context(), db, org))
		within(true)
		set(func(b *tenant.Budget) { b.Suspended = true })
		require.ErrorIs(t, tenant.CheckBudget(t.Context(), db, org), tenant.ErrTenantSuspended)
		_, err = ledger.Reserve(t.Context(), org, cent)
		require.ErrorIs(t, err, tenant.ErrTenantSuspended)
		set(func(b *tenant.Budget) { b.Suspended = false })
		require.NoError(t, tenant.CheckBudget(t.Context(), db, org))
	})
}

// A limit of one agent says nothing about the calls of others.
func TestWithinBudget_IsAboutTheLimitsThatCountEveryCall(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		known(t, db, "acme")
		require.NoError(t, db.Exec(`UPDATE llm_tenants SET limits = '[{"window_unit": "week", "agent": "batch", "metric": "cost", "amount": 0}]'
			WHERE tenant_id = 'acme'`).Error)
		within, err := tenant.WithinBudget(t.Context(), db, acme)
		require.NoError(t, err)
		require.True(t, within)
		require.NoError(t, tenant.CheckBudget(t.Context(), db, acme))
		_, limited, err := tenant.RemainingBudget(t.Context(), db, acme)
		require.NoError(t, err)
		require.False(t, limited)
		status, err := tenant.BudgetStatus(t.Context(), db, acme)
		require.NoError(t, err)
		require.Len(t, status.Limits, 1)
		require.Equal(t, "batch", status.Limits[0].Agent)
		require.Equal(t, 7*24*time.Hour, status.Limits[0].ResetsAt.Sub(status.Limits[0].StartsAt))
	})
}

func TestBudgetFor_IsTheTenantsOwnSettings(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		limits := tenant.Limits{
			DailyCost: tenant.USD("1"), MonthlyCost: tenant.USD("10"), DailyTokens: tenant.Count(2), MonthlyTokens: tenant.Count(20),
			DailyCalls: tenant.Count(0), MonthlyCalls: tenant.Count(30),
		}
		org := newOrganization(t, db, ledger, "acme", tenant.WithLimits(limits), tenant.WithEnforcement(tenant.Hard), tenant.WithInherit(false))
		want := &tenant.Budget{TenantID: "acme", Name: "Organization acme", Enforcement: tenant.Hard, Limits: limits}
		got, err := tenant.BudgetFor(t.Context(), db, org)
		require.NoError(t, err)
		require.Equal(t, want, got)
		got, err = tenant.BudgetFor(t.Context(), db, acme)
		require.NoError(t, err)
		require.Equal(t, want, got, "by its id alone")

		for _, nobody := range []tenant.Tenant{nil, tenant.ID("nobody")} {
			_, err = tenant.BudgetFor(t.Context(), db, nobody)
			require.ErrorIs(t, err, tenant.ErrNoBudget)
		}
	}, tenant.WithDefaultLimits(tenant.Limits{DailyCost: tenant.USD("7")}))
}

func TestBudgetFor_ARecordWithoutOneIsWhatItsFirstCallMakesIt(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Organization{}))
		early := []*Organization{{Slug: "fresh", Name: "Fresh"}, {Slug: "adopted", Name: "Adopted"}, {Slug: "half", Name: "Half"}}
		require.NoError(t, db.Create(early).Error)
		known(t, db, "adopted", "half")
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, tenant.ID("half"), func(b *tenant.Budget) error {
			b.Enforcement = tenant.Soft
			b.Limits.DailyCost = tenant.USD("5")
			b.TimeZone = "Asia/Tokyo"
			return nil
		}))
		require.NoError(t, ledger.Register(&Organization{}, tenant.WithKey("Slug"), tenant.WithEnforcement(tenant.Hard), tenant.WithInherit(false),
			tenant.WithLimits(tenant.Limits{DailyCost: tenant.USD("1"), DailyCalls: tenant.Count(3)})))
		for _, org := range early {
			before, err := tenant.BudgetFor(t.Context(), db, org)
			require.NoError(t, err)
			statusBefore, err := tenant.BudgetStatus(t.Context(), db, org)
			require.NoError(t, err)
			_, err = ledger.Record(t.Context(), org, tenant.Actual{})
			require.NoError(t, err)
			after, err := tenant.BudgetFor(t.Context(), db, org)
			require.NoError(t, err)
			statusAfter, err := tenant.BudgetStatus(t.Context(), db, org)
			require.NoError(t, err)
			if org.Slug == "fresh" {
				require.Equal(t, after, before)
			} else {
				before.Name = after.Name
				require.Equal(t, after, before)
			}
			require.Len(t, statusAfter.Limits, len(statusBefore.Limits))
			for i := range statusAfter.Limits {
				require.Equal(t, statusAfter.Limits[i].ResetsAt, statusBefore.Limits[i].ResetsAt)
				require.Equal(t, statusAfter.Limits[i].Limit, statusBefore.Limits[i].Limit)
			}
			require.Equal(t, statusAfter.Enforcement, statusBefore.Enforcement)
		}
	}, tenant.WithDefaultLimits(tenant.Limits{MonthlyCost: tenant.USD("7")}))
}
