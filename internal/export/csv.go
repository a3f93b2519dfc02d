package export

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// CSV is the format of RFC 4180 with a header, in lines that end with a newline alone. NULL is an empty cell, as an empty text
// is. A text that a spreadsheet would take for a formula begins with an apostrophe.
type CSV struct{}

// Encoder implements [Format].
func (CSV) Encoder(w io.Writer, columns []Column, continued bool) (Encoder, error) {
	c := &csv{lines: lines{w: w}, columns: columns}
	if continued {
		return c, nil
	}
	for i, column := range columns {
		if i > 0 {
			c.out = append(c.out, ',')
		}
		c.out = appendCell(c.out, []byte(column.Name))
	}
	return c, c.end()
}

type csv struct {
	lines
	columns []Column
}

func (c *csv) Row(cells [][]byte) (err error) {
	out := c.out
	for i, cell := range cells {
		if i > 0 {
			out = append(out, ',')
		}
		if cell == nil {
			continue
		}
		switch c.columns[i].Kind {
		case Integer:
			out = append(out, cell...)
		case Money:
			out = AppendDollars(out, cell)
		case Time, Second:
			if out, err = AppendTime(out, cell, c.columns[i].Kind); err != nil {
				return err
			}
		case Bool:
			out = appendBool(out, cell)
		default:
			out = appendCell(out, cell)
		}
	}
	c.out = out
	return c.end()
}

// appendCell appends a text, in quotes where it needs them: also for a semicolon or a tab, at which some programs end a cell too.
func appendCell(b, cell []byte) []byte {
	safe := Harmless(cell)
	if len(safe) == len(cell) && !bytes.ContainsAny(cell, "\",;\t\n\r") && (len(cell) == 0 || cell[0] != ' ' && cell[len(cell)-1] != ' ') {
		return append(b, cell...)
	}
	b = append(b, '"')
	for {
		i := bytes.IndexByte(safe, '"')
		if i < 0 {
			break
		}
		b = append(append(b, safe[:i+1]...), '"')
		safe = safe[i+1:]
	}
	return append(append(b, safe...), '"')
}

// Harmless returns a text of which a spreadsheet runs nothing: where it would begin a formula, it begins with an apostrophe. So does
// what comes behind a semicolon, at which a spreadsheet ends a cell where the comma is the decimal one, in the middle of quotes too.
func Harmless(cell []byte) []byte {
	if formula(cell) {
		cell = append([]byte{'\''}, cell...)
	}
	for at := bytes.IndexByte(cell, ';'); at >= 0; {
		at++
		if rest := cell[at:]; formula(bytes.TrimLeft(rest, `"`)) {
			cell = slices.Concat(cell[:at], []byte{'\''}, rest)
		}
		next := bytes.IndexByte(cell[at:], ';')
		if next < 0 {
			break
		}
		at += next
	}
	return cell
}

// formula reports whether a spreadsheet may run a text: if it begins with one of these, also in full width or behind spaces
// that a program may leave out. What is behind a tab or the end of a line may become a cell of its own.
func formula(cell []byte) bool {
	if len(cell) == 0 {
		return false
	}
	if c := cell[0]; c < utf8.RuneSelf && c > ' ' {
		return strings.IndexByte("=+-@", c) >= 0
	}
	if c := cell[0]; c == '\t' || c == '\r' || c == '\n' {
		return true
	}
	r, _ := utf8.DecodeRune(bytes.TrimLeftFunc(cell, invisible))
	return strings.ContainsRune("=+-@\uff1d\uff0b\uff0d\uff20\u2212", r) && r != utf8.RuneError
}

func invisible(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r)
}
