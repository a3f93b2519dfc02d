package tenant_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"pgregory.net/rapid"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/pricing"
)

// flat is a row of OpenAI's with one rate for every token, in US dollars per million.
func flat(model, rate string) pricing.Row {
	return pricing.Row{Provider: "openai", Model: model, Rates: pricing.Rates{Input: rate, Output: rate}}
}

func bookOf(t testing.TB, rows ...pricing.Row) *pricing.Book {
	t.Helper()
	b, err := pricing.New(rows...)
	require.NoError(t, err)
	return b
}

func withTerms(t testing.TB, b *pricing.Book, options ...pricing.Option) *pricing.Book {
	t.Helper()
	b, err := b.With(options...)
	require.NoError(t, err)
	return b
}

// eachPriced runs a test on every database, with a ledger whose price book can be replaced. The book that it begins with
// says a dollar for a million tokens of the model m.
func eachPriced(t *testing.T, test func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, live *pricing.Live), options ...tenant.OpenOption) {
	eachPricedOn(t, everyDatabase, test, options...)
}

func eachPricedOn(t *testing.T, databases []string, test func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, live *pricing.Live), options ...tenant.OpenOption) {
	for _, dialect := range databases {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db, live := openDatabase(t, dialect), pricing.NewLive(bookOf(t, flat("m", "1")))
			test(t, db, openLedger(t, db, append(options, tenant.WithPrices(live))...), live)
		})
	}
}

// used books a call that was made elsewhere.
func used(t testing.TB, ledger *tenant.Ledger, who tenant.Tenant, a tenant.Actual, options ...tenant.RecordOption) string {
	t.Helper()
	if a.Provider == "" {
		a.Provider = "openai"
	}
	if a.Model == "" {
		a.Model = "m"
	}
	s, err := ledger.Record(t.Context(), who, a, options...)
	require.NoError(t, err)
	return s.ExecutionID
}

// repriceAll reprices what there is around now.
func repriceAll(t testing.TB, ledger *tenant.Ledger, options ...tenant.RepriceOption) tenant.RepriceReport {
	t.Helper()
	report, err := ledger.Reprice(t.Context(), time.Now().AddDate(0, -3, 0), time.Now().Add(time.Hour), options...)
	require.NoError(t, err)
	return report
}

// sumsOf is a report's totals: calls, corrected, unpriced, and in nano-dollars booked and right.
func sumsOf(r tenant.RepriceTotals) [5]int64 {
	return [5]int64{r.Calls, r.Corrected, r.Unpriced, r.Booked.Shift(9).IntPart(), r.Right.Shift(9).IntPart()}
}

func chargesOf(r tenant.RepriceTotals) [5]int64 {
	return [5]int64{r.Calls, r.Corrected, r.Unpriced, r.BookedCharge.Shift(9).IntPart(), r.RightCharge.Shift(9).IntPart()}
}

// costsNow are what calls, and credits, are charged by the books, in nano-dollars, with their corrections.
func costsNow(t testing.TB, db *gorm.DB) map[string]int64 {
	t.Helper()
	var rows []struct {
		ID   string
		Cost int64
	}
	require.NoError(t, db.Raw(`SELECT CAST(coalesce(corrects, id) AS text) AS id, CAST(sum(charge) AS bigint) AS cost FROM llm_executions
		GROUP BY coalesce(corrects, id)`).Scan(&rows).Error)
	costs := map[string]int64{}
	for _, r := range rows {
		costs[r.ID] = r.Cost
	}
	return costs
}

func requireVerified(t testing.TB, db *gorm.DB, ledger *tenant.Ledger) {
	t.Helper()
	requireConservation(t, db)
	found, err := ledger.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, found)
}

