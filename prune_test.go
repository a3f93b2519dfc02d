package tenant_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/units"
)

// countRows is how many rows of a table there are.
func countRows(t testing.TB, db *gorm.DB, table string) (n int64) {
	t.Helper()
	require.NoError(t, db.Raw(`SELECT count(*) FROM `+table).Scan(&n).Error)
	return n
}

// yearOf is random calls of a year up to a time.
func yearOf(r *rand.Rand, until time.Time, n int) []past {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	calls := make([]past, n)
	for i := range calls {
		calls[i] = past{
			at: until.Add(-time.Duration(r.Int64N(int64(365 * 24 * time.Hour)))).Truncate(time.Microsecond), cost: r.Int64N(1e6), tokens: r.Int64N(1000),
			agent: pick("", "support"), model: pick("large", "small"), billed: pick("large-2026", "small-2026"),
			status: pick("succeeded", "succeeded", "failed", "abandoned"),
			usage:  tenant.Usage{Input: r.Int64N(100), Reasoning: r.Int64N(9), Units: units.Of(units.Pages, r.Int64N(3))},
		}
	}
	return calls
}

func TestPrune_LeavesEveryAnswerAsItWas(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		now := at(t, "2026-08-20T10:00:00Z")
		known(t, db, "acme", "globex")
		r := rand.New(rand.NewPCG(3, 4))
		for _, key := range []string{"", "acme", "globex"} {
			remember(t, db, key, yearOf(r, now, 200)...)
		}
		tenant.SetClock(ledger, now)
		ask := func() map[string]any {
			answers := map[string]any{}
			for _, who := range []tenant.Tenant{nil, acme, tenant.ID("globex")} {
				for _, zone := range []string{"Asia/Kathmandu", "America/Santiago", "Australia/Lord_Howe"} {
					loc, err := time.LoadLocation(zone)
					require.NoError(t, err)
					for _, p := range []tenant.Period{
						tenant.AllTime, tenant.ThisMonth.In(loc), tenant.Date(2025, 10, 5).Through(2026, 2, 11).In(loc),
						tenant.Between(at(t, "2025-12-24T17:15:00Z"), at(t, "2026-03-01T05:45:00Z")),
					} {
						name := fmt.Sprint(who, p, zone)
						cost, err := tenant.Cost(t.Context(), db, who, p)
						require.NoError(t, err)
						answers["cost "+name] = cost.String()
						answers["summary "+name], err = tenant.UsageSummary(t.Context(), db, who, p)
						require.NoError(t, err)
						for _, by := range []tenant.Group{tenant.ByDay, tenant.ByModel, tenant.ByProvider} {
							answers["usage "+name+string(by)], err = tenant.QueryUsage(t.Context(), db, tenant.Query{Tenant: who, Period: p, By: []tenant.Group{by}, TimeZone: zone})
							require.NoError(t, err)
						}
					}
				}
			}
			return answers
		}
		before, were := ask(), countRows(t, db, "llm_executions")
		rollUp := countRows(t, db, "llm_usage")
		differences, err := ledger.Verify(t.Context())
		require.NoError(t, err)
		require.Empty(t, differences)

		dry, err := ledger.Prune(t.Context(), at(t, "2026-05-20T10:07:00Z"), tenant.WithPruneDryRun())
		require.NoError(t, err)
		require.Equal(t, were, countRows(t, db, "llm_executions"))
		var told []tenant.PruneReport
		report, err := ledger.Prune(t.Context(), at(t, "2026-05-20T10:07:00Z"), tenant.WithPruneBatch(33), tenant.WithPruneProgress(func(r tenant.PruneReport) { told = append(told, r) }))
		require.NoError(t, err)
		require.Equal(t, at(t, "2026-05-20T10:00:00Z"), report.Before)
		require.False(t, report.More)
		require.Equal(t, dry.Executions, report.Executions)
		require.Len(t, told, int(report.Batches))
		require.Equal(t, report.Executions, told[len(told)-1].Executions)
		require.Greater(t, report.Executions, int64(200))
		require.Equal(t, were-report.Executions, countRows(t, db, "llm_executions"))
		require.Equal(t, rollUp, countRows(t, db, "llm_usage"))

		for name, answer := range ask() {
			require.Equal(t, before[name], answer, name)
		}
		for range 2 {
			differences, err = ledger.Verify(t.Context())
			require.NoError(t, err)
			require.Empty(t, differences)
			// Repair makes the same roll-up of what is left.
			require.NoError(t, db.Exec(`UPDATE llm_usage SET cost = cost + 1`).Error)
			_, err = ledger.Repair(t.Context())
			require.NoError(t, err)
		}
		for name, answer := range ask() {
			require.Equal(t, before[name], answer, name)
		}

		for name, q := range map[string]tenant.Query{
			"can begin and end there with a quarter of an hour only": {Tenant: acme, Period: tenant.Between(at(t, "2025-08-01T00:00:00Z"), cut(t, db, acme))},
			"nobody knows any more who acted":                        {Tenant: acme, Period: tenant.AllTime, By: []tenant.Group{tenant.ByActor}},
			`what their tag "feature" was`:                           {Everybody: true, Period: tenant.AllTime, By: []tenant.Group{tenant.ByTag("feature")}},
		} {
			_, err := tenant.QueryUsage(t.Context(), db, q)
			require.ErrorIs(t, err, tenant.ErrPruned)
			require.ErrorContains(t, err, name)
		}
		_, err = tenant.Cost(t.Context(), db, acme, tenant.Between(cut(t, db, acme), now))
		require.ErrorIs(t, err, tenant.ErrPruned)
		_, err = tenant.UsageSummary(t.Context(), db, acme, tenant.Between(cut(t, db, acme), now))
		require.ErrorIs(t, err, tenant.ErrPruned)

		again, err := ledger.Prune(t.Context(), at(t, "2026-05-20T10:07:00Z"))
		require.NoError(t, err)
		require.Zero(t, again.Executions)
	})
}

