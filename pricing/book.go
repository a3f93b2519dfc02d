package pricing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/llmtenant/tenant"
)

var _ tenant.Prices = (*Book)(nil)

// Book is a set of prices. It never changes, and is safe for use by many goroutines at once.
type Book struct {
	names map[string][]*listing // by name and by other names; at most one of each provider
}

type listing struct {
	provider, name string
	also           []string
	periods        []period // ascending, without overlap
}

type period struct {
	from, until time.Time
	price       tenant.Price
}

// New returns a book of the given rows and no others. A row that cannot be right (a missing or negative rate, an
// empty name, tiers that do not ascend, a period that overlaps another one of the same model) is an error that names
// the row and the field.
func New(rows ...Row) (*Book, error) {
	listings := make(map[[2]string]*listing)
	order := make([]*listing, 0, len(rows))
	for i, r := range rows {
		l, err := add(listings, r)
		if err != nil {
			return nil, fmt.Errorf("pricing: rows[%d] (%s %s): %w", i, r.Provider, r.Model, err)
		}
		if len(l.periods) == 1 {
			order = append(order, l)
		}
	}
	b := &Book{names: make(map[string][]*listing, len(order))}
	for _, l := range order {
		for _, name := range append([]string{l.name}, l.also...) {
			if other := in(b.names[name], l.provider); other != nil {
				return nil, fmt.Errorf("pricing: %s %s: Also: %q is a name of %s too", l.provider, l.name, name, other.name)
			}
			b.names[name] = append(b.names[name], l)
		}
	}
	return b, nil
}

func add(listings map[[2]string]*listing, r Row) (*listing, error) {
	for _, f := range []struct{ field, name string }{{"Provider", r.Provider}, {"Model", r.Model}} {
		if f.name == "" || f.name != strings.TrimSpace(f.name) {
			return nil, fmt.Errorf("%s: %q is not a name", f.field, f.name)
		}
	}
	if r.Provider != strings.ToLower(r.Provider) {
		return nil, fmt.Errorf("%s: not in lower case", "Provider")
	}
	if slices.Contains(r.Also, "") {
		return nil, fmt.Errorf("%s: empty name", "Also")
	}
	if !r.Until.IsZero() && !r.From.Before(r.Until) {
		return nil, fmt.Errorf("%s: not after From", "Until")
	}
	price, err := r.price()
	if err != nil {
		return nil, err
	}

	key := [2]string{r.Provider, r.Model}
	l := listings[key]
	if l == nil {
		l = &listing{provider: r.Provider, name: r.Model}
		listings[key] = l
	}
	next := period{from: r.From, until: r.Until, price: price}
	for _, p := range l.periods {
		if p.overlaps(next) {
			return nil, fmt.Errorf("%s: duplicate: overlaps the period of another row of this model", "From, Until")
		}
	}
	l.periods = append(l.periods, next)
	slices.SortFunc(l.periods, func(a, b period) int { return a.from.Compare(b.from) })
	for _, name := range r.Also {
		if !slices.Contains(l.also, name) {
			l.also = append(l.also, name)
		}
	}
	return l, nil
}

// With returns a book that has the given rows, and those of b for all the names that they do not name. A model in both
// has the new rows alone, at all times, and the other names that b has for it lead to them too. A row of b with a date
// in its name is a model of its own and stays. The errors are those of [New].
func (b *Book) With(rows ...Row) (*Book, error) {
	over, err := New(rows...)
	if err != nil {
		return nil, err
	}
	for name, all := range b.names {
		for _, l := range all {
			if in(over.names[name], l.provider) == nil {
				over.names[name] = append(over.names[name], cmp.Or(in(over.names[l.name], l.provider), l))
			}
		}
	}
	return over, nil
}

// Price returns the price that is in force at the given time, as [tenant.Prices] requires. The package's documentation
// says how names are found. The price's Tiers are the book's own: they must not be modified.
func (b *Book) Price(provider, model string, at time.Time) (tenant.Price, bool) {
	l := b.find(strings.ToLower(provider), model)
	if l == nil {
		return tenant.Price{}, false
	}
	for _, p := range l.periods {
		if p.contains(at) {
			return p.price, true
		}
	}
	return tenant.Price{}, false
}

// find returns nil if no model has the name, or more than one has. The first rule that leads to a model ends the
// search, even if that model is one too many: a looser reading of the name must not decide for it.
func (b *Book) find(provider, name string) *listing {
	if l, known := b.named(provider, name); known {
		return l
	}
	google := provider == "" || provider == Google
	if rest, ok := strings.CutPrefix(name, "models/"); ok && google {
		provider, name = Google, rest
		if l, known := b.named(provider, name); known {
			return l
		}
	}
	if rest, ok := cutDate(name); ok {
		l, _ := b.named(provider, rest)
		return l
	}
	if rest, ok := cutVersion(name); ok && google {
		l, _ := b.named(Google, rest)
		return l
	}
	return nil
}

// named returns the provider's listing of this very name, or that of the only provider which has one. A name that is
// known and yet leads to no listing belongs to several providers.
func (b *Book) named(provider, name string) (l *listing, known bool) {
	all := b.names[name]
	if provider != "" {
		l = in(all, provider)
		return l, l != nil
	}
	if len(all) == 1 {
		l = all[0]
	}
	return l, len(all) > 0
}

func in(all []*listing, provider string) *listing {
	for _, l := range all {
		if l.provider == provider {
			return l
		}
	}
	return nil
}

// cutDate removes the date from the end of names like gpt-4o-2024-08-06, claude-opus-4-5-20251101 and
// claude-opus-4-5@20251101.
func cutDate(name string) (string, bool) {
	for _, f := range [...]struct{ seps, layout string }{{"-", "2006-01-02"}, {"-@", "20060102"}} {
		i := len(name) - len(f.layout)
		if i < 2 || !strings.Contains(f.seps, name[i-1:i]) {
			continue
		}
		if _, err := time.Parse(f.layout, name[i:]); err == nil {
			return name[:i-1], true
		}
	}
	return "", false
}

// cutVersion removes the version from the end of names like gemini-2.0-flash-001.
func cutVersion(name string) (string, bool) {
	i := len(name) - len("-001")
	if i < 1 || name[i] != '-' || !digits(name[i+1:]) {
		return "", false
	}
	return name[:i], true
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func (p period) contains(at time.Time) bool {
	return !at.Before(p.from) && (p.until.IsZero() || at.Before(p.until))
}

func (p period) overlaps(q period) bool {
	return (q.until.IsZero() || p.from.Before(q.until)) && (p.until.IsZero() || q.from.Before(p.until))
}
