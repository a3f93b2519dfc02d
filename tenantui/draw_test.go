package tenantui

import (
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
)

func TestDollars_KeepTwoDigitsOfWhatIsLessThanACent(t *testing.T) {
	t.Parallel()
	for amount, want := range map[string]string{
		"0": "$0.00", "0.01": "$0.01", "0.014": "$0.01", "12.345": "$12.35", "1234567.5": "$1,234,567.50", "-4.5": "−$4.50",
		"0.009": "$0.0090", "0.0042": "$0.0042", "0.00425": "$0.0043", "0.000000001": "$0.0000000010", "0.0000999": "$0.00010", "-0.000123": "−$0.00012",
	} {
		require.Equal(t, want, dollars(decimal.RequireFromString(amount)), amount)
	}
	for percentage, want := range map[string]string{"0": "0 %", "0.2": "< 1 %", "50.4": "50 %", "99.96": "> 99 %", "100": "100 %", "164.2": "164 %", "-0.3": "≈ 0 %", "-12": "−12 %"} {
		require.Equal(t, want, percent(decimal.RequireFromString(percentage)), percentage)
	}
	for amount, want := range map[string]string{"999": "999", "1200": "1.2k", "20000000": "20M", "0": "0"} {
		require.Equal(t, want, short(decimal.RequireFromString(amount)))
	}
	require.Equal(t, []string{"+50 %", "−50 %", "new", "—", "as before"}, []string{
		change(decimal.New(3, 0), decimal.New(2, 0)), change(decimal.New(1, 0), decimal.New(2, 0)), change(decimal.New(1, 0), decimal.Zero), change(decimal.Zero, decimal.Zero), change(cent, cent),
	})
	require.Equal(t, []string{"250 ms", "1.5 s", "2 min 5 s", "3 h 0 min", "3 days"}, []string{
		lasting(250 * time.Millisecond), lasting(1500 * time.Millisecond), lasting(125 * time.Second), lasting(3 * time.Hour), lasting(80 * time.Hour),
	})
}

// On the days on which clocks are changed, times say which clock: an hour is there twice, or is not there.
func TestTimes_SayWhichClockWhereClocksAreChanged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ zone, at, want string }{
		{"Europe/Vienna", "2027-10-31T00:15:00Z", "2027-10-31 02:15 CEST"},
		{"Europe/Vienna", "2027-10-31T01:15:00Z", "2027-10-31 02:15 CET"},
		{"Europe/Vienna", "2027-03-28T01:00:00Z", "2027-03-28 03:00 CEST"},
		{"Europe/Vienna", "2027-10-29T22:15:00Z", "2027-10-30 00:15"},
		{"Europe/Vienna", "2027-10-31T23:00:00Z", "2027-11-01 00:00"},
		{"America/Santiago", "2026-04-05T03:30:00Z", "2026-04-04 23:30 -04"},
		{"America/Santiago", "2026-04-05T02:30:00Z", "2026-04-04 23:30 -03"},
		{"UTC", "2027-10-31T01:15:00Z", "2027-10-31 01:15"},
	} {
		zone, err := time.LoadLocation(c.zone)
		require.NoError(t, err)
		when, err := time.Parse(time.RFC3339, c.at)
		require.NoError(t, err)
		require.Equal(t, c.want, at(when, zone), "%s in %s", c.at, c.zone)
	}
}

