package tenant_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// each is a sequence of calls.
func each(calls ...tenant.ImportedCall) iter.Seq2[tenant.ImportedCall, error] {
	return func(yield func(tenant.ImportedCall, error) bool) {
		for _, c := range calls {
			if !yield(c, nil) {
				return
			}
		}
	}
}

// ago is calls of some tenants, each a minute before the one before it, of 1,000 nano-dollars each.
func ago(n int, of ...string) (calls []tenant.ImportedCall) {
	now := time.Now()
	for i := range n {
		calls = append(calls, tenant.ImportedCall{
			ID: fmt.Sprint("call ", i), Tenant: tenant.ID(of[i%len(of)]), At: now.Add(-time.Duration(i) * time.Minute), Agent: "support",
			Actual: tenant.Actual{Provider: "openai", Model: "m", Cost: tenant.USD("0.000001"), Usage: tenant.Usage{Input: 3, Output: 4}, Duration: 2 * time.Second},
		})
	}
	return calls
}

func TestImport_BooksEachCallOnceInItsOwnTime(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		place(t, db, "company", "", "")
		place(t, db, "acme", "company", "")
		const n = 3000 // two days and two hours
		calls := ago(n, "acme", "globex")
		var told []tenant.ImportReport
		report, err := ledger.Import(t.Context(), "gateway", each(calls...), tenant.WithImportProgress(func(r tenant.ImportReport) { told = append(told, r) }))
		require.NoError(t, err)
		require.Equal(t, tenant.ImportReport{Booked: n}, report)
		require.Len(t, told, 4, "after each thousand, and at the end")
		requireVerified(t, db, ledger)

		total, err := tenant.Cost(t.Context(), db, tenant.ID("company"), tenant.AllTime, tenant.WithDescendants())
		require.NoError(t, err)
		require.Equal(t, "0.0015", total.String())
		for _, who := range []tenant.ID{"acme", "globex"} {
			var cost int64
			for _, c := range calls {
				if c.Tenant == who && c.At.UTC().Format(time.DateOnly) == time.Now().UTC().Format(time.DateOnly) {
					cost += 1000
				}
			}
			today, err := tenant.CostToday(t.Context(), db, who)
			require.NoError(t, err)
			require.InDelta(t, cost, today.Shift(9).IntPart(), 1000*2, "those of today, at midnight too")
		}
		var first tenant.Execution
		require.NoError(t, tenant.Executions(t.Context(), db, tenant.ID("acme")).Order("id").First(&first).Error)
		made := calls[n-2].At.UTC()
		admitted := made.Truncate(time.Microsecond)
		if admitted.Before(made) {
			admitted = admitted.Add(time.Microsecond)
		}
		require.Equal(t, admitted, first.AdmittedAt.UTC(), "ids tell the time of the call")
		require.Equal(t, first.AdmittedAt.Add(2*time.Second), *first.FinishedAt)
		require.Equal(t, "import:gateway:"+calls[n-2].ID, first.IdempotencyKey)

		calls[0].Agent = "another" // whatever else it says
		again, err := ledger.Import(t.Context(), "gateway", each(append(calls, tenant.ImportedCall{ID: "call 1", Tenant: tenant.ID("acme"), At: time.Now()})...))
		require.NoError(t, err)
		require.Equal(t, tenant.ImportReport{Booked: 1, Duplicates: n}, again, "the ID is the tenant's")
		other, err := ledger.Import(t.Context(), "another gateway", each(calls[:5]...))
		require.NoError(t, err)
		require.EqualValues(t, 5, other.Booked)
		requireVerified(t, db, ledger)
	})
}

func TestImport_DryRunCountsAndWritesNothing(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		calls := ago(1200, "acme", "globex")
		_, err := ledger.Import(t.Context(), "gateway", each(calls[:700]...))
		require.NoError(t, err)
		calls = append(calls, tenant.ImportedCall{ID: "unpriced", Tenant: tenant.ID("initech"), At: time.Now(), Actual: tenant.Actual{Model: "m", Usage: tenant.Usage{Input: 1}}})
		dry, err := ledger.Import(t.Context(), "gateway", each(calls...), tenant.WithImportDryRun())
		require.NoError(t, err)
		require.Equal(t, tenant.ImportReport{Booked: 501, Duplicates: 700, Unpriced: 1}, dry)
		require.Len(t, executions(t, db), 700)
		_, err = tenant.BudgetFor(t.Context(), db, tenant.ID("initech"))
		require.ErrorIs(t, err, tenant.ErrNoBudget)
		calls[5].At = time.Now().AddDate(0, 0, 9)
		_, err = ledger.Import(t.Context(), "gateway", each(calls...), tenant.WithImportDryRun())
		var wrong *tenant.ImportError
		require.ErrorAs(t, err, &wrong)
		require.EqualValues(t, 6, wrong.Number)
		booked, err := ledger.Import(t.Context(), "gateway", each(append(ago(0), calls[700:]...)...))
		require.NoError(t, err)
		require.EqualValues(t, 501, booked.Booked)
	})
}

