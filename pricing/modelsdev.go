package pricing

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/shopspring/decimal"
)

// modelsDevRates are models.dev's rates, per million tokens.
type modelsDevRates struct {
	Input       json.RawMessage `json:"input"`
	Output      json.RawMessage `json:"output"`
	CacheRead   json.RawMessage `json:"cache_read"`
	CacheWrite  json.RawMessage `json:"cache_write"`
	Reasoning   json.RawMessage `json:"reasoning"`
	InputAudio  json.RawMessage `json:"input_audio"`
	OutputAudio json.RawMessage `json:"output_audio"`
}

func (m *modelsDevRates) rates() (Rates, error) {
	var r Rates
	for _, f := range [...]struct {
		name string
		raw  json.RawMessage
		text *string
	}{
		{"input", m.Input, &r.Input},
		{"output", m.Output, &r.Output},
		{"cache_read", m.CacheRead, &r.CacheRead},
		{"cache_write", m.CacheWrite, &r.CacheWrite5m},
		{"reasoning", m.Reasoning, &r.Reasoning},
		{"input_audio", m.InputAudio, &r.InputAudio},
		{"output_audio", m.OutputAudio, &r.OutputAudio},
	} {
		var err error
		if *f.text, err = figure(f.raw, perPiece); err != nil {
			return r, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return r, nil
}

func (l *list) modelsDev(provider string, value json.RawMessage) error {
	var listed struct {
		Models json.RawMessage `json:"models"`
	}
	if err := json.Unmarshal(value, &listed); err != nil {
		return err
	}
	return eachEntry(bytes.NewReader(listed.Models), func(name string, value json.RawMessage) error {
		var model struct {
			Cost *struct {
				modelsDevRates
				Tiers []struct {
					modelsDevRates
					Tier struct {
						Type string      `json:"type"`
						Size json.Number `json:"size"`
					} `json:"tier"`
				} `json:"tiers"`
				Over200k *modelsDevRates `json:"context_over_200k"`
			} `json:"cost"`
			Experimental json.RawMessage `json:"experimental"`
		}
		if err := json.Unmarshal(value, &model); err != nil {
			return err
		}
		r := Row{Provider: canonical(provider), Model: name}
		if model.Cost == nil || model.Cost.Input == nil || model.Cost.Output == nil || r.Provider == Ollama {
			return nil
		}
		var err error
		if r.Rates, err = model.Cost.rates(); err != nil {
			return fmt.Errorf("cost.%w", err)
		}
		sets := map[set]*Rates{{}: &r.Rates}
		for i, t := range model.Cost.Tiers {
			if t.Tier.Type != "" && t.Tier.Type != "context" {
				return nil // a rule of price that a call cannot be priced by
			}
			size, err := decimal.NewFromString(cmp.Or(t.Tier.Size.String(), "0"))
			if err != nil || size.Exponent() > 9 || !size.IsInteger() || !size.IsPositive() || size.GreaterThan(decimal.NewFromInt(maxThreshold)) {
				return fmt.Errorf("cost.tiers[%d].tier.size: %.40q is not a number of tokens", i, t.Tier.Size)
			}
			rates, err := t.rates()
			if err != nil {
				return fmt.Errorf("cost.tiers[%d].%w", i, err)
			}
			sets[set{above: size.IntPart()}] = &rates
		}
		if model.Cost.Over200k != nil && len(model.Cost.Tiers) == 0 {
			rates, err := model.Cost.Over200k.rates()
			if err != nil {
				return fmt.Errorf("cost.context_over_200k.%w", err)
			}
			sets[set{above: 200_000}] = &rates
		}
		if err := modelsDevModes(model.Experimental, sets); err != nil {
			return fmt.Errorf("experimental.%w", err)
		}
		r.fill(sets)
		if strings.TrimSpace(name) != name || name == "" {
			return fmt.Errorf("%q is not a name", name)
		}
		l.add(r, provider)
		return nil
	})
}

// maxThreshold is more tokens than any prompt has.
const maxThreshold = 1_000_000_000

// modelsDevModes takes the rates of other ways to be served, by the word that asks for them in a request.
func modelsDevModes(raw json.RawMessage, sets map[set]*Rates) error {
	var experimental struct {
		Modes map[string]struct {
			Cost     *modelsDevRates `json:"cost"`
			Provider struct {
				Body struct {
					ServiceTier string `json:"service_tier"`
					Speed       string `json:"speed"`
				} `json:"body"`
			} `json:"provider"`
		} `json:"modes"`
	}
	if json.Unmarshal(raw, &experimental) != nil {
		return nil //nolint:nilerr // what is experimental may be anything
	}
	for _, name := range slices.Sorted(maps.Keys(experimental.Modes)) {
		mode := experimental.Modes[name]
		word := cmp.Or(mode.Provider.Body.ServiceTier, mode.Provider.Body.Speed)
		if mode.Cost == nil || !isWord(word) {
			continue
		}
		rates, err := mode.Cost.rates()
		if err != nil {
			return fmt.Errorf("modes.%s.cost.%w", name, err)
		}
		sets[set{service: word}] = &rates
	}
	return nil
}
