package tenant

import (
	"errors"
	"fmt"
	"reflect"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/directory"
)

// WithBudgetFunc gives every record a budget of its own when it is created, in the same transaction: by the plan that a
// customer is on, for one. f is given the record as its table has it, without associations, and a budget as it is declared
// otherwise, of which it sets Limits, Enforcement, Inherit and TimeZone. They are the budget's own from then on: a record
// that changes does not change them; [ConfigureBudget] with the same function does. An error of f, or a budget that
// is invalid, fails the create. f is to be quick, and must not use the database. Defaults to none.
//
//	func limits(o *Organization, b *tenant.Budget) error {
//		b.Limits, b.Enforcement = plans[o.Plan], tenant.Hard
//		return nil
//	}
//
//	err := ledger.Register(&Organization{}, tenant.WithBudgetFunc(limits))
func WithBudgetFunc[T any](f func(record *T, b *Budget) error) RegisterOption {
	return func(d *declaration) error {
		if f == nil {
			return errors.New("WithBudgetFunc: the function is nil")
		}
		if want := reflect.TypeFor[T](); want != d.typ {
			return fmt.Errorf("WithBudgetFunc: the function takes a *%s, and the model is a *%s", want, d.typ)
		}
		d.budget = true
		d.budgetOf = func(v reflect.Value, b *Budget) error { return f(v.Interface().(*T), b) }
		return nil
	}
}

// declared is the budget that a declaration gives a record, as far as it goes.
func (d *declaration) declared(key string) *Budget {
	return &Budget{TenantID: key, Enforcement: Enforcement(d.enforcement), Inherit: d.inherit, TimeZone: d.zone, Limits: limitsOf(d.limits)}
}

// plan sets in a profile what the host's function makes of a record.
func (d *declaration) plan(p *directory.Profile, v reflect.Value) error {
	before := d.declared(p.Key)
	b := *before
	b.Limits.Also = append([]Limit(nil), b.Limits.Also...)
	own, err := said(d.typ, "WithBudgetFunc", func() error { return d.budgetOf(v, &b) })
	if err == nil {
		err = own
	}
	var limits []book.Limit
	if err == nil {
		limits, err = b.Limits.rows()
	}
	switch {
	case err != nil:
	case b.TenantID != before.TenantID, b.Name != before.Name, b.ParentID != before.ParentID, b.Suspended:
		err = errors.New("TenantID, Name, ParentID and Suspended are not for it to set")
	case b.Enforcement != "":
		err = b.Enforcement.valid()
	}
	if err == nil && b.TimeZone != "" {
		_, err = loadZone(b.TimeZone)
	}
	if err != nil {
		return fmt.Errorf("%w: WithBudgetFunc: the budget of %s %s: %w", ErrInvalidOption, p.OwnerType, p.OwnerID, err)
	}
	p.Limits, p.Enforcement, p.Inherit, p.Zone = limits, book.Enforcement(b.Enforcement), b.Inherit, b.TimeZone
	return nil
}

// plans sets in profiles what the host's function makes of their records, which may have keys that are given.
func (d *declaration) plans(db *gorm.DB, keys [][]any, profiles []directory.Profile) error {
	if d.budgetOf == nil || len(profiles) == 0 {
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
				err = d.plan(p, record)
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
