package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
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

// writer writes rows of one kind with one statement.
type writer[T any] struct {
	columns []store.Column[T]
	arrays  string
	values  [few]string // of one row, of two …
}

// newWriter makes a writer of a statement, which is given the rows as a table k, and their number. Where an array is shorter
// than others, its first value stands for what is missing; see shortened.
func newWriter[T any](columns []store.Column[T], statement func(k, n string) string) *writer[T] {
	table := func(rows string) string { return rows + " AS k (" + names(columns) + ")" }
	arrays, fields, lengths := make([]string, len(columns)), make([]string, len(columns)), make([]string, len(columns))
	for i, c := range columns {
		arrays[i] = fmt.Sprintf("$%d::%s[]", i+1, kind(c))
		fields[i], lengths[i] = c.Name, fmt.Sprintf("cardinality(%s)", arrays[i])
		if !nullable(c) {
			fields[i] = fmt.Sprintf("coalesce(k.%s, (%s)[1]) AS %[1]s", c.Name, arrays[i])
		}
	}
	rows := "(SELECT " + strings.Join(fields, ", ") + " FROM " + table("unnest("+strings.Join(arrays, ", ")+")") + ") k"
	w := &writer[T]{columns: columns, arrays: statement(rows, "greatest("+strings.Join(lengths, ", ")+")")}
	var plain []string
	for n := range few {
		values := make([]string, len(columns))
		for i, c := range columns {
			values[i] = fmt.Sprintf("$%d::%s", n*len(columns)+i+1, kind(c))
		}
		plain = append(plain, "("+strings.Join(values, ", ")+")")
		w.values[n] = statement(table("(VALUES "+strings.Join(plain, ", ")+")"), strconv.Itoa(n+1))
	}
	return w
}

func (w *writer[T]) queue(r *request, rows []T) *pgx.QueuedQuery {
	switch n := len(rows); {
	case n == 0:
		return nil
	case n <= few && !r.untyped:
		args := make([]any, 0, n*len(w.columns))
		for _, row := range rows {
			for _, c := range w.columns {
				args = append(args, c.Value(row))
			}
		}
		return r.Queue(w.values[n-1], args...)
	default:
		args := make([]any, len(w.columns))
		for i, c := range w.columns {
			args[i] = shortened(c.Values(rows))
		}
		return r.Queue(w.arrays, args...)
	}
}

var (
	inserts = newWriter(store.Inserted.Columns(), func(k, _ string) string {
		columns := names(store.Inserted.Columns())
		return fmt.Sprintf(`INSERT INTO llm_executions (%s) SELECT %s FROM %s`, columns,
			strings.NewReplacer("idempotency_key", "nullif(idempotency_key, '')", "tags", "nullif(tags, '')::jsonb",
				"parents", "parents::uuid[]",
				"corrects", "nullif(corrects, '')::uuid").Replace(columns), k)
	})

	// A settled execution is never written again, whoever comes late: the division fails the transaction instead. It is an
	// upsert that has to find its rows, because that goes by the primary key in any case; how an UPDATE joins its rows is
	// up to a planner that may not know yet how large the table is. Two columns that are not set carry what the guard
	// needs: the status that the row must still have, and a process that no row has.
	updates = newWriter(store.Updated.Columns(), func(k, n string) string {
		return fmt.Sprintf(`WITH u AS (
				INSERT INTO llm_executions AS e (tenant, id, tenant_id, agent, process, admitted_at, deadline_at, %[1]s)
				SELECT tenant, id, '', was, '%[2]s'::uuid, 'epoch', 'epoch', %[6]s FROM %[3]s
				ON CONFLICT (tenant, id) DO UPDATE SET %[4]s WHERE e.status = excluded.agent AND e.settled_at IS NULL
				RETURNING e.process)
			SELECT 1 / (count(*) = %[5]s)::int FROM u WHERE process <> '%[2]s'::uuid`,
			names(store.Updated.Set), uuid.Max, k, store.Each(store.Updated.Set, "@ = excluded.@", ", "), n,
			strings.Replace(names(store.Updated.Set), "units", "nullif(units, '')::jsonb", 1))
	})

	balanced = newWriter(store.Balances.Columns(), func(k, _ string) string {
		columns := names(store.Balances.Columns())
		return fmt.Sprintf(`INSERT INTO llm_balances (%s) SELECT %s FROM %s ON CONFLICT (%s) DO UPDATE SET %s`,
			columns, columns, k, names(store.Balances.Key), store.Each(store.Balances.Set, "@ = excluded.@", ", "))
	})

	entered = newWriter(store.Thresholds.Columns(), func(k, _ string) string {
		columns := names(store.Thresholds.Columns())
		return fmt.Sprintf(`INSERT INTO llm_thresholds (%s) SELECT %s FROM %s ON CONFLICT DO NOTHING RETURNING %s`,
			columns, columns, k, names(store.Thresholds.Key))
	})

	summed      = newWriter(store.Summed.Columns(), adding("llm_usage", store.Summed))
	summedUnits = newWriter(store.SummedUnits.Columns(), adding("llm_usage_units", store.SummedUnits))
)

