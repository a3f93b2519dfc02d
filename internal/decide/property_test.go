package decide_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/period"
)

// history draws what happens to the books, batch after batch.
type history struct {
	*rapid.T
	db       *database
	model    *model
	next     int         // the next new execution
	asked    []decide.Op // reserves and records so far, for those who ask again
	limits   *rapid.Generator[book.Limit]
	outcomes map[decide.Code]int
}

var names = map[decide.Code]string{
	decide.Unknown: "Unknown", decide.WrongOwner: "WrongOwner", decide.Busy: "Busy", decide.Suspended: "Suspended",
	decide.Exceeded: "Exceeded", decide.Wait: "Wait", decide.NoPrice: "NoPrice", decide.Duplicate: "Duplicate",
	decide.Granted: "Granted", decide.Settled: "Settled", decide.Released: "Released", decide.Expired: "Expired",
	decide.Corrected: "Corrected", decide.AlreadySettled: "AlreadySettled", decide.AlreadyReleased: "AlreadyReleased",
	decide.Alive: "Alive", decide.Moved: "Moved",
}

func TestBatch_KeepsItsPromisesOverAnyHistory(t *testing.T) {
	t.Parallel()

	histories, outcomes, grants := 0, map[decide.Code]int{}, map[string]int{}
	missing := func() (what []string) {
		for code := decide.Unknown; code <= decide.Alive; code++ {
			if outcomes[code] == 0 {
				what = append(what, names[code])
			}
		}
		for _, kind := range []string{"whole", "shortened", "least", "soft, past a limit", "tombstone", "lost", "correction", "free, where there is no room"} {
			if grants[kind] == 0 {
				what = append(what, kind)
			}
		}
		return what
	}
	const most = 10 // rarely, the first hundred histories do not reach everything
	for tries := 0; tries < most && len(missing()) > 0; tries++ {
		rapid.Check(t, func(t *rapid.T) {
			histories++
			h := newHistory(t)
			h.outcomes = outcomes
			for range rapid.IntRange(1, 25).Draw(t, "batches") {
				h.time()
				h.settings()
				h.batch(grants)
			}
		})
		if t.Logf("%d histories", histories); histories < 50 {
			return // too few to reach everything, as with -short
		}
	}
	for code, n := range outcomes {
		t.Logf("%-16s%6d", names[code], n)
	}
	t.Logf("%v", grants)
	require.Empty(t, missing(), "no history reaches them")
}

// counting is what limits of cost count; the empty one is what the ledger says, and what that leaves open is the charge.
var counting = rapid.SampledFrom([]book.Counting{"", book.CountsCharge, book.CountsCost})

func newHistory(t *rapid.T) *history {
	db := newDatabase(t)
	zone, err := time.LoadLocation(rapid.SampledFrom([]string{"UTC", "Asia/Kathmandu", "America/New_York"}).Draw(t, "zone"))
	require.NoError(t, err)
	db.config.Zone = func(string) *time.Location { return zone }
	h := &history{T: t, db: db, model: newModel(t, db)}
	h.limits = rapid.Custom(func(t *rapid.T) book.Limit {
		return book.Limit{
			Scope: book.Scope{
				Window: rapid.SampledFrom([]period.Window{period.Day, period.Month, period.Total, period.Hour}).Draw(t, "window"),
				Agent:  rapid.SampledFrom([]string{"", "", "a", "b"}).Draw(t, "agent"),
				Model:  rapid.SampledFrom([]string{"", "", "m"}).Draw(t, "model"),
			},
			Metric: rapid.SampledFrom([]book.Metric{book.Cost, book.Cost, book.Tokens, book.Calls}).Draw(t, "metric"),
			Max:    rapid.SampledFrom([]int64{200, 100, 400, 60, 1000, 20, 5, 0}).Draw(t, "max"),
		}
	})
	distinct := rapid.SliceOfNDistinct(h.limits, 0, 4, func(l book.Limit) book.Limit { l.Max = 0; return l })
	db.defaults = book.Tenant{Enforcement: book.Soft, Counts: counting.Draw(t, "what is counted"), Limits: distinct.Draw(t, "defaults")}
	db.tenant(acme, "acme", book.Hard, distinct.Draw(t, "limits")...)
	other := db.tenant(globex, "globex", book.Inherited, distinct.Draw(t, "limits")...)
	other.Inherit = rapid.Bool().Draw(t, "inherit")
	if h.chance(2, "a group above") {
		db.tenant(group, "group", book.Hard, distinct.Draw(t, "limits of the group")...)
		db.tenants[acme].Parent = group
	}
	if h.chance(3, "a root above all") {
		db.tenant(book.Root, "root", book.Hard, distinct.Draw(t, "limits of the root")...).Inherit = false
	}
	return h
}

