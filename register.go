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

	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/store"
)

// RegisterOption is an option of [Ledger.Register].
type RegisterOption func(*declaration) error

// WithKey names the field whose value is the tenant id. Defaults to the method LLMTenantID where the model has one, else
// to the primary key. A model with both has to give the same with both.
func WithKey(field string) RegisterOption {
	return func(d *declaration) (err error) {
		d.key, err = d.field("WithKey", field)
		return err
	}
}

// WithName names the field whose value is shown as the tenant's name. Defaults to the field Name, else to what the
// model's String method returns, else to the tenant id.
func WithName(field string) RegisterOption {
	return func(d *declaration) (err error) {
		d.name, err = d.field("WithName", field)
		return err
	}
}

// WithBudget gives every record a budget when it is created, in the same transaction. Without it, and without
// [WithLimits], a record gets one at its first call.
func WithBudget() RegisterOption {
	return func(d *declaration) error {
		d.budget = true
		return nil
	}
}

// WithLimits gives every record a budget with these limits when it is created. They are the budget's own from then on:
// a change of the declaration does not change budgets that exist; [ConfigureBudget] does.
func WithLimits(limits Limits) RegisterOption {
	return func(d *declaration) (err error) {
		d.budget = true
		if d.limits, err = limits.rows(); err != nil {
			return fmt.Errorf("WithLimits: %w", err)
		}
		return nil
	}
}

// WithEnforcement sets what the limits do to a call that they have no room for. Defaults to what the budget inherits,
// and that to Soft.
func WithEnforcement(e Enforcement) RegisterOption {
	return func(d *declaration) error {
		if err := e.valid(); err != nil {
			return fmt.Errorf("WithEnforcement: %w", err)
		}
		d.enforcement = book.Enforcement(e)
		return nil
	}
}

// WithInherit sets whether the ledger's default limits and enforcement hold for what the budget does not set itself.
// Defaults to true.
func WithInherit(inherit bool) RegisterOption {
	return func(d *declaration) error {
		d.inherit = inherit
		return nil
	}
}

// Register declares a GORM model, given as a pointer to its struct, to be a tenant. From then on its records get their
// budgets when they are created through any handle of the ledger's database, and can be given as a [Tenant]: as they
// are if they have the method LLMTenantID, else through [Ledger.Tenant].
//
// It returns [ErrInvalidOption], naming the model, the option and the value, for whatever cannot be meant.
func (l *Ledger) Register(record any, options ...RegisterOption) error {
	d, err := l.declare(record, options)
	if err != nil {
		return fmt.Errorf("%w: Register %T: %w", ErrInvalidOption, record, err)
	}
	return l.declarations.add(d)
}

func (l *Ledger) declare(record any, options []RegisterOption) (*declaration, error) {
	t := reflect.TypeOf(record)
	if t == nil {
		return nil, fmt.Errorf("the model is nil; give a pointer to its struct, such as &Organization{}")
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("a model is a struct, and this is a %s", t.Kind())
	}
	statement := &gorm.Statement{DB: l.db}
	if err := statement.Parse(reflect.New(t).Interface()); err != nil {
		return nil, fmt.Errorf("gorm cannot read the model: %w", err)
	}
	d := &declaration{ledger: l, typ: t, schema: statement.Schema, inherit: true}
	d.method = reflect.PointerTo(t).Implements(reflect.TypeFor[Tenant]())
	if len(d.schema.PrimaryFields) == 0 {
		return nil, fmt.Errorf("the model has no primary key, by which its budget would be found again")
	}
	for _, option := range options {
		if option == nil {
			return nil, fmt.Errorf("a nil RegisterOption")
		}
		if err := option(d); err != nil {
			return nil, err
		}
	}
	if d.name == nil {
		d.name = d.schema.LookUpField("Name")
	}
	if d.key == nil && !d.method {
		if len(d.schema.PrimaryFields) > 1 {
			return nil, fmt.Errorf("the primary key has several columns, so the tenant id is to be named: give the model the method LLMTenantID, or use WithKey")
		}
		d.key = d.schema.PrimaryFields[0]
	}
	fields := d.schema.PrimaryFields
	if d.key != nil {
		fields = append(fields[:len(fields):len(fields)], d.key)
	}
	for _, f := range fields {
		if _, err := text(reflect.Zero(f.FieldType).Interface()); err != nil {
			return nil, fmt.Errorf("the field %s cannot be a key: %w", f.Name, err)
		}
	}
	return d, nil
}

