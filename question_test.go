package tenant_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/glebarez/sqlite"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

func TestQuestions_AboutATenantThatDoesNotExistSayThatItSpentNothing(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		nobody := tenant.ID("nobody")
		for _, p := range []tenant.Period{tenant.Today, tenant.LastMonth, tenant.AllTime} {
			require.Zero(t, ask(t, db, nobody, p))
			s, err := tenant.UsageSummary(t.Context(), db, nobody, p)
			require.NoError(t, err)
			require.Zero(t, s.Calls)
			require.Empty(t, s.ByModel)
		}
	})
}

func TestQuestions_WriteNothing(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "acme", dollar)
		_, err := ledger.Record(t.Context(), org, tenant.Actual{Cost: tenant.USD("0.25")})
		require.NoError(t, err)
		later := &Organization{Slug: "later"}
		require.NoError(t, db.Session(&gorm.Session{SkipHooks: true}).Table("organizations").Create(map[string]any{"slug": "later", "name": "l"}).Error)
		require.NoError(t, db.Where("slug = 'later'").First(later).Error)
		before := rowsOf(t, db)
		for _, org := range []tenant.Tenant{org, later, tenant.ID("nobody"), nil} {
			for _, p := range []tenant.Period{tenant.Today, tenant.Yesterday, tenant.AllTime} {
				ask(t, db, org, p)
				_, err := tenant.UsageSummary(t.Context(), db, org, p)
				require.NoError(t, err)
			}
			_, err := tenant.BudgetFor(t.Context(), db, org)
			if err != nil {
				require.ErrorIs(t, err, tenant.ErrNoBudget)
			}
			_, err = tenant.BudgetStatus(t.Context(), db, org)
			require.NoError(t, err)
			within, err := tenant.WithinBudget(t.Context(), db, org)
			require.NoError(t, err)
			require.True(t, within)
			_, _, err = tenant.RemainingBudget(t.Context(), db, org)
			require.NoError(t, err)
			require.NoError(t, tenant.CheckBudget(t.Context(), db, org))
			var found []tenant.Execution
			require.NoError(t, tenant.Executions(t.Context(), db, org).Find(&found).Error)
		}
		require.Equal(t, before, rowsOf(t, db))
	})
}

func TestQuestions_SeeWhatTheTransactionOfTheirHandleSees(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, _ *tenant.Ledger) {
		known(t, db, "acme")
		tx := db.Begin()
		defer tx.Rollback()
		remember(t, tx, "acme", past{at: at(t, "2026-03-10T09:30:00Z"), cost: 5})
		p := tenant.Between(at(t, "2026-03-10T09:15:00Z"), at(t, "2026-03-10T09:45:00Z"))
		require.EqualValues(t, 5, ask(t, tx, acme, p).cost)
		require.EqualValues(t, 5, ask(t, tx, acme, tenant.AllTime).cost)
		require.EqualValues(t, 5, ask(t, tx.Session(&gorm.Session{NewDB: true}), acme, tenant.AllTime).cost)
		require.Zero(t, ask(t, db, acme, p), "nobody else sees it before the commit")
	})
}

func TestQuestions_WorkOnAnyHandleOfTheDatabase(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		_, err := ledger.Record(t.Context(), acme, tenant.Actual{Cost: tenant.USD("0.25")})
		require.NoError(t, err)
		for name, handle := range map[string]*gorm.DB{
			"prepared statements": db.Session(&gorm.Session{PrepareStmt: true}),
			"conditions":          db.Where("no_such_column = 1").Table("no_such_table"),
			"dry run":             db.Session(&gorm.Session{DryRun: true}),
			"debug":               db.Session(&gorm.Session{SkipHooks: true, QueryFields: true}),
		} {
			require.EqualValues(t, 250_000_000, ask(t, handle, acme, tenant.Today).cost, name)
			require.EqualValues(t, 250_000_000, ask(t, handle, acme, tenant.Between(time.Now().Add(-time.Minute), time.Now())).cost, name)
			_, err := tenant.BudgetStatus(t.Context(), handle, acme)
			require.NoError(t, err, name)
		}
		prepared := db.Session(&gorm.Session{PrepareStmt: true})
		require.NoError(t, prepared.Transaction(func(tx *gorm.DB) error {
			require.EqualValues(t, 250_000_000, ask(t, tx, acme, tenant.Today).cost)
			return tenant.ConfigureBudget(t.Context(), tx, acme, func(b *tenant.Budget) error { b.Name = "A"; return nil })
		}))
		require.NoError(t, tenant.ConfigureBudget(t.Context(), prepared, acme, func(b *tenant.Budget) error {
			require.Equal(t, "A", b.Name)
			return nil
		}))
	})
}

