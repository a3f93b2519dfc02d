package tenant_test

import (
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/units"
)

func TestUsageSummary_TakesAPeriodApartByAgentAndByTheModelBilled(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, _ *tenant.Ledger) {
		known(t, db, "acme")
		hour := at(t, "2026-03-10T09:00:00Z")
		remember(t, db, "acme",
			past{at: hour.Add(-time.Microsecond), cost: 1e12, agent: "before"},
			// In the edge before the whole hours, in a whole hour, and in the edge after them.
			past{at: hour.Add(20 * time.Minute), cost: 5, tokens: 30, agent: "support", model: "small", usage: tenant.Usage{Input: 10, Output: 20, Units: units.Of(units.Pages, 1)}},
			past{at: hour.Add(70 * time.Minute), cost: 50, tokens: 40, agent: "support", model: "small", billed: "large", usage: tenant.Usage{Input: 40, Units: units.Of(units.Pages, 10).Plus(units.Of(units.InputAudio, 7))}},
			past{at: hour.Add(80 * time.Minute), cost: 7, tokens: 3, agent: "search", model: "large", status: "failed", usage: tenant.Usage{Reasoning: 3, WebSearches: 2}},
			past{at: hour.Add(125 * time.Minute), cost: 20, tokens: 9, model: "small", status: "abandoned"},
			past{at: hour.Add(126 * time.Minute), cost: 3, tokens: 1, agent: "search", model: "large", status: "failed", usage: tenant.Usage{Output: 1, Units: units.Of(units.Pages, 100)}},
			past{at: hour.Add(127 * time.Minute), cost: 1e12, agent: "running", status: "running"},
			past{at: hour.Add(128 * time.Minute), cost: 1e12, agent: "cancelled", status: "cancelled", usage: tenant.Usage{Units: units.Of(units.Pages, 1000)}},
			past{at: hour.Add(130 * time.Minute), cost: 1e12, agent: "after", usage: tenant.Usage{Units: units.Of(units.Pages, 1000)}})
		refused(t, db, "acme", hour.Add(20*time.Minute), "support", "small", 1000) // its hour begins before the period
		refused(t, db, "acme", hour.Add(70*time.Minute), "support", "small", 2)
		refused(t, db, "acme", hour.Add(129*time.Minute), "batch", "large", 4)

		p := tenant.Between(hour.Add(15*time.Minute), hour.Add(130*time.Minute))
		s, err := tenant.UsageSummary(t.Context(), db, acme, p)
		require.NoError(t, err)
		nano := func(n int64) decimal.Decimal { return decimal.New(n, -9) }
		want := tenant.Summary{
			From: hour.Add(15 * time.Minute), To: hour.Add(130 * time.Minute),
			Totals: tenant.Totals{
				Cost: nano(85), Charge: nano(85), Tokens: 83, Calls: 5, Errors: 2, Refusals: 6,
				Usage: tenant.Usage{Input: 50, Output: 21, Reasoning: 3, WebSearches: 2, Units: units.Of(units.Pages, 111).Plus(units.Of(units.InputAudio, 7))},
			},
			ByAgent: []tenant.AgentTotals{
				{Agent: "support", Totals: tenant.Totals{Cost: nano(55), Charge: nano(55), Tokens: 70, Calls: 2, Refusals: 2, Usage: tenant.Usage{Input: 50, Output: 20, Units: units.Of(units.Pages, 11).Plus(units.Of(units.InputAudio, 7))}}},
				{Agent: "", Totals: tenant.Totals{Cost: nano(20), Charge: nano(20), Tokens: 9, Calls: 1}},
				{Agent: "search", Totals: tenant.Totals{Cost: nano(10), Charge: nano(10), Tokens: 4, Calls: 2, Errors: 2, Usage: tenant.Usage{Output: 1, Reasoning: 3, WebSearches: 2, Units: units.Of(units.Pages, 100)}}},
				{Agent: "batch", Totals: tenant.Totals{Cost: nano(0), Charge: nano(0), Refusals: 4}},
			},
			ByModel: []tenant.ModelTotals{
				{Model: "large", Totals: tenant.Totals{Cost: nano(60), Charge: nano(60), Tokens: 44, Calls: 3, Errors: 2, Refusals: 4, Usage: tenant.Usage{Input: 40, Output: 1, Reasoning: 3, WebSearches: 2, Units: units.Of(units.Pages, 110).Plus(units.Of(units.InputAudio, 7))}}},
				{Model: "small", Totals: tenant.Totals{Cost: nano(25), Charge: nano(25), Tokens: 39, Calls: 2, Refusals: 2, Usage: tenant.Usage{Input: 10, Output: 20, Units: units.Of(units.Pages, 1)}}},
			},
		}
		require.Equal(t, want, s)

		s, err = tenant.UsageSummary(t.Context(), db, acme, tenant.AllTime)
		require.NoError(t, err)
		require.True(t, s.From.IsZero() && s.To.IsZero())
		require.EqualValues(t, 1006, s.Refusals)
		require.EqualValues(t, 7, s.Calls)
		require.EqualValues(t, 2_000_000_000_085, s.Cost.Shift(9).IntPart())
	})
}

