package lane

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/fault"
)

const (
	// Operations that the database does not take are tried again at growing intervals between these two, and so that the
	// lane spends no more than a tenth of its time with them.
	minRetry, maxRetry = 50 * time.Millisecond, 5 * time.Second

	// retryShare is how many times longer than a round of tries the pause after it is, at least, up to longestRetry.
	retryShare, longestRetry = 10, time.Minute

	// retryTime ends a round of tries.
	retryTime = 50 * time.Millisecond

	// maxFailures is how many operations in a row fail alone before the others of a batch are set aside untried.
	maxFailures = 3
)

// stuck is the operations of a lane that the database does not take, whatever it says against them: they are tried again
// until it does. It is of the lane's goroutine only.
type stuck struct {
	heads   []*Task             // in the order in which they are tried
	behind  map[book.ID][]*Task // by the execution of a head: the operations that came after it
	retryAt time.Time
	wait    time.Duration
}

// keeps reports whether the task's operation is never given up: somebody has been told that it will be booked, or nobody
// is there to be told that it is not. An adjustment is given up: whoever makes it is told, and makes it again.
func (t *Task) keeps() bool {
	switch t.op.Kind {
	case decide.Settle, decide.Release:
		return true
	case decide.Record:
		return t.op.Exec.Status != book.Adjusted
	}
	return false
}

// stick sets tasks aside that the database does not take.
func (l *lane) stick(tasks []*Task, err error) {
	l.hinder(tasks, &Hindrance{Err: err})
	if l.stuck.behind == nil {
		l.stuck.behind = map[book.ID][]*Task{}
	}
	for _, t := range tasks {
		if _, met := l.stuck.behind[t.op.Exec.ID]; !met {
			l.stuck.behind[t.op.Exec.ID] = nil
		}
		l.stuck.heads = append(l.stuck.heads, t)
		l.doubts.add(t)
	}
	if !l.retrying {
		l.stuck.wait = 0
		l.scheduleRetry(0)
	}
}

// follow takes out of a batch what comes after an operation that is stuck, on the same execution.
func (l *lane) follow(batch []*Task) []*Task {
	if len(l.stuck.behind) == 0 {
		return batch
	}
	kept := batch[:0]
	for _, t := range batch {
		before, met := l.stuck.behind[t.op.Exec.ID]
		if !met || t.tried {
			kept = append(kept, t)
			continue
		}
		t.hindrance.Store(&Hindrance{Err: errBehind})
		l.stuck.behind[t.op.Exec.ID] = append(before, t)
	}
	clear(batch[len(kept):])
	return kept
}

// retry tries again what is stuck, if it is time to: first one operation, and more at once as long as they succeed.
func (l *lane) retry() {
	start := time.Now()
	if len(l.stuck.heads) == 0 || start.Before(l.stuck.retryAt) {
		return
	}
	tasks := l.stuck.heads
	l.stuck.heads, l.retrying, l.failures = nil, true, 0
	booked := false
	for size := 1; len(tasks) > 0 && l.failures < maxFailures && time.Since(start) < retryTime; {
		some := tasks[:min(size, len(tasks))]
		tasks = tasks[len(some):]
		for _, t := range some {
			t.tried = true
		}
		failed := len(l.stuck.heads)
		l.execute(append([]*Task(nil), some...), true)
		if size *= 2; len(l.stuck.heads) > failed {
			size = 1
		}
		booked = l.loosen(some) || booked
	}
	l.stuck.heads, l.retrying = append(tasks, l.stuck.heads...), false
	if booked {
		l.stuck.wait = 0
	}
	l.scheduleRetry(time.Since(start))
}

// loosen lets go of those of some tasks that are not stuck any more, and of what came after them.
func (l *lane) loosen(tasks []*Task) (any bool) {
	if l.ctx.Err() != nil {
		return false // they are abandoned
	}
	again := map[*Task]bool{}
	for _, t := range l.stuck.heads {
		again[t] = true
	}
	for _, t := range tasks {
		t.tried = false
		if again[t] {
			continue
		}
		any = true
		l.doubts.remove(t)
		after := l.stuck.behind[t.op.Exec.ID]
		delete(l.stuck.behind, t.op.Exec.ID)
		for _, t := range after {
			l.push(t)
		}
	}
	return any
}

// scheduleRetry sets the time of the next round, after one that took so long.
func (l *lane) scheduleRetry(took time.Duration) {
	if len(l.stuck.heads) == 0 {
		l.stuck.retryAt = time.Time{}
		return
	}
	l.stuck.wait = min(max(2*l.stuck.wait, minRetry), maxRetry)
	if l.draining() {
		l.stuck.wait = min(l.stuck.wait, maxBackoff)
	}
	pause := max(l.stuck.wait, min(retryShare*took, longestRetry))
	l.stuck.retryAt = time.Now().Add(pause/2 + rand.N(pause/2))
}

