package lane

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/fault"
)

// refusing makes a store refuse to write the end of some executions.
func refusing(err error, models ...string) func(*book.Want, *book.Effects) error {
	return func(_ *book.Want, e *book.Effects) error {
		for _, u := range e.Update {
			for _, model := range models {
				if u.Model == model {
					return err
				}
			}
		}
		return nil
	}
}

func TestSettle_ThatTheDatabaseRefusesIsTriedUntilItIsTakenAndItsNeighboursAreNot(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]error{
		"fatal": errFatal, "not migrated": errNotMigrated, "conflict": errConflict, "locked": errLocked, "unavailable": errUnavailable,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMemory(1000)
			s := open(t, m)
			var held []*book.Execution
			for i := range 40 {
				held = append(held, result(t, s.Submit(reserve(fmt.Sprint(i%20)), "acme")).Exec)
			}
			m.set(func() { m.before = refusing(refusal, "7", "13") })
			var good, poison []*Task
			for i, e := range held {
				op := settle(e)
				if i >= 20 {
					op = decide.Op{Kind: decide.Release, Exec: *e}
				}
				if e.Model == "7" || e.Model == "13" {
					poison = append(poison, s.Submit(op, "acme"))
				} else {
					good = append(good, s.Submit(op, "acme"))
				}
			}
			for _, task := range good {
				require.Contains(t, []decide.Code{decide.Settled, decide.Released}, result(t, task).Code)
			}
			require.Eventually(t, func() bool { return len(s.Stuck()) == len(poison) }, time.Minute, time.Millisecond)
			for _, task := range poison {
				require.Equal(t, pending, task.state.Load())
				require.ErrorIs(t, task.Hindrance().Err, refusal)
			}
			m.set(func() { m.before = nil })
			for _, task := range poison {
				require.Contains(t, []decide.Code{decide.Settled, decide.Released}, result(t, task).Code)
			}
			require.Eventually(t, func() bool { return len(s.Stuck()) == 0 }, time.Minute, time.Millisecond)
			require.Equal(t, map[book.Status]int{book.Succeeded: 20, book.Cancelled: 20}, m.statuses())
			require.Zero(t, m.held())
		})
	}
}

func TestSettle_ThatIsStuckIsTriedEverLessOften(t *testing.T) {
	t.Parallel()
	l := New(Config{Store: newMemory(10)}).lanes[0] // which does not run
	l.stuck.heads = []*Task{{}}
	var last time.Duration
	for range 12 {
		before := time.Now()
		l.scheduleRetry(0)
		pause := l.stuck.retryAt.Sub(before)
		require.GreaterOrEqual(t, l.stuck.wait, last)
		require.GreaterOrEqual(t, pause, l.stuck.wait/2)
		last = l.stuck.wait
	}
	require.Equal(t, maxRetry, last)
	before := time.Now()
	l.scheduleRetry(2 * time.Second)
	require.GreaterOrEqual(t, l.stuck.retryAt.Sub(before), 10*time.Second, "whoever takes long is tried the less often")
	l.stuck.heads = nil
	l.scheduleRetry(0)
	require.True(t, l.stuck.retryAt.IsZero())
}

func TestStuckSettle_IsNotOvertakenByWhatComesAfterIt(t *testing.T) {
	t.Parallel()
	m := newMemory(10)
	s := open(t, m)
	held := result(t, s.Submit(reserve("m"), "acme")).Exec
	m.set(func() { m.before = refusing(errFatal, "m") })
	first := s.Submit(settle(held), "acme")
	require.Eventually(t, func() bool { return len(s.Stuck()) == 1 }, time.Minute, time.Millisecond)
	m.set(func() {
		m.before = func(_ *book.Want, e *book.Effects) error { // as if only the settle were refused
			for _, u := range e.Update {
				if u.Status == book.Succeeded {
					return errFatal
				}
			}
			return nil
		}
	})
	second := s.Submit(decide.Op{Kind: decide.Release, Exec: *held}, "acme")
	require.Eventually(t, func() bool { return second.Hindrance() != nil }, time.Minute, time.Millisecond)
	require.Equal(t, map[book.Status]int{book.Running: 1}, m.statuses())
	m.set(func() { m.before = nil })
	require.Equal(t, decide.Settled, result(t, first).Code)
	require.Equal(t, decide.AlreadySettled, result(t, second).Code)
}

