package tenant_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

func TestLimits_OfEveryWindowAgentAndModelAreEnforced(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]tenant.Limit{
		"hour":                         {Window: tenant.Hour, Cost: tenant.USD("1")},
		"day":                          {Window: tenant.Day, Cost: tenant.USD("1")},
		"week":                         {Window: tenant.Week, Cost: tenant.USD("1")},
		"month":                        {Window: tenant.Month, Cost: tenant.USD("1")},
		"total":                        {Window: tenant.Total, Cost: tenant.USD("1")},
		"calls in a week":              {Window: tenant.Week, Calls: tenant.Count(2)},
		"one agent":                    {Window: tenant.Hour, Agent: "batch", Cost: tenant.USD("1")},
		"one model":                    {Window: tenant.Week, Model: "gpt-4.1", Cost: tenant.USD("1")},
		"one agent's calls of a model": {Window: tenant.Total, Agent: "batch", Model: "gpt-4.1", Calls: tenant.Count(2)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
				org := newOrganization(t, db, ledger, "acme", tenant.WithLimits(tenant.Limits{Also: []tenant.Limit{limit}}), tenant.WithEnforcement(tenant.Hard))
				batch := tenant.WithAgent("batch")
				require.NoError(t, call(t, ledger, org, "0.5", batch))
				require.NoError(t, call(t, ledger, org, "0.5", batch))
				err := call(t, ledger, org, "0.000000001", batch)
				var exceeded *tenant.BudgetExceededError
				require.ErrorAs(t, err, &exceeded)
				require.Equal(t, limit.Window, exceeded.Limit.Window)
				require.Equal(t, limit.Agent, exceeded.Limit.Agent)
				require.Equal(t, limit.Model, exceeded.Limit.Model)
				require.Equal(t, limit.Window == tenant.Total, exceeded.ResetsAt.IsZero())
				err = call(t, ledger, org, "0.1", tenant.WithAgent("chat"))
				if limit.Agent != "" {
					require.NoError(t, err, "another agent")
				} else {
					require.ErrorIs(t, err, tenant.ErrBudgetExceeded)
				}
				requireConservation(t, db)
			})
		})
	}
}

func TestLimits_ACallThatCostsNothingPassesAllButThoseThatAreZero(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		place(t, db, "company", "", "1")
		place(t, db, acme, "company", "5")
		require.NoError(t, call(t, ledger, acme, "0"))
		_, err := ledger.Record(t.Context(), acme, tenant.Actual{Cost: tenant.USD("1.000000001")})
		require.NoError(t, err)
		require.NoError(t, call(t, ledger, acme, "0"), "after an overrun of a limit above")
		require.ErrorIs(t, call(t, ledger, acme, "0.000000001"), tenant.ErrBudgetExceeded)
		_, err = ledger.Record(t.Context(), acme, tenant.Actual{Cost: tenant.USD("5")})
		require.NoError(t, err)
		require.NoError(t, call(t, ledger, acme, "0"), "and of its own")
		status, err := tenant.BudgetStatus(t.Context(), db, acme)
		require.NoError(t, err)
		require.Equal(t, "0", status.Limits[0].Remaining.String())

		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, acme, func(b *tenant.Budget) error {
			b.Limits.DailyCost = tenant.USD("0")
			return nil
		}))
		require.ErrorIs(t, call(t, ledger, acme, "0"), tenant.ErrBudgetExceeded, "a limit of zero allows nothing at all")
		requireConservation(t, db)
	})
}

func TestLimits_ACallThatCostsNothingDoesNotQueueBehindThoseWhoWait(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		place(t, db, acme, "", "1")
		held, err := ledger.Reserve(t.Context(), acme, tenant.Estimate{Model: "m", Cost: tenant.USD("0.9")})
		require.NoError(t, err)
		waiter := make(chan error)
		go func() {
			hold, err := ledger.Reserve(t.Context(), acme, tenant.Estimate{Model: "m", Cost: tenant.USD("0.7")}, tenant.WithWait(time.Minute))
			if err == nil {
				_, err = ledger.Release(context.Background(), hold)
			}
			waiter <- err
		}()
		for err == nil { // until the other one waits: from then on nobody overtakes it
			err = call(t, ledger, acme, "0.000000001")
		}
		require.ErrorIs(t, err, tenant.ErrBudgetExceeded)
		require.NoError(t, call(t, ledger, acme, "0"))
		_, err = ledger.Release(t.Context(), held)
		require.NoError(t, err)
		require.NoError(t, <-waiter)
	})
}

