package tenant

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/callctx"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/lane"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/text"
	"github.com/llmtenant/tenant/units"
)

const (
	// Above these, a figure cannot be true: nothing is held or charged by it.
	maxPlausibleTokens = 1 << 40
	maxPlausibleCost   = 1_000_000 * money.Nano

	// leastOutput is the output that makes a call worth making, where its estimate does not say.
	leastOutput = 256
)

// Estimate is what a call is going to use, at most. The ledger grants as much of its output as the budgets have room
// for, and no less than LeastOutputTokens.
type Estimate struct {
	// Provider and Model are those that the call asks for, as the price book names them.
	Provider, Model string

	// InputTokens bounds the call's input. For a request whose whole input is in its own text, its bytes and 1,024 for
	// what providers add to it do.
	InputTokens int64

	// InputMediaTokens are those of the InputTokens that can be audio, images or video. They are held at the model's dearest
	// rate for any of these, the others at that of text.
	InputMediaTokens int64

	// LongCache: the call asks for a cache that lives longer than the usual one, which costs more to write (Anthropic's of
	// one hour). Otherwise the input is held as what the usual one costs, where writing to it costs anything.
	LongCache bool

	// OutputTokens is the most output that the call may produce, of all its choices together.
	OutputTokens int64

	// LeastOutputTokens is the output without which the call is not worth making. Defaults to 256, or to OutputTokens
	// where that is less.
	LeastOutputTokens int64

	// Units bound what else the call is charged for, as in [Usage]. What is not said of a unit, such as the size of an image,
	// is held at the dearest.
	Units units.Counts

	// ServiceTier is the tier that the call asks for, as in [Price.ForService]. Empty: the standard one.
	ServiceTier string

	// Cost, where set, bounds the cost of the whole call in US dollars, and no price of the model is needed.
	Cost Money

	// Charge, where set, bounds what the tenant is charged for the whole call in US dollars. Otherwise its terms make it of the
	// cost.
	Charge Money

	// Operation says what the call is for in the words of OpenTelemetry's conventions, such as "chat", "embeddings" and
	// "text_completion", for an [Observer]. It is not stored. Defaults to "chat".
	Operation string
}

// Hold is a call that was admitted: its tenant's budgets keep room for it until it is settled or released.
type Hold struct {
	ExecutionID string
	TenantID    string // empty for a call without a tenant

	// OutputTokens is the output that the hold covers. A call that can produce more may cost more than is held.
	OutputTokens int64

	// Cost, Charge and Tokens are what is held: what the provider bills and what the tenant is charged at most, in US dollars,
	// and tokens.
	Cost, Charge decimal.Decimal
	Tokens       int64

	// Deadline is when the hold ends, by the database's clock, if it is neither settled nor released; it is charged then.
	// An unbooked hold has none.
	Deadline time.Time

	// Unbooked: the database could not be reached, and the call was admitted all the same (see
	// [WithAdmitWhenUnavailable]). No budget was asked, and none keeps room for the call: the other fields are what it
	// asked for at most. Settle and Release must follow as ever; only Settle brings the call on the books.
	Unbooked bool

	ledger *Ledger
	exec   *book.Execution // as it was admitted; never changed
	fixed  bool            // the estimate named the cost, so there is no price to charge by
	began  time.Time       // when it was given out, by this process; zero where another one has
	waited time.Duration   // how long its admission took; likewise

	operation string // see Estimate.Operation; empty where this process has not admitted the call

	usage    Usage         // once it is settling; guarded by the ledger
	took     time.Duration // how long the call took, once it is settling; guarded by the ledger
	settling bool
	carrier  *lane.Task // the last that brings its end to the books; guarded by the ledger
	inside   bool       // it has entered the ledger with its end, and leaves it where that is refused
	obstacle error      // what keeps its end from a lane, nil where nothing does; guarded by the ledger

	// Of an unbooked hold, as which a record goes to the books too.
	who  identity
	task *lane.Task    // the last on the execution, nil where none was handed in; belongs to the end that has its turn
	last chan struct{} // closed when the last of the hold's ends is over; guarded by the ledger
}

