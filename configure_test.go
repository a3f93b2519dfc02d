package tenant_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/glebarez/sqlite"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

func budgetOf(t testing.TB, db *gorm.DB, org tenant.Tenant) tenant.Budget {
	t.Helper()
	b, err := tenant.BudgetFor(t.Context(), db, org)
	require.NoError(t, err)
	return *b
}

func TestConfigureBudget_ChangesWhatItIsAskedToAndNothingElse(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme", tenant.WithLimits(tenant.Limits{DailyCost: tenant.USD("1"), MonthlyCalls: tenant.Count(9)}))
		_, err := ledger.Record(t.Context(), org, tenant.Actual{Cost: tenant.USD("0.25")})
		require.NoError(t, err)
		require.NoError(t, db.Exec(`UPDATE llm_tenants SET limits = '[{"window_unit": "day", "metric": "cost", "amount": 1000000000},
			{"window_unit": "month", "metric": "calls", "amount": 9}, {"window_unit": "day", "agent": "batch", "metric": "cost", "amount": 5}]'
			WHERE tenant_id = 'acme'`).Error)
		batch := []tenant.Limit{{Window: tenant.Day, Agent: "batch", Cost: tenant.USD("0.000000005")}}
		before := rowsOf(t, db)
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, org, func(b *tenant.Budget) error {
			require.Equal(t, tenant.Budget{
				TenantID: "acme", Name: "Organization acme", Inherit: true,
				Limits: tenant.Limits{DailyCost: tenant.USD("1"), MonthlyCalls: tenant.Count(9), Also: batch},
			}, *b)
			b.Name, b.Enforcement, b.Inherit, b.TimeZone, b.Suspended = "Acme Ltd", tenant.Hard, false, "Europe/Berlin", true
			b.Limits = tenant.Limits{DailyCost: tenant.USD("2.000000001"), DailyTokens: tenant.Count(0), Also: b.Limits.Also}
			return nil
		}))
		require.Equal(t, tenant.Budget{
			TenantID: "acme", Name: "Acme Ltd", Enforcement: tenant.Hard, TimeZone: "Europe/Berlin", Suspended: true,
			Limits: tenant.Limits{DailyCost: tenant.USD("2.000000001"), DailyTokens: tenant.Count(0), Also: batch},
		}, budgetOf(t, db, org))
		var limits []string
		require.NoError(t, db.Raw(`SELECT window_unit || '/' || agent || '/' || metric || '=' || amount FROM llm_limits ORDER BY 1`).Scan(&limits).Error)
		require.Equal(t, []string{"day//cost=2000000001", "day//tokens=0", "day/batch/cost=5"}, limits)
		after := rowsOf(t, db)
		for _, table := range []string{"llm_balances", "llm_executions", "llm_usage", "llm_processes"} {
			require.Equal(t, before[table], after[table], "settings and counters are separate")
		}
		require.Len(t, after["llm_tenants"], 1)
	})
}

func TestConfigureBudget_MakesTheTenantThatIsNotThereYet(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Organization{}))
		early := &Organization{Slug: "early", Name: "Early"}
		require.NoError(t, db.Create(early).Error)
		require.NoError(t, ledger.Register(&Organization{}, tenant.WithKey("Slug"), dollar, tenant.WithEnforcement(tenant.Hard)))
		nothing := func(*tenant.Budget) error { return nil }

		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, early, nothing))
		require.Equal(t, tenant.Budget{
			TenantID: "early", Name: "Early", Enforcement: tenant.Hard, Inherit: true, Limits: tenant.Limits{DailyCost: tenant.USD("1")},
		}, budgetOf(t, db, early), "a record's as declared")
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, acme, nothing))
		require.Equal(t, tenant.Budget{TenantID: "acme", Name: "acme", Inherit: true}, budgetOf(t, db, acme), "a plain id's without limits")
		for _, org := range []tenant.Tenant{early, acme} {
			_, err := ledger.Record(t.Context(), org, tenant.Actual{Cost: tenant.USD("0.25")})
			require.NoError(t, err)
			require.EqualValues(t, 250_000_000, ask(t, db, org, tenant.Today).cost)
		}

		err := tenant.ConfigureBudget(t.Context(), db, nil, nothing)
		require.ErrorIs(t, err, tenant.ErrNoBudget)
		err = tenant.ConfigureBudget(t.Context(), db, &Organization{ID: 77, Slug: "ghost"}, nothing)
		require.ErrorIs(t, err, tenant.ErrInvalidTenant, "there is no such record")
		_, err = tenant.BudgetFor(t.Context(), db, tenant.ID("ghost"))
		require.ErrorIs(t, err, tenant.ErrNoBudget)
	})
}

