package tenant_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// roleIn makes a role of the server that may log in, for as long as the test lasts, and returns its name and where it connects to.
func roleIn(t testing.TB, dsn, options string) (name, its string) {
	t.Helper()
	name = "reader_" + strings.ReplaceAll(uuid.NewString(), "-", "")[:16]
	conn := connectTo(t, dsn)
	_, err := conn.Exec(t.Context(), `CREATE ROLE `+name+` LOGIN PASSWORD 'words' `+options)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		conn, err := pgx.Connect(ctx, dsn)
		if err == nil {
			_, err = conn.Exec(ctx, `DROP OWNED BY `+name+`; DROP ROLE `+name)
			err = errors.Join(err, conn.Close(ctx))
		}
		if err != nil {
			t.Errorf("drop the role: %v", err)
		}
	})
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	u.User = url.UserPassword(name, "words")
	return name, u.String()
}

func connectTo(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol // also behind a pooler
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// secured is a database with row-level security, and rows of several tenants in each table.
type secured struct {
	dsn, role, its string // its: where the role connects to
	db, portal     *gorm.DB
	ledger         *tenant.Ledger
	ids            map[tenant.ID]string
	options        []tenant.OpenOption
}

// eachSecured runs a test on a database of one set of tables, and on one with places.
func eachSecured(t *testing.T, test func(t *testing.T, s *secured)) {
	for name, options := range map[string][]tenant.OpenOption{"one": nil, "places": {tenant.WithPlaces(eastAndWest...)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newSecured(t, options...))
		})
	}
}

// schemas are those that have tables of the ledger's.
func (s *secured) schemas() string {
	if len(s.options) > 0 {
		return "public, east, west"
	}
	return "public"
}

// tableName is how a table or a view is named in a statement.
const tableName = `CASE WHEN c.relnamespace = current_schema()::regnamespace THEN c.relname ELSE c.relnamespace::regnamespace || '.' || c.relname END`

// ofLedger is the condition that a table or a view c is the ledger's.
const ofLedger = `c.relnamespace IN (SELECT n.oid FROM pg_namespace n WHERE n.nspname IN (current_schema(), 'east', 'west')) AND c.relname LIKE 'llm\_%'`

// newSecured makes calls for acme, for west below it, for east that has left it, and for globex.
func newSecured(t *testing.T, options ...tenant.OpenOption) *secured {
	t.Helper()
	s := &secured{dsn: pgtest.DSN(t), ids: map[tenant.ID]string{}, options: options}
	s.db = openAt(t, postgres.Open(s.dsn))
	s.ledger = openLedger(t, s.db, options...)
	require.NoError(t, s.ledger.Migrate(t.Context()))
	s.role, s.its = roleIn(t, s.dsn, "")
	require.NoError(t, s.ledger.MigrateRowSecurity(t.Context(), s.role))
	for id, parent := range map[tenant.ID]string{"acme": "", "globex": ""} {
		s.configure(t, id, parent)
	}
	s.configure(t, "west", "acme")
	s.configure(t, "east", "acme")
	for _, id := range []tenant.ID{"acme", "west", "east", "globex"} {
		for _, agent := range []string{"search", "write"} {
			used(t, s.ledger, id, tenant.Actual{Cost: tenant.USD("0.02"), Usage: tenant.Usage{Input: 70, Output: 5}},
				tenant.WithAgent(agent), tenant.WithTag("of", string(id)), tenant.WithIdempotencyKey(string(id)+agent))
		}
		u, err := tenant.UUIDFor(t.Context(), s.db, id)
		require.NoError(t, err)
		s.ids[id] = string(u)
	}
	s.configure(t, "east", "")
	used(t, s.ledger, tenant.ID("east"), tenant.Actual{Cost: tenant.USD("0.5")})
	used(t, s.ledger, nil, tenant.Actual{Cost: tenant.USD("0.7")})
	s.portal = s.open(t, s.its)
	return s
}

func (s *secured) configure(t *testing.T, id tenant.ID, parent string) {
	t.Helper()
	require.NoError(t, tenant.ConfigureBudget(t.Context(), s.db, id, func(b *tenant.Budget) error {
		b.ParentID, b.Limits = parent, tenant.Limits{DailyCost: tenant.USD("9"), MonthlyTokens: tenant.Count(1_000_000)}
		return nil
	}))
}

