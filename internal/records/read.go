package records

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant/internal/directory"
	"github.com/llmtenant/tenant/internal/fault"
)

// maxLoad bounds how many records are read at a time.
const maxLoad = 500

// records are those of a declared model in the table that one statement, or the ledger's own handle, meets under its name:
// with a search_path, that may be another one for each. Owner is the table's name in the books.
type records struct {
	*Declaration
	owner string
	place place

	// descendants are the records whose tenants these are made to stand above.
	descendants []directory.Parent

	// hosts: it is a transaction of the host's, which may last, and may be waited for by others.
	hosts bool
}

// read runs a query on the model's table within the transaction of db, and hands over its rows one by one. It goes to the
// connection as it is: a host's callbacks on queries may narrow them, answer them from a cache, or send them to a replica.
func (d *Declaration) read(db *gorm.DB, what selection, build func(*gorm.Statement), each func(record reflect.Value, f facts) error) error {
	ctx := db.Statement.Context
	query := db.Session(&gorm.Session{NewDB: true, Initialized: true})
	statement := query.Statement
	statement.Table, statement.Schema, statement.Unscoped = d.schema.Table, d.schema, false
	what.table, what.qualified = d.schema.Table, true
	statement.AddClause(clause.Select{Expression: what})
	statement.AddClause(clause.From{})
	build(statement)
	statement.Build("SELECT", "FROM", "WHERE", "ORDER BY", "LIMIT", "FOR")
	if query.Error != nil {
		return query.Error
	}
	rows, err := statement.ConnPool.QueryContext(ctx, statement.SQL.String(), statement.Vars...)
	if err != nil {
		return &fault.HostError{Err: err}
	}
	defer func() { _ = rows.Close() }()
	scanner := scanner{selection: what}
	for rows.Next() {
		record, facts, err := scanner.scan(ctx, rows, nil)
		if err != nil {
			return err
		}
		if err := each(record, facts); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return &fault.HostError{Err: err}
	}
	return nil
}

// selection are the columns that the ledger wants of a record: those of some fields, and what the database alone knows.
type selection struct {
	declaration *Declaration
	fields      []*schema.Field
	qualified   bool // with the table's name before each

	hidden   bool   // whether the record is softly deleted, as the host's own queries ask, because a model has many ways to say it
	inserted bool   // whether an upsert has inserted the record
	changes  bool   // whether an update has left it as it was, and, if not, who its tenant is
	table    string // which table the statement means; see place
	placed   *place // what it is, where that is known already
}

// primary selects the primary keys.
func (d *Declaration) primary() selection {
	return selection{declaration: d, fields: d.schema.PrimaryFields}
}

// facts are what a selection has learnt of a record beside its fields.
type facts struct {
	hidden, inserted bool
	same             bool            // an update has left it as it was
	tenant           *directory.Seen // its tenant, nil where it is to be looked for
	place
}

// Build implements clause.Expression.
func (s selection) Build(b clause.Builder) {
	d := s.declaration
	for i, f := range s.fields {
		if i > 0 {
			_, _ = b.WriteString(", ")
		}
		column := clause.Column{Name: f.DBName}
		if s.qualified {
			column.Table = clause.CurrentTable
		}
		b.WriteQuoted(column)
	}
	if s.asksHidden() {
		_, _ = b.WriteString(", CASE WHEN ")
		d.alive().Build(b)
		_, _ = b.WriteString(" THEN 0 ELSE 1 END")
	}
	if s.inserted {
		_, _ = b.WriteString(", CASE WHEN xmax = 0 THEN 1 ELSE 0 END")
	}
	if s.changes {
		d.changes(b, s.table)
	}
	if s.asksPlace() {
		_, _ = b.WriteString(", " + d.placeSQL(s.table))
	}
}

func (s selection) asksHidden() bool {
	d := s.declaration
	return s.hidden && len(d.schema.DeleteClauses) > 0 && d.OnDelete != Keep
}

func (s selection) asksPlace() bool {
	return s.hidden && s.placed == nil && s.declaration.registry.Dialect.Schemas
}

