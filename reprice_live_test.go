package tenant_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/glebarez/sqlite"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
	"github.com/llmtenant/tenant/pricing"
)

// onThreshold is an observer that does something at the first threshold that it hears of.
type onThreshold struct {
	once sync.Once
	do   func()
}

func (o *onThreshold) Observe(_ context.Context, e tenant.Event) {
	if _, ok := e.(*tenant.ThresholdEvent); ok {
		o.once.Do(o.do)
	}
}

// mispriced books calls of a tenth of a cent each that should have cost two tenths, and gives the tenant a limit whose
// only threshold is met by the first of their corrections.
func mispriced(t testing.TB, db *gorm.DB, ledger *tenant.Ledger, live *pricing.Live, calls int) {
	t.Helper()
	require.NoError(t, tenant.ConfigureBudget(t.Context(), db, acme, func(b *tenant.Budget) error {
		b.Limits.Also = []tenant.Limit{{Window: tenant.Total, Cost: tenant.USD(fmt.Sprintf("0.%06d", 1000*calls+500))}}
		return nil
	}))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range calls/4 + (calls%4+3-i)/4 {
				used(t, ledger, acme, tenant.Actual{Usage: tenant.Usage{Input: 1000}})
			}
		})
	}
	wg.Wait()
	live.Set(bookOf(t, flat("m", "2")))
}

// histogram says how many calls cost how much by now, in thousandths of a dollar.
func histogram(t testing.TB, db *gorm.DB) map[int64]int {
	counts := map[int64]int{}
	for _, nano := range costsNow(t, db) {
		counts[nano/1e6]++
	}
	return counts
}

func corrections(t testing.TB, db *gorm.DB) (n int64) {
	t.Helper()
	require.NoError(t, db.Raw(`SELECT count(*) FROM llm_executions WHERE corrects IS NOT NULL`).Scan(&n).Error)
	return n
}

// A page of calls is weighed before its first correction is booked; whoever is first with a correction makes the other
// one weigh again.
func TestReprice_ThatAnotherRunIsAheadOfBooksNothingTwice(t *testing.T) {
	t.Parallel()
	for name, price := range map[string]string{"of one mind": "2", "of another price": "3"} {
		for _, dialect := range []string{"postgres", "sqlite"} {
			t.Run(name+" "+dialect, func(t *testing.T) {
				t.Parallel()
				ahead := &onThreshold{}
				dbs, live := twoHandles(t, dialect), pricing.NewLive(bookOf(t, flat("m", "1")))
				ledger := openLedger(t, dbs[0], tenant.WithPrices(live), tenant.WithThresholds(100), tenant.WithObserver(ahead))
				other := openLedger(t, dbs[1], tenant.WithPrices(bookOf(t, flat("m", price))), tenant.WithThresholds())
				mispriced(t, dbs[0], ledger, live, 250)
				var first tenant.RepriceReport
				ahead.do = func() { first = repriceAll(t, other) }
				report := repriceAll(t, ledger)
				require.EqualValues(t, 250, report.Calls)
				require.GreaterOrEqual(t, first.Corrected, int64(150), "the other run was ahead")
				costs := histogram(t, dbs[0])
				require.Equal(t, 250, costs[2]+costs[3])
				if price == "3" { // what was booked before the other run came is corrected by that one, the rest after it
					require.True(t, 1 <= costs[3] && costs[3] <= 100, "%v", costs)
				} else {
					require.EqualValues(t, 250, corrections(t, dbs[0]))
					require.EqualValues(t, 250, report.Corrected+first.Corrected)
				}
				requireVerified(t, dbs[0], ledger)
			})
		}
	}
}

// twoHandles opens one new database twice, as two processes would.
func twoHandles(t *testing.T, dialect string) [2]*gorm.DB {
	t.Helper()
	if dialect == "postgres" {
		dsn := pgtest.DSN(t)
		return [2]*gorm.DB{openAt(t, postgres.Open(dsn)), openAt(t, postgres.Open(dsn))}
	}
	dsn := sqliteDSN(t)
	dbs := [2]*gorm.DB{openAt(t, sqlite.Open(dsn)), openAt(t, sqlite.Open(dsn))}
	ledger, err := tenant.Open(dbs[0])
	require.NoError(t, err)
	require.NoError(t, ledger.Migrate(t.Context()))
	require.NoError(t, ledger.Close(t.Context()))
	return dbs
}

func TestReprice_ThatEndsInTheMiddleIsFinishedByTheNext(t *testing.T) {
	t.Parallel()
	for _, dialect := range everyDatabase {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			end, db, live := &onThreshold{}, openDatabase(t, dialect), pricing.NewLive(bookOf(t, flat("m", "1")))
			ledger := openLedger(t, db, tenant.WithPrices(live), tenant.WithThresholds(100), tenant.WithObserver(end))
			mispriced(t, db, ledger, live, 600) // of two pages
			ctx, cancel := context.WithCancel(t.Context())
			end.do = cancel
			report, err := ledger.Reprice(ctx, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
			require.ErrorIs(t, err, context.Canceled)
			done := corrections(t, db)
			require.EqualValues(t, 100, done, "what it had begun, and no more")
			require.Equal(t, done, report.Corrected)
			requireVerified(t, db, ledger)

			report = repriceAll(t, ledger)
			require.Equal(t, [5]int64{600, 600 - done, 0, 600e6 + done*1e6, 1200e6}, sumsOf(report.RepriceTotals))
			require.Equal(t, map[int64]int{2: 600}, histogram(t, db))
			require.EqualValues(t, 600, corrections(t, db))
			requireVerified(t, db, ledger)
		})
	}
}

