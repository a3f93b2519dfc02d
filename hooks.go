package tenant

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/store"
)

// Initialize implements gorm.Plugin: it makes the creation of a declared model create its budget too. All callbacks are
// registered here, because gorm's are not to be changed once the db is used.
func (p *plugin) Initialize(db *gorm.DB) error {
	// Both Before and After, each time: gorm runs a callback that names only one neighbour at the end of the chain,
	// which is after the commit.
	create := db.Callback().Create()
	return errors.Join(
		create.After("gorm:begin_transaction").Before("gorm:before_create").Register("llmtenant:before_create", p.beforeCreate),
		create.After("gorm:create").Before("gorm:save_after_associations").Register("llmtenant:after_create", p.afterCreate),
		create.After("gorm:commit_or_rollback_transaction").Register("llmtenant:end_create", p.endCreate),
	)
}

const (
	ownTransaction = "llmtenant:transaction"
	ownSavepoint   = "llmtenant:savepoint"
	savepoint      = "llmtenant"
)

// declarationFor returns the declaration that a statement creates records of, nil where there is nothing to do.
func (p *plugin) declarationFor(db *gorm.DB) *declaration {
	l := p.ledger.Load()
	if l == nil || db.Error != nil || db.DryRun || db.Statement.Schema == nil {
		return nil
	}
	if d := l.declarations.ofTable(db.Statement.Table); d != nil && d.budget && d.schema.ModelType == db.Statement.Schema.ModelType {
		return d
	}
	return nil
}

// beforeCreate makes sure that the record and its budget are created together or not at all: where the host has a
// transaction of its own, there is a savepoint in it; where it has none and gorm opened none either, there is one now.
func (p *plugin) beforeCreate(db *gorm.DB) {
	if p.declarationFor(db) == nil {
		return
	}
	if _, gorms := db.InstanceGet("gorm:started_transaction"); gorms {
		return
	}
	if _, hosts := db.Statement.ConnPool.(gorm.TxCommitter); hosts {
		if _, err := db.Statement.ConnPool.ExecContext(db.Statement.Context, "SAVEPOINT "+savepoint); err != nil {
			_ = db.AddError(fmt.Errorf("tenant: make a savepoint: %w", err))
			return
		}
		db.InstanceSet(ownSavepoint, true)
		return
	}
	tx := db.Begin(&sql.TxOptions{})
	if tx.Error != nil {
		db.Error = tx.Error
		return
	}
	db.Statement.ConnPool = tx.Statement.ConnPool
	db.InstanceSet(ownTransaction, true)
}

func (p *plugin) afterCreate(db *gorm.DB) {
	d := p.declarationFor(db)
	if d == nil {
		return
	}
	err := d.created(db)
	if _, ok := db.InstanceGet(ownSavepoint); ok {
		end := []string{"RELEASE SAVEPOINT " + savepoint}
		if err != nil {
			// The host's transaction stays usable, and its record is not there without a budget.
			end = []string{"ROLLBACK TO SAVEPOINT " + savepoint, "RELEASE SAVEPOINT " + savepoint}
		}
		for _, statement := range end {
			if _, e := db.Statement.ConnPool.ExecContext(db.Statement.Context, statement); e != nil {
				err = errors.Join(err, e)
			}
		}
	}
	if err != nil {
		db.RowsAffected = 0
		_ = db.AddError(fmt.Errorf("tenant: the budget of a %s could not be created: %w", d.typ, err))
	}
}

func (p *plugin) endCreate(db *gorm.DB) {
	if _, ok := db.InstanceGet(ownTransaction); !ok {
		return
	}
	if db.Error != nil {
		db.Rollback()
	} else {
		db.Commit()
	}
	db.Statement.ConnPool = db.ConnPool
}

// created makes the budgets of the records that a statement has just created. It asks the database what they are: the
// structs in memory need not be what was stored.
func (d *declaration) created(db *gorm.DB) error {
	keys := d.primaryKeys(db.Statement)
	if len(keys) == 0 {
		return nil
	}
	return d.ensure(db.Statement.Context, db, keys)
}

// ensure makes the tenants of some records follow, by their primary keys, within the transaction of db.
func (d *declaration) ensure(ctx context.Context, db *gorm.DB, keys [][]any) error {
	records, err := d.load(ctx, db, keys)
	if err != nil {
		return err
	}
	profiles := make([]store.Profile, records.Len())
	for i := range profiles {
		if profiles[i], err = d.profile(records.Index(i).Addr()); err != nil {
			return err
		}
	}
	return d.ledger.ensure(ctx, db.Statement.ConnPool, profiles)
}

func (l *Ledger) ensure(ctx context.Context, pool gorm.ConnPool, profiles []store.Profile) error {
	err := l.dialect.Ensure(ctx, pool, profiles)
	if err == nil {
		return nil
	}
	if conflict := (*store.ConflictError)(nil); errors.As(err, &conflict) {
		return fmt.Errorf("%w: %w", ErrIdentityConflict, err)
	}
	switch l.store.Classify(err) {
	case store.NotMigrated:
		return fmt.Errorf("%w (%w)", ErrNotMigrated, err)
	case store.Locked:
		return fmt.Errorf("%w: another transaction is creating or changing the same tenant; a call made inside the "+
			"transaction that creates its tenant has to wait for the commit: %w", ErrUnavailable, err)
	}
	return err
}

