package money

import (
	"math"
	"math/bits"
)

// Sum adds up the parts of one price exactly and rounds once, at the end. The zero value is an empty sum. It holds 128
// bits of millionths of a nano-dollar; what exceeds them saturates.
type Sum struct {
	hi, lo uint64
}

// AddTokens adds the price of tokens at rate (nano-dollars per million tokens). Negative arguments count as 0.
func (s *Sum) AddTokens(tokens, rate int64) {
	s.add(bits.Mul64(natural(tokens), natural(rate)))
}

// AddFees adds n times a fee of fee nano-dollars. Negative arguments count as 0.
func (s *Sum) AddFees(n, fee int64) {
	hi, lo := bits.Mul64(natural(n), natural(fee))
	over, hi := bits.Mul64(hi, perMillion)
	carry, lo := bits.Mul64(lo, perMillion)
	hi, overflow := bits.Add64(hi, carry, 0)
	if over != 0 || overflow != 0 {
		s.saturate()
		return
	}
	s.add(hi, lo)
}

// Nano returns the total in nano-dollars, halves rounded up, saturating at math.MaxInt64.
func (s *Sum) Nano() int64 { return s.Scaled(Nano) }

// Scaled returns billionths of the total (1_200_000_000 is 1.2 times it) in nano-dollars, rounded once, halves up, and
// saturating at math.MaxInt64. A negative scale counts as 0.
func (s *Sum) Scaled(billionths int64) int64 {
	over, hi := bits.Mul64(s.hi, natural(billionths))
	carry, lo := bits.Mul64(s.lo, natural(billionths))
	hi, overflow := bits.Add64(hi, carry, 0)
	over += overflow
	lo, carry = bits.Add64(lo, perMillion*Nano/2, 0)
	hi, overflow = bits.Add64(hi, 0, carry)
	if over+overflow != 0 {
		return math.MaxInt64
	}
	return quotient(hi, lo, perMillion*Nano)
}

func (s *Sum) add(hi, lo uint64) {
	lo, carry := bits.Add64(s.lo, lo, 0)
	hi, overflow := bits.Add64(s.hi, hi, carry)
	if overflow != 0 {
		s.saturate()
		return
	}
	s.hi, s.lo = hi, lo
}

func (s *Sum) saturate() {
	s.hi, s.lo = math.MaxUint64, math.MaxUint64
}
