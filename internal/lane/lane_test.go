package lane

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, m *memory) *Set {
	s := New(Config{
		Store: m, Processes: m, Lanes: 1, Lease: time.Hour, Log: slog.New(slog.DiscardHandler),
		Decide:  decide.Config{Zone: func(string) *time.Location { return time.UTC }},
		Prepare: func(context.Context) error { return nil },
	})
	require.NoError(t, s.Start(t.Context()))
	t.Cleanup(func() {
		m.set(func() { m.before = nil }) // what it refuses is never given up
		require.NoError(t, s.Close(context.Background()))
	})
	return s
}

func reserve(model string) decide.Op {
	op := decide.Op{Kind: decide.Reserve, Key: "acme", Base: book.Amount{Calls: 1}, Patient: true, Lifetime: time.Hour}
	op.Exec.ID, op.Exec.Model = book.NewID(), model
	return op
}

func result(t *testing.T, task *Task) decide.Outcome {
	t.Helper()
	select {
	case <-task.Done():
	case <-time.After(time.Minute):
		require.FailNow(t, "the task has no outcome")
	}
	out, err := task.Outcome()
	require.NoError(t, err)
	return out
}

func settle(e *book.Execution) decide.Op {
	op := decide.Op{Kind: decide.Settle, Exec: *e}
	op.Exec.Status, op.Exec.Charged = book.Succeeded, book.Amount{Calls: 1}
	return op
}

func TestFailure_ThatNoRetryCuresHitsItsOwnOperationOnly(t *testing.T) {
	t.Parallel()
	m := newMemory(1000)
	entered, gate := make(chan struct{}), make(chan struct{})
	m.before = func(_ *book.Want, e *book.Effects) error {
		if e.Insert[0].Model == "first" {
			close(entered)
			<-gate // the others queue up meanwhile, and come as one batch
		}
		for _, x := range e.Insert {
			if x.Model == "poison" {
				return errFatal
			}
		}
		return nil
	}
	s := open(t, m)
	first := s.Submit(reserve("first"), "acme")
	<-entered
	var good []*Task
	var poison *Task
	for i := range 33 {
		if i == 20 {
			poison = s.Submit(reserve("poison"), "acme")
			continue
		}
		good = append(good, s.Submit(reserve("m"), "acme"))
	}
	close(gate)
	result(t, first)
	for _, task := range good {
		require.Equal(t, decide.Granted, result(t, task).Code)
	}
	<-poison.Done()
	_, err := poison.Outcome()
	require.ErrorIs(t, err, errFatal)
	require.EqualValues(t, 33, m.held())
}

func TestConflict_IsTriedAgain(t *testing.T) {
	t.Parallel()
	m := newMemory(1)
	tries := 0
	m.before = func(*book.Want, *book.Effects) error {
		if tries++; tries < 5 {
			return errConflict
		}
		return nil
	}
	require.Equal(t, decide.Granted, result(t, open(t, m).Submit(reserve("m"), "acme")).Code)
	require.Equal(t, 5, tries)
}

func TestLockedTenant_IsSetAsideInOrderWhileOthersGoOn(t *testing.T) {
	t.Parallel()
	m := newMemory(3)
	m.locked = true
	s := open(t, m)
	var stuck []*Task
	for range 5 {
		stuck = append(stuck, s.Submit(reserve("m"), "acme"))
	}
	for range 20 {
		free := reserve("m")
		free.Key = ""
		require.Equal(t, decide.Granted, result(t, s.Submit(free, "")).Code, "a call without a tenant is not held up")
	}
	for _, task := range stuck {
		require.NotEqual(t, settled, task.state.Load())
	}
	m.set(func() { m.locked = false })
	for _, task := range stuck[:3] {
		require.Equal(t, decide.Granted, result(t, task).Code, "first in, first out")
	}
	for _, task := range stuck[3:] {
		require.Eventually(t, func() bool {
			h := task.Hindrance()
			return h != nil && h.Outcome.Code == decide.Wait
		}, time.Minute, time.Millisecond)
		require.True(t, task.Withdraw())
	}
}

