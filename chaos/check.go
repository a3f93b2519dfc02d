package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// What is counted from the rows.
const (
	admissions = "admissions that were replayed"
	overruns   = "calls that cost more than they held"
	abandoned  = "calls that were abandoned"
	corrected  = "abandoned calls that were settled late"
	cancelled  = "holds that were released"
	windows    = "limits whose window was replayed"
)

// execution is a row of llm_executions, with its tenant's key.
type execution struct {
	ID         string
	TenantID   string
	Status     string
	Key        string
	AdmittedAt time.Time
	DeadlineAt time.Time
	FinishedAt *time.Time
	SettledAt  *time.Time

	HeldCost, HeldTokens       int64
	Cost, Tokens, Calls        int64
	OverrunCost, OverrunTokens int64
}

// of returns what an execution held, was charged, and was charged beyond its hold.
func (e *execution) of(metric string) (held, charged, overrun int64) {
	switch metric {
	case "cost":
		return e.HeldCost, e.Cost, e.OverrunCost
	case "tokens":
		return e.HeldTokens, e.Tokens, e.OverrunTokens
	}
	return 1, e.Calls, 0
}

// holds reports whether the row was an admission: what is released before it was committed leaves a row that never held.
func (e *execution) holds() bool { return e.DeadlineAt.After(e.AdmittedAt) }

// check compares the rows with the promises. It asks the rows; the library's own word is one check of many.
func (r *runner) check(ctx context.Context, db *gorm.DB, ledger *tenant.Ledger, journals []entry) error {
	var rows []execution
	err := db.WithContext(ctx).Raw(`SELECT CAST(id AS text) AS id, tenant_id, status, coalesce(idempotency_key, '') AS key,
			admitted_at, deadline_at, finished_at, settled_at, held_cost, held_tokens, cost, tokens, calls, overrun_cost, overrun_tokens
		FROM llm_executions ORDER BY admitted_at, id`).Scan(&rows).Error
	if err != nil {
		return err
	}
	byTenant, byID := map[string][]*execution{}, make(map[string]*execution, len(rows))
	for i := range rows {
		e := &rows[i]
		byTenant[e.TenantID] = append(byTenant[e.TenantID], e)
		byID[e.ID] = e
		r.sound(e)
	}
	for key, history := range r.limits.history {
		for of, changes := range history {
			r.neverOver(key, of, changes, byTenant[key])
		}
	}
	r.neverLost(journals, byID)
	if err := r.neverWrong(ctx, db); err != nil {
		return err
	}
	differences, err := ledger.Verify(ctx)
	for _, d := range differences {
		r.violation("Verify: %v", d)
	}
	return err
}

// sound checks a row by itself.
func (r *runner) sound(e *execution) {
	count := func(what string, is bool) {
		if is {
			r.tally.add(what)
		}
	}
	count(overruns, e.OverrunCost > 0)
	count(abandoned, e.Status == "abandoned")
	count(corrected, e.Status == "abandoned" && e.SettledAt != nil)
	count(cancelled, e.Status == "cancelled" && e.holds())
	for _, metric := range []string{"cost", "tokens"} {
		held, charged, overrun := e.of(metric)
		if charged-overrun > held {
			r.violation("execution %s of %s: %d of %s are charged, %d of them as an overrun, on a hold of %d", e.ID, e.TenantID, charged, metric, overrun, held)
		}
	}
	ended := e.Status != "running"
	switch {
	case ended && e.FinishedAt == nil:
		r.violation("execution %s of %s is %s and has no end", e.ID, e.TenantID, e.Status)
	case e.Status == "cancelled" && (e.Cost != 0 || e.Tokens != 0 || e.Calls != 0):
		r.violation("execution %s of %s was cancelled and is charged", e.ID, e.TenantID)
	case !e.holds() && e.Status != "cancelled":
		r.violation("execution %s of %s was booked without a hold", e.ID, e.TenantID)
	case e.Status == "abandoned" && e.SettledAt == nil && (e.Cost != e.HeldCost || e.Tokens != e.HeldTokens):
		r.violation("execution %s of %s was abandoned and is charged %d, not its hold of %d", e.ID, e.TenantID, e.Cost, e.HeldCost)
	}
}

