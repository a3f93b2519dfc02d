package main

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

func TestMain(m *testing.M) {
	if isWorker() {
		os.Exit(workerMain())
	}
	pgtest.Main(m)
}

// Its length is short for the sake of CI's time. "go run ./chaos" makes longer ones.
func TestChaos_BreaksNoPromise(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]config{
		"in one place": {Places: 0, Duration: 12 * time.Second},
		"in places":    {Places: 2, Duration: 8 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			server, err := pgtest.Start(t.Context())
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, server.Close()) })
			of := defaults()
			of.URL, of.Duration, of.Places = server.URL(), c.Duration, c.Places
			of.Restart = func(ctx context.Context) error { return server.Restart(ctx, pgtest.Immediate) }
			violations, err := run(t.Context(), of, t.Output())
			require.NoError(t, err)
			require.Empty(t, violations, report(violations))
		})
	}
}

func TestLargest_IsTheLargestAmountThatMayHaveBeenInForce(t *testing.T) {
	t.Parallel()
	at := func(second int64) time.Time { return time.Unix(second, 0) }
	history := []change{
		{began: at(0), done: at(1), amount: 10},
		{began: at(10), done: at(12), amount: 5},
		{began: at(20), amount: 30}, // its answer was lost
		{began: at(30), done: at(31), amount: 2},
	}
	for second, want := range map[int64]int64{1: 10, 9: 10, 11: 10, 12: 5, 19: 5, 20: 30, 29: 30, 30: 30, 31: 2, 99: 2} {
		require.Equal(t, want, largest(history, at(second)), "at second %d", second)
	}
	require.EqualValues(t, 10, largestWithin(history, at(1), at(9)))
	require.EqualValues(t, 30, largestWithin(history, at(13), at(99)))
	require.EqualValues(t, 2, largestWithin(history, at(31), at(99)))
}

func TestCosts_AreThoseOfThePricesInEffectWhileTheCallRan(t *testing.T) {
	t.Parallel()
	u := tenant.Usage{Output: 1000}
	at := func(d time.Duration) time.Time { return time.Unix(0, 0).Add(2000*term + d) }
	require.ElementsMatch(t, []int64{10e6, 10e6}, prices{}.costs(u, at(0), at(term-1)))
	require.ElementsMatch(t, []int64{10e6, 12e6}, prices{}.costs(u, at(term-1), at(term)))
	require.ElementsMatch(t, []int64{12e6, 10e6, 12e6}, prices{}.costs(u, at(-1), at(term)))
}

// The executions are of a limit of three calls a day, in Berlin, where the day ends at 23:00 UTC.
func TestNeverOver_FindsWhatPassesALimitInItsWindow(t *testing.T) {
	t.Parallel()
	zone, err := time.LoadLocation("Europe/Berlin")
	require.NoError(t, err)
	at := func(clock string) time.Time {
		at, err := time.Parse(time.RFC3339, "2027-01-01T"+clock+"Z")
		require.NoError(t, err)
		return at
	}
	call := func(admitted, ended, status string) *execution {
		e := &execution{ID: admitted, Status: status, AdmittedAt: at(admitted), DeadlineAt: at(admitted).Add(time.Hour)}
		end := at(ended)
		e.FinishedAt = &end
		if status == "succeeded" {
			e.SettledAt, e.Calls = &end, 1
		}
		return e
	}
	of := rule{"day", "calls"}
	three := []change{{began: at("00:00:00"), done: at("00:00:01"), amount: 3}}
	for name, c := range map[string]struct {
		found int
		calls []*execution
	}{
		"as many as there may be, in each of two days": {0, []*execution{
			call("22:00:00", "22:00:01", "succeeded"), call("22:00:00", "23:00:01", "succeeded"), call("22:59:59", "23:00:01", "succeeded"),
			call("23:00:00", "23:00:01", "succeeded"), call("23:00:00", "23:00:01", "succeeded"), call("23:00:00", "23:00:01", "succeeded"),
		}},
		"one more, in the second day": {2, []*execution{
			call("22:59:59", "23:00:01", "succeeded"),
			call("23:00:00", "23:00:01", "succeeded"), call("23:00:00", "23:00:01", "succeeded"), call("23:00:00", "23:00:01", "succeeded"),
			call("23:00:02", "23:00:03", "succeeded"),
		}},
		"a released hold makes room": {0, []*execution{
			call("23:00:00", "23:00:01", "cancelled"), call("23:00:00", "23:00:01", "succeeded"), call("23:00:00", "23:00:01", "succeeded"),
			call("23:00:02", "23:00:03", "succeeded"),
		}},
		"but not before it is released": {1, []*execution{
			call("23:00:00", "23:00:03", "cancelled"), call("23:00:00", "23:00:01", "succeeded"), call("23:00:00", "23:00:01", "succeeded"),
			call("23:00:02", "23:00:03", "succeeded"),
		}},
		"and not in another day": {2, []*execution{
			call("22:59:59", "23:00:01", "cancelled"),
			call("23:00:00", "23:00:01", "succeeded"), call("23:00:00", "23:00:01", "succeeded"), call("23:00:00", "23:00:01", "succeeded"),
			call("23:00:02", "23:00:03", "succeeded"),
		}},
	} {
		r := &runner{}
		r.clock.zone = zone
		r.neverOver("acme", of, three, c.calls)
		require.Len(t, r.violations, c.found, "%s: %v", name, r.violations)
	}
}

func TestTimely_FindsATimeThatIsNotTheDatabases(t *testing.T) {
	t.Parallel()
	at := func(second int64) time.Time { return time.Unix(second, 0) }
	settledAt := at(20)
	row := &execution{AdmittedAt: at(10), SettledAt: &settledAt}
	for _, c := range []struct {
		found        int
		what         string
		since, until time.Time
	}{
		{0, held, at(10), at(10)},
		{1, held, at(11), at(20)},
		{1, held, at(5), at(9)},
		{0, settled, at(19), at(21)},
		{1, settled, at(10), at(19)},
		{0, pending, at(10), at(19)},
		{0, held, time.Time{}, at(9)},
	} {
		r := &runner{}
		r.clock.zone = time.UTC
		r.timely(entry{What: c.what, Since: c.since, Until: c.until}, row)
		require.Len(t, r.violations, c.found, "%+v", c)
	}
}

func TestNeverOver_HoldsACallThatHoldsNothingToNoLimit(t *testing.T) {
	t.Parallel()
	at := func(second int64) time.Time { return time.Unix(1_900_000_000+second, 0) }
	for found, cost := range []int64{0, 1} {
		r := &runner{}
		r.clock.zone = time.UTC
		settledAt := at(2)
		r.neverOver("acme", rule{"day", "cost"}, []change{{began: at(0), done: at(0), amount: 100}}, []*execution{
			{ID: "over", Status: "succeeded", AdmittedAt: at(1), DeadlineAt: at(60), SettledAt: &settledAt, HeldCost: 90, Cost: 101, OverrunCost: 11},
			{ID: "next", Status: "running", AdmittedAt: at(3), DeadlineAt: at(60), HeldCost: cost},
		})
		require.Len(t, r.violations, found, "%v", r.violations)
	}
}
