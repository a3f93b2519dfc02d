package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/shopspring/decimal"
)

// output is where results go. It keeps the first error, so that whatever is written after it is nowhere.
type output struct {
	w   io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.w.Write(p)
	o.err = err
	return n, err
}

// say writes a line. Texts of others in it are to be plain.
func (o *output) say(format string, args ...any) { _, _ = fmt.Fprintf(o, format+"\n", args...) }

// json writes a value as JSON, in one line. What a terminal would take for a command is written as an escape.
func (o *output) json(v any) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		if o.err == nil {
			o.err = err
		}
		return
	}
	_, _ = io.WriteString(o, escaped(b.String()))
}

func escaped(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xFFFF:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xD800+r>>10, 0xDC00+r&0x3FF)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// plain is a text of others as a terminal may have it: what does not print is written as an escape.
func plain(s string) string {
	for _, r := range s {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			q := strconv.Quote(s)
			return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
		}
	}
	return s
}

// quoted is fmt.Sprintf for texts with %q: strconv.Quote leaves nothing that a terminal would obey.
func quoted(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// widest is how many characters of a cell are shown.
const widest = 60

// mostLines is how many lines of a table are shown. --json has all.
const mostLines = 1000

// table is lines of cells below a header. A header that begins with a number sign is of a column of numbers.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// write writes the table, or what is said where it is empty.
func (t *table) write(o *output, empty string) {
	if len(t.rows) == 0 {
		o.say("%s", empty)
		return
	}
	rows := t.rows
	if len(rows) > mostLines {
		rows = rows[:mostLines]
	}
	lines := append([][]string{t.head}, rows...)
	widths := make([]int, len(t.head))
	for i, line := range lines {
		cells := make([]string, len(line))
		for j, cell := range line {
			if i == 0 {
				cell = strings.TrimPrefix(cell, "#")
			}
			cells[j] = shortened(plain(cell))
			widths[j] = max(widths[j], utf8.RuneCountInString(cells[j]))
		}
		lines[i] = cells
	}
	w := tabwriter.NewWriter(o, 0, 0, 2, ' ', 0)
	for _, line := range lines {
		for j, cell := range line {
			if strings.HasPrefix(t.head[j], "#") {
				cell = strings.Repeat(" ", widths[j]-utf8.RuneCountInString(cell)) + cell
			}
			end := "\t"
			if j == len(line)-1 {
				end = "\n"
			}
			_, _ = io.WriteString(w, cell+end)
		}
	}
	_ = w.Flush() // to an output, which keeps its error
	if more := len(t.rows) - len(rows); more > 0 {
		o.say("… and %d more lines; --json has all", more)
	}
}

func shortened(s string) string {
	if utf8.RuneCountInString(s) <= widest {
		return s
	}
	r := []rune(s)
	return string(r[:widest-1]) + "…"
}

// dollars is an amount, exact to the nano-dollar, with two digits behind the point at least.
func dollars(d decimal.Decimal) string {
	places := max(2, -d.Exponent())
	s := d.StringFixed(places)
	for places > 2 && strings.HasSuffix(s, "0") {
		s, places = s[:len(s)-1], places-1
	}
	return s
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

// instant is a time in a zone, which the table says the name of.
func instant(t time.Time, zone *time.Location) string {
	if t.IsZero() {
		return "—"
	}
	return clock(t, zone, "2006-01-02 15:04:05")
}

// clock writes a time in a zone. On a day on which its clocks are changed it says which of them is meant: an hour may be there twice.
func clock(t time.Time, zone *time.Location, layout string) string {
	t = t.In(zone)
	year, month, day := t.Date()
	_, before := time.Date(year, month, day, 0, 0, 0, 0, zone).Zone()
	_, after := time.Date(year, month, day+1, 0, 0, 0, 0, zone).Zone()
	if before != after {
		layout += " MST"
	}
	return t.Format(layout)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
