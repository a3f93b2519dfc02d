package tenant_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/glebarez/sqlite"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// openPlaces opens a ledger with places, and makes their tables.
func openPlaces(t testing.TB, db *gorm.DB, names []string, options ...tenant.OpenOption) *tenant.Ledger {
	t.Helper()
	ledger := openLedger(t, db, append([]tenant.OpenOption{tenant.WithPlaces(names...)}, options...)...)
	require.NoError(t, ledger.Migrate(t.Context()))
	return ledger
}

// placeOf is where the books of a tenant are.
func placeOf(t testing.TB, db *gorm.DB, key string) (place string) {
	t.Helper()
	require.NoError(t, db.Raw(`SELECT place FROM llm_tenants WHERE tenant_id = ?`, key).Scan(&place).Error)
	return place
}

func TestPlaces_EachTenantIsBookedInItsOwn(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	w := &witness{}
	ledger := openPlaces(t, db, eastAndWest, tenant.WithObserver(w))
	began := time.Now()
	const tenants = 20
	for i := range tenants {
		id := tenant.ID(fmt.Sprintf("customer-%d", i))
		for range 3 {
			require.NoError(t, call(t, ledger, id, "0.25"))
		}
		cost, err := tenant.CostToday(t.Context(), db, id)
		require.NoError(t, err)
		require.Equal(t, "0.75", cost.String())
	}
	require.NoError(t, call(t, ledger, nil, "0.5"))
	count := func(place string) (n int64) {
		require.NoError(t, db.Raw(`SELECT count(*) FROM `+place+`llm_executions`).Scan(&n).Error)
		return n
	}
	east, west := count("east."), count("west.")
	require.EqualValues(t, 3*tenants, east+west)
	require.NotZero(t, east)
	require.NotZero(t, west)
	require.EqualValues(t, 1, count(""), "the call without a tenant is in the home")
	require.Equal(t, eastAndWest, ledger.Places())
	told := map[string]int{}
	for _, b := range of[*tenant.BatchEvent](w) {
		told[b.Place] += b.Operations
	}
	require.Len(t, told, 3)
	for _, n := range told {
		require.Positive(t, n)
	}
	all, err := tenant.QueryUsage(t.Context(), db, tenant.Query{Everybody: true, Period: tenant.Between(began.Add(-time.Hour), time.Now().Add(time.Hour))})
	require.NoError(t, err)
	require.Equal(t, "15.5", all.Total.Cost.String())
	list, err := tenant.ListTenants(t.Context(), db, tenant.TenantList{})
	require.NoError(t, err)
	require.Len(t, list, tenants)
	page, err := tenant.ExecutionsPage(t.Context(), db, tenant.ExecutionQuery{Everybody: true}, 1000)
	require.NoError(t, err)
	require.Len(t, page.Executions, 3*tenants+1)
	differences, err := ledger.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, differences)
}

func TestProcesses_AreOnesThatCallInAnyPlace(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openPlaces(t, db, eastAndWest)
	require.NoError(t, call(t, ledger, tenant.ID("customer"), "1"))
	all, err := tenant.Processes(t.Context(), db)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.True(t, all[0].Own && all[0].Alive)

	// Another one has stopped its heartbeat in a place: its calls there are ended by others, whatever it does elsewhere.
	const other = `INSERT INTO %sllm_processes (id, started_at, beat_at, lease_ms) SELECT '01a00000-0000-7000-8000-000000000001', now() - interval '1 day', now() - interval '%s', 30000`
	for place, late := range map[string]string{"east.": "1 second", "west.": "1 hour"} {
		require.NoError(t, db.Exec(fmt.Sprintf(other, place, late)).Error)
	}
	all, err = tenant.Processes(t.Context(), db)
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.False(t, all[0].Own || all[0].Alive)
	require.Greater(t, time.Since(all[0].BeatAt), 50*time.Minute)
	require.True(t, all[1].Own && all[1].Alive)
}

