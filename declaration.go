package tenant

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant/internal/directory"
)

// declaration is a model that was declared to be a tenant.
type declaration struct {
	ledger *Ledger
	typ    reflect.Type // of the struct
	schema *schema.Schema
	method bool // it has LLMTenantID

	// Without a key, the tenant id is given by the method alone; without a name, the name by the Stringer, else it is the
	// tenant id.
	settings
	inherit bool

	// columns are those that a record's tenant depends on, the primary key first; all says that it may be any of them.
	columns []*schema.Field
	all     bool

	own   atomic.Pointer[records] // where the ledger's own handle finds the records, once it has looked
	plain sync.Map                // the tables that are neither views nor in partitions, by the name in a statement
}

// field finds a field by its name in Go, or, of an embedded struct, by its path, such as Billing.Slug.
func (d *declaration) field(option, name string) (*schema.Field, error) {
	named, have := fieldsNamed(d.schema, name)
	switch len(named) {
	case 1:
		return named[0], nil
	case 0:
		return nil, fmt.Errorf("%s: the model has no column field %q; it has %s%s", option, name,
			strings.Join(have, ", "), meant(name, have))
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

// record turns a struct or a pointer to one into a value that gorm's fields read.
func (d *declaration) record(r any) (reflect.Value, error) {
	v := reflect.ValueOf(r)
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return v, fmt.Errorf("%w: it is a nil %T", ErrInvalidTenant, r)
		}
		return v, nil
	}
	p := reflect.New(d.typ)
	p.Elem().Set(v)
	return p, nil
}

// identity says who a record is. It goes by the struct in memory; where that is out of date, the key in the database
// belongs to another record or to none, and the first use mends it.
func (d *declaration) identity(r any) (identity, error) {
	v, err := d.record(r)
	if err != nil {
		return identity{}, err
	}
	id, primaryKey, err := d.ownerID(v)
	if err != nil {
		return identity{}, err
	}
	if fields := d.schema.PrimaryFields; len(fields) == 1 {
		if _, zero := fields[0].ValueOf(context.Background(), v); zero {
			return identity{}, fmt.Errorf("%w: a %s without a primary key: it was not saved yet", ErrInvalidTenant, d.typ)
		}
	}
	key, err := d.keyOf(v)
	if err != nil {
		return identity{}, err
	}
	who := identity{key: key, ownerType: d.ownerType(), ownerID: id, primaryKey: primaryKey, declaration: d}
	if d.budgetOf != nil {
		who.record = v
	}
	return who, nil
}

// ownerID is a record's primary key, in one canonical form and as it is.
func (d *declaration) ownerID(v reflect.Value) (id string, primaryKey []any, err error) {
	for _, f := range d.schema.PrimaryFields {
		value, _ := f.ValueOf(context.Background(), v)
		primaryKey = append(primaryKey, value)
	}
	id, err = d.canonical(primaryKey)
	return id, primaryKey, err
}

// canonical gives a primary key its one form as a string.
func (d *declaration) canonical(primaryKey []any) (string, error) {
	parts := make([]string, len(primaryKey))
	for i, value := range primaryKey {
		var err error
		if parts[i], err = text(value); err != nil {
			return "", fmt.Errorf("%w: the primary key of %s: %w", ErrInvalidTenant, d.typ, err)
		}
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	b, err := json.Marshal(parts)
	return string(b), err
}

// primaryKey is the inverse of canonical, where there is one.
func (d *declaration) primaryKey(id string) ([]any, bool) {
	parts := []string{id}
	if len(d.schema.PrimaryFields) > 1 && json.Unmarshal([]byte(id), &parts) != nil || len(parts) != len(d.schema.PrimaryFields) {
		return nil, false
	}
	v := reflect.New(d.typ).Elem()
	for i, f := range d.schema.PrimaryFields {
		var value any = parts[i]
		if f.IndirectFieldType.Kind() == reflect.Slice {
			value = textBytes(parts[i])
		}
		if f.Set(context.Background(), v, value) != nil {
			return nil, false
		}
	}
	again, key, err := d.ownerID(v)
	return key, err == nil && again == id
}

// keyOf is a record's tenant id.
func (d *declaration) keyOf(v reflect.Value) (string, error) {
	var key string
	if d.key != nil {
		s, err := text(plain(d.key, v))
		if err != nil {
			return "", fmt.Errorf("%w: the field %s of %s: %w", ErrInvalidTenant, path(d.key), d.typ, err)
		}
		key = d.unpadded(s)
	}
	if d.method {
		byMethod, err := said(d.typ, "LLMTenantID", v.Interface().(Tenant).LLMTenantID)
		if err != nil {
			return "", err
		}
		byMethod = d.unpadded(byMethod)
		if d.key != nil && byMethod != key {
			return "", fmt.Errorf("%w: %s says %q with its method LLMTenantID, and %q with the field %s", ErrInvalidTenant, d.typ, byMethod, key, path(d.key))
		}
		key = byMethod
	}
	if key == "" {
		return "", fmt.Errorf("%w (of a %s)", validKey(key), d.typ)
	}
	err := outerSpace(ErrInvalidTenant, "tenant id", key)
	if d.namespace != "" {
		key = d.namespace + ":" + key
	}
	if err == nil {
		err = ownKey(key)
	}
	if err != nil {
		hint := ""
		if strings.HasSuffix(key, " ") {
			hint = "; of a column that pads its values, say so with WithKey and the tag `gorm:\"type:char(n)\"`"
		}
		return "", fmt.Errorf("%w (of a %s%s)", err, d.typ, hint)
	}
	return key, nil
}

// plain is what the host's code sees of a field: with a serializer, something else is stored.
func plain(f *schema.Field, v reflect.Value) any {
	value, zero := f.ValueOf(context.Background(), v)
	if f.Serializer == nil {
		return value
	}
	if zero {
		return reflect.Zero(f.FieldType).Interface()
	}
	return f.ReflectValueOf(context.Background(), v).Interface()
}

// unpadded is a key without the spaces that its column adds to it.
func (d *declaration) unpadded(key string) string {
	if d.key != nil && padding.MatchString(string(d.key.DataType)) {
		return strings.TrimRight(key, " ")
	}
	return key
}

// padding are the types of columns whose values the database fills up with spaces, which then mean nothing.
var padding = regexp.MustCompile(`(?i)^\s*(char|character|nchar|bpchar)\s*(\(|$)`)

// said calls a method of the host's on a record. One that relies on what the table does not have (an association that
// was not loaded, for one) must not bring down the host's write.
func said[T any](typ reflect.Type, name string, method func() T) (s T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: the method %s of %s panics on a record as its table has it, without associations: %v",
				ErrInvalidTenant, name, typ, r)
		}
	}()
	return method(), nil
}

