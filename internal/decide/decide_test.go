package decide_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/period"
)

// ask is a reserve of a fixed cost, by agent "a" to model "m".
func ask(n int, cost int64) *decide.Op {
	return &decide.Op{
		Kind: decide.Reserve, Patient: true, Lifetime: time.Hour, Base: book.Amount{Cost: cost, Tokens: 1},
		Exec: book.Execution{Tenant: acme, ID: id(n), Agent: "a", Model: "m"},
	}
}

// impatient is ask by somebody who does not wait.
func impatient(n int, cost int64) *decide.Op {
	op := ask(n, cost)
	op.Patient = false
	return op
}

// asks is ask for another agent.
func asks(agent string, n int, cost int64) *decide.Op {
	op := ask(n, cost)
	op.Exec.Agent = agent
	return op
}

// flexible is a reserve whose output costs one nano-dollar a token.
func flexible(n int, cost, least, most int64) *decide.Op {
	op := ask(n, cost)
	op.OutCost, op.MinOutput, op.MaxOutput = 1_000_000, least, most
	return op
}

func settle(n int, cost int64) *decide.Op {
	return &decide.Op{Kind: decide.Settle, Exec: book.Execution{
		Tenant: acme, ID: id(n), Agent: "a", Model: "m", BilledModel: "m-1", Status: book.Succeeded, Reported: -1,
		Charged: book.Amount{Cost: cost, Tokens: 1, Calls: 1}, Usage: book.Usage{Input: 1},
	}}
}

func failed(n int, cost int64) *decide.Op {
	op := settle(n, cost)
	op.Exec.Status, op.Exec.ErrorCode = book.Failed, "timeout"
	return op
}

func release(n int) *decide.Op { return bare(decide.Release, n) }
func expire(n int) *decide.Op  { return bare(decide.Expire, n) }

func bare(kind decide.Kind, n int) *decide.Op {
	return &decide.Op{Kind: kind, Exec: book.Execution{Tenant: acme, ID: id(n)}}
}

func record(n int, cost int64) *decide.Op {
	op := settle(n, cost)
	op.Kind = decide.Record
	return op
}

func with(op *decide.Op, change func(*decide.Op)) *decide.Op {
	change(op)
	return op
}

func idempotent(key string, op *decide.Op) *decide.Op {
	return with(op, func(op *decide.Op) { op.Exec.IdempotencyKey = key })
}

func unpriced(op *decide.Op) *decide.Op {
	return with(op, func(op *decide.Op) { op.Exec.Unpriced = true })
}

var (
	day   = book.Scope{Window: period.Day}
	month = book.Scope{Window: period.Month}
	dayA  = book.Scope{Window: period.Day, Agent: "a"}
	dayM  = book.Scope{Window: period.Day, Model: "m"}
)

func costs(s book.Scope, most int64) book.Limit {
	return book.Limit{Scope: s, Metric: book.Cost, Max: most}
}
func tokens(s book.Scope, most int64) book.Limit {
	return book.Limit{Scope: s, Metric: book.Tokens, Max: most}
}
func calls(s book.Scope, most int64) book.Limit {
	return book.Limit{Scope: s, Metric: book.Calls, Max: most}
}

