package units_test

import (
	"encoding/json"
	"maps"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/llmtenant/tenant/units"
)

func TestCounts_AreEqualWhereTheyCountTheSame(t *testing.T) {
	t.Parallel()
	name := rapid.SampledFrom([]units.Unit{units.InputAudio, units.Pages, units.OutputImages.With("hd"), units.OutputImages.With("hd", "512x512")})
	rapid.Check(t, func(rt *rapid.T) {
		type pair struct {
			unit units.Unit
			n    int64
		}
		pairs := rapid.SliceOf(rapid.Custom(func(rt *rapid.T) pair {
			return pair{name.Draw(rt, "unit"), rapid.Int64Range(-3, 1<<40).Draw(rt, "n")}
		})).Draw(rt, "pairs")
		want := map[units.Unit]int64{}
		var c units.Counts
		for _, p := range pairs {
			c = c.Plus(units.Of(p.unit, p.n))
			want[p.unit] += p.n
		}
		maps.DeleteFunc(want, func(_ units.Unit, n int64) bool { return n == 0 })
		require.Equal(rt, want, maps.Collect(c.All()))
		require.Equal(rt, len(want) == 0, c == units.Counts{})
		require.Equal(rt, len(want) == 0, c.IsZero())

		var other units.Counts
		for _, p := range rapid.Permutation(pairs).Draw(rt, "another order") {
			other = units.Of(p.unit, p.n).Plus(other)
			require.Equal(rt, want[p.unit], c.Count(p.unit))
		}
		require.Equal(rt, c, other)
		require.True(rt, c.Minus(other).IsZero())
		require.Equal(rt, c.Minus(c.Plus(c)), units.Counts{}.Minus(c))

		text, err := json.Marshal(c)
		require.NoError(rt, err)
		var read units.Counts
		require.NoError(rt, json.Unmarshal(text, &read))
		require.Equal(rt, c, read)
		value, err := c.Value()
		require.NoError(rt, err)
		var scanned units.Counts
		require.NoError(rt, scanned.Scan(value))
		require.Equal(rt, c, scanned)
	})
}

func TestCounts_Saturate(t *testing.T) {
	t.Parallel()
	most := units.Of(units.Pages, math.MaxInt64)
	least := units.Of(units.Pages, math.MinInt64)
	require.Equal(t, most, most.Plus(most))
	require.Equal(t, least, least.Plus(least))
	require.Equal(t, most, units.Of(units.Pages, 1).Minus(least))
}

func TestCounts_ReadWhatADatabaseReturns(t *testing.T) {
	t.Parallel()
	var c units.Counts
	require.NoError(t, c.Scan([]byte(`{"pages+annotated": 3, "pages": 9007199254740993}`)))
	require.Equal(t, `{"pages":9007199254740993,"pages+annotated":3}`, c.String())
	require.NoError(t, c.Scan(nil))
	require.Equal(t, units.Counts{}, c)
	require.NoError(t, c.Scan("null"))
	for _, bad := range []any{`{"pages": 1.5}`, `{"pages": null}`, `[1]`, `{"pages": 9223372036854775808}`, `{`, 7} {
		require.Error(t, c.Scan(bad), bad)
	}
}

func TestUnit_HasOneName(t *testing.T) {
	t.Parallel()
	require.EqualValues(t, "output_images+1024x1024+hd", units.OutputImages.With("HD", "", "1024x1024", "hd"))
	require.Equal(t, units.OutputImages.With("a").With("b"), units.OutputImages.With("b", "a"))
	require.Equal(t, units.OutputImages, units.OutputImages.With("x").Kind())
	require.EqualValues(t, "pages", units.Pages.With("ü \"\\\n"))

	require.True(t, units.OutputImages.With("hd", "1024x1024").Valid())
	for _, u := range []units.Unit{"", "Pages", "pages+", "pages+b+a", "pages+a+a", "a b", "+a"} {
		require.False(t, u.Valid(), u)
	}

	c := units.Of("Pages+\"b,:}+a+a", 2)
	require.Equal(t, `{"pages+a+b":2}`, c.String())
	require.EqualValues(t, 2, c.Count("pages+a+b"))
	require.Equal(t, `{"unknown":1}`, units.Of("{}", 1).String())
	require.Len(t, string(units.Unit("u").With(strings.Repeat("x", 1000))), len("u+")+32)
}

func TestUnit_CoversWhatSaysMore(t *testing.T) {
	t.Parallel()
	image := units.OutputImages
	for _, c := range []struct {
		unit, of units.Unit
		want     bool
	}{
		{image, image, true},
		{image, image.With("hd", "1024x1024"), true},
		{image.With("hd"), image.With("hd", "1024x1024"), true},
		{image.With("1024x1024"), image.With("hd", "1024x1024"), true},
		{image.With("hd", "1024x1024"), image.With("hd"), false},
		{image.With("low"), image.With("hd"), false},
		{image, units.InputImages, false},
	} {
		require.Equal(t, c.want, c.unit.Covers(c.of), "%s of %s", c.unit, c.of)
	}
}
