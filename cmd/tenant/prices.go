package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/pricing"
)

type pricesCommands struct {
	Show  pricesShowCommand  `cmd:"" help:"Show the price book."`
	Diff  pricesDiffCommand  `cmd:"" help:"Show what a price list would change."`
	Check pricesCheckCommand `cmd:"" help:"Find models in use that have no price."`
}

type pricesShowCommand struct {
	Search   string `arg:"" optional:"" help:"Those alone whose model has this in its name."`
	Provider string `placeholder:"NAME" help:"Those of one provider alone."`
	pricesFlags
}

func (c *pricesShowCommand) Run(a *app) error {
	book, err := c.book(nil)
	if err != nil {
		return err
	}
	t := &table{head: []string{"Provider", "Model", "From", "Until", "#Input", "#Cache read", "#Cache write", "#Output", "#Request", "Units"}}
	for _, r := range sorted(book.Rows()) {
		if c.Provider != "" && r.Provider != c.Provider || !strings.Contains(r.Model, c.Search) {
			continue
		}
		if a.JSON {
			a.out.json(r)
			continue
		}
		var units []string
		for unit := range r.Units {
			units = append(units, string(unit))
		}
		slices.Sort(units)
		t.add(r.Provider, r.Model, day(r.From), day(r.Until), r.Input, r.CacheRead, r.CacheWrite5m, r.Output, r.Request, strings.Join(units, " "))
	}
	if a.JSON {
		return nil
	}
	a.out.say("US dollars per million tokens; %s.", age(book))
	t.write(a.out, "no such price")
	return nil
}

// age says of which day a book is.
func age(book *pricing.Book) string {
	if book.AsOf().IsZero() {
		return "nobody knows of which day the book is"
	}
	return "the book is of " + book.AsOf().Format(time.DateOnly)
}

func day(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.DateOnly)
}

func sorted(rows []pricing.Row) []pricing.Row {
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b pricing.Row) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Model, b.Model), a.From.Compare(b.From))
	})
	return rows
}

type pricesDiffCommand struct {
	File string `arg:"" help:"The list, as LiteLLM, models.dev or genai-prices publish it, or a JSON array of rows."`
	New  bool   `help:"With the models that the book does not have."`
	Used int    `placeholder:"DAYS" help:"Models alone that were used in the last days, with what they cost then; this asks the database."`
	pricesFlags
}

// Help is the help of the command.
func (pricesDiffCommand) Help() string {
	return `A model of the book that the list does not have keeps its price, and is not shown. Prices are those in force now, for short prompts. What it cost then is reckoned from all tokens of those days, without service tiers, long prompts and units.`
}

// differing is a line of what a list would change, and what prices diff prints as JSON.
type differing struct {
	Provider, Model, What string
	Was, Becomes          string           // US dollars per million tokens, or per call or search
	CostWas, CostBecomes  *decimal.Decimal `json:",omitempty"` // of the days of --used
}

func (c *pricesDiffCommand) Run(ctx context.Context, a *app) error {
	if c.Used < 0 {
		return wrong("--used: %d is less than a day", c.Used)
	}
	book, err := c.book(nil)
	if err != nil {
		return err
	}
	rows, err := readRows(c.File)
	if err != nil {
		return err
	}
	next, err := book.With(pricing.Override(rows...))
	if err != nil {
		return wrong("%s: %v", c.File, err)
	}
	now := time.Now()
	var lines []differing
	models := []usedModel{}
	if c.Used > 0 {
		l, end, err := a.open(ctx)
		if err != nil {
			return err
		}
		defer end()
		if models, err = usedModels(ctx, l, now, c.Used); err != nil {
			return err
		}
	} else {
		seen := map[[2]string]bool{}
		for _, r := range sorted(rows) {
			if k := [2]string{r.Provider, r.Model}; !seen[k] {
				seen[k] = true
				models = append(models, usedModel{provider: r.Provider, model: r.Model})
			}
		}
	}
	fresh := 0
	for _, m := range models {
		was, known := book.Price(m.provider, m.model, now)
		is, listed := next.Price(m.provider, m.model, now)
		if !listed {
			continue
		}
		if !known && !c.New {
			fresh++
			continue
		}
		changed := compared(m, was, known, is)
		if c.Used > 0 {
			for i := range changed {
				before, after := flat(was, m.Usage), flat(is, m.Usage)
				changed[i].CostWas, changed[i].CostBecomes = &before, &after
			}
		}
		lines = append(lines, changed...)
	}
	t := &table{head: []string{"Provider", "Model", "What", "#Was", "#Becomes"}}
	if c.Used > 0 {
		t.head = append(t.head, "#Cost was", "#Cost becomes")
	}
	for _, d := range lines {
		if a.JSON {
			a.out.json(d)
			continue
		}
		cells := []string{d.Provider, d.Model, d.What, d.Was, d.Becomes}
		if c.Used > 0 {
			cells = append(cells, dollars(*d.CostWas), dollars(*d.CostBecomes))
		}
		t.add(cells...)
	}
	if a.JSON {
		return nil
	}
	t.write(a.out, "The list changes no price.")
	if fresh > 0 {
		a.out.say("%d models are new; --new shows them.", fresh)
	}
	return nil
}