func TestMove_TakesATenantWithAllBelowItAndWhatRuns(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	ledger := openPlaces(t, db, eastAndWest)
	company, team, other := tenant.ID("company"), tenant.ID("team"), tenant.ID("other")
	below := func(id, parent tenant.ID) {
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, id, func(b *tenant.Budget) error {
			b.ParentID = string(parent)
			return nil
		}))
	}
	day := tenant.Limits{DailyCost: tenant.USD("2")}
	require.NoError(t, tenant.ConfigureBudget(t.Context(), db, company, func(b *tenant.Budget) error {
		b.Limits, b.Enforcement = day, tenant.Hard
		return nil
	}))
	home := placeOf(t, db, string(company))
	away := map[string]string{"east": "west", "west": "east"}[home]
	if placeOfNew(t, ledger, db, team) != home {
		_, err := ledger.Move(t.Context(), team, home)
		require.NoError(t, err)
	}
	below(team, company)
	require.NoError(t, call(t, ledger, other, "0.125"))
	for range 3 {
		require.NoError(t, call(t, ledger, team, "0.25"))
	}
	running, err := ledger.Reserve(t.Context(), team, tenant.Estimate{Cost: tenant.USD("1")})
	require.NoError(t, err)

	_, err = ledger.Move(t.Context(), team, away)
	require.ErrorIs(t, err, tenant.ErrHierarchy)
	require.ErrorContains(t, err, `"company"`)
	report, err := ledger.Move(t.Context(), company, away)
	require.NoError(t, err)
	for _, who := range []tenant.Tenant{company, team} {
		in, err := tenant.PlaceFor(t.Context(), db, who)
		require.NoError(t, err)
		require.Equal(t, away, in)
	}
	_, err = tenant.PlaceFor(t.Context(), db, tenant.ID("nobody"))
	require.ErrorIs(t, err, tenant.ErrNoBudget)
	require.Equal(t, tenant.MoveReport{Tenants: []string{"company", "team"}, Executions: 5}, report)
	require.Equal(t, []string{away, away}, []string{placeOf(t, db, "company"), placeOf(t, db, "team")})
	again, err := ledger.Move(t.Context(), company, away)
	require.NoError(t, err)
	require.Zero(t, again)

	require.ErrorIs(t, call(t, ledger, team, "0.5"), tenant.ErrBudgetExceeded, "what runs is held as before")
	settled, err := ledger.Settle(t.Context(), running, tenant.Actual{Cost: tenant.USD("0.5")})
	require.NoError(t, err)
	require.Equal(t, tenant.Settled, settled.Outcome)
	require.NoError(t, call(t, ledger, team, "0.75"))
	require.ErrorIs(t, call(t, ledger, team, "0.000000001"), tenant.ErrBudgetExceeded)
	cost, err := tenant.Cost(t.Context(), db, company, tenant.AllTime, tenant.WithDescendants())
	require.NoError(t, err)
	require.Equal(t, "2", cost.String())
	differences, err := ledger.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, differences)
	var changes []tenant.AuditEntry
	require.NoError(t, tenant.AuditLog(t.Context(), db, company).Where("action = ?", "Move").Find(&changes).Error)
	require.Len(t, changes, 1)
}

// placeOfNew makes a tenant, and returns where it was put.
func placeOfNew(t testing.TB, ledger *tenant.Ledger, db *gorm.DB, id tenant.ID) string {
	t.Helper()
	require.NoError(t, call(t, ledger, id, "0"))
	return placeOf(t, db, string(id))
}

