package tenant_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/sqldb"
)

func TestCredit_IsARowOfItsOwnThatBalancesCount(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		place(t, db, "company", "", "20")
		place(t, db, acme, "company", "10")
		require.NoError(t, call(t, ledger, acme, "10"))
		require.ErrorIs(t, call(t, ledger, acme, "1"), tenant.ErrBudgetExceeded)

		ctx := tenant.ContextWithActor(t.Context(), "support@host")
		s, err := ledger.Credit(ctx, acme, tenant.USD("4"), "outage of 12 May")
		require.NoError(t, err)
		require.Equal(t, tenant.Settled, s.Outcome)
		require.Equal(t, []string{"0", "-4"}, []string{s.Cost.String(), s.Charge.String()}, "no provider bills anything for it")
		require.Equal(t, []string{"6", "6"}, []string{chargeToday(t, db, acme), chargeToday(t, db, tenant.ID("company"), tenant.WithDescendants())})
		require.Equal(t, "10", costToday(t, db, acme))
		require.NoError(t, call(t, ledger, acme, "1"), "the credit makes room")
		_, err = ledger.Debit(ctx, acme, tenant.USD("2.5"), "a fee", tenant.WithAgent("support"))
		require.NoError(t, err)
		require.Equal(t, []string{"9.5", "11"}, []string{chargeToday(t, db, acme), costToday(t, db, acme)})
		n, err := tenant.ExecutionCountToday(t.Context(), db, acme)
		require.NoError(t, err)
		require.EqualValues(t, 2, n, "it is no call")

		var rows []tenant.Execution
		require.NoError(t, tenant.Executions(t.Context(), db, acme).Where("status = ?", "adjusted").Order("id").Find(&rows).Error)
		require.Len(t, rows, 2)
		require.Equal(t, []string{"support@host", "outage of 12 May", "-4", ""}, []string{rows[0].Actor, rows[0].Reason, rows[0].Charge().String(), rows[0].Agent})
		require.Equal(t, "support", rows[1].Agent)
		requireConservation(t, db)
		found, err := ledger.Verify(t.Context())
		require.NoError(t, err)
		require.Empty(t, found)
	})
}

func TestCredit_OrDebitWithAKeyHappensOnce(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		var wg sync.WaitGroup
		outcomes := make(chan tenant.Outcome, 8)
		for range cap(outcomes) {
			wg.Go(func() {
				s, err := ledger.Debit(t.Context(), acme, tenant.USD("2"), "a fee", tenant.WithIdempotencyKey("fee-1"))
				require.NoError(t, err)
				require.Equal(t, "2", s.Charge.String())
				outcomes <- s.Outcome
			})
		}
		wg.Wait()
		close(outcomes)
		count := map[tenant.Outcome]int{}
		for o := range outcomes {
			count[o]++
		}
		require.Equal(t, map[tenant.Outcome]int{tenant.Settled: 1, tenant.AlreadySettled: 7}, count)
		require.Equal(t, "2", chargeToday(t, db, acme))

		// Whoever has the key is no credit of this amount, and is not taken for one.
		_, err := ledger.Credit(t.Context(), acme, tenant.USD("2"), "a fee given back", tenant.WithIdempotencyKey("fee-1"))
		duplicate := (*tenant.DuplicateError)(nil)
		require.ErrorAs(t, err, &duplicate)
		require.Equal(t, []string{"adjusted", "2"}, []string{duplicate.Status, duplicate.Charge.String()})
		require.NoError(t, call(t, ledger, acme, "1", tenant.WithIdempotencyKey("call-1")))
		_, err = ledger.Debit(t.Context(), acme, tenant.USD("1"), "a fee", tenant.WithIdempotencyKey("call-1"))
		require.ErrorIs(t, err, tenant.ErrDuplicate)
		require.Equal(t, "3", chargeToday(t, db, acme))
	})
}

