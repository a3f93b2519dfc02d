package period_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/period"
)

func TestOffsets_AreTheSameWhereTheOffsetsAre(t *testing.T) {
	t.Parallel()

	of := func(name string) []string { return period.Offsets(zone(t, name), 2026, 6) }
	berlin := of("Europe/Berlin")
	require.Len(t, berlin, 6)
	require.Equal(t, berlin, of("Europe/Berlin"))
	require.Equal(t, berlin, of("Europe/Paris"), "another name with the same clocks")
	require.NotEqual(t, berlin[0], of("Africa/Tunis")[0], "the same in winter")
	require.Equal(t, of("UTC"), of("Etc/UTC"))
	require.NotEqual(t, of("UTC"), of("Etc/GMT+1"))

	later := period.Offsets(zone(t, "Europe/Berlin"), 2027, 5)
	require.Equal(t, berlin[1:], later, "a year's text is the same from whatever year it is asked")
}

// A zone is compared with itself at a different date of a change: its texts differ in the years in which its offsets do.
func TestOffsets_DifferInTheYearsInWhichTheOffsetsDo(t *testing.T) {
	t.Parallel()

	for _, name := range strings.Fields(zoneNames) {
		loc := zone(t, name)
		years := period.Offsets(loc, 1970, 80)
		changed := map[int]bool{}
		for _, at := range changes(loc) {
			changed[at.Year()] = true
		}
		for i := range years {
			year := 1970 + i
			_, offset := time.Date(year, time.January, 1, 0, 0, 0, 0, time.UTC).In(loc).Zone()
			fixed := period.Offsets(time.FixedZone("", offset), year, 1)[0]
			require.Equal(t, !changed[year], years[i] == fixed, "%s in %d", name, year)
		}
	}
}
