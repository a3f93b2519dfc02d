package tenanthttp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
)

// exchanged sends a request of an exchange to a handler, through a watching client, reads the reply, and ends the exchange.
func exchanged(t *testing.T, streamed bool, handler http.HandlerFunc) (*tenanthttp.Exchange, *tenant.Response, error) {
	t.Helper()
	api := httptest.NewServer(handler)
	t.Cleanup(api.Close)
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	ctx, x := tenanthttp.ContextWithExchange(t.Context(), "")
	err := post(ctx, &http.Client{Transport: tenanthttp.Watch(base)}, api.URL+"/v1/chat/completions")
	response, err := x.End("test", streamed, err)
	return x, response, err
}

func post(ctx context.Context, client *http.Client, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"model":"test-model","messages":[]}`))
	if err != nil {
		return err
	}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err = io.Copy(io.Discard, answer.Body); err == nil && answer.StatusCode != http.StatusOK {
		err = errors.New("the SDK's error, which quotes sk-secret")
	}
	return err
}

func says(header map[string]string, status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for k, v := range header {
			w.Header().Set(k, v)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

const exchangedReply = `{"id":"c-1","model":"m-2","service_tier":"flex","choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],
	"usage":{"prompt_tokens":30,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":10}}}`

func TestExchange_SaysWhatTheReplyStates(t *testing.T) {
	t.Parallel()
	x, response, err := exchanged(t, false, says(nil, 200, exchangedReply))
	require.NoError(t, err)
	require.True(t, x.Sent())
	require.Equal(t, &tenant.Response{
		Model: "m-2", RequestID: "c-1", FinishReason: "stop", ServiceTier: "flex", Usage: &tenant.Usage{Input: 20, CacheRead: 10, Output: 4},
	}, response)
}

func TestExchange_OfAStreamThatIsCutSaysWhatCanBeTold(t *testing.T) {
	t.Parallel()
	const chunk = `data: {"id":"c-1","model":"m-2","choices":[{"index":0,"delta":{"content":"12345678"}}]}` + "\n\n"
	events := map[string]string{"Content-Type": "text/event-stream"}
	_, response, err := exchanged(t, true, says(events, 200, chunk+chunk))
	require.EqualError(t, err, "test: the answer broke off: unexpected EOF", "though no SDK would say so")
	require.NotErrorIs(t, err, tenant.ErrNotBilled)
	require.True(t, response.Estimated)
	require.Equal(t, &tenant.Usage{Output: 4}, response.Usage)

	_, response, err = exchanged(t, true, says(events, 200, `data: {"error":{"message":"sk-secret","code":"overloaded"}}`+"\n\n"))
	require.EqualError(t, err, "test: the answer is an error (overloaded)")
	require.ErrorIs(t, err, tenant.ErrNotBilled)
	require.Nil(t, response)

	_, response, err = exchanged(t, true, says(events, 200, ""))
	require.Error(t, err)
	require.NotErrorIs(t, err, tenant.ErrNotBilled)
	require.Nil(t, response)
}

func TestExchange_ErrorHasTheProvidersWordAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, body, code string
		header           map[string]string
		status           int
		notBilled        bool
		after            time.Duration
	}{
		{"OpenAI", `{"error":{"message":"sk-secret","type":"requests","code":"rate_limit_exceeded"}}`, "rate_limit_exceeded", map[string]string{"Retry-After-Ms": "1500"}, 429, true, 1500 * time.Millisecond},
		{"Anthropic", `{"type":"error","error":{"type":"overloaded_error","message":"sk-secret"}}`, "overloaded_error", map[string]string{"Retry-After": "3"}, 529, true, 3 * time.Second},
		{"Google", `{"error":{"code":503,"message":"sk-secret","status":"UNAVAILABLE"}}`, "UNAVAILABLE", nil, 503, true, 0},
		{"Google's streams", `[{"error":{"code":400,"message":"sk-secret","status":"INVALID_ARGUMENT"}}]`, "INVALID_ARGUMENT", nil, 400, true, 0},
		{"Bedrock", `{"message":"sk-secret"}`, "ThrottlingException", map[string]string{"X-Amzn-Errortype": "ThrottlingException"}, 429, true, 0},
		{"Ollama", `{"error":"model sk-secret not found"}`, "", nil, 404, true, 0},
		{"a proxy", `<html>`, "", nil, 504, false, 0},
		{"a proxy with the provider's word", `{"error":{"type":"api_error"}}`, "api_error", nil, 502, true, 0},
		{"waits that are none", `{}`, "", map[string]string{"Retry-After": "-1"}, 500, true, 0},
		{"a wait beyond measure", `{}`, "", map[string]string{"Retry-After": "99999999999999"}, 500, true, 24 * time.Hour},
		{"a wait until long ago", `{}`, "", map[string]string{"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 500, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, response, err := exchanged(t, false, says(c.header, c.status, c.body))
			require.Nil(t, response)
			var failed *tenanthttp.ExchangeError
			require.ErrorAs(t, err, &failed)
			require.Equal(t, c.status, failed.StatusCode())
			require.Equal(t, c.code, failed.Code)
			require.Equal(t, c.after, failed.RetryAfter())
			require.Equal(t, c.notBilled, errors.Is(err, tenant.ErrNotBilled))
			require.NotContains(t, err.Error(), "sk-secret")
		})
	}
}

