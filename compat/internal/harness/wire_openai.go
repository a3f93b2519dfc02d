package harness

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/llmtenant/tenant"
)

// OpenAIChat is the format of OpenAI's chat completions, and of all who have taken it over. Beside: reasoning is beside the completion
// and the total, as Vercel's gateway has it.
type OpenAIChat struct{ Beside bool }

// asked is what requests to OpenAI say about the reply's form.
func asked(r *Request) (a struct {
	Stream        bool
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}) {
	_ = json.Unmarshal(r.Body, &a)
	return a
}

// Streams implements [Wire].
func (OpenAIChat) Streams(r *Request) bool { return asked(r).Stream }

func (w OpenAIChat) usage(u tenant.Usage) (text string, stated tenant.Usage) {
	stated = tenant.Usage{Input: u.Input, CacheRead: u.CacheRead, Output: u.Output, Reasoning: u.Reasoning}
	completion, total := stated.OutputTokens(), stated.TotalTokens()
	if w.Beside {
		completion, total = completion-u.Reasoning, total-u.Reasoning
	}
	return fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":%d},`+
		`"completion_tokens_details":{"reasoning_tokens":%d}}`,
		stated.InputTokens(), completion, total, u.CacheRead, u.Reasoning), stated
}

func (w OpenAIChat) reply(message, finish string, u tenant.Usage) Reply {
	usage, stated := w.usage(u)
	r := whole(fmt.Sprintf(`{"id":"chatcmpl-1","object":"chat.completion","created":1767225600,"model":%q,"choices":[`+
		`{"index":0,"message":%s,"logprobs":null,"finish_reason":%q}],"usage":%s,"service_tier":"default"}`, Billed, message, finish, usage))
	r.Model, r.Usage = Billed, stated
	return r
}

// Reply implements [Wire].
func (w OpenAIChat) Reply(_ *Request, text string, u tenant.Usage) Reply {
	return w.reply(fmt.Sprintf(`{"role":"assistant","content":%q,"refusal":null}`, text), "stop", u)
}

// ToolCall implements [Wire].
func (w OpenAIChat) ToolCall(_ *Request, u tenant.Usage) Reply {
	return w.reply(fmt.Sprintf(`{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function",`+
		`"function":{"name":%q,"arguments":%q}}]}`, ToolName, ToolArguments), "tool_calls", u)
}

