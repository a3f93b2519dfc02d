package lane

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
)

// granted makes a call whose row the store has seen at a place, and has the store refuse what does not find it there running.
func granted(t *testing.T) (*memory, *Set, *book.Execution) {
	m := newMemory(10)
	s := open(t, m)
	out := result(t, s.Submit(reserve("m"), "acme"))
	require.Equal(t, decide.Granted, out.Code)
	e := *out.Exec
	e.Place = book.Place{5: 1}
	m.set(func() {
		m.batches = nil
		m.before = func(want *book.Want, _ *book.Effects) error {
			for _, known := range want.Known {
				if m.executions[book.ExecutionKey{Tenant: known.Tenant, ID: known.ID}].Status != book.Running {
					return errConflict
				}
			}
			return nil
		}
	})
	return m, s, &e
}

func TestKnownExecution_IsNotLookedUp(t *testing.T) {
	t.Parallel()
	m, s, e := granted(t)
	require.Equal(t, decide.Settled, result(t, s.Submit(settle(e), "acme")).Code)
	m.set(func() {
		require.Len(t, m.batches, 1)
		require.Empty(t, m.batches[0].Executions)
		require.Len(t, m.batches[0].Known, 1)
	})
	require.EqualValues(t, 0, m.held())
	require.Equal(t, map[book.Status]int{book.Succeeded: 1}, m.statuses())
}

// Nothing was done by an attempt that did not find what it knew, so what the next one finds done is somebody else's doing.
func TestKnownExecution_ThatIsOtherwiseIsLookedUp(t *testing.T) {
	t.Parallel()
	for name, end := range map[book.Status][2]decide.Code{
		book.Succeeded: {decide.AlreadySettled, decide.AlreadySettled},
		book.Cancelled: {decide.AlreadyReleased, decide.AlreadyReleased},
	} {
		for i, op := range []func(*book.Execution) decide.Op{
			settle, func(e *book.Execution) decide.Op { return decide.Op{Kind: decide.Release, Exec: *e} },
		} {
			m, s, e := granted(t)
			m.set(func() {
				key := book.ExecutionKey{Tenant: e.Tenant, ID: e.ID}
				other := m.executions[key]
				other.Status, other.SettledAt = name, m.now
				m.executions[key] = other
			})
			require.Equal(t, end[i], result(t, s.Submit(op(e), "acme")).Code, "%s %d", name, i)
			m.set(func() {
				require.Len(t, m.batches, 2)
				require.Empty(t, m.batches[1].Known)
				require.Len(t, m.batches[1].Executions, 1)
			})
		}
	}
}
