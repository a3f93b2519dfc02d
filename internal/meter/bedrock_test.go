package meter

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
)

// message encodes a message of an AWS event stream.
func message(headers map[string]string, payload string) string {
	var h []byte
	for name, v := range headers {
		h = append(h, byte(len(name)))
		h = append(h, name...)
		h = append(h, 7)
		h = binary.BigEndian.AppendUint16(h, uint16(len(v)))
		h = append(h, v...)
	}
	m := binary.BigEndian.AppendUint32(nil, uint32(12+len(h)+len(payload)+4))
	m = binary.BigEndian.AppendUint32(m, uint32(len(h)))
	m = binary.BigEndian.AppendUint32(m, crc32.ChecksumIEEE(m))
	m = append(append(m, h...), payload...)
	return string(binary.BigEndian.AppendUint32(m, crc32.ChecksumIEEE(m)))
}

func event(typ, payload string) string {
	return message(map[string]string{":message-type": "event", ":event-type": typ, ":content-type": "application/json"}, payload)
}

// broken changes the checksum of a message's lengths.
func broken(m string) string { return m[:8] + string([]byte{m[8] ^ 1}) + m[9:] }

// chunk wraps a document of the model's.
func chunk(payload string) string {
	return event("chunk", `{"bytes":"`+base64.StdEncoding.EncodeToString([]byte(payload))+`","p":"abc"}`)
}

func TestBedrock_Converse(t *testing.T) {
	t.Parallel()
	const base = "https://bedrock-runtime.us-east-1.amazonaws.com/model/us.anthropic.claude-x-v1%3A0/"
	const usage = `{"inputTokens":10,"outputTokens":50,"totalTokens":350,"cacheReadInputTokens":200,"cacheReadInputTokenCount":200,
		"cacheWriteInputTokens":90,"cacheWriteInputTokenCount":90,"cacheDetails":[{"ttl":"1h","inputTokens":30},{"ttl":"5m","inputTokens":60}]}`
	want := book.Usage{Input: 10, CacheRead: 200, CacheWrite5m: 60, CacheWrite1h: 30, Output: 50}
	check(t, []golden{
		{name: "cached tokens are beside the input; the twins are the same numbers", url: base + "converse",
			body:  `{"output":{"message":{"content":[{"text":"Yes."}]}},"stopReason":"end_turn","serviceTier":{"type":"priority"},"usage":` + usage + `}`,
			usage: want, model: "us.anthropic.claude-x-v1:0", tier: "priority", finished: []string{"end_turn"}},
		{name: "the usage is in the last message", url: base + "converse-stream",
			body: event("messageStart", `{"role":"assistant"}`) + event("contentBlockDelta", `{"contentBlockIndex":0,"delta":{"text":"Yes."}}`) +
				event("messageStop", `{"stopReason":"end_turn"}`) + event("metadata", `{"usage":`+usage+`,"metrics":{"latencyMs":7}}`),
			usage: want},
		{name: "an exception ends a stream", url: base + "converse-stream", unended: true,
			body: event("contentBlockDelta", `{"delta":{"text":"Yes."}}`) +
				message(map[string]string{":message-type": "exception", ":exception-type": "throttlingException"}, `{"message":"slow down"}`)},
		{name: "a stream that is cut", url: base + "converse-stream", unended: true, body: event("contentBlockDelta", `{"delta":{"text":"Yes."}}`) + "\x00\x00"},
		{name: "what is no message ends the reading", url: base + "converse-stream", unended: true,
			body: "\x00\x00\x00\x20\x00\x00\x00\x05wrong" + event("metadata", `{"usage":`+usage+`}`)},
		{name: "a wrong checksum too", url: base + "converse-stream", unended: true,
			body: event("messageStop", `{"stopReason":"end_turn"}`) + broken(event("metadata", `{"usage":`+usage+`}`))},
		{name: "an exception after the usage", url: base + "converse-stream", unended: true, usage: want,
			body: event("metadata", `{"usage":`+usage+`}`) + message(map[string]string{":message-type": "exception"}, `{"message":"no"}`)},
		{name: "without the write's details it is a short one", url: base + "converse", body: `{"usage":{"inputTokens":10,"outputTokens":5,"cacheWriteInputTokens":90}}`,
			usage: book.Usage{Input: 10, CacheWrite5m: 90, Output: 5}},
		{name: "no twins", url: base + "converse", body: `{"usage":{"inputTokens":10,"outputTokens":5,"cacheReadInputTokens":7,"cacheWriteInputTokens":9}}`,
			usage: book.Usage{Input: 10, CacheRead: 7, CacheWrite5m: 9, Output: 5}},
		{name: "twins alone", url: base + "converse", body: `{"usage":{"inputTokens":10,"outputTokens":5,"cacheReadInputTokenCount":7,"cacheWriteInputTokenCount":9}}`,
			usage: book.Usage{Input: 10, CacheRead: 7, CacheWrite5m: 9, Output: 5}},
		{name: "negative", url: base + "converse", body: `{"usage":{"inputTokens":-10,"outputTokens":5}}`, strange: true},
		{name: "a negative detail", url: base + "converse", body: `{"usage":{"inputTokens":10,"outputTokens":5,"cacheDetails":[{"ttl":"1h","inputTokens":-5}]}}`, strange: true},
	})
}