func TestUsageSummary_CountsEveryRefusalInOnePartOfAPartition(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, _ *tenant.Ledger) {
		known(t, db, "acme")
		hour := at(t, "2026-03-10T09:00:00Z")
		for i := range 4 {
			refused(t, db, "acme", hour.Add(time.Duration(i)*time.Hour), "", "m", 1<<i)
		}
		for _, cuts := range [][]time.Duration{
			{0, 4 * time.Hour},
			{0, time.Hour, 4 * time.Hour},
			{0, 10 * time.Minute, 20 * time.Minute, 4 * time.Hour},
			{-time.Minute, 59 * time.Minute, 61 * time.Minute, 3 * time.Hour, 5 * time.Hour},
		} {
			var sum int64
			for i := range cuts[1:] {
				s, err := tenant.UsageSummary(t.Context(), db, acme, tenant.Between(hour.Add(cuts[i]), hour.Add(cuts[i+1])))
				require.NoError(t, err)
				sum += s.Refusals
			}
			require.EqualValues(t, 15, sum, cuts)
		}
	})
}

func TestUsageSummary_OfWhatTheLedgerHasBookedIsThatOfToday(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		usage := tenant.Usage{
			Input: 1, CacheRead: 2, CacheWrite5m: 3, CacheWrite1h: 4, Output: 5, Reasoning: 6,
			InputAudio: 7, OutputAudio: 8, InputImage: 9, OutputImage: 10, WebSearches: 11, CacheReadAudio: 12,
			Units: units.Of(units.InputAudio, 1500).Plus(units.Of(units.OutputImages.With("1024x1024", "hd"), 2)),
		}
		_, err := ledger.Record(t.Context(), acme, tenant.Actual{Model: "m", Usage: usage, Cost: tenant.USD("0.25")}, tenant.WithAgent("a"))
		require.NoError(t, err)
		for _, p := range []tenant.Period{tenant.Today, tenant.AllTime, tenant.Between(time.Now().Add(-time.Minute), time.Now())} {
			s, err := tenant.UsageSummary(t.Context(), db, acme, p)
			require.NoError(t, err)
			totals := tenant.Totals{Cost: decimal.New(25e7, -9), Charge: decimal.New(25e7, -9), Tokens: 67, Usage: usage, Calls: 1}
			require.Equal(t, totals, s.Totals, p)
			require.Equal(t, []tenant.AgentTotals{{Agent: "a", Totals: totals}}, s.ByAgent)
			require.Equal(t, []tenant.ModelTotals{{Model: "m", Totals: totals}}, s.ByModel)
		}
	})
}
