package main

import (
	"slices"
	"strings"
	"time"
)

// What is counted of the promises below.
const (
	promised = "calls whose booking was promised, and had to be done"
	living   = "calls of living processes without a further connection"
	orphaned = "holds of the process that was killed as the clock went back"
)

// neverDropped looks up the calls of workers that have closed their ledgers which were pending, or whose callers had
// their replies: each is on the books as it was used, or Close has said that it is not. Of a worker that was killed, what
// was answered has its hold at least.
func (r *runner) neverDropped(journals []entry, rows []execution) {
	byID, byKey := make(map[string]*execution, len(rows)), map[string]*execution{}
	for i := range rows {
		e := &rows[i]
		byID[e.ID] = e
		if e.Key != "" && e.Status != "cancelled" && e.Status != "failed" { // those give the key away
			byKey[e.TenantID+" "+e.Key] = e
		}
	}
	done, left := map[string]bool{}, map[string]bool{}
	for _, e := range journals {
		switch e.What {
		case closed:
			done[e.life] = true
		case unsettled:
			left[e.ID] = true
		}
	}
	for _, e := range journals {
		var row *execution
		costs := e.Costs
		switch e.What {
		case pending:
			row, costs = byID[e.ID], []int64{e.Cost}
		case answered:
			if row = byKey[e.Tenant+" "+e.Key]; row == nil {
				r.violation("%s of %s was answered to its caller, and has no row", e.Key, e.Tenant)
				continue
			}
		}
		if row == nil || !done[e.life] || left[row.ID] {
			continue
		}
		r.tally.add(promised)
		switch {
		case row.Status == "running":
			r.violation("execution %s of %s was %s, and is still running", row.ID, e.Tenant, e.What)
		case e.Release: // it may have expired before
		case row.SettledAt == nil:
			r.violation("execution %s of %s was %s, and never booked: it is %s, and charged %d", row.ID, e.Tenant, e.What, row.Status, row.Cost)
		case !slices.Contains(costs, row.Cost) || row.Tokens != e.Tokens:
			r.violation("execution %s of %s was %s at a cost of %v and %d tokens, and is charged %d and %d",
				row.ID, e.Tenant, e.What, costs, e.Tokens, row.Cost, row.Tokens)
		}
	}
}

// neverSwept looks at the times in which no further connection was to be had, and nothing else was wrong: nobody has ended
// the calls of a process that was alive, but for those that were over time. What a worker has written down tells whether
// the machine has let it live.
func (r *runner) neverSwept(journals []entry, byID map[string]*execution) {
	beats := map[string][]time.Time{}
	for _, e := range journals {
		if e.What == alive {
			beats[e.life] = append(beats[e.life], e.At)
		}
	}
	for _, s := range r.crowded {
		for _, e := range journals {
			row := byID[e.ID]
			if e.What != held || row == nil || !r.sparedLife(e.life) || !steady(beats[e.life], s.machineFrom.Add(-lease), s.machineTo) {
				continue
			}
			if row.FinishedAt == nil || row.AdmittedAt.After(s.to) || row.FinishedAt.Before(s.from) {
				continue
			}
			r.tally.add(living)
			if row.Status == "abandoned" && !row.FinishedAt.After(s.to) && row.FinishedAt.Before(row.DeadlineAt) {
				r.violation("execution %s of %s was ended at %s, while its process lived and no further connection was to be had",
					row.ID, row.TenantID, r.clock.text(*row.FinishedAt))
			}
		}
	}
}

// sparedLife reports whether a journal is of a worker that nobody kills.
func (r *runner) sparedLife(life string) bool {
	for _, s := range r.workers {
		if s.spared && strings.HasPrefix(life, s.name()) {
			return true
		}
	}
	return false
}

// steady reports whether beats come at least every half lease from one time to another.
func steady(beats []time.Time, from, to time.Time) bool {
	last := from
	for _, at := range beats {
		if at.Before(from) {
			continue
		}
		if at.Sub(last) > lease/2 {
			return false
		}
		if last = at; at.After(to) {
			return true
		}
	}
	return false
}
