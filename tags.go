package tenant

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant/internal/book"
)

// settings are what a declaration can say, in each of its ways.
type settings struct {
	key, name   *schema.Field
	budget      bool
	budgetOf    func(record reflect.Value, b *Budget) error // nil where the declaration says it for all records
	limits      []book.Limit
	enforcement book.Enforcement
	inherits    *bool
	namespace   string
	onDelete    DeletePolicy
	zone        string

	// parent is the field with the primary key of a record of parentType.
	parent     *schema.Field
	parentType reflect.Type
}

const tag = "tenant"

// fieldTags are the tags of a field with a column: what the field is to the tenant.
var fieldTags = map[string]func(*settings) **schema.Field{
	"key":  func(s *settings) **schema.Field { return &s.key },
	"name": func(s *settings) **schema.Field { return &s.name },
}

// modelTags are the tags of a blank field, each with the value that it is given.
var modelTags = func() map[string]func(*tags, string) error {
	known := map[string]func(*tags, string) error{
		"budget": func(t *tags, value string) error {
			t.budget = true
			if value != "" {
				return fmt.Errorf("it takes no value, and has %q", value)
			}
			return nil
		},
		"enforcement": func(t *tags, value string) error {
			t.enforcement = book.Enforcement(value)
			if err := Enforcement(value).valid(); err != nil {
				return fmt.Errorf("unknown enforcement %q%s", value, unknown(value, []string{"hard", "soft", "none"}))
			}
			return nil
		},
		"inherit": func(t *tags, value string) error {
			inherit, err := strconv.ParseBool(value)
			if err != nil {
				return fmt.Errorf("%q is neither true nor false", value)
			}
			t.inherits = &inherit
			return nil
		},
		"namespace": func(t *tags, value string) error {
			t.namespace = value
			return validNamespace(value)
		},
		"time_zone": func(t *tags, value string) error {
			t.zone = value
			_, err := loadZone(value)
			return err
		},
		"on_delete": func(t *tags, value string) error {
			t.onDelete = DeletePolicy(value)
			if t.onDelete.valid() != nil {
				return fmt.Errorf("unknown policy %q%s", value, unknown(value, []string{"suspend", "keep", "remove"}))
			}
			return nil
		},
	}
	for _, f := range limitFields {
		known[snake(f.name)] = func(t *tags, value string) error {
			t.budget = true
			switch to := f.value(&t.maxima).(type) {
			case *Money:
				*to = USD(value)
				return to.err
			case *Quantity:
				n, err := strconv.ParseInt(strings.ReplaceAll(value, "_", ""), 10, 64)
				if err != nil {
					return fmt.Errorf("%q is not a whole number", value)
				}
				*to = Count(n)
			}
			return nil
		}
	}
	return known
}()

// snake turns the name of a field into that of its tag: DailyCost into daily_cost.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// tags are the settings in a model's struct tags.
type tags struct {
	settings
	maxima Limits
	seen   map[string]string // the tags of blank fields with their values

	// several are more fields with a tag, beside the one in settings, of structs that are embedded more than once.
	several map[string][]*schema.Field
}

// readTags reads the struct tags of a model.
func readTags(s *schema.Schema) (*tags, error) {
	t := &tags{seen: map[string]string{}, several: map[string][]*schema.Field{}}
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
	rows, err := t.maxima.rows()
	if err != nil {
		return nil, fmt.Errorf("the tags: %w", err)
	}
	t.limits = rows
	return t, nil
}

// field reads the tag of a field with a column.
func (t *tags) field(f *schema.Field, words string) error {
	for _, word := range strings.Split(words, ";") {
		word = strings.TrimSpace(word)
		to, ok := fieldTags[word]
		if !ok {
			name, _, _ := strings.Cut(word, "=")
			if _, ok := modelTags[name]; ok {
				return fmt.Errorf("the tag %q is about the model, and goes on a blank field: _ struct{} `tenant:%q`", name, word)
			}
			return fmt.Errorf("unknown tag %q%s", name, unknown(name, known(fieldTags)))
		}
		if other := *to(&t.settings); other != nil {
			if other.Name == f.Name && other.Tag == f.Tag { // of a struct that is embedded several times
				t.several[word] = append(t.several[word], f)
				continue
			}
			return fmt.Errorf("the tag %q is on the field %s already", word, path(other))
		}
		*to(&t.settings) = f
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

func (t *tags) word(word string) error {
	if word == "" {
		return nil
	}
	name, value, _ := strings.Cut(word, "=")
	set, ok := modelTags[name]
	if !ok {
		if _, ok := fieldTags[name]; ok {
			return fmt.Errorf("the tag %q goes on the field that it is about", name)
		}
		return fmt.Errorf("unknown tag %q%s", name, unknown(name, known(modelTags)))
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
func (d *declaration) agree(t *tags) error {
	for _, f := range []struct {
		option, tag string
		have, want  **schema.Field
	}{{"WithKey", "key", &d.key, &t.key}, {"WithName", "name", &d.name, &t.name}} {
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
	d.budget = d.budget || t.budget
	for _, l := range t.limits {
		i := slices.IndexFunc(d.limits, func(have book.Limit) bool { return have.Scope == l.Scope && have.Metric == l.Metric })
		if i < 0 {
			d.limits = append(d.limits, l)
		} else if d.limits[i] != l {
			name := l.Window.String() + " limit of " + string(l.Metric)
			return fmt.Errorf("WithLimits: the %s is %s, and %s in the tags", name,
				Metric(l.Metric).format(Metric(l.Metric).decimal(d.limits[i].Max)), Metric(l.Metric).format(Metric(l.Metric).decimal(l.Max)))
		}
	}
	if d.inherits != nil && t.inherits != nil && *d.inherits != *t.inherits {
		return fmt.Errorf("WithInherit(%t): the tag inherit says %t", *d.inherits, *t.inherits)
	}
	if d.inherits == nil {
		d.inherits = t.inherits
	}
	if err := same("WithEnforcement", "enforcement", &d.enforcement, t.enforcement); err != nil {
		return err
	}
	if err := same("WithNamespace", "namespace", &d.namespace, t.namespace); err != nil {
		return err
	}
	if err := same("WithTimeZone", "time_zone", &d.zone, t.zone); err != nil {
		return err
	}
	return same("WithOnDelete", "on_delete", &d.onDelete, t.onDelete)
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

func known[V any](words map[string]V) []string { return slices.Sorted(maps.Keys(words)) }

// unknown says which words there are, and which of them is meant by one that is not.
func unknown(word string, known []string) string {
	return "; there are " + strings.Join(known, ", ") + meant(word, known)
}

// meant asks for the known word that is meant by another one, if one is near.
func meant(word string, known []string) string {
	best, least := "", 1+tolerance(word)
	for _, k := range known {
		if d := distance(strings.ToLower(word), strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// distance is how many letters have to be put in, left out, changed or swapped with the next to turn one word into the
// other.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		for j := range rows[i] {
			switch {
			case i == 0 || j == 0:
				rows[i][j] = i + j
			case a[i-1] == b[j-1]:
				rows[i][j] = rows[i-1][j-1]
			default:
				rows[i][j] = 1 + min(rows[i-1][j], rows[i][j-1], rows[i-1][j-1])
			}
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
