package tenant

import (
	"fmt"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant/internal/money"
)

// Money is an amount of US dollars, exact to the nano-dollar (1e-9). The zero value is the absence of an amount, which
// is not the same as USD("0").
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

// Quantity is a number of tokens or of calls. The zero value is the absence of one, which is not the same as
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
