package books

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// Row-level security, on PostgreSQL: a role sees the rows of one tenant and of those below it, whom a setting of its transaction
// names by id. Every table has a restrictive policy for such roles, and a permissive one that lets everybody else do what their
// rights allow, as before.
const (
	rowPolicy  = "llm_row_security"      // which rows there are for the roles
	openPolicy = "llm_row_security_open" // without a permissive policy there would be none for anybody

	// rowSetting has the tenant's id. It is the empty text in a session in which it was set once, and no setting where it never was.
	rowSetting = "llmtenant.tenant"

	visibleTenants = "(SELECT llm_row_security_tenants(false))::uuid[]"
	countedTenants = "(SELECT llm_row_security_tenants(true))::uuid[]"
)

// Each sub-select is evaluated once for a statement, and what comes of it can be looked up in the indexes, which all begin with
// the tenant.
var (
	rowsOf = func(column string) string { return column + " = ANY (" + visibleTenants + ")" }

	// Calls count for whoever stood above when they were made. So those of a tenant that has left stay.
	rowsOfCalls = "tenant = ANY (" + countedTenants + ") AND (" + rowsOf("tenant") + " OR parents && " + visibleTenants + ")"

	// The ledger's defaults are in force for every tenant, and how often days and months were folded says nothing of anybody. They
	// can be read where there is a tenant, and cannot be written.
	rowsOrShared = func(column string, id book.ID) string {
		return rowsOf(column) + " OR " + column + " = '" + id.String() + "' AND " + visibleTenants + " <> '{}'"
	}
)

const nobodysRows = "false"

// securedTable is a table with the conditions on its rows.
type securedTable struct {
	name, own string
	read      string // of those that may be read; empty: its own
}

func secureCalls(table string) securedTable {
	return securedTable{table, rowsOf("tenant"), rowsOfCalls}
}

// securedTables are all tables of the ledger.
var securedTables = []securedTable{
	{"llm_tenants", rowsOf("id"), rowsOrShared("id", book.Defaults)},
	{"llm_former", rowsOf("parent"), ""},
	{"llm_balances", rowsOf("tenant"), ""},
	secureCalls(executionsTable),
	{"llm_idempotency", rowsOf("tenant"), ""},
	secureCalls("llm_pruned"),
	{"llm_usage", rowsOf("tenant"), ""},
	{"llm_usage_units", rowsOf("tenant"), ""},
	{"llm_usage_windows", rowsOf("tenant"), ""},
	{"llm_usage_folds", rowsOf("tenant"), rowsOrShared("tenant", Everybody) + " AND window_unit = 'total'"},
	{"llm_usage_late", rowsOf("tenant"), ""},
	{"llm_processes", nobodysRows, ""},
	{"llm_thresholds", rowsOf("tenant"), ""},
	{"llm_audit", rowsOf("tenant"), ""},
	{"llm_usage_values", nobodysRows, ""},
	{"llm_places", nobodysRows, ""},
	{migrationsTable, nobodysRows, ""},
}

// migrationsTable is not there where the host migrates with another tool.
const migrationsTable = "llm_migrations"

// securedViews are the ledger's views, which show a role what it sees of their tables: by themselves they would show what their
// owner sees.
var securedViews = []string{"llm_limits", "llm_home_tenants"}

