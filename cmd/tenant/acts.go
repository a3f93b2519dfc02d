package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/shopspring/decimal"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// actFlags are those of whatever changes a tenant.
type actFlags struct {
	Reason string `required:"" placeholder:"TEXT" help:"Why, for the audit log or with the booking. Required."`
	DryRun bool   `help:"Show what would change, and write nothing."`
}

// limitFlags name limits.
type limitFlags struct {
	Window string `placeholder:"WINDOW" enum:",hour,day,week,month,total" default:"" help:"The window of the limits: hour, day, week, month or total."`
	Agent  string `placeholder:"NAME" help:"The limits of one agent's calls alone."`
	Model  string `placeholder:"NAME" help:"The limits of one model's calls alone."`
	Cost   string `placeholder:"DOLLARS" help:"A limit of US dollars, such as 250 or 0.5."`
	Tokens string `placeholder:"N" help:"A limit of tokens."`
	Calls  string `placeholder:"N" help:"A limit of calls."`
}

func (f *limitFlags) any() bool { return f.Cost != "" || f.Tokens != "" || f.Calls != "" }

// none is how a limit is taken away.
const none = "none"

// into sets what was given in a limit.
func (f *limitFlags) into(l *tenant.Limit) error {
	if f.Window == "" {
		return wrong("--window is missing: hour, day, week, month or total")
	}
	set := func(flag, text string, value interface{ UnmarshalText([]byte) error }) error {
		switch {
		case text == "":
			return nil
		case text == none:
			text = ""
		}
		if err := value.UnmarshalText([]byte(text)); err != nil {
			return wrong("--%s: %s", flag, explain(err))
		}
		return nil
	}
	return errors.Join(set("cost", f.Cost, &l.Cost), set("tokens", f.Tokens, &l.Tokens), set("calls", f.Calls, &l.Calls))
}

// change is a line of what an act changes.
type change struct{ What, Was, Becomes string }

// acted is what an act prints as JSON.
type acted struct {
	Tenant      string
	DryRun      bool
	Changes     []change
	Outcome     tenant.Outcome `json:",omitempty"` // of a credit or a debit
	ExecutionID string         `json:",omitempty"`
}

// differences are what is not the same before and after. Figures are what limits stand at.
func differences(before, after *shown, figures bool) []change {
	changes := []change{}
	add := func(what, was, becomes string) {
		if was != becomes {
			changes = append(changes, change{what, was, becomes})
		}
	}
	was, is := before.Budget, after.Budget
	add("tenant", was.TenantID, is.TenantID)
	add("name", was.Name, is.Name)
	add("enforcement", string(before.Effective.Enforcement), string(after.Effective.Enforcement))
	add("suspended", yes(was.Suspended), yes(is.Suspended))
	type pair struct{ was, is *tenant.LimitStatus }
	limits, order := map[limitKey]*pair{}, []limitKey{}
	for i, s := range []*shown{before, after} {
		for j := range s.Status.Limits {
			l := &s.Status.Limits[j]
			if l.TenantID != s.Budget.TenantID && !figures {
				continue
			}
			k := limitKey{l.TenantID, l.Window, l.Metric, l.Agent, l.Model}
			if l.TenantID == s.Budget.TenantID {
				k.tenant = ""
			}
			if limits[k] == nil {
				limits[k] = &pair{}
				order = append(order, k)
			}
			if i == 0 {
				limits[k].was = l
			} else {
				limits[k].is = l
			}
		}
	}
	for _, k := range order {
		p := limits[k]
		one := func(what string, of func(*tenant.LimitStatus) decimal.Decimal) {
			texts := [2]string{none, none}
			for i, l := range []*tenant.LimitStatus{p.was, p.is} {
				if l != nil {
					texts[i] = amount(k.metric, of(l))
				}
			}
			what = limitName(tenant.LimitStatus{Window: k.window, Metric: k.metric, Agent: k.agent, Model: k.model}) + what
			if k.tenant != "" {
				what += " of " + k.tenant
			}
			add(what, texts[0], texts[1])
		}
		one(" limit", func(l *tenant.LimitStatus) decimal.Decimal { return l.Limit })
		if figures {
			one(" spent", func(l *tenant.LimitStatus) decimal.Decimal { return l.Spent })
			one(" left", func(l *tenant.LimitStatus) decimal.Decimal { return l.Remaining })
		}
	}
	return changes
}

// tell says what an act has changed, or would.
func (a *app) tell(r acted) {
	if a.JSON {
		a.out.json(r)
		return
	}
	t := &table{head: []string{"What", "#Was", "#Becomes"}}
	for _, c := range r.Changes {
		t.add(c.What, c.Was, c.Becomes)
	}
	t.write(a.out, "nothing changes")
	switch {
	case r.DryRun:
		a.out.say("Nothing was written.")
	case r.Outcome == tenant.AlreadySettled:
		a.out.say("It was booked before with this key, as execution %s; nothing was booked now.", r.ExecutionID)
	case r.ExecutionID != "":
		a.out.say("Booked as execution %s.", r.ExecutionID)
	case len(r.Changes) > 0:
		a.out.say("Done.")
	}
}

