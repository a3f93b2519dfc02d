package tenant_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/money"
)

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
		Tenant                          string
		Cost, Charge, Tokens, Calls     int64
		HeldCost, HeldCharge, HeldCalls int64
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
	balances := read(`SELECT CAST(tenant AS text) AS tenant, spent_cost AS cost, spent_charge AS charge, spent_tokens AS tokens, spent_calls AS calls, held_cost, held_charge, held_calls
		FROM llm_balances WHERE window_unit = 'total' AND agent = '' AND model = ''`)
	below := "b.tenant = ANY(e.parents)"
	if db.Name() == "sqlite" {
		below = "instr(e.parents, b.tenant) > 0"
	}
	executions := read(`SELECT CAST(b.tenant AS text) AS tenant, CAST(sum(cost) AS bigint) AS cost, CAST(sum(charge) AS bigint) AS charge, CAST(sum(tokens) AS bigint) AS tokens,
			CAST(sum(calls) AS bigint) AS calls,
			CAST(sum(CASE status WHEN 'running' THEN e.held_cost ELSE 0 END) AS bigint) AS held_cost,
			CAST(sum(CASE status WHEN 'running' THEN e.held_charge ELSE 0 END) AS bigint) AS held_charge,
			CAST(sum(CASE status WHEN 'running' THEN 1 ELSE 0 END) AS bigint) AS held_calls
		FROM llm_executions e JOIN llm_balances b ON b.window_unit = 'total' AND b.agent = '' AND b.model = ''
			AND (b.tenant = e.tenant OR (e.parents <> '{}' AND ` + below + `)) GROUP BY b.tenant`)
	require.Equal(t, executions, balances, "balances are the sums of the executions")
	hours := read(`SELECT CAST(tenant AS text) AS tenant, CAST(sum(cost) AS bigint) AS cost, CAST(sum(charge) AS bigint) AS charge, CAST(sum(tokens) AS bigint) AS tokens,
			CAST(sum(calls) AS bigint) AS calls
		FROM llm_usage GROUP BY tenant`)
	for id, b := range balances {
		b.HeldCost, b.HeldCharge, b.HeldCalls = 0, 0, 0
		if b != (sums{Tenant: id}) {
			require.Equal(t, b, hours[id], "balances are the sums of the roll-up")
		}
		delete(hours, id)
	}
	require.Empty(t, hours)
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

func tenantRows(db *gorm.DB) string {
	return `SELECT CAST(t.id AS text) AS id, t.tenant_id, t.name, t.owner_type, t.owner_id, t.deleted_at IS NOT NULL AS deleted,
	t.suspended_at IS NOT NULL AS suspended, (SELECT count(*) FROM llm_limits l WHERE l.tenant = t.id) AS limits,
	(SELECT count(*) FROM llm_balances b WHERE b.tenant = t.id) AS balances
	FROM llm_tenants t WHERE t.id <> 'ffffffff-ffff-ffff-ffff-ffffffffffff'`
}

// rowOf returns the tenant of a record; its ID is empty where there is none.
func rowOf(t testing.TB, db *gorm.DB, table string, id any) tenantRow {
	t.Helper()
	var r tenantRow
	require.NoError(t, db.Raw(tenantRows(db)+` AND t.owner_type = ? AND t.owner_id = ?`, table, fmt.Sprint(id)).Scan(&r).Error)
	return r
}

// rowByID returns the tenant with an id of its own.
func rowByID(t testing.TB, db *gorm.DB, id string) tenantRow {
	t.Helper()
	var r tenantRow
	require.NoError(t, db.Raw(tenantRows(db)+` AND t.id = ?`, id).Scan(&r).Error)
	return r
}

// keysOf returns the tenant ids of a table's records.
func keysOf(t testing.TB, db *gorm.DB, table string) (keys []string) {
	t.Helper()
	require.NoError(t, db.Raw(`SELECT tenant_id FROM llm_tenants WHERE owner_type = ? AND deleted_at IS NULL ORDER BY tenant_id`, table).Scan(&keys).Error)
	return keys
}

// executionRow is what is checked of an execution.
type executionRow struct {
	ID, Status, IdempotencyKey string
	HeldCost, Cost, Calls      int64
}

func executionRows(t testing.TB, db *gorm.DB) (rows []executionRow) {
	t.Helper()
	require.NoError(t, db.Raw(`SELECT CAST(id AS text) AS id, status, coalesce(idempotency_key, '') AS idempotency_key, held_cost, cost, calls
		FROM llm_executions ORDER BY id`).Scan(&rows).Error)
	return rows
}

// figures is what the three questions about a period say, costs in nano-dollars.
type figures struct{ cost, tokens, calls int64 }

func ask(t require.TestingT, db *gorm.DB, org tenant.Tenant, p tenant.Period) figures {
	var f figures
	cost, err := tenant.Cost(context.Background(), db, org, p)
	require.NoError(t, err)
	f.cost = cost.Shift(9).IntPart()
	require.True(t, cost.Equal(money.Decimal(f.cost)))
	f.tokens, err = tenant.Tokens(context.Background(), db, org, p)
	require.NoError(t, err)
	f.calls, err = tenant.ExecutionCount(context.Background(), db, org, p)
	require.NoError(t, err)
	return f
}

// inNano is an amount in nano-dollars.
func inNano(d decimal.Decimal) int64 { return d.Shift(9).IntPart() }
