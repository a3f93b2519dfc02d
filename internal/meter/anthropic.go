package meter

import (
	"cmp"
	"slices"
	"strings"

	"github.com/llmtenant/tenant/internal/book"
)

// anthropic reads messages, as JSON and as events, of Anthropic itself, of Vertex AI and of Bedrock, and those
// in the results of batches. Cached tokens are beside the input, thinking is inside the output.
type anthropic struct {
	reply
	endpoint    Endpoint
	usage, next tally
	iteration   iteration
	others      others // what the totals leave out
	passes      others // of models that answered, or were to
	served      string // the model that answered in place of one that refused
	speed       string
	region      string
	spent       spending // of gateways that serve the format
	paying      spending
	inIteration bool
}

// iteration is one pass of a model over a message.
type iteration struct {
	typ, model string
	usage      tally
}

var anthropicSchema = schema(anthropicRules())

func anthropicRules() []rule {
	counts := []rule{
		{"input_tokens", fieldPrompt, keep},
		{"output_tokens", fieldCompletion, keep},
		{"cache_read_input_tokens", fieldCached, keep},
		{"cache_creation_input_tokens", fieldCacheWrite, keep},
		{"cache_creation.ephemeral_5m_input_tokens", fieldCacheWrite5m, keep},
		{"cache_creation.ephemeral_1h_input_tokens", fieldCacheWrite1h, keep},
		{"output_tokens_details.thinking_tokens", fieldReasoning, keep},
		{"server_tool_use.web_search_requests", fieldSearches, keep},
		{"server_tool_use_details.web_search_requests", fieldSearches, keep}, // OpenRouter
		{"claude_cache_creation_5_m_tokens", fieldClaude5m, keep},            // new-api
		{"claude_cache_creation_1_h_tokens", fieldClaude1h, keep},            // new-api
	}
	usage := concat(counts, under("iterations[]", counts), costs, []rule{
		{"", fieldUsage, keep},
		{"service_tier", fieldTier, keep},
		{"speed", fieldSpeed, keep},
		{"inference_geo", fieldRegion, keep},
		{"iterations", fieldIterations, keep},
		{"iterations[]", fieldIteration, keep},
		{"iterations[].type", fieldIterationType, keep},
		{"iterations[].model", fieldIterationModel, keep},
	})
	content := each(fieldText, count, "text", "thinking", "partial_json")
	message := concat(
		[]rule{{"model", fieldModel, keep}, {"id", fieldID, keep}, {"stop_reason", fieldFinish, keep}},
		under("content[]", content),
		under("usage", usage),
	)
	return concat(
		message,
		under("message", message),
		under("content_block", content),
		under("delta", content),
		[]rule{{"type", fieldType, keep}, {"error", fieldError, keep}, {"delta.stop_reason", fieldFinish, keep}},
		each(fieldText, count, "completion"), // of the text completions
	)
}

func newAnthropic(e Endpoint) *anthropic {
	return &anthropic{reply: newReply(), endpoint: e, spent: noSpending}
}

func (a *anthropic) schema() *node { return anthropicSchema }

func (a *anthropic) begin(f field) {
	switch f {
	case fieldUsage:
		a.next, a.paying, a.inIteration = tally{}, noSpending, false
	case fieldIterations:
		a.others, a.passes, a.served = others{}, others{}, ""
	case fieldIteration:
		a.iteration, a.inIteration = iteration{}, true
	default:
		a.reply.begin(f)
	}
}

func (a *anthropic) end(f field) {
	switch f {
	case fieldUsage:
		if a.next.n[fieldPrompt]+a.next.n[fieldCached]+a.next.n[fieldCacheWrite] == 0 { // servers that count the output alone
			a.next.drop(fieldPrompt, fieldCached, fieldCacheWrite, fieldCacheWrite5m, fieldCacheWrite1h, fieldClaude5m, fieldClaude1h)
		}
		a.usage.overlay(&a.next)
		a.spent.overlay(a.paying)
	case fieldIteration:
		switch it := &a.iteration; it.typ {
		case "":
		case "message":
			// A model that refuses before it says anything is not charged for; the one token is a placeholder.
			if it.model != "" && it.usage.n[fieldCompletion] > 1 {
				a.passes.add(it.model, &it.usage)
			}
		case "fallback_message":
			a.served = it.model
		default:
			a.others.add(it.model, &it.usage)
		}
		a.inIteration = false
	}
}

