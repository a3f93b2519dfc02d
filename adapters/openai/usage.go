package openai

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant"
)

// report is the usage object of a chat completion, with the fields that other providers have added to it.
type report struct {
	Prompt        *count `json:"prompt_tokens"`
	Completion    *count `json:"completion_tokens"`
	Total         *count `json:"total_tokens"`
	PromptDetails struct {
		Cached     count `json:"cached_tokens"`
		CacheWrite count `json:"cache_write_tokens"`
		Audio      count `json:"audio_tokens"`
		Image      count `json:"image_tokens"`
	} `json:"prompt_tokens_details"`
	CompletionDetails struct {
		Reasoning count `json:"reasoning_tokens"`
		Audio     count `json:"audio_tokens"`
		Image     count `json:"image_tokens"`
	} `json:"completion_tokens_details"`

	CacheHit  count `json:"prompt_cache_hit_tokens"` // DeepSeek
	NumCached count `json:"num_cached_tokens"`       // Mistral

	Cost        json.RawMessage `json:"cost"` // OpenRouter and Vercel: a number; Perplexity: an object
	CostDetails struct {
		Upstream json.RawMessage `json:"upstream_inference_cost"` // OpenRouter
	} `json:"cost_details"`
	OwnKey     bool            `json:"is_byok"`           // OpenRouter: the cost is without the upstream's
	MarketCost json.RawMessage `json:"market_cost"`       // Vercel
	Ticks      *count          `json:"cost_in_usd_ticks"` // xAI: 1e-10 US dollars
}

// readUsage takes a usage object apart. It returns no usage where there is none to rely on.
func readUsage(raw []byte) (*tenant.Usage, tenant.Money) {
	var r report
	if len(raw) == 0 || json.Unmarshal(raw, &r) != nil {
		return nil, tenant.Money{}
	}
	return r.usage(), r.cost()
}

func (r *report) usage() *tenant.Usage {
	if r.Prompt == nil || r.Completion == nil {
		return nil
	}
	in, out := r.PromptDetails, r.CompletionDetails
	cached := max(in.Cached, r.CacheHit, r.NumCached)
	prompt, completion := *r.Prompt, *r.Completion
	if min(prompt, completion, in.Cached, r.CacheHit, r.NumCached, in.CacheWrite, in.Audio, in.Image,
		out.Reasoning, out.Audio, out.Image) < 0 {
		return &tenant.Usage{
			Input: int64(prompt), CacheRead: int64(min(in.Cached, r.CacheHit, r.NumCached)), CacheWrite5m: int64(in.CacheWrite),
			InputAudio: int64(in.Audio), InputImage: int64(in.Image),
			Output: int64(completion), Reasoning: int64(out.Reasoning), OutputAudio: int64(out.Audio), OutputImage: int64(out.Image),
		}
	}

	reasoning := out.Reasoning
	hidden := count(0)
	if r.Total != nil {
		hidden = *r.Total - prompt - completion
	}
	switch {
	case hidden > 0 && hidden == in.Audio && reasoning == 0:
		prompt += hidden
	case hidden > 0:
		completion += hidden
		reasoning = max(reasoning, hidden)
	case reasoning > completion || r.MarketCost != nil:
		completion += reasoning
	}

	var u tenant.Usage
	u.CacheRead = take(&prompt, cached)
	u.CacheWrite5m = take(&prompt, in.CacheWrite)
	u.InputAudio = take(&prompt, in.Audio)
	u.InputImage = take(&prompt, in.Image)
	u.Input = int64(prompt)
	u.Reasoning = take(&completion, reasoning)
	u.OutputAudio = take(&completion, out.Audio)
	u.OutputImage = take(&completion, out.Image)
	u.Output = int64(completion)
	return &u
}

// take moves a part out of a whole, as far as it is in there.
func take(whole *count, part count) int64 {
	part = min(part, *whole)
	*whole -= part
	return int64(part)
}

// cost is what the provider says that the call costs, if it says so.
func (r *report) cost() tenant.Money {
	if r.Ticks != nil {
		return dollars(decimal.New(int64(*r.Ticks), -10))
	}
	var parts struct {
		Total json.RawMessage `json:"total_cost"`
	}
	cost := r.Cost
	if json.Unmarshal(cost, &parts) == nil && parts.Total != nil {
		cost = parts.Total
	}
	total, ok := number(cost)
	if !ok {
		return tenant.Money{}
	}
	if r.OwnKey {
		if upstream, ok := number(r.CostDetails.Upstream); ok {
			total = total.Add(upstream)
		}
	}
	return dollars(total)
}

const nanoPlaces = 9

func dollars(d decimal.Decimal) tenant.Money {
	if d.IsNegative() {
		return tenant.Money{}
	}
	return tenant.USDFrom(d.Round(nanoPlaces))
}

// number reads a JSON number exactly.
func number(raw []byte) (decimal.Decimal, bool) {
	const longest = 40
	var n json.Number
	if len(raw) > longest || bytes.HasPrefix(raw, []byte(`"`)) || json.Unmarshal(raw, &n) != nil || n == "" {
		return decimal.Decimal{}, false
	}
	d, err := decimal.NewFromString(n.String())
	if err != nil || d.Exponent() > longest || d.Exponent() < -longest {
		return decimal.Decimal{}, false
	}
	return d, true
}

// count is a number of tokens. Some servers write it as 12.0.
type count int64

const maxCount = 1 << 53 // above it, JSON numbers are not exact everywhere, and sums of a few of them are far from overflow

// UnmarshalJSON implements [json.Unmarshaler].
func (c *count) UnmarshalJSON(raw []byte) error {
	if string(raw) == "null" {
		return nil
	}
	d, ok := number(raw)
	if !ok || !d.IsInteger() || d.Abs().GreaterThan(decimal.NewFromInt(maxCount)) {
		return fmt.Errorf("%.40s is no count of tokens", raw)
	}
	*c = count(d.IntPart())
	return nil
}
