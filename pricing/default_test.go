package pricing

import (
	"cmp"
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/units"
)

// asOf is a time at which the rows for the date of the book are in force.
var asOf = time.Date(2026, time.September, 23, 0, 0, 0, 0, time.UTC)

func embedded(t *testing.T) table {
	t.Helper()
	tab, err := readTable(bookJSON)
	require.NoError(t, err)
	return tab
}

func TestTable_IsValid(t *testing.T) {
	t.Parallel()
	tab := embedded(t)
	b, err := tab.book()
	require.NoError(t, err)
	require.Equal(t, b, Default())
	first := Default()
	require.Same(t, first, Default(), "it is read once")

	require.Equal(t, asOf.Format(time.DateOnly), tab.AsOf)
	require.NotEmpty(t, tab.Notes)
	for _, e := range tab.Rows {
		require.Contains(t, tab.Sources, e.Source, e.Model)
	}
}

func TestTable_ThatIsMalformedIsAnError(t *testing.T) {
	t.Parallel()
	_, err := readTable([]byte(`{"rows": [{"model": "m", "inptu": "1"}]}`))
	require.ErrorContains(t, err, "inptu")
	_, err = readTable([]byte(`{"rows": [`))
	require.Error(t, err)
	_, err = table{AsOf: "yesterday"}.book()
	require.ErrorContains(t, err, "as_of")
}

// The order and the spelling are fixed so that a change of one price is a change of one line, and so that no line can
// hold a key twice.
func TestTable_HasOneRowALineInOrder(t *testing.T) {
	t.Parallel()
	tab := embedded(t)
	_, rest, ok := strings.Cut(string(bookJSON), "\"rows\": [\n")
	require.True(t, ok)
	lines := strings.Split(rest, "\n")
	require.Equal(t, []string{"  ]", "}", ""}, lines[len(tab.Rows):])

	before := ""
	for i, e := range tab.Rows {
		want, err := json.Marshal(e)
		require.NoError(t, err)
		require.Equal(t, string(want), strings.TrimSuffix(strings.TrimSpace(lines[i]), ","))

		key := strings.Join([]string{e.Provider, e.Model, e.From.Format(time.RFC3339)}, "\x00")
		require.Less(t, before, key, "rows are sorted by provider, model and from")
		before = key
	}
}

func TestTable_EveryRateIsWithinReason(t *testing.T) {
	t.Parallel()
	const dollar = 1_000_000_000
	for _, e := range embedded(t).Rows {
		p, err := e.price()
		require.NoError(t, err)
		for _, s := range append([]tenant.Service{{Rates: p.Rates, Tiers: p.Tiers}}, p.Services...) {
			for _, tier := range append([]tenant.Tier{{Rates: s.Rates}}, s.Tiers...) {
				r, at := tier.Rates, []any{e.Provider, e.Model, s.Name, tier.Above}
				for _, n := range each(r) {
					require.LessOrEqual(t, n, int64(1000*dollar), at...)
					require.GreaterOrEqual(t, n, int64(0), at...)
				}
				require.LessOrEqual(t, r.CacheRead, max(r.Input, r.InputImage), at...)
				require.LessOrEqual(t, r.WebSearch, int64(dollar/10), at...)
				require.LessOrEqual(t, r.Request, int64(dollar/10), at...)
				if r.CacheWrite5m != 0 {
					require.GreaterOrEqual(t, r.CacheWrite5m, r.Input, at...)
				}
				if r.CacheWrite1h != 0 && s.Name == "" {
					require.Equal(t, 2*r.Input, r.CacheWrite1h, at...)
				}
				if tier.Above > 0 {
					require.Contains(t, []int64{128_000, 200_000, 256_000, 272_000, 512_000}, tier.Above, at...)
					require.Greater(t, r.Input, p.Input/2, at...)
					require.Equal(t, p.WebSearch, r.WebSearch, at...)
				}
			}
		}
		for _, tier := range p.Tiers {
			require.GreaterOrEqual(t, tier.Input, p.Input, e.Model)
			require.GreaterOrEqual(t, tier.Output, p.Output, e.Model)
			require.Equal(t, p.CacheRead == 0, tier.CacheRead == 0, e.Model)
			require.Equal(t, p.CacheWrite1h == 0, tier.CacheWrite1h == 0, e.Model)
		}
		for _, s := range p.Services {
			switch s.Name {
			case "batch", "flex":
				require.Less(t, s.Input, p.Input, e.Model)
				require.LessOrEqual(t, s.Output, p.Output, e.Model)
			case "priority", "fast":
				require.Greater(t, s.Input, p.Input, e.Model)
				require.GreaterOrEqual(t, s.Output, p.Output, e.Model)
			case "low", "medium":
				require.Less(t, s.Request, p.Request, e.Model)
				s.Request = p.Request
				require.Equal(t, p.Rates, s.Rates, e.Model)
			default:
				t.Errorf("%s %s: a service named %q", e.Provider, e.Model, s.Name)
			}
		}
	}
}

