package tenantui

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/shopspring/decimal"
)

// chart is a chart of bars, one for each span of time, that are stacked of parts.
type chart struct {
	ID, Title string
	Empty     string
	Summary   string // the whole in words
	Width     int
	Legend    []legend
	Ticks     []string // from the top
	Labels    []string // from the left
	Bars      []bar
	Before    string // the path of the line of the period before
	Table     *table
}

type legend struct{ Name, Class string }

type bar struct {
	Title string
	X     int
	Parts []part
}

type part struct{ Class, X, Y, H string }

// span is what a bar is made of.
type span struct {
	Label  string
	Axis   string            // a shorter label, for below the chart; the label where it is empty
	Parts  []decimal.Decimal // in the order of the series
	Before decimal.Decimal   // what the span before it, by the length of the whole chart, came to
}

// plot says how a chart is drawn.
type plot struct {
	id, title, empty string
	series           []string
	colours          []int  // of the series; nil: in their order
	before           string // what the line is called; empty for none
	write, axis      func(decimal.Decimal) string
	value            func(decimal.Decimal) cell
}

const topOfChart = 100

// draw makes a chart of spans.
func (p plot) draw(spans []span) *chart {
	c := &chart{ID: p.id, Title: p.title, Empty: p.empty, Width: 10 * len(spans)}
	most, sum, sumBefore := decimal.Zero, decimal.Zero, decimal.Zero
	for _, s := range spans {
		total := s.total()
		sum, sumBefore = sum.Add(total), sumBefore.Add(s.Before)
		most = decimal.Max(most, total, s.Before)
	}
	c.Table = p.table(spans)
	if most.IsZero() {
		return c
	}
	top := ceiling(most)
	height := func(v decimal.Decimal) decimal.Decimal {
		if v.IsNegative() {
			v = decimal.Zero
		}
		return v.Mul(decimal.NewFromInt(topOfChart)).DivRound(top, 2)
	}
	var line strings.Builder
	for i, s := range spans {
		b := bar{Title: p.words(s), X: 10 * i}
		from := decimal.NewFromInt(topOfChart)
		for j, v := range s.Parts {
			h := height(v)
			if h.IsZero() {
				continue
			}
			from = from.Sub(h)
			b.Parts = append(b.Parts, part{p.class(j), strconv.Itoa(10*i+1) + ".5", from.String(), h.String()})
		}
		c.Bars = append(c.Bars, b)
		if p.before != "" {
			op := "L"
			if i == 0 {
				op = "M"
			}
			line.WriteString(op + strconv.Itoa(10*i) + " " + decimal.NewFromInt(topOfChart).Sub(height(s.Before)).String() + "h10")
		}
	}
	c.Before = line.String()
	c.Ticks = []string{p.axis(top), p.axis(top.Div(decimal.NewFromInt(2))), p.axis(decimal.Zero)}
	for _, i := range marks(len(spans)) {
		c.Labels = append(c.Labels, cmp.Or(spans[i].Axis, spans[i].Label))
	}
	c.Summary = p.write(sum) + " in all"
	if p.before != "" {
		c.Summary += "; " + p.write(sumBefore) + " in the period before"
	}
	if len(p.series) > 1 || p.before != "" {
		for j, name := range p.series {
			c.Legend = append(c.Legend, legend{name, p.class(j)})
		}
	}
	if p.before != "" {
		c.Legend = append(c.Legend, legend{p.before, "before"})
	}
	return c
}

func (s span) total() decimal.Decimal {
	sum := decimal.Zero
	for _, v := range s.Parts {
		sum = sum.Add(v)
	}
	return sum
}

// words says in one line what a bar stands for.
func (p plot) words(s span) string {
	words := s.Label + ": " + p.write(s.total())
	if len(s.Parts) > 1 {
		var parts []string
		for j, v := range s.Parts {
			if !v.IsZero() {
				parts = append(parts, p.series[j]+" "+p.write(v))
			}
		}
		if len(parts) > 0 {
			words += " (" + strings.Join(parts, ", ") + ")"
		}
	}
	if p.before != "" {
		words += "; " + p.before + " " + p.write(s.Before)
	}
	return words
}

func (p plot) table(spans []span) *table {
	t := &table{ID: p.id + "-table", Caption: p.title, Head: heads("When")}
	for _, s := range p.series {
		t.Head = append(t.Head, column{s, true})
	}
	if p.before != "" {
		t.Head = append(t.Head, column{p.before, true})
	}
	for _, s := range spans {
		row := []cell{{Text: s.Label, Class: "one"}}
		for _, v := range s.Parts {
			row = append(row, p.value(v))
		}
		if p.before != "" {
			row = append(row, p.value(s.Before))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// class is that of a series.
func (p plot) class(i int) string {
	if p.colours != nil {
		i = p.colours[i]
	}
	return "s" + strconv.Itoa(min(i, 6)+1)
}

// ceiling is the least round number that is not below a value.
func ceiling(v decimal.Decimal) decimal.Decimal {
	unit := decimal.New(1, int32(v.NumDigits())+v.Exponent()-1)
	for _, tenths := range []int64{10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100} {
		if top := unit.Mul(decimal.New(tenths, -1)); top.GreaterThanOrEqual(v) {
			return top
		}
	}
	return v
}

// marks are the spans that have a label under the chart.
func marks(n int) []int {
	switch {
	case n == 0:
		return nil
	case n == 1:
		return []int{0}
	case n < 9:
		return []int{0, n - 1}
	}
	return []int{0, n / 2, n - 1}
}
