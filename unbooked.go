package tenant

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/lane"
	"github.com/llmtenant/tenant/internal/sqldb"
)

const (
	// briefly is how long a call waits for a database that is known to be away: long enough for a lane to have tried it
	// once more.
	briefly = 300 * time.Millisecond

	// Whatever needs the database before a lane can is tried again after the first of these where it cannot be reached, and at
	// growing intervals up to the second where it refuses.
	betweenTries, mostBetweenTries = 250 * time.Millisecond, 5 * time.Second
)

// away reports whether what a task waits for is a database that cannot be reached. One that does not answer is, but on
// SQLite somebody has it locked then.
func (l *Ledger) away(h *lane.Hindrance) bool {
	if h == nil {
		return l.dialect.LocksRows
	}
	return h.Err != nil && l.faults.Unreachable(h.Err)
}

// outages keeps account of the times in which calls are admitted because the database is away, so that they are reported
// once and not with every call.
type outages struct {
	log *slog.Logger
	on  atomic.Bool

	mu    sync.Mutex
	since time.Time
	calls int64
}

// patience is how long a call waits for a database that may be away.
func (o *outages) patience() time.Duration {
	if o.on.Load() {
		return briefly
	}
	return patience
}

// admitted notes a call that was admitted for this error.
func (o *outages) admitted(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls++
	if o.on.Swap(true) {
		return
	}
	o.since, o.calls = time.Now(), 1
	o.log.Warn("tenant: calls are admitted without being weighed against their budgets, because the database cannot be reached",
		"error", err)
}

// over notes that the database has answered.
func (o *outages) over() {
	if !o.on.Load() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.on.Swap(false) {
		o.log.Warn("tenant: the database answers, and calls are weighed against their budgets again; those admitted meanwhile are being booked",
			"admitted", o.calls, "after", time.Since(o.since).Round(time.Millisecond))
	}
}

// admitsAfter reports whether a call is admitted although it could not be decided on for this error.
func (l *Ledger) admitsAfter(ctx context.Context, err error) bool {
	var away *fault.UnreachableError
	return l.options.admitWhenUnavailable && errors.As(err, &away) && ctx.Err() == nil
}

// unbooked is the execution of a call that is admitted without having been decided on.
func (a *asking) unbooked() *book.Execution {
	e := a.op.Exec
	e.TenantKey, e.Held = a.who.Key, a.op.Most()
	return &e
}

// giveUp drops what a reserve may have been granted that got no answer.
func (l *Ledger) giveUp(a *asking, err error) {
	var away *fault.UnreachableError
	if a.task == nil || !errors.As(err, &away) {
		return
	}
	op := decide.Op{Kind: decide.Release, Key: a.op.Key, Exec: a.op.Exec}
	task := l.lanes.After(a.task, op)
	if len(l.places) == 1 {
		return
	}
	who := a.who // not all of it, which would go to the heap with every call
	go func() {
		<-task.Done()
		for range maxFirstUses { // it may have come back meanwhile
			out, err := task.Outcome()
			if err != nil || out.Code != decide.Unknown {
				return
			}
			if _, err := l.moved(l.lanes.Context(), &op, who, task); err != nil {
				return
			}
			task = l.lanes.Submit(op, who.Key) // what was granted has gone along
			<-task.Done()
		}
	}()
}

// finishUnbooked brings the end of an unbooked call to the books, in the background where the database stays away. What is
// recorded is one: the call was made, and no hold stands for it.
func (l *Ledger) finishUnbooked(ctx context.Context, h *Hold, op decide.Op) (Settlement, error) {
	over := make(chan struct{})
	l.mu.Lock()
	earlier := h.last
	h.last = over
	l.mu.Unlock()
	return l.inBackground(ctx, h, func() *decide.Op { return &op }, func(w *waiter) (Settlement, error) {
		defer close(over)
		if earlier != nil {
			<-earlier
		}
		out, err := l.bringToBooks(l.lanes.Context(), h, op, w)
		return l.ended(ctx, h, out, err)
	})
}