func TestReprice_BooksWhatEachCallIsOffByToTheNano(t *testing.T) {
	t.Parallel()
	eachPriced(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, live *pricing.Live) {
		support := tenant.WithAgent("support")
		plain := used(t, ledger, acme, tenant.Actual{Usage: tenant.Usage{Input: 333, CacheRead: 77, Output: 10, Reasoning: 3}}, support, tenant.WithTag("user", "7"))
		long := used(t, ledger, acme, tenant.Actual{Model: "m-2026-01-01", Usage: tenant.Usage{Input: 1500}})
		batch := used(t, ledger, acme, tenant.Actual{ServiceTier: "batch", Usage: tenant.Usage{Input: 101, Output: 7}})
		failed := used(t, ledger, nil, tenant.Actual{ErrorCode: "cut_short", Usage: tenant.Usage{Input: 10}})
		named := used(t, ledger, acme, tenant.Actual{Cost: tenant.USD("1"), Usage: tenant.Usage{Input: 100}})
		credit, err := ledger.Credit(t.Context(), acme, tenant.USD("0.5"), "goodwill")
		require.NoError(t, err)
		running, err := ledger.Reserve(t.Context(), acme, tenant.Estimate{Provider: "openai", Model: "m", InputTokens: 100})
		require.NoError(t, err)

		right := flat("m", "1.2345")
		right.Output, right.CacheRead = "4", "0.1"
		right.Tiers = []pricing.Tier{{Above: 1000, Rates: pricing.Rates{Input: "2", Output: "8"}}}
		right.Services = map[string]pricing.Service{"batch": {Rates: pricing.Rates{Input: "0.5", Output: "2"}}}
		live.Set(bookOf(t, right))
		want := map[string]int64{plain: 470_789 /* .5 of it rounded up */, long: 3_000_000, batch: 64_500, failed: 12_345, named: 1e9, credit.ExecutionID: -5e8, running.ExecutionID: 0}
		sums := [5]int64{4, 4, 0, 423_000 + 1_500_000 + 108_000 + 10_000, 470_789 + 3_000_000 + 64_500 + 12_345}

		before := rowsOf(t, db)
		var seen int64
		dry := repriceAll(t, ledger, tenant.WithDryRun(), tenant.WithRepriceProgress(func(calls int64) { seen = calls }))
		require.GreaterOrEqual(t, seen, int64(4))
		require.Equal(t, sums, sumsOf(dry.RepriceTotals))
		require.Equal(t, "0.001506634", dry.Difference().String())
		type line struct {
			tenant, model string
			sums          [5]int64
		}
		var lines []line
		for _, l := range dry.Lines {
			require.Equal(t, "openai", l.Provider)
			lines = append(lines, line{l.TenantID, l.Model, sumsOf(l.RepriceTotals)})
		}
		require.Equal(t, []line{
			{"", "m", [5]int64{1, 1, 0, 10_000, 12_345}},
			{"acme", "m", [5]int64{2, 2, 0, 531_000, 535_289}},
			{"acme", "m-2026-01-01", [5]int64{1, 1, 0, 1_500_000, 3_000_000}},
		}, lines)
		after := rowsOf(t, db)
		for _, rows := range []map[string][]map[string]any{before, after} {
			delete(rows, "llm_processes") // its heartbeat
		}
		require.Equal(t, before, after, "a dry run writes nothing")

		ctx := tenant.ContextWithReason(tenant.ContextWithActor(t.Context(), "ops@host"), "wrong list of 12 May")
		report, err := ledger.Reprice(ctx, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
		require.NoError(t, err)
		require.Equal(t, dry, report)
		require.Equal(t, want, costsNow(t, db))
		requireVerified(t, db, ledger)
		require.Equal(t, "0.503535289", chargeToday(t, db, acme))
		summary, err := tenant.UsageSummary(t.Context(), db, acme, tenant.Today)
		require.NoError(t, err)
		require.EqualValues(t, 4, summary.Calls, "corrections are no calls")
		costs := map[string]string{}
		for _, m := range summary.ByModel {
			costs[m.Model] = m.Charge.String()
		}
		require.Equal(t, map[string]string{"": "-0.5", "m": "1.000535289", "m-2026-01-01": "0.003"}, costs)

		var call, c tenant.Execution
		require.NoError(t, booked(db).First(&call, "id = ?", plain).Error)
		require.EqualValues(t, 423_000, call.CostNano, "the call stays as it was")
		require.NoError(t, booked(db).First(&c, "corrects = ?", plain).Error)
		require.Equal(t, []any{"acme", "adjusted", "support", "openai", "m", "m", "openai/m", "wrong list of 12 May", "ops@host", int64(47_789), int64(0), int64(0)},
			[]any{c.TenantID, c.Status, c.Agent, c.Provider, c.Model, c.BilledModel, c.Price, c.Reason, c.Actor, c.CostNano, c.Tokens, c.Calls})
		require.Equal(t, call.Tags, c.Tags)
		require.True(t, call.AdmittedAt.Equal(c.AdmittedAt))

		again := repriceAll(t, ledger)
		require.Equal(t, [5]int64{4, 0, 0, sums[4], sums[4]}, sumsOf(again.RepriceTotals))
		require.Empty(t, again.Lines)
		require.Equal(t, want, costsNow(t, db), "twice books nothing twice")

		live.Set(bookOf(t, flat("m", "0.5")))
		third := repriceAll(t, ledger)
		require.Equal(t, [5]int64{4, 4, 0, sums[4], sums[3] / 2}, sumsOf(third.RepriceTotals), "corrections are corrected")
		require.EqualValues(t, 211_500, costsNow(t, db)[plain])
		requireVerified(t, db, ledger)
		_, err = ledger.Release(t.Context(), running)
		require.NoError(t, err)
	})
}

