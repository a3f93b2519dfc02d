package books

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/llmtenant/tenant/internal/sqldb"
)

// Tags that are rolled up are folded like the dimensions of the roll-up, but from the executions: nobody who books a call writes
// anything for them. How many values of a tag are told apart is bounded; llm_usage_values has those that are, and the others
// are Other. What pruned executions add up to keeps the values of these tags.

const (
	// MaxTagValues is how many values of a tag are told apart.
	MaxTagValues = 1000

	// Other is the value of a tag that has too many.
	Other = "other"
)

// tagValues are the values of a tag that are told apart.
type tagValues map[string]bool

// named is how a value is called.
func (v tagValues) named(value string) string {
	if value == "" || v[value] || len(v) < MaxTagValues {
		return value
	}
	return Other
}

func (b Books) tagValues(ctx context.Context, tag string) (tagValues, error) {
	values := tagValues{}
	err := b.query(ctx)(b.Bind(`SELECT value FROM llm_usage_values WHERE tag = ?`), []any{tag}, func(row sqldb.Row) error {
		var value string
		err := row.Scan(&value)
		values[value] = true
		return err
	})
	return values, err
}

// valuesOf are the values of a record's tag that are told apart. Those that are new in some days, whose calls an answer adds up, are told
// apart from now on, as long as there is room.
func (f *folder) valuesOf(ctx context.Context, r *record, days *answer, start, end time.Time) (tagValues, error) {
	if r.tag == "" {
		return nil, nil
	}
	values, err := f.tagValues(ctx, r.tag)
	if err != nil || len(values) >= MaxTagValues {
		return values, err
	}
	var found []string
	if err := sqldb.List(ctx, f.Conn, &found, f.Bind(`SELECT agent FROM (`+strings.Join(days.parts, " UNION ALL ")+`) x GROUP BY agent ORDER BY min(period), agent`), days.args...); err != nil {
		return nil, fmt.Errorf("the values of the tag %q from %v to %v: %w", r.tag, start, end, err)
	}
	for _, value := range found {
		if value == "" || values[value] || len(values) >= MaxTagValues {
			continue
		}
		values[value] = true
		if _, err := f.Conn.ExecContext(ctx, f.Bind(`INSERT INTO llm_usage_values (tag, value) VALUES (?, ?)`), r.tag, value); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// tag is the one that a question takes calls apart by, where that is all that it does, but for time; empty: none.
func (q *Question) tag() string {
	if len(q.By) == 1 && q.By[0].Dimension == ByTag {
		return q.By[0].Tag
	}
	return ""
}

// rolledTags are some tags, and those that are rolled up already.
func (b Books) rolledTags(ctx context.Context, tags []string) ([]string, error) {
	all := slices.Clone(tags)
	err := sqldb.List(ctx, b.Conn, &all, `SELECT DISTINCT tag FROM llm_usage_folds WHERE tag <> ''`)
	slices.Sort(all)
	return slices.Compact(all), err
}

// keptTags is an expression for the tags that pruned executions e keep, with its arguments; nameless: without their values.
func (b Books) keptTags(tags []string, nameless bool) (expression string, args []any) {
	if len(tags) == 0 {
		return "CAST(NULL AS jsonb)", nil
	}
	var pairs []string
	for _, tag := range tags {
		pairs = append(pairs, "CAST(? AS text)")
		args = append(args, tag)
		if nameless {
			pairs = append(pairs, "''")
			continue
		}
		value := "coalesce(" + b.Tag("e.tags") + ", '')"
		pairs = append(pairs, `CASE WHEN `+value+` = '' OR EXISTS (SELECT 1 FROM llm_usage_values v WHERE v.tag = ? AND v.value = `+value+`)
			OR (SELECT count(*) FROM llm_usage_values v WHERE v.tag = ?) < ? THEN `+value+` ELSE ? END`)
		args = append(args, tag, tag, tag, tag, MaxTagValues, tag, Other)
	}
	return b.Object(strings.Join(pairs, ", ")), args
}

// unnameTags takes the values of tags from what a tenant's pruned executions add up to, and has all of them told apart and folded anew.
func (b Books) unnameTags(ctx context.Context, tenant string) error {
	tags, err := b.rolledTags(ctx, nil)
	if err != nil {
		return err
	}
	if len(tags) > 0 {
		kept, args := b.keptTags(tags, true)
		if _, err := b.Conn.ExecContext(ctx, b.Bind(`UPDATE llm_pruned SET tags = `+kept+` WHERE tenant = ? AND tags IS NOT NULL`), append(args, tenant)...); err != nil {
			return err
		}
	}
	return b.tellTagsAnew(ctx)
}

// tellTagsAnew has the values of tags told apart and folded anew, from those that the calls of the place have.
func (b Books) tellTagsAnew(ctx context.Context) error {
	for _, statement := range []string{
		`UPDATE llm_usage_folds SET version = version + 1 WHERE window_unit = 'total'`, `DELETE FROM llm_usage_folds WHERE tag <> ''`,
		`DELETE FROM llm_usage_windows WHERE tag <> ''`, `DELETE FROM llm_usage_values`,
	} {
		if _, err := b.Conn.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}
