package cookbook

import (
	"context"

	"github.com/shopspring/decimal"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// pause keeps a customer's data and lets it make no calls; restore lets it again, with what it has spent.
func pause(db *gorm.DB, o *Organization) error { return db.Delete(o).Error }

func restore(db *gorm.DB, o *Organization) error {
	return db.Unscoped().Model(o).Update("deleted_at", nil).Error
}

// leave deletes a customer. Its budget goes with the record, and its calls stay on the books without it.
func leave(db *gorm.DB, o *Organization) error { return db.Unscoped().Delete(o).Error }

// costOfFormer is what customers with an id have cost that are gone.
func costOfFormer(ctx context.Context, db *gorm.DB, id string) (decimal.Decimal, error) {
	var sum decimal.Decimal
	former, err := tenant.FormerTenants(ctx, db, tenant.ID(id))
	for _, f := range former {
		cost, failed := tenant.Cost(ctx, db, f.UUID, tenant.AllTime)
		if failed != nil {
			return sum, failed
		}
		sum = sum.Add(cost)
	}
	return sum, err
}
