package tenant_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/pricing"
)

// between does something before the nth statement of whoever marks its context.
type between struct {
	left atomic.Int64
	do   func()
}

type betweenHere struct{}

// TraceQueryStart implements pgx.QueryTracer.
func (b *between) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	if ctx.Value(betweenHere{}) != nil && b.left.Add(-1) == 0 {
		b.do()
	}
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (b *between) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// openBetween opens a database with places twice: once for whoever is interrupted, whose statements are counted.
func openBetween(t *testing.T, options ...tenant.OpenOption) (b *between, db *gorm.DB, ledger *tenant.Ledger, otherDB *gorm.DB, other *tenant.Ledger) {
	t.Helper()
	dsn := placesDSN(t)
	otherDB = openOverPlaces(t, dsn)
	other = openLedger(t, otherDB, options...)
	b = &between{}
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	config.Tracer = b
	pool := stdlib.OpenDB(*config)
	t.Cleanup(func() { _ = pool.Close() })
	db = openAt(t, postgres.New(postgres.Config{Conn: pool}))
	ledger = openLedger(t, db, append([]tenant.OpenOption{tenant.WithPlaces(eastAndWest...)}, options...)...)
	return b, db, ledger, otherDB, other
}

// eachStatement does something again and again, with a move of a tenant before its first statement, its second one and so on. Of many statements it leaves out some.
func eachStatement(t *testing.T, b *between, move func(), do func(ctx context.Context, n int64)) {
	t.Helper()
	ctx := context.WithValue(t.Context(), betweenHere{}, true)
	b.do = move
	const each = 12 // of which none is left out
	for n := int64(1); ; n += 1 + max(n-each, 0)/3 {
		b.left.Store(n)
		do(ctx, n)
		if b.left.Load() > 0 { // there is no such statement
			require.Greater(t, n, int64(1))
			return
		}
	}
}

