package records

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/directory"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/text"
)

// record turns a struct or a pointer to one into a value that gorm's fields read.
func (d *Declaration) record(r any) (reflect.Value, error) {
	v := reflect.ValueOf(r)
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return v, fmt.Errorf("%w: it is a nil %T", fault.ErrInvalidTenant, r)
		}
		return v, nil
	}
	p := reflect.New(d.Type)
	p.Elem().Set(v)
	return p, nil
}

// Identity is who a record is.
type Identity struct {
	Key         string
	OwnerType   string // the record's table; empty without a record
	OwnerID     string // the record's primary key in canonical form
	Declaration *Declaration

	primaryKey []any         // the same as gorm takes it
	record     reflect.Value // a pointer to it as it is in memory, where the declaration makes its budget by it

	// said is the key that the record has in memory, where it is known that the database has another one.
	said string
}

// Expected is what the first call for a record will make of its tenant, as far as its declaration goes.
func (i Identity) Expected() directory.Profile {
	d := i.Declaration
	p := directory.Profile{Key: i.Key, Inherit: d.Inherit, Enforcement: d.Enforcement, Counts: d.Counts, Zone: d.Zone, Limits: d.Limits}
	if d.Plan != nil && i.record.IsValid() {
		_ = d.Plan(&p, i.record) // where it fails, so does the first call
	}
	return p
}

// Identify says who a record of a declared model is. It reports false for anything else.
func (g *Registry) Identify(record any) (who Identity, declared bool, err error) {
	d := g.Of(reflect.TypeOf(record))
	if d == nil {
		return Identity{}, false, nil
	}
	who, err = d.identity(record)
	return who, true, err
}

// NameOf is what a record of a declared model is called. It reports false for anything else.
func (g *Registry) NameOf(record any) (string, bool) {
	d := g.Of(reflect.TypeOf(record))
	if d == nil {
		return "", false
	}
	v, err := d.record(record)
	if err != nil {
		return "", false
	}
	key, _ := d.keyOf(v)
	return d.nameOf(v, key), true
}

// identity says who a record is. It goes by the struct in memory; where that is out of date, the key in the database
// belongs to another record or to none, and the first use mends it.
func (d *Declaration) identity(r any) (Identity, error) {
	v, err := d.record(r)
	if err != nil {
		return Identity{}, err
	}
	id, primaryKey, err := d.ownerID(v)
	if err != nil {
		return Identity{}, err
	}
	if fields := d.schema.PrimaryFields; len(fields) == 1 {
		if _, zero := fields[0].ValueOf(context.Background(), v); zero {
			return Identity{}, fmt.Errorf("%w: a %s without a primary key: it was not saved yet", fault.ErrInvalidTenant, d.Type)
		}
	}
	key, err := d.keyOf(v)
	if err != nil {
		return Identity{}, err
	}
	who := Identity{Key: key, OwnerType: d.ownerType(), OwnerID: id, Declaration: d, primaryKey: primaryKey}
	if d.Plan != nil {
		who.record = v
	}
	return who, nil
}

// ownerID is a record's primary key, in one canonical form and as it is.
func (d *Declaration) ownerID(v reflect.Value) (id string, primaryKey []any, err error) {
	for _, f := range d.schema.PrimaryFields {
		value, _ := f.ValueOf(context.Background(), v)
		primaryKey = append(primaryKey, value)
	}
	id, err = d.canonical(primaryKey)
	return id, primaryKey, err
}

