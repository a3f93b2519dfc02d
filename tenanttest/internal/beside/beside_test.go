// Package beside_test holds tenanttest beside the driver modernc.org/sqlite, which takes the name "sqlite" as it is imported.
// The tests of tenanttest hold it beside github.com/glebarez/go-sqlite, which takes the same: no program can have both.
package beside_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"modernc.org/sqlite"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOpen_BesideAHostsOwnDriver(t *testing.T) {
	t.Parallel()
	own, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "own.db"))
	require.NoError(t, err)
	require.IsType(t, &sqlite.Driver{}, own.Driver())
	var version string
	require.NoError(t, own.QueryRow("SELECT sqlite_version()").Scan(&version))
	require.NoError(t, own.Close())

	db, ledger := tenanttest.Open(t)
	hold, err := ledger.Reserve(t.Context(), tenant.ID("acme"), tenant.Estimate{Cost: tenant.USD("1")})
	require.NoError(t, err)
	_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.25")})
	require.NoError(t, err)
	cost, err := tenant.CostToday(t.Context(), db, tenant.ID("acme"))
	require.NoError(t, err)
	require.Equal(t, "0.25", cost.String())
}