// rest has nobody write in the background: the ledger is opened anew, and makes no calls.
func (s *secured) rest(t *testing.T) {
	t.Helper()
	require.NoError(t, s.ledger.Close(t.Context()))
	s.ledger = openLedger(t, s.db, s.options...)
	require.NoError(t, s.ledger.Attach(s.portal))
}

// open opens a handle, and attaches the ledger to it.
func (s *secured) open(t *testing.T, dsn string) *gorm.DB {
	t.Helper()
	db := openAt(t, postgres.New(postgres.Config{DSN: dsn, PreferSimpleProtocol: true}))
	require.NoError(t, s.ledger.Attach(db))
	return db
}

// securedTable is a table as the catalogue has it, with the column that says whose a row is; none: no tenant's.
type securedTable struct {
	name, owner string
	base        string   // its name without the schema
	columns     []string // and what a new row has in each
	values      []string
}

// tables are all of the ledger's, whatever a later migration has added, each with a row of each tenant.
func (s *secured) tables(t *testing.T) (all []*securedTable) {
	t.Helper()
	rows, err := s.db.Raw(`SELECT ` + tableName + `, a.attname, format_type(a.atttypid, a.atttypmod), a.attidentity <> ''
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND ` + ofLedger + `
		ORDER BY 1, a.attnum`).Rows()
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var (
			table, column, kind string
			generated           bool
		)
		require.NoError(t, rows.Scan(&table, &column, &kind, &generated))
		name := table
		if _, its, in := strings.Cut(name, "."); in {
			table = its
		}
		if len(all) == 0 || all[len(all)-1].name != name {
			all = append(all, &securedTable{name: name, base: table})
		}
		of := all[len(all)-1]
		if column == "tenant" && table != "llm_former" || table == "llm_tenants" && column == "id" || table == "llm_former" && column == "parent" {
			of.owner = column
		}
		if generated {
			continue
		}
		value, ok := map[string]string{
			"uuid": "gen_random_uuid()", "text": "gen_random_uuid()::text", "timestamp with time zone": "now()", "bigint": "1", "boolean": "false",
			"jsonb": "'{}'", "numeric": "0", "uuid[]": "'{}'", "integer": "1", "timestamp without time zone": "now()", "bytea": "''",
			"smallint": "1", "text[]": "'{}'", "bigint[]": "'{}'", "date": "now()", "interval": "'1s'",
		}[kind]
		require.True(t, ok, "%s.%s is of a type that this test has no value for: %s", table, column, kind)
		switch {
		case table == "llm_tenants" && column == "parent":
			value = "NULL"
		case column == "window_unit":
			value = "'total'"
		}
		of.columns, of.values = append(of.columns, column), append(of.values, value)
	}
	require.NoError(t, rows.Err())
	require.Greater(t, len(all), 14)
	return all
}

// row is the values of a new row of a tenant.
func (of *securedTable) row(owner string) string {
	values := slices.Clone(of.values)
	if i := slices.Index(of.columns, of.owner); i >= 0 {
		values[i] = "'" + owner + "'::uuid"
	}
	return strings.Join(values, ", ")
}

func (of *securedTable) insert(owner string) string {
	return "INSERT INTO " + of.name + " (" + strings.Join(of.columns, ", ") + ") VALUES (" + of.row(owner) + ")"
}

// fill adds a row of a tenant to each table, unless it has some.
func (s *secured) fill(t *testing.T, tables []*securedTable, owners ...string) {
	t.Helper()
	for _, of := range tables {
		for _, owner := range owners {
			var n int64
			if of.owner != "" {
				require.NoError(t, s.db.Raw("SELECT count(*) FROM "+of.name+" WHERE "+of.owner+" = ?", owner).Scan(&n).Error)
			}
			if n == 0 {
				require.NoError(t, s.db.Exec(of.insert(owner)).Error, of.name)
			}
		}
	}
}