func TestReserve_NamedRules(t *testing.T) {
	t.Parallel()

	type limits = []book.Limit
	type ops = []*decide.Op
	type want = []decide.Code
	const granted, wait, exceeded, noPrice = decide.Granted, decide.Wait, decide.Exceeded, decide.NoPrice

	for _, c := range []struct {
		rule        string
		enforcement book.Enforcement
		limits      limits
		spent, held int64 // by a call of agent "a" to model "m", of one token each
		ops         ops
		want        want
	}{
		{"absent is no limit", book.Hard, nil, 0, 0, ops{ask(1, money.Max)}, want{granted}},
		{"a cost limit of zero allows nothing", book.Hard, limits{costs(day, 0)}, 0, 0, ops{ask(1, 1)}, want{exceeded}},
		{"a cost limit of zero allows not even what is free", book.Hard, limits{costs(day, 0)}, 0, 0, ops{ask(1, 0)}, want{exceeded}},
		{"a token limit of zero allows nothing", book.Hard, limits{tokens(day, 0)}, 0, 0, ops{ask(1, 0)}, want{exceeded}},
		{"a call limit of zero allows nothing", book.Hard, limits{calls(day, 0)}, 0, 0, ops{ask(1, 0)}, want{exceeded}},
		{"a limit on another window, agent or model does not count", book.Hard, limits{
			costs(book.Scope{Window: period.Day, Agent: "b"}, 0), costs(book.Scope{Window: period.Month, Model: "n"}, 0),
			costs(book.Scope{Window: period.Total, Agent: "a", Model: "n"}, 0),
		}, 0, 0, ops{ask(1, 1)}, want{granted}},

		{"what fits exactly is granted", book.Hard, limits{costs(day, 100)}, 40, 30, ops{ask(1, 30)}, want{granted}},
		{"one nano more than is free waits", book.Hard, limits{costs(day, 100)}, 40, 30, ops{ask(1, 31)}, want{wait}},
		{"all that is unspent may still come free", book.Hard, limits{costs(day, 100)}, 40, 30, ops{ask(1, 60)}, want{wait}},
		{"one nano more than is unspent is exceeded", book.Hard, limits{costs(day, 100)}, 40, 30, ops{ask(1, 61)}, want{exceeded}},
		{"exactly fits counts each grant before it", book.Hard, limits{costs(day, 100)}, 0, 0, ops{ask(1, 60), ask(2, 40), ask(3, 1)}, want{granted, granted, wait}},
		{"tokens are held alike", book.Hard, limits{tokens(day, 3)}, 1, 1, ops{ask(1, 0), ask(2, 0)}, want{granted, wait}},
		{"tokens are spent alike", book.Hard, limits{tokens(day, 1)}, 1, 0, ops{ask(1, 0)}, want{exceeded}},
		{"calls are held alike", book.Hard, limits{calls(day, 3)}, 1, 1, ops{ask(1, 0), ask(2, 0)}, want{granted, wait}},
		{"calls are spent alike", book.Hard, limits{calls(day, 1)}, 1, 0, ops{ask(1, 0)}, want{exceeded}},
		{"each scope is held to its own limit", book.Hard, limits{costs(day, 1000), costs(month, 1000), costs(dayA, 1000), costs(dayM, 100)}, 60, 0, ops{ask(1, 40), ask(2, 1)}, want{granted, wait}},
		{"a limit cut below what is spent allows nothing", book.Hard, limits{costs(day, 39)}, 40, 0, ops{ask(1, 1)}, want{exceeded}},
		{"a limit cut below what is held allows nothing for now", book.Hard, limits{costs(day, 39)}, 0, 40, ops{ask(1, 1), ask(2, 39), ask(3, 40)}, want{wait, wait, exceeded}},

		{"exceeded at once, even when others wait", book.Hard, limits{costs(day, 100)}, 40, 60, ops{ask(1, 60), ask(2, 61), ask(3, 60)}, want{wait, exceeded, wait}},
		{"a later small one does not overtake a waiting big one", book.Hard, limits{costs(day, 100)}, 0, 60, ops{ask(1, 50), ask(2, 10), asks("b", 3, 10)}, want{wait, wait, wait}},
		{"one that does not wait is in nobody's way", book.Hard, limits{costs(day, 100)}, 0, 60, ops{impatient(1, 50), ask(2, 10), impatient(3, 10)}, want{wait, granted, granted}},
		{"one that does not wait does not overtake", book.Hard, limits{costs(day, 100)}, 0, 60, ops{ask(1, 50), impatient(2, 10)}, want{wait, wait}},
		{"one that draws on another agent's limit overtakes", book.Hard, limits{costs(dayA, 100), costs(month, 1000)}, 0, 60, ops{ask(1, 50), asks("b", 2, 10), ask(3, 10)}, want{wait, granted, wait}},
		{"one that waits for another metric is not overtaken either", book.Hard, limits{tokens(day, 1), costs(day, 100)}, 0, 60, ops{ask(1, 10), ask(2, 10)}, want{wait, wait}},
		{"one that waits on two limits is overtaken on neither", book.Hard, limits{costs(day, 100), costs(dayA, 100)}, 0, 60, ops{ask(1, 50), asks("b", 2, 10)}, want{wait, wait}},
		{"a waiter holds only the line of the limit that it waits for", book.Hard, limits{costs(month, 100), costs(dayA, 70)}, 0, 60, ops{ask(1, 20), asks("b", 2, 20)}, want{wait, granted}},
		{"whoever waits in a line behind also waits for whoever is next", book.Hard, limits{costs(day, 100), costs(month, 100)}, 0, 60, ops{ask(1, 50), ask(2, 1), asks("b", 3, 1)}, want{wait, wait, wait}},

		{"exceeded outranks a wait before it", book.Hard, limits{costs(day, 100), costs(month, 65)}, 20, 50, ops{ask(1, 50)}, want{exceeded}},
		{"exceeded outranks a wait after it", book.Hard, limits{costs(month, 65), costs(day, 100)}, 20, 50, ops{ask(1, 50)}, want{exceeded}},
		{"exceeded holds up nobody", book.Hard, limits{costs(day, 100), costs(month, 65)}, 20, 40, ops{ask(1, 50), ask(2, 5)}, want{exceeded, granted}},

		{"soft grants what a limit would refuse", book.Soft, limits{costs(day, 100)}, 100, 0, ops{ask(1, 1)}, want{granted}},
		{"soft grants what would have to wait", book.Soft, limits{costs(day, 100)}, 0, 100, ops{ask(1, 1), ask(2, 1)}, want{granted, granted}},
		{"soft is the default", book.Inherited, limits{costs(day, 0)}, 0, 0, ops{ask(1, 1)}, want{granted}},
		{"none grants everything", book.None, limits{costs(day, 0), calls(day, 0)}, 0, 0, ops{ask(1, 1)}, want{granted}},

		{"unpriced under a hard cost limit is refused", book.Hard, limits{costs(day, 100)}, 0, 0, ops{unpriced(ask(1, 0))}, want{noPrice}},
		{"unpriced is refused also when it would have to wait", book.Hard, limits{calls(day, 1), costs(day, 100)}, 0, 1, ops{unpriced(ask(1, 0))}, want{noPrice}},
		{"unpriced holds up nobody", book.Hard, limits{calls(day, 1), costs(month, 100)}, 0, 1, ops{unpriced(ask(1, 0)), asks("b", 2, 0)}, want{noPrice, wait}},
		{"unpriced with only token limits is granted", book.Hard, limits{tokens(day, 100), calls(day, 1)}, 0, 0, ops{unpriced(ask(1, 0))}, want{granted}},
		{"unpriced is bound by token limits", book.Hard, limits{tokens(day, 0)}, 0, 0, ops{unpriced(ask(1, 0))}, want{exceeded}},
		{"unpriced under another agent's cost limit is granted", book.Hard, limits{costs(dayA, 100)}, 0, 0, ops{unpriced(asks("b", 1, 0))}, want{granted}},
		{"unpriced under soft is granted", book.Soft, limits{costs(day, 0)}, 0, 0, ops{unpriced(ask(1, 0))}, want{granted}},
		{"unpriced under none is granted", book.None, limits{costs(day, 0)}, 0, 0, ops{unpriced(ask(1, 0))}, want{granted}},

		{"limits up to 2^62 do not overflow", book.Hard, limits{costs(day, money.Max)}, money.Max - 10, 5, ops{ask(1, 5), ask(2, 1), ask(3, 11)}, want{granted, wait, exceeded}},
		{"what was spent beyond 2^62 does not overflow", book.Hard, limits{costs(day, 0)}, money.Max, money.Max - 1, ops{ask(1, money.Max)}, want{exceeded}},
		{"a need beyond int64 is exceeded", book.Hard, limits{costs(day, money.Max)}, 0, 0, ops{
			with(ask(1, money.Max), func(op *decide.Op) { op.OutCost, op.MinOutput, op.MaxOutput = money.Max, money.Max, money.Max }),
		}, want{exceeded}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()

			db := newDatabase(t)
			acme := db.tenant(acme, "acme", book.None, c.limits...)
			if c.spent != 0 {
				require.Equal(t, want{decide.Granted, decide.Settled}, db.codes(ask(91, 0), settle(91, c.spent)))
			}
			if c.held != 0 {
				require.Equal(t, want{decide.Granted}, db.codes(ask(92, c.held)))
			}
			acme.Enforcement = c.enforcement
			require.Equal(t, c.want, db.codes(c.ops...))
		})
	}
}

