package meter

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
)

// Each place where a format puts what a model has written is counted, each by its own letters, so that none can stand for
// another. A reply that is cut is charged by them.
func TestReader_CountsWhatAModelHasWritten(t *testing.T) {
	t.Parallel()
	const (
		generate = "https://generativelanguage.googleapis.com/v1beta/models/g:generateContent"
		ollama   = "http://localhost:11434/api/chat"
		cohere2  = "https://api.cohere.com/v2/chat"
		cohere1  = "https://api.cohere.com/v1/generate"
		bedrock  = "https://bedrock-runtime.us-east-1.amazonaws.com/model/amazon.nova-lite-v1:0/"
		complete = "https://api.openai.com/v1/completions"
	)
	choice := `{"content":"a","reasoning_content":"bb","reasoning":"cccc","refusal":"dddddddd","audio":{"transcript":"eeeeeeeeeeeeeeee"},` +
		`"tool_calls":[{"function":{"name":"ffffffffffffffffffffffffffffffff","arguments":"gggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggg"}}],"function_call":{"arguments":"h"}}`
	for _, c := range []struct {
		name, url, body string
		chars           int64
	}{
		{"chat", openAIChat, `{"choices":[{"message":` + choice + `}]}`, 1 + 2 + 4 + 8 + 16 + 32 + 64 + 1},
		{"chat, parts", openAIChat, `{"choices":[{"message":{"content":[{"type":"text","text":"abc"}]}}]}`, 3},
		{"chat, events", openAIChat, sseOpen(`{"choices":[{"delta":`+choice+`}]}`, `{"choices":[{"delta":{"content":[{"text":"abc"}]}}]}`), 128 + 3},
		{"completions", complete, `{"choices":[{"text":"abc"}]}`, 3},
		{"responses", openAIResp, `{"output":[{"content":[{"text":"a"}]},{"summary":[{"text":"bb"}]},{"arguments":"cccc"}]}`, 7},
		{"responses, events", openAIResp, sseOpen(`{"type":"response.output_text.delta","delta":"a"}`, `{"type":"response.function_call_arguments.delta","delta":"bb"}`), 3},
		{"responses, a whole one in an event", openAIResp, sseOpen(`{"type":"response.incomplete","response":{"output":[{"content":[{"text":"a"}]},{"summary":[{"text":"bb"}]},{"arguments":"cccc"}]}}`), 7},
		{"messages", messagesURL, `{"content":[{"text":"a"},{"thinking":"bb"},{"partial_json":"cccc"}]}`, 7},
		{"messages, events", messagesURL, sseOpen(`{"type":"message_start","message":{"content":[{"text":"a"},{"thinking":"bb"},{"partial_json":"cccc"}]}}`, `{"content_block":{"text":"dddddddd","thinking":"eeeeeeeeeeeeeeee","partial_json":"f"}}`,
			`{"delta":{"text":"gg","thinking":"hhhh","partial_json":"iiiiiiii"}}`), 7 + 25 + 14},
		{"text completions of Anthropic's", "https://api.anthropic.com/v1/complete", `{"completion":"abc"}`, 3},
		{"gemini", generate, `{"candidates":[{"content":{"parts":[{"text":"a"},{"executableCode":{"code":"bb"}},{"functionCall":{"name":"cccc"}}]}}]}`, 7},
		{"ollama", ollama, `{"response":"a","thinking":"bb","message":{"content":"cccc","thinking":"dddddddd","tool_calls":[{"function":{"name":"eeeeeeeeeeeeeeee"}}]}}`, 31},
		{"cohere", cohere2, `{"message":{"content":[{"text":"a"},{"thinking":"bb"}],"tool_plan":"cccc","tool_calls":[{"function":{"name":"dddddddd","arguments":"eeeeeeeeeeeeeeee"}}]}}`, 31},
		{"cohere, events", cohere2, sseOpen(`{"type":"x","delta":{"message":{"content":{"text":"a","thinking":"bb"},"tool_plan":"cccc","tool_calls":{"function":{"name":"dddddddd","arguments":"eeeeeeeeeeeeeeee"}}}}}`), 31},
		{"cohere, version 1", cohere1, `{"text":"a","generations":[{"text":"bb"}]}`, 3},
		{"converse", bedrock + "converse", `{"output":{"message":{"content":[{"text":"a"},{"reasoningContent":{"reasoningText":{"text":"bb"}}},{"toolUse":{"name":"cccc"}}]}}}`, 7},
		{"converse, events", bedrock + "converse-stream", event("x", `{"delta":{"text":"a","reasoningContent":{"text":"bb"},"toolUse":{"input":"cccc"}},"start":{"toolUse":{"name":"dddddddd"}}}`), 15},
		{"invoke", bedrock + "invoke", `{"contentBlockDelta":{"delta":{"text":"a"}},"generation":"bb","outputText":"cccc","choices":[{"message":{"content":"dddddddd"},"delta":{"content":"eeeeeeeeeeeeeeee"}}],"outputs":[{"text":"f"}]}`, 32},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.chars, readIn(3, at(t, http.MethodPost, c.url), 200, nil, []byte(c.body)).OutputChars)
		})
	}
}

