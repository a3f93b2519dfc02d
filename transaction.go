package tenant

import (
	"context"
	"database/sql"
	"sync"
	"time"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/internal/store/sqlite"
)

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
	if _, ok := l.store.(*sqlite.Store); ok {
		return sqlite.Briefly(ctx, c, begin)
	}
	return begin()
}

// lockWriter lets a transaction of the ledger's own wait in line with its lanes, where the database would let it poll.
func (l *Ledger) lockWriter(ctx context.Context) (end func(), err error) {
	if s, ok := l.store.(*sqlite.Store); ok {
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
