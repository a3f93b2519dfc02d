package tenant_test

import (
	"errors"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/pricing"
	"github.com/llmtenant/tenant/tenanttest"
)

// Each kind of terms, and each way in which a call can end: what the provider bills, and what the tenant is charged.
func TestCharge_IsByTheTermsAndTheCostIsNot(t *testing.T) {
	t.Parallel()
	book, err := pricing.Default().With(
		pricing.Override(flat("m", "1"), flat("dear", "10"), pricing.Row{Provider: "mistral", Model: "m", Rates: pricing.Rates{Input: "3", Output: "3"}}),
		pricing.TenantTerms("more", pricing.Terms{Factor: "+30%"}),
		pricing.TenantTerms("less", pricing.Terms{Factor: "0.7"}),
		pricing.TenantTerms("agreed", pricing.Terms{Factor: "5", Rows: []pricing.Row{flat("m", "0.4"), flat("unlisted", "0.8")}}),
		pricing.TenantTerms("own", pricing.Terms{Factor: "5", OwnKeys: []string{"openai"}}),
		pricing.TenantTerms("fee", pricing.Terms{OwnKeys: []string{"openai"}, OwnKeyFactor: "0.05"}),
		pricing.TenantTerms("own agreed", pricing.Terms{OwnKeys: []string{"openai"}, Rows: []pricing.Row{flat("m", "0.4")}}),
	)
	require.NoError(t, err)
	usage := tenant.Usage{Input: 700, Output: 300}
	used := func(model string) tenant.Actual { return tenant.Actual{Provider: "openai", Model: model, Usage: usage} }
	with := func(a tenant.Actual, change func(*tenant.Actual)) tenant.Actual { change(&a); return a }
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		for _, c := range []struct {
			who          string
			actual       tenant.Actual
			cost, charge string
			unpriced     bool
			price        string
		}{
			{"plain", used("m"), "0.001", "0.001", false, "openai/m"},
			{"more", used("m"), "0.001", "0.0013", false, "openai/m x1.3"},
			{"less", used("m"), "0.001", "0.0007", false, "openai/m x0.7"},
			{"agreed", used("m"), "0.001", "0.0004", false, "openai/m negotiated"},
			{"agreed", used("dear"), "0.01", "0.05", false, "openai/dear x5"},
			{"agreed", used("unlisted"), "0.0008", "0.0008", false, "openai/unlisted negotiated"},
			{"own", used("m"), "0", "0", false, "openai/m own key"},
			{"own", used("unlisted"), "0", "0", false, "openai/unlisted own key"},
			{"own", with(used("m"), func(a *tenant.Actual) { a.Provider = "mistral" }), "0.003", "0.015", false, "mistral/m x5"},
			{"fee", used("m"), "0", "0.00005", false, "openai/m own key x0.05"},
			{"fee", used("unlisted"), "0", "0", true, ""},
			{"own agreed", used("m"), "0", "0.0004", false, "openai/m negotiated own key"},
			{"own agreed", used("dear"), "0", "0", false, "openai/dear own key"},
			{"more", used("unlisted"), "0", "0", true, ""},

			{"more", with(used("m"), func(a *tenant.Actual) { a.Cost = tenant.USD("2") }), "2", "2.6", false, ""},
			{"agreed", with(used("m"), func(a *tenant.Actual) { a.Cost = tenant.USD("2") }), "2", "0.0004", false, ""},
			{"own", with(used("m"), func(a *tenant.Actual) { a.Cost = tenant.USD("2") }), "0", "0", false, ""},
			{"fee", with(used("m"), func(a *tenant.Actual) { a.Cost = tenant.USD("2") }), "0", "0.1", false, ""},
			{"more", with(used("m"), func(a *tenant.Actual) { a.Charge = tenant.USD("0.25") }), "0.001", "0.25", false, "named"},
			{"own", with(used("m"), func(a *tenant.Actual) { a.Charge = tenant.USD("0.25") }), "0", "0.25", false, "named"},
			{"more", with(used("m"), func(a *tenant.Actual) { a.Cost, a.Charge = tenant.USD("2"), tenant.USD("0") }), "2", "0", false, ""},

			{"more", tenant.Actual{Provider: "openrouter", Model: "x", Usage: usage, ReportedCost: tenant.USD("0.5")}, "0.5", "0.65", false, "openrouter/x"},
		} {
			s, err := ledger.Record(t.Context(), tenant.ID(c.who), c.actual)
			require.NoError(t, err)
			require.Equal(t, []any{c.cost, c.charge, c.unpriced}, []any{s.Cost.String(), s.Charge.String(), s.Unpriced}, "%s %+v", c.who, c.actual)
			var e tenant.Execution
			require.NoError(t, booked(db).First(&e, "id = ?", s.ExecutionID).Error)
			require.Equal(t, []string{c.cost, c.charge, c.price}, []string{e.Cost().String(), e.Charge().String(), e.Price}, "%s %+v", c.who, c.actual)
			require.Equal(t, s.Charge.Sub(s.Cost).String(), e.Margin().String())
		}
		requireConservation(t, db)
		requireVerified(t, db, ledger)
		summary, err := tenant.UsageSummary(t.Context(), db, tenant.ID("less"), tenant.Today)
		require.NoError(t, err)
		require.Equal(t, []string{"0.001", "0.0007", "-0.0003"}, []string{summary.Cost.String(), summary.Charge.String(), summary.Margin().String()})
		require.Equal(t, "0.0007", chargeToday(t, db, tenant.ID("less")))
		month, err := tenant.ChargeThisMonth(t.Context(), db, tenant.ID("less"))
		require.NoError(t, err)
		require.Equal(t, "0.0007", month.String())
	}, tenant.WithPrices(book))
}

