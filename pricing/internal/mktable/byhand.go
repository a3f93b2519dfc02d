package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/llmtenant/tenant/pricing"
	"github.com/llmtenant/tenant/units"
)

// refresh gives the rows that have genai-prices' figures, and no note, those of the list at hand, and its periods. What the
// list does not say of a model stays.
func refresh(rows []entry, all lists) (out []entry) {
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && rows[n].Provider == rows[0].Provider && rows[n].Model == rows[0].Model {
			n++
		}
		model := rows[:n]
		rows = rows[n:]
		listed := all[genai][key{model[0].Provider, model[0].Model}]
		follows := len(listed) > 0 && !slices.ContainsFunc(model, func(e entry) bool { return e.Source != genai || e.Note != "" })
		if !follows {
			out = append(out, model...)
			continue
		}
		for _, l := range listed {
			e := model[len(model)-1]
			if i := slices.IndexFunc(model, func(e entry) bool { return e.From.Equal(l.From) }); i >= 0 {
				e = model[i]
			}
			e.From, e.Until = l.From, l.Until
			e.Rates = over(e.Rates, l.Rates)
			if len(l.Tiers) > 0 {
				tiers := slices.Clone(l.Tiers)
				for i, t := range tiers {
					if at := slices.IndexFunc(e.Tiers, func(had pricing.Tier) bool { return had.Above == t.Above }); at >= 0 {
						tiers[i].Rates = over(e.Tiers[at].Rates, t.Rates)
					}
				}
				e.Tiers = tiers
			}
			out = append(out, e)
		}
	}
	return out
}

// over lays the rates that a list has over those of a row.
func over(base, list pricing.Rates) pricing.Rates {
	for _, f := range []struct {
		to   *string
		from string
	}{
		{&base.Input, list.Input}, {&base.CacheRead, list.CacheRead}, {&base.CacheWrite5m, list.CacheWrite5m},
		{&base.CacheWrite1h, list.CacheWrite1h}, {&base.Output, list.Output}, {&base.Reasoning, list.Reasoning},
		{&base.InputAudio, list.InputAudio}, {&base.CacheReadAudio, list.CacheReadAudio}, {&base.OutputAudio, list.OutputAudio},
		{&base.InputImage, list.InputImage}, {&base.OutputImage, list.OutputImage},
		{&base.WebSearch, list.WebSearch}, {&base.Request, list.Request},
	} {
		*f.to = cmp.Or(f.from, *f.to)
	}
	return base
}

// addNew adds the models of the providers that are ruled by hand which no row has yet, from genai-prices, and from LiteLLM those
// that are charged by units.
func addNew(rows []entry, all lists) ([]entry, error) {
	for _, list := range []string{genai, litellm} {
		known := make([]pricing.Row, len(rows))
		for i, e := range rows {
			known[i] = e.Row
		}
		book, err := pricing.New(known...)
		if err != nil {
			return nil, err
		}
		for _, k := range slices.SortedFunc(maps.Keys(all[list]), func(a, b key) int {
			return cmp.Or(cmp.Compare(a.provider, b.provider), cmp.Compare(a.model, b.model))
		}) {
			listed := all[list][k]
			last := listed[len(listed)-1]
			_, found := book.Price(k.provider, k.model, time.Now())
			byUnits := last.Input == "" && len(last.Units) > 0
			if found || !slices.Contains(byHand, k.provider) || isLeftOut(k) || match("*/*", k.model) || list == litellm && !byUnits {
				continue
			}
			for _, r := range listed {
				e := entry{Row: r, Source: list}
				mend(&e)
				rows = append(rows, e)
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Model, b.Model), a.From.Compare(b.From))
	})
	return rows, nil
}

func isLeftOut(k key) bool {
	return slices.ContainsFunc(leftOut, func(l struct{ provider, model, why string }) bool {
		return l.provider == k.provider && match(l.model, k.model)
	})
}

