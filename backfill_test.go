package tenant_test

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/glebarez/sqlite"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// early makes projects before their model is declared, and then declares it.
func early(t testing.TB, db *gorm.DB, ledger *tenant.Ledger, n int, options ...tenant.RegisterOption) []Project {
	t.Helper()
	require.NoError(t, db.AutoMigrate(&Project{}))
	projects := make([]Project, n)
	for i := range projects {
		projects[i] = Project{Slug: fmt.Sprintf("p%04d", i), Name: fmt.Sprint("Project ", i)}
	}
	require.NoError(t, db.CreateInBatches(&projects, 500).Error)
	require.NoError(t, ledger.Register(&Project{}, append([]tenant.RegisterOption{dollar}, options...)...))
	return projects
}

// ledgerRows are all rows of the ledger's settings, as they are.
func ledgerRows(t testing.TB, db *gorm.DB) []map[string]any {
	t.Helper()
	var all []map[string]any
	for _, query := range []string{`SELECT * FROM llm_tenants ORDER BY id`, `SELECT * FROM llm_limits ORDER BY tenant, window_unit, metric`} {
		var rows []map[string]any
		require.NoError(t, db.Raw(query).Scan(&rows).Error)
		all = append(all, rows...)
	}
	return all
}

// withoutTheirOwn returns the keys of the projects that are alive and have no tenant of their key and name, with a limit.
func withoutTheirOwn(t testing.TB, db *gorm.DB) (slugs []string) {
	t.Helper()
	require.NoError(t, db.Raw(`SELECT p.slug FROM projects p WHERE p.deleted_at IS NULL AND NOT EXISTS (SELECT 1 FROM llm_tenants t
		JOIN llm_limits l ON l.tenant = t.id WHERE t.owner_type = 'projects' AND t.owner_id = CAST(p.id AS text) AND t.tenant_id = p.slug
		AND t.name = p.name AND t.deleted_at IS NULL)`).Scan(&slugs).Error)
	return slugs
}

func requireEachHasItsOwn(t testing.TB, db *gorm.DB) {
	t.Helper()
	require.Empty(t, withoutTheirOwn(t, db))
}

func TestBackfill_GivesRecordsFromBeforeTheirBudgetsAndLinksThoseKnownByID(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		spendCent(t, ledger, tenant.ID("p0003"))
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, tenant.ID("p0003"), func(b *tenant.Budget) error {
			b.Limits.DailyCost = tenant.USD("0.02")
			return nil
		}))
		spendCent(t, ledger, tenant.ID("nobody's"))
		projects := early(t, db, ledger, 7, tenant.WithEnforcement(tenant.Hard))
		spendCent(t, ledger, ledger.Tenant(projects[5]))

		were := ledgerRows(t, db)
		dry, err := ledger.Backfill(t.Context(), &Project{}, tenant.WithBatchSize(3), tenant.WithBackfillDryRun(), tenant.WithOrphansRemoved())
		require.NoError(t, err)
		require.Equal(t, tenant.BackfillReport{Seen: 7, Made: 5, Linked: 1}, dry)
		require.Equal(t, were, ledgerRows(t, db), "a dry run changes no row")
		var seen, made []int64
		var last tenant.BackfillReport
		report, err := ledger.Backfill(t.Context(), &Project{}, tenant.WithBatchSize(3), tenant.WithProgress(func(r tenant.BackfillReport) {
			seen, made, last = append(seen, r.Seen), append(made, r.Made), r
		}))
		require.NoError(t, err)
		require.Equal(t, tenant.BackfillReport{Seen: 7, Made: 5, Linked: 1}, report)
		require.Equal(t, report, last)
		require.Equal(t, [][]int64{{3, 6, 7, 7, 7, 7}, {3, 4, 5, 5, 5, 5}}, [][]int64{seen, made}, "after each batch, of tenants too")
		requireEachHasItsOwn(t, db)

		require.EqualValues(t, 1, balanceOf(t, db, "p0003", "day").SpentCalls, "what it has spent counts")
		_, err = ledger.Reserve(t.Context(), ledger.Tenant(projects[3]), tenant.Estimate{Cost: tenant.USD("0.015")})
		require.ErrorIs(t, err, tenant.ErrBudgetExceeded, "a limit that was set by hand stays")
		_, err = ledger.Reserve(t.Context(), tenant.ID("p0000"), tenant.Estimate{Cost: tenant.USD("1.01")})
		require.ErrorIs(t, err, tenant.ErrBudgetExceeded, "the declared limits are in force for the id alone too")
		require.Equal(t, 1, rowOf(t, db, "projects", projects[0].ID).Balances)

		before := ledgerRows(t, db)
		report, err = ledger.Backfill(t.Context(), Project{})
		require.NoError(t, err)
		require.Equal(t, tenant.BackfillReport{Seen: 7}, report)
		require.Equal(t, before, ledgerRows(t, db), "a second run changes no row")
		requireConservation(t, db)
	})
}

