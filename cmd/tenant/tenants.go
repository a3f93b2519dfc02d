package main

import (
	"cmp"
	"context"
	"time"

	"github.com/shopspring/decimal"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

type listCommand struct {
	Search string `placeholder:"TEXT" help:"Those alone whose id or name has this in it."`
	Below  string `placeholder:"TENANT" help:"Those alone that stand below this one."`
	After  string `placeholder:"TENANT" help:"Go on behind this one."`
	Limit  int    `default:"100" help:"How many at most, up to 1000."`
}

func (c *listCommand) Run(ctx context.Context, a *app) error {
	l, end, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer end()
	list := tenant.TenantList{Search: c.Search, After: c.After, Limit: c.Limit}
	if c.Limit < 1 || c.Limit > 1000 {
		return wrong("--limit: %d is not between 1 and 1000", c.Limit)
	}
	if c.Below != "" {
		list.Below = tenant.ID(c.Below)
	}
	found, err := tenant.ListTenants(ctx, l.db, list)
	if err != nil {
		return err
	}
	if a.JSON {
		for _, t := range found {
			a.out.json(t)
		}
		return nil
	}
	t := &table{head: []string{"Tenant", "Name", "Below", "#Today", "#Month", "#Total", "#Held", "Suspended"}}
	for _, f := range found {
		t.add(f.TenantID, f.Name, f.ParentID, dollars(f.Today), dollars(f.Month), dollars(f.Total), dollars(f.Held), yes(f.Suspended))
	}
	t.write(a.out, "no tenants")
	if len(found) == c.Limit {
		a.out.say(quoted("There may be more: --after %q", found[len(found)-1].TenantID))
	}
	return nil
}

type showCommand struct{ tenantArgument }

// shown is what show prints as JSON.
type shown struct {
	UUID                   tenant.UUID
	Record                 *tenant.RecordKey `json:",omitempty"` // of the host's
	Place                  string            `json:",omitempty"` // that its books are in; empty for the home
	Budget                 *tenant.Budget
	Effective              tenant.Effective
	Status                 tenant.Status
	ChargeToday, CostToday decimal.Decimal // with the tenants below
	ChargeMonth, CostMonth decimal.Decimal
}

func (c *showCommand) Run(ctx context.Context, a *app) error {
	l, s, end, err := a.openAt(ctx, c.tenant())
	if err != nil {
		return err
	}
	defer end()
	below := tenant.WithDescendants()
	for _, ask := range []struct {
		into *decimal.Decimal
		of   func() (decimal.Decimal, error)
	}{
		{&s.ChargeToday, func() (decimal.Decimal, error) { return tenant.ChargeToday(ctx, l.db, c.tenant(), below) }},
		{&s.CostToday, func() (decimal.Decimal, error) { return tenant.CostToday(ctx, l.db, c.tenant(), below) }},
		{&s.ChargeMonth, func() (decimal.Decimal, error) { return tenant.ChargeThisMonth(ctx, l.db, c.tenant(), below) }},
		{&s.CostMonth, func() (decimal.Decimal, error) { return tenant.CostThisMonth(ctx, l.db, c.tenant(), below) }},
	} {
		if *ask.into, err = ask.of(); err != nil {
			return err
		}
	}
	if a.JSON {
		a.out.json(s)
		return nil
	}
	s.print(a)
	return nil
}

// look returns what a tenant is and stands at.
func look(ctx context.Context, db *gorm.DB, id tenant.ID) (*shown, error) {
	s := &shown{}
	var err error
	if s.UUID, err = tenant.UUIDFor(ctx, db, id); err != nil {
		return nil, err
	}
	if s.Budget, err = tenant.BudgetFor(ctx, db, id); err != nil {
		return nil, err
	}
	if s.Effective, err = tenant.EffectiveBudget(ctx, db, id); err != nil {
		return nil, err
	}
	if s.Place, err = tenant.PlaceFor(ctx, db, id); err != nil {
		return nil, err
	}
	record, found, err := tenant.RecordFor(ctx, db, id)
	if err != nil {
		return nil, err
	}
	if found {
		s.Record = &record
	}
	s.Status, err = tenant.BudgetStatus(ctx, db, id)
	return s, err
}

// zone is the tenant's.
func (s *shown) zone() *time.Location {
	zone, err := time.LoadLocation(s.Effective.TimeZone)
	if err != nil {
		return time.UTC
	}
	return zone
}

func (s *shown) print(a *app) {
	zone, b := s.zone(), s.Budget
	a.out.say("Tenant       %s", plain(b.TenantID))
	a.out.say("Name         %s", plain(b.Name))
	a.out.say("UUID         %s", s.UUID)
	if s.Record != nil {
		a.out.say("Record       %s %s", plain(s.Record.Table), plain(s.Record.Key))
	}
	if s.Place != "" {
		a.out.say("Place        %s", s.Place)
	}
	a.out.say("Below        %s", cmp.Or(plain(b.ParentID), "—"))
	a.out.say("Enforcement  %s (from the %s)", s.Effective.Enforcement, s.Effective.EnforcementFrom)
	a.out.say("Time zone    %s (from the %s)", plain(s.Effective.TimeZone), s.Effective.TimeZoneFrom)
	a.out.say("Suspended    %s", yes(s.Status.Suspended))
	a.out.say("Today        %s charged, %s cost", dollars(s.ChargeToday), dollars(s.CostToday))
	a.out.say("Month        %s charged, %s cost", dollars(s.ChargeMonth), dollars(s.CostMonth))
	a.out.say("")
	a.out.say("%s", zoned("Limits in force", zone.String()))
	s.limits(zone).write(a.out, "none")
}

// limits are those in force, with what they stand at and where they come from.
func (s *shown) limits(zone *time.Location) *table {
	from := map[limitKey]tenant.EffectiveLimit{}
	for _, e := range s.Effective.Limits {
		from[limitKey{e.TenantID, e.Window, e.Metric, e.Agent, e.Model}] = e
	}
	t := &table{head: []string{"Of", "Limit", "From", "#Limit", "#Spent", "#Held", "#Left", "#%", "Resets", "#Projected"}}
	for _, n := range s.Status.Limits {
		projected := ""
		if n.Forecast != nil {
			projected = amount(n.Metric, n.Forecast.Projected)
		}
		e := from[limitKey{n.TenantID, n.Window, n.Metric, n.Agent, n.Model}]
		t.add(n.TenantID, limitName(n), string(e.From), amount(n.Metric, n.Limit), amount(n.Metric, n.Spent), amount(n.Metric, n.Held),
			amount(n.Metric, n.Remaining), n.Percent.String(), instant(n.ResetsAt, zone), projected)
	}
	return t
}

type limitKey struct {
	tenant       string
	window       tenant.Window
	metric       tenant.Metric
	agent, model string
}

// amount is a figure of a limit: US dollars, tokens or calls.
func amount(m tenant.Metric, d decimal.Decimal) string {
	if m == tenant.CostMetric {
		return dollars(d)
	}
	return d.String()
}
