package money

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/shopspring/decimal"
)

const (
	longest = 128 // bytes that Parse looks at
	quoted  = 40  // bytes of a value that an error repeats
)

// ErrNegative is what the errors for a negative amount wrap.
var ErrNegative = errors.New("is negative")

// Parse returns the nano-dollars of an amount in US dollars that is written as a decimal number: "100", "0.0000004",
// "1234.5", "4e-7". The conversion is exact. It returns an error that quotes s if s is empty, is not a number, is
// negative, has more than nine decimals that are not zero, exceeds Max, or is longer than 128 bytes.
func Parse(s string) (int64, error) {
	switch {
	case s == "":
		return 0, fmt.Errorf(`amount "" is empty`)
	case len(s) > longest:
		return 0, fmt.Errorf("amount %s is longer than %d bytes", quote(s), longest)
	}
	// The decimal package's own parser depends on a limit that the host may change.
	digits, exponent, ok := scan(s)
	if !ok {
		return 0, fmt.Errorf("amount %s is not a number", quote(s))
	}
	exp, err := strconv.ParseInt(exponent, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("amount %s has an exponent out of range", quote(s))
	}
	whole, fraction, _ := strings.Cut(digits, ".")
	coefficient, ok := new(big.Int).SetString(whole+fraction, 10)
	if !ok {
		return 0, fmt.Errorf("amount %s is not a number", quote(s))
	}
	nano, err := nanos(coefficient, exp-int64(len(fraction)))
	if err != nil {
		return 0, fmt.Errorf("amount %s %w", quote(s), err)
	}
	return nano, nil
}

// FromDecimal returns the nano-dollars of an amount in US dollars. The conversion is exact. It returns an error that
// quotes d if d is negative, has more than nine decimals that are not zero, or exceeds Max.
func FromDecimal(d decimal.Decimal) (int64, error) {
	nano, err := nanos(d.Coefficient(), int64(d.Exponent()))
	if err != nil {
		return 0, fmt.Errorf("amount %s %w", quote(describe(d)), err)
	}
	return nano, nil
}

// Decimal returns the amount in US dollars. It is the exact inverse of FromDecimal.
func Decimal(nano int64) decimal.Decimal {
	if nano == 0 {
		return none
	}
	return decimal.New(nano, -decimals)
}

// none is zero dollars, which many amounts are. A decimal is never changed.
var none = decimal.New(0, -decimals)

// Decimals returns two amounts, which share their memory where they are the same.
func Decimals(a, b int64) (decimal.Decimal, decimal.Decimal) {
	first := Decimal(a)
	if a == b {
		return first, first
	}
	return first, Decimal(b)
}

// Share returns an amount, in the memory of a decimal where that is the same amount.
func Share(d decimal.Decimal, nano int64) decimal.Decimal {
	if d.Exponent() == -decimals && d.CoefficientInt64() == nano {
		return d
	}
	return Decimal(nano)
}

// nanos returns the nano-dollars of n times 10^exponent US dollars, in the memory of n. It builds no power of ten that
// is larger than n, so that an absurd exponent costs nothing. Its errors are predicates, for the caller to add what was
// refused.
func nanos(n *big.Int, exponent int64) (int64, error) {
	switch n.Sign() {
	case 0:
		return 0, nil
	case -1:
		return 0, ErrNegative
	}
	exponent += decimals
	if exponent < 0 {
		// 10^k has more than 3k bits, so that a shorter n is no multiple of it.
		k, rest := -exponent, new(big.Int)
		if int64(n.BitLen()) > 3*k {
			n.QuoRem(n, power(k), rest)
		} else {
			rest = n
		}
		if rest.Sign() != 0 {
			return 0, fmt.Errorf("has more than %d decimals", decimals)
		}
	}
	const most = 18 // digits of Max after its first: a larger power of ten is above it
	if exponent > 0 && exponent <= most {
		n.Mul(n, power(exponent))
	}
	if exponent > most || !n.IsInt64() || n.Int64() > Max {
		return 0, fmt.Errorf("is above the largest amount, %s", Format(Max))
	}
	return n.Int64(), nil
}

func power(exponent int64) *big.Int {
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(exponent), nil)
}

// describe writes d out where that is short, and otherwise as digits and exponent: the plain form of 1e999999999 takes
// a gigabyte.
func describe(d decimal.Decimal) string {
	if exponent := d.Exponent(); exponent < -quoted || exponent > quoted {
		return d.Coefficient().String() + "e" + strconv.Itoa(int(exponent))
	}
	return d.String()
}

func quote(s string) string {
	if len(s) > quoted {
		s = s[:quoted] + "..."
	}
	return strconv.Quote(s)
}

// scan splits a number into its digits, with their sign and point, and its exponent, which is "0" where none is written.
// It reports whether s is one.
func scan(s string) (digits, exponent string, ok bool) {
	digits, exponent = s, "0"
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		digits, exponent = s[:i], s[i+1:]
	}
	whole, fraction, _ := strings.Cut(unsigned(digits), ".")
	return digits, exponent, isDigits(whole+fraction) && isDigits(unsigned(exponent))
}

func unsigned(s string) string {
	if s != "" && (s[0] == '+' || s[0] == '-') {
		return s[1:]
	}
	return s
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
