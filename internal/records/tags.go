package records

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/internal/text"
)

const tag = "tenant"

// fieldTags are the tags of a field with a column: what the field is to the tenant.
var fieldTags = map[string]func(*Settings) **schema.Field{
	"key":  func(s *Settings) **schema.Field { return &s.Key },
	"name": func(s *Settings) **schema.Field { return &s.Name },
}

// modelTags are the tags of a blank field, each with the value that it is given. Those of limits come beside them.
var modelTags = map[string]func(*tags, string) error{
	"budget": func(t *tags, value string) error {
		t.Budget = true
		if value != "" {
			return fmt.Errorf("it takes no value, and has %q", value)
		}
		return nil
	},
	"enforcement": func(t *tags, value string) error {
		t.Enforcement = book.Enforcement(value)
		return oneOf("enforcement", value, book.Hard, book.Soft, book.None)
	},
	"counts": func(t *tags, value string) error {
		t.Counts = book.Counting(value)
		return oneOf("kind", value, book.CountsCharge, book.CountsCost)
	},
	"inherit": func(t *tags, value string) error {
		inherit, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", value)
		}
		t.Inherits = &inherit
		return nil
	},
	"namespace": func(t *tags, value string) error {
		t.Namespace = value
		return ValidNamespace(value)
	},
	"time_zone": func(t *tags, value string) error {
		t.Zone = value
		_, err := period.LoadZone(value)
		return err
	},
	"on_delete": func(t *tags, value string) error {
		t.OnDelete = DeletePolicy(value)
		return oneOf("policy", value, Suspend, Keep, Remove)
	},
}

// oneOf returns an error for a value that is none of some.
func oneOf[T ~string](what, value string, values ...T) error {
	known := make([]string, len(values))
	for i, v := range values {
		known[i] = string(v)
	}
	if slices.Contains(known, value) {
		return nil
	}
	return fmt.Errorf("unknown %s %q%s", what, value, text.Unknown(value, known))
}

// LimitTags reads the limits in the tags of one model.
type LimitTags struct {
	Words []string                       // the tags that there are
	Set   func(word, value string) error // takes one in
	Rows  func() ([]book.Limit, error)   // returns what they say together
}

// tags are the settings in a model's struct tags.
type tags struct {
	Settings
	maxima LimitTags
	seen   map[string]string // the tags of blank fields with their values

	// several are more fields with a tag, beside the one in settings, of structs that are embedded more than once.
	several map[string][]*schema.Field
}

// readTags reads the struct tags of a model.
func readTags(s *schema.Schema, maxima LimitTags) (*tags, error) {
	t := &tags{maxima: maxima, seen: map[string]string{}, several: map[string][]*schema.Field{}}
	columns := map[string]bool{}
	for _, f := range s.Fields {
		words, ok := f.Tag.Lookup(tag)
		if !ok || f.DBName == "" {
			continue
		}
		columns[f.StructField.Name] = true
		if err := t.field(f, words); err != nil {
			return nil, fmt.Errorf("the field %s: %w", path(f), err)
		}
	}
	if err := t.model(s.ModelType, columns); err != nil {
		return nil, err
	}
	rows, err := t.maxima.Rows()
	if err != nil {
		return nil, fmt.Errorf("the tags: %w", err)
	}
	t.Limits = rows
	return t, nil
}

// field reads the tag of a field with a column.
func (t *tags) field(f *schema.Field, words string) error {
	for _, word := range strings.Split(words, ";") {
		word = strings.TrimSpace(word)
		to, ok := fieldTags[word]
		if !ok {
			name, _, _ := strings.Cut(word, "=")
			if t.setter(name) != nil {
				return fmt.Errorf("the tag %q is about the model, and goes on a blank field: _ struct{} `tenant:%q`", name, word)
			}
			return fmt.Errorf("unknown tag %q%s", name, text.Unknown(name, slices.Sorted(maps.Keys(fieldTags))))
		}
		if other := *to(&t.Settings); other != nil {
			if other.Name == f.Name && other.Tag == f.Tag { // of a struct that is embedded several times
				t.several[word] = append(t.several[word], f)
				continue
			}
			return fmt.Errorf("the tag %q is on the field %s already", word, path(other))
		}
		*to(&t.Settings) = f
	}
	return nil
}

