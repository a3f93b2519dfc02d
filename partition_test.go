package tenant_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// idOf is an id as a process makes it at a time.
func idOf(when time.Time) uuid.UUID {
	id := uuid.Must(uuid.NewV7())
	for i := range 6 {
		id[i] = byte(when.UnixMilli() >> (8 * (5 - i)))
	}
	return id
}

// inPartition is how many executions each partition holds.
func inPartition(t testing.TB, db *gorm.DB) map[string]int64 {
	t.Helper()
	var rows []struct {
		Name string
		N    int64
	}
	require.NoError(t, db.Raw(`SELECT c.relname AS name, count(e.id) AS n FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		LEFT JOIN llm_executions e ON e.tableoid = c.oid WHERE i.inhparent = 'llm_executions'::regclass GROUP BY 1`).Scan(&rows).Error)
	found := map[string]int64{}
	for _, r := range rows {
		found[r.Name] = r.N
	}
	return found
}

// The table is taken apart beside calls; no call is lost, the books agree, and what is asked is answered as before.
func TestPartition_BesideCalls(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openLedger(t, db)
	require.NoError(t, call(t, ledger, acme, "1"))
	running, err := ledger.Reserve(t.Context(), acme, tenant.Estimate{Cost: tenant.USD("1")})
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 25 {
				if !assertNoError(t, call(t, ledger, acme, "1")) {
					return
				}
			}
		})
	}
	require.NoError(t, ledger.Partition(t.Context()))
	require.NoError(t, ledger.Partition(t.Context()), "it is done already")
	wg.Wait()
	_, err = ledger.Settle(t.Context(), running, tenant.Actual{Cost: tenant.USD("1")})
	require.NoError(t, err)
	require.Equal(t, "102", costToday(t, db, acme))
	held := inPartition(t, db)
	require.EqualValues(t, 102, held["llm_executions_past"])
	require.Len(t, held, 4, "what was there, two months ahead, and what comes after them")
	requireVerified(t, db, ledger)
}

func assertNoError(t testing.TB, err error) bool {
	if err != nil {
		t.Error(err)
	}
	return err == nil
}

