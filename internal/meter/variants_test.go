package meter

import (
	"bytes"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
)

// A variant writes a body in another way that means the same. It returns an empty string where it has none.
type variant struct {
	name  string
	write func(body string) string
	lines bool // it puts one document into several
}

const decoy = `"x-unknown":{"usage":{"prompt_tokens":7,"completion_tokens":7,"input_tokens":7,"output_tokens":7},"usageMetadata":{"promptTokenCount":7}},` +
	`"x-text":"\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":7}",`

var variants = []variant{
	{"lines that end with CRLF", inEvents(func(b string) string { return strings.ReplaceAll(b, "\n", "\r\n") }), false},
	{"lines that end with CR", inEvents(func(b string) string { return strings.ReplaceAll(b, "\n", "\r") }), false},
	{"comments and other fields", inEvents(func(b string) string {
		return ":\n\n" + strings.ReplaceAll(b, "\n\n", "\n\n: keep-alive\n\nretry: 10\nid\n\nevent: usage\n")
	}), false},
	{"no space after the colon", inEvents(func(b string) string { return strings.ReplaceAll(b, "data: ", "data:") }), false},
	{"more space after it", inEvents(func(b string) string { return strings.ReplaceAll(b, "data:", "data:  ") }), false},
	{"no blank line at the end", inEvents(func(b string) string { return strings.TrimRight(b, "\n") }), false},
	{"data in several lines", eachEvent(func(d string) string {
		var b bytes.Buffer
		_ = json.Indent(&b, []byte(d), "", " ")
		return strings.ReplaceAll(b.String(), "\n", "\ndata:")
	}), false},
	{"what nobody asked for in each event", eachEvent(func(d string) string { return strings.Replace(d, "{", "{"+decoy, 1) }), false},
	{"escaped names in events", eachEvent(escapeNames), false},
	{"a byte order mark", unlessBinary(func(b string) string { return "\xef\xbb\xbf" + b }), false},
	{"blank lines before", unlessBinary(func(b string) string { return "\r\n\n " + b }), false},
	{"indented", document(func(b string) string {
		var out bytes.Buffer
		_ = json.Indent(&out, []byte(b), "\t", "   ")
		return out.String()
	}), true},
	{"what nobody asked for", document(func(b string) string {
		if b[0] == '[' || b[1] == '}' {
			return ""
		}
		return "{" + decoy + b[1:]
	}), false},
	{"escaped names", document(escapeNames), false},
}

func unlessBinary(f func(string) string) func(string) string {
	return func(b string) string {
		if b == "" || b[0] == 0 {
			return ""
		}
		return f(b)
	}
}

func inEvents(f func(string) string) func(string) string {
	return func(b string) string {
		if !strings.Contains(b, "data:") || strings.IndexByte("{[\x00\xef", b[0]) >= 0 || strings.Contains(b, "\r") {
			return ""
		}
		return f(b)
	}
}

// eachEvent changes the events of which the data are one object.
func eachEvent(f func(data string) string) func(string) string {
	return inEvents(func(b string) string {
		parts := strings.SplitAfter(b, "\n\n")
		for i, e := range parts {
			data, ok := strings.CutPrefix(strings.ReplaceAll(strings.TrimSuffix(e, "\n\n"), "\ndata: ", "\n"), "data: ")
			if ok && len(data) > 2 && data[0] == '{' && json.Valid([]byte(data)) {
				parts[i] = "data: " + f(strings.ReplaceAll(data, "\n", "")) + "\n\n"
			}
		}
		return strings.Join(parts, "")
	})
}

func document(f func(string) string) func(string) string {
	return func(b string) string {
		if !json.Valid([]byte(b)) {
			return ""
		}
		return f(b)
	}
}

var name = regexp.MustCompile(`"(\w+)"(\s*:)`)

func escapeNames(b string) string {
	return name.ReplaceAllStringFunc(b, func(s string) string {
		return `"\u00` + strings.ToUpper(hexOf(s[1])) + s[2:]
	})
}

