package tenant_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/glebarez/sqlite"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// deferredCall is a call of $1 that is left to another process.
func deferredCall(t *testing.T, ledger *tenant.Ledger, who tenant.Tenant, key string) *tenant.Hold {
	t.Helper()
	hold, err := ledger.Reserve(t.Context(), who, tenant.Estimate{Model: "m", Cost: tenant.USD("1"), InputTokens: 10})
	require.NoError(t, err)
	require.NoError(t, ledger.Defer(t.Context(), hold, key))
	return hold
}

// deferredElsewhere has another process defer a call. That one waits as long as a busy machine takes; whoever settles the call need not.
func deferredElsewhere(t *testing.T, db *gorm.DB, who tenant.Tenant, key string) *tenant.Hold {
	t.Helper()
	pool, err := db.DB()
	require.NoError(t, err)
	dialector := postgres.New(postgres.Config{Conn: pool})
	if db.Name() == "sqlite" {
		dialector = &sqlite.Dialector{Conn: pool}
	}
	elsewhere, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	ledger, err := tenant.Open(elsewhere, waitsToDefer)
	require.NoError(t, err)
	hold := deferredCall(t, ledger, who, key)
	require.NoError(t, ledger.Close(t.Context()))
	return hold
}

func TestDefer_AnyProcessSettlesTheCall(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		for _, who := range []tenant.Tenant{tenant.ID("acme"), nil} {
			hold := deferredCall(t, ledger, who, "r-1")
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			s, err := ledger.SettleDeferred(ended, who, "r-1", tenant.Actual{Cost: tenant.USD("0.25"), Usage: tenant.Usage{Input: 7}, RequestID: "r-1"})
			require.NoError(t, err)
			require.Equal(t, tenant.Settled, s.Outcome)
			require.Equal(t, hold.ExecutionID, s.ExecutionID)
			require.Equal(t, "0.25", s.Cost.String())
			s, err = ledger.SettleDeferred(t.Context(), who, "r-1", tenant.Actual{Cost: tenant.USD("9")})
			require.NoError(t, err)
			require.Equal(t, tenant.AlreadySettled, s.Outcome)
			s, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("9")})
			require.NoError(t, err)
			require.Equal(t, tenant.AlreadySettled, s.Outcome, "whoever has made the call may settle it too")
		}
		require.Equal(t, balance{SpentCost: 250_000_000, SpentTokens: 7, SpentCalls: 1}, balanceOf(t, db, "acme", "total"))
		requireConservation(t, db)
	})
}

// A ledger that is closed, or whose process is gone, does not wait for the calls that it has left.
func TestDefer_TheCallIsNoLongerTheLedgers(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		acme := tenant.ID("acme")
		deferredCall(t, ledger, acme, "r-1")
		soon, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, ledger.Close(soon))
		require.NoError(t, soon.Err())

		other := openLedger(t, db)
		s, err := other.SettleDeferred(t.Context(), acme, "r-1", tenant.Actual{Cost: tenant.USD("0.25")})
		require.NoError(t, err)
		require.Contains(t, []tenant.Outcome{tenant.Settled, tenant.Corrected}, s.Outcome, "by then, its hold may have been charged")
		require.EqualValues(t, 250_000_000, balanceOf(t, db, "acme", "total").SpentCost)
		requireConservation(t, db)
	})
}

