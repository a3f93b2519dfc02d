package tenant_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/glebarez/sqlite"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// Team has no method, and a key that is its own type.
type Team struct {
	ID    uuid.UUID `gorm:"type:uuid"`
	Title string
}

type unkeyed struct{ Slug string }

func TestRegister_NamesWhatCannotBeMeant(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "sqlite")
	ledger := openLedger(t, db)
	for name, c := range map[string]struct {
		record  any
		options []tenant.RegisterOption
		says    []string
	}{
		"nil":               {nil, nil, []string{"the model is nil"}},
		"no struct":         {new(int), nil, []string{"*int", "a model is a struct, and this is a int"}},
		"no primary key":    {&unkeyed{}, nil, []string{"unkeyed", "no primary key"}},
		"a missing field":   {&Organization{}, []tenant.RegisterOption{tenant.WithKey("Slugg")}, []string{"*tenant_test.Organization", "WithKey", `"Slugg"`, "ID, Slug, Name"}},
		"a missing name":    {&Organization{}, []tenant.RegisterOption{tenant.WithName("Nom")}, []string{"WithName", `"Nom"`}},
		"a bad enforcement": {&Organization{}, []tenant.RegisterOption{tenant.WithEnforcement("hrad")}, []string{"Organization", "WithEnforcement", `"hrad"`, "Hard, Soft or None"}},
		"a negative limit":  {&Organization{}, []tenant.RegisterOption{tenant.WithLimits(tenant.Limits{DailyCost: tenant.USD("-1")})}, []string{"WithLimits", "DailyCost", `"-1"`, "negative"}},
		"no number":         {&Organization{}, []tenant.RegisterOption{tenant.WithLimits(tenant.Limits{MonthlyCost: tenant.USD("ten")})}, []string{"MonthlyCost", `"ten"`}},
		"an overflow":       {&Organization{}, []tenant.RegisterOption{tenant.WithLimits(tenant.Limits{DailyCost: tenant.USD("4611686019")})}, []string{"DailyCost", "4611686019"}},
		"negative tokens":   {&Organization{}, []tenant.RegisterOption{tenant.WithLimits(tenant.Limits{DailyTokens: tenant.Count(-5)})}, []string{"DailyTokens", "-5"}},
		"too many calls":    {&Organization{}, []tenant.RegisterOption{tenant.WithLimits(tenant.Limits{MonthlyCalls: tenant.Count(1<<62 + 1)})}, []string{"MonthlyCalls", "4611686018427387905"}},
		"a nil option":      {&Organization{}, []tenant.RegisterOption{nil}, []string{"nil RegisterOption"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := ledger.Register(c.record, c.options...)
			require.ErrorIs(t, err, tenant.ErrInvalidOption)
			for _, s := range c.says {
				require.ErrorContains(t, err, s)
			}
		})
	}
	require.NoError(t, ledger.Register(&Organization{}))
	require.ErrorContains(t, ledger.Register(Organization{}), "declared before")
}

