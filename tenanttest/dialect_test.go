package tenanttest_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	_ "github.com/glebarez/sqlite" // a host's own driver, which has taken the name "sqlite"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanttest"
)

// The models of a host's test, with what gorm can say of a table.
type (
	account struct {
		ID        uint
		Slug      string `gorm:"uniqueIndex;size:40"`
		Plan      string `gorm:"default:free;index:by_plan,where:plan <> 'free'"`
		Active    bool
		Rate      float64
		Secret    []byte
		Paid      *time.Time
		CreatedAt time.Time
		DeletedAt gorm.DeletedAt `gorm:"index"`
		Members   []member
	}
	member struct {
		Region    string `gorm:"primaryKey"`
		Number    int    `gorm:"primaryKey;autoIncrement:false"`
		AccountID uint
		Account   *account
	}
)

// What gorm does with a host's tables, it does with the database of a test.
func TestOpen_TakesWhatGormDoesWithAHostsTables(t *testing.T) {
	t.Parallel()
	require.Contains(t, sql.Drivers(), "sqlite")
	db, ledger := tenanttest.Open(t)
	for range 2 {
		require.NoError(t, db.AutoMigrate(&account{}, &member{}), "the second time there is nothing to do")
	}
	require.NoError(t, ledger.Register(&account{}, tenant.WithKey("Slug"), tenant.WithBudget()))
	paid := time.Date(2026, 3, 4, 5, 6, 7, 890, time.FixedZone("", 7200))
	first := account{Slug: "a'\"`?", Active: true, Rate: 0.1, Secret: []byte{0, 255}, Paid: &paid, Members: []member{{Region: "eu", Number: 1}, {Region: "us", Number: 2}}}
	require.NoError(t, db.Create(&first).Error)
	require.NoError(t, db.CreateInBatches([]account{{Slug: "b"}, {Slug: "c"}, {Slug: "d"}}, 2).Error)

	var read account
	require.NoError(t, db.Preload("Members", func(tx *gorm.DB) *gorm.DB { return tx.Order("number") }).First(&read, "slug = @slug", sql.Named("slug", first.Slug)).Error)
	require.Equal(t, "free", read.Plan, "the database's default")
	require.True(t, read.Active)
	require.InDelta(t, 0.1, read.Rate, 0)
	require.Equal(t, []byte{0, 255}, read.Secret)
	require.True(t, paid.Equal(*read.Paid))
	require.True(t, first.CreatedAt.Equal(read.CreatedAt))
	require.Len(t, read.Members, 2)

	require.Error(t, db.Create(&account{Slug: "b"}).Error, "it is unique")
	upsert := clause.OnConflict{Columns: []clause.Column{{Name: "slug"}}, DoUpdates: clause.AssignmentColumns([]string{"rate"})}
	result := db.Clauses(upsert, clause.Returning{}).Create(&account{Slug: "b", Rate: 2})
	require.NoError(t, result.Error)
	require.EqualValues(t, 1, result.RowsAffected)
	result = db.Model(&account{}).Where("slug IN ?", []string{"c", "d"}).Update("plan", "gold")
	require.NoError(t, result.Error)
	require.EqualValues(t, 2, result.RowsAffected)
	require.NoError(t, db.Where("slug = ?", "d").Delete(&account{}).Error)
	var slugs []string
	require.NoError(t, db.Model(&account{}).Order("id").Offset(1).Pluck("slug", &slugs).Error)
	require.Equal(t, []string{"b", "c"}, slugs)
	require.NoError(t, db.Model(&account{}).Clauses(clause.Locking{Strength: "UPDATE"}).Order("id").Limit(1).Offset(1).Pluck("slug", &slugs).Error)
	require.Equal(t, []string{"b"}, slugs)

	undone := errors.New("undone")
	require.ErrorIs(t, db.Transaction(func(tx *gorm.DB) error {
		require.NoError(t, tx.Create(&account{Slug: "e"}).Error)
		require.ErrorIs(t, tx.Transaction(func(inner *gorm.DB) error {
			require.NoError(t, inner.Create(&account{Slug: "f"}).Error)
			return undone
		}), undone)
		var n int64
		require.NoError(t, tx.Model(&account{}).Where("slug IN ?", []string{"e", "f"}).Count(&n).Error)
		require.EqualValues(t, 1, n)
		return undone
	}), undone)

	require.NoError(t, db.Exec(`-- a script
		CREATE TABLE notes (id integer PRIMARY KEY, at datetime, text text); -- of several statements
		INSERT INTO notes (at, text) VALUES (?, ?); INSERT INTO notes (text) VALUES (?)`, paid, "2026-01-01 00:00:00", nil).Error)
	var note map[string]any
	require.NoError(t, db.Table("notes").Where("id = 1").Take(&note).Error)
	require.Equal(t, "2026-01-01 00:00:00", note["text"], "a text is no time")
	require.WithinDuration(t, paid, note["at"].(time.Time), 0)

	m := db.Migrator()
	require.True(t, m.HasTable(&member{}) && m.HasColumn(&account{}, "Slug") && m.HasIndex(&account{}, "by_plan"))
	require.False(t, m.HasTable("nobody") || m.HasColumn(&account{}, "nothing") || m.HasIndex(&account{}, "none"))
	type account struct {
		ID    uint
		Extra string `gorm:"index"`
	}
	require.NoError(t, db.AutoMigrate(&account{}))
	require.True(t, m.HasColumn(&account{}, "extra"))
	require.NoError(t, m.DropIndex(&account{}, "Extra"))
	require.NoError(t, m.DropColumn(&account{}, "extra"))
	require.NoError(t, m.RenameColumn(&member{}, "number", "no"))
	require.NoError(t, m.DropTable(&member{}))
	names, err := m.GetTables()
	require.NoError(t, err)
	require.True(t, slices.Contains(names, "accounts") && !slices.Contains(names, "members"))
}

// A query ends with its context, and the connection goes on.
func TestOpen_QueriesEndWithTheirContext(t *testing.T) {
	t.Parallel()
	db, _ := tenanttest.Open(t)
	ctx, cancel := context.WithCancel(t.Context())
	rows, err := db.WithContext(ctx).Raw(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n`).Rows()
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	require.True(t, rows.Next())
	cancel()
	for rows.Next() {
	}
	require.Error(t, rows.Err())
	var text string
	require.NoError(t, db.Raw(`SELECT ?`, fmt.Sprint("still ", 1)).Scan(&text).Error)
	require.Equal(t, "still 1", text)
}