func TestQuestions_ThatCannotBeAnsweredSayWhy(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		other := openAt(t, db.Dialector)
		newOrganization(t, db, ledger, "acme", dollar)
		now := time.Now()
		for _, c := range []struct {
			name string
			end  bool // of the ctx
			db   *gorm.DB
			org  tenant.Tenant
			want error
		}{
			{"no handle", false, nil, acme, tenant.ErrNotOpen},
			{"an empty handle", false, &gorm.DB{}, acme, tenant.ErrNotOpen},
			{"a handle without a ledger", false, other, acme, tenant.ErrNotOpen},
			{"a nil pointer", false, db, (*Organization)(nil), tenant.ErrInvalidTenant},
			{"an unsaved record", false, db, &Organization{Slug: "new"}, tenant.ErrInvalidTenant},
			{"an empty id", false, db, tenant.ID(""), tenant.ErrInvalidTenant},
			{"a control character", false, db, tenant.ID("a\x00b"), tenant.ErrInvalidTenant},
			{"another record's id", false, db, &Organization{ID: 99, Slug: "acme"}, tenant.ErrIdentityConflict},
			{"a context that has ended", true, db, acme, context.Canceled},
		} {
			ctx := t.Context()
			if c.end {
				ctx = ended
			}
			_, err := tenant.Cost(ctx, c.db, c.org, tenant.Today)
			require.ErrorIs(t, err, c.want, c.name)
			_, err = tenant.UsageSummary(ctx, c.db, c.org, tenant.Today)
			require.ErrorIs(t, err, c.want, c.name)
			_, err = tenant.BudgetFor(ctx, c.db, c.org)
			require.ErrorIs(t, err, c.want, c.name)
			require.ErrorIs(t, tenant.CheckBudget(ctx, c.db, c.org), c.want, c.name)
			require.ErrorIs(t, tenant.ConfigureBudget(ctx, c.db, c.org, func(*tenant.Budget) error { return nil }), c.want, c.name)
			if !errors.Is(c.want, tenant.ErrIdentityConflict) {
				var found []tenant.Execution
				require.ErrorIs(t, tenant.Executions(ctx, c.db, c.org).Where("status = ?", "failed").Find(&found).Error, c.want, c.name)
				require.ErrorIs(t, tenant.Executions(ctx, c.db, c.org).Count(new(int64)).Error, c.want, c.name)
			}
		}
		for _, p := range []tenant.Period{nil, tenant.Calendar(0), tenant.Between(now, now.Add(-1))} {
			_, err := tenant.Cost(t.Context(), db, acme, p)
			require.ErrorIs(t, err, tenant.ErrInvalidOption)
			_, err = tenant.UsageSummary(t.Context(), db, acme, p)
			require.ErrorIs(t, err, tenant.ErrInvalidOption)
		}
		require.NoError(t, db.Error, "no error stays on the host's handle")

		require.NoError(t, ledger.Close(t.Context()))
		_, err := tenant.CostToday(t.Context(), db, acme)
		require.ErrorIs(t, err, tenant.ErrClosed)
		require.ErrorIs(t, tenant.Executions(t.Context(), db, acme).Find(&[]tenant.Execution{}).Error, tenant.ErrClosed)
	})
}

func TestQuestions_BeforeTheMigrationNameIt(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{"postgres", "sqlite"} {
		t.Run(dialect, func(t *testing.T) {
			t.Parallel()
			db := emptyDatabase(t, dialect)
			openLedger(t, db)
			_, err := tenant.CostToday(t.Context(), db, acme)
			require.ErrorIs(t, err, tenant.ErrNotMigrated)
			require.ErrorIs(t, tenant.CheckBudget(t.Context(), db, acme), tenant.ErrNotMigrated)
			err = tenant.ConfigureBudget(t.Context(), db, acme, func(*tenant.Budget) error { return nil })
			require.ErrorIs(t, err, tenant.ErrNotMigrated)
		})
	}
}

func emptyDatabase(t *testing.T, dialect string) *gorm.DB {
	if dialect == "postgres" {
		return openAt(t, postgres.Open(pgtest.Empty(t)))
	}
	return openAt(t, sqliteFile(t))
}

func sqliteFile(t *testing.T) gorm.Dialector { return sqlite.Open(sqliteDSN(t)) }
