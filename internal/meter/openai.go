package meter

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/llmtenant/tenant/internal/book"
)

// openAI reads chat completions, completions, responses, embeddings, images, speech and transcriptions, as JSON and as
// events, of OpenAI and of everybody who took the format over. Details are contained in their totals, with the
// exceptions that usage takes care of.
type openAI struct {
	reply
	endpoint Endpoint
	usage    tally // the last whole usage object: chunks repeat it, or raise it
	next     tally
	other    *tally // that is read instead: of a tool's own model
	images   tally  // of the model that makes images for a response
	billed   tally  // searches of a response that are charged for
	drawing  ModelUsage
	drawn    tally
	drawings others
	painter  string // the model of images
	tool     tool
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

type item struct{ typ, action string }

type tool struct{ typ, model string }

// imageModel makes images for a response where its tool names no model.
const imageModel = "gpt-image-2"

var openAISchema = func() *node {
	counts := openAICounts()
	usage := openAIUsage(counts)
	response := concat(
		[]rule{
			{"model", fieldModel, keep}, {"id", fieldID, keep}, {"service_tier", fieldTier, keep},
			{"status", fieldStatus, keep}, {"incomplete_details.reason", fieldFinish, keep},
			{"output", fieldItems, keep}, {"output[]", fieldItem, keep},
			{"output[].type", fieldItemType, keep}, {"output[].action.type", fieldItemAction, keep},
		},
		each(fieldText, count, "output[].content[].text", "output[].summary[].text", "output[].arguments"),
		[]rule{
			{"tools[]", fieldTool, keep}, {"tools[].type", fieldToolType, keep}, {"tools[].model", fieldToolModel, keep},
			{"tool_usage.image_gen", fieldImageGen, keep}, {"tool_usage.web_search.num_requests", fieldBilledSearches, keep},
			{"svg_usage", fieldDrawing, keep}, {"svg_usage.model", fieldDrawingModel, keep},
			{"output[].svg_usage", fieldDrawing, keep}, {"output[].svg_usage.model", fieldDrawingModel, keep},
		},
		under("usage", usage),
		under("tool_usage.image_gen", counts),
		under("svg_usage", counts),
		under("output[].svg_usage", counts),
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
			{"type", fieldType, keep}, {"error", fieldError, keep},
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

func openAIUsage(counts []rule) []rule {
	return concat(counts, costs, []rule{
		{"", fieldUsage, keep},
		{"seconds", fieldSeconds, keep},
		{"service_tier", fieldUsageTier, keep},        // Mistral
		{"search_context_size", fieldUsageTier, keep}, // Perplexity, whose fee goes by it
	})
}

func openAICounts() []rule {
	rules := concat(
		each(fieldPrompt, keep, "prompt_tokens", "input_tokens"),
		each(fieldCompletion, keep, "completion_tokens", "output_tokens"),
		[]rule{
			{"total_tokens", fieldTotal, keep},
			{"prompt_cache_hit_tokens", fieldCacheHit, keep},       // DeepSeek
			{"num_cached_tokens", fieldCacheHit, keep},             // Mistral
			{"cached_tokens", fieldCacheHit, keep},                 // Moonshot, and OpenAI's tool that makes images
			{"cache_read_input_tokens", fieldCacheHit, keep},       // LiteLLM
			{"cache_creation_input_tokens", fieldCacheWrite, keep}, // LiteLLM, Vercel
			{"reasoning_tokens", fieldReasoning, keep},             // Perplexity
			{"citation_tokens", fieldCitation, keep},               // Perplexity
			{"num_search_queries", fieldOtherSearches, keep},       // Perplexity
			{"server_tool_use.web_search_requests", fieldSearches, keep},
			{"server_side_tool_usage_details.web_search_calls", fieldSearches, keep},    // xAI
			{"server_side_tool_usage_details.x_search_calls", fieldOtherSearches, keep}, // xAI
			{"cached_tokens_details.cached_image_tokens", fieldImageCached, keep},
		},
	)
	for _, in := range []string{"prompt_tokens_details", "prompt_token_details", "input_tokens_details", "input_token_details"} {
		rules = append(rules, under(in, []rule{
			{"cached_tokens", fieldCached, keep}, {"cache_write_tokens", fieldCacheWrite, keep},
			{"audio_tokens", fieldAudioIn, keep}, {"image_tokens", fieldImageIn, keep},
			{"cached_tokens_details.audio_tokens", fieldAudioCached, keep},
			{"cached_tokens_details.image_tokens", fieldImageCached, keep},
			{"cache_write_tokens_details.ttl_30m_tokens", fieldCacheWrite5m, keep},
			{"cache_write_tokens_details.ttl_12h_tokens", fieldCacheWrite1h, keep},
			{"cache_creation_tokens", fieldCacheWrite, keep},       // LiteLLM
			{"cache_creation_input_tokens", fieldCacheWrite, keep}, // Alibaba
		})...)
		for _, split := range []string{".cache_creation_token_details", ".cache_creation"} { // LiteLLM and Alibaba
			rules = append(rules, under(in+split, []rule{
				{"ephemeral_5m_input_tokens", fieldCacheWrite5m, keep}, {"ephemeral_1h_input_tokens", fieldCacheWrite1h, keep},
			})...)
		}
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

func (o *openAI) schema() *node { return openAISchema }

func (o *openAI) begin(f field) {
	switch f {
	case fieldUsage:
		o.next, o.paying, o.other = tally{}, noSpending, nil
	case fieldImageGen:
		o.images = tally{}
		o.other = &o.images
	case fieldDrawing:
		o.drawing, o.drawn = ModelUsage{}, tally{}
		o.other = &o.drawn
	case fieldTool:
		o.tool = tool{}
	case fieldItems:
		o.items, o.drawings = 0, others{}
	case fieldItem, fieldDoneItem:
		o.item = item{}
	default:
		o.reply.begin(f)
	}
}

func (o *openAI) end(f field) {
	switch f {
	case fieldUsage:
		if o.next.replaces(&o.usage) {
			o.usage = o.next
		}
		o.spent.overlay(o.paying)
	case fieldImageGen:
		o.other = nil
	case fieldDrawing:
		o.other = nil
		if u, _ := o.drawn.openAI(Endpoint{Kind: Chat}); u != (book.Usage{}) || o.drawn.bad {
			o.drawings.plus(o.drawing.Model, u, o.drawn.bad)
		}
	case fieldTool:
		if o.tool.typ == "image_generation" {
			o.painter = o.tool.model
		}
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

func (o *openAI) scalar(f field, v value) {
	switch f {
	case fieldType:
		o.typ = intern(o.typ, v)
		switch o.typ {
		case "response.completed", "response.incomplete", "response.failed", "response.done", "transcript.text.done", "speech.audio.done",
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
	case fieldToolType:
		o.tool.typ = intern(o.tool.typ, v)
	case fieldToolModel:
		o.tool.model = intern(o.tool.model, v)
	case fieldDrawingModel:
		o.drawing.Model = string(v.text)
	case fieldBilledSearches:
		o.billed.read(fieldSearches, v)
	case fieldUsageTier:
		o.usageTier = intern(o.usageTier, v)
	case fieldSeconds:
		o.seconds, _, _ = scaled(v.text, 9)
	case fieldCost, fieldUpstreamCost, fieldMarketCost, fieldTicks, fieldOwnKey:
		o.implausible = !o.paying.read(f, v) || o.implausible
	default:
		if f == fieldFinish {
			o.finishing = true
		}
		counts := &o.next
		if o.other != nil {
			counts = o.other
		}
		if !counts.read(f, v) {
			o.reply.scalar(f, v)
		}
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
	o.tools(to)
	if o.usage.bad || o.billed.bad {
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

// tools says what models of the provider's tools used, which is no part of the reply's own usage.
func (o *openAI) tools(to *Result) {
	made := o.drawings
	made.list = slices.Clone(made.list)
	if !o.images.empty() {
		if u, _ := o.images.openAI(Endpoint{Kind: Images}); u != (book.Usage{}) || o.images.bad {
			made.plus(cmp.Or(o.painter, imageModel), u, o.images.bad)
		}
	}
	made.fill(to, o.model)
}

// searches is what the provider counts, or else the searches among the items.
func (o *openAI) searches() int64 {
	if o.billed.has(fieldSearches) {
		return o.billed.n[fieldSearches]
	}
	if !o.usage.any(fieldSearches, fieldOtherSearches) {
		return max(o.items, o.doneItems)
	}
	n := o.usage.n[fieldSearches]
	if o.endpoint.Provider != Perplexity || o.usage.has(fieldCitation) { // else a fee for the request covers them
		n += o.usage.n[fieldOtherSearches]
	}
	return n
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

	cached := take(&prompt, max(t.n[fieldCached], t.n[fieldCacheHit]))
	u.CacheReadAudio = take(&cached, t.n[fieldAudioCached])
	u.CacheRead = cached
	short, long := t.writes()
	u.CacheWrite1h = take(&prompt, long)
	u.CacheWrite5m = take(&prompt, short)
	u.InputAudio = take(&prompt, max(audio-t.n[fieldAudioCached], 0))
	u.InputImage = take(&prompt, max(t.n[fieldImageIn]-t.n[fieldImageCached], 0))
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
