package meter

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/llmtenant/tenant/internal/book"
)

// converse reads Bedrock's own format, as JSON and as an event stream whose last message has the usage. Cached tokens
// are beside the input, but for OpenAI's models.
type converse struct {
	reply
	named       string // the model
	usage, next tally
	ttl         string
	ttlTokens   int64
}

var converseSchema = schema(
	under("usage", converseUsage()),
	[]rule{{"stopReason", fieldFinish, keep}, {"serviceTier.type", fieldTier, keep}},
	each(fieldText, count, "delta.text", "delta.reasoningContent.text", "delta.toolUse.input", "start.toolUse.name",
		"output.message.content[].text", "output.message.content[].reasoningContent.reasoningText.text",
		"output.message.content[].toolUse.name"),
)

func converseUsage() []rule {
	return []rule{
		{"", fieldUsage, keep},
		{"inputTokens", fieldPrompt, keep},
		{"outputTokens", fieldCompletion, keep},
		{"totalTokens", fieldTotal, keep},
		{"cacheReadInputTokens", fieldCached, keep},
		{"cacheReadInputTokenCount", fieldCachedTwin, keep},
		{"cacheWriteInputTokens", fieldCacheWrite, keep},
		{"cacheWriteInputTokenCount", fieldCacheWriteTwin, keep},
		{"cacheDetails[]", fieldCacheDetail, keep},
		{"cacheDetails[].ttl", fieldCacheTTL, keep},
		{"cacheDetails[].inputTokens", fieldCacheTTLTokens, keep},
	}
}

func newConverse(e Endpoint) *converse { return &converse{reply: newReply(), named: e.Model} }

func (c *converse) schema() *node { return converseSchema }

func (c *converse) begin(f field) {
	switch f {
	case fieldUsage:
		c.next = tally{}
	case fieldCacheDetail:
		c.ttl, c.ttlTokens = "", 0
	}
}

func (c *converse) end(f field) {
	switch f {
	case fieldUsage:
		if !c.next.empty() {
			c.usage = c.next
		}
	case fieldCacheDetail:
		switch c.ttl {
		case "1h":
			c.next.add(fieldCacheWrite1h, c.ttlTokens)
		case "5m":
			c.next.add(fieldCacheWrite5m, c.ttlTokens)
		}
	}
}

func (c *converse) scalar(f field, v value) {
	switch f {
	case fieldCacheTTL:
		c.ttl = intern(c.ttl, v)
	case fieldCacheTTLTokens:
		var t tally
		t.read(fieldTotal, v)
		c.ttlTokens, c.next.bad = t.n[fieldTotal], c.next.bad || t.bad
	default:
		if !c.next.read(f, v) {
			c.reply.scalar(f, v)
		}
	}
}

func (c *converse) result(to *Result) {
	c.fill(to)
	to.Complete = to.Complete || !c.usage.empty() // nothing follows the usage
	t := &c.usage
	if t.bad {
		to.Implausible = true
		return
	}
	if t.any(fieldPrompt, fieldCompletion) {
		to.state(t.converse(c.named))
	}
}

// converse takes the usage apart. OpenAI's models state an input that their cache is inside of, in streams; their total adds
// the cache to it once more, so that it decides nothing. Elsewhere their input is what remains beside the cache, a few
// tokens, which the cache is not inside of. What a total of input and output alone leaves no room for is inside as well.
func (t *tally) converse(model string) (u book.Usage) {
	u.Input, u.Output, u.CacheRead = t.n[fieldPrompt], t.n[fieldCompletion], t.n[fieldCached]
	if !t.has(fieldCached) {
		u.CacheRead = t.n[fieldCachedTwin]
	}
	if !t.has(fieldCacheWrite) {
		t.n[fieldCacheWrite] = t.n[fieldCacheWriteTwin]
	}
	u.CacheWrite5m, u.CacheWrite1h = t.writes()
	inside := strings.Contains(model, "openai.") || t.has(fieldTotal) && t.n[fieldTotal] == u.Input+u.Output
	if cached := u.CacheRead + u.CacheWrite5m + u.CacheWrite1h; inside && cached <= u.Input {
		u.Input -= cached
	}
	return u
}

// invoke reads the replies of models that are called through Bedrock in their own format. Anthropic's say most about
// their usage; for the others Bedrock says it, in headers and in the last chunk of a stream; some old ones say it
// themselves.
type invoke struct {
	anthropic
	counts tally
}

