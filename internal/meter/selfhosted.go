package meter

import (
	"net/http"

	"github.com/llmtenant/tenant/internal/book"
)

// native reads the replies of servers of one's own in their own formats, beside OpenAI's completions, which the same path can
// stand for: llama.cpp's completions and infills, and what text-generation-inference (TGI) generates.
type native struct {
	openAI
	counts    tally // of the document that is read
	summed    tally // of those that have ended
	headers   tally
	generated text // the whole text, which a stream repeats at its end
	over      bool // the document is the last of its answer
}

var nativeSchema = schema(openAIRules(), []rule{
	{"tokens_evaluated", fieldHostPrompt, keep}, {"tokens_predicted", fieldHostCompletion, keep}, // llama.cpp
	{"timings.cache_n", fieldHostCached, keep}, {"stop", fieldDone, keep}, {"stop_type", fieldFinish, keep},
	{"content", fieldText, count}, {"token.text", fieldText, count},
	{"generated_text", fieldGenerated, count}, {"details", fieldDetails, keep}, // TGI
	{"details.finish_reason", fieldFinish, keep}, {"details.generated_tokens", fieldHostCompletion, keep},
	{"details.input_length", fieldHostPrompt, keep}, {"details.prefill[]", fieldPrefill, keep},
	{"details.best_of_sequences[].generated_tokens", fieldOtherCompletion, keep},
})

func newNative(e Endpoint) *native { return &native{openAI: *newOpenAI(e)} }

func (n *native) schema() *node { return nativeSchema }

// header reads what TGI says of a reply that is not streamed.
func (n *native) header(h http.Header) {
	n.openAI.header(h)
	for name, f := range map[string]field{"X-Prompt-Tokens": fieldHostPrompt, "X-Generated-Tokens": fieldHostCompletion} {
		if v := h.Get(name); v != "" && n.endpoint.Format == TextGeneration {
			n.headers.read(f, value{text: []byte(v)})
		}
	}
}

func (n *native) begin(f field) {
	switch f {
	case fieldDetails:
		n.over = true
	case fieldPrefill:
		n.counts.add(fieldHostPrompt, 1)
	default:
		n.openAI.begin(f)
	}
}

func (n *native) text(f field, t text) {
	if f == fieldGenerated {
		n.generated.plus(t)
		return
	}
	n.openAI.text(f, t)
}

func (n *native) scalar(f field, v value) {
	switch f {
	case fieldDone:
		n.over = n.over || v.isTrue()
	case fieldHostPrompt, fieldHostCompletion, fieldHostCached:
		n.counts.read(f, v)
	case fieldOtherCompletion: // of answers that lost against the one that is given
		var t tally
		t.read(fieldHostCompletion, v)
		n.counts.bad = n.counts.bad || t.bad
		n.counts.add(fieldOtherCompletion, t.n[fieldHostCompletion])
	default:
		n.openAI.scalar(f, v)
	}
}

// done ends a document. Those of a stream count what there was so far; each of several prompts has one that is the last.
func (n *native) done() {
	if n.over {
		n.summed.plus(&n.counts)
		n.counts, n.over = tally{}, false
		n.ended = true
	}
	n.openAI.done()
}

func (n *native) result(to *Result) {
	if n.output == (text{}) {
		n.output = n.generated
	}
	n.openAI.result(to)
	if to.Found || to.Implausible {
		return
	}
	t := n.summed
	t.plus(&n.counts)
	for _, f := range [...]field{fieldHostPrompt, fieldHostCompletion} {
		if !t.has(f) && n.headers.has(f) {
			t.put(f, n.headers.n[f])
		}
	}
	if t.bad || n.headers.bad {
		to.Implausible = true
		return
	}
	if t.any(fieldHostPrompt, fieldHostCompletion) {
		to.state(t.native())
	}
}

// native takes the counts of a server apart: what was read from its cache is inside the prompt.
func (t *tally) native() book.Usage {
	prompt := t.n[fieldHostPrompt]
	u := book.Usage{CacheRead: take(&prompt, t.n[fieldHostCached]), Output: t.n[fieldHostCompletion] + t.n[fieldOtherCompletion]}
	u.Input = prompt
	return u
}