// chance is true once in n times.
func (h *history) chance(n int, what string) bool {
	return rapid.IntRange(0, n-1).Draw(h.T, what) == n-1
}

func (h *history) int(from, to int64, what string) int64 {
	return rapid.Int64Range(from, to).Draw(h.T, what)
}

// time lets some of it pass, or steps the clock back.
func (h *history) time() {
	step := rapid.SampledFrom([]time.Duration{
		0, 0, 0, 0, time.Second, time.Second, 20 * time.Second, lease, 10 * time.Minute, time.Hour, 5 * time.Hour,
		24 * time.Hour, 20 * 24 * time.Hour, -time.Second, -time.Hour, -30 * time.Hour,
	}).Draw(h.T, "step")
	h.db.now = h.db.now.Add(step)
	if !h.chance(4, "silent") {
		h.db.beat()
	}
}

// settings changes those of a tenant now and then, and where it stands.
func (h *history) settings() {
	ids := []book.ID{acme, acme, globex}
	for _, id := range []book.ID{group, book.Root} {
		if h.db.tenants[id] != nil {
			ids = append(ids, id)
		}
	}
	t := h.db.tenants[rapid.SampledFrom(ids).Draw(h.T, "whose")]
	switch rapid.IntRange(0, 18).Draw(h.T, "setting") {
	case 17:
		t.Counts = counting.Draw(h.T, "what it counts")
	case 18:
		h.db.defaults.Counts = counting.Draw(h.T, "what is counted")
	case 7, 8, 9, 10, 11:
		h.db.limit(t, h.limits.Draw(h.T, "limit"))
	case 12:
		if n := len(t.Limits); n > 0 {
			t.Limits = t.Limits[:n-1]
		}
	case 13:
		t.Enforcement = rapid.SampledFrom([]book.Enforcement{book.Hard, book.Hard, book.Soft, book.None}).Draw(h.T, "enforcement")
	case 14, 15:
		t.Enforcement = book.Hard
	case 16:
		if h.db.tenants[group] != nil {
			h.db.tenants[acme].Parent = rapid.SampledFrom([]book.ID{{}, group, globex}).Draw(h.T, "parent")
		}
	}
	t.Suspended, t.Deleted = h.chance(16, "suspended"), h.chance(30, "deleted")
	h.db.busy[t.ID] = h.chance(16, "busy")
}

func (h *history) batch(grants map[string]int) {
	ops := make([]*decide.Op, rapid.SampledFrom([]int{6, 4, 8, 2, 12, 1}).Draw(h.T, "operations"))
	for i := range ops {
		ops[i] = h.op()
	}
	copies := make([]*decide.Op, len(ops))
	lost := map[int]bool{}
	for i, op := range ops {
		c := *op
		copies[i] = &c
		_, known := h.db.executions[book.ExecutionKey{Tenant: op.Exec.Tenant, ID: op.Exec.ID}]
		lost[i] = !known
	}
	got := h.db.run(ops...)
	want := h.model.batch(copies, got)
	grants["free, where there is no room"] += h.model.free
	h.model.free = 0
	for i, out := range got {
		h.outcomes[out.Code]++
		a := answer{code: out.Code, output: out.Output}
		if out.Exec != nil {
			a.exec = out.Exec.ID
		}
		require.Equal(h.T, want[i], a, "operation %d: want %s, got %s", i, names[want[i].code], names[out.Code])
		switch op := ops[i]; {
		case lost[i] && op.Kind == decide.Settle && out.Code == decide.Settled:
			grants["lost"]++
		case lost[i] && op.Kind == decide.Release && out.Code == decide.Released:
			grants["tombstone"]++
		case op.Kind == decide.Correct && out.Code == decide.Settled:
			grants["correction"]++
		case out.Code != decide.Granted:
		case out.Limit != nil:
			grants["soft, past a limit"]++
		case out.Output == op.MaxOutput:
			grants["whole"]++
		case out.Output == op.MinOutput:
			grants["least"]++
		default:
			grants["shortened"]++
		}
	}
	h.model.check()
}