// A window that is over keeps its balance; whoever asks about its time gets the right figure.
func TestReprice_MovesBalancesOnlyInWindowsThatAreOpen(t *testing.T) {
	t.Parallel()
	eachPriced(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, live *pricing.Live) {
		used(t, ledger, acme, tenant.Actual{Usage: tenant.Usage{Input: 1000}})
		now := time.Now().UTC()
		today := now.Truncate(24 * time.Hour)
		changes := today.Add(-30 * time.Hour) // in the day before yesterday
		was := func(at time.Time, status, price string) past {
			return past{at: at, cost: 1e6, tokens: 1000, status: status, usage: tenant.Usage{Input: 1000}, price: price, agent: "support"}
		}
		remember(t, db, "acme",
			was(changes.Add(-time.Microsecond), "succeeded", "openai/m"),
			was(changes, "succeeded", "openai/m"),
			was(today.Add(-time.Microsecond), "failed", "openai/m"),
			was(today.Add(-time.Hour), "abandoned", ""), // its hold was charged
		)
		old, new := flat("m", "2"), flat("m", "3")
		old.Until, new.From = changes, changes
		live.Set(bookOf(t, old, new))

		stands := func(window string) int64 { return balanceOf(t, db, "acme", window).SpentCost }
		day, total := stands("day"), stands("total")
		report, err := ledger.Reprice(t.Context(), changes.Add(-time.Microsecond), today)
		require.NoError(t, err)
		require.Equal(t, [5]int64{3, 3, 0, 3e6, 2e6 + 3e6 + 3e6}, sumsOf(report.RepriceTotals))
		require.Equal(t, day, stands("day"), "today's is not touched by yesterday's corrections")
		require.Equal(t, total+5e6, stands("total"))
		requireVerified(t, db, ledger)

		of := func(p tenant.Period) int64 {
			cost, err := tenant.Cost(t.Context(), db, acme, p)
			require.NoError(t, err)
			return cost.Shift(9).IntPart()
		}
		require.EqualValues(t, 3e6+1e6, of(tenant.Yesterday), "with the hold that was charged")
		require.EqualValues(t, 2e6, of(tenant.Between(changes.Add(-time.Hour), changes)), "to the instant")
		require.EqualValues(t, 3e6, of(tenant.Between(changes, changes.Add(time.Hour))))
		report, err = ledger.Reprice(t.Context(), today, now.Add(time.Hour))
		require.NoError(t, err)
		require.Equal(t, [5]int64{1, 1, 0, 1e6, 3e6}, sumsOf(report.RepriceTotals), "from is in it, to is not")
		require.Equal(t, day+2e6, stands("day"))
		requireVerified(t, db, ledger)
	})
}

