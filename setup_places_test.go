package tenant_test

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// eastAndWest are the places of tests that run over places too, but on Citus, where several tests share a database.
var eastAndWest = []string{"east", "west"}

// overPlacesSetting marks a handle of gorm whose ledgers have places, which it names.
const overPlacesSetting = "tenant_test:places"

// placesOver are the places of the ledgers of a handle; none where these have no places.
func placesOver(db *gorm.DB) []string {
	names, _ := db.Get(overPlacesSetting)
	all, _ := names.([]string)
	return all
}

// everywhereOf is the schema of the views of all places.
func everywhereOf(db *gorm.DB) string {
	return strings.TrimSuffix(placesOver(db)[0], "east") + "everywhere"
}

// inItsPlaces has a ledger name the places of a handle.
func inItsPlaces(db *gorm.DB) []tenant.OpenOption {
	if names := placesOver(db); names != nil {
		return []tenant.OpenOption{tenant.WithPlaces(names...)}
	}
	return nil
}

// openAgain opens another handle of a database.
func openAgain(t testing.TB, db *gorm.DB) *gorm.DB {
	t.Helper()
	if p, ok := db.Dialector.(*postgres.Dialector); ok && placesOver(db) != nil {
		return openOverPlaces(t, p.DSN)
	}
	return openAt(t, db.Dialector)
}

// together moves a tenant to where another one is, which is to stand below it.
func together(t testing.TB, db *gorm.DB, ledger *tenant.Ledger, id, other tenant.ID) {
	t.Helper()
	if placesOver(db) != nil {
		_, err := ledger.Move(t.Context(), id, placeOf(t, db, string(other)))
		require.NoError(t, err)
	}
}

// booked asks for the executions of all places, past the library.
func booked(db *gorm.DB) *gorm.DB {
	if placesOver(db) != nil {
		return db.Table(everywhereOf(db) + ".llm_executions")
	}
	return db.Model(&tenant.Execution{})
}

// openOverPlaces opens a database, makes the two places in it where there are none, and marks the handle. What tests ask of the tables
// themselves is asked of those of all places: there is a view of each, in a schema of their own.
func openOverPlaces(t testing.TB, dsn string, names ...string) *gorm.DB {
	t.Helper()
	db := openAt(t, postgres.Open(dsn))
	there, err := tenant.Places(t.Context(), db)
	if !errors.Is(err, tenant.ErrNotMigrated) {
		require.NoError(t, err)
	}
	if len(there) == 0 {
		if there = names; names == nil {
			there = eastAndWest
		}
		require.NoError(t, makePlaces(dsn, there))
	}
	db = db.Set(overPlacesSetting, there).Session(&gorm.Session{})
	schema := everywhereOf(db)
	for name, processor := range map[string]interface {
		Register(name string, fn func(*gorm.DB)) error
	}{
		"query": db.Callback().Query().Before("gorm:query"),
		"row":   db.Callback().Row().Before("gorm:row"),
		"raw":   db.Callback().Raw().Before("gorm:raw"),
	} {
		require.NoError(t, processor.Register("tenant_test:everywhere:"+name, func(db *gorm.DB) {
			statement := inAllPlaces(db.Statement.SQL.String(), schema, there)
			db.Statement.SQL.Reset()
			db.Statement.SQL.WriteString(statement)
		}))
	}
	return db
}

// placesDSN is a new database with the two places.
func placesDSN(t testing.TB) string {
	t.Helper()
	return pgtest.Prepared(t, "places", func(dsn string) error { return makePlaces(dsn, eastAndWest) })
}

// fill opens a ledger for what fills a database, and closes both afterwards.
func fill(dialector gorm.Dialector, do func(*gorm.DB, *tenant.Ledger) error, options ...tenant.OpenOption) (err error) {
	db, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return err
	}
	pool, err := db.DB()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	ledger, err := tenant.Open(db, options...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ledger.Close(context.Background())) }()
	return do(db, ledger)
}

// makePlaces makes places in a database, and the views.
func makePlaces(dsn string, names []string) error {
	return fill(postgres.Open(dsn), func(db *gorm.DB, ledger *tenant.Ledger) error {
		if err := ledger.Migrate(context.Background()); err != nil {
			return err
		}
		return makeViews(db, names)
	}, tenant.WithPlaces(names...))
}

// makeViews makes the views of all places.
func makeViews(db *gorm.DB, names []string) error {
	schema := everywhereOf(db.Set(overPlacesSetting, names))
	statements := []string{"CREATE SCHEMA " + schema}
	for _, table := range placedTables {
		view := "CREATE VIEW " + schema + "." + table + " AS WITH a AS MATERIALIZED (SELECT * FROM " + table
		for _, name := range names { // what has no tenant is in the home
			view += " UNION ALL SELECT * FROM " + name + "." + table + " WHERE tenant <> '00000000-0000-0000-0000-000000000000'"
		}
		statements = append(statements, view+") SELECT * FROM a")
	}
	if slices.Equal(names, eastAndWest) { // Citus has no triggers there
		statements = append(statements, writableSQL)
	}
	for _, statement := range statements {
		if err := db.Exec(statement).Error; err != nil {
			return err
		}
	}
	return nil
}

