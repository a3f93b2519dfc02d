package tenant_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

func eachWatched(t *testing.T, test func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, w *witness), options ...tenant.OpenOption) {
	for _, dialect := range everyDatabase {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			w, db := &witness{}, openDatabase(t, dialect)
			test(t, db, openLedger(t, db, append(options, tenant.WithObserver(w))...), w)
		})
	}
}

func TestThresholds_AreReportedOnceWhenTheyAreMet(t *testing.T) {
	t.Parallel()
	eachWatched(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, w *witness) {
		place(t, db, "company", "", "20")
		place(t, db, "team", "company", "10")
		for _, step := range []struct {
			cost string
			want []string
		}{
			{"4.999999999", nil},
			{"0.000000001", []string{"team day 50 5"}},
			{"1", nil},
			{"4", []string{"team day 80 10", "team day 100 10", "company day 50 10"}},
		} {
			before := len(w.thresholds())
			require.NoError(t, call(t, ledger, tenant.ID("team"), step.cost))
			require.Equal(t, step.want, append([]string(nil), w.thresholds()[before:]...), step.cost)
		}

		// A limit that was changed is another one, also where it was met before.
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, tenant.ID("team"), func(b *tenant.Budget) error {
			b.Limits.DailyCost = tenant.USD("12")
			return nil
		}))
		before := len(w.thresholds())
		require.NoError(t, call(t, ledger, tenant.ID("team"), "0.1"))
		require.Equal(t, []string{"team day 50 10.1", "team day 80 10.1"}, w.thresholds()[before:])
	})
}

func TestThresholds_AreReportedOnceAcrossLedgersAndRestarts(t *testing.T) {
	t.Parallel()
	for _, dialect := range everyDatabase {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := openDatabase(t, dialect)
			w := &witness{}
			limits := tenant.Limits{DailyCost: tenant.USD("10")}
			options := []tenant.OpenOption{tenant.WithObserver(w), tenant.WithDefaultLimits(limits), tenant.WithThresholds(80, 50, 50)}
			ledger := openLedger(t, db, options...)
			var wg sync.WaitGroup
			for range 9 {
				wg.Go(func() { require.NoError(t, call(t, ledger, acme, "1")) })
			}
			wg.Wait()
			require.NoError(t, ledger.Close(t.Context()))
			ledger = openLedger(t, db, options...)
			require.NoError(t, call(t, ledger, acme, "0.5"))
			require.ElementsMatch(t, []string{"acme day 50 5", "acme day 80 8"}, w.thresholds())
			require.NoError(t, ledger.Close(t.Context()))
		})
	}
}

func TestThresholds_OfLimitsThatAreNotEnforcedAreNone(t *testing.T) {
	t.Parallel()
	eachWatched(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, w *witness) {
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, acme, func(b *tenant.Budget) error {
			b.Enforcement, b.Limits = tenant.None, tenant.Limits{DailyCalls: tenant.Count(1), MonthlyCalls: tenant.Count(0), AllowLargerShort: true}
			return nil
		}))
		require.NoError(t, call(t, ledger, acme, "1"))
		require.Empty(t, w.thresholds())
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, acme, func(b *tenant.Budget) error {
			b.Enforcement = tenant.Soft
			return nil
		}))
		require.NoError(t, call(t, ledger, acme, "1"))
		require.ElementsMatch(t, []string{
			"acme day 50 2", "acme day 80 2", "acme day 100 2", "acme month 50 2", "acme month 80 2", "acme month 100 2",
		}, w.thresholds(), "Soft lets pass, and reports; of a limit of zero, any use is all of it")
	})
}

