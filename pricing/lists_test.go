package pricing

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
)

// The public lists lie outside of the repository, on the machines where the table is made.
const lists = "../../shared/prices"

// A claim is what a list says of one class of one model.
type claim struct {
	list, provider, model string
	at                    time.Time
	above                 int64
	class                 string
	nano                  int64
}

func (c claim) field() string {
	if c.above > 0 {
		return fmt.Sprintf("%s>%d", c.class, c.above)
	}
	return c.class
}

// A ruling says that the table does not follow a list, for a model and a class (patterns of path.Match).
type ruling struct{ list, model, class, why string }

// The notes in book.json say why, where no reason stands here.
var rulings = []ruling{
	{"litellm", "claude-3-haiku*", "cache_write_1h", ""},
	{"litellm", "claude-3-opus*", "cache_write_1h", ""},
	{"models.dev", "claude-3-sonnet*", "cache_write_5m", ""},
	{"genai", "gpt-4o-2024-05-13", "*", ""},
	{"litellm", "gpt-4o*-search-preview", "web_search", ""},
	{"litellm", "gpt-4o-mini-2024-07-18", "web_search", "the fees of 2025 by size of context"},
	{"litellm", "gpt-4o-search-preview*", "cache_read", ""},
	{"litellm", "gpt-4o*-transcribe*", "input_audio", ""},
	{"litellm", "gpt-5.?-pro*", "cache_read*", ""},
	{"litellm", "gpt-image-2*", "output", ""},
	{"litellm", "gpt-realtime-2", "output", ""},
	{"genai", "o3*", "cache_read", ""},
	{"litellm", "gemini-2.0-flash-lite*", "cache_read", ""},
	{"litellm", "gemini-2.5-flash-preview-09-2025", "cache_read", ""},
	{"litellm", "gemini-2.5-flash-image", "cache_read", ""},
	{"litellm", "gemini-2.5-flash-image", "input_audio", "the model takes no audio"},
	{"models.dev", "gemini-2.5-flash-image", "cache_read", ""},
	{"models.dev", "gemini-*-image*", "output", "the rate of image output"},
	{"litellm", "gemini-2.5-*-preview-tts", "*", ""},
	{"litellm", "gemini-*live*", "*", ""},
	{"litellm", "gemini-2.5-flash-native-audio-*", "*", ""},
	{"litellm", "gemini-3.1-flash-image*", "*put", ""},
	{"litellm", "gemini-3.5-flash", "input_audio", ""},
	{"litellm", "gemini-3.6-flash", "*", ""},
	{"litellm", "gemini-flash-l*", "cache_read", ""},
	{"models.dev", "gemini-flash-l*", "cache_read", ""},
}

// leftOut are the models of the lists that the table does not have (patterns of path.Match).
var leftOut = map[string]string{
	"ft:*":                              "fine-tuned models are priced by their base and their host",
	"gpt-4o-mini-2024-07-18.ft-":        "fine-tuned",
	"gemma-*":                           "free on the Gemini API, or priced by other hosts",
	"gemini-gemma-*":                    "free on the Gemini API",
	"gpt-oss-*":                         "not sold by OpenAI",
	"gpt-5.4-image-2":                   "not a name of OpenAI's API",
	"gpt-5-image*":                      "not a name of OpenAI's API",
	"gpt-4o:extended":                   "not a name of OpenAI's API",
	"gpt-3.5-0301":                      "the list's name for gpt-3.5-turbo-0301",
	"gpt-5.3":                           "not a name of OpenAI's API",
	"computer-use":                      "the list's name for computer-use-preview",
	"gpt-chat-latest":                   "only known from OpenRouter",
	"chatgpt-image-latest":              "LiteLLM has the rates of gpt-image-1 for a model of gpt-image-1.5's date",
	"ada":                               "retired",
	"babbage":                           "retired",
	"curie":                             "retired",
	"davinci":                           "retired",
	"text-davinci-00?":                  "retired",
	"claude-2":                          "retired",
	"claude-v1":                         "retired",
	"gemini-pro":                        "retired",
	"gemini-1.0-*":                      "retired",
	"gemini-2.5-flash-preview":          "retired",
	"gemini-flash-1.5*":                 "OpenRouter's names for gemini-1.5-flash",
	"gemini-pro-1.5":                    "OpenRouter's name for gemini-1.5-pro",
	"gpt-4o*-tts*":                      "speech is charged without a usage to read",
	"gemini-embedding-2*":               "its video input has a rate of its own, which Usage has no class for",
	"gemini-omni-flash-preview":         "its video output has a rate of its own, which Usage has no class for",
	"deep-research-pro-preview-12-2025": "LiteLLM has the rates of an image model for it",
	"gemini-exp-*":                      "retired; no rates",
}

