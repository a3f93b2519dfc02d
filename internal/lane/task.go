package lane

import (
	"sync/atomic"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
)

// Task is an operation on its way through a lane.
type Task struct {
	op      decide.Op
	route   string // tasks of one route go through one lane, in their order
	lane    *lane
	since   time.Time
	number  uint64 // order of arrival in the lane
	state   atomic.Int32
	done    chan struct{}
	outcome decide.Outcome
	err     error

	// did is what an attempt has done to the execution if it was committed, zero where none did anything. An execution that
	// something may have been done to is looked up before it is done again.
	did decide.Code

	suspect bool // the database did not take it when it came without others
	tried   bool // it is stuck, and is being tried again

	after *Task // the task before this one of the same execution, if it was told; see Set.After

	// hindrance is why it is not decided yet: the outcome of the last attempt, or what keeps the database away.
	hindrance atomic.Pointer[Hindrance]
}

// Hindrance is what a task waits for.
type Hindrance struct {
	Outcome decide.Outcome // Wait or Busy
	Err     error          // or an error of the database
}

const (
	pending int32 = iota
	settled
	withdrawn // what it may have done is to be undone
	left      // what it may have done stands
)

// Done is closed when the task has an outcome.
func (t *Task) Done() <-chan struct{} { return t.done }

// Outcome returns how the task ended. It is called after Done is closed.
func (t *Task) Outcome() (decide.Outcome, error) { return t.outcome, t.err }

// Hindrance returns why the task is not decided yet, nil where it was not its turn.
func (t *Task) Hindrance() *Hindrance { return t.hindrance.Load() }

// Since is when the task was handed in.
func (t *Task) Since() time.Time { return t.since }

// Execution is the execution that the task is about.
func (t *Task) Execution() *book.Execution { return &t.op.Exec }

// Withdraw takes the task back. It reports false if the task has its outcome already. What a withdrawn reserve may have
// been granted meanwhile is released by its lane.
func (t *Task) Withdraw() bool { return t.state.CompareAndSwap(pending, withdrawn) }

// Leave gives up waiting for the task as Withdraw does, but what it may have been granted stands. Whoever leaves a reserve
// ends what it may have begun, with [Set.After].
func (t *Task) Leave() bool { return t.state.CompareAndSwap(pending, left) }

// begun returns the task before this one that may have written their execution, nil where none has come that far.
func (t *Task) begun() *Task {
	for a := t.after; a != nil; a = a.after {
		if a.did != 0 {
			return a
		}
	}
	return nil
}

// locate makes an operation go where its execution is, whoever has the tenant's key by now.
func (t *Task) locate() {
	if begun := t.begun(); begun != nil {
		t.op.Exec.Tenant = begun.op.Exec.Tenant
		t.op.OwnerType, t.op.OwnerID = "", ""
	}
}

// finish gives the task its outcome. It reports false for a task that was withdrawn or left.
func (t *Task) finish(out decide.Outcome, err error) bool {
	if !t.state.CompareAndSwap(pending, settled) {
		return false
	}
	t.outcome, t.err = out, err
	close(t.done)
	return true
}

// line is the tenant whose limit the task waits for.
func (t *Task) line() book.ID {
	if h := t.hindrance.Load(); h != nil && h.Outcome.Tenant != nil {
		return h.Outcome.Tenant.ID
	}
	return t.op.Exec.Tenant
}

// frees reports whether the task can only make room.
func (t *Task) frees() bool {
	switch t.op.Kind {
	case decide.Settle, decide.Release, decide.Expire:
		return true
	}
	return false
}
