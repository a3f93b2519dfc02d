package meter

import (
	"cmp"
	"strings"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/money"
)

// openAI reads chat completions, completions, responses, embeddings, images, speech and transcriptions, as JSON and as
// events, of OpenAI and of everybody who took the format over. Details are contained in their totals, with the
// exceptions that usage takes care of.
type openAI struct {
	reply
	endpoint Endpoint
	usage    tally // the last whole usage object: chunks repeat it, or raise it
	next     tally
	spent    spending
	paying   spending // of the usage object that is being read

	typ       string // of the event
	usageTier string
	seconds   int64 // in nanoseconds
	item      item
	items     int64 // searches among the items of a whole response
	doneItems int64 // searches among the items that a stream has finished
	finishing bool  // the chunk has a reason of finishing
	finished  bool  // a whole chunk had one
}

// spending is the cost that a usage object states.
type spending struct {
	cost, upstream, market, ticks int64
	own                           bool // the key is the caller's own
}

type item struct{ typ, action string }

var openAISchema = func() *node {
	usage := openAIUsage()
	response := concat(
		[]rule{
			{"model", fieldModel, keep}, {"id", fieldID, keep}, {"service_tier", fieldTier, keep},
			{"status", fieldStatus, keep}, {"incomplete_details.reason", fieldFinish, keep},
			{"output", fieldItems, keep}, {"output[]", fieldItem, keep},
			{"output[].type", fieldItemType, keep}, {"output[].action.type", fieldItemAction, keep},
		},
		each(fieldText, count, "output[].content[].text", "output[].summary[].text", "output[].arguments"),
		under("usage", usage),
	)
	choice := concat(
		each(fieldText, count, "content", "content[].text", "reasoning_content", "reasoning", "refusal", "audio.transcript",
			"tool_calls[].function.name", "tool_calls[].function.arguments", "function_call.arguments"),
	)
	return schema(
		response,
		under("response", response),
		under("x_groq.usage", usage),
		[]rule{
			{"type", fieldType, keep},
			{"choices[].finish_reason", fieldFinish, keep}, {"choices[].text", fieldText, count},
			{"delta", fieldText, count}, // of the events of responses and transcriptions
			{"item", fieldDoneItem, keep}, {"item.type", fieldItemType, keep}, {"item.action.type", fieldItemAction, keep},
		},
		under("choices[].delta", choice),
		under("choices[].message", choice),
	)
}()

func concat(lists ...[]rule) (all []rule) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

func openAIUsage() []rule {
	rules := concat(
		[]rule{{"", fieldUsage, keep}},
		each(fieldPrompt, keep, "prompt_tokens", "input_tokens"),
		each(fieldCompletion, keep, "completion_tokens", "output_tokens"),
		[]rule{
			{"total_tokens", fieldTotal, keep},
			{"prompt_cache_hit_tokens", fieldCacheHit, keep},       // DeepSeek
			{"num_cached_tokens", fieldCacheHit, keep},             // Mistral
			{"cache_creation_input_tokens", fieldCacheWrite, keep}, // Vercel
			{"reasoning_tokens", fieldReasoning, keep},             // Perplexity
			{"citation_tokens", fieldCitation, keep},               // Perplexity
			{"num_search_queries", fieldOtherSearches, keep},       // Perplexity
			{"server_tool_use.web_search_requests", fieldSearches, keep},
			{"server_side_tool_usage_details.web_search_calls", fieldSearches, keep},    // xAI
			{"server_side_tool_usage_details.x_search_calls", fieldOtherSearches, keep}, // xAI
			{"cost", fieldCost, keep},                                                   // OpenRouter and Vercel
			{"cost.total_cost", fieldCost, keep},                                        // Perplexity
			{"cost_details.upstream_inference_cost", fieldUpstreamCost, keep},
			{"market_cost", fieldMarketCost, keep},  // Vercel
			{"cost_in_usd_ticks", fieldTicks, keep}, // xAI
			{"is_byok", fieldOwnKey, keep},
			{"seconds", fieldSeconds, keep},
			{"service_tier", fieldUsageTier, keep},        // Mistral
			{"search_context_size", fieldUsageTier, keep}, // Perplexity, whose fee goes by it
		},
	)
	for _, in := range []string{"prompt_tokens_details", "prompt_token_details", "input_tokens_details", "input_token_details"} {
		rules = append(rules, under(in, []rule{
			{"cached_tokens", fieldCached, keep}, {"cache_write_tokens", fieldCacheWrite, keep},
			{"audio_tokens", fieldAudioIn, keep}, {"image_tokens", fieldImageIn, keep},
		})...)
	}
	for _, out := range []string{"completion_tokens_details", "completion_token_details", "output_tokens_details", "output_token_details"} {
		rules = append(rules, under(out, []rule{
			{"reasoning_tokens", fieldReasoning, keep}, {"audio_tokens", fieldAudioOut, keep},
			{"image_tokens", fieldImageOut, keep}, {"text_tokens", fieldTextOut, keep},
		})...)
	}
	return rules
}