// Free is what is said to be: a model's zero is a price, and never a want of one.
func TestTable_NothingIsFreeButWhatIsNamedSo(t *testing.T) {
	t.Parallel()
	for _, e := range embedded(t).Rows {
		free := e.Provider == OpenRouter && strings.HasSuffix(e.Model, ":free") || e.Provider == Ollama && e.Model == Any
		require.Equal(t, free, e.Input == "0", "%s %s", e.Provider, e.Model)
		if e.Output == "0" && !free {
			require.Regexp(t, `emb|^ada$`, e.Model, e.Provider)
		}
	}
}

func TestTable_HasTheProvidersThatItNames(t *testing.T) {
	t.Parallel()
	models := make(map[string]map[string]bool)
	total := 0
	for _, e := range embedded(t).Rows {
		if models[e.Provider] == nil {
			models[e.Provider] = make(map[string]bool)
		}
		if !models[e.Provider][e.Model] {
			total++
		}
		models[e.Provider][e.Model] = true
	}
	require.Greater(t, total, 1300)
	require.Len(t, models, len(providers))
	for name := range providers {
		require.NotEmpty(t, models[name], name)
	}
}

func each(r tenant.Rates) []int64 {
	return []int64{
		r.Input, r.CacheRead, r.CacheWrite5m, r.CacheWrite1h, r.Output, r.Reasoning,
		r.InputAudio, r.CacheReadAudio, r.OutputAudio, r.InputImage, r.OutputImage, r.WebSearch, r.Request,
	}
}

