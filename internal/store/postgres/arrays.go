package postgres

import (
	"encoding/binary"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/llmtenant/tenant/internal/book"
)

// array is a slice as an argument. pgx asks an array for one element after the other, as an any, and a plain slice answers
// with a copy of the element on the heap. This one answers with a pointer into the slice.
type array[T any] struct {
	values  []T
	element func(*T) any // nil: NULL
}

// Dimensions implements pgtype.ArrayGetter.
func (a array[T]) Dimensions() []pgtype.ArrayDimension {
	return []pgtype.ArrayDimension{{Length: int32(len(a.values)), LowerBound: 1}}
}

// Index implements pgtype.ArrayGetter.
func (a array[T]) Index(i int) any { return a.element(&a.values[i]) }

// IndexType implements pgtype.ArrayGetter. The type is left to the elements.
func (a array[T]) IndexType() any { return nil }

// argument gives a slice the form in which it is sent.
func argument(arg any) any {
	switch values := arg.(type) {
	case [][16]byte:
		return array[[16]byte]{values, func(p *[16]byte) any { return (*identity)(p) }}
	case []string:
		return array[string]{values, func(p *string) any { return (*text)(p) }}
	case []int64:
		return literal(values)
	case []time.Time:
		return array[time.Time]{values, func(p *time.Time) any { return (*moment)(p) }}
	case []*time.Time:
		return array[*time.Time]{values, func(p **time.Time) any {
			if *p == nil {
				return nil
			}
			return (*moment)(*p)
		}}
	}
	return arg
}

// shortened leaves out the values at the end of a slice that are the same as its first: in a batch, most columns have one
// value in all rows. Slices of what may be NULL stay as they are.
func shortened(arg any) any {
	switch values := arg.(type) {
	case [][16]byte:
		return orShorter(arg, values)
	case []string:
		return orShorter(arg, values)
	case []int64:
		return orShorter(arg, values)
	case []bool:
		return orShorter(arg, values)
	case []time.Time:
		return orShorter(arg, values)
	case []book.Latencies:
		return numbers(values)
	case []book.Place:
		return places(values)
	}
	return arg
}

// orShorter returns the argument itself where nothing of its values is left out.
func orShorter[T comparable](arg any, values []T) any {
	if short := shorten(values); len(short) < len(values) {
		return short
	}
	return arg
}

func shorten[T comparable](values []T) []T {
	for len(values) > 1 && values[len(values)-1] == values[0] {
		values = values[:len(values)-1]
	}
	return values
}

// literal is numbers as the text of an array, which is shorter than their binary form: most are zero or small, and take 2
// bytes in place of 12.
func literal(values []int64) string {
	var enough [2048]byte
	b := append(enough[:0], '{')
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, v, 10)
	}
	return string(append(b, '}'))
}

// counted is the text of an array of the numbers from one to n.
func counted(n int) string {
	b := append(make([]byte, 0, 4*n+2), '{')
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(i+1), 10)
	}
	return string(append(b, '}'))
}

// numbers is counts as the text of an array of numbers.
func numbers(values []book.Latencies) string {
	b := []byte{'{'}
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, v.Number()...)
	}
	return string(append(b, '}'))
}

// places is the places of rows as the text of an array.
func places(values []book.Place) string {
	b := append(make([]byte, 0, 16*len(values)+2), '{')
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendPlace(append(b, '"'), v), '"')
	}
	return string(append(b, '}'))
}

// placeOf is the place of a row by the number of its block and by its own in that.
func placeOf(block uint32, row uint16) (p book.Place) {
	binary.BigEndian.PutUint32(p[:], block)
	binary.BigEndian.PutUint16(p[4:], row)
	return p
}

func appendPlace(b []byte, p book.Place) []byte {
	b = strconv.AppendUint(append(b, '('), uint64(binary.BigEndian.Uint32(p[:])), 10)
	return append(strconv.AppendUint(append(b, ','), uint64(binary.BigEndian.Uint16(p[4:])), 10), ')')
}

// single gives a value the form in which it is sent on its own.
func single(value any) any {
	switch v := value.(type) {
	case book.Latencies:
		return v.Number()
	case book.Place:
		return string(appendPlace(nil, v))
	}
	return value
}

type (
	identity [16]byte
	text     string
	moment   time.Time
)

// UUIDValue implements pgtype.UUIDValuer.
func (v *identity) UUIDValue() (pgtype.UUID, error) { return pgtype.UUID{Bytes: *v, Valid: true}, nil }

// TextValue implements pgtype.TextValuer.
func (v *text) TextValue() (pgtype.Text, error) {
	return pgtype.Text{String: string(*v), Valid: true}, nil
}

// TimestamptzValue implements pgtype.TimestamptzValuer.
func (v *moment) TimestamptzValue() (pgtype.Timestamptz, error) {
	return pgtype.Timestamptz{Time: time.Time(*v), Valid: true}, nil
}