func newOpenAI(e Endpoint) *openAI {
	return &openAI{reply: newReply(), endpoint: e, spent: noSpending}
}

var noSpending = spending{cost: notStated, upstream: notStated, market: notStated, ticks: notStated}

func (o *openAI) schema() *node { return openAISchema }

func (o *openAI) begin(f field) {
	switch f {
	case fieldUsage:
		o.next, o.paying = tally{}, noSpending
	case fieldItems:
		o.items = 0
	case fieldItem, fieldDoneItem:
		o.item = item{}
	}
}

func (o *openAI) end(f field) {
	switch f {
	case fieldUsage:
		if !o.next.empty() {
			o.usage = o.next
		}
		o.spent.overlay(o.paying)
	case fieldItem:
		o.items += o.item.searches()
	}
}

// text leaves out sound, which comes under the same name as text.
func (o *openAI) text(f field, t text) {
	if !strings.HasSuffix(o.typ, "audio.delta") {
		o.reply.text(f, t)
	}
}

func (o *openAI) done() {
	if o.typ == "response.output_item.done" {
		o.doneItems += o.item.searches()
	}
	o.item, o.finished = item{}, o.finished || o.finishing
	o.reply.done()
}

// searches counts what the provider charges for: a search, not the opening of a page that it has found.
func (i item) searches() int64 {
	if i.typ == "web_search_call" && (i.action == "" || i.action == "search") {
		return 1
	}
	return 0
}

func (s *spending) overlay(o spending) {
	for _, p := range []struct{ to, from *int64 }{
		{&s.cost, &o.cost}, {&s.upstream, &o.upstream}, {&s.market, &o.market}, {&s.ticks, &o.ticks},
	} {
		if *p.from != notStated {
			*p.to = *p.from
		}
	}
	s.own = s.own || o.own
}

func (o *openAI) scalar(f field, v value) {
	switch f {
	case fieldType:
		o.typ = intern(o.typ, v)
		switch o.typ {
		case "response.completed", "response.incomplete", "response.failed", "transcript.text.done", "speech.audio.done",
			"image_generation.completed", "image_edit.completed":
			o.ending = true
		}
	case fieldStatus:
		o.pending = v.is("queued") || v.is("in_progress")
		if !o.pending {
			o.reply.scalar(fieldFinish, v)
		}
	case fieldItemType:
		o.item.typ = intern(o.item.typ, v)
	case fieldItemAction:
		o.item.action = intern(o.item.action, v)
	case fieldUsageTier:
		o.usageTier = intern(o.usageTier, v)
	case fieldSeconds:
		o.seconds, _, _ = scaled(v.text, 9)
	case fieldCost:
		o.pay(&o.paying.cost, v, 9)
	case fieldUpstreamCost:
		o.pay(&o.paying.upstream, v, 9)
	case fieldMarketCost:
		o.pay(&o.paying.market, v, 9)
	case fieldTicks:
		o.pay(&o.paying.ticks, v, -1)
	case fieldOwnKey:
		o.paying.own = v.isTrue()
	default:
		if f == fieldFinish {
			o.finishing = true
		}
		if !o.next.read(f, v) {
			o.reply.scalar(f, v)
		}
	}
}

// pay reads an amount of 10^-places US dollars, which some write in quotes. What is no number is no statement; a number
// that cannot be true is implausible.
func (o *openAI) pay(to *int64, v value, places int) {
	switch n, _, ok := scaled(v.text, places); {
	case ok && n >= 0 && n <= maxCost && v.text[0] != '-':
		*to = n
	case ok || !v.quoted:
		o.implausible = true
	}
}