func TestBook_WellKnownModelsHaveTheirPublishedPrices(t *testing.T) {
	t.Parallel()
	const (
		cent = 10_000_000
		mill = cent / 10
	)
	for _, c := range []struct {
		provider, model string
		want            tenant.Rates
	}{
		{OpenAI, "gpt-3.5-turbo", tenant.Rates{Input: 50 * cent, Output: 150 * cent}},
		{OpenAI, "gpt-4", tenant.Rates{Input: 3000 * cent, Output: 6000 * cent}},
		{OpenAI, "gpt-4-turbo", tenant.Rates{Input: 1000 * cent, Output: 3000 * cent}},
		{OpenAI, "gpt-4o", tenant.Rates{
			Input: 250 * cent, CacheRead: 125 * cent, Output: 1000 * cent, WebSearch: cent,
		}},
		{OpenAI, "gpt-4o-2024-05-13", tenant.Rates{Input: 500 * cent, Output: 1500 * cent}},
		{OpenAI, "gpt-4o-mini", tenant.Rates{
			Input: 15 * cent, CacheRead: 75 * mill, Output: 60 * cent, WebSearch: cent,
		}},
		{OpenAI, "gpt-4o-audio-preview", tenant.Rates{
			Input: 250 * cent, Output: 1000 * cent, InputAudio: 4000 * cent, OutputAudio: 8000 * cent,
		}},
		{OpenAI, "gpt-4.1", tenant.Rates{Input: 200 * cent, CacheRead: 50 * cent, Output: 800 * cent, WebSearch: cent}},
		{OpenAI, "gpt-4.1-mini", tenant.Rates{
			Input: 40 * cent, CacheRead: 10 * cent, Output: 160 * cent, WebSearch: cent,
		}},
		{OpenAI, "gpt-4.1-nano", tenant.Rates{Input: 10 * cent, CacheRead: 25 * mill, Output: 40 * cent}},
		{OpenAI, "gpt-5", tenant.Rates{Input: 125 * cent, CacheRead: 125 * mill, Output: 1000 * cent, WebSearch: cent}},
		{OpenAI, "gpt-5-mini", tenant.Rates{
			Input: 25 * cent, CacheRead: 25 * mill, Output: 200 * cent, WebSearch: cent,
		}},
		{OpenAI, "gpt-5-nano", tenant.Rates{Input: 5 * cent, CacheRead: 5 * mill, Output: 40 * cent, WebSearch: cent}},
		{OpenAI, "gpt-5.2", tenant.Rates{
			Input: 175 * cent, CacheRead: 175 * mill, Output: 1400 * cent, WebSearch: cent,
		}},
		{OpenAI, "gpt-5.6-luna", tenant.Rates{
			Input: 20 * cent, CacheRead: 2 * cent, CacheWrite5m: 25 * cent, Output: 120 * cent, WebSearch: cent,
		}},
		{OpenAI, "gpt-image-1.5", tenant.Rates{
			Input: 500 * cent, CacheRead: 125 * cent, Output: 1000 * cent, InputImage: 800 * cent, OutputImage: 3200 * cent,
		}},
		{OpenAI, "o1-pro", tenant.Rates{Input: 15000 * cent, Output: 60000 * cent}},
		{OpenAI, "o3", tenant.Rates{Input: 200 * cent, CacheRead: 50 * cent, Output: 800 * cent, WebSearch: cent}},
		{OpenAI, "o4-mini", tenant.Rates{
			Input: 110 * cent, CacheRead: 275 * mill, Output: 440 * cent, WebSearch: cent,
		}},
		{OpenAI, "text-embedding-3-small", tenant.Rates{Input: 2 * cent}},
		{Anthropic, "claude-3-haiku-20240307", tenant.Rates{
			Input: 25 * cent, CacheRead: 3 * cent, CacheWrite5m: 30 * cent, CacheWrite1h: 50 * cent, Output: 125 * cent,
		}},
		{Anthropic, "claude-haiku-4-5", tenant.Rates{
			Input: 100 * cent, CacheRead: 10 * cent, CacheWrite5m: 125 * cent, CacheWrite1h: 200 * cent, Output: 500 * cent,
			WebSearch: cent,
		}},
		{Anthropic, "claude-sonnet-4-6", tenant.Rates{
			Input: 300 * cent, CacheRead: 30 * cent, CacheWrite5m: 375 * cent, CacheWrite1h: 600 * cent, Output: 1500 * cent,
			WebSearch: cent,
		}},
		{Anthropic, "claude-opus-4-1", tenant.Rates{
			Input: 1500 * cent, CacheRead: 150 * cent, CacheWrite5m: 1875 * cent, CacheWrite1h: 3000 * cent,
			Output: 7500 * cent, WebSearch: cent,
		}},
		{Anthropic, "claude-opus-5", tenant.Rates{
			Input: 500 * cent, CacheRead: 50 * cent, CacheWrite5m: 625 * cent, CacheWrite1h: 1000 * cent, Output: 2500 * cent,
			WebSearch: cent,
		}},
		{Google, "gemini-2.0-flash", tenant.Rates{
			Input: 10 * cent, CacheRead: 25 * mill, Output: 40 * cent, InputAudio: 70 * cent, CacheReadAudio: 175 * mill, WebSearch: 35 * mill,
		}},
		{Google, "gemini-2.5-flash", tenant.Rates{
			Input: 30 * cent, CacheRead: 3 * cent, Output: 250 * cent, InputAudio: 100 * cent, CacheReadAudio: 10 * cent, WebSearch: 35 * mill,
		}},
		{Google, "gemini-2.5-pro", tenant.Rates{
			Input: 125 * cent, CacheRead: 125 * mill, Output: 1000 * cent, WebSearch: 35 * mill,
		}},
		{Google, "gemini-3-pro-image", tenant.Rates{
			Input: 200 * cent, Output: 1200 * cent, OutputImage: 12000 * cent, WebSearch: 14 * mill,
		}},
		{Google, "gemini-3.5-flash", tenant.Rates{
			Input: 150 * cent, CacheRead: 15 * cent, Output: 900 * cent, WebSearch: 14 * mill,
		}},
		{Google, "gemini-embedding-001", tenant.Rates{Input: 15 * cent}},
	} {
		p, ok := Default().Price(c.provider, c.model, asOf)
		require.True(t, ok, c.model)
		p.Units = nil // of tools
		require.Equal(t, c.want, p.Rates, c.model)
	}
}

