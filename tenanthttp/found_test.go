package tenanthttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
)

// errBare is an error that has no more of a reply than its status.
var errBare = errors.New("error, status code: 402")

// oneCall is a budget of one call a day; a provider that asks its own customer to pay answers it.
func oneCall(t *testing.T) *bench {
	return newBench(t, setting{limits: tenant.Limits{DailyCalls: tenant.Count(1)}}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Request-Id", "req_of_the_provider")
		http.Error(w, `{"error":{"message":"top up your account"}}`, http.StatusPaymentRequired)
	})
}

func (b *bench) exceed(ctx context.Context) {
	b.t.Helper()
	require.NoError(b.t, tenant.ConfigureBudget(b.t.Context(), b.db, acme, func(budget *tenant.Budget) error {
		budget.Limits.DailyCalls = tenant.Count(0)
		return nil
	}))
	resp, _ := b.do(b.request(ctx, http.MethodPost, chat, ask))
	require.Equal(b.t, http.StatusPaymentRequired, resp.StatusCode)
	require.Equal(b.t, "false", resp.Header.Get("X-Should-Retry"))
}

func (b *bench) allow() {
	b.t.Helper()
	require.NoError(b.t, tenant.ConfigureBudget(b.t.Context(), b.db, acme, func(budget *tenant.Budget) error {
		budget.Limits.DailyCalls = tenant.Count(1000)
		return nil
	}))
}

func isRefusal(ctx context.Context, err error) bool {
	_, ok := tenanthttp.AsRefusal(ctx, err)
	return ok
}

// What was refused before says nothing of a call that was made, whose status is the provider's.
func TestAsRefusal_IsForgottenOnceACallIsAdmitted(t *testing.T) {
	t.Parallel()
	b := oneCall(t)
	outer := tenanthttp.ContextWithCall(b.ctx)
	ctx, sibling := tenanthttp.ContextWithCall(outer), tenanthttp.ContextWithCall(outer)
	b.exceed(ctx)
	require.True(t, isRefusal(ctx, errBare))
	require.True(t, isRefusal(outer, errBare), "it was under that context as well")
	require.False(t, isRefusal(sibling, errBare), "it was not under that one")
	require.True(t, isRefusal(context.WithValue(ctx, statusError{}, 1), errBare))

	b.allow()
	b.do(b.request(sibling, http.MethodPost, chat, ask))
	require.False(t, isRefusal(outer, errBare), "the last call under it was admitted")
	require.True(t, isRefusal(ctx, errBare), "the last call under it was not")
	b.do(b.request(ctx, http.MethodPost, chat, ask))
	require.False(t, isRefusal(ctx, errBare))

	b.exceed(ctx)
	require.True(t, isRefusal(ctx, errBare))
	require.True(t, isRefusal(outer, errBare))
}

// Of calls at the same time under one context nobody can say which of them a status is of, once a provider has given it too.
func TestAsRefusal_AStatusThatAProviderHasGivenIsNobodys(t *testing.T) {
	t.Parallel()
	arrived, answer := make(chan struct{}), make(chan struct{})
	b := newBench(t, setting{}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(arrived)
		<-answer
		w.WriteHeader(http.StatusPaymentRequired)
	})
	ctx, ended := tenanthttp.ContextWithCall(b.ctx), make(chan struct{})
	go func() {
		defer close(ended)
		b.do(b.request(ctx, http.MethodPost, chat, ask))
	}()
	<-arrived
	b.exceed(ctx) // while the other one, which was admitted before it, runs
	require.True(t, isRefusal(ctx, errBare))
	close(answer)
	<-ended
	require.False(t, isRefusal(ctx, errBare))
}

// A request that is free is passed on, and its status is the provider's as well.
func TestAsRefusal_IsForgottenWhenAFreeRequestIsNotPaidFor(t *testing.T) {
	t.Parallel()
	b := oneCall(t)
	ctx := tenanthttp.ContextWithCall(b.ctx)
	b.exceed(ctx)
	require.True(t, isRefusal(ctx, errBare))
	b.do(b.request(ctx, http.MethodGet, "/v1/models", ""))
	require.False(t, isRefusal(ctx, errBare))
}

// statusError, codeError and replyError are how SDKs keep a status.
type (
	statusError struct{ StatusCode int }
	codeError   struct {
		Code    int
		Message string
	}
	wrapped    struct{ *http.Response }
	replyError struct{ Response *wrapped }
)

func (*statusError) Error() string { return "the provider has refused" }
func (*codeError) Error() string   { return "the provider has refused" }
func (*replyError) Error() string  { return "the provider has refused: 402" }

func TestAsRefusal_ABareStatusIsAWord(t *testing.T) {
	t.Parallel()
	b := oneCall(t)
	ctx := tenanthttp.ContextWithCall(b.ctx)
	b.exceed(ctx)
	for _, text := range []string{
		"402", "402 Payment Required", "HTTP 402", "http 402: no", "error, status code: 402, status: 402 Payment Required", "[402]", "(402)",
		`{"code":402,"message":"x"}`, "status=402", "status:402", "got 402.", "402, try later", "402: insufficient", "a\n402\nb", "status \"402\"",
		"took 1402 ms: 402",
	} {
		require.True(t, isRefusal(ctx, errors.New(text)), text)
		require.True(t, isRefusal(ctx, fmt.Errorf("chat: %w", errors.New(text))), text)
	}
	for _, text := range []string{
		"dial tcp 127.0.0.1:40201: connection refused", "dial tcp 127.0.0.1:402: connection refused", "dial tcp [::1]:402: i/o timeout",
		`Post "http://localhost:402/v1": EOF`, "invoice 1402 not found", "order 4021", "4.402", "402.5 ms", "$402", "1,402", "402,000 tokens",
		"-402", "req_402", "402_a", "a402", "402nd", "/v1/402/x", "#402", "402%", "x402y", "status 500 after 1402", "model-402", "402-page",
		"Fehler 402é", "40 2", "",
	} {
		require.False(t, isRefusal(ctx, errors.New(text)), text)
	}
	require.True(t, isRefusal(ctx, &statusError{402}))
	require.True(t, isRefusal(ctx, fmt.Errorf("x: %w", &codeError{Code: 402})))
	require.False(t, isRefusal(ctx, &statusError{500}))
	require.False(t, isRefusal(ctx, fmt.Errorf("402: %w", &statusError{429})), "the status is known")
	require.False(t, isRefusal(ctx, &codeError{Code: 500, Message: "402"}))
	require.False(t, isRefusal(ctx, &statusError{}))
}

// Where an SDK has kept the reply, it says whose it is, whatever went on under the context meanwhile.
func TestAsRefusal_TheProvidersOwnReplyIsNone(t *testing.T) {
	t.Parallel()
	b := oneCall(t)
	ctx := tenanthttp.ContextWithCall(b.ctx)
	resp, err := b.client.Do(b.request(ctx, http.MethodPost, chat, ask))
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusPaymentRequired, resp.StatusCode)
	b.exceed(ctx)
	require.True(t, isRefusal(ctx, errBare))
	require.False(t, isRefusal(ctx, &sdkError{Response: resp, Message: "402 Payment Required"}))
	require.False(t, isRefusal(ctx, &replyError{Response: &wrapped{resp}}))
	require.True(t, isRefusal(ctx, &replyError{}))
	require.True(t, isRefusal(ctx, &replyError{Response: &wrapped{}}))
}
