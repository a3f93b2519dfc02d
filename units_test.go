package tenant_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/units"
)

// catalogue is prices by the model's name.
type catalogue map[string]tenant.Rates

func (c catalogue) Price(provider, model string, _ time.Time) (tenant.Price, bool) {
	rates, ok := c[model]
	return tenant.Price{Provider: provider, Model: model, Rates: rates}, ok
}

func TestPrice_OfAUnitIsThatOfTheRateThatSaysTheMost(t *testing.T) {
	t.Parallel()
	image := units.OutputImages
	p := tenant.Price{Rates: tenant.Rates{Input: 1, Units: []tenant.UnitRate{
		{Unit: image.With("1024x1024"), Rate: 20e6},
		{Unit: image, Rate: 10e6},
		{Unit: image.With("hd"), Rate: 30e6},
		{Unit: image.With("1024x1024", "hd"), Rate: 25e6},
		{Unit: units.OutputVideo.With("720p"), Rate: 5e6},
		{Unit: units.OutputVideo.With("1080p"), Rate: 7e6},
		{Unit: units.Pages, Rate: 0},
		{Unit: units.InputAudio, Rate: 1_500_000},
	}}}
	for _, c := range []struct {
		unit units.Unit
		n    int64
		nano int64
	}{
		{image, 3, 30},
		{image.With("512x512"), 3, 30},
		{image.With("1024x1024"), 3, 60},
		{image.With("hd", "1792x1024"), 2, 60},
		{image.With("hd", "1024x1024"), 2, 50},
		{units.OutputVideo, 1, 7}, // of which nobody says more than that
		{units.OutputVideo.With("720p"), 1, 5},
		{units.Pages, 1000, 0},
		{units.InputAudio, 1, 2},     // 1.5
		{units.InputAudio, 333, 500}, // 499.5
	} {
		u := tenant.Usage{Units: units.Of(c.unit, c.n)}
		bill := p.Bill(u)
		require.Equal(t, [3]int64{0, 0, c.nano}, [3]int64{inNano(bill.Input), inNano(bill.Output), inNano(bill.Fees)}, "%d of %s", c.n, c.unit)
	}
	both := tenant.Usage{Input: 500_000, Units: units.Of(units.InputAudio, 1)}
	require.EqualValues(t, 2, inNano(p.Cost(both)), "0.5 and 1.5 are rounded once")
	p.Share = 500_000_000
	require.EqualValues(t, 1, inNano(p.Charge(both)), "of which a half")
	require.EqualValues(t, 2, inNano(p.Cost(both)), "which changes nothing of the cost")
}

func TestReserve_HoldsWhatUnitsCostAtMost(t *testing.T) {
	t.Parallel()
	image := units.OutputImages
	prices := catalogue{
		"draws": {Units: []tenant.UnitRate{{Unit: image.With("low"), Rate: 1e13}, {Unit: image.With("high"), Rate: 4e13}}},
		"talks": {Input: 1e9, Output: 1e9},
	}
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme", tenant.WithLimits(tenant.Limits{DailyCost: tenant.USD("0.10")}), tenant.WithEnforcement(tenant.Hard))
		hold, err := ledger.Reserve(t.Context(), org, tenant.Estimate{Model: "draws", Units: units.Of(image, 2)})
		require.NoError(t, err)
		require.Equal(t, "0.08", hold.Cost.String(), "two of the dearest")
		var refused *tenant.BudgetExceededError
		_, err = ledger.Reserve(t.Context(), org, tenant.Estimate{Model: "draws", Units: units.Of(image.With("low"), 3)}, tenant.WithWait(0))
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "0.03", refused.Requested.String())
		s, err := ledger.Settle(t.Context(), hold, tenant.Actual{Usage: tenant.Usage{Units: units.Of(image.With("low", "512x512"), 2)}})
		require.NoError(t, err)
		require.Equal(t, "0.02", s.Cost.String())
		require.Zero(t, s.Tokens)
		require.False(t, s.Unpriced)

		// A model that is charged by units has no price for tokens alone, and one that is charged by tokens has none for units.
		for _, e := range []tenant.Estimate{
			{Model: "draws", InputTokens: 5},
			{Model: "draws", Units: units.Of(units.Pages, 1)},
			{Model: "talks", Units: units.Of(units.Pages, 1)},
			{Model: "talks", InputTokens: 5, Units: units.Of(units.FileSearches, 1)},
		} {
			_, err = ledger.Reserve(t.Context(), org, e)
			require.ErrorIs(t, err, tenant.ErrNoPrice, "%+v", e)
		}
		hold, err = ledger.Reserve(t.Context(), org, tenant.Estimate{Model: "talks", InputTokens: 5, Units: units.Of(units.Pages, 1)})
		require.NoError(t, err, "its pages are read as tokens")
		_, err = ledger.Release(t.Context(), hold)
		require.NoError(t, err)
		for _, n := range []int64{-1, 1<<40 + 1} {
			_, err = ledger.Reserve(t.Context(), org, tenant.Estimate{Model: "draws", Units: units.Of(image, n)})
			require.ErrorIs(t, err, tenant.ErrInvalidOption)
			require.ErrorContains(t, err, "Estimate.Units")
			_, err = ledger.Record(t.Context(), org, tenant.Actual{Model: "draws", Usage: tenant.Usage{Units: units.Of(image, n)}})
			require.ErrorIs(t, err, tenant.ErrInvalidOption)
		}
		requireVerified(t, db, ledger)
	}, tenant.WithPrices(prices))
}

