package meter

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
)

const (
	cloudflareURL = "https://api.cloudflare.com/client/v4/accounts/a/ai/run/@cf/meta/llama-x"
	watsonxURL    = "https://eu-de.ml.cloud.ibm.com/ml/v1/text/"
	dashScopeURL  = "https://dashscope-intl.aliyuncs.com/api/v1/services/aigc/text-generation/generation"
	cortexURL     = "https://a.snowflakecomputing.com/api/v2/cortex/inference:complete"
	servingURL    = "https://adb-1.2.azuredatabricks.net/serving-endpoints/databricks-x/invocations"
)

func TestNative_FormatsAreReadAsTheirHostsSay(t *testing.T) {
	t.Parallel()
	check(t, []golden{
		{
			name: "Cloudflare", url: cloudflareURL, model: "@cf/meta/llama-x",
			body:  `{"result":{"response":"Yes.","tool_calls":[],"usage":{"prompt_tokens":31,"completion_tokens":7,"total_tokens":38,"prompt_tokens_details":{"cached_tokens":4}}},"success":true,"errors":[],"messages":[]}`,
			usage: book.Usage{Input: 27, CacheRead: 4, Output: 7},
		},
		{
			name: "Cloudflare in OpenAI's form, enveloped", url: "https://api.cloudflare.com/client/v4/accounts/a/ai/run",
			body:  `{"result":{"id":"c","model":"openai/gpt-x","choices":[{"message":{"content":"Yes."},"finish_reason":"stop"}],"usage":{"prompt_tokens":31,"completion_tokens":7}},"success":true}`,
			usage: book.Usage{Input: 31, Output: 7}, model: "openai/gpt-x", finished: []string{"stop"},
		},
		{
			name: "Cloudflare as events", url: cloudflareURL,
			body:  sse(`{"response":"Yes."}`, `{"response":"","usage":{"prompt_tokens":31,"completion_tokens":7,"total_tokens":38}}`),
			usage: book.Usage{Input: 31, Output: 7},
		},
		{
			name: "watsonx, chat", url: watsonxURL + "chat?version=2026-01-01", model: "ibm/granite-x",
			body:  `{"id":"c","model_id":"ibm/granite-x","choices":[{"message":{"content":"Yes."},"finish_reason":"stop"}],"usage":{"prompt_tokens":31,"completion_tokens":7,"total_tokens":38}}`,
			usage: book.Usage{Input: 31, Output: 7}, finished: []string{"stop"},
		},
		{
			name: "watsonx, text", url: watsonxURL + "generation?version=2026-01-01", model: "ibm/granite-x",
			body:  `{"model_id":"ibm/granite-x","results":[{"generated_text":"Yes.","generated_token_count":7,"input_token_count":31,"stop_reason":"eos_token"}]}`,
			usage: book.Usage{Input: 31, Output: 7}, finished: []string{"eos_token"},
		},
		{
			name: "watsonx, text of a deployment", url: "https://eu-de.ml.cloud.ibm.com/ml/v1/deployments/d/text/generation",
			body:  `{"model_id":"ibm/granite-x","results":[{"generated_text":"Yes.","generated_token_count":7,"input_token_count":31}]}`,
			usage: book.Usage{Input: 31, Output: 7},
		},
		{
			name: "watsonx, embeddings", url: watsonxURL + "embeddings", model: "ibm/slate-x",
			body:  `{"model_id":"ibm/slate-x","results":[{"embedding":[0.1]}],"input_token_count":12}`,
			usage: book.Usage{Input: 12},
		},
		{
			name: "DashScope", url: dashScopeURL,
			body: `{"output":{"choices":[{"finish_reason":"stop","message":{"role":"assistant","content":"Yes."}}]},
				"usage":{"input_tokens":31,"output_tokens":17,"total_tokens":48,"output_tokens_details":{"reasoning_tokens":10},"prompt_tokens_details":{"cached_tokens":8}},"request_id":"r"}`,
			usage: book.Usage{Input: 23, CacheRead: 8, Output: 7, Reasoning: 10}, finished: []string{"stop"},
		},
		{
			name: "DashScope, embeddings", url: "https://dashscope.aliyuncs.com/api/v1/services/embeddings/text-embedding/text-embedding",
			body: `{"output":{"embeddings":[{"embedding":[0.1]}]},"usage":{"total_tokens":12},"request_id":"r"}`, usage: book.Usage{Input: 12},
		},
		{
			name: "Snowflake", url: cortexURL,
			body:  sseOpen(`{"id":"c","model":"claude-x","choices":[{"delta":{"type":"text","content":"Yes."}}],"usage":{}}`, `{"id":"c","model":"claude-x","choices":[],"usage":{"prompt_tokens":31,"completion_tokens":7,"total_tokens":38,"guard_tokens":0}}`),
			usage: book.Usage{Input: 31, Output: 7}, model: "claude-x",
		},
		{
			name: "Databricks", url: servingURL, model: "databricks-x-2026",
			body:  `{"id":"c","model":"databricks-x-2026","choices":[{"message":{"content":"Yes."}}],"usage":{"prompt_tokens":31,"completion_tokens":7,"total_tokens":38}}`,
			usage: book.Usage{Input: 31, Output: 7},
		},
		{
			name: "Voyage, pictures and words", url: "https://api.voyageai.com/v1/multimodalembeddings", model: "voyage-multimodal-x",
			body:  `{"object":"list","data":[{"embedding":[0.1]}],"model":"voyage-multimodal-x","usage":{"text_tokens":9,"image_pixels":56000,"video_pixels":0,"total_tokens":109}}`,
			usage: book.Usage{Input: 9, InputImage: 100},
		},
		{
			name: "Voyage, in context", url: "https://api.voyageai.com/v1/contextualizedembeddings",
			body: `{"object":"list","data":[],"model":"voyage-context-x","usage":{"total_tokens":109}}`, usage: book.Usage{Input: 109},
		},
	})
}

