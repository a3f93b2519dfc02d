package pricing_test

import (
	"fmt"
	"time"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/pricing"
)

func ExampleDefault() {
	at := time.Date(2026, time.August, 21, 0, 0, 0, 0, time.UTC)
	price, ok := pricing.Default().Price(pricing.OpenAI, "gpt-4.1-mini-2025-04-14", at)
	fmt.Println(ok, price.Model)
	fmt.Println(price.Input, "nano-dollars per million tokens")
	fmt.Println(price.Cost(tenant.Usage{Input: 1000, CacheRead: 4000, Output: 250}), "nano-dollars")
	// Output:
	// true gpt-4.1-mini
	// 400000000 nano-dollars per million tokens
	// 1200000 nano-dollars
}

func ExampleBook_With() {
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
	// openai gpt-4.1-mini 300000000
	// acme house-8b 50000000
	// openai gpt-4.1 2000000000
}

func ExampleNew() {
	_, err := pricing.New(pricing.Row{Provider: "acme", Model: "house-8b", Rates: pricing.Rates{
		Input: "0.05", Output: "-0.05",
	}})
	fmt.Println(err)
	// Output:
	// pricing: rows[0] (acme house-8b): Output: amount "-0.05" is negative
}
