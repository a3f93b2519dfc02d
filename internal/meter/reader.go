package meter

import (
	"cmp"
	"math/bits"
	"net/http"
	"strings"
	"time"

	"github.com/llmtenant/tenant/internal/book"
)

// Result is what a reply says about its call. The zero Usage of a reply without one is told from a usage of zero by
// Found.
type Result struct {
	// Usage is what the reply's own model used, as far as the provider has stated it. Found reports whether it has. Where
	// the reply is not Complete, it is what was stated before the end: the input, or the output so far.
	Usage book.Usage
	Found bool

	// Also is what other models used, or the same in passes that its totals leave out: it is charged on top of Usage.
	Also []ModelUsage

	// Provider is the endpoint's. Model is the model as the reply names it, else as the URL does; it may be empty.
	Provider, Model string

	// ID is the reply's own id, by which a later request can ask for it again. RequestID is the id of the exchange.
	ID, RequestID string

	// ReportedCost is what the provider says that the call costs, in nano-dollars. Negative: it does not say.
	ReportedCost int64

	// ServiceTier is the tier that served the call, in the provider's own words.
	ServiceTier string

	// FinishReasons are the distinct reasons of all choices, in the provider's own words.
	FinishReasons []string

	// AudioDuration is the length of the audio, where that is what the provider charges for.
	AudioDuration time.Duration

	// Partial reports that the usage is of a part of the reply: zeros beside text, or one answer of several, of which the
	// text had StatedChars characters. The rest is to be estimated.
	Partial     bool
	StatedChars int64

	// Read reports that the reply had something of its format: a usage, output, or a reason of finishing. What had nothing
	// of it may have had output. Whole reports that the last document was whole, which need not be the last of a stream.
	Read, Whole bool

	// Complete reports whether the reply has reached its end: the end mark of its format, or the last bracket.
	Complete bool

	// Replayed reports that a gateway has answered with a reply that it had kept: nothing was used for it, whatever the reply
	// states, and no provider was asked.
	Replayed bool

	// Videos is how many videos were made, where the reply lists them.
	Videos int64

	// Pending reports that the call goes on in the background. Its usage comes with a later reply that has the same ID.
	Pending bool

	// Failed reports that the reply is an error, whatever its status, and that neither a usage nor any of an answer came.
	Failed bool

	// Implausible reports that the provider has stated a number that no call can have: below zero, or beyond measure.
	// The usage or the cost that it belongs to is not in the result.
	Implausible bool

	// OutputChars counts the characters of output that came, with reasoning and the arguments of tool calls, and
	// OutputEstimate estimates their tokens. They serve where the provider has not stated the output; reasoning that it
	// keeps to itself is not in them.
	OutputChars, OutputEstimate int64
}

// Charged returns the usage to charge for the call, with the given tokens of input where the provider has not stated
// them, and whether any of it is an estimate. It is the stated usage of a complete reply. Of one that was cut short the
// output is what was stated so far or what was received, whichever is more: some providers begin with a placeholder. Of a
// usage that is Partial the output is at least what came, and where it is that of one answer, as much more as there is text.
// Where the result is Implausible, the caller's hold is the better estimate. What was Replayed is charged nothing.
func (r *Result) Charged(input int64) (u book.Usage, estimated bool) {
	if r.Found && (r.Complete && !r.Partial || r.Replayed) {
		return r.Usage, false
	}
	u = r.Usage
	if Input(u) == 0 {
		u.Input = input
	}
	stated := outputOf(u)
	if came := max(r.OutputEstimate, r.ofAll(stated)); stated < came {
		u.Output += came - stated
	}
	return u, true
}

// ofAll returns the output of all answers by that of one, in proportion to their text.
func (r *Result) ofAll(stated int64) int64 {
	if r.StatedChars <= 0 || stated > maxCount || r.OutputChars > maxCount {
		return stated
	}
	high, low := bits.Mul64(uint64(stated), uint64(max(r.OutputChars, r.StatedChars)))
	if high >= uint64(r.StatedChars) {
		return stated
	}
	n, rest := bits.Div64(high, low, uint64(r.StatedChars))
	if rest > 0 {
		n++
	}
	return int64(min(n, maxCount))
}