// width is how many columns it has.
func (s selection) width() int {
	n := len(s.fields)
	for _, more := range []bool{s.asksHidden(), s.inserted, s.changes, s.asksPlace()} {
		if more {
			n++
		}
	}
	return n
}

// scanner reads rows that end with the columns of a selection.
type scanner struct {
	selection
	values []any
	where  sql.RawBytes
	said   string // what where was in the last row: it is the same in all
	place  place
}

// scan reads a row. What is before the columns of the selection goes to other targets.
func (s *scanner) scan(ctx context.Context, rows *sql.Rows, before []any) (reflect.Value, facts, error) {
	var (
		f                facts
		hidden, inserted int
		changes          sql.NullString
	)
	record := reflect.New(s.declaration.Type)
	s.values = append(s.values[:0], before...)
	for _, field := range s.fields {
		s.values = append(s.values, field.NewValuePool.Get())
	}
	if s.asksHidden() {
		s.values = append(s.values, &hidden)
	}
	if s.inserted {
		s.values = append(s.values, &inserted)
	}
	if s.changes {
		s.values = append(s.values, &changes)
	}
	if s.asksPlace() {
		s.values = append(s.values, &s.where)
	}
	if err := rows.Scan(s.values...); err != nil {
		return record, f, err
	}
	for i, field := range s.fields {
		value := s.values[len(before)+i]
		if err := field.Set(ctx, record.Elem(), value); err != nil {
			return record, f, err
		}
		field.NewValuePool.Put(value)
	}
	f.hidden, f.inserted, f.same = hidden != 0, inserted != 0, changes.String == "="
	if s.asksPlace() {
		if string(s.where) != s.said {
			s.said = string(s.where)
			s.place = parsePlace(s.said)
		}
		f.place = s.place
		if s.declaration.ownerIn(f.place) == s.declaration.schema.Table {
			f.tenant = directory.ParseSeen(changes.String)
		}
	} else if s.placed != nil {
		f.place = *s.placed
	} else {
		f.place = place{home: true, again: true, there: true}
	}
	return record, f, nil
}

// changes writes what an update has done to what a tenant depends on: "=" for nothing, else its tenant, or "?" where that is to
// be looked for. The subquery sees the row, and the tenant, as they were when the statement began. The row is the version which
// the statement has replaced, and not an older one, if the one's end is the other's beginning; whoever changed the tenant with
// the row has been waited for otherwise. The time of the last update is left out: it changes with each, and no tenant can
// depend on it.
func (d *Declaration) changes(b clause.Builder, table string) {
	was := func(f *schema.Field) clause.Column { return clause.Column{Table: "llmtenant_was", Name: f.DBName} }
	is := func(name string) clause.Column { return clause.Column{Table: clause.CurrentTable, Name: name} }
	_, _ = b.WriteString(", (SELECT CASE WHEN llmtenant_was.xmax <> ")
	b.WriteQuoted(is("xmin"))
	_, _ = b.WriteString(" THEN '?' WHEN true")
	for _, f := range d.watched() {
		if f.PrimaryKey || f.AutoUpdateTime > 0 {
			continue
		}
		_, _ = b.WriteString(" AND CAST(")
		b.WriteQuoted(was(f))
		_, _ = b.WriteString(" AS text) IS NOT DISTINCT FROM CAST(")
		b.WriteQuoted(is(f.DBName))
		_, _ = b.WriteString(" AS text)")
	}
	_, _ = b.WriteString(" THEN '=' ELSE ")
	if id := d.schema.PrimaryFields[0]; d.written() {
		_, _ = b.WriteString(directory.SeenSQL(d.schema.Table) + "CAST(")
		b.WriteQuoted(is(id.DBName))
		_, _ = b.WriteString(" AS text)), '')")
	} else {
		_, _ = b.WriteString("'?'")
	}
	_, _ = b.WriteString(" END FROM ")
	b.WriteQuoted(clause.Table{Name: table, Alias: "llmtenant_was"}) // the declared one need not be there
	for i, f := range d.schema.PrimaryFields {
		_, _ = b.WriteString([]string{" WHERE ", " AND "}[min(i, 1)])
		b.WriteQuoted(was(f))
		_, _ = b.WriteString(" = ")
		b.WriteQuoted(is(f.DBName))
	}
	_, _ = b.WriteString(")")
}

