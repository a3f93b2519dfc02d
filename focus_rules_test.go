package tenant_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
)

// focusKind is the type of a column's cells.
type focusKind int

const (
	focusText focusKind = iota
	focusDecimal
	focusMoment
	focusObject // of texts by name
)

// focusColumn is a column of the specification that a file has. The others are conditional on what this kind of service has not: capacity and commitments
// that are bought ahead, provisioned resources, regions, other currencies, several types of accounts, costs that a provider splits;
// and InvoiceId is recommended, which the books do not know.
type focusColumn struct {
	kind focusKind
	must bool // it is mandatory
	null bool // there may be a NULL in it
	is   []string
}

var focusColumns = map[string]focusColumn{
	"BilledCost": {kind: focusDecimal, must: true}, "EffectiveCost": {kind: focusDecimal, must: true},
	"ListCost": {kind: focusDecimal, must: true}, "ContractedCost": {kind: focusDecimal, must: true},
	"ListUnitPrice": {kind: focusDecimal, null: true}, "ContractedUnitPrice": {kind: focusDecimal, null: true},
	"PricingQuantity": {kind: focusDecimal, must: true, null: true}, "ConsumedQuantity": {kind: focusDecimal, null: true},
	"BillingAccountId": {must: true}, "BillingAccountName": {must: true, null: true}, "BillingCurrency": {must: true, is: []string{"USD"}},
	"BillingPeriodStart": {kind: focusMoment, must: true}, "BillingPeriodEnd": {kind: focusMoment, must: true},
	"ChargePeriodStart": {kind: focusMoment, must: true}, "ChargePeriodEnd": {kind: focusMoment, must: true},
	"ChargeCategory":    {must: true, is: []string{"Usage", "Purchase", "Tax", "Credit", "Adjustment"}},
	"ChargeClass":       {must: true, null: true, is: []string{"Correction"}},
	"ChargeDescription": {must: true}, // which SHOULD NOT be null
	"ChargeFrequency":   {is: []string{"One-Time", "Recurring", "Usage-Based"}},
	"ConsumedUnit":      {null: true}, "PricingUnit": {must: true, null: true},
	"PricingCategory":   {null: true, is: []string{"Standard", "Dynamic", "Committed", "Other"}},
	"InvoiceIssuerName": {must: true}, "ProviderName": {must: true}, "PublisherName": {must: true},
	"ServiceCategory": {must: true, is: []string{"AI and Machine Learning"}}, "ServiceName": {must: true},
	"ServiceSubcategory": {is: []string{"AI Platforms", "Bots", "Generative AI", "Machine Learning", "Natural Language Processing", "Other (AI and Machine Learning)"}},
	"SkuId":              {null: true}, "SkuMeter": {null: true}, "SkuPriceId": {null: true}, "SkuPriceDetails": {kind: focusObject, null: true},
	"SubAccountId": {null: true}, "SubAccountName": {null: true}, "Tags": {kind: focusObject, null: true},
}

// focusColumns13 are those that version 1.3 adds. Two of 1.2 are deprecated there, and still mandatory.
var focusColumns13 = map[string]focusColumn{"ServiceProviderName": {must: true}, "HostProviderName": {must: true}}

