package tenant_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

const (
	outageBegins = "calls are admitted without being weighed"
	outageEnds   = "calls are weighed against their budgets again"
)

// requireUnbooked admits a call without the database.
func requireUnbooked(t testing.TB, l *tenant.Ledger, org tenant.Tenant, e tenant.Estimate, options ...tenant.ReserveOption) *tenant.Hold {
	t.Helper()
	h, err := l.Reserve(t.Context(), org, e, options...)
	require.NoError(t, err)
	require.True(t, h.Unbooked)
	require.Zero(t, h.Deadline)
	return h
}

// requirePending settles a call that cannot be booked yet.
func requirePending(t testing.TB, l *tenant.Ledger, h *tenant.Hold, cost string) {
	t.Helper()
	s, err := l.Settle(t.Context(), h, tenant.Actual{Cost: tenant.USD(cost)})
	require.NoError(t, err)
	require.Equal(t, tenant.Pending, s.Outcome)
	require.Equal(t, cost, s.Cost.String())
}

func TestAdmitWhenUnavailable_MakesTheCallsAndBooksThemWhenTheDatabaseIsBack(t *testing.T) {
	t.Parallel()
	server, db := cluster(t)
	var log logged
	ledger := openLedger(t, db, tenant.WithAdmitWhenUnavailable(), shortly, log.option())
	org := newOrganization(t, db, ledger, "acme", dollar, tenant.WithEnforcement(tenant.Hard))
	hold, err := ledger.Reserve(t.Context(), org, tenant.Estimate{Cost: tenant.USD("0.9")})
	require.NoError(t, err)
	require.False(t, hold.Unbooked, "while the database is there, its budgets decide")
	_, err = ledger.Reserve(t.Context(), org, tenant.Estimate{Cost: tenant.USD("1.1")})
	require.ErrorIs(t, err, tenant.ErrBudgetExceeded)

	server.Stop(pgtest.Immediate)
	start := time.Now()
	first := requireUnbooked(t, ledger, org, tenant.Estimate{Cost: tenant.USD("5"), InputTokens: 3, OutputTokens: 4}, tenant.WithIdempotencyKey("k"))
	unknown := time.Since(start)
	require.Equal(t, "acme", first.TenantID)
	require.Equal(t, "5", first.Cost.String())
	require.EqualValues(t, 7, first.Tokens)
	require.EqualValues(t, 4, first.OutputTokens)
	requirePending(t, ledger, hold, "0.8")
	requirePending(t, ledger, first, "4")
	start = time.Now()
	second := requireUnbooked(t, ledger, org, cent, tenant.WithIdempotencyKey("k"))
	require.Less(t, time.Since(start), unknown, "it is known by now that the database is away")
	requirePending(t, ledger, second, "0.02")
	stranger := requireUnbooked(t, ledger, tenant.ID("stranger"), cent)
	requirePending(t, ledger, stranger, "0.03")
	nobody := requireUnbooked(t, ledger, nil, cent)
	requirePending(t, ledger, nobody, "0.04")
	unmade := requireUnbooked(t, ledger, org, cent)
	_, err = ledger.Release(t.Context(), unmade)
	require.NoError(t, err)
	ended, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err = ledger.Reserve(ended, org, cent)
	require.ErrorIs(t, err, context.DeadlineExceeded, "a call whose context ends is not made")
	require.Eventually(t, func() bool { return ledger.Pending().Bookings == 5 }, time.Minute, 10*time.Millisecond, "there is nothing to release")
	require.Equal(t, []int{1, 0}, []int{log.count(outageBegins), log.count(outageEnds)})

	before := time.Now().Add(-time.Minute)
	server.Start()
	require.Eventually(t, func() bool {
		return balanceOf(t, db, "acme", "day") == balance{SpentCost: 4_820_000_000, SpentCalls: 3} &&
			balanceOf(t, db, "stranger", "total").SpentCost == 3e7
	}, time.Minute, 10*time.Millisecond, "past the limit, because that is the truth")
	require.Eventually(t, func() bool {
		var cost int64
		require.NoError(t, db.Raw(`SELECT coalesce(sum(cost), 0) FROM llm_executions WHERE tenant_id = ''`).Scan(&cost).Error)
		return cost == 4e7
	}, time.Minute, 10*time.Millisecond)
	var booked []tenant.Execution
	require.NoError(t, tenant.Executions(t.Context(), db, org).Where("status = 'succeeded'").Order("id").Find(&booked).Error)
	require.Len(t, booked, 3)
	require.Equal(t, []string{hold.ExecutionID, first.ExecutionID, second.ExecutionID}, []string{booked[0].ID, booked[1].ID, booked[2].ID})
	keys := []string{booked[1].IdempotencyKey, booked[2].IdempotencyKey}
	require.ElementsMatch(t, []string{"k", ""}, keys, "the one that is booked first keeps the key")
	require.Zero(t, booked[1].HeldCostNano, "nothing was held for it")
	require.True(t, booked[1].AdmittedAt.After(before))
	require.Eventually(t, func() bool { return log.count(outageEnds) == 1 }, time.Minute, time.Millisecond)
	require.Equal(t, 1, log.count(outageBegins))

	require.Eventually(t, func() bool { // once it does not take the few milliseconds of shortly
		s, err := ledger.Settle(t.Context(), first, tenant.Actual{Cost: tenant.USD("4")})
		require.NoError(t, err)
		require.Contains(t, []tenant.Outcome{tenant.AlreadySettled, tenant.Pending}, s.Outcome)
		return s.Outcome == tenant.AlreadySettled
	}, time.Minute, 10*time.Millisecond)
	_, err = ledger.Reserve(t.Context(), org, cent)
	require.ErrorIs(t, err, tenant.ErrBudgetExceeded, "and the budgets decide again")
	requireConservation(t, db)
}

