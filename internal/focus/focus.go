// Package focus makes rows of FOCUS, the FinOps Open Cost and Usage Specification, of what the books say of an hour. It knows no
// table and no price book: what was used comes with its list prices.
package focus

import (
	"cmp"
	"strconv"
	"time"

	"github.com/llmtenant/tenant/internal/export"
)

// Version is one of the specification.
type Version string

// The versions.
const (
	V12 Version = "1.2"
	V13 Version = "1.3"
)

// File says what all rows of a file have in common.
type File struct {
	Version                Version
	AccountID, AccountName string
	Issuer                 string    // of the invoices; empty: the provider of each row
	From, To               time.Time // which may cut the first and the last hour
}

// Line is what was used in an hour by calls that differ in the class of what they used alone.
type Line struct {
	Hour            time.Time
	Tenant          string // what never changes of it; empty: none
	TenantID, Name  string
	Provider, Model string
	Tier            string // the service tier
	Tags            []byte // an object of JSON; nil: none
	Cost, Charge    int64
	Calls           int64

	// Of usage: what was used of each class, and the tokens whose classes nobody knows. Above is the length of a prompt from
	// which on the rates hold that the parts have; 0: of any.
	Parts        []Part
	Unclassified int64
	Above        int64
	Unpriced     bool // a call had no price

	// Of what is no usage, but an adjustment of what is booked: when it was booked.
	Adjusted bool
	Booked   time.Time
}

// Part is what was used of one class.
type Part struct {
	Name   string // as in input_tokens
	Unit   string // what N counts, in the plural; of Seconds, N counts thousandths
	N      int64
	Rate   int64 // the list price in nano-dollars: of a million, or of one where Each says so
	Each   bool
	Priced bool // there is a list price
}

// Seconds is the unit of what has a length.
const Seconds = "Seconds"

// row is a line's share that one class has.
type row struct {
	*File
	*Line
	*Part        // nil: of an adjustment
	cost, charge int64
}

// column is one of a file, and what its cells are: nil for NULL.
type column struct {
	export.Column
	cell func(r *row) []byte
}

// Columns are those of a version, in the order of the alphabet, the custom ones last.
func (v Version) Columns() []export.Column {
	var all []export.Column
	for _, c := range v.columns() {
		all = append(all, c.Column)
	}
	return all
}

func (v Version) columns() []column {
	is := func(name string, kind export.Kind, cell func(*row) []byte) column {
		return column{export.Column{Name: name, Kind: kind}, cell}
	}
	text := func(name string, of func(*row) string) column {
		return is(name, export.Text, func(r *row) []byte { return orNull(of(r)) })
	}
	same := func(name, value string) column { return text(name, func(*row) string { return value }) }
	nano := func(name string, of func(*row) int64) column {
		return is(name, export.Money, func(r *row) []byte { return number(of(r)) })
	}
	// of are those of a price or a quantity, which adjustments have not.
	of := func(name string, kind export.Kind, of func(*row) []byte) column {
		return is(name, kind, func(r *row) []byte {
			if r.Part == nil {
				return nil
			}
			return of(r)
		})
	}
	provider := func(name string) column { return text(name, func(r *row) string { return r.Provider }) }
	cost := func(r *row) int64 { return r.cost }
	price := func(r *row) []byte {
		if !r.Priced {
			return nil
		}
		return number(r.Rate)
	}
	all := []column{
		nano("BilledCost", cost),
		text("BillingAccountId", func(r *row) string { return r.AccountID }),
		text("BillingAccountName", func(r *row) string { return r.AccountName }),
		same("BillingCurrency", "USD"),
		is("BillingPeriodEnd", export.Second, func(r *row) []byte { return moment(r.month().AddDate(0, 1, 0)) }),
		is("BillingPeriodStart", export.Second, func(r *row) []byte { return moment(r.month()) }),
		text("ChargeCategory", (*row).category),
		text("ChargeClass", (*row).class),
		text("ChargeDescription", (*row).description),
		text("ChargeFrequency", func(r *row) string {
			if r.Adjusted {
				return "One-Time"
			}
			return "Usage-Based"
		}),
		is("ChargePeriodEnd", export.Second, func(r *row) []byte { return moment(r.end()) }),
		is("ChargePeriodStart", export.Second, func(r *row) []byte { return moment(r.start()) }),
		of("ConsumedQuantity", export.Integer, func(r *row) []byte { return number(r.consumed()) }),
		of("ConsumedUnit", export.Text, func(r *row) []byte { return []byte(r.Unit) }),
		nano("ContractedCost", (*row).list),
		of("ContractedUnitPrice", export.Money, price),
		nano("EffectiveCost", cost),
	}
	if v == V13 {
		all = append(all, provider("HostProviderName"))
	}
	all = append(
		all,
		text("InvoiceIssuerName", func(r *row) string { return cmp.Or(r.Issuer, r.Provider) }),
		nano("ListCost", (*row).list),
		of("ListUnitPrice", export.Money, price),
		of("PricingCategory", export.Text, func(*row) []byte { return []byte("Standard") }),
		of("PricingQuantity", export.Money, func(r *row) []byte { return r.quantity() }),
		of("PricingUnit", export.Text, func(r *row) []byte { return []byte(r.pricingUnit()) }),
		provider("ProviderName"), // of 1.3 too, which has them beside those that come in their place
		provider("PublisherName"),
		same("ServiceCategory", "AI and Machine Learning"),
		provider("ServiceName"),
	)
	if v == V13 {
		all = append(all, provider("ServiceProviderName"))
	}
	return append(
		all,
		same("ServiceSubcategory", "Generative AI"),
		of("SkuId", export.Text, func(r *row) []byte { return []byte(r.sku()) }),
		of("SkuMeter", export.Text, func(r *row) []byte { return []byte(title(r.Part.Name)) }),
		of("SkuPriceDetails", export.JSON, func(r *row) []byte { return r.details() }),
		of("SkuPriceId", export.Text, func(r *row) []byte { return []byte(r.skuPrice()) }),
		text("SubAccountId", func(r *row) string { return r.Tenant }),
		text("SubAccountName", func(r *row) string { return cmp.Or(r.Line.Name, r.TenantID, r.Tenant) }),
		is("Tags", export.JSON, func(r *row) []byte { return r.Tags }),
		nano("x_Charge", func(r *row) int64 { return r.charge }),
		text("x_ConsumerId", func(r *row) string { return r.TenantID }),
		text("x_Model", func(r *row) string { return r.Model }),
		text("x_ServiceTier", func(r *row) string { return r.Tier }),
		is("x_Unpriced", export.Bool, func(r *row) []byte {
			if r.Unpriced {
				return []byte("t")
			}
			return []byte("f")
		}),
	)
}

