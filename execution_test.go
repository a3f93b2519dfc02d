package tenant_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/units"
)

func TestExecutions_AreTheTenantsOwnWithAllThatIsKnownOfThem(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme", dollar)
		ctx := tenant.ContextWithActor(t.Context(), "user-7")
		usage := tenant.Usage{
			Input: 1, CacheRead: 2, CacheWrite5m: 3, CacheWrite1h: 4, Output: 5, Reasoning: 6,
			InputAudio: 7, OutputAudio: 8, InputImage: 9, OutputImage: 10, WebSearches: 11, CacheReadAudio: 12,
			Units: units.Of(units.InputAudio, 1500).Plus(units.Of(units.OutputImages.With("1024x1024", "hd"), 2)),
		}
		hold, err := ledger.Reserve(ctx, org, tenant.Estimate{Provider: "p", Model: "asked", InputTokens: 100, OutputTokens: 0, Cost: tenant.USD("0.01")},
			tenant.WithAgent("support"), tenant.WithTag("ticket", "42"), tenant.WithIdempotencyKey("k"))
		require.NoError(t, err)
		_, err = ledger.Settle(ctx, hold, tenant.Actual{
			Model: "billed", RequestID: "r", Usage: usage, Cost: tenant.USD("0.03"), ReportedCost: tenant.USD("0.031"), ErrorCode: "http_500", Estimated: true,
		})
		require.NoError(t, err)
		running, err := ledger.Reserve(ctx, org, cent)
		require.NoError(t, err)
		_, err = ledger.Record(ctx, tenant.ID("globex"), tenant.Actual{Cost: tenant.USD("1")})
		require.NoError(t, err)
		_, err = ledger.Record(ctx, nil, tenant.Actual{Cost: tenant.USD("2")})
		require.NoError(t, err)

		var found []tenant.Execution
		all := tenant.Executions(t.Context(), db, org)
		require.NoError(t, all.Order("admitted_at").Find(&found).Error)
		require.Len(t, found, 2)
		e := found[0]
		require.WithinDuration(t, time.Now(), e.AdmittedAt, time.Minute)
		require.WithinDuration(t, time.Now(), *e.FinishedAt, time.Minute)
		require.WithinDuration(t, time.Now(), *e.SettledAt, time.Minute)
		require.WithinDuration(t, hold.Deadline, e.DeadlineAt, time.Millisecond)
		reported := int64(31e6)
		require.Equal(t, tenant.Execution{
			ID: hold.ExecutionID, TenantID: "acme", Status: "failed", Agent: "support", Provider: "p", Model: "asked", BilledModel: "billed",
			RequestID: "r", IdempotencyKey: "k", Tags: map[string]string{"ticket": "42"}, Actor: "user-7",
			AdmittedAt: e.AdmittedAt, DeadlineAt: e.DeadlineAt, FinishedAt: e.FinishedAt, SettledAt: e.SettledAt,
			HeldCostNano: 1e7, HeldChargeNano: 1e7, HeldTokens: 100, CostNano: 3e7, ChargeNano: 3e7, Tokens: 67, Calls: 1, ReportedCostNano: &reported, OverrunCostNano: 2e7, OverrunChargeNano: 2e7, LatencyMicros: e.LatencyMicros,
			Estimated: true, ErrorCode: "http_500", Usage: usage,
		}, e)
		require.Equal(t, []string{"0.03", "0.01", "0.02"}, []string{e.Cost().String(), e.HeldCost().String(), e.OverrunCost().String()})
		took, ok := e.Latency()
		require.True(t, ok)
		require.Positive(t, took)
		cost, ok := e.ReportedCost()
		require.True(t, ok)
		require.Equal(t, "0.031", cost.String())

		e = found[1]
		require.Equal(t, tenant.Execution{
			ID: running.ExecutionID, TenantID: "acme", Status: "running", Actor: "user-7", AdmittedAt: e.AdmittedAt, DeadlineAt: e.DeadlineAt,
			HeldCostNano: 1e7, HeldChargeNano: 1e7,
		}, e)
		_, ok = e.ReportedCost()
		require.False(t, ok)

		// The handle is one to go on from, more than once.
		var n int64
		require.NoError(t, all.Where("status = ?", "running").Count(&n).Error)
		require.EqualValues(t, 1, n)
		require.NoError(t, all.Count(&n).Error)
		require.EqualValues(t, 2, n)
		var sum int64
		require.NoError(t, all.Select("sum(cost)").Scan(&sum).Error)
		require.EqualValues(t, 30_000_000, sum)
		var one tenant.Execution
		require.NoError(t, all.Where("reasoning_tokens > 5").First(&one, "id = ?", hold.ExecutionID).Error)

		for who, want := range map[tenant.Tenant]string{tenant.ID("globex"): "globex", nil: "", tenant.ID("acme"): "acme"} {
			var one tenant.Execution
			require.NoError(t, tenant.Executions(t.Context(), db, who).Order("id").First(&one).Error)
			require.Equal(t, want, one.TenantID)
		}
		require.ErrorIs(t, tenant.Executions(t.Context(), db, tenant.ID("nobody")).First(&one).Error, gorm.ErrRecordNotFound)
		require.NoError(t, tenant.Executions(t.Context(), db.Where("status = ?", "running"), org).Count(&n).Error)
		require.EqualValues(t, 1, n, "conditions of the handle hold too")

		_, err = ledger.Release(t.Context(), running)
		require.NoError(t, err)
	})
}

func TestExecutions_AreFoundByTheRecordAlsoWhenItsKeyHasChanged(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme", dollar)
		_, err := ledger.Record(t.Context(), org, tenant.Actual{Cost: tenant.USD("0.25")})
		require.NoError(t, err)
		require.NoError(t, db.Exec(`UPDATE organizations SET slug = 'acme-2'`).Error)
		require.NoError(t, db.First(org, org.ID).Error)
		var n int64
		require.NoError(t, tenant.Executions(t.Context(), db, org).Count(&n).Error)
		require.EqualValues(t, 1, n)
		require.EqualValues(t, 250_000_000, ask(t, db, org, tenant.Today).cost)
		require.NoError(t, tenant.Executions(t.Context(), db, &Organization{ID: 99, Slug: "acme"}).Count(&n).Error)
		require.Zero(t, n, "a record never sees another's")
	})
}

func TestExecution_HasAFieldForEveryColumnThatAHostCanUse(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, _ *tenant.Ledger) {
		columns, err := db.Migrator().ColumnTypes(&tenant.Execution{})
		require.NoError(t, err)
		statement := &gorm.Statement{DB: db.Session(&gorm.Session{})}
		statement.NamingStrategy = schema.NamingStrategy{TablePrefix: "host_"}
		require.NoError(t, statement.Parse(&tenant.Execution{}))
		require.Equal(t, "llm_executions", statement.Schema.Table)
		have := slices.Clone(statement.Schema.DBNames)
		have = append(have, "tenant", "parents", "process") // the ledger's own
		for _, c := range columns {
			require.Contains(t, have, c.Name())
		}
		require.Len(t, have, len(columns))
		for _, f := range statement.Schema.Fields {
			_, ok := f.TagSettings["COLUMN"]
			require.True(t, ok, "%s leaves its column to the host's naming strategy", f.Name)
		}
	})
}

func TestExecution_CannotBeMistakenForDollarsInJSON(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(tenant.Execution{CostNano: 5})
	require.NoError(t, err)
	require.Contains(t, string(b), `"CostNano":5`)
	_, has := reflect.TypeFor[tenant.Execution]().FieldByName("Cost")
	require.False(t, has)
}
