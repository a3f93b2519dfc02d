package tenant_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// dump is every cell of every table of the ledger's.
func dump(t testing.TB, db *gorm.DB) string {
	t.Helper()
	var tables []string
	names := `SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'llm_%'`
	if db.Name() == "postgres" {
		names = `SELECT tablename FROM pg_tables WHERE tablename LIKE 'llm_%'`
	}
	require.NoError(t, db.Raw(names).Scan(&tables).Error)
	require.Subset(t, tables, []string{"llm_tenants", "llm_executions", "llm_audit", "llm_former"})
	var all strings.Builder
	for _, table := range tables {
		dumpTable(t, db, table, &all)
	}
	return all.String()
}

func dumpTable(t testing.TB, db *gorm.DB, table string, all *strings.Builder) {
	t.Helper()
	columns := "*"
	if db.Name() == "postgres" {
		columns = "CAST(x AS text)"
	}
	rows, err := db.Raw(`SELECT ` + columns + ` FROM ` + table + ` x`).Rows()
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	width, err := rows.Columns()
	require.NoError(t, err)
	for rows.Next() {
		cells := make([]any, len(width))
		for i := range cells {
			cells[i] = new(any)
		}
		require.NoError(t, rows.Scan(cells...))
		for _, cell := range cells {
			fmt.Fprintf(all, "%s %v\n", table, *cell.(*any))
		}
	}
	require.NoError(t, rows.Err())
}

// secrets are what names a tenant and its people in the test below.
var secrets = []string{
	"acme-corp", "acme-before", "Organization acme", "person@acme", "req-acme", "tag-of-acme", "key-acme", "line-acme", "why-acme", "top-up-acme",
}

// namedBooks are books of a tenant that is named wherever it can be, below another one and above a third.
func namedBooks(t testing.TB, db *gorm.DB, ledger *tenant.Ledger) *Organization {
	t.Helper()
	ctx := tenant.ContextWithReason(tenant.ContextWithActor(t.Context(), "person@acme"), "why-acme")
	place(t, db, "holding", "", "")
	org := newOrganization(t, db, ledger, "acme-before")
	_, err := ledger.Record(ctx, org, tenant.Actual{Model: "m", Cost: tenant.USD("0.01"), Usage: tenant.Usage{Input: 10}})
	require.NoError(t, err)
	place(t, db, "team before", "acme-before", "")
	org.Name = "Organization acme"
	org.Slug = "acme-corp"
	require.NoError(t, db.Save(org).Error)
	together(t, db, ledger, "holding", "acme-corp")
	require.NoError(t, tenant.ConfigureBudget(ctx, db, org, func(b *tenant.Budget) error {
		b.ParentID, b.TimeZone, b.Limits = "holding", "Europe/Lisbon", tenant.Limits{DailyCost: tenant.USD("100")}
		return nil
	}))
	require.NoError(t, ledger.TopUp(ctx, org, tenant.TopUp{Limit: tenant.Limit{Window: tenant.Day, Cost: tenant.USD("5")}, Reason: "why-acme", IdempotencyKey: "top-up-acme"}))
	place(t, db, "team", "acme-corp", "")
	for i := range 40 {
		_, err := ledger.Record(ctx, org, tenant.Actual{
			Provider: "openai", Model: "m", RequestID: fmt.Sprint("req-acme-", i), Cost: tenant.USD("0.01"), Usage: tenant.Usage{Input: 10},
		}, tenant.WithIdempotencyKey(fmt.Sprint("key-acme-", i)), tenant.WithTag("who", "tag-of-acme"))
		require.NoError(t, err)
	}
	calls := ago(20, "acme-corp")
	for i := range calls {
		calls[i].ID, calls[i].Actor = fmt.Sprint("line-acme-", i), "person@acme"
	}
	_, err = ledger.Import(ctx, "s", each(calls...))
	require.NoError(t, err)
	_, err = ledger.Credit(ctx, org, tenant.USD("0.1"), "why-acme", tenant.WithIdempotencyKey("key-acme-credit"))
	require.NoError(t, err)
	hold, err := ledger.Reserve(ctx, org, tenant.Estimate{Model: "m", Cost: tenant.USD("0.01")})
	require.NoError(t, err)
	_, err = ledger.Release(ctx, hold)
	require.NoError(t, err)
	_, err = ledger.Record(t.Context(), tenant.ID("team"), tenant.Actual{Model: "m", Cost: tenant.USD("0.5"), Usage: tenant.Usage{Input: 5}})
	require.NoError(t, err)
	return org
}

