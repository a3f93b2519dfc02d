package directory

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Tables are those that say who is who, of which every place has to see those of its own tenants.
var Tables = []string{"llm_tenants", "llm_former", "llm_places"}

// PlacesError says that the places of the database are not those that are named.
type PlacesError struct{ Reason string }

func (e *PlacesError) Error() string { return e.Reason }

// AddPlaces writes down that there are the directory's places, with those that were there before.
func (d Directory) AddPlaces(ctx context.Context, c sqldb.Conn) error {
	there, err := d.PlacesThere(ctx, c)
	if err != nil {
		return err
	}
	for _, name := range there {
		if !slices.Contains(d.Places, name) {
			return d.differ(there)
		}
	}
	if err := d.unrooted(ctx, c); err != nil {
		return err
	}
	for _, name := range d.Places {
		if slices.Contains(there, name) {
			continue
		}
		var others []string
		if err := sqldb.List(ctx, c, &others, `SELECT CAST(relname AS text) FROM pg_catalog.pg_class
			WHERE relnamespace = to_regnamespace($1) AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S') ORDER BY 1 LIMIT 1`, name); err != nil {
			return err
		}
		if len(others) > 0 {
			return &PlacesError{fmt.Sprintf("there is a schema %q already, with tables that are none of a place's (%s among them): a place is a schema of its own", name, others[0])}
		}
	}
	for _, name := range d.Places {
		if _, err := c.ExecContext(ctx, `INSERT INTO llm_places (name) VALUES ($1) ON CONFLICT DO NOTHING`, name); err != nil {
			return err
		}
	}
	return nil
}

// CheckPlaces returns a *PlacesError where the directory's places are not those that were written down, or have no tables.
func (d Directory) CheckPlaces(ctx context.Context, c sqldb.Conn) error {
	there, err := d.PlacesThere(ctx, c)
	if err != nil {
		return err
	}
	named := slices.Sorted(slices.Values(d.Places))
	if !slices.Equal(there, named) {
		return d.differ(there)
	}
	if len(named) == 0 {
		return nil
	}
	for _, name := range named {
		var tables []bool
		if err := sqldb.List(ctx, c, &tables, `SELECT to_regclass($1) IS NOT NULL`, name+".llm_balances"); err != nil {
			return err
		}
		if !tables[0] {
			return fmt.Errorf("%w (the place %q has no tables)", fault.ErrNotMigrated, name)
		}
	}
	return d.unrooted(ctx, c)
}

// PlacesThere returns the places that were written down.
func (d Directory) PlacesThere(ctx context.Context, c sqldb.Conn) (names []string, err error) {
	err = sqldb.List(ctx, c, &names, `SELECT name FROM llm_places ORDER BY name COLLATE "C"`)
	return names, err
}

func (d Directory) differ(there []string) error {
	list := func(names []string) string {
		if len(names) == 0 {
			return "none"
		}
		return strings.Join(names, ", ")
	}
	way := "; all processes name the same, and Migrate with more of them adds some"
	return &PlacesError{"the places of the database are " + list(there) + ", and this ledger names " + list(slices.Sorted(slices.Values(d.Places))) + way}
}

// unrooted returns an error where there is a root.
func (d Directory) unrooted(ctx context.Context, c sqldb.Conn) error {
	var found []int
	err := sqldb.List(ctx, c, &found, `SELECT 1 FROM llm_tenants WHERE id = $1`, book.Root.String())
	if err == nil && len(found) > 0 {
		err = RootInPlaces()
	}
	return err
}

// RootInPlaces is the error of a root with places.
func RootInPlaces() error {
	return &PlacesError{"there is a budget of the root, which counts every call in one row, and places have none in common: it cannot be with places"}
}

// Who is a tenant by its id, or else by its key or its record.
type Who struct {
	ID                      book.ID
	Key, OwnerType, OwnerID string
}

