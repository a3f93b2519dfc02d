package pricing_test

import (
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/pricing"
)

func withTerms(t *testing.T, terms pricing.Terms) *pricing.Book {
	t.Helper()
	base, err := pricing.New(
		pricing.Row{Provider: "acme", Model: "m", Also: []string{"m-latest"}, Rates: pricing.Rates{Input: "1", Output: "2"}},
		row("acme", "m-2026-01-01", "3", "3"),
		row("acme", "n", "4", "4"),
		row("openrouter", "acme/m", "5", "5"),
	)
	require.NoError(t, err)
	book, err := base.With(pricing.TenantTerms("t", terms))
	require.NoError(t, err)
	return book
}

func TestTerms_AFactorIsExact(t *testing.T) {
	t.Parallel()
	for factor, c := range map[string]struct {
		share int64
		mark  string
	}{
		"":             {0, ""},
		"1":            {0, ""},
		"1.2":          {1_200_000_000, " x1.2"},
		"0.85":         {850_000_000, " x0.85"},
		"10":           {10_000_000_000, " x10"},
		"+20%":         {1_200_000_000, " x1.2"},
		"+20 %":        {1_200_000_000, " x1.2"},
		"-15%":         {850_000_000, " x0.85"},
		"+0%":          {0, ""},
		"-99.9999999%": {1, " x0.000000001"},
		"+300.5%":      {4_005_000_000, " x4.005"},
		"1.000000001":  {1_000_000_001, " x1.000000001"},
	} {
		p, ok := withTerms(t, pricing.Terms{Factor: factor}).TenantPrice("t", "acme", "m", today)
		require.True(t, ok)
		require.Equal(t, c.share, p.Share, factor)
		require.Equal(t, "acme/m"+c.mark, p.Row, factor)
		require.Equal(t, int64(1e9), p.Input, "the rates are the book's")
	}
}

func TestTerms_BadOnesAreErrorsThatNameTenantAndField(t *testing.T) {
	t.Parallel()
	for want, terms := range map[string]pricing.Terms{
		`t: Factor: "0": a tenant that pays nothing has OwnKeys`:        {Factor: "0"},
		`t: Factor: amount "-1" is negative`:                            {Factor: "-1"},
		`t: Factor: amount "abc" is not`:                                {Factor: "abc"},
		`t: Factor: "20%": a percentage has a sign`:                     {Factor: "20%"},
		`t: Factor: "-100%": a discount leaves something to pay`:        {Factor: "-100%"},
		`t: Factor: "+-5%": amount "-5" is negative`:                    {Factor: "+-5%"},
		`t: Factor: "+0.00000001%": finer than a billionth`:             {Factor: "+0.00000001%"},
		`t: Factor: "%": a percentage has a sign`:                       {Factor: "%"},
		`t: OwnKeys: empty name`:                                        {OwnKeys: []string{""}},
		`t: Rows: pricing: rows[0] (acme m): Input: amount "-1" is neg`: {Rows: []pricing.Row{row("acme", "m", "-1", "1")}},
	} {
		_, err := pricing.Default().With(pricing.TenantTerms("t", terms))
		require.ErrorContains(t, err, "pricing: TenantTerms: "+want)
	}
	_, err := pricing.Default().With(pricing.TenantTerms("", pricing.Terms{}))
	require.ErrorContains(t, err, "empty tenant id")
	_, err = pricing.Default().With(pricing.TenantTerms("acme ", pricing.Terms{Factor: "2"}))
	require.ErrorContains(t, err, "a space at an end")
}

func TestTerms_ATenantPaysItsShareOfTheExactCost(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		percent := big.NewRat(rapid.Int64Range(-9999, 50_000).Draw(t, "percent"), 100)
		sign := "+"
		if percent.Sign() < 0 {
			sign = ""
		}
		book, err := pricing.Default().With(pricing.TenantTerms("t", pricing.Terms{Factor: sign + percent.FloatString(2) + "%"}))
		require.NoError(t, err)
		usage := tenant.Usage{
			Input: rapid.Int64Range(0, 1e6).Draw(t, "input"), Output: rapid.Int64Range(0, 1e6).Draw(t, "output"),
			WebSearches: rapid.Int64Range(0, 3).Draw(t, "searches"),
		}
		p, ok := book.TenantPrice("t", "openai", "gpt-4.1-mini", today)
		require.True(t, ok)
		exact := new(big.Rat).SetInt64(usage.Input*400 + usage.Output*1600 + usage.WebSearches*10_000_000)
		exact.Mul(exact, new(big.Rat).Add(big.NewRat(1, 1), new(big.Rat).Quo(percent, big.NewRat(100, 1))))
		exact.Add(exact, big.NewRat(1, 2))
		want := new(big.Int).Div(exact.Num(), exact.Denom()).Int64()
		require.Equal(t, want, inNano(p.Charge(usage)))
		plain, _ := book.Price("openai", "gpt-4.1-mini", today)
		require.Equal(t, inNano(plain.Cost(usage)), inNano(p.Cost(usage)), "terms change nothing of the cost")
	})
}

