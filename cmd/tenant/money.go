package main

import (
	"context"
	"slices"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant"
)

type topUpCommand struct {
	tenantArgument
	limitFlags
	Key string `placeholder:"TEXT" help:"What names the top-up, such as an invoice's number: it happens once in the limit's window."`
	actFlags
}

func (c *topUpCommand) Run(ctx context.Context, a *app) error {
	up := tenant.TopUp{Reason: c.Reason, IdempotencyKey: c.Key, DryRun: c.DryRun, Limit: tenant.Limit{Window: tenant.Window(c.Window), Agent: c.Agent, Model: c.Model}}
	switch {
	case !c.any():
		return wrong("nothing is added: give --cost, --tokens or --calls")
	case c.Cost == none || c.Tokens == none || c.Calls == none:
		return wrong("a top-up adds to a limit, and %q is nothing to add", none)
	}
	if err := c.into(&up.Limit); err != nil {
		return err
	}
	l, before, end, err := a.openAt(ctx, c.tenant())
	if err != nil {
		return err
	}
	defer end()
	ctx = a.acting(ctx, c.Reason)
	if err := l.TopUp(ctx, c.tenant(), up); err != nil {
		return err
	}
	after, err := look(ctx, l.db, c.tenant())
	if err != nil {
		return err
	}
	if c.DryRun {
		after = before.raised(up.Limit)
	}
	a.tell(acted{Tenant: c.ID, DryRun: c.DryRun, Changes: differences(before, after, true)})
	return nil
}

// raised is what a tenant will stand at with more room.
func (s *shown) raised(by tenant.Limit) *shown {
	next := *s
	next.Status.Limits = slices.Clone(s.Status.Limits)
	for i := range next.Status.Limits {
		l := &next.Status.Limits[i]
		if l.TenantID != s.Budget.TenantID || l.Window != by.Window || l.Agent != by.Agent || l.Model != by.Model {
			continue
		}
		more := by.Cost.Decimal()
		switch l.Metric {
		case tenant.TokensMetric:
			more = decimal.NewFromInt(by.Tokens.Int64())
		case tenant.CallsMetric:
			more = decimal.NewFromInt(by.Calls.Int64())
		}
		l.Limit = l.Limit.Add(more)
		*l = left(*l)
	}
	return &next
}

// adjustFlags are those of a credit and a debit.
type adjustFlags struct {
	tenantArgument
	Amount string            `arg:"" help:"US dollars, such as 5 or 0.25."`
	Key    string            `placeholder:"TEXT" help:"What names it, such as an incident's number: it is booked once."`
	Agent  string            `placeholder:"NAME" help:"The agent that it is booked for."`
	Tag    map[string]string `placeholder:"NAME=VALUE" help:"Tags that are kept with it."`
	actFlags
}

type creditCommand struct{ adjustFlags }

func (c *creditCommand) Run(ctx context.Context, a *app) error { return c.adjust(ctx, a, -1) }

type debitCommand struct{ adjustFlags }

func (c *debitCommand) Run(ctx context.Context, a *app) error { return c.adjust(ctx, a, 1) }

func (c *adjustFlags) adjust(ctx context.Context, a *app, sign int64) error {
	amount := tenant.USD(c.Amount)
	if _, err := amount.MarshalText(); err != nil {
		return wrong("the amount: %s", explain(err))
	}
	if amount.Decimal().IsZero() {
		return wrong("the amount is zero; give US dollars, such as 5 or 0.25")
	}
	l, before, end, err := a.openAt(ctx, c.tenant())
	if err != nil {
		return err
	}
	defer end()
	ctx = a.acting(ctx, c.Reason)
	if c.DryRun {
		return c.tried(ctx, a, l, before, amount.Decimal().Mul(decimal.NewFromInt(sign)))
	}
	var options []tenant.RecordOption
	if c.Key != "" {
		options = append(options, tenant.WithIdempotencyKey(c.Key))
	}
	if c.Agent != "" {
		options = append(options, tenant.WithAgent(c.Agent))
	}
	for name, value := range c.Tag {
		options = append(options, tenant.WithTag(name, value))
	}
	act := l.Debit
	if sign < 0 {
		act = l.Credit
	}
	settled, err := act(ctx, c.tenant(), amount, c.Reason, options...)
	if err != nil {
		return err
	}
	after, err := look(ctx, l.db, c.tenant())
	if err != nil {
		return err
	}
	r := acted{Tenant: c.ID, Changes: differences(before, after, true), Outcome: settled.Outcome, ExecutionID: settled.ExecutionID}
	if settled.Outcome == tenant.AlreadySettled {
		r.Changes = []change{}
	}
	a.tell(r)
	return nil
}

// tried tells what an adjustment would change.
func (c *adjustFlags) tried(ctx context.Context, a *app, l *ledger, before *shown, by decimal.Decimal) error {
	if c.Key != "" {
		var same []tenant.Execution
		if err := tenant.Executions(ctx, l.db, c.tenant()).Where("idempotency_key = ?", c.Key).Limit(1).Find(&same).Error; err != nil {
			return err
		}
		if len(same) > 0 {
			a.tell(acted{Tenant: c.ID, DryRun: true, Changes: []change{}, Outcome: tenant.AlreadySettled, ExecutionID: same[0].ID})
			return nil
		}
	}
	after := *before
	after.Status.Limits = slices.Clone(before.Status.Limits)
	for i := range after.Status.Limits {
		s := &after.Status.Limits[i]
		if s.Metric == tenant.CostMetric && s.Counts == tenant.CountsCharge && s.Model == "" && (s.Agent == "" || s.Agent == c.Agent) {
			s.Spent = s.Spent.Add(by)
			*s = left(*s)
		}
	}
	a.tell(acted{Tenant: c.ID, DryRun: true, Changes: differences(before, &after, true)})
	return nil
}

// left is a limit with what is left of it.
func left(l tenant.LimitStatus) tenant.LimitStatus {
	l.Remaining = decimal.Max(decimal.Zero, l.Limit.Sub(l.Spent).Sub(l.Held))
	return l
}
