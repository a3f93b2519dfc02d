package tenant_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// overheard keeps the statements that connections are given, with their arguments.
type overheard struct {
	mu         sync.Mutex
	statements []pgx.TraceQueryStartData
}

// TraceQueryStart implements pgx.QueryTracer.
func (o *overheard) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.statements = append(o.statements, data)
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (o *overheard) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// on returns the statements that mention a table and are run by something.
func (o *overheard) on(table string, do func()) (statements []pgx.TraceQueryStartData) {
	o.mu.Lock()
	o.statements = nil
	o.mu.Unlock()
	do()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.statements {
		if strings.Contains(s.SQL, table) {
			statements = append(statements, s)
		}
	}
	return statements
}

// explained is a plan that was run, as far as it is of one table.
type explained struct {
	Table string      `json:"Relation Name"`
	Index string      `json:"Index Name"`
	Hit   float64     `json:"Shared Hit Blocks"`
	Read  float64     `json:"Shared Read Blocks"`
	Plans []explained `json:"Plans"`
}

// pages are those of a table, and of its indexes, that a plan looks at.
func (e *explained) pages(table string) (pages float64) {
	if e.Table == table || strings.HasPrefix(e.Index, table) {
		return e.Hit + e.Read // with those of the nodes below it
	}
	for i := range e.Plans {
		pages += e.Plans[i].pages(table)
	}
	return pages
}

// Beside a snapshot that stays open, all versions of a balance stay. What is asked of one looks at those of its present generation
// alone, whatever the planner knows of the table.
func TestBalances_AreAskedWithoutTheVersionsThatAnOpenSnapshotKeeps(t *testing.T) {
	t.Parallel()
	const calls = 900
	for name, of := range map[string]struct {
		hot    tenant.Tenant
		others int
	}{"of a tenant": {acme, 0}, "of one of many": {acme, 150}, "of no tenant": {nil, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hot := of.hot
			config, err := pgx.ParseConfig(pgtest.DSN(t))
			require.NoError(t, err)
			heard := &overheard{}
			config.Tracer = heard
			db := openAt(t, postgres.New(postgres.Config{Conn: stdlib.OpenDB(*config)}))
			pool, err := db.DB()
			require.NoError(t, err)
			ledger := openLedger(t, db)
			for i := range of.others {
				require.NoError(t, call(t, ledger, tenant.ID(fmt.Sprintf("other-%d", i)), "1"))
			}
			if hot != nil {
				require.NoError(t, tenant.ConfigureBudget(t.Context(), db, hot, func(b *tenant.Budget) error {
					b.Limits = tenant.Limits{DailyCost: tenant.USD("1000000"), MonthlyTokens: tenant.Count(1 << 60)}
					return nil
				}))
			}
			require.NoError(t, call(t, ledger, hot, "1"))

			snapshot, err := pool.BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
			require.NoError(t, err)
			defer func() { _ = snapshot.Rollback() }()
			var seen int64
			require.NoError(t, snapshot.QueryRowContext(t.Context(), `SELECT sum(spent_calls) FROM llm_balances`).Scan(&seen))
			for range calls {
				require.NoError(t, call(t, ledger, hot, "1"))
			}

			pages := func(table, statement string, args ...any) float64 {
				var text string
				require.NoError(t, pool.QueryRowContext(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+statement, args...).Scan(&text))
				var plans []struct{ Plan explained }
				require.NoError(t, json.Unmarshal([]byte(text), &plans))
				return plans[0].Plan.pages(table)
			}
			now := time.Now().Truncate(time.Hour)
			whole := tenant.Between(now.Add(-3*time.Hour), now.Add(2*time.Hour)) // of which there is no balance
			today := tenant.Query{Tenant: hot, Period: tenant.Today, By: []tenant.Group{tenant.ByModel}}
			for _, prepare := range []string{"", "ANALYZE", "SET random_page_cost = 1.1"} {
				pool.SetMaxIdleConns(0) // what is set is for new connections
				if set, ok := strings.CutPrefix(prepare, "SET"); ok {
					prepare = "ALTER DATABASE " + config.Database + " SET" + set
				}
				_, err := pool.ExecContext(t.Context(), prepare)
				require.NoError(t, err)
				for name, ask := range map[string]func() error{
					"CostToday":       func() error { _, err := tenant.CostToday(t.Context(), db, hot); return err },
					"CostThisMonth":   func() error { _, err := tenant.CostThisMonth(t.Context(), db, hot); return err },
					"TokensToday":     func() error { _, err := tenant.TokensToday(t.Context(), db, hot); return err },
					"CheckBudget":     func() error { return tenant.CheckBudget(t.Context(), db, hot) },
					"RemainingBudget": func() error { _, _, err := tenant.RemainingBudget(t.Context(), db, hot); return err },
					"BudgetStatus":    func() error { _, err := tenant.BudgetStatus(t.Context(), db, hot); return err },
					"EffectiveBudget": func() error { _, err := tenant.EffectiveBudget(t.Context(), db, hot); return err },
					"QueryUsage":      func() error { _, err := tenant.QueryUsage(t.Context(), db, today); return err },
					"Cost of usage":   func() error { _, err := tenant.Cost(t.Context(), db, hot, whole); return err },
					"UsageSummary":    func() error { _, err := tenant.UsageSummary(t.Context(), db, hot, tenant.Today); return err },
				} {
					table, most := "llm_balances", 40.0
					if strings.Contains(strings.ToLower(name), "usage") {
						table, most = "llm_usage", 25
					}
					statements := heard.on(table, func() { require.NoError(t, ask()) })
					require.NotEmpty(t, statements, name)
					for _, s := range statements {
						require.Less(t, pages(table, s.SQL, s.Args...), most, "%s after %q: %s", name, prepare, s.SQL)
					}
				}
			}
			const kept = "the snapshot does keep the versions"
			require.Greater(t, pages("llm_balances", `SELECT count(spent_cost) FROM llm_balances WHERE spent_calls > $1`, calls), 60.0, kept)
			require.Greater(t, pages("llm_usage", `SELECT count(cost) FROM llm_usage WHERE calls > $1`, calls), 30.0, kept)
		})
	}
}

