package tenant

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/callbacks"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant/internal/store"
)

func (p *plugin) beforeUpdate(db *gorm.DB) {
	d := p.declarationFor(db)
	if d == nil || db.Statement.SQL.Len() > 0 {
		return
	}
	s := sketch(db)
	if s.Schema != nil {
		for _, c := range s.Schema.UpdateClauses {
			s.AddClause(c)
		}
	}
	set, ok := s.Clauses["SET"].Expression.(clause.Set)
	if !ok {
		// It sets the record in memory too, and goes by its primary key; the second time has to find what the first did.
		s.ReflectValue = copied(s.ReflectValue)
		set = callbacks.ConvertToAssignments(s)
	}
	if s.Error != nil || !d.touched(set) {
		return // an error comes again when gorm does the same
	}
	p.hit(db, d, s, d.moves(set))
}

// sketch returns a copy of a statement on which can be found out what gorm is going to make of it.
func sketch(db *gorm.DB) *gorm.Statement {
	return db.Session(&gorm.Session{Initialized: true}).Statement
}

// copied returns a record, or a slice of them, that can be changed without changing the original.
func copied(v reflect.Value) reflect.Value {
	switch v.Kind() {
	case reflect.Struct:
		c := reflect.New(v.Type()).Elem()
		c.Set(v)
		return c
	case reflect.Slice, reflect.Array:
		c := reflect.New(v.Type()).Elem()
		if v.Kind() == reflect.Slice {
			c.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		}
		for i := range v.Len() {
			c.Index(i).Set(copied(v.Index(i)))
		}
		return c
	case reflect.Pointer:
		if v.IsNil() {
			return v
		}
		return copied(v.Elem()).Addr()
	}
	return v
}

// touched reports whether a tenant may depend on one of the columns that an update sets.
func (d *declaration) touched(set clause.Set) bool {
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
func (d *declaration) moves(set clause.Set) bool {
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

// hits are the records that a statement is going to change.
type hits struct {
	declaration *declaration
	keys        [][]any
}

// hit finds out which records the statement is going to change, and locks them, so that they are the same ones when it
// does. The sketch has the statement's conditions as gorm is going to write them.
func (p *plugin) hit(db *gorm.DB, d *declaration, sketch *gorm.Statement, moves bool) {
	where, ok := sketch.Clauses["WHERE"]
	if !db.AllowGlobalUpdate && unconditional(sketch) {
		return // gorm refuses it
	}
	err := p.begin(db, true)
	h := &hits{declaration: d}
	if err == nil {
		err = d.read(db, d.schema.PrimaryFields, func(s *gorm.Statement) {
			s.Table, s.TableExpr = sketch.Table, sketch.TableExpr
			if ok {
				s.Clauses["WHERE"] = where
			}
			if d.ledger.dialect.Name == store.Postgres.Name {
				s.AddClause(clause.Locking{Strength: "UPDATE"})
			}
		}, func(record reflect.Value) error {
			_, key, err := d.ownerID(record)
			h.keys = append(h.keys, key)
			return err
		})
		if err != nil {
			err = fmt.Errorf("find the %s that are to be changed: %w", d.schema.Table, err)
		}
	}
	if err == nil && moves && len(h.keys) > 1 {
		err = fmt.Errorf("%w: the primary keys of %d %s are to be set; a budget is found by its record's, so they have to stay",
			ErrInvalidTenant, len(h.keys), d.schema.Table)
	}
	if err != nil {
		p.finish(db, d.failure(), d.ledger.refused(err))
		return
	}
	db.InstanceSet(hitRecords, h)
}

// unconditional reports whether a statement has no condition but that of the soft delete.
func unconditional(s *gorm.Statement) bool {
	where, ok := s.Clauses["WHERE"]
	if _, soft := s.Clauses["soft_delete_enabled"]; ok && soft {
		conditions, _ := where.Expression.(clause.Where)
		return len(conditions.Exprs) <= 1
	}
	return !ok
}

func (d *declaration) failure() string {
	return fmt.Sprintf("the budgets of the %s cannot follow", d.schema.Table)
}

func (p *plugin) afterUpdate(db *gorm.DB) { p.changed(db, false) }

// changed makes the tenants of the records follow that a statement has changed or deleted.
func (p *plugin) changed(db *gorm.DB, deleted bool) {
	h, ok := take(db, hitRecords).(*hits)
	if !ok || db.Error != nil {
		return
	}
	d := h.declaration
	var err error
	if n := int64(len(h.keys)); n != db.RowsAffected {
		err = fmt.Errorf("%w: %d were to be changed, and %d have been; another transaction writes what the same conditions meet",
			errRaced, n, db.RowsAffected)
	} else if n > 0 {
		err = d.ledger.mending(db, func() error { return d.follow(db, h.keys, deleted) })
	}
	p.finish(db, d.failure(), err)
}

var errRaced = errors.New("the records have changed meanwhile, so nothing was done")
