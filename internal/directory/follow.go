package directory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/callctx"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Following makes the tenants of records that have changed follow them. Records are added some at a time, so that a
// change of very many is never in memory as a whole, and End is to come when all are. Whatever was added is of one
// moment: keys may have been swapped among the records, so that each tenant whose key changes first gives up the old
// one. It runs in the transaction of its caller, and looks at no row but those of llm_tenants.
type Following struct {
	Directory
	conn    sqldb.Conn
	moved   []move
	parked  int // how many of those have given up their keys
	log     []Change
	keys    map[string]Profile // of those that moved: whose each key is now
	strayed []Placement
	trusted []Profile // whose tenants were seen, and not looked for
}

// move is a tenant that is to be what its record says.
type move struct {
	id, was string
	renamed bool
	Profile
}

// Follow begins to make tenants follow.
func (d Directory) Follow(c sqldb.Conn) *Following {
	return &Following{Directory: d, conn: c, keys: map[string]Profile{}}
}

// Strayed are the tenants that are not where their records say.
func (f *Following) Strayed() []Placement { return f.strayed }

// Add takes records on, and returns those that have no tenant.
func (f *Following) Add(ctx context.Context, profiles []Profile) (missing []Profile, err error) {
	if tenants, ok := seen(profiles); ok && len(profiles) <= maxProfiles && f.Documents && len(f.moved) == 0 {
		f.trusted = profiles
		return f.take(ctx, profiles, tenants)
	}
	for chunk := range slices.Chunk(profiles, maxProfiles) {
		if len(f.moved) > 0 { // there are too many for one statement
			if err := f.park(ctx); err != nil {
				return nil, err
			}
		}
		absent, err := f.add(ctx, chunk)
		if err != nil {
			return nil, err
		}
		missing = append(missing, absent...)
	}
	return missing, nil
}

func (f *Following) add(ctx context.Context, profiles []Profile) (missing []Profile, err error) {
	tenants, err := f.owned(ctx, f.conn, profiles)
	if err != nil {
		return nil, err
	}
	return f.take(ctx, profiles, tenants)
}

// take compares records with their tenants.
func (f *Following) take(ctx context.Context, profiles []Profile, tenants map[owner]*found) (missing []Profile, err error) {
	var (
		hidden []any
		gone   []*found
	)
	for _, p := range profiles {
		t := tenants[owner{p.OwnerType, p.OwnerID}]
		switch {
		case t == nil:
			missing = append(missing, p)
			continue
		case p.Fresh:
			gone = append(gone, t)
			missing = append(missing, p)
			continue
		case p.Deleted:
			if !t.deleted {
				hidden = append(hidden, t.id)
				f.log = append(f.log, Change{Tenant: t.id, Key: t.key, Action: "delete", Became: state{"deleted": true}})
			}
			continue
		case p.Err != nil:
			return nil, p.Err
		case t.key != p.Key:
			if other, twice := f.keys[p.Key]; twice {
				return nil, &ConflictError{Profile: p, OtherType: other.OwnerType, OtherID: other.OwnerID}
			}
			f.keys[p.Key] = p
			f.moved = append(f.moved, move{t.id, t.key, true, p})
			f.follows(t, p)
		case t.name != p.Name || t.deleted:
			f.moved = append(f.moved, move{t.id, t.key, false, p})
			f.follows(t, p)
		}
		f.strayed = append(f.strayed, t.strays(p)...)
	}
	if err := f.update(ctx, f.conn, "deleted_at = "+f.Clock, hidden); err != nil {
		return nil, err
	}
	return missing, f.remove(ctx, f.conn, gone)
}

// park has the tenants whose keys change give up the old ones.
func (f *Following) park(ctx context.Context) error {
	var ids []any
	for _, m := range f.moved[f.parked:] {
		if m.renamed {
			ids = append(ids, m.id)
		}
	}
	f.parked = len(f.moved)
	return f.update(ctx, f.conn, "tenant_id = NULL", ids)
}

// follows notes what changes of a tenant.
func (f *Following) follows(t *found, p Profile) {
	was, became := state{}, state{}
	if t.key != p.Key {
		was["tenant_id"], became["tenant_id"] = t.key, p.Key
	}
	if t.name != p.Name {
		was["name"], became["name"] = t.name, p.Name
	}
	action := "follow"
	if t.deleted {
		action, was["deleted"], became["deleted"] = "restore", true, false
	}
	f.log = append(f.log, Change{Tenant: t.id, Key: p.Key, Action: action, Was: was, Became: became})
}

