package tenant

import (
	"fmt"
	"reflect"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant/internal/store"
)

// maxLoad bounds how many records are read at a time.
const maxLoad = 500

// read runs a query on the model's table within the transaction of db, and hands over its rows one by one, with the given
// fields filled in. It goes to the connection as it is: a host's callbacks on queries may narrow them, answer them from a
// cache, or send them to a replica.
func (d *declaration) read(db *gorm.DB, fields []*schema.Field, build func(*gorm.Statement), each func(record reflect.Value) error) error {
	ctx := db.Statement.Context
	query := db.Session(&gorm.Session{NewDB: true, Initialized: true})
	statement := query.Statement
	statement.Table, statement.Schema, statement.Unscoped = d.schema.Table, d.schema, false
	columns := make([]clause.Column, len(fields))
	for i, f := range fields {
		columns[i] = clause.Column{Table: clause.CurrentTable, Name: f.DBName}
	}
	statement.AddClause(clause.Select{Columns: columns})
	statement.AddClause(clause.From{})
	build(statement)
	statement.Build("SELECT", "FROM", "WHERE", "ORDER BY", "LIMIT", "FOR")
	if query.Error != nil {
		return query.Error
	}
	rows, err := statement.ConnPool.QueryContext(ctx, statement.SQL.String(), statement.Vars...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	values := make([]any, len(fields))
	for rows.Next() {
		record := reflect.New(d.typ)
		for i, f := range fields {
			values[i] = f.NewValuePool.Get()
		}
		if err := rows.Scan(values...); err != nil {
			return err
		}
		for i, f := range fields {
			if err := f.Set(ctx, record.Elem(), values[i]); err != nil {
				return err
			}
			f.NewValuePool.Put(values[i])
		}
		if err := each(record); err != nil {
			return err
		}
	}
	return rows.Err()
}

// current reads what some records are now, those that are still there, in any order. There are at most maxLoad.
func (d *declaration) current(db *gorm.DB, keys [][]any) ([]store.Profile, error) {
	var profiles []store.Profile
	where := func(s *gorm.Statement) { s.AddClause(clause.Where{Exprs: []clause.Expression{d.having(keys)}}) }
	err := d.read(db, d.columns, where, func(record reflect.Value) error {
		p, err := d.profile(record)
		profiles = append(profiles, p)
		return err
	})
	if err != nil || len(d.schema.DeleteClauses) == 0 || d.onDelete == KeepBudget {
		return profiles, err
	}
	// Whether a record is deleted is asked as the host's own queries ask, because a model has many ways to say it.
	alive := map[string]bool{}
	err = d.read(db, d.schema.PrimaryFields, func(s *gorm.Statement) {
		where(s)
		for _, c := range d.schema.QueryClauses {
			s.AddClause(c)
		}
	}, func(record reflect.Value) error {
		id, _, err := d.ownerID(record)
		alive[id] = true
		return err
	})
	for i := range profiles {
		profiles[i].Deleted = !alive[profiles[i].OwnerID]
	}
	return profiles, err
}

// having is the condition that a record has one of some primary keys.
func (d *declaration) having(keys [][]any) clause.Expression {
	fields := d.schema.PrimaryFields
	column := func(f *schema.Field) clause.Column { return clause.Column{Table: clause.CurrentTable, Name: f.DBName} }
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

// follow makes the tenants of some records that have changed follow, within the transaction of db. It makes no tenant.
// That a record is not there any more is an error, unless it may have been deleted.
func (d *declaration) follow(db *gorm.DB, keys [][]any, deleted bool) error {
	ctx, pool := db.Statement.Context, db.Statement.ConnPool
	f := d.ledger.dialect.Follow(pool)
	var places []store.Placement
	for len(keys) > 0 {
		chunk := keys[:min(len(keys), maxLoad)]
		keys = keys[len(chunk):]
		profiles, gone, err := d.present(db, chunk)
		if err != nil {
			return err
		}
		if len(gone) > 0 {
			if !deleted {
				return fmt.Errorf("%w: the primary key of %s %s changed; a budget is found by it, so it has to stay",
					ErrInvalidTenant, d.schema.Table, gone[0])
			}
			if err := d.ledger.dialect.Forget(ctx, pool, d.schema.Table, gone); err != nil {
				return err
			}
		}
		if _, err := f.Add(ctx, profiles); err != nil {
			return err
		}
		places = append(places, placements(profiles)...)
	}
	if err := f.End(ctx); err != nil {
		return err
	}
	return d.place(db, places)
}

// present reads what at most maxLoad records are now, and which of them are gone. The tenants of those whose soft delete
// removes the budget are removed.
func (d *declaration) present(db *gorm.DB, keys [][]any) (there []store.Profile, gone []string, err error) {
	profiles, err := d.current(db, keys)
	if err != nil {
		return nil, nil, fmt.Errorf("read back the %s: %w", d.schema.Table, err)
	}
	found := map[string]bool{}
	var removed []string
	for _, p := range profiles {
		found[p.OwnerID] = true
		if p.Deleted && d.onDelete == RemoveBudget {
			removed = append(removed, p.OwnerID)
		} else {
			there = append(there, p)
		}
	}
	for _, key := range keys {
		id, err := d.canonical(key)
		if err != nil {
			return nil, nil, err
		}
		if !found[id] {
			gone = append(gone, id)
		}
	}
	return there, gone, d.ledger.dialect.Forget(db.Statement.Context, db.Statement.ConnPool, d.schema.Table, removed)
}

// ensure makes the tenants of some records follow, within the transaction of db, and makes those that are missing. Fresh
// are records that were not there before.
func (d *declaration) ensure(db *gorm.DB, keys [][]any, fresh bool) error {
	var all []store.Profile
	for len(keys) > 0 {
		n := min(len(keys), maxLoad)
		profiles, _, err := d.present(db, keys[:n])
		if err == nil {
			err = d.plans(db, keys[:n], profiles)
		}
		if err != nil {
			return err
		}
		for i := range profiles {
			profiles[i].Fresh = fresh
		}
		all = append(all, profiles...)
		keys = keys[n:]
	}
	if err := d.ledger.dialect.Ensure(db.Statement.Context, db.Statement.ConnPool, all); err != nil {
		return err
	}
	return d.place(db, placements(all))
}
