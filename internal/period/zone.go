package period

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"time"
)

// Offsets returns a short text for each of n years from a year on, in UTC: which offsets the time zone loc has in it, and
// when they change. Two zones whose texts are the same have the same days in that year.
func Offsets(loc *time.Location, year, n int) []string {
	texts := make([]string, n)
	for i := range texts {
		at, end := january(year+i), january(year+i+1)
		sum := fnv.New32a()
		last := int64(-1 << 62)
		for at < end {
			offset, to := span(loc, at)
			if offset != last { // where package time ends a year early, nothing changes
				_ = binary.Write(sum, binary.BigEndian, [2]int64{at, offset}) // a hash takes everything
			}
			at, last = to, offset
		}
		texts[i] = fmt.Sprintf("%08x", sum.Sum32())
	}
	return texts
}

// january is the instant at which a year begins.
func january(year int) int64 { return time.Date(year, time.January, 1, 0, 0, 0, 0, time.UTC).Unix() }

// LoadZone returns the time zone of an IANA name, which means the same in every process.
func LoadZone(name string) (*time.Location, error) {
	if name == "" || name == "Local" {
		return nil, fmt.Errorf("the time zone %q is not an IANA name such as Europe/Berlin or UTC", name)
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("the time zone %q is not known here: %w", name, err)
	}
	return loc, nil
}