// TestRowSecurity_HoldsEachTableAndEachStatement tries everything as the tenant of somebody else, with every right that a role can have
// without owning the tables but TRUNCATE, directly and through a pooler.
func TestRowSecurity_HoldsEachTableAndEachStatement(t *testing.T) {
	t.Parallel()
	eachSecured(t, func(t *testing.T, s *secured) {
		s.rest(t)
		tables := s.tables(t)
		s.fill(t, tables, s.ids["acme"], s.ids["globex"], uuid.Nil.String())
		require.NoError(t, s.db.Exec(`GRANT SELECT, INSERT, UPDATE, DELETE, REFERENCES, TRIGGER ON ALL TABLES IN SCHEMA `+s.schemas()+` TO `+s.role).Error)
		require.NoError(t, s.db.Exec(`GRANT ALL ON ALL SEQUENCES IN SCHEMA `+s.schemas()+` TO `+s.role+`; GRANT CREATE ON SCHEMA `+s.schemas()+` TO `+s.role).Error)
		for name, dsn := range map[string]string{"directly": s.its, "through PgBouncer": pgtest.Bouncer(t, s.its)} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				portal, conn := s.open(t, dsn), connectTo(t, dsn)
				for _, of := range tables {
					s.try(t, portal, conn, of)
				}
				s.tryViews(t, portal)
			})
		}
	})
}

