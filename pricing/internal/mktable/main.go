// Command mktable makes pricing/book.json from public price lists, and prints what has changed and which list says so:
//
//	make prices LISTS="../shared/prices/*.json"
//	go run ./pricing/internal/mktable -book pricing/book.json LIST...
//
// A list is LiteLLM's model map, models.dev's api.json or the data of genai-prices, as published; what it is is seen from
// its content, and its day from its name. Of two of a kind the newer one counts.
//
// For most providers the sources name the lists in the order in which they are believed, and picks the models for which
// another one is. A row has the figures of one list. A row that the rules for names make needless is left out: a dated name,
// or a region's, that costs what the name without it costs.
//
// Rows of the providers in byHand stay, each with its note, and so do rows whose source is a provider's own page. Of those, a
// row of genai-prices without a note follows the list, models that only a list has are added, and service tiers are
// LiteLLM's.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
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

	page = "page" // a provider's own, which the note of the row names
)

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
	book := flag.String("book", "pricing/book.json", "the table that is made anew")
	flag.Parse()
	if flag.NArg() == 0 {
		log.Fatal("usage: mktable [-book book.json] LIST...")
	}
	if err := run(os.Stdout, *book, flag.Args()); err != nil {
		log.Fatal(err)
	}
}

func run(report io.Writer, name string, paths []string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var before, t table
	if err := errors.Join(json.Unmarshal(data, &before), json.Unmarshal(data, &t)); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	all, days, err := readLists(paths)
	if err != nil {
		return err
	}
	t.Sources[page] = "the provider's own, which the note of the row names"
	for list, day := range days {
		t.Sources[list] = published[list] + " of " + day
		t.AsOf = max(t.AsOf, day)
	}
	asOf, err := time.Parse(time.DateOnly, days[litellm])
	if err != nil {
		return err
	}
	t.Rows = slices.DeleteFunc(t.Rows, func(e entry) bool { return !e.kept() })
	t.Rows = refresh(t.Rows, all)
	if t.Rows, err = addNew(t.Rows, all); err != nil {
		return err
	}
	for i := range t.Rows {
		if e := &t.Rows[i]; e.Source != page && slices.Contains(byHand, e.Provider) {
			addServices(e, all, asOf)
			addUnits(e, all)
		}
	}
	for provider := range sources {
		rows, err := compact(choose(provider, all, t.Rows))
		if err != nil {
			return err
		}
		t.Rows = append(t.Rows, rows...)
	}
	bySize(t.Rows)
	t.Rows = append(t.Rows, resold(t.Rows)...)
	t.Rows = append(t.Rows, onVertex(t.Rows)...)
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
	if err := tell(report, before, t); err != nil {
		return err
	}
	return os.WriteFile(name, out, 0o644)
}

// kept reports whether a row is no work of this program.
func (e *entry) kept() bool {
	return e.Source == page || slices.Contains(byHand, e.Provider) && !match(fineTuned, e.Model)
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

// published is where the lists are.
var published = map[string]string{
	litellm:   "github.com/BerriAI/litellm (MIT), model map",
	genai:     "github.com/pydantic/genai-prices (MIT), data",
	modelsDev: "models.dev (MIT), api.json",
}

var dayInName = regexp.MustCompile(`\d{4}-\d{2}-\d{2}`)

// readLists reads the newest list of each kind, and returns the day of each.
func readLists(paths []string) (all lists, days map[string]string, err error) {
	newest, days := make(map[string]string), make(map[string]string)
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, err
		}
		day := dayInName.FindString(filepath.Base(path))
		if day == "" {
			return nil, nil, fmt.Errorf("%s: there is no day in its name, as in data.2026-01-31.json", path)
		}
		list := modelsDev
		switch {
		case bytes.HasPrefix(bytes.TrimSpace(data), []byte("[")):
			list = genai
		case bytes.Contains(data, []byte(`"litellm_provider"`)):
			list = litellm
		}
		if day > days[list] {
			newest[list], days[list] = path, day
		}
	}
	all = make(lists)
	for list := range published {
		if newest[list] == "" {
			return nil, nil, fmt.Errorf("there is none of %s among the lists", published[list])
		}
		f, err := os.Open(newest[list])
		if err != nil {
			return nil, nil, err
		}
		b, err := pricing.Load(f)
		if err := cmp.Or(err, f.Close()); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", newest[list], err)
		}
		all[list] = make(map[key][]pricing.Row)
		for _, r := range b.Rows() {
			for _, name := range namesOf(list, r) {
				k := key{r.Provider, name}
				r.Model, r.Tiers = name, thresholds(r.Tiers)
				all[list][k] = append(all[list][k], r)
			}
		}
	}
	return all, days, nil
}

// thresholds are those of the providers: of "more than 272,000" genai-prices has the last prompt below.
func thresholds(tiers []pricing.Tier) []pricing.Tier {
	tiers = slices.Clone(tiers)
	for i, t := range tiers {
		if t.Above%1000 == 999 {
			tiers[i].Above++
		}
	}
	return tiers
}

// namesOf returns the names that a model of a list has on Bedrock. "regional." is genai-prices' for all regions but the global
// one. Models without a region cost what the global one costs, except OpenAI's, which cost what the others do.
func namesOf(list string, r pricing.Row) []string {
	if rest, ok := strings.CutPrefix(r.Model, "regional."); ok && list == genai {
		if strings.HasPrefix(rest, "openai.") {
			return []string{rest}
		}
		return []string{"us." + rest, "eu." + rest, "jp." + rest, "au." + rest}
	}
	if rest, ok := strings.CutPrefix(r.Model, "global."); ok && list == genai && !strings.HasPrefix(rest, "openai.") {
		return []string{rest}
	}
	return []string{r.Model}
}

// choose returns a row for each model of a provider that a list has, from the list that is believed.
// What a provider's own page says goes before all lists.
func choose(provider string, all lists, kept []entry) map[string][]entry {
	chosen := make(map[string][]entry)
	own := func(model string) bool {
		return slices.ContainsFunc(kept, func(e entry) bool { return e.Provider == provider && e.Model == model })
	}
	take := func(list, only, note string, over bool) {
		for k, rows := range all[list] {
			if k.provider != provider || !match(only, k.model) || own(k.model) {
				continue
			}
			if isLeftOut(k) {
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
			keepToRegion(&entries[i])
		}
	}
	return chosen
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
	if e.Provider == pricing.Mistral && match("mistral-medium-25??", e.Model) && e.CacheRead == "" {
		e.CacheRead = "0.04"
		e.Note = "cache reads are from genai-prices: models.dev has no rate for them"
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
