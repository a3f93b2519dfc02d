package meter

import (
	"bytes"
	"cmp"
	"io"
	"mime/multipart"
	"slices"
	"strings"

	"github.com/llmtenant/tenant/units"
)

// Request is what a request's body says about what the call can use.
type Request struct {
	// Model is the model asked for: the body's, else the URL's.
	Model string

	// MaxTokens is the most output of one choice, zero where the body does not limit it. LeastOutput is the lowest limit
	// that the provider accepts with the rest of the request: a thinking budget has to fit under it.
	MaxTokens, LeastOutput int64

	// Choices is how many answers each prompt gets, Prompts how many prompts there are: at least one.
	Choices, Prompts int64

	// Stream reports that the reply is streamed, IncludeUsage that the caller has asked for the usage in the stream.
	Stream, IncludeUsage bool

	// Turns is how many turns of a loop of the provider's own have MaxTokens to themselves, Passes how often a model reads the
	// input and what it has written before; zero where it is once.
	Turns, Passes int64

	// Unlimited reports that reasoning comes beside MaxTokens, so that no limit binds it: xAI's, and Perplexity's in research.
	Unlimited bool

	// InputBytes is the size of the body without the media in it, MediaBytes that of the media as they are written there,
	// AudioBytes and DocumentBytes those of two kinds of them. Video is a document.
	InputBytes, MediaBytes, AudioBytes, DocumentBytes int64

	// ServiceTier is the tier that the body asks for, in the provider's own words, as in Result; empty for none.
	ServiceTier string

	// Images, Audio and Documents count the media, with those that are named by a URL. FullImages reports that images are
	// to be seen at their own size, which is not the default.
	Images, Audio, Documents int64
	FullImages               bool

	// Open reports that the input is not all in the body: the provider runs tools of its own, fetches documents, or has the
	// conversation stored; or that the body could not be read. Its size is no bound then. Stored reports that what is not
	// in the body can be media.
	Open, Stored bool

	// Background reports that the request asks for the call to go on without it: what the reply does not say yet, a later one
	// says.
	Background bool

	// Units bound what else the call is charged for.
	Units units.Counts

	// LongCache reports that a cache is asked for that lives longer than the usual one.
	LongCache bool
}

// ReadRequest reads the body of a request to the endpoint: JSON, or the form of a request that uploads a file.
func ReadRequest(e Endpoint, body []byte) Request { return new(RequestReader).Read(e, body) }

// A RequestReader reads requests in the same memory, one after the other. Its zero value is ready. It is not safe for use by
// several goroutines at once.
type RequestReader struct {
	asked asked
	form  form
}

// Read is [ReadRequest].
func (r *RequestReader) Read(e Endpoint, body []byte) Request {
	r.asked = asked{Request: Request{Stream: e.Streams || e.Format == Ollama && e.Kind == Chat, Prompts: 1, Choices: 1}}
	return r.asked.read(e, body)
}

func (a *asked) read(e Endpoint, body []byte) Request {
	if bytes.HasPrefix(body, []byte("--")) {
		a.form(body)
	} else {
		s := makeScanner(askedSchema(e), a, &a.room)
		s.write(body)
		s.close()
		a.unread(!s.whole || s.state == failed)
		if e.Kind == Transcription && a.Audio > 0 {
			a.heard = heardIn(body)
		}
	}
	r := &a.Request
	r.InputBytes = int64(len(body)) - r.MediaBytes
	r.Prompts = max(a.prompts, 1)
	if r.Model == "" {
		r.Model = e.Model
	}
	if e.Format == Responses && (e.Provider == OpenAIProvider || e.Provider == Azure) {
		r.LeastOutput = max(r.LeastOutput, 16)
	}
	r.Turns, r.IncludeUsage = a.turns(e), r.IncludeUsage || a.included
	r.Unlimited = e.Format == Responses && grok(e.Provider, r.Model) || e.Provider == Perplexity && strings.Contains(r.Model, "deep-research")
	if e.Format == AsyncChat {
		r.Background = true
	}
	if e.Format == Conversations && e.Job != "" {
		r.Open, r.Stored = true, true
	}
	r.ServiceTier = e.in(served(r.ServiceTier, a.speed, a.region))
	r.Open = r.Open || e.Provider == Perplexity || searches(r.Model)
	r.Units = e.pieces(a)
	return *r
}

const (
	mostTurns = 10 // of Anthropic's loop, after which it pauses
	proPasses = 8  // of reasoning in the mode pro, for want of a number that is documented
)

// turns is how often a model of Anthropic's can answer for one request: once more than it can use the provider's tools.
func (a *asked) turns(e Endpoint) int64 {
	switch {
	case e.Format != Anthropic && e.Format != Invoke && e.Format != Converse || !a.serves:
		return 0
	case a.uses == 0 || a.freely:
		return mostTurns
	default:
		return min(a.uses+1, mostTurns)
	}
}

