package tenant

import (
	"time"

	"github.com/llmtenant/tenant/internal/process"
)

// Bounds is what a period comes down to where weeks begin on Monday.
func Bounds(p Period, now time.Time, zone *time.Location) (from, to time.Time, err error) {
	return p.bounds(moment{now, zone, time.Monday})
}

// SetClock stops the clock of the questions that are asked of a ledger. Its lanes keep theirs.
func SetClock(l *Ledger, at time.Time) {
	dialect := *l.dialect
	dialect.Clock = "'" + at.UTC().Format("2006-01-02 15:04:05.000000+00:00") + "'"
	if dialect.Name == "postgres" {
		dialect.Clock = "CAST(" + dialect.Clock + " AS timestamptz)"
	}
	l.dialect = &dialect
}

// Bound is the most that the input of a call and its fee can cost, and a token of its output.
func Bound(p Price, e Estimate) (input, output int64) { return p.costBound(e) }

// ChargeBound is the same of what the tenant is charged.
func ChargeBound(p Price, e Estimate) (input, output int64) { return p.chargeBound(e) }

// Differs reports whether a stated cost is another one than the computed.
func Differs(computed, reported int64) bool { return differs(computed, reported) }

// FirstUses is how often the tenant of a call was looked up and made.
func FirstUses(l *Ledger) int64 { return l.looked.Load() }

// ZoneDifferences are the zones that two processes see otherwise, by the year from which on they do.
func ZoneDifferences(own, other map[string]string) map[string]int {
	return process.Seen(own).Differences(other)
}

// SetExecutionID makes a hold one of another execution.
func SetExecutionID(h *Hold, id [16]byte) {
	e := *h.exec
	e.ID = id
	h.ledger.mu.Lock()
	defer h.ledger.mu.Unlock()
	delete(h.ledger.open, h.exec.ID)
	h.exec = &e
	h.ledger.open[e.ID] = h
}
