package storetest

import (
	"math"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/period"
)

func tenantsByKeyAndID(b *Books) {
	byKey, byID, both, other := b.Tenant("by key"), b.Tenant("by id"), b.Tenant("both"), b.Tenant("other")
	gone := ID()

	s := b.Read(&book.Want{Keys: []string{"by key", "both", "nobody's"}, Tenants: []book.ID{byID, both, gone}})
	require.Len(b, s.Tenants, 3)
	for _, id := range []book.ID{byKey, byID, both} {
		require.Equal(b, id, s.Tenants[id].ID)
		require.Len(b, s.Tenants[id].Balances, 3)
	}
	require.Equal(b, "by key", s.Tenants[byKey].Key)
	require.Equal(b, map[string]book.ID{"by key": byKey, "by id": byID, "both": both}, s.Keys)
	require.Nil(b, s.Tenants[other])
	require.Empty(b, s.Busy)

	s = b.Read(&book.Want{Keys: []string{"nobody's"}})
	require.Empty(b, s.Tenants)
	require.Empty(b, s.Keys)
	require.Empty(b, b.Read(&book.Want{}).Tenants)

	unknown := Reserve(book.ID{}, book.Amount{})
	unknown.Key = "nobody's"
	require.Equal(b, []decide.Code{decide.Unknown}, b.Decide(unknown))
}

func anchorMakesTenant(b *Books) {
	id := ID()
	b.Exec(`INSERT INTO llm_tenants (id, tenant_id) VALUES ($1, 'acme')`, id.String())
	b.Exec(`INSERT INTO llm_balances (tenant, window_unit) VALUES ($1, 'week')`, id.String())
	s := b.Read(&book.Want{Keys: []string{"acme"}})
	require.Empty(b, s.Tenants)
	require.Empty(b, s.Busy, "nobody has it, so waiting for it would not end")
	b.Anchor(id)
	require.Len(b, b.Read(&book.Want{Keys: []string{"acme"}}).Tenants, 1)
}

func noTenantWorks(b *Books) {
	reserve := Reserve(book.NoTenant, book.Amount{Cost: 5, Tokens: 5})
	require.Equal(b, []decide.Code{decide.Granted}, b.Decide(reserve))
	require.Equal(b, []decide.Code{decide.Settled}, b.Decide(Settle(reserve, book.Amount{Cost: 3, Tokens: 4, Calls: 1})))
	b.Conserved(book.NoTenant)
	require.EqualValues(b, 3, b.Int(`SELECT spent_cost FROM llm_balances WHERE tenant = $1 AND window_unit = 'total'`, book.NoTenant.String()))
}

func defaultsAreRead(b *Books) {
	id := b.Tenant("acme")
	require.Empty(b, b.Read(&book.Want{}).Defaults)

	limit := book.Limit{Scope: book.Scope{Window: period.Hour, Agent: "support"}, Metric: book.Calls, Max: 1}
	b.Exec(`INSERT INTO llm_tenants (id, enforcement, counts, inherit, time_zone) VALUES ($1, 'hard', 'charge', $2, 'Asia/Kolkata')`, book.Defaults.String(), false)
	b.Limit(book.Defaults, limit)
	for _, want := range []*book.Want{{}, {Tenants: []book.ID{id}}, {Keys: []string{"acme"}}} {
		s := b.Read(want)
		require.Equal(b, book.Tenant{ID: book.Defaults, Enforcement: book.Hard, Counts: book.CountsCharge, Zone: "Asia/Kolkata", Limits: []book.Limit{limit}}, s.Defaults)
		require.Nil(b, s.Tenants[book.Defaults])
	}
	require.Equal(b, []decide.Code{decide.Granted, decide.Wait}, b.Decide(Reserve(id, book.Amount{}), Reserve(id, book.Amount{})))
}

func settingsRoundTrip(b *Books) {
	id := ID()
	b.Exec(`INSERT INTO llm_tenants (id, tenant_id, name, owner_type, owner_id, enforcement, counts, inherit, time_zone, suspended_at, deleted_at)
		VALUES ($1, 'acme', 'Acme', 'organizations', '17', 'soft', 'cost', $2, 'America/St_Johns', $3, NULL)`, id.String(), false, epoch)
	b.Anchor(id)
	limits := []book.Limit{
		{Scope: book.Scope{Window: period.Day}, Metric: book.Cost, Max: math.MaxInt64},
		{Scope: book.Scope{Window: period.Day}, Metric: book.Tokens, Max: 0},
		{Scope: book.Scope{Window: period.Day, Agent: "a"}, Metric: book.Calls, Max: 1 << 62},
		{Scope: book.Scope{Window: period.Hour, Model: "m"}, Metric: book.Calls, Max: 3},
		{Scope: book.Scope{Window: period.Month, Agent: "a", Model: "m"}, Metric: book.Calls, Max: 4},
		{Scope: book.Scope{Window: period.Total}, Metric: book.Calls, Max: 5},
		{Scope: book.Scope{Window: period.Week}, Metric: book.Calls, Max: 6},
	}
	reversed := slices.Clone(limits)
	slices.Reverse(reversed)
	b.Limit(id, reversed...)

	got := *b.Read(&book.Want{Tenants: []book.ID{id}}).Tenants[id]
	got.Balances, got.Stored = nil, book.Anchored{}
	require.Equal(b, book.Tenant{
		ID: id, Key: "acme", OwnerType: "organizations", OwnerID: "17", Enforcement: book.Soft, Counts: book.CountsCost, Zone: "America/St_Johns",
		Suspended: true, Limits: limits,
	}, got)

	b.Exec(`UPDATE llm_tenants SET tenant_id = NULL, owner_type = NULL, owner_id = NULL, inherit = $1, suspended_at = NULL, deleted_at = $2
		WHERE id = $3`, true, epoch, id.String())
	s := b.Read(&book.Want{Tenants: []book.ID{id}, Keys: []string{"acme", ""}})
	got = *s.Tenants[id]
	got.Balances, got.Limits, got.Stored = nil, nil, book.Anchored{}
	require.Equal(b, book.Tenant{ID: id, Enforcement: book.Soft, Counts: book.CountsCost, Inherit: true, Zone: "America/St_Johns", Deleted: true}, got)
	require.Empty(b, s.Keys)
}

