package meter

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
)

const interactionsURL = "https://generativelanguage.googleapis.com/v1beta/interactions"

func TestInteractions_AreReadByTheirTotals(t *testing.T) {
	t.Parallel()
	const usage = `{"total_input_tokens":900,"input_tokens_by_modality":[{"modality":"text","tokens":700},{"modality":"audio","tokens":150},{"modality":"image","tokens":50}],
		"total_cached_tokens":200,"cached_tokens_by_modality":[{"modality":"audio","tokens":60},{"modality":"text","tokens":140}],
		"total_output_tokens":80,"output_tokens_by_modality":[{"modality":"image","tokens":30},{"modality":"text","tokens":50}],
		"total_thought_tokens":40,"total_tool_use_tokens":25,"total_tokens":1045,
		"grounding_tool_count":[{"type":"google_search","count":2},{"count":1,"type":"google_search"},{"type":"retrieval","count":9}]}`
	want := book.Usage{Input: 585, CacheRead: 140, CacheReadAudio: 60, InputAudio: 90, InputImage: 50, Output: 50, OutputImage: 30, Reasoning: 40, WebSearches: 3}
	check(t, []golden{
		{
			name: "as a document", url: interactionsURL,
			body: `{"id":"v1_x","object":"interaction","model":"gemini-3-x","status":"requires_action","service_tier":"flex",
				"steps":[{"type":"model_output","content":[{"type":"text","text":"Yes."}]}],"usage":` + usage + `}`,
			usage: want, tier: "flex", model: "gemini-3-x", finished: []string{"requires_action"},
		},
		{
			name: "as events", url: interactionsURL,
			body: sse(`{"event_type":"interaction.created","interaction":{"id":"v1_x","status":"in_progress","model":"gemini-3-x"}}`,
				`{"event_type":"step.delta","index":0,"delta":{"type":"text","text":"Yes."},"metadata":{"total_usage":{"total_input_tokens":900,"total_output_tokens":1}}}`,
				`{"interaction":{"id":"v1_x","status":"completed","model":"gemini-3-x","service_tier":"standard","usage":`+usage+`},"event_type":"interaction.completed"}`),
			usage: want, tier: "standard", model: "gemini-3-x", finished: []string{"completed"},
		},
		{
			name: "as Vertex AI names its counts", url: "https://aiplatform.googleapis.com/v1beta1/projects/p/locations/global/interactions",
			body: `{"id":"i","model":"gemini-3-x","status":"completed","usage":{"totalInputTokens":10,"totalCachedTokens":4,"totalOutputTokens":5,
				"totalThoughtTokens":6,"totalToolUseTokens":7,"totalTokens":28,"groundingToolCount":[{"type":"google_search","count":1}]}}`,
			usage: book.Usage{Input: 13, CacheRead: 4, Output: 5, Reasoning: 6, WebSearches: 1}, model: "gemini-3-x", finished: []string{"completed"},
		},
		{
			name: "before Gemini 3 a grounded prompt is charged once", url: interactionsURL,
			body:  `{"model":"gemini-2.5-x","status":"completed","usage":{"total_input_tokens":10,"total_output_tokens":5,"grounding_tool_count":[{"type":"google_search","count":4}]}}`,
			usage: book.Usage{Input: 10, Output: 5, WebSearches: 1}, model: "gemini-2.5-x", finished: []string{"completed"},
		},
		{
			name: "of an agent", url: interactionsURL,
			body:  `{"id":"i","agent":"deep-research-x","status":"completed","usage":{"total_input_tokens":"10","total_output_tokens":5}}`,
			usage: book.Usage{Input: 10, Output: 5}, model: "deep-research-x", finished: []string{"completed"},
		},
	})
}

func TestInteractions_AStreamThatIsCutHasWhatItStatedSoFar(t *testing.T) {
	t.Parallel()
	r := readIn(3, at(t, http.MethodPost, interactionsURL), 200, nil, []byte(sseOpen(
		`{"event_type":"interaction.created","interaction":{"id":"v1_x","status":"in_progress"}}`,
		`{"event_type":"step.delta","delta":{"type":"text","text":"Yes and no."},"metadata":{"total_usage":{"total_input_tokens":70,"total_output_tokens":2}}}`)))
	require.False(t, r.Complete)
	require.False(t, r.Pending, "that it was in progress is no news")
	require.Equal(t, "v1_x", r.ID)
	require.Equal(t, book.Usage{Input: 70, Output: 2}, r.Usage)
}

