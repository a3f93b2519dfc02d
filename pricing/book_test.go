package pricing_test

import (
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/pricing"
)

var today = day(2026, time.August, 21)

func day(year int, month time.Month, d int) time.Time {
	return time.Date(year, month, d, 0, 0, 0, 0, time.UTC)
}

func row(provider, model, input, output string) pricing.Row {
	return pricing.Row{Provider: provider, Model: model, Rates: pricing.Rates{Input: input, Output: output}}
}

func TestAModelIsFoundByItsNameAndTheDocumentedRules(t *testing.T) {
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
		{"openai", "gpt-5.6", "openai/gpt-5.6-sol"},
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

func TestAStrangersModelHasNoPrice(t *testing.T) {
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
		{"bedrock", "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"},
		{"bedrock", "amazon.nova-lite-v1:0:300k"},

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
func TestANearNameNeverGetsANearPrice(t *testing.T) {
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
func TestARegionWithoutARowHasThePriceOfNoRegionUnlessOneIsDearer(t *testing.T) {
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

func TestWithoutProviderANameOfSeveralIsInDoubt(t *testing.T) {
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

func TestARowIsInForceFromItsFirstInstantToBeforeItsLast(t *testing.T) {
	t.Parallel()
	a, b := row("acme", "m", "1", "1"), row("acme", "m", "2", "2")
	a.From, a.Until = day(2026, time.March, 1), day(2026, time.April, 1)
	b.From, b.Until = day(2026, time.April, 1), day(2026, time.May, 1)
	book, err := pricing.New(b, a)
	require.NoError(t, err)

	for _, c := range []struct {
		at   time.Time
		want int64
	}{
		{a.From.Add(-1), 0},
		{a.From, 1},
		{b.From.Add(-1), 1},
		{b.From, 2},
		{b.From.In(time.FixedZone("", -5*3600)), 2},
		{b.Until.Add(-1), 2},
		{b.Until, 0},
	} {
		p, ok := book.Price("acme", "m", c.at)
		require.Equal(t, c.want != 0, ok, c.at)
		require.Equal(t, c.want*1_000_000_000, p.Input, c.at)
	}

	_, ok := book.Price("acme", "m-2026-01-01", b.Until)
	require.False(t, ok)
}

func TestOwnRowsStandBeforeTheBooks(t *testing.T) {
	t.Parallel()
	base, err := pricing.New(
		pricing.Row{
			Provider: "acme", Model: "m", Also: []string{"m-latest"}, Rates: pricing.Rates{Input: "1", Output: "1"},
		},
		row("acme", "m-2026-01-01", "2", "2"),
		row("acme", "n", "3", "3"),
		row("zenith", "m", "4", "4"),
	)
	require.NoError(t, err)
	over, err := base.With(pricing.Override(row("acme", "m", "0.5", "0.5"), row("acme", "own", "6", "6")))
	require.NoError(t, err)

	for _, c := range []struct {
		book            *pricing.Book
		provider, model string
		want            int64
	}{
		{over, "acme", "m", 500_000_000},
		{over, "acme", "m-latest", 500_000_000},
		{over, "acme", "m-2026-02-02", 500_000_000},
		{over, "acme", "m-2026-01-01", 2_000_000_000},
		{over, "acme", "n", 3_000_000_000},
		{over, "zenith", "m", 4_000_000_000},
		{over, "", "own", 6_000_000_000},
		{base, "acme", "m", 1_000_000_000},
		{base, "acme", "m-latest", 1_000_000_000},
		{base, "acme", "own", 0},
	} {
		p, ok := c.book.Price(c.provider, c.model, today)
		require.Equal(t, c.want != 0, ok, "%s %s", c.provider, c.model)
		require.Equal(t, c.want, p.Input, "%s %s", c.provider, c.model)
	}

	_, err = base.With(pricing.Override(row("acme", "m", "-1", "1")))
	require.Error(t, err)
}

func TestOwnRowsMayTakeOverAnotherName(t *testing.T) {
	t.Parallel()
	book, err := pricing.Default().With(pricing.Override(row(pricing.OpenAI, "gpt-5.6", "1", "1")))
	require.NoError(t, err)
	p, ok := book.Price(pricing.OpenAI, "gpt-5.6", today)
	require.True(t, ok)
	require.Equal(t, "gpt-5.6", p.Model)
	p, ok = book.Price(pricing.OpenAI, "gpt-5.6-sol", today)
	require.True(t, ok)
	require.Equal(t, int64(5_000_000_000), p.Input)
}

func TestABadRowIsAnErrorThatNamesTheRowAndTheField(t *testing.T) {
	t.Parallel()
	rates := pricing.Rates{Input: "1", Output: "2"}
	with := func(change func(*pricing.Row)) pricing.Row {
		r := pricing.Row{Provider: "acme", Model: "bad", Rates: rates}
		change(&r)
		return r
	}
	for want, r := range map[string]pricing.Row{
		`rows[1] ( bad): Provider: "" is not a name`:       with(func(r *pricing.Row) { r.Provider = "" }),
		`rows[1] (Acme bad): Provider: not in lower case`:  with(func(r *pricing.Row) { r.Provider = "Acme" }),
		`rows[1] (acme ): Model: "" is not a name`:         with(func(r *pricing.Row) { r.Model = "" }),
		`rows[1] (acme bad ): Model: "bad " is not a name`: with(func(r *pricing.Row) { r.Model = "bad " }),
		`rows[1] (acme bad): Also: empty name`:             with(func(r *pricing.Row) { r.Also = []string{""} }),
		`acme bad: Also: "good" is a name of good too`:     with(func(r *pricing.Row) { r.Also = []string{"good"} }),
		`rows[1] (acme good): From, Until: duplicate`:      with(func(r *pricing.Row) { r.Model = "good" }),
		`rows[1] (acme bad): Until: not after From`: with(func(r *pricing.Row) {
			r.From, r.Until = today, today
		}),
		`rows[1] (acme bad): Input: no rate`:                 with(func(r *pricing.Row) { r.Input = "" }),
		`rows[1] (acme bad): Output: no rate`:                with(func(r *pricing.Row) { r.Output = "" }),
		`rows[1] (acme bad): Input: amount "-1" is negative`: with(func(r *pricing.Row) { r.Input = "-1" }),
		`rows[1] (acme bad): Reasoning: amount "x" is not a`: with(func(r *pricing.Row) { r.Reasoning = "x" }),
		`rows[1] (acme bad): WebSearch: amount "0.0000000001" has`: with(func(r *pricing.Row) {
			r.WebSearch = "0.0000000001"
		}),
		`rows[1] (acme bad): CacheRead: zero would be charged`: with(func(r *pricing.Row) { r.CacheRead = "0" }),
		`rows[1] (acme bad): Tiers[0].Above: 0 is not above 0`: with(func(r *pricing.Row) {
			r.Tiers = []pricing.Tier{{Rates: rates}}
		}),
		`rows[1] (acme bad): Tiers[1].Above: 9 is not above 9`: with(func(r *pricing.Row) {
			r.Tiers = []pricing.Tier{{Above: 9, Rates: rates}, {Above: 9, Rates: rates}}
		}),
		`rows[1] (acme bad): Services: "batch+us" is not`: with(func(r *pricing.Row) {
			r.Services = map[string]pricing.Service{"batch+us": {}}
		}),
		`rows[1] (acme bad): Services[batch].Tiers[0].Above: the row has no tier above 5`: with(func(r *pricing.Row) {
			r.Services = map[string]pricing.Service{"batch": {Tiers: []pricing.Tier{{Above: 5}}}}
		}),
		`rows[1] (acme bad): Uplifts: "US" is not a name`:    with(func(r *pricing.Row) { r.Uplifts = map[string]string{"US": "1.1"} }),
		`rows[1] (acme bad): Uplifts[us]: "0.9" is below 1`:  with(func(r *pricing.Row) { r.Uplifts = map[string]string{"us": "0.9"} }),
		`rows[1] (acme bad): Uplifts[us]: amount "x" is not`: with(func(r *pricing.Row) { r.Uplifts = map[string]string{"us": "x"} }),
		`rows[1] (acme bad): Uplifts: "fast" is not a name in lower case, or one`: with(func(r *pricing.Row) {
			r.Services, r.Uplifts = map[string]pricing.Service{"fast": {}}, map[string]string{"fast": "2"}
		}),
		`rows[1] (acme bad): Tiers[0].Output: no rate`: with(func(r *pricing.Row) {
			r.Tiers = []pricing.Tier{{Above: 9, Rates: pricing.Rates{Input: "1"}}}
		}),
	} {
		book, err := pricing.New(row("acme", "good", "1", "2"), r)
		require.ErrorContains(t, err, "pricing: "+want)
		require.Nil(t, book)
	}
}

func TestPeriodsOfOneModelMayMeetButNotOverlap(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fromA, untilA, fromB, untilB int // days of 2026, 0 for no bound
		ok                           bool
	}{
		{0, 5, 5, 0, true},
		{0, 5, 6, 9, true},
		{0, 5, 4, 0, false},
		{0, 5, 0, 3, false},
		{0, 0, 5, 6, false},
		{5, 6, 0, 0, false},
		{3, 9, 4, 5, false},
		{3, 0, 0, 3, true},
	} {
		bound := func(d int) time.Time {
			if d == 0 {
				return time.Time{}
			}
			return day(2026, time.January, d)
		}
		a, b := row("acme", "m", "1", "1"), row("acme", "m", "2", "2")
		a.From, a.Until, b.From, b.Until = bound(c.fromA), bound(c.untilA), bound(c.fromB), bound(c.untilB)
		_, err := pricing.New(a, b)
		require.Equal(t, c.ok, err == nil, "%+v: %v", c, err)
	}
}

func TestAFreeModelIsOneWhoseRatesAreGivenAsZero(t *testing.T) {
	t.Parallel()
	b, err := pricing.New(pricing.Row{Provider: "acme", Model: "free", Rates: pricing.Rates{
		Input: "0", CacheRead: "0", Output: "0", Reasoning: "0", WebSearch: "0",
	}})
	require.NoError(t, err)
	p, ok := b.Price("acme", "free", today)
	require.True(t, ok)
	require.Zero(t, p.Cost(tenant.Usage{Input: 1e9, CacheRead: 1e9, Output: 1e9, Reasoning: 1e9, WebSearches: 9}))
}

func TestATierKeepsTheRowsFeeForWebSearches(t *testing.T) {
	t.Parallel()
	r := row("acme", "m", "1", "1")
	r.WebSearch = "0.01"
	r.Tiers = []pricing.Tier{
		{Above: 10, Rates: pricing.Rates{Input: "2", Output: "2"}},
		{Above: 20, Rates: pricing.Rates{Input: "2", Output: "2", WebSearch: "0.02"}},
	}
	b, err := pricing.New(r)
	require.NoError(t, err)
	p, _ := b.Price("acme", "m", today)
	require.Equal(t, []int64{10_000_000, 10_000_000, 20_000_000},
		[]int64{p.WebSearch, p.Tiers[0].WebSearch, p.Tiers[1].WebSearch})
}

func TestABookIsReadByManyAtOnce(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if _, ok := pricing.Default().Price("", "gpt-4.1-mini-2025-04-14", today); !ok {
					t.Error("not found")
					return
				}
			}
		})
	}
	wg.Wait()
}

