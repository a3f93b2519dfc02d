package tenant_test

import (
	"fmt"
	"testing"

	"github.com/glebarez/sqlite"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// Project has a soft delete, and columns that are none of the ledger's business.
type Project struct {
	ID        uint
	Slug      string `gorm:"uniqueIndex" tenant:"key"`
	Name      string
	Notes     string
	DeletedAt gorm.DeletedAt
}

// Client owns projects: they are written through it.
type Client struct {
	ID       uint
	Projects []Assignment
}

// Assignment is a project as an association.
type Assignment struct {
	ID       uint
	ClientID uint
	Slug     string `gorm:"uniqueIndex"`
}

// openWith opens a new migrated database with a configuration of gorm, and a ledger on it.
func openWith(t testing.TB, dialect string, config gorm.Config) (*gorm.DB, *tenant.Ledger) {
	t.Helper()
	config.Logger = logger.Discard
	dialector := sqlite.Open(sqliteDSN(t))
	if dialect == "postgres" {
		dialector = postgres.Open(pgtest.DSN(t))
	}
	db, err := gorm.Open(dialector, &config)
	require.NoError(t, err)
	pool, err := db.DB()
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	ledger := openLedger(t, db)
	require.NoError(t, ledger.Migrate(t.Context()))
	return db, ledger
}

// tenantRow is a row of llm_tenants.
type tenantRow struct {
	ID                           string
	TenantID, OwnerType, OwnerID *string
	Name                         string
	Deleted, Suspended           bool
	Limits, Balances             int
}

func (r tenantRow) key() string {
	if r.TenantID == nil {
		return ""
	}
	return *r.TenantID
}

const tenantRows = `SELECT CAST(t.id AS text) AS id, t.tenant_id, t.name, t.owner_type, t.owner_id, t.deleted_at IS NOT NULL AS deleted,
	t.suspended_at IS NOT NULL AS suspended, (SELECT count(*) FROM llm_limits l WHERE l.tenant = t.id) AS limits,
	(SELECT count(*) FROM llm_balances b WHERE b.tenant = t.id) AS balances
	FROM llm_tenants t WHERE t.id <> 'ffffffff-ffff-ffff-ffff-ffffffffffff'`

// rowOf returns the tenant of a record; its ID is empty where there is none.
func rowOf(t testing.TB, db *gorm.DB, table string, id any) tenantRow {
	t.Helper()
	var r tenantRow
	require.NoError(t, db.Raw(tenantRows+` AND t.owner_type = ? AND t.owner_id = ?`, table, fmt.Sprint(id)).Scan(&r).Error)
	return r
}

// rowByID returns the tenant with an id of its own.
func rowByID(t testing.TB, db *gorm.DB, id string) tenantRow {
	t.Helper()
	var r tenantRow
	require.NoError(t, db.Raw(tenantRows+` AND t.id = ?`, id).Scan(&r).Error)
	return r
}

// spendCent books a call of a cent.
func spendCent(t testing.TB, ledger *tenant.Ledger, who tenant.Tenant) {
	t.Helper()
	_, err := ledger.Record(t.Context(), who, tenant.Actual{Cost: tenant.USD("0.01")})
	require.NoError(t, err)
}

// configurations are those of gorm under which the hooks have to work.
func configurations() map[string]gorm.Config {
	return map[string]gorm.Config{
		"plain":                   {},
		"no default transaction":  {SkipDefaultTransaction: true},
		"prepared, with a prefix": {PrepareStmt: true, NamingStrategy: schema.NamingStrategy{TablePrefix: "app_"}},
		"no nested transaction":   {DisableNestedTransaction: true},
		"global updates":          {AllowGlobalUpdate: true},
	}
}

// eachConfiguration runs a test on every database under every configuration of gorm.
func eachConfiguration(t *testing.T, test func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger)) {
	for name, config := range configurations() {
		for _, dialect := range []string{"postgres", "sqlite"} {
			t.Run(name+" on "+dialect, func(t *testing.T) {
				t.Parallel()
				db, ledger := openWith(t, dialect, config)
				test(t, db, ledger)
			})
		}
	}
}