// addUnits gives a row that is charged by tokens what its provider's tools charge beside them: a search of files as
// genai-prices has it, a container as LiteLLM has it, and what no list has.
func addUnits(e *entry, all lists) {
	if e.Input == "" {
		return
	}
	e.Units = nil
	add := func(unit units.Unit, price string) {
		if price == "" {
			return
		}
		if e.Units == nil {
			e.Units = make(map[units.Unit]string)
		}
		e.Units[unit] = price
	}
	for _, name := range append([]string{e.Model}, e.Also...) {
		if r, ok := all.of(genai, e.Provider, name); ok {
			if strings.Contains(name, "embedding") { // others count video with all other input
				add(units.InputVideoTokens, r.Units[units.InputVideoTokens])
			}
		}
	}
	if chat, later := generation(e); chat && later && e.WebSearch == "" { // the list has it for all others of the generation
		e.WebSearch = "0.014"
	}
	if e.Provider == pricing.OpenAI && e.WebSearch != "" { // a model that can use tools: they cost the same with each
		if r, ok := all.of(genai, e.Provider, "gpt-4.1"); ok {
			add(units.FileSearches, r.Units[units.FileSearches])
		}
		if r, ok := all.of(litellm, e.Provider, "container"); ok {
			add(units.Containers, r.Units[units.Containers])
		}
		for memory, price := range containers {
			add(units.Containers.With(memory), price)
		}
	}
	if e.Provider == pricing.Google && strings.HasPrefix(e.Model, "gemini-") {
		add(units.MapGroundings, mapGroundings[e.WebSearch])
	}
}

// generation reports whether a row is of a model of Gemini's that can search, and whether that is of the third generation or a
// later one, which is charged for each query.
func generation(e *entry) (chat, later bool) {
	version, ok := strings.CutPrefix(e.Model, "gemini-")
	special := strings.Contains(version, "embed") || strings.Contains(version, "tts") || strings.Contains(version, "audio")
	return e.Provider == pricing.Google && ok && !special, version >= "3"
}

// onVertex are the models of Gemini that only genai-prices has yet, which has one price for the Gemini API and Vertex AI.
func onVertex(rows []entry) (out []entry) {
	had := make(map[string]bool)
	for _, e := range rows {
		had[e.Provider+" "+e.Model] = true
	}
	for _, e := range rows {
		chat, later := generation(&e)
		if !chat || !later || e.Source != genai || e.Note != "" || had[pricing.Vertex+" "+e.Model] || strings.Contains(e.Model, "live") {
			continue
		}
		row := e
		row.Provider, row.Units, row.Note = pricing.Vertex, nil, "genai-prices has one price for the Gemini API and Vertex AI"
		out = append(out, row)
	}
	return out
}

// bySize gives Sora's model that makes videos of two sizes the price of the larger one, which LiteLLM has as a model of its own: it
// is that of 1024x1792 and 1792x1024 (OpenAI's page of prices).
func bySize(rows []entry) {
	const model, larger = "sora-2-pro", "sora-2-pro-high-res"
	for _, e := range rows {
		if e.Model != larger {
			continue
		}
		for i := range rows {
			if to := &rows[i]; to.Provider == e.Provider && to.Model == model {
				to.Units = maps.Clone(to.Units)
				to.Units[units.OutputVideo.With("1024p")] = e.Units[units.OutputVideo]
			}
		}
	}
}

// containers is what a million containers of OpenAI's cost that have more memory than the usual gigabyte: no list has it. They
// are $0.12, $0.48 and $1.92 for 20 minutes (OpenAI's page of prices, in copies of it of 2026).
var containers = map[string]string{"4g": "120000", "16g": "480000", "64g": "1920000"}

// mapGroundings is what the Gemini API charges for a million answers with data of a map, by what it charges for a search: no
// list has it. It is $25 for 1,000 prompts before Gemini 3, and $14 for 1,000 queries since then, on top of a free allowance
// (Google's page of prices, its rows of grounding with Google Maps, in copies of it of 2026).
var mapGroundings = map[string]string{"0.035": "25000", "0.014": "14000"}

