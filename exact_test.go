package tenant_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// spend makes calls of a cent until the budget is used up, and returns how many were admitted.
func spend(t testing.TB, ledger *tenant.Ledger, org tenant.Tenant, callers int) int64 {
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for {
				hold, err := ledger.Reserve(context.Background(), org, tenant.Estimate{Cost: tenant.USD("0.01")}, tenant.WithWait(time.Minute))
				if errors.Is(err, tenant.ErrBudgetExceeded) {
					return
				}
				if err != nil {
					t.Errorf("reserve: %v", err)
					return
				}
				admitted.Add(1)
				if _, err := ledger.Settle(context.Background(), hold, tenant.Actual{Cost: tenant.USD("0.01")}); err != nil {
					t.Errorf("settle: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	return admitted.Load()
}

func TestHardLimit_IsNeverPassedBy64Goroutines(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme", dollar, tenant.WithEnforcement(tenant.Hard))
		require.EqualValues(t, 100, spend(t, ledger, org, 64), "all that the budget pays for is made, and no more")
		require.Equal(t, balance{SpentCost: 1e9, SpentCalls: 100}, balanceOf(t, db, "acme", "day"))
		requireConservation(t, db)
	})
}

func TestHardLimit_IsNeverPassedBy4Processes(t *testing.T) {
	t.Parallel()
	overOneAndPlaces(t, func(t *testing.T, dsn string, db *gorm.DB) {
		ledger := openLedger(t, db)
		newOrganization(t, db, ledger, "acme", dollar, tenant.WithEnforcement(tenant.Hard))

		var total int64
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 4 {
			cmd := helper(t, "spend", dsn)
			wg.Go(func() {
				out, err := cmd.Output()
				if err != nil {
					t.Errorf("helper: %v\n%s", err, out)
				}
				for line := range strings.Lines(string(out)) {
					if n, ok := strings.CutPrefix(strings.TrimSpace(line), "admitted "); ok {
						admitted, err := strconv.ParseInt(n, 10, 64)
						if err != nil {
							t.Errorf("helper: %v", err)
						}
						mu.Lock()
						total += admitted
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 100, total)
		require.Equal(t, balance{SpentCost: 1e9, SpentCalls: 100}, balanceOf(t, db, "acme", "day"))
		requireConservation(t, db)
	})
}

func TestKilledProcess_HasItsCallSweptAndChargedItsHold(t *testing.T) {
	t.Parallel()
	overOneAndPlaces(t, func(t *testing.T, dsn string, db *gorm.DB) {
		ledger := openLedger(t, db, tenant.WithLease(time.Second))
		org := newOrganization(t, db, ledger, "acme", dollar, tenant.WithEnforcement(tenant.Hard))

		cmd := helper(t, "hang", dsn)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		waitForLine(t, out, "holding")
		require.Equal(t, balance{HeldCost: 25e7, HeldCalls: 1}, balanceOf(t, db, "acme", "day"))
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()

		// A call of this process starts its heartbeat, and with it the sweep.
		hold, err := ledger.Reserve(t.Context(), org, tenant.Estimate{Cost: tenant.USD("0.5")})
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			return balanceOf(t, db, "acme", "day").SpentCalls == 1
		}, time.Minute, 50*time.Millisecond)
		require.Equal(t, balance{SpentCost: 25e7, SpentCalls: 1, HeldCost: 5e8, HeldCalls: 1}, balanceOf(t, db, "acme", "day"),
			"what the dead process held is charged, what the living one holds is not touched")
		requireConservation(t, db)
		_, err = ledger.Release(t.Context(), hold)
		require.NoError(t, err)
	})
}

// waitForLine reads until a line has come.
func waitForLine(t *testing.T, r io.Reader, line string) {
	t.Helper()
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		if strings.TrimSpace(scanner.Text()) == line {
			go func() { _, _ = io.Copy(io.Discard, r) }()
			return
		}
	}
	require.FailNow(t, "the process ended without the line "+line, scanner.Err())
}
