package tenant_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/llmtenant/tenant"
)

// shop is a tenant that other tables refer to. Its key is in no unique index, so that to change it is no change of a key to
// the database.
type shop struct {
	ID       uint
	Slug     string
	Name     string
	Orders   int
	RegionID *uint
}

type region struct {
	ID    uint
	Name  string
	Shops []shop
}

type receipt struct {
	ID     uint
	ShopID uint
	Shop   *shop
}

type till struct {
	ID     uint
	Slug   string
	ShopID uint
	Shop   *shop
}

func (shop) TableName() string    { return "shops" }
func (region) TableName() string  { return "regions" }
func (receipt) TableName() string { return "receipts" }
func (till) TableName() string    { return "tills" }

// LLMTenantID makes a shop's tenant depend on all of its columns.
func (s shop) LLMTenantID() string { return s.Slug }

// inTwo does each step in two transactions, one after the other, and the last one in both at once; then it commits them.
func inTwo(t *testing.T, db *gorm.DB, steps ...func(tx *gorm.DB, i int) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	txs := []*gorm.DB{db.WithContext(ctx).Begin(), db.WithContext(ctx).Begin()}
	last := len(steps) - 1
	errs := make([]error, len(txs))
	for _, step := range steps[:last] {
		for i, tx := range txs {
			errs[i] = errors.Join(errs[i], step(tx, i))
		}
	}
	var wg sync.WaitGroup
	for i, tx := range txs {
		wg.Go(func() {
			if errs[i] == nil {
				errs[i] = steps[last](tx, i)
			}
			if errs[i] != nil {
				tx.Rollback()
			} else {
				errs[i] = tx.Commit().Error
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func TestHostsTransactions_WaitForEachOtherNoMoreThanWithoutTheLedger(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openLedger(t, db)
	require.NoError(t, db.AutoMigrate(&region{}, &shop{}, &receipt{}, &till{}))
	require.NoError(t, ledger.Register(&shop{}, dollar))
	require.NoError(t, ledger.Register(&till{}, dollar, tenant.WithKey("Slug"), tenant.WithParent("ShopID", &shop{})))
	for round := range 4 {
		s, above, other := shop{Slug: fmt.Sprint("shop-", round)}, shop{Slug: fmt.Sprint("above-", round)}, shop{Slug: fmt.Sprint("other-", round)}
		require.NoError(t, db.Create(&s).Error)
		require.NoError(t, db.Create(&above).Error)
		require.NoError(t, db.Create(&other).Error)
		tills := []till{{Slug: fmt.Sprint("x-", round), ShopID: above.ID}, {Slug: fmt.Sprint("y-", round), ShopID: above.ID}}
		require.NoError(t, db.Create(&tills).Error)
		receipts := func(tx *gorm.DB, _ int) error { return tx.Create(&receipt{ShopID: s.ID}).Error }
		newTill := func(tx *gorm.DB, i int) error {
			return tx.Create(&till{Slug: fmt.Sprint("till-", s.ID, tx.Statement.Table, i, time.Now().UnixNano()), ShopID: s.ID}).Error
		}
		for what, steps := range map[string][]func(tx *gorm.DB, i int) error{
			"a receipt, then the count on the shop": {receipts, func(tx *gorm.DB, _ int) error {
				return tx.Model(&shop{}).Where("id = ?", s.ID).UpdateColumn("orders", gorm.Expr("orders + 1")).Error
			}},
			"a receipt, then Save of the shop": {receipts, func(tx *gorm.DB, _ int) error { c := s; return tx.Save(&c).Error }},
			"a till, then the shop's key": {newTill, func(tx *gorm.DB, i int) error {
				return tx.Model(&shop{ID: s.ID}).Update("slug", fmt.Sprint("shop-", round, "-", i)).Error
			}},
			"a till, then the shop's name": {newTill, func(tx *gorm.DB, _ int) error {
				return tx.Model(&shop{ID: s.ID}).Update("name", "N").Error
			}},
			"a till that leaves, then the shop's key": {
				func(tx *gorm.DB, i int) error {
					return tx.Model(&till{ID: tills[i].ID}).Update("shop_id", other.ID).Error
				},
				func(tx *gorm.DB, i int) error {
					return tx.Model(&shop{ID: above.ID}).Update("slug", fmt.Sprint("above-", round, "-", i)).Error
				},
			},
			"a till, a receipt of the other shop, then that one's count": {
				newTill,
				func(tx *gorm.DB, _ int) error { return tx.Create(&receipt{ShopID: other.ID}).Error },
				func(tx *gorm.DB, _ int) error {
					return tx.Model(&shop{}).Where("id = ?", other.ID).UpdateColumn("orders", gorm.Expr("orders + 1")).Error
				},
			},
		} {
			require.NoError(t, inTwo(t, db, steps...), what)
		}
		require.Equal(t, "other-"+fmt.Sprint(round), parentOf(t, db, tenant.ID(tills[0].Slug)))
	}
}

func TestCreate_DoesNotWaitForWhoeverMakesTheSameTenantAbove(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openLedger(t, db)
	require.NoError(t, db.AutoMigrate(&region{}, &shop{}, &till{}))
	above := shop{Slug: "above"}
	require.NoError(t, db.Create(&above).Error, "from before the declaration")
	require.NoError(t, ledger.Register(&shop{}, dollar, tenant.WithEnforcement(tenant.Hard)))
	require.NoError(t, ledger.Register(&till{}, tenant.WithBudget(), tenant.WithKey("Slug"), tenant.WithParent("ShopID", &shop{})))
	tills := []till{{Slug: "x", ShopID: above.ID}, {Slug: "y", ShopID: above.ID}}
	require.NoError(t, inTwo(t, db, func(tx *gorm.DB, i int) error { return tx.Create(&tills[i]).Error }, func(tx *gorm.DB, i int) error {
		return tx.Model(&shop{ID: above.ID}).Update("slug", fmt.Sprint("above-", i)).Error
	}))
	require.Len(t, keysOf(t, db, "tills"), 1, "the other one's is left to its first call")
	for i := range tills {
		require.NoError(t, call(t, ledger, ledger.Tenant(&tills[i]), "0.40"))
	}
	require.ErrorIs(t, call(t, ledger, ledger.Tenant(&tills[1]), "0.40"), tenant.ErrBudgetExceeded)
	require.Equal(t, parentOf(t, db, "x"), parentOf(t, db, "y"))
}

func TestUpdate_LeavesTheRecordToForeignKeysOfOthers(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openLedger(t, db)
	require.NoError(t, db.AutoMigrate(&region{}, &shop{}, &receipt{}))
	require.NoError(t, ledger.Register(&shop{}, dollar))
	s := shop{Slug: "s"}
	require.NoError(t, db.Create(&s).Error)
	tx := db.Begin()
	defer tx.Rollback()
	require.NoError(t, tx.Model(&s).Update("orders", 3).Error)
	// Whoever cannot have its lock at once is told so.
	require.NoError(t, db.Transaction(func(other *gorm.DB) error {
		require.NoError(t, other.Exec(`SET LOCAL lock_timeout = '1ms'`).Error)
		return other.Create(&receipt{ShopID: s.ID}).Error
	}))
}

func TestSerializableHosts_ThatCreateRecordsDoNotFailEachOther(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openLedger(t, db)
	require.NoError(t, db.AutoMigrate(&Project{}))
	require.NoError(t, ledger.Register(&Project{}, dollar))
	for _, level := range []sql.IsolationLevel{sql.LevelSerializable, sql.LevelRepeatableRead} {
		for round := range 5 {
			var txs []*gorm.DB
			for range 3 {
				txs = append(txs, db.Begin(&sql.TxOptions{Isolation: level}))
			}
			for i, tx := range txs {
				require.NoError(t, tx.Create(&Project{Slug: fmt.Sprint(level, round, "-", i)}).Error)
			}
			for _, tx := range txs {
				require.NoError(t, tx.Commit().Error)
			}
		}
	}
	require.Len(t, keysOf(t, db, "projects"), 30)
}

func TestUpdate_FromOtherTablesFollows(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&region{}, &shop{}))
		require.NoError(t, ledger.Register(&shop{}, dollar))
		north := region{Name: "north", Shops: []shop{{Slug: "a"}, {Slug: "b"}}}
		require.NoError(t, db.Create(&north).Error)
		require.NoError(t, db.Create(&shop{Slug: "c"}).Error)
		in := func(tables ...clause.Table) *gorm.DB {
			return db.Model(&shop{}).Clauses(clause.From{Tables: tables}).Where("shops.region_id = regions.id AND regions.name = ?", "north")
		}
		done := in(clause.Table{Name: "regions"}).Update("slug", gorm.Expr("shops.slug || ?", "-north"))
		require.NoError(t, done.Error)
		require.EqualValues(t, 2, done.RowsAffected)
		require.Equal(t, []string{"a-north", "b-north", "c"}, keysOf(t, db, "shops"))
		first := north.Shops[0]
		require.NoError(t, in(clause.Table{Name: "regions"}).Where("shops.id = ?", first.ID).Updates(map[string]any{"id": first.ID, "name": "N"}).Error)
		require.Equal(t, "N", rowOf(t, db, "shops", first.ID).Name)
		err := in(clause.Table{Name: "regions"}).Where("shops.id = ?", first.ID).Update("id", 700).Error
		require.ErrorIs(t, err, tenant.ErrInvalidTenant)
	})
}

func TestHostsMistakes_StayItsOwn(t *testing.T) {
	t.Parallel()
	eachConfiguration(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		require.NoError(t, ledger.Register(&Project{}, dollar))
		p := Project{Slug: "a"}
		require.NoError(t, db.Create(&p).Error)
		for what, err := range map[string]error{
			"a misspelt condition":       db.Model(&Project{}).Where("slgu = ?", "a").Update("slug", "b").Error,
			"a condition of a Delete":    db.Where("slgu = ?", "a").Delete(&Project{}).Error,
			"a column":                   db.Model(&p).Updates(map[string]any{"slug": "b", "colour": "red"}).Error,
			"a primary key and a column": db.Model(&Project{}).Where("slgu = ?", "a").Updates(map[string]any{"id": p.ID, "slug": "b"}).Error,
			"a table in a subquery":      db.Model(&Project{}).Where("id IN (?)", db.Table("nowhere").Select("id")).Update("slug", "b").Error,
			"a map":                      db.Model(&Project{}).Create(map[string]any{"colour": "red"}).Error,
		} {
			require.Error(t, err, what)
			require.NotErrorIs(t, err, tenant.ErrNotMigrated, what)
			require.NotContains(t, err.Error(), "tenant:", what)
		}
		require.Equal(t, []string{"a"}, keysOf(t, db, db.NamingStrategy.TableName("Project")))
	})
}

