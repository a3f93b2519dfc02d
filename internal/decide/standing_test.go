package decide_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/period"
)

func TestStandings_AreWhatADecisionWouldSee(t *testing.T) {
	t.Parallel()
	for _, window := range []period.Window{period.Hour, period.Day, period.Week, period.Month, period.Total} {
		for _, later := range []time.Duration{0, time.Minute, time.Hour, 13 * time.Hour, 8 * 24 * time.Hour, 40 * 24 * time.Hour, -time.Hour} {
			db := newDatabase(t)
			limit := book.Limit{Scope: book.Scope{Window: window}, Metric: book.Calls, Max: 3}
			acme := db.tenant(acme, "acme", book.Hard, limit)
			db.run(&decide.Op{Kind: decide.Record, Key: "acme", Exec: book.Execution{ID: id(1), Status: book.Succeeded, Charged: book.Amount{Calls: 3}}})

			db.now = db.now.Add(later)
			own := *acme
			own.Balances = append([]book.Balance(nil), acme.Balances...)
			standings := decide.Standings(db.config, []*book.Tenant{&own}, &db.defaults, decide.Time(&own, db.now))
			require.Len(t, standings, 1)

			db.limit(acme, book.Limit{Scope: limit.Scope, Metric: book.Calls, Max: 0})
			out := db.run(&decide.Op{Kind: decide.Reserve, Key: "acme", Exec: book.Execution{ID: id(2)}, Lifetime: time.Hour})[0]
			require.Equal(t, decide.Exceeded, out.Code)
			require.Equal(t, *out.Balance, standings[0].Balance, "%v, %v later", window, later)
			require.Equal(t, limit, standings[0].Limit)
		}
	}
}
