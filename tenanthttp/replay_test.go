package tenanthttp_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
	"github.com/llmtenant/tenant/tenanttest"
)

// asStated prices calls as tenanttest does, with a fee for each, and believes what providers state.
type asStated struct{}

func (asStated) Price(provider, model string, at time.Time) (tenant.Price, bool) {
	p, ok := tenanttest.Prices().Price("", model, at)
	p.Request, p.ChargeReported = 5_000_000, true
	return p, ok
}

// wherever prices calls as tenanttest does, whoever the provider is.
type wherever struct{}

func (wherever) Price(_, model string, at time.Time) (tenant.Price, bool) {
	return tenanttest.Prices().Price("", model, at)
}

// A gateway's own cache costs nothing, not even the fee of a call, whatever the reply says that its first call used.
func TestReplayed_CostsNothing(t *testing.T) {
	t.Parallel()
	const said = `{"id":"c","model":"test-model","choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1000,"completion_tokens":500}}`
	kept := false
	b := newBench(t, setting{limits: tenant.Limits{DailyCost: tenant.USD("1")}, prices: asStated{}}, func(w http.ResponseWriter, r *http.Request) {
		if kept {
			w.Header().Set("Cf-Aig-Cache-Status", "HIT")
		}
		replies("application/json", said)(w, r)
	})
	b.post(chat, ask)
	kept = true
	b.post(chat, ask)
	all := b.executions()
	require.Len(t, all, 2)
	require.EqualValues(t, 7_000_000, all[0].CostNano)
	require.Equal(t, tenant.Usage{Input: 1000, Output: 500}, all[0].Usage)
	require.Zero(t, all[1].CostNano)
	require.Equal(t, tenant.Usage{}, all[1].Usage)
	require.Equal(t, "succeeded", all[1].Status)
	require.False(t, all[1].Estimated)
	require.False(t, all[1].Unpriced)

	r := b.request(b.ctx, http.MethodPost, chat, ask)
	actual, ok := tenanthttp.ReadReply("", r, &http.Response{StatusCode: 200, Header: http.Header{"Cf-Aig-Cache-Status": {"HIT"}}}, []byte(said))
	require.True(t, ok)
	require.Equal(t, tenant.Usage{}, actual.Usage)
	require.Equal(t, tenant.USD("0"), actual.Cost)
}

// What each model of a system used is an execution at that model's price; the system itself has none.
func TestShares_OfASystemsModelsHaveTheirOwnPrices(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, replies("application/json", `{"id":"c","model":"system","choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],
		"usage":{"prompt_tokens":1500,"completion_tokens":600},"usage_breakdown":{"models":[
		{"model":"test-model","usage":{"prompt_tokens":1000,"completion_tokens":500}},{"model":"unheard-of","usage":{"prompt_tokens":500,"completion_tokens":100}}]}}`))
	b.post(chat, ask)
	used := map[string]tenant.Execution{}
	for _, e := range b.executions() {
		used[e.Model] = e
	}
	require.Len(t, used, 2)
	require.EqualValues(t, 2_000_000, used["test-model"].CostNano)
	require.Equal(t, tenant.Usage{Input: 500, Output: 100}, used["unheard-of"].Usage)
	require.True(t, used["unheard-of"].Unpriced)
}

// A batch's results state what they cost at the price of batches, which is believed where a call's is.
func TestBatch_AStatedCostIsThatOfTheResult(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{prices: asStated{}}, replies("application/json", `{"results":[{"batch_request_id":"a","batch_result":{"response":{"chat_get_completion":
		{"id":"g","model":"test-model","choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":500,"cost_in_usd_ticks":3000000}}}}},
		{"batch_request_id":"b","batch_result":{"response":{"image_generation":{"data":[{"url":"x"}],"usage":{"cost_in_usd_ticks":200000000}}}}}]}`))
	through := b.throughHosts()
	for range 2 {
		b.through(through, http.MethodGet, "https://api.x.ai/v1/batches/b-1/results", "")
	}
	all := b.executions()
	require.Len(t, all, 2)
	costs := map[string]int64{}
	for _, e := range all {
		costs[e.IdempotencyKey] = e.CostNano
		require.Equal(t, "batch", e.ServiceTier)
	}
	require.Equal(t, map[string]int64{"batch/b-1/a": 300_000, "batch/b-1/b": 20_000_000}, costs)
	require.Empty(t, b.witness.unmetered())
}

// Z.ai's asynchronous chats are told how they ended by their id, as its videos are.
func TestJobs_OfZAI(t *testing.T) {
	t.Parallel()
	p := &provider{made: `{"request_id":"r-1","id":"8353","model":"test-model","task_status":"PROCESSING"}`, result: `{"id":"8353","model":"test-model","task_status":"PROCESSING"}`}
	b := newBench(t, setting{prices: wherever{}}, p.ServeHTTP)
	through := b.throughHosts()
	const create, read = "https://api.z.ai/api/paas/v4/async/chat/completions", "https://api.z.ai/api/paas/v4/async-result/8353"
	b.through(through, http.MethodPost, create, ask)
	b.through(through, http.MethodGet, read, "")
	require.Equal(t, "running", b.execution().Status)
	p.result = `{"id":"8353","request_id":"r-1","model":"test-model","task_status":"SUCCESS","choices":[{"finish_reason":"stop","message":{"content":"Hi"}}],"usage":{"prompt_tokens":1000,"completion_tokens":500,"total_tokens":1500}}`
	b.through(b.throughHosts(), http.MethodGet, read, "")
	b.through(through, http.MethodGet, read, "")
	e := b.execution()
	require.Equal(t, "succeeded", e.Status)
	require.EqualValues(t, 2_000_000, e.CostNano)

	p.made, p.result = `{"id":"9","model":"test-model","task_status":"PROCESSING"}`, `{"id":"9","model":"test-model","task_status":"FAIL"}`
	b.through(through, http.MethodPost, create, ask)
	b.through(through, http.MethodGet, "https://api.z.ai/api/paas/v4/async-result/9", "")
	require.Zero(t, b.executions()[1].CostNano)
	require.Equal(t, "failed", b.executions()[1].Status)
	require.Empty(t, b.witness.unmetered())
}
