package tenant_test

import (
	"context"
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"pgregory.net/rapid"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/tenanttest"
	"github.com/llmtenant/tenant/units"
)

func TestPrice_IsRoundedOnceAndHalfUp(t *testing.T) {
	t.Parallel()
	p := tenant.Price{Rates: tenant.Rates{Input: 500_000, CacheRead: 499_999, Output: 1_000_001, Request: 7, WebSearch: 3}}
	for _, c := range []struct {
		usage tenant.Usage
		share int64
		nano  int64
	}{
		{tenant.Usage{}, 0, 0},
		{tenant.Usage{Input: 1}, 0, 8},                 // 7.5
		{tenant.Usage{CacheRead: 1}, 0, 7},             // 7.499999
		{tenant.Usage{Input: 1, CacheRead: 1}, 0, 8},   // 7.999999, not 1 + 0 + 7
		{tenant.Usage{Input: 2}, 0, 8},                 // 8
		{tenant.Usage{Input: 3}, 0, 9},                 // 8.5
		{tenant.Usage{Output: 499_999}, 0, 500_006},    // 500006.499999
		{tenant.Usage{Output: 500_000}, 0, 500_008},    // 500007.5
		{tenant.Usage{WebSearches: 2}, 0, 13},          // and no tokens
		{tenant.Usage{Input: 1}, 1_000_000_000, 8},     // 7.5
		{tenant.Usage{Input: 1}, 1_200_000_000, 9},     // 9, and not 1.2 times 8
		{tenant.Usage{Input: 1}, 866_666_666, 6},       // 6.499999995
		{tenant.Usage{Input: 1}, 866_666_667, 7},       // 6.5000000025
		{tenant.Usage{}, 2_000_000_000, 0},             // nothing was used
		{tenant.Usage{WebSearches: 1}, 500_000_000, 5}, // fees too
	} {
		plain := p
		plain.Share, p.Share = 0, c.share
		require.Equal(t, c.nano, inNano(p.Charge(c.usage)), "%+v of %d", c.usage, c.share)
		require.Equal(t, inNano(plain.Charge(c.usage)), inNano(p.Cost(c.usage)), "a share changes nothing of the cost")
	}
}

// What no call can use costs as much as an amount can be, and never less than nothing.
func TestPrice_AnAbsurdUsageSaturates(t *testing.T) {
	t.Parallel()
	const most = math.MaxInt64
	p := tenant.Price{
		Rates: tenant.Rates{Input: most, CacheWrite5m: 1, Output: most, WebSearch: most, Request: most},
		Tiers: []tenant.Tier{{Above: most - 1, Rates: tenant.Rates{Input: 1, Output: 1}}},
	}
	for _, share := range []int64{0, 1, most} {
		p.Share = share
		for _, u := range []tenant.Usage{
			{Input: most - 1}, {Output: most, Reasoning: most}, {WebSearches: most}, {Input: 1 << 62, Output: most, WebSearches: most},
		} {
			bill := p.ChargeBill(u)
			require.Equal(t, int64(most), inNano(bill.Total()), "%+v of %d", u, share)
			require.False(t, decimal.Min(bill.Input, bill.Output, bill.Fees).IsNegative())
		}
	}
	p.Share, p.Tiers = 0, nil
	require.Equal(t, int64(most), tenant.Usage{Input: most, CacheRead: most, OutputImage: most}.TotalTokens())
	require.Equal(t, inNano(p.Cost(tenant.Usage{Input: most})), inNano(p.Cost(tenant.Usage{Input: most, CacheWrite5m: -5})), "there is nothing to pay back")
	p.Request = 0
	require.Zero(t, inNano(p.Cost(tenant.Usage{Input: -1, Output: most * -1, WebSearches: -1})))
}

