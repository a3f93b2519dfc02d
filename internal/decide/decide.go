// Package decide is the heart of the ledger: the pure function that turns limits, balances and a batch of operations
// into outcomes and effects. It has no clock and does no I/O; the same input always gives the same answer.
package decide

import (
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/money"
)

// Kind is what an operation does.
type Kind uint8

// The kinds of operations.
const (
	Reserve Kind = iota // put a hold on the budgets
	Settle              // replace a hold by the actual usage
	Release             // drop a hold: the call was not made
	Expire              // end a hold that nobody settles any more
	Record              // book a call that was made elsewhere, without admission
	Correct             // book a correction of what an execution was charged, where that one is booked
)

// Op is one operation of a batch.
type Op struct {
	Kind Kind

	// Key is the tenant's current key, where the operation starts from it; else Exec.Tenant says which tenant it is.
	Key string

	// OwnerType and OwnerID, where set, must be those of the tenant that has the key.
	OwnerType, OwnerID string

	// Exec carries the identity of the execution, and what the operation knows of it: for a reserve, who calls which
	// model; for a settle, what was used, charged and reported.
	Exec book.Execution

	// Of a reserve: what the call costs and is charged without its output, the same of a million tokens of output, and how
	// many tokens of output make the call worth making and are asked for.
	Base                 book.Amount
	OutCost, OutCharge   int64
	MinOutput, MaxOutput int64

	// Patient says that whoever asks waits for room, if there may be some.
	Patient bool

	// Lifetime is how long a reserve's execution may run.
	Lifetime time.Duration

	// LastBeat is, for an expire, the heartbeat of the execution's process that no other has followed for as long as the
	// process's lease, as whoever asks has seen by a clock of its own; zero where that is not known.
	LastBeat time.Time
}

// ByKey reports whether the tenant is still to be found by its key. Once found, it stays the same: a key may move.
func (op *Op) ByKey() bool { return op.Key != "" && op.Exec.Tenant == book.NoTenant }

// Most returns what the call has to hold for all the output that it asks for.
func (op *Op) Most() book.Amount { return op.need(op.MaxOutput) }

// need returns what the call has to hold for this many tokens of output.
func (op *Op) need(output int64) book.Amount {
	return book.Amount{
		Cost:   money.Add(op.Base.Cost, money.Ceil(output, op.OutCost)),
		Charge: money.Add(op.Base.Charge, money.Ceil(output, op.OutCharge)),
		Tokens: money.Add(op.Base.Tokens, output),
		Calls:  1,
	}
}

// Code says how an operation ended.
type Code uint8

// The codes.
const (
	Unknown         Code = iota // no tenant has the key
	WrongOwner                  // the tenant that has the key belongs to another record, or to none
	Busy                        // the tenant, or one above it, is locked by somebody else
	Moved                       // the execution counts for tenants that this batch has not locked: those of Exec.Ancestors
	Suspended                   // the tenant may not spend
	Exceeded                    // a limit leaves no room, whatever becomes of the running calls
	Wait                        // a limit would leave room if running calls cost less than they hold
	NoPrice                     // a cost limit is enforced, and the model has no price
	Duplicate                   // the idempotency key is taken
	Granted                     // the hold stands
	Settled                     // the usage is booked
	Released                    // the hold is dropped
	Expired                     // the hold was charged
	Corrected                   // an expired hold was charged; now the usage is booked instead
	AlreadySettled              // nothing done
	AlreadyReleased             // nothing done
	Alive                       // nothing done: an execution that is not to expire
)

// Outcome is the answer to one operation.
type Outcome struct {
	Code   Code
	Exec   *book.Execution // as it stands now; of a duplicate, the one that has the key
	Output int64           // of a grant: the tokens of output that it covers

	// Of a refusal, a wait, or a grant that a soft limit would have refused: the tenant whose limit it is, which may be
	// one above the caller's, the limit, its balance at that moment, and the amount that was asked of it at least.
	Tenant    *book.Tenant // without its limits and balances
	Limit     *book.Limit
	Balance   *book.Balance
	Requested int64

	// Thresholds are those of limits that are met by what this operation has charged.
	Thresholds []*book.Threshold
}

// notReported is the cost that a provider stated where it stated none.
const notReported = -1

// Config is what the decision needs beside the state: how windows are cut where a tenant does not say.
type Config struct {
	Zone      func(name string) *time.Location // of a tenant's time zone; of "", the ledger's
	WeekStart time.Weekday

	// Thresholds are the per cent of a limit that are reported when they are used up.
	Thresholds []int64
}

