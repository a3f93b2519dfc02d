package pricing

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/units"
)

// Any is the Model of a row that stands for every model of the provider that has no row of its own. It is meant for
// machines of one's own, where no model costs anything.
const Any = "*"

// Row is what a model costs during one period of time. A model whose price changes has a row for each period.
//
// Rows can be read from JSON, where they look like those of book.json.
type Row struct {
	Provider string `json:"provider"` // as in the constants; any other name is in lower case
	Model    string `json:"model"`    // or Any

	// Also are other names of the model, of the same provider. Those of all its rows count at all times.
	Also []string `json:"also,omitempty"`

	// From and Until bound the time in which the row is in force: From is the first instant in it, Until the first one
	// after it. A zero time is no bound.
	From  time.Time `json:"from,omitzero"`
	Until time.Time `json:"until,omitzero"`

	Rates

	// Units are US dollars per million of what is counted in [tenant.Usage].Units, at any length of prompt: 40000 is an image
	// at $0.04, 100 an hour of audio at $0.36 (in milliseconds). A row that has some may leave Input and Output empty: then
	// nothing else is charged.
	Units map[units.Unit]string `json:"units,omitempty"`

	// Tiers are the rates for long prompts, ascending by threshold.
	Tiers []Tier `json:"tiers,omitempty"`

	// Services are what service tiers charge otherwise: "batch", "flex" or "priority".
	Services map[string]Service `json:"services,omitempty"`

	// Uplifts are what the rates of tokens are multiplied by for calls that are served in a certain way, in whichever
	// service tier: "us" is 1.1 where a call costs a tenth more if its data do not leave the United States.
	Uplifts map[string]string `json:"uplifts,omitempty"`
}

// Tier is a set of rates for calls with more than Above tokens of input. It stands on its own: a class without a rate
// falls back on other rates of the tier, never on those of the row. Only the fees, which have nothing to do with the
// length of a prompt, are the row's if the tier has none.
type Tier struct {
	Above int64 `json:"above"`
	Rates
}

// Service holds the rates of a service tier as far as they differ: what it leaves empty is as in the row, and a tier
// that it does not name is the row's tier. So a discount that nobody has published is not given.
type Service struct {
	Rates
	Units map[units.Unit]string `json:"units,omitempty"`
	Tiers []Tier                `json:"tiers,omitempty"`
}

// Rates are US dollars per million tokens, as decimals like "0.15". Input and Output of a row and of its tiers have to
// be given, be it as "0", unless the row has Units and neither of them. Any other class may be left empty and is then charged as [tenant.Rates] says.
type Rates struct {
	Input          string `json:"input,omitempty"`
	CacheRead      string `json:"cache_read,omitempty"`
	CacheWrite5m   string `json:"cache_write_5m,omitempty"`
	CacheWrite1h   string `json:"cache_write_1h,omitempty"`
	Output         string `json:"output,omitempty"`
	Reasoning      string `json:"reasoning,omitempty"`
	InputAudio     string `json:"input_audio,omitempty"`
	CacheReadAudio string `json:"cache_read_audio,omitempty"`
	OutputAudio    string `json:"output_audio,omitempty"`
	InputImage     string `json:"input_image,omitempty"`
	OutputImage    string `json:"output_image,omitempty"`

	// WebSearch is US dollars per web search, Request US dollars per call. Empty is no fee.
	WebSearch string `json:"web_search,omitempty"`
	Request   string `json:"request,omitempty"`
}

func (r Row) price() (tenant.Price, error) {
	p := tenant.Price{Provider: r.Provider, Model: r.Model, Row: r.Provider + "/" + r.Model}
	if !r.From.IsZero() {
		p.Row += "@" + r.From.UTC().Format(time.DateOnly)
	}
	var err error
	if p.Rates, p.Tiers, err = parse("", r.Rates, r.Units, r.Tiers); err != nil {
		return p, err
	}
	for _, name := range slices.Sorted(maps.Keys(r.Services)) {
		s := tenant.Service{Name: name}
		field := fmt.Sprintf("Services[%s].", name)
		if !isWord(name) {
			return p, fmt.Errorf("%s: %q is not a name in lower case", "Services", name)
		}
		rates, tiers, err := r.laidOver(field, r.Services[name])
		if err != nil {
			return p, err
		}
		of := r.Units
		if len(r.Services[name].Units) > 0 {
			of = maps.Clone(of)
			if of == nil {
				of = make(map[units.Unit]string)
			}
			maps.Copy(of, r.Services[name].Units)
		}
		if s.Rates, s.Tiers, err = parse(field, rates, of, tiers); err != nil {
			return p, err
		}
		p.Services = append(p.Services, s)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Uplifts)) {
		if !isWord(name) || r.hasService(name) {
			return p, fmt.Errorf("%s: %q is not a name in lower case, or one of Services", "Uplifts", name)
		}
		share, err := money.Parse(r.Uplifts[name])
		if err == nil && share < money.Nano {
			err = fmt.Errorf("%q is below 1", r.Uplifts[name])
		}
		if err != nil {
			return p, fmt.Errorf("%s[%s]: %w", "Uplifts", name, err)
		}
		p.Uplifts = append(p.Uplifts, tenant.Uplift{Name: name, Share: share})
	}
	return p, nil
}

