package tenant_test

import (
	"bytes"
	"context"
	"database/sql/driver"
	"encoding/base64"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"github.com/llmtenant/tenant"
)

// masked hides itself wherever it is printed.
type masked string

func (masked) String() string { return "***" }

// maskedNumber does the same, and has nothing else to tell its values apart.
type maskedNumber int

func (maskedNumber) String() string { return "#" }

// binaryID is stored as its bytes.
type binaryID uuid.UUID

func (b binaryID) String() string               { return uuid.UUID(b).String() }
func (b binaryID) Value() (driver.Value, error) { return b[:], nil }
func (b *binaryID) Scan(from any) error         { return (*uuid.UUID)(b).Scan(from) }

// sealed gives another value at each time, as what encrypts with a nonce does.
type sealed struct{ plain string }

var nonce int

func (s sealed) Value() (driver.Value, error) { nonce++; return fmt.Sprint(s.plain, nonce), nil }
func (s *sealed) Scan(from any) error         { s.plain = fmt.Sprint(from); return nil }

// shifting is a serializer whose column does not say what the program sees.
type shifting struct{}

func (shifting) Value(_ context.Context, _ *schema.Field, _ reflect.Value, value any) (any, error) {
	return base64.StdEncoding.EncodeToString([]byte(value.(string))), nil
}

func (shifting) Scan(ctx context.Context, f *schema.Field, dst reflect.Value, value any) error {
	text, err := base64.StdEncoding.DecodeString(fmt.Sprint(value))
	if err == nil {
		err = f.Set(ctx, dst, string(text))
	}
	return err
}

type (
	byMasked struct {
		ID   uint
		Slug masked `tenant:"key"`
	}
	byMaskedNumber struct {
		ID   uint
		Slug maskedNumber `tenant:"key"`
	}
	bySealed struct {
		ID   uint
		Slug sealed `tenant:"key" gorm:"type:text"`
	}
	byJSON struct {
		ID   uint
		Slug string `tenant:"key" gorm:"serializer:json"`
		Name string `gorm:"serializer:json"`
	}
	byShifted struct {
		ID   uint
		Slug string `tenant:"key" gorm:"serializer:shifting"`
		Name string `tenant:"name"`
	}
	byBinary struct {
		ID   binaryID `gorm:"primaryKey;type:bytes"`
		Slug string   `tenant:"key"`
	}
	byRawBytes struct {
		ID   []byte `gorm:"primaryKey"`
		Slug string `tenant:"key"`
	}
	byPadded struct {
		ID   uint
		Slug string `gorm:"type:char(12)" tenant:"key"`
		Name string `gorm:"type:char(12)"`
	}
)

func init() { schema.RegisterSerializer("shifting", shifting{}) }

// The tenant id is what the program sees of its record, whatever its column has.
func TestKey_IsWhatTheProgramSees(t *testing.T) {
	t.Parallel()
	raw := []byte{0xff, 0, '\\', 7}
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		for _, c := range []struct {
			record, again    any
			table, owner, id string
		}{
			{&byMasked{Slug: "masked"}, &byMasked{}, "by_maskeds", "1", "masked"},
			{&byJSON{Slug: "json", Name: "hidden"}, &byJSON{}, "by_jsons", "1", "json"},
			{&byShifted{Slug: "shifted", Name: "Shifted"}, &byShifted{}, "by_shifteds", "1", "shifted"},
			{&byBinary{ID: binaryID{9, 8}, Slug: "binary"}, &byBinary{}, "by_binaries", binaryID{9, 8}.String(), "binary"},
			{&byRawBytes{ID: raw, Slug: "raw"}, &byRawBytes{}, "by_raw_bytes", `\xff005c07`, "raw"},
			{&byPadded{Slug: "padded", Name: "Padded"}, &byPadded{}, "by_paddeds", "1", "padded"},
		} {
			require.NoError(t, db.AutoMigrate(c.record), c.table)
			require.NoError(t, ledger.Register(c.record, dollar), c.table)
			require.NoError(t, db.Create(c.record).Error, c.table)
			row := settingsOf(t, db, c.table)
			require.Equal(t, c.id, row.TenantID, c.table)
			require.NotContains(t, row.Name, "hidden", c.table)
			var owner string
			require.NoError(t, db.Raw(`SELECT owner_id FROM llm_tenants WHERE owner_type = ?`, c.table).Scan(&owner).Error)
			require.Equal(t, c.owner, owner, c.table)

			require.NoError(t, db.First(c.again).Error)
			require.NoError(t, call(t, ledger, ledger.Tenant(c.record), "0.1"), c.table)
			require.NoError(t, call(t, ledger, ledger.Tenant(c.again), "0.2"), c.table)
			require.NoError(t, call(t, ledger, tenant.ID(c.id), "0.3"), c.table)
			require.NoError(t, db.Save(c.again).Error)
			cost, err := tenant.CostToday(t.Context(), db, ledger.Tenant(c.again))
			require.NoError(t, err)
			require.Equal(t, "0.6", cost.String(), c.table)
			report, err := ledger.Backfill(t.Context(), c.record, tenant.WithOrphansRemoved())
			require.NoError(t, err)
			require.Equal(t, tenant.BackfillReport{Seen: 1}, report, c.table)
			require.NoError(t, db.Delete(c.again).Error)
			require.ErrorIs(t, call(t, ledger, tenant.ID(c.id), "0.1"), tenant.ErrTenantSuspended, c.table)
		}
		var n int
		require.NoError(t, db.Raw(`SELECT count(*) FROM llm_tenants WHERE owner_type IS NULL AND tenant_id IS NOT NULL AND deleted_at IS NULL`).Scan(&n).Error)
		require.Zero(t, n, "no call has made another tenant")

		for what, record := range map[string]any{"different values alike": &byMaskedNumber{}, "another value each time": &bySealed{}} {
			err := ledger.Register(record, dollar)
			require.ErrorIs(t, err, tenant.ErrInvalidOption)
			require.ErrorContains(t, err, what)
			require.ErrorContains(t, err, "the field Slug cannot be a key")
		}
	})
}

