package pricing

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/shopspring/decimal"
)

const (
	perToken = 6 // the power of ten from a price per token to one per million
	perPiece = 0
)

// litellmRates are LiteLLM's fields of prices per token, without what can follow: a tier and a service.
var litellmRates = map[string]func(*Rates) *string{
	"input_cost_per_token":                      func(r *Rates) *string { return &r.Input },
	"output_cost_per_token":                     func(r *Rates) *string { return &r.Output },
	"output_cost_per_reasoning_token":           func(r *Rates) *string { return &r.Reasoning },
	"cache_read_input_token_cost":               func(r *Rates) *string { return &r.CacheRead },
	"cache_read_input_audio_token_cost":         func(r *Rates) *string { return &r.CacheReadAudio },
	"cache_creation_input_token_cost":           func(r *Rates) *string { return &r.CacheWrite5m },
	"cache_creation_input_token_cost_above_1hr": func(r *Rates) *string { return &r.CacheWrite1h },
	"input_cost_per_audio_token":                func(r *Rates) *string { return &r.InputAudio },
	"output_cost_per_audio_token":               func(r *Rates) *string { return &r.OutputAudio },
	"input_cost_per_image_token":                func(r *Rates) *string { return &r.InputImage },
	"output_cost_per_image_token":               func(r *Rates) *string { return &r.OutputImage },
}

// litellmPieces are LiteLLM's prices for what a usage does not count, with the class of tokens that says the same, if
// there is one. A model of text lists them for media that it is given, and counts those as tokens; of others they are
// the price.
var litellmPieces = map[string]func(*Rates) *string{
	"input_cost_per_audio_per_second": func(r *Rates) *string { return &r.InputAudio },
	"input_cost_per_character":        nil,
	"input_cost_per_image":            func(r *Rates) *string { return &r.InputImage },
	"input_cost_per_pixel":            nil,
	"input_cost_per_query":            nil,
	"input_cost_per_second":           func(r *Rates) *string { return &r.InputAudio },
	"input_cost_per_video_per_second": nil,
	"output_cost_per_character":       nil,
	"output_cost_per_image":           func(r *Rates) *string { return &r.OutputImage },
	"output_cost_per_pixel":           nil,
	"output_cost_per_second":          func(r *Rates) *string { return &r.OutputAudio },
	"output_cost_per_video_token":     nil,
}

var litellmField = regexp.MustCompile(`^(.+?)(?:_above_(\d{1,6})(k|m)_tokens)?(?:_(batches|flex|priority))?$`)

func (l *list) litellm(name string, value json.RawMessage) error {
	if name == "sample_spec" {
		return nil
	}
	var listed string
	fields := make(map[string]json.RawMessage)
	if err := json.Unmarshal(value, &fields); err != nil {
		return err
	}
	if err := json.Unmarshal(fields["litellm_provider"], &listed); err != nil || listed == "" {
		return fmt.Errorf("litellm_provider: %.40s is not a name", fields["litellm_provider"])
	}
	r := Row{Provider: litellmProvider(listed), Model: name}
	rank := "1" + name
	if prefix, rest, ok := strings.Cut(name, "/"); ok && (prefix == listed || canonical(prefix) == r.Provider) && rest != "" {
		r.Model, rank = rest, "0"+name
	}

	sets, err := r.litellmSets(fields)
	if err != nil {
		return err
	}
	if base := sets[set{}]; base != nil {
		r.Rates = base.with(r.Rates)
	}
	var mode string
	_ = json.Unmarshal(fields["mode"], &mode) // whatever else it is, it is not a mode of text
	counted, err := r.litellmCounted(fields, mode)
	if err != nil {
		return err
	}
	if err := r.litellmUnits(fields, mode); err != nil {
		return err
	}
	_, inRanges := fields["tiered_pricing"]
	if r.Provider == Ollama || inRanges {
		return nil
	}
	if strings.HasPrefix(mode, "image_") && r.Output == "" && fields["output_cost_per_token"] == nil && r.OutputImage != "" {
		r.Output = r.OutputImage // what it says of its images costs no less than they do
	}
	byTokens := fields["input_cost_per_token"] != nil && counted &&
		(fields["output_cost_per_token"] != nil || mode == "embedding" || r.OutputImage != "")
	switch {
	case byTokens:
		r.fill(sets)
		if err := r.litellmFactors(fields); err != nil {
			return err
		}
	case len(r.Units) > 0:
		r.Rates = Rates{}
	default:
		return nil
	}
	l.add(r, rank)
	return nil
}

