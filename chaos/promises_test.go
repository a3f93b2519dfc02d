package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNeverDropped_FindsWhatWasPromisedAndIsNotOnTheBooks(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_900_000_000, 0)
	const cost, tokens = 4200, 77
	booked := func(e *execution) { e.Status, e.SettledAt, e.Cost, e.Tokens = "succeeded", &now, cost, tokens }
	for name, c := range map[string]struct {
		found   int
		entries []entry
		row     func(*execution)
	}{
		"a pending settle that was booked":                    {0, []entry{{What: pending}, {What: closed}}, booked},
		"one that was booked after its hold had expired":      {0, []entry{{What: pending}, {What: closed}}, func(e *execution) { booked(e); e.Status = "abandoned" }},
		"one that was dropped, and whose hold was charged":    {1, []entry{{What: pending}, {What: closed}}, func(e *execution) { e.Status = "abandoned" }},
		"one that was dropped, and runs for ever":             {1, []entry{{What: pending}, {What: closed}}, func(e *execution) { e.Status = "running" }},
		"one that was booked at another cost":                 {1, []entry{{What: pending}, {What: closed}}, func(e *execution) { booked(e); e.Cost++ }},
		"one that was booked with other tokens":               {1, []entry{{What: pending}, {What: closed}}, func(e *execution) { booked(e); e.Tokens-- }},
		"one that Close has named":                            {0, []entry{{What: pending}, {What: unsettled}, {What: closed}}, func(e *execution) { e.Status = "abandoned" }},
		"one of a worker that was killed":                     {0, []entry{{What: pending}}, func(e *execution) { e.Status = "abandoned" }},
		"a pending release of what had expired":               {0, []entry{{What: pending, Release: true}, {What: closed}}, func(e *execution) { e.Status = "abandoned" }},
		"a pending release that was dropped":                  {1, []entry{{What: pending, Release: true}, {What: closed}}, func(e *execution) { e.Status = "running" }},
		"a reply that was booked":                             {0, []entry{{What: answered}, {What: closed}}, booked},
		"a reply whose settle was dropped":                    {1, []entry{{What: answered}, {What: closed}}, func(e *execution) { e.Status = "abandoned" }},
		"a reply that was booked at a cost that it cannot be": {1, []entry{{What: answered}, {What: closed}}, func(e *execution) { booked(e); e.Cost *= 2 }},
		"a reply without a row":                               {1, []entry{{What: answered}}, func(e *execution) { e.Key = "another" }},
		"a reply of a worker that was killed":                 {0, []entry{{What: answered}}, func(e *execution) { e.Status = "abandoned" }},
	} {
		e := execution{ID: "x", TenantID: "acme", Key: "k"}
		c.row(&e)
		for i := range c.entries {
			c.entries[i].life, c.entries[i].Tenant, c.entries[i].Tokens = "worker-1-0", "acme", tokens
			switch c.entries[i].What {
			case answered:
				c.entries[i].Key, c.entries[i].Costs = "k", []int64{cost, cost + 9}
			default:
				c.entries[i].ID, c.entries[i].Cost = "x", cost
			}
		}
		r := &runner{}
		r.neverDropped(c.entries, []execution{e})
		require.Len(t, r.violations, c.found, "%s: %v", name, r.violations)
	}
}

func TestNeverSwept_FindsTheCallOfALivingProcessThatWasEnded(t *testing.T) {
	t.Parallel()
	at := func(seconds float64) time.Time {
		return time.Unix(1_900_000_000, 0).Add(time.Duration(seconds * float64(time.Second)))
	}
	for name, c := range map[string]struct {
		found    int
		worker   int
		beats    float64 // seconds apart
		admitted float64
		finished float64
		status   string
	}{
		"ended although it lived":           {1, 0, 0.1, 9, 11, "abandoned"},
		"settled":                           {0, 0, 0.1, 9, 11, "succeeded"},
		"of a worker that may be killed":    {0, 1, 0.1, 9, 11, "abandoned"},
		"of a worker that had no turn":      {0, 0, 0.9, 9, 11, "abandoned"},
		"over time":                         {0, 0, 0.1, 7.5, 11, "abandoned"},
		"ended before":                      {0, 0, 0.1, 8, 9.5, "abandoned"},
		"ended after":                       {0, 0, 0.1, 13, 14.5, "abandoned"},
		"admitted and ended in the stretch": {1, 0, 0.1, 10.5, 12, "abandoned"},
	} {
		r := &runner{workers: []*slot{{number: 0, spared: true}, {number: 1}}}
		r.clock.zone = time.UTC
		r.crowded = []stretch{{at(10), at(14), at(10), at(14)}}
		life := fmt.Sprintf("worker-%d-0", c.worker)
		entries := []entry{{What: held, ID: "x", life: life}}
		for s := 0.0; s < 20; s += c.beats {
			entries = append(entries, entry{What: alive, At: at(s), life: life})
		}
		finished := at(c.finished)
		r.neverSwept(entries, map[string]*execution{"x": {
			ID: "x", Status: c.status, AdmittedAt: at(c.admitted), DeadlineAt: at(c.admitted).Add(callTime), FinishedAt: &finished,
		}})
		require.Len(t, r.violations, c.found, "%s: %v", name, r.violations)
	}
}
