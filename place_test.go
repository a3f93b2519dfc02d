package tenant_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/plugin/dbresolver"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

func TestSchemas_OfCustomersAreApart(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openLedger(t, db)
	require.NoError(t, ledger.Register(&company{}, tenant.WithKey("Slug"), dollar, tenant.WithEnforcement(tenant.Hard)))
	require.NoError(t, ledger.Register(&team{}, tenant.WithKey("Slug"), dollar, tenant.WithParent("CompanyID", &company{})))
	in := func(schema string, do func(tx *gorm.DB) error) error {
		return db.Transaction(func(tx *gorm.DB) error {
			if err := tx.Exec("SET LOCAL search_path TO " + schema + ", public").Error; err != nil {
				return err
			}
			return do(tx)
		})
	}
	for _, schema := range []string{"red", "blue"} {
		require.NoError(t, db.Exec("CREATE SCHEMA "+schema).Error)
		require.NoError(t, in(schema, func(tx *gorm.DB) error { return tx.AutoMigrate(&company{}, &team{}) }))
		require.NoError(t, in(schema, func(tx *gorm.DB) error {
			return tx.Create(&company{Slug: "of-" + schema, Teams: []team{{Slug: "team-" + schema}}}).Error
		}))
	}
	require.Equal(t, []string{"of-red"}, keysOf(t, db, "red.companies"))
	require.Equal(t, []string{"of-blue"}, keysOf(t, db, "blue.companies"))
	require.Equal(t, 1, rowOf(t, db, "red.companies", 1).Limits)
	require.Equal(t, []string{"of-red", "of-blue"}, []string{parentOf(t, db, "team-red"), parentOf(t, db, "team-blue")})

	require.NoError(t, in("blue", func(tx *gorm.DB) error {
		return errors.Join(tx.Model(&company{ID: 1}).Update("slug", "blue-2").Error, tx.Delete(&team{ID: 1}).Error)
	}))
	require.Equal(t, []string{"of-red"}, keysOf(t, db, "red.companies"))
	require.Equal(t, []string{"blue-2"}, keysOf(t, db, "blue.companies"))
	require.Equal(t, []string{"team-red"}, keysOf(t, db, "red.teams"))
	require.Empty(t, keysOf(t, db, "blue.teams"))

	// A record is known by its number and its key together.
	red, blue := ledger.Tenant(&company{ID: 1, Slug: "of-red"}), ledger.Tenant(&company{ID: 1, Slug: "blue-2"})
	spendCent(t, ledger, red)
	require.Equal(t, []string{"0.01", "0"}, []string{costToday(t, db, tenant.ID("of-red")), costToday(t, db, tenant.ID("blue-2"))})
	spendCent(t, ledger, blue)
	require.Equal(t, []string{"0.01", "0.01"}, []string{costToday(t, db, red), costToday(t, db, blue)})
	_, err := ledger.Reserve(t.Context(), ledger.Tenant(&company{ID: 1, Slug: "nobody"}), cent)
	require.ErrorIs(t, err, tenant.ErrInvalidTenant)

	err = in("blue", func(tx *gorm.DB) error { return tx.Create(&company{Slug: "of-red"}).Error })
	require.ErrorIs(t, err, tenant.ErrIdentityConflict)
	require.ErrorContains(t, err, "schema")
	requireConservation(t, db)
}

func TestTable_ByItsFullNameIsTheSame(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		require.NoError(t, ledger.Register(&Project{}, dollar))
		home, other := "public", "archive"
		if db.Name() == "sqlite" {
			home = "main"
			pool, err := db.DB()
			require.NoError(t, err)
			pool.SetMaxOpenConns(1) // what is attached is attached to a connection
			require.NoError(t, db.Exec(`ATTACH DATABASE ':memory:' AS archive`).Error)
			require.NoError(t, db.Exec(`CREATE TABLE archive.projects (id integer primary key, slug text, name text, notes text, deleted_at datetime)`).Error)
		} else {
			require.NoError(t, db.Exec(`CREATE SCHEMA archive`).Error)
			require.NoError(t, db.Exec(`CREATE TABLE archive.projects (LIKE projects INCLUDING ALL)`).Error)
		}
		p := Project{Slug: "a"}
		require.NoError(t, db.Table(home+".projects").Create(&p).Error)
		require.Equal(t, "a", rowOf(t, db, "projects", p.ID).key())
		require.NoError(t, db.Table(home+".projects").Where("id = ?", p.ID).Update("slug", "b").Error)
		require.Equal(t, "b", rowOf(t, db, "projects", p.ID).key())

		// A copy in another place is no record of the model.
		require.NoError(t, db.Exec(`INSERT INTO archive.projects (id, slug) VALUES (?, 'b')`, p.ID).Error)
		copied := Project{ID: 70, Slug: "copied"}
		require.NoError(t, db.Table(other+".projects").Create(&copied).Error)
		if db.Name() == "sqlite" { // whose dialect drops the name of the database
			require.Equal(t, "copied", rowOf(t, db, "projects", 70).key())
			require.NoError(t, db.Unscoped().Delete(&Project{ID: 70}).Error)
		}
		require.Equal(t, []string{"b"}, keysOf(t, db, "projects"))
		require.NoError(t, db.Table(other+".projects").Where("id = ?", p.ID).Update("slug", "c").Error)
		require.NoError(t, db.Table(other+".projects").Unscoped().Where("id = ?", p.ID).Delete(&Project{}).Error)
		require.Equal(t, "b", rowOf(t, db, "projects", p.ID).key())
		require.NoError(t, db.Table(home+".projects").Unscoped().Where("id = ?", p.ID).Delete(&Project{}).Error)
		require.Empty(t, keysOf(t, db, "projects"))
	})
}

