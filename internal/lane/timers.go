package lane

import (
	"sync"
	"time"
)

// Timers are those that nobody waits for any more, for whoever waits next: most calls wait for a moment only.
type Timers struct{ idle sync.Pool }

// Start returns one that fires after a time.
func (t *Timers) Start(d time.Duration) *time.Timer {
	if timer, ok := t.idle.Get().(*time.Timer); ok {
		timer.Reset(d)
		return timer
	}
	return time.NewTimer(d)
}

// Stop takes back a timer that Start returned. What it may have sent is not received by whoever has it next.
func (t *Timers) Stop(timer *time.Timer) {
	timer.Stop()
	t.idle.Put(timer)
}
