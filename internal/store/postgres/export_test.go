package postgres

import (
	"time"

	"github.com/llmtenant/tenant/internal/store"
)

// ErrConnection is what marks an error after which the connection could not be used any more.
var ErrConnection = errConnection

// Lookups are what a batch locks and reads a tenant's balances with, and what it finds the present row of its roll-up with.
// Each is given an array of ids.
func Lookups() map[string]string {
	return map[string]string{
		"lock": lockWait, "lock without waiting": lockNoWait, "balances": balances, "busy": busy,
		"hour": `SELECT x.ctid FROM unnest($1::uuid[]) k (tenant) LEFT JOIN LATERAL (SELECT x.ctid FROM llm_usage x
			WHERE x.tenant = k.tenant AND x.hour > 'epoch' AND x.agent = 'support' ORDER BY x.hour DESC, x.generation DESC LIMIT 1) x ON true`,
	}
}

// Updates are the statements with which a batch changes many rows, and how many arguments they have.
func Updates() map[string]int {
	all := map[string]int{}
	enter(all, updates.all, updates.brief, placed.all, placed.brief)
	enter(all, balanced)
	enter(all, added)
	enter(all, summed.all, summed.brief)
	enter(all, summedUnits.all)
	return all
}

func enter[T any](all map[string]int, writers ...*writer[T]) {
	for _, w := range writers {
		all[w.arrays] = len(w.columns) + 1
	}
}

// LookAnew has a session look for the node of its schema with its next batch.
func LookAnew(s store.Session) { s.(*session).way.looked = time.Time{} }
