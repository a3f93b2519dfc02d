// Package book holds the records that the decision, the lanes and the stores share: what a tenant's budget, its
// balances and its executions are, without saying how they are decided or kept.
package book

import (
	"bytes"
	"crypto/rand"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/period"
	"github.com/llmtenant/tenant/units"
)

// ID identifies a tenant, an execution or a process for ever.
type ID = uuid.UUID

// NewID returns a UUIDv7, which sorts by the time of its making. It fails, by a panic of crypto/rand, only where the
// operating system gives no random numbers.
func NewID() ID { return uuid.Must(uuid.NewV7()) }

// NewIDs returns n of NewID. To ask for random numbers costs more than to get some more of them.
func NewIDs(n int) []ID {
	random := make([]byte, n*len(ID{}))
	_, _ = rand.Read(random) // which does not fail
	ids, from := make([]ID, n), bytes.NewReader(random)
	for i := range ids {
		ids[i] = uuid.Must(uuid.NewV7FromReader(from))
	}
	return ids
}

// Three ids are nobody's: calls without a tenant are booked on NoTenant, the budget of the whole ledger is that of Root,
// where there is one, and the ledger's default settings are kept under Defaults. Anchors are locked in the descending
// order of their ids: what all calls share comes last, and is held for the shortest time.
var (
	NoTenant = uuid.Nil
	Root     = uuid.UUID{15: 1}
	Defaults = uuid.Max
)

// MaxDepth is how many tenants stand above each other at most, not counting the root.
const MaxDepth = 8

// RootKey is the tenant id of the root.
const RootKey = "llm_root"

// Enforcement says what a limit does to a call that it has no room for. The empty one is inherited.
type Enforcement string

// The enforcements, as they are stored.
const (
	Inherited Enforcement = ""
	Hard      Enforcement = "hard"
	Soft      Enforcement = "soft"
	None      Enforcement = "none"
)

// Counting is what the limits of cost of a budget count. The empty one is the ledger's.
type Counting string

// What limits of cost count, as it is stored.
const (
	CountsCharge Counting = "charge" // what the tenant pays
	CountsCost   Counting = "cost"   // what providers bill
)

// Metric is what a limit counts.
type Metric string

// The metrics, as they are stored.
const (
	Cost   Metric = "cost"   // nano-dollars
	Tokens Metric = "tokens" // of all classes
	Calls  Metric = "calls"
)

// Format writes a value of the metric, such as $1.25 or 300.
func (m Metric) Format(v int64) string {
	if m == Cost {
		return money.Format(v)
	}
	return strconv.FormatInt(v, 10)
}

// Status is where an execution is in its life. Only Running changes; Abandoned may still be corrected once.
type Status string

// The statuses, as they are stored.
const (
	Running   Status = "running"
	Succeeded Status = "succeeded"
	Failed    Status = "failed"
	Cancelled Status = "cancelled" // released: the call was not made
	Abandoned Status = "abandoned" // nobody settled it in time: its hold was charged
	Adjusted  Status = "adjusted"  // it is no call, but a correction of what was spent
)

// Amount is what calls use up: what providers bill for them and what their tenant pays, in nano-dollars, tokens and calls.
type Amount struct{ Cost, Charge, Tokens, Calls int64 }

// Plus returns a + b, saturating.
func (a Amount) Plus(b Amount) Amount {
	return Amount{money.Add(a.Cost, b.Cost), money.Add(a.Charge, b.Charge), money.Add(a.Tokens, b.Tokens), money.Add(a.Calls, b.Calls)}
}

// Minus returns a - b, saturating.
func (a Amount) Minus(b Amount) Amount {
	return Amount{money.Sub(a.Cost, b.Cost), money.Sub(a.Charge, b.Charge), money.Sub(a.Tokens, b.Tokens), money.Sub(a.Calls, b.Calls)}
}

// Scope is what a limit and its balance count: the calls of one window, of all or one agent, of all or one model.
type Scope struct {
	Window period.Window
	Agent  string // empty: all
	Model  string // empty: all; compared with the model asked for
}

// Covers reports whether a call of an agent to a model is counted.
func (s Scope) Covers(agent, model string) bool {
	return (s.Agent == "" || s.Agent == agent) && (s.Model == "" || s.Model == model)
}

// Anchor is the scope of the balance that everything which changes a tenant's books locks first.
var Anchor = Scope{Window: period.Total}

