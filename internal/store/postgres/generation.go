package postgres

import (
	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/store"
)

// perGeneration is how often a tenant's anchor is written under one key. An open snapshot keeps every version of a row, and to
// look a row up is to walk all that have its key: 1 us each. To move on takes an entry in an index.
const perGeneration = 64

// next returns the generation of a tenant's balances, and of what it adds to the roll-up, when its anchor has been written once
// more.
func next(t *book.Tenant) int64 { return (t.Stored.Written + 1) / perGeneration }

// others returns how many rows a tenant's balances have beside its anchor.
func others(t *book.Tenant) (n int64) {
	for i := range t.Balances {
		switch t.Balances[i].Scope {
		case book.Anchor, book.Day, book.Month:
		default:
			n++
		}
	}
	return n
}

// rows returns the rows of balances to write: those that have changed, the anchor of each tenant that writes anything, which
// counts that, and all others of a tenant whose balances move on to their next generation. It gives the hours theirs.
func rows(state *book.State, changed []book.BalanceRow, hours []store.Hour) []book.BalanceRow {
	all := changed
	anchored := make(map[book.ID]bool, len(changed))
	for _, row := range changed {
		if row.Scope == book.Anchor {
			anchored[row.Tenant.ID] = true
		}
	}
	count := func(t *book.Tenant) {
		if !anchored[t.ID] && t.Has(book.Anchor) {
			anchored[t.ID] = true
			all = append(all, t.Row(book.Anchor))
		}
	}
	for _, row := range changed {
		count(row.Tenant)
	}
	for i := range hours {
		if t := state.Tenants[hours[i].Tenant]; t != nil {
			count(t)
			hours[i].Generation = next(t)
		}
	}
	for _, row := range all {
		if t := row.Tenant; row.Scope == book.Anchor && next(t) > t.Stored.Written/perGeneration {
			all = move(all, t)
		}
	}
	return all
}

// move adds the rows of a tenant's balances that are missing.
func move(rows []book.BalanceRow, t *book.Tenant) []book.BalanceRow {
	has := make(map[book.Scope]bool, len(t.Balances))
	for _, row := range rows {
		if row.Tenant == t {
			has[row.Scope] = true
		}
	}
	for i := range t.Balances {
		if row := t.Row(t.Balances[i].Scope); !has[row.Scope] {
			has[row.Scope] = true
			rows = append(rows, row)
		}
	}
	return rows
}
