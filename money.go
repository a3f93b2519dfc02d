package tenant

import (
	"fmt"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/period"
)

// Money is an amount of US dollars, exact to the nano-dollar (1e-9). The zero value is the absence of an amount, which
// is something else than USD("0").
type Money struct {
	nano int64
	set  bool
	err  error
}

// USD returns an amount given in US dollars, such as USD("100") or USD("0.0004"). A string that is no such amount (not
// a number, negative, finer than a nano-dollar, above 2^62 nano-dollars) is reported as an error by whatever takes the
// Money.
func USD(dollars string) Money {
	nano, err := money.Parse(dollars)
	return Money{nano: nano, set: true, err: err}
}

// USDFrom returns an amount given as a decimal, by the rules of [USD].
func USDFrom(dollars decimal.Decimal) Money {
	nano, err := money.FromDecimal(dollars)
	return Money{nano: nano, set: true, err: err}
}

// IsSet reports whether there is an amount.
func (m Money) IsSet() bool { return m.set }

// Decimal returns the amount in US dollars; zero where there is none.
func (m Money) Decimal() decimal.Decimal { return money.Decimal(m.nano) }

// String returns the amount in the form $1.25, and "none" where there is none.
func (m Money) String() string {
	switch {
	case m.err != nil:
		return "invalid: " + m.err.Error()
	case !m.set:
		return "none"
	}
	return money.Format(m.nano)
}

func nanoUSD(nano int64) Money { return Money{nano: nano, set: true} }

// Quantity is a number of tokens or of calls. The zero value is the absence of one, which is something else than
// Count(0).
type Quantity struct {
	n   int64
	set bool
}

// Count returns a quantity. A negative one is reported as an error by whatever takes it.
func Count(n int64) Quantity { return Quantity{n, true} }

// IsSet reports whether there is a quantity.
func (q Quantity) IsSet() bool { return q.set }

// Int64 returns the number; zero where there is none.
func (q Quantity) Int64() int64 { return q.n }

// String returns the number in decimal, and "none" where there is none.
func (q Quantity) String() string {
	if !q.set {
		return "none"
	}
	return fmt.Sprint(q.n)
}

// Limits are what a tenant may use up in a calendar day and in a calendar month of its time zone. A limit that is absent
// (the zero value) is no limit; USD("0") and Count(0) allow nothing. Costs are US dollars, tokens are of all classes.
type Limits struct {
	DailyCost, MonthlyCost     Money
	DailyTokens, MonthlyTokens Quantity
	DailyCalls, MonthlyCalls   Quantity
}

// limitFields are the fields of Limits with the scope and the metric that each limits.
var limitFields = []struct {
	name   string
	window period.Window
	metric book.Metric
	value  func(*Limits) any // *Money or *Quantity
}{
	{"DailyCost", period.Day, book.Cost, func(l *Limits) any { return &l.DailyCost }},
	{"MonthlyCost", period.Month, book.Cost, func(l *Limits) any { return &l.MonthlyCost }},
	{"DailyTokens", period.Day, book.Tokens, func(l *Limits) any { return &l.DailyTokens }},
	{"MonthlyTokens", period.Month, book.Tokens, func(l *Limits) any { return &l.MonthlyTokens }},
	{"DailyCalls", period.Day, book.Calls, func(l *Limits) any { return &l.DailyCalls }},
	{"MonthlyCalls", period.Month, book.Calls, func(l *Limits) any { return &l.MonthlyCalls }},
}

// rows returns the limits as they are stored. An error names the field and the value.
func (l Limits) rows() ([]book.Limit, error) {
	var rows []book.Limit
	for _, f := range limitFields {
		row := book.Limit{Scope: book.Scope{Window: f.window}, Metric: f.metric}
		switch v := f.value(&l).(type) {
		case *Money:
			if v.err != nil {
				return nil, fmt.Errorf("%s: %w", f.name, v.err)
			}
			if !v.set {
				continue
			}
			row.Max = v.nano
		case *Quantity:
			if !v.set {
				continue
			}
			if v.n < 0 {
				return nil, fmt.Errorf("%s: %d is negative", f.name, v.n)
			}
			if v.n > money.Max {
				return nil, fmt.Errorf("%s: %d is above 2^62, the largest limit there can be", f.name, v.n)
			}
			row.Max = v.n
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// limitsOf is the inverse of rows. Rows that Limits has no field for are left out.
func limitsOf(rows []book.Limit) Limits {
	var l Limits
	for _, row := range rows {
		for _, f := range limitFields {
			if row.Scope != (book.Scope{Window: f.window}) || row.Metric != f.metric {
				continue
			}
			switch v := f.value(&l).(type) {
			case *Money:
				*v = nanoUSD(row.Max)
			case *Quantity:
				*v = Count(row.Max)
			}
		}
	}
	return l
}
