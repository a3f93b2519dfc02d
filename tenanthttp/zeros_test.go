package tenanthttp_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
)

const askOllama = `{"model":"test-model","stream":false,"options":{"num_predict":1000},"messages":[{"role":"user","content":"Hello, how are you?"}]}`

// A server that has counted nothing is charged by what it said, and one that nobody has understood by what was held.
func TestCharged_ByTheTextWhereNothingWasCounted(t *testing.T) {
	t.Parallel()
	const said = "A text of forty letters, not one more..." // ten tokens
	for _, c := range []struct {
		name, path, ask, body string
		output                int64 // negative: the hold
	}{
		{"zeros", chat, ask, `{"model":"test-model","choices":[{"message":{"content":"` + said + `"},"finish_reason":null}],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}`, 10},
		{"messages", messages, ask, `{"type":"message","model":"test-model","content":[{"type":"text","text":"` + said + `"}],"usage":{"input_tokens":0,"output_tokens":0}}`, 10},
		{"responses", "/v1/responses", `{"model":"test-model","max_output_tokens":1000,"input":"Hello"}`, `{"status":"completed","model":"test-model","output":[{"type":"message","content":[{"type":"output_text","text":"` + said + `"}]}],"usage":{"input_tokens":0,"output_tokens":0}}`, 10},
		{"a document that says it is not the last", "/api/chat", askOllama, `{"model":"test-model","message":{"role":"assistant","content":"` + said + `"},"done":false}`, 10},
		{"one that is cut", "/api/chat", askOllama, `{"model":"test-model","message":{"role":"assistant","content":"` + said + `"},"do`, -1},
		{"a document that nobody knows", chat, ask, `{"model":"test-model","answer":"` + said + `"}`, -1},
		{"messages that nobody knows", messages, ask, `{"model":"test-model","completion_text":"` + said + `"}`, -1},
		{"an answer of nothing", chat, ask, `{"model":"test-model","choices":[{"message":{"content":""},"finish_reason":"stop"}]}`, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, setting{}, replies("application/json", c.body))
			_, body := b.post(c.path, c.ask)
			require.Equal(t, c.body, body)
			e := b.execution()
			require.True(t, e.Estimated)
			require.Equal(t, "succeeded", e.Status)
			input := int64(len(c.ask))/3 + 1
			if c.output < 0 {
				input, c.output = int64(len(c.ask))+1024, 1000
			}
			require.Equal(t, input, e.Usage.Input)
			require.Equal(t, c.output, e.Usage.Output)
			require.Equal(t, input*1000+c.output*2000, e.CostNano)
		})
	}
}

// statesCost is a price of which the provider states the cost, where reported is true.
type statesCost struct{ reported bool }

func (p statesCost) Price(string, string, time.Time) (tenant.Price, bool) {
	return tenant.Price{Rates: tenant.Rates{Input: 1_000_000_000, Output: 2_000_000_000}, ChargeReported: p.reported}, true
}

// A cost that is believed counts without tokens; one that is not leaves the hold.
func TestCharged_AStatedCostCountsWithoutTokens(t *testing.T) {
	t.Parallel()
	const picture = `{"model":"m-image","prompt":"A barge","n":2}`
	for _, c := range []struct {
		name, path, ask, body string
		reported              bool
		cost, held            int64
	}{
		{"images", "/v1/images/generations", picture, `{"data":[{"url":"a"},{"url":"b"}],"usage":{"cost_in_usd_ticks":700000000}}`, true, 70_000_000, 0},
		{"images, otherwise", "/v1/images/generations", picture, `{"data":[{"url":"a"},{"url":"b"}],"usage":{"cost_in_usd_ticks":700000000}}`, false, 0, int64(len(picture)) + 1024},
		{"a chat without an end", chat, ask, `{"choices":[{"message":{"content":"Hi"}}],"usage":{"cost":0.03}}`, true, 30_000_000, 0},
		{"what nobody knows", chat, ask, `{"answer":"Hi","usage":{"cost":0.03}}`, true, 30_000_000, 0},
		{"tokens that cannot be true", chat, ask, `{"choices":[],"usage":{"prompt_tokens":-3,"completion_tokens":1,"cost":0.03}}`, true, 30_000_000, 0},
		{"an error that was charged", chat, ask, `{"error":{"message":"no"},"usage":{"cost":0.03}}`, true, 30_000_000, 0},
		{"an error, otherwise", chat, ask, `{"error":{"message":"no"},"usage":{"cost":0.03}}`, false, 0, 0},
		{"an error that was not", chat, ask, `{"error":{"message":"no"}}`, true, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, setting{prices: statesCost{c.reported}}, replies("application/json", c.body))
			b.post(c.path, c.ask)
			e := b.execution()
			require.False(t, e.Unpriced)
			if c.held > 0 {
				c.cost = c.held*1000 + 2*8192*2000
				require.Equal(t, c.held+2*8192, e.Tokens, "nobody has counted any")
			}
			require.Equal(t, c.cost, e.CostNano)
		})
	}
}

// llama.cpp states what the first of several answers used.
func TestCharged_SeveralAnswersOfWhichOneIsCounted(t *testing.T) {
	t.Parallel()
	const several = `{"model":"test-model","max_tokens":100,"prompt":["A rather long first question to the model?","And a second one that is as long as it."]}`
	b := newBench(t, setting{options: []tenanthttp.Option{tenanthttp.WithoutIncludeUsage()}}, replies("application/json",
		`{"choices":[{"text":"aaaaaaaa","index":0,"finish_reason":"stop"},{"text":"bbbbbbbbbbbb","index":1,"finish_reason":"stop"}],"model":"test-model","system_fingerprint":"b901-77aa",`+
			`"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}}`))
	resp, _ := b.post("/v1/completions", several)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	e := b.execution()
	require.True(t, e.Estimated)
	require.EqualValues(t, 10, e.Usage.Output, "four tokens for eight letters, so ten for twenty")
	require.EqualValues(t, len(several)/3+1, e.Usage.Input, "the second prompt is not in what is stated")
}