func TestWithdrawnTask_HoldsNothing(t *testing.T) {
	t.Parallel()
	m := newMemory(10)
	entered, gate := make(chan struct{}), make(chan struct{})
	m.before = func(*book.Want, *book.Effects) error {
		m.before = nil
		close(entered)
		<-gate
		return nil
	}
	s := open(t, m)
	task := s.Submit(reserve("m"), "acme")
	<-entered
	require.True(t, task.Withdraw(), "while its transaction commits")
	require.False(t, task.Withdraw())
	close(gate)
	require.Eventually(t, func() bool { return maps.Equal(m.statuses(), map[book.Status]int{book.Cancelled: 1}) }, time.Minute, time.Millisecond)
	require.EqualValues(t, 0, m.held())
}

func TestWithdrawnTask_ThatMayHaveBeenCommittedLeavesATombstone(t *testing.T) {
	t.Parallel()
	m := newMemory(10)
	entered, gate := make(chan struct{}), make(chan struct{})
	m.before = func(*book.Want, *book.Effects) error {
		m.before = nil
		close(entered)
		<-gate
		return errUnavailable
	}
	s := open(t, m)
	task := s.Submit(reserve("m"), "acme")
	<-entered
	require.True(t, task.Withdraw())
	close(gate)
	require.Eventually(t, func() bool { return maps.Equal(m.statuses(), map[book.Status]int{book.Cancelled: 1}) }, time.Minute, time.Millisecond,
		"so that what was sent and comes late fails on the primary key")
}

func TestWithdrawnTask_ThatFoundNoTenantLeavesNothing(t *testing.T) {
	t.Parallel()
	m := newMemory(10)
	entered, gate := make(chan struct{}), make(chan struct{})
	m.before = func(*book.Want, *book.Effects) error {
		m.before = nil
		close(entered)
		<-gate
		return errUnavailable
	}
	s := open(t, m)
	stranger := reserve("m")
	stranger.Key = "stranger"
	first := reserve("first")
	s.lanes[0].mu.Lock() // so that both come in one batch
	tasks := []*Task{
		{op: stranger, route: "stranger", since: time.Now(), done: make(chan struct{})},
		{op: first, route: "acme", since: time.Now(), done: make(chan struct{})},
	}
	s.lanes[0].queue = append(s.lanes[0].queue, tasks...)
	s.lanes[0].mu.Unlock()
	s.lanes[0].wake <- struct{}{}
	<-entered
	require.True(t, tasks[0].Withdraw())
	close(gate)
	require.Equal(t, decide.Granted, result(t, tasks[1]).Code)
	require.Equal(t, map[book.Status]int{book.Running: 1}, m.statuses())
}

func TestWaiting_IsFirstInFirstOut(t *testing.T) {
	t.Parallel()
	m := newMemory(1)
	s := open(t, m)
	holder := result(t, s.Submit(reserve("m"), "acme")).Exec
	var queue []*Task
	for range 20 {
		queue = append(queue, s.Submit(reserve("m"), "acme"))
	}
	require.Eventually(t, func() bool { return queue[19].Hindrance() != nil }, time.Minute, time.Millisecond)
	for i, task := range queue {
		require.Equal(t, decide.Released, result(t, s.Submit(decide.Op{Kind: decide.Release, Exec: *holder}, "acme")).Code)
		holder = result(t, task).Exec
		for _, behind := range queue[i+1:] {
			require.Equal(t, pending, behind.state.Load(), "nobody overtakes")
		}
	}
}

func TestImpatientReserve_IsAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	s := open(t, newMemory(1))
	result(t, s.Submit(reserve("m"), "acme"))
	op := reserve("m")
	op.Patient = false
	require.Equal(t, decide.Wait, result(t, s.Submit(op, "acme")).Code)
}