func TestBackfill_MakesBudgetsOfModelsThatGiveThemAtTheFirstCall(t *testing.T) {
	t.Parallel()
	eachConfiguration(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme", tenant.WithNamespace("org"))
		require.NoError(t, db.Create(&Organization{Slug: "gone"}).Error)
		table := db.NamingStrategy.TableName("Organization")
		require.Empty(t, rowOf(t, db, table, org.ID).ID)
		filtered(t, db)
		for _, want := range []tenant.BackfillReport{{Seen: 2, Made: 2}, {Seen: 2}} {
			report, err := ledger.Backfill(t.Context(), &Organization{}, tenant.WithBatchSize(1))
			require.NoError(t, err)
			require.Equal(t, want, report)
		}
		require.Equal(t, []string{"org:acme", "org:gone"}, keysOf(t, db, table))
		require.NoError(t, db.Exec(`DELETE FROM `+table+` WHERE slug = 'gone'`).Error)
		report, err := ledger.Backfill(t.Context(), &Organization{}, tenant.WithOrphansRemoved())
		require.NoError(t, err)
		require.EqualValues(t, 1, report.Orphans)
		require.Equal(t, []string{"org:acme"}, keysOf(t, db, table))
	})
}

// Models with the kinds of primary keys that there are.
type (
	keyedByText struct {
		ID   string
		Slug string `tenant:"key"`
	}
	keyedByUUID struct {
		ID   uuid.UUID `gorm:"type:uuid"`
		Slug string    `tenant:"key"`
	}
	keyedByBytes struct {
		ID   []byte `gorm:"primaryKey"`
		Slug string `tenant:"key"`
	}
	keyedByTime struct {
		At   time.Time `gorm:"primaryKey"`
		Slug string    `tenant:"key"`
	}
	keyedByStringer struct {
		ID   Level  `gorm:"primaryKey;autoIncrement:false"`
		Slug string `tenant:"key"`
	}
	keyedByThree struct {
		Region []byte    `gorm:"primaryKey"`
		Number int       `gorm:"primaryKey;autoIncrement:false"`
		Part   uuid.UUID `gorm:"primaryKey;type:uuid"`
		Slug   string    `tenant:"key"`
	}
)

// Level is a number whose text does not lead back to it.
type Level int

func (l Level) String() string { return fmt.Sprintf("level %d", int(l)) }

