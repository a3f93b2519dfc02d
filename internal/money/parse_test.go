package money_test

import (
	"math"
	"math/big"
	"regexp"
	"strings"
	"testing"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/llmtenant/tenant/internal/money"
)

func TestParse_IsExact(t *testing.T) {
	t.Parallel()

	for s, want := range map[string]int64{
		"0":                      0,
		"-0.00":                  0,
		"0e999999999":            0,
		"100":                    100_000_000_000,
		"+1234.5":                1_234_500_000_000,
		"0.0000004":              400,
		"0.000000001":            1,
		"0.00000000100000000000": 1,
		"007.10":                 7_100_000_000,
		".5":                     500_000_000,
		"5.":                     5_000_000_000,
		"1e3":                    1_000_000_000_000,
		"4E-7":                   400,
		"1000e-12":               1,
		"4611686018.427387904":   money.Max,
	} {
		got, err := money.Parse(s)
		require.NoError(t, err, s)
		require.Equal(t, want, got, s)
	}
}

func TestParse_RefusesWhatIsNoAmountAndQuotesIt(t *testing.T) {
	t.Parallel()

	for s, want := range map[string]string{
		"":                             `amount "" is empty`,
		"ten":                          `amount "ten" is not a number`,
		"$5":                           `amount "$5" is not a number`,
		" 5":                           `amount " 5" is not a number`,
		"1,000":                        `amount "1,000" is not a number`,
		"1_000":                        `amount "1_000" is not a number`,
		"1.2.3":                        `amount "1.2.3" is not a number`,
		".-5":                          `amount ".-5" is not a number`,
		".":                            `amount "." is not a number`,
		"-":                            `amount "-" is not a number`,
		"e5":                           `amount "e5" is not a number`,
		"1e":                           `amount "1e" is not a number`,
		"1e1.5":                        `amount "1e1.5" is not a number`,
		"0x10":                         `amount "0x10" is not a number`,
		"NaN":                          `amount "NaN" is not a number`,
		"Inf":                          `amount "Inf" is not a number`,
		"\x00":                         `amount "\x00" is not a number`,
		"1.0000000001":                 `amount "1.0000000001" has more than 9 decimals`,
		"1e-10":                        `amount "1e-10" has more than 9 decimals`,
		"1e-999999999":                 `amount "1e-999999999" has more than 9 decimals`,
		"-0.01":                        `amount "-0.01" is negative`,
		"-1e999999999":                 `amount "-1e999999999" is negative`,
		"4611686018.427387905":         `amount "4611686018.427387905" is above the largest amount, $4611686018.427387904`,
		"1e10":                         `amount "1e10" is above the largest amount, $4611686018.427387904`,
		"1e999999999":                  `amount "1e999999999" is above the largest amount, $4611686018.427387904`,
		"1e99999999999999999999":       `amount "1e99999999999999999999" has an exponent out of range`,
		strings.Repeat("9", 1_000_000): `amount "` + strings.Repeat("9", 40) + `..." is longer than 128 bytes`,
	} {
		got, err := money.Parse(s)
		require.EqualError(t, err, want)
		require.Zero(t, got)
	}
}

func TestFromDecimal_FollowsTheRulesOfParse(t *testing.T) {
	t.Parallel()

	huge := new(big.Int).Lsh(big.NewInt(1), 4096)
	for _, c := range []struct {
		d    decimal.Decimal
		want string
	}{
		{decimal.New(-1, 0), `amount "-1" is negative`},
		{decimal.New(15, -10), `amount "0.0000000015" has more than 9 decimals`},
		{decimal.New(1, 999_999_999), `amount "1e999999999" is above the largest amount, $4611686018.427387904`},
		{decimal.New(1, math.MaxInt32), `amount "1e2147483647" is above the largest amount, $4611686018.427387904`},
		{decimal.New(1, math.MinInt32), `amount "1e-2147483648" has more than 9 decimals`},
		{decimal.NewFromBigInt(huge, 0), `amount "` + huge.String()[:40] + `..." is above the largest amount, $4611686018.427387904`},
		{decimal.NewFromBigInt(huge, -1200), `amount "` + huge.String()[:40] + `..." has more than 9 decimals`},
	} {
		got, err := money.FromDecimal(c.d)
		require.EqualError(t, err, c.want)
		require.Zero(t, got)
	}

	tenTo400 := new(big.Int).Exp(big.NewInt(10), big.NewInt(400), nil)
	got, err := money.FromDecimal(decimal.NewFromBigInt(tenTo400, -399))
	require.NoError(t, err)
	require.EqualValues(t, 10*money.Nano, got)
}

func TestFromDecimal_DoesNotChangeItsArgument(t *testing.T) {
	t.Parallel()

	d := decimal.New(1500, -2)
	_, err := money.FromDecimal(d)
	require.NoError(t, err)
	require.Equal(t, "15", d.String())
	require.EqualValues(t, 1500, d.CoefficientInt64())
}

func TestDecimal_IsTheInverseOfFromDecimal(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		nano := rapid.Int64Range(0, money.Max).Draw(t, "nano")
		got, err := money.FromDecimal(money.Decimal(nano))
		require.NoError(t, err)
		require.Equal(t, nano, got)
	})
	require.Equal(t, "-9223372036.854775808", money.Decimal(math.MinInt64).String())
}

var number = regexp.MustCompile(`^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$`)

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "0", "100", "1234.5", "0.0000004", "4e-7", "1e999999999", "1e-999999999", "-1", "+.5", ".-5", "1.0000000001",
		"4611686018.427387904", "4611686018.427387905", "9223372036.854775808", "1e+9", "NaN", "0x1p-2", "١",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		nano, err := money.Parse(s)
		if err != nil {
			require.Zero(t, nano)
			require.Contains(t, err.Error(), `amount "`)
			return
		}
		require.Regexp(t, number, s)
		require.GreaterOrEqual(t, nano, int64(0))
		require.LessOrEqual(t, nano, int64(money.Max))
		again, err := money.Parse(money.Decimal(nano).String())
		require.NoError(t, err)
		require.Equal(t, nano, again)
		if !strings.ContainsAny(s, "eE") {
			exact, ok := new(big.Rat).SetString(s)
			require.True(t, ok)
			require.Zero(t, exact.Cmp(big.NewRat(nano, money.Nano)), "%s became %d", s, nano)
		}
	})
}
