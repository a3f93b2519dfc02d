package main_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
)

// The command has the days and the weeks of the programs beside it, without a flag. A flag is obeyed, and told where it says something else; and what the
// command does never changes what the programs have saved.
func TestDays_AreThoseOfTheProgramsOfTheLedger(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *books) {
		b.fill(3)
		usage := func(flags ...string) (days tenant.UsageAnswer, problems string) {
			t.Helper()
			r := run(t, b.env, append([]string{"usage", "--period", "2026-03-02", "--by", "week", "--json"}, flags...)...)
			require.Equal(t, 0, r.code, r.problems)
			require.NoError(t, json.Unmarshal([]byte(r.out), &days))
			return days, r.problems
		}
		days, problems := usage()
		require.Equal(t, "UTC", days.TimeZone)
		require.Equal(t, []string{"2026-03-02"}, days.Rows[0].Keys)
		require.Empty(t, problems)

		// Another version of the program has another zone, and weeks that begin on Sunday.
		require.NoError(t, b.Close(t.Context()))
		var err error
		b.Ledger, err = tenant.Open(b.db, tenant.WithDefaultTimeZone("Asia/Tokyo"), tenant.WithWeekStart(time.Sunday))
		require.NoError(t, err)
		_, err = b.Record(t.Context(), tenant.ID("acme"), tenant.Actual{Cost: tenant.USD("0.25")})
		require.NoError(t, err)
		require.NoError(t, b.Close(t.Context()))
		days, problems = usage()
		require.Equal(t, "Asia/Tokyo", days.TimeZone)
		require.Equal(t, "2026-03-01T15:00:00Z", days.From.Format(time.RFC3339))
		require.Equal(t, []string{"2026-03-01"}, days.Rows[0].Keys)
		require.Empty(t, problems)
		require.Contains(t, b.ok("tenant", "show", "acme"), "Asia/Tokyo")

		days, problems = usage("--time-zone", "Asia/Tokyo", "--week-start", "sunday")
		require.Equal(t, "Asia/Tokyo", days.TimeZone)
		require.Empty(t, problems, "it is what is saved")
		days, problems = usage("--time-zone", "Europe/Paris", "--week-start", "monday")
		require.Equal(t, "Europe/Paris", days.TimeZone)
		require.Equal(t, []string{"2026-03-02"}, days.Rows[0].Keys)
		require.Contains(t, problems, "--time-zone is Europe/Paris, and the programs of this ledger have Asia/Tokyo")
		require.Contains(t, problems, "--week-start is monday, and the programs of this ledger have sunday")

		b.ok("credit", "acme", "0.01", "--reason", "goodwill", "--time-zone", "Europe/Paris")
		days, _ = usage()
		require.Equal(t, "Asia/Tokyo", days.TimeZone, "a command saves nothing of the kind")

		// The program goes back to what nobody needs to say.
		b.Ledger, err = tenant.Open(b.db)
		require.NoError(t, err)
		_, err = b.Record(t.Context(), tenant.ID("acme"), tenant.Actual{Cost: tenant.USD("0.25")})
		require.NoError(t, err)
		days, _ = usage()
		require.Equal(t, "UTC", days.TimeZone)
		require.Equal(t, []string{"2026-03-02"}, days.Rows[0].Keys)
	})
}

// On the day on which clocks are put back, an hour is there twice, and the command says which one is meant.
func TestTimes_SayWhichClockWhereClocksAreChanged(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *books) {
		b.fill(3)
		_, err := b.Import(t.Context(), "october", func(yield func(tenant.ImportedCall, error) bool) {
			for i, at := range []string{"2025-10-26T00:40:00Z", "2025-10-26T01:40:00Z"} {
				when, err := time.Parse(time.RFC3339, at)
				require.NoError(t, err)
				if !yield(tenant.ImportedCall{ID: at, Tenant: tenant.ID("evil"), At: when, Actual: tenant.Actual{Cost: tenant.USD("1"), Usage: tenant.Usage{Input: int64(i)}}}, nil) {
					return
				}
			}
		})
		require.NoError(t, err)
		require.Contains(t, b.ok("usage", "evil", "--period", "2025-10-26"), "2025-10-26 00:00 CEST to 2025-10-27 00:00 ")
		hours := b.ok("usage", "evil", "--period", "2025-10-26T00:00:00Z..2025-10-26T02:00:00Z", "--by", "hour")
		require.Contains(t, hours, "2025-10-26 02:00 CEST to 2025-10-26 03:00 CET")
		require.Contains(t, hours, "2025-10-26T02:00:00+02:00")
		require.Contains(t, hours, "2025-10-26T02:00:00+01:00")
	})
}
