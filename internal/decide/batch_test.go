package decide_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/period"
)

var midnight = time.Date(2026, time.March, 11, 0, 0, 0, 0, time.UTC)

func TestWindow_RollsOverExactlyAtItsEnd(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard, costs(day, 100), costs(month, 250))
	require.Equal(t, codes{decide.Granted, decide.Settled}, db.codes(ask(1, 100), settle(1, 100)))

	db.now = midnight.Add(-time.Nanosecond)
	require.Equal(t, codes{decide.Exceeded}, db.codes(ask(2, 1)))
	require.Equal(t, midnight, db.balance(day).End)

	db.now = midnight
	require.Equal(t, codes{decide.Granted, decide.Wait}, db.codes(ask(3, 100), ask(4, 1)))
	require.Equal(t, midnight, db.balance(day).Start)
	require.Equal(t, midnight.AddDate(0, 0, 1), db.balance(day).End)
	require.Equal(t, book.Amount{Cost: 100, Tokens: 1, Calls: 1}, db.balance(day).Spent.Plus(db.balance(day).Held))
	require.EqualValues(t, 200, db.balance(month).Spent.Cost+db.balance(month).Held.Cost)
}

func TestWindow_HoldsItsStartAndNotItsEnd(t *testing.T) {
	t.Parallel()

	b := book.Balance{Scope: day, Start: noon, End: midnight}
	require.False(t, b.Holds(noon.Add(-time.Nanosecond)))
	require.True(t, b.Holds(noon))
	require.True(t, b.Holds(midnight.Add(-time.Nanosecond)))
	require.False(t, b.Holds(midnight))
	b.End = time.Time{}
	require.True(t, b.Holds(midnight.AddDate(100, 0, 0)), "a total never ends")
}

func TestWindow_SkipsThoseInWhichNothingHappened(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	week := book.Scope{Window: period.Week}
	db.tenant(acme, "acme", book.Hard, costs(week, 100))
	db.codes(ask(1, 100))
	db.now = noon.AddDate(0, 0, 30)
	require.Equal(t, codes{decide.Granted}, db.codes(ask(2, 100)))
	require.Equal(t, time.Date(2026, time.April, 6, 0, 0, 0, 0, time.UTC), db.balance(week).Start)
	require.Equal(t, time.Date(2026, time.April, 1, 0, 0, 0, 0, time.UTC), db.balance(month).Start)
}

func TestWindow_ASettleAfterTheRolloverChangesOnlyTheTotal(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		rule  string
		end   []*decide.Op
		total int64
	}{
		{"settle", []*decide.Op{settle(1, 45)}, 45},
		{"release", []*decide.Op{release(1)}, 0},
		{"expire", []*decide.Op{expire(1)}, 60},
		{"expire and correct", []*decide.Op{expire(1), settle(1, 45)}, 45},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()

			db := newDatabase(t)
			db.tenant(acme, "acme", book.Hard, costs(day, 100), costs(book.Anchor, 1000))
			db.now = midnight.Add(-time.Hour)
			db.codes(ask(1, 60))
			db.now = midnight.Add(time.Minute)
			require.Equal(t, codes{decide.Granted}, db.codes(ask(2, 100)), "the hold stays behind")
			require.EqualValues(t, 160, db.balance(book.Anchor).Held.Cost, "except in the total")
			today := db.balance(day)

			db.codes(c.end...)
			require.Equal(t, today, db.balance(day))
			require.Equal(t, c.total, db.balance(book.Anchor).Spent.Cost)
			require.EqualValues(t, 100, db.balance(book.Anchor).Held.Cost)
			for key := range db.hours {
				require.Equal(t, midnight.Add(-time.Hour), key.Hour, "the roll-up's hour is that of admission")
			}
		})
	}
}

func TestWindow_ASettleBeforeTheRolloverStaysInTheOldOne(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard, costs(day, 100))
	db.codes(ask(1, 60))
	db.now = midnight.Add(time.Hour)
	require.Equal(t, codes{decide.Settled}, db.codes(settle(1, 60)), "nobody has rolled the day over yet")
	require.EqualValues(t, 60, db.balance(day).Spent.Cost)
	require.Equal(t, codes{decide.Granted}, db.codes(ask(2, 100)))
}

func TestWindow_AClockThatStepsBackReopensNone(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard, costs(day, 100), costs(month, 1000))
	db.codes(ask(1, 100), settle(1, 100))
	db.now = midnight.Add(time.Hour)
	db.codes(ask(2, 40))

	db.now = midnight.Add(-time.Hour)
	require.Equal(t, codes{decide.Granted, decide.Wait, decide.Settled}, db.codes(ask(4, 60), ask(3, 1), record(5, 0)))
	require.Equal(t, midnight, db.execution(4).AdmittedAt, "the start of the window that was entered")
	require.Equal(t, midnight.Add(time.Hour), db.execution(4).DeadlineAt)
	require.Equal(t, midnight, db.execution(5).AdmittedAt)
	require.Equal(t, midnight, db.balance(day).Start)
	require.EqualValues(t, 100, db.balance(day).Held.Cost)
	require.Contains(t, db.hours, book.HourKey{Tenant: acme, Hour: midnight, Agent: "a", Model: "m", BilledModel: "m-1"})

	db.now = midnight.Add(30 * time.Minute)
	require.Equal(t, codes{decide.Granted}, db.codes(ask(6, 0)))
	require.Equal(t, db.now, db.execution(6).AdmittedAt, "within the window the clock is followed")
}

