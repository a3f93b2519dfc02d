package tenant_test

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
	"github.com/llmtenant/tenant/units"
)

// citusHome is the URL of a schema of a Citus coordinator for the home, by which sessions are known too, and names for places.
func citusHome(t testing.TB) (dsn string, places []string) {
	t.Helper()
	dsn, home := pgtest.CitusHome(t)
	return dsn + "&application_name=" + home, []string{home + "_east", home + "_west"}
}

// citusDatabase opens one.
func citusDatabase(t testing.TB) (db *gorm.DB, places []string) {
	t.Helper()
	dsn, places := citusHome(t)
	return openAt(t, postgres.Open(dsn)), places
}

// makeTable makes the table of a model, as one of Citus's where the places are.
func makeTable(t testing.TB, db *gorm.DB, model any, table string) {
	t.Helper()
	require.NoError(t, db.AutoMigrate(model))
	if onCitus(db) {
		require.NoError(t, db.Exec(`SELECT citus_add_local_table_to_metadata(?)`, table).Error)
	}
}

func onCitus(db *gorm.DB) bool {
	names := placesOver(db)
	return len(names) > 0 && !slices.Equal(names, eastAndWest)
}

// breakSessions ends all sessions of a test but the one that does it, also those straight to the nodes of Citus.
func breakSessions(t testing.TB, db *gorm.DB) {
	t.Helper()
	const ended = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND query <> ''`
	if !onCitus(db) {
		require.NoError(t, db.Exec(ended).Error)
		return
	}
	own := ended + ` AND application_name = '` + strings.TrimSuffix(placesOver(db)[0], "_east") + `'`
	require.NoError(t, db.Exec(`SELECT run_command_on_workers(?)`, own).Error)
	require.NoError(t, db.Exec(own).Error)
}

func TestPlaces_OnCitusTakeCallsAndMoves(t *testing.T) {
	t.Parallel()
	db, places := citusDatabase(t)
	ledger := openPlaces(t, db, places)
	require.NoError(t, ledger.Migrate(t.Context()), "again")
	var nodes []string
	require.NoError(t, db.Raw(`SELECT DISTINCT nodename || nodeport FROM citus_shards WHERE table_name IN (to_regclass(?), to_regclass(?))`,
		places[0]+".llm_balances", places[1]+".llm_balances").Scan(&nodes).Error)
	require.Len(t, nodes, 2, "each on a node of its own")

	var ids []tenant.ID
	for i := range 24 {
		ids = append(ids, tenant.ID(fmt.Sprint("tree-", i)))
	}
	seen := map[string]int{}
	for _, id := range ids {
		for range 2 {
			require.NoError(t, call(t, ledger, id, "0.25"), id)
		}
		seen[placeOf(t, db, string(id))]++
	}
	require.Len(t, seen, 2, "%v", seen)
	require.NoError(t, call(t, ledger, nil, "0.5"))
	for _, to := range []string{"", places[0], places[1]} {
		_, err := ledger.Move(t.Context(), ids[0], to)
		require.NoError(t, err, to)
		require.NoError(t, call(t, ledger, ids[0], "0.25"), to)
	}
	all, err := tenant.QueryUsage(t.Context(), db, tenant.Query{Everybody: true, Period: tenant.Between(time.Now().Add(-time.Hour), time.Now().Add(time.Hour))})
	require.NoError(t, err)
	require.Equal(t, "13.25", all.Total.Cost.String())
	cost, err := tenant.CostToday(t.Context(), db, ids[0])
	require.NoError(t, err)
	require.Equal(t, "1.25", cost.String())
	differences, err := ledger.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, differences)
}

func TestPlaces_OnANodeOfCitusAreRefused(t *testing.T) {
	t.Parallel()
	dsn, names := citusHome(t)
	openOverPlaces(t, dsn, names...)
	coordinator := openAt(t, postgres.Open(dsn))
	var host string
	var port int
	require.NoError(t, coordinator.Raw(`SELECT nodename, nodeport FROM pg_dist_node WHERE groupid <> 0 AND isactive LIMIT 1`).Row().Scan(&host, &port))
	at, err := url.Parse(dsn)
	require.NoError(t, err)
	at.Host = fmt.Sprintf("%s:%d", host, port)
	db := openAt(t, postgres.Open(at.String()))
	ledger := openLedger(t, db, tenant.WithPlaces(names...))
	const says = "a worker node of Citus, which has no home: open it on the coordinator"
	requireRefused(t, db, ledger, says)
	more := openLedger(t, openAt(t, postgres.Open(at.String())), tenant.WithPlaces(append([]string{names[0] + "_more"}, names...)...))
	err = more.Migrate(t.Context())
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	require.ErrorContains(t, err, says)
	there, err := tenant.Places(t.Context(), coordinator)
	require.NoError(t, err)
	require.Equal(t, names, there, "nothing was written")
}

func TestRegister_OnCitusRefusesATableThatIsCommittedApart(t *testing.T) {
	t.Parallel()
	db, places := citusDatabase(t)
	ledger := openPlaces(t, db, places)
	require.NoError(t, ledger.Register(&Firm{}, tenant.WithKey("Slug"), tenant.WithBudget()), "its table is not there yet")
	require.NoError(t, db.AutoMigrate(&Firm{}))
	err := db.Create(&Firm{Slug: "acme"}).Error
	require.ErrorContains(t, err, `SELECT citus_add_local_table_to_metadata('`)
	require.NoError(t, ledger.Close(context.WithoutCancel(t.Context())))

	again := openPlaces(t, db, places)
	err = again.Register(&Firm{}, tenant.WithKey("Slug"), tenant.WithBudget())
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	require.ErrorContains(t, err, `.firms is no Citus table`)
	require.NoError(t, db.Exec(`SELECT citus_add_local_table_to_metadata('firms')`).Error)
	require.NoError(t, again.Register(&Firm{}, tenant.WithKey("Slug"), tenant.WithBudget()))
	firm := Firm{Slug: "acme"}
	require.NoError(t, db.Create(&firm).Error)
	require.Contains(t, places, placeOf(t, db, "acme"))
	require.NoError(t, call(t, again, again.Tenant(&firm), "0.25"))

	require.Error(t, db.Transaction(func(tx *gorm.DB) error {
		require.NoError(t, tx.Create(&Firm{Slug: "gone"}).Error)
		return context.Canceled
	}))
	require.Empty(t, placeOf(t, db, "gone"))

	// What the host does to its records afterwards is followed too, one at a time and many at once.
	tenants := func(where string) (keys []string) {
		require.NoError(t, db.Raw(`SELECT tenant_id FROM llm_tenants WHERE owner_type = 'firms' AND `+where+` ORDER BY tenant_id`).Scan(&keys).Error)
		return keys
	}
	more := []Firm{{Slug: "oak", Name: "Oak"}, {Slug: "elm"}, {Slug: "ash"}}
	require.NoError(t, db.Create(&more).Error)
	require.NoError(t, db.Model(&firm).Update("slug", "acme-2").Error)
	require.NoError(t, db.Model(&Firm{}).Where("slug IN ?", []string{"oak", "elm"}).Update("slug", gorm.Expr("slug || '-2'")).Error)
	require.Equal(t, []string{"acme-2", "ash", "elm-2", "oak-2"}, tenants("deleted_at IS NULL"))
	upsert := clause.OnConflict{Columns: []clause.Column{{Name: "slug"}}, DoUpdates: clause.AssignmentColumns([]string{"name"})}
	require.NoError(t, db.Clauses(upsert).Create(&[]Firm{{Slug: "ash", Name: "Ash"}, {Slug: "yew"}}).Error)
	require.NoError(t, db.Delete(&more[1]).Error)
	require.NoError(t, db.Where("slug = ?", "oak-2").Delete(&Firm{}).Error)
	require.Equal(t, []string{"acme-2", "ash", "yew"}, tenants("deleted_at IS NULL"))
	differences, err := again.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, differences)
}

