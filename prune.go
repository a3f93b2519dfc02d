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
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// PruneOption is an option of [Ledger.Prune].
type PruneOption func(*pruning) error

// WithPruneTime bounds how long a Prune takes: it ends after the batch in which the time is over, and its report says that there
// is more. Defaults to no bound but that of its ctx.
func WithPruneTime(d time.Duration) PruneOption {
	return func(p *pruning) error {
		if d <= 0 {
			return fmt.Errorf("WithPruneTime: %v is no time", d)
		}
		p.budget = d
		return nil
	}
}

// WithPruneBatch sets how many executions leave in one transaction, up to 10,000. Defaults to 1,000.
func WithPruneBatch(n int) PruneOption {
	return func(p *pruning) error {
		if n < 1 || n > maxPruneBatch {
			return fmt.Errorf("WithPruneBatch: %d is not between 1 and %d", n, maxPruneBatch)
		}
		p.batch = n
		return nil
	}
}

// WithPruneProgress has Prune tell a function what is done so far, after every batch. Defaults to none.
func WithPruneProgress(told func(PruneReport)) PruneOption {
	return func(p *pruning) error {
		if told == nil {
			return fmt.Errorf("WithPruneProgress: the function is nil")
		}
		p.told = told
		return nil
	}
}

// WithPruneDryRun has Prune count what would leave, and write nothing. Defaults to off.
func WithPruneDryRun() PruneOption {
	return func(p *pruning) error {
		p.dry = true
		return nil
	}
}

const maxPruneBatch = 10_000

// PruneReport is what a [Ledger.Prune] has done.
type PruneReport struct {
	// Before is the time before which executions were pruned: the one that was asked for, or an earlier one where a window that
	// is open began before that.
	Before time.Time

	Executions int64 // that are gone
	Batches    int64 // transactions that it took
	Tenants    int64 // that were looked at; one with all zeros is the calls without a tenant

	// More says that the time was over before all were gone, or that a month of executions could not be dropped yet because somebody reads it. Another
	// Prune goes on.
	More bool
}

// Prune deletes executions that were admitted, and had ended, before a time, so that their table does not grow for ever. In
// their place stays what they add up to by quarters of an hour, in which every time zone begins its days: every sum over a
// period of the calendar is the same afterwards, by tenant, agent and model, the balances stay, and [Ledger.Verify] and
// [Ledger.Repair] work as before, with the sums in the place of what is gone. The roll-up is not touched.
//
// Idempotency keys stay taken, also of calls that are gone, for as long as [WithKeysKept] says.
//
// What is gone is the single call: it is in no list or export any more, cannot be repriced (which [RepriceReport] says), and a
// period that cuts one of those quarters is an error ([ErrPruned]).
//
// These stay: what runs; what was admitted in a window that may be open in any time zone, a month at most, so that Before of the
// report may be earlier than what was asked for; calls that were corrected after before, with all their corrections; and, for 30 days, those whose process was lost
// and may yet say what they used.
//
// It runs beside calls: each transaction takes a bounded number of rows, locks these alone, waits for nobody's lock longer than
// two seconds, and is followed by a pause as long as itself. Several may run at once. A Prune that is ended at any moment has
// lost nothing, and the next one goes on. PostgreSQL takes the space of the rows that are gone for new ones after its vacuum, SQLite at once: the
// files do not shrink. Where executions are kept by month ([Ledger.Partition]), a month that nothing is left of is dropped, by a role that owns the table:
// calls wait for a tenth of a second at most for whoever else has locked it, each time that it is tried.
//
// Errors: [ErrInvalidOption] for a time that is zero or to come and for an option that is invalid; [ErrNotMigrated],
// [ErrUnavailable], [ErrClosed], and ctx's own, each with what was done before.
func (l *Ledger) Prune(ctx context.Context, before time.Time, options ...PruneOption) (PruneReport, error) {
	p := &pruning{place: l.places[0], books: l.places[0].on(l.pool), batch: 1000, told: func(PruneReport) {}}
	var err error
	for _, option := range options {
		switch {
		case err != nil:
		case option == nil:
			err = fmt.Errorf("a nil PruneOption")
		default:
			err = option(p)
		}
	}
	var now time.Time
	if err == nil {
		if err := l.inPlaces(ctx); err != nil {
			return p.report, err
		}
		if now, err = p.books.Now(ctx); err != nil {
			return p.report, l.failure(ctx, err)
		}
		switch {
		case before.IsZero():
			err = fmt.Errorf("the time before which executions are to go is zero")
		case before.After(now):
			err = fmt.Errorf("%s is to come: it is %s", before.Format(time.RFC3339), now.Format(time.RFC3339))
		}
	}
	if err != nil {
		return p.report, fmt.Errorf("%w: Prune: %w", ErrInvalidOption, err)
	}
	if p.budget > 0 {
		p.until = time.Now().Add(p.budget)
	}
	p.unsettled, p.keys = now.Add(-lateSettles), now.Add(-l.options.keysKept)
	p.report.Before = closed(before, now, l.windows.WeekStart)
	var (
		last   book.ID
		sofar  int64
		failed = l.eachTenant(ctx, func(in *place, id book.ID) error {
			if p.report.Tenants == 0 || id != last {
				p.report.Tenants++
				last, sofar = id, p.report.Executions
			} else if p.dry { // it has been moved, and is counted where it is
				p.report.Executions = sofar
			}
			p.in(in)
			err = p.tenant(ctx, id)
			return err
		})
	)
	for i := 0; i < len(l.places) && failed == nil && !p.dry; i++ {
		p.in(l.places[i])
		failed = p.months(ctx)
	}
	switch {
	case errors.Is(err, errPruneTime):
		p.report.More = true
		return p.report, nil
	case errors.Is(err, ErrClosed):
		return p.report, err
	}
	return p.report, failed
}

