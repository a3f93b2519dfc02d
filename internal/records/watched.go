package records

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant/internal/directory"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// kind is what a statement does to its records.
type kind int

const (
	creating kind = iota
	updating
	deleting
)

// watched stands in for the connection of one statement of the host's while gorm runs it. It adds a RETURNING clause, or
// columns to the one that is there, and so learns which records the statement has written and what they are now. The
// conditions of the host are evaluated once, and nothing is locked but what the statement locks by itself: to look for the
// records first would be wrong for conditions that change, and a lock of its own would wait, or be waited for, where the
// bare statement does neither.
type watched struct {
	gorm.ConnPool // the one that it stands in for

	hooks       *hooks
	db          *gorm.DB // of the statement
	declaration *Declaration
	kind        kind

	ran     bool // the statement was sent
	follows bool // and its records are to be followed

	at       records
	place    *place              // of the table, where the statement cannot say it
	compares bool                // an update can say what it has left as it was
	again    bool                // the records are to be read again: triggers may have changed them since
	profiles []directory.Profile // what the records are now
	keys     [][]any             // their primary keys
	before   [][]any             // where the statement sets primary keys: those of the records that it was to change
	known    map[string]bool     // where an upsert does not say what it has inserted: the records that were there
	err      error               // why they cannot be followed
}

// pool is what gorm gets as the connection. In a transaction it can be ended, and hold prepared statements, like what it
// stands in for: callbacks of the host's may use it.
func (w *watched) pool() gorm.ConnPool {
	if tx, ok := w.ConnPool.(gorm.TxCommitter); ok {
		return &watchedTx{watched: w, TxCommitter: tx}
	}
	return w
}

type watchedTx struct {
	*watched
	gorm.TxCommitter
}

// StmtContext implements gorm.Tx.
func (w *watchedTx) StmtContext(ctx context.Context, stmt *sql.Stmt) *sql.Stmt {
	if tx, ok := w.ConnPool.(gorm.Tx); ok {
		return tx.StmtContext(ctx, stmt)
	}
	return stmt
}

// BeginTx implements gorm.ConnPoolBeginner.
func (w *watched) BeginTx(ctx context.Context, options *sql.TxOptions) (gorm.ConnPool, error) {
	switch beginner := w.ConnPool.(type) {
	case gorm.TxBeginner:
		return beginner.BeginTx(ctx, options)
	case gorm.ConnPoolBeginner:
		return beginner.BeginTx(ctx, options)
	}
	return nil, gorm.ErrInvalidTransaction
}

// GetDBConn implements gorm.GetDBConnector.
func (w *watched) GetDBConn() (*sql.DB, error) {
	return (&gorm.DB{Config: &gorm.Config{ConnPool: w.ConnPool}}).DB()
}

// ExecContext implements gorm.ConnPool.
func (w *watched) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if !w.meant(query) {
		return w.ConnPool.ExecContext(ctx, query, args...)
	}
	follows, err := w.begin()
	if err != nil {
		return nil, err
	}
	if !follows {
		return w.db.Statement.ConnPool.ExecContext(ctx, query, args...)
	}
	seen, err := w.run(ctx, query, args, "\nRETURNING ")
	if err != nil {
		return nil, err
	}
	result := written{rows: seen.n, ids: w.kind == creating && w.declaration.registry.Dialect == sqldb.SQLite}
	if result.ids {
		err = sqldb.One(ctx, w.db.Statement.ConnPool, `SELECT last_insert_rowid()`, &result.id)
	}
	return result, err
}

// QueryContext implements gorm.ConnPool.
func (w *watched) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if !w.meant(query) {
		return w.ConnPool.QueryContext(ctx, query, args...)
	}
	follows, err := w.begin()
	if err != nil {
		return nil, err
	}
	if !follows {
		return w.db.Statement.ConnPool.QueryContext(ctx, query, args...)
	}
	seen, err := w.run(ctx, query, args, ", ")
	if err != nil {
		return nil, err
	}
	return seen.replay(ctx)
}

// meant reports whether a query is the statement itself, the first time that it comes. Callbacks of the host's may use the
// connection for others.
func (w *watched) meant(query string) bool {
	return !w.ran && w.db.Statement.SQL.String() == query
}

