package tenant_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/glebarez/sqlite"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// openDatabase opens a new database, with the ledger's tables in it.
func openDatabase(t testing.TB, dialect string) *gorm.DB {
	t.Helper()
	if dialect == "postgres" {
		return openAt(t, postgres.Open(pgtest.DSN(t)))
	}
	db := openAt(t, sqlite.Open(sqliteDSN(t)))
	ledger, err := tenant.Open(db)
	require.NoError(t, err)
	require.NoError(t, ledger.Migrate(t.Context()))
	require.NoError(t, ledger.Close(t.Context()))
	return db
}

func sqliteDSN(t testing.TB) string {
	return filepath.Join(t.TempDir(), "test.db") + "?_pragma=busy_timeout(5000)"
}

func openAt(t testing.TB, dialector gorm.Dialector) *gorm.DB {
	t.Helper()
	db, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	pool, err := db.DB()
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	return db
}

// openLedger opens a ledger that is closed at the end of the test, which fails if calls are left unsettled.
func openLedger(t testing.TB, db *gorm.DB, options ...tenant.OpenOption) *tenant.Ledger {
	t.Helper()
	ledger, err := tenant.Open(db, options...)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, ledger.Close(ctx))
	})
	return ledger
}

// eachDatabase runs a test on every database, each time with a new one and a ledger on it.
func eachDatabase(t *testing.T, test func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger), options ...tenant.OpenOption) {
	for _, dialect := range []string{"postgres", "sqlite"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := openDatabase(t, dialect)
			test(t, db, openLedger(t, db, options...))
		})
	}
}

// Organization is a model of a host, declared by its method and by its field alike.
type Organization struct {
	ID   uint
	Slug string `gorm:"uniqueIndex"`
	Name string
}

func (o *Organization) LLMTenantID() string { return o.Slug }

// newOrganization declares Organization with some options and creates one.
func newOrganization(t testing.TB, db *gorm.DB, ledger *tenant.Ledger, slug string, options ...tenant.RegisterOption) *Organization {
	t.Helper()
	require.NoError(t, db.AutoMigrate(&Organization{}))
	require.NoError(t, ledger.Register(&Organization{}, append([]tenant.RegisterOption{tenant.WithKey("Slug")}, options...)...))
	org := &Organization{Slug: slug, Name: "Organization " + slug}
	require.NoError(t, db.Create(org).Error)
	return org
}

// balance is what the books say of one window of a tenant, by its key.
type balance struct {
	SpentCost, SpentTokens, SpentCalls, HeldCost, HeldTokens, HeldCalls int64
}

func balanceOf(t testing.TB, db *gorm.DB, key, window string) balance {
	t.Helper()
	var b balance
	in := beside(&window)
	require.NoError(t, db.Raw(strings.ReplaceAll(`SELECT @spent_cost AS spent_cost, @spent_tokens AS spent_tokens, @spent_calls AS spent_calls,
			@held_cost AS held_cost, @held_tokens AS held_tokens, @held_calls AS held_calls
		FROM llm_balances b JOIN llm_tenants t ON t.id = b.tenant
		WHERE t.tenant_id = ? AND b.window_unit = ? AND b.agent = '' AND b.model = ''`, "@", "b."+in), key, window).Scan(&b).Error)
	return b
}

// beside returns what the columns of a tenant's window begin with, and turns it into the window whose row it is in: the day and
// the month are in that of the total.
func beside(window *string) (prefix string) {
	if *window == "day" || *window == "month" {
		prefix, *window = *window+"_", "total"
	}
	return prefix
}

// requireConservation checks that the books of every tenant agree: what is spent is the sum of the executions and the
// sum of the roll-up, and what is held is the sum of the running executions. It asks the rows, not the library.
func requireConservation(t testing.TB, db *gorm.DB) {
	t.Helper()
	// One snapshot: calls may still be ending.
	options := &sql.TxOptions{}
	if db.Name() == "postgres" {
		options.Isolation = sql.LevelRepeatableRead
	}
	tx := db.Begin(options)
	require.NoError(t, tx.Error)
	defer tx.Rollback()
	type sums struct {
		Tenant              string
		Cost, Tokens, Calls int64
		HeldCost, HeldCalls int64
	}
	read := func(query string) map[string]sums {
		var rows []sums
		require.NoError(t, tx.Raw(query).Scan(&rows).Error)
		byTenant := map[string]sums{}
		for _, r := range rows {
			if r != (sums{Tenant: r.Tenant}) {
				byTenant[r.Tenant] = r
			}
		}
		return byTenant
	}
	balances := read(`SELECT CAST(tenant AS text) AS tenant, spent_cost AS cost, spent_tokens AS tokens, spent_calls AS calls, held_cost, held_calls
		FROM llm_balances WHERE window_unit = 'total' AND agent = '' AND model = ''`)
	below := "b.tenant = ANY(e.parents)"
	if db.Name() == "sqlite" {
		below = "instr(e.parents, b.tenant) > 0"
	}
	executions := read(`SELECT CAST(b.tenant AS text) AS tenant, CAST(sum(cost) AS bigint) AS cost, CAST(sum(tokens) AS bigint) AS tokens,
			CAST(sum(calls) AS bigint) AS calls,
			CAST(sum(CASE status WHEN 'running' THEN e.held_cost ELSE 0 END) AS bigint) AS held_cost,
			CAST(sum(CASE status WHEN 'running' THEN 1 ELSE 0 END) AS bigint) AS held_calls
		FROM llm_executions e JOIN llm_balances b ON b.window_unit = 'total' AND b.agent = '' AND b.model = ''
			AND (b.tenant = e.tenant OR (e.parents <> '{}' AND ` + below + `)) GROUP BY b.tenant`)
	require.Equal(t, executions, balances, "balances are the sums of the executions")
	hours := read(`SELECT CAST(tenant AS text) AS tenant, CAST(sum(cost) AS bigint) AS cost, CAST(sum(tokens) AS bigint) AS tokens,
			CAST(sum(calls) AS bigint) AS calls
		FROM llm_usage GROUP BY tenant`)
	for id, b := range balances {
		b.HeldCost, b.HeldCalls = 0, 0
		if b != (sums{Tenant: id}) {
			require.Equal(t, b, hours[id], "balances are the sums of the roll-up")
		}
		delete(hours, id)
	}
	require.Empty(t, hours)
}
