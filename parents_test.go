package tenant_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// squad says with a method who stands above it: a division, of which it knows the primary key, or a tenant without a record.
type squad struct {
	ID         uint
	Slug       string
	DivisionID uint
	Group      string
}

func (squad) TableName() string { return "squads" }

func (s squad) LLMTenantParent() tenant.Tenant {
	switch {
	case s.DivisionID != 0:
		return &division{ID: s.DivisionID}
	case s.Group != "":
		return tenant.ID(s.Group)
	}
	return nil
}

type division struct {
	ID   uint
	Slug string
}

func (division) TableName() string { return "divisions" }

func (d division) LLMTenantID() string { return d.Slug }

func TestParent_FollowsTheFieldOfTheRecord(t *testing.T) {
	t.Parallel()
	eachHierarchy(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		acme := &company{Slug: "acme", Teams: []team{{Slug: "red"}, {Slug: "blue"}}}
		globex := &company{Slug: "globex"}
		require.NoError(t, db.Create(acme).Error)
		require.NoError(t, db.Create(globex).Error)
		together(t, db, ledger, "globex", "acme")
		require.NoError(t, db.Create(&team{Slug: "free"}).Error)
		require.Equal(t, []string{"acme", "acme", ""}, []string{parentOf(t, db, "red"), parentOf(t, db, "blue"), parentOf(t, db, "free")})
		red := ledger.Tenant(&acme.Teams[0])
		require.NoError(t, call(t, ledger, red, "6"))
		require.ErrorIs(t, call(t, ledger, ledger.Tenant(&acme.Teams[1]), "6"), tenant.ErrBudgetExceeded)

		require.NoError(t, db.Model(&acme.Teams[0]).Update("company_id", globex.ID).Error)
		require.Equal(t, "globex", parentOf(t, db, "red"))
		require.NoError(t, call(t, ledger, red, "6"))
		require.NoError(t, db.Model(&team{}).Where("slug IN ?", []string{"red", "blue"}).Update("company_id", nil).Error)
		require.Equal(t, []string{"", ""}, []string{parentOf(t, db, "red"), parentOf(t, db, "blue")})
		require.NoError(t, call(t, ledger, red, "60"))
		require.Error(t, db.Transaction(func(tx *gorm.DB) error {
			require.NoError(t, tx.Model(&team{}).Where("slug = ?", "red").Update("company_id", acme.ID).Error)
			return gorm.ErrInvalidData
		}))
		require.Empty(t, parentOf(t, db, "red"), "a change that was rolled back changes nothing")

		require.Equal(t, []string{"6", "6"}, []string{
			costToday(t, db, ledger.Tenant(acme), tenant.WithDescendants()), costToday(t, db, ledger.Tenant(globex), tenant.WithDescendants()),
		})
		b, err := tenant.BudgetFor(t.Context(), db, tenant.ID("acme"))
		require.NoError(t, err)
		require.Equal(t, "Asia/Kathmandu", b.TimeZone)
		require.ErrorContains(t, tenant.ConfigureBudget(t.Context(), db, tenant.ID("red"), func(b *tenant.Budget) error {
			b.ParentID = "acme"
			return nil
		}), "stands where its record says")
		requireConservation(t, db)
	})
}

func TestParent_FromBeforeTheDeclarationIsMadeWithItsChild(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&company{}, &team{}))
		acme := &company{Slug: "acme", Teams: []team{{Slug: "red"}}}
		require.NoError(t, db.Create(acme).Error)
		require.NoError(t, ledger.Register(&team{}, tenant.WithKey("Slug"), tenant.WithParent("CompanyID", company{})))
		err := call(t, ledger, ledger.Tenant(&acme.Teams[0]), "1")
		require.ErrorIs(t, err, tenant.ErrHierarchy)
		require.ErrorContains(t, err, "which was not declared; call ledger.Register(&tenant_test.company{}")
		require.NoError(t, ledger.Register(&company{}, tenant.WithKey("Slug"), dollar, tenant.WithEnforcement(tenant.Hard)))

		require.ErrorIs(t, call(t, ledger, ledger.Tenant(&acme.Teams[0]), "2"), tenant.ErrBudgetExceeded, "with its first use")
		require.Equal(t, "acme", parentOf(t, db, "red"))

		gone := team{Slug: "gone", CompanyID: new(uint)}
		*gone.CompanyID = 999
		if db.Name() == "sqlite" { // without foreign keys
			require.NoError(t, db.Exec(`PRAGMA foreign_keys = OFF`).Error)
			require.NoError(t, db.Create(&gone).Error)
			require.NoError(t, call(t, ledger, ledger.Tenant(&gone), "2"))
		}
	})
}

func TestParent_CanBeSaidByAMethod(t *testing.T) {
	t.Parallel()
	eachHierarchy(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&squad{}, &division{}))
		require.NoError(t, ledger.Register(&division{}, tenant.WithBudget()))
		require.NoError(t, ledger.Register(&squad{}, tenant.WithKey("Slug"), tenant.WithBudget()))
		loose := &squad{Slug: "loose"}
		grouped := &squad{Slug: "grouped", Group: "holding"}
		require.NoError(t, db.Create(loose).Error)
		require.NoError(t, db.Create(grouped).Error)
		require.Equal(t, []string{"", "holding"}, []string{parentOf(t, db, "loose"), parentOf(t, db, "grouped")})
		require.NoError(t, db.Model(&squad{}).Where("id = ?", loose.ID).Update("group", "holding").Error)
		require.Equal(t, "holding", parentOf(t, db, "loose"))
		north := &division{Slug: "north"}
		require.NoError(t, db.Create(north).Error)
		require.NoError(t, db.Model(loose).Update("division_id", north.ID).Error)
		require.Equal(t, "north", parentOf(t, db, "loose"))
	})
}

func TestParent_ACircleFailsTheHostsStatement(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&unit{}))
		require.NoError(t, ledger.Register(&unit{}, tenant.WithKey("Slug"), tenant.WithBudget(), tenant.WithParent("ParentID", &unit{})))
		top := &unit{Slug: "top"}
		require.NoError(t, db.Create(top).Error)
		below := &unit{Slug: "below", ParentID: &top.ID}
		require.NoError(t, db.Create(below).Error)
		err := db.Model(top).Update("parent_id", below.ID).Error
		require.ErrorIs(t, err, tenant.ErrHierarchy)
		require.ErrorContains(t, err, `tenant "top" below "below": it would stand above itself`)
		var stored unit
		require.NoError(t, db.First(&stored, top.ID).Error)
		require.Nil(t, stored.ParentID, "the record is as it was")
		require.Empty(t, parentOf(t, db, "top"))
	})
}

func TestParentOptions_ThatCannotBeMeant(t *testing.T) {
	t.Parallel()
	ledger := openLedger(t, openDatabase(t, "sqlite"))
	for want, option := range map[string]tenant.RegisterOption{
		`WithParent: the model has no column field "CompnyID"; it has ID, Slug, CompanyID; did you mean CompanyID?`: tenant.WithParent("CompnyID", &company{}),
		`WithParent("CompanyID"): the model is a string`:                                                            tenant.WithParent("CompanyID", "companies"),
		`WithParent("CompanyID"): the model is a <nil>`:                                                             tenant.WithParent("CompanyID", nil),
		`WithTimeZone: the time zone "Mars/Olympus" is not known here`:                                              tenant.WithTimeZone("Mars/Olympus"),
	} {
		err := ledger.Register(&team{}, option)
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		require.ErrorContains(t, err, want)
	}
}
