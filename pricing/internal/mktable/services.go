package main

import (
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant/pricing"
)

// addServices gives a row that was made by hand the service tiers and uplifts that LiteLLM has for it, where its rates are
// LiteLLM's.
func addServices(e *entry, all lists, asOf time.Time) {
	e.Services, e.Uplifts = nil, nil
	past := !e.Until.IsZero() && !e.Until.After(asOf)
	listed, ok := litellmRow(e, all)
	if e.Provider == pricing.Anthropic {
		e.Services = map[string]pricing.Service{"batch": half(e.Row)}
		keepToRegion(e)
		if ok {
			if fast, ok := listed.Services["fast"]; ok && !past {
				e.Services["fast"] = fast
			}
		}
		return
	}
	newer := e.From.After(asOf) || e.Source == genai && !ok // than LiteLLM's list
	if e.Provider == pricing.OpenAI && newer && len(e.Tiers) > 0 {
		e.Services = map[string]pricing.Service{"batch": half(e.Row), "flex": half(e.Row)}
		return
	}
	if ok && !past && !e.From.After(asOf) {
		e.Uplifts = listed.Uplifts
		if len(listed.Services) > 0 && listed.Input == e.Input && listed.Output == e.Output {
			e.Services = e.servicesOf(listed)
		}
	}
	halveBatch(e)
}

// keepToRegion adds what Claude costs more where a call is kept to a region, a tenth: with inference_geo on Anthropic's own API, which
// Opus 4.6, Sonnet 4.6 and all later models take (*Data residency*, Claude docs; LiteLLM has the same of those that it has it for), and
// at an endpoint of Vertex AI that is not the global one, for Claude since 4.5 (*Claude on Vertex AI*, Claude docs).
func keepToRegion(e *entry) {
	before := []string{"claude-2*", "claude-3*", "claude-*-4", "claude-*-4-0", "claude-*-4-1"}
	region := "us"
	switch e.Provider {
	case pricing.Anthropic:
		before = append(before, "claude-*-4-5")
	case pricing.Vertex:
		region = "regional"
	default:
		return
	}
	name, _, _ := strings.Cut(e.Model, "@") // and the date
	if match("claude-*", name) && !slices.ContainsFunc(before, func(pattern string) bool { return match(pattern, name) }) {
		e.Uplifts = map[string]string{region: "1.1"}
	}
}

// litellmRow returns LiteLLM's row of a model, by whichever of its names LiteLLM has service tiers or uplifts for.
func litellmRow(e *entry, all lists) (pricing.Row, bool) {
	for _, name := range append([]string{e.Model}, e.Also...) {
		if r, ok := all.of(litellm, e.Provider, name); ok && (len(r.Services) > 0 || len(r.Uplifts) > 0) {
			return r, true
		}
	}
	return pricing.Row{}, false
}

func (e *entry) servicesOf(listed pricing.Row) map[string]pricing.Service {
	services := make(map[string]pricing.Service)
	for name, s := range listed.Services {
		s.Tiers = slices.DeleteFunc(slices.Clone(s.Tiers), func(t pricing.Tier) bool {
			return !slices.ContainsFunc(e.Tiers, func(own pricing.Tier) bool { return own.Above == t.Above })
		})
		if len(s.Tiers) == 0 {
			s.Tiers = nil
		}
		services[name] = s
	}
	// OpenAI sells flex processing at the rates of its batches, and LiteLLM has those of cache reads for flex alone.
	// Above a threshold they cost half of what is charged above it, as below.
	for _, name := range []string{"batch", "flex"} {
		s, there := services[name]
		if !there || e.Provider != pricing.OpenAI || len(s.Tiers) > 0 || len(e.Tiers) == 0 || times(e.Rates, "0.5").Output != s.Output {
			continue
		}
		s.Tiers = half(e.Row).Tiers
		services[name] = s
	}
	batch, flex := services["batch"], services["flex"]
	if e.Provider == pricing.OpenAI && batch.Input != "" && batch.Input == flex.Input && batch.Output == flex.Output {
		services["batch"] = flex
	}
	return services
}

// noBatches are the models of Gemini that are not sold in batches.
var noBatches = []string{"*live*", "*native-audio*", "*computer-use*", "*robotics*", "gemini-1.5-*"}

// halveBatch completes what LiteLLM has of Google's batches: they cost half of the input and the output, in each tier, on
// the Gemini API and on Vertex AI. What is read from a cache costs what it costs elsewhere.
func halveBatch(e *entry) {
	if e.Input == "" || e.Provider != pricing.Google && e.Provider != pricing.Vertex || !strings.HasPrefix(e.Model, "gemini-") ||
		slices.ContainsFunc(noBatches, func(pattern string) bool { return match(pattern, e.Model) }) {
		return
	}
	s := pricing.Service{Rates: exceptCache(halved(e.Rates))}
	for _, t := range e.Tiers {
		s.Tiers = append(s.Tiers, pricing.Tier{Above: t.Above, Rates: exceptCache(halved(t.Rates))})
	}
	services := map[string]pricing.Service{"batch": s}
	for name, other := range e.Services {
		if name != "batch" {
			services[name] = other
		}
	}
	e.Services = services
}

func exceptCache(r pricing.Rates) pricing.Rates {
	r.CacheRead, r.CacheReadAudio, r.CacheWrite5m, r.CacheWrite1h = "", "", "", ""
	return r
}

// half returns the rates of a row, less its fees, halved: what Anthropic charges in batches.
func half(r pricing.Row) pricing.Service {
	s := pricing.Service{Rates: halved(r.Rates)}
	for _, t := range r.Tiers {
		s.Tiers = append(s.Tiers, pricing.Tier{Above: t.Above, Rates: halved(t.Rates)})
	}
	return s
}

// halved returns the rates of tokens, halved, without fees.
func halved(r pricing.Rates) pricing.Rates {
	r.WebSearch, r.Request = "", ""
	return times(r, "0.5")
}

// times returns the rates with those of tokens multiplied.
func times(r pricing.Rates, factor string) pricing.Rates {
	for _, text := range []*string{
		&r.Input, &r.CacheRead, &r.CacheWrite5m, &r.CacheWrite1h, &r.Output, &r.Reasoning,
		&r.InputAudio, &r.CacheReadAudio, &r.OutputAudio, &r.InputImage, &r.OutputImage,
	} {
		if *text != "" {
			*text = number(*text).Mul(decimal.RequireFromString(factor)).String()
		}
	}
	return r
}
