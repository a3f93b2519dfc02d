package lane

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
)

func TestAmbiguousCommit_IsLookedUpAndNotDoneTwice(t *testing.T) {
	t.Parallel()
	m := newMemory(10)
	var lost int
	m.after = func(*book.Want, *book.Effects) error {
		if lost++; lost%2 == 1 {
			return errUnavailable // it was committed, and the answer got lost
		}
		return nil
	}
	s := open(t, m)
	out := result(t, s.Submit(reserve("m"), "acme"))
	require.Equal(t, decide.Granted, out.Code)
	require.EqualValues(t, 1, m.held())
	lost = 0
	again := result(t, s.Submit(settle(out.Exec), "acme"))
	require.Equal(t, decide.Settled, again.Code, "what a retry finds done is its own doing")
	require.Equal(t, map[book.Status]int{book.Succeeded: 1}, m.statuses())
	require.EqualValues(t, 0, m.held())
}

func TestAmbiguousRelease_AndRecord_SayWhatTheirFirstTryDid(t *testing.T) {
	t.Parallel()
	m := newMemory(10)
	s := open(t, m)
	out := result(t, s.Submit(reserve("m"), "acme"))
	once := func() {
		m.set(func() {
			m.after = func(*book.Want, *book.Effects) error { m.after = nil; return errUnavailable }
		})
	}
	once()
	require.Equal(t, decide.Released, result(t, s.Submit(decide.Op{Kind: decide.Release, Exec: *out.Exec}, "acme")).Code)
	once()
	record := reserve("m")
	record.Kind, record.Exec.Status, record.Exec.Charged = decide.Record, book.Succeeded, book.Amount{Calls: 1}
	require.Equal(t, decide.Settled, result(t, s.Submit(record, "acme")).Code)
	require.Equal(t, map[book.Status]int{book.Cancelled: 1, book.Succeeded: 1}, m.statuses())
}

func TestLeftReserve_IsFoundByTheSettleAfterIt(t *testing.T) {
	t.Parallel()
	for name, committed := range map[string]bool{"committed": true, "not committed": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMemory(10)
			entered, gate := make(chan struct{}), make(chan struct{})
			m.before = func(*book.Want, *book.Effects) error {
				m.before = nil
				close(entered)
				<-gate
				if committed {
					return nil
				}
				return errUnavailable
			}
			s := open(t, m)
			task := s.Submit(reserve("m"), "acme")
			<-entered
			require.True(t, task.Leave())
			require.False(t, task.Withdraw())
			op := settle(&book.Execution{ID: task.op.Exec.ID})
			op.Key = "acme"
			first := s.After(task, op) // before it can be known which tenant the reserve has found
			close(gate)
			require.Equal(t, decide.Settled, result(t, first).Code)
			require.Equal(t, decide.AlreadySettled, result(t, s.After(first, op)).Code)
			require.Equal(t, map[book.Status]int{book.Succeeded: 1}, m.statuses())
			require.Zero(t, m.held())
		})
	}
}

func TestSecondSettle_ThatIsTriedAgainWithAnotherTaskSaysThatItCameSecond(t *testing.T) {
	t.Parallel()
	for _, committed := range []bool{true, false} {
		t.Run(fmt.Sprint("committed ", committed), func(t *testing.T) {
			t.Parallel()
			m := newMemory(10)
			s := open(t, m)
			exec := result(t, s.Submit(reserve("m"), "acme")).Exec
			require.Equal(t, decide.Settled, result(t, s.Submit(settle(exec), "acme")).Code)
			once := func(*book.Want, *book.Effects) error {
				m.before, m.after = nil, nil
				return errUnavailable
			}
			m.set(func() {
				if committed {
					m.after = once
				} else {
					m.before = once
				}
			})
			batch := []*Task{
				{op: settle(exec), route: "acme", since: time.Now(), done: make(chan struct{})},
				{op: reserve("m"), route: "acme", since: time.Now(), done: make(chan struct{})},
			}
			s.lanes[0].mu.Lock() // so that both come in one batch, which the reserve makes one that writes
			s.lanes[0].queue = append(s.lanes[0].queue, batch...)
			s.lanes[0].mu.Unlock()
			s.lanes[0].wake <- struct{}{}
			require.Equal(t, decide.AlreadySettled, result(t, batch[0]).Code)
			require.Equal(t, decide.Granted, result(t, batch[1]).Code)
		})
	}
}

func TestCorrection_ThatIsTriedAgainSaysThatItCorrected(t *testing.T) {
	t.Parallel()
	m := newMemory(10)
	s := open(t, m)
	exec := result(t, s.Submit(reserve("m"), "acme")).Exec
	m.set(func() { m.now = m.now.Add(2 * time.Hour) })
	require.Equal(t, decide.Expired, result(t, s.Submit(decide.Op{Kind: decide.Expire, Exec: *exec}, "acme")).Code)
	m.set(func() {
		m.after = func(*book.Want, *book.Effects) error { m.after = nil; return errUnavailable }
	})
	require.Equal(t, decide.Corrected, result(t, s.Submit(settle(exec), "acme")).Code)
}
