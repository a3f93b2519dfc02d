package text

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Scalar is the text of a JSON string or number, and none of null. Anything else is an error of a kind.
func Scalar(kind error, what string, data []byte) (string, error) {
	data = bytes.TrimSpace(data)
	switch {
	case string(data) == "null":
		return "", nil
	case len(data) > 0 && data[0] == '"':
		var s string
		if err := json.Unmarshal(data, &s); err != nil {
			return "", fmt.Errorf("%w: %s: %w", kind, what, err)
		}
		return s, nil
	case len(data) > 0 && (data[0] == '-' || data[0] >= '0' && data[0] <= '9'):
		return string(data), nil
	}
	return "", fmt.Errorf("%w: %s: %.40s is neither a number nor a string with one", kind, what, data)
}

// Strictly reads a JSON object into a struct that has a field for each of its names, in whatever case they are written: as
// DailyCost, dailyCost or daily_cost. With an error the struct stays as it
// was.
func Strictly[T any](kind error, what string, data []byte, to *T) error {
	if string(bytes.TrimSpace(data)) == "null" {
		return nil
	}
	var have map[string]json.RawMessage
	if err := json.Unmarshal(data, &have); err != nil {
		return fmt.Errorf("%w: %s: it is not a JSON object: %w", kind, what, err)
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
			return fmt.Errorf("%w: %s: unknown name %q%s", kind, what, name, Unknown(name, names))
		case seen[at]:
			return fmt.Errorf("%w: %s: %q says the same as another name", kind, what, name)
		}
		seen[at] = true
		field := reflect.ValueOf(&read).Elem().Field(at)
		// A list is read into a new one: the host may still use the one that is there.
		if field.Kind() == reflect.Slice {
			field.SetZero()
		}
		if err := json.Unmarshal(have[name], field.Addr().Interface()); err != nil {
			if !errors.Is(err, kind) {
				err = fmt.Errorf("%w: %w", kind, err)
			}
			return fmt.Errorf("%s.%s: %w", what, names[at], err)
		}
	}
	*to = read
	return nil
}

func folded(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "")) }