// try runs every form of statement on a table, as acme, for globex.
func (s *secured) try(t *testing.T, portal *gorm.DB, conn *pgx.Conn, of *securedTable) {
	t.Helper()
	wrong, right := s.ids["globex"], s.ids["acme"]
	where := " WHERE true"
	if of.owner != "" {
		where = " WHERE " + of.owner + " = '" + wrong + "'"
	}
	from := of.name + where
	list := strings.Join(of.columns, ", ")
	first := of.columns[0]
	if i := slices.Index(of.columns, of.owner); i > 0 || i < 0 && of.owner != "" {
		first = of.owner
	}
	none := map[string]string{
		"select":             "SELECT * FROM " + from,
		"for update":         "SELECT * FROM " + from + " FOR UPDATE",
		"for no key update":  "SELECT * FROM " + from + " FOR NO KEY UPDATE",
		"for share":          "SELECT * FROM " + from + " FOR SHARE SKIP LOCKED",
		"for key share":      "SELECT * FROM " + from + " FOR KEY SHARE NOWAIT",
		"join":               "SELECT a.* FROM " + of.name + " a JOIN (SELECT * FROM " + from + ") b ON true",
		"outer join":         "SELECT b.* FROM (VALUES (1)) v (n) LEFT JOIN (SELECT * FROM " + from + ") b ON true WHERE b IS NOT NULL",
		"lateral":            "SELECT b.* FROM (VALUES (1)) v (n) CROSS JOIN LATERAL (SELECT * FROM " + from + ") b",
		"sub-select":         "SELECT 1 WHERE EXISTS (SELECT FROM " + from + ")",
		"scalar":             "SELECT 1 WHERE (SELECT count(*) FROM " + from + ") > 0",
		"union":              "SELECT " + first + " FROM " + from + " UNION ALL SELECT " + first + " FROM " + from,
		"with":               "WITH r AS MATERIALIZED (SELECT * FROM " + from + ") SELECT * FROM r",
		"window":             "SELECT count(*) OVER () FROM " + from,
		"sample":             "SELECT * FROM " + of.name + " TABLESAMPLE BERNOULLI (100)" + where,
		"only":               "SELECT * FROM ONLY " + from,
		"update":             "UPDATE " + of.name + " SET " + first + " = " + first + where + " RETURNING *",
		"update from":        "UPDATE " + of.name + " x SET " + first + " = x." + first + " FROM (SELECT * FROM " + from + ") y WHERE x." + first + " = y." + first + " RETURNING x.*",
		"delete":             "DELETE FROM " + from + " RETURNING *",
		"delete using":       "DELETE FROM " + of.name + " x USING " + of.name + " y" + strings.Replace(where, of.owner+" =", "x."+of.owner+" =", 1) + " RETURNING y.*",
		"with delete":        "WITH gone AS (DELETE FROM " + from + " RETURNING *) SELECT * FROM gone",
		"insert from select": "INSERT INTO " + of.name + " (" + list + ") SELECT " + list + " FROM " + from + " RETURNING *",
		"what it may see":    "SELECT " + first + " FROM pg_stats, " + from + " AND tablename = '" + of.base + "'",
		"statistics":         "SELECT most_common_vals FROM pg_stats WHERE tablename = '" + of.base + "'",
	}
	if of.owner != "" {
		own := []string{right, s.ids["west"], uuid.Max.String(), "00000000-0000-0000-0000-000000000002"}
		if of.base == "llm_executions" || of.base == "llm_pruned" {
			own = append(own, s.ids["east"])
		}
		none["all but its own"] = "SELECT * FROM " + of.name + " WHERE " + of.owner + " NOT IN ('" + strings.Join(own, "', '") + "')"
	}
	refused := map[string]string{
		"insert":           of.insert(wrong),
		"insert returning": of.insert(wrong) + " RETURNING *",
		"do nothing":       of.insert(wrong) + " ON CONFLICT DO NOTHING",
		"truncate":         "TRUNCATE " + of.name,
		"drop":             "ALTER TABLE " + of.name + " DISABLE ROW LEVEL SECURITY",
	}
	if of.owner != "" {
		refused["give away"] = "UPDATE " + of.name + " SET " + of.owner + " = '" + wrong + "' WHERE " + of.owner + " = '" + right + "'"
	}
	in := func(do func(tx *gorm.DB) error) error {
		return tenant.WithRowSecurity(t.Context(), portal, acme, do)
	}
	undo := errors.New("undo")
	for form, statement := range none {
		require.ErrorIs(t, in(func(tx *gorm.DB) error {
			var found []map[string]any
			if err := tx.Raw(statement).Find(&found).Error; err != nil {
				return fmt.Errorf("%s of %s: %w", form, of.name, err)
			}
			require.Empty(t, found, "%s of %s", form, of.name)
			return undo
		}), undo)
	}
	for form, statement := range refused {
		err := in(func(tx *gorm.DB) error { return tx.Exec(statement).Error })
		var pg *pgconn.PgError
		require.ErrorAs(t, err, &pg, "%s of %s", form, of.name)
		require.Equal(t, "42501", pg.Code, "%s of %s: %v", form, of.name, err)
	}

	// An upsert, with the key of a row that is there.
	keys := s.primaryKey(t, of.name)
	require.ErrorIs(t, in(func(tx *gorm.DB) error {
		var there []map[string]any
		require.NoError(t, s.db.Raw("SELECT "+strings.Join(keys, ", ")+" FROM "+from+" LIMIT 1").Find(&there).Error)
		require.Len(t, there, 1, of.name)
		values := slices.Clone(of.values)
		for i, column := range of.columns {
			if v, is := there[0][column]; is {
				values[i] = fmt.Sprintf("'%v'", v)
				if at, isTime := v.(time.Time); isTime {
					values[i] = "'" + at.Format(time.RFC3339Nano) + "'"
				}
			}
		}
		into := "INSERT INTO " + of.name + " (" + list + ")"
		if len(of.columns) < len(there[0]) || !slices.Contains(of.columns, keys[0]) { // its key is the database's
			into += " OVERRIDING SYSTEM VALUE"
			into = strings.Replace(into, "(", "("+keys[0]+", ", 1)
			values = append([]string{fmt.Sprint(there[0][keys[0]])}, values...)
		}
		err := tx.Exec(into + " VALUES (" + strings.Join(values, ", ") + ") ON CONFLICT (" + strings.Join(keys, ", ") + ") DO UPDATE SET " + first + " = excluded." + first).Error
		require.ErrorContains(t, err, "42501", of.name)
		return undo
	}), undo)

	// What needs the connection itself.
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	run := func(statement string) string {
		t.Helper()
		var out bytes.Buffer
		results, err := conn.PgConn().Exec(t.Context(), statement).ReadAll()
		require.NoError(t, err, "%s: %s", of.name, statement)
		for _, r := range results {
			for _, row := range r.Rows {
				out.Write(bytes.Join(row, []byte("|")))
				out.WriteByte('\n')
			}
		}
		return out.String()
	}
	run("SELECT set_config('llmtenant.tenant', '" + right + "', true)")
	var copied bytes.Buffer
	_, err = conn.PgConn().CopyTo(t.Context(), &copied, "COPY "+of.name+" TO STDOUT")
	require.NoError(t, err)
	require.NotContains(t, copied.String(), wrong, of.name)
	require.Equal(t, of.owner == "", copied.Len() == 0, "COPY gives what is the tenant's: %s", of.name)
	copied.Reset()
	_, err = conn.PgConn().CopyTo(t.Context(), &copied, "COPY (SELECT * FROM "+from+") TO STDOUT")
	require.NoError(t, err)
	require.Empty(t, copied.String(), of.name)
	require.Empty(t, run("DECLARE c CURSOR FOR SELECT * FROM "+from+"; FETCH ALL c; CLOSE c"))
	require.Empty(t, run("PREPARE p AS SELECT * FROM "+from+"; EXECUTE p; EXECUTE p; DEALLOCATE p"))
	require.Empty(t, run("CREATE TEMP VIEW mine AS SELECT * FROM "+of.name+"; SELECT * FROM mine"+where+"; DROP VIEW mine"))
	require.Contains(t, run("EXPLAIN (ANALYZE, COSTS off, TIMING off) SELECT * FROM "+from), "rows=0")
	// What a function of the role's own gets to see, however cheap it says that it is.
	if of.owner != "" {
		seen := run(`CREATE FUNCTION pg_temp.see(id uuid) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN
			IF id = '` + wrong + `' THEN RAISE EXCEPTION 'seen'; END IF; RETURN true; END $$;
			SELECT count(*) FROM ` + of.name + ` WHERE pg_temp.see(` + of.owner + `); DROP FUNCTION pg_temp.see(uuid)`)
		require.NotEqual(t, "0\n", seen)
	}
	on := strings.TrimPrefix(strings.Replace(where, of.owner+" =", "x."+of.owner+" =", 1), " WHERE ")
	for _, then := range []string{"DELETE", "UPDATE SET " + first + " = x." + first} {
		within, err := tx.Begin(t.Context())
		require.NoError(t, err)
		tag, err := within.Exec(t.Context(), "MERGE INTO "+of.name+" x USING (VALUES (1)) v (n) ON "+on+" WHEN MATCHED THEN "+then)
		if err != nil { // so it is where no column of the table is looked at
			require.ErrorContains(t, err, "42501", of.name)
		}
		require.Zero(t, tag.RowsAffected(), of.name)
		require.NoError(t, within.Rollback(t.Context()))
	}
	_, err = conn.PgConn().CopyFrom(t.Context(), strings.NewReader(""), "COPY "+of.name+" FROM STDIN")
	require.ErrorContains(t, err, "row-level security", of.name)
}

