package tenant_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"pgregory.net/rapid"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/pricing"
	"github.com/llmtenant/tenant/units"
)

// focusPrices is a price book with everything that can decide a price.
func focusPrices(t testing.TB, more ...pricing.Option) *pricing.Book {
	t.Helper()
	rates := pricing.Rates{Input: "1.1", CacheRead: "0.11", Output: "4.37", WebSearch: "0.01", Request: "0.0005"}
	b := bookOf(
		t,
		flat("plain", "0.05"),
		pricing.Row{Provider: "openai", Model: "rich", Rates: rates, Services: map[string]pricing.Service{"flex": {Rates: pricing.Rates{Input: "0.55", Output: "2.2"}}}},
		pricing.Row{Provider: "google", Model: "long", Rates: pricing.Rates{Input: "1.25", Output: "10"}, Tiers: []pricing.Tier{{Above: 1000, Rates: pricing.Rates{Input: "2.5", Output: "15"}}}},
		pricing.Row{Provider: "google", Model: "speech", Units: map[units.Unit]string{units.InputAudio: "100.5"}},
	)
	return withTerms(t, b, append([]pricing.Option{pricing.ChargeReported("openrouter"), pricing.TenantTerms("globex", pricing.Terms{OwnKeys: []string{"openai"}, OwnKeyFactor: "0.1"})}, more...)...)
}

// oddUse is a call of a random kind.
func oddUse(r *rand.Rand, i int, when time.Time) tenant.ImportedCall {
	n := func(most int64) int64 { return r.Int64N(most) }
	all := []tenant.Actual{
		{Provider: "openai", Model: "plain", Usage: tenant.Usage{Input: n(500), Output: n(500)}},
		{Provider: "openai", Model: "rich", Usage: tenant.Usage{Input: n(5000), CacheRead: n(5000), Output: n(100), WebSearches: n(3)}},
		{Provider: "openai", Model: "rich", ServiceTier: "flex", Usage: tenant.Usage{Input: n(5000), Output: n(100)}},
		{Provider: "google", Model: "long", Usage: tenant.Usage{Input: 2 * n(1000), Reasoning: n(77), Output: n(77)}},
		{Provider: "google", Model: "speech", Usage: tenant.Usage{Units: units.Of(units.InputAudio, n(90_000))}},
		{Provider: "openai", Model: "nobody-knows", Usage: tenant.Usage{Input: n(500), Output: n(500)}},
		{Provider: "openrouter", Model: "x/y", ReportedCost: tenant.USD(fmt.Sprintf("0.%09d", n(1e6))), Usage: tenant.Usage{Input: n(500), Output: n(500)}},
		{Provider: "openai", Model: "plain", Cost: tenant.USD("0.000123457"), Usage: tenant.Usage{Input: n(9), Output: n(9)}},
		{Model: "own", Cost: tenant.USD("0.01")},
		{Provider: "openai", Model: "rich", ErrorCode: "overloaded"},
		{Provider: "google", Model: "nobody-knows-either", Cost: tenant.USD("0.5"), Usage: tenant.Usage{Input: 3, Units: units.Of(units.OutputImages.With("1024x1024", "hd"), 2)}},
	}
	who := []tenant.Tenant{acme, tenant.ID("globex"), tenant.ID("company"), nil}[r.IntN(4)]
	return tenant.ImportedCall{
		ID: fmt.Sprint("call ", i), Tenant: who, At: when, Agent: []string{"", "support", "search"}[r.IntN(3)],
		Tags: map[string]string{"feature": []string{"chat", "=1+1"}[r.IntN(2)]}, Actual: all[r.IntN(len(all))],
	}
}