// canonical gives a primary key its one form as a string.
func (d *Declaration) canonical(primaryKey []any) (string, error) {
	parts := make([]string, len(primaryKey))
	for i, value := range primaryKey {
		var err error
		if parts[i], err = text.Of(value); err != nil {
			return "", fmt.Errorf("%w: the primary key of %s: %w", fault.ErrInvalidTenant, d.Type, err)
		}
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	b, err := json.Marshal(parts)
	return string(b), err
}

// primaryKey is the inverse of canonical, where there is one.
func (d *Declaration) primaryKey(id string) ([]any, bool) {
	parts := []string{id}
	if len(d.schema.PrimaryFields) > 1 && json.Unmarshal([]byte(id), &parts) != nil || len(parts) != len(d.schema.PrimaryFields) {
		return nil, false
	}
	v := reflect.New(d.Type).Elem()
	for i, f := range d.schema.PrimaryFields {
		var value any = parts[i]
		if f.IndirectFieldType.Kind() == reflect.Slice {
			value = text.Bytes(parts[i])
		}
		if f.Set(context.Background(), v, value) != nil {
			return nil, false
		}
	}
	again, key, err := d.ownerID(v)
	return key, err == nil && again == id
}

// keyOf is a record's tenant id.
func (d *Declaration) keyOf(v reflect.Value) (string, error) {
	var key string
	if d.Key != nil {
		s, err := text.Of(plain(d.Key, v))
		if err != nil {
			return "", fmt.Errorf("%w: the field %s of %s: %w", fault.ErrInvalidTenant, path(d.Key), d.Type, err)
		}
		key = d.unpadded(s)
	}
	if d.method {
		byMethod, err := Said(d.Type, "LLMTenantID", v.Interface().(Tenant).LLMTenantID)
		if err != nil {
			return "", err
		}
		byMethod = d.unpadded(byMethod)
		if d.Key != nil && byMethod != key {
			return "", fmt.Errorf("%w: %s says %q with its method LLMTenantID, and %q with the field %s", fault.ErrInvalidTenant, d.Type, byMethod, key, path(d.Key))
		}
		key = byMethod
	}
	if key == "" {
		return "", fmt.Errorf("%w (of a %s)", ValidKey(key), d.Type)
	}
	err := text.OuterSpace(fault.ErrInvalidTenant, "tenant id", key)
	if d.Namespace != "" {
		key = d.Namespace + ":" + key
	}
	if err == nil {
		err = OwnKey(key)
	}
	if err != nil {
		hint := ""
		if strings.HasSuffix(key, " ") {
			hint = "; of a column that pads its values, say so with WithKey and the tag `gorm:\"type:char(n)\"`"
		}
		return "", fmt.Errorf("%w (of a %s%s)", err, d.Type, hint)
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
func (d *Declaration) unpadded(key string) string {
	if d.padded {
		return strings.TrimRight(key, " ")
	}
	return key
}

// padding are the types of columns whose values the database fills up with spaces, which then mean nothing.
var padding = regexp.MustCompile(`(?i)^\s*(char|character|nchar|bpchar)\s*(\(|$)`)

// Said calls a method of the host's on a record. One that relies on what the table does not have (an association that
// was not loaded, for one) must not bring down the host's write.
func Said[T any](typ reflect.Type, name string, method func() T) (s T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: the method %s of %s panics on a record as its table has it, without associations: %v",
				fault.ErrInvalidTenant, name, typ, r)
		}
	}()
	return method(), nil
}

func (d *Declaration) nameOf(v reflect.Value, key string) string {
	var name string
	if d.Name != nil {
		name = text.Shown(plain(d.Name, v))
	} else if s, ok := v.Interface().(fmt.Stringer); ok {
		name, _ = Said(d.Type, "String", s.String)
	}
	if name = strings.TrimSpace(text.Printable(name)); name != "" {
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
	return r.profileOf(v, id)
}

// profileOf is profile of a record whose primary key is known.
func (r records) profileOf(v reflect.Value, id string) (directory.Profile, error) {
	p := directory.Profile{
		OwnerType: r.owner, OwnerID: id, Enforcement: r.Enforcement, Counts: r.Counts, Inherit: r.Inherit, Zone: r.Zone, Limits: r.Limits,
	}
	p.Key, p.Err = r.keyOf(v)
	var err error
	if p.Parent, err = r.parentOf(v); p.Err == nil {
		p.Err = err
	}
	p.Name = r.nameOf(v, p.Key)
	return p, nil
}

// ValidKey says what is wrong with a tenant id.
func ValidKey(key string) error {
	if err := text.Valid(fault.ErrInvalidTenant, "tenant id", key, true); err != nil {
		return err
	}
	return text.OuterSpace(fault.ErrInvalidTenant, "tenant id", key)
}

// OwnKey says what is wrong with a tenant id that a tenant is to get, which cannot be the root's.
func OwnKey(key string) error {
	if key == book.RootKey {
		return fmt.Errorf("%w: the tenant id %q is the root's", fault.ErrInvalidTenant, key)
	}
	return ValidKey(key)
}
