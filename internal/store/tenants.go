package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/llmtenant/tenant/internal/book"
)

// Profile is who a tenant is to be, and the settings that it gets when it is made.
type Profile struct {
	Key, Name          string
	OwnerType, OwnerID string // empty for a tenant without a record
	Enforcement        book.Enforcement
	Inherit            bool
	Limits             []book.Limit
}

// ConflictError says that a key belongs to somebody else.
type ConflictError struct {
	Profile            Profile
	OtherType, OtherID string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("the tenant id %q of %s %s belongs to %s %s", e.Profile.Key, e.Profile.OwnerType, e.Profile.OwnerID, e.OtherType, e.OtherID)
}

// maxProfiles bounds the parameters of one statement; maxRaces how often a tenant is found made by somebody else.
const (
	maxProfiles = 200
	maxRaces    = 3
)

// Ensure makes the tenants of some profiles follow: it makes those that are missing, with their settings and balances,
// gives a record's tenant its present key and name, and gives a tenant that was known by its key alone to the record
// that has this key. It never gives one record's tenant to another. It runs in the transaction of its caller.
func (d *Dialect) Ensure(ctx context.Context, c Conn, profiles []Profile) error {
	for chunk := range slices.Chunk(profiles, maxProfiles) {
		missing := chunk
		for race := 0; len(missing) > 0; race++ {
			if race == maxRaces {
				return fmt.Errorf("tenant %q is being made by somebody else, and cannot be seen yet", missing[0].Key)
			}
			var err error
			if missing, err = d.follow(ctx, c, missing); err != nil {
				return err
			}
			if missing, err = d.create(ctx, c, missing); err != nil {
				return err
			}
		}
	}
	return nil
}

type found struct{ id, key, name, ownerType, ownerID string }

// follow updates the tenants that are there, and returns the profiles of those that are not.
func (d *Dialect) follow(ctx context.Context, c Conn, profiles []Profile) (missing []Profile, err error) {
	byKey, byOwner, err := d.find(ctx, c, profiles)
	if err != nil {
		return nil, err
	}
	for _, p := range profiles {
		mine, holder := byOwner[owner{p.OwnerType, p.OwnerID}], byKey[p.Key]
		if p.OwnerType == "" {
			mine = holder // a key alone is content with whoever has it
		}
		switch {
		case mine != nil && (p.OwnerType == "" || mine.key == p.Key && mine.name == p.Name):
		case holder != nil && holder != mine && holder.ownerType != "":
			return nil, &ConflictError{Profile: p, OtherType: holder.ownerType, OtherID: holder.ownerID}
		case mine != nil && holder != nil && holder != mine:
			return nil, &ConflictError{Profile: p, OtherType: "a tenant without a record,", OtherID: holder.id}
		case mine != nil:
			if err := d.rename(ctx, c, mine.id, p); err != nil {
				return nil, err
			}
		case holder != nil:
			if err := d.adopt(ctx, c, holder.id, p); err != nil {
				return nil, err
			}
		default:
			missing = append(missing, p)
		}
	}
	return missing, nil
}

type owner struct{ kind, id string }

func (d *Dialect) find(ctx context.Context, c Conn, profiles []Profile) (map[string]*found, map[owner]*found, error) {
	var args []any
	for _, p := range profiles {
		args = append(args, p.Key)
	}
	where := "tenant_id IN (" + marks(len(args)) + ")"
	for kind, ids := range owners(profiles) {
		where += " OR (owner_type = ? AND owner_id IN (" + marks(len(ids)) + "))"
		args = append(append(args, kind), ids...)
	}
	rows, err := c.QueryContext(ctx, d.Bind(`SELECT id, coalesce(tenant_id, ''), name, coalesce(owner_type, ''), coalesce(owner_id, '')
		FROM llm_tenants WHERE `+where), args...)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = rows.Close() }()
	byKey, byOwner := map[string]*found{}, map[owner]*found{}
	for rows.Next() {
		var f found
		if err := rows.Scan(&f.id, &f.key, &f.name, &f.ownerType, &f.ownerID); err != nil {
			return nil, nil, err
		}
		byKey[f.key] = &f
		if f.ownerType != "" {
			byOwner[owner{f.ownerType, f.ownerID}] = &f
		}
	}
	return byKey, byOwner, rows.Err()
}

func owners(profiles []Profile) map[string][]any {
	ids := map[string][]any{}
	for _, p := range profiles {
		if p.OwnerType != "" {
			ids[p.OwnerType] = append(ids[p.OwnerType], p.OwnerID)
		}
	}
	return ids
}

func (d *Dialect) rename(ctx context.Context, c Conn, id string, p Profile) error {
	_, err := c.ExecContext(ctx, d.Bind(`UPDATE llm_tenants SET tenant_id = ?, name = ?, updated_at = `+d.Clock+` WHERE id = ?`),
		p.Key, p.Name, id)
	return err
}

// adopt gives a tenant that has no record to one. What was set for it by hand stays; what was not is as declared.
func (d *Dialect) adopt(ctx context.Context, c Conn, id string, p Profile) error {
	result, err := c.ExecContext(ctx, d.Bind(`UPDATE llm_tenants SET owner_type = ?, owner_id = ?, name = ?,
			enforcement = CASE enforcement WHEN '' THEN ? ELSE enforcement END, updated_at = `+d.Clock+`
		WHERE id = ? AND owner_type IS NULL`), p.OwnerType, p.OwnerID, p.Name, string(p.Enforcement), id)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return errors.Join(err, &ConflictError{Profile: p, OtherType: "another record", OtherID: "(just now)"})
	}
	return d.limits(ctx, c, []string{id}, [][]book.Limit{p.Limits})
}

