package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// PlaceError says why a tenant cannot stand below another.
type PlaceError struct{ Reason string }

func (e *PlaceError) Error() string { return fault.ErrHierarchy.Error() + ": " + e.Reason }

// Unwrap says that it is a [fault.ErrHierarchy].
func (e *PlaceError) Unwrap() error { return fault.ErrHierarchy }

// Place puts a tenant below another one, or, for the zero id or the root's, below none but the root. It returns a
// *PlaceError for a circle, and where more than book.MaxDepth would stand above each other. It runs in the transaction of
// its caller, and keeps those above where they are until that ends: whoever is moved at the same time is waited for.
func (d Directory) Place(ctx context.Context, c sqldb.Conn, id, parent book.ID) error {
	all, err := d.find(ctx, c, "id = ?", []any{id.String()})
	if err != nil || len(all) == 0 {
		return err
	}
	from := all[0].parent
	if parent == book.NoTenant || parent == book.Root {
		return d.put(ctx, c, id.String(), from, "")
	}
	if len(d.Places) > 0 { // before their rows, as whoever moves them does
		if err := d.stay(ctx, c, parent.String()); err != nil {
			return err
		}
	}
	ancestors, err := d.chain(ctx, c, parent)
	if err != nil {
		return err
	}
	if slices.Contains(ancestors, id) {
		return &PlaceError{"it would stand above itself"}
	}
	if err := d.together(ctx, c, id.String(), parent.String()); err != nil {
		return err
	}
	if err := d.put(ctx, c, id.String(), from, parent.String()); err != nil {
		return err
	}
	height, err := d.height(ctx, c, id)
	if err != nil {
		return err
	}
	if depth := len(ancestors) + height; depth > book.MaxDepth {
		return &PlaceError{tooDeep(depth)}
	}
	return nil
}

// chain returns a tenant and all above it, and locks them where they are.
func (d Directory) chain(ctx context.Context, c sqldb.Conn, id book.ID) ([]book.ID, error) {
	statement := d.Bind(`SELECT coalesce(CAST(parent AS text), '') FROM llm_tenants WHERE id = ?`)
	if d.LocksRows {
		statement += ` FOR SHARE`
	}
	chain := []book.ID{id}
	for len(chain) <= book.MaxDepth {
		var ids []string
		if err := sqldb.List(ctx, c, &ids, statement, chain[len(chain)-1].String()); err != nil {
			return nil, err
		}
		if len(ids) == 0 {
			return nil, &PlaceError{"there is no tenant to stand below"}
		}
		next, err := sqldb.ParseIDs(ids[0])
		if err != nil || len(next) == 0 {
			return chain, err
		}
		chain = append(chain, next...)
	}
	return chain, nil
}

// height returns how many tenants stand above each other from one on downwards.
func (d Directory) height(ctx context.Context, c sqldb.Conn, id book.ID) (int, error) {
	var depths []int
	err := sqldb.List(ctx, c, &depths, d.Bind(`WITH RECURSIVE descendants (id, depth) AS (
			SELECT id, 1 FROM llm_tenants WHERE id = ?
			UNION ALL SELECT t.id, b.depth + 1 FROM descendants b JOIN llm_tenants t ON t.parent = b.id WHERE b.depth <= ?)
		SELECT coalesce(max(depth), 0) FROM descendants`), id.String(), book.MaxDepth)
	if err != nil {
		return 0, err
	}
	return depths[0], nil
}

// KeyOf returns the key of a tenant; empty for one that has none, or is not there.
func (d Directory) KeyOf(ctx context.Context, c sqldb.Conn, id book.ID) (string, error) {
	var keys []string
	err := sqldb.List(ctx, c, &keys, d.Bind(`SELECT tenant_id FROM llm_tenants WHERE id = ? AND tenant_id IS NOT NULL`), id.String())
	return strings.Join(keys, ""), err
}

// ByKey returns the id of the tenant that has a key; zero where none has.
func (d Directory) ByKey(ctx context.Context, c sqldb.Conn, key string) (book.ID, error) {
	var ids []book.ID
	if err := sqldb.List(ctx, c, &ids, d.Bind(`SELECT id FROM llm_tenants WHERE tenant_id = ?`), key); err != nil || len(ids) == 0 {
		return book.NoTenant, err
	}
	return ids[0], nil
}

// Parent is who stands directly above a tenant: the tenant of a record, or that of a key; nobody, where both are empty.
type Parent struct{ OwnerType, OwnerID, Key string }

// Placement is a tenant that is not where its record says, and where that is.
type Placement struct {
	ID, Key, Was string // the tenant, and its parent at present
	Parent
}