// Input returns the tokens of all classes of input.
func Input(u book.Usage) int64 {
	return u.Input + u.CacheRead + u.CacheReadAudio + u.CacheWrite5m + u.CacheWrite1h + u.InputAudio + u.InputImage
}

func outputOf(u book.Usage) int64 { return u.Output + u.Reasoning + u.OutputAudio + u.OutputImage }

// Reader reads the usage from a reply's body. It is not safe for use by several goroutines at once. Result must be
// called in the end.
type Reader struct {
	endpoint Endpoint
	family   family
	frame    frame
	sniffed  sniffed // which the frame is, unless it is opaque
	room     room
	openAI   openAI // which the family is of most replies
	chat     deferredChat
	inflater *inflater
	request  string // id
	replayed bool
	cost     int64 // that a header states
	result   *Result
}

// NewReader returns a reader of the reply to a request to the endpoint, given the reply's status and header. The body
// may be compressed as the header says, with gzip or deflate: where the HTTP client has decompressed it, it has taken
// the header away.
func NewReader(e Endpoint, status int, header http.Header) *Reader {
	r := new(Reader)
	r.Reset(e, status, header)
	return r
}

// Reset makes it a reader of another reply, as [NewReader] does. Results that it has returned stay as they are.
func (r *Reader) Reset(e Endpoint, status int, header http.Header) {
	*r = Reader{endpoint: e}
	if e.Format == ChatCompletions { // as newFamily has it
		r.openAI = makeOpenAI(e)
		r.chat.openAI = &r.openAI
		r.family = &r.chat
	} else {
		r.family = newFamily(e)
	}
	for _, name := range [...]string{"X-Request-Id", "Request-Id", "X-Amzn-Requestid", "Apim-Request-Id"} {
		r.request = cmp.Or(r.request, Header(header, name))
	}
	if h, ok := r.family.(host); ok && status < http.StatusBadRequest {
		h.header(header)
	}
	r.replayed = status/100 == 2 && !e.Retrieval && replayed(header)
	r.cost = costIn(header)
	r.sniff(header)
	switch encoding := strings.ToLower(strings.TrimSpace(Header(header, "Content-Encoding"))); encoding {
	case "", "identity":
	case "gzip", "x-gzip", "deflate":
		frame := r.frame
		r.inflater = newInflater(encoding, frame.write)
	default:
		r.frame = opaque{}
	}
}

func newFamily(e Endpoint) family {
	if d, ok := dialects[e.Format]; ok {
		return newInDialect(e, d)
	}
	switch e.Format {
	case Anthropic:
		return newAnthropic(e)
	case Gemini:
		return newGemini(e)
	case Ollama:
		return newOllama(e)
	case Converse:
		return newConverse(e)
	case Invoke:
		if e.Kind == Images {
			return newPieces(e)
		}
		return newInvoke(e)
	case Cohere:
		return newCohere(e)
	case Interactions:
		return newInteractions(e)
	case Conversations:
		return newConversations(e)
	case AsyncChat:
		return newAsyncChat(e)
	case Videos:
		return newVideos(e)
	case ChatCompletions:
		return &deferredChat{openAI: newOpenAI(e)}
	case Completions, LlamaCpp, TextGeneration:
		return newNative(e)
	default:
		switch e.Kind {
		case OCR, Rerank, Images, Transcription:
			return newPieces(e)
		}
		return newOpenAI(e)
	}
}

// Write reads a piece of the body. It takes all of it, keeps none of it, and returns no error.
func (r *Reader) Write(p []byte) (int, error) {
	switch {
	case r.result != nil:
	case r.inflater != nil:
		r.inflater.write(p)
	default:
		r.frame.write(p)
	}
	return len(p), nil
}

