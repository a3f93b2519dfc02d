package tenant_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/pricing"
)

func ExampleLedger_Reprice() {
	ctx, org := context.Background(), tenant.ID("acme")
	wrong, err := pricing.New(pricing.Row{Provider: "openai", Model: "gpt-4.1-mini", Rates: pricing.Rates{Input: "4.00", Output: "1.60"}})
	if err != nil {
		log.Fatal(err)
	}
	prices := pricing.NewLive(wrong)
	db, ledger, end := openBooks(tenant.WithPrices(prices))
	defer end()
	_, err = ledger.Record(ctx, org, tenant.Actual{
		Provider: "openai", Model: "gpt-4.1-mini", Usage: tenant.Usage{Input: 10_000, Output: 500},
	})
	if err != nil {
		log.Fatal(err)
	}

	// Ten times too much for three days: the right book goes in, and what was booked is corrected.
	right, err := wrong.With(pricing.Override(pricing.Row{
		Provider: "openai", Model: "gpt-4.1-mini", Rates: pricing.Rates{Input: "0.40", Output: "1.60"},
	}))
	if err != nil {
		log.Fatal(err)
	}
	prices.Set(right)
	from, to := time.Now().AddDate(0, 0, -3), time.Now()
	dry, err := ledger.Reprice(ctx, from, to, tenant.OnlyModels("gpt-4.1-mini"), tenant.WithDryRun())
	if err != nil {
		log.Fatal(err)
	}
	for _, l := range dry.Lines {
		fmt.Printf("%s %s: %d calls, $%s booked, $%s right, $%s to book\n", l.TenantID, l.Model, l.Corrected, l.Booked, l.Right, l.Difference())
	}
	ctx = tenant.ContextWithReason(tenant.ContextWithActor(ctx, "ops@example.com"), "a slip in our price list")
	if _, err := ledger.Reprice(ctx, from, to, tenant.OnlyModels("gpt-4.1-mini")); err != nil {
		log.Fatal(err) // what was done stays, and running it again does the rest
	}
	cost, err := tenant.CostToday(ctx, db, org)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("$%s today\n", cost)
	// Output:
	// acme gpt-4.1-mini: 1 calls, $0.0408 booked, $0.0048 right, $-0.036 to book
	// $0.0048 today
}
