package pricing_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/pricing"
	"github.com/llmtenant/tenant/units"
)

// A list in LiteLLM's form.
const litellmList = `{
  "sample_spec": {"litellm_provider": "one of https://…", "input_cost_per_token": "a number"},
  "claude-rules": {"rules": []},
  "gpt-9": {
    "litellm_provider": "openai", "mode": "chat", "max_tokens": 1000, "supports_vision": true,
    "input_cost_per_token": 2.5e-06, "output_cost_per_token": 0.000015, "cache_read_input_token_cost": 2.5e-07,
    "input_cost_per_token_above_272k_tokens": 5e-06, "output_cost_per_token_above_272k_tokens": 2.25e-05,
    "input_cost_per_token_batches": 1.25e-06, "output_cost_per_token_batches": 7.5e-06,
    "input_cost_per_token_priority": 5e-06, "output_cost_per_token_priority": 3e-05,
    "input_cost_per_token_above_272k_tokens_priority": 1e-05,
    "search_context_cost_per_query": {"search_context_size_low": 0.01, "search_context_size_medium": 0.02, "search_context_size_high": 0.03}
  },
  "azure/gpt-9": {"litellm_provider": "azure", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06},
  "azure_ai/gpt-9": {"litellm_provider": "azure_ai", "mode": "chat", "input_cost_per_token": 7e-06, "output_cost_per_token": 7e-06},
  "vertex_ai/claude-9": {
    "litellm_provider": "vertex_ai-anthropic_models", "mode": "chat", "input_cost_per_token": 3e-06, "output_cost_per_token": 1.5e-05,
    "cache_creation_input_token_cost": 3.75e-06, "cache_creation_input_token_cost_above_1hr": 6e-06
  },
  "openrouter/acme/m:free": {"litellm_provider": "openrouter", "mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 0.0},
  "openrouter/acme/auto": {"litellm_provider": "openrouter", "mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 0},
  "perplexity/sonar-9": {
    "litellm_provider": "perplexity", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06,
    "search_context_cost_per_query": {"search_context_size_low": 0.005, "search_context_size_high": 0.012}
  },
  "deepseek/deepseek-9": {
    "litellm_provider": "deepseek", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06,
    "input_cost_per_token_cache_hit": 1e-07
  },
  "text-embedding-9": {"litellm_provider": "openai", "mode": "embedding", "input_cost_per_token": 2e-08},
  "noise": {"litellm_provider": "acme", "mode": "chat", "input_cost_per_token": 2.9999900000000002e-06, "output_cost_per_token": 1.00000000000000049e-15},
  "painter": {"litellm_provider": "openai", "mode": "image_generation", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06, "output_cost_per_image": 0.04},
  "acme/*": {"litellm_provider": "acme", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06},
  "ranges": {"litellm_provider": "acme", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06, "tiered_pricing": []},
  "ollama/llama9": {"litellm_provider": "ollama", "mode": "chat", "input_cost_per_token": 0.0, "output_cost_per_token": 0.0}
}`

// A list in models.dev's form.
const modelsDevList = `{
  "openai": {"id": "openai", "models": {
    "gpt-9": {"id": "gpt-9", "cost": {"input": 2.5, "output": 15, "cache_read": 0.30000000000000004,
      "tiers": [{"input": 5, "output": 22.5, "tier": {"size": 272000}}]}},
    "gpt-8": {"id": "gpt-8", "cost": {"input": 1, "output": 2, "reasoning": 3, "context_over_200k": {"input": 2, "output": 4}}},
    "painter": {"id": "painter"},
    "unknown": {"id": "unknown", "cost": {"input": 0, "output": 0}},
    "by-the-hour": {"id": "by-the-hour", "cost": {"input": 1, "output": 1, "tiers": [{"input": 2, "output": 2, "tier": {"type": "hour"}}]}}
  }},
  "google-vertex-anthropic": {"models": {"claude-9@default": {"cost": {"input": 3, "output": 15, "cache_write": 3.75}}}},
  "openrouter": {"models": {"acme/m:free": {"cost": {"input": 0, "output": 0}}, "acme/m": {"cost": {"input": 1, "output": 1}}}},
  "gateway": {"models": {"gpt-9": {"cost": {"input": 9, "output": 9}}}}
}`

