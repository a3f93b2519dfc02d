package book

import "time"

// ExecutionKey identifies an execution.
type ExecutionKey struct{ Tenant, ID ID }

// IdempotencyKey is a caller's key, unique among a tenant's executions that are not failed or cancelled.
type IdempotencyKey struct {
	Tenant ID
	Key    string
}

// Want is what a batch needs to know and lock.
type Want struct {
	Keys       []string // tenants by their current key
	Tenants    []ID     // tenants by id
	NoWait     bool     // leave out tenants that somebody else has locked, instead of waiting for them
	Executions []ExecutionKey
	Idempotent []IdempotencyUse // of the tenants above
	Processes  []ID

	// Missing returns the balances of a state that are to be filled before it is decided on.
	Missing func(*State) []Sum

	// Rehearse, where set, returns what is to be written after the effects, to see whether it can be, and undone.
	Rehearse func(*State) Effects
}

// IdempotencyUse is an idempotency key that an operation wants to use, of a tenant that is known by its key or by its id.
type IdempotencyUse struct {
	TenantKey string // empty: by the id
	IdempotencyKey
}

// State is what a batch read, after it had locked the anchor of every tenant in it. The decision changes it as it goes.
type State struct {
	Now        time.Time // the database's clock, read after the locks were taken
	Keys       map[string]ID
	Tenants    map[ID]*Tenant        // those whose anchor this batch has locked: of operations, and all that stand above them
	New        bool                  // some of their balances are not stored yet
	Busy       map[ID]bool           // those that are there but are not locked: somebody else has them, or a key moved meanwhile
	Defaults   Tenant                // the ledger's default settings
	Reported   map[ThresholdKey]bool // thresholds that are known to be on the books
	Executions map[ExecutionKey]*Execution
	Idempotent map[IdempotencyKey]*Execution // one that is among Executions is the same pointer
	Processes  map[ID]Process
}

// Sum is a balance that is not stored yet. Before the batch is decided, it is to be filled with what its window has seen
// already.
type Sum struct {
	Tenant ID
	*Balance

	// Open makes it the balance of the window that contains a time: a call that was admitted after the present one, by a
	// clock that has stepped back since, belongs to a window that must not be opened again.
	Open func(at time.Time)
}

// Effects is what a batch writes. Updates carry the whole row as it is to be.
type Effects struct {
	Insert   []*Execution
	Update   []Update
	Balances []BalanceRow
	Hours    map[HourKey]HourSum

	// Refused: refusals among the hours are written although nothing else is.
	Refused bool

	// Late are those of Hours that may be folded into days already.
	Late []LateHour

	// Thresholds are those that are met. The store says which of them nobody had entered before.
	Thresholds []*Threshold
}

// Empty reports whether there is nothing that has to be written. Refusals alone are no reason to, but where it is said.
func (e *Effects) Empty() bool { return len(e.Insert)+len(e.Update)+len(e.Balances) == 0 && !e.Refused }

// Late is how old an hour of the roll-up is when whoever changes it says so.
const Late = 3 * time.Hour

// LateHour is an hour of a tenant's roll-up that was changed when it was older than Late.
type LateHour struct {
	Tenant ID
	Hour   time.Time
}

// Update replaces the outcome of an execution that still has the status From and was not settled.
type Update struct {
	From Status
	*Execution
}

// ThresholdKey identifies a threshold of a limit in one window. A limit that is changed is another one.
type ThresholdKey struct {
	Tenant ID
	Limit
	Start   time.Time // of the window
	Percent int64
}

// Threshold is a part of a limit that is used up.
type Threshold struct {
	ThresholdKey
	Whose   *Tenant
	Balance Balance // at that moment
	At      time.Time
	First   bool // it was entered by this batch; valid once that is committed
}

// BalanceRow is a row of a tenant's balances as it is to be: the balance of one scope. The anchor's row has those of the
// tenant's day and month beside it.
type BalanceRow struct {
	Tenant *Tenant
	*Balance
	Day, Month *Balance
}