// focusBooks fills books with calls of some months up to a moment at which the clock stops, some of them corrected later.
func focusBooks(t testing.TB, db *gorm.DB, r *rand.Rand) (*tenant.Ledger, time.Time) {
	t.Helper()
	now := time.Now()
	live := pricing.NewLive(focusPrices(t))
	ledger := openLedger(t, db, tenant.WithPrices(live))
	place(t, db, "company", "", "")
	place(t, db, "acme", "company", "")
	var calls []tenant.ImportedCall
	for i := range 400 {
		back := time.Duration(r.Int64N(int64(95 * 24 * time.Hour)))
		if i%4 == 0 {
			back /= 500 // of the last hours, of which several are in one
		}
		calls = append(calls, oddUse(r, i, now.Add(-back).Truncate(time.Microsecond)))
	}
	_, err := ledger.Import(t.Context(), "s", each(calls...))
	require.NoError(t, err)
	live.Set(focusPrices(t, pricing.Override(flat("plain", "0.07"))))
	_, err = ledger.Reprice(t.Context(), now.AddDate(0, -4, 0), now)
	require.NoError(t, err)
	live.Set(focusPrices(t))
	_, err = ledger.Credit(t.Context(), acme, tenant.USD("0.25"), "outage")
	require.NoError(t, err)
	_, err = ledger.Debit(t.Context(), acme, tenant.USD("1"), "seat")
	require.NoError(t, err)
	hold, err := ledger.Reserve(t.Context(), acme, tenant.Estimate{Provider: "openai", Model: "plain", InputTokens: 1000, OutputTokens: 1000})
	require.NoError(t, err)
	_, err = ledger.Settle(t.Context(), hold, tenant.Actual{AsHeld: true})
	require.NoError(t, err)
	return ledger, now
}

func focusRows(t testing.TB, db *gorm.DB, f tenant.FOCUS, options ...tenant.ExportOption) []map[string]any {
	t.Helper()
	if f.BillingAccountID == "" {
		f.BillingAccountID = "org-1"
	}
	var out bytes.Buffer
	_, err := tenant.Export(t.Context(), db, &out, tenant.NDJSON(), f, options...)
	require.NoError(t, err)
	return readNDJSON(t, out.String())
}

func decimalOf(t require.TestingT, cell any) decimal.Decimal {
	d, err := decimal.NewFromString(fmt.Sprint(cell))
	require.NoError(t, err)
	return d
}