func TestWindow_AClockThatStepsBackCountsRefusalsInTheHourOfAdmission(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard, costs(day, 10))
	db.now = midnight
	db.codes(ask(1, 1))
	db.now = midnight.Add(-time.Hour)
	require.Equal(t, codes{decide.Exceeded, decide.Settled}, db.codes(ask(2, 11), settle(1, 1)))
	require.EqualValues(t, 1, db.hours[book.HourKey{Tenant: acme, Hour: midnight, Agent: "a", Model: "m"}].Refusals)
}

func TestWindow_ATimeZoneChangeAppliesFromTheStoredEndOn(t *testing.T) {
	t.Parallel()

	for zone, first := range map[string]time.Time{
		"Asia/Tokyo":          time.Date(2026, time.March, 11, 15, 0, 0, 0, time.UTC),
		"America/Los_Angeles": time.Date(2026, time.March, 11, 7, 0, 0, 0, time.UTC),
	} {
		t.Run(zone, func(t *testing.T) {
			t.Parallel()

			db := newDatabase(t)
			tenant := db.tenant(acme, "acme", book.Hard, costs(day, 100))
			db.codes(ask(1, 60))
			tenant.Zone = zone

			db.now = midnight.Add(-time.Nanosecond) // another date in Tokyo since 15:00
			require.Equal(t, codes{decide.Wait}, db.codes(ask(2, 41)))
			db.now = midnight.Add(time.Hour) // still the old date in Los Angeles
			require.Equal(t, codes{decide.Granted, decide.Wait}, db.codes(ask(3, 100), ask(4, 1)))
			require.Equal(t, midnight, db.balance(day).Start)
			require.Equal(t, first, db.balance(day).End)

			db.now = first
			require.Equal(t, codes{decide.Granted}, db.codes(ask(5, 100)))
			require.Equal(t, first.Add(24*time.Hour), db.balance(day).End)
		})
	}
}

func TestWindow_HoursOfTheRollUpAreThoseOfAdmission(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard).Zone = "Asia/Kathmandu" // 45 minutes off
	db.now = noon.Add(59 * time.Minute)
	db.codes(ask(1, 10), ask(2, 10))
	db.now = noon.Add(61 * time.Minute)
	db.codes(settle(1, 10), record(3, 10), with(expire(2), func(op *decide.Op) { op.LastBeat = noon }))
	require.Len(t, db.hours, 3)
	require.EqualValues(t, 10, db.hours[book.HourKey{Tenant: acme, Hour: noon, Agent: "a", Model: "m", BilledModel: "m-1"}].Charged.Cost)
	require.EqualValues(t, 10, db.hours[book.HourKey{Tenant: acme, Hour: noon, Agent: "a", Model: "m"}].Charged.Cost)
	require.EqualValues(t, 10, db.hours[book.HourKey{Tenant: acme, Hour: noon.Add(time.Hour), Agent: "a", Model: "m", BilledModel: "m-1"}].Charged.Cost)
}

func TestWindow_WhatIsBookedWithATimeOfItsOwnIsCountedInTheWindowOfThatTime(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		rule       string
		at         time.Time
		admittedAt time.Time
		today      int64
		thisMonth  int64
	}{
		{"today, though the balance is still yesterday's", midnight.Add(time.Hour), midnight.Add(time.Hour), 145, 205},
		{"yesterday", midnight.Add(-time.Hour), midnight.Add(-time.Hour), 100, 205},
		{"last month", midnight.AddDate(0, -1, 0), midnight.AddDate(0, -1, 0), 100, 160},
		{"in the future, as after a clock that went back: now", midnight.AddDate(0, 0, 1), midnight.Add(2 * time.Hour), 145, 205},
	} {
		for kind, booked := range map[string]func(int, int64) *decide.Op{"record": record, "settle": settle} {
			t.Run(kind+" "+c.rule, func(t *testing.T) {
				t.Parallel()

				db := newDatabase(t)
				db.tenant(acme, "acme", book.Hard, costs(day, 145))
				db.codes(record(1, 60))
				db.now = midnight.Add(2 * time.Hour)
				db.codes(with(booked(2, 45), func(op *decide.Op) { op.Exec.AdmittedAt = c.at }))
				require.Equal(t, c.admittedAt, db.execution(2).AdmittedAt)
				require.Equal(t, codes{decide.Settled}, db.codes(record(3, 100)))
				require.Equal(t, c.today, db.balance(day).Spent.Cost)
				require.Equal(t, c.thisMonth, db.balance(month).Spent.Cost)
				require.EqualValues(t, 205, db.balance(book.Anchor).Spent.Cost)
			})
		}
	}
}

