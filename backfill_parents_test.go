package tenant_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

func TestBackfill_PlacesTenantsBelowThoseThatTheirRecordsName(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&unit{}))
		id := func(i uint) *uint { return &i }
		// The first two stand above each other. The third one's parent is in a later batch.
		require.NoError(t, db.Create([]unit{
			{ID: 1, Slug: "a", ParentID: id(2)}, {ID: 2, Slug: "b", ParentID: id(1)},
			{ID: 3, Slug: "c", ParentID: id(6)}, {ID: 4, Slug: "d", ParentID: id(3)},
			{ID: 5, Slug: "e", ParentID: id(99)}, {ID: 6, Slug: "f"},
		}).Error)
		require.NoError(t, ledger.Register(&unit{}, tenant.WithKey("Slug"), tenant.WithBudget(), tenant.WithParent("ParentID", &unit{})))
		report, err := ledger.Backfill(t.Context(), &unit{}, tenant.WithBatchSize(2))
		require.NoError(t, err)
		require.Len(t, report.Skips, 2)
		for i, s := range report.Skips {
			require.Equal(t, fmt.Sprint(i+1), s.Record)
			require.ErrorIs(t, s.Err, tenant.ErrHierarchy)
			require.ErrorContains(t, s.Err, "above itself")
		}
		require.Equal(t, [2]int64{6, 3}, [2]int64{report.Seen, report.Made}, "f was made for c")
		require.Equal(t, []string{"c", "d", "e", "f"}, keysOf(t, db, "units"))
		require.Equal(t, [4]string{"f", "c", "", ""}, [4]string{parentOf(t, db, "c"), parentOf(t, db, "d"), parentOf(t, db, "e"), parentOf(t, db, "f")})

		// A parent that was exchanged by raw SQL.
		require.NoError(t, db.Exec(`UPDATE units SET parent_id = 5 WHERE id = 4`).Error)
		_, err = ledger.Backfill(t.Context(), &unit{})
		require.NoError(t, err)
		require.Equal(t, "e", parentOf(t, db, "d"))
		requireConservation(t, db)
	})
}
