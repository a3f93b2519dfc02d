package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/llmtenant/tenant"
)

type verifyCommand struct{}

// Help is the help of the command.
func (verifyCommand) Help() string {
	return `Every balance and every hour of the roll-up is compared with the executions, beside calls that go on. The exit code is 3 where they differ.`
}

func (c *verifyCommand) Run(ctx context.Context, a *app) error {
	return compare(ctx, a, func(ctx context.Context, l *ledger, options ...tenant.VerifyOption) ([]tenant.Difference, error) {
		return l.Verify(ctx, options...)
	}, "The books agree with the executions.")
}

// compare verifies or repairs, and prints the differences.
func compare(ctx context.Context, a *app, how func(context.Context, *ledger, ...tenant.VerifyOption) ([]tenant.Difference, error), none string) error {
	l, end, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer end()
	p := a.progress()
	found, err := how(a.acting(ctx, ""), l, tenant.WithVerifyProgress(func(r tenant.VerifyReport) {
		p.tell("%d tenants, %d differences", r.Tenants, r.Differences)
	}))
	p.end()
	t := &table{head: []string{"Tenant", "UUID", "Where", "Column", "#Is", "#Executions say"}}
	for _, d := range found {
		if a.JSON {
			a.out.json(d)
			continue
		}
		t.add(d.TenantID, string(d.UUID), d.Where, d.Column, number(d.Have), number(d.Want))
	}
	switch {
	case err != nil && len(found) == 0, a.JSON:
	case len(found) == 0:
		a.out.say("%s", none)
	default:
		t.write(a.out, "")
	}
	if err == nil && len(found) > 0 {
		err = errDiffers
	}
	return err
}

type repairCommand struct {
	DryRun bool `help:"Show what would be mended, and write nothing."`
	Yes    bool `short:"y" help:"Do it without asking."`
}

// Help is the help of the command.
func (repairCommand) Help() string {
	return `Balances and roll-up are set to what the executions add up to, where they differ. What it has mended is printed. With --dry-run the exit code is 3 where there is something to mend.`
}

func (c *repairCommand) Run(ctx context.Context, a *app) error {
	if c.DryRun {
		return compare(ctx, a, func(ctx context.Context, l *ledger, options ...tenant.VerifyOption) ([]tenant.Difference, error) {
			return l.Repair(ctx, append(options, tenant.WithVerifyDryRun())...)
		}, "Nothing is to be mended.")
	}
	if err := a.confirm(ctx, c.Yes, "Balances and roll-up are set to what the executions add up to.", "yes"); err != nil {
		return err
	}
	err := compare(ctx, a, func(ctx context.Context, l *ledger, options ...tenant.VerifyOption) ([]tenant.Difference, error) {
		return l.Repair(ctx, options...)
	}, "Nothing was to be mended.")
	if errors.Is(err, errDiffers) {
		a.note("This was mended.")
		return nil
	}
	return err
}

type pruneCommand struct {
	Before    string        `placeholder:"WHEN" help:"Executions admitted before this leave: a day in the ledger's time zone, 2025-10-01, or a time, 2025-10-01T00:00:00Z."`
	OlderThan int           `placeholder:"DAYS" help:"Executions leave that are older than so many days."`
	Time      time.Duration `placeholder:"DURATION" help:"End after so long, such as 10m; another prune goes on. Defaults to no bound."`
	Batch     int           `default:"1000" placeholder:"N" help:"How many leave in one transaction, up to 10000. Defaults to ${default}."`
	DryRun    bool          `help:"Count what would leave, and write nothing."`
	Yes       bool          `short:"y" help:"Do it without asking."`
}

// Help is the help of the command.
func (pruneCommand) Help() string {
	return `What they add up to stays, by quarters of an hour, so that sums over days and months are as before. Ctrl-C ends it behind a whole batch; another prune goes on.`
}

// pruned is what prune prints as JSON.
type pruned struct {
	tenant.PruneReport
	DryRun bool
}

func (c *pruneCommand) before(zone *time.Location) (time.Time, error) {
	switch {
	case (c.Before == "") == (c.OlderThan == 0):
		return time.Time{}, wrong("give --before or --older-than, one of them")
	case c.OlderThan < 0:
		return time.Time{}, wrong("--older-than: %d is less than a day", c.OlderThan)
	case c.OlderThan > 0:
		return time.Now().AddDate(0, 0, -c.OlderThan), nil
	}
	return moment("--before", c.Before, zone)
}

func (c *pruneCommand) Run(ctx context.Context, a *app) error {
	l, end, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer end()
	before, err := c.before(l.zone)
	if err != nil {
		return err
	}
	if !c.DryRun {
		if err := a.confirm(ctx, c.Yes, fmt.Sprintf("Executions from before %s leave %s for good, and sums stay.", before.Format(time.RFC3339), plain(l.name)), "yes"); err != nil {
			return err
		}
	}
	p := a.progress()
	options := []tenant.PruneOption{tenant.WithPruneBatch(c.Batch), tenant.WithPruneProgress(func(r tenant.PruneReport) {
		p.tell("%d executions, %d tenants", r.Executions, r.Tenants)
	})}
	if c.Time != 0 {
		options = append(options, tenant.WithPruneTime(c.Time))
	}
	if c.DryRun {
		options = append(options, tenant.WithPruneDryRun())
	}
	r := pruned{DryRun: c.DryRun}
	r.PruneReport, err = l.Prune(ctx, before, options...)
	p.end()
	if r.Before.IsZero() {
		return err
	}
	if err != nil {
		r.More = true
	}
	verb := "left"
	if c.DryRun {
		verb = "would leave"
	}
	if a.JSON {
		a.out.json(r)
	} else {
		a.out.say("%d executions from before %s %s.", r.Executions, r.Before.In(l.zone).Format(time.RFC3339), verb)
	}
	if r.More && !c.DryRun {
		a.note("There may be more: the same again goes on.")
	}
	return err
}

type eraseCommand struct {
	tenantArgument
	Yes bool `short:"y" help:"Do it without asking."`
	actFlags
}

// Help is the help of the command.
func (eraseCommand) Help() string {
	return `All that names the tenant or its people goes: its id, name and record, its calls, limits and history. Sums without a name stay. Delete the record of your own first. It waits for calls that run; Ctrl-C ends it, and the same again goes on.`
}

// erased is what erase prints as JSON.
type erased struct {
	tenant.EraseReport
	DryRun bool
}

func (c *eraseCommand) Run(ctx context.Context, a *app) error {
	l, s, end, err := a.openAt(ctx, c.tenant())
	if err != nil {
		return err
	}
	defer end()
	r := erased{EraseReport: tenant.EraseReport{UUID: s.UUID}, DryRun: c.DryRun}
	if err := tenant.Executions(ctx, l.db, c.tenant()).Count(&r.Executions).Error; err != nil {
		return err
	}
	verb := "left"
	if c.DryRun {
		verb = "would leave"
	} else {
		question := fmt.Sprintf("Tenant %q (%s) and its %d executions leave %s for good, and sums without a name stay.", c.ID, plain(s.Budget.Name), r.Executions, plain(l.name))
		if err := a.confirm(ctx, c.Yes, question, c.ID); err != nil {
			return err
		}
		r.EraseReport, err = l.Erase(a.acting(ctx, c.Reason), c.tenant())
		if err != nil {
			a.note("%d executions have left; the same again goes on.", r.Executions)
			return err
		}
	}
	if a.JSON {
		a.out.json(r)
		return nil
	}
	a.out.say("%d executions %s. What stays is known as %s.", r.Executions, verb, r.UUID)
	return nil
}
