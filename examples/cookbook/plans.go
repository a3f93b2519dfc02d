// Package cookbook has the code of docs/cookbook.md, and tests that run it.
package cookbook

import (
	"context"
	"fmt"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// Organization is the program's own model: a customer.
type Organization struct {
	ID        uint
	Slug      string `gorm:"uniqueIndex"`
	Name      string
	Plan      string
	DeletedAt gorm.DeletedAt
}

// LLMTenantID implements [tenant.Tenant].
func (o *Organization) LLMTenantID() string { return o.Slug }

var plans = map[string]tenant.Limits{
	"free": {DailyCalls: tenant.Count(20), MonthlyCost: tenant.USD("1")},
	"pro":  {MonthlyCost: tenant.USD("50")},
}

func planBudget(o *Organization, b *tenant.Budget) error {
	limits, ok := plans[o.Plan]
	if !ok {
		return fmt.Errorf("there is no plan %q", o.Plan)
	}
	b.Limits, b.Enforcement = limits, tenant.Hard
	return nil
}

func register(ledger *tenant.Ledger) error {
	return ledger.Register(&Organization{}, tenant.WithBudgetFunc(planBudget))
}

func changePlan(ctx context.Context, db *gorm.DB, o *Organization, plan string) error {
	return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := tx.Model(o).Update("plan", plan).Error; err != nil {
			return err
		}
		return tenant.ConfigureBudget(ctx, tx, o, func(b *tenant.Budget) error { return planBudget(o, b) })
	})
}
