package tenant_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// requireRecorded hands in a call that cannot be booked yet, and returns its execution.
func requireRecorded(t testing.TB, l *tenant.Ledger, who tenant.Tenant, a tenant.Actual, options ...tenant.RecordOption) string {
	t.Helper()
	s, err := l.Record(t.Context(), who, a, options...)
	require.NoError(t, err)
	require.Equal(t, tenant.Pending, s.Outcome)
	require.NotEmpty(t, s.ExecutionID)
	return s.ExecutionID
}

// pendingEvents are those of an execution.
func pendingEvents(w *witness, id string) (events []*tenant.PendingEvent) {
	for _, e := range of[*tenant.PendingEvent](w) {
		if e.ExecutionID == id {
			events = append(events, e)
		}
	}
	return events
}

// recordsStand holds Record to its promise in trouble that begins and ends: calls of a known tenant, of a new one and of
// nobody, with a key and without, are each booked once in the end.
func recordsStand(t *testing.T, owner *gorm.DB, l *tenant.Ledger, w *witness, begin, end func(), says string) {
	t.Helper()
	makeCall(t, l, tenant.ID("acme"))
	begin()
	const each = 4
	var (
		mu  sync.Mutex
		ids []string
		wg  sync.WaitGroup
	)
	for i := range each {
		for _, who := range []tenant.Tenant{tenant.ID("acme"), tenant.ID("fresh"), nil} {
			wg.Go(func() {
				var options []tenant.RecordOption
				if i%2 == 0 {
					options = append(options, tenant.WithIdempotencyKey(fmt.Sprintf("call-%d", i)))
				}
				s, err := l.Record(t.Context(), who, tenant.Actual{Cost: tenant.USD("0.03"), Usage: tenant.Usage{Output: 2}}, options...)
				if err != nil || s.Outcome != tenant.Pending || s.Cost.String() != "0.03" {
					t.Errorf("record: %+v, %v", s, err)
				}
				mu.Lock()
				defer mu.Unlock()
				ids = append(ids, s.ExecutionID)
			})
		}
	}
	wg.Wait()
	require.Eventually(t, func() bool {
		p := l.Pending()
		return p.Bookings == len(ids) && p.Err != nil && strings.Contains(p.Err.Error(), says) && !p.Since.IsZero()
	}, time.Minute, time.Millisecond, "%v", l.Pending())

	end()
	require.Eventually(t, func() bool { return l.Pending() == tenant.PendingStatus{} }, time.Minute, 5*time.Millisecond)
	require.Equal(t, balance{SpentCost: 1e7 + each*3e7, SpentTokens: each * 2, SpentCalls: each + 1}, balanceOf(t, owner, "acme", "total"))
	require.Equal(t, balance{SpentCost: each * 3e7, SpentTokens: each * 2, SpentCalls: each}, balanceOf(t, owner, "fresh", "total"))
	booked := map[string]int64{}
	for _, row := range executionRows(t, owner) {
		booked[row.ID] = row.Cost
	}
	require.Len(t, booked, len(ids)+1)
	for _, id := range ids {
		require.EqualValues(t, 3e7, booked[id])
		require.Eventually(t, func() bool { return len(pendingEvents(w, id)) == 2 }, time.Minute, time.Millisecond)
		told := pendingEvents(w, id)
		require.Equal(t, []bool{false, true}, []bool{told[0].Booked, told[1].Booked})
		require.NoError(t, told[1].Err)
	}
	var duplicate *tenant.DuplicateError
	require.Eventually(t, func() bool { // once it does not take the few milliseconds of the ledger's wait
		_, err := l.Record(t.Context(), tenant.ID("fresh"), tenant.Actual{Cost: tenant.USD("0.03")}, tenant.WithIdempotencyKey("call-2"))
		return errors.As(err, &duplicate)
	}, time.Minute, time.Millisecond)
	require.Contains(t, ids, duplicate.ExecutionID)
	requireConservation(t, owner)
}

