package sqlite

import (
	"context"
	"database/sql"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/internal/store"
)

// atOnce is how many rows one statement writes. The driver has a statement parsed anew each time, and looks for each of its
// parameters among all of them.
const atOnce = 32

// statement writes rows.
type statement[T any] struct {
	before, after string // what stands before and after the rows
	columns       []store.Column[T]
	nullable      []bool // by column: an empty text becomes NULL
	missing       error  // of a row that was not written
	wrote         func(row T, rows int64)
}

// newStatement makes a statement of the text before and after its rows. Empty values of nullable columns become NULL.
func newStatement[T any](columns []store.Column[T], before, after string, nullable ...string) *statement[T] {
	s := &statement[T]{before: before, after: after, columns: columns, nullable: make([]bool, len(columns))}
	for i, c := range columns {
		s.nullable[i] = slices.Contains(nullable, c.Name)
	}
	return s
}

// appendSQL appends the statement for rows to a text, and what is to be bound to args. Numbers and what is empty stand in the
// text: most of what a row has is one of them, and a parameter costs the driver more.
func (s *statement[T]) appendSQL(text []byte, args []any, rows []T) ([]byte, []any) {
	text = append(text, s.before...)
	for i, row := range rows {
		if i > 0 {
			text = append(text, ", "...)
		}
		separator := byte('(')
		for i, c := range s.columns {
			text = append(text, separator)
			separator = ','
			switch v := bind(c.Value(row)).(type) {
			case nil:
				text = append(text, "NULL"...)
			case int64:
				text = strconv.AppendInt(text, v, 10)
			case bool:
				text = strconv.AppendBool(text, v)
			case string:
				switch {
				case v != "":
					text, args = append(text, '?'), append(args, v)
				case s.nullable[i]:
					text = append(text, "NULL"...)
				default:
					text = append(text, "''"...)
				}
			default:
				text, args = append(text, '?'), append(args, v)
			}
		}
		text = append(text, ')')
	}
	return append(text, s.after...), args
}

// inserting is the text before the rows of an INSERT.
func inserting[T any](table string, columns []store.Column[T]) string {
	return "INSERT INTO " + table + " (" + store.Each(columns, "@", ", ") + ") VALUES "
}

// statements write rows of one kind, those that are plain with a statement of their own.
type statements[T any] struct {
	table      *store.Table[T]
	all, brief *statement[T]
}

// of makes them of one that sets these columns.
func of[T any](t store.Table[T], statement func(set []store.Column[T]) *statement[T]) *statements[T] {
	s := &statements[T]{table: &t, all: statement(t.Set)}
	if t.Brief != nil {
		s.brief = statement(t.Brief)
	}
	return s
}

func (s *statements[T]) run(ctx context.Context, conn *sql.Conn, rows []T) error {
	plain, others := s.table.Split(rows)
	if len(plain) > 0 {
		if err := s.brief.run(ctx, conn, plain); err != nil {
			return err
		}
	}
	return s.all.run(ctx, conn, others)
}

var (
	insertExecution = of(store.Inserted, inserts(store.Inserted.Key))
	insertWhole     = of(store.Whole, inserts(store.Whole.Key))

	// A settled execution is never written again, whoever comes late.
	updateExecution = of(store.Updated, func(set []store.Column[book.Update]) *statement[book.Update] {
		columns := slices.Concat(store.Updated.Key, set)
		return newStatement(columns, "WITH given ("+store.Each(columns, "@", ", ")+") AS (VALUES ",
			`) UPDATE llm_executions SET `+store.Each(set, "@ = given.@", ", ")+` FROM given WHERE llm_executions.tenant = given.tenant
			AND llm_executions.id = given.id AND llm_executions.status = given.was AND llm_executions.settled_at IS NULL`, "units").or(errMoved)
	})

	takeKey = newStatement(store.Keys.Columns(), inserting("llm_idempotency", store.Keys.Columns()), "")
	freeKey = newStatement(store.Keys.Key, "WITH given ("+store.Each(store.Keys.Key, "@", ", ")+") AS (VALUES ",
		") DELETE FROM llm_idempotency WHERE ("+store.Each(store.Keys.Key, "@", ", ")+") IN (SELECT * FROM given)")

	writeBalance = newStatement(store.Balances.Columns(), inserting("llm_balances", store.Balances.Columns()),
		` ON CONFLICT (`+store.Each(store.Balances.Key, "@", ", ")+`) DO UPDATE SET `+store.Each(store.Balances.Set, "@ = excluded.@", ", "))

	// Whether it was there before is seen from the number of rows.
	enterThreshold = newStatement(store.Thresholds.Columns(), inserting("llm_thresholds", store.Thresholds.Columns()),
		` ON CONFLICT DO NOTHING`).each(func(t *book.Threshold, n int64) { t.First = n > 0 })

	addLate  = newStatement(store.Late.Columns(), inserting("llm_usage_late", store.Late.Columns()), "")
	addHour  = of(store.Summed, adding("llm_usage", store.Summed.Key))
	addUnits = of(store.SummedUnits, adding("llm_usage_units", store.SummedUnits.Key))
)

