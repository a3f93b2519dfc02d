package tenant_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// past is a call as it stands on the books since it was made. Its status defaults to succeeded, and its model to m.
type past struct {
	at                   time.Time
	cost                 int64
	tokens               int64
	status               string
	agent, model, billed string
	usage                tenant.Usage
	price                string // of one that the price book charged, when it was settled, at once
}

func (p past) made() bool { return p.status != "running" && p.status != "cancelled" }

func dialectOf(db *gorm.DB) *sqldb.Dialect { return sqldb.Of(db.Name()) }

// remember enters calls of other times into the books of a tenant, which agree afterwards as if the ledger had booked them:
// executions, roll-up, and the balances whose windows they are in.
func remember(t testing.TB, db *gorm.DB, key string, calls ...past) {
	t.Helper()
	ids := []string{book.NoTenant.String()}
	if key != "" {
		ids = []string{}
		require.NoError(t, db.Raw(`SELECT CAST(id AS text) FROM llm_tenants WHERE tenant_id = ?`, key).Scan(&ids).Error)
		require.Len(t, ids, 1)
	}
	place := placeIn(t, db, ids[0])
	require.NoError(t, db.Transaction(func(tx *gorm.DB) error {
		rows, rolled, windows := make([][]any, 0, len(calls)), rolledUp{}, windowsOf(t, tx, place, ids[0])
		for _, c := range calls {
			if c.status == "" {
				c.status = "succeeded"
			}
			if c.model == "" {
				c.model = "m"
			}
			charged, held := book.Amount{}, book.Amount{Cost: c.cost, Charge: c.cost, Tokens: c.tokens, Calls: 1}
			if c.made() {
				charged, held = held, book.Amount{}
				if c.billed == "" && c.status != "abandoned" {
					c.billed = c.model
				}
			}
			rows = append(rows, c.execution(dialectOf(db), ids[0], key, charged))
			if c.made() {
				failed := 0
				if c.status == "failed" {
					failed = 1
				}
				rolled.add(c, charged.Calls, failed, 0)
			}
			if c.status == "cancelled" {
				continue
			}
			for _, w := range windows {
				w.add(c.at.Truncate(time.Microsecond), charged, held)
			}
		}
		insert(t, tx, `INSERT INTO `+place+`llm_executions (tenant, id, tenant_id, status, agent, model, billed_model, process,
			admitted_at, deadline_at, finished_at, held_cost, held_charge, held_tokens, cost, charge, tokens, calls,
			input_tokens, output_tokens, reasoning_tokens, web_searches, units, price, settled_at)`, rows, "")
		rolled.write(t, tx, place, ids[0])
		for _, w := range windows {
			w.write(t, tx, place, ids[0])
		}
		return nil
	}))
}

// execution is the call's row.
func (c past) execution(d *sqldb.Dialect, tenant, key string, charged book.Amount) []any {
	id, when := uuid.Must(uuid.NewV7()).String(), d.Time(c.at.Truncate(time.Microsecond))
	var settled, finished any
	if c.status != "running" {
		finished = when
	}
	if c.price != "" {
		settled = when
	}
	return []any{
		tenant, id, key, c.status, c.agent, c.model, c.billed, id, when, d.Time(c.at.Add(100 * 365 * 24 * time.Hour)), finished,
		c.cost, c.cost, c.tokens, charged.Cost, charged.Charge, charged.Tokens, charged.Calls,
		c.usage.Input, c.usage.Output, c.usage.Reasoning, c.usage.WebSearches, c.usage.Units, c.price, settled,
	}
}

// insert inserts rows, a hundred by each statement: most of what one takes does not depend on how many it has.
func insert(t testing.TB, db *gorm.DB, into string, rows [][]any, conflict string) {
	t.Helper()
	for some := range slices.Chunk(rows, 100) {
		row := "(?" + strings.Repeat(", ?", len(some[0])-1) + ")"
		require.NoError(t, db.Exec(into+" VALUES "+row+strings.Repeat(", "+row, len(some)-1)+conflict, slices.Concat(some...)...).Error)
	}
}

