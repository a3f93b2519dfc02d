// Package sqldb is what the two databases differ in for plain statements, and how values stand in their columns.
package sqldb

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
	"time"

	"github.com/llmtenant/tenant/internal/book"
)

// Conn is a pool, a connection or a transaction. It is what gorm calls a ConnPool, and what *sql.DB, *sql.Conn and
// *sql.Tx have in common.
type Conn interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Dialect is what differs between the databases outside the write path.
type Dialect struct {
	Name string // as gorm and the migrations call it
	// Clock is an expression for the present: when the statement began. One that changes within a statement could not be compared with an
	// index, and Citus takes none in an UPDATE. Within a CASE or a coalesce of an UPDATE it is asked for by a subquery: Citus again.
	Clock string

	UUID string // the type of ids

	// LocksRows: rows are locked one by one. Otherwise there is one lock, on everything, and one writer at a time.
	LocksRows bool

	// Schemas: tables lie in schemas, among which a connection searches.
	Schemas bool

	// Documents: a statement can write into several tables, from a document of JSON that is one of its arguments.
	Documents bool

	// Buckets: a statement finds the period that a time is in among those that begin at the times of an array.
	Buckets bool

	// NoCounts is the counts of latencies of no call, as a value in a statement.
	NoCounts string

	numbered bool // placeholders are $1, $2, not ?
}

// The dialects.
var (
	Postgres = &Dialect{Name: "postgres", Clock: "statement_timestamp()", UUID: "uuid", LocksRows: true, Schemas: true, Documents: true, Buckets: true, NoCounts: "0", numbered: true}
	SQLite   = &Dialect{Name: "sqlite", Clock: "strftime('%Y-%m-%d %H:%M:%f000+00:00', 'now')", UUID: "text", NoCounts: "'{}'"}
)

// Of returns the dialect of a name; nil where there is none.
func Of(name string) *Dialect {
	for _, d := range []*Dialect{Postgres, SQLite} {
		if d.Name == name {
			return d
		}
	}
	return nil
}

// Bind turns the placeholders ? of a statement into those of the dialect.
func (d *Dialect) Bind(query string) string {
	if !d.numbered {
		return query
	}
	var b strings.Builder
	for n := 1; ; n++ {
		before, after, found := strings.Cut(query, "?")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteString("$" + strconv.Itoa(n))
		query = after
	}
}

// Time returns a time as an argument of a statement.
func (d *Dialect) Time(t time.Time) any {
	if d.numbered {
		return t
	}
	return Text(t)
}

// EachUnit is a piece of FROM that gives a row k for each unit of the executions e, whose columns are UnitName and
// UnitAmount.
func (d *Dialect) EachUnit() string {
	if d.numbered {
		return "CROSS JOIN LATERAL jsonb_each_text(e.units) AS k (key, value)"
	}
	return "CROSS JOIN json_each(e.units) AS k"
}

// Pieces is a piece of FROM that gives a row w for each object of a document of JSON, its argument: a time f, a time t and a
// number n.
func (d *Dialect) Pieces() string {
	if d.numbered {
		return "jsonb_to_recordset(CAST(? AS jsonb)) AS w (f timestamptz, t timestamptz, n bigint)"
	}
	return "(SELECT json_extract(value, '$.f') AS f, json_extract(value, '$.t') AS t, json_extract(value, '$.n') AS n FROM json_each(?)) AS w"
}

// OneCount is the counts of latencies of one call, which took so long; NULL: nobody knows how long.
func (d *Dialect) OneCount(column string) string {
	if d.numbered {
		return "CASE WHEN " + column + " IS NULL THEN 0 ELSE CAST('1e' || 12 * " + d.LatencyBucket(column) + " AS numeric) END"
	}
	return "CASE WHEN " + column + " IS NULL THEN '{}' ELSE '{\"' || " + d.LatencyBucket(column) + " || '\":1}' END"
}

// MergedCounts is an aggregate that adds up counts of rows of the roll-up, for CompactCounts.
func (d *Dialect) MergedCounts(column string) string {
	if d.numbered {
		return "coalesce(sum(" + column + "), 0)"
	}
	return d.SumOfCounts(column)
}

// CompactCounts is an expression that makes counts, as a row of the roll-up has them, of what MergedCounts returns.
func (d *Dialect) CompactCounts(column string) string {
	if d.numbered {
		return column
	}
	return "(SELECT json_group_object(b, n) FROM (SELECT c.key AS b, sum(c.value) AS n FROM json_each(" + column + ") AS o CROSS JOIN json_each(o.value) AS c GROUP BY c.key))"
}

// EachParent is a piece of FROM that gives a row p for each tenant above at the admission of the executions e, by the column
// Parent.
func (d *Dialect) EachParent() string {
	if d.numbered {
		return "CROSS JOIN LATERAL unnest(e.parents) AS p (id)"
	}
	return `CROSS JOIN json_each('["' || replace(trim(e.parents, '{}'), ',', '","') || '"]') AS p`
}