func TestDefer_WhatItCannotLeave(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, _ *gorm.DB, ledger *tenant.Ledger) {
		acme, ctx := tenant.ID("acme"), t.Context()
		hold, err := ledger.Reserve(ctx, acme, tenant.Estimate{Model: "m", Cost: tenant.USD("1")}, tenant.WithIdempotencyKey("own"))
		require.NoError(t, err)
		require.ErrorIs(t, ledger.Defer(ctx, hold, "r-1"), tenant.ErrNotDeferred, "it has a key")
		_, err = ledger.Release(ctx, hold)
		require.NoError(t, err)
		require.ErrorIs(t, ledger.Defer(ctx, hold, "r-1"), tenant.ErrNotDeferred, "it has ended")

		first := deferredCall(t, ledger, acme, "r-1")
		second, err := ledger.Reserve(ctx, acme, tenant.Estimate{Model: "m", Cost: tenant.USD("1")})
		require.NoError(t, err)
		var duplicate *tenant.DuplicateError
		require.ErrorAs(t, ledger.Defer(ctx, second, "r-1"), &duplicate)
		require.Equal(t, first.ExecutionID, duplicate.ExecutionID)
		require.Equal(t, "running", duplicate.Status)
		_, err = ledger.Settle(ctx, second, tenant.Actual{Cost: tenant.USD("0.5")})
		require.NoError(t, err, "after an error it is the ledger's as before")

		for _, who := range []tenant.Tenant{tenant.ID("other"), nil} {
			_, err = ledger.SettleDeferred(ctx, who, "r-1", tenant.Actual{Cost: tenant.USD("0.5")})
			require.ErrorIs(t, err, tenant.ErrNotDeferred, "it is another tenant's")
		}
		_, err = ledger.SettleDeferred(ctx, acme, "r-2", tenant.Actual{})
		require.ErrorIs(t, err, tenant.ErrNotDeferred)
		_, err = ledger.SettleDeferred(ctx, acme, "", tenant.Actual{})
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		_, err = ledger.SettleDeferred(ctx, tenant.ID(""), "r-1", tenant.Actual{})
		require.ErrorIs(t, err, tenant.ErrInvalidTenant)
		require.ErrorIs(t, ledger.Defer(ctx, nil, "r-3"), tenant.ErrInvalidOption)
		require.ErrorIs(t, ledger.Defer(ctx, first, ""), tenant.ErrInvalidOption)
		s, err := ledger.SettleDeferred(ctx, acme, "r-1", tenant.Actual{Cost: tenant.USD("0.5")})
		require.NoError(t, err)
		require.Equal(t, tenant.Settled, s.Outcome)
	})
}

// Whoever learns that a call has ended, and not what it used, charges what it holds.
func TestSettleDeferred_AsHeld(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		acme := tenant.ID("acme")
		deferredCall(t, ledger, acme, "v-1")
		s, err := ledger.SettleDeferred(t.Context(), acme, "v-1", tenant.Actual{AsHeld: true, Usage: tenant.Usage{Output: 3}})
		require.NoError(t, err)
		require.Equal(t, tenant.Settled, s.Outcome)
		require.Equal(t, "1", s.Cost.String())
		require.True(t, s.Estimated)
		require.False(t, s.Unpriced)
		require.Equal(t, balance{SpentCost: 1_000_000_000, SpentTokens: 10, SpentCalls: 1}, balanceOf(t, db, "acme", "total"))
		requireConservation(t, db)
	})
}

// A deferred call whose settle is pending is the ledger's that was told how it ended, also where Close runs out of time.
func TestSettleDeferred_ThatIsPendingIsNamedByClose(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger, err := tenant.Open(db, waitsToDefer) // which the reading of the call has, too
	require.NoError(t, err)
	hold, err := ledger.Reserve(t.Context(), tenant.ID("acme"), cent)
	require.NoError(t, err)
	require.NoError(t, ledger.Defer(t.Context(), hold, "background"))
	require.NoError(t, db.Exec(`ALTER TABLE llm_usage RENAME TO elsewhere`).Error)
	settlement, err := ledger.SettleDeferred(t.Context(), tenant.ID("acme"), "background", tenant.Actual{Usage: tenant.Usage{Output: 7}})
	require.NoError(t, err)
	require.Equal(t, tenant.Pending, settlement.Outcome)
	require.Equal(t, 1, ledger.Pending().Bookings)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var unsettled *tenant.UnsettledError
	require.ErrorAs(t, ledger.Close(ctx), &unsettled)
	require.Len(t, unsettled.Unsettled, 1)
	require.Equal(t, hold.ExecutionID, unsettled.Unsettled[0].ExecutionID)
	require.Equal(t, tenant.Usage{Output: 7}, unsettled.Unsettled[0].Usage)
}

func TestSettleDeferred_OfACallThatCannotBeReadIsPendingUntilItIsBooked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ dialect, begin, end string }{
		"renamed":          {"postgres", "ALTER TABLE llm_executions RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO llm_executions"},
		"SELECT revoked":   {"postgres", "REVOKE SELECT ON llm_executions FROM @role", "GRANT SELECT ON llm_executions TO @role"},
		"SQLite, renamed":  {"sqlite", "ALTER TABLE llm_executions RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO llm_executions"},
		"no tenants there": {"postgres", "ALTER TABLE llm_tenants RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO llm_tenants"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s *service
			if c.dialect == "postgres" {
				s = newService(t)
			} else {
				db := openDatabase(t, "sqlite")
				s = &service{owner: db, db: db, witness: &witness{}}
				s.ledger = openLedger(t, db, tenant.WithObserver(s.witness), shortly)
			}
			hold := deferredElsewhere(t, s.db, tenant.ID("acme"), "r-1")
			end := sync.OnceFunc(func() { s.do(t, s.owner, c.end) })
			t.Cleanup(end)
			s.do(t, s.owner, c.begin)
			deferredStands(t, s.owner, s.ledger, s.witness, hold, end)
		})
	}
}