// The lanes of a process start with its first call, which may come before the database does.
func TestAdmitWhenUnavailable_HoldsForAProcessThatStartsWithoutItsDatabase(t *testing.T) {
	t.Parallel()
	server, db := cluster(t)
	require.NoError(t, db.AutoMigrate(&Organization{}))
	require.NoError(t, db.Create(&Organization{Slug: "acme", Name: "Acme"}).Error)
	server.Stop(pgtest.Fast)
	ledger := openLedger(t, db, tenant.WithAdmitWhenUnavailable(), shortly)
	require.NoError(t, ledger.Register(&Organization{}, tenant.WithKey("Slug"), dollar))
	answers := make(chan string, 1)
	answers <- "reply"
	agent, err := tenant.NewAgent(ledger, told{func() {}, answers})
	require.NoError(t, err)
	reply, err := agent.Call(t.Context(), "Hello", tenant.WithTenant(&Organization{ID: 1, Slug: "acme"}))
	require.NoError(t, err)
	require.Equal(t, "hello", reply.Text)
	require.True(t, reply.Unbooked)
	require.True(t, reply.Pending)
	gone := requireUnbooked(t, ledger, &Organization{ID: 99, Slug: "gone"}, cent)
	requirePending(t, ledger, gone, "0.01")

	server.Start()
	require.Eventually(t, func() bool { return balanceOf(t, db, "acme", "total").SpentTokens == 5 }, time.Minute, 10*time.Millisecond)
	status, err := tenant.BudgetStatus(t.Context(), db, tenant.ID("acme"))
	require.NoError(t, err)
	require.Equal(t, "1", status.Limits[0].Limit.String(), "its tenant is made as it is declared")
	require.Eventually(t, func() bool {
		var tenantID string
		found := db.Raw(`SELECT tenant_id FROM llm_executions WHERE id = ? AND cost = 10000000`, gone.ExecutionID).Scan(&tenantID).RowsAffected
		return found == 1 && tenantID == ""
	}, time.Minute, 10*time.Millisecond, "a call whose record does not exist is booked without a tenant")
	requireConservation(t, db)
}

