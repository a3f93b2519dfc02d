package tenant

import (
	"time"

	"github.com/llmtenant/tenant/internal/money"
)

// Prices is where a Ledger looks up what a call costs. The package pricing holds the book that ships with this module;
// any other source of prices implements this interface. It is called from many goroutines, on the path of every call:
// it must answer from memory.
type Prices interface {
	// Price returns the price of a provider's model that is in force at the given time. An empty provider means that
	// the caller does not know it; the implementation answers where the model's name alone leaves no doubt. It returns
	// false for a model that it does not know: that is not an error, and never a price of zero.
	Price(provider, model string, at time.Time) (Price, bool)
}

// Price is what one model costs. A call is priced as a whole: where its prompt is longer than a tier's threshold,
// every token of the call is charged at that tier's rates.
type Price struct {
	// Provider and Model name the row of the price book that was found, for example "openai" and "gpt-4.1-mini".
	Provider, Model string

	Rates

	// Tiers are the rates for long prompts, ascending by threshold. Empty for a model with one set of rates.
	Tiers []Tier
}

// Tier is a set of rates that applies to calls with more than Above tokens of input, of all input classes together.
type Tier struct {
	Above int64
	Rates
}

// Rates are nano-dollars (1e-9 US dollars) per million tokens, one for each class of [Usage]. A class that has no rate
// of its own (zero) is charged at the rate that its tokens would have without it: cache reads, cache writes, audio and
// image input as Input; reasoning, audio and image output as Output; a one-hour cache write as a five-minute one. So an
// absent rate never makes tokens free: only a model whose Input and Output are zero is.
type Rates struct {
	Input, CacheRead, CacheWrite5m, CacheWrite1h int64
	Output, Reasoning                            int64
	InputAudio, OutputAudio                      int64
	InputImage, OutputImage                      int64

	// WebSearch is nano-dollars per web search, a fee on top of the tokens.
	WebSearch int64
}

// Cost returns what a call with this usage costs in nano-dollars. The parts are added exactly and rounded once, half up.
func (p Price) Cost(u Usage) int64 {
	r := p.rates(u.InputTokens())
	var sum money.Sum
	for _, part := range [...]struct{ tokens, rate int64 }{
		{u.Input, r.Input},
		{u.CacheRead, or(r.CacheRead, r.Input)},
		{u.CacheWrite5m, or(r.CacheWrite5m, r.Input)},
		{u.CacheWrite1h, or(r.CacheWrite1h, r.CacheWrite5m, r.Input)},
		{u.InputAudio, or(r.InputAudio, r.Input)},
		{u.InputImage, or(r.InputImage, r.Input)},
		{u.Output, r.Output},
		{u.Reasoning, or(r.Reasoning, r.Output)},
		{u.OutputAudio, or(r.OutputAudio, r.Output)},
		{u.OutputImage, or(r.OutputImage, r.Output)},
	} {
		sum.AddTokens(part.tokens, part.rate)
	}
	sum.AddFees(u.WebSearches, r.WebSearch)
	return sum.Nano()
}

// bound returns rates that no closed text call with at most this many tokens of input can exceed: the dearest input
// class that a provider applies unasked, and the dearest text output class, over every tier that can be reached. A
// one-hour cache write is left out: it has to be asked for.
func (p Price) bound(input int64) (in, out int64) {
	in, out = p.Rates.bound()
	for _, t := range p.Tiers {
		if input > t.Above {
			ti, to := t.Rates.bound()
			in, out = max(in, ti), max(out, to)
		}
	}
	return in, out
}

func (r Rates) bound() (in, out int64) {
	return max(r.Input, r.CacheRead, r.CacheWrite5m), max(r.Output, r.Reasoning)
}

func (p Price) rates(input int64) Rates {
	r := p.Rates
	for _, t := range p.Tiers {
		if input > t.Above {
			r = t.Rates
		}
	}
	return r
}

func or(rates ...int64) int64 {
	for _, r := range rates {
		if r != 0 {
			return r
		}
	}
	return 0
}
