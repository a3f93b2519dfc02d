package tenant_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/glebarez/sqlite"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/plugin/dbresolver"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

func TestCreate_OfMapsMakesTheBudgetsOfWhatWasStored(t *testing.T) {
	t.Parallel()
	eachConfiguration(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		require.NoError(t, ledger.Register(&Project{}, dollar))
		table := db.NamingStrategy.TableName("Project")
		many := []map[string]any{{"Slug": "c"}, {"Slug": "d"}}
		for way, err := range map[string]error{
			"a map by fields":   db.Model(&Project{}).Create(map[string]any{"Slug": "a"}).Error,
			"a map by columns":  db.Model(&Project{}).Create(&map[string]any{"slug": "b", "id": 90}).Error,
			"a slice of maps":   db.Model(&Project{}).Create(&many).Error,
			"the table alone":   db.Table(table).Create(map[string]any{"slug": "e"}).Error,
			"with several":      db.Table(table).Create([]map[string]any{{"slug": "f"}, {"slug": "g"}}).Error,
			"with its id":       db.Table(table).Create(map[string]any{"id": 50, "slug": "h"}).Error,
			"an expression":     db.Model(&Project{}).Create(map[string]any{"Slug": gorm.Expr("'i'")}).Error,
			"in a transaction":  db.Transaction(func(tx *gorm.DB) error { return tx.Table(table).Create(map[string]any{"slug": "j"}).Error }),
			"of a soft deleted": db.Create(&Project{Slug: "deleted", DeletedAt: gorm.DeletedAt{Valid: true}}).Error,
		} {
			require.NoError(t, err, way)
		}
		keys := keysOf(t, db, table)
		require.Equal(t, []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}, keys)
		var p Project
		require.NoError(t, db.Where("slug = ?", "e").First(&p).Error)
		require.Equal(t, "e", rowOf(t, db, table, p.ID).key())
	})
}

// Sloganed has a key that only a method knows.
type Sloganed struct {
	ID     uint
	Slogan string
}

func (s *Sloganed) LLMTenantID() string { return "the " + s.Slogan }

func TestCreate_OfAMapWhoseRecordCannotBeFoundGetsItsBudgetAtFirstUse(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Sloganed{}))
		require.NoError(t, ledger.Register(&Sloganed{}, dollar, tenant.WithEnforcement(tenant.Hard)))
		require.NoError(t, db.Table("sloganeds").Create(map[string]any{"slogan": "best"}).Error)
		var s Sloganed
		require.NoError(t, db.First(&s).Error)
		_, err := ledger.Reserve(t.Context(), &s, tenant.Estimate{Cost: tenant.USD("1.01")})
		require.ErrorIs(t, err, tenant.ErrBudgetExceeded, "with the declared limits in force")
		require.Equal(t, []string{"the best"}, keysOf(t, db, "sloganeds"))
	})
}

func TestCreate_ByAssociationMakesTheBudgetsOfTheAssociated(t *testing.T) {
	t.Parallel()
	eachConfiguration(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Client{}, &Assignment{}))
		require.NoError(t, ledger.Register(&Assignment{}, tenant.WithKey("Slug"), dollar))
		table := db.NamingStrategy.TableName("Assignment")
		client := Client{Projects: []Assignment{{Slug: "a"}, {Slug: "b"}}}
		require.NoError(t, db.Create(&client).Error)
		require.Equal(t, []string{"a", "b"}, keysOf(t, db, table))
		require.NoError(t, db.Model(&client).Association("Projects").Append(&Assignment{Slug: "c"}))
		require.Equal(t, []string{"a", "b", "c"}, keysOf(t, db, table))
		ids := map[string]string{}
		for _, p := range client.Projects {
			ids[p.Slug] = rowOf(t, db, table, p.ID).ID
		}
		for i := range client.Projects {
			client.Projects[i].Slug += "-2"
		}
		require.NoError(t, db.Session(&gorm.Session{FullSaveAssociations: true}).Save(&client).Error)
		require.Equal(t, []string{"a-2", "b-2", "c-2"}, keysOf(t, db, table))
		for _, p := range client.Projects {
			require.Equal(t, ids[p.Slug[:1]], rowOf(t, db, table, p.ID).ID, "each keeps its own")
		}
		require.NoError(t, db.Model(&client).Association("Projects").Unscoped().Clear())
		require.Empty(t, keysOf(t, db, table))

		// What the host rolls back is nobody's.
		_ = db.Transaction(func(tx *gorm.DB) error {
			require.NoError(t, tx.Create(&Client{Projects: []Assignment{{Slug: "x"}}}).Error)
			return errRollback
		})
		// An association whose budget cannot be made fails its owner.
		err := db.Create(&Client{ID: 77, Projects: []Assignment{{Slug: "fine"}, {Slug: "bad\x01"}}}).Error
		require.ErrorIs(t, err, tenant.ErrInvalidTenant)
		require.Empty(t, keysOf(t, db, table))
		if !db.SkipDefaultTransaction {
			require.ErrorIs(t, db.First(&Client{}, 77).Error, gorm.ErrRecordNotFound)
		}
	})
}

