package pricing_test

import (
	"sync"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

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

func TestRow_IsInForceFromItsFirstInstantToBeforeItsLast(t *testing.T) {
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

func TestRow_OfTheHostsOwnStandsBeforeTheBooks(t *testing.T) {
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

func TestRow_OfTheHostsOwnMayTakeOverAnotherName(t *testing.T) {
	t.Parallel()
	book, err := pricing.Default().With(pricing.Override(row(pricing.OpenAI, "gpt-5.6", "1", "1")))
	require.NoError(t, err)
	p, ok := book.Price(pricing.OpenAI, "gpt-5.6", today)
	require.True(t, ok)
	require.Equal(t, "gpt-5.6", p.Model)
	p, ok = book.Price(pricing.OpenAI, "gpt-5.6-sol", today)
	require.True(t, ok)
	require.Equal(t, int64(4_000_000_000), p.Input)
}

func TestRow_ThatIsInvalidIsAnErrorThatNamesTheRowAndTheField(t *testing.T) {
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

func TestRow_PeriodsOfOneModelMayMeetButNotOverlap(t *testing.T) {
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

func TestRow_OfAFreeModelGivesItsRatesAsZero(t *testing.T) {
	t.Parallel()
	b, err := pricing.New(pricing.Row{Provider: "acme", Model: "free", Rates: pricing.Rates{
		Input: "0", CacheRead: "0", Output: "0", Reasoning: "0", WebSearch: "0",
	}})
	require.NoError(t, err)
	p, ok := b.Price("acme", "free", today)
	require.True(t, ok)
	require.Zero(t, inNano(p.Cost(tenant.Usage{Input: 1e9, CacheRead: 1e9, Output: 1e9, Reasoning: 1e9, WebSearches: 9})))
}

func TestRow_ATierKeepsItsFees(t *testing.T) {
	t.Parallel()
	r := row("acme", "m", "1", "1")
	r.WebSearch, r.Request = "0.01", "0.03"
	r.Tiers = []pricing.Tier{
		{Above: 10, Rates: pricing.Rates{Input: "2", Output: "2"}},
		{Above: 20, Rates: pricing.Rates{Input: "2", Output: "2", WebSearch: "0.02", Request: "0.04"}},
	}
	b, err := pricing.New(r)
	require.NoError(t, err)
	p, _ := b.Price("acme", "m", today)
	require.Equal(t, []int64{10_000_000, 10_000_000, 20_000_000},
		[]int64{p.WebSearch, p.Tiers[0].WebSearch, p.Tiers[1].WebSearch})
	require.Equal(t, []int64{30_000_000, 30_000_000, 40_000_000}, []int64{p.Request, p.Tiers[0].Request, p.Tiers[1].Request})
}

func TestBook_IsReadByManyAtOnce(t *testing.T) {
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
func TestBook_ALookupByExactNameAllocatesNothing(t *testing.T) {
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

// inNano is an amount in nano-dollars.
func inNano(d decimal.Decimal) int64 { return d.Shift(9).IntPart() }