func TestReserve_ARefusalNamesTheLimitTheBalanceAndTheNeed(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		rule      string
		limits    []book.Limit
		op        *decide.Op
		code      decide.Code
		limit     int // -1: none
		requested int64
	}{
		{"exceeded names the limit that can never be met, not the first in the way", []book.Limit{calls(day, 9), costs(day, 100), costs(month, 65)}, flexible(1, 40, 10, 50), decide.Exceeded, 2, 50},
		{"a wait names the first limit that is in the way", []book.Limit{calls(day, 9), costs(day, 75), costs(month, 75)}, flexible(1, 40, 10, 50), decide.Wait, 1, 50},
		{"tokens are asked for in tokens", []book.Limit{costs(day, 900), tokens(month, 10)}, flexible(1, 40, 10, 50), decide.Exceeded, 1, 11},
		{"no price names the cost limit", []book.Limit{calls(day, 9), costs(day, 100)}, unpriced(ask(1, 0)), decide.NoPrice, 1, 0},
		{"a grant names none", []book.Limit{calls(day, 9), costs(day, 100)}, ask(1, 1), decide.Granted, -1, 0},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()

			db := newDatabase(t)
			tenant := db.tenant(acme, "acme", book.Hard)
			db.codes(ask(91, 0), settle(91, 20), ask(92, 10))
			tenant.Limits = c.limits
			out := db.run(c.op)[0]
			require.Equal(t, c.code, out.Code)
			require.Equal(t, c.code == decide.Granted, out.Exec != nil)
			require.Equal(t, c.requested, out.Requested)
			if c.limit < 0 {
				require.Nil(t, out.Limit)
				return
			}
			require.Equal(t, inForce(c.limits[c.limit]), *out.Limit)
			if c.code != decide.NoPrice {
				require.Equal(t, db.balance(out.Limit.Scope), *out.Balance)
			}
		})
	}
}

