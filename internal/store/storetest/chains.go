package storetest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/period"
)

// under puts a tenant under another one.
func (b *Books) under(id, parent book.ID) {
	b.Helper()
	b.Exec(`UPDATE llm_tenants SET parent = $1 WHERE id = $2`, parent.String(), id.String())
}

// root makes the root.
func (b *Books) root(limits ...book.Limit) {
	b.Helper()
	b.Exec(`INSERT INTO llm_tenants (id, tenant_id, enforcement, inherit) VALUES ($1, 'root', 'hard', $2)`, book.Root.String(), false)
	b.Anchor(book.Root)
	b.Limit(book.Root, limits...)
}

func chainsAreRead(b *Books) {
	team, department, company, other := b.Tenant("team"), b.Tenant("department"), b.Tenant("company"), b.Tenant("other")
	b.under(team, department)
	b.under(department, company)
	b.under(other, company)
	limit := book.Limit{Scope: book.Scope{Window: period.Day}, Metric: book.Cost, Max: 7}
	b.Limit(company, limit)
	for _, want := range []*book.Want{{Tenants: []book.ID{team}}, {Keys: []string{"team"}}} {
		s := b.Read(want)
		require.Len(b, s.Tenants, 3)
		require.Equal(b, department, s.Tenants[team].Parent)
		require.Equal(b, company, s.Tenants[department].Parent)
		require.Equal(b, []book.Limit{limit}, s.Tenants[company].Limits)
		require.Len(b, s.Tenants[company].Balances, 3)
		require.Zero(b, s.Tenants[company].Parent)
	}
	require.Len(b, b.Read(&book.Want{Tenants: []book.ID{company}}).Tenants, 1)

	b.under(company, team) // a circle, which nothing makes, does not hang
	require.Len(b, b.Read(&book.Want{Tenants: []book.ID{team}}).Tenants, 3)
}

// A session may remember whom it has met, but not where they stood.
func movesAreSeen(b *Books) {
	team, company, other := b.Tenant("team"), b.Tenant("company"), b.Tenant("other")
	locked := func(want *book.Want) (ids []book.ID) {
		for id := range b.Read(want).Tenants {
			ids = append(ids, id)
		}
		return ids
	}
	byKey, byID := &book.Want{Keys: []string{"team"}}, &book.Want{Tenants: []book.ID{team}}
	both := func(want ...book.ID) {
		b.Helper()
		require.ElementsMatch(b, want, locked(byKey))
		require.ElementsMatch(b, want, locked(byID))
	}
	both(team)
	b.under(team, company)
	both(team, company)
	b.under(company, other)
	both(team, company, other)
	b.under(team, other)
	require.Subset(b, locked(byKey), []book.ID{team, other}) // the one it has left may still be there
	both(team, other)

	b.Exec(`UPDATE llm_tenants SET tenant_id = 'club' WHERE id = $1`, team.String())
	require.Empty(b, locked(byKey))
	b.Exec(`UPDATE llm_tenants SET tenant_id = 'team' WHERE id = $1`, company.String())
	require.ElementsMatch(b, []book.ID{company, other}, locked(byKey))
	require.Equal(b, map[string]book.ID{"team": company, "other": other}, b.Read(byKey).Keys)

	late := ID() // a row that comes after its first call was asked for
	require.Empty(b, locked(&book.Want{Tenants: []book.ID{late}}))
	b.Exec(`INSERT INTO llm_tenants (id, tenant_id, parent) VALUES ($1, 'late', $2)`, late.String(), other.String())
	b.Anchor(late)
	require.ElementsMatch(b, []book.ID{late, other}, locked(&book.Want{Tenants: []book.ID{late}}))
}

func rootIsAboveAll(b *Books) {
	id := b.Tenant("acme")
	require.Len(b, b.Read(&book.Want{Tenants: []book.ID{id}}).Tenants, 1)
	b.root()
	for _, want := range []*book.Want{{Tenants: []book.ID{id}}, {Keys: []string{"acme"}}, {Tenants: []book.ID{book.NoTenant}}} {
		s := b.Read(want)
		require.Len(b, s.Tenants, 2)
		require.Len(b, s.Tenants[book.Root].Balances, 3)
	}
}

