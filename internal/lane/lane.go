// Package lane carries operations to the database. A lane is one goroutine with one connection; it takes whatever is
// queued, without an artificial delay, and runs it as one transaction. Nothing is answered before its commit.
package lane

import (
	"cmp"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/store"
)

const (
	// maxBatch bounds the memory and the duration of one transaction.
	maxBatch = 1024

	// batchTimeout ends a transaction whose database does not answer. The server ends its statements before that.
	batchTimeout = 10 * time.Second

	// Calls that wait for other processes' holds are decided anew at growing intervals between these two.
	minPoll, maxPoll = 10 * time.Millisecond, 250 * time.Millisecond

	// For a timeslice, a process hands the room of a tenant from its calls that end to its calls that wait, in one transaction,
	// so that no other process sees it free. Then it rests: what is freed is left for longer than any poll takes.
	timesliceTime, restTime = 2 * time.Second, maxPoll + 50*time.Millisecond

	// A database that is away is tried again at growing intervals between these two.
	minBackoff, maxBackoff = 10 * time.Millisecond, 250 * time.Millisecond

	// unavailable is how long a reserve waits for a database that is away.
	unavailable = 2 * time.Second

	// maxConflicts and maxBreaks are how often a batch is tried again at once, after it lost against another transaction, and
	// after the connection broke with it or the server did not write. A part of one that failed is tried less often.
	maxConflicts, maxBreaks         = 20, 3
	maxPartConflicts, maxPartBreaks = 3, 1
)

type lane struct {
	*Set
	session store.Session
	wake    chan struct{}

	mu      sync.Mutex
	queue   []*Task
	arrived uint64
	over    bool // nobody takes from the queue any more

	// Of the goroutine only.
	waiting    []*Task                // reserves that running calls leave no room for
	aside      []*Task                // tasks whose tenant somebody else has locked
	timeslices map[book.ID]*timeslice // by the tenant whose limit is waited for
	pollAt     time.Time
	poll       time.Duration
	backoff    time.Duration
	refusals   map[book.HourKey]int64
	refusedAt  time.Time // by when they are to be written; zero where there are none
	reported   map[book.ThresholdKey]bool
	memory     decide.Memory

	// Also of the goroutine: what the database does not take, whether that is being tried again, how deep in the parts of a
	// batch the lane is, and how many operations in a row have failed alone.
	stuck    stuck
	retrying bool
	depth    int
	failures int
}

func (l *lane) push(t *Task) {
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		t.finish(decide.Outcome{}, fault.ErrClosed)
		return
	}
	l.arrived++
	t.number = l.arrived
	l.queue = append(l.queue, t)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *lane) run() {
	defer l.running.Done()
	defer func() { _ = l.session.Close() }()
	for {
		batch, noWait, ok := l.next()
		if !ok {
			return
		}
		l.carry(batch, noWait)
		l.retry()
		if isDue(l.refusedAt, time.Now()) {
			l.writeRefusals()
		}
	}
}

// carry executes a batch. What the database did not take before goes last, by itself.
func (l *lane) carry(batch []*Task, noWait bool) {
	var suspects []*Task
	for _, t := range batch {
		if t.suspect {
			suspects = append(suspects, t)
		}
	}
	if len(suspects) > 0 {
		batch = slices.DeleteFunc(batch, func(t *Task) bool { return t.suspect })
	}
	l.failures = 0
	l.execute(batch, noWait)
	l.failures = 0
	for i, t := range suspects {
		if l.failures == maxFailures {
			l.setAside(suspects[i:])
			return
		}
		l.execute([]*Task{t}, noWait)
	}
}

// next waits for work and returns it, what makes room first. It returns false when the lane is to end.
func (l *lane) next() (batch []*Task, noWait, ok bool) {
	for {
		l.drop()
		l.mu.Lock()
		n := min(len(l.queue), maxBatch)
		batch = append(batch, l.queue[:n]...)
		l.queue = slices.Delete(l.queue, 0, n)
		more := len(l.queue) > 0
		l.mu.Unlock()

		now := time.Now()
		if len(batch) == 0 && isDue(l.refusedAt, now) {
			l.writeRefusals()
		}
		if len(batch) > 0 || isDue(l.pollAt, now) || isDue(l.stuck.retryAt, now) {
			select {
			case b := <-l.beats:
				l.beat(b)
			default:
			}
			break
		}
		draining := l.draining() // looked at once: who sees it later only would wait for what is over
		if l.ctx.Err() != nil || (draining && len(l.waiting)+len(l.aside)+len(l.stuck.heads) == 0 && !more) {
			if l.ctx.Err() == nil {
				l.writeRefusals()
			}
			return nil, false, false
		}
		drain := l.drain
		if draining {
			drain = nil
		}
		var timer <-chan time.Time
		if next := earliest(earliest(l.pollAt, l.stuck.retryAt), l.refusedAt); !next.IsZero() {
			timer = time.After(next.Sub(now))
		}
		select {
		case <-l.wake:
		case <-timer:
		case b := <-l.beats:
			l.beat(b)
		case <-l.ctx.Done():
		case <-drain:
			l.stuck.wait = 0
			l.scheduleRetry(0) // soon: somebody waits for the end
		}
	}
	batch, noWait = l.join(batch)
	return batch, noWait, true
}

