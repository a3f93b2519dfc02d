package meter

import (
	"cmp"
	"strings"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/units"
)

// gemini reads generated content and embeddings of the Gemini API and of Vertex AI, as JSON, as events, and as the array
// that a stream without alt=sse is. The prompt contains what was cached; thoughts and the prompts of tools are beside it.
type gemini struct {
	reply
	asked       string // model
	usage, next tally
	modality    string
	tokens      int64
	statistics  tally // of predictions, which are embeddings
	grounded    int64 // queries of the candidates that are read
	queries     int64
	mapped      int64 // queries of a map
	embeds      bool  // whose video is charged apart from its other input
	video       int64 // tokens of it
	made        int64 // images
	characters  int64 // of texts that are embedded
}

var geminiSchema = func() *node {
	detail := []rule{{"modality", fieldModality, keep}, {"tokenCount", fieldModalityTokens, keep}}
	usage := concat(
		[]rule{
			{"", fieldUsage, keep},
			{"promptTokenCount", fieldPrompt, keep},
			{"cachedContentTokenCount", fieldCached, keep},
			{"candidatesTokenCount", fieldCompletion, keep},
			{"responseTokenCount", fieldCompletionTwin, keep}, // its name in sessions
			{"thoughtsTokenCount", fieldReasoning, keep},
			{"toolUsePromptTokenCount", fieldToolUse, keep},
			{"totalTokenCount", fieldTotal, keep},
			{"trafficType", fieldTier, keep},
			{"serviceTier", fieldTier, keep},
			{"promptTokensDetails[]", fieldPromptDetail, keep},
			{"promptTokenDetails[]", fieldPromptDetail, keep}, // of embeddings
			{"cacheTokensDetails[]", fieldCachedDetail, keep},
			{"candidatesTokensDetails[]", fieldCompletionDetail, keep},
			{"responseTokensDetails[]", fieldCompletionDetail, keep},
			{"toolUsePromptTokensDetails[]", fieldToolUseDetail, keep},
		},
		under("promptTokensDetails[]", detail),
		under("promptTokenDetails[]", detail),
		under("cacheTokensDetails[]", detail),
		under("candidatesTokensDetails[]", detail),
		under("responseTokensDetails[]", detail),
		under("toolUsePromptTokensDetails[]", detail),
	)
	return schema(
		under("usageMetadata", usage),
		[]rule{
			{"modelVersion", fieldModel, keep},
			{"responseId", fieldID, keep},
			{"error", fieldError, keep},
			{"serviceTier", fieldTier, keep},
			{"candidates[].finishReason", fieldFinish, keep},
			{"candidates[].groundingMetadata.webSearchQueries[]", fieldQuery, keep},
			{"candidates[].groundingMetadata.imageSearchQueries[]", fieldQuery, keep},
			{"candidates[].groundingMetadata.groundingChunks[].maps", fieldMapped, keep},
			{"promptFeedback.blockReason", fieldBlocked, keep},
			{"predictions[].embeddings.statistics.token_count", fieldStatistics, keep},
			{"predictions[].mimeType", fieldMade, keep}, // of an image
			{"metadata.billableCharacterCount", fieldCharacters, keep},
		},
		each(fieldText, count, "candidates[].content.parts[].text", "candidates[].content.parts[].executableCode.code",
			"candidates[].content.parts[].functionCall.name"),
	)
}()

func newGemini(e Endpoint) *gemini {
	return &gemini{reply: newReply(), asked: e.Model, embeds: e.Kind == Embeddings}
}

func (g *gemini) schema() *node { return geminiSchema }

func (g *gemini) begin(f field) {
	switch f {
	case fieldUsage:
		g.next, g.video = tally{}, 0
	case fieldPromptDetail, fieldCachedDetail, fieldCompletionDetail, fieldToolUseDetail:
		g.modality, g.tokens = "", 0
	case fieldMapped:
		g.mapped = 1
	default:
		g.reply.begin(f)
	}
}

// audioAndImage are the classes of the modalities that have one, by the list of details that they are in.
var audioAndImage = map[field][2]field{
	fieldPromptDetail:     {fieldAudioIn, fieldImageIn},
	fieldCachedDetail:     {fieldAudioCached, fieldImageCached},
	fieldCompletionDetail: {fieldAudioOut, fieldImageOut},
	fieldToolUseDetail:    {fieldAudioTool, fieldImageTool},
}