func TestReprice_CountsForWhoStoodAboveAtTheCall(t *testing.T) {
	t.Parallel()
	eachPricedOn(t, []string{"postgres", "sqlite"}, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, live *pricing.Live) {
		place(t, db, "old", "", "10")
		place(t, db, "new", "", "10")
		place(t, db, "team", "old", "10")
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, tenant.ID("old"), func(b *tenant.Budget) error {
			b.Limits.Also = []tenant.Limit{{Window: tenant.Week, Model: "m", Agent: "a", Cost: tenant.USD("50")}}
			return nil
		}))
		used(t, ledger, tenant.ID("team"), tenant.Actual{Usage: tenant.Usage{Input: 1e6}}, tenant.WithAgent("a"))
		place(t, db, "team", "new", "10")
		live.Set(bookOf(t, flat("m", "3")))
		report := repriceAll(t, ledger)
		require.Equal(t, "2", report.Difference().String())
		below := tenant.WithDescendants()
		require.Equal(t, []string{"3", "3", "0", "3"}, []string{
			costToday(t, db, tenant.ID("team")), costToday(t, db, tenant.ID("old"), below), costToday(t, db, tenant.ID("new"), below), costToday(t, db, tenant.Root, below),
		})
		status, err := tenant.BudgetStatus(t.Context(), db, tenant.ID("old"))
		require.NoError(t, err)
		var spent []string
		for _, l := range status.Limits {
			spent = append(spent, fmt.Sprint(l.TenantID, " ", l.Window, " ", l.Spent))
		}
		require.ElementsMatch(t, []string{"old day 3", "old week 3", "llm_root month 3"}, spent)
		require.NoError(t, call(t, ledger, tenant.ID("team"), "7"))
		require.ErrorIs(t, call(t, ledger, tenant.ID("team"), "0.1"), tenant.ErrBudgetExceeded, "what is corrected is spent")
		requireVerified(t, db, ledger)
	}, tenant.WithRootBudget(tenant.Limits{MonthlyCost: tenant.USD("1000")}, tenant.Soft))
}

