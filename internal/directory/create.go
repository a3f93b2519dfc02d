package directory

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// create makes tenants, and returns the profiles of those whose key or record has one already.
func (d Directory) create(ctx context.Context, c sqldb.Conn, profiles []Profile) (taken []Profile, err error) {
	profiles = slices.DeleteFunc(slices.Clone(profiles), func(p Profile) bool { return p.Deleted })
	for _, p := range profiles {
		if p.Err != nil {
			return nil, p.Err
		}
		if depth := len(p.Chain) + 1; depth > book.MaxDepth {
			return nil, &PlaceError{fmt.Sprintf("tenant %q: %s", p.Key, tooDeep(depth))}
		}
	}
	for len(profiles) > 0 {
		n := 1
		for n < len(profiles) && n < d.made() && slices.Equal(profiles[n].Limits, profiles[0].Limits) {
			n++
		}
		more, err := d.createAlike(ctx, c, profiles[:n])
		if err != nil {
			return nil, err
		}
		taken, profiles = append(taken, more...), profiles[n:]
	}
	return taken, nil
}

// made is how many tenants are made in one statement. PostgreSQL gets them as arrays.
func (d Directory) made() int {
	if d.Documents {
		return 10 * maxProfiles
	}
	return maxProfiles
}

// createAlike makes tenants with the same limits.
func (d Directory) createAlike(ctx context.Context, c sqldb.Conn, profiles []Profile) (taken []Profile, err error) {
	byID := map[string]Profile{}
	ids := make([]string, len(profiles))
	for i, p := range profiles {
		ids[i] = book.NewID().String()
		byID[ids[i]] = p
	}
	statement, args := d.creation(ids, profiles)
	var made []string
	if err := sqldb.List(ctx, c, &made, statement, args...); err != nil {
		return nil, err
	}
	for _, id := range made {
		delete(byID, id)
	}
	for _, id := range ids {
		if p, ok := byID[id]; ok {
			taken = append(taken, p)
		}
	}
	if d.Documents || len(made) == 0 {
		return taken, nil
	}
	return taken, d.balances(ctx, c, made)
}

// creation is the statement that makes tenants. On PostgreSQL it makes their balances too, in one round trip, and gets many of
// them as arrays, so that it is the same statement, and prepared once, for any number.
func (d Directory) creation(ids []string, profiles []Profile) (statement string, args []any) {
	limits := sqldb.Limits{Own: profiles[0].Limits}.String()
	if d.Documents && len(profiles) > 1 {
		return createSQL, append([]any{limits}, tenantsArrays(ids, profiles)...)
	}
	values := make([]string, len(profiles))
	for i, p := range profiles {
		values[i] = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
		args = append(args, limits, ids[i], p.Key, p.Name, sqldb.Nullable(p.OwnerType), sqldb.Nullable(p.OwnerID), sqldb.Nullable(p.parent()),
			string(p.Enforcement), string(p.Counts), p.Inherit, p.Zone)
	}
	if d.Documents {
		return createOneSQL, args
	}
	return insertSQL + `VALUES ` + strings.Join(values, ", ") + ` ON CONFLICT DO NOTHING RETURNING id`, args
}

func (p *Profile) parent() string {
	if len(p.Chain) == 0 || p.Chain[0] == book.Root {
		return ""
	}
	return p.Chain[0].String()
}

const insertSQL = `INSERT INTO llm_tenants (limits, id, tenant_id, name, owner_type, owner_id, parent, enforcement, counts, inherit, time_zone)
	`

// The statements that make tenants on PostgreSQL: one, and many.
var (
	createOneSQL = created(`VALUES (CAST($1 AS jsonb), CAST($2 AS uuid), $3, $4, $5, $6, CAST($7 AS uuid), $8, $9, $10, $11)`)
	createSQL    = created(`SELECT (SELECT CAST(CAST($1 AS text) AS jsonb)), t.* FROM unnest(CAST(CAST($2 AS text) AS uuid[]), CAST(CAST($3 AS text) AS text[]), CAST(CAST($4 AS text) AS text[]),
		CAST(CAST($5 AS text) AS text[]), CAST(CAST($6 AS text) AS text[]), CAST(CAST($7 AS text) AS uuid[]), CAST(CAST($8 AS text) AS text[]),
		CAST(CAST($9 AS text) AS text[]), CAST(CAST($10 AS text) AS boolean[]), CAST(CAST($11 AS text) AS text[])) t`)
)

// created is a statement that makes tenants of some rows, with their anchors.
func created(rows string) string {
	return `WITH made AS (` + insertSQL + rows + ` ON CONFLICT DO NOTHING RETURNING id),
		balances AS (
			INSERT INTO llm_balances (tenant, window_unit, window_end) SELECT id, 'total', NULL FROM made)
		SELECT CAST(id AS text) FROM made`
}

// tenantsArrays are the columns of tenants, each as the text of an array: the server reads them in a third of the time that
// it takes for a document.
func tenantsArrays(ids []string, profiles []Profile) []any {
	var columns [10]strings.Builder
	for i := range profiles {
		p := &profiles[i]
		inherit := "f"
		if p.Inherit {
			inherit = "t"
		}
		for c, value := range [...]string{ids[i], p.Key, p.Name, p.OwnerType, p.OwnerID, p.parent(), string(p.Enforcement), string(p.Counts), inherit, p.Zone} {
			element(&columns[c], value, c >= 3 && c <= 5 && value == "")
		}
	}
	args := make([]any, len(columns))
	for c := range columns {
		columns[c].WriteByte('}')
		args[c] = columns[c].String()
	}
	return args
}

// element writes one more element of an array.
func element(array *strings.Builder, value string, null bool) {
	separator := byte(',')
	if array.Len() == 0 {
		separator = '{'
	}
	array.WriteByte(separator)
	if null {
		array.WriteString("NULL")
		return
	}
	array.WriteByte('"')
	for {
		i := strings.IndexAny(value, `"\`)
		if i < 0 {
			break
		}
		array.WriteString(value[:i])
		array.WriteByte('\\')
		array.WriteByte(value[i])
		value = value[i+1:]
	}
	array.WriteString(value)
	array.WriteByte('"')
}

// balances gives new tenants their anchors, with the balances that every tenant has.
func (d Directory) balances(ctx context.Context, c sqldb.Conn, ids []string) error {
	var (
		values []string
		args   []any
	)
	for _, id := range ids {
		values = append(values, "(?, 'total', NULL)")
		args = append(args, id)
	}
	_, err := c.ExecContext(ctx, d.Bind(`INSERT INTO llm_balances (tenant, window_unit, window_end) VALUES `+strings.Join(values, ", ")), args...)
	return err
}
