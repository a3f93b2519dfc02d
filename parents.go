package tenant

import (
	"context"
	"fmt"
	"reflect"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant/internal/store"
)

// Child is a model whose records stand below another tenant, as a team below its organization: the budget of that counts
// their calls too. It may be a record of a registered model, of which the primary key is enough, an [ID], or nil for none.
// The method is called on records as their table has them, without associations.
type Child interface {
	LLMTenantParent() Tenant
}

// WithParent names the field with the primary key of the record above, and the model of that, which is to be registered
// too: WithParent("OrganizationID", &Organization{}). A field that is empty says that there is none. The tenant follows the
// field: who is moved is held to the new budget from the next call on, and takes no history along. Defaults to what the
// method LLMTenantParent says, see [Child]; else records stand below none but the [Root].
func WithParent(field string, model any) RegisterOption {
	return func(d *declaration) (err error) {
		t := reflect.TypeOf(model)
		if t != nil && t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t == nil || t.Kind() != reflect.Struct {
			return fmt.Errorf("WithParent(%q): the model is a %T; give a pointer to its struct, such as &Organization{}", field, model)
		}
		if d.parent, err = d.field("WithParent", field); err != nil {
			return err
		}
		d.parentType = t
		return nil
	}
}

// WithTimeZone gives the budgets of records a time zone when they are created, an IANA name such as "Europe/Berlin".
// Defaults to that of the ledger, see [WithDefaultTimeZone].
func WithTimeZone(name string) RegisterOption {
	return func(d *declaration) error {
		if _, err := loadZone(name); err != nil {
			return fmt.Errorf("WithTimeZone: %w", err)
		}
		d.zone = name
		return nil
	}
}

// above is who stands above a record; nil where its model does not say.
func (d *declaration) above(v reflect.Value) (*store.Above, error) {
	if d.parent != nil {
		return d.aboveByField(d.parent, v)
	}
	child, ok := v.Interface().(Child)
	if !ok {
		return nil, nil
	}
	parent, err := said(d.typ, "LLMTenantParent", child.LLMTenantParent)
	if err != nil || parent == nil {
		return &store.Above{}, err
	}
	if p := reflect.ValueOf(parent); p.Kind() == reflect.Pointer && p.IsNil() {
		return &store.Above{}, nil
	}
	if of := d.ledger.declarations.of(reflect.TypeOf(parent)); of != nil {
		record, err := of.record(parent)
		if err != nil {
			return nil, err
		}
		id, _, err := of.ownerID(record)
		return &store.Above{OwnerType: of.schema.Table, OwnerID: id}, err
	}
	key := parent.LLMTenantID()
	return &store.Above{Key: key}, validKey(key)
}

func (d *declaration) aboveByField(f *schema.Field, v reflect.Value) (*store.Above, error) {
	value, zero := f.ValueOf(context.Background(), v)
	if zero {
		return &store.Above{}, nil
	}
	of := d.ledger.declarations.of(d.parentType)
	if of == nil {
		return nil, fmt.Errorf("%w: %s stands below %s, which was not declared; call ledger.Register(&%s{}, …) too",
			ErrHierarchy, d.typ, d.parentType, d.parentType)
	}
	id, err := of.canonical([]any{value})
	if err != nil || id == "" {
		return &store.Above{}, err
	}
	return &store.Above{OwnerType: of.schema.Table, OwnerID: id}, nil
}

// places reports whether the records of the model say who stands above them.
func (d *declaration) places() bool {
	return d.parent != nil || reflect.PointerTo(d.typ).Implements(reflect.TypeFor[Child]())
}

// place makes the tenants of some records stand where these say, within the transaction of db. Tenants above that are not
// there yet are made. A record above that is not in the database changes nothing.
func (d *declaration) place(db *gorm.DB, placements []store.Placement) error {
	ctx, pool := db.Statement.Context, db.Statement.ConnPool
	missing, err := d.ledger.dialect.PlaceAll(ctx, pool, placements)
	if err != nil || len(missing) == 0 {
		return err
	}
	for _, p := range missing {
		if p.Key != "" {
			if d.ledger.options.knownOnly {
				if err := d.ledger.unknown(ctx, pool, p.Key); err != nil {
					return fmt.Errorf("LLMTenantParent: %w", err)
				}
			}
			if err := d.ledger.dialect.Ensure(ctx, pool, []store.Profile{{Key: p.Key, Name: p.Key, Inherit: true}}); err != nil {
				return err
			}
			continue
		}
		of := d.ledger.declarations.ofTable(p.Above.OwnerType)
		if of == nil {
			continue
		}
		key, ok := of.primaryKey(p.Above.OwnerID)
		if !ok {
			continue
		}
		if err := of.ensure(db, [][]any{key}, false); err != nil {
			return err
		}
	}
	_, err = d.ledger.dialect.PlaceAll(ctx, pool, missing)
	return err
}

// placements are those that profiles of records ask for.
func placements(profiles []store.Profile) (all []store.Placement) {
	for _, p := range profiles {
		if p.Parent != nil && !p.Deleted && p.Err == nil {
			all = append(all, store.Placement{OwnerType: p.OwnerType, OwnerID: p.OwnerID, Above: *p.Parent})
		}
	}
	return all
}