// What is right is what a settle would charge by the book as it is now.
func TestReprice_ChargesByTheTermsAndByWhatIsStated(t *testing.T) {
	t.Parallel()
	open := pricing.Row{Provider: "openrouter", Model: "m", Rates: pricing.Rates{Input: "1", Output: "1"}}
	usage := tenant.Usage{Input: 1001}
	for name, c := range map[string]struct {
		actual      tenant.Actual
		was, change []pricing.Option
		want        []int64 // what is charged before and after
		cost        []int64 // what it costs, where that is another figure
	}{
		"a factor": {was: []pricing.Option{pricing.TenantTerms("acme", pricing.Terms{Factor: "+20%"})},
			change: []pricing.Option{pricing.TenantTerms("acme", pricing.Terms{Factor: "0.3333"})}, want: []int64{1_201_200, 333_633}, cost: []int64{1_001_000, 1_001_000}},
		"somebody else's factor": {change: []pricing.Option{pricing.TenantTerms("globex", pricing.Terms{Factor: "2"})}, want: []int64{1_001_000, 1_001_000}},
		"a negotiated price":     {change: []pricing.Option{pricing.TenantTerms("acme", pricing.Terms{Rows: []pricing.Row{flat("m", "0.25")}})}, want: []int64{1_001_000, 250_250}, cost: []int64{1_001_000, 1_001_000}},
		"a key of its own":       {change: []pricing.Option{pricing.TenantTerms("acme", pricing.Terms{OwnKeys: []string{"openai"}})}, want: []int64{1_001_000, 0}},
		"a price that is stated": {actual: tenant.Actual{Provider: "openrouter", ReportedCost: tenant.USD("0.5")},
			change: []pricing.Option{pricing.Override(pricing.Row{Provider: "openrouter", Model: "m", Rates: pricing.Rates{Input: "2", Output: "2"}})}, want: []int64{5e8, 5e8}},
		"a share of what is stated": {actual: tenant.Actual{Provider: "openrouter", ReportedCost: tenant.USD("0.5")},
			change: []pricing.Option{pricing.TenantTerms("acme", pricing.Terms{Factor: "1.1"})}, want: []int64{5e8, 55e7}, cost: []int64{5e8, 5e8}},
		"what is stated is not believed any more": {actual: tenant.Actual{Provider: "openrouter", ReportedCost: tenant.USD("0.5")},
			change: []pricing.Option{pricing.ChargeComputed("openrouter")}, want: []int64{5e8, 1_001_000}},
		"what is stated is believed now": {actual: tenant.Actual{ReportedCost: tenant.USD("0.5")},
			change: []pricing.Option{pricing.ChargeReported("openai")}, want: []int64{1_001_000, 5e8}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			live := pricing.NewLive(withTerms(t, bookOf(t, flat("m", "1"), open), c.was...))
			db := openDatabase(t, "sqlite")
			ledger := openLedger(t, db, tenant.WithPrices(live))
			c.actual.Usage = usage
			used(t, ledger, acme, c.actual)
			live.Set(withTerms(t, bookOf(t, flat("m", "1"), open), c.change...))
			report := repriceAll(t, ledger)
			require.Equal(t, c.want, []int64{report.BookedCharge.Shift(9).IntPart(), report.RightCharge.Shift(9).IntPart()})
			if c.cost == nil {
				c.cost = c.want
			}
			costs := []int64{report.Booked.Shift(9).IntPart(), report.Right.Shift(9).IntPart()}
			require.Equal(t, c.cost, costs)
			require.Equal(t, []string{report.Right.String(), report.RightCharge.String()}, []string{costToday(t, db, acme), chargeToday(t, db, acme)})
			requireVerified(t, db, ledger)
		})
	}
}

func TestReprice_GoesByTheTermsOfTheIDThatTheTenantHasNow(t *testing.T) {
	t.Parallel()
	eachPriced(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, live *pricing.Live) {
		terms := func(id string) *pricing.Book {
			return withTerms(t, bookOf(t, flat("m", "1")), pricing.TenantTerms(id, pricing.Terms{Factor: "0.5"}))
		}
		live.Set(terms("acme"))
		used(t, ledger, acme, tenant.Actual{Usage: tenant.Usage{Input: 1000}})
		require.NoError(t, ledger.Rename(t.Context(), "acme", "acme-inc"))
		live.Set(terms("acme-inc"))
		require.Equal(t, [5]int64{1, 0, 0, 500_000, 500_000}, chargesOf(repriceAll(t, ledger).RepriceTotals))
		live.Set(terms("acme"))
		report := repriceAll(t, ledger).RepriceTotals
		require.Equal(t, [5]int64{1, 1, 0, 500_000, 1_000_000}, chargesOf(report))
		require.Equal(t, "0.0005", report.ChargeDifference().String())
		require.Equal(t, [5]int64{1, 1, 0, 1_000_000, 1_000_000}, sumsOf(report), "it costs what it did")
		requireVerified(t, db, ledger)
	})
}