// neverOver replays a tenant's executions in each window of a limit. A row tells the moments at which its call was
// admitted, ended and, where it was abandoned before, settled: each is the database's clock in the transaction that did it, read
// with the tenant's books locked, so that these moments are in the order of the decisions. With an execution counting
//
//   - what it held, from its admission to its end;
//   - from then on nothing, if it was cancelled, and what it was charged, if it was settled;
//   - what it held, if it was abandoned, and what it was charged from its late settle on,
//
// the sum just after each admission may not be above the limit of that moment. This holds for limits that were cut, too:
// an overrun or a cut may leave a sum above the limit, but no admission does. Where a change of the limit has not
// returned yet, or has returned an error, the largest amount counts that may have been in force.
//
// A second check needs no moments: an execution's charge without its overrun is never more than it counted for at any
// earlier time, so the sum of these charges is not above the limit that was in force at the window's last admission, and so
// not above the largest. (A late settle above the hold stores its excess as an overrun, like any other.)
func (r *runner) neverOver(key string, of rule, changes []change, all []*execution) {
	type step struct {
		at        time.Time
		delta     int64
		admission bool
		id        string
	}
	steps, charges := map[string][]step{}, map[string]int64{}
	for _, e := range all {
		if !e.holds() {
			continue
		}
		window := e.AdmittedAt.UTC().Format(map[string]string{"day": time.DateOnly, "month": "2006-01"}[of.window])
		held, charged, overrun := e.of(of.metric)
		charges[window] += charged - overrun
		steps[window] = append(steps[window], step{e.AdmittedAt, held, true, e.ID})
		switch {
		case e.Status == "cancelled" && e.FinishedAt != nil:
			steps[window] = append(steps[window], step{*e.FinishedAt, -held, false, e.ID})
		case e.SettledAt != nil:
			steps[window] = append(steps[window], step{*e.SettledAt, charged - held, false, e.ID})
		}
	}
	for window, s := range steps {
		r.tally.add(windows)
		if most := largestEver(changes); charges[window] > most {
			r.violation("%s, %v of %s: charges without overruns are %d, and the limit was never above %d", key, of, window, charges[window], most)
		}
		// What a transaction ends comes before what it admits: both have its time.
		slices.SortStableFunc(s, func(a, b step) int {
			switch {
			case !a.at.Equal(b.at):
				return a.at.Compare(b.at)
			case a.admission == b.admission:
				return 0
			case b.admission:
				return -1
			}
			return 1
		})
		var sum int64
		for _, st := range s {
			sum += st.delta
			if !st.admission {
				continue
			}
			r.tally.add(admissions)
			if limit := largest(changes, st.at); sum > limit {
				r.violation("%s, %v of %s: the admission of %s at %s left %d spent and held, and the limit was %d",
					key, of, window, st.id, st.at.UTC().Format(time.RFC3339Nano), sum, limit)
			}
		}
	}
}

// neverLost looks up what workers were told.
func (r *runner) neverLost(journals []entry, byID map[string]*execution) {
	uses := map[string]string{}
	for _, e := range journals {
		if e.What == wrong {
			r.violation("a call of %s (%s) got what it must not: %s", e.Tenant, e.ID, e.Detail)
			continue
		}
		if e.ID == "" {
			continue
		}
		row := byID[e.ID]
		switch {
		case row == nil:
			r.violation("execution %s of %s was acknowledged (%s %s), and has no row", e.ID, e.Tenant, e.What, e.Outcome)
			continue
		case row.TenantID != e.Tenant:
			r.violation("execution %s of %s is on the books of %s", e.ID, e.Tenant, row.TenantID)
		}
		switch e.What {
		case held:
			if row.HeldCost != e.Cost || row.HeldTokens != e.Tokens {
				r.violation("execution %s of %s was given a hold of %d and %d tokens, and has one of %d and %d", e.ID, e.Tenant, e.Cost, e.Tokens, row.HeldCost, row.HeldTokens)
			}
		case settled:
			r.acknowledged(e, row)
		case released:
			// A hold that had expired stays charged: the answer says so.
			want := "cancelled"
			if e.Outcome == string(tenant.AlreadySettled) {
				want = "abandoned"
			}
			if row.Status != want {
				r.violation("execution %s of %s: its release was answered with %q, and it is %s", e.ID, e.Tenant, e.Outcome, row.Status)
			}
		}
		if e.Key != "" && e.What == held && (row.Status == "succeeded" || row.Status == "abandoned") {
			use := e.Tenant + " " + e.Key
			if other := uses[use]; other != "" {
				r.violation("%s: both %s and %s were called", use, other, e.ID)
			}
			uses[use] = e.ID
		}
	}
}