func TestTerms_NegotiatedPricesAreChargedAsTheyAre(t *testing.T) {
	t.Parallel()
	book := withTerms(t, pricing.Terms{
		Factor: "2",
		Rows:   []pricing.Row{row("acme", "m", "0.5", "0.5"), row("acme", "own", "0.1", "0.1"), row("openrouter", "acme/m", "0.2", "0.2")},
	})
	for _, c := range []struct {
		tenant, provider, model, row string
		share                        int64
		reported                     bool
	}{
		{"t", "acme", "m", "acme/m negotiated", 0, false},
		{"t", "", "m", "acme/m negotiated", 0, false},
		{"t", "acme", "m-latest", "acme/m negotiated", 0, false},
		{"t", "acme", "m-2026-02-02", "acme/m negotiated", 0, false},
		{"t", "acme", "m-2026-01-01", "acme/m-2026-01-01 x2", 2_000_000_000, false},
		{"t", "acme", "n", "acme/n x2", 2_000_000_000, false},
		{"t", "acme", "own", "acme/own negotiated", 0, false},
		{"t", "openrouter", "acme/m", "openrouter/acme/m negotiated", 0, true}, // which is what it costs
		{"t", "openrouter", "acme/unknown", "", 2_000_000_000, true},
		{"other", "acme", "m", "acme/m", 0, false},
		{"other", "acme", "own", "", 0, false},
		{"other", "openrouter", "acme/m", "openrouter/acme/m", 0, true},
	} {
		p, ok := book.TenantPrice(c.tenant, c.provider, c.model, today)
		require.Equal(t, c.row != "", ok, "%+v", c)
		require.Equal(t, c.row, p.Row, "%+v", c)
		require.Equal(t, c.share, p.Share, "%+v", c)
		require.Equal(t, c.reported, p.ChargeReported, "%+v", c)
		if n := p.Negotiated; n != nil {
			require.False(t, n.ChargeReported || n.Share != 0, "%+v", c)
		}
	}
	p, _ := book.Price("acme", "m", today)
	require.Equal(t, "acme/m", p.Row, "without a tenant there are no terms")
}

func TestTerms_CallsWithATenantsOwnKeyCostNothing(t *testing.T) {
	t.Parallel()
	book := withTerms(t, pricing.Terms{Factor: "2", OwnKeys: []string{"OpenRouter", "acme"}})
	usage := tenant.Usage{Input: 1e6, Output: 1e6, WebSearches: 5}
	for _, c := range [][3]string{
		{"acme", "m", "acme/m own key"},
		{"", "m", "acme/m own key"},
		{"acme", "unknown", "acme/unknown own key"},
		{"openrouter", "acme/m", "openrouter/acme/m own key"},
	} {
		p, ok := book.TenantPrice("t", c[0], c[1], today)
		require.True(t, ok, c)
		require.Equal(t, c[2], p.Row)
		require.Zero(t, inNano(p.Cost(usage)))
		require.False(t, p.ChargeReported)
	}
	p, ok := book.TenantPrice("other", "acme", "m", today)
	require.True(t, ok)
	require.Positive(t, inNano(p.Cost(usage)))
}

func TestTerms_OfTheNearestAboveAreThoseOfATenantWithoutItsOwn(t *testing.T) {
	t.Parallel()
	above := map[string]string{"team": "dept", "dept": "org", "own": "org", "round": "round"}
	for i := range 17 {
		above["deep"+strings.Repeat("x", i)] = "deep" + strings.Repeat("x", i+1)
	}
	above["deep"+strings.Repeat("x", 17)] = "org"
	terms := func(factor string) pricing.Terms { return pricing.Terms{Factor: factor} }
	flat, err := pricing.Default().With(pricing.TenantTerms("org", terms("1.5")), pricing.TenantTerms("own", terms("3")))
	require.NoError(t, err)
	book, err := flat.With(pricing.InheritTerms(func(id string) string { return above[id] }))
	require.NoError(t, err)
	for id, want := range map[string]string{
		"org": " x1.5", "dept": " x1.5", "team": " x1.5", "own": " x3", "other": "", "round": "", "deep": "", "deepxx": " x1.5",
	} {
		p, ok := book.TenantPrice(id, "openai", "gpt-4.1", today)
		require.True(t, ok)
		require.Equal(t, "openai/gpt-4.1"+want, p.Row, id)
	}
	p, _ := flat.TenantPrice("team", "openai", "gpt-4.1", today)
	require.Equal(t, "openai/gpt-4.1", p.Row, "nobody has said who stands above")

	_, err = flat.With(pricing.InheritTerms(nil))
	require.ErrorContains(t, err, "pricing: InheritTerms: no function")
}

