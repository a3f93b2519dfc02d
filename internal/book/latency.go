package book

import (
	"fmt"
	"math/big"
	"math/bits"
	"slices"
	"strconv"
	"time"
)

// Latencies are how many calls took how long, by bucket. Each doubling of the time is cut into four buckets of one width, so that
// a bucket's middle is at most 12.5 per cent away from any time in it. They are added and taken away like any other sum.
type Latencies []LatencyCount

// LatencyCount is how many calls are in a bucket; of a correction it may be negative.
type LatencyCount struct {
	Bucket int
	Calls  int64
}

// The first bucket is what is shorter than 1,024 microseconds, the last what takes 2^32 of them (71 minutes) and longer.
const (
	shortest, longest = 10, 32
	perDoubling       = 4

	// LatencyBuckets is how many there are.
	LatencyBuckets = (longest-shortest)*perDoubling + 2
)

// LatencyBucket is the bucket of a time in microseconds.
func LatencyBucket(us int64) int {
	if us < 1<<shortest {
		return 0
	}
	octave := bits.Len64(uint64(us)) - 1
	if octave >= longest {
		return LatencyBuckets - 1
	}
	return 1 + (octave-shortest)*perDoubling + int(us>>(octave-2))&(perDoubling-1)
}

// LatencyBound is the shortest time in a bucket, in microseconds.
func LatencyBound(bucket int) int64 {
	if bucket <= 0 {
		return 0
	}
	bucket = min(bucket, LatencyBuckets-1) - 1
	return int64(perDoubling+bucket%perDoubling) << (shortest + bucket/perDoubling - 2)
}

// latencyOf is the middle of a bucket; of the first and the last, the bound that it has.
func latencyOf(bucket int) time.Duration {
	low := LatencyBound(bucket)
	switch {
	case bucket <= 0:
		low = LatencyBound(1)
	case bucket < LatencyBuckets-1:
		low += (LatencyBound(bucket+1) - low) / 2
	}
	return time.Duration(low) * time.Microsecond
}

// Add adds so many calls to a bucket.
func (l *Latencies) Add(bucket int, calls int64) {
	i, found := slices.BinarySearchFunc(*l, bucket, func(c LatencyCount, b int) int { return c.Bucket - b })
	if !found {
		*l = slices.Insert(*l, i, LatencyCount{Bucket: bucket})
	}
	(*l)[i].Calls += calls
}

// Merge adds other counts.
func (l *Latencies) Merge(o Latencies) {
	switch {
	case len(o) == 0:
		return
	case len(*l) == 0:
		*l = slices.Clone(o)
		return
	}
	missing, i := 0, 0
	for _, c := range o {
		for i < len(*l) && (*l)[i].Bucket < c.Bucket {
			i++
		}
		if i == len(*l) || (*l)[i].Bucket != c.Bucket {
			missing++
		}
	}
	if missing == 0 {
		i = 0
		for _, c := range o {
			for (*l)[i].Bucket < c.Bucket {
				i++
			}
			(*l)[i].Calls += c.Calls
		}
		return
	}
	// From the back, so that each is moved once.
	i, to := len(*l)-1, len(*l)+missing-1
	*l = slices.Grow(*l, missing)[:to+1]
	for j := len(o) - 1; j >= 0; to-- {
		switch {
		case i < 0 || (*l)[i].Bucket < o[j].Bucket:
			(*l)[to] = o[j]
			j--
		case (*l)[i].Bucket == o[j].Bucket:
			(*l)[to] = LatencyCount{o[j].Bucket, (*l)[i].Calls + o[j].Calls}
			i, j = i-1, j-1
		default:
			(*l)[to] = (*l)[i]
			i--
		}
	}
}

// At returns how many calls are in a bucket.
func (l Latencies) At(bucket int) int64 {
	for _, c := range l {
		if c.Bucket == bucket {
			return c.Calls
		}
	}
	return 0
}

