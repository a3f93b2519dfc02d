package pricing

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
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
						Type string `json:"type"`
						Size int64  `json:"size"`
					} `json:"tier"`
				} `json:"tiers"`
				Over200k *modelsDevRates `json:"context_over_200k"`
			} `json:"cost"`
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
			if t.Tier.Size <= 0 {
				return fmt.Errorf("cost.tiers[%d].tier.size: %d is not above 0", i, t.Tier.Size)
			}
			rates, err := t.rates()
			if err != nil {
				return fmt.Errorf("cost.tiers[%d].%w", i, err)
			}
			sets[set{above: t.Tier.Size}] = &rates
		}
		if model.Cost.Over200k != nil && len(model.Cost.Tiers) == 0 {
			rates, err := model.Cost.Over200k.rates()
			if err != nil {
				return fmt.Errorf("cost.context_over_200k.%w", err)
			}
			sets[set{above: 200_000}] = &rates
		}
		r.fill(sets)
		if strings.TrimSpace(name) != name || name == "" {
			return fmt.Errorf("%q is not a name", name)
		}
		l.add(r, provider)
		return nil
	})
}
