package lane

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Places are the lanes of a process, a set for each place that has the books of some tenants. The first place is the home. Where
// there is no other, it is as good as its set.
type Places struct {
	names []string
	sets  []*Set
	moved moved

	begin   sync.Once // of the places that no operation has begun with
	waiting sync.WaitGroup
}

// NewPlaces returns the lanes of places, the home first.
func NewPlaces(names []string, sets []*Set) *Places { return &Places{names: names, sets: sets} }

// moved is where the tenants of some routes are that are not where they would be put. It decides where an operation is sent, nothing
// else: a place that does not have the tenant says so.
type moved struct {
	mu    sync.RWMutex
	known map[string]int
}

func (m *moved) of(route string) (place int, ok bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	place, ok = m.known[route]
	return place, ok
}

func (m *moved) set(route string, place int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil || len(m.known) >= maxChains {
		m.known = map[string]int{}
	}
	m.known[route] = place
}

// At returns the number of the place in which the tenant of a route is thought to be; the home's for no tenant.
func (p *Places) At(route string) int {
	if len(p.sets) == 1 || route == "" {
		return 0
	}
	if place, ok := p.moved.of(route); ok {
		return place
	}
	return 1 + book.Put(route, p.names[1:])
}

// Learn remembers the place of the tenant of a route.
func (p *Places) Learn(route string, place int) {
	if p.At(route) != place {
		p.moved.set(route, place)
	}
}

// Start makes sure that the process is known where the tenant of a route is, before it holds anything there. The other places follow
// by themselves: what is moved there finds the process living.
func (p *Places) Start(ctx context.Context, route string) error {
	if err := p.sets[p.At(route)].Start(ctx); err != nil || len(p.sets) == 1 {
		return err
	}
	p.begin.Do(func() {
		for _, s := range p.sets {
			p.waiting.Add(1)
			go func() {
				defer p.waiting.Done()
				for wait := minBackoff; s.Start(s.ctx) != nil && sqldb.Pause(s.ctx, wait) == nil; {
					wait = min(2*wait, 10*time.Second)
				}
			}()
		}
	})
	return nil
}

// StartAll makes sure that the process is known in every place.
func (p *Places) StartAll(ctx context.Context) error {
	for _, s := range p.sets {
		if err := s.Start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Started reports whether the place of a route takes tasks.
func (p *Places) Started(route string) bool { return p.sets[p.At(route)].Started() }

// Of returns the number of the place that a task was handed in to.
func (p *Places) Of(task *Task) int {
	return slices.IndexFunc(p.sets, func(s *Set) bool { return s == task.lane.Set })
}

// Submit hands an operation to the lane of a route. See [Set.Submit].
func (p *Places) Submit(op decide.Op, route string) *Task {
	return p.sets[p.At(route)].Submit(op, route)
}

// SubmitIn is Submit for a place that is known.
func (p *Places) SubmitIn(place int, op decide.Op, route string) *Task {
	return p.sets[place].Submit(op, route)
}

// After is [Set.After], in the place of the earlier task.
func (p *Places) After(earlier *Task, op decide.Op) *Task { return earlier.lane.After(earlier, op) }

// ID is the process's.
func (p *Places) ID() book.ID { return p.sets[0].ID }

// Context is what ends with the lanes.
func (p *Places) Context() context.Context { return p.sets[0].Context() }

// Ended reports whether Close has ended the lanes: what is submitted now is not done any more.
func (p *Places) Ended() bool { return p.sets[0].Ended() }

// Close ends the lanes of all places. See [Set.Close].
func (p *Places) Close(ctx context.Context) error {
	if len(p.sets) == 1 {
		return p.sets[0].Close(ctx)
	}
	p.begin.Do(func() {})
	errs := make([]error, len(p.sets))
	var closing sync.WaitGroup
	for i, s := range p.sets {
		closing.Go(func() { errs[i] = s.Close(ctx) })
	}
	closing.Wait()
	p.waiting.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Queued returns how many tasks wait in each lane for its next batch.
func (p *Places) Queued() []int {
	var queued []int
	for _, s := range p.sets {
		queued = append(queued, s.Queued()...)
	}
	return queued
}

// Stuck returns the tasks that the databases do not take.
func (p *Places) Stuck() []*Task {
	if len(p.sets) == 1 {
		return p.sets[0].Stuck()
	}
	var stuck []*Task
	for _, s := range p.sets {
		stuck = append(stuck, s.Stuck()...)
	}
	return stuck
}