func TestErase_LeavesNothingThatNamesAnybody(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := namedBooks(t, db, ledger)
		before := dump(t, db)
		for _, secret := range secrets {
			require.Contains(t, before, secret)
		}
		sums := func(who tenant.Tenant, options ...tenant.QueryOption) string {
			summary, err := tenant.UsageSummary(t.Context(), db, who, tenant.AllTime, options...)
			require.NoError(t, err)
			return fmt.Sprintf("%+v", summary)
		}
		holding, team := sums(tenant.ID("holding"), tenant.WithDescendants()), sums(tenant.ID("team"))
		own := sums(org)
		require.NoError(t, db.Delete(org).Error)

		report, err := ledger.Erase(t.Context(), tenant.ID("acme-corp"))
		require.NoError(t, err)
		require.EqualValues(t, 63, report.Executions)
		after := dump(t, db)
		for _, secret := range secrets {
			require.NotContains(t, after, secret)
		}
		require.Equal(t, own, sums(report.UUID), "its sums stay, without a name")
		require.Equal(t, holding, sums(tenant.ID("holding"), tenant.WithDescendants()))
		require.Equal(t, team, sums(tenant.ID("team")))
		found, err := ledger.Verify(t.Context())
		require.NoError(t, err)
		require.Empty(t, found)

		_, err = ledger.Reserve(t.Context(), tenant.ID("team"), tenant.Estimate{Model: "m"})
		require.ErrorIs(t, err, tenant.ErrTenantSuspended, "it stands below one that is gone")
		require.ErrorContains(t, err, `one that is gone, above "team": give that another parent`)
		again, err := ledger.Erase(t.Context(), report.UUID)
		require.NoError(t, err)
		require.Equal(t, tenant.EraseReport{UUID: report.UUID}, again)
		_, err = ledger.Erase(t.Context(), tenant.ID("acme-corp"))
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		require.ErrorContains(t, err, `there is no tenant "acme-corp"`)
	}, tenant.WithRollupTags("who"))
}

// Whatever a tenant was called, the entries of others lose its id as their parent, and nothing else.
func TestErase_TakesAnIDOfAnyTextOutOfTheEntriesOfOthersAlone(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		for i, id := range []string{`R&D <west>`, `say "hi"`, `back\slash`, "line\u2028end", "hard", "parent", "enforcement", "null", "Zürich"} {
			team := tenant.ID(fmt.Sprint("team-", i))
			place(t, db, tenant.ID(id), "", "3")
			place(t, db, team, tenant.ID(id), "2")
			require.NoError(t, tenant.ConfigureBudget(t.Context(), db, team, func(b *tenant.Budget) error {
				b.Name = "Team"
				return nil
			}))
			entries := func() (all []string) {
				var log []tenant.AuditEntry
				require.NoError(t, tenant.AuditLog(t.Context(), db, team).Order("id").Find(&log).Error)
				for _, e := range log {
					for _, document := range []json.RawMessage{e.Was, e.Became} {
						var settings map[string]any
						if len(document) > 0 {
							require.NoError(t, json.Unmarshal(document, &settings))
						}
						all = append(all, fmt.Sprint(settings))
					}
				}
				return all
			}
			want := entries()
			require.Contains(t, strings.Join(want, "\n"), "parent:"+id)
			for j := range want {
				want[j] = strings.ReplaceAll(want[j], "parent:"+id, "parent:")
			}
			_, err := ledger.Erase(t.Context(), tenant.ID(id))
			require.NoError(t, err, id)
			require.Equal(t, want, entries(), id)
		}
	})
}

