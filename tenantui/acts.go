package tenantui

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/shopspring/decimal"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

func keysOf(v url.Values) iter.Seq[string] { return maps.Keys(v) }

// fingerprint is a budget in short, to see whether it was changed between a look at a change and the change.
func fingerprint(b *tenant.Budget) string {
	encoded, err := json.Marshal(b)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(encoded)
	return hex.EncodeToString(sum[:16])
}

// configure changes a budget as it was looked at, or only tries whether that can be.
func (d *doing) configure(ctx context.Context, try bool, change func(*tenant.Budget) error) error {
	state := d.sent.Get("state")
	guarded := func(b *tenant.Budget) error {
		if !try && state != "" && fingerprint(b) != state {
			return errChanged
		}
		return change(b)
	}
	if !try {
		return tenant.ConfigureBudget(ctx, d.db, d.id, guarded)
	}
	undo := errors.New("it was only tried")
	err := d.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := tenant.ConfigureBudget(ctx, tx, d.id, guarded); err != nil {
			return err
		}
		return undo
	})
	if errors.Is(err, undo) {
		return nil
	}
	return err
}

// limitLine is one limit of a form.
type limitLine struct{ Window, Metric, Amount, Agent, Model string }

const newLines = 2 // for limits that are added

func limitsAct() act {
	return act{
		Title: "Change limits", Button: "Change the limits", Role: Configure, Done: "The settings were changed.",
		Text: "A line without an amount is no limit. Costs are US dollars. 0 allows nothing.",
		form: func(d *doing) error {
			d.Body.Windows = []string{"hour", "day", "week", "month", "total"}
			d.Body.Metrics = []string{"cost", "tokens", "calls"}
			if d.sent == nil {
				d.Body.Limits = lines(d.budget.Limits)
			} else {
				d.Body.Limits = sentLines(d.sent)
			}
			for range newLines {
				d.Body.Limits = append(d.Body.Limits, limitLine{Window: "month", Metric: "cost"})
			}
			inherit, larger := "", ""
			if d.budget.Inherit {
				inherit = "yes"
			}
			if d.budget.Limits.AllowLargerShort {
				larger = "yes"
			}
			d.Body.Fields = []field{
				{Name: "enforcement", Label: "Enforcement", Value: d.now("enforcement", string(d.budget.Enforcement)), Options: []option{
					{"inherited", ""}, {"hard: a call without room is refused", "hard"}, {"soft: it is made and counted", "soft"}, {"none: limits are not looked at", "none"},
				}},
				{Name: "counts", Label: "Limits of cost count", Value: d.now("counts", string(d.budget.Counts)), Options: []option{
					{"what the ledger says", ""}, {"what the tenant is charged", "charge"}, {"what the provider bills", "cost"},
				}},
				{Name: "zone", Label: "Time zone (an IANA name; empty: the ledger's)", Value: d.now("zone", d.budget.TimeZone)},
				{Name: "inherit", Label: "The ledger's default limits hold for what is not set here", Value: d.now("inherit", inherit), Check: true},
				{Name: "larger", Label: "A limit may be larger than one of a longer window", Value: d.now("larger", larger), Check: true},
			}
			return nil
		},
		plan: func(d *doing) error {
			then, err := d.wanted()
			if err != nil {
				return err
			}
			// The ledger itself says what cannot be.
			if err := d.configure(d.Context(), true, then); err != nil {
				return err
			}
			was, becomes := *d.budget, *d.budget
			if err := then(&becomes); err != nil {
				return err
			}
			d.limitChanges(lines(was.Limits), lines(becomes.Limits))
			d.change("enforcement", orInherited(string(was.Enforcement)), orInherited(string(becomes.Enforcement)))
			d.change("limits of cost count", orInherited(string(was.Counts)), orInherited(string(becomes.Counts)))
			d.change("time zone", orInherited(was.TimeZone), orInherited(becomes.TimeZone))
			d.change("takes the ledger's default limits", yesNo(was.Inherit), yesNo(becomes.Inherit))
			return nil
		},
		apply: func(ctx context.Context, d *doing) error {
			then, err := d.wanted()
			if err != nil {
				return err
			}
			return d.configure(ctx, false, then)
		},
	}
}

