package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"gorm.io/gorm"
)

// query finds broken promises: each row that it returns is one.
type query struct{ what, sql string }

// balances is all balances, one row each: the day and the month stand beside the total in one.
const balances = `(SELECT tenant, window_unit, agent, model, window_start, window_end, spent_cost, spent_charge, spent_tokens, spent_calls, held_cost, held_charge, held_tokens, held_calls
		FROM llm_balances
	UNION ALL SELECT tenant, 'day', '', '', day_start, day_end, day_spent_cost, day_spent_charge, day_spent_tokens, day_spent_calls, day_held_cost, day_held_charge, day_held_tokens, day_held_calls
		FROM llm_balances WHERE window_unit = 'total' AND agent = '' AND model = ''
	UNION ALL SELECT tenant, 'month', '', '', month_start, month_end, month_spent_cost, month_spent_charge, month_spent_tokens, month_spent_calls, month_held_cost, month_held_charge, month_held_tokens, month_held_calls
		FROM llm_balances WHERE window_unit = 'total' AND agent = '' AND model = '')`

// sums holds at every commit, and so in every snapshot: each of these is one statement.
var sums = []query{
	{"a balance is not the sum of its executions (spent cost, charge, tokens, calls, held cost, charge, tokens, calls: balance, executions)",
		`SELECT concat_ws(' ', b.tenant, b.window_unit, b.window_start, b.agent, b.model, ':',
			b.spent_cost, b.spent_charge, b.spent_tokens, b.spent_calls, b.held_cost, b.held_charge, b.held_tokens, b.held_calls, ',',
			e.cost, e.charge, e.tokens, e.calls, e.held_cost, e.held_charge, e.held_tokens, e.held_calls)
		FROM ` + balances + ` b CROSS JOIN LATERAL (
			SELECT coalesce(sum(e.cost), 0) AS cost, coalesce(sum(e.charge), 0) AS charge, coalesce(sum(e.tokens), 0) AS tokens, coalesce(sum(e.calls), 0) AS calls,
				coalesce(sum(e.held_cost) FILTER (WHERE e.status = 'running'), 0) AS held_cost,
				coalesce(sum(e.held_charge) FILTER (WHERE e.status = 'running'), 0) AS held_charge,
				coalesce(sum(e.held_tokens) FILTER (WHERE e.status = 'running'), 0) AS held_tokens,
				count(*) FILTER (WHERE e.status = 'running') AS held_calls
			FROM llm_executions e WHERE e.tenant = b.tenant AND (b.agent = '' OR e.agent = b.agent) AND (b.model = '' OR e.model = b.model)
				AND (b.window_unit = 'total' OR (e.admitted_at >= b.window_start AND e.admitted_at < b.window_end))) e
		WHERE (b.spent_cost, b.spent_charge, b.spent_tokens, b.spent_calls, b.held_cost, b.held_charge, b.held_tokens, b.held_calls)
			IS DISTINCT FROM (e.cost, e.charge, e.tokens, e.calls, e.held_cost, e.held_charge, e.held_tokens, e.held_calls)`},
	{"a call was admitted after the end of the present window", `SELECT concat_ws(' ', e.tenant, e.id, e.admitted_at, 'after the', b.window_unit, b.window_end)
		FROM ` + balances + ` b JOIN llm_executions e ON e.tenant = b.tenant AND e.admitted_at >= b.window_end
		WHERE b.agent = '' AND b.model = '' AND e.deadline_at > e.admitted_at`},
	{"a tenant has executions and no balance", `SELECT DISTINCT CAST(e.tenant AS text) FROM llm_executions e WHERE NOT EXISTS (
		SELECT FROM llm_balances b WHERE b.tenant = e.tenant AND b.window_unit = 'total' AND b.agent = '' AND b.model = '')`},
	{"an hour is not the sum of its executions (calls, errors, cost, charge, tokens, input, output: hour, executions)",
		`WITH e AS (SELECT tenant, date_trunc('hour', admitted_at AT TIME ZONE 'UTC') AS hour, agent, model, billed_model, provider, service_tier,
				sum(calls) AS calls, sum(CASE WHEN status = 'failed' THEN calls ELSE 0 END) AS errors, sum(cost) AS cost, sum(charge) AS charge, sum(tokens) AS tokens,
				sum(input_tokens) AS input, sum(output_tokens) AS output
			FROM llm_executions WHERE calls > 0 GROUP BY 1, 2, 3, 4, 5, 6, 7),
		u AS (SELECT tenant, hour AT TIME ZONE 'UTC' AS hour, agent, model, billed_model, provider, service_tier, sum(calls) AS calls, sum(errors) AS errors,
				sum(cost) AS cost, sum(charge) AS charge, sum(tokens) AS tokens, sum(input_tokens) AS input, sum(output_tokens) AS output
			FROM llm_usage GROUP BY 1, 2, 3, 4, 5, 6, 7)
		SELECT concat_ws(' ', tenant, hour, agent, model, billed_model, provider, service_tier, ':', u.calls, u.errors, u.cost, u.charge, u.tokens, u.input, u.output, ',',
			e.calls, e.errors, e.cost, e.charge, e.tokens, e.input, e.output)
		FROM e FULL JOIN u USING (tenant, hour, agent, model, billed_model, provider, service_tier)
		WHERE coalesce(u.calls, 0) <> coalesce(e.calls, 0) OR coalesce(u.errors, 0) <> coalesce(e.errors, 0)
			OR coalesce(u.cost, 0) <> coalesce(e.cost, 0) OR coalesce(u.charge, 0) <> coalesce(e.charge, 0) OR coalesce(u.tokens, 0) <> coalesce(e.tokens, 0)
			OR coalesce(u.input, 0) <> coalesce(e.input, 0) OR coalesce(u.output, 0) <> coalesce(e.output, 0)`},
	{"an idempotency key is not that of the call that has it", `SELECT concat_ws(' ', tenant, idempotency_key, id, execution) FROM (
		SELECT e.tenant, e.idempotency_key, e.id, k.execution FROM llm_executions e LEFT JOIN llm_idempotency k ON k.tenant = e.tenant AND k.key = e.idempotency_key
			WHERE e.idempotency_key IS NOT NULL AND e.status IN ('running', 'succeeded', 'abandoned', 'adjusted')) x WHERE execution IS DISTINCT FROM id`},
	{"an idempotency key was used twice", `SELECT concat_ws(' ', tenant, idempotency_key) FROM llm_executions
		WHERE idempotency_key IS NOT NULL AND status IN ('running', 'succeeded', 'abandoned') GROUP BY tenant, idempotency_key HAVING count(*) > 1`},
}

