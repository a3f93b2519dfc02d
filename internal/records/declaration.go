package records

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/directory"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/text"
)

// Declaration is a model that was declared to be a tenant.
type Declaration struct {
	registry *Registry

	// Type is that of the struct.
	Type   reflect.Type
	schema *schema.Schema
	method bool // it has LLMTenantID
	padded bool // the database fills the key up with spaces

	Settings

	// Inherit is what Inherits comes to.
	Inherit bool

	// columns are those that a record's tenant depends on, the primary key first; all says that it may be any of them.
	columns []*schema.Field
	all     bool

	own   atomic.Pointer[records] // where the ledger's own handle finds the records, once it has looked
	plain sync.Map                // the tables that are neither views nor in partitions, by the name in a statement
}

// Field finds a field by its name in Go, or, of an embedded struct, by its path, such as Billing.Slug.
func (d *Declaration) Field(option, name string) (*schema.Field, error) {
	named, have := fieldsNamed(d.schema, name)
	switch len(named) {
	case 1:
		return named[0], nil
	case 0:
		return nil, fmt.Errorf("%s: the model has no column field %q; it has %s%s", option, name,
			strings.Join(have, ", "), text.Meant(name, have))
	}
	var paths []string
	for _, f := range named {
		paths = append(paths, strconv.Quote(path(f)))
	}
	return nil, fmt.Errorf("%s: the model has several column fields %q: say which one is meant, %s", option, name, strings.Join(paths, " or "))
}

// fieldsNamed returns the column fields that a name can stand for, and what there is. A path that a program can write goes
// before one that leaves out structs in which the field is embedded.
func fieldsNamed(s *schema.Schema, name string) (named []*schema.Field, have []string) {
	var selected, meant []*schema.Field
	for _, f := range s.Fields {
		if f.DBName == "" || s.FieldsByDBName[f.DBName] != f { // a field that another one hides
			continue
		}
		have = append(have, selector(s.ModelType, f))
		switch {
		case path(f) == name:
			return []*schema.Field{f}, nil
		case selector(s.ModelType, f) == name:
			selected = append(selected, f)
		case strings.HasSuffix(path(f), "."+name):
			meant = append(meant, f)
		}
	}
	if len(selected) > 0 {
		return selected, have
	}
	return meant, have
}

// path is the name of a field with those of all structs in which it is embedded.
func path(f *schema.Field) string { return strings.Join(f.BindNames, ".") }

// selector is the path of a field as a program writes it, without the names of anonymous structs.
func selector(t reflect.Type, f *schema.Field) string {
	var names []string
	for i, name := range f.BindNames {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		field, ok := t.FieldByName(name)
		if !ok {
			return path(f)
		}
		if t = field.Type; !field.Anonymous || i == len(f.BindNames)-1 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ".")
}

// Settings are what a declaration can say, in each of its ways.
type Settings struct {
	// Key is the field of the tenant id, and Name that of the name. Without a key, the id is given by the method alone; without
	// a name, the name by the Stringer, else it is the tenant id.
	Key, Name *schema.Field

	// Budget: records get theirs when they are created. Plan sets in a profile what the host makes of its record; nil where
	// the declaration says it for all.
	Budget bool
	Plan   func(p *directory.Profile, record reflect.Value) error

	Limits      []book.Limit
	Enforcement book.Enforcement
	Counts      book.Counting
	Inherits    *bool
	Namespace   string
	OnDelete    DeletePolicy
	Zone        string

	// Parent is the field with the primary key of a record of ParentType.
	Parent     *schema.Field
	ParentType reflect.Type
}

// DeletePolicy says what the soft delete of a record does to its budget.
type DeletePolicy string

// The policies.
const (
	Suspend DeletePolicy = "suspend"
	Keep    DeletePolicy = "keep"
	Remove  DeletePolicy = "remove"
)

// complete fills in what was left to the defaults.
func (d *Declaration) complete() error {
	model := reflect.PointerTo(d.Type)
	d.method = model.Implements(reflect.TypeFor[Tenant]())
	d.Inherit = d.Inherits == nil || *d.Inherits
	if d.OnDelete == "" {
		d.OnDelete = Suspend
	}
	// A serializer may be there so that the name cannot be read in the database.
	if named, _ := fieldsNamed(d.schema, "Name"); d.Name == nil && len(named) == 1 && named[0].Serializer == nil {
		if _, err := text.Of(reflect.Zero(named[0].FieldType).Interface()); err == nil {
			d.Name = named[0]
		}
	}
	if d.Key == nil && !d.method {
		if len(d.schema.PrimaryFields) > 1 {
			return fmt.Errorf("the primary key has several columns, so the tenant id is to be named: give the model the method LLMTenantID, or use WithKey")
		}
		d.Key = d.schema.PrimaryFields[0]
	}
	fields := d.schema.PrimaryFields
	if d.Key != nil {
		fields = append(fields[:len(fields):len(fields)], d.Key)
	}
	for _, f := range fields {
		_, err := text.Of(reflect.Zero(f.FieldType).Interface())
		if err == nil {
			err = distinct(f.FieldType)
		}
		if err != nil {
			return fmt.Errorf("the field %s cannot be a key: %w", path(f), err)
		}
	}
	d.padded = d.Key != nil && padding.MatchString(string(d.Key.DataType))
	d.watch(model.Implements(reflect.TypeFor[fmt.Stringer]()))
	return nil
}

// watch finds out which columns a tenant depends on. A method may read any of them.
func (d *Declaration) watch(stringer bool) {
	d.all = d.method || d.Name == nil && stringer || d.Parent == nil && d.Places()
	d.columns = append(d.columns, d.schema.PrimaryFields...)
	add := func(f *schema.Field) {
		for _, have := range d.columns {
			if have == f {
				return
			}
		}
		d.columns = append(d.columns, f)
	}
	if d.all {
		for _, name := range d.schema.DBNames {
			if f := d.schema.FieldsByDBName[name]; f.Readable {
				add(f)
			}
		}
		return
	}
	add(d.Key)
	if d.Name != nil {
		add(d.Name)
	}
	if d.Parent != nil {
		add(d.Parent)
	}
}

// distinct returns an error where a type's text hides what tells its values apart, as that of a String that masks does.
func distinct(t reflect.Type) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	values := [2]reflect.Value{reflect.New(t).Elem(), reflect.New(t).Elem()}
	for i, v := range values {
		if v.Kind() == reflect.Array && v.Len() > 0 {
			v = v.Index(v.Len() - 1)
		}
		switch {
		case v.CanInt():
			v.SetInt(int64(i + 1))
		case v.CanUint():
			v.SetUint(uint64(i + 1))
		default:
			return nil // nothing is known of its values
		}
	}
	first, err := Said(t, "String", func() string { s, _ := text.Of(values[0].Interface()); return s })
	if err != nil {
		return nil //nolint:nilerr // it has no such values
	}
	second, err := Said(t, "String", func() string { s, _ := text.Of(values[1].Interface()); return s })
	if err == nil && first == second {
		return fmt.Errorf("the type %s shows different values alike, as %q; name another field, or give the model the method LLMTenantID", t, first)
	}
	return nil
}

// ValidNamespace says what is wrong with a namespace.
func ValidNamespace(name string) error {
	if strings.Contains(name, ":") {
		return fmt.Errorf("%q has a colon", name)
	}
	if err := text.OuterSpace(fault.ErrInvalidOption, "namespace", name); err != nil {
		return err
	}
	return text.Valid(fault.ErrInvalidOption, "namespace", name, true)
}
