// Command mktable makes the rows of pricing/book.json that are not ruled by hand, from public price lists:
//
//	go run ./pricing/internal/mktable -lists ../shared/prices pricing/book.json
//
// The lists are LiteLLM's model map, the v2 data of genai-prices and the api.json of models.dev, by the names that they
// have in the folder. Rows of the providers in byHand stay as they are, but for their service tiers, which LiteLLM alone
// has. For every other provider the sources name the lists in the order in which they are believed, and picks the models
// for which another one is. A row has the figures of one list. A row that the rules for names make needless is left out:
// a dated name, or a region's, that costs what the name without it costs.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/pricing"
)

// The lists, as book.json names its sources.
const (
	litellm   = "litellm"
	genai     = "genai-prices"
	modelsDev = "models.dev"
)

var files = map[string]string{
	litellm:   "litellm_model_prices.*.json",
	genai:     "genai-prices.v2.data.*.json",
	modelsDev: "models.dev.api.*.json",
}

var byHand = []string{pricing.OpenAI, pricing.Anthropic, pricing.Google}

// A source says which lists a provider's rows are made from: the first one that has the model. Only models whose names
// match the pattern are taken from it.
type source struct{ list, only string }

var sources = map[string][]source{
	pricing.Azure:    {{litellm, "*"}, {modelsDev, "*"}},
	pricing.Bedrock:  {{litellm, "*"}, {modelsDev, "*"}, {genai, "amazon.nova-*"}, {genai, "openai.gpt-*"}},
	pricing.Cohere:   {{litellm, "*"}, {modelsDev, "*"}},
	pricing.DeepSeek: {{modelsDev, "*"}, {litellm, "*"}},
	// Models that are not sold any more are in genai-prices alone.
	pricing.Groq:    {{litellm, "*"}, {litellm, "*/*"}, {modelsDev, "*"}, {modelsDev, "*/*"}, {genai, "*"}, {genai, "*/*"}},
	pricing.Mistral: {{genai, "*-2[45678]??"}, {modelsDev, "*"}, {litellm, "*"}},
	pricing.OpenRouter: {
		{modelsDev, "*/*"}, {litellm, "*/*"},
		// What came after models.dev's date; all else that genai-prices alone has is gone.
		{genai, "anthropic/claude-*-5"}, {genai, "anthropic/claude-opus-5-fast"}, {genai, "moonshotai/kimi-k3"}, {genai, "z-ai/glm-5.3"},
	},
	pricing.Perplexity: {{litellm, "sonar*"}, {litellm, "pplx-*"}, {genai, "r1-*"}},
	pricing.Vercel:     {{modelsDev, "*/*"}, {litellm, "*/*"}},
	pricing.Vertex:     {{litellm, "*"}, {litellm, "*/*"}, {modelsDev, "*"}, {modelsDev, "*/*"}},
	pricing.XAI:        {{litellm, "*"}, {modelsDev, "*"}},
	pricing.OpenAI:     {{litellm, fineTuned}},
}

// fineTuned are the models that are made by rule for OpenAI too.
const fineTuned = "ft:*"

// A pick is a model, or a pattern of them, for which another list than the provider's first is believed.
type pick struct{ provider, model, list, why string }

var picks = []pick{
	{pricing.Bedrock, "amazon.nova-lite-v1:0", genai, "LiteLLM has no discount for cache reads, genai-prices and models.dev have"},
	{pricing.Bedrock, "amazon.nova-micro-v1:0", genai, "LiteLLM has no discount for cache reads, genai-prices and models.dev have"},
	{pricing.Bedrock, "amazon.nova-pro-v1:0", genai, "LiteLLM has no discount for cache reads, genai-prices and models.dev have"},
	{pricing.Bedrock, "amazon.titan-text-*-v1", genai, "LiteLLM has the rates of before the price cut"},
	{pricing.Bedrock, "meta.llama3-1-70b-instruct-v1:0", genai, "LiteLLM has the rates of before the price cut, genai-prices and models.dev these"},
	{pricing.Bedrock, "meta.llama3-2-*b-instruct-v1:0", genai, "LiteLLM has the rates of before the price cut"},
	{pricing.Bedrock, "mistral.mistral-large-2402-v1:0", genai, "LiteLLM has twice the rates"},
	{pricing.Bedrock, "eu.anthropic.claude-opus-4-5-20251101-v1:0", modelsDev, "LiteLLM lacks the tenth that a region costs more"},
	{pricing.XAI, "grok-4.20-*", modelsDev, "LiteLLM has the rates of the launch; genai-prices and models.dev have these"},
	{pricing.Mistral, "mistral-medium-latest", litellm, "an alias that Mistral moves: to mistral-medium-2604, after models.dev's date"},
	{pricing.Mistral, "ministral-8b-latest", litellm, "an alias that Mistral moves: to ministral-8b-2512"},
	{pricing.Vertex, "claude-3-5-haiku@20241022", modelsDev, "LiteLLM has the rates of the launch"},
	{pricing.Vertex, "deepseek-ai/deepseek-v3.1-maas", modelsDev, "LiteLLM has the rates of before the price cut"},
}