// End gives the tenants their new keys and names. A key that somebody else has is a [*ConflictError].
func (f *Following) End(ctx context.Context) error {
	if f.parked == 0 && (f.Documents && len(f.moved) > 0 || len(f.moved) == 1 && len(f.log) == 1) {
		done, err := f.atOnce(ctx)
		if err != nil || done {
			return err
		}
		if f.trusted != nil { // perhaps they are not any more what was seen
			profiles := f.trusted
			*f = Following{Directory: f.Directory, conn: f.conn, keys: map[string]Profile{}}
			if _, err := f.add(ctx, profiles); err != nil {
				return err
			}
		}
	}
	if err := f.park(ctx); err != nil {
		return err
	}
	for chunk := range slices.Chunk(f.moved, maxProfiles) {
		var renamed []Profile
		for _, m := range chunk {
			if m.renamed {
				renamed = append(renamed, m.Profile)
			}
		}
		holders, err := f.holders(ctx, f.conn, renamed)
		if err != nil {
			return err
		}
		for _, p := range renamed {
			if h := holders[p.Key]; h != nil {
				other := h.ownerID
				if h.ownerType == "" {
					other = h.id
				}
				return &ConflictError{Profile: p, OtherType: h.ownerType, OtherID: other}
			}
		}
		if err := f.write(ctx, chunk); err != nil {
			if sqldb.Taken(err) {
				return errors.Join(&ConflictError{Profile: chunk[0].Profile}, err)
			}
			return err
		}
	}
	return f.Audit(ctx, f.conn, f.log...)
}

// atOnce gives the tenants their new keys and names, and writes that down, in one round trip, if all are what they were and nobody
// has one of the keys: not even one of them that is to give it up, nor a deleted one.
func (f *Following) atOnce(ctx context.Context) (done bool, err error) {
	if len(f.moved) == 1 && len(f.log) == 1 {
		return f.alone(ctx, f.moved[0], f.log[0])
	}
	type row struct {
		ID      string `json:"id"`
		Key     string `json:"tenant_id"`
		Name    string `json:"name"`
		Was     string `json:"was"`
		Renamed bool   `json:"renamed"`
	}
	rows := make([]row, len(f.moved))
	for i, m := range f.moved {
		rows[i] = row{m.id, m.Key, m.Name, m.was, m.renamed}
	}
	moves, err := json.Marshal(rows)
	if err != nil {
		return false, err
	}
	log, err := auditDocument(f.log)
	if err != nil {
		return false, err
	}
	return f.done(ctx, followSQL, string(moves), log, callctx.Actor(ctx), callctx.Reason(ctx))
}

// alone is atOnce for one tenant: plain values cost the server less than a document.
func (f *Following) alone(ctx context.Context, m move, c Change) (bool, error) {
	if !f.Documents {
		result, err := f.conn.ExecContext(ctx, f.Bind(`UPDATE llm_tenants SET tenant_id = ?, name = ?, deleted_at = NULL, updated_at = `+f.Clock+`
			WHERE id = ? AND coalesce(tenant_id, '') = ? AND NOT EXISTS (SELECT 1 FROM llm_tenants h WHERE h.tenant_id = ? AND h.id <> ?)`),
			m.Key, m.Name, m.id, m.was, m.Key, m.id)
		if err != nil {
			return false, err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return false, err
		}
		return true, f.Audit(ctx, f.conn, c)
	}
	was, err := document(c.Was)
	if err != nil {
		return false, err
	}
	became, err := document(c.Became)
	if err != nil {
		return false, err
	}
	return f.done(ctx, followOneSQL, m.id, m.Key, m.Name, m.was, book.NewID().String(), callctx.Actor(ctx), c.Action, callctx.Reason(ctx), was, became)
}

// done runs a statement that says how many tenants it has changed: all, or none.
func (f *Following) done(ctx context.Context, statement string, args ...any) (bool, error) {
	var n []int
	err := sqldb.List(ctx, f.conn, &n, statement, args...)
	switch {
	case sqldb.Taken(err):
		return false, errors.Join(&ConflictError{Profile: f.moved[0].Profile}, err)
	case err != nil || n[0] == 0:
		return false, err
	case n[0] != len(f.moved):
		return false, fmt.Errorf("%d tenants were to follow their records, and %d were there", len(f.moved), n[0])
	}
	return true, nil
}

