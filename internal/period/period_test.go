package period_test

import (
	_ "embed"
	"fmt"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // for machines without zone data

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/llmtenant/tenant/internal/period"
)

var (
	// zoneNames is one name for each distinct set of rules in the zone data of Go 1.26.
	//go:embed testdata/zones.txt
	zoneNames string

	bounded = []period.Window{period.Hour, period.Day, period.Week, period.Month}

	epoch = time.Date(1970, time.January, 1, 0, 0, 0, 0, time.UTC)
	last  = time.Date(2100, time.January, 1, 0, 0, 0, 0, time.UTC)
)

func TestWindow_IsStoredAsText(t *testing.T) {
	t.Parallel()

	for w, want := range map[period.Window]string{
		period.Total: "total", period.Hour: "hour", period.Day: "day", period.Week: "week", period.Month: "month",
	} {
		require.Equal(t, want, w.String())
		got, err := period.ParseWindow(want)
		require.NoError(t, err)
		require.Equal(t, w, got)
	}
	require.Equal(t, "Window(9)", period.Window(9).String())
	require.Equal(t, period.Total, period.Window(0))

	for _, s := range []string{"", "Day", "year", "Window(9)"} {
		_, err := period.ParseWindow(s)
		require.EqualError(t, err, fmt.Sprintf("window %q is not total, hour, day, week or month", s))
	}
}