func (a *anthropic) scalar(f field, v value) {
	switch f {
	case fieldType:
		a.ending = a.ending || v.is("message_stop")
		a.known = a.known || v.is("message") || v.is("message_start")
	case fieldIterationType:
		a.iteration.typ = string(v.text)
	case fieldIterationModel:
		a.iteration.model = string(v.text)
	case fieldSpeed:
		a.speed = intern(a.speed, v)
	case fieldRegion:
		a.region = intern(a.region, v)
	case fieldCost, fieldEstimatedCost, fieldUpstreamCost, fieldMarketCost, fieldTicks, fieldOwnKey:
		a.implausible = !a.paying.read(f, v) || a.implausible
	default:
		counts := &a.next
		if a.inIteration {
			counts = &a.iteration.usage
		}
		if !counts.read(f, v) {
			a.reply.scalar(f, v)
		}
	}
}

func (a *anthropic) result(to *Result) {
	a.cost = a.spent.stated(a.endpoint.Provider)
	a.fill(to)
	to.Complete = to.Complete || a.ended
	to.ServiceTier = a.endpoint.in(served(a.tier, a.speed, a.region))
	a.others.fill(to, a.model)
	a.refused(to)
	if a.usage.bad {
		to.Implausible = true
		return
	}
	if a.usage.has(fieldPrompt) || a.usage.has(fieldCompletion) {
		u := a.usage.anthropic()
		if a.translated() {
			u.Input -= u.CacheRead + u.CacheWrite5m + u.CacheWrite1h
		}
		to.state(u)
	}
}

// translated reports whether a gateway has put the counts of another company's model under the names of Anthropic's: it
// leaves what was cached inside the input. new-api does, which is told by names that are its own.
func (a *anthropic) translated() bool {
	t := &a.usage
	short, long := t.writes()
	return t.any(fieldClaude5m, fieldClaude1h) && a.model != "" && !isClaude(a.model) && t.reads()+short+long <= t.n[fieldPrompt]
}

// served joins all that decides what Anthropic charges for a token by plus signs: fast answers and data that stay in the
// United States have rates of their own, whatever the tier.
func served(tier, speed, region string) string {
	for _, more := range []string{speed, region} {
		if more == "fast" || more == "us" {
			tier = strings.TrimPrefix(tier+"+"+more, "+")
		}
	}
	return tier
}

// refused says what models used that began to answer and then refused, so that another one served the call. The totals
// are those of the model that served it.
func (a *anthropic) refused(to *Result) {
	if a.served == "" {
		return
	}
	passes := a.passes
	passes.list = slices.DeleteFunc(slices.Clone(passes.list), func(m ModelUsage) bool { return m.Model == a.served })
	passes.fill(to, a.served)
}

func (t *tally) anthropic() (u book.Usage) {
	u.Input = t.n[fieldPrompt]
	u.CacheRead = t.n[fieldCached]
	u.CacheWrite5m, u.CacheWrite1h = t.writes()
	output := t.n[fieldCompletion]
	u.Reasoning = take(&output, t.n[fieldReasoning])
	u.Output = output
	u.WebSearches = t.n[fieldSearches]
	return u
}

// ModelUsage is what one model used.
type ModelUsage struct {
	Model string
	Usage book.Usage
}

const maxModels = 16 // that one reply can name

// others sums usage by model.
type others struct {
	list []ModelUsage
	bad  bool
}

func (o *others) add(model string, t *tally) { o.plus(model, t.anthropic(), t.bad) }

func (o *others) plus(model string, u book.Usage, bad bool) {
	if bad || !plausible(u) {
		o.bad = true
		return
	}
	for i := range o.list {
		if o.list[i].Model == model || len(o.list) == maxModels && i == maxModels-1 {
			o.list[i].Usage = o.list[i].Usage.Plus(u)
			return
		}
	}
	o.list = append(o.list, ModelUsage{model, u})
}

// fill says what was used beside the usage of the reply's own model. An iteration that names no model is of the same.
func (o *others) fill(to *Result, own string) {
	to.Implausible = to.Implausible || o.bad
	for _, m := range o.list {
		m.Model = cmp.Or(m.Model, own)
		if !plausible(m.Usage) {
			to.Implausible = true
			continue
		}
		to.Also = append(to.Also, m)
	}
}
