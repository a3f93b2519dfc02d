package meter

import (
	"slices"

	"github.com/llmtenant/tenant/internal/book"
)

// ollama reads chats, generated text and embeddings, as JSON and as lines of JSON, of which the last has the counts.
type ollama struct {
	reply
	usage  tally
	embeds bool
}

var ollamaSchema = schema(
	[]rule{
		{"model", fieldModel, keep},
		{"done", fieldDone, keep},
		{"error", fieldError, keep},
		{"done_reason", fieldFinish, keep},
		{"prompt_eval_count", fieldPrompt, keep},
		{"eval_count", fieldCompletion, keep},
	},
	each(fieldText, count, "response", "thinking", "message.content", "message.thinking", "message.tool_calls[].function.name"),
)

func newOllama(e Endpoint) *ollama { return &ollama{reply: newReply(), embeds: e.Kind == Embeddings} }

func (o *ollama) schema() *node { return ollamaSchema }

func (o *ollama) scalar(f field, v value) {
	if f == fieldDone {
		o.ending, o.known = v.isTrue(), true
		return
	}
	if !o.usage.read(f, v) {
		o.reply.scalar(f, v)
	}
}

func (o *ollama) result(to *Result) {
	o.fill(to)
	to.Complete = o.ended || o.embeds && to.Complete // a line that is whole need not be the last
	t := &o.usage
	if t.bad {
		to.Implausible = true
		return
	}
	// The prompt's count is absent where the prompt was cached whole.
	if t.any(fieldPrompt, fieldCompletion) {
		to.state(book.Usage{Input: t.n[fieldPrompt], Output: t.n[fieldCompletion]})
		return
	}
	// A request without a prompt has a model loaded into memory, or taken out of it. Nothing is evaluated for it.
	if slices.ContainsFunc(o.finish, func(reason string) bool { return reason == "load" || reason == "unload" }) {
		to.state(book.Usage{})
	}
}