// Nothing is half done: the first policy that looks a tenant up is refused by Citus itself, after functions and views were made.
func TestMigrateRowSecurity_OnCitusIsRefused(t *testing.T) {
	t.Parallel()
	db, places := citusDatabase(t)
	ledger := openPlaces(t, db, places)
	err := ledger.MigrateRowSecurity(t.Context(), "portal")
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	require.ErrorContains(t, err, "the tables are Citus's")
	var functions int64
	require.NoError(t, db.Raw(`SELECT count(*) FROM pg_proc WHERE pronamespace = current_schema()::regnamespace AND proname LIKE 'llm_row_security%'`).Scan(&functions).Error)
	require.Zero(t, functions)
}

func TestMigrate_OnCitusRefusesPlacesBesideAHomeWithRowSecurity(t *testing.T) {
	t.Parallel()
	dsn, places := citusHome(t)
	db := openAt(t, postgres.Open(dsn))
	alone := openLedger(t, db)
	require.NoError(t, alone.Migrate(t.Context()))
	role := "reader_" + places[0]
	require.NoError(t, db.Exec("CREATE ROLE "+role).Error)
	t.Cleanup(func() {
		require.NoError(t, openAt(t, postgres.Open(pgtest.Citus(t))).Exec("DROP OWNED BY "+role+"; DROP ROLE "+role).Error)
	})
	require.NoError(t, alone.MigrateRowSecurity(t.Context(), role), "without places the tables are plain ones")
	require.NoError(t, alone.Close(t.Context()))

	err := openLedger(t, openAt(t, postgres.Open(dsn)), tenant.WithPlaces(places...)).Migrate(t.Context())
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	require.ErrorContains(t, err, "MigrateRowSecurity was called for the home")
	there, err := tenant.Places(t.Context(), db)
	require.NoError(t, err)
	require.Empty(t, there, "nothing was written")
}

