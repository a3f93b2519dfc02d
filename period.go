package tenant

import (
	"fmt"
	"time"

	"github.com/llmtenant/tenant/internal/books"
	"github.com/llmtenant/tenant/internal/period"
)

// Period is a span of time that calls are added up over: one of the constants of [Calendar], or what [Date] or [Between]
// returns.
// Every period is half-open: it begins at its first instant and ends before its last, so that periods that follow each
// other count every call once. A call belongs to the instant at which it was admitted, also when it ended later.
//
// Periods can be compared with ==.
type Period interface {
	// In returns the period in a time zone. Periods between two instants and AllTime are the same in every zone. A nil
	// zone stands for the tenant's own, which is also what holds without In: the zone of its budget, otherwise the ledger's
	// (see WithDefaultTimeZone).
	In(zone *time.Location) Period

	// String describes the period, such as "last month".
	String() string

	// bounds returns the period's first instant and the first one after it, as seen from a moment.
	bounds(m moment) (from, to time.Time, err error)
}

// moment is when a question is asked, in which zone, and on which day the weeks begin.
type moment struct {
	now       time.Time
	zone      *time.Location
	weekStart time.Weekday
}

// Calendar is a [Period] of the calendar that moves with the time: by the database's clock, so that it is the same for
// every process. A day begins at the first instant of its date in the time zone, and lasts 23 or 25 hours where the
// clocks change. Weeks begin on the ledger's day, as those of limits do: on Monday, unless [WithWeekStart] says Sunday. The period that it is now lasts until its end, not until now.
type Calendar uint8

// The periods of the calendar.
const (
	Today Calendar = iota + 1
	Yesterday
	ThisWeek
	LastWeek
	ThisMonth
	LastMonth
	AllTime // every call that there is
)

var calendar = [...]struct {
	name   string
	window period.Window
	back   int // windows before the present one
}{
	Today:     {"today", period.Day, 0},
	Yesterday: {"yesterday", period.Day, 1},
	ThisWeek:  {"this week", period.Week, 0},
	LastWeek:  {"last week", period.Week, 1},
	ThisMonth: {"this month", period.Month, 0},
	LastMonth: {"last month", period.Month, 1},
	AllTime:   {name: "all time"},
}

// String implements [Period].
func (c Calendar) String() string {
	if c < Today || c > AllTime {
		return fmt.Sprintf("Calendar(%d)", uint8(c))
	}
	return calendar[c].name
}

// In implements [Period].
func (c Calendar) In(zone *time.Location) Period {
	if zone == nil {
		return c
	}
	return zoned{c, zone}
}

func (c Calendar) bounds(m moment) (from, to time.Time, err error) {
	if c < Today || c > AllTime {
		return from, to, fmt.Errorf("%w: the period %v is none of the constants", ErrInvalidOption, c)
	}
	if c == AllTime {
		return books.Ever.From, books.Ever.To, nil
	}
	p := calendar[c]
	from, to = period.Bounds(p.window, m.now, m.zone, m.weekStart)
	for range p.back {
		from, to = period.Bounds(p.window, from.Add(-time.Nanosecond), m.zone, m.weekStart)
	}
	return from, to, nil
}

// Dates is a [Period] of whole dates in a time zone, as [Date] and [Dates.Through] make it. It begins at the first instant
// of its first date and ends with its last, whether the clocks change in between, show no midnight, or show it twice. A
// date that the zone skips has no calls.
type Dates struct{ first, last period.Date }

// Date returns the period of one date, such as Date(2026, time.March, 8): in the time zone that [Dates.In] says, otherwise in
// the tenant's own. A date that there is not (February 30) is an [ErrInvalidOption] of whatever takes the period.
func Date(year int, month time.Month, day int) Dates {
	d := period.Date{Year: year, Month: month, Day: day}
	return Dates{d, d}
}

// Through returns the period from the first date of d to another date, both included. A date before it is an
// [ErrInvalidOption] of whatever takes the period.
//
//	tenant.Date(2026, time.March, 1).Through(2026, time.March, 31)
func (d Dates) Through(year int, month time.Month, day int) Dates {
	d.last = period.Date{Year: year, Month: month, Day: day}
	return d
}

// In implements [Period].
func (d Dates) In(zone *time.Location) Period {
	if zone == nil {
		return d
	}
	return zoned{d, zone}
}

// String implements [Period].
func (d Dates) String() string {
	if d.first == d.last {
		return d.first.String()
	}
	return d.first.String() + " to " + d.last.String()
}

func (d Dates) bounds(m moment) (from, to time.Time, err error) {
	for _, date := range []period.Date{d.first, d.last} {
		if err := date.Check(); err != nil {
			return from, to, fmt.Errorf("%w: Date(%d, %d, %d): %w", ErrInvalidOption, date.Year, int(date.Month), date.Day, err)
		}
	}
	if d.last.Before(d.first) {
		return from, to, fmt.Errorf("%w: Date: the period begins with %v, after its last date, %v", ErrInvalidOption, d.first, d.last)
	}
	from, to = period.Dates(d.first, d.last, m.zone)
	return from, to, nil
}

// zoned is a period of dates in a time zone of its own.
type zoned struct {
	Period
	zone *time.Location
}

// String implements [Period].
func (z zoned) String() string { return z.Period.String() + " in " + z.zone.String() }

func (z zoned) bounds(m moment) (from, to time.Time, err error) {
	m.zone = z.zone
	return z.Period.bounds(m)
}

// Between returns the period from one instant to another, half-open: a call admitted at from counts, one admitted at to
// does not. Two equal instants are an empty period. From after to is an [ErrInvalidOption] of whatever takes the period.
// Whole dates are what [Date] is for: a zone may have no midnight on a date, or two.
func Between(from, to time.Time) Period {
	return between{from.Round(0).UTC(), to.Round(0).UTC()} // without the monotonic clock, to be comparable
}

type between struct{ from, to time.Time }

// In implements [Period].
func (b between) In(*time.Location) Period { return b }

// String implements [Period].
func (b between) String() string {
	return b.from.Format(time.RFC3339Nano) + " to " + b.to.Format(time.RFC3339Nano)
}

func (b between) bounds(moment) (from, to time.Time, err error) {
	if b.from.After(b.to) {
		return from, to, fmt.Errorf("%w: Between: the period begins at %s, after its end at %s", ErrInvalidOption,
			b.from.Format(time.RFC3339Nano), b.to.Format(time.RFC3339Nano))
	}
	return b.from, b.to, nil
}