// What a tenant was called before its record got another key is known by the audit log alone, where it made no call by it.
func TestErase_TakesFormerIDsOutToo(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "tools & toys", dollar)
		place(t, db, "shop", "tools & toys", "0.5")
		org.Slug = "toys"
		require.NoError(t, db.Save(org).Error)
		require.Contains(t, dump(t, db), "tools & toys")
		_, err := ledger.Erase(t.Context(), org)
		require.NoError(t, err)
		after := dump(t, db)
		require.NotContains(t, after, "toys")
		require.Contains(t, after, "shop")
	})
}

func TestErase_WaitsForWhatRuns(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := namedBooks(t, db, ledger)
		hold, err := ledger.Reserve(t.Context(), org, tenant.Estimate{Model: "m", Cost: tenant.USD("0.01")}, tenant.WithIdempotencyKey("key-acme-running"))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, 1)
		go func() {
			_, err := ledger.Erase(ctx, org)
			ended <- err
		}()
		require.Eventually(t, func() bool {
			var left int64
			return db.Raw(`SELECT count(*) FROM llm_executions WHERE status <> 'running' AND tenant_id <> 'team'`).Scan(&left).Error == nil && left == 0
		}, time.Minute, 5*time.Millisecond)
		cancel()
		err = <-ended
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, "calls of the tenant are running: 1")
		_, err = ledger.Reserve(t.Context(), org, tenant.Estimate{Model: "m"})
		require.ErrorIs(t, err, tenant.ErrTenantSuspended, "it makes no calls any more")

		done := make(chan error, 1)
		go func() {
			_, err := ledger.Erase(t.Context(), org)
			done <- err
		}()
		s, err := ledger.Settle(t.Context(), hold, tenant.Actual{Model: "m", RequestID: "req-acme-last", Cost: tenant.USD("0.02"), Usage: tenant.Usage{Input: 1}})
		require.NoError(t, err)
		require.Equal(t, tenant.Settled, s.Outcome)
		require.NoError(t, <-done)
		for _, secret := range secrets {
			require.NotContains(t, dump(t, db), secret)
		}
		// The record is still there: it starts anew.
		_, err = ledger.Record(t.Context(), org, tenant.Actual{Model: "m", Cost: tenant.USD("1"), Usage: tenant.Usage{Input: 1}})
		require.NoError(t, err)
		cost, err := tenant.Cost(t.Context(), db, org, tenant.AllTime)
		require.NoError(t, err)
		require.Equal(t, "1", cost.String())
	})
}

func TestErase_OfNobodyIsRefused(t *testing.T) {
	t.Parallel()
	onOneSet(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		for name, who := range map[string]tenant.Tenant{"name nobody": nil, "the root": tenant.Root, "there is no tenant": tenant.ID("stranger")} {
			_, err := ledger.Erase(t.Context(), who)
			require.ErrorIs(t, err, tenant.ErrInvalidOption, name)
			require.ErrorContains(t, err, name)
		}
		_, err := ledger.Erase(t.Context(), tenant.UUID("x"))
		require.ErrorIs(t, err, tenant.ErrInvalidTenant)
		require.NotContains(t, dump(t, db), "stranger", "no tenant is made for it")
	}, tenant.WithRootBudget(tenant.Limits{DailyCost: tenant.USD("5")}, tenant.Hard))
}

func ExampleLedger_Erase() {
	ctx := context.Background()
	db, ledger, end := openBooks()
	defer end()
	if _, err := ledger.Record(ctx, tenant.ID("acme"), tenant.Actual{Provider: "openai", Model: "gpt-5", Cost: tenant.USD("0.25")}); err != nil {
		fmt.Println(err)
	}

	report, err := ledger.Erase(ctx, tenant.ID("acme"))
	if err != nil {
		fmt.Println(err)
		return
	}
	answer, err := tenant.QueryUsage(ctx, db, tenant.Query{Everybody: true, Period: tenant.Today})
	fmt.Println(report.Executions, "call without a name, which has cost", answer.Total.Cost, err)

	// Output:
	// 1 call without a name, which has cost 0.25 <nil>
}
