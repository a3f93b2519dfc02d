package pricing

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant/units"
)

// genaiRates are the rates of genai-prices per million tokens, and its fees per thousand.
var genaiRates = map[string]struct {
	text  func(*Rates) *string
	shift int32
}{
	"input_mtok":            {func(r *Rates) *string { return &r.Input }, perPiece},
	"output_mtok":           {func(r *Rates) *string { return &r.Output }, perPiece},
	"cache_read_mtok":       {func(r *Rates) *string { return &r.CacheRead }, perPiece},
	"cache_write_mtok":      {func(r *Rates) *string { return &r.CacheWrite5m }, perPiece},
	"cache_write_1h_mtok":   {func(r *Rates) *string { return &r.CacheWrite1h }, perPiece},
	"output_reasoning_mtok": {func(r *Rates) *string { return &r.Reasoning }, perPiece},
	"input_audio_mtok":      {func(r *Rates) *string { return &r.InputAudio }, perPiece},
	"output_audio_mtok":     {func(r *Rates) *string { return &r.OutputAudio }, perPiece},
	"cache_audio_read_mtok": {func(r *Rates) *string { return &r.CacheReadAudio }, perPiece},
	"input_image_mtok":      {func(r *Rates) *string { return &r.InputImage }, perPiece},
	"output_image_mtok":     {func(r *Rates) *string { return &r.OutputImage }, perPiece},
	"web_searches_kcount":   {func(r *Rates) *string { return &r.WebSearch }, -perThousand},
	"requests_kcount":       {func(r *Rates) *string { return &r.Request }, -perThousand},
}

// genaiUnits are its rates of units: by the thousand, by the million, or by the hour.
var genaiUnits = map[string]struct {
	unit  units.Unit
	shift int32
	hours bool
}{
	"audio_hours":                     {units.InputAudio, 0, true}, // what came before input_audio_hours
	"input_audio_hours":               {units.InputAudio, 0, true},
	"input_document_kpages":           {units.Pages, perThousand, false},
	"input_annotated_document_kpages": {units.Pages.With("annotated"), perThousand, false},
	"input_text_messages_kcount":      {units.InputMessages, perThousand, false},
	"input_video_mtok":                {units.InputVideoTokens, 0, false},
	"storage_searches_kcount":         {units.FileSearches, perThousand, false},
}

// readGenai reads the list of genai-prices, an array of providers.
func (l *list) readGenai(r io.Reader) error {
	l.format = "genai-prices"
	dec := json.NewDecoder(r)
	if _, err := dec.Token(); err != nil {
		return cut(err, "")
	}
	last := "the beginning"
	seen := make(map[string]bool)
	for dec.More() {
		var p struct {
			ID     string `json:"id"`
			Models []struct {
				ID     string          `json:"id"`
				Prices json.RawMessage `json:"prices"`
			} `json:"models"`
		}
		if err := dec.Decode(&p); err != nil {
			return fmt.Errorf("after %s: %w", last, cut(err, ""))
		}
		last = p.ID
		if seen[p.ID] || p.ID == "" {
			return fmt.Errorf("after %s: the provider %q has no name, or is there twice", last, p.ID)
		}
		seen[p.ID] = true
		models := make(map[string]bool)
		for _, m := range p.Models {
			if strings.TrimSpace(m.ID) != m.ID || m.ID == "" || models[m.ID] {
				return fmt.Errorf("%s: %q is no name, or is there twice", p.ID, m.ID)
			}
			models[m.ID] = true
			rows, err := genaiPeriods(m.Prices)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", p.ID, m.ID, err)
			}
			for _, row := range rows {
				row.Provider, row.Model = canonical(p.ID), m.ID
				if row.Provider == Google && strings.HasPrefix(m.ID, "claude-") {
					row.Provider = Vertex
				}
				switch {
				case row.Provider == Ollama:
				case len(rows) == 1:
					l.add(row, p.ID)
				case row.Input != "0" || row.Output != "0" || len(row.Units) > 0:
					l.dated = append(l.dated, row)
				}
			}
		}
	}
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("after %s: %w", last, cut(err, ""))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after %s: something follows the list", last)
	}
	return nil
}

