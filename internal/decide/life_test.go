package decide_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
)

type codes = []decide.Code

func TestBatch_FindsTheTenant(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard)
	db.tenant(globex, "globex", book.Hard)
	by := func(key, ownerType, ownerID string) func(*decide.Op) {
		return func(op *decide.Op) {
			op.Exec.Tenant, op.Key, op.OwnerType, op.OwnerID = book.ID{}, key, ownerType, ownerID
		}
	}
	require.Equal(t, codes{decide.Granted, decide.Unknown, decide.Unknown, decide.WrongOwner, decide.WrongOwner, decide.Granted}, db.codes(
		with(ask(1, 1), by("acme", "", "")),
		with(ask(2, 1), by("nobody", "", "")),
		with(ask(3, 1), func(op *decide.Op) { op.Exec.Tenant = book.ID{1} }),
		with(ask(4, 1), by("acme", "users", "1")),
		with(ask(5, 1), by("acme", "orgs", "2")),
		with(ask(6, 1), by("acme", "orgs", "1")),
	))

	db.tenants[acme].OwnerType, db.tenants[acme].OwnerID = "", ""
	require.Equal(t, codes{decide.WrongOwner}, db.codes(with(ask(7, 1), by("acme", "orgs", "1"))), "a key without a record is not a record's")

	db.busy[acme] = true
	require.Equal(t, codes{decide.Busy, decide.Granted, decide.Busy}, db.codes(ask(8, 1), with(ask(9, 1), by("globex", "", "")), with(ask(10, 1), by("acme", "", ""))))
}

func TestBatch_ATenantOnceFoundStaysTheSameWhenItsKeyMoves(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard)
	db.tenant(globex, "globex", book.Hard)
	op := with(ask(1, 1), func(op *decide.Op) { op.Exec.Tenant, op.Key = book.NoTenant, "acme" })
	require.True(t, op.ByKey())
	require.Equal(t, codes{decide.Granted}, db.codes(op))
	require.False(t, op.ByKey())

	db.tenants[acme].Key, db.tenants[globex].Key = "acme-inc", "acme"
	out := db.run(op)[0]
	require.Equal(t, decide.Granted, out.Code)
	require.Equal(t, acme, out.Exec.Tenant, "a retry finds what it may have committed")
	require.Equal(t, "acme", out.Exec.TenantKey, "as it was at the call")
}

func TestBatch_CallsWithoutATenantAreBookedOnNoTenant(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(book.NoTenant, "", book.Inherited).Inherit = false
	db.defaults = book.Tenant{Enforcement: book.Hard, Limits: []book.Limit{costs(day, 0)}}
	none := func(op *decide.Op) { op.Exec.Tenant = book.NoTenant }
	require.Equal(t, codes{decide.Granted, decide.Settled}, db.codes(with(ask(1, 1), none), with(settle(1, 1), none)))
}

func TestBatch_SuspendedAndDeletedTenantsOnlySettle(t *testing.T) {
	t.Parallel()

	for name, end := range map[string]func(*book.Tenant){
		"suspended": func(t *book.Tenant) { t.Suspended = true },
		"deleted":   func(t *book.Tenant) { t.Deleted = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			db := newDatabase(t)
			tenant := db.tenant(acme, "acme", book.Hard, costs(day, 100))
			db.codes(ask(1, 10), ask(2, 10), ask(3, 10))
			end(tenant)
			require.Equal(t, codes{decide.Suspended, decide.Settled, decide.Released}, db.codes(ask(4, 0), settle(1, 11), release(2)))
			db.now = db.now.Add(2 * time.Hour)
			require.Equal(t, codes{decide.Expired, decide.Corrected, decide.Settled, decide.Settled}, db.codes(expire(3), settle(3, 12), record(5, 1), settle(6, 1)))
			require.EqualValues(t, 25, db.balance(day).Spent.Cost)
		})
	}
}

