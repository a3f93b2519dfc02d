package tenant_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/report"
	"github.com/llmtenant/tenant/tenanttest"
)

// What an observer is told of a call is what a query would say of it.
func TestSettledEvent_SaysWhatTheBooksSay(t *testing.T) {
	t.Parallel()
	eachWatched(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, w *witness) {
		options := []tenant.ReserveOption{tenant.WithAgent("support"), tenant.WithTag("plan", "pro"), tenant.WithIdempotencyKey("k-1")}
		hold, err := ledger.Reserve(t.Context(), acme, tenant.Estimate{Provider: "openai", Model: "m", Cost: tenant.USD("0.5"), InputTokens: 70, OutputTokens: 7}, options...)
		require.NoError(t, err)
		require.Empty(t, of[*tenant.SettledEvent](w))
		actual := tenant.Actual{
			Model: "m-2026", Usage: tenant.Usage{Input: 11, CacheRead: 5, Output: 3}, Cost: tenant.USD("0.123456789"), ServiceTier: "flex",
			RequestID: "req-9", ErrorCode: "closed", Estimated: true,
		}
		for range 2 { // the second time it is nothing new
			_, err = ledger.Settle(t.Context(), hold, actual)
			require.NoError(t, err)
		}
		_, err = ledger.Record(t.Context(), nil, tenant.Actual{Provider: "nobody", Model: "x", Usage: tenant.Usage{Input: 4}})
		require.NoError(t, err)

		events := of[*tenant.SettledEvent](w)
		require.Len(t, events, 2)
		e := *events[0]
		require.Positive(t, e.Duration)
		e.Duration = 0
		require.Equal(t, "0.123456789", e.Cost.String())
		require.Equal(t, "0.5", e.HeldCost.String())
		require.Equal(t, []string{"0.123456789", "0.5"}, []string{e.Charge.String(), e.HeldCharge.String()})
		require.Equal(t, tenant.SettledEvent{
			TenantID: "acme", ExecutionID: hold.ExecutionID, RequestID: "req-9", IdempotencyKey: "k-1", Agent: "support", Provider: "openai",
			Model: "m", BilledModel: "m-2026", ServiceTier: "flex", Operation: "chat", Tags: map[string]string{"plan": "pro"}, Usage: actual.Usage,
			Cost: e.Cost, HeldCost: e.HeldCost, Charge: e.Charge, HeldCharge: e.HeldCharge, Tokens: 19, HeldTokens: 77, Status: "failed", ErrorCode: "closed", Estimated: true,
		}, e)
		require.Empty(t, events[1].TenantID)
		require.True(t, events[1].Unpriced)
		require.Equal(t, "succeeded", events[1].Status)

		var rows []tenant.Execution
		require.NoError(t, booked(db).Order("id").Find(&rows).Error)
		require.Len(t, rows, 2)
		for i, row := range rows {
			require.Equal(t, []any{row.ID, row.TenantID, row.Cost().String(), row.Tokens, row.Usage, row.Status, row.Unpriced},
				[]any{events[i].ExecutionID, events[i].TenantID, events[i].Cost.String(), events[i].Tokens, events[i].Usage, events[i].Status, events[i].Unpriced})
		}
	})
}

// A call that was not made is none, and a correction of the books is none either.
func TestSettledEvent_IsOfCallsAlone(t *testing.T) {
	t.Parallel()
	eachWatched(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, w *witness) {
		hold, err := ledger.Reserve(t.Context(), acme, cent)
		require.NoError(t, err)
		_, err = ledger.Release(t.Context(), hold)
		require.NoError(t, err)
		_, err = ledger.Credit(t.Context(), acme, tenant.USD("1"), "an outage")
		require.NoError(t, err)
		hold, err = ledger.Reserve(t.Context(), tenant.ID("broke"), tenant.Estimate{Provider: "nobody", Model: "x"})
		require.NoError(t, err)
		require.Empty(t, of[*tenant.SettledEvent](w))
		_, err = ledger.Settle(t.Context(), hold, tenant.Actual{})
		require.NoError(t, err)
		require.Len(t, of[*tenant.SettledEvent](w), 1)
	})
}

// Whoever adds up what the events say comes out at what the books say.
func TestSettledEvent_OfACallThatExpiredIsCorrectedByALaterOne(t *testing.T) {
	t.Parallel()
	eachWatched(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, w *witness) {
		hold, err := ledger.Reserve(t.Context(), acme, tenant.Estimate{Cost: tenant.USD("0.5"), InputTokens: 40})
		require.NoError(t, err)
		require.Eventually(t, func() bool { return len(of[*tenant.SettledEvent](w)) == 1 }, time.Minute, 10*time.Millisecond)
		_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.2"), Usage: tenant.Usage{Output: 9}})
		require.NoError(t, err)
		events := of[*tenant.SettledEvent](w)
		require.Len(t, events, 2)
		require.Equal(t, []any{"abandoned", "0.5", int64(40), true, false},
			[]any{events[0].Status, events[0].Cost.String(), events[0].Tokens, events[0].Estimated, events[0].Corrected})
		require.Equal(t, []any{"abandoned", "0.2", int64(9), false, true},
			[]any{events[1].Status, events[1].Cost.String(), events[1].Tokens, events[1].Estimated, events[1].Corrected})
		sum, tokens := events[0].Cost, events[0].Tokens
		sum, tokens = sum.Add(events[1].Cost).Sub(events[1].HeldCost), tokens+events[1].Tokens-events[1].HeldTokens
		spent, err := tenant.CostToday(t.Context(), db, acme)
		require.NoError(t, err)
		require.Equal(t, spent.String(), sum.String())
		require.EqualValues(t, 9, tokens)
	}, tenant.WithLease(400*time.Millisecond), tenant.WithMaxCallTime(100*time.Millisecond))
}

