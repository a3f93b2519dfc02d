package tenant

import (
	"fmt"
	"reflect"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// creates returns the declaration of the records that a statement creates, nil where there is nothing to do: the budgets
// of the model are not made yet, and no record that is there already can change by it.
func (p *plugin) creates(db *gorm.DB) *declaration {
	d := p.declarationFor(db)
	if d == nil || !d.budget && !upserts(db.Statement) {
		return nil
	}
	return d
}

// upserts reports whether a statement may find the record that it is to create there already.
func upserts(s *gorm.Statement) bool {
	_, conflicts := s.Clauses["ON CONFLICT"]
	return conflicts
}

func (p *plugin) beforeCreate(db *gorm.DB) {
	d := p.creates(db)
	if d == nil {
		return
	}
	if err := p.begin(db, false); err != nil {
		_ = db.AddError(fmt.Errorf("tenant: %w", err))
	}
}

// afterCreate makes the budgets of the records that a statement has just created. It asks the database what they are:
// the structs in memory need not be what was stored, nor need they have been stored at all.
func (p *plugin) afterCreate(db *gorm.DB) {
	d := p.creates(db)
	if d == nil {
		return
	}
	err := d.ledger.mending(db, func() error {
		keys, err := d.created(db)
		if err != nil || len(keys) == 0 {
			return err
		}
		if !d.budget {
			return d.follow(db, keys, true)
		}
		return d.ensure(db, keys, !upserts(db.Statement))
	})
	p.finish(db, fmt.Sprintf("the budget of a %s could not be created", d.typ), err)
}

// created returns the primary keys of the records that a create statement was given.
func (d *declaration) created(db *gorm.DB) (keys [][]any, err error) {
	var named []any
	add := func(m map[string]any) {
		if key := d.keyIn(m); key != nil {
			keys = append(keys, key)
		} else if value, ok := d.valueIn(m); ok {
			named = append(named, value)
		}
	}
	switch dest := db.Statement.Dest.(type) {
	case map[string]any:
		add(dest)
	case *map[string]any:
		add(*dest)
	case []map[string]any:
		for _, m := range dest {
			add(m)
		}
	case *[]map[string]any:
		for _, m := range *dest {
			add(m)
		}
	default:
		return d.primaryKeys(db.Statement, db.Statement.ReflectValue), nil
	}
	if len(named) == 0 {
		return keys, nil
	}
	// Postgres does not say which primary key a map has got without a model. Its tenant id finds the record.
	err = d.read(db, d.schema.PrimaryFields, func(s *gorm.Statement) {
		s.AddClause(clause.Where{Exprs: []clause.Expression{
			clause.IN{Column: clause.Column{Table: clause.CurrentTable, Name: d.key.DBName}, Values: named},
		}})
	}, func(record reflect.Value) error {
		_, key, err := d.ownerID(record)
		keys = append(keys, key)
		return err
	})
	return keys, err
}

// keyIn finds a primary key in a map of columns or fields, nil where it is not there.
func (d *declaration) keyIn(m map[string]any) []any {
	var key []any
	for _, f := range d.schema.PrimaryFields {
		value, ok := lookUp(m, f.DBName, f.Name)
		if !ok && len(d.schema.PrimaryFields) == 1 {
			value, ok = m["@id"] // where gorm knows no model
		}
		if _, computed := value.(clause.Expression); !ok || value == nil || computed {
			return nil
		}
		key = append(key, value)
	}
	return key
}

// valueIn finds the value of the key's field in a map.
func (d *declaration) valueIn(m map[string]any) (any, bool) {
	if d.key == nil {
		return nil, false
	}
	value, ok := lookUp(m, d.key.DBName, d.key.Name)
	_, computed := value.(clause.Expression)
	return value, ok && value != nil && !computed
}

func lookUp(m map[string]any, names ...string) (any, bool) {
	for _, name := range names {
		if v, ok := m[name]; ok {
			return v, true
		}
	}
	for have, v := range m {
		for _, name := range names {
			if strings.EqualFold(have, name) {
				return v, true
			}
		}
	}
	return nil, false
}

// primaryKeys returns the primary keys of a record or of a slice of them, those that have one. They may be of another
// struct with the same table.
func (d *declaration) primaryKeys(s *gorm.Statement, v reflect.Value) [][]any {
	var keys [][]any
	add := func(v reflect.Value) {
		if v = indirect(v); v.Kind() != reflect.Struct || s.Schema == nil || v.Type() != s.Schema.ModelType {
			return
		}
		var key []any
		for _, own := range d.schema.PrimaryFields {
			f := s.Schema.FieldsByDBName[own.DBName]
			if f == nil {
				return
			}
			value, zero := f.ValueOf(s.Context, v)
			if zero && len(d.schema.PrimaryFields) == 1 {
				return
			}
			key = append(key, value)
		}
		keys = append(keys, key)
	}
	switch v = indirect(v); v.Kind() {
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			add(v.Index(i))
		}
	default:
		add(v)
	}
	return keys
}