// ownTool reports whether Anthropic runs a tool itself: its other types are run by the caller.
func ownTool(typ string) bool {
	for _, theirs := range []string{"function", "custom", "bash_", "text_editor_", "computer_", "memory_"} {
		if typ == "" || strings.HasPrefix(typ, theirs) {
			return false
		}
	}
	return true
}

// grok reports whether a model is one of xAI's that reasons, whose responses leave reasoning out of their limit.
func grok(provider, model string) bool {
	return (provider == XAI || strings.Contains(model, "grok")) && !strings.Contains(model, "non-reasoning")
}

// searches reports whether a model looks things up without being given a tool.
func searches(model string) bool {
	return searchesFirst(model) || slices.ContainsFunc([]string{"deep-research", ":online", "compound"}, func(part string) bool {
		return strings.Contains(model, part)
	})
}

// searchesFirst reports whether a model of OpenAI's searches the web once for each of its chat completions, which say nothing of
// it. Page: Web search (OpenAI API docs).
func searchesFirst(model string) bool {
	return strings.Contains(model, "search-preview") || strings.Contains(model, "search-api")
}

// What the values of a request mean.
const (
	askNone field = iota
	askModel
	askMax
	askBudget
	askChoices
	askPrompt
	askStream
	askIncludeUsage
	askIncluded // OpenRouter's name of the same
	askTier
	askSpeed
	askRegion
	askLife       // of a cache
	askDetail     // in which an image is seen
	askStored     // it is enough that it is there
	askOpen       //
	askOpenIfTrue //
	askServer     // likewise, and the provider's loop goes on with it
	askMode       // of reasoning
	askToolObject
	askToolUses
	askTool // a tool of the provider's, unless its type says otherwise
	askItemType
	askImage // media in base64, or a URL of any kind
	askAudio
	askDocument
	askMime // of the medium that follows, or went before
	askMedium
	askMediumBytes
	askReference // to a medium that is elsewhere
	askImageElsewhere
	askPart // of a message, which says of which kind its source is
	askPartType
	askURL
	askContent // a part that is its own medium
	askAgent
	askBackground
	askDeferred
)

// asked reads a request.
type asked struct {
	reply
	Request
	prompts  int64
	speed    string
	region   string
	mime     string
	included bool  // the usage is asked for
	serves   bool  // the provider runs tools
	freely   bool  // as often as it likes
	uses     int64 // otherwise
	tool     struct {
		typ  string
		uses int64
	}
	medium int64 // bytes of the medium that is read; -1: there is none
	part   string
	byURL  bool // the part is elsewhere
	chosen bool // how many answers there are to be
	room   room
	askedPieces
}

func (a *asked) begin(f field) {
	switch f {
	case askListed:
		a.documents++
	case askAnnotated:
		a.annotated = true
	case askOpen, askStored:
		a.opens(f)
	case askServer:
		a.opens(f)
		a.serves, a.freely = true, true
	case askToolObject:
		a.tool.typ, a.tool.uses = "", 0
	case askPrompt:
		a.prompts++
	case askMedium, askReference:
		a.mime, a.medium = "", -1
	case askPart:
		a.part, a.byURL = "", false
	case askContent:
		a.part, a.byURL, a.mime, a.medium = "", false, "", -1
	case askImageElsewhere:
		a.Images++
	}
}

func (a *asked) end(f field) {
	switch {
	case f == askToolObject && ownTool(a.tool.typ):
		a.serves, a.freely = true, a.freely || a.tool.uses == 0
		a.uses = min(a.uses+a.tool.uses, mostTurns)
	case f == askMedium && a.medium >= 0:
		a.media(a.mime, a.medium)
	case f == askContent:
		a.content()
	case f == askReference:
		a.elsewhere(strings.HasPrefix(a.mime, "image/"))
	case f == askPart && a.byURL:
		a.byURL = false // parts are in parts
		a.elsewhere(a.part == "image")
	}
}

// content takes note of a part that has its medium in it, or names it. Parts are in parts.
func (a *asked) content() {
	switch medium := a.medium; {
	case medium >= 0:
		a.medium = -1
		a.media(cmp.Or(a.mime, a.part), medium)
	case a.byURL:
		a.byURL = false
		a.elsewhere(a.part == "image")
	}
}

// elsewhere takes note of a medium that is not in the body. An image has a size at most, wherever it is.
func (a *asked) elsewhere(image bool) {
	if image {
		a.Images++
		return
	}
	a.opens(askStored)
}

func (a *asked) done() {}

func (a *asked) opens(f field) { a.Open, a.Stored = true, a.Stored || f == askStored }

// unread says that a body is not known to the end.
func (a *asked) unread(is bool) { a.Open, a.Stored = a.Open || is, a.Stored || is }

func (a *asked) media(mime string, n int64) {
	switch major, _, _ := strings.Cut(mime, "/"); major {
	case "text": // costs no more than its bytes, as all text does
		return
	case "image":
		a.Images++
	case "audio":
		a.Audio++
		a.AudioBytes += n
	default: // video too, which costs as documents do: by the part
		a.Documents++
		a.DocumentBytes += n
	}
	a.MediaBytes += n
}

