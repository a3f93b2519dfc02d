package tenant_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// moves are the places that a tenant is moved to and fro between; the empty one is the home.
var moves = []string{"east", "west", ""}

// twoProcesses is a ledger on each of two handles of one database with places: the second hears nothing of what the first one moves.
func twoProcesses(t testing.TB, options ...tenant.OpenOption) (db *gorm.DB, first, second *tenant.Ledger, secondDB *gorm.DB) {
	t.Helper()
	dsn := placesDSN(t)
	db = openOverPlaces(t, dsn)
	secondDB = openOverPlaces(t, dsn)
	return db, openLedger(t, db, options...), openLedger(t, secondDB, options...), secondDB
}

// insist moves a tenant, again where somebody else had it locked.
func insist(t testing.TB, ledger *tenant.Ledger, id tenant.ID, place string) tenant.MoveReport {
	t.Helper()
	var report tenant.MoveReport
	require.Eventually(t, func() bool {
		var err error
		report, err = ledger.Move(context.Background(), id, place)
		if err != nil {
			require.ErrorIs(t, err, tenant.ErrUnavailable)
		}
		return err == nil
	}, 2*time.Minute, time.Millisecond)
	return report
}

// answers is what is asked about a tenant whose books do not change.
func answers(t require.TestingT, db *gorm.DB, id tenant.ID, since time.Time) string {
	ctx := context.Background()
	lately := tenant.Between(since.Add(-time.Hour), since.Add(24*time.Hour))
	usage, err := tenant.QueryUsage(ctx, db, tenant.Query{Tenant: id, Period: lately, By: []tenant.Group{tenant.ByModel}})
	require.NoError(t, err)
	spent := ask(t, db, id, tenant.AllTime)
	budget, err := tenant.BudgetFor(ctx, db, id)
	require.NoError(t, err)
	page, err := tenant.ExecutionsPage(ctx, db, tenant.ExecutionQuery{Tenant: id}, 100)
	require.NoError(t, err)
	ids := ""
	for _, e := range page.Executions {
		ids += e.ID + " "
	}
	return fmt.Sprint(usage.Total, usage.Rows, spent, budget.TenantID, budget.Limits, ids)
}

func TestMove_UnderLoadPassesNoLimitAndLosesNothing(t *testing.T) {
	t.Parallel()
	db, first, second, secondDB := twoProcesses(t)
	const hot, still = tenant.ID("hot"), tenant.ID("still")
	place(t, db, hot, "", "1")
	began := time.Now()
	for range 5 {
		require.NoError(t, call(t, first, still, "0.25"))
	}
	before := answers(t, db, still, began)
	var (
		over          = make(chan struct{})
		held, settled atomic.Int64
		wg            sync.WaitGroup
	)
	going := func() bool {
		select {
		case <-over:
			return false
		default:
			return true
		}
	}
	for i := range 24 {
		ledger := []*tenant.Ledger{first, second}[i%2]
		wg.Go(func() {
			for n := i; going(); n++ {
				hold, err := ledger.Reserve(context.Background(), hot, tenant.Estimate{Model: "m", Cost: tenant.USD("0.1")}, patiently)
				if err != nil {
					t.Errorf("reserve: %v", err)
					return
				}
				if now := held.Add(1); now > 10 {
					t.Errorf("%d calls of 10 cents are admitted on a limit of a dollar", now)
				}
				held.Add(-1)
				if n%3 == 0 {
					_, err = ledger.Release(context.Background(), hold)
				} else {
					_, err = ledger.Settle(context.Background(), hold, tenant.Actual{Cost: tenant.USD("0.000001")})
					settled.Add(1)
				}
				if err != nil {
					t.Errorf("end: %v", err)
				}
			}
		})
	}
	wg.Go(func() {
		for going() {
			if now := answers(t, secondDB, still, began); now != before {
				t.Errorf("an answer is\n%s\nand was\n%s", now, before)
				return
			}
		}
	})
	for i := range 15 {
		made := settled.Load()
		insist(t, first, hot, moves[(i+1)%3])
		require.Equal(t, moves[(i+1)%3], placeOf(t, db, string(hot)))
		insist(t, first, still, moves[i%3])
		require.Eventually(t, func() bool { return settled.Load() > made || t.Failed() }, time.Minute, time.Millisecond, "calls go on")
	}
	close(over)
	wg.Wait()
	require.Equal(t, before, answers(t, db, still, began))
	require.Equal(t, settled.Load(), ask(t, db, hot, tenant.AllTime).calls)
	require.Equal(t, settled.Load()*1000, ask(t, secondDB, hot, tenant.AllTime).cost)
	require.Zero(t, balanceOf(t, db, string(hot), "day").HeldCalls)
	requireConservation(t, db)
	differences, err := first.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, differences)
}

