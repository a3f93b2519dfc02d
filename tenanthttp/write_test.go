package tenanthttp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
)

// An error of the library's becomes what a front end can show, and says nothing that is not the caller's business.
func TestWriteRefusal_SaysWhatAFrontEndCanShow(t *testing.T) {
	t.Parallel()
	amount := decimal.RequireFromString
	exceeded := func(whose string, contended bool, resets time.Time) error {
		return &tenant.BudgetExceededError{
			TenantID: "acme", Contended: contended, ResetsAt: resets, Requested: amount("0.25"),
			Limit: tenant.LimitStatus{TenantID: whose, Metric: tenant.CostMetric, Window: tenant.Day, Limit: amount("7.5"), Spent: amount("7.4"), Held: amount("0.05")},
		}
	}
	soon := time.Now().Add(90 * time.Minute)
	figures := `"limit":{"metric":"cost","window":"day","limit":"7.5","spent":"7.4","held":"0.05","requested":"0.25"}`
	for _, c := range []struct {
		name   string
		err    error
		status int
		retry  [2]int // at least and at most, in seconds; zero for none
		code   string
		has    string
	}{
		{"a limit", exceeded("acme", false, soon), 402, [2]int{5390, 5400}, "budget_exceeded", figures},
		{"a limit whose window is over", exceeded("acme", false, time.Now().Add(-time.Hour)), 402, [2]int{1, 1}, "budget_exceeded", figures},
		{"a limit for ever", exceeded("acme", false, time.Time{}), 402, [2]int{}, "budget_exceeded", figures},
		{"a limit above", exceeded("holding", false, soon), 402, [2]int{5390, 5400}, "budget_exceeded", `"resets_at":`},
		{"running calls", exceeded("acme", true, soon), 429, [2]int{1, 5}, "budget_contended", figures},
		{"wrapped", fmt.Errorf("chat: %w", exceeded("acme", false, time.Time{})), 402, [2]int{}, "budget_exceeded", figures},
		{"a suspended tenant", fmt.Errorf("%w: %q", tenant.ErrTenantSuspended, "secret"), 403, [2]int{}, "tenant_suspended", ""},
		{"a second time", &tenant.DuplicateError{IdempotencyKey: "secret"}, 409, [2]int{}, "duplicate_call", ""},
		{"no price", &tenant.NoPriceError{TenantID: "secret", Model: "secret"}, 500, [2]int{}, "host_error", ""},
		{"no tenant", tenant.ErrTenantRequired, 500, [2]int{}, "host_error", ""},
		{"a record that was not saved", fmt.Errorf("%w: secret", tenant.ErrInvalidTenant), 500, [2]int{}, "host_error", ""},
		{"an option", fmt.Errorf("%w: secret", tenant.ErrInvalidOption), 500, [2]int{}, "host_error", ""},
		{"no tables", tenant.ErrNotMigrated, 500, [2]int{}, "host_error", ""},
		{"not metered", tenanthttp.ErrUnmetered, 500, [2]int{}, "host_error", ""},
		{"no database", fmt.Errorf("%w: dial secret", tenant.ErrUnavailable), 503, [2]int{1, 5}, "unavailable", ""},
		{"a ledger that is closed", tenant.ErrClosed, 503, [2]int{1, 5}, "unavailable", ""},
		{"a provider that fails", &tenant.CallError{Err: errors.New("secret")}, 502, [2]int{}, "provider_error", ""},
		{"a provider that is slow", &tenant.CallError{Err: fmt.Errorf("secret: %w", context.DeadlineExceeded)}, 504, [2]int{}, "timeout", ""},
	} {
		rec := httptest.NewRecorder()
		require.True(t, tenanthttp.WriteRefusal(rec, c.err), c.name)
		require.Equal(t, c.status, rec.Code, c.name)
		require.Equal(t, "application/json", rec.Header().Get("Content-Type"), c.name)
		if c.retry == [2]int{} {
			require.Empty(t, rec.Header().Get("Retry-After"), c.name)
		} else {
			seconds, err := strconv.Atoi(rec.Header().Get("Retry-After"))
			require.NoError(t, err, c.name)
			require.GreaterOrEqual(t, seconds, c.retry[0], c.name)
			require.LessOrEqual(t, seconds, c.retry[1], c.name)
		}
		var body struct {
			Error struct {
				Code, Message string
				ResetsAt      *time.Time `json:"resets_at"`
			}
		}
		require.NoError(t, json.Unmarshal(rec.Body.Bytes(), &body), c.name)
		require.Equal(t, c.code, body.Error.Code, c.name)
		require.NotEmpty(t, body.Error.Message, c.name)
		require.Contains(t, rec.Body.String(), c.has, c.name)
		require.NotContains(t, rec.Body.String(), "secret", c.name)
		require.NotContains(t, rec.Body.String(), "holding", c.name)
	}
	rec := httptest.NewRecorder()
	require.True(t, tenanthttp.WriteRefusal(rec, exceeded("holding", false, soon)))
	body, _, _ := strings.Cut(rec.Body.String(), "resets_at") // in which any figure can be
	require.NotContains(t, body, "7.5", "figures of a tenant above are not the caller's business")
}