func TestBedrock_Invoke(t *testing.T) {
	t.Parallel()
	invoked := func(model, verb string) string {
		return "https://bedrock-runtime.us-east-1.amazonaws.com/model/" + model + "/" + verb
	}
	counts := http.Header{"X-Amzn-Bedrock-Service-Tier": {"flex"}}
	for name, n := range map[string]string{"input": "3", "output": "44", "cache-read-input": "9511", "cache-write-input": "1956"} {
		counts.Set("x-amzn-bedrock-"+name+"-token-count", n)
	}
	const metrics = `"amazon-bedrock-invocationMetrics":{"inputTokenCount":16,"outputTokenCount":18,"cacheReadInputTokenCount":4,"firstByteLatency":1}`
	check(t, []golden{
		{name: "the headers count for every model", url: invoked("anthropic.claude-v2:1", "invoke"), header: counts, body: `{"type":"completion","completion":"Yes."}`,
			usage: book.Usage{Input: 3, CacheRead: 9511, CacheWrite5m: 1956, Output: 44}, tier: "flex"},
		{name: "a model that says more is believed", url: invoked("anthropic.claude-x-v1:0", "invoke"), header: counts,
			body:  `{"model":"claude-x","usage":{"input_tokens":3,"cache_read_input_tokens":9511,"cache_creation_input_tokens":1956,"cache_creation":{"ephemeral_1h_input_tokens":1956},"output_tokens":44,"output_tokens_details":{"thinking_tokens":40}}}`,
			usage: book.Usage{Input: 3, CacheRead: 9511, CacheWrite1h: 1956, Output: 4, Reasoning: 40}, model: "claude-x"},
		{name: "Anthropic's events in base64", url: invoked("anthropic.claude-x-v1:0", "invoke-with-response-stream"),
			body: chunk(`{"type":"message_start","message":{"model":"claude-x","usage":{"input_tokens":16,"cache_read_input_tokens":4,"output_tokens":1}}}`) +
				chunk(`{"type":"content_block_delta","delta":{"type":"text_delta","text":"Yes."}}`) +
				chunk(`{"type":"message_delta","usage":{"output_tokens":18}}`) + chunk(`{"type":"message_stop",`+metrics+`}`),
			usage: book.Usage{Input: 16, CacheRead: 4, Output: 18}},
		{name: "the metrics of the last chunk count for every model", url: invoked("cohere.command-r-v1:0", "invoke-with-response-stream"),
			body:  chunk(`{"text":"Yes.","is_finished":false}`) + chunk(`{"is_finished":true,`+metrics+`}`),
			usage: book.Usage{Input: 16, CacheRead: 4, Output: 18}},
		{name: "Nova", url: invoked("amazon.nova-lite-v1:0", "invoke"),
			body:  `{"stopReason":"end_turn","usage":{"inputTokens":16,"outputTokens":18,"totalTokens":34,"cacheReadInputTokenCount":4,"cacheWriteInputTokenCount":2}}`,
			usage: book.Usage{Input: 16, CacheRead: 4, CacheWrite5m: 2, Output: 18}},
		{name: "Nova in a stream", url: invoked("amazon.nova-lite-v1:0", "invoke-with-response-stream"),
			body:  chunk(`{"contentBlockDelta":{"delta":{"text":"Yes."}}}`) + chunk(`{"metadata":{"usage":{"inputTokens":16,"outputTokens":18}},`+metrics+`}`),
			usage: book.Usage{Input: 16, CacheRead: 4, Output: 18}},
		{name: "a write in the metrics", url: invoked("cohere.command-r-v1:0", "invoke-with-response-stream"), body: chunk(`{"amazon-bedrock-invocationMetrics":{"inputTokenCount":16,"outputTokenCount":18,"cacheWriteInputTokenCount":5}}`),
			usage: book.Usage{Input: 16, CacheWrite5m: 5, Output: 18}},
		{name: "Nova's cache in a stream", url: invoked("amazon.nova-lite-v1:0", "invoke-with-response-stream"), body: chunk(`{"metadata":{"usage":{"inputTokens":16,"outputTokens":18,"cacheReadInputTokenCount":4,"cacheWriteInputTokenCount":2}}}`),
			usage: book.Usage{Input: 16, CacheRead: 4, CacheWrite5m: 2, Output: 18}},
		{name: "Llama", url: invoked("meta.llama3-8b-instruct-v1:0", "invoke"), body: `{"generation":"Yes.","prompt_token_count":16,"generation_token_count":18,"stop_reason":"stop"}`,
			usage: book.Usage{Input: 16, Output: 18}, finished: []string{"stop"}},
		{name: "Titan", url: invoked("amazon.titan-text-express-v1", "invoke"), body: `{"inputTextTokenCount":16,"results":[{"tokenCount":18,"outputText":"Yes."}]}`,
			usage: book.Usage{Input: 16, Output: 18}},
		{name: "Titan in a stream", url: invoked("amazon.titan-text-express-v1", "invoke-with-response-stream"),
			body:  chunk(`{"outputText":"Yes.","index":0,"totalOutputTextTokenCount":null,"inputTextTokenCount":16}`) + chunk(`{"outputText":"","totalOutputTextTokenCount":18,"inputTextTokenCount":null}`),
			usage: book.Usage{Input: 16, Output: 18}},
		{name: "OpenAI's models", url: invoked("openai.gpt-oss-20b-1:0", "invoke"),
			body:  `{"choices":[{"message":{"content":"Yes."},"finish_reason":"stop"}],"usage":{"prompt_tokens":16,"completion_tokens":18,"prompt_tokens_details":{"cached_tokens":4}}}`,
			usage: book.Usage{Input: 12, CacheRead: 4, Output: 18}},
		{name: "what is not base64 ends a document, not the next", url: invoked("cohere.command-r-v1:0", "invoke-with-response-stream"),
			body: event("chunk", `{"bytes":"eyJhbWF6b24tYmVkcm9jay1pbnZvY2F0aW9uTWV0cmljcyI6eyJpbnB!dFRva2VuQ291bnQiOjksIm91dHB1dFRva2VuQ291bnQiOjJ9fQ=="}`) +
				event("chunk", `{"bytes":"e30=e30="}`) + chunk(`{`+metrics+`}`),
			usage: book.Usage{Input: 16, CacheRead: 4, Output: 18}},
		{name: "embeddings", url: invoked("amazon.titan-embed-text-v2:0", "invoke"), body: `{"embedding":[0.1],"inputTextTokenCount":16}`, usage: book.Usage{Input: 16}},
		{name: "a negative header", url: invoked("cohere.command-r-v1:0", "invoke"), header: http.Header{"X-Amzn-Bedrock-Input-Token-Count": {"-3"}}, body: `{"text":"Yes."}`, strange: true},
		{name: "cut", url: invoked("anthropic.claude-x-v1:0", "invoke-with-response-stream"), unended: true,
			body:  chunk(`{"type":"message_start","message":{"usage":{"input_tokens":16,"output_tokens":1}}}`) + chunk(`{"type":"content_block_delta","delta":{"text":"Yes."}}`)[:40],
			usage: book.Usage{Input: 16, Output: 1}},
	})
	r := readIn(1, at(t, http.MethodPost, invoked("x", "invoke")), 200, http.Header{"X-Amzn-Requestid": {"req-1"}}, []byte(`{}`))
	require.Equal(t, "req-1", r.RequestID)
}