func TestLimits_AddedInMidWindowCountWhatWasUsedInIt(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		batch := tenant.WithAgent("batch")
		require.NoError(t, call(t, ledger, acme, "0.5", batch))
		held, err := ledger.Reserve(t.Context(), acme, tenant.Estimate{Cost: tenant.USD("0.3")}, batch)
		require.NoError(t, err)
		require.NoError(t, call(t, ledger, acme, "7"))
		limit := tenant.Limit{Window: tenant.Week, Agent: "batch", Cost: tenant.USD("1")}
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, acme, func(b *tenant.Budget) error {
			b.Enforcement, b.Limits.Also = tenant.Hard, []tenant.Limit{limit}
			return nil
		}))
		status, err := tenant.BudgetStatus(t.Context(), db, acme)
		require.NoError(t, err)
		last := status.Limits[len(status.Limits)-1]
		require.Equal(t, []string{"0.5", "0.3", "0.2"}, []string{last.Spent.String(), last.Held.String(), last.Remaining.String()},
			"before any call has met the limit")

		require.ErrorIs(t, call(t, ledger, acme, "0.21", batch), tenant.ErrBudgetExceeded)
		require.NoError(t, call(t, ledger, acme, "0.2", batch))
		_, err = ledger.Settle(t.Context(), held, tenant.Actual{Cost: tenant.USD("0.2")})
		require.NoError(t, err)
		require.ErrorIs(t, call(t, ledger, acme, "0.11", batch), tenant.ErrBudgetExceeded)
		require.NoError(t, call(t, ledger, acme, "0.1", batch))
		requireConservation(t, db)
	})
}

func TestLimits_ThatCannotBeMeantAreNamed(t *testing.T) {
	t.Parallel()
	for want, limits := range map[string]tenant.Limits{
		`Also[0].Window: "" is not Hour, Day, Week, Month or Total`:                     {Also: []tenant.Limit{{Calls: tenant.Count(1)}}},
		`Also[1].Window: "fortnight" is not Hour`:                                       {Also: []tenant.Limit{{Window: tenant.Day, Calls: tenant.Count(1)}, {Window: "fortnight"}}},
		`Also[0]: it limits nothing`:                                                    {Also: []tenant.Limit{{Window: tenant.Day}}},
		`Also[0].Tokens: -1 is negative`:                                                {Also: []tenant.Limit{{Window: tenant.Day, Tokens: tenant.Count(-1)}}},
		`Also[0].Cost: amount "x" is not a number`:                                      {Also: []tenant.Limit{{Window: tenant.Day, Cost: tenant.USD("x")}}},
		`Also[0]: the Agent "a\x00" has a control character`:                            {Also: []tenant.Limit{{Window: tenant.Day, Agent: "a\x00", Calls: tenant.Count(1)}}},
		`Also[0].Cost: DailyCost limits the same already`:                               {DailyCost: tenant.USD("1"), Also: []tenant.Limit{{Window: tenant.Day, Cost: tenant.USD("2")}}},
		`Also[1].Calls: Also[0].Calls limits the same already`:                          {Also: []tenant.Limit{{Window: tenant.Hour, Calls: tenant.Count(1)}, {Window: tenant.Hour, Calls: tenant.Count(1)}}},
		`DailyCost, $20.00, is more than MonthlyCost, $10.00, so it would never matter`: {DailyCost: tenant.USD("20"), MonthlyCost: tenant.USD("10")},
		`Also[0].Calls, 5, is more than DailyCalls, 4,`:                                 {DailyCalls: tenant.Count(4), Also: []tenant.Limit{{Window: tenant.Hour, Calls: tenant.Count(5)}}},
	} {
		ledger := openLedger(t, openDatabase(t, "sqlite"))
		err := ledger.Register(&Organization{}, tenant.WithLimits(limits))
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		require.ErrorContains(t, err, want)
	}
}