const followOneSQL = `WITH done AS (
		UPDATE llm_tenants SET tenant_id = $2, name = $3, deleted_at = NULL, updated_at = statement_timestamp()
		WHERE id = CAST($1 AS uuid) AND coalesce(tenant_id, '') = $4
			AND NOT EXISTS (SELECT 1 FROM llm_tenants h WHERE h.tenant_id = $2 AND h.id <> CAST($1 AS uuid))
		RETURNING id),
	log AS (
		INSERT INTO llm_audit (tenant, id, tenant_id, changed_at, actor, action, reason, was, became)
		SELECT d.id, CAST($5 AS uuid), $2, statement_timestamp(), $6, $7, $8, CAST($9 AS jsonb), CAST($10 AS jsonb) FROM done d)
	SELECT count(*) FROM done`

// Each tenant is looked up by itself, which OFFSET 0 and the array see to: a planner without statistics would read all of
// them, to join them to the few.
const followSQL = `WITH moves AS MATERIALIZED (
		SELECT * FROM jsonb_to_recordset(CAST(CAST($1 AS text) AS jsonb)) AS m (id uuid, tenant_id text, name text, was text, renamed boolean)),
	hindered AS (
		SELECT 1 FROM moves o CROSS JOIN LATERAL (
			SELECT 1 FROM llm_tenants h WHERE h.tenant_id = o.tenant_id AND h.id <> o.id OFFSET 0) h WHERE o.renamed
		UNION ALL SELECT 1 FROM moves o LEFT JOIN LATERAL (
			SELECT t.tenant_id FROM llm_tenants t WHERE t.id = o.id OFFSET 0) t ON true WHERE coalesce(t.tenant_id, '') <> o.was),
	done AS (
		UPDATE llm_tenants t SET tenant_id = (SELECT m.tenant_id FROM moves m WHERE m.id = t.id),
			name = (SELECT m.name FROM moves m WHERE m.id = t.id), deleted_at = NULL, updated_at = statement_timestamp()
		WHERE t.id = ANY (ARRAY(SELECT m.id FROM moves m)) AND NOT EXISTS (SELECT 1 FROM hindered)
		RETURNING t.id),
	log AS (
		INSERT INTO llm_audit (tenant, id, tenant_id, changed_at, actor, action, reason, was, became)
		SELECT a.tenant, a.id, a.tenant_id, statement_timestamp(), $3, a.action, $4, a.was, a.became
		FROM jsonb_to_recordset(CAST(CAST($2 AS text) AS jsonb)) AS a (tenant uuid, id uuid, tenant_id text, action text, was jsonb, became jsonb)
		WHERE EXISTS (SELECT 1 FROM done))
	SELECT count(*) FROM done`

func (f *Following) write(ctx context.Context, moves []move) error {
	row := "(CAST(? AS " + f.UUID + "), CAST(? AS text), CAST(? AS text))"
	rows := make([]string, len(moves))
	var args []any
	for i, m := range moves {
		rows[i] = row
		args = append(args, m.id, m.Key, m.Name)
	}
	_, err := f.conn.ExecContext(ctx, f.Bind(`UPDATE llm_tenants SET tenant_id = m.column2, name = m.column3, deleted_at = NULL,
		updated_at = `+f.Clock+` FROM (VALUES `+strings.Join(rows, ", ")+`) AS m WHERE llm_tenants.id = m.column1`), args...)
	return err
}

// Forget makes the tenants of records that are gone nobody's: they make no calls, have no limits, and leave their keys to
// whoever wants them. Their executions and balances stay, so that what is running can still be settled.
func (d Directory) Forget(ctx context.Context, c sqldb.Conn, ownerType string, ownerIDs []string) error {
	for chunk := range slices.Chunk(ownerIDs, maxProfiles) {
		profiles := make([]Profile, len(chunk))
		for i, id := range chunk {
			profiles[i] = Profile{OwnerType: ownerType, OwnerID: id}
		}
		tenants, err := d.owned(ctx, c, profiles)
		if err != nil {
			return err
		}
		if err := d.remove(ctx, c, slices.Collect(maps.Values(tenants))); err != nil {
			return err
		}
	}
	return nil
}