// create makes tenants, and returns the profiles of those that somebody else has made meanwhile.
func (d *Dialect) create(ctx context.Context, c Conn, profiles []Profile) (raced []Profile, err error) {
	if len(profiles) == 0 {
		return nil, nil
	}
	byID := map[string]Profile{}
	var (
		values []string
		args   []any
	)
	for _, p := range profiles {
		id := book.NewID()
		byID[id.String()] = p
		values = append(values, "(?, ?, ?, ?, ?, ?, ?)")
		args = append(args, id.String(), p.Key, p.Name, nullable(p.OwnerType), nullable(p.OwnerID), string(p.Enforcement), p.Inherit)
	}
	rows, err := c.QueryContext(ctx, d.Bind(`INSERT INTO llm_tenants (id, tenant_id, name, owner_type, owner_id, enforcement, inherit)
		VALUES `+strings.Join(values, ", ")+` ON CONFLICT DO NOTHING RETURNING id`), args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var (
		ids    []string
		limits [][]book.Limit
	)
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids, limits = append(ids, id), append(limits, byID[id].Limits)
		delete(byID, id)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	for _, p := range byID {
		raced = append(raced, p)
	}
	if err := d.balances(ctx, c, ids); err != nil {
		return nil, err
	}
	return raced, d.limits(ctx, c, ids, limits)
}

// balances gives new tenants the balances that every tenant has.
func (d *Dialect) balances(ctx context.Context, c Conn, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	var (
		values []string
		args   []any
	)
	for _, id := range ids {
		values = append(values, "(?, 'total', NULL)")
		args = append(args, id)
	}
	if _, err := c.ExecContext(ctx, d.Bind(`INSERT INTO llm_balances (tenant, window_unit, window_end) VALUES `+
		strings.Join(values, ", ")), args...); err != nil {
		return err
	}
	values, args = nil, nil
	for _, id := range ids {
		for _, s := range book.Standing[1:] {
			values = append(values, "(?, ?)")
			args = append(args, id, s.Window.String())
		}
	}
	_, err := c.ExecContext(ctx, d.Bind(`INSERT INTO llm_balances (tenant, window_unit) VALUES `+strings.Join(values, ", ")), args...)
	return err
}

// limits gives tenants limits, where they do not have the same ones yet.
func (d *Dialect) limits(ctx context.Context, c Conn, ids []string, limits [][]book.Limit) error {
	var (
		values []string
		args   []any
	)
	for i, id := range ids {
		for _, l := range limits[i] {
			values = append(values, "(?, ?, ?, ?, ?, ?)")
			args = append(args, id, l.Window.String(), l.Agent, l.Model, string(l.Metric), l.Max)
		}
	}
	if len(values) == 0 {
		return nil
	}
	_, err := c.ExecContext(ctx, d.Bind(`INSERT INTO llm_limits (tenant, window_unit, agent, model, metric, amount) VALUES `+
		strings.Join(values, ", ")+` ON CONFLICT DO NOTHING`), args...)
	return err
}

// MakeRoot makes the tenant that stands above all others, where it is not there yet.
func (d *Dialect) MakeRoot(ctx context.Context, c Conn, key string) error {
	id := book.Root.String()
	result, err := c.ExecContext(ctx, d.Bind(`INSERT INTO llm_tenants (id, tenant_id, name, inherit) VALUES (?, ?, 'all tenants', ?)
		ON CONFLICT (id) DO NOTHING`), id, key, false)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return err
	}
	return d.balances(ctx, c, []string{id})
}

// SaveSettings writes the settings of the ledger's defaults or of its root, each that is given.
func (d *Dialect) SaveSettings(ctx context.Context, c Conn, who book.ID, limits []book.Limit, setLimits bool, e book.Enforcement) error {
	id := who.String()
	if _, err := c.ExecContext(ctx, d.Bind(`INSERT INTO llm_tenants (id, enforcement) VALUES (?, ?) ON CONFLICT (id) DO UPDATE
		SET enforcement = CASE excluded.enforcement WHEN '' THEN llm_tenants.enforcement ELSE excluded.enforcement END,
			updated_at = `+d.Clock), id, string(e)); err != nil {
		return err
	}
	if !setLimits {
		return nil
	}
	if _, err := c.ExecContext(ctx, d.Bind(`DELETE FROM llm_limits WHERE tenant = ? AND topup = ''`), id); err != nil {
		return err
	}
	return d.limits(ctx, c, []string{id}, [][]book.Limit{limits})
}

// Begin prepares a short transaction of the ledger's own: it does not wait long for a row that somebody else has locked,
// and is a writer from the start, because SQLite lets no reader become one while another writes.
func (d *Dialect) Begin(ctx context.Context, c Conn) error {
	statement := `SET LOCAL lock_timeout = '2s'`
	if !d.numbered {
		statement = `UPDATE llm_tenants SET id = id WHERE id = ''`
	}
	_, err := c.ExecContext(ctx, statement)
	return err
}

func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }

func nullable(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }
