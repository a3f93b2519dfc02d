package money_test

import (
	"math"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/llmtenant/tenant/internal/money"
)

func TestSum_ZeroValueIsEmpty(t *testing.T) {
	t.Parallel()

	var sum money.Sum
	require.Zero(t, sum.Nano())
}

func TestSum_RoundsTheTotalOnceAndHalfUp(t *testing.T) {
	t.Parallel()

	var sum money.Sum
	sum.AddTokens(1, 499_999)
	require.Zero(t, sum.Nano())
	sum.AddTokens(1, 1)
	require.EqualValues(t, 1, sum.Nano())
	sum.AddTokens(1, 999_999)
	require.EqualValues(t, 1, sum.Nano(), "1.499999 after three parts, each of which alone rounds to 0, 0 and 1")
	sum.AddFees(2, 10)
	require.EqualValues(t, 21, sum.Nano())
}

func TestSum_IsExactInAnyOrderAndSaturates(t *testing.T) {
	t.Parallel()

	type part struct {
		fee  bool
		n, x int64
	}
	parts := rapid.SliceOf(rapid.Custom(func(t *rapid.T) part {
		return part{rapid.Bool().Draw(t, "fee"), edges().Draw(t, "n"), edges().Draw(t, "x")}
	}))
	million := big.NewInt(1_000_000)

	rapid.Check(t, func(t *rapid.T) {
		var forward, backward money.Sum
		exact := new(big.Int)
		drawn := parts.Draw(t, "parts")
		add := func(s *money.Sum, p part) {
			if p.fee {
				s.AddFees(p.n, p.x)
			} else {
				s.AddTokens(p.n, p.x)
			}
		}
		for i, p := range drawn {
			add(&forward, p)
			add(&backward, drawn[len(drawn)-1-i])
			product := new(big.Int).Mul(big.NewInt(max(p.n, 0)), big.NewInt(max(p.x, 0)))
			if p.fee {
				product.Mul(product, million)
			}
			exact.Add(exact, product)
		}
		exact.Add(exact, big.NewInt(500_000)).Div(exact, million)
		require.Equal(t, saturated(exact), forward.Nano())
		require.Equal(t, forward.Nano(), backward.Nano())
	})
}

func TestSum_StaysSaturated(t *testing.T) {
	t.Parallel()

	fill := map[string]func(*money.Sum){
		"tokens":           func(s *money.Sum) { s.AddTokens(math.MaxInt64, math.MaxInt64) },
		"fees":             func(s *money.Sum) { s.AddFees(math.MaxInt64, math.MaxInt64) },
		"fees of 128 bits": func(s *money.Sum) { s.AddFees(math.MaxInt64, 36_893_488) },
	}
	for name, add := range fill {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			var sum money.Sum
			for range 8 {
				add(&sum)
				require.EqualValues(t, math.MaxInt64, sum.Nano())
			}
			sum.AddTokens(1, 1)
			sum.AddFees(0, 0)
			require.EqualValues(t, math.MaxInt64, sum.Nano())
		})
	}
}

func BenchmarkSum(b *testing.B) {
	for b.Loop() {
		var sum money.Sum
		sum.AddTokens(12_345, 2_500_000_000)
		sum.AddTokens(678, 10_000_000_000)
		sum.AddFees(3, 10_000_000)
		sum.Nano()
	}
}

func TestSum_ScaledIsExactRoundsOnceAndSaturates(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		tokens, rate := edges().Draw(t, "tokens"), edges().Draw(t, "rate")
		n, fee, scale := edges().Draw(t, "n"), edges().Draw(t, "fee"), edges().Draw(t, "scale")
		var sum money.Sum
		sum.AddTokens(tokens, rate)
		sum.AddFees(n, fee)
		whole := sum.Nano()
		exact := new(big.Int).Mul(big.NewInt(max(n, 0)), big.NewInt(max(fee, 0)))
		exact.Mul(exact, big.NewInt(1_000_000))
		exact.Add(exact, new(big.Int).Mul(big.NewInt(max(tokens, 0)), big.NewInt(max(rate, 0))))
		if exact.BitLen() > 128 {
			return // the sum itself has saturated
		}
		require.Equal(t, whole, sum.Scaled(money.Nano))
		exact.Mul(exact, big.NewInt(max(scale, 0)))
		exact.Add(exact, big.NewInt(money.Nano*1_000_000/2)).Div(exact, big.NewInt(money.Nano*1_000_000))
		require.Equal(t, saturated(exact), sum.Scaled(scale))
	})
}

func TestScale_RoundsUpAndSaturates(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		amount, scale := edges().Draw(t, "amount"), edges().Draw(t, "scale")
		exact := new(big.Int).Mul(big.NewInt(max(amount, 0)), big.NewInt(max(scale, 0)))
		exact.Add(exact, big.NewInt(money.Nano-1)).Div(exact, big.NewInt(money.Nano))
		require.Equal(t, saturated(exact), money.Scale(amount, scale))
	})
}
