package tenant_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// Calls that hold four times what they use in the end must not keep each other out.
func TestContended_IsNotExhausted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dialect, budget string
		affordable      int64
	}{
		{"postgres", "10", 1000},
		{"sqlite", "4", 400},
	} {
		t.Run(c.dialect, func(t *testing.T) {
			t.Parallel()
			db := openDatabase(t, c.dialect)
			ledger := openLedger(t, db)
			org := newOrganization(t, db, ledger, "acme", tenant.WithEnforcement(tenant.Hard),
				tenant.WithLimits(tenant.Limits{DailyCost: tenant.USD(c.budget)}))
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			var made atomic.Int64
			var wg sync.WaitGroup
			for range 64 {
				wg.Go(func() {
					for {
						hold, err := ledger.Reserve(ctx, org, tenant.Estimate{Cost: tenant.USD("0.04")}, tenant.WithWait(time.Hour))
						if err != nil {
							var exceeded *tenant.BudgetExceededError
							if !errors.As(err, &exceeded) || exceeded.Contended {
								t.Errorf("reserve: %v", err)
							}
							return
						}
						if _, err := ledger.Settle(ctx, hold, tenant.Actual{Cost: tenant.USD("0.01")}); err != nil {
							t.Errorf("settle: %v", err)
							return
						}
						made.Add(1)
					}
				})
			}
			wg.Wait()
			// The last three are not affordable at their hold.
			require.Equal(t, c.affordable-3, made.Load())
			require.GreaterOrEqual(t, 100*made.Load(), 99*c.affordable)
			require.Equal(t, balance{SpentCost: made.Load() * 1e7, SpentCalls: made.Load()}, balanceOf(t, db, "acme", "day"))
			requireConservation(t, db)
		})
	}
}

// Nobody waits past the end of its ctx for room that running calls hold.
func TestContended_NoCallerWaitsPastItsContext(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme", dollar, tenant.WithEnforcement(tenant.Hard))
		hold, err := ledger.Reserve(t.Context(), org, tenant.Estimate{Cost: tenant.USD("1")})
		require.NoError(t, err)
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*5*time.Millisecond)
				defer cancel()
				_, err := ledger.Reserve(ctx, org, cent, tenant.WithWait(time.Hour))
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("reserve: %v", err)
				}
			})
		}
		wg.Wait() // the room is not free before all have returned
		_, err = ledger.Release(t.Context(), hold)
		require.NoError(t, err)
		require.Equal(t, balance{}, balanceOf(t, db, "acme", "day"))
	})
}

// contendedCalls is how many calls each of two contending processes has to get through.
const contendedCalls = 20

// What is promised: within a process, calls get room first in, first out. Across processes there is no queue: those
// that wait look for room at least every 250 ms and a batch, and as a process that passes room on to calls of its own
// leaves it alone for longer than that after every turn of 2 s, each look is a chance, and none is served out of turn. A
// process learns of another that has just started with its next heartbeat, after a quarter of its lease.
func TestContended_NeitherOfTwoProcessesStarves(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	db := openAt(t, postgres.Open(dsn))
	ledger := openLedger(t, db)
	newOrganization(t, db, ledger, "acme", dollar, tenant.WithEnforcement(tenant.Hard))
	one, other := start(t, "contend", dsn), start(t, "contend", dsn)
	for _, p := range []*peer{one, other} {
		require.Equal(t, "ready", p.hear(t))
	}
	for _, p := range []*peer{one, other} {
		p.tell(t, "go")
	}
	// Each goes on contending until both are through.
	for _, p := range []*peer{one, other} {
		require.Equal(t, "through", p.hear(t))
	}
	for i, p := range []*peer{one, other} {
		require.NoError(t, p.in.Close())
		t.Logf("process %d: %v", i, p.hearAll())
	}
	require.Equal(t, balance{}, balanceOf(t, db, "acme", "day"))
	requireConservation(t, db)
}

// contend makes calls from 8 goroutines that each take the whole budget, until it is told to end.
func contend(t *testing.T, db *gorm.DB, _ []string) {
	ledger := openLedger(t, db, tenant.WithLease(8*time.Second))
	say("ready")
	told := commands()
	<-told
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var made atomic.Int64
	var longest atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				asked := time.Now()
				hold, err := ledger.Reserve(ctx, tenant.ID("acme"), tenant.Estimate{Cost: tenant.USD("1")}, tenant.WithWait(time.Hour))
				if err != nil {
					if ctx.Err() == nil {
						say("reserve: %v", err)
					}
					return
				}
				longest.Store(max(longest.Load(), int64(time.Since(asked))))
				if made.Add(1) == contendedCalls {
					say("through")
				}
				if _, err := ledger.Release(context.WithoutCancel(ctx), hold); err != nil {
					say("release: %v", err)
					return
				}
			}
		})
	}
	<-told
	cancel()
	wg.Wait()
	say("%d calls in %v, the longest wait %v", made.Load(), time.Since(began).Round(time.Millisecond), time.Duration(longest.Load()).Round(time.Millisecond))
}
