package tenant

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/directory"
	"github.com/llmtenant/tenant/internal/fault"
)

// Initialize implements gorm.Plugin: it makes the budgets of declared models follow their records. All callbacks are
// registered here, because gorm's are not to be changed once the db is used.
//
// They never go by the struct in memory, nor by a record's old key. The statement itself is made to say which records it
// has written and what they have become (see watched), and the tenants that belong to them follow.
func (p *plugin) Initialize(db *gorm.DB) error {
	// Both Before and After, each time: gorm runs a callback that names only one neighbour at the end of the chain,
	// which is after the commit.
	create, update, remove := db.Callback().Create(), db.Callback().Update(), db.Callback().Delete()
	return errors.Join(
		create.After("gorm:save_before_associations").Before("gorm:create").Register("llmtenant:before_create", p.before(creating)),
		create.After("gorm:create").Before("gorm:save_after_associations").Register("llmtenant:after_create", p.after),
		create.After("gorm:commit_or_rollback_transaction").Register("llmtenant:end_create", p.end),

		update.After("gorm:save_before_associations").Before("gorm:update").Register("llmtenant:before_update", p.before(updating)),
		update.After("gorm:update").Before("gorm:save_after_associations").Register("llmtenant:after_update", p.after),
		update.After("gorm:commit_or_rollback_transaction").Register("llmtenant:end_update", p.end),

		remove.After("gorm:delete_before_associations").Before("gorm:delete").Register("llmtenant:before_delete", p.before(deleting)),
		remove.After("gorm:delete").Before("gorm:after_delete").Register("llmtenant:after_delete", p.after),
		remove.After("gorm:commit_or_rollback_transaction").Register("llmtenant:end_delete", p.end),
	)
}

// What a callback leaves for the next ones of the same statement.
const (
	ownTransaction = "llmtenant:transaction"
	ownSavepoint   = "llmtenant:savepoint"
	watchedRun     = "llmtenant:watched"

	savepoint = "llmtenant"
)

// before has the statement watched, where it may be about a declared model.
func (p *plugin) before(kind kind) func(*gorm.DB) {
	return func(db *gorm.DB) {
		if d := p.declarationFor(db); d != nil {
			w := &watched{ConnPool: db.Statement.ConnPool, plugin: p, db: db, declaration: d, kind: kind}
			db.InstanceSet(watchedRun, w)
			db.Statement.ConnPool = w.pool()
		}
	}
}

// after makes the tenants follow.
func (p *plugin) after(db *gorm.DB) {
	w, _ := take(db, watchedRun).(*watched)
	if w == nil {
		return
	}
	if !w.ran { // gorm had nothing to send, or would not
		db.Statement.ConnPool = w.ConnPool
		return
	}
	if db.Error == nil && w.follows {
		p.finish(db, w.failure(), w.declaration.ledger.mending(db, w.follow))
	}
}

// declarationFor returns the declaration of the records that a statement is about, nil where there is nothing to do. It
// goes by the table: what a statement is given may be a map, or another struct.
func (p *plugin) declarationFor(db *gorm.DB) *declaration {
	l := p.ledger.Load()
	if l == nil || db.Error != nil || db.DryRun {
		return nil
	}
	return l.declarations.ofTable(tableOf(db.Statement))
}

// tableOf is the name of a statement's table, with its schema where the statement says it. A table that the host has given
// an alias is known to gorm by that.
func tableOf(s *gorm.Statement) string {
	if s.TableExpr == nil {
		return s.Table
	}
	name, _, _ := strings.Cut(strings.TrimSpace(s.TableExpr.SQL), " ")
	return strings.NewReplacer(`"`, "", "`", "").Replace(name)
}

// begin makes sure that a statement of the host and what the ledger writes for it are done together or not at all: where
// the host has a transaction of its own, there is a savepoint in it; where it has none and gorm opened none either, there
// is one now. Writes says that the transaction has to be a writer before it reads.
func (p *plugin) begin(db *gorm.DB, writes bool) error {
	_, gorms := db.InstanceGet("gorm:started_transaction")
	_, hosts := db.Statement.ConnPool.(gorm.TxCommitter)
	switch {
	case gorms:
	case hosts:
		if _, err := db.Statement.ConnPool.ExecContext(db.Statement.Context, "SAVEPOINT "+savepoint); err != nil {
			return rowsNamed(db, fmt.Errorf("make a savepoint: %w", err))
		}
		db.InstanceSet(ownSavepoint, true)
	default:
		tx := db.Begin(&sql.TxOptions{})
		if tx.Error != nil {
			return rowsNamed(db, tx.Error)
		}
		db.Statement.ConnPool = tx.Statement.ConnPool
		db.InstanceSet(ownTransaction, true)
	}
	l := p.ledger.Load()
	if !writes || l == nil {
		return nil
	}
	return l.dialect.Write(db.Statement.Context, db.Statement.ConnPool)
}