func (d Directory) remove(ctx context.Context, c sqldb.Conn, gone []*found) error {
	if len(gone) == 0 {
		return nil
	}
	ids := make([]any, len(gone))
	for i, t := range gone {
		ids[i] = t.id
	}
	if err := d.update(ctx, c, `owner_type = NULL, owner_id = NULL, deleted_at = coalesce(deleted_at, (SELECT `+d.Clock+`))`, ids); err != nil {
		return err
	}
	had, err := d.limitsOf(ctx, c, ids)
	if err != nil {
		return err
	}
	var log []Change
	for _, t := range gone {
		log = append(log, Change{Tenant: t.id, Key: t.key, Action: "remove", Was: state{"limits": had[t.id]}})
	}
	if err := d.Audit(ctx, c, log...); err != nil {
		return err
	}
	return d.update(ctx, c, "limits = '[]'", ids)
}

// Had reports whether the tenant of a record has had a key.
func (d Directory) Had(ctx context.Context, c sqldb.Conn, ownerType, ownerID, key string) (bool, error) {
	var found []int
	err := sqldb.List(ctx, c, &found, d.Bind(`SELECT 1 FROM llm_tenants t JOIN llm_audit a ON a.tenant = t.id
		WHERE t.owner_type = ? AND t.owner_id = ? AND a.action IN ('follow', 'restore') AND a.was ->> 'tenant_id' = ? LIMIT 1`), ownerType, ownerID, key)
	return len(found) > 0, err
}

// InSchema returns the owner type of the tenant that has a key, if it belongs to the record with a primary key of a table in
// any schema; else nothing.
func (d Directory) InSchema(ctx context.Context, c sqldb.Conn, table, ownerID, key string) (ownerType string, err error) {
	var found []string
	err = sqldb.List(ctx, c, &found, d.Bind(`SELECT owner_type FROM llm_tenants WHERE tenant_id = ? AND owner_id = ? AND deleted_at IS NULL`), key, ownerID)
	if err == nil && len(found) > 0 && strings.HasSuffix(found[0], "."+table) {
		return found[0], nil
	}
	return "", err
}

type owner struct{ kind, id string }

// owned returns the tenants of the owners of some profiles.
func (d Directory) owned(ctx context.Context, c sqldb.Conn, profiles []Profile) (map[owner]*found, error) {
	ids := map[string][]any{}
	for _, p := range profiles {
		if p.OwnerType != "" {
			ids[p.OwnerType] = append(ids[p.OwnerType], p.OwnerID)
		}
	}
	tenants := map[owner]*found{}
	for kind, ids := range ids {
		all, err := d.find(ctx, c, "owner_type = ? AND owner_id IN ("+sqldb.Marks(len(ids))+")", append([]any{kind}, ids...))
		if err != nil {
			return nil, err
		}
		for _, t := range all {
			tenants[owner{t.ownerType, t.ownerID}] = t
		}
	}
	return tenants, nil
}

// Renaming is what stands in the way of a rename: nothing if only From is set.
type Renaming struct {
	From, To           string // the ids of the tenants that have the two keys
	OwnerType, OwnerID string // of the first
}

// Rename gives a tenant without a record another key, which nobody may have. Its name follows where it was the key.
func (d Directory) Rename(ctx context.Context, c sqldb.Conn, from, to string) (Renaming, error) {
	var r Renaming
	all, err := d.find(ctx, c, "tenant_id IN (?, ?)", []any{from, to})
	if err != nil {
		return r, err
	}
	for _, t := range all {
		switch {
		case t.key == from && !t.deleted:
			r.From, r.OwnerType, r.OwnerID = t.id, t.ownerType, t.ownerID
		case t.key == to && t.deleted:
			if err := d.update(ctx, c, "tenant_id = NULL", []any{t.id}); err != nil {
				return r, err
			}
		}
		if t.key == to && !t.deleted {
			r.To = t.id
		}
	}
	if r.From == "" || r.To != "" || r.OwnerType != "" {
		return r, nil
	}
	result, err := c.ExecContext(ctx, d.Bind(`UPDATE llm_tenants SET tenant_id = ?, name = CASE WHEN name = ? THEN ? ELSE name END,
		updated_at = `+d.Clock+` WHERE id = ? AND tenant_id = ? AND owner_type IS NULL AND deleted_at IS NULL`), to, from, to, r.From, from)
	if err != nil {
		return r, err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return Renaming{}, err // somebody else has renamed it meanwhile
	}
	return r, d.Audit(ctx, c, Change{
		Tenant: r.From, Key: to, Action: "Rename", Was: state{"tenant_id": from}, Became: state{"tenant_id": to},
	})
}
