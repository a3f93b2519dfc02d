package meter

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/units"
)

const (
	openAIChat = "https://api.openai.com/v1/chat/completions"
	openAIResp = "https://api.openai.com/v1/responses"
	anyChat    = "http://gateway.internal:4000/v1/chat/completions"
)

func chatWith(usage string) string {
	return `{"id":"c-1","model":"m-1","choices":[{"index":0,"message":{"role":"assistant","content":"Yes."},"finish_reason":"stop"}],"usage":` + usage + `}`
}

func TestOpenAI_ChatCompletions(t *testing.T) {
	t.Parallel()
	check(t, []golden{
		{
			name: "all details are inside their totals", url: openAIChat,
			body: `{"id":"c-1","model":"gpt-x-2026-01-01","service_tier":"flex","choices":[{"message":{"content":"Yes."},"finish_reason":"length"}],
				"usage":{"prompt_tokens":1000,"completion_tokens":500,"total_tokens":1500,
				"prompt_tokens_details":{"cached_tokens":400,"cache_write_tokens":100,"audio_tokens":50,"image_tokens":30},
				"completion_tokens_details":{"reasoning_tokens":200,"audio_tokens":60,"accepted_prediction_tokens":20,"rejected_prediction_tokens":10}}}`,
			usage: book.Usage{Input: 420, CacheRead: 400, CacheWrite5m: 100, InputAudio: 50, InputImage: 30, Output: 240, Reasoning: 200, OutputAudio: 60},
			tier:  "flex", model: "gpt-x-2026-01-01", finished: []string{"length"},
		},
		{
			name: "the last chunk of a stream has no choices, and the usage", url: openAIChat,
			body: sse(`{"id":"c-1","model":"m-1","choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}`,
				`{"choices":[{"delta":{"content":"Yes."},"finish_reason":null}],"usage":null}`,
				`{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":null}`,
				`{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}`),
			usage: book.Usage{Input: 9, Output: 2}, model: "m-1", finished: []string{"stop"},
		},
		{
			name: "a stream that was not asked for its usage has none", url: openAIChat,
			body: sse(`{"choices":[{"delta":{"content":"Yes."},"finish_reason":"stop"}]}`),
		},
		{
			name: "a gateway puts the usage into a chunk that has choices", url: "https://openrouter.ai/api/v1/chat/completions",
			body: ": PROCESSING\n\n" + sse(`{"choices":[{"delta":{"content":"Yes."}}]}`,
				`{"choices":[{"delta":{"content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"cost":0.25}}`),
			usage: book.Usage{Input: 9, Output: 2}, cost: "250000000",
		},
		{
			name: "carriage returns end lines too, and a byte order mark is no name", url: anyChat,
			body:  "\xef\xbb\xbfdata:" + `{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}` + "\r\n\r\ndata: [DONE]\r\n\r\n",
			usage: book.Usage{Input: 9, Output: 2},
		},
		{
			name: "an event may have several lines of data, other fields, or no blank line after it", url: anyChat,
			body:  "event: x\nid: 7\ndata: {\"choices\":[],\ndata:\"usage\":{\"prompt_tokens\":9,\ndata: \"completion_tokens\":2}}\nretry: 5\ndata: [DONE]\n",
			usage: book.Usage{Input: 9, Output: 2},
		},
		{
			name: "a carriage return and a line feed end one line, not two", url: anyChat,
			body:  "data: {\"choices\":[],\r\ndata: \"usage\":{\"prompt_tokens\":9,\r\ndata: \"completion_tokens\":2}}\r\n\r\ndata: [DONE]\r\n\r\n",
			usage: book.Usage{Input: 9, Output: 2},
		},
		{
			name: "names may be in any script", url: anyChat, model: "m-\U0001F600\u00e9",
			body:  `{"model":"m-\ud83d\ude00\u00e9","usage":{"prompt_tokens":9,"completion_tokens":2}}`,
			usage: book.Usage{Input: 9, Output: 2},
		},
		{
			name: "an event that cannot be read does not spoil the next", url: anyChat,
			body:  sse(`{"choices":[{"delta":{"content":"un`, `]}`, `nonsense`, `{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}`),
			usage: book.Usage{Input: 9, Output: 2},
		},
		{
			name: "counts may be written with a fraction of zero, and names with escapes", url: anyChat,
			body:  chatWith(`{"prompt\u005ftokens":9.0,"completion_tokens":2e0}`),
			usage: book.Usage{Input: 9, Output: 2},
		},
		{name: "tokens that were cached and written at once are counted once", url: anyChat,
			body:  chatWith(`{"prompt_tokens":100,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":90,"cache_write_tokens":90}}`),
			usage: book.Usage{Input: 0, CacheRead: 90, CacheWrite5m: 10, Output: 2}},
		{name: "no completion", url: anyChat, body: chatWith(`{"prompt_tokens":9}`)},
		{name: "the missing part follows from the total", url: anyChat, body: chatWith(`{"prompt_tokens":9,"total_tokens":14}`),
			usage: book.Usage{Input: 9, Output: 5}},
		{name: "usage that is no object", url: anyChat, body: chatWith(`[1,{"prompt_tokens":9,"completion_tokens":2}]`)},
		{name: "usage elsewhere", url: anyChat, body: `{"choices":[{"message":{"usage":{"prompt_tokens":9,"completion_tokens":2}}}],"x":{"usage":{"prompt_tokens":9,"completion_tokens":2}}}`},
		{name: "zero is a usage where nothing was said", url: anyChat, body: `{"choices":[{"message":{"content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":0,"completion_tokens":0}}`, found: true},
		{name: "negative", url: anyChat, body: chatWith(`{"prompt_tokens":-5,"completion_tokens":2}`), strange: true},
		{name: "a negative detail", url: anyChat, body: chatWith(`{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":-1}}`), strange: true},
		{name: "beyond measure", url: anyChat, body: chatWith(`{"prompt_tokens":1099511627777,"completion_tokens":2}`), strange: true},
		{name: "a detail beyond measure", url: anyChat, body: chatWith(`{"prompt_tokens":5,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":1099511627777}}`), strange: true},
		{name: "half a token", url: anyChat, body: chatWith(`{"prompt_tokens":0.5,"completion_tokens":2}`), strange: true},
		{name: "a count in quotes is a count, as protocol buffers write it", url: anyChat, body: chatWith(`{"prompt_tokens":"5","completion_tokens":2}`), usage: book.Usage{Input: 5, Output: 2}},
		{name: "a count in words", url: anyChat, body: chatWith(`{"prompt_tokens":"five","completion_tokens":2}`), strange: true},
		{name: "no count in quotes", url: anyChat, body: chatWith(`{"prompt_tokens":"","completion_tokens":2}`), strange: true},
		{name: "a negative count in quotes", url: anyChat, body: chatWith(`{"prompt_tokens":"-5","completion_tokens":2}`), strange: true},
		{name: "a count that is true", url: anyChat, body: chatWith(`{"prompt_tokens":true,"completion_tokens":2}`), strange: true},
		{
			name: "a proxy fills the names that it does not use with zeros", url: anyChat,
			body: chatWith(`{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14,"prompt_tokens_details":{"cached_tokens":4},
				"completion_tokens_details":{"reasoning_tokens":3},"input_tokens":0,"output_tokens":0,"input_tokens_details":{"cached_tokens":0},"output_tokens_details":{"reasoning_tokens":0}}`),
			usage: book.Usage{Input: 5, CacheRead: 4, Output: 2, Reasoning: 3},
		},
		{
			name: "zeros in a later chunk take nothing back", url: anyChat,
			body:  sse(`{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14}}`, `{"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}`),
			usage: book.Usage{Input: 9, Output: 5},
		},
		{
			name: "but a negative count does not go away", url: anyChat, strange: true,
			body: sse(`{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5}}`, `{"choices":[],"usage":{"prompt_tokens":-9,"completion_tokens":0}}`),
		},
		{
			name: "LiteLLM says what is cached twice", url: anyChat,
			body: chatWith(`{"prompt_tokens":100,"completion_tokens":5,"total_tokens":105,"cache_read_input_tokens":40,"cache_creation_input_tokens":30,
				"prompt_tokens_details":{"cached_tokens":40,"cache_creation_tokens":30,"cache_creation_token_details":{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":20}}}`),
			usage: book.Usage{Input: 30, CacheRead: 40, CacheWrite5m: 10, CacheWrite1h: 20, Output: 5},
		},
		{
			name: "Mistral's other name of what is cached", url: "https://api.mistral.ai/v1/chat/completions", body: chatWith(`{"prompt_tokens":20,"completion_tokens":3,"num_cached_tokens":16}`),
			usage: book.Usage{Input: 4, CacheRead: 16, Output: 3},
		},
		{
			name: "Vercel's write", url: "https://ai-gateway.vercel.sh/v1/chat/completions", body: chatWith(`{"prompt_tokens":20,"completion_tokens":3,"cache_creation_input_tokens":16}`),
			usage: book.Usage{Input: 4, CacheWrite5m: 16, Output: 3},
		},
		{
			name: "LiteLLM without details", url: anyChat, body: chatWith(`{"prompt_tokens":100,"completion_tokens":5,"cache_read_input_tokens":40,"cache_creation_input_tokens":30}`),
			usage: book.Usage{Input: 30, CacheRead: 40, CacheWrite5m: 30, Output: 5},
		},
		{
			name: "Alibaba", url: "https://dashscope-intl.aliyuncs.com/compatible-mode/v1/chat/completions",
			body: chatWith(`{"prompt_tokens":100,"completion_tokens":5,"total_tokens":105,
				"prompt_tokens_details":{"cached_tokens":40,"cache_type":"ephemeral","cache_creation_input_tokens":30,"cache_creation":{"ephemeral_5m_input_tokens":30}}}`),
			usage: book.Usage{Input: 30, CacheRead: 40, CacheWrite5m: 30, Output: 5},
		},
		{
			name: "Moonshot", url: "https://api.moonshot.ai/v1/chat/completions", body: chatWith(`{"prompt_tokens":100,"completion_tokens":5,"total_tokens":105,"cached_tokens":40}`),
			usage: book.Usage{Input: 60, CacheRead: 40, Output: 5},
		},
		{
			name: "cached audio and images are parts of what was cached", url: anyChat,
			body: chatWith(`{"prompt_tokens":100,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":60,"audio_tokens":50,"image_tokens":20,
				"cached_tokens_details":{"audio_tokens":30,"image_tokens":15}}}`),
			usage: book.Usage{Input: 15, CacheRead: 30, CacheReadAudio: 30, InputAudio: 20, InputImage: 5, Output: 5},
		},
		{
			name: "an implausible chunk is replaced by a later one", url: anyChat,
			body:  sse(`{"choices":[],"usage":{"prompt_tokens":-9,"completion_tokens":2}}`, `{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}`),
			usage: book.Usage{Input: 9, Output: 2},
		},
	})
}