func TestBounds_NamedCases(t *testing.T) {
	t.Parallel()

	const h, d, w, m = period.Hour, period.Day, period.Week, period.Month
	for _, c := range []struct {
		rule   string
		window period.Window
		zone   string
		at     string // all three in UTC
		start  string
		end    string
	}{
		{"an hour", h, "UTC", "2026-03-05T12:34:56", "2026-03-05T12:00:00", "2026-03-05T13:00:00"},
		{"a day", d, "UTC", "2026-03-05T12:34:56", "2026-03-05T00:00:00", "2026-03-06T00:00:00"},
		{"a week from Monday", w, "UTC", "2026-03-05T12:34:56", "2026-03-02T00:00:00", "2026-03-09T00:00:00"},
		{"a month", m, "UTC", "2026-03-05T12:34:56", "2026-03-01T00:00:00", "2026-04-01T00:00:00"},
		{"the February of a leap year", m, "UTC", "2028-02-29T23:59:59", "2028-02-01T00:00:00", "2028-03-01T00:00:00"},
		{"before 1970", h, "UTC", "1969-12-31T23:59:59", "1969-12-31T23:00:00", "1970-01-01T00:00:00"},

		{"a day of 23 hours", d, "Europe/Berlin", "2026-03-29T12:00:00", "2026-03-28T23:00:00", "2026-03-29T22:00:00"},
		{"a day of 25 hours", d, "Europe/Berlin", "2026-10-25T12:00:00", "2026-10-24T22:00:00", "2026-10-25T23:00:00"},
		{"a week of 167 hours", w, "Europe/Berlin", "2026-03-29T12:00:00", "2026-03-22T23:00:00", "2026-03-29T22:00:00"},
		{"a month of 31 days and an hour", m, "Europe/Berlin", "2026-10-25T00:30:00", "2026-09-30T22:00:00", "2026-10-31T23:00:00"},
		{"an hour that comes twice, the first time", h, "America/New_York", "2026-11-01T05:30:00", "2026-11-01T05:00:00", "2026-11-01T06:00:00"},
		{"an hour that comes twice, the second time", h, "America/New_York", "2026-11-01T06:30:00", "2026-11-01T06:00:00", "2026-11-01T07:00:00"},
		{"the hour before one that is skipped", h, "America/New_York", "2026-03-08T06:30:00", "2026-03-08T06:00:00", "2026-03-08T07:00:00"},
		{"the hour after one that is skipped", h, "America/New_York", "2026-03-08T07:30:00", "2026-03-08T07:00:00", "2026-03-08T08:00:00"},

		{"no midnight", d, "America/Sao_Paulo", "2018-11-04T03:00:00", "2018-11-04T03:00:00", "2018-11-05T02:00:00"},
		{"before no midnight", d, "America/Sao_Paulo", "2018-11-04T02:59:59", "2018-11-03T03:00:00", "2018-11-04T03:00:00"},
		{"no midnight", d, "Asia/Beirut", "2025-03-30T12:00:00", "2025-03-29T22:00:00", "2025-03-30T21:00:00"},
		{"no midnight", d, "Africa/Cairo", "2024-04-26T12:00:00", "2024-04-25T22:00:00", "2024-04-26T21:00:00"},
		{"no midnight on the first", m, "Asia/Amman", "1985-04-10T12:00:00", "1985-03-31T22:00:00", "1985-04-30T21:00:00"},
		{"the hour before midnight twice", d, "Africa/Cairo", "2024-10-31T21:30:00", "2024-10-30T21:00:00", "2024-10-31T22:00:00"},
		{"the hour before midnight twice, in the last hour", h, "Africa/Cairo", "2024-10-31T21:30:00", "2024-10-31T21:00:00", "2024-10-31T22:00:00"},
		{"midnight twice starts its day once", d, "America/Havana", "2026-11-01T05:30:00", "2026-11-01T04:00:00", "2026-11-02T05:00:00"},
		{"midnight twice starts its month once", m, "America/Havana", "2026-11-01T05:30:00", "2026-11-01T04:00:00", "2026-12-01T05:00:00"},
		{"midnight twice starts two hours", h, "America/Havana", "2026-11-01T05:30:00", "2026-11-01T05:00:00", "2026-11-01T06:00:00"},
		{"a minute past midnight", d, "America/St_Johns", "2005-10-30T02:30:30", "2005-10-30T02:30:00", "2005-10-31T03:30:00"},
		{"what the clocks repeat of yesterday belongs to today", d, "America/St_Johns", "2005-10-30T03:00:00", "2005-10-30T02:30:00", "2005-10-31T03:30:00"},
		{"what the clocks repeat of yesterday belongs to today", d, "Antarctica/Casey", "2010-03-04T15:30:00", "2010-03-04T13:00:00", "2010-03-05T16:00:00"},
		{"what the clocks repeat of last week belongs to this one", w, "America/St_Johns", "1989-10-29T03:00:00", "1989-10-23T02:30:00", "1989-10-30T03:30:00"},
		{"a skipped date has no window", d, "Pacific/Apia", "2011-12-30T09:59:59", "2011-12-29T10:00:00", "2011-12-30T10:00:00"},
		{"a skipped date has no window", d, "Pacific/Apia", "2011-12-30T10:00:00", "2011-12-30T10:00:00", "2011-12-31T10:00:00"},
		{"a week without one of its dates", w, "Pacific/Apia", "2011-12-28T12:00:00", "2011-12-26T10:00:00", "2012-01-01T10:00:00"},
		{"a skipped date has no window", d, "Pacific/Kwajalein", "1993-08-21T12:00:00", "1993-08-21T12:00:00", "1993-08-22T12:00:00"},

		{"45 minutes off", h, "Asia/Kathmandu", "2026-03-05T12:20:00", "2026-03-05T12:15:00", "2026-03-05T13:15:00"},
		{"45 minutes off", d, "Asia/Kathmandu", "2026-03-05T12:20:00", "2026-03-04T18:15:00", "2026-03-05T18:15:00"},
		{"30 minutes off", h, "Asia/Kolkata", "2026-03-05T12:20:00", "2026-03-05T11:30:00", "2026-03-05T12:30:00"},
		{"30 minutes off", d, "Asia/Kolkata", "2026-03-05T12:20:00", "2026-03-04T18:30:00", "2026-03-05T18:30:00"},
		{"clocks 30 minutes back within an hour", h, "Australia/Lord_Howe", "2024-04-06T15:10:00", "2024-04-06T14:00:00", "2024-04-06T15:30:00"},
		{"clocks 30 minutes back, the next hour", h, "Australia/Lord_Howe", "2024-04-06T15:30:00", "2024-04-06T15:30:00", "2024-04-06T16:30:00"},
		{"clocks 30 minutes on into another hour", h, "Australia/Lord_Howe", "2024-10-05T15:40:00", "2024-10-05T15:30:00", "2024-10-05T16:00:00"},
		{"a day of 24 and a half hours", d, "Australia/Lord_Howe", "2024-04-06T15:10:00", "2024-04-06T13:00:00", "2024-04-07T13:30:00"},
		{"an offset in seconds", h, "Africa/Monrovia", "1971-06-01T12:00:00", "1971-06-01T11:44:30", "1971-06-01T12:44:30"},
		{"an offset in seconds ends", d, "Africa/Monrovia", "1972-01-07T00:44:30", "1972-01-07T00:44:30", "1972-01-08T00:00:00"},

		{"the last day of a leap year beyond the listed changes", h, "America/New_York", "2048-12-31T12:34:00", "2048-12-31T12:00:00", "2048-12-31T13:00:00"},
		{"the last day of a leap year beyond the listed changes", d, "America/New_York", "2048-12-31T12:34:00", "2048-12-31T05:00:00", "2049-01-01T05:00:00"},
		{"the last day of a leap year beyond the listed changes", w, "America/New_York", "2048-12-31T12:34:00", "2048-12-28T05:00:00", "2049-01-04T05:00:00"},
		{"the last day of a leap year beyond the listed changes", m, "Australia/Sydney", "2048-12-31T13:34:00", "2048-12-31T13:00:00", "2049-01-31T13:00:00"},
	} {
		t.Run(fmt.Sprintf("%s/%s/%s", c.window, c.zone, c.rule), func(t *testing.T) {
			t.Parallel()

			start, end := period.Bounds(c.window, instant(t, c.at), zone(t, c.zone), time.Monday)
			require.Equal(t, instant(t, c.start), start)
			require.Equal(t, instant(t, c.end), end)
		})
	}
}