func TestConfigureBudget_TwoAtOnceLoseNothing(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		const callers, each = 16, 8
		known(t, db, "acme")
		inTransactions := callers / 2
		if db.Name() == "sqlite" {
			inTransactions = 1 // a host's writers take the lock from each other until one gives up
		}
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				for range each {
					configure := func(db *gorm.DB) error {
						return tenant.ConfigureBudget(context.Background(), db, acme, func(b *tenant.Budget) error {
							b.Limits.DailyCalls = tenant.Count(b.Limits.DailyCalls.Int64() + 1)
							return nil
						})
					}
					var err error
					if i < inTransactions {
						err = db.Transaction(configure)
					} else {
						err = configure(db)
					}
					if err != nil {
						t.Errorf("configure: %v", err)
					}
				}
			})
		}
		for range 4 { // and calls go on meanwhile
			wg.Go(func() {
				for range 20 {
					if _, err := ledger.Record(context.Background(), acme, tenant.Actual{Cost: tenant.USD("0.01")}); err != nil {
						t.Errorf("record: %v", err)
					}
				}
			})
		}
		wg.Wait()
		require.Equal(t, tenant.Count(callers*each), budgetOf(t, db, acme).Limits.DailyCalls)
		require.EqualValues(t, 80, ask(t, db, acme, tenant.Today).calls)
		requireConservation(t, db)
	})
}

// A host's connections need not wait for a busy database themselves.
func TestConfigureBudget_WaitsForABusySQLite(t *testing.T) {
	t.Parallel()
	db := openAt(t, sqlite.Open(strings.Replace(sqliteDSN(t), "5000", "0", 1)))
	ledger := openLedger(t, db)
	require.NoError(t, ledger.Migrate(t.Context()))
	known(t, db, "acme")
	tx := db.Begin()
	require.NoError(t, tx.Exec(`UPDATE llm_tenants SET name = 'busy'`).Error)
	done := make(chan error, 1)
	go func() {
		done <- tenant.ConfigureBudget(context.Background(), db, acme, func(b *tenant.Budget) error {
			b.Name += " no more"
			return nil
		})
	}()
	require.Never(t, func() bool { return len(done) > 0 }, 50*time.Millisecond, 10*time.Millisecond)
	require.NoError(t, tx.Commit().Error)
	require.NoError(t, <-done)
	require.Equal(t, "busy no more", budgetOf(t, db, acme).Name)
}

