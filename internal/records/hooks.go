package records

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// hooks are the callbacks of one handle. They outlive a ledger: gorm has no way to take them out.
type hooks struct {
	open func() *Registry // nil while no ledger is open on the handle
}

// Install makes the budgets of declared models follow their records. All callbacks are registered here, because gorm's are not
// to be changed once the db is used. Open returns the models of the ledger that is open on it, nil where none is.
//
// They never go by the struct in memory, nor by a record's old key. The statement itself is made to say which records it
// has written and what they have become (see watched), and the tenants that belong to them follow.
func Install(db *gorm.DB, open func() *Registry) error {
	p := &hooks{open}
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
func (p *hooks) before(kind kind) func(*gorm.DB) {
	return func(db *gorm.DB) {
		if d := p.declarationFor(db); d != nil {
			w := &watched{ConnPool: db.Statement.ConnPool, hooks: p, db: db, declaration: d, kind: kind}
			db.InstanceSet(watchedRun, w)
			db.Statement.ConnPool = w.pool()
		}
	}
}

// after makes the tenants follow.
func (p *hooks) after(db *gorm.DB) {
	w, _ := take(db, watchedRun).(*watched)
	if w == nil {
		return
	}
	if !w.ran { // gorm had nothing to send, or would not
		db.Statement.ConnPool = w.ConnPool
		return
	}
	if db.Error == nil && w.follows {
		p.finish(db, w.failure(), w.declaration.registry.mending(db, w.follow))
	}
}

// declarationFor returns the declaration of the records that a statement is about, nil where there is nothing to do. It
// goes by the table: what a statement is given may be a map, or another struct.
func (p *hooks) declarationFor(db *gorm.DB) *Declaration {
	g := p.open()
	if g == nil || db.Error != nil || db.DryRun {
		return nil
	}
	return g.OfTable(tableOf(db.Statement))
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
func (p *hooks) begin(db *gorm.DB, writes bool) error {
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
	g := p.open()
	if !writes || g == nil {
		return nil
	}
	return g.Dialect.Write(db.Statement.Context, db.Statement.ConnPool)
}

// finish ends the savepoint of begin. With an error the host's statement is undone: its transaction stays usable, and
// what it changed is not there without the ledger's part.
func (p *hooks) finish(db *gorm.DB, failure string, err error) {
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
	if !errors.Is(err, fault.ErrRowsOpen) && sqldb.RowsOpen(db.Statement.Context, db.Statement.ConnPool, err) {
		return fmt.Errorf("%w (%w)", fault.ErrRowsOpen, err)
	}
	return err
}

// endSavepoint ends the savepoint of begin, where there is one.
func (p *hooks) endSavepoint(db *gorm.DB, undo bool) error {
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
func (p *hooks) end(db *gorm.DB) {
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
