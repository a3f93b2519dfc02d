package tenant_test

import (
	"testing"
	"time"
	_ "time/tzdata" // for machines without zone data

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"pgregory.net/rapid"

	"github.com/llmtenant/tenant"
)

func TestCalendarPeriods_AreThoseOfTheZone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		period   tenant.Period
		now      string
		zone     string
		from, to string
	}{
		{"a day of 23 hours", tenant.Today, "2026-03-29T10:00:00Z", "Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"},
		{"the day after it", tenant.Yesterday, "2026-03-30T10:00:00Z", "Europe/Berlin", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"},
		{"a day of 25 hours", tenant.Today, "2026-10-25T10:00:00Z", "Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"},
		{"the last instant of a day", tenant.Today, "2026-10-25T22:59:59.999999999Z", "Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"},
		{"midnight is the next day", tenant.Today, "2026-10-25T23:00:00Z", "Europe/Berlin", "2026-10-25T23:00:00Z", "2026-10-26T23:00:00Z"},
		{"a zone that is 5:45 ahead", tenant.Today, "2026-06-10T18:20:00Z", "Asia/Kathmandu", "2026-06-10T18:15:00Z", "2026-06-11T18:15:00Z"},
		{"yesterday over a month's end", tenant.Yesterday, "2026-03-01T00:00:00Z", "UTC", "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z"},
		{"a week begins on Monday", tenant.ThisWeek, "2026-11-29T12:00:00Z", "UTC", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"},
		{"Monday is the new week", tenant.ThisWeek, "2026-11-30T00:00:00Z", "UTC", "2026-11-30T00:00:00Z", "2026-12-07T00:00:00Z"},
		{"last week over a year's end", tenant.LastWeek, "2027-01-05T00:00:00Z", "UTC", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z"},
		{"a week of 167 hours", tenant.LastWeek, "2026-03-31T12:00:00Z", "Europe/Berlin", "2026-03-22T23:00:00Z", "2026-03-29T22:00:00Z"},
		{"a month", tenant.ThisMonth, "2026-03-31T21:59:59Z", "Europe/Berlin", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z"},
		{"last month is February", tenant.LastMonth, "2026-03-31T12:00:00Z", "UTC", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"},
		{"last month is last year's", tenant.LastMonth, "2026-01-01T00:00:00Z", "UTC", "2025-12-01T00:00:00Z", "2026-01-01T00:00:00Z"},
		{"another zone than the tenant's", tenant.Today.In(zone(t, "Asia/Tokyo")), "2026-11-24T16:00:00Z", "America/Los_Angeles", "2026-11-24T15:00:00Z", "2026-11-25T15:00:00Z"},
		{"no other zone", tenant.Today.In(nil), "2026-11-24T16:00:00Z", "America/Los_Angeles", "2026-11-24T08:00:00Z", "2026-11-25T08:00:00Z"},
		{"another zone taken back", tenant.Today.In(zone(t, "Asia/Tokyo")).In(nil), "2026-11-24T16:00:00Z", "America/Los_Angeles", "2026-11-24T08:00:00Z", "2026-11-25T08:00:00Z"},
	} {
		from, to, err := tenant.Bounds(c.period, at(t, c.now), zone(t, c.zone))
		require.NoError(t, err, c.name)
		require.Equal(t, []time.Time{at(t, c.from), at(t, c.to)}, []time.Time{from, to}, c.name)
	}
}

func TestCalendarPeriods_FollowEachOtherWithoutGapOrOverlap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		loc := zone(t, rapid.SampledFrom([]string{
			"UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Sao_Paulo", "Pacific/Apia",
		}).Draw(t, "zone"))
		now := time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "now"), 0)
		for _, pair := range [][2]tenant.Period{
			{tenant.Yesterday, tenant.Today}, {tenant.LastWeek, tenant.ThisWeek}, {tenant.LastMonth, tenant.ThisMonth},
		} {
			before, end, err := tenant.Bounds(pair[0], now, loc)
			require.NoError(t, err)
			from, to, err := tenant.Bounds(pair[1], now, loc)
			require.NoError(t, err)
			require.True(t, before.Before(end), "%v is empty", pair[0])
			require.Equal(t, end, from, "%v ends where %v begins", pair[0], pair[1])
			require.False(t, now.Before(from) || !now.Before(to), "now is in %v", pair[1])
		}
	})
}