func TestBackfill_WalksEveryKindOfPrimaryKeyAndGoesOnFromEachBatch(t *testing.T) {
	t.Parallel()
	const n = 11
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.FixedZone("", 3600))
	number := func(i int) int { return i*7%n - 4 } // in another order than they are made, some below zero
	for name, c := range map[string]struct {
		model  any
		record func(i int, slug string) any
	}{
		"text":  {&keyedByText{}, func(i int, slug string) any { return &keyedByText{fmt.Sprintf("k'%d é", number(i)), slug} }},
		"uuid":  {&keyedByUUID{}, func(_ int, slug string) any { return &keyedByUUID{uuid.New(), slug} }},
		"bytes": {&keyedByBytes{}, func(i int, slug string) any { return &keyedByBytes{fmt.Append(nil, "b", i), slug} }},
		"time": {&keyedByTime{}, func(i int, slug string) any {
			return &keyedByTime{at.Add(time.Duration(number(i)) * time.Millisecond), slug}
		}},
		"stringer": {&keyedByStringer{}, func(i int, slug string) any { return &keyedByStringer{Level(number(i)), slug} }},
		"three": {&keyedByThree{}, func(i int, slug string) any {
			return &keyedByThree{fmt.Append(nil, i%2), number(i) / 3, uuid.New(), slug}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
				require.NoError(t, db.AutoMigrate(c.model))
				var slugs []string
				for i := range n {
					slugs = append(slugs, fmt.Sprintf("s%02d", i))
					require.NoError(t, db.Create(c.record(i, slugs[i])).Error)
				}
				require.NoError(t, ledger.Register(c.model, dollar))
				tokens := map[string]tenant.BackfillReport{"": {}}
				batches := tenant.WithProgress(func(r tenant.BackfillReport) { tokens[r.Resume] = r })
				report, err := ledger.Backfill(t.Context(), c.model, tenant.WithBatchSize(2), batches)
				require.NoError(t, err)
				require.Equal(t, tenant.BackfillReport{Seen: n, Made: n}, report)
				table := db.NamingStrategy.TableName(strings.TrimPrefix(fmt.Sprintf("%T", c.model), "*tenant_test."))
				require.Equal(t, slugs, keysOf(t, db, table))
				require.Len(t, tokens, 6+6, "batches of records and of tenants")
				delete(tokens, "")
				for token, before := range tokens {
					report, err := ledger.Backfill(t.Context(), c.model, tenant.WithBatchSize(3), tenant.WithResume(token), tenant.WithOrphansRemoved())
					require.NoError(t, err)
					require.Equal(t, tenant.BackfillReport{Seen: n - before.Seen}, report)
				}
				require.Equal(t, slugs, keysOf(t, db, table))
			})
		})
	}
}

func TestBackfill_LeavesWhatASoftDeleteHasLeft(t *testing.T) {
	t.Parallel()
	for policy, want := range map[tenant.DeletePolicy]tenant.BackfillReport{
		tenant.SuspendBudget: {Seen: 4, Made: 1, Updated: 2},
		tenant.KeepBudget:    {Seen: 4, Made: 2},
		tenant.RemoveBudget:  {Seen: 4, Made: 1, Updated: 2},
	} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
				projects := early(t, db, ledger, 4, tenant.WithOnDelete(policy))
				spendCent(t, ledger, ledger.Tenant(projects[2]))
				require.NoError(t, db.Delete(&projects[1]).Error)
				spendCent(t, ledger, ledger.Tenant(projects[3]))
				require.NoError(t, db.Delete(&projects[3]).Error)
				// Unseen: one that has a budget is deleted, one is restored.
				require.NoError(t, db.Exec(`UPDATE projects SET deleted_at = CURRENT_TIMESTAMP WHERE id = ?`, projects[2].ID).Error)
				require.NoError(t, db.Exec(`UPDATE projects SET deleted_at = NULL WHERE id = ?`, projects[3].ID).Error)
				want := want
				if policy == tenant.RemoveBudget {
					want.Made, want.Updated = 2, 1 // what is restored starts anew
				}
				report, err := ledger.Backfill(t.Context(), &Project{})
				require.NoError(t, err)
				require.Equal(t, want, report)
				requireEachHasItsOwn(t, db)
				for _, p := range projects[1:3] {
					r := rowOf(t, db, "projects", p.ID)
					require.Equal(t, policy == tenant.KeepBudget, r.ID != "" && !r.Deleted)
				}
				before := ledgerRows(t, db)
				_, err = ledger.Backfill(t.Context(), &Project{})
				require.NoError(t, err)
				require.Equal(t, before, ledgerRows(t, db))
				requireConservation(t, db)
			})
		})
	}
}

