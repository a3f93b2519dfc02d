package tenant

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/callctx"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/directory"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/internal/text"
)

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
	var at *place
	deferred := func() (bool, error) {
		at = l.at(h.exec.TenantKey)
		return books.Defer(ctx, l.dialect, l.pool, at.schema, h.exec.Tenant, h.exec.ID, key)
	}
	done, err := deferred()
	if err == nil && !done {
		moved := false
		asked := directory.Who{ID: h.exec.Tenant, Key: h.exec.TenantKey}
		if moved, err = l.elsewhere(ctx, l.pool, asked, at.number); moved && err == nil {
			done, err = deferred()
		}
	}
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
	at := l.at(tenantID)
	err := at.schema.On(l.pool).QueryRowContext(ctx, l.dialect.Bind(`SELECT e.tenant, e.id, e.tenant_id, e.status, e.provider, e.model, e.held_cost,
		e.held_charge, e.held_tokens, e.cost, e.charge, e.unpriced, CAST(e.parents AS text)
		FROM llm_idempotency k JOIN llm_executions e ON e.tenant = k.tenant AND e.id = k.execution WHERE `+of+` AND k.key = ?`), args...).
		Scan(&e.Tenant, &e.ID, &e.TenantKey, &e.Status, &e.Provider, &e.Model, &e.Held.Cost, &e.Held.Charge, &e.Held.Tokens, &e.Charged.Cost, &e.Charged.Charge, &e.Unpriced, &parents)
	if errors.Is(err, sql.ErrNoRows) && tenantID != "" {
		moved, failed := l.elsewhere(ctx, l.pool, directory.Who{Key: tenantID}, at.number)
		if failed != nil {
			return nil, failed
		}
		if moved {
			return l.deferred(ctx, tenantID, key)
		}
	}
	if err != nil {
		return nil, err
	}
	e.IdempotencyKey, e.Reported = key, -1
	e.Ancestors, err = sqldb.ParseIDs(parents)
	return &e, err
}