// The forms that are asked of every row. To compile one takes longer than to match it.
var (
	focusName       = regexp.MustCompile(`^[A-Z][A-Za-z]{0,49}$`)
	focusCustomName = regexp.MustCompile(`^x_[A-Z][A-Za-z]+$`)
	focusTime       = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`)
	focusNumber     = regexp.MustCompile(`^-?\d+(\.\d+)?$`)
	focusUnit       = regexp.MustCompile(`^([1-9]\d* )?(Tokens|Requests|Seconds|Images|Characters|Pages|Units|Searches|Sessions|Groundings|Messages)$`)
)

// focusRow is a row, with what is in it.
type focusRow struct {
	cells   map[string]any
	figures map[string]decimal.Decimal
	moments map[string]time.Time
}

func (r focusRow) has(name string) bool       { return r.cells[name] != nil }
func (r focusRow) is(name, value string) bool { return r.cells[name] == value }
func (r focusRow) equal(a, b string) bool     { return r.figures[a].Equal(r.figures[b]) }
func (r focusRow) product(a, b string) decimal.Decimal {
	return r.figures[a].Mul(r.figures[b]).Round(9)
}

// usage is what the rules say the most of: usage that is no correction.
func (r focusRow) usage() bool {
	return (r.is("ChargeCategory", "Usage") || r.is("ChargeCategory", "Purchase")) && !r.is("ChargeClass", "Correction")
}

// focusRules are the rules of one row, by the files of the specification that have them (specification/columns at the tag v1.2, and
// specification/attributes). Where there is no price the prices are NULL, which docs/export.md names as the exception.
var focusRules = []struct {
	file, rule string
	holds      func(r focusRow) bool
}{
	{"billingperiodend", "a billing period is a month, whose end is not part of it", func(r focusRow) bool {
		month := r.moments["BillingPeriodStart"]
		return month.Day() == 1 && month.Equal(month.Truncate(24*time.Hour)) && r.moments["BillingPeriodEnd"].Equal(month.AddDate(0, 1, 0))
	}},
	{"chargeperiodend", "a charge period begins before it ends, and is an hour at most", func(r focusRow) bool {
		start, end := r.moments["ChargePeriodStart"], r.moments["ChargePeriodEnd"]
		return start.Before(end) && !end.After(start.Truncate(time.Hour).Add(time.Hour))
	}},
	{"chargeclass", "a correction is one of a billing period before, and nothing else is", func(r focusRow) bool {
		start, end, month := r.moments["ChargePeriodStart"], r.moments["ChargePeriodEnd"], r.moments["BillingPeriodStart"]
		if r.is("ChargeClass", "Correction") {
			return !end.After(month)
		}
		return !start.Before(month) && !end.After(r.moments["BillingPeriodEnd"])
	}},
	{"chargefrequency", "a purchase is not usage-based", func(r focusRow) bool {
		return !r.is("ChargeCategory", "Purchase") || !r.is("ChargeFrequency", "Usage-Based")
	}},
	{"billedcost", "the costs are what is billed, because nothing is bought ahead (effectivecost, discount_handling)", func(r focusRow) bool {
		return r.equal("BilledCost", "EffectiveCost")
	}},
	{"pricingquantity", "usage has one, and a tax has none", func(r focusRow) bool {
		return (!r.usage() || r.has("PricingQuantity")) && (!r.is("ChargeCategory", "Tax") || !r.has("PricingQuantity"))
	}},
	{"pricingunit", "where there is a quantity, and only there", func(r focusRow) bool { return r.has("PricingUnit") == r.has("PricingQuantity") }},
	{"pricingcategory", "usage has one, and all is priced as agreed upon", func(r focusRow) bool {
		return (!r.usage() || r.has("PricingCategory")) && (!r.has("PricingCategory") || r.is("PricingCategory", "Standard"))
	}},
	{"listcost", "the product of quantity and price, where there are both", func(r focusRow) bool {
		return !r.usage() || !r.has("ListUnitPrice") || r.product("ListUnitPrice", "PricingQuantity").Equal(r.figures["ListCost"])
	}},
	{"listcost", "what is billed, where there is no price", func(r focusRow) bool { return r.has("ListUnitPrice") || r.equal("ListCost", "BilledCost") }},
	{"listunitprice", "not negative, and there is none without something priced", func(r focusRow) bool {
		return !r.figures["ListUnitPrice"].IsNegative() && (r.has("SkuPriceId") || !r.has("ListUnitPrice"))
	}},
	{"contractedcost", "the product of quantity and price, where there are both", func(r focusRow) bool {
		return !r.usage() || !r.has("ContractedUnitPrice") || r.product("ContractedUnitPrice", "PricingQuantity").Equal(r.figures["ContractedCost"])
	}},
	{"contractedcost", "what is billed, where there is no price", func(r focusRow) bool { return r.has("ContractedUnitPrice") || r.equal("ContractedCost", "BilledCost") }},
	{"contractedunitprice", "not negative, and the list price, because nothing was negotiated", func(r focusRow) bool {
		return !r.figures["ContractedUnitPrice"].IsNegative() && r.has("ContractedUnitPrice") == r.has("ListUnitPrice") && r.equal("ContractedUnitPrice", "ListUnitPrice")
	}},
	{"consumedquantity", "usage has one, and nothing else has", func(r focusRow) bool {
		return (!r.usage() || r.has("ConsumedQuantity")) && (r.is("ChargeCategory", "Usage") || !r.has("ConsumedQuantity"))
	}},
	{"consumedunit", "where there is a quantity, and only there", func(r focusRow) bool { return r.has("ConsumedUnit") == r.has("ConsumedQuantity") }},
	{"unit_format", "units are of the list, in the plural, by whole numbers of them", func(r focusRow) bool {
		for _, name := range []string{"PricingUnit", "ConsumedUnit"} {
			if unit, ok := r.cells[name].(string); ok && !focusUnit.MatchString(unit) {
				return false
			}
		}
		return true
	}},
	{"skuid", "usage has one", func(r focusRow) bool { return !r.usage() || r.has("SkuId") }},
	{"skumeter", "where there is a SKU, and only there", func(r focusRow) bool { return r.has("SkuMeter") == r.has("SkuId") }},
	{"skupriceid", "usage has one", func(r focusRow) bool { return !r.usage() || r.has("SkuPriceId") }},
	{"skupricedetails", "none without what they are the details of; names of our own begin with x_", func(r focusRow) bool {
		details, there := r.cells["SkuPriceDetails"].(map[string]any)
		for name := range details {
			if !focusCustomName.MatchString(name) {
				return false
			}
		}
		return !there || r.has("SkuPriceId") && len(details) > 0
	}},
	{"subaccountname", "where there is an id, and only there", func(r focusRow) bool { return r.has("SubAccountName") == r.has("SubAccountId") }},
	{"tags", "no empty object stands for none", func(r focusRow) bool {
		tags, there := r.cells["Tags"].(map[string]any)
		return !there || len(tags) > 0
	}},
	{"providername", "the same entity by its new name (serviceprovidername, hostprovidername of 1.3)", func(r focusRow) bool {
		_, newer := r.cells["ServiceProviderName"]
		return !newer || r.cells["ServiceProviderName"] == r.cells["ProviderName"] && r.has("HostProviderName")
	}},
}

// focusOnes are pairs of columns of which a value of the first has one value of the second, in a whole file, and the file that says so.
var focusOnes = [][3]string{
	{"SkuPriceId", "SkuId", "skupriceid"}, {"SkuPriceId", "SkuPriceDetails", "skupricedetails"}, {"SkuPriceId", "PricingUnit", "pricingunit"},
	{"SkuId", "SkuMeter", "skumeter"}, {"SkuId", "ServiceName", "skuid"}, {"SkuId", "ConsumedUnit", "consumedunit"},
	{"ServiceName", "ServiceCategory", "servicename"}, {"ServiceName", "ServiceSubcategory", "servicename"}, {"ServiceName", "ProviderName", "servicename"},
	{"SubAccountId", "SubAccountName", "string_handling"}, {"BillingAccountId", "BillingAccountName", "string_handling"},
	{"BillingAccountId", "BillingCurrency", "billingcurrency"},
}

// requireFocus checks the rows of a file against the rules of the specification.
func requireFocus(t testing.TB, version tenant.FOCUSVersion, rows []map[string]any) {
	t.Helper()
	columns := map[string]focusColumn{}
	for _, of := range []map[string]focusColumn{focusColumns, focusColumns13} {
		for name, c := range of {
			columns[name] = c
		}
		if version == tenant.FOCUS12 {
			break
		}
	}
	ones := map[string]any{}
	for _, cells := range rows {
		r := focusRow{cells, map[string]decimal.Decimal{}, map[string]time.Time{}}
		for name := range cells {
			if strings.HasPrefix(name, "x_") {
				require.Regexp(t, focusCustomName, name, "attributes/column_handling.md")
				continue
			}
			require.Regexp(t, focusName, name, "attributes/column_handling.md")
			require.Contains(t, columns, name, "attributes/column_handling.md: columns of our own begin with x_")
		}
		for name, c := range columns {
			value, there := cells[name]
			require.True(t, there, "%s MUST be present", name)
			if value == nil {
				require.True(t, c.null, "%s MUST NOT be null", name)
				continue
			}
			r.require(t, name, c, value)
		}
		for _, rule := range focusRules {
			require.True(t, rule.holds(r), "%s.md: %s: %v", rule.file, rule.rule, cells)
		}
		for _, pair := range focusOnes {
			if key := fmt.Sprint(pair[:2], cells[pair[0]]); r.has(pair[0]) {
				if was, there := ones[key]; there {
					require.Equal(t, was, cells[pair[1]], "%s.md: %s", pair[2], key)
				}
				ones[key] = cells[pair[1]]
			}
		}
	}
}

// require checks the form of a cell that is not NULL: attributes/null_handling.md, numeric_format.md, datetime_format.md, key_value_format.md and
// string_handling.md.
func (r focusRow) require(t testing.TB, name string, c focusColumn, value any) {
	t.Helper()
	switch c.kind {
	case focusText:
		text, _ := value.(string)
		require.NotEmpty(t, strings.TrimSpace(text), name)
		require.True(t, c.is == nil || slices.Contains(c.is, text), "%s.md: %s", strings.ToLower(name), text)
	case focusDecimal:
		require.Regexp(t, focusNumber, fmt.Sprint(value), name)
		r.figures[name] = decimalOf(t, value)
	case focusMoment:
		require.Regexp(t, focusTime, value, name)
		at, err := time.Parse(time.RFC3339, fmt.Sprint(value))
		require.NoError(t, err)
		r.moments[name] = at
	case focusObject:
		object, ok := value.(map[string]any)
		require.True(t, ok, "%s: %v", name, value)
		for key, of := range object {
			require.NotEmpty(t, key)
			require.IsType(t, "", of, "%s: %s", name, key)
		}
	}
}

// focusOfCSV reads the rows of a file of CSV as those of NDJSON are read.
func focusOfCSV(t testing.TB, file string) (rows []map[string]any) {
	t.Helper()
	for _, cells := range readCSV(t, file) {
		row := map[string]any{}
		for name, text := range cells {
			row[name] = nil
			if text == "" {
				continue
			}
			row[name] = text
			if c := focusColumns[name]; c.kind == focusObject {
				var object map[string]any
				require.NoError(t, json.Unmarshal([]byte(text), &object), name)
				row[name] = object
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// A rule that nothing can break would hold of anything.
func TestFOCUSRules_EachCanBeBroken(t *testing.T) {
	t.Parallel()
	good := func() focusRow {
		at := time.Date(2026, 3, 31, 23, 0, 0, 0, time.UTC)
		month := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
		two := decimal.NewFromInt(2)
		return focusRow{
			map[string]any{
				"ChargeCategory": "Usage", "ChargeClass": nil, "ChargeFrequency": "Usage-Based", "PricingQuantity": "1", "PricingUnit": "1000000 Tokens",
				"PricingCategory": "Standard", "ListUnitPrice": "2", "ContractedUnitPrice": "2", "ConsumedQuantity": "1000000", "ConsumedUnit": "Tokens",
				"SkuId": "a/b/c", "SkuMeter": "C", "SkuPriceId": "a/b/c/flex", "SkuPriceDetails": map[string]any{"x_ServiceTier": "flex"},
				"SubAccountId": "1", "SubAccountName": "One", "Tags": map[string]any{"feature": "chat"},
				"ProviderName": "a", "ServiceProviderName": "a", "HostProviderName": "a",
			},
			map[string]decimal.Decimal{
				"BilledCost": two, "EffectiveCost": two, "ListCost": two, "ContractedCost": two, "ListUnitPrice": two, "ContractedUnitPrice": two,
				"PricingQuantity": decimal.NewFromInt(1),
			},
			map[string]time.Time{
				"BillingPeriodStart": month, "BillingPeriodEnd": month.AddDate(0, 1, 0), "ChargePeriodStart": at, "ChargePeriodEnd": at.Add(time.Hour),
			},
		}
	}
	broken := map[string]bool{}
	for name, breakIt := range map[string]func(r focusRow){
		"the period's end":       func(r focusRow) { r.moments["BillingPeriodEnd"] = r.moments["BillingPeriodEnd"].Add(-time.Second) },
		"a period that is none":  func(r focusRow) { r.moments["ChargePeriodEnd"] = r.moments["ChargePeriodStart"] },
		"a correction of now":    func(r focusRow) { r.cells["ChargeClass"] = "Correction" },
		"a purchase by usage":    func(r focusRow) { r.cells["ChargeCategory"] = "Purchase" },
		"an amortized cost":      func(r focusRow) { r.figures["EffectiveCost"] = decimal.Zero },
		"no quantity":            func(r focusRow) { r.cells["PricingQuantity"] = nil },
		"no category of pricing": func(r focusRow) { r.cells["PricingCategory"] = nil },
		"another list cost":      func(r focusRow) { r.figures["ListCost"] = decimal.NewFromInt(3) },
		"a cost without a price": func(r focusRow) {
			r.cells["ListUnitPrice"], r.cells["ContractedUnitPrice"] = nil, nil
			r.figures["ListCost"], r.figures["ContractedCost"] = decimal.Zero, decimal.Zero
		},
		"a negative price":      func(r focusRow) { r.figures["ListUnitPrice"] = decimal.NewFromInt(-2) },
		"another contract":      func(r focusRow) { r.figures["ContractedCost"] = decimal.NewFromInt(3) },
		"a negotiated price":    func(r focusRow) { r.figures["ContractedUnitPrice"] = decimal.NewFromInt(1) },
		"nothing consumed":      func(r focusRow) { r.cells["ConsumedQuantity"] = nil },
		"a unit in lower case":  func(r focusRow) { r.cells["PricingUnit"] = "1000 tokens" },
		"no SKU":                func(r focusRow) { r.cells["SkuId"] = nil },
		"no SKU price":          func(r focusRow) { r.cells["SkuPriceId"] = nil },
		"a detail of one's own": func(r focusRow) { r.cells["SkuPriceDetails"] = map[string]any{"Tier": "flex"} },
		"no name":               func(r focusRow) { r.cells["SubAccountName"] = nil },
		"no tags":               func(r focusRow) { r.cells["Tags"] = map[string]any{} },
		"another provider":      func(r focusRow) { r.cells["ServiceProviderName"] = "b" },
	} {
		r := good()
		breakIt(r)
		found := false
		for _, rule := range focusRules {
			require.True(t, rule.holds(good()), rule.rule)
			if !rule.holds(r) {
				broken[rule.file+rule.rule], found = true, true
			}
		}
		require.True(t, found, name)
	}
	for _, rule := range focusRules {
		require.True(t, broken[rule.file+rule.rule], "%s: %s", rule.file, rule.rule)
	}
}
