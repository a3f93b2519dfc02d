package compat_test

import (
	"net/http"
	neturl "net/url"
	"testing"
	"time"

	"github.com/ollama/ollama/api"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/compat/internal/harness"
	"github.com/llmtenant/tenant/tenanthttp"
)

func ollamaClient(t *testing.T, m *metered) *api.Client {
	t.Helper()
	base, err := neturl.Parse(m.url)
	require.NoError(t, err)
	return api.NewClient(base, m.client)
}

func ollamaAnswers(r *harness.Request) harness.Reply {
	return harness.Ollama{}.Reply(r, "Hello", tenant.Usage{Input: 100, Output: 50})
}

func chatWith(m *metered, sdk *api.Client, model string) error {
	stream := false
	return sdk.Chat(m.ctx, &api.ChatRequest{
		Model: model, Stream: &stream, Options: map[string]any{"num_predict": 1000}, Messages: []api.Message{{Role: "user", Content: "Hello"}},
	}, func(api.ChatResponse) error { return nil })
}

// A request without a prompt has the model loaded, or unloaded, which evaluates no tokens.
func TestOllama_LoadingAModelCostsNothing(t *testing.T) {
	t.Parallel()
	for reason, keep := range map[string]time.Duration{"load": time.Minute, "unload": 0} {
		m := newMetered(t, tenDollars, replies(`{"model":"test-model","created_at":"2026-01-01T00:00:00Z","response":"","done":true,"done_reason":"`+reason+`"}`))
		err := ollamaClient(t, m).Generate(m.ctx, &api.GenerateRequest{Model: harness.Model, KeepAlive: &api.Duration{Duration: keep}},
			func(r api.GenerateResponse) error {
				require.Equal(t, reason, r.DoneReason)
				return nil
			})
		require.NoError(t, err)
		e := m.execution()
		require.Equal(t, "succeeded", e.Status)
		require.False(t, e.Estimated)
		require.Zero(t, e.CostNano)
		require.Zero(t, e.Tokens)
	}
}

// A model of one's own is in the price book at zero, and its tokens are limited all the same.
func TestOllama_AModelThatCostsNothingIsCounted(t *testing.T) {
	t.Parallel()
	m := newMetered(t, tenant.Limits{DailyCost: tenant.USD("1"), DailyTokens: tenant.Count(2_500)}, replies(`{"model":"`+freeModel+
		`","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"Hello"},"done":true,"done_reason":"stop","prompt_eval_count":100,"eval_count":50}`))
	sdk := ollamaClient(t, m)
	require.NoError(t, chatWith(m, sdk, freeModel))
	e := m.execution()
	require.EqualValues(t, 150, e.Tokens)
	require.Zero(t, e.CostNano)
	require.False(t, e.Unpriced)
	require.Positive(t, e.HeldTokens)

	err := error(nil)
	for range 20 {
		if err = chatWith(m, sdk, freeModel); err != nil {
			break
		}
	}
	exceeded, ok := tenanthttp.AsBudgetError(m.ctx, err)
	require.True(t, ok, "%v", err)
	require.Equal(t, tenant.TokensMetric, exceeded.Limit.Metric)
}

// A model that nobody has given a price is not taken for one that is free.
func TestOllama_AModelWithoutAPriceIsRefused(t *testing.T) {
	t.Parallel()
	m := newMetered(t, tenDollars, ollamaAnswers)
	err := chatWith(m, ollamaClient(t, m), unheardOf)
	var said api.StatusError
	require.ErrorAs(t, err, &said)
	require.Equal(t, http.StatusPaymentRequired, said.StatusCode)
	refused, ok := tenanthttp.AsRefusal(t.Context(), err)
	require.True(t, ok)
	require.ErrorIs(t, refused, tenant.ErrNoPrice)
	require.Empty(t, m.requests())
}

func TestOllama_GeneratedTextAndEmbeddings(t *testing.T) {
	t.Parallel()
	answers := map[string]string{
		"/api/generate": `{"model":"test-model","created_at":"2026-01-01T00:00:00Z","response":"Hello","done":false}` + "\n" +
			// Where the prompt was evaluated before, its count is absent.
			`{"model":"test-model","created_at":"2026-01-01T00:00:00Z","response":"","done":true,"done_reason":"stop","eval_count":50}` + "\n",
		"/api/embed": `{"model":"test-model","embeddings":[[0.1,0.2]],"total_duration":5,"load_duration":1,"prompt_eval_count":8}`,
	}
	m := newMetered(t, tenDollars, func(r *harness.Request) harness.Reply { return replies(answers[r.Path])(r) })
	sdk := ollamaClient(t, m)
	require.NoError(t, sdk.Generate(m.ctx, &api.GenerateRequest{Model: harness.Model, Prompt: "Hello"}, func(api.GenerateResponse) error { return nil }))
	_, err := sdk.Embed(m.ctx, &api.EmbedRequest{Model: harness.Model, Input: "Hello"})
	require.NoError(t, err)
	all := m.executions()
	require.Len(t, all, 2)
	require.Equal(t, tenant.Usage{Output: 50}, all[0].Usage)
	require.Equal(t, tenant.Usage{Input: 8}, all[1].Usage)
	for _, e := range all {
		require.False(t, e.Estimated)
	}
}

// The runner may fail when the server has said 200 already: the SDK returns the line's error.
func TestOllama_AStreamThatEndsWithAnErrorIsChargedForWhatCame(t *testing.T) {
	t.Parallel()
	m := newMetered(t, tenDollars, func(r *harness.Request) harness.Reply {
		reply := harness.Ollama{}.Stream(r, []string{"Once upon a time"}, tenant.Usage{Input: 100, Output: 50})
		reply.Parts[1] = harness.Part{Data: `{"error":"an error was encountered while running the model"}` + "\n"}
		return reply
	})
	err := ollamaClient(t, m).Chat(m.ctx, &api.ChatRequest{Model: harness.Model, Messages: []api.Message{{Role: "user", Content: "Hello"}}},
		func(api.ChatResponse) error { return nil })
	require.EqualError(t, err, "an error was encountered while running the model")
	e := m.execution()
	require.True(t, e.Estimated)
	require.EqualValues(t, 4, e.Usage.Output)
	require.Positive(t, e.Usage.Input)
}