// PlaceOf returns in which place the books of a tenant are; empty for the home. It reports false where there is no such tenant.
func (d Directory) PlaceOf(ctx context.Context, c sqldb.Conn, who Who) (name string, found bool, err error) {
	var names []string
	if who.ID != book.NoTenant {
		err = sqldb.List(ctx, c, &names, d.Bind(`SELECT place FROM llm_tenants WHERE id = ?`), who.ID.String())
	} else {
		err = sqldb.List(ctx, c, &names, d.Bind(`SELECT place FROM llm_tenants WHERE (owner_type = ? AND owner_id = ?) OR tenant_id = ?
			ORDER BY CASE WHEN owner_type = ? AND owner_id = ? THEN 0 ELSE 1 END`), who.OwnerType, who.OwnerID, who.Key, who.OwnerType, who.OwnerID)
	}
	if err != nil || len(names) == 0 {
		return "", false, err
	}
	return names[0], true, nil
}

// InOrder numbers tenants in the order of their keys.
func (d Directory) InOrder(ctx context.Context, c sqldb.Conn, ids []book.ID) (map[book.ID]int, error) {
	order := make(map[book.ID]int, len(ids))
	err := sqldb.EachRow(ctx, c, d.Bind(`SELECT id FROM llm_tenants WHERE `+d.Among("id")+` ORDER BY tenant_id`), []any{d.IDs(ids)}, func(row sqldb.Row) error {
		var id book.ID
		err := row.Scan(&id)
		order[id] = len(order)
		return err
	})
	return order, err
}

// Member is a tenant that goes along when another one is moved.
type Member struct {
	ID         book.ID
	Key, Place string
	Parent     string // the key of whoever is above it
}

// Family returns a tenant with all that stand below it, and whoever has counted calls of one of them, or had its own counted, in the
// order of their ids: what is on the books of one of them is so on the books of another. It locks them where they are.
func (d Directory) Family(ctx context.Context, c sqldb.Conn, who Who) (family []Member, err error) {
	// UNION, which leaves out who is there already.
	const members = `WITH RECURSIVE family (id) AS (SELECT CAST($1 AS uuid)
		UNION SELECT x.id FROM family f CROSS JOIN LATERAL (
			SELECT t.id FROM llm_tenants t WHERE t.parent = f.id
			UNION ALL SELECT t.parent FROM llm_tenants t WHERE t.id = f.id AND t.parent IS NOT NULL
			UNION ALL SELECT o.tenant FROM llm_former o WHERE o.parent = f.id
			UNION ALL SELECT o.parent FROM llm_former o WHERE o.tenant = f.id) x)
		SELECT CAST(id AS text) FROM family ORDER BY id`
	var ids []string
	if err := sqldb.List(ctx, c, &ids, members, who.ID.String()); err != nil {
		return nil, err
	}
	for range mostTries {
		family = nil
		if err := d.keep(ctx, c, "pg_advisory_xact_lock", ids); err != nil {
			return nil, err
		}
		err = sqldb.EachRow(ctx, c, `SELECT t.id, coalesce(t.tenant_id, ''), t.place, coalesce((SELECT p.tenant_id FROM llm_tenants p WHERE p.id = t.parent), '')
			FROM llm_tenants t WHERE t.id = ANY(CAST($1 AS uuid[])) ORDER BY t.id FOR UPDATE OF t`, []any{d.list(ids)}, func(row sqldb.Row) error {
			var m Member
			err := row.Scan(&m.ID, &m.Key, &m.Place, &m.Parent)
			family = append(family, m)
			return err
		})
		if err != nil {
			return nil, err
		}
		// Who was made below one of them while it was waited for is seen now.
		was := ids
		ids = nil
		if err := sqldb.List(ctx, c, &ids, members, who.ID.String()); err != nil {
			return nil, err
		}
		if slices.Equal(ids, was) {
			return family, nil
		}
	}
	return nil, fault.NotAvailable(fmt.Errorf("somebody else changes who stands below %q at the moment", who.Key), false)
}

const mostTries = 10

// SetPlace writes down that the books of tenants are in a place.
func (d Directory) SetPlace(ctx context.Context, c sqldb.Conn, ids []book.ID, place string) error {
	_, err := c.ExecContext(ctx, d.Bind(`UPDATE llm_tenants SET place = ?, updated_at = `+d.Clock+` WHERE `+d.Among("id")), place, d.IDs(ids))
	return err
}

// CountMove counts a move from or to a place that is not the home. It is the last statement of a transaction: others who move tenants wait for it.
func (d Directory) CountMove(ctx context.Context, c sqldb.Conn, place string) error {
	_, err := c.ExecContext(ctx, d.Bind(`UPDATE llm_places SET moves = moves + 1 WHERE name = ?`), place)
	return err
}