func TestReprice_LeavesWhatHasNoPriceAndPricesWhatHadNone(t *testing.T) {
	t.Parallel()
	eachPriced(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, live *pricing.Live) {
		usage := tenant.Usage{Input: 1000}
		priced := used(t, ledger, acme, tenant.Actual{Usage: usage})
		unpriced := used(t, ledger, acme, tenant.Actual{Model: "new", Usage: usage})
		hold, err := ledger.Reserve(t.Context(), acme, tenant.Estimate{Provider: "openai", Model: "m", InputTokens: 2000})
		require.NoError(t, err)
		live.Set(bookOf(t, flat("other", "1")))
		s, err := ledger.Settle(t.Context(), hold, tenant.Actual{Usage: usage})
		require.NoError(t, err)
		require.Equal(t, "0.002", s.Cost.String(), "its hold, as the price is gone")

		report := repriceAll(t, ledger)
		require.Equal(t, [5]int64{0, 0, 3, 0, 0}, sumsOf(report.RepriceTotals))
		require.Len(t, report.Lines, 2)
		require.Equal(t, map[string]int64{priced: 1e6, unpriced: 0, hold.ExecutionID: 2e6}, costsNow(t, db))

		live.Set(bookOf(t, flat("m", "4"), flat("new", "5")))
		report = repriceAll(t, ledger)
		require.Equal(t, [5]int64{3, 3, 0, 3e6, 13e6}, sumsOf(report.RepriceTotals))
		require.Equal(t, map[string]int64{priced: 4e6, unpriced: 5e6, hold.ExecutionID: 4e6}, costsNow(t, db))

		live.Set(bookOf(t, flat("m", "2000000000"), flat("new", "5")))
		report = repriceAll(t, ledger)
		require.Equal(t, [5]int64{1, 0, 2, 5e6, 5e6}, sumsOf(report.RepriceTotals), "a price that cannot be meant")
		requireVerified(t, db, ledger)
	})
}

func TestReprice_OfSomeTenantsAndModelsLeavesTheOthers(t *testing.T) {
	t.Parallel()
	eachPriced(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, live *pricing.Live) {
		live.Set(bookOf(t, flat("m", "1"), flat("n", "1")))
		usage := tenant.Usage{Input: 1000}
		ids := map[string]string{}
		for _, who := range []tenant.Tenant{acme, tenant.ID("globex"), nil} {
			for _, model := range []string{"m", "n"} {
				ids[fmt.Sprint(who, model)] = used(t, ledger, who, tenant.Actual{Model: model, Usage: usage})
			}
		}
		suspended := func(b *tenant.Budget) error { b.Suspended = true; return nil }
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, acme, suspended))
		require.NoError(t, ledger.Rename(t.Context(), "acme", "acme-inc"))
		live.Set(bookOf(t, flat("m", "2"), flat("n", "2")))
		right := func() (names []string) {
			costs := costsNow(t, db)
			for name, id := range ids {
				if costs[id] == 2e6 {
					names = append(names, name)
				}
			}
			return names
		}
		report := repriceAll(t, ledger, tenant.OnlyTenants(tenant.ID("acme-inc"), nil, tenant.ID("acme-inc")), tenant.OnlyModels("n", "x"))
		require.Equal(t, [5]int64{2, 2, 0, 2e6, 4e6}, sumsOf(report.RepriceTotals))
		require.ElementsMatch(t, []string{"acmen", "<nil>n"}, right())
		require.Equal(t, "acme", report.Lines[1].TenantID, "as it was at the call")
		repriceAll(t, ledger, tenant.OnlyModels("m"))
		require.ElementsMatch(t, []string{"acmen", "<nil>n", "acmem", "<nil>m", "globexm"}, right())
		requireVerified(t, db, ledger)
	})
}

