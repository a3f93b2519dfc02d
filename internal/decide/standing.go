package decide

import (
	"time"

	"github.com/llmtenant/tenant/internal/book"
)

// Standing is a limit in force and its balance.
type Standing struct {
	Limit   book.Limit
	Balance book.Balance
}

// Standings returns the limits in force for a tenant as a decision at the given time would see them: on balances of the
// present windows, whether anything has opened them yet or not. It changes the balances of t.
func Standings(c Config, t, defaults *book.Tenant, now time.Time) []Standing {
	b, a := newBatch(c, &book.State{Now: now, Defaults: *defaults}, nil), &account{Tenant: t}
	b.roll(a)
	standings := make([]Standing, 0, len(a.lines))
	for _, l := range a.lines {
		standings = append(standings, Standing{l.Limit, *t.Balance(l.Scope)})
	}
	return standings
}

// Time is when a decision on a tenant is made: by the clock, but never before a window that the tenant has already
// entered. So a clock that steps back opens no window again.
func Time(t *book.Tenant, now time.Time) time.Time {
	for i := range t.Balances {
		if t.Balances[i].Start.After(now) {
			now = t.Balances[i].Start
		}
	}
	return now
}
