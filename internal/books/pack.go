package books

import (
	"encoding/binary"
	"errors"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/units"
)

// Folded windows keep their sums packed, all lines of a window in one value: a line has some thirty figures, most of which are
// zero, and a database takes longer to read and to add up a column than a process does. A packed value is
//
//	1, the number of texts, each text with its length before it, and for each line:
//	the texts of its keys, by number, 1 if it is of tenants below, else 0;
//	which figures are not zero, as bits, and those; how many buckets of latencies there are, each with its calls;
//	how many units there are, each the number of its text, and its amount.
//
// Numbers are varints; figures and amounts have a sign.
const packing = 1

// foldKeys name a line of a folded window: by the dimensions of the roll-up, or by a tenant or the value of a tag, which is the first one.
type foldKeys struct {
	names [rolledDimensions]string
	below bool
}

const rolledDimensions = 5

// foldSums are the lines of a window, in the order in which they came.
type foldSums struct {
	of    map[foldKeys]*book.HourSum
	order []foldKeys
}

// at returns the sum of a line.
func (f *foldSums) at(k foldKeys) *book.HourSum {
	s := f.of[k]
	if s == nil {
		if f.of == nil {
			f.of = map[foldKeys]*book.HourSum{}
		}
		s = &book.HourSum{}
		f.of[k], f.order = s, append(f.order, k)
	}
	return s
}

// pack returns the lines as they are kept.
func (f *foldSums) pack() []byte {
	numbers := map[string]uint64{}
	var texts, lines []byte
	number := func(text string) uint64 {
		n, ok := numbers[text]
		if !ok {
			n = uint64(len(numbers))
			numbers[text] = n
			texts = append(binary.AppendUvarint(texts, uint64(len(text))), text...)
		}
		return n
	}
	for _, k := range f.order {
		s := f.of[k]
		for _, name := range k.names {
			lines = binary.AppendUvarint(lines, number(name))
		}
		below := byte(0)
		if k.below {
			below = 1
		}
		lines = append(lines, below)
		var (
			set    uint64
			packed []byte
		)
		for i, figure := range figuresOf(s) {
			if *figure != 0 {
				set |= 1 << i
				packed = binary.AppendVarint(packed, *figure)
			}
		}
		lines = append(binary.AppendUvarint(lines, set), packed...)
		lines = binary.AppendUvarint(lines, uint64(len(s.Latencies)))
		for _, c := range s.Latencies {
			lines = binary.AppendVarint(binary.AppendUvarint(lines, uint64(c.Bucket)), c.Calls)
		}
		n := uint64(0)
		packed = nil
		for unit, amount := range s.Usage.Units.All() {
			packed = binary.AppendVarint(binary.AppendUvarint(packed, number(string(unit))), amount)
			n++
		}
		lines = append(binary.AppendUvarint(lines, n), packed...)
	}
	b := binary.AppendUvarint([]byte{packing}, uint64(len(numbers)))
	return append(append(b, texts...), lines...)
}

// unpacker reads packed values. It keeps one string of each text that it has seen.
type unpacker struct {
	texts   map[string]*packedText
	named   []*packedText  // of the value that is read
	first   int            // which text is the first of the keys of the line that is read
	counts  book.Latencies // of the line that is read
	tallies [4]tally       // of the sums that several of its lines are added to
	nobody  book.HourSum   // of lines that nobody asks for
}

// tally is the counts of latencies of a sum, by bucket, which are merged into it at the end of a value.
type tally struct {
	to    *book.HourSum
	calls [book.LatencyBuckets]int64
}

// merge enters what was counted.
func (t *tally) merge(counts book.Latencies) book.Latencies {
	if t.to == nil {
		return counts
	}
	counts = counts[:0]
	for bucket, calls := range &t.calls {
		if calls != 0 {
			counts = append(counts, book.LatencyCount{Bucket: bucket, Calls: calls})
		}
	}
	t.to.Latencies.Merge(counts)
	*t = tally{}
	return counts
}

