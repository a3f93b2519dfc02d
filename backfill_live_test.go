package tenant_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

func TestBackfill_SeveralAtOnceMakeOneBudgetForEachRecord(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		early(t, db, ledger, 300)
		spendCent(t, ledger, tenant.ID("p0042"))
		var made, linked atomic.Int64
		var wg sync.WaitGroup
		for _, size := range []int{100, 40, 40} {
			wg.Go(func() {
				report, err := ledger.Backfill(context.Background(), &Project{}, tenant.WithBatchSize(size))
				if err != nil || report.Skipped > 0 {
					t.Errorf("%+v: %v", report, err)
				}
				made.Add(report.Made)
				linked.Add(report.Linked)
			})
		}
		wg.Wait()
		require.Equal(t, [2]int64{299, 1}, [2]int64{made.Load(), linked.Load()}, "each is counted by the one that has made it")
		requireEachHasItsOwn(t, db)
		var tenants, balances int
		require.NoError(t, db.Raw(`SELECT count(*) FROM llm_tenants`).Scan(&tenants).Error)
		require.NoError(t, db.Raw(`SELECT count(*) FROM llm_balances b JOIN llm_tenants t ON t.id = b.tenant`).Scan(&balances).Error)
		require.Equal(t, [2]int{300, 300}, [2]int{tenants, balances})
		requireConservation(t, db)
	})
}

func TestBackfill_BesideLiveTrafficLosesNoChange(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		const n = 240
		projects := early(t, db, ledger, n, tenant.WithEnforcement(tenant.Hard))
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var wg sync.WaitGroup
		var renamed, deleted, created, calls atomic.Int64
		// busy is what a host may be told while two of its own writers meet; a call may also meet a deleted record.
		fails := func(what string, err error, or ...error) bool {
			if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, tenant.ErrUnavailable) {
				return err != nil
			}
			for _, also := range or {
				if errors.Is(err, also) {
					return true
				}
			}
			t.Errorf("%s: %v", what, err)
			return true
		}
		each := func(from, step int, do func(p *Project, round int)) {
			wg.Go(func() {
				for round := 0; ctx.Err() == nil; round++ {
					for i := from; i < n && ctx.Err() == nil; i += step {
						do(&projects[i], round)
					}
				}
			})
		}
		each(0, 4, func(p *Project, round int) {
			if !fails("rename", db.Model(&Project{}).Where("id = ?", p.ID).Update("slug", fmt.Sprintf("r%d-%d", p.ID, round)).Error) {
				renamed.Add(1)
			}
		})
		each(1, 4, func(p *Project, round int) {
			change := db.Delete(&Project{}, p.ID).Error
			if round%2 == 1 {
				change = db.Unscoped().Model(&Project{}).Where("id = ?", p.ID).Update("deleted_at", nil).Error
			}
			if !fails("delete", change) {
				deleted.Add(1)
			}
		})
		each(2, 4, func(p *Project, _ int) {
			hold, err := ledger.Reserve(ctx, ledger.Tenant(p), tenant.Estimate{Cost: tenant.USD("0.001")}, tenant.WithWait(0))
			if fails("reserve", err, tenant.ErrBudgetExceeded) {
				return
			}
			_, err = ledger.Settle(context.Background(), hold, tenant.Actual{Cost: tenant.USD("0.001")})
			if !fails("settle", err) {
				calls.Add(1)
			}
		})
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				p := Project{Slug: fmt.Sprint("new-", i), Name: "New"}
				if !fails("create", db.Create(&p).Error) {
					created.Add(1)
				}
				if i%2 == 0 {
					fails("delete a new one", db.Unscoped().Delete(&p).Error)
				}
			}
		})
		var first tenant.BackfillReport
		for run := range 4 {
			for resume := ""; ; { // on a busy machine, SQLite's write lock may not be had in time
				report, err := ledger.Backfill(t.Context(), &Project{}, tenant.WithBatchSize(20), tenant.WithOrphansRemoved(), tenant.WithResume(resume))
				require.Empty(t, report.Skips)
				require.Zero(t, report.Orphans, "what is deleted through GORM is never taken for an orphan")
				if run == 0 {
					first.Seen, first.Made = first.Seen+report.Seen, first.Made+report.Made
				}
				if !errors.Is(err, tenant.ErrUnavailable) {
					require.NoError(t, err)
					break
				}
				resume = report.Resume
			}
		}
		require.Eventually(t, func() bool {
			return renamed.Load() > 0 && deleted.Load() > 0 && created.Load() > 0 && calls.Load() > 0
		}, time.Minute, time.Millisecond)
		stop()
		wg.Wait()
		t.Logf("first run: %d seen, %d made; %d renamed, %d deleted or restored, %d created, %d calls", first.Seen, first.Made, renamed.Load(), deleted.Load(), created.Load(), calls.Load())
		require.Positive(t, first.Made)

		// Every change has found the budget that it was about. Only what was deleted whenever a run came by has none yet.
		lacking := withoutTheirOwn(t, db)
		for _, slug := range lacking {
			require.True(t, slices.ContainsFunc(projects, func(p Project) bool { return p.Slug == slug && (p.ID-projects[0].ID)%4 == 1 }), slug)
		}
		report, err := ledger.Backfill(t.Context(), &Project{})
		require.NoError(t, err)
		require.Equal(t, [2]int64{int64(len(lacking)), 0}, [2]int64{report.Made, report.Updated})
		requireEachHasItsOwn(t, db)
		var alive int
		require.NoError(t, db.Raw(`SELECT count(*) FROM projects p JOIN llm_tenants t ON t.owner_type = 'projects' AND t.owner_id = CAST(p.id AS text)
			WHERE p.deleted_at IS NOT NULL AND t.deleted_at IS NULL`).Scan(&alive).Error)
		require.Zero(t, alive, "no deleted record has a budget")
		requireConservation(t, db)
	})
}