// written reports whether the database writes the primary key as the books do: numbers and strings without methods of their
// own.
func (d *Declaration) written() bool {
	f := d.schema.PrimaryFields[0]
	t := f.IndirectFieldType
	if len(d.schema.PrimaryFields) > 1 || f.Serializer != nil || t.NumMethod()+reflect.PointerTo(t).NumMethod() > 0 {
		return false
	}
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.String:
		return true
	}
	return false
}

// watched are the columns that a tenant depends on, with those of the soft delete.
func (d *Declaration) watched() []*schema.Field {
	all := d.columns[:len(d.columns):len(d.columns)]
	for _, f := range d.schema.Fields {
		if f.DBName != "" && !slices.Contains(all, f) && softDelete(f) {
			all = append(all, f)
		}
	}
	return all
}

// alive is the condition that the host's own queries add.
func (d *Declaration) alive() clause.Where {
	s := &gorm.Statement{DB: d.registry.DB, Table: d.schema.Table, Schema: d.schema, Clauses: map[string]clause.Clause{}}
	for _, c := range d.schema.QueryClauses {
		s.AddClause(c)
	}
	where, _ := s.Clauses["WHERE"].Expression.(clause.Where)
	if len(where.Exprs) == 0 {
		where.Exprs = []clause.Expression{clause.Expr{SQL: "1 = 1"}}
	}
	return where
}

// current reads what some records are now, those that are still there, in any order. There are at most maxLoad.
func (r records) current(db *gorm.DB, keys [][]any) ([]directory.Profile, error) {
	var profiles []directory.Profile
	err := r.read(db, selection{declaration: r.Declaration, fields: r.columns, hidden: true}, func(s *gorm.Statement) {
		s.AddClause(clause.Where{Exprs: []clause.Expression{r.having(keys)}})
	}, func(record reflect.Value, f facts) error {
		p, err := r.profile(record)
		p.Deleted = f.hidden
		profiles = append(profiles, p)
		return err
	})
	return profiles, err
}