func (g *gemini) end(f field) {
	if f == fieldUsage {
		if g.next.replaces(&g.usage) { // of the last chunk that has counts: they are sums
			g.usage = g.next
		}
		return
	}
	class, ok := audioAndImage[f]
	if !ok {
		return
	}
	switch g.modality { // by name, or by its number in the protocol
	case "AUDIO", "4":
		g.next.add(class[0], g.tokens)
	case "IMAGE", "2":
		g.next.add(class[1], g.tokens)
	case "VIDEO", "3":
		if g.embeds && f == fieldPromptDetail {
			g.video = money.Add(g.video, g.tokens)
		}
	}
}

func (g *gemini) scalar(f field, v value) {
	switch f {
	case fieldModality:
		g.modality = intern(g.modality, v)
	case fieldModalityTokens:
		var t tally
		t.read(fieldTotal, v)
		g.tokens, g.next.bad = t.n[fieldTotal], g.next.bad || t.bad
	case fieldStatistics:
		var t tally
		t.read(fieldTotal, v)
		g.statistics.bad = g.statistics.bad || t.bad
		g.statistics.add(fieldPrompt, t.n[fieldTotal])
	case fieldQuery:
		g.grounded++
	case fieldMade:
		g.made++
	case fieldCharacters:
		var t tally
		t.read(fieldTotal, v)
		g.characters, g.statistics.bad = t.n[fieldTotal], g.statistics.bad || t.bad
	case fieldBlocked:
		g.ending = true
		g.reply.scalar(fieldFinish, v)
	case fieldFinish:
		g.ending = true
		g.reply.scalar(f, v)
	default:
		if !g.next.read(f, v) {
			g.reply.scalar(f, v)
		}
	}
}

// done ends a chunk. A chunk repeats the queries of those before it, if it has any.
func (g *gemini) done() {
	g.queries, g.grounded = max(g.queries, g.grounded), 0
	g.reply.done()
}

func (g *gemini) result(to *Result) {
	g.fill(to)
	to.Complete = to.Complete || g.ended
	if g.usage.empty() {
		g.usage = g.statistics
	}
	t := &g.usage
	if t.bad {
		to.Implausible = true
		return
	}
	if !t.any(fieldPrompt, fieldCompletion, fieldCompletionTwin, fieldReasoning, fieldTotal) {
		if g.made > 0 {
			to.state(book.Usage{Units: units.Of(units.OutputImages, g.made)})
		}
		return
	}
	u := t.gemini()
	if g.queries > 0 {
		u.WebSearches = 1
		if perQuery(cmp.Or(g.model, g.asked)) {
			u.WebSearches = g.queries
		}
	}
	u.Units = mapped(cmp.Or(g.model, g.asked), g.mapped).Plus(units.Of(units.InputVideoTokens, take(&u.Input, g.video))).
		Plus(units.Of(units.InputCharacters, g.characters))
	to.state(u)
}

// perQuery reports whether each query is charged; models before Gemini 3 are charged by the prompt that is grounded.
func perQuery(model string) bool {
	_, version, _ := strings.Cut(model, "gemini-")
	return !strings.HasPrefix(version, "1") && !strings.HasPrefix(version, "2")
}

func (t *tally) gemini() (u book.Usage) {
	output := max(t.n[fieldCompletion], t.n[fieldCompletionTwin])
	u.Reasoning = t.n[fieldReasoning]
	tool := t.n[fieldToolUse]
	prompt := t.n[fieldPrompt]
	if !t.has(fieldPrompt) && t.has(fieldTotal) {
		prompt = max(t.n[fieldTotal]-output-u.Reasoning-tool, 0)
	}
	if t.has(fieldTotal) { // what it has no room for is inside
		switch over := prompt + output + u.Reasoning + tool - t.n[fieldTotal]; {
		case over <= 0:
		case over == u.Reasoning:
			output = max(output-over, 0)
		case over == tool:
			prompt = max(prompt-over, 0)
		case over == u.Reasoning+tool:
			output, prompt = max(output-u.Reasoning, 0), max(prompt-tool, 0)
		}
	}
	cached := take(&prompt, t.n[fieldCached])
	u.CacheReadAudio = take(&cached, t.n[fieldAudioCached])
	u.CacheRead = cached
	u.InputAudio = take(&prompt, max(t.n[fieldAudioIn]-t.n[fieldAudioCached], 0))
	u.InputImage = take(&prompt, max(t.n[fieldImageIn]-t.n[fieldImageCached], 0))
	audio, image := take(&tool, t.n[fieldAudioTool]), take(&tool, t.n[fieldImageTool])
	u.InputAudio, u.InputImage, u.Input = u.InputAudio+audio, u.InputImage+image, prompt+tool
	u.OutputAudio = take(&output, t.n[fieldAudioOut])
	u.OutputImage = take(&output, t.n[fieldImageOut])
	u.Output = output
	return u
}
