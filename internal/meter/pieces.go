package meter

import (
	"cmp"
	"strings"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/units"
)

// What is charged by the piece: the pages of a document that is read, the searches of a ranking.

// What the values of such replies mean, beside those of OpenAI's.
const (
	piecePages field = 190 + iota
	pieceSearches
	pieceImage // that was made
	pieceDuration
)

// pieces reads replies that state such counts, beside whatever else they state.
type pieces struct {
	*openAI
	counts   units.Counts
	bad      bool
	images   int64
	duration int64 // milliseconds
}

// Pages are Mistral's, at whatever host (OCRUsageInfo of mistralai for Python). Searches are Cohere's under the names of its
// own API, or OpenRouter's (its OpenAPI description).
var piecesSchema = beside(openAISchema, nil, concat(
	each(piecePages, keep, "usage_info.pages_processed"),
	each(pieceSearches, keep, "meta.billed_units.search_units", "usage.search_units"),
	each(fieldText, count, "pages[].markdown"),
))

// An image is charged by the piece where the reply states no tokens, and audio by its length.
var madeSchema = beside(openAISchema, nil, concat(
	each(pieceImage, keep, "data[]", "artifacts[]"), each(pieceImage, count, "images[]"), // the others are those of Bedrock's models
	each(pieceDuration, keep, "duration"), // of verbose JSON
))

func newPieces(e Endpoint) *pieces { return &pieces{openAI: newOpenAI(e)} }

func (p *pieces) schema() *node {
	if p.endpoint.Kind == Images || p.endpoint.Kind == Transcription {
		return madeSchema
	}
	return piecesSchema
}

func (p *pieces) begin(f field) {
	if f == pieceImage {
		p.images++
		return
	}
	p.openAI.begin(f)
}

func (p *pieces) text(f field, t text) {
	if f == pieceImage { // as the text of an image, in base64
		p.images++
		return
	}
	p.openAI.text(f, t)
}

func (p *pieces) scalar(f field, v value) {
	switch f {
	case piecePages:
		p.count(units.Pages, v)
	case pieceSearches:
		p.count(units.SearchUnits, v)
	case pieceDuration:
		n, _, ok := scaled(v.text, 3)
		p.bad = p.bad || !ok || n < 0 || n > maxCount
		p.duration = n
	default:
		p.openAI.scalar(f, v)
	}
}

func (p *pieces) count(unit units.Unit, v value) {
	n, ok := v.count()
	p.bad = p.bad || !ok
	p.counts, p.known = units.Of(unit, n), true
}

func (p *pieces) result(to *Result) {
	p.openAI.result(to)
	switch p.endpoint.Kind {
	case Images:
		if !to.Found {
			p.counts = units.Of(units.OutputImages, p.images)
		}
	case Transcription:
		length := to.AudioDuration.Milliseconds() // as it is billed
		if length == 0 {
			length = (p.duration + second/2) / second * second // to whole seconds, as OpenAI bills them
		}
		if !to.Found || p.timed { // else it is charged by the tokens that it states
			p.counts = units.Of(units.InputAudio, p.endpoint.leastHeard(length))
		}
	}
	switch {
	case p.bad:
		to.Implausible = true
	case !p.counts.IsZero():
		u := to.Usage
		if to.Found && p.endpoint.Kind == Rerank {
			u = book.Usage{} // the tokens are what was ranked, and not what is charged
		}
		u.Units = p.counts
		to.state(u)
	}
}

// What a request says of its pieces.
const (
	askLength field = 200 + iota // of a video
	askSize
	askSilent
	askPages     // that are to be read
	askAnnotated // they are to be described as well
	askListed    // a document to rank
	askQuality
	askSpoken // text that is to be spoken, or embedded
	askWide   // an image is to be, in pixels
	askHigh
)

// askedPieces is what of it was read.
type askedPieces struct {
	length           int64 // milliseconds
	size, quality    string
	wide, high       string
	pages, documents int64
	spoken, heard    int64 // characters, and milliseconds
	silent           bool
	annotated        bool
}

func (a *askedPieces) piece(f field, v value) {
	switch f {
	case askLength:
		if n, _, ok := scaled(v.text, 3); ok && n > 0 && n < maxCount {
			a.length = n
		}
	case askSize:
		a.size = strings.ToLower(string(v.text))
	case askQuality:
		a.quality = strings.ToLower(string(v.text))
	case askWide:
		a.wide = string(v.text)
	case askHigh:
		a.high = string(v.text)
	case askSilent:
		a.silent = v.is("false")
	case askPages:
		a.pages += pagesOf(string(v.text))
	}
}

// pagesOf counts the pages of a number, or of a list such as "1,3-5".
func pagesOf(list string) (pages int64) {
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		first, _, ok := scaled([]byte(from), 0)
		last, _, isLast := scaled([]byte(to), 0)
		switch {
		case !ok:
		case isRange && isLast && last >= first && last < maxCount:
			pages += last - first + 1
		default:
			pages++
		}
	}
	return pages
}