func TestReserve_ARetryIsAnsweredFromItsRow(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	tenant := db.tenant(acme, "acme", book.Hard, costs(day, 100))
	retry := func() *decide.Op {
		return idempotent("k", flexible(1, 10, 5, 500))
	}
	first := db.run(retry())[0]
	require.EqualValues(t, 90, first.Output)

	tenant.Limits[0].Max = 50
	out := db.run(retry(), retry())
	for i := range out {
		require.Equal(t, decide.Granted, out[i].Code)
		require.EqualValues(t, 90, out[i].Output, "what was granted, not what there is now")
		require.Equal(t, first.Exec, out[i].Exec)
	}
	require.EqualValues(t, 100, db.balance(day).Held.Cost, "held once")

	tenant.Suspended = true
	require.Equal(t, codes{decide.Granted}, db.codes(retry()))
	require.Equal(t, codes{decide.Released, decide.AlreadyReleased}, db.codes(release(1), retry()))
	require.Equal(t, codes{decide.AlreadyReleased}, db.codes(retry()))
	require.Zero(t, db.balance(day).Held)
}

func TestReserve_ARetryOfWhatIsOverDoesNothing(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard)
	db.codes(ask(1, 1), settle(1, 1), ask(2, 1), failed(2, 1), ask(3, 1))
	db.now = db.now.Add(time.Hour)
	require.Equal(t, codes{decide.Expired}, db.codes(expire(3)))
	require.Equal(t, codes{decide.AlreadySettled, decide.AlreadySettled, decide.AlreadySettled}, db.codes(ask(1, 1), ask(2, 1), ask(3, 1)))
}

func TestReserve_ARetryWithinTheBatchOfTheFirstHoldsOnce(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard, costs(day, 100))
	require.Equal(t, codes{decide.Granted, decide.Granted}, db.codes(ask(1, 60), ask(1, 60)))
	require.EqualValues(t, 60, db.balance(day).Held.Cost)
}

func TestSettle_ReplacesTheHoldByTheUsage(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard, costs(day, 100))
	db.codes(with(ask(1, 60), func(op *decide.Op) { op.Exec.Provider = "asked" }))
	db.now = noon.Add(time.Minute)
	out := db.run(with(settle(1, 45), func(op *decide.Op) {
		e := &op.Exec
		e.Agent, e.Model, e.Provider = "ignored", "ignored", "billed"
		e.RequestID, e.Reported, e.Estimated, e.Unpriced, e.ErrorCode = "r", 44, true, true, "stopped"
	}))[0]
	require.Equal(t, decide.Settled, out.Code)
	require.Equal(t, book.Execution{
		Tenant: acme, ID: id(1), TenantKey: "acme", Status: book.Succeeded, Agent: "a", Model: "m", Provider: "billed",
		BilledModel: "m-1", RequestID: "r", AdmittedAt: noon, DeadlineAt: noon.Add(time.Hour), FinishedAt: db.now, SettledAt: db.now,
		Held: book.Amount{Cost: 60, Tokens: 1, Calls: 1}, Charged: book.Amount{Cost: 45, Tokens: 1, Calls: 1},
		Reported: 44, Estimated: true, Unpriced: true, ErrorCode: "stopped", Usage: book.Usage{Input: 1},
	}, db.execution(1))
	for _, s := range book.Standing {
		require.Zero(t, db.balance(s).Held)
		require.EqualValues(t, 45, db.balance(s).Spent.Cost)
	}
	require.Equal(t, book.HourSum{Charged: book.Amount{Cost: 45, Tokens: 1, Calls: 1}, Estimated: 1, Unpriced: 1, Usage: book.Usage{Input: 1}},
		db.hours[book.HourKey{Tenant: acme, Hour: noon, Agent: "a", Model: "m", BilledModel: "m-1", Provider: "billed"}])
}

func TestSettle_KeepsTheProviderThatWasAskedWhereItNamesNone(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard)
	db.codes(with(ask(1, 60), func(op *decide.Op) { op.Exec.Provider = "asked" }), settle(1, 1))
	require.Equal(t, "asked", db.execution(1).Provider)
}