func TestOpenAI_OthersDiffer(t *testing.T) {
	t.Parallel()
	check(t, []golden{
		{
			name: "xAI leaves reasoning out of the completion, and counts the cost in ticks", url: "https://api.x.ai/v1/chat/completions",
			body: chatWith(`{"prompt_tokens":100,"completion_tokens":20,"total_tokens":200,"prompt_tokens_details":{"cached_tokens":64},
				"completion_tokens_details":{"reasoning_tokens":80},"cost_in_usd_ticks":1234567895}`),
			usage: book.Usage{Input: 36, CacheRead: 64, Output: 20, Reasoning: 80}, cost: "123456790",
		},
		{
			name: "and has it inside the output of responses", url: "https://api.x.ai/v1/responses",
			body: `{"status":"completed","usage":{"input_tokens":100,"output_tokens":90,"total_tokens":190,"output_tokens_details":{"reasoning_tokens":80},
				"server_side_tool_usage_details":{"web_search_calls":2,"x_search_calls":1}}}`,
			usage: book.Usage{Input: 100, Output: 10, Reasoning: 80, WebSearches: 3},
		},
		{
			name: "Vercel leaves reasoning out of completion and total", url: "https://ai-gateway.vercel.sh/v1/chat/completions",
			body: chatWith(`{"prompt_tokens":61,"completion_tokens":100,"total_tokens":161,"completion_tokens_details":{"reasoning_tokens":40},
				"cost":0.0002833,"market_cost":0.0002833}`),
			usage: book.Usage{Input: 61, Output: 100, Reasoning: 40}, cost: "283300",
		},
		{
			name: "Vercel with a key of the caller's own says what the market asks", url: "https://ai-gateway.vercel.sh/v1/chat/completions",
			body:  chatWith(`{"prompt_tokens":61,"completion_tokens":10,"cost":0,"is_byok":true,"market_cost":0.5}`),
			usage: book.Usage{Input: 61, Output: 10}, cost: "500000000",
		},
		{
			name: "Vercel's responses are as OpenAI's", url: "https://ai-gateway.vercel.sh/v1/responses",
			body:  `{"status":"completed","usage":{"input_tokens":61,"output_tokens":100,"output_tokens_details":{"reasoning_tokens":40}}}`,
			usage: book.Usage{Input: 61, Output: 60, Reasoning: 40},
		},
		{
			name: "Vercel behind a proxy is known by its market cost", url: anyChat,
			body:  chatWith(`{"prompt_tokens":61,"completion_tokens":100,"completion_tokens_details":{"reasoning_tokens":40},"cost":0.5,"market_cost":0.5}`),
			usage: book.Usage{Input: 61, Output: 100, Reasoning: 40}, cost: "500000000",
		},
		{
			name: "OpenRouter's cost has the fees in it", url: "https://openrouter.ai/api/v1/chat/completions",
			body: chatWith(`{"prompt_tokens":10,"completion_tokens":5,"cost":0.02003,"is_byok":false,"cost_details":{"upstream_inference_cost":0.00003},
				"server_tool_use":{"web_search_requests":2}}`),
			usage: book.Usage{Input: 10, Output: 5, WebSearches: 2}, cost: "20030000",
		},
		{
			name: "with a key of the caller's own the upstream cost is the real one", url: "https://openrouter.ai/api/v1/chat/completions",
			body:  chatWith(`{"prompt_tokens":10,"completion_tokens":5,"cost":0,"is_byok":true,"cost_details":{"upstream_inference_cost":0.00003}}`),
			usage: book.Usage{Input: 10, Output: 5}, cost: "30000",
		},
		{
			name: "a model that is free costs nothing, which is a statement", url: "https://openrouter.ai/api/v1/chat/completions",
			body:  chatWith(`{"prompt_tokens":10,"completion_tokens":5,"cost":0}`),
			usage: book.Usage{Input: 10, Output: 5}, cost: "0",
		},
		{
			name: "reasoning that exceeds the completion is not in it", url: "https://openrouter.ai/api/v1/chat/completions",
			body:  chatWith(`{"prompt_tokens":43,"completion_tokens":10,"total_tokens":53,"completion_tokens_details":{"reasoning_tokens":11}}`),
			usage: book.Usage{Input: 43, Output: 10, Reasoning: 11},
		},
		{
			name: "DeepSeek's cache hits are inside the prompt, and its model may be another", url: "https://api.deepseek.com/chat/completions",
			body: `{"model":"deepseek-v9","choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":100,"completion_tokens":7,"total_tokens":107,
				"prompt_cache_hit_tokens":64,"prompt_cache_miss_tokens":36,"prompt_tokens_details":{"cached_tokens":64}}}`,
			usage: book.Usage{Input: 36, CacheRead: 64, Output: 7}, model: "deepseek-v9",
		},
		{
			name: "DeepSeek without details", url: "https://api.deepseek.com/chat/completions",
			body:  chatWith(`{"prompt_tokens":100,"completion_tokens":7,"prompt_cache_hit_tokens":64}`),
			usage: book.Usage{Input: 36, CacheRead: 64, Output: 7},
		},
		{
			name: "Mistral's cached tokens are inside the prompt, its audio is not", url: "https://api.mistral.ai/v1/chat/completions",
			body: chatWith(`{"prompt_tokens":20,"completion_tokens":30,"total_tokens":425,"num_cached_tokens":16,"prompt_audio_seconds":3,
				"prompt_tokens_details":{"cached_tokens":16,"audio_tokens":375},"service_tier":"standard"}`),
			usage: book.Usage{Input: 4, CacheRead: 16, InputAudio: 375, Output: 30}, tier: "standard",
		},
		{
			name: "Perplexity's fee goes by the context of its search", url: "https://api.perplexity.ai/chat/completions",
			body:  chatWith(`{"prompt_tokens":11,"completion_tokens":62,"total_tokens":73,"search_context_size":"low","cost":{"request_cost":0.005,"total_cost":0.00507}}`),
			usage: book.Usage{Input: 11, Output: 62}, tier: "low", cost: "5070000",
		},
		{
			name: "a call that is kept to a region", url: "https://eu.api.openai.com/v1/chat/completions",
			body:  `{"model":"m","service_tier":"priority","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":3}}`,
			usage: book.Usage{Input: 20, Output: 3}, tier: "priority+eu", model: "m",
		},
		{
			name: "a call that is kept to a region, without a tier", url: "https://us.api.openai.com/v1/chat/completions",
			body:  `{"model":"m","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":3}}`,
			usage: book.Usage{Input: 20, Output: 3}, tier: "us", model: "m",
		},
		{
			name: "Mistral streams its usage unasked, with the last choice", url: "https://api.mistral.ai/v1/chat/completions",
			body: sse(`{"choices":[{"delta":{"content":[{"type":"text","text":"Yes"}]}}]}`,
				`{"choices":[{"delta":{"content":"."},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":3,"total_tokens":23}}`),
			usage: book.Usage{Input: 20, Output: 3},
		},
		{
			name: "Groq says the same usage in two places and chunks", url: "https://api.groq.com/openai/v1/chat/completions",
			body: sse(`{"choices":[{"delta":{},"finish_reason":"stop"}],"x_groq":{"id":"r","usage":{"prompt_tokens":18,"completion_tokens":73,"total_tokens":91}}}`,
				`{"choices":[],"usage":{"prompt_tokens":18,"completion_tokens":73,"total_tokens":91},"x_groq":{"usage":{"prompt_tokens":18,"completion_tokens":73,"total_tokens":91}}}`),
			usage: book.Usage{Input: 18, Output: 73},
		},
		{
			name: "older streams of Groq have it in x_groq alone", url: "https://api.groq.com/openai/v1/chat/completions",
			body:  sse(`{"choices":[{"delta":{},"finish_reason":"stop"}],"x_groq":{"usage":{"prompt_tokens":18,"completion_tokens":73,"total_tokens":91}}}`),
			usage: book.Usage{Input: 18, Output: 73},
		},
		{
			name: "Perplexity raises its usage in every chunk and sends no end mark", url: "https://api.perplexity.ai/chat/completions",
			body: sseOpen(`{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":12,"completion_tokens":1,"total_tokens":13}}`,
				`{"choices":[{"delta":{"content":"b"}}],"usage":{"prompt_tokens":12,"completion_tokens":2,"total_tokens":14}}`,
				`{"choices":[{"delta":{"content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15,
				"num_search_queries":1,"cost":{"input_tokens_cost":0.000012,"output_tokens_cost":0.000003,"request_cost":0.005,"total_cost":0.005015}}}`),
			usage: book.Usage{Input: 12, Output: 3}, cost: "5015000",
		},
		{
			name: "Perplexity's research pays for citations, thoughts and searches beside its total", url: "https://api.perplexity.ai/chat/completions",
			body:  chatWith(`{"prompt_tokens":33,"completion_tokens":100,"total_tokens":133,"citation_tokens":50,"num_search_queries":18,"reasoning_tokens":70}`),
			usage: book.Usage{Input: 83, Output: 100, Reasoning: 70, WebSearches: 18},
		},
		{
			name: "Gemini's compatible API leaves thoughts to be found in the total", url: "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
			body:  chatWith(`{"prompt_tokens":35,"completion_tokens":12,"total_tokens":109}`),
			usage: book.Usage{Input: 35, Output: 12, Reasoning: 62},
		},
		{
			name: "Grok on Azure has more cached tokens than prompt, and no cost", url: "https://x.services.ai.azure.com/models/chat/completions",
			body:  chatWith(`{"prompt_tokens":235,"completion_tokens":90,"total_tokens":325,"prompt_tokens_details":{"cached_tokens":373},"cost_in_usd_ticks":0}`),
			usage: book.Usage{CacheRead: 235, Output: 90},
		},
		{
			name: "Azure begins with a chunk of filters", url: "https://x.openai.azure.com/openai/deployments/mine/chat/completions?api-version=2025-01-01",
			body: sse(`{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}`, `{"choices":[{"delta":{"content":"Yes."}}]}`,
				`{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}`),
			usage: book.Usage{Input: 9, Output: 2}, model: "mine",
		},
		{
			name: "vLLM and llama.cpp have bare totals", url: "http://127.0.0.1:8000/v1/chat/completions",
			body:  chatWith(`{"prompt_tokens":57,"total_tokens":77,"completion_tokens":20,"prompt_tokens_details":null}`),
			usage: book.Usage{Input: 57, Output: 20},
		},
		{name: "a negative cost", url: anyChat, body: chatWith(`{"prompt_tokens":9,"completion_tokens":2,"cost":-1}`), usage: book.Usage{Input: 9, Output: 2}, strange: true},
		{name: "a cost in quotes", url: anyChat, body: chatWith(`{"prompt_tokens":9,"completion_tokens":2,"cost":"0.5"}`), usage: book.Usage{Input: 9, Output: 2}, cost: "500000000"},
		{name: "a cost that is a word", url: anyChat, body: chatWith(`{"prompt_tokens":9,"completion_tokens":2,"cost":"free"}`), usage: book.Usage{Input: 9, Output: 2}},
		{name: "a cost beyond measure", url: anyChat, body: chatWith(`{"prompt_tokens":9,"completion_tokens":2,"cost":1e99}`), usage: book.Usage{Input: 9, Output: 2}, strange: true},
	})
}