func TestJobs_GoOnUntilTheirResultIsThere(t *testing.T) {
	t.Parallel()
	const (
		sonar    = "https://api.perplexity.ai/async/chat/completions"
		deferred = "https://api.x.ai/v1/chat/completions"
	)
	for _, c := range []struct {
		name, method, url, body string
		want                    Result
	}{
		{"an interaction that waits", "POST", interactionsURL, `{"id":"i","status":"queued","model":"m"}`, Result{ID: "i", Pending: true}},
		{"an interaction at work", "GET", interactionsURL + "/i", `{"id":"i","status":"in_progress","usage":null}`, Result{ID: "i", Pending: true}},
		{"an interaction that has failed", "GET", interactionsURL + "/i", `{"id":"i","status":"failed"}`, Result{ID: "i", Failed: true}},
		{"research", "POST", sonar, `{"id":"a","model":"sonar-x","status":"CREATED","response":null}`, Result{ID: "a", Pending: true}},
		{"research under its newer path", "POST", "https://api.perplexity.ai/v1/async/sonar", `{"id":"a","model":"sonar-x","status":"IN_PROGRESS"}`, Result{ID: "a", Pending: true}},
		{"research that has failed", "GET", sonar + "/a", `{"id":"a","status":"FAILED","error_message":"no"}`, Result{ID: "a", Failed: true}},
		{
			"research that is there", "GET", "https://api.perplexity.ai/v1/async/sonar/a", `{"id":"a","model":"sonar-x","status":"COMPLETED","response":{"id":"r","model":"sonar-y",
				"choices":[{"message":{"content":"All."},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":300,"total_tokens":307,"citation_tokens":41,
				"num_search_queries":5,"reasoning_tokens":1100,"cost":{"total_cost":0.0371}}}}`,
			Result{ID: "a", Found: true, Usage: book.Usage{Input: 48, Output: 300, Reasoning: 1100, WebSearches: 5}, ReportedCost: 37_100_000},
		},
		{"a chat that is deferred", "POST", deferred, `{"request_id":"f"}`, Result{ID: "f", Pending: true}},
		{"a chat that is there", "GET", "https://api.x.ai/v1/chat/deferred-completion/f", `{"id":"c","choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],
			"usage":{"prompt_tokens":5,"completion_tokens":6,"total_tokens":18,"completion_tokens_details":{"reasoning_tokens":7},"cost_in_usd_ticks":51000}}`,
			Result{ID: "f", Found: true, Usage: book.Usage{Input: 5, Output: 6, Reasoning: 7}, ReportedCost: 5100}},
		{"a chat with the id of its request", "POST", "https://api.z.ai/api/paas/v4/chat/completions", `{"request_id":"q","id":"c","choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":5,"completion_tokens":6}}`,
			Result{ID: "c", Found: true, Usage: book.Usage{Input: 5, Output: 6}}},
		{"an error with the id of its request", "POST", deferred, `{"request_id":"q","error":"no"}`, Result{Failed: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := at(t, c.method, c.url)
			require.Equal(t, c.method == http.MethodGet, e.Retrieval)
			r := readIn(7, e, 200, nil, []byte(c.body))
			require.True(t, r.Complete)
			if c.want.ReportedCost == 0 {
				c.want.ReportedCost = -1
			}
			got := Result{ID: r.ID, Pending: r.Pending, Failed: r.Failed, Found: r.Found, Usage: r.Usage, ReportedCost: r.ReportedCost}
			require.Equal(t, c.want, got)
		})
	}
}

func TestConversations_AreReadWithWhatConnectorsBringIn(t *testing.T) {
	t.Parallel()
	const start = "https://api.mistral.ai/v1/conversations"
	check(t, []golden{
		{
			name: "what connectors brought in is on top of the prompt, says the total", url: start,
			body: `{"object":"conversation.response","conversation_id":"c","outputs":[{"type":"tool.execution","name":"web_search"},
				{"type":"message.output","model":"mistral-x","content":[{"type":"text","text":"Both."}]}],
				"usage":{"prompt_tokens":100,"completion_tokens":20,"total_tokens":3120,"connector_tokens":3000,"connectors":{"web_search":2,"web_search_premium":1,"code_interpreter":4}}}`,
			usage: book.Usage{Input: 3100, Output: 20, WebSearches: 3}, model: "mistral-x",
		},
		{
			name: "or inside of it", url: start + "/c",
			body:  `{"conversation_id":"c","outputs":[],"usage":{"prompt_tokens":3100,"completion_tokens":20,"total_tokens":3120,"connector_tokens":3000}}`,
			usage: book.Usage{Input: 3100, Output: 20},
		},
		{
			name: "what nothing explains is reasoning, as elsewhere", url: start + "/c/restart",
			body:  `{"conversation_id":"c","outputs":[],"usage":{"prompt_tokens":100,"completion_tokens":20,"total_tokens":170,"connector_tokens":null,"num_cached_tokens":60}}`,
			usage: book.Usage{Input: 40, CacheRead: 60, Output: 20, Reasoning: 50},
		},
		{
			name: "as events", url: start,
			body: sseOpen(`{"type":"conversation.response.started","conversation_id":"c"}`, `{"type":"message.output.delta","model":"mistral-x","content":"Both."}`,
				`{"type":"conversation.response.done","usage":{"prompt_tokens":100,"completion_tokens":20,"total_tokens":120}}`),
			usage: book.Usage{Input: 100, Output: 20}, model: "mistral-x",
		},
	})
}