// Stream implements [Wire]. The usage comes only where it was asked for.
func (w OpenAIChat) Stream(r *Request, pieces []string, u tenant.Usage) Reply {
	usage, stated := w.usage(u)
	chunk := func(choices, usage string) string {
		return fmt.Sprintf(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1767225600,"model":%q,"choices":[%s]%s}`+"\n\n",
			Billed, choices, usage)
	}
	between := ""
	if asked(r).StreamOptions.IncludeUsage {
		between = `,"usage":null`
	} else {
		stated = tenant.Usage{}
	}
	reply := stream(Part{Data: chunk(`{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}`, between)})
	for _, p := range pieces {
		reply.Parts = append(reply.Parts, Part{
			Data: chunk(fmt.Sprintf(`{"index":0,"delta":{"content":%q},"finish_reason":null}`, p), between), Text: p,
		})
	}
	reply.Parts = append(reply.Parts, Part{Data: chunk(`{"index":0,"delta":{},"finish_reason":"stop"}`, between)})
	if between != "" {
		reply.Parts = append(reply.Parts, Part{Data: chunk("", `,"usage":`+usage), Stated: stated, Asked: true})
	}
	reply.Parts = append(reply.Parts, Part{Data: "data: [DONE]\n\n", Stated: stated})
	reply.Model, reply.Usage = Billed, stated
	return reply
}

// Error implements [Wire].
func (OpenAIChat) Error(status int) Reply {
	kind := "server_error"
	if status == http.StatusTooManyRequests {
		kind = "rate_limit_exceeded"
	}
	r := whole(fmt.Sprintf(`{"error":{"message":"Try again later.","type":%q,"param":null,"code":%q}}`, kind, kind))
	r.Status = status
	r.Header.Set("Retry-After-Ms", "1")
	return r
}

// OpenAIResponses is the format of OpenAI's responses.
type OpenAIResponses struct{ OpenAIChat }

func response(status, output string, u tenant.Usage) (body string, stated tenant.Usage) {
	usage := "null"
	if u != (tenant.Usage{}) {
		stated = tenant.Usage{Input: u.Input, CacheRead: u.CacheRead, Output: u.Output, Reasoning: u.Reasoning}
		usage = fmt.Sprintf(`{"input_tokens":%d,"input_tokens_details":{"cached_tokens":%d},"output_tokens":%d,`+
			`"output_tokens_details":{"reasoning_tokens":%d},"total_tokens":%d}`,
			stated.InputTokens(), u.CacheRead, stated.OutputTokens(), u.Reasoning, stated.TotalTokens())
	}
	return fmt.Sprintf(`{"id":"resp_1","object":"response","created_at":1767225600,"status":%q,"error":null,"incomplete_details":null,`+
		`"instructions":null,"model":%q,"output":[%s],"parallel_tool_calls":true,"store":false,"tool_choice":"auto","tools":[],"usage":%s}`,
		status, Billed, output, usage), stated
}

func outputMessage(status, text string) string {
	return fmt.Sprintf(`{"type":"message","id":"msg_1","status":%q,"role":"assistant","content":[`+
		`{"type":"output_text","text":%q,"annotations":[]}]}`, status, text)
}

// Reply implements [Wire].
func (OpenAIResponses) Reply(_ *Request, text string, u tenant.Usage) Reply {
	body, stated := response("completed", outputMessage("completed", text), u)
	r := whole(body)
	r.Model, r.Usage = Billed, stated
	return r
}

// ToolCall implements [Wire].
func (OpenAIResponses) ToolCall(_ *Request, u tenant.Usage) Reply {
	body, stated := response("completed", fmt.Sprintf(`{"type":"function_call","id":"fc_1","status":"completed","call_id":"call_1",`+
		`"name":%q,"arguments":%q}`, ToolName, ToolArguments), u)
	r := whole(body)
	r.Model, r.Usage = Billed, stated
	return r
}

// Stream implements [Wire].
func (OpenAIResponses) Stream(_ *Request, pieces []string, u tenant.Usage) Reply {
	number := -1
	event := func(name, rest string) string {
		number++
		return fmt.Sprintf("event: %s\ndata: {\"type\":%q,\"sequence_number\":%d,%s}\n\n", name, name, number, rest)
	}
	begun, _ := response("in_progress", "", tenant.Usage{})
	reply := stream(
		Part{Data: event("response.created", `"response":`+begun)},
		Part{Data: event("response.output_item.added", `"output_index":0,"item":{"type":"message","id":"msg_1","status":"in_progress","role":"assistant","content":[]}`)},
		Part{Data: event("response.content_part.added", `"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[]}`)},
	)
	text := ""
	for _, p := range pieces {
		text += p
		reply.Parts = append(reply.Parts, Part{
			Data: event("response.output_text.delta", fmt.Sprintf(`"item_id":"msg_1","output_index":0,"content_index":0,"delta":%q,"logprobs":[]`, p)), Text: p,
		})
	}
	done, stated := response("completed", outputMessage("completed", text), u)
	reply.Parts = append(reply.Parts,
		Part{Data: event("response.output_text.done", fmt.Sprintf(`"item_id":"msg_1","output_index":0,"content_index":0,"text":%q,"logprobs":[]`, text))},
		Part{Data: event("response.output_item.done", `"output_index":0,"item":`+outputMessage("completed", text))},
		Part{Data: event("response.completed", `"response":`+done), Stated: stated})
	reply.Model, reply.Usage = Billed, stated
	return reply
}

// stream is a reply that begins with parts, as server-sent events.
func stream(parts ...Part) Reply {
	return Reply{Header: http.Header{"Content-Type": {"text/event-stream; charset=utf-8"}}, Parts: parts}
}
