package decide_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
)

// Two processes have zone data of different versions: for the one Edmonton has standard time in winter, for the other it
// stays an hour ahead.
func TestWindow_TheStoredEndHoldsWhereTwoProcessesSeeAZoneOtherwise(t *testing.T) {
	t.Parallel()

	older, newer := time.FixedZone("older", -7*3600), time.FixedZone("newer", -6*3600)
	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard, costs(day, 100))
	sees := func(zone *time.Location) { db.config.Zone = func(string) *time.Location { return zone } }
	at := func(s string) time.Time {
		at, err := time.Parse(time.RFC3339, s)
		require.NoError(t, err)
		return at
	}
	window := func(start, end string) {
		t.Helper()
		require.Equal(t, []time.Time{at(start), at(end)}, []time.Time{db.balance(day).Start, db.balance(day).End})
	}
	db.now = at("2026-12-01T12:00:00Z")
	sees(older)
	require.Equal(t, codes{decide.Granted, decide.Settled}, db.codes(ask(1, 100), settle(1, 100)))
	window("2026-12-01T07:00:00Z", "2026-12-02T07:00:00Z")

	db.now = at("2026-12-02T06:30:00Z")
	sees(newer)
	require.Equal(t, codes{decide.Exceeded}, db.codes(ask(2, 1)), "midnight as the newer sees it ends nothing")
	window("2026-12-01T07:00:00Z", "2026-12-02T07:00:00Z")

	db.now = at("2026-12-02T07:00:00Z")
	require.Equal(t, codes{decide.Granted, decide.Settled}, db.codes(ask(3, 100), settle(3, 100)))
	window("2026-12-02T07:00:00Z", "2026-12-03T06:00:00Z") // up to the next midnight of whoever opens it

	db.now = at("2026-12-03T06:00:00Z")
	sees(older)
	require.Equal(t, codes{decide.Granted}, db.codes(ask(4, 100)))
	window("2026-12-03T06:00:00Z", "2026-12-03T07:00:00Z")
}

// Whoever decides, windows follow each other without a gap, none opens again, and a window has its limit once.
func TestWindow_TilesTimeWhoeverOpensIt(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		db := newDatabase(t)
		db.tenant(acme, "acme", book.Hard, costs(day, 100))
		offset := rapid.IntRange(-12, 13)
		zones := []*time.Location{time.FixedZone("a", 3600*offset.Draw(t, "a")), time.FixedZone("b", 3600*offset.Draw(t, "b"))}
		admitted := map[time.Time]int64{} // by the start of the window
		last := db.balance(day)
		for n := range rapid.IntRange(1, 30).Draw(t, "calls") {
			db.config.Zone = func(string) *time.Location { return zones[rapid.IntRange(0, 1).Draw(t, "whose")] }
			db.now = db.now.Add(time.Duration(rapid.Int64Range(0, 600).Draw(t, "minutes")) * time.Minute)
			cost := rapid.Int64Range(1, 100).Draw(t, "cost")
			out := db.run(ask(n+1, cost))[0]
			b := db.balance(day)
			if out.Code == decide.Granted {
				admitted[b.Start] += cost
				require.LessOrEqual(t, admitted[b.Start], int64(100))
			}
			if !b.Start.Equal(last.Start) {
				require.False(t, b.Start.Before(last.End), "it begins where the one before ended, or later")
				require.LessOrEqual(t, b.End.Sub(b.Start), 24*time.Hour)
			} else {
				require.Equal(t, last.End, b.End, "a stored end stays")
			}
			require.False(t, db.now.Before(b.Start) || !db.now.Before(b.End))
			last = b
		}
	})
}