func TestCreate_MakesTheBudgetInTheSameTransaction(t *testing.T) {
	t.Parallel()
	limits := tenant.WithLimits(tenant.Limits{DailyCost: tenant.USD("1"), MonthlyCalls: tenant.Count(0)})
	ways := map[string]struct {
		config gorm.Config
		create func(ctx context.Context, db *gorm.DB) error
		keys   []string
	}{
		"a struct": {create: func(_ context.Context, db *gorm.DB) error { return db.Create(&Organization{Slug: "a"}).Error }, keys: []string{"a"}},
		"a slice of structs": {create: func(_ context.Context, db *gorm.DB) error {
			return db.Create([]Organization{{Slug: "a"}, {Slug: "b"}}).Error
		}, keys: []string{"a", "b"}},
		"a slice of pointers": {create: func(_ context.Context, db *gorm.DB) error {
			return db.Create([]*Organization{{Slug: "a"}, {Slug: "b"}}).Error
		}, keys: []string{"a", "b"}},
		"in batches": {create: func(_ context.Context, db *gorm.DB) error {
			return db.CreateInBatches([]Organization{{Slug: "a"}, {Slug: "b"}, {Slug: "c"}}, 2).Error
		}, keys: []string{"a", "b", "c"}},
		"the generic API": {create: func(ctx context.Context, db *gorm.DB) error {
			return gorm.G[Organization](db).Create(ctx, &Organization{Slug: "a"})
		}, keys: []string{"a"}},
		"the generic API in batches": {create: func(ctx context.Context, db *gorm.DB) error {
			many := []Organization{{Slug: "a"}, {Slug: "b"}, {Slug: "c"}}
			return gorm.G[Organization](db).CreateInBatches(ctx, &many, 2)
		}, keys: []string{"a", "b", "c"}},
		"a map": {create: func(_ context.Context, db *gorm.DB) error {
			return db.Model(&Organization{}).Create(map[string]any{"Slug": "a"}).Error
		}, keys: []string{"a"}},
		"Save": {create: func(_ context.Context, db *gorm.DB) error { return db.Save(&Organization{Slug: "a"}).Error }, keys: []string{"a"}},
		"FirstOrCreate": {create: func(_ context.Context, db *gorm.DB) error {
			for range 2 {
				if err := db.Where(Organization{Slug: "a"}).FirstOrCreate(&Organization{}).Error; err != nil {
					return err
				}
			}
			return nil
		}, keys: []string{"a"}},
		"an upsert that does nothing": {create: func(_ context.Context, db *gorm.DB) error {
			many := []Organization{{Slug: "a"}, {Slug: "b"}}
			if err := db.Create(&Organization{Slug: "a"}).Error; err != nil {
				return err
			}
			return db.Clauses(clause.OnConflict{Columns: []clause.Column{{Name: "slug"}}, DoNothing: true}).Create(&many).Error
		}, keys: []string{"a", "b"}},
		"without hooks": {create: func(_ context.Context, db *gorm.DB) error {
			return db.Session(&gorm.Session{SkipHooks: true}).Create(&Organization{Slug: "a"}).Error
		}, keys: []string{"a"}},
		"without a default transaction": {config: gorm.Config{SkipDefaultTransaction: true}, create: func(_ context.Context, db *gorm.DB) error {
			return db.Create(&Organization{Slug: "a"}).Error
		}, keys: []string{"a"}},
		"prepared statements": {config: gorm.Config{PrepareStmt: true}, create: func(_ context.Context, db *gorm.DB) error {
			return db.Create(&Organization{Slug: "a"}).Error
		}, keys: []string{"a"}},
		"a table prefix": {config: gorm.Config{NamingStrategy: schema.NamingStrategy{TablePrefix: "app_"}}, create: func(_ context.Context, db *gorm.DB) error {
			return db.Create(&Organization{Slug: "a"}).Error
		}, keys: []string{"a"}},
		"the host's transaction": {create: func(_ context.Context, db *gorm.DB) error {
			return db.Transaction(func(tx *gorm.DB) error {
				if err := tx.Create(&Organization{Slug: "a"}).Error; err != nil {
					return err
				}
				_ = tx.Transaction(func(inner *gorm.DB) error {
					if err := inner.Create(&Organization{Slug: "rolled-back"}).Error; err != nil {
						return err
					}
					return errors.New("rolled back")
				})
				return tx.Create(&Organization{Slug: "b"}).Error
			})
		}, keys: []string{"a", "b"}},
		"rolled back": {create: func(_ context.Context, db *gorm.DB) error {
			_ = db.Transaction(func(tx *gorm.DB) error {
				if err := tx.Create(&Organization{Slug: "a"}).Error; err != nil {
					return err
				}
				return errors.New("no")
			})
			return nil
		}},
		"a dry run": {create: func(_ context.Context, db *gorm.DB) error {
			return db.Session(&gorm.Session{DryRun: true}).Create(&Organization{Slug: "a"}).Error
		}},
	}
	for name, way := range ways {
		for _, dialect := range []string{"postgres", "sqlite"} {
			t.Run(name+" on "+dialect, func(t *testing.T) {
				t.Parallel()
				config := way.config // each its own: gorm writes into it
				config.Logger = logger.Discard
				dialector := sqlite.Open(sqliteDSN(t))
				if dialect == "postgres" {
					dialector = postgres.Open(pgtest.DSN(t))
				}
				db, err := gorm.Open(dialector, &config)
				require.NoError(t, err)
				pool, err := db.DB()
				require.NoError(t, err)
				t.Cleanup(func() { _ = pool.Close() })
				ledger := openLedger(t, db)
				require.NoError(t, ledger.Migrate(t.Context()))
				require.NoError(t, db.AutoMigrate(&Organization{}))
				require.NoError(t, ledger.Register(&Organization{}, tenant.WithKey("Slug"), limits, tenant.WithEnforcement(tenant.Hard)))

				require.NoError(t, way.create(t.Context(), db))
				var keys []string
				require.NoError(t, db.Raw(`SELECT tenant_id FROM llm_tenants WHERE owner_type IS NOT NULL ORDER BY tenant_id`).Scan(&keys).Error)
				require.ElementsMatch(t, way.keys, keys)
				var rows []struct {
					Metric string
					Amount int64
					N      int
				}
				require.NoError(t, db.Raw(`SELECT metric, amount, count(*) AS n FROM llm_limits GROUP BY metric, amount ORDER BY metric`).Scan(&rows).Error)
				var balances int
				require.NoError(t, db.Raw(`SELECT count(*) FROM llm_balances WHERE tenant <> ?`, uuid.Nil.String()).Scan(&balances).Error)
				require.Equal(t, len(way.keys), balances)
				if n := len(way.keys); n > 0 {
					require.Len(t, rows, 2)
					require.Equal(t, [2]int64{0, 1e9}, [2]int64{rows[0].Amount, rows[1].Amount})
					require.Equal(t, [2]int{n, n}, [2]int{rows[0].N, rows[1].N})
					_, err := ledger.Reserve(t.Context(), tenant.ID(way.keys[0]), cent)
					require.ErrorIs(t, err, tenant.ErrBudgetExceeded, "no calls are allowed in a month")
				} else {
					require.Empty(t, rows)
				}
			})
		}
	}
}