// Moves returns how often tenants were moved, and whether the statements of a connection all see the same moment, in which they are not.
func (d Directory) Moves(ctx context.Context, c sqldb.Conn) (n int64, still bool, err error) {
	err = sqldb.EachRow(ctx, c, `SELECT CAST(coalesce(sum(moves), 0) AS bigint), current_setting('transaction_isolation') IN ('repeatable read', 'serializable') FROM llm_places`,
		nil, func(row sqldb.Row) error { return row.Scan(&n, &still) })
	return n, still, err
}

// Stand is where the books of a tenant are; it is another one after each move, also where the place is the same again.
type Stand struct{ Place, Since string }

// StandOf returns where the books of a tenant are. It reports false where there is no such tenant.
func (d Directory) StandOf(ctx context.Context, c sqldb.Conn, id book.ID) (s Stand, found bool, err error) {
	err = sqldb.EachRow(ctx, c, d.Bind(`SELECT place, CAST(updated_at AS text) FROM llm_tenants WHERE id = ?`), []any{id.String()}, func(row sqldb.Row) error {
		found = true
		return row.Scan(&s.Place, &s.Since)
	})
	return s, found, err
}

// Stay keeps a tenant from being moved until the transaction ends, and returns the place that its books are in.
func (d Directory) Stay(ctx context.Context, c sqldb.Conn, id book.ID) (place string, err error) {
	if err := d.stay(ctx, c, id.String()); err != nil {
		return "", err
	}
	place, _, err = d.PlaceOf(ctx, c, Who{ID: id})
	return place, err
}

