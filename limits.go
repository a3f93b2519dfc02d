package tenant

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/shopspring/decimal"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/internal/text"
)

// Window is the kind of time over which a limit counts. Windows are calendar ones, in the time zone of their tenant: an
// hour begins at the full hour, a day at midnight, a week on Monday (see [WithWeekStart]), a month on its first.
type Window string

// The windows.
const (
	Hour  Window = "hour"
	Day   Window = "day"
	Week  Window = "week"
	Month Window = "month"
	Total Window = "total" // all time: it never begins anew
)

// Limits are what a tenant may use up. A limit that is absent (the zero value) is no limit; USD("0") and Count(0) allow
// nothing. Costs are US dollars, tokens are of all classes. The named ones count all calls of a day or a month; Also takes
// every other.
type Limits struct {
	DailyCost   Money `json:",omitzero"`
	MonthlyCost Money `json:",omitzero"`

	DailyTokens   Quantity `json:",omitzero"`
	MonthlyTokens Quantity `json:",omitzero"`
	DailyCalls    Quantity `json:",omitzero"`
	MonthlyCalls  Quantity `json:",omitzero"`

	// Also are more limits, any number of them.
	Also []Limit `json:",omitzero"`

	// AllowLargerShort lets a limit pass that is larger than one of a longer window, and so never bites. Without it, such
	// limits are a [*LimitOrderError]: one of them has a digit too few or too many. A limit in [Total] is not compared with
	// others: credits that are bought may well be less than what a day allows.
	AllowLargerShort bool `json:",omitzero"`
}

// Limit is what may be used up of each metric in one kind of window, by all calls or by some.
type Limit struct {
	Window Window

	// Agent and Model, where set, are whose calls are counted: those of one agent, by its name in [WithAgent], and those
	// that ask for one model.
	Agent string `json:",omitzero"`
	Model string `json:",omitzero"`

	// Those that are set are limits.
	Cost   Money    `json:",omitzero"`
	Tokens Quantity `json:",omitzero"`
	Calls  Quantity `json:",omitzero"`
}

// LimitOrderError says that a limit is larger than one that counts the same for longer, or would be with a top-up, so that
// it can never bite.
type LimitOrderError struct {
	// Shorter and Longer are the two limits, as they are called where they were set.
	Shorter, Longer string

	topUp bool
}

func (e *LimitOrderError) Error() string {
	wayOut := "set AllowLargerShort if it is meant"
	if e.topUp {
		wayOut = "top up the longer one first"
	}
	return fmt.Sprintf("%s is more than %s, so it would never matter; %s", e.Shorter, e.Longer, wayOut)
}

// Is reports whether target is [ErrInvalidOption].
func (e *LimitOrderError) Is(target error) bool { return target == ErrInvalidOption }

// limitFields are the fields of Limits with the window and the metric that each limits.
var limitFields = []struct {
	name   string
	window period.Window
	metric book.Metric
	value  func(*Limits) any // *Money or *Quantity
}{
	{"DailyCost", period.Day, book.Cost, func(l *Limits) any { return &l.DailyCost }},
	{"MonthlyCost", period.Month, book.Cost, func(l *Limits) any { return &l.MonthlyCost }},
	{"DailyTokens", period.Day, book.Tokens, func(l *Limits) any { return &l.DailyTokens }},
	{"MonthlyTokens", period.Month, book.Tokens, func(l *Limits) any { return &l.MonthlyTokens }},
	{"DailyCalls", period.Day, book.Calls, func(l *Limits) any { return &l.DailyCalls }},
	{"MonthlyCalls", period.Month, book.Calls, func(l *Limits) any { return &l.MonthlyCalls }},
}

// named is a limit as it is stored, and what it is called where it was set.
type named struct {
	name string
	book.Limit
}

// rows returns the limits as they are stored. An error names the field and the value.
func (l Limits) rows() ([]book.Limit, error) {
	var all []named
	for _, f := range limitFields {
		scope := book.Scope{Window: f.window}
		if err := add(&all, f.name, scope, f.metric, f.value(&l)); err != nil {
			return nil, err
		}
	}
	for i := range l.Also {
		if err := l.Also[i].add(&all, fmt.Sprintf("Also[%d]", i)); err != nil {
			return nil, err
		}
	}
	if !l.AllowLargerShort {
		if err := ordered(all); err != nil {
			return nil, err
		}
	}
	rows := make([]book.Limit, len(all))
	for i, n := range all {
		rows[i] = n.Limit
	}
	return rows, nil
}