type (
	place2  struct{ Slug, Name string }
	tagged2 struct {
		Slug string `tenant:"key"`
	}
	twoPlaces struct {
		ID      uint
		Billing place2 `gorm:"embedded;embeddedPrefix:billing_"`
		Office  place2 `gorm:"embedded;embeddedPrefix:office_"`
	}
	twoTagged struct {
		ID      uint
		Billing tagged2 `gorm:"embedded;embeddedPrefix:billing_"`
		Office  tagged2 `gorm:"embedded;embeddedPrefix:office_"`
	}
	Base     struct{ Slug string }
	promoted struct {
		ID uint
		Base
		Office place2 `gorm:"embedded;embeddedPrefix:office_"`
	}
)

func TestKey_OfSeveralEmbeddedFieldsIsToBeNamed(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "sqlite")
	ledger := openLedger(t, db)
	for option, register := range map[string]tenant.RegisterOption{
		"WithKey": tenant.WithKey("Slug"), "WithName": tenant.WithName("Slug"), "WithParent": tenant.WithParent("Slug", &Organization{}),
	} {
		err := ledger.Register(&twoPlaces{}, register)
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		require.ErrorContains(t, err, option+`: the model has several column fields "Slug": say which one is meant, "Billing.Slug" or "Office.Slug"`)
	}
	err := ledger.Register(&twoTagged{})
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	require.ErrorContains(t, err, `the tag "key" is on the fields Billing.Slug and Office.Slug: say which is meant, WithKey("Billing.Slug")`)
	require.ErrorContains(t, ledger.Register(&twoPlaces{}, tenant.WithKey("Ofice.Slug")), "did you mean Office.Slug?")

	require.NoError(t, db.AutoMigrate(&twoPlaces{}, &twoTagged{}, &promoted{}))
	require.NoError(t, ledger.Register(&twoPlaces{}, tenant.WithKey("Billing.Slug"), tenant.WithBudget()))
	require.NoError(t, ledger.Register(&twoTagged{}, tenant.WithKey("Office.Slug"), tenant.WithBudget()))
	require.NoError(t, ledger.Register(&promoted{}, tenant.WithKey("Slug"), tenant.WithBudget()))
	require.NoError(t, db.Create(&twoPlaces{Billing: place2{"b1", "B"}, Office: place2{"o1", "O"}}).Error)
	require.NoError(t, db.Create(&twoTagged{Billing: tagged2{"b2"}, Office: tagged2{"o2"}}).Error)
	require.NoError(t, db.Create(&promoted{Base: Base{"b3"}, Office: place2{"o3", ""}}).Error)
	require.Equal(t, []string{"b1"}, keysOf(t, db, "two_places"))
	require.Equal(t, "b1", settingsOf(t, db, "two_places").Name, "neither Name is meant")
	require.Equal(t, []string{"o2"}, keysOf(t, db, "two_taggeds"))
	require.Equal(t, []string{"b3"}, keysOf(t, db, "promoteds"), "as a program says it")
}

