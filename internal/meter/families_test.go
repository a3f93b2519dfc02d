package meter

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/units"
)

const messagesURL = "https://api.anthropic.com/v1/messages"

func TestAnthropic_Messages(t *testing.T) {
	t.Parallel()
	const usage = `{"input_tokens":10,"cache_read_input_tokens":200,"cache_creation_input_tokens":90,
		"cache_creation":{"ephemeral_5m_input_tokens":60,"ephemeral_1h_input_tokens":30},"output_tokens":50,
		"output_tokens_details":{"thinking_tokens":20},"server_tool_use":{"web_search_requests":3,"web_fetch_requests":1},"service_tier":"standard"}`
	want := book.Usage{Input: 10, CacheRead: 200, CacheWrite5m: 60, CacheWrite1h: 30, Output: 30, Reasoning: 20, WebSearches: 3}
	check(t, []golden{
		{
			name: "cached tokens are beside the input, thinking is inside the output", url: messagesURL,
			body:  `{"id":"msg_1","model":"claude-x","type":"message","content":[{"type":"text","text":"Yes."}],"stop_reason":"end_turn","usage":` + usage + `}`,
			usage: want, tier: "standard", model: "claude-x", finished: []string{"end_turn"},
		},
		{
			name: "on Vertex AI", url: "https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/us-east5/publishers/anthropic/models/claude-x@1:rawPredict",
			body: `{"id":"msg_1","usage":` + usage + `}`, usage: want, model: "claude-x@1",
		},
		{
			name: "without a split, a write is a short one", url: messagesURL,
			body:  `{"usage":{"input_tokens":10,"cache_creation_input_tokens":90,"output_tokens":5}}`,
			usage: book.Usage{Input: 10, CacheWrite5m: 90, Output: 5},
		},
		{
			name: "the delta's counts replace those of the start", url: messagesURL,
			body: sseOpen(`{"type":"message_start","message":{"id":"msg_1","model":"claude-x","content":[],"usage":{"input_tokens":10,"cache_read_input_tokens":200,"output_tokens":1,"service_tier":"priority"}}}`,
				`{"type":"ping"}`, `{"type":"content_block_start","content_block":{"type":"text","text":""}}`,
				`{"type":"content_block_delta","delta":{"type":"text_delta","text":"Yes."}}`,
				`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":30}}`,
				`{"type":"message_delta","delta":{},"usage":{"input_tokens":12,"output_tokens":50}}`, `{"type":"message_stop"}`),
			usage: book.Usage{Input: 12, CacheRead: 200, Output: 50}, tier: "priority", model: "claude-x",
		},
		{
			name: "passes that the totals leave out are used too, some of them by another model", url: messagesURL,
			body: `{"model":"claude-x","usage":{"input_tokens":162,"output_tokens":11,"iterations":[
				{"type":"compaction","input_tokens":9000,"output_tokens":81,"cache_read_input_tokens":7},
				{"type":"message","input_tokens":162,"output_tokens":11},
				{"type":"advisor_message","model":"claude-y","input_tokens":20,"output_tokens":2},
				{"type":"advisor_message","model":"claude-y","input_tokens":30,"output_tokens":3}]}}`,
			usage: book.Usage{Input: 162, Output: 11},
			also:  []ModelUsage{{"claude-x", book.Usage{Input: 9000, CacheRead: 7, Output: 81}}, {"claude-y", book.Usage{Input: 50, Output: 5}}},
		},
		{
			name: "the last list of passes counts", url: messagesURL,
			body: sseOpen(`{"type":"message_start","message":{"model":"claude-x","usage":{"input_tokens":1,"output_tokens":1}}}`,
				`{"type":"message_delta","usage":{"output_tokens":4,"iterations":[{"type":"compaction","input_tokens":5,"output_tokens":6}]}}`,
				`{"type":"message_delta","usage":{"output_tokens":8,"iterations":[{"type":"compaction","input_tokens":5,"output_tokens":6},{"type":"message","input_tokens":1,"output_tokens":8}]}}`,
				`{"type":"message_stop"}`),
			usage: book.Usage{Input: 1, Output: 8}, also: []ModelUsage{{"claude-x", book.Usage{Input: 5, Output: 6}}},
		},
		{
			name: "the pass of a model that served in place of another is what the totals are", url: messagesURL, model: "claude-y",
			body: `{"model":"claude-y","usage":{"input_tokens":2,"output_tokens":900,"cache_read_input_tokens":70,"iterations":[
				{"type":"message","model":"claude-x","input_tokens":2,"output_tokens":57,"cache_read_input_tokens":70,"cache_creation_input_tokens":10},
				{"type":"message","model":"claude-y","input_tokens":1,"output_tokens":300},
				{"type":"fallback_message","model":"claude-y","input_tokens":1,"output_tokens":600,"cache_read_input_tokens":70}]}}`,
			usage: book.Usage{Input: 2, CacheRead: 70, Output: 900},
			also:  []ModelUsage{{"claude-x", book.Usage{Input: 2, CacheRead: 70, CacheWrite5m: 10, Output: 57}}},
		},
		{
			name: "a model that refused before it said anything is not charged for", url: messagesURL,
			body: `{"model":"claude-y","usage":{"input_tokens":2,"output_tokens":9,"iterations":[
				{"type":"message","model":"claude-x","input_tokens":2,"output_tokens":1},{"type":"fallback_message","model":"claude-y","input_tokens":2,"output_tokens":9}]}}`,
			usage: book.Usage{Input: 2, Output: 9},
		},
		{
			name: "a pass that names its model is in the totals where nobody refused", url: messagesURL,
			body:  `{"model":"claude-x","usage":{"input_tokens":2,"output_tokens":9,"iterations":[{"type":"message","model":"claude-x-20260101","input_tokens":2,"output_tokens":9}]}}`,
			usage: book.Usage{Input: 2, Output: 9},
		},
		{
			name: "a delta that counts the output alone, in zeros", url: messagesURL,
			body: sseOpen(`{"type":"message_start","message":{"usage":{"input_tokens":10,"cache_read_input_tokens":200,"cache_creation":{"ephemeral_1h_input_tokens":7},"output_tokens":1}}}`,
				`{"type":"message_delta","usage":{"input_tokens":0,"cache_read_input_tokens":0,"cache_creation_input_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"output_tokens":50}}`, `{"type":"message_stop"}`),
			usage: book.Usage{Input: 10, CacheRead: 200, CacheWrite1h: 7, Output: 50},
		},
		{
			name: "a start that counts nothing yet", url: messagesURL,
			body: sseOpen(`{"type":"message_start","message":{"usage":{"input_tokens":0,"output_tokens":0}}}`,
				`{"type":"message_delta","usage":{"input_tokens":10,"cache_read_input_tokens":200,"output_tokens":50}}`, `{"type":"message_stop"}`),
			usage: book.Usage{Input: 10, CacheRead: 200, Output: 50},
		},
		{
			name: "zero input is a statement where there is no other", url: messagesURL, body: `{"usage":{"input_tokens":0,"output_tokens":0}}`, found: true,
		},
		{
			name: "a start of another pass is not what was used in the end", url: messagesURL,
			body: sseOpen(`{"type":"message_start","message":{"usage":{"input_tokens":100,"cache_read_input_tokens":5000,"output_tokens":1}}}`,
				`{"type":"message_delta","usage":{"input_tokens":181,"cache_read_input_tokens":0,"cache_creation_input_tokens":0,"output_tokens":8}}`, `{"type":"message_stop"}`),
			usage: book.Usage{Input: 181, Output: 8},
		},
		{
			name: "a gateway states the cost in this format too", url: "https://openrouter.ai/api/v1/messages", cost: "30000",
			body:  `{"usage":{"input_tokens":2,"output_tokens":9,"cost":0,"is_byok":true,"cost_details":{"upstream_inference_cost":0.00003}}}`,
			usage: book.Usage{Input: 2, Output: 9},
		},
		{
			name: "fast has rates of its own, and so has a region", url: messagesURL, tier: "standard+fast+us",
			body:  `{"usage":{"input_tokens":2,"output_tokens":9,"service_tier":"standard","speed":"fast","inference_geo":"us"}}`,
			usage: book.Usage{Input: 2, Output: 9},
		},
		{
			name: "another speed is none, nor is the world a region", url: messagesURL, tier: "priority",
			body:  `{"usage":{"input_tokens":2,"output_tokens":9,"service_tier":"priority","speed":"standard","inference_geo":"global"}}`,
			usage: book.Usage{Input: 2, Output: 9},
		},
		{
			name: "cut", url: messagesURL, unended: true,
			body: sseOpen(`{"type":"message_start","message":{"usage":{"input_tokens":10,"cache_read_input_tokens":200,"output_tokens":1}}}`,
				`{"type":"content_block_delta","delta":{"type":"text_delta","text":"A text of forty letters, not one more..."}}`),
			usage: book.Usage{Input: 10, CacheRead: 200, Output: 1},
		},
		{
			name: "an error ends a stream before its end", url: messagesURL, unended: true,
			body:  sseOpen(`{"type":"message_start","message":{"usage":{"input_tokens":10,"output_tokens":1}}}`, `{"type":"error","error":{"type":"overloaded_error"}}`),
			usage: book.Usage{Input: 10, Output: 1},
		},
		{
			name: "a negative count is not mended by a delta", url: messagesURL, strange: true,
			body: sseOpen(`{"type":"message_start","message":{"usage":{"input_tokens":-10,"output_tokens":1}}}`, `{"type":"message_delta","usage":{"output_tokens":5}}`, `{"type":"message_stop"}`),
		},
	})

	cut := readIn(1, at(t, http.MethodPost, messagesURL), 200, nil, []byte(sseOpen(
		`{"type":"message_start","message":{"usage":{"input_tokens":10,"cache_read_input_tokens":200,"output_tokens":1}}}`,
		`{"type":"content_block_delta","delta":{"type":"text_delta","text":"A text of forty letters, not one more..."}}`)))
	u, estimated := cut.Charged(999)
	require.True(t, estimated)
	require.Equal(t, book.Usage{Input: 10, CacheRead: 200, Output: 10}, u, "the input is stated, the output is what came")
}