func TestPrice_PartsOfABillAddUpToTheCost(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := tenant.Price{Rates: drawRates(t), Share: rapid.OneOf(
			rapid.Just(int64(0)), rapid.Int64Range(1, 10_000_000_000)).Draw(t, "share")}
		u := drawUsage(t)
		exact := new(big.Int)
		add := func(n, rate int64) { exact.Add(exact, new(big.Int).Mul(big.NewInt(n), big.NewInt(rate))) }
		or := func(rates ...int64) int64 {
			for _, r := range rates {
				if r != 0 {
					return r
				}
			}
			return 0
		}
		add(u.Input, p.Input)
		add(u.CacheRead, or(p.CacheRead, p.Input))
		add(u.CacheReadAudio, or(p.CacheReadAudio, p.InputAudio, p.CacheRead, p.Input))
		add(u.CacheWrite5m, or(p.CacheWrite5m, p.Input))
		add(u.CacheWrite1h, or(p.CacheWrite1h, p.CacheWrite5m, p.Input))
		add(u.InputAudio, or(p.InputAudio, p.Input))
		add(u.InputImage, or(p.InputImage, p.Input))
		add(u.Output, p.Output)
		add(u.Reasoning, or(p.Reasoning, p.Output))
		add(u.OutputAudio, or(p.OutputAudio, p.Output))
		add(u.OutputImage, or(p.OutputImage, p.Output))
		add(u.WebSearches, p.WebSearch*1_000_000)
		for _, rate := range p.Units {
			add(u.Units.Count(rate.Unit), rate.Rate)
		}
		if u != (tenant.Usage{}) {
			add(1_000_000, p.Request)
		}
		exact.Mul(exact, big.NewInt(or(p.Share, 1_000_000_000)))
		exact.Add(exact, big.NewInt(500_000_000_000_000)).Div(exact, big.NewInt(1_000_000_000_000_000))

		bill := p.ChargeBill(u)
		require.Equal(t, exact.Int64(), inNano(bill.Total()))
		require.Equal(t, inNano(p.Charge(u)), inNano(bill.Input)+inNano(bill.Output)+inNano(bill.Fees))
		require.False(t, decimal.Min(bill.Input, bill.Output, bill.Fees).IsNegative())
	})
}

// What is held for a call covers what it can cost, whichever classes and tier its tokens turn out to be of. Media, and
// caches that live for long, are in the estimate where they can occur.
func TestPrice_ABoundCoversEveryUsageWithinTheEstimate(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := tenant.Price{Rates: drawRates(t), Share: rapid.Int64Range(0, 3_000_000_000).Draw(t, "share")}
		for _, above := range []int64{1_000, 50_000} {
			if rapid.Bool().Draw(t, "tier") {
				p.Tiers = append(p.Tiers, tenant.Tier{Above: above, Rates: drawRates(t)})
			}
		}
		tokens := rapid.Int64Range(0, 20_000)
		u := tenant.Usage{
			Input: tokens.Draw(t, "input"), CacheRead: tokens.Draw(t, "read"), CacheWrite5m: tokens.Draw(t, "write"),
			Output: tokens.Draw(t, "output"), Reasoning: tokens.Draw(t, "reasoning"),
			OutputAudio: tokens.Draw(t, "output audio"), OutputImage: tokens.Draw(t, "output image"),
		}
		e := tenant.Estimate{LongCache: rapid.Bool().Draw(t, "long cache"), InputTokens: tokens.Draw(t, "less input than was estimated")}
		if e.LongCache {
			u.CacheWrite1h = tokens.Draw(t, "long write")
		}
		if rapid.Bool().Draw(t, "media") {
			u.InputAudio, u.InputImage, u.CacheReadAudio = tokens.Draw(t, "audio"), tokens.Draw(t, "image"), tokens.Draw(t, "cached audio")
			less := tokens.Draw(t, "less media than was estimated")
			e.InputMediaTokens = u.InputAudio + u.InputImage + u.CacheReadAudio + less
			e.InputTokens += less
		}
		e.InputTokens += u.InputTokens()
		u.Units = drawUnits(t)
		e.Units = u.Units
		if rapid.Bool().Draw(t, "it is not said which are annotated") {
			n := units.Of(units.Pages.With("annotated"), u.Units.Count(units.Pages.With("annotated")))
			e.Units = e.Units.Minus(n).Plus(units.Of(units.Pages, n.Count(units.Pages.With("annotated"))))
		}
		input, output := tenant.Bound(p, e)
		require.LessOrEqual(t, inNano(p.Cost(u)), input+money.Ceil(u.OutputTokens(), output))
		input, output = tenant.ChargeBound(p, e)
		require.LessOrEqual(t, inNano(p.Charge(u)), input+money.Ceil(u.OutputTokens(), output))
	})
}

