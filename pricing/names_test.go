package pricing_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/llmtenant/tenant/pricing"
)

func TestNames_AModelIsFoundByItsNameAndTheDocumentedRules(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ provider, asked, row string }{
		{"openai", "gpt-4.1-mini", "openai/gpt-4.1-mini"},
		{"OpenAI", "gpt-4.1-mini", "openai/gpt-4.1-mini"},
		{"", "gpt-4.1-mini", "openai/gpt-4.1-mini"},
		{"openai", "gpt-4.1-mini-2025-04-14", "openai/gpt-4.1-mini"},
		{"", "gpt-4.1-mini-2025-04-14", "openai/gpt-4.1-mini"},
		{"openai", "gpt-4o-2024-08-06", "openai/gpt-4o"},
		{"openai", "gpt-4o-2024-05-13", "openai/gpt-4o-2024-05-13"},
		{"openai", "gpt-4-0613", "openai/gpt-4"},
		{"openai", "gpt-5.6", "openai/gpt-5.6-sol@2026-08-21"},
		{"openai", "gpt-5.6-luna", "openai/gpt-5.6-luna@2026-07-30"},
		{"openai", "gpt-5-chat-latest", "openai/gpt-5-chat-latest"},
		{"anthropic", "claude-haiku-4-5-20251001", "anthropic/claude-haiku-4-5"},
		{"anthropic", "claude-haiku-4-5@20251001", "anthropic/claude-haiku-4-5"},
		{"anthropic", "claude-opus-4-20250514", "anthropic/claude-opus-4-0"},
		{"anthropic", "claude-3-5-sonnet-latest", "anthropic/claude-3-5-sonnet"},

		// The prefix of a provider.
		{"openai", "openai/gpt-4.1-mini", "openai/gpt-4.1-mini"},
		{"", "openai/gpt-4.1-mini-2025-04-14", "openai/gpt-4.1-mini"},
		{"", "gemini/gemini-2.5-pro", "google/gemini-2.5-pro"},
		{"", "vertex_ai/gemini-2.5-pro", "vertex/gemini-2.5-pro"},
		{"", "openrouter/openai/gpt-4o", "openrouter/openai/gpt-4o"},
		{"", "OpenAI/gpt-4o", "openai/gpt-4o"},
		{"x-ai", "grok-4.3", "xai/grok-4.3"},

		// What Perplexity passes on.
		{"perplexity", "anthropic/claude-opus-4-6", "anthropic/claude-opus-4-6@2026-03-13"},
		{"perplexity", "openai/gpt-4.1-mini-2025-04-14", "openai/gpt-4.1-mini"},
		{"perplexity", "perplexity/sonar", "perplexity/sonar"},
		{"gcp.gemini", "gemini-2.5-pro", "google/gemini-2.5-pro"}, // OpenTelemetry's names
		{"gcp.vertex_ai", "gemini-2.5-pro", "vertex/gemini-2.5-pro"},
		{"aws.bedrock", "amazon.nova-lite-v1:0", "bedrock/amazon.nova-lite-v1:0"},
		{"azure.ai.openai", "gpt-4.1", "azure/gpt-4.1"},
		{"mistral_ai", "mistral-medium-2508", "mistral/mistral-medium-2508"},
		{"x_ai", "grok-4.3", "xai/grok-4.3"},
		{"groq", "groq/openai/gpt-oss-20b", "groq/openai/gpt-oss-20b"},
		{"groq", "openai/gpt-oss-20b", "groq/openai/gpt-oss-20b"},

		// Google's resources.
		{"google", "models/gemini-2.5-pro", "google/gemini-2.5-pro"},
		{"gemini", "models/gemini-2.5-pro", "google/gemini-2.5-pro"},
		{"", "models/gemini-2.5-pro", "google/gemini-2.5-pro"},
		{"google", "gemini-2.0-flash-001", "google/gemini-2.0-flash"},
		{"", "gemini-2.0-flash-001", "google/gemini-2.0-flash"},
		{"", "models/gemini-2.0-flash-001", "google/gemini-2.0-flash"},
		{"google", "gemini-embedding-001", "google/gemini-embedding-001"},
		{"google", "gemini-flash-latest", "google/gemini-flash-latest"},
		{"vertexai", "google/gemini-2.5-flash", "vertex/gemini-2.5-flash"},
		{"vertex", "publishers/google/models/gemini-2.5-flash", "vertex/gemini-2.5-flash"},
		{"vertex", "projects/p/locations/global/publishers/anthropic/models/claude-opus-4-5@20251101", "vertex/claude-opus-4-5"},
		{"vertex", "claude-opus-4-6@default", "vertex/claude-opus-4-6"},
		{"vertex", "claude-3-7-sonnet-20250219", "vertex/claude-3-7-sonnet@20250219"}, // as its replies say it
		{"vertex", "claude-opus-4-5-20251101", "vertex/claude-opus-4-5"},

		// Bedrock's regions, profiles and versions.
		{"bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0", "bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0"},
		{"bedrock", "global.anthropic.claude-sonnet-4-5-20250929-v1:0", "bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0"},
		{"bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0"},
		{"amazon-bedrock", "us.amazon.nova-lite-v1:0", "bedrock/amazon.nova-lite-v1:0"},
		{
			"bedrock", "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova-lite-v1:0",
			"bedrock/amazon.nova-lite-v1:0",
		},
		{"bedrock", "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0", "bedrock/amazon.nova-lite-v1:0"},
		{"bedrock", "ca.anthropic.claude-3-haiku-20240307-v1:0", "bedrock/anthropic.claude-3-haiku-20240307-v1:0"},
		{"bedrock", "global.anthropic.claude-opus-4-6-v1:0", "bedrock/anthropic.claude-opus-4-6-v1"},
		{"bedrock", "global.anthropic.claude-opus-5-v1:0", "bedrock/anthropic.claude-opus-5"},
		{"bedrock", "us.anthropic.claude-opus-5-v1", "bedrock/us.anthropic.claude-opus-5"},
		{"bedrock", "anthropic.claude-opus-5-20260801", "bedrock/anthropic.claude-opus-5"},
		{"bedrock", "openai.gpt-5.6-luna", "bedrock/openai.gpt-5.6-luna@2026-07-30"},

		// Fine-tuned models.
		{"openai", "ft:gpt-4o-2024-08-06:acme::abc", "openai/ft:gpt-4o-2024-08-06"},
		{"", "ft:gpt-4.1-mini-2025-04-14:acme:support:abc", "openai/ft:gpt-4.1-mini-2025-04-14"},
		{"openai", "ft:gpt-4o-2024-08-06:acme::abc:ckpt-step-88", "openai/ft:gpt-4o-2024-08-06"},
		{"openai", "ft:gpt-4o-2024-08-06", "openai/ft:gpt-4o-2024-08-06"},

		// OpenRouter's variants.
		{"openrouter", "openai/gpt-oss-20b:free", "openrouter/openai/gpt-oss-20b:free"},
		{"openrouter", "openai/gpt-oss-20b", "openrouter/openai/gpt-oss-20b"},
		{"openrouter", "openai/gpt-oss-20b:floor", "openrouter/openai/gpt-oss-20b"},
		{"openrouter", "openai/gpt-4o-2024-08-06", "openrouter/openai/gpt-4o-2024-08-06"},

		// What runs on one's own machine.
		{"ollama", "gemma3:4b", "ollama/*"},
		{"ollama", "anything-of-mine", "ollama/*"},
	} {
		p, ok := pricing.Default().Price(c.provider, c.asked, today)
		require.True(t, ok, "%q %q", c.provider, c.asked)
		require.Equal(t, c.row, p.Row, "%q %q", c.provider, c.asked)
	}
}

