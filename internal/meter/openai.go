package meter

import (
	"bytes"
	"cmp"
	"net/http"
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
	seldom   *seldom
	stated   int64 // usage objects
	answers  int64 // to all prompts
	listed   int64 // of the document that is read
	first    text  // of the first answer
	whole    text  // of the response that ends a stream, which has come in pieces before
	build    bool  // the server is llama.cpp
	semantic semantic
	other    *tally // that is read instead: of a tool's own model
	drawing  ModelUsage
	drawings others
	painter  string    // the model of images
	memory   gigabytes // of containers
	tool     tool
	spent    spending
	paying   spending // of the usage object that is being read
	gateway  int64    // the cost that is stated beside a usage object

	typ       string // of the event
	usageTier string
	seconds   int64 // in nanoseconds
	timed     bool  // they are stated beside tokens, and are what is charged by
	item      item
	items     used // the provider's tools among the items of a whole response
	doneItems used // and among those that a stream has finished
	finishing bool // the chunk has a reason of finishing
	finished  bool // a whole chunk had one
}

// seldom is the counts that few replies have, so that the others need no room for them.
type seldom struct {
	ofChoice tally // Moonshot's, in a choice
	summed   tally // of all usage objects where there are several: llama.cpp states one for each answer
	computed tally // in a header
	images   tally // of the model that makes images for a response
	billed   tally // searches of a response that are charged for
	drawn    tally
	share    tally // of one of several models
	sharer   string
	shares   others
}

// few is to be written to.
func (o *openAI) few() *seldom {
	if o.seldom == nil {
		o.seldom = new(seldom)
	}
	return o.seldom
}

// semantic is what gateways say of how a usage is counted.
type semantic struct{ claude, beside bool }

var openAISchema = schema(openAIRules())

func openAIRules() []rule {
	counts := openAICounts()
	usage := openAIUsage(counts)
	response := concat(
		[]rule{
			{"model", fieldModel, keep}, {"id", fieldID, keep}, {"service_tier", fieldTier, keep},
			{"status", fieldStatus, keep}, {"incomplete_details.reason", fieldFinish, keep},
			{"output", fieldItems, keep}, {"output[]", fieldItem, keep},
			{"output[].type", fieldItemType, keep}, {"output[].action.type", fieldItemAction, keep},
			{"output[].container_id", fieldItemContainer, keep}, {"output[].environment.container_id", fieldItemContainer, keep},
		},
		each(fieldText, count, "output[].content[].text", "output[].summary[].text", "output[].arguments"),
		[]rule{
			{"tools[]", fieldTool, keep}, {"tools[].type", fieldToolType, keep}, {"tools[].model", fieldToolModel, keep},
			{"tools[].container.memory_limit", fieldToolMemory, keep}, {"tools[].environment.memory_limit", fieldToolMemory, keep},
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
	return concat(
		response,
		under("response", repeated(response)),
		under("x_groq.usage", usage),
		[]rule{
			{"type", fieldType, keep}, {"error", fieldError, keep}, {"base_resp.status_code", fieldProblem, keep}, // the last is MiniMax's
			{"system_fingerprint", fieldBuild, keep}, {"timings", fieldTimings, keep}, // llama.cpp
			{"providerMetadata.gateway.cost", fieldGatewayCost, keep}, {"provider_metadata.gateway.cost", fieldGatewayCost, keep}, // Vercel
			{"choices[]", fieldChoice, keep}, {"choices[].index", fieldChoiceIndex, keep},
			{"choices[].finish_reason", fieldFinish, keep}, {"choices[].text", fieldText, count},
			{"delta", fieldText, count}, // of the events of responses and transcriptions
			{"item", fieldDoneItem, keep}, {"item.type", fieldItemType, keep}, {"item.action.type", fieldItemAction, keep},
			{"item.container_id", fieldItemContainer, keep}, {"item.environment.container_id", fieldItemContainer, keep},
		},
		under("choices[].usage", usage),  // Moonshot
		shares("usage_breakdown.models"), // Groq
		shares("x_groq.usage_breakdown.models"),
		[]rule{{"choices[].usage", fieldChoiceUsage, keep}},
		under("choices[].delta", choice),
		under("choices[].message", choice),
	)
}

// shares are rules for what each of several models used of what a reply states as a whole.
func shares(list string) []rule {
	return concat([]rule{{list, fieldShares, keep}, {list + "[]", fieldShare, keep}, {list + "[].model", fieldShareModel, keep}},
		under(list+"[].usage", openAICounts()))
}

// repeated are rules for a document whose text has come before.
func repeated(rules []rule) []rule {
	rules = slices.Clone(rules)
	for i := range rules {
		if rules[i].field == fieldText {
			rules[i].field = fieldGenerated
		}
	}
	return rules
}

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
		{"prompt_audio_seconds", fieldAudioSeconds, keep},              // Mistral, beside tokens
		{"usage_semantic", fieldSemantic, keep},                        // new-api
		{"usage_source", fieldSource, keep},                            // new-api
		{"service_tier", fieldUsageTier, keep},                         // Mistral
		{"extra_properties.google.traffic_type", fieldUsageTier, keep}, // Vertex AI
		{"search_context_size", fieldUsageTier, keep},                  // Perplexity, whose fee goes by it
	})
}