// What was held is what both stand at until the call is settled, and where nobody knows what it used.
func TestCharge_HoldsBothAndAnAbandonedCallIsChargedBoth(t *testing.T) {
	t.Parallel()
	book, err := pricing.Default().With(pricing.Override(flat("m", "1")), pricing.TenantTerms("acme", pricing.Terms{Factor: "2"}))
	require.NoError(t, err)
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		hold, err := ledger.Reserve(t.Context(), acme, tenant.Estimate{Provider: "openai", Model: "m", InputTokens: 600, OutputTokens: 400})
		require.NoError(t, err)
		require.Equal(t, []string{"0.001", "0.002"}, []string{hold.Cost.String(), hold.Charge.String()})
		named, err := ledger.Reserve(t.Context(), acme, tenant.Estimate{Provider: "openai", Model: "m", Cost: tenant.USD("3"), Charge: tenant.USD("0.5")})
		require.NoError(t, err)
		require.Equal(t, []string{"3", "0.5"}, []string{named.Cost.String(), named.Charge.String()})
		_, err = ledger.Release(t.Context(), named)
		require.NoError(t, err)
		s, err := ledger.Settle(t.Context(), hold, tenant.Actual{AsHeld: true, Duration: 1500 * time.Millisecond})
		require.NoError(t, err)
		require.Equal(t, []string{"0.001", "0.002"}, []string{s.Cost.String(), s.Charge.String()})
		var e tenant.Execution
		require.NoError(t, booked(db).First(&e, "id = ?", s.ExecutionID).Error)
		took, known := e.Latency()
		require.True(t, known)
		require.Equal(t, 1500*time.Millisecond, took)

		over, err := ledger.Reserve(t.Context(), acme, tenant.Estimate{Provider: "openai", Model: "m", InputTokens: 600})
		require.NoError(t, err)
		s, err = ledger.Settle(t.Context(), over, tenant.Actual{Usage: tenant.Usage{Input: 1000}})
		require.NoError(t, err)
		require.Equal(t, []string{"0.0004", "0.0008"}, []string{s.Overrun.String(), s.ChargeOverrun.String()})
		require.ErrorContains(t, second(ledger.Record(t.Context(), acme, tenant.Actual{Charge: tenant.USD("-1")})), "Actual.Charge")
		require.ErrorContains(t, second(ledger.Record(t.Context(), acme, tenant.Actual{Duration: -1})), "Actual.Duration")
		require.ErrorContains(t, second(ledger.Reserve(t.Context(), acme, tenant.Estimate{Charge: tenant.USD("x")})), "Estimate.Charge")
		requireConservation(t, db)
		requireVerified(t, db, ledger)
	}, tenant.WithPrices(book))
}

func second[T any](_ T, err error) error { return err }