// adding is the statement that adds to the rows of a table.
func adding[T any](table string, t store.Table[T]) func(k, n string) string {
	columns := names(t.Columns())
	return func(k, _ string) string {
		return fmt.Sprintf(`INSERT INTO %[1]s (%[2]s) SELECT %[2]s FROM %[3]s ON CONFLICT (%[4]s) DO UPDATE SET %[5]s`,
			table, columns, k, names(t.Key), store.Each(t.Set, "@ = "+table+".@ + excluded.@", ", "))
	}
}

// write sends all effects and the commit in one round trip. A statement that fails keeps the commit from being run. What is
// to be rehearsed comes between the two.
func write(ctx context.Context, conn *pgx.Conn, eff *book.Effects, rehearse func() book.Effects, untyped bool) error {
	batch := &request{untyped: untyped}
	batch.effects(eff)
	if rehearse != nil {
		if err := conn.SendBatch(ctx, &batch.Batch).Close(); err != nil {
			return err
		}
		batch = &request{untyped: untyped}
		if eff := rehearse(); !eff.Empty() {
			batch.Queue("SAVEPOINT rehearsal")
			batch.effects(&eff)
			batch.Queue("ROLLBACK TO SAVEPOINT rehearsal")
			if err := conn.SendBatch(ctx, &batch.Batch).Close(); err != nil {
				return fmt.Errorf("what the call will have used could not be booked: %w", err)
			}
			batch = &request{untyped: untyped}
		}
	}
	var tag string
	batch.Queue("COMMIT").Exec(func(t pgconn.CommandTag) error { tag = t.String(); return nil })
	if err := conn.SendBatch(ctx, &batch.Batch).Close(); err != nil {
		return err
	}
	if tag != "COMMIT" {
		return fmt.Errorf("the database answered the commit with %s", tag)
	}
	return nil
}

// effects queues what writes them.
func (r *request) effects(eff *book.Effects) {
	updates.queue(r, eff.Update) // what ends comes before what begins: it may free an idempotency key
	inserts.queue(r, eff.Insert)
	updates.queue(r, store.Finished(eff))
	balanced.queue(r, eff.Balances)
	hours := store.Hours(eff)
	summed.queue(r, hours)
	summedUnits.queue(r, store.Units(hours))
	if q := entered.queue(r, eff.Thresholds); q != nil {
		q.Query(each(func(row sqldb.Row) error { return first(row, eff.Thresholds) }))
	}
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
		if t.Tenant == tenant && t.Window.String() == window && t.Agent == agent && t.Model == model && string(t.Metric) == metric &&
			t.Max == amount && t.Start.Equal(start) && t.Percent == percent {
			t.First = true
		}
	}
	return nil
}