// splitWrites are what was written to a cache, by how long it lives.
var splitWrites = concat(
	each(fieldCacheWrite5m, keep, "ephemeral_5m_input_tokens", "cached_write_tokens_5m"),
	each(fieldCacheWrite1h, keep, "ephemeral_1h_input_tokens", "cached_write_tokens_1h"),
)

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
			{"server_tool_use_details.web_search_requests", fieldSearches, keep},        // OpenRouter
			{"claude_cache_creation_5_m_tokens", fieldClaude5m, keep},                   // new-api
			{"claude_cache_creation_1_h_tokens", fieldClaude1h, keep},                   // new-api
			{"connector_tokens", fieldConnector, keep},                                  // Mistral
			{"server_side_tool_usage_details.web_search_calls", fieldSearches, keep},    // xAI
			{"server_side_tool_usage_details.x_search_calls", fieldOtherSearches, keep}, // xAI
			{"cached_tokens_details.cached_image_tokens", fieldImageCached, keep},
		},
		under("cache_creation", splitWrites), // Anthropic's, which a gateway has left as it is
	)
	for _, in := range []string{"prompt_tokens_details", "prompt_token_details", "input_tokens_details", "input_token_details"} {
		rules = append(rules, under(in, []rule{
			{"cached_tokens", fieldCached, keep}, {"cache_write_tokens", fieldCacheWrite, keep},
			{"audio_tokens", fieldAudioIn, keep}, {"image_tokens", fieldImageIn, keep},
			{"cached_tokens_details.audio_tokens", fieldAudioCached, keep},
			{"cached_tokens_details.image_tokens", fieldImageCached, keep},
			{"cache_write_tokens_details.ttl_30m_tokens", fieldCacheWrite5m, keep},
			{"cache_write_tokens_details.ttl_12h_tokens", fieldCacheWrite1h, keep},
			{"cached_read_tokens", fieldCachedRead, keep}, {"cached_write_tokens", fieldCachedWrite, keep}, // Bifrost
			{"cache_creation_tokens", fieldCacheWrite, keep},       // LiteLLM
			{"cached_creation_tokens", fieldCacheWrite, keep},      // new-api
			{"cache_creation_input_tokens", fieldCacheWrite, keep}, // Alibaba
		})...)
		rules = append(rules, under(in+".cache_creation_token_details", splitWrites)...) // LiteLLM
		rules = append(rules, under(in+".cache_creation", splitWrites)...)               // Alibaba
		rules = append(rules, under(in+".cached_write_token_details", splitWrites)...)   // Bifrost
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
	o := makeOpenAI(e)
	return &o
}

func makeOpenAI(e Endpoint) openAI {
	return openAI{reply: newReply(), endpoint: e, spent: noSpending, gateway: notStated}
}

