package tenant_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/llmtenant/tenant"
)

// account is a tenant by a method, which may read any of its columns: some have no equality, and some the database makes.
type account struct {
	ID        uint64
	Slug      string
	Handle    string          `gorm:"->"` // which the database makes of the slug
	Terms     json.RawMessage `gorm:"type:json"`
	Level     int             `gorm:"default:3"`
	UpdatedAt time.Time
	DeletedAt gorm.DeletedAt
}

func (account) TableName() string { return "Billing Accounts" }

func (a account) LLMTenantID() string { return fmt.Sprint(a.Handle, "-", a.Level) }

func TestUnusualTables_AreFollowed(t *testing.T) {
	t.Parallel()
	const columns = `slug text, handle text GENERATED ALWAYS AS (lower(slug)) STORED, terms json, level integer DEFAULT 3, updated_at timestamp, deleted_at timestamp`
	for name, statements := range map[string][]string{
		"postgres": {`CREATE TABLE "Billing Accounts" (id bigserial PRIMARY KEY, ` + columns + `)`},
		"postgres, in partitions": {
			`CREATE TABLE "Billing Accounts" (id bigserial PRIMARY KEY, ` + columns + `) PARTITION BY RANGE (id)`,
			`CREATE TABLE low PARTITION OF "Billing Accounts" FOR VALUES FROM (0) TO (3)`,
			`CREATE TABLE high PARTITION OF "Billing Accounts" FOR VALUES FROM (3) TO (1000)`,
		},
		"postgres, a view": {
			`CREATE TABLE kept (id bigserial PRIMARY KEY, ` + columns + `)`,
			`CREATE VIEW "Billing Accounts" AS SELECT * FROM kept`,
		},
		"sqlite": {`CREATE TABLE "Billing Accounts" (id integer PRIMARY KEY, ` + columns + `)`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dialect := "postgres"
			if name == "sqlite" {
				dialect = name
			}
			for _, config := range []gorm.Config{{}, {PrepareStmt: true, SkipDefaultTransaction: true}} {
				db, ledger := openWith(t, dialect, config)
				for _, statement := range statements {
					require.NoError(t, db.Exec(statement).Error)
				}
				require.NoError(t, ledger.Register(&account{}, dollar))
				table := account{}.TableName()
				all := []account{{Slug: "A", Terms: json.RawMessage(`{"a": 1}`)}, {Slug: "B", Level: 1}}
				require.NoError(t, db.Create(&all).Error)
				require.Equal(t, []string{"a-3", "b-1"}, keysOf(t, db, table))
				var first account
				require.NoError(t, db.First(&first, all[0].ID).Error)
				spendCent(t, ledger, first)
				require.NoError(t, db.Save(&first).Error, "unchanged")
				require.NoError(t, db.Model(&first).Update("slug", "C").Error)
				require.NoError(t, db.Model(&account{}).Where("id = ?", all[1].ID).Update("level", gorm.Expr("level + 1")).Error)
				require.Equal(t, []string{"b-2", "c-3"}, keysOf(t, db, table))
				require.NoError(t, db.Clauses(clause.OnConflict{
					Columns: []clause.Column{{Name: "id"}}, DoUpdates: clause.AssignmentColumns([]string{"slug"}),
				}).Create(&account{ID: first.ID, Slug: "D", Level: 3}).Error)
				require.Equal(t, []string{"b-2", "d-3"}, keysOf(t, db, table))
				require.NoError(t, db.First(&first, first.ID).Error)
				require.Equal(t, "0.01", costToday(t, db, first), "it is the same record")
				require.NoError(t, db.Transaction(func(tx *gorm.DB) error {
					require.NoError(t, tx.Transaction(func(inner *gorm.DB) error {
						require.NoError(t, inner.Delete(&first).Error)
						return nil
					}))
					return tx.Unscoped().Model(&first).Update("deleted_at", nil).Error
				}, &sql.TxOptions{}))
				require.Equal(t, []string{"b-2", "d-3"}, keysOf(t, db, table))
				require.NoError(t, db.Unscoped().Where("level > 0").Delete(&account{}).Error)
				require.Empty(t, keysOf(t, db, table))
				requireConservation(t, db)
			}
		})
	}
}

func TestUpdate_OfWhatAnotherTransactionHasChangedMeanwhileIsFollowed(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openLedger(t, db)
	require.NoError(t, db.AutoMigrate(&Project{}))
	require.NoError(t, ledger.Register(&Project{}, dollar))
	for _, level := range []sql.IsolationLevel{sql.LevelReadCommitted, sql.LevelRepeatableRead} {
		p := Project{Slug: fmt.Sprint("a", level)}
		require.NoError(t, db.Create(&p).Error)
		first, second := db.Begin(), db.Begin(&sql.TxOptions{Isolation: level})
		require.NoError(t, second.First(&Project{}, p.ID).Error)
		require.NoError(t, first.Model(&Project{ID: p.ID}).Update("slug", fmt.Sprint("b", level)).Error)
		saved := make(chan error)
		go func() { saved <- second.Save(&p).Error }() // as it was: to its own snapshot it changes nothing
		waiting := func() (n int) {
			require.NoError(t, db.Raw(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&n).Error)
			return n
		}
		for waiting() == 0 {
			continue
		}
		require.NoError(t, first.Commit().Error)
		err := <-saved
		if level == sql.LevelRepeatableRead {
			require.Error(t, err, "PostgreSQL's own")
			second.Rollback()
			continue
		}
		require.NoError(t, err)
		require.NoError(t, second.Commit().Error)
		require.Equal(t, p.Slug, rowOf(t, db, "projects", p.ID).key())
	}
}

func TestNestedTransactions_AndSavepointsOfTheHostUndoWhatTheBudgetsFollowed(t *testing.T) {
	t.Parallel()
	eachConfiguration(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		require.NoError(t, ledger.Register(&Project{}, dollar))
		table := db.NamingStrategy.TableName("Project")
		p := Project{Slug: "p"}
		require.NoError(t, db.Create(&p).Error)
		require.NoError(t, db.Transaction(func(tx *gorm.DB) error {
			require.NoError(t, tx.SavePoint("mine").Error)
			require.NoError(t, tx.Create(&Project{Slug: "q"}).Error)
			require.NoError(t, tx.Model(&Project{ID: p.ID}).Update("slug", "p2").Error)
			require.Equal(t, []string{"p2", "q"}, keysOf(t, tx, table))
			require.NoError(t, tx.RollbackTo("mine").Error)
			require.Equal(t, []string{"p"}, keysOf(t, tx, table))
			require.NoError(t, tx.Create(&Project{Slug: "r"}).Error)
			return nil
		}))
		require.Equal(t, []string{"p", "r"}, keysOf(t, db, table))
	})
}