func TestPlaces_NameWhatIsWrongBeforeAnythingIsWritten(t *testing.T) {
	t.Parallel()
	many := make([]string, 65)
	for i := range many {
		many[i] = fmt.Sprint("p", i)
	}
	for _, c := range []struct {
		names []string
		says  string
	}{
		{[]string{"east", "west", "east"}, `the place "east" is there twice`},
		{[]string{"East"}, `"East" is no name of a place`},
		{[]string{""}, `"" is no name of a place`},
		{[]string{"east-1"}, `"east-1" is no name of a place`},
		{[]string{"pg_east"}, `"pg_east" is no name of a place`},
		{[]string{"east; DROP TABLE llm_tenants"}, "is no name of a place"},
		{[]string{strings.Repeat("e", 64)}, "at most 63"},
		{nil, "there are 0 names, and 1 to 64 can be given"},
		{many, "there are 65 names, and 1 to 64 can be given"},
	} {
		_, err := tenant.Open(openAt(t, sqlite.Open(sqliteDSN(t))), tenant.WithPlaces(c.names...))
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		require.ErrorContains(t, err, "WithPlaces: ")
		require.ErrorContains(t, err, c.says)
	}
	_, err := tenant.Open(openAt(t, sqlite.Open(sqliteDSN(t))), tenant.WithPlaces("east"))
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	require.ErrorContains(t, err, "SQLite has no schemas")
}

// requireRefused looks that neither a call nor a question of a ledger is answered, for the reason that it says.
func requireRefused(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, says string) {
	t.Helper()
	_, reserve := ledger.Reserve(t.Context(), acme, cent)
	_, unowned := ledger.Reserve(t.Context(), nil, cent)
	_, record := ledger.Record(t.Context(), acme, tenant.Actual{Cost: tenant.USD("1")})
	_, cost := tenant.CostToday(t.Context(), db, acme)
	_, usage := tenant.QueryUsage(t.Context(), db, tenant.Query{Everybody: true, Period: tenant.AllTime})
	_, list := tenant.ListTenants(t.Context(), db, tenant.TenantList{})
	_, verify := ledger.Verify(t.Context())
	_, repair := ledger.Repair(t.Context())
	_, prune := ledger.Prune(t.Context(), time.Now().AddDate(-1, 0, 0))
	_, erase := ledger.Erase(t.Context(), acme)
	configure := tenant.ConfigureBudget(t.Context(), db, acme, func(*tenant.Budget) error { return nil })
	for what, err := range map[string]error{
		"reserve": reserve, "reserve for nobody": unowned, "record": record, "cost": cost, "usage": usage, "list": list, "verify": verify, "repair": repair, "prune": prune, "erase": erase, "roll-up": ledger.RollUp(t.Context()), "configure": configure,
	} {
		require.ErrorIs(t, err, tenant.ErrInvalidOption, what)
		require.ErrorContains(t, err, says, what)
		require.NotContains(t, err.Error(), "tenant: tenant:", what)
	}
}

func TestPlaces_AllLedgersOfADatabaseNameTheSame(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	known := openOverPlaces(t, dsn)
	for _, c := range []struct {
		options []tenant.OpenOption
		names   string
	}{
		{nil, "this ledger names none"},
		{[]tenant.OpenOption{tenant.WithPlaces("east")}, "this ledger names east"},
		{[]tenant.OpenOption{tenant.WithPlaces("east", "north", "west")}, "this ledger names east, north, west"},
		{[]tenant.OpenOption{tenant.WithPlaces("north")}, "this ledger names north"},
	} {
		db := openAt(t, postgres.Open(dsn))
		ledger := openLedger(t, db, c.options...)
		requireRefused(t, db, ledger, "the places of the database are east, west, and "+c.names)
	}
	for _, less := range [][]string{{"east"}, {"north"}} {
		db := openAt(t, postgres.Open(dsn))
		require.ErrorContains(t, openLedger(t, db, tenant.WithPlaces(less...)).Migrate(t.Context()), "the places of the database are east, west")
	}
	var written int64
	require.NoError(t, known.Raw(`SELECT (SELECT count(*) FROM everywhere.llm_executions) + (SELECT count(*) FROM llm_tenants WHERE tenant_id = 'acme')
		+ (SELECT count(*) FROM llm_processes) + (SELECT count(*) FROM pg_namespace WHERE nspname = 'north')`).Scan(&written).Error)
	require.Zero(t, written)

	// One that adds a place makes it; who does not name it is refused then, at the next start.
	db := openAt(t, postgres.Open(dsn))
	more := openLedger(t, db, tenant.WithPlaces("west", "north", "east"))
	require.NoError(t, more.Migrate(t.Context()))
	require.NoError(t, call(t, more, acme, "0.5"))
	requireRefused(t, known, openLedger(t, known), "the places of the database are east, north, west, and this ledger names east, west")
}

