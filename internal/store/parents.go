package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/llmtenant/tenant/internal/book"
)

// PlaceError says why a tenant cannot stand below another.
type PlaceError struct{ Reason string }

func (e *PlaceError) Error() string { return e.Reason }

// Place puts a tenant below another one, or, for the zero id or the root's, below none but the root. It returns a
// *PlaceError for a circle, and where more than book.MaxDepth would stand above each other. It runs in the transaction of
// its caller, and keeps those above where they are until that ends: whoever is moved at the same time is waited for.
func (d *Dialect) Place(ctx context.Context, c Conn, id, parent book.ID) error {
	if parent == book.NoTenant || parent == book.Root {
		_, err := c.ExecContext(ctx, d.Bind(`UPDATE llm_tenants SET parent = NULL, updated_at = `+d.Clock+` WHERE id = ? AND parent IS NOT NULL`), id.String())
		return err
	}
	// Before those above are locked for reading: two that do this at once would wait for each other.
	if _, err := c.ExecContext(ctx, d.Bind(`UPDATE llm_tenants SET has_below = ? WHERE id = ? AND NOT has_below`), true, parent.String()); err != nil {
		return err
	}
	above, err := d.chain(ctx, c, parent)
	if err != nil {
		return err
	}
	if slices.Contains(above, id) {
		return &PlaceError{"it would stand above itself"}
	}
	if _, err := c.ExecContext(ctx, d.Bind(`UPDATE llm_tenants SET parent = ?, updated_at = `+d.Clock+` WHERE id = ?`), parent.String(), id.String()); err != nil {
		return err
	}
	below, err := d.height(ctx, c, id)
	if err != nil {
		return err
	}
	if depth := len(above) + below; depth > book.MaxDepth {
		return &PlaceError{fmt.Sprintf("%d tenants would stand above each other, and %d may", depth, book.MaxDepth)}
	}
	return nil
}

// chain returns a tenant and all above it, and locks them where they are.
func (d *Dialect) chain(ctx context.Context, c Conn, id book.ID) ([]book.ID, error) {
	statement := d.Bind(`SELECT coalesce(CAST(parent AS text), '') FROM llm_tenants WHERE id = ?`)
	if d.numbered {
		statement += ` FOR SHARE`
	}
	chain := []book.ID{id}
	for len(chain) <= book.MaxDepth {
		var ids []string
		if err := list(ctx, c, &ids, statement, chain[len(chain)-1].String()); err != nil {
			return nil, err
		}
		if len(ids) == 0 {
			return nil, &PlaceError{"there is no tenant to stand below"}
		}
		next, err := ParseIDs(ids[0])
		if err != nil || len(next) == 0 {
			return chain, err
		}
		chain = append(chain, next...)
	}
	return chain, nil
}

// height returns how many tenants stand above each other from one on downwards.
func (d *Dialect) height(ctx context.Context, c Conn, id book.ID) (int, error) {
	var depths []int
	err := list(ctx, c, &depths, d.Bind(`WITH RECURSIVE below (id, depth) AS (
			SELECT id, 1 FROM llm_tenants WHERE id = ?
			UNION ALL SELECT t.id, b.depth + 1 FROM below b JOIN llm_tenants t ON t.parent = b.id WHERE b.depth <= ?)
		SELECT coalesce(max(depth), 0) FROM below`), id.String(), book.MaxDepth)
	if err != nil {
		return 0, err
	}
	return depths[0], nil
}

// list appends the one column of a result.
func list[T any](ctx context.Context, c Conn, to *[]T, statement string, args ...any) error {
	return each(ctx, c, statement, args, func(row Row) error {
		var v T
		err := row.Scan(&v)
		*to = append(*to, v)
		return err
	})
}

// each runs a statement and enters its rows.
func each(ctx context.Context, c Conn, statement string, args []any, enter func(Row) error) error {
	rows, err := c.QueryContext(ctx, statement, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := enter(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// ByKey returns the id of the tenant that has a key; zero where none has.
func (d *Dialect) ByKey(ctx context.Context, c Conn, key string) (book.ID, error) {
	var ids []book.ID
	if err := list(ctx, c, &ids, d.Bind(`SELECT id FROM llm_tenants WHERE tenant_id = ?`), key); err != nil || len(ids) == 0 {
		return book.NoTenant, err
	}
	return ids[0], nil
}

// Above is who stands above a tenant: the tenant of a record, or that of a key; nobody, where both are empty.
type Above struct{ OwnerType, OwnerID, Key string }

// Placement is where the tenant of a record is to stand.
type Placement struct {
	OwnerType, OwnerID string
	Above
}

// PlaceAll puts the tenants of records where they are to stand, those that are there, and returns the placements below
// tenants that are not there. A [*PlaceError] names what cannot be.
func (d *Dialect) PlaceAll(ctx context.Context, c Conn, placements []Placement) (missing []Placement, err error) {
	for chunk := range slices.Chunk(placements, maxProfiles) {
		absent, err := d.place(ctx, c, chunk)
		if err != nil {
			return nil, err
		}
		missing = append(missing, absent...)
	}
	return missing, nil
}

func (d *Dialect) place(ctx context.Context, c Conn, placements []Placement) (missing []Placement, err error) {
	var asked []Profile
	var keys []any
	for _, p := range placements {
		asked = append(asked, Profile{OwnerType: p.OwnerType, OwnerID: p.OwnerID}, Profile{OwnerType: p.Above.OwnerType, OwnerID: p.Above.OwnerID})
		if p.Key != "" {
			keys = append(keys, p.Key)
		}
	}
	owned, err := d.owned(ctx, c, asked)
	if err != nil {
		return nil, err
	}
	byKey := map[string]*found{}
	if len(keys) > 0 {
		holders, err := d.find(ctx, c, "tenant_id IN ("+marks(len(keys))+")", keys)
		if err != nil {
			return nil, err
		}
		for _, f := range holders {
			byKey[f.key] = f
		}
	}
	for _, p := range placements {
		child := owned[owner{p.OwnerType, p.OwnerID}]
		if child == nil {
			continue
		}
		parent := owned[owner{p.Above.OwnerType, p.Above.OwnerID}]
		if p.Key != "" {
			parent = byKey[p.Key]
		}
		id := ""
		switch {
		case p.Above == (Above{}):
		case parent == nil:
			missing = append(missing, p)
			continue
		default:
			id = parent.id
		}
		if child.parent == id || id == book.Root.String() && child.parent == "" {
			continue
		}
		if err := d.move(ctx, c, child.id, id); err != nil {
			if wrong := (*PlaceError)(nil); errors.As(err, &wrong) {
				return nil, &PlaceError{fmt.Sprintf("tenant %q below %q: %s", child.key, parent.key, wrong.Reason)}
			}
			return nil, err
		}
		if err := d.Audit(ctx, c, Change{
			Tenant: child.id, Key: child.key, Action: "move", Was: state{"parent": child.parent}, Became: state{"parent": id},
		}); err != nil {
			return nil, err
		}
	}
	return missing, nil
}

func (d *Dialect) move(ctx context.Context, c Conn, id, parent string) error {
	ids, err := ParseIDs(id)
	if err != nil {
		return err
	}
	above, err := ParseIDs(parent)
	if err != nil {
		return err
	}
	return d.Place(ctx, c, ids[0], append(above, book.NoTenant)[0])
}
