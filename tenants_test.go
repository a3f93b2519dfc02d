package tenant_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

func listed(t *testing.T, db *gorm.DB, list tenant.TenantList) (ids []string) {
	t.Helper()
	page, err := tenant.ListTenants(t.Context(), db, list)
	require.NoError(t, err)
	for _, l := range page {
		ids = append(ids, l.TenantID)
	}
	return ids
}

func TestListTenants_PagesSearchesAndStaysBelow(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		place(t, db, "company", "", "20")
		place(t, db, "team-a", "company", "10")
		place(t, db, "team-b", "company", "10")
		place(t, db, "team_b%squad", "team-b", "5")
		place(t, db, "other", "", "5")
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, tenant.ID("other"), func(b *tenant.Budget) error {
			b.Name, b.Suspended = "An Other Ltd", true
			return nil
		}))
		require.NoError(t, call(t, ledger, tenant.ID("team_b%squad"), "2"))

		require.Equal(t, []string{"company", "other", "team-a", "team-b", "team_b%squad"}, listed(t, db, tenant.TenantList{}))
		require.Equal(t, []string{"company", "other"}, listed(t, db, tenant.TenantList{Limit: 2}))
		require.Equal(t, []string{"team-a", "team-b"}, listed(t, db, tenant.TenantList{Limit: 2, After: "other"}))
		require.Equal(t, []string{"other"}, listed(t, db, tenant.TenantList{Search: "oTHer l"}))
		require.Equal(t, []string{"team_b%squad"}, listed(t, db, tenant.TenantList{Search: "_b%"}))
		require.Equal(t, []string{"team-a", "team-b", "team_b%squad"}, listed(t, db, tenant.TenantList{Below: tenant.ID("company")}))
		require.Equal(t, []string{"team_b%squad"}, listed(t, db, tenant.TenantList{Below: tenant.ID("team-b")}))
		require.Empty(t, listed(t, db, tenant.TenantList{Below: tenant.ID("nobody")}))

		page, err := tenant.ListTenants(t.Context(), db, tenant.TenantList{Limit: 2})
		require.NoError(t, err)
		require.Equal(t, []string{"2", "2", "2"}, []string{page[0].Today.String(), page[0].Month.String(), page[0].Total.String()}, "what is below counts")
		require.True(t, page[1].Suspended)
		require.Equal(t, "An Other Ltd", page[1].Name)

		_, err = tenant.ListTenants(t.Context(), db, tenant.TenantList{Limit: 1001})
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		require.ErrorContains(t, err, "TenantList.Limit is 1001")
	})
}

func TestNearLimits_AreTheMostUsedUpFirst(t *testing.T) {
	t.Parallel()
	limits := tenant.Limits{DailyCalls: tenant.Count(4)}
	everywhere(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		place(t, db, "company", "", "100")
		place(t, db, "team", "company", "10")
		place(t, db, "idle", "company", "10")
		require.NoError(t, call(t, ledger, tenant.ID("team"), "9"))
		for range 4 {
			require.NoError(t, call(t, ledger, tenant.ID("plain"), "1"))
		}
		near := func(list tenant.LimitList) (all []string) {
			found, err := tenant.NearLimits(t.Context(), db, list)
			require.NoError(t, err)
			for _, l := range found {
				all = append(all, fmt.Sprintf("%s %s %s %s of %s", l.TenantID, l.Window, l.Metric, l.Spent, l.LimitStatus.Limit))
			}
			return all
		}
		require.Equal(t, []string{"plain day calls 4 of 4", "team day cost 9 of 10"}, near(tenant.LimitList{}), "an inherited limit counts as well")
		require.Equal(t, []string{"plain day calls 4 of 4"}, near(tenant.LimitList{Limit: 1}))
		require.Equal(t, []string{"team day cost 9 of 10", "team day calls 1 of 4"}, near(tenant.LimitList{Below: tenant.ID("company"), Percent: 20}))

		require.NoError(t, ledger.TopUp(t.Context(), tenant.ID("team"), tenant.TopUp{
			Limit: tenant.Limit{Window: tenant.Day, Cost: tenant.USD("90")}, Reason: "more",
		}))
		require.Equal(t, []string{"plain day calls 4 of 4"}, near(tenant.LimitList{}), "a top-up makes room")
		_, err := tenant.NearLimits(t.Context(), db, tenant.LimitList{Percent: 101})
		require.ErrorContains(t, err, "LimitList.Percent is 101")
	}, tenant.WithDefaultLimits(limits))
}

func TestRunning_CountsWhatIsHeld(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		r, err := tenant.Running(t.Context(), db)
		require.NoError(t, err)
		require.Zero(t, r.Calls)
		require.True(t, r.Oldest.IsZero())
		h, err := ledger.Reserve(t.Context(), tenant.ID("team"), tenant.Estimate{Cost: tenant.USD("0.25")})
		require.NoError(t, err)
		r, err = tenant.Running(t.Context(), db)
		require.NoError(t, err)
		require.EqualValues(t, 1, r.Calls)
		require.Equal(t, "0.25", r.Cost.String())
		require.False(t, r.Oldest.IsZero())
		require.Zero(t, r.Overdue)
		_, err = ledger.Release(t.Context(), h)
		require.NoError(t, err)
		require.NotEmpty(t, ledger.Lanes())
	})
}

func TestLastVerify_IsWrittenDown(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		_, found, err := tenant.LastVerify(t.Context(), db)
		require.NoError(t, err)
		require.False(t, found)
		require.NoError(t, call(t, ledger, tenant.ID("team"), "1"))
		_, err = ledger.Verify(tenant.ContextWithActor(t.Context(), "on-call"))
		require.NoError(t, err)
		require.NoError(t, db.Exec("UPDATE llm_balances SET spent_cost = spent_cost + 1 WHERE window_unit = 'total' AND spent_cost > 0").Error)
		_, err = ledger.Verify(tenant.ContextWithActor(t.Context(), "on-call"))
		require.NoError(t, err)
		last, found, err := tenant.LastVerify(t.Context(), db)
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, "on-call", last.Actor)
		require.Equal(t, 1, last.Differences)
		require.False(t, last.EndedAt.IsZero())
	})
}

func TestOverruns_AreCountedOfAllTenants(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		for _, who := range []tenant.Tenant{tenant.ID("team"), tenant.ID("other"), nil} {
			for _, cost := range []string{"0.25", "0.26"} {
				h, err := ledger.Reserve(t.Context(), who, tenant.Estimate{Cost: tenant.USD("0.25"), Model: "m"})
				require.NoError(t, err)
				_, err = ledger.Settle(t.Context(), h, tenant.Actual{Cost: tenant.USD(cost)})
				require.NoError(t, err)
			}
		}
		n, err := tenant.Overruns(t.Context(), db, tenant.Today)
		require.NoError(t, err)
		require.EqualValues(t, 3, n)
		n, err = tenant.Overruns(t.Context(), db, tenant.Yesterday)
		require.NoError(t, err)
		require.Zero(t, n)
		_, err = tenant.Overruns(t.Context(), db, nil)
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
	})
}
