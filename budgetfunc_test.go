package tenant_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// Shop is a model whose records have a plan each.
type Shop struct {
	ID   uint
	Slug string
	Plan string
	Note string `gorm:"->:false;<-"` // which nobody can read
}

var errNoPlan = errors.New("there is no such plan")

func shopBudget(s *Shop, b *tenant.Budget) error {
	switch s.Plan {
	case "free":
		b.Limits.DailyCalls = tenant.Count(3)
	case "pro":
		b.Enforcement, b.Inherit, b.TimeZone = tenant.Hard, false, "Asia/Tokyo"
		b.Limits = tenant.Limits{MonthlyCost: tenant.USD("40"), Also: []tenant.Limit{{Window: tenant.Hour, Calls: tenant.Count(9)}}}
	case "broken":
		b.Limits.DailyCost = tenant.USD("much")
	case "nowhere":
		b.TimeZone = "Mars/Olympus"
	case "strict":
		b.Enforcement = "strict"
	case "another":
		b.TenantID = "another"
	case "panic":
		panic(s.Plan)
	case "changes":
		b.Limits.Also[0].Calls = tenant.Count(1)
	default:
		return errNoPlan
	}
	return nil
}

func TestWithBudgetFunc_GivesEachRecordItsOwnBudget(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Shop{}))
		before := Shop{Slug: "before", Plan: "pro"}
		require.NoError(t, db.Create(&before).Error)
		daily := tenant.Limits{DailyCost: tenant.USD("5"), Also: []tenant.Limit{{Window: tenant.Week, Calls: tenant.Count(500)}}}
		require.NoError(t, ledger.Register(&Shop{}, tenant.WithKey("Slug"), tenant.WithLimits(daily), tenant.WithEnforcement(tenant.Soft),
			tenant.WithBudgetFunc(shopBudget)))
		budgetOf := func(s *Shop) *tenant.Budget {
			b, err := tenant.BudgetFor(t.Context(), db, ledger.Tenant(s))
			require.NoError(t, err)
			return b
		}
		pro := func(key string) *tenant.Budget {
			return &tenant.Budget{
				TenantID: key, Name: key, Enforcement: tenant.Hard, TimeZone: "Asia/Tokyo",
				Limits: tenant.Limits{MonthlyCost: tenant.USD("40"), Also: []tenant.Limit{{Window: tenant.Hour, Calls: tenant.Count(9)}}},
			}
		}
		shops := []*Shop{{Slug: "a", Plan: "free"}, {Slug: "b", Plan: "pro"}}
		require.NoError(t, db.Create(shops).Error, "in one statement")
		require.Equal(t, pro("b"), budgetOf(shops[1]))
		free := budgetOf(shops[0])
		require.Equal(t, []any{tenant.Soft, true, ""}, []any{free.Enforcement, free.Inherit, free.TimeZone})
		require.Equal(t, tenant.Limits{DailyCost: tenant.USD("5"), DailyCalls: tenant.Count(3), Also: daily.Also}, free.Limits, "on top of what is declared")

		// A record from before has the one that its first call will give it, by what its table has then.
		require.Equal(t, pro("before"), budgetOf(&before))
		require.NoError(t, call(t, ledger, ledger.Tenant(&Shop{ID: before.ID, Slug: "before"}), "0.1"))
		require.Equal(t, pro("before"), budgetOf(&before))

		// They are the budget's own: a record that changes does not change them, but the same function does.
		require.NoError(t, db.Model(shops[0]).Updates(Shop{Plan: "pro"}).Error)
		require.Equal(t, free, budgetOf(shops[0]))
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, ledger.Tenant(shops[0]), func(b *tenant.Budget) error { return shopBudget(shops[0], b) }))
		require.Equal(t, pro("a"), budgetOf(shops[0]))
		require.NoError(t, db.Create(&Shop{Slug: "c", Plan: "changes"}).Error)
		another := &Shop{Slug: "d", Plan: "free"}
		require.NoError(t, db.Create(another).Error)
		require.Equal(t, daily.Also, budgetOf(another).Limits.Also, "what is declared is not the function's to change")
	})
}

func TestWithBudgetFunc_ThatCannotBeMeantFailsTheCreate(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Shop{}))
		require.NoError(t, ledger.Register(&Shop{}, tenant.WithKey("Slug"), tenant.WithBudgetFunc(shopBudget)))
		for plan, says := range map[string]string{
			"": "there is no such plan", "broken": `DailyCost: amount "much"`, "nowhere": "Mars/Olympus", "strict": `unknown enforcement "strict"`,
			"another": "are not for it to set", "panic": "panics on a record", "changes": "panics on a record",
		} {
			err := db.Create(&Shop{Slug: "s-" + plan, Plan: plan}).Error
			require.ErrorContains(t, err, says, plan)
			require.ErrorContains(t, err, "WithBudgetFunc", plan)
		}
		require.ErrorIs(t, db.Create(&Shop{Slug: "none"}).Error, errNoPlan)
		var n int64
		require.NoError(t, db.Model(&Shop{}).Count(&n).Error)
		require.Zero(t, n)
	})
}

func TestWithBudgetFunc_IsCheckedAtRegister(t *testing.T) {
	t.Parallel()
	ledger := openLedger(t, openDatabase(t, "sqlite"))
	require.ErrorContains(t, ledger.Register(&Shop{}, tenant.WithKey("Slug"), tenant.WithBudgetFunc[Shop](nil)), "WithBudgetFunc: the function is nil")
	err := ledger.Register(&Shop{}, tenant.WithKey("Slug"), tenant.WithBudgetFunc(func(*Organization, *tenant.Budget) error { return nil }))
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	require.ErrorContains(t, err, "the function takes a *tenant_test.Organization, and the model is a *tenant_test.Shop")
}