func chainsAreBooked(b *Books) {
	team, company, other := b.Tenant("team"), b.Tenant("company"), b.Tenant("other")
	b.under(team, company)
	b.root(book.Limit{Scope: book.Scope{Window: period.Day}, Metric: book.Cost, Max: 10})
	spent := func(id book.ID) int64 {
		return b.Int(`SELECT day_spent_cost FROM llm_balances WHERE tenant = $1`, id.String())
	}
	held := func(id book.ID) int64 {
		return b.Int(`SELECT day_held_cost FROM llm_balances WHERE tenant = $1`, id.String())
	}
	first, second := Reserve(team, book.Amount{Cost: 6}), Reserve(team, book.Amount{Cost: 6})
	outcomes, err := Decide(b.Context(), b.Session, first, second)
	require.NoError(b, err)
	require.Equal(b, decide.Granted, outcomes[0].Code)
	require.Equal(b, []book.ID{company, book.Root}, outcomes[0].Exec.Ancestors)
	require.Equal(b, decide.Wait, outcomes[1].Code)
	require.Equal(b, book.Root, outcomes[1].Tenant.ID)
	require.Equal(b, []int64{6, 6, 6, 0}, []int64{held(team), held(company), held(book.Root), held(other)})

	b.under(team, other) // while the call runs
	settle := Settle(first, book.Amount{Cost: 4, Tokens: 3, Calls: 1})
	require.Equal(b, []decide.Code{decide.Moved}, b.Decide(settle), "the company is not locked")
	settle.Exec.Ancestors = outcomes[0].Exec.Ancestors
	require.Equal(b, []decide.Code{decide.Settled}, b.Decide(settle))
	require.Equal(b, []int64{4, 4, 4, 0}, []int64{spent(team), spent(company), spent(book.Root), spent(other)})
	require.Equal(b, []int64{0, 0, 0, 0}, []int64{held(team), held(company), held(book.Root), held(other)})
	for _, id := range []book.ID{company, book.Root} {
		require.EqualValues(b, 4, b.Int(`SELECT cost FROM llm_usage WHERE tenant = $1 AND below`, id.String()))
	}
	require.EqualValues(b, 1, b.Int(`SELECT count(*) FROM llm_usage WHERE tenant = $1`, team.String()))

	next := Reserve(team, book.Amount{Cost: 1})
	outcomes, err = Decide(b.Context(), b.Session, next)
	require.NoError(b, err)
	require.Equal(b, []book.ID{other, book.Root}, outcomes[0].Exec.Ancestors)
}

func newLimitCounts(b *Books) {
	team, company := b.Tenant("team"), b.Tenant("company")
	b.under(team, company)
	call := func(agent, model string, cost int64) (reserve *decide.Op) {
		reserve = Reserve(team, book.Amount{Cost: cost, Charge: 2 * cost, Tokens: 2})
		reserve.Exec.Agent, reserve.Exec.Model = agent, model
		outcomes, err := Decide(b.Context(), b.Session, reserve)
		require.NoError(b, err)
		require.Equal(b, decide.Granted, outcomes[0].Code)
		reserve.Exec.Ancestors = outcomes[0].Exec.Ancestors
		return reserve
	}
	for _, model := range []string{"large", "small"} {
		require.Equal(b, []decide.Code{decide.Settled}, b.Decide(Settle(call("support", model, 9), book.Amount{Cost: 5, Charge: 7, Tokens: 3, Calls: 1})))
	}
	require.Equal(b, []decide.Code{decide.Settled}, b.Decide(Settle(call("sales", "large", 9), book.Amount{Cost: 100, Tokens: 3, Calls: 1})))
	call("support", "large", 9)
	require.Equal(b, []decide.Code{decide.Released}, b.Decide(Release(call("support", "large", 50))))
	long := call("support", "large", 9)
	require.Equal(b, []decide.Code{decide.Settled}, b.Decide(Settle(long, book.Amount{Cost: 1, Charge: 3, Tokens: 3, Calls: 1})))
	old := now.Format(stamp) // of another window
	b.Exec(`UPDATE llm_executions SET admitted_at = $1 WHERE id = $2`, old, long.Exec.ID.String())
	b.Exec(`INSERT INTO llm_usage (tenant, hour, agent, model, billed_model, below, cost, charge, tokens, calls)
		SELECT tenant, $1, agent, model, billed_model, below, 1, 3, 3, 1 FROM llm_usage WHERE agent = 'support' AND model = 'large'`,
		now.Truncate(time.Hour).Format(stamp))
	b.Exec(`UPDATE llm_usage SET cost = cost - 1, charge = charge - 3, tokens = tokens - 3, calls = calls - 1
		WHERE agent = 'support' AND model = 'large' AND hour <> $1`, now.Truncate(time.Hour).Format(stamp))

	for _, id := range []book.ID{team, company} {
		for _, window := range []period.Window{period.Week, period.Hour, period.Total} {
			scope := book.Scope{Window: window, Agent: "support", Model: "large"}
			b.Limit(id, book.Limit{Scope: scope, Metric: book.Cost, Max: 25 + 1<<20})
		}
	}
	refused := Reserve(team, book.Amount{Cost: 1 << 20})
	outcomes, err := Decide(b.Context(), b.Session, refused)
	require.NoError(b, err)
	require.Equal(b, decide.Granted, outcomes[0].Code, "another model")

	for _, id := range []book.ID{team, company} {
		s := b.Read(&book.Want{Tenants: []book.ID{id}})
		for _, window := range []period.Window{period.Week, period.Hour, period.Total} {
			balance := s.Tenants[id].Balance(book.Scope{Window: window, Agent: "support", Model: "large"})
			require.False(b, balance.New, "it is stored with the first batch")
			want := book.Amount{Cost: 5, Charge: 7, Tokens: 3, Calls: 1}
			if window == period.Total {
				want = book.Amount{Cost: 6, Charge: 10, Tokens: 6, Calls: 2}
			}
			require.Equal(b, want, balance.Spent, "%v", window)
			require.Equal(b, book.Amount{Cost: 9, Charge: 18, Tokens: 2, Calls: 1}, balance.Held, "%v", window)
		}
	}
	over := Reserve(team, book.Amount{Cost: 1, Charge: 1<<20 + 2})
	over.Exec.Model = "large"
	outcomes, err = Decide(b.Context(), b.Session, over)
	require.NoError(b, err)
	require.Equal(b, decide.Wait, outcomes[0].Code)
}