// questionsAbout are all that take a handle, and whose answers a move does not change.
func questionsAbout(t *testing.T, start time.Time) map[string]func(ctx context.Context, db *gorm.DB) (any, error) {
	past := tenant.Between(start.AddDate(0, 0, -40), start.Add(-time.Hour).Truncate(time.Hour))
	short := tenant.Between(start.Add(-30*time.Hour), start.Add(-90*time.Minute))
	list := func(q tenant.ExecutionQuery) func(ctx context.Context, db *gorm.DB) (any, error) {
		return func(ctx context.Context, db *gorm.DB) (any, error) {
			var ids []string
			for e, err := range tenant.ListExecutions(ctx, db, q) {
				if err != nil {
					return nil, err
				}
				ids = append(ids, e.ID)
			}
			return ids, nil
		}
	}
	export := func(what tenant.Exportable) func(ctx context.Context, db *gorm.DB) (any, error) {
		return func(ctx context.Context, db *gorm.DB) (any, error) {
			var out bytes.Buffer
			_, err := tenant.Export(ctx, db, &out, tenant.CSV(), what)
			lines := strings.Split(out.String(), "\n")
			slices.Sort(lines)
			return len(lines), err
		}
	}
	return map[string]func(ctx context.Context, db *gorm.DB) (any, error){
		"cost today":     func(ctx context.Context, db *gorm.DB) (any, error) { return tenant.CostToday(ctx, db, acme) },
		"cost ever":      func(ctx context.Context, db *gorm.DB) (any, error) { return tenant.Cost(ctx, db, acme, tenant.AllTime) },
		"cost of weeks":  func(ctx context.Context, db *gorm.DB) (any, error) { return tenant.Cost(ctx, db, acme, past) },
		"tokens of days": func(ctx context.Context, db *gorm.DB) (any, error) { return tenant.Tokens(ctx, db, acme, short) },
		"below": func(ctx context.Context, db *gorm.DB) (any, error) {
			return tenant.Cost(ctx, db, acme, past, tenant.WithDescendants())
		},
		"budget": func(ctx context.Context, db *gorm.DB) (any, error) {
			b, err := tenant.BudgetFor(ctx, db, acme)
			return fmt.Sprintf("%+v", b), err
		},
		"status": func(ctx context.Context, db *gorm.DB) (any, error) {
			s, err := tenant.BudgetStatus(ctx, db, acme)
			for i := range s.Limits {
				s.Limits[i].Forecast = nil // which is of now
			}
			return fmt.Sprintf("%+v", s), err
		},
		"forecast": func(ctx context.Context, db *gorm.DB) (any, error) {
			s, err := tenant.BudgetStatus(ctx, db, acme)
			if err != nil || len(s.Limits) == 0 {
				return nil, err
			}
			return s.Limits[0].Forecast.PerDay.IsZero(), nil
		},
		"remaining": func(ctx context.Context, db *gorm.DB) (any, error) {
			left, _, err := tenant.RemainingBudget(ctx, db, acme)
			return left.String(), err
		},
		"effective": func(ctx context.Context, db *gorm.DB) (any, error) {
			e, err := tenant.EffectiveBudget(ctx, db, acme)
			return fmt.Sprintf("%+v", e), err
		},
		"uuid":    func(ctx context.Context, db *gorm.DB) (any, error) { return tenant.UUIDFor(ctx, db, acme) },
		"summary": func(ctx context.Context, db *gorm.DB) (any, error) { return tenant.UsageSummary(ctx, db, acme, past) },
		"usage": func(ctx context.Context, db *gorm.DB) (any, error) {
			return tenant.QueryUsage(ctx, db, tenant.Query{Tenant: acme, Period: past, By: []tenant.Group{tenant.ByModel, tenant.ByDay}})
		},
		"usage of everybody": func(ctx context.Context, db *gorm.DB) (any, error) {
			a, err := tenant.QueryUsage(ctx, db, tenant.Query{Everybody: true, Period: past, By: []tenant.Group{tenant.ByTenant, tenant.ByWeek}})
			return fmt.Sprintf("%+v", a), err
		},
		"tenants": func(ctx context.Context, db *gorm.DB) (any, error) {
			l, err := tenant.ListTenants(ctx, db, tenant.TenantList{})
			return fmt.Sprint(l), err
		},
		"tenants below": func(ctx context.Context, db *gorm.DB) (any, error) {
			l, err := tenant.ListTenants(ctx, db, tenant.TenantList{Below: acme})
			return fmt.Sprint(l), err
		},
		"near limits": func(ctx context.Context, db *gorm.DB) (any, error) {
			l, err := tenant.NearLimits(ctx, db, tenant.LimitList{Percent: 1})
			return fmt.Sprint(l), err
		},
		"running":  func(ctx context.Context, db *gorm.DB) (any, error) { return tenant.Running(ctx, db) },
		"overruns": func(ctx context.Context, db *gorm.DB) (any, error) { return tenant.Overruns(ctx, db, tenant.AllTime) },
		"page": func(ctx context.Context, db *gorm.DB) (any, error) {
			p, err := tenant.ExecutionsPage(ctx, db, tenant.ExecutionQuery{Tenant: acme}, 100)
			return len(p.Executions), err
		},
		"list":               list(tenant.ExecutionQuery{Tenant: acme}),
		"list by cost":       list(tenant.ExecutionQuery{Tenant: acme, ByCost: true}),
		"list below":         list(tenant.ExecutionQuery{Tenant: acme, Descendants: true}),
		"list of everybody":  list(tenant.ExecutionQuery{Everybody: true}),
		"export":             export(tenant.ExecutionQuery{Tenant: acme}),
		"export below":       export(tenant.ExecutionQuery{Tenant: acme, Descendants: true, Ascending: true}),
		"export of everyone": export(tenant.ExecutionQuery{Everybody: true}),
		"FOCUS":              export(tenant.FOCUS{Tenant: acme, Period: past, BillingAccountID: "a"}),
		"FOCUS of everybody": export(tenant.FOCUS{Everybody: true, Period: past, BillingAccountID: "a"}),
		"executions": func(ctx context.Context, db *gorm.DB) (any, error) {
			var n int64
			err := tenant.Executions(ctx, db, acme).Count(&n).Error
			return n, err
		},
		"audit log": func(ctx context.Context, db *gorm.DB) (any, error) {
			var n int64
			err := tenant.AuditLog(ctx, db, acme).Where("action <> 'Move'").Count(&n).Error
			return n, err
		},
	}
}

