package tenant

import (
	"context"
	"fmt"
	"time"

	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/lane"
)

// PendingStatus is what a ledger has been told and has not booked yet; see [Ledger.Pending].
type PendingStatus struct {
	// Bookings is how many settles and releases are not on the books yet that were answered [Pending], or that the database
	// does not take.
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
	var (
		s     PendingStatus
		first *lane.Task
		known = map[*lane.Task]bool{}
	)
	enter := func(since time.Time, task *lane.Task) {
		s.Bookings++
		if s.Since.IsZero() || since.Before(s.Since) {
			s.Since, first = since, task
		}
	}
	l.mu.Lock()
	for p := range l.pending {
		known[p.hold.carrier] = true
		enter(p.since, p.hold.carrier)
	}
	l.mu.Unlock()
	for _, task := range l.lanes.Stuck() {
		if !known[task] {
			enter(task.Since(), task)
		}
	}
	s.Err = l.obstacle(first)
	return s
}

// obstacle is what stands in the way of a task, nil where that is not known.
func (l *Ledger) obstacle(task *lane.Task) error {
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

// postpone answers the end of a call that is not on the books yet, and sees to it that its booking is heard of.
func (l *Ledger) postpone(ctx context.Context, h *Hold, op *decide.Op, since time.Time, booked func() error) Settlement {
	p := &pendingEnd{hold: h, since: since}
	l.mu.Lock()
	l.pending[p] = true
	carrier := h.carrier
	l.mu.Unlock()
	event := PendingEvent{
		TenantID: h.TenantID, ExecutionID: h.ExecutionID, Agent: h.exec.Agent, Provider: h.exec.Provider, Model: h.exec.Model,
		Unbooked: h.Unbooked, Err: l.obstacle(carrier),
	}
	stands := "its hold stands for it"
	if h.Unbooked {
		stands = "no hold stands for it"
	}
	log := l.options.log.With("execution", h.ExecutionID, "tenant", h.TenantID)
	log.Warn("tenant: a call is not on the books yet; "+stands+", and its booking goes on", "error", event.Err)
	first := event
	l.observe(ctx, &first)
	go func() {
		err := booked()
		l.mu.Lock()
		delete(l.pending, p)
		l.mu.Unlock()
		if err != nil {
			log.Error("tenant: a call could not be booked; "+stands, "error", err)
			return
		}
		event.Booked, event.After, event.Err = true, time.Since(since), nil
		log.Warn("tenant: a call that was pending is on the books", "after", event.After.Round(time.Millisecond))
		l.observe(ctx, &event)
	}()
	l.tellPending(ctx, h, op)
	s := settlement(&op.Exec)
	s.Outcome = Pending
	return s
}

// carry notes which task brings the end of a call to the books.
func (l *Ledger) carry(h *Hold, task *lane.Task) *lane.Task {
	l.mu.Lock()
	defer l.mu.Unlock()
	h.carrier = task
	return task
}