// The models of others have their makers' prices at Perplexity, and are its calls: what it states is charged, and whose key a
// tenant has is not changed by it.
func TestNames_WhatIsPassedOnIsACallOfWhoeverPassesItOn(t *testing.T) {
	t.Parallel()
	book, err := pricing.Default().With(pricing.TenantTerms("own", pricing.Terms{OwnKeys: []string{pricing.OpenAI}}), pricing.TenantTerms("theirs", pricing.Terms{OwnKeys: []string{pricing.Perplexity}}))
	require.NoError(t, err)
	p, ok := book.Price("perplexity", "openai/gpt-4.1-mini", today)
	require.True(t, ok)
	require.True(t, p.ChargeReported)
	p, ok = book.Price("openai", "openai/gpt-4.1-mini", today)
	require.True(t, ok)
	require.False(t, p.ChargeReported)
	for tenantID, own := range map[string]bool{"own": false, "theirs": true, "other": false} {
		p, ok = book.TenantPrice(tenantID, "perplexity", "openai/gpt-4.1-mini", today)
		require.True(t, ok)
		require.Equal(t, own, p.OwnKey, tenantID)
		require.Equal(t, !own, p.ChargeReported, tenantID)
	}
	for _, unknown := range []string{"gpt-4.1-mini", "openai/gpt-4.1-min", "azure/gpt-4.1-mini", "openai/", "z-ai/glm-5"} {
		_, ok = book.Price("perplexity", unknown, today)
		require.False(t, ok, unknown)
	}
}

