package tenant

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant/internal/store"
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
}

// field finds a field by its name in Go.
func (d *declaration) field(option, name string) (*schema.Field, error) {
	if f := d.schema.FieldsByName[name]; f != nil && f.DBName != "" {
		return f, nil
	}
	var have []string
	for _, f := range d.schema.Fields {
		if f.DBName != "" {
			have = append(have, f.Name)
		}
	}
	return nil, fmt.Errorf("%s: the model has no column field %q; it has %s%s", option, name,
		strings.Join(have, ", "), meant(name, have))
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
	return identity{key: key, ownerType: d.schema.Table, ownerID: id, primaryKey: primaryKey, declaration: d}, nil
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
		if f.Set(context.Background(), v, parts[i]) != nil {
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
		value, _ := d.key.ValueOf(context.Background(), v)
		s, err := text(value)
		if err != nil {
			return "", fmt.Errorf("%w: the field %s of %s: %w", ErrInvalidTenant, d.key.Name, d.typ, err)
		}
		key = s
	}
	if d.method {
		byMethod, err := said(d.typ, "LLMTenantID", v.Interface().(Tenant).LLMTenantID)
		if err != nil {
			return "", err
		}
		if d.key != nil && byMethod != key {
			return "", fmt.Errorf("%w: %s says %q with its method LLMTenantID, and %q with the field %s", ErrInvalidTenant, d.typ, byMethod, key, d.key.Name)
		}
		key = byMethod
	}
	if key == "" {
		return "", fmt.Errorf("%w (of a %s)", validKey(key), d.typ)
	}
	if d.namespace != "" {
		key = d.namespace + ":" + key
	}
	if err := ownKey(key); err != nil {
		return "", fmt.Errorf("%w (of a %s)", err, d.typ)
	}
	return key, nil
}

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
		value, _ := d.name.ValueOf(context.Background(), v)
		name, _ = text(value)
	} else if s, ok := v.Interface().(fmt.Stringer); ok {
		name, _ = said(d.typ, "String", s.String)
	}
	if name = printable(name); name != "" {
		return name
	}
	return key
}

// profile is what a record's tenant is to be. Where the record has no key that a tenant can have, the profile says why.
func (d *declaration) profile(v reflect.Value) (store.Profile, error) {
	id, _, err := d.ownerID(v)
	if err != nil {
		return store.Profile{}, err
	}
	p := store.Profile{
		OwnerType: d.schema.Table, OwnerID: id, Enforcement: d.enforcement, Inherit: d.inherit, Zone: d.zone, Limits: d.limits,
	}
	p.Key, p.Err = d.keyOf(v)
	if p.Parent, err = d.above(v); p.Err == nil {
		p.Err = err
	}
	p.Name = d.nameOf(v, p.Key)
	return p, nil
}

// text gives the value of a key field its one form as a string.
func text(value any) (string, error) {
	switch v := value.(type) {
	case nil:
		return "", nil
	case string:
		return v, nil
	case []byte:
		return string(v), nil
	case time.Time: // in memory it may be finer than in the database, and in another zone
		return v.UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano), nil
	case fmt.Stringer:
		if r := reflect.ValueOf(v); r.Kind() == reflect.Pointer && r.IsNil() {
			return "", nil
		}
		return v.String(), nil
	case driver.Valuer:
		inner, err := v.Value()
		if err != nil {
			return "", err
		}
		if _, again := inner.(driver.Valuer); again {
			return "", fmt.Errorf("the type %T gives no plain value", value)
		}
		return text(inner)
	}
	switch r := reflect.ValueOf(value); r.Kind() {
	case reflect.Pointer:
		if r.IsNil() {
			return "", nil
		}
		return text(r.Elem().Interface())
	case reflect.String:
		return r.String(), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(r.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.FormatUint(r.Uint(), 10), nil
	}
	return "", fmt.Errorf("the type %T has no text form", value)
}

// declarations are the models that were declared, by their type and by their table.
type declarations struct {
	mu      sync.RWMutex
	byType  map[reflect.Type]*declaration
	byTable map[string]*declaration
}

func (ds *declarations) add(d *declaration) error {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if ds.byType == nil {
		ds.byType, ds.byTable = map[reflect.Type]*declaration{}, map[string]*declaration{}
	}
	if other := ds.byTable[d.schema.Table]; other != nil {
		return fmt.Errorf("%w: Register %s: the table %s was declared before, for %s", ErrInvalidOption, d.typ, d.schema.Table, other.typ)
	}
	ds.byType[d.typ], ds.byTable[d.schema.Table] = d, d
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

func (ds *declarations) ofTable(table string) *declaration {
	ds.mu.RLock()
	defer ds.mu.RUnlock()
	return ds.byTable[table]
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