func (o *openAI) schema() *node { return openAISchema }

// header reads what text-embeddings-inference (TEI) says of what a model has read.
func (o *openAI) header(h http.Header) {
	if v := Header(h, "X-Compute-Tokens"); v != "" && o.endpoint.Kind.inputOnly() {
		o.few().computed.read(fieldPrompt, value{text: []byte(v)})
	}
}

func (o *openAI) begin(f field) {
	switch f {
	case fieldUsage, fieldChoiceUsage:
		o.next, o.paying, o.other = tally{}, noSpending, nil
	case fieldTimings:
		o.build = true
	case fieldChoice:
		o.known = true
		o.listed++
		o.answers = max(o.answers, o.listed)
	case fieldImageGen:
		o.few().images = tally{}
		o.other = &o.seldom.images
	case fieldDrawing:
		o.drawing, o.few().drawn = ModelUsage{}, tally{}
		o.other = &o.seldom.drawn
	case fieldShares:
		o.few().shares = others{}
	case fieldShare:
		o.few().share, o.seldom.sharer = tally{}, ""
		o.other = &o.seldom.share
	case fieldTool:
		o.tool = tool{}
	case fieldItems:
		o.known = true
		o.items, o.drawings, o.whole = used{}, others{}, text{}
	case fieldItem, fieldDoneItem:
		o.item = item{}
	default:
		o.reply.begin(f)
	}
}

func (o *openAI) end(f field) {
	switch f {
	case fieldUsage:
		if !o.next.empty() {
			if o.stated == 1 {
				o.few().summed = o.usage // of the first of them
			}
			if o.stated > 0 {
				o.seldom.summed.plus(&o.next)
			}
			o.stated++
		}
		if o.next.replaces(&o.usage) {
			o.usage = o.next
		}
		o.spent.overlay(o.paying)
	case fieldChoiceUsage:
		if few := o.few(); o.next.replaces(&few.ofChoice) {
			few.ofChoice = o.next
		}
		o.spent.overlay(o.paying)
	case fieldImageGen:
		o.other = nil
	case fieldDrawing:
		o.other = nil
		drawn := &o.few().drawn
		if u, _ := drawn.openAI(source{Endpoint: Endpoint{Kind: Chat}}); u != (book.Usage{}) || drawn.bad {
			o.drawings.plus(o.drawing.Model, u, drawn.bad)
		}
	case fieldShare:
		o.other = nil
		few := o.seldom
		if u, ok := few.share.openAI(source{Endpoint: o.endpoint, model: few.sharer}); ok && few.sharer != "" || few.share.bad {
			few.shares.plus(few.sharer, u, few.share.bad)
		}
	case fieldTool:
		if o.tool.typ == "image_generation" {
			o.painter = o.tool.model
		}
	case fieldItem:
		o.items.plus(o.item)
	}
}

// text leaves out sound, which comes under the same name as text.
func (o *openAI) text(f field, t text) {
	if f == fieldGenerated {
		o.whole.plus(t)
		return
	}
	if strings.HasSuffix(o.typ, "audio.delta") {
		return
	}
	o.reply.text(f, t)
	if o.listed == 1 {
		o.first.plus(t)
	}
}

func (o *openAI) done() {
	if o.typ == "response.output_item.done" {
		o.doneItems.plus(o.item)
	}
	o.item, o.listed, o.finished = item{}, 0, o.finished || o.finishing
	o.reply.done()
}

