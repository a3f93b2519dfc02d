package meter

import (
	"github.com/llmtenant/tenant/internal/book"
)

// conversations reads the replies of Mistral's conversations, as JSON and as events. What connectors brought in is input,
// and beside the prompt as far as the total says so. Shapes: mistralai for Python, client/models (June 2026).
type conversations struct {
	reply
	usage, next tally
	streamed    bool
}

var conversationsSchema = schema(
	under("usage", []rule{
		{"", fieldUsage, keep}, {"prompt_tokens", fieldPrompt, keep}, {"completion_tokens", fieldCompletion, keep},
		{"total_tokens", fieldTotal, keep}, {"connector_tokens", fieldToolUse, keep}, {"num_cached_tokens", fieldCacheHit, keep},
		{"prompt_tokens_details.cached_tokens", fieldCached, keep},
		{"connectors.web_search", fieldSearches, keep}, {"connectors.web_search_premium", fieldOtherSearches, keep},
	}),
	[]rule{
		{"conversation_id", fieldID, keep}, {"type", fieldType, keep}, {"outputs[].model", fieldModel, keep}, {"model", fieldModel, keep},
		{"error", fieldError, keep},
	},
	each(fieldText, count, "outputs[].content", "outputs[].content[].text", "outputs[].content[].thinking[].text", "outputs[].name",
		"outputs[].arguments", "content", "content.text", "content.thinking[].text", "arguments"),
)

func newConversations(Endpoint) *conversations { return &conversations{reply: newReply()} }

func (c *conversations) schema() *node { return conversationsSchema }

func (c *conversations) begin(f field) {
	if f == fieldUsage {
		c.next = tally{}
		return
	}
	c.reply.begin(f)
}

func (c *conversations) end(f field) {
	if f == fieldUsage && c.next.replaces(&c.usage) {
		c.usage = c.next
	}
}

func (c *conversations) scalar(f field, v value) {
	switch {
	case f == fieldType:
		c.streamed = true
		c.ending = v.is("conversation.response.done") || v.is("conversation.response.error")
		c.failed = c.failed || v.is("conversation.response.error")
	case c.next.read(f, v):
	default:
		c.reply.scalar(f, v)
	}
}

func (c *conversations) result(to *Result) {
	c.fill(to)
	to.Complete = c.ended || to.Complete && !c.streamed
	t := &c.usage
	if t.bad {
		to.Implausible = true
		return
	}
	if t.any(fieldPrompt, fieldCompletion, fieldTotal) {
		to.state(t.conversation())
	}
}

// conversation takes the totals apart. Tokens of connectors are input; that they are beside the prompt is seen in the
// total, and where there is none, it is taken so.
func (t *tally) conversation() (u book.Usage) {
	prompt, completion := t.n[fieldPrompt], t.n[fieldCompletion]
	connectors, beside := t.n[fieldToolUse], t.n[fieldToolUse]
	if t.has(fieldTotal) {
		beside = max(t.n[fieldTotal]-prompt-completion, 0)
	}
	brought := min(beside, connectors)
	u.CacheRead = take(&prompt, max(t.n[fieldCached], t.n[fieldCacheHit]))
	u.Input = prompt + brought
	u.Output = completion
	u.Reasoning = beside - brought // what neither is said to be, as elsewhere
	u.WebSearches = t.n[fieldSearches] + t.n[fieldOtherSearches]
	return u
}

// askedConversations is what a request says. What was said before is stored.
var askedConversations = schema(
	[]rule{
		{"model", askModel, keep}, {"agent_id", askAgent, keep}, {"stream", askStream, keep}, {"from_entry_id", askStored, keep},
		{"completion_args.max_tokens", askMax, keep}, {"tools[].type", askTool, keep},
	},
	media("inputs[].content[]"),
	[]rule{{"inputs[].content[].document_url", askDocument, measure}},
)