func TestCreate_OfManyKeepsEachNameAndKeyAsItWas(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		newOrganization(t, db, ledger, "first", dollar)
		values := []string{`"quoted", {braced} \ one`, `NULL`, `null`, `\`, `"`, `\"`, `{}`, `,`, `ünïcödé 漢字`, `it's $1 ? :a @b`, `a b`}
		many := make([]*Organization, len(values))
		for i, v := range values {
			many[i] = &Organization{Slug: v, Name: v}
		}
		require.NoError(t, db.Create(many).Error)
		for i, v := range values {
			row := rowOf(t, db, "organizations", many[i].ID)
			require.NotNil(t, row.TenantID, "%q", v)
			require.Equal(t, [2]string{v, v}, [2]string{*row.TenantID, row.Name})
			require.Equal(t, 1, row.Balances)
		}
	})
}

func TestCreate_OfManyOfWhomSomeHaveATenantAlreadyGivesEachItsOwn(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Project{}))
		require.NoError(t, ledger.Register(&Project{}, tenant.WithEnforcement(tenant.Hard), tenant.WithLimits(tenant.Limits{DailyCost: tenant.USD("5")})))
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, tenant.ID("beta"), func(b *tenant.Budget) error {
			b.Limits = tenant.Limits{MonthlyCost: tenant.USD("30")}
			return nil
		}))
		former := Project{Slug: "former"}
		require.NoError(t, db.Create(&former).Error)
		require.NoError(t, call(t, ledger, tenant.ID("former"), "4"))
		require.NoError(t, db.Exec(`DELETE FROM projects`).Error) // the ledger does not see it

		many := []*Project{{ID: former.ID, Slug: "alpha"}, {Slug: "beta"}, {Slug: `g"a\mma`, Name: "Größe, {x}"}}
		require.NoError(t, db.Create(many).Error)
		var got []string
		require.NoError(t, db.Raw(`SELECT t.tenant_id || ' ' || t.name || ' ' || l.window_unit || ' ' || CAST(l.amount AS text) FROM llm_limits l
			JOIN llm_tenants t ON t.id = l.tenant WHERE t.owner_type = 'projects' ORDER BY t.tenant_id, l.window_unit`).Scan(&got).Error)
		require.Equal(t, []string{
			"alpha alpha day 5000000000", "beta beta day 5000000000", "beta beta month 30000000000", `g"a\mma Größe, {x} day 5000000000`,
		}, got)
		for _, p := range many {
			require.NoError(t, call(t, ledger, tenant.ID(p.Slug), "5"), p.Slug)
			require.ErrorIs(t, call(t, ledger, tenant.ID(p.Slug), "1"), tenant.ErrBudgetExceeded, p.Slug)
		}
	})
}