func (a *asked) scalar(f field, v value) {
	switch f {
	case askModel:
		a.Model = string(v.text)
	case askMax:
		if n, _, ok := scaled(v.text, 0); ok && n > 0 && !v.quoted { // Ollama has negative ones for no limit
			a.MaxTokens = max(a.MaxTokens, n)
		}
	case askBudget:
		if n, _, ok := scaled(v.text, 0); ok && n > 0 && n < maxCount {
			a.LeastOutput = max(a.LeastOutput, n+1)
		}
	case askChoices:
		if n, _, ok := scaled(v.text, 0); ok && n > 0 {
			a.Choices, a.chosen = max(a.Choices, n), true
		}
	case askStream:
		a.Stream = v.isTrue()
	case askIncludeUsage:
		a.IncludeUsage = v.isTrue()
	case askIncluded:
		a.included = v.isTrue()
	case askTier:
		a.ServiceTier = string(v.text)
	case askSpeed:
		a.speed = string(v.text)
	case askRegion:
		a.region = string(v.text)
	case askLife:
		a.LongCache = a.LongCache || !v.is("5m") && !v.is("30m") && len(v.text) > 0
	case askDetail:
		a.FullImages = a.FullImages || v.is("original")
	case askOpen, askStored:
		if len(v.text) > 0 {
			a.opens(f)
		}
	case askOpenIfTrue:
		a.Open = a.Open || v.isTrue()
	case askAgent:
		a.Model = cmp.Or(a.Model, string(v.text))
		a.Open = true
	case askDeferred: // as before, but that nothing of it is stored
		a.Background = a.Background || v.isTrue()
	case askBackground:
		a.Background = a.Background || v.isTrue()
		a.Open = a.Open || v.isTrue()
	case askServer:
		if len(v.text) > 0 {
			a.begin(f)
		}
	case askMode:
		if v.is("pro") {
			a.Passes = proPasses
		}
	case askToolUses:
		if n, _, ok := scaled(v.text, 0); ok && n > 0 {
			a.tool.uses = min(n, mostTurns)
		}
	case askTool:
		a.tool.typ = string(v.text)
		a.Open = a.Open || !v.is("function") && !v.is("custom")
	case askItemType:
		if v.is("item_reference") {
			a.opens(askStored)
		}
	case askMime:
		a.mime = string(v.text)
	case askPartType:
		a.part = string(v.text)
	case askURL:
		a.byURL = true
	case askLength, askSize, askWide, askHigh, askQuality, askPages, askListed, askSilent:
		a.piece(f, v)
	case askImage, askAudio, askDocument:
		a.mime = map[field]string{askImage: "image", askAudio: "audio", askDocument: "application"}[f]
		text := strings.ToLower(string(v.text))
		if strings.HasPrefix(text, "http:") || strings.HasPrefix(text, "https:") || strings.HasPrefix(text, "gs:") {
			a.unread(f != askImage) // an image has a size at most
		}
		if rest, ok := strings.CutPrefix(text, "data:"); ok && strings.Contains(rest, "/") {
			a.mime = rest
		}
	}
}

func (a *asked) text(f field, t text) {
	switch f {
	case askPrompt:
		a.prompts++
	case askListed:
		a.documents++
	case askSpoken:
		a.spoken += t.ascii + t.wide
	case askImage, askAudio, askDocument:
		a.media(a.mime, t.ascii)
	case askMediumBytes:
		a.medium = t.ascii
	}
}

// form reads the fields of a multipart form, whose boundary is its first line.
func (a *asked) form(body []byte) {
	line, _, _ := bytes.Cut(body, newline)
	const longest = 70 + 2 // of a boundary
	boundary := strings.TrimPrefix(strings.TrimRight(string(line[:min(len(line), longest+1)]), "\r"), "--")
	parts := multipart.NewReader(bytes.NewReader(body), boundary)
	for {
		part, err := parts.NextPart()
		if err != nil {
			a.unread(err != io.EOF)
			return
		}
		if part.FileName() != "" {
			file, _ := io.ReadAll(part)
			kind := part.Header.Get("Content-Type")
			if part.FormName() == "file" {
				kind = "audio" // of a transcription; nobody else calls it so
				a.heard += lengthOf(file)
			}
			a.media(kind, int64(len(file)))
			continue
		}
		text, _ := io.ReadAll(io.LimitReader(part, maxToken))
		v := value{text: text}
		switch part.FormName() {
		case "model":
			a.scalar(askModel, v)
		case "stream":
			a.scalar(askStream, v)
		case "n":
			a.scalar(askChoices, v)
		case "seconds":
			a.scalar(askLength, v)
		case "size":
			a.scalar(askSize, v)
		case "quality":
			a.scalar(askQuality, v)
		case "url", "file_url", "file_id": // a recording that is elsewhere
			a.unread(len(text) > 0)
		}
	}
}