func TestAdmitWhenUnavailable_CloseNamesWhatIsNotBooked(t *testing.T) {
	t.Parallel()
	for name, started := range map[string]bool{"lanes run": true, "lanes never ran": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, db := cluster(t)
			ledger, err := tenant.Open(db, tenant.WithAdmitWhenUnavailable(), shortly)
			require.NoError(t, err)
			if started {
				makeCall(t, ledger, newOrganization(t, db, ledger, "acme", dollar))
			}
			server.Stop(pgtest.Immediate)
			settling := requireUnbooked(t, ledger, tenant.ID("acme"), tenant.Estimate{Model: "m", InputTokens: 10})
			s, err := ledger.Settle(t.Context(), settling, tenant.Actual{Usage: tenant.Usage{Input: 7}})
			require.NoError(t, err)
			require.Equal(t, tenant.Pending, s.Outcome)
			running := requireUnbooked(t, ledger, tenant.ID("acme"), cent)

			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			var unsettled *tenant.UnsettledError
			require.ErrorAs(t, ledger.Close(ctx), &unsettled)
			require.ElementsMatch(t, []tenant.Unsettled{
				{TenantID: "acme", ExecutionID: settling.ExecutionID, Model: "m", Usage: tenant.Usage{Input: 7}, Settling: true, Unbooked: true},
				{TenantID: "acme", ExecutionID: running.ExecutionID, Unbooked: true},
			}, unsettled.Unsettled)
			require.Contains(t, unsettled.Error(), "but for the 2 admitted while the database could not be reached")
			_, err = ledger.Settle(t.Context(), running, tenant.Actual{})
			require.ErrorIs(t, err, tenant.ErrClosed)
			_, err = ledger.Reserve(t.Context(), tenant.ID("acme"), cent)
			require.ErrorIs(t, err, tenant.ErrClosed)
		})
	}
}

func TestAdmitWhenUnavailable_CloseWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	server, db := cluster(t)
	server.Stop(pgtest.Fast)
	ledger, err := tenant.Open(db, tenant.WithAdmitWhenUnavailable(), shortly)
	require.NoError(t, err)
	requirePending(t, ledger, requireUnbooked(t, ledger, tenant.ID("acme"), cent), "0.01")
	closed := make(chan error, 1)
	go func() { closed <- ledger.Close(context.Background()) }()
	server.Start()
	require.NoError(t, <-closed)
	require.Equal(t, balance{SpentCost: 1e7, SpentCalls: 1}, balanceOf(t, db, "acme", "total"))
	requireConservation(t, db)
}

// What a process that dies has not booked is lost: that is what the option is named for.
func TestAdmitWhenUnavailable_ProcessThatDiesTakesItsUnbookedCallsAlong(t *testing.T) {
	t.Parallel()
	server, db := cluster(t)
	p := start(t, "unbooked", server.URL())
	require.Equal(t, "ready", p.hear(t))
	server.Stop(pgtest.Fast)
	p.tell(t, "call")
	require.Equal(t, "pending", p.hear(t))
	require.NoError(t, p.cmd.Process.Kill())
	_ = p.cmd.Wait()
	server.Start()
	require.Empty(t, executionRows(t, db))
}

func callUnbooked(t *testing.T, db *gorm.DB, _ []string) {
	ledger, err := tenant.Open(db, tenant.WithAdmitWhenUnavailable(), shortly)
	require.NoError(t, err)
	lines := commands()
	say("ready")
	<-lines
	requirePending(t, ledger, requireUnbooked(t, ledger, tenant.ID("acme"), cent), "0.01")
	say("pending")
	<-lines
}

// The reserve of an unbooked hold may be committed all the same: then its settle finds it, and the call is charged once.
func TestAdmitWhenUnavailable_AmbiguousReserveIsOneExecutionInTheEnd(t *testing.T) {
	t.Parallel()
	for how, fault := range map[string]fault{"committed": lostAnswer, "not committed": lostCommit} {
		for end, row := range map[string]executionRow{
			"settle":  {Status: "succeeded", IdempotencyKey: "k", Cost: 2e7, Calls: 1},
			"release": {Status: "cancelled", IdempotencyKey: "k"},
		} {
			t.Run(how+" "+end, func(t *testing.T) {
				t.Parallel()
				db, ledger, faults := faultyLedger(t, tenant.WithAdmitWhenUnavailable(), shortly)
				org := newOrganization(t, db, ledger, "acme", dollar, tenant.WithEnforcement(tenant.Hard))
				makeCall(t, ledger, org)

				faults.armAndStayDown(fault)
				h := requireUnbooked(t, ledger, org, cent, tenant.WithIdempotencyKey("k"))
				require.Eventually(t, func() bool { return faults.left() == 0 }, time.Minute, time.Millisecond, "the commit breaks")
				if fault == lostAnswer {
					row.HeldCost = 1e7
				}
				row.ID = h.ExecutionID
				spent := balance{SpentCost: 1e7, SpentCalls: 1}
				if end == "settle" {
					requirePending(t, ledger, h, "0.02")
					spent = balance{SpentCost: 3e7, SpentCalls: 2}
				} else {
					_, err := ledger.Release(t.Context(), h)
					require.NoError(t, err)
				}
				faults.setDown(false)
				require.Eventually(t, func() bool {
					rows := executionRows(t, db)
					return len(rows) == 2 && rows[1] == row
				}, time.Minute, 10*time.Millisecond)
				require.Equal(t, spent, balanceOf(t, db, "acme", "day"))
				requireConservation(t, db)
			})
		}
	}
}

