// Package text is the texts that the books keep: the one form of a value as a text, what a text may be, and which word is meant
// by another one.
package text

import (
	"database/sql/driver"
	"encoding"
	"encoding/hex"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Of gives the value of a key field its one form as a string. A method String is made for reading: it comes last, because
// it may show less than there is.
func Of(value any) (string, error) {
	switch v := value.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case []byte:
		return bytesText(v), nil
	case time.Time: // in memory it may be finer than in the database, and in another zone
		return v.UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano), nil
	}
	r := reflect.ValueOf(value)
	switch {
	case r.Kind() == reflect.Pointer && r.IsNil():
		return "", nil
	case r.Kind() == reflect.Pointer:
		if s, err := Of(r.Elem().Interface()); err == nil {
			return s, nil
		}
	case r.Kind() == reflect.String:
		return r.String(), nil
	}
	if v, ok := value.(driver.Valuer); ok {
		if s, ok, err := stored(v); ok || err != nil {
			return s, err
		}
	}
	if v, ok := value.(encoding.TextMarshaler); ok {
		if b, err := v.MarshalText(); err == nil {
			return string(b), nil
		}
	}
	if v, ok := value.(fmt.Stringer); ok {
		return v.String(), nil
	}
	switch r.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(r.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.FormatUint(r.Uint(), 10), nil
	case reflect.Slice:
		if r.Type().Elem().Kind() == reflect.Uint8 {
			return bytesText(r.Bytes()), nil
		}
	}
	return "", fmt.Errorf("the type %T has no text form", value)
}

// stored is the text of what a value has in its column. It reports false for bytes of which the value itself may have a
// text, such as a UUID's sixteen.
func stored(v driver.Valuer) (s string, ok bool, err error) {
	inner, err := v.Value()
	if err != nil {
		return "", false, err
	}
	if b, binary := inner.([]byte); binary && !isText(b) {
		switch v.(type) {
		case encoding.TextMarshaler, fmt.Stringer:
			return "", false, nil
		}
	}
	if _, again := inner.(driver.Valuer); again {
		return "", false, fmt.Errorf("the type %T gives no plain value", v)
	}
	if s, err = Of(inner); err != nil {
		return "", false, err
	}
	// One that encrypts has no text that a tenant could be found by.
	if again, err := v.Value(); err == nil {
		if other, err := Of(again); err == nil && other != s {
			return "", false, fmt.Errorf("the type %T gives another value each time; name a field that does not, or give the model the method LLMTenantID", v)
		}
	}
	return s, true, nil
}

// binary begins the text of bytes that are none, in hexadecimal.
const binary = `\x`

// bytesText is the text of bytes: as they are where they are text, else in hexadecimal.
func bytesText(b []byte) string {
	if !isText(b) || strings.HasPrefix(string(b), binary) {
		return binary + hex.EncodeToString(b)
	}
	return string(b)
}

// Bytes is the inverse of bytesText.
func Bytes(s string) []byte {
	if digits, ok := strings.CutPrefix(s, binary); ok {
		if b, err := hex.DecodeString(digits); err == nil {
			return b
		}
	}
	return []byte(s)
}

func isText(b []byte) bool {
	return utf8.Valid(b) && !strings.ContainsFunc(string(b), unicode.IsControl)
}

// Shown is a value as it is shown to people. A String that hides a part of it is meant to.
func Shown(value any) string {
	if r := reflect.ValueOf(value); r.IsValid() && (r.Kind() != reflect.Pointer || !r.IsNil()) {
		if s, ok := value.(fmt.Stringer); ok {
			if _, isTime := value.(time.Time); !isTime {
				return s.String()
			}
		}
	}
	s, _ := Of(value)
	return s
}