func TestObserver_HearsOfRefusalsOverrunsAndUnpricedCalls(t *testing.T) {
	t.Parallel()
	eachWatched(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, w *witness) {
		place(t, db, acme, "", "1")
		err := call(t, ledger, acme, "2", tenant.WithAgent("support"))
		refusals := of[*tenant.RefusalEvent](w)
		require.Len(t, refusals, 1)
		require.Positive(t, refusals[0].Waited)
		refusals[0].Waited = 0
		require.Equal(t, &tenant.RefusalEvent{TenantID: "acme", Agent: "support", Provider: "openai", Model: "gpt-4.1", Operation: "chat", Err: err}, refusals[0])

		hold, err := ledger.Reserve(t.Context(), acme, tenant.Estimate{Model: "m", Cost: tenant.USD("0.5"), InputTokens: 5})
		require.NoError(t, err)
		_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Model: "m-1", Cost: tenant.USD("0.75"), Usage: tenant.Usage{Input: 4}})
		require.NoError(t, err)
		overruns := of[*tenant.OverrunEvent](w)
		require.Len(t, overruns, 1)
		require.Equal(t, []string{"acme", "m-1", "0.5", "0.75"},
			[]string{overruns[0].TenantID, overruns[0].Model, overruns[0].HeldCost.String(), overruns[0].Cost.String()})
		require.Equal(t, hold.ExecutionID, overruns[0].ExecutionID)

		require.Empty(t, of[*tenant.UnpricedEvent](w))
		_, err = ledger.Record(t.Context(), tenant.ID("globex"), tenant.Actual{Provider: "nobody", Model: "x", Usage: tenant.Usage{Input: 4}})
		require.NoError(t, err)
		unpriced := of[*tenant.UnpricedEvent](w)
		require.Len(t, unpriced, 1)
		require.Equal(t, []string{"globex", "nobody", "x"}, []string{unpriced[0].TenantID, unpriced[0].Provider, unpriced[0].Model})
	})
}

type panicking struct{}

func (panicking) Observe(context.Context, tenant.Event) { panic("mine") }

func TestObserver_ThatPanicsHarmsNoCall(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "sqlite")
	ledger := openLedger(t, db, tenant.WithObserver(panicking{}), tenant.WithDefaultLimits(tenant.Limits{DailyCost: tenant.USD("1")}))
	require.NoError(t, call(t, ledger, acme, "1"))
	requireConservation(t, db)
}

func TestObserverOptions_ThatCannotBeMeant(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "sqlite")
	_, err := tenant.Open(db, tenant.WithObserver(nil))
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	_, err = tenant.Open(db, tenant.WithThresholds(50, 0))
	require.ErrorContains(t, err, "WithThresholds: 0 is not between 1 and 1000")
	_, err = tenant.Open(db, tenant.WithWeekStart(3))
	require.ErrorContains(t, err, "WithWeekStart: a week begins on Monday or on Sunday, and not on Wednesday")
	_, err = tenant.Open(db, tenant.WithRootBudget(tenant.Limits{DailyCost: tenant.USD("x")}, tenant.Hard))
	require.ErrorContains(t, err, "WithRootBudget: DailyCost")
	_, err = tenant.Open(db, tenant.WithRootBudget(tenant.Limits{}, "strict"))
	require.ErrorContains(t, err, `WithRootBudget: unknown enforcement "strict"`)
}

// stated is a price book with one model, whose provider states what calls cost.
type stated struct{ charge bool }

func (b stated) Price(string, string, time.Time) (tenant.Price, bool) {
	return tenant.Price{
		Rates: tenant.Rates{Input: 1_000_000_000, Output: 2_000_000_000}, Row: "proxy/m@2026-01-01", ChargeReported: b.charge,
		Services: []tenant.Service{{Name: "batch", Rates: tenant.Rates{Input: 500_000_000, Output: 1_000_000_000}}},
	}, true
}

func TestObserver_HearsOfAProvidersCostThatIsAnotherThanOurs(t *testing.T) {
	t.Parallel()
	for _, charge := range []bool{false, true} {
		eachWatched(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, w *witness) {
			usage := tenant.Usage{Input: 1_000_000}
			for _, c := range []struct{ tier, reported string }{{"", "1"}, {"", "1.005"}, {"", "1.2"}, {"batch", "0.5"}} {
				_, err := ledger.Record(t.Context(), acme, tenant.Actual{
					Provider: "proxy", Model: "m", Usage: usage, ServiceTier: c.tier, ReportedCost: tenant.USD(c.reported),
				})
				require.NoError(t, err)
			}
			differs := of[*tenant.CostDiffersEvent](w)
			require.Len(t, differs, 1)
			charged := "1"
			if charge {
				charged = "1.2"
			}
			require.Equal(t, []string{"acme", "1", "1.2", charged},
				[]string{differs[0].TenantID, differs[0].Computed.String(), differs[0].Reported.String(), differs[0].Charged.String()})
			var rows []tenant.Execution
			require.NoError(t, tenant.Executions(t.Context(), db, acme).Find(&rows).Error)
			prices := make(map[string]int)
			for _, r := range rows {
				prices[r.Price]++
			}
			require.Equal(t, map[string]int{"proxy/m@2026-01-01": 3, "proxy/m@2026-01-01 batch": 1}, prices)
		}, tenant.WithPrices(stated{charge}))
	}
}