func TestReprice_OfAKilledProcessIsFinishedByAnother(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	db, live := openAt(t, postgres.Open(dsn)), pricing.NewLive(bookOf(t, flat("m", "1")))
	ledger := openLedger(t, db, tenant.WithPrices(live))
	mispriced(t, db, ledger, live, 600)
	p := start(t, "reprice", dsn)
	p.tell(t, "go")
	require.Eventually(t, func() bool { return corrections(t, db) > 0 }, time.Minute, time.Millisecond)
	require.NoError(t, p.cmd.Process.Kill())
	_ = p.cmd.Wait()
	repriceAll(t, ledger)
	require.Equal(t, map[int64]int{2: 600}, histogram(t, db))
	require.EqualValues(t, 600, corrections(t, db))
	requireVerified(t, db, ledger)
}

// A correction of which nobody has heard whether it is on the books is not booked again by whoever goes on.
func TestReprice_WhoseConnectionsAreCutIsFinishedByTheNext(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{"postgres", "sqlite"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			cut, live := &onThreshold{}, pricing.NewLive(bookOf(t, flat("m", "1")))
			open := postgres.Open
			dsn := pgtest.DSN(t)
			if dialect == "sqlite" {
				open, dsn = sqlite.Open, sqliteDSN(t)
			}
			db := openAt(t, open(dsn))
			ledger, err := tenant.Open(db, tenant.WithPrices(live), tenant.WithThresholds(100), tenant.WithObserver(cut), tenant.WithSettleWait(time.Minute))
			require.NoError(t, err)
			require.NoError(t, ledger.Migrate(t.Context()))
			mispriced(t, db, ledger, live, 600)
			cut.do = func() {
				if dialect == "postgres" { // all sessions but that which says so
					assertNoError(t, openAt(t, open(dsn)).Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`).Error)
					return
				}
				pool, err := db.DB()
				assertNoError(t, err)
				assertNoError(t, pool.Close())
			}
			report, err := ledger.Reprice(t.Context(), time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
			again := openAt(t, open(dsn))
			t.Logf("%d were corrected, as it says; %d were, by the books; %v", report.Corrected, corrections(t, again), err)
			require.Positive(t, corrections(t, again))
			if dialect == "sqlite" {
				require.Error(t, err)
				require.Less(t, corrections(t, again), int64(600), "it was cut in the middle")
			}
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_ = ledger.Close(ctx) // whose database may be gone

			other := openLedger(t, again, tenant.WithPrices(live), tenant.WithThresholds())
			repriceAll(t, other)
			require.Equal(t, map[int64]int{2: 600}, histogram(t, again))
			require.EqualValues(t, 600, corrections(t, again), "each once")
			requireVerified(t, again, other)
			require.Zero(t, repriceAll(t, other).Corrected)
		})
	}
}

// repriceTold is what the helper processes of these tests do.
func repriceTold(t *testing.T, db *gorm.DB, _ []string) {
	ledger := openLedger(t, db, tenant.WithPrices(bookOf(t, flat("m", "2"))))
	for range commands() {
		report := repriceAll(t, ledger)
		say("%d", report.Corrected)
		return
	}
}

func TestReprice_OfTwoProcessesAtOnceBooksNothingTwice(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	db, live := openAt(t, postgres.Open(dsn)), pricing.NewLive(bookOf(t, flat("m", "1")))
	ledger := openLedger(t, db, tenant.WithPrices(live))
	mispriced(t, db, ledger, live, 600)
	p := start(t, "reprice", dsn)
	p.tell(t, "go")
	report := repriceAll(t, ledger)
	require.Equal(t, fmt.Sprint(600-report.Corrected), p.hear(t), "each correction is told by the one that has booked it")
	require.Equal(t, map[int64]int{2: 600}, histogram(t, db))
	require.EqualValues(t, 600, corrections(t, db))
	requireVerified(t, db, ledger)
}

func TestReprice_CommitWhoseAnswerIsLostIsDoneOnce(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]fault{"committed": lostAnswer, "not committed": lostCommit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			live := pricing.NewLive(bookOf(t, flat("m", "1")))
			db, ledger, faults := faultyLedger(t, tenant.WithPrices(live))
			mispriced(t, db, ledger, live, 20)
			faults.arm(fault, 1)
			report := repriceAll(t, ledger)
			require.Zero(t, faults.left(), "the commit broke")
			require.EqualValues(t, 20, report.Corrected)
			require.Equal(t, map[int64]int{2: 20}, histogram(t, db))
			require.EqualValues(t, 20, corrections(t, db))
			requireVerified(t, db, ledger)
		})
	}
}

func TestReprice_WhileCallsGoOnLosesNothing(t *testing.T) {
	t.Parallel()
	eachPriced(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, live *pricing.Live) {
		mispriced(t, db, ledger, live, 300)
		ctx, stop := context.WithCancel(t.Context())
		var made atomic.Int64
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for ctx.Err() == nil {
					hold, err := ledger.Reserve(t.Context(), acme, tenant.Estimate{Provider: "openai", Model: "m", InputTokens: 1000}, patiently)
					if err == nil {
						_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Usage: tenant.Usage{Input: 500}})
					}
					if err != nil {
						t.Errorf("call: %v", err)
						return
					}
					made.Add(1)
				}
			})
		}
		for _, rate := range []string{"3", "2"} {
			live.Set(bookOf(t, flat("m", rate)))
			repriceAll(t, ledger)
		}
		stop()
		wg.Wait()
		report := repriceAll(t, ledger) // those that were charged 3 after their page was read
		require.Equal(t, 300+made.Load(), report.Calls)
		require.Equal(t, map[int64]int{2: 300, 1: int(made.Load())}, histogram(t, db))
		requireVerified(t, db, ledger)
	})
}
