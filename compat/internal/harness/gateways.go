package harness

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
)

// A Gateway is a server that speaks a provider's format and counts in its own way: a gateway before another provider, or a
// server of models.
type Gateway struct {
	Name string

	// Usage is the JSON of its usage object, which stands where the format has it; empty for none.
	Usage string

	// Looped: it has stopped a model that repeated itself, and says neither why nor what was used.
	Looped bool

	// Means is what the usage means; a zero one is one that cannot be believed, and is to be estimated.
	Means tenant.Usage
}

// gatewayed are the formats that gateways speak beside the providers.
type gatewayed interface {
	Gateways() []Gateway

	// Of is a gateway's reply to a request.
	Of(r *Request, g Gateway, text string) Reply
}

// gatewaysOf are the names of the gateways whose replies an SDK is given.
func gatewaysOf(sdk *SDK) (names []string) {
	if w, ok := sdk.Wire.(gatewayed); ok {
		for _, g := range w.Gateways() {
			names = append(names, g.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// claude is a call of Anthropic's that a gateway has translated.
var claude = tenant.Usage{Input: 19, CacheRead: 310, CacheWrite5m: 25, Output: 44}

// Gateways implements gatewayed.
func (OpenAIChat) Gateways() []Gateway {
	return []Gateway{
		{Name: "Portkey", Means: claude, Usage: `{"prompt_tokens":19,"completion_tokens":44,"total_tokens":398,"prompt_tokens_details":{"cached_tokens":310},` +
			`"cache_read_input_tokens":310,"cache_creation_input_tokens":25}`},
		{Name: "Bifrost", Means: claude, Usage: `{"prompt_tokens":354,"prompt_tokens_details":{"cached_read_tokens":310,"cached_write_tokens":25,"cached_tokens":335},` +
			`"completion_tokens":44,"total_tokens":398}`},
		{Name: "new-api", Means: claude, Usage: `{"prompt_tokens":354,"completion_tokens":44,"total_tokens":398,"usage_semantic":"openai","usage_source":"anthropic",` +
			`"prompt_tokens_details":{"cached_tokens":310,"cached_creation_tokens":25,"text_tokens":0,"audio_tokens":0,"image_tokens":0},` +
			`"completion_tokens_details":{"text_tokens":0,"audio_tokens":0,"image_tokens":0,"reasoning_tokens":0},"input_tokens":354,"output_tokens":0,` +
			`"input_tokens_details":null,"claude_cache_creation_5_m_tokens":25,"claude_cache_creation_1_h_tokens":0}`},
		{Name: "Ollama", Looped: true, Usage: `{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}`},
	}
}

// Of implements gatewayed.
func (w OpenAIChat) Of(r *Request, g Gateway, text string) Reply {
	finish := `"stop"`
	if g.Looped {
		finish = "null"
	}
	if !w.Streams(r) {
		return whole(fmt.Sprintf(`{"id":"msg_1","object":"chat.completion","created":1795967291,"model":%q,"choices":[{"index":0,"message":{"role":"assistant","content":%q},`+
			`"logprobs":null,"finish_reason":%s}],"usage":%s}`, Billed, text, finish, g.Usage))
	}
	chunk := func(choice, usage string) Part {
		return Part{Data: fmt.Sprintf(`data: {"id":"msg_1","object":"chat.completion.chunk","created":1795967291,"model":%q,"choices":[%s]%s}`+"\n\n", Billed, choice, usage)}
	}
	last := chunk(`{"index":0,"delta":{},"finish_reason":"stop"}`, `,"usage":`+g.Usage) // unasked, and beside a choice
	if g.Looped {
		last = Part{}
	}
	return stream(chunk(fmt.Sprintf(`{"index":0,"delta":{"role":"assistant","content":%q},"finish_reason":null}`, text), ""), last, Part{Data: "data: [DONE]\n\n"})
}

// Gateways implements gatewayed.
func (OpenAIResponses) Gateways() []Gateway {
	return []Gateway{
		{Name: "Bifrost", Means: claude, Usage: `{"input_tokens":354,"input_tokens_details":{"cached_read_tokens":310,"cached_write_tokens":25,"cached_tokens":335},` +
			`"output_tokens":44,"output_tokens_details":null,"total_tokens":398}`},
		{Name: "Ollama", Looped: true, Usage: `{"input_tokens":0,"output_tokens":0,"total_tokens":0,"input_tokens_details":{"cached_tokens":0},"output_tokens_details":{"reasoning_tokens":0}}`},
	}
}

// Of implements gatewayed.
func (w OpenAIResponses) Of(r *Request, g Gateway, text string) Reply {
	body := fmt.Sprintf(`{"id":"resp_1","object":"response","created_at":1795967291,"status":"completed","model":%q,"output":[%s],"usage":%s}`,
		Billed, outputMessage("completed", text), g.Usage)
	if !w.Streams(r) {
		return whole(body)
	}
	return stream(
		Part{Data: fmt.Sprintf("event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":0,\"item_id\":\"msg_1\","+
			"\"output_index\":0,\"content_index\":0,\"delta\":%q}\n\n", text)},
		Part{Data: fmt.Sprintf("event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":1,\"response\":%s}\n\n", body)})
}

// Gateways implements gatewayed. What new-api says of a model of OpenAI's has the cache in the input, as OpenAI has it.
func (Anthropic) Gateways() []Gateway {
	return []Gateway{
		{Name: "new-api", Means: tenant.Usage{Input: 20, CacheRead: 70, Output: 41}, Usage: `{"input_tokens":90,"cache_creation_input_tokens":0,"cache_read_input_tokens":70,` +
			`"output_tokens":41,"claude_cache_creation_5_m_tokens":0,"claude_cache_creation_1_h_tokens":0}`},
		{Name: "Ollama", Looped: true, Usage: `{"input_tokens":0,"output_tokens":0}`},
	}
}

// Of implements gatewayed. They are replies as a whole: of a stream both say what Anthropic says.
func (w Anthropic) Of(r *Request, g Gateway, text string) Reply {
	if w.Streams(r) {
		return w.Stream(r, []string{text}, g.Means)
	}
	stop := `,"stop_reason":"end_turn"`
	if g.Looped {
		stop = ""
	}
	return whole(fmt.Sprintf(`{"id":"msg_1","type":"message","role":"assistant","model":%q,"content":[{"type":"text","text":%q}]%s,"usage":%s}`, Billed, text, stop, g.Usage))
}

// Gateways implements gatewayed.
func (Ollama) Gateways() []Gateway { return []Gateway{{Name: "Ollama", Looped: true}} }

// Of implements gatewayed.
func (w Ollama) Of(r *Request, _ Gateway, text string) Reply {
	reply := whole(strings.TrimSuffix(line(fmt.Sprintf(`"content":%q`, text), `"done":false`), "\n"))
	if w.Streams(r) {
		reply.Header = http.Header{"Content-Type": {"application/x-ndjson"}}
	}
	return reply
}

// throughGateways: what stands before a provider, or in its place, is counted by what its numbers mean, and what says nothing is
// estimated by what came.
func throughGateways(b *bench) {
	w, ok := b.sdk.Wire.(gatewayed)
	if !ok {
		return
	}
	for i, g := range w.Gateways() {
		for _, streams := range []bool{false, true} {
			if streams && g.Means == (tenant.Usage{}) {
				continue // one that breaks off is like one that was cancelled
			}
			who := tenant.ID(fmt.Sprintf("gateway-%d-%t", i, streams))
			b.server.play(&play{reply: func(r *Request) Reply { return w.Of(r, g, answer) }})
			text, err := "", error(nil)
			if streams {
				err = b.calls.Stream(b.context(who), Question, func(piece string) error { text += piece; return nil })
			} else {
				text, err = b.calls.Plain(b.context(who), Question)
			}
			require.NoError(b, err, "%s, streamed: %t", g.Name, streams)
			require.Equal(b, answer, text, "%s, streamed: %t", g.Name, streams)
			e := b.settled(who, 1)[0]
			require.Equal(b, Billed, e.BilledModel, g.Name)
			if g.Means != (tenant.Usage{}) {
				require.Equal(b, g.Means, e.Usage, "%s, streamed: %t", g.Name, streams)
				require.Equal(b, []any{"succeeded", false, cost(g.Means)}, []any{e.Status, e.Estimated, e.CostNano}, g.Name)
				continue
			}
			require.True(b, e.Estimated, g.Name)
			require.Equal(b, int64(len(answer))/4, e.Usage.OutputTokens(), "%s: a token of four letters", g.Name)
			require.Positive(b, e.Usage.Input, g.Name)
			require.Less(b, e.CostNano, e.HeldCostNano, g.Name)
		}
	}
}
