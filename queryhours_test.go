package tenant_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// The hours since the last folded day are folded of everybody: they are read where a question is about all tenants, changed with what
// comes late, and gone when their day is folded.
func TestQueryUsage_OfEverybodyReadsTheFoldedHoursSinceTheLastDay(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		known(t, db, "acme", "globex")
		now := at(t, "2025-05-12T10:20:00Z")
		tenant.SetClock(ledger, now)
		for i, key := range []string{"acme", "globex", "acme", "globex"} {
			// Yesterday, and today at 1:40, 3:40, 5:40, and 7:40, of which the last is not folded yet.
			remember(t, db, key, past{at: now.Add(-30 * time.Hour), cost: 1_000, agent: "a"},
				past{at: at(t, "2025-05-12T01:40:00Z").Add(time.Duration(i) * 2 * time.Hour), cost: int64(10) << i, agent: "b"})
		}
		require.NoError(t, ledger.RollUp(t.Context()))
		hours := func() (starts []string) {
			t.Helper()
			require.NoError(t, db.Raw(`SELECT DISTINCT CAST(window_start AS text) AS s FROM llm_usage_windows WHERE window_unit = 'hour' ORDER BY s`).Scan(&starts).Error)
			for i := range starts {
				starts[i] = starts[i][len("2025-05-"):len("2025-05-12 01")]
			}
			return starts
		}
		require.Equal(t, []string{"12 01", "12 03", "12 05"}, hours())
		var tenants int64
		require.NoError(t, db.Raw(`SELECT count(*) FROM llm_usage_windows WHERE window_unit = 'hour' AND tenant IN (SELECT id FROM llm_tenants)`).Scan(&tenants).Error)
		require.Zero(t, tenants, "hours are folded of everybody only")

		days := tenant.Date(2025, time.May, 11).Through(2025, time.May, 12)
		ask := func(q tenant.Query) (costs []int64) {
			t.Helper()
			q.Period = days
			answer, err := tenant.QueryUsage(t.Context(), db, q)
			require.NoError(t, err)
			sum := answer.Total.Cost
			for _, row := range answer.Rows {
				costs, sum = append(costs, row.Cost.Shift(9).IntPart()), sum.Sub(row.Cost)
			}
			require.True(t, sum.IsZero(), "the rows add up to the total")
			return costs
		}
		everybody := func(by ...tenant.Group) []int64 { return ask(tenant.Query{Everybody: true, By: by}) }
		right := func(more int64) {
			t.Helper()
			require.Equal(t, []int64{4_000, 150 + more}, everybody(tenant.ByDay))
			require.Equal(t, []int64{2_100, 2_050 + more}, everybody(tenant.ByTenant))
			require.Equal(t, []int64{4_000, 150 + more}, everybody(tenant.ByAgent))
			require.Len(t, everybody(tenant.ByTenant, tenant.ByAgent), 4)
			require.Equal(t, []int64{2_000, 50 + more}, ask(tenant.Query{Tenant: tenant.ID("acme"), By: []tenant.Group{tenant.ByDay}}))
			found, err := ledger.Verify(t.Context())
			require.NoError(t, err)
			require.Empty(t, found)
		}
		right(0)
		require.NoError(t, db.Exec(`UPDATE llm_usage_windows SET window_unit = 'away' WHERE window_unit = 'hour'`).Error)
		require.Equal(t, []int64{4_000, 80}, everybody(tenant.ByDay), "they are read where they are folded")
		require.Equal(t, []int64{2_000, 50}, ask(tenant.Query{Tenant: tenant.ID("acme"), By: []tenant.Group{tenant.ByDay}}), "and not for one tenant")
		found, err := ledger.Verify(t.Context())
		require.NoError(t, err)
		require.NotEmpty(t, found, "Verify sees that they are gone")
		require.Contains(t, fmt.Sprint(found), "hour of UTC that begins at 2025-05-12T01:00:00Z")
		require.NoError(t, db.Exec(`UPDATE llm_usage_windows SET window_unit = 'hour' WHERE window_unit = 'away'`).Error)
		right(0)

		// What comes late counts at once, and when the hour is folded anew.
		require.NoError(t, db.Exec(`UPDATE llm_executions SET cost = cost + 7 WHERE cost = 10`).Error)
		_, err = ledger.Repair(t.Context())
		require.NoError(t, err)
		right(7)
		require.NoError(t, ledger.RollUp(t.Context()))
		right(7)
		require.Equal(t, []string{"12 01", "12 03", "12 05"}, hours())

		// When their day is folded, they go.
		tenant.SetClock(ledger, now.Add(19*time.Hour))
		require.NoError(t, ledger.RollUp(t.Context()))
		require.Empty(t, hours())
		right(7)

		// A clock that goes back has everything folded anew.
		tenant.SetClock(ledger, now)
		require.NoError(t, ledger.RollUp(t.Context()))
		require.Equal(t, []string{"12 01", "12 03", "12 05"}, hours())
		right(7)
	})
}

// The last lines of the roll-up are looked up one by one, and those before them are read together.
func TestQueryUsage_OfHoursWithManyLinesHasEachLineOnce(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		known(t, db, "acme", "globex")
		now := at(t, "2025-05-12T10:20:00Z")
		tenant.SetClock(ledger, now)
		for _, lines := range []int{1, 31, 32, 33, 70} {
			require.NoError(t, db.Exec(`DELETE FROM llm_usage`).Error)
			require.NoError(t, db.Exec(`DELETE FROM llm_executions`).Error)
			want := map[string]int64{}
			var own, others []past
			for i := range lines {
				agent, cost, hour := fmt.Sprintf("agent-%02d", i/2), int64(1_000+i), now.Add(-time.Duration(i%3)*time.Hour)
				yesterday := past{at: now.Add(-11 * time.Hour), cost: 5, agent: agent}
				own = append(own, past{at: hour, cost: cost, agent: agent}, yesterday)
				others = append(others, past{at: hour, cost: 7, agent: agent})
				want[agent] += cost
			}
			remember(t, db, "acme", own...)
			remember(t, db, "globex", others...)
			for _, by := range [][]tenant.Group{{tenant.ByAgent}, {tenant.ByAgent, tenant.ByHour}} {
				for _, descendants := range []bool{false, true} {
					answer, err := tenant.QueryUsage(t.Context(), db, tenant.Query{
						Tenant: tenant.ID("acme"), Descendants: descendants, Period: tenant.Date(2025, time.May, 12), By: by,
					})
					require.NoError(t, err)
					got := map[string]int64{}
					for _, row := range answer.Rows {
						if cost := row.Cost.Shift(9).IntPart(); cost > 0 { // hours without calls are there too
							got[row.Keys[0]] += cost
						}
					}
					require.Equal(t, want, got, "%d lines by %v", lines, by)
				}
			}
		}
	})
}