func TestBounds_TotalHasNone(t *testing.T) {
	t.Parallel()

	for _, w := range []period.Window{period.Total, period.Window(9)} {
		start, end := period.Bounds(w, epoch, time.UTC, time.Monday)
		require.True(t, start.IsZero())
		require.True(t, end.IsZero())
		start, end = period.Roll(w, last, epoch, time.UTC, time.Monday)
		require.True(t, start.IsZero())
		require.True(t, end.IsZero())
	}
}

func TestBounds_WithoutZoneAreInUTC(t *testing.T) {
	t.Parallel()

	start, end := period.Bounds(period.Day, epoch.Add(time.Hour), nil, time.Monday)
	require.Equal(t, epoch, start)
	require.Equal(t, epoch.Add(24*time.Hour), end)
}

func TestBounds_WeekStartsOnTheDayAsked(t *testing.T) {
	t.Parallel()

	at := instant(t, "2026-03-05T12:00:00")
	for day := time.Sunday; day <= time.Saturday; day++ {
		start, end := period.Bounds(period.Week, at, time.UTC, day)
		require.Equal(t, day, start.Weekday())
		require.Equal(t, start.AddDate(0, 0, 7), end)
		require.False(t, at.Before(start))
		require.True(t, at.Before(end))

		sameDay, _ := period.Bounds(period.Week, at, time.UTC, day-70)
		require.Equal(t, start, sameDay, "a weekday out of range counts modulo 7")
	}
}

func TestBounds_TileTimeInEveryZone(t *testing.T) {
	t.Parallel()

	for _, name := range strings.Fields(zoneNames) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			loc := zone(t, name)
			for _, change := range changes(loc) {
				for _, w := range bounded {
					requireTiles(t, w, change.Add(-time.Microsecond), loc, time.Monday)
					requireTiles(t, w, change, loc, time.Sunday)
				}
			}
		})
	}
}

func TestBounds_TileTimeAtAnyInstant(t *testing.T) {
	t.Parallel()

	draw := instants(t)
	rapid.Check(t, func(t *rapid.T) {
		at, loc := draw(t)
		weekStart := time.Weekday(rapid.IntRange(0, 6).Draw(t, "week start"))
		for _, w := range bounded {
			requireTiles(t, w, at, loc, weekStart)
		}
	})
}

func TestBounds_DayWeekAndMonthStartWhenTheirFirstDateIsFirstReached(t *testing.T) {
	t.Parallel()

	draw := instants(t)
	rapid.Check(t, func(t *rapid.T) {
		at, loc := draw(t)
		weekStart := time.Weekday(rapid.IntRange(0, 6).Draw(t, "week start"))
		for _, w := range []period.Window{period.Day, period.Week, period.Month} {
			wantStart, wantEnd := scanned(w, at, loc, weekStart)
			start, end := period.Bounds(w, at, loc, weekStart)
			require.Equal(t, wantStart, start, "%s at %s", w, at)
			require.Equal(t, wantEnd, end, "%s at %s", w, at)
		}
	})
}