func (r *runner) acknowledged(e entry, row *execution) {
	status := map[tenant.Outcome][]string{
		tenant.Settled:   {"succeeded", "failed"},
		tenant.Corrected: {"abandoned"},
		// By its own first try: a settle whose commit was not acknowledged before its hold had expired.
		tenant.AlreadySettled: {"succeeded", "failed", "abandoned"},
	}[tenant.Outcome(e.Outcome)]
	// A retry that finds its own correction done says that it is settled.
	if !slices.Contains(status, row.Status) && (row.Status != "abandoned" || e.Outcome != string(tenant.Settled)) {
		r.violation("execution %s of %s: its settle was answered with %q, and it is %s", e.ID, e.Tenant, e.Outcome, row.Status)
	}
	if row.SettledAt == nil || row.Cost != e.Cost || row.Tokens != e.Tokens || row.Calls != 1 {
		r.violation("execution %s of %s: a settle of %d and %d tokens was acknowledged (%s), and its row has %d and %d",
			e.ID, e.Tenant, e.Cost, e.Tokens, e.Outcome, row.Cost, row.Tokens)
	}
}

// neverWrong compares the sums.
func (r *runner) neverWrong(ctx context.Context, db *gorm.DB) error {
	for _, q := range []struct{ what, query string }{
		{"a hold is left", `SELECT concat_ws(' ', tenant, window_unit, 'cost', held_cost, 'tokens', held_tokens, 'calls', held_calls)
			FROM llm_balances WHERE held_cost <> 0 OR held_tokens <> 0 OR held_calls <> 0`},
		{"a balance is not the sum of its executions (cost, tokens, calls: balance, executions)",
			`SELECT concat_ws(' ', b.tenant, b.window_unit, b.agent, b.model, ':', b.spent_cost, b.spent_tokens, b.spent_calls, ',', e.cost, e.tokens, e.calls)
			FROM llm_balances b CROSS JOIN LATERAL (
				SELECT coalesce(sum(e.cost), 0) AS cost, coalesce(sum(e.tokens), 0) AS tokens, coalesce(sum(e.calls), 0) AS calls
				FROM llm_executions e WHERE e.tenant = b.tenant AND (b.agent = '' OR e.agent = b.agent) AND (b.model = '' OR e.model = b.model)
					AND (b.window_unit = 'total' OR (e.admitted_at >= b.window_start AND e.admitted_at < b.window_end))) e
			WHERE (b.spent_cost, b.spent_tokens, b.spent_calls) IS DISTINCT FROM (e.cost, e.tokens, e.calls)`},
		{"a tenant has executions and no balance", `SELECT DISTINCT CAST(e.tenant AS text) FROM llm_executions e WHERE NOT EXISTS (
			SELECT FROM llm_balances b WHERE b.tenant = e.tenant AND b.window_unit = 'total' AND b.agent = '' AND b.model = '')`},
		{"an hour is not the sum of its executions (calls, errors, cost, tokens, input, output: hour, executions)",
			`WITH e AS (SELECT tenant, date_trunc('hour', admitted_at AT TIME ZONE 'UTC') AS hour, agent, model, billed_model,
					sum(calls) AS calls, sum(CASE WHEN status = 'failed' THEN calls ELSE 0 END) AS errors, sum(cost) AS cost, sum(tokens) AS tokens,
					sum(input_tokens) AS input, sum(output_tokens) AS output
				FROM llm_executions WHERE calls > 0 GROUP BY 1, 2, 3, 4, 5),
			u AS (SELECT tenant, hour AT TIME ZONE 'UTC' AS hour, agent, model, billed_model, calls, errors, cost, tokens, input_tokens AS input, output_tokens AS output
				FROM llm_usage)
			SELECT concat_ws(' ', tenant, hour, agent, model, billed_model, ':', u.calls, u.errors, u.cost, u.tokens, u.input, u.output, ',',
				e.calls, e.errors, e.cost, e.tokens, e.input, e.output)
			FROM e FULL JOIN u USING (tenant, hour, agent, model, billed_model)
			WHERE coalesce(u.calls, 0) <> coalesce(e.calls, 0) OR coalesce(u.errors, 0) <> coalesce(e.errors, 0)
				OR coalesce(u.cost, 0) <> coalesce(e.cost, 0) OR coalesce(u.tokens, 0) <> coalesce(e.tokens, 0)
				OR coalesce(u.input, 0) <> coalesce(e.input, 0) OR coalesce(u.output, 0) <> coalesce(e.output, 0)`},
		{"an idempotency key was used twice", `SELECT concat_ws(' ', tenant, idempotency_key) FROM llm_executions
			WHERE idempotency_key IS NOT NULL AND status IN ('running', 'succeeded', 'abandoned') GROUP BY tenant, idempotency_key HAVING count(*) > 1`},
	} {
		var found []string
		if err := db.WithContext(ctx).Raw(q.query).Scan(&found).Error; err != nil {
			return fmt.Errorf("%s: %w", q.what, err)
		}
		for _, f := range found {
			r.violation("%s: %s", q.what, f)
		}
	}
	return nil
}