// compared are the rates that differ.
func compared(m usedModel, was tenant.Price, known bool, is tenant.Price) (lines []differing) {
	for _, r := range []struct {
		what     string
		was, now int64
	}{
		{"input", was.Input, is.Input}, {"cache read", was.CacheRead, is.CacheRead}, {"cache write", was.CacheWrite5m, is.CacheWrite5m},
		{"cache write 1h", was.CacheWrite1h, is.CacheWrite1h}, {"output", was.Output, is.Output}, {"reasoning", was.Reasoning, is.Reasoning},
		{"input audio", was.InputAudio, is.InputAudio}, {"output audio", was.OutputAudio, is.OutputAudio}, {"input image", was.InputImage, is.InputImage},
		{"output image", was.OutputImage, is.OutputImage}, {"web search", was.WebSearch, is.WebSearch}, {"request", was.Request, is.Request},
	} {
		if r.was == r.now {
			continue
		}
		d := differing{Provider: m.provider, Model: m.model, What: r.what, Was: dollars(decimal.New(r.was, -9)), Becomes: dollars(decimal.New(r.now, -9))}
		if !known {
			d.Was = none
		}
		lines = append(lines, d)
	}
	return lines
}

// flat is what tokens cost at the plain rates of a price.
func flat(p tenant.Price, u tenant.Usage) decimal.Decimal {
	p.Tiers = nil
	return p.Cost(u)
}

type usedModel struct {
	provider, model string
	tenant.Measures
}

// usedModels are the models of the last days, the dearest first.
func usedModels(ctx context.Context, l *ledger, now time.Time, days int) ([]usedModel, error) {
	first, last := now.In(l.zone).AddDate(0, 0, 1-days), now.In(l.zone)
	answer, err := tenant.QueryUsage(ctx, l.db, tenant.Query{
		Everybody: true, Period: tenant.Date(first.Date()).Through(last.Date()).In(l.zone), By: []tenant.Group{tenant.ByProvider, tenant.ByModel},
	})
	if err != nil {
		return nil, err
	}
	var models []usedModel
	for _, r := range answer.Rows {
		if r.Calls > 0 && r.Keys[1] != "" {
			models = append(models, usedModel{r.Keys[0], r.Keys[1], r.Measures})
		}
	}
	return models, nil
}

type pricesCheckCommand struct {
	Days int `default:"30" placeholder:"N" help:"Models are meant that were used in the last days. Defaults to ${default}."`
	pricesFlags
}

// Help is the help of the command.
func (pricesCheckCommand) Help() string {
	return `The exit code is 3 where a model in use has no price, or calls were booked without one.`
}

// checked is a line of prices check, and what it prints as JSON.
type checked struct {
	Provider, Model string
	Row             string // of the price book; empty where there is no price
	Calls, Unpriced int64  // calls, and those that were booked without a price
	Cost            decimal.Decimal
}

func (c *pricesCheckCommand) Run(ctx context.Context, a *app) error {
	if c.Days < 1 {
		return wrong("--days: %d is less than a day", c.Days)
	}
	book, err := c.book(nil)
	if err != nil {
		return err
	}
	l, end, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer end()
	now := time.Now()
	models, err := usedModels(ctx, l, now, c.Days)
	if err != nil {
		return err
	}
	bad := 0
	t := &table{head: []string{"Provider", "Model", "Price", "#Calls", "#Without a price", "#Cost"}}
	for _, m := range models {
		k := checked{Provider: m.provider, Model: m.model, Calls: m.Calls, Unpriced: m.Unpriced, Cost: m.Cost}
		row := "no price"
		if p, ok := book.Price(m.provider, m.model, now); ok {
			k.Row, row = p.Row, p.Row
		}
		if k.Row == "" || k.Unpriced > 0 {
			bad++
		}
		if a.JSON {
			a.out.json(k)
			continue
		}
		t.add(k.Provider, k.Model, row, number(k.Calls), number(k.Unpriced), dollars(k.Cost))
	}
	if !a.JSON {
		a.out.say("Models of the last %d days; %s.", c.Days, age(book))
		t.write(a.out, "no calls")
	}
	if bad > 0 {
		return fmt.Errorf("%w: models without a price, or with calls without one: %d", errDiffers, bad)
	}
	return nil
}