func TestReader_NamesTheReplyAndWhyItEnded(t *testing.T) {
	t.Parallel()
	const (
		generate = "https://generativelanguage.googleapis.com/v1beta/models/g:generateContent"
		cohere2  = "https://api.cohere.com/v2/chat"
		bedrock  = "https://bedrock-runtime.us-east-1.amazonaws.com/model/amazon.nova-lite-v1:0/"
	)
	for _, c := range []struct{ name, url, body, id, finish, tier string }{
		{"chat", openAIChat, `{"id":"i","choices":[{"finish_reason":"f"}],"service_tier":"t"}`, "i", "f", "t"},
		{"responses", openAIResp, `{"id":"i","status":"f","service_tier":"t"}`, "i", "f", "t"},
		{"an incomplete response", openAIResp, `{"id":"i","incomplete_details":{"reason":"f"}}`, "i", "f", ""},
		{"responses, events", openAIResp, sseOpen(`{"response":{"id":"i","incomplete_details":{"reason":"f"},"service_tier":"t"}}`), "i", "f", "t"},
		{"messages", messagesURL, `{"id":"i","stop_reason":"f","usage":{"service_tier":"t"}}`, "i", "f", "t"},
		{"messages, events", messagesURL, sseOpen(`{"message":{"id":"i","usage":{"service_tier":"t"}}}`, `{"delta":{"stop_reason":"f"}}`), "i", "f", "t"},
		{"a whole message in an event", messagesURL, sseOpen(`{"message":{"stop_reason":"f"}}`), "", "f", ""},
		{"gemini", generate, `{"responseId":"i","candidates":[{"finishReason":"f"}],"serviceTier":"t"}`, "i", "f", "t"},
		{"ollama", "http://localhost:11434/api/chat", `{"done_reason":"f"}`, "", "f", ""},
		{"cohere", cohere2, `{"id":"i","finish_reason":"f"}`, "i", "f", ""},
		{"cohere, events", cohere2, sseOpen(`{"id":"i","delta":{"finish_reason":"f"}}`), "i", "f", ""},
		{"cohere, version 1", "https://api.cohere.com/v1/chat", `{"generation_id":"i","generations":[{"finish_reason":"f"}]}`, "i", "f", ""},
		{"cohere, version 1, lines", "https://api.cohere.com/v1/chat", `{"response":{"generation_id":"i","finish_reason":"f"}}`, "i", "f", ""},
		{"converse", bedrock + "converse", `{"stopReason":"f","serviceTier":{"type":"t"}}`, "", "f", "t"},
		{"invoke", bedrock + "invoke", `{"id":"i","stopReason":"f"}`, "i", "f", ""},
		{"invoke, OpenAI's", bedrock + "invoke", `{"choices":[{"finish_reason":"f"}]}`, "", "f", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := readIn(3, at(t, http.MethodPost, c.url), 200, nil, []byte(c.body))
			require.Equal(t, c.id, got.ID)
			require.Equal(t, []string{c.finish}, got.FinishReasons)
			require.Equal(t, c.tier, got.ServiceTier)
		})
	}
}

