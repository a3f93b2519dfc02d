package pricing

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/money"
)

// Terms are what one tenant is charged, where that is not what its calls cost. They decide the charge alone: what calls cost is
// what the book says, or nothing where the tenant pays the provider itself.
type Terms struct {
	// Factor is what the tenant is charged of the cost, which goes by the book or by what the provider reports, as an exact
	// decimal: "1.2" and "+20%" are a mark-up, "0.85" and "-15%" a discount. Empty: the cost.
	Factor string

	// Rows are negotiated prices, and what the tenant is charged for the models that they name. Factor does not touch them, and
	// neither does what a provider reports. What such a call costs is what the book says; of a model that the book does not
	// know, it is taken to be what the tenant is charged.
	Rows []Row

	// OwnKeys are the providers that the tenant pays itself, with keys of its own. Its calls to them cost nothing. They are
	// charged nothing either, whether the book knows the model or not, but by Rows that name the model, and by OwnKeyFactor.
	OwnKeys []string

	// OwnKeyFactor is what the tenant is charged of what a call with a key of its own would cost without it, as a fee for the
	// service, and written as Factor is: "0.05" is five per cent. Empty: nothing.
	OwnKeyFactor string
}

type terms struct {
	share    int64
	mark     string // how a row's name shows the share
	rows     *Book
	own      map[string]bool
	ownShare int64 // of what calls with keys of its own would cost
	ownMark  string
}

// TenantTerms sets the terms of the tenant with this id, in place of any that it had. A tenant without terms pays the
// book's prices.
func TenantTerms(tenantID string, t Terms) Option {
	return func(b *Book) (*Book, error) {
		if tenantID == "" {
			return nil, fmt.Errorf("pricing: TenantTerms: empty tenant id")
		}
		if strings.TrimSpace(tenantID) != tenantID {
			return nil, fmt.Errorf("pricing: TenantTerms: no tenant has the id %q, with a space at an end", tenantID)
		}
		parsed, err := t.parse()
		if err != nil {
			return nil, fmt.Errorf("pricing: TenantTerms: %s: %w", tenantID, err)
		}
		b.terms = cloned(b.terms)
		b.terms[tenantID] = parsed
		return b, nil
	}
}

// InheritTerms says who stands above a tenant, for the sake of terms: one that has none of its own has those of the nearest
// above it that has some, as the teams of an organization have the organization's. Without it terms are nobody's but the
// tenant's that they are named for: prices are looked up in memory, and who stands above whom is in the database.
//
// above is called for each call of a tenant without terms, by many goroutines: it answers from memory. It returns an empty
// string where nobody stands above. Of the tenants above, it asks for sixteen at most.
func InheritTerms(above func(tenantID string) string) Option {
	return func(b *Book) (*Book, error) {
		if above == nil {
			return nil, fmt.Errorf("pricing: InheritTerms: no function")
		}
		b.above = above
		return b, nil
	}
}

// termsOf returns nil where neither the tenant nor anyone above it has terms.
func (b *Book) termsOf(tenantID string) *terms {
	const highest = 16
	for range 1 + highest {
		if t := b.terms[tenantID]; t != nil || b.above == nil || tenantID == "" {
			return t
		}
		tenantID = b.above(tenantID)
	}
	return nil
}

func (t Terms) parse() (*terms, error) {
	out := &terms{own: make(map[string]bool)}
	var err error
	if out.share, err = parseFactor(t.Factor); err != nil {
		return nil, fmt.Errorf("%s: %w", "Factor", err)
	}
	if out.share != money.Nano {
		out.mark = " x" + dollars(out.share)
	}
	if t.OwnKeyFactor != "" {
		if out.ownShare, err = parseFactor(t.OwnKeyFactor); err != nil {
			return nil, fmt.Errorf("%s: %w", "OwnKeyFactor", err)
		}
		out.ownMark = " x" + dollars(out.ownShare)
		if len(t.OwnKeys) == 0 {
			return nil, fmt.Errorf("%s: there are no OwnKeys", "OwnKeyFactor")
		}
	}
	if out.rows, err = New(t.Rows...); err != nil {
		return nil, fmt.Errorf("%s: %w", "Rows", err)
	}
	for _, p := range t.OwnKeys {
		if p == "" {
			return nil, fmt.Errorf("%s: empty name of a provider", "OwnKeys")
		}
		out.own[canonical(p)] = true
	}
	return out, nil
}