func (b *batch) decide(op *Op) Outcome {
	a, code := b.account(op)
	if a == nil {
		return Outcome{Code: code}
	}
	op.Exec.Tenant = a.ID
	switch op.Kind {
	case Reserve:
		return b.reserve(a, op)
	case Settle:
		return b.settle(a, op)
	case Release:
		return b.release(a, op)
	case Expire:
		return b.expire(op)
	case Correct:
		return b.correct(op)
	default:
		return b.record(a, op)
	}
}

// account finds the tenant of an operation, or the reason why there is none to be had.
func (b *batch) account(op *Op) (*account, Code) {
	id := op.Exec.Tenant
	if op.ByKey() {
		var ok bool
		if id, ok = b.Keys[op.Key]; !ok {
			return nil, Unknown
		}
	}
	a := b.locked(id)
	switch {
	case a == nil && b.Busy[id]:
		return nil, Busy
	case a == nil:
		return nil, Unknown
	case op.OwnerType != "" && (a.OwnerType != op.OwnerType || a.OwnerID != op.OwnerID):
		return nil, WrongOwner
	}
	return a, Granted
}

func (b *batch) reserve(a *account, op *Op) Outcome {
	chain := b.chain(a)
	b.ask(chain, op, -1)
	if out, done := b.answered(op); done {
		return out
	}
	if chain == nil {
		return Outcome{Code: Busy}
	}
	for _, a := range chain {
		if a.Suspended || a.Deleted {
			return Outcome{Code: Suspended, Tenant: named(a.Tenant)}
		}
	}
	now := b.open(chain)

	out := b.admit(chain, op)
	switch out.Code {
	case Exceeded, NoPrice:
		b.refusals(chain, op, now)
		return out
	case Wait:
		return out
	}
	e := op.Exec
	e.TenantKey, e.Ancestors, e.Status, e.AdmittedAt = a.Key, ancestors(chain), book.Running, now
	e.DeadlineAt = e.AdmittedAt.Add(op.Lifetime)
	e.Held, e.Reported = op.need(out.Output), notReported
	b.add(&e)
	apply(chain, &e, func(balance *book.Balance) { balance.Held = balance.Held.Plus(e.Held) })
	out.Exec = &e
	return out
}

// admit weighs a reserve against every limit that covers it, of its tenant and of those above. A limit that can never be
// met outranks one that may be. Who needs nothing of a metric is held to none of its limits, but those that are zero: they
// allow no call at all.
func (b *batch) admit(chain []*account, op *Op) Outcome {
	out := Outcome{Code: Granted, Output: op.MaxOutput}
	least := op.need(op.MinOutput)
	var blocked []*line
	for _, a := range chain {
		enforcement := Enforcement(a.Tenant, &b.Defaults)
		if enforcement == book.None {
			continue
		}
		hard := enforcement == book.Hard
		lines := b.lines(a)
		for i := range lines {
			l := &lines[i]
			if !l.covers(op) {
				continue
			}
			if l.Metric == book.Cost && op.Exec.Unpriced {
				if hard {
					limit := l.Limit
					return Outcome{Code: NoPrice, Tenant: named(a.Tenant), Limit: &limit}
				}
				continue
			}
			balance, need := a.Balance(l.Scope), l.Of(least)
			unspent := money.Sub(l.Max, l.Of(balance.Spent))
			room := money.Sub(unspent, l.Of(balance.Held))
			switch {
			case need == 0 && l.Max != 0:
				// Nothing is in the way of who takes nothing, and more output takes what nobody is waiting for.
				if l.waiting > 0 {
					room = 0
				}
				if hard && out.Code == Granted {
					out.Output = min(out.Output, op.fits(&l.Limit, room, l.asking))
				}
			case !hard:
				if (need > room || l.Max == 0) && out.Limit == nil {
					out = met(a, l, need, Outcome{Code: out.Code, Output: out.Output})
				}
			case need > unspent, l.Max == 0:
				return met(a, l, need, Outcome{Code: Exceeded})
			case need > room || l.waiting > 0:
				if out.Code != Wait {
					out = met(a, l, need, Outcome{Code: Wait})
				}
				blocked = append(blocked, l)
			case out.Code == Granted:
				out.Output = min(out.Output, op.fits(&l.Limit, room, l.asking))
			}
		}
	}
	if op.Patient { // who does not wait stands in nobody's way
		for _, l := range blocked {
			l.waiting++
		}
	}
	return out
}

// met says in an outcome which limit it met, with its balance as it is now.
func met(a *account, l *line, need int64, out Outcome) Outcome {
	balance, limit := *a.Balance(l.Scope), l.Limit
	out.Tenant, out.Limit, out.Balance, out.Requested = named(a.Tenant), &limit, &balance, need
	return out
}