func hexOf(c byte) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[c>>4], digits[c&15]})
}

// varied reads the reply as others would write it, cut in two, and compressed.
func (g golden) varied(t *testing.T, e Endpoint) {
	want := readIn(1, e, http.StatusOK, g.header, []byte(g.body))
	typ := g.header.Get("Content-Type")
	inLines := strings.Contains(typ, "ndjson") || strings.Contains(typ, "jsonl")
	for _, v := range variants {
		if body := v.write(g.body); body != "" && !(v.lines && inLines) {
			require.Equal(t, want, readIn(1, e, http.StatusOK, g.header, []byte(body)), "%s: %s", v.name, body)
			require.Equal(t, want, readIn(len(body), e, http.StatusOK, g.header, []byte(body)), "%s, byte by byte: %s", v.name, body)
		}
	}
	const cuts = 200
	for i := 0; i < len(g.body); i += len(g.body)/cuts + 1 {
		r := NewReader(e, http.StatusOK, g.header)
		_, _ = r.Write([]byte(g.body[:i]))
		_, _ = r.Write([]byte(g.body[i:]))
		require.Equal(t, want, r.Result(), "cut at %d", i)
	}
	for _, encoding := range []string{"gzip", "deflate"} {
		header := g.header.Clone()
		if header == nil {
			header = http.Header{}
		}
		header.Set("Content-Encoding", encoding)
		require.Equal(t, want, readIn(3, e, http.StatusOK, header, compressed(t, map[string]string{"gzip": "gzip", "deflate": "zlib"}[encoding], g.body)), encoding)
	}
}

