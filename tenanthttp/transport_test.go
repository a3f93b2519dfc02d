package tenanthttp_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
)

func TestTransport_BooksWhatTheReplySays(t *testing.T) {
	t.Parallel()
	const (
		anthropic = `{"id":"msg_1","type":"message","model":"test-model","content":[{"type":"text","text":"Hi"}],"stop_reason":"end_turn",` +
			`"usage":{"input_tokens":800,"cache_read_input_tokens":200,"output_tokens":500}}`
		gemini = `{"candidates":[{"content":{"parts":[{"text":"Hi"}]},"finishReason":"STOP"}],` +
			`"usageMetadata":{"promptTokenCount":1000,"cachedContentTokenCount":200,"candidatesTokenCount":500,"totalTokenCount":1500},"modelVersion":"test-model"}`
		response = `{"id":"resp_1","object":"response","status":"completed","model":"test-model","output":[],` +
			`"usage":{"input_tokens":1000,"input_tokens_details":{"cached_tokens":200},"output_tokens":500}}`
		ollama   = `{"model":"test-model","message":{"content":"Hi"},"done":true,"prompt_eval_count":1000,"eval_count":500}`
		converse = `{"output":{"message":{"content":[{"text":"Hi"}]}},"stopReason":"end_turn","usage":{"inputTokens":800,"cacheReadInputTokens":200,"outputTokens":500}}`
		cohere   = `{"id":"c","finish_reason":"COMPLETE","message":{"content":[{"type":"text","text":"Hi"}]},"usage":{"billed_units":{"input_tokens":1000,"output_tokens":500}}}`
	)
	cached, plain := tenant.Usage{Input: 800, CacheRead: 200, Output: 500}, tenant.Usage{Input: 1000, Output: 500}
	for _, c := range []struct {
		name, path, request, contentType, reply string
		usage                                   tenant.Usage
	}{
		{"chat completions", chat, ask, "application/json", answer, cached},
		{"a stream of chat completions", chat, askStream, "text/event-stream", events(chunk, lastChunk, usageChunk, "[DONE]"), plain},
		{"a stream that ends with no mark", chat, askStream, "text/event-stream", events(chunk, lastChunk, usageChunk), plain},
		{"responses", "/v1/responses", `{"model":"test-model","input":"Hello","max_output_tokens":1000}`, "application/json", response, cached},
		{"messages", messages, ask, "application/json", anthropic, cached},
		{"a stream of messages", messages, askStream, "text/event-stream", events(
			`{"type":"message_start","message":{"id":"msg_1","model":"test-model","content":[],"usage":{"input_tokens":800,"cache_read_input_tokens":200,"output_tokens":1}}}`,
			`{"type":"content_block_delta","delta":{"type":"text_delta","text":"Hi"}}`,
			`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":500}}`, `{"type":"message_stop"}`), cached},
		{"generated content", "/v1beta/models/test-model:generateContent", `{"contents":[],"generationConfig":{"maxOutputTokens":1000}}`, "application/json", gemini, cached},
		{"a stream of generated content", "/v1beta/models/test-model:streamGenerateContent?alt=sse", `{"contents":[]}`, "text/event-stream", events(gemini), cached},
		{"Ollama's lines", "/api/chat", `{"model":"test-model","messages":[]}`, "application/x-ndjson", `{"model":"test-model","message":{"content":"Hi"},"done":false}` + "\n" + ollama + "\n", plain},
		{"Bedrock's converse", "/model/test-model/converse", `{"messages":[]}`, "application/json", converse, cached},
		{"Cohere's chat", "/v2/chat", `{"model":"test-model","messages":[]}`, "application/json", cohere, plain},
		{"embeddings", "/v1/embeddings", `{"model":"test-model","input":"Hello"}`, "application/json", `{"data":[],"model":"test-model","usage":{"prompt_tokens":1000,"total_tokens":1000}}`, tenant.Usage{Input: 1000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, setting{}, replies(c.contentType, c.reply))
			ctx := tenanthttp.ContextWithCall(b.ctx, tenant.WithAgent("support"))
			ctx = tenanthttp.ContextWithCall(ctx, tenant.WithTag("ticket", "7"), tenant.WithIdempotencyKey("k-1"))
			resp, body := b.do(b.request(ctx, http.MethodPost, c.path, c.request))
			require.Equal(t, http.StatusOK, resp.StatusCode)
			if c.usage != plain || c.contentType != "text/event-stream" { // there, the usage chunk was asked for by the transport
				require.Equal(t, c.reply, body)
			}
			e := b.execution()
			require.Equal(t, c.usage, e.Usage)
			require.Equal(t, "succeeded", e.Status)
			require.Equal(t, c.usage.InputTokens()*1000+c.usage.OutputTokens()*2000, e.CostNano)
			require.False(t, e.Estimated)
			require.Equal(t, "acme", e.TenantID)
			require.Equal(t, "support", e.Agent)
			require.Equal(t, "test-model", e.Model)
			require.Equal(t, map[string]string{"ticket": "7"}, e.Tags)
			require.Equal(t, "k-1", e.IdempotencyKey)
		})
	}
}
