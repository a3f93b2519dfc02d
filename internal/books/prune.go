package books

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// What executions that are pruned together have in common, and what is added up of them. What llm_pruned keeps of them gives,
// with the executions that are left, what all executions gave before.
var (
	prunedKeys = []string{"parents", "status", "agent", "provider", "model", "billed_model", "service_tier", "estimated", "unpriced"}
	prunedSums = append([]figure{
		{"cost", "e.cost"}, {"charge", "e.charge"}, {"tokens", "e.tokens"}, {"calls", "e.calls"},
		{"timed", isTimed}, {"latency_us", "coalesce(e.latency_us, 0)"},
	}, classFigures...)
)

// booked is where sums over executions are read: the executions, and what pruned ones add up to.
var booked = func() string {
	columns := "e.tenant, e.admitted_at, e.finished_at, e.units, e." + strings.Join(prunedKeys, ", e.")
	calls, gone := columns, columns
	for _, f := range prunedSums {
		calls += ", " + f.from + " AS " + f.column
		gone += ", e." + f.column
	}
	return "(SELECT " + calls + ", NULL AS latencies, e.held_cost, e.held_charge, e.held_tokens FROM llm_executions e UNION ALL SELECT " +
		gone + ", e.latencies, 0, 0, 0 FROM llm_pruned e)"
}()

// isTimed is 1 for an execution e of which it is known how long it took.
const isTimed = "CASE WHEN e.latency_us IS NULL THEN 0 ELSE 1 END"

// Quarter is the piece of time in which pruned executions are told apart no more.
const Quarter = 15 * time.Minute

// Prune says which executions of a tenant are pruned.
type Prune struct {
	Tenant book.ID

	// Range is where they were admitted, and Before is when they had ended: one that was booked later may be corrected yet, or
	// is the correction of an earlier one. Those without a correction and those with their corrections leave at once.
	Range
	Before time.Time

	// Unsettled is up to when those were abandoned whose usage is not expected any more.
	Unsettled time.Time

	Limit int

	// Tags are those that are rolled up, whose values stay; Nameless: without the values.
	Tags     []string
	Nameless bool
}

// Pruned is what one batch has done.
type Pruned struct {
	Executions int64     // that are gone
	Last       time.Time // when the last of them was admitted; the next batch begins there
	More       bool      // there may be others
}

// Now is the database's clock.
func (b Books) Now(ctx context.Context) (now time.Time, err error) {
	err = b.query(ctx)(`SELECT `+b.Clock, nil, func(row sqldb.Row) error { return row.Scan(sqldb.Instant(&now)) })
	return now, err
}

// Bound bounds how long each statement of a transaction takes, where the database can. Elsewhere its context does.
func (b Books) Bound(ctx context.Context, d time.Duration) error {
	if !b.LocksRows {
		return nil
	}
	_, err := b.Conn.ExecContext(ctx, fmt.Sprintf(`SET LOCAL statement_timeout = %d`, d.Milliseconds()))
	return err
}

// PruneBatch replaces some executions by what they add up to. It runs in a short transaction of its caller, and locks the
// executions alone.
func (b Books) PruneBatch(ctx context.Context, p Prune) (done Pruned, err error) {
	lock := ""
	if b.LocksRows {
		lock = " FOR UPDATE OF e"
	}
	var ids []book.ID
	where, args := b.prunable(p)
	err = b.query(ctx)(b.Bind(`SELECT e.id, e.admitted_at FROM llm_executions e`+where+` ORDER BY e.admitted_at, e.id LIMIT ?`+lock), append(args, p.Limit),
		func(row sqldb.Row) error {
			var id book.ID
			err := row.Scan(&id, sqldb.Instant(&done.Last))
			ids = append(ids, id)
			return err
		})
	if err != nil || len(ids) == 0 {
		return done, err
	}
	done.More = len(ids) == p.Limit
	var corrections []book.ID
	if err := sqldb.List(ctx, b.Conn, &corrections, b.Bind(`SELECT e.id FROM llm_executions e WHERE e.tenant = ? AND `+b.Among("e.corrects")+lock),
		p.Tenant.String(), b.IDs(ids)); err != nil {
		return done, err
	}
	ids = append(ids, corrections...)
	done.Executions = int64(len(ids))
	return done, b.replace(ctx, p, ids)
}

// prunable is the condition on executions e that may leave, without their corrections, which leave with them.
func (b Books) prunable(p Prune) (where string, args []any) {
	return ` WHERE e.tenant = ? AND e.admitted_at >= ? AND e.admitted_at < ? AND ` + Ended + ` AND e.corrects IS NULL AND coalesce(e.finished_at, e.admitted_at) < ?
			AND (e.status <> 'abandoned' OR e.settled_at IS NOT NULL OR coalesce(e.finished_at, e.admitted_at) < ?)
			AND NOT EXISTS (SELECT 1 FROM llm_executions c WHERE c.tenant = e.tenant AND c.corrects = e.id AND c.finished_at >= ?)`,
		[]any{p.Tenant.String(), b.Time(p.From), b.Time(p.To), b.Time(p.Before), b.Time(p.Unsettled), b.Time(p.Before)}
}

