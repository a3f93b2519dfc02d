package tenant

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/directory"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/internal/store/sqlite"
)

// firstUse makes the tenant of a call that has none in the database: one that is known by its id alone, or a record
// from before its model was declared. It also mends a record that changed without the ledger's seeing it. A service that has just started
// meets all of its tenants at once.
func (l *Ledger) firstUse(ctx context.Context, who identity) (identity, error) {
	current, err := inTurn(ctx, l, []string{who.Key, who.OwnerType, who.OwnerID}, func(ctx context.Context) (*identity, error) {
		l.looked.Add(1)
		current, err := l.makeOnce(ctx, who)
		return &current, err
	})
	if current == nil {
		return who, err
	}
	if err == nil {
		l.records.Learn(who.Identity, current.Key)
	}
	return *current, err
}

// inTurn asks the database something for a call. Callers that name the same together ask once, and one caller's end is not the others'; those that
// name something else take turns for a few connections: the host may have none to spare, least of all one that calls inside a
// transaction of its own. So the database has a while to answer, and no more. What was found is zero where it was not asked.
func inTurn[T any](ctx context.Context, l *Ledger, name []string, ask func(context.Context) (T, error)) (found T, err error) {
	answer := l.firstUses.DoChan(strings.Join(name, "\x00"), func() (any, error) {
		select {
		case l.making <- struct{}{}:
			defer func() { <-l.making }()
		case <-l.lanes.Context().Done(): // not before: what was admitted is booked yet
			return *new(T), ErrClosed
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		return ask(ctx)
	})
	select {
	case r := <-answer:
		return r.Val.(T), r.Err //nolint:forcetypeassert // of the function above
	case <-ctx.Done():
		return found, ctx.Err()
	}
}

// makingAtOnce is how many first uses have a connection at a time.
const makingAtOnce = 4

func (l *Ledger) makeOnce(ctx context.Context, who identity) (identity, error) {
	var (
		current identity
		deleted error // which is no reason to undo what was mended
	)
	var err error
	if l.options.knownOnly && who.Declaration == nil && who.Key != string(Root) {
		current, err = who, l.unknown(ctx, l.db.Statement.ConnPool, who.Key)
	} else {
		err = l.transaction(ctx, l.db, func(tx *gorm.DB) (err error) {
			current, err = l.makeTenant(ctx, tx, who)
			if errors.Is(err, ErrTenantSuspended) {
				deleted, err = err, nil
			}
			return err
		})
	}
	switch {
	case err == nil:
		err = deleted
	case errors.Is(err, ErrUnavailable):
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("%w: tenant %q could not be set up in %v: %w", ErrUnavailable, who.Key, patience, l.crowded(err))
	case l.faults.Unreachable(err), l.faults(err).Passes():
		err = fault.NotAvailable(fmt.Errorf("tenant %q could not be set up: %w", who.Key, err), l.faults.Unreachable(err))
	}
	return current, err
}

// makeTenant is makeOnce in the transaction of tx. With [ErrTenantSuspended], for a record that is deleted, what it wrote
// is to be committed.
func (l *Ledger) makeTenant(ctx context.Context, tx *gorm.DB, who identity) (current identity, err error) {
	pool := tx.Statement.ConnPool
	if who.Key == string(Root) {
		return who, l.makeRoot(ctx, tx)
	}
	if who.Declaration == nil {
		_, err := l.directory().Ensure(ctx, pool, []directory.Profile{{Key: who.Key, Name: who.Key, Inherit: true}})
		return who, l.records.Explain(err)
	}
	who.Identity, err = l.records.Make(tx.WithContext(ctx), who.Identity)
	return who, err
}

// SavedDays says in which days the books are kept.
type SavedDays struct {
	TimeZone  string       // in which the days and months of tenants without one of their own begin: an IANA name
	WeekStart time.Weekday // on which weeks begin
}

// SavedDays returns the time zone and the day on which weeks begin that the programs on this database have ([WithDefaultTimeZone],
// [WithWeekStart]), as the one that made its first call last has saved them: UTC and Monday where none has said anything else. It
// is for tools beside these programs, which open the ledger with the same, and with [WithDefaultsUnsaved].
//
// Errors: [ErrNotMigrated], [ErrUnavailable], and ctx's own.
func (l *Ledger) SavedDays(ctx context.Context) (SavedDays, error) {
	saved, err := l.directory().Days(ctx, l.pool)
	if err != nil {
		return SavedDays{}, l.failure(ctx, err)
	}
	return SavedDays{saved.Zone, saved.WeekStart}, nil
}

// saveDefaults writes the default settings and the root's budget that Open was given, and the days.
func (l *Ledger) saveDefaults(ctx context.Context) error {
	if l.options.unsaved {
		return nil
	}
	days := directory.Days{Zone: l.options.zone, WeekStart: l.options.weekStart}
	saved, err := l.directory().Days(ctx, l.pool)
	if err != nil {
		return err
	}
	if saved != days {
		err := l.transaction(ctx, l.db, func(tx *gorm.DB) error { return l.directory().SaveDays(ctx, tx.Statement.ConnPool, days) })
		if err != nil {
			return err
		}
	}
	if l.options.limits == nil && l.options.enforcement == "" && l.options.counts == "" && l.options.root == nil {
		return nil
	}
	var limits Limits
	if l.options.limits != nil {
		limits = *l.options.limits
	}
	rows, err := limits.rows()
	if err != nil {
		return err
	}
	return l.transaction(ctx, l.db, func(tx *gorm.DB) error {
		if err := l.saveRoot(ctx, tx); err != nil {
			return err
		}
		return l.directory().SaveSettings(ctx, tx.Statement.ConnPool, book.Defaults, rows, l.options.limits != nil, book.Enforcement(l.options.enforcement), book.Counting(l.options.counts))
	})
}

// transaction runs a short transaction of the ledger's own, on the pool of db. It does not wait long for what somebody
// else has locked.
func (l *Ledger) transaction(ctx context.Context, db *gorm.DB, do func(tx *gorm.DB) error) error {
	end, err := l.lockWriter(ctx)
	if err != nil {
		return err
	}
	defer end()
	for until := time.Now().Add(patience); ; {
		start, begun := time.Now(), false
		err := db.Session(&gorm.Session{NewDB: true, Context: ctx}).Transaction(func(tx *gorm.DB) error {
			if err := l.begin(ctx, tx.Statement.ConnPool); err != nil {
				return err
			}
			begun = true
			return do(tx)
		}, l.isolation())
		// SQLite's write lock may be another process's, and the host's.
		if err == nil || begun || l.faults(err) != fault.Locked || time.Now().After(until) {
			return err
		}
		if err := sqldb.Pause(ctx, time.Until(start.Add(pollLock))); err != nil {
			return err
		}
	}
}

const pollLock = 10 * time.Millisecond

func (l *Ledger) begin(ctx context.Context, c gorm.ConnPool) error {
	begin := func() error { return l.dialect.Begin(ctx, c) }
	if _, ok := l.places[0].store.(*sqlite.Store); ok {
		return sqlite.Briefly(ctx, c, begin)
	}
	return begin()
}

// lockWriter lets a transaction of the ledger's own wait in line with its lanes, where the database would let it poll.
func (l *Ledger) lockWriter(ctx context.Context) (end func(), err error) {
	if s, ok := l.places[0].store.(*sqlite.Store); ok {
		return s.LockWriter(ctx)
	}
	return func() {}, nil
}

// isolation is that of the ledger's own transactions: a host's default that is stricter would not see what it waited for.
func (l *Ledger) isolation() *sql.TxOptions {
	if l.dialect.LocksRows {
		return &sql.TxOptions{Isolation: sql.LevelReadCommitted}
	}
	return nil
}

// timers are those that nobody waits for any more, for whoever waits next: most calls wait for a moment only.
type timers struct{ idle sync.Pool }

func (t *timers) start(d time.Duration) *time.Timer {
	if timer, ok := t.idle.Get().(*time.Timer); ok {
		timer.Reset(d)
		return timer
	}
	return time.NewTimer(d)
}

// stop takes back a timer that start returned. What it may have sent is not received by whoever has it next.
func (t *timers) stop(timer *time.Timer) {
	timer.Stop()
	t.idle.Put(timer)
}