// Reserve admits a call: it puts a hold on every budget that the call counts against, all or none, and returns when the
// hold is committed. Settle or Release must follow. A nil Tenant is a call without a tenant: it is recorded, and no
// limit counts it.
//
// Where running calls hold room that they may not use, Reserve waits its turn, first in, first out within a process; see
// [WithWait]. Several processes share such room in turns of some seconds.
//
// Errors: [*BudgetExceededError], [*NoPriceError], [*DuplicateError], [ErrTenantSuspended], [*UnknownTenantError], [ErrInvalidTenant],
// [ErrInvalidOption], [ErrNotMigrated], [ErrUnavailable], [ErrClosed], and ctx's own. None of them leaves a hold.
func (l *Ledger) Reserve(ctx context.Context, t Tenant, e Estimate, options ...ReserveOption) (*Hold, error) {
	o := newCallOptions()
	h, err := l.reserveFor(ctx, t, e, &o, options)
	if err != nil {
		return nil, l.notAdmitted(ctx, t, HostErrorEvent{Agent: o.agent, Provider: e.Provider, Model: e.Model, Err: err})
	}
	return h, nil
}

func (l *Ledger) reserveFor(ctx context.Context, t Tenant, e Estimate, o *callOptions, options []ReserveOption) (*Hold, error) {
	if err := applyAll(o, "Reserve", options); err != nil {
		return nil, err
	}
	who, err := l.identify(t)
	if err != nil {
		return nil, err
	}
	return l.reserve(ctx, who, e, o)
}

func (l *Ledger) reserve(ctx context.Context, who identity, e Estimate, o *callOptions) (*Hold, error) {
	a := asking{who: who, began: time.Now(), operation: cmp.Or(e.Operation, chatOperation)}
	op := &a.op
	if err := l.estimate(op, who.Key, e); err != nil {
		return nil, err
	}
	op.Kind, op.Patient, op.Lifetime = decide.Reserve, o.wait > 0, l.options.callTime
	if err := l.describe(ctx, op, who, o); err != nil {
		return nil, err
	}
	err := ctx.Err()
	if err == nil {
		err = l.enter()
	}
	if err != nil {
		l.observeFailure(ctx, &a, err)
		return nil, err
	}
	out, err := l.admit(ctx, &a, o.wait)
	switch {
	case err == nil:
	case l.admitsAfter(ctx, err):
		l.outages.admitted(err)
		out = decide.Outcome{Exec: a.unbooked(), Output: op.MaxOutput}
	default:
		l.giveUp(&a, err)
		l.leave(nil)
		l.observeFailure(ctx, &a, err)
		return nil, err
	}
	h := &Hold{
		ExecutionID: out.Exec.ID.String(), TenantID: out.Exec.TenantKey,
		OutputTokens: out.Output, Tokens: out.Exec.Held.Tokens,
		Deadline: out.Exec.DeadlineAt, Unbooked: err != nil,
		ledger: l, exec: out.Exec, began: time.Now(), fixed: e.Cost.set, operation: a.operation,
	}
	h.Cost, h.Charge = money.Decimals(out.Exec.Held.Cost, out.Exec.Held.Charge)
	h.waited = h.began.Sub(a.began)
	if h.Unbooked {
		h.who, h.task = a.who, a.task
	}
	l.mu.Lock()
	l.open[h.exec.ID] = h
	l.mu.Unlock()
	if l.options.told {
		l.observe(ctx, l.admittedEvent(h))
	}
	return h, nil
}