func TestBounds_HourStartsWhereTheClocksShowItsFirstMinuteOrAnotherHour(t *testing.T) {
	t.Parallel()

	draw := instants(t)
	rapid.Check(t, func(t *rapid.T) {
		at, loc := draw(t)
		start, end := period.Bounds(period.Hour, at, loc, time.Monday)
		require.LessOrEqual(t, end.Sub(start), 2*time.Hour)
		for second := start; !second.After(end); second = second.Add(time.Second) {
			before, now := second.Add(-time.Second).In(loc), second.In(loc)
			full := now.Minute() == 0 && now.Second() == 0
			boundary := full || before.Format("2006-01-02T15") != now.Format("2006-01-02T15")
			require.Equal(t, second.Equal(start) || second.Equal(end), boundary, "%s", now)
		}
	})
}

func TestBounds_DayWeekAndMonthStartWithAnHour(t *testing.T) {
	t.Parallel()

	draw := instants(t)
	rapid.Check(t, func(t *rapid.T) {
		at, loc := draw(t)
		for _, w := range []period.Window{period.Day, period.Week, period.Month} {
			start, _ := period.Bounds(w, at, loc, time.Monday)
			hour, _ := period.Bounds(period.Hour, start, loc, time.Monday)
			require.Equal(t, start, hour)
		}
	})
}

func TestRoll_IsBoundsInAnUnchangedZone(t *testing.T) {
	t.Parallel()

	draw := instants(t)
	rapid.Check(t, func(t *rapid.T) {
		at, loc := draw(t)
		w := rapid.SampledFrom(bounded).Draw(t, "window")
		_, prevEnd := period.Bounds(w, at, loc, time.Monday)
		now := prevEnd.Add(time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "later")))
		wantStart, wantEnd := period.Bounds(w, now, loc, time.Monday)
		start, end := period.Roll(w, now, prevEnd, loc, time.Monday)
		require.Equal(t, wantStart, start)
		require.Equal(t, wantEnd, end)
	})
}

func TestRoll_NeverOverlapsNorReopensAfterAChangeOfZone(t *testing.T) {
	t.Parallel()

	draw := instants(t)
	rapid.Check(t, func(t *rapid.T) {
		at, before := draw(t)
		_, after := draw(t)
		w := rapid.SampledFrom(bounded).Draw(t, "window")
		_, prevEnd := period.Bounds(w, at, before, time.Monday)
		now := prevEnd.Add(time.Duration(rapid.Int64Range(0, int64(100*time.Hour)).Draw(t, "later")))

		start, end := period.Roll(w, now, prevEnd, after, time.Sunday)
		require.False(t, start.Before(prevEnd))
		require.False(t, now.Before(start))
		require.True(t, now.Before(end))
		plain, next := period.Bounds(w, now, after, time.Sunday)
		require.Equal(t, next, end, "the new zone's next boundary")
		require.True(t, start.Equal(plain) || start.Equal(prevEnd))
		require.Equal(t, time.UTC, start.Location())
	})
}

func TestRoll_AfterAChangeOfZoneRunsToTheNewZonesNextBoundary(t *testing.T) {
	t.Parallel()

	// A New York day ended at 05:00 UTC; in Berlin the same date had started at 23:00 UTC of the day before.
	prevEnd := instant(t, "2026-01-15T05:00:00")
	start, end := period.Roll(period.Day, prevEnd.Add(time.Minute), prevEnd, zone(t, "Europe/Berlin"), time.Monday)
	require.Equal(t, prevEnd, start)
	require.Equal(t, instant(t, "2026-01-15T23:00:00"), end)
}

func TestRoll_CountsAClockThatWentBackAsTheEndOfTheStoredWindow(t *testing.T) {
	t.Parallel()

	prevEnd := instant(t, "2026-01-15T05:30:00")
	start, end := period.Roll(period.Day, prevEnd.AddDate(0, 0, -3), prevEnd, time.UTC, time.Monday)
	require.Equal(t, prevEnd, start)
	require.Equal(t, instant(t, "2026-01-16T00:00:00"), end)
}

// checker is what testing.T and rapid.T share.
type checker interface {
	require.TestingT
	Helper()
}

func requireTiles(t checker, w period.Window, at time.Time, loc *time.Location, weekStart time.Weekday) {
	t.Helper()

	start, end := period.Bounds(w, at, loc, weekStart)
	if start.After(at) || !at.Before(end) {
		require.Failf(t, "does not contain its instant", "%s of %s in %s is %s to %s", w, at, loc, start, end)
	}
	for _, inside := range []time.Time{start, end.Add(-time.Microsecond)} {
		s, e := period.Bounds(w, inside, loc, weekStart)
		if !s.Equal(start) || !e.Equal(end) {
			require.Failf(t, "is not one window", "%s of %s in %s is %s to %s, of %s %s to %s", w, at, loc, start, end, inside, s, e)
		}
	}
	if next, _ := period.Bounds(w, end, loc, weekStart); !next.Equal(end) {
		require.Failf(t, "leaves a gap", "%s of %s in %s ends %s, the next starts %s", w, at, loc, end, next)
	}
	if _, prev := period.Bounds(w, start.Add(-time.Microsecond), loc, weekStart); !prev.Equal(start) {
		require.Failf(t, "leaves a gap", "%s of %s in %s starts %s, the one before ends %s", w, at, loc, start, prev)
	}
}

