package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/internal/store"
)

// kind is the type of a column, as Postgres calls it.
func kind[T any](c store.Column[T]) string {
	switch c.Values(nil).(type) {
	case [][16]byte:
		return "uuid"
	case []string:
		return "text"
	case []bool:
		return "boolean"
	case []time.Time, []*time.Time:
		return "timestamptz"
	case []book.Latencies:
		return "numeric"
	case []book.Place:
		return "tid"
	default:
		return "bigint"
	}
}

// nullable reports whether a column may be NULL.
func nullable[T any](c store.Column[T]) bool {
	switch c.Values(nil).(type) {
	case []*int64, []*time.Time:
		return true
	}
	return false
}

func names[T any](columns []store.Column[T]) string { return store.Each(columns, "@", ", ") }

// few is how many rows are written as plain values. Arrays are for more: they cost more to begin with.
const few = 4

// most is how many rows are written by one statement: to reach a text in an array is to walk those before it. On Citus that costs less than to plan
// another statement.
const most, citusMost = 128, 512

// writer writes rows of one kind.
type writer[T any] struct {
	columns []store.Column[T]
	arrays  string
	values  [few]string // of one row, of two …
}

// newWriter makes a writer of a statement, which is given the rows as a table k, and their number. Arrays are read by the
// numbers of the rows, which come as an array too: a function that returns rows, such as unnest, would keep those of each array
// by themselves. Where an array is shorter than others, its first value stands for what is missing; see shortened.
func newWriter[T any](columns []store.Column[T], statement func(k, n string) string) *writer[T] {
	numbers := fmt.Sprintf("$%d::int[]", len(columns)+1)
	fields := make([]string, len(columns))
	for i, c := range columns {
		array := fmt.Sprintf("($%d::%s[])", i+1, kind(c))
		fields[i] = array + "[i]"
		if !nullable(c) {
			fields[i] = fmt.Sprintf("coalesce(%s, %s[1])", fields[i], array)
		}
		fields[i] += " AS " + c.Name
	}
	w := &writer[T]{columns: columns, arrays: statement("(SELECT "+strings.Join(fields, ", ")+" FROM unnest("+numbers+") i) k", "cardinality("+numbers+")")}
	var plain []string
	for n := range few {
		values := make([]string, len(columns))
		for i, c := range columns {
			values[i] = fmt.Sprintf("$%d::%s", n*len(columns)+i+1, kind(c))
		}
		plain = append(plain, "("+strings.Join(values, ", ")+")")
		w.values[n] = statement("(VALUES "+strings.Join(plain, ", ")+") AS k ("+names(columns)+")", strconv.Itoa(n+1))
	}
	return w
}

// queue queues what writes rows. What the statements return is given to enter, where that is not nil.
func (w *writer[T]) queue(r *request, rows []T, enter func(sqldb.Row) error) {
	for len(rows) > 0 {
		n := min(len(rows), r.most)
		query := w.part(r, rows[:n])
		if enter != nil {
			query.Query(each(enter))
		}
		rows = rows[n:]
	}
}

func (w *writer[T]) part(r *request, rows []T) *pgx.QueuedQuery {
	n := len(rows)
	if n <= few && !r.untyped {
		args := make([]any, 0, n*len(w.columns))
		for _, row := range rows {
			for _, c := range w.columns {
				args = append(args, single(c.Value(row)))
			}
		}
		return r.Queue(w.values[n-1], args...)
	}
	args := make([]any, 0, len(w.columns)+1)
	for _, c := range w.columns {
		args = append(args, shortened(c.Values(rows)))
	}
	return r.Queue(w.arrays, append(args, counted(n))...)
}

// writers write rows of one kind, those that are plain with a statement of their own.
type writers[T any] struct {
	table      *store.Table[T]
	all, brief *writer[T]
}

