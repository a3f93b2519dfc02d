package tenant_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

func TestDatabaseDown_RefusesACallAndSaysSo(t *testing.T) {
	t.Parallel()
	server, db := cluster(t)
	ledger := openLedger(t, db)
	org := newOrganization(t, db, ledger, "acme", dollar, tenant.WithEnforcement(tenant.Hard))
	hold, err := ledger.Reserve(t.Context(), org, cent)
	require.NoError(t, err)
	_, err = ledger.Release(t.Context(), hold)
	require.NoError(t, err)

	server.Stop(pgtest.Immediate)
	_, err = ledger.Reserve(t.Context(), org, cent)
	require.ErrorIs(t, err, tenant.ErrUnavailable)
	server.Start()
	require.Eventually(t, func() bool {
		hold, err = ledger.Reserve(t.Context(), org, cent)
		return err == nil
	}, time.Minute, 10*time.Millisecond, "the ledger comes back by itself")
	_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.01")})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return balanceOf(t, db, "acme", "day") == balance{SpentCost: 1e7, SpentCalls: 1}
	}, time.Minute, 10*time.Millisecond, "and nothing is left held by the call that was refused")
	requireConservation(t, db)
}

func TestDatabaseDownAtSettle_LeavesTheCallPendingUntilItIsBooked(t *testing.T) {
	t.Parallel()
	server, db := cluster(t)
	ledger := openLedger(t, db, tenant.WithSettleWait(50*time.Millisecond))
	org := newOrganization(t, db, ledger, "acme", dollar, tenant.WithEnforcement(tenant.Hard))
	hold, err := ledger.Reserve(t.Context(), org, tenant.Estimate{Cost: tenant.USD("0.5")})
	require.NoError(t, err)

	server.Stop(pgtest.Immediate)
	settlement, err := ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.3")})
	require.NoError(t, err)
	require.Equal(t, tenant.Pending, settlement.Outcome)
	require.Equal(t, "0.3", settlement.Cost.String())

	server.Start()
	require.Eventually(t, func() bool {
		return balanceOf(t, db, "acme", "day") == balance{SpentCost: 3e8, SpentCalls: 1}
	}, time.Minute, 10*time.Millisecond)
	requireConservation(t, db)
}

func TestClose_NamesWhatItCouldNotBook(t *testing.T) {
	t.Parallel()
	server, db := cluster(t)
	ledger, err := tenant.Open(db, tenant.WithSettleWait(10*time.Millisecond))
	require.NoError(t, err)
	org := newOrganization(t, db, ledger, "acme", dollar)
	settling, err := ledger.Reserve(t.Context(), org, tenant.Estimate{Model: "m", InputTokens: 10})
	require.NoError(t, err)
	running, err := ledger.Reserve(t.Context(), org, cent)
	require.NoError(t, err)
	server.Stop(pgtest.Immediate)
	_, err = ledger.Settle(t.Context(), settling, tenant.Actual{Usage: tenant.Usage{Input: 7}})
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err = ledger.Close(ctx)
	var unsettled *tenant.UnsettledError
	require.ErrorAs(t, err, &unsettled)
	require.ElementsMatch(t, []tenant.Unsettled{
		{TenantID: "acme", ExecutionID: settling.ExecutionID, Model: "m", Usage: tenant.Usage{Input: 7}, Settling: true},
		{TenantID: "acme", ExecutionID: running.ExecutionID},
	}, unsettled.Unsettled)
	_, err = ledger.Settle(t.Context(), running, tenant.Actual{})
	require.ErrorIs(t, err, tenant.ErrClosed)
	require.NoError(t, ledger.Close(t.Context()), "a second Close does nothing")
}

func TestClose_LetsRunningCallsSettle(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme", dollar)
		hold, err := ledger.Reserve(t.Context(), org, cent)
		require.NoError(t, err)
		closed := make(chan error)
		go func() { closed <- ledger.Close(context.Background()) }()
		require.Eventually(t, func() bool {
			h, err := ledger.Reserve(t.Context(), org, cent)
			if err == nil {
				_, err = ledger.Release(t.Context(), h)
				require.NoError(t, err)
				return false
			}
			require.ErrorIs(t, err, tenant.ErrClosed)
			return true
		}, time.Minute, time.Millisecond)
		_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.01")})
		require.NoError(t, err)
		require.NoError(t, <-closed)
		require.EqualValues(t, 1e7, balanceOf(t, db, "acme", "day").SpentCost)

		require.NoError(t, db.Create(&Organization{Slug: "later"}).Error, "the host's writes go on")
		again, err := tenant.Open(db, inItsPlaces(db)...)
		require.NoError(t, err, "and another ledger takes the place")
		require.NoError(t, again.Close(t.Context()))
	})
}