func TestReserve_IsRefusedWhileItsBookingWouldBe(t *testing.T) {
	t.Parallel()
	m := newMemory(1000)
	s := open(t, m)
	held := result(t, s.Submit(reserve("m"), "acme")).Exec
	m.set(func() { m.before = refusing(errFatal, "m") })
	settling := s.Submit(settle(held), "acme")
	require.Eventually(t, func() bool { return len(s.Stuck()) == 1 }, time.Minute, time.Millisecond)

	for range 3 {
		task := s.Submit(reserve("m"), "acme")
		<-task.Done()
		_, err := task.Outcome()
		var refused *fault.RefusedError
		require.ErrorAs(t, err, &refused)
		require.ErrorIs(t, err, errFatal)
	}
	other := result(t, s.Submit(reserve("other"), "acme"))
	require.Equal(t, decide.Granted, other.Code, "what could be booked is admitted")
	require.Equal(t, book.Running, other.Exec.Status)
	require.Equal(t, map[book.Status]int{book.Running: 2}, m.statuses())
	require.EqualValues(t, 2, m.held())

	m.set(func() { m.before = nil })
	require.Equal(t, decide.Settled, result(t, settling).Code)
	require.Eventually(t, func() bool { return len(s.Stuck()) == 0 }, time.Minute, time.Millisecond)
	m.set(func() { m.rehearsals = 0 })
	require.Equal(t, decide.Granted, result(t, s.Submit(reserve("m"), "acme")).Code)
	require.Zero(t, m.rehearsals, "nothing is in doubt any more")
}

func TestReserve_OfWhoeverIsNotInDoubtIsNotRehearsed(t *testing.T) {
	t.Parallel()
	var d doubts
	task := &Task{lane: open(t, newMemory(1)).lanes[0], op: decide.Op{Exec: book.Execution{Tenant: book.NewID()}}}
	task.hindrance.Store(&Hindrance{Err: errFatal})
	require.False(t, d.of(task.op.Exec.Tenant))
	d.add(task)
	d.add(task)
	require.True(t, d.of(task.op.Exec.Tenant))
	require.True(t, d.of(book.NewID()), "nothing was booked since: it may be everybody")
	d.general.Store(false)
	require.True(t, d.of(task.op.Exec.Tenant))
	require.False(t, d.of(book.NewID()))
	d.remove(task)
	require.False(t, d.of(task.op.Exec.Tenant))
	require.False(t, d.some.Load())
}

func TestClose_GivesUpWhatIsStuckWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	m := newMemory(10)
	s := open(t, m)
	held := result(t, s.Submit(reserve("m"), "acme")).Exec
	m.set(func() { m.before = refusing(errFatal, "m") })
	task, after := s.Submit(settle(held), "acme"), s.Submit(decide.Op{Kind: decide.Release, Exec: *held}, "acme")
	require.Eventually(t, func() bool { return len(s.Stuck()) == 1 && after.Hindrance() != nil }, time.Minute, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Close(ctx), context.DeadlineExceeded)
	for _, task := range []*Task{task, after} {
		<-task.Done()
		_, err := task.Outcome()
		require.ErrorIs(t, err, fault.ErrClosed)
	}
}

func TestClose_BooksWhatWasStuck(t *testing.T) {
	t.Parallel()
	m := newMemory(10)
	s := open(t, m)
	held := result(t, s.Submit(reserve("m"), "acme")).Exec
	m.set(func() { m.before = refusing(errFatal, "m") })
	task := s.Submit(settle(held), "acme")
	require.Eventually(t, func() bool { return len(s.Stuck()) == 1 }, time.Minute, time.Millisecond)
	closed := make(chan error)
	go func() { closed <- s.Close(context.Background()) }()
	require.Eventually(t, s.draining, time.Minute, time.Millisecond)
	m.set(func() { m.before = nil })
	require.NoError(t, <-closed)
	require.Equal(t, decide.Settled, result(t, task).Code)
}

// What is recorded was made, and is booked; an adjustment is given up at once, because whoever makes it is told.
func TestRecord_ThatTheDatabaseRefusesIsTriedUntilItIsTakenAndAnAdjustmentIsNot(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]error{"fatal": errFatal, "not migrated": errNotMigrated} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMemory(10)
			s := open(t, m)
			m.set(func() {
				m.before = func(_ *book.Want, e *book.Effects) error {
					for _, i := range e.Insert {
						if i.Status != book.Running {
							return refusal
						}
					}
					return nil
				}
			})
			record := func(status book.Status) decide.Op {
				op := reserve("m")
				op.Kind, op.Exec.Status, op.Exec.Charged = decide.Record, status, book.Amount{Calls: 1}
				return op
			}
			kept, told := s.Submit(record(book.Succeeded), "acme"), s.Submit(record(book.Adjusted), "acme")
			<-told.Done()
			_, err := told.Outcome()
			require.ErrorIs(t, err, refusal)
			require.Eventually(t, func() bool { return len(s.Stuck()) == 1 }, time.Minute, time.Millisecond)
			require.ErrorIs(t, kept.Hindrance().Err, refusal)
			require.Equal(t, pending, kept.state.Load())
			m.set(func() { m.before = nil })
			require.Equal(t, decide.Settled, result(t, kept).Code)
			require.Equal(t, map[book.Status]int{book.Succeeded: 1}, m.statuses())
		})
	}
}