// rowFunctions are run as the owner of the tables, who sees them all, and name the schema, so that no other table of the name
// stands in for theirs. Which tenant a key or a record has can be asked without a tenant: the setting has its id.
const rowFunctions = `
CREATE OR REPLACE FUNCTION %[1]s.llm_row_security_tenants(counted boolean) RETURNS uuid[]
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = %[1]s, pg_temp AS $$
DECLARE
	setting text := coalesce(current_setting('` + rowSetting + `', true), '');
BEGIN
	IF setting !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' OR setting LIKE '00000000-0000-0000-0000-0000000000__' OR setting = '%[2]s' THEN
		RETURN '{}';
	END IF;
	RETURN (WITH RECURSIVE below (id) AS (SELECT CAST(setting AS uuid)
		UNION SELECT x.id FROM below b CROSS JOIN LATERAL (SELECT t.id FROM %[1]s.llm_tenants t WHERE t.parent = b.id
			UNION ALL SELECT f.tenant FROM %[1]s.llm_former f WHERE counted AND f.parent = b.id) x)
		SELECT array_agg(id) FROM below);
END $$;
CREATE OR REPLACE FUNCTION %[1]s.llm_row_security_find(key text, a_type text, an_owner text, an_id uuid)
RETURNS TABLE (id uuid, tenant_id text, owner_type text, owner_id text, deleted boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = %[1]s, pg_temp AS $$
	SELECT t.id, t.tenant_id, t.owner_type, t.owner_id, t.deleted_at IS NOT NULL FROM %[1]s.llm_tenants t
	WHERE t.tenant_id = key OR (t.owner_type = a_type AND t.owner_id = an_owner) OR t.id = an_id $$;
REVOKE ALL ON FUNCTION %[1]s.llm_row_security_tenants(boolean), %[1]s.llm_row_security_find(text, text, text, uuid) FROM PUBLIC`

// inPlace reports whether a place has a table of its own; what is left says who is who, of all places.
func (t securedTable) inPlace() bool {
	switch t.name {
	case "llm_tenants", "llm_former", "llm_audit", "llm_places":
		return false
	default:
		return true
	}
}

// rowFunction is what the conditions call. In a place they name the schema of the home, which has it.
const rowFunction = "llm_row_security_tenants("

// calling has the conditions of a table call the function in a schema.
func (t securedTable) calling(schema string) securedTable {
	if schema != "" {
		t.own, t.read = strings.ReplaceAll(t.own, rowFunction, schema+"."+rowFunction), strings.ReplaceAll(t.read, rowFunction, schema+"."+rowFunction)
	}
	return t
}

// placeViews are the views of a place.
var placeViews = []string{"llm_tenants"}

// RowSecurityPlaceSteps are the steps for a place, whose tables a search_path leads to. What is to be done in the home is done before.
func RowSecurityPlaceSteps(role, home string) []func(context.Context, Books) error {
	var steps []func(context.Context, Books) error
	for _, view := range placeViews {
		steps = append(steps, func(ctx context.Context, b Books) error { return b.secureView(ctx, view) })
	}
	var tables []string
	for _, t := range securedTables {
		if t.inPlace() {
			steps = append(steps, func(ctx context.Context, b Books) error { return b.secure(ctx, t.calling(home), quoted(role)) })
			if t.name != migrationsTable {
				tables = append(tables, t.name)
			}
		}
	}
	return append(steps, func(ctx context.Context, b Books) error {
		schema, err := b.Schema(ctx)
		if err != nil {
			return err
		}
		return b.grant(ctx, quoted(role), "USAGE ON SCHEMA "+schema, "SELECT ON "+strings.Join(append(tables, placeViews...), ", "))
	})
}

// RowSecuritySteps are what gives a role rows of one tenant at a time: each is a short transaction of its own, so that no more than one
// table is locked at a time. The last one lets the role read. A step that was made before changes nothing.
func RowSecuritySteps(role string) []func(context.Context, Books) error {
	steps := []func(context.Context, Books) error{
		func(ctx context.Context, b Books) error { return b.checkRole(ctx, role) },
		func(ctx context.Context, b Books) error { return b.createRowFunctions(ctx) },
	}
	for _, view := range securedViews {
		steps = append(steps, func(ctx context.Context, b Books) error { return b.secureView(ctx, view) })
	}
	for _, t := range securedTables {
		steps = append(steps, func(ctx context.Context, b Books) error { return b.secure(ctx, t, quoted(role)) })
	}
	return append(steps, func(ctx context.Context, b Books) error { return b.letRead(ctx, quoted(role)) })
}

func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// RoleError says why a role cannot be one that sees one tenant at a time.
type RoleError struct{ Why string }

func (e *RoleError) Error() string { return e.Why }