// Slow stops when it is asked for its key, once it has been asked often enough.
type Slow struct {
	ID   uint
	Slug string
}

type slowness struct {
	answers       atomic.Int64 // how often it answers at once
	asked, answer chan struct{}
}

var slow atomic.Pointer[slowness]

func (s *Slow) LLMTenantID() string {
	if w := slow.Load(); w != nil && strings.HasPrefix(s.Slug, "before") && w.answers.Add(-1) == -1 {
		w.asked <- struct{}{}
		<-w.answer
	}
	return s.Slug
}

// waiting reports whether somebody waits for a lock in the database.
func waiting(t testing.TB, db *gorm.DB) bool {
	var n int
	require.NoError(t, db.Raw(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&n).Error)
	return n > 0
}

func TestBackfill_KeepsTheHostFromChangingARecordUnderItsHands(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openLedger(t, db)
	require.NoError(t, db.AutoMigrate(&Slow{}))
	require.NoError(t, ledger.Register(&Slow{}))
	// The host changes the record each time that it is read: the first time, the second, until it is not read that often.
	for round := int64(0); ; round++ {
		require.Less(t, round, int64(10))
		s := Slow{Slug: fmt.Sprint("before ", round)}
		require.NoError(t, db.Create(&s).Error)
		w := &slowness{asked: make(chan struct{}), answer: make(chan struct{})}
		w.answers.Store(round)
		slow.Store(w)
		done, changed := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := ledger.Backfill(context.Background(), &Slow{})
			done <- err
		}()
		select {
		case err := <-done:
			require.NoError(t, err)
			require.Positive(t, round)
			return
		case <-w.asked:
		}
		to := fmt.Sprint("after ", round)
		go func() { changed <- db.Model(&Slow{}).Where("id = ?", s.ID).Update("slug", to).Error }()
		require.Eventually(t, func() bool { return waiting(t, db) || len(changed) > 0 }, time.Minute, time.Millisecond)
		close(w.answer)
		require.NoError(t, <-changed)
		require.NoError(t, <-done)
		require.Equal(t, to, rowOf(t, db, "slows", s.ID).key(), "the change has found the budget that was being made")
	}
}

func TestBackfill_TakesNoRecordForGoneThatIsBeingDeletedWithItsBudget(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openLedger(t, db)
	projects := early(t, db, ledger, 3)
	var atOrphans string
	_, err := ledger.Backfill(t.Context(), &Project{}, tenant.WithProgress(func(r tenant.BackfillReport) {
		if r.Resume != "" {
			atOrphans = r.Resume
		}
	}))
	require.NoError(t, err)
	tx := db.Begin()
	require.NoError(t, tx.Exec(`LOCK TABLE projects IN ACCESS EXCLUSIVE MODE`).Error)
	require.NoError(t, tx.Unscoped().Delete(&projects[1]).Error)
	done := make(chan tenant.BackfillReport, 1)
	go func() {
		report, err := ledger.Backfill(context.Background(), &Project{}, tenant.WithResume(atOrphans), tenant.WithOrphansRemoved())
		if err != nil {
			t.Error(err)
		}
		done <- report
	}()
	// It has read the tenants, and waits to look for their records.
	require.Eventually(t, func() bool { return waiting(t, db) }, time.Minute, time.Millisecond)
	require.NoError(t, tx.Commit().Error)
	require.Equal(t, tenant.BackfillReport{}, <-done)
	require.Equal(t, []string{"p0000", "p0002"}, keysOf(t, db, "projects"))
}

