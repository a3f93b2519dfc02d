package tenant_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// Workspace is a model that says all that it is to the ledger with its tags.
type Workspace struct {
	_         struct{} `tenant:"daily_cost=5;enforcement=hard;namespace=ws"`
	ID        uint
	Slug      string `tenant:"key"`
	Title     string `tenant:"name"`
	DeletedAt gorm.DeletedAt
}

func ExampleLedger_Register() {
	ctx := context.Background()
	db, ledger, end := openBooks()
	defer end()
	if err := errors.Join(db.AutoMigrate(&Workspace{}), ledger.Register(&Workspace{})); err != nil {
		log.Fatal(err)
	}

	acme := Workspace{Slug: "acme", Title: "Acme"}
	err := db.Create(&acme).Error // its budget is created in the same transaction
	if err != nil {
		log.Fatal(err)
	}
	if _, err := ledger.Record(ctx, ledger.Tenant(acme), tenant.Actual{Cost: tenant.USD("1.25")}); err != nil {
		log.Fatal(err)
	}

	err = db.Model(&acme).Updates(Workspace{Slug: "acme-inc", Title: "Acme Inc."}).Error // its budget follows
	if err != nil {
		log.Fatal(err)
	}
	budget, err := tenant.BudgetFor(ctx, db, ledger.Tenant(acme))
	if err != nil {
		log.Fatal(err)
	}
	cost, err := tenant.CostToday(ctx, db, tenant.ID("ws:acme-inc"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(budget.TenantID, budget.Name, budget.Limits.DailyCost, cost)

	err = db.Delete(&acme).Error // its budget is suspended
	if err != nil {
		log.Fatal(err)
	}
	_, err = ledger.Reserve(ctx, ledger.Tenant(acme), tenant.Estimate{Cost: tenant.USD("0.01")})
	fmt.Println(errors.Is(err, tenant.ErrTenantSuspended))
	// Output:
	// ws:acme-inc Acme Inc. $5.00 1.25
	// true
}

func ExampleLedger_Rename() {
	ctx := context.Background()
	db, ledger, end := openBooks()
	defer end()
	_, err := ledger.Record(ctx, tenant.ID("acme"), tenant.Actual{Cost: tenant.USD("1.25")})
	if err != nil {
		log.Fatal(err)
	}
	if err := ledger.Rename(ctx, "acme", "acme-inc"); err != nil {
		log.Fatal(err)
	}
	cost, err := tenant.CostToday(ctx, db, tenant.ID("acme-inc"))
	fmt.Println(cost, err)
	// Output: 1.25 <nil>
}