func TestImport_CountsInTheWindowsInWhichItWasMade(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, acme, func(b *tenant.Budget) error {
			b.Enforcement = tenant.Hard
			b.Limits = tenant.Limits{Also: []tenant.Limit{{Window: tenant.Total, Cost: tenant.USD("5")}, {Window: tenant.Month, Cost: tenant.USD("2")}}}
			return nil
		}))
		call := func(id string, at time.Time, cost string) tenant.ImportedCall {
			return tenant.ImportedCall{ID: id, Tenant: acme, At: at, Actual: tenant.Actual{Model: "m", Cost: tenant.USD(cost), Usage: tenant.Usage{Input: 1}}}
		}
		remaining := func() (text string) {
			status, err := tenant.BudgetStatus(t.Context(), db, acme)
			require.NoError(t, err)
			for _, l := range status.Limits {
				text += fmt.Sprint(l.Window, " ", l.Spent, " ")
			}
			return text
		}
		_, err := ledger.Import(t.Context(), "s", each(call("1", time.Now().AddDate(0, -2, 0), "4"), call("2", time.Now(), "1.5")))
		require.NoError(t, err)
		require.Equal(t, "month 1.5 total 5.5 ", remaining())
		_, err = ledger.Reserve(t.Context(), acme, tenant.Estimate{Model: "m", Cost: tenant.USD("0.01")})
		require.ErrorIs(t, err, tenant.ErrBudgetExceeded, "nothing refuses what was made, and it takes the room")
	})
}

func TestImport_NamesTheCallThatIsWrong(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		good := ago(1, "acme")[0]
		with := func(change func(*tenant.ImportedCall)) iter.Seq2[tenant.ImportedCall, error] {
			bad, first := good, good
			first.ID = fmt.Sprint("first ", time.Now().UnixNano())
			change(&bad)
			return each(first, bad)
		}
		var booked int64
		for want, calls := range map[string]iter.Seq2[tenant.ImportedCall, error]{
			"the ID is empty":                 with(func(c *tenant.ImportedCall) { c.ID = "" }),
			"the ID has 191 bytes":            with(func(c *tenant.ImportedCall) { c.ID = strings.Repeat("x", 191) }),
			"the ID \"a\\nb\" has a control":  with(func(c *tenant.ImportedCall) { c.ID = "a\nb" }),
			"At is 0001-01-01":                with(func(c *tenant.ImportedCall) { c.At = time.Time{} }),
			"and to come":                     with(func(c *tenant.ImportedCall) { c.At = time.Now().AddDate(1, 0, 0) }),
			"the tenant id is empty":          with(func(c *tenant.ImportedCall) { c.Tenant = tenant.ID("") }),
			"name in Tags":                    with(func(c *tenant.ImportedCall) { c.Tags = map[string]string{"": "x"} }),
			"cannot be the usage of one call": with(func(c *tenant.ImportedCall) { c.Actual.Usage.Input = -1 }),
			"Actual.Cost":                     with(func(c *tenant.ImportedCall) { c.Actual.Cost = tenant.USD("x") }),
			"the line is broken": func(yield func(tenant.ImportedCall, error) bool) {
				first := good
				first.ID = "the first of a broken one"
				_ = yield(first, nil) && yield(tenant.ImportedCall{}, errors.New("the line is broken"))
			},
		} {
			report, err := ledger.Import(t.Context(), "s", calls)
			var wrong *tenant.ImportError
			require.ErrorAs(t, err, &wrong, want)
			require.EqualValues(t, 2, wrong.Number)
			require.ErrorContains(t, err, want)
			require.EqualValues(t, 1, report.Booked, "what was before it is booked")
			booked += report.Booked
		}
		require.Equal(t, booked, countRows(t, db, "llm_executions"))
		for want, ask := range map[string]func() (tenant.ImportReport, error){
			"the source is empty":          func() (tenant.ImportReport, error) { return ledger.Import(t.Context(), "", each()) },
			`the source "a:b" has a colon`: func() (tenant.ImportReport, error) { return ledger.Import(t.Context(), "a:b", each()) },
			"has 61 bytes": func() (tenant.ImportReport, error) {
				return ledger.Import(t.Context(), strings.Repeat("s", 61), each())
			},
			"the calls are nil": func() (tenant.ImportReport, error) { return ledger.Import(t.Context(), "s", nil) },
			"the function is nil": func() (tenant.ImportReport, error) {
				return ledger.Import(t.Context(), "s", each(), tenant.WithImportProgress(nil))
			},
		} {
			_, err := ask()
			require.ErrorIs(t, err, tenant.ErrInvalidOption)
			require.ErrorContains(t, err, want)
		}
	})
}

