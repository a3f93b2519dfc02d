package tenant_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
)

func TestAmbiguousCommit_EachOperationIsDoneOnceAndAnsweredRight(t *testing.T) {
	t.Parallel()
	actual := tenant.Actual{Cost: tenant.USD("0.02")}
	key := tenant.WithIdempotencyKey("k")
	held := executionRow{Status: "running", IdempotencyKey: "k", HeldCost: 1e7}
	for name, of := range map[string]struct {
		do      func(t *testing.T, l *tenant.Ledger, org tenant.Tenant, h *tenant.Hold) string
		reserve bool // beforehand
		row     executionRow
		balance balance
	}{
		"reserve": {
			do: func(t *testing.T, l *tenant.Ledger, org tenant.Tenant, _ *tenant.Hold) string {
				h, err := l.Reserve(t.Context(), org, cent, key)
				require.NoError(t, err)
				require.Equal(t, "0.01", h.Cost.String())
				require.WithinDuration(t, time.Now().Add(time.Hour), h.Deadline, time.Minute)
				t.Cleanup(func() {
					_, err := l.Release(t.Context(), h)
					require.NoError(t, err)
				})
				return h.ExecutionID
			},
			row: held, balance: balance{HeldCost: 1e7, HeldCalls: 1},
		},
		"settle": {
			do: func(t *testing.T, l *tenant.Ledger, _ tenant.Tenant, h *tenant.Hold) string {
				s, err := l.Settle(t.Context(), h, actual)
				require.NoError(t, err)
				require.Equal(t, tenant.Settled, s.Outcome)
				require.Equal(t, "0.02", s.Cost.String())
				s, err = l.Settle(t.Context(), h, tenant.Actual{Cost: tenant.USD("0.03")})
				require.NoError(t, err)
				require.Equal(t, tenant.AlreadySettled, s.Outcome)
				return s.ExecutionID
			},
			reserve: true,
			row:     executionRow{Status: "succeeded", IdempotencyKey: "k", HeldCost: 1e7, Cost: 2e7, Calls: 1},
			balance: balance{SpentCost: 2e7, SpentCalls: 1},
		},
		"release": {
			do: func(t *testing.T, l *tenant.Ledger, _ tenant.Tenant, h *tenant.Hold) string {
				s, err := l.Release(t.Context(), h)
				require.NoError(t, err)
				require.Equal(t, tenant.Released, s.Outcome)
				s, err = l.Release(t.Context(), h)
				require.NoError(t, err)
				require.Equal(t, tenant.AlreadyReleased, s.Outcome)
				return s.ExecutionID
			},
			reserve: true,
			row:     executionRow{Status: "cancelled", IdempotencyKey: "k", HeldCost: 1e7},
		},
		"record": {
			do: func(t *testing.T, l *tenant.Ledger, org tenant.Tenant, _ *tenant.Hold) string {
				s, err := l.Record(t.Context(), org, actual, key)
				require.NoError(t, err)
				require.Equal(t, tenant.Settled, s.Outcome)
				require.Equal(t, "0.02", s.Cost.String())
				return s.ExecutionID
			},
			row:     executionRow{Status: "succeeded", IdempotencyKey: "k", Cost: 2e7, Calls: 1},
			balance: balance{SpentCost: 2e7, SpentCalls: 1},
		},
	} {
		for how, fault := range map[string]fault{"committed": lostAnswer, "not committed": lostCommit} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				db, ledger, faults := faultyLedger(t, tenant.WithSettleWait(time.Minute))
				org := newOrganization(t, db, ledger, "acme", dollar, tenant.WithEnforcement(tenant.Hard))
				var h *tenant.Hold
				if of.reserve {
					var err error
					h, err = ledger.Reserve(t.Context(), org, cent, key)
					require.NoError(t, err)
				}
				faults.arm(fault, 1)
				row := of.row
				row.ID = of.do(t, ledger, org, h)
				require.Zero(t, faults.left(), "the commit broke")
				require.Equal(t, []executionRow{row}, executionRows(t, db))
				require.Equal(t, of.balance, balanceOf(t, db, "acme", "day"))
				require.Equal(t, of.balance, balanceOf(t, db, "acme", "total"))
				requireConservation(t, db)
			})
		}
	}
}
