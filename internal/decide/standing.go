package decide

import (
	"time"

	"github.com/llmtenant/tenant/internal/book"
)

// Standing is a limit in force, whose it is, and its balance.
type Standing struct {
	Tenant  *book.Tenant
	Limit   book.Limit
	Balance book.Balance
}

// Standings returns the limits in force for a tenant and those above it, the nearest first, as a decision at the given
// time would see them: on balances of the present windows, whether anything has opened them yet or not. It changes their
// balances.
func Standings(c Config, tenants []*book.Tenant, defaults *book.Tenant, now time.Time) []Standing {
	b := newBatch(c, &book.State{Now: now, Defaults: *defaults}, nil)
	chain := make([]*account, len(tenants))
	for i, t := range tenants {
		chain[i] = &account{Tenant: t}
	}
	b.open(chain)
	var standings []Standing
	for _, a := range chain {
		for _, l := range a.lines {
			standings = append(standings, Standing{a.Tenant, l.Limit, *a.Balance(l.Scope)})
		}
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