// The estimate says what can occur, so that a call of text does not hold what audio costs.
func TestPrice_ABoundIsNoDearerThanWhatCanOccur(t *testing.T) {
	t.Parallel()
	const m = 1_000_000 // tokens
	p := tenant.Price{Rates: tenant.Rates{Input: 10, CacheRead: 1, CacheWrite5m: 12, CacheWrite1h: 20, InputAudio: 100, InputImage: 50, CacheReadAudio: 5, Output: 30, OutputImage: 90, Request: 7}}
	for _, c := range []struct {
		e             tenant.Estimate
		input, output int64
	}{
		{tenant.Estimate{InputTokens: m}, 12 + 7, 90},
		{tenant.Estimate{InputTokens: m, LongCache: true}, 20 + 7, 90},
		{tenant.Estimate{InputTokens: 2 * m, InputMediaTokens: m}, 12 + 100 + 7, 90},
		{tenant.Estimate{InputTokens: m, InputMediaTokens: m}, 100 + 7, 90},
	} {
		input, output := tenant.Bound(p, c.e)
		require.Equal(t, c.input, input, "%+v", c.e)
		require.Equal(t, c.output, output, "%+v", c.e)
	}
}

func TestPrice_TextHoldsNothingForMediaThatTheModelDoesNotPrice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := tenant.Price{Rates: tenant.Rates{Input: rapid.Int64Range(1, 1000).Draw(t, "input"), Output: 5}}
		n := rapid.Int64Range(0, 1_000_000).Draw(t, "tokens")
		text, _ := tenant.Bound(p, tenant.Estimate{InputTokens: n})
		media, _ := tenant.Bound(p, tenant.Estimate{InputTokens: n, InputMediaTokens: n})
		require.Equal(t, text, media)
	})
}

func TestPrice_OfAServiceTierIsTheTiersOwnOrTheStandardOne(t *testing.T) {
	t.Parallel()
	p := tenant.Price{
		Row: "acme/m", Rates: tenant.Rates{Input: 10, Output: 20}, Tiers: []tenant.Tier{{Above: 5}},
		Services: []tenant.Service{
			{Name: "batch", Rates: tenant.Rates{Input: 5, Output: 10}},
			{Name: "flex", Rates: tenant.Rates{Input: 6, Output: 12}, Tiers: []tenant.Tier{{Above: 7}}},
		},
		Share: 2_000_000_000, ChargeReported: true,
	}
	for tier, want := range map[string]int64{
		"": 10, "default": 10, "standard": 10, "auto": 10, "on_demand": 10, "ON_DEMAND": 10, "priority": 10, "scale": 10, "batches": 10,
		"batch": 5, "BATCH": 5, "flex": 6, "ON_DEMAND_FLEX": 6,
	} {
		got := p.ForService(tier)
		require.Equal(t, want, got.Input, tier)
		require.Equal(t, p.Share, got.Share, tier)
		require.True(t, got.ChargeReported, tier)
		if want == 10 {
			require.Equal(t, p, got, tier)
		}
	}
	require.Equal(t, "acme/m flex", p.ForService("flex").Row)
	require.Equal(t, int64(7), p.ForService("flex").Tiers[0].Above)
	require.Empty(t, p.ForService("batch").Tiers)
}

