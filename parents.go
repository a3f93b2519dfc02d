package tenant

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant/internal/book"
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

// above is who stands above a record; nil where its model does not say. A record above is in the same schema.
func (r records) above(v reflect.Value) (*store.Above, error) {
	if r.parent != nil {
		return r.aboveByField(r.parent, v)
	}
	child, ok := v.Interface().(Child)
	if !ok {
		return nil, nil
	}
	parent, err := said(r.typ, "LLMTenantParent", child.LLMTenantParent)
	if err != nil || parent == nil {
		return &store.Above{}, err
	}
	if p := reflect.ValueOf(parent); p.Kind() == reflect.Pointer && p.IsNil() {
		return &store.Above{}, nil
	}
	if of := r.ledger.declarations.of(reflect.TypeOf(parent)); of != nil {
		record, err := of.record(parent)
		if err != nil {
			return nil, err
		}
		id, _, err := of.ownerID(record)
		return &store.Above{OwnerType: of.ownerIn(r.place), OwnerID: id}, err
	}
	key := parent.LLMTenantID()
	if key == string(Root) {
		return &store.Above{}, nil
	}
	return &store.Above{Key: key}, validKey(key)
}

func (r records) aboveByField(f *schema.Field, v reflect.Value) (*store.Above, error) {
	value, zero := f.ValueOf(context.Background(), v)
	if zero {
		return &store.Above{}, nil
	}
	of := r.ledger.declarations.of(r.parentType)
	if of == nil {
		return nil, fmt.Errorf("%w: %s stands below %s, which was not declared; call ledger.Register(&%s{}, …) too",
			ErrHierarchy, r.typ, r.parentType, r.parentType)
	}
	id, err := of.canonical([]any{value})
	if err != nil || id == "" {
		return &store.Above{}, err
	}
	return &store.Above{OwnerType: of.ownerIn(r.place), OwnerID: id}, nil
}

// places reports whether the records of the model say who stands above them.
func (d *declaration) places() bool {
	return d.parent != nil || reflect.PointerTo(d.typ).Implements(reflect.TypeFor[Child]())
}

// stand finds out below whom the tenants of some records are to be made.
func (r records) stand(db *gorm.DB, profiles []store.Profile) ([]store.Profile, error) {
	var aboves []store.Above
	for _, p := range profiles {
		if p.Parent != nil && *p.Parent != (store.Above{}) && !p.Deleted && p.Err == nil {
			aboves = append(aboves, *p.Parent)
		}
	}
	chains, err := r.chains(db, aboves)
	if err != nil || len(chains) == 0 {
		return profiles, err
	}
	profiles = slices.Clone(profiles)
	for i, p := range profiles {
		if p.Parent != nil {
			profiles[i].Chain = chains[*p.Parent]
		}
	}
	return profiles, nil
}

// move puts tenants where their records say. A record above that is not in the database changes nothing.
func (r records) move(db *gorm.DB, strayed []store.Placement) error {
	if len(strayed) == 0 {
		return nil
	}
	var aboves []store.Above
	for _, p := range strayed {
		if p.Above != (store.Above{}) {
			aboves = append(aboves, p.Above)
		}
	}
	chains, err := r.chains(db, aboves)
	if err != nil {
		return err
	}
	return r.ledger.dialect.Move(db.Statement.Context, db.Statement.ConnPool, strayed, chains)
}

// chains returns the tenants that are to stand above others, each with all above it. Those that are not there yet are made,
// where their records are.
func (r records) chains(db *gorm.DB, aboves []store.Above) (map[store.Above][]book.ID, error) {
	ctx, pool, dialect := db.Statement.Context, db.Statement.ConnPool, r.ledger.dialect
	chains, err := dialect.Rise(ctx, pool, aboves)
	if err != nil {
		return nil, err
	}
	missing := map[store.Above]bool{}
	for _, a := range aboves {
		if chains[a] != nil || missing[a] {
			continue
		}
		missing[a] = true
		if a.Key != "" {
			if r.ledger.options.knownOnly {
				if err := r.ledger.unknown(ctx, pool, a.Key); err != nil {
					return nil, fmt.Errorf("LLMTenantParent: %w", err)
				}
			}
			if _, err := dialect.Ensure(ctx, pool, []store.Profile{{Key: a.Key, Name: a.Key, Inherit: true}}); err != nil {
				return nil, err
			}
			continue
		}
		of := r.ledger.declarations.ofTable(a.OwnerType)
		if of == nil {
			continue
		}
		if slices.Contains(r.below, a) {
			return nil, &store.PlaceError{Reason: fmt.Sprintf("the tenant of %s %s would stand above itself", a.OwnerType, a.OwnerID)}
		}
		if key, ok := of.primaryKey(a.OwnerID); ok {
			parents := records{declaration: of, owner: a.OwnerType, place: r.place, below: append(r.below[:len(r.below):len(r.below)], a)}
			if err := parents.ensure(db, [][]any{key}); err != nil {
				return nil, err
			}
		}
	}
	if len(missing) == 0 {
		return chains, nil
	}
	return dialect.Rise(ctx, pool, aboves)
}