func isDue(at, now time.Time) bool { return !at.IsZero() && !now.Before(at) }

// earliest returns the earlier of two times, of which the zero one is none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// join adds to a batch the tasks that wait for the same tenants, or all that wait if their time has come.
func (l *lane) join(batch []*Task) (joined []*Task, noWait bool) {
	due := isDue(l.pollAt, time.Now())
	waited := map[book.ID]bool{}
	if due {
		l.pollAt = time.Time{}
		noWait = len(l.aside) > 0
		for _, t := range l.waiting {
			waited[t.line()] = true
		}
		maps.DeleteFunc(l.timeslices, func(line book.ID, _ *timeslice) bool { return !waited[line] })
		batch = append(batch, l.waiting...)
		batch = append(batch, l.aside...)
		l.waiting, l.aside = nil, nil
	} else if len(l.waiting)+len(l.aside) > 0 {
		ids, keys := map[book.ID]bool{}, map[string]bool{}
		for _, t := range batch {
			ids[t.op.Exec.Tenant], keys[t.op.Key] = true, true
			for _, id := range t.op.Exec.Ancestors {
				ids[id] = true
			}
		}
		same := func(t *Task) bool {
			return ids[t.op.Exec.Tenant] || ids[t.line()] || (t.op.Key != "" && keys[t.op.Key])
		}
		for _, t := range l.waiting {
			if same(t) {
				waited[t.line()] = true
				batch = append(batch, t)
			}
		}
		l.waiting = slices.DeleteFunc(l.waiting, same)
		// Behind a task that is set aside, those of the same tenant are too: they keep their order and nobody waits twice.
		isAside := map[string]bool{}
		for _, t := range l.aside {
			isAside[t.route] = true
		}
		for _, t := range batch {
			if isAside[t.route] {
				l.aside = append(l.aside, t)
			}
		}
		batch = slices.DeleteFunc(batch, func(t *Task) bool { return isAside[t.route] })
	}
	slices.SortStableFunc(batch, func(a, b *Task) int {
		if a.frees() != b.frees() {
			if a.frees() {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.number, b.number)
	})
	return l.rest(batch, waited), noWait
}

// drop forgets the tasks that were withdrawn while they waited.
func (l *lane) drop() {
	l.waiting = l.live(l.waiting)
	l.aside = l.live(l.aside)
	if len(l.waiting)+len(l.aside) == 0 {
		l.pollAt = time.Time{}
		clear(l.timeslices)
	}
}

// live returns the tasks that somebody waits for. What was withdrawn, but may have been granted, is released instead.
func (l *lane) live(tasks []*Task) []*Task {
	kept := tasks[:0]
	for _, t := range tasks {
		switch state := t.state.Load(); {
		case state == left:
		case state == withdrawn && t.did != 0:
			kept = append(kept, t.undo())
		case state == withdrawn:
		case t.op.Kind == decide.Release && t.after != nil && t.begun() == nil:
			t.finish(decide.Outcome{Code: decide.Released, Exec: &t.op.Exec}, nil) // there is nothing to release
		default:
			kept = append(kept, t)
		}
	}
	clear(tasks[len(kept):])
	return kept
}

// undo is a task that releases what another may have been granted.
func (t *Task) undo() *Task {
	u := &Task{route: t.route, lane: t.lane, since: time.Now(), number: t.number, done: make(chan struct{})}
	u.op = decide.Op{Kind: decide.Release, Exec: t.op.Exec}
	return u
}

// execute runs a batch until every task of it has its outcome, waits for something or is set aside.
func (l *lane) execute(batch []*Task, noWait bool) {
	mostConflicts, mostBreaks := maxConflicts, maxBreaks
	if l.depth > 0 || l.retrying {
		mostConflicts, mostBreaks = maxPartConflicts, maxPartBreaks
	}
	for conflicts, breaks := 0, 0; ; {
		if batch = l.follow(l.live(batch)); len(batch) == 0 {
			return
		}
		outcomes, decided, err := l.attempt(batch, noWait)
		var class fault.Class
		if err != nil {
			class = l.faults(err)
		}
		if refused := class == fault.Fatal || class == fault.NotMigrated; decided && (err == nil || !refused) {
			for i, t := range batch {
				if writes(outcomes[i].Code) {
					t.did = outcomes[i].Code
				}
			}
		}
		if err == nil {
			l.backoff, l.failures = 0, 0
			l.deliver(batch, outcomes)
			return
		}
		for _, t := range batch {
			if t.keeps() {
				t.hindrance.Store(&Hindrance{Err: err})
			}
		}
		switch {
		case class == fault.Conflict && conflicts < mostConflicts:
			conflicts++
			l.sleep(time.Duration(rand.Int64N(int64(conflicts) * int64(time.Millisecond))))
		case class == fault.Locked && !noWait:
			noWait = true
		case class == fault.Unavailable && (breaks < mostBreaks || errors.Is(err, fault.ErrConnect) || l.ctx.Err() != nil):
			breaks++
			if batch = l.away(batch, err); batch == nil {
				return
			}
		default:
			l.blame(batch, noWait, err, class)
			return
		}
	}
}

// away deals with a database that cannot be reached: reserves give up after a while, also those that came meanwhile;
// what was done stays to be booked.
func (l *lane) away(batch []*Task, err error) []*Task {
	batch = l.refuse(batch, err)
	l.mu.Lock()
	l.queue = l.refuse(l.live(l.queue), err)
	l.mu.Unlock()
	was := l.backoff
	l.backoff = min(max(2*was, minBackoff), maxBackoff)
	if l.backoff == maxBackoff && was < maxBackoff {
		l.log.Warn("tenant: the database cannot be reached; trying again until it can", "waiting", len(batch), "error", err)
	}
	if !l.sleep(l.backoff) {
		l.abandon(batch)
		return nil
	}
	return batch
}

// refuse takes out the reserves that have waited for long enough, and tells the others what they wait for.
func (l *lane) refuse(tasks []*Task, err error) []*Task {
	l.hinder(tasks, &Hindrance{Err: err})
	return slices.DeleteFunc(tasks, func(t *Task) bool {
		return t.op.Kind == decide.Reserve && time.Since(t.since) >= unavailable &&
			t.finish(decide.Outcome{}, fault.Of(fault.Unavailable, err))
	})
}

func (l *lane) hinder(batch []*Task, h *Hindrance) {
	for _, t := range batch {
		t.hindrance.Store(h)
	}
}

// fail gives a task an error that trying again does not cure. What an earlier try of it may have done is undone.
func (l *lane) fail(t *Task, err error) {
	if l.faults(err) == fault.NotMigrated {
		err = fault.Of(fault.NotMigrated, err)
	} else {
		err = &fault.RefusedError{Err: err}
	}
	if t.finish(decide.Outcome{}, err) && t.did != 0 && t.op.Kind != decide.Expire {
		l.push(t.undo())
	}
}

// abandon gives up what is left when the ledger must end.
func (l *lane) abandon(batch []*Task) {
	for _, t := range batch {
		t.finish(decide.Outcome{}, fault.ErrClosed)
	}
}

func (l *lane) deliver(batch []*Task, outcomes []decide.Outcome) {
	var busy []*Task
	for i, t := range batch {
		t.suspect = false
		out := outcomes[i]
		switch out.Code {
		case decide.Wait:
			if !t.op.Patient {
				break
			}
			t.hindrance.Store(&Hindrance{Outcome: out})
			l.await(t)
			continue
		case decide.Moved:
			t.op.Exec.Ancestors = out.Exec.Ancestors
			out = decide.Outcome{Code: decide.Busy}
			fallthrough
		case decide.Busy:
			t.hindrance.Store(&Hindrance{Outcome: out})
			busy = append(busy, t)
			continue
		}
		if out.Code == decide.Granted {
			l.learn(t.route, out.Exec.Ancestors)
		}
		out.Code = own(t.did, out.Code)
		if !t.finish(out, nil) && out.Code == decide.Granted && t.state.Load() == withdrawn {
			l.push(t.undo())
		}
	}
	l.setAside(busy)
}

// writes reports whether an operation with this outcome has changed its execution.
func writes(code decide.Code) bool {
	switch code {
	case decide.Granted, decide.Settled, decide.Released, decide.Expired, decide.Corrected:
		return true
	}
	return false
}

// own turns the answer to an operation into the one that an earlier try of it would have got, where it finds done what
// that try did: it is its own doing.
func own(did, code decide.Code) decide.Code {
	switch {
	case code == decide.AlreadySettled && (did == decide.Settled || did == decide.Corrected),
		code == decide.AlreadyReleased && did == decide.Released:
		return did
	}
	return code
}

// await lets a reserve wait for room.
func (l *lane) await(t *Task) {
	if len(l.waiting) == 0 {
		l.poll = 0
	}
	l.waiting = append(l.waiting, t)
	l.schedule()
}

// setAside keeps tasks for later, so that they do not hold up the others.
func (l *lane) setAside(tasks []*Task) {
	if len(tasks) == 0 {
		return
	}
	if len(l.aside) == 0 {
		l.poll = 0
	}
	l.aside = append(l.aside, tasks...)
	l.schedule()
}

// schedule sets the time at which those who wait are decided anew, whatever happens in this process.
func (l *lane) schedule() {
	if !l.pollAt.IsZero() {
		return
	}
	l.poll = min(max(2*l.poll, minPoll), maxPoll)
	l.pollAt = time.Now().Add(l.poll/2 + rand.N(l.poll/2))
}

// sleep reports false if the lane has to end.
func (l *lane) sleep(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-l.ctx.Done():
		return false
	}
}