func TestAdmitWhenUnavailable_HoldsForAFirstUse(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	lanes, _ := faultyPool(t, dsn)
	hosts, faults := faultyPool(t, dsn)
	db := openAt(t, postgres.New(postgres.Config{Conn: hosts}))
	ledger := openLedger(t, db, tenant.WithLaneDB(lanes), tenant.WithAdmitWhenUnavailable(), shortly)
	faults.setDown(true)
	h := requireUnbooked(t, ledger, tenant.ID("new"), cent)
	requirePending(t, ledger, h, "0.01")
	faults.setDown(false)
	require.Eventually(t, func() bool { return balanceOf(t, db, "new", "total").SpentCost == 1e7 }, time.Minute, 10*time.Millisecond)
	requireConservation(t, db)
}

func TestAdmitWhenUnavailable_AdmitsForNothingElse(t *testing.T) {
	t.Parallel()
	t.Run("a lock", func(t *testing.T) {
		t.Parallel()
		db := openDatabase(t, "postgres")
		ledger := openLedger(t, db, tenant.WithAdmitWhenUnavailable())
		newOrganization(t, db, ledger, "stuck", dollar)
		tx := db.Begin()
		require.NoError(t, tx.Exec(`SELECT 1 FROM llm_balances b JOIN llm_tenants t ON t.id = b.tenant WHERE t.tenant_id = 'stuck' FOR UPDATE OF b`).Error)
		_, err := ledger.Reserve(t.Context(), tenant.ID("stuck"), cent, tenant.WithWait(time.Second))
		require.ErrorIs(t, err, tenant.ErrUnavailable)
		require.NoError(t, tx.Rollback().Error)
	})
	t.Run("missing tables", func(t *testing.T) {
		t.Parallel()
		ledger := openLedger(t, openAt(t, postgres.Open(pgtest.Empty(t))), tenant.WithAdmitWhenUnavailable())
		_, err := ledger.Reserve(t.Context(), tenant.ID("acme"), cent)
		require.ErrorIs(t, err, tenant.ErrNotMigrated)
	})
	t.Run("a file that is locked", func(t *testing.T) {
		t.Parallel()
		db := openDatabase(t, "sqlite")
		ledger := openLedger(t, db, tenant.WithAdmitWhenUnavailable())
		makeCall(t, ledger, tenant.ID("acme"))
		tx := db.Begin()
		require.NoError(t, tx.Exec(`UPDATE llm_tenants SET name = name`).Error)
		_, err := ledger.Reserve(t.Context(), tenant.ID("acme"), cent, tenant.WithWait(4*time.Second))
		require.ErrorIs(t, err, tenant.ErrUnavailable)
		require.NoError(t, tx.Rollback().Error)
	})
}

// A network that swallows what is sent looks like this.
func TestAdmitWhenUnavailable_HoldsForADatabaseThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	db, ledger, faults := faultyLedger(t, tenant.WithAdmitWhenUnavailable(), tenant.WithLanes(1), shortly)
	org := newOrganization(t, db, ledger, "acme", dollar)
	makeCall(t, ledger, org)

	faults.setSilent(true)
	start := time.Now()
	first := requireUnbooked(t, ledger, org, cent, tenant.WithWait(time.Hour)) // which it would wait for room
	unknown := time.Since(start)
	requirePending(t, ledger, first, "0.01")
	start = time.Now()
	second := requireUnbooked(t, ledger, org, cent)
	require.Less(t, time.Since(start), unknown, "it is known by now that the database is away")
	requirePending(t, ledger, second, "0.02")
	faults.setSilent(false)
	require.Eventually(t, func() bool {
		return balanceOf(t, db, "acme", "day") == balance{SpentCost: 4e7, SpentCalls: 3}
	}, time.Minute, 10*time.Millisecond)
	requireConservation(t, db)
}