func TestUpsert_MakesAtMostOneTenantForEachRecordThatIsThere(t *testing.T) {
	t.Parallel()
	eachConfiguration(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}, &byUUIDSlug{}))
		require.NoError(t, ledger.Register(&Project{}, dollar))
		require.NoError(t, ledger.Register(&byUUIDSlug{}, dollar, tenant.WithNamespace("u")))
		table, uuids := db.NamingStrategy.TableName("Project"), db.NamingStrategy.TableName("byUUIDSlug")
		slug := []clause.Column{{Name: "slug"}}
		require.NoError(t, db.Create(&Project{Slug: "b", Name: "first"}).Error)

		// gorm gives the ids of what was inserted to the wrong elements.
		many := []Project{{Slug: "a"}, {Slug: "b"}, {Slug: "c"}}
		require.NoError(t, db.Clauses(clause.OnConflict{Columns: slug, DoNothing: true}).Create(&many).Error)
		require.Equal(t, []string{"a", "b", "c"}, keysOf(t, db, table))
		many = []Project{{Slug: "a", Name: "A"}, {Slug: "b", Name: "B"}, {Slug: "d", Name: "D"}}
		require.NoError(t, db.Clauses(clause.OnConflict{Columns: slug, DoUpdates: clause.AssignmentColumns([]string{"name"})}).Create(&many).Error)
		require.Equal(t, []string{"a", "b", "c", "d"}, keysOf(t, db, table))
		var wrong int
		require.NoError(t, db.Raw(`SELECT count(*) FROM `+table+` p LEFT JOIN llm_tenants t ON t.owner_type = ? AND t.owner_id = CAST(p.id AS text)
			AND t.tenant_id = p.slug AND t.name = CASE p.name WHEN '' THEN p.slug ELSE p.name END WHERE t.id IS NULL`, table).Scan(&wrong).Error)
		require.Zero(t, wrong, "each record has the tenant of its own key and name")

		// An id that the application made, of a record that was not inserted.
		first, second := byUUIDSlug{ID: uuid.New(), Slug: "x"}, byUUIDSlug{ID: uuid.New(), Slug: "x"}
		require.NoError(t, db.Create(&first).Error)
		require.NoError(t, db.Clauses(clause.OnConflict{DoNothing: true}).Create(&second).Error)
		require.Equal(t, []string{"u:x"}, keysOf(t, db, uuids))
		require.Empty(t, rowOf(t, db, uuids, second.ID).ID)
		require.Equal(t, "u:x", rowOf(t, db, uuids, first.ID).key())

		var tenants int
		require.NoError(t, db.Raw(`SELECT count(*) FROM llm_tenants`).Scan(&tenants).Error)
		require.Equal(t, 5, tenants)
	})
}

type byUUIDSlug struct {
	ID   uuid.UUID
	Slug string `gorm:"uniqueIndex" tenant:"key"`
}