// estimate enters into an operation what a reserve holds for an estimate.
func (l *Ledger) estimate(op *decide.Op, tenantID string, e Estimate) error {
	if e.LeastOutputTokens == 0 {
		e.LeastOutputTokens = min(leastOutput, e.OutputTokens)
	}
	for _, f := range []struct {
		name  string
		value int64
	}{{"InputTokens", e.InputTokens}, {"InputMediaTokens", e.InputMediaTokens}, {"OutputTokens", e.OutputTokens}, {"LeastOutputTokens", e.LeastOutputTokens}} {
		if f.value < 0 || f.value > maxPlausibleTokens {
			return fmt.Errorf("%w: Estimate.%s: %d is not between 0 and 2^40", ErrInvalidOption, f.name, f.value)
		}
	}
	if e.InputMediaTokens > e.InputTokens {
		return fmt.Errorf("%w: Estimate.InputMediaTokens: %d is more than the InputTokens, %d", ErrInvalidOption, e.InputMediaTokens, e.InputTokens)
	}
	if e.LeastOutputTokens > e.OutputTokens {
		return fmt.Errorf("%w: Estimate.LeastOutputTokens: %d is more than the OutputTokens, %d", ErrInvalidOption, e.LeastOutputTokens, e.OutputTokens)
	}
	for unit, n := range e.Units.All() {
		if n < 0 || n > maxPlausibleTokens {
			return fmt.Errorf("%w: Estimate.Units: %d of %s is not between 0 and 2^40", ErrInvalidOption, n, unit)
		}
	}
	if err := text.Valid(ErrInvalidOption, "Estimate.Operation", e.Operation, false); err != nil {
		return err
	}
	for _, m := range []struct {
		name string
		Money
	}{{"Cost", e.Cost}, {"Charge", e.Charge}} {
		if m.err != nil {
			return fmt.Errorf("%w: Estimate.%s: %w", ErrInvalidOption, m.name, m.err)
		}
	}
	op.Base = book.Amount{Tokens: e.InputTokens, Calls: 1}
	op.MinOutput, op.MaxOutput = e.LeastOutputTokens, e.OutputTokens
	op.Exec.Provider, op.Exec.Model = e.Provider, e.Model
	price, ok := l.price(tenantID, e.Provider, e.Model, l.options.clock())
	price = price.ForService(e.ServiceTier)
	switch {
	case ok:
		op.Base.Cost, op.OutCost = price.costBound(e)
		op.Base.Charge, op.OutCharge = price.chargeBound(e)
		op.Exec.Unpriced = !price.prices(money.Add(e.InputTokens, e.OutputTokens), e.Units)
	default:
		op.Exec.Unpriced = !e.Cost.set
	}
	if e.Cost.set {
		op.Base.Cost, op.OutCost, op.Exec.Unpriced = e.Cost.nano, 0, false
		if price.OwnKey {
			op.Base.Cost = 0
		}
		if price.Negotiated == nil {
			op.Base.Charge, op.OutCharge = price.shareOf(e.Cost.nano), 0
		}
	}
	if e.Charge.set {
		op.Base.Charge, op.OutCharge = e.Charge.nano, 0
	}
	if most := op.Most(); max(most.Cost, most.Charge) > maxPlausibleCost {
		return fmt.Errorf("%w: Estimate: one call of up to %s is above %s, which cannot be meant",
			ErrInvalidOption, money.Format(max(most.Cost, most.Charge)), money.Format(maxPlausibleCost))
	}
	return nil
}

// price looks up what a model costs a tenant at a time.
func (l *Ledger) price(tenantID, provider, model string, at time.Time) (Price, bool) {
	if l.options.prices == nil || model == "" && provider == "" { // a provider's stated cost may be believed, whatever the model
		return Price{}, false
	}
	if terms, ok := l.options.prices.(TenantPrices); ok && tenantID != "" {
		return terms.TenantPrice(tenantID, provider, model, at)
	}
	return l.options.prices.Price(provider, model, at)
}

// pricesAsOf is the day of the price book, zero where it does not say.
func (l *Ledger) pricesAsOf() time.Time {
	if dated, ok := l.options.prices.(DatedPrices); ok {
		return dated.AsOf()
	}
	return time.Time{}
}

