package tenant

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/llmtenant/tenant/internal/records"
)

// BackfillOption is an option of [Ledger.Backfill].
type BackfillOption func(*records.Backfill) error

// WithBatchSize sets how many records are looked at in one transaction: 1 to 500. While it runs, GORM's changes of these
// records wait for it, and nothing else does. Defaults to 500.
func WithBatchSize(n int) BackfillOption {
	return func(b *records.Backfill) error {
		if n < 1 || n > records.MostRecords {
			return fmt.Errorf("WithBatchSize: %d is not between 1 and %d", n, records.MostRecords)
		}
		b.Size = n
		return nil
	}
}

// WithPause sets how long to rest between two batches, for a database that is busy with other things. Defaults to 0.
func WithPause(d time.Duration) BackfillOption {
	return func(b *records.Backfill) error {
		if d < 0 {
			return fmt.Errorf("WithPause: %v is negative", d)
		}
		b.Rest = d
		return nil
	}
}

// WithProgress has a function called with what has been done so far, after each batch. The next batch waits for it.
// Defaults to none.
func WithProgress(progress func(BackfillReport)) BackfillOption {
	return func(b *records.Backfill) error {
		if progress == nil {
			return fmt.Errorf("WithProgress: the function is nil")
		}
		b.Progress = func(r records.Report) { progress(backfillReport(r)) }
		return nil
	}
}

// WithResume goes on where an earlier run ended: at the Resume of its report. Defaults to the beginning, as an
// empty one does.
func WithResume(resume string) BackfillOption {
	return func(b *records.Backfill) error {
		if resume == "" {
			return nil
		}
		if err := b.Resume(resume); err != nil {
			return fmt.Errorf("WithResume: %w", err)
		}
		return nil
	}
}

// WithOrphansRemoved does with the budgets whose records are gone what a delete through GORM would have done: they make no
// calls and have no limits, and their executions stay. Defaults to off: they are reported.
func WithOrphansRemoved() BackfillOption {
	return func(b *records.Backfill) error {
		b.Removes = true
		return nil
	}
}

// WithBackfillDryRun has Backfill report what it would do, and write nothing: each batch is undone. What a later batch would find of
// an earlier one is not there. Defaults to off.
func WithBackfillDryRun() BackfillOption {
	return func(b *records.Backfill) error {
		b.Dry = true
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
	b, err := l.records.Backfill(record, func(b *records.Backfill) error {
		for _, option := range options {
			if option == nil {
				return fmt.Errorf("a nil BackfillOption")
			}
			if err := option(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return BackfillReport{}, fmt.Errorf("%w: Backfill %T: %w", ErrInvalidOption, record, err)
	}
	err = b.Run(ctx, l.goesOn)
	if err != nil && !errors.Is(err, ErrClosed) {
		err = l.failure(ctx, err)
	}
	return backfillReport(b.Report()), err
}

func backfillReport(r records.Report) BackfillReport {
	report := BackfillReport{
		Seen: r.Seen, Made: r.Made, Linked: r.Linked, Updated: r.Updated, Skipped: r.Skipped, Orphans: r.Orphans, Resume: r.Resume,
	}
	for _, s := range r.Skips {
		report.Skips = append(report.Skips, BackfillSkip(s))
	}
	for _, o := range r.Orphaned {
		report.Orphaned = append(report.Orphaned, Orphan(o))
	}
	return report
}