// model reads the tags of a struct's blank fields, and of the structs that are embedded in it. A tag on any other field
// that has no column would say nothing.
func (t *tags) model(typ reflect.Type, columns map[string]bool) error {
	for f := range typ.Fields() {
		words, ok := f.Tag.Lookup(tag)
		embedded := f.Type
		if embedded.Kind() == reflect.Pointer {
			embedded = embedded.Elem()
		}
		switch {
		case ok && f.Name == "_":
			for _, word := range strings.Split(words, ";") {
				if err := t.word(strings.TrimSpace(word)); err != nil {
					return fmt.Errorf("the blank field of %s: %w", typ, err)
				}
			}
		case ok && !columns[f.Name]:
			return fmt.Errorf("the field %s has the tag %q, and no column of its own", f.Name, words)
		case embedded.Kind() == reflect.Struct && (f.Anonymous || schema.ParseTagSetting(f.Tag.Get("gorm"), ";")["EMBEDDED"] != ""):
			if err := t.model(embedded, columns); err != nil {
				return err
			}
		}
	}
	return nil
}

// setter is what takes in a tag of a blank field, nil for one that is not known.
func (t *tags) setter(name string) func(*tags, string) error {
	if slices.Contains(t.maxima.Words, name) {
		return func(t *tags, value string) error {
			t.Budget = true
			return t.maxima.Set(name, value)
		}
	}
	return modelTags[name]
}

func (t *tags) word(word string) error {
	if word == "" {
		return nil
	}
	name, value, _ := strings.Cut(word, "=")
	set := t.setter(name)
	if set == nil {
		if _, ok := fieldTags[name]; ok {
			return fmt.Errorf("the tag %q goes on the field that it is about", name)
		}
		return fmt.Errorf("unknown tag %q%s", name, text.Unknown(name, slices.Sorted(slices.Values(append(slices.Collect(maps.Keys(modelTags)), t.maxima.Words...)))))
	}
	if before, twice := t.seen[name]; twice && before != value {
		return fmt.Errorf("%s is %q here, and %q in another tag", name, value, before)
	}
	t.seen[name] = value
	if err := set(t, value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// agree takes over what the tags say, if the options do not say anything else.
func (d *Declaration) agree(t *tags) error {
	for _, f := range []struct {
		option, tag string
		have, want  **schema.Field
	}{{"WithKey", "key", &d.Key, &t.Key}, {"WithName", "name", &d.Name, &t.Name}} {
		if several := t.several[f.tag]; len(several) > 0 {
			if *f.have == nil {
				return fmt.Errorf("the tag %q is on the fields %s and %s: say which is meant, %s(%q)", f.tag, path(*f.want), path(several[0]), f.option, path(*f.want))
			}
			if slices.Contains(several, *f.have) {
				*f.want = *f.have
			}
		}
		if *f.have != nil && *f.want != nil && *f.have != *f.want {
			return fmt.Errorf("%s(%q): the field with the tag %q is %s", f.option, path(*f.have), f.tag, path(*f.want))
		}
		if *f.have == nil {
			*f.have = *f.want
		}
	}
	d.Budget = d.Budget || t.Budget
	for _, l := range t.Limits {
		i := slices.IndexFunc(d.Limits, func(have book.Limit) bool { return have.Scope == l.Scope && have.Metric == l.Metric })
		if i < 0 {
			d.Limits = append(d.Limits, l)
		} else if d.Limits[i] != l {
			name := l.Window.String() + " limit of " + string(l.Metric)
			return fmt.Errorf("WithLimits: the %s is %s, and %s in the tags", name,
				l.Metric.Format(d.Limits[i].Max), l.Metric.Format(l.Max))
		}
	}
	if d.Inherits != nil && t.Inherits != nil && *d.Inherits != *t.Inherits {
		return fmt.Errorf("WithInherit(%t): the tag inherit says %t", *d.Inherits, *t.Inherits)
	}
	if d.Inherits == nil {
		d.Inherits = t.Inherits
	}
	if err := same("WithEnforcement", "enforcement", &d.Enforcement, t.Enforcement); err != nil {
		return err
	}
	if err := same("WithCounts", "counts", &d.Counts, t.Counts); err != nil {
		return err
	}
	if err := same("WithNamespace", "namespace", &d.Namespace, t.Namespace); err != nil {
		return err
	}
	if err := same("WithTimeZone", "time_zone", &d.Zone, t.Zone); err != nil {
		return err
	}
	return same("WithOnDelete", "on_delete", &d.OnDelete, t.OnDelete)
}

// same gives a setting that an option has not given the value of its tag.
func same[T ~string](option, tag string, have *T, want T) error {
	if *have != "" && want != "" && *have != want {
		return fmt.Errorf("%s(%q): the tag %s says %q", option, string(*have), tag, string(want))
	}
	if *have == "" {
		*have = want
	}
	return nil
}