// begin prepares for the statement to be run, and reports whether its records are to be followed.
func (w *watched) begin() (follows bool, err error) {
	w.ran = true
	statement := w.db.Statement
	statement.ConnPool = w.ConnPool
	if !w.declared() {
		return false, nil
	}
	set, sets := statement.Clauses["SET"].Expression.(clause.Set)
	if w.kind == updating && sets && !w.declaration.touched(set) {
		return false, nil
	}
	moves := w.kind == updating && w.declaration.moves(set)
	asks := w.kind == creating && w.upserts()
	fail := func(err error) (bool, error) {
		err = errors.Join(err, w.hooks.endSavepoint(w.db, true))
		return false, fmt.Errorf("tenant: %s: %w", w.failure(), err)
	}
	if err := w.hooks.begin(w.db, moves || asks); err != nil {
		return fail(w.declaration.registry.Explain(err))
	}
	elsewhere, err := w.declaration.registry.elsewhere(w.db)
	if err != nil {
		return fail(err)
	}
	if elsewhere {
		return false, w.hooks.endSavepoint(w.db, false)
	}
	if moves {
		if w.before, err = w.hit(); err != nil {
			return false, err // the conditions are the host's, and so is the error
		}
		if len(w.before) > 1 {
			return fail(fmt.Errorf("%w: the primary keys of %d %s are to be set; a budget is found by its record's, so they have to stay",
				fault.ErrInvalidTenant, len(w.before), w.declaration.schema.Table))
		}
	}
	if asks {
		if err := w.remember(); err != nil {
			return fail(w.declaration.registry.Explain(err))
		}
	}
	if w.kind == creating {
		if w.place, err = w.declaration.placeBefore(w.db, tableOf(statement)); err != nil {
			return fail(w.declaration.registry.Explain(err))
		}
	}
	if w.kind == updating && !moves {
		if w.compares, err = w.declaration.tells(w.db, tableOf(statement)); err != nil {
			return fail(w.declaration.registry.Explain(err))
		}
	}
	w.follows = true
	return true, nil
}

// declared reports whether the statement may mean the declared table. PostgreSQL says it later, by a search_path that only the
// server knows; on SQLite another name is another database, but for an insert, from which gorm's dialect drops the name.
func (w *watched) declared() bool {
	statement, table := w.db.Statement, w.declaration.schema.Table
	if w.declaration.registry.Dialect.Schemas {
		return true
	}
	name := tableOf(statement)
	if w.kind == creating && statement.TableExpr != nil && !strings.Contains(statement.SQL.String(), statement.TableExpr.SQL) {
		name = statement.Table
	}
	return strings.TrimPrefix(name, "main.") == strings.TrimPrefix(table, "main.")
}

// upserts reports whether the statement may find the record that it is to create there already.
func (w *watched) upserts() bool {
	_, conflicts := w.db.Statement.Clauses["ON CONFLICT"]
	return conflicts
}

func (w *watched) failure() string {
	if w.kind == creating {
		return fmt.Sprintf("the budget of a %s could not be created", w.declaration.Type)
	}
	return fmt.Sprintf("the budgets of the %s cannot follow", w.declaration.schema.Table)
}

