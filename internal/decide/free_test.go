package decide_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
)

// tokenless is a reserve of a fixed cost and of no tokens.
func tokenless(n int, cost int64) *decide.Op {
	return with(ask(n, cost), func(op *decide.Op) { op.Base.Tokens = 0 })
}

func TestReserve_ANeedOfZeroPassesEveryLimitThatIsNotZero(t *testing.T) {
	t.Parallel()

	type limits = []book.Limit
	const granted, wait, exceeded, noPrice = decide.Granted, decide.Wait, decide.Exceeded, decide.NoPrice
	for _, c := range []struct {
		rule               string
		enforcement        book.Enforcement
		limits             limits
		spent, held        int64 // cost
		ops                []*decide.Op
		want               []decide.Code
		tokens, heldTokens int64
	}{
		{rule: "with everything spent to the nano", limits: limits{costs(day, 100)}, spent: 100, ops: []*decide.Op{ask(1, 0), ask(2, 1)}, want: codes{granted, exceeded}},
		{rule: "after an overrun of one nano", limits: limits{costs(day, 100)}, spent: 101, ops: []*decide.Op{ask(1, 0), ask(2, 1)}, want: codes{granted, exceeded}},
		{rule: "after an overrun of much", limits: limits{costs(day, 100), costs(month, 100), costs(dayA, 1), costs(dayM, 1)}, spent: 9999, ops: []*decide.Op{ask(1, 0)}, want: codes{granted}},
		{rule: "under a limit cut below what is held", limits: limits{costs(day, 10)}, held: 40, ops: []*decide.Op{ask(1, 0), ask(2, 1)}, want: codes{granted, wait}},
		{rule: "past those who wait", limits: limits{costs(day, 100)}, held: 60, ops: []*decide.Op{ask(1, 50), ask(2, 0), ask(3, 1)}, want: codes{wait, granted, wait}},
		{rule: "past those who wait, without waiting itself", limits: limits{costs(day, 100)}, held: 60, ops: []*decide.Op{ask(1, 50), impatient(2, 0)}, want: codes{wait, granted}},
		{rule: "of tokens after an overrun", limits: limits{tokens(day, 5)}, tokens: 9, ops: []*decide.Op{tokenless(1, 30), ask(2, 30)}, want: codes{granted, exceeded}},
		{rule: "of tokens past those who wait for tokens", limits: limits{tokens(day, 5), costs(day, 900)}, heldTokens: 5, ops: []*decide.Op{ask(1, 30), tokenless(2, 30)}, want: codes{wait, granted}},
		{rule: "of tokens, but not of the cost that others wait for", limits: limits{tokens(day, 5), costs(day, 50)}, held: 40, heldTokens: 5, ops: []*decide.Op{ask(1, 30), tokenless(2, 5), tokenless(3, 0)}, want: codes{wait, wait, granted}},
		{rule: "of all but the call itself", limits: limits{calls(day, 1)}, spent: 9, ops: []*decide.Op{tokenless(1, 0)}, want: codes{exceeded}},

		{rule: "but not a limit of zero", limits: limits{costs(day, 100), costs(month, 0)}, ops: []*decide.Op{ask(1, 0)}, want: codes{exceeded}},
		{rule: "but not a limit of zero after an overrun", limits: limits{costs(day, 0)}, spent: 5, ops: []*decide.Op{ask(1, 0)}, want: codes{exceeded}},
		{rule: "but not a token limit of zero", limits: limits{tokens(day, 0)}, ops: []*decide.Op{tokenless(1, 5)}, want: codes{exceeded}},
		{rule: "unless the price is not known", limits: limits{costs(day, 100)}, spent: 101, ops: []*decide.Op{unpriced(ask(1, 0))}, want: codes{noPrice}},
	} {
		for _, whose := range []string{"its own", "one above", "the root's", "the ledger's default"} {
			t.Run(c.rule+", "+whose, func(t *testing.T) {
				t.Parallel()

				db := newDatabase(t)
				own := db.tenant(acme, "acme", book.None)
				limited := own
				switch whose {
				case "one above":
					limited = db.tenant(group, "group", book.None)
					own.Parent = group
				case "the root's":
					limited = db.tenant(book.Root, "root", book.None)
					limited.Inherit = false
				}
				spent := settle(91, c.spent)
				spent.Exec.Charged.Tokens = c.tokens
				db.codes(tokenless(91, 0), spent)
				hold := tokenless(92, c.held)
				hold.Base.Tokens = c.heldTokens
				if c.held+c.heldTokens > 0 {
					db.codes(hold)
				}
				own.Enforcement, limited.Enforcement = book.Hard, book.Hard
				if whose == "the ledger's default" {
					db.defaults.Limits = c.limits
				} else {
					limited.Limits = c.limits
				}
				require.Equal(t, c.want, db.codes(c.ops...))
			})
		}
	}
}