func TestLimits_LargerThanThoseOfLongerWindowsCanBeLetPass(t *testing.T) {
	t.Parallel()
	ledger := openLedger(t, openDatabase(t, "sqlite"))
	limits := tenant.Limits{DailyCost: tenant.USD("20"), MonthlyCost: tenant.USD("10")}
	err := ledger.Register(&Organization{}, tenant.WithLimits(limits))
	var order *tenant.LimitOrderError
	require.ErrorAs(t, err, &order)
	limits.AllowLargerShort = true
	require.NoError(t, ledger.Register(&Organization{}, tenant.WithLimits(limits)))

	other := tenant.Limits{DailyCost: tenant.USD("20"), Also: []tenant.Limit{{Window: tenant.Month, Agent: "a", Cost: tenant.USD("10")}}}
	type Team Organization
	require.NoError(t, ledger.Register(&Team{}, tenant.WithLimits(other)), "they count other calls")

	credits := tenant.Limits{DailyCost: tenant.USD("20"), DailyCalls: tenant.Count(9), Also: []tenant.Limit{{Window: tenant.Total, Cost: tenant.USD("10"), Calls: tenant.Count(3)}}}
	type Trial Organization
	require.NoError(t, ledger.Register(&Trial{}, tenant.WithLimits(credits)), "a total is no slip")
}

func TestEffectiveBudget_SaysWhereEachLimitComesFrom(t *testing.T) {
	t.Parallel()
	onOneSet(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme",
			tenant.WithLimits(tenant.Limits{DailyCost: tenant.USD("10"), DailyCalls: tenant.Count(5)}), tenant.WithEnforcement(tenant.Hard))
		require.NoError(t, call(t, ledger, nil, "1"), "the first call brings the ledger's own settings into the database")
		place(t, db, "group", "", "50")
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, org, func(b *tenant.Budget) error {
			b.Limits.DailyCalls, b.TimeZone, b.ParentID = tenant.Count(7), "Asia/Kathmandu", "group"
			return nil
		}))
		e, err := tenant.EffectiveBudget(t.Context(), db, org)
		require.NoError(t, err)
		require.Equal(t, []any{"acme", tenant.Hard, tenant.FromDeclaration, "Asia/Kathmandu", tenant.FromTenant},
			[]any{e.TenantID, e.Enforcement, e.EnforcementFrom, e.TimeZone, e.TimeZoneFrom})
		type line struct {
			tenant string
			window tenant.Window
			metric tenant.Metric
			limit  string
			from   tenant.Source
		}
		var lines []line
		for _, l := range e.Limits {
			lines = append(lines, line{l.TenantID, l.Window, l.Metric, l.Limit.String(), l.From})
		}
		require.Equal(t, []line{
			{"acme", tenant.Day, tenant.CostMetric, "10", tenant.FromDeclaration},
			{"acme", tenant.Day, tenant.CallsMetric, "7", tenant.FromTenant},
			{"acme", tenant.Month, tenant.CallsMetric, "50", tenant.FromLedger},
			{"group", tenant.Day, tenant.CostMetric, "50", tenant.FromTenant},
			{"group", tenant.Month, tenant.CallsMetric, "50", tenant.FromLedger},
			{"llm_root", tenant.Month, tenant.CostMetric, "1000", tenant.FromLedger},
		}, lines)
		require.Equal(t, tenant.Soft, e.Limits[5].Enforcement)

		e, err = tenant.EffectiveBudget(t.Context(), db, tenant.ID("nobody-yet"))
		require.NoError(t, err)
		require.Len(t, e.Limits, 2)
	}, tenant.WithDefaultLimits(tenant.Limits{MonthlyCalls: tenant.Count(50)}),
		tenant.WithRootBudget(tenant.Limits{MonthlyCost: tenant.USD("1000")}, tenant.Soft))
}
