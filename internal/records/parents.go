package records

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
	"github.com/llmtenant/tenant/internal/fault"
)

// parentOf is who stands above a record; nil where its model does not say. A record above is in the same schema.
func (r records) parentOf(v reflect.Value) (*directory.Parent, error) {
	if r.Parent != nil {
		return r.parentByField(r.Parent, v)
	}
	method := r.registry.Parent(v.Interface())
	if method == nil {
		return nil, nil
	}
	parent, err := Said(r.Type, "LLMTenantParent", method)
	if err != nil || parent == nil {
		return &directory.Parent{}, err
	}
	if p := reflect.ValueOf(parent); p.Kind() == reflect.Pointer && p.IsNil() {
		return &directory.Parent{}, nil
	}
	if of := r.registry.Of(reflect.TypeOf(parent)); of != nil {
		record, err := of.record(parent)
		if err != nil {
			return nil, err
		}
		id, _, err := of.ownerID(record)
		return &directory.Parent{OwnerType: of.ownerIn(r.place), OwnerID: id}, err
	}
	key := parent.LLMTenantID()
	if key == book.RootKey {
		return &directory.Parent{}, nil
	}
	return &directory.Parent{Key: key}, ValidKey(key)
}

func (r records) parentByField(f *schema.Field, v reflect.Value) (*directory.Parent, error) {
	value, zero := f.ValueOf(context.Background(), v)
	if zero {
		return &directory.Parent{}, nil
	}
	of := r.registry.Of(r.ParentType)
	if of == nil {
		return nil, fmt.Errorf("%w: %s stands below %s, which was not declared; call ledger.Register(&%s{}, …) too",
			fault.ErrHierarchy, r.Type, r.ParentType, r.ParentType)
	}
	id, err := of.canonical([]any{value})
	if err != nil || id == "" {
		return &directory.Parent{}, err
	}
	return &directory.Parent{OwnerType: of.ownerIn(r.place), OwnerID: id}, nil
}

// Places reports whether the records of the model say who stands above them.
func (d *Declaration) Places() bool {
	return d.Parent != nil || d.registry.Parent(reflect.New(d.Type).Interface()) != nil
}

// errBeingMade says that another transaction is making a tenant that is to stand above.
var errBeingMade = fmt.Errorf("%w: another transaction is making the tenant above", fault.ErrUnavailable)

// stand finds out below whom the tenants of some records are to be made. Where another transaction is just making one that is
// to stand above, a host's own does not wait for that: the tenants below are left to their first calls.
func (r records) stand(db *gorm.DB, profiles []directory.Profile) ([]directory.Profile, error) {
	var parents []directory.Parent
	for _, p := range profiles {
		if p.Parent != nil && *p.Parent != (directory.Parent{}) && !p.Deleted && p.Err == nil {
			parents = append(parents, *p.Parent)
		}
	}
	if len(parents) == 0 {
		return profiles, nil
	}
	chains, busy, err := r.chains(db, parents)
	switch {
	case err != nil:
		return nil, err
	case len(busy) > 0 && len(r.descendants) > 0:
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
	var parents []directory.Parent
	for _, p := range strayed {
		if p.Parent != (directory.Parent{}) {
			parents = append(parents, p.Parent)
		}
	}
	r.hosts = false // who has a tenant is to stand where its record says
	chains, _, err := r.chains(db, parents)
	if err != nil {
		return err
	}
	return r.registry.directory().Move(db.Statement.Context, db.Statement.ConnPool, strayed, chains)
}

// chains returns the tenants that are to stand above others, each with all above it. Those that are not there yet are made,
// where their records are, but for those that another transaction is making.
func (r records) chains(db *gorm.DB, parents []directory.Parent) (_ map[directory.Parent][]book.ID, busy []directory.Parent, err error) {
	ctx, pool, who := db.Statement.Context, db.Statement.ConnPool, r.registry.directory()
	chains, err := who.Ancestors(ctx, pool, parents)
	if err != nil {
		return nil, nil, err
	}
	missing := map[directory.Parent]bool{}
	for _, a := range parents {
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
			if r.registry.Known != nil {
				if err := r.registry.Known(ctx, pool, a.Key); err != nil {
					return nil, nil, fmt.Errorf("LLMTenantParent: %w", err)
				}
			}
			if _, err := who.Ensure(ctx, pool, []directory.Profile{{Key: a.Key, Name: a.Key, Inherit: true}}); err != nil {
				return nil, nil, err
			}
			continue
		}
		of := r.registry.OfTable(a.OwnerType)
		if of == nil {
			continue
		}
		if slices.Contains(r.descendants, a) {
			return nil, nil, &directory.PlaceError{Reason: fmt.Sprintf("the tenant of %s %s would stand above itself", a.OwnerType, a.OwnerID)}
		}
		if key, ok := of.primaryKey(a.OwnerID); ok {
			parents := records{Declaration: of, owner: a.OwnerType, place: r.place, hosts: r.hosts, descendants: append(r.descendants[:len(r.descendants):len(r.descendants)], a)}
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
	chains, err = who.Ancestors(ctx, pool, parents)
	return chains, busy, err
}
