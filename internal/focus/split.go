package focus

import (
	"encoding/json"
	"math"
	"math/big"
	"strings"

	"github.com/llmtenant/tenant/internal/money"
)

// perMillion is the parts of a nano-dollar in which exact prices are counted.
const perMillion = 1_000_000

// Names of what is no class of usage.
const (
	requests     = "requests"
	unclassified = "tokens"
)

// Requests is the part of a fee for each call.
func Requests(calls, fee int64) Part {
	return Part{Name: requests, Unit: "Requests", N: calls, Rate: fee, Each: true, Priced: true}
}

// exact is the list price of a part, in millionths of a nano-dollar.
func (p *Part) exact() *big.Int {
	if !p.Priced {
		return new(big.Int)
	}
	n := new(big.Int).Mul(big.NewInt(p.N), big.NewInt(p.Rate))
	if p.Each {
		n.Mul(n, big.NewInt(perMillion))
	}
	return n
}

// Exact is the list price of parts, in millionths of a nano-dollar.
func Exact(parts []Part) *big.Int {
	sum := new(big.Int)
	for i := range parts {
		sum.Add(sum, parts[i].exact())
	}
	return sum
}

// rows are the shares of a line, which add up to it. What it cost is shared in the proportion of the list prices. Tokens of
// no known class have what the others do not come to. What cannot be shared so is that of the only class, or of the calls.
func (l *Line) rows() []row {
	if l.Adjusted {
		if l.Cost == 0 && l.Charge == 0 {
			return nil
		}
		return []row{{Line: l, cost: l.Cost, charge: l.Charge}}
	}
	parts := append([]Part(nil), l.Parts...)
	weights := make([]*big.Int, 0, len(parts)+1)
	sum := Exact(parts)
	for i := range parts {
		weights = append(weights, parts[i].exact())
	}
	if l.Unclassified > 0 {
		parts = append(parts, Part{Name: unclassified, Unit: "Tokens", N: l.Unclassified})
		rest := new(big.Int).Mul(big.NewInt(max(l.Cost, l.Charge)), big.NewInt(perMillion))
		if rest.Sub(rest, sum); rest.Sign() < 0 {
			rest.SetInt64(0)
		}
		weights = append(weights, rest)
		sum.Add(sum, rest)
	}
	if sum.Sign() == 0 && (l.Cost != 0 || l.Charge != 0) {
		if len(parts) != 1 {
			parts = append(parts, Part{Name: requests, Unit: "Requests", N: l.Calls, Each: true})
			weights = append(weights, new(big.Int))
		}
		weights[len(weights)-1] = big.NewInt(1)
	}
	costs, charges := share(l.Cost, weights), share(l.Charge, weights)
	rows := make([]row, len(parts))
	for i := range parts {
		if l.Unpriced {
			parts[i].Priced = false
		}
		rows[i] = row{Line: l, Part: &parts[i], cost: costs[i], charge: charges[i]}
	}
	return rows
}

// share shares an amount in the proportion of weights: each share is rounded to the nano-dollar, and the largest has what that
// leaves or lacks.
func share(amount int64, weights []*big.Int) []int64 {
	shares := make([]int64, len(weights))
	sum, most := new(big.Int), 0
	for i, w := range weights {
		sum.Add(sum, w)
		if w.Cmp(weights[most]) > 0 {
			most = i
		}
	}
	if sum.Sign() == 0 {
		return shares
	}
	left := amount
	for i, w := range weights {
		twice := new(big.Int).Mul(w, big.NewInt(amount))
		twice.Add(twice.Lsh(twice, 1), sum) // half up
		twice.Div(twice, new(big.Int).Lsh(sum, 1))
		shares[i] = twice.Int64()
		left -= shares[i]
	}
	shares[most] += left
	return shares
}

// list is what a row comes to at the list price; what it costs where there is none.
func (r *row) list() int64 {
	if r.Part == nil || !r.Priced {
		return r.cost
	}
	var exact money.Sum
	if r.Each {
		exact.AddFees(r.N, r.Rate)
	} else {
		exact.AddTokens(r.N, r.Rate)
	}
	return exact.Nano()
}

// quantity is what is priced, by the pricing unit, in billionths.
func (r *row) quantity() []byte {
	if r.Each {
		return number(saturated(r.N, money.Nano))
	}
	return number(saturated(r.N, money.Nano/perMillion))
}

// consumed is what was used, by the consumed unit: seconds are rounded, halves up.
func (r *row) consumed() int64 {
	if r.Unit == Seconds {
		return r.N/1000 + r.N%1000/500
	}
	return r.N
}

func saturated(n, by int64) int64 {
	if n > math.MaxInt64/by {
		return math.MaxInt64
	}
	return n * by
}

func (r *row) pricingUnit() string {
	switch {
	case r.Each:
		return r.Unit
	case r.Unit == Seconds:
		return "1000 " + Seconds
	default:
		return "1000000 " + r.Unit
	}
}

func (r *row) sku() string { return r.Provider + "/" + r.Model + "/" + r.Part.Name }

// skuPrice names what the price of a SKU depends on.
func (r *row) skuPrice() string {
	id := r.sku()
	if r.Tier != "" {
		id += "/" + r.Tier
	}
	if r.Above > 0 {
		id += "/>" + string(number(r.Above))
	}
	return id
}

// details says what the price depends on beside the SKU, one by one; nil: on nothing.
func (r *row) details() []byte {
	properties := map[string]string{}
	if r.Tier != "" {
		properties["x_ServiceTier"] = r.Tier
	}
	if r.Above > 0 {
		properties["x_PromptAbove"] = string(number(r.Above))
	}
	if len(properties) == 0 {
		return nil
	}
	object, _ := json.Marshal(properties) // of texts, which cannot fail
	return object
}

// title is a name as people read it: input_tokens are Input Tokens.
func title(name string) string {
	words := strings.FieldsFunc(strings.TrimSuffix(strings.Replace(name, "_ms+", "+", 1), "_ms"), func(r rune) bool { return r == '_' || r == '+' })
	for i, w := range words {
		words[i] = strings.ToUpper(w[:1]) + w[1:]
	}
	return strings.Join(words, " ")
}

// UnitOf is what a count by the piece or by the length counts, as in Images for input_images.
func UnitOf(kind string) string {
	if strings.HasSuffix(kind, "_ms") {
		return Seconds
	}
	return title(kind[strings.LastIndexByte(kind, '_')+1:])
}