func TestReserve_OutputThatCostsTakesOnlyRoomThatNobodyWaitsFor(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		rule        string
		spent, held int64
		ahead       []*decide.Op
		behind      []*decide.Op
		output      int64
	}{
		{rule: "all of it where it fits", spent: 20, output: 70},
		{rule: "what is left", spent: 60, output: 40},
		{rule: "nothing after an overrun", spent: 130, output: 0},
		{rule: "nothing of what is waited for", spent: 10, held: 40, ahead: []*decide.Op{ask(1, 60)}, output: 0},
		{rule: "its share of what others want too", spent: 20, behind: []*decide.Op{ask(3, 1)}, output: 40},
		{rule: "all that those leave who want nothing", spent: 20, behind: []*decide.Op{ask(3, 0), ask(4, 0)}, output: 70},
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()

			db := newDatabase(t)
			acme := db.tenant(acme, "acme", book.None, costs(day, 100))
			db.codes(ask(91, 0), settle(91, c.spent))
			if c.held > 0 {
				db.codes(ask(92, c.held))
			}
			acme.Enforcement = book.Hard
			ops := append(append(c.ahead, flexible(2, 0, 0, 70)), c.behind...)
			out := db.run(ops...)[len(c.ahead)]
			require.Equal(t, decide.Granted, out.Code)
			require.Equal(t, c.output, out.Output)
			require.Equal(t, c.output, out.Exec.Held.Cost)
		})
	}
}

func TestReserve_OutputThatIsFreeIsNotShortenedForALimitOfCost(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard, costs(day, 100))
	db.codes(ask(91, 60), settle(91, 160))
	free := with(flexible(1, 0, 5, 500), func(op *decide.Op) { op.OutCost = 0 })
	out := db.run(free)[0]
	require.Equal(t, decide.Granted, out.Code)
	require.EqualValues(t, 500, out.Output)
	require.Nil(t, out.Limit)
}

func TestReserve_SoftNamesNoLimitOfWhichNothingIsNeeded(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	tenant := db.tenant(acme, "acme", book.Soft, costs(day, 100))
	db.codes(ask(91, 60), settle(91, 160))
	require.Nil(t, db.run(ask(1, 0))[0].Limit)
	require.NotNil(t, db.run(ask(2, 1))[0].Limit)
	tenant.Limits = []book.Limit{costs(day, 0)}
	require.Equal(t, inForce(costs(day, 0)), *db.run(ask(3, 0))[0].Limit, "a limit of zero would have refused it")
}

func TestReserve_WhatIsFreeStaysFreeWhenItsBatchIsDecidedAgain(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard, costs(day, 100))
	db.codes(ask(91, 60), settle(91, 101))
	require.Equal(t, codes{decide.Granted}, db.codes(ask(1, 0)))
	db.now = db.now.Add(time.Minute)
	require.Equal(t, codes{decide.Granted, decide.Settled}, db.codes(ask(1, 0), settle(1, 0)))
}
