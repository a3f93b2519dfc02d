package tenant

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/directory"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Difference is a figure of the books that is not what the executions, one row a call, add up to.
type Difference struct {
	// TenantID is the tenant's id; empty for calls without a tenant, and where the tenant's record was deleted.
	TenantID string

	// UUID is the same tenant by what never changes of it: questions can be asked about it. All zeros for calls without a
	// tenant; 00000000-0000-0000-0000-000000000002 and …3 for the days and months of everybody.
	UUID UUID

	// Where says which balance, or which hour, day or month of the roll-up, it is, and Column which of its columns.
	Where, Column string

	// Have is what stands there, and Want what the executions say: nano-dollars, tokens or calls, as Column says.
	Have, Want int64
}

// String describes the difference.
func (d Difference) String() string {
	return fmt.Sprintf("tenant %q (%s), %s: %s is %d, and the executions say %d", d.TenantID, d.UUID, d.Where, d.Column, d.Have, d.Want)
}

// VerifyOption is an option of [Ledger.Verify] and [Ledger.Repair].
type VerifyOption func(*verifying) error

// VerifyReport is how far a [Ledger.Verify] or a [Ledger.Repair] is.
type VerifyReport struct {
	Tenants     int64 // that were looked at; one is the calls without a tenant
	Differences int64 // that were found in their books
}

// WithVerifyProgress has a function told what is done so far, after each tenant. Defaults to none.
func WithVerifyProgress(told func(VerifyReport)) VerifyOption {
	return func(v *verifying) error {
		if told == nil {
			return fmt.Errorf("WithVerifyProgress: the function is nil")
		}
		v.told = told
		return nil
	}
}

// WithVerifyDryRun has nothing written: Repair returns what it would mend, and that Verify came to its end is not written down.
// Defaults to off.
func WithVerifyDryRun() VerifyOption {
	return func(v *verifying) error {
		v.dry = true
		return nil
	}
}

// verifying is one run of Verify or Repair.
type verifying struct {
	told   func(VerifyReport)
	dry    bool
	report VerifyReport
	found  []Difference
	last   book.ID // the tenant that was looked at last
	its    int     // where what was found in its books begins
}

func verifyingWith(name string, options []VerifyOption) (*verifying, error) {
	v := &verifying{told: func(VerifyReport) {}}
	for _, option := range options {
		if option == nil {
			return nil, nilOption[VerifyOption](name)
		}
		if err := option(v); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrInvalidOption, name, err)
		}
	}
	return v, nil
}

// add adds what was found in the books of a tenant. One that has a second turn counts once, and what is found in both is one thing.
func (v *verifying) add(id book.ID, found []Difference) {
	if v.report.Tenants == 0 || v.last != id {
		v.report.Tenants++
		v.last, v.its = id, len(v.found)
	}
	for _, d := range found {
		if !slices.Contains(v.found[v.its:], d) {
			v.found = append(v.found, d)
			v.report.Differences++
		}
	}
	v.told(v.report)
}

// everybody adds what was found of everybody.
func (v *verifying) everybody(found []Difference) {
	v.found = append(v.found, found...)
	v.report.Differences += int64(len(found))
}

// Verify checks that the books agree with themselves: for each tenant, that every balance and every hour of the roll-up
// is the sum of the executions that it counts, that what is held is the sum of the running ones, and that every day and month that
// is rolled up is the sum of its hours, but for those of [WithRollupTags]. It returns every
// difference; there is none unless somebody else has written to the ledger's tables. It takes a short snapshot for each
// tenant and day, or for several days that have few calls, locks nothing, and can run while calls go on. That it came to its end is
// written to the audit log of the calls without a tenant, for [LastVerify].
//
// Errors: [ErrInvalidOption]; [ErrNotMigrated], [ErrUnavailable], and ctx's own, each with the differences that were found before.
func (l *Ledger) Verify(ctx context.Context, options ...VerifyOption) ([]Difference, error) {
	v, err := verifyingWith("Verify", options)
	if err == nil {
		err = l.inPlaces(ctx)
	}
	if err != nil {
		return nil, err
	}
	began := time.Now()
	err = l.verifying(ctx, v, func(p *place, id book.ID) ([]Difference, error) { return p.verify(ctx, p.on(p.pool), id) },
		func(p *place) ([]Difference, error) { return p.verifyFolded(ctx, p.on(p.pool)) })
	if err == nil && !v.dry {
		l.verified(ctx, len(v.found), time.Since(began))
	}
	return v.found, err
}

// Repair makes the books agree where Verify finds that they do not: it sets a tenant's balances and roll-up to what its
// executions add up to, and has its days and months rolled up anew, with the tenant's books locked meanwhile, one tenant at a time, while the calls of the others go
// on. It returns the differences that it has mended. It cannot undo what was admitted by wrong figures before. It also
// removes the balances that deleted tenants had for their limits, once nothing is running on them.
//
// Errors: those of [Ledger.Verify], each with the differences that were mended before.
func (l *Ledger) Repair(ctx context.Context, options ...VerifyOption) ([]Difference, error) {
	v, err := verifyingWith("Repair", options)
	if err == nil {
		err = l.inPlaces(ctx)
	}
	if err != nil {
		return nil, err
	}
	err = l.verifying(ctx, v, func(p *place, id book.ID) ([]Difference, error) { return p.repair(ctx, v, id) },
		func(p *place) ([]Difference, error) { return p.repairFolded(ctx, v) })
	return v.found, err
}