// standing is a window in which a tenant's balances stand, and what is to be added to them.
type standing struct {
	prefix, columns string
	from, to        time.Time // the latter zero in total
	charged, held   book.Amount
}

func windowsOf(t testing.TB, db *gorm.DB, place, id string) (windows []*standing) {
	t.Helper()
	for prefix, columns := range map[string]string{"": "window_", "day_": "day_", "month_": "month_"} {
		statement := `SELECT DISTINCT ` + columns + `start, ` + columns + `end FROM ` + place + `llm_balances WHERE tenant = ?`
		require.NoError(t, sqldb.EachRow(t.Context(), db.Statement.ConnPool, dialectOf(db).Bind(statement), []any{id}, func(row sqldb.Row) error {
			w := &standing{prefix: prefix, columns: columns}
			windows = append(windows, w)
			return row.Scan(sqldb.Instant(&w.from), sqldb.Instant(&w.to))
		}))
	}
	return windows
}

func (w *standing) add(when time.Time, charged, held book.Amount) {
	if !when.Before(w.from) && (w.to.IsZero() || when.Before(w.to)) {
		w.charged, w.held = w.charged.Plus(charged), w.held.Plus(held)
	}
}

func (w *standing) write(t testing.TB, db *gorm.DB, place, id string) {
	t.Helper()
	if w.charged == (book.Amount{}) && w.held == (book.Amount{}) {
		return
	}
	args := []any{
		w.charged.Cost, w.charged.Charge, w.charged.Tokens, w.charged.Calls, w.held.Cost, w.held.Charge, w.held.Tokens, w.held.Calls,
		id, dialectOf(db).Time(w.from),
	}
	until := " IS NULL"
	if !w.to.IsZero() {
		until, args = " = ?", append(args, dialectOf(db).Time(w.to))
	}
	require.NoError(t, db.Exec(`UPDATE `+place+strings.NewReplacer("@", w.prefix, "#", w.columns).Replace(`llm_balances SET
			@spent_cost = @spent_cost + ?, @spent_charge = @spent_charge + ?, @spent_tokens = @spent_tokens + ?, @spent_calls = @spent_calls + ?,
			@held_cost = @held_cost + ?, @held_charge = @held_charge + ?, @held_tokens = @held_tokens + ?, @held_calls = @held_calls + ?
		WHERE tenant = ? AND #start = ? AND #end`)+until, args...).Error)
}

// refused enters refusals into the roll-up.
func refused(t testing.TB, db *gorm.DB, key string, when time.Time, agent, model string, n int) {
	t.Helper()
	var id string
	require.NoError(t, db.Raw(`SELECT CAST(id AS text) FROM llm_tenants WHERE tenant_id = ?`, key).Scan(&id).Error)
	rolled := rolledUp{}
	rolled.add(past{at: when, agent: agent, model: model}, 0, 0, n)
	rolled.write(t, db, placeIn(t, db, id), id)
}

// rolledUp is what calls add to the roll-up of a tenant, by its lines.
type rolledUp map[rolledLine]*rolledSum

type rolledLine struct {
	hour                 time.Time
	agent, model, billed string
}

type rolledSum struct {
	calls            int64
	failed, refusals int
	cost, tokens     int64
	usage            tenant.Usage
}

func (r rolledUp) add(c past, calls int64, failed, refusals int) {
	line := rolledLine{c.at.UTC().Truncate(time.Hour), c.agent, c.model, c.billed}
	sum := r[line]
	if sum == nil {
		sum = &rolledSum{}
		r[line] = sum
	}
	sum.calls, sum.failed, sum.refusals = sum.calls+calls, sum.failed+failed, sum.refusals+refusals
	sum.cost, sum.tokens = sum.cost+c.cost, sum.tokens+c.tokens
	sum.usage.Input, sum.usage.Output = sum.usage.Input+c.usage.Input, sum.usage.Output+c.usage.Output
	sum.usage.Reasoning, sum.usage.WebSearches = sum.usage.Reasoning+c.usage.Reasoning, sum.usage.WebSearches+c.usage.WebSearches
	sum.usage.Units = sum.usage.Units.Plus(c.usage.Units)
}