func balancesRoundTrip(b *Books) {
	id, other := b.Tenant("acme"), b.Tenant("other")
	kolkata := time.FixedZone("", 5*3600+1800)
	balances := []book.Balance{
		{Scope: book.Anchor, Spent: book.Amount{Cost: math.MaxInt64, Charge: math.MinInt64, Tokens: math.MaxInt64, Calls: math.MaxInt64}},
		{
			Scope: book.Scope{Window: period.Day}, Start: now, End: now.Add(time.Microsecond),
			Spent: book.Amount{Cost: math.MinInt64, Tokens: -1}, Held: book.Amount{Cost: 1, Charge: 4, Tokens: 2, Calls: 3},
		},
		{
			Scope: book.Scope{Window: period.Month}, Start: time.Date(2026, 1, 1, 0, 0, 0, 0, kolkata),
			End: time.Date(2026, 1, 1, 23, 59, 59, 999999000, kolkata),
		},
		{
			Scope: book.Scope{Window: period.Total, Agent: "a", Model: "m"}, New: true,
			Held: book.Amount{Cost: math.MaxInt64, Tokens: math.MinInt64, Calls: 1 << 53},
		},
		{Scope: book.Scope{Window: period.Week, Model: "m"}, New: true, Start: time.Unix(0, 0).UTC(), End: time.Unix(0, 0).UTC()},
	}
	t := &book.Tenant{ID: id, Balances: balances}
	rows := []book.BalanceRow{t.Row(book.Month), t.Row(balances[3].Scope), t.Row(balances[4].Scope)}
	for range 2 { // inserted, then updated
		require.NoError(b, b.Write(book.Effects{Balances: rows}))
		balances[3].New, balances[4].New = false, false
		got := b.Read(&book.Want{Tenants: []book.ID{id}}).Tenants[id]
		require.Len(b, got.Balances, len(balances))
		for _, want := range balances {
			balance := *got.Balance(want.Scope)
			require.True(b, want.Start.Equal(balance.Start), "%v %v", want.Start, balance.Start)
			require.True(b, want.End.Equal(balance.End), "%v %v", want.End, balance.End)
			require.Equal(b, want.Start.IsZero(), balance.Start.IsZero())
			require.Equal(b, want.End.IsZero(), balance.End.IsZero())
			balance.Start, balance.End = want.Start, want.End
			require.Equal(b, want, balance)
		}
		balances[0].Spent, balances[1].Start = book.Amount{}, now.Truncate(time.Second)
	}
	untouched := b.Read(&book.Want{Tenants: []book.ID{other}}).Tenants[other].Balance(book.Scope{Window: period.Day})
	require.Equal(b, book.Amount{}, untouched.Spent)
	require.True(b, untouched.Start.Equal(untouched.End), "not used yet")
	require.True(b, untouched.Start.Equal(time.Unix(0, 0)))
}

func nowIsMicroseconds(b *Books) {
	before := time.Now().Add(-time.Minute)
	first := b.Read(&book.Want{}).Now
	second := b.Read(&book.Want{}).Now
	require.Equal(b, first, first.Truncate(time.Microsecond))
	require.True(b, first.After(before))
	require.False(b, second.Before(first))
}

func processesAreRead(b *Books) {
	alive, other := ID(), ID()
	for _, id := range []book.ID{alive, other} {
		b.Exec(`INSERT INTO llm_processes (id, started_at, beat_at, lease_ms) VALUES ($1, $2, $3, $4)`,
			id.String(), epoch, now.Format(stamp), 15001)
	}
	s := b.Read(&book.Want{Processes: []book.ID{alive, ID()}})
	require.Len(b, s.Processes, 1)
	p := s.Processes[alive]
	require.True(b, now.Equal(p.BeatAt))
	require.Equal(b, book.Process{ID: alive, BeatAt: p.BeatAt, Lease: 15001 * time.Millisecond}, p)
	require.Empty(b, b.Read(&book.Want{}).Processes)
}
