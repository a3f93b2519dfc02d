package meter

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

var chatEndpoint = Endpoint{Provider: OpenAIProvider, Kind: Chat, Format: ChatCompletions}

func chatReply(content string) string {
	return fmt.Sprintf(`{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-4.1-mini",
"choices":[{"index":0,"message":{"role":"assistant","content":%q,"refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],
"usage":{"prompt_tokens":1200,"completion_tokens":800,"total_tokens":2000,"prompt_tokens_details":{"cached_tokens":1024,"audio_tokens":0},
"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},
"service_tier":"default","system_fingerprint":"fp_1"}`, content)
}

// BenchmarkReply reads a whole reply of 4 KB.
func BenchmarkReply(b *testing.B) {
	body := []byte(chatReply(strings.Repeat("Prices, in the end, are what \"both\" say they are.\n", 70)))
	header := http.Header{"Content-Type": {"application/json"}}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		r := NewReader(chatEndpoint, 200, header)
		_, _ = r.Write(body)
		if !r.Result().Found {
			b.Fatal("no usage")
		}
	}
}

// BenchmarkChunk reads one chunk of a stream that goes on.
func BenchmarkChunk(b *testing.B) {
	chunk := []byte(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4.1-mini","service_tier":"default",` +
		`"system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"content":" which"},"logprobs":null,"finish_reason":null}],"usage":null,` +
		`"obfuscation":"Kx82hQ1z"}` + "\n\n")
	r := NewReader(chatEndpoint, 200, http.Header{"Content-Type": {"text/event-stream"}})
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = r.Write(chunk)
	}
	if r.Result().OutputChars == 0 {
		b.Fatal("no output was read")
	}
}
