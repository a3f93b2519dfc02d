package book_test

import (
	"math/big"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/llmtenant/tenant/internal/book"
)

func TestLatencies_BucketsFollowEachOtherAndAreNarrow(t *testing.T) {
	t.Parallel()
	require.Zero(t, book.LatencyBound(0))
	for b := range book.LatencyBuckets {
		require.Equal(t, b, book.LatencyBucket(book.LatencyBound(b)), "the bound of %d", b)
		if b > 0 {
			require.Equal(t, b-1, book.LatencyBucket(book.LatencyBound(b)-1), "what is just below %d", b)
		}
	}
	require.EqualValues(t, 1024, book.LatencyBound(1))
	require.EqualValues(t, 1<<32, book.LatencyBound(book.LatencyBuckets-1))
	require.Equal(t, book.LatencyBuckets-1, book.LatencyBucket(1<<62))
	require.Zero(t, book.LatencyBucket(-1))
}

// A quantile is that of the times themselves, to within an eighth.
func TestLatencies_AQuantileIsNearTheTrueOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		times := rapid.SliceOfN(rapid.Int64Range(1024, 1<<32-1), 1, 200).Draw(t, "times")
		share := rapid.Int64Range(1, 1_000_000_000).Draw(t, "share")
		var counts book.Latencies
		for _, us := range times {
			counts.Add(book.LatencyBucket(us), 1)
		}
		rank := (int64(len(times))*share + 999_999_999) / 1_000_000_000
		below := func(us int64) (n int64) {
			for _, other := range times {
				if other <= us {
					n++
				}
			}
			return n
		}
		exact := int64(1 << 62)
		for _, us := range times {
			if below(us) >= rank {
				exact = min(exact, us)
			}
		}
		got := counts.Quantile(share).Microseconds()
		require.LessOrEqual(t, 8*max(got-exact, exact-got), exact, "%d for %d", got, exact)
	})
	require.Zero(t, book.Latencies(nil).Quantile(950_000_000))
	require.Equal(t, 1024*time.Microsecond, book.Latencies{{Bucket: 0, Calls: 9}}.Quantile(500_000_000))
}

// Both forms say the same, and numbers add up as the counts do.
func TestLatencies_AreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	draw := rapid.Custom(func(t *rapid.T) (l book.Latencies) {
		for range rapid.IntRange(0, 6).Draw(t, "buckets") {
			l.Add(rapid.IntRange(0, book.LatencyBuckets-1).Draw(t, "bucket"), rapid.Int64Range(1, 1<<36).Draw(t, "calls"))
		}
		return l
	})
	number := func(t *rapid.T, l book.Latencies) *big.Int {
		r, ok := new(big.Rat).SetString(l.Number())
		require.True(t, ok && r.IsInt(), l.Number())
		return r.Num()
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw.Draw(t, "a"), draw.Draw(t, "b")
		var sum book.Latencies
		for _, c := range append(append(book.Latencies{}, a...), b...) {
			sum.Add(c.Bucket, c.Calls)
		}
		for _, text := range []string{
			new(big.Int).Add(number(t, a), number(t, b)).String(), sum.Text(), "[" + a.Text() + "," + b.Text() + "]",
		} {
			got, err := book.ParseLatencies(text)
			require.NoError(t, err, text)
			require.Equal(t, sum, got, text)
		}
	})
	for _, text := range []string{"x", "{", "[1]", "-5"} {
		_, err := book.ParseLatencies(text)
		require.Error(t, err, text)
	}
}

func TestLatencies_MergedAreWhatTheirCallsAddUpTo(t *testing.T) {
	t.Parallel()
	counts := rapid.Custom(func(t *rapid.T) (l book.Latencies) {
		for range rapid.IntRange(0, 8).Draw(t, "n") {
			l.Add(rapid.IntRange(0, 12).Draw(t, "bucket"), rapid.Int64Range(-2, 9).Draw(t, "calls"))
		}
		return l
	})
	rapid.Check(t, func(t *rapid.T) {
		x, y := counts.Draw(t, "x"), counts.Draw(t, "y")
		want := append(book.Latencies(nil), x...)
		for _, c := range y {
			want.Add(c.Bucket, c.Calls)
		}
		before := append(book.Latencies(nil), y...)
		x.Merge(y)
		require.Equal(t, want, x)
		x.Merge(before)
		require.Equal(t, before, append(book.Latencies(nil), y...), "what is added stays as it is")
	})
}