// newWriters makes them of a statement, which is given the columns that it sets, the rows as a table k, and their number.
func newWriters[T any](t store.Table[T], statement func(set []store.Column[T], k, n string) string) *writers[T] {
	of := func(set []store.Column[T]) *writer[T] {
		return newWriter(slices.Concat(t.Key, set), func(k, n string) string { return statement(set, k, n) })
	}
	w := &writers[T]{table: &t, all: of(t.Set)}
	if t.Brief != nil {
		w.brief = of(t.Brief)
	}
	return w
}

func (w *writers[T]) queue(r *request, rows []T) {
	plain, others := w.table.Split(rows)
	if len(plain) > 0 {
		w.brief.queue(r, plain, nil)
	}
	w.all.queue(r, others, nil)
}

var (
	inserts = newWriters(store.Inserted, inserting)
	wholes  = newWriters(store.Whole, inserting)

	// A settled execution is never written again, whoever comes late: the division fails the transaction instead.
	updates = newWriters(store.Updated, func(set []store.Column[book.Update], k, n string) string {
		return fmt.Sprintf(`WITH `+found+`, `, k, "llm_executions", "x.tenant = k.tenant AND x.id = k.id") + updating(set, "k", n)
	})

	// Those that the batch has read are where it has read them: nobody else writes them while it has their anchor.
	placed = newWriters(inPlace(store.Updated, func(u book.Update) book.Place { return u.Place }),
		func(set []store.Column[book.Update], k, n string) string { return "WITH " + updating(set, k, n) })

	balanced = newWriter(generations(written, func(r book.BalanceRow) int64 { return next(r.Tenant) }).Columns(),
		func(k, n string) string { return writing("llm_balances", written.Key, "@ = k.@")(written.Set, k, n) })
	rebalanced = newWriter(balanced.columns,
		func(k, n string) string { return changing("llm_balances", written.Key, "@ = k.@")(written.Set, k, n) })

	// What was added to a tenant's balances, to all three of its anchor alike.
	added = newWriter(additions.Columns(), func(k, n string) string {
		set := ""
		for _, prefix := range []string{"", "day_", "month_"} {
			set += store.Each(additions.Set, ", "+prefix+"@ = t."+prefix+"@ + k.@", "")
		}
		return `WITH u AS (UPDATE llm_balances t SET written = t.written + 1` + set + ` FROM ` + k + `
				WHERE t.ctid = k.at AND t.tenant IS NOT DISTINCT FROM k.tenant AND t.written = k.written RETURNING 1)
			SELECT 1 / (count(*) = ` + n + `)::int FROM u`
	})

	entered = newWriter(store.Thresholds.Columns(), func(k, _ string) string {
		columns := names(store.Thresholds.Columns())
		return fmt.Sprintf(`INSERT INTO llm_thresholds (%s) SELECT %s FROM %s ON CONFLICT DO NOTHING RETURNING %s`,
			columns, columns, k, names(store.Thresholds.Key))
	})

	late = newWriter(store.Late.Columns(), func(k, _ string) string {
		columns := names(store.Late.Columns())
		return fmt.Sprintf(`INSERT INTO llm_usage_late (%s) SELECT %s FROM %s`, columns, columns, k)
	})

	summed = newWriters(generations(store.Summed, func(h store.Hour) int64 { return h.Generation }),
		writing("llm_usage", store.Summed.Key, "@ = t.@ + k.@"))
	resummed = newWriters(generations(store.Summed, func(h store.Hour) int64 { return h.Generation }),
		changing("llm_usage", store.Summed.Key, "@ = t.@ + k.@"))
	summedUnits = newWriters(generations(store.SummedUnits, func(h store.HourUnits) int64 { return h.Generation }),
		writing("llm_usage_units", store.SummedUnits.Key, "@ = t.@ + k.@"))

	written = store.Table[book.BalanceRow]{
		Key: store.Balances.Key,
		Set: append([]store.Column[book.BalanceRow]{
			store.NewColumn("written", func(r book.BalanceRow) int64 { return r.Tenant.Stored.Written + 1 }),
			store.NewColumn("others", func(r book.BalanceRow) int64 { return others(r.Tenant) }),
		}, store.Balances.Set...),
	}
)

