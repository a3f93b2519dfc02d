package tenant

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/text"
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

// MarshalText writes the amount in US dollars as a decimal number, such as 1.25, and no text where there is none. An
// amount that is none ("abc", a negative one) is an [ErrInvalidOption].
func (m Money) MarshalText() ([]byte, error) {
	switch {
	case m.err != nil:
		return nil, fmt.Errorf("%w: Money: %w", ErrInvalidOption, m.err)
	case !m.set:
		return nil, nil
	}
	return []byte(money.Decimal(m.nano).String()), nil
}

// UnmarshalText reads what [USD] takes; no text is no amount. Anything else is an [ErrInvalidOption], which leaves the
// amount as it was.
func (m *Money) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*m = Money{}
		return nil
	}
	read := USD(string(text))
	if read.err != nil {
		return fmt.Errorf("%w: Money: %w", ErrInvalidOption, read.err)
	}
	*m = read
	return nil
}

// MarshalJSON writes the amount as a string, "1.25", because many readers take a number for a float, and null where there
// is none; the tag omitzero leaves it out. Its errors are those of [Money.MarshalText].
func (m Money) MarshalJSON() ([]byte, error) {
	text, err := m.MarshalText()
	if err != nil || !m.set {
		return []byte("null"), err
	}
	return json.Marshal(string(text))
}

// UnmarshalJSON reads a string or a number, to the digit, by the rules of [USD]; null is no amount. Anything else is an
// [ErrInvalidOption], which leaves the amount as it was.
func (m *Money) UnmarshalJSON(data []byte) error {
	number, err := text.Scalar(ErrInvalidOption, "Money", data)
	if err != nil {
		return err
	}
	if number == "" && string(data) != "null" {
		return fmt.Errorf(`%w: Money: amount "" is empty; null is the absence of one`, ErrInvalidOption)
	}
	return m.UnmarshalText([]byte(number))
}

// MarshalText writes the number in decimal, and no text where there is none. A negative one is an [ErrInvalidOption].
func (q Quantity) MarshalText() ([]byte, error) {
	switch {
	case !q.set:
		return nil, nil
	case q.n < 0:
		return nil, fmt.Errorf("%w: Quantity: %d is negative", ErrInvalidOption, q.n)
	}
	return strconv.AppendInt(nil, q.n, 10), nil
}

// UnmarshalText reads a whole number from 0 to 2^62; no text is no quantity. Anything else is an [ErrInvalidOption], which
// leaves the quantity as it was.
func (q *Quantity) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*q = Quantity{}
		return nil
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) && text[0] != '-', err == nil && n > money.Max:
		return fmt.Errorf("%w: Quantity: %.40s is above 2^62, the largest there can be", ErrInvalidOption, text)
	case err != nil && !errors.Is(err, strconv.ErrRange):
		return fmt.Errorf("%w: Quantity: %.40q is not a whole number", ErrInvalidOption, text)
	case err != nil, n < 0:
		return fmt.Errorf("%w: Quantity: %.40s is negative", ErrInvalidOption, text)
	}
	*q = Count(n)
	return nil
}

// MarshalJSON writes the number, and null where there is none; the tag omitzero leaves it out. Its errors are those of
// [Quantity.MarshalText].
func (q Quantity) MarshalJSON() ([]byte, error) {
	text, err := q.MarshalText()
	if err != nil || !q.set {
		return []byte("null"), err
	}
	return text, nil
}

// UnmarshalJSON reads a whole number, or a string with one; null is no quantity. Anything else is an [ErrInvalidOption],
// which leaves the quantity as it was.
func (q *Quantity) UnmarshalJSON(data []byte) error {
	number, err := text.Scalar(ErrInvalidOption, "Quantity", data)
	if err != nil {
		return err
	}
	if number == "" && string(data) != "null" {
		return fmt.Errorf(`%w: Quantity: "" is not a whole number; null is the absence of one`, ErrInvalidOption)
	}
	return q.UnmarshalText([]byte(number))
}
