package books

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/units"
)

func TestPacked_ReadsWhatWasPacked(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var all foldSums
		name := rapid.SampledFrom([]string{"", "a", "gpt-4.1", "ü\x00\xff", "a tag of some length, which is a text like any other"})
		for range rapid.IntRange(0, 9).Draw(t, "lines") {
			k := foldKeys{below: rapid.Bool().Draw(t, "below")}
			for i := range k.names {
				k.names[i] = name.Draw(t, "name")
			}
			s := all.at(k)
			for _, figure := range figuresOf(s) {
				*figure = rapid.SampledFrom([]int64{0, 0, 0, 1, -7, 300, math.MaxInt64, math.MinInt64}).Draw(t, "figure")
			}
			for range rapid.IntRange(0, 4).Draw(t, "latencies") {
				s.Latencies.Add(rapid.IntRange(0, book.LatencyBuckets-1).Draw(t, "bucket"), rapid.Int64Range(1, 1<<40).Draw(t, "calls"))
			}
			s.Usage.Units = units.Of(units.Pages, rapid.Int64Range(0, 1<<40).Draw(t, "pages")).Plus(units.Of(units.InputImages, 3))
		}
		sums := all.pack()
		var (
			again foldSums
			u     unpacker
		)
		require.NoError(t, u.add(sums, func(k *foldKeys) *book.HourSum { return again.at(*k) }))
		require.Equal(t, all, again)
		require.NoError(t, u.add(sums, func(*foldKeys) *book.HourSum { return nil }))

		// What is cut off or changed is an error, or says something else: it is never a panic.
		if len(all.order) > 0 {
			cut := sums[:rapid.IntRange(0, len(sums)-1).Draw(t, "cut")]
			changed := append([]byte(nil), sums...)
			changed[rapid.IntRange(0, len(sums)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 255).Draw(t, "by"))
			for _, bad := range [][]byte{cut, changed} {
				_ = u.add(bad, func(k *foldKeys) *book.HourSum { return &book.HourSum{} })
			}
		}
	})
	var u unpacker
	for _, bad := range [][]byte{nil, {}, {2, 0}, {1}, {1, 5}, {1, 1, 0, 0}, {1, 0, 0, 0, 0, 0, 0, 0, 0}} {
		require.ErrorIs(t, u.add(bad, func(*foldKeys) *book.HourSum { return nil }), errPacked, "%v", bad)
	}
}
