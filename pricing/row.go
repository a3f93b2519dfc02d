package pricing

import (
	"fmt"
	"time"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/money"
)

// The names of the providers in the book.
const (
	OpenAI    = "openai"
	Anthropic = "anthropic"
	Google    = "google" // the Gemini API
)

// Row is what a model costs during one period of time. A model whose price changes has a row for each period.
//
// Rows can be read from JSON, where they look like those of book.json.
type Row struct {
	Provider string `json:"provider"` // in lower case
	Model    string `json:"model"`

	// Also are other names of the model, of the same provider. Those of all its rows count at all times.
	Also []string `json:"also,omitempty"`

	// From and Until bound the time in which the row is in force: From is the first instant in it, Until the first one
	// after it. A zero time is no bound.
	From  time.Time `json:"from,omitzero"`
	Until time.Time `json:"until,omitzero"`

	Rates

	// Tiers are the rates for long prompts, ascending by threshold.
	Tiers []Tier `json:"tiers,omitempty"`
}

// Tier is a set of rates for calls with more than Above tokens of input. It stands on its own: a class without a rate
// falls back on other rates of the tier, never on those of the row. Only the fee for web searches, which has nothing to
// do with the length of a prompt, is the row's if the tier has none.
type Tier struct {
	Above int64 `json:"above"`
	Rates
}

// Rates are US dollars per million tokens, as decimals like "0.15". Input and Output have to be given, be it as "0".
// Any other class may be left empty and is then charged as [tenant.Rates] says.
type Rates struct {
	Input        string `json:"input,omitempty"`
	CacheRead    string `json:"cache_read,omitempty"`
	CacheWrite5m string `json:"cache_write_5m,omitempty"`
	CacheWrite1h string `json:"cache_write_1h,omitempty"`
	Output       string `json:"output,omitempty"`
	Reasoning    string `json:"reasoning,omitempty"`
	InputAudio   string `json:"input_audio,omitempty"`
	OutputAudio  string `json:"output_audio,omitempty"`
	InputImage   string `json:"input_image,omitempty"`
	OutputImage  string `json:"output_image,omitempty"`

	// WebSearch is US dollars per web search. Empty is no fee.
	WebSearch string `json:"web_search,omitempty"`
}

func (r Row) price() (tenant.Price, error) {
	p := tenant.Price{Provider: r.Provider, Model: r.Model}
	var err error
	if p.Rates, err = r.Rates.parse(""); err != nil {
		return p, err
	}
	if len(r.Tiers) > 0 {
		p.Tiers = make([]tenant.Tier, len(r.Tiers))
	}
	above := int64(0)
	for i, t := range r.Tiers {
		field := fmt.Sprintf("Tiers[%d].", i)
		if t.Above <= above {
			return p, fmt.Errorf("%sAbove: %d is not above %d", field, t.Above, above)
		}
		above = t.Above
		rates, err := t.Rates.parse(field)
		if err != nil {
			return p, err
		}
		if t.WebSearch == "" {
			rates.WebSearch = p.WebSearch
		}
		p.Tiers[i] = tenant.Tier{Above: t.Above, Rates: rates}
	}
	return p, nil
}

func (r Rates) parse(prefix string) (tenant.Rates, error) {
	var out tenant.Rates
	// Ordered so that the rate which an empty class falls back on is known before it.
	for _, f := range [...]struct {
		name     string
		text     string
		nano     *int64
		fallback *int64
	}{
		{"Input", r.Input, &out.Input, nil},
		{"CacheRead", r.CacheRead, &out.CacheRead, &out.Input},
		{"CacheWrite5m", r.CacheWrite5m, &out.CacheWrite5m, &out.Input},
		{"CacheWrite1h", r.CacheWrite1h, &out.CacheWrite1h, &out.Input},
		{"InputAudio", r.InputAudio, &out.InputAudio, &out.Input},
		{"InputImage", r.InputImage, &out.InputImage, &out.Input},
		{"Output", r.Output, &out.Output, nil},
		{"Reasoning", r.Reasoning, &out.Reasoning, &out.Output},
		{"OutputAudio", r.OutputAudio, &out.OutputAudio, &out.Output},
		{"OutputImage", r.OutputImage, &out.OutputImage, &out.Output},
		{"WebSearch", r.WebSearch, &out.WebSearch, nil},
	} {
		if f.text == "" {
			if f.name == "Input" || f.name == "Output" {
				return out, fmt.Errorf("%s%s: no rate", prefix, f.name)
			}
			continue
		}
		n, err := money.Parse(f.text)
		if err != nil {
			return out, fmt.Errorf("%s%s: %w", prefix, f.name, err)
		}
		if n == 0 && f.fallback != nil && *f.fallback != 0 {
			return out, fmt.Errorf("%s%s: zero would be charged as an absent rate is, not as free: leave it empty",
				prefix, f.name)
		}
		*f.nano = n
	}
	return out, nil
}
