package tenantui

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strconv"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/pricing"
)

type pricesBody struct {
	AsOf      string
	Unpriced  int // models that had calls without a price
	Unknown   int // those of which the book has none now, and whose calls were charged nevertheless
	Table     *table
	Compared  *table
	Error     string
	Missing   int
	Was, Then string
}

// usedModel is a model that was used of late, and what it costs.
type usedModel struct {
	provider, model string
	tenant.Measures
	price tenant.Price
	known bool
}

// usedModels are the models of the last 30 days, those without a price first, then the dearest.
func (q *request) usedModels() ([]usedModel, error) {
	zone, err := q.zone(nil)
	if err != nil {
		return nil, err
	}
	a := asking{everybody: true, zone: zone}
	answer, err := q.ask(a.query(spansOfTime[1].period(q.now, zone), tenant.ByProvider, tenant.ByModel))
	if err != nil {
		return nil, err
	}
	book := q.ledger.Prices()
	var all []usedModel
	for _, r := range answer.Rows {
		if r.Calls == 0 && r.Cost.IsZero() || r.Keys[1] == "" {
			continue
		}
		m := usedModel{provider: r.Keys[0], model: r.Keys[1], Measures: r.Measures}
		if book != nil {
			m.price, m.known = book.Price(m.provider, m.model, q.now)
		}
		all = append(all, m)
	}
	slices.SortStableFunc(all, func(a, b usedModel) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), b.Cost.Cmp(a.Cost), cmp.Compare(a.provider, b.provider), cmp.Compare(a.model, b.model))
	})
	return all, nil
}

func (m usedModel) rank() int {
	switch {
	case !m.known:
		return 0
	case m.Unpriced > 0:
		return 1
	}
	return 2
}

func (d *dashboard) prices(q *request) error {
	body, err := d.priceList(q)
	if err != nil {
		return err
	}
	return q.show("prices", page0("Prices", "prices", "", body), body.Table)
}

func (d *dashboard) priceList(q *request) (*pricesBody, error) {
	if !q.viewer.All {
		return nil, errNotFound
	}
	models, err := q.usedModels()
	if err != nil {
		return nil, err
	}
	body := &pricesBody{AsOf: "no day is known of it"}
	if dated, ok := d.ledger.Prices().(tenant.DatedPrices); ok && !dated.AsOf().IsZero() {
		body.AsOf = dated.AsOf().Format("2 January 2006")
	}
	body.Table = &table{ID: "prices", Caption: "Models of the last 30 days, US dollars per million tokens",
		Head:  heads("Model", "Provider", "Row of the price book", "#Input", "#Cache read", "#Output", "#Calls", "#Without a price", "#Cost"),
		Empty: "No model was used in the last 30 days."}
	for _, m := range models {
		row := cell{Text: "no price", Badge: "bad"}
		switch {
		case m.Unpriced > 0:
			body.Unpriced++
		case !m.known:
			body.Unknown++
			row = cell{Text: "not in the book", Badge: "warn"}
		}
		in, read, out := named("", "—"), named("", "—"), named("", "—")
		if m.known {
			row = cell{Text: m.price.Row, Class: "id"}
			if m.price.ChargeReported {
				row.Text += ", as reported"
			}
			in, read, out = rateCell(m.price.Input), rateCell(cmp.Or(m.price.CacheRead, m.price.Input)), rateCell(m.price.Output)
		}
		without := number(m.Unpriced)
		if m.Unpriced > 0 {
			without = without.badged("warn")
		}
		body.Table.Rows = append(body.Table.Rows, []cell{
			text(m.model).whole(), named(m.provider, "—"), row, in, read, out, number(m.Calls), without, money(m.Cost),
		})
	}
	return body, nil
}

// rateCell is nano-dollars per million tokens, in dollars.
func rateCell(nano int64) cell { return money(decimal.New(nano, -9)) }

const maxList = 16 << 20

// compare says what a price list that is sent would change.
func (d *dashboard) compare(q *request) error {
	body, err := d.priceList(q)
	if err != nil {
		return err
	}
	q.Body = http.MaxBytesReader(q.w, q.Body, maxList)
	file, _, err := q.FormFile("list")
	if err != nil {
		if errors.Is(err, http.ErrMissingFile) {
			err = errors.New("choose a file first")
		}
		return d.notCompared(q, body, err)
	}
	defer func() { _ = file.Close() }()
	book, err := pricing.Load(file)
	if err != nil {
		return d.notCompared(q, body, err)
	}
	models, err := q.usedModels()
	if err != nil {
		return err
	}
	body.Compared = &table{ID: "compared", Caption: "What the list would change", Head: heads("Model", "Provider", "#Input now", "#Input then", "#Output now", "#Output then", "#30 days now", "#30 days then", "#Change"),
		Empty: "The list has the same prices for every model of the last 30 days."}
	was, then := decimal.Zero, decimal.Zero
	for _, m := range models {
		next, ok := book.Price(m.provider, m.model, q.now)
		if !ok {
			body.Missing++
			continue
		}
		before, after := flat(m.price, m.Usage), flat(next, m.Usage)
		if m.known {
			was, then = was.Add(before), then.Add(after)
			if m.price.Rates.Input == next.Rates.Input && m.price.Rates.Output == next.Rates.Output && before.Equal(after) {
				continue
			}
		}
		row := []cell{text(m.model).whole(), named(m.provider, "—"), named("", "—"), rateCell(next.Input), named("", "—"), rateCell(next.Output), named("", "—"), money(after), text("has a price")}
		if m.known {
			row[2], row[4], row[6], row[8] = rateCell(m.price.Input), rateCell(m.price.Output), money(before), text(change(after, before))
		}
		body.Compared.Rows = append(body.Compared.Rows, row)
	}
	body.Was, body.Then = dollars(was), dollars(then)
	body.Compared.Foot = "Reckoned from the tokens of the last 30 days at the plain rates: without those for long prompts, service tiers and units."
	if body.Missing > 0 {
		body.Compared.Foot += " " + strconv.Itoa(body.Missing) + " models in use are not in the list; what it does not name keeps its price where it is laid over the book."
	}
	return q.show("prices", page0("Prices", "prices", "", body))
}

func (d *dashboard) notCompared(q *request, body *pricesBody, err error) error {
	q.status, body.Error = http.StatusUnprocessableEntity, "The list cannot be read: "+err.Error()
	return q.show("prices", page0("Prices", "prices", "", body))
}

// flat is what tokens cost at the plain rates of a price: a sum over many calls has no one length of prompts.
func flat(p tenant.Price, u tenant.Usage) decimal.Decimal {
	p.Tiers = nil
	return p.Cost(u)
}