// leftOut are models of the lists that the table does not have.
var leftOut = []struct{ provider, model, why string }{
	{pricing.Bedrock, "*/*", "the prices of single regions, by names that are LiteLLM's own"},
	{pricing.Azure, "*/*", "the prices of single regions, by names that are LiteLLM's own"},
	{pricing.Bedrock, "us.amazon.nova-lite-v1:0", "LiteLLM has no discount for cache reads; it is one of the aliases"},
	{pricing.Bedrock, "us.amazon.nova-micro-v1:0", "likewise"},
	{pricing.Bedrock, "us.amazon.nova-pro-v1:0", "likewise"},
	{pricing.Azure, "gpt-image-1*", "no list has all its rates"},
	{pricing.Azure, "mistral-large-latest", "LiteLLM has two prices for it"},
	{pricing.Azure, "jais-30b-chat", "LiteLLM has a thousand times the rates"},
	{pricing.Cohere, "embed-multilingual-light-v3.0", "LiteLLM has a thousand times the rate"},
	{pricing.Mistral, "mistral-small-24b-instruct-2501", "not a name of Mistral's API"},
	{pricing.Mistral, "voxtral-small-24b-2507", "not a name of Mistral's API"},
	{pricing.Perplexity, "pplx-*b-*", "retired"},
	{pricing.Perplexity, "sonar-*-chat", "retired"},
	{pricing.Perplexity, "sonar-*-online", "retired"},
	{pricing.Vertex, "deep-research-pro-preview-12-2025", "LiteLLM has the rates of an image model for it"},
	{pricing.OpenRouter, "openrouter/*", "OpenRouter's routers have the price of the model that they choose"},
	{pricing.Azure, "model?router", "the router's fee alone, without the model that it chooses"},
	{pricing.OpenRouter, "~*/*", "aliases of OpenRouter's that have the price of the model that they lead to"},
}

// aliases are other names that the providers have for a model.
var aliases = map[key][]string{
	{pricing.Bedrock, "amazon.nova-lite-v1:0"}:  {"us.amazon.nova-lite-v1:0"},
	{pricing.Bedrock, "amazon.nova-micro-v1:0"}: {"us.amazon.nova-micro-v1:0"},
	{pricing.Bedrock, "amazon.nova-pro-v1:0"}:   {"us.amazon.nova-pro-v1:0"},
	{pricing.XAI, "grok-3-fast-latest"}:         {"grok-3-fast"},
	{pricing.XAI, "grok-4-fast-reasoning"}:      {"grok-4-fast", "grok-4-fast-reasoning-latest"},
	{pricing.XAI, "grok-4-fast-non-reasoning"}:  {"grok-4-fast-non-reasoning-latest"},
}

// changes are prices that end on a day that the list which a row is made from does not know.
var changes = []struct {
	model, factor, why string
	at                 time.Time
}{{
	"*claude-sonnet-5", "1.5", "genai-prices has the end of the launch price at Anthropic, Amazon and OpenRouter; the others charge Anthropic's prices",
	time.Date(2026, time.September, 1, 0, 0, 0, 0, time.UTC),
}}

type table struct {
	AsOf    string            `json:"as_of"`
	Sources map[string]string `json:"sources"`
	Notes   []string          `json:"notes"`
	Rows    []entry           `json:"rows"`
}

type entry struct {
	pricing.Row
	Source string `json:"source"`
	Note   string `json:"note,omitempty"`
}

type key struct{ provider, model string }

func main() {
	log.SetFlags(0)
	folder := flag.String("lists", "", "the folder that has the lists")
	flag.Parse()
	if *folder == "" || flag.NArg() != 1 {
		log.Fatal("usage: mktable -lists folder book.json")
	}
	if err := run(*folder, flag.Arg(0)); err != nil {
		log.Fatal(err)
	}
}

