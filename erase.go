package tenant

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/directory"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// EraseReport is what [Ledger.Erase] has done.
type EraseReport struct {
	UUID       UUID  // what stays of the tenant: its sums can still be asked for by it, and it names nobody
	Executions int64 // that are gone
}

// Erase takes all out of the books that names a tenant or its people: its id, its name, its record, and its calls with their
// tags, actors, request ids and idempotency keys; its limits and thresholds; and its entries in the audit log, with its id where
// the entries of others say that they stood below it. What stays are sums without a name, by hours and quarters of an hour, by agent and
// model: so every total is the same as before, its own by [UUID], those of the tenants above it and that of everybody, and the
// books agree. The names of agents and models, and what the host has written into the reasons of other tenants' entries, are the host's
// to choose, and stay.
//
// From its beginning on the tenant makes no calls ([ErrTenantSuspended]). Those that run are waited for, until they have
// ended or ctx has: then Erase has not ended either, says how many run, and can be called again, as after any error. What an abandoned call reports afterwards is not
// booked any more. The tenants below it stay, with what they have spent, and cannot call as long as they stand below one that is gone. The host's
// record is the host's: it is best deleted first. One that is still there and used starts with a new budget, as a new record does.
//
// What a database keeps of rows that are gone (PostgreSQL until its vacuum, SQLite in pages that are free, both in logs and backups) is up
// to the database.
//
// Errors: [ErrInvalidOption] for a nil Tenant, for the [Root], and for a tenant that does not exist; [ErrInvalidTenant]; [ErrIdentityConflict];
// [ErrNotMigrated], [ErrUnavailable], [ErrClosed], and ctx's own.
func (l *Ledger) Erase(ctx context.Context, t Tenant) (EraseReport, error) {
	who, err := l.asked(t)
	if err == nil {
		err = l.inPlaces(ctx)
	}
	if err != nil {
		return EraseReport{}, err
	}
	if who.none() || who.Key == string(Root) {
		return EraseReport{}, fmt.Errorf("%w: Erase: calls without a tenant, and the root, name nobody", ErrInvalidOption)
	}
	q := l.questionAbout(who, l.pool, l.db.WithContext(ctx))
	s, err := q.state(ctx)
	switch {
	case err != nil:
		return EraseReport{}, err
	case !q.made(s):
		return EraseReport{}, fmt.Errorf("%w: Erase: there is no tenant %q", ErrInvalidOption, who.Key)
	}
	e := &erasing{pruning: pruning{place: q.at, books: q.books, batch: 1000, nameless: true, told: func(PruneReport) {}}, id: s.Tenant.ID}
	err = e.run(ctx)
	report := EraseReport{UUID: UUID(e.id.String()), Executions: e.report.Executions}
	switch {
	case err == nil || errors.Is(err, ErrClosed):
		return report, err
	case ctx.Err() != nil && e.running > 0:
		return report, fmt.Errorf("tenant: Erase: calls of the tenant are running: %d; run it again when they have ended: %w", e.running, ctx.Err())
	}
	return report, l.failure(ctx, err)
}

// erasing is one run of Erase.
type erasing struct {
	pruning
	id      book.ID
	running int64 // calls, when they were counted last
}

func (e *erasing) run(ctx context.Context) error {
	err := e.short(ctx, func(b books.Books, _ *gorm.DB) error { return b.Retire(ctx, e.id) })
	if err == nil {
		err = e.count(ctx)
	}
	if err == nil { // now, because it is the executions that know what it was called before
		err = e.short(ctx, func(b books.Books, _ *gorm.DB) error { return e.unname(ctx, b) })
	}
	for pause := 10 * time.Millisecond; err == nil; pause = min(2*pause, time.Second) {
		if err = e.tenantUntil(ctx, e.id, books.Ever.To, books.Ever.To); err != nil {
			break
		}
		if err = e.count(ctx); err != nil {
			break
		}
		if e.running == 0 {
			ended, err := e.end(ctx)
			if err != nil || ended {
				return err
			}
		}
		err = sqldb.Pause(ctx, pause)
	}
	return err
}

// count notes how many calls run; not where that cannot be read.
func (e *erasing) count(ctx context.Context) error {
	_, running, err := e.books.Left(ctx, e.id)
	if err == nil {
		e.running = running
	}
	return err
}

// end forgets the tenant, unless there are executions again.
func (e *erasing) end(ctx context.Context) (ended bool, err error) {
	err = e.short(ctx, func(b books.Books, tx *gorm.DB) error {
		if err := b.LockAnchor(ctx, e.id); err != nil {
			return err
		}
		left, _, err := b.Left(ctx, e.id)
		if err != nil || left > 0 {
			return err
		}
		if err = e.unname(ctx, b); err == nil {
			err = b.Forget(ctx, e.id)
		}
		if err == nil {
			err = e.directory().Audit(ctx, tx.Statement.ConnPool, directory.Change{Tenant: e.id.String(), Action: "erase"})
		}
		ended = err == nil
		return err
	})
	return ended && err == nil, err
}

func (e *erasing) unname(ctx context.Context, b books.Books) error {
	names, err := b.Names(ctx, e.id)
	if err != nil {
		return err
	}
	return b.Unname(ctx, names)
}

// short runs a short transaction.
func (e *erasing) short(ctx context.Context, do func(books.Books, *gorm.DB) error) error {
	return e.transaction(ctx, e.db, func(tx *gorm.DB) error {
		return do(e.on(tx.Statement.ConnPool), tx)
	})
}
