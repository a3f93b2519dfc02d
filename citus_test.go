package tenant_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm/clause"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// Firm is a host's record whose table Citus keeps.
type Firm struct {
	ID   uint
	Slug string `gorm:"unique"`
	Name string
}

// Citus takes fewer expressions in a statement's RETURNING clause and in an UPDATE than PostgreSQL.
func TestHooks_FollowARecordOfACitusTable(t *testing.T) {
	t.Parallel()
	_, dsn, _ := pgtest.CitusSchema(t)
	db := openAt(t, postgres.Open(dsn))
	require.NoError(t, db.AutoMigrate(&Firm{}))
	ledger := openLedger(t, db)
	require.NoError(t, ledger.Register(&Firm{}, tenant.WithKey("Slug"), tenant.WithName("Name"), tenant.WithBudget()))
	tenants := func(where string) (keys []string) {
		require.NoError(t, db.Raw(`SELECT tenant_id FROM llm_tenants WHERE owner_type = 'firms' AND `+where+` ORDER BY tenant_id`).Scan(&keys).Error)
		return keys
	}

	acme := Firm{Slug: "acme", Name: "Acme"}
	require.NoError(t, db.Create(&acme).Error)
	require.NotZero(t, acme.ID)
	others := []Firm{{Slug: "oak"}, {Slug: "elm"}}
	require.NoError(t, db.Create(&others).Error)
	require.Equal(t, []string{"acme", "elm", "oak"}, tenants("true"))

	upsert := clause.OnConflict{Columns: []clause.Column{{Name: "slug"}}, DoUpdates: clause.AssignmentColumns([]string{"name"})}
	require.NoError(t, db.Clauses(upsert).Create(&[]Firm{{Slug: "oak", Name: "Oak"}, {Slug: "ash", Name: "Ash"}}).Error)
	require.Equal(t, []string{"acme", "ash", "elm", "oak"}, tenants("true"))
	require.Equal(t, []string{"oak"}, tenants("name = 'Oak'"))

	require.NoError(t, db.Model(&acme).Update("slug", "acme-2").Error)
	require.NoError(t, db.Model(&Firm{}).Where("slug IN ?", []string{"elm", "ash"}).Update("name", "Wood").Error)
	require.Equal(t, []string{"acme-2"}, tenants("name = 'Acme'"))
	require.Equal(t, []string{"ash", "elm"}, tenants("name = 'Wood'"))

	require.NoError(t, db.Delete(&others[0]).Error)
	require.Equal(t, []string{"acme-2", "ash", "elm"}, tenants("deleted_at IS NULL"))

	hold, err := ledger.Reserve(t.Context(), ledger.Tenant(&acme), tenant.Estimate{Cost: tenant.USD("0.01")})
	require.NoError(t, err)
	_, err = ledger.Release(t.Context(), hold)
	require.NoError(t, err)
	require.NoError(t, tenant.ConfigureBudget(t.Context(), db, ledger.Tenant(&acme), func(b *tenant.Budget) error {
		b.Suspended = true
		return nil
	}))
	found, err := ledger.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, found)
}