func TestOptions_AnInferenceProfileOfOnesOwnHasThePriceOfItsModel(t *testing.T) {
	t.Parallel()
	const profile = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"
	book, err := pricing.Default().With(pricing.Deployments(map[string]string{
		profile: "us.anthropic.claude-haiku-4-5-20251001-v1:0", "prod": "gpt-4.1",
	}))
	require.NoError(t, err)
	for _, c := range [][3]string{
		{"bedrock", profile, "bedrock/us.anthropic.claude-haiku-4-5-20251001-v1:0"},
		{"", "bedrock/" + profile, "bedrock/us.anthropic.claude-haiku-4-5-20251001-v1:0"},
		{"bedrock", profile + "4", ""},
		{"azure", profile, ""},
		{"bedrock", "prod", ""},
		{"", profile, ""},
	} {
		p, _ := book.Price(c[0], c[1], today)
		require.Equal(t, c[2], p.Row, c)
	}
	_, err = pricing.Default().With(pricing.Deployments(map[string]string{profile: "claude-haiku-4-5"}))
	require.ErrorContains(t, err, `the book has no model "claude-haiku-4-5" of bedrock`)
}

func TestOptions_APriceSaysWhetherWhatTheProviderReportsIsCharged(t *testing.T) {
	t.Parallel()
	book, err := pricing.Default().With(
		pricing.ChargeReported("OpenAI", "acme"), pricing.ChargeComputed("openrouter"), pricing.ChargeComputed("x-ai"))
	require.NoError(t, err)
	for _, c := range []struct {
		book            *pricing.Book
		provider, model string
		want            bool
	}{
		{pricing.Default(), "openrouter", "openai/gpt-4o", true},
		{pricing.Default(), "openrouter", "unknown/model", true},
		{pricing.Default(), "", "openrouter/openai/gpt-4o", true},
		{pricing.Default(), "perplexity", "sonar", true},
		{pricing.Default(), "vercel", "openai/gpt-4o", true},
		{pricing.Default(), "xai", "grok-4.3", true},
		{pricing.Default(), "", "grok-4.3", true},
		{pricing.Default(), "openai", "gpt-4o", false},
		{pricing.Default(), "acme", "m", false},
		{book, "openrouter", "openai/gpt-4o", false},
		{book, "xai", "grok-4.3", false},
		{book, "openai", "gpt-4o", true},
		{book, "acme", "m", true},
		{book, "perplexity", "sonar", true},
	} {
		p, _ := c.book.Price(c.provider, c.model, today)
		require.Equal(t, c.want, p.ChargeReported, "%s %s", c.provider, c.model)
	}
	for _, o := range []pricing.Option{pricing.ChargeReported(""), pricing.ChargeComputed("openai", "")} {
		_, err := pricing.Default().With(o)
		require.ErrorContains(t, err, "empty name of a provider")
	}
}

func TestOptions_ADeploymentOnAzureHasThePriceOfItsModel(t *testing.T) {
	t.Parallel()
	book, err := pricing.Default().With(pricing.Deployments(map[string]string{
		"prod-chat": "gpt-4.1", "gpt-4o": "gpt-4o-mini",
	}))
	require.NoError(t, err)
	for _, c := range [][3]string{
		{"azure", "prod-chat", "azure/gpt-4.1"},
		{"Azure-OpenAI", "prod-chat", "azure/gpt-4.1"},
		{"", "azure/prod-chat", "azure/gpt-4.1"},
		{"azure", "gpt-4o", "azure/gpt-4o-mini"}, // a deployment may be named after another model
		{"azure", "gpt-4.1-2025-04-14", "azure/gpt-4.1"},
		{"openai", "gpt-4o", "openai/gpt-4o"},
		{"openai", "prod-chat", ""},
	} {
		p, ok := book.Price(c[0], c[1], today)
		require.Equal(t, c[2] != "", ok, c)
		require.Equal(t, c[2], p.Row)
	}
	_, err = pricing.Default().With(pricing.Deployments(map[string]string{"prod": "gpt-99"}))
	require.ErrorContains(t, err, `pricing: Deployments[prod]: the book has no model "gpt-99" of azure`)

	negotiated, err := book.With(pricing.TenantTerms("t", pricing.Terms{Rows: []pricing.Row{row("azure", "gpt-4.1", "1", "1")}}))
	require.NoError(t, err)
	p, ok := negotiated.TenantPrice("t", "azure", "prod-chat", today)
	require.True(t, ok)
	require.Equal(t, "azure/gpt-4.1 negotiated", p.Row)
}

