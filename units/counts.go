package units

import (
	"cmp"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Counts is how many there are of each of some units. It is a value that is never changed, and has one form: two are equal,
// by ==, where they count the same. The zero value counts nothing.
//
// It is stored, and written as JSON, as an object such as {"input_audio_ms":1500}; in a database, nothing is NULL.
type Counts struct {
	text string // that object without spaces, in the order of the units, none of them zero; empty for nothing
}

// Of counts one unit. Where its name has what it cannot have, that is left out, as [Unit.With] does.
func Of(u Unit, n int64) Counts {
	if n == 0 {
		return Counts{}
	}
	return build([]count{{u.tidy(), n}})
}

// Plus returns the sum of two counts, unit by unit. It saturates.
func (c Counts) Plus(o Counts) Counts {
	switch {
	case o.text == "":
		return c
	case c.text == "":
		return o
	}
	return build(append(slices.Collect(c.list()), slices.Collect(o.list())...))
}

// Minus returns the difference of two counts, unit by unit. It saturates.
func (c Counts) Minus(o Counts) Counts {
	if o.text == "" {
		return c
	}
	all := slices.Collect(c.list())
	for n := range o.list() {
		all = append(all, count{n.unit, -max(n.n, -math.MaxInt64)})
	}
	return build(all)
}

// Count returns how many there are of one unit, by its whole name; zero for one that is not counted.
func (c Counts) Count(u Unit) int64 {
	for unit, n := range c.All() {
		if unit == u {
			return n
		}
	}
	return 0
}

// All returns the units with their counts, none of which is zero, in alphabetical order.
func (c Counts) All() iter.Seq2[Unit, int64] {
	return func(yield func(Unit, int64) bool) {
		for n := range c.list() {
			if !yield(n.unit, n.n) {
				return
			}
		}
	}
}

// IsZero reports whether nothing is counted.
func (c Counts) IsZero() bool { return c.text == "" }

// String returns the counts as JSON; empty for nothing.
func (c Counts) String() string { return c.text }

// Parse reads counts from a JSON object with a whole number for each unit. Empty text and null are nothing. It returns an
// error for any other form.
func Parse(s string) (Counts, error) {
	var given map[string]*int64
	if s == "" {
		return Counts{}, nil
	}
	if err := json.Unmarshal([]byte(s), &given); err != nil {
		return Counts{}, fmt.Errorf("units: %.100q is not a JSON object of whole numbers: %w", s, err)
	}
	var all []count
	for name, n := range given {
		if n == nil {
			return Counts{}, fmt.Errorf("units: %q: null is no count", name)
		}
		all = append(all, count{Unit(name).tidy(), *n})
	}
	return build(all), nil
}

// MarshalJSON implements json.Marshaler.
func (c Counts) MarshalJSON() ([]byte, error) { return []byte(cmp.Or(c.text, "{}")), nil }

// UnmarshalJSON implements json.Unmarshaler.
func (c *Counts) UnmarshalJSON(data []byte) (err error) {
	*c, err = Parse(string(data))
	return err
}

// Value implements driver.Valuer.
func (c Counts) Value() (driver.Value, error) {
	if c.text == "" {
		return nil, nil
	}
	return c.text, nil
}

// Scan implements sql.Scanner.
func (c *Counts) Scan(value any) (err error) {
	switch v := value.(type) {
	case nil:
		*c = Counts{}
	case string:
		*c, err = Parse(v)
	case []byte:
		*c, err = Parse(string(v))
	default:
		err = fmt.Errorf("units: counts are stored as %T", value)
	}
	return err
}

// GormDataType is how gorm calls the type.
func (Counts) GormDataType() string { return "json" }

type count struct {
	unit Unit
	n    int64
}

// list takes the text apart, which is in the form that build gives it.
func (c Counts) list() iter.Seq[count] {
	return func(yield func(count) bool) {
		rest := strings.Trim(c.text, "{}")
		for rest != "" {
			var pair string
			pair, rest, _ = strings.Cut(rest, ",")
			name, number, _ := strings.Cut(pair, ":")
			n, err := strconv.ParseInt(number, 10, 64)
			if err != nil || !yield(count{Unit(strings.Trim(name, `"`)), n}) {
				return
			}
		}
	}
}

// build adds up what is of one unit, and writes the text.
func build(all []count) Counts {
	slices.SortStableFunc(all, func(a, b count) int { return cmp.Compare(a.unit, b.unit) })
	var b strings.Builder
	for len(all) > 0 {
		one := all[0]
		for all = all[1:]; len(all) > 0 && all[0].unit == one.unit; all = all[1:] {
			one.n = add(one.n, all[0].n)
		}
		if one.n == 0 {
			continue
		}
		b.WriteByte("{,"[min(b.Len(), 1)])
		fmt.Fprintf(&b, `"%s":%d`, one.unit, one.n)
	}
	if b.Len() > 0 {
		b.WriteByte('}')
	}
	return Counts{b.String()}
}

func add(a, b int64) int64 {
	switch {
	case b > 0 && a > math.MaxInt64-b:
		return math.MaxInt64
	case b < 0 && a < math.MinInt64-b:
		return math.MinInt64
	}
	return a + b
}
