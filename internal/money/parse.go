package money

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/shopspring/decimal"
)

const (
	longest = 128 // characters that Parse looks at
	quoted  = 40  // characters of a value that an error repeats
)

// Parse returns the nano-dollars of an amount in US dollars that is written as a decimal number: "100", "0.0000004",
// "1234.5", "4e-7". The conversion is exact. It returns an error that quotes s if s is empty, is not a number, is
// negative, has more than nine decimals that count, exceeds Max, or is longer than 128 characters.
func Parse(s string) (int64, error) {
	switch {
	case s == "":
		return 0, fmt.Errorf(`amount "" is empty`)
	case len(s) > longest:
		return 0, fmt.Errorf("amount %s is longer than %d characters", quote(s), longest)
	case !isNumber(s):
		return 0, fmt.Errorf("amount %s is not a number", quote(s))
	}
	d, err := decimal.NewFromString(s)
	if err != nil {
		// Of a well-formed number only the exponent is refused.
		return 0, fmt.Errorf("amount %s has an exponent out of range", quote(s))
	}
	return nanos(d, s)
}

// FromDecimal returns the nano-dollars of an amount in US dollars. The conversion is exact. It returns an error that
// quotes d if d is negative, has more than nine decimals that count, or exceeds Max.
func FromDecimal(d decimal.Decimal) (int64, error) {
	return nanos(d, "")
}

// Decimal returns the amount in US dollars. It is the exact inverse of FromDecimal.
func Decimal(nano int64) decimal.Decimal {
	return decimal.New(nano, -decimals)
}

// nanos converts d, which errors quote as text, or by its own digits if text is empty. It never builds a power of ten
// that is larger than the coefficient of d, so that an absurd exponent costs nothing.
func nanos(d decimal.Decimal, text string) (int64, error) {
	refuse := func(why string) (int64, error) {
		if text == "" {
			text = describe(d)
		}
		return 0, fmt.Errorf("amount %s %s", quote(text), why)
	}

	sign := d.Sign()
	if sign == 0 {
		return 0, nil
	}
	if sign < 0 {
		return refuse("is negative")
	}

	amount, exponent := d.Coefficient(), int64(d.Exponent())+decimals
	if exponent < 0 {
		digits := -exponent
		// An amount of n bits is less than 10^digits if n <= 3*digits, and then cannot be a multiple of it.
		if int64(amount.BitLen()) <= 3*digits {
			return refuse("has more than 9 decimals")
		}
		rest := new(big.Int)
		if amount.QuoRem(amount, power(digits), rest); rest.Sign() != 0 {
			return refuse("has more than 9 decimals")
		}
	}
	tooLarge := "is above the largest amount, " + Format(Max)
	if exponent > 0 {
		if exponent > 18 { // 10^19 alone is above Max
			return refuse(tooLarge)
		}
		amount.Mul(amount, power(exponent))
	}
	if !amount.IsInt64() || amount.Int64() > Max {
		return refuse(tooLarge)
	}
	return amount.Int64(), nil
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

// isNumber reports whether s is digits with an optional sign, point and exponent. It stands before the decimal package,
// which also takes a sign behind the point.
func isNumber(s string) bool {
	mantissa, exponent, scientific := s, "", false
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		mantissa, exponent, scientific = s[:i], s[i+1:], true
	}
	if scientific && !isDigits(unsigned(exponent)) {
		return false
	}
	whole, fraction, _ := strings.Cut(unsigned(mantissa), ".")
	return isDigits(whole + fraction)
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
