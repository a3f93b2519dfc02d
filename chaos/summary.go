package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// expected returns what a run ought to come across: what is counted from the rows, and the kinds of trouble.
func (r *runner) expected() (rows, kinds []string) {
	rows = []string{
		admissions, free, overruns, abandoned, corrected, stoppedLate, cancelled, windows, days, months, across, lateAcross, timed, promised, audits,
	}
	kinds = []string{starts, kills, stops, breaks, sittings, raises, cuts, ambiguous, restarts, toEve, byDay, toChange, byHours}
	if r.Places > 0 {
		kinds = append(kinds, moves)
	}
	if len(r.nodes) > 0 {
		rows = append(rows, elsewhere)
		kinds = append(kinds, nodesAway, headAway, schemasMoved)
		if r.RestartNode != "" {
			kinds = append(kinds, nodesKilled)
		}
	}
	if r.Faults {
		rows = append(rows, living, orphaned)
		kinds = append(kinds, pooled, pgpooled, passwords, nologins, closings, strays, led, revokes, raising, renames, storms, injected,
			cutting, unanswered, crowds, turned)
	}
	return rows, kinds
}

// summary says what happened, so that one sees whether the run had teeth.
func (r *runner) summary(journals []entry) string {
	told, outcomes, used := map[string]int{}, map[string]int{}, map[string]int{}
	for _, e := range journals {
		told[e.What]++
		switch e.What {
		case settled, released:
			outcomes[e.What+": "+e.Outcome]++
		case exhausted:
			used[e.Tenant+", "+e.Detail]++
		}
	}
	var s strings.Builder
	fmt.Fprintf(&s, "seed %d, %v, %d processes x %d callers, %d tenants, days of %v\n", r.Seed, r.Duration, r.Workers, r.Goroutines, r.Cold+1, r.clock.zone)
	fmt.Fprintln(&s, "\ncalls, by what the workers were told:")
	for _, what := range []string{held, exhausted, contended, duplicate, ended, away, failed, settled, released, answered, pending, unsettled, leaked, wrong} {
		fmt.Fprintf(&s, "  %-10s %6d\n", what, told[what])
	}
	for _, what := range sorted(outcomes) {
		fmt.Fprintf(&s, "  %-28s %6d\n", what, outcomes[what])
	}
	list := func(title string, whats []string) {
		fmt.Fprintf(&s, "\n%s:\n", title)
		for _, what := range whats {
			fmt.Fprintf(&s, "  %-62s %6d\n", what, r.tally.of(what))
		}
	}
	rows, kinds := r.expected()
	list("from the rows", rows)
	fmt.Fprintf(&s, "  %-62s %6d\n", "limits that were used up", len(used))
	list("trouble", kinds)
	if len(r.nodes) > 0 {
		list("with the nodes", []string{schemasStayed, unreached})
	}
	var missing []string
	for _, what := range append(rows, kinds...) {
		never := what == ambiguous || (what == toChange && r.clock.untilChange(time.Now(), 0) == 0)
		if r.tally.of(what) == 0 && !never {
			missing = append(missing, what)
		}
	}
	for _, what := range []string{held, exhausted, contended, duplicate, ended, settled, released, answered, leaked} {
		if told[what] == 0 {
			missing = append(missing, what)
		}
	}
	if len(missing) > 0 {
		fmt.Fprintf(&s, "\nNOT TRIED: this run had none of: %s\n", strings.Join(missing, ", "))
	}
	return s.String()
}

func sorted(counts map[string]int) []string {
	keys := make([]string, 0, len(counts))
	for key := range counts {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