// bringToBooks ends an unbooked call, however long the database stays away and whatever it says, and makes its tenant where
// it has to. What is recorded is refused as long as somebody waits to hear why. Ctx ends with the lanes.
func (l *Ledger) bringToBooks(ctx context.Context, h *Hold, op decide.Op, w *waiter) (decide.Outcome, error) {
	refuses := func(err error) bool { return op.Kind == decide.Record && w.answer(Settlement{}, err) }
	for attempt, moves := 0, 0; ; {
		if !l.lanes.Started(h.who.Key) {
			err := l.insist(ctx, h, func() error {
				err := l.oneAtATime(ctx, func() error { return l.start(ctx, &op) })
				if errors.Is(err, ErrNotMigrated) && refuses(err) { // they may never have been there
					return errRefused
				}
				return err
			})
			if err != nil {
				return decide.Outcome{}, err
			}
		}
		op.Key, op.OwnerType, op.OwnerID = h.who.Key, h.who.OwnerType, h.who.OwnerID
		if h.task == nil {
			h.task = l.lanes.Submit(op, h.who.Key)
		} else {
			h.task = l.lanes.After(h.task, op)
		}
		l.carry(h, h.task)
		<-h.task.Done()
		out, err := h.task.Outcome()
		if err != nil {
			return out, l.explain(err)
		}
		if h.who.none() || (out.Code != decide.Unknown && out.Code != decide.WrongOwner) {
			return out, nil
		}
		err = l.refusal(&op, &out)
		if attempt++; attempt <= maxFirstUses {
			moved := false
			err = l.insist(ctx, h, func() (err error) {
				moved, err = l.moved(ctx, &op, h.who, h.task)
				return err
			})
			if err == nil && moved && moves < maxMoves {
				moves++
				attempt--
				h.task = nil // that one has done nothing
				continue
			}
		}
		if err == nil && attempt <= maxFirstUses {
			err = l.insist(ctx, h, func() error {
				who, err := l.firstUse(ctx, h.who)
				if err == nil {
					h.who = who
				}
				return err
			})
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return out, ErrClosed
		case refuses(err):
			return out, errRefused
		default:
			l.options.log.Error("tenant: a call that has no hold is booked without a tenant, because its own cannot be charged",
				"execution", h.ExecutionID, "tenant", h.TenantID, "error", err)
			h.who, h.task = identity{}, nil
		}
	}
}

// errRefused ends the booking of a call that whoever asked for has heard why it is not made.
var errRefused = errors.New("refused")

// insist does what needs the database before a lane can, again and again, whatever that says, until it is done or cannot be
// for a reason of the call's own.
func (l *Ledger) insist(ctx context.Context, h *Hold, do func() error) error {
	for wait := betweenTries; ; {
		err := do()
		switch {
		case err == nil, errors.Is(err, ErrClosed), errors.Is(err, errRefused), ofTheCall(err):
			return err
		case errors.Is(err, ErrUnavailable):
			wait = betweenTries
		}
		l.obstruct(h, err)
		if sqldb.Pause(ctx, wait) != nil {
			return ErrClosed
		}
		wait = min(2*wait, mostBetweenTries)
	}
}

// oneAtATime does what many calls may need when the database comes back, one call after the other.
func (l *Ledger) oneAtATime(ctx context.Context, do func() error) error {
	select {
	case l.insisting <- struct{}{}:
		defer func() { <-l.insisting }()
		return do()
	case <-ctx.Done():
		return ErrClosed
	}
}

// ofTheCall reports whether an error is not the database's, and so would be the same the next time.
func ofTheCall(err error) bool {
	for _, of := range []error{
		ErrInvalidTenant, ErrUnknownTenant, ErrTenantSuspended, ErrIdentityConflict, ErrHierarchy, ErrInvalidOption, ErrNotDeferred,
	} {
		if errors.Is(err, of) {
			return true
		}
	}
	return false
}
