package tenant_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/period"
)

func TestForecast_GoesByTheLengthOfOneWindowBeforeNow(t *testing.T) {
	t.Parallel()
	const hourly = 1_000_000_000 // a dollar an hour, since always
	midnight := time.Date(2026, time.March, 10, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		now               time.Time
		calls             bool
		limit             tenant.Limit
		perDay, projected string
		exhausted         time.Time
		percent           string
	}{
		"in the window's first minute": {
			now: midnight.Add(30 * time.Second), calls: true, limit: tenant.Limit{Window: tenant.Day, Cost: tenant.USD("36")},
			perDay: "24", projected: "23.991666667", percent: "0",
		},
		"in its middle": {
			now: midnight.Add(12 * time.Hour), calls: true, limit: tenant.Limit{Window: tenant.Day, Cost: tenant.USD("36")},
			perDay: "24", projected: "24", percent: "33.33",
		},
		"too much for the day": {
			now: midnight.Add(12 * time.Hour), calls: true, limit: tenant.Limit{Window: tenant.Day, Cost: tenant.USD("18")},
			perDay: "24", projected: "24", exhausted: midnight.Add(18 * time.Hour), percent: "66.67",
		},
		"used up": {
			now: midnight.Add(12 * time.Hour), calls: true, limit: tenant.Limit{Window: tenant.Day, Cost: tenant.USD("12")},
			perDay: "24", projected: "24", exhausted: midnight.Add(12 * time.Hour), percent: "100",
		},
		"without spend": {
			now: midnight.Add(12 * time.Hour), limit: tenant.Limit{Window: tenant.Month, Cost: tenant.USD("12")},
			perDay: "0", projected: "0", percent: "0",
		},
		"a limit of nothing": {
			now: midnight.Add(12 * time.Hour), limit: tenant.Limit{Window: tenant.Month, Cost: tenant.USD("0")},
			perDay: "0", projected: "0", percent: "100", exhausted: midnight.Add(12 * time.Hour),
		},
		"in total": {
			now: midnight, calls: true, limit: tenant.Limit{Window: tenant.Total, Cost: tenant.USD("1000")},
			perDay: "24", projected: "960", exhausted: midnight.Add(40 * time.Hour), percent: "96",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
				require.NoError(t, tenant.ConfigureBudget(t.Context(), db, acme, func(b *tenant.Budget) error {
					b.Limits.Also = []tenant.Limit{c.limit}
					return nil
				}))
				if c.calls {
					inWindow(t, db, "acme", period.Day, c.now, time.UTC)
					inWindow(t, db, "acme", period.Month, c.now, time.UTC)
					var calls []past
					for i := range 40 * 24 { // at half past, 40 days back
						if at := c.now.Truncate(time.Hour).Add(-time.Duration(i)*time.Hour - 30*time.Minute); at.Before(c.now) {
							calls = append(calls, past{at: at, cost: hourly})
						}
					}
					remember(t, db, "acme", calls...)
				}
				tenant.SetClock(ledger, c.now)
				status, err := tenant.BudgetStatus(t.Context(), db, acme)
				require.NoError(t, err)
				require.NotEmpty(t, status.Limits)
				l := status.Limits[0]
				require.Equal(t, c.limit.Window, l.Window)
				require.Equal(t, c.percent, l.Percent.String())
				require.Equal(t, c.perDay, l.Forecast.PerDay.String())
				require.Equal(t, c.projected, l.Forecast.Projected.String())
				require.Truef(t, c.exhausted.Equal(l.Forecast.ExhaustedAt), "%v", l.Forecast.ExhaustedAt)
			})
		})
	}
}

func TestForecast_OfAFirstCallTakesAnHourForGranted(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, call(t, ledger, acme, "1"))
		status, err := tenant.BudgetStatus(t.Context(), db, acme)
		require.NoError(t, err)
		perDay := status.Limits[0].Forecast.PerDay
		require.True(t, perDay.LessThanOrEqual(usd("24")), "%s", perDay)
		require.True(t, perDay.GreaterThanOrEqual(usd("12")), "%s", perDay)
	}, tenant.WithDefaultLimits(tenant.Limits{DailyCost: tenant.USD("100")}))
}
