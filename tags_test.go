package tenant_test

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// Tagged says all that it is by its tags.
type Tagged struct {
	_     struct{} `tenant:"daily_cost=100;monthly_cost=1000.50;daily_tokens=5_000_000;monthly_tokens=7_000_000;daily_calls=0; monthly_calls=9;enforcement=hard;inherit=false;budget"`
	_     struct{} `tenant:"namespace=tagged;on_delete=keep"`
	ID    uint
	Slug  string `tenant:"key"`
	Title string `tenant:"name"`
}

// TaggedByMethod has the method and the tag alike.
type TaggedByMethod struct {
	ID   uint
	Slug string `tenant:"key;name"`
}

func (t TaggedByMethod) LLMTenantID() string { return t.Slug }

type Account struct {
	_    struct{} `tenant:"daily_calls=3"`
	Slug string   `tenant:"key"`
}

type Address struct {
	_     struct{} `tenant:"monthly_calls=4"`
	Label string   `tenant:"name"`
}

// Embedding takes its tags from what is embedded in it, in gorm's two ways.
type Embedding struct {
	ID uint
	Account
	Address Address `gorm:"embedded;embeddedPrefix:address_"`
}

type settingsRow struct {
	TenantID, Name, Enforcement string
	Inherit                     bool
	Limits                      string
}

// settingsOf is what the rows say of the one tenant of a table.
func settingsOf(t testing.TB, db *gorm.DB, table string) settingsRow {
	t.Helper()
	var rows []struct {
		ID, TenantID, Name, Enforcement string
		Inherit                         bool
	}
	require.NoError(t, db.Raw(`SELECT id, tenant_id, name, enforcement, inherit FROM llm_tenants WHERE owner_type = ?`, table).Scan(&rows).Error)
	require.Len(t, rows, 1)
	var limits []string
	require.NoError(t, db.Raw(`SELECT window_unit || ' ' || metric || ' ' || CAST(amount AS text) FROM llm_limits WHERE tenant = ? ORDER BY 1`,
		rows[0].ID).Scan(&limits).Error)
	r := rows[0]
	return settingsRow{r.TenantID, r.Name, r.Enforcement, r.Inherit, strings.Join(limits, ", ")}
}

func TestDeclaration_SaysTheSameInEachOfItsWays(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		for _, c := range []struct {
			record  any
			options []tenant.RegisterOption
			table   string
			want    settingsRow
		}{
			{&Tagged{Slug: "a", Title: "A"}, nil, "taggeds", settingsRow{"tagged:a", "A", "hard", false,
				"day calls 0, day cost 100000000000, day tokens 5000000, month calls 9, month cost 1000500000000, month tokens 7000000"}},
			// A method, a tag and an option that say the same; a limit of each way.
			{&TaggedByMethod{Slug: "b"}, []tenant.RegisterOption{tenant.WithKey("Slug"), tenant.WithName("Slug"),
				tenant.WithLimits(tenant.Limits{DailyCalls: tenant.Count(5)})}, "tagged_by_methods",
				settingsRow{"b", "b", "", true, "day calls 5"}},
			{&Embedding{Account: Account{Slug: "c"}, Address: Address{Label: "C"}},
				[]tenant.RegisterOption{tenant.WithLimits(tenant.Limits{DailyCost: tenant.USD("1"), DailyCalls: tenant.Count(3)}),
					tenant.WithInherit(true), tenant.WithEnforcement(tenant.Soft)}, "embeddings",
				settingsRow{"c", "C", "soft", true, "day calls 3, day cost 1000000000, month calls 4"}},
		} {
			require.NoError(t, db.AutoMigrate(c.record))
			require.NoError(t, ledger.Register(c.record, c.options...))
			require.NoError(t, db.Create(c.record).Error)
			require.Equal(t, c.want, settingsOf(t, db, c.table))
			hold, err := ledger.Reserve(t.Context(), ledger.Tenant(c.record), tenant.Estimate{})
			if c.table == "taggeds" {
				require.ErrorIs(t, err, tenant.ErrBudgetExceeded, "daily_calls=0")
				continue
			}
			require.NoError(t, err)
			require.Equal(t, c.want.TenantID, hold.TenantID)
			_, err = ledger.Release(t.Context(), hold)
			require.NoError(t, err)
		}
	})
}