// having is the condition that a record has one of some primary keys.
func (d *Declaration) having(keys [][]any) clause.Expression {
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

// reread returns what records are now that a statement has written: triggers may have changed them after it. What is gone
// is gone for a statement that creates or deletes; an update that takes a record away has set its primary key.
func (r records) reread(db *gorm.DB, keys [][]any, were []directory.Profile) (all []directory.Profile, err error) {
	fresh := map[string]bool{}
	for _, p := range were {
		fresh[p.OwnerID] = p.Fresh
	}
	for len(keys) > 0 {
		n := min(len(keys), maxLoad)
		profiles, err := r.current(db, keys[:n])
		if err != nil {
			return nil, fmt.Errorf("read back the %s: %w", r.schema.Table, err)
		}
		all = append(all, profiles...)
		keys = keys[n:]
	}
	for i := range all {
		all[i].Fresh = fresh[all[i].OwnerID]
	}
	return all, nil
}

// apply makes the tenants of records follow, within the transaction of db. It makes none.
func (r records) apply(db *gorm.DB, profiles []directory.Profile) error {
	profiles, err := r.withoutRemoved(db, profiles)
	if err != nil || len(profiles) == 0 {
		return err
	}
	ctx := db.Statement.Context
	f := r.registry.directory().Follow(db.Statement.ConnPool)
	if _, err := f.Add(ctx, profiles); err != nil {
		return err
	}
	if err := f.End(ctx); err != nil {
		return err
	}
	return r.move(db, f.Strayed())
}

// supply makes the tenants of the records with some primary keys follow, and makes those that are missing.
func (r records) supply(db *gorm.DB, keys [][]any, profiles []directory.Profile) error {
	profiles, err := r.withoutRemoved(db, profiles)
	if err != nil || len(profiles) == 0 {
		return err
	}
	if err := r.plans(db, keys, profiles); err != nil {
		return err
	}
	if profiles, err = r.stand(db, profiles); err != nil {
		return err
	}
	strayed, err := r.registry.directory().Ensure(db.Statement.Context, db.Statement.ConnPool, profiles)
	if err != nil {
		return err
	}
	return r.move(db, strayed)
}

// renew makes the tenants of records follow that a create has met, and takes away those that belonged to former records
// with the primary keys of new ones. It makes none.
func (r records) renew(db *gorm.DB, profiles []directory.Profile) error {
	var fresh, met []directory.Profile
	for _, p := range profiles {
		if p.Fresh {
			fresh = append(fresh, p)
		} else {
			met = append(met, p)
		}
	}
	if err := r.forget(db, fresh); err != nil {
		return err
	}
	return r.apply(db, met)
}

// forget takes the tenants of records away that are gone.
func (r records) forget(db *gorm.DB, profiles []directory.Profile) error {
	ids := make([]string, len(profiles))
	for i, p := range profiles {
		ids[i] = p.OwnerID
	}
	return r.registry.directory().Forget(db.Statement.Context, db.Statement.ConnPool, r.owner, ids)
}

// withoutRemoved takes away the tenants of those records whose soft delete removes the budget, and returns the others.
func (r records) withoutRemoved(db *gorm.DB, profiles []directory.Profile) (others []directory.Profile, err error) {
	if r.OnDelete != Remove {
		return profiles, nil
	}
	var removed []directory.Profile
	for _, p := range profiles {
		if p.Deleted {
			removed = append(removed, p)
		} else {
			others = append(others, p)
		}
	}
	return others, r.forget(db, removed)
}

// follow makes the tenants of some records follow that may have changed or, where that is said, be gone. It makes none.
func (r records) follow(db *gorm.DB, keys [][]any, deleted bool) error {
	return r.each(db, keys, deleted, func(profiles []directory.Profile) error { return r.apply(db, profiles) })
}

// ensure makes the tenants of some records follow, within the transaction of db, and makes those that are missing.
func (r records) ensure(db *gorm.DB, keys [][]any) error {
	return r.each(db, keys, false, func(profiles []directory.Profile) error { return r.supply(db, keys, profiles) })
}

// each reads what some records are now, and does something with those that are there. The tenants of those that are gone
// are taken away, where they may be.
func (r records) each(db *gorm.DB, keys [][]any, deleted bool, do func([]directory.Profile) error) error {
	profiles, err := r.reread(db, keys, nil)
	if err != nil {
		return err
	}
	found := map[string]bool{}
	for _, p := range profiles {
		found[p.OwnerID] = true
	}
	var gone []directory.Profile
	for _, key := range keys {
		id, err := r.canonical(key)
		if err != nil {
			return err
		}
		if !found[id] {
			gone = append(gone, directory.Profile{OwnerID: id})
		}
	}
	if deleted && len(gone) > 0 {
		if err := r.forget(db, gone); err != nil {
			return err
		}
	}
	return do(profiles)
}

// bare is the name of a table without its schema.
func bare(table string) string { return table[strings.LastIndex(table, ".")+1:] }

// plans sets in profiles what the host makes of their records, which may have keys that are given.
func (d *Declaration) plans(db *gorm.DB, keys [][]any, profiles []directory.Profile) error {
	if d.Plan == nil || len(profiles) == 0 {
		return nil
	}
	byID := make(map[string]*directory.Profile, len(profiles))
	for i := range profiles {
		byID[profiles[i].OwnerID] = &profiles[i]
	}
	var all []*schema.Field
	for _, name := range d.schema.DBNames {
		if f := d.schema.FieldsByDBName[name]; f.Readable {
			all = append(all, f)
		}
	}
	for len(keys) > 0 {
		n := min(len(keys), maxLoad)
		err := d.read(db, selection{declaration: d, fields: all}, func(s *gorm.Statement) {
			s.AddClause(clause.Where{Exprs: []clause.Expression{d.having(keys[:n])}})
		}, func(record reflect.Value, _ facts) error {
			id, _, err := d.ownerID(record)
			if p := byID[id]; err == nil && p != nil && p.Err == nil && !p.Deleted {
				err = d.Plan(p, record)
			}
			return err
		})
		if err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}