var errUndo = errors.New("it was only tried")

// configure changes the settings of a tenant, or only tries, and tells what is changed.
func (a *app) configure(ctx context.Context, l *ledger, id tenant.ID, f actFlags, create bool, changes func(*tenant.Budget) error) error {
	ctx = a.acting(ctx, f.Reason)
	before, err := look(ctx, l.db, id)
	if create && (errors.Is(err, tenant.ErrUnknownTenant) || errors.Is(err, tenant.ErrNoBudget)) {
		before, err = &shown{Budget: &tenant.Budget{TenantID: none}}, nil
	}
	if err != nil {
		return err
	}
	var after *shown
	err = l.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := tenant.ConfigureBudget(ctx, tx, id, changes); err != nil {
			return err
		}
		if after, err = look(ctx, tx, id); err != nil {
			return err
		}
		return errUndo
	})
	if !errors.Is(err, errUndo) {
		return err
	}
	if !f.DryRun {
		// Outside of a transaction, where it waits for the admissions that go by the old settings.
		if err := tenant.ConfigureBudget(ctx, l.db, id, changes); err != nil {
			return err
		}
		if after, err = look(ctx, l.db, id); err != nil {
			return err
		}
	}
	a.tell(acted{Tenant: string(id), DryRun: f.DryRun, Changes: differences(before, after, false)})
	return nil
}

type setLimitCommand struct {
	tenantArgument
	limitFlags
	Enforcement string `placeholder:"HOW" enum:",hard,soft,none,inherited" default:"" help:"What limits do to a call without room: hard, soft, none, or inherited."`
	AllowLarger bool   `help:"Allow a limit that is larger than one of a longer window, and so never matters."`
	Create      bool   `help:"Make the tenant where there is none with this id."`
	actFlags
}

// Help is the help of the command.
func (setLimitCommand) Help() string {
	return `What is not given stays as it is; "none" takes a limit away:

  tenant tenant set-limit acme --window day --cost 250 --reason "larger plan"
  tenant tenant set-limit acme --window month --tokens none --reason "unlimited plan"`
}

func (c *setLimitCommand) Run(ctx context.Context, a *app) error {
	if !c.any() && c.Enforcement == "" {
		return wrong("nothing is to change: give --cost, --tokens or --calls with a --window, or --enforcement")
	}
	if c.any() {
		if err := c.into(&tenant.Limit{}); err != nil {
			return err
		}
	}
	l, end, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer end()
	return a.configure(ctx, l, c.tenant(), c.actFlags, c.Create, func(b *tenant.Budget) error {
		switch c.Enforcement {
		case "":
		case "inherited":
			b.Enforcement = ""
		default:
			b.Enforcement = tenant.Enforcement(c.Enforcement)
		}
		b.Limits.AllowLargerShort = b.Limits.AllowLargerShort || c.AllowLarger
		if !c.any() {
			return nil
		}
		return c.set(&b.Limits)
	})
}

// set sets the limit among those of a tenant.
func (f *limitFlags) set(all *tenant.Limits) error {
	if f.Agent == "" && f.Model == "" {
		switch tenant.Window(f.Window) {
		case tenant.Day:
			l := tenant.Limit{Window: tenant.Day, Cost: all.DailyCost, Tokens: all.DailyTokens, Calls: all.DailyCalls}
			err := f.into(&l)
			all.DailyCost, all.DailyTokens, all.DailyCalls = l.Cost, l.Tokens, l.Calls
			return err
		case tenant.Month:
			l := tenant.Limit{Window: tenant.Month, Cost: all.MonthlyCost, Tokens: all.MonthlyTokens, Calls: all.MonthlyCalls}
			err := f.into(&l)
			all.MonthlyCost, all.MonthlyTokens, all.MonthlyCalls = l.Cost, l.Tokens, l.Calls
			return err
		}
	}
	// They may be kept as one entry of all metrics, or as several.
	l := tenant.Limit{Window: tenant.Window(f.Window), Agent: f.Agent, Model: f.Model}
	all.Also = slices.DeleteFunc(slices.Clone(all.Also), func(o tenant.Limit) bool {
		same := o.Window == l.Window && o.Agent == l.Agent && o.Model == l.Model
		if same && o.Cost.IsSet() {
			l.Cost = o.Cost
		}
		if same && o.Tokens.IsSet() {
			l.Tokens = o.Tokens
		}
		if same && o.Calls.IsSet() {
			l.Calls = o.Calls
		}
		return same
	})
	if err := f.into(&l); err != nil {
		return err
	}
	if l.Cost.IsSet() || l.Tokens.IsSet() || l.Calls.IsSet() {
		all.Also = append(all.Also, l)
	}
	return nil
}

