package tenant_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
	"github.com/llmtenant/tenant/pricing"
)

// Nothing may be left on a connection to the server from one transaction to the next, prepared statements included, so
// the host opens its database with the simple protocol, or with another that prepares nothing.
func TestPgBouncer_InTransactionModeCarriesTheLedger(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"simple_protocol", "exec"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			config := postgres.Config{DSN: pgtest.Bouncer(t, pgtest.Empty(t)), PreferSimpleProtocol: true}
			if protocol != "simple_protocol" {
				config.DSN += "&default_query_exec_mode=" + protocol
				config.PreferSimpleProtocol = false
			}
			db := openAt(t, postgres.New(config))
			callThroughBouncer(t, db)
		})
	}
}

func callThroughBouncer(t *testing.T, db *gorm.DB) {
	live := pricing.NewLive(bookOf(t, flat("m", "1")))
	ledger := openLedger(t, db, tenant.WithPrices(live))
	require.NoError(t, ledger.Migrate(t.Context()))
	org := newOrganization(t, db, ledger, "acme", dollar, tenant.WithEnforcement(tenant.Hard))

	// What is refused, released, overrun, marked by a key, tagged and left out travels as arrays with NULLs in them.
	key, tag, agent := tenant.WithIdempotencyKey(`it's a "key" \ {with}, everything`), tenant.WithTag("feature", `o'clock {"a", NULL}`), tenant.WithAgent("NULL")
	hold, err := ledger.Reserve(t.Context(), org, cent, key, tag, agent)
	require.NoError(t, err)
	_, err = ledger.Reserve(t.Context(), org, cent, key, tag, agent)
	require.ErrorIs(t, err, tenant.ErrDuplicate)
	_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.02"), Usage: tenant.Usage{Output: 7}})
	require.NoError(t, err)
	hold, err = ledger.Reserve(t.Context(), org, cent)
	require.NoError(t, err)
	_, err = ledger.Release(t.Context(), hold)
	require.NoError(t, err)
	cost, err := tenant.CostToday(t.Context(), db, org)
	require.NoError(t, err)
	require.Equal(t, "0.02", cost.String())

	used(t, ledger, tenant.ID("globex"), tenant.Actual{Usage: tenant.Usage{Input: 1000}}, tag, agent)
	live.Set(bookOf(t, flat("m", "2")))
	require.EqualValues(t, 1, repriceAll(t, ledger, tenant.OnlyModels("m")).Corrected)
	require.Equal(t, "0.002", costToday(t, db, tenant.ID("globex")))

	require.EqualValues(t, 98, spend(t, ledger, org, 32), "all that the budget pays for is made, and no more")
	require.Equal(t, balance{SpentCost: 1e9, SpentTokens: 7, SpentCalls: 99}, balanceOf(t, db, "acme", "day"))
	differences, err := ledger.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, differences)
	requireConservation(t, db)
	var executions []tenant.Execution
	require.NoError(t, tenant.Executions(t.Context(), db, org).Find(&executions).Error)
	require.Len(t, executions, 100)
}

// A host that has not turned off prepared statements finds those of others on its connections, and not its own (42P05,
// 26000). What was admitted all the same is booked.
func TestPgBouncer_WithPreparedStatementsLosesNoCall(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	direct, through := openAt(t, postgres.Open(dsn)), pgtest.Bouncer(t, dsn)
	var ledgers []*tenant.Ledger
	for range 2 {
		ledger, err := tenant.Open(openAt(t, postgres.Open(through)), tenant.WithSettleWait(50*time.Millisecond))
		require.NoError(t, err)
		ledgers = append(ledgers, ledger)
	}
	var admitted, pending atomic.Int64
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 5 {
				hold, err := ledgers[i%2].Reserve(t.Context(), tenant.ID(fmt.Sprintf("t%d", i%4)), cent, tenant.WithWait(time.Second))
				if err != nil {
					t.Logf("reserve: %v", err)
					continue
				}
				admitted.Add(1)
				s, err := ledgers[i%2].Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.01")})
				if err != nil {
					t.Errorf("settle: %v", err)
				}
				if s.Outcome == tenant.Pending {
					pending.Add(1)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d calls were admitted, %d of them were pending", admitted.Load(), pending.Load())
	for _, ledger := range ledgers {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		require.NoError(t, ledger.Close(ctx))
		cancel()
	}
	var booked int64
	require.NoError(t, direct.Raw(`SELECT count(*) FROM llm_executions WHERE status = 'succeeded'`).Scan(&booked).Error)
	require.Equal(t, admitted.Load(), booked)
	requireConservation(t, direct)
}
