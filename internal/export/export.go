// Package export writes rows in the formats that other programs read. It knows no table: a row is cells of text, each in
// one form for its kind.
package export

import (
	"fmt"
	"io"
	"strconv"
	"time"
)

// Kind says what the cells of a column are, and in which form they stand.
type Kind uint8

// The kinds. A nil cell is NULL in all of them.
const (
	Text    Kind = iota // as it is
	Integer             // decimal digits, with a minus before what is negative
	Money               // the same, in whole nano-dollars
	Time                // the same, in microseconds since 1970 in UTC
	Bool                // t or f
	JSON                // an object
	Second              // as Time, and written to the second, which it is a whole one of
)

// Column is a column of what is written.
type Column struct {
	Name string
	Kind Kind
}

// Encoder writes rows in a format.
type Encoder interface {
	// Row writes a row, with a cell for each column. The cells are the caller's again afterwards.
	Row(cells [][]byte) error

	// Flush hands over whole rows: all that were written before are with the writer when it returns.
	Flush() error

	// Close ends what is written, and flushes it. It does not close the writer.
	Close() error
}

// Format makes encoders.
type Format interface {
	// Encoder returns one that writes rows of these columns. A continued export goes on behind rows that are there already:
	// an encoder writes no header for it, and fails where its format cannot be gone on with.
	Encoder(w io.Writer, columns []Column, continued bool) (Encoder, error)
}

// full is how much is collected before it is handed to a writer.
const full = 64 << 10

// lines collects whole lines for a writer.
type lines struct {
	w   io.Writer
	out []byte
}

func (l *lines) end() error {
	l.out = append(l.out, '\n')
	if len(l.out) < full {
		return nil
	}
	return l.Flush()
}

// Flush implements [Encoder].
func (l *lines) Flush() error {
	if len(l.out) == 0 {
		return nil
	}
	n, err := l.w.Write(l.out)
	if err == nil && n < len(l.out) {
		err = io.ErrShortWrite
	}
	l.out = l.out[:0]
	return err
}

// Close implements [Encoder].
func (l *lines) Close() error { return l.Flush() }

// AppendDollars appends nano-dollars as US dollars: a plain decimal of nine digits.
func AppendDollars(b, nano []byte) []byte {
	if len(nano) > 0 && nano[0] == '-' {
		b, nano = append(b, '-'), nano[1:]
	}
	const digits = 9
	if whole := len(nano) - digits; whole > 0 {
		b = append(b, nano[:whole]...)
		nano = nano[whole:]
	} else {
		b = append(b, '0')
	}
	b = append(b, '.')
	for range digits - len(nano) {
		b = append(b, '0')
	}
	return append(b, nano...)
}

// AppendTime appends microseconds since 1970 in the form of RFC 3339, in UTC and always to the microsecond, or to the second. The
// year has four digits, as in both databases.
func AppendTime(b, micros []byte, kind Kind) ([]byte, error) {
	n, err := strconv.ParseInt(string(micros), 10, 64)
	if err != nil {
		return b, fmt.Errorf("a time is %q", micros)
	}
	// By hand, because the layout of a time takes longer than the rest of a row.
	t := time.UnixMicro(n).UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	parts := [...]struct {
		n, digits int
		after     byte
	}{{year, 4, '-'}, {int(month), 2, '-'}, {day, 2, 'T'}, {hour, 2, ':'}, {minute, 2, ':'}, {second, 2, '.'}, {t.Nanosecond() / 1000, 6, 'Z'}}
	until := len(parts)
	if kind == Second {
		until--
		parts[until-1].after = 'Z'
	}
	for _, part := range parts[:until] {
		at := len(b)
		b = append(b, "000000"[:part.digits]...)
		for i, n := at+part.digits-1, part.n; i >= at; i, n = i-1, n/10 {
			b[i] += byte(n % 10)
		}
		b = append(b, part.after)
	}
	return b, nil
}

func appendBool(b, cell []byte) []byte {
	return strconv.AppendBool(b, len(cell) == 1 && cell[0] == 't')
}