// fits returns how many tokens of output the room of a limit pays for. While others are behind it, an operation takes
// no more than its share beyond its least.
func (op *Op) fits(l *book.Limit, room int64, behind int) int64 {
	share := room / int64(behind+1)
	output := op.MaxOutput
	switch l.Metric {
	case book.Cost:
		rate := op.OutCharge
		if l.AtCost {
			rate = op.OutCost
		}
		// At least nothing: output that is free is not shortened for a share that the input alone exceeds.
		output = money.Units(max(money.Sub(share, l.Of(op.Base)), 0), rate)
	case book.Tokens:
		output = money.Sub(share, op.Base.Tokens)
	}
	return max(output, op.MinOutput)
}

// answered gives the answer that there is already: to a retry of what was committed, and to a second use of an
// idempotency key.
func (b *batch) answered(op *Op) (Outcome, bool) {
	if e := b.execution(op); e != nil {
		switch e.Status {
		case book.Running:
			return Outcome{Code: Granted, Exec: e, Output: money.Sub(e.Held.Tokens, op.Base.Tokens)}, true
		case book.Cancelled:
			return Outcome{Code: AlreadyReleased, Exec: e}, true
		default:
			return Outcome{Code: AlreadySettled, Exec: e}, true
		}
	}
	if e := b.Idempotent[idempotency(&op.Exec)]; e != nil && op.Exec.IdempotencyKey != "" {
		return Outcome{Code: Duplicate, Exec: e}, true
	}
	return Outcome{}, false
}

func (b *batch) settle(a *account, op *Op) Outcome {
	e := b.execution(op)
	if e == nil {
		// A hold is given out after its commit, so its row is gone: a failover to a replica that never got it. The call
		// was made all the same, and is booked.
		lost := op.Exec
		if a.Deleted && a.Key == "" {
			// But for a tenant that was erased: its abandoned calls are among its sums, and nothing names it again.
			return Outcome{Code: AlreadySettled, Exec: &lost}
		}
		if b.Idempotent[idempotency(&lost)] != nil {
			lost.IdempotencyKey = "" // another call has taken it since
		}
		return b.book(a, &lost)
	}
	switch {
	case e.Status == book.Cancelled:
		return Outcome{Code: AlreadyReleased, Exec: e}
	case e.Status != book.Running && (e.Status != book.Abandoned || !e.SettledAt.IsZero()):
		return Outcome{Code: AlreadySettled, Exec: e}
	}
	counting := b.counting(e)
	if counting == nil {
		return Outcome{Code: Moved, Exec: e}
	}
	b.touch(e)
	if e.Status == book.Running {
		b.conclude(e, &op.Exec)
		apply(counting, e, func(balance *book.Balance) {
			balance.Held = balance.Held.Minus(e.Held)
			balance.Spent = balance.Spent.Plus(e.Charged)
		})
		b.count(e, 1)
		if e.Status == book.Failed {
			b.free(e)
		}
		return Outcome{Code: Settled, Exec: e, Thresholds: b.thresholds(counting, e)}
	}
	was := *e
	b.count(&was, -1)
	b.conclude(e, &op.Exec)
	e.Status, e.FinishedAt = was.Status, was.FinishedAt
	apply(counting, e, func(balance *book.Balance) {
		balance.Spent = balance.Spent.Plus(e.Charged.Minus(was.Charged))
	})
	b.count(e, 1)
	return Outcome{Code: Corrected, Exec: e, Thresholds: b.thresholds(counting, e)}
}

// conclude takes over what a settle knows of how the call ended.
func (b *batch) conclude(e, actual *book.Execution) {
	e.Status, e.FinishedAt, e.SettledAt = actual.Status, b.Now, b.Now
	if actual.Provider != "" {
		e.Provider = actual.Provider
	}
	e.BilledModel, e.RequestID, e.ErrorCode = actual.BilledModel, actual.RequestID, actual.ErrorCode
	e.Charged, e.Reported, e.Usage = actual.Charged, actual.Reported, actual.Usage
	e.Estimated, e.Unpriced = actual.Estimated, actual.Unpriced
	e.Price, e.ServiceTier, e.Latency = actual.Price, actual.ServiceTier, actual.Latency
	over := e.Charged.Minus(e.Held)
	e.Overrun = book.Amount{Cost: max(over.Cost, 0), Charge: max(over.Charge, 0), Tokens: max(over.Tokens, 0)}
}