func TestSettle_StoresAnOverrun(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard, costs(day, 100))
	more := with(settle(1, 130), func(op *decide.Op) { op.Exec.Charged.Tokens = 8 })
	require.Equal(t, codes{decide.Granted, decide.Settled, decide.Exceeded}, db.codes(ask(1, 100), more, ask(2, 1)))
	require.Equal(t, book.Amount{Cost: 30, Tokens: 7}, db.execution(1).Overrun)
	require.EqualValues(t, 130, db.balance(day).Spent.Cost, "the truth, past the hold and the limit")

	db.codes(with(ask(3, 0), func(op *decide.Op) { op.Base.Tokens = 0 }), with(settle(3, 0), func(op *decide.Op) { op.Exec.Charged.Tokens = 8 }))
	db.tenants[acme].Enforcement = book.None
	db.codes(ask(4, 50), with(settle(4, 49), func(op *decide.Op) { op.Exec.Charged.Tokens = 8 }))
	require.Equal(t, book.Amount{Tokens: 7}, db.execution(4).Overrun, "one metric's rest is not another's")
}

func TestSettle_CountsAFailedCallWithWhatItCost(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard, costs(day, 100))
	db.codes(ask(1, 60), failed(1, 45))
	require.Equal(t, book.Failed, db.execution(1).Status)
	require.EqualValues(t, 45, db.balance(day).Spent.Cost)
	require.EqualValues(t, 1, db.hours[book.HourKey{Tenant: acme, Hour: noon, Agent: "a", Model: "m", BilledModel: "m-1"}].Errors)
}

func TestSettleAndRelease_HappenOnce(t *testing.T) {
	t.Parallel()

	const s, r = "settle", "release"
	for _, c := range []struct {
		first, second string
		want          codes
	}{
		{s, s, codes{decide.Settled, decide.AlreadySettled}},
		{s, r, codes{decide.Settled, decide.AlreadySettled}},
		{r, r, codes{decide.Released, decide.AlreadyReleased}},
		{r, s, codes{decide.Released, decide.AlreadyReleased}},
	} {
		for _, together := range []bool{false, true} {
			t.Run(c.first+" then "+c.second, func(t *testing.T) {
				t.Parallel()

				db := newDatabase(t)
				db.tenant(acme, "acme", book.Hard, costs(day, 100))
				db.codes(ask(1, 60))
				op := func(kind string) *decide.Op {
					if kind == s {
						return settle(1, 45)
					}
					return release(1)
				}
				var got codes
				if together {
					got = db.codes(op(c.first), op(c.second))
				} else {
					got = append(db.codes(op(c.first)), db.codes(op(c.second))...)
				}
				require.Equal(t, c.want, got)
				want := int64(0)
				if c.first == s {
					want = 45
				}
				require.Equal(t, want, db.balance(day).Spent.Cost)
				require.Zero(t, db.balance(day).Held)
			})
		}
	}
}

func TestRelease_GivesTheRoomBack(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard, costs(day, 100))
	require.Equal(t, codes{decide.Granted, decide.Wait}, db.codes(ask(1, 60), ask(2, 60)))
	db.now = noon.Add(time.Minute)
	require.Equal(t, codes{decide.Released, decide.Granted}, db.codes(release(1), ask(2, 60)))
	e := db.execution(1)
	require.Equal(t, book.Cancelled, e.Status)
	require.Equal(t, db.now, e.FinishedAt)
	require.True(t, e.SettledAt.IsZero())
	require.EqualValues(t, -1, e.Reported, "the provider stated nothing")
	require.Empty(t, db.hours, "a call that was not made is in no roll-up")
}

