package tenant

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/callctx"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/directory"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/lane"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/internal/text"
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
	timer := l.timers.Start(l.options.settleWait)
	defer l.timers.Stop(timer)
	select {
	case b := <-w.answers:
		return b.Settlement, b.error
	case <-timer.C:
	}
	s, over := l.postpone(ctx, h, op(), since)
	w.pending <- over
	return s, nil
}

// Defer leaves a call that goes on in the background to whichever process learns how it ended: [Ledger.SettleDeferred]
// settles it by the key, which becomes the call's idempotency key. The hold stays on the books until then, at the latest
// until its deadline, or until the process that made the call has ended: then it is charged, and a later settle corrects
// that. This ledger no longer waits for the call when it is closed. [Ledger.Settle] settles it as before.
//
// Errors: [ErrNotDeferred] for a call that has an idempotency key, or has ended, or is Unbooked, [ErrDuplicate],
// [ErrInvalidOption], [ErrUnavailable]. After an error the call is this ledger's as before.
func (l *Ledger) Defer(ctx context.Context, h *Hold, key string) error {
	if h == nil || h.ledger != l {
		return fmt.Errorf("%w: Defer: the hold is not of this ledger", ErrInvalidOption)
	}
	if err := text.Valid(ErrInvalidOption, "key in Defer", key, true); err != nil {
		return err
	}
	if h.Unbooked {
		return fmt.Errorf("%w: it is unbooked", ErrNotDeferred)
	}
	told := callctx.Detach(ctx)
	ctx, cancel := context.WithTimeout(told, l.options.settleWait)
	defer cancel()
	end, err := l.lockWriter(ctx)
	if err != nil {
		return fault.NotAvailable(err, false)
	}
	defer end()
	onCitus, err := l.records.OnCitus(ctx, l.pool)
	if err != nil {
		return fault.NotAvailable(err, l.faults.Unreachable(err))
	}
	asked := directory.Who{ID: h.exec.Tenant, Key: h.exec.TenantKey}
	done, err := l.follow(ctx, l.pool, asked, func(at *place) (bool, error) {
		return books.Defer(ctx, l.dialect, l.pool, at.schema, onCitus, h.exec.Tenant, h.exec.ID, key)
	})
	if err != nil {
		if taken, lookup := l.deferred(ctx, h.TenantID, key); lookup == nil && taken.ID != h.exec.ID {
			return &DuplicateError{IdempotencyKey: key, ExecutionID: taken.ID.String(), Status: string(taken.Status), Cost: money.Decimal(taken.Charged.Cost), Charge: money.Decimal(taken.Charged.Charge)}
		}
		return fault.NotAvailable(err, l.faults.Unreachable(err))
	}
	if !done {
		return fmt.Errorf("%w: execution %s has an idempotency key, or has ended", ErrNotDeferred, h.ExecutionID)
	}
	l.leave(h)
	l.tellEnded(told, h, true)
	return nil
}

// SettleDeferred books what a call has used that [Ledger.Defer] has left, of the same tenant and by the same key. It does
// what [Ledger.Settle] does, in any process. Where the call cannot even be read in the time of [WithSettleWait], the outcome is
// Pending too, without an ExecutionID or a cost: reading it is part of what is tried again. If there turns out to be no such
// call, the log and the [Observer] hear of it.
//
// Errors: those of Settle, [ErrNotDeferred] for a key that no call of the tenant has, and [ErrInvalidTenant].
func (l *Ledger) SettleDeferred(ctx context.Context, t Tenant, key string, a Actual) (Settlement, error) {
	who, err := l.identify(t)
	if err != nil {
		return Settlement{}, err
	}
	if err := text.Valid(ErrInvalidOption, "key in SettleDeferred", key, true); err != nil {
		return Settlement{}, err
	}
	if err := a.valid(); err != nil {
		return Settlement{}, err
	}
	h := &Hold{
		TenantID: who.Key, ledger: l, usage: a.Usage, settling: true, inside: true,
		exec: &book.Execution{ID: book.NewID(), TenantKey: who.Key, IdempotencyKey: key}, // until it is read
	}
	if err := l.enterWith(h); err != nil {
		return Settlement{}, err
	}
	var op *decide.Op // guarded by the ledger
	known := func() *decide.Op {
		l.mu.Lock()
		defer l.mu.Unlock()
		return op
	}
	ctx = callctx.Detach(ctx)
	s, err := l.inBackground(ctx, h, known, func(*waiter) (Settlement, error) {
		found, own, err := l.readDeferred(h, a)
		if err != nil {
			return l.ended(ctx, h, decide.Outcome{}, err)
		}
		if !own {
			defer l.leave(nil)
		}
		l.mu.Lock()
		op = found
		l.mu.Unlock()
		task := l.carry(h, l.lanes.Submit(*found, h.exec.TenantKey))
		<-task.Done()
		return l.finished(ctx, h, task, found)
	})
	if s.Outcome == AlreadyReleased {
		return s, ErrReleased
	}
	return s, err
}