func TestCancelledCall_HoldsNothing(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme", tenant.WithLimits(tenant.Limits{DailyCost: tenant.USD("0.01")}), tenant.WithEnforcement(tenant.Hard))
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := ledger.Reserve(ended, org, cent)
		require.ErrorIs(t, err, context.Canceled)

		first, err := ledger.Reserve(t.Context(), org, cent)
		require.NoError(t, err)
		for patience := 50 * time.Millisecond; ; patience *= 2 { // a slow machine has not decided on it before
			waiting, cancel := context.WithTimeout(t.Context(), patience)
			_, err = ledger.Reserve(waiting, org, cent)
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded)
			if errors.Is(err, tenant.ErrBudgetExceeded) {
				break // it says what it waited for
			}
			require.Less(t, patience, 10*time.Second)
		}
		_, err = ledger.Reserve(t.Context(), org, cent, tenant.WithWait(0))
		var exceeded *tenant.BudgetExceededError
		require.ErrorAs(t, err, &exceeded)
		require.True(t, exceeded.Contended)

		_, err = ledger.Release(t.Context(), first)
		require.NoError(t, err)
		require.Equal(t, balance{}, balanceOf(t, db, "acme", "day"))

		// Contexts that end at every moment of a call.
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*50*time.Microsecond)
				defer cancel()
				if hold, err := ledger.Reserve(ctx, org, cent, tenant.WithWait(0)); err == nil {
					_, err = ledger.Release(ctx, hold)
					require.NoError(t, err)
				}
			})
		}
		wg.Wait()
		require.Eventually(t, func() bool { return balanceOf(t, db, "acme", "day") == balance{} }, time.Minute, 10*time.Millisecond)
		requireConservation(t, db)
	})
}

func TestLateSettle_CorrectsAnExpiredHoldOnce(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme", dollar, tenant.WithEnforcement(tenant.Hard))
		hold, err := ledger.Reserve(t.Context(), org, tenant.Estimate{Cost: tenant.USD("0.5")})
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			return balanceOf(t, db, "acme", "day") == balance{SpentCost: 5e8, SpentCalls: 1}
		}, time.Minute, 10*time.Millisecond, "the deadline has passed, so the hold is charged")
		requireConservation(t, db)

		settlement, err := ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.2"), Usage: tenant.Usage{Output: 9}})
		require.NoError(t, err)
		require.Equal(t, tenant.Corrected, settlement.Outcome)
		settlement, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.2"), Usage: tenant.Usage{Output: 9}})
		require.NoError(t, err)
		require.Equal(t, tenant.AlreadySettled, settlement.Outcome)
		require.Equal(t, balance{SpentCost: 2e8, SpentTokens: 9, SpentCalls: 1}, balanceOf(t, db, "acme", "day"))
		requireConservation(t, db)
	}, tenant.WithLease(400*time.Millisecond), tenant.WithMaxCallTime(100*time.Millisecond))
}

func TestHostTransactionOnOneTenantsRows_DoesNotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openLedger(t, db)
	newOrganization(t, db, ledger, "stuck", dollar)
	calls := func(key tenant.ID) error {
		hold, err := ledger.Reserve(t.Context(), key, cent)
		if err != nil {
			return err
		}
		_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.01")})
		return err
	}
	for i := range 20 {
		require.NoError(t, calls(tenant.ID(fmt.Sprintf("free-%d", i))))
	}
	tx := db.Begin()
	require.NoError(t, tx.Exec(`SELECT 1 FROM llm_balances b JOIN llm_tenants t ON t.id = b.tenant WHERE t.tenant_id = 'stuck' FOR UPDATE OF b`).Error)

	stuck := make(chan error, 8)
	for range cap(stuck) {
		go func() { stuck <- calls("stuck") }()
	}
	var others atomic.Int64
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			for range 5 {
				if err := calls(tenant.ID(fmt.Sprintf("free-%d", i))); err != nil {
					t.Errorf("a call of another tenant: %v", err)
					return
				}
				others.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 100, others.Load())
	require.Empty(t, stuck, "the tenant's own calls wait")
	require.NoError(t, tx.Rollback().Error)
	for range cap(stuck) {
		require.NoError(t, <-stuck)
	}
	require.EqualValues(t, 8, balanceOf(t, db, "stuck", "total").SpentCalls)
	requireConservation(t, db)
}