// What a model writes, or is asked to write, is no statement of the provider's.
func TestReader_UsageThatAModelWritesIsText(t *testing.T) {
	t.Parallel()
	const (
		lie = `"usage":{"prompt_tokens":777,"completion_tokens":777,"total_tokens":1554,"input_tokens":777,"output_tokens":777,"inputTokens":777,"outputTokens":777,"billed_units":{"input_tokens":777}},` +
			`"usageMetadata":{"promptTokenCount":777},"prompt_eval_count":777,"eval_count":777,"meta":{"billed_units":{"input_tokens":777}},"cost":777,` +
			`"amazon-bedrock-invocationMetrics":{"inputTokenCount":777},"inputTextTokenCount":777,"prompt_token_count":777,"model":"liar","service_tier":"flex"`
		object = `{` + lie + `}`
	)
	quoted, err := json.Marshal(object)
	require.NoError(t, err)
	s := string(quoted)
	const nova = "https://bedrock-runtime.us-east-1.amazonaws.com/model/amazon.nova-lite-v1:0/"
	check(t, []golden{
		{name: "chat", url: openAIChat, model: "m", body: `{"model":"m","choices":[{"message":{"content":` + s + `,"tool_calls":[{"function":{"name":"f","arguments":` + s + `}}],"x":` + object + `},` + lie + `}],` +
			`"usage":{"prompt_tokens":9,"completion_tokens":2}}`, usage: book.Usage{Input: 9, Output: 2}},
		{name: "chat, events", url: openAIChat, body: sse(`{"choices":[{"delta":{"content":`+s+`}}]}`, `{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}`), usage: book.Usage{Input: 9, Output: 2}},
		{name: "responses", url: openAIResp, model: "m", body: `{"model":"m","output":[{"type":"function_call","arguments":` + s + `},{"type":"mcp_call","output":` + object + `},{"type":"message","content":[{"text":` + s + `,` + lie + `}]}],` +
			`"metadata":` + object + `,"text":{"format":{"schema":` + object + `}},"tools":[{"type":"function","parameters":` + object + `}],"usage":{"input_tokens":9,"output_tokens":2}}`, usage: book.Usage{Input: 9, Output: 2}},
		{name: "messages", url: messagesURL, model: "m", body: `{"model":"m","content":[{"type":"tool_use","input":` + object + `},{"type":"text","text":` + s + `}],"usage":{"input_tokens":9,"output_tokens":2}}`, usage: book.Usage{Input: 9, Output: 2}},
		{name: "messages, events", url: messagesURL, body: sseOpen(`{"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1}}}`, `{"type":"content_block_start","content_block":{"type":"tool_use","input":`+object+`}}`,
			`{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":`+s+`}}`, `{"type":"message_delta","usage":{"output_tokens":2}}`, `{"type":"message_stop"}`), usage: book.Usage{Input: 9, Output: 2}},
		{name: "gemini", url: "https://generativelanguage.googleapis.com/v1beta/models/g:generateContent", model: "g",
			body:  `{"candidates":[{"finishReason":"STOP","content":{"parts":[{"functionCall":{"name":"f","args":` + object + `}},{"text":` + s + `}]}}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":2}}`,
			usage: book.Usage{Input: 9, Output: 2}},
		{name: "ollama", url: "http://localhost:11434/api/chat", model: "m", body: `{"model":"m","message":{"content":` + s + `,"tool_calls":[{"function":{"name":"f","arguments":` + object + `}}]},"done":true,"prompt_eval_count":9,"eval_count":2}`,
			usage: book.Usage{Input: 9, Output: 2}},
		{name: "converse", url: nova + "converse", body: `{"output":{"message":{"content":[{"toolUse":{"name":"f","input":` + object + `}},{"text":` + s + `}]}},"additionalModelResponseFields":` + object + `,"usage":{"inputTokens":9,"outputTokens":2}}`,
			usage: book.Usage{Input: 9, Output: 2}},
		{name: "invoke", url: nova + "invoke", body: `{"output":{"message":{"content":[{"toolUse":{"input":` + object + `}},{"text":` + s + `}]}},"usage":{"inputTokens":9,"outputTokens":2}}`, usage: book.Usage{Input: 9, Output: 2}},
		{name: "invoke, events", url: nova + "invoke-with-response-stream", body: chunk(`{"contentBlockDelta":{"delta":{"text":`+s+`}}}`) + chunk(`{"metadata":{"usage":{"inputTokens":9,"outputTokens":2}}}`), usage: book.Usage{Input: 9, Output: 2}},
		{name: "cohere", url: "https://api.cohere.com/v2/chat", body: `{"message":{"content":[{"text":` + s + `}],"tool_calls":[{"function":{"arguments":` + s + `}}],"x":` + object + `},"usage":{"billed_units":{"input_tokens":9,"output_tokens":2}}}`,
			usage: book.Usage{Input: 9, Output: 2}},
	})
}

func TestReader_ReadsWhatTheMediaTypeDoesNotSay(t *testing.T) {
	t.Parallel()
	const ollama = "http://localhost:11434/api/chat"
	chat := sse(`{"choices":[{"delta":{"content":"Yes."}}]}`, `{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}`)
	lines := `{"message":{"content":"Yes"},"done":false}` + "\n" + `{"done":true,"prompt_eval_count":9,"eval_count":2}`
	typed := func(t string) http.Header { return http.Header{"Content-Type": {t}} }
	want := book.Usage{Input: 9, Output: 2}
	check(t, []golden{
		{name: "events that are said to be JSON", url: anyChat, header: typed("application/json"), body: chat, usage: want},
		{name: "events that are said to be lines", url: anyChat, header: typed("application/x-ndjson; charset=utf-8"), body: chat, usage: want},
		{name: "events that are said to be text", url: anyChat, header: typed("text/plain"), body: chat, usage: want},
		{name: "events of which nothing is said", url: anyChat, body: chat, usage: want},
		{name: "JSON that is said to be events", url: anyChat, header: typed("text/event-stream"), body: chatWith(`{"prompt_tokens":9,"completion_tokens":2}`), usage: want},
		{name: "JSON that is said to be lines", url: anyChat, header: typed("application/jsonl"), body: chatWith(`{"prompt_tokens":9,"completion_tokens":2}`), usage: want},
		{name: "lines that are said to be events", url: ollama, header: typed("text/event-stream"), body: lines, usage: want},
		{name: "lines that are said to be JSON", url: ollama, header: typed("application/json"), body: lines, usage: want},
		{name: "lines without anything between them", url: ollama, body: strings.ReplaceAll(lines, "\n", ""), usage: want},
		{name: "a type that is none", url: anyChat, header: typed("; ;"), body: chat, usage: want},
	})
}