var invokeSchema = func() *node {
	counts := concat(
		each(fieldPromptTwin, keep, "usage.prompt_tokens", "prompt_token_count", "inputTextTokenCount"),
		each(fieldCompletionTwin, keep, "usage.completion_tokens", "generation_token_count", "results[].tokenCount"),
		each(fieldTotal, keep, "totalOutputTextTokenCount"),
		each(fieldCachedTwin, keep, "usage.prompt_tokens_details.cached_tokens"),
		[]rule{{"stopReason", fieldFinish, keep}, {"choices[].finish_reason", fieldFinish, keep}},
		each(fieldText, count, "contentBlockDelta.delta.text", "generation", "outputText", "choices[].message.content",
			"choices[].delta.content", "outputs[].text"),
		under("amazon-bedrock-invocationMetrics", []rule{
			{"inputTokenCount", fieldHostPrompt, keep},
			{"outputTokenCount", fieldHostCompletion, keep},
			{"cacheReadInputTokenCount", fieldHostCached, keep},
			{"cacheWriteInputTokenCount", fieldHostCacheWrite, keep},
		}),
	)
	for _, usage := range []string{"usage", "metadata.usage"} { // Nova's
		counts = append(counts,
			rule{usage + ".inputTokens", fieldHostPrompt, keep},
			rule{usage + ".outputTokens", fieldHostCompletion, keep},
			rule{usage + ".cacheReadInputTokenCount", fieldHostCached, keep},
			rule{usage + ".cacheWriteInputTokenCount", fieldHostCacheWrite, keep},
		)
	}
	return schema(anthropicRules(), counts)
}()

func newInvoke(e Endpoint) *invoke { return &invoke{anthropic: *newAnthropic(e)} }

func (i *invoke) schema() *node { return invokeSchema }

// header reads what Bedrock says of a reply that is not streamed.
func (i *invoke) header(h http.Header) {
	i.tier = h.Get("X-Amzn-Bedrock-Service-Tier")
	for name, f := range map[string]field{
		"X-Amzn-Bedrock-Input-Token-Count":             fieldHostPrompt,
		"X-Amzn-Bedrock-Output-Token-Count":            fieldHostCompletion,
		"X-Amzn-Bedrock-Cache-Read-Input-Token-Count":  fieldHostCached,
		"X-Amzn-Bedrock-Cache-Write-Input-Token-Count": fieldHostCacheWrite,
	} {
		if v := h.Get(name); v != "" {
			i.counts.read(f, value{text: []byte(v)})
		}
	}
}

func (i *invoke) scalar(f field, v value) {
	switch f {
	case fieldTotal: // in a stream of Titan's, the last chunk has it
		i.counts.read(fieldCompletionTwin, v)
		i.ending = true
	case fieldHostCompletion:
		i.counts.read(f, v)
		i.ending = true
	case fieldPromptTwin, fieldCompletionTwin, fieldCachedTwin, fieldHostPrompt, fieldHostCached, fieldHostCacheWrite:
		i.counts.read(f, v)
	default:
		i.anthropic.scalar(f, v)
	}
}

func (i *invoke) result(to *Result) {
	i.anthropic.result(to)
	t := &i.counts
	if to.Found || to.Implausible {
		return
	}
	if t.bad {
		to.Implausible = true
		return
	}
	switch {
	case t.any(fieldHostPrompt, fieldHostCompletion):
		to.state(book.Usage{
			Input: t.n[fieldHostPrompt], CacheRead: t.n[fieldHostCached], CacheWrite5m: t.n[fieldHostCacheWrite],
			Output: t.n[fieldHostCompletion],
		})
	case t.any(fieldPromptTwin, fieldCompletionTwin):
		prompt := t.n[fieldPromptTwin]
		u := book.Usage{CacheRead: take(&prompt, t.n[fieldCachedTwin]), Output: t.n[fieldCompletionTwin]}
		u.Input = prompt
		to.state(u)
	}
}

// unwrap takes the model's own documents out of the messages of a stream, where they are in base64.
type unwrap struct {
	reply
	inner   *scanner
	n       int
	buf     [window + quad]byte
	stopped bool
}

const quad = 4 // characters that are decoded together

var unwrapSchema = schema([]rule{{"bytes", fieldBytes, pipe}})

func (u *unwrap) pipe(_ field, p []byte) {
	if p == nil {
		u.n, u.stopped = 0, false
		u.inner.close()
		u.inner.reset()
		return
	}
	for len(p) > 0 {
		n := copy(u.buf[u.n:], p)
		p = p[n:]
		u.n += n
		whole := u.n / quad * quad
		u.decode(u.buf[:whole])
		u.n = copy(u.buf[:], u.buf[whole:u.n])
	}
}

// decode stops for good at what is not base64, and at the padding, which is the end: at the same place however the
// pieces are cut.
func (u *unwrap) decode(p []byte) {
	step := len(p)
	if bytes.ContainsAny(p, "=\r\n") { // the decoder passes over line ends
		step = quad
	}
	var out [window]byte
	for len(p) > 0 && !u.stopped {
		n, err := base64.StdEncoding.Decode(out[:], p[:step])
		if err != nil && step > quad {
			step = quad
			continue
		}
		u.stopped = err != nil || n < step/quad*3
		if err == nil {
			u.inner.write(out[:n])
		}
		p = p[step:]
	}
}
