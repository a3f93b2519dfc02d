package meter

import (
	"cmp"
	"strings"
)

// interactions reads Gemini's Interactions API: one document, or the events of a stream, which have the interaction in
// them. Its counts are Gemini's under other names, disjoint in the same way. Vertex AI writes the names in camel case.
// Shapes: the types of google-genai for Python, google/genai/_gaos/types/interactions (August 2026).
type interactions struct {
	gemini
	agent     string
	streamed  bool
	grounding grounding
	searches  int64 // of the usage that is being read
	places    int64 // likewise, of a map
}

// What the values of an interaction mean, beside those of Gemini's other replies.
const (
	fieldAgent field = 150 + iota
	fieldGrounding
	fieldGroundingTool
	fieldGroundingCount
	fieldMapped // a place of a map in Gemini's other replies
)

// grounding is how often a tool of the provider's was used.
type grounding struct {
	tool  string
	count int64
}

var interactionsSchema = func() *node {
	detail := []rule{{"modality", fieldModality, keep}, {"tokens", fieldModalityTokens, keep}}
	usage := []rule{{"", fieldUsage, keep}}
	for _, c := range []struct {
		field field
		names [2]string
	}{
		{fieldPrompt, [2]string{"total_input_tokens", "totalInputTokens"}},
		{fieldCached, [2]string{"total_cached_tokens", "totalCachedTokens"}},
		{fieldCompletion, [2]string{"total_output_tokens", "totalOutputTokens"}},
		{fieldReasoning, [2]string{"total_thought_tokens", "totalThoughtTokens"}},
		{fieldToolUse, [2]string{"total_tool_use_tokens", "totalToolUseTokens"}},
		{fieldTotal, [2]string{"total_tokens", "totalTokens"}},
	} {
		usage = append(usage, each(c.field, keep, c.names[:]...)...)
	}
	for _, d := range []struct {
		field field
		names [2]string
	}{
		{fieldPromptDetail, [2]string{"input_tokens_by_modality[]", "inputTokensByModality[]"}},
		{fieldCachedDetail, [2]string{"cached_tokens_by_modality[]", "cachedTokensByModality[]"}},
		{fieldCompletionDetail, [2]string{"output_tokens_by_modality[]", "outputTokensByModality[]"}},
		{fieldToolUseDetail, [2]string{"tool_use_tokens_by_modality[]", "toolUseTokensByModality[]"}},
	} {
		for _, name := range d.names {
			usage = append(usage, rule{name, d.field, keep})
			usage = append(usage, under(name, detail)...)
		}
	}
	for _, name := range []string{"grounding_tool_count[]", "groundingToolCount[]"} {
		usage = append(usage, under(name, []rule{{"", fieldGrounding, keep}, {"type", fieldGroundingTool, keep}, {"count", fieldGroundingCount, keep}})...)
	}
	interaction := concat(
		[]rule{
			{"id", fieldID, keep}, {"model", fieldModel, keep}, {"agent", fieldAgent, keep}, {"status", fieldStatus, keep},
			{"service_tier", fieldTier, keep}, {"serviceTier", fieldTier, keep},
		},
		under("usage", usage),
		each(fieldText, count, "steps[].content[].text", "steps[].summary[].text", "steps[].name", "outputs[].text"),
	)
	return schema(
		interaction,
		under("interaction", interaction),
		under("metadata.total_usage", usage), // of any event of a stream: what was used so far
		under("metadata.totalUsage", usage),
		[]rule{{"event_type", fieldType, keep}, {"eventType", fieldType, keep}, {"interaction_id", fieldID, keep}, {"error", fieldError, keep}},
		each(fieldText, count, "delta.text", "delta.arguments", "delta.content.text", "step.name"),
	)
}()

func newInteractions(e Endpoint) *interactions { return &interactions{gemini: *newGemini(e)} }

func (i *interactions) schema() *node { return interactionsSchema }

func (i *interactions) begin(f field) {
	switch f {
	case fieldUsage:
		i.searches, i.places = 0, 0
		i.gemini.begin(f)
	case fieldGrounding:
		i.grounding = grounding{}
	default:
		i.gemini.begin(f)
	}
}

func (i *interactions) end(f field) {
	switch f {
	case fieldGrounding:
		switch i.grounding.tool {
		case "google_search":
			i.searches += i.grounding.count
		case "google_maps":
			i.places += i.grounding.count
		}
	case fieldUsage:
		i.gemini.end(f)
		i.queries, i.mapped = max(i.queries, i.searches), max(i.mapped, i.places)
	default:
		i.gemini.end(f)
	}
}

func (i *interactions) scalar(f field, v value) {
	switch f {
	case fieldGroundingTool:
		i.grounding.tool = string(v.text)
	case fieldGroundingCount:
		n, ok := v.count()
		i.grounding.count, i.gemini.next.bad = n, i.gemini.next.bad || !ok
	case fieldAgent:
		i.agent = intern(i.agent, v)
	case fieldType:
		i.streamed = true
		i.ending = v.is("interaction.completed") || v.is("interaction.complete") // before May 2026
	case fieldStatus:
		i.status(v)
	case fieldModality: // in lower case, which is upper elsewhere
		i.modality = strings.ToUpper(string(v.text))
	default:
		i.gemini.scalar(f, v)
	}
}

// status says how far the interaction is. What requires an action has ended: the caller's reply to it is the next one.
func (i *interactions) status(v value) {
	i.pending = v.is("in_progress") || v.is("queued")
	i.failed = i.failed || v.is("failed")
	if !i.pending {
		i.reply.scalar(fieldFinish, v)
	}
}

func (i *interactions) result(to *Result) {
	i.pending = i.pending && !i.streamed
	i.model = cmp.Or(i.model, i.agent) // agents are asked for in the place of a model
	i.gemini.result(to)
}

// askedInteractions is what a request says. Its input is a text, a content, a list of contents, or the steps so far.
var askedInteractions = schema(
	[]rule{
		{"model", askModel, keep}, {"agent", askAgent, keep}, {"stream", askStream, keep}, {"background", askBackground, keep},
		{"tools[].type", askTool, keep}, {"environment", askOpen, keep},
	},
	each(askTier, keep, "service_tier", "serviceTier"),
	each(askMax, keep, "generation_config.max_output_tokens", "generationConfig.maxOutputTokens",
		"generation_config.maxOutputTokens", "generationConfig.max_output_tokens"),
	each(askStored, keep, "previous_interaction_id", "previousInteractionId"),
	content("input"),
	content("input[]"),
	content("input[].content[]"),
	content("input[].result[]"), // of a function
)

// content is a part of a message that says of which kind it is, and has its data or names them.
func content(part string) []rule {
	return under(part, []rule{
		{"", askContent, keep}, {"type", askPartType, keep}, {"data", askMediumBytes, count}, {"uri", askURL, keep},
		{"mime_type", askMime, keep}, {"mimeType", askMime, keep},
	})
}