// Standing are the scopes whose balances every tenant has from its creation on, all in one row.
var Standing = []Scope{Anchor, Day, Month}

// Day is the scope of the days that stand beside the anchor.
var Day = Scope{Window: period.Day}

// Month is that of the months.
var Month = Scope{Window: period.Month}

// Limit is one row of a tenant's settings: no more than Max of a metric in a scope. Zero allows nothing.
type Limit struct {
	Scope
	Metric Metric
	Max    int64
	AtCost bool // of a limit of cost in force: it counts what providers bill, and not what the tenant pays
}

// Of returns what the limit counts of an amount.
func (l *Limit) Of(a Amount) int64 {
	switch {
	case l.Metric == Calls:
		return a.Calls
	case l.Metric == Tokens:
		return a.Tokens
	case l.AtCost:
		return a.Cost
	default:
		return a.Charge
	}
}

// Counts names what the limit counts.
func (l *Limit) Counts() string {
	if l.Metric == Cost && !l.AtCost {
		return string(CountsCharge)
	}
	return string(l.Metric)
}

// TopUp adds to the limit of a scope and metric until it ends; zero: for good.
type TopUp struct {
	Limit
	Key  string
	Ends time.Time
}

// Balance is what is spent and held in the current window of one scope. A balance whose Start equals its End has not
// been used; one whose End is zero never ends.
type Balance struct {
	Scope
	Start, End  time.Time
	Spent, Held Amount
	New         bool // it is not stored yet
}

// Holds reports whether a call admitted at t belongs to the balance's window.
func (b *Balance) Holds(t time.Time) bool {
	return !t.Before(b.Start) && (b.End.IsZero() || t.Before(b.End))
}

// Tenant is a tenant's settings and balances as a batch sees them. Limits holds its own limits only.
type Tenant struct {
	ID                 ID
	Key                string
	OwnerType, OwnerID string
	Parent             ID   // zero: none
	HasDescendants     bool // another tenant stands below it, or has stood there; not read by batches
	Enforcement        Enforcement
	Counts             Counting
	Inherit            bool
	Zone               string
	Suspended, Deleted bool
	Limits             []Limit
	TopUps             []TopUp
	Balances           []Balance

	// Stored is for the store: what it knows of the anchor's row.
	Stored Anchored
}

// Anchored is what is in a tenant's anchor beside its balances: how often it was written and how many other rows of balances the
// tenant has; and where the row is, and what its balances were when it was read.
type Anchored struct {
	Written, Others int64
	Place           Place
	Balances        []Balance
}

// Place is where a row is for as long as nobody writes it. The zero one is not known.
type Place [6]byte

// Has reports whether the tenant has a balance of a scope.
func (t *Tenant) Has(s Scope) bool { return t.find(s) != nil }

func (t *Tenant) find(s Scope) *Balance {
	for i := range t.Balances {
		if t.Balances[i].Scope == s {
			return &t.Balances[i]
		}
	}
	return nil
}

// Row returns the row of balances in which that of a scope is, which the tenant has.
func (t *Tenant) Row(s Scope) BalanceRow {
	row := BalanceRow{Tenant: t, Balance: t.find(s)}
	if s == Anchor || s == Day || s == Month {
		row.Balance, row.Day, row.Month = t.find(Anchor), t.find(Day), t.find(Month)
	}
	return row
}

// Balance returns the tenant's balance of a scope, which it is given now where it has none.
func (t *Tenant) Balance(s Scope) *Balance {
	if b := t.find(s); b != nil {
		return b
	}
	t.Balances = append(t.Balances, Balance{Scope: s, New: true})
	return &t.Balances[len(t.Balances)-1]
}

// Usage is tokens by class; see the Usage of package tenant, which has the same fields.
type Usage struct {
	Input          int64
	CacheRead      int64
	CacheReadAudio int64
	CacheWrite5m   int64
	CacheWrite1h   int64
	Output         int64
	Reasoning      int64
	InputAudio     int64
	OutputAudio    int64
	InputImage     int64
	OutputImage    int64
	WebSearches    int64
	Units          units.Counts
}

// Classes returns the address of each count that has a column of its own, in the order of UsageColumns.
func (u *Usage) Classes() [12]*int64 {
	return [...]*int64{
		&u.Input, &u.CacheRead, &u.CacheReadAudio, &u.CacheWrite5m, &u.CacheWrite1h, &u.Output, &u.Reasoning,
		&u.InputAudio, &u.OutputAudio, &u.InputImage, &u.OutputImage, &u.WebSearches,
	}
}