func TestFOCUS_FollowsTheRulesOfTheSpecification(t *testing.T) {
	t.Parallel()
	for _, dialect := range everyDatabase {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := openDatabase(t, dialect)
			_, now := focusBooks(t, db, rand.New(rand.NewPCG(1, 2)))
			period := tenant.Between(now.AddDate(0, -4, 0), now.Add(time.Minute))
			rows := focusRows(t, db, tenant.FOCUS{Everybody: true, Period: period, By: []tenant.Group{tenant.ByAgent, tenant.ByTag("feature")}})
			rows = append(rows, focusRows(t, db, tenant.FOCUS{Everybody: true, Period: period})...)
			seen, sku, details := map[string]int{}, map[string]string{}, map[string]any{}
			requireFocus(t, tenant.FOCUS12, rows)
			for _, row := range rows {
				require.Equal(t, "org-1", row["BillingAccountId"])
				require.NotContains(t, row, "ServiceProviderName")
				if id, ok := row["SkuPriceId"].(string); ok { // skupriceid.md: one SKU, and one price at one time
					require.True(t, strings.HasPrefix(id, row["SkuId"].(string)))
					price := fmt.Sprint(row["ListUnitPrice"])
					if was, there := sku[id]; there && price != "<nil>" && was != "<nil>" {
						require.Equal(t, was, price, id)
					}
					sku[id] = price
					if was, there := details[id]; there { // skupricedetails.md: the same in all charges
						require.Equal(t, was, row["SkuPriceDetails"], id)
					}
					details[id] = row["SkuPriceDetails"]
				}
				kind := fmt.Sprint(row["ChargeCategory"], row["ChargeClass"])
				seen[kind]++
				seen[fmt.Sprint(row["SkuId"])]++
				seen[fmt.Sprint("price ", row["SkuPriceId"])]++
				seen[fmt.Sprint("charge ", row["EffectiveCost"] != row["x_Charge"])]++
				seen[fmt.Sprint("unpriced ", row["x_Unpriced"])]++
				seen[fmt.Sprint("consumer ", row["x_ConsumerId"])]++
				if row["Tags"] != nil {
					seen[fmt.Sprint(row["Tags"])]++
				}
			}
			require.Equal(t, map[string]any{"x_ServiceTier": "flex"}, details["openai/rich/output_tokens/flex"])
			require.Equal(t, map[string]any{"x_PromptAbove": "1000"}, details["google/long/input_tokens/>1000"])
			for _, want := range []string{
				"Usage<nil>", "UsageCorrection", "Adjustment<nil>", "openai/rich/cache_read_tokens", "openai/rich/web_searches", "openai/rich/requests",
				"price openai/rich/output_tokens/flex", "price google/long/input_tokens/>1000", "google/speech/input_audio_ms", "charge true", "unpriced true",
				"google/nobody-knows-either/output_images+1024x1024+hd", "openai/plain/tokens", "consumer <nil>", "consumer globex", "map[feature:=1+1 tenant/agent:search]",
			} {
				require.Positive(t, seen[want], want)
			}

			newer := focusRows(t, db, tenant.FOCUS{Tenant: acme, Period: period, Version: tenant.FOCUS13, BillingAccountName: "Example", InvoiceIssuerName: "Reseller"})
			require.NotEmpty(t, newer)
			requireFocus(t, tenant.FOCUS13, newer)
			for _, row := range newer {
				require.Equal(t, row["ProviderName"], row["ServiceProviderName"])
				require.NotNil(t, row["HostProviderName"])
				require.Equal(t, "acme", row["x_ConsumerId"])
				require.Equal(t, "Reseller", row["InvoiceIssuerName"])
			}

			var file bytes.Buffer
			_, err := tenant.Export(t.Context(), db, &file, tenant.CSV(), tenant.FOCUS{Everybody: true, Period: period, BillingAccountID: "org-1"})
			require.NoError(t, err)
			cells := focusOfCSV(t, file.String())
			require.Len(t, cells, len(focusRows(t, db, tenant.FOCUS{Everybody: true, Period: period})))
			requireFocus(t, tenant.FOCUS12, cells)
		})
	}
}

func TestFOCUS_HasAUnitOfTheSpecificationForWhateverIsCounted(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		wanted := map[units.Unit]string{
			units.InputAudio: "Seconds", units.OutputAudio: "Seconds", units.InputVideo: "Seconds", units.OutputVideo.With("1280x720"): "Seconds",
			units.InputImages: "Images", units.OutputImages.With("512x512"): "Images", units.InputCharacters: "Characters", units.OutputCharacters: "Characters",
			units.InputVideoTokens: "Tokens", units.InputMessages: "Messages", units.Pages.With("annotated"): "Pages", units.SearchUnits: "Units",
			units.FileSearches: "Searches", units.Containers.With("4g"): "Sessions", units.MapGroundings: "Groundings",
		}
		for unit := range wanted {
			_, err := ledger.Record(t.Context(), acme, tenant.Actual{Provider: "p", Model: string(unit), Cost: tenant.USD("1"), Usage: tenant.Usage{Units: units.Of(unit, 4500)}})
			require.NoError(t, err)
		}
		for _, version := range []tenant.FOCUSVersion{tenant.FOCUS12, tenant.FOCUS13} {
			rows := focusRows(t, db, tenant.FOCUS{Tenant: acme, Period: tenant.Between(time.Now().Add(-2*time.Hour), time.Now().Add(time.Minute)), Version: version})
			requireFocus(t, version, rows)
			require.Len(t, rows, len(wanted))
			for _, row := range rows {
				require.Equal(t, wanted[units.Unit(row["x_Model"].(string))], row["ConsumedUnit"], row["x_Model"])
			}
		}
	})
}

