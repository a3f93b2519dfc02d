package sqldb

import (
	"bytes"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// Record reads rows as cells of text, whatever is in them; NULL is nil.
//
// PostgreSQL makes one text of a row, because a driver takes longer for each column than the server for the whole row.
type Record struct {
	one   bool // a row is one text
	text  sql.RawBytes
	cells [][]byte
	raw   []any
}

// What stands between the cells of a row that is one text, and in the place of NULL. No text of the books has control
// characters.
const (
	cellEnd  = '\x1f'
	cellNull = '\x1e'
)

// Record returns what reads rows of some columns, and the columns as they are to be selected. Nullable says of a column whether
// it may be NULL.
func (d *Dialect) Record(columns []string, nullable func(i int) bool) (*Record, string) {
	r := &Record{one: d.numbered, cells: make([][]byte, len(columns))}
	if !r.one {
		r.raw = make([]any, len(columns))
		for i := range r.raw {
			r.raw[i] = (*sql.RawBytes)(&r.cells[i])
		}
		return r, strings.Join(columns, ", ")
	}
	cells := make([]string, len(columns))
	for i, c := range columns {
		cells[i] = c
		if nullable(i) {
			cells[i] = fmt.Sprintf("coalesce(CAST(%s AS text), chr(%d))", c, cellNull)
		}
	}
	return r, fmt.Sprintf("concat_ws(chr(%d), %s)", cellEnd, strings.Join(cells, ", "))
}

// Scan reads a row. The cells are valid until the next one.
func (r *Record) Scan(row Row) ([][]byte, error) {
	if !r.one {
		return r.cells, row.Scan(r.raw...)
	}
	if err := row.Scan(&r.text); err != nil {
		return nil, err
	}
	return r.cells, r.split(r.text)
}

// split takes a row apart that is one text.
func (r *Record) split(text []byte) error {
	last := len(r.cells) - 1
	for i := range r.cells {
		end := bytes.IndexByte(text, cellEnd)
		if i == last && end < 0 {
			end = len(text)
		}
		if end < 0 || i == last && end < len(text) {
			return fmt.Errorf("a row of %d columns is not one: %q", len(r.cells), text)
		}
		cell := text[:end:end]
		if len(cell) == 1 && cell[0] == cellNull {
			cell = nil
		}
		r.cells[i] = cell
		text = text[min(end+1, len(text)):]
	}
	return nil
}

// Micros is an expression for a time in whole microseconds since 1970, as far as a row is read as text.
func (d *Dialect) Micros(column string) string {
	if d.numbered {
		return "CAST(1000000 * date_part('epoch', " + column + ") AS bigint)"
	}
	return "CASE WHEN " + column + " IS NOT NULL THEN 1000000 * CAST(strftime('%s', " + column + ") AS bigint) + CAST(substr(" + column + ", 21, 6) AS bigint) END"
}

// Flag is an expression for a condition as a row that is read as text has it: t or f.
func (d *Dialect) Flag(column string) string {
	if d.numbered {
		return column
	}
	return "CASE WHEN " + column + " THEN 't' ELSE 'f' END"
}

// FromMicros is the time of so many microseconds since 1970.
func FromMicros(n int64) time.Time { return time.UnixMicro(n).UTC() }
