package tenant

import (
	"context"
	"slices"
	"time"

	"github.com/shopspring/decimal"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
)

// Source is where a setting that is in force comes from.
type Source string

// The sources.
const (
	FromTenant      Source = "tenant"      // it was set for the tenant
	FromDeclaration Source = "declaration" // it is as the tenant's model was declared
	FromLedger      Source = "ledger"      // it is inherited from the ledger's defaults, or is the ledger's own
)

// Effective is what is in force for a tenant, and where each part of it comes from.
type Effective struct {
	TenantID string

	Enforcement     Enforcement
	EnforcementFrom Source

	TimeZone     string // an IANA name
	TimeZoneFrom Source

	// Limits are those that a call of the tenant is held to: its own, the inherited ones, and those of the tenants above it,
	// in the order of [Status].
	Limits []EffectiveLimit
}

// EffectiveLimit is a limit in force.
type EffectiveLimit struct {
	TenantID    string // whose limit it is: the tenant's, or one above it
	Enforcement Enforcement
	From        Source

	Metric Metric
	Window Window
	Agent  string `json:",omitzero"` // whose calls it counts; empty for all
	Model  string `json:",omitzero"` // likewise // whose calls it counts; empty for all

	// Limit is what may be used, in US dollars, tokens or calls; TopUps is how much of it are top-ups, see [Ledger.TopUp].
	Limit  decimal.Decimal
	TopUps decimal.Decimal
}

// EffectiveBudget returns each limit in force for a tenant and where it comes from. For a tenant without a budget it is
// what its first call will meet. Its errors are those of [Cost]; it reads where Cost reads.
func EffectiveBudget(ctx context.Context, db *gorm.DB, t Tenant) (Effective, error) {
	q, err := ask(ctx, db, t)
	if err != nil {
		return Effective{}, err
	}
	s, err := q.answer(ctx)
	if err != nil {
		return Effective{}, err
	}
	own := q.expected(s)
	e := Effective{TenantID: own.Key, TimeZone: q.windows.Zone(own.Zone).String(), TimeZoneFrom: FromLedger}
	if own.Zone != "" {
		e.TimeZoneFrom = FromTenant
		if d := q.declared(own); d != nil && d.zone == own.Zone {
			e.TimeZoneFrom = FromDeclaration
		}
	}
	e.Enforcement, e.EnforcementFrom = q.enforcement(own, &s.Defaults)
	for _, t := range append([]*book.Tenant{own}, s.Above...) {
		e.Limits = append(e.Limits, q.limits(t, &s.Defaults, s.Now)...)
	}
	return e, nil
}

// limits returns the limits in force of one tenant.
func (q *question) limits(t, defaults *book.Tenant, now time.Time) []EffectiveLimit {
	enforcement, _ := q.enforcement(t, defaults)
	now = decide.Time(t, now)
	rows := decide.Effective(t, defaults, now)
	slices.SortFunc(rows, func(a, b book.Limit) int { return compareLimits(&a, &b) })
	bare := *t
	bare.TopUps = nil
	plain := decide.Effective(&bare, defaults, now)
	var limits []EffectiveLimit
	for _, l := range rows {
		m := Metric(l.Metric)
		same := func(o book.Limit) bool { return o.Scope == l.Scope && o.Metric == l.Metric }
		topUps := l.Max - plain[slices.IndexFunc(plain, same)].Max
		limits = append(limits, EffectiveLimit{
			TenantID: t.Key, Enforcement: enforcement, From: q.from(t, l, same), Metric: m, Window: Window(l.Window.String()),
			Agent: l.Agent, Model: l.Model, Limit: m.decimal(l.Max), TopUps: m.decimal(topUps),
		})
	}
	return limits
}

// from says where a limit comes from.
func (q *question) from(t *book.Tenant, l book.Limit, same func(book.Limit) bool) Source {
	i := slices.IndexFunc(t.Limits, same)
	if i < 0 || t.ID == book.Root {
		return FromLedger
	}
	if d := q.declared(t); d != nil && slices.Contains(d.limits, t.Limits[i]) {
		return FromDeclaration
	}
	return FromTenant
}

func (q *question) enforcement(t, defaults *book.Tenant) (Enforcement, Source) {
	e := Enforcement(decide.Enforcement(t, defaults))
	switch d := q.declared(t); {
	case t.Enforcement == book.Inherited, t.ID == book.Root:
		return e, FromLedger
	case d != nil && d.enforcement == t.Enforcement:
		return e, FromDeclaration
	}
	return e, FromTenant
}

// declared is the declaration of the record behind a tenant, or of the one that its first call is going to give it to.
func (q *question) declared(t *book.Tenant) *declaration {
	switch {
	case t.OwnerType != "":
		return q.declarations.ofTable(t.OwnerType)
	case t.Key == q.who.key:
		return q.who.declaration
	}
	return nil
}