func TestRelease_OfAnUnknownHoldDefeatsALateReserve(t *testing.T) {
	t.Parallel()

	for _, together := range []bool{false, true} {
		db := newDatabase(t)
		db.tenant(acme, "acme", book.Hard, costs(day, 100))
		// Who releases knows what it asked for.
		tombstone := with(idempotent("k", release(1)), func(op *decide.Op) {
			op.Exec.Agent, op.Exec.Model, op.Exec.Held = "a", "m", book.Amount{Cost: 60, Tokens: 1, Calls: 1}
		})
		late := idempotent("k", ask(1, 60))
		if together {
			require.Equal(t, codes{decide.Released, decide.AlreadyReleased}, db.codes(tombstone, late))
		} else {
			require.Equal(t, codes{decide.Released}, db.codes(tombstone))
			require.Equal(t, codes{decide.AlreadyReleased}, db.codes(late))
		}
		require.Equal(t, book.Execution{
			Tenant: acme, ID: id(1), TenantKey: "acme", Status: book.Cancelled, Agent: "a", Model: "m", IdempotencyKey: "k",
			AdmittedAt: noon, DeadlineAt: noon, FinishedAt: noon, Reported: -1,
		}, db.execution(1), "it never held anything")
		require.Equal(t, codes{decide.AlreadyReleased, decide.AlreadyReleased, decide.Alive}, db.codes(release(1), settle(1, 1), expire(1)))
		require.Equal(t, codes{decide.Granted}, db.codes(idempotent("k", ask(2, 100))), "key and room are free")
	}
}

func TestExpire_OnlyWhatNobodyCanSettleInTime(t *testing.T) {
	t.Parallel()

	second := noon.Add(time.Second)
	for _, c := range []struct {
		rule    string
		process int
		after   time.Duration
		beats   bool      // meanwhile
		last    time.Time // the heartbeat that whoever asks has seen no other after
		want    decide.Code
	}{
		{"alive and in time", 0, time.Hour - time.Nanosecond, true, time.Time{}, decide.Alive},
		{"at the deadline, however alive", 0, time.Hour, true, time.Time{}, decide.Expired},
		{"after the deadline", 0, time.Hour + time.Nanosecond, true, time.Time{}, decide.Expired},
		{"a heartbeat of long ago that nobody has watched", 0, time.Hour - time.Nanosecond, false, time.Time{}, decide.Alive},
		{"a heartbeat that none has followed", 0, lease, false, noon, decide.Expired},
		{"one that has come after all", 0, lease, true, noon, decide.Alive},
		{"one that stands still while the clock goes back", 0, -2 * time.Hour, false, noon, decide.Expired},
		{"one that has come by a clock that went back", 0, -2 * time.Hour, true, noon, decide.Alive},
		{"another one than was watched", 0, lease, false, second, decide.Alive},
		{"a process that nobody knows", 7, 0, true, time.Time{}, decide.Expired},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()

			db := newDatabase(t)
			db.tenant(acme, "acme", book.Hard, costs(day, 100))
			db.codes(with(ask(1, 60), func(op *decide.Op) { op.Exec.Process = id(c.process) }))
			db.now = noon.Add(c.after)
			if c.beats {
				db.beat()
			}
			out := db.run(with(expire(1), func(op *decide.Op) { op.LastBeat = c.last }))[0]
			require.Equal(t, c.want, out.Code)
			require.Equal(t, db.execution(1), *out.Exec)
			if c.want == decide.Alive {
				require.Equal(t, book.Running, out.Exec.Status)
				return
			}
			require.Equal(t, book.Abandoned, out.Exec.Status)
			require.Equal(t, book.Amount{Cost: 60, Tokens: 1, Calls: 1}, out.Exec.Charged, "the hold")
			require.True(t, out.Exec.Estimated)
			require.EqualValues(t, -1, out.Exec.Reported, "the provider stated nothing")
			require.Equal(t, db.now, out.Exec.FinishedAt)
			require.True(t, out.Exec.SettledAt.IsZero())
			require.EqualValues(t, 60, db.balance(day).Spent.Cost)
			require.Zero(t, db.balance(day).Held)
		})
	}
}

func TestExpire_OfWhatIsOverOrUnknownDoesNothing(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard)
	db.codes(ask(1, 1), settle(1, 1), ask(2, 1), release(2), ask(3, 1))
	db.now = noon.Add(24 * time.Hour)
	require.Equal(t, codes{decide.Alive, decide.Alive, decide.Expired, decide.Alive, decide.Alive}, db.codes(expire(1), expire(2), expire(3), expire(3), expire(4)))
	require.NotContains(t, db.executions, book.ExecutionKey{Tenant: acme, ID: id(4)})
}