func TestOptions_LeaveTheBookThatTheyAreAppliedToAsItWas(t *testing.T) {
	t.Parallel()
	before := len(pricing.Default().Rows())
	book, err := pricing.Default().With(
		pricing.Override(row("acme", "m", "1", "1"), row("openai", "gpt-4o", "9", "9")),
		pricing.ChargeReported("openai"),
		pricing.Deployments(map[string]string{"prod": "gpt-4.1"}),
		pricing.TenantTerms("t", pricing.Terms{Factor: "2"}),
	)
	require.NoError(t, err)
	require.Len(t, book.Rows(), before+1)
	require.Len(t, pricing.Default().Rows(), before)
	p, _ := pricing.Default().TenantPrice("t", "openai", "gpt-4o", today)
	require.Equal(t, int64(2.5e9), p.Input)
	require.Zero(t, p.Share)
	require.False(t, p.ChargeReported)
	_, ok := pricing.Default().Price("azure", "prod", today)
	require.False(t, ok)
	_, ok = pricing.Default().Price("acme", "m", today)
	require.False(t, ok)

	again, err := pricing.New(book.Rows()...)
	require.NoError(t, err)
	require.Len(t, again.Rows(), before+1)
	p, _ = book.TenantPrice("t", "", "gpt-4o", today)
	require.Equal(t, "openai/gpt-4o x2", p.Row)
	require.True(t, p.ChargeReported)
	require.Equal(t, int64(9e9), p.Input)
}

func TestAny_PricesEveryModelOfItsProviderThatHasNoRow(t *testing.T) {
	t.Parallel()
	book, err := pricing.New(row("vllm", pricing.Any, "0", "0"), row("vllm", "big", "1", "1"))
	require.NoError(t, err)
	for model, want := range map[string]string{"big": "vllm/big", "small": "vllm/*", "big-2026-01-01": "vllm/big"} {
		p, ok := book.Price("vllm", model, today)
		require.True(t, ok)
		require.Equal(t, want, p.Row)
	}
	for _, c := range [][2]string{{"", "small"}, {"other", "small"}, {"vllm", ""}, {"vllm", "*"}, {"", "*"}} {
		_, ok := book.Price(c[0], c[1], today)
		require.False(t, ok, c)
	}
}

func TestLive_PricesByTheBookThatIsInIt(t *testing.T) {
	t.Parallel()
	one, err := pricing.New(row("acme", "m", "1", "1"))
	require.NoError(t, err)
	two, err := one.With(pricing.Override(row("acme", "m", "2", "2")), pricing.TenantTerms("t", pricing.Terms{Factor: "2"}))
	require.NoError(t, err)
	live := pricing.NewLive(nil)
	_, ok := live.Price("acme", "m", today)
	require.False(t, ok)

	live.Set(one)
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for range 1000 {
				p, ok := live.TenantPrice("t", "acme", "m", today)
				if !ok || p.Input != 1e9 && (p.Input != 2e9 || p.Share != 2e9) {
					t.Errorf("half a book: %+v", p)
					return
				}
			}
		})
	}
	for i := range 1000 {
		live.Set([]*pricing.Book{one, two}[i%2])
	}
	readers.Wait()

	// A list that is refused leaves the book in place.
	fresh, err := pricing.Load(strings.NewReader(`{"acme/m": {"litellm_provider": "acme", "input_cost_per_token"`))
	require.Error(t, err)
	require.Nil(t, fresh)
	require.Same(t, two, live.Book())
}

func TestBook_SaysOfWhichDayItIs(t *testing.T) {
	t.Parallel()
	live := pricing.NewLive(pricing.Default())
	first := live.AsOf()
	require.Equal(t, pricing.Default().AsOf(), first)
	require.False(t, first.Before(day(2026, time.September, 23)))

	laid := row("acme", "m", "1", "1")
	book, err := pricing.Default().With(pricing.Override(laid))
	require.NoError(t, err)
	require.Equal(t, first, book.AsOf(), "a row of one's own makes no new book")
	book, err = book.With(pricing.Override(laid), pricing.AsOf(day(2026, time.November, 28)), pricing.Override(laid))
	require.NoError(t, err)
	live.Set(book)
	require.Equal(t, day(2026, time.November, 28), live.AsOf())
	require.Equal(t, first, pricing.Default().AsOf())

	own, err := pricing.New(laid)
	require.NoError(t, err)
	require.True(t, own.AsOf().IsZero())
	require.True(t, pricing.NewLive(nil).AsOf().IsZero())
	_, err = own.With(pricing.AsOf(time.Time{}))
	require.ErrorContains(t, err, "pricing: AsOf")
}