func orInherited(s string) string {
	if s == "" {
		return "inherited"
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// wanted is what the form of limits makes of a budget.
func (d *doing) wanted() (func(*tenant.Budget) error, error) {
	limits, err := limitsOf(sentLines(d.sent))
	if err != nil {
		return nil, err
	}
	limits.AllowLargerShort = d.sent.Get("larger") != ""
	return func(b *tenant.Budget) error {
		b.Limits, b.Enforcement, b.TimeZone = limits, tenant.Enforcement(d.sent.Get("enforcement")), strings.TrimSpace(d.sent.Get("zone"))
		b.Inherit, b.Counts = d.sent.Get("inherit") != "", tenant.Counts(d.sent.Get("counts"))
		return nil
	}, nil
}

// lines are limits as lines of a form.
func lines(l tenant.Limits) []limitLine {
	var all []limitLine
	add := func(window tenant.Window, metric tenant.Metric, agent, model string, set bool, amount string) {
		if set {
			all = append(all, limitLine{string(window), string(metric), amount, agent, model})
		}
	}
	for _, limit := range append([]tenant.Limit{
		{Window: tenant.Day, Cost: l.DailyCost, Tokens: l.DailyTokens, Calls: l.DailyCalls},
		{Window: tenant.Month, Cost: l.MonthlyCost, Tokens: l.MonthlyTokens, Calls: l.MonthlyCalls},
	}, l.Also...) {
		add(limit.Window, tenant.CostMetric, limit.Agent, limit.Model, limit.Cost.IsSet(), limit.Cost.Decimal().String())
		add(limit.Window, tenant.TokensMetric, limit.Agent, limit.Model, limit.Tokens.IsSet(), strconv.FormatInt(limit.Tokens.Int64(), 10))
		add(limit.Window, tenant.CallsMetric, limit.Agent, limit.Model, limit.Calls.IsSet(), strconv.FormatInt(limit.Calls.Int64(), 10))
	}
	return all
}

// sentLines are the lines of a form that have an amount.
func sentLines(form url.Values) []limitLine {
	at := func(name string, i int) string {
		if v := form[name]; i < len(v) {
			return strings.TrimSpace(v[i])
		}
		return ""
	}
	var all []limitLine
	for i := range form["amount"] {
		l := limitLine{at("window", i), at("metric", i), at("amount", i), at("agent", i), at("model", i)}
		if l.Amount != "" {
			all = append(all, l)
		}
	}
	return all
}

// plainNumber is a number that people write with commas between thousands, and a dollar sign, without them; what is no plain
// decimal is left as it is, with what makes it none. Exponents are none: what they stand for can be of any length.
func plainNumber(s string) string {
	s = strings.NewReplacer(",", "", "$", "", "_", "", " ", "").Replace(s)
	if len(s) > 40 || strings.ContainsFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }) {
		return "not a number"
	}
	return s
}

func limitsOf(all []limitLine) (tenant.Limits, error) {
	var l tenant.Limits
	for _, line := range all {
		limit := tenant.Limit{Window: tenant.Window(line.Window), Agent: line.Agent, Model: line.Model}
		n := plainNumber(line.Amount)
		switch tenant.Metric(line.Metric) {
		case tenant.CostMetric:
			if limit.Cost = tenant.USD(n); !isAmount(limit.Cost) {
				return l, bad("%q is no amount of US dollars", line.Amount)
			}
		case tenant.TokensMetric, tenant.CallsMetric:
			q, err := strconv.ParseInt(n, 10, 64)
			if err != nil || q < 0 {
				return l, bad("%q is no number of %s", line.Amount, line.Metric)
			}
			if limit.Calls = tenant.Count(q); line.Metric == string(tenant.TokensMetric) {
				limit.Calls, limit.Tokens = tenant.Quantity{}, tenant.Count(q)
			}
		default:
			return l, bad("%.20q is no metric", line.Metric)
		}
		l.Also = append(l.Also, limit)
	}
	return l, nil
}

// isAmount reports whether a text was one.
func isAmount(m tenant.Money) bool {
	_, err := m.MarshalText()
	return err == nil && m.IsSet()
}

