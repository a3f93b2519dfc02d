package tenant_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// A typo is refused by whatever takes an id, and makes no tenant.
func TestKnownTenantsOnly_RefusesATypoAndSaysWhoIsMeant(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		ctx := t.Context()
		org := newOrganization(t, db, ledger, "acme", dollar, tenant.WithEnforcement(tenant.Hard))
		require.NoError(t, tenant.ConfigureBudget(ctx, db, tenant.ID("umbrella"), func(*tenant.Budget) error { return nil }), "it makes an id known")
		require.NoError(t, call(t, ledger, org, "0.1"))
		require.NoError(t, call(t, ledger, tenant.ID("acme"), "0.1"))
		require.NoError(t, call(t, ledger, tenant.ID("umbrella"), "0.1"))
		require.NoError(t, call(t, ledger, nil, "0.1"), "no tenant is none that is unknown")
		_, err := tenant.CostToday(ctx, db, tenant.ID("umbrella"))
		require.NoError(t, err)

		for id, nearest := range map[string]string{"amce": "acme", "ACME": "acme", "acne": "acme", "umbrlla": "umbrella", "initech": ""} {
			who := tenant.ID(id)
			_, err := ledger.Reserve(ctx, who, cent)
			errs := map[string]error{"Reserve": err}
			_, errs["Record"] = ledger.Record(ctx, who, tenant.Actual{Cost: tenant.USD("1")})
			_, errs["Credit"] = ledger.Credit(ctx, who, tenant.USD("1"), "x")
			_, errs["Debit"] = ledger.Debit(ctx, who, tenant.USD("1"), "x")
			errs["TopUp"] = ledger.TopUp(ctx, who, tenant.TopUp{Limit: tenant.Limit{Window: tenant.Day, Cost: tenant.USD("1")}, Reason: "x"})
			_, errs["Cost"] = tenant.CostToday(ctx, db, who)
			_, errs["Tokens"] = tenant.Tokens(ctx, db, who, tenant.AllTime, tenant.WithDescendants())
			_, errs["UsageSummary"] = tenant.UsageSummary(ctx, db, who, tenant.Today)
			_, errs["BudgetFor"] = tenant.BudgetFor(ctx, db, who)
			_, errs["BudgetStatus"] = tenant.BudgetStatus(ctx, db, who)
			_, errs["EffectiveBudget"] = tenant.EffectiveBudget(ctx, db, who)
			errs["CheckBudget"] = tenant.CheckBudget(ctx, db, who)
			errs["Executions"] = tenant.Executions(ctx, db, who).Find(&[]tenant.Execution{}).Error
			errs["AuditLog"] = tenant.AuditLog(ctx, db, who).Find(&[]tenant.AuditEntry{}).Error
			for what, err := range errs {
				require.ErrorIs(t, err, tenant.ErrUnknownTenant, "%s of %q", what, id)
				var unknown *tenant.UnknownTenantError
				require.ErrorAs(t, err, &unknown, what)
				require.Equal(t, tenant.UnknownTenantError{TenantID: id, Nearest: nearest}, *unknown, what)
			}
		}
		require.ErrorContains(t, func() error { _, err := ledger.Reserve(ctx, tenant.ID("amce"), cent); return err }(), `unknown tenant "amce"; did you mean "acme"?`)
		var ids []string
		require.NoError(t, db.Raw(`SELECT tenant_id FROM llm_tenants WHERE tenant_id IS NOT NULL ORDER BY 1`).Scan(&ids).Error)
		require.Equal(t, []string{"acme", "umbrella"}, ids)
	}, tenant.WithKnownTenantsOnly())
}