// A switch of what a budget counts holds at once and exactly, in the window that is open; those above count what they say.
func TestCounts_SwitchesInTheOpenWindowAndEachBudgetCountsItsOwn(t *testing.T) {
	t.Parallel()
	book, err := pricing.Default().With(pricing.Override(flat("m", "1")), pricing.TenantTerms("acme", pricing.Terms{Factor: "2"}))
	require.NoError(t, err)
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		place(t, db, "company", "", "0.01")
		place(t, db, acme, "company", "0.01")
		_, err := ledger.Record(t.Context(), acme, tenant.Actual{Provider: "openai", Model: "m", Usage: tenant.Usage{Input: 4321}})
		require.NoError(t, err)
		spent := func(want ...string) {
			t.Helper()
			status, err := tenant.BudgetStatus(t.Context(), db, acme)
			require.NoError(t, err)
			var got []string
			for _, l := range status.Limits {
				got = append(got, l.TenantID+" "+string(l.Counts)+" "+l.Spent.String())
			}
			require.ElementsMatch(t, want, got)
		}
		counts := func(who tenant.Tenant, c tenant.Counts) {
			t.Helper()
			require.NoError(t, tenant.ConfigureBudget(t.Context(), db, who, func(b *tenant.Budget) error { b.Counts = c; return nil }))
			b, err := tenant.BudgetFor(t.Context(), db, who)
			require.NoError(t, err)
			require.Equal(t, c, b.Counts)
		}
		reserve := func() error {
			hold, err := ledger.Reserve(t.Context(), acme, tenant.Estimate{Provider: "openai", Model: "m", InputTokens: 1000}, tenant.WithWait(0))
			if err == nil {
				_, err = ledger.Release(t.Context(), hold)
			}
			return err
		}
		spent("acme cost 0.004321", "company cost 0.004321")
		require.NoError(t, reserve(), "the ledger says that the cost counts")
		counts(acme, tenant.CountsCharge)
		spent("acme charge 0.008642", "company cost 0.004321")
		refused := (*tenant.BudgetExceededError)(nil)
		require.ErrorAs(t, reserve(), &refused)
		require.Equal(t, []string{"acme", "0.002", "charge"}, []string{refused.Limit.TenantID, refused.Requested.String(), string(refused.Limit.Counts)})
		counts(tenant.ID("company"), tenant.CountsCharge)
		counts(acme, tenant.CountsCost)
		spent("acme cost 0.004321", "company charge 0.008642")
		require.ErrorAs(t, reserve(), &refused)
		require.Equal(t, "company", refused.Limit.TenantID)
		counts(tenant.ID("company"), "")
		require.NoError(t, reserve())
		err = tenant.ConfigureBudget(t.Context(), db, acme, func(b *tenant.Budget) error { b.Counts = "margin"; return nil })
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		require.ErrorContains(t, err, `"margin"`)
		requireVerified(t, db, ledger)
	}, tenant.WithPrices(book), tenant.WithDefaultCounts(tenant.CountsCost))
}

type charged struct {
	_    int    `tenant:"budget;counts=cost"`
	ID   int    `gorm:"primaryKey"`
	Slug string `tenant:"key"`
}

func TestCounts_AreDeclaredByAnOptionAndByATag(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&charged{}))
		require.ErrorContains(t, ledger.Register(&charged{}, tenant.WithCounts(tenant.CountsCharge)), "WithCounts")
		require.ErrorIs(t, ledger.Register(&charged{}, tenant.WithCounts("both")), tenant.ErrInvalidOption)
		require.NoError(t, ledger.Register(&charged{}))
		require.NoError(t, db.Create(&[]charged{{Slug: "one"}, {Slug: "two"}}).Error)
		b, err := tenant.BudgetFor(t.Context(), db, tenant.ID("two"))
		require.NoError(t, err)
		require.Equal(t, tenant.CountsCost, b.Counts)
	})
	db := openDatabase(t, "sqlite")
	_, err := tenant.Open(db, tenant.WithDefaultCounts("x"))
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
}

// A charge that the caller has named stays when its call is repriced, and its cost does not.
func TestReprice_LeavesAChargeThatWasNamed(t *testing.T) {
	t.Parallel()
	eachPriced(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, live *pricing.Live) {
		live.Set(bookOf(t, flat("m", "1")))
		used(t, ledger, acme, tenant.Actual{Usage: tenant.Usage{Input: 1000}, Charge: tenant.USD("0.5")})
		live.Set(bookOf(t, flat("m", "3")))
		report := repriceAll(t, ledger)
		require.Equal(t, []string{"0.002", "0"}, []string{report.Difference().String(), report.ChargeDifference().String()})
		require.Equal(t, []string{"0.003", "0.5"}, []string{costToday(t, db, acme), chargeToday(t, db, acme)})
		requireVerified(t, db, ledger)
	})
}

