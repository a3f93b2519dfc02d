package main_test

import (
	"encoding/json"
	"os/user"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
)

type changes struct {
	Tenant      string
	DryRun      bool
	Changes     []struct{ What, Was, Becomes string }
	Outcome     string
	ExecutionID string
}

// changed runs an act with --json, and returns its changes as lines.
func (b *books) changed(args ...string) (lines []string, c changes) {
	b.Helper()
	require.NoError(b, json.Unmarshal([]byte(b.ok(append(args, "--json")...)), &c))
	for _, l := range c.Changes {
		lines = append(lines, l.What+": "+l.Was+" -> "+l.Becomes)
	}
	return lines, c
}

// tried runs an act dry first, which writes nothing and says the same.
func (b *books) tried(args ...string) []string {
	b.Helper()
	before := b.tables()
	would, c := b.changed(append(args, "--dry-run")...)
	require.True(b, c.DryRun)
	require.Equal(b, before, b.tables(), "%v has written", args)
	lines, c := b.changed(args...)
	require.False(b, c.DryRun)
	require.Equal(b, would, lines, "%v does what it said that it would", args)
	return lines
}

func TestSetLimit_ChangesWhatIsGivenAlone(t *testing.T) {
	t.Parallel()
	filled(t, func(t *testing.T, b *books) {
		set := func(args ...string) []string {
			return b.tried(append([]string{"tenant", "set-limit", "acme", "--reason", "larger plan", "--actor", "lena"}, args...)...)
		}
		require.Equal(t, []string{"day cost limit: none -> 250.123456789"}, set("--window", "day", "--cost", "250.123456789"))
		require.Equal(t, []string{"month tokens limit: none -> 5000000"}, set("--window", "month", "--tokens", "5000000"))
		require.Equal(t, []string{"week cost of agent chat limit: none -> 3.00"}, set("--window", "week", "--agent", "chat", "--cost", "3"))
		require.Equal(t, []string{"week calls of agent chat limit: none -> 9"}, set("--window", "week", "--agent", "chat", "--calls", "9"))
		require.Equal(t, []string{"week cost of agent chat limit: 3.00 -> none"}, set("--window", "week", "--agent", "chat", "--cost", "none"))
		require.Equal(t, []string{"enforcement: hard -> soft"}, set("--enforcement", "soft"))
		budget, err := tenant.BudgetFor(t.Context(), b.db, tenant.ID("acme"))
		require.NoError(t, err)
		require.Equal(t, tenant.Limits{
			DailyCost: tenant.USD("250.123456789"), MonthlyCost: tenant.USD("1000"), MonthlyTokens: tenant.Count(5_000_000),
			Also: []tenant.Limit{{Window: tenant.Week, Agent: "chat", Calls: tenant.Count(9)}},
		}, budget.Limits)
		history := b.ok("tenant", "history", "acme")
		require.Equal(t, 6, strings.Count(history, "lena"))
		require.Contains(t, history, "larger plan")

		for _, c := range []struct{ args, says string }{
			{"acme --window day --cost 1", "--reason"},
			{"acme --reason x", "nothing is to change"},
			{"acme --reason x --cost 5", "--window is missing"},
			{"acme --reason x --window fortnight --cost 5", "fortnight"},
			{"acme --reason x --window day --cost abc", "--cost"},
			{"acme --reason x --window day --cost=-5", "--cost"},
			{"acme --reason x --window day --cost 0.0000000001", "--cost"},
			{"acme --reason x --window day --cost 1e400", "--cost"},
			{"acme --reason x --window day --tokens 1.5", "--tokens"},
			{"acme --reason x --window day --cost 2000", "MonthlyCost, $1000.00, so it would never matter; give --allow-larger if it is meant"},
			{"acme --reason x --enforcement harsh", "harsh"},
		} {
			before := b.tables()
			require.Contains(t, b.fails(2, append([]string{"tenant", "set-limit"}, strings.Fields(c.args)...)...), c.says, c.args)
			require.Equal(t, before, b.tables(), c.args)
		}
		require.Contains(t, b.fails(4, "set-limit", "new", "--reason", "x", "--window", "day", "--cost", "1"), `no tenant "new"`)
		require.Equal(t, []string{"tenant: none -> new", "day cost limit: none -> 1.00"}, b.made("set-limit", "new", "--create", "--reason", "x", "--window", "day", "--cost", "1"))
	})
}

// made are the lines of an act that makes a tenant, without those of what it inherits.
func (b *books) made(args ...string) (lines []string) {
	for _, l := range b.tried(args...) {
		if strings.HasPrefix(l, "tenant") || strings.Contains(l, "limit") {
			lines = append(lines, l)
		}
	}
	return lines
}

func TestSuspend_AndResume(t *testing.T) {
	t.Parallel()
	filled(t, func(t *testing.T, b *books) {
		require.Equal(t, []string{"suspended: no -> yes"}, b.tried("tenant", "suspend", "acme", "--reason", "overdue"))
		require.ErrorIs(t, tenant.CheckBudget(t.Context(), b.db, tenant.ID("acme")), tenant.ErrTenantSuspended)
		require.Empty(t, b.tried("suspend", "acme", "--reason", "overdue"))
		require.Contains(t, b.ok("suspend", "acme", "--reason", "overdue"), "nothing changes")
		require.Equal(t, []string{"suspended: yes -> no"}, b.tried("resume", "acme", "--reason", "paid"))
		b.fails(4, "suspend", "nobody", "--reason", "x")
		b.fails(2, "suspend", "acme")
		require.Contains(t, b.fails(2, "suspend", "acme", "--reason", strings.Repeat("x", 256)), "255")
	})
}