func TestBatch_SumsSaturateInsteadOfWrapping(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	tenant := db.tenant(acme, "acme", book.None)
	for n := range 3 {
		require.Equal(t, codes{decide.Granted, decide.Settled}, db.codes(ask(10+n, money.Max), record(20+n, money.Max)))
	}
	require.EqualValues(t, math.MaxInt64, db.balance(day).Held.Cost)
	require.EqualValues(t, math.MaxInt64, db.balance(day).Spent.Cost)
	tenant.Enforcement, tenant.Limits = book.Hard, []book.Limit{costs(day, money.Max)}
	require.Equal(t, codes{decide.Exceeded}, db.codes(ask(1, 1)))
}

func TestBatch_TouchesOnlyTheBalancesThatCountTheCall(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard, costs(dayA, 100), costs(dayM, 100))
	db.tenant(globex, "globex", book.Hard)
	db.codes(ask(1, 10), with(ask(2, 1), func(op *decide.Op) { op.Exec.Tenant = globex }))

	ops := []*decide.Op{asks("b", 3, 20)}
	_, effects := decide.Batch(db.config, db.read(ops), ops)
	var scopes []book.Scope
	for _, row := range effects.Balances {
		require.Equal(t, acme, row.Tenant.ID)
		for _, balance := range []*book.Balance{row.Balance, row.Day, row.Month} {
			if balance != nil {
				scopes = append(scopes, balance.Scope)
			}
		}
	}
	require.Len(t, effects.Balances, 2, "what every tenant has is one row")
	require.Equal(t, append(slices.Clone(book.Standing), dayM), scopes)

	db.run(ops...)
	require.EqualValues(t, 10, db.balance(dayA).Held.Cost)
	require.EqualValues(t, 30, db.balance(dayM).Held.Cost)
}

func TestBatch_WhatChangesNothingWritesNothing(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard, costs(day, 10))
	db.codes(ask(1, 1), settle(1, 1), ask(2, 1), release(2), idempotent("k", ask(3, 9)))
	ops := []*decide.Op{
		ask(1, 1), ask(2, 1), ask(3, 9), settle(1, 2), settle(2, 2), release(1), release(2), expire(1), expire(3), expire(9),
		record(1, 1), idempotent("k", record(10, 1)), idempotent("k", ask(11, 1)), ask(12, 9), ask(13, 10), unpriced(ask(14, 0)),
	}
	_, effects := decide.Batch(db.config, db.read(ops), ops)
	require.True(t, effects.Empty())
}

func TestBatch_ChangesOfOneExecutionAreOneWrite(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard, costs(day, 100))
	db.codes(ask(1, 10))
	db.now = noon.Add(time.Hour)
	ops := []*decide.Op{expire(1), settle(1, 5), ask(2, 10), settle(2, 5), ask(3, 10), release(3)}
	_, effects := decide.Batch(db.config, db.read(ops), ops)
	require.Len(t, effects.Update, 1)
	require.Equal(t, book.Running, effects.Update[0].From)
	require.Equal(t, book.Abandoned, effects.Update[0].Status)
	require.False(t, effects.Update[0].SettledAt.IsZero())
	require.Len(t, effects.Insert, 2)
	require.Equal(t, book.Succeeded, effects.Insert[0].Status)
	require.Equal(t, book.Cancelled, effects.Insert[1].Status)
}

func TestBatch_TheSameInputGivesTheSameOutput(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.defaults.Limits = []book.Limit{costs(dayM, 10_000)}
	for i := range 40 {
		tenant := book.ID{0: byte(i * 37), 1: byte(i)}
		db.tenant(tenant, "", book.Hard, costs(day, 500), tokens(day, 1000), costs(dayA, 300))
	}
	var ops []*decide.Op
	for tenant := range db.tenants {
		for n := range 4 {
			ops = append(ops, with(flexible(n, 10, 5, 500), func(op *decide.Op) { op.Exec.Tenant = tenant }))
		}
		ops = append(ops, with(settle(1, 7), func(op *decide.Op) { op.Exec.Tenant = tenant }))
	}
	db.run(ops...)
	db.now = noon.Add(24 * time.Hour)
	for tenant := range db.tenants {
		for _, op := range []*decide.Op{expire(0), settle(2, 9), release(3), flexible(4, 10, 5, 500), ask(5, 600), record(6, 1), release(7)} {
			op.Exec.Tenant = tenant
			ops = append(ops, op)
		}
	}

	again := func() ([]decide.Outcome, book.Effects) {
		copies := make([]*decide.Op, len(ops))
		for i, op := range ops {
			c := *op
			copies[i] = &c
		}
		return decide.Batch(db.config, db.read(copies), copies)
	}
	outcomes, effects := again()
	require.NotEmpty(t, effects.Insert)
	require.NotEmpty(t, effects.Update)
	require.True(t, slices.IsSortedFunc(effects.Balances, func(a, b book.BalanceRow) int { return slices.Compare(a.Tenant.ID[:], b.Tenant.ID[:]) }),
		"balances are written in the order of their tenants")
	for range 20 {
		o, e := again()
		require.Equal(t, outcomes, o)
		require.Equal(t, effects, e)
	}
}