func run(folder, name string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var t table
	if err := json.Unmarshal(data, &t); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	asOf, err := time.Parse(time.DateOnly, t.AsOf)
	if err != nil {
		return err
	}
	all, err := readLists(folder)
	if err != nil {
		return err
	}
	t.Rows = slices.DeleteFunc(t.Rows, func(e entry) bool { return !slices.Contains(byHand, e.Provider) || match(fineTuned, e.Model) })
	for i := range t.Rows {
		addServices(&t.Rows[i], all, asOf)
	}
	for provider := range sources {
		rows, err := compact(choose(provider, all))
		if err != nil {
			return err
		}
		for _, e := range rows {
			t.Rows = append(t.Rows, changed(e)...)
		}
	}
	t.Rows = append(t.Rows, entry{
		Row:    pricing.Row{Provider: pricing.Ollama, Model: pricing.Any, Rates: pricing.Rates{Input: "0", Output: "0"}},
		Source: litellm, Note: "a machine of one's own; the models of Ollama's cloud are not meant",
	})
	slices.SortFunc(t.Rows, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Model, b.Model), a.From.Compare(b.From))
	})
	out, err := t.encode()
	if err != nil {
		return err
	}
	return os.WriteFile(name, out, 0o644)
}

// lists are the rows of each list, in the order of time.
type lists map[string]map[key][]pricing.Row

// of returns the row of a list that has no end.
func (l lists) of(list, provider, model string) (pricing.Row, bool) {
	rows := l[list][key{provider, model}]
	if len(rows) == 0 {
		return pricing.Row{}, false
	}
	return rows[len(rows)-1], true
}

func readLists(folder string) (lists, error) {
	all := make(lists)
	for list, pattern := range files {
		names, err := filepath.Glob(filepath.Join(folder, pattern))
		if err != nil || len(names) != 1 {
			return nil, fmt.Errorf("%s: there are %d of it in %s, %w", pattern, len(names), folder, err)
		}
		f, err := os.Open(names[0])
		if err != nil {
			return nil, err
		}
		var rows []pricing.Row
		if list == genai {
			rows, err = readGenai(f)
		} else {
			var b *pricing.Book
			if b, err = pricing.Load(f); err == nil {
				rows = b.Rows()
			}
		}
		if err := cmp.Or(err, f.Close()); err != nil {
			return nil, fmt.Errorf("%s: %w", names[0], err)
		}
		all[list] = make(map[key][]pricing.Row)
		for _, r := range rows {
			k := key{r.Provider, r.Model}
			all[list][k] = append(all[list][k], r)
		}
	}
	return all, nil
}

// choose returns a row for each model of a provider that a list has, from the list that is believed.
func choose(provider string, all lists) map[string][]entry {
	chosen := make(map[string][]entry)
	take := func(list, only, note string, over bool) {
		for k, rows := range all[list] {
			if k.provider != provider || !match(only, k.model) {
				continue
			}
			if slices.ContainsFunc(leftOut, func(l struct{ provider, model, why string }) bool {
				return l.provider == provider && match(l.model, k.model)
			}) {
				continue
			}
			if _, taken := chosen[k.model]; taken && !over {
				continue
			}
			chosen[k.model] = nil
			for _, r := range rows {
				r.Also = aliases[k]
				chosen[k.model] = append(chosen[k.model], entry{Row: r, Source: list, Note: note})
			}
		}
	}
	for _, s := range sources[provider] {
		take(s.list, s.only, "", false)
	}
	for _, p := range picks {
		if p.provider == provider {
			take(p.list, p.model, p.why, true)
		}
	}
	for _, entries := range chosen {
		for i := range entries {
			mend(&entries[i])
			halveBatch(&entries[i])
		}
	}
	return chosen
}

// changed returns the rows of an entry whose price has an end.
func changed(e entry) []entry {
	for _, c := range changes {
		if !match(c.model, path.Base(e.Model)) || !e.From.IsZero() || !e.Until.IsZero() {
			continue
		}
		before, after := e, e
		before.Until, after.From = c.at, c.at
		before.Note, after.Note = c.why, c.why
		after.Rates, after.Tiers = times(e.Rates, c.factor), tiersTimes(e.Tiers, c.factor)
		after.Services = make(map[string]pricing.Service)
		for name, s := range e.Services {
			after.Services[name] = pricing.Service{Rates: times(s.Rates, c.factor), Tiers: tiersTimes(s.Tiers, c.factor)}
		}
		return []entry{before, after}
	}
	return []entry{e}
}

