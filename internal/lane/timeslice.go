package lane

import (
	"slices"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
)

// timeslice is the time in which the calls of one process that wait for a tenant's room are given what its others free.
type timeslice struct {
	began time.Time
	rests time.Time // until when the room is left to other processes; zero before that
}

// rest takes the reserves of tenants whose room is left to other processes out of a batch. Waited are the tenants whose
// limits some of the batch have waited for before.
func (l *lane) rest(batch []*Task, waited map[book.ID]bool) []*Task {
	if len(waited) == 0 || l.alone.Load() {
		return batch
	}
	now := time.Now()
	frees := map[book.ID]bool{}
	for _, t := range batch {
		if t.frees() {
			frees[t.op.Exec.Tenant] = true
			for _, id := range t.op.Exec.Ancestors {
				frees[id] = true
			}
		}
	}
	resting := map[book.ID]bool{}
	for line := range waited {
		switch t := l.timeslices[line]; {
		case t == nil && frees[line]:
			l.timeslices[line] = &timeslice{began: now}
		case t == nil:
			continue
		case t.rests.IsZero() && frees[line] && now.Sub(t.began) >= timesliceTime:
			t.rests = now.Add(restTime)
			resting[line] = true
		case !t.rests.IsZero() && now.Before(t.rests):
			resting[line] = true
		case !t.rests.IsZero():
			delete(l.timeslices, line)
		}
		if resting[line] && (l.pollAt.IsZero() || l.pollAt.After(l.timeslices[line].rests)) {
			l.pollAt = l.timeslices[line].rests
		}
	}
	if len(resting) == 0 {
		return batch
	}
	routes := map[string]bool{}
	for _, t := range batch {
		routes[t.route] = routes[t.route] || resting[t.line()]
	}
	// Who has just come stands behind those that wait for the same limit.
	rests := func(t *Task) bool {
		return t.op.Kind == decide.Reserve && (routes[t.route] || resting[book.Root] ||
			slices.ContainsFunc(l.chains.of(t.route), func(id book.ID) bool { return resting[id] }))
	}
	for _, t := range batch {
		if rests(t) {
			l.waiting = append(l.waiting, t)
		}
	}
	return slices.DeleteFunc(batch, rests)
}