func TestRecord_IsNeverGivenUpWhateverTheServerSays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ begin, end, says string }{
		"the executions are renamed": {
			"ALTER TABLE llm_executions RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO llm_executions", "42P01",
		},
		"the roll-up is renamed": {"ALTER TABLE llm_usage RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO llm_usage", "42P01"},
		"INSERT revoked of all": {
			"REVOKE INSERT ON ALL TABLES IN SCHEMA public FROM @role", "GRANT INSERT ON ALL TABLES IN SCHEMA public TO @role", "42501",
		},
		"SELECT revoked of what a batch reads": {"REVOKE SELECT ON llm_balances FROM @role", "GRANT SELECT ON llm_balances TO @role", "42501"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			end := sync.OnceFunc(func() { s.do(t, s.owner, c.end) })
			t.Cleanup(end)
			recordsStand(t, s.owner, s.ledger, s.witness, func() { s.do(t, s.owner, c.begin) }, end, c.says)
		})
	}
	t.Run("a trigger that raises", func(t *testing.T) {
		t.Parallel()
		s := newService(t)
		recordsStand(t, s.owner, s.ledger, s.witness, func() { s.raise(t, "llm_executions") },
			func() { s.do(t, s.owner, "DROP TRIGGER raising ON llm_executions") }, "P0001")
	})
	t.Run("SQLite without its roll-up", func(t *testing.T) {
		t.Parallel()
		db := openDatabase(t, "sqlite")
		s := &service{owner: db, db: db, witness: &witness{}}
		s.ledger = openLedger(t, db, tenant.WithObserver(s.witness), tenant.WithSettleWait(50*time.Millisecond))
		recordsStand(t, db, s.ledger, s.witness, func() { s.do(t, db, "ALTER TABLE llm_usage RENAME TO elsewhere") },
			func() { s.do(t, db, "ALTER TABLE elsewhere RENAME TO llm_usage") }, "no such table")
	})
}

func TestRecord_IsBookedWhenTheDatabaseIsBack(t *testing.T) {
	t.Parallel()
	server, db := cluster(t)
	w := &witness{}
	ledger := openLedger(t, db, shortly, tenant.WithObserver(w))
	recordsStand(t, db, ledger, w, func() { server.Stop(pgtest.Immediate) }, server.Start, "")
}

// The lanes of a process start with its first call, which may come before the database does.
func TestRecord_HoldsForAProcessThatStartsWithoutItsDatabase(t *testing.T) {
	t.Parallel()
	server, db := cluster(t)
	server.Stop(pgtest.Fast)
	ledger := openLedger(t, db, shortly)
	id := requireRecorded(t, ledger, tenant.ID("acme"), tenant.Actual{Cost: tenant.USD("0.02")})
	require.Eventually(t, func() bool { return ledger.Pending().Err != nil }, time.Minute, time.Millisecond, "what keeps it from a lane is said too")
	server.Start()
	require.Eventually(t, func() bool { return ledger.Pending().Bookings == 0 }, time.Minute, 5*time.Millisecond)
	require.Equal(t, []executionRow{{ID: id, Status: "succeeded", Cost: 2e7, Calls: 1}}, executionRows(t, db))
	requireConservation(t, db)
}

// Whether the try was committed whose answer got lost is found out when the database is back.
func TestRecord_ThatMayHaveBeenCommittedIsBookedOnce(t *testing.T) {
	t.Parallel()
	for how, fault := range map[string]fault{"committed": lostAnswer, "not committed": lostCommit} {
		for _, key := range []string{"", "k"} {
			t.Run(how+" "+key, func(t *testing.T) {
				t.Parallel()
				db, ledger, faults := faultyLedger(t, shortly)
				makeCall(t, ledger, tenant.ID("acme"))
				faults.armAndStayDown(fault)
				var options []tenant.RecordOption
				if key != "" {
					options = append(options, tenant.WithIdempotencyKey(key))
				}
				id := requireRecorded(t, ledger, tenant.ID("acme"), tenant.Actual{Cost: tenant.USD("0.02")}, options...)
				require.Eventually(t, func() bool { return faults.left() == 0 }, time.Minute, time.Millisecond, "the commit breaks")
				faults.setDown(false)
				require.Eventually(t, func() bool { return ledger.Pending().Bookings == 0 }, time.Minute, 5*time.Millisecond)
				rows := executionRows(t, db)
				require.Len(t, rows, 2)
				require.Equal(t, executionRow{ID: id, Status: "succeeded", IdempotencyKey: key, Cost: 2e7, Calls: 1}, rows[1])
				require.Equal(t, balance{SpentCost: 3e7, SpentCalls: 2}, balanceOf(t, db, "acme", "total"))
				requireConservation(t, db)
			})
		}
	}
}