func TestLoad_ReadsLiteLLMsList(t *testing.T) {
	t.Parallel()
	book, err := pricing.Load(iotest.HalfReader(strings.NewReader(litellmList)))
	require.NoError(t, err)
	for _, c := range []struct {
		provider, model, service string
		want                     tenant.Rates
		above                    int64
		tier                     tenant.Rates
	}{
		{
			"openai", "gpt-9", "", tenant.Rates{Input: 2.5e9, CacheRead: 25e7, Output: 15e9, WebSearch: 2e7},
			272_000, tenant.Rates{Input: 5e9, CacheRead: 25e7, Output: 22.5e9, WebSearch: 2e7},
		},
		{
			"openai", "gpt-9", "batch", tenant.Rates{Input: 1.25e9, CacheRead: 25e7, Output: 7.5e9, WebSearch: 2e7},
			272_000, tenant.Rates{Input: 5e9, CacheRead: 25e7, Output: 22.5e9, WebSearch: 2e7},
		},
		{
			"openai", "gpt-9", "priority", tenant.Rates{Input: 5e9, CacheRead: 25e7, Output: 30e9, WebSearch: 2e7},
			272_000, tenant.Rates{Input: 10e9, CacheRead: 25e7, Output: 22.5e9, WebSearch: 2e7},
		},
		{"azure", "gpt-9", "", tenant.Rates{Input: 1e9, Output: 2e9}, 0, tenant.Rates{}},
		{"vertex", "claude-9", "", tenant.Rates{Input: 3e9, CacheWrite5m: 3.75e9, CacheWrite1h: 6e9, Output: 15e9}, 0, tenant.Rates{}},
		{"openrouter", "acme/m:free", "", tenant.Rates{}, 0, tenant.Rates{}},
		{"perplexity", "sonar-9", "", tenant.Rates{Input: 1e9, Output: 1e9, Request: 12e6}, 0, tenant.Rates{}},
		{"deepseek", "deepseek-9", "", tenant.Rates{Input: 1e9, CacheRead: 1e8, Output: 1e9}, 0, tenant.Rates{}},
		{"", "text-embedding-9", "", tenant.Rates{Input: 2e7}, 0, tenant.Rates{}},
		{"acme", "noise", "", tenant.Rates{Input: 2_999_990_000, Output: 1}, 0, tenant.Rates{}},
		{"ollama", "llama9", "", tenant.Rates{}, 0, tenant.Rates{}},
		{"ollama", "of-my-own", "", tenant.Rates{}, 0, tenant.Rates{}},
		{"", "gpt-9", "", tenant.Rates{Input: 2.5e9, CacheRead: 25e7, Output: 15e9, WebSearch: 2e7}, 272_000, tenant.Rates{
			Input: 5e9, CacheRead: 25e7, Output: 22.5e9, WebSearch: 2e7,
		}},
	} {
		p, ok := book.Price(c.provider, c.model, today)
		require.True(t, ok, "%s %s", c.provider, c.model)
		p = p.ForService(c.service)
		require.Equal(t, c.want, p.Rates, "%s %s %s", c.provider, c.model, c.service)
		if c.above == 0 {
			require.Empty(t, p.Tiers, c.model)
			continue
		}
		require.Equal(t, []tenant.Tier{{Above: c.above, Rates: c.tier}}, p.Tiers, "%s %s", c.model, c.service)
	}
	for _, c := range [][2]string{
		{"", "sample_spec"}, {"", "claude-rules"}, {"openai", "painter"}, {"acme", "ranges"}, {"acme", "anything"}, {"openrouter", "acme/auto"},
		{"", "noise"}, {"", "claude-9"},
	} {
		_, ok := book.Price(c[0], c[1], today)
		require.False(t, ok, c)
	}
}

