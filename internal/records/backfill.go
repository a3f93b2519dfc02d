package records

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/llmtenant/tenant/internal/directory"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Report is what a backfill has found and done.
type Report struct {
	Seen, Made, Linked, Updated int64

	Skipped int64
	Skips   []Skip

	Orphans  int64
	Orphaned []Orphan

	Resume string
}

// Skip is a record that a backfill has left as it was, by its primary key, and why.
type Skip struct {
	Record string
	Err    error
}

// Orphan is a tenant whose record is gone.
type Orphan struct{ TenantID, Record string }

const (
	maxListed = 100

	// maxLocked is how long a record is waited for that another transaction has locked, and pollLock the pause between two tries.
	maxLocked, pollLock = 3 * time.Second, 10 * time.Millisecond
)

// Backfill is one walk through the records of a model, which gives them their tenants.
type Backfill struct {
	records  // once it runs
	Size     int
	Rest     time.Duration // between two batches
	Progress func(Report)  // is told of each batch
	Removes  bool          // the tenants without a record are removed
	Dry      bool          // nothing is written

	at     position
	report Report
}

// MostRecords is how many records are read at a time at most.
const MostRecords = maxLoad

// Backfill prepares a walk through the records of a model.
func (g *Registry) Backfill(record any, options func(*Backfill) error) (*Backfill, error) {
	if record == nil {
		return nil, fmt.Errorf("the model is nil; give a pointer to its struct, such as &Organization{}")
	}
	d := g.Of(reflect.TypeOf(record))
	if d == nil {
		return nil, fmt.Errorf("the model was not declared; call ledger.Register(&%s{}, …) first",
			strings.TrimPrefix(reflect.TypeOf(record).String(), "*"))
	}
	b := &Backfill{records: records{Declaration: d}, Size: maxLoad, Progress: func(Report) {}}
	if err := options(b); err != nil {
		return nil, err
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

// Resume goes on where a report says that another walk has ended.
func (b *Backfill) Resume(at string) error { return b.at.parse(at) }

// Report is what was done so far. Later batches do not change it.
func (b *Backfill) Report() Report {
	r := b.report
	r.Skips, r.Orphaned = slices.Clone(r.Skips), slices.Clone(r.Orphaned)
	r.Resume = b.at.String()
	return r
}

// Run walks to the end, or until more, which is asked before each batch, returns an error.
func (b *Backfill) Run(ctx context.Context, more func() error) error {
	for {
		if err := cmp.Or(more(), ctx.Err()); err != nil {
			return err
		}
		if b.owner == "" {
			at, err := b.atHome(b.registry.DB.WithContext(ctx))
			if err != nil {
				return err
			}
			b.records = at
		}
		batch := b.more
		if b.at.Orphans {
			batch = b.orphans
		}
		if err := batch(ctx); err != nil {
			return err
		}
		b.Progress(b.Report())
		if b.at.Done {
			return nil
		}
		if err := sqldb.Pause(ctx, b.Rest); err != nil {
			return err
		}
	}
}

func (b *Backfill) skip(key []any, err error) {
	b.report.Skipped++
	if len(b.report.Skips) < maxListed {
		id, _ := b.canonical(key) // of one that has no canonical form, the error says more
		b.report.Skips = append(b.report.Skips, Skip{Record: id, Err: err})
	}
}

// more takes the next batch of records on.
func (b *Backfill) more(ctx context.Context) error {
	keys, err := b.page(ctx)
	if err != nil {
		return err
	}
	if err := b.fill(ctx, keys); err != nil {
		return err
	}
	if len(keys) < b.Size {
		b.at = position{Table: b.at.Table, Orphans: true}
		return nil
	}
	var after []pivot
	for _, value := range keys[len(keys)-1] {
		v, err := newPivot(value)
		if err != nil {
			return fmt.Errorf("%w: the primary key of %s: %w", fault.ErrInvalidTenant, b.Type, err)
		}
		after = append(after, v)
	}
	if reflect.DeepEqual(after, b.at.After) {
		return fmt.Errorf("%w: the primary key of %s gives the database another value than the database gave", fault.ErrInvalidTenant, b.Type)
	}
	b.at.After = after
	return nil
}

// page returns the primary keys of the next records.
func (b *Backfill) page(ctx context.Context) (keys [][]any, err error) {
	var (
		columns, after []any
		order          clause.OrderBy
	)
	for i, f := range b.schema.PrimaryFields {
		column := clause.Column{Table: clause.CurrentTable, Name: f.DBName}
		columns = append(columns, column)
		order.Columns = append(order.Columns, clause.OrderByColumn{Column: column})
		if b.at.After != nil {
			value, err := b.at.After[i].value()
			if err != nil {
				return nil, err
			}
			after = append(after, value)
		}
	}
	limit := b.Size
	err = b.read(b.registry.DB.WithContext(ctx), b.primary(), func(s *gorm.Statement) {
		if after != nil {
			row := "( " + marks(len(columns)) + ")" // directly behind a parenthesis, gorm takes bytes for a list
			s.AddClause(clause.Where{Exprs: []clause.Expression{clause.Expr{SQL: row + " > " + row, Vars: append(columns, after...)}}})
		}
		s.AddClause(order)
		s.AddClause(clause.Limit{Limit: &limit})
	}, func(record reflect.Value, _ facts) error {
		_, key, err := b.ownerID(record)
		keys = append(keys, key)
		return err
	})
	return keys, err
}

func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }

// chunk is records that are done in one transaction.
type chunk struct {
	keys  [][]any
	busy  time.Time // since when somebody else has had them locked
	chain bool      // the first is the one that it is about, and the others are in its way
}

// maxChain bounds how many records are looked at together because each has the key of the next.
const maxChain = 10

// errBusy is why a record that stayed locked was skipped.
var errBusy = fmt.Errorf("%w: another transaction has the record locked", fault.ErrUnavailable)

// errDry undoes a transaction of a dry run.
var errDry = errors.New("it is a dry run")

// fill makes the budgets of some records and makes them follow. A transaction that fails because of one of its records is
// halved, until that one is alone.
func (b *Backfill) fill(ctx context.Context, keys [][]any) error {
	todo := []chunk{{keys: keys}}
	for len(todo) > 0 {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if len(p.keys) == 0 {
			continue
		}
		if !p.busy.IsZero() {
			if err := sqldb.Pause(ctx, pollLock); err != nil {
				return err
			}
		}
		busy, err := b.attempt(ctx, p)
		again := chunk{keys: busy, busy: p.busy}
		switch {
		case err != nil && !b.ofRecords(err):
			return err
		case err != nil && len(p.keys) > 1 && !p.chain:
			half := len(p.keys) / 2
			todo = append(todo, chunk{keys: p.keys[half:], busy: p.busy}, chunk{keys: p.keys[:half], busy: p.busy}) // the first ones first
			continue
		case err != nil && b.passes(err):
			again.keys = p.keys[:1]
		case err != nil:
			if other := b.inTheWay(p, err); other != nil && len(p.keys) < maxChain {
				todo = append(todo, chunk{keys: append(p.keys[:len(p.keys):len(p.keys)], other), busy: p.busy, chain: true})
				continue
			}
			b.report.Seen++
			b.skip(p.keys[0], err)
			continue
		}
		if again.busy.IsZero() {
			again.busy = time.Now()
		}
		if time.Since(again.busy) < maxLocked {
			todo = slices.Insert(todo, 0, again) // after all others
			continue
		}
		if err == nil {
			err = errBusy
		}
		for _, key := range again.keys {
			b.report.Seen++
			b.skip(key, err)
		}
	}
	return nil
}

// inTheWay returns the record of the same model whose tenant has the key that one of the chunk's wants: its own may be
// another one by now, even one that the chunk is to give up, so that only all of them together can change.
func (b *Backfill) inTheWay(p chunk, err error) []any {
	var conflict *directory.ConflictError
	if !errors.As(err, &conflict) || conflict.OtherType != b.owner {
		return nil
	}
	for _, key := range p.keys {
		if id, _ := b.canonical(key); id == conflict.OtherID {
			return nil
		}
	}
	key, _ := b.primaryKey(conflict.OtherID)
	return key
}

// ofRecords reports whether a transaction failed for what its records are, or for what others do with them.
func (b *Backfill) ofRecords(err error) bool {
	return errors.Is(err, fault.ErrIdentityConflict) || errors.Is(err, fault.ErrInvalidTenant) || errors.Is(err, fault.ErrHierarchy) || b.passes(err)
}

// passes reports whether others were in the way, who may be gone soon.
func (b *Backfill) passes(err error) bool {
	if errors.Is(err, errNotBegun) {
		return false
	}
	return b.registry.Faults(err).Passes()
}

var errNotBegun = errors.New("no transaction could be begun")

// attempt does some records in one transaction, but for those that somebody else has locked.
func (b *Backfill) attempt(ctx context.Context, p chunk) (busy [][]any, err error) {
	var (
		plan    directory.Plan
		seen    int
		invalid []directory.Profile
		byID    = map[string][]any{}
		begun   bool
	)
	for _, key := range p.keys {
		id, err := b.canonical(key)
		if err != nil {
			return nil, err
		}
		byID[id] = key
	}
	err = b.registry.Transaction(ctx, func(tx *gorm.DB) error {
		begun = true
		pool := tx.Statement.ConnPool
		if err := b.registry.Dialect.Yield(ctx, pool); err != nil {
			return err
		}
		free, held, err := b.lock(tx, p.keys)
		if err != nil {
			return err
		}
		if busy = held; len(free) == 0 {
			return nil
		}
		profiles, err := b.current(tx, free)
		if err != nil {
			return err
		}
		seen = len(profiles)
		invalid = slices.DeleteFunc(slices.Clone(profiles), func(p directory.Profile) bool { return p.Err == nil || p.Deleted })
		profiles = slices.DeleteFunc(profiles, func(p directory.Profile) bool { return p.Err != nil && !p.Deleted })
		if plan, err = b.registry.directory().Plan(ctx, pool, profiles); err != nil {
			return err
		}
		valid := make([][]any, len(profiles))
		for i, p := range profiles {
			valid[i] = byID[p.OwnerID]
		}
		err = b.registry.mending(tx, func() error { return b.ensure(tx, valid) })
		if err == nil && b.Dry {
			err = errDry
		}
		return err
	})
	if errors.Is(err, errDry) {
		err = nil
	}
	if err != nil {
		if !begun {
			err = fmt.Errorf("%w: %w", errNotBegun, err)
		}
		return nil, err
	}
	if p.chain {
		seen = min(seen, 1) // the others have their own turn
	}
	b.report.Seen += int64(seen)
	b.report.Made += plan.Made
	b.report.Linked += plan.Linked
	b.report.Updated += plan.Updated
	for _, p := range invalid {
		b.skip(byID[p.OwnerID], p.Err)
	}
	return busy, nil
}

// lock locks records, so that they stay what they are until their tenants are there for the host's own changes to find.
// It does not wait for those that somebody else has locked, who may be waiting for another one of them.
func (b *Backfill) lock(tx *gorm.DB, keys [][]any) (free, held [][]any, err error) {
	if !b.registry.Dialect.LocksRows || len(keys) == 0 {
		return keys, nil, nil // SQLite has one writer at a time
	}
	got, err := b.there(tx, keys, clause.Locking{Strength: "NO KEY UPDATE", Options: clause.LockingOptionsSkipLocked})
	if err != nil || len(got) == len(keys) {
		return keys, nil, err
	}
	is, err := b.there(tx, keys)
	for _, key := range keys {
		id, e := b.canonical(key)
		switch {
		case e != nil:
			return nil, nil, e
		case got[id]:
			free = append(free, key)
		case is[id]:
			held = append(held, key)
		}
	}
	return free, held, err
}

// there returns the canonical keys of those of some records that are in the database.
func (b *Backfill) there(db *gorm.DB, keys [][]any, also ...clause.Interface) (map[string]bool, error) {
	ids := map[string]bool{}
	err := b.read(db, b.primary(), func(s *gorm.Statement) {
		s.AddClause(clause.Where{Exprs: []clause.Expression{b.having(keys)}})
		for _, c := range also {
			s.AddClause(c)
		}
	}, func(record reflect.Value, _ facts) error {
		id, _, err := b.ownerID(record)
		ids[id] = true
		return err
	})
	return ids, err
}

// orphans takes on the next batch of tenants that belong to records, and looks for the records.
func (b *Backfill) orphans(ctx context.Context) error {
	g := b.registry
	db := g.DB.WithContext(ctx)
	tenants, err := g.directory().OwnedAfter(ctx, db.Statement.ConnPool, b.owner, b.at.Owner, b.Size)
	if err != nil {
		return err
	}
	orphans, err := b.recordless(db, tenants)
	if err == nil && len(orphans) > 0 {
		// Whoever deletes a record through GORM changes its tenant in the same transaction. So it is to be seen that the
		// record is not there while the tenant, locked, still belongs to it.
		err = g.Transaction(ctx, func(tx *gorm.DB) (err error) {
			if orphans, err = g.directory().LockOwned(ctx, tx.Statement.ConnPool, b.owner, orphans); err != nil {
				return err
			}
			if orphans, err = b.recordless(tx, orphans); err != nil || !b.Removes || b.Dry {
				return err
			}
			return g.directory().Remove(ctx, tx.Statement.ConnPool, orphans)
		})
	}
	if err != nil {
		return err
	}
	for _, o := range orphans {
		b.report.Orphans++
		if len(b.report.Orphaned) < maxListed {
			b.report.Orphaned = append(b.report.Orphaned, Orphan{TenantID: o.Key, Record: o.OwnerID})
		}
	}
	if len(tenants) < b.Size {
		b.at.Done = true
	} else {
		b.at.Owner = tenants[len(tenants)-1].OwnerID
	}
	return nil
}

// exact reports whether the database has a primary key as the books have it. SQLite keeps times as texts, to the
// nanosecond and in any zone.
func (b *Backfill) exact(key []any) bool {
	return b.registry.Dialect.Name != sqldb.SQLite.Name || !slices.ContainsFunc(key, func(value any) bool {
		p, err := newPivot(value)
		return err != nil || p.Kind == "time"
	})
}

// recordless returns those of some tenants whose records are not there.
func (b *Backfill) recordless(db *gorm.DB, tenants []directory.Owned) ([]directory.Owned, error) {
	var keys [][]any
	known := map[string]bool{} // those whose primary key can be asked for
	for _, t := range tenants {
		if key, ok := b.primaryKey(t.OwnerID); ok && b.exact(key) {
			keys = append(keys, key)
			known[t.OwnerID] = true
		}
	}
	if len(keys) == 0 {
		return nil, nil
	}
	is, err := b.there(db, keys)
	return slices.DeleteFunc(slices.Clone(tenants), func(t directory.Owned) bool { return !known[t.OwnerID] || is[t.OwnerID] }), err
}
