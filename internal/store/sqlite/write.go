package sqlite

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/store"
)

// atOnce is how many rows one statement writes. The driver has a statement parsed anew each time, and looks for each of its
// parameters among all of them.
const atOnce = 10

// statement writes rows.
type statement[T any] struct {
	before, after string // what stands before and after the rows
	row           string // the parameters of one
	full          string // for atOnce rows
	columns       []store.Column[T]
	missing       error // of a row that was not written
	wrote         func(row T, rows int64)
}

// newStatement makes a statement of the text before and after its rows. Empty values of nullable columns become NULL.
func newStatement[T any](columns []store.Column[T], before, after string, nullable ...string) *statement[T] {
	parameters := make([]string, len(columns))
	for i, c := range columns {
		parameters[i] = "?"
		if slices.Contains(nullable, c.Name) {
			parameters[i] = "nullif(?, '')"
		}
	}
	s := &statement[T]{before: before, after: after, row: "(" + strings.Join(parameters, ", ") + ")", columns: columns}
	s.full = s.sql(atOnce)
	return s
}

func (s *statement[T]) sql(rows int) string {
	return s.before + strings.Repeat(s.row+", ", rows-1) + s.row + s.after
}

// inserting is the text before the rows of an INSERT.
func inserting[T any](table string, columns []store.Column[T]) string {
	return "INSERT INTO " + table + " (" + store.Each(columns, "@", ", ") + ") VALUES "
}

var (
	insertExecution = newStatement(store.Inserted.Columns(), inserting("llm_executions", store.Inserted.Columns()), "",
		"idempotency_key", "tags", "corrects")

	// A settled execution is never written again, whoever comes late.
	updateExecution = newStatement(store.Updated.Columns(),
		"WITH given ("+store.Each(store.Updated.Columns(), "@", ", ")+") AS (VALUES ",
		`) UPDATE llm_executions SET `+store.Each(store.Updated.Set, "@ = given.@", ", ")+` FROM given WHERE llm_executions.tenant = given.tenant
			AND llm_executions.id = given.id AND llm_executions.status = given.was AND llm_executions.settled_at IS NULL`).or(errMoved)

	writeBalance = newStatement(store.Balances.Columns(), inserting("llm_balances", store.Balances.Columns()),
		` ON CONFLICT (`+store.Each(store.Balances.Key, "@", ", ")+`) DO UPDATE SET `+store.Each(store.Balances.Set, "@ = excluded.@", ", "))

	// Whether it was there before is seen from the number of rows.
	enterThreshold = newStatement(store.Thresholds.Columns(), inserting("llm_thresholds", store.Thresholds.Columns()),
		` ON CONFLICT DO NOTHING`).each(func(t *book.Threshold, n int64) { t.First = n > 0 })

	// A sum that does not fit into 64 bits would silently become a floating-point number.
	addHour = newStatement(store.Summed.Columns(), inserting("llm_usage", store.Summed.Columns()),
		` ON CONFLICT (`+store.Each(store.Summed.Key, "@", ", ")+`) DO UPDATE SET `+store.Each(store.Summed.Set, "@ = llm_usage.@ + excluded.@", ", ")+
			` WHERE `+store.Each(store.Summed.Set, "typeof(llm_usage.@ + excluded.@) = 'integer'", " AND ")).or(errOverflow)
)

// or has a statement fail that does not write all of its rows.
func (s *statement[T]) or(missing error) *statement[T] {
	s.missing = missing
	return s
}

// each has a statement write one row at a time, and tell how many were written.
func (s *statement[T]) each(wrote func(row T, rows int64)) *statement[T] {
	s.wrote = wrote
	return s
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
	n := atOnce
	if s.wrote != nil {
		n = 1
	}
	args := make([]any, 0, min(n, len(rows))*len(s.columns))
	for rows := range slices.Chunk(rows, n) {
		args = args[:0]
		for _, row := range rows {
			for _, c := range s.columns {
				args = append(args, bind(c.Value(row)))
			}
		}
		text := s.full
		if len(rows) < atOnce {
			text = s.sql(len(rows))
		}
		result, err := conn.ExecContext(ctx, text, args...)
		if err != nil {
			return err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return err
		}
		if s.missing != nil && n != int64(len(rows)) {
			return s.missing
		}
		if s.wrote != nil {
			s.wrote(rows[0], n)
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