// Custom columns come last, and the others in the order of the alphabet.
func TestFOCUS_HasItsColumnsInTheirOrder(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "sqlite")
	openLedger(t, db)
	for version, n := range map[tenant.FOCUSVersion]int{"": 40, tenant.FOCUS12: 40, tenant.FOCUS13: 42} {
		var out bytes.Buffer
		_, err := tenant.Export(t.Context(), db, &out, tenant.CSV(), tenant.FOCUS{Period: tenant.Today, BillingAccountID: "a", Version: version})
		require.NoError(t, err)
		columns := strings.Split(strings.TrimSpace(out.String()), ",")
		require.Len(t, columns, n)
		require.True(t, slices.IsSorted(columns), "an x comes after every capital letter")
		mandatory := 0
		for name, c := range focusColumns {
			require.Contains(t, columns, name)
			if c.must {
				mandatory++
			}
		}
		require.Equal(t, 21, mandatory)
	}
}

func TestFOCUS_AddsUpToWhatQueryUsageSays(t *testing.T) {
	t.Parallel()
	for _, dialect := range everyDatabase {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := openDatabase(t, dialect)
			ledger, now := focusBooks(t, db, rand.New(rand.NewPCG(3, 4)))
			some := 0
			check := func(t *rapid.T) {
				// Evenly: small numbers would be of days in which there is little.
				r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
				from := now.Add(-time.Duration(r.Int64N(int64(100 * 24 * time.Hour))))
				to := from.Add(time.Duration(r.Int64N(int64(60 * 24 * time.Hour))))
				if rapid.Bool().Draw(t, "whole quarters") {
					from, to = from.Truncate(15*time.Minute), to.Truncate(15*time.Minute)
				}
				q := tenant.Query{Period: tenant.Between(from, to)}
				switch r.IntN(5) {
				case 0:
					q.Everybody = true
				case 1:
					q.Tenant = acme
				case 2:
					q.Tenant, q.Descendants = tenant.ID("company"), true
				case 3:
					q.Tenant = tenant.ID("globex")
				}
				answer, err := tenant.QueryUsage(t.Context(), db, q)
				require.NoError(t, err)
				f := tenant.FOCUS{Tenant: q.Tenant, Descendants: q.Descendants, Everybody: q.Everybody, Period: q.Period, BillingAccountID: "a"}
				if rapid.Bool().Draw(t, "by agent") {
					f.By = []tenant.Group{tenant.ByAgent}
				}
				var out bytes.Buffer
				_, err = tenant.Export(t.Context(), db, &out, tenant.NDJSON(), f)
				require.NoError(t, err)
				var cost, charge decimal.Decimal
				for line := range strings.Lines(out.String()) {
					var row struct {
						EffectiveCost, BilledCost decimal.Decimal
						Charge                    decimal.Decimal `json:"x_Charge"`
						ChargePeriodStart         time.Time
						ChargePeriodEnd           time.Time
					}
					require.NoError(t, json.Unmarshal([]byte(line), &row))
					cost, charge = cost.Add(row.EffectiveCost), charge.Add(row.Charge)
					require.False(t, row.ChargePeriodStart.Before(from.Truncate(time.Second)))
					require.False(t, row.ChargePeriodEnd.After(to.Add(time.Second)))
				}
				require.Equal(t, answer.Total.Cost.StringFixed(9), cost.StringFixed(9))
				require.Equal(t, answer.Total.Charge.StringFixed(9), charge.StringFixed(9))
				if !cost.IsZero() {
					some++
				}
			}
			rapid.Check(t, check)
			require.Greater(t, some, 20, "most periods have calls")

			// What was pruned is in the file as before, but for its tags.
			whole := tenant.FOCUS{Everybody: true, Period: tenant.Between(now.AddDate(0, -4, 0).Truncate(time.Hour), now.Truncate(time.Hour)), By: []tenant.Group{tenant.ByAgent}}
			before := focusRows(t, db, whole)
			report, err := ledger.Prune(t.Context(), now)
			require.NoError(t, err)
			require.Positive(t, report.Executions)
			require.Equal(t, before, focusRows(t, db, whole))
			whole.By, whole.BillingAccountID = []tenant.Group{tenant.ByTag("feature")}, "a"
			_, err = tenant.Export(t.Context(), db, &bytes.Buffer{}, tenant.CSV(), whole)
			require.ErrorIs(t, err, tenant.ErrPruned)
		})
	}
}