// A setting of the coordinator's transaction is not its nodes', unless it is handed on: without that a change of limits would wait for as long as
// somebody else keeps the tenant's books locked.
func TestConfigureBudget_OnCitusDoesNotWaitForWhoeverHasTheBooksLocked(t *testing.T) {
	t.Parallel()
	db, places := citusDatabase(t)
	ledger := openPlaces(t, db, places)
	require.NoError(t, call(t, ledger, tenant.ID("acme"), "0.25"))
	u, err := tenant.UUIDFor(t.Context(), db, tenant.ID("acme"))
	require.NoError(t, err)
	locked := db.Begin()
	require.NoError(t, locked.Error)
	require.NoError(t, locked.Exec(`SELECT 1 FROM `+placeOf(t, db, "acme")+`.llm_balances WHERE tenant = ? FOR UPDATE`, string(u)).Error)
	configure := func() error {
		return tenant.ConfigureBudget(t.Context(), db, tenant.ID("acme"), func(b *tenant.Budget) error {
			b.Suspended = true
			return nil
		})
	}
	ended := make(chan error, 1)
	go func() { ended <- configure() }()
	select {
	case err = <-ended:
		require.Error(t, err)
		require.NoError(t, locked.Rollback().Error)
	case <-time.After(5 * time.Minute): // it would wait for ever
		require.NoError(t, locked.Rollback().Error)
		t.Fatal("it waited for the one who had the books locked")
	}
	require.NoError(t, configure())
}