func TestWriteRefusal_WritesNothingOfOtherErrors(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, errors.New("402"), context.Canceled, errors.New("tenant-refusal-AAAAAAAAAAAAAAAAAAAAAAAAAA")} {
		rec := httptest.NewRecorder()
		require.False(t, tenanthttp.WriteRefusal(rec, err))
		require.Zero(t, rec.Body.Len())
		require.Empty(t, rec.Header())
	}
}

// What an SDK has made of a refusal is as good as the refusal.
func TestWriteRefusal_TakesWhatAnSDKHasMadeOfIt(t *testing.T) {
	t.Parallel()
	b := newBench(t, nothingLeft, func(http.ResponseWriter, *http.Request) { t.Error("the call was made") })
	_, body := b.post(chat, ask)
	rec := httptest.NewRecorder()
	require.True(t, tenanthttp.WriteRefusal(rec, fmt.Errorf("POST: 402 %s", body)))
	require.Equal(t, http.StatusPaymentRequired, rec.Code)
	require.NotEmpty(t, rec.Header().Get("Retry-After"))
	require.Contains(t, rec.Body.String(), `"limit":{"metric":"cost","window":"day","limit":"0"`)
}

func TestLastCall_HasWhatTheBooksHave(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, replies("application/json", answer))
	outer := tenanthttp.ContextWithCall(b.ctx, tenant.WithAgent("support"))
	inner := tenanthttp.ContextWithCall(outer, tenant.WithTag("plan", "pro"))
	_, ok := tenanthttp.LastCall(outer)
	require.False(t, ok)
	b.do(b.request(inner, http.MethodPost, chat, ask))
	for _, ctx := range []context.Context{inner, outer, context.WithValue(outer, statusError{}, 1)} {
		last, ok := tenanthttp.LastCall(ctx)
		require.True(t, ok)
		e := b.execution()
		require.Equal(t, []any{e.ID, "acme", "support", "test-model", "test-model", "succeeded", "0.002", e.Usage, map[string]string{"plan": "pro"}, "chatcmpl-1", false},
			[]any{last.ExecutionID, last.TenantID, last.Agent, last.Model, last.BilledModel, last.Status, last.Cost.String(), last.Usage, last.Tags, last.RequestID, last.Pending})
		require.Positive(t, last.Duration)
	}
	for _, ctx := range []context.Context{t.Context(), b.ctx, tenanthttp.ContextWithCall(outer)} {
		_, ok := tenanthttp.LastCall(ctx)
		require.False(t, ok, "no call was made under it")
	}
}