// Two processes have the same result, and the one that was late finds it booked.
func TestRecord_ThatAnotherProcessHasBookedMeanwhileIsNotBookedAgain(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	db := openAt(t, postgres.Open(dsn))
	pool, faults := faultyPool(t, dsn)
	var log logged
	w := &witness{}
	ledger := openLedger(t, db, tenant.WithLaneDB(pool), shortly, tenant.WithObserver(w), log.option())
	other := openLedger(t, openAt(t, postgres.Open(dsn)), tenant.WithSettleWait(time.Minute))
	acme := tenant.ID("acme")
	makeCall(t, ledger, acme)
	faults.setDown(true)
	id := requireRecorded(t, ledger, acme, tenant.Actual{Cost: tenant.USD("0.02")}, tenant.WithIdempotencyKey("k"))
	booked, err := other.Record(t.Context(), acme, tenant.Actual{Cost: tenant.USD("0.02")}, tenant.WithIdempotencyKey("k"))
	require.NoError(t, err)
	require.Equal(t, tenant.Settled, booked.Outcome)
	faults.setDown(false)
	require.Eventually(t, func() bool { return ledger.Pending().Bookings == 0 }, time.Minute, 5*time.Millisecond)
	require.Eventually(t, func() bool { return len(pendingEvents(w, id)) == 2 }, time.Minute, time.Millisecond)
	require.True(t, pendingEvents(w, id)[1].Booked)
	require.Equal(t, 1, log.count("is on the books already, as another execution"))
	require.Equal(t, balance{SpentCost: 3e7, SpentCalls: 2}, balanceOf(t, db, "acme", "total"))
	requireConservation(t, db)
}

// What it was told Pending is not lost, though nobody is left to hear what is the matter with its tenant.
func TestRecord_OfATenantThatTurnsOutNotToBeOneIsBookedWithoutATenant(t *testing.T) {
	t.Parallel()
	db, ledger, faults := faultyLedger(t, shortly, tenant.WithKnownTenantsOnly())
	require.NoError(t, tenant.ConfigureBudget(t.Context(), db, tenant.ID("acme"), func(*tenant.Budget) error { return nil }))
	makeCall(t, ledger, tenant.ID("acme"))
	faults.setDown(true)
	id := requireRecorded(t, ledger, tenant.ID("amce"), tenant.Actual{Cost: tenant.USD("0.02")})
	faults.setDown(false)
	require.Eventually(t, func() bool { return ledger.Pending().Bookings == 0 }, time.Minute, 5*time.Millisecond)
	var of string
	require.NoError(t, db.Raw(`SELECT tenant_id FROM llm_executions WHERE id = ? AND cost = 20000000`, id).Scan(&of).Error)
	require.Empty(t, of)
	require.Len(t, executionRows(t, db), 2)
	requireConservation(t, db)
}

func TestRecord_SaysAtOnceWhatWouldBeTheSameTheNextTime(t *testing.T) {
	t.Parallel()
	waits := tenant.WithSettleWait(time.Minute) // none of them is Pending
	cost := tenant.Actual{Cost: tenant.USD("0.02")}
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		newOrganization(t, db, ledger, "acme", dollar)
		_, err := ledger.Record(t.Context(), tenant.ID("amce"), cost)
		require.ErrorIs(t, err, tenant.ErrUnknownTenant)
		_, err = ledger.Record(t.Context(), &Organization{ID: 99, Slug: "gone"}, cost)
		require.ErrorIs(t, err, tenant.ErrInvalidTenant)
		_, err = ledger.Record(t.Context(), &Organization{ID: 99, Slug: "acme"}, cost)
		require.ErrorIs(t, err, tenant.ErrInvalidTenant, "there is no such record")
		_, err = ledger.Record(t.Context(), nil, tenant.Actual{Usage: tenant.Usage{Input: -1}})
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		_, err = ledger.Record(t.Context(), nil, tenant.Actual{ErrorCode: "No Word"})
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		_, err = ledger.Record(t.Context(), nil, cost, tenant.WithIdempotencyKey("k"))
		require.NoError(t, err)
		_, err = ledger.Record(t.Context(), nil, cost, tenant.WithIdempotencyKey("k"))
		require.ErrorIs(t, err, tenant.ErrDuplicate)
		require.Zero(t, ledger.Pending())
		require.NoError(t, ledger.Close(t.Context()), "none of them is waited for")
		_, err = ledger.Record(t.Context(), nil, cost)
		require.ErrorIs(t, err, tenant.ErrClosed)
		require.Len(t, executionRows(t, db), 1)
	}, waits, tenant.WithKnownTenantsOnly())

	t.Run("missing tables", func(t *testing.T) {
		t.Parallel()
		ledger := openLedger(t, openAt(t, postgres.Open(pgtest.Empty(t))), waits)
		_, err := ledger.Record(t.Context(), tenant.ID("acme"), cost)
		require.ErrorIs(t, err, tenant.ErrNotMigrated)
		require.Zero(t, ledger.Pending())
	})
}