// pruning is one run of Prune.
type pruning struct {
	*place
	books     books.Books
	batch     int
	dry       bool
	budget    time.Duration
	until     time.Time // zero: no bound
	unsettled time.Time
	keys      time.Time // before which idempotency keys are free once their calls are gone
	nameless  bool      // the values of tags do not stay
	told      func(PruneReport)
	report    PruneReport
}

const (
	// lateSettles is how long a call that was abandoned may still be settled.
	lateSettles = 30 * 24 * time.Hour

	// clockMargin is how far the clocks of processes may be from the database's, for what is found by its id.
	clockMargin = 48 * time.Hour

	// pruneTimeout bounds each statement.
	pruneTimeout = 10 * time.Second
)

var errPruneTime = errors.New("the time is over")

// closed returns the last quarter of an hour before a time at which no window is open, whatever time zone a tenant has or has
// just had.
func closed(before, now time.Time, weekStart time.Weekday) time.Time {
	for _, hours := range []int{-12, 14} {
		zone := time.FixedZone("", hours*60*60)
		for _, w := range []period.Window{period.Week, period.Month} {
			if from, _ := period.Bounds(w, now, zone, weekStart); from.Before(before) {
				before = from
			}
		}
	}
	return before.UTC().Truncate(books.Quarter)
}

// in has the run go on in a place.
func (p *pruning) in(at *place) { p.place, p.books = at, at.on(at.pool) }

// tenant prunes the executions of one tenant.
func (p *pruning) tenant(ctx context.Context, id book.ID) error {
	if p.dry {
		n, err := p.books.Prunable(ctx, p.of(id, p.report.Before, p.unsettled), p.report.Before.Add(-clockMargin))
		p.report.Executions += n
		p.told(p.report)
		return err
	}
	return p.tenantUntil(ctx, id, p.report.Before, p.unsettled)
}

func (p *pruning) of(id book.ID, before, unsettled time.Time) books.Prune {
	return books.Prune{Tenant: id, Range: books.Range{From: books.Ever.From, To: before}, Before: before, Unsettled: unsettled, Limit: p.batch,
		Tags: p.options.tags, Nameless: p.nameless}
}