// A stream of DashScope's has the usage so far in every event.
func TestNative_AStreamRaisesItsUsage(t *testing.T) {
	t.Parallel()
	part := func(text, finish, usage string) string {
		return `{"output":{"choices":[{"message":{"content":"` + text + `"},"finish_reason":"` + finish + `"}]},"usage":` + usage + `,"request_id":"r"}`
	}
	first := part("Y", "null", `{"input_tokens":31,"output_tokens":1,"total_tokens":32}`)
	whole := sseOpen(first, part("Yes.", "stop", `{"input_tokens":31,"output_tokens":7,"total_tokens":38}`))
	r := readIn(5, at(t, http.MethodPost, dashScopeURL), 200, nil, []byte(whole))
	require.Equal(t, book.Usage{Input: 31, Output: 7}, r.Usage)
	require.True(t, r.Complete)

	stream := sseOpen(`{"model_id":"m","results":[{"generated_text":"Y","generated_token_count":1,"input_token_count":31,"stop_reason":"not_finished"}]}`,
		`{"model_id":"m","results":[{"generated_text":"es.","generated_token_count":7,"input_token_count":0,"stop_reason":"eos_token"}]}`)
	r = readIn(5, at(t, http.MethodPost, watsonxURL+"generation_stream"), 200, nil, []byte(stream))
	require.Equal(t, book.Usage{Input: 31, Output: 7}, r.Usage)
}

func TestNative_Requests(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, url, body string
		want            Request
		limited         string // with a limit of 40
	}{
		{"Cloudflare", cloudflareURL, `{"prompt":"x","max_tokens":9000,"stream":true}`, Request{Model: "@cf/meta/llama-x", MaxTokens: 9000, Stream: true}, `{"prompt":"x","max_tokens":40,"stream":true}`},
		{"Cloudflare's envelope", "https://api.cloudflare.com/client/v4/accounts/a/ai/run", `{"model":"openai/gpt-x","input":{"messages":[],"max_tokens":70}}`, Request{Model: "openai/gpt-x", MaxTokens: 70}, ""},
		{"watsonx, chat", watsonxURL + "chat", `{"model_id":"m","messages":[]}`, Request{Model: "m"}, `{"max_tokens":40,"model_id":"m","messages":[]}`},
		{"watsonx, text", watsonxURL + "generation_stream", `{"model_id":"m","input":"x","parameters":{"max_new_tokens":90}}`, Request{Model: "m", MaxTokens: 90, Stream: true}, `{"model_id":"m","input":"x","parameters":{"max_new_tokens":40}}`},
		{"DashScope", dashScopeURL, `{"model":"qwen-x","input":{"messages":[{"role":"user","content":[{"image":"data:image/png;base64,QUJD"},{"text":"x"}]}]},"parameters":{"enable_search":true,"max_tokens":9}}`,
			Request{Model: "qwen-x", MaxTokens: 9, Images: 1, MediaBytes: 26, Open: true}, `{"model":"qwen-x","input":{"messages":[{"role":"user","content":[{"image":"data:image/png;base64,QUJD"},{"text":"x"}]}]},"parameters":{"enable_search":true,"max_tokens":9}}`},
		{"Snowflake", cortexURL, `{"model":"m","messages":[],"max_tokens":50}`, Request{Model: "m", MaxTokens: 50}, `{"model":"m","messages":[],"max_tokens":40}`},
		{"Databricks", servingURL, `{"messages":[],"max_tokens":50}`, Request{Model: "databricks-x", MaxTokens: 50}, `{"messages":[],"max_tokens":40}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := at(t, http.MethodPost, c.url)
			c.want.InputBytes, c.want.Choices, c.want.Prompts = int64(len(c.body))-c.want.MediaBytes, 1, 1
			require.Equal(t, c.want, ReadRequest(e, []byte(c.body)))
			if c.limited != "" {
				got, ok := LimitOutput(e, []byte(c.body), 40)
				require.True(t, ok)
				require.Equal(t, c.limited, string(got))
			}
			asked, ok := AskForUsage(e, []byte(c.body))
			require.False(t, ok, "none of them knows stream_options")
			require.Equal(t, c.body, string(asked))
		})
	}
}
