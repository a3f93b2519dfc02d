package meter

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/units"
)

func TestGateways_NameCountsInTheirOwnWay(t *testing.T) {
	t.Parallel()
	const response = `{"id":"r-1","status":"completed","model":"` + aClaude + `","output":[{"type":"message","content":[{"type":"output_text","text":"Elbe."}]}],"usage":`
	check(t, []golden{
		{
			name: "Bifrost's cached tokens are both what was read and what was written", url: anyChat,
			body:  chatOf(aClaude, `{"prompt_tokens":500,"completion_tokens":12,"total_tokens":512,"prompt_tokens_details":{"cached_read_tokens":300,"cached_write_tokens":120,"cached_tokens":420}}`),
			usage: book.Usage{Input: 80, CacheRead: 300, CacheWrite5m: 120, Output: 12},
		},
		{
			name: "and says how long the cache lives", url: anyChat,
			body: chatOf(aClaude, `{"prompt_tokens":500,"completion_tokens":12,"total_tokens":512,"prompt_tokens_details":{"cached_read_tokens":300,"cached_write_tokens":120,"cached_tokens":420,
				"cached_write_token_details":{"cached_write_tokens_5m":50,"cached_write_tokens_1h":70}}}`),
			usage: book.Usage{Input: 80, CacheRead: 300, CacheWrite5m: 50, CacheWrite1h: 70, Output: 12},
		},
		{
			name: "as do gateways that pass on Anthropic's own counts", url: anyChat,
			body: chatOf(aClaude, `{"prompt_tokens":80,"completion_tokens":12,"total_tokens":512,"cache_read_input_tokens":300,"cache_creation_input_tokens":120,
				"cache_creation":{"ephemeral_5m_input_tokens":20,"ephemeral_1h_input_tokens":100}}`),
			usage: book.Usage{Input: 80, CacheRead: 300, CacheWrite5m: 20, CacheWrite1h: 100, Output: 12},
		},
		{
			name: "which it leaves out where nothing was read", url: anyChat,
			body:  chatOf(aClaude, `{"prompt_tokens":500,"completion_tokens":12,"total_tokens":512,"prompt_tokens_details":{"cached_write_tokens":120,"cached_tokens":120}}`),
			usage: book.Usage{Input: 380, CacheWrite5m: 120, Output: 12},
		},
		{
			name: "or written", url: anyChat,
			body:  chatOf(aClaude, `{"prompt_tokens":500,"completion_tokens":12,"total_tokens":512,"prompt_tokens_details":{"cached_read_tokens":300,"cached_tokens":300}}`),
			usage: book.Usage{Input: 200, CacheRead: 300, Output: 12},
		},
		{
			name: "in responses", url: "http://gateway.internal/v1/responses",
			body:  response + `{"input_tokens":500,"input_tokens_details":{"cached_read_tokens":300,"cached_write_tokens":120,"cached_tokens":420},"output_tokens":12,"output_tokens_details":null,"total_tokens":512}}`,
			usage: book.Usage{Input: 80, CacheRead: 300, CacheWrite5m: 120, Output: 12},
		},
		{
			name: "new-api", url: anyChat,
			body: chatOf("best", `{"prompt_tokens":500,"completion_tokens":12,"total_tokens":512,"usage_semantic":"openai","usage_source":"anthropic","prompt_tokens_details":{"cached_tokens":300,"cached_creation_tokens":120,"audio_tokens":0},
				"input_tokens":500,"output_tokens":0,"input_tokens_details":null,"claude_cache_creation_5_m_tokens":90,"claude_cache_creation_1_h_tokens":30}`),
			usage: book.Usage{Input: 80, CacheRead: 300, CacheWrite5m: 90, CacheWrite1h: 30, Output: 12},
		},
		{
			name: "new-api's writes without their sum", url: anyChat,
			body:  chatOf(aClaude, `{"prompt_tokens":500,"completion_tokens":12,"total_tokens":512,"claude_cache_creation_5_m_tokens":90,"claude_cache_creation_1_h_tokens":30}`),
			usage: book.Usage{Input: 380, CacheWrite5m: 90, CacheWrite1h: 30, Output: 12},
		},
		{
			name: "OpenRouter's searches, by their new name", url: "https://openrouter.ai/api/v1/chat/completions", cost: "15000000",
			body:  chatOf("m-1", `{"prompt_tokens":700,"completion_tokens":12,"total_tokens":712,"cost":0.015,"server_tool_use_details":{"tool_calls_requested":4,"tool_calls_executed":3,"web_search_requests":3}}`),
			usage: book.Usage{Input: 700, Output: 12, WebSearches: 3},
		},
		{
			name: "in messages", url: "https://openrouter.ai/api/v1/messages", cost: "15000000",
			body:  `{"type":"message","usage":{"input_tokens":700,"output_tokens":12,"cost":0.015,"server_tool_use_details":{"web_search_requests":3}}}`,
			usage: book.Usage{Input: 700, Output: 12, WebSearches: 3},
		},
		{
			name: "both names are one count", url: "https://openrouter.ai/api/v1/responses",
			body:  `{"status":"completed","usage":{"input_tokens":700,"output_tokens":12,"server_tool_use":{"web_search_requests":3},"server_tool_use_details":{"web_search_requests":3}}}`,
			usage: book.Usage{Input: 700, Output: 12, WebSearches: 3},
		},
		{
			name: "DeepInfra's cost is an estimate of its own", url: "https://api.deepinfra.com/v1/openai/chat/completions", cost: "345000",
			body:  chatOf("m-1", `{"prompt_tokens":700,"completion_tokens":12,"total_tokens":712,"estimated_cost":0.000345}`),
			usage: book.Usage{Input: 700, Output: 12},
		},
		{
			name: "a cost is better than an estimate", url: anyChat, cost: "400000",
			body:  chatOf("m-1", `{"prompt_tokens":700,"completion_tokens":12,"estimated_cost":0.000345,"cost":0.0004}`),
			usage: book.Usage{Input: 700, Output: 12},
		},
		{
			name: "Vercel's cost beside the usage, of an image", url: "https://ai-gateway.vercel.sh/v1/images/generations", cost: "40500000",
			body:  `{"created":1,"data":[{"b64_json":"AAAA"}],"providerMetadata":{"gateway":{"routing":{"x":1},"cost":"0.0405","marketCost":"0.0405"}}}`,
			usage: book.Usage{Units: units.Of(units.OutputImages, 1)},
		},
		{
			name: "the cost in the usage is the one that counts", url: "https://ai-gateway.vercel.sh/v1/chat/completions", cost: "1000000",
			body:  `{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":1,"cost":0.001},"provider_metadata":{"gateway":{"cost":"0.002"}}}`,
			usage: book.Usage{Input: 5, Output: 1},
		},
		{
			name: "Moonshot's usage is in the last choice of a stream", url: "https://api.moonshot.ai/v1/chat/completions", finished: []string{"stop"},
			body: sse(`{"model":"kimi-x","choices":[{"index":0,"delta":{"content":"Aller"}}]}`,
				`{"model":"kimi-x","choices":[{"index":0,"delta":{},"finish_reason":"stop","usage":{"prompt_tokens":3100,"completion_tokens":44,"total_tokens":3144,"cached_tokens":2048}}]}`),
			usage: book.Usage{Input: 1052, CacheRead: 2048, Output: 44},
		},
		{
			name: "also without an end mark, and by a gateway", url: anyChat,
			body:  sseOpen(`{"choices":[{"index":0,"delta":{"content":"Aller"},"finish_reason":"stop","usage":{"prompt_tokens":31,"completion_tokens":4}}]}`),
			usage: book.Usage{Input: 31, Output: 4},
		},
		{
			name: "the usage of the whole reply is the one that counts", url: anyChat,
			body:  `{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop","usage":{"prompt_tokens":31,"completion_tokens":1}},{"index":1,"message":{"content":"b"},"finish_reason":"stop","usage":{"prompt_tokens":31,"completion_tokens":2}}],"usage":{"prompt_tokens":31,"completion_tokens":3}}`,
			usage: book.Usage{Input: 31, Output: 3},
		},
	})
}