//nolint:paralleltest // testing.AllocsPerRun forbids it
func TestALookupByExactNameAllocatesNothing(t *testing.T) {
	book := pricing.Default()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, _ = book.Price("openai", "gpt-5.6-terra", today)
		_, _ = book.Price("", "claude-opus-4-5", today)
	}))
}

func FuzzAnyNameIsFoundOrNotWithoutPanic(f *testing.F) {
	for _, name := range []string{
		"", "-001", "models/", "-2025-01-01", "gpt-4o-2024-08-06", "a@20250101", "models/gemini-2.0-flash-001",
	} {
		f.Add("", name)
		f.Add("google", name)
	}
	f.Fuzz(func(t *testing.T, provider, name string) {
		p, ok := pricing.Default().Price(provider, name, today)
		require.Equal(t, ok, p.Model != "")
		require.Equal(t, ok, p.Row != "")
	})
}

func BenchmarkPrice(b *testing.B) {
	book := pricing.Default()
	for _, c := range []struct{ name, provider, model string }{
		{"exact", "openai", "gpt-4.1-mini"},
		{"no_provider", "", "gpt-4.1-mini"},
		{"dated", "openai", "gpt-4.1-mini-2025-04-14"},
		{"unknown", "openai", "gpt-4.1-mini-foo"},
		{"prefix", "", "openai/gpt-4.1-mini"},
		{"bedrock_region", "bedrock", "global.anthropic.claude-sonnet-4-5-20250929-v1:0"},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = book.Price(c.provider, c.model, today)
			}
		})
	}
	termed, err := book.With(pricing.TenantTerms("acme", pricing.Terms{Factor: "+20%"}))
	require.NoError(b, err)
	b.Run("terms", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = termed.TenantPrice("acme", "openai", "gpt-4.1-mini", today)
		}
	})
}
