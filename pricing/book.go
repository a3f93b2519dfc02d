package pricing

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/llmtenant/tenant"
)

var _ tenant.Prices = (*Book)(nil)

// Book is a set of prices. It never changes, and is safe for use by many goroutines at once.
type Book struct {
	names map[string][]*model // by name and by other names; at most one of each provider
}

type model struct {
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
	models := make(map[[2]string]*model)
	order := make([]*model, 0, len(rows))
	for i, r := range rows {
		m, err := add(models, r)
		if err != nil {
			return nil, fmt.Errorf("pricing: row %d (%q of %q): %w", i, r.Model, r.Provider, err)
		}
		if len(m.periods) == 1 {
			order = append(order, m)
		}
	}
	b := &Book{names: make(map[string][]*model, len(order))}
	for _, m := range order {
		for _, name := range append([]string{m.name}, m.also...) {
			if other := in(b.names[name], m.provider); other != nil {
				return nil, fmt.Errorf("pricing: %q of %q: Also: the name %q is also that of %q",
					m.name, m.provider, name, other.name)
			}
			b.names[name] = append(b.names[name], m)
		}
	}
	return b, nil
}

func add(models map[[2]string]*model, r Row) (*model, error) {
	for _, f := range []struct{ field, name string }{{"Provider", r.Provider}, {"Model", r.Model}} {
		if f.name == "" || f.name != strings.TrimSpace(f.name) {
			return nil, fmt.Errorf("%s: %q is not a name", f.field, f.name)
		}
	}
	if r.Provider != strings.ToLower(r.Provider) {
		return nil, errors.New("Provider: not in lower case")
	}
	if slices.Contains(r.Also, "") {
		return nil, errors.New("Also: empty name")
	}
	if !r.Until.IsZero() && !r.From.Before(r.Until) {
		return nil, errors.New("Until: not after From")
	}
	price, err := r.price()
	if err != nil {
		return nil, err
	}

	key := [2]string{r.Provider, r.Model}
	m := models[key]
	if m == nil {
		m = &model{provider: r.Provider, name: r.Model}
		models[key] = m
	}
	next := period{from: r.From, until: r.Until, price: price}
	for _, p := range m.periods {
		if p.overlaps(next) {
			return nil, errors.New("From, Until: duplicate: overlaps the period of another row of this model")
		}
	}
	m.periods = append(m.periods, next)
	slices.SortFunc(m.periods, func(a, b period) int { return a.from.Compare(b.from) })
	for _, name := range r.Also {
		if !slices.Contains(m.also, name) {
			m.also = append(m.also, name)
		}
	}
	return m, nil
}

// With returns a book in which the given rows stand before those of b: a model that they name has their price and
// none of the rates, periods or other names that it has in b, except that b's other names for it lead to the new rows.
// Rows of b with a date in their name are models of their own and stay. The errors are those of [New].
func (b *Book) With(rows ...Row) (*Book, error) {
	over, err := New(rows...)
	if err != nil {
		return nil, err
	}
	names := maps.Clone(over.names)
	for name, models := range b.names {
		for _, m := range models {
			if in(over.names[name], m.provider) != nil {
				continue
			}
			names[name] = append(slices.Clip(names[name]), cmp.Or(in(over.names[m.name], m.provider), m))
		}
	}
	return &Book{names: names}, nil
}

// Price returns the price that is in force at the given time, as [tenant.Prices] requires. The package's documentation
// says how names are found. The price's Tiers are the book's own: they must not be modified.
func (b *Book) Price(provider, name string, at time.Time) (tenant.Price, bool) {
	m := b.find(strings.ToLower(provider), name)
	if m == nil {
		return tenant.Price{}, false
	}
	for _, p := range m.periods {
		if p.contains(at) {
			return p.price, true
		}
	}
	return tenant.Price{}, false
}

// find returns nil if no model has the name, or more than one has. The first rule that leads to a model ends the
// search, even if that model is one too many: a looser reading of the name must not decide for it.
func (b *Book) find(provider, name string) *model {
	if found := b.named(provider, name); len(found) > 0 {
		return only(found)
	}
	if rest, ok := strings.CutPrefix(name, "models/"); ok && (provider == "" || provider == Google) {
		provider, name = Google, rest
		if found := b.named(provider, name); len(found) > 0 {
			return only(found)
		}
	}
	if rest, ok := cutDate(name); ok {
		return only(b.named(provider, rest))
	}
	if rest, ok := cutVersion(name); ok && (provider == "" || provider == Google) {
		return only(b.named(Google, rest))
	}
	return nil
}

func (b *Book) named(provider, name string) []*model {
	all := b.names[name]
	if provider == "" {
		return all
	}
	for i, m := range all {
		if m.provider == provider {
			return all[i : i+1]
		}
	}
	return nil
}

func only(models []*model) *model {
	if len(models) != 1 {
		return nil
	}
	return models[0]
}

func in(models []*model, provider string) *model {
	for _, m := range models {
		if m.provider == provider {
			return m
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

func (p period) contains(at time.Time) bool {
	return !at.Before(p.from) && (p.until.IsZero() || at.Before(p.until))
}

func (p period) overlaps(q period) bool {
	return (q.until.IsZero() || p.from.Before(q.until)) && (p.until.IsZero() || q.from.Before(p.until))
}
