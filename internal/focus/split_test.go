package focus

import (
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestShare_AddsUpAndIsWithinOneOfTheProportionButForTheLargest(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		amount := rapid.Int64().Draw(t, "amount")
		var weights []*big.Int
		sum, most := new(big.Int), 0
		for i, w := range rapid.SliceOfN(rapid.Int64Range(0, 1<<60), 1, 14).Draw(t, "weights") {
			weights = append(weights, big.NewInt(w))
			sum.Add(sum, weights[i])
			if weights[i].Cmp(weights[most]) > 0 {
				most = i
			}
		}
		shares, total := share(amount, weights), new(big.Int)
		for i, s := range shares {
			total.Add(total, big.NewInt(s))
			off := new(big.Int).Sub(new(big.Int).Mul(big.NewInt(s), sum), new(big.Int).Mul(weights[i], big.NewInt(amount)))
			if i != most {
				require.LessOrEqual(t, off.Lsh(off, 1).CmpAbs(sum), 0)
			}
		}
		if sum.Sign() == 0 {
			amount = 0
		}
		require.Zero(t, total.Cmp(big.NewInt(amount)))
	})
}

func TestLine_WhatCannotBeSharedHasOneRow(t *testing.T) {
	t.Parallel()
	used := func(name string, n, rate int64) Part {
		return Part{Name: name, Unit: "Tokens", N: n, Rate: rate, Priced: rate > 0}
	}
	for name, c := range map[string]struct {
		line Line
		want map[string]int64
	}{
		"no price":                 {Line{Cost: 7, Calls: 2, Parts: []Part{used("a", 1, 0), used("b", 1, 0)}}, map[string]int64{"a": 0, "b": 0, "requests": 7}},
		"no price and one class":   {Line{Cost: 7, Calls: 2, Parts: []Part{used("a", 1, 0)}}, map[string]int64{"a": 7}},
		"nothing used":             {Line{Cost: 7, Calls: 2}, map[string]int64{"requests": 7}},
		"nothing at all":           {Line{Calls: 2}, map[string]int64{}},
		"a charge alone":           {Line{Charge: 7, Calls: 1}, map[string]int64{"requests": 0}},
		"classes nobody knows":     {Line{Cost: 1007, Unclassified: 9, Parts: []Part{used("a", 7, 1e6)}}, map[string]int64{"a": 7, "tokens": 1000}},
		"nobody knows any":         {Line{Cost: 1007, Unclassified: 9}, map[string]int64{"tokens": 1007}},
		"stated by the provider":   {Line{Cost: 30, Parts: []Part{used("a", 1, 1e6), used("b", 2, 1e6)}}, map[string]int64{"a": 10, "b": 20}},
		"a fee beside a class":     {Line{Cost: 30, Parts: []Part{used("a", 10, 1e6), Requests(2, 10)}}, map[string]int64{"a": 10, "requests": 20}},
		"an adjustment":            {Line{Cost: -30, Adjusted: true}, map[string]int64{"": -30}},
		"one that comes to naught": {Line{Adjusted: true}, map[string]int64{}},
	} {
		got := map[string]int64{}
		for _, r := range c.line.rows() {
			of := ""
			if r.Part != nil {
				of = r.Part.Name
			}
			got[of] = r.cost
		}
		require.Equal(t, c.want, got, name)
	}
}

func TestTitle_IsWhatPeopleRead(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"input_tokens": "Input Tokens", "cache_write_5m_tokens": "Cache Write 5m Tokens", "input_audio_ms": "Input Audio",
		"output_video_ms+1280x720": "Output Video 1280x720", "output_images+hd": "Output Images Hd",
	} {
		require.Equal(t, want, title(name))
	}
	require.Equal(t, "Seconds", UnitOf("input_audio_ms"))
	require.Equal(t, "Images", UnitOf("output_images"))
	require.Equal(t, "Pages", UnitOf("pages"))
}