// Records of registered models are known, whether the ledger has seen them yet or not; so is what another process has made
// known a moment ago.
func TestKnownTenantsOnly_KnowsRecordsAndWhatOtherProcessesHaveSaid(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Organization{}))
		require.NoError(t, db.Create(&Organization{Slug: "older"}).Error)
		require.NoError(t, db.Create(&Organization{Slug: "oldest"}).Error)
		require.NoError(t, ledger.Register(&Organization{}, dollar))
		require.ErrorIs(t, call(t, ledger, tenant.ID("older"), "0.1"), tenant.ErrUnknownTenant, "nobody has said so yet")
		require.NoError(t, call(t, ledger, &Organization{ID: 1, Slug: "older"}, "0.1"))
		require.NoError(t, call(t, ledger, tenant.ID("older"), "0.1"))
		_, err := ledger.Backfill(t.Context(), &Organization{})
		require.NoError(t, err)
		require.NoError(t, call(t, ledger, tenant.ID("oldest"), "0.1"))

		require.ErrorIs(t, call(t, ledger, tenant.ID("later"), "0.1"), tenant.ErrUnknownTenant)
		otherDB := openAgain(t, db)
		other := openLedger(t, otherDB)
		require.NoError(t, tenant.ConfigureBudget(t.Context(), otherDB, tenant.ID("later"), func(*tenant.Budget) error { return nil }))
		require.NoError(t, call(t, ledger, tenant.ID("later"), "0.1"))
		require.NoError(t, ledger.Rename(t.Context(), "later", "latest"))
		require.ErrorIs(t, call(t, ledger, tenant.ID("later"), "0.1"), tenant.ErrUnknownTenant, "it has another id now")

		require.NoError(t, call(t, other, tenant.ID("loose"), "0.1"), "without the option")
		require.NoError(t, call(t, ledger, tenant.ID("loose"), "0.1"), "it is there")
		requireConservation(t, db)
	}, tenant.WithKnownTenantsOnly())
}

// A record cannot stand below an id that nobody knows.
func TestKnownTenantsOnly_HoldsForParents(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&below{}))
		require.NoError(t, ledger.Register(&below{}, dollar))
		place(t, db, tenant.ID("above"), "", "1")
		require.NoError(t, db.Create(&below{Slug: "one", Over: "above"}).Error)
		err := db.Create(&below{Slug: "two", Over: "abvoe"}).Error
		require.ErrorIs(t, err, tenant.ErrUnknownTenant)
		require.ErrorContains(t, err, `did you mean "above"?`)
		var n int64
		require.NoError(t, db.Model(&below{}).Count(&n).Error)
		require.EqualValues(t, 1, n)
	}, tenant.WithKnownTenantsOnly())
}

type below struct {
	ID         uint
	Slug, Over string
}

func (b below) LLMTenantID() string            { return b.Slug }
func (b below) LLMTenantParent() tenant.Tenant { return tenant.ID(b.Over) }