func TestChart_BarsAreAsHighAsTheirValues(t *testing.T) {
	t.Parallel()
	d := func(values ...int64) (all []decimal.Decimal) {
		for _, v := range values {
			all = append(all, decimal.New(v, 0))
		}
		return all
	}
	c := plot{id: "c", title: "C", series: []string{"a", "b"}, before: "before", write: dollars, axis: axisDollars, value: money}.draw([]span{
		{Label: "Mon", Parts: d(30, 10), Before: decimal.New(20, 0)}, {Label: "Tue", Parts: d(0, 60)}, {Label: "Wed", Parts: d(0, 0)}, {Label: "Thu", Parts: d(-5, 0)},
	})
	require.Equal(t, []string{"$60", "$30", "$0"}, c.Ticks)
	require.Equal(t, []part{{"s1", "1.5", "50", "50"}, {"s2", "1.5", "33.33", "16.67"}}, c.Bars[0].Parts, "stacked from the ground")
	require.Equal(t, []part{{"s2", "11.5", "0", "100"}}, c.Bars[1].Parts)
	require.Empty(t, c.Bars[2].Parts)
	require.Empty(t, c.Bars[3].Parts, "what is below nothing has no bar, and stands in the table")
	require.Equal(t, "M0 66.67h10L10 100h10L20 100h10L30 100h10", c.Before)
	require.Equal(t, "Mon: $40.00 (a $30.00, b $10.00); before $20.00", c.Bars[0].Title)
	require.Equal(t, "−$5.00", c.Table.Rows[3][1].Text)
	for v, want := range map[string]string{"1": "1", "1.01": "1.2", "0.0072": "0.008", "13": "15", "99": "100", "100.5": "120", "12345": "15000"} {
		require.Equal(t, want, ceiling(decimal.RequireFromString(v)).String(), v)
	}
	require.Empty(t, plot{write: dollars, axis: axisDollars, value: money, series: []string{"a"}}.draw([]span{{Label: "Mon", Parts: d(0)}}).Bars)
}

func TestCells_ThatASpreadsheetWouldRunAreText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`=HYPERLINK("x")`: `'=HYPERLINK("x")`, "+1": "'+1", "-4.5": "-4.5", "-1+1": "'-1+1", "@x": "'@x", "\t=1": "'\t=1", "plain": "plain", "": "", "12.50": "12.50",
	} {
		require.Equal(t, want, harmless(in))
	}
}

// luminance is that of a colour, by the WCAG.
func luminance(t *testing.T, hex string) float64 {
	var l float64
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(hex[1+2*i:3+2*i], 16, 8)
		require.NoError(t, err)
		c := float64(n) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		l += weight * c
	}
	return l
}

func contrast(t *testing.T, a, b string) float64 {
	x, y := luminance(t, a), luminance(t, b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func TestStyle_ColoursCanBeToldApartInLightAndDark(t *testing.T) {
	t.Parallel()
	css, err := os.ReadFile("assets/style.css")
	require.NoError(t, err)
	var themes [2]map[string]string
	for i := range themes {
		themes[i] = map[string]string{}
		for _, m := range regexp.MustCompile(`--([a-z0-9-]+): light-dark\((?:var\(--[a-z-]+, )?(#[0-9a-f]{6})\)?, (?:var\(--[a-z-]+, )?(#[0-9a-f]{6})\)?\)`).FindAllStringSubmatch(string(css), -1) {
			themes[i][m[1]] = m[2+i]
		}
		require.Len(t, themes[i], 20)
	}
	for i, theme := range themes {
		for _, ground := range []string{"surface", "bg", "raised"} {
			for _, ink := range []string{"ink", "muted", "accent", "good", "warn", "bad"} {
				require.GreaterOrEqual(t, contrast(t, theme[ink], theme[ground]), 4.5, "theme %d: %s on %s", i, ink, ground)
			}
		}
		require.GreaterOrEqual(t, contrast(t, theme["on-accent"], theme["accent"]), 4.5)
		require.GreaterOrEqual(t, contrast(t, theme["warn"], theme["warn-wash"]), 4.5)
		require.GreaterOrEqual(t, contrast(t, theme["bad"], theme["bad-wash"]), 4.5)
		for n := 1; n <= 7; n++ {
			require.GreaterOrEqual(t, contrast(t, theme["c"+strconv.Itoa(n)], theme["surface"]), 3.0, "theme %d: c%d", i, n)
		}
	}
	require.Equal(t, strings.Count(string(css), "{"), strings.Count(string(css), "}"))
}