func TestBackfill_SkipsAndListsWhatCannotHaveItsBudget(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "p0004", dollar)
		projects := early(t, db, ledger, 12)
		require.NoError(t, db.Exec(`DROP INDEX idx_projects_slug`).Error)
		require.NoError(t, db.Exec(`UPDATE projects SET slug = 'p0000' WHERE id IN (?, ?)`, projects[7].ID, projects[11].ID).Error)
		require.NoError(t, db.Exec(`UPDATE projects SET slug = '' WHERE id = ?`, projects[9].ID).Error)

		report, err := ledger.Backfill(t.Context(), &Project{}, tenant.WithBatchSize(10))
		require.NoError(t, err)
		why := map[string]error{}
		for _, s := range report.Skips {
			why[s.Record] = s.Err
		}
		require.Len(t, why, 4)
		for i, is := range map[int]error{4: tenant.ErrIdentityConflict, 7: tenant.ErrIdentityConflict, 9: tenant.ErrInvalidTenant, 11: tenant.ErrIdentityConflict} {
			require.ErrorIs(t, why[fmt.Sprint(projects[i].ID)], is, i)
			require.Empty(t, rowOf(t, db, "projects", projects[i].ID).ID, i)
		}
		require.ErrorContains(t, why[fmt.Sprint(projects[4].ID)], fmt.Sprintf("belongs to organizations %d", org.ID))
		require.ErrorContains(t, why[fmt.Sprint(projects[11].ID)], fmt.Sprintf("belongs to projects %d", projects[0].ID), "the first one has it")
		report.Skips = nil
		require.Equal(t, tenant.BackfillReport{Seen: 12, Made: 8, Skipped: 4}, report)
		require.Equal(t, "p0000", rowOf(t, db, "projects", projects[0].ID).key())
	})
}

func TestBackfill_ListsTheFirst100OfManySkips(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		early(t, db, ledger, 250)
		require.NoError(t, db.Exec(`DROP INDEX idx_projects_slug`).Error)
		require.NoError(t, db.Exec(`UPDATE projects SET slug = 'same' WHERE id > 10`).Error)
		report, err := ledger.Backfill(t.Context(), &Project{})
		require.NoError(t, err)
		require.Len(t, report.Skips, 100)
		require.Equal(t, [3]int64{250, 11, 239}, [3]int64{report.Seen, report.Made, report.Skipped})
	})
}

func TestBackfill_MakesBudgetsFollowWhatTheLedgerHasNotSeen(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		projects := early(t, db, ledger, 20)
		_, err := ledger.Backfill(t.Context(), &Project{})
		require.NoError(t, err)
		spendCent(t, ledger, ledger.Tenant(projects[0]))
		id := rowOf(t, db, "projects", projects[0].ID).ID
		// Records of different batches have exchanged their keys: two of them, and another four in a ring.
		require.NoError(t, db.Exec(`DROP INDEX idx_projects_slug`).Error)
		for i, to := range map[int]string{2: "p0017", 17: "p0002", 0: "p0013", 13: "p0005", 5: "p0009", 9: "p0000"} {
			require.NoError(t, db.Exec(`UPDATE projects SET slug = ? WHERE id = ?`, to, projects[i].ID).Error)
		}
		require.NoError(t, db.Exec(`UPDATE projects SET name = 'by hand' WHERE id = ?`, projects[6].ID).Error)
		report, err := ledger.Backfill(t.Context(), &Project{}, tenant.WithBatchSize(4))
		require.NoError(t, err)
		require.GreaterOrEqual(t, report.Updated, int64(4), "some have followed for others to have their keys")
		report.Updated = 0
		require.Equal(t, tenant.BackfillReport{Seen: 20}, report)
		requireEachHasItsOwn(t, db)
		after := rowByID(t, db, id)
		require.Equal(t, "p0013", after.key())
		require.EqualValues(t, 1, balanceOf(t, db, "p0013", "day").SpentCalls)
		requireConservation(t, db)
	})
}

