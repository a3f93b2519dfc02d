package tenant_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// openPlaces opens a ledger with places, and makes their tables.
func openPlaces(t testing.TB, db *gorm.DB, names []string, options ...tenant.OpenOption) *tenant.Ledger {
	t.Helper()
	ledger := openLedger(t, db, append([]tenant.OpenOption{tenant.WithPlaces(names...)}, options...)...)
	require.NoError(t, ledger.Migrate(t.Context()))
	return ledger
}

// placeOf is where the books of a tenant are.
func placeOf(t testing.TB, db *gorm.DB, key string) (place string) {
	t.Helper()
	require.NoError(t, db.Raw(`SELECT place FROM llm_tenants WHERE tenant_id = ?`, key).Scan(&place).Error)
	return place
}

func TestPlaces_EachTenantIsBookedInItsOwn(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openPlaces(t, db, []string{"east", "west"})
	began := time.Now()
	const tenants = 20
	for i := range tenants {
		id := tenant.ID(fmt.Sprintf("customer-%d", i))
		for range 3 {
			require.NoError(t, call(t, ledger, id, "0.25"))
		}
		cost, err := tenant.CostToday(t.Context(), db, id)
		require.NoError(t, err)
		require.Equal(t, "0.75", cost.String())
	}
	require.NoError(t, call(t, ledger, nil, "0.5"))
	count := func(place string) (n int64) {
		require.NoError(t, db.Raw(`SELECT count(*) FROM `+place+`llm_executions`).Scan(&n).Error)
		return n
	}
	east, west := count("east."), count("west.")
	require.EqualValues(t, 3*tenants, east+west)
	require.NotZero(t, east)
	require.NotZero(t, west)
	require.EqualValues(t, 1, count(""), "the call without a tenant is in the home")
	all, err := tenant.QueryUsage(t.Context(), db, tenant.Query{Everybody: true, Period: tenant.Between(began.Add(-time.Hour), time.Now().Add(time.Hour))})
	require.NoError(t, err)
	require.Equal(t, "15.5", all.Total.Cost.String())
	list, err := tenant.ListTenants(t.Context(), db, tenant.TenantList{})
	require.NoError(t, err)
	require.Len(t, list, tenants)
	page, err := tenant.ExecutionsPage(t.Context(), db, tenant.ExecutionQuery{Everybody: true}, 1000)
	require.NoError(t, err)
	require.Len(t, page.Executions, 3*tenants+1)
	differences, err := ledger.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, differences)
}

func TestMove_TakesATenantWithAllBelowItAndWhatRuns(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openPlaces(t, db, []string{"east", "west"})
	company, team, other := tenant.ID("company"), tenant.ID("team"), tenant.ID("other")
	below := func(id, parent tenant.ID) {
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, id, func(b *tenant.Budget) error {
			b.ParentID = string(parent)
			return nil
		}))
	}
	day := tenant.Limits{DailyCost: tenant.USD("2")}
	require.NoError(t, tenant.ConfigureBudget(t.Context(), db, company, func(b *tenant.Budget) error {
		b.Limits, b.Enforcement = day, tenant.Hard
		return nil
	}))
	home := placeOf(t, db, string(company))
	away := map[string]string{"east": "west", "west": "east"}[home]
	if placeOfNew(t, ledger, db, team) != home {
		_, err := ledger.Move(t.Context(), team, home)
		require.NoError(t, err)
	}
	below(team, company)
	require.NoError(t, call(t, ledger, other, "0.125"))
	for range 3 {
		require.NoError(t, call(t, ledger, team, "0.25"))
	}
	running, err := ledger.Reserve(t.Context(), team, tenant.Estimate{Cost: tenant.USD("1")})
	require.NoError(t, err)

	_, err = ledger.Move(t.Context(), team, away)
	require.ErrorIs(t, err, tenant.ErrHierarchy)
	require.ErrorContains(t, err, `"company"`)
	report, err := ledger.Move(t.Context(), company, away)
	require.NoError(t, err)
	require.Equal(t, tenant.MoveReport{Tenants: []string{"company", "team"}, Executions: 5}, report)
	require.Equal(t, []string{away, away}, []string{placeOf(t, db, "company"), placeOf(t, db, "team")})
	again, err := ledger.Move(t.Context(), company, away)
	require.NoError(t, err)
	require.Zero(t, again)

	require.ErrorIs(t, call(t, ledger, team, "0.5"), tenant.ErrBudgetExceeded, "what runs is held as before")
	settled, err := ledger.Settle(t.Context(), running, tenant.Actual{Cost: tenant.USD("0.5")})
	require.NoError(t, err)
	require.Equal(t, tenant.Settled, settled.Outcome)
	require.NoError(t, call(t, ledger, team, "0.75"))
	require.ErrorIs(t, call(t, ledger, team, "0.000000001"), tenant.ErrBudgetExceeded)
	cost, err := tenant.Cost(t.Context(), db, company, tenant.AllTime, tenant.WithDescendants())
	require.NoError(t, err)
	require.Equal(t, "2", cost.String())
	differences, err := ledger.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, differences)
	var changes []tenant.AuditEntry
	require.NoError(t, tenant.AuditLog(t.Context(), db, company).Where("action = ?", "Move").Find(&changes).Error)
	require.Len(t, changes, 1)
}

// placeOfNew makes a tenant, and returns where it was put.
func placeOfNew(t testing.TB, ledger *tenant.Ledger, db *gorm.DB, id tenant.ID) string {
	t.Helper()
	require.NoError(t, call(t, ledger, id, "0"))
	return placeOf(t, db, string(id))
}
