package money_test

import (
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/llmtenant/tenant/internal/money"
)

func TestFormat_ShowsAtLeastTwoAndAtMostNineDecimals(t *testing.T) {
	t.Parallel()

	for nano, want := range map[int64]string{
		0:                 "$0.00",
		1:                 "$0.000000001",
		412_000:           "$0.000412",
		10_000_000:        "$0.01",
		100_000_000:       "$0.10",
		1_250_000_000:     "$1.25",
		1_200_000_000:     "$1.20",
		100 * money.Nano:  "$100.00",
		1_234_567_890_123: "$1234.567890123",
		-500_000_000:      "-$0.50",
		-1:                "-$0.000000001",
		money.Max:         "$4611686018.427387904",
		math.MaxInt64:     "$9223372036.854775807",
		math.MinInt64:     "-$9223372036.854775808",
	} {
		require.Equal(t, want, money.Format(nano))
	}
}

func TestFormat_IsWhatParseReads(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		nano := rapid.Int64Range(0, money.Max).Draw(t, "nano")
		got, err := money.Parse(strings.TrimPrefix(money.Format(nano), "$"))
		require.NoError(t, err)
		require.Equal(t, nano, got)
	})
}

func TestAddAndSub_SaturateAtTheEndsOfInt64(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		a, b := edges().Draw(t, "a"), edges().Draw(t, "b")
		x, y := big.NewInt(a), big.NewInt(b)
		require.Equal(t, saturated(new(big.Int).Add(x, y)), money.Add(a, b))
		require.Equal(t, saturated(new(big.Int).Sub(x, y)), money.Sub(a, b))
	})
}

func TestCeil_RoundsUpAndSaturates(t *testing.T) {
	t.Parallel()

	for _, c := range []struct{ tokens, rate, want int64 }{
		{0, 0, 0},
		{1, 1, 1},
		{1_000_000, 1, 1},
		{1_000_001, 1, 2},
		{1000, 2_500_000_000, 2_500_000}, // 1,000 tokens at $2.50 per million
		{3, 333_333, 1},
		{3, 333_334, 2},
		{-1, 5, 0},
		{5, -1, 0},
		{math.MinInt64, math.MinInt64, 0},
		{math.MaxInt64, 1_000_000, math.MaxInt64},
		{math.MaxInt64, 1_000_001, math.MaxInt64},
		{math.MaxInt64, math.MaxInt64, math.MaxInt64},
	} {
		require.Equal(t, c.want, money.Ceil(c.tokens, c.rate), "%d tokens at %d", c.tokens, c.rate)
	}

	rapid.Check(t, func(t *rapid.T) {
		tokens, rate := edges().Draw(t, "tokens"), edges().Draw(t, "rate")
		exact := new(big.Int).Mul(big.NewInt(max(tokens, 0)), big.NewInt(max(rate, 0)))
		exact.Add(exact, big.NewInt(999_999)).Div(exact, big.NewInt(1_000_000))
		require.Equal(t, saturated(exact), money.Ceil(tokens, rate))
	})
}

func TestUnits_IsTheLargestCountThatCeilPricesWithinTheAmount(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		amount, rate := max(edges().Draw(t, "amount"), 0), edges().Draw(t, "rate")
		units := money.Units(amount, rate)
		require.GreaterOrEqual(t, units, int64(0))
		require.LessOrEqual(t, money.Ceil(units, rate), amount)
		if units < math.MaxInt64 {
			require.Greater(t, money.Ceil(units+1, rate), amount)
		}
	})
}

func TestUnits_OfAFreeRateIsUnboundedAndOfANegativeAmountIsZero(t *testing.T) {
	t.Parallel()

	require.EqualValues(t, math.MaxInt64, money.Units(0, 0))
	require.EqualValues(t, math.MaxInt64, money.Units(1, -1))
	require.EqualValues(t, math.MaxInt64, money.Units(math.MaxInt64, math.MaxInt64))
	require.Zero(t, money.Units(-1, 1))
	require.Zero(t, money.Units(-1, 0))
	require.Zero(t, money.Units(math.MinInt64, math.MinInt64))
	require.Zero(t, money.Units(0, 1))
	require.EqualValues(t, 1_000_000, money.Units(1, 1))
}

// edges draws int64 of every size, with the neighbours of the powers of two and of the rate's million more often than
// chance would.
func edges() *rapid.Generator[int64] {
	return rapid.OneOf(
		rapid.Int64(),
		rapid.Int64Range(-10, 10_000_000),
		rapid.Custom(func(t *rapid.T) int64 {
			n := int64(1) << rapid.IntRange(0, 62).Draw(t, "bit")
			return n + rapid.Int64Range(-2, 2).Draw(t, "near")
		}),
		rapid.SampledFrom([]int64{math.MinInt64, math.MinInt64 + 1, math.MaxInt64 - 1, math.MaxInt64}),
	)
}

func saturated(n *big.Int) int64 {
	switch {
	case n.IsInt64():
		return n.Int64()
	case n.Sign() < 0:
		return math.MinInt64
	}
	return math.MaxInt64
}

func BenchmarkCeil(b *testing.B) {
	tokens := int64(0)
	for b.Loop() {
		tokens++
		money.Ceil(tokens, 2_500_000_000)
	}
}

func TestShare_IsTheAmount(t *testing.T) {
	t.Parallel()
	d := decimal.New(1_500_000_000, -9)
	require.Equal(t, d, money.Share(d, 1_500_000_000))
	for _, other := range []decimal.Decimal{{}, decimal.New(15, -1), decimal.New(1_500_000_001, -9), decimal.New(-1_500_000_000, -9)} {
		require.Equal(t, "1.5", money.Share(other, 1_500_000_000).String())
	}
}