func TestBackfill_DoesNotWaitForWhatAHostHasLocked(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openLedger(t, db)
	projects := early(t, db, ledger, 30)
	tx := db.Begin()
	require.NoError(t, tx.Exec(`UPDATE projects SET slug = 'changed' WHERE id = ?`, projects[7].ID).Error)
	require.NoError(t, tx.Exec(`UPDATE projects SET slug = 'changed too' WHERE id = ?`, projects[20].ID).Error)
	spendCent(t, ledger, tenant.ID("p0009"))
	require.NoError(t, tx.Exec(`SELECT 1 FROM llm_tenants WHERE tenant_id = 'p0009' FOR UPDATE`).Error)

	report, err := ledger.Backfill(t.Context(), &Project{})
	require.NoError(t, err)
	require.Len(t, report.Skips, 3)
	for _, s := range report.Skips {
		require.ErrorIs(t, s.Err, tenant.ErrUnavailable)
		require.Contains(t, []string{fmt.Sprint(projects[7].ID), fmt.Sprint(projects[20].ID), fmt.Sprint(projects[9].ID)}, s.Record)
	}
	require.Equal(t, [4]int64{30, 27, 0, 3}, [4]int64{report.Seen, report.Made, report.Linked, report.Skipped})
	require.NoError(t, tx.Commit().Error)
	report, err = ledger.Backfill(t.Context(), &Project{})
	require.NoError(t, err)
	require.Equal(t, tenant.BackfillReport{Seen: 30, Made: 2, Linked: 1}, report)
	require.Equal(t, "changed", rowOf(t, db, "projects", projects[7].ID).key())
	requireEachHasItsOwn(t, db)
}

func TestBackfill_WaitsForAHostThatIsSoonDone(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openLedger(t, db)
	projects := early(t, db, ledger, 30)
	tx := db.Begin()
	require.NoError(t, tx.Model(&projects[7]).Update("slug", "changed").Error)
	require.NoError(t, tx.Unscoped().Delete(&projects[8]).Error)
	done := make(chan tenant.BackfillReport, 1)
	go func() {
		report, err := ledger.Backfill(context.Background(), &Project{})
		if err != nil {
			t.Error(err)
		}
		done <- report
	}()
	require.Eventually(t, func() bool { return len(keysOf(t, db, "projects")) == 28 }, time.Minute, time.Millisecond, "the others have theirs")
	require.NoError(t, tx.Commit().Error)
	require.Equal(t, tenant.BackfillReport{Seen: 29, Made: 29}, <-done)
	requireEachHasItsOwn(t, db)
}

func TestBackfill_OfAProcessThatIsKilledIsDoneByTheNextRun(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	db := openAt(t, postgres.Open(dsn))
	ledger := openLedger(t, db)
	projects := early(t, db, ledger, 2000)
	spendCent(t, ledger, ledger.Tenant(projects[1999]))
	killed := start(t, "backfill", dsn)
	for range 20 {
		killed.hear(t)
	}
	require.NoError(t, killed.cmd.Process.Kill())
	killed.hearAll()
	// The server may still be busy with the killed one's last batch.
	require.Eventually(t, func() bool {
		var others int
		require.NoError(t, db.Raw(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()`).Scan(&others).Error)
		return others == 0
	}, time.Minute, time.Millisecond)
	half := int64(len(keysOf(t, db, "projects")))
	require.Less(t, half, int64(2000), "it was killed in the middle")
	report, err := ledger.Backfill(t.Context(), &Project{})
	require.NoError(t, err)
	require.Equal(t, tenant.BackfillReport{Seen: 2000, Made: 2000 - half}, report)
	requireEachHasItsOwn(t, db)
	requireConservation(t, db)
}

// backfillAndSay gives projects their budgets, and says so after each batch.
func backfillAndSay(t *testing.T, db *gorm.DB, _ []string) {
	ledger := openLedger(t, db)
	require.NoError(t, ledger.Register(&Project{}, dollar))
	_, err := ledger.Backfill(t.Context(), &Project{}, tenant.WithBatchSize(5), tenant.WithProgress(func(r tenant.BackfillReport) {
		say("%d", r.Seen)
	}))
	require.NoError(t, err)
}

func TestBackfill_WhoseDatabaseGoesAwayGoesOnWhenItIsBack(t *testing.T) {
	t.Parallel()
	server, db := cluster(t)
	ledger := openLedger(t, db)
	require.NoError(t, ledger.Migrate(t.Context()))
	early(t, db, ledger, 20)
	report, err := ledger.Backfill(t.Context(), &Project{}, tenant.WithBatchSize(6), tenant.WithProgress(func(r tenant.BackfillReport) {
		if r.Seen == 12 {
			server.Stop(pgtest.Immediate)
		}
	}))
	require.ErrorIs(t, err, tenant.ErrUnavailable)
	require.Equal(t, [3]int64{12, 12, 0}, [3]int64{report.Seen, report.Made, report.Skipped})
	server.Start()
	require.Eventually(t, func() bool {
		report, err = ledger.Backfill(t.Context(), &Project{}, tenant.WithBatchSize(6), tenant.WithResume(report.Resume))
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	require.Equal(t, tenant.BackfillReport{Seen: 8, Made: 8}, report)
	requireEachHasItsOwn(t, db)
}