func TestLoad_ReadsModelsDevsList(t *testing.T) {
	t.Parallel()
	book, err := pricing.Load(strings.NewReader(modelsDevList))
	require.NoError(t, err)
	p, ok := book.Price("", "gpt-9", today)
	require.True(t, ok)
	require.Equal(t, tenant.Rates{Input: 2.5e9, CacheRead: 3e8, Output: 15e9}, p.Rates, "the noise of a float is rounded")
	require.Equal(t, []tenant.Tier{{Above: 272_000, Rates: tenant.Rates{Input: 5e9, CacheRead: 3e8, Output: 22.5e9}}}, p.Tiers)
	p, ok = book.Price("openai", "gpt-8", today)
	require.True(t, ok)
	require.Equal(t, int64(3e9), p.Reasoning)
	require.Equal(t, int64(200_000), p.Tiers[0].Above)
	p, ok = book.Price("vertex", "claude-9", today)
	require.False(t, ok, p.Row)
	p, ok = book.Price("vertex", "claude-9@default", today)
	require.True(t, ok)
	require.Equal(t, int64(3.75e9), p.CacheWrite5m)
	_, ok = book.Price("gateway", "gpt-9", today)
	require.True(t, ok)
	_, ok = book.Price("openrouter", "acme/m:free", today)
	require.True(t, ok)
	for _, model := range []string{"painter", "unknown", "by-the-hour"} {
		_, ok = book.Price("openai", model, today)
		require.False(t, ok, model)
	}
}