// op draws an operation: a new one, or one on an execution that there is.
func (h *history) op() *decide.Op {
	kinds := []decide.Kind{
		decide.Reserve, decide.Reserve, decide.Reserve, decide.Reserve, decide.Settle, decide.Settle, decide.Release,
		decide.Expire, decide.Expire, decide.Record, decide.Correct,
	}
	kind := rapid.SampledFrom(kinds).Draw(h.T, "kind")
	if kind == decide.Correct {
		if op := h.correction(); op != nil {
			return op
		}
		kind = decide.Record
	}
	if kind == decide.Reserve || kind == decide.Record {
		if len(h.asked) > 0 && h.chance(8, "again") {
			op := rapid.SampledFrom(h.asked).Draw(h.T, "which")
			return &op
		}
		op := h.fresh(kind)
		h.asked = append(h.asked, *op)
		return op
	}
	op := &decide.Op{Kind: kind, Exec: h.target()}
	switch {
	case kind == decide.Settle:
		h.usage(&op.Exec)
	case kind == decide.Expire && h.chance(2, "silent"):
		op.LastBeat = h.db.processes[id(0)].BeatAt
	}
	return op
}

// fresh draws a reserve or a record of an execution that there is not yet.
func (h *history) fresh(kind decide.Kind) *decide.Op {
	op := &decide.Op{Kind: kind, Exec: h.identity()}
	switch rapid.IntRange(0, 20).Draw(h.T, "found by") {
	case 20:
		op.Key, op.Exec.Tenant = "nobody", book.NoTenant
	case 19:
		op.Key, op.Exec.Tenant, op.OwnerType, op.OwnerID = "acme", book.NoTenant, "orgs", "2"
	case 3, 4, 5:
		op.Key, op.Exec.Tenant, op.OwnerType, op.OwnerID = h.db.tenants[op.Exec.Tenant].Key, book.NoTenant, "orgs", "1"
	}
	if kind == decide.Record {
		h.usage(&op.Exec)
		return op
	}
	op.Patient = !h.chance(4, "impatient")
	op.Lifetime = rapid.SampledFrom([]time.Duration{time.Minute, time.Hour, 48 * time.Hour}).Draw(h.T, "lifetime")
	op.Base = book.Amount{Cost: h.int(0, 40, "base cost"), Tokens: h.int(0, 10, "base tokens")}
	op.OutCost = rapid.SampledFrom([]int64{0, 300_000, 1_000_000, 2_500_000}).Draw(h.T, "rate")
	op.Base.Charge, op.OutCharge = op.Base.Cost, op.OutCost
	if h.chance(2, "terms") {
		op.Base.Charge, op.OutCharge = h.int(0, 60, "base charge"), rapid.SampledFrom([]int64{0, 200_000, 1_200_000}).Draw(h.T, "charge")
	}
	op.MinOutput = h.int(0, 10, "least")
	if free := h.int(0, 15, "free of"); free < 3 { // of cost, of tokens, of both
		if free != 1 {
			op.Base.Cost, op.OutCost = 0, rapid.SampledFrom([]int64{0, op.OutCost}).Draw(h.T, "rate of what is free")
			op.Base.Charge, op.OutCharge = 0, op.OutCost
		}
		if free != 0 {
			op.Base.Tokens, op.MinOutput = 0, 0
		}
	}
	op.MaxOutput = op.MinOutput + h.int(0, 80, "more")
	if op.Exec.Unpriced = h.chance(12, "unpriced"); op.Exec.Unpriced {
		op.Base.Cost, op.OutCost = 0, 0
		op.Base.Charge, op.OutCharge = 0, 0
	}
	return op
}