func TestPrice_AnUpliftIsOnEveryRateOfTokensInWhicheverServiceTier(t *testing.T) {
	t.Parallel()
	all := tenant.Rates{
		Input: 10, CacheRead: 20, CacheWrite5m: 30, CacheWrite1h: 40, Output: 50, Reasoning: 60, InputAudio: 70, CacheReadAudio: 80,
		OutputAudio: 90, InputImage: 100, OutputImage: 110, WebSearch: 120, Request: 130,
	}
	uplifted := tenant.Rates{
		Input: 11, CacheRead: 22, CacheWrite5m: 33, CacheWrite1h: 44, Output: 55, Reasoning: 66, InputAudio: 77, CacheReadAudio: 88,
		OutputAudio: 99, InputImage: 110, OutputImage: 121, WebSearch: 120, Request: 130,
	}
	p := tenant.Price{
		Row: "acme/m", Rates: all, Tiers: []tenant.Tier{{Above: 5, Rates: all}},
		Services: []tenant.Service{{Name: "fast", Rates: tenant.Rates{Input: 1000, Output: 1001}, Tiers: []tenant.Tier{{Above: 6, Rates: all}}}},
		Uplifts:  []tenant.Uplift{{Name: "eu", Share: 2_000_000_000}, {Name: "us", Share: 1_100_000_000}},
		Share:    3_000_000_000,
	}
	us := p.ForService("default+US")
	require.Equal(t, tenant.Price{Row: "acme/m us", Rates: uplifted, Tiers: []tenant.Tier{{Above: 5, Rates: uplifted}}, Share: p.Share}, us)
	require.Equal(t, all, p.Tiers[0].Rates, "the book's own are not touched")
	require.Equal(t, us, us.ForService("us"), "an uplift is charged once")

	fast := p.ForService("us+fast")
	require.Equal(t, "acme/m fast us", fast.Row)
	require.Equal(t, tenant.Rates{Input: 1100, Output: 1102}, fast.Rates, "rounded up")
	require.Equal(t, []tenant.Tier{{Above: 6, Rates: uplifted}}, fast.Tiers)
	require.Equal(t, "acme/m fast", p.ForService("fast+fast").Row)
	for _, none := range []string{"global", "+", "u", "us-east", "fas+t"} {
		require.Equal(t, p, p.ForService(none), none)
	}
	eu := p.ForService("eu")
	require.Equal(t, int64(20), eu.Input)
}

func TestDiffers_MeansByMoreThanOnePerCent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		computed, reported int64
		want               bool
	}{
		{0, 0, false},
		{0, 1, false}, // rounding
		{0, 2, true},
		{100, 101, false},
		{1_000_000, 990_000, false},
		{1_000_000, 989_999, true},
		{990_000, 1_000_000, false},
		{989_999, 1_000_000, true},
		{math.MaxInt64, 0, true},
		{math.MaxInt64, math.MaxInt64, false},
		{5, -5, true},
	} {
		require.Equal(t, c.want, tenant.Differs(c.computed, c.reported), "%d %d", c.computed, c.reported)
		require.Equal(t, c.want, tenant.Differs(c.reported, c.computed), "%d %d", c.reported, c.computed)
	}
}

// termed has one model, that costs each tenant something else.
type termed struct{}

func (termed) Price(_, model string, _ time.Time) (tenant.Price, bool) {
	return tenant.Price{
		Model: model, Rates: tenant.Rates{Input: 1e9, Output: 1e9, Request: 1e6},
		Services:       []tenant.Service{{Name: "batch", Rates: tenant.Rates{Input: 5e8, Output: 5e8}}},
		ChargeReported: model == "stating" || model == "unknown",
	}, model != "unknown"
}

func (p termed) TenantPrice(tenantID, provider, model string, at time.Time) (tenant.Price, bool) {
	price, ok := p.Price(provider, model, at)
	if tenantID == "acme" {
		price.Share = 1_500_000_000
	}
	return price, ok
}

