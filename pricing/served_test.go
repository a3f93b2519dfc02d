package pricing

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
)

// The same usage, served in every way that has a price of its own.
func TestBook_ACallCostsWhatTheWayItIsServedInCosts(t *testing.T) {
	t.Parallel()
	usage := tenant.Usage{Input: 1000, CacheRead: 1000, CacheWrite5m: 1000, CacheWrite1h: 1000, Output: 900, Reasoning: 100, WebSearches: 1}
	long := usage
	long.CacheRead = 300_000
	for _, c := range []struct {
		provider, model, tier string
		usage                 tenant.Usage
		row                   string
		nano                  int64
	}{
		{Anthropic, "claude-opus-5", "", usage, "anthropic/claude-opus-5", 5_000_000 + 500_000 + 6_250_000 + 10_000_000 + 25_000_000 + 10_000_000},
		{Anthropic, "claude-opus-5", "standard", usage, "anthropic/claude-opus-5", 56_750_000},
		{Anthropic, "claude-opus-5", "priority", usage, "anthropic/claude-opus-5", 56_750_000},
		{Anthropic, "claude-opus-5", "batch", usage, "anthropic/claude-opus-5 batch", 46_750_000/2 + 10_000_000},
		{Anthropic, "claude-opus-5", "standard+fast", usage, "anthropic/claude-opus-5 fast", 46_750_000*2 + 10_000_000},
		{Anthropic, "claude-opus-4-7", "standard+fast", usage, "anthropic/claude-opus-4-7 fast", 46_750_000*6 + 10_000_000},
		{Anthropic, "claude-opus-5", "standard+us", usage, "anthropic/claude-opus-5 us", 46_750_000/10*11 + 10_000_000},
		{Anthropic, "claude-opus-5", "standard+fast+us", usage, "anthropic/claude-opus-5 fast us", 46_750_000/10*22 + 10_000_000},
		{Anthropic, "claude-opus-5", "batch+us", usage, "anthropic/claude-opus-5 batch us", 46_750_000/20*11 + 10_000_000},
		{Anthropic, "claude-haiku-4-5", "standard+fast+us", usage, "anthropic/claude-haiku-4-5", 9_350_000 + 10_000_000},
		{Anthropic, "claude-sonnet-4-5", "batch", long, "anthropic/claude-sonnet-4-5 batch", (6_000_000+180_000_000+7_500_000+12_000_000+22_500_000)/2 + 10_000_000},

		{OpenAI, "gpt-5.4", "default", usage, "openai/gpt-5.4", 3*2_500_000 + 250_000 + 15_000_000 + 10_000_000},
		{OpenAI, "gpt-5.4", "flex", usage, "openai/gpt-5.4 flex", 3*1_250_000 + 130_000 + 7_500_000 + 10_000_000},
		{OpenAI, "gpt-5.4", "batch", usage, "openai/gpt-5.4 batch", 3*1_250_000 + 130_000 + 7_500_000 + 10_000_000},
		{OpenAI, "gpt-5.4", "priority", usage, "openai/gpt-5.4 priority", 3*5_000_000 + 500_000 + 30_000_000 + 10_000_000},
		{OpenAI, "gpt-5.4", "default+eu", usage, "openai/gpt-5.4 eu", (3*2_500_000+250_000+15_000_000)/10*11 + 10_000_000},
		{OpenAI, "gpt-5.6-luna", "flex", long, "openai/gpt-5.6-luna@2026-07-30 flex", 200_000 + 6_000_000 + 2*250_000 + 900_000 + 10_000_000},
		{OpenAI, "gpt-5.6-luna", "flex+us", long, "openai/gpt-5.6-luna@2026-07-30 flex us", 7_600_000/10*11 + 10_000_000},

		{Google, "gemini-2.5-pro", "STANDARD", long, "google/gemini-2.5-pro", 3*2_500_000 + 75_000_000 + 15_000_000 + 35_000_000},
		{Google, "gemini-2.5-pro", "batch", long, "google/gemini-2.5-pro batch", 3*1_250_000 + 75_000_000 + 7_500_000 + 35_000_000},
		{Google, "gemini-3.1-flash-lite", "flex", usage, "google/gemini-3.1-flash-lite flex", 3*125_000 + 12_500 + 750_000 + 14_000_000},
		{Vertex, "gemini-3.1-pro-preview", "ON_DEMAND_PRIORITY", usage, "vertex/gemini-3.1-pro-preview priority", 3*3_600_000 + 360_000 + 21_600_000 + 14_000_000},

		{Vertex, "claude-haiku-4-5@20251001", "regional", tenant.Usage{Input: 1000, Output: 1000}, "vertex/claude-haiku-4-5 regional", 6_600_000},
		{Vertex, "claude-haiku-4-5@20251001", "", tenant.Usage{Input: 1000, Output: 1000}, "vertex/claude-haiku-4-5", 6_000_000},
		{Vertex, "claude-opus-4-1@20250805", "regional", tenant.Usage{Input: 1000}, "vertex/claude-opus-4-1", 15_000_000},
		{Anthropic, "claude-opus-5-5", "standard+us", tenant.Usage{Input: 1000, Output: 1000}, "anthropic/claude-opus-5-5 us", 26_400_000},
		{Perplexity, "sonar", "low", tenant.Usage{Input: 11, Output: 62}, "perplexity/sonar low", 73_000 + 5_000_000},
		{Perplexity, "sonar", "", tenant.Usage{Input: 11, Output: 62}, "perplexity/sonar", 73_000 + 12_000_000},
		{Perplexity, "sonar-deep-research", "medium", usage, "perplexity/sonar-deep-research", 4*2_000_000 + 900*8_000 + 300_000 + 5_000_000},
	} {
		p, ok := Default().Price(c.provider, c.model, asOf)
		require.True(t, ok, c.model)
		p = p.ForService(c.tier)
		require.Equal(t, c.row, p.Row, c.tier)
		require.Equal(t, c.nano, inNano(p.Cost(c.usage)), "%s %s", c.model, c.tier)
	}
}