// correction draws the one correction that there is of a call that is over; nil where none is.
func (h *history) correction() *decide.Op {
	var over []*book.Execution
	for _, e := range h.model.executions {
		if e.Status != book.Adjusted && !e.SettledAt.IsZero() {
			over = append(over, e)
		}
	}
	if len(over) == 0 {
		return nil
	}
	e := rapid.SampledFrom(over).Draw(h.T, "corrected")
	h.next++
	return &decide.Op{Kind: decide.Correct, Exec: book.Execution{
		Tenant: e.Tenant, ID: id(h.next), Ancestors: e.Ancestors, Agent: e.Agent, Model: e.Model, BilledModel: e.BilledModel,
		AdmittedAt: e.AdmittedAt, Corrects: e.ID, IdempotencyKey: "correction of " + e.ID.String(), Reported: -1,
		Charged: book.Amount{Cost: h.int(-e.Charged.Cost, 60, "correction"), Charge: h.int(-e.Charged.Charge, 60, "corrected charge")},
	}}
}

func (h *history) identity() book.Execution {
	h.next++
	return book.Execution{
		Tenant:         rapid.SampledFrom([]book.ID{acme, acme, acme, globex}).Draw(h.T, "tenant"),
		ID:             id(h.next),
		Agent:          rapid.SampledFrom([]string{"a", "b", "c"}).Draw(h.T, "agent"),
		Model:          rapid.SampledFrom([]string{"m", "n"}).Draw(h.T, "model"),
		Process:        id(rapid.SampledFrom([]int{0, 0, 0, 0, 0, 0, 0, 7}).Draw(h.T, "process")),
		IdempotencyKey: rapid.SampledFrom([]string{"", "", "", "", "k", "l"}).Draw(h.T, "key"),
		Reported:       -1,
	}
}

// target draws the execution that an operation is about: mostly a running one, sometimes one that is over, or that
// nobody knows.
func (h *history) target() book.Execution {
	var running, over []*book.Execution
	for _, e := range h.model.executions {
		if e.Status == book.Running || (e.Status == book.Abandoned && e.SettledAt.IsZero()) {
			running = append(running, e)
		} else {
			over = append(over, e)
		}
	}
	from := running
	if len(running) == 0 || (len(over) > 0 && h.chance(5, "over")) {
		from = over
	}
	if len(from) > 0 && !h.chance(12, "unknown") {
		e := rapid.SampledFrom(from).Draw(h.T, "execution")
		return book.Execution{Tenant: e.Tenant, ID: e.ID}
	}
	e := h.identity()
	if h.chance(2, "a time of its own") {
		e.AdmittedAt = h.db.now.Add(time.Duration(h.int(-40, 2, "hours")) * time.Hour)
	}
	return e
}

// usage draws how a call ended: for less than it held, or for more.
func (h *history) usage(e *book.Execution) {
	e.Status = rapid.SampledFrom([]book.Status{book.Succeeded, book.Succeeded, book.Failed}).Draw(h.T, "status")
	e.Charged = book.Amount{
		Cost: h.int(0, 60, "cost"), Charge: h.int(0, 60, "charge"), Tokens: h.int(0, 40, "tokens"), Calls: h.int(0, 1, "calls"),
	}
	e.Estimated, e.Unpriced, e.ServiceTier = h.chance(8, "estimated"), h.chance(8, "without a price"), rapid.SampledFrom([]string{"", "flex"}).Draw(h.T, "tier")
	e.Latency = time.Duration(h.int(0, 1<<22, "latency")) * time.Microsecond
	e.Usage = book.Usage{Input: e.Charged.Tokens / 2, Output: e.Charged.Tokens - e.Charged.Tokens/2}
	e.BilledModel = rapid.SampledFrom([]string{"", "m-1", "m-2"}).Draw(h.T, "billed")
	e.Reported = e.Charged.Cost
}
