package tenant

import (
	"context"
	"errors"
	"fmt"
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

	// betweenTries is how long whatever needs the database before a lane can waits before it is tried again.
	betweenTries = 250 * time.Millisecond
)

// unreachableError is an ErrUnavailable for which nobody but the database is to blame, no lock of a host and no limit.
type unreachableError struct{ err error }

func (e *unreachableError) Error() string {
	return fmt.Sprintf("%v: the database cannot be reached: %v", ErrUnavailable, e.err)
}

func (e *unreachableError) Unwrap() []error { return []error{ErrUnavailable, e.err} }

// away reports whether what a task waits for is a database that cannot be reached. One that does not answer is, but on
// SQLite somebody has it locked then.
func (l *Ledger) away(h *lane.Hindrance) bool {
	if h == nil {
		return l.dialect.LocksRows
	}
	return h.Err != nil && l.unreachable(h.Err)
}

// unreachable reports whether an error says that the database cannot be reached.
func (l *Ledger) unreachable(err error) bool { return l.store.Classify(err) == fault.Unavailable }

// passes reports whether an error says that others were in the way, who may be gone soon.
func (l *Ledger) passes(err error) bool {
	class := l.store.Classify(err)
	return class == fault.Conflict || class == fault.Locked
}

// unavailable is the ErrUnavailable that an error amounts to.
func (l *Ledger) unavailable(err error, unreachable bool) error {
	if unreachable {
		return &unreachableError{err}
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
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
	var away *unreachableError
	return l.options.admitWhenUnavailable && errors.As(err, &away) && ctx.Err() == nil
}

// unbooked is the execution of a call that is admitted without having been decided on.
func (a *asking) unbooked() *book.Execution {
	e := a.op.Exec
	e.TenantKey, e.Held = a.who.key, a.op.Most()
	return &e
}

// giveUp drops what a reserve may have been granted that got no answer.
func (l *Ledger) giveUp(a *asking, err error) {
	var away *unreachableError
	if a.task != nil && errors.As(err, &away) {
		l.lanes.After(a.task, decide.Op{Kind: decide.Release, Key: a.op.Key, Exec: a.op.Exec})
	}
}

// finishUnbooked brings the end of an unbooked call to the books, in the background where the database stays away.
func (l *Ledger) finishUnbooked(ctx context.Context, h *Hold, op decide.Op) (Settlement, error) {
	type answer struct {
		Settlement
		error
	}
	answers, over, since := make(chan answer, 1), make(chan struct{}), time.Now()
	l.mu.Lock()
	earlier := h.last
	h.last = over
	l.mu.Unlock()
	go func() {
		defer close(over)
		if earlier != nil {
			<-earlier
		}
		out, err := l.bringToBooks(l.lanes.Context(), h, op)
		s, err := l.ended(ctx, h, out, err)
		answers <- answer{s, err}
	}()
	timer := time.NewTimer(l.options.settleWait)
	defer timer.Stop()
	select {
	case a := <-answers:
		return a.Settlement, a.error
	case <-timer.C:
	}
	return l.postpone(ctx, h, &op, since, func() error { return (<-answers).error }), nil
}

// bringToBooks ends an unbooked call, however long the database stays away, and makes its tenant where it has to. Ctx ends
// with the lanes.
func (l *Ledger) bringToBooks(ctx context.Context, h *Hold, op decide.Op) (decide.Outcome, error) {
	for attempt := 0; ; {
		if !l.lanes.Started() {
			if err := l.insist(ctx, func() error { return l.start(ctx, &op) }); err != nil {
				return decide.Outcome{}, err
			}
		}
		op.Key, op.OwnerType, op.OwnerID = h.who.key, h.who.ownerType, h.who.ownerID
		if h.task == nil {
			h.task = l.lanes.Submit(op, h.who.key)
		} else {
			h.task = l.lanes.After(h.task, op)
		}
		l.carry(h, h.task)
		<-h.task.Done()
		out, err := h.task.Outcome()
		if missing := (*lane.NotMigratedError)(nil); errors.As(err, &missing) {
			if err := sqldb.Pause(ctx, betweenTries); err != nil {
				return out, ErrClosed
			}
			continue
		}
		if err != nil {
			return out, l.explain(err)
		}
		if h.who.none() || (out.Code != decide.Unknown && out.Code != decide.WrongOwner) {
			return out, nil
		}
		err = errors.New("it is deleted, or its key keeps changing")
		if attempt++; attempt <= maxFirstUses {
			err = l.insist(ctx, func() error {
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
		default:
			l.options.log.Error("tenant: a call that was admitted while the database was away is booked without a tenant, because its own cannot be charged",
				"execution", h.ExecutionID, "tenant", h.TenantID, "error", err)
			h.who, h.task = identity{}, nil
		}
	}
}

// insist does what needs the database before a lane can, again and again while that cannot be reached or is locked. Many
// calls may need it when the database comes back: they take turns.
func (l *Ledger) insist(ctx context.Context, do func() error) error {
	select {
	case l.insisting <- struct{}{}:
		defer func() { <-l.insisting }()
	case <-ctx.Done():
		return ErrClosed
	}
	for {
		err := do()
		if !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrNotMigrated) {
			return err
		}
		if sqldb.Pause(ctx, betweenTries) != nil {
			return ErrClosed
		}
	}
}