// inShort is an answer in a few words.
func inShort(answer any) string {
	const most = 300
	text := fmt.Sprint(answer)
	if len(text) > most {
		text = fmt.Sprintf("%s… (%x)", text[:most], sha256.Sum256([]byte(text)))
	}
	return text
}

func TestMove_BetweenTheStatementsOfAQuestionChangesNoAnswer(t *testing.T) {
	t.Parallel()
	b, db, _, otherDB, other := openBetween(t)
	start := time.Now()
	r := rand.New(rand.NewPCG(5, 6))
	place(t, otherDB, acme, "", "100")
	for i, id := range []tenant.ID{acme, "globex", "initech", "team"} {
		if id == "team" {
			place(t, otherDB, id, acme, "")
		} else if i > 0 {
			place(t, otherDB, id, "", "100")
		}
		calls := yearOf(r, start.Add(-time.Hour), 60)
		for i := range calls { // of the last weeks
			calls[i].at = start.Add(-time.Hour - start.Sub(calls[i].at)/8).Truncate(time.Microsecond)
		}
		remember(t, otherDB, string(id), calls...)
		require.NoError(t, call(t, other, id, "0.5"))
	}
	_, err := other.Repair(t.Context())
	require.NoError(t, err)
	require.NoError(t, other.RollUp(t.Context()))
	hold, err := other.Reserve(t.Context(), acme, cent)
	require.NoError(t, err)
	defer func() {
		_, err := other.Release(t.Context(), hold)
		require.NoError(t, err)
	}()
	moved := 0
	move := func() {
		moved++
		insist(t, other, acme, moves[moved%3])
	}
	modes := map[string]func(ctx context.Context, ask func(db *gorm.DB)){
		"outside of a transaction": func(ctx context.Context, ask func(db *gorm.DB)) { ask(db) },
	}
	for _, level := range []sql.IsolationLevel{sql.LevelReadCommitted, sql.LevelRepeatableRead} {
		modes[level.String()] = func(ctx context.Context, ask func(db *gorm.DB)) {
			tx := db.WithContext(t.Context()).Begin(&sql.TxOptions{Isolation: level})
			require.NoError(t, tx.Error)
			defer tx.Rollback()
			require.NoError(t, tx.Exec("SELECT 1 FROM llm_places").Error) // its moment
			ask(tx)
		}
	}
	for name, question := range questionsAbout(t, start) {
		t.Run(name, func(t *testing.T) {
			before, err := question(t.Context(), otherDB)
			require.NoError(t, err)
			for mode, in := range modes {
				eachStatement(t, b, move, func(ctx context.Context, n int64) {
					in(ctx, func(db *gorm.DB) {
						after, err := question(ctx, db)
						require.NoError(t, err, "%s, statement %d", mode, n)
						require.Equal(t, inShort(before), inShort(after), "%s, statement %d", mode, n)
					})
				})
			}
		})
	}
}

