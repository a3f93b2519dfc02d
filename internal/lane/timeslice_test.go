package lane

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/decide"
)

// Room that goes from one call to the next in one transaction is never seen free by another process.
func TestTimeslice_LeavesRoomToOtherProcessesNowAndThen(t *testing.T) {
	t.Parallel()
	m := newMemory(1)
	m.others = true
	s := open(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				task := s.Submit(reserve("m"), "acme")
				<-task.Done()
				if out, err := task.Outcome(); err != nil || out.Code != decide.Granted {
					t.Errorf("reserve: %v, %v", out.Code, err)
					return
				}
				<-s.Submit(decide.Op{Kind: decide.Release, Exec: *task.Execution()}, "acme").Done()
			}
		})
	}
	require.Eventually(t, func() bool { return m.held() == 1 }, time.Minute, time.Millisecond)
	require.Eventually(t, func() bool { return m.held() == 0 }, time.Minute, time.Millisecond, "it rests")
	require.Eventually(t, func() bool { return m.held() == 1 }, time.Minute, time.Millisecond, "and goes on")
	cancel()
	wg.Wait()
}