func TestCreate_WithAnImpossibleKeyFailsAndWritesNothing(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		newOrganization(t, db, ledger, "fine", tenant.WithBudget())
		for _, key := range []string{"", strings.Repeat("x", 256), "line\nbreak", "del\x7f"} {
			err := db.Create(&Organization{Slug: key}).Error
			require.ErrorIs(t, err, tenant.ErrInvalidTenant, "%q", key)
			require.ErrorContains(t, err, "budget of a tenant_test.Organization")
			_, err = ledger.Reserve(t.Context(), tenant.ID(key), cent)
			require.ErrorIs(t, err, tenant.ErrInvalidTenant, "%q", key)
		}
		_, err := ledger.Reserve(t.Context(), tenant.ID("\xff"), cent)
		require.ErrorIs(t, err, tenant.ErrInvalidTenant)

		// In a transaction of the host's the record is undone, and the transaction goes on.
		require.NoError(t, db.Transaction(func(tx *gorm.DB) error {
			if err := tx.Create(&Organization{Slug: "bad\x01"}).Error; !errors.Is(err, tenant.ErrInvalidTenant) {
				return fmt.Errorf("not refused: %w", err)
			}
			return tx.Create(&Organization{Slug: "good"}).Error
		}))
		var slugs, keys []string
		require.NoError(t, db.Model(&Organization{}).Order("slug").Pluck("slug", &slugs).Error)
		require.NoError(t, db.Raw(`SELECT tenant_id FROM llm_tenants ORDER BY tenant_id`).Scan(&keys).Error)
		require.Equal(t, []string{"fine", "good"}, slugs)
		require.Equal(t, []string{"fine", "good"}, keys)
	})
}

func TestCreate_WithoutTablesFailsAndSaysWhichCallToMake(t *testing.T) {
	t.Parallel()
	for dialect, dialector := range map[string]gorm.Dialector{"postgres": postgres.Open(pgtest.Empty(t)), "sqlite": sqlite.Open(sqliteDSN(t))} {
		t.Run(dialect, func(t *testing.T) {
			db := openAt(t, dialector)
			ledger := openLedger(t, db)
			require.NoError(t, db.AutoMigrate(&Organization{}))
			require.NoError(t, ledger.Register(&Organization{}, tenant.WithBudget()))
			err := db.Create(&Organization{Slug: "acme"}).Error
			require.ErrorIs(t, err, tenant.ErrNotMigrated)
			require.ErrorContains(t, err, "ledger.Migrate(ctx)")
			_, err = ledger.Reserve(t.Context(), tenant.ID("acme"), cent)
			require.ErrorIs(t, err, tenant.ErrNotMigrated)
			_, err = ledger.Record(t.Context(), tenant.ID("acme"), tenant.Actual{})
			require.ErrorIs(t, err, tenant.ErrNotMigrated)
		})
	}
}