// scanned finds a day, week or month by looking at the clocks every 30 seconds, which is as fine as any offset since
// 1970 needs.
func scanned(w period.Window, at time.Time, loc *time.Location, weekStart time.Weekday) (start, end time.Time) {
	local := at.In(loc)
	date := time.Date(local.Year(), local.Month(), local.Day(), 0, 0, 0, 0, time.UTC)
	step := func(d time.Time, n int) time.Time { return d.AddDate(0, 0, n) }
	switch w {
	case period.Week:
		for date.Weekday() != weekStart {
			date = date.AddDate(0, 0, -1)
		}
		step = func(d time.Time, n int) time.Time { return d.AddDate(0, 0, 7*n) }
	case period.Month:
		date = date.AddDate(0, 0, 1-date.Day())
		step = func(d time.Time, n int) time.Time { return d.AddDate(0, n, 0) }
	}
	for n := -1; ; n++ {
		end = reached(step(date, n), loc)
		if end.After(at) {
			return start, end
		}
		start = end
	}
}

func reached(date time.Time, loc *time.Location) time.Time {
	instant := date.Add(-16 * time.Hour)
	for {
		local := instant.In(loc)
		year, month, day := local.Date()
		if !time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Before(date) {
			return instant
		}
		instant = instant.Add(30 * time.Second)
	}
}

// instants returns a function that draws an instant and a zone. Half of the instants are near a change of the clocks.
func instants(t *testing.T) func(*rapid.T) (time.Time, *time.Location) {
	t.Helper()

	names := strings.Fields(zoneNames)
	zones := make(map[string]*time.Location, len(names))
	for _, name := range names {
		zones[name] = zone(t, name)
	}
	return func(t *rapid.T) (time.Time, *time.Location) {
		loc := zones[rapid.SampledFrom(names).Draw(t, "zone")]
		at := time.UnixMicro(rapid.Int64Range(epoch.UnixMicro(), last.UnixMicro()).Draw(t, "at")).UTC()
		if rapid.Bool().Draw(t, "near a change") {
			if _, change := at.In(loc).ZoneBounds(); !change.IsZero() {
				near := rapid.Int64Range(-30*time.Hour.Microseconds(), 30*time.Hour.Microseconds()).Draw(t, "near")
				at = change.Add(time.Duration(near) * time.Microsecond).UTC()
			}
		}
		return at, loc
	}
}

// changes returns the changes of a zone's clocks from 1970 to 2100. It looks every third day and then closer, so
// that it does not depend on what the package under test does.
func changes(loc *time.Location) []time.Time {
	offset := func(sec int64) int {
		_, offset := time.Unix(sec, 0).In(loc).Zone()
		return offset
	}
	const step = 3 * 24 * 60 * 60
	var found []time.Time
	for sec := epoch.Unix(); sec < last.Unix(); sec += step {
		low, high := sec, sec+step
		if offset(low) == offset(high) {
			continue
		}
		for high-low > 1 {
			if middle := (low + high) / 2; offset(middle) == offset(low) {
				low = middle
			} else {
				high = middle
			}
		}
		found = append(found, time.Unix(high, 0).UTC())
	}
	return found
}

func zone(t *testing.T, name string) *time.Location {
	t.Helper()

	loc, err := time.LoadLocation(name)
	require.NoError(t, err)
	return loc
}

func instant(t *testing.T, s string) time.Time {
	t.Helper()

	at, err := time.Parse("2006-01-02T15:04:05", s)
	require.NoError(t, err)
	return at
}

func BenchmarkBounds(b *testing.B) {
	loc, err := time.LoadLocation("America/New_York")
	require.NoError(b, err)
	at := time.Date(2026, time.November, 1, 5, 30, 0, 0, time.UTC)
	for _, w := range bounded {
		b.Run(w.String(), func(b *testing.B) {
			for b.Loop() {
				period.Bounds(w, at, loc, time.Monday)
			}
		})
	}
}