// All counts of a message are read wherever its usage is.
func TestAnthropic_EachUsageHasEachCount(t *testing.T) {
	t.Parallel()
	const counts = `"input_tokens":1,"cache_read_input_tokens":2,"cache_creation_input_tokens":7,"cache_creation":{"ephemeral_5m_input_tokens":3,"ephemeral_1h_input_tokens":4},` +
		`"output_tokens":50,"output_tokens_details":{"thinking_tokens":20},"server_tool_use":{"web_search_requests":6}`
	want := book.Usage{Input: 1, CacheRead: 2, CacheWrite5m: 3, CacheWrite1h: 4, Output: 30, Reasoning: 20, WebSearches: 6}
	usage := `{` + counts + `,"cost":0.5,"iterations":[{"type":"advisor_message","model":"y",` + counts + `}]}`
	also := []ModelUsage{{"y", want}}
	check(t, []golden{
		{name: "a message", url: messagesURL, body: `{"usage":` + usage + `}`, usage: want, also: also, cost: "500000000"},
		{name: "the start", url: messagesURL, body: sseOpen(`{"message":{"usage":`+usage+`}}`, `{"type":"message_stop"}`), usage: want, also: also, cost: "500000000"},
		{name: "short writes alone", url: messagesURL, body: `{"usage":{"input_tokens":1,"output_tokens":1,"cache_creation":{"ephemeral_5m_input_tokens":3}}}`, usage: book.Usage{Input: 1, CacheWrite5m: 3, Output: 1}},
		{name: "the market's price", url: "https://ai-gateway.vercel.sh/v1/messages", body: `{"usage":{"input_tokens":1,"output_tokens":1,"cost":0,"is_byok":true,"market_cost":0.25}}`, usage: book.Usage{Input: 1, Output: 1}, cost: "250000000"},
		{name: "xAI's ticks", url: "https://api.x.ai/v1/messages", body: `{"usage":{"input_tokens":1,"output_tokens":1,"cost_in_usd_ticks":50}}`, usage: book.Usage{Input: 1, Output: 1}, cost: "5"},
	})
}

// Details are read under each name that they have with somebody.
func TestOpenAI_DetailsByAnyName(t *testing.T) {
	t.Parallel()
	const (
		in = `{"cached_tokens":30,"cache_write_tokens":20,"audio_tokens":25,"image_tokens":14,"cached_tokens_details":{"audio_tokens":10,"image_tokens":4},
			"cache_write_tokens_details":{"ttl_30m_tokens":15,"ttl_12h_tokens":5}}`
		out = `{"reasoning_tokens":7,"audio_tokens":5,"image_tokens":3,"text_tokens":35}`
	)
	want := book.Usage{Input: 25, CacheRead: 20, CacheReadAudio: 10, CacheWrite5m: 15, CacheWrite1h: 5, InputAudio: 15, InputImage: 10, Output: 35, Reasoning: 7, OutputAudio: 5, OutputImage: 3}
	for _, input := range []string{"prompt_tokens_details", "prompt_token_details", "input_tokens_details", "input_token_details"} {
		for _, output := range []string{"completion_tokens_details", "completion_token_details", "output_tokens_details", "output_token_details"} {
			usage := `"usage":{"prompt_tokens":100,"completion_tokens":50,"` + input + `":` + in + `,"` + output + `":` + out + `}`
			for _, body := range []string{`{` + usage + `}`, `{"response":{` + usage + `}}`, `{"x_groq":{` + usage + `}}`} {
				require.Equal(t, want, readIn(1, at(t, http.MethodPost, anyChat), 200, nil, []byte(body)).Usage, body)
			}
		}
	}
	speech := at(t, http.MethodPost, "https://api.openai.com/v1/audio/speech")
	for _, output := range []string{"completion_tokens_details", "completion_token_details", "output_tokens_details", "output_token_details"} {
		got := readIn(1, speech, 200, nil, []byte(`{"usage":{"input_tokens":1,"output_tokens":9,"`+output+`":{"text_tokens":9}}}`))
		require.Equal(t, book.Usage{Input: 1, Output: 9}, got.Usage, "what is said to be text is no sound")
	}
}
