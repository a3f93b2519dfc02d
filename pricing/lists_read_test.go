package pricing

import (
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func litellm(t *testing.T) []claim {
	at := time.Date(2026, time.August, 1, 0, 0, 0, 0, time.UTC)
	providers := map[string]string{
		"openai": OpenAI, "text-completion-openai": OpenAI, "anthropic": Anthropic, "gemini": Google,
		"azure": Azure, "azure_ai": Azure, "azure_text": Azure, "bedrock": Bedrock, "bedrock_converse": Bedrock,
		"cohere": Cohere, "cohere_chat": Cohere, "xai": XAI, "deepseek": DeepSeek, "mistral": Mistral, "groq": Groq,
		"perplexity": Perplexity, "openrouter": OpenRouter, "vercel_ai_gateway": Vercel,
	}
	classes := map[string]string{
		"input_cost_per_token":                      "input",
		"output_cost_per_token":                     "output",
		"output_cost_per_reasoning_token":           "reasoning",
		"cache_read_input_token_cost":               "cache_read",
		"cache_read_input_audio_token_cost":         "cache_read_audio",
		"input_cost_per_token_cache_hit":            "cache_read",
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
		if listed == "azure_text" {
			listed = "azure"
		}
		if strings.HasPrefix(listed, "vertex_ai") {
			provider, ok = Vertex, true
			listed = "vertex_ai"
		}
		if _, priced := m["input_cost_per_token"]; !ok || !priced {
			continue // other hosts' models, and those charged by the piece
		}
		c := claim{list: "litellm", provider: provider, model: strings.TrimPrefix(name, listed+"/"), at: at}
		if c.model == name {
			c.twin = true
		}
		for key, v := range m {
			c.above, c.service = 0, ""
			for suffix, service := range map[string]string{"_batches": "batch", "_flex": "flex", "_priority": "priority"} {
				if rest, ok := strings.CutSuffix(key, suffix); ok {
					key, c.service = rest, service
				}
			}
			if parts := tier.FindStringSubmatch(key); parts != nil {
				key = parts[1]
				c.above = nanoOf(t, json.Number(parts[2]), 1000) / 1_000_000_000
			}
			if c.class = classes[key]; c.class != "" {
				claims = c.add(t, claims, v, 1_000_000)
			}
		}
		c.above, c.service, c.class = 0, "", "web_search"
		if fees, ok := m["search_context_cost_per_query"].(map[string]any); ok && provider != Perplexity {
			claims = c.add(t, claims, fees["search_context_size_medium"], 1)
		} else if ok {
			c.class = "request" // Perplexity searches for every call
			claims = c.add(t, claims, fees["search_context_size_high"], 1)
			for _, c.service = range []string{"low", "medium"} {
				claims = c.add(t, claims, fees["search_context_size_"+c.service], 1)
			}
		}
		factors, ok := m["provider_specific_entry"].(map[string]any)
		if factor, fast := factors["fast"]; ok && fast {
			c.service = "fast"
			times := nanoOf(t, factor, 1) / 1_000_000_000
			for key, v := range m {
				if c.class = classes[key]; c.class != "" {
					claims = c.add(t, claims, v, 1_000_000*times)
				}
			}
		}
	}
	return claims
}

func genaiPrices(t *testing.T) []claim {
	classes := map[string]string{
		"input_mtok": "input", "output_mtok": "output", "cache_read_mtok": "cache_read",
		"cache_write_mtok": "cache_write_5m", "cache_write_1h_mtok": "cache_write_1h",
		"input_audio_mtok": "input_audio", "cache_audio_read_mtok": "cache_read_audio", "output_audio_mtok": "output_audio",
		"input_image_mtok": "input_image", "output_image_mtok": "output_image",
		"web_searches_kcount": "web_search", "requests_kcount": "request", "output_reasoning_mtok": "reasoning",
	}
	providers := map[string]string{
		"openai": OpenAI, "anthropic": Anthropic, "google": Google, "azure": Azure, "aws": Bedrock, "cohere": Cohere,
		"deepseek": DeepSeek, "groq": Groq, "mistral": Mistral, "openrouter": OpenRouter, "perplexity": Perplexity, "x-ai": XAI,
	}
	var claims []claim
	add := func(c claim, prices map[string]any) {
		for key, v := range prices {
			c.above = 0
			if c.class = classes[key]; c.class == "" {
				continue
			}
			scale := int64(1)
			if c.class == "web_search" || c.class == "request" {
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
				if c.above%1000 == 999 { // the list has the last prompt below the tier
					c.above++
				}
				claims = c.add(t, claims, tier["price"], scale)
			}
		}
	}
	for _, v := range readList(t, "genai-prices.npm-0.1.8.2026-09-23.json").([]any) {
		p := v.(map[string]any)
		provider, ok := providers[p["id"].(string)]
		if !ok {
			continue
		}
		for _, v := range p["models"].([]any) {
			m := v.(map[string]any)
			id := m["id"].(string)
			provider := provider
			if provider == Google && strings.HasPrefix(id, "claude-") {
				provider = Vertex
			}
			names := onBedrock(id)
			for _, name := range equals(m["match"]) {
				if name != id && !strings.HasPrefix(id, "regional.") && Default().find(provider, name) != nil { // many are names that no API has
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
						if constraint["start_date"] == nil {
							break // a price by the hour of the day
						}
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
	for listed, provider := range map[string]string{
		"openai": OpenAI, "anthropic": Anthropic, "google": Google, "azure": Azure, "azure-cognitive-services": Azure,
		"amazon-bedrock": Bedrock, "google-vertex": Vertex, "google-vertex-anthropic": Vertex, "cohere": Cohere, "xai": XAI,
		"deepseek": DeepSeek, "mistral": Mistral, "groq": Groq, "perplexity": Perplexity, "openrouter": OpenRouter, "vercel": Vercel,
	} {
		for name, v := range all[listed].(map[string]any)["models"].(map[string]any) {
			cost, ok := v.(map[string]any)["cost"].(map[string]any)
			if !ok {
				continue
			}
			sets := []any{cost}
			if tiers, ok := cost["tiers"].([]any); ok {
				sets = append(sets, tiers...)
			}
			services := make(map[int]string)
			experimental, _ := v.(map[string]any)["experimental"].(map[string]any)
			modes, _ := experimental["modes"].(map[string]any)
			for _, v := range modes {
				body := v.(map[string]any)["provider"].(map[string]any)["body"].(map[string]any)
				for _, name := range body { // of the field that asks for it
					services[len(sets)] = name.(string)
				}
				sets = append(sets, v.(map[string]any)["cost"])
			}
			for i, v := range sets {
				set := v.(map[string]any)
				c := claim{service: services[i], list: "models.dev", provider: provider, model: name, at: at, twin: listed == "azure-cognitive-services"}
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

// onBedrock returns the names of a model whose id in genai-prices is of all regions but the global one, or of that one.
func onBedrock(id string) []string {
	model, ok := strings.CutPrefix(id, "regional.")
	switch {
	case ok && strings.HasPrefix(model, "openai."):
		return []string{model, "us." + model, "in." + model}
	case ok && (match("*-opus-5-*", model) || match("*-fable-5-1-*", model)): // the others are in lists that name the regions
		return []string{"us." + model, "eu." + model, "jp." + model, "au." + model}
	}
	return []string{id}
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
	r.Add(r, big.NewRat(1, 2)) // half up, where a list has the noise of a float
	n2 := new(big.Int).Div(r.Num(), r.Denom())
	require.True(t, n2.IsInt64(), "%v", figure)
	return n2.Int64()
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