func (l *Limit) add(to *[]named, name string) error {
	window, err := period.ParseWindow(string(l.Window))
	if err != nil {
		return fmt.Errorf("%s.Window: %q is not Hour, Day, Week, Month or Total", name, string(l.Window))
	}
	for _, f := range []struct{ what, value string }{{"Agent", l.Agent}, {"Model", l.Model}} {
		if err := text.Valid(errors.New(name), f.what, f.value, false); err != nil {
			return err
		}
	}
	scope, before := book.Scope{Window: window, Agent: l.Agent, Model: l.Model}, len(*to)
	for _, f := range []struct {
		name   string
		metric book.Metric
		value  any
	}{{"Cost", book.Cost, &l.Cost}, {"Tokens", book.Tokens, &l.Tokens}, {"Calls", book.Calls, &l.Calls}} {
		if err := add(to, name+"."+f.name, scope, f.metric, f.value); err != nil {
			return err
		}
	}
	if len(*to) == before {
		return fmt.Errorf("%s: it limits nothing; set Cost, Tokens or Calls", name)
	}
	return nil
}

// add adds a limit to others, if it is set.
func add(to *[]named, name string, scope book.Scope, metric book.Metric, value any) error {
	l := named{name, book.Limit{Scope: scope, Metric: metric}}
	switch v := value.(type) {
	case *Money:
		if v.err != nil {
			return fmt.Errorf("%s: %w", name, v.err)
		}
		if !v.set {
			return nil
		}
		l.Max = v.nano
	case *Quantity:
		if !v.set {
			return nil
		}
		if v.n < 0 {
			return fmt.Errorf("%s: %d is negative", name, v.n)
		}
		if v.n > money.Max {
			return fmt.Errorf("%s: %d is above 2^62, the largest limit there can be", name, v.n)
		}
		l.Max = v.n
	}
	for _, o := range *to {
		if o.Scope == scope && o.Metric == metric {
			return fmt.Errorf("%s: %s limits the same already", name, o.name)
		}
	}
	*to = append(*to, l)
	return nil
}

// masks reports whether one limit can never bite beside another, which counts the same for longer.
func masks(longer, shorter book.Limit) bool {
	return longer.Metric == shorter.Metric && longer.Agent == shorter.Agent && longer.Model == shorter.Model &&
		longer.Window != period.Total && length(shorter.Window) < length(longer.Window) && shorter.Max > longer.Max
}

// length orders windows by how long they are.
func length(w period.Window) int {
	if w == period.Total {
		return int(period.Month) + 1
	}
	return int(w)
}

// ordered returns an error where a limit is larger than one of the same calls over a longer window.
func ordered(limits []named) error {
	for _, a := range limits {
		for _, b := range limits {
			if masks(b.Limit, a.Limit) {
				m := Metric(a.Metric)
				return &LimitOrderError{
					Shorter: a.name + ", " + m.format(m.decimal(a.Max)) + ",", Longer: b.name + ", " + m.format(m.decimal(b.Max)),
				}
			}
		}
	}
	return nil
}

// limitsOf is the inverse of rows. What was stored is taken for meant.
func limitsOf(rows []book.Limit) Limits {
	var l Limits
	for _, row := range rows {
		if !l.setField(row) {
			l.setAlso(row)
		}
	}
	slices.SortFunc(l.Also, func(a, b Limit) int {
		window := func(l Limit) int { w, _ := period.ParseWindow(string(l.Window)); return length(w) }
		return cmp.Or(cmp.Compare(a.Agent, b.Agent), cmp.Compare(a.Model, b.Model), cmp.Compare(window(a), window(b)))
	})
	_, err := l.rows()
	l.AllowLargerShort = err != nil
	return l
}

// setField sets the field that a limit has, if there is one.
func (l *Limits) setField(row book.Limit) bool {
	for _, f := range limitFields {
		if row.Scope != (book.Scope{Window: f.window}) || row.Metric != f.metric {
			continue
		}
		switch v := f.value(l).(type) {
		case *Money:
			*v = nanoUSD(row.Max)
		case *Quantity:
			*v = Count(row.Max)
		}
		return true
	}
	return false
}

