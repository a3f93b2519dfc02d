package tenant_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

func withLedger(do func(ctx context.Context, db *gorm.DB, ledger *tenant.Ledger), options ...tenant.OpenOption) {
	db, ledger, done := openBooks(options...)
	defer done()
	do(context.Background(), db, ledger)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func ExampleConfigureBudget_hierarchy() {
	withLedger(func(ctx context.Context, db *gorm.DB, ledger *tenant.Ledger) {
		company, team := tenant.ID("company"), tenant.ID("team")
		check(tenant.ConfigureBudget(ctx, db, company, func(b *tenant.Budget) error {
			b.Enforcement, b.Limits.DailyCost = tenant.Hard, tenant.USD("10")
			return nil
		}))
		check(tenant.ConfigureBudget(ctx, db, team, func(b *tenant.Budget) error {
			b.ParentID = "company"
			return nil
		}))
		_, err := ledger.Record(ctx, team, tenant.Actual{Cost: tenant.USD("8")})
		check(err)

		_, err = ledger.Reserve(ctx, team, tenant.Estimate{Cost: tenant.USD("3")})
		var exceeded *tenant.BudgetExceededError
		if errors.As(err, &exceeded) {
			fmt.Println("refused by", exceeded.Limit.TenantID, "with", exceeded.Limit.Remaining, "left")
		}
		own, err := tenant.CostToday(ctx, db, company)
		check(err)
		all, err := tenant.CostToday(ctx, db, company, tenant.WithDescendants())
		check(err)
		fmt.Println(own, all)
	})
	// Output:
	// refused by company with 2 left
	// 0 8
}

func ExampleEffectiveBudget() {
	withLedger(func(ctx context.Context, db *gorm.DB, _ *tenant.Ledger) {
		org := tenant.ID("acme")
		check(tenant.ConfigureBudget(ctx, db, org, func(b *tenant.Budget) error {
			b.Limits = tenant.Limits{DailyCost: tenant.USD("100"), Also: []tenant.Limit{
				{Window: tenant.Hour, Agent: "batch", Calls: tenant.Count(50)},
			}}
			return nil
		}))
		e, err := tenant.EffectiveBudget(ctx, db, org)
		check(err)
		fmt.Println(e.Enforcement, e.EnforcementFrom, e.TimeZone)
		for _, l := range e.Limits {
			fmt.Println(l.Window, l.Metric, l.Agent, l.Limit, l.From)
		}
	})
	// Output:
	// soft ledger UTC
	// day cost  100 tenant
	// hour calls batch 50 tenant
}

func ExampleLedger_Credit() {
	withLedger(func(ctx context.Context, db *gorm.DB, ledger *tenant.Ledger) {
		org := tenant.ID("acme")
		_, err := ledger.Record(ctx, org, tenant.Actual{Cost: tenant.USD("8")})
		check(err)
		for range 2 {
			s, err := ledger.Credit(ctx, org, tenant.USD("5"), "outage of 12 May", tenant.WithIdempotencyKey("incident-17"))
			check(err)
			fmt.Println(s.Outcome, s.Charge)
		}
		fmt.Println(tenant.ChargeToday(ctx, db, org))
	})
	// Output:
	// settled -5
	// already settled -5
	// 3 <nil>
}

func ExampleLedger_Debit() {
	withLedger(func(ctx context.Context, db *gorm.DB, ledger *tenant.Ledger) {
		org := tenant.ID("acme")
		_, err := ledger.Debit(ctx, org, tenant.USD("2.50"), "set-up fee")
		check(err)
		fmt.Println(tenant.ChargeToday(ctx, db, org))
	})
	// Output: 2.5 <nil>
}

func ExampleLedger_TopUp() {
	withLedger(func(ctx context.Context, db *gorm.DB, ledger *tenant.Ledger) {
		org := tenant.ID("acme")
		check(tenant.ConfigureBudget(ctx, db, org, func(b *tenant.Budget) error {
			b.Enforcement, b.Limits.MonthlyCost = tenant.Hard, tenant.USD("10")
			return nil
		}))
		check(ledger.TopUp(ctx, org, tenant.TopUp{
			Limit:  tenant.Limit{Window: tenant.Month, Cost: tenant.USD("50")},
			Reason: "bought credits", IdempotencyKey: "invoice-2026-113",
		}))
		left, _, err := tenant.RemainingBudget(ctx, db, org)
		check(err)
		fmt.Println(left)
	})
	// Output: 60
}

// alerts is an observer that prints what it hears of thresholds.
type alerts struct{}

func (alerts) Observe(_ context.Context, e tenant.Event) {
	if t, ok := e.(*tenant.ThresholdEvent); ok {
		fmt.Printf("%s has used %d %% of its %s limit\n", t.TenantID, t.Percent, t.Limit.Window)
	}
}

func ExampleWithObserver() {
	withLedger(func(ctx context.Context, db *gorm.DB, ledger *tenant.Ledger) {
		org := tenant.ID("acme")
		check(tenant.ConfigureBudget(ctx, db, org, func(b *tenant.Budget) error {
			b.Limits.DailyCost = tenant.USD("10")
			return nil
		}))
		for range 4 {
			_, err := ledger.Record(ctx, org, tenant.Actual{Cost: tenant.USD("3")})
			check(err)
		}
	}, tenant.WithObserver(alerts{}))
	// Output:
	// acme has used 50 % of its day limit
	// acme has used 80 % of its day limit
	// acme has used 100 % of its day limit
}

func ExampleWithParent() {
	type Organization struct {
		ID   uint
		Slug string `tenant:"key"`
	}
	type Team struct {
		ID             uint
		Slug           string `tenant:"key"`
		OrganizationID uint
	}
	withLedger(func(ctx context.Context, db *gorm.DB, ledger *tenant.Ledger) {
		check(db.AutoMigrate(&Organization{}, &Team{}))
		check(ledger.Register(&Organization{}, tenant.WithEnforcement(tenant.Hard),
			tenant.WithLimits(tenant.Limits{DailyCost: tenant.USD("10")})))
		check(ledger.Register(&Team{}, tenant.WithParent("OrganizationID", &Organization{})))

		acme := Organization{Slug: "acme"}
		check(db.Create(&acme).Error)
		red := Team{Slug: "red", OrganizationID: acme.ID}
		check(db.Create(&red).Error)

		_, err := ledger.Reserve(ctx, ledger.Tenant(&red), tenant.Estimate{Cost: tenant.USD("11")})
		fmt.Println(errors.Is(err, tenant.ErrBudgetExceeded))
		left, _, err := tenant.RemainingBudget(ctx, db, ledger.Tenant(&red))
		check(err)
		fmt.Println(left)
	})
	// Output:
	// true
	// 10
}
