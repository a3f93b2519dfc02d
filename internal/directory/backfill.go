package directory

import (
	"context"
	"slices"

	"github.com/llmtenant/tenant/internal/sqldb"
)

// Plan is how many tenants Ensure is going to make, to give to a record, and to change, for some profiles.
type Plan struct{ Made, Linked, Updated int64 }

// Plan finds out what Ensure is going to do for the records of some profiles. It holds for as long as nobody else makes
// the same tenants.
func (d Directory) Plan(ctx context.Context, c sqldb.Conn, profiles []Profile) (Plan, error) {
	var plan Plan
	for chunk := range slices.Chunk(profiles, maxProfiles) {
		tenants, err := d.owned(ctx, c, chunk)
		if err != nil {
			return plan, err
		}
		var keys []any
		for _, p := range chunk {
			switch t := tenants[owner{p.OwnerType, p.OwnerID}]; {
			case t == nil && p.Deleted:
			case t == nil:
				keys = append(keys, p.Key)
			case p.Deleted && t.deleted:
			case p.Deleted || t.deleted || t.key != p.Key || t.name != p.Name:
				plan.Updated++
			}
		}
		if len(keys) == 0 {
			continue
		}
		known, err := d.find(ctx, c, "owner_type IS NULL AND deleted_at IS NULL AND tenant_id IN ("+sqldb.Marks(len(keys))+")", keys)
		if err != nil {
			return plan, err
		}
		plan.Linked += int64(len(known))
		plan.Made += int64(len(keys) - len(known))
	}
	return plan, nil
}

// Owned is a tenant that belongs to a record.
type Owned struct{ ID, Key, OwnerID string }

// OwnedAfter returns at most limit tenants of the records of one table, ordered by what their records' primary keys are in
// the books.
func (d Directory) OwnedAfter(ctx context.Context, c sqldb.Conn, ownerType, after string, limit int) ([]Owned, error) {
	all, err := d.find(ctx, c, "owner_type = ? AND owner_id > ? ORDER BY owner_id LIMIT ?", []any{ownerType, after, limit})
	return owneds(all), err
}

// LockOwned locks those of some tenants that still belong to the same records, and returns them. It leaves out what
// somebody else has locked, so that it never waits.
func (d Directory) LockOwned(ctx context.Context, c sqldb.Conn, ownerType string, tenants []Owned) ([]Owned, error) {
	var locked []Owned
	for chunk := range slices.Chunk(tenants, maxProfiles) {
		args := []any{ownerType}
		owners := map[string]string{}
		for _, t := range chunk {
			args = append(args, t.ID)
			owners[t.ID] = t.OwnerID
		}
		where := "owner_type = ? AND id IN (" + sqldb.Marks(len(chunk)) + ")"
		if d.LocksRows {
			where += " FOR UPDATE SKIP LOCKED"
		}
		all, err := d.find(ctx, c, where, args)
		if err != nil {
			return nil, err
		}
		for _, t := range owneds(all) {
			if owners[t.ID] == t.OwnerID {
				locked = append(locked, t)
			}
		}
	}
	return locked, nil
}

// Remove makes tenants nobody's, as [Directory.Forget] does by their owners.
func (d Directory) Remove(ctx context.Context, c sqldb.Conn, tenants []Owned) error {
	gone := make([]*found, len(tenants))
	for i, t := range tenants {
		gone[i] = &found{id: t.ID, key: t.Key}
	}
	return d.remove(ctx, c, gone)
}

func owneds(all []*found) []Owned {
	tenants := make([]Owned, len(all))
	for i, f := range all {
		tenants[i] = Owned{ID: f.id, Key: f.key, OwnerID: f.ownerID}
	}
	return tenants
}