func (d *declaration) nameOf(v reflect.Value, key string) string {
	var name string
	if d.name != nil {
		name = shown(plain(d.name, v))
	} else if s, ok := v.Interface().(fmt.Stringer); ok {
		name, _ = said(d.typ, "String", s.String)
	}
	if name = strings.TrimSpace(printable(name)); name != "" {
		return name
	}
	return key
}

// profile is what a record's tenant is to be. Where the record has no key that a tenant can have, the profile says why.
func (r records) profile(v reflect.Value) (directory.Profile, error) {
	id, _, err := r.ownerID(v)
	if err != nil {
		return directory.Profile{}, err
	}
	p := directory.Profile{
		OwnerType: r.owner, OwnerID: id, Enforcement: r.enforcement, Inherit: r.inherit, Zone: r.zone, Limits: r.limits,
	}
	p.Key, p.Err = r.keyOf(v)
	if p.Parent, err = r.above(v); p.Err == nil {
		p.Err = err
	}
	p.Name = r.nameOf(v, p.Key)
	return p, nil
}

// declarations are the models that were declared, by their type and by their table.
type declarations struct {
	mu      sync.RWMutex
	byType  map[reflect.Type]*declaration
	byTable map[string]*declaration
	byName  map[string]*declaration // by the table's name without its schema; nil where several have it
}

func (ds *declarations) add(d *declaration) error {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if ds.byType == nil {
		ds.byType, ds.byTable, ds.byName = map[reflect.Type]*declaration{}, map[string]*declaration{}, map[string]*declaration{}
	}
	if other := ds.byTable[d.schema.Table]; other != nil {
		return fmt.Errorf("%w: Register %s: the table %s was declared before, for %s", ErrInvalidOption, d.typ, d.schema.Table, other.typ)
	}
	name := d.schema.Table
	ds.byType[d.typ], ds.byTable[name] = d, d
	if _, several := ds.byName[bare(name)]; several {
		d = nil
	}
	ds.byName[bare(name)] = d
	return nil
}

// of finds the declaration of a type or of a pointer to it.
func (ds *declarations) of(t reflect.Type) *declaration {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	ds.mu.RLock()
	defer ds.mu.RUnlock()
	return ds.byType[t]
}

// ofTable finds the declaration of the records of a table. Whether a name with another schema, or with one or without, means
// the declared table, only the database can say.
func (ds *declarations) ofTable(table string) *declaration {
	ds.mu.RLock()
	defer ds.mu.RUnlock()
	if d := ds.byTable[table]; d != nil {
		return d
	}
	return ds.byName[bare(table)]
}

// Tenant turns a record of a declared model into a [Tenant], for models without the method LLMTenantID. It goes by the
// record as it is now. What is wrong with it (not declared, nil, not saved yet) is reported where the Tenant is used.
func (l *Ledger) Tenant(record any) Tenant {
	if record == nil {
		return &recordTenant{err: fmt.Errorf("%w: the record is nil", ErrInvalidTenant)}
	}
	d := l.declarations.of(reflect.TypeOf(record))
	if d == nil {
		return &recordTenant{err: fmt.Errorf("%w: %T was not declared; call ledger.Register(&%s{}, …) first",
			ErrInvalidTenant, record, strings.TrimPrefix(reflect.TypeOf(record).String(), "*"))}
	}
	who, err := d.identity(record)
	if err != nil {
		return &recordTenant{err: err}
	}
	v, err := d.record(record)
	return &recordTenant{who: who, name: d.nameOf(v, who.key), err: err}
}

// recordTenant is used by its pointer, which can be compared and be the key of a map.
type recordTenant struct {
	who  identity
	name string
	err  error
}

// LLMTenantID implements [Tenant].
func (t *recordTenant) LLMTenantID() string { return t.who.key }

func (t *recordTenant) identity() (identity, error) { return t.who, t.err }