var (
	askedOCR = schema(askedOpenAI(), each(askPages, keep, "pages", "pages[]"), each(askStored, keep, "document.file_id"),
		each(askAnnotated, keep, "document_annotation_format", "bbox_annotation_format"))

	askedImages = schema(askedOpenAI(), []rule{{"size", askSize, keep}, {"quality", askQuality, keep}})
	// OpenRouter's, in JSON; others have the recording elsewhere.
	askedTranscription = schema(askedOpenAI(), each(askAudio, measure, "input_audio.data"), each(askStored, keep, "url", "file_url", "file_id"))

	// The models of Bedrock that make images: Amazon's, and Stability's of two generations.
	askedInvokedImages = schema(
		each(askChoices, keep, "imageGenerationConfig.numberOfImages"),
		each(askQuality, keep, "imageGenerationConfig.quality"),
		each(askWide, keep, "imageGenerationConfig.width", "width"),
		each(askHigh, keep, "imageGenerationConfig.height", "height"),
		each(askImage, measure, "image", "init_image", "mask", "imageVariationParams.images[]", "inPaintingParams.image",
			"outPaintingParams.image", "textToImageParams.conditionImage", "backgroundRemovalParams.image",
			"colorGuidedGenerationParams.referenceImage"),
	)

	askedSpeech = schema(askedOpenAI(), []rule{{"input", askSpoken, count}})

	askedRerank = schema(askedOpenAI(), each(askListed, count, "documents[]"))

	// *Rerank* (Agents for Amazon Bedrock Runtime API reference): the model is an ARN, and the reply states nothing.
	askedBedrockRerank = schema(
		each(askModel, keep, "rerankingConfiguration.bedrockRerankingConfiguration.modelConfiguration.modelArn"),
		each(askListed, keep, "sources[]"), each(askListed, count, "documents[]")) // the latter of a model that is invoked
)

// The least and most of a request that is charged by the piece.
const (
	mostPages  = 1000 // of a document that Mistral reads
	leastPage  = 256  // bytes of a document that make a page
	searchOf   = 100  // documents that are ranked in one search
	leastChunk = 500  // tokens of a document that count as one

	second       = 1000              // milliseconds
	longestHeard = 3 * 3600 * second // of a recording that is elsewhere: Mistral takes no longer ones
)

// pieces bounds what a request is charged for beside its tokens.
func (e Endpoint) pieces(a *asked) units.Counts {
	switch {
	case e.Kind == OCR:
		unit := units.Pages
		if a.annotated {
			unit = unit.With("annotated")
		}
		return units.Of(unit, a.pagesAtMost())
	case e.Kind == Rerank: // also of those who count tokens, whose price has none for it
		return units.Of(units.SearchUnits, max((a.documents+a.InputBytes/leastChunk+searchOf-1)/searchOf, 1))
	case e.Kind == Embeddings && (e.Format == Cohere || e.Provider == Bedrock):
		return units.Of(units.InputImages, a.Images)
	case e.Kind == Embeddings && e.Format == Gemini:
		return units.Of(units.InputCharacters, a.spoken)
	case e.Kind == Video:
		return a.videos(e)
	case e.Kind == Images:
		return units.Of(a.drawn(), a.drawings(e))
	case e.Kind == Speech:
		return units.Of(units.InputCharacters, a.spoken)
	case e.Kind == Transcription:
		return units.Of(units.InputAudio, e.leastHeard(a.heardAtMost()))
	default:
		return units.Counts{}
	}
}

// drawn is the unit of an image that is asked for. What a request of OpenAI's older models leaves out has its default.
func (a *asked) drawn() units.Unit {
	size, quality := a.size, a.quality
	switch {
	case a.wide != "" && a.high != "":
		size = a.wide + "x" + a.high
	case size == "auto":
		size = ""
	}
	if quality == "auto" {
		quality = ""
	}
	if strings.Contains(a.Model, "dall-e") {
		size = cmp.Or(size, "1024x1024")
	}
	if strings.Contains(a.Model, "dall-e-3") {
		quality = cmp.Or(quality, "standard")
	}
	return units.OutputImages.With(size, quality)
}

// drawings is how many images are asked for: Google makes four where nobody says it.
func (a *asked) drawings(e Endpoint) int64 {
	if e.Format == Gemini && !a.chosen {
		return 4
	}
	return min(a.Choices, maxCount)
}

// heardAtMost is how long the recording can be.
func (a *asked) heardAtMost() int64 {
	if a.Open { // it is elsewhere
		return max(a.heard, longestHeard)
	}
	return a.heard
}

// leastHeard is what is charged for a recording of this length: Groq charges ten seconds at least (*Speech to text*, Groq
// docs).
func (e Endpoint) leastHeard(length int64) int64 {
	if e.Provider == Groq && length > 0 {
		return max(length, 10*second)
	}
	return length
}

// pagesAtMost are those that the request names, or that the document can have.
func (a *asked) pagesAtMost() int64 {
	switch {
	case a.pages > 0:
		return min(a.pages, mostPages)
	case a.Images > 0 && a.Documents == 0:
		return a.Images
	case a.Open:
		return mostPages
	default:
		return min(max(a.DocumentBytes/leastPage, 1), mostPages)
	}
}

// mapped counts what Gemini charges for answers with data of a map: a prompt before Gemini 3, a query since then.
func mapped(model string, queries int64) units.Counts {
	if queries > 1 && !perQuery(model) {
		queries = 1
	}
	return units.Of(units.MapGroundings, queries)
}

// resolution is how lists of prices call a size in pixels: by its shorter side.
func resolution(size string) (words []string) {
	words = append(words, size)
	wide, high, ok := strings.Cut(strings.ToLower(size), "x")
	w, _, isWide := scaled([]byte(wide), 0)
	h, _, isHigh := scaled([]byte(high), 0)
	if ok && isWide && isHigh {
		short := wide
		if h < w {
			short = high
		}
		words = append(words, short+"p")
	}
	return words
}