// doubts is what the lanes know of bookings that the database does not take. While there are any, a reserve has its own
// booking rehearsed where that is in doubt, so that no call is admitted that could not be booked.
type doubts struct {
	some    atomic.Bool // something is stuck
	general atomic.Bool // something was refused, and nothing has been booked since

	mu      sync.Mutex
	tasks   map[*Task]book.ID // and their tenants
	tenants map[book.ID]int
	since   time.Time
}

func (d *doubts) add(t *Task) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.general.Store(true)
	if _, met := d.tasks[t]; met {
		return
	}
	if d.tasks == nil {
		d.tasks, d.tenants = map[*Task]book.ID{}, map[book.ID]int{}
	}
	if len(d.tasks) == 0 {
		d.since = time.Now()
		d.some.Store(true)
		t.lane.log.Warn("tenant: the database does not take a booking; it is tried again until it does",
			"execution", t.op.Exec.ID, "tenant", t.op.Exec.TenantKey, "error", t.Hindrance().Err)
	}
	d.tasks[t] = t.op.Exec.Tenant
	d.tenants[t.op.Exec.Tenant]++
}

func (d *doubts) remove(t *Task) {
	d.mu.Lock()
	defer d.mu.Unlock()
	tenant, met := d.tasks[t]
	if !met {
		return
	}
	delete(d.tasks, t)
	if d.tenants[tenant]--; d.tenants[tenant] == 0 {
		delete(d.tenants, tenant)
	}
	if len(d.tasks) == 0 {
		d.some.Store(false)
		d.general.Store(false)
		t.lane.log.Warn("tenant: the database takes all bookings again", "after", time.Since(d.since).Round(time.Millisecond))
	}
}

// of reports whether a tenant's bookings are in doubt.
func (d *doubts) of(tenant book.ID) bool {
	if d.general.Load() {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tenants[tenant] > 0
}

// Stuck returns the operations that the database does not take at present.
func (s *Set) Stuck() []*Task {
	s.doubts.mu.Lock()
	defer s.doubts.mu.Unlock()
	tasks := make([]*Task, 0, len(s.doubts.tasks))
	for t := range s.doubts.tasks {
		tasks = append(tasks, t)
	}
	return tasks
}

// rehearsal returns the effects of settling what was just granted, where bookings of its tenant are in doubt.
func (l *lane) rehearsal(s *book.State, ops []*decide.Op, outcomes []decide.Outcome) book.Effects {
	var settles []*decide.Op
	for i, out := range outcomes {
		if ops[i].Kind != decide.Reserve || out.Code != decide.Granted || !l.doubts.of(out.Exec.Tenant) {
			continue
		}
		e := *out.Exec // which is the caller's
		s.Executions[book.ExecutionKey{Tenant: e.Tenant, ID: e.ID}] = &e
		op := &decide.Op{Kind: decide.Settle, Exec: e}
		op.Exec.Status, op.Exec.BilledModel, op.Exec.Charged = book.Succeeded, e.Model, e.Held
		op.Exec.Charged.Calls, op.Exec.Usage.Output = 1, e.Held.Tokens
		settles = append(settles, op)
	}
	if settles == nil {
		return book.Effects{}
	}
	_, effects := decide.Batch(l.decide, s, settles)
	return effects
}

// blame finds out which operations of a batch it is that the database does not take, so that they do not fail their
// neighbours or keep them waiting.
func (l *lane) blame(batch []*Task, noWait bool, err error, class fault.Class) {
	if len(batch) == 1 {
		l.failures++
		l.single(batch[0], err, class)
		return
	}
	parts := [2][]*Task{}
	for _, t := range batch {
		if t.keeps() {
			parts[0] = append(parts[0], t)
		} else {
			parts[1] = append(parts[1], t)
		}
	}
	switch {
	case len(parts[0]) > 0 && len(parts[1]) > 0:
	case class == fault.NotMigrated && len(parts[1]) > 0:
		for _, t := range batch {
			l.fail(t, err)
		}
		return
	default:
		half := len(batch) / 2
		parts = [2][]*Task{append([]*Task(nil), batch[:half]...), append([]*Task(nil), batch[half:]...)}
	}
	l.depth++
	for _, part := range parts {
		keeps := part[0].keeps()
		switch {
		case l.failures < maxFailures:
			l.execute(part, noWait)
		case keeps:
			l.stick(part, err)
		case class == fault.Fatal:
			l.execute(part, noWait) // each of them is to hear what stands against it, at once
		default:
			l.hinder(part, &Hindrance{Err: err})
			l.setAside(part)
		}
	}
	l.depth--
}

// single deals with an operation that the database does not take, though it came without others.
func (l *lane) single(t *Task, err error, class fault.Class) {
	switch {
	case t.keeps():
		l.stick([]*Task{t}, err)
	case class == fault.Fatal, class == fault.NotMigrated:
		l.fail(t, err)
	case class == fault.Unavailable && len(l.refuse([]*Task{t}, err)) == 0:
	default:
		t.suspect = true
		t.hindrance.Store(&Hindrance{Err: err})
		l.setAside([]*Task{t})
	}
}
