package records

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"gorm.io/gorm"

	"github.com/llmtenant/tenant/internal/citus"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// place is where a table is that a statement means, as PostgreSQL says it: its name alone does not, where the host has a
// schema for each of its customers and sets the search_path.
type place struct {
	there  bool // it is the table that the declared name means, in the same transaction
	home   bool // it is in the schema of the ledger's own tables
	again  bool // it has triggers that run after a statement, and may change records once more
	schema string
}

// placeSQL asks for the place of a statement's table. It is evaluated once for each statement.
func (d *Declaration) placeSQL(table string) string {
	same := ""
	if table != d.schema.Table {
		same = " AND c.oid = " + regclass(d.schema.Table)
	}
	return `(SELECT CASE WHEN EXISTS (SELECT 1 FROM pg_catalog.pg_class l WHERE l.oid = ` + regclass("llm_tenants") + ` AND l.relnamespace = c.relnamespace) THEN 'h' ELSE '-' END
		|| CASE WHEN EXISTS (SELECT 1 FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgtype & 66 = 0) THEN 't' ELSE '-' END
		|| n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ` + regclass(table) + same + `)`
}

// regclass is the table of a name as an expression of SQL.
func regclass(table string) string {
	return `to_regclass('` + strings.ReplaceAll(quoted(table), `'`, `''`) + `')`
}

func quoted(table string) string {
	parts := strings.Split(table, ".")
	for i, p := range parts {
		parts[i] = `"` + strings.ReplaceAll(p, `"`, `""`) + `"`
	}
	return strings.Join(parts, ".")
}

func parsePlace(s string) place {
	if len(s) < 2 {
		return place{}
	}
	return place{there: true, home: s[0] == 'h', again: s[1] == 't', schema: s[2:]}
}

// located are the records of the model in a table, none if that is not the declared one. In the schema of the ledger's own
// tables, and wherever the declaration says the schema, the table has its declared name in the books; elsewhere the schema
// goes before it.
func (d *Declaration) located(p place) records {
	if !p.there {
		return records{}
	}
	return records{Declaration: d, owner: d.ownerIn(p), place: p}
}

func (d *Declaration) ownerIn(p place) string {
	if p.home || p.schema == "" || strings.Contains(d.schema.Table, ".") {
		return d.schema.Table
	}
	return p.schema + "." + d.schema.Table
}

// resolve finds out which table the declared name means on a connection.
func (d *Declaration) resolve(db *gorm.DB) (records, error) {
	p := place{there: true, home: true}
	if d.registry.Dialect.Schemas {
		var where sql.NullString
		if err := sqldb.One(db.Statement.Context, db.Statement.ConnPool, "SELECT "+d.placeSQL(d.schema.Table), &where); err != nil {
			return records{}, err
		}
		if p = parsePlace(where.String); !p.there {
			return records{}, &absentError{d}
		}
	}
	return d.located(p), nil
}

// absentError says that the table of a declared model is not to be found.
type absentError struct{ *Declaration }

func (e *absentError) Error() string {
	return fmt.Sprintf("the table %s of %s is not in the ledger's database, or not in its search_path", e.schema.Table, e.Type)
}

// atHome is resolve on the ledger's own handle. It is asked once.
func (d *Declaration) atHome(db *gorm.DB) (records, error) {
	if at := d.own.Load(); at != nil {
		return *at, nil
	}
	at, err := d.resolve(db)
	if err == nil {
		d.own.Store(&at)
	}
	return at, err
}

// ownerType is the table of a record that is given to a call, as the books have it.
func (d *Declaration) ownerType() string {
	if at := d.own.Load(); at != nil {
		return at.owner
	}
	return d.schema.Table
}

// tells reports whether a statement on a table can say which rows it has inserted, and which it has left as they were. A view
// cannot, nor can a table in partitions, and neither can SQLite.
func (d *Declaration) tells(db *gorm.DB, table string) (bool, error) {
	if d.registry.Dialect != sqldb.Postgres {
		return false, nil
	}
	if says, known := d.plain.Load(table); known {
		return says.(bool), nil //nolint:forcetypeassert // of the line below
	}
	var kind sql.NullString
	if err := sqldb.One(db.Statement.Context, db.Statement.ConnPool, `SELECT CAST(relkind AS text) FROM pg_catalog.pg_class WHERE oid = `+regclass(table), &kind); err != nil {
		return false, err
	}
	d.plain.Store(table, kind.String == "r")
	return kind.String == "r", nil
}

// placeBefore asks where a table is before a statement inserts into it, if that cannot say it: Citus takes no subquery in an INSERT. It
// is nil where it can.
func (d *Declaration) placeBefore(db *gorm.DB, table string) (*place, error) {
	if there, err := d.registry.OnCitus(db.Statement.Context, db.Statement.ConnPool); err != nil || !there {
		return nil, err
	}
	if err := d.commitsWithPlaces(db, table); err != nil {
		return nil, err
	}
	var where sql.NullString
	if err := sqldb.One(db.Statement.Context, db.Statement.ConnPool, "SELECT "+d.placeSQL(table), &where); err != nil {
		return nil, err
	}
	p := parsePlace(where.String)
	return &p, nil
}

// CommitsWithPlaces returns a [citus.LocalTableError] where records of the declared table and their budgets would not be committed together. It
// is nil where that is not there yet.
func (d *Declaration) CommitsWithPlaces(db *gorm.DB) error {
	return d.commitsWithPlaces(db, d.schema.Table)
}

func (d *Declaration) commitsWithPlaces(db *gorm.DB, table string) error {
	if len(d.registry.Places) == 0 {
		return nil
	}
	return citus.CommitsWith(db.Statement.Context, db.Statement.ConnPool, quoted(table), d.registry.Places...)
}

// OnCitus reports whether the database has Citus. It is asked once.
func (g *Registry) OnCitus(ctx context.Context, c sqldb.Conn) (bool, error) {
	if !g.Dialect.Schemas {
		return false, nil
	}
	if there := g.citus.Load(); there != nil {
		return *there, nil
	}
	role, err := citus.RoleOf(ctx, c)
	if err != nil {
		return false, err
	}
	there := role != citus.None
	g.citus.Store(&there)
	return there, nil
}

// elsewhere reports whether a statement goes to a database that the ledger's tables are not in: a resolver may send a model
// anywhere. There is no budget that could follow in the same transaction then.
func (g *Registry) elsewhere(db *gorm.DB) (bool, error) {
	own, err := g.DB.DB()
	if err != nil {
		return false, err
	}
	its, err := db.DB()
	if err != nil || its == own {
		return false, nil //nolint:nilerr // a connection that does not say whose it is
	}
	if away, known := g.pools.Load(its); known {
		return away.(bool), nil //nolint:forcetypeassert // of the line below
	}
	question := `SELECT CASE WHEN to_regclass('llm_tenants') IS NULL THEN 0 ELSE 1 END`
	if db.Name() == "sqlite" {
		question = `SELECT count(*) FROM sqlite_master WHERE name = 'llm_tenants'`
	}
	var there int
	if err := sqldb.One(db.Statement.Context, db.Statement.ConnPool, question, &there); err != nil {
		return false, err
	}
	g.pools.Store(its, there == 0)
	if there == 0 {
		g.Log.Warn("tenant: records of a declared model are written to another database than the ledger's, so that their budgets do not follow them",
			"table", db.Statement.Table)
	}
	return there == 0, nil
}