func TestReserve_SoftNamesTheFirstLimitThatItPassed(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	tenant := db.tenant(acme, "acme", book.Soft, tokens(day, 100), costs(day, 100), costs(month, 0))
	require.Equal(t, []decide.Code{decide.Granted}, db.codes(ask(1, 60)))
	before := db.balance(day)

	out := db.run(flexible(2, 41, 0, 1000))[0]
	require.Equal(t, decide.Granted, out.Code)
	require.EqualValues(t, 1000, out.Output, "soft shortens nothing")
	require.Equal(t, inForce(costs(day, 100)), *out.Limit)
	require.Equal(t, before, *out.Balance)
	require.EqualValues(t, 41, out.Requested)
	require.EqualValues(t, 1041, out.Exec.Held.Cost)

	tenant.Limits = []book.Limit{costs(day, 5000)}
	require.Nil(t, db.run(ask(3, 1))[0].Limit)

	tenant.Limits, tenant.Enforcement = []book.Limit{costs(day, 0)}, book.None
	out = db.run(flexible(4, 1, 0, 7))[0]
	require.Nil(t, out.Limit, "none names nothing")
	require.EqualValues(t, 7, out.Output)
}

func TestReserve_GrantsWhatFitsBetweenTheLeastAndTheMost(t *testing.T) {
	t.Parallel()

	rate := func(op *decide.Op, nanoPerMillion int64) *decide.Op {
		return with(op, func(op *decide.Op) { op.OutCost = nanoPerMillion })
	}
	for _, c := range []struct {
		rule   string
		limits []book.Limit
		op     *decide.Op
		behind []*decide.Op
		output int64
		cost   int64
	}{
		{"the most, where nothing is limited", nil, flexible(1, 10, 5, 500), nil, 500, 510},
		{"the most, where it fits", []book.Limit{costs(day, 510)}, flexible(1, 10, 5, 500), nil, 500, 510},
		{"never more than the most", []book.Limit{costs(day, 5100)}, flexible(1, 10, 5, 500), nil, 500, 510},
		{"what the cost limit leaves", []book.Limit{costs(day, 100)}, flexible(1, 10, 5, 500), nil, 90, 100},
		{"what the token limit leaves", []book.Limit{tokens(day, 100)}, flexible(1, 10, 5, 500), nil, 99, 109},
		{"the least over all limits, cost last", []book.Limit{calls(day, 1), tokens(day, 100), costs(month, 80)}, flexible(1, 10, 5, 500), nil, 70, 80},
		{"the least over all limits, tokens last", []book.Limit{costs(month, 150), calls(day, 1), tokens(day, 100)}, flexible(1, 10, 5, 500), nil, 99, 109},
		{"just the least", []book.Limit{costs(day, 15)}, flexible(1, 10, 5, 500), nil, 5, 15},
		{"rounded down to whole tokens", []book.Limit{costs(day, 100)}, rate(flexible(1, 10, 5, 500), 7_000_000), nil, 12, 94},
		{"rounded down where a token costs less than a nano", []book.Limit{costs(day, 11)}, rate(flexible(1, 10, 1, 5_000_000), 3), nil, 333_333, 11},
		{"free output is not shortened", []book.Limit{costs(day, 10)}, rate(flexible(1, 10, 5, 500), 0), nil, 500, 10},

		{"its share while another is behind", []book.Limit{costs(day, 101)}, flexible(1, 10, 5, 500), []*decide.Op{ask(2, 1)}, 40, 50},
		{"its share of tokens while two are behind", []book.Limit{tokens(day, 101)}, flexible(1, 10, 5, 500), []*decide.Op{ask(2, 1), ask(3, 1)}, 32, 42},
		{"its share by the number of calls, not of limits", []book.Limit{costs(day, 101), tokens(day, 1000), calls(day, 9)}, flexible(1, 10, 5, 500), []*decide.Op{ask(2, 1)}, 40, 50},
		{"not less than the least for those behind", []book.Limit{costs(day, 100)}, flexible(1, 10, 50, 500), []*decide.Op{ask(2, 1)}, 50, 60},
		{"whole where those behind draw on other limits", []book.Limit{costs(dayA, 100)}, flexible(1, 10, 5, 500), []*decide.Op{asks("b", 2, 1)}, 90, 100},
		{"whole where what is behind holds nothing", []book.Limit{costs(day, 100)}, flexible(1, 10, 5, 500), []*decide.Op{release(2), record(3, 1)}, 90, 100},
		{"free output is not shortened for those behind", []book.Limit{costs(day, 100)}, rate(flexible(1, 60, 5, 500), 0), []*decide.Op{ask(2, 1)}, 500, 60},
		{"a share of calls shortens no output", []book.Limit{calls(day, 2)}, flexible(1, 10, 5, 500), []*decide.Op{ask(2, 1)}, 500, 510},

		{"2^62 and a high rate", []book.Limit{costs(day, money.Max)}, rate(flexible(1, 0, 0, money.Max), 4_000_000), nil, money.Max / 4, money.Max},
		{"2^62 and no rate", []book.Limit{costs(day, money.Max), tokens(day, money.Max)}, rate(flexible(1, 0, 0, money.Max), 0), nil, money.Max - 1, 0},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()

			db := newDatabase(t)
			db.tenant(acme, "acme", book.Hard, c.limits...)
			out := db.run(append([]*decide.Op{c.op}, c.behind...)...)[0]
			require.Equal(t, decide.Granted, out.Code)
			require.Equal(t, c.output, out.Output)
			require.Equal(t, book.Amount{Cost: c.cost, Tokens: 1 + c.output, Calls: 1}, out.Exec.Held)
			require.Equal(t, out.Exec.Held, db.execution(1).Held)
		})
	}
}