func TestPlaces_ThatAreNotMigratedAreNamed(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	requireRefused(t, db, openLedger(t, db, tenant.WithPlaces("east")), "the places of the database are none, and this ledger names east")
	// A schema that went away is named too.
	other := openDatabase(t, "places")
	require.NoError(t, other.Exec("DROP SCHEMA east CASCADE").Error)
	ledger := openLedger(t, other)
	_, reserve := ledger.Reserve(t.Context(), acme, cent)
	_, cost := tenant.CostToday(t.Context(), other, acme)
	for _, err := range []error{reserve, cost} {
		require.ErrorIs(t, err, tenant.ErrNotMigrated)
		require.ErrorContains(t, err, `the place "east" has no tables`)
	}
}

func TestPlaces_AreNoSchemasOfTheHosts(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	require.NoError(t, db.Exec("CREATE SCHEMA sales").Error)
	require.NoError(t, db.Exec("CREATE TABLE sales.orders (id bigint)").Error)
	require.NoError(t, db.Exec("CREATE SCHEMA empty").Error)
	for name, table := range map[string]string{"sales": "orders", "public": "llm_", "information_schema": "_pg_foreign"} {
		ledger, err := tenant.Open(db, tenant.WithPlaces("empty", name))
		require.NoError(t, err)
		err = ledger.Migrate(t.Context())
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		require.ErrorContains(t, err, fmt.Sprintf("there is a schema %q already, with tables that are none of a place's (%s", name, table))
		require.NoError(t, ledger.Close(t.Context()))
		there, err := tenant.Places(t.Context(), db)
		require.NoError(t, err)
		require.Empty(t, there)
	}
	ledger := openLedger(t, db, tenant.WithPlaces("empty"))
	require.NoError(t, ledger.Migrate(t.Context()))
	require.NoError(t, call(t, ledger, acme, "0.5"))
	require.Equal(t, "empty", placeOf(t, db, "acme"))
}

func TestPlaces_HaveNoRoot(t *testing.T) {
	t.Parallel()
	const says = "it cannot be with places"
	db := openDatabase(t, "places")
	_, err := tenant.Open(openAt(t, postgres.Open(pgtest.DSN(t))), tenant.WithPlaces("east"), tenant.WithRootBudget(tenant.Limits{DailyCost: tenant.USD("1")}, tenant.Hard))
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	openLedger(t, db)
	err = tenant.ConfigureBudget(t.Context(), db, tenant.Root, func(b *tenant.Budget) error {
		b.Limits.DailyCost = tenant.USD("1")
		return nil
	})
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	require.ErrorContains(t, err, says)

	rooted := openDatabase(t, "postgres")
	plain, err := tenant.Open(rooted)
	require.NoError(t, err)
	require.NoError(t, tenant.ConfigureBudget(t.Context(), rooted, tenant.Root, func(b *tenant.Budget) error {
		b.Limits.DailyCost = tenant.USD("1")
		return nil
	}))
	require.NoError(t, plain.Close(t.Context()))
	err = openLedger(t, rooted, tenant.WithPlaces("east")).Migrate(t.Context())
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	require.ErrorContains(t, err, says)
	there, err := tenant.Places(t.Context(), rooted)
	require.NoError(t, err)
	require.Empty(t, there)
}

