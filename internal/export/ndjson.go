package export

import (
	"encoding/json"
	"io"
	"unicode/utf8"
)

// NDJSON is one object of JSON a line. Money is a string, because most readers make a binary fraction of a number.
type NDJSON struct{}

// Encoder implements [Format].
func (NDJSON) Encoder(w io.Writer, columns []Column, _ bool) (Encoder, error) {
	n := &ndjson{lines: lines{w: w}}
	for i, column := range columns {
		name := []byte{'{'}
		if i > 0 {
			name[0] = ','
		}
		n.columns = append(n.columns, named{string(append(appendString(name, []byte(column.Name)), ':')), column.Kind})
	}
	return n, nil
}

type ndjson struct {
	lines
	columns []named
}

// named is a column, with what stands before its cells.
type named struct {
	before string
	kind   Kind
}

func (n *ndjson) Row(cells [][]byte) (err error) {
	out := n.out
	for i, cell := range cells {
		out = append(out, n.columns[i].before...)
		if cell == nil {
			out = append(out, "null"...)
			continue
		}
		switch n.columns[i].kind {
		case Integer, JSON:
			out = append(out, cell...)
		case Money:
			out = append(AppendDollars(append(out, '"'), cell), '"')
		case Time, Second:
			if out, err = AppendTime(append(out, '"'), cell, n.columns[i].kind); err != nil {
				return err
			}
			out = append(out, '"')
		case Bool:
			out = appendBool(out, cell)
		default:
			out = appendString(out, cell)
		}
	}
	out = append(out, '}')
	n.out = out
	return n.end()
}

// appendString appends a text as JSON has it.
func appendString(b, s []byte) []byte {
	for _, c := range s {
		if c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			encoded, _ := json.Marshal(string(s))
			return append(b, encoded...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
