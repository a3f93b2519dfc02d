package tenanthttp

import (
	"net/http"
	"strings"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/meter"
)

const (
	hiddenInput   = 1024 // tokens that providers add to the text of a request, at most
	imageInput    = 5000 // tokens of an image, at most, with the models that charge images by the token
	audioBytes    = 16   // of audio, in base64, that make one token, at least
	imageOutput   = 8192 // tokens of an image that is made, at most
	leastOutput   = 256  // tokens that make a call worth making
	likelyBytes   = 3    // of text and JSON that make one token, where the provider does not say how many it were
	speechPerByte = 2    // tokens of speech for a byte of text, at most
	mostAnswers   = 1 << 20
)

// plan is what a request is known to need before it is made.
type plan struct {
	request  meter.Request
	estimate tenant.Estimate
	answers  int64 // among which the output is shared: choices times prompts
	answer   int64 // tokens of output of one
	likely   int64 // tokens of input
	body     []byte
	filter   bool // the body asks for a usage that the caller has not asked for
}

// plan bounds a request, and edits its body as far as is known before the budgets are asked.
func (t *Transport) plan(r *http.Request, e meter.Endpoint, body []byte) *plan {
	q := meter.ReadRequest(e, body)
	p := &plan{request: q, body: body, answers: min(min(q.Choices, mostAnswers)*min(q.Prompts, mostAnswers), mostAnswers)}
	p.answer = t.answer(e, &q)
	editable := !signed(r)

	media := q.Images * imageInput
	if q.Audio > 0 {
		media += q.MediaBytes / audioBytes
	}
	if q.Documents > 0 {
		media += min(q.MediaBytes, t.options.maxInput)
	}
	p.estimate = tenant.Estimate{
		Provider: e.Provider, Model: q.Model, ServiceTier: q.ServiceTier,
		InputTokens:  min(q.InputBytes+hiddenInput+media, mostTokens),
		OutputTokens: min(p.answer*p.answers, mostTokens),
	}
	p.likely = min(q.InputBytes/likelyBytes+media+1, p.estimate.InputTokens)
	if q.Open {
		p.estimate.InputTokens = max(p.estimate.InputTokens, t.options.maxInput)
		p.likely = p.estimate.InputTokens
	}
	p.estimate.LeastOutputTokens = min(max(leastOutput, q.LeastOutput)*p.answers, p.estimate.OutputTokens)
	limited, ok := body, false
	if editable && p.answer > 0 {
		limited, ok = meter.LimitOutput(e, body, p.answer)
	}
	switch {
	case !ok: // nothing can shorten the reply, so that it is paid for as a whole or not made
		p.estimate.LeastOutputTokens = p.estimate.OutputTokens
	case t.options.maxOutput > 0:
		p.body = limited
	}
	if editable && q.Stream && !q.IncludeUsage && !t.options.unasked {
		p.body, p.filter = meter.AskForUsage(e, p.body)
	}
	return p
}

// answer returns how many tokens of output one answer can have.
func (t *Transport) answer(e meter.Endpoint, q *meter.Request) int64 {
	switch e.Kind {
	case meter.Embeddings, meter.Moderation, meter.Rerank, meter.OCR:
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
		p.body, _ = meter.LimitOutput(e, p.body, max(granted/p.answers, 1))
	}
}

// signed reports whether the request says what its body is, so that another body would be refused.
func signed(r *http.Request) bool {
	if strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-") || r.URL.Query().Has("X-Amz-Signature") {
		return true
	}
	for _, name := range []string{"X-Amz-Content-Sha256", "Content-Digest", "Digest", "Content-Md5", "Content-Encoding"} {
		if r.Header.Get(name) != "" {
			return true
		}
	}
	return false
}
