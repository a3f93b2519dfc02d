package tenant

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/citus"
	"github.com/llmtenant/tenant/internal/directory"
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/internal/records"
)

// declaration is a model that was declared to be a tenant.
type declaration = records.Declaration

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
		d.Key, err = d.Field("WithKey", field)
		return err
	}
}

// WithName names the field whose value is shown as the tenant's name, like the tag `tenant:"name"` on it. Defaults to the
// field Name, otherwise to what the model's String method returns, otherwise to the tenant id. The name follows the record.
func WithName(field string) RegisterOption {
	return func(d *declaration) (err error) {
		d.Name, err = d.Field("WithName", field)
		return err
	}
}

// WithBudget gives every record a budget when it is created, in the same transaction. Defaults to off: without it, and
// without [WithLimits], a record gets one at its first call.
func WithBudget() RegisterOption {
	return func(d *declaration) error {
		d.Budget = true
		return nil
	}
}

// WithLimits gives every record a budget with these limits when it is created. They are the budget's own from then on:
// a change of the declaration does not change budgets that exist; [ConfigureBudget] does. Defaults to no limits.
func WithLimits(limits Limits) RegisterOption {
	return func(d *declaration) (err error) {
		d.Budget = true
		if d.Limits, err = limits.rows(); err != nil {
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
		d.Enforcement = book.Enforcement(e)
		return nil
	}
}

// WithCounts sets what the budget's limits of cost count: what the tenant is charged (CountsCharge), or what providers bill
// (CountsCost). Defaults to what the ledger says, and that to the charge.
func WithCounts(c Counts) RegisterOption {
	return func(d *declaration) error {
		if err := c.valid(); err != nil {
			return fmt.Errorf("WithCounts: %w", err)
		}
		d.Counts = book.Counting(c)
		return nil
	}
}

// WithInherit sets whether the ledger's default limits and enforcement hold for what the budget does not set itself.
// Defaults to true.
func WithInherit(inherit bool) RegisterOption {
	return func(d *declaration) error {
		d.Inherits = &inherit
		return nil
	}
}

// WithNamespace puts a name and a colon before the tenant ids of the model's records, whichever way they are given, so
// that records of two models with the same key are two tenants: with WithNamespace("org"), the record that says "1", by
// its method LLMTenantID too, is the tenant "org:1", and [ID]("org:1") finds it. Defaults to none.
func WithNamespace(name string) RegisterOption {
	return func(d *declaration) error {
		if err := records.ValidNamespace(name); err != nil {
			return fmt.Errorf("WithNamespace: %w", err)
		}
		d.Namespace = name
		return nil
	}
}

// DeletePolicy says what the soft delete of a record does to its budget.
type DeletePolicy string

// The policies.
const (
	// SuspendBudget keeps the budget and lets it make no calls. Its tenant id is free for another record to take. When the
	// record is restored, so is the budget.
	SuspendBudget DeletePolicy = DeletePolicy(records.Suspend)

	// KeepBudget changes nothing: calls for the record go on.
	KeepBudget DeletePolicy = DeletePolicy(records.Keep)

	// RemoveBudget does what a hard delete does. A record that is restored starts with a new budget.
	RemoveBudget DeletePolicy = DeletePolicy(records.Remove)
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
		d.OnDelete = records.DeletePolicy(p)
		return nil
	}
}

// Child is a model whose records stand below another tenant, as a team below its organization: the budget of that counts
// their calls too. It may be a record of a registered model, of which the primary key is enough, an [ID], or nil for none.
// The method is called on records as their table has them, without associations.
type Child interface {
	LLMTenantParent() Tenant
}

// WithParent names the field with the primary key of the record above, and the model of that, which is to be registered
// too: WithParent("OrganizationID", &Organization{}). A field that is empty says that there is none. The tenant follows the
// field: who is moved is held to the new budget from the next call on, and takes no history along. Defaults to what the
// method LLMTenantParent says, see [Child]; otherwise records stand below none but the [Root].
func WithParent(field string, model any) RegisterOption {
	return func(d *declaration) (err error) {
		t := reflect.TypeOf(model)
		if t != nil && t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t == nil || t.Kind() != reflect.Struct {
			return fmt.Errorf("WithParent(%q): the model is a %T; give a pointer to its struct, such as &Organization{}", field, model)
		}
		if d.Parent, err = d.Field("WithParent", field); err != nil {
			return err
		}
		d.ParentType = t
		return nil
	}
}