// publicLists returns all claims, or skips the test: the lists are others' files, and no part of this repository.
func publicLists(t *testing.T) []claim {
	t.Helper()
	if _, err := os.Stat(lists); err != nil {
		t.Skipf("the public price lists are no part of the repository, and %s is not on this machine", lists)
	}
	return slices.Concat(litellm(t), genaiPrices(t), modelsDev(t))
}

func TestTheTableAgreesWithThePublicLists(t *testing.T) {
	t.Parallel()
	claims := publicLists(t)
	require.Greater(t, len(claims), 1000)

	used, absent := make(map[int]bool), make(map[string]bool)
	for _, c := range claims {
		p, ok := Default().Price(c.provider, c.model, c.at)
		if pattern := leftOutBy(c.model); pattern != "" {
			absent[pattern] = true
			if ok {
				t.Errorf("%s is left out and has a price", c.model)
			}
			continue
		}
		if !ok {
			t.Errorf("%s: %s %s has no price and is not left out", c.list, c.provider, c.model)
			continue
		}
		got, tier := rate(p, c.above, c.class)
		if tier && got == c.nano {
			continue
		}
		ruling := slices.IndexFunc(rulings, func(r ruling) bool {
			return r.list == c.list && match(r.model, c.model) && match(r.class, c.field())
		})
		used[ruling] = true
		if ruling < 0 {
			t.Errorf("%s: %s %s at %s: the list has %d, the table %d (tier: %v)",
				c.list, c.model, c.field(), c.at.Format(time.DateOnly), c.nano, got, tier)
		}
	}
	for i, r := range rulings {
		if !used[i] {
			t.Errorf("ruling %v is not needed", r)
		}
	}
	for pattern := range leftOut {
		if !absent[pattern] {
			t.Errorf("no list has a price for %q", pattern)
		}
	}
}

// Nothing in the table is made up: each rate is in a list under a name of the row, but for two that have a note.
func TestEveryRateIsInAPublicList(t *testing.T) {
	t.Parallel()
	type figure struct {
		provider, model, field string
		nano                   int64
	}
	listed := map[figure]bool{
		{OpenAI, "o3", "cache_read", 2_500_000_000}:                               true,
		{Anthropic, "claude-sonnet-4-0", "cache_write_1h>200000", 12_000_000_000}: true,
	}
	listsNames := map[string]string{
		"computer-use":        "computer-use-preview",
		"gemini-pro-1.5":      "gemini-1.5-pro",
		"gemini-flash-1.5":    "gemini-1.5-flash",
		"gemini-flash-1.5-8b": "gemini-1.5-flash-8b",
	}
	for _, c := range publicLists(t) {
		if l := Default().find(c.provider, cmp.Or(listsNames[c.model], c.model)); l != nil {
			listed[figure{c.provider, l.name, c.field(), c.nano}] = true
		}
	}
	for _, e := range embedded(t).Rows {
		p, err := e.price()
		require.NoError(t, err)
		for _, tier := range append([]tenant.Tier{{Rates: p.Rates}}, p.Tiers...) {
			for class, nano := range byClass(tier.Rates) {
				f := figure{e.Provider, e.Model, claim{class: class, above: tier.Above}.field(), nano}
				if nano != 0 && class != "web_search" && !listed[f] {
					t.Errorf("%v is in no list", f)
				}
			}
		}
	}
}

func TestWebSearchFeesAreThoseOfTheNotes(t *testing.T) {
	t.Parallel()
	for _, e := range embedded(t).Rows {
		want := "0.01"
		switch {
		case e.WebSearch == "":
			continue
		case strings.HasSuffix(e.Model, "-search-preview"):
			want = "0.025"
		case strings.HasPrefix(e.Model, "gemini-3"):
			want = "0.014"
		case e.Provider == Google:
			want = "0.035"
		}
		require.Equal(t, want, e.WebSearch, e.Model)
	}
}

func leftOutBy(model string) string {
	for pattern := range leftOut {
		if match(pattern, model) {
			return pattern
		}
	}
	return ""
}