func TestMove_NamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "places")
	ledger := openLedger(t, db)
	place(t, db, "top", "", "")
	place(t, db, "below", "top", "")
	for _, c := range []struct {
		who  tenant.Tenant
		to   string
		is   error
		says string
	}{
		{tenant.ID("top"), "north", tenant.ErrInvalidOption, `Move: "north" is no place of this ledger`},
		{tenant.ID("nobody"), "east", tenant.ErrNoBudget, `Move: there is no tenant "nobody"`},
		{tenant.ID("below"), "east", tenant.ErrHierarchy, `Move: "below" stands below "top", and goes along with it: move that`},
		{nil, "east", tenant.ErrInvalidOption, "Move: calls without a tenant"},
		{tenant.Root, "east", tenant.ErrInvalidOption, "Move: calls without a tenant, and the root,"},
		{tenant.ID(""), "east", tenant.ErrInvalidTenant, ""},
	} {
		_, err := ledger.Move(t.Context(), c.who, c.to)
		require.ErrorIs(t, err, c.is, "%v to %q", c.who, c.to)
		require.ErrorContains(t, err, c.says)
	}
	plain := openDatabase(t, "sqlite")
	_, err := openLedger(t, plain).Move(t.Context(), tenant.ID("top"), "east")
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
}

func TestPlaces_ATenantIsMadeWhereItsParentIs(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "places")
	ledger := openLedger(t, db)
	seen := map[string]bool{}
	for i := range 8 {
		top := tenant.ID(fmt.Sprint("top-", i))
		place(t, db, top, "", "")
		seen[placeOf(t, db, string(top))] = true
		for j := range 4 {
			below := tenant.ID(fmt.Sprint("below-", i, "-", j))
			place(t, db, below, top, "5")
			require.Equal(t, placeOf(t, db, string(top)), placeOf(t, db, string(below)))
			require.NoError(t, call(t, ledger, below, "0.25"))
		}
		cost, err := tenant.CostToday(t.Context(), db, top, tenant.WithDescendants())
		require.NoError(t, err)
		require.Equal(t, "1", cost.String())
	}
	require.Len(t, seen, 3, "the home too")
	// Who has been booked is not torn from its history by the way: it is moved first.
	err := func() error {
		for i := range 7 {
			if err := tenant.ConfigureBudget(t.Context(), db, tenant.ID(fmt.Sprint("below-", i, "-0")), func(b *tenant.Budget) error {
				b.ParentID = "top-7"
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	}()
	require.ErrorIs(t, err, tenant.ErrHierarchy)
	require.ErrorContains(t, err, "ledger.Move takes it there first")
	requireConservation(t, db)
}

// A host that makes a tenant below another one, and then gives that another key, in one transaction: twice at once neither waits for the other
// but for the row that both write.
func TestPlaces_WhoMakesATenantAndRenamesItsParentWaitsForNobodyElse(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, "postgres")
	type company struct {
		ID   uint
		Slug string
	}
	type team struct {
		ID        uint
		CompanyID uint
	}
	require.NoError(t, db.AutoMigrate(&company{}, &team{}))
	ledger := openPlaces(t, db, []string{"east", "west"})
	require.NoError(t, ledger.Register(&company{}, tenant.WithKey("Slug"), tenant.WithBudget()))
	require.NoError(t, ledger.Register(&team{}, tenant.WithNamespace("team"), tenant.WithBudget(), tenant.WithParent("CompanyID", &company{})))
	c := company{Slug: "acme"}
	require.NoError(t, db.Create(&c).Error)

	both := make(chan struct{}, 2)
	wait := make(chan struct{})
	errs := make(chan error, 2)
	for i := range 2 {
		go func() {
			errs <- db.Transaction(func(tx *gorm.DB) error {
				err := tx.Create(&team{CompanyID: c.ID}).Error
				both <- struct{}{}
				<-wait
				if err != nil {
					return err
				}
				return tx.Model(&company{}).Where("id = ?", c.ID).Update("slug", fmt.Sprint("acme-", i)).Error
			})
		}()
	}
	<-both
	<-both
	close(wait)
	require.NoError(t, <-errs)
	require.NoError(t, <-errs)
	home := placeOf(t, db, "team:1")
	require.Equal(t, home, placeOf(t, db, "team:2"))
}
