package tenant_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/llmtenant/tenant"
)

func ExampleLedger_Backfill() {
	ctx := context.Background()
	db, ledger, end := openBooks()
	defer end()

	// A host that has had customers for long, and has made calls for one of them by its id.
	err := errors.Join(db.AutoMigrate(&Workspace{}), db.Create(&[]Workspace{{Slug: "acme"}, {Slug: "umbrella"}, {Slug: "initech"}, {}}).Error)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := ledger.Record(ctx, tenant.ID("ws:umbrella"), tenant.Actual{Cost: tenant.USD("1.25")}); err != nil {
		log.Fatal(err)
	}

	if err := ledger.Register(&Workspace{}); err != nil {
		log.Fatal(err)
	}
	report, err := ledger.Backfill(ctx, &Workspace{}, tenant.WithBatchSize(3), tenant.WithProgress(func(r tenant.BackfillReport) {
		fmt.Println("seen:", r.Seen)
	}))
	if err != nil {
		log.Fatal(err) // report.Resume says where to go on, with WithResume
	}
	fmt.Printf("made: %d, linked: %d, skipped: %d\n", report.Made, report.Linked, report.Skipped)
	for _, s := range report.Skips {
		fmt.Printf("%s: %v\n", s.Record, s.Err)
	}
	// Output:
	// seen: 3
	// seen: 4
	// seen: 4
	// seen: 4
	// made: 2, linked: 1, skipped: 1
	// 4: tenant: invalid tenant: the tenant id is empty (of a tenant_test.Workspace)
}