func TestOpenAI_Responses(t *testing.T) {
	t.Parallel()
	const usage = `{"input_tokens":1000,"input_tokens_details":{"cached_tokens":600,"cache_write_tokens":100},"output_tokens":400,
		"output_tokens_details":{"reasoning_tokens":300},"total_tokens":1400}`
	want := book.Usage{Input: 300, CacheRead: 600, CacheWrite5m: 100, Output: 100, Reasoning: 300}
	searched := want
	searched.WebSearches = 2
	const items = `[{"type":"reasoning","summary":[]},{"type":"web_search_call","action":{"type":"search","query":"q"}},
		{"type":"web_search_call","action":{"type":"open_page","url":"u"}},{"type":"web_search_call"},{"type":"message","content":[{"type":"output_text","text":"Yes."}]}]`
	check(t, []golden{
		{
			name: "details are inside, and searches are items, of which opening a page is none", url: openAIResp,
			body:  `{"id":"r-1","status":"completed","model":"m-1","service_tier":"priority","output":` + items + `,"usage":` + usage + `}`,
			usage: searched, tier: "priority", model: "m-1", finished: []string{"completed"},
		},
		{
			name: "a cache that lives for long is the longer of two", url: openAIResp,
			body: `{"status":"completed","usage":{"input_tokens":100,"output_tokens":1,"input_tokens_details":{"cached_tokens":10,"cache_write_tokens":80,
				"cache_write_tokens_details":{"ttl_30m_tokens":50,"ttl_12h_tokens":30}}}}`,
			usage: book.Usage{Input: 10, CacheRead: 10, CacheWrite5m: 50, CacheWrite1h: 30, Output: 1},
		},
		{
			name: "searches that the provider counts itself are what it charges", url: openAIResp,
			body:  `{"status":"completed","output":` + items + `,"tool_usage":{"web_search":{"num_requests":1}},"usage":{"input_tokens":9,"output_tokens":1}}`,
			usage: book.Usage{Input: 9, Output: 1, WebSearches: 1},
		},
		{
			name: "images that a tool makes are another model's", url: openAIResp,
			body: sseOpen(`{"type":"response.created","response":{"status":"in_progress","tools":[{"type":"image_generation","model":"gpt-image-x"},{"type":"function","name":"f"}]}}`,
				`{"type":"response.completed","response":{"model":"gpt-x","status":"completed","tools":[{"type":"image_generation","model":"gpt-image-x"},{"type":"function","name":"f"}],
				"tool_usage":{"image_gen":{"input_tokens":60,"input_tokens_details":{"image_tokens":40,"text_tokens":20},"output_tokens":500,"total_tokens":560,
				"cached_tokens":30,"cached_tokens_details":{"cached_image_tokens":25,"cached_text_tokens":5},"output_tokens_details":{"image_tokens":480,"text_tokens":20}},
				"web_search":{"num_requests":0}},"usage":{"input_tokens":9,"output_tokens":1}}}`),
			usage: book.Usage{Input: 9, Output: 1}, model: "gpt-x",
			also: []ModelUsage{{"gpt-image-x", book.Usage{Input: 15, CacheRead: 30, InputImage: 15, Output: 20, OutputImage: 480}}},
		},
		{
			name: "by the model that the tool names", url: openAIResp,
			body: `{"model":"gpt-x","status":"completed","tools":[{"type":"web_search","model":"nobody"},{"type":"image_generation","model":"gpt-image-x"},{"type":"function"}],
				"tool_usage":{"image_gen":{"input_tokens":6,"output_tokens":500,"total_tokens":506}},"usage":{"input_tokens":9,"output_tokens":1}}`,
			usage: book.Usage{Input: 9, Output: 1}, also: []ModelUsage{{"gpt-image-x", book.Usage{Input: 6, OutputImage: 500}}},
		},
		{
			name: "by the model that the tool has where it names none", url: openAIResp,
			body: `{"model":"gpt-x","status":"completed","tools":[{"type":"image_generation"}],"tool_usage":{"image_gen":{"input_tokens":6,"output_tokens":500,"total_tokens":506}},
				"usage":{"input_tokens":9,"output_tokens":1}}`,
			usage: book.Usage{Input: 9, Output: 1}, also: []ModelUsage{{imageModel, book.Usage{Input: 6, OutputImage: 500}}},
		},
		{
			name: "a tool that was not used", url: openAIResp,
			body:  `{"status":"completed","tool_usage":{"image_gen":{"input_tokens":0,"output_tokens":0,"total_tokens":0},"web_search":{"num_requests":0}},"usage":{"input_tokens":9,"output_tokens":1}}`,
			usage: book.Usage{Input: 9, Output: 1},
		},
		{
			name: "a tool with a negative count", url: openAIResp, strange: true,
			body:  `{"status":"completed","tool_usage":{"image_gen":{"input_tokens":-1,"output_tokens":0}},"usage":{"input_tokens":9,"output_tokens":1}}`,
			usage: book.Usage{Input: 9, Output: 1},
		},
		{
			name: "a negative count of searches", url: openAIResp, strange: true,
			body: `{"status":"completed","tool_usage":{"web_search":{"num_requests":-1}},"usage":{"input_tokens":9,"output_tokens":1}}`,
		},
		{
			name: "who writes a drawing is another model", url: openAIResp,
			body: `{"model":"gpt-x","status":"completed","output":[{"type":"image_generation_call","svg_usage":{"model":"gpt-y","input_tokens":20,"output_tokens":90,"reasoning_tokens":40,"total_tokens":110}},
				{"type":"image_generation_call","svg_usage":{"model":"gpt-y","input_tokens":1,"output_tokens":2,"reasoning_tokens":0,"total_tokens":3}}],"usage":{"input_tokens":9,"output_tokens":1}}`,
			usage: book.Usage{Input: 9, Output: 1}, also: []ModelUsage{{"gpt-y", book.Usage{Input: 21, Output: 52, Reasoning: 40}}},
		},
		{
			name: "a drawing that is cut in the middle does not hide what follows", url: openAIResp,
			body: sseOpen(`{"output":[{"svg_usage":{"model":"gpt-y","input_tokens":20,`,
				`{"type":"response.completed","response":{"status":"completed","usage":{"input_tokens":9,"output_tokens":1}}}`),
			usage: book.Usage{Input: 9, Output: 1},
		},
		{
			name: "the end of a response of a session", url: openAIResp,
			body: sseOpen(`{"type":"response.done","response":{"status":"completed","usage":{"total_tokens":150,"input_tokens":100,"output_tokens":50,
				"input_token_details":{"text_tokens":40,"audio_tokens":60,"cached_tokens":30,"cached_tokens_details":{"text_tokens":10,"audio_tokens":20}},
				"output_token_details":{"text_tokens":10,"audio_tokens":40}}}}`),
			usage: book.Usage{Input: 30, CacheRead: 10, CacheReadAudio: 20, InputAudio: 40, Output: 10, OutputAudio: 40},
		},
		{
			name: "completed", url: openAIResp,
			body: sseOpen(`{"type":"response.created","response":{"id":"r-1","status":"in_progress","output":[],"usage":null}}`,
				`{"type":"response.output_text.delta","delta":"Yes."}`,
				`{"type":"response.output_item.done","item":{"type":"web_search_call","action":{"type":"search"}}}`,
				`{"type":"response.completed","response":{"id":"r-1","status":"completed","output":`+items+`,"usage":`+usage+`}}`),
			usage: searched,
		},
		{
			name: "incomplete", url: openAIResp,
			body:  sseOpen(`{"type":"response.incomplete","response":{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"usage":` + usage + `}}`),
			usage: want, finished: []string{"incomplete", "max_output_tokens"},
		},
		{
			name: "failed", url: openAIResp,
			body:  sseOpen(`{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error"},"usage":` + usage + `}}`),
			usage: want,
		},
		{
			name: "cut", url: openAIResp, unended: true,
			body: sseOpen(`{"type":"response.created","response":{"id":"r-1","status":"in_progress","usage":null}}`, `{"type":"response.output_text.delta","delta":"Yes."}`),
		},
	})

	cut := readIn(1, at(t, http.MethodPost, openAIResp), 200, nil, []byte(sseOpen(
		`{"type":"response.in_progress","response":{"status":"in_progress","output":[{"type":"web_search_call"},{"type":"web_search_call"},{"type":"web_search_call"}]}}`,
		`{"type":"response.output_item.added","item":{"type":"web_search_call","action":{"type":"search"}}}`,
		`{"type":"response.output_item.done","item":{"type":"web_search_call","action":{"type":"search"}}}`,
		`{"type":"response.in_progress","response":{"status":"in_progress","output":[]}}`)))
	require.False(t, cut.Pending, "it is not known to go on")
	require.False(t, cut.Found)
	u, _ := cut.Charged(7)
	require.Equal(t, book.Usage{Input: 7, WebSearches: 1}, u, "a search was made, whatever became of the reply")

	queued := readIn(1, at(t, http.MethodPost, openAIResp), 200, nil, []byte(`{"id":"r-1","status":"queued","background":true,"output":[],"usage":null}`))
	require.True(t, queued.Pending)
	require.False(t, queued.Found)
	got := at(t, http.MethodGet, openAIResp+"/r-1")
	require.True(t, got.Retrieval, "the usage is charged once by the id")
	later := readIn(1, got, 200, nil, []byte(`{"id":"r-1","status":"completed","usage":`+usage+`}`))
	require.False(t, later.Pending)
	require.Equal(t, want, later.Usage)
	require.Equal(t, queued.ID, later.ID)
}