func TestMove_BetweenTheStatementsOfAnActChangesNothingOfIt(t *testing.T) {
	t.Parallel()
	live := pricing.NewLive(bookOf(t, flat("m", "1")))
	acts := map[string]func(t *testing.T, b *between, db *gorm.DB, ledger, other *tenant.Ledger, move func()){
		"erase": func(t *testing.T, b *between, db *gorm.DB, ledger, other *tenant.Ledger, move func()) {
			eachStatement(t, b, move, func(ctx context.Context, n int64) {
				b.left.Store(0)
				gone := tenant.ID(fmt.Sprintf("gone-%d", n))
				place(t, db, gone, acme, "")
				used(t, other, gone, tenant.Actual{Cost: tenant.USD("0.5")}, tenant.WithTag("feature", string(gone)))
				uuid, err := tenant.UUIDFor(t.Context(), db, gone)
				require.NoError(t, err)
				b.left.Store(n)
				report, err := ledger.Erase(ctx, gone)
				require.NoError(t, err)
				require.EqualValues(t, 1, report.Executions, "statement %d", n)
				cost, err := tenant.Cost(t.Context(), db, uuid, tenant.AllTime)
				require.NoError(t, err)
				require.Equal(t, "0.5", cost.String())
				requireNowhere(t, db, string(gone))
			})
		},
		"prune": func(t *testing.T, b *between, db *gorm.DB, ledger, other *tenant.Ledger, move func()) {
			before := time.Now().AddDate(0, -3, 0)
			eachStatement(t, b, move, func(ctx context.Context, n int64) {
				b.left.Store(0)
				remember(t, db, "acme", past{at: before.AddDate(0, 0, -int(n)), cost: 7}, past{at: before.AddDate(0, -2, -int(n)), cost: 8})
				_, err := other.Repair(t.Context()) // remember does not know of the anchor
				require.NoError(t, err)
				b.left.Store(n)
				report, err := ledger.Prune(ctx, before)
				require.NoError(t, err)
				require.EqualValues(t, 2, report.Executions, "statement %d", n)
				left, err := other.Prune(t.Context(), before, tenant.WithPruneDryRun())
				require.NoError(t, err)
				require.Zero(t, left.Executions, "statement %d", n)
			})
		},
		"reprice": func(t *testing.T, b *between, db *gorm.DB, ledger, other *tenant.Ledger, move func()) {
			for range 4 {
				used(t, other, acme, tenant.Actual{Usage: tenant.Usage{Input: 1_000_000}})
			}
			used(t, other, tenant.ID("globex"), tenant.Actual{Usage: tenant.Usage{Input: 1_000_000}})
			for _, options := range [][]tenant.RepriceOption{nil, {tenant.OnlyTenants(acme)}} {
				calls := int64(5 - len(options))
				eachStatement(t, b, move, func(ctx context.Context, n int64) {
					price := 2 + n
					live.Set(bookOf(t, flat("m", fmt.Sprint(price))))
					report, err := ledger.Reprice(ctx, time.Now().AddDate(0, 0, -1), time.Now().Add(time.Hour), append(options, tenant.OnlyModels("m"))...)
					require.NoError(t, err, "statement %d", n)
					require.Equal(t, []int64{calls, calls, calls * price}, []int64{report.Calls, report.Corrected, report.Right.IntPart()}, "statement %d", n)
				})
			}
		},
		"verify and repair": func(t *testing.T, b *between, db *gorm.DB, ledger, other *tenant.Ledger, move func()) {
			for name, run := range map[string]func(context.Context, ...tenant.VerifyOption) ([]tenant.Difference, error){"verify": ledger.Verify, "repair": ledger.Repair} {
				eachStatement(t, b, move, func(ctx context.Context, n int64) {
					b.left.Store(0)
					require.NoError(t, db.Exec(`UPDATE llm_balances SET spent_calls = 70 WHERE window_unit = 'total' AND tenant = (SELECT id FROM llm_tenants WHERE tenant_id = 'acme')`).Error)
					b.left.Store(n)
					var report tenant.VerifyReport
					found, err := run(ctx, tenant.WithVerifyProgress(func(r tenant.VerifyReport) { report = r }))
					require.NoError(t, err, "%s, statement %d", name, n)
					require.Len(t, found, 1, "%s, statement %d: %v", name, n, found)
					require.Equal(t, tenant.VerifyReport{Tenants: 3, Differences: 1}, report, "%s, statement %d", name, n)
				})
			}
			_, err := other.Repair(t.Context())
			require.NoError(t, err)
		},
		"import": func(t *testing.T, b *between, db *gorm.DB, ledger, other *tenant.Ledger, move func()) {
			eachStatement(t, b, move, func(ctx context.Context, n int64) {
				calls := func(yield func(tenant.ImportedCall, error) bool) {
					for i := range 3 {
						if !yield(tenant.ImportedCall{ID: fmt.Sprint(n, "-", i), Tenant: acme, At: time.Now(), Actual: tenant.Actual{Cost: tenant.USD("0.25")}}, nil) {
							return
						}
					}
				}
				report, err := ledger.Import(ctx, "elsewhere", calls)
				require.NoError(t, err, "statement %d", n)
				require.EqualValues(t, 3, report.Booked)
				again, err := ledger.Import(ctx, "elsewhere", calls, tenant.WithImportDryRun())
				require.NoError(t, err, "statement %d", n)
				require.EqualValues(t, 3, again.Duplicates, "statement %d", n)
			})
		},
		"defer": func(t *testing.T, b *between, db *gorm.DB, ledger, other *tenant.Ledger, move func()) {
			eachStatement(t, b, move, func(ctx context.Context, n int64) {
				key := fmt.Sprint("job-", n)
				hold, err := ledger.Reserve(ctx, acme, cent)
				require.NoError(t, err, "statement %d", n)
				require.NoError(t, ledger.Defer(ctx, hold, key), "statement %d", n)
				s, err := ledger.SettleDeferred(ctx, acme, key, tenant.Actual{Cost: tenant.USD("0.01")})
				require.NoError(t, err, "statement %d", n)
				require.Equal(t, tenant.Settled, s.Outcome)
			})
		},
		"settings": func(t *testing.T, b *between, db *gorm.DB, ledger, other *tenant.Ledger, move func()) {
			eachStatement(t, b, move, func(ctx context.Context, n int64) {
				limit := fmt.Sprint(1000 + n)
				require.NoError(t, tenant.ConfigureBudget(ctx, ledger.DB(), acme, func(b *tenant.Budget) error {
					b.Limits.MonthlyCost = tenant.USD(limit)
					return nil
				}), "statement %d", n)
				require.NoError(t, ledger.TopUp(ctx, acme, tenant.TopUp{Limit: tenant.Limit{Window: tenant.Month, Cost: tenant.USD("1")}, Reason: "more", IdempotencyKey: fmt.Sprint("top-up-", n)}), "statement %d", n)
				_, err := ledger.Credit(ctx, acme, tenant.USD("0.01"), "goodwill")
				require.NoError(t, err, "statement %d", n)
				status, err := tenant.BudgetStatus(t.Context(), db, acme)
				require.NoError(t, err)
				require.Len(t, status.Limits, 2)
			})
		},
		"rename": func(t *testing.T, b *between, db *gorm.DB, ledger, other *tenant.Ledger, move func()) {
			now := acme
			n := 0
			eachStatement(t, b, func() {
				n++
				moveUnlessLocked(t, db, other, now, moves[n%3])
			}, func(ctx context.Context, n int64) {
				next := tenant.ID(fmt.Sprint("acme-", n))
				require.NoError(t, ledger.Rename(ctx, now, next), "statement %d", n)
				now = next
				require.NoError(t, call(t, ledger, now, "0.01"), "statement %d", n)
			})
			require.NoError(t, other.Rename(t.Context(), now, acme))
			move()
		},
	}
	for name, act := range acts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _, ledger, db, other := openBetween(t, tenant.WithPrices(live), tenant.WithRollupTags("feature"))
			place(t, db, acme, "", "1000")
			require.NoError(t, call(t, other, acme, "0.5"))
			require.NoError(t, call(t, ledger, acme, "0.25"))
			require.NoError(t, call(t, other, tenant.ID("globex"), "0.5"))
			moved := 0
			act(t, b, db, ledger, other, func() {
				if moveUnlessLocked(t, db, other, acme, moves[(moved+1)%3]) {
					moved++
				}
			})
			require.NotZero(t, moved)
			if name != "erase" && name != "prune" { // of whose calls the sums are left
				requireConservation(t, db)
			}
			differences, err := other.Verify(t.Context())
			require.NoError(t, err)
			require.Empty(t, differences)
		})
	}
}

