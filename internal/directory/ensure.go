// Package directory is who is who: which tenant a record or a key means, who stands above it, what has become of it, and who
// has changed it. All of it runs in the transaction of its caller.
package directory

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Directory is the tables that say who is who, of one kind of database.
type Directory struct {
	*sqldb.Dialect
	Places []string // beside the home, into which tenants are put that are made; none: they are made in the home
}

// Profile is who a tenant is to be, and the settings that it gets when it is made.
type Profile struct {
	Key, Name          string
	OwnerType, OwnerID string // empty for a tenant without a record
	Enforcement        book.Enforcement
	Counts             book.Counting
	Inherit            bool
	Zone               string
	Limits             []book.Limit

	// Parent is who stands above the tenant; nil: that is not for the record to say. Chain are the tenant that Parent is and
	// all above that, where they are known: a tenant that is made is put below them at once.
	Parent *Parent
	Chain  []book.ID

	// Err says why the record has no key that a tenant can have. It matters to a record that has a tenant, or is to get
	// one.
	Err error

	// Fresh: the record was not there before, so that a tenant of the same owner is of one that had its primary key.
	Fresh bool

	// Seen is the tenant of the record, where a statement has seen it; else it is looked for.
	Seen *Seen

	// Deleted: the record is still there but marked as deleted. Its tenant makes no calls, and leaves its key to whoever
	// wants it.
	Deleted bool
}

// ConflictError says that a key belongs to somebody else.
type ConflictError struct {
	Profile            Profile
	OtherType, OtherID string // of the record that has it; OtherType is empty if there is none
}

// Unwrap says that it is a [fault.ErrIdentityConflict].
func (e *ConflictError) Unwrap() error { return fault.ErrIdentityConflict }

func (e *ConflictError) Error() string {
	return fault.ErrIdentityConflict.Error() + ": " + e.reason() + e.wayOut()
}

// wayOut is what a host can do where the records of two tables have met.
func (e *ConflictError) wayOut() string {
	bare := func(table string) string { return table[strings.LastIndex(table, ".")+1:] }
	switch other, own := e.OtherType, e.Profile.OwnerType; {
	case other == "" || other == own:
		return ""
	case bare(other) == bare(own):
		return "; tenant ids have to differ between schemas too: let the method LLMTenantID put the schema's name before them"
	}
	return "; declare one of them WithNamespace, so that the keys of the two models cannot meet"
}

func (e *ConflictError) reason() string {
	who := "of " + e.Profile.OwnerType + " " + e.Profile.OwnerID
	switch {
	case e.OtherID == "":
		return fmt.Sprintf("the tenant id %q %s was taken by somebody else just now", e.Profile.Key, who)
	case e.OtherType == "":
		return fmt.Sprintf("the tenant id %q %s belongs to a tenant without a record, %s, and two tenants are never merged",
			e.Profile.Key, who, e.OtherID)
	}
	return fmt.Sprintf("the tenant id %q %s belongs to %s %s", e.Profile.Key, who, e.OtherType, e.OtherID)
}

// maxProfiles bounds the parameters of one statement; maxRaces how often a tenant is found made by somebody else.
const (
	maxProfiles = 200
	maxRaces    = 3
)

// Ensure makes the tenants of some profiles follow, and makes those that are missing, with their settings and balances.
// A tenant that was known by its key alone becomes that of the record that has this key. One record's tenant is never
// given to another. It returns the tenants that are not where their records say. It runs in the transaction of its caller.
func (d Directory) Ensure(ctx context.Context, c sqldb.Conn, profiles []Profile) (strayed []Placement, err error) {
	missing := profiles
	if fresh := !slices.ContainsFunc(profiles, func(p Profile) bool { return !p.Fresh }); fresh {
		// Hardly ever is there anything in the way of a new record. Not to look for it is also what keeps serializable
		// transactions apart from each other.
		if missing, err = d.create(ctx, c, profiles); err != nil {
			return nil, err
		}
	}
	for race := 0; len(missing) > 0; race++ {
		if race == maxRaces {
			return nil, fmt.Errorf("tenant %q is being made by somebody else, and cannot be seen yet", missing[0].Key)
		}
		f := d.Follow(c)
		absent, err := f.Add(ctx, missing)
		if err == nil {
			err = f.End(ctx)
		}
		if err != nil {
			return nil, err
		}
		strayed = append(strayed, f.Strayed()...)
		missing = nil
		for chunk := range slices.Chunk(absent, maxProfiles) {
			raced, adopted, err := d.claim(ctx, c, chunk)
			if err != nil {
				return nil, err
			}
			missing, strayed = append(missing, raced...), append(strayed, adopted...)
		}
	}
	return strayed, nil
}

