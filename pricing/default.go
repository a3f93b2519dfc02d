package pricing

import (
	"bytes"
	_ "embed" // for book.json
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

//go:embed book.json
var bookJSON []byte

// table is what book.json holds.
type table struct {
	AsOf    string            `json:"as_of"`
	Sources map[string]string `json:"sources"`
	Notes   []string          `json:"notes"`
	Rows    []entry           `json:"rows"`
}

type entry struct {
	Row
	Source string `json:"source"`         // a key of table.Sources
	Note   string `json:"note,omitempty"` // why these figures, where the sources disagree
}

// Default returns the book that ships with this module.
func Default() *Book { return defaultBook() }

// Tests hold that the embedded table is valid. If it were not, a book that knows no model is the safe one: a ledger
// refuses what has no price where a budget has to hold.
var defaultBook = sync.OnceValue(func() *Book {
	t, err := readTable(bookJSON)
	if err != nil {
		return &Book{}
	}
	b, err := t.book()
	if err != nil {
		return &Book{}
	}
	return b
})

func readTable(data []byte) (table, error) {
	var t table
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&t); err != nil {
		return t, fmt.Errorf("pricing: book.json: %w", err)
	}
	return t, nil
}

func (t table) book() (*Book, error) {
	rows := make([]Row, len(t.Rows))
	for i, e := range t.Rows {
		rows[i] = e.Row
	}
	b, err := New(rows...)
	if err != nil {
		return nil, err
	}
	if b.day, err = time.Parse(time.DateOnly, t.AsOf); err != nil {
		return nil, fmt.Errorf("pricing: book.json: as_of: %w", err)
	}
	return b, nil
}