// A server that states zero tokens of what it has written has not counted.
func TestReader_ZerosBesideTextAreNotBelieved(t *testing.T) {
	t.Parallel()
	const said = "An answer of forty characters, all told.."
	for _, c := range []struct {
		name, url, body string
		found, exact    bool
		want            book.Usage
	}{
		{"chat", anyChat, `{"choices":[{"message":{"content":"` + said + `"},"finish_reason":null}],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}`, false, false, book.Usage{Input: 99, Output: 11}},
		{"completions", "http://localhost:11434/v1/completions", `{"choices":[{"text":"` + said + `","finish_reason":null}],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}`, false, false, book.Usage{Input: 99, Output: 11}},
		{"messages", "http://localhost:11434/v1/messages", `{"type":"message","content":[{"type":"text","text":"` + said + `"}],"usage":{"input_tokens":0,"output_tokens":0}}`, false, false, book.Usage{Input: 99, Output: 11}},
		{"responses", "http://localhost:11434/v1/responses", `{"status":"completed","output":[{"content":[{"text":"` + said + `"}]}],"usage":{"input_tokens":0,"output_tokens":0,"total_tokens":0,"output_tokens_details":{"reasoning_tokens":0}}}`, false, false, book.Usage{Input: 99, Output: 11}},
		{"a stream of responses, which ends with all of the text", "http://localhost:11434/v1/responses", sseOpen(`{"type":"response.created","response":{"status":"in_progress","output":[]}}`, `{"type":"response.output_text.delta","delta":"`+said[:20]+`"}`, `{"type":"response.output_text.delta","delta":"`+said[20:]+`"}`,
			`{"type":"response.completed","response":{"status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"`+said+`"}]}],"usage":{"input_tokens":0,"output_tokens":0}}}`), false, false, book.Usage{Input: 99, Output: 11}},
		{"one that has it there alone", "http://localhost:11434/v1/responses", sseOpen(`{"type":"response.completed","response":{"status":"completed","output":[{"content":[{"text":"` + said + `"}]}],"usage":{"input_tokens":0,"output_tokens":0}}}`), false, false, book.Usage{Input: 99, Output: 11}},
		{"a stream", anyChat, sse(`{"choices":[{"delta":{"content":"`+said+`"},"finish_reason":"stop"}]}`, `{"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0}}`), false, false, book.Usage{Input: 99, Output: 11}},
		{"a stream of messages", messagesURL, sseOpen(`{"type":"message_start","message":{"usage":{"input_tokens":0,"output_tokens":0}}}`, `{"type":"content_block_delta","delta":{"text":"`+said+`"}}`, `{"type":"message_delta","usage":{"output_tokens":0}}`, `{"type":"message_stop"}`), false, false, book.Usage{Input: 99, Output: 11}},
		{"Ollama's own", "http://localhost:11434/api/chat", `{"message":{"content":"` + said + `"},"done":true,"prompt_eval_count":0,"eval_count":0}`, false, false, book.Usage{Input: 99, Output: 11}},
		{"Gemini", "https://generativelanguage.googleapis.com/v1beta/models/g:generateContent", `{"candidates":[{"content":{"parts":[{"text":"` + said + `"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":0,"totalTokenCount":0}}`, false, false, book.Usage{Input: 99, Output: 11}},
		{"Converse", "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse", `{"output":{"message":{"content":[{"text":"` + said + `"}]}},"usage":{"inputTokens":0,"outputTokens":0}}`, false, false, book.Usage{Input: 99, Output: 11}},
		{"an input that was counted, and an output that was not", anyChat, chatOf("m", `{"prompt_tokens":17,"completion_tokens":0,"total_tokens":17}`), true, false, book.Usage{Input: 17, Output: 4}},
		{"nothing was said", anyChat, `{"choices":[{"message":{"content":""},"finish_reason":"length"}],"usage":{"prompt_tokens":17,"completion_tokens":0}}`, true, true, book.Usage{Input: 17}},
		{"an output that was counted, and an input that was not", anyChat, chatOf("m", `{"prompt_tokens":0,"completion_tokens":6,"total_tokens":6}`), true, false, book.Usage{Input: 99, Output: 6}},
		{"a prompt that Ollama has read before", "http://localhost:11434/api/chat", `{"message":{"content":"` + said + `"},"done":true,"eval_count":12}`, true, true, book.Usage{Output: 12}},
		{"an embedding of nothing", "http://localhost:1234/v1/embeddings", `{"data":[{"embedding":[0.5]}],"usage":{"prompt_tokens":0,"total_tokens":0}}`, false, false, book.Usage{Input: 99}},
		{"one of Ollama's", "http://localhost:11434/api/embed", `{"embeddings":[[0.5]],"prompt_eval_count":0}`, false, false, book.Usage{Input: 99}},
		{"a ranking of nothing", "http://localhost:8080/v1/rerank", `{"results":[{"index":0}],"usage":{"prompt_tokens":0,"total_tokens":0}}`, false, false, book.Usage{Input: 99}},
		{"an embedding of a picture", "https://generativelanguage.googleapis.com/v1beta/models/gemini-embedding-x:embedContent", `{"usageMetadata":{"promptTokenCount":258,"promptTokenDetails":[{"modality":"IMAGE","tokenCount":258}]}}`, true, true, book.Usage{InputImage: 258}},
		{"one token is a count", anyChat, chatOf("m", `{"prompt_tokens":17,"completion_tokens":1}`), true, true, book.Usage{Input: 17, Output: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := readIn(3, at(t, http.MethodPost, c.url), 200, nil, []byte(c.body))
			require.True(t, got.Complete)
			require.Equal(t, c.found, got.Found)
			u, estimated := got.Charged(99)
			require.Equal(t, c.want, u)
			require.Equal(t, !c.exact, estimated)
		})
	}
}

