package tenant_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

func TestHierarchy_ACallIsHeldToEveryBudgetAboveItsTenant(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		place(t, db, "company", "", "10")
		place(t, db, "red", "company", "7")
		place(t, db, "blue", "company", "")
		require.NoError(t, call(t, ledger, tenant.ID("red"), "4"))
		require.NoError(t, call(t, ledger, tenant.ID("blue"), "3"))
		require.NoError(t, call(t, ledger, tenant.ID("company"), "1"))

		err := call(t, ledger, tenant.ID("red"), "2.5")
		var exceeded *tenant.BudgetExceededError
		require.ErrorAs(t, err, &exceeded)
		require.Equal(t, "red", exceeded.TenantID)
		require.Equal(t, "company", exceeded.Limit.TenantID, "there is room left in red's own")
		require.ErrorContains(t, err, `tenant "red": daily cost limit of $10.00, of tenant "company" above it, exceeded:`)
		require.ErrorAs(t, call(t, ledger, tenant.ID("red"), "3.5"), &exceeded)
		require.Equal(t, "red", exceeded.Limit.TenantID, "the nearest is named first")
		require.NoError(t, call(t, ledger, tenant.ID("red"), "0"), "with it ride the refusals")

		descendants := tenant.WithDescendants()
		require.Equal(t, "4", costToday(t, db, tenant.ID("red")))
		require.Equal(t, "1", costToday(t, db, tenant.ID("company")))
		require.Equal(t, "8", costToday(t, db, tenant.ID("company"), descendants))
		for _, p := range []tenant.Period{tenant.AllTime, tenant.ThisMonth, tenant.Between(time.Now().Add(-time.Hour), time.Now().Add(time.Minute))} {
			cost, err := tenant.Cost(t.Context(), db, tenant.ID("company"), p, descendants)
			require.NoError(t, err)
			require.Equal(t, "8", cost.String())
		}
		summary, err := tenant.UsageSummary(t.Context(), db, tenant.ID("company"), tenant.Today, descendants)
		require.NoError(t, err)
		require.EqualValues(t, 4, summary.Calls)
		require.EqualValues(t, 2, summary.Refusals)
		summary, err = tenant.UsageSummary(t.Context(), db, tenant.ID("company"), tenant.Today)
		require.NoError(t, err)
		require.EqualValues(t, 1, summary.Calls)
		var n int64
		require.NoError(t, tenant.Executions(t.Context(), db, tenant.ID("company")).Count(&n).Error)
		require.EqualValues(t, 1, n)
		require.NoError(t, tenant.Executions(t.Context(), db, tenant.ID("company"), descendants).Where("status = ?", "succeeded").Count(&n).Error)
		require.EqualValues(t, 4, n)

		left, limited, err := tenant.RemainingBudget(t.Context(), db, tenant.ID("blue"))
		require.NoError(t, err)
		require.True(t, limited)
		require.Equal(t, "2", left.String(), "of the company's")
		requireConservation(t, db)
		found, err := ledger.Verify(t.Context())
		require.NoError(t, err)
		require.Empty(t, found)
	})
}

func TestHierarchy_WhoIsMovedTakesNoHistoryAlong(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		place(t, db, "old", "", "10")
		place(t, db, "new", "", "1")
		place(t, db, "team", "old", "")
		require.NoError(t, call(t, ledger, tenant.ID("team"), "4"))
		running, err := ledger.Reserve(t.Context(), tenant.ID("team"), tenant.Estimate{Cost: tenant.USD("3")})
		require.NoError(t, err)
		place(t, db, "team", "new", "")

		require.ErrorIs(t, call(t, ledger, tenant.ID("team"), "1.5"), tenant.ErrBudgetExceeded, "at once")
		require.NoError(t, call(t, ledger, tenant.ID("team"), "0.5"))
		_, err = ledger.Settle(t.Context(), running, tenant.Actual{Cost: tenant.USD("2")})
		require.NoError(t, err)
		descendants := tenant.WithDescendants()
		require.Equal(t, []string{"6", "0.5", "6.5"}, []string{
			costToday(t, db, tenant.ID("old"), descendants), costToday(t, db, tenant.ID("new"), descendants), costToday(t, db, tenant.ID("team")),
		})
		place(t, db, "team", "", "")
		require.NoError(t, call(t, ledger, tenant.ID("team"), "1.5"))
		requireConservation(t, db)
		found, err := ledger.Verify(t.Context())
		require.NoError(t, err)
		require.Empty(t, found)
	})
}