func TestCredit_AndDebitSayWhichVerbToUse(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "sqlite")
	ledger := openLedger(t, db)
	const useDebit, useCredit = "to charge it, use Debit", "to give it back, use Credit"
	for _, c := range []struct {
		amount       tenant.Money
		what         string
		wantsTheVerb bool
	}{
		{tenant.Money{}, "the amount is none", true},
		{tenant.USD("0"), "the amount is $0.00", true},
		{tenant.USDFrom(decimal.Zero), "the amount is $0.00", true},
		{tenant.USD("-0.25"), `amount "-0.25" is negative`, true},
		{tenant.USDFrom(decimal.RequireFromString("-3e-9")), `amount "-0.000000003" is negative`, true},
		{tenant.USD("x"), `amount "x" is not a number`, false},
		{tenant.USD("0.0000000001"), `amount "0.0000000001" has more than 9 decimals`, false},
		{tenant.USD("1e30"), `amount "1e30" is above the largest amount`, false},
	} {
		_, credit := ledger.Credit(t.Context(), acme, c.amount, "x")
		_, debit := ledger.Debit(t.Context(), acme, c.amount, "x")
		for err, words := range map[error][2]string{credit: {"Credit: ", useDebit}, debit: {"Debit: ", useCredit}} {
			require.ErrorIs(t, err, tenant.ErrInvalidOption)
			require.ErrorContains(t, err, words[0]+c.what)
			require.Equal(t, c.wantsTheVerb, strings.Contains(err.Error(), words[1]), "%v", err)
		}
	}
	for want, do := range map[string]func() error{
		"the reason of Credit is empty": func() error { _, err := ledger.Credit(t.Context(), acme, tenant.USD("1"), ""); return err },
		"the reason of Debit is empty":  func() error { _, err := ledger.Debit(t.Context(), acme, tenant.USD("1"), ""); return err },
		"the idempotency key of TopUp": func() error {
			return ledger.TopUp(t.Context(), acme, tenant.TopUp{Limit: tenant.Limit{Window: tenant.Day, Cost: tenant.USD("1")}, Reason: "x", IdempotencyKey: "a\x00"})
		},
	} {
		err := do()
		require.ErrorIs(t, err, tenant.ErrInvalidOption, want)
		require.ErrorContains(t, err, want)
	}
	require.Equal(t, "0", costToday(t, db, acme), "nothing was booked")
}

func TestTopUp_GivesMoreRoomUntilTheWindowEnds(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		place(t, db, acme, "", "1")
		require.NoError(t, call(t, ledger, acme, "1"))
		require.ErrorIs(t, call(t, ledger, acme, "0.5"), tenant.ErrBudgetExceeded)
		more := tenant.Limit{Window: tenant.Day, Cost: tenant.USD("0.75")}
		key := "invoice-1"
		for range 2 {
			require.NoError(t, ledger.TopUp(t.Context(), acme, tenant.TopUp{Limit: more, Reason: "bought", IdempotencyKey: key}))
		}
		require.ErrorIs(t, call(t, ledger, acme, "0.76"), tenant.ErrBudgetExceeded)
		require.NoError(t, call(t, ledger, acme, "0.5"))
		require.NoError(t, ledger.TopUp(t.Context(), acme, tenant.TopUp{Limit: more, Reason: "bought again"}))
		require.NoError(t, call(t, ledger, acme, "0.76"))

		e, err := tenant.EffectiveBudget(t.Context(), db, acme)
		require.NoError(t, err)
		require.Equal(t, []string{"2.5", "1.5"}, []string{e.Limits[0].Limit.String(), e.Limits[0].TopUps.String()})
		b, err := tenant.BudgetFor(t.Context(), db, acme)
		require.NoError(t, err)
		require.Equal(t, "1", b.Limits.DailyCost.Decimal().String(), "the limit itself stays")
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, acme, func(b *tenant.Budget) error {
			b.Limits.DailyCost = tenant.USD("2")
			return nil
		}))
		status, err := tenant.BudgetStatus(t.Context(), db, acme)
		require.NoError(t, err)
		require.Equal(t, "3.5", status.Limits[0].Limit.String(), "and so does the top-up when it changes")

		var document string
		require.NoError(t, db.Raw(`SELECT CAST(limits AS text) FROM llm_tenants WHERE tenant_id = 'acme'`).Scan(&document).Error)
		limits, err := sqldb.ParseLimits(document)
		require.NoError(t, err)
		for i := range limits.TopUps {
			limits.TopUps[i].Ends = at(t, "2024-01-01T00:00:00Z")
		}
		require.NoError(t, db.Exec(`UPDATE llm_tenants SET limits = ? WHERE tenant_id = 'acme'`, limits.String()).Error)
		require.ErrorIs(t, call(t, ledger, acme, "0.5"), tenant.ErrBudgetExceeded, "it has ended")
		require.NoError(t, ledger.TopUp(t.Context(), acme, tenant.TopUp{Limit: more, Reason: "bought", IdempotencyKey: key}), "in another window")
		require.NoError(t, call(t, ledger, acme, "0.4"))
		var n int64
		require.NoError(t, db.Raw(`SELECT count(*) FROM llm_limits WHERE topup <> ''`).Scan(&n).Error)
		require.EqualValues(t, 1, n, "those that have ended are gone")
	})
}