func TestFOCUS_GoesOnWhereItWasCutOff(t *testing.T) {
	t.Parallel()
	for _, dialect := range everyDatabase {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := openDatabase(t, dialect)
			_, now := focusBooks(t, db, rand.New(rand.NewPCG(5, 6)))
			f := tenant.FOCUS{Everybody: true, Period: tenant.Between(now.AddDate(0, -4, 0), now), BillingAccountID: "a"}
			var whole bytes.Buffer
			all, err := tenant.Export(t.Context(), db, &whole, tenant.CSV(), f)
			require.NoError(t, err)
			cut := &full{room: whole.Len() * 2 / 3}
			part, err := tenant.Export(t.Context(), db, cut, tenant.CSV(), f)
			require.ErrorContains(t, err, "no space left")
			require.NotEmpty(t, part.Cursor)
			file := bytes.NewBuffer(cut.Bytes()[:part.Bytes])
			rest, err := tenant.Export(t.Context(), db, file, tenant.CSV(), f, tenant.WithExportAfter(part.Cursor))
			require.NoError(t, err)
			require.Equal(t, whole.String(), file.String())
			require.Equal(t, all.Rows, part.Rows+rest.Rows)

			f.Everybody, f.Tenant = false, acme
			_, err = tenant.Export(t.Context(), db, file, tenant.CSV(), f, tenant.WithExportAfter(part.Cursor))
			require.ErrorIs(t, err, tenant.ErrInvalidOption, "it is the cursor of another file")
		})
	}
}

func TestFOCUS_NamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, _ *tenant.Ledger) {
		for want, f := range map[string]tenant.FOCUS{
			"FOCUS.Period is nil":          {BillingAccountID: "a"},
			"FOCUS.BillingAccountID":       {Period: tenant.Today},
			"FOCUS.Everybody":              {Period: tenant.Today, BillingAccountID: "a", Everybody: true, Tenant: acme},
			`"1.1" is neither 1.2 nor 1.3`: {Period: tenant.Today, BillingAccountID: "a", Version: "1.1"},
			`the group "model"`:            {Period: tenant.Today, BillingAccountID: "a", By: []tenant.Group{tenant.ByModel}},
			`the group "agent" is there`:   {Period: tenant.Today, BillingAccountID: "a", By: []tenant.Group{tenant.ByAgent, tenant.ByAgent}},
		} {
			_, err := tenant.Export(t.Context(), db, &bytes.Buffer{}, tenant.CSV(), f)
			require.ErrorIs(t, err, tenant.ErrInvalidOption, want)
			require.ErrorContains(t, err, want)
		}
	})
}

func ExampleFOCUS() {
	prices, err := pricing.New(pricing.Row{Provider: "openai", Model: "gpt-5", Rates: pricing.Rates{Input: "1.25", Output: "10"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	db, ledger, end := openBooks(tenant.WithPrices(prices))
	defer end()
	if _, err := ledger.Record(context.Background(), tenant.ID("acme"), tenant.Actual{Provider: "openai", Model: "gpt-5", Usage: tenant.Usage{Input: 1000, Output: 200}}); err != nil {
		fmt.Println(err)
	}
	var file bytes.Buffer
	if _, err := tenant.Export(context.Background(), db, &file, tenant.NDJSON(), tenant.FOCUS{Everybody: true, Period: tenant.ThisMonth, BillingAccountID: "org-4711"}); err != nil {
		fmt.Println(err)
	}
	for line := range strings.Lines(file.String()) {
		var row struct{ SkuMeter, PricingQuantity, PricingUnit, ListUnitPrice, EffectiveCost string }
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			fmt.Println(err)
		}
		fmt.Println(row.SkuMeter, row.PricingQuantity, "of", row.PricingUnit, "at", row.ListUnitPrice, "=", row.EffectiveCost)
	}

	// Output:
	// Input Tokens 0.001000000 of 1000000 Tokens at 1.250000000 = 0.001250000
	// Output Tokens 0.000200000 of 1000000 Tokens at 10.000000000 = 0.002000000
}
