package tenant

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/lane"
)

// PendingStatus is what a ledger has been told and has not booked yet; see [Ledger.Pending].
type PendingStatus struct {
	// Bookings is how many settles, releases and records are not on the books yet that were answered [Pending], or that the
	// database does not take.
	Bookings int

	// Since is when the oldest of them was handed in; zero where there is none.
	Since time.Time

	// Err is what stands in the way of the oldest, in the words of the database; nil where there is none, and where no
	// answer of the database has come yet.
	Err error
}

// Pending returns what this process has not booked yet although it was told to, for status pages and telemetry. It asks
// nothing of the database. What is pending goes on being tried until it is booked or [Ledger.Close] ends it; each call is
// also told to the [Observer], as a [*PendingEvent].
func (l *Ledger) Pending() PendingStatus {
	var s PendingStatus
	known := map[*lane.Task]bool{}
	enter := func(since time.Time, obstacle error) {
		s.Bookings++
		if s.Since.IsZero() || since.Before(s.Since) {
			s.Since, s.Err = since, obstacle
		}
	}
	l.mu.Lock()
	for p := range l.pending {
		known[p.hold.carrier] = true
		enter(p.since, l.obstacle(p.hold))
	}
	l.mu.Unlock()
	for _, task := range l.lanes.Stuck() {
		if !known[task] {
			enter(task.Since(), l.hindrance(task))
		}
	}
	return s
}

// obstacle is what stands in the way of the end of a call, nil where that is not known. The caller holds l.mu.
func (l *Ledger) obstacle(h *Hold) error {
	if h.obstacle != nil {
		return h.obstacle
	}
	return l.hindrance(h.carrier)
}

// hindrance is what a task waits for, nil where that is not known.
func (l *Ledger) hindrance(task *lane.Task) error {
	if task == nil {
		return nil
	}
	h := task.Hindrance()
	switch {
	case h == nil:
		return nil
	case h.Err != nil:
		return h.Err
	case h.Outcome.Code == decide.Busy:
		return lockedError(task.Execution().TenantKey)
	}
	return nil
}

// lockedError says that somebody else has what a call counts on.
func lockedError(tenantID string) error {
	return fmt.Errorf("another transaction has locked the books of tenant %q: one of the ledger's, in another lane or process, "+
		"or one of the host's (a call made inside the transaction that creates or changes its tenant has to wait for the commit)", tenantID)
}

// pendingEnd is the end of a call that was answered Pending.
type pendingEnd struct {
	hold  *Hold
	since time.Time
}

// postpone answers the end of a call that is not on the books yet. What it returns is to be called when the booking is over.
// Op is nil where it is not known yet which call it is the end of.
func (l *Ledger) postpone(ctx context.Context, h *Hold, op *decide.Op, since time.Time) (s Settlement, over func(error)) {
	p := &pendingEnd{hold: h, since: since}
	event := func() PendingEvent {
		return PendingEvent{
			TenantID: h.TenantID, ExecutionID: h.ExecutionID, IdempotencyKey: h.exec.IdempotencyKey,
			Agent: h.exec.Agent, Provider: h.exec.Provider, Model: h.exec.Model, Unbooked: h.Unbooked,
		}
	}
	l.mu.Lock()
	l.pending[p] = true
	first := event()
	first.Err = l.obstacle(h)
	l.mu.Unlock()
	stands := "its hold stands for it"
	if h.Unbooked {
		stands = "no hold stands for it"
	}
	log := l.options.log.With("tenant", first.TenantID)
	if first.ExecutionID != "" {
		log = log.With("execution", first.ExecutionID)
	} else {
		log = log.With("key", first.IdempotencyKey)
	}
	log.Warn("tenant: a call is not on the books yet; "+stands+", and its booking goes on", "error", first.Err)
	l.observe(ctx, &first)
	s = Settlement{Outcome: Pending}
	if op != nil {
		s = settlement(h.ExecutionID, &op.Exec)
		s.Outcome = Pending
		l.tellPending(ctx, h, op, s)
	}
	return s, func(err error) {
		l.mu.Lock()
		delete(l.pending, p)
		last := event()
		l.mu.Unlock()
		last.After = time.Since(since)
		switch {
		case err == nil:
			last.Booked = true
			log.Warn("tenant: a call that was pending is on the books", "after", last.After.Round(time.Millisecond))
		case errors.Is(err, ErrDuplicate):
			last.Booked = true
			log.Warn("tenant: a call that was pending is on the books already, as another execution", "error", err)
		case errors.Is(err, ErrNotDeferred):
			last.Err = err
			log.Info("tenant: what was pending is the end of no call that was deferred, and nothing is lost", "error", err)
		default:
			log.Error("tenant: a call could not be booked; "+stands, "error", err)
			return
		}
		l.observe(ctx, &last)
	}
}

// carry notes which task brings the end of a call to the books.
func (l *Ledger) carry(h *Hold, task *lane.Task) *lane.Task {
	l.mu.Lock()
	defer l.mu.Unlock()
	h.carrier, h.obstacle = task, nil
	return task
}

// obstruct notes what keeps the end of a call from a lane.
func (l *Ledger) obstruct(h *Hold, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h.obstacle = err
}

// waiter is whoever waits for the end of a call to be booked, until it is told Pending.
type waiter struct {
	answers  chan booking
	pending  chan func(error) // gets what is to be called when the booking is over, once it was told Pending
	over     func(error)      // that; of the goroutine that books
	answered bool             // likewise
}

// booking is what became of the end of a call.
type booking struct {
	Settlement
	error
}

// answer reports whether whoever waits has an answer: this one, or one before it. It has none where it was told Pending.
func (w *waiter) answer(s Settlement, err error) bool {
	if !w.answered && w.over == nil {
		select {
		case w.answers <- booking{s, err}:
			w.answered = true
		case w.over = <-w.pending:
		}
	}
	return w.answered
}

// inBackground has the end of a call booked in a goroutine of its own, and answers when it is, or Pending after the time of
// [WithSettleWait]. Op returns the operation, nil where it is not known yet.
func (l *Ledger) inBackground(ctx context.Context, h *Hold, op func() *decide.Op, book func(*waiter) (Settlement, error)) (Settlement, error) {
	w, since := &waiter{answers: make(chan booking), pending: make(chan func(error), 1)}, time.Now()
	go func() {
		s, err := book(w)
		if !w.answer(s, err) {
			w.over(err)
		}
	}()
	timer := l.timers.start(l.options.settleWait)
	defer l.timers.stop(timer)
	select {
	case b := <-w.answers:
		return b.Settlement, b.error
	case <-timer.C:
	}
	s, over := l.postpone(ctx, h, op(), since)
	w.pending <- over
	return s, nil
}