func TestReserve_TheLastOfALineMayTakeWhatTheOthersLeft(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard, costs(day, 100), costs(month, 1000))
	var outputs []int64
	for _, out := range db.run(flexible(1, 10, 0, 500), flexible(2, 10, 0, 5), flexible(3, 10, 0, 500)) {
		require.Equal(t, decide.Granted, out.Code)
		outputs = append(outputs, out.Output)
	}
	require.Equal(t, []int64{23, 5, 42}, outputs)
	require.EqualValues(t, 100, db.balance(day).Held.Cost)
}

func TestReserve_LimitsAndEnforcementAreInherited(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		rule     string
		own      book.Enforcement
		inherit  bool
		limits   []book.Limit
		defaults book.Enforcement
		limit    book.Limit
		want     decide.Code
	}{
		{"the default limit", book.Hard, true, nil, book.Soft, costs(day, 0), decide.Exceeded},
		{"the default enforcement", book.Inherited, true, nil, book.Hard, costs(day, 0), decide.Exceeded},
		{"the own enforcement before the default", book.Soft, true, nil, book.Hard, costs(day, 0), decide.Granted},
		{"the own limit before the default, though higher", book.Hard, true, []book.Limit{costs(day, 100)}, book.Hard, costs(day, 0), decide.Granted},
		{"both, where they limit other metrics", book.Hard, true, []book.Limit{calls(day, 100)}, book.Hard, costs(day, 0), decide.Exceeded},
		{"both, where they limit other scopes", book.Hard, true, []book.Limit{costs(dayA, 100)}, book.Hard, costs(day, 0), decide.Exceeded},
		{"no default limit without inheritance", book.Hard, false, nil, book.Hard, costs(day, 0), decide.Granted},
		{"no default enforcement without inheritance", book.Inherited, false, []book.Limit{costs(day, 0)}, book.Hard, costs(day, 0), decide.Granted},
		{"soft where nobody says", book.Inherited, true, nil, book.Inherited, costs(day, 0), decide.Granted},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()

			db := newDatabase(t)
			tenant := db.tenant(acme, "acme", c.own, c.limits...)
			tenant.Inherit = c.inherit
			db.defaults = book.Tenant{Enforcement: c.defaults, Limits: []book.Limit{c.limit}}
			require.Equal(t, c.want, db.run(ask(1, 1))[0].Code)
			require.Equal(t, c.limits, tenant.Limits, "the defaults are not made the tenant's own")
		})
	}
}