func TestCall_OfARecordWhoseTableIsMissingSaysSo(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, ledger.Register(&Project{}))
		_, err := ledger.Reserve(t.Context(), ledger.Tenant(&Project{ID: 1, Slug: "a"}), cent)
		require.NotErrorIs(t, err, tenant.ErrNotMigrated)
		require.ErrorContains(t, err, "projects")
	})
}

func TestTriggers_ThatSuppressOrChangeWhatIsWritten(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		require.NoError(t, ledger.Register(&Project{}, dollar))
		triggers := map[string][]string{
			"postgres": {
				`CREATE FUNCTION quieted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.slug = 'quiet' THEN RETURN NULL; END IF; RETURN new; END $$`,
				`CREATE TRIGGER quieted BEFORE INSERT OR UPDATE ON projects FOR EACH ROW EXECUTE FUNCTION quieted()`,
				`CREATE TRIGGER redundant BEFORE UPDATE ON projects FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()`,
				`CREATE FUNCTION shouted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE projects SET slug = lower(slug) WHERE id = new.id AND slug <> lower(slug); RETURN NULL; END $$`,
				`CREATE TRIGGER shouted AFTER INSERT OR UPDATE ON projects FOR EACH ROW EXECUTE FUNCTION shouted()`,
			},
			"sqlite": {
				`CREATE TRIGGER quieted BEFORE INSERT ON projects WHEN new.slug = 'quiet' BEGIN SELECT RAISE(IGNORE); END`,
				`CREATE TRIGGER quieted_update BEFORE UPDATE ON projects WHEN new.slug = 'quiet' OR new.slug = old.slug AND new.name = old.name BEGIN SELECT RAISE(IGNORE); END`,
				`CREATE TRIGGER shouted AFTER INSERT ON projects BEGIN UPDATE projects SET slug = lower(slug) WHERE id = new.id AND slug <> lower(slug); END`,
				`CREATE TRIGGER shouted_update AFTER UPDATE ON projects BEGIN UPDATE projects SET slug = lower(slug) WHERE id = new.id AND slug <> lower(slug); END`,
			},
		}
		for _, statement := range triggers[db.Name()] {
			require.NoError(t, db.Exec(statement).Error)
		}
		p := Project{Slug: "A"}
		require.NoError(t, db.Create(&p).Error)
		require.Equal(t, "a", rowOf(t, db, "projects", p.ID).key())
		require.NoError(t, db.First(&p, p.ID).Error)
		require.NoError(t, db.Save(&p).Error, "unchanged")
		require.NoError(t, db.Save(&[]Project{p}).Error, "unchanged, by an upsert")
		_ = db.Create(&Project{Slug: "quiet"}).Error
		done := db.Model(&p).Update("slug", "quiet")
		require.NoError(t, done.Error)
		require.Zero(t, done.RowsAffected)
		require.NoError(t, db.Model(&p).Update("slug", "LOUD").Error)
		require.Equal(t, []string{"loud"}, keysOf(t, db, "projects"))
	})
}

