package harness

import (
	"fmt"
	"net/http"

	"github.com/llmtenant/tenant"
)

// Anthropic is the format of Anthropic's messages. Cached tokens are beside the input, thinking is inside the output.
type Anthropic struct{}

// Streams implements [Wire].
func (Anthropic) Streams(r *Request) bool { return asked(r).Stream }

func messageUsage(u tenant.Usage) string {
	return fmt.Sprintf(`{"input_tokens":%d,"cache_read_input_tokens":%d,"cache_creation_input_tokens":%d,"cache_creation":{`+
		`"ephemeral_5m_input_tokens":%d,"ephemeral_1h_input_tokens":%d},"output_tokens":%d,"output_tokens_details":{"thinking_tokens":%d},`+
		`"server_tool_use":{"web_search_requests":%d,"web_fetch_requests":0},"service_tier":"standard"}`,
		u.Input, u.CacheRead, u.CacheWrite5m+u.CacheWrite1h, u.CacheWrite5m, u.CacheWrite1h, u.OutputTokens(), u.Reasoning, u.WebSearches)
}

func messageOf(content, stop string, usage string) string {
	return fmt.Sprintf(`{"id":"msg_1","type":"message","role":"assistant","model":%q,"content":[%s],"stop_reason":%s,"stop_sequence":null,"usage":%s}`,
		Billed, content, stop, usage)
}

func messageReply(content, stop string, u tenant.Usage) Reply {
	r := whole(messageOf(content, fmt.Sprintf("%q", stop), messageUsage(u)))
	r.Header.Set("Request-Id", "req_1")
	r.Model, r.Usage = Billed, u
	return r
}

// Reply implements [Wire].
func (Anthropic) Reply(_ *Request, text string, u tenant.Usage) Reply {
	return messageReply(fmt.Sprintf(`{"type":"text","text":%q}`, text), "end_turn", u)
}

// ToolCall implements [Wire].
func (Anthropic) ToolCall(_ *Request, u tenant.Usage) Reply {
	return messageReply(fmt.Sprintf(`{"type":"tool_use","id":"toolu_1","name":%q,"input":%s}`, ToolName, ToolArguments), "tool_use", u)
}

// An event of a message's stream.
type event struct {
	name, rest string
	text       string
	stated     tenant.Usage
}

func (e event) data() string {
	if e.rest == "" {
		return fmt.Sprintf(`{"type":%q}`, e.name)
	}
	return fmt.Sprintf(`{"type":%q,%s}`, e.name, e.rest)
}

// events are a message in pieces. The input is stated at the beginning, together with a placeholder for the output, which
// the end replaces.
func (Anthropic) events(pieces []string, u tenant.Usage) []event {
	begun := u
	begun.Output, begun.Reasoning, begun.WebSearches = 1, 0, 0
	all := []event{
		{name: "message_start", rest: `"message":` + messageOf("", "null", messageUsage(begun)), stated: begun},
		{name: "content_block_start", rest: `"index":0,"content_block":{"type":"text","text":""}`, stated: begun},
		{name: "ping", stated: begun},
	}
	for _, p := range pieces {
		all = append(all, event{
			name: "content_block_delta", rest: fmt.Sprintf(`"index":0,"delta":{"type":"text_delta","text":%q}`, p), text: p, stated: begun,
		})
	}
	return append(all,
		event{name: "content_block_stop", rest: `"index":0`, stated: begun},
		event{name: "message_delta", rest: fmt.Sprintf(`"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":%d,`+
			`"output_tokens_details":{"thinking_tokens":%d},"server_tool_use":{"web_search_requests":%d}}`, u.OutputTokens(), u.Reasoning, u.WebSearches), stated: u},
		event{name: "message_stop", stated: u})
}

// Stream implements [Wire].
func (a Anthropic) Stream(_ *Request, pieces []string, u tenant.Usage) Reply {
	reply := stream()
	for _, e := range a.events(pieces, u) {
		reply.Parts = append(reply.Parts, Part{Data: fmt.Sprintf("event: %s\ndata: %s\n\n", e.name, e.data()), Text: e.text, Stated: e.stated})
	}
	reply.Header.Set("Request-Id", "req_1")
	reply.Model, reply.Usage = Billed, u
	return reply
}

// Error implements [Wire].
func (Anthropic) Error(status int) Reply {
	kind := "api_error"
	if status == http.StatusTooManyRequests {
		kind = "rate_limit_error"
	}
	r := whole(fmt.Sprintf(`{"type":"error","error":{"type":%q,"message":"Try again later."},"request_id":"req_1"}`, kind))
	r.Status = status
	r.Header.Set("Request-Id", "req_1")
	r.Header.Set("Retry-After-Ms", "1")
	return r
}