func TestHostsStatement_IsNotBentByTheHooks(t *testing.T) {
	t.Parallel()
	eachConfiguration(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		require.NoError(t, ledger.Register(&Project{}, dollar))
		p := Project{Slug: "a", Notes: "n"}
		created := db.Create(&p)
		require.NoError(t, created.Error)
		require.EqualValues(t, 1, created.RowsAffected)
		require.NoError(t, db.Exec(`UPDATE `+db.NamingStrategy.TableName("Project")+` SET notes = 'changed elsewhere'`).Error)
		updated := db.Model(&p).Update("slug", "b")
		require.NoError(t, updated.Error)
		require.EqualValues(t, 1, updated.RowsAffected)
		require.Equal(t, Project{ID: p.ID, Slug: "b", Notes: "n"}, p, "nothing is read into the host's struct")
		none := db.Model(&Project{}).Where("slug = ?", "nobody").Update("slug", "c")
		require.NoError(t, none.Error)
		require.Zero(t, none.RowsAffected)
		deleted := db.Unscoped().Delete(&p)
		require.NoError(t, deleted.Error)
		require.EqualValues(t, 1, deleted.RowsAffected)
	})
}

func TestStatement_ThatTheHostUsesAgainIsOneOfItsOwnEachTime(t *testing.T) {
	t.Parallel()
	eachConfiguration(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		require.NoError(t, ledger.Register(&Project{}, dollar))
		require.NoError(t, db.Create(&[]Project{{Slug: "a"}, {Slug: "b"}}).Error)
		all := db.Model(&Project{}).Where("id > 0")
		require.NoError(t, all.Update("name", "n").Error)
		require.NoError(t, db.Create(&Project{Slug: "c"}).Error)
		again := all.Update("notes", "x")
		require.NoError(t, again.Error)
		require.EqualValues(t, 3, again.RowsAffected)
		require.NoError(t, all.Update("slug", gorm.Expr("slug || '-2'")).Error)
		require.Equal(t, []string{"a-2", "b-2", "c-2"}, keysOf(t, db, db.NamingStrategy.TableName("Project")))
	})
}

// filtered is a plugin of the host's that narrows every query to rows that are not there.
func filtered(t testing.TB, db *gorm.DB) {
	require.NoError(t, db.Callback().Query().Before("gorm:query").Register("test:narrow", func(db *gorm.DB) {
		if db.Statement.Schema != nil {
			db.Statement.AddClause(clause.Where{Exprs: []clause.Expression{clause.Expr{SQL: "1 = 0"}}})
		}
	}))
}

func TestHostsQueryCallbacks_DoNotHideRecordsFromTheLedger(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		require.NoError(t, db.Create(&Project{ID: 5, Slug: "before"}).Error)
		require.NoError(t, ledger.Register(&Project{}, dollar))
		filtered(t, db)
		require.ErrorIs(t, db.First(&Project{}).Error, gorm.ErrRecordNotFound)
		p := Project{Slug: "a"}
		require.NoError(t, db.Create(&p).Error)
		require.NoError(t, db.Model(&p).Update("slug", "b").Error)
		require.Equal(t, "b", rowOf(t, db, "projects", p.ID).key())
		spendCent(t, ledger, ledger.Tenant(Project{ID: 5, Slug: "before"}))
		require.NoError(t, db.Delete(&p).Error)
		require.True(t, rowOf(t, db, "projects", p.ID).Deleted)
	})
}