func TestGemini_IsReadAsGoogleCounts(t *testing.T) {
	t.Parallel()
	const (
		generate = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent"
		stream   = "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/google/models/gemini-3-pro:streamGenerateContent"
		usage    = `{"promptTokenCount":1000,"cachedContentTokenCount":600,"candidatesTokenCount":50,"thoughtsTokenCount":70,"toolUsePromptTokenCount":30,
			"totalTokenCount":1150,"promptTokensDetails":[{"modality":"TEXT","tokenCount":700},{"modality":"AUDIO","tokenCount":200},{"modality":"IMAGE","tokenCount":100}],
			"cacheTokensDetails":[{"modality":"AUDIO","tokenCount":150},{"modality":"TEXT","tokenCount":450}],
			"candidatesTokensDetails":[{"modality":"IMAGE","tokenCount":40},{"modality":"AUDIO","tokenCount":2}],"serviceTier":"flex"}`
	)
	want := book.Usage{Input: 250 + 30, CacheRead: 450, CacheReadAudio: 150, InputAudio: 50, InputImage: 100, Output: 8, OutputImage: 40, OutputAudio: 2, Reasoning: 70}
	grounded := func(queries string) string {
		return `{"candidates":[{"finishReason":"STOP","groundingMetadata":{"webSearchQueries":` + queries + `}}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":2}}`
	}
	check(t, []golden{
		{
			name: "the prompt contains what was cached; thoughts and tools are beside", url: generate,
			body:  `{"candidates":[{"content":{"parts":[{"text":"Yes."}]},"finishReason":"STOP"}],"usageMetadata":` + usage + `,"modelVersion":"gemini-2.5-flash-001","responseId":"r"}`,
			usage: want, tier: "flex", model: "gemini-2.5-flash-001", finished: []string{"STOP"},
		},
		{
			name: "what tools gave the model to read has modalities too", url: generate,
			body: `{"usageMetadata":{"promptTokenCount":10,"toolUsePromptTokenCount":100,"candidatesTokenCount":2,"totalTokenCount":112,
				"promptTokensDetails":[{"modality":"IMAGE","tokenCount":4}],"toolUsePromptTokensDetails":[{"modality":"TEXT","tokenCount":60},{"modality":"IMAGE","tokenCount":30},{"modality":"AUDIO","tokenCount":10}]}}`,
			usage: book.Usage{Input: 66, InputImage: 34, InputAudio: 10, Output: 2},
		},
		{
			name: "the names of sessions", url: generate,
			body:  `{"usageMetadata":{"promptTokenCount":10,"responseTokenCount":20,"totalTokenCount":30,"responseTokensDetails":[{"modality":"AUDIO","tokenCount":15}]}}`,
			usage: book.Usage{Input: 10, Output: 5, OutputAudio: 15},
		},
		{
			name: "counts in quotes", url: generate,
			body:  `{"usageMetadata":{"promptTokenCount":"10","candidatesTokenCount":"20","promptTokensDetails":[{"modality":"AUDIO","tokenCount":"4"}]}}`,
			usage: book.Usage{Input: 6, InputAudio: 4, Output: 20},
		},
		{
			name: "modalities by number", url: generate,
			body:  `{"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":2,"totalTokenCount":12,"promptTokensDetails":[{"modality":1,"tokenCount":3},{"modality":4,"tokenCount":4},{"modality":2,"tokenCount":3}]}}`,
			usage: book.Usage{Input: 3, InputAudio: 4, InputImage: 3, Output: 2},
		},
		{
			name: "a detail that does not say what it is", url: generate,
			body:  `{"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":2,"promptTokensDetails":[{"modality":"AUDIO","tokenCount":4},{"tokenCount":3}]}}`,
			usage: book.Usage{Input: 6, InputAudio: 4, Output: 2},
		},
		{
			name: "a last chunk of zeros", url: stream + "?alt=sse",
			body: sseOpen(`{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":2,"totalTokenCount":11}}`,
				`{"usageMetadata":{"promptTokenCount":0,"candidatesTokenCount":0,"totalTokenCount":0}}`),
			usage: book.Usage{Input: 9, Output: 2},
		},
		{
			name: "a last chunk without counts", url: stream + "?alt=sse",
			body: sseOpen(`{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":2}}`,
				`{"usageMetadata":{"trafficType":"ON_DEMAND"}}`),
			usage: book.Usage{Input: 9, Output: 2},
		},
		{
			name: "video and documents have no class of their own", url: generate,
			body:  `{"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":2,"promptTokensDetails":[{"modality":"VIDEO","tokenCount":6},{"modality":"DOCUMENT","tokenCount":4}]}}`,
			usage: book.Usage{Input: 10, Output: 2},
		},
		{
			name: "of a stream the last object counts; early ones lack the prompt; lines end with CRLF", url: stream + "?alt=sse",
			body: "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Yes\"}]}}],\"usageMetadata\":{\"candidatesTokenCount\":1,\"trafficType\":\"ON_DEMAND\"}}\r\n\r\n" +
				"data: {\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":9,\"candidatesTokenCount\":2,\"totalTokenCount\":11,\"trafficType\":\"ON_DEMAND\"}}\r\n\r\n",
			usage: book.Usage{Input: 9, Output: 2}, tier: "ON_DEMAND", model: "gemini-3-pro",
		},
		{
			name: "without alt=sse a stream is an array", url: stream,
			body: "[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Yes\"}]}}],\"usageMetadata\":{\"promptTokenCount\":9,\"totalTokenCount\":9}}\n,\r\n" +
				"{\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":9,\"candidatesTokenCount\":2,\"totalTokenCount\":11}}\n]",
			usage: book.Usage{Input: 9, Output: 2},
		},
		{
			name: "a stream that is cut leaves the last chunk's counts", url: stream, unended: true,
			body:  `[{"candidates":[{"content":{"parts":[{"text":"Yes"}]}}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":1,"totalTokenCount":10}},{"candidates":[{"content":`,
			usage: book.Usage{Input: 9, Output: 1},
		},
		{
			name: "a prompt that is not stated follows from the total", url: generate,
			body: `{"usageMetadata":{"candidatesTokenCount":2,"thoughtsTokenCount":3,"totalTokenCount":14}}`, usage: book.Usage{Input: 9, Output: 2, Reasoning: 3},
		},
		{name: "before Gemini 3 a grounded prompt is one search", url: generate, body: grounded(`["a","b"]`), usage: book.Usage{Input: 9, Output: 2, WebSearches: 1}},
		{name: "since then each query is", url: stream, body: "[" + grounded(`["a","b"]`) + "," + grounded(`["a","b"]`) + "]", usage: book.Usage{Input: 9, Output: 2, WebSearches: 2}},
		{name: "searches for images are searches", url: stream, body: `{"candidates":[{"finishReason":"STOP","groundingMetadata":{"webSearchQueries":["a"],"imageSearchQueries":["b"]}}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":2}}`,
			usage: book.Usage{Input: 9, Output: 2, WebSearches: 2}},
		{name: "grounding that asked nothing", url: stream, body: grounded(`[]`), usage: book.Usage{Input: 9, Output: 2}},
		{
			name: "a prompt that was blocked", url: generate, finished: []string{"SAFETY"},
			body: `{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":9,"totalTokenCount":9}}`, usage: book.Usage{Input: 9},
		},
		{
			name: "embeddings of Vertex AI", url: "https://aiplatform.googleapis.com/v1/projects/p/locations/x/publishers/google/models/text-embedding-004:predict",
			body:  `{"predictions":[{"embeddings":{"values":[0.1],"statistics":{"token_count":10,"truncated":false}}},{"embeddings":{"statistics":{"token_count":4}}}]}`,
			usage: book.Usage{Input: 14},
		},
		{name: "embeddings", url: "https://generativelanguage.googleapis.com/v1beta/models/gemini-embedding-2:embedContent",
			body: `{"embedding":{"values":[0.1]},"usageMetadata":{"promptTokenCount":5,"totalTokenCount":5}}`, usage: book.Usage{Input: 5}},
		{name: "embeddings that say nothing", url: "https://generativelanguage.googleapis.com/v1beta/models/embedding-001:batchEmbedContents", body: `{"embeddings":[{"values":[0.1]}]}`},
		{name: "negative", url: generate, body: `{"usageMetadata":{"promptTokenCount":-9,"candidatesTokenCount":2}}`, strange: true},
		{name: "a negative detail", url: generate, body: `{"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":2,"promptTokensDetails":[{"modality":"AUDIO","tokenCount":-9}]}}`, strange: true},
	})
}

