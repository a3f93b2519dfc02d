package tenant

import (
	"reflect"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"
)

func (p *plugin) beforeDelete(db *gorm.DB) {
	d := p.declarationFor(db)
	if d == nil || db.Statement.SQL.Len() > 0 {
		return
	}
	s := sketch(db)
	if s.Schema != nil {
		for _, c := range s.Schema.DeleteClauses {
			s.AddClause(c)
		}
		if s.SQL.Len() == 0 { // no soft delete has written the statement, so gorm will
			narrow(s, s.ReflectValue)
			if s.ReflectValue.CanAddr() && s.Dest != s.Model && s.Model != nil {
				narrow(s, reflect.ValueOf(s.Model))
			}
		}
	}
	if s.Error == nil {
		p.hit(db, d, s, false)
	}
}

// narrow adds the condition that gorm adds to a delete of records that have a primary key.
func narrow(s *gorm.Statement, records reflect.Value) {
	_, values := schema.GetIdentityFieldValuesMap(s.Context, records, s.Schema.PrimaryFields)
	column, in := schema.ToQueryValues(s.Table, s.Schema.PrimaryFieldDBNames, values)
	if len(in) > 0 {
		s.AddClause(clause.Where{Exprs: []clause.Expression{clause.IN{Column: column, Values: in}}})
	}
}

func (p *plugin) afterDelete(db *gorm.DB) { p.changed(db, true) }