// Result ends the reading, and returns what was read. What is written later is ignored.
func (r *Reader) Result() *Result {
	if r.result != nil {
		return r.result
	}
	if r.inflater != nil {
		r.inflater.close()
	}
	whole := r.frame.close()
	to := &Result{Complete: whole, Whole: whole}
	r.family.result(to)
	if f, ok := r.frame.(interface{ broken() bool }); ok && f.broken() {
		to.Complete = false
	}
	to.believe(r.endpoint)
	to.Failed = to.Failed && !to.Found && !to.Implausible
	to.Provider = r.endpoint.Provider
	to.Model = cmp.Or(to.Model, r.endpoint.Model)
	to.RequestID = cmp.Or(r.request, to.ID)
	if r.endpoint.Retrieval {
		to.ID = cmp.Or(r.endpoint.Job, to.ID)
	}
	if to.ReportedCost < 0 && r.cost > 0 && !to.Implausible {
		to.ReportedCost = r.cost
	}
	if r.replayed {
		to.replay()
	}
	r.result = to
	return to
}

// believe takes back zeros that stand beside text, or for what was embedded: servers say so of what they have not counted.
// Ollama counts no prompt that it has read before.
func (to *Result) believe(e Endpoint) {
	to.Read = to.Read || to.Found || to.Implausible || to.Pending || to.OutputChars > 0 || len(to.FinishReasons) > 0
	byThePiece := e.Kind != Chat && !to.Usage.Units.IsZero()
	if !to.Found || byThePiece || to.OutputEstimate == 0 && !e.Kind.inputOnly() {
		return
	}
	input, output := Input(to.Usage) > 0, outputOf(to.Usage) > 0
	switch {
	case e.Kind.inputOnly(): // nothing is made of nothing
		to.Found = input
	case !output:
		to.Partial, to.Found = true, input
	case !input && e.Kind == Chat && e.Format != Ollama:
		to.Partial = true
	}
}

// sniff chooses the frame.
func (r *Reader) sniff(header http.Header) {
	typ := MediaType(header)
	switch major, _, _ := strings.Cut(typ, "/"); major {
	case "audio", "image", "video":
		r.frame = opaque{}
	default:
		inLines := strings.HasSuffix(typ, "ndjson") || strings.HasSuffix(typ, "jsonl") || typ == "application/stream+json"
		r.sniffed = sniffed{scanner: makeScanner(r.family.schema(), r.family, &r.room), family: r.family, lines: inLines}
		r.frame = &r.sniffed
	}
}

// Header is [http.Header.Get] of a name that is in its canonical form: it looks nothing up but the name.
func Header(h http.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// MediaType returns the media type that a header says, in lower case and without its parameters.
func MediaType(header http.Header) string {
	typ, _, _ := strings.Cut(Header(header, "Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(typ))
}

// sniffed decides by the first byte, which the media type does not always agree with.
type sniffed struct {
	scanner scanner
	family  family
	lines   bool // JSON is one document a line
	frame
}

func (s *sniffed) write(p []byte) {
	for s.frame == nil && len(p) > 0 {
		switch p[0] {
		case ' ', '\t', '\r', '\n', 0xef, 0xbb, 0xbf: // the last three are a byte order mark
			p = p[1:]
		case 0: // a length, far below the largest
			s.frame = &messages{scanner: s.payloads()}
		case '{', '[', '"':
			s.frame = documents{&s.scanner}
			if s.lines {
				s.frame = &lines{scanner: &s.scanner}
			}
		default:
			s.frame = &events{scanner: &s.scanner}
		}
	}
	if len(p) > 0 {
		s.frame.write(p)
	}
}

func (s *sniffed) payloads() *scanner {
	if _, wrapped := s.family.(*invoke); wrapped {
		return newScanner(unwrapSchema, &unwrap{inner: &s.scanner})
	}
	return &s.scanner
}

func (s *sniffed) close() bool { return s.frame != nil && s.frame.close() }

func (s *sniffed) broken() bool {
	m, ok := s.frame.(*messages)
	return ok && m.failed
}
