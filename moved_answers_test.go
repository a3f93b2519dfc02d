package tenant_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
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

// allAnswers are those of random questions, of lists and of exports. Rows that are as large as others are in any order, so that the lines
// of each answer are put into one.
func allAnswers(t *testing.T, db *gorm.DB, start time.Time, questions []tenant.Query, lists []tenant.ExecutionQuery) map[string]string {
	t.Helper()
	found := map[string]string{}
	sorted := func(lines []string) string {
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}
	for i, q := range questions {
		answer, err := tenant.QueryUsage(t.Context(), db, q)
		require.NoError(t, err, "%+v", q)
		lines := []string{fmt.Sprintf("%+v", answer.Total)}
		for _, row := range answer.Rows {
			lines = append(lines, fmt.Sprintf("%q %+v", row.Keys, row.Measures))
		}
		found[fmt.Sprintf("%d: %+v", i, q)] = sorted(lines)
	}
	for i, list := range lists {
		var lines []string
		for e, err := range tenant.ListExecutions(t.Context(), db, list) {
			require.NoError(t, err)
			lines = append(lines, fmt.Sprint(e.ID, e.Status, e.CostNano, e.Tokens, e.Agent, e.AdmittedAt, e.Tags))
		}
		found[fmt.Sprintf("%d: %+v", i, list)] = strings.Join(lines, "\n")
	}
	for _, who := range []tenant.ID{"company", "acme", "globex"} {
		for name, p := range map[string]tenant.Period{"ever": tenant.AllTime, "today": tenant.Today, "month": tenant.ThisMonth} {
			found[fmt.Sprint("spent ", who, name)] = fmt.Sprint(ask(t, db, who, p))
			cost, err := tenant.Cost(t.Context(), db, who, p, tenant.WithDescendants())
			require.NoError(t, err)
			found[fmt.Sprint("below ", who, name)] = cost.String()
		}
		budget, err := tenant.BudgetFor(t.Context(), db, who)
		require.NoError(t, err)
		found["budget "+string(who)] = fmt.Sprintf("%+v", budget)
	}
	var focus bytes.Buffer
	_, err := tenant.Export(t.Context(), db, &focus, tenant.CSV(), tenant.FOCUS{Everybody: true, Period: tenant.Between(start, start.AddDate(0, 0, 49)), BillingAccountID: "a"})
	require.NoError(t, err)
	found["FOCUS"] = sorted(strings.Split(focus.String(), "\n"))
	running, err := tenant.Running(t.Context(), db)
	require.NoError(t, err)
	found["running"] = fmt.Sprint(running)
	return found
}

// A tenant that goes from a place that is looked at last to one that has been looked at is looked at all the same.
func TestVerify_LooksAtWhoeverIsMovedMeanwhile(t *testing.T) {
	t.Parallel()
	db, ledger, _, _ := twoProcesses(t)
	for _, id := range []tenant.ID{"globex", "acme", "initech"} {
		require.NoError(t, call(t, ledger, id, "0.5"))
	}
	for _, repairs := range []bool{false, true} {
		insist(t, ledger, acme, "west")
		require.NoError(t, db.Exec(`UPDATE llm_balances SET spent_calls = 7 WHERE tenant = (SELECT id FROM llm_tenants WHERE tenant_id = 'acme')`).Error)
		var once sync.Once
		told := tenant.WithVerifyProgress(func(tenant.VerifyReport) { once.Do(func() { insist(t, ledger, acme, "") }) })
		run := ledger.Verify
		if repairs {
			run = ledger.Repair
		}
		found, err := run(t.Context(), told)
		require.NoError(t, err)
		require.Len(t, found, 1, "repairs %t", repairs)
		require.Equal(t, "spent_calls", found[0].Column)
	}
	found, err := ledger.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, found, "it is mended where it is")
}