// What lists have beside the rates of a tier. A list of another day has fields that nobody knows today: they are no reason to
// refuse it.
func TestLoad_ReadsHowElseACallCanBeServedAndLeavesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	litellm, err := pricing.Load(strings.NewReader(`{
		"claude-9": {
			"litellm_provider": "anthropic", "mode": "chat", "input_cost_per_token": 5e-06, "output_cost_per_token": 2.5e-05, "cache_read_input_token_cost": 5e-07,
			"input_cost_per_token_above_1m_tokens": 1e-05, "output_cost_per_token_above_200k_tokens": 3e-05,
			"search_context_cost_per_query": {"search_context_size_medium": 0.01, "search_context_size_vast": 1},
			"provider_specific_entry": {"us": 1.1, "fast": 6.0, "cache": "titan", "eu": null, "Asia": 2, "slow": 1},
			"input_cost_per_smell": "pungent", "regional_processing_uplift_multiplier": true, "unheard_of": [{}]
		},
		"gpt-9": {
			"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06, "input_cost_per_token_priority": 2e-06,
			"regional_processing_uplift_multiplier_eu": 1.1, "provider_specific_entry": {"us": 1.1}
		},
		"bedrock-9": {"litellm_provider": "bedrock", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06, "provider_specific_entry": "x"},
		"perplexity/sonar-9": {
			"litellm_provider": "perplexity", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06,
			"search_context_cost_per_query": {"search_context_size_low": 0.005, "search_context_size_medium": 0.012, "search_context_size_high": 0.012}
		}
	}`))
	require.NoError(t, err)
	price := func(book *pricing.Book, provider, model, tier string) tenant.Price {
		p, ok := book.Price(provider, model, today)
		require.True(t, ok, model)
		return p.ForService(tier)
	}
	fees := int64(1e7)
	require.Equal(t, tenant.Rates{Input: 30e9, CacheRead: 3e9, Output: 150e9, WebSearch: fees}, price(litellm, "anthropic", "claude-9", "fast").Rates)
	require.Equal(t, []tenant.Tier{
		{Above: 200_000, Rates: tenant.Rates{Input: 30e9, CacheRead: 3e9, Output: 180e9, WebSearch: fees}},
		{Above: 1_000_000, Rates: tenant.Rates{Input: 60e9, CacheRead: 3e9, Output: 150e9, WebSearch: fees}},
	}, price(litellm, "anthropic", "claude-9", "fast").Tiers)
	require.Equal(t, []tenant.Uplift{{Name: "slow", Share: 1e9}, {Name: "us", Share: 1.1e9}}, price(litellm, "anthropic", "claude-9", "").Uplifts)
	require.Equal(t, []tenant.Uplift{{Name: "eu", Share: 1.1e9}}, price(litellm, "openai", "gpt-9", "").Uplifts)
	require.Equal(t, tenant.Rates{Input: 2.2e9, Output: 2.2e9}, price(litellm, "openai", "gpt-9", "priority+eu").Rates)
	require.Empty(t, price(litellm, "bedrock", "bedrock-9", "").Uplifts)
	require.Equal(t, int64(5e6), price(litellm, "perplexity", "sonar-9", "low").Request)
	require.Equal(t, int64(12e6), price(litellm, "perplexity", "sonar-9", "medium").Request)
	require.Equal(t, "perplexity/sonar-9", price(litellm, "perplexity", "sonar-9", "medium").Row, "it costs what the largest does")

	dev, err := pricing.Load(strings.NewReader(`{"acme": {"models": {
		"m": {
			"cost": {"input": 1, "output": 2, "cache_read": 0.1, "smell": "pungent", "tiers": [{"input": 2, "output": 4, "tier": {"type": "context", "size": 2e5}}]},
			"experimental": {"modes": {
				"quick": {"cost": {"input": 3, "output": 6}, "provider": {"body": {"speed": "fast"}}},
				"first": {"cost": {"input": 2, "output": 4}, "provider": {"body": {"service_tier": "priority"}}},
				"other": {"cost": {"input": 9, "output": 9}, "provider": {"headers": {"x": "y"}}}, "free": {}
			}}
		},
		"old": {"cost": {"input": 1, "output": 1}, "experimental": true},
		"odd": {"cost": {"input": 1, "output": 1}, "experimental": {"modes": [1]}}
	}}}`))
	require.NoError(t, err)
	require.Equal(t, tenant.Rates{Input: 3e9, CacheRead: 1e8, Output: 6e9}, price(dev, "acme", "m", "fast").Rates)
	require.Equal(t, tenant.Rates{Input: 2e9, CacheRead: 1e8, Output: 4e9}, price(dev, "acme", "m", "priority").Rates)
	require.Len(t, price(dev, "acme", "m", "").Services, 2)
	require.Equal(t, int64(200_000), price(dev, "acme", "m", "").Tiers[0].Above)
	require.Empty(t, price(dev, "acme", "old", "").Services)
	require.Empty(t, price(dev, "acme", "odd", "").Services)
}