func TestReturning_OfTheHostGetsItsOwnColumnsOnly(t *testing.T) {
	t.Parallel()
	eachConfiguration(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		require.NoError(t, ledger.Register(&Project{}, dollar))
		table := db.NamingStrategy.TableName("Project")
		require.NoError(t, db.Create(&[]Project{{Slug: "a", Notes: "1"}, {Slug: "b", Notes: "2"}}).Error)
		notes := clause.Returning{Columns: []clause.Column{{Name: "notes"}}}
		var back []Project
		require.NoError(t, db.Model(&back).Clauses(notes).Where("slug IN ?", []string{"a", "b"}).Update("slug", gorm.Expr("slug || '2'")).Error)
		require.ElementsMatch(t, []Project{{Notes: "1"}, {Notes: "2"}}, back)
		require.Equal(t, []string{"a2", "b2"}, keysOf(t, db, table))
		back = nil
		gone := db.Unscoped().Clauses(clause.Returning{}).Where("slug = 'b2'").Delete(&back)
		require.NoError(t, gone.Error)
		require.EqualValues(t, 1, gone.RowsAffected)
		require.Len(t, back, 1)
		require.Equal(t, [2]string{"b2", "2"}, [2]string{back[0].Slug, back[0].Notes})
		require.Equal(t, []string{"a2"}, keysOf(t, db, table))
		created := Project{Slug: "c", Notes: "3"}
		require.NoError(t, db.Clauses(clause.Returning{}).Create(&created).Error)
		require.NotZero(t, created.ID)
		require.Equal(t, []string{"a2", "c"}, keysOf(t, db, table))
	})
}