type suspendCommand struct {
	tenantArgument
	actFlags
}

func (c *suspendCommand) Run(ctx context.Context, a *app) error {
	return suspend(ctx, a, c.tenant(), c.actFlags, true)
}

type resumeCommand struct {
	tenantArgument
	actFlags
}

func (c *resumeCommand) Run(ctx context.Context, a *app) error {
	return suspend(ctx, a, c.tenant(), c.actFlags, false)
}

func suspend(ctx context.Context, a *app, id tenant.ID, f actFlags, is bool) error {
	l, end, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer end()
	return a.configure(ctx, l, id, f, false, func(b *tenant.Budget) error {
		b.Suspended = is
		return nil
	})
}

type renameCommand struct {
	From string `arg:"" help:"The tenant's id."`
	To   string `arg:"" help:"The id that it is to have."`
	actFlags
}

func (c *renameCommand) Run(ctx context.Context, a *app) error {
	l, end, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer end()
	ctx = a.acting(ctx, c.Reason)
	from, to := tenant.ID(c.From), tenant.ID(c.To)
	before, err := look(ctx, l.db, from)
	if err != nil {
		return err
	}
	after := *before
	renamed := *before.Budget
	renamed.TenantID = c.To
	after.Budget = &renamed
	if c.DryRun {
		err = renames(ctx, l, from, to)
	} else {
		err = l.Rename(ctx, from, to)
	}
	if err != nil {
		return err
	}
	a.tell(acted{Tenant: c.From, DryRun: c.DryRun, Changes: differences(before, &after, false)[:1]})
	return nil
}

type moveCommand struct {
	tenantArgument
	Place string `arg:"" optional:"" help:"The place, as the status command lists them."`
	Home  bool   `help:"To the home, the tables beside all places."`
	actFlags
}

func (c *moveCommand) Run(ctx context.Context, a *app) error {
	if (c.Place == "") != c.Home {
		return wrong("it is either moved to a PLACE or, with --home, to the home")
	}
	l, end, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer end()
	from, err := tenant.PlaceFor(ctx, l.db, c.tenant())
	if err != nil {
		return err
	}
	if !c.Home && !slices.Contains(l.places, c.Place) {
		return wrong("there is no place %q: the database has %s", c.Place, cmp.Or(strings.Join(l.places, ", "), "none"))
	}
	own, err := tenant.BudgetFor(ctx, l.db, c.tenant())
	if err != nil {
		return err
	}
	if c.DryRun && own.ParentID != "" {
		return fmt.Errorf("%q stands below %q, and goes along with it: move that", c.ID, own.ParentID)
	}
	done := acted{Tenant: c.ID, DryRun: c.DryRun}
	if from != c.Place {
		done.Changes = []change{{"place", placeName(from), placeName(c.Place)}}
	}
	if !c.DryRun {
		if _, err := l.Move(a.acting(ctx, c.Reason), c.tenant(), c.Place); err != nil {
			return err
		}
	}
	a.tell(done)
	return nil
}

func placeName(name string) string { return cmp.Or(name, "the home") }

// renames says whether a tenant could be given another id.
func renames(ctx context.Context, l *ledger, from, to tenant.ID) error {
	record, found, err := tenant.RecordFor(ctx, l.db, from)
	switch {
	case err != nil:
		return err
	case found:
		return wrong("tenant %q belongs to %s %s; change the record's own key, and its tenant follows", from, record.Table, record.Key)
	}
	_, err = tenant.UUIDFor(ctx, l.db, to)
	switch {
	case err == nil:
		return wrong("there is a tenant %q already", to)
	case errors.Is(err, tenant.ErrUnknownTenant), errors.Is(err, tenant.ErrNoBudget):
		return nil
	}
	return err
}

// historyCommand shows the audit log of a tenant.
type historyCommand struct {
	tenantArgument
	Limit int `default:"20" help:"How many changes at most, the last ones, up to 1000."`
}

func (c *historyCommand) Run(ctx context.Context, a *app) error {
	if c.Limit < 1 || c.Limit > 1000 {
		return wrong("--limit: %d is not between 1 and 1000", c.Limit)
	}
	l, s, end, err := a.openAt(ctx, c.tenant())
	if err != nil {
		return err
	}
	defer end()
	var entries []tenant.AuditEntry
	if err := tenant.AuditLog(ctx, l.db, c.tenant()).Order("id DESC").Limit(c.Limit).Find(&entries).Error; err != nil {
		return err
	}
	if a.JSON {
		for _, e := range entries {
			a.out.json(e)
		}
		return nil
	}
	zone := s.zone()
	a.out.say("%s", zoned("Changes, the last first", zone.String()))
	t := &table{head: []string{"When", "Who", "What", "Why", "Was", "Became"}}
	for _, e := range entries {
		t.add(instant(e.ChangedAt, zone), e.Actor, e.Action, e.Reason, string(e.Was), string(e.Became))
	}
	t.write(a.out, "none")
	return nil
}