// rest holds when no call runs any more.
var rest = query{"a hold is left", `SELECT concat_ws(' ', tenant, window_unit, 'cost', held_cost, 'charge', held_charge, 'tokens', held_tokens, 'calls', held_calls)
	FROM ` + balances + ` b WHERE held_cost <> 0 OR held_charge <> 0 OR held_tokens <> 0 OR held_calls <> 0`}

// neverWrong asks queries, and reports whether all is well.
func (r *runner) neverWrong(ctx context.Context, db *gorm.DB, when string, queries []query) (well bool, err error) {
	well = true
	for _, q := range queries {
		var found []string
		if err := db.WithContext(ctx).Raw(q.sql).Scan(&found).Error; err != nil {
			return false, fmt.Errorf("%s: %w", q.what, err)
		}
		for _, f := range found {
			well = false
			r.violation("%s%s: %s", when, q.what, f)
		}
	}
	return well, nil
}

// audit compares the sums while calls run, and windows end: of a window that has ended, no sum is left to compare at the
// end of the run. Once is enough to find that one is wrong.
func (r *runner) audit(ctx context.Context, _ *rand.Rand) {
	if r.unsound {
		return
	}
	for _, rows := range r.audited {
		well, err := r.neverWrong(ctx, rows, "in mid-run, ", sums)
		switch {
		case err != nil: // the server is being restarted
		case well:
			r.tally.add(audits)
		default:
			r.unsound = true
		}
	}
}

// calendar compares the present windows with the calendar.
func (r *runner) calendar(ctx context.Context, db *gorm.DB) error {
	var windows []struct {
		Tenant, Unit string
		Start, End   time.Time
	}
	if err := db.WithContext(ctx).Raw(`SELECT CAST(tenant AS text) AS tenant, window_unit AS unit, window_start AS start, window_end AS end
		FROM ` + balances + ` b WHERE window_unit <> 'total' AND window_start < window_end`).Scan(&windows).Error; err != nil {
		return fmt.Errorf("the windows of the balances: %w", err)
	}
	for _, b := range windows {
		start, end := r.clock.bounds(b.Unit, b.Start)
		if !b.Start.Equal(start) || !b.End.Equal(end) {
			r.violation("the %s of tenant %s is from %s to %s, and by the calendar from %s to %s", b.Unit, b.Tenant,
				r.clock.text(b.Start), r.clock.text(b.End), r.clock.text(start), r.clock.text(end))
		}
	}
	return nil
}
