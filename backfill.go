package tenant

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/llmtenant/tenant/internal/sqldb"
)

// BackfillOption is an option of [Ledger.Backfill].
type BackfillOption func(*backfill) error

// WithBatchSize sets how many records are looked at in one transaction: 1 to 500. While it runs, GORM's changes of these
// records wait for it, and nothing else does. Defaults to 500.
func WithBatchSize(n int) BackfillOption {
	return func(b *backfill) error {
		if n < 1 || n > maxLoad {
			return fmt.Errorf("WithBatchSize: %d is not between 1 and %d", n, maxLoad)
		}
		b.size = n
		return nil
	}
}

// WithPause sets how long to rest between two batches, for a database that is busy with other things. Defaults to 0.
func WithPause(d time.Duration) BackfillOption {
	return func(b *backfill) error {
		if d < 0 {
			return fmt.Errorf("WithPause: %v is negative", d)
		}
		b.rest = d
		return nil
	}
}

// WithProgress has a function called with what has been done so far, after each batch. The next batch waits for it.
// Defaults to none.
func WithProgress(progress func(BackfillReport)) BackfillOption {
	return func(b *backfill) error {
		if progress == nil {
			return fmt.Errorf("WithProgress: the function is nil")
		}
		b.progress = progress
		return nil
	}
}

// WithResume goes on where an earlier run ended: at the Resume of its report. Defaults to the beginning, as an
// empty one does.
func WithResume(resume string) BackfillOption {
	return func(b *backfill) error {
		if resume == "" {
			return nil
		}
		if err := b.at.parse(resume); err != nil {
			return fmt.Errorf("WithResume: %w", err)
		}
		return nil
	}
}

// WithOrphansRemoved does with the budgets whose records are gone what a delete through GORM would have done: they make no
// calls and have no limits, and their executions stay. Defaults to off: they are reported.
func WithOrphansRemoved() BackfillOption {
	return func(b *backfill) error {
		b.removes = true
		return nil
	}
}

// BackfillReport is what a [Ledger.Backfill] has found and done.
type BackfillReport struct {
	Seen    int64 // records that were looked at, including those that are softly deleted
	Made    int64 // budgets that were made, without those that others needed first, to stand below them
	Linked  int64 // budgets of tenants that were known by their id alone, and are their records' now
	Updated int64 // budgets whose record had, when its turn came, another key or name, or was deleted softly or restored

	// Skipped is how many records have been left as they were: another tenant has their key, or they have none that a
	// tenant can have, or another transaction had them locked all the time. Skips are the first 100 of them.
	Skipped int64
	Skips   []BackfillSkip

	// Orphans is how many budgets there are whose record is gone, unseen by the ledger. They are removed with
	// [WithOrphansRemoved], otherwise left. Orphaned are the first 100 of them.
	Orphans  int64
	Orphaned []Orphan

	// Resume says where another run can go on, with [WithResume]. It is empty when there is nothing left to do.
	Resume string
}

// BackfillSkip is a record that a [Ledger.Backfill] has left as it was.
type BackfillSkip struct {
	Record string // its primary key; several columns are a JSON array
	Err    error  // why: ErrIdentityConflict, ErrInvalidTenant, ErrHierarchy, or ErrUnavailable for one that is locked
}

// Orphan is a budget whose record is gone.
type Orphan struct {
	TenantID string // empty where its record had given up its key
	Record   string // the primary key that its record had; several columns are a JSON array
}

const maxListed = 100

// Backfill gives the records of a model, given as a pointer to its struct, their budgets: those from before the model was
// declared, and those that were written where the ledger could not see it, by raw SQL or another program. A tenant that
// was known by its id alone becomes that of the record with this key, with what it has spent. Budgets that are out of
// date follow their records. It makes budgets also for a model that was declared without [WithBudget].
//
// It walks the model's table by the primary key, some hundreds of records at a time, each batch in a short transaction of
// its own. It can run beside live traffic, several times, and several at once: whatever it finds done it leaves. A record
// that cannot have its budget does not stop it: it is skipped, and reported. So are budgets whose records are gone.
//
// It returns what was done so far also with an error, with which it can go on later: [ErrUnavailable]; [ErrClosed]; ctx's
// own; [ErrNotMigrated]. [ErrInvalidOption] is for a model that was not declared with [Ledger.Register], and for an option
// that is invalid.
func (l *Ledger) Backfill(ctx context.Context, record any, options ...BackfillOption) (BackfillReport, error) {
	b, err := l.backfill(record, options)
	if err != nil {
		return BackfillReport{}, fmt.Errorf("%w: Backfill %T: %w", ErrInvalidOption, record, err)
	}
	err = b.run(ctx)
	return b.soFar(), err
}

func (l *Ledger) backfill(record any, options []BackfillOption) (*backfill, error) {
	if record == nil {
		return nil, fmt.Errorf("the model is nil; give a pointer to its struct, such as &Organization{}")
	}
	d := l.declarations.of(reflect.TypeOf(record))
	if d == nil {
		return nil, fmt.Errorf("the model was not declared; call ledger.Register(&%s{}, …) first",
			strings.TrimPrefix(reflect.TypeOf(record).String(), "*"))
	}
	b := &backfill{records: records{declaration: d}, size: maxLoad, progress: func(BackfillReport) {}}
	for _, option := range options {
		if option == nil {
			return nil, fmt.Errorf("a nil BackfillOption")
		}
		if err := option(b); err != nil {
			return nil, err
		}
	}
	if b.at.Table != "" && b.at.Table != d.schema.Table {
		return nil, fmt.Errorf("WithResume: it is where a run over the table %s ended, and this is %s", b.at.Table, d.schema.Table)
	}
	if n := len(d.schema.PrimaryFields); b.at.After != nil && len(b.at.After) != n {
		return nil, fmt.Errorf("WithResume: it has a primary key of %d columns, and the model has one of %d", len(b.at.After), n)
	}
	b.at.Table = d.schema.Table
	return b, nil
}

// backfill is one run of Backfill.
type backfill struct {
	records  // once it runs
	size     int
	rest     time.Duration
	progress func(BackfillReport)
	removes  bool

	at     position
	report BackfillReport
}

// soFar is a report that later batches do not change.
func (b *backfill) soFar() BackfillReport {
	r := b.report
	r.Skips, r.Orphaned = slices.Clone(r.Skips), slices.Clone(r.Orphaned)
	r.Resume = b.at.String()
	return r
}

func (b *backfill) run(ctx context.Context) error {
	for {
		select {
		case <-b.ledger.closing:
			return ErrClosed
		default:
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if b.owner == "" {
			at, err := b.atHome(b.ledger.db.WithContext(ctx))
			if err != nil {
				return b.ledger.failure(ctx, err)
			}
			b.records = at
		}
		batch := b.more
		if b.at.Orphans {
			batch = b.orphans
		}
		if err := batch(ctx); err != nil {
			return b.ledger.failure(ctx, err)
		}
		b.progress(b.soFar())
		if b.at.Done {
			return nil
		}
		if b.rest > 0 {
			if err := sqldb.Pause(ctx, b.rest); err != nil {
				return err
			}
		}
	}
}

func (b *backfill) skip(key []any, err error) {
	b.report.Skipped++
	if len(b.report.Skips) < maxListed {
		id, _ := b.canonical(key) // of one that has no canonical form, the error says more
		b.report.Skips = append(b.report.Skips, BackfillSkip{Record: id, Err: err})
	}
}
