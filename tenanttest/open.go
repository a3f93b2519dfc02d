package tenanttest

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/llmtenant/tenant"
)

// closeWait is how long the end of a test waits for calls to be booked. Only a test that fails waits so long.
const closeWait = 3 * time.Second

// settleWait is so long that no call of a test is Pending because the machine is busy.
const settleWait = time.Minute

// Open returns a database in a file of the test's own, and a migrated ledger on it with the prices of [Prices]. Both are
// closed when the test ends, which fails if a call is left that was neither settled nor released. A settle is Pending after a
// minute, so that a busy machine fails no test. Options go before those that Open sets itself.
//
// The host's tables are the test's to make, with db.AutoMigrate or db.Exec. AutoMigrate makes tables, columns and indices; it
// does not change a column that is there.
func Open(t testing.TB, options ...tenant.OpenOption) (*gorm.DB, *tenant.Ledger) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tenant.db")
	db, err := gorm.Open(dialector{sql.OpenDB(connector{file})}, &gorm.Config{Logger: logger.Discard})
	if err != nil {
		t.Fatalf("tenanttest: open %s: %v", file, err)
	}
	pool, err := db.DB()
	if err != nil {
		t.Fatalf("tenanttest: %v", err)
	}
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Errorf("tenanttest: close the database: %v", err)
		}
	})
	own := []tenant.OpenOption{tenant.WithPrices(Prices()), tenant.WithSettleWait(settleWait)}
	ledger, err := tenant.Open(db, append(own, options...)...)
	if err != nil {
		t.Fatalf("tenanttest: %v", err)
	}
	t.Cleanup(func() { closeLedger(t, ledger) })
	if err := ledger.Migrate(t.Context()); err != nil {
		t.Fatalf("tenanttest: migrate: %v", err)
	}
	return db, ledger
}

func closeLedger(t testing.TB, ledger *tenant.Ledger) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	err := ledger.Close(ctx)
	var unsettled *tenant.UnsettledError
	if !errors.As(err, &unsettled) {
		if err != nil {
			t.Errorf("tenanttest: close the ledger: %v", err)
		}
		return
	}
	for _, u := range unsettled.Unsettled {
		t.Errorf("tenanttest: execution %s of tenant %q on %s was neither settled nor released", u.ExecutionID, u.TenantID, u.Model)
	}
}