func TestReplica_IsNeverWhereTheLedgerReads(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{"postgres", "sqlite"} {
		for _, skip := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, without default transactions %t", dialect, skip), func(t *testing.T) {
				t.Parallel()
				// The replica has the tables, and is for ever behind.
				behind := sqlite.Open(sqliteDSN(t))
				if dialect == "postgres" {
					behind = postgres.Open(pgtest.DSN(t))
				}
				replica := openAt(t, behind)
				require.NoError(t, replica.AutoMigrate(&Project{}))
				if dialect == "sqlite" {
					old := openLedger(t, replica)
					require.NoError(t, old.Migrate(t.Context()))
				}
				db, ledger := openWith(t, dialect, gorm.Config{SkipDefaultTransaction: skip})
				require.NoError(t, db.AutoMigrate(&Project{}))
				require.NoError(t, db.Create(&Project{ID: 50, Slug: "before"}).Error)
				require.NoError(t, db.Use(dbresolver.Register(dbresolver.Config{Replicas: []gorm.Dialector{behind}})))
				closeReplicas(t, db)
				require.NoError(t, ledger.Register(&Project{}, dollar))
				require.ErrorIs(t, db.First(&Project{}, 50).Error, gorm.ErrRecordNotFound, "the host's queries go to the replica")
				backfilled, err := ledger.Backfill(t.Context(), &Project{})
				require.NoError(t, err)
				require.EqualValues(t, 1, backfilled.Made, "what the replica does not have")

				p := Project{Slug: "a"}
				require.NoError(t, db.Create(&p).Error)
				row := func(id uint) tenantRow { return rowOf(t, db.Clauses(dbresolver.Write), "projects", id) }
				require.Equal(t, "a", row(p.ID).key())
				require.NoError(t, db.Model(&p).Update("slug", "b").Error)
				require.Equal(t, "b", row(p.ID).key())
				spendCent(t, ledger, ledger.Tenant(Project{ID: 50, Slug: "before"}))
				require.Equal(t, 1, row(50).Limits)
				require.NoError(t, tenant.ConfigureBudget(t.Context(), db, ledger.Tenant(p), func(*tenant.Budget) error { return nil }))
				cost, err := tenant.CostToday(t.Context(), db, ledger.Tenant(Project{ID: 50, Slug: "before"}))
				require.NoError(t, err)
				require.Equal(t, "0.01", cost.String())
				var executions []tenant.Execution
				require.NoError(t, tenant.Executions(t.Context(), db, ledger.Tenant(Project{ID: 50, Slug: "before"})).Find(&executions).Error)
				require.Empty(t, executions, "Executions is the host's own query")
				require.NoError(t, db.Delete(&p).Error)
				require.True(t, row(p.ID).Deleted)
			})
		}
	}
}

// closeReplicas ends the pools that a resolver has opened.
func closeReplicas(t testing.TB, db *gorm.DB) {
	primary, err := db.DB()
	require.NoError(t, err)
	require.NoError(t, db.Callback().Query().Before("gorm:query").Register("test:pools", func(db *gorm.DB) {
		if pool, ok := db.Statement.ConnPool.(interface{ Close() error }); ok && db.Statement.ConnPool != gorm.ConnPool(primary) {
			t.Cleanup(func() { _ = pool.Close() })
		}
	}))
}

func TestPlugin_IsSharedByHandlesAndTakesTheNextLedger(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{"postgres", "sqlite"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := openDatabase(t, dialect)
			require.NoError(t, db.AutoMigrate(&Project{}))
			earlier := db.Session(&gorm.Session{})
			first, err := tenant.Open(db)
			require.NoError(t, err)
			require.NoError(t, first.Register(&Project{}, dollar))
			for i, handle := range []*gorm.DB{db, earlier, db.WithContext(t.Context()), db.Session(&gorm.Session{NewDB: true})} {
				p := Project{Slug: fmt.Sprint(i)}
				require.NoError(t, handle.Create(&p).Error)
				require.NoError(t, handle.Transaction(func(tx *gorm.DB) error { return tx.Model(&p).Update("slug", p.Slug+"-2").Error }))
			}
			require.Equal(t, []string{"0-2", "1-2", "2-2", "3-2"}, keysOf(t, db, "projects"))
			require.NoError(t, first.Close(t.Context()))
			require.NoError(t, db.Create(&Project{Slug: "closed"}).Error, "host writes keep working")
			require.NoError(t, db.Model(&Project{}).Where("slug = '0-2'").Update("slug", "0-3").Error)

			second := openLedger(t, db)
			require.NoError(t, db.Create(&Project{Slug: "undeclared"}).Error, "a declaration belongs to its ledger")
			require.NoError(t, second.Register(&Project{}, dollar))
			require.NoError(t, earlier.Create(&Project{Slug: "again"}).Error)
			require.Equal(t, []string{"0-2", "1-2", "2-2", "3-2", "again"}, keysOf(t, db, "projects"))
			require.NoError(t, db.Model(&Project{}).Where("slug = '0-3'").Update("slug", "0-4").Error)
			require.Equal(t, []string{"0-4", "1-2", "2-2", "3-2", "again"}, keysOf(t, db, "projects"), "what was unseen follows at the next change")

			_, err = tenant.CostToday(t.Context(), openAt(t, db.Dialector), tenant.ID("again"))
			require.ErrorIs(t, err, tenant.ErrNotOpen, "a handle that was opened apart has no ledger")
		})
	}
}

