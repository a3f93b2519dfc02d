package tenant_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/glebarez/sqlite"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// openBooks opens a database with a ledger on it for an example, and returns how to close them.
func openBooks(options ...tenant.OpenOption) (*gorm.DB, *tenant.Ledger, func()) {
	folder, err := os.MkdirTemp("", "tenant-example")
	if err != nil {
		log.Fatal(err)
	}
	db, err := gorm.Open(sqlite.Open(filepath.Join(folder, "tenant.db")), &gorm.Config{})
	if err != nil {
		log.Fatal(err)
	}
	ledger, err := tenant.Open(db, options...)
	if err != nil {
		log.Fatal(err)
	}
	if err := ledger.Migrate(context.Background()); err != nil {
		log.Fatal(err)
	}
	return db, ledger, func() {
		if err := ledger.Close(context.Background()); err != nil {
			log.Fatal(err)
		}
		if pool, err := db.DB(); err == nil {
			_ = pool.Close()
		}
		_ = os.RemoveAll(folder)
	}
}

func record(ledger *tenant.Ledger, org tenant.Tenant, model, dollars string) {
	_, err := ledger.Record(context.Background(), org, tenant.Actual{
		Model: model, Usage: tenant.Usage{Input: 800, Output: 200}, Cost: tenant.USD(dollars),
	})
	if err != nil {
		log.Fatal(err)
	}
}

func ExampleCostToday() {
	db, ledger, done := openBooks()
	defer done()
	ctx, org := context.Background(), tenant.ID("acme")
	record(ledger, org, "small", "0.0125")
	record(ledger, org, "large", "0.25")

	today, err := tenant.CostToday(ctx, db, org)
	if err != nil {
		fmt.Println(err)
		return
	}
	lastMonth, err := tenant.Cost(ctx, db, org, tenant.LastMonth)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("$%s today, $%s last month\n", today, lastMonth)
	// Output:
	// $0.2625 today, $0 last month
}

func ExampleDate() {
	db, ledger, done := openBooks()
	defer done()
	ctx, org := context.Background(), tenant.ID("acme")
	record(ledger, org, "small", "0.0125")

	for _, p := range []tenant.Period{
		tenant.Date(2026, time.March, 8),                               // one date, in the tenant's time zone
		tenant.Date(2026, time.March, 1).Through(2026, time.March, 31), // both included
		tenant.Date(2026, time.February, 30),
	} {
		cost, err := tenant.Cost(ctx, db, org, p)
		fmt.Println(p, cost, err)
	}
	// Output:
	// 2026-03-08 0 <nil>
	// 2026-03-01 to 2026-03-31 0 <nil>
	// 2026-02-30 0 tenant: invalid option: Date(2026, 2, 30): February 2026 has the days 1 to 28, and no day 30
}

func ExampleBetween() {
	db, ledger, done := openBooks()
	defer done()
	ctx, org := context.Background(), tenant.ID("acme")
	record(ledger, org, "small", "0.0125")

	now := time.Now()
	lastHour := tenant.Between(now.Add(-time.Hour), now)
	hourBefore := tenant.Between(now.Add(-2*time.Hour), now.Add(-time.Hour)) // no call is in both
	for _, p := range []tenant.Period{lastHour, hourBefore} {
		calls, err := tenant.ExecutionCount(ctx, db, org, p)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(calls)
	}
	// Output:
	// 1
	// 0
}

func ExampleUsageSummary() {
	db, ledger, done := openBooks()
	defer done()
	ctx, org := context.Background(), tenant.ID("acme")
	record(ledger, org, "small", "0.0125")
	record(ledger, org, "large", "0.25")
	record(ledger, org, "small", "0.0025")

	s, err := tenant.UsageSummary(ctx, db, org, tenant.ThisMonth)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, m := range s.ByModel {
		fmt.Printf("%s: %d calls, %d tokens, $%s\n", m.Model, m.Calls, m.Tokens, m.Cost)
	}
	// Output:
	// large: 1 calls, 1000 tokens, $0.25
	// small: 2 calls, 2000 tokens, $0.015
}

func ExampleExecutions() {
	db, ledger, done := openBooks()
	defer done()
	ctx, org := context.Background(), tenant.ID("acme")
	record(ledger, org, "small", "0.0125")
	record(ledger, org, "large", "0.25")

	var dear []tenant.Execution
	err := tenant.Executions(ctx, db, org).
		Where("cost > ?", 100_000_000). // nano-dollars
		Order("admitted_at DESC").Find(&dear).Error
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range dear {
		fmt.Printf("%s %s $%s\n", e.Model, e.Status, e.Cost())
	}
	// Output:
	// large succeeded $0.25
}

func ExampleConfigureBudget() {
	db, ledger, done := openBooks()
	defer done()
	ctx, org := context.Background(), tenant.ID("acme")
	record(ledger, org, "large", "0.25")

	err := tenant.ConfigureBudget(ctx, db, org, func(b *tenant.Budget) error {
		b.Enforcement = tenant.Hard
		b.Limits.DailyCost = tenant.USD("1")
		b.Limits.DailyCalls = tenant.Count(100)
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	status, err := tenant.BudgetStatus(ctx, db, org)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, l := range status.Limits {
		fmt.Printf("%s a %s: %s of %s left\n", l.Metric, l.Window, l.Remaining, l.Limit)
	}
	// Output:
	// cost a day: 0.75 of 1 left
	// calls a day: 99 of 100 left
}

func ExampleQueryUsage() {
	db, ledger, done := openBooks()
	defer done()
	ctx := context.Background()
	record(ledger, tenant.ID("acme"), "small", "0.0125")
	record(ledger, tenant.ID("acme"), "large", "0.25")
	record(ledger, tenant.ID("globex"), "large", "0.5")

	top, err := tenant.QueryUsage(ctx, db, tenant.Query{
		Everybody: true, Period: tenant.ThisMonth, By: []tenant.Group{tenant.ByTenant}, Top: 1, Compare: true,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, row := range top.Rows {
		fmt.Printf("%s: $%s in %d calls, $%s the month before\n", row.Keys[0], row.Cost, row.Calls, row.Before.Cost)
	}
	fmt.Printf("everybody: $%s\n", top.Total.Cost)
	// Output:
	// globex: $0.5 in 1 calls, $0 the month before
	// everybody: $0.7625
}

func ExampleQueryUsage_chart() {
	db, ledger, done := openBooks()
	defer done()
	ctx, org := context.Background(), tenant.ID("acme")
	record(ledger, org, "small", "0.0125")

	// Every day has its row, also without a call.
	chart, err := tenant.QueryUsage(ctx, db, tenant.Query{
		Tenant: org, Period: tenant.Date(2026, time.March, 28).Through(2026, time.March, 30), TimeZone: "Europe/Berlin", By: []tenant.Group{tenant.ByDay},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, row := range chart.Rows {
		fmt.Println(row.Keys[0], row.Start.UTC().Format(time.TimeOnly), row.Calls)
	}
	// Output:
	// 2026-03-28 23:00:00 0
	// 2026-03-29 23:00:00 0
	// 2026-03-30 22:00:00 0
}

func ExampleListExecutions() {
	db, ledger, done := openBooks()
	defer done()
	ctx, org := context.Background(), tenant.ID("acme")
	record(ledger, org, "small", "0.0125")
	record(ledger, org, "large", "0.25")

	for e, err := range tenant.ListExecutions(ctx, db, tenant.ExecutionQuery{Tenant: org, MinCost: tenant.USD("0.1"), ByCost: true}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s $%s\n", e.Model, e.Cost())
	}
	// Output:
	// large $0.25
}