// declaration is a model that was declared to be a tenant.
type declaration struct {
	ledger *Ledger
	typ    reflect.Type // of the struct
	schema *schema.Schema
	key    *schema.Field // nil: by the method alone
	name   *schema.Field // nil: by the Stringer, else the key
	method bool          // it has LLMTenantID

	budget      bool
	limits      []book.Limit
	enforcement book.Enforcement
	inherit     bool
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
	return nil, fmt.Errorf("%s: the model has no column field %q; it has %s", option, name, strings.Join(have, ", "))
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
	key, err := d.keyOf(v)
	if err != nil {
		return identity{}, err
	}
	return identity{key: key, ownerType: d.schema.Table, ownerID: id, primaryKey: primaryKey, declaration: d}, nil
}

// ownerID is a record's primary key, in one canonical form and as it is.
func (d *declaration) ownerID(v reflect.Value) (id string, primaryKey []any, err error) {
	var parts []string
	for _, f := range d.schema.PrimaryFields {
		value, zero := f.ValueOf(context.Background(), v)
		if zero && len(d.schema.PrimaryFields) == 1 {
			return "", nil, fmt.Errorf("%w: a %s without a primary key: it was not saved yet", ErrInvalidTenant, d.typ)
		}
		s, err := text(value)
		if err != nil {
			return "", nil, fmt.Errorf("%w: the primary key of %s: %w", ErrInvalidTenant, d.typ, err)
		}
		parts, primaryKey = append(parts, s), append(primaryKey, value)
	}
	if len(parts) == 1 {
		return parts[0], primaryKey, nil
	}
	b, err := json.Marshal(parts)
	return string(b), primaryKey, err
}

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
		byMethod := v.Interface().(Tenant).LLMTenantID()
		if d.key != nil && byMethod != key {
			return "", fmt.Errorf("%w: %s says %q with its method LLMTenantID, and %q with the field %s", ErrInvalidTenant, d.typ, byMethod, key, d.key.Name)
		}
		key = byMethod
	}
	if err := validKey(key); err != nil {
		return "", fmt.Errorf("%w (of a %s)", err, d.typ)
	}
	return key, nil
}

func (d *declaration) nameOf(v reflect.Value, key string) string {
	if d.name != nil {
		value, _ := d.name.ValueOf(context.Background(), v)
		if s, err := text(value); err == nil && s != "" {
			return printable(s)
		}
	} else if s, ok := v.Interface().(fmt.Stringer); ok {
		if s := s.String(); s != "" {
			return printable(s)
		}
	}
	return key
}

// profile is what a record's tenant is to be.
func (d *declaration) profile(v reflect.Value) (store.Profile, error) {
	who, err := d.identity(v.Interface())
	if err != nil {
		return store.Profile{}, err
	}
	return store.Profile{
		Key: who.key, Name: d.nameOf(v, who.key), OwnerType: who.ownerType, OwnerID: who.ownerID,
		Enforcement: d.enforcement, Inherit: d.inherit, Limits: d.limits,
	}, nil
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
		return recordTenant{err: fmt.Errorf("%w: the record is nil", ErrInvalidTenant)}
	}
	d := l.declarations.of(reflect.TypeOf(record))
	if d == nil {
		return recordTenant{err: fmt.Errorf("%w: %T was not declared; call ledger.Register(&%s{}, …) first",
			ErrInvalidTenant, record, strings.TrimPrefix(reflect.TypeOf(record).String(), "*"))}
	}
	who, err := d.identity(record)
	return recordTenant{who, err}
}

type recordTenant struct {
	who identity
	err error
}

// LLMTenantID implements [Tenant].
func (t recordTenant) LLMTenantID() string { return t.who.key }

func (t recordTenant) identity() (identity, error) { return t.who, t.err }
