package main

import (
	"context"
	"slices"
	"time"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// What is counted from the rows.
const (
	admissions  = "admissions that were replayed"
	free        = "admissions of calls that hold nothing of the limit's metric"
	overruns    = "calls that cost more than they held"
	abandoned   = "calls that were abandoned"
	corrected   = "abandoned calls that were settled late"
	stoppedLate = "late settles of a process that was stopped"
	cancelled   = "holds that were released"
	windows     = "windows of limits that were replayed"
	days        = "days that ended between calls of a tenant"
	months      = "months that ended between calls of a tenant"
	across      = "calls that ended in a later day"
	lateAcross  = "abandoned calls that were settled in a later day"
	timed       = "times that the database's clock bears out"
	audits      = "checks of all sums in mid-run"
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
	for _, all := range byTenant {
		r.count(all)
	}
	for key, history := range r.limits.history {
		for of, changes := range history {
			r.neverOver(key, of, changes, byTenant[key])
		}
	}
	r.neverLost(journals, byID)
	r.neverDropped(journals, rows)
	r.neverSwept(journals, byID)
	if _, err := r.neverWrong(ctx, db, "", slices.Concat(sums, []query{rest})); err != nil {
		return err
	}
	if err := r.calendar(ctx, db); err != nil {
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
	count(stoppedLate, e.Status == "abandoned" && e.SettledAt != nil && r.wereStopped[e.ID])
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

// count counts how a tenant's executions, in the order of their admission, lie in days and months.
func (r *runner) count(all []*execution) {
	ends := func(what, unit string) {
		for i, e := range all[1:] {
			if r.clock.window(unit, e.AdmittedAt) != r.clock.window(unit, all[i].AdmittedAt) {
				r.tally.add(what)
			}
		}
	}
	ends(days, "day")
	ends(months, "month")
	for _, e := range all {
		later := func(t *time.Time) bool {
			return t != nil && r.clock.window("day", *t) != r.clock.window("day", e.AdmittedAt)
		}
		if later(e.FinishedAt) {
			r.tally.add(across)
		}
		if e.Status == "abandoned" && later(e.SettledAt) {
			r.tally.add(lateAcross)
		}
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
// returned yet, or has returned an error, the largest amount counts that may have been in force. Who holds nothing of a metric
// is held to no limit of it.
//
// A call counts in the window of its admission, and in no other, whenever it ends.
//
// A second check needs no order: an execution's charge without its overrun is never more than it counted for at any
// earlier time, so the sum of these charges is not above the limit that was in force at the window's last admission, and so
// not above the largest that was while the window had admissions. (A late settle above the hold stores its excess as an
// overrun, like any other.)
func (r *runner) neverOver(key string, of rule, changes []change, all []*execution) {
	type step struct {
		at        time.Time
		delta     int64
		admission bool
		id        string
	}
	type span struct{ first, last time.Time } // of admissions
	steps, charges, spans := map[string][]step{}, map[string]int64{}, map[string]span{}
	for _, e := range all {
		if !e.holds() {
			continue
		}
		window := r.clock.window(of.window, e.AdmittedAt)
		if len(steps[window]) == 0 {
			spans[window] = span{first: e.AdmittedAt}
		}
		spans[window] = span{spans[window].first, e.AdmittedAt}
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
		if most := largestWithin(changes, spans[window].first, spans[window].last); charges[window] > most {
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
			if st.delta == 0 {
				r.tally.add(free)
				continue
			}
			if limit := largest(changes, st.at); sum > limit {
				r.violation("%s, %v of %s: the admission of %s at %s left %d spent and held, and the limit was %d",
					key, of, window, st.id, r.clock.text(st.at), sum, limit)
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
		if e.ID == "" || e.What == unsettled {
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
		r.timely(e, row)
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

// timely compares the times that a call left on the books with what the database's clock was before and after it.
func (r *runner) timely(e entry, row *execution) {
	at := row.SettledAt
	switch e.What {
	case held:
		at = &row.AdmittedAt
	case pending: // it is done later
		return
	}
	if e.Since.IsZero() || e.Until.IsZero() || at == nil {
		return
	}
	r.tally.add(timed)
	if at.Before(e.Since) || at.After(e.Until) {
		r.violation("execution %s of %s is %s at %s, and that was done between %s and %s by the database's clock", e.ID, e.Tenant, e.What,
			r.clock.text(*at), r.clock.text(e.Since), r.clock.text(e.Until))
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