// genaiPeriods returns the rows of one model, in the order of time. There are none of a model whose price depends on the hour
// of the day.
func genaiPeriods(prices json.RawMessage) ([]Row, error) {
	if len(prices) > 0 && prices[0] == '{' {
		row, err := genaiRow(prices)
		return []Row{row}, err
	}
	var conditional []struct {
		Constraint *struct {
			Start string `json:"start_date"`
		} `json:"constraint"`
		Prices json.RawMessage `json:"prices"`
	}
	if err := json.Unmarshal(prices, &conditional); err != nil {
		return nil, fmt.Errorf("prices: %w", err)
	}
	var rows []Row
	for i, c := range conditional {
		row, err := genaiRow(c.Prices)
		if err != nil {
			return nil, fmt.Errorf("prices[%d]: %w", i, err)
		}
		if c.Constraint != nil {
			if c.Constraint.Start == "" {
				return nil, nil
			}
			row.From, err = time.Parse(time.DateOnly, c.Constraint.Start)
			if err != nil || len(rows) == 0 || !rows[len(rows)-1].From.Before(row.From) {
				return nil, fmt.Errorf("prices[%d]: %.40q is not a day after the one before", i, c.Constraint.Start)
			}
			rows[len(rows)-1].Until = row.From
		} else if i > 0 {
			return nil, fmt.Errorf("prices[%d]: it has no day on which it begins", i)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func genaiRow(prices json.RawMessage) (row Row, err error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(prices, &fields); err != nil {
		return row, fmt.Errorf("prices: %w", err)
	}
	sets := map[set]*Rates{{}: &row.Rates}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if err := row.genaiField(name, fields[name], sets); err != nil {
			return row, fmt.Errorf("%s: %w", name, err)
		}
	}
	if row.Output == "" && row.OutputImage != "" {
		row.Output = row.OutputImage
	}
	if row.Input == "" && row.Output == "" && len(row.Units) > 0 {
		return row, nil
	}
	row.fill(sets)
	return row, nil
}

func (r *Row) genaiField(name string, raw json.RawMessage, sets map[set]*Rates) (err error) {
	if unit, ok := genaiUnits[name]; ok {
		text, err := unitFigure(raw, unit.shift)
		if err != nil || text == "" {
			return err
		}
		if unit.hours { // of a million milliseconds
			text = decimal.RequireFromString(text).DivRound(decimal.New(36, -1), nanoDecimals).String()
		}
		if r.Units == nil {
			r.Units = make(map[units.Unit]string)
		}
		r.Units[unit.unit] = text
		return nil
	}
	class, ok := genaiRates[name]
	if !ok {
		return nil
	}
	if raw[0] != '{' {
		*class.text(&r.Rates), err = figure(raw, class.shift)
		return err
	}
	var tiered struct {
		Base  json.RawMessage `json:"base"`
		Tiers []struct {
			Start int64           `json:"start"`
			Price json.RawMessage `json:"price"`
		} `json:"tiers"`
	}
	if err := json.Unmarshal(raw, &tiered); err != nil {
		return err
	}
	if *class.text(&r.Rates), err = figure(tiered.Base, class.shift); err != nil {
		return fmt.Errorf("base: %w", err)
	}
	for i, t := range tiered.Tiers {
		if t.Start <= 0 || t.Start > maxThreshold {
			return fmt.Errorf("tiers[%d].start: %d is not a number of tokens", i, t.Start)
		}
		k := set{above: t.Start}
		if sets[k] == nil {
			sets[k] = new(Rates)
		}
		if *class.text(sets[k]), err = figure(t.Price, class.shift); err != nil {
			return fmt.Errorf("tiers[%d].price: %w", i, err)
		}
	}
	return nil
}