// Writer makes rows of lines.
type Writer struct {
	File
	columns []column
	cells   [][]byte
}

// NewWriter returns one for a file.
func NewWriter(f File) *Writer {
	w := &Writer{File: f, columns: f.Version.columns()}
	w.cells = make([][]byte, len(w.columns))
	return w
}

// Rows enters the rows of a line. The cells are valid until the next one.
func (w *Writer) Rows(l *Line, enter func(cells [][]byte) error) error {
	for _, r := range l.rows() {
		r.File = &w.File
		for i, c := range w.columns {
			w.cells[i] = c.cell(&r)
		}
		if err := enter(w.cells); err != nil {
			return err
		}
	}
	return nil
}

// closed reports whether an adjustment was booked after the month was over that it belongs to.
func (r *row) closed() bool { return r.Adjusted && monthOf(r.Booked).After(monthOf(r.Hour)) }

// month is when the billing period begins: what is booked later is on the bill of then.
func (r *row) month() time.Time {
	if r.closed() {
		return monthOf(r.Booked)
	}
	return monthOf(r.Hour)
}

func monthOf(t time.Time) time.Time {
	t = t.UTC()
	return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
}

func (r *row) start() time.Time {
	if r.From.After(r.Hour) {
		return r.From
	}
	return r.Hour
}

func (r *row) end() time.Time {
	if end := r.Hour.Add(time.Hour); end.Before(r.To) {
		return end
	}
	return r.To.Add(time.Second - time.Nanosecond).Truncate(time.Second)
}

func (r *row) category() string {
	if r.Adjusted && !(r.closed() && r.Model != "") {
		return "Adjustment"
	}
	return "Usage"
}

func (r *row) class() string {
	if r.closed() {
		return "Correction"
	}
	return ""
}

func (r *row) description() string {
	switch {
	case r.Adjusted && r.Model != "":
		return "Correction of what calls of " + r.Model + " cost"
	case r.Adjusted && r.charge < 0:
		return "Credit for the tenant"
	case r.Adjusted:
		return "Debit of the tenant"
	default:
		return cmp.Or(r.Model, "No model") + ": " + title(r.Part.Name)
	}
}

func number(n int64) []byte { return strconv.AppendInt(nil, n, 10) }

func moment(t time.Time) []byte { return number(t.UnixMicro()) }

func orNull(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}