func TestTwoModelsWithOneKey_AreAnErrorAndNeverOneBudget(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		newOrganization(t, db, ledger, "1", tenant.WithBudget())
		require.NoError(t, db.AutoMigrate(&Team{}))
		require.NoError(t, ledger.Register(&Team{}, tenant.WithKey("Title"), tenant.WithBudget()))
		err := db.Create(&Team{ID: uuid.New(), Title: "1"}).Error
		require.ErrorIs(t, err, tenant.ErrIdentityConflict)
		require.ErrorContains(t, err, "organizations 1")
		require.ErrorContains(t, err, "teams")
	})
}

func TestRecordFromBeforeItsDeclaration_GetsItsBudgetAtFirstUse(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Team{}))
		team := &Team{ID: uuid.New(), Title: "Alpha"}
		require.NoError(t, db.Create(team).Error)
		require.NoError(t, ledger.Register(&Team{}, tenant.WithName("Title"), tenant.WithLimits(tenant.Limits{DailyCalls: tenant.Count(3)}), tenant.WithEnforcement(tenant.Hard)))

		var wg sync.WaitGroup
		admitted, refused := make(chan *tenant.Hold, 20), make(chan error, 20)
		for range 20 {
			wg.Go(func() {
				hold, err := ledger.Reserve(context.Background(), ledger.Tenant(team), cent, tenant.WithWait(0))
				if err != nil {
					refused <- err
				} else {
					admitted <- hold
				}
			})
		}
		wg.Wait()
		close(admitted)
		close(refused)
		require.Len(t, admitted, 3, "the declared limit is in force from the first call on")
		for err := range refused {
			require.ErrorIs(t, err, tenant.ErrBudgetExceeded)
		}
		for hold := range admitted {
			require.Equal(t, team.ID.String(), hold.TenantID)
			_, err := ledger.Release(t.Context(), hold)
			require.NoError(t, err)
		}
		var names []string
		require.NoError(t, db.Raw(`SELECT name FROM llm_tenants`).Scan(&names).Error)
		require.Equal(t, []string{"Alpha"}, names)
	})
}

func TestTenantKnownByItsID_IsGivenToTheRecordThatHasIt(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		_, err := ledger.Record(t.Context(), tenant.ID("acme"), tenant.Actual{Cost: tenant.USD("0.7")})
		require.NoError(t, err)
		org := newOrganization(t, db, ledger, "acme", dollar, tenant.WithEnforcement(tenant.Hard))
		_, err = ledger.Reserve(t.Context(), org, tenant.Estimate{Cost: tenant.USD("0.4")})
		require.ErrorIs(t, err, tenant.ErrBudgetExceeded, "what it spent before counts")
		var tenants int
		require.NoError(t, db.Raw(`SELECT count(*) FROM llm_tenants`).Scan(&tenants).Error)
		require.Equal(t, 1, tenants)
	})
}

func TestRecordWithAnOldKeyInMemory_IsNeverTakenForSomebodyElse(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "old", dollar)
		stale := *org
		require.NoError(t, db.Exec(`UPDATE organizations SET slug = 'new' WHERE id = ?`, org.ID).Error)
		require.NoError(t, db.Create(&Organization{Slug: "other"}).Error)

		hold, err := ledger.Reserve(t.Context(), &stale, cent)
		require.NoError(t, err)
		_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.01")})
		require.NoError(t, err)
		require.Equal(t, "old", hold.TenantID, "nobody has told the ledger yet")

		org.Slug = "new"
		hold, err = ledger.Reserve(t.Context(), org, cent)
		require.NoError(t, err)
		_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.01")})
		require.NoError(t, err)
		require.Equal(t, balance{SpentCost: 2e7, SpentCalls: 2}, balanceOf(t, db, "new", "day"), "the key has changed, the books are the same")

		require.NoError(t, db.Create(&Organization{Slug: "old"}).Error, "the old key is free")
		hold, err = ledger.Reserve(t.Context(), &stale, cent)
		require.NoError(t, err)
		_, err = ledger.Release(t.Context(), hold)
		require.NoError(t, err)
		require.Equal(t, "new", hold.TenantID, "the record is found by its primary key, not by what it was called")
	})
}

