package tenant_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// A service that has just started meets all of its tenants at once, and its database has room for so many connections.
func TestFirstUse_ManyAtOnceTakeFewConnections(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		pool, err := db.DB()
		require.NoError(t, err)
		pool.SetMaxIdleConns(1000) // those that were opened stay open, and are counted
		var calls errgroup.Group
		for i := range 300 {
			who := tenant.ID("acme")
			if i%2 == 0 {
				who = tenant.ID(fmt.Sprintf("tenant-%d", i))
			}
			calls.Go(func() error {
				_, err := ledger.Record(t.Context(), who, tenant.Actual{Model: "m", Cost: tenant.USD("1")})
				return err
			})
		}
		require.NoError(t, calls.Wait())
		require.EqualValues(t, 150, balanceOf(t, db, "acme", "total").SpentCalls)
		require.Less(t, pool.Stats().OpenConnections, 12)
		requireConservation(t, db)
	}, tenant.WithSettleWait(time.Minute))
}

// Calls that come together share the making of their tenant, but not the end of one caller's context.
func TestFirstUse_OneCallersEndIsNotTheOthers(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		for i := range 20 {
			who := tenant.ID(fmt.Sprintf("tenant-%d", i))
			ending, end := context.WithCancel(t.Context())
			var calls errgroup.Group
			calls.Go(func() error {
				hold, err := ledger.Reserve(ending, who, tenant.Estimate{Model: "m", Cost: tenant.USD("1")})
				if err == nil {
					_, err = ledger.Release(t.Context(), hold)
					return err
				}
				if ending.Err() == nil {
					return err
				}
				return nil
			})
			calls.Go(func() error {
				_, err := ledger.Record(t.Context(), who, tenant.Actual{Model: "m", Cost: tenant.USD("1")})
				return err
			})
			end()
			require.NoError(t, calls.Wait())
			require.EqualValues(t, 1, balanceOf(t, db, string(who), "total").SpentCalls)
		}
		requireConservation(t, db)
	})
}
