package harness

import (
	"time"

	"github.com/llmtenant/tenant"
)

// Rates in nano-dollars per million tokens. They differ by class, and are such that a cost has to be rounded, so that a
// token in the wrong class is seen in the nano-dollars.
const (
	inputRate     = 1_100_000_000
	cacheReadRate = 275_000_000
	writeRate5m   = 1_375_000_000
	writeRate1h   = 2_200_000_000
	outputRate    = 4_400_000_001
	reasoningRate = 4_700_000_001
)

// prices is a price book with one model. It has no provider: the server is on loopback, where nobody is known.
type prices struct{}

// Price implements tenant.Prices.
func (prices) Price(provider, model string, _ time.Time) (tenant.Price, bool) {
	if model != Model || provider != "" {
		return tenant.Price{}, false
	}
	return tenant.Price{Model: Model, Rates: tenant.Rates{
		Input: inputRate, CacheRead: cacheReadRate, CacheWrite5m: writeRate5m, CacheWrite1h: writeRate1h,
		Output: outputRate, Reasoning: reasoningRate,
	}}, true
}

// cost is what a usage costs in nano-dollars, rounded half up. It is reckoned here once more, and not asked of the
// library, whose arithmetic is what is being checked.
func cost(u tenant.Usage) int64 {
	const million = 1_000_000
	exact := u.Input*inputRate + u.CacheRead*cacheReadRate + u.CacheWrite5m*writeRate5m + u.CacheWrite1h*writeRate1h +
		u.Output*outputRate + u.Reasoning*reasoningRate
	return (exact + million/2) / million
}