// The documentation's examples of what a call costs.
func TestDocumentation_ExamplesCostWhatItSays(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/prices.md")
	require.NoError(t, err)
	usage := tenant.Usage{Input: 1000, CacheRead: 1000, CacheWrite5m: 1000, CacheWrite1h: 1000, Output: 1000}
	searched := usage
	searched.WebSearches = 1
	for _, c := range []struct {
		provider, model, tier string
		usage                 tenant.Usage
		line, dollars         string
	}{
		{Anthropic, "claude-opus-5", "", usage, "of an hour", "= 0.04675 |"},
		{Anthropic, "claude-opus-5", "", searched, "the same with one web search", "= 0.05675 |"},
		{Anthropic, "claude-opus-5", "batch", searched, "in a batch", "| 0.033375; "},
		{Anthropic, "claude-opus-5", "fast", searched, "in fast mode", "; 0.1035; "},
		{Anthropic, "claude-opus-5", "us", searched, "kept to the US", "; 0.061425 |"},
		{Google, "gemini-2.5-pro", "", tenant.Usage{Input: 200_000, Output: 1000}, "200,000 tokens", "= 0.26 |"},
		{Google, "gemini-2.5-pro", "", tenant.Usage{Input: 200_000, CacheRead: 1, Output: 1000}, "one more token", "= 0.51500025 |"},
	} {
		p, ok := Default().Price(c.provider, c.model, asOf)
		require.True(t, ok)
		cost := dollars(inNano(p.ForService(c.tier).Cost(c.usage)))
		require.Equal(t, strings.Trim(c.dollars, "|=; "), cost, c.line)
		require.Regexp(t, regexp.QuoteMeta(c.line)+"[^\n]*"+regexp.QuoteMeta(c.dollars), string(page))
	}
}

// Each uplift is a tenth: LiteLLM's for OpenAI's models, and for Claude that of Anthropic's documentation, from 4.6 on at Anthropic
// itself and from 4.5 on at Vertex AI's endpoints that are not the global one.
func TestBook_KeepingACallToARegionCostsATenthMore(t *testing.T) {
	t.Parallel()
	uplifted := make(map[string]int)
	for _, e := range embedded(t).Rows {
		for region, factor := range e.Uplifts {
			require.Equal(t, "1.1", factor, e.Model)
			uplifted[e.Provider+" "+region]++
		}
	}
	require.Equal(t, map[string]int{"anthropic us": 11, "openai eu": 11, "openai us": 11, "vertex regional": 12}, uplifted)
}