func TestDate_IsTheDateOfTheTenantsZone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		period   tenant.Period
		zone     string
		from, to string
	}{
		{"a date", tenant.Date(2026, time.May, 4), "Asia/Kathmandu", "2026-05-03T18:15:00Z", "2026-05-04T18:15:00Z"},
		{"no midnight", tenant.Date(2026, time.September, 6), "America/Santiago", "2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"},
		{"the date after it", tenant.Date(2026, time.September, 7), "America/Santiago", "2026-09-07T03:00:00Z", "2026-09-08T03:00:00Z"},
		{"no midnight", tenant.Date(2026, time.March, 29), "Atlantic/Azores", "2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"},
		{"midnight twice", tenant.Date(2025, time.November, 2), "America/Havana", "2025-11-02T04:00:00Z", "2025-11-03T05:00:00Z"},
		{"a month", tenant.Date(2026, time.March, 1).Through(2026, time.March, 31), "Atlantic/Azores", "2026-03-01T01:00:00Z", "2026-04-01T00:00:00Z"},
		{"two dates", tenant.Date(2026, time.September, 5).Through(2026, time.September, 6), "America/Santiago", "2026-09-05T04:00:00Z", "2026-09-07T03:00:00Z"},
		{"another last date", tenant.Date(2026, time.May, 4).Through(2026, time.May, 6).Through(2026, time.May, 4), "UTC", "2026-05-04T00:00:00Z", "2026-05-05T00:00:00Z"},
		{"another zone", tenant.Date(2026, time.March, 29).In(zone(t, "Atlantic/Azores")), "Asia/Tokyo", "2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"},
		{"another zone for another", tenant.Date(2026, time.May, 4).In(time.UTC).In(zone(t, "Asia/Tokyo")), "UTC", "2026-05-03T15:00:00Z", "2026-05-04T15:00:00Z"},
		{"another zone taken back", tenant.Date(2026, time.May, 4).In(zone(t, "Asia/Tokyo")).In(nil), "UTC", "2026-05-04T00:00:00Z", "2026-05-05T00:00:00Z"},
	} {
		from, to, err := tenant.Bounds(c.period, time.Time{}, zone(t, c.zone))
		require.NoError(t, err, c.name)
		require.Equal(t, []time.Time{at(t, c.from), at(t, c.to)}, []time.Time{from, to}, "%s: %v", c.name, c.period)
	}
}

func TestDate_OfACallIsTheDayThatItsBalanceCounts(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		known(t, db, "acme")
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, acme, func(b *tenant.Budget) error {
			b.TimeZone = "America/Santiago"
			return nil
		}))
		// The first and the last instant of a date without a midnight, and those next to it.
		remember(t, db, "acme", past{at: at(t, "2026-09-06T03:59:59.999999Z"), cost: 1}, past{at: at(t, "2026-09-06T04:00:00Z"), cost: 20},
			past{at: at(t, "2026-09-07T02:59:59.999999Z"), cost: 300}, past{at: at(t, "2026-09-07T03:00:00Z"), cost: 4000})
		for _, c := range []struct {
			period tenant.Period
			cost   int64
		}{
			{tenant.Date(2026, time.September, 5), 1},
			{tenant.Date(2026, time.September, 6), 320},
			{tenant.Date(2026, time.September, 7), 4000},
			{tenant.Date(2026, time.September, 5).Through(2026, time.September, 7), 4321},
			{tenant.Date(2026, time.September, 6).In(time.UTC), 21},
		} {
			require.Equal(t, c.cost, ask(t, db, acme, c.period).cost, "%v", c.period)
		}
		tenant.SetClock(ledger, at(t, "2026-09-06T12:00:00Z"))
		require.EqualValues(t, 320, ask(t, db, acme, tenant.Today).cost)
		today, err := tenant.UsageSummary(t.Context(), db, acme, tenant.Date(2026, time.September, 6))
		require.NoError(t, err)
		require.Equal(t, "0.00000032", today.Cost.String())
	})
}