// Prunable returns how many executions may leave, with their corrections, and with those that were released before a time.
func (b Books) Prunable(ctx context.Context, p Prune, released time.Time) (n int64, err error) {
	where, args := b.prunable(p)
	err = b.query(ctx)(b.Bind(`SELECT (SELECT count(*) FROM llm_executions e`+where+`)
			+ (SELECT count(*) FROM llm_executions k WHERE k.tenant = ? AND k.corrects IN (SELECT e.id FROM llm_executions e`+where+`))
			+ (SELECT count(*) FROM llm_executions k WHERE k.tenant = ? AND k.id < ? AND k.status = 'cancelled' AND k.admitted_at < ?)`),
		slices.Concat(args, []any{p.Tenant.String()}, args, []any{p.Tenant.String(), idAt(released).String(), b.Time(released)}),
		func(row sqldb.Row) error { return row.Scan(&n) })
	return n, err
}

// replace enters what some executions add up to, and deletes them.
func (b Books) replace(ctx context.Context, p Prune, ids []book.ID) error {
	if err := b.keepKeys(ctx, p.Tenant, ids); err != nil {
		return err
	}
	tags, err := b.rolledTags(ctx, p.Tags)
	if err != nil {
		return err
	}
	kept, named := b.keptTags(tags, p.Nameless)
	of := []any{p.Tenant.String(), b.IDs(ids)}
	const bookedAt = "CASE e.status WHEN 'adjusted' THEN e.finished_at END"
	keys := strings.Join(prunedKeys, ", ") + ", tags"
	group := []string{"e.tenant", b.Quarter("e.admitted_at"), b.Quarter(bookedAt), "e." + strings.Join(prunedKeys, ", e.") + ", e.kept"}
	head := `INSERT INTO llm_pruned (tenant, id, admitted_at, finished_at, ` + keys + `, `
	where := ` WHERE e.tenant = ? AND ` + b.Among("e.id")
	rows := ` FROM (SELECT e.*, ` + kept + ` AS kept FROM llm_executions e` + where + `) e`
	args := slices.Concat(named, of)
	var columns, inner, sums []string
	for _, f := range prunedSums {
		columns = append(columns, f.column)
		inner = append(inner, total(f.from)+" AS "+f.column)
		sums = append(sums, total(f.column))
	}
	for _, statement := range []struct {
		sql  string
		args []any
	}{
		// The inner sums are by bucket of the time that calls took; whose time nobody knows is in none.
		{head + strings.Join(columns, ", ") + `, latencies) SELECT tenant, ` + b.NewID() + `, at, booked, ` + keys + `, ` + strings.Join(sums, ", ") + `, ` + b.CountsOf("bucket", "n") + `
			FROM (SELECT e.tenant, ` + group[1] + ` AS at, ` + group[2] + ` AS booked, ` + group[3] + ` AS tags, ` + strings.Join(inner, ", ") + `, ` + b.LatencyBucket("e.latency_us") + ` AS bucket, count(*) AS n` +
			rows + ` GROUP BY ` + strings.Join(group, ", ") + `, bucket) x GROUP BY tenant, at, booked, ` + keys, args},
		{head + `units) SELECT ` + group[0] + `, ` + b.NewID() + `, ` + strings.Join(group[1:], ", ") + `, ` + b.Units(sqldb.UnitName, total(sqldb.UnitAmount)) +
			rows + ` ` + b.EachUnit() + ` WHERE e.units IS NOT NULL GROUP BY ` + strings.Join(group, ", ") + `, ` + sqldb.UnitName, args},
		{`DELETE FROM llm_executions AS e` + where, of},
	} {
		if _, err := b.Conn.ExecContext(ctx, b.Bind(statement.sql), statement.args...); err != nil {
			return err
		}
	}
	return nil
}

// PruneReleased deletes executions that were released, and so count nowhere, in the order of their ids, behind one: as many as
// there are, up to a limit. It returns how many they were and the id of the last one. They are found by their ids, which tell
// the time of the process that made them.
func (b Books) PruneReleased(ctx context.Context, tenant book.ID, before time.Time, after book.ID, limit int) (n int, last book.ID, err error) {
	var ids []book.ID
	if err := sqldb.List(ctx, b.Conn, &ids, b.Bind(`SELECT e.id FROM llm_executions e WHERE e.tenant = ? AND e.id > ? AND e.id < ?
			AND e.status = 'cancelled' AND e.admitted_at < ? ORDER BY e.id LIMIT ?`),
		tenant.String(), after.String(), idAt(before).String(), b.Time(before), limit); err != nil || len(ids) == 0 {
		return 0, after, err
	}
	_, err = b.Conn.ExecContext(ctx, b.Bind(`DELETE FROM llm_executions AS e WHERE e.tenant = ? AND e.status = 'cancelled' AND `+b.Among("e.id")),
		tenant.String(), b.IDs(ids))
	return len(ids), ids[len(ids)-1], err
}

