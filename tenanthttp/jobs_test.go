package tenanthttp_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
)

// A job is a call that is made by one request, and told how it has ended by another.
type job struct {
	name, create, request, made string
	read, working, done, broken string
	usage                       tenant.Usage
}

func jobs() []job {
	used := tenant.Usage{Input: 1000, Output: 300, Reasoning: 200}
	return []job{
		{
			name: "an interaction in the background", create: "/v1beta/interactions", request: `{"model":"test-model","input":"Hello","background":true,"generation_config":{"max_output_tokens":1000}}`,
			made: `{"id":"v1_1","status":"in_progress","model":"test-model"}`, read: "/v1beta/interactions/v1_1", working: `{"id":"v1_1","status":"in_progress"}`,
			done:   `{"id":"v1_1","status":"completed","model":"test-model","usage":{"total_input_tokens":1000,"total_output_tokens":300,"total_thought_tokens":200,"total_tokens":1500}}`,
			broken: `{"id":"v1_1","status":"failed","errors":[{"message":"no"}]}`, usage: used,
		},
		{
			name: "research", create: "/async/chat/completions", request: `{"request":{"model":"test-model","max_tokens":1000,"messages":[{"role":"user","content":"Hello"}]}}`,
			made: `{"id":"ar_1","model":"test-model","status":"CREATED"}`, read: "/async/chat/completions/ar_1", working: `{"id":"ar_1","status":"IN_PROGRESS"}`,
			done: `{"id":"ar_1","status":"COMPLETED","response":{"id":"x","model":"test-model","choices":[{"message":{"content":"Hi"}}],
				"usage":{"prompt_tokens":1000,"completion_tokens":500,"completion_tokens_details":{"reasoning_tokens":200}}}}`,
			broken: `{"id":"ar_1","status":"FAILED","error_message":"no"}`, usage: used,
		},
		{
			name: "a chat that is deferred", create: chat, request: strings.Replace(ask, `{`, `{"deferred":true,`, 1), made: `{"request_id":"f-1"}`,
			read: "/v1/chat/deferred-completion/f-1", working: "",
			done: `{"id":"c-1","model":"test-model","choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],
				"usage":{"prompt_tokens":1000,"completion_tokens":500,"completion_tokens_details":{"reasoning_tokens":200}}}`,
			broken: `{"error":"no"}`, usage: used,
		},
	}
}