// A question and a limit have one week, whichever day it begins on.
func TestWeeks_OfQuestionsAreThoseOfLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name            string
		options         []tenant.OpenOption
		this, last      int64
		thisFrom, until string
	}{
		{"as it is", nil, 11_000, 200, "2026-08-31T00:00:00Z", "2026-09-07T00:00:00Z"},
		{"from Monday", []tenant.OpenOption{tenant.WithWeekStart(time.Monday)}, 11_000, 200, "2026-08-31T00:00:00Z", "2026-09-07T00:00:00Z"},
		{"from Sunday", []tenant.OpenOption{tenant.WithWeekStart(time.Sunday)}, 10_000, 1_200, "2026-09-06T00:00:00Z", "2026-09-13T00:00:00Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
				newOrganization(t, db, ledger, "acme", tenant.WithLimits(tenant.Limits{Also: []tenant.Limit{{Window: tenant.Week, Cost: tenant.USD("1")}}}))
				status, err := tenant.BudgetStatus(t.Context(), db, acme)
				require.NoError(t, err)
				require.Len(t, status.Limits, 1)
				week, err := tenant.UsageSummary(t.Context(), db, acme, tenant.ThisWeek)
				require.NoError(t, err)
				require.Equal(t, status.Limits[0].ResetsAt.UTC(), week.To.UTC(), "the limit's week ends with it")

				remember(t, db, "acme",
					past{at: at(t, "2026-08-30T09:00:00Z"), cost: 200},     // a Sunday
					past{at: at(t, "2026-09-05T23:59:59.9Z"), cost: 1_000}, // a Saturday
					past{at: at(t, "2026-09-06T00:00:00Z"), cost: 10_000},  // the Sunday after it
					past{at: at(t, "2026-09-14T00:00:00Z"), cost: 100_000}) // next week, whichever day it begins on
				tenant.SetClock(ledger, at(t, "2026-09-06T12:00:00Z"))
				require.Equal(t, c.this, ask(t, db, acme, tenant.ThisWeek).cost)
				require.Equal(t, c.last, ask(t, db, acme, tenant.LastWeek).cost)
				week, err = tenant.UsageSummary(t.Context(), db, acme, tenant.ThisWeek)
				require.NoError(t, err)
				require.Equal(t, c.this, week.Cost.Shift(9).IntPart())
				require.Equal(t, at(t, c.thisFrom), week.From.UTC())
				require.Equal(t, at(t, c.until), week.To.UTC())
				tokyo, err := tenant.UsageSummary(t.Context(), db, acme, tenant.ThisWeek.In(zone(t, "Asia/Tokyo")))
				require.NoError(t, err)
				require.Equal(t, at(t, c.thisFrom).Add(-9*time.Hour), tokyo.From.UTC())
			}, c.options...)
		})
	}
}

func TestPeriods_AreComparableAndSayWhatTheyAre(t *testing.T) {
	t.Parallel()
	from := at(t, "2026-03-29T00:00:00Z")
	now := time.Now()
	names := map[tenant.Period]string{ // which compares with ==
		tenant.Between(from, from.Add(time.Hour)): "an hour",
		tenant.Today:             "today",
		tenant.Between(now, now): "now",
	}
	require.Equal(t, "an hour", names[tenant.Between(from.In(zone(t, "Asia/Tokyo")), from.Add(time.Hour))])
	require.Equal(t, "today", names[tenant.Today.In(nil)])
	require.Equal(t, "now", names[tenant.Between(now.Round(0), now.Round(0))], "a monotonic clock makes no difference")
	require.Equal(t, "last month", tenant.LastMonth.String())
	require.Equal(t, "today in Asia/Tokyo", tenant.Today.In(zone(t, "Asia/Tokyo")).String())
	require.Equal(t, "2026-03-29T00:00:00Z to 2026-03-29T01:00:00Z", tenant.Between(from, from.Add(time.Hour)).String())
	require.Equal(t, "Calendar(0)", tenant.Calendar(0).String())
	require.Equal(t, "2026-03-08", tenant.Date(2026, time.March, 8).String())
	require.Equal(t, "2026-03-01 to 2026-03-31", tenant.Date(2026, time.March, 1).Through(2026, time.March, 31).String())
	require.Equal(t, "2026-03-08 in Asia/Tokyo", tenant.Date(2026, time.March, 8).In(zone(t, "Asia/Tokyo")).String())
	require.Equal(t, tenant.Date(2026, time.March, 1), tenant.Date(2026, time.March, 1).Through(2026, time.March, 1))
	require.NotEqual(t, tenant.Period(tenant.Date(2026, time.March, 1)), tenant.Date(2026, time.March, 1).In(time.UTC))
}

func TestPeriodsThatCannotBe_AreErrors(t *testing.T) {
	t.Parallel()
	now := at(t, "2026-03-29T00:00:00Z")
	for _, c := range []struct {
		period tenant.Period
		says   string
	}{
		{tenant.Between(now, now.Add(-time.Second)), "begins at 2026-03-29T00:00:00Z, after its end at 2026-03-28T23:59:59Z"},
		{tenant.Calendar(0), "Calendar(0)"},
		{tenant.Calendar(8).In(time.UTC), "Calendar(8)"},
		{tenant.Date(2026, time.February, 30), "Date(2026, 2, 30): February 2026 has the days 1 to 28"},
		{tenant.Date(2026, time.February, 1).Through(2026, time.February, 29), "Date(2026, 2, 29): February 2026"},
		{tenant.Date(2026, 13, 1).In(time.UTC), "Date(2026, 13, 1): there is no month 13"},
		{tenant.Date(2026, time.May, 2).Through(2026, time.May, 1), "begins with 2026-05-02, after its last date, 2026-05-01"},
		{tenant.Dates{}, "Date(0, 0, 0): the year 0"},
	} {
		_, _, err := tenant.Bounds(c.period, now, time.UTC)
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		require.ErrorContains(t, err, c.says)
	}
	from, to, err := tenant.Bounds(tenant.Between(now, now), now, time.UTC)
	require.NoError(t, err)
	require.Equal(t, from, to, "two equal instants are empty")
}
