package tenant

import (
	"fmt"
	"reflect"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant/internal/book"
)

// RegisterOption is an option of [Ledger.Register]. Most of what the options say can be said by struct tags as well; what
// is said in several ways has to be the same.
type RegisterOption func(*declaration) error

// WithKey names the field whose value is the tenant id, like the tag `tenant:"key"` on it. The id is the value that the
// program sees: of a field with a serializer what it was before that, of a column of type char(n) without the spaces that
// fill it up. Where several embedded structs have a field of that name, give its path: WithKey("Billing.Slug"). Defaults to
// the method LLMTenantID where the model has one, otherwise to the primary key. A model with both has to give the same
// with both.
func WithKey(field string) RegisterOption {
	return func(d *declaration) (err error) {
		d.key, err = d.field("WithKey", field)
		return err
	}
}

// WithName names the field whose value is shown as the tenant's name, like the tag `tenant:"name"` on it. Defaults to the
// field Name, otherwise to what the model's String method returns, otherwise to the tenant id. The name follows the record.
func WithName(field string) RegisterOption {
	return func(d *declaration) (err error) {
		d.name, err = d.field("WithName", field)
		return err
	}
}

// WithBudget gives every record a budget when it is created, in the same transaction. Defaults to off: without it, and
// without [WithLimits], a record gets one at its first call.
func WithBudget() RegisterOption {
	return func(d *declaration) error {
		d.budget = true
		return nil
	}
}

// WithLimits gives every record a budget with these limits when it is created. They are the budget's own from then on:
// a change of the declaration does not change budgets that exist; [ConfigureBudget] does. Defaults to no limits.
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
// and that to Soft, which refuses nobody: limits without an enforcement are reported to the logger.
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
		d.inherits = &inherit
		return nil
	}
}

// WithNamespace puts a name and a colon before the tenant ids of the model's records, whichever way they are given, so
// that records of two models with the same key are two tenants: with WithNamespace("org"), the record that says "1", by
// its method LLMTenantID too, is the tenant "org:1", and [ID]("org:1") finds it. Defaults to none.
func WithNamespace(name string) RegisterOption {
	return func(d *declaration) error {
		if err := validNamespace(name); err != nil {
			return fmt.Errorf("WithNamespace: %w", err)
		}
		d.namespace = name
		return nil
	}
}

func validNamespace(name string) error {
	if strings.Contains(name, ":") {
		return fmt.Errorf("%q has a colon", name)
	}
	if err := outerSpace(ErrInvalidOption, "namespace", name); err != nil {
		return err
	}
	return validText(ErrInvalidOption, "namespace", name, true)
}

// DeletePolicy says what the soft delete of a record does to its budget.
type DeletePolicy string

// The policies.
const (
	// SuspendBudget keeps the budget and lets it make no calls. Its tenant id is free for another record to take. When the
	// record is restored, so is the budget.
	SuspendBudget DeletePolicy = "suspend"

	// KeepBudget changes nothing: calls for the record go on.
	KeepBudget DeletePolicy = "keep"

	// RemoveBudget does what a hard delete does. A record that is restored starts with a new budget.
	RemoveBudget DeletePolicy = "remove"
)

func (p DeletePolicy) valid() error {
	switch p {
	case SuspendBudget, KeepBudget, RemoveBudget:
		return nil
	}
	return fmt.Errorf("unknown policy %q: it is SuspendBudget, KeepBudget or RemoveBudget", string(p))
}

// WithOnDelete sets what the soft delete of a record, of a model that has one, does to its budget. Defaults to
// SuspendBudget. A hard delete always removes the budget, and keeps the executions.
func WithOnDelete(p DeletePolicy) RegisterOption {
	return func(d *declaration) error {
		if err := p.valid(); err != nil {
			return fmt.Errorf("WithOnDelete: %w", err)
		}
		d.onDelete = p
		return nil
	}
}

// Register declares a GORM model, given as a pointer to its struct, to be a tenant. From then on the budgets of its
// records follow them, whichever handle of the ledger's database they are created, changed and deleted through, and they
// can be given as a [Tenant]: as they are if they have the method LLMTenantID, otherwise through [Ledger.Tenant].
//
// A model can say the same with struct tags, some on its fields and the rest on a blank field:
//
//	type Organization struct {
//		_    struct{} `tenant:"daily_cost=100;monthly_tokens=5_000_000;enforcement=hard"`
//		ID   uint
//		Slug string `tenant:"key"`
//		Name string `tenant:"name"`
//	}
//
// The tags of the blank field are daily_ and monthly_ with cost (US dollars), tokens and calls; enforcement; inherit;
// budget; time_zone; namespace; and on_delete.
//
// It returns [ErrInvalidOption], naming the model, the option or field, and the value, for whatever cannot be meant: a
// tag or a field that does not exist, two ways that disagree.
func (l *Ledger) Register(record any, options ...RegisterOption) error {
	d, err := l.declare(record, options)
	if err != nil {
		return fmt.Errorf("%w: Register %T: %w", ErrInvalidOption, record, err)
	}
	if err := l.declarations.add(d); err != nil {
		return err
	}
	if inherited := l.options.enforcement != "" && d.inherit; len(d.limits) > 0 && d.enforcement == book.Inherited && !inherited {
		l.options.log.Warn("tenant: a model was registered with limits and without an enforcement: it is Soft, so that the limits are counted "+
			"and refuse nobody; say WithEnforcement(tenant.Hard), or WithEnforcement(tenant.Soft) if that is meant", "model", d.typ.String())
	}
	return nil
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
	d := &declaration{ledger: l, typ: t, schema: statement.Schema}
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
	tags, err := readTags(d.schema)
	if err != nil {
		return nil, err
	}
	if err := d.agree(tags); err != nil {
		return nil, err
	}
	return d, d.complete()
}

// complete fills in what was left to the defaults.
func (d *declaration) complete() error {
	model := reflect.PointerTo(d.typ)
	d.method = model.Implements(reflect.TypeFor[Tenant]())
	d.inherit = d.inherits == nil || *d.inherits
	if d.onDelete == "" {
		d.onDelete = SuspendBudget
	}
	// A serializer may be there so that the name cannot be read in the database.
	if named, _ := fieldsNamed(d.schema, "Name"); d.name == nil && len(named) == 1 && named[0].Serializer == nil {
		if _, err := text(reflect.Zero(named[0].FieldType).Interface()); err == nil {
			d.name = named[0]
		}
	}
	if d.key == nil && !d.method {
		if len(d.schema.PrimaryFields) > 1 {
			return fmt.Errorf("the primary key has several columns, so the tenant id is to be named: give the model the method LLMTenantID, or use WithKey")
		}
		d.key = d.schema.PrimaryFields[0]
	}
	fields := d.schema.PrimaryFields
	if d.key != nil {
		fields = append(fields[:len(fields):len(fields)], d.key)
	}
	for _, f := range fields {
		_, err := text(reflect.Zero(f.FieldType).Interface())
		if err == nil {
			err = distinct(f.FieldType)
		}
		if err != nil {
			return fmt.Errorf("the field %s cannot be a key: %w", path(f), err)
		}
	}
	d.watch(model.Implements(reflect.TypeFor[fmt.Stringer]()))
	return nil
}

// watch finds out which columns a tenant depends on. A method may read any of them.
func (d *declaration) watch(stringer bool) {
	d.all = d.method || d.name == nil && stringer || d.parent == nil && d.places()
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
	add(d.key)
	if d.name != nil {
		add(d.name)
	}
	if d.parent != nil {
		add(d.parent)
	}
}