// litellmSets reads the rates of a model, by tier and service, and its fees, which go into the row.
func (r *Row) litellmSets(fields map[string]json.RawMessage) (map[set]*Rates, error) {
	sets := make(map[set]*Rates)
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		var err error
		switch raw := fields[field]; field {
		case "search_context_cost_per_query":
			err = r.litellmSearch(raw, sets)
		case "input_cost_per_request":
			r.Request, err = figure(raw, perPiece)
		default:
			in, class := litellmRate(field)
			if class == nil {
				continue
			}
			if sets[in] == nil {
				sets[in] = new(Rates)
			}
			*class(sets[in]), err = figure(raw, perToken)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", field, err)
		}
	}
	hit, err := figure(fields["input_cost_per_token_cache_hit"], perToken)
	if err != nil {
		return nil, fmt.Errorf("input_cost_per_token_cache_hit: %w", err)
	}
	if base := sets[set{}]; base != nil && base.CacheRead == "" {
		base.CacheRead = hit
	}
	return sets, nil
}

// litellmRate says which rate a field is. The class is nil where it is none.
func litellmRate(field string) (in set, class func(*Rates) *string) {
	if !strings.Contains(field, "_cost") {
		return in, nil
	}
	parts := litellmField.FindStringSubmatch(field)
	if parts == nil || litellmRates[parts[1]] == nil {
		return in, nil
	}
	if parts[2] != "" {
		n, _ := strconv.ParseInt(parts[2], 10, 64) // of at most six digits
		in.above = n * map[string]int64{"k": 1_000, "m": 1_000_000}[parts[3]]
	}
	in.service = strings.Replace(parts[4], "batches", "batch", 1)
	return in, litellmRates[parts[1]]
}

// litellmCounted reports whether a usage counts all that the model is charged by.
func (r *Row) litellmCounted(fields map[string]json.RawMessage, mode string) (bool, error) {
	counted := true
	for _, field := range slices.Sorted(maps.Keys(litellmPieces)) {
		text, err := figure(fields[field], perPiece)
		if err != nil {
			return false, fmt.Errorf("%s: %w", field, err)
		}
		class := litellmPieces[field]
		if text != "" && byPiece(mode, field) && !(field == "input_cost_per_image" && r.picturesCounted(fields, mode)) && (class == nil || *class(&r.Rates) == "") {
			counted = false
		}
	}
	return counted, nil
}

// byPiece reports whether a model of this mode is charged by what a field is the price of.
func byPiece(mode, field string) bool {
	switch mode {
	case "chat", "completion", "responses":
		return field == "output_cost_per_video_token"
	case "embedding":
		return true
	}
	return field != "input_cost_per_image"
}

// litellmSearch takes the fee of a web search. Perplexity searches for every call, so there it is the fee of a call: that
// of the largest context, which a hold has to cover, and the others as services, by what the reply says of the context.
func (r *Row) litellmSearch(raw json.RawMessage, sets map[set]*Rates) error {
	var sizes struct {
		Low    json.RawMessage `json:"search_context_size_low"`
		Medium json.RawMessage `json:"search_context_size_medium"`
		High   json.RawMessage `json:"search_context_size_high"`
	}
	if err := json.Unmarshal(raw, &sizes); err != nil {
		return fmt.Errorf("%.40s is not a set of fees", raw)
	}
	type fee struct {
		raw json.RawMessage
		to  *string
	}
	fees := []fee{{sizes.Medium, &r.WebSearch}}
	if r.Provider == Perplexity {
		low, medium := new(Rates), new(Rates)
		sets[set{service: "low"}], sets[set{service: "medium"}] = low, medium
		fees = []fee{{sizes.High, &r.Request}, {sizes.Low, &low.Request}, {sizes.Medium, &medium.Request}}
	}
	for _, f := range fees {
		text, err := figure(f.raw, perPiece)
		if err != nil {
			return err
		}
		if text != "" {
			*f.to = text
		}
	}
	return nil
}

const litellmUplift = "regional_processing_uplift_multiplier_"