// updating is the statement that ends executions which are at k.at.
func updating(set []store.Column[book.Update], k, n string) string {
	return fmt.Sprintf(`u AS (UPDATE llm_executions t SET %s FROM %s
			WHERE t.ctid = k.at AND t.id = k.id AND t.status = k.was AND t.settled_at IS NULL RETURNING 1)
		SELECT 1 / (count(*) = %s)::int FROM u`,
		strings.Replace(store.Each(set, "@ = k.@", ", "), "k.units", "nullif(k.units, '')::jsonb", 1), k, n)
}

// inPlace adds the column of the place at which rows are.
func inPlace[T any](t store.Table[T], of func(T) book.Place) store.Table[T] {
	t.Key = append([]store.Column[T]{store.NewColumn("at", of)}, t.Key...)
	return t
}

// generations adds the column of the generation that rows are to be of.
func generations[T any](t store.Table[T], of func(T) int64) store.Table[T] {
	t.Key = append([]store.Column[T]{store.NewColumn("generation", of)}, t.Key...)
	return t
}

// found is the rows k that are given, each with the place of the row of a table that it is about: of several with its key, the
// one that is there has the highest generation, and no older one is looked at. A plan cannot but look each up by the primary
// key, and go by its place then; how an UPDATE joins its rows else is up to a planner that may not know yet how large the
// table is, and an upsert locks what it finds before it writes it.
const found = `k AS MATERIALIZED (SELECT k.*, x.at FROM %[1]s LEFT JOIN LATERAL (
		SELECT x.ctid AS at FROM %[2]s x WHERE %[3]s LIMIT 1) x ON true)`

// changed is what changes the rows k that are there.
const changed = `WITH ` + found + `, u AS (UPDATE %[2]s t SET %[4]s, generation = k.generation FROM k WHERE t.ctid = k.at`

// writing is the statement that changes rows of a table that has generations, and adds those that it does not have.
func writing[T any](table string, key []store.Column[T], change string) func(set []store.Column[T], k, n string) string {
	return func(set []store.Column[T], k, _ string) string {
		return fmt.Sprintf(changed+`)
			INSERT INTO %[2]s (generation, %[5]s) SELECT generation, %[5]s FROM k WHERE at IS NULL`,
			k, table, newest(key), store.Each(set, change, ", "), names(slices.Concat(key, set)))
	}
}

// changing is the statement that changes rows of such a table that are all there.
func changing[T any](table string, key []store.Column[T], change string) func(set []store.Column[T], k, n string) string {
	return func(set []store.Column[T], k, n string) string {
		return fmt.Sprintf(changed+` RETURNING 1)
			SELECT 1 / (count(*) = %[5]s)::int FROM u`, k, table, newest(key), store.Each(set, change, ", "), n)
	}
}

// newest finds the present row of a key.
func newest[T any](key []store.Column[T]) string {
	return store.Each(key, "x.@ = k.@", " AND ") + " ORDER BY x.generation DESC"
}

// inserting is the statement that inserts executions.
func inserting[T any](set []store.Column[T], k, _ string) string {
	columns := append([]string{"tenant", "id"}, strings.Split(names(set), ", ")...)
	values := make([]string, len(columns))
	for i, name := range columns {
		switch values[i] = name; name {
		case "idempotency_key":
			values[i] = "nullif(idempotency_key, '')"
		case "tags", "units":
			values[i] = "nullif(" + name + ", '')::jsonb"
		case "parents":
			values[i] = "parents::uuid[]"
		case "corrects":
			values[i] = "nullif(corrects, '')::uuid"
		}
	}
	return fmt.Sprintf(`INSERT INTO llm_executions (%s) SELECT %s FROM %s`, strings.Join(columns, ", "), strings.Join(values, ", "), k)
}