// verifying looks at the books of each tenant, and then at what each place has of everybody.
func (l *Ledger) verifying(ctx context.Context, v *verifying, one func(*place, book.ID) ([]Difference, error), all func(*place) ([]Difference, error)) error {
	err := l.eachTenant(ctx, func(p *place, id book.ID) error {
		found, err := one(p, id)
		v.add(id, found)
		return err
	})
	for _, p := range l.places {
		if err == nil {
			var found []Difference
			found, err = all(p)
			v.everybody(found)
		}
	}
	return err
}

// repairFolded has what is folded of everybody in the place folded anew, where it is wrong.
func (p *place) repairFolded(ctx context.Context, v *verifying) ([]Difference, error) {
	found, err := p.verifyFolded(ctx, p.on(p.pool))
	if err == nil && len(found) > 0 && !v.dry {
		err = p.transaction(ctx, p.db, func(tx *gorm.DB) error {
			return p.on(tx.Statement.ConnPool).Unfold(ctx, books.Everybody)
		})
	}
	if err != nil {
		return nil, p.failure(ctx, err)
	}
	return found, nil
}

// repair mends the books of one tenant.
func (p *place) repair(ctx context.Context, v *verifying, id book.ID) ([]Difference, error) {
	pool := p.on(p.pool)
	found, err := p.verify(ctx, pool, id)
	if err != nil || v.dry {
		return found, err
	}
	beyond, err := pool.Beyond(ctx, id)
	if err != nil || len(found) == 0 && !beyond {
		return nil, err
	}
	err = p.transaction(ctx, p.db, func(tx *gorm.DB) error {
		b := p.on(tx.Statement.ConnPool)
		if err := b.LockAnchor(ctx, id); err != nil {
			return err
		}
		if err := b.DropBeyond(ctx, id); err != nil {
			return err
		}
		// What Verify saw may be out of date by now; this is not.
		if found, err = p.verify(ctx, b, id); err != nil || len(found) == 0 {
			return err
		}
		if err := b.Mend(ctx, id); err != nil {
			return err
		}
		return b.Unfold(ctx, id)
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// verifyFolded compares the days and months of everybody with their hours.
func (l *Ledger) verifyFolded(ctx context.Context, b books.Books) (out []Difference, err error) {
	now, err := b.Now(ctx)
	if err != nil {
		return nil, l.failure(ctx, err)
	}
	for _, all := range []book.ID{books.Everybody, books.EachTenant} {
		found, err := b.Folded(ctx, all, now, l.folded())
		if err != nil {
			return nil, l.failure(ctx, err)
		}
		for _, d := range found {
			out = append(out, Difference{UUID: UUID(d.Tenant.String()), Where: d.Where, Column: d.Column, Have: d.Have, Want: d.Want})
		}
	}
	return out, nil
}

// verify compares one tenant's books with its executions.
func (l *Ledger) verify(ctx context.Context, b books.Books, id book.ID) ([]Difference, error) {
	found, err := b.Balances(ctx, id)
	if err != nil {
		return nil, err
	}
	for from, days := books.Ever.From, 1; ; {
		r, more, err := b.NextDays(ctx, id, from, days)
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		began := time.Now()
		hours, err := b.Hours(ctx, id, r)
		if err != nil {
			return nil, err
		}
		found = append(found, hours...)
		from, days = r.To, books.DaysAtOnce(days, time.Since(began))
	}
	now, err := b.Now(ctx)
	if err != nil {
		return nil, err
	}
	folded, err := b.Folded(ctx, id, now, l.folded())
	if err != nil {
		return nil, err
	}
	if found = append(found, folded...); len(found) == 0 {
		return nil, nil
	}
	tenantID, err := l.directory().KeyOf(ctx, sqldb.Under(b.Conn), id) // wherever it is by now
	if err != nil {
		return nil, err
	}
	out := make([]Difference, len(found))
	for i, d := range found {
		out[i] = Difference{TenantID: tenantID, UUID: UUID(id.String()), Where: d.Where, Column: d.Column, Have: d.Have, Want: d.Want}
	}
	return out, nil
}

const (
	tenantsPage = 500

	// mostTurns bounds how often a tenant has its turn again, whose settings are changed all the time.
	mostTurns = 5
)

// eachTenant does something for each tenant, in the place of its books, and for the calls without one. One that was moved meanwhile has its
// turn again where it is now.
func (l *Ledger) eachTenant(ctx context.Context, do func(*place, book.ID) error) error {
	return l.tenants(ctx, func(p *place, id book.ID) error {
		if len(l.places) == 1 || id == book.NoTenant {
			return do(p, id)
		}
		at, known, err := l.directory().StandOf(ctx, l.pool, id)
		for turn := 0; err == nil; turn++ {
			if known {
				if p, err = l.placeOf(id.String(), at.Place); err != nil {
					break
				}
			}
			if err = do(p, id); err != nil || !known || turn == mostTurns {
				break
			}
			before := at
			if at, known, err = l.directory().StandOf(ctx, l.pool, id); at == before {
				break
			}
		}
		return err
	})
}

// inItsPlace reads something of the books of a tenant in the place that they are in at that moment, and returns that too.
func inItsPlace[T any](ctx context.Context, l *Ledger, id book.ID, read func(books.Books) (T, error)) (found T, at *place, err error) {
	at = l.places[0]
	if len(l.places) == 1 || id == book.NoTenant {
		found, err = read(at.on(l.pool))
	} else {
		found, err = ofOneMoment(ctx, l.db.Session(&gorm.Session{NewDB: true, Context: ctx}), func(db *gorm.DB) (found T, err error) {
			conn := db.Statement.ConnPool
			name, known, err := l.directory().PlaceOf(ctx, conn, directory.Who{ID: id})
			if err == nil && known {
				at, err = l.placeOf(id.String(), name)
			}
			if err != nil {
				return found, err
			}
			return read(at.on(conn))
		})
	}
	if err != nil {
		err = l.failure(ctx, err)
	}
	return found, at, err
}

// tenants does something for each tenant, in the order of their ids, and for the calls without one, which are in the home. The place is that in which its
// books were when its page was read.
func (l *Ledger) tenants(ctx context.Context, do func(*place, book.ID) error) error {
	schemas := make([]*sqldb.Schema, len(l.places))
	for i, p := range l.places {
		schemas[i] = p.schema
	}
	pool := books.Books{Dialect: l.dialect, Conn: l.pool}
	var after *book.ID
	for {
		found, err := pool.Tenants(ctx, schemas, after, tenantsPage)
		for _, t := range found {
			if err == nil {
				err = do(l.places[t.Place], t.ID)
			}
		}
		if err != nil {
			return l.failure(ctx, err)
		}
		if len(found) < tenantsPage {
			return nil
		}
		after = &found[len(found)-1].ID
	}
}

// folded is what the books need to know of time zones, for what is folded by days.
func (l *Ledger) folded() books.Zones {
	return books.Zones{Ledger: l.options.zone, Tags: l.options.tags, Load: func(name string) *time.Location {
		loc, err := l.zones.Load(name)
		if err != nil {
			return nil
		}
		return loc
	}}
}

// RollUp folds the hours of the roll-up that are over into days and months, and everybody's hours since the last day, which long questions are answered from. The ledger
// does so by itself, every few minutes; whoever has just brought in many old calls may want it at once. It goes on beside live
// traffic, in short transactions, until there is nothing to do.
//
// Errors: [ErrNotMigrated], [ErrUnavailable], and ctx's own.
func (l *Ledger) RollUp(ctx context.Context) error {
	if err := l.inPlaces(ctx); err != nil {
		return err
	}
	for _, p := range l.places {
		if err := p.rollUp(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p *place) rollUp(ctx context.Context) error {
	for {
		more, err := p.foldOnce(ctx)
		if errors.Is(err, errFolding) {
			if err = sqldb.Pause(ctx, 100*time.Millisecond); err == nil {
				continue
			}
		}
		if err != nil || !more {
			return err
		}
	}
}

// foldOnce folds in one transaction, which sees one moment.
func (p *place) foldOnce(ctx context.Context) (more bool, err error) {
	const budget = 200 * time.Millisecond
	options := &sql.TxOptions{}
	if p.dialect.LocksRows {
		options.Isolation = sql.LevelRepeatableRead
	}
	tx, err := p.pool.BeginTx(ctx, options)
	if err != nil {
		return false, p.failure(ctx, err)
	}
	defer func() { _ = tx.Rollback() }()
	if more, err = p.on(tx).Fold(ctx, p.folded(), budget); err == nil {
		err = tx.Commit()
	}
	switch class := p.store.Classify(err); {
	case err == nil:
		return more, nil
	case class == fault.Conflict || class == fault.Locked:
		return false, errFolding
	default:
		return false, p.failure(ctx, err)
	}
}

// errFolding says that somebody else folds at the moment.
var errFolding = errors.New("tenant: another process rolls up days and months")

// foldNow returns what folds from time to time, a second at most at a time.
func (p *place) foldNow() func(context.Context) {
	const every, most = 5 * time.Minute, time.Second
	next := time.Now().Add(every)
	return func(ctx context.Context) {
		started := time.Now()
		if started.Before(next) {
			return
		}
		for more := true; more; {
			var err error
			if more, err = p.foldOnce(ctx); err != nil {
				if ctx.Err() == nil && !errors.Is(err, errFolding) {
					p.options.log.Warn("tenant: days and months were not rolled up; long questions take longer until they are", "error", err)
				}
				break
			}
			if more && time.Since(started) > most {
				return // and goes on the next time
			}
		}
		next = time.Now().Add(every)
	}
}