func TestHierarchy_RepairMendsWhatIsBelowToo(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		place(t, db, "company", "", "10")
		place(t, db, "team", "company", "")
		require.NoError(t, call(t, ledger, tenant.ID("team"), "4"))
		require.NoError(t, db.Exec(`UPDATE llm_balances SET spent_cost = spent_cost + 1, day_spent_cost = day_spent_cost + 1, month_spent_cost = month_spent_cost + 1`).Error)
		require.NoError(t, db.Exec(`UPDATE llm_usage SET cost = cost - 1`).Error)
		mended, err := ledger.Repair(t.Context())
		require.NoError(t, err)
		require.Len(t, mended, 9+2, "three balances of each tenant and of calls without one, and an hour of each tenant: %v", mended)
		found, err := ledger.Verify(t.Context())
		require.NoError(t, err)
		require.Empty(t, found)
		require.Equal(t, "4", costToday(t, db, tenant.ID("company"), tenant.WithDescendants()))
	})
}

func TestHierarchy_CirclesAndTooManyLevelsAreRefused(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, _ *tenant.Ledger) {
		place(t, db, "t1", "", "")
		for i := 2; i <= 8; i++ {
			place(t, db, tenant.ID(fmt.Sprintf("t%d", i)), tenant.ID(fmt.Sprintf("t%d", i-1)), "")
		}
		place(t, db, "top", "", "")
		place(t, db, "bottom", "", "")
		for _, wrong := range []struct{ id, parent, why string }{
			{"t1", "t8", "it would stand above itself"},
			{"t3", "t3", "it would stand above itself"},
			{"bottom", "t8", "9 tenants would stand above each other, and 8 may"},
			{"t1", "top", "9 tenants would stand above each other, and 8 may"},
			{"t1", "nobody", `there is no tenant "nobody"`},
		} {
			err := tenant.ConfigureBudget(t.Context(), db, tenant.ID(wrong.id), func(b *tenant.Budget) error {
				b.ParentID = wrong.parent
				return nil
			})
			require.ErrorIs(t, err, tenant.ErrHierarchy, "%+v", wrong)
			require.ErrorContains(t, err, wrong.why)
		}
		b, err := tenant.BudgetFor(t.Context(), db, tenant.ID("t1"))
		require.NoError(t, err)
		require.Empty(t, b.ParentID)
		b, err = tenant.BudgetFor(t.Context(), db, tenant.ID("t3"))
		require.NoError(t, err)
		require.Equal(t, "t2", b.ParentID)
	})
}

func TestHierarchy_TwoMovesAtOnceMakeNoCircle(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, _ *tenant.Ledger) {
		for i := range 10 {
			a, b := tenant.ID(fmt.Sprintf("a%d", i)), tenant.ID(fmt.Sprintf("b%d", i))
			known(t, db, string(a), string(b))
			var wg sync.WaitGroup
			var done atomic.Int32
			for _, move := range [][2]tenant.ID{{a, b}, {b, a}} {
				wg.Go(func() {
					err := tenant.ConfigureBudget(t.Context(), db, move[0], func(budget *tenant.Budget) error {
						budget.ParentID = string(move[1])
						return nil
					})
					if err == nil {
						done.Add(1)
					}
				})
			}
			wg.Wait()
			require.LessOrEqual(t, done.Load(), int32(1))
		}
	})
}

func TestHierarchy_ASuspendedTenantStopsAllBelowIt(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		place(t, db, "company", "", "")
		place(t, db, "team", "company", "")
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, tenant.ID("company"), func(b *tenant.Budget) error {
			b.Suspended = true
			return nil
		}))
		err := call(t, ledger, tenant.ID("team"), "1")
		require.ErrorIs(t, err, tenant.ErrTenantSuspended)
		require.ErrorContains(t, err, `"company"`)
		require.ErrorIs(t, tenant.CheckBudget(t.Context(), db, tenant.ID("team")), tenant.ErrTenantSuspended)
		require.Equal(t, "0", costToday(t, db, tenant.ID("company"), tenant.WithDescendants()))
	})
}