func (d *doing) limitChanges(was, becomes []limitLine) {
	name := func(l limitLine) string {
		return limitName(tenant.LimitStatus{Metric: tenant.Metric(l.Metric), Window: tenant.Window(l.Window), Agent: l.Agent, Model: l.Model})
	}
	show := func(all []limitLine, what string) string {
		for _, l := range all {
			if name(l) != what {
				continue
			}
			n, err := decimal.NewFromString(plainNumber(l.Amount))
			if err != nil {
				return l.Amount
			}
			return amount(tenant.Metric(l.Metric), n).Text
		}
		return "no limit"
	}
	var names []string
	for _, l := range append(slices.Clone(was), becomes...) {
		if n := name(l); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	for _, n := range names {
		d.change("limit: "+n, show(was, n), show(becomes, n))
	}
}

func suspendAct(suspend bool) act {
	a := act{
		Title: "Suspend", Button: "Suspend this tenant", Role: Configure, Danger: true, Done: "The tenant is suspended: it can make no calls.",
		Text: "A suspended tenant can make no calls. Those that run go on and are booked.",
	}
	if !suspend {
		a.Title, a.Button, a.Danger, a.Done, a.Text = "Resume", "Let it make calls again", false, "The tenant can make calls again.", ""
	}
	a.form = func(*doing) error { return nil }
	set := func(b *tenant.Budget) error { b.Suspended = suspend; return nil }
	state := map[bool]string{true: "suspended", false: "active"}
	a.plan = func(d *doing) error {
		d.change("state", state[d.budget.Suspended], state[suspend])
		return nil
	}
	a.apply = func(ctx context.Context, d *doing) error { return d.configure(ctx, false, set) }
	return a
}

func renameAct() act {
	return act{
		Title: "Rename", Button: "Rename", Role: Configure, Done: "The tenant was renamed.",
		Text: "The tenant of a record follows the record: change that instead. Past executions keep the id that they were made under.",
		form: func(d *doing) error {
			d.Body.Fields = []field{
				{Name: "to", Label: "Tenant id", Value: d.now("to", string(d.id)), Required: true},
				{Name: "name", Label: "Name", Value: d.now("name", d.budget.Name)},
			}
			return nil
		},
		plan: func(d *doing) error {
			d.change("tenant id", string(d.id), d.now("to", ""))
			name := d.now("name", "")
			d.change("name", d.budget.Name, name)
			return d.configure(d.Context(), true, func(b *tenant.Budget) error { b.Name = name; return nil })
		},
		apply: func(ctx context.Context, d *doing) error {
			to, name := tenant.ID(d.now("to", "")), d.now("name", "")
			if to != d.id { // first: it is what can fail
				if d.fingerprintDiffers() {
					return errChanged
				}
				if err := d.ledger.Rename(ctx, d.id, to); err != nil {
					return err
				}
				d.id = to
			}
			return tenant.ConfigureBudget(ctx, d.db, d.id, func(b *tenant.Budget) error { b.Name = name; return nil })
		},
	}
}

func (d *doing) fingerprintDiffers() bool {
	state := d.sent.Get("state")
	return state != "" && state != fingerprint(d.budget)
}

// adjustAct is a credit or a debit.
func adjustAct(credit bool) act {
	a := act{
		Title: "Debit", Button: "Charge it", Role: Adjust, Done: "The tenant was charged.",
		Text: "A debit charges what no call has cost, such as a fee. It counts in the windows that are open now.",
	}
	if credit {
		a.Title, a.Button, a.Done = "Credit", "Give it back", "The credit was given."
		a.Text = "A credit gives an amount back. What is spent in the windows that are open now is that much less."
	}
	a.form = func(d *doing) error {
		d.Body.Fields = []field{{Name: "sum", Label: "US dollars", Value: d.now("sum", ""), Required: true, Mode: "decimal"}}
		return nil
	}
	a.plan = func(d *doing) error {
		by, err := d.dollarsSent()
		if err != nil {
			return err
		}
		if credit {
			by = by.Neg()
		}
		for _, p := range []tenant.Calendar{tenant.Today, tenant.ThisMonth} {
			spent, err := tenant.Charge(d.Context(), d.db, d.id, p)
			if err != nil {
				return err
			}
			d.change("charged "+p.String(), dollars(spent), dollars(spent.Add(by)))
		}
		if len(d.Body.Changes) == 0 { // less than what is shown
			d.change("adjustment", "", by.String()+" US dollars")
		}
		return nil
	}
	a.apply = func(ctx context.Context, d *doing) error {
		by, err := d.dollarsSent()
		if err != nil {
			return err
		}
		adjust := d.ledger.Debit
		if credit {
			adjust = d.ledger.Credit
		}
		_, err = adjust(ctx, d.id, tenant.USDFrom(by), d.Body.Reason, tenant.WithIdempotencyKey("tenantui:"+d.sent.Get("key")))
		return err
	}
	return a
}

func (d *doing) dollarsSent() (decimal.Decimal, error) {
	s := d.sent.Get("sum")
	m := tenant.USD(plainNumber(s))
	if !isAmount(m) || m.Decimal().IsZero() {
		return decimal.Decimal{}, bad("%q is no amount of US dollars above zero", s)
	}
	return m.Decimal(), nil
}

// topUpAct is more room under a limit.
func topUpAct() act {
	return act{
		Title: "Top up", Button: "Top it up", Role: Adjust, Done: "The limit was topped up.",
		Text: "A top-up adds to one limit until its present window ends; to a limit in total, for good.",
		form: func(d *doing) error {
			own, err := d.toppable()
			if err != nil {
				return err
			}
			if len(own) == 0 {
				d.Body.Text = "No limit holds for this tenant, so that there is nothing to top up. Change its limits first."
			}
			var options []option
			for _, l := range own {
				options = append(options, option{limitName(l) + ", " + amount(l.Metric, l.Remaining).Text + " of " + amount(l.Metric, l.Limit).Text + " left", limitKey(l)})
			}
			d.Body.Fields = []field{
				{Name: "limit", Label: "Limit", Value: d.now("limit", ""), Options: options},
				{Name: "sum", Label: "By (US dollars, tokens or calls)", Value: d.now("sum", ""), Required: true, Mode: "decimal"},
			}
			return nil
		},
		plan: func(d *doing) error {
			l, by, err := d.toppedUp()
			if err != nil {
				return err
			}
			until := ""
			if !l.ResetsAt.IsZero() {
				zone, err := d.zone(d.id)
				if err != nil {
					return err
				}
				until = ", until " + at(l.ResetsAt, zone) + " (" + zone.String() + ")"
			}
			d.change("limit: "+limitName(l), amount(l.Metric, l.Limit).Text, amount(l.Metric, l.Limit.Add(by)).Text+until)
			return nil
		},
		apply: func(ctx context.Context, d *doing) error {
			l, by, err := d.toppedUp()
			if err != nil {
				return err
			}
			limit := tenant.Limit{Window: l.Window, Agent: l.Agent, Model: l.Model}
			switch l.Metric {
			case tenant.CostMetric:
				limit.Cost = tenant.USDFrom(by)
			case tenant.TokensMetric:
				limit.Tokens = tenant.Count(by.IntPart())
			default:
				limit.Calls = tenant.Count(by.IntPart())
			}
			return d.ledger.TopUp(ctx, d.id, tenant.TopUp{Limit: limit, Reason: d.Body.Reason, IdempotencyKey: "tenantui:" + d.sent.Get("key")})
		},
	}
}

// toppable are the limits of the tenant itself.
func (d *doing) toppable() ([]tenant.LimitStatus, error) {
	s, err := tenant.BudgetStatus(d.Context(), d.db, d.id)
	return slices.DeleteFunc(s.Limits, func(l tenant.LimitStatus) bool { return l.TenantID != string(d.id) }), err
}

func limitKey(l tenant.LimitStatus) string {
	return fmt.Sprintf("%s %s %q %q", l.Window, l.Metric, l.Agent, l.Model)
}

// toppedUp is the limit that was chosen, and by how much it is to grow.
func (d *doing) toppedUp() (tenant.LimitStatus, decimal.Decimal, error) {
	own, err := d.toppable()
	if err != nil {
		return tenant.LimitStatus{}, decimal.Decimal{}, err
	}
	i := slices.IndexFunc(own, func(l tenant.LimitStatus) bool { return limitKey(l) == d.sent.Get("limit") })
	if i < 0 {
		return tenant.LimitStatus{}, decimal.Decimal{}, bad("there is no such limit of this tenant any more")
	}
	by, err := decimal.NewFromString(plainNumber(d.sent.Get("sum")))
	whole := own[i].Metric != tenant.CostMetric
	if err != nil || !by.IsPositive() || whole && !by.IsInteger() {
		return own[i], by, bad("%q is no amount that a limit of %s can grow by", d.sent.Get("sum"), own[i].Metric)
	}
	if !whole && !isAmount(tenant.USDFrom(by)) || whole && !by.LessThan(decimal.New(1, 18)) {
		return own[i], by, bad("%q is too much, or too fine", d.sent.Get("sum"))
	}
	return own[i], by, nil
}