// madeInPlaces is made where there are places: a tenant is put into that of whoever is above it, or else into one by its key, and its
// anchor stands there.
func (d Directory) madeInPlaces(ctx context.Context, c sqldb.Conn, ids []string, profiles []Profile) (int, error) {
	p := &profiles[0]
	var places strings.Builder
	for i := range profiles {
		element(&places, d.Places[book.Put(profiles[i].Key, d.Places)], false)
	}
	args := []any{sqldb.Limits{Own: p.Limits}.String(), sqldb.Nullable(p.OwnerType), string(p.Enforcement), string(p.Counts), p.Inherit, p.Zone}
	args = append(append(args, columns(ids, profiles)...), places.String()+"}")
	var above []string
	for i := range profiles {
		if parent := profiles[i].parent(); parent != "" && !slices.Contains(above, parent) {
			above = append(above, parent)
		}
	}
	if err := d.stay(ctx, c, above...); err != nil {
		return 0, err
	}
	made := map[string][]string{}
	n := 0
	err := sqldb.EachRow(ctx, c, `INSERT INTO llm_tenants (limits, owner_type, enforcement, counts, inherit, time_zone, id, tenant_id, name, owner_id, parent, place)
		SELECT (SELECT CAST(CAST($1 AS text) AS jsonb)), $2, $3, $4, CAST($5 AS boolean), $6, t.id, t.tenant_id, t.name, t.owner_id, t.parent, coalesce(above.place, t.place)
		FROM unnest(CAST(CAST($7 AS text) AS uuid[]), CAST(CAST($8 AS text) AS text[]), CAST(CAST($9 AS text) AS text[]),
			CAST(CAST($10 AS text) AS text[]), CAST(CAST($11 AS text) AS uuid[]), CAST(CAST($12 AS text) AS text[])) t (id, tenant_id, name, owner_id, parent, place)
			LEFT JOIN llm_tenants above ON above.id = t.parent
		ON CONFLICT DO NOTHING RETURNING CAST(id AS text), place`, args, func(row sqldb.Row) error {
		var id, place string
		err := row.Scan(&id, &place)
		made[place] = append(made[place], id)
		n++
		return err
	})
	if err != nil {
		return 0, err
	}
	for place, ids := range made {
		in := c
		if place != "" {
			in = (&sqldb.Schema{Name: place}).On(c)
		}
		if _, err := in.ExecContext(ctx, `INSERT INTO llm_balances (tenant, window_unit, window_end) SELECT unnest(CAST(CAST($1 AS text) AS uuid[])), 'total', NULL`,
			d.list(ids)); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// stay keeps tenants from being moved to another place until the transaction ends.
func (d Directory) stay(ctx context.Context, c sqldb.Conn, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	return d.keep(ctx, c, "pg_advisory_xact_lock_shared", ids)
}

// keep takes an advisory lock of each of some tenants, in the order of their ids. It is no lock of their rows: a host's transaction that makes
// a tenant below another one, and then changes the key of that, would wait for one that does the same.
func (d Directory) keep(ctx context.Context, c sqldb.Conn, lock string, ids []string) error {
	return sqldb.EachRow(ctx, c, `SELECT `+lock+`(hashtextextended('llm_places ' || id, 0)) FROM unnest(CAST($1 AS text[])) AS t (id) ORDER BY id`,
		[]any{d.list(ids)}, func(sqldb.Row) error { return nil })
}

// follow puts a tenant that is booked nowhere yet, and has none below it, into the place of the one that is to stand above it. It
// reports false for any other.
func (d Directory) follow(ctx context.Context, c sqldb.Conn, id, own, above string) (bool, error) {
	from, to := &sqldb.Schema{Name: own}, &sqldb.Schema{Name: above}
	// Whoever books a call of it meanwhile waits, and then does not find it there.
	if err := sqldb.EachRow(ctx, from.On(c), `SELECT 1 FROM llm_balances WHERE tenant = $1 ORDER BY window_unit, agent, model FOR UPDATE`, []any{id},
		func(sqldb.Row) error { return nil }); err != nil {
		return false, err
	}
	var booked []bool
	if err := sqldb.List(ctx, from.On(c), &booked, `SELECT EXISTS (SELECT FROM llm_executions e WHERE e.tenant = x.id) OR EXISTS (SELECT FROM llm_usage u WHERE u.tenant = x.id)
		OR EXISTS (SELECT FROM llm_idempotency i WHERE i.tenant = x.id) OR EXISTS (SELECT FROM llm_pruned p WHERE p.tenant = x.id)
		OR EXISTS (SELECT FROM llm_balances b WHERE b.tenant = x.id AND (b.spent_calls <> 0 OR b.held_calls <> 0))
		OR EXISTS (SELECT FROM llm_tenants t WHERE t.parent = x.id)
		FROM (SELECT CAST($1 AS uuid) AS id) x`, id); err != nil || booked[0] {
		return false, err
	}
	for _, statement := range []string{
		`INSERT INTO ` + to.Table("llm_balances") + ` SELECT * FROM ` + from.Table("llm_balances") + ` WHERE tenant = $1`,
		`DELETE FROM ` + from.Table("llm_balances") + ` WHERE tenant = $1`,
		`DELETE FROM ` + from.Table("llm_thresholds") + ` WHERE tenant = $1`,
	} {
		if _, err := c.ExecContext(ctx, statement, id); err != nil {
			return false, err
		}
	}
	_, err := c.ExecContext(ctx, `UPDATE llm_tenants SET place = $2, updated_at = `+d.Clock+` WHERE id = $1`, id, above)
	return err == nil, err
}

// together sees to it that a tenant is in the place of the one that is to stand above it: one that is not booked yet is put there, and for any
// other it returns an error.
func (d Directory) together(ctx context.Context, c sqldb.Conn, id, parent string) error {
	if len(d.Places) == 0 || parent == "" {
		return nil
	}
	if err := d.stay(ctx, c, parent); err != nil {
		return err
	}
	var places []string
	err := sqldb.List(ctx, c, &places, `SELECT t.place || ' ' || p.place FROM llm_tenants t CROSS JOIN llm_tenants p WHERE t.id = $1 AND p.id = $2 AND t.place <> p.place`, id, parent)
	if err != nil || len(places) == 0 {
		return err
	}
	name := func(place string) string {
		if place == "" {
			return "the home"
		}
		return `the place "` + place + `"`
	}
	own, above, _ := strings.Cut(places[0], " ")
	if put, err := d.follow(ctx, c, id, own, above); err != nil || put {
		return err
	}
	return &PlaceError{"its books are in " + name(own) + ", and those of whoever is to stand above it in " + name(above) + "; ledger.Move takes it there first"}
}
