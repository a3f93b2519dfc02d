package tenanttest

import (
	"time"

	"github.com/llmtenant/tenant"
)

// The model that [Prices] knows, and that [NewModel] is.
const (
	Provider  = "test"
	ModelName = "test-model"
)

const dollarPerMillion = 1_000_000_000 // nano-dollars per million tokens

// Prices returns a price book with one model: "test-model" of provider "test", at $1 per million tokens of input and $2
// per million tokens of output, of every class. So 1,000 tokens of input cost $0.001, and 500 of output as much.
func Prices() tenant.Prices { return prices{} }

type prices struct{}

func (prices) Price(provider, model string, _ time.Time) (tenant.Price, bool) {
	if model != ModelName || provider != Provider && provider != "" {
		return tenant.Price{}, false
	}
	return tenant.Price{
		Provider: Provider, Model: ModelName,
		Rates: tenant.Rates{Input: dollarPerMillion, Output: 2 * dollarPerMillion},
	}, true
}