// What a removed record has spent can be asked for by what its tenant keeps, whoever has its id by now.
func TestFormerTenants_CanBeAskedAbout(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		ctx := t.Context()
		require.NoError(t, db.AutoMigrate(&Organization{}))
		require.NoError(t, ledger.Register(&Organization{}, dollar))
		var uuids []tenant.UUID
		for i := range 3 {
			org := Organization{Slug: "acme", Name: fmt.Sprint("Acme ", i)}
			require.NoError(t, db.Create(&org).Error)
			require.NoError(t, call(t, ledger, &org, fmt.Sprintf("0.%d", i+1)))
			id, err := tenant.UUIDFor(ctx, db, &org)
			require.NoError(t, err)
			uuids = append(uuids, id)
			if i < 2 {
				require.NoError(t, db.Delete(&org).Error)
			}
		}
		former, err := tenant.FormerTenants(ctx, db, "acme")
		require.NoError(t, err)
		require.Len(t, former, 2, "the third is there")
		for i, f := range former {
			was := 1 - i
			require.Equal(t, uuids[was], f.UUID)
			require.Equal(t, fmt.Sprint("Acme ", was), f.Name)
			require.Equal(t, "acme", f.TenantID)
			require.False(t, f.DeletedAt.IsZero())
		}
		for i, id := range uuids {
			want := fmt.Sprintf("0.%d", i+1)
			for _, p := range []tenant.Period{tenant.AllTime, tenant.Today} {
				cost, err := tenant.Cost(ctx, db, id, p)
				require.NoError(t, err)
				require.Equal(t, want, cost.String())
			}
			summary, err := tenant.UsageSummary(ctx, db, id, tenant.AllTime, tenant.WithDescendants())
			require.NoError(t, err)
			require.Equal(t, want, summary.Cost.String())
			var executions []tenant.Execution
			require.NoError(t, tenant.Executions(ctx, db, id).Find(&executions).Error)
			require.Len(t, executions, 1)
			require.NoError(t, tenant.Executions(ctx, db, id, tenant.WithDescendants()).Find(&executions).Error)
			require.Len(t, executions, 1)
			var log []tenant.AuditEntry
			require.NoError(t, tenant.AuditLog(ctx, db, id).Find(&log).Error)
			require.Len(t, log, map[bool]int{true: 1, false: 0}[i < 2])
			_, err = tenant.BudgetStatus(ctx, db, id)
			require.NoError(t, err)
		}
		_, err = tenant.UUIDFor(ctx, db, tenant.ID("globex"))
		require.ErrorIs(t, err, tenant.ErrNoBudget)
		cost, err := tenant.Cost(ctx, db, tenant.ID("acme"), tenant.AllTime)
		require.NoError(t, err)
		require.Equal(t, "0.3", cost.String(), "the id is the new record's")

		_, err = ledger.Reserve(ctx, uuids[0], cent)
		require.ErrorIs(t, err, tenant.ErrInvalidTenant)
		require.ErrorContains(t, err, "can be asked about")
		require.ErrorIs(t, tenant.ConfigureBudget(ctx, db, uuids[2], func(*tenant.Budget) error { return nil }), tenant.ErrInvalidTenant)
		_, err = tenant.Cost(ctx, db, tenant.UUID("acme"), tenant.AllTime)
		require.ErrorIs(t, err, tenant.ErrInvalidTenant)
		_, err = tenant.Cost(ctx, db, tenant.UUID(uuid.NewString()), tenant.AllTime)
		require.ErrorIs(t, err, tenant.ErrUnknownTenant)
		require.ErrorIs(t, tenant.Executions(ctx, db, tenant.UUID(uuid.NewString())).Find(&[]tenant.Execution{}).Error, tenant.ErrUnknownTenant)
	})
}

// Without a root budget nothing is counted for all tenants, which is something else than zero.
func TestRoot_WithoutABudgetHasNoAnswer(t *testing.T) {
	t.Parallel()
	onOneSet(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		ctx := t.Context()
		require.NoError(t, call(t, ledger, tenant.ID("acme"), "0.25"))
		ask := func() map[string]error {
			errs := map[string]error{}
			_, errs["UsageSummary"] = tenant.UsageSummary(ctx, db, tenant.Root, tenant.Today, tenant.WithDescendants())
			_, errs["own UsageSummary"] = tenant.UsageSummary(ctx, db, tenant.Root, tenant.Today)
			_, errs["Cost"] = tenant.Cost(ctx, db, tenant.Root, tenant.AllTime, tenant.WithDescendants())
			_, errs["CostToday"] = tenant.CostToday(ctx, db, tenant.Root)
			_, errs["Tokens"] = tenant.TokensThisMonth(ctx, db, tenant.Root, tenant.WithDescendants())
			_, errs["ExecutionCount"] = tenant.ExecutionCountToday(ctx, db, tenant.Root, tenant.WithDescendants())
			_, errs["BudgetFor"] = tenant.BudgetFor(ctx, db, tenant.Root)
			_, errs["BudgetStatus"] = tenant.BudgetStatus(ctx, db, tenant.Root)
			_, errs["EffectiveBudget"] = tenant.EffectiveBudget(ctx, db, tenant.Root)
			errs["CheckBudget"] = tenant.CheckBudget(ctx, db, tenant.Root)
			errs["Executions"] = tenant.Executions(ctx, db, tenant.Root, tenant.WithDescendants()).Find(&[]tenant.Execution{}).Error
			return errs
		}
		for what, err := range ask() {
			require.ErrorIs(t, err, tenant.ErrNoBudget, what)
		}
		require.NoError(t, tenant.ConfigureBudget(ctx, db, tenant.Root, func(*tenant.Budget) error { return nil }))
		for what, err := range ask() {
			require.NoError(t, err, what)
		}
		require.NoError(t, call(t, ledger, tenant.ID("acme"), "0.5"))
		summary, err := tenant.UsageSummary(ctx, db, tenant.Root, tenant.Today, tenant.WithDescendants())
		require.NoError(t, err)
		require.Equal(t, "0.5", summary.Cost.String(), "from then on")
	})
}

