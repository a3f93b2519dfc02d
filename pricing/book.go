package pricing

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/llmtenant/tenant"
)

var (
	_ tenant.Prices       = (*Book)(nil)
	_ tenant.TenantPrices = (*Book)(nil)
	_ tenant.DatedPrices  = (*Book)(nil)
)

// Book is a set of prices, with rules of how they are charged. It never changes, and is safe for use by many goroutines
// at once; [Live] is a place to put a new one.
type Book struct {
	names       map[string][]*listing // by name and by other names; at most one of each provider
	listings    []*listing
	providers   map[string]bool   // those that have a listing
	charge      map[string]bool   // providers with a rule of the host's: whether what they report is charged
	deployments map[string]string // the model behind each
	terms       map[string]*terms // by tenant
	above       func(string) string
	day         time.Time
}

type listing struct {
	provider, name string
	host           bool
	also           []string
	periods        []period // ascending, without overlap
}

type period struct {
	from, until time.Time
	row         Row
	price       tenant.Price
}

// New returns a book of the given rows and no others. A row that cannot be right (a missing or negative rate, an
// empty name, tiers that do not ascend, a period that overlaps another one of the same model) is an error that names
// the row and the field.
func New(rows ...Row) (*Book, error) { return newBook(rows, isHost) }

func isHost(provider string) bool { return providers[provider].host }

func newBook(rows []Row, host func(provider string) bool) (*Book, error) {
	b := &Book{}
	listings := make(map[[2]string]*listing)
	for i, r := range rows {
		l, err := add(listings, r)
		if err != nil {
			return nil, fmt.Errorf("pricing: rows[%d] (%s %s): %w", i, r.Provider, r.Model, err)
		}
		if len(l.periods) == 1 {
			l.host = host(l.provider)
			b.listings = append(b.listings, l)
		}
	}
	b.names = make(map[string][]*listing, len(b.listings))
	b.providers = make(map[string]bool)
	for _, l := range b.listings {
		b.providers[l.provider] = true
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
	if name := canonical(r.Provider); name != r.Provider {
		return nil, fmt.Errorf("%s: the book's name for it is %q", "Provider", name)
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
	next := period{from: r.From, until: r.Until, row: r, price: price}
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

// over returns a book of the listings of top, and those of b for all the names that top does not have.
func (b *Book) over(top *Book) *Book {
	out := *b
	out.names = maps.Clone(top.names)
	out.listings = slices.Clone(top.listings)
	out.providers = cloned(b.providers)
	maps.Copy(out.providers, top.providers)
	for _, l := range b.listings {
		own := cmp.Or(in(top.names[l.name], l.provider), l)
		if own == l {
			out.listings = append(out.listings, l)
		}
		for _, name := range append([]string{l.name}, l.also...) {
			if in(top.names[name], l.provider) == nil {
				out.names[name] = append(slices.Clip(out.names[name]), own)
			}
		}
	}
	return &out
}

// Rows returns the rows of the book, with which another one can be made: Override(fresh.Rows()...) lays a list that was
// read with [Load] over the book that ships with this module.
func (b *Book) Rows() []Row {
	var rows []Row
	for _, l := range b.listings {
		for _, p := range l.periods {
			rows = append(rows, p.row)
		}
	}
	return rows
}

// AsOf returns the day of the newest list that the book's figures are from, which [AsOf] sets; zero for a book of rows, or of
// a list, that nobody has dated. Rows that are laid over a book leave it its day.
func (b *Book) AsOf() time.Time { return b.day }

// Price returns the price that is in force at the given time, as [tenant.Prices] requires. The package's documentation
// says how names are found. The price's Tiers and Services are the book's own: they must not be modified.
func (b *Book) Price(provider, model string, at time.Time) (tenant.Price, bool) {
	provider = canonical(provider)
	p, ok := tenant.Price{}, false
	if l := b.find(provider, model); l != nil {
		provider = cmp.Or(provider, l.provider)
		p, ok = l.at(at)
	}
	p.ChargeReported = b.chargesReported(provider)
	return p, ok
}

func (b *Book) chargesReported(provider string) bool {
	if reported, ok := b.charge[provider]; ok {
		return reported
	}
	return providers[provider].reported
}

func (l *listing) at(at time.Time) (tenant.Price, bool) {
	for _, p := range l.periods {
		if p.contains(at) {
			return p.price, true
		}
	}
	return tenant.Price{}, false
}

func (p period) contains(at time.Time) bool {
	return !at.Before(p.from) && (p.until.IsZero() || at.Before(p.until))
}

func (p period) overlaps(q period) bool {
	return (q.until.IsZero() || p.from.Before(q.until)) && (p.until.IsZero() || q.from.Before(p.until))
}