func TestSettle_OfAnExpiredHoldCorrectsItOnce(t *testing.T) {
	t.Parallel()

	for _, together := range []bool{false, true} {
		db := newDatabase(t)
		db.tenant(acme, "acme", book.Hard, costs(day, 100))
		db.codes(ask(1, 60))
		db.now = noon.Add(time.Hour)
		expired := db.now
		hour := func(billed string) book.HourSum {
			return db.hours[book.HourKey{Tenant: acme, Hour: noon, Agent: "a", Model: "m", BilledModel: billed}]
		}
		if together {
			require.Equal(t, codes{decide.Expired, decide.Corrected, decide.AlreadySettled}, db.codes(expire(1), settle(1, 45), settle(1, 9)))
		} else {
			require.Equal(t, codes{decide.Expired}, db.codes(expire(1)))
			require.EqualValues(t, 60, hour("").Charged.Cost)
			db.now = db.now.Add(time.Hour)
			require.Equal(t, codes{decide.Corrected}, db.codes(settle(1, 45)))
			require.Equal(t, codes{decide.AlreadySettled}, db.codes(settle(1, 9)))
		}
		e := db.execution(1)
		require.Equal(t, book.Abandoned, e.Status, "never revived")
		require.Equal(t, expired, e.FinishedAt)
		require.Equal(t, db.now, e.SettledAt)
		require.EqualValues(t, 45, e.Charged.Cost)
		require.False(t, e.Estimated)
		require.EqualValues(t, 45, db.balance(day).Spent.Cost)
		require.Zero(t, db.balance(day).Held)
		require.Zero(t, hour(""), "the model that was billed is known now")
		require.Equal(t, book.HourSum{Charged: book.Amount{Cost: 45, Tokens: 1, Calls: 1}, Usage: book.Usage{Input: 1}}, hour("m-1"))
	}
}

func TestSettle_OfAnExpiredHoldMayCostMoreThanItHeld(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard, costs(day, 100))
	db.codes(ask(1, 60))
	db.now = noon.Add(time.Hour)
	sameModel := with(failed(1, 130), func(op *decide.Op) { op.Exec.BilledModel = "" })
	require.Equal(t, codes{decide.Expired, decide.Corrected, decide.Exceeded}, db.codes(expire(1), sameModel, ask(2, 1)))
	require.EqualValues(t, 70, db.execution(1).Overrun.Cost)
	require.Equal(t, "timeout", db.execution(1).ErrorCode)
	require.EqualValues(t, 130, db.balance(day).Spent.Cost)
}

func TestSettle_OfAnExecutionWhoseRowIsLostIsBooked(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard, costs(day, 100))
	lost := func(n int, at time.Time) *decide.Op {
		return with(settle(n, 45), func(op *decide.Op) {
			op.Exec.AdmittedAt, op.Exec.Held = at, book.Amount{Cost: 60, Tokens: 1, Calls: 1}
		})
	}
	out := db.run(lost(1, noon.Add(-90*time.Minute)), settle(1, 45))
	require.Equal(t, decide.Settled, out[0].Code)
	require.Equal(t, decide.AlreadySettled, out[1].Code)
	e := db.execution(1)
	require.Equal(t, noon.Add(-90*time.Minute), e.AdmittedAt)
	require.Equal(t, "acme", e.TenantKey)
	require.Equal(t, book.Succeeded, e.Status)
	require.Equal(t, noon, e.SettledAt)
	require.EqualValues(t, 45, e.Charged.Cost)
	require.Zero(t, e.Held, "its hold was lost with it")
	require.Zero(t, e.Overrun)
	require.EqualValues(t, 45, db.balance(day).Spent.Cost, "in the window in which it was admitted")

	require.Equal(t, codes{decide.Settled}, db.codes(lost(2, noon.Add(-24*time.Hour))))
	require.EqualValues(t, 45, db.balance(day).Spent.Cost, "not in this one")
	require.EqualValues(t, 90, db.balance(month).Spent.Cost)
}