// checkRole refuses a role whom no policy holds.
func (b Books) checkRole(ctx context.Context, role string) error {
	const first = 15
	var major int
	if err := b.query(ctx)(`SELECT CAST(current_setting('server_version_num') AS integer) / 10000`, nil, func(row sqldb.Row) error { return row.Scan(&major) }); err != nil {
		return err
	}
	if major < first {
		return &RoleError{fmt.Sprintf("this is PostgreSQL %d, whose views show what their owner sees; it needs version %d or later", major, first)}
	}
	found := false
	err := b.query(ctx)(b.Bind(`SELECT r.rolsuper, r.rolbypassrls, pg_has_role(r.oid, c.relowner, 'MEMBER'), pg_get_userbyid(c.relowner)
		FROM pg_roles r CROSS JOIN pg_class c WHERE r.rolname = ? AND c.oid = to_regclass('llm_tenants')`), []any{role}, func(row sqldb.Row) error {
		var (
			super, bypass, owner bool
			owners               string
		)
		if err := row.Scan(&super, &bypass, &owner, &owners); err != nil {
			return err
		}
		found = true
		switch {
		case super:
			return &RoleError{fmt.Sprintf("the role %q is a superuser, whom no row-level security holds", role)}
		case bypass:
			return &RoleError{fmt.Sprintf("the role %q has BYPASSRLS, and no row-level security holds it", role)}
		case owner:
			return &RoleError{fmt.Sprintf("the role %q is, or may become, %q, who owns the ledger's tables and whom no row-level security holds", role, owners)}
		}
		return nil
	})
	if err == nil && !found {
		if _, err = b.Schema(ctx); err == nil {
			err = &RoleError{fmt.Sprintf("there is no role %q: make it first, as in CREATE ROLE %s LOGIN PASSWORD '…'", role, quoted(role))}
		}
	}
	return err
}

// Schema is where the ledger's tables are, quoted.
func (b Books) Schema(ctx context.Context) (name string, err error) {
	err = b.query(ctx)(`SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = CAST('llm_tenants' AS regclass)`, nil,
		func(row sqldb.Row) error { return row.Scan(&name) })
	return quoted(name), err
}

