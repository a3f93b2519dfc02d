package lane

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
)

// refused is how many refusals are on the books.
func (m *memory) refused() (n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, sum := range m.hours {
		n += sum.Refusals
	}
	return n
}

func openRefusing(t *testing.T, m *memory, wait time.Duration) *Set {
	t.Helper()
	s := New(Config{
		Store: m, Processes: m, Lanes: 1, Lease: time.Hour, Log: slog.New(slog.DiscardHandler), Refused: wait,
		Decide:  decide.Config{Zone: func(string) *time.Location { return time.UTC }},
		Prepare: func(context.Context) error { return nil },
	})
	require.NoError(t, s.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	return s
}

func TestRefusals_ThatNothingFollowsAreWrittenByThemselves(t *testing.T) {
	t.Parallel()
	m := newMemory(0)
	s := openRefusing(t, m, time.Millisecond)
	for n := range int64(3) {
		require.Equal(t, decide.Exceeded, result(t, s.Submit(reserve("m"), "acme")).Code)
		require.Eventually(t, func() bool { return m.refused() == n+1 }, time.Minute, time.Millisecond)
	}
	require.Empty(t, m.executions)
}

// Whose tenant somebody else has locked are tried again, and nobody waits for them.
func TestRefusals_OfALockedTenantAreWrittenLater(t *testing.T) {
	t.Parallel()
	m := newMemory(0)
	s := openRefusing(t, m, time.Hour)
	for range 2 { // the first opens the windows, and rides with that
		require.Equal(t, decide.Exceeded, result(t, s.Submit(reserve("m"), "acme")).Code)
	}
	l := s.lanes[0]
	m.set(func() { m.locked = true })
	require.NoError(t, s.Close(context.Background()))
	require.EqualValues(t, 1, m.refused())
	require.False(t, l.refusedAt.IsZero())
	m.set(func() { m.locked = false })
	l.ctx = t.Context()
	l.writeRefusals()
	require.EqualValues(t, 2, m.refused())
	require.Empty(t, l.refusals)
	require.True(t, l.refusedAt.IsZero())
}

func TestRefusals_AreWrittenWhenTheLanesEndAndWhenTheyAreMany(t *testing.T) {
	t.Parallel()
	m := newMemory(0)
	s := openRefusing(t, m, time.Hour)
	for range 5 {
		require.Equal(t, decide.Exceeded, result(t, s.Submit(reserve("m"), "acme")).Code)
	}
	require.NoError(t, s.Close(context.Background()))
	require.EqualValues(t, 5, m.refused())

	l := &lane{Set: s, session: m, refusals: map[book.HourKey]int64{}}
	hours := map[book.HourKey]book.HourSum{}
	for i := range maxRefusals + 10 {
		hours[book.HourKey{Tenant: m.tenant.ID, Hour: time.Unix(int64(i)*3600, 0)}] = book.HourSum{Refusals: 1}
	}
	l.remember(hours)
	require.Len(t, l.refusals, maxRefusals, "memory is bounded")
	require.True(t, isDue(l.refusedAt, time.Now()), "they do not wait any longer")
}
