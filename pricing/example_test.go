package pricing_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/pricing"
)

func ExampleDefault() {
	at := time.Date(2026, time.August, 21, 0, 0, 0, 0, time.UTC)
	price, ok := pricing.Default().Price(pricing.OpenAI, "gpt-4.1-mini-2025-04-14", at)
	fmt.Println(ok, price.Model)
	fmt.Println(price.Input, "nano-dollars per million tokens")
	fmt.Println(price.Cost(tenant.Usage{Input: 1000, CacheRead: 4000, Output: 250}), "US dollars")
	// Output:
	// true gpt-4.1-mini
	// 400000000 nano-dollars per million tokens
	// 0.0012 US dollars
}

func ExampleOverride() {
	book, err := pricing.Default().With(pricing.Override(
		// A negotiated rate.
		pricing.Row{Provider: pricing.OpenAI, Model: "gpt-4.1-mini", Rates: pricing.Rates{
			Input: "0.30", CacheRead: "0.08", Output: "1.20",
		}},
		// A model of the host's own.
		pricing.Row{Provider: "acme", Model: "house-8b", Rates: pricing.Rates{Input: "0.05", Output: "0.05"}},
	))
	if err != nil {
		fmt.Println(err)
		return
	}
	usage := tenant.Usage{Input: 1_000_000}
	for _, model := range []string{"gpt-4.1-mini", "house-8b", "gpt-4.1"} {
		price, _ := book.Price("", model, time.Now())
		fmt.Println(price.Provider, price.Model, price.Cost(usage))
	}
	// Output:
	// openai gpt-4.1-mini 0.3
	// acme house-8b 0.05
	// openai gpt-4.1 2
}

func ExampleLoad() {
	live := pricing.NewLive(pricing.Default()) // tenant.Open(db, tenant.WithPrices(live))

	// What a download brought: a list of LiteLLM's, which a host fetches as often as it likes.
	download := strings.NewReader(`{"acme/house-8b": {
		"litellm_provider": "acme", "mode": "chat", "input_cost_per_token": 5e-08, "output_cost_per_token": 1e-07
	}}`)
	fresh, err := pricing.Load(download)
	if err != nil {
		fmt.Println(err) // and the book stays as it is
		return
	}
	today := time.Date(2026, time.November, 2, 0, 0, 0, 0, time.UTC)
	book, err := pricing.Default().With(pricing.Override(fresh.Rows()...), pricing.AsOf(today))
	if err != nil {
		fmt.Println(err)
		return
	}
	live.Set(book)

	price, _ := live.Price("acme", "house-8b", time.Now())
	fmt.Println(price.Row, price.Input, "as of", live.AsOf().Format(time.DateOnly))

	_, err = pricing.Load(strings.NewReader(`{"acme/house-8b": {"litellm_provider": "acme", "input_cost_per_token": -1}}`))
	fmt.Println(err)
	// Output:
	// acme/house-8b 50000000 as of 2026-11-02
	// pricing: Load: acme/house-8b: input_cost_per_token: -1 is negative
}

func ExampleTenantTerms() {
	book, err := pricing.Default().With(
		pricing.TenantTerms("acme", pricing.Terms{Factor: "+20%"}),
		pricing.TenantTerms("globex", pricing.Terms{Factor: "0.85", OwnKeys: []string{pricing.Anthropic}}),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	at := time.Date(2026, time.August, 21, 0, 0, 0, 0, time.UTC)
	usage := tenant.Usage{Input: 10_000, Output: 1_000}
	for _, org := range []string{"acme", "globex", "initech"} {
		for _, model := range []string{"gpt-4.1-mini", "claude-haiku-4-5"} {
			price, _ := book.TenantPrice(org, "", model, at)
			fmt.Println(org, price.Row, price.Cost(usage), price.Charge(usage))
		}
	}
	// Output:
	// acme openai/gpt-4.1-mini x1.2 0.0056 0.00672
	// acme anthropic/claude-haiku-4-5 x1.2 0.015 0.018
	// globex openai/gpt-4.1-mini x0.85 0.0056 0.00476
	// globex anthropic/claude-haiku-4-5 own key 0 0
	// initech openai/gpt-4.1-mini 0.0056 0.0056
	// initech anthropic/claude-haiku-4-5 0.015 0.015
}

func ExampleInheritTerms() {
	organization := map[string]string{"acme-support": "acme", "acme-sales": "acme"} // of the host's teams
	book, err := pricing.Default().With(
		pricing.TenantTerms("acme", pricing.Terms{Factor: "+20%"}),
		pricing.TenantTerms("acme-sales", pricing.Terms{Factor: "-10%"}),
		pricing.InheritTerms(func(team string) string { return organization[team] }),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, id := range []string{"acme", "acme-support", "acme-sales", "globex"} {
		price, _ := book.TenantPrice(id, pricing.OpenAI, "gpt-4.1", time.Now())
		fmt.Println(id, price.Row)
	}
	// Output:
	// acme openai/gpt-4.1 x1.2
	// acme-support openai/gpt-4.1 x1.2
	// acme-sales openai/gpt-4.1 x0.9
	// globex openai/gpt-4.1
}

func ExampleDeployments() {
	book, err := pricing.Default().With(pricing.Deployments(map[string]string{"prod-chat": "gpt-4.1"}))
	if err != nil {
		fmt.Println(err)
		return
	}
	price, ok := book.Price(pricing.Azure, "prod-chat", time.Now())
	fmt.Println(ok, price.Row)
	_, ok = book.Price(pricing.Azure, "staging-chat", time.Now())
	fmt.Println(ok)
	// Output:
	// true azure/gpt-4.1
	// false
}

func ExampleChargeReported() {
	book, err := pricing.Default().With(pricing.ChargeReported("house-gateway"), pricing.ChargeComputed(pricing.OpenRouter))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, provider := range []string{"house-gateway", pricing.OpenRouter, pricing.Perplexity, pricing.OpenAI} {
		price, _ := book.Price(provider, "any", time.Now())
		fmt.Println(provider, price.ChargeReported)
	}
	// Output:
	// house-gateway true
	// openrouter false
	// perplexity true
	// openai false
}

func ExampleNew() {
	_, err := pricing.New(pricing.Row{Provider: "acme", Model: "house-8b", Rates: pricing.Rates{
		Input: "0.05", Output: "-0.05",
	}})
	fmt.Println(err)
	// Output:
	// pricing: rows[0] (acme house-8b): Output: amount "-0.05" is negative
}