func (o *openAI) result(to *Result) {
	if o.endpoint.Provider == "" && o.spent.market != notStated { // a proxy of the host's before it
		o.endpoint.Provider = Vercel
	}
	o.cost = o.spent.stated(o.endpoint.Provider)
	o.tier = cmp.Or(o.tier, o.usageTier)
	o.pending = o.pending && o.typ == "" // a stream that is cut has had this status too
	o.fill(to)
	to.ServiceTier = o.endpoint.in(o.tier)
	to.Complete = to.Complete || o.ended || o.finished && !o.usage.empty() // not everybody sends the end mark
	to.AudioDuration = time.Duration(max(o.seconds, 0))
	if o.usage.bad {
		to.Implausible = true
		return
	}
	u, ok := o.usage.openAI(o.endpoint)
	u.WebSearches = o.searches()
	if ok {
		to.state(u)
	} else if plausible(u) {
		to.Usage.WebSearches = u.WebSearches // of a stream that was cut before it stated its tokens
	}
}

// searches is what the provider counts, or else the searches among the items.
func (o *openAI) searches() int64 {
	if !o.usage.any(fieldSearches, fieldOtherSearches) {
		return max(o.items, o.doneItems)
	}
	n := o.usage.n[fieldSearches]
	if o.endpoint.Provider != Perplexity || o.usage.has(fieldCitation) { // else a fee for the request covers them
		n += o.usage.n[fieldOtherSearches]
	}
	return n
}

// stated is the cost as the provider says it, in nano-dollars.
func (s spending) stated(provider string) int64 {
	switch {
	case s.ticks > 0: // others that serve xAI's models report zero
		return s.ticks
	case s.cost == notStated:
		return notStated
	case !s.own:
		return s.cost
	case s.upstream > 0:
		return money.Add(s.cost, s.upstream)
	case s.cost == 0 && s.market > 0 && provider == Vercel:
		return s.market
	default:
		return s.cost
	}
}

// openAI takes the totals apart.
func (t *tally) openAI(e Endpoint) (u book.Usage, ok bool) {
	prompt, completion, total := t.n[fieldPrompt], t.n[fieldCompletion], t.n[fieldTotal]
	switch hasTotal := t.has(fieldTotal); {
	case t.has(fieldPrompt, fieldCompletion):
	case e.Kind.inputOnly() && t.has(fieldPrompt):
	case e.Kind.inputOnly() && hasTotal: // Voyage
		prompt = total
	case hasTotal && t.has(fieldPrompt):
		completion = max(total-prompt, 0)
	case hasTotal && t.has(fieldCompletion):
		prompt = max(total-completion, 0)
	default:
		return u, false
	}

	reasoning, audio := t.n[fieldReasoning], t.n[fieldAudioIn]
	hidden := int64(0)
	if t.has(fieldTotal) {
		hidden = total - prompt - completion
	}
	switch {
	case e.Kind.inputOnly():
		reasoning = 0
	case hidden > 0 && hidden == audio && reasoning == 0 && e.Provider != Google: // Mistral leaves audio out of the prompt
		prompt += audio
	case hidden > 0: // xAI leaves reasoning out of the completion; so does Gemini, without saying how much it is
		completion += hidden
		reasoning = max(reasoning, hidden)
	case reasoning > completion, e.Provider == Vercel && e.Format != Responses, e.Provider == Perplexity && t.has(fieldCitation):
		completion += reasoning // these leave it out of the total as well
	}

	u.CacheRead = take(&prompt, max(t.n[fieldCached], t.n[fieldCacheHit]))
	u.CacheWrite5m = take(&prompt, t.n[fieldCacheWrite])
	u.InputAudio = take(&prompt, audio)
	u.InputImage = take(&prompt, t.n[fieldImageIn])
	u.Input = prompt + t.n[fieldCitation]
	u.Reasoning = take(&completion, reasoning)
	u.OutputAudio = take(&completion, t.n[fieldAudioOut])
	u.OutputImage = take(&completion, t.n[fieldImageOut])
	u.Output = completion

	// What these make is of one kind, where no details say otherwise.
	switch {
	case e.Kind == Images && !t.any(fieldImageOut, fieldTextOut):
		u.Output, u.OutputImage = 0, u.Output
	case e.Kind == Speech && !t.any(fieldAudioOut, fieldTextOut):
		u.Output, u.OutputAudio = 0, u.Output
	case e.Kind == Transcription && !t.has(fieldAudioIn):
		u.Input, u.InputAudio = 0, u.Input
	}
	return u, true
}
