package tenant_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// What Open says of days and weeks is in the database from the first call on, for tools beside the programs: nothing where it is what
// everybody has who says nothing, and once in the audit log where it changes. A tool saves nothing.
func TestSavedDays_AreThoseOfTheProgramThatCalledLast(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		ctx := t.Context()
		saved := func() tenant.SavedDays {
			t.Helper()
			days, err := ledger.SavedDays(ctx)
			require.NoError(t, err)
			return days
		}
		rows := func() (n int64) {
			t.Helper()
			require.NoError(t, db.Raw(`SELECT count(*) FROM llm_audit WHERE action = 'Open' AND CAST(became AS text) LIKE '%week_start%'`).Scan(&n).Error)
			return n
		}
		call := func() {
			t.Helper()
			_, err := ledger.Record(ctx, acme, tenant.Actual{Cost: tenant.USD("0.5")})
			require.NoError(t, err)
		}
		again := func(options ...tenant.OpenOption) {
			t.Helper()
			require.NoError(t, ledger.Close(ctx))
			var err error
			ledger, err = tenant.Open(db, append(inItsPlaces(db), options...)...)
			require.NoError(t, err)
		}
		t.Cleanup(func() { _ = ledger.Close(context.Background()) })
		usual := tenant.SavedDays{TimeZone: "UTC", WeekStart: time.Monday}
		require.Equal(t, usual, saved())
		call()
		require.Equal(t, usual, saved())
		require.Zero(t, count(t, db, "llm_tenants WHERE tenant_id IS NULL"))

		chosen := []tenant.OpenOption{tenant.WithDefaultTimeZone("Pacific/Auckland"), tenant.WithWeekStart(time.Sunday)}
		again(chosen...)
		require.Equal(t, usual, saved(), "who only looks saves nothing")
		call()
		its := tenant.SavedDays{TimeZone: "Pacific/Auckland", WeekStart: time.Sunday}
		require.Equal(t, its, saved())
		require.EqualValues(t, 1, rows())
		again(chosen...)
		call()
		require.EqualValues(t, 1, rows(), "nothing has changed")

		again(tenant.WithDefaultsUnsaved(), tenant.WithDefaultTimeZone("Asia/Seoul"), tenant.WithDefaultLimits(tenant.Limits{DailyCalls: tenant.Count(1)}))
		call()
		call()
		require.Equal(t, its, saved())
		e, err := tenant.EffectiveBudget(ctx, db, acme)
		require.NoError(t, err)
		require.Equal(t, "Asia/Seoul", e.TimeZone, "it has its own days")
		require.Empty(t, e.Limits)

		// The other settings of all tenants stay, and go on beside it.
		again(tenant.WithDefaultLimits(tenant.Limits{DailyCalls: tenant.Count(900)}))
		call()
		require.Equal(t, usual, saved())
		require.EqualValues(t, 2, rows())
		e, err = tenant.EffectiveBudget(ctx, db, acme)
		require.NoError(t, err)
		require.Len(t, e.Limits, 1)
		require.NoError(t, ledger.RollUp(ctx))
		found, err := ledger.Verify(ctx)
		require.NoError(t, err)
		require.Empty(t, found)
	})
}