func TestRegister_NamesATagThatCannotBeMeant(t *testing.T) {
	t.Parallel()
	type (
		typo struct {
			_  struct{} `tenant:"daily_csot=1"`
			ID uint
		}
		fieldTypo struct {
			ID   uint
			Slug string `tenant:"kye"`
		}
		nothingNear struct {
			_  struct{} `tenant:"colour=red"`
			ID uint
		}
		modelOnField struct {
			ID   uint
			Slug string `tenant:"daily_cost=1"`
		}
		fieldOnModel struct {
			_  struct{} `tenant:"key"`
			ID uint
		}
		noColumn struct {
			ID   uint
			Slug string `gorm:"-" tenant:"key"`
		}
		twoKeys struct {
			ID   uint
			Slug string `tenant:"key"`
			Code string `tenant:"key"`
		}
		money struct {
			_  struct{} `tenant:"monthly_cost=1,5"`
			ID uint
		}
		tokens struct {
			_  struct{} `tenant:"daily_tokens=1e6"`
			ID uint
		}
		negative struct {
			_  struct{} `tenant:"daily_calls=-1"`
			ID uint
		}
		enforcement struct {
			_  struct{} `tenant:"enforcement=hrad"`
			ID uint
		}
		inherit struct {
			_  struct{} `tenant:"inherit=maybe"`
			ID uint
		}
		twice struct {
			_  struct{} `tenant:"daily_cost=1"`
			_  struct{} `tenant:"daily_cost=2"`
			ID uint
		}
		value struct {
			_  struct{} `tenant:"budget=yes"`
			ID uint
		}
		namespace struct {
			_  struct{} `tenant:"namespace=a:b"`
			ID uint
		}
		deletion struct {
			_  struct{} `tenant:"on_delete=suspnd"`
			ID uint
		}
		tagged struct {
			_    struct{} `tenant:"daily_cost=1;enforcement=hard;inherit=false;namespace=a;on_delete=keep"`
			ID   uint
			Slug string `tenant:"key"`
			Name string `tenant:"name"`
		}
		moment struct {
			ID   uint
			Even bool
		}
	)
	db := openDatabase(t, "sqlite")
	ledger := openLedger(t, db)
	dollars := func(s string) tenant.RegisterOption {
		return tenant.WithLimits(tenant.Limits{DailyCost: tenant.USD(s)})
	}
	for name, c := range map[string]struct {
		record any
		option tenant.RegisterOption
		says   []string
	}{
		"a typo":                      {record: &typo{}, says: []string{"typo", `"daily_csot"`, "did you mean daily_cost?"}},
		"a typo on a field":           {record: &fieldTypo{}, says: []string{"the field Slug", `"kye"`, "did you mean key?"}},
		"nothing near":                {record: &nothingNear{}, says: []string{`"colour"`, "budget, counts, daily_calls"}},
		"of the model on a field":     {record: &modelOnField{}, says: []string{"the field Slug", "daily_cost", "blank field"}},
		"of a field on the model":     {record: &fieldOnModel{}, says: []string{"blank field", `"key"`, "on the field that it is about"}},
		"no column":                   {record: &noColumn{}, says: []string{"the field Slug", "no column"}},
		"two keys":                    {record: &twoKeys{}, says: []string{"the field Code", `"key"`, "on the field Slug already"}},
		"money":                       {record: &money{}, says: []string{"monthly_cost", "1,5"}},
		"tokens":                      {record: &tokens{}, says: []string{"daily_tokens", `"1e6" is not a whole number`}},
		"negative":                    {record: &negative{}, says: []string{"DailyCalls", "-1", "negative"}},
		"enforcement":                 {record: &enforcement{}, says: []string{`"hrad"`, "did you mean hard?"}},
		"inherit":                     {record: &inherit{}, says: []string{"inherit", `"maybe"`}},
		"twice":                       {record: &twice{}, says: []string{"daily_cost", `"2"`, `"1"`}},
		"a value where none is":       {record: &value{}, says: []string{"budget", `"yes"`}},
		"a namespace":                 {record: &namespace{}, says: []string{"namespace", `"a:b"`}},
		"a policy":                    {record: &deletion{}, says: []string{"on_delete", `"suspnd"`, "did you mean suspend?"}},
		"WithKey disagrees":           {&tagged{}, tenant.WithKey("ID"), []string{`WithKey("ID")`, "is Slug"}},
		"WithName disagrees":          {&tagged{}, tenant.WithName("Slug"), []string{`WithName("Slug")`, "is Name"}},
		"WithLimits disagrees":        {&tagged{}, dollars("2"), []string{"WithLimits", "day limit of cost", "$2.00", "$1.00 in the tags"}},
		"WithEnforcement disagrees":   {&tagged{}, tenant.WithEnforcement(tenant.Soft), []string{`WithEnforcement("soft")`, `"hard"`}},
		"WithInherit disagrees":       {&tagged{}, tenant.WithInherit(true), []string{"WithInherit(true)", "false"}},
		"WithNamespace disagrees":     {&tagged{}, tenant.WithNamespace("b"), []string{`WithNamespace("b")`, `"a"`}},
		"WithOnDelete disagrees":      {&tagged{}, tenant.WithOnDelete(tenant.RemoveBudget), []string{`WithOnDelete("remove")`, `"keep"`}},
		"WithOnDelete unknown":        {&moment{}, tenant.WithOnDelete("burn"), []string{"WithOnDelete", `"burn"`, "SuspendBudget"}},
		"WithNamespace with a colon":  {&moment{}, tenant.WithNamespace("a:"), []string{"WithNamespace", `"a:"`}},
		"WithNamespace empty":         {&moment{}, tenant.WithNamespace(""), []string{"WithNamespace", "empty"}},
		"WithKey of what is no key":   {&moment{}, tenant.WithKey("Even"), []string{"the field Even cannot be a key", "bool"}},
		"WithKey nearly right":        {&moment{}, tenant.WithKey("Evne"), []string{"WithKey", `"Evne"`, "ID, Even", "did you mean Even?"}},
		"WithName of another's field": {&moment{}, tenant.WithName("Slug"), []string{"WithName", `"Slug"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var options []tenant.RegisterOption
			if c.option != nil {
				options = append(options, c.option)
			}
			err := ledger.Register(c.record, options...)
			require.ErrorIs(t, err, tenant.ErrInvalidOption)
			for _, s := range c.says {
				require.ErrorContains(t, err, s)
			}
		})
	}
}

// Plan is a key of a type of the host's.
type Plan int

func (p Plan) String() string { return [...]string{"free", "gold"}[p] }

type (
	byUint    struct{ ID uint }
	byUUID    struct{ ID uuid.UUID }
	byText    struct{ ID string }
	byBytes   struct{ ID []byte }
	byPointer struct {
		ID  uint
		Key *string
	}
	byNull struct {
		ID  uint
		Key sql.NullString
	}
	byNullInt struct {
		ID  uint
		Key sql.Null[int64]
	}
	byStringer struct {
		ID  uint
		Key Plan
	}
	byTwo struct {
		Region string `gorm:"primaryKey"`
		Number int    `gorm:"primaryKey;autoIncrement:false"`
	}
	byTime struct {
		At   time.Time `gorm:"primaryKey"`
		Zone string    `gorm:"primaryKey"`
		Key  string
	}
	otherTable struct {
		ID  uint
		Key string
	}
)

func (byTwo) TableName() string      { return "by_two_columns" }
func (b byTwo) LLMTenantID() string  { return fmt.Sprintf("%s/%d", b.Region, b.Number) }
func (otherTable) TableName() string { return "over_there" }

func TestKey_IsOfAnyTypeThatHasATextForm(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		id, text := uuid.New(), "by pointer"
		at := time.Date(2026, 3, 4, 5, 6, 7, 123456789, time.FixedZone("", 3600))
		key := tenant.WithKey("Key")
		for _, c := range []struct {
			record         any
			options        []tenant.RegisterOption
			table, owner   string
			tenantID, name string
		}{
			{&byUint{ID: 7}, nil, "by_uints", "7", "7", "7"},
			{&byUUID{ID: id}, nil, "by_uuids", id.String(), id.String(), id.String()},
			{&byText{ID: "text"}, nil, "by_texts", "text", "text", "text"},
			{&byBytes{ID: []byte("bytes")}, nil, "by_bytes", "bytes", "bytes", "bytes"},
			{&byPointer{Key: &text}, []tenant.RegisterOption{key}, "by_pointers", "1", "by pointer", "by pointer"},
			{&byNull{Key: sql.NullString{String: "by null", Valid: true}}, []tenant.RegisterOption{key}, "by_nulls", "1", "by null", "by null"},
			{&byNullInt{Key: sql.Null[int64]{V: -5, Valid: true}}, []tenant.RegisterOption{key}, "by_null_ints", "1", "-5", "-5"},
			{&byStringer{Key: 1}, []tenant.RegisterOption{key}, "by_stringers", "1", "gold", "gold"},
			{&byTwo{"eu", 3}, nil, "by_two_columns", `["eu","3"]`, "eu/3", "eu/3"},
			{&byTime{At: at, Zone: "z", Key: "by time"}, []tenant.RegisterOption{key}, "by_times", `["2026-03-04T04:06:07.123456Z","z"]`, "by time", "by time"},
			{&otherTable{Key: "there"}, []tenant.RegisterOption{key}, "over_there", "1", "there", "there"},
		} {
			require.NoError(t, db.AutoMigrate(c.record), c.table)
			require.NoError(t, ledger.Register(c.record, append(c.options, tenant.WithBudget())...), c.table)
			require.NoError(t, db.Create(c.record).Error, c.table)
			var owner string
			require.NoError(t, db.Raw(`SELECT owner_id FROM llm_tenants WHERE owner_type = ?`, c.table).Scan(&owner).Error)
			require.Equal(t, c.owner, owner, c.table)
			row := settingsOf(t, db, c.table)
			require.Equal(t, [2]string{c.tenantID, c.name}, [2]string{row.TenantID, row.Name}, c.table)
			hold, err := ledger.Reserve(t.Context(), ledger.Tenant(c.record), cent)
			require.NoError(t, err, c.table)
			require.Equal(t, c.tenantID, hold.TenantID)
			_, err = ledger.Release(t.Context(), hold)
			require.NoError(t, err)
		}
		var tenants int
		require.NoError(t, db.Raw(`SELECT count(*) FROM llm_tenants`).Scan(&tenants).Error)
		require.Equal(t, 11, tenants, "no call has made another")

		// NULL is no key.
		err := db.Create(&byNull{}).Error
		require.ErrorIs(t, err, tenant.ErrInvalidTenant)
		require.ErrorContains(t, err, "empty")
	})
}

func TestKey_OfSeveralPrimaryColumnsIsToBeNamed(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "sqlite")
	err := openLedger(t, db).Register(&byTime{})
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	require.ErrorContains(t, err, "several columns")
	require.ErrorContains(t, err, "WithKey")
}

// Divided says one key with its method and another with its field, once it is Odd.
type Divided struct {
	ID   uint
	Slug string `tenant:"key"`
	Odd  bool
}

func (d Divided) LLMTenantID() string {
	if d.Odd {
		return "odd"
	}
	return d.Slug
}

func TestKey_ThatTheWaysDisagreeOnIsAnErrorOfTheRecord(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Divided{}))
		require.NoError(t, ledger.Register(&Divided{}, tenant.WithBudget()))
		for name, err := range map[string]error{
			"create": db.Create(&Divided{Slug: "a", Odd: true}).Error,
			"call": func() error {
				_, err := ledger.Reserve(t.Context(), Divided{ID: 1, Slug: "a", Odd: true}, cent)
				return err
			}(),
		} {
			require.ErrorIs(t, err, tenant.ErrInvalidTenant, name)
			require.ErrorContains(t, err, `"odd" with its method LLMTenantID, and "a" with the field Slug`, name)
		}
		d := Divided{Slug: "a"}
		require.NoError(t, db.Create(&d).Error)
		err := db.Model(&d).Update("odd", true).Error
		require.ErrorIs(t, err, tenant.ErrInvalidTenant, "the method can read any column")
		require.NoError(t, db.First(&d, d.ID).Error)
		require.False(t, d.Odd, "the update is undone")
	})
}

// Member asks its organization for its key, which a row alone does not have.
type Member struct {
	ID             uint
	OrganizationID uint
	Organization   *Organization
}

func (m *Member) LLMTenantID() string { return m.Organization.Slug }

// Labelled has a Stringer of the usual careless kind.
type Labelled struct {
	ID    uint
	Title string
	Inner *Labelled `gorm:"-"`
}

func (l *Labelled) String() string { return "Label " + l.Title }

// Nameless has a String method that panics, and a field Name that is no text.
type Nameless struct {
	ID   uint
	Name bool
}

func (n *Nameless) String() string { panic("no name") }

func TestName_IsNeverAGoValueAndAMethodThatPanicsIsAnError(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&Organization{}, &Member{}, &Labelled{}, &Nameless{}))
		require.NoError(t, ledger.Register(&Labelled{}, tenant.WithBudget(), tenant.WithNamespace("label")))
		require.NoError(t, ledger.Register(&Nameless{}, tenant.WithBudget(), tenant.WithNamespace("nameless")))
		require.NoError(t, ledger.Register(&Member{}, tenant.WithBudget()))
		label := &Labelled{Title: "one\x00two"}
		if db.Name() == "postgres" {
			label.Title = "one\ntwo"
		}
		require.NoError(t, db.Create(label).Error)
		require.Equal(t, "Label onetwo", settingsOf(t, db, "labelleds").Name)
		require.NoError(t, db.Create(&Nameless{}).Error)
		require.Equal(t, "nameless:1", settingsOf(t, db, "namelesses").Name)

		member := &Member{Organization: &Organization{Slug: "acme"}}
		err := db.Create(member).Error
		require.ErrorIs(t, err, tenant.ErrInvalidTenant)
		require.ErrorContains(t, err, "LLMTenantID of tenant_test.Member panics")
		require.ErrorContains(t, err, "without associations")
		var members int64
		require.NoError(t, db.Model(&Member{}).Count(&members).Error)
		require.Zero(t, members)
	})
}

func TestWithNamespace_KeepsTwoModelsApartWhicheverWayTheKeyIsGiven(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		require.NoError(t, db.AutoMigrate(&byUint{}, &Team{}))
		org := newOrganization(t, db, ledger, "1", tenant.WithNamespace("org"), dollar)
		require.NoError(t, ledger.Register(&byUint{}, tenant.WithNamespace("user"), tenant.WithBudget()))
		require.NoError(t, ledger.Register(&Team{}, tenant.WithKey("Title"), tenant.WithBudget()))
		user, team := &byUint{ID: 1}, &Team{ID: uuid.New(), Title: "1"}
		require.NoError(t, db.Create(user).Error)
		require.NoError(t, db.Create(team).Error, "without a namespace it is another one")

		for i, c := range []struct {
			who tenant.Tenant
			id  string
		}{
			{org, "org:1"}, {ledger.Tenant(org), "org:1"}, {ledger.Tenant(*org), "org:1"}, {tenant.ID("org:1"), "org:1"},
			{ledger.Tenant(user), "user:1"}, {ledger.Tenant(team), "1"}, {tenant.ID("1"), "1"},
		} {
			hold, err := ledger.Reserve(t.Context(), c.who, cent)
			require.NoError(t, err, i)
			require.Equal(t, c.id, hold.TenantID, i)
			_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.01")})
			require.NoError(t, err)
		}
		require.EqualValues(t, 4, balanceOf(t, db, "org:1", "day").SpentCalls)
		require.Equal(t, "org:1", ledger.Tenant(org).LLMTenantID())
		for _, who := range []tenant.Tenant{org, tenant.ID("org:1")} {
			cost, err := tenant.CostToday(t.Context(), db, who)
			require.NoError(t, err)
			require.Equal(t, "0.04", cost.String())
			budget, err := tenant.BudgetFor(t.Context(), db, who)
			require.NoError(t, err)
			require.Equal(t, "org:1", budget.TenantID)
			require.Equal(t, tenant.USD("1"), budget.Limits.DailyCost)
		}

		// It stays so when the record changes.
		require.NoError(t, db.Model(org).Update("Slug", "2").Error)
		require.EqualValues(t, 4, balanceOf(t, db, "org:2", "day").SpentCalls)
		err := db.Create(&Organization{Slug: strings.Repeat("x", 252)}).Error
		require.ErrorIs(t, err, tenant.ErrInvalidTenant, "with its namespace it is too long")
	})
}
