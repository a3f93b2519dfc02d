package tenant_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

func TestRename_GivesATenantThatIsKnownByItsIDAnother(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "org", dollar)
		gone := &Organization{Slug: "gone"}
		require.NoError(t, db.Create(gone).Error)
		require.NoError(t, db.Delete(gone).Error)
		spendCent(t, ledger, tenant.ID("old"))
		spendCent(t, ledger, tenant.ID("other"))
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, tenant.ID("other"), func(b *tenant.Budget) error {
			b.Name = "By hand"
			b.Limits.DailyCalls = tenant.Count(5)
			return nil
		}))
		running, err := ledger.Reserve(t.Context(), tenant.ID("old"), cent)
		require.NoError(t, err)

		for _, c := range []struct {
			from, to tenant.ID
			is       error
			says     string
		}{
			{"old", "other", tenant.ErrIdentityConflict, `"other" already`},
			{"old", "old", tenant.ErrIdentityConflict, `"old" already`},
			{"old", "org", tenant.ErrIdentityConflict, `"org" already`},
			{"nobody", "new", tenant.ErrNoBudget, `no tenant "nobody"`},
			{"gone", "new", tenant.ErrNoBudget, `no tenant "gone"`},
			{"org", "new", tenant.ErrInvalidTenant, fmt.Sprintf("belongs to organizations %d", org.ID)},
			{"", "new", tenant.ErrInvalidTenant, "empty"},
			{"old", "a\nb", tenant.ErrInvalidTenant, "control character"},
		} {
			err := ledger.Rename(t.Context(), c.from, c.to)
			require.ErrorIs(t, err, c.is, "%s to %s", c.from, c.to)
			require.ErrorContains(t, err, c.says)
		}

		require.NoError(t, ledger.Rename(t.Context(), "old", "new"))
		require.NoError(t, ledger.Rename(t.Context(), "other", "gone"), "a deleted tenant's key is free")
		_, err = ledger.Settle(t.Context(), running, tenant.Actual{Cost: tenant.USD("0.02")})
		require.NoError(t, err)
		spendCent(t, ledger, tenant.ID("new"))
		require.Equal(t, balance{SpentCost: 4e7, SpentCalls: 3}, balanceOf(t, db, "new", "day"))
		budget, err := tenant.BudgetFor(t.Context(), db, tenant.ID("new"))
		require.NoError(t, err)
		require.Equal(t, "new", budget.Name, "a name that was the id follows")
		budget, err = tenant.BudgetFor(t.Context(), db, tenant.ID("gone"))
		require.NoError(t, err)
		require.Equal(t, [2]any{"By hand", tenant.Count(5)}, [2]any{budget.Name, budget.Limits.DailyCalls})
		cost, err := tenant.CostToday(t.Context(), db, tenant.ID("old"))
		require.NoError(t, err)
		require.True(t, cost.IsZero())

		// Of several at once one succeeds.
		errs := make(chan error, 4)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { errs <- ledger.Rename(context.Background(), "new", "newest") })
		}
		wg.Wait()
		close(errs)
		renamed := 0
		for err := range errs {
			if err == nil {
				renamed++
			} else {
				require.True(t, errors.Is(err, tenant.ErrNoBudget) || errors.Is(err, tenant.ErrIdentityConflict), err)
			}
		}
		require.Equal(t, 1, renamed)
		require.EqualValues(t, 3, balanceOf(t, db, "newest", "day").SpentCalls)
		requireConservation(t, db)
	})
}
