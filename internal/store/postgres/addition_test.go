package postgres

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
)

func TestAddition_IsOfRowsWhoseBalancesAllGrowAlike(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		what   string
		change func(*book.Tenant)
		plain  bool
	}{
		{"nothing else", func(*book.Tenant) {}, true},
		{"the row's place is not known", func(t *book.Tenant) { t.Stored.Place = book.Place{} }, false},
		{"the row moves on to its next generation", func(t *book.Tenant) { t.Stored.Written = perGeneration - 1 }, false},
		{"the row has moved on", func(t *book.Tenant) { t.Stored.Written = perGeneration }, true},
		{"the tenant has got another balance", func(t *book.Tenant) { t.Balance(book.Scope{Agent: "support"}) }, false},
		{"a window was opened", func(t *book.Tenant) { t.Balances[1].Start = day.AddDate(0, 0, 1) }, false},
		{"a window ends elsewhere", func(t *book.Tenant) { t.Balances[2].End = day }, false},
		{"a window does not count all", func(t *book.Tenant) { t.Balances[1].Spent.Charge-- }, false},
		{"a window holds something else", func(t *book.Tenant) { t.Balances[2].Held.Tokens++ }, false},
		{"the sum is more than 64 bits say", func(t *book.Tenant) {
			for i := range t.Balances {
				t.Balances[i].Spent.Cost, t.Stored.Balances[i].Spent.Cost = math.MaxInt64, math.MinInt64
			}
		}, false},
	} {
		balances := func() []book.Balance {
			return []book.Balance{{Scope: book.Anchor}, {Scope: book.Day, Start: day, End: day.AddDate(0, 0, 1)}, {Scope: book.Month, Start: day, End: day.AddDate(0, 1, 0)}}
		}
		tenant := &book.Tenant{Balances: balances(), Stored: book.Anchored{Written: 7, Place: placeOf(1, 3), Balances: balances()}}
		for i := range tenant.Balances {
			tenant.Balances[i].Spent.Charge, tenant.Balances[i].Held.Tokens = 5+int64(i), -2
			tenant.Stored.Balances[i].Spent.Charge = int64(i)
		}
		c.change(tenant)
		a, plain := additionOf(tenant.Row(book.Anchor))
		require.Equal(t, c.plain, plain, c.what)
		if plain {
			require.Equal(t, addition{tenant, placeOf(1, 3), book.Amount{Charge: 5}, book.Amount{Tokens: -2}}, a, c.what)
		}
	}
	other := &book.Tenant{}
	other.Balance(book.Scope{Agent: "support"})
	_, plain := additionOf(other.Row(book.Scope{Agent: "support"}))
	require.False(t, plain, "of a row that is no anchor")
}

func TestPlaces_AreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	require.Equal(t, `{"(0,1)","(4294967295,65535)"}`, places([]book.Place{placeOf(0, 1), placeOf(math.MaxUint32, math.MaxUint16)}))
	require.Equal(t, "(7,12)", single(placeOf(7, 12)))
}
