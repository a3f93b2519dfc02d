package tenant_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/units"
)

func TestVerify_FindsEachFigureThatIsNotTheSumOfTheExecutions(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme", dollar)
		for i := range 5 {
			_, err := ledger.Record(t.Context(), org, tenant.Actual{
				Model: fmt.Sprint("m", i%2), Cost: tenant.USD("0.01"), Usage: tenant.Usage{Input: 10, Reasoning: 3, Units: units.Of(units.Pages, int64(i))},
			})
			require.NoError(t, err)
		}
		_, err := ledger.Record(t.Context(), nil, tenant.Actual{Cost: tenant.USD("0.02"), ErrorCode: "http_500"})
		require.NoError(t, err)
		hold, err := ledger.Reserve(t.Context(), org, cent)
		require.NoError(t, err)
		released, err := ledger.Reserve(t.Context(), org, cent)
		require.NoError(t, err)
		_, err = ledger.Release(t.Context(), released)
		require.NoError(t, err)
		differences, err := ledger.Verify(t.Context())
		require.NoError(t, err)
		require.Empty(t, differences)

		for _, c := range []struct {
			breaks string
			finds  []string
		}{
			{`UPDATE llm_balances SET day_spent_cost = day_spent_cost + 1 WHERE day_spent_cost > 20000000`, []string{"balance day", "spent_cost is 50000001", "50000000"}},
			{`UPDATE llm_balances SET held_calls = 0 WHERE window_unit = 'total'`, []string{"balance total", "held_calls is 0", "say 1"}},
			{`UPDATE llm_balances SET month_held_tokens = month_held_tokens - 7 WHERE month_spent_cost > 20000000`, []string{"balance month", "held_tokens is -7"}},
			{`UPDATE llm_usage SET reasoning_tokens = 0 WHERE model = 'm0'`, []string{`model "m0"`, "reasoning_tokens is 0", "say 9"}},
			{`UPDATE llm_usage SET errors = 5 WHERE errors = 1`, []string{"errors is 5", "say 1", "00000000-0000-0000-0000-000000000000"}},
			{`DELETE FROM llm_usage WHERE model = 'm1'`, []string{`model "m1"`, "calls is 0", "say 2"}},
			{`INSERT INTO llm_usage (tenant, hour, cost) SELECT tenant, '2020-01-01 00:00:00.000000+00:00', 8 FROM llm_usage WHERE model = 'm0'`, []string{"2020-01-01", "cost is 8", "say 0"}},
			{`UPDATE llm_usage_units SET amount = 5 WHERE model = 'm0'`, []string{`model "m0"`, `unit "pages"`, "amount is 5", "say 6"}},
			{`DELETE FROM llm_usage_units WHERE model = 'm1'`, []string{`model "m1"`, "amount is 0", "say 4"}},
			{`INSERT INTO llm_usage_units (tenant, hour, unit, amount) SELECT tenant, '2020-01-01 00:00:00.000000+00:00', 'x', 8 FROM llm_usage_units WHERE model = 'm0'`, []string{"2020-01-01", `unit "x"`, "amount is 8", "say 0"}},
		} {
			require.NoError(t, db.Exec(c.breaks).Error, c.breaks)
			differences, err := ledger.Verify(t.Context())
			require.NoError(t, err)
			require.NotEmpty(t, differences, c.breaks)
			for _, s := range c.finds {
				require.Contains(t, fmt.Sprint(differences), s, c.breaks)
			}
			for _, d := range differences {
				if d.TenantID == "" {
					require.Equal(t, tenant.UUID("00000000-0000-0000-0000-000000000000"), d.UUID, "calls without a tenant")
					continue
				}
				require.Equal(t, "acme", d.TenantID, c.breaks)
				id, err := tenant.UUIDFor(t.Context(), db, org)
				require.NoError(t, err)
				require.Equal(t, id, d.UUID, c.breaks)
			}
			var told []tenant.VerifyReport
			would, err := ledger.Repair(t.Context(), tenant.WithVerifyDryRun(), tenant.WithVerifyProgress(func(r tenant.VerifyReport) { told = append(told, r) }))
			require.NoError(t, err)
			require.Equal(t, differences, would)
			require.EqualValues(t, len(would), told[len(told)-1].Differences)
			mended, err := ledger.Repair(t.Context())
			require.NoError(t, err)
			require.Equal(t, differences, mended)
			differences, err = ledger.Verify(t.Context())
			require.NoError(t, err)
			require.Empty(t, differences, c.breaks)
		}
		var before, after int64
		entries := tenant.AuditLog(t.Context(), db, nil)
		require.NoError(t, entries.Count(&before).Error)
		_, err = ledger.Verify(t.Context(), tenant.WithVerifyDryRun())
		require.NoError(t, err)
		require.NoError(t, entries.Count(&after).Error)
		require.Equal(t, before, after, "a dry run is not written down")
		_, err = ledger.Verify(t.Context(), tenant.WithVerifyProgress(nil))
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		_, err = ledger.Repair(t.Context(), nil)
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		requireConservation(t, db)
		_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.01")})
		require.NoError(t, err)
	})
}

func TestRepair_MendsWhileCallsGoOn(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme", tenant.WithLimits(tenant.Limits{DailyCost: tenant.USD("1000")}), tenant.WithEnforcement(tenant.Hard))
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					hold, err := ledger.Reserve(t.Context(), org, cent, patiently)
					if err == nil {
						_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.01")})
					}
					if err != nil {
						t.Errorf("a call: %v", err)
						return
					}
				}
			})
		}
		for range 10 {
			require.NoError(t, db.Exec(`UPDATE llm_balances SET day_spent_cost = day_spent_cost + 5`).Error)
			_, err := ledger.Repair(t.Context())
			require.NoError(t, err)
			differences, err := ledger.Verify(t.Context())
			require.NoError(t, err)
			require.Empty(t, differences)
		}
		close(stop)
		wg.Wait()
		requireConservation(t, db)
	})
}