func TestExchange_IsOneAttempt(t *testing.T) {
	t.Parallel()
	came := 0
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		came++
		switch r.URL.Path {
		case "/moved/chat/completions":
			http.Redirect(w, r, "/v1/chat/completions", http.StatusTemporaryRedirect)
		case "/v1/models":
		default:
			says(nil, 200, exchangedReply)(w, r)
		}
	}))
	t.Cleanup(api.Close)
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	client := &http.Client{Transport: tenanthttp.Watch(base)}

	ctx, x := tenanthttp.ContextWithExchange(t.Context(), "")
	require.NoError(t, post(ctx, client, api.URL+"/v1/models"), "what is no call passes")
	require.False(t, x.Sent())
	require.NoError(t, post(ctx, client, api.URL+"/v1/chat/completions"))
	require.ErrorContains(t, post(ctx, client, api.URL+"/v1/chat/completions"), "a call is one attempt")
	require.Equal(t, 2, came)
	response, err := x.End("test", false, nil)
	require.NoError(t, err)
	require.Equal(t, &tenant.Usage{Input: 20, CacheRead: 10, Output: 4}, response.Usage, "that of the first")

	ctx, x = tenanthttp.ContextWithExchange(t.Context(), "")
	require.NoError(t, post(ctx, client, api.URL+"/moved/chat/completions"))
	response, err = x.End("test", false, nil)
	require.NoError(t, err)
	require.NotNil(t, response.Usage, "where a redirect has led")

	require.NoError(t, post(t.Context(), client, api.URL+"/v1/chat/completions"), "a request of no exchange passes")
}

func TestExchange_KnowsWhetherItWasSent(t *testing.T) {
	t.Parallel()
	_, x := tenanthttp.ContextWithExchange(t.Context(), "")
	_, err := x.End("test", false, errors.New("bad option"))
	require.ErrorIs(t, err, tenant.ErrNotBilled, "nothing has got as far as the client")
	require.EqualError(t, err, "test: the request was not sent: bad option")

	api := httptest.NewServer(nil)
	api.Close()
	base := &http.Transport{}
	ctx, x := tenanthttp.ContextWithExchange(t.Context(), "")
	_, err = x.End("test", true, post(ctx, &http.Client{Transport: tenanthttp.Watch(base)}, api.URL+"/v1/chat/completions"))
	require.ErrorIs(t, err, tenant.ErrNotBilled, "no connection was made")

	_, _, err = exchanged(t, false, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	require.ErrorContains(t, err, "test: no answer came")
	require.NotErrorIs(t, err, tenant.ErrNotBilled)
}