// isWord reports whether a name can be one of those that are joined by plus signs.
func isWord(name string) bool {
	return name != "" && name == strings.ToLower(name) && !strings.ContainsAny(name, "+ ")
}

func (r Row) hasService(name string) bool { _, ok := r.Services[name]; return ok }

// laidOver returns the row's rates and tiers with those of the service in place of the same of the row.
func (r Row) laidOver(field string, s Service) (Rates, []Tier, error) {
	tiers := slices.Clone(r.Tiers)
	for i, t := range s.Tiers {
		at := slices.IndexFunc(tiers, func(of Tier) bool { return of.Above == t.Above })
		if at < 0 {
			return Rates{}, nil, fmt.Errorf("%sTiers[%d].Above: the row has no tier above %d", field, i, t.Above)
		}
		tiers[at].Rates = tiers[at].with(t.Rates)
	}
	return r.with(s.Rates), tiers, nil
}

// with returns the rates with those of over that are given in place of their own.
func (r Rates) with(over Rates) Rates {
	to, from := r.fields(nil), over.fields(nil)
	for i := range to {
		if *from[i].text != "" {
			*to[i].text = *from[i].text
		}
	}
	return r
}

func parse(field string, rates Rates, of map[units.Unit]string, tiers []Tier) (tenant.Rates, []tenant.Tier, error) {
	if len(of) > 0 && rates.Input == "" && rates.Output == "" {
		rates.Input, rates.Output = "0", "0"
	}
	base, err := rates.parse(field)
	if err != nil {
		return base, nil, err
	}
	if base.Units, err = parseUnits(field, of); err != nil || len(tiers) == 0 {
		return base, nil, err
	}
	out := make([]tenant.Tier, len(tiers))
	above := int64(0)
	for i, t := range tiers {
		field := fmt.Sprintf("%sTiers[%d].", field, i)
		if t.Above <= above {
			return base, nil, fmt.Errorf("%sAbove: %d is not above %d", field, t.Above, above)
		}
		above = t.Above
		rates, err := t.parse(field)
		if err != nil {
			return base, nil, err
		}
		if t.WebSearch == "" {
			rates.WebSearch = base.WebSearch
		}
		if t.Request == "" {
			rates.Request = base.Request
		}
		rates.Units = base.Units
		out[i] = tenant.Tier{Above: t.Above, Rates: rates}
	}
	return base, out, nil
}

func parseUnits(field string, of map[units.Unit]string) (rates []tenant.UnitRate, err error) {
	for _, unit := range slices.Sorted(maps.Keys(of)) {
		if !unit.Valid() {
			return nil, fmt.Errorf("%sUnits: %q is not a unit as units.Unit is written", field, string(unit))
		}
		n, err := money.Parse(of[unit])
		if err != nil {
			return nil, fmt.Errorf("%sUnits[%s]: %w", field, unit, err)
		}
		rates = append(rates, tenant.UnitRate{Unit: unit, Rate: n})
	}
	return rates, nil
}

type field struct {
	name     string
	text     *string
	nano     *int64
	fallback *int64
}

// fields returns the classes, ordered so that the rate which an empty class falls back on is before it.
func (r *Rates) fields(out *tenant.Rates) [13]field {
	if out == nil {
		out = new(tenant.Rates)
	}
	return [...]field{
		{"Input", &r.Input, &out.Input, nil},
		{"CacheRead", &r.CacheRead, &out.CacheRead, &out.Input},
		{"CacheWrite5m", &r.CacheWrite5m, &out.CacheWrite5m, &out.Input},
		{"CacheWrite1h", &r.CacheWrite1h, &out.CacheWrite1h, &out.Input},
		{"InputAudio", &r.InputAudio, &out.InputAudio, &out.Input},
		{"CacheReadAudio", &r.CacheReadAudio, &out.CacheReadAudio, &out.Input},
		{"InputImage", &r.InputImage, &out.InputImage, &out.Input},
		{"Output", &r.Output, &out.Output, nil},
		{"Reasoning", &r.Reasoning, &out.Reasoning, &out.Output},
		{"OutputAudio", &r.OutputAudio, &out.OutputAudio, &out.Output},
		{"OutputImage", &r.OutputImage, &out.OutputImage, &out.Output},
		{"WebSearch", &r.WebSearch, &out.WebSearch, nil},
		{"Request", &r.Request, &out.Request, nil},
	}
}

func (r Rates) parse(prefix string) (tenant.Rates, error) {
	var out tenant.Rates
	for _, f := range r.fields(&out) {
		if *f.text == "" {
			if f.name == "Input" || f.name == "Output" {
				return out, fmt.Errorf("%s%s: no rate", prefix, f.name)
			}
			continue
		}
		n, err := money.Parse(*f.text)
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