// cut is a time within the first quarter of an hour whose calls of a tenant were pruned.
func cut(t testing.TB, db *gorm.DB, id tenant.ID) (when time.Time) {
	t.Helper()
	var first string
	format := "to_char(min(p.admitted_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')"
	if db.Name() == "sqlite" {
		format = "substr(min(p.admitted_at), 1, 19)"
	}
	require.NoError(t, db.Raw(`SELECT `+format+` FROM llm_pruned p JOIN llm_tenants t ON t.id = p.tenant WHERE t.tenant_id = ?`, string(id)).Scan(&first).Error)
	when, err := time.Parse(time.DateTime, first)
	require.NoError(t, err)
	return when.Add(7 * time.Minute)
}

func TestPrune_KeepsWhatIsStillNeeded(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		known(t, db, "acme")
		now := at(t, "2026-08-20T10:00:00Z")
		tenant.SetClock(ledger, now)
		old := at(t, "2026-03-01T12:00:00Z")
		for name, status := range map[string]string{
			"plain": "succeeded", "running": "running", "corrected lately": "succeeded", "corrected": "succeeded", "lost": "abandoned", "lost lately": "abandoned", "released": "cancelled",
		} {
			remember(t, db, "acme", past{at: old, cost: 5, agent: name, status: status})
		}
		remember(t, db, "acme", past{at: at(t, "2026-08-01T00:00:00Z"), cost: 7, agent: "this month"}, past{at: at(t, "2026-07-31T09:00:00Z"), cost: 7, agent: "this month in Kiritimati"})
		d := dialectOf(db)
		end := func(agent string, finished time.Time) {
			require.NoError(t, db.Exec(`UPDATE llm_executions SET finished_at = ?, settled_at = NULL WHERE agent = ?`, d.Time(finished), agent).Error)
		}
		end("lost", old.AddDate(0, 0, 1))
		end("lost lately", now.AddDate(0, 0, -29))
		correct := func(agent string, booked time.Time) {
			remember(t, db, "acme", past{at: old, cost: 1, agent: "of " + agent, status: "adjusted"})
			require.NoError(t, db.Exec(`UPDATE llm_executions SET finished_at = ?, calls = 0,
				corrects = (SELECT e.id FROM llm_executions e WHERE e.agent = ?) WHERE agent = ?`, d.Time(booked), agent, "of "+agent).Error)
		}
		correct("corrected", old.AddDate(0, 1, 0))
		correct("corrected lately", now.AddDate(0, 0, -3))
		// Its id says when it was made.
		require.NoError(t, db.Exec(`UPDATE llm_executions SET id = '019ca000-0000-7000-8000-000000000000' WHERE agent = 'released'`).Error)

		left := func() (agents []string) {
			require.NoError(t, db.Raw(`SELECT agent FROM llm_executions ORDER BY agent`).Scan(&agents).Error)
			return agents
		}
		all := left()
		for name, bad := range map[string]func() (tenant.PruneReport, error){
			"is to come":           func() (tenant.PruneReport, error) { return ledger.Prune(t.Context(), now.Add(time.Hour)) },
			"to go is zero":        func() (tenant.PruneReport, error) { return ledger.Prune(t.Context(), time.Time{}) },
			"WithPruneTime: 0s":    func() (tenant.PruneReport, error) { return ledger.Prune(t.Context(), old, tenant.WithPruneTime(0)) },
			"WithPruneBatch: 0 is": func() (tenant.PruneReport, error) { return ledger.Prune(t.Context(), old, tenant.WithPruneBatch(0)) },
			"WithPruneBatch: 10001": func() (tenant.PruneReport, error) {
				return ledger.Prune(t.Context(), old, tenant.WithPruneBatch(10_001))
			},
			"the function is nil": func() (tenant.PruneReport, error) {
				return ledger.Prune(t.Context(), old, tenant.WithPruneProgress(nil))
			},
		} {
			_, err := bad()
			require.ErrorIs(t, err, tenant.ErrInvalidOption, name)
			require.ErrorContains(t, err, name)
		}
		report, err := ledger.Prune(t.Context(), now, tenant.WithPruneTime(time.Nanosecond))
		require.NoError(t, err)
		require.True(t, report.More, "the time was over before the first batch")
		require.Equal(t, all, left())

		dry, err := ledger.Prune(t.Context(), now, tenant.WithPruneDryRun())
		require.NoError(t, err)
		require.Equal(t, all, left())
		report, err = ledger.Prune(t.Context(), now, tenant.WithPruneBatch(2), tenant.WithPruneTime(time.Hour))
		require.NoError(t, err)
		require.Equal(t, []any{dry.Before, dry.Executions}, []any{report.Before, report.Executions}, "the dry run said so")
		require.False(t, report.More)
		require.Equal(t, at(t, "2026-07-31T10:00:00Z"), report.Before, "a month that begins in Kiritimati is open")
		require.Equal(t, []string{"corrected lately", "lost lately", "of corrected lately", "running", "this month"}, left())
	})
}