// Quantile is the time within which this share of the calls, in billionths, was answered, to within 12.5 per cent between 1 ms
// and 71 minutes; zero where there are none.
func (l Latencies) Quantile(share int64) time.Duration {
	var all int64
	for _, c := range l {
		all += c.Calls
	}
	if all <= 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(all), uint64(share))
	rank, rest := bits.Div64(hi, lo, 1_000_000_000)
	if rest > 0 || rank == 0 {
		rank++
	}
	var seen int64
	for _, c := range l {
		if seen += c.Calls; seen >= int64(rank) {
			return latencyOf(c.Bucket)
		}
	}
	return latencyOf(LatencyBuckets - 1)
}

// digits is how many decimal digits of a number each bucket has.
const digits = 12

// Number is the counts as one number, of which each bucket has twelve decimal digits: numbers add up as the counts do. It is
// written with an exponent, so that it is short.
func (l Latencies) Number() string {
	if len(l) == 0 {
		return "0"
	}
	if len(l) == 1 {
		return strconv.FormatInt(l[0].Calls, 10) + "e" + strconv.Itoa(digits*l[0].Bucket)
	}
	ten := new(big.Int).Exp(big.NewInt(10), big.NewInt(digits), nil)
	number := new(big.Int)
	for i, next := len(l)-1, l[len(l)-1].Bucket; i >= 0; i-- {
		for ; next > l[i].Bucket; next-- {
			number.Mul(number, ten)
		}
		number.Add(number, big.NewInt(l[i].Calls))
	}
	return number.String() + "e" + strconv.Itoa(digits*l[0].Bucket)
}

// Text is the counts as a JSON object, by bucket.
func (l Latencies) Text() string {
	b := []byte{'{'}
	for _, c := range l {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(strconv.AppendInt(append(b, '"'), int64(c.Bucket), 10), '"', ':')
		b = strconv.AppendInt(b, c.Calls, 10)
	}
	return string(append(b, '}'))
}

// ParseLatencies reads what a database has made of counts: a number, a JSON object, or a list of JSON objects, which it adds up.
func ParseLatencies(text string) (l Latencies, err error) {
	if text == "" {
		return nil, nil
	}
	if text[0] == '[' || text[0] == '{' {
		return parseObjects(text)
	}
	for bucket := 0; text != ""; bucket++ {
		from := max(len(text)-digits, 0)
		n, err := strconv.ParseUint(text[from:], 10, 63)
		if err != nil {
			return nil, fmt.Errorf("counts of latencies: %w", err)
		}
		if n != 0 {
			l = append(l, LatencyCount{bucket, int64(n)})
		}
		text = text[:from]
	}
	return l, nil
}

// parseObjects adds up JSON objects as a database writes them, each of which has a number for some buckets. There may be very
// many: what lies between the numbers is not looked at.
func parseObjects(text string) (Latencies, error) {
	if end := text[len(text)-1]; end != '}' && end != ']' {
		return nil, fmt.Errorf("counts of latencies: there is no end of %.20q", text)
	}
	var (
		sums   [LatencyBuckets]int64
		bucket = -1
	)
	for i := 0; i < len(text); {
		start := i
		for i < len(text) && (text[i] == '-' || '0' <= text[i] && text[i] <= '9') {
			i++
		}
		if i == start {
			i++
			continue
		}
		n, err := strconv.ParseInt(text[start:i], 10, 64)
		switch {
		case err != nil:
			return nil, fmt.Errorf("counts of latencies: %w", err)
		case bucket >= 0:
			sums[bucket] += n
			bucket = -1
		case n < 0 || n >= LatencyBuckets:
			return nil, fmt.Errorf("counts of latencies: there is no bucket %d", n)
		default:
			bucket = int(n)
		}
	}
	if bucket >= 0 {
		return nil, fmt.Errorf("counts of latencies: the bucket %d has none", bucket)
	}
	var l Latencies
	for b, n := range sums {
		if n != 0 {
			l = append(l, LatencyCount{b, n})
		}
	}
	return l, nil
}