func TestRegister_WhileOthersWriteIsNoRace(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}, &Assignment{}, &byUint{}, &byText{}))
		require.NoError(t, ledger.Register(&Project{}, dollar))
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for j := range 5 {
					p := Project{Slug: fmt.Sprintf("%d-%d", i, j)}
					if err := errors.Join(db.Create(&p).Error, db.Model(&p).Update("name", "n").Error, db.Delete(&p).Error); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for _, model := range []any{&Assignment{}, &byUint{}, &byText{}} {
			wg.Go(func() {
				if err := ledger.Register(model, tenant.WithBudget()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

func TestUpdate_OnSQLiteBeginsWithAWriteAndSoWaitsForOthers(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "sqlite")
	ledger := openLedger(t, db)
	require.NoError(t, db.AutoMigrate(&Project{}))
	require.NoError(t, ledger.Register(&Project{}, dollar))
	const n = 16
	for i := range n {
		require.NoError(t, db.Create(&Project{ID: uint(i + 1), Slug: fmt.Sprint("p", i)}).Error)
	}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			for j := range 6 {
				if err := db.Model(&Project{ID: uint(i + 1)}).Update("slug", fmt.Sprintf("p%d-%d", i, j)).Error; err != nil {
					t.Errorf("%d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, "p3-5", rowOf(t, db, "projects", 4).key())
}

func TestCall_InsideTheTransactionThatChangesItsTenantIsANamedError(t *testing.T) {
	t.Parallel()
	for dialect, c := range map[string]struct {
		dialector gorm.Dialector
		says      string
	}{
		"postgres": {postgres.Open(pgtest.DSN(t)), "has to wait for the commit"},
		"sqlite":   {sqlite.Open(filepath.Join(t.TempDir(), "test.db") + "?_pragma=busy_timeout(100)"), "after its commit"},
	} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := openAt(t, c.dialector)
			ledger := openLedger(t, db)
			require.NoError(t, ledger.Migrate(t.Context()))
			require.NoError(t, db.AutoMigrate(&Project{}))
			require.NoError(t, ledger.Register(&Project{}, dollar))
			old := Project{Slug: "old"}
			require.NoError(t, db.Create(&old).Error)
			spendCent(t, ledger, ledger.Tenant(old))
			require.NoError(t, db.Transaction(func(tx *gorm.DB) error {
				p := Project{Slug: "new"}
				require.NoError(t, tx.Create(&p).Error)
				require.NoError(t, tx.Model(&old).Update("slug", "older").Error)
				_, err := ledger.Reserve(t.Context(), ledger.Tenant(p), cent)
				require.ErrorContains(t, err, c.says)
				return nil
			}))
			spendCent(t, ledger, ledger.Tenant(old))
			require.Equal(t, []string{"new", "older"}, keysOf(t, db, "projects"))
		})
	}
}

func TestHostTransaction_ThatChangesATenantDoesNotHoldUpCalls(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openLedger(t, db)
	require.NoError(t, db.AutoMigrate(&Project{}))
	require.NoError(t, ledger.Register(&Project{}, dollar))
	p, q := Project{Slug: "p"}, Project{Slug: "q"}
	require.NoError(t, db.Create(&p).Error)
	require.NoError(t, db.Create(&q).Error)
	stale := p
	require.NoError(t, db.Transaction(func(tx *gorm.DB) error {
		require.NoError(t, tx.Model(&p).Updates(Project{Slug: "p2", Name: "P2"}).Error)
		require.NoError(t, tx.Unscoped().Delete(&q).Error)
		// By another connection, while both changes are not committed: nobody waits, and the old keys hold.
		spendCent(t, ledger, ledger.Tenant(stale))
		spendCent(t, ledger, ledger.Tenant(q))
		return nil
	}))
	require.EqualValues(t, 1, balanceOf(t, db, "p2", "day").SpentCalls)
}
