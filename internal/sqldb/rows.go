package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/llmtenant/tenant/internal/book"
)

// Row is a row of a result.
type Row interface{ Scan(dest ...any) error }

// List appends the one column of a result.
func List[T any](ctx context.Context, c Conn, to *[]T, statement string, args ...any) error {
	return EachRow(ctx, c, statement, args, func(row Row) error {
		var v T
		err := row.Scan(&v)
		*to = append(*to, v)
		return err
	})
}

// EachRow runs a statement and enters its rows.
func EachRow(ctx context.Context, c Conn, statement string, args []any, enter func(Row) error) error {
	rows, err := c.QueryContext(ctx, statement, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := enter(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Marks is n placeholders, with commas between them.
func Marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }

// Nullable is a text as an argument: NULL if it is empty.
func Nullable(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }

// FormatIDs returns ids as the column parents keeps them: in the form of a Postgres array.
func FormatIDs(ids []book.ID) string {
	if len(ids) == 0 {
		return "{}"
	}
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.String()
	}
	return "{" + strings.Join(texts, ",") + "}"
}

// ParseIDs reads what FormatIDs returns.
func ParseIDs(s string) ([]book.ID, error) {
	s = strings.Trim(s, "{}")
	if s == "" {
		return nil, nil
	}
	var ids []book.ID
	for text := range strings.SplitSeq(s, ",") {
		id, err := uuid.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("the ids %q: %w", s, err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// Taken reports whether an error says that a unique value is somebody else's already.
func Taken(err error) bool {
	var state interface{ SQLState() string }
	if errors.As(err, &state) {
		return state.SQLState() == "23505"
	}
	return err != nil && strings.Contains(err.Error(), "UNIQUE constraint failed")
}

// One reads the value of a query that has one, and leaves it as it was where there is none. QueryRowContext of gorm's prepared
// statements panics after an error.
func One(ctx context.Context, c Conn, query string, to any) error {
	return EachRow(ctx, c, query, nil, func(row Row) error { return row.Scan(to) })
}

// RowsOpen reports whether a connection of the host's answered with an error because rows are still being read from it. Pgx
// has no type for that, and its database/sql driver makes a broken connection of it, except where a statement is prepared.
func RowsOpen(ctx context.Context, c Conn, err error) bool {
	const busy = "conn busy"
	if strings.Contains(err.Error(), busy) {
		return true
	}
	c = Under(c)
	host, ok := c.(interface {
		PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
	})
	if _, pool := c.(*sql.DB); pool || !ok || !errors.Is(err, driver.ErrBadConn) {
		return false
	}
	statement, err := host.PrepareContext(ctx, "SELECT 1")
	if err != nil {
		return strings.Contains(err.Error(), busy)
	}
	defer func() { _ = statement.Close() }()
	return false
}
