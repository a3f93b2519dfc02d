package decide_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
)

func TestStandings_AreWhatADecisionWouldSee(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	tenant := db.tenant(acme, "acme", book.Hard, costs(day, 100), calls(month, 9))
	db.defaults.Limits = []book.Limit{costs(day, 7), tokens(dayM, 50)}
	db.codes(ask(1, 60), record(2, 30))
	now := midnight.Add(time.Hour)

	standings := decide.Standings(db.config, db.read([]*decide.Op{ask(1, 0)}).Tenants[acme], &db.defaults, now)
	require.Len(t, standings, 3)
	require.Equal(t, costs(day, 100), standings[0].Limit)
	require.Equal(t, book.Balance{Scope: day, Start: midnight, End: midnight.AddDate(0, 0, 1)}, standings[0].Balance, "a new day")
	require.Equal(t, calls(month, 9), standings[1].Limit)
	require.Equal(t, db.balance(month), standings[1].Balance)
	require.Equal(t, tokens(dayM, 50), standings[2].Limit, "the ledger's, as its other is the tenant's own")
	require.Equal(t, noon.Add(-12*time.Hour), tenant.Balances[1].Start, "what was read is a copy")
}

func TestTime_IsNeverBeforeAWindowThatWasEntered(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	tenant := db.tenant(acme, "acme", book.Hard)
	require.Equal(t, noon, decide.Time(tenant, noon))
	db.codes(record(1, 1))
	day := noon.Add(-12 * time.Hour)
	require.Equal(t, day, decide.Time(tenant, day.Add(-time.Hour)))
	require.Equal(t, noon.Add(-time.Hour), decide.Time(tenant, noon.Add(-time.Hour)))
}
