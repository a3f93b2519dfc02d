package main

import (
	"testing"
	"time"
	_ "time/tzdata" // for machines without zone data

	"github.com/stretchr/testify/require"
)

func calendarOf(t *testing.T, zone string) *calendar {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	require.NoError(t, err)
	return &calendar{zone: loc}
}

func TestBounds_AreRightWhereMidnightIsMissingOrComesTwice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ zone, unit, at, window, start, end string }{
		{"Europe/Berlin", "day", "2026-03-29T12:00:00Z", "2026-03-29", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"},
		{"Europe/Berlin", "month", "2026-03-31T21:59:59Z", "2026-03", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z"},
		{"America/Santiago", "day", "2026-09-06T04:00:00Z", "2026-09-06", "2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"},
		{"America/Santiago", "day", "2026-09-06T03:59:59Z", "2026-09-05", "2026-09-05T04:00:00Z", "2026-09-06T04:00:00Z"},
		{"Atlantic/Azores", "day", "2026-03-29T00:30:00Z", "2026-03-28", "2026-03-28T01:00:00Z", "2026-03-29T01:00:00Z"},
		{"Atlantic/Azores", "day", "2026-10-25T01:30:00Z", "2026-10-25", "2026-10-25T00:00:00Z", "2026-10-26T01:00:00Z"},
		{"America/Havana", "day", "2025-11-02T05:30:00Z", "2025-11-02", "2025-11-02T04:00:00Z", "2025-11-03T05:00:00Z"},
		{"America/St_Johns", "day", "2005-10-30T03:00:00Z", "2005-10-30", "2005-10-30T02:30:00Z", "2005-10-31T03:30:00Z"},
		{"America/St_Johns", "day", "2005-10-30T03:15:00Z", "2005-10-30", "2005-10-30T02:30:00Z", "2005-10-31T03:30:00Z"},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		require.NoError(t, err)
		clocks := calendarOf(t, c.zone)
		start, end := clocks.bounds(c.unit, at)
		require.Equal(t, []string{c.start, c.end}, []string{start.Format(time.RFC3339), end.Format(time.RFC3339)}, "%s at %s", c.zone, c.at)
		require.Equal(t, c.window, clocks.window(c.unit, at), "%s at %s", c.zone, c.at)
	}
}

func TestEve_IsShortlyBeforeTheNextMonthAndAlwaysToCome(t *testing.T) {
	t.Parallel()
	clocks := calendarOf(t, "Asia/Kolkata")
	for now, want := range map[string]string{
		"2028-02-05 10:00:00": "2028-02-29 23:59:58",
		"2027-12-31 23:59:57": "2027-12-31 23:59:58",
		"2027-12-31 23:59:58": "2028-01-31 23:59:58",
		"2027-12-31 23:59:59": "2028-01-31 23:59:58",
		"2028-01-31 12:00:00": "2028-01-31 23:59:58",
	} {
		at, err := time.ParseInLocation(time.DateTime, now, clocks.zone)
		require.NoError(t, err)
		require.Equal(t, want, at.Add(clocks.eve(at, 2*time.Second)).Format(time.DateTime), now)
	}
}

func TestUntilChange_IsShortlyBeforeTheClocksChangeAndAlwaysToCome(t *testing.T) {
	t.Parallel()
	clocks := calendarOf(t, "America/Santiago")
	for now, want := range map[string]string{
		"2026-09-01T00:00:00Z": "2026-09-06T03:59:58Z",
		"2026-09-06T03:59:57Z": "2026-09-06T03:59:58Z",
		"2026-09-06T03:59:58Z": "2027-04-04T02:59:58Z",
		"2026-09-06T04:00:00Z": "2027-04-04T02:59:58Z",
	} {
		at, err := time.Parse(time.RFC3339, now)
		require.NoError(t, err)
		require.Equal(t, want, at.Add(clocks.untilChange(at, 2*time.Second)).Format(time.RFC3339), now)
	}
	require.Zero(t, calendarOf(t, "UTC").untilChange(time.Now(), time.Second))
}