// run runs the statement with the columns that the ledger wants.
func (w *watched) run(ctx context.Context, query string, args []any, clause string) (*seen, error) {
	d, statement := w.declaration, w.db.Statement
	wants := &gorm.Statement{
		DB: w.db, Context: ctx, Table: statement.Table, TableExpr: statement.TableExpr, Schema: d.schema,
		ConnPool: statement.ConnPool, Vars: args[:len(args):len(args)],
	}
	if !d.registry.Dialect.Schemas {
		wants.Table = bare(tableOf(statement)) // which an alias does not replace there
	}
	_, _ = wants.WriteString(query + clause)
	s := selection{
		declaration: d, fields: d.columns, hidden: true, table: tableOf(statement),
		inserted: w.kind == creating && w.upserts() && w.known == nil, changes: w.compares, placed: w.place,
	}
	_, s.qualified = statement.Clauses["FROM"] // in which others have columns of the same names
	s.qualified = s.qualified && w.kind == updating
	s.Build(wants)
	if wants.Error != nil {
		return nil, wants.Error
	}
	rows, err := statement.ConnPool.QueryContext(ctx, wants.SQL.String(), wants.Vars...)
	if err == nil {
		var result *seen
		if result, err = w.read(rows, s); err == nil {
			return result, nil
		}
	}
	// SQLite has undone the statement; PostgreSQL's transaction is aborted, as it would be without the ledger.
	if d.registry.Dialect == sqldb.SQLite {
		err = errors.Join(err, w.hooks.endSavepoint(w.db, false))
	} else {
		take(w.db, ownSavepoint)
	}
	w.follows = false
	if d.registry.Faults(err) == fault.NotMigrated && strings.Contains(err.Error(), "llm_tenants") {
		err = fault.Of(fault.NotMigrated, err)
	}
	return nil, err
}

// read takes in the rows of the statement.
func (w *watched) read(rows *sql.Rows, s selection) (*seen, error) {
	defer func() { _ = rows.Close() }()
	result, err := newSeen(rows, s.width())
	if err != nil {
		return nil, err
	}
	d := w.declaration
	deleted := false
	if w.kind == deleting {
		_, deleted = w.db.Statement.Clauses["DELETE"]
	}
	if values, ok := w.db.Statement.Clauses["VALUES"].Expression.(clause.Values); ok {
		n := len(values.Values)
		w.profiles, w.keys, result.rows = make([]directory.Profile, 0, n), make([][]any, 0, n), make([][]any, 0, n)
	}
	scanner := scanner{selection: s}
	for first := true; rows.Next(); first = false {
		record, facts, err := scanner.scan(w.db.Statement.Context, rows, result.targets)
		result.add()
		if err != nil {
			w.err = errors.Join(w.err, err)
			return result, nil // and is undone
		}
		if first {
			if w.at = d.located(facts.place); w.at.Declaration == nil {
				w.follows = false // another table of that name
			}
			w.at.hosts = true
			w.again = facts.again && !deleted
		}
		if !w.follows || facts.same && !w.again {
			continue
		}
		id, key, err := d.ownerID(record)
		if err != nil {
			w.err = errors.Join(w.err, err)
			continue
		}
		profile, err := w.at.profileOf(record, id)
		if err != nil {
			w.err = errors.Join(w.err, err)
			continue
		}
		profile.Deleted, profile.Seen = facts.hidden, facts.tenant
		profile.Fresh = w.kind == creating && (facts.inserted || !w.upserts() || w.known != nil && w.given() && !w.known[profile.OwnerID])
		w.profiles, w.keys = append(w.profiles, profile), append(w.keys, key)
	}
	return result, rows.Err()
}

// follow makes the tenants of the records that were written follow.
func (w *watched) follow() error {
	if w.err != nil || len(w.profiles) == 0 {
		return w.err
	}
	d, db := w.declaration, w.db
	if w.before != nil {
		was, err := d.canonical(w.before[0])
		if err != nil {
			return err
		}
		if w.profiles[0].OwnerID != was {
			return fmt.Errorf("%w: the primary key of %s %s changed; a budget is found by it, so it has to stay",
				fault.ErrInvalidTenant, d.schema.Table, was)
		}
	}
	if _, gone := db.Statement.Clauses["DELETE"]; w.kind == deleting && gone {
		return w.at.forget(db, w.profiles)
	}
	profiles := w.profiles
	if w.again {
		now, err := w.at.reread(db, w.keys, profiles)
		if err != nil {
			return err
		}
		profiles = now
	}
	switch {
	case w.kind != creating:
		return w.at.apply(db, profiles)
	case d.Budget:
		return w.at.supply(db, w.keys, profiles)
	}
	return w.at.renew(db, profiles)
}

