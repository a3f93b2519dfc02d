package tenant_test

import (
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
	d := dialectOf(db)
	require.NoError(t, db.Transaction(func(tx *gorm.DB) error {
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
			id := uuid.Must(uuid.NewV7()).String()
			when := d.Time(c.at.Truncate(time.Microsecond))
			var settled, finished any
			if c.status != "running" {
				finished = when
			}
			if c.price != "" {
				settled = when
			}
			require.NoError(t, tx.Exec(`INSERT INTO llm_executions (tenant, id, tenant_id, status, agent, model, billed_model, process,
					admitted_at, deadline_at, finished_at, held_cost, held_charge, held_tokens, cost, charge, tokens, calls,
					input_tokens, output_tokens, reasoning_tokens, web_searches, units, price, settled_at)
				VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
				ids[0], id, key, c.status, c.agent, c.model, c.billed, id, when, d.Time(c.at.Add(100*365*24*time.Hour)), finished,
				c.cost, c.cost, c.tokens, charged.Cost, charged.Charge, charged.Tokens, charged.Calls,
				c.usage.Input, c.usage.Output, c.usage.Reasoning, c.usage.WebSearches, c.usage.Units, c.price, settled).Error)
			if c.made() {
				failed := 0
				if c.status == "failed" {
					failed = 1
				}
				rollUp(t, tx, ids[0], c, charged.Calls, failed, 0)
			}
			if c.status != "cancelled" {
				for prefix, start := range map[string]string{"": "window_", "day_": "day_", "month_": "month_"} {
					require.NoError(t, tx.Exec(strings.NewReplacer("@", prefix, "#", start).Replace(`UPDATE llm_balances SET
							@spent_cost = @spent_cost + ?, @spent_charge = @spent_charge + ?, @spent_tokens = @spent_tokens + ?, @spent_calls = @spent_calls + ?,
							@held_cost = @held_cost + ?, @held_charge = @held_charge + ?, @held_tokens = @held_tokens + ?, @held_calls = @held_calls + ?
						WHERE tenant = ? AND #start <= ? AND (#end IS NULL OR #end > ?)`),
						charged.Cost, charged.Charge, charged.Tokens, charged.Calls, held.Cost, held.Charge, held.Tokens, held.Calls, ids[0], when, when).Error)
				}
			}
		}
		return nil
	}))
}

// refused enters refusals into the roll-up.
func refused(t testing.TB, db *gorm.DB, key string, when time.Time, agent, model string, n int) {
	t.Helper()
	var id string
	require.NoError(t, db.Raw(`SELECT CAST(id AS text) FROM llm_tenants WHERE tenant_id = ?`, key).Scan(&id).Error)
	rollUp(t, db, id, past{at: when, agent: agent, model: model}, 0, 0, n)
}

func rollUp(t testing.TB, db *gorm.DB, id string, c past, calls int64, failed, refusals int) {
	t.Helper()
	place := placeIn(t, db, id)
	require.NoError(t, db.Exec(`INSERT INTO `+place+`llm_usage AS u (tenant, hour, agent, model, billed_model, calls, errors, refusals, cost, charge, tokens,
			input_tokens, output_tokens, reasoning_tokens, web_searches)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (tenant, hour, agent, model, billed_model, provider, service_tier, below`+generation(db)+`) DO UPDATE SET calls = u.calls + excluded.calls,
			errors = u.errors + excluded.errors, refusals = u.refusals + excluded.refusals, cost = u.cost + excluded.cost, charge = u.charge + excluded.charge,
			tokens = u.tokens + excluded.tokens, input_tokens = u.input_tokens + excluded.input_tokens,
			output_tokens = u.output_tokens + excluded.output_tokens, reasoning_tokens = u.reasoning_tokens + excluded.reasoning_tokens,
			web_searches = u.web_searches + excluded.web_searches`,
		id, dialectOf(db).Time(c.at.UTC().Truncate(time.Hour)), c.agent, c.model, c.billed, calls, failed, refusals, c.cost, c.cost, c.tokens,
		c.usage.Input, c.usage.Output, c.usage.Reasoning, c.usage.WebSearches).Error)
	for unit, n := range c.usage.Units.All() {
		require.NoError(t, db.Exec(`INSERT INTO `+place+`llm_usage_units AS u (tenant, hour, agent, model, billed_model, unit, amount) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (tenant, hour, agent, model, billed_model, provider, service_tier, below, unit`+generation(db)+`) DO UPDATE SET amount = u.amount + excluded.amount`,
			id, dialectOf(db).Time(c.at.UTC().Truncate(time.Hour)), c.agent, c.model, c.billed, string(unit), n).Error)
	}
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