// A host may have its model's tables under other names alone, or in schemas that no search_path leads to.
func TestTable_OfTheDeclaredNameNeedNotBeThere(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		require.NoError(t, db.Migrator().RenameTable("projects", "projects_07"))
		tables := []string{"projects_07"}
		if db.Name() == "postgres" {
			require.NoError(t, db.Exec(`CREATE SCHEMA aside`).Error)
			require.NoError(t, db.Exec(`CREATE TABLE aside.projects (LIKE projects_07 INCLUDING ALL)`).Error)
			tables = append(tables, "aside.projects")
		}
		require.NoError(t, ledger.Register(&Project{}, dollar))
		for _, table := range tables {
			p := Project{Slug: "a", Name: "A"}
			require.NoError(t, db.Table(table).Create(&p).Error)
			require.NoError(t, db.Table(table).Where("id = ?", p.ID).Update("slug", "b").Error, table)
			p.Slug, p.Notes = "c", "n"
			require.NoError(t, db.Table(table).Save(&p).Error, table)
			require.NoError(t, db.Table(table).Clauses(clause.OnConflict{UpdateAll: true}).Create(&p).Error, table)
			var read Project
			require.NoError(t, db.Table(table).First(&read, p.ID).Error)
			require.Equal(t, "c", read.Slug)
			require.NoError(t, db.Table(table).Delete(&p).Error, table)
		}
		require.Empty(t, keysOf(t, db, "projects"))
	})
}

func TestRecord_OfAnotherTableIsNotChargedToWhoeverHasItsNumber(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		require.NoError(t, db.Exec(`CREATE TABLE projects_west AS SELECT * FROM projects`).Error)
		require.NoError(t, ledger.Register(&Project{}, dollar))
		east := Project{Slug: "east"}
		require.NoError(t, db.Create(&east).Error)
		west := Project{ID: east.ID, Slug: "west"}
		require.NoError(t, db.Table("projects_west").Create(&west).Error)
		stranger := ledger.Tenant(&west)
		_, err := ledger.Reserve(t.Context(), stranger, cent)
		require.ErrorIs(t, err, tenant.ErrInvalidTenant)
		require.ErrorContains(t, err, `"west"`)
		require.ErrorContains(t, err, `projects 1 is "east"`)
		_, err = ledger.Record(t.Context(), stranger, tenant.Actual{Cost: tenant.USD("1")})
		require.ErrorIs(t, err, tenant.ErrInvalidTenant)
		_, err = tenant.CostToday(t.Context(), db, stranger)
		require.ErrorIs(t, err, tenant.ErrInvalidTenant)
		err = tenant.ConfigureBudget(t.Context(), db, stranger, func(b *tenant.Budget) error { b.Suspended = true; return nil })
		require.ErrorIs(t, err, tenant.ErrInvalidTenant)
		require.Equal(t, "0", costToday(t, db, tenant.ID("east")))

		// One whose key another record of the declared table has is that one's neither.
		require.NoError(t, db.Create(&Project{Slug: "west"}).Error)
		_, err = ledger.Reserve(t.Context(), stranger, cent)
		require.ErrorIs(t, err, tenant.ErrInvalidTenant)
		_, err = tenant.CostToday(t.Context(), db, stranger)
		require.Error(t, err)

		// A record that is only out of date is still known.
		stale := east
		require.NoError(t, db.Model(&east).Update("slug", "far-east").Error)
		spendCent(t, ledger, ledger.Tenant(&stale))
		require.Equal(t, "0.01", costToday(t, db, ledger.Tenant(&stale)))
		require.NoError(t, db.Exec(`UPDATE projects SET slug = 'further' WHERE id = ?`, east.ID).Error)
		east.Slug = "further"
		require.Equal(t, "0.01", costToday(t, db, ledger.Tenant(&east)), "unseen")
		spendCent(t, ledger, ledger.Tenant(&east))
		spendCent(t, ledger, ledger.Tenant(&stale))
		require.Equal(t, "0.03", costToday(t, db, tenant.ID("further")))
	})
}

func TestResolver_ThatSendsAModelElsewhereLeavesTheHostsWritesAlone(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openLedger(t, db)
	away := postgres.Open(pgtest.Empty(t))
	require.NoError(t, openAt(t, away).AutoMigrate(&Project{}))
	require.NoError(t, db.Use(dbresolver.Register(dbresolver.Config{Sources: []gorm.Dialector{away}}, &Project{})))
	closeReplicas(t, db)
	require.NoError(t, ledger.Register(&Project{}, dollar))
	p := Project{Slug: "a"}
	require.NoError(t, db.Create(&p).Error)
	require.NoError(t, db.Model(&p).Update("slug", "b").Error)
	require.NoError(t, db.First(&Project{}, "slug = 'b'").Error)
	require.NoError(t, db.Delete(&p).Error)
	_, err := ledger.Reserve(t.Context(), ledger.Tenant(&p), cent)
	require.ErrorIs(t, err, tenant.ErrInvalidTenant)
	require.NotErrorIs(t, err, tenant.ErrNotMigrated)
}