func TestConfigureBudget_InAHostsTransactionIsPartOfIt(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme", dollar, tenant.WithEnforcement(tenant.Hard))
		_, err := ledger.Record(t.Context(), org, tenant.Actual{})
		require.NoError(t, err)
		before := rowsOf(t, db)
		raise := func(b *tenant.Budget) error { b.Limits.DailyCost = tenant.USD("5"); return nil }

		tx := db.Begin()
		require.NoError(t, tx.Exec(`UPDATE organizations SET name = 'x'`).Error)
		require.NoError(t, tenant.ConfigureBudget(t.Context(), tx, org, raise))
		require.NoError(t, tenant.ConfigureBudget(t.Context(), tx, tenant.ID("new"), raise))
		require.Equal(t, tenant.USD("5"), budgetOf(t, tx, org).Limits.DailyCost)
		require.Equal(t, tenant.USD("1"), budgetOf(t, db, org).Limits.DailyCost, "nobody else sees it before the commit")
		_, err = tenant.BudgetFor(t.Context(), db, tenant.ID("new"))
		require.ErrorIs(t, err, tenant.ErrNoBudget)
		if db.Name() == "postgres" {
			// The host's transaction locks nothing that calls need.
			_, err = ledger.Reserve(t.Context(), org, tenant.Estimate{Cost: tenant.USD("2")}, tenant.WithWait(0))
			require.ErrorIs(t, err, tenant.ErrBudgetExceeded, "and calls are decided by the old settings")
			_, err = ledger.Record(t.Context(), org, tenant.Actual{})
			require.NoError(t, err)
		}
		require.NoError(t, tx.Rollback().Error)
		after := rowsOf(t, db)
		require.Equal(t, before["llm_tenants"], after["llm_tenants"])
		require.Equal(t, before["llm_limits"], after["llm_limits"])

		require.NoError(t, db.Transaction(func(tx *gorm.DB) error {
			require.NoError(t, tx.Exec(`UPDATE organizations SET name = 'y'`).Error)
			failure := errors.New("no")
			err := tenant.ConfigureBudget(t.Context(), tx, tenant.ID("other"), func(b *tenant.Budget) error { _ = raise(b); return failure })
			require.Same(t, failure, err)
			return tenant.ConfigureBudget(t.Context(), tx, org, raise)
		}))
		require.Equal(t, tenant.USD("5"), budgetOf(t, db, org).Limits.DailyCost)
		require.NoError(t, db.Where("name = 'y'").First(&Organization{}).Error, "the transaction stays usable after an error")
		_, err = tenant.BudgetFor(t.Context(), db, tenant.ID("other"))
		require.ErrorIs(t, err, tenant.ErrNoBudget, "a tenant made for a change that failed is not kept")
		hold, err := ledger.Reserve(t.Context(), org, tenant.Estimate{Cost: tenant.USD("2")})
		require.NoError(t, err)
		_, err = ledger.Release(t.Context(), hold)
		require.NoError(t, err)
	})
}

func TestConfigureBudget_AnErrorChangesNothing(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme", dollar)
		before := rowsOf(t, db)
		for says, change := range map[string]func(*tenant.Budget){
			`Limits.DailyCost: amount "-1"`:                           func(b *tenant.Budget) { b.Limits.DailyCost = tenant.USD("-1") },
			`Limits.MonthlyCost: amount "a lot"`:                      func(b *tenant.Budget) { b.Limits.MonthlyCost = tenant.USD("a lot") },
			`Limits.DailyTokens: -3`:                                  func(b *tenant.Budget) { b.Limits.DailyTokens = tenant.Count(-3) },
			`Limits.MonthlyCalls: 4611686018427387905`:                func(b *tenant.Budget) { b.Limits.MonthlyCalls = tenant.Count(1<<62 + 1) },
			`Enforcement: unknown enforcement "harsh"`:                func(b *tenant.Budget) { b.Enforcement = "harsh" },
			`TimeZone: the time zone "Berlin"`:                        func(b *tenant.Budget) { b.TimeZone = "Berlin" },
			`TimeZone: the time zone "Local"`:                         func(b *tenant.Budget) { b.TimeZone = "Local" },
			`TenantID: it is "acme", and cannot be changed to "acme2`: func(b *tenant.Budget) { b.TenantID = "acme2" },
			`the Name in ConfigureBudget "a\nb" has a control`:        func(b *tenant.Budget) { b.Name = "a\nb" },
			`the Name in ConfigureBudget "xxxxxxxx`:                   func(b *tenant.Budget) { b.Name = strings.Repeat("x", 256) },
		} {
			err := tenant.ConfigureBudget(t.Context(), db, org, func(b *tenant.Budget) error {
				b.Inherit, b.Limits.DailyCalls = false, tenant.Count(1)
				change(b)
				return nil
			})
			require.ErrorIs(t, err, tenant.ErrInvalidOption, says)
			require.ErrorContains(t, err, says)
		}
		own := fmt.Errorf("the host's: %w", errors.New("own"))
		err := tenant.ConfigureBudget(t.Context(), db, org, func(b *tenant.Budget) error {
			b.Limits = tenant.Limits{}
			return own
		})
		require.Same(t, own, err, "an error of the function is returned as it is")
		require.Panics(t, func() {
			_ = tenant.ConfigureBudget(t.Context(), db, org, func(b *tenant.Budget) error {
				b.Limits = tenant.Limits{}
				panic("of the host")
			})
		})
		require.ErrorIs(t, tenant.ConfigureBudget(t.Context(), db, org, nil), tenant.ErrInvalidOption)
		err = tenant.ConfigureBudget(t.Context(), db.Session(&gorm.Session{DryRun: true}), org, func(*tenant.Budget) error { return nil })
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		require.Equal(t, before, rowsOf(t, db))
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, org, func(*tenant.Budget) error { return nil }), "and no lock is left")
	})
}