// idAt is the least id that a process makes at a time.
func idAt(t time.Time) (id book.ID) {
	ms := max(t.UnixMilli(), 0)
	for i := range 6 {
		id[i] = byte(ms >> (8 * (5 - i)))
	}
	id[6], id[8] = 0x70, 0x80
	return id
}

// PrunedError says that a question needs calls that were pruned.
type PrunedError struct {
	At time.Time // within a quarter of an hour that a period cuts, or about when they were made
	By string    // what is not known of them; empty: when they were made, to less than the quarter of an hour
}

func (e *PrunedError) Error() string {
	at := e.At.UTC().Format(time.RFC3339Nano)
	if e.By != "" {
		return fmt.Sprintf("the calls of %s were pruned, and nobody knows any more %s", at, e.By)
	}
	return fmt.Sprintf("the calls around %s were pruned: a period can begin and end there with a quarter of an hour only", at)
}

// whole returns a [PrunedError] where a range of calls that was added up cuts what pruned ones add up to. It looks after the
// sums: what is pruned in between is then refused, and never answered wrongly.
func (b Books) whole(ctx context.Context, c Calls) error {
	return b.uncut(ctx, []time.Time{c.From, c.To}, Question{Tenant: c.Tenant, Alone: c.Alone})
}

// known is whole for a question.
func (b Books) known(ctx context.Context, q Question) error {
	for _, s := range q.Spans {
		if err := b.uncut(ctx, append([]time.Time{s.From, s.To}, s.Periods...), q); err != nil {
			return err
		}
	}
	for _, g := range q.By {
		by, lost, args := "", "", []any(nil)
		switch g.Dimension {
		case ByActor:
			by = "who acted"
		case ByTag:
			by = fmt.Sprintf("what their tag %q was", g.Tag)
			lost, args = b.Tag("tags")+" IS NULL", []any{g.Tag}
		default:
			continue
		}
		for _, s := range q.Spans {
			if at, err := b.prunedIn(ctx, s.Range, q, lost, args...); err != nil || !at.IsZero() {
				return cmp.Or(err, error(&PrunedError{At: at, By: by}))
			}
		}
	}
	return nil
}

// uncut returns a [PrunedError] for the first of some times that cuts what pruned calls of a question add up to.
func (b Books) uncut(ctx context.Context, times []time.Time, q Question) error {
	for _, at := range times {
		at = Admission(at)
		quarter := at.Truncate(Quarter)
		if at.Equal(quarter) {
			continue
		}
		if cut, err := b.prunedIn(ctx, Range{quarter, quarter.Add(Quarter)}, q, ""); err != nil || !cut.IsZero() {
			return cmp.Or(err, error(&PrunedError{At: at}))
		}
	}
	return nil
}

// prunedIn returns when some calls of a range were made that were pruned, and meet a condition; zero for none.
func (b Books) prunedIn(ctx context.Context, r Range, q Question, condition string, of ...any) (at time.Time, err error) {
	where, args := "admitted_at >= ? AND admitted_at < ?", []any{b.Time(r.From), b.Time(r.To)}
	switch {
	case q.Everybody:
	case q.Alone:
		where, args = where+" AND tenant = ?", append(args, q.Tenant.String())
	default:
		where += " AND (tenant = ? OR parents <> '{}' AND " + b.Below("parents") + ")"
		args = append(args, q.Tenant.String(), q.Tenant.String())
	}
	if condition != "" {
		where, args = where+" AND ("+condition+")", append(args, of...)
	}
	err = b.query(ctx)(b.Bind(`SELECT admitted_at FROM llm_pruned WHERE `+where+` LIMIT 1`), args,
		func(row sqldb.Row) error { return row.Scan(sqldb.Instant(&at)) })
	return at, err
}

// PrunedCalls returns how many calls of a tenant in a range were pruned.
func (b Books) PrunedCalls(ctx context.Context, tenant book.ID, r Range) (n int64, err error) {
	err = b.query(ctx)(b.Bind(`SELECT `+total("calls")+` FROM llm_pruned WHERE tenant = ? AND admitted_at >= ? AND admitted_at < ?`),
		[]any{tenant.String(), b.Time(r.From.Truncate(Quarter)), b.Time(r.To)}, func(row sqldb.Row) error { return row.Scan(&n) })
	return n, err
}

// PrunedTo returns the end of the time whose calls of a tenant were pruned; zero where none were.
func (b Books) PrunedTo(ctx context.Context, tenant book.ID) (to time.Time, err error) {
	err = b.query(ctx)(b.Bind(`SELECT max(admitted_at) FROM llm_pruned WHERE tenant = ?`), []any{tenant.String()},
		func(row sqldb.Row) error { return row.Scan(sqldb.Instant(&to)) })
	if !to.IsZero() {
		to = to.Add(Quarter)
	}
	return to, err
}

// AnyPruned reports whether calls of anybody were pruned.
func (b Books) AnyPruned(ctx context.Context) (found bool, err error) {
	err = b.query(ctx)(`SELECT 1 FROM llm_pruned LIMIT 1`, nil, func(sqldb.Row) error { found = true; return nil })
	return found, err
}