// WithTimeZone gives the budgets of records a time zone when they are created, an IANA name such as "Europe/Berlin".
// Defaults to that of the ledger, see [WithDefaultTimeZone].
func WithTimeZone(name string) RegisterOption {
	return func(d *declaration) error {
		if _, err := period.LoadZone(name); err != nil {
			return fmt.Errorf("WithTimeZone: %w", err)
		}
		d.Zone = name
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
	d, err := l.records.Declare(record, func(d *declaration) error {
		for _, option := range options {
			if option == nil {
				return fmt.Errorf("a nil RegisterOption")
			}
			if err := option(d); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w: Register %T: %w", ErrInvalidOption, record, err)
	}
	if err := l.commitsTogether(d); err != nil {
		return fmt.Errorf("%w: Register %T: %w", ErrInvalidOption, record, err)
	}
	if err := l.records.Add(d); err != nil {
		return err
	}
	if inherited := l.options.enforcement != "" && d.Inherit; len(d.Limits) > 0 && d.Enforcement == book.Inherited && !inherited {
		l.options.log.Warn("tenant: a model was registered with limits and without an enforcement: it is Soft, so that the limits are counted "+
			"and refuse nobody; say WithEnforcement(tenant.Hard), or WithEnforcement(tenant.Soft) if that is meant", "model", d.Type.String())
	}
	return nil
}

// commitsTogether returns an error where Citus would commit the records of a model apart from their budgets. Of a database that does not answer
// nothing is known; each INSERT asks again.
func (l *Ledger) commitsTogether(d *declaration) error {
	if len(l.options.places) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := d.CommitsWithPlaces(l.db.WithContext(ctx))
	if local := (*citus.LocalTableError)(nil); errors.As(err, &local) {
		return local
	}
	return nil
}

// limitTags reads the limits in the tags of a model: those of the fields of Limits, as DailyCost by the tag daily_cost.
func limitTags() records.LimitTags {
	var limits Limits
	fields := map[string]any{} // *Money or *Quantity
	for _, f := range limitFields {
		fields[snake(f.name)] = f.value(&limits)
	}
	return records.LimitTags{
		Words: slices.Sorted(maps.Keys(fields)),
		Set: func(word, value string) error {
			switch to := fields[word].(type) {
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
		},
		Rows: func() ([]book.Limit, error) { return limits.rows() }, //nolint:gocritic // a method value is of the limits as they are now
	}
}

// snake turns the name of a field into that of its tag.
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

// parentOf is the method of a record that says who stands above it.
func parentOf(record any) func() records.Tenant {
	child, ok := record.(Child)
	if !ok {
		return nil
	}
	return func() records.Tenant {
		if parent := child.LLMTenantParent(); parent != nil {
			return parent
		}
		return nil
	}
}

// WithBudgetFunc gives every record a budget of its own when it is created, in the same transaction: by the plan that a
// customer is on, for one. f is given the record as its table has it, without associations, and a budget as it is declared
// otherwise, of which it sets Limits, Enforcement, Counts, Inherit and TimeZone. They are the budget's own from then on: a record
// that changes does not change them; [ConfigureBudget] with the same function does. An error of f, or a budget that
// is invalid, fails the create. f is to be quick, and must not use the database. Defaults to none.
//
//	func limits(o *Organization, b *tenant.Budget) error {
//		b.Limits, b.Enforcement = plans[o.Plan], tenant.Hard
//		return nil
//	}
//
//	err := ledger.Register(&Organization{}, tenant.WithBudgetFunc(limits))
func WithBudgetFunc[T any](f func(record *T, b *Budget) error) RegisterOption {
	return func(d *declaration) error {
		if f == nil {
			return errors.New("WithBudgetFunc: the function is nil")
		}
		if want := reflect.TypeFor[T](); want != d.Type {
			return fmt.Errorf("WithBudgetFunc: the function takes a *%s, and the model is a *%s", want, d.Type)
		}
		d.Budget = true
		d.Plan = func(p *directory.Profile, v reflect.Value) error {
			return plan(d, p, func(b *Budget) error { return f(v.Interface().(*T), b) })
		}
		return nil
	}
}

// plan sets in a profile what a function of the host's makes of the budget of a record.
func plan(d *declaration, p *directory.Profile, set func(*Budget) error) error {
	before := &Budget{TenantID: p.Key, Enforcement: Enforcement(d.Enforcement), Counts: Counts(d.Counts), Inherit: d.Inherit, TimeZone: d.Zone, Limits: limitsOf(d.Limits)}
	b := *before
	b.Limits.Also = append([]Limit(nil), b.Limits.Also...)
	own, err := records.Said(d.Type, "WithBudgetFunc", func() error { return set(&b) })
	if err == nil {
		err = own
	}
	var limits []book.Limit
	if err == nil {
		limits, err = b.Limits.rows()
	}
	switch {
	case err != nil:
	case b.TenantID != before.TenantID, b.Name != before.Name, b.ParentID != before.ParentID, b.Suspended:
		err = errors.New("TenantID, Name, ParentID and Suspended are not for it to set")
	case b.Enforcement != "":
		err = b.Enforcement.valid()
	}
	if err == nil && b.Counts != "" {
		err = b.Counts.valid()
	}
	if err == nil && b.TimeZone != "" {
		_, err = period.LoadZone(b.TimeZone)
	}
	if err != nil {
		return fmt.Errorf("%w: WithBudgetFunc: the budget of %s %s: %w", ErrInvalidOption, p.OwnerType, p.OwnerID, err)
	}
	p.Limits, p.Enforcement, p.Counts, p.Inherit, p.Zone = limits, book.Enforcement(b.Enforcement), book.Counting(b.Counts), b.Inherit, b.TimeZone
	return nil
}