// primaryKeys returns the primary keys of the records that a create statement was given, those that have one.
func (d *declaration) primaryKeys(statement *gorm.Statement) [][]any {
	var keys [][]any
	add := func(value func(*schema.Field) (any, bool)) {
		key := make([]any, 0, 1)
		for _, f := range d.schema.PrimaryFields {
			v, zero := value(f)
			if zero && len(d.schema.PrimaryFields) == 1 {
				return
			}
			key = append(key, v)
		}
		keys = append(keys, key)
	}
	fromMap := func(m map[string]any) {
		add(func(f *schema.Field) (any, bool) {
			for _, name := range []string{f.DBName, f.Name, "id"} {
				if v, ok := m[name]; ok {
					return v, false
				}
			}
			return nil, true
		})
	}
	switch dest := statement.Dest.(type) {
	case map[string]any:
		fromMap(dest)
		return keys
	case *map[string]any:
		fromMap(*dest)
		return keys
	case []map[string]any:
		for _, m := range dest {
			fromMap(m)
		}
		return keys
	case *[]map[string]any:
		for _, m := range *dest {
			fromMap(m)
		}
		return keys
	}
	fromRecord := func(v reflect.Value) {
		if v = reflect.Indirect(v); v.IsValid() {
			add(func(f *schema.Field) (any, bool) { return f.ValueOf(statement.Context, v) })
		}
	}
	switch v := statement.ReflectValue; v.Kind() {
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			fromRecord(v.Index(i))
		}
	case reflect.Struct:
		fromRecord(v)
	}
	return keys
}

const maxLoad = 500

// load reads records back, within the transaction of db, as a slice of the model's structs.
func (d *declaration) load(ctx context.Context, db *gorm.DB, keys [][]any) (reflect.Value, error) {
	all := reflect.MakeSlice(reflect.SliceOf(d.typ), 0, len(keys))
	for len(keys) > 0 {
		n := min(len(keys), maxLoad)
		records := reflect.New(reflect.SliceOf(d.typ))
		session := db.Session(&gorm.Session{NewDB: true, SkipHooks: true, Context: ctx})
		if err := session.Table(d.schema.Table).Unscoped().Where(d.having(keys[:n])).Find(records.Interface()).Error; err != nil {
			return all, fmt.Errorf("read back the %s: %w", d.schema.Table, err)
		}
		all = reflect.AppendSlice(all, records.Elem())
		keys = keys[n:]
	}
	// Addressable, so that methods on the pointer can be called.
	addressable := reflect.New(all.Type()).Elem()
	addressable.Set(all)
	return addressable, nil
}

func (d *declaration) having(keys [][]any) clause.Expression {
	fields := d.schema.PrimaryFields
	column := func(f *schema.Field) clause.Column { return clause.Column{Table: d.schema.Table, Name: f.DBName} }
	if len(fields) == 1 {
		in := clause.IN{Column: column(fields[0])}
		for _, k := range keys {
			in.Values = append(in.Values, k[0])
		}
		return in
	}
	var any []clause.Expression
	for _, k := range keys {
		var all []clause.Expression
		for i, f := range fields {
			all = append(all, clause.Eq{Column: column(f), Value: k[i]})
		}
		any = append(any, clause.And(all...))
	}
	return clause.Or(any...)
}

// firstUse makes the tenant of a call that has none in the database: one that is known by its id alone, or a record
// from before its model was declared. It also mends a record whose key changed without the ledger's seeing it.
func (l *Ledger) firstUse(ctx context.Context, who identity) (identity, error) {
	outer := ctx
	// The host may have no connection to spare, least of all one that calls inside a transaction of its own.
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var current identity
	err := l.transaction(ctx, l.db, func(tx *gorm.DB) (err error) {
		current, err = l.makeTenant(ctx, tx, who)
		return err
	})
	switch {
	case err == nil, outer.Err() != nil, errors.Is(err, ErrUnavailable):
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("%w: tenant %q could not be set up in %v: %w", ErrUnavailable, who.key, patience, err)
	case l.store.Classify(err) == store.Locked, l.store.Classify(err) == store.Unavailable:
		err = l.unavailable(fmt.Errorf("tenant %q could not be set up: %w", who.key, err), l.store.Classify(err) == store.Unavailable)
	}
	return current, err
}

// makeTenant is firstUse in the transaction of tx.
func (l *Ledger) makeTenant(ctx context.Context, tx *gorm.DB, who identity) (current identity, err error) {
	pool := tx.Statement.ConnPool
	if who.key == string(Root) {
		return who, l.makeRoot(ctx, tx)
	}
	if who.declaration == nil {
		return who, l.ensure(ctx, pool, []store.Profile{{Key: who.key, Name: who.key, Inherit: true}})
	}
	records, err := who.declaration.load(ctx, tx, [][]any{who.primaryKey})
	if err != nil {
		return who, err
	}
	if records.Len() == 0 {
		return who, fmt.Errorf("%w: there is no record %s %s in the database; a call made inside the transaction that "+
			"creates it has to wait for the commit", ErrInvalidTenant, who.ownerType, who.ownerID)
	}
	record := records.Index(0).Addr()
	if current, err = who.declaration.identity(record.Interface()); err != nil {
		return current, err
	}
	profile, err := who.declaration.profile(record)
	if err != nil {
		return current, err
	}
	return current, l.ensure(ctx, pool, []store.Profile{profile})
}

// saveDefaults writes the default settings that Open was given.
func (l *Ledger) saveDefaults(ctx context.Context) error {
	if l.options.limits == nil && l.options.enforcement == "" && l.options.root == nil {
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
		return l.dialect.SaveSettings(ctx, tx.Statement.ConnPool, book.Defaults, rows, l.options.limits != nil, book.Enforcement(l.options.enforcement))
	})
}
