package books

import (
	"context"
	"fmt"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// movedTables are those whose rows are a tenant's and go along with it, with the columns of those that make some by themselves. What is
// folded of it is folded anew.
var movedTables = []struct{ name, columns string }{
	{"llm_balances", ""}, {executionsTable, ""}, {"llm_idempotency", ""}, {"llm_pruned", ""}, {"llm_usage", ""}, {"llm_usage_units", ""},
	{"llm_usage_late", "tenant, hour"}, {"llm_thresholds", ""},
}

// StrangersError says that a process has calls running that it would lose.
type StrangersError struct{ Process string }

func (e *StrangersError) Error() string {
	return fmt.Sprintf("the process %s has calls running, and is not known in the place yet; it is as soon as it has made a call since it was started with these places", e.Process)
}

// Move takes the books of tenants from one place to another, with what runs. It runs in a transaction of its caller, which has kept
// everybody from changing who they are. Calls of the tenants wait until that ends.
func Move(ctx context.Context, d *sqldb.Dialect, conn sqldb.Conn, source, target *sqldb.Schema, ids []book.ID) (executions int64, err error) {
	from, to := Books{d, source.On(conn)}, Books{d, target.On(conn)}
	args := []any{from.IDs(ids)}
	// As a batch does: one anchor after the other, by their ids.
	if err := sqldb.EachRow(ctx, from.Conn, from.Bind(`SELECT 1 FROM (SELECT tenant FROM llm_balances WHERE `+from.Among("tenant")+`
			AND window_unit = 'total' AND agent = '' AND model = '' ORDER BY tenant, generation FOR NO KEY UPDATE) b`), args, func(sqldb.Row) error { return nil }); err != nil {
		return 0, err
	}
	var running, known []string
	if err := sqldb.List(ctx, from.Conn, &running, from.Bind(`SELECT DISTINCT CAST(process AS text) FROM llm_executions WHERE status = 'running' AND `+from.Among("tenant")), args...); err != nil {
		return 0, err
	}
	if err := sqldb.List(ctx, to.Conn, &known, `SELECT CAST(id AS text) FROM llm_processes`); err != nil {
		return 0, err
	}
	living := map[string]bool{}
	for _, p := range known {
		living[p] = true
	}
	for _, p := range running {
		if !living[p] {
			return 0, &StrangersError{p}
		}
	}
	which := from.Bind(` WHERE ` + from.Among("tenant"))
	for _, table := range movedTables {
		into, columns := target.Table(table.name), "*"
		if table.columns != "" {
			into, columns = into+" ("+table.columns+")", table.columns
		}
		if _, err := conn.ExecContext(ctx, `INSERT INTO `+into+` SELECT `+columns+` FROM `+source.Table(table.name)+which, args...); err != nil {
			return 0, err
		}
		gone, err := conn.ExecContext(ctx, `DELETE FROM `+source.Table(table.name)+which, args...)
		if err != nil {
			return 0, err
		}
		if table.name == executionsTable {
			if executions, err = gone.RowsAffected(); err != nil {
				return 0, err
			}
		}
	}
	for _, table := range []string{"llm_usage_windows", "llm_usage_folds"} {
		if _, err := from.Conn.ExecContext(ctx, `DELETE FROM `+table+which, args...); err != nil {
			return 0, err
		}
	}
	// What names its tags goes with it: an erasure looks where its books are.
	if err := from.tellTagsAnew(ctx); err != nil {
		return 0, err
	}
	for _, b := range []Books{from, to} {
		if err := b.Unfold(ctx, Everybody); err != nil {
			return 0, err
		}
	}
	return executions, nil
}