func TestRootBudget_CountsEveryCall(t *testing.T) {
	t.Parallel()
	onOneSet(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, call(t, ledger, acme, "1"))
		require.NoError(t, call(t, ledger, nil, "1"))
		place(t, db, "team", acme, "")
		require.NoError(t, call(t, ledger, tenant.ID("team"), "2"))
		err := call(t, ledger, nil, "7")
		var exceeded *tenant.BudgetExceededError
		require.ErrorAs(t, err, &exceeded)
		require.Equal(t, string(tenant.Root), exceeded.Limit.TenantID)
		require.ErrorIs(t, call(t, ledger, tenant.ID("team"), "7"), tenant.ErrBudgetExceeded)
		require.Equal(t, "4", costToday(t, db, tenant.Root, tenant.WithDescendants()))
		require.Equal(t, "0", costToday(t, db, tenant.Root))
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, tenant.Root, func(b *tenant.Budget) error {
			b.Limits.DailyCost = tenant.USD("100")
			return nil
		}))
		require.NoError(t, call(t, ledger, tenant.ID("team"), "7"))
		requireConservation(t, db)
		found, err := ledger.Verify(t.Context())
		require.NoError(t, err)
		require.Empty(t, found)
	}, tenant.WithRootBudget(tenant.Limits{DailyCost: tenant.USD("10")}, tenant.Hard))
}

func TestRootBudget_CanBeMadeWhileCallsGoOn(t *testing.T) {
	t.Parallel()
	onOneSet(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		before, err := ledger.Reserve(t.Context(), acme, tenant.Estimate{Cost: tenant.USD("1")})
		require.NoError(t, err)
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, tenant.Root, func(b *tenant.Budget) error {
			b.Enforcement, b.Limits.MonthlyCost = tenant.Hard, tenant.USD("2")
			return nil
		}))
		require.NoError(t, call(t, ledger, tenant.ID("globex"), "1.5"))
		require.ErrorIs(t, call(t, ledger, acme, "1"), tenant.ErrBudgetExceeded)
		_, err = ledger.Settle(t.Context(), before, tenant.Actual{Cost: tenant.USD("1")})
		require.NoError(t, err)
		require.Equal(t, "1.5", costToday(t, db, tenant.Root, tenant.WithDescendants()), "what was admitted before does not count")
		requireConservation(t, db)
	})
}

// However the teams of a company share its budget, all of it can be used, and no more.
func TestHierarchy_TeamsShareTheBudgetAboveThemExactly(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		place(t, db, "company", "", "1")
		teams := make([]tenant.ID, 8)
		for i := range teams {
			teams[i] = tenant.ID(fmt.Sprintf("team-%d", i))
			place(t, db, teams[i], "company", "")
		}
		var made atomic.Int64
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				for {
					hold, err := ledger.Reserve(context.WithoutCancel(t.Context()), teams[i%len(teams)], tenant.Estimate{Cost: tenant.USD("0.03")}, patiently)
					if err != nil {
						return
					}
					_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.01")})
					if err != nil {
						t.Error(err)
						return
					}
					made.Add(1)
				}
			})
		}
		wg.Wait()
		require.LessOrEqual(t, made.Load(), int64(100))
		require.GreaterOrEqual(t, made.Load(), int64(98), "the last two cents cannot be held for a call of three")
		requireConservation(t, db)
	})
}

func TestRoot_IsNobodyElses(t *testing.T) {
	t.Parallel()
	onOneSet(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		newOrganization(t, db, ledger, "acme", tenant.WithBudget())
		require.NoError(t, call(t, ledger, nil, "0"))
		require.ErrorContains(t, db.Create(&Organization{Slug: string(tenant.Root)}).Error, `the tenant id "llm_root" is the root's`)
		require.ErrorIs(t, db.Model(&Organization{}).Where("slug = ?", "acme").Update("slug", string(tenant.Root)).Error, tenant.ErrInvalidTenant)
		known(t, db, "plain")
		require.ErrorIs(t, ledger.Rename(t.Context(), "plain", tenant.Root), tenant.ErrInvalidTenant)
		require.ErrorIs(t, ledger.Rename(t.Context(), tenant.Root, "plain-2"), tenant.ErrInvalidTenant)
		_, err := tenant.BudgetFor(t.Context(), db, tenant.Root)
		require.NoError(t, err)
	}, tenant.WithRootBudget(tenant.Limits{}, tenant.Soft))
}