// Calls of processes whose clocks are months ahead are caught, are settled where they lie, and are moved into their month when that is
// made; a month that was pruned is dropped.
func TestPartition_CatchesMakesAndDropsMonths(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openLedger(t, db)
	require.NoError(t, ledger.Partition(t.Context()))
	now := time.Now().UTC()
	month := func(n int) time.Time {
		return time.Date(now.Year(), now.Month()+time.Month(n), 15, 0, 0, 0, 0, time.UTC)
	}
	var holds []*tenant.Hold
	for n := range 7 {
		hold, err := ledger.Reserve(t.Context(), acme, tenant.Estimate{Cost: tenant.USD("1")})
		require.NoError(t, err)
		if n > 0 { // as if another process had made it
			id := idOf(month(n))
			require.NoError(t, db.Exec(`UPDATE llm_executions SET id = ? WHERE id = ?`, id, hold.ExecutionID).Error)
			tenant.SetExecutionID(hold, id)
		}
		holds = append(holds, hold)
	}
	held := inPartition(t, db)
	require.Positive(t, held["llm_executions_later"], "%v", held)
	for _, hold := range holds {
		s, err := ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.5")})
		require.NoError(t, err)
		require.Equal(t, tenant.Settled, s.Outcome)
	}
	require.Equal(t, "3.5", costToday(t, db, acme))
	requireVerified(t, db, ledger)

	// As if nobody had made the last month in time: what was made in it is caught, and moved when the month is made.
	var months []string
	for name := range inPartition(t, db) {
		if _, err := time.Parse("llm_executions_2006_01", name); err == nil {
			months = append(months, name)
		}
	}
	slices.Sort(months)
	last, err := time.Parse("llm_executions_2006_01", months[len(months)-1])
	require.NoError(t, err)
	bound := func(when time.Time) string {
		id := idOf(when).String()
		return "'" + id[:13] + "-0000-0000-000000000000'"
	}
	in := held[months[len(months)-1]]
	for _, statement := range []string{
		`CREATE TABLE moved AS SELECT * FROM ` + months[len(months)-1], `DROP TABLE ` + months[len(months)-1],
		`ALTER TABLE llm_executions DETACH PARTITION llm_executions_later`,
		`ALTER TABLE llm_executions ATTACH PARTITION llm_executions_later FOR VALUES FROM (` + bound(last) + `) TO (MAXVALUE)`,
		`INSERT INTO llm_executions SELECT * FROM moved`, `DROP TABLE moved`,
	} {
		require.NoError(t, db.Exec(statement).Error, statement)
	}
	require.Equal(t, held["llm_executions_later"]+in, inPartition(t, db)["llm_executions_later"])
	require.NoError(t, ledger.Partition(t.Context()))
	require.Equal(t, held, inPartition(t, db))
	requireVerified(t, db, ledger)

	// A month of long ago, in the place of what was there before.
	require.NoError(t, db.Exec(`UPDATE llm_executions SET admitted_at = admitted_at - interval '400 days', finished_at = finished_at - interval '400 days',
		settled_at = settled_at - interval '400 days'`).Error)
	old := month(-13)
	first := time.Date(old.Year(), old.Month(), 1, 0, 0, 0, 0, time.UTC)
	gone := "llm_executions" + first.Format("_2006_01")
	for _, statement := range []string{
		`CREATE TABLE moved AS SELECT * FROM llm_executions_past`, `DROP TABLE llm_executions_past`,
		`CREATE TABLE ` + gone + ` PARTITION OF llm_executions FOR VALUES FROM (` + bound(first) + `) TO (` + bound(first.AddDate(0, 1, 0)) + `)`,
		`UPDATE moved SET id = CAST(overlay(CAST(id AS text) placing '` + idOf(old).String()[:13] + `' from 1) AS uuid)`, `INSERT INTO llm_executions SELECT * FROM moved`,
	} {
		require.NoError(t, db.Exec(statement).Error, statement)
	}
	require.Equal(t, held["llm_executions_past"], inPartition(t, db)[gone])
	report, err := ledger.Prune(t.Context(), now.Add(-100*24*time.Hour))
	require.NoError(t, err)
	require.EqualValues(t, 7, report.Executions)
	require.NotContains(t, inPartition(t, db), gone)
	require.Contains(t, inPartition(t, db), months[0], "a month to come stays, although it is empty")
}

// A role that may not create tables works on; months that another one has made are used.
func TestPartition_ARoleThatMayNotCreateTablesWorks(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	owner := openLedger(t, db)
	role := "app_" + uuid.NewString()[:8]
	for _, statement := range []string{
		`CREATE ROLE ` + role + ` LOGIN`, `GRANT USAGE ON SCHEMA public TO ` + role,
		`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO ` + role,
	} {
		require.NoError(t, db.Exec(statement).Error)
	}
	t.Cleanup(func() {
		require.NoError(t, db.WithContext(context.Background()).Exec(`DROP OWNED BY `+role).Error)
		require.NoError(t, db.WithContext(context.Background()).Exec(`DROP ROLE `+role).Error)
	})
	require.NoError(t, owner.Partition(t.Context()))
	require.NoError(t, db.Transaction(func(tx *gorm.DB) error {
		if err := tx.Exec(`SET LOCAL ROLE ` + role).Error; err != nil {
			return err
		}
		var n int64
		if err := tx.Raw(`SELECT count(*) FROM llm_executions`).Scan(&n).Error; err != nil {
			return err
		}
		return tx.Exec(fmt.Sprintf(`INSERT INTO llm_executions (tenant, id, tenant_id, status, process, admitted_at, deadline_at)
			VALUES ('%s', '%s', '', 'cancelled', '%[1]s', now(), now())`, uuid.Nil, idOf(time.Now().AddDate(1, 0, 0)))).Error
	}), "it may use the new table as it did the old one")
	require.EqualValues(t, 1, inPartition(t, db)["llm_executions_later"])
}

func TestPartition_IsNotForSQLite(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "sqlite")
	require.ErrorIs(t, openLedger(t, db).Partition(t.Context()), tenant.ErrInvalidOption)
}
