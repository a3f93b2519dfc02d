package process

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
)

// A living process beats each second, by the database's clock; another one has stopped. Both have a lease of 4 s.
func TestWatch_FindsWhoIsGoneWhateverTheDatabasesClockDoes(t *testing.T) {
	t.Parallel()
	const lease = 4 * time.Second
	own, living, killed := book.NewID(), book.NewID(), book.NewID()
	for name, jump := range map[string]time.Duration{"back": -2 * time.Hour, "forward": 2 * time.Hour, "not at all": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var w Watch
			start := time.Now()
			database := time.Date(2026, 10, 25, 3, 0, 0, 0, time.UTC)
			died := database
			for second := range 12 {
				at := start.Add(time.Duration(second) * time.Second)
				now := database.Add(time.Duration(second) * time.Second)
				if second >= 2 {
					now = now.Add(jump)
				}
				others, gone, reached := w.See(own, []book.Process{
					{ID: own, BeatAt: now, Lease: lease}, {ID: living, BeatAt: now, Lease: lease}, {ID: killed, BeatAt: died, Lease: lease},
				}, now, at, lease)
				require.Contains(t, others, book.Process{ID: living, BeatAt: now, Lease: lease})
				require.Equal(t, second >= 4, reached)
				if second < 4 {
					require.Empty(t, gone)
				} else {
					require.Equal(t, []book.Process{{ID: killed, BeatAt: died, Lease: lease}}, gone, "at second %d", second)
				}
			}
		})
	}
}

func TestWatch_BeginsAnewWhereItHasAGap(t *testing.T) {
	t.Parallel()
	const lease = 4 * time.Second
	own, other := book.NewID(), book.NewID()
	var w Watch
	start, now := time.Now(), time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	see := func(second int) (bool, []book.Process) {
		_, gone, reached := w.See(own, []book.Process{{ID: other, BeatAt: now, Lease: lease}}, now, start.Add(time.Duration(second)*time.Second), lease)
		return reached, gone
	}
	see(0)
	reached, gone := see(100) // this process was stopped, or could not reach the database: so may the other
	require.False(t, reached)
	require.Empty(t, gone)
	see(103)
	w.Reset()
	reached, gone = see(104)
	require.False(t, reached)
	require.Empty(t, gone)
	see(107)
	reached, gone = see(108)
	require.True(t, reached)
	require.Len(t, gone, 1)
}

func TestWatch_IsAloneAmongTheDead(t *testing.T) {
	t.Parallel()
	const lease = time.Minute
	own, other := book.NewID(), book.NewID()
	start, now := time.Now(), time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var w Watch
	see := func(beat, now time.Time, after time.Duration) bool {
		living, _, _ := w.See(own, []book.Process{{ID: own, BeatAt: now, Lease: lease}, {ID: other, BeatAt: beat, Lease: lease}}, now, start.Add(after), lease)
		return len(living) == 0
	}
	require.True(t, see(now.Add(-time.Hour), now, 0), "one of an earlier day")
	require.False(t, see(now, now.Add(15*time.Second), 15*time.Second), "it beats after all")
	require.False(t, see(now, now.Add(time.Hour), 30*time.Second), "and has not been silent for its lease")
	require.True(t, see(now, now.Add(-time.Hour), 75*time.Second))
}
