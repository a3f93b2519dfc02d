package meter

import (
	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/units"
)

// cohere reads chats, generated text, embeddings and classifications of both versions of the API, as JSON, as events
// and as lines of JSON. What is billed is stated apart from what the model saw, which is not billed.
type cohere struct {
	reply
	usage, next tally
	streamed    bool
}

var cohereSchema = func() *node {
	billed := []rule{
		{"billed_units", fieldUsage, keep},
		{"billed_units.input_tokens", fieldPrompt, keep},
		{"billed_units.output_tokens", fieldCompletion, keep},
		{"billed_units.image_tokens", fieldImageIn, keep},
		{"billed_units.images", fieldPictures, keep},
		{"billed_units.search_units", fieldSearches, keep},
	}
	return schema(
		under("usage", billed),
		under("meta", billed),
		under("delta.usage", billed),
		under("response.meta", billed),
		each(fieldType, keep, "type", "event_type"),
		each(fieldID, keep, "id", "generation_id", "response.generation_id"),
		each(fieldFinish, keep, "finish_reason", "delta.finish_reason", "response.finish_reason", "generations[].finish_reason"),
		each(fieldText, count, "text", "generations[].text", "message.content[].text", "message.content[].thinking",
			"message.tool_plan", "message.tool_calls[].function.name", "message.tool_calls[].function.arguments",
			"delta.message.content.text", "delta.message.content.thinking", "delta.message.tool_plan",
			"delta.message.tool_calls.function.name", "delta.message.tool_calls.function.arguments"),
	)
}()

func newCohere(Endpoint) *cohere { return &cohere{reply: newReply()} }

func (c *cohere) schema() *node { return cohereSchema }

func (c *cohere) begin(f field) {
	if f == fieldUsage {
		c.next = tally{}
	}
}

func (c *cohere) end(f field) {
	if f == fieldUsage && !c.next.empty() {
		c.usage = c.next
	}
}

func (c *cohere) scalar(f field, v value) {
	if f == fieldType {
		c.streamed = true
		c.ending = c.ending || v.is("message-end") || v.is("stream-end")
		return
	}
	if !c.next.read(f, v) {
		c.reply.scalar(f, v)
	}
}

func (c *cohere) result(to *Result) {
	c.fill(to)
	to.Complete = c.ended || to.Complete && !c.streamed // a line that is whole need not be the last
	t := &c.usage
	if t.bad {
		to.Implausible = true
		return
	}
	if t.any(fieldPrompt, fieldCompletion, fieldImageIn, fieldSearches, fieldPictures) {
		u := book.Usage{
			Input: t.n[fieldPrompt], InputImage: t.n[fieldImageIn], Output: t.n[fieldCompletion],
			Units: units.Of(units.SearchUnits, t.n[fieldSearches]),
		}
		if u.InputImage == 0 { // what is counted in tokens is not counted by the piece as well
			u.Units = u.Units.Plus(units.Of(units.InputImages, t.n[fieldPictures]))
		}
		to.state(u)
	}
}