var (
	takes = newWriter(store.Keys.Columns(), func(k, _ string) string {
		columns := names(store.Keys.Columns())
		return fmt.Sprintf(`INSERT INTO llm_idempotency (%s) SELECT %[1]s FROM %s`, columns, k)
	})
	frees = newWriter(store.Keys.Key, func(k, _ string) string {
		return fmt.Sprintf(`DELETE FROM llm_idempotency i USING %s WHERE %s`, k, store.Each(store.Keys.Key, "i.@ = k.@", " AND "))
	})
)

// write sends all effects and the commit in one round trip. A statement that fails keeps the commit from being run. What is
// to be rehearsed comes between the two.
func (s *session) write(ctx context.Context, conn *pgx.Conn, state *book.State, eff *book.Effects, rehearse func() book.Effects) error {
	batch := s.request()
	s.effects(batch, state, eff)
	if rehearse != nil {
		if err := s.send(ctx, conn, batch); err != nil {
			return err
		}
		batch = s.request()
		if eff := rehearse(); !eff.Empty() {
			batch.Queue("SAVEPOINT rehearsal")
			s.effects(batch, state, &eff)
			batch.Queue("ROLLBACK TO SAVEPOINT rehearsal")
			if err := s.send(ctx, conn, batch); err != nil {
				return fmt.Errorf("what the call will have used could not be booked: %w", err)
			}
			batch = s.request()
		}
	}
	var tag string
	batch.Queue("COMMIT").Exec(func(t pgconn.CommandTag) error { tag = t.String(); return nil })
	if err := s.send(ctx, conn, batch); err != nil {
		return err
	}
	if tag != "COMMIT" {
		return fmt.Errorf("the database answered the commit with %s", tag)
	}
	return nil
}

// effects queues what writes them.
func (s *session) effects(r *request, state *book.State, eff *book.Effects) {
	here, elsewhere := part(eff.Update, func(u book.Update) bool { return u.Place != book.Place{} })
	placed.queue(r, here) // what ends comes before what begins: it may free an idempotency key
	updates.queue(r, elsewhere)
	frees.queue(r, store.Freed(eff), nil)
	inserts.queue(r, store.Begun(eff))
	wholes.queue(r, store.Over(eff))
	takes.queue(r, store.Taken(eff), nil)
	s.hours = store.Hours(s.hours, eff)
	hours := s.hours
	sums, balances := split(rows(state, eff.Balances, hours))
	added.queue(r, sums, nil)
	if s.manner.apart {
		var stored []book.BalanceRow
		stored, balances = part(balances, func(b book.BalanceRow) bool { return !b.New })
		rebalanced.queue(r, stored, nil)
		var there []store.Hour
		there, hours = part(hours, s.present.has)
		resummed.queue(r, there)
	}
	balanced.queue(r, balances, nil)
	summed.queue(r, hours)
	summedUnits.queue(r, store.Units(s.hours))
	late.queue(r, eff.Late, nil)
	entered.queue(r, eff.Thresholds, func(row sqldb.Row) error { return first(row, eff.Thresholds) })
}

// part returns the rows of which something is so, and the others.
func part[T any](rows []T, so func(T) bool) (those, others []T) {
	if !slices.ContainsFunc(rows, func(row T) bool { return !so(row) }) {
		return rows, nil
	}
	for _, row := range rows {
		if so(row) {
			those = append(those, row)
		} else {
			others = append(others, row)
		}
	}
	return those, others
}

// first marks the threshold that a row was entered for.
func first(row sqldb.Row, thresholds []*book.Threshold) error {
	var (
		tenant                       book.ID
		window, agent, model, metric string
		amount, percent              int64
		start                        time.Time
	)
	if err := row.Scan(idTarget{&tenant}, &window, &agent, &model, &metric, &amount, instant{&start}, &percent); err != nil {
		return err
	}
	for _, t := range thresholds {
		if t.Tenant == tenant && t.Window.String() == window && t.Agent == agent && t.Model == model && t.Limit.Counts() == metric &&
			t.Max == amount && t.Start.Equal(start) && t.Percent == percent {
			t.First = true
		}
	}
	return nil
}
