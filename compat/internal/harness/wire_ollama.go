package harness

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/llmtenant/tenant"
)

// Ollama is the format of Ollama's chats. It counts the prompt and the output, and no more.
type Ollama struct{}

// Streams implements [Wire]. A request that does not say is one for a stream.
func (Ollama) Streams(r *Request) bool {
	var asked struct{ Stream *bool }
	_ = json.Unmarshal(r.Body, &asked)
	return asked.Stream == nil || *asked.Stream
}

func ollamaStates(u tenant.Usage) tenant.Usage { return tenant.Usage{Input: u.Input, Output: u.Output} }

// line is one line of a chat, the last of which has the counts.
func line(message, rest string) string {
	return fmt.Sprintf(`{"model":%q,"created_at":"2026-01-01T00:00:00.000000001Z","message":{"role":"assistant",%s},%s}`+"\n", Billed, message, rest)
}

func lastLine(u tenant.Usage) string {
	return fmt.Sprintf(`"done":true,"done_reason":"stop","total_duration":5000000,"load_duration":1000000,"prompt_eval_count":%d,`+
		`"prompt_eval_duration":1000000,"eval_count":%d,"eval_duration":2000000`, u.Input, u.Output)
}

func ollamaReply(message string, u tenant.Usage) Reply {
	u = ollamaStates(u)
	r := whole(line(message, lastLine(u)))
	r.Model, r.Usage = Billed, u
	return r
}

// Reply implements [Wire].
func (Ollama) Reply(_ *Request, text string, u tenant.Usage) Reply {
	return ollamaReply(fmt.Sprintf(`"content":%q`, text), u)
}

// ToolCall implements [Wire].
func (Ollama) ToolCall(_ *Request, u tenant.Usage) Reply {
	return ollamaReply(fmt.Sprintf(`"content":"","tool_calls":[{"id":"call_1","function":{"index":0,"name":%q,"arguments":%s}}]`, ToolName, ToolArguments), u)
}

// Stream implements [Wire].
func (Ollama) Stream(_ *Request, pieces []string, u tenant.Usage) Reply {
	u = ollamaStates(u)
	r := Reply{Header: http.Header{"Content-Type": {"application/x-ndjson"}}, Model: Billed, Usage: u}
	for _, p := range pieces {
		r.Parts = append(r.Parts, Part{Data: line(fmt.Sprintf(`"content":%q`, p), `"done":false`), Text: p})
	}
	r.Parts = append(r.Parts, Part{Data: line(`"content":""`, lastLine(u)), Stated: u})
	return r
}

// Error implements [Wire].
func (Ollama) Error(status int) Reply {
	r := whole(`{"error":"Try again later."}`)
	r.Status = status
	return r
}