// readDeferred finds the call that a hold stands for which has its key alone, however long that takes, and says how it is
// to be settled. It is this ledger's own unless another hold of it stands for the call.
func (l *Ledger) readDeferred(h *Hold, a Actual) (op *decide.Op, own bool, err error) {
	ctx, key := l.lanes.Context(), h.exec.IdempotencyKey
	var e *book.Execution
	read := func() (err error) {
		within, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		e, err = l.deferred(within, h.TenantID, key)
		switch {
		case err == nil:
			return l.start(ctx, &decide.Op{Kind: decide.Settle})
		case errors.Is(err, sql.ErrNoRows):
			return fmt.Errorf("%w: tenant %q has none with the key %q", ErrNotDeferred, h.TenantID, key)
		}
		if l.faults.Unreachable(err) {
			err = fault.NotAvailable(err, true)
		}
		return err
	}
	if err = read(); err != nil && !ofTheCall(err) {
		l.obstruct(h, err)
		err = l.insist(ctx, h, func() error { return l.oneAtATime(ctx, read) })
	}
	if err != nil {
		return nil, false, err
	}
	op = &decide.Op{Kind: decide.Settle, Exec: *e}
	if err := l.conclude(&op.Exec, a, false); err != nil {
		return nil, false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, h.exec.ID)
	h.ExecutionID, h.TenantID, h.exec = e.ID.String(), e.TenantKey, e
	if own = l.open[e.ID] == nil; own {
		l.open[e.ID] = h
	}
	h.inside = own
	return op, own, nil
}

// deferred reads the call that has a key.
func (l *Ledger) deferred(ctx context.Context, tenantID, key string) (*book.Execution, error) {
	of, args := "k.tenant = ?", []any{book.NoTenant.String(), key}
	if tenantID != "" {
		of, args[0] = "k.tenant = (SELECT w.id FROM llm_tenants w WHERE w.tenant_id = ?)", tenantID
	}
	var (
		e       book.Execution
		parents string
	)
	found, err := l.follow(ctx, l.pool, directory.Who{Key: tenantID}, func(at *place) (bool, error) {
		err := at.schema.On(l.pool).QueryRowContext(ctx, l.dialect.Bind(`SELECT e.tenant, e.id, e.tenant_id, e.status, e.provider, e.model, e.held_cost,
			e.held_charge, e.held_tokens, e.cost, e.charge, e.unpriced, CAST(e.parents AS text)
			FROM llm_idempotency k JOIN llm_executions e ON e.tenant = k.tenant AND e.id = k.execution WHERE `+of+` AND k.key = ?`), args...).
			Scan(&e.Tenant, &e.ID, &e.TenantKey, &e.Status, &e.Provider, &e.Model, &e.Held.Cost, &e.Held.Charge, &e.Held.Tokens, &e.Charged.Cost, &e.Charged.Charge, &e.Unpriced, &parents)
		if errors.Is(err, sql.ErrNoRows) {
			return false, nil
		}
		return err == nil, err
	})
	if err == nil && !found {
		err = sql.ErrNoRows
	}
	if err != nil {
		return nil, err
	}
	e.IdempotencyKey, e.Reported = key, -1
	e.Ancestors, err = sqldb.ParseIDs(parents)
	return &e, err
}