// claim gives profiles without a tenant one, and returns those whose tenant somebody else has made meanwhile, and those that
// got a tenant that was there.
func (d Directory) claim(ctx context.Context, c sqldb.Conn, profiles []Profile) (raced []Profile, adopted []Placement, err error) {
	profiles = slices.DeleteFunc(slices.Clone(profiles), func(p Profile) bool { return p.Deleted })
	for _, p := range profiles {
		if p.Err != nil {
			return nil, nil, p.Err
		}
	}
	holders, err := d.holders(ctx, c, profiles)
	if err != nil {
		return nil, nil, err
	}
	var missing []Profile
	for _, p := range profiles {
		holder := holders[p.Key]
		switch {
		case holder == nil:
			missing = append(missing, p)
		case p.OwnerType == "": // a key alone is content with whoever has it
		case holder.ownerType == p.OwnerType && holder.ownerID == p.OwnerID:
			raced = append(raced, p)
		case holder.ownerType != "":
			return nil, nil, &ConflictError{Profile: p, OtherType: holder.ownerType, OtherID: holder.ownerID}
		default:
			if err := d.adopt(ctx, c, holder.id, p); err != nil {
				return nil, nil, err
			}
			adopted = append(adopted, holder.strays(p)...)
		}
	}
	unseen, err := d.create(ctx, c, missing)
	return append(raced, unseen...), adopted, err
}

// holders returns the tenants that have the keys of some profiles. Where it is a record that wants one, deleted tenants
// give theirs up; they are not among them.
func (d Directory) holders(ctx context.Context, c sqldb.Conn, profiles []Profile) (map[string]*found, error) {
	if len(profiles) == 0 {
		return nil, nil
	}
	args := make([]any, len(profiles))
	records := map[string]bool{}
	for i, p := range profiles {
		args[i] = p.Key
		records[p.Key] = records[p.Key] || p.OwnerType != ""
	}
	all, err := d.find(ctx, c, "tenant_id IN ("+sqldb.Marks(len(args))+")", args)
	if err != nil {
		return nil, err
	}
	byKey := map[string]*found{}
	var evicted []any
	for _, f := range all {
		if f.deleted && records[f.key] {
			evicted = append(evicted, f.id)
		} else {
			byKey[f.key] = f
		}
	}
	return byKey, d.update(ctx, c, "tenant_id = NULL", evicted)
}

type found struct {
	id, key, name, ownerType, ownerID, parent string
	parentIs                                  Parent
	deleted                                   bool
}

// strays returns where a tenant is to stand, if it stands elsewhere.
func (f *found) strays(p Profile) []Placement {
	switch {
	case p.Parent == nil, p.Deleted, p.Err != nil:
	case *p.Parent == Parent{}:
		if f.parent != "" {
			return []Placement{{ID: f.id, Key: p.Key, Was: f.parent}}
		}
	case p.Parent.Key != "" && p.Parent.Key == f.parentIs.Key:
	case p.Parent.Key == "" && p.Parent.OwnerType == f.parentIs.OwnerType && p.Parent.OwnerID == f.parentIs.OwnerID:
	default:
		return []Placement{{ID: f.id, Key: p.Key, Was: f.parent, Parent: *p.Parent}}
	}
	return nil
}

func (d Directory) find(ctx context.Context, c sqldb.Conn, where string, args []any) (all []*found, err error) {
	above := func(column string) string {
		return `coalesce((SELECT p.` + column + ` FROM llm_tenants p WHERE p.id = llm_tenants.parent), '')`
	}
	err = sqldb.EachRow(ctx, c, d.Bind(`SELECT id, coalesce(tenant_id, ''), name, coalesce(owner_type, ''), coalesce(owner_id, ''),
		coalesce(CAST(parent AS text), ''), `+above("owner_type")+`, `+above("owner_id")+`, `+above("tenant_id")+`, deleted_at IS NOT NULL
		FROM llm_tenants WHERE `+where), args, func(row sqldb.Row) error {
		var f found
		all = append(all, &f)
		return row.Scan(&f.id, &f.key, &f.name, &f.ownerType, &f.ownerID, &f.parent,
			&f.parentIs.OwnerType, &f.parentIs.OwnerID, &f.parentIs.Key, &f.deleted)
	})
	return all, err
}

// update changes the rows of some tenants.
func (d Directory) update(ctx context.Context, c sqldb.Conn, set string, ids []any) error {
	for chunk := range slices.Chunk(ids, maxProfiles) {
		if _, err := c.ExecContext(ctx, d.Bind(`UPDATE llm_tenants SET `+set+`, updated_at = `+d.Clock+
			` WHERE id IN (`+sqldb.Marks(len(chunk))+`)`), chunk...); err != nil {
			return err
		}
	}
	return nil
}