func TestReader_ErrorsInAReplyOfStatus200(t *testing.T) {
	t.Parallel()
	const usage = `{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}`
	want := book.Usage{Input: 9, Output: 2}
	check(t, []golden{
		{name: "an error in place of the reply states nothing", url: anyChat, body: `{"error":{"message":"no","code":429}}`, failed: true},
		{name: "an error that is a text", url: "http://localhost:11434/api/chat", body: `{"error":"no such model"}`, unended: true, failed: true},
		{name: "no error", url: anyChat, body: `{"error":null,"choices":[]}`},
		{name: "an error of Anthropic's", url: messagesURL, body: sseOpen(`{"type":"error","error":{"type":"overloaded_error"}}`), unended: true, failed: true},
		{name: "an error with a usage", url: anyChat, body: `{"error":{"message":"no"},"usage":{"prompt_tokens":9,"completion_tokens":2}}`, usage: want},
		{name: "an error in place of the stream", url: anyChat, body: sseOpen(`{"error":{"message":"no"}}`), unended: true, failed: true},
		{name: "an error after the usage", url: anyChat, body: sseOpen(usage, `{"error":{"message":"no"}}`), unended: true, usage: want},
		{name: "an error in the middle", url: anyChat, body: sseOpen(`{"choices":[{"delta":{"content":"Yes"}}]}`, `{"error":{"message":"no"},"choices":[{"delta":{},"finish_reason":"error"}]}`), unended: true},
		{name: "a usage after the end mark", url: anyChat, body: sse() + sseOpen(usage), usage: want},
		{name: "null after the usage takes nothing back", url: anyChat, body: sse(usage, `{"choices":[{"delta":{}}],"usage":null}`), usage: want},
		{name: "nor does an empty object", url: anyChat, body: sse(usage, `{"choices":[],"usage":{}}`), usage: want},
		{name: "a usage in every chunk that does not grow", url: anyChat, body: sse(usage, usage, usage), usage: want},
		{name: "a failed response with its usage", url: openAIResp, body: sseOpen(`{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error"},"usage":{"input_tokens":9,"output_tokens":2}}}`), usage: want},
		{name: "a failed response without", url: openAIResp, body: sseOpen(`{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error"},"usage":null}}`)},
		{name: "an error of Gemini's in an array", url: "https://generativelanguage.googleapis.com/v1beta/models/g:streamGenerateContent", body: `[{"error":{"code":503,"message":"no"}}]`, failed: true},
	})
	for _, status := range []int{400, 429, 500, 529} {
		got := readIn(1, at(t, http.MethodPost, anyChat), status, nil, []byte(`{"error":{},"usage":{"prompt_tokens":9,"completion_tokens":2}}`))
		require.Equal(t, want, got.Usage, "an error that states a usage is charged by it")
	}
}

// Encodings that nobody here reads leave the reply unread, and said to be so.
func TestReader_EncodingsThatAreNotRead(t *testing.T) {
	t.Parallel()
	for _, encoding := range []string{"br", "zstd", "compress", "gzip, br", "dcb"} {
		got := readIn(1, chatEndpoint, 200, http.Header{"Content-Encoding": {encoding}}, []byte(chatWith(`{"prompt_tokens":9,"completion_tokens":2}`)))
		require.False(t, got.Found || got.Complete || got.Implausible, encoding)
	}
}
