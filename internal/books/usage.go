package books

import (
	"cmp"
	"context"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// query runs a statement and enters its rows.
func (b Books) query(ctx context.Context) Query {
	return func(statement string, args []any, enter func(sqldb.Row) error) error {
		if statement == "" {
			return nil
		}
		return sqldb.EachRow(ctx, b.Conn, statement, args, enter)
	}
}

// Spent adds up what was charged to calls.
func (b Books) Spent(ctx context.Context, c Calls) (book.Amount, error) {
	var sum book.Amount
	statement, args := spentSQL(b.Dialect, c)
	err := b.query(ctx)(statement, args, func(row sqldb.Row) error { return row.Scan(&sum.Cost, &sum.Charge, &sum.Tokens, &sum.Calls) })
	return sum, cmp.Or(err, b.whole(ctx, c))
}

// FirstUse returns when the first calls that count for a tenant were made, to the hour; the zero time where there are none.
func (b Books) FirstUse(ctx context.Context, id book.ID) (first time.Time, err error) {
	err = b.query(ctx)(b.Bind(`SELECT min(hour) FROM llm_usage WHERE tenant = ?`), []any{id.String()},
		func(row sqldb.Row) error { return row.Scan(sqldb.Instant(&first)) })
	return first, err
}