// provider answers posts by one body and gets by another.
type provider struct {
	made, result string
	posts        atomic.Int64
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := p.result
	if r.Method == http.MethodPost {
		p.posts.Add(1)
		body = p.made
	} else if body == "" {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	replies("application/json", body)(w, r)
}

// elsewhere reads a result as another process does: all that it knows of the call is on the books.
func (b *bench) elsewhere(ctx context.Context, path string) {
	b.t.Helper()
	transport, err := tenanthttp.NewTransport(b.ledger, b.server.Client().Transport)
	require.NoError(b.t, err)
	resp, err := transport.RoundTrip(b.request(ctx, http.MethodGet, path, ""))
	require.NoError(b.t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(b.t, err)
	require.NoError(b.t, resp.Body.Close())
}

func TestJobs_AreChargedWhenTheirResultIsRead(t *testing.T) {
	t.Parallel()
	for _, c := range jobs() {
		for _, reader := range []string{"whoever made it", "somebody else"} {
			t.Run(c.name+" by "+reader, func(t *testing.T) {
				t.Parallel()
				p := &provider{made: c.made, result: c.working}
				b := newBench(t, setting{limits: tenant.Limits{DailyCost: tenant.USD("1")}}, p.ServeHTTP)
				read := func(ctx context.Context) { b.elsewhere(ctx, c.read) }
				if reader == "whoever made it" {
					read = func(ctx context.Context) { b.do(b.request(ctx, http.MethodGet, c.read, "")) }
				}
				_, body := b.post(c.create, c.request)
				require.Equal(t, c.made, body)
				require.Equal(t, "running", b.execution().Status)
				require.Positive(t, b.execution().HeldCostNano)
				read(b.ctx)
				require.Equal(t, "running", b.execution().Status, "it is not ready yet")
				p.result = c.done
				b.elsewhere(tenant.ContextWithTenant(b.ctx, tenant.ID("other")), c.read)
				require.Equal(t, "running", b.execution().Status, "it is not theirs")
				for range 3 {
					read(b.ctx)
					e := b.execution()
					require.Equal(t, "succeeded", e.Status)
					require.Equal(t, c.usage, e.Usage)
					require.EqualValues(t, 2_000_000, e.CostNano)
					require.False(t, e.Estimated)
					require.Equal(t, "test-model", e.Model)
				}
				require.Empty(t, b.witness.unmetered())
			})
		}
	}
}

func TestJobs_ThatHaveFailedCostNothing(t *testing.T) {
	t.Parallel()
	for _, c := range jobs() {
		for _, here := range []bool{true, false} {
			p := &provider{made: c.made, result: c.broken}
			b := newBench(t, setting{}, p.ServeHTTP)
			b.post(c.create, c.request)
			if here {
				b.do(b.request(b.ctx, http.MethodGet, c.read, ""))
			} else {
				b.elsewhere(b.ctx, c.read)
			}
			e := b.execution()
			require.Equal(t, "failed", e.Status, c.name)
			require.Equal(t, "error", e.ErrorCode)
			require.Zero(t, e.CostNano)
		}
	}
}

// A provider that knows a request again gives it the job that it has made before.
func TestJobs_ThatAreTheSameAreChargedOnce(t *testing.T) {
	t.Parallel()
	c := jobs()[1]
	p := &provider{made: c.made, result: c.done}
	b := newBench(t, setting{}, p.ServeHTTP)
	b.post(c.create, c.request)
	b.post(c.create, c.request)
	b.elsewhere(b.ctx, c.read)
	all := b.executions()
	require.Len(t, all, 2)
	require.Equal(t, "succeeded", all[0].Status)
	require.EqualValues(t, 2_000_000, all[0].CostNano)
	require.Equal(t, "cancelled", all[1].Status)
	require.Zero(t, all[1].CostNano)
}

// What goes on in the background goes on without whoever has stopped to listen.
func TestJobs_AreNotOverWhenTheirStreamIsCut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, path, request, part, read, done string }{
		{
			"an interaction", "/v1beta/interactions", `{"model":"test-model","input":"Hello","background":true,"stream":true}`,
			events(`{"event_type":"interaction.created","interaction":{"id":"v1_2","status":"in_progress"}}`, `{"event_type":"step.delta","delta":{"text":"Hel"}}`),
			"/v1beta/interactions/v1_2?stream=true&last_event_id=e",
			events(`{"event_type":"interaction.completed","interaction":{"id":"v1_2","status":"completed","usage":{"total_input_tokens":1000,"total_output_tokens":500}}}`),
		},
		{
			"a response", "/v1/responses", `{"model":"test-model","input":"Hello","background":true,"stream":true}`,
			events(`{"type":"response.created","response":{"id":"resp_2","status":"in_progress","usage":null}}`, `{"type":"response.output_text.delta","delta":"Hel"}`),
			"/v1/responses/resp_2?stream=true&starting_after=2",
			events(`{"type":"response.completed","response":{"id":"resp_2","status":"completed","model":"test-model","usage":{"input_tokens":1000,"output_tokens":500}}}`),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, setting{}, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					aborts("text/event-stream", c.part)(w, r)
					return
				}
				replies("text/event-stream", c.done)(w, r)
			})
			resp, err := b.client.Do(b.request(b.ctx, http.MethodPost, c.path, c.request))
			require.NoError(t, err)
			_, err = io.ReadAll(resp.Body)
			require.Error(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, "running", b.execution().Status)
			b.elsewhere(b.ctx, c.read)
			e := b.execution()
			require.Equal(t, "succeeded", e.Status)
			require.EqualValues(t, 2_000_000, e.CostNano)
		})
	}
}