// Who asks about one tenant reads neither the table of tenants nor the index of who stands below whom as a whole, also where it was never analysed.
func TestCostToday_LooksAtNoOtherTenants(t *testing.T) {
	t.Parallel()
	config, err := pgx.ParseConfig(pgtest.DSN(t))
	require.NoError(t, err)
	heard := &overheard{}
	config.Tracer = heard
	db := openAt(t, postgres.New(postgres.Config{Conn: stdlib.OpenDB(*config)}))
	ledger := openLedger(t, db)
	require.NoError(t, call(t, ledger, acme, "1"))
	require.NoError(t, db.Exec(`INSERT INTO llm_tenants (id, tenant_id, parent) SELECT gen_random_uuid(), 'other-' || i, (SELECT id FROM llm_tenants WHERE tenant_id = 'acme')
		FROM generate_series(1, 150) i`).Error)
	require.NoError(t, db.Exec(`INSERT INTO llm_tenants (id, tenant_id, parent) SELECT gen_random_uuid(), 'leaf-' || row_number() OVER (), m.id
		FROM llm_tenants m CROSS JOIN generate_series(1, 40) WHERE m.tenant_id LIKE 'other-%'`).Error)
	for _, prepare := range []string{"SELECT 1", "ANALYZE"} {
		require.NoError(t, db.Exec(prepare).Error)
		for _, who := range []tenant.ID{"acme", "leaf-700"} {
			statements := heard.on("llm_tenants", func() {
				_, err := tenant.CostToday(t.Context(), db, who)
				require.NoError(t, err)
			})
			require.NotEmpty(t, statements)
			for _, s := range statements {
				var text string
				require.NoError(t, db.Raw("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+s.SQL, s.Args...).Row().Scan(&text))
				var plans []struct{ Plan explained }
				require.NoError(t, json.Unmarshal([]byte(text), &plans))
				require.Less(t, plans[0].Plan.pages("llm_tenants"), 45.0, "%s after %s: %s", who, prepare, s.SQL)
			}
		}
	}
}