func TestBook_PricesChangeOnTheirDates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		provider, model, first string
		before, after          int64 // input, in cents
	}{
		{OpenAI, "o3", "2025-06-10", 1000, 200},
		{OpenAI, "gpt-5.6-terra", "2026-07-30", 250, 200},
		{OpenAI, "gpt-5.6-luna", "2026-07-30", 100, 20},
		{OpenAI, "gpt-5.6-sol", "2026-08-21", 500, 400},
		{Google, "gemini-3.6-flash", "2027-01-01", 75, 150},
		{Google, "gemini-3.8-flash", "2027-01-01", 75, 150},
		{Bedrock, "openai.gpt-5.6-luna", "2026-07-30", 110, 22},
		{Bedrock, "global.openai.gpt-5.6-sol", "2026-08-21", 500, 400},
		{Bedrock, "in.openai.gpt-5.6-sol", "2026-08-21", 550, 440},
	} {
		first, err := time.Parse(time.DateOnly, c.first)
		require.NoError(t, err)
		p, ok := Default().Price(c.provider, c.model, first.Add(-1))
		require.True(t, ok)
		require.Equal(t, c.before*10_000_000, p.Input, c.model)
		p, ok = Default().Price(c.provider, c.model, first)
		require.True(t, ok)
		require.Equal(t, c.after*10_000_000, p.Input, c.model)
	}

	flat := time.Date(2026, time.March, 13, 0, 0, 0, 0, time.UTC)
	for _, model := range []string{"claude-opus-4-6", "claude-sonnet-4-6"} {
		p, _ := Default().Price(Anthropic, model, flat.Add(-1))
		require.Len(t, p.Tiers, 1)
		p, _ = Default().Price(Anthropic, model, flat)
		require.Empty(t, p.Tiers)
	}
}

func TestBook_ACallCostsWhatItsDisjointClassesCost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		provider, model string
		usage           tenant.Usage
		nano            int64
	}{
		"nothing":            {OpenAI, "gpt-4o", tenant.Usage{}, 0},
		"one token of input": {OpenAI, "gpt-4o", tenant.Usage{Input: 1}, 2_500},
		"each class at its own rate": {
			Anthropic, "claude-opus-5",
			tenant.Usage{Input: 1, CacheRead: 10, CacheWrite5m: 100, CacheWrite1h: 1000, Output: 10000, WebSearches: 2},
			5_000 + 5_000 + 625_000 + 10_000_000 + 250_000_000 + 20_000_000,
		},
		"reasoning is output": {OpenAI, "o3", tenant.Usage{Output: 3, Reasoning: 7}, 80_000},
		"audio and text apart": {
			OpenAI, "gpt-audio-mini",
			tenant.Usage{Input: 10, InputAudio: 10, Output: 10, OutputAudio: 10},
			6_000 + 100_000 + 24_000 + 200_000,
		},
		"images and text apart": {
			Google, "gemini-2.5-flash-image",
			tenant.Usage{Input: 100, InputImage: 258, Output: 10, OutputImage: 1290},
			30_000 + 77_400 + 25_000 + 38_700_000,
		},
		"cache reads without a rate": {OpenAI, "gpt-5-pro", tenant.Usage{CacheRead: 2}, 30_000},
		"cache writes without a rate": {
			Google, "gemini-2.5-pro",
			tenant.Usage{CacheWrite5m: 1, CacheWrite1h: 1},
			2_500,
		},

		"a whole prompt at the threshold": {
			OpenAI, "gpt-5.6-sol",
			tenant.Usage{Input: 272_000, Output: 1000},
			1_088_000_000 + 20_000_000,
		},
		"one token above it": {
			OpenAI, "gpt-5.6-sol",
			tenant.Usage{Input: 272_001, Output: 1000},
			2_176_008_000 + 30_000_000,
		},
		"all input classes count for it": {
			Google, "gemini-3.1-pro-preview",
			tenant.Usage{Input: 1, CacheRead: 199_998, InputImage: 2, Output: 1},
			4_000 + 79_999_200 + 8_000 + 18_000,
		},
		"at Anthropic too, at the threshold": {
			Anthropic, "claude-sonnet-4-5",
			tenant.Usage{CacheRead: 100_000, CacheWrite5m: 60_000, CacheWrite1h: 40_000, Output: 1},
			30_000_000 + 225_000_000 + 240_000_000 + 15_000,
		},
		"and one token above it": {
			Anthropic, "claude-sonnet-4-5",
			tenant.Usage{Input: 1, CacheRead: 100_000, CacheWrite5m: 60_000, CacheWrite1h: 40_000, Output: 1},
			6_000 + 60_000_000 + 450_000_000 + 480_000_000 + 22_500,
		},
		"and audio": {
			Vertex, "gemini-3.1-pro-preview",
			tenant.Usage{Input: 100_000, InputAudio: 100_001},
			800_004_000,
		},
		"audio from a cache": {
			Google, "gemini-2.5-flash",
			tenant.Usage{CacheRead: 1000, CacheReadAudio: 1000, InputAudio: 1000},
			30_000 + 100_000 + 1_000_000,
		},
		"output does not": {
			Google, "gemini-3.1-pro-preview",
			tenant.Usage{Input: 200_000, Output: 1},
			400_000_000 + 12_000,
		},
		"128k": {Google, "gemini-1.5-flash", tenant.Usage{Input: 128_001}, 19_200_150},
		"the tier keeps the fee": {
			Anthropic, "claude-sonnet-4-5",
			tenant.Usage{Input: 200_001, WebSearches: 1},
			1_200_006_000 + 10_000_000,
		},

		"half a nano-dollar is rounded up":  {Google, "gemini-1.5-flash-8b", tenant.Usage{Input: 1}, 38},
		"the sum is rounded, not its parts": {Google, "gemini-1.5-flash-8b", tenant.Usage{Input: 1, InputImage: 1}, 75},
	} {
		p, ok := Default().Price(c.provider, c.model, asOf)
		require.True(t, ok, name)
		require.Equal(t, c.nano, inNano(p.Cost(c.usage)), name)
	}

	b, err := New(Row{Provider: "acme", Model: "m", Rates: Rates{Input: "0.0000005", Output: "0.000000499"}})
	require.NoError(t, err)
	p, _ := b.Price("acme", "m", asOf)
	for usage, nano := range map[tenant.Usage]int64{
		{Input: 1000}:               1, // 0.5
		{Input: 999}:                0, // 0.4995
		{Output: 1000}:              0, // 0.499
		{Output: 1000, Input: 2}:    1, // 0.5
		{Input: 3000}:               2, // 1.5
		{Input: 1000, Output: 1000}: 1, // 0.999
	} {
		require.Equal(t, nano, inNano(p.Cost(usage)), "%+v", usage)
	}
}