func match(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

func byClass(r tenant.Rates) map[string]int64 {
	return map[string]int64{
		"input": r.Input, "cache_read": r.CacheRead, "cache_write_5m": r.CacheWrite5m, "cache_write_1h": r.CacheWrite1h,
		"output": r.Output, "reasoning": r.Reasoning,
		"input_audio": r.InputAudio, "output_audio": r.OutputAudio,
		"input_image": r.InputImage, "output_image": r.OutputImage,
		"web_search": r.WebSearch,
	}
}

// rate returns what a million tokens of the class cost above a threshold, and whether there is such a tier.
func rate(p tenant.Price, above int64, class string) (int64, bool) {
	rates := byClass(p.Rates)
	if above > 0 {
		i := slices.IndexFunc(p.Tiers, func(t tenant.Tier) bool { return t.Above == above })
		if i < 0 {
			return 0, false
		}
		rates = byClass(p.Tiers[i].Rates)
	}
	if n := rates[class]; n != 0 || class == "web_search" {
		return n, true
	}
	if strings.HasPrefix(class, "output") || class == "reasoning" {
		return rates["output"], true
	}
	return rates["input"], true
}

func litellm(t *testing.T) []claim {
	at := time.Date(2026, time.August, 1, 0, 0, 0, 0, time.UTC)
	providers := map[string]string{
		"openai": OpenAI, "text-completion-openai": OpenAI, "anthropic": Anthropic, "gemini": Google,
	}
	classes := map[string]string{
		"input_cost_per_token":                      "input",
		"output_cost_per_token":                     "output",
		"output_cost_per_reasoning_token":           "reasoning",
		"cache_read_input_token_cost":               "cache_read",
		"cache_creation_input_token_cost":           "cache_write_5m",
		"cache_creation_input_token_cost_above_1hr": "cache_write_1h",
		"input_cost_per_audio_token":                "input_audio",
		"output_cost_per_audio_token":               "output_audio",
		"input_cost_per_image_token":                "input_image",
		"output_cost_per_image_token":               "output_image",
	}
	tier := regexp.MustCompile(`^(.*)_above_(\d+)k_tokens$`)

	var claims []claim
	for name, v := range readList(t, "litellm_model_prices.2026-08-01.json").(map[string]any) {
		m, _ := v.(map[string]any)
		listed, _ := m["litellm_provider"].(string)
		provider, ok := providers[listed]
		if _, priced := m["input_cost_per_token"]; !ok || !priced || strings.Count(name, "/") > 1 {
			continue // other hosts' models, and those charged by the piece
		}
		c := claim{list: "litellm", provider: provider, model: strings.TrimPrefix(name, "gemini/"), at: at}
		for key, v := range m {
			c.above = 0
			if parts := tier.FindStringSubmatch(key); parts != nil {
				key = parts[1]
				c.above = nanoOf(t, json.Number(parts[2]), 1000) / 1_000_000_000
			}
			if c.class = classes[key]; c.class != "" {
				claims = c.add(t, claims, v, 1_000_000)
			}
		}
		c.above, c.class = 0, "web_search"
		if fees, ok := m["search_context_cost_per_query"].(map[string]any); ok {
			claims = c.add(t, claims, fees["search_context_size_medium"], 1)
		}
	}
	return claims
}

func genaiPrices(t *testing.T) []claim {
	classes := map[string]string{
		"input_mtok": "input", "output_mtok": "output", "cache_read_mtok": "cache_read",
		"cache_write_mtok": "cache_write_5m", "cache_write_1h_mtok": "cache_write_1h",
		"input_audio_mtok": "input_audio", "output_audio_mtok": "output_audio",
		"input_image_mtok": "input_image", "output_image_mtok": "output_image",
		"web_searches_kcount": "web_search",
	}
	var claims []claim
	add := func(c claim, prices map[string]any) {
		for key, v := range prices {
			c.above = 0
			if c.class = classes[key]; c.class == "" {
				continue
			}
			scale := int64(1)
			if c.class == "web_search" {
				scale = -1000
			}
			tiers, ok := v.(map[string]any)
			if !ok {
				claims = c.add(t, claims, v, scale)
				continue
			}
			claims = c.add(t, claims, tiers["base"], scale)
			for _, v := range tiers["tiers"].([]any) {
				tier := v.(map[string]any)
				c.above = nanoOf(t, tier["start"], 1) / 1_000_000_000
				claims = c.add(t, claims, tier["price"], scale)
			}
		}
	}
	for _, v := range readList(t, "genai-prices.v2.data.2026-08-21.json").([]any) {
		p := v.(map[string]any)
		provider := p["id"].(string)
		if provider != OpenAI && provider != Anthropic && provider != Google {
			continue
		}
		for _, v := range p["models"].([]any) {
			m := v.(map[string]any)
			id := m["id"].(string)
			if provider == Google && strings.HasPrefix(id, "claude-") {
				continue // Vertex AI
			}
			names := []string{id}
			for _, name := range equals(m["match"]) {
				if name != id && Default().find(provider, name) != nil { // many are names that no API has
					names = append(names, name)
				}
			}
			for _, name := range names {
				c := claim{list: "genai", provider: provider, model: name, at: asOf}
				if prices, ok := m["prices"].(map[string]any); ok {
					add(c, prices)
					continue
				}
				var until time.Time
				for _, v := range slices.Backward(m["prices"].([]any)) {
					conditional := v.(map[string]any)
					if constraint, ok := conditional["constraint"].(map[string]any); ok {
						var err error
						c.at, err = time.Parse(time.DateOnly, constraint["start_date"].(string))
						require.NoError(t, err)
						until = c.at
					} else {
						c.at = until.Add(-1)
					}
					add(c, conditional["prices"].(map[string]any))
				}
			}
		}
	}
	return claims
}

func modelsDev(t *testing.T) []claim {
	at := time.Date(2026, time.July, 2, 0, 0, 0, 0, time.UTC)
	classes := map[string]string{
		"input": "input", "output": "output", "cache_read": "cache_read", "cache_write": "cache_write_5m",
		"input_audio": "input_audio", "output_audio": "output_audio", "reasoning": "reasoning",
	}
	var claims []claim
	all := readList(t, "models.dev.api.2026-07-02.json").(map[string]any)
	for _, provider := range []string{OpenAI, Anthropic, Google} {
		for name, v := range all[provider].(map[string]any)["models"].(map[string]any) {
			cost, ok := v.(map[string]any)["cost"].(map[string]any)
			if !ok {
				continue
			}
			sets := []any{cost}
			if tiers, ok := cost["tiers"].([]any); ok {
				sets = append(sets, tiers...)
			}
			for _, v := range sets {
				set := v.(map[string]any)
				c := claim{list: "models.dev", provider: provider, model: name, at: at}
				if tier, ok := set["tier"].(map[string]any); ok {
					c.above = nanoOf(t, tier["size"], 1) / 1_000_000_000
				}
				for key, v := range set {
					if c.class = classes[key]; c.class != "" {
						claims = c.add(t, claims, v, 1)
					}
				}
			}
		}
	}
	return claims
}

// equals returns the exact names in a matcher of genai-prices.
func equals(matcher any) []string {
	var names []string
	switch m := matcher.(type) {
	case []any:
		for _, v := range m {
			names = append(names, equals(v)...)
		}
	case map[string]any:
		if name, ok := m["equals"].(string); ok {
			names = append(names, name)
		}
		names = append(names, equals(m["or"])...)
	}
	return names
}

// add appends the claim with a figure, if there is one: the lists have zeros for what they do not know.
func (c claim) add(t *testing.T, claims []claim, figure any, scale int64) []claim {
	t.Helper()
	if figure == nil {
		return claims
	}
	if c.nano = nanoOf(t, figure, scale); c.nano == 0 {
		return claims
	}
	return append(claims, c)
}

// nanoOf returns figure times scale (or divided by -scale) in billionths, exactly.
func nanoOf(t *testing.T, figure any, scale int64) int64 {
	t.Helper()
	n, ok := figure.(json.Number)
	require.True(t, ok, "%v", figure)
	r, ok := new(big.Rat).SetString(n.String())
	require.True(t, ok, "%v", figure)
	if scale > 0 {
		r.Mul(r, big.NewRat(scale, 1))
	} else {
		r.Quo(r, big.NewRat(-scale, 1))
	}
	r.Mul(r, big.NewRat(1_000_000_000, 1))
	require.True(t, r.IsInt() && r.Num().IsInt64(), "%v", figure)
	return r.Num().Int64()
}

func readList(t *testing.T, name string) any {
	t.Helper()
	f, err := os.Open(filepath.Join(lists, name))
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	dec := json.NewDecoder(f)
	dec.UseNumber()
	var list any
	require.NoError(t, dec.Decode(&list))
	return list
}
