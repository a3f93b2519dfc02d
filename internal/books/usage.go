package books

import (
	"cmp"
	"context"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/units"
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

// Part is what the calls of one agent to one model used. The model is the one that was billed.
type Part struct {
	Agent, Model     string
	Charged          book.Amount
	Errors, Refusals int64
	Usage            book.Usage
}

var sums = append([]string{"cost", "charge", "tokens", "calls", "errors", "refusals"}, book.UsageColumns[:]...)

// Parts adds up calls like Spent, by agent and model. What they used of a unit is a part of its own.
func (b Books) Parts(ctx context.Context, c Calls) ([]Part, error) {
	var parts []Part
	statement, args := partsSQL(b.Dialect, c, sums)
	err := b.query(ctx)(statement, args, func(row sqldb.Row) error {
		var (
			p      Part
			unit   units.Unit
			amount int64
		)
		to := []any{&p.Agent, &p.Model, &unit, &p.Charged.Cost, &p.Charged.Charge, &p.Charged.Tokens, &p.Charged.Calls, &p.Errors, &p.Refusals}
		for _, class := range p.Usage.Classes() {
			to = append(to, class)
		}
		if err := row.Scan(append(to, &amount)...); err != nil {
			return err
		}
		p.Usage.Units = units.Of(unit, amount)
		parts = append(parts, p)
		return nil
	})
	return parts, cmp.Or(err, b.whole(ctx, c))
}

// Plus returns the sum of two parts, without a name.
func (p Part) Plus(o Part) Part {
	return Part{
		Charged: p.Charged.Plus(o.Charged), Usage: p.Usage.Plus(o.Usage),
		Errors: money.Add(p.Errors, o.Errors), Refusals: money.Add(p.Refusals, o.Refusals),
	}
}

// FirstUse returns when the first calls that count for a tenant were made, to the hour; the zero time where there are none.
func (b Books) FirstUse(ctx context.Context, id book.ID) (first time.Time, err error) {
	err = b.query(ctx)(b.Bind(`SELECT min(hour) FROM llm_usage WHERE tenant = ?`), []any{id.String()},
		func(row sqldb.Row) error { return row.Scan(sqldb.Instant(&first)) })
	return first, err
}