// litellmFactors takes what the rates are multiplied by: OpenAI's for calls that are kept to a region, and Anthropic's
// for those and for its fast mode, which LiteLLM keeps among other things.
func (r *Row) litellmFactors(fields map[string]json.RawMessage) error {
	factors := make(map[string]json.RawMessage)
	for field, raw := range fields {
		if region, ok := strings.CutPrefix(field, litellmUplift); ok {
			factors[region] = raw
		}
	}
	if r.Provider == Anthropic {
		_ = json.Unmarshal(fields["provider_specific_entry"], &factors) // whatever else it is, it has no factors
	}
	for _, name := range slices.Sorted(maps.Keys(factors)) {
		var number json.Number
		if factors[name][0] == '"' || json.Unmarshal(factors[name], &number) != nil || !isWord(name) || r.hasService(name) {
			continue
		}
		factor, err := figure(factors[name], perPiece)
		switch {
		case err != nil:
			return fmt.Errorf("the factor %s: %w", name, err)
		case factor == "":
		case name == "fast":
			if r.Services == nil {
				r.Services = make(map[string]Service)
			}
			r.Services[name] = r.times(factor)
		case decimal.RequireFromString(factor).LessThan(decimal.NewFromInt(1)):
			return fmt.Errorf("the factor %s: %s is below 1", name, factor)
		default:
			if r.Uplifts == nil {
				r.Uplifts = make(map[string]string)
			}
			r.Uplifts[name] = factor
		}
	}
	return nil
}

// times returns a service whose rates of tokens are a multiple of the row's.
func (r *Row) times(factor string) Service {
	s := Service{Rates: r.Rates.times(factor)}
	for _, t := range r.Tiers {
		s.Tiers = append(s.Tiers, Tier{t.Above, t.Rates.times(factor)})
	}
	return s
}

func (r Rates) times(factor string) Rates {
	r.WebSearch, r.Request = "", ""
	for _, f := range r.fields(nil) {
		if *f.text != "" {
			n := decimal.RequireFromString(*f.text).Mul(decimal.RequireFromString(factor)) // both were read by figure
			*f.text = n.Round(nanoDecimals).String()
		}
	}
	return r
}

// litellmProvider returns the book's name for one of LiteLLM's providers, which has several for some.
func litellmProvider(name string) string {
	switch {
	case strings.HasPrefix(name, "vertex_ai"):
		return Vertex
	case name == "text-completion-openai":
		return OpenAI
	case name == "azure_text":
		return Azure
	}
	return canonical(name)
}

// set says which rates are meant: those above a threshold, of a service.
type set struct {
	above   int64
	service string
}

// fill gives a row its tiers and services. What a list does not say of a tier is as it is below the threshold.
func (r *Row) fill(sets map[set]*Rates) {
	if r.Input == "" {
		r.Input = "0"
	}
	if r.Output == "" {
		r.Output = "0"
	}
	keys := slices.SortedFunc(maps.Keys(sets), func(a, b set) int {
		if a.service != b.service {
			return strings.Compare(a.service, b.service)
		}
		return int(a.above - b.above)
	})
	for _, k := range keys {
		rates := *sets[k]
		if rates == (Rates{}) {
			continue
		}
		switch {
		case k == set{}:
		case k.service == "":
			fees := Rates{WebSearch: rates.WebSearch, Request: rates.Request}
			base := r.Rates
			base.WebSearch, base.Request = fees.WebSearch, fees.Request
			r.Tiers = append(r.Tiers, Tier{k.above, base.with(rates)})
		default:
			s := r.Services[k.service]
			if k.above == 0 {
				s.Rates = rates
			} else if slices.ContainsFunc(r.Tiers, func(t Tier) bool { return t.Above == k.above }) {
				s.Tiers = append(s.Tiers, Tier{k.above, rates})
			}
			if r.Services == nil {
				r.Services = make(map[string]Service)
			}
			r.Services[k.service] = s
		}
	}
	r.Tiers = slices.DeleteFunc(r.Tiers, func(t Tier) bool { return t.Rates.with(Rates{WebSearch: r.WebSearch, Request: r.Request}) == r.Rates })
	for name, s := range r.Services {
		rates, tiers, err := r.laidOver("", s)
		if err != nil || rates == r.Rates && slices.Equal(tiers, r.Tiers) {
			delete(r.Services, name)
		}
	}
	if len(r.Services) == 0 {
		r.Services = nil
	}
}
