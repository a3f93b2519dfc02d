package tenant_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

func TestContext_CarriesTheInnermostTenant(t *testing.T) {
	t.Parallel()
	_, ok := tenant.TenantFromContext(context.Background())
	require.False(t, ok)
	outer := tenant.ContextWithTenant(context.Background(), tenant.ID("outer"))
	inner := tenant.ContextWithTenant(outer, tenant.ID("inner"))
	for ctx, want := range map[context.Context]tenant.Tenant{outer: tenant.ID("outer"), inner: tenant.ID("inner")} {
		got, ok := tenant.TenantFromContext(ctx)
		require.True(t, ok)
		require.Equal(t, want, got)
	}
	got, ok := tenant.TenantFromContext(tenant.ContextWithTenant(inner, nil))
	require.False(t, ok, "nil takes the outer one away")
	require.Nil(t, got)
}

func TestActor_IsKeptWithTheExecution(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		ctx := tenant.ContextWithActor(t.Context(), "user-17")
		hold, err := ledger.Reserve(ctx, tenant.ID("acme"), cent, tenant.WithTag("ticket", "4711"))
		require.NoError(t, err)
		_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.01")})
		require.NoError(t, err)
		var executions []tenant.Execution
		require.NoError(t, tenant.Executions(ctx, db, tenant.ID("acme")).Find(&executions).Error)
		require.Len(t, executions, 1)
		require.Equal(t, "user-17", executions[0].Actor)

		_, err = ledger.Reserve(tenant.ContextWithActor(ctx, strings.Repeat("x", 256)), tenant.ID("acme"), cent)
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		require.ErrorContains(t, err, "ContextWithActor")
	})
}

func TestAmounts_SayWhatIsWrongWithThemWhereTheyAreUsed(t *testing.T) {
	t.Parallel()
	require.Equal(t, "none", tenant.Money{}.String())
	require.Equal(t, "$0.00", tenant.USD("0").String())
	require.Equal(t, "$1.25", tenant.USD("1.25").String())
	require.Equal(t, "$0.0000004", tenant.USDFrom(tenant.USD("0.0000004").Decimal()).String())
	require.Contains(t, tenant.USD("1,25").String(), "1,25")
	require.False(t, tenant.Quantity{}.IsSet())
	require.True(t, tenant.Count(0).IsSet())
	db := openDatabase(t, "sqlite")
	ledger := openLedger(t, db)
	for _, e := range []tenant.Estimate{
		{Cost: tenant.USD("-1")}, {Cost: tenant.USD("1000001")}, {InputTokens: -1}, {InputTokens: 5, InputMediaTokens: 6}, {InputMediaTokens: -1}, {OutputTokens: 1<<40 + 1},
		{OutputTokens: 5, LeastOutputTokens: 6}, {Cost: tenant.USD("0.0000000001")},
	} {
		_, err := ledger.Reserve(t.Context(), tenant.ID("acme"), e)
		require.ErrorIs(t, err, tenant.ErrInvalidOption, "%+v", e)
		require.ErrorContains(t, err, "Estimate")
	}
	hold, err := ledger.Reserve(t.Context(), tenant.ID("acme"), cent)
	require.NoError(t, err)
	for _, a := range []tenant.Actual{
		{Cost: tenant.USD("x")}, {ReportedCost: tenant.USD("x")}, {ErrorCode: "the key sk-123 is wrong"}, {ErrorCode: strings.Repeat("x", 65)},
	} {
		_, err := ledger.Settle(t.Context(), hold, a)
		require.ErrorIs(t, err, tenant.ErrInvalidOption, "%+v", a)
		require.ErrorContains(t, err, "Actual")
	}
	_, err = ledger.Release(t.Context(), hold)
	require.NoError(t, err, "what was refused has settled nothing")
	_, err = ledger.Settle(t.Context(), hold, tenant.Actual{})
	require.ErrorIs(t, err, tenant.ErrReleased)
}

func TestUsageThatCannotBeTrue_IsChargedTheHold(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		for i, usage := range []tenant.Usage{{Input: -1}, {Output: 1<<40 + 1}, {WebSearches: -5}} {
			hold, err := ledger.Reserve(t.Context(), tenant.ID("acme"), cent)
			require.NoError(t, err)
			s, err := ledger.Settle(t.Context(), hold, tenant.Actual{Usage: usage})
			require.NoError(t, err)
			require.True(t, s.Estimated)
			require.Equal(t, "0.01", s.Cost.String())
			require.EqualValues(t, i+1, balanceOf(t, db, "acme", "day").SpentCalls)
			_, err = ledger.Record(t.Context(), tenant.ID("acme"), tenant.Actual{Usage: usage})
			require.ErrorIs(t, err, tenant.ErrInvalidOption)
		}
		require.Equal(t, balance{SpentCost: 3e7, SpentCalls: 3}, balanceOf(t, db, "acme", "day"))
		requireConservation(t, db)
	})
}

func TestTenant_OfWhatIsNoneIsReportedAtUse(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		newOrganization(t, db, ledger, "acme", dollar)
		for name, c := range map[string]struct {
			who  tenant.Tenant
			says string
		}{
			"a nil pointer":       {(*Organization)(nil), "nil *tenant_test.Organization"},
			"not saved yet":       {&Organization{Slug: "x"}, "not saved yet"},
			"not declared":        {ledger.Tenant(&Team{}), "was not declared"},
			"a nil record":        {ledger.Tenant(nil), "nil"},
			"a nil record's type": {ledger.Tenant((*Organization)(nil)), "nil"},
			"not in the database": {&Organization{ID: 12345, Slug: "ghost"}, "no record organizations 12345"},
			"an empty id":         {tenant.ID(""), "empty"},
		} {
			_, err := ledger.Reserve(t.Context(), c.who, cent)
			require.ErrorIs(t, err, tenant.ErrInvalidTenant, name)
			require.ErrorContains(t, err, c.says, name)
		}
		hold, err := ledger.Reserve(t.Context(), nil, cent)
		require.NoError(t, err, "no tenant is no error")
		_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.01")})
		require.NoError(t, err)
		require.Empty(t, hold.TenantID)
		requireConservation(t, db)
	})
}