type repriceCommand struct {
	From   string   `required:"" placeholder:"WHEN" help:"Calls admitted from then on: a day in the ledger's time zone, 2026-03-01, or a time, 2026-03-01T00:00:00Z. Required."`
	To     string   `required:"" placeholder:"WHEN" help:"And before then. Required."`
	Tenant []string `placeholder:"TENANT" help:"The calls of these tenants alone."`
	Model  []string `placeholder:"NAME" help:"The calls that asked for these models, or were billed as one, alone."`
	pricesFlags
	termsFlags
	actFlags
}

// Help is the help of the command.
func (repriceCommand) Help() string {
	return `What a call cost or was charged too much or too little, by the price book as it is now, is booked as an adjustment. No correction is booked twice: an interrupted one is run again.

A charge goes by the terms of the tenant, which are your program's: give them with --terms, or say --no-terms where every tenant is charged what its calls cost.`
}

// repriced is what reprice prints as JSON.
type repriced struct {
	tenant.RepriceReport
	DryRun bool
}

func (c *repriceCommand) Run(ctx context.Context, a *app) error {
	if !c.given() {
		return wrong("what tenants are charged goes by their terms, which are the program's: give --terms FILE, or --no-terms where every tenant is charged what its calls cost")
	}
	book, err := c.book(&c.termsFlags)
	if err != nil {
		return err
	}
	l, end, err := a.open(ctx, tenant.WithPrices(book))
	if err != nil {
		return err
	}
	defer end()
	from, err := moment("--from", c.From, l.zone)
	if err != nil {
		return err
	}
	to, err := moment("--to", c.To, l.zone)
	if err != nil {
		return err
	}
	p := a.progress()
	options := []tenant.RepriceOption{tenant.WithRepriceProgress(func(calls int64) { p.tell("%d calls", calls) })}
	if c.DryRun {
		options = append(options, tenant.WithDryRun())
	}
	if len(c.Model) > 0 {
		options = append(options, tenant.OnlyModels(c.Model...))
	}
	if len(c.Tenant) > 0 {
		var only []tenant.Tenant
		for _, id := range c.Tenant {
			if _, err := tenant.UUIDFor(ctx, l.db, tenant.ID(id)); err != nil {
				return err
			}
			only = append(only, tenant.ID(id))
		}
		options = append(options, tenant.OnlyTenants(only...))
	}
	r := repriced{DryRun: c.DryRun}
	r.RepriceReport, err = l.Reprice(a.acting(ctx, c.Reason), from, to, options...)
	p.end()
	if err != nil && r.Calls == 0 && r.Unpriced == 0 {
		return err
	}
	if a.JSON {
		a.out.json(r)
	} else {
		r.print(a)
	}
	if err != nil && !c.DryRun {
		a.problems.say("To go on, run the same again: no correction is booked twice.")
	}
	return err
}

func (r *repriced) print(a *app) {
	t := &table{head: []string{"Tenant", "Provider", "Model", "#Calls", "#Corrected", "#Unpriced", "#Cost was", "#Cost is", "#Charge was", "#Charge is"}}
	line := func(id, provider, model string, s tenant.RepriceTotals) {
		t.add(id, provider, model, number(s.Calls), number(s.Corrected), number(s.Unpriced), dollars(s.Booked), dollars(s.Right), dollars(s.BookedCharge), dollars(s.RightCharge))
	}
	for _, l := range r.Lines {
		line(cmp.Or(l.TenantID, "—"), l.Provider, l.Model, l.RepriceTotals)
	}
	line("All", "", "", r.RepriceTotals)
	t.write(a.out, "")
	if r.Pruned > 0 {
		a.out.say("%d calls were pruned and stay as they are.", r.Pruned)
	}
	if r.DryRun {
		a.out.say("Nothing was written.")
	}
}

// moment reads a day, which begins in a zone, or a time.
func moment(flag, s string, zone *time.Location) (time.Time, error) {
	if day, err := time.ParseInLocation(time.DateOnly, s, zone); err == nil {
		return day, nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, wrong("%s: %q is neither a day, 2025-10-01, nor a time, 2025-10-01T00:00:00Z", flag, s)
	}
	return at, nil
}
