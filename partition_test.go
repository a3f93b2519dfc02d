package tenant_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
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

// keptByMonth has executions lie in partitions of months long ago, as if they had been kept by month since then: some calls of a tenant in each.
func keptByMonth(t testing.TB, db *gorm.DB, ledger *tenant.Ledger, who tenant.Tenant, months, calls int) (names []string) {
	t.Helper()
	first := time.Now().UTC().AddDate(-2, 0, 0)
	month := func(n int) time.Time {
		return time.Date(first.Year(), first.Month()+time.Month(n), 1, 0, 0, 0, 0, time.UTC)
	}
	bound := func(when time.Time) string { return "'" + idOf(when).String()[:13] + "-0000-0000-000000000000'" }
	_, err := ledger.Import(t.Context(), "old-gateway", func(yield func(tenant.ImportedCall, error) bool) {
		for i := range months * calls {
			at := month(i%months).AddDate(0, 0, 10).Add(time.Duration(i) * time.Minute)
			if !yield(tenant.ImportedCall{ID: fmt.Sprint(i), Tenant: who, At: at, Actual: tenant.Actual{Cost: tenant.USD("1")}}, nil) {
				return
			}
		}
	})
	require.NoError(t, err)
	require.NoError(t, ledger.Partition(t.Context()))
	var until string
	require.NoError(t, db.Raw(`SELECT substring(pg_get_expr(relpartbound, oid) from 'TO \((.*)\)$') FROM pg_class WHERE relname = 'llm_executions_past'`).Scan(&until).Error)
	statements := []string{
		`ALTER TABLE llm_executions DETACH PARTITION llm_executions_past`, `ALTER TABLE llm_executions_past RENAME TO moved`,
	}
	for n := range months + 1 {
		name, to := "llm_executions"+month(n).Format("_2006_01"), bound(month(n+1))
		if n == months { // what came after them
			to = until
		} else {
			names = append(names, name)
			statements = append(statements, fmt.Sprintf(`UPDATE moved SET id = CAST(overlay(CAST(id AS text) placing '%s' from 1) AS uuid) WHERE admitted_at >= '%s' AND admitted_at < '%s'`,
				idOf(month(n).AddDate(0, 0, 10)).String()[:13], month(n).Format(time.RFC3339), month(n+1).Format(time.RFC3339)))
		}
		statements = append(statements, `CREATE TABLE `+name+` PARTITION OF llm_executions FOR VALUES FROM (`+bound(month(n))+`) TO (`+to+`)`)
	}
	statements = append(statements, `INSERT INTO llm_executions SELECT * FROM moved`, `DROP TABLE moved`,
		`UPDATE llm_idempotency k SET execution = e.id FROM llm_executions e WHERE e.tenant = k.tenant AND e.idempotency_key = k.key`)
	for _, statement := range statements {
		require.NoError(t, db.Exec(statement).Error, statement)
	}
	return names
}

// Months leave while calls go on. Calls wait behind that for as long as a lock is waited for, and not for as long as somebody reads, who
// keeps the months from leaving.
func TestPartition_MonthsLeaveBesideCalls(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openLedger(t, db)
	const months, calls = 3, 200
	names := keptByMonth(t, db, ledger, acme, months, calls)
	for _, name := range names {
		require.EqualValues(t, calls, inPartition(t, db)[name])
	}
	requireVerified(t, db, ledger)

	reader := db.Begin()
	require.NoError(t, reader.Error)
	defer reader.Rollback()
	var n int64
	require.NoError(t, reader.Raw(`SELECT count(*) FROM llm_executions`).Scan(&n).Error)
	require.EqualValues(t, months*calls, n)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var (
		wg      sync.WaitGroup
		made    atomic.Int64
		longest atomic.Int64
	)
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				start := time.Now()
				if !assertNoError(t, call(t, ledger, acme, "1")) {
					return
				}
				made.Add(1)
				for took := int64(time.Since(start)); took > longest.Load(); {
					longest.Store(took)
				}
			}
		})
	}
	before := time.Now().AddDate(0, 0, -100)
	report, err := ledger.Prune(t.Context(), before)
	require.NoError(t, err)
	require.EqualValues(t, months*calls, report.Executions)
	require.True(t, report.More, "the reader keeps the months")
	for _, name := range names {
		require.Contains(t, inPartition(t, db), name)
	}
	beside := made.Load()
	require.Positive(t, beside, "calls are made meanwhile")

	require.NoError(t, reader.Rollback().Error)
	require.Eventually(t, func() bool { // who looks at the partitions may be in the way
		report, err = ledger.Prune(t.Context(), before)
		require.NoError(t, err)
		return !report.More
	}, time.Minute, time.Millisecond)
	require.Zero(t, report.Executions)
	for _, name := range names {
		require.NotContains(t, inPartition(t, db), name)
	}
	require.Eventually(t, func() bool { return made.Load() > beside }, time.Minute, time.Millisecond)
	stop()
	wg.Wait()
	t.Logf("%d calls; the longest took %v", made.Load(), time.Duration(longest.Load()))

	count, err := tenant.ExecutionCount(t.Context(), db, acme, tenant.AllTime)
	require.NoError(t, err)
	require.Equal(t, months*calls+made.Load(), count)
	differences, err := ledger.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, differences)
}

// What a role does not own it cannot drop: it prunes all the same.
func TestPartition_ARoleThatDoesNotOwnTheTablePrunes(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	db := openAt(t, postgres.Open(dsn))
	owner := openLedger(t, db)
	names := keptByMonth(t, db, owner, acme, 2, 20)
	require.NoError(t, owner.Close(t.Context()))
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
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	config.RuntimeParams["role"] = role
	app := openAt(t, postgres.New(postgres.Config{Conn: stdlib.OpenDB(*config)}))
	ledger := openLedger(t, app)
	report, err := ledger.Prune(t.Context(), time.Now().AddDate(0, 0, -100))
	require.NoError(t, err)
	require.EqualValues(t, 40, report.Executions)
	require.False(t, report.More)
	for _, name := range names {
		require.Contains(t, inPartition(t, db), name)
	}
	differences, err := ledger.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, differences)
}