// What a caller is told is the charge of all attempts, each by the terms of its own model, as the rows have it.
func TestCharge_OfACallIsThatOfAllItsAttempts(t *testing.T) {
	t.Parallel()
	book, err := pricing.Default().With(
		pricing.Override(
			pricing.Row{Provider: "test", Model: tenanttest.ModelName, Rates: pricing.Rates{Input: "1", Output: "2"}},
			pricing.Row{Provider: "test", Model: "second", Rates: pricing.Rates{Input: "3", Output: "5"}},
		),
		pricing.TenantTerms("acme", pricing.Terms{Factor: "+30%", Rows: []pricing.Row{{Provider: "test", Model: "second", Rates: pricing.Rates{Input: "7", Output: "11"}}}}),
	)
	require.NoError(t, err)
	lost := errors.New("the connection broke")
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		ways := map[string]func(a *tenant.Agent) (*tenant.Reply, error){
			"plain": func(a *tenant.Agent) (*tenant.Reply, error) { return a.Call(t.Context(), "Hi") },
			"streamed": func(a *tenant.Agent) (reply *tenant.Reply, err error) {
				for chunk, e := range a.Stream(t.Context(), "Hi") {
					reply, err = chunk.Reply, e
				}
				return reply, err
			},
		}
		var booked tenant.Settlement // all of it
		for way, call := range ways {
			first := tenanttest.NewModel(tenanttest.Fail(errBusy), tenanttest.Fail(lost))
			second := tenanttest.NewModel(tenanttest.Fail(lost), tenanttest.Text("at last", tenant.Usage{Input: 1000, Output: 100}))
			second.ModelInfo.Name = "second"
			reply, err := call(newAgent(t, ledger, first, tenant.WithTenant(acme), tenant.WithMaxTokens(500), tenant.WithFallback(second), tenant.Use(again(1))))
			require.NoError(t, err, way)
			requireAllAttempts(t, db, way, reply.Attempts, reply.Cost, reply.Charge)
			last := reply.Attempts[len(reply.Attempts)-1]
			require.Equal(t, []string{"0.0035", "0.0081"}, []string{last.Cost.String(), last.Charge.String()}, "by the rates agreed for the fallback")
			require.True(t, reply.Charge.GreaterThan(last.Charge), "attempts that nobody knows the usage of are charged what they held")
			booked.Cost, booked.Charge = booked.Cost.Add(reply.Cost), booked.Charge.Add(reply.Charge)

			_, err = call(newAgent(t, ledger, tenanttest.NewModel(tenanttest.Fail(lost)), tenant.WithTenant(acme), tenant.WithMaxTokens(500), tenant.Use(again(2))))
			var failed *tenant.CallError
			require.ErrorAs(t, err, &failed, way)
			require.Len(t, failed.Attempts, 3, way)
			requireAllAttempts(t, db, way, failed.Attempts, failed.Cost, failed.Charge)
			require.Equal(t, failed.Cost.Mul(decimal.New(13, -1)).String(), failed.Charge.String(), way)
			booked.Cost, booked.Charge = booked.Cost.Add(failed.Cost), booked.Charge.Add(failed.Charge)
		}
		require.Equal(t, booked.Charge.String(), chargeToday(t, db, acme))
		require.Equal(t, booked.Cost.String(), costToday(t, db, acme))
		requireVerified(t, db, ledger)
	}, tenant.WithPrices(book))
}

// requireAllAttempts checks that a cost and a charge are those of the rows of all attempts, of which there are several.
func requireAllAttempts(t *testing.T, db *gorm.DB, way string, attempts []tenant.Settlement, cost, charge decimal.Decimal) {
	t.Helper()
	require.Greater(t, len(attempts), 2, way)
	var costs, charges int64
	for _, s := range attempts {
		var e tenant.Execution
		require.NoError(t, booked(db).First(&e, "id = ?", s.ExecutionID).Error)
		require.Equal(t, []string{e.Cost().String(), e.Charge().String()}, []string{s.Cost.String(), s.Charge.String()}, way)
		costs, charges = costs+e.CostNano, charges+e.ChargeNano
	}
	require.Equal(t, []int64{costs, charges}, []int64{cost.Shift(9).IntPart(), charge.Shift(9).IntPart()}, way)
}