func TestOpenAI_OtherEndpoints(t *testing.T) {
	t.Parallel()
	const api = "https://api.openai.com/v1/"
	check(t, []golden{
		{name: "completions", url: api + "completions", body: `{"choices":[{"text":"Yes."}],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}`,
			usage: book.Usage{Input: 5, Output: 7}},
		{name: "embeddings", url: api + "embeddings", body: `{"data":[{"embedding":[0.1,-2e-3]}],"model":"e","usage":{"prompt_tokens":5,"total_tokens":5}}`,
			usage: book.Usage{Input: 5}, model: "e"},
		{name: "embeddings with a total alone", url: "https://api.voyageai.com/v1/embeddings", body: `{"usage":{"total_tokens":12}}`, usage: book.Usage{Input: 12}},
		{name: "rerank", url: "https://api.voyageai.com/v1/rerank", body: `{"usage":{"total_tokens":43}}`, usage: book.Usage{Input: 43}},
		{name: "images without details of the output", url: api + "images/generations",
			body:  `{"data":[{"b64_json":"AAAA"}],"usage":{"total_tokens":4200,"input_tokens":60,"output_tokens":4140,"input_tokens_details":{"text_tokens":40,"image_tokens":20}}}`,
			usage: book.Usage{Input: 40, InputImage: 20, OutputImage: 4140}},
		{name: "images with details of the output", url: api + "images/edits",
			body:  `{"usage":{"input_tokens":60,"output_tokens":4140,"output_tokens_details":{"image_tokens":4000,"text_tokens":140}}}`,
			usage: book.Usage{Input: 60, OutputImage: 4000, Output: 140}},
		{name: "an image and its drawing", url: api + "images/generations",
			body:  `{"data":[{}],"usage":{"input_tokens":60,"output_tokens":4140},"svg_usage":{"model":"gpt-y","input_tokens":20,"output_tokens":90,"reasoning_tokens":40,"total_tokens":110}}`,
			usage: book.Usage{Input: 60, OutputImage: 4140}, also: []ModelUsage{{"gpt-y", book.Usage{Input: 20, Output: 50, Reasoning: 40}}}},
		{name: "images that say their cost alone", url: "https://api.x.ai/v1/images/generations", body: `{"data":[],"usage":{"cost_in_usd_ticks":200000000}}`, cost: "20000000"},
		{name: "images in a stream", url: api + "images/generations",
			body:  sseOpen(`{"type":"image_generation.partial_image","b64_json":"AAAA"}`, `{"type":"image_generation.completed","usage":{"input_tokens":6,"output_tokens":100}}`),
			usage: book.Usage{Input: 6, OutputImage: 100}},
		{name: "transcription by tokens", url: api + "audio/transcriptions",
			body:  `{"text":"Yes.","usage":{"type":"tokens","input_tokens":40,"input_token_details":{"text_tokens":3,"audio_tokens":37},"output_tokens":12,"total_tokens":52}}`,
			usage: book.Usage{Input: 3, InputAudio: 37, Output: 12}},
		{name: "transcription in a stream", url: api + "audio/transcriptions",
			body:  sseOpen(`{"type":"transcript.text.delta","delta":"Yes."}`, `{"type":"transcript.text.done","text":"Yes.","usage":{"type":"tokens","input_tokens":40,"input_token_details":{"audio_tokens":40},"output_tokens":12}}`),
			usage: book.Usage{InputAudio: 40, Output: 12}},
		{name: "speech in a stream", url: api + "audio/speech",
			body:  sseOpen(`{"type":"speech.audio.delta","audio":"AAAA"}`, `{"type":"speech.audio.done","usage":{"input_tokens":14,"output_tokens":101,"total_tokens":115}}`),
			usage: book.Usage{Input: 14, OutputAudio: 101}},
		{name: "speech as sound", url: api + "audio/speech", header: http.Header{"Content-Type": {"audio/mpeg"}}, body: `{"usage":{"prompt_tokens":1,"completion_tokens":1}}`, unended: true},
	})
	timed := readIn(1, at(t, http.MethodPost, api+"audio/transcriptions"), 200, nil, []byte(`{"text":"Yes.","usage":{"type":"duration","seconds":12.5}}`))
	require.True(t, timed.Found)
	require.Equal(t, book.Usage{Units: units.Of(units.InputAudio, 12_500)}, timed.Usage)
	require.Equal(t, 12500*time.Millisecond, timed.AudioDuration)
}