// moveUnlessLocked moves a tenant, and reports whether it did: whoever is interrupted may have locked it, in a transaction that goes on afterwards.
func moveUnlessLocked(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, id tenant.ID, place string) bool {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	moved := make(chan error, 1)
	go func() {
		_, err := ledger.Move(ctx, id, place)
		moved <- err
	}()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case err := <-moved:
			if err != nil && ctx.Err() == nil && !errors.Is(err, tenant.ErrUnavailable) && !errors.Is(err, tenant.ErrNoBudget) {
				t.Errorf("move: %v", err)
			}
			return err == nil
		case <-look.C:
		}
		var waits bool
		if err := db.Raw(`SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waits).Error; err != nil {
			t.Errorf("look at the locks: %v", err)
			return false
		}
		if waits {
			cancel()
		}
	}
}

// requireNowhere looks that no table of any place has a word.
func requireNowhere(t testing.TB, db *gorm.DB, word string) {
	t.Helper()
	var tables []string
	require.NoError(t, db.Raw(`SELECT schemaname || '.' || tablename FROM pg_tables WHERE tablename LIKE 'llm\_%' AND schemaname <> 'everywhere' ORDER BY 1`).Scan(&tables).Error)
	require.Greater(t, len(tables), 30)
	for _, table := range tables {
		var n int64
		require.NoError(t, db.Raw(`SELECT count(*) FROM `+table+` x WHERE CAST(x AS text) LIKE ?`, "%"+word+"%").Scan(&n).Error)
		require.Zero(t, n, "%s has %q", table, word)
	}
}

func TestErase_OfATenantThatWasMovedLeavesNothingWhereItWas(t *testing.T) {
	t.Parallel()
	db := openOverPlaces(t, placesDSN(t))
	ledger := openLedger(t, db, tenant.WithRollupTags("feature"))
	place(t, db, acme, "", "")
	for _, id := range []tenant.ID{acme, "globex"} {
		report, err := ledger.Import(t.Context(), "before", func(yield func(tenant.ImportedCall, error) bool) {
			for day := range 40 {
				if !yield(tenant.ImportedCall{
					ID: fmt.Sprint(day), Tenant: id, At: time.Now().AddDate(0, 0, -day-1), Actual: tenant.Actual{Cost: tenant.USD("0.25"), Model: "m"},
					Tags: map[string]string{"feature": "feature-of-" + string(id)},
				}, nil) {
					return
				}
			}
		})
		require.NoError(t, err)
		require.EqualValues(t, 40, report.Booked)
	}
	require.NoError(t, ledger.RollUp(t.Context()))
	for _, to := range moves {
		insist(t, ledger, acme, to)
		insist(t, ledger, "globex", to)
		require.NoError(t, ledger.RollUp(t.Context()))
	}
	byFeature := tenant.Query{Everybody: true, Period: tenant.Between(time.Now().AddDate(0, -2, 0), time.Now()), By: []tenant.Group{tenant.ByTag("feature")}}
	answer, err := tenant.QueryUsage(t.Context(), db, byFeature)
	require.NoError(t, err)
	require.Len(t, answer.Rows, 2)
	insist(t, ledger, "globex", "west")
	_, err = ledger.Erase(t.Context(), acme)
	require.NoError(t, err)
	requireNowhere(t, db, "acme")
	require.NoError(t, ledger.RollUp(t.Context()))
	requireNowhere(t, db, "acme")
	answer, err = tenant.QueryUsage(t.Context(), db, byFeature)
	require.NoError(t, err)
	require.Equal(t, "20", answer.Total.Cost.String())
	differences, err := ledger.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, differences)
}