func TestRename_GivesATenantAnotherID(t *testing.T) {
	t.Parallel()
	filled(t, func(t *testing.T, b *books) {
		require.Equal(t, []string{"tenant: acme -> acme-inc"}, b.tried("tenant", "rename", "acme", "acme-inc", "--reason", "merger"))
		require.Regexp(t, `(?m)^0\.01000001 `, b.ok("usage", "acme-inc", "--period", "all"))
		for _, dry := range [][]string{nil, {"--dry-run"}} {
			require.Contains(t, b.fails(4, append([]string{"rename", "acme", "other", "--reason", "x"}, dry...)...), `no tenant "acme"`)
			r := run(t, b.env, append([]string{"rename", "acme-inc", "evil", "--reason", "x"}, dry...)...)
			require.NotZero(t, r.code)
			require.Contains(t, r.problems, `there is a tenant "evil" already`)
		}

		type Shop struct {
			ID   uint
			Slug string
		}
		require.NoError(t, b.db.AutoMigrate(&Shop{}))
		require.NoError(t, b.Register(&Shop{}, tenant.WithKey("Slug"), tenant.WithBudget()))
		require.NoError(t, b.db.Create(&Shop{Slug: "corner"}).Error)
		for _, dry := range [][]string{nil, {"--dry-run"}} {
			require.Contains(t, b.fails(2, append([]string{"rename", "corner", "shop", "--reason", "x"}, dry...)...), "belongs to shops 1; change the record's own key")
		}
		require.Contains(t, b.ok("show", "corner"), "Record       shops 1\n")
	})
}

func TestTopUp_RaisesALimitUntilItsWindowEnds(t *testing.T) {
	t.Parallel()
	filled(t, func(t *testing.T, b *books) {
		require.Equal(t, []string{"month cost limit: 1000.00 -> 1050.50", "month cost left: 1000.00 -> 1050.50"},
			b.tried("tenant", "top-up", "acme", "--window", "month", "--cost", "50.5", "--reason", "bought", "--key", "invoice-1"))
		again, _ := b.changed("top-up", "acme", "--window", "month", "--cost", "50.5", "--reason", "bought", "--key", "invoice-1")
		require.Empty(t, again)
		for _, c := range []struct{ args, says string }{
			{"acme --reason x --window month", "nothing is added"},
			{"acme --reason x --cost 5", "--window is missing"},
			{"acme --reason x --window month --cost none", "nothing to add"},
			{"acme --reason x --window week --cost 5", "no weekly cost limit is in force"},
			{"acme --window month --cost 5", "--reason"},
		} {
			require.Contains(t, b.fails(2, append([]string{"tenant", "top-up"}, strings.Fields(c.args)...)...), c.says, c.args)
		}
		b.fails(4, "top-up", "nobody", "--reason", "x", "--window", "month", "--cost", "5")
	})
}

func TestCreditAndDebit_AreExactAndBookedOnce(t *testing.T) {
	t.Parallel()
	filled(t, func(t *testing.T, b *books) {
		require.Equal(t, []string{"month cost spent: 0.00 -> -5.000000001", "month cost left: 1000.00 -> 1005.000000001"},
			b.tried("tenant", "credit", "acme", "5.000000001", "--reason", "outage"))
		require.Equal(t, []string{
			"month cost spent: 0.00 -> 7.25", "month cost left: 1000.00 -> 992.75",
			"month cost spent of acme: -5.000000001 -> 2.249999999", "month cost left of acme: 1005.000000001 -> 997.750000001",
		}, b.tried("debit", "acme-support", "7.25", "--reason", "set-up fee", "--key", "fee-1", "--tag", "kind=fee", "--agent", "sales"))
		for _, dry := range [][]string{nil, {"--dry-run"}} {
			lines, c := b.changed(append([]string{"debit", "acme-support", "7.25", "--reason", "set-up fee", "--key", "fee-1"}, dry...)...)
			require.Empty(t, lines)
			require.Equal(t, string(tenant.AlreadySettled), c.Outcome)
			require.NotEmpty(t, c.ExecutionID)
		}
		require.Contains(t, b.ok("debit", "acme-support", "7.25", "--reason", "x", "--key", "fee-1"), "It was booked before with this key")
		me, err := user.Current()
		require.NoError(t, err)
		var e tenant.Execution
		require.NoError(t, tenant.Executions(t.Context(), b.db, tenant.ID("acme-support")).Where("status = 'adjusted'").Take(&e).Error)
		require.Equal(t, []string{me.Username, "set-up fee", "sales", "fee", "7.25"}, []string{e.Actor, e.Reason, e.Agent, e.Tags["kind"], e.Charge().String()})

		require.Contains(t, b.fails(1, "credit", "acme-support", "1", "--reason", "x", "--key", "fee-1"), "fee-1")
		for _, c := range []struct{ args, says string }{
			{"acme abc --reason x", "amount"},
			{"acme 0 --reason x", "zero"},
			{"acme --reason x -- -5", "negative"},
			{"acme 0.0000000001 --reason x", "amount"},
			{"acme 5", "--reason"},
			{"acme --reason x", "<amount>"},
			{"acme 5 --reason x --tag novalue", "novalue"},
		} {
			require.Contains(t, b.fails(2, append([]string{"credit"}, strings.Fields(c.args)...)...), c.says, c.args)
		}
		b.fails(4, "credit", "nobody", "5", "--reason", "x")
		b.fails(4, "credit", "nobody", "5", "--reason", "x", "--dry-run")
	})
}
