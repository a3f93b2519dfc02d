package decide_test

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/period"
)

// justify holds the outcome of a reserve to the promises, by the sums before it: never over a limit, exceeded only by
// what is spent, waiting only for what is held or for whoever is ahead.
func (m *model) justify(op *decide.Op, limits []bound, waiting map[place]bool, out *decide.Outcome) {
	least := needs(op, op.MinOutput)
	if out.Code == decide.Granted {
		require.Equal(m.t, needs(op, out.Output), out.Exec.Held, "the hold of a grant is not what its output needs")
		require.GreaterOrEqual(m.t, out.Output, op.MinOutput)
		require.LessOrEqual(m.t, out.Output, op.MaxOutput)
	}
	for _, l := range limits {
		spent, held := m.used(l.tenant, l.Scope)
		unspent := l.Max - l.Of(spent)
		switch out.Code {
		case decide.Granted:
			if l.free(least) && (unspent < l.Of(held) || waiting[l.place()]) {
				m.free++
			}
			require.LessOrEqual(m.t, l.Of(out.Exec.Held), max(unspent-l.Of(held), 0), "over the limit %+v", l)
		case decide.Wait:
			require.True(m.t, l.Of(least) <= unspent || l.free(least), "waits for what is spent")
		}
		if out.Limit == nil || *out.Limit != l.Limit || out.Tenant.ID != l.tenant || out.Code == decide.NoPrice {
			continue
		}
		require.Equal(m.t, l.Of(least), out.Requested)
		require.Equal(m.t, spent, out.Balance.Spent)
		require.Equal(m.t, held, out.Balance.Held)
		if out.Code == decide.Exceeded {
			require.True(m.t, out.Requested > unspent || l.Max == 0, "exceeded although running calls may leave room")
		} else {
			require.True(m.t, out.Requested > unspent-l.Of(held) || waiting[l.place()], "waits for nothing")
			require.False(m.t, l.free(least), "nothing was to wait for room")
		}
	}
	if out.Code == decide.Wait || out.Code == decide.Exceeded {
		require.NotNil(m.t, out.Limit)
		require.Contains(m.t, limits, bound{out.Tenant.ID, *out.Limit})
	}
}

// check compares the executions and the present windows with those of the database.
func (m *model) check() {
	require.Len(m.t, m.db.executions, len(m.executions))
	for _, e := range m.executions {
		got := m.db.executions[book.ExecutionKey{Tenant: e.Tenant, ID: e.ID}]
		want := got
		want.Status, want.AdmittedAt, want.DeadlineAt, want.SettledAt = e.Status, e.AdmittedAt, e.DeadlineAt, e.SettledAt
		want.Held, want.Charged, want.BilledModel, want.IdempotencyKey = e.Held, e.Charged, e.BilledModel, e.IdempotencyKey
		want.Ancestors = e.Ancestors
		require.Equal(m.t, want, got)
	}
	for tenant, t := range m.db.tenants {
		for i := range t.Balances {
			b := &t.Balances[i]
			if b.Window == period.Total || b.Start.Equal(b.End) {
				continue
			}
			start, end := m.window(b.Scope, m.scopes(tenant)[b.Scope])
			require.Equal(m.t, [2]time.Time{start, end}, [2]time.Time{b.Start, b.End}, "%v", b.Scope)
			spent, held := m.used(tenant, b.Scope)
			require.Equal(m.t, [2]book.Amount{spent, held}, [2]book.Amount{b.Spent, b.Held}, "%v", b.Scope)
		}
	}
}
