package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"

	"github.com/llmtenant/tenant/pricing"
)

// pricesFlags say which price book is used.
type pricesFlags struct {
	Prices []string `placeholder:"FILE" help:"A price list that is laid over the built-in book, in their order: as LiteLLM, models.dev or genai-prices publish it, or a JSON array of rows as in pricing/book.json. The rows of the last win."`
}

// book is the book that the flags say, with terms where there are some.
func (f *pricesFlags) book(terms *termsFlags) (*pricing.Book, error) {
	book := pricing.Default()
	for _, file := range f.Prices {
		rows, err := readRows(file)
		if err != nil {
			return nil, err
		}
		if book, err = book.With(pricing.Override(rows...)); err != nil {
			return nil, wrong("--prices: %s: %v", file, err)
		}
	}
	if terms == nil {
		return book, nil
	}
	return terms.over(book)
}

// mostOfList is how large a price list may be.
const mostOfList = 64 << 20

// readRows reads a price list.
func readRows(file string) ([]pricing.Row, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, wrong("%v", err)
	}
	defer func() { _ = f.Close() }() // it was read
	content, err := io.ReadAll(io.LimitReader(f, mostOfList))
	if err != nil {
		return nil, err
	}
	if trimmed := bytes.TrimSpace(content); len(trimmed) > 0 && trimmed[0] == '[' {
		var rows []pricing.Row
		d := json.NewDecoder(bytes.NewReader(content))
		d.DisallowUnknownFields()
		if err := d.Decode(&rows); err == nil {
			if _, err := pricing.New(rows...); err != nil {
				return nil, wrong("%s: %v", file, err)
			}
			return rows, nil
		}
	}
	book, err := pricing.Load(bytes.NewReader(content))
	if err != nil {
		return nil, wrong("%s: %v", file, err)
	}
	return book.Rows(), nil
}

// termsFlags say what tenants are charged of what their calls cost: a program says it in Go, and the books do not have it.
type termsFlags struct {
	Terms   string `placeholder:"FILE" help:"What tenants are charged, as a JSON object by their ids: {\"acme\": {\"Factor\": \"1.2\"}}, with the fields of pricing.Terms."`
	NoTerms bool   `help:"Every tenant is charged what its calls cost."`
}

func (f *termsFlags) given() bool { return f.Terms != "" || f.NoTerms }

func (f *termsFlags) over(book *pricing.Book) (*pricing.Book, error) {
	switch {
	case f.Terms != "" && f.NoTerms:
		return nil, wrong("--terms and --no-terms are both given; give one")
	case f.Terms == "":
		return book, nil
	}
	content, err := os.ReadFile(f.Terms)
	if err != nil {
		return nil, wrong("--terms: %v", err)
	}
	var all map[string]pricing.Terms
	d := json.NewDecoder(bytes.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(&all); err != nil {
		return nil, wrong("--terms: %s: %v", f.Terms, err)
	}
	for id, terms := range all {
		if book, err = book.With(pricing.TenantTerms(id, terms)); err != nil {
			return nil, wrong("--terms: %s: %v", f.Terms, err)
		}
	}
	return book, nil
}