func TestSave_OfARecordWhoseRowWasDeletedUnseenInheritsNothing(t *testing.T) {
	t.Parallel()
	for _, options := range [][]tenant.RegisterOption{{dollar}, {tenant.WithOnDelete(tenant.SuspendBudget)}} {
		for way, write := range map[string]func(db *gorm.DB, p *Project) error{
			"Save":            func(db *gorm.DB, p *Project) error { return db.Save(p).Error },
			"Save of a slice": func(db *gorm.DB, p *Project) error { return db.Save(&[]*Project{p}).Error },
			"Create":          func(db *gorm.DB, p *Project) error { return db.Create(p).Error },
			"an upsert": func(db *gorm.DB, p *Project) error {
				return db.Clauses(clause.OnConflict{UpdateAll: true}).Create(p).Error
			},
			"an upsert that does nothing": func(db *gorm.DB, p *Project) error {
				return db.Clauses(clause.OnConflict{DoNothing: true}).Create(p).Error
			},
			"a map": func(db *gorm.DB, p *Project) error {
				return db.Model(&Project{}).Create(map[string]any{"id": p.ID, "slug": p.Slug}).Error
			},
		} {
			t.Run(fmt.Sprint(way, len(options)), func(t *testing.T) {
				t.Parallel()
				eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
					require.NoError(t, db.AutoMigrate(&Project{}))
					require.NoError(t, ledger.Register(&Project{}, options...))
					require.NoError(t, db.Create(&Project{ID: 7, Slug: "old"}).Error)
					spendCent(t, ledger, ledger.Tenant(&Project{ID: 7, Slug: "old"}))
					require.NoError(t, db.Exec(`DELETE FROM projects`).Error)
					heir := Project{ID: 7, Slug: "new"}
					require.NoError(t, write(db, &heir))
					spendCent(t, ledger, ledger.Tenant(&heir))
					require.Equal(t, "0.01", costToday(t, db, ledger.Tenant(&heir)))
					// Whoever writes what is there keeps what it has.
					heir.Name = "N"
					require.NoError(t, db.Save(&[]Project{heir}).Error)
					require.NoError(t, db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&heir).Error)
					require.Equal(t, "0.01", costToday(t, db, ledger.Tenant(&heir)))
					require.Equal(t, "N", rowOf(t, db, "projects", 7).Name)
				})
			})
		}
	}
}