// The documentation's table of providers is the book's.
func TestDocumentation_CountsTheModels(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/prices.md")
	require.NoError(t, err)
	models, services := make(map[string]map[string]bool), make(map[string]map[string]bool)
	lists := make(map[string]map[string]int)
	tab := embedded(t)
	for _, e := range tab.Rows {
		if models[e.Provider] == nil {
			models[e.Provider], services[e.Provider] = make(map[string]bool), make(map[string]bool)
			lists[e.Provider] = make(map[string]int)
		}
		lists[e.Provider][e.Source]++
		models[e.Provider][e.Model] = true
		for name := range e.Services {
			services[e.Provider][name] = true
		}
	}
	rows := regexp.MustCompile("(?m)^\\| [^|]* \\| `([a-z]+)` \\| (\\d+) \\| ([^|]*) \\| ([^|]*)\\| ([^|]*) \\|$").FindAllStringSubmatch(string(page), -1)
	require.Len(t, rows, len(providers))
	for _, row := range rows {
		require.Equal(t, strconv.Itoa(len(models[row[1]])), row[2], row[1])
		require.Equal(t, strings.Join(slices.Sorted(maps.Keys(services[row[1]])), ", "), strings.TrimSpace(row[4]), row[1])
		most := slices.MaxFunc(slices.Sorted(maps.Keys(lists[row[1]])), func(a, b string) int {
			return cmp.Compare(lists[row[1]][a], lists[row[1]][b])
		})
		require.Contains(t, tab.Sources[most], row[3], row[1])
		require.Equal(t, providers[row[1]].reported, row[5] == "as reported", row[1])
	}
}

// Grounding by a map has a fee of its own, which no list has.
func TestDefault_GroundingByMapsHasAFee(t *testing.T) {
	t.Parallel()
	for model, want := range map[string]int64{"gemini-2.5-flash": 25_000_000, "gemini-3-flash-preview": 14_000_000} {
		price, ok := Default().Price(Google, model, time.Now())
		require.True(t, ok, model)
		require.Equal(t, want, inNano(price.Bill(tenant.Usage{Units: units.Of(units.MapGroundings, 1)}).Fees), model)
	}
}

// inNano is an amount in nano-dollars.
func inNano(d decimal.Decimal) int64 { return d.Shift(9).IntPart() }
