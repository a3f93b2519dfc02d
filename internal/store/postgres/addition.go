package postgres

import (
	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/store"
)

// addition is what a batch adds to the balances of an anchor, to each of them the same, where their windows stay as they are. So
// most rows of balances are written, in a third of the columns.
type addition struct {
	*book.Tenant
	at          book.Place
	spent, held book.Amount
}

var additions = store.Table[addition]{
	Key: []store.Column[addition]{
		store.NewColumn("at", func(a addition) book.Place { return a.at }),
		store.NewColumn("tenant", func(a addition) [16]byte { return a.ID }),
		store.NewColumn("written", func(a addition) int64 { return a.Stored.Written }),
	},
	Set: []store.Column[addition]{
		store.NewColumn("spent_cost", func(a addition) int64 { return a.spent.Cost }),
		store.NewColumn("spent_charge", func(a addition) int64 { return a.spent.Charge }),
		store.NewColumn("spent_tokens", func(a addition) int64 { return a.spent.Tokens }),
		store.NewColumn("spent_calls", func(a addition) int64 { return a.spent.Calls }),
		store.NewColumn("held_cost", func(a addition) int64 { return a.held.Cost }),
		store.NewColumn("held_charge", func(a addition) int64 { return a.held.Charge }),
		store.NewColumn("held_tokens", func(a addition) int64 { return a.held.Tokens }),
		store.NewColumn("held_calls", func(a addition) int64 { return a.held.Calls }),
	},
}

// split returns the rows of balances that are additions, and the others. A row that was split once is not where it was any more.
func split(rows []book.BalanceRow) (added []addition, others []book.BalanceRow) {
	added = make([]addition, 0, len(rows))
	for i, row := range rows {
		if a, ok := additionOf(row); ok {
			added = append(added, a)
			continue
		}
		if others == nil {
			others = make([]book.BalanceRow, 0, len(rows)-i)
		}
		others = append(others, row)
	}
	for _, row := range rows {
		row.Tenant.Stored.Place = book.Place{}
	}
	return added, others
}

func additionOf(row book.BalanceRow) (a addition, ok bool) {
	stored := &row.Tenant.Stored
	if row.Scope != book.Anchor || stored.Place == (book.Place{}) || next(row.Tenant) > stored.Written/perGeneration || others(row.Tenant) != stored.Others {
		return a, false
	}
	a.Tenant, a.at = row.Tenant, stored.Place
	for i, now := range [...]*book.Balance{row.Balance, row.Day, row.Month} {
		was := &stored.Balances[i]
		spent, fits := minus(now.Spent, was.Spent)
		held, fit := minus(now.Held, was.Held)
		if !fits || !fit || !now.Start.Equal(was.Start) || !now.End.Equal(was.End) || i > 0 && (spent != a.spent || held != a.held) {
			return a, false
		}
		a.spent, a.held = spent, held
	}
	return a, true
}

// minus returns a - b, and whether it is that, and not what fits into 64 bits.
func minus(a, b book.Amount) (d book.Amount, exact bool) {
	d = book.Amount{Cost: a.Cost - b.Cost, Charge: a.Charge - b.Charge, Tokens: a.Tokens - b.Tokens, Calls: a.Calls - b.Calls}
	return d, d == a.Minus(b)
}