func TestSettle_ChargesByTheTenantsTermsTheServiceAndWhatIsReported(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		acme := newOrganization(t, db, ledger, "acme")
		other := &Organization{Slug: "other"}
		require.NoError(t, db.Create(other).Error)
		ctx := t.Context()
		usage := tenant.Usage{Input: 1000, Output: 1000}
		for _, c := range []struct {
			name, model string
			to          tenant.Tenant
			asked       string
			actual      tenant.Actual
			held        string // of the charge
			cost        string // what is billed
			charge      string
			unpriced    bool
		}{
			{"no terms", "m", other, "", tenant.Actual{}, "0.003", "0.003", "0.003", false},
			{"terms", "m", acme, "", tenant.Actual{}, "0.0045", "0.003", "0.0045", false},
			{"nobody", "m", nil, "", tenant.Actual{}, "0.003", "0.003", "0.003", false},
			{"a service", "m", acme, "batch", tenant.Actual{ServiceTier: "batch"}, "0.0015", "0.001", "0.0015", false},
			{"another service than asked", "m", other, "batch", tenant.Actual{ServiceTier: "default"}, "0.001", "0.003", "0.003", false},
			{"reported, and not charged", "m", acme, "", tenant.Actual{ReportedCost: tenant.USD("1")}, "0.0045", "0.003", "0.0045", false},
			{"reported and charged", "stating", other, "", tenant.Actual{ReportedCost: tenant.USD("0.0031")}, "0.003", "0.0031", "0.0031", false},
			{"a share of what is reported", "stating", acme, "", tenant.Actual{ReportedCost: tenant.USD("0.000000001")}, "0.0045", "0.000000001", "0.000000002", false},
			{"reported as nothing", "stating", acme, "", tenant.Actual{ReportedCost: tenant.USD("0")}, "0.0045", "0", "0", false},
			{"not reported", "stating", acme, "", tenant.Actual{}, "0.0045", "0.003", "0.0045", false},
			{"reported for an unknown model", "unknown", acme, "", tenant.Actual{ReportedCost: tenant.USD("0.1")}, "0", "0.1", "0.15", false},
			{"an unknown model", "unknown", acme, "", tenant.Actual{}, "0", "0", "0", true},
			{"said by the caller", "stating", acme, "", tenant.Actual{Cost: tenant.USD("2"), ReportedCost: tenant.USD("1")}, "0.0045", "2", "3", false},
			{"estimated by the caller", "stating", acme, "", tenant.Actual{Cost: tenant.USD("2"), ReportedCost: tenant.USD("1"), Estimated: true}, "0.0045", "1", "1.5", false},
			{"estimated, and nothing reported", "stating", acme, "", tenant.Actual{Cost: tenant.USD("2"), Estimated: true}, "0.0045", "2", "3", false},
			{"estimated, and what is reported not charged", "m", acme, "", tenant.Actual{Cost: tenant.USD("2"), ReportedCost: tenant.USD("1"), Estimated: true}, "0.0045", "2", "3", false},
		} {
			hold, err := ledger.Reserve(ctx, c.to, tenant.Estimate{Model: c.model, InputTokens: 1000, OutputTokens: 1000, ServiceTier: c.asked})
			require.NoError(t, err, c.name)
			require.Equal(t, c.held, hold.Charge.String(), c.name)
			c.actual.Usage = usage
			s, err := ledger.Settle(ctx, hold, c.actual)
			require.NoError(t, err, c.name)
			require.Equal(t, []string{c.cost, c.charge}, []string{s.Cost.String(), s.Charge.String()}, c.name)
			require.Equal(t, c.unpriced, s.Unpriced, c.name)
		}
		s, err := ledger.Record(ctx, acme, tenant.Actual{Model: "m", Usage: usage})
		require.NoError(t, err)
		require.Equal(t, []string{"0.003", "0.0045"}, []string{s.Cost.String(), s.Charge.String()}, "recorded")
		requireConservation(t, db)
	}, tenant.WithPrices(termed{}))
}

func TestAgent_IsChargedByTheServiceTierThatTheModelReports(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "sqlite")
	ledger := openLedger(t, db, tenant.WithPrices(termed{}))
	for tier, cost := range map[string]string{"": "0.003", "BATCH": "0.001"} {
		agent := newAgent(t, ledger, tenanttest.NewModel(func(context.Context, *tenant.Request) (*tenant.Response, error) {
			return &tenant.Response{Usage: &tenant.Usage{Input: 1000, Output: 1000}, ServiceTier: tier}, nil
		}))
		reply, err := agent.Call(t.Context(), "hi")
		require.NoError(t, err)
		require.Equal(t, cost, reply.Cost.String())
	}
}