func TestBackfill_ReportsOrphansAndRemovesThemWhenTold(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "org", dollar)
		projects := early(t, db, ledger, 250)
		_, err := ledger.Backfill(t.Context(), &Project{})
		require.NoError(t, err)
		spendCent(t, ledger, ledger.Tenant(projects[249]))
		require.NoError(t, db.Delete(&projects[1]).Error, "what is softly deleted is no orphan")
		require.NoError(t, db.Exec(`DELETE FROM projects WHERE id > ?`, projects[9].ID).Error)
		before := ledgerRows(t, db)
		report, err := ledger.Backfill(t.Context(), &Project{}, tenant.WithBatchSize(7))
		require.NoError(t, err)
		require.Len(t, report.Orphaned, 100)
		for _, o := range report.Orphaned {
			var i uint
			_, err := fmt.Sscanf(o.TenantID, "p%d", &i)
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(projects[i].ID), o.Record)
		}
		report.Orphaned = nil
		require.Equal(t, tenant.BackfillReport{Seen: 10, Orphans: 240}, report)
		require.Equal(t, before, ledgerRows(t, db))
		gone := rowOf(t, db, "projects", projects[249].ID)

		report, err = ledger.Backfill(t.Context(), &Project{}, tenant.WithOrphansRemoved(), tenant.WithBatchSize(7))
		require.NoError(t, err)
		require.EqualValues(t, 240, report.Orphans)
		gone.OwnerType, gone.OwnerID, gone.Deleted, gone.Limits = nil, nil, true, 0
		require.Equal(t, gone, rowByID(t, db, gone.ID))
		_, err = ledger.Reserve(t.Context(), tenant.ID("p0249"), cent)
		require.ErrorIs(t, err, tenant.ErrTenantSuspended, "as after a delete")
		requireEachHasItsOwn(t, db)
		require.Equal(t, "org", rowOf(t, db, "organizations", org.ID).key(), "another model's budgets are none of its business")
		report, err = ledger.Backfill(t.Context(), &Project{}, tenant.WithOrphansRemoved())
		require.NoError(t, err)
		require.Equal(t, tenant.BackfillReport{Seen: 10}, report)
		requireConservation(t, db)
	})
}

func TestBackfill_ThatIsCancelledSaysWhatWasDoneAndGoesOnLater(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		early(t, db, ledger, 30)
		resume, total, runs := "", int64(0), 0
		for ; runs < 100; runs++ {
			ctx, cancel := context.WithCancel(t.Context())
			report, err := ledger.Backfill(ctx, &Project{}, tenant.WithBatchSize(4), tenant.WithResume(resume), tenant.WithPause(time.Hour),
				tenant.WithProgress(func(tenant.BackfillReport) { cancel() }))
			total += report.Made
			if resume = report.Resume; resume == "" {
				require.NoError(t, err)
				break
			}
			require.ErrorIs(t, err, context.Canceled)
			require.LessOrEqual(t, report.Seen, int64(4))
		}
		require.EqualValues(t, 30, total)
		require.Equal(t, 15, runs, "8 batches of records, then 8 of tenants")
		requireEachHasItsOwn(t, db)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		report, err := ledger.Backfill(ended, &Project{})
		require.ErrorIs(t, err, context.Canceled)
		require.Zero(t, report.Seen)
		require.NotEmpty(t, report.Resume)
	})
}