// tryViews looks through every view of the ledger's, as acme, for globex.
func (s *secured) tryViews(t *testing.T, portal *gorm.DB) {
	t.Helper()
	for _, view := range s.views(t) {
		var all, its int64
		whose := "tenant"
		if strings.HasSuffix(view, "_tenants") {
			whose = "id"
		}
		require.NoError(t, s.db.Raw(`SELECT count(*) FROM `+view+` WHERE `+whose+` = ?`, s.ids["globex"]).Scan(&all).Error)
		sees := len(s.options) == 0 || view == "llm_limits" // with places each is in one of the others
		require.True(t, all > 0 || !sees, view)
		require.NoError(t, tenant.WithRowSecurity(t.Context(), portal, acme, func(tx *gorm.DB) error {
			return tx.Raw(`SELECT count(*) FILTER (WHERE `+whose+` = ?), count(*) FILTER (WHERE `+whose+` = ?) FROM `+view, s.ids["globex"], s.ids["acme"]).Row().Scan(&all, &its)
		}))
		require.Zero(t, all, view)
		require.True(t, its > 0 || !sees, view)
	}
}

func (s *secured) views(t *testing.T) (all []string) {
	t.Helper()
	require.NoError(t, s.db.Raw(`SELECT `+tableName+` FROM pg_class c WHERE c.relkind IN ('v', 'm') AND `+ofLedger+` ORDER BY 1`).Scan(&all).Error)
	require.NotEmpty(t, all)
	return all
}

func (s *secured) primaryKey(t *testing.T, table string) (columns []string) {
	t.Helper()
	require.NoError(t, s.db.Raw(`SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
		WHERE i.indisprimary AND i.indrelid = ?::regclass ORDER BY array_position(i.indkey::int2[], a.attnum)`, table).Scan(&columns).Error)
	return columns
}

// A setting that is not there, that was there once, or that is no tenant's, gives nothing, and fails nothing.