func TestNames_AStrangersModelHasNoPrice(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{
		{"openai", ""},
		{"", ""},
		{"ollama", ""},
		{"openai", "gpt"},
		{"openai", "gpt-4.1-mini-foo"},
		{"openai", "gpt-4.1-min"},
		{"openai", "GPT-4.1-mini"},
		{"openai", " gpt-4.1-mini"},
		{"openai", "gpt-4o-latest"},
		{"openai", "gpt-5.7"},
		{"openai", "gpt-5-latest"},
		{"openai", "gpt-4.1-mini-2025-04-14-foo"},
		{"openai", "gpt-4.1-mini-2025-04-14-2025-04-14"},
		{"openai", "gpt-4.1-mini-2025-02-30"},
		{"openai", "gpt-4.1-mini2025-04-14"},
		{"openai", "gpt-4.1-mini@2025-04-14"},
		{"openai", "gpt-4.1-mini-0414"},
		{"openai", "gpt-4.1-mini-001"},
		{"", "gpt-4.1-mini-001"},
		{"openai", "models/gpt-4.1-mini"},
		{"", "models/gpt-4.1-mini"},
		{"openai", "*"},
		{"ollama", "*"},
		{"anthropic", "claude-opus"},
		{"anthropic", "claude-opus-4-9"},
		{"anthropic", "claude-opus-4.5"},
		{"anthropic", "claude-opus-4-5-20251332"},
		{"anthropic", "-20250514"},
		{"google", "gemini-2.5-pro-exp"},
		{"google", "gemini-2.0-flash-0001"},
		{"google", "gemini-2.0-flash-00x"},
		{"google", "models/models/gemini-2.0-flash"},
		{"google", "-001"},
		{"google", "gemma-3-27b-it"},
		{"google", "claude-opus-4-5"},
		{"anthropic", "gpt-4o"},
		{"mistral", "gpt-4o"},

		// Another provider's prefix, an unknown one, two, and a host's name of a model without the host.
		{"anthropic", "openai/gpt-4o"},
		{"azure", "openai/gpt-4o"},
		{"", "acme/gpt-4o"},
		{"", "openai/openai/claude-opus-4-5"},
		{"", "meta-llama/llama-3.3-70b-instruct"},
		{"", "llama-3.3-70b-versatile"},
		{"", "anthropic.claude-sonnet-4-5-20250929-v1:0"},
		{"", "gemma3:4b"},

		// Fine-tuned models of an unknown base, and names that only look like theirs.
		{"openai", "ft:gpt-4o"},
		{"openai", "ft:gpt-9:acme::abc"},
		{"openai", "ft:gpt-4o-2024-08-06:acme"},
		{"openai", "ft:gpt-4o-2024-08-06:acme::"},
		{"openai", "ft:gpt-4o-2024-08-06:::abc"},
		{"openai", "ft:gpt-4o-2024-08-06:a:b:c:d:e"},
		{"openai", "ft:ft:gpt-4o-2024-08-06:acme::abc"},
		{"azure", "ft:gpt-4o-2024-08-06:acme::abc"},
		{"openai", "gpt-4o:acme::abc"},

		// On Bedrock: another version, an unknown region, a profile of one's own, whose name says nothing.
		{"bedrock", "amazon.nova-lite-v2:0"},
		{"bedrock", "amazon.nova-lite"},
		{"bedrock", "mars.amazon.nova-lite-v1:0"},
		{"bedrock", "us.us.amazon.nova-lite-v1:0"},
		{"bedrock", "ca.anthropic.claude-haiku-4-5-20251001-v1:0"}, // where regions cost more, and nobody says how much this one does
		{"bedrock", "us-gov.anthropic.claude-opus-4-6-v1"},
		{"bedrock", "us.nova-lite-v1:0"},
		{"bedrock", "anthropic.claude-opus-5-v2:0"},
		{"bedrock", "anthropic.claude-opus-5-20260801-v1:0"},
		{"bedrock", "anthropic.claude-opus-5-v1:0:0"},
		{"bedrock", "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"},
		{"bedrock", "amazon.nova-lite-v1:0:300k"},
		{"bedrock", "mine:inference-profile/amazon.nova-lite-v1:0"},

		// OpenRouter's variants may cost more than the model.
		{"openrouter", "openai/gpt-4o:nitro"},
		{"openrouter", "openai/gpt-4o:online"},
		{"openrouter", "openai/gpt-4o:free"},
		{"openrouter", "openai/gpt-4o:floor:floor"},
		{"vercel", "openai/gpt-4o:floor"},

		{"azure", "my-deployment"},
		{"ollama", "gpt-oss:120b-cloud"},
		{"ollama", "glm-4.6:cloud"},
		{"vertex", "claude-opus-4-6@latest"},
		{"anthropic", "claude-opus-4-6@default"},
	} {
		p, ok := pricing.Default().Price(c[0], c[1], today)
		require.False(t, ok, "%q %q found %q", c[0], c[1], p.Row)
		p.ChargeReported = false
		require.Zero(t, p)
	}
}

