package cookbook

import (
	"context"

	"github.com/llmtenant/tenant"
)

// credits are bought for the present month, and are gone with its end.
func buyForThisMonth(ctx context.Context, ledger *tenant.Ledger, o *Organization, dollars, invoice string) error {
	more := tenant.Limit{Window: tenant.Month, Cost: tenant.USD(dollars)}
	return ledger.TopUp(ctx, o, tenant.TopUp{Limit: more, Reason: "bought credits", IdempotencyKey: "invoice/" + invoice})
}

// A prepaid customer has a limit in total, which begins at nothing; what is bought stays until it is used.
func prepaid(_ *Organization, b *tenant.Budget) error {
	b.Limits = tenant.Limits{Also: []tenant.Limit{{Window: tenant.Total, Cost: tenant.USD("0")}}}
	b.Enforcement = tenant.Hard
	return nil
}

func buy(ctx context.Context, ledger *tenant.Ledger, o *Organization, dollars, invoice string) error {
	more := tenant.Limit{Window: tenant.Total, Cost: tenant.USD(dollars)}
	return ledger.TopUp(ctx, o, tenant.TopUp{Limit: more, Reason: "bought credits", IdempotencyKey: "invoice/" + invoice})
}

// goodwill gives back what an outage has cost.
func goodwill(ctx context.Context, ledger *tenant.Ledger, o *Organization, dollars, incident string) error {
	_, err := ledger.Credit(ctx, o, tenant.USD(dollars), "goodwill", tenant.WithIdempotencyKey("incident/"+incident))
	return err
}