// Round after round of old calls leaves beside live ones, and the rows of each take the space of those before: without that, the
// table would be as large as all of them. A vacuum is what PostgreSQL does by itself now and then.
func TestPrune_LeavesTheSpaceToLaterCalls(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		const old, live, rounds = 1500, 20, 6
		postgres := db.Name() == "postgres"
		size := func() (n int64) {
			t.Helper()
			// Without what other tables have, such as the keys of what was imported, which stay.
			statement := `SELECT page_count - (SELECT count(*) FROM dbstat WHERE name NOT LIKE '%llm_executions%') FROM pragma_page_count()`
			if postgres {
				statement = `SELECT pg_total_relation_size('llm_executions')`
			}
			require.NoError(t, db.Raw(statement).Scan(&n).Error)
			return n
		}
		when := time.Now().AddDate(0, -3, 0)
		var second, last int64
		for round := range rounds {
			calls := ago(old, "acme", "globex")
			for i := range calls {
				calls[i].ID, calls[i].At = fmt.Sprint(round, " ", i), when.Add(time.Duration(round)*12*time.Hour+time.Duration(i)*time.Second)
			}
			_, err := ledger.Import(t.Context(), "s", each(calls...))
			require.NoError(t, err)
			var wg sync.WaitGroup
			wg.Go(func() {
				for range live {
					if !assertNoError(t, call(t, ledger, acme, "0.01")) {
						return
					}
				}
			})
			report, err := ledger.Prune(t.Context(), time.Now().AddDate(0, -2, 0), tenant.WithPruneBatch(500))
			wg.Wait()
			require.NoError(t, err)
			require.EqualValues(t, old, report.Executions)
			if postgres {
				require.NoError(t, db.Exec(`VACUUM llm_executions`).Error)
			}
			if last = size(); round == 1 {
				second = last
			}
		}
		t.Logf("after two rounds %d, at the end %d", second, last)
		require.Less(t, last, 2*second, "it is three times as large where nothing is used again")
		// One that was taken back, because the machine was busy, is no call that was made.
		require.EqualValues(t, rounds*live, countRows(t, db, "llm_executions WHERE status = 'succeeded'"))
		differences, err := ledger.Verify(t.Context())
		require.NoError(t, err)
		require.Empty(t, differences)
	})
}

func ExampleLedger_Prune() {
	ctx := context.Background()
	db, ledger, end := openBooks()
	defer end()
	old := tenant.ImportedCall{
		ID: "1", Tenant: tenant.ID("acme"), At: time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC),
		Actual: tenant.Actual{Provider: "openai", Model: "gpt-5", Cost: tenant.USD("0.25")},
	}
	if _, err := ledger.Import(ctx, "old-gateway", each(old)); err != nil {
		fmt.Println(err)
	}

	report, err := ledger.Prune(ctx, time.Now().AddDate(0, -13, 0), tenant.WithPruneTime(10*time.Minute))
	fmt.Println(report.Executions, "left,", err)
	cost, err := tenant.Cost(ctx, db, tenant.ID("acme"), tenant.Date(2024, 3, 1))
	fmt.Println(cost, "is what that day has cost,", err)

	// Output:
	// 1 left, <nil>
	// 0.25 is what that day has cost, <nil>
}