func TestReprice_ThatCannotBeMeant(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "sqlite")
	ledger := openLedger(t, db, tenant.WithPrices(bookOf(t, flat("m", "1"))))
	now := time.Now()
	for want, run := range map[string]func(ctx context.Context) error{
		"is not before":       func(ctx context.Context) error { _, err := ledger.Reprice(ctx, now, now); return err },
		"a nil RepriceOption": func(ctx context.Context) error { _, err := ledger.Reprice(ctx, now, now.Add(1), nil); return err },
		"OnlyTenants: there is non": func(ctx context.Context) error {
			_, err := ledger.Reprice(ctx, now, now.Add(1), tenant.OnlyTenants())
			return err
		},
		`no tenant "acme"`: func(ctx context.Context) error {
			_, err := ledger.Reprice(ctx, now, now.Add(1), tenant.OnlyTenants(acme))
			return err
		},
		"OnlyModels: [": func(ctx context.Context) error {
			_, err := ledger.Reprice(ctx, now, now.Add(1), tenant.OnlyModels())
			return err
		},
		`OnlyModels: ["m" ""]`: func(ctx context.Context) error {
			_, err := ledger.Reprice(ctx, now, now.Add(1), tenant.OnlyModels("m", ""))
			return err
		},
		"reason in ContextWithReason": func(ctx context.Context) error {
			_, err := ledger.Reprice(tenant.ContextWithReason(ctx, "a\x00"), now, now.Add(1))
			return err
		},
	} {
		err := run(t.Context())
		require.ErrorIs(t, err, tenant.ErrInvalidOption, want)
		require.ErrorContains(t, err, want)
	}
	_, err := ledger.Reprice(t.Context(), now, now.Add(1), tenant.OnlyTenants(tenant.ID("")))
	require.ErrorIs(t, err, tenant.ErrInvalidTenant)
	require.NoError(t, ledger.Close(t.Context()))
	_, err = ledger.Reprice(t.Context(), now, now.Add(1))
	require.ErrorIs(t, err, tenant.ErrClosed)
	unpriced := openLedger(t, openDatabase(t, "sqlite"))
	_, err = unpriced.Reprice(t.Context(), now, now.Add(1))
	require.ErrorContains(t, err, "without prices")
}

// Whatever was charged, and however often it was corrected: each call costs in the end what it would have been charged by
// the last price book.
func TestReprice_EndsAtWhatTheLastPriceBookCharges(t *testing.T) {
	t.Parallel()
	db, live := openDatabase(t, "sqlite"), pricing.NewLive(nil)
	ledger := openLedger(t, db, tenant.WithPrices(live))
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		who := tenant.ID(fmt.Sprint("tenant-", n))
		book := func() *pricing.Book {
			rate := rapid.Custom(func(rt *rapid.T) string { return money.Format(rapid.Int64Range(1, 30e9).Draw(rt, "rate"))[1:] })
			row := flat("m", rate.Draw(rt, "input"))
			row.Output, row.CacheRead, row.Request = rate.Draw(rt, "output"), rate.Draw(rt, "cache"), rate.Draw(rt, "fee")
			factor := rapid.Int64Range(1, 3e9).Draw(rt, "factor")
			return withTerms(t, bookOf(t, row), pricing.TenantTerms(string(who), pricing.Terms{Factor: money.Format(factor)[1:]}))
		}
		live.Set(book())
		count := rapid.Int64Range(0, 100_000)
		usages := map[string]tenant.Usage{}
		for range rapid.IntRange(1, 4).Draw(rt, "calls") {
			u := tenant.Usage{Input: count.Draw(rt, "in"), Output: count.Draw(rt, "out"), CacheRead: count.Draw(rt, "cached")}
			usages[used(t, ledger, who, tenant.Actual{Usage: u})] = u
		}
		var last tenant.RepriceReport
		for range rapid.IntRange(1, 3).Draw(rt, "books") {
			live.Set(book())
			last = repriceAll(t, ledger, tenant.OnlyTenants(who))
		}
		price, ok := live.TenantPrice(string(who), "openai", "m", time.Now())
		require.True(rt, ok)
		var total, cost int64
		costs := costsNow(t, db)
		for id, u := range usages {
			require.Equal(rt, inNano(price.Charge(u)), costs[id])
			total += inNano(price.Charge(u))
			cost += inNano(price.Cost(u))
		}
		require.Equal(rt, total, last.RightCharge.Shift(9).IntPart())
		require.Equal(rt, cost, last.Right.Shift(9).IntPart())
		require.Equal(rt, cost, balanceOf(t, db, string(who), "day").SpentCost)
		again := repriceAll(t, ledger, tenant.OnlyTenants(who))
		require.Zero(rt, again.Corrected)
		require.Equal(rt, last.Right.String(), again.Booked.String())
	})
	requireVerified(t, db, ledger)
}
