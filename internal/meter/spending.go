package meter

import (
	"net/http"

	"github.com/llmtenant/tenant/internal/money"
)

// spending is the cost that a usage object states.
type spending struct {
	cost, upstream, market, ticks, estimated int64
	own                                      bool // the key is the caller's own
}

var noSpending = spending{cost: notStated, upstream: notStated, market: notStated, ticks: notStated, estimated: notStated}

// costs are where a usage object states it.
var costs = []rule{
	{"cost", fieldCost, keep},            // OpenRouter and Vercel
	{"cost.total_cost", fieldCost, keep}, // Perplexity
	{"cost_details.upstream_inference_cost", fieldUpstreamCost, keep},
	{"estimated_cost", fieldEstimatedCost, keep}, // DeepInfra
	{"market_cost", fieldMarketCost, keep},       // Vercel
	{"cost_in_usd_ticks", fieldTicks, keep},      // xAI
	{"is_byok", fieldOwnKey, keep},
}

// read takes a part over. It reports false for an amount that cannot be true.
func (s *spending) read(f field, v value) bool {
	switch f {
	case fieldCost:
		return pay(&s.cost, v, 9)
	case fieldUpstreamCost:
		return pay(&s.upstream, v, 9)
	case fieldMarketCost:
		return pay(&s.market, v, 9)
	case fieldEstimatedCost:
		return pay(&s.estimated, v, 9)
	case fieldTicks:
		return pay(&s.ticks, v, -1)
	case fieldOwnKey:
		s.own = v.isTrue()
	}
	return true
}

// pay reads an amount of 10^-places US dollars, which some write in quotes. What is quoted and no number is no statement.
func pay(to *int64, v value, places int) bool {
	switch n, _, ok := scaled(v.text, places); {
	case ok && n >= 0 && n <= maxCost && v.text[0] != '-':
		*to = n
	case ok || !v.quoted:
		return false
	}
	return true
}

func (s *spending) overlay(o spending) {
	for _, p := range []struct{ to, from *int64 }{
		{&s.cost, &o.cost}, {&s.upstream, &o.upstream}, {&s.market, &o.market}, {&s.ticks, &o.ticks}, {&s.estimated, &o.estimated},
	} {
		if *p.from != notStated {
			*p.to = *p.from
		}
	}
	s.own = s.own || o.own
}

// stated is the cost as the provider says it, in nano-dollars.
func (s spending) stated(provider string) int64 {
	switch {
	case s.ticks > 0: // others that serve xAI's models report zero
		return s.ticks
	case s.cost == notStated:
		return s.estimated
	case !s.own:
		return s.cost
	case s.upstream > 0:
		return money.Add(s.cost, s.upstream)
	case s.cost == 0 && s.market > 0 && provider == Vercel:
		return s.market
	default:
		return s.cost
	}
}

// costIn is what LiteLLM's proxy says in a header that a call costs (*Response headers*, LiteLLM docs). It says zero, or None, where
// it does not know: of streams, and of models that it has no price of.
func costIn(h http.Header) (cost int64) {
	if v := Header(h, "X-Litellm-Response-Cost"); v != "" {
		pay(&cost, value{text: []byte(v), quoted: true}, 9)
	}
	return cost
}