func TestMove_SeveralAtOnceEndInOnePlace(t *testing.T) {
	t.Parallel()
	db, first, second, _ := twoProcesses(t)
	const top, below = tenant.ID("top"), tenant.ID("below")
	place(t, db, top, "", "")
	place(t, db, below, top, "")
	require.NoError(t, call(t, first, below, "0.5"))
	require.NoError(t, call(t, second, below, "0.25"))
	var wg sync.WaitGroup
	for i, ledger := range []*tenant.Ledger{first, second, first, second} {
		wg.Go(func() {
			for n := range 4 {
				_, err := ledger.Move(context.Background(), top, moves[(i+n)%3])
				if err != nil && !errors.Is(err, tenant.ErrUnavailable) {
					t.Errorf("move: %v", err)
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, placeOf(t, db, "top"), placeOf(t, db, "below"))
	requireConservation(t, db)
	for _, ledger := range []*tenant.Ledger{first, second} {
		require.NoError(t, call(t, ledger, below, "0.125"))
	}
	require.Equal(t, "1", costToday(t, db, below))
	differences, err := first.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, differences)
}

// cutting closes the connection before the nth statement of whoever marks its context.
type cutting struct {
	left  atomic.Int64
	tried atomic.Int64
}

type cutHere struct{}

// TraceQueryStart implements pgx.QueryTracer.
func (c *cutting) TraceQueryStart(ctx context.Context, conn *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	if ctx.Value(cutHere{}) != nil {
		c.tried.Add(1)
		if c.left.Add(-1) == 0 {
			_ = conn.PgConn().Conn().Close()
		}
	}
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (c *cutting) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestMove_ThatIsCutAtAnyStatementHasMovedAllOrNothing(t *testing.T) {
	t.Parallel()
	dsn := placesDSN(t)
	db := openOverPlaces(t, dsn)
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	cut := &cutting{}
	config.Tracer = cut
	pool := stdlib.OpenDB(*config)
	t.Cleanup(func() { _ = pool.Close() })
	ledger := openLedger(t, openAt(t, postgres.New(postgres.Config{Conn: pool})), tenant.WithPlaces(eastAndWest...))
	books := openLedger(t, db)
	const top, below = tenant.ID("top"), tenant.ID("below")
	place(t, db, top, "", "")
	place(t, db, below, top, "5")
	began := time.Now()
	require.NoError(t, call(t, ledger, below, "0.5", tenant.WithIdempotencyKey("once")))
	running, err := ledger.Reserve(t.Context(), below, cent)
	require.NoError(t, err)
	before := answers(t, db, top, began) + answers(t, db, below, began)
	ctx := context.WithValue(t.Context(), cutHere{}, true)
	failed := 0
	for n := int64(1); ; n++ {
		here := placeOf(t, db, "top")
		away := map[string]string{"east": "west", "west": "", "": "east"}[here]
		cut.left.Store(n)
		_, err := ledger.Move(ctx, top, away)
		require.Equal(t, placeOf(t, db, "top"), placeOf(t, db, "below"))
		require.Equal(t, before, answers(t, db, top, began)+answers(t, db, below, began))
		requireConservation(t, db)
		if cut.left.Load() > 0 { // no such statement is left
			require.NoError(t, err)
			break
		}
		if err != nil {
			failed++
			require.ErrorIs(t, err, tenant.ErrUnavailable, "statement %d", n)
			require.Equal(t, here, placeOf(t, db, "top"))
		}
	}
	require.Greater(t, failed, 10)
	settled, err := ledger.Settle(t.Context(), running, tenant.Actual{Cost: tenant.USD("0.01")})
	require.NoError(t, err)
	require.Equal(t, tenant.Settled, settled.Outcome)
	require.ErrorIs(t, call(t, ledger, below, "0.5", tenant.WithIdempotencyKey("once")), tenant.ErrDuplicate)
	differences, err := books.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, differences)
}

// moveAndSay is a helper process's task: it moves a tenant and says so.
func moveAndSay(t *testing.T, db *gorm.DB, args []string) {
	ledger := openLedger(t, db)
	require.NoError(t, call(t, ledger, tenant.ID("bystander"), "0"))
	say("moving")
	_, err := ledger.Move(context.Background(), tenant.ID(args[0]), args[1])
	say("moved: %v", err)
}

func TestMove_OfAProcessThatIsKilledHasMovedNothing(t *testing.T) {
	t.Parallel()
	dsn := placesDSN(t)
	db := openOverPlaces(t, dsn)
	ledger := openLedger(t, db)
	require.NoError(t, call(t, ledger, acme, "0.5"))
	here := placeOf(t, db, "acme")
	away := map[string]string{"east": "west", "west": "east"}[here]
	// Somebody has the last table that is copied, so that the process stands in the middle of it.
	tx := db.Begin()
	require.NoError(t, tx.Exec(`LOCK TABLE `+away+`.llm_thresholds`).Error)
	p := start(t, "move acme "+away, dsn)
	require.Equal(t, "moving", p.hear(t))
	require.Eventually(t, func() bool {
		var waiting int64
		require.NoError(t, db.Raw(`SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = CAST(? AS regclass)`, away+".llm_thresholds").Scan(&waiting).Error)
		return waiting > 0
	}, time.Minute, 10*time.Millisecond)
	require.NoError(t, p.cmd.Process.Kill())
	_ = p.cmd.Wait()
	require.NoError(t, tx.Rollback().Error)
	require.NoError(t, call(t, ledger, acme, "0.25"))
	require.Equal(t, here, placeOf(t, db, "acme"))
	require.Equal(t, "0.75", costToday(t, db, acme))
	requireConservation(t, db)
	insist(t, ledger, acme, away)
	require.Equal(t, "0.75", costToday(t, db, acme))
}

// What runs in a process that hears nothing of a move ends as it would have without it.
func TestMove_IsFollowedByProcessesThatHearNothingOfIt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, move func()){
		"settle": func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, move func()) {
			hold, err := ledger.Reserve(t.Context(), acme, cent)
			require.NoError(t, err)
			move()
			s, err := ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.5")})
			require.NoError(t, err)
			require.Equal(t, tenant.Settled, s.Outcome)
			s, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.5")})
			require.NoError(t, err)
			require.Equal(t, tenant.AlreadySettled, s.Outcome)
		},
		"many settles": func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, move func()) {
			holds := make([]*tenant.Hold, 50)
			for i := range holds {
				hold, err := ledger.Reserve(t.Context(), acme, cent)
				require.NoError(t, err)
				holds[i] = hold
			}
			move()
			var wg sync.WaitGroup
			for _, hold := range holds {
				wg.Go(func() {
					if _, err := ledger.Settle(context.Background(), hold, tenant.Actual{Cost: tenant.USD("0.01")}); err != nil {
						t.Errorf("settle: %v", err)
					}
				})
			}
			wg.Wait()
		},
		"release": func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, move func()) {
			hold, err := ledger.Reserve(t.Context(), acme, tenant.Estimate{Cost: tenant.USD("0.75")})
			require.NoError(t, err)
			move()
			s, err := ledger.Release(t.Context(), hold)
			require.NoError(t, err)
			require.Equal(t, tenant.Released, s.Outcome)
			require.NoError(t, call(t, ledger, acme, "0.5"))
		},
		"record": func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, move func()) {
			require.NoError(t, call(t, ledger, acme, "0"))
			move()
			s, err := ledger.Record(t.Context(), acme, tenant.Actual{Cost: tenant.USD("0.5")})
			require.NoError(t, err)
			require.Equal(t, tenant.Settled, s.Outcome)
		},
		"correction": func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, move func()) {
			require.NoError(t, call(t, ledger, acme, "0.5"))
			move()
			_, err := ledger.Credit(t.Context(), acme, tenant.USD("0.25"), "goodwill")
			require.NoError(t, err)
			require.Equal(t, "0.25", chargeToday(t, db, acme))
			_, err = ledger.Debit(t.Context(), acme, tenant.USD("0.25"), "goodwill ended")
			require.NoError(t, err)
		},
		"deferred": func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, move func()) {
			hold, err := ledger.Reserve(t.Context(), acme, cent)
			require.NoError(t, err)
			move()
			require.NoError(t, ledger.Defer(t.Context(), hold, "job"))
			move()
			s, err := ledger.SettleDeferred(t.Context(), acme, "job", tenant.Actual{Cost: tenant.USD("0.5")})
			require.NoError(t, err)
			require.Equal(t, tenant.Settled, s.Outcome)
		},
		"idempotency key": func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, move func()) {
			require.NoError(t, call(t, ledger, acme, "0.5", tenant.WithIdempotencyKey("once")))
			move()
			require.ErrorIs(t, call(t, ledger, acme, "0.5", tenant.WithIdempotencyKey("once")), tenant.ErrDuplicate)
		},
		"waiting reserve": func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, move func()) {
			hold, err := ledger.Reserve(t.Context(), acme, tenant.Estimate{Cost: tenant.USD("0.75")})
			require.NoError(t, err)
			admitted := make(chan error, 1)
			go func() {
				waited, err := ledger.Reserve(context.Background(), acme, tenant.Estimate{Cost: tenant.USD("0.5")}, patiently)
				if err == nil {
					_, err = ledger.Settle(context.Background(), waited, tenant.Actual{Cost: tenant.USD("0.5")})
				}
				admitted <- err
			}()
			move()
			move()
			select {
			case err := <-admitted:
				require.FailNow(t, "there was no room", "%v", err)
			default:
			}
			_, err = ledger.Release(t.Context(), hold)
			require.NoError(t, err)
			require.NoError(t, <-admitted)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, ledger, other, otherDB := twoProcesses(t)
			place(t, db, acme, "", "1")
			require.NoError(t, call(t, other, acme, "0"))
			n := 0
			test(t, db, ledger, func() {
				n++
				insist(t, other, acme, moves[n%3])
			})
			require.Equal(t, "0.5", costToday(t, otherDB, acme))
			require.Zero(t, balanceOf(t, db, "acme", "day").HeldCalls)
			requireConservation(t, db)
			differences, err := other.Verify(t.Context())
			require.NoError(t, err)
			require.Empty(t, differences)
		})
	}
}

