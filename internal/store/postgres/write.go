package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/store"
)

// kind is the type of a column's array, as Postgres calls it.
func kind[T any](c store.Column[T]) string {
	switch c.Values(nil).(type) {
	case [][16]byte:
		return "uuid[]"
	case []string:
		return "text[]"
	case []bool:
		return "boolean[]"
	case []time.Time, []*time.Time:
		return "timestamptz[]"
	default:
		return "bigint[]"
	}
}

// rowsOf is the arrays of the columns as a table named k, from parameter $1 on.
func rowsOf[T any](columns []store.Column[T]) string {
	arrays := make([]string, len(columns))
	for i, c := range columns {
		arrays[i] = fmt.Sprintf("$%d::%s", i+1, kind(c))
	}
	return fmt.Sprintf("unnest(%s) AS k (%s)", strings.Join(arrays, ", "), names(columns))
}

func arguments[T any](columns []store.Column[T], rows []T) []any {
	out := make([]any, len(columns))
	for i, c := range columns {
		out[i] = c.Values(rows)
	}
	return out
}

func names[T any](columns []store.Column[T]) string { return store.Each(columns, "@", ", ") }

var (
	inserted, updated = store.Inserted.Columns(), store.Updated.Columns()
	balanced, summed  = store.Balances.Columns(), store.Summed.Columns()
)

var (
	insertExecutions = fmt.Sprintf(`INSERT INTO llm_executions (%s) SELECT %s FROM %s`, names(inserted),
		strings.NewReplacer("idempotency_key", "nullif(idempotency_key, '')", "tags", "nullif(tags, '')::jsonb").
			Replace(names(inserted)),
		rowsOf(inserted))

	// A settled execution is never written again, whoever comes late: the division fails the transaction instead. It is an
	// upsert that has to find its rows, because that goes by the primary key in any case; how an UPDATE joins its rows is
	// up to a planner that may not know yet how large the table is. Two columns that are not set carry what the guard
	// needs: the status that the row must still have, and a process that no row has.
	updateExecutions = fmt.Sprintf(`WITH u AS (
			INSERT INTO llm_executions AS e (tenant, id, tenant_id, agent, process, admitted_at, deadline_at, %[1]s)
			SELECT tenant, id, '', was, '%[2]s'::uuid, 'epoch', 'epoch', %[1]s FROM %[3]s
			ON CONFLICT (tenant, id) DO UPDATE SET %[4]s WHERE e.status = excluded.agent AND e.settled_at IS NULL
			RETURNING e.process)
		SELECT 1 / (count(*) = $%[5]d)::int FROM u WHERE process <> '%[2]s'::uuid`,
		names(store.Updated.Set), uuid.Max, rowsOf(updated), store.Each(store.Updated.Set, "@ = excluded.@", ", "), len(updated)+1)

	writeBalances = fmt.Sprintf(`INSERT INTO llm_balances (%s) SELECT %s FROM %s ON CONFLICT (%s) DO UPDATE SET %s`,
		names(balanced), names(balanced), rowsOf(balanced), names(store.Balances.Key),
		store.Each(store.Balances.Set, "@ = excluded.@", ", "))

	addHours = fmt.Sprintf(`INSERT INTO llm_usage (%s) SELECT %s FROM %s ON CONFLICT (%s) DO UPDATE SET %s`,
		names(summed), names(summed), rowsOf(summed), names(store.Summed.Key),
		store.Each(store.Summed.Set, "@ = llm_usage.@ + excluded.@", ", "))
)

// write sends all effects and the commit in one round trip. A statement that fails keeps the commit from being run.
func write(ctx context.Context, conn *pgx.Conn, eff *book.Effects, untyped bool) error {
	batch := request{untyped: untyped}
	update := func(updates []book.Update) {
		if len(updates) > 0 {
			batch.Queue(updateExecutions, append(arguments(updated, updates), int64(len(updates)))...)
		}
	}
	update(eff.Update) // what ends comes before what begins: it may free an idempotency key
	if len(eff.Insert) > 0 {
		batch.Queue(insertExecutions, arguments(inserted, eff.Insert)...)
		update(store.Finished(eff))
	}
	if len(eff.Balances) > 0 {
		batch.Queue(writeBalances, arguments(balanced, eff.Balances)...)
	}
	if len(eff.Hours) > 0 {
		batch.Queue(addHours, arguments(summed, store.Hours(eff))...)
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
