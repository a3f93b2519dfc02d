package tenant

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/internal/text"
)

// MarshalText writes the amount in US dollars as a decimal number, such as 1.25, and no text where there is none. An
// amount that is none ("abc", a negative one) is an [ErrInvalidOption].
func (m Money) MarshalText() ([]byte, error) {
	switch {
	case m.err != nil:
		return nil, fmt.Errorf("%w: Money: %w", ErrInvalidOption, m.err)
	case !m.set:
		return nil, nil
	}
	return []byte(money.Decimal(m.nano).String()), nil
}

// UnmarshalText reads what [USD] takes; no text is no amount. Anything else is an [ErrInvalidOption], which leaves the
// amount as it was.
func (m *Money) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*m = Money{}
		return nil
	}
	read := USD(string(text))
	if read.err != nil {
		return fmt.Errorf("%w: Money: %w", ErrInvalidOption, read.err)
	}
	*m = read
	return nil
}

// MarshalJSON writes the amount as a string, "1.25", because many readers take a number for a float, and null where there
// is none; the tag omitzero leaves it out. Its errors are those of [Money.MarshalText].
func (m Money) MarshalJSON() ([]byte, error) {
	text, err := m.MarshalText()
	if err != nil || !m.set {
		return []byte("null"), err
	}
	return json.Marshal(string(text))
}

// UnmarshalJSON reads a string or a number, to the digit, by the rules of [USD]; null is no amount. Anything else is an
// [ErrInvalidOption], which leaves the amount as it was.
func (m *Money) UnmarshalJSON(data []byte) error {
	text, err := scalar("Money", data)
	if err != nil {
		return err
	}
	if text == "" && string(data) != "null" {
		return fmt.Errorf(`%w: Money: amount "" is empty; null is the absence of one`, ErrInvalidOption)
	}
	return m.UnmarshalText([]byte(text))
}

// MarshalText writes the number in decimal, and no text where there is none. A negative one is an [ErrInvalidOption].
func (q Quantity) MarshalText() ([]byte, error) {
	switch {
	case !q.set:
		return nil, nil
	case q.n < 0:
		return nil, fmt.Errorf("%w: Quantity: %d is negative", ErrInvalidOption, q.n)
	}
	return strconv.AppendInt(nil, q.n, 10), nil
}

// UnmarshalText reads a whole number from 0 to 2^62; no text is no quantity. Anything else is an [ErrInvalidOption], which
// leaves the quantity as it was.
func (q *Quantity) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*q = Quantity{}
		return nil
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) && text[0] != '-', err == nil && n > money.Max:
		return fmt.Errorf("%w: Quantity: %.40s is above 2^62, the largest there can be", ErrInvalidOption, text)
	case err != nil && !errors.Is(err, strconv.ErrRange):
		return fmt.Errorf("%w: Quantity: %.40q is not a whole number", ErrInvalidOption, text)
	case err != nil, n < 0:
		return fmt.Errorf("%w: Quantity: %.40s is negative", ErrInvalidOption, text)
	}
	*q = Count(n)
	return nil
}

// MarshalJSON writes the number, and null where there is none; the tag omitzero leaves it out. Its errors are those of
// [Quantity.MarshalText].
func (q Quantity) MarshalJSON() ([]byte, error) {
	text, err := q.MarshalText()
	if err != nil || !q.set {
		return []byte("null"), err
	}
	return text, nil
}

// UnmarshalJSON reads a whole number, or a string with one; null is no quantity. Anything else is an [ErrInvalidOption],
// which leaves the quantity as it was.
func (q *Quantity) UnmarshalJSON(data []byte) error {
	text, err := scalar("Quantity", data)
	if err != nil {
		return err
	}
	if text == "" && string(data) != "null" {
		return fmt.Errorf(`%w: Quantity: "" is not a whole number; null is the absence of one`, ErrInvalidOption)
	}
	return q.UnmarshalText([]byte(text))
}

// scalar is the text of a JSON string or number, and none of null.
func scalar(what string, data []byte) (string, error) {
	data = bytes.TrimSpace(data)
	switch {
	case string(data) == "null":
		return "", nil
	case len(data) > 0 && data[0] == '"':
		var s string
		if err := json.Unmarshal(data, &s); err != nil {
			return "", fmt.Errorf("%w: %s: %w", ErrInvalidOption, what, err)
		}
		return s, nil
	case len(data) > 0 && (data[0] == '-' || data[0] >= '0' && data[0] <= '9'):
		return string(data), nil
	}
	return "", fmt.Errorf("%w: %s: %.40s is neither a number nor a string with one", ErrInvalidOption, what, data)
}