func TestOllama_IsReadByItsLastLine(t *testing.T) {
	t.Parallel()
	const chat, generate, embed = "http://localhost:11434/api/chat", "http://gpu:11434/api/generate", "http://localhost:11434/api/embed"
	ndjson := http.Header{"Content-Type": {"application/x-ndjson"}}
	check(t, []golden{
		{name: "the last line has the counts", url: chat, header: ndjson,
			body: `{"model":"m","message":{"role":"assistant","content":"Yes"},"done":false}` + "\n" + `{"broken` + "\n" +
				`{"model":"m","message":{"content":""},"done":true,"done_reason":"stop","prompt_eval_count":26,"eval_count":290}` + "\n",
			usage: book.Usage{Input: 26, Output: 290}, model: "m", finished: []string{"stop"}},
		{name: "also where nothing says that these are lines", url: generate,
			body:  `{"model":"m","response":"Yes","done":false}` + "\n" + `{"model":"m","response":"","done":true,"prompt_eval_count":26,"eval_count":290}` + "\n",
			usage: book.Usage{Input: 26, Output: 290}},
		{name: "in one piece", url: chat, body: `{"model":"m","message":{"content":"Yes"},"done":true,"prompt_eval_count":26,"eval_count":290}`, usage: book.Usage{Input: 26, Output: 290}},
		{name: "a count that is cut in the middle is none", url: chat, unended: true, body: `{"model":"m","message":{"content":"Yes"},"done":true,"prompt_eval_count":26,"eval_count":2`, usage: book.Usage{Input: 26}},
		{name: "without the prompt's count", url: chat, body: `{"done":true,"eval_count":79}`, usage: book.Usage{Output: 79}},
		{name: "embeddings", url: embed, body: `{"model":"m","embeddings":[[0.1]],"prompt_eval_count":2}`, usage: book.Usage{Input: 2}},
		{name: "a model that is loaded evaluates nothing", url: generate, found: true,
			body: `{"model":"m","response":"","done":true,"done_reason":"load"}`},
		{name: "nor does one that is unloaded", url: chat, found: true,
			body: `{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"unload"}`},
		{name: "a reason without counts is none of these", url: chat, body: `{"model":"m","message":{"content":""},"done":true,"done_reason":"stop"}`},
		{name: "cut", url: chat, header: ndjson, unended: true, body: `{"message":{"content":"Yes"},"done":false}` + "\n"},
	})
}