// A call that is pending is told of once, when it is on the books.
func TestSettledEvent_OfAPendingCallComesWhenItIsBooked(t *testing.T) {
	t.Parallel()
	w, db := &witness{}, openDatabase(t, "postgres")
	ledger := openLedger(t, db, tenant.WithObserver(w), tenant.WithSettleWait(20*time.Millisecond))
	hold, err := ledger.Reserve(t.Context(), acme, cent)
	require.NoError(t, err)
	tx := db.Begin()
	require.NoError(t, tx.Exec(`SELECT 1 FROM llm_balances b JOIN llm_tenants t ON t.id = b.tenant WHERE t.tenant_id = 'acme' FOR UPDATE OF b`).Error)
	require.NoError(t, tx.Exec(`SELECT 1 FROM llm_tenants WHERE tenant_id = 'acme' FOR UPDATE`).Error)
	s, err := ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.01")})
	require.NoError(t, err)
	require.Equal(t, tenant.Pending, s.Outcome)
	require.Empty(t, of[*tenant.SettledEvent](w))
	require.NoError(t, tx.Rollback().Error)
	require.Eventually(t, func() bool { return len(of[*tenant.SettledEvent](w)) == 1 }, time.Minute, 10*time.Millisecond)
	require.False(t, of[*tenant.SettledEvent](w)[0].Pending)
}

// What is wrong with the program is told apart from what is up to a customer, and reaches the log whatever the observer.
func TestHostError_IsLoggedAndObserved(t *testing.T) {
	t.Parallel()
	out := &logged{}
	eachWatched(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, w *witness) {
		require.NoError(t, db.AutoMigrate(&Organization{}))
		require.NoError(t, ledger.Register(&Organization{}))
		agent, err := tenant.NewAgent(ledger, tenanttest.NewModel(), tenant.WithAgent("support"), tenant.RequireTenant())
		require.NoError(t, err)
		reserve := func(who tenant.Tenant, e tenant.Estimate, options ...tenant.ReserveOption) error {
			_, err := ledger.Reserve(t.Context(), who, e, options...)
			return err
		}
		call := func(ctx context.Context, options ...tenant.CallOption) error {
			_, err := agent.Call(ctx, "Hello", options...)
			return err
		}
		for i, c := range []struct {
			name string
			err  error
			is   error
			want tenant.HostErrorEvent
		}{
			{"no tenant", call(t.Context()), tenant.ErrTenantRequired, tenant.HostErrorEvent{Agent: "support", Provider: "test", Model: "test-model"}},
			{"an option", call(tenant.ContextWithTenant(t.Context(), acme), nil), tenant.ErrInvalidOption, tenant.HostErrorEvent{TenantID: "acme", Agent: "support", Provider: "test", Model: "test-model"}},
			{"an empty id", reserve(tenant.ID(""), cent), tenant.ErrInvalidTenant, tenant.HostErrorEvent{}},
			{"a record that was not saved", reserve(&Organization{Slug: "new"}, cent, tenant.WithAgent("a")), tenant.ErrInvalidTenant, tenant.HostErrorEvent{Agent: "a"}},
			{"a record that is not there", reserve(&Organization{ID: 99, Slug: "gone"}, cent), tenant.ErrInvalidTenant, tenant.HostErrorEvent{TenantID: "gone"}},
			{"an estimate", reserve(acme, tenant.Estimate{Model: "m", InputTokens: -1}), tenant.ErrInvalidOption, tenant.HostErrorEvent{TenantID: "acme", Model: "m"}},
		} {
			require.ErrorIs(t, c.err, c.is, c.name)
			events := of[*tenant.HostErrorEvent](w)
			require.Len(t, events, 6)
			c.want.Err = events[i].Err
			require.ErrorIs(t, c.want.Err, c.is, c.name)
			require.Equal(t, &c.want, events[i], c.name)
		}
		require.Empty(t, of[*tenant.RefusalEvent](w))
		require.ErrorIs(t, call(tenant.ContextWithTenant(t.Context(), acme), tenant.WithTenant(nil), tenant.WithIdempotencyKey("\x00")), tenant.ErrInvalidOption)

		ledger.ReportHostError(t.Context(), report.HostError{
			Tenant: acme, Provider: "p", Model: "m", Options: []tenant.ReserveOption{tenant.WithAgent("b")}, Err: errors.New("nothing to see"),
		})
		events := of[*tenant.HostErrorEvent](w)
		require.Equal(t, []string{"acme", "b", "p", "m"}, []string{events[7].TenantID, events[7].Agent, events[7].Provider, events[7].Model})
	}, tenant.WithLogger(slog.New(slog.NewTextHandler(out, nil))))
	t.Cleanup(func() { // in which require would end the test before it is reported
		if n := out.count("level=ERROR"); n != 4*len(everyDatabase) {
			t.Errorf("%d errors, and not each of four kinds once for each ledger: %s", n, out.text.String())
		}
	})
}

// What a customer can do something about is no error of the program.
func TestHostError_IsNoRefusal(t *testing.T) {
	t.Parallel()
	eachWatched(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, w *witness) {
		place(t, db, acme, "", "1")
		require.ErrorIs(t, call(t, ledger, acme, "2"), tenant.ErrBudgetExceeded)
		require.NoError(t, call(t, ledger, acme, "0.1", tenant.WithIdempotencyKey("k")))
		require.ErrorIs(t, call(t, ledger, acme, "0.1", tenant.WithIdempotencyKey("k")), tenant.ErrDuplicate)
		require.Empty(t, of[*tenant.HostErrorEvent](w))
	})
}
