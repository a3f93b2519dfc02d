package meter

import (
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestScaled_IsExactOrSaysThatItIsNot(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text   string
		places int
		n      int64
		exact  bool
		ok     bool
	}{
		{"0", 0, 0, true, true},
		{"12", 0, 12, true, true},
		{"12.0", 0, 12, true, true},
		{"1.2e1", 0, 12, true, true},
		{"120e-1", 0, 12, true, true},
		{"0.5", 0, 1, false, true},
		{"0.4", 0, 0, false, true},
		{"-3", 0, -3, true, true},
		{"1.4e-07", 9, 140, true, true},
		{"0.0004970133333333333", 9, 497013, false, true},
		{"0.0000000005", 9, 1, false, true},
		{"0.00000000049999999999999999999999999", 9, 0, false, true},
		{"2488500", -1, 248850, true, true},
		{"5", -1, 1, false, true},
		{"4", -1, 0, false, true},
		{"1e-9999", 9, 0, false, true},
		{"1e9999", 0, 0, false, false},
		{"0e9999", 0, 0, true, true},
		{"9223372036854775807", 0, 0, false, false},
		{"922337203685477580", 0, 922337203685477580, true, true},
		{"1.000000000000000000000000000000", 0, 1, true, true},
		{"", 0, 0, false, false},
		{"-", 0, 0, false, false},
		{".", 0, 0, false, false},
		{"1e", 0, 0, false, false},
		{"1e+", 0, 0, false, false},
		{"1x", 0, 0, false, false},
		{"true", 0, 0, false, false},
		{"1.2.3", 0, 0, false, false},
	} {
		n, exact, ok := scaled([]byte(c.text), c.places)
		require.Equal(t, c.ok, ok, c.text)
		if ok {
			require.Equal(t, c.n, n, c.text)
			require.Equal(t, c.exact, exact, c.text)
		}
	}
}

func FuzzScaledIsWhatExactArithmeticGives(f *testing.F) {
	f.Add("12.5e3", 0)
	f.Add("0.00000000049999999999999999", 9)
	f.Add("999999999999999999999", -1)
	f.Fuzz(func(t *testing.T, s string, places int) {
		if places < -2 || places > 9 || len(s) > 40 {
			return
		}
		n, exact, ok := scaled([]byte(s), places)
		if !ok {
			return
		}
		want, valid := new(big.Rat).SetString(s)
		if !valid || want.Num().BitLen() > 4000 || want.Denom().BitLen() > 4000 {
			return // an exponent beyond what is worth multiplying out
		}
		scale := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(places, -places))), nil))
		if places < 0 {
			scale.Inv(scale)
		}
		want.Mul(want, scale)
		if exact != want.IsInt() && exact {
			t.Fatalf("%s e%d: %d is said to be exact", s, places, n)
		}
		got := new(big.Rat).SetInt64(n)
		if exact && got.Cmp(want) != 0 {
			t.Fatalf("%s e%d: %d", s, places, n)
		}
		got.Sub(got, want).Abs(got)
		if got.Cmp(big.NewRat(1, 2)) > 0 {
			t.Fatalf("%s e%d: %d is off", s, places, n)
		}
	})
}
