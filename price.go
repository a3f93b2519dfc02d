package tenant

import (
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/units"
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

// TenantPrices is implemented by [Prices] that know terms of single tenants: a ledger asks TenantPrice instead of Price
// for each call that has a tenant, when it is admitted and when it is settled.
type TenantPrices interface {
	// TenantPrice is Price for a call of the tenant with this id.
	TenantPrice(tenantID, provider, model string, at time.Time) (Price, bool)
}

// DatedPrices is implemented by [Prices] that know of which day they are: the ledger says so in a [NoPriceError] and in
// [BudgetStatus], so that a book that has grown old is seen.
type DatedPrices interface {
	// AsOf is the day of the newest of the prices, zero where nobody knows.
	AsOf() time.Time
}

// Price is what one model costs. A call is priced as a whole: where its prompt is longer than a tier's threshold,
// every token of the call is charged at that tier's rates.
type Price struct {
	// Provider and Model name the row of the price book that was found, for example "openai" and "gpt-4.1-mini".
	Provider, Model string

	// Row says which price was found, for the books: the provider and the model, the day from which the row is in force
	// where it has one, the service tier and the uplift where there is one, and what a tenant's terms made of it, as in
	// "openai/gpt-5.6-luna@2026-07-30 x1.2 flex".
	Row string

	Rates

	// Tiers are the rates for long prompts, ascending by threshold. Empty for a model with one set of rates.
	Tiers []Tier

	// Services are the rates of the service tiers that are not charged as the standard one is.
	Services []Service

	// Uplifts are what is charged on top for calls that are served in a certain way, whatever their service tier is.
	Uplifts []Uplift

	// Share is what the tenant is charged of what the call costs, in billionths: 1_200_000_000 is a mark-up of 20 %,
	// 850_000_000 a discount of 15 %. Zero is all of it; with OwnKey, nothing. It holds also where no price of the model is known.
	Share int64

	// Negotiated, where set, is what the tenant is charged in the place of a Share: rates of its own, which are all that
	// counts of that price. What the call costs stays what it is.
	Negotiated *Price

	// OwnKey: the tenant pays the provider itself. The call costs nothing, and is charged its Share of what it would cost.
	OwnKey bool

	// ChargeReported: where the provider states what a call costs, that is what it costs, and not what the usage comes to. It
	// holds also where no price of the model is known.
	ChargeReported bool
}

// Service is the set of rates of one service tier. It is complete: nothing of the standard tier's is added to it.
type Service struct {
	Name string // "batch", "flex", "priority"
	Rates
	Tiers []Tier
}

// Uplift multiplies the rates of tokens, and no fees.
type Uplift struct {
	Name  string // "us", of a call whose data do not leave the United States
	Share int64  // what is charged of the rates, in billionths: 1_100_000_000 is a tenth more
}

// Tier is a set of rates that applies to calls with more than Above tokens of input, of all input classes together.
type Tier struct {
	Above int64
	Rates
}

// Rates are nano-dollars (1e-9 US dollars) per million tokens, one for each class of [Usage]. A class that has no rate
// of its own (zero) is charged at the rate that its tokens would have without it: cache reads, cache writes, audio and
// image input as Input; reasoning, audio and image output as Output; a one-hour cache write as a five-minute one; audio read from a cache as
// audio, and where that has no rate either, as a cache read. So an absent rate never makes tokens free: only a model whose Input and Output are zero is.
type Rates struct {
	Input, CacheRead, CacheWrite5m, CacheWrite1h int64
	Output, Reasoning                            int64
	InputAudio, CacheReadAudio, OutputAudio      int64
	InputImage, OutputImage                      int64

	// WebSearch is nano-dollars per web search, Request nano-dollars per call: fees on top of the tokens.
	WebSearch, Request int64

	// Units are the rates of what is counted in [Usage].Units. A model that has some, and neither Input nor Output, is one
	// that is charged by units alone: the tokens of a call that has such units are free, and a call without any has no price.
	Units []UnitRate
}

// UnitRate is what a unit costs, in nano-dollars per million of it: a call's fees. It holds for each unit that it covers, as
// [units.Unit.Covers] says; where several do, the one that says the most, and of those the dearest. A unit that no rate
// covers is charged at the dearest of those that say more than it does. Where there is none either, its price is not known:
// the rest of the call is charged, and the call is marked as unpriced, unless the unit measures what its tokens are charged for
// ([units.Unit.Measures]).
type UnitRate struct {
	Unit units.Unit
	Rate int64
}

// Bill is an amount of US dollars, exact to the nano-dollar, by what it is for. Fees are what is due by the call, by the web search
// and by the unit.
type Bill struct {
	Input, Output, Fees decimal.Decimal
}

// Total returns the sum of the parts, in US dollars.
func (b Bill) Total() decimal.Decimal { return decimal.Sum(b.Input, b.Output, b.Fees) }

// Cost returns what a provider bills for a call with this usage, in US dollars. The parts are added exactly and rounded once, to
// the nano-dollar, half up.
func (p Price) Cost(u Usage) decimal.Decimal { return money.Decimal(p.cost(u)) }

// Bill returns the cost of a call in parts that add up to it: only the total is rounded on its own, and each part is
// what the rounded total grows by when it is added. The fee per call is due where anything was used.
func (p Price) Bill(u Usage) Bill { return p.costs(u).bill() }

// Charge returns what the tenant is charged for a call with this usage, in US dollars: its Share of the cost, or what the
// Negotiated price comes to. It is rounded once, as the cost is.
func (p Price) Charge(u Usage) decimal.Decimal { return money.Decimal(p.charge(u)) }

// ChargeBill returns the charge of a call in parts, as [Price.Bill] does the cost.
func (p Price) ChargeBill(u Usage) Bill { return p.charges(u).bill() }

// parts are a Bill in nano-dollars.
type parts struct{ input, output, fees int64 }

func (n parts) total() int64 { return sum(n.input, n.output, n.fees) }

func (n parts) bill() Bill {
	return Bill{Input: money.Decimal(n.input), Output: money.Decimal(n.output), Fees: money.Decimal(n.fees)}
}

func (p Price) cost(u Usage) int64 { return p.costs(u).total() }

func (p Price) charge(u Usage) int64 { return p.charges(u).total() }

func (p Price) costs(u Usage) parts {
	if p.OwnKey {
		return parts{}
	}
	return p.apart(u, money.Nano)
}

func (p Price) charges(u Usage) parts {
	if p.Negotiated != nil {
		return p.Negotiated.charges(u)
	}
	return p.apart(u, p.share())
}

// apart is a share of what a usage comes to, in billionths, by what it is for.
func (p Price) apart(u Usage, share int64) parts {
	r := p.rates(u.InputTokens())
	var exact money.Sum
	counts, rates := book.Usage(u), r.classes()
	classes := counts.Classes()
	for _, i := range [...]int{0, 1, 2, 3, 4, 7, 9} {
		exact.AddTokens(*classes[i], rates[i])
	}
	input := exact.Scaled(share)
	for _, i := range [...]int{5, 6, 8, 10} {
		exact.AddTokens(*classes[i], rates[i])
	}
	tokens := exact.Scaled(share)
	exact.AddFees(u.WebSearches, r.WebSearch)
	for unit, n := range u.Units.All() {
		rate, _ := r.unit(unit)
		exact.AddTokens(n, rate)
	}
	if u != (Usage{}) {
		exact.AddFees(1, r.Request)
	}
	return parts{input, tokens - input, exact.Scaled(share) - tokens}
}

// ForService returns the price of a call that was served in the given tier, as the provider spells it: "batch", "flex"
// or "priority", in any case, or Google's "ON_DEMAND_FLEX". Where more than a tier decides the price, all that does is
// joined by plus signs, as in "standard+fast+us": the first name that the model has rates of its own for chooses them,
// and each uplift is charged on top. A name that the model has neither for changes nothing.
func (p Price) ForService(tier string) Price {
	if p.Negotiated != nil {
		served := p.Negotiated.ForService(tier)
		row := p.Row + strings.TrimPrefix(served.Row, p.Negotiated.Row)
		p.Negotiated = nil
		p = p.ForService(tier)
		p.Negotiated, p.Row = &served, row
		return p
	}
	if tier == "" || len(p.Services) == 0 && len(p.Uplifts) == 0 {
		return p
	}
	services, uplifts := p.Services, p.Uplifts
	for name := range strings.SplitSeq(strings.ToLower(tier), "+") {
		name = strings.TrimPrefix(name, "on_demand_")
		if i := slices.IndexFunc(services, func(s Service) bool { return s.Name == name }); i >= 0 {
			p.Rates, p.Tiers = services[i].Rates, services[i].Tiers
			p.Row += " " + name
			services, p.Services = nil, nil
		}
	}
	for _, u := range uplifts {
		for name := range strings.SplitSeq(strings.ToLower(tier), "+") {
			if name == u.Name {
				p = p.uplifted(u)
				break
			}
		}
	}
	return p
}

func (p Price) uplifted(u Uplift) Price {
	p.Row += " " + u.Name
	p.Rates = p.Rates.uplifted(u.Share)
	p.Tiers = slices.Clone(p.Tiers)
	for i := range p.Tiers {
		p.Tiers[i].Rates = p.Tiers[i].Rates.uplifted(u.Share)
	}
	p.Services, p.Uplifts = nil, nil
	return p
}

// differs reports whether what the provider states as the cost of a call is more than one per cent away from what its
// usage costs by the price book: then one of the two knows something that the other does not. Both are nano-dollars; a
// difference of one is rounding.
func differs(computed, reported int64) bool {
	distance := money.Sub(max(computed, reported), min(computed, reported))
	return distance > 1 && distance > max(computed, reported)/100
}

// bound returns what the input of a call and its fee come to at most, and what a token of its output comes to at most: at the
// dearest of the classes that a token can turn out to be of, over every tier that can be reached, and a share of that.
func (p Price) bound(e Estimate, share int64) (input, output int64) {
	most := p.Rates.bound(e)
	for _, t := range p.Tiers {
		if e.InputTokens > t.Above {
			b := t.Rates.bound(e)
			most = bounds{max(most.text, b.text), max(most.media, b.media), max(most.output, b.output), max(most.fee, b.fee)}
		}
	}
	input = money.Ceil(e.InputTokens-e.InputMediaTokens, money.Scale(most.text, share))
	input = money.Add(input, money.Ceil(e.InputMediaTokens, money.Scale(most.media, share)))
	return money.Add(input, money.Scale(most.fee, share)), money.Scale(most.output, share)
}

// costBound and chargeBound are the bounds of what a call costs and of what its tenant is charged.
func (p Price) costBound(e Estimate) (input, output int64) {
	if p.OwnKey {
		return 0, 0
	}
	return p.bound(e, money.Nano)
}

func (p Price) chargeBound(e Estimate) (input, output int64) {
	if p.Negotiated != nil {
		return p.Negotiated.chargeBound(e)
	}
	return p.bound(e, p.share())
}

// shareOf returns what the tenant is charged of an amount that is said to be the cost, and not reckoned.
func (p Price) shareOf(nano int64) int64 {
	var exact money.Sum
	exact.AddFees(1, nano)
	return exact.Scaled(p.share())
}

// share is what the tenant is charged of the cost, in billionths.
func (p Price) share() int64 {
	if p.Share == 0 && !p.OwnKey {
		return money.Nano
	}
	return p.Share
}

// bounds are the dearest rates of a token of text and of media in the input, and of any in the output.
type bounds struct{ text, media, output, fee int64 }

func (r Rates) bound(e Estimate) bounds {
	text := max(r.Input, r.CacheRead, r.CacheWrite5m)
	if e.LongCache {
		text = max(text, r.CacheWrite1h)
	}
	fee := r.Request
	for unit, n := range e.Units.All() {
		fee = money.Add(fee, money.Ceil(n, r.unitBound(unit)))
	}
	return bounds{
		text: text, media: max(text, r.InputAudio, r.CacheReadAudio, r.InputImage),
		output: max(r.Output, r.Reasoning, r.OutputAudio, r.OutputImage), fee: fee,
	}
}

// unit returns what a unit costs, and whether that is known.
func (r Rates) unit(u units.Unit) (rate int64, known bool) {
	most := -1
	for _, has := range r.Units {
		says := -1 // a rate that says more than the unit does counts less than one that covers it
		switch {
		case has.Unit.Covers(u):
			says = strings.Count(string(has.Unit), "+")
		case !u.Covers(has.Unit):
			continue
		}
		if !known || says > most || says == most && has.Rate > rate {
			rate, most, known = has.Rate, says, true
		}
	}
	return rate, known
}

// unitBound returns what a unit costs at most, whatever else turns out to be true of it.
func (r Rates) unitBound(u units.Unit) int64 {
	most, _ := r.unit(u)
	for _, has := range r.Units {
		if u.Covers(has.Unit) {
			most = max(most, has.Rate)
		}
	}
	return most
}

// prices reports whether the price knows what all of a call costs. What measures the same as tokens, such as the length of
// audio, needs no rate where the tokens beside it have one.
func (r Rates) prices(tokens int64, counts units.Counts) bool {
	byTokens := tokens > 0 && (r.Input != 0 || r.Output != 0)
	for unit := range counts.All() {
		if _, known := r.unit(unit); !known && !(byTokens && unit.Measures()) {
			return false
		}
	}
	return len(r.Units) == 0 || byTokens || tokens == 0 || !counts.IsZero()
}

// classes are what the classes of tokens are charged at, in the order of [book.UsageColumns].
func (r Rates) classes() [11]int64 {
	return [...]int64{
		r.Input, or(r.CacheRead, r.Input), or(r.CacheReadAudio, r.InputAudio, r.CacheRead, r.Input), or(r.CacheWrite5m, r.Input),
		or(r.CacheWrite1h, r.CacheWrite5m, r.Input), r.Output, or(r.Reasoning, r.Output), or(r.InputAudio, r.Input), or(r.OutputAudio, r.Output),
		or(r.InputImage, r.Input), or(r.OutputImage, r.Output),
	}
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

func (r Rates) uplifted(share int64) Rates {
	for _, rate := range [...]*int64{
		&r.Input, &r.CacheRead, &r.CacheWrite5m, &r.CacheWrite1h, &r.Output, &r.Reasoning,
		&r.InputAudio, &r.CacheReadAudio, &r.OutputAudio, &r.InputImage, &r.OutputImage,
	} {
		*rate = money.Scale(*rate, share)
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

// Usage is what one call consumed, in tokens of disjoint classes: no token is counted in two of them. Providers report
// sums that overlap (cached tokens inside the prompt's, reasoning inside the output's); whoever fills a Usage takes
// them apart first. Two usages are equal, by ==, where they count the same.
type Usage struct {
	// Input is plain input: neither read from nor written to a cache, neither audio nor image.
	Input int64 `gorm:"column:input_tokens"`

	// CacheRead is input served from the provider's prompt cache.
	CacheRead int64 `gorm:"column:cache_read_tokens"`

	// CacheReadAudio is audio served from that cache. It is not part of CacheRead.
	CacheReadAudio int64 `gorm:"column:cache_read_audio_tokens"`

	// CacheWrite5m is input written to a cache that lives five minutes, or as long as the shortest kind of the provider's
	// does; CacheWrite1h is input written to one that lives one hour, or as long as a longer kind does.
	CacheWrite5m int64 `gorm:"column:cache_write_5m_tokens"`
	CacheWrite1h int64 `gorm:"column:cache_write_1h_tokens"`

	// Output is plain output: neither reasoning, audio nor image.
	Output int64 `gorm:"column:output_tokens"`

	// Reasoning is output spent on thinking.
	Reasoning int64 `gorm:"column:reasoning_tokens"`

	InputAudio  int64 `gorm:"column:input_audio_tokens"`
	OutputAudio int64 `gorm:"column:output_audio_tokens"`
	InputImage  int64 `gorm:"column:input_image_tokens"`
	OutputImage int64 `gorm:"column:output_image_tokens"`

	// WebSearches counts searches that the provider charges by the piece. They are not tokens.
	WebSearches int64 `gorm:"column:web_searches"`

	// Units are what else is charged by the piece or by its length: images, seconds of audio, pages. They are not tokens: what
	// a provider states as tokens is counted there, and nothing is counted in both.
	Units units.Counts `json:",omitzero" gorm:"column:units"`
}

// InputTokens returns the sum of all input classes.
func (u Usage) InputTokens() int64 {
	return sum(u.Input, u.CacheRead, u.CacheReadAudio, u.CacheWrite5m, u.CacheWrite1h, u.InputAudio, u.InputImage)
}

// OutputTokens returns the sum of all output classes.
func (u Usage) OutputTokens() int64 {
	return sum(u.Output, u.Reasoning, u.OutputAudio, u.OutputImage)
}

// TotalTokens returns the sum of all classes: what token limits count.
func (u Usage) TotalTokens() int64 { return money.Add(u.InputTokens(), u.OutputTokens()) }

func sum(parts ...int64) int64 {
	var s int64
	for _, p := range parts {
		s = money.Add(s, p)
	}
	return s
}