// Parent is the column of EachParent.
func (d *Dialect) Parent() string {
	if d.numbered {
		return "p.id"
	}
	return "p.value"
}

// Instant is a placeholder for a time in a list of columns.
func (d *Dialect) Instant() string {
	if d.numbered {
		return "CAST(? AS timestamptz)"
	}
	return "?"
}

// Tag is an expression for the value of a tag in a column of tags; NULL where it is not there. Its argument is the name.
func (d *Dialect) Tag(column string) string {
	if d.numbered {
		return column + " ->> CAST(? AS text)"
	}
	return "(SELECT k.value FROM json_each(" + column + ") AS k WHERE k.key = ?)"
}

// The columns of EachUnit.
const (
	UnitName   = "k.key"
	UnitAmount = "CAST(k.value AS bigint)"
)

// Hour is an expression for the hour, in UTC, in which a time lies.
func (d *Dialect) Hour(column string) string {
	if d.numbered {
		return truncated("hour", column)
	}
	return "substr(" + column + ", 1, 13) || ':00:00.000000+00:00'"
}

// Month is an expression for the month, in UTC, in which a time lies.
func (d *Dialect) Month(column string) string {
	if d.numbered {
		return truncated("month", column)
	}
	return "substr(" + column + ", 1, 7) || '-01 00:00:00.000000+00:00'"
}

// truncated calls no function whose result could be another one in another session, as that of date_trunc with a zone could by its declaration:
// Citus works such calls out by itself first, and says what is around them wrongly.
func truncated(to, column string) string {
	return "(date_trunc('" + to + "', " + column + " AT TIME ZONE 'UTC') AT TIME ZONE 'UTC')"
}

// Quarter is an expression for the quarter of an hour, in UTC, in which a time lies. Every time zone of today begins its days,
// and so its weeks and months, with one.
func (d *Dialect) Quarter(column string) string {
	if d.numbered {
		return "to_timestamp(floor(date_part('epoch', " + column + ") / 900) * 900)"
	}
	return "substr(" + column + ", 1, 14) || printf('%02d', CAST(substr(" + column + ", 15, 2) AS integer) / 15 * 15) || ':00.000000+00:00'"
}

// Among is the condition that an id is one of the next argument, which IDs makes.
func (d *Dialect) Among(column string) string {
	if d.numbered {
		return column + " = ANY(CAST(? AS uuid[]))"
	}
	return column + " IN (SELECT value FROM json_each(?))"
}

// JoinByID joins the row of a table that has an id: each is looked up in the index, whatever the planner expects of how many there are,
// which OFFSET 0 keeps it from joining otherwise.
func (d *Dialect) JoinByID(table, as, id string) string {
	if d.numbered {
		return "CROSS JOIN LATERAL (SELECT * FROM " + table + " " + as + " WHERE " + as + ".id = " + id + " OFFSET 0) " + as
	}
	return "JOIN " + table + " " + as + " ON " + as + ".id = " + id
}

// IDs is some ids as an argument of Among.
func (d *Dialect) IDs(ids []book.ID) string {
	texts := FormatIDs(ids)
	if d.numbered {
		return texts
	}
	if len(ids) == 0 {
		return "[]"
	}
	return `["` + strings.ReplaceAll(texts[1:len(texts)-1], ",", `","`) + `"]`
}

// NewID is an expression for an id of its own for each row.
func (d *Dialect) NewID() string {
	if d.numbered {
		return "gen_random_uuid()"
	}
	return "lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-' || hex(randomblob(2)) || '-' || hex(randomblob(2)) || '-' || hex(randomblob(6)))"
}

// Units is an expression for the column units with one unit in it.
func (d *Dialect) Units(name, amount string) string {
	if d.numbered {
		return "jsonb_build_object(" + name + ", " + amount + ")"
	}
	return "json_object(" + name + ", " + amount + ")"
}

// Object is an expression for a document of JSON with some names and texts, which follow each other.
func (d *Dialect) Object(pairs string) string {
	if d.numbered {
		return "jsonb_build_object(" + pairs + ")"
	}
	return "json_object(" + pairs + ")"
}

// LatencyBucket is an expression for the bucket of a time in microseconds; NULL where that is. See [book.Latencies].
func (d *Dialect) LatencyBucket(column string) string {
	var b strings.Builder
	if d.numbered {
		b.WriteString("width_bucket(" + column + ", CAST('{")
		for bucket := 1; bucket < book.LatencyBuckets; bucket++ {
			if bucket > 1 {
				b.WriteByte(',')
			}
			b.WriteString(strconv.FormatInt(book.LatencyBound(bucket), 10))
		}
		return b.String() + "}' AS bigint[]))"
	}
	b.WriteString("CASE WHEN " + column + " IS NULL THEN NULL")
	for bucket := 1; bucket < book.LatencyBuckets; bucket++ {
		b.WriteString(" WHEN " + column + " < " + strconv.FormatInt(book.LatencyBound(bucket), 10) + " THEN " + strconv.Itoa(bucket-1))
	}
	return b.String() + " ELSE " + strconv.Itoa(book.LatencyBuckets-1) + " END"
}