// placeIn is the schema of a tenant's books, with its point, for a statement that no view takes.
func placeIn(t testing.TB, db *gorm.DB, id string) (place string) {
	t.Helper()
	if placesOver(db) != nil {
		require.NoError(t, db.Raw(`SELECT coalesce((SELECT nullif(place, '') FROM llm_tenants WHERE id = ?), current_schema()) || '.'`, id).Scan(&place).Error)
	}
	return place
}

// mixPlaces has tenants that are made from now on put into the home as well as into the places.
func mixPlaces(t testing.TB, db *gorm.DB) {
	t.Helper()
	require.NoError(t, db.Exec(`CREATE FUNCTION mix() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF NEW.parent IS NULL AND abs(hashtext(NEW.tenant_id)) % 3 = 0 THEN NEW.place := ''; END IF;
			RETURN NEW;
		END $$`).Error)
	require.NoError(t, db.Exec(`CREATE TRIGGER mix BEFORE INSERT ON llm_tenants FOR EACH ROW EXECUTE FUNCTION mix()`).Error)
}

// placedTables are the tables that each place has.
var placedTables = []string{
	"llm_balances", "llm_executions", "llm_idempotency", "llm_pruned", "llm_usage", "llm_usage_units", "llm_usage_windows", "llm_usage_folds",
	"llm_usage_late", "llm_thresholds",
}

var (
	ofPlacedTable  = regexp.MustCompile(`\b(FROM|JOIN|INTO) (` + strings.Join(placedTables, "|") + `)\b`)
	changesAPlaced = regexp.MustCompile(`^\s*(UPDATE|DELETE FROM) (` + strings.Join(placedTables, "|") + `)\b`)
)

// inAllPlaces is a statement of a test as it is for the tables of all places. One that changes rows changes them in each.
func inAllPlaces(statement, schema string, places []string) string {
	change := changesAPlaced.FindStringSubmatchIndex(statement)
	if change == nil {
		return ofPlacedTable.ReplaceAllString(statement, "$1 "+schema+".$2")
	}
	verb, table := statement[:change[4]], statement[change[4]:change[5]]
	rest := ofPlacedTable.ReplaceAllString(statement[change[5]:], "$1 "+schema+".$2")
	changed, found := []string{"home_rows AS (" + verb + table + rest + " RETURNING 1)"}, []string{"SELECT 1 FROM home_rows"}
	for _, place := range places {
		changed, found = append(changed, place+"_rows AS ("+verb+place+"."+table+rest+" RETURNING 1)"), append(found, "SELECT 1 FROM "+place+"_rows")
	}
	return "WITH " + strings.Join(changed, ", ") + " " + strings.Join(found, " UNION ALL ")
}

// writableSQL has a row that is inserted into one of the views go to the table of its tenant's place.
var writableSQL = strings.ReplaceAll(`
CREATE FUNCTION everywhere.write() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	schema text := coalesce((SELECT nullif(place, '') FROM public.llm_tenants WHERE id = NEW.tenant), 'public');
	its text := format('%I.%I', schema, TG_TABLE_NAME);
BEGIN
	IF TG_TABLE_NAME = 'llm_usage_late' THEN -- whose id is its own
		EXECUTE format('INSERT INTO %s (tenant, hour) VALUES ($1, $2)', its) USING NEW.tenant, NEW.hour;
		RETURN NEW;
	END IF;
	EXECUTE format('INSERT INTO %s SELECT (CAST(CAST($1 AS text) AS %s)).*', its, its) USING NEW;
	RETURN NEW;
END $$;
DO $$
DECLARE
	name text;
	of record;
BEGIN
	FOREACH name IN ARRAY ARRAY['@'] LOOP
		FOR of IN SELECT a.attname, pg_get_expr(d.adbin, d.adrelid) AS value FROM pg_attribute a JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
			WHERE a.attrelid = format('public.%I', name)::regclass LOOP
			EXECUTE format('ALTER VIEW everywhere.%I ALTER COLUMN %I SET DEFAULT %s', name, of.attname, of.value);
		END LOOP;
		EXECUTE format('CREATE TRIGGER write INSTEAD OF INSERT ON everywhere.%I FOR EACH ROW EXECUTE FUNCTION everywhere.write()', name);
	END LOOP;
END $$`, "@", strings.Join(placedTables, "', '"))