// tally is where the counts of a sum are added up; nil where too many sums are being added to.
func (u *unpacker) tally(to *book.HourSum) *tally {
	for i := range u.tallies {
		switch t := &u.tallies[i]; t.to {
		case nil:
			t.to = to
			return t
		case to:
			return t
		}
	}
	return nil
}

// packedText is a text, by a number that it has in all values that are read.
type packedText struct {
	text   string
	number int
}

var errPacked = errors.New("a folded window is not one")

// add adds each line of a packed value to the sum that of returns for it; nil: to none.
func (u *unpacker) add(b []byte, of func(*foldKeys) *book.HourSum) error {
	if len(b) == 0 || b[0] != packing {
		return errPacked
	}
	r := packed{b[1:], false}
	u.named = u.named[:0]
	if u.texts == nil {
		u.texts = map[string]*packedText{}
	}
	for range r.count() {
		raw := r.bytes()
		text, ok := u.texts[string(raw)]
		if !ok {
			text = &packedText{string(raw), len(u.texts)}
			u.texts[text.text] = text
		}
		u.named = append(u.named, text)
	}
	defer func() {
		for i := range u.tallies {
			u.counts = u.tallies[i].merge(u.counts)
		}
	}()
	var k foldKeys
	for len(r.rest) > 0 {
		for i := range k.names {
			t := r.text(u.named)
			if k.names[i] = t.text; i == 0 {
				u.first = t.number
			}
		}
		k.below = r.uint() != 0
		to := of(&k)
		if to == nil {
			u.nobody = book.HourSum{}
			to = &u.nobody
		}
		set := r.uint()
		for i, figure := range figuresOf(to) {
			if set&(1<<i) != 0 {
				*figure = money.Add(*figure, r.int())
			}
		}
		u.latencies(&r, to)
		for range r.count() {
			unit := units.Unit(r.text(u.named).text)
			to.Usage.Units = to.Usage.Units.Plus(units.Of(unit, r.int()))
		}
		if r.bad {
			return errPacked
		}
	}
	if r.bad {
		return errPacked
	}
	return nil
}

// latencies adds the counts of a line to a sum.
func (u *unpacker) latencies(r *packed, to *book.HourSum) {
	n := r.count()
	if n == 0 {
		return
	}
	if t := u.tally(to); t != nil {
		for range n {
			bucket := r.uint()
			if bucket >= book.LatencyBuckets {
				r.fail()
				return
			}
			t.calls[bucket] = money.Add(t.calls[bucket], r.int())
		}
		return
	}
	u.counts = u.counts[:0]
	for range n {
		u.counts = append(u.counts, book.LatencyCount{Bucket: int(r.uint()), Calls: r.int()})
	}
	to.Latencies.Merge(u.counts)
}

// packed is what is left of a packed value.
type packed struct {
	rest []byte
	bad  bool
}

func (p *packed) fail() { p.rest, p.bad = nil, true }

func (p *packed) uint() uint64 {
	if len(p.rest) > 0 && p.rest[0] < 0x80 {
		n := p.rest[0]
		p.rest = p.rest[1:]
		return uint64(n)
	}
	n, length := binary.Uvarint(p.rest)
	if length <= 0 {
		p.fail()
		return 0
	}
	p.rest = p.rest[length:]
	return n
}

// int is a number with a sign, which is the lowest bit.
func (p *packed) int() int64 {
	n := p.uint()
	return int64(n>>1) ^ -int64(n&1) // as binary.AppendVarint writes it
}

// count is a number of things that follow, each of a byte or more.
func (p *packed) count() int {
	n := p.uint()
	if n > uint64(len(p.rest)) {
		p.fail()
		return 0
	}
	return int(n)
}

func (p *packed) bytes() []byte {
	n := p.count()
	b := p.rest[:n]
	p.rest = p.rest[n:]
	return b
}

func (p *packed) text(of []*packedText) *packedText {
	n := p.uint()
	if n >= uint64(len(of)) {
		p.fail()
		return &packedText{}
	}
	return of[n]
}