func TestVerify_FindsNothingWrongWhileTenantsAreMoved(t *testing.T) {
	t.Parallel()
	db, ledger, other, _ := twoProcesses(t)
	ids := []tenant.ID{"acme", "globex", "initech"}
	for _, id := range ids {
		place(t, db, id, "", "100")
		remember(t, db, string(id), yearOf(rand.New(rand.NewPCG(4, uint64(len(id)))), time.Now().Add(-time.Hour), 20)...)
		require.NoError(t, call(t, ledger, id, "0.5"))
		require.NoError(t, call(t, other, id, "0.5"))
	}
	_, err := ledger.Repair(t.Context()) // remember does not know of windows that no call has opened
	require.NoError(t, err)
	require.NoError(t, ledger.RollUp(t.Context()))
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(over)
		for n := range 12 {
			insist(t, ledger, ids[n%3], moves[(n/3+n)%3])
			if _, err := ledger.Record(context.Background(), ids[n%3], tenant.Actual{Cost: tenant.USD("0.01")}); err != nil {
				t.Errorf("record: %v", err)
			}
			if err := ledger.RollUp(context.Background()); err != nil {
				t.Errorf("roll up: %v", err)
			}
		}
	})
	for going := true; going; {
		select {
		case <-over:
			going = false
		default:
		}
		found, err := other.Verify(t.Context())
		require.NoError(t, err)
		require.Empty(t, found)
	}
	wg.Wait()
}

// What was booked before there were places is answered as it was, wherever it is moved to.
func TestMove_LeavesEveryAnswerAsItWas(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	db := openAt(t, postgres.Open(dsn))
	ledger := openLedger(t, db, tenant.WithRollupTags("feature"))
	_, start := randomBooks(t, db, ledger)
	require.NoError(t, ledger.RollUp(t.Context()))
	var (
		r         = rand.New(rand.NewPCG(1, 3))
		questions []tenant.Query
		lists     []tenant.ExecutionQuery
	)
	for range 60 {
		q, _ := randomQuestion(r, start)
		list, _ := randomList(r, start)
		questions, lists = append(questions, q), append(lists, list)
	}
	before := allAnswers(t, db, start, questions, lists)
	require.NoError(t, ledger.Close(t.Context()))

	db = openAt(t, postgres.Open(dsn))
	ledger = openPlaces(t, db, eastAndWest, tenant.WithRollupTags("feature"))
	tenant.SetClock(ledger, start.AddDate(0, 0, 50))
	same := func(when string) {
		t.Helper()
		after := allAnswers(t, db, start, questions, lists)
		for name, answer := range before {
			require.Equal(t, answer, after[name], "%s, %s", name, when)
		}
		differences, err := ledger.Verify(t.Context())
		require.NoError(t, err)
		require.Empty(t, differences, when)
	}
	same("all are in the home")
	// What runs is of processes that are gone long since, and is known in the places as it was in the home.
	for _, place := range []string{"public", "east", "west"} {
		require.NoError(t, db.Exec(`INSERT INTO `+place+`.llm_processes (id, started_at, beat_at, lease_ms)
			SELECT DISTINCT process, now(), now(), 600000 FROM llm_executions WHERE status = 'running'`).Error)
	}
	moved, err := ledger.Move(t.Context(), tenant.ID("company"), "east")
	require.NoError(t, err)
	require.Equal(t, []string{"acme", "company"}, moved.Tenants)
	same("two are in another place")
	_, err = ledger.Move(t.Context(), tenant.ID("globex"), "west")
	require.NoError(t, err)
	same("nobody is in the home")
	require.NoError(t, ledger.RollUp(t.Context()))
	same("it is rolled up where it is")
	tenant.SetClock(ledger, time.Now()) // months are those of the ids
	require.NoError(t, ledger.Partition(t.Context()))
	tenant.SetClock(ledger, start.AddDate(0, 0, 50))
	for _, place := range []string{"public", "east", "west"} {
		var kind string
		require.NoError(t, db.Raw(`SELECT relkind FROM pg_class WHERE oid = CAST(? AS regclass)`, place+".llm_executions").Scan(&kind).Error)
		require.Equal(t, "p", kind, "the executions of %s are kept by month", place)
	}
	same("it is kept by month")
	_, err = ledger.Move(t.Context(), tenant.ID("globex"), "")
	require.NoError(t, err)
	_, err = ledger.Move(t.Context(), tenant.ID("company"), "west")
	require.NoError(t, err)
	same("some are back")
}