// hit returns the primary keys of the records that an update is going to change.
func (w *watched) hit() (keys [][]any, err error) {
	d, statement := w.declaration, w.db.Statement
	err = d.read(w.db, d.primary(), func(s *gorm.Statement) {
		s.Table, s.TableExpr = statement.Table, statement.TableExpr
		if from, ok := statement.Clauses["FROM"].Expression.(clause.From); ok {
			from.Tables = append([]clause.Table{{Name: clause.CurrentTable}}, from.Tables...)
			s.AddClause(from)
		}
		if where, ok := statement.Clauses["WHERE"]; ok {
			s.Clauses["WHERE"] = where
		}
		if d.registry.Dialect.LocksRows {
			s.AddClause(clause.Locking{Strength: "NO KEY UPDATE", Table: clause.Table{Name: bare(s.Table)}})
		}
	}, func(record reflect.Value, _ facts) error {
		_, key, err := d.ownerID(record)
		keys = append(keys, key)
		return err
	})
	if hosts := (*fault.HostError)(nil); errors.As(err, &hosts) {
		err = hosts.Err
	}
	return keys, err
}

// remember finds out which of the records of an upsert are there, where the database does not say what it has inserted.
func (w *watched) remember() error {
	d := w.declaration
	if says, err := d.tells(w.db, tableOf(w.db.Statement)); err != nil || says {
		return err
	}
	w.known = map[string]bool{}
	var keys [][]any
	values, _ := w.db.Statement.Clauses["VALUES"].Expression.(clause.Values)
	for _, row := range values.Values {
		key := make([]any, len(d.schema.PrimaryFields))
		for i, f := range d.schema.PrimaryFields {
			for j, c := range values.Columns {
				if j < len(row) && strings.EqualFold(c.Name, f.DBName) {
					key[i] = row[j]
				}
			}
			if _, computed := key[i].(clause.Expression); computed || key[i] == nil {
				key = nil
				break
			}
		}
		if key != nil {
			keys = append(keys, key)
		}
	}
	for len(keys) > 0 {
		n := min(len(keys), maxLoad)
		err := d.read(w.db, d.primary(), func(s *gorm.Statement) {
			s.AddClause(clause.Where{Exprs: []clause.Expression{d.having(keys[:n])}})
		}, func(record reflect.Value, _ facts) error {
			id, _, err := d.ownerID(record)
			w.known[id] = true
			return err
		})
		if err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// given reports whether the host says the primary keys of what it creates.
func (w *watched) given() bool {
	values, _ := w.db.Statement.Clauses["VALUES"].Expression.(clause.Values)
	for _, f := range w.declaration.schema.PrimaryFields {
		said := false
		for _, c := range values.Columns {
			said = said || strings.EqualFold(c.Name, f.DBName)
		}
		if !said {
			return false
		}
	}
	return true
}

// written is the result of a statement.
type written struct {
	rows, id int64
	ids      bool // it is known which id was inserted last
}

// RowsAffected implements sql.Result.
func (r written) RowsAffected() (int64, error) { return r.rows, nil }

// LastInsertId implements sql.Result.
func (r written) LastInsertId() (int64, error) {
	if !r.ids {
		return 0, errors.New("the database does not say which id was inserted last")
	}
	return r.id, nil
}

// touched reports whether a tenant may depend on one of the columns that an update sets.
func (d *Declaration) touched(set clause.Set) bool {
	if d.all {
		return len(set) > 0
	}
	for _, a := range set {
		name := column(a)
		for _, f := range d.columns {
			if strings.EqualFold(f.DBName, name) {
				return true
			}
		}
		// The soft delete is a column of the model's own choice.
		if f := d.schema.FieldsByDBName[name]; f != nil && softDelete(f) {
			return true
		}
	}
	return false
}

// moves reports whether an update sets a column of the primary key.
func (d *Declaration) moves(set clause.Set) bool {
	for _, a := range set {
		for _, f := range d.schema.PrimaryFields {
			if strings.EqualFold(f.DBName, column(a)) {
				return true
			}
		}
	}
	return false
}

// column is the bare name of the column that is set.
func column(a clause.Assignment) string {
	name := a.Column.Name
	return strings.Trim(name[strings.LastIndex(name, ".")+1:], "\"`")
}

// softDelete reports whether a field says that its record is deleted.
func softDelete(f *schema.Field) bool {
	_, ok := reflect.New(f.IndirectFieldType).Interface().(schema.DeleteClausesInterface)
	return ok
}