func TestEffective_LeavesTheTenantsOwnLimitsAlone(t *testing.T) {
	t.Parallel()

	own := append(make([]book.Limit, 0, 2), costs(day, 1))
	defaults := &book.Tenant{Limits: []book.Limit{costs(day, 2), costs(month, 2)}}
	limits := decide.Effective(&book.Tenant{Inherit: true, Limits: own}, defaults, noon)
	require.Equal(t, []book.Limit{costs(day, 1), costs(month, 2)}, limits)
	require.Zero(t, own[:2][1], "also where they have room to grow")
}

func TestReserve_StoresTheHold(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard, costs(dayA, 100))
	op := with(flexible(1, 10, 0, 20), func(op *decide.Op) {
		op.Exec.Tenant, op.Key = book.ID{}, "acme"
		op.Exec.Provider, op.Exec.Process, op.Exec.Tags, op.Exec.Actor = "p", id(0), `{"x":"y"}`, "someone"
		op.Exec.IdempotencyKey = "once"
	})
	out := db.run(op)[0]
	require.Equal(t, decide.Granted, out.Code)
	require.Equal(t, book.Execution{
		Tenant: acme, ID: id(1), TenantKey: "acme", Status: book.Running, Agent: "a", Provider: "p", Model: "m",
		IdempotencyKey: "once", Tags: `{"x":"y"}`, Actor: "someone", AdmittedAt: noon, DeadlineAt: noon.Add(time.Hour),
		Held: book.Amount{Cost: 30, Tokens: 21, Calls: 1}, Reported: -1,
	}, db.execution(1))
	for _, s := range []book.Scope{book.Anchor, day, month, dayA} {
		require.Equal(t, out.Exec.Held, db.balance(s).Held, "%v", s)
		require.Zero(t, db.balance(s).Spent)
	}
}

