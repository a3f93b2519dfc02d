package tenant

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/directory"
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
// method LLMTenantParent says, see [Child]; otherwise records stand below none but the [Root].
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
func (r records) above(v reflect.Value) (*directory.Above, error) {
	if r.parent != nil {
		return r.aboveByField(r.parent, v)
	}
	child, ok := v.Interface().(Child)
	if !ok {
		return nil, nil
	}
	parent, err := said(r.typ, "LLMTenantParent", child.LLMTenantParent)
	if err != nil || parent == nil {
		return &directory.Above{}, err
	}
	if p := reflect.ValueOf(parent); p.Kind() == reflect.Pointer && p.IsNil() {
		return &directory.Above{}, nil
	}
	if of := r.ledger.declarations.of(reflect.TypeOf(parent)); of != nil {
		record, err := of.record(parent)
		if err != nil {
			return nil, err
		}
		id, _, err := of.ownerID(record)
		return &directory.Above{OwnerType: of.ownerIn(r.place), OwnerID: id}, err
	}
	key := parent.LLMTenantID()
	if key == string(Root) {
		return &directory.Above{}, nil
	}
	return &directory.Above{Key: key}, validKey(key)
}

func (r records) aboveByField(f *schema.Field, v reflect.Value) (*directory.Above, error) {
	value, zero := f.ValueOf(context.Background(), v)
	if zero {
		return &directory.Above{}, nil
	}
	of := r.ledger.declarations.of(r.parentType)
	if of == nil {
		return nil, fmt.Errorf("%w: %s stands below %s, which was not declared; call ledger.Register(&%s{}, …) too",
			ErrHierarchy, r.typ, r.parentType, r.parentType)
	}
	id, err := of.canonical([]any{value})
	if err != nil || id == "" {
		return &directory.Above{}, err
	}
	return &directory.Above{OwnerType: of.ownerIn(r.place), OwnerID: id}, nil
}

// places reports whether the records of the model say who stands above them.
func (d *declaration) places() bool {
	return d.parent != nil || reflect.PointerTo(d.typ).Implements(reflect.TypeFor[Child]())
}

// errBeingMade says that another transaction is making a tenant that is to stand above.
var errBeingMade = fmt.Errorf("%w: another transaction is making the tenant above", ErrUnavailable)

// stand finds out below whom the tenants of some records are to be made. Where another transaction is just making one that is
// to stand above, a host's own does not wait for that: the tenants below are left to their first calls.
func (r records) stand(db *gorm.DB, profiles []directory.Profile) ([]directory.Profile, error) {
	var aboves []directory.Above
	for _, p := range profiles {
		if p.Parent != nil && *p.Parent != (directory.Above{}) && !p.Deleted && p.Err == nil {
			aboves = append(aboves, *p.Parent)
		}
	}
	if len(aboves) == 0 {
		return profiles, nil
	}
	chains, busy, err := r.chains(db, aboves)
	switch {
	case err != nil:
		return nil, err
	case len(busy) > 0 && len(r.below) > 0:
		return nil, errBeingMade
	}
	var all []directory.Profile
	for _, p := range profiles {
		if p.Parent != nil {
			if slices.Contains(busy, *p.Parent) {
				continue
			}
			p.Chain = chains[*p.Parent]
		}
		all = append(all, p)
	}
	return all, nil
}

// move puts tenants where their records say. A record above that is not in the database changes nothing.
func (r records) move(db *gorm.DB, strayed []directory.Placement) error {
	if len(strayed) == 0 {
		return nil
	}
	var aboves []directory.Above
	for _, p := range strayed {
		if p.Above != (directory.Above{}) {
			aboves = append(aboves, p.Above)
		}
	}
	r.hosts = false // who has a tenant is to stand where its record says
	chains, _, err := r.chains(db, aboves)
	if err != nil {
		return err
	}
	return r.ledger.directory().Move(db.Statement.Context, db.Statement.ConnPool, strayed, chains)
}

// chains returns the tenants that are to stand above others, each with all above it. Those that are not there yet are made,
// where their records are, but for those that another transaction is making.
func (r records) chains(db *gorm.DB, aboves []directory.Above) (_ map[directory.Above][]book.ID, busy []directory.Above, err error) {
	ctx, pool, who := db.Statement.Context, db.Statement.ConnPool, r.ledger.directory()
	chains, err := who.Rise(ctx, pool, aboves)
	if err != nil {
		return nil, nil, err
	}
	missing := map[directory.Above]bool{}
	for _, a := range aboves {
		if chains[a] != nil || missing[a] {
			continue
		}
		missing[a] = true
		if r.hosts {
			alone, err := who.First(ctx, pool, a)
			if err != nil {
				return nil, nil, err
			}
			if !alone {
				busy = append(busy, a)
				continue
			}
		}
		if a.Key != "" {
			if r.ledger.options.knownOnly {
				if err := r.ledger.unknown(ctx, pool, a.Key); err != nil {
					return nil, nil, fmt.Errorf("LLMTenantParent: %w", err)
				}
			}
			if _, err := who.Ensure(ctx, pool, []directory.Profile{{Key: a.Key, Name: a.Key, Inherit: true}}); err != nil {
				return nil, nil, err
			}
			continue
		}
		of := r.ledger.declarations.ofTable(a.OwnerType)
		if of == nil {
			continue
		}
		if slices.Contains(r.below, a) {
			return nil, nil, &directory.PlaceError{Reason: fmt.Sprintf("the tenant of %s %s would stand above itself", a.OwnerType, a.OwnerID)}
		}
		if key, ok := of.primaryKey(a.OwnerID); ok {
			parents := records{declaration: of, owner: a.OwnerType, place: r.place, hosts: r.hosts, below: append(r.below[:len(r.below):len(r.below)], a)}
			switch err := parents.ensure(db, [][]any{key}); {
			case errors.Is(err, errBeingMade):
				busy = append(busy, a)
			case err != nil:
				return nil, nil, err
			}
		}
	}
	if len(missing) == 0 {
		return chains, nil, nil
	}
	chains, err = who.Rise(ctx, pool, aboves)
	return chains, busy, err
}