// A job whose reply is not understood goes on all the same, so that it is not charged as what has said nothing.
func TestJobs_WithoutANameAreChargedTheHold(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, replies("application/json", `{"ok":true}`))
	b.post("/async/chat/completions", jobs()[1].request)
	e := b.execution()
	require.Equal(t, e.HeldCostNano, e.CostNano)
	require.True(t, e.Estimated)
}

func TestInteractions_AreHeldLimitedAndBooked(t *testing.T) {
	t.Parallel()
	const done = `{"id":"v1_3","status":"completed","model":"test-model","service_tier":"standard","usage":{"total_input_tokens":1000,"total_cached_tokens":200,
		"total_output_tokens":300,"total_thought_tokens":150,"total_tool_use_tokens":50,"total_tokens":1500,"grounding_tool_count":[{"type":"google_search","count":2}]}}`
	want := tenant.Usage{Input: 850, CacheRead: 200, Output: 300, Reasoning: 150, WebSearches: 2}
	for contentType, body := range map[string]string{
		"application/json": done,
		"text/event-stream": events(`{"event_type":"interaction.created","interaction":{"id":"v1_3","status":"in_progress"}}`,
			`{"event_type":"step.delta","delta":{"type":"text","text":"Hello"}}`, `{"event_type":"interaction.completed","interaction":`+strings.ReplaceAll(done, "\n", "")+`}`, "[DONE]"),
	} {
		var sent keeps
		b := newBench(t, setting{limits: tenant.Limits{DailyCost: tenant.USD("0.003")}}, sent.then(replies(contentType, body)))
		_, got := b.post("/v1beta/interactions", `{"model":"test-model","input":"Hello"}`)
		require.Equal(t, body, got)
		require.Contains(t, sent.last(), `"generation_config":{"max_output_tokens":`, "the budget has room for less than the model can say")
		e := b.execution()
		require.Equal(t, want, e.Usage)
		require.EqualValues(t, 1_950_000, e.CostNano)
		require.False(t, e.Estimated)
		resp, refused := b.post("/v1beta/interactions", `{"model":"test-model","input":"`+strings.Repeat("x", 4000)+`"}`)
		require.Equal(t, http.StatusPaymentRequired, resp.StatusCode)
		require.Contains(t, refused, `"code":"budget_exceeded"`, "this API's errors have a word for their code, where Gemini's others have a number")
	}
}

func TestConversations_AreBooked(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{limits: tenant.Limits{DailyCost: tenant.USD("5")}}, replies("application/json", `{"object":"conversation.response","conversation_id":"c","outputs":[{"type":"message.output","model":"test-model","content":"Hi"}],
		"usage":{"prompt_tokens":400,"completion_tokens":500,"total_tokens":1500,"connector_tokens":600,"connectors":{"web_search":1}}}`))
	b.post("/v1/conversations", `{"model":"test-model","inputs":"Hello","tools":[{"type":"web_search"}]}`)
	e := b.execution()
	require.Equal(t, tenant.Usage{Input: 1000, Output: 500, WebSearches: 1}, e.Usage)
	require.EqualValues(t, 2_000_000, e.CostNano)
	b.post("/v1/conversations/c", `{"inputs":"And now?"}`)
	require.Len(t, b.executions(), 2, "it goes on with its model, which has a price")
	require.Equal(t, "test-model", b.executions()[1].Model)
	resp, _ := b.post("/v1/conversations/d", `{"inputs":"And now?"}`)
	require.Equal(t, http.StatusPaymentRequired, resp.StatusCode, "nobody knows which model this one has")
	b.post("/v1/conversations", `{"items":[{"type":"message","role":"user","content":"Hello"}]}`)
	require.Len(t, b.executions(), 2, "OpenAI's conversations are no calls")
	require.Empty(t, b.witness.unmetered())
}
