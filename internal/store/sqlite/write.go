package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/store"
)

// statement writes one row at a time.
type statement[T any] struct {
	sql     string
	columns []store.Column[T] // its parameters
	missing error             // of a row that was not written
	wrote   func(row T, rows int64)
}

var (
	insertExecution = statement[*book.Execution]{
		sql: fmt.Sprintf(`INSERT INTO llm_executions (%s) VALUES (%s)`,
			store.Each(store.Inserted.Columns(), "@", ", "), placeholders(store.Inserted.Columns(), "idempotency_key", "tags", "corrects")),
		columns: store.Inserted.Columns(),
	}

	// A settled execution is never written again, whoever comes late.
	updateExecution = statement[book.Update]{
		sql: fmt.Sprintf(`UPDATE llm_executions SET %s WHERE tenant = ? AND id = ? AND status = ? AND settled_at IS NULL`,
			store.Each(store.Updated.Set, "@ = ?", ", ")),
		columns: append(store.Updated.Set[:len(store.Updated.Set):len(store.Updated.Set)], store.Updated.Key...),
		missing: errMoved,
	}

	writeBalance = statement[book.BalanceRow]{
		sql: fmt.Sprintf(`INSERT INTO llm_balances (%s) VALUES (%s) ON CONFLICT (%s) DO UPDATE SET %s`,
			store.Each(store.Balances.Columns(), "@", ", "), placeholders(store.Balances.Columns()),
			store.Each(store.Balances.Key, "@", ", "), store.Each(store.Balances.Set, "@ = excluded.@", ", ")),
		columns: store.Balances.Columns(),
	}

	// Whether it was there before is seen from the number of rows.
	enterThreshold = statement[*book.Threshold]{
		sql: fmt.Sprintf(`INSERT INTO llm_thresholds (%s) VALUES (%s) ON CONFLICT DO NOTHING`,
			store.Each(store.Thresholds.Columns(), "@", ", "), placeholders(store.Thresholds.Columns())),
		columns: store.Thresholds.Columns(),
		wrote:   func(t *book.Threshold, n int64) { t.First = n > 0 },
	}

	// A sum that does not fit into 64 bits would silently become a floating-point number.
	addHour = statement[store.Hour]{
		sql: fmt.Sprintf(`INSERT INTO llm_usage (%s) VALUES (%s) ON CONFLICT (%s) DO UPDATE SET %s WHERE %s`,
			store.Each(store.Summed.Columns(), "@", ", "), placeholders(store.Summed.Columns()),
			store.Each(store.Summed.Key, "@", ", "), store.Each(store.Summed.Set, "@ = llm_usage.@ + excluded.@", ", "),
			store.Each(store.Summed.Set, "typeof(llm_usage.@ + excluded.@) = 'integer'", " AND ")),
		columns: store.Summed.Columns(),
		missing: errOverflow,
	}
)

// placeholders is the parameters of an INSERT. Empty values of the nullable columns become NULL.
func placeholders[T any](columns []store.Column[T], nullable ...string) string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = "?"
		for _, name := range nullable {
			if c.Name == name {
				out[i] = "nullif(?, '')"
			}
		}
	}
	return strings.Join(out, ", ")
}

// write writes all effects. What ends comes before what begins: it may free an idempotency key.
func write(ctx context.Context, conn *sql.Conn, eff *book.Effects) error {
	if err := updateExecution.run(ctx, conn, eff.Update); err != nil {
		return err
	}
	if err := insertExecution.run(ctx, conn, eff.Insert); err != nil {
		return err
	}
	if err := updateExecution.run(ctx, conn, store.Finished(eff)); err != nil {
		return err
	}
	if err := writeBalance.run(ctx, conn, eff.Balances); err != nil {
		return err
	}
	if err := enterThreshold.run(ctx, conn, eff.Thresholds); err != nil {
		return err
	}
	return addHour.run(ctx, conn, store.Hours(eff))
}

func (s *statement[T]) run(ctx context.Context, conn *sql.Conn, rows []T) error {
	if len(rows) == 0 {
		return nil
	}
	prepared, err := conn.PrepareContext(ctx, s.sql)
	if err != nil {
		return err
	}
	defer func() { _ = prepared.Close() }()
	args := make([]any, len(s.columns))
	for _, row := range rows {
		for i, c := range s.columns {
			args[i] = bind(c.Value(row))
		}
		result, err := prepared.ExecContext(ctx, args...)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return err
		}
		if s.missing != nil && n != 1 {
			return s.missing
		}
		if s.wrote != nil {
			s.wrote(row, n)
		}
	}
	return nil
}

// bind is a value as it is stored.
func bind(value any) any {
	switch v := value.(type) {
	case [16]byte:
		return uuid.UUID(v).String()
	case time.Time:
		return store.Text(v)
	case *time.Time:
		if v == nil {
			return nil
		}
		return store.Text(*v)
	case *int64:
		if v == nil {
			return nil
		}
		return *v
	}
	return value
}