// parseFactor returns a factor in billionths.
func parseFactor(text string) (int64, error) {
	if text == "" {
		return money.Nano, nil
	}
	percent, isPercent := strings.CutSuffix(text, "%")
	if !isPercent {
		share, err := money.Parse(text)
		switch {
		case err != nil:
			return 0, err
		case share == 0:
			return 0, fmt.Errorf("%q: a tenant that pays nothing has OwnKeys, or rows at zero", text)
		}
		return share, nil
	}
	percent = strings.TrimSpace(percent)
	digits, less := strings.CutPrefix(percent, "-")
	if !less {
		digits = strings.TrimPrefix(percent, "+")
		if digits == percent {
			return 0, fmt.Errorf("%q: a percentage has a sign: +20%% is a mark-up, -15%% a discount", text)
		}
	}
	part, err := money.Parse(digits)
	if err != nil {
		return 0, fmt.Errorf("%q: %w", text, err)
	}
	const hundred = 100
	if part%hundred != 0 {
		return 0, fmt.Errorf("%q: finer than a billionth", text)
	}
	part /= hundred
	if less {
		part = -part
	}
	if part <= -money.Nano {
		return 0, fmt.Errorf("%q: a discount leaves something to pay", text)
	}
	return money.Nano + part, nil
}

// TenantPrice returns what a call costs and what its tenant is charged for it, as [tenant.TenantPrices] requires. It costs what
// the book says, and nothing at a provider whose keys are the tenant's own; it is charged at the tenant's negotiated price of the
// model, otherwise its share of the cost.
func (b *Book) TenantPrice(tenantID, provider, model string, at time.Time) (tenant.Price, bool) {
	t := b.termsOf(tenantID)
	if t == nil {
		return b.Price(provider, model, at)
	}
	provider = canonical(provider)
	l := b.find(provider, model)
	if l != nil {
		provider = cmp.Or(provider, l.provider)
	}
	own := t.own[provider]
	p, ok := tenant.Price{}, false
	if l != nil && (!own || t.ownShare != 0) {
		p, ok = l.at(at)
	}
	p.ChargeReported = b.chargesReported(provider) && (!own || t.ownShare != 0)
	if own {
		p.OwnKey, p.Share = true, t.ownShare
		if t.ownShare == 0 {
			p.Provider, p.Model, ok = provider, model, true
		}
		if ok {
			p.Row = cmp.Or(p.Row, provider+"/"+model) + " own key" + t.ownMark
		}
	}
	if listed := t.negotiated(b, l, provider, model); listed != nil {
		if n, has := listed.at(at); has {
			n.Row += " negotiated"
			if own {
				n.Row += " own key"
			}
			if !ok {
				p, ok = n, true
			}
			p.Row, p.Share = n.Row, 0
			p.OwnKey, p.Negotiated = own, &n
			return p, ok
		}
	}
	if !own && t.share != money.Nano {
		p.Share = t.share
		if ok {
			p.Row += t.mark
		}
	}
	return p, ok
}

// negotiated returns the tenant's own listing of a model: of the name that was asked, or of a name of the book's row for
// it. So rates that were negotiated for a model hold for its dated names, but for those that the book prices apart.
func (t *terms) negotiated(b *Book, l *listing, provider, model string) *listing {
	if len(t.rows.names) == 0 {
		return nil
	}
	model = b.deployed(provider, model)
	if own, known := t.rows.named(provider, model); known {
		return own
	}
	if l == nil {
		return t.rows.find(provider, model)
	}
	for _, name := range append([]string{l.name}, l.also...) {
		if own := in(t.rows.names[name], l.provider); own != nil {
			return own
		}
	}
	return nil
}
