package openai_test

import (
	"context"
	"io"
	"net/http"
	"testing"

	sdk "github.com/openai/openai-go/v3"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
	"github.com/llmtenant/tenant/tenanttest"
)

// The SDK over the metering transport, without an adapter.
func metered(t *testing.T, s *server, options ...tenant.OpenOption) (*sdk.Client, func() []tenant.Execution) {
	t.Helper()
	db, ledger := tenanttest.Open(t, options...)
	transport, err := tenanthttp.NewTransport(ledger, s.client.Transport)
	require.NoError(t, err)
	s.client = &http.Client{Transport: transport}
	t.Cleanup(s.client.CloseIdleConnections)
	client := sdk.NewClient(s.options()...)
	return &client, func() (all []tenant.Execution) {
		require.NoError(t, tenant.Executions(t.Context(), db, tenant.ID("acme")).Order("id").Find(&all).Error)
		return all
	}
}

func params() sdk.ChatCompletionNewParams {
	return sdk.ChatCompletionNewParams{
		Model: "test-model", MaxCompletionTokens: sdk.Int(1000), Messages: []sdk.ChatCompletionMessageParamUnion{sdk.UserMessage("Hello")},
	}
}

func TestTransport_UnderTheSDK(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, hello)
	})
	client, executions := metered(t, s)
	reply, err := client.Chat.Completions.New(tenant.ContextWithTenant(t.Context(), tenant.ID("acme")), params())
	require.NoError(t, err)
	require.Equal(t, "Hello!", reply.Choices[0].Message.Content)
	all := executions()
	require.Len(t, all, 1)
	require.Equal(t, "0.002", all[0].Cost().String())
	require.Equal(t, "test-model-2026-01-01", all[0].BilledModel)
}

func TestTransport_UnderTheSDKsStream(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, `data: {"id":"c","model":"test-model","choices":[{"index":0,"delta":{"content":"Hi"}}]}`+"\n\n"+
			`data: {"id":"c","model":"test-model","choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":500}}`+"\n\ndata: [DONE]\n\n")
	})
	client, executions := metered(t, s)
	stream := client.Chat.Completions.NewStreaming(tenant.ContextWithTenant(t.Context(), tenant.ID("acme")), params())
	chunks := 0
	for stream.Next() {
		chunks++
		require.Len(t, stream.Current().Choices, 1, "a caller that takes the first choice of every chunk is not to fail")
	}
	require.NoError(t, stream.Err())
	require.NoError(t, stream.Close())
	require.Equal(t, 1, chunks)
	all := executions()
	require.Len(t, all, 1)
	require.Equal(t, "0.002", all[0].Cost().String())
	require.False(t, all[0].Estimated)
}

// The SDK tries twice again whatever it believes to be worth it.
func TestTransport_ARefusalIsNotTriedAgainAndIsFoundInTheSDKsError(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(http.ResponseWriter, *http.Request) { t.Error("the call was made") })
	refusals := &counts{}
	client, executions := metered(t, s, tenant.WithObserver(refusals),
		tenant.WithDefaultLimits(tenant.Limits{DailyCost: tenant.USD("0")}), tenant.WithDefaultEnforcement(tenant.Hard))
	_, err := client.Chat.Completions.New(tenant.ContextWithTenant(t.Context(), tenant.ID("acme")), params())
	var said *sdk.Error
	require.ErrorAs(t, err, &said)
	require.Equal(t, http.StatusPaymentRequired, said.StatusCode)
	require.Equal(t, "budget_exceeded", said.Code)
	exceeded, ok := tenanthttp.AsBudgetError(context.Background(), err)
	require.True(t, ok)
	require.Equal(t, "acme", exceeded.TenantID)
	require.Equal(t, 1, refusals.n)
	require.Empty(t, executions())
}

type counts struct{ n int }

func (c *counts) Observe(_ context.Context, e tenant.Event) {
	if _, ok := e.(*tenant.RefusalEvent); ok {
		c.n++
	}
}
