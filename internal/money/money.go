// Package money is the integer arithmetic of amounts: every amount is an int64 count of nano-dollars (1e-9 USD), every
// rate an int64 count of nano-dollars per million tokens. Products are made in 128 bits, results saturate, and no float
// is used anywhere.
package money

import (
	"math"
	"math/bits"
	"strconv"
	"strings"
)

const (
	// Nano is the number of nano-dollars in one US dollar.
	Nano = 1_000_000_000

	// Max is the largest amount that Parse and FromDecimal accept, and so the largest limit, in nano-dollars (about
	// 4.6 billion US dollars). Two amounts of at most Max add up without saturating.
	Max = 1 << 62
)

const (
	decimals   = 9         // of a US dollar, down to one nano-dollar
	perMillion = 1_000_000 // rates are per million tokens
)

// Format returns the amount in US dollars with at least two decimals, and more, up to nine, only where they are not
// zero: "$100.00", "$1.25", "$0.000412", "-$0.50".
func Format(nano int64) string {
	const least = 2

	sign, size := "", uint64(nano)
	if nano < 0 {
		sign, size = "-", -size
	}
	// The leading one keeps the zeros of the fraction and is cut off.
	fraction := strconv.FormatUint(Nano+size%Nano, 10)[1:]
	fraction = fraction[:least] + strings.TrimRight(fraction[least:], "0")
	return sign + "$" + strconv.FormatUint(size/Nano, 10) + "." + fraction
}

// Add returns a + b, saturating at math.MaxInt64 and math.MinInt64.
func Add(a, b int64) int64 {
	switch {
	case b > 0 && a > math.MaxInt64-b:
		return math.MaxInt64
	case b < 0 && a < math.MinInt64-b:
		return math.MinInt64
	}
	return a + b
}

// Sub returns a - b, saturating at math.MaxInt64 and math.MinInt64.
func Sub(a, b int64) int64 {
	switch {
	case b < 0 && a > math.MaxInt64+b:
		return math.MaxInt64
	case b > 0 && a < math.MinInt64+b:
		return math.MinInt64
	}
	return a - b
}

// Ceil returns the price in nano-dollars of tokens at rate (nano-dollars per million tokens), rounded up and saturating
// at math.MaxInt64. Negative arguments count as 0.
func Ceil(tokens, rate int64) int64 {
	hi, lo := bits.Mul64(natural(tokens), natural(rate))
	lo, carry := bits.Add64(lo, perMillion-1, 0)
	return quotient(hi+carry, lo, perMillion)
}

// Scale returns billionths of amount, rounded up and saturating at math.MaxInt64. Negative arguments count as 0.
func Scale(amount, billionths int64) int64 {
	hi, lo := bits.Mul64(natural(amount), natural(billionths))
	lo, carry := bits.Add64(lo, Nano-1, 0)
	return quotient(hi+carry, lo, Nano)
}

// Units returns the most tokens that amount (nano-dollars) pays for at rate (nano-dollars per million tokens): the
// largest u with Ceil(u, rate) <= amount. Nothing fits a negative amount, so the answer is 0, at any rate; else a rate
// of 0 or less sets no bound, and the answer is math.MaxInt64. An amount of math.MaxInt64 sets no bound either, since
// that is where Ceil saturates.
func Units(amount, rate int64) int64 {
	switch {
	case amount < 0:
		return 0
	case rate <= 0 || amount == math.MaxInt64:
		return math.MaxInt64
	}
	hi, lo := bits.Mul64(uint64(amount), perMillion)
	return quotient(hi, lo, uint64(rate))
}

// natural returns n, or 0 for a negative n.
func natural(n int64) uint64 {
	return uint64(max(n, 0))
}

// quotient returns the 128-bit number hi, lo divided by a positive divisor, rounded down and saturating at
// math.MaxInt64.
func quotient(hi, lo, divisor uint64) int64 {
	if hi >= divisor {
		return math.MaxInt64
	}
	q, _ := bits.Div64(hi, lo, divisor)
	return int64(min(q, math.MaxInt64))
}
