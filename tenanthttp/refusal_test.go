package tenanthttp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
)

var nothingLeft = setting{limits: tenant.Limits{DailyCost: tenant.USD("0")}}

// A refusal is what the provider's own SDK reads as an error that is not worth another try.
func TestRefusal_HasTheFormOfTheProvidersErrors(t *testing.T) {
	t.Parallel()
	b := newBench(t, nothingLeft, func(http.ResponseWriter, *http.Request) { t.Error("the call was made") })
	for _, c := range []struct {
		name, path, body string
		message          func(t *testing.T, header http.Header, body string) string
	}{
		{"OpenAI", chat, ask, func(t *testing.T, _ http.Header, body string) string {
			var v struct {
				Error struct{ Message, Type, Code string }
			}
			require.NoError(t, json.Unmarshal([]byte(body), &v))
			require.Equal(t, "insufficient_quota", v.Error.Type)
			require.Equal(t, "budget_exceeded", v.Error.Code)
			return v.Error.Message
		}},
		{"Anthropic", messages, ask, func(t *testing.T, header http.Header, body string) string {
			var v struct {
				Type      string
				Error     struct{ Type, Message string }
				RequestID string `json:"request_id"`
			}
			require.NoError(t, json.Unmarshal([]byte(body), &v))
			require.Equal(t, "error", v.Type)
			require.Equal(t, "billing_error", v.Error.Type)
			require.Equal(t, header.Get("Request-Id"), v.RequestID)
			return v.Error.Message
		}},
		{"Gemini", "/v1beta/models/test-model:generateContent", `{"contents":[]}`, func(t *testing.T, _ http.Header, body string) string {
			var v struct {
				Error struct {
					Code            int
					Message, Status string
					Details         []struct{ Reason string }
				}
			}
			require.NoError(t, json.Unmarshal([]byte(body), &v))
			require.Equal(t, http.StatusPaymentRequired, v.Error.Code)
			require.Equal(t, "FAILED_PRECONDITION", v.Error.Status)
			require.Equal(t, "BUDGET_EXCEEDED", v.Error.Details[0].Reason)
			return v.Error.Message
		}},
		{"Bedrock", "/model/test-model/invoke", `{}`, func(t *testing.T, header http.Header, body string) string {
			var v struct{ Message string }
			require.NoError(t, json.Unmarshal([]byte(body), &v))
			require.Equal(t, "BudgetExceededException", header.Get("X-Amzn-Errortype"))
			return v.Message
		}},
		{"Ollama", "/api/generate", `{"model":"test-model","prompt":"Hello"}`, func(t *testing.T, _ http.Header, body string) string {
			var v struct{ Error string }
			require.NoError(t, json.Unmarshal([]byte(body), &v))
			return v.Error
		}},
		{"Cohere", "/v2/chat", `{"model":"test-model","messages":[]}`, func(t *testing.T, header http.Header, body string) string {
			var v struct{ ID, Message string }
			require.NoError(t, json.Unmarshal([]byte(body), &v))
			require.Equal(t, header.Get("X-Request-Id"), v.ID)
			return v.Message
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := b.request(b.ctx, http.MethodPost, c.path, c.body)
			resp, err := b.client.Do(r)
			require.NoError(t, err)
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, http.StatusPaymentRequired, resp.StatusCode)
			require.Equal(t, "false", resp.Header.Get("X-Should-Retry"))
			require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
			require.EqualValues(t, len(body), resp.ContentLength)
			message := c.message(t, resp.Header, string(body))

			exceeded, ok := tenanthttp.AsBudgetError(t.Context(), errors.New("sdk: "+message))
			require.True(t, ok)
			require.Equal(t, "acme", exceeded.TenantID)
			require.Equal(t, tenant.CostMetric, exceeded.Limit.Metric)
			require.Equal(t, tenant.Day, exceeded.Limit.Window)
			require.Contains(t, message, exceeded.Error())
		})
	}
}

func TestRefusal_EveryReasonIsFoundAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, code, body string
		setting          setting
		ctx              func(b *bench) *http.Request
		is               error
	}{
		{name: "no price", code: "no_price", body: `{"model":"unheard-of","messages":[]}`, setting: setting{limits: tenant.Limits{DailyCost: tenant.USD("1")}}, is: tenant.ErrNoPrice},
		{name: "no tenant", code: "tenant_required", setting: setting{options: []tenanthttp.Option{tenanthttp.RequireTenant()}}, ctx: func(b *bench) *http.Request {
			return b.request(t.Context(), http.MethodPost, chat, ask)
		}, is: tenant.ErrTenantRequired},
		{name: "an impossible tenant", code: "invalid_tenant", ctx: func(b *bench) *http.Request {
			return b.request(tenant.ContextWithTenant(b.ctx, tenant.ID("")), http.MethodPost, chat, ask)
		}, is: tenant.ErrInvalidTenant},
		{name: "a nil option", code: "invalid_option", ctx: func(b *bench) *http.Request {
			return b.request(tenanthttp.ContextWithCall(b.ctx, nil), http.MethodPost, chat, ask)
		}, is: tenant.ErrInvalidOption},
		{name: "not metered", code: "unmetered", setting: setting{options: []tenanthttp.Option{tenanthttp.RefuseUnmetered()}}, ctx: func(b *bench) *http.Request {
			return b.request(b.ctx, http.MethodPost, "/v1/videos", `{}`)
		}, is: tenanthttp.ErrUnmetered},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, c.setting, func(http.ResponseWriter, *http.Request) { t.Error("the call was made") })
			r := b.request(b.ctx, http.MethodPost, chat, c.body)
			if c.ctx != nil {
				r = c.ctx(b)
			}
			resp, body := b.do(r)
			require.Equal(t, http.StatusPaymentRequired, resp.StatusCode)
			require.Contains(t, body, `"code":"`+c.code+`"`)
			refused, ok := tenanthttp.AsRefusal(t.Context(), errors.New(body))
			require.True(t, ok)
			require.ErrorIs(t, refused, c.is)
			_, ok = tenanthttp.AsBudgetError(t.Context(), errors.New(body))
			require.False(t, ok, "it is no budget's")
		})
	}
}