// adopt gives a tenant that has no record to one. What was set for it by hand stays; what was not is as declared.
func (d Directory) adopt(ctx context.Context, c sqldb.Conn, id string, p Profile) error {
	result, err := c.ExecContext(ctx, d.Bind(`UPDATE llm_tenants SET owner_type = ?, owner_id = ?, name = ?,
			enforcement = CASE WHEN enforcement = '' THEN ? ELSE enforcement END,
			counts = CASE WHEN counts = '' THEN ? ELSE counts END,
			time_zone = CASE WHEN time_zone = '' THEN ? ELSE time_zone END, updated_at = `+d.Clock+`
		WHERE id = ? AND owner_type IS NULL AND deleted_at IS NULL`), p.OwnerType, p.OwnerID, p.Name, string(p.Enforcement), string(p.Counts), p.Zone, id)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return errors.Join(err, &ConflictError{Profile: p})
	}
	if err := d.Audit(ctx, c, Change{
		Tenant: id, Key: p.Key, Action: "adopt", Became: state{"record": p.OwnerType + " " + p.OwnerID},
	}); err != nil {
		return err
	}
	if len(p.Limits) == 0 {
		return nil
	}
	return d.setLimits(ctx, c, id, func(had *sqldb.Limits) {
		for _, l := range p.Limits {
			if !slices.ContainsFunc(had.Own, func(own book.Limit) bool { return own.Scope == l.Scope && own.Metric == l.Metric }) {
				had.Own = append(had.Own, l)
			}
		}
	})
}

// setLimits changes the limits of a tenant whose row this transaction has written.
func (d Directory) setLimits(ctx context.Context, c sqldb.Conn, id string, change func(*sqldb.Limits)) error {
	var documents []string
	if err := sqldb.List(ctx, c, &documents, d.Bind(`SELECT CAST(limits AS text) FROM llm_tenants WHERE id = ?`), id); err != nil {
		return err
	}
	limits, err := sqldb.ParseLimits(documents[0])
	if err != nil {
		return err
	}
	change(&limits)
	_, err = c.ExecContext(ctx, d.Bind(`UPDATE llm_tenants SET limits = ? WHERE id = ?`), limits.String(), id)
	return err
}

// MakeRoot makes the tenant that stands above all others, where it is not there yet.
func (d Directory) MakeRoot(ctx context.Context, c sqldb.Conn, key string) error {
	if len(d.Places) > 0 {
		return RootInPlaces()
	}
	id := book.Root.String()
	result, err := c.ExecContext(ctx, d.Bind(`INSERT INTO llm_tenants (id, tenant_id, name, inherit) VALUES (?, ?, 'all tenants', ?)
		ON CONFLICT (id) DO NOTHING`), id, key, false)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return err
	}
	_, err = c.ExecContext(ctx, d.Bind(`INSERT INTO llm_balances (tenant, window_unit, window_end) VALUES (?, 'total', NULL)`), id)
	return err
}

// SaveSettings writes the settings of the ledger's defaults or of its root, each that is given.
func (d Directory) SaveSettings(ctx context.Context, c sqldb.Conn, who book.ID, limits []book.Limit, setLimits bool, e book.Enforcement, counts book.Counting) error {
	id := who.String()
	before, err := d.settings(ctx, c, id)
	if err != nil {
		return err
	}
	if _, err := c.ExecContext(ctx, d.Bind(`INSERT INTO llm_tenants (id, enforcement, counts, updated_at) VALUES (?, ?, ?, `+d.Clock+`) ON CONFLICT (id) DO UPDATE
		SET enforcement = CASE WHEN excluded.enforcement = '' THEN llm_tenants.enforcement ELSE excluded.enforcement END,
			counts = CASE WHEN excluded.counts = '' THEN llm_tenants.counts ELSE excluded.counts END,
			updated_at = excluded.updated_at`), id, string(e), string(counts)); err != nil {
		return err
	}
	if setLimits {
		if err := d.setLimits(ctx, c, id, func(had *sqldb.Limits) { had.Own = limits }); err != nil {
			return err
		}
	}
	after, err := d.settings(ctx, c, id)
	if err != nil || reflect.DeepEqual(before, after) {
		return err
	}
	return d.Audit(ctx, c, Change{Tenant: id, Action: "Open", Was: before, Became: after})
}

// settings are those of the ledger's defaults or of its root as the audit log has them.
func (d Directory) settings(ctx context.Context, c sqldb.Conn, id string) (state, error) {
	var enforcement, counts []string
	if err := sqldb.List(ctx, c, &enforcement, d.Bind(`SELECT enforcement FROM llm_tenants WHERE id = ?`), id); err != nil {
		return nil, err
	}
	if err := sqldb.List(ctx, c, &counts, d.Bind(`SELECT counts FROM llm_tenants WHERE id = ?`), id); err != nil {
		return nil, err
	}
	limits, err := d.limitsOf(ctx, c, []any{id})
	settings := state{"enforcement": strings.Join(enforcement, ""), "limits": limits[id]}
	if set := strings.Join(counts, ""); set != "" {
		settings["counts"] = set
	}
	return settings, err
}