func (l *Limits) setAlso(row book.Limit) {
	i := slices.IndexFunc(l.Also, func(a Limit) bool {
		return string(a.Window) == row.Window.String() && a.Agent == row.Agent && a.Model == row.Model
	})
	if i < 0 {
		l.Also = append(l.Also, Limit{Window: Window(row.Window.String()), Agent: row.Agent, Model: row.Model})
		i = len(l.Also) - 1
	}
	switch row.Metric {
	case book.Cost:
		l.Also[i].Cost = nanoUSD(row.Max)
	case book.Tokens:
		l.Also[i].Tokens = Count(row.Max)
	default:
		l.Also[i].Calls = Count(row.Max)
	}
}

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
		if d := q.declared(own); d != nil && d.Zone == own.Zone {
			e.TimeZoneFrom = FromDeclaration
		}
	}
	e.Enforcement, e.EnforcementFrom = q.enforcement(own, &s.Defaults)
	for _, t := range append([]*book.Tenant{own}, s.Ancestors...) {
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
	if d := q.declared(t); d != nil && slices.Contains(d.Limits, t.Limits[i]) {
		return FromDeclaration
	}
	return FromTenant
}

func (q *question) enforcement(t, defaults *book.Tenant) (Enforcement, Source) {
	e := Enforcement(decide.Enforcement(t, defaults))
	switch d := q.declared(t); {
	case t.Enforcement == book.Inherited, t.ID == book.Root:
		return e, FromLedger
	case d != nil && d.Enforcement == t.Enforcement:
		return e, FromDeclaration
	}
	return e, FromTenant
}

// declared is the declaration of the record behind a tenant, or of the one that its first call is going to give it to.
func (q *question) declared(t *book.Tenant) *declaration {
	switch {
	case t.OwnerType != "":
		return q.records.OfTable(t.OwnerType)
	case t.Key == q.who.Key:
		return q.who.Declaration
	}
	return nil
}

// UnmarshalText reads one of the windows. Anything else is an [ErrInvalidOption].
func (w *Window) UnmarshalText(text []byte) error {
	if _, err := period.ParseWindow(string(text)); err != nil {
		return fmt.Errorf("%w: Window: %.40q is not hour, day, week, month or total", ErrInvalidOption, text)
	}
	*w = Window(text)
	return nil
}

// UnmarshalJSON reads what is there and leaves the rest as it was; null for a limit takes it away. A name that it does not
// know is an [ErrInvalidOption], because a limit that is misspelt is no limit.
func (l *Limits) UnmarshalJSON(data []byte) error {
	type plain Limits
	return text.Strictly(ErrInvalidOption, "Limits", data, (*plain)(l))
}

// UnmarshalJSON reads like that of [Limits].
func (l *Limit) UnmarshalJSON(data []byte) error {
	type plain Limit
	return text.Strictly(ErrInvalidOption, "Limit", data, (*plain)(l))
}

// Enforcement says what a limit does to a call that it has no room for.
type Enforcement string

// The enforcements.
const (
	Hard Enforcement = "hard" // the call is refused before it is made
	Soft Enforcement = "soft" // the call is made, and what it uses is counted
	None Enforcement = "none" // limits are not looked at
)

func (e Enforcement) valid() error {
	switch e {
	case Hard, Soft, None:
		return nil
	}
	return fmt.Errorf("unknown enforcement %q: it is Hard, Soft or None", string(e))
}

// Counts says what limits of cost count of a call. See [Budget], [WithDefaultCounts] and [WithCounts].
type Counts string

// What limits of cost count.
const (
	CountsCharge Counts = "charge" // what the tenant is charged for it, by its terms
	CountsCost   Counts = "cost"   // what the provider bills for it
)

func (c Counts) valid() error {
	switch c {
	case CountsCharge, CountsCost:
		return nil
	}
	return fmt.Errorf("unknown %q: it is CountsCharge or CountsCost", string(c))
}

// countsOf is what a limit in force counts.
func countsOf(l *book.Limit) Counts {
	if l.Metric != book.Cost {
		return ""
	}
	return Counts(l.Counts())
}

// UnmarshalText reads one of the enforcements; no text is the inherited one. Anything else is an [ErrInvalidOption].
func (e *Enforcement) UnmarshalText(text []byte) error {
	read := Enforcement(text)
	if err := read.valid(); err != nil && read != "" {
		return fmt.Errorf("%w: Enforcement: %w", ErrInvalidOption, err)
	}
	*e = read
	return nil
}

// UnmarshalText reads what limits of cost count; no text is what the ledger says. Anything else is an [ErrInvalidOption].
func (c *Counts) UnmarshalText(text []byte) error {
	read := Counts(text)
	if err := read.valid(); err != nil && read != "" {
		return fmt.Errorf("%w: Counts: %w", ErrInvalidOption, err)
	}
	*c = read
	return nil
}