func TestSavepoints_AreNotLeftInTheHostsTransaction(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "sqlite")
	ledger := openLedger(t, db)
	require.NoError(t, db.AutoMigrate(&Project{}))
	require.NoError(t, ledger.Register(&Project{}, dollar))
	require.NoError(t, db.Create(&[]Project{{Slug: "a"}, {Slug: "b"}}).Error)
	require.NoError(t, db.Transaction(func(tx *gorm.DB) error {
		require.Error(t, tx.Create(&Project{Slug: "a"}).Error)
		require.Error(t, tx.Model(&Project{}).Where("slug = 'b'").Update("slug", "a").Error)
		require.Error(t, tx.Where("nothing = 1").Delete(&Project{}).Error)
		require.Error(t, tx.Create(&Project{Slug: "bad\x01"}).Error)
		require.NoError(t, tx.Create(&Project{Slug: "c"}).Error)
		require.ErrorContains(t, tx.Exec("RELEASE SAVEPOINT llmtenant").Error, "no such savepoint")
		return nil
	}))
	require.Equal(t, []string{"a", "b", "c"}, keysOf(t, db, "projects"))
}

func TestCircle_ThatTwoHaveMadeAtOnceCountsEachOnce(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openLedger(t, db)
	require.NoError(t, db.AutoMigrate(&unit{}))
	require.NoError(t, ledger.Register(&unit{}, dollar, tenant.WithKey("Slug"), tenant.WithEnforcement(tenant.Hard), tenant.WithParent("ParentID", &unit{})))
	units := []unit{{Slug: "x"}, {Slug: "y"}}
	require.NoError(t, db.Create(&units).Error)
	txs := []*gorm.DB{db.Begin(), db.Begin()}
	for i, tx := range txs {
		require.NoError(t, tx.Model(&unit{ID: units[i].ID}).Update("parent_id", units[1-i].ID).Error)
	}
	for _, tx := range txs {
		require.NoError(t, tx.Commit().Error)
	}
	require.NoError(t, call(t, ledger, ledger.Tenant(&units[0]), "0.60"))
	require.ErrorIs(t, call(t, ledger, ledger.Tenant(&units[1]), "0.60"), tenant.ErrBudgetExceeded)
	require.NoError(t, call(t, ledger, ledger.Tenant(&units[1]), "0.40"))
	requireConservation(t, db)
	err := db.Model(&unit{ID: units[0].ID}).Update("parent_id", nil).Error
	require.NoError(t, err, "the way out")
	require.Equal(t, []string{"", "x"}, []string{parentOf(t, db, "x"), parentOf(t, db, "y")})
	require.Contains(t, strings.Join(keysOf(t, db, "units"), " "), "x")
}