func TestCohere_IsReadByWhatIsBilled(t *testing.T) {
	t.Parallel()
	const billed = `{"billed_units":{"input_tokens":10.0,"output_tokens":104},"tokens":{"input_tokens":505,"output_tokens":107},"cached_tokens":448}`
	want := book.Usage{Input: 10, Output: 104}
	const host = "https://api.cohere.com/"
	check(t, []golden{
		{name: "what is billed, not what the model saw", url: host + "v2/chat", body: `{"id":"c","finish_reason":"COMPLETE","message":{"content":[{"type":"text","text":"Yes."}]},"usage":` + billed + `}`,
			usage: want, finished: []string{"COMPLETE"}},
		{name: "events", url: host + "v2/chat", usage: want,
			body: sseOpen(`{"type":"message-start","id":"c"}`, `{"type":"content-delta","delta":{"message":{"content":{"text":"Yes."}}}}`,
				`{"type":"message-end","delta":{"finish_reason":"COMPLETE","usage":`+billed+`}}`)},
		{name: "version 1", url: host + "v1/generate", body: `{"generations":[{"text":"Yes."}],"meta":` + billed + `}`, usage: want},
		{name: "version 1, lines", url: host + "v1/chat", usage: want,
			body: `{"event_type":"text-generation","text":"Yes."}` + "\n" + `{"event_type":"stream-end","response":{"text":"Yes.","meta":` + billed + `}}` + "\n"},
		{name: "events, cut", url: host + "v2/chat", unended: true, body: sseOpen(`{"type":"message-start","id":"c"}`, `{"type":"content-delta","delta":{"message":{"content":{"text":"Yes."}}}}`)},
		{name: "version 1, cut", url: host + "v1/chat", unended: true, body: `{"event_type":"text-generation","text":"Yes."}` + "\n"},
		{name: "embeddings", url: host + "v2/embed", body: `{"meta":{"billed_units":{"input_tokens":7,"image_tokens":3}}}`, usage: book.Usage{Input: 7, InputImage: 3}},
		{name: "images", url: host + "v2/chat", body: `{"usage":{"billed_units":{"input_tokens":7,"image_tokens":3,"output_tokens":1}}}`, usage: book.Usage{Input: 7, InputImage: 3, Output: 1}},
		{name: "images, events", url: host + "v2/chat", body: sseOpen(`{"type":"message-end","delta":{"usage":{"billed_units":{"input_tokens":7,"image_tokens":3,"output_tokens":1}}}}`), usage: book.Usage{Input: 7, InputImage: 3, Output: 1}},
		{name: "images, lines", url: host + "v1/chat", body: `{"event_type":"stream-end","response":{"meta":{"billed_units":{"input_tokens":7,"image_tokens":3,"output_tokens":1}}}}`, usage: book.Usage{Input: 7, InputImage: 3, Output: 1}},
		{name: "searches of a ranking are no tokens", url: host + "v2/rerank", body: `{"meta":{"billed_units":{"search_units":1}}}`, usage: book.Usage{Units: units.Of(units.SearchUnits, 1)}},
		{name: "totals that nobody bills", url: host + "v2/chat", body: `{"usage":{"tokens":{"input_tokens":505,"output_tokens":107}}}`},
	})
}