func TestOpen_RefusesWhatALedgerCannotWorkWith(t *testing.T) {
	t.Parallel()
	_, err := tenant.Open(nil)
	require.ErrorIs(t, err, tenant.ErrInvalidOption)

	memory := openAt(t, sqlite.Open(":memory:"))
	_, err = tenant.Open(memory)
	require.ErrorContains(t, err, "in memory")

	single := openAt(t, sqlite.Open(filepath.Join(t.TempDir(), "x.db")))
	pool, err := single.DB()
	require.NoError(t, err)
	pool.SetMaxOpenConns(1)
	_, err = tenant.Open(single)
	require.ErrorContains(t, err, "at least 2")

	db := openAt(t, postgres.Open(pgtest.DSN(t)))
	pool, err = db.DB()
	require.NoError(t, err)
	pool.SetMaxOpenConns(2)
	_, err = tenant.Open(db)
	require.ErrorContains(t, err, "2 lanes need 3")
	pool.SetMaxOpenConns(3)
	_, err = tenant.Open(db, tenant.WithLanes(0))
	require.ErrorContains(t, err, "WithLanes")
	_, err = tenant.Open(db, tenant.WithDefaultTimeZone("Mars/Olympus"))
	require.ErrorContains(t, err, "Mars/Olympus")
	_, err = tenant.Open(db, tenant.WithDefaultEnforcement("harsh"))
	require.ErrorContains(t, err, "harsh")
	tx := db.Begin()
	_, err = tenant.Open(tx)
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	require.NoError(t, tx.Rollback().Error)
	openLedger(t, db)
	_, err = tenant.Open(db)
	require.ErrorContains(t, err, "open on this *gorm.DB already")
	_, err = tenant.Open(db, tenant.WithLaneDB((*sql.DB)(nil)))
	require.ErrorContains(t, err, "WithLaneDB")
}

func TestDefaults_HoldForWhoeverInheritsAndSetsNothingItself(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		_, err := ledger.Reserve(t.Context(), tenant.ID("anybody"), tenant.Estimate{Cost: tenant.USD("0.51")})
		require.ErrorIs(t, err, tenant.ErrBudgetExceeded)
		own := newOrganization(t, db, ledger, "own", tenant.WithLimits(tenant.Limits{DailyCost: tenant.USD("2")}))
		hold, err := ledger.Reserve(t.Context(), own, tenant.Estimate{Cost: tenant.USD("1.5")})
		require.NoError(t, err)
		_, err = ledger.Release(t.Context(), hold)
		require.NoError(t, err)
		_, err = ledger.Reserve(t.Context(), own, tenant.Estimate{Cost: tenant.USD("2.5")})
		require.ErrorIs(t, err, tenant.ErrBudgetExceeded, "the enforcement is inherited")

		require.NoError(t, db.AutoMigrate(&Team{}))
		require.NoError(t, ledger.Register(&Team{}, tenant.WithInherit(false), tenant.WithBudget()))
		team := &Team{ID: uuid.New()}
		require.NoError(t, db.Create(team).Error)
		hold, err = ledger.Reserve(t.Context(), ledger.Tenant(team), tenant.Estimate{Cost: tenant.USD("99")})
		require.NoError(t, err)
		_, err = ledger.Release(t.Context(), hold)
		require.NoError(t, err)
	}, tenant.WithDefaultLimits(tenant.Limits{DailyCost: tenant.USD("0.5")}), tenant.WithDefaultEnforcement(tenant.Hard))
}