func TestBackfill_RefusesWhatCannotBeMeant(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		early(t, db, ledger, 2)
		require.NoError(t, db.AutoMigrate(&Assignment{}))
		require.NoError(t, ledger.Register(&Assignment{}, tenant.WithKey("Slug")))
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		other, err := ledger.Backfill(ended, &Assignment{})
		require.ErrorIs(t, err, context.Canceled)
		for says, call := range map[string]func() (tenant.BackfillReport, error){
			"Backfill *tenant_test.Organization: the model was not declared; call ledger.Register(&tenant_test.Organization{}, …) first": func() (tenant.BackfillReport, error) {
				return ledger.Backfill(t.Context(), &Organization{})
			},
			"the model is nil":     func() (tenant.BackfillReport, error) { return ledger.Backfill(t.Context(), nil) },
			"a nil BackfillOption": func() (tenant.BackfillReport, error) { return ledger.Backfill(t.Context(), &Project{}, nil) },
			"WithBatchSize: 0 is not between": func() (tenant.BackfillReport, error) {
				return ledger.Backfill(t.Context(), &Project{}, tenant.WithBatchSize(0))
			},
			"WithBatchSize: 501 is not between": func() (tenant.BackfillReport, error) {
				return ledger.Backfill(t.Context(), &Project{}, tenant.WithBatchSize(501))
			},
			"WithPause: -1s is negative": func() (tenant.BackfillReport, error) {
				return ledger.Backfill(t.Context(), &Project{}, tenant.WithPause(-time.Second))
			},
			"WithProgress: the function is nil": func() (tenant.BackfillReport, error) {
				return ledger.Backfill(t.Context(), &Project{}, tenant.WithProgress(nil))
			},
			`WithResume: "abc" is not the Resume`: func() (tenant.BackfillReport, error) {
				return ledger.Backfill(t.Context(), &Project{}, tenant.WithResume("abc"))
			},
			"over the table assignments ended, and th": func() (tenant.BackfillReport, error) {
				return ledger.Backfill(t.Context(), &Project{}, tenant.WithResume(other.Resume))
			},
		} {
			report, err := call()
			require.ErrorIs(t, err, tenant.ErrInvalidOption, says)
			require.ErrorContains(t, err, says)
			require.Equal(t, tenant.BackfillReport{}, report)
		}
		report, err := ledger.Backfill(t.Context(), &Project{}, tenant.WithBatchSize(1), tenant.WithProgress(func(tenant.BackfillReport) {
			require.NoError(t, ledger.Close(t.Context()))
		}))
		require.ErrorIs(t, err, tenant.ErrClosed)
		require.EqualValues(t, 1, report.Seen)
	})
}

// Folded is a key that the database is asked for in another form than it has.
type Folded string

func (Folded) Value() (driver.Value, error) { return "a", nil }

type keyedByFolded struct {
	ID   Folded
	Slug string `tenant:"key"`
}

func TestBackfill_ThatCannotGetOnSaysSo(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&keyedByFolded{}))
		require.NoError(t, db.Exec(`INSERT INTO keyed_by_foldeds (id, slug) VALUES ('b', 'x'), ('c', 'y')`).Error)
		require.NoError(t, ledger.Register(&keyedByFolded{}))
		_, err := ledger.Backfill(t.Context(), &keyedByFolded{}, tenant.WithBatchSize(1))
		require.ErrorIs(t, err, tenant.ErrInvalidTenant)
		require.ErrorContains(t, err, "another value than the database gave")
	})
}

func TestBackfill_WithoutTablesSaysWhichCallToMake(t *testing.T) {
	t.Parallel()
	for dialect, dialector := range map[string]gorm.Dialector{"postgres": postgres.Open(pgtest.Empty(t)), "sqlite": sqlite.Open(sqliteDSN(t))} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := openAt(t, dialector)
			ledger := openLedger(t, db)
			early(t, db, ledger, 3)
			report, err := ledger.Backfill(t.Context(), &Project{}, tenant.WithBatchSize(1))
			require.ErrorIs(t, err, tenant.ErrNotMigrated)
			require.Zero(t, report.Skipped, "it is no record's fault")
			require.NoError(t, ledger.Migrate(t.Context()))
			report, err = ledger.Backfill(t.Context(), &Project{}, tenant.WithResume(report.Resume))
			require.NoError(t, err)
			require.Equal(t, tenant.BackfillReport{Seen: 3, Made: 3}, report)
		})
	}
}
