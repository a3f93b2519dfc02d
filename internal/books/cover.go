package books

import (
	"sort"
	"time"

	"github.com/llmtenant/tenant/internal/period"
)

// cover is how a span is put together.
type cover struct {
	folded [][]piece // days and months that are folded, for each part of the state
	hours  []piece   // whole hours of the roll-up

	calls []piece // what is read call by call
	cut   []piece // hours of the roll-up of which calls are read call by call, and which begin in their period
}

// cover puts a span together.
func (a *answer) cover(s Span) (c cover) {
	s.From, s.To = Admission(s.From), Admission(s.To)
	if s.empty() {
		return c
	}
	starts := s.Periods
	if len(starts) == 0 {
		starts = []time.Time{s.From}
	}
	rolled := a.rolled()
	c.folded = make([][]piece, len(a.state.of))
	for n, start := range starts {
		p := piece{Range{start, s.To}, n}
		if start.Before(s.From) {
			p.From = s.From
		}
		if n+1 < len(starts) && starts[n+1].Before(s.To) {
			p.To = starts[n+1]
		}
		switch {
		case p.empty():
		default:
			c.fold(p, a.state.of, 0, rolled)
		}
	}
	return c
}

// fold covers a piece by what is folded, from the k-th part of it on: months come before days. The rest is covered by hours where the
// roll-up has what is asked for, otherwise by calls.
func (c *cover) fold(p piece, of []foldedWindows, k int, rolled bool) {
	if p.empty() {
		return
	}
	if k == len(of) && !rolled {
		c.calls = append(c.calls, p)
		c.cut = append(c.cut, piece{Range{ceil(p.From, time.Hour), ceil(p.To, time.Hour)}, p.period})
		return
	}
	if k == len(of) {
		c.add(p)
		return
	}
	run, ok := of[k].run(p.Range)
	if !ok {
		c.fold(p, of, k+1, rolled)
		return
	}
	c.fold(piece{Range{p.From, run.From}, p.period}, of, k+1, rolled)
	c.folded[k] = append(c.folded[k], piece{run, p.period})
	c.fold(piece{Range{run.To, p.To}, p.period}, of, k, rolled)
}

// add covers a piece by its whole hours, and by the calls before and after them.
func (c *cover) add(p piece) {
	first, last := ceil(p.From, time.Hour), p.To.Truncate(time.Hour)
	if first.After(last) {
		c.calls = append(c.calls, p)
		return
	}
	if whole := (piece{Range{first, last}, p.period}); !whole.empty() {
		c.hours = append(c.hours, whole)
	}
	for _, edge := range []Range{{p.From, first}, {last, p.To}} {
		if !edge.empty() {
			c.calls = append(c.calls, piece{edge, p.period})
		}
	}
	if last.Before(p.To) {
		c.cut = append(c.cut, piece{Range{last, last.Add(time.Hour)}, p.period})
	}
}

// foldedWindows are the windows of one kind, in one zone, that are folded: each lasts until the next one begins.
type foldedWindows struct {
	unit   period.Window
	zone   string
	starts []time.Time // and where the last one ends
	stale  []bool      // of each window: one of its hours has changed since
}

// run returns the first windows, one after the other, that lie in a range and are not stale.
func (w *foldedWindows) run(r Range) (Range, bool) {
	i := sort.Search(len(w.starts), func(i int) bool { return !w.starts[i].Before(r.From) })
	for i < len(w.stale) && w.stale[i] {
		i++
	}
	j := i
	for j < len(w.stale) && !w.stale[j] && !w.starts[j+1].After(r.To) {
		j++
	}
	if i >= j {
		return r, false
	}
	return Range{w.starts[i], w.starts[j]}, true
}

// touch makes the windows stale that an hour has a part in.
func (w *foldedWindows) touch(hour time.Time) {
	i := sort.Search(len(w.starts), func(i int) bool { return w.starts[i].After(hour) }) - 1
	for i = max(i, 0); i < len(w.stale) && w.starts[i].Before(hour.Add(time.Hour)); i++ {
		if w.starts[i+1].After(hour) {
			w.stale[i] = true
		}
	}
}