func drawRates(t *rapid.T) tenant.Rates {
	rate := rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(1, 1e12))
	return tenant.Rates{
		Input: rate.Draw(t, "input"), CacheRead: rate.Draw(t, "read"), CacheWrite5m: rate.Draw(t, "write5m"),
		CacheWrite1h: rate.Draw(t, "write1h"), Output: rate.Draw(t, "output"), Reasoning: rate.Draw(t, "reasoning"),
		InputAudio: rate.Draw(t, "audio in"), CacheReadAudio: rate.Draw(t, "audio read"), OutputAudio: rate.Draw(t, "audio out"),
		InputImage: rate.Draw(t, "image in"), OutputImage: rate.Draw(t, "image out"),
		WebSearch: rate.Draw(t, "search"), Request: rate.Draw(t, "request"),
		Units: []tenant.UnitRate{
			{Unit: units.Pages, Rate: rate.Draw(t, "page")}, {Unit: units.Pages.With("annotated"), Rate: rate.Draw(t, "annotated page")},
			{Unit: units.InputAudio, Rate: rate.Draw(t, "millisecond")},
		},
	}
}

func drawUsage(t *rapid.T) tenant.Usage {
	n := rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(0, 1_000_000))
	return tenant.Usage{
		Input: n.Draw(t, "n input"), CacheRead: n.Draw(t, "n read"), CacheWrite5m: n.Draw(t, "n write5m"),
		CacheWrite1h: n.Draw(t, "n write1h"), Output: n.Draw(t, "n output"), Reasoning: n.Draw(t, "n reasoning"),
		InputAudio: n.Draw(t, "n audio in"), CacheReadAudio: n.Draw(t, "n audio read"), OutputAudio: n.Draw(t, "n audio out"),
		InputImage: n.Draw(t, "n image in"), OutputImage: n.Draw(t, "n image out"),
		WebSearches: rapid.Int64Range(0, 20).Draw(t, "n search"), Units: drawUnits(t),
	}
}

func drawUnits(t *rapid.T) units.Counts {
	n := rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(0, 1_000_000))
	return units.Of(units.Pages, n.Draw(t, "n page")).Plus(units.Of(units.Pages.With("annotated"), n.Draw(t, "n annotated"))).
		Plus(units.Of(units.InputAudio, n.Draw(t, "n millisecond")))
}

func TestSettle_KeepsWhatItWasChargedBy(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		usage := tenant.Usage{Input: 1000, Output: 1000}
		held := tenant.Estimate{Model: "unknown", Cost: tenant.USD("0.5")}
		for _, c := range []struct {
			name     string
			estimate tenant.Estimate
			actual   tenant.Actual
			price    string
			unpriced bool
		}{
			{"a price, whose book names no row", tenant.Estimate{Model: "m"}, tenant.Actual{Provider: "p", Usage: usage, ServiceTier: "Batch"}, "p/m batch", false},
			{"what the provider stated, of a model without a price", held, tenant.Actual{Provider: "p", Usage: usage, ReportedCost: tenant.USD("1")}, "p/unknown", false},
			{"the hold, as there is no price", held, tenant.Actual{Usage: usage}, "hold", false},
			{"the hold, as nothing else is known", held, tenant.Actual{}, "", false},
			{"the caller's own figure", tenant.Estimate{Model: "m"}, tenant.Actual{Usage: usage, Cost: tenant.USD("1")}, "", false},
			{"the hold, as the usage cannot be true", tenant.Estimate{Model: "m"}, tenant.Actual{Usage: tenant.Usage{Input: -1}}, "", false},
			{"nothing, as there is no price", tenant.Estimate{Model: "unknown"}, tenant.Actual{Usage: usage}, "", true},
		} {
			hold, err := ledger.Reserve(t.Context(), acme, c.estimate)
			require.NoError(t, err, c.name)
			_, err = ledger.Settle(t.Context(), hold, c.actual)
			require.NoError(t, err, c.name)
			var e tenant.Execution
			require.NoError(t, booked(db).First(&e, "id = ?", hold.ExecutionID).Error)
			require.Equal(t, []any{c.price, c.unpriced, c.actual.ServiceTier}, []any{e.Price, e.Unpriced, e.ServiceTier}, c.name)
		}
	}, tenant.WithPrices(termed{}))
}
