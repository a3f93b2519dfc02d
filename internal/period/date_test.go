package period_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/llmtenant/tenant/internal/period"
)

func TestDates_NamedCases(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		rule        string
		zone        string
		first, last period.Date
		start, end  string // in UTC
	}{
		{"a date", "UTC", period.Date{2026, 5, 4}, period.Date{2026, 5, 4}, "2026-05-04T00:00:00", "2026-05-05T00:00:00"},
		{"a leap day", "Asia/Kolkata", period.Date{2028, 2, 29}, period.Date{2028, 2, 29}, "2028-02-28T18:30:00", "2028-02-29T18:30:00"},
		{"a month", "Europe/Berlin", period.Date{2026, 3, 1}, period.Date{2026, 3, 31}, "2026-02-28T23:00:00", "2026-03-31T22:00:00"},
		{"the last date of a year", "Pacific/Kiritimati", period.Date{2026, 12, 31}, period.Date{2026, 12, 31}, "2026-12-30T10:00:00", "2026-12-31T10:00:00"},

		{"no midnight in Santiago", "America/Santiago", period.Date{2026, 9, 6}, period.Date{2026, 9, 6}, "2026-09-06T04:00:00", "2026-09-07T03:00:00"},
		{"before no midnight in Santiago", "America/Santiago", period.Date{2026, 9, 5}, period.Date{2026, 9, 5}, "2026-09-05T04:00:00", "2026-09-06T04:00:00"},
		{"the hour before midnight twice in Santiago", "America/Santiago", period.Date{2026, 4, 4}, period.Date{2026, 4, 4}, "2026-04-04T03:00:00", "2026-04-05T04:00:00"},
		{"no midnight on the Azores", "Atlantic/Azores", period.Date{2026, 3, 29}, period.Date{2026, 3, 29}, "2026-03-29T01:00:00", "2026-03-30T00:00:00"},
		{"midnight twice on the Azores", "Atlantic/Azores", period.Date{2026, 10, 25}, period.Date{2026, 10, 25}, "2026-10-25T00:00:00", "2026-10-26T01:00:00"},
		{"the date before midnight twice", "Atlantic/Azores", period.Date{2026, 10, 24}, period.Date{2026, 10, 24}, "2026-10-24T00:00:00", "2026-10-25T00:00:00"},
		{"no midnight in Havana", "America/Havana", period.Date{2025, 3, 9}, period.Date{2025, 3, 9}, "2025-03-09T05:00:00", "2025-03-10T04:00:00"},
		{"midnight twice in Havana", "America/Havana", period.Date{2025, 11, 2}, period.Date{2025, 11, 2}, "2025-11-02T04:00:00", "2025-11-03T05:00:00"},
		{"no midnight in Cairo", "Africa/Cairo", period.Date{2025, 4, 25}, period.Date{2025, 4, 25}, "2025-04-24T22:00:00", "2025-04-25T21:00:00"},
		{"no midnight in Beirut", "Asia/Beirut", period.Date{2026, 3, 29}, period.Date{2026, 3, 29}, "2026-03-28T22:00:00", "2026-03-29T21:00:00"},
		{"midnight missing within a range", "America/Santiago", period.Date{2026, 9, 5}, period.Date{2026, 9, 7}, "2026-09-05T04:00:00", "2026-09-08T03:00:00"},

		{"a date that the zone skips", "Pacific/Apia", period.Date{2011, 12, 30}, period.Date{2011, 12, 30}, "2011-12-30T10:00:00", "2011-12-30T10:00:00"},
		{"from a date that the zone skips", "Pacific/Apia", period.Date{2011, 12, 30}, period.Date{2011, 12, 31}, "2011-12-30T10:00:00", "2011-12-31T10:00:00"},
		{"far from now", "Asia/Kathmandu", period.Date{1, 1, 1}, period.Date{9999, 12, 31}, "0000-12-31T18:18:44", "9999-12-31T18:15:00"},
	} {
		t.Run(c.zone+"/"+c.rule, func(t *testing.T) {
			t.Parallel()

			require.NoError(t, c.first.Check())
			require.NoError(t, c.last.Check())
			start, end := period.Dates(c.first, c.last, zone(t, c.zone))
			require.Equal(t, []time.Time{instant(t, c.start), instant(t, c.end)}, []time.Time{start, end})
		})
	}
}

func TestDates_AreTheDaysOfBoundsOneAfterTheOtherInEveryZone(t *testing.T) {
	t.Parallel()

	draw := instants(t)
	rapid.Check(t, func(t *rapid.T) {
		at, loc := draw(t)
		year, month, day := at.In(loc).Date()
		date := period.Date{Year: year, Month: month, Day: day}
		tomorrow := period.Date{}
		tomorrow.Year, tomorrow.Month, tomorrow.Day = time.Date(year, month, day+1, 0, 0, 0, 0, time.UTC).Date()
		require.NoError(t, tomorrow.Check())
		require.True(t, date.Before(tomorrow))
		require.False(t, date.Before(date))

		start, end := period.Dates(date, date, loc)
		require.True(t, start.Equal(reached(time.Date(year, month, day, 0, 0, 0, 0, time.UTC), loc)), "the clocks of %s show %s first", loc, date)
		if start.Before(end) { // else the zone skips it
			from, to := period.Bounds(period.Day, start, loc, time.Monday)
			require.Equal(t, []time.Time{start, end}, []time.Time{from, to}, "the date is the window that starts with it")
		}
		next, last := period.Dates(tomorrow, tomorrow, loc)
		require.Equal(t, end, next, "they follow each other")
		from, to := period.Dates(date, tomorrow, loc)
		require.Equal(t, []time.Time{start, last}, []time.Time{from, to}, "and together they are the range")
	})
}

func TestDates_WithoutZoneAreInUTC(t *testing.T) {
	t.Parallel()

	date := period.Date{Year: 2026, Month: time.July, Day: 9}
	start, end := period.Dates(date, date, nil)
	require.Equal(t, []time.Time{instant(t, "2026-07-09T00:00:00"), instant(t, "2026-07-10T00:00:00")}, []time.Time{start, end})
}

func TestDate_ThatThereIsNotIsNamed(t *testing.T) {
	t.Parallel()

	for d, want := range map[period.Date]string{
		{2026, 2, 30}:  "February 2026 has the days 1 to 28, and no day 30",
		{2026, 2, 29}:  "February 2026 has the days 1 to 28",
		{2028, 2, 30}:  "February 2028 has the days 1 to 29",
		{2100, 2, 29}:  "February 2100 has the days 1 to 28",
		{2026, 4, 31}:  "April 2026 has the days 1 to 30",
		{2026, 1, 0}:   "no day 0",
		{2026, 1, -1}:  "no day -1",
		{2026, 0, 1}:   "there is no month 0",
		{2026, 13, 1}:  "there is no month 13",
		{2026, -1, 1}:  "there is no month -1",
		{0, 1, 1}:      "the year 0 is not between 1 and 9999",
		{-44, 3, 15}:   "the year -44",
		{10000, 1, 1}:  "the year 10000",
		{}:             "the year 0",
		{202, 60, 306}: "there is no month 60",
	} {
		err := d.Check()
		require.Error(t, err, d)
		require.True(t, strings.HasPrefix(err.Error(), want) || strings.HasSuffix(err.Error(), want), "%v: %v", d, err)
	}
	require.Equal(t, "0033-04-03", period.Date{Year: 33, Month: 4, Day: 3}.String())
}