// resold are the embeddings, transcriptions and rankings that OpenRouter passes on. No list has them; it charges what their makers
// do, and states it.
func resold(rows []entry) (out []entry) {
	passed := []string{"embed", "whisper", "transcribe", "rerank"}
	for _, e := range rows {
		prefix, ok := map[string]string{pricing.OpenAI: "openai/", pricing.Google: "google/", pricing.Mistral: "mistralai/", pricing.Cohere: "cohere/"}[e.Provider]
		if !ok || !slices.ContainsFunc(passed, func(part string) bool { return strings.Contains(e.Model, part) }) || !e.Until.IsZero() ||
			e.Provider == pricing.Cohere && !strings.HasPrefix(e.Model, "rerank") || strings.Contains(e.Model, "realtime") {
			continue
		}
		row := pricing.Row{Provider: pricing.OpenRouter, Model: prefix + e.Model, Rates: e.Rates, Units: e.Units}
		row.WebSearch = ""
		out = append(out, entry{Row: row, Source: e.Source, Note: "the price of its maker; what is charged is what OpenRouter reports"})
	}
	return out
}

// tell says what has changed.
func tell(w io.Writer, before, after table) error {
	id := func(e entry) string {
		s := e.Provider + " " + e.Model
		if !e.From.IsZero() {
			s += " from " + e.From.Format(time.DateOnly)
		}
		return s
	}
	was := make(map[string]entry)
	for _, e := range before.Rows {
		was[id(e)] = e
	}
	var lines []string
	for _, e := range after.Rows {
		old, there := was[id(e)]
		delete(was, id(e))
		says := cmp.Or(after.Sources[e.Source], e.Source)
		switch had, has := figures(old), figures(e); {
		case !there:
			lines = append(lines, fmt.Sprintf("+ %s: %s (%s)", id(e), describe(nil, has), says))
		case !maps.Equal(had, has):
			lines = append(lines, fmt.Sprintf("~ %s: %s (%s)", id(e), describe(had, has), says))
		}
	}
	for name, e := range was {
		lines = append(lines, fmt.Sprintf("- %s: in no list any more, or needless (it was of %s)", name, cmp.Or(before.Sources[e.Source], e.Source)))
	}
	slices.SortFunc(lines, func(a, b string) int { return cmp.Compare(a[2:], b[2:]) })
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%d rows, %d lines of change, as of %s\n", len(after.Rows), len(lines), after.AsOf)
	return err
}

// figures are all prices of a row by name.
func figures(e entry) map[string]string {
	out := make(map[string]string)
	if !e.Until.IsZero() {
		out["until"] = e.Until.Format(time.DateOnly)
	}
	set := func(prefix string, r pricing.Rates) {
		for _, f := range []struct{ name, value string }{
			{"input", r.Input}, {"cache_read", r.CacheRead}, {"cache_write_5m", r.CacheWrite5m}, {"cache_write_1h", r.CacheWrite1h},
			{"output", r.Output}, {"reasoning", r.Reasoning}, {"input_audio", r.InputAudio}, {"cache_read_audio", r.CacheReadAudio},
			{"output_audio", r.OutputAudio}, {"input_image", r.InputImage}, {"output_image", r.OutputImage},
			{"web_search", r.WebSearch}, {"request", r.Request},
		} {
			if f.value != "" {
				out[prefix+f.name] = f.value
			}
		}
	}
	all := func(prefix string, r pricing.Rates, of map[units.Unit]string, tiers []pricing.Tier) {
		set(prefix, r)
		for unit, price := range of {
			out[prefix+string(unit)] = price
		}
		for _, t := range tiers {
			set(fmt.Sprintf("%s>%d:", prefix, t.Above), t.Rates)
		}
	}
	all("", e.Rates, e.Units, e.Tiers)
	for name, s := range e.Services {
		all(name+":", s.Rates, s.Units, s.Tiers)
	}
	for name, factor := range e.Uplifts {
		out["x "+name] = factor
	}
	return out
}

func describe(had, has map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(has)) {
		if before, there := had[name]; had == nil {
			parts = append(parts, name+" "+has[name])
		} else if !there || before != has[name] {
			parts = append(parts, fmt.Sprintf("%s %s, was %s", name, has[name], cmp.Or(before, "none")))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(had)) {
		if _, there := has[name]; !there && had != nil {
			parts = append(parts, fmt.Sprintf("%s none, was %s", name, had[name]))
		}
	}
	return strings.Join(parts, "; ")
}