// UnmarshalText reads one of the windows. Anything else is an [ErrInvalidOption].
func (w *Window) UnmarshalText(text []byte) error {
	if _, err := period.ParseWindow(string(text)); err != nil {
		return fmt.Errorf("%w: Window: %.40q is not hour, day, week, month or total", ErrInvalidOption, text)
	}
	*w = Window(text)
	return nil
}

// UnmarshalText reads one of the enforcements; no text is the inherited one. Anything else is an [ErrInvalidOption].
func (e *Enforcement) UnmarshalText(text []byte) error {
	read := Enforcement(text)
	if err := read.valid(); err != nil && read != "" {
		return fmt.Errorf("%w: Enforcement: %w", ErrInvalidOption, err)
	}
	*e = read
	return nil
}

// UnmarshalText reads what limits of cost count; no text is what the ledger says. Anything else is an [ErrInvalidOption].
func (c *Counts) UnmarshalText(text []byte) error {
	read := Counts(text)
	if err := read.valid(); err != nil && read != "" {
		return fmt.Errorf("%w: Counts: %w", ErrInvalidOption, err)
	}
	*c = read
	return nil
}

// UnmarshalText reads one of the metrics. Anything else is an [ErrInvalidOption].
func (m *Metric) UnmarshalText(text []byte) error {
	switch book.Metric(text) {
	case book.Cost, book.Tokens, book.Calls:
		*m = Metric(text)
		return nil
	}
	return fmt.Errorf("%w: Metric: %.40q is not cost, tokens or calls", ErrInvalidOption, text)
}

// UnmarshalJSON reads what is there and leaves the rest as it was; null for a limit takes it away. A name that it does not
// know is an [ErrInvalidOption], because a limit that is misspelt is no limit.
func (l *Limits) UnmarshalJSON(data []byte) error {
	type plain Limits
	return strictly("Limits", data, (*plain)(l))
}

// UnmarshalJSON reads like that of [Limits].
func (l *Limit) UnmarshalJSON(data []byte) error {
	type plain Limit
	return strictly("Limit", data, (*plain)(l))
}

// UnmarshalJSON reads like that of [Limits], so that the body of a PATCH can be read into a budget in [ConfigureBudget].
func (b *Budget) UnmarshalJSON(data []byte) error {
	type plain Budget
	return strictly("Budget", data, (*plain)(b))
}

// strictly reads a JSON object into a struct that has a field for each of its names, in whatever case they are written: as
// DailyCost, dailyCost or daily_cost. With an error the struct stays as it
// was.
func strictly[T any](what string, data []byte, to *T) error {
	if string(bytes.TrimSpace(data)) == "null" {
		return nil
	}
	var have map[string]json.RawMessage
	if err := json.Unmarshal(data, &have); err != nil {
		return fmt.Errorf("%w: %s: it is not a JSON object: %w", ErrInvalidOption, what, err)
	}
	var names []string
	for f := range reflect.TypeFor[T]().Fields() {
		names = append(names, f.Name)
	}
	read, seen := *to, map[int]bool{}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		at := slices.IndexFunc(names, func(known string) bool { return folded(known) == folded(name) })
		switch {
		case at < 0:
			return fmt.Errorf("%w: %s: unknown name %q%s", ErrInvalidOption, what, name, text.Unknown(name, names))
		case seen[at]:
			return fmt.Errorf("%w: %s: %q says the same as another name", ErrInvalidOption, what, name)
		}
		seen[at] = true
		field := reflect.ValueOf(&read).Elem().Field(at)
		// A list is read into a new one: the host may still use the one that is there.
		if field.Kind() == reflect.Slice {
			field.SetZero()
		}
		if err := json.Unmarshal(have[name], field.Addr().Interface()); err != nil {
			if !errors.Is(err, ErrInvalidOption) {
				err = fmt.Errorf("%w: %w", ErrInvalidOption, err)
			}
			return fmt.Errorf("%s.%s: %w", what, names[at], err)
		}
	}
	*to = read
	return nil
}

func folded(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "")) }
