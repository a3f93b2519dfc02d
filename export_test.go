package tenant

import (
	"time"
)

// Bounds is what a period comes down to.
func Bounds(p Period, now time.Time, zone *time.Location) (from, to time.Time, err error) {
	return p.bounds(now, zone)
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

// Bound is the most that a token of a call can cost, of input and of output, and its fee.
func Bound(p Price, input int64) (in, out, fee int64) { return p.bound(input) }
