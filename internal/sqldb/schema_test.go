package sqldb_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/sqldb"
)

func TestSchema_QualifiesTablesAndNothingElse(t *testing.T) {
	t.Parallel()
	place, home := &sqldb.Schema{Name: "east"}, &sqldb.Schema{}
	for _, c := range []struct{ statement, place, home string }{
		{
			`SELECT b.llm_balances FROM llm_balances b WHERE llm_balances.tenant = 'x'`,
			`SELECT b.llm_balances FROM east.llm_balances b WHERE llm_balances.tenant = 'x'`, "",
		},
		{
			`INSERT INTO llm_usage (hour) SELECT hour FROM llm_usage_late ON CONFLICT DO UPDATE SET calls = llm_usage.calls + 1`,
			`INSERT INTO east.llm_usage (hour) SELECT hour FROM east.llm_usage_late ON CONFLICT DO UPDATE SET calls = llm_usage.calls + 1`, "",
		},
		{
			`UPDATE llm_tenants SET name = ''`, "", "",
		},
		{
			"WITH gone AS (DELETE FROM llm_tenants WHERE id = (SELECT id FROM llm_tenants)) INSERT\nINTO llm_tenants SELECT * FROM llm_tenants t",
			"WITH gone AS (DELETE FROM llm_tenants WHERE id = (SELECT id FROM east.llm_tenants)) INSERT\nINTO llm_tenants SELECT * FROM east.llm_tenants t",
			"WITH gone AS (DELETE FROM llm_tenants WHERE id = (SELECT id FROM llm_home_tenants)) INSERT\nINTO llm_tenants SELECT * FROM llm_home_tenants t",
		},
		{`SELECT to_regclass('llm_executions'), x.llm_usage, my_llm_usage, llm_usage_hour FROM llm_audit JOIN llm_limits`, `SELECT to_regclass('east.llm_executions'), x.llm_usage, my_llm_usage, llm_usage_hour FROM llm_audit JOIN llm_limits`, ""},
		{`SELECT 1 FROM west.llm_usage`, "", ""},
		{`SELECT 1 FROM llm_executions_past, llm_executions_2026_11, llm_executions_admitted`, `SELECT 1 FROM east.llm_executions_past, east.llm_executions_2026_11, llm_executions_admitted`, ""},
		{`SELECT 1`, "", ""},
		{`UPDATE llm_balances t SET spent = 1 FROM llm_tenants x`, `UPDATE east.llm_balances t SET spent = 1 FROM east.llm_tenants x`, `UPDATE llm_balances t SET spent = 1 FROM llm_home_tenants x`},
	} {
		for schema, want := range map[*sqldb.Schema]string{place: c.place, home: c.home, nil: ""} {
			if want == "" {
				want = c.statement
			}
			for range 2 { // the second time it is known
				require.Equal(t, want, schema.Statement(c.statement))
			}
		}
	}
}

func TestSchema_KeepsABoundedNumberOfStatements(t *testing.T) {
	t.Parallel()
	place := &sqldb.Schema{Name: "east"}
	for i := range 25_000 {
		require.Equal(t, fmt.Sprintf("SELECT %d FROM east.llm_usage", i), place.Statement(fmt.Sprintf("SELECT %d FROM llm_usage", i)))
	}
	require.Less(t, place.Kept(), 10_001)
}