// What is charged by the piece has no tokens, whatever text there is.
func TestReader_PiecesBesideTextAreBelieved(t *testing.T) {
	t.Parallel()
	used := book.Usage{Units: units.Of(units.InputAudio, 9000)}
	for kind, found := range map[Kind]bool{Transcription: true, Chat: false} {
		r := Result{Found: true, Complete: true, Usage: used, OutputChars: 23, OutputEstimate: 6}
		r.believe(Endpoint{Kind: kind})
		require.Equal(t, found, r.Found, "a chat has tokens as well")
		u, estimated := r.Charged(0)
		require.Equal(t, !found, estimated)
		require.Equal(t, used.Units, u.Units)
	}
}

// Whether a reply said anything that is known is told apart from whether it said how much it used.
func TestReader_KnowsWhatItHasNotUnderstood(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		url, body   string
		read, whole bool
	}{
		{anyChat, `{"choices":[{"message":{"content":null}}]}`, true, true},
		{anyChat, `{"answer":"There is one, and nobody here knows where."}`, false, true},
		{anyChat, `{"model":"m","id":"i"}`, false, true},
		{openAIResp, `{"status":"completed","output":[]}`, true, true},
		{openAIResp, `{"text":"There is one."}`, false, true},
		{messagesURL, `{"type":"message","content":[]}`, true, true},
		{messagesURL, `{"result":"There is one."}`, false, true},
		{messagesURL, `{"type":"message","cont`, true, false},
		{"http://localhost:11434/api/chat", `{"message":{"content":"Yes"},"done":false}`, true, true},
		{"http://localhost:11434/api/chat", `{"message":{"content":"Yes"},"don`, true, false},
		{"https://api.cohere.com/v2/chat", `{"finish_reason":"COMPLETE"}`, true, true},
		{"https://api.cohere.com/v2/chat", `{"reply":"There is one."}`, false, true},
		{anyChat, sse(`{"tokens":["There","is","one"]}`), false, true},
	} {
		got := readIn(2, at(t, http.MethodPost, c.url), 200, nil, []byte(c.body))
		require.Equal(t, c.read, got.Read, c.body)
		require.Equal(t, c.whole, got.Whole, c.body)
	}
}
