package tenantui

import (
	"encoding/csv"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant/internal/export"
)

// table is a table of a page. Each is a CSV too.
type table struct {
	ID      string // of the element, and the value of the parameter csv
	Caption string
	Head    []column
	Rows    [][]cell
	Empty   string // what is said where there are no rows
	CSV     string // the address of the CSV
	Next    string // the address of the next page, if there is one
	Foot    string // a remark
	Hide    bool   // behind a summary: the table of a chart
}

type column struct {
	Name   string
	Number bool // set to the right
}

func heads(names ...string) []column {
	all := make([]column, len(names))
	for i, n := range names {
		name, number := strings.CutPrefix(n, "#")
		all[i] = column{name, number}
	}
	return all
}

// cell is a figure or a text of a table.
type cell struct {
	Text  string
	Value string // in the CSV; the text where it is empty
	Link  string
	Badge string // a class of badge to show the text as
	Bar   string // how much of the cell's bar is full, 0 to 100, as a number; empty for none
	Meter string // a class of the bar
	Class string
}

// cellOf is a cell as it is shown in its column.
func cellOf(head []column, i int, c cell) cell {
	if i < len(head) && head[i].Number {
		c.Class = strings.TrimSpace("n " + c.Class)
	}
	return c
}

func text(s string) cell { return cell{Text: s} }

func money(d decimal.Decimal) cell { return cell{Text: dollars(d), Value: d.String()} }

// exact is an amount to the last digit.
func exact(d decimal.Decimal) cell {
	sign := ""
	if d.IsNegative() {
		sign, d = "−", d.Neg()
	}
	shown := d.String()
	if d.Equal(d.Round(2)) {
		shown = d.StringFixed(2)
	}
	return cell{Text: sign + "$" + grouped(shown), Value: strings.Replace(sign, "−", "-", 1) + d.String()}
}

// whole is a text that is kept in one line where it is short.
func (c cell) whole() cell {
	if len(c.Text) <= 24 {
		c.Class = strings.TrimSpace(c.Class + " one")
	}
	return c
}

func number(n int64) cell { return cell{Text: count(n), Value: strconv.FormatInt(n, 10)} }

func timeCell(t time.Time, zone *time.Location) cell {
	if t.IsZero() {
		return cell{Text: "—", Value: " "}
	}
	return cell{Text: at(t, zone), Value: t.UTC().Format(time.RFC3339Nano)}
}

// quoted is an id or a name, or what stands for one that is absent.
func named(s, otherwise string) cell {
	if s == "" {
		return cell{Text: otherwise, Value: " ", Class: "none"}
	}
	return text(s)
}

func (c cell) linked(to string) cell { c.Link = to; return c }

func (c cell) badged(class string) cell { c.Badge = class; return c }

// bar gives a cell a bar in proportion to the largest one.
func (c cell) bar(part, whole decimal.Decimal) cell {
	c.Bar = "0"
	if whole.IsPositive() && part.IsPositive() {
		c.Bar = part.Mul(hundred).DivRound(whole, 2).String()
	}
	return c
}

// plain is the cell as it stands in a CSV: what a spreadsheet would run as a formula is made text.
func (c cell) plain() string {
	s := c.Value
	if s == "" {
		s = c.Text
	}
	return harmless(strings.TrimSpace(s))
}

// harmless puts an apostrophe before what a spreadsheet would run. A number is none of that.
func harmless(s string) string {
	if _, err := decimal.NewFromString(s); err == nil && s[0] != '+' {
		return s
	}
	return string(export.Harmless([]byte(s)))
}

// writeCSV writes a table.
func writeCSV(w http.ResponseWriter, t *table) error {
	out := startCSV(w, t.ID)
	line := make([]string, len(t.Head))
	for i, c := range t.Head {
		line[i] = c.Name
	}
	if err := out.Write(line); err != nil {
		return err
	}
	for _, row := range t.Rows {
		for i, c := range row {
			line[i] = c.plain()
		}
		if err := out.Write(line[:len(row)]); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

func startCSV(w http.ResponseWriter, name string) *csv.Writer {
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`.csv"`)
	return csv.NewWriter(w)
}

// address is a relative address of a page with parameters; those without a value are left out.
func address(page string, parameters ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(parameters); i += 2 {
		if parameters[i+1] != "" {
			q.Add(parameters[i], parameters[i+1])
		}
	}
	if page == "" {
		page = "./"
	}
	if len(q) == 0 {
		return page
	}
	return page + "?" + q.Encode()
}

func tenantPage(id string) string { return address("tenant", "id", id) }