func TestLoad_RefusesABadListWholeAndNamesModelAndField(t *testing.T) {
	t.Parallel()
	one := func(fields string) string {
		return `{"good": {"litellm_provider": "acme", "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6},
			"bad": {"litellm_provider": "acme", "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6, ` + fields + `}}`
	}
	dev := func(cost string) string {
		return `{"acme": {"models": {"good": {"cost": {"input": 1, "output": 1}}, "bad": {"cost": ` + cost + `}}}}`
	}
	for want, list := range map[string]string{
		"not a JSON object: the list is cut short":                           "",
		"not a JSON object: 5":                                               "5",
		"there is no price in it; a list of":                                 "[]",
		"there is no price in it":                                            "{}",
		"there is no price in it; a list":                                    `{"a": {"b": 1}}`,
		"after the beginning: the list is cut short":                         "{",
		"bad: cache_read_input_token_cost: -1e-7 is negative":                one(`"cache_read_input_token_cost": -1e-7`),
		`bad: cache_read_input_token_cost: "1e-7" is not a number`:           one(`"cache_read_input_token_cost": "1e-7"`),
		`bad: output_cost_per_audio_token: true is not a number`:             one(`"output_cost_per_audio_token": true`),
		`bad: output_cost_per_audio_token: {} is not a number`:               one(`"output_cost_per_audio_token": {}`),
		"bad: input_cost_per_token_flex: 1e400 is not a price":               one(`"input_cost_per_token_flex": 1e400`),
		"bad: input_cost_per_token_flex: 1e-400 is not a price":              one(`"input_cost_per_token_flex": 1e-400`),
		"bad: input_cost_per_token_priority: 2 is more than":                 one(`"input_cost_per_token_priority": 2`),
		"bad: output_cost_per_pixel: -1 is negative":                         one(`"mode": "image", "input_cost_per_pixel": 1, "output_cost_per_character": 1, "output_cost_per_pixel": -1`),
		"bad: input_cost_per_request: -1 is negative":                        one(`"input_cost_per_request": -1, "a_cost\nb": 1`),
		"bad: input_cost_per_image: -1 is negative":                          one(`"input_cost_per_image": -1`),
		"bad: search_context_cost_per_query: 1 is not a set":                 one(`"search_context_cost_per_query": 1`),
		"bad: search_context_cost_per_query: -1 is negative":                 one(`"search_context_cost_per_query": {"search_context_size_medium": -1}`),
		"bad: litellm_provider: 5 is not a name":                             `{"bad": {"litellm_provider": 5}}`,
		"good: it is there twice":                                            strings.Replace(one(`"x": 1`), "bad", "good", 1),
		"bad: the list is cut short":                                         strings.TrimSuffix(one(`"x": 1`), "}}"),
		"after bad: the list is cut short":                                   strings.TrimSuffix(one(`"x": 1`), "}"),
		"after bad: something follows the list":                              one(`"x": 1`) + "{}",
		"dev: it is models.dev's in a list of LiteLLM's":                     strings.TrimSuffix(one(`"x": 1`), "}") + `, "dev": {"models": {}}}`,
		"it is neither LiteLLM's nor models.dev's":                           `{"m": {"models": {}, "litellm_provider": "acme"}}`,
		"acme: bad: cost.input: -1 is negative":                              dev(`{"input": -1, "output": 1}`),
		`acme: bad: cost.reasoning: "1" is not a number`:                     dev(`{"input": 1, "output": 1, "reasoning": "1"}`),
		"acme: bad: cost.tiers[0].output: -1 is negative":                    dev(`{"input": 1, "output": 1, "tiers": [{"input": 1, "output": -1, "tier": {"size": 5}}]}`),
		"acme: bad: cost.tiers[0].tier.size: \"\" is not a number of tokens": dev(`{"input": 1, "output": 1, "tiers": [{"input": 1, "output": 1}]}`),
		"acme: bad: cost.context_over_200k.input: 2000000 is more than":      dev(`{"input": 1, "output": 1, "context_over_200k": {"input": 2000000}}`),
		"acme: not a JSON object: 5":                                         `{"acme": {"models": 5}}`,
		"there is no price in it; a":                                         `{"bad": "acme"}`,
		"invalid character":                                                  `{"bad": {"litellm_provider": nonsense}}`,
		"acme: bad: json: cannot unmarshal number into Go struct field":      dev(`5`),
		"acme: bad: cost.cache_write: 1.0000000000000000000000000000000000":  dev(`{"input": 1, "output": 1, "cache_write": 1.` + strings.Repeat("0", 200) + `}`),
	} {
		book, err := pricing.Load(strings.NewReader(list))
		require.ErrorContains(t, err, want, list)
		require.ErrorContains(t, err, "pricing: Load: ", list)
		require.Nil(t, book)
	}

	_, err := pricing.Load(iotest.ErrReader(os.ErrDeadlineExceeded))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

// endless is a reader of spaces without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestLoad_RefusesWhatIsLargerThanAnyList(t *testing.T) {
	t.Parallel()
	_, err := pricing.Load(io.MultiReader(strings.NewReader(`{"a": `), endless{}))
	require.ErrorContains(t, err, "pricing: Load: the list is larger than 64 MB")
}