func (p *pruning) tenantUntil(ctx context.Context, id book.ID, before, unsettled time.Time) error {
	of := p.of(id, before, unsettled)
	for more := true; more; {
		err := p.step(ctx, func(b books.Books) (int64, error) {
			done, err := b.PruneBatch(ctx, of)
			if err == nil && done.Executions > 0 {
				of.From = done.Last
			}
			more = done.More
			return done.Executions, err
		})
		if err != nil {
			return err
		}
	}
	var last book.ID
	for more := true; more; {
		err := p.step(ctx, func(b books.Books) (int64, error) {
			n, to, err := b.PruneReleased(ctx, id, before.Add(-clockMargin), last, p.batch)
			if err == nil {
				last = to
			}
			more = n == p.batch
			return int64(n), err
		})
		if err != nil {
			return err
		}
	}
	key := ""
	for more := true; more; {
		err := p.step(ctx, func(b books.Books) (int64, error) {
			n, to, err := b.PruneKeys(ctx, id, p.keys, key, p.batch)
			if err == nil {
				key = to
			}
			more = n == p.batch
			return 0, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// months drops the months of executions that nothing is left of, where they are kept by month. One that somebody keeps from that, who
// reads it for long, is left to the next Prune: calls would wait as long.
func (p *pruning) months(ctx context.Context) error {
	is, err := p.books.Partitioned(ctx)
	if err != nil || !is {
		return err
	}
	names, err := p.books.Emptied(ctx, p.report.Before)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := p.goesOn(); err != nil {
			return err
		}
		if !p.until.IsZero() && !time.Now().Before(p.until) {
			p.report.More = true
			return nil
		}
		if err := p.books.Shrink(ctx, name); err != nil {
			return err
		}
		dropped := false
		err := p.briefly(ctx, func(ctx context.Context, b books.Books) (err error) {
			dropped, err = b.DropMonth(ctx, name)
			return err
		})
		if err != nil && !p.faults(err).Passes() {
			return err
		}
		p.report.More = p.report.More || !dropped
	}
	return nil
}

// maxPruneTries is how often a batch is tried that somebody else's locks are in the way of.
const maxPruneTries = 10

// step runs a batch, and leaves the database to others for as long as it took.
func (p *pruning) step(ctx context.Context, batch func(books.Books) (int64, error)) error {
	for try := 1; ; try++ {
		if !p.until.IsZero() && !time.Now().Before(p.until) {
			return errPruneTime
		}
		select {
		case <-p.closing:
			return ErrClosed
		default:
		}
		start := time.Now()
		var n int64
		err := p.transaction(ctx, p.db, func(tx *gorm.DB) (err error) {
			b := p.on(tx.Statement.ConnPool)
			if err := b.Bound(ctx, pruneTimeout); err != nil {
				return err
			}
			n, err = batch(b)
			return err
		})
		took := time.Since(start)
		if err != nil {
			if try < maxPruneTries && p.faults(err).Passes() && ctx.Err() == nil {
				if err := sqldb.Pause(ctx, min(took, time.Second)); err != nil {
					return err
				}
				continue
			}
			return err
		}
		if n == 0 {
			return nil
		}
		p.report.Executions, p.report.Batches = p.report.Executions+n, p.report.Batches+1
		p.told(p.report)
		return sqldb.Pause(ctx, took)
	}
}

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

// short runs a short transaction in the place that the tenant is in, where it is kept until that ends. It may be moved between two of them, together with
// whoever stands above it.
func (e *erasing) short(ctx context.Context, do func(books.Books, *gorm.DB) error) error {
	return e.transaction(ctx, e.db, func(tx *gorm.DB) error {
		conn := tx.Statement.ConnPool
		if len(e.places) > 1 {
			name, err := e.directory().Stay(ctx, conn, e.id)
			if err != nil {
				return err
			}
			at, err := e.placeOf(e.id.String(), name)
			if err != nil {
				return err
			}
			e.in(at)
		}
		return do(e.on(conn), tx)
	})
}