func TestRecord_ThatIsPendingIsNamedByClose(t *testing.T) {
	t.Parallel()
	for name, started := range map[string]bool{"lanes run": true, "lanes never ran": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, db := cluster(t)
			ledger, err := tenant.Open(db, shortly)
			require.NoError(t, err)
			if started {
				makeCall(t, ledger, tenant.ID("acme"))
			}
			server.Stop(pgtest.Immediate)
			used := tenant.Usage{Input: 7, Output: 9}
			first := requireRecorded(t, ledger, tenant.ID("acme"), tenant.Actual{Model: "m", Usage: used}, tenant.WithIdempotencyKey("k"))
			second := requireRecorded(t, ledger, nil, tenant.Actual{Model: "n"})
			_, err = ledger.Credit(t.Context(), tenant.ID("acme"), tenant.USD("1"), "an act that is told")
			require.ErrorIs(t, err, tenant.ErrUnavailable)

			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			var unsettled *tenant.UnsettledError
			require.ErrorAs(t, ledger.Close(ctx), &unsettled)
			require.ElementsMatch(t, []tenant.Unsettled{
				{TenantID: "acme", ExecutionID: first, IdempotencyKey: "k", Model: "m", Usage: used, Settling: true, Unbooked: true},
				{ExecutionID: second, Model: "n", Settling: true, Unbooked: true},
			}, unsettled.Unsettled)
		})
	}
}

func TestRecord_IsBookedByCloseWhenTheDatabaseIsBack(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger, err := tenant.Open(db, shortly)
	require.NoError(t, err)
	makeCall(t, ledger, tenant.ID("acme"))
	require.NoError(t, db.Exec(`ALTER TABLE llm_usage RENAME TO elsewhere`).Error)
	requireRecorded(t, ledger, tenant.ID("acme"), tenant.Actual{Cost: tenant.USD("0.02")})
	requireRecorded(t, ledger, tenant.ID("fresh"), tenant.Actual{Cost: tenant.USD("0.02")})
	closed := make(chan error, 1)
	go func() { closed <- ledger.Close(context.Background()) }()
	require.NoError(t, db.Exec(`ALTER TABLE elsewhere RENAME TO llm_usage`).Error)
	require.NoError(t, <-closed)
	require.EqualValues(t, 3e7, balanceOf(t, db, "acme", "total").SpentCost)
	require.EqualValues(t, 2e7, balanceOf(t, db, "fresh", "total").SpentCost)
	requireConservation(t, db)
}

// A tenant that the server does not let be made keeps no other waiting.
func TestRecord_OfATenantThatCannotBeMadeLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openLedger(t, db, shortly)
	require.NoError(t, db.Exec(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF NEW.tenant_id LIKE 'poison%' THEN RAISE EXCEPTION 'not this one'; END IF;
			RETURN NEW;
		END $$`).Error)
	require.NoError(t, db.Exec(`CREATE TRIGGER refuse BEFORE INSERT ON llm_tenants FOR EACH ROW EXECUTE FUNCTION refuse()`).Error)
	for i := range 3 {
		requireRecorded(t, ledger, tenant.ID(fmt.Sprintf("poison-%d", i)), tenant.Actual{Cost: tenant.USD("0.02")})
	}
	for i := range 3 {
		_, err := ledger.Record(t.Context(), tenant.ID(fmt.Sprintf("free-%d", i)), tenant.Actual{Cost: tenant.USD("0.02")})
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return ledger.Pending().Bookings == 3 }, time.Minute, 5*time.Millisecond, "the others are booked")
	require.ErrorContains(t, ledger.Pending().Err, "not this one")
	require.NoError(t, db.Exec(`DROP TRIGGER refuse ON llm_tenants`).Error)
	require.Eventually(t, func() bool { return ledger.Pending().Bookings == 0 }, time.Minute, 5*time.Millisecond)
	for i := range 3 {
		require.EqualValues(t, 2e7, balanceOf(t, db, fmt.Sprintf("poison-%d", i), "total").SpentCost)
		require.EqualValues(t, 2e7, balanceOf(t, db, fmt.Sprintf("free-%d", i), "total").SpentCost)
	}
	requireConservation(t, db)
}