func TestOpenAI_StreamThatIsCutLeavesAnEstimate(t *testing.T) {
	t.Parallel()
	body := sseOpen(`{"choices":[{"delta":{"reasoning_content":"Let me think about it."}}]}`, `{"choices":[{"delta":{"content":"0123456789"}}]}`,
		`{"choices":[{"delta":{"content":"\u4f60好"}}]}`, `{"choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{\"a\":1}"}}]}}]}`)
	got := readIn(3, at(t, http.MethodPost, openAIChat), 200, nil, []byte(body))
	require.False(t, got.Found)
	require.False(t, got.Complete)
	sound := readIn(1, at(t, http.MethodPost, openAIResp), 200, nil, []byte(sseOpen(`{"type":"response.output_audio.delta","delta":"UklGRgAA"}`,
		`{"type":"response.output_audio_transcript.delta","delta":"Yes."}`)))
	require.EqualValues(t, 4, sound.OutputChars, "sound is no text")
	require.EqualValues(t, 22+10+2+1+7, got.OutputChars)
	require.EqualValues(t, 10+2, got.OutputEstimate, "a quarter of the Latin letters, and each of the others")
	u, estimated := got.Charged(77)
	require.True(t, estimated)
	require.Equal(t, book.Usage{Input: 77, Output: 12}, u)
}