// PostgreSQL answers one query of a connection at a time, and so says nothing while the host reads the rows of another.
func TestQuestions_SayThatRowsAreOpenOnTheTransaction(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		ctx := t.Context()
		org := newOrganization(t, db, ledger, "acme", dollar)
		newOrganizations := []Organization{{Slug: "b"}, {Slug: "c"}}
		require.NoError(t, db.Create(&newOrganizations).Error)
		require.NoError(t, ledger.RollUp(ctx)) // so that it is known by now which places there are
		tx := db.Begin()
		require.NoError(t, tx.Error)
		defer tx.Rollback()
		rows, err := tx.Model(&Organization{}).Rows()
		require.NoError(t, err)
		defer func() { _ = rows.Close() }()
		require.True(t, rows.Next())
		errs := map[string]error{}
		_, errs["Cost"] = tenant.CostToday(ctx, tx, org)
		_, errs["BudgetStatus"] = tenant.BudgetStatus(ctx, tx, org)
		_, errs["FormerTenants"] = tenant.FormerTenants(ctx, tx, "acme")
		errs["CheckBudget"] = tenant.CheckBudget(ctx, tx, org)
		for what, err := range errs {
			if db.Name() == "sqlite" {
				require.NoError(t, err, "%s: SQLite answers", what)
				continue
			}
			require.ErrorIs(t, err, tenant.ErrRowsOpen, what)
			require.NotErrorIs(t, err, tenant.ErrUnavailable, what)
		}
		if db.Name() == "postgres" {
			require.ErrorIs(t, tenant.ConfigureBudget(ctx, tx, org, func(*tenant.Budget) error { return nil }), tenant.ErrRowsOpen)
			require.ErrorIs(t, tx.Create(&Organization{Slug: "d"}).Error, tenant.ErrRowsOpen, "nor can a hook do its part")
			require.ErrorIs(t, tx.Model(&Organization{ID: org.ID}).Update("slug", "e").Error, tenant.ErrRowsOpen)
			require.ErrorIs(t, tx.Delete(org).Error, tenant.ErrRowsOpen)
		}
		require.NoError(t, rows.Err())
		require.NoError(t, rows.Close())
		_, err = tenant.CostToday(ctx, tx, org)
		require.NoError(t, err)
		require.NoError(t, tx.Commit().Error)
	})
}

func TestRecordFor_NamesTheRecordOrNone(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		org := newOrganization(t, db, ledger, "globex", dollar)
		record, found, err := tenant.RecordFor(t.Context(), db, tenant.ID("globex"))
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, tenant.RecordKey{Table: "organizations", Key: fmt.Sprint(org.ID)}, record)
		place(t, db, acme, "", "1")
		_, found, err = tenant.RecordFor(t.Context(), db, acme)
		require.NoError(t, err)
		require.False(t, found)
		_, _, err = tenant.RecordFor(t.Context(), db, tenant.ID("nobody"))
		require.ErrorIs(t, err, tenant.ErrNoBudget)
	})
}
