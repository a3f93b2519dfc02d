package main

import (
	"encoding/json"
	"io"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant/pricing"
)

// genaiProviders are the providers of genai-prices whose rows may be taken, by their names in the book.
var genaiProviders = map[string]string{
	"aws": pricing.Bedrock, "cohere": pricing.Cohere, "groq": pricing.Groq, "mistral": pricing.Mistral,
	"openrouter": pricing.OpenRouter, "perplexity": pricing.Perplexity, "x-ai": pricing.XAI,
}

// genaiRates are dollars per million tokens: each a number, or a set of tiers.
type genaiRates struct {
	Input       json.RawMessage `json:"input_mtok"`
	Output      json.RawMessage `json:"output_mtok"`
	CacheRead   json.RawMessage `json:"cache_read_mtok"`
	CacheWrite  json.RawMessage `json:"cache_write_mtok"`
	CacheWrite1 json.RawMessage `json:"cache_write_1h_mtok"`
	Reasoning   json.RawMessage `json:"output_reasoning_mtok"`
	InputAudio  json.RawMessage `json:"input_audio_mtok"`
	OutputAudio json.RawMessage `json:"output_audio_mtok"`
	AudioRead   json.RawMessage `json:"cache_audio_read_mtok"`
	InputImage  json.RawMessage `json:"input_image_mtok"`
	OutputImage json.RawMessage `json:"output_image_mtok"`
}

// readGenai reads the rows of genai-prices: one for each period that begins on a day of its own. A model whose price
// depends on the hour is left out: those rows are ruled by hand.
func readGenai(r io.Reader) ([]pricing.Row, error) {
	var providers []struct {
		ID     string `json:"id"`
		Models []struct {
			ID     string          `json:"id"`
			Prices json.RawMessage `json:"prices"`
		} `json:"models"`
	}
	if err := json.NewDecoder(r).Decode(&providers); err != nil {
		return nil, err
	}
	var rows []pricing.Row
	for _, p := range providers {
		name, ok := genaiProviders[p.ID]
		if !ok {
			continue
		}
		for _, m := range p.Models {
			free := name == pricing.OpenRouter && strings.HasSuffix(m.ID, ":free")
			for _, row := range periods(m.Prices) {
				row.Provider, row.Model = name, m.ID
				if free || row.Input != "0" || row.Output != "0" {
					rows = append(rows, row)
				}
			}
		}
	}
	return rows, nil
}

// periods returns the rows of one model, in the order of time.
func periods(prices json.RawMessage) []pricing.Row {
	var rates genaiRates
	if json.Unmarshal(prices, &rates) == nil {
		var row pricing.Row
		rates.into(&row)
		return []pricing.Row{row}
	}
	var conditional []struct {
		Constraint *struct {
			Start string `json:"start_date"`
		} `json:"constraint"`
		Prices genaiRates `json:"prices"`
	}
	if json.Unmarshal(prices, &conditional) != nil {
		return nil
	}
	var rows []pricing.Row
	for _, c := range conditional {
		var row pricing.Row
		c.Prices.into(&row)
		if c.Constraint != nil {
			from, err := time.Parse(time.DateOnly, c.Constraint.Start)
			if err != nil || len(rows) == 0 {
				return nil
			}
			row.From = from
			rows[len(rows)-1].Until = from
		}
		rows = append(rows, row)
	}
	return rows
}

func (g genaiRates) into(row *pricing.Row) {
	tiers := make(map[int64]*pricing.Rates)
	for _, f := range []struct {
		raw  json.RawMessage
		text func(*pricing.Rates) *string
	}{
		{g.Input, func(r *pricing.Rates) *string { return &r.Input }},
		{g.Output, func(r *pricing.Rates) *string { return &r.Output }},
		{g.CacheRead, func(r *pricing.Rates) *string { return &r.CacheRead }},
		{g.CacheWrite, func(r *pricing.Rates) *string { return &r.CacheWrite5m }},
		{g.CacheWrite1, func(r *pricing.Rates) *string { return &r.CacheWrite1h }},
		{g.Reasoning, func(r *pricing.Rates) *string { return &r.Reasoning }},
		{g.InputAudio, func(r *pricing.Rates) *string { return &r.InputAudio }},
		{g.OutputAudio, func(r *pricing.Rates) *string { return &r.OutputAudio }},
		{g.AudioRead, func(r *pricing.Rates) *string { return &r.CacheReadAudio }},
		{g.InputImage, func(r *pricing.Rates) *string { return &r.InputImage }},
		{g.OutputImage, func(r *pricing.Rates) *string { return &r.OutputImage }},
	} {
		var tiered struct {
			Base  json.Number `json:"base"`
			Tiers []struct {
				Start int64       `json:"start"`
				Price json.Number `json:"price"`
			} `json:"tiers"`
		}
		if json.Unmarshal(f.raw, &tiered) != nil {
			*f.text(&row.Rates) = exact(string(f.raw))
			continue
		}
		*f.text(&row.Rates) = exact(tiered.Base.String())
		for _, t := range tiered.Tiers {
			if tiers[t.Start] == nil {
				tiers[t.Start] = new(pricing.Rates)
			}
			*f.text(tiers[t.Start]) = exact(t.Price.String())
		}
	}
	if row.Input == "" {
		row.Input = "0"
	}
	if row.Output == "" {
		row.Output = "0"
	}
	for above, rates := range tiers { // the list has no model with more than one threshold
		row.Tiers = append(row.Tiers, pricing.Tier{Above: above, Rates: *rates})
	}
}

// exact returns a figure as a decimal of at most nine places, and nothing for none and for zero.
func exact(figure string) string {
	d, err := decimal.NewFromString(figure)
	if err != nil || d.IsZero() {
		return ""
	}
	const places = 9
	return d.Round(places).String()
}