func (b Books) createRowFunctions(ctx context.Context) error {
	schema, err := b.Schema(ctx)
	if err != nil {
		return err
	}
	for _, statement := range strings.SplitAfter(fmt.Sprintf(rowFunctions, schema, book.Defaults), "$$;") {
		if _, err := b.Conn.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

func (b Books) secureView(ctx context.Context, view string) error {
	is := false
	err := b.query(ctx)(b.Bind(`SELECT `+invoker+` FROM pg_class c WHERE c.oid = CAST(CAST(? AS text) AS regclass)`), []any{view},
		func(row sqldb.Row) error { return row.Scan(&is) })
	if err == nil && !is {
		_, err = b.Conn.ExecContext(ctx, "ALTER VIEW "+view+" SET (security_invoker = true)")
	}
	return err
}

// invoker is the condition that a view c looks at its tables as whoever asks it.
const invoker = `coalesce(c.reloptions && '{security_invoker=true,security_invoker=on,security_invoker=1}', false)`

// secure gives a table its policies, for those roles too that have them already. The text of the condition is the policy's comment,
// by which one of today is known, so that what is as it should be is not locked.
func (b Books) secure(ctx context.Context, t securedTable, roles string) error {
	read := cmp.Or(t.read, t.own)
	var (
		on, open, everybody bool
		now, comment        string
		has, found          bool
	)
	err := b.query(ctx)(b.Bind(`SELECT c.relrowsecurity, o.oid IS NOT NULL, coalesce(o.polroles = '{0}', NOT c.relrowsecurity),
			coalesce((SELECT string_agg(quote_ident(pg_get_userbyid(r)), ', ') FROM unnest(p.polroles) r), ''),
			coalesce(obj_description(p.oid, 'pg_policy'), ''),
			coalesce(to_regrole(?) = ANY (p.polroles), false)
		FROM pg_class c LEFT JOIN pg_policy p ON p.polrelid = c.oid AND p.polname = '`+rowPolicy+`'
			LEFT JOIN pg_policy o ON o.polrelid = c.oid AND o.polname = '`+openPolicy+`'
		WHERE c.oid = to_regclass(?)`), []any{roles, t.name}, func(row sqldb.Row) error {
		found = true
		return row.Scan(&on, &open, &everybody, &now, &comment, &has)
	})
	if err != nil || !found && t.name == migrationsTable || on && open && has && comment == read {
		return err
	}
	if now != "" && !has {
		roles = now + ", " + roles
	} else if has {
		roles = now
	}
	// Where the host has policies of its own, whoever they hold is not let through.
	through := roles
	if everybody {
		through = "PUBLIC"
	}
	var statements []string
	policy := func(name, of string) {
		statements = append(statements, "DROP POLICY IF EXISTS "+name+" ON "+t.name, "CREATE POLICY "+name+" ON "+t.name+" "+of)
	}
	policy(openPolicy, "TO "+through+" USING (true)")
	if t.read == "" {
		policy(rowPolicy, "AS RESTRICTIVE TO "+roles+" USING ("+read+")")
	} else {
		policy(rowPolicy, "AS RESTRICTIVE FOR SELECT TO "+roles+" USING ("+read+")")
		policy(rowPolicy+"_insert", "AS RESTRICTIVE FOR INSERT TO "+roles+" WITH CHECK ("+t.own+")")
		policy(rowPolicy+"_update", "AS RESTRICTIVE FOR UPDATE TO "+roles+" USING ("+t.own+")")
		policy(rowPolicy+"_delete", "AS RESTRICTIVE FOR DELETE TO "+roles+" USING ("+t.own+")")
	}
	statements = append(statements,
		"COMMENT ON POLICY "+rowPolicy+" ON "+t.name+" IS '"+strings.ReplaceAll(read, "'", "''")+"'",
		"ALTER TABLE "+t.name+" ENABLE ROW LEVEL SECURITY")
	for _, statement := range statements {
		if _, err := b.Conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%.60s…: %w", statement, err)
		}
	}
	return nil
}

// securedAs gives the executions the policies that another table has.
func (b Books) securedAs(ctx context.Context, table string) error {
	type has struct{ role, condition string }
	var policies []has
	err := b.query(ctx)(`SELECT quote_ident(pg_get_userbyid(r)), coalesce(obj_description(p.oid, 'pg_policy'), '') FROM pg_policy p CROSS JOIN LATERAL unnest(p.polroles) r
		WHERE p.polrelid = to_regclass('`+table+`') AND p.polname = '`+rowPolicy+`'`, nil, func(row sqldb.Row) error {
		var p has
		err := row.Scan(&p.role, &p.condition)
		policies = append(policies, p)
		return err
	})
	for _, p := range policies {
		if err != nil {
			return err
		}
		before, _, _ := strings.Cut(p.condition, rowFunction)
		_, home, _ := strings.Cut(before, "SELECT ")
		err = b.secure(ctx, secureCalls(executionsTable).calling(strings.TrimSuffix(home, ".")), p.role)
	}
	return err
}

// letRead grants a role what it needs.
func (b Books) letRead(ctx context.Context, role string) error {
	schema, err := b.Schema(ctx)
	if err != nil {
		return err
	}
	tables := slices.Clone(securedViews)
	for _, t := range securedTables {
		if t.name != migrationsTable {
			tables = append(tables, t.name)
		}
	}
	return b.grant(ctx, role, "USAGE ON SCHEMA "+schema, "SELECT ON "+strings.Join(tables, ", "),
		"EXECUTE ON FUNCTION llm_row_security_tenants(boolean), llm_row_security_find(text, text, text, uuid)")
}

// grant gives a role rights.
func (b Books) grant(ctx context.Context, role string, rights ...string) error {
	for _, what := range rights {
		if _, err := b.Conn.ExecContext(ctx, "GRANT "+what+" TO "+role); err != nil {
			return err
		}
	}
	return nil
}

// RowSecurityOff says why no row-level security holds the role of a connection; it is empty where one does, on each table of the home, and
// of places, that the role may read.
func (b Books) RowSecurityOff(ctx context.Context, places []string) (why string, err error) {
	var tables, executions []string
	add := func(place, name string) {
		tables = append(tables, "('"+place+name+"')")
		if name == executionsTable {
			executions = append(executions, "to_regclass('"+place+name+"')")
		}
	}
	for _, place := range append([]string{""}, places...) {
		views := placeViews
		if place == "" {
			views = securedViews
		} else {
			place += "."
		}
		for _, t := range securedTables {
			if place == "" || t.inPlace() {
				add(place, t.name)
			}
		}
		for _, view := range views {
			add(place, view)
		}
	}
	err = b.query(ctx)(`SELECT CASE WHEN to_regprocedure('llm_row_security_tenants(boolean)') IS NULL THEN 'it is not migrated: MigrateRowSecurity does that'
		WHEN NOT has_function_privilege('llm_row_security_tenants(boolean)', 'EXECUTE') THEN format('the role %s is not one that MigrateRowSecurity was called for', quote_ident(current_user))
		ELSE coalesce((SELECT format('the role %s sees all of %s', quote_ident(current_user),
				CASE WHEN pg_table_is_visible(c.oid) THEN c.relname ELSE c.relnamespace::regnamespace || '.' || c.relname END)
			FROM pg_class c WHERE c.oid IN (SELECT to_regclass(name) FROM (VALUES `+strings.Join(tables, ", ")+`) t (name)
				UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent IN (`+strings.Join(executions, ", ")+`))
			AND has_any_column_privilege(c.oid, 'SELECT') AND CASE c.relkind WHEN 'v' THEN NOT `+invoker+` ELSE NOT (row_security_active(c.oid) AND EXISTS (SELECT FROM pg_policy p
				WHERE p.polrelid = c.oid AND p.polname = '`+rowPolicy+`' AND (SELECT bool_or(pg_has_role(r, 'USAGE')) FROM unnest(p.polroles) r))) END
			LIMIT 1), '') END`, nil, func(row sqldb.Row) error { return row.Scan(&why) })
	return why, err
}

// FindSecured finds a tenant, also for a role that does not see it. It is nil where there is none.
func (b Books) FindSecured(ctx context.Context, who Who) (*book.Tenant, error) {
	found := map[book.ID]*tenant{}
	var id any
	if who.Key == "" {
		id = who.ID.String()
	}
	err := b.query(ctx)(b.Bind(`SELECT id, coalesce(tenant_id, ''), coalesce(owner_type, ''), coalesce(owner_id, ''), deleted
		FROM llm_row_security_find(?, ?, ?, ?)`), []any{sqldb.Nullable(who.Key), sqldb.Nullable(who.OwnerType), sqldb.Nullable(who.OwnerID), id}, func(row sqldb.Row) error {
		t := &tenant{}
		err := row.Scan(&t.ID, &t.Key, &t.OwnerType, &t.OwnerID, &t.Deleted)
		found[t.ID] = t
		return err
	})
	if t := choose(found, who); t != nil && err == nil {
		return &t.Tenant, nil
	}
	return nil, err
}

// ShowRows shows a transaction the rows of a tenant, and of those below it. It returns what was set before.
func (b Books) ShowRows(ctx context.Context, id book.ID) (before string, err error) {
	err = b.query(ctx)(b.Bind(`SELECT coalesce(current_setting('`+rowSetting+`', true), ''), set_config('`+rowSetting+`', ?, true)`),
		[]any{id.String()}, func(row sqldb.Row) error {
			var after string
			return row.Scan(&before, &after)
		})
	return before, err
}

// ShowRowsAgain sets what was set before.
func (b Books) ShowRowsAgain(ctx context.Context, before string) error {
	_, err := b.Conn.ExecContext(ctx, b.Bind(`SELECT set_config('`+rowSetting+`', ?, true)`), before)
	return err
}

// NobodysID is an id that no tenant has: for one that is not made yet, and has no rows.
func NobodysID() book.ID { return uuid.New() }
