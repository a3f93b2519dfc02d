package meter

import (
	"math/bits"

	"github.com/llmtenant/tenant/internal/book"
)

// What a single call cannot have used or cost. A provider that states more, or less than nothing, is not believed.
const (
	maxCount = 1 << 40
	maxCost  = 1_000_000 * 1_000_000_000 // nano-dollars
)

// A tally is the counts of one usage object as a provider states them.
type tally struct {
	n   [numCounts]int64
	set uint64
	bad bool // one of them is no count
}

// read takes a count over. It reports whether the field is one. Of a count that an object states under several names the
// largest is taken: proxies fill the names that they do not use with zeros.
func (t *tally) read(f field, v value) bool {
	if f >= numCounts {
		return false
	}
	n, ok := v.count()
	if !ok {
		t.bad = true
		return true
	}
	t.put(f, max(n, t.n[f]))
	return true
}

// count reads a count. One in quotes is as good: that is how the JSON of protocol buffers writes 64 bits.
func (v value) count() (int64, bool) {
	n, exact, ok := scaled(v.text, 0)
	return n, ok && exact && n >= 0 && n <= maxCount
}

func (t *tally) put(f field, n int64) {
	t.n[f] = n
	t.set |= 1 << f
}

// drop takes counts back, as if they had not been stated.
func (t *tally) drop(fields ...field) {
	for _, f := range fields {
		t.set &^= 1 << f
	}
}

// add is for counts that are stated in several places.
func (t *tally) add(f field, n int64) {
	if n > maxCount-t.n[f] {
		t.bad = true
		return
	}
	t.put(f, t.n[f]+n)
}

func (t *tally) has(fields ...field) bool {
	for _, f := range fields {
		if t.set&(1<<f) == 0 {
			return false
		}
	}
	return true
}

func (t *tally) any(fields ...field) bool {
	for _, f := range fields {
		if t.set&(1<<f) != 0 {
			return true
		}
	}
	return false
}

func (t *tally) empty() bool { return t.set == 0 && !t.bad }

// replaces reports whether a later statement counts in place of an earlier one. Zeros do not: what was used stays used.
func (t *tally) replaces(before *tally) bool {
	return !t.empty() && (t.bad || before.empty() || t.n != [numCounts]int64{})
}

// overlay puts the counts that another tally has over this one's.
func (t *tally) overlay(over *tally) {
	for set := over.set; set != 0; set &= set - 1 {
		f := field(bits.TrailingZeros64(set))
		t.put(f, over.n[f])
	}
	t.bad = t.bad || over.bad
}

// plus adds the counts of another tally.
func (t *tally) plus(more *tally) {
	for set := more.set; set != 0; set &= set - 1 {
		f := field(bits.TrailingZeros64(set))
		t.add(f, more.n[f])
	}
	t.bad = t.bad || more.bad
}

// take moves a part out of a whole, as far as it is in there: some providers state a part that is larger.
func take(whole *int64, part int64) int64 {
	part = min(part, *whole)
	*whole -= part
	return part
}

// writes splits the tokens that were written to caches. A total without parts is of the short-lived kind, which every
// provider has.
func (t *tally) writes() (short, long int64) {
	short, long = max(t.n[fieldCacheWrite5m], t.n[fieldClaude5m]), max(t.n[fieldCacheWrite1h], t.n[fieldClaude1h])
	return max(short, max(t.n[fieldCacheWrite], t.n[fieldCachedWrite])-long), long
}

// reads returns the tokens that were read from caches, by whatever name. Bifrost's total has what was written in it.
func (t *tally) reads() int64 {
	switch {
	case t.has(fieldCachedRead):
		return t.n[fieldCachedRead]
	case t.has(fieldCachedWrite):
		return max(t.n[fieldCached]-t.n[fieldCachedWrite], 0)
	default:
		return max(t.n[fieldCached], t.n[fieldCacheHit])
	}
}

// plausible reports whether a usage can be one call's.
func plausible(u book.Usage) bool {
	for _, n := range u.Classes() {
		if *n < 0 || *n > maxCount {
			return false
		}
	}
	for _, n := range u.Units.All() {
		if n < 0 || n > maxCount {
			return false
		}
	}
	return true
}

// scaled reads a JSON number times 10^places, rounded half up. It reports whether nothing was rounded away, and false
// for what is no number or too large for the result.
func scaled(s []byte, places int) (n int64, exact, ok bool) {
	const most = (1<<63 - 1) / 10
	negative := len(s) > 0 && s[0] == '-'
	if negative {
		s = s[1:]
	}
	exact = true
	digits, shift := 0, places
	var point, full bool
	i := 0
	for ; i < len(s); i++ {
		c := s[i]
		if c == '.' && !point {
			point = true
			continue
		}
		if c < '0' || c > '9' {
			break
		}
		digits++
		if n >= most { // no more digits fit
			if !point {
				return 0, false, false
			}
			exact, full = exact && c == '0', true
			continue
		}
		n = n*10 + int64(c-'0')
		if point {
			shift--
		}
	}
	if digits == 0 {
		return 0, false, false
	}
	if i < len(s) {
		e, ok := exponent(s[i:])
		if !ok {
			return 0, false, false
		}
		shift += e
	}
	if full && shift >= 0 {
		return 0, false, false
	}
	for ; shift > 0 && n != 0; shift-- {
		if n > most {
			return 0, false, false
		}
		n *= 10
	}
	var last int64
	for ; shift < 0 && (n != 0 || last != 0); shift++ {
		last = n % 10
		n /= 10
		exact = exact && last == 0
	}
	if last >= 5 {
		n++
	}
	if negative {
		n = -n
	}
	return n, exact, true
}

func exponent(s []byte) (n int, ok bool) {
	const most = 10_000
	if s[0] != 'e' && s[0] != 'E' {
		return 0, false
	}
	s = s[1:]
	negative := len(s) > 0 && s[0] == '-'
	if len(s) > 0 && (s[0] == '-' || s[0] == '+') {
		s = s[1:]
	}
	if len(s) == 0 {
		return 0, false
	}
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(n*10+int(c-'0'), most)
	}
	if negative {
		n = -n
	}
	return n, true
}