// A stream is settled when its end was read, and a refused call is none.
func TestLastCall_IsTheLastThatWasSettled(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, replies("text/event-stream", events(chunk, lastChunk, usageChunk, "[DONE]")))
	ctx := tenanthttp.ContextWithCall(b.ctx)
	resp, err := b.client.Do(b.request(ctx, http.MethodPost, chat, askStream))
	require.NoError(t, err)
	_, ok := tenanthttp.LastCall(ctx)
	require.False(t, ok)
	require.NoError(t, resp.Body.Close())
	last, ok := tenanthttp.LastCall(ctx)
	require.True(t, ok)
	require.Equal(t, []any{"failed", "closed", true}, []any{last.Status, last.ErrorCode, last.Estimated})

	b.exceed(ctx)
	again, _ := tenanthttp.LastCall(ctx)
	require.Equal(t, last, again)

	agent, err := tenant.NewAgent(b.ledger, model{}, tenant.WithAgent("by an agent"))
	require.NoError(t, err)
	b.allow()
	_, err = agent.Call(ctx, "Hello")
	require.NoError(t, err)
	last, _ = tenanthttp.LastCall(ctx)
	require.Equal(t, "by an agent", last.Agent)
}

// A call whose booking takes its time is there at once, and says so.
func TestLastCall_IsPendingUntilItIsBooked(t *testing.T) {
	t.Parallel()
	ctx := tenanthttp.ContextWithCall(t.Context())
	scope := tenanthttp.Scope(ctx)
	pending := &tenant.SettledEvent{ExecutionID: "1", Pending: true}
	for _, c := range []struct {
		event *tenant.SettledEvent
		want  tenant.SettledEvent
	}{
		{pending, *pending},
		{&tenant.SettledEvent{ExecutionID: "1"}, tenant.SettledEvent{ExecutionID: "1"}},
		{pending, tenant.SettledEvent{ExecutionID: "1"}}, // which has overtaken it
		{&tenant.SettledEvent{ExecutionID: "2", Pending: true}, tenant.SettledEvent{ExecutionID: "2", Pending: true}},
	} {
		scope.Settled(c.event)
		last, ok := tenanthttp.LastCall(ctx)
		require.True(t, ok)
		require.Equal(t, c.want, last)
	}
}

type model struct{}

func (model) Info() tenant.ModelInfo { return tenant.ModelInfo{Provider: "test", Name: "test-model"} }

func (model) Generate(context.Context, *tenant.Request) (*tenant.Response, error) {
	return &tenant.Response{Text: "Hi", Usage: &tenant.Usage{Input: 1}}, nil
}

// What is wrong with the program has a type of its own in every provider's errors, is logged, and is an event.
func TestRefusal_ForAnErrorOfTheProgramHasATypeOfItsOwn(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{options: []tenanthttp.Option{tenanthttp.RequireTenant()}}, func(http.ResponseWriter, *http.Request) { t.Error("the call was made") })
	ctx := tenanthttp.ContextWithCall(t.Context(), tenant.WithAgent("forgetful"))
	for i, c := range []struct{ path, body, has, header string }{
		{chat, ask, `"type":"host_error"`, ""},
		{messages, ask, `"type":"host_error"`, ""},
		{"/v1beta/models/test-model:generateContent", `{"contents":[]}`, `"status":"HOST_ERROR"`, ""},
		{"/model/test-model/invoke", `{}`, `"message"`, "HostErrorException"},
		{"/api/generate", `{"model":"test-model","prompt":"Hello"}`, `"type":"host_error"`, ""},
		{"/v2/chat", `{"model":"test-model","messages":[]}`, `"type":"host_error"`, ""},
	} {
		resp, body := b.do(b.request(ctx, http.MethodPost, c.path, c.body))
		require.Equal(t, http.StatusPaymentRequired, resp.StatusCode)
		require.Contains(t, body, c.has)
		require.NotContains(t, body, "insufficient_quota")
		require.NotContains(t, body, "billing_error")
		require.Equal(t, c.header, resp.Header.Get("X-Amzn-Errortype"))
		heard := b.witness.hostErrors()
		require.Len(t, heard, i+1)
		require.Equal(t, tenant.HostErrorEvent{Agent: "forgetful", Model: "test-model", Err: tenant.ErrTenantRequired}, heard[i])
	}
	_, body := b.do(b.request(tenant.ContextWithTenant(ctx, tenant.ID("")), http.MethodPost, chat, ask))
	require.Contains(t, body, `"type":"host_error"`)
	require.Contains(t, body, `"code":"invalid_tenant"`)
	require.Len(t, b.witness.hostErrors(), 7, "the ledger has told of it, once")
}