// describe gives an operation its tenant and its execution.
func (l *Ledger) describe(ctx context.Context, op *decide.Op, who identity, o *callOptions) error {
	tags, err := o.tagJSON()
	if err != nil {
		return fmt.Errorf("%w: WithTag: %w", ErrInvalidOption, err)
	}
	op.Key, op.OwnerType, op.OwnerID = who.Key, who.OwnerType, who.OwnerID
	e := &op.Exec
	e.ID, e.Process, e.TenantKey, e.Reported = book.NewID(), l.lanes.ID(), who.Key, -1
	e.Agent, e.IdempotencyKey, e.Tags, e.Actor = o.agent, o.idempotency, tags, callctx.Actor(ctx)
	for _, f := range []struct{ what, value string }{
		{"provider", e.Provider}, {"model", e.Model}, {"actor in ContextWithActor", e.Actor},
	} {
		if err := text.Valid(ErrInvalidOption, f.what, f.value, false); err != nil {
			return err
		}
	}
	return nil
}

// maxFirstUses is how often an operation finds that its tenant is not there, or is somebody else, and tries to mend it.
const maxFirstUses = 3

// maxMoves is how often it finds that its tenant was moved to another place meanwhile, and follows.
const maxMoves = 100

// asking is a reserve or a record on its way: whose it is, and the last task that carries it.
type asking struct {
	who  identity
	op   decide.Op
	task *lane.Task

	operation string    // see Estimate.Operation
	began     time.Time // of the asking
}

// admit brings an operation to a lane, and sees to it that its tenant exists.
func (l *Ledger) admit(ctx context.Context, a *asking, wait time.Duration) (decide.Outcome, error) {
	if err := l.start(ctx, &a.op); err != nil {
		return decide.Outcome{}, err
	}
	for attempt, moves := 0, 0; ; {
		a.task = l.lanes.Submit(a.op, a.who.Key)
		if err := l.await(ctx, a.task, &a.op, wait); err != nil {
			if errors.Is(err, ErrBudgetExceeded) {
				l.observeRefusal(ctx, a, err)
			}
			return decide.Outcome{}, err
		}
		out, err := a.task.Outcome()
		if err != nil {
			return out, l.explain(err)
		}
		l.outages.over()
		if (out.Code == decide.Unknown || out.Code == decide.WrongOwner) && !a.who.none() && attempt < maxFirstUses {
			moved, err := l.moved(ctx, &a.op, a.who, a.task)
			if err != nil {
				return out, err
			}
			if moved && moves < maxMoves {
				moves++
				continue
			}
			attempt++
			who, err := l.firstUse(ctx, a.who)
			if err != nil {
				return out, err
			}
			a.who, a.op.Key, a.op.OwnerType, a.op.OwnerID = who, who.Key, who.OwnerType, who.OwnerID
			continue
		}
		if err = l.refusal(&a.op, &out); out.Code == decide.Exceeded || out.Code == decide.Wait || out.Code == decide.NoPrice || out.Code == decide.Suspended {
			l.observeRefusal(ctx, a, err)
		}
		return out, err
	}
}

// patience is how long the first decision on a call is waited for.
const patience = 3 * time.Second