// Counts is an expression for counts of latencies that an argument has as text.
func (d *Dialect) Counts(argument string) string {
	if d.numbered {
		return "CAST(CAST(" + argument + " AS text) AS numeric)"
	}
	return argument
}

// CountsOf is an aggregate that makes counts of latencies of rows with a bucket, which may be NULL, and how many calls are in it.
// Each bucket comes once.
func (d *Dialect) CountsOf(bucket, calls string) string {
	if d.numbered {
		return "coalesce(sum(" + calls + " * CAST('1e' || 12 * " + bucket + " AS numeric)), 0)"
	}
	return "json_group_object(" + bucket + ", " + calls + ") FILTER (WHERE " + bucket + " IS NOT NULL)"
}

// SumOfCounts is an aggregate that adds up counts of latencies, as a text for [book.ParseLatencies].
func (d *Dialect) SumOfCounts(column string) string {
	if d.numbered {
		return "CAST(coalesce(sum(" + column + "), 0) AS text)"
	}
	return "'[' || coalesce(group_concat(" + column + "), '') || ']'"
}

// Below is the condition that the tenant of the next argument stands in a column of parents.
func (d *Dialect) Below(column string) string { return d.BelowThat(column, "?") }

// BelowThat is Below with an expression for the tenant.
func (d *Dialect) BelowThat(column, tenant string) string {
	if d.numbered {
		return tenant + " = ANY(" + column + ")"
	}
	return "instr(" + column + ", " + tenant + ") > 0"
}

// Present is a table of the present balances of a tenant, as b, and the condition on which they are joined: those of its highest
// generation, where the database has generations. What was before it are versions that nobody needs but open snapshots, and they are
// not looked at: the generation is a condition on an index for each tenant, which OFFSET 0 keeps a planner from joining otherwise.
func (d *Dialect) Present(tenant, condition string) string {
	if !d.LocksRows {
		return "llm_balances b ON b.tenant = " + tenant + " AND " + condition
	}
	return "LATERAL (SELECT * FROM llm_balances b WHERE b.tenant = " + tenant + " AND b.generation = " + d.Newest(tenant) + " OFFSET 0) b ON " + condition
}

// Newest is an expression for the generation of a tenant's present balances; NULL where it has none.
func (d *Dialect) Newest(tenant string) string {
	return "(SELECT g.generation FROM llm_balances g WHERE g.tenant = " + tenant + " ORDER BY g.generation DESC LIMIT 1)"
}

// Latest is the column of the generation of a row that is written over, and an expression for it: the highest that the rows of a
// table have that meet a condition. Both begin with a comma; they are empty where the database has no generations.
func (d *Dialect) Latest(table, condition string) (column, value string) {
	if !d.LocksRows {
		return "", ""
	}
	return ", generation", ", coalesce((SELECT max(generation) FROM " + table + " WHERE " + condition + "), 0)"
}

// Begin prepares a short transaction of the ledger's own: it does not wait long for a row that somebody else has locked, here or, where the
// database has Citus, on another of its nodes. It is a writer from the start, because SQLite lets no reader become one while another writes.
func (d *Dialect) Begin(ctx context.Context, c Conn, citus bool) error {
	if !d.LocksRows {
		return d.Write(ctx, c)
	}
	wait := `'2s'`
	if citus {
		// Its coordinator hands a setting on to the nodes where it is told to. Whoever writes who is who, which all of them have a copy of, stands in one line.
		if _, err := c.ExecContext(ctx, `SET LOCAL citus.propagate_set_commands = 'local'`); err != nil {
			return err
		}
		wait = `'20s'`
	}
	_, err := c.ExecContext(ctx, `SET LOCAL lock_timeout = `+wait)
	return err
}

// Write makes a transaction a writer, where that has to come before it reads. It changes nothing.
func (d *Dialect) Write(ctx context.Context, c Conn) error {
	if d.LocksRows {
		return nil
	}
	_, err := c.ExecContext(ctx, `UPDATE llm_tenants SET id = id WHERE id = ''`)
	return err
}

// Yield makes the transaction that it runs in give up soon where it meets somebody else's lock: sooner than the server
// looks for a deadlock, whose victim could be the other one.
func (d *Dialect) Yield(ctx context.Context, c Conn) error {
	if !d.LocksRows {
		return nil
	}
	_, err := c.ExecContext(ctx, `SET LOCAL lock_timeout = '100ms'`)
	return err
}