// Nobody sees a space at the end of an id, so that none can have one, wherever it comes from.
func TestTenantID_WithAnOuterSpaceIsRefused(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		ctx := t.Context()
		require.NoError(t, db.AutoMigrate(&Organization{}))
		require.NoError(t, ledger.Register(&Organization{}, dollar))
		for _, id := range []string{" acme", "acme ", "acme\u00a0", "\u2003acme", "\ufeffacme", "acme\u200b", " "} {
			who := tenant.ID(id)
			_, err := ledger.Reserve(ctx, who, cent)
			errs := map[string]error{"Reserve": err}
			_, errs["Record"] = ledger.Record(ctx, who, tenant.Actual{Cost: tenant.USD("1")})
			_, errs["Credit"] = ledger.Credit(ctx, who, tenant.USD("1"), "x")
			errs["TopUp"] = ledger.TopUp(ctx, who, tenant.TopUp{Limit: tenant.Limit{Window: tenant.Day, Cost: tenant.USD("1")}, Reason: "x"})
			errs["ConfigureBudget"] = tenant.ConfigureBudget(ctx, db, who, func(*tenant.Budget) error { return nil })
			errs["ParentID"] = tenant.ConfigureBudget(ctx, db, tenant.ID("child"), func(b *tenant.Budget) error { b.ParentID = id; return nil })
			_, errs["Cost"] = tenant.CostToday(ctx, db, who)
			_, errs["BudgetFor"] = tenant.BudgetFor(ctx, db, who)
			errs["Executions"] = tenant.Executions(ctx, db, who).Find(&[]tenant.Execution{}).Error
			errs["Rename from"], errs["Rename to"] = ledger.Rename(ctx, who, "other"), ledger.Rename(ctx, "other", who)
			errs["create"] = db.Create(&Organization{Slug: id}).Error
			_, errs["record"] = ledger.Reserve(ctx, &Organization{ID: 1, Slug: id}, cent)
			for what, err := range errs {
				require.ErrorIs(t, err, tenant.ErrInvalidTenant, "%s of %q", what, id)
				require.ErrorContains(t, err, "has a space at an end", "%s of %q", what, id)
			}
		}
		require.NoError(t, call(t, ledger, tenant.ID("acme inc"), "0.1"))
	})
}

func TestRegister_SaysOnceThatSoftRefusesNobody(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		open    []tenant.OpenOption
		options []tenant.RegisterOption
		warns   int
	}{
		"limits alone":            {nil, []tenant.RegisterOption{dollar}, 1},
		"Hard":                    {nil, []tenant.RegisterOption{dollar, tenant.WithEnforcement(tenant.Hard)}, 0},
		"Soft on purpose":         {nil, []tenant.RegisterOption{dollar, tenant.WithEnforcement(tenant.Soft)}, 0},
		"no limits":               {nil, []tenant.RegisterOption{tenant.WithBudget()}, 0},
		"a default that is given": {[]tenant.OpenOption{tenant.WithDefaultEnforcement(tenant.Hard)}, []tenant.RegisterOption{dollar}, 0},
		"a default not inherited": {[]tenant.OpenOption{tenant.WithDefaultEnforcement(tenant.Hard)}, []tenant.RegisterOption{dollar, tenant.WithInherit(false)}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			db := openDatabase(t, "sqlite")
			ledger := openLedger(t, db, append(c.open, tenant.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))...)
			require.NoError(t, db.AutoMigrate(&Organization{}))
			require.NoError(t, ledger.Register(&Organization{}, c.options...))
			for i := range 3 {
				org := Organization{Slug: fmt.Sprint("o", i)}
				require.NoError(t, db.Create(&org).Error)
				require.NoError(t, call(t, ledger, &org, "0.1"))
			}
			require.Equal(t, c.warns, strings.Count(log.String(), "refuse nobody"), log.String())
			if c.warns > 0 {
				require.Contains(t, log.String(), "model=tenant_test.Organization")
			}
		})
	}
}

type lowered struct {
	ID   uint
	Slug string `tenant:"key"`
}

// A trigger changes each key as it is stored. The record in memory leads to the same tenant, and only its first call looks
// for it.
func TestKey_ThatItsColumnChangesIsLookedUpOnce(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&lowered{}))
		trigger := []string{`CREATE TRIGGER low AFTER INSERT ON lowereds BEGIN UPDATE lowereds SET slug = lower(slug) WHERE id = new.id; END`}
		if db.Name() == "postgres" {
			trigger = []string{
				`CREATE FUNCTION low() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.slug = lower(NEW.slug); RETURN NEW; END'`,
				`CREATE TRIGGER low BEFORE INSERT ON lowereds FOR EACH ROW EXECUTE FUNCTION low()`,
			}
		}
		for _, statement := range trigger {
			require.NoError(t, db.Exec(statement).Error)
		}
		require.NoError(t, ledger.Register(&lowered{}, dollar))
		record := lowered{Slug: "ACME"}
		require.NoError(t, db.Create(&record).Error)
		require.Equal(t, "ACME", record.Slug)
		who := ledger.Tenant(&record)
		require.NoError(t, call(t, ledger, who, "0.1"))
		first := tenant.FirstUses(ledger)
		for range 5 {
			require.NoError(t, call(t, ledger, who, "0.1"))
		}
		require.Equal(t, first, tenant.FirstUses(ledger))
		require.Equal(t, int64(6e8), balanceOf(t, db, "acme", "day").SpentCost)

		// The guess is no more than that: it holds only while the tenant is this record's.
		require.NoError(t, db.Model(&record).Update("slug", "umbrella").Error)
		require.NoError(t, db.Create(&lowered{Slug: "Acme"}).Error)
		record.Slug = "ACME" // as a process that has not heard of it
		require.NoError(t, call(t, ledger, ledger.Tenant(&record), "0.1"))
		require.Equal(t, int64(7e8), balanceOf(t, db, "umbrella", "day").SpentCost)
		require.Zero(t, balanceOf(t, db, "acme", "day").SpentCost)
		requireConservation(t, db)
	})
}