func TestRecord_BooksWithoutAdmission(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard, costs(day, 10), calls(day, 0))
	out := db.run(idempotent("k", record(1, 45)), idempotent("k", record(2, 45)), record(1, 45))
	require.Equal(t, codes{decide.Settled, decide.Duplicate, decide.AlreadySettled}, codes{out[0].Code, out[1].Code, out[2].Code})
	require.Equal(t, book.Execution{
		Tenant: acme, ID: id(1), TenantKey: "acme", Status: book.Succeeded, Agent: "a", Model: "m", BilledModel: "m-1",
		IdempotencyKey: "k", AdmittedAt: noon, DeadlineAt: noon, FinishedAt: noon, SettledAt: noon,
		Charged: book.Amount{Cost: 45, Tokens: 1, Calls: 1}, Reported: -1, Usage: book.Usage{Input: 1},
	}, db.execution(1), "no hold, so no overrun")
	require.Equal(t, db.execution(1), *out[0].Exec)
	require.EqualValues(t, 45, db.balance(day).Spent.Cost)
	require.Equal(t, codes{decide.Duplicate, decide.AlreadySettled}, db.codes(idempotent("k", record(3, 45)), record(1, 45)))
	require.EqualValues(t, 45, db.balance(day).Spent.Cost)
}

func TestRecord_CountsAgainstALimitThatNobodyHasUsedYet(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard, costs(dayA, 50))
	db.defaults.Limits = []book.Limit{costs(dayM, 60)}
	require.Equal(t, codes{decide.Settled}, db.codes(record(1, 45)))
	require.Equal(t, codes{decide.Exceeded, decide.Granted, decide.Exceeded}, db.codes(ask(2, 6), asks("b", 3, 15), asks("b", 4, 16)))
}

func TestCorrect_CountsWhereWhatItCorrectsCounts(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard, costs(day, 100), costs(dayA, 100), costs(dayM, 100)).Parent = group
	db.tenant(group, "group", book.Hard, costs(day, 100))
	db.codes(ask(1, 10), settle(1, 10))
	db.tenants[acme].Parent = globex // where it stands since
	db.tenant(globex, "globex", book.Hard, costs(day, 100))
	correction := func(n int, key string, cost int64) *decide.Op {
		e := db.execution(1)
		return &decide.Op{Kind: decide.Correct, Exec: book.Execution{
			Tenant: acme, ID: id(n), Ancestors: e.Ancestors, TenantKey: e.TenantKey, Agent: e.Agent, Model: e.Model, BilledModel: e.BilledModel,
			AdmittedAt: e.AdmittedAt, Corrects: e.ID, IdempotencyKey: key, Reported: -1, Charged: book.Amount{Cost: cost},
		}}
	}
	db.now = noon.Add(time.Hour)
	require.Equal(t, codes{decide.Settled, decide.Duplicate}, db.codes(correction(2, "first", 5), correction(3, "first", 5)))
	for _, scope := range []book.Scope{day, dayA, dayM, month} {
		require.Equal(t, book.Amount{Cost: 15, Tokens: 1, Calls: 1}, db.balance(scope).Spent, scope)
	}
	spent := func(tenant book.ID) int64 { return db.tenants[tenant].Balance(day).Spent.Cost }
	require.Equal(t, []int64{15, 0}, []int64{spent(group), spent(globex)}, "for who stood above then")
	e := db.execution(2)
	require.Equal(t, []time.Time{noon, noon, db.now, db.now}, []time.Time{e.AdmittedAt, e.DeadlineAt, e.FinishedAt, e.SettledAt})
	require.Equal(t, book.Adjusted, e.Status)

	db.now = noon.Add(24 * time.Hour)
	require.Equal(t, codes{decide.Granted, decide.Released}, db.codes(ask(4, 1), release(4)), "a new day begins")
	require.Equal(t, codes{decide.Settled}, db.codes(correction(5, "second", -12)))
	require.Zero(t, db.balance(day).Spent.Cost, "its own is over")
	require.EqualValues(t, 3, db.balance(month).Spent.Cost)
	require.EqualValues(t, 3, db.hours[book.HourKey{Tenant: acme, Hour: noon, Agent: "a", Model: "m", BilledModel: "m-1"}].Charged.Cost)

	db.busy[group] = true
	require.Equal(t, codes{decide.Busy}, db.codes(correction(6, "third", 1)))
}