func TestAsRefusal_KnowsWhatIsNone(t *testing.T) {
	t.Parallel()
	ctx := tenanthttp.ContextWithCall(t.Context())
	for _, err := range []error{
		nil, errors.New("boom"), errors.New("402 Payment Required"), errors.New("tenant-refusal-"),
		errors.New("tenant-refusal-AAAAAAAAAAAAAAAAAAAAAAAAAA"),
	} {
		_, ok := tenanthttp.AsRefusal(ctx, err)
		require.False(t, ok, "%v", err)
	}
	want := &tenant.BudgetExceededError{TenantID: "acme"}
	got, ok := tenanthttp.AsBudgetError(ctx, fmt.Errorf("sdk: %w", want))
	require.True(t, ok)
	require.Same(t, want, got)
}

// Some SDKs keep the status and nothing of the body.
func TestAsRefusal_FindsTheLastOneUnderTheContext(t *testing.T) {
	t.Parallel()
	b := newBench(t, nothingLeft, func(http.ResponseWriter, *http.Request) { t.Error("the call was made") })
	outer := tenanthttp.ContextWithCall(b.ctx)
	b.do(b.request(tenanthttp.ContextWithCall(outer, tenant.WithAgent("a")), http.MethodPost, chat, ask))
	_, ok := tenanthttp.AsBudgetError(outer, errors.New("status code: 402"))
	require.True(t, ok)
	_, ok = tenanthttp.AsBudgetError(outer, errors.New("status code: 500"))
	require.False(t, ok)
	_, ok = tenanthttp.AsBudgetError(b.ctx, errors.New("status code: 402"))
	require.False(t, ok)
}

// What is no refusal may be over at the next try, and so an SDK is not kept from it.
func TestRefusal_IsNotWhatFailsBeforeTheDecision(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, func(http.ResponseWriter, *http.Request) { t.Error("the call was made") })
	ctx, cancel := context.WithCancel(b.ctx)
	cancel()
	_, err := b.transport.RoundTrip(b.request(ctx, http.MethodPost, chat, ask)) //nolint:bodyclose // there is none
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, b.ledger.Close(t.Context()))
	_, err = b.transport.RoundTrip(b.request(b.ctx, http.MethodPost, chat, ask)) //nolint:bodyclose // there is none
	require.ErrorIs(t, err, tenant.ErrClosed)
	_, ok := tenanthttp.AsRefusal(b.ctx, err)
	require.False(t, ok)
}

func TestMiddleware_PutsTheTenantIntoTheContext(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, replies("application/json", answer))
	of := func(r *http.Request) (tenant.Tenant, error) {
		if key := r.Header.Get("X-Key"); key != "" {
			return tenant.ID(key), nil
		}
		return nil, errors.New("secret")
	}
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b.do(b.request(r.Context(), http.MethodPost, chat, ask))
	})
	for _, c := range []struct {
		of     func(*http.Request) (tenant.Tenant, error)
		key    string
		status int
	}{{of, "acme", 200}, {of, "", 403}, {nil, "acme", 500}} {
		rec := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.Header.Set("X-Key", c.key)
		tenanthttp.Middleware(c.of)(handler).ServeHTTP(rec, r)
		require.Equal(t, c.status, rec.Code)
		require.NotContains(t, rec.Body.String(), "secret")
	}
	require.Equal(t, "acme", b.execution().TenantID)
}

type sdkError struct {
	Response *http.Response
	Message  string
	cause    error
}

func (*sdkError) Error() string { return "something went wrong" }
func (e *sdkError) Unwrap() error {
	if e == nil {
		return nil
	}
	return e.cause
}

// Some SDKs keep what the provider has written out of their error's text.
func TestAsRefusal_LooksIntoTheSDKsError(t *testing.T) {
	t.Parallel()
	b := newBench(t, nothingLeft, func(http.ResponseWriter, *http.Request) { t.Error("the call was made") })
	resp, err := b.client.Do(b.request(b.ctx, http.MethodPost, chat, ask))
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	for _, err := range []error{
		&sdkError{Response: resp},
		&sdkError{Message: string(body)},
		&sdkError{cause: errors.Join(errors.New("x"), &sdkError{cause: errors.New(string(body))})},
	} {
		exceeded, ok := tenanthttp.AsBudgetError(t.Context(), err)
		require.True(t, ok)
		require.Equal(t, "acme", exceeded.TenantID)
	}
	for _, err := range []error{&sdkError{}, (*sdkError)(nil)} {
		_, ok := tenanthttp.AsBudgetError(t.Context(), err)
		require.False(t, ok)
	}
}