// LiteLLM has some models twice, under two names of their provider.
func TestLoad_OfAModelThatIsThereTwiceEachAddsToTheOtherWhereTheyAgree(t *testing.T) {
	t.Parallel()
	twice := func(output string) tenant.Price {
		book, err := pricing.Load(strings.NewReader(`{
			"azure/m": {"litellm_provider": "azure", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06},
			"azure_ai/m": {"litellm_provider": "azure_ai", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": ` + output + `,
				"cache_read_input_token_cost": 1e-07, "input_cost_per_token_priority": 2e-06}
		}`))
		require.NoError(t, err)
		p, ok := book.Price("azure", "m", today)
		require.True(t, ok)
		return p
	}
	p := twice("2e-06")
	require.Equal(t, tenant.Rates{Input: 1e9, CacheRead: 1e8, Output: 2e9}, p.Rates)
	require.Len(t, p.Services, 1)
	p = twice("3e-06")
	require.Equal(t, tenant.Rates{Input: 1e9, Output: 2e9}, p.Rates, "of two that differ the one counts whose name is the provider's own")
	require.Empty(t, p.Services)
}

// Wherever a download stops, what is there is no list.
func TestLoad_RefusesAListThatIsCutShortAnywhere(t *testing.T) {
	t.Parallel()
	for _, list := range []string{litellmList, modelsDevList, genaiList} {
		for i := range len(list) {
			_, err := pricing.Load(strings.NewReader(list[:i]))
			require.Error(t, err, "the first %d bytes", i)
		}
	}
}

func TestLoad_ReadsThePublishedLists(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int{
		"litellm_model_prices.*.json": 2500, "models.dev.api.*.json": 4200, "genai-prices.npm-*.json": 1600,
	} {
		names, err := filepath.Glob(filepath.Join("../../shared/prices", name))
		require.NoError(t, err)
		if len(names) == 0 {
			t.Skip("the public price lists are no part of the repository, and are not on this machine")
		}
		f, err := os.Open(names[0])
		require.NoError(t, err)
		book, err := pricing.Load(f)
		require.NoError(t, f.Close())
		require.NoError(t, err)
		require.Greater(t, len(book.Rows()), want)
		p, ok := book.Price("openai", "gpt-4.1-mini-2025-04-14", today)
		require.True(t, ok)
		require.Equal(t, int64(400_000_000), p.Input)
		if whisper, ok := book.Price("openai", "whisper-1", today); ok { // not in models.dev's
			require.Equal(t, int64(6_000_000), inNano(whisper.Cost(tenant.Usage{Units: units.Of(units.InputAudio, 60_000)})))
		}

		over, err := pricing.Default().With(pricing.Override(book.Rows()...))
		require.NoError(t, err)
		require.Greater(t, len(over.Rows()), len(book.Rows()))
	}
}

func FuzzLoad(f *testing.F) {
	for _, list := range []string{litellmList, modelsDevList, genaiList, "", "{}", "[]", `{"a": {"litellm_provider": "openai"}}`} {
		f.Add([]byte(list))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		book, err := pricing.Load(strings.NewReader(string(data)))
		require.Equal(t, err == nil, book != nil)
		if err != nil {
			return
		}
		rows := book.Rows()
		require.NotEmpty(t, rows)
		for _, r := range rows {
			p, ok := book.Price(r.Provider, r.Model, today)
			if !ok {
				require.Equal(t, pricing.Any, r.Model, "%+v", r)
				continue
			}
			usage := tenant.Usage{Input: 1_000_000, CacheRead: 1, Output: 1_000_000}
			require.GreaterOrEqual(t, inNano(p.Cost(usage)), int64(0))
			free := r.Provider == pricing.Ollama || strings.HasSuffix(r.Model, ":free")
			require.True(t, free || inNano(p.Cost(usage)) > 0 || len(p.Units) > 0, "%+v is free", r)
		}
		_, err = pricing.New(rows...)
		require.NoError(t, err)
	})
}