// inserts is a statement that inserts executions.
func inserts[T any](key []store.Column[T]) func(set []store.Column[T]) *statement[T] {
	return func(set []store.Column[T]) *statement[T] {
		columns := slices.Concat(key, set)
		return newStatement(columns, inserting("llm_executions", columns), "", "idempotency_key", "tags", "corrects", "units")
	}
}

// adding is a statement that adds to the rows of a table. A sum that does not fit into 64 bits would silently become a
// floating-point number.
func adding[T any](table string, key []store.Column[T]) func(set []store.Column[T]) *statement[T] {
	return func(set []store.Column[T]) *statement[T] {
		counts := func(c store.Column[T]) bool { return c.Name == "latencies" }
		sums, also := slices.DeleteFunc(slices.Clone(set), counts), ""
		if len(sums) < len(set) {
			also = `, latencies = CASE excluded.latencies WHEN '{}' THEN ` + table + `.latencies ELSE (SELECT json_group_object(bucket, n) FROM (
			SELECT bucket, sum(n) AS n FROM (SELECT key AS bucket, value AS n FROM json_each(` + table + `.latencies)
				UNION ALL SELECT key, value FROM json_each(excluded.latencies)) GROUP BY bucket)) END`
		}
		columns := slices.Concat(key, set)
		return newStatement(columns, inserting(table, columns),
			` ON CONFLICT (`+store.Each(key, "@", ", ")+`) DO UPDATE SET `+store.Each(sums, "@ = "+table+".@ + excluded.@", ", ")+also+
				` WHERE `+store.Each(sums, "typeof("+table+".@ + excluded.@) = 'integer'", " AND ")).or(errOverflow)
	}
}

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
	if err := freeKey.run(ctx, conn, store.Freed(eff)); err != nil {
		return err
	}
	if err := takeKey.run(ctx, conn, store.Taken(eff)); err != nil {
		return err
	}
	if err := insertExecution.run(ctx, conn, store.Begun(eff)); err != nil {
		return err
	}
	if err := insertWhole.run(ctx, conn, store.Over(eff)); err != nil {
		return err
	}
	if err := writeBalance.run(ctx, conn, eff.Balances); err != nil {
		return err
	}
	if err := enterThreshold.run(ctx, conn, eff.Thresholds); err != nil {
		return err
	}
	hours := store.Hours(nil, eff)
	if err := addHour.run(ctx, conn, hours); err != nil {
		return err
	}
	if err := addUnits.run(ctx, conn, store.Units(hours)); err != nil {
		return err
	}
	return addLate.run(ctx, conn, eff.Late)
}

func (s *statement[T]) run(ctx context.Context, conn *sql.Conn, rows []T) error {
	n := atOnce
	if s.wrote != nil {
		n = 1
	}
	var (
		text []byte
		args []any
	)
	for rows := range slices.Chunk(rows, n) {
		text, args = s.appendSQL(text[:0], args[:0], rows)
		result, err := conn.ExecContext(ctx, string(text), args...)
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
		return sqldb.Text(v)
	case *time.Time:
		if v == nil {
			return nil
		}
		return sqldb.Text(*v)
	case *int64:
		if v == nil {
			return nil
		}
		return *v
	case book.Latencies:
		return v.Text()
	}
	return value
}