// finish ends the savepoint of begin. With an error the host's statement is undone: its transaction stays usable, and
// what it changed is not there without the ledger's part.
func (p *plugin) finish(db *gorm.DB, failure string, err error) {
	if e := p.endSavepoint(db, err != nil); e != nil {
		err = errors.Join(err, e)
	}
	if err != nil {
		err = rowsNamed(db, err)
		db.RowsAffected = 0
		_ = db.AddError(fmt.Errorf("tenant: %s: %w", failure, err))
	}
}

// rowsNamed says so where rows of the host's own query are in the way of what a hook asks.
func rowsNamed(db *gorm.DB, err error) error {
	if !errors.Is(err, ErrRowsOpen) && rowsOpen(db.Statement.Context, db.Statement.ConnPool, err) {
		return fmt.Errorf("%w (%w)", ErrRowsOpen, err)
	}
	return err
}

// endSavepoint ends the savepoint of begin, where there is one.
func (p *plugin) endSavepoint(db *gorm.DB, undo bool) error {
	if take(db, ownSavepoint) == nil {
		return nil
	}
	end := []string{"RELEASE SAVEPOINT " + savepoint}
	if undo {
		end = []string{"ROLLBACK TO SAVEPOINT " + savepoint, "RELEASE SAVEPOINT " + savepoint}
	}
	var err error
	for _, statement := range end {
		_, e := db.Statement.ConnPool.ExecContext(db.Statement.Context, statement)
		err = errors.Join(err, e)
	}
	return err
}

// end closes the transaction of begin.
func (p *plugin) end(db *gorm.DB) {
	if take(db, ownTransaction) == nil {
		return
	}
	if db.Error != nil {
		db.Rollback()
	} else {
		db.Commit()
	}
	db.Statement.ConnPool = db.ConnPool
}

// take returns what an earlier callback of the statement has left, nil where it has left nothing. It is gone then: a host
// may use a statement again.
func take(db *gorm.DB, key string) any {
	left, _ := db.InstanceGet(key)
	if left != nil {
		db.InstanceSet(key, nil)
	}
	return left
}

// maxStale bounds how many tenants that are out of date one statement can come across.
const maxStale = 100

// mending does something that may find a tenant id taken. If whoever has it does not any more, because the record was
// changed or deleted where the ledger could not see it, that tenant is made to follow first.
func (l *Ledger) mending(db *gorm.DB, do func() error) error {
	for stale := 0; ; stale++ {
		err := do()
		conflict := (*directory.ConflictError)(nil)
		if !errors.As(err, &conflict) {
			return l.refused(err)
		}
		if mended := stale < maxStale && l.mend(db, conflict); !mended {
			return l.refused(err)
		}
	}
}

// mend makes the tenant follow that has a tenant id which is wanted for another one, and reports whether it has given it
// up.
func (l *Ledger) mend(db *gorm.DB, conflict *directory.ConflictError) bool {
	d := l.declarations.ofTable(conflict.OtherType)
	if d == nil {
		return false // another service's, perhaps
	}
	key, ok := d.primaryKey(conflict.OtherID)
	if !ok {
		return false
	}
	at, err := d.resolve(db)
	if err != nil || at.owner != conflict.OtherType {
		return false // a record of another schema cannot be read from here
	}
	profiles, err := at.current(db, [][]any{key})
	if err != nil || len(profiles) == 1 && !profiles[0].Deleted && (profiles[0].Err != nil || profiles[0].Key == conflict.Profile.Key) {
		return false
	}
	return at.follow(db, [][]any{key}, true) == nil
}

// recordsError is an error of reading the host's own table.
type recordsError struct{ error }

func (e *recordsError) Unwrap() error { return e.error }

// unmigrated reports whether an error says that the ledger's own tables are missing.
func (l *Ledger) unmigrated(err error) bool {
	hosts := (*recordsError)(nil)
	return l.store.Classify(err) == fault.NotMigrated && !errors.As(err, &hosts)
}

// refused gives an error of making tenants follow the form in which the host sees it.
func (l *Ledger) refused(err error) error {
	if err == nil {
		return nil
	}
	if conflict := (*directory.ConflictError)(nil); errors.As(err, &conflict) {
		switch other, own := conflict.OtherType, conflict.Profile.OwnerType; {
		case other == "" || other == own:
		case bare(other) == bare(own):
			err = fmt.Errorf("%w; tenant ids have to differ between schemas too: let the method LLMTenantID put the schema's name before them", err)
		default:
			err = fmt.Errorf("%w; declare one of them WithNamespace, so that the keys of the two models cannot meet", err)
		}
		return fmt.Errorf("%w: %w", ErrIdentityConflict, err)
	}
	if wrong := (*directory.PlaceError)(nil); errors.As(err, &wrong) {
		return fmt.Errorf("%w: %w", ErrHierarchy, err)
	}
	switch {
	case l.unmigrated(err):
		return fault.Of(fault.NotMigrated, err)
	case l.store.Classify(err) == fault.Locked:
		return fmt.Errorf("%w: another transaction is creating or changing the same tenant; a call made inside the "+
			"transaction that creates its tenant has to wait for the commit: %w", ErrUnavailable, err)
	}
	return err
}