func TestReserve_RefusalsAreCountedWithTheNextWritingBatch(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	tenant := db.tenant(acme, "acme", book.Hard, costs(day, 10))
	db.codes(ask(1, 5))
	require.Equal(t, []decide.Code{decide.Exceeded}, db.codes(ask(2, 11)))
	require.Empty(t, db.hours)

	ops := []*decide.Op{ask(3, 11), unpriced(asks("b", 4, 0)), ask(5, 10), settle(1, 5)}
	require.Equal(t, []decide.Code{decide.Exceeded, decide.NoPrice, decide.Wait, decide.Settled}, db.codes(ops...))
	refused := func(agent string) int64 {
		return db.hours[book.HourKey{Tenant: acme, Hour: noon, Agent: agent, Model: "m"}].Refusals
	}
	require.EqualValues(t, 1, refused("a"))
	require.EqualValues(t, 1, refused("b"))

	state := db.read(nil)
	_, effects := decide.Batch(db.config, state, []*decide.Op{ask(6, 11), ask(7, 10)})
	require.True(t, effects.Empty(), "refusals alone write nothing")

	tenant.Suspended = true
	require.Equal(t, []decide.Code{decide.Suspended, decide.Settled}, db.codes(ask(8, 1), record(9, 1)))
	require.EqualValues(t, 1, refused("a"))
}

// inForce is a limit as it is in force in these tests, whose limits count what providers bill.
func inForce(l book.Limit) book.Limit {
	l.AtCost = l.Metric == book.Cost
	return l
}

// A tenant's limits count what is said for it, those above it what is said for them, and a change holds at once, in the window
// that is open.
func TestReserve_EachTenantsLimitsCountTheCostOrTheCharge(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.defaults.Counts = ""
	own := db.tenant(acme, "acme", book.Hard, costs(day, 100))
	above := db.tenant(group, "group", book.Hard, costs(book.Scope{Window: period.Month}, 100))
	own.Parent, above.Counts = group, book.CountsCost
	dear := func(n int, cost, charge int64) *decide.Op {
		op := ask(n, cost)
		op.Base.Charge = charge
		return op
	}
	end := settle(1, 50)
	end.Exec.Charged.Charge = 90
	require.Equal(t, []decide.Code{decide.Granted, decide.Settled}, db.codes(dear(1, 60, 100), end))

	refused := db.run(impatiently(dear(2, 10, 11)))[0]
	require.Equal(t, decide.Exceeded, refused.Code, "90 of 100 are charged")
	require.Equal(t, "acme", refused.Tenant.Key)
	require.EqualValues(t, 11, refused.Requested)
	refused = db.run(impatiently(dear(3, 51, 10)))[0]
	require.Equal(t, decide.Exceeded, refused.Code, "50 of 100 are billed")
	require.Equal(t, "group", refused.Tenant.Key)
	require.EqualValues(t, 51, refused.Requested)

	own.Counts = book.CountsCost
	require.Equal(t, []decide.Code{decide.Granted, decide.Released}, db.codes(dear(4, 10, 11), release(4)), "what was charged does not count any more")
	above.Counts = ""
	require.Equal(t, "group", db.run(impatiently(dear(5, 10, 11)))[0].Tenant.Key, "now that of the group does")
	db.defaults.Counts = book.CountsCost
	require.Equal(t, []decide.Code{decide.Granted}, db.codes(dear(6, 10, 11)), "the ledger says what counts where nobody else does")
}

func impatiently(op *decide.Op) *decide.Op {
	op.Patient = false
	return op
}