func (o *openAI) scalar(f field, v value) {
	switch f {
	case fieldType:
		o.typ = intern(o.typ, v)
		switch o.typ {
		case "response.completed", "response.incomplete", "response.failed", "response.done", "transcript.text.done", "transcription.done", "speech.audio.done",
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
	case fieldItemContainer:
		o.item.container = intern(o.item.container, v)
	case fieldToolType:
		o.tool.typ = intern(o.tool.typ, v)
	case fieldToolModel:
		o.tool.model = intern(o.tool.model, v)
	case fieldToolMemory:
		o.memory.read(v)
	case fieldDrawingModel:
		o.drawing.Model = string(v.text)
	case fieldProblem:
		o.failed = o.failed || !v.is("0")
	case fieldShareModel:
		o.few().sharer = intern(o.seldom.sharer, v)
	case fieldBilledSearches:
		o.few().billed.read(fieldSearches, v)
	case fieldGatewayCost:
		o.implausible = !pay(&o.gateway, v, 9) || o.implausible
	case fieldChoiceIndex:
		if n, ok := v.count(); ok && n < maxAnswers {
			o.answers = max(o.answers, n+1)
		}
	case fieldBuild:
		o.build = o.build || isBuild(v.text)
	case fieldSemantic:
		o.semantic.beside = v.is("anthropic")
	case fieldSource:
		o.semantic.claude = v.is("anthropic")
	case fieldUsageTier:
		o.usageTier = intern(o.usageTier, v)
	case fieldAudioSeconds:
		o.timed = true
		o.seconds, _, _ = scaled(v.text, 9)
	case fieldSeconds:
		o.seconds, _, _ = scaled(v.text, 9)
	case fieldCost, fieldEstimatedCost, fieldUpstreamCost, fieldMarketCost, fieldTicks, fieldOwnKey:
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
	if o.cost = o.spent.stated(o.endpoint.Provider); o.cost == notStated {
		o.cost = o.gateway
	}
	o.tier = cmp.Or(o.tier, o.usageTier)
	o.pending = o.pending && o.typ == "" // a stream that is cut has had this status too
	if o.whole.tokens() > o.output.tokens() {
		o.output = o.whole
	}
	o.fill(to)
	to.ServiceTier = o.endpoint.in(o.tier)
	t := o.counts()
	to.Complete = to.Complete || o.ended || o.finished && !t.empty() && o.all() // not everybody sends the end mark
	to.AudioDuration = time.Duration(max(o.seconds, 0))
	if !o.all() {
		to.Partial, to.StatedChars = true, o.first.ascii+o.first.wide
	}
	o.tools(to)
	if t.bad || o.seldom != nil && o.seldom.billed.bad {
		to.Implausible = true
		return
	}
	u, ok := t.openAI(o.source(t))
	u.WebSearches, u.Units = o.searches(), o.charged()
	if ok {
		o.divide(&u, to)
		to.state(u)
	} else if plausible(u) { // of a stream that was cut before it stated its tokens
		to.Usage.WebSearches, to.Usage.Units = u.WebSearches, u.Units
	}
}

// counts are the counts of the whole reply.
func (o *openAI) counts() *tally {
	few := o.seldom
	switch {
	case few == nil:
		return &o.usage
	case o.usage.empty() && few.ofChoice.empty():
		return &few.computed
	case o.usage.empty():
		return &few.ofChoice
	case o.build && o.stated > 1:
		return &few.summed
	default:
		return &o.usage
	}
}

// all reports whether the usage is that of all answers. llama.cpp states that of each answer in a stream, and that of the
// first one elsewhere.
func (o *openAI) all() bool { return !o.build || o.stated == 0 || o.stated >= o.answers }

const maxAnswers = 1 << 20

// isBuild reports whether a fingerprint is that of llama.cpp: the number of its build, and the commit.
func isBuild(fingerprint []byte) bool {
	number, _, ok := bytes.Cut(fingerprint, []byte("-"))
	return ok && len(number) > 1 && number[0] == 'b' && len(bytes.Trim(number[1:], "0123456789")) == 0
}

// source says who has counted. A model that a gateway has named itself is told by names that only Claude's counts have.
func (o *openAI) source(t *tally) source {
	s := source{Endpoint: o.endpoint, model: cmp.Or(o.model, o.endpoint.Model), beside: o.semantic.beside}
	s.claude = isClaude(s.model) || o.semantic.claude || s.beside || t.n[fieldClaude5m]+t.n[fieldClaude1h] > 0
	return s
}
