package main

import (
	"sync"
	"time"
)

// calendar finds the days and months of a time zone by looking at its clocks minute by minute, so that it owes nothing to
// the arithmetic that it judges. Days follow each other without a gap: each begins when the clocks first show its date,
// or a later one, and what they then repeat of the date before belongs to it.
type calendar struct {
	zone *time.Location

	mu     sync.Mutex
	begins map[time.Time]time.Time // of dates that were looked for
}

// date is the midnight in UTC that stands for a date.
func date(year int, month time.Month, day int) time.Time {
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
}

// shown is the date that the clocks show.
func (c *calendar) shown(at time.Time) time.Time { return date(at.In(c.zone).Date()) }

// begin returns the instant at which a date begins.
func (c *calendar) begin(d time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, known := c.begins[d]
	if known {
		return at
	}
	for at = d.Add(-16 * time.Hour); c.shown(at).Before(d); { // no zone is 16 hours ahead of UTC
		at = at.Add(time.Minute)
	}
	if c.begins == nil {
		c.begins = map[time.Time]time.Time{}
	}
	c.begins[d] = at
	return at
}

// date returns the date of the day that contains a time.
func (c *calendar) date(at time.Time) time.Time {
	d := c.shown(at)
	for next := d.AddDate(0, 0, 1); !at.Before(c.begin(next)); next = next.AddDate(0, 0, 1) {
		d = next
	}
	return d
}

// bounds returns the day or the month that contains a time.
func (c *calendar) bounds(unit string, at time.Time) (start, end time.Time) {
	d := c.date(at)
	if unit == "month" {
		d = date(d.Year(), d.Month(), 1)
		return c.begin(d), c.begin(d.AddDate(0, 1, 0))
	}
	return c.begin(d), c.begin(d.AddDate(0, 0, 1))
}

// window names the day or the month that contains a time.
func (c *calendar) window(unit string, at time.Time) string {
	if unit == "month" {
		return c.date(at).Format("2006-01")
	}
	return c.date(at).Format(time.DateOnly)
}

// eve returns how long it is from now to shortly before a month ends.
func (c *calendar) eve(now time.Time, before time.Duration) time.Duration {
	_, end := c.bounds("month", now)
	for end.Add(-before).Sub(now) <= 0 {
		_, end = c.bounds("month", end)
	}
	return end.Add(-before).Sub(now)
}

// untilChange returns how long it is from now to shortly before the clocks change; zero where they never do.
func (c *calendar) untilChange(now time.Time, before time.Duration) time.Duration {
	for at := now; ; {
		_, end := at.In(c.zone).ZoneBounds()
		if end.IsZero() {
			return 0
		}
		if d := end.Add(-before).Sub(now); d > 0 {
			return d
		}
		at = end
	}
}

// text writes a time as the tenants' clocks show it.
func (c *calendar) text(t time.Time) string { return t.In(c.zone).Format(time.RFC3339Nano) }