// mend changes what no list has right.
func mend(e *entry) {
	if e.Provider == pricing.Perplexity && e.Model == "sonar-deep-research" {
		// Not the fee of a call, as for the other models, but of each of the searches that its reply counts.
		e.WebSearch, e.Request = e.Request, ""
		e.Services = nil
		e.Note = "LiteLLM has the fee of a search as that of a call"
	}
	if e.Provider == pricing.XAI && strings.HasPrefix(e.Model, "grok-4") {
		e.WebSearch = "0.005" // in no list, but on xAI's, and in what its replies state
	}
	if e.Provider == pricing.XAI && slices.Contains([]string{"grok-4", "grok-4-0709", "grok-4-latest"}, e.Model) && e.CacheRead == "" {
		e.CacheRead = "0.75"
		e.Tiers = slices.Clone(e.Tiers)
		for i := range e.Tiers {
			e.Tiers[i].CacheRead = e.CacheRead
		}
		e.Note = "cache reads are from genai-prices: LiteLLM has no rate for them"
	}
	if e.Provider == pricing.OpenAI && e.Model == "ft:gpt-4o-2024-11-20" {
		e.CacheRead, e.CacheWrite5m = e.CacheWrite5m, ""
		e.Note = "LiteLLM has the rate of cache reads as that of cache writes"
	}
	if e.Provider == pricing.Bedrock && e.Model == "eu.anthropic.claude-opus-4-5-20251101-v1:0" {
		e.WebSearch = "0.01" // as in every other region
	}
	if e.Provider == pricing.Vertex && e.Model == "deepseek-ai/deepseek-v3.2-maas" && e.CacheRead == "" {
		e.CacheRead = "0.056"
		e.Note = "cache reads are from models.dev: LiteLLM has no rate for them"
	}
	e.Tiers = slices.Clone(e.Tiers)
	rates := []*pricing.Rates{&e.Rates}
	for i := range e.Tiers {
		rates = append(rates, &e.Tiers[i].Rates)
	}
	for _, r := range rates {
		switch {
		case r.CacheWrite5m == "":
		case !number(r.CacheWrite5m).LessThan(number(r.Input)):
			if strings.Contains(e.Model, "claude") && (r.CacheWrite1h == "" || r != &e.Rates) {
				r.CacheWrite1h = number(r.Input).Mul(number("2")).String() // so it is wherever a list has it
			}
		case e.Provider == pricing.OpenRouter && strings.HasPrefix(e.Model, "google/"):
			r.CacheWrite5m = number(r.CacheWrite5m).Add(number(r.Input)).String()
			e.Note = "for cache writes the list has what is charged on top of input"
		default:
			r.CacheWrite5m = ""
			e.Note = "a rate for cache writes below that of input is a slip"
		}
	}
}

// compact leaves out the rows that the others make needless.
func compact(rows map[string][]entry) ([]entry, error) {
	names := make([]string, 0, len(rows))
	for name := range rows {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(len(b)-len(a), cmp.Compare(a, b)) })
	for _, name := range names {
		entries := rows[name]
		if len(entries) > 1 {
			continue
		}
		e := entries[0]
		delete(rows, name)
		others := make([]pricing.Row, 0, len(rows))
		for _, entries := range rows {
			for _, o := range entries {
				others = append(others, o.Row)
			}
		}
		without, err := pricing.New(others...)
		if err != nil {
			return nil, err
		}
		own, err := pricing.New(e.Row)
		if err != nil {
			return nil, err
		}
		found, ok := without.Price(e.Provider, name, time.Time{})
		is, _ := own.Price(e.Provider, name, time.Time{})
		if !ok || !same(found, is) {
			rows[name] = entries
		}
	}
	out := make([]entry, 0, len(rows))
	for _, entries := range rows {
		out = append(out, entries...)
	}
	return out, nil
}

func same(a, b tenant.Price) bool {
	a.Model, a.Row = b.Model, b.Row
	return reflect.DeepEqual(a, b)
}

func number(text string) decimal.Decimal { return decimal.RequireFromString(text) }

func match(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

// encode writes the table with one row a line, so that a change of one price is a change of one line.
func (t table) encode() ([]byte, error) {
	rows := t.Rows
	t.Rows = []entry{}
	head, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	out.Write(bytes.TrimSuffix(head, []byte("[]\n}")))
	out.WriteString("[\n")
	for i, e := range rows {
		line, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		out.WriteString("    ")
		out.Write(line)
		if i < len(rows)-1 {
			out.WriteByte(',')
		}
		out.WriteByte('\n')
	}
	out.WriteString("  ]\n}\n")
	return out.Bytes(), nil
}