func TestImport_OfPrunedTimeIsRefused(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		old := tenant.ImportedCall{ID: "1", Tenant: acme, At: time.Now().AddDate(0, -3, 0), Actual: tenant.Actual{Model: "m", Cost: tenant.USD("1")}}
		_, err := ledger.Import(t.Context(), "s", each(old))
		require.NoError(t, err)
		report, err := ledger.Prune(t.Context(), time.Now().AddDate(0, -2, 0))
		require.NoError(t, err)
		require.EqualValues(t, 1, report.Executions)
		_, err = ledger.Import(t.Context(), "s", each(old))
		require.ErrorIs(t, err, tenant.ErrPruned)
		later := old
		later.Tenant = tenant.ID("globex")
		_, err = ledger.Import(t.Context(), "s", each(later))
		require.NoError(t, err, "nothing of this tenant was pruned")
		found, err := ledger.Verify(t.Context())
		require.NoError(t, err)
		require.Empty(t, found)
	})
}

func TestImport_ThatEndsIsFinishedByTheNext(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		const n = 5000
		calls := ago(n, "acme", "globex", "initech")
		ctx, cancel := context.WithCancel(t.Context())
		report, err := ledger.Import(ctx, "s", each(calls...), tenant.WithImportProgress(func(r tenant.ImportReport) {
			if r.Booked >= 1000 {
				cancel()
			}
		}))
		require.ErrorIs(t, err, context.Canceled)
		require.Less(t, report.Booked, int64(n))
		require.Equal(t, report.Booked, countRows(t, db, "llm_executions"), "what it has begun is booked, and reported")
		rest, err := ledger.Import(t.Context(), "s", each(calls...))
		require.NoError(t, err)
		require.Equal(t, tenant.ImportReport{Booked: n - report.Booked, Duplicates: report.Booked}, rest)
		requireVerified(t, db, ledger)
	})
}

func TestImport_OfAKilledProcessCountsOnce(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	db := openAt(t, postgres.Open(dsn))
	ledger := openLedger(t, db)
	p := start(t, "import", dsn)
	p.tell(t, "go")
	require.Eventually(t, func() bool { return countRows(t, db, "llm_executions") > 0 }, time.Minute, time.Millisecond)
	require.NoError(t, p.cmd.Process.Kill())
	_ = p.cmd.Wait()
	report, err := ledger.Import(t.Context(), "s", each(ago(imported, "acme", "globex")...))
	require.NoError(t, err)
	require.Positive(t, report.Duplicates)
	require.EqualValues(t, imported, report.Booked+report.Duplicates)
	require.EqualValues(t, imported, countRows(t, db, "llm_executions"))
	requireVerified(t, db, ledger)
}

const imported = 20_000

// importTold is what the helper process of that test does.
func importTold(t *testing.T, db *gorm.DB, _ []string) {
	ledger := openLedger(t, db)
	for range commands() {
		_, err := ledger.Import(t.Context(), "s", each(ago(imported, "acme", "globex")...))
		require.NoError(t, err)
	}
}

func ExampleLedger_Import() {
	ctx := context.Background()
	_, ledger, end := openBooks()
	defer end()

	// The lines of another gateway's log, read one by one.
	calls := func(yield func(tenant.ImportedCall, error) bool) {
		for i, cost := range []string{"0.25", "0.5", "0.125"} {
			call := tenant.ImportedCall{
				ID: fmt.Sprint("line ", i), Tenant: tenant.ID("acme"), At: time.Date(2026, 3, 1+i, 12, 0, 0, 0, time.UTC),
				Actual: tenant.Actual{Provider: "openai", Model: "gpt-5", Cost: tenant.USD(cost), Usage: tenant.Usage{Input: 1000, Output: 200}},
			}
			if !yield(call, nil) {
				return
			}
		}
	}
	for range 2 { // the second one, after a crash for instance, finds that they are there
		report, err := ledger.Import(ctx, "old-gateway", calls)
		fmt.Println(report.Booked, "booked,", report.Duplicates, "there already", err)
	}

	// Output:
	// 3 booked, 0 there already <nil>
	// 0 booked, 3 there already <nil>
}