func TestReadRequest_OfInteractionsAndConversations(t *testing.T) {
	t.Parallel()
	const conversations = "https://api.mistral.ai/v1/conversations"
	for _, c := range []struct {
		name, url, body string
		want            Request
	}{
		{"a text", interactionsURL, `{"model":"m","input":"Hello","stream":true,"service_tier":"priority","generation_config":{"max_output_tokens":90},"tools":[{"type":"function","name":"f"}]}`,
			Request{Model: "m", MaxTokens: 90, Stream: true, ServiceTier: "priority"}},
		{"media", interactionsURL, `{"model":"m","input":[{"type":"text","text":"x"},{"type":"image","mime_type":"image/png","data":"QUJD"},{"data":"QUJDREVG","type":"audio"}]}`,
			Request{Model: "m", Images: 1, Audio: 1, MediaBytes: 12, AudioBytes: 8}},
		{"media in a step", interactionsURL, `{"model":"m","input":[{"type":"user_input","content":[{"type":"document","data":"QUJD","mime_type":"application/pdf"},{"type":"image","uri":"https://e.com/x.png"}]}]}`,
			Request{Model: "m", Images: 1, Documents: 1, MediaBytes: 4, DocumentBytes: 4}},
		{"a video elsewhere", interactionsURL, `{"model":"m","input":{"type":"video","uri":"https://e.com/x.mp4"}}`, Request{Model: "m", Open: true, Stored: true}},
		{"what was said before", interactionsURL, `{"model":"m","input":"x","previous_interaction_id":"i"}`, Request{Model: "m", Open: true, Stored: true}},
		{"a search", interactionsURL, `{"model":"m","input":"x","tools":[{"type":"google_search"}]}`, Request{Model: "m", Open: true}},
		{"an agent", interactionsURL, `{"agent":"deep-x","input":"x","background":true}`, Request{Model: "deep-x", Open: true, Background: true}},
		{"a deferred chat", "https://api.x.ai/v1/chat/completions", `{"model":"m","deferred":true,"max_tokens":9,"messages":[]}`, Request{Model: "m", MaxTokens: 9, Background: true}},
		{"a deferred chat that is none", "https://api.x.ai/v1/chat/completions", `{"model":"m","deferred":false}`, Request{Model: "m"}},
		{"research", "https://api.perplexity.ai/v1/async/sonar", `{"request":{"model":"sonar-x","max_tokens":70,"messages":[{"role":"user","content":"x"}]}}`,
			Request{Model: "sonar-x", MaxTokens: 70, Open: true, Background: true}},
		{"a conversation", conversations, `{"model":"m","inputs":"x","completion_args":{"max_tokens":30}}`, Request{Model: "m", MaxTokens: 30}},
		{"with a connector", conversations, `{"model":"m","inputs":"x","tools":[{"type":"web_search"}]}`, Request{Model: "m", Open: true}},
		{"with an agent", conversations, `{"agent_id":"ag:1","inputs":"x"}`, Request{Model: "ag:1", Open: true}},
		{"that goes on", conversations + "/c", `{"inputs":"x"}`, Request{Open: true, Stored: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.want.InputBytes = int64(len(c.body)) - c.want.MediaBytes
			c.want.Choices, c.want.Prompts = 1, 1
			require.Equal(t, c.want, ReadRequest(at(t, http.MethodPost, c.url), []byte(c.body)))
		})
	}
}

func TestLimitOutput_WhereTheNewerFormatsHaveIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ url, body, want string }{
		{interactionsURL, `{"model":"m"}`, `{"generation_config":{"max_output_tokens":40},"model":"m"}`},
		{interactionsURL, `{"model":"m","generationConfig":{"maxOutputTokens":50}}`, `{"model":"m","generationConfig":{"maxOutputTokens":40}}`},
		{"https://api.mistral.ai/v1/conversations", `{"inputs":"x","completion_args":null}`, `{"inputs":"x","completion_args":{"max_tokens":40}}`},
		{"https://api.perplexity.ai/async/chat/completions", `{"request":{"model":"m"}}`, `{"request":{"max_tokens":40,"model":"m"}}`},
	} {
		got, ok := LimitOutput(at(t, http.MethodPost, c.url), []byte(c.body), 40)
		require.True(t, ok, c.body)
		require.Equal(t, c.want, string(got))
	}
	body := []byte(`{"agent":"deep-x","input":"model"}`)
	got, ok := LimitOutput(at(t, http.MethodPost, interactionsURL), body, 40)
	require.False(t, ok, "agents take none")
	require.Equal(t, body, got)
}