// Ancestors returns the tenants that are to stand above others, those that are there, each with all that stand above it.
func (d Directory) Ancestors(ctx context.Context, c sqldb.Conn, parents []Parent) (map[Parent][]book.ID, error) {
	chains := map[Parent][]book.ID{}
	for chunk := range slices.Chunk(parents, maxProfiles) {
		var (
			which []string
			args  []any
			keys  []any
		)
		owners := map[string][]any{}
		for _, a := range chunk {
			if a.Key != "" {
				keys = append(keys, a.Key)
			} else {
				owners[a.OwnerType] = append(owners[a.OwnerType], a.OwnerID)
			}
		}
		for kind, ids := range owners {
			which, args = append(which, "owner_type = ? AND owner_id IN ("+sqldb.Marks(len(ids))+")"), append(append(args, kind), ids...)
		}
		if len(keys) > 0 {
			which, args = append(which, "tenant_id IN ("+sqldb.Marks(len(keys))+")"), append(args, keys...)
		}
		err := sqldb.EachRow(ctx, c, d.Bind(`WITH RECURSIVE up (owner_type, owner_id, tenant_id, depth, id, parent) AS (
				SELECT owner_type, owner_id, tenant_id, 1, id, parent FROM llm_tenants WHERE `+strings.Join(which, " OR ")+`
				UNION ALL SELECT u.owner_type, u.owner_id, u.tenant_id, u.depth + 1, t.id, t.parent
					FROM up u JOIN llm_tenants t ON t.id = u.parent WHERE u.depth <= ?)
			SELECT coalesce(owner_type, ''), coalesce(owner_id, ''), coalesce(tenant_id, ''), id FROM up ORDER BY depth`),
			append(args, book.MaxDepth), func(row sqldb.Row) error {
				var (
					a  Parent
					id book.ID
				)
				if err := row.Scan(&a.OwnerType, &a.OwnerID, &a.Key, &id); err != nil {
					return err
				}
				for _, a := range []Parent{{OwnerType: a.OwnerType, OwnerID: a.OwnerID}, {Key: a.Key}} {
					if a != (Parent{}) {
						chains[a] = append(chains[a], id)
					}
				}
				return nil
			})
		if err != nil {
			return nil, err
		}
	}
	return chains, nil
}

// First reports whether no other transaction that is still open has been told so of the same tenant that is to stand above. It
// never waits.
func (d Directory) First(ctx context.Context, c sqldb.Conn, a Parent) (bool, error) {
	if !d.LocksRows {
		return true, nil // there is one writer
	}
	var alone []bool
	err := sqldb.List(ctx, c, &alone, `SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))`, "llm_tenants "+a.OwnerType+" "+a.OwnerID+" "+a.Key)
	return err == nil && alone[0], err
}

// Move puts tenants where their records say, but for those whom nobody is above yet that is to be. It locks nothing but the
// rows that it moves: whoever locked those above as well could wait for a transaction that waits for its own. So two that
// move at the same time can make a circle, or stand too deep; a circle counts each of its tenants once.
func (d Directory) Move(ctx context.Context, c sqldb.Conn, strayed []Placement, chains map[Parent][]book.ID) error {
	for _, p := range strayed {
		chain := chains[p.Parent]
		if p.Parent != (Parent{}) && chain == nil {
			continue
		}
		if chain != nil && chain[0] == book.Root {
			chain = nil
		}
		ids, err := sqldb.ParseIDs(p.ID)
		if err != nil {
			return err
		}
		to := ""
		if chain != nil {
			to = chain[0].String()
			if slices.Contains(chain, ids[0]) {
				return d.misplaced(ctx, c, p, to, "it would stand above itself")
			}
			height, err := d.height(ctx, c, ids[0])
			if err != nil {
				return err
			}
			if depth := len(chain) + height; depth > book.MaxDepth {
				return d.misplaced(ctx, c, p, to, tooDeep(depth))
			}
		}
		if p.Was == to {
			continue
		}
		if err := d.together(ctx, c, p.ID, to); err != nil {
			if apart := (*PlaceError)(nil); errors.As(err, &apart) {
				return d.misplaced(ctx, c, p, to, apart.Reason)
			}
			return err
		}
		if err := d.put(ctx, c, p.ID, p.Was, to); err != nil {
			return err
		}
		if err := d.Audit(ctx, c, Change{
			Tenant: p.ID, Key: p.Key, Action: "move", Was: state{"parent": p.Was}, Became: state{"parent": to},
		}); err != nil {
			return err
		}
	}
	return nil
}

func (d Directory) misplaced(ctx context.Context, c sqldb.Conn, p Placement, parent, why string) error {
	all, err := d.find(ctx, c, "id = ?", []any{parent})
	if err != nil {
		return err
	}
	key := parent
	if len(all) > 0 {
		key = all[0].key
	}
	return &PlaceError{fmt.Sprintf("tenant %q below %q: %s", p.Key, key, why)}
}

func tooDeep(depth int) string {
	return fmt.Sprintf("%d tenants would stand above each other, and %d may", depth, book.MaxDepth)
}

// put changes the parent of a tenant. Whom it leaves keeps what it has counted of it.
func (d Directory) put(ctx context.Context, c sqldb.Conn, id, from, to string) error {
	if _, err := c.ExecContext(ctx, d.Bind(`UPDATE llm_tenants SET parent = ?, updated_at = `+d.Clock+` WHERE id = ?`), sqldb.Nullable(to), id); err != nil || from == "" {
		return err
	}
	_, err := c.ExecContext(ctx, d.Bind(`INSERT INTO llm_former (parent, tenant) VALUES (?, ?) ON CONFLICT DO NOTHING`), from, id)
	return err
}
