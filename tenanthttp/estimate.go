package tenanthttp

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/meter"
)

const (
	hiddenInput   = 1024 // tokens that providers add to the text of a request, at most, but for those in knownHidden
	audioBytes    = 16   // of audio, in base64, that make one token, at least
	documentInput = 4    // tokens of a byte of a document, at most: its pages are compressed, and seen as images too
	imageOutput   = 8192 // tokens of an image that is made, at most
	leastOutput   = 256  // tokens that make a call worth making
	likelyRound   = 16_000
	speechPerByte = 2 // tokens of speech for a byte of text, at most
	mostAnswers   = 1 << 20
)

// plan is what a request is known to need before it is made.
type plan struct {
	request  meter.Request
	estimate tenant.Estimate
	answers  int64 // among which the output is shared: choices times prompts times turns
	answer   int64 // tokens of output of one, as far as a limit binds it
	beyond   int64 // and beside it
	likely   int64 // tokens of input
	round    int64 // and that a tool of the provider's brings into it each time that it is used
	body     []byte
	filter   bool // the body asks for a usage that the caller has not asked for
}

// plan bounds a request, and edits its body as far as is known before the budgets are asked.
func (t *Transport) plan(r *http.Request, e meter.Endpoint, body []byte) *plan {
	reader := pooled[meter.RequestReader](&t.requests)
	q := reader.Read(e, body)
	t.requests.Put(reader)
	if q.Model == "" && e.Job != "" {
		q.Model = t.conversations.model(r.URL.Host, e.Job)
	}
	p := &plan{request: q, body: body, answers: min(min(q.Choices, mostAnswers)*min(q.Prompts, mostAnswers), mostAnswers)}
	p.answers = min(p.answers*max(q.Turns, 1), mostAnswers)
	p.answer = t.answer(e, &q)
	if q.Unlimited {
		p.beyond = cmp.Or(t.options.maxOutput, DefaultMaxOutput)
	}
	editable := !signed(r)

	media := t.media(e, &q)
	p.estimate = tenant.Estimate{
		Provider: e.Provider, Model: q.Model, ServiceTier: cmp.Or(q.ServiceTier, tierOf(r)), LongCache: q.LongCache,
		InputTokens:      min(q.InputBytes+t.options.hiddenInput(r.URL)+media, mostTokens),
		InputMediaTokens: min(media, mostTokens),
		OutputTokens:     min((p.answer+min(p.beyond, mostTokens/mostAnswers))*p.answers, mostTokens),
		Units:            q.Units,
		Operation:        operation(e),
	}
	if e.Kind == meter.Video { // no part of it is tokens
		p.estimate.InputTokens, p.estimate.InputMediaTokens = 0, 0
	}
	p.likely = min(q.InputBytes/meter.LikelyBytes+media+1, p.estimate.InputTokens)
	if q.Passes > 1 { // each reads what was asked, and what others have written
		p.estimate.InputTokens = min(q.Passes*(p.estimate.InputTokens+p.estimate.OutputTokens), mostTokens)
		p.estimate.InputMediaTokens = min(q.Passes*media, p.estimate.InputTokens)
		p.likely = min(q.Passes*p.likely, p.estimate.InputTokens)
	}
	if q.Open {
		p.estimate.InputTokens = max(p.estimate.InputTokens, t.options.maxInput)
		p.round = likelyRound
	}
	if q.Stored {
		p.likely = p.estimate.InputTokens
	}
	if q.Stored || e.Kind == meter.Transcription { // whose input is audio as a whole, where it is not said in parts
		p.estimate.InputMediaTokens = p.estimate.InputTokens
	}
	p.estimate.LeastOutputTokens = min((max(leastOutput, q.LeastOutput)+p.beyond)*p.answers, p.estimate.OutputTokens)
	if !editable || p.answer <= 0 || !meter.CanLimitOutput(e, body) { // nothing can shorten the reply: it is paid for as a whole or not made
		p.estimate.LeastOutputTokens = p.estimate.OutputTokens
	} else if t.options.maxOutput > 0 {
		p.body, _ = meter.LimitOutput(e, body, p.answer)
	}
	if editable && q.Stream && !q.IncludeUsage && !t.options.unasked {
		p.body, p.filter = meter.AskForUsage(e, p.body)
		p.filter = p.filter && !meter.StatesUnasked(r.URL)
	}
	return p
}

// operation is what a call is for, in the words of OpenTelemetry's conventions where they have one.
func operation(e meter.Endpoint) string {
	switch {
	case e.Kind == meter.Chat && e.Format == meter.Gemini:
		return "generate_content"
	case e.Kind == meter.Chat && (e.Format == meter.Completions || e.Format == meter.LlamaCpp || e.Format == meter.TextGeneration):
		return "text_completion"
	default:
		return string(e.Kind)
	}
}

// input returns how many tokens of input the call is likely to have had, where the provider does not say it: of what is
// stored nobody knows, so that it is all that was held; tools bring something in, once at least.
func (p *plan) input(searches int64) int64 {
	rounds := min(searches, p.estimate.InputTokens) + 1
	return min(p.likely+rounds*p.round, p.estimate.InputTokens)
}

// media returns how many tokens the media in a request can be.
func (t *Transport) media(e meter.Endpoint, q *meter.Request) int64 {
	image := meter.ImageTokens(q.Model, q.FullImages || e.Kind == meter.Images)
	return min(q.Images, mostTokens/meter.DearImage)*image + q.AudioBytes/audioBytes + min(documentInput*q.DocumentBytes, t.options.maxInput)
}

// tierOf returns the service tier that a header asks for: Bedrock's and Vertex AI's requests can have it there.
func tierOf(r *http.Request) string {
	return cmp.Or(meter.Header(r.Header, "X-Amzn-Bedrock-Service-Tier"), meter.Header(r.Header, "X-Vertex-Ai-Llm-Shared-Request-Type"))
}

// answer returns how many tokens of output one answer can have.
func (t *Transport) answer(e meter.Endpoint, q *meter.Request) int64 {
	switch e.Kind {
	case meter.Embeddings, meter.Moderation, meter.Rerank, meter.OCR, meter.Video:
		return 0
	case meter.Images:
		return imageOutput
	case meter.Speech:
		return leastOutput + speechPerByte*q.InputBytes
	case meter.Transcription:
		return min(hiddenInput+q.MediaBytes/audioBytes, DefaultMaxOutput)
	}
	switch {
	case q.MaxTokens > 0:
		return min(q.MaxTokens, mostTokens/mostAnswers)
	case t.options.maxOutput > 0:
		return min(t.options.maxOutput, mostTokens/mostAnswers)
	}
	return DefaultMaxOutput
}

// limit makes the body fit what was granted.
func (p *plan) limit(e meter.Endpoint, granted int64) {
	if granted < p.estimate.OutputTokens {
		p.body, _ = meter.LimitOutput(e, p.body, max(granted/p.answers-p.beyond, 1))
	}
}

// signed reports whether the request says what its body is, so that another body would be refused.
func signed(r *http.Request) bool {
	if strings.HasPrefix(meter.Header(r.Header, "Authorization"), "AWS4-") || r.URL.RawQuery != "" && r.URL.Query().Has("X-Amz-Signature") {
		return true
	}
	for _, name := range [...]string{"X-Amz-Content-Sha256", "Content-Digest", "Digest", "Content-Md5", "Content-Encoding"} {
		if meter.Header(r.Header, name) != "" {
			return true
		}
	}
	return false
}
