package tenantui

import (
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

var (
	cent    = decimal.New(1, -2)
	hundred = decimal.NewFromInt(100)
)

// dollars writes an amount for people: whole cents, and two significant digits of what is less than one.
func dollars(d decimal.Decimal) string {
	sign := ""
	if d.IsNegative() {
		sign, d = "−", d.Neg()
	}
	if d.IsZero() {
		return "$0.00"
	}
	if d.LessThan(cent) {
		places := leading(d)
		return sign + "$" + d.StringFixed(leading(d.Round(places+1))+1)
	}
	return sign + "$" + grouped(d.StringFixed(2))
}

// leading is the place of the first digit of what is less than one that is not zero.
func leading(d decimal.Decimal) int32 {
	places := int32(2)
	for least := cent; d.IsPositive() && d.LessThan(least); least = least.Shift(-1) {
		places++
	}
	return places
}

// grouped puts commas into the whole part of a decimal number.
func grouped(s string) string {
	whole, rest, fraction := strings.Cut(s, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "−", whole[1:]
	}
	var b strings.Builder
	for i, c := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	if fraction {
		return sign + b.String() + "." + rest
	}
	return sign + b.String()
}

// count writes a number of calls or tokens in full.
func count(n int64) string { return grouped(strconv.FormatInt(n, 10)) }

// short writes a number for the axis of a chart: 1.2k, 3.4M.
func short(d decimal.Decimal) string {
	for _, u := range []struct {
		unit   string
		factor int32
	}{{"B", 9}, {"M", 6}, {"k", 3}} {
		if least := decimal.New(1, u.factor); d.Abs().GreaterThanOrEqual(least) {
			return d.Shift(-u.factor).Round(1).String() + u.unit
		}
	}
	return d.String()
}

// percent writes a part in per cent, in whole ones but near the ends.
func percent(d decimal.Decimal) string {
	switch {
	case d.IsNegative() && d.GreaterThan(decimal.NewFromInt(-1)):
		return "≈ 0 %"
	case d.IsNegative():
		return "−" + percent(d.Neg())
	case d.IsZero(), d.Equal(d.Round(0)):
		return d.Round(0).String() + " %"
	case d.LessThan(decimal.NewFromInt(1)) && d.IsPositive():
		return "< 1 %"
	case d.LessThan(hundred) && d.GreaterThan(decimal.NewFromInt(99)):
		return "> 99 %"
	}
	return d.Round(0).String() + " %"
}

// change says how a figure stands to the one before it.
func change(now, before decimal.Decimal) string {
	switch {
	case before.IsZero() && now.IsZero():
		return "—"
	case before.IsZero():
		return "new"
	}
	by := now.Sub(before).Mul(hundred).DivRound(before.Abs(), 1)
	switch {
	case by.IsZero():
		return "as before"
	case by.GreaterThanOrEqual(decimal.NewFromInt(1000)):
		return "> 10 ×"
	case by.IsPositive():
		return "+" + by.Round(0).String() + " %"
	}
	return "−" + by.Neg().Round(0).String() + " %"
}

const (
	minuteLayout = "2006-01-02 15:04"
	secondLayout = "2006-01-02 15:04:05"
)

// at writes a time in a zone, to the minute.
func at(t time.Time, zone *time.Location) string { return clock(t, zone, minuteLayout) }

// exactly writes a time in a zone, to the second.
func exactly(t time.Time, zone *time.Location) string { return clock(t, zone, secondLayout) }

// clock writes a time in a zone. On a day on which its clocks are changed it says which of them is meant: an hour may be there twice.
func clock(t time.Time, zone *time.Location, layout string) string {
	if t.IsZero() {
		return ""
	}
	t = t.In(zone)
	year, month, day := t.Date()
	_, before := time.Date(year, month, day, 0, 0, 0, 0, zone).Zone()
	_, after := time.Date(year, month, day+1, 0, 0, 0, 0, zone).Zone()
	if before != after {
		layout += " MST"
	}
	return t.Format(layout)
}

// lasting writes a span of time in its largest one or two units.
func lasting(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours())/24)
}

// functions are those of the templates.
var functions = template.FuncMap{"cellOf": cellOf, "tenantPage": tenantPage}