func (r rolledUp) write(t testing.TB, db *gorm.DB, place, id string) {
	t.Helper()
	var lines, units [][]any
	for line, sum := range r {
		hour := dialectOf(db).Time(line.hour)
		lines = append(lines, []any{
			id, hour, line.agent, line.model, line.billed, sum.calls, sum.failed, sum.refusals, sum.cost, sum.cost, sum.tokens,
			sum.usage.Input, sum.usage.Output, sum.usage.Reasoning, sum.usage.WebSearches,
		})
		for unit, n := range sum.usage.Units.All() {
			units = append(units, []any{id, hour, line.agent, line.model, line.billed, string(unit), n})
		}
	}
	insert(t, db, `INSERT INTO `+place+`llm_usage AS u (tenant, hour, agent, model, billed_model, calls, errors, refusals, cost, charge, tokens,
			input_tokens, output_tokens, reasoning_tokens, web_searches)`, lines, `
		ON CONFLICT (tenant, hour, agent, model, billed_model, provider, service_tier, below`+generation(db)+`) DO UPDATE SET calls = u.calls + excluded.calls,
			errors = u.errors + excluded.errors, refusals = u.refusals + excluded.refusals, cost = u.cost + excluded.cost, charge = u.charge + excluded.charge,
			tokens = u.tokens + excluded.tokens, input_tokens = u.input_tokens + excluded.input_tokens,
			output_tokens = u.output_tokens + excluded.output_tokens, reasoning_tokens = u.reasoning_tokens + excluded.reasoning_tokens,
			web_searches = u.web_searches + excluded.web_searches`)
	insert(t, db, `INSERT INTO `+place+`llm_usage_units AS u (tenant, hour, agent, model, billed_model, unit, amount)`, units, `
		ON CONFLICT (tenant, hour, agent, model, billed_model, provider, service_tier, below, unit`+generation(db)+`) DO UPDATE SET amount = u.amount + excluded.amount`)
}

// generation is the last column of the key of the roll-up, on the database that has it.
func generation(db *gorm.DB) string {
	if db.Name() == "postgres" {
		return ", generation"
	}
	return ""
}

// inWindow puts a standing balance of a tenant into the window that it was in at some time, with nothing spent.
func inWindow(t testing.TB, db *gorm.DB, key string, w period.Window, when time.Time, loc *time.Location) {
	t.Helper()
	from, to := period.Bounds(w, when, loc, time.Monday)
	d := dialectOf(db)
	window := w.String()
	result := db.Exec(strings.ReplaceAll(`UPDATE llm_balances SET @start = ?, @end = ?, @spent_cost = 0, @spent_charge = 0, @spent_tokens = 0, @spent_calls = 0
		WHERE tenant = (SELECT id FROM llm_tenants WHERE tenant_id = ?) AND window_unit = ?`, "@", beside(&window)), d.Time(from), d.Time(to), key, window)
	require.NoError(t, result.Error)
	require.EqualValues(t, 1, result.RowsAffected)
}

// known makes tenants that have no record.
func known(t testing.TB, db *gorm.DB, keys ...string) {
	t.Helper()
	for _, key := range keys {
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, tenant.ID(key), func(*tenant.Budget) error { return nil }))
	}
}

// rowsOf is all that is in the ledger's tables.
func rowsOf(t testing.TB, db *gorm.DB) map[string][]map[string]any {
	t.Helper()
	all := map[string][]map[string]any{}
	for _, table := range []string{"llm_tenants", "llm_limits", "llm_balances", "llm_executions", "llm_usage", "llm_usage_units", "llm_processes"} {
		var rows []map[string]any
		require.NoError(t, db.Raw("SELECT * FROM "+table+" ORDER BY 1, 2, 3, 4").Scan(&rows).Error)
		all[table] = rows
	}
	return all
}

func zone(t require.TestingT, name string) *time.Location {
	loc, err := time.LoadLocation(name)
	require.NoError(t, err)
	return loc
}

func at(t require.TestingT, s string) time.Time {
	parsed, err := time.Parse(time.RFC3339Nano, s)
	require.NoError(t, err)
	return parsed.UTC()
}