func TestReprice_PricesTheUnitsThatHadNoPrice(t *testing.T) {
	t.Parallel()
	for _, dialect := range everyDatabase {
		t.Run(dialect, func(t *testing.T) { repricesUnits(t, openDatabase(t, dialect)) })
	}
}

func repricesUnits(t *testing.T, db *gorm.DB) {
	prices := catalogue{"m": {Input: 1e9}}
	ledger := openLedger(t, db, tenant.WithPrices(prices))
	u := tenant.Usage{Input: 1000, Units: units.Of(units.FileSearches, 3)}
	s, err := ledger.Record(t.Context(), acme, tenant.Actual{Model: "m", Usage: u})
	require.NoError(t, err)
	require.True(t, s.Unpriced, "its searches have no price")
	require.Equal(t, "0.001", s.Cost.String(), "its tokens have")
	alone, err := ledger.Record(t.Context(), acme, tenant.Actual{Model: "m", Usage: tenant.Usage{Units: u.Units}})
	require.NoError(t, err)
	require.True(t, alone.Unpriced)
	require.True(t, alone.Cost.IsZero())
	require.Equal(t, [5]int64{0, 0, 2, 0, 0}, sumsOf(repriceAll(t, ledger).RepriceTotals))

	prices["m"] = tenant.Rates{Input: 1e9, Units: []tenant.UnitRate{{Unit: units.FileSearches, Rate: 25e11}}}
	require.Equal(t, [5]int64{2, 2, 0, 1e6, 1e6 + 2*75e5}, sumsOf(repriceAll(t, ledger).RepriceTotals))
	require.Equal(t, map[string]int64{s.ExecutionID: 1e6 + 75e5, alone.ExecutionID: 75e5}, costsNow(t, db))
	summary, err := tenant.UsageSummary(t.Context(), db, acme, tenant.Today)
	require.NoError(t, err)
	require.EqualValues(t, 6, summary.Usage.Units.Count(units.FileSearches))
	requireVerified(t, db, ledger)
}

// dayOf is a catalogue that says of which day it is.
type dayOf struct {
	catalogue
	day time.Time
}

func (d dayOf) AsOf() time.Time { return d.day }

func TestNoPriceError_SaysOfWhichDayTheBookIsAndHowToBringANewerOne(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, time.May, 4, 0, 0, 0, 0, time.UTC)
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme", dollar, tenant.WithEnforcement(tenant.Hard))
		_, err := ledger.Reserve(t.Context(), org, tenant.Estimate{Model: "next", InputTokens: 1})
		var refused *tenant.NoPriceError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, day, refused.PricesAsOf)
		require.ErrorContains(t, err, `the price book of 2026-05-04 has no price for model "next"`)
		require.ErrorContains(t, err, "pricing.Live")
		status, err := tenant.BudgetStatus(t.Context(), db, org)
		require.NoError(t, err)
		require.Equal(t, day, status.PricesAsOf)
	}, tenant.WithPrices(dayOf{day: day}))
	require.NotContains(t, (&tenant.NoPriceError{Model: "m"}).Error(), "0001")
}
