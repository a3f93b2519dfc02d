package period

import (
	"fmt"
	"time"
)

// Date is a date of the calendar.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

// String returns the date as 2026-03-08.
func (d Date) String() string { return fmt.Sprintf("%04d-%02d-%02d", d.Year, int(d.Month), d.Day) }

// Check returns an error that says why there is no such date. Years are those of four digits, from 1 on.
func (d Date) Check() error {
	switch last := time.Date(d.Year, d.Month+1, 0, 0, 0, 0, 0, time.UTC).Day(); {
	case d.Year < 1 || d.Year > 9999:
		return fmt.Errorf("the year %d is not between 1 and 9999", d.Year)
	case d.Month < time.January || d.Month > time.December:
		return fmt.Errorf("there is no month %d", int(d.Month))
	case d.Day < 1 || d.Day > last:
		return fmt.Errorf("%v %d has the days 1 to %d, and no day %d", d.Month, d.Year, last, d.Day)
	}
	return nil
}

// Before reports whether a date comes before another one.
func (d Date) Before(other Date) bool { return d.midnight() < other.midnight() }

// Dates returns the days from one date to another, both included, in the time zone loc: it starts with the day of the
// first, and ends with that of the last. Dates that the zone skips have no day: where it skips all of them, start and end
// are the same instant. Both are in UTC and on a whole second. A nil loc is UTC.
func Dates(first, last Date, loc *time.Location) (start, end time.Time) {
	if loc == nil {
		loc = time.UTC
	}
	return reach(loc, first.midnight()), reach(loc, last.midnight()+secondsPerDay)
}

// Preceding returns the dates that come before those from one to another, both included: as many months where these are
// whole months, otherwise as many dates.
func Preceding(first, last Date) (Date, Date) {
	end := first.plus(0, -1)
	if months := last.plus(0, 1); first.Day == 1 && months.Day == 1 {
		return first.plus(-12*(months.Year-first.Year)-int(months.Month-first.Month), 0), end
	}
	days := (last.midnight() - first.midnight()) / secondsPerDay
	return end.plus(0, -int(days)), end
}

// plus returns the date so many months and days later.
func (d Date) plus(months, days int) Date {
	year, month, day := time.Date(d.Year, d.Month+time.Month(months), d.Day+days, 0, 0, 0, 0, time.UTC).Date()
	return Date{year, month, day}
}

// midnight is the wall time at which a date begins.
func (d Date) midnight() int64 {
	return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC).Unix()
}

func reach(loc *time.Location, wall int64) time.Time { return time.Unix(first(loc, wall), 0).UTC() }