func TestTopUp_DryRunChecksAndWritesNothing(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		place(t, db, acme, "", "1")
		up := tenant.TopUp{Limit: tenant.Limit{Window: tenant.Day, Cost: tenant.USD("0.75")}, Reason: "bought", DryRun: true}
		require.NoError(t, ledger.TopUp(t.Context(), acme, up))
		e, err := tenant.EffectiveBudget(t.Context(), db, acme)
		require.NoError(t, err)
		require.Equal(t, []string{"1", "0"}, []string{e.Limits[0].Limit.String(), e.Limits[0].TopUps.String()})
		var n int64
		require.NoError(t, tenant.AuditLog(t.Context(), db, acme).Where("action = ?", "TopUp").Count(&n).Error)
		require.Zero(t, n)
		up.Limit.Window = tenant.Week
		require.ErrorContains(t, ledger.TopUp(t.Context(), acme, up), "no weekly cost limit is in force")
	})
}

func TestTopUp_OfAnInheritedLimit(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, call(t, ledger, acme, "1"))
		require.NoError(t, ledger.TopUp(t.Context(), acme, tenant.TopUp{Limit: tenant.Limit{Window: tenant.Total, Cost: tenant.USD("1")}, Reason: "bought"}))
		require.NoError(t, call(t, ledger, acme, "1"))
		require.NoError(t, call(t, ledger, tenant.ID("globex"), "1"))
		require.ErrorIs(t, call(t, ledger, tenant.ID("globex"), "1"), tenant.ErrBudgetExceeded, "nobody else's")
	}, tenant.WithDefaultLimits(tenant.Limits{Also: []tenant.Limit{{Window: tenant.Total, Cost: tenant.USD("1")}}}), tenant.WithDefaultEnforcement(tenant.Hard))
}

func TestTopUp_ThatCannotBeMeant(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "sqlite")
	ledger := openLedger(t, db)
	place(t, db, acme, "", "1")
	err := ledger.TopUp(t.Context(), acme, tenant.TopUp{Limit: tenant.Limit{Window: tenant.Month, Agent: "a", Cost: tenant.USD("1")}, Reason: "x"})
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	require.ErrorContains(t, err, `no monthly cost limit is in force for tenant "acme" of agent "a"`)
	require.ErrorContains(t, ledger.TopUp(t.Context(), acme, tenant.TopUp{Limit: tenant.Limit{Window: tenant.Day}, Reason: "x"}), "it limits nothing")
	require.ErrorContains(t, ledger.TopUp(t.Context(), acme, tenant.TopUp{Limit: tenant.Limit{Window: tenant.Day, Cost: tenant.USD("1")}, Reason: ""}), "the reason of TopUp is empty")
	require.ErrorContains(t, ledger.TopUp(t.Context(), acme, tenant.TopUp{Limit: tenant.Limit{Window: tenant.Day, Cost: tenant.USD("4611686018")}, Reason: "x"}), "above 2^62")
	require.ErrorIs(t, ledger.TopUp(t.Context(), nil, tenant.TopUp{Limit: tenant.Limit{Window: tenant.Day, Cost: tenant.USD("1")}, Reason: "x"}), tenant.ErrNoBudget)
}