// await waits until a task is decided, and takes it back when there is no more time to.
func (l *Ledger) await(ctx context.Context, task *lane.Task, op *decide.Op, wait time.Duration) error {
	start := time.Now()
	timer := l.timers.Start(wait)
	defer l.timers.Stop(timer)
	var silent *time.Timer
	var silence <-chan time.Time
	if l.options.admitWhenUnavailable && op.Kind == decide.Reserve {
		silent = time.NewTimer(l.outages.patience())
		defer silent.Stop()
		silence = silent.C
	}
	var why error
	for why == nil {
		select {
		case <-task.Done():
			return nil
		case <-ctx.Done():
			why = ctx.Err()
		case <-l.closing:
			why = ErrClosed
		case <-timer.C:
			if task.Hindrance() == nil && time.Since(start) < patience {
				timer.Reset(patience)
				continue
			}
			why = errWaited
		case <-silence:
			switch waited := time.Since(start); {
			case waited >= l.outages.patience() && l.away(task.Hindrance()):
				why = errWaited
			case waited < patience:
				silent.Reset(patience - waited)
			}
		}
	}
	h := task.Hindrance()
	takeBack := task.Withdraw
	if op.Kind == decide.Reserve && errors.Is(why, errWaited) && l.away(h) {
		takeBack = task.Leave // see giveUp
	}
	if !takeBack() {
		<-task.Done()
		return nil
	}
	switch {
	case errors.Is(why, ErrClosed):
		return ErrClosed
	case h == nil && errors.Is(why, errWaited) && !l.dialect.LocksRows:
		return l.crowded(fmt.Errorf("%w: no answer in %v; the database has one writer, so a call made inside the host's own write "+
			"transaction must be made after its commit", ErrUnavailable, time.Since(start).Round(100*time.Millisecond)))
	case h == nil && errors.Is(why, errWaited):
		return fault.NotAvailable(l.crowded(fmt.Errorf("no answer in %v", time.Since(start).Round(time.Millisecond))), l.away(h))
	case h == nil && errors.Is(why, context.DeadlineExceeded):
		return l.crowded(why)
	case h == nil:
		return why
	}
	var because error
	switch {
	case h.Err != nil:
		because = fault.NotAvailable(h.Err, l.away(h) && errors.Is(why, errWaited))
	case h.Outcome.Code == decide.Busy:
		because = fmt.Errorf("%w: %w", ErrUnavailable, lockedError(op.Key))
	default:
		because = exceeded(op, &h.Outcome)
	}
	if errors.Is(why, errWaited) {
		return because
	}
	return fmt.Errorf("%w: while waiting: %w", why, because)
}

var errWaited = errors.New("waited long enough")

// refusal is the error of an outcome that is no grant.
func (l *Ledger) refusal(op *decide.Op, out *decide.Outcome) error {
	switch out.Code {
	case decide.Granted, decide.Settled:
		return nil
	case decide.Unknown:
		return fmt.Errorf("%w: tenant %q was deleted, or its key is changing", ErrInvalidTenant, op.Key)
	case decide.WrongOwner:
		return fmt.Errorf("%w: %q", ErrIdentityConflict, op.Key)
	case decide.Suspended:
		switch {
		case out.Tenant != nil && out.Tenant.Key == "":
			return fmt.Errorf("%w: one that is gone, above %q: give that another parent, or none, by ConfigureBudget", ErrTenantSuspended, op.Key)
		case out.Tenant != nil && out.Tenant.Key != op.Key:
			return fmt.Errorf("%w: %q, above %q", ErrTenantSuspended, out.Tenant.Key, op.Key)
		}
		return fmt.Errorf("%w: %q", ErrTenantSuspended, op.Key)
	case decide.Exceeded, decide.Wait:
		return exceeded(op, out)
	case decide.NoPrice:
		return &NoPriceError{TenantID: op.Key, Provider: op.Exec.Provider, Model: op.Exec.Model, PricesAsOf: l.pricesAsOf()}
	case decide.Duplicate:
		return &DuplicateError{
			IdempotencyKey: op.Exec.IdempotencyKey, ExecutionID: out.Exec.ID.String(),
			Status: string(out.Exec.Status), Cost: money.Decimal(out.Exec.Charged.Cost), Charge: money.Decimal(out.Exec.Charged.Charge),
		}
	}
	return fmt.Errorf("%w: the database took so long that the hold had ended before it was given out", ErrUnavailable)
}

func exceeded(op *decide.Op, out *decide.Outcome) error {
	status := limitStatus(out.Tenant, out.Limit, out.Balance)
	return &BudgetExceededError{
		TenantID: op.Key, Limit: status, Requested: status.Metric.decimal(out.Requested),
		Contended: out.Code == decide.Wait, ResetsAt: status.ResetsAt,
	}
}
