package tenant_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
)

// dated is a price book whose only model costs a nano-dollar a token, and three from a date on.
type dated struct{ rises time.Time }

func (d dated) Price(_, model string, at time.Time) (tenant.Price, bool) {
	rate := int64(1e6)
	if !at.Before(d.rises) {
		rate = 3e6
	}
	return tenant.Price{Model: model, Rates: tenant.Rates{Input: rate, Output: rate}}, model == "m"
}

func TestWithClock_ChoosesThePriceAndNeitherAWindowNorADeadline(t *testing.T) {
	t.Parallel()
	for _, dialect := range everyDatabase {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			rises := start.AddDate(1, 0, 0)
			clock := rises.Add(-time.Second)
			db := openDatabase(t, dialect)
			ledger := openLedger(t, db, tenant.WithPrices(dated{rises}), tenant.WithClock(func() time.Time { return clock }))
			org := newOrganization(t, db, ledger, "acme", tenant.WithEnforcement(tenant.Hard), tenant.WithLimits(tenant.Limits{MonthlyCalls: tenant.Count(2)}))
			estimate := tenant.Estimate{Model: "m", InputTokens: 100, OutputTokens: 100}

			// The year turns, by the clock of the process, and with it the price.
			for _, nano := range []int64{1, 3} {
				hold, err := ledger.Reserve(t.Context(), org, estimate)
				require.NoError(t, err)
				require.Equal(t, 200*nano, hold.Cost.Shift(9).IntPart())
				require.WithinDuration(t, start.Add(time.Hour), hold.Deadline, 15*time.Minute)
				s, err := ledger.Settle(t.Context(), hold, tenant.Actual{Usage: tenant.Usage{Input: 100, Output: 10}})
				require.NoError(t, err)
				require.Equal(t, 110*nano, s.Cost.Shift(9).IntPart())
				clock = rises
			}

			// The month has not, by the clock of the database.
			_, err := ledger.Reserve(t.Context(), org, estimate)
			var exceeded *tenant.BudgetExceededError
			require.ErrorAs(t, err, &exceeded)
			require.WithinDuration(t, start, exceeded.ResetsAt, 32*24*time.Hour)
			var executions []tenant.Execution
			require.NoError(t, tenant.Executions(t.Context(), db, org).Find(&executions).Error)
			require.Len(t, executions, 2)
			for _, e := range executions {
				require.WithinDuration(t, start, e.AdmittedAt, 15*time.Minute)
				require.WithinDuration(t, start, *e.SettledAt, 15*time.Minute)
			}
			cost, err := tenant.CostThisMonth(t.Context(), db, org)
			require.NoError(t, err)
			require.EqualValues(t, 440, cost.Shift(9).IntPart())
		})
	}
}

func TestWithClock_OfNothingIsRefused(t *testing.T) {
	t.Parallel()
	_, err := tenant.Open(openDatabase(t, "sqlite"), tenant.WithClock(nil))
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	require.ErrorContains(t, err, "WithClock")
}