func TestRepair_OnCitusMendsEachTable(t *testing.T) {
	t.Parallel()
	db, places := citusDatabase(t)
	ledger := openPlaces(t, db, places)
	for _, home := range []bool{false, true} {
		id := tenant.ID(fmt.Sprint("home-", home))
		used(t, ledger, id, tenant.Actual{Cost: tenant.USD("0.25"), Usage: tenant.Usage{Input: 7, Units: units.Of(units.Pages, 3)}})
		place := placeOf(t, db, string(id))
		if home {
			_, err := ledger.Move(t.Context(), id, "")
			require.NoError(t, err)
			place = "current_schema"
			require.NoError(t, db.Raw(`SELECT current_schema()`).Scan(&place).Error)
		}
		u, err := tenant.UUIDFor(t.Context(), db, id)
		require.NoError(t, err)
		for _, wrong := range []string{
			`UPDATE ` + place + `.llm_usage SET calls = 5, errors = 2 WHERE tenant = ?`,
			`DELETE FROM ` + place + `.llm_usage WHERE tenant = ?`,
			`UPDATE ` + place + `.llm_usage_units SET amount = 9 WHERE tenant = ?`,
			`UPDATE ` + place + `.llm_balances SET spent_cost = 1, day_held_calls = 4 WHERE tenant = ?`,
		} {
			require.NoError(t, db.Exec(wrong, string(u)).Error)
			differences, err := ledger.Verify(t.Context())
			require.NoError(t, err, wrong)
			require.NotEmpty(t, differences, wrong)
			_, err = ledger.Repair(t.Context())
			require.NoError(t, err, wrong)
			differences, err = ledger.Verify(t.Context())
			require.NoError(t, err, wrong)
			require.Empty(t, differences, wrong)
		}
	}
}

// The audit log is a plain table of the coordinator's, which commits after the nodes, unless the transaction is one of two phases. It is,
// wherever a table is written that all nodes have a copy of, as who is who is.
func TestAudit_OnCitusIsWrittenInTwoPhasesWithWhatItTells(t *testing.T) {
	t.Parallel()
	db, places := citusDatabase(t)
	ledger := openPlaces(t, db, places)
	makeTable(t, db.Set(overPlacesSetting, places), &Firm{}, "firms")
	require.NoError(t, ledger.Register(&Firm{}, tenant.WithKey("Slug"), tenant.WithBudget()))
	require.NoError(t, call(t, ledger, tenant.ID("acme"), "0.25"))
	// What a coordinator has prepared on its nodes it writes down, by the process that it is, and forgets from time to time.
	prepared := func() (n int64) {
		require.NoError(t, db.Raw(`SELECT count(*) FROM pg_dist_transaction d JOIN pg_stat_activity a ON a.application_name = ? AND starts_with(d.gid, 'citus_0_' || a.pid || '_')`,
			strings.TrimSuffix(places[0], "_east")).Scan(&n).Error)
		return n
	}
	entries := func() (n int64) {
		require.NoError(t, db.Raw(`SELECT count(*) FROM llm_audit`).Scan(&n).Error)
		return n
	}
	firm, n := Firm{Slug: "elm"}, int64(0)
	require.NoError(t, db.Create(&firm).Error)
	oak := func() error { return db.Create(&Firm{Slug: fmt.Sprint("oak-", n)}).Error }
	for _, act := range []struct {
		name       string
		before, do func() error
	}{
		{"a limit", nil, func() error {
			return tenant.ConfigureBudget(t.Context(), db, tenant.ID("acme"), func(b *tenant.Budget) error {
				b.Limits = tenant.Limits{DailyCalls: tenant.Count(100 + n)}
				return nil
			})
		}},
		{"a move", nil, func() error {
			_, err := ledger.Move(t.Context(), tenant.ID("acme"), places[n%2])
			return err
		}},
		{"a record's key", nil, func() error { return db.Model(&firm).Update("slug", fmt.Sprint("elm-", n)).Error }},
		{"many keys", oak, func() error {
			return db.Model(&Firm{}).Where("slug LIKE 'oak%'").Update("slug", gorm.Expr("slug || '-'")).Error
		}},
		{"a record that goes", oak, func() error { return db.Where("slug LIKE 'oak%'").Delete(&Firm{}).Error }},
		{"a tenant that is erased", nil, func() error {
			id := tenant.ID(fmt.Sprint("gone-", n))
			if err := call(t, ledger, id, "0.25"); err != nil {
				return err
			}
			_, err := ledger.Erase(t.Context(), id)
			return err
		}},
	} {
		seen := false
		for try := 0; !seen && try < 5; try++ { // the coordinator may forget meanwhile
			n++
			if act.before != nil {
				require.NoError(t, act.before(), act.name)
			}
			were, before := prepared(), entries()
			require.NoError(t, act.do(), act.name)
			seen = prepared() > were && entries() != before
		}
		require.True(t, seen, act.name)
	}
}
