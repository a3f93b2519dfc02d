package lane

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

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