func TestSettleDeferred_OfACallWhoseDatabaseIsStoppedIsPendingUntilItIsBooked(t *testing.T) {
	t.Parallel()
	server, db := cluster(t)
	w := &witness{}
	ledger := openLedger(t, db, shortly, tenant.WithObserver(w))
	hold := deferredElsewhere(t, db, tenant.ID("acme"), "r-1")
	server.Stop(pgtest.Immediate)
	deferredStands(t, db, ledger, w, hold, server.Start)
}

// waitsToDefer is the option of these tests: Defer has as long as a settle.
var waitsToDefer = tenant.WithSettleWait(10 * time.Second)

// deferredStands settles a deferred call that cannot be read, and one that there is not, until the trouble ends.
func deferredStands(t *testing.T, owner *gorm.DB, ledger *tenant.Ledger, w *witness, hold *tenant.Hold, end func()) {
	t.Helper()
	acme := tenant.ID("acme")
	s, err := ledger.SettleDeferred(t.Context(), acme, "r-1", tenant.Actual{Cost: tenant.USD("0.25"), Usage: tenant.Usage{Input: 7}})
	require.NoError(t, err)
	require.Equal(t, tenant.Settlement{Outcome: tenant.Pending}, s)
	s, err = ledger.SettleDeferred(t.Context(), acme, "r-2", tenant.Actual{Cost: tenant.USD("9")})
	require.NoError(t, err)
	require.Equal(t, tenant.Pending, s.Outcome, "nobody knows that there is none")
	_, err = ledger.SettleDeferred(t.Context(), acme, "r-1", tenant.Actual{ErrorCode: "No Word"})
	require.ErrorIs(t, err, tenant.ErrInvalidOption, "what is wrong with it is said at once")
	require.Eventually(t, func() bool {
		p := ledger.Pending()
		return p.Bookings == 2 && p.Err != nil
	}, time.Minute, time.Millisecond)

	end()
	require.Eventually(t, func() bool { return ledger.Pending() == tenant.PendingStatus{} }, time.Minute, 5*time.Millisecond)
	require.Equal(t, balance{SpentCost: 25e7, SpentTokens: 7, SpentCalls: 1}, balanceOf(t, owner, "acme", "total"))
	rows := executionRows(t, owner)
	require.Len(t, rows, 1)
	require.Equal(t, executionRow{ID: hold.ExecutionID, Status: "succeeded", IdempotencyKey: "r-1", HeldCost: 1e9, Cost: 25e7, Calls: 1}, rows[0])
	requireConservation(t, owner)
	require.Eventually(t, func() bool { return len(of[*tenant.PendingEvent](w)) == 4 }, time.Minute, time.Millisecond, "each of the two twice")
	ends := map[string]*tenant.PendingEvent{}
	for _, e := range of[*tenant.PendingEvent](w)[2:] {
		ends[e.IdempotencyKey] = e
	}
	require.True(t, ends["r-1"].Booked)
	require.Equal(t, hold.ExecutionID, ends["r-1"].ExecutionID)
	require.False(t, ends["r-2"].Booked)
	require.ErrorIs(t, ends["r-2"].Err, tenant.ErrNotDeferred)
}

func TestSettleDeferred_OfACallThatCannotBeReadIsNamedByClose(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger, err := tenant.Open(db, shortly)
	require.NoError(t, err)
	deferredElsewhere(t, db, tenant.ID("acme"), "r-1")
	require.NoError(t, db.Exec(`ALTER TABLE llm_executions RENAME TO elsewhere`).Error)
	s, err := ledger.SettleDeferred(t.Context(), tenant.ID("acme"), "r-1", tenant.Actual{Usage: tenant.Usage{Output: 7}})
	require.NoError(t, err)
	require.Equal(t, tenant.Pending, s.Outcome)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var unsettled *tenant.UnsettledError
	require.ErrorAs(t, ledger.Close(ctx), &unsettled)
	require.Equal(t, []tenant.Unsettled{{TenantID: "acme", IdempotencyKey: "r-1", Usage: tenant.Usage{Output: 7}, Settling: true}}, unsettled.Unsettled)
}