// UsageColumns are the columns that hold a Usage without its units, in executions and in the roll-up.
var UsageColumns = [12]string{
	"input_tokens", "cache_read_tokens", "cache_read_audio_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
	"output_tokens", "reasoning_tokens", "input_audio_tokens", "output_audio_tokens", "input_image_tokens", "output_image_tokens",
	"web_searches",
}

// Plus returns the sum of two usages, class by class.
func (u Usage) Plus(v Usage) Usage {
	u = u.with(v, money.Add)
	u.Units = u.Units.Plus(v.Units)
	return u
}

// Minus returns the difference of two usages, class by class.
func (u Usage) Minus(v Usage) Usage {
	u = u.with(v, money.Sub)
	u.Units = u.Units.Minus(v.Units)
	return u
}

func (u Usage) with(v Usage, op func(a, b int64) int64) Usage {
	to, by := u.Classes(), v.Classes()
	for i := range to {
		*to[i] = op(*to[i], *by[i])
	}
	return u
}

// Execution is one LLM call: one row from the hold to the end.
type Execution struct {
	Tenant, ID     ID
	Ancestors      []ID   // the tenants above at its admission, the nearest first
	TenantKey      string // as it was at the call
	Status         Status
	Agent          string
	Provider       string
	Model          string // as asked for
	BilledModel    string
	RequestID      string
	IdempotencyKey string
	Tags           string // a JSON object, or empty
	Actor          string
	Process        ID
	AdmittedAt     time.Time
	DeadlineAt     time.Time
	FinishedAt     time.Time // zero while running
	SettledAt      time.Time // zero until the true usage is booked
	Held           Amount    // Calls is always 1
	Charged        Amount
	Reported       int64 // nano-dollars, as the provider stated the cost; negative: not stated
	Overrun        Amount
	Estimated      bool
	Unpriced       bool
	Place          Place  // for the store: where it has just read the row
	Price          string // by what; see the Execution of package tenant
	ServiceTier    string // that the call was served in
	ErrorCode      string
	Reason         string // of an adjustment
	Corrects       ID     // of an adjustment: the execution whose cost it corrects; zero for none
	Usage          Usage
	Latency        time.Duration // of the call; zero: nobody knows
}

// Hour is the row of the roll-up that an execution belongs to.
func (e *Execution) Hour() HourKey {
	return HourKey{e.Tenant, false, e.AdmittedAt.UTC().Truncate(time.Hour), e.Agent, e.Model, e.BilledModel, e.Provider, e.ServiceTier}
}

// HourKey identifies a row of the roll-up.
type HourKey struct {
	Tenant                    ID
	Below                     bool // of the tenants below it, not of its own
	Hour                      time.Time
	Agent, Model, BilledModel string
	Provider, ServiceTier     string
}

// HourSum is what a batch adds to a row of the roll-up; a correction may be negative.
type HourSum struct {
	Errors, Refusals    int64
	Estimated, Unpriced int64
	Charged             Amount
	Usage               Usage
	Timed, LatencyUS    int64 // the calls of which it is known how long they took, and their times together, in microseconds
	Latencies           Latencies
}

// Add adds an execution, or with the sign -1 takes it away.
func (s *HourSum) Add(e *Execution, sign int64) {
	count := func(to *int64, is bool) {
		if is {
			*to += sign
		}
	}
	count(&s.Errors, e.Status == Failed)
	count(&s.Estimated, e.Estimated)
	count(&s.Unpriced, e.Unpriced)
	if sign > 0 {
		s.Charged, s.Usage = s.Charged.Plus(e.Charged), s.Usage.Plus(e.Usage)
	} else {
		s.Charged, s.Usage = s.Charged.Minus(e.Charged), s.Usage.Minus(e.Usage)
	}
	if us := e.Latency.Microseconds(); us > 0 {
		s.Timed += sign
		s.LatencyUS += sign * us
		s.Latencies.Add(LatencyBucket(us), sign)
	}
}

// Process is the heartbeat of a process that has the ledger open.
type Process struct {
	ID     ID
	BeatAt time.Time
	Lease  time.Duration
	Zones  string // how it sees the time zones that it uses, as it writes it; not read for a decision
}