// Many calls are being admitted while the limit is lowered: none of them passes the new one once ConfigureBudget is back.
func TestConfigureBudget_HoldsForEveryAdmissionAfterItsReturn(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme", tenant.WithLimits(tenant.Limits{DailyCost: tenant.USD("1000")}), tenant.WithEnforcement(tenant.Hard))
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for ctx.Err() == nil {
					hold, err := ledger.Reserve(ctx, org, cent, tenant.WithWait(0))
					if err != nil {
						if !errors.Is(err, tenant.ErrBudgetExceeded) && ctx.Err() == nil {
							t.Errorf("reserve: %v", err)
						}
						continue
					}
					if _, err := ledger.Settle(ctx, hold, tenant.Actual{Cost: tenant.USD("0.01")}); err != nil {
						t.Errorf("settle: %v", err)
					}
				}
			})
		}
		set := func(calls tenant.Quantity) {
			require.NoError(t, tenant.ConfigureBudget(t.Context(), db, org, func(b *tenant.Budget) error {
				b.Limits.DailyCalls = calls
				return nil
			}))
		}
		count := func() int64 {
			var n int64
			require.NoError(t, tenant.Executions(t.Context(), db, org).Where("status <> 'cancelled'").Count(&n).Error)
			return n
		}
		for range 10 {
			set(tenant.Quantity{})
			before := count()
			require.Eventually(t, func() bool { return count() > before }, time.Minute, time.Millisecond)
			set(tenant.Count(0))
			after := count()
			for range 5 {
				_, err := ledger.Reserve(t.Context(), org, cent, tenant.WithWait(0))
				require.ErrorIs(t, err, tenant.ErrBudgetExceeded)
			}
			require.Equal(t, after, count(), "a call was admitted by the old limits")
		}
		stop()
		wg.Wait()
		requireConservation(t, db)
	})
}

func TestConfigureBudget_ThatCannotLockTheSettingsSaysSo(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	openLedger(t, db)
	known(t, db, "acme")
	tx := db.Begin()
	defer tx.Rollback()
	nothing := func(*tenant.Budget) error { return nil }
	require.NoError(t, tenant.ConfigureBudget(t.Context(), tx, acme, nothing))
	err := tenant.ConfigureBudget(t.Context(), db, acme, nothing)
	require.ErrorIs(t, err, tenant.ErrUnavailable)
	require.ErrorContains(t, err, "another transaction")
	require.NoError(t, tenant.ConfigureBudget(t.Context(), db, tenant.ID("globex"), nothing), "other tenants are not held up")
}

func TestAuditLog_SaysWhoChangedWhatAndWhy(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		ctx := tenant.ContextWithReason(tenant.ContextWithActor(t.Context(), "admin@host"), "new contract")
		change := func(b *tenant.Budget) error {
			b.Limits.DailyCost, b.Enforcement = tenant.USD("5"), tenant.Hard
			return nil
		}
		for range 2 {
			require.NoError(t, tenant.ConfigureBudget(ctx, db, acme, change))
		}
		require.NoError(t, ledger.TopUp(ctx, acme, tenant.TopUp{Limit: tenant.Limit{Window: tenant.Day, Cost: tenant.USD("1")}, Reason: "bought", IdempotencyKey: "k"}))
		require.Error(t, db.Transaction(func(tx *gorm.DB) error {
			require.NoError(t, tenant.ConfigureBudget(ctx, tx, acme, func(b *tenant.Budget) error { b.Suspended = true; return nil }))
			return gorm.ErrInvalidData
		}))
		require.Error(t, tenant.ConfigureBudget(ctx, db, acme, func(b *tenant.Budget) error { b.Limits.DailyCost = tenant.USD("x"); return nil }))

		var log []tenant.AuditEntry
		require.NoError(t, tenant.AuditLog(t.Context(), db, acme).Order("id").Find(&log).Error)
		require.Len(t, log, 2, "a change that changes nothing, or that was rolled back, leaves none")
		require.Equal(t, []string{"acme", "admin@host", "ConfigureBudget", "new contract"}, []string{log[0].TenantID, log[0].Actor, log[0].Action, log[0].Reason})
		require.JSONEq(t, `{"name":"acme","inherit":true,"suspended":false,"limits":[]}`, string(log[0].Was))
		require.JSONEq(t, `{"name":"acme","enforcement":"hard","inherit":true,"suspended":false,"limits":["daily cost $5.00"]}`, string(log[0].Became))
		require.False(t, log[0].ChangedAt.IsZero())
		require.Equal(t, []string{"TopUp", "bought"}, []string{log[1].Action, log[1].Reason})
		require.Empty(t, log[1].Was)
		require.Contains(t, string(log[1].Became), "daily cost $1.00")

		var others []tenant.AuditEntry
		require.NoError(t, tenant.AuditLog(t.Context(), db, tenant.ID("globex")).Find(&others).Error)
		require.Empty(t, others)
		err := tenant.ConfigureBudget(tenant.ContextWithReason(t.Context(), "a\x00"), db, acme, change)
		require.ErrorContains(t, err, "reason in ContextWithReason")
	})
}

