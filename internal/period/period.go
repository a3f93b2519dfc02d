// Package period is the calendar arithmetic of windows: which hour, day, week or month of a time zone contains an
// instant. It is pure: it reads no clock.
//
// Windows tile time: each starts where the one before it ends, whatever the zone does. A day, week or month starts at
// the first instant at which the local date is its first date or a later one. So a day whose midnight does not exist
// starts when the clocks jump; a midnight that comes twice starts its day once, the first time, and what the clocks then
// repeat of the day before belongs to the new one; a date that a zone skips has no window.
//
// An hour starts where the local clock shows a full hour, or where a change of the clocks brings it into another hour.
// So an hour that comes twice is two windows, and clocks that go back by 30 minutes within an hour make it 90 minutes
// long.
package period

import (
	"fmt"
	"math"
	"time"
)

// Window is the kind of period over which a limit counts.
type Window uint8

// The kinds of windows. Databases store them as the text that String returns.
const (
	Total Window = 0 // all time, without bounds
	Hour  Window = 1 // an hour of the local clock
	Day   Window = 2 // a local date
	Week  Window = 3 // seven local dates from the day on which weeks start
	Month Window = 4 // a local calendar month
)

var names = [...]string{Total: "total", Hour: "hour", Day: "day", Week: "week", Month: "month"}

// String returns "total", "hour", "day", "week" or "month".
func (w Window) String() string {
	if int(w) < len(names) {
		return names[w]
	}
	return fmt.Sprintf("Window(%d)", uint8(w))
}

// ParseWindow returns the Window whose String is s. It returns an error that quotes s if there is none.
func ParseWindow(s string) (Window, error) {
	for w, name := range names {
		if name == s {
			return Window(w), nil
		}
	}
	return Total, fmt.Errorf("window %q is not total, hour, day, week or month", s)
}

// Bounds returns the window that contains at in the time zone loc: start <= at < end, both in UTC and on a whole second.
// A week starts on weekStart. A nil loc is UTC. Total, and a Window that is none of the constants, has no bounds: both
// are the zero time.
func Bounds(w Window, at time.Time, loc *time.Location, weekStart time.Weekday) (start, end time.Time) {
	if loc == nil {
		loc = time.UTC
	}
	var from, to int64
	switch w {
	case Hour:
		from, to = hour(loc, at.Unix())
	case Day, Week, Month:
		from, to = dates(w, loc, weekStart, at.Unix())
	default:
		return time.Time{}, time.Time{}
	}
	return time.Unix(from, 0).UTC(), time.Unix(to, 0).UTC()
}

// Roll returns the window that contains now and follows a stored one that ended at prevEnd. It is the one of Bounds,
// except that it never starts before prevEnd: after a change of time zone the next window runs from prevEnd to the new
// zone's next boundary, so that windows do not overlap and none opens again. A now before prevEnd, as after a clock that
// went back, counts as prevEnd. Both times are in UTC; for Total both are the zero time.
func Roll(w Window, now, prevEnd time.Time, loc *time.Location, weekStart time.Weekday) (start, end time.Time) {
	if now.Before(prevEnd) {
		now = prevEnd
	}
	start, end = Bounds(w, now, loc, weekStart)
	if start.Before(prevEnd) && !end.IsZero() {
		start = prevEnd.UTC()
	}
	return start, end
}

const (
	secondsPerHour = 60 * 60
	secondsPerDay  = 24 * secondsPerHour
)

// Instants are Unix seconds from here on. A wall time is what the local clocks show, as the Unix second at which UTC
// clocks show the same. No zone changes its clocks within a second, so that whole seconds lose nothing.

// dates returns the day, week or month that contains at.
func dates(w Window, loc *time.Location, weekStart time.Weekday, at int64) (start, end int64) {
	offset, _ := span(loc, at)
	wall := floor(w, at+offset, weekStart)
	next := following(w, wall)
	end = first(loc, next)
	// Clocks that went back over a boundary show the window that has ended.
	for end <= at {
		wall, next = next, following(w, next)
		end = first(loc, next)
	}
	return first(loc, wall), end
}

// floor returns the midnight that starts the day, week or month of a wall time.
func floor(w Window, wall int64, weekStart time.Weekday) int64 {
	t := time.Unix(wall, 0).UTC()
	year, month, day := t.Date()
	switch w {
	case Week:
		day -= (int(t.Weekday()-weekStart)%7 + 7) % 7
	case Month:
		day = 1
	}
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix()
}

// following returns the midnight that ends the day, week or month which starts at the midnight wall.
func following(w Window, wall int64) int64 {
	switch w {
	case Week:
		return wall + 7*secondsPerDay
	case Month:
		return time.Unix(wall, 0).UTC().AddDate(0, 1, 0).Unix()
	default:
		return wall + secondsPerDay
	}
}

// first returns the first instant at which the clocks show wall or later.
func first(loc *time.Location, wall int64) int64 {
	// No zone is a week ahead of UTC, so that its clocks do not yet show wall.
	from := wall - 8*secondsPerDay
	offset, to := span(loc, from)
	if wall-offset < to {
		return wall - offset
	}
	for {
		from = to
		offset, to = span(loc, from)
		if at := max(wall-offset, from); at < to {
			return at
		}
	}
}

// hour returns the hour that contains at.
func hour(loc *time.Location, at int64) (start, end int64) {
	// Hours of more than two hours take clocks that go back time and again.
	back := int64(2 * secondsPerHour)
	for start = nextHour(loc, at-back); start > at; start = nextHour(loc, at-back) {
		back *= 2
	}
	for end = nextHour(loc, start); end <= at; end = nextHour(loc, start) {
		start = end
	}
	return start, end
}

// nextHour returns the first start of an hour after at.
func nextHour(loc *time.Location, at int64) int64 {
	offset, to := span(loc, at)
	shown := floorDiv(at+offset, secondsPerHour)
	for {
		if next := (shown+1)*secondsPerHour - offset; next < to {
			return next
		}
		at = to
		offset, to = span(loc, at)
		wall := at + offset
		if now := floorDiv(wall, secondsPerHour); now != shown || now*secondsPerHour == wall {
			return at
		}
	}
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// span returns the offset from UTC in force at an instant, and a later instant up to which it stays in force; that may
// be earlier than the next change.
func span(loc *time.Location, at int64) (offset, to int64) {
	t := time.Unix(at, 0).In(loc)
	_, seconds := t.Zone()
	_, end := t.ZoneBounds()
	switch {
	case end.IsZero():
		return int64(seconds), math.MaxInt64
	case end.Unix() > at:
		return int64(seconds), end.Unix()
	default:
		// Beyond the last listed change, package time ends each year of a zone with summer time after 365 days, also a
		// leap year: on its last day in UTC the end lies in the past, and the offset stays for the rest of that day.
		return int64(seconds), (floorDiv(at, secondsPerDay) + 1) * secondsPerDay
	}
}