// A day of $51 under a month of $3 never matters, whether it is set or topped up.
func TestTopUp_OfALimitThatCannotBiteIsALimitOrderError(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		day := func(usd string) tenant.Limit { return tenant.Limit{Window: tenant.Day, Cost: tenant.USD(usd)} }
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, acme, func(b *tenant.Budget) error {
			b.Limits = tenant.Limits{DailyCost: tenant.USD("1"), MonthlyCost: tenant.USD("3"), DailyTokens: tenant.Count(10)}
			return nil
		}))
		var order *tenant.LimitOrderError
		err := ledger.TopUp(t.Context(), acme, tenant.TopUp{Limit: day("50"), Reason: "bought"})
		require.ErrorAs(t, err, &order)
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		require.EqualError(t, order, "the daily cost limit of $51.00, with the top-up, is more than the monthly cost limit of $3.00, "+
			"so it would never matter; top up the longer one first")
		e, err := tenant.EffectiveBudget(t.Context(), db, acme)
		require.NoError(t, err)
		require.Equal(t, "1", e.Limits[0].Limit.String(), "nothing has changed")

		key := "invoice-5"
		require.NoError(t, ledger.TopUp(t.Context(), acme, tenant.TopUp{Limit: day("2"), Reason: "as much as the month", IdempotencyKey: key}))
		require.ErrorAs(t, ledger.TopUp(t.Context(), acme, tenant.TopUp{Limit: day("0.000000001"), Reason: "a nano-dollar more"}), &order)
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, acme, func(b *tenant.Budget) error {
			b.Limits.MonthlyCost = tenant.USD("2")
			return nil
		}))
		require.NoError(t, ledger.TopUp(t.Context(), acme, tenant.TopUp{Limit: day("2"), Reason: "again", IdempotencyKey: key}), "it was given already")
		require.NoError(t, ledger.TopUp(t.Context(), acme, tenant.TopUp{Limit: tenant.Limit{Window: tenant.Day, Tokens: tenant.Count(1 << 40)}, Reason: "another metric"}))
		require.NoError(t, ledger.TopUp(t.Context(), acme, tenant.TopUp{Limit: tenant.Limit{Window: tenant.Month, Cost: tenant.USD("50")}, Reason: "the month first"}))
		require.NoError(t, ledger.TopUp(t.Context(), acme, tenant.TopUp{Limit: day("49"), Reason: "then the day"}))
	})
}

// An inherited month bounds a day of the tenant's own as well; what was set on purpose can be topped up.
func TestTopUp_ComparesTheLimitsInForce(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		configure := func(limits tenant.Limits) {
			require.NoError(t, tenant.ConfigureBudget(t.Context(), db, acme, func(b *tenant.Budget) error {
				b.Limits = limits
				return nil
			}))
		}
		more := tenant.Limit{Window: tenant.Day, Cost: tenant.USD("6")}
		require.NoError(t, call(t, ledger, tenant.ID("globex"), "0"), "the first call writes the defaults")
		configure(tenant.Limits{DailyCost: tenant.USD("5")})
		var order *tenant.LimitOrderError
		require.ErrorAs(t, ledger.TopUp(t.Context(), acme, tenant.TopUp{Limit: more, Reason: "bought"}), &order)
		configure(tenant.Limits{DailyCost: tenant.USD("5"), MonthlyCost: tenant.USD("4"), AllowLargerShort: true})
		require.NoError(t, ledger.TopUp(t.Context(), acme, tenant.TopUp{Limit: more, Reason: "it was larger before"}))
		configure(tenant.Limits{DailyCost: tenant.USD("5"), MonthlyCost: tenant.USD("500"), Also: []tenant.Limit{{Window: tenant.Total, Cost: tenant.USD("2")}}})
		require.NoError(t, ledger.TopUp(t.Context(), acme, tenant.TopUp{Limit: more, Reason: "credits are not compared"}))
	}, tenant.WithDefaultLimits(tenant.Limits{MonthlyCost: tenant.USD("10")}))
}
