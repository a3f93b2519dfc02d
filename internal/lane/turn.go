package lane

import (
	"slices"
	"time"

	"github.com/llmtenant/tenant/internal/decide"
)

// turn is the time in which the calls of one process that wait for a tenant's room are given what its others free.
type turn struct {
	began time.Time
	rests time.Time // until when the room is left to other processes; zero before that
}

// rest takes the reserves of tenants whose room is left to other processes out of a batch. Waited are the routes of
// those that have waited before.
func (l *lane) rest(batch []*Task, waited map[string]bool) []*Task {
	if len(waited) == 0 || l.alone.Load() {
		return batch
	}
	now := time.Now()
	frees := map[string]bool{}
	for _, t := range batch {
		if t.frees() {
			frees[t.route] = true
		}
	}
	resting := map[string]bool{}
	for route := range waited {
		switch t := l.turns[route]; {
		case t == nil && frees[route]:
			l.turns[route] = &turn{began: now}
		case t == nil:
			continue
		case t.rests.IsZero() && frees[route] && now.Sub(t.began) >= turnTime:
			t.rests = now.Add(restTime)
			resting[route] = true
		case !t.rests.IsZero() && now.Before(t.rests):
			resting[route] = true
		case !t.rests.IsZero():
			delete(l.turns, route)
		}
		if resting[route] && (l.pollAt.IsZero() || l.pollAt.After(l.turns[route].rests)) {
			l.pollAt = l.turns[route].rests
		}
	}
	rests := func(t *Task) bool { return t.op.Kind == decide.Reserve && resting[t.route] }
	for _, t := range batch {
		if rests(t) {
			l.waiting = append(l.waiting, t)
		}
	}
	return slices.DeleteFunc(batch, rests)
}