func (b *batch) release(a *account, op *Op) Outcome {
	e := b.execution(op)
	if e == nil {
		// Whoever asked does not know whether the hold was committed. This row keeps a late one from being.
		tombstone := op.Exec
		tombstone.TenantKey, tombstone.Ancestors, tombstone.Status = a.Key, nil, book.Cancelled
		tombstone.AdmittedAt = Time(a.Tenant, b.Now)
		tombstone.DeadlineAt, tombstone.FinishedAt = tombstone.AdmittedAt, b.Now
		tombstone.Held, tombstone.Reported = book.Amount{}, notReported
		b.add(&tombstone)
		return Outcome{Code: Released, Exec: &tombstone}
	}
	switch e.Status {
	case book.Running:
		counting := b.counting(e)
		if counting == nil {
			return Outcome{Code: Moved, Exec: e}
		}
		b.touch(e)
		e.Status, e.FinishedAt = book.Cancelled, b.Now
		b.free(e)
		apply(counting, e, func(balance *book.Balance) { balance.Held = balance.Held.Minus(e.Held) })
		return Outcome{Code: Released, Exec: e}
	case book.Cancelled:
		return Outcome{Code: AlreadyReleased, Exec: e}
	default:
		return Outcome{Code: AlreadySettled, Exec: e}
	}
}

func (b *batch) expire(op *Op) Outcome {
	e := b.execution(op)
	if e == nil || e.Status != book.Running {
		return Outcome{Code: Alive, Exec: e}
	}
	// No time is compared with that of a heartbeat: the database's clock may have gone back or forward since.
	if beat := b.Processes[e.Process].BeatAt; b.Now.Before(e.DeadlineAt) && !beat.IsZero() && !beat.Equal(op.LastBeat) {
		return Outcome{Code: Alive, Exec: e}
	}
	counting := b.counting(e)
	if counting == nil {
		return Outcome{Code: Moved, Exec: e}
	}
	b.touch(e)
	e.Status, e.FinishedAt = book.Abandoned, b.Now
	e.Charged, e.Estimated = e.Held, true
	apply(counting, e, func(balance *book.Balance) {
		balance.Held = balance.Held.Minus(e.Held)
		balance.Spent = balance.Spent.Plus(e.Charged)
	})
	b.count(e, 1)
	return Outcome{Code: Expired, Exec: e, Thresholds: b.thresholds(counting, e)}
}

func (b *batch) record(a *account, op *Op) Outcome {
	if out, done := b.answered(op); done {
		return out
	}
	e := op.Exec
	return b.book(a, &e)
}

// correct books a correction. It has the admission time, the agent, the model and the parents of what it corrects, and so
// counts wherever that one counts: in those of its windows that are still open, in its hour, and for those who stood above
// its tenant then.
func (b *batch) correct(op *Op) Outcome {
	if out, done := b.answered(op); done {
		return out
	}
	e := op.Exec
	counting := b.counting(&e)
	if counting == nil {
		return Outcome{Code: Busy}
	}
	e.Status, e.DeadlineAt, e.Held = book.Adjusted, e.AdmittedAt, book.Amount{}
	b.conclude(&e, &e)
	e.Overrun = book.Amount{}
	b.add(&e)
	apply(counting, &e, func(balance *book.Balance) { balance.Spent = balance.Spent.Plus(e.Charged) })
	b.count(&e, 1)
	return Outcome{Code: Settled, Exec: &e, Thresholds: b.thresholds(counting, &e)}
}

// book enters a finished execution that holds nothing.
func (b *batch) book(a *account, e *book.Execution) Outcome {
	chain := b.chain(a)
	if chain == nil {
		return Outcome{Code: Busy}
	}
	// No window holds a time that is still to come: the clock went back since.
	if now := b.open(chain); e.AdmittedAt.IsZero() || e.AdmittedAt.After(now) {
		e.AdmittedAt = now
	}
	e.TenantKey, e.Ancestors, e.DeadlineAt = a.Key, ancestors(chain), e.AdmittedAt
	e.Held = book.Amount{}
	finished, settled := e.FinishedAt, e.SettledAt
	b.conclude(e, e)
	if !finished.IsZero() && !finished.Before(e.AdmittedAt) && finished.Before(b.Now) {
		e.FinishedAt, e.SettledAt = finished, settled // one that was imported was over before
	}
	e.Overrun = book.Amount{}
	b.add(e)
	apply(chain, e, func(balance *book.Balance) { balance.Spent = balance.Spent.Plus(e.Charged) })
	b.count(e, 1)
	return Outcome{Code: Settled, Exec: e, Thresholds: b.thresholds(chain, e)}
}