func TestDatabaseAway_RefusesReservesAndKeepsSettles(t *testing.T) {
	t.Parallel()
	m := newMemory(10)
	s := open(t, m)
	held := result(t, s.Submit(reserve("m"), "acme")).Exec
	var tries atomic.Int64
	m.set(func() { m.before = func(*book.Want, *book.Effects) error { tries.Add(1); return errAway } })
	tried := func() { // as a whole: the try that is under way may be of others
		n := tries.Load() + 2
		require.Eventually(t, func() bool { return tries.Load() >= n }, time.Minute, time.Millisecond)
	}
	refused := s.Submit(reserve("m"), "acme")
	tried()
	settling := s.Submit(settle(held), "acme")
	<-refused.Done()
	_, err := refused.Outcome()
	var away *fault.UnreachableError
	require.ErrorAs(t, err, &away)
	require.NotEqual(t, settled, settling.state.Load())

	tried()
	late := s.Submit(reserve("m"), "acme")
	<-late.Done()
	_, err = late.Outcome()
	require.ErrorAs(t, err, &away, "also one that comes while the settle is being tried")

	undone := s.After(refused, release(refused))
	require.Equal(t, decide.Released, result(t, s.After(late, release(late))).Code, "what no attempt has begun needs no database")
	require.NotEqual(t, settled, undone.state.Load())
	m.set(func() { m.before = nil })
	require.Equal(t, decide.Settled, result(t, settling).Code)
	require.Equal(t, decide.Released, result(t, undone).Code)
	require.Zero(t, m.held())
	require.Equal(t, map[book.Status]int{book.Succeeded: 1, book.Cancelled: 1}, m.statuses())
}

// release is what whoever asked for a reserve does that it got no answer to: it does not know the tenant.
func release(reserve *Task) decide.Op {
	return decide.Op{Kind: decide.Release, Key: "acme", Exec: book.Execution{ID: reserve.op.Exec.ID}}
}

func TestRefusals_RideWithTheNextBatchThatWrites(t *testing.T) {
	t.Parallel()
	m := newMemory(1)
	s := open(t, m)
	made := result(t, s.Submit(reserve("made"), "acme")).Exec
	require.Equal(t, decide.Settled, result(t, s.Submit(settle(made), "acme")).Code)
	written := len(m.sizes)
	for range 7 {
		require.Equal(t, decide.Exceeded, result(t, s.Submit(reserve("m"), "acme")).Code)
	}
	refusals := func() (n int64) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for key, sum := range m.hours {
			if key.Model == "m" {
				n += sum.Refusals
			}
		}
		return n
	}
	require.Len(t, m.sizes, written, "a refusal writes nothing by itself")
	require.Zero(t, refusals())
	m.set(func() { m.tenant.Limits = nil })
	require.Equal(t, decide.Granted, result(t, s.Submit(reserve("other"), "acme")).Code)
	require.EqualValues(t, 7, refusals())
}

func TestBatch_IsBoundedAndSharedByAllThatWait(t *testing.T) {
	t.Parallel()
	m := newMemory(1 << 40)
	entered, gate := make(chan struct{}), make(chan struct{})
	m.before = func(_ *book.Want, e *book.Effects) error {
		if e.Insert[0].Model == "first" {
			close(entered)
			<-gate
		}
		return nil
	}
	s := open(t, m)
	tasks := []*Task{s.Submit(reserve("first"), "acme")}
	<-entered
	for range 2500 {
		tasks = append(tasks, s.Submit(reserve("m"), "acme"))
	}
	close(gate)
	for _, task := range tasks {
		result(t, task)
	}
	require.LessOrEqual(t, slices.Max(m.sizes), maxBatch)
	require.Equal(t, []int{1, maxBatch, maxBatch, 2500 - 2*maxBatch}, m.sizes)
}

func TestClose_DoesWhatIsQueuedAndAnswersTheRest(t *testing.T) {
	t.Parallel()
	m := newMemory(1000)
	s := open(t, m)
	var tasks []*Task
	for i := range 500 {
		tasks = append(tasks, s.Submit(reserve(fmt.Sprint(i)), "acme"))
	}
	require.NoError(t, s.Close(t.Context()))
	for _, task := range tasks {
		require.Equal(t, decide.Granted, result(t, task).Code)
	}
	late := s.Submit(reserve("late"), "acme")
	<-late.Done()
	_, err := late.Outcome()
	require.ErrorIs(t, err, fault.ErrClosed)
	require.ErrorIs(t, s.Start(t.Context()), fault.ErrClosed)
	require.True(t, s.Ended())
}

func TestClose_ThatRunsOutOfTimeAnswersEverybody(t *testing.T) {
	t.Parallel()
	m := newMemory(1000)
	s := open(t, m)
	m.set(func() { m.before = func(*book.Want, *book.Effects) error { return errUnavailable } })
	task := s.Submit(settle(&book.Execution{Tenant: m.tenant.ID, ID: book.NewID()}), "acme")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Close(ctx), context.DeadlineExceeded)
	<-task.Done()
	_, err := task.Outcome()
	require.ErrorIs(t, err, fault.ErrClosed)
}