func TestAuditLog_HasWhatBecomesOfRecords(t *testing.T) {
	t.Parallel()
	eachHierarchy(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		acme := &company{Slug: "acme"}
		require.NoError(t, db.Create(acme).Error)
		red := &team{Slug: "red"}
		require.NoError(t, db.Create(red).Error)
		ctx := tenant.ContextWithReason(tenant.ContextWithActor(t.Context(), "admin@host"), "reorganisation")
		handle := db.WithContext(ctx)
		require.NoError(t, handle.Model(red).Update("slug", "crimson").Error)
		require.NoError(t, handle.Model(red).Update("company_id", acme.ID).Error)
		known(t, db, "plain")
		require.NoError(t, ledger.Rename(ctx, "plain", "fancy"))
		var log []tenant.AuditEntry
		require.NoError(t, tenant.AuditLog(t.Context(), db, ledger.Tenant(red)).Order("id").Find(&log).Error)
		require.Len(t, log, 2)
		require.Equal(t, []string{"follow", "admin@host", "reorganisation", "crimson"}, []string{log[0].Action, log[0].Actor, log[0].Reason, log[0].TenantID})
		require.JSONEq(t, `{"tenant_id":"red","name":"red"}`, string(log[0].Was))
		require.JSONEq(t, `{"tenant_id":"crimson","name":"crimson"}`, string(log[0].Became))
		require.Equal(t, "move", log[1].Action)

		globex := &company{Slug: "globex"}
		require.NoError(t, db.Create(globex).Error)
		require.NoError(t, handle.Delete(globex).Error)
		var all []tenant.AuditEntry
		require.NoError(t, db.Order("id").Find(&all).Error)
		require.Equal(t, "Rename", all[2].Action)
		require.Equal(t, []string{"remove", "globex"}, []string{all[3].Action, all[3].TenantID})
		require.JSONEq(t, `{"limits":["day cost 10000000000"]}`, string(all[3].Was))
		require.Len(t, all, 4)
	})
}

func TestAuditLog_HasChangesOfTheLedgersOwnSettings(t *testing.T) {
	t.Parallel()
	for _, dialect := range everyDatabase {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := openDatabase(t, dialect)
			for _, daily := range []string{"1", "1", "2"} {
				ledger := openLedger(t, db, tenant.WithDefaultLimits(tenant.Limits{DailyCost: tenant.USD(daily)}))
				require.NoError(t, call(t, ledger, acme, "0"))
				require.NoError(t, ledger.Close(t.Context()))
			}
			var all []tenant.AuditEntry
			require.NoError(t, db.Order("id").Find(&all).Error)
			require.Len(t, all, 2, "a start that changes nothing leaves none")
			require.JSONEq(t, `{"enforcement":"","limits":["day cost 1000000000"]}`, string(all[1].Was))
			require.JSONEq(t, `{"enforcement":"","limits":["day cost 2000000000"]}`, string(all[1].Became))
		})
	}
}
