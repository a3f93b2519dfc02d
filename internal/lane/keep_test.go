package lane

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
)

func TestHeartbeat_GoesOverALaneAlsoWhereThatHasNothingElseToDo(t *testing.T) {
	t.Parallel()
	m := newMemory(10)
	s := New(Config{
		Store: m, Processes: m, Lanes: 2, Lease: 40 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
		Decide:  decide.Config{Zone: func(string) *time.Location { return time.UTC }},
		Prepare: func(context.Context) error { return nil },
	})
	require.NoError(t, s.Start(t.Context()))
	beats := func() int {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.beats
	}
	require.Eventually(t, func() bool { return beats() > 3 }, time.Minute, time.Millisecond)
	require.NoError(t, s.Close(t.Context()))
}

// With max_connections used up there is no connection but the lane's, which a lock of the host's keeps busy.
func TestHeartbeat_WaitsForItsLaneWhereNoOtherConnectionIsToBeHad(t *testing.T) {
	t.Parallel()
	m := newMemory(10)
	s := New(Config{
		Store: m, Processes: m, Lanes: 1, Lease: 8 * time.Second, Log: slog.New(slog.DiscardHandler),
		Decide:  decide.Config{Zone: func(string) *time.Location { return time.UTC }},
		Prepare: func(context.Context) error { return nil },
	})
	require.NoError(t, s.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, s.Close(context.WithoutCancel(t.Context()))) })

	busy, free, once := make(chan struct{}), make(chan struct{}), sync.Once{}
	m.set(func() {
		m.full = true
		m.before = func(*book.Want, *book.Effects) error {
			m.mu.Unlock()
			defer m.mu.Lock()
			once.Do(func() { close(busy) })
			<-free
			return nil
		}
	})
	task := s.Submit(reserve("m"), "acme")
	<-busy
	var sent sync.WaitGroup
	sent.Go(func() {
		_, err := s.beatOnce(t.Context())
		require.NoError(t, err)
	})
	require.Eventually(t, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.denied > 0
	}, time.Minute, time.Millisecond)
	close(free)
	sent.Wait()
	result(t, task)
}

// A lane that looked twice whether it was to end, and was told so in between, waited for ever.
func TestClose_EndsLanesThatAreAboutToWait(t *testing.T) {
	t.Parallel()
	m := newMemory(1_000_000)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	for range 10_000 {
		s := New(Config{
			Store: m, Processes: m, Lanes: 16, Lease: time.Hour, Log: slog.New(slog.DiscardHandler),
			Decide:  decide.Config{Zone: func(string) *time.Location { return time.UTC }},
			Prepare: func(context.Context) error { return nil },
		})
		require.NoError(t, s.Start(ctx))
		require.NoError(t, s.Close(ctx)) // the lanes are just beginning
	}
}