func TestMove_OfAHoldThatExpiresThereIsSettledLate(t *testing.T) {
	t.Parallel()
	db, ledger, other, _ := twoProcesses(t, tenant.WithMaxCallTime(time.Second), tenant.WithLease(time.Second))
	hold, err := ledger.Reserve(t.Context(), acme, tenant.Estimate{Cost: tenant.USD("0.75")})
	require.NoError(t, err)
	require.NoError(t, call(t, other, acme, "0"))
	insist(t, other, acme, map[string]string{"east": "west", "west": "east"}[placeOf(t, db, "acme")])
	require.Eventually(t, func() bool { return balanceOf(t, db, "acme", "day").SpentCost == 75e7 }, time.Minute, 10*time.Millisecond, "it is swept where it is")
	s, err := ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.5")})
	require.NoError(t, err)
	require.Equal(t, tenant.Corrected, s.Outcome)
	require.Equal(t, "0.5", costToday(t, db, acme))
	requireConservation(t, db)
}

func TestMove_AChildThatIsMadeMeanwhileIsWithItsParent(t *testing.T) {
	t.Parallel()
	db, ledger, other, otherDB := twoProcesses(t)
	place(t, db, "top", "", "")
	require.NoError(t, call(t, other, tenant.ID("top"), "0"))
	made := make(chan error, 1)
	go func() {
		var err error
		for i := range 20 {
			err = errors.Join(err, tenant.ConfigureBudget(context.Background(), otherDB, tenant.ID(fmt.Sprint("child-", i)), func(b *tenant.Budget) error {
				b.ParentID = "top"
				return nil
			}))
		}
		made <- err
	}()
	for n, over := 0, false; !over; n++ {
		insist(t, ledger, "top", moves[n%3])
		select {
		case err := <-made:
			require.NoError(t, err)
			over = true
		default:
		}
	}
	for i := range 20 {
		child := tenant.ID(fmt.Sprint("child-", i))
		require.NoError(t, call(t, other, child, "0.01"), "%s is in %q, and its parent in %q", child, placeOf(t, db, string(child)), placeOf(t, db, "top"))
	}
	cost, err := tenant.Cost(t.Context(), db, tenant.ID("top"), tenant.AllTime, tenant.WithDescendants())
	require.NoError(t, err)
	require.Equal(t, "0.2", cost.String())
	differences, err := ledger.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, differences)
}