// Whatever is done to a name, the price that it gets is that of the name or none, but for the readings that the
// documentation lists: none of these changes makes one of them.
func TestNames_ANearNameNeverGetsANearPrice(t *testing.T) {
	t.Parallel()
	rows := pricing.Default().Rows()
	names := make(map[[2]string]bool)
	for _, r := range rows {
		for _, name := range append([]string{r.Model}, r.Also...) {
			names[[2]string{r.Provider, name}] = true
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		r := rapid.SampledFrom(rows).Draw(t, "row")
		if r.Provider == pricing.Ollama {
			return
		}
		letter := string(rapid.RuneFrom([]rune("abcxyzABC.-_:")).Draw(t, "letter"))
		at := rapid.IntRange(0, len(r.Model)).Draw(t, "at")
		near := rapid.SampledFrom([]string{
			r.Model[:at], r.Model[at:], r.Model[:at] + letter + r.Model[at:], r.Model + letter, letter + r.Model,
			strings.ToUpper(r.Model), r.Model + "-mini", r.Model + "-pro", r.Model + "-latest", r.Model + "-preview",
			r.Model + ":nitro", "ft:" + r.Model, r.Model + "/" + r.Model, "acme/" + r.Model, r.Model + "-v2:0", r.Model + " ",
		}).Draw(t, "near")
		p, ok := pricing.Default().Price(r.Provider, near, today)
		if !ok || names[[2]string{r.Provider, near}] {
			return
		}
		require.True(t, documented(r.Provider, near, p.Model), "%s: %q got the price of %q", r.Provider, near, p.Model)
	})
}

// documented reports whether a name is a row's name with something around it that the rules take off.
func documented(provider, near, found string) bool {
	rest, ok := strings.CutSuffix(near, found)
	if ok && (rest == provider+"/" || rest == "models/" || provider == pricing.Vertex && rest == "google/") {
		return true
	}
	around := regexp.MustCompile(`^(?:(?:us|us-gov|eu|apac|jp|au|ca|sa|global)\.)?` + regexp.QuoteMeta(found) +
		`(?::\d+|-v\d+(?::\d+)?|-\d{8}(?:-v\d+(?::\d+)?)?|-\d{4}-\d\d-\d\d|@\d{8}|@default|-\d{3}|:floor)?$`)
	if !around.MatchString(near) {
		also := false
		for _, r := range pricing.Default().Rows() {
			if r.Provider == provider && r.Model == found {
				for _, name := range r.Also {
					also = also || strings.HasPrefix(near, name)
				}
			}
		}
		return also && regexp.MustCompile(`\d{3}$`).MatchString(near)
	}
	return true
}

// A region that charges more says that the price without a region is not every region's. One that charges less, as where a
// host has negotiated it, says nothing of the others.
func TestNames_ARegionWithoutARowHasThePriceOfNoRegionUnlessOneIsDearer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		eu   string
		want bool
	}{{"1.1", false}, {"1", true}, {"0.9", true}} {
		book, err := pricing.New(row("bedrock", "acme.m-v1:0", "1", "1"), row("bedrock", "eu.acme.m-v1:0", c.eu, "1"))
		require.NoError(t, err)
		for name, want := range map[string]bool{"ca.acme.m-v1:0": c.want, "global.acme.m-v1:0": true, "eu.acme.m-v1:0": true, "acme.m-v1:0": true} {
			_, ok := book.Price("bedrock", name, today)
			require.Equal(t, want, ok, "%s where eu costs %s", name, c.eu)
		}
	}
}

func TestNames_WithoutProviderOneOfSeveralIsInDoubt(t *testing.T) {
	t.Parallel()
	b, err := pricing.New(
		row("acme", "m", "1", "2"),
		row("zenith", "m", "3", "4"),
		row("acme", "n", "5", "6"),
		row("zenith", "n-2026-01-01", "7", "8"),
		row("acme", "o-2026-01-01", "9", "9"),
		row("zenith", "o-2026-01-01", "9", "9"),
		row("zenith", "o", "9", "9"),
	)
	require.NoError(t, err)

	_, ok := b.Price("", "m", today)
	require.False(t, ok)
	_, ok = b.Price("", "m-2026-01-01", today)
	require.False(t, ok)
	p, ok := b.Price("zenith", "m", today)
	require.True(t, ok)
	require.Equal(t, int64(3_000_000_000), p.Input)

	p, ok = b.Price("", "n-2026-01-01", today)
	require.True(t, ok)
	require.Equal(t, "zenith", p.Provider, "the exact name comes before the rules")
	_, ok = b.Price("", "o-2026-01-01", today)
	require.False(t, ok, "a name in doubt must not be read more loosely")
}
