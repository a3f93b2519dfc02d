package tenanttest

import (
	"database/sql"
	"fmt"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/callbacks"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/migrator"
	"gorm.io/gorm/schema"
)

// dialector is gorm's view of SQLite, for tables that tests make anew. Those of gorm's drivers come with a driver that takes
// its name; see connector.
type dialector struct{ pool *sql.DB }

// Name implements gorm.Dialector.
func (dialector) Name() string { return "sqlite" }

// Initialize implements gorm.Dialector.
func (d dialector) Initialize(db *gorm.DB) error {
	db.ConnPool = d.pool
	callbacks.RegisterDefaultCallbacks(db, &callbacks.Config{
		CreateClauses:        []string{"INSERT", "VALUES", "ON CONFLICT", "RETURNING"},
		UpdateClauses:        []string{"UPDATE", "SET", "FROM", "WHERE", "RETURNING"},
		DeleteClauses:        []string{"DELETE", "FROM", "WHERE", "RETURNING"},
		LastInsertIDReversed: true,
	})
	// There are no locks of rows, and no offset without a limit.
	db.ClauseBuilders["FOR"] = func(clause.Clause, clause.Builder) {}
	db.ClauseBuilders["LIMIT"] = func(c clause.Clause, b clause.Builder) {
		limit, ok := c.Expression.(clause.Limit)
		if !ok {
			return
		}
		if limit.Limit == nil && limit.Offset > 0 {
			_, _ = b.WriteString(fmt.Sprintf("LIMIT -1 OFFSET %d", limit.Offset))
			return
		}
		limit.Build(b)
	}
	return nil
}

// Migrator implements gorm.Dialector.
func (d dialector) Migrator(db *gorm.DB) gorm.Migrator {
	return tables{migrator.Migrator{Config: migrator.Config{DB: db, Dialector: d, CreateIndexAfterCreateTable: true}}}
}

// DataTypeOf implements gorm.Dialector.
func (dialector) DataTypeOf(f *schema.Field) string {
	switch f.DataType {
	case schema.Bool:
		return "numeric"
	case schema.Int, schema.Uint:
		if f.AutoIncrement {
			return "integer PRIMARY KEY AUTOINCREMENT"
		}
		return "integer"
	case schema.Float:
		return "real"
	case schema.String:
		return "text"
	case schema.Time:
		if written, ok := f.TagSettings["TYPE"]; ok {
			return written
		}
		return "datetime"
	case schema.Bytes:
		return "blob"
	}
	return string(f.DataType)
}

// DefaultValueOf implements gorm.Dialector.
func (dialector) DefaultValueOf(f *schema.Field) clause.Expression {
	if f.AutoIncrement {
		return clause.Expr{SQL: "NULL"}
	}
	return clause.Expr{SQL: "DEFAULT"} // SQLite knows no such value, and says so
}

// BindVarTo implements gorm.Dialector.
func (dialector) BindVarTo(w clause.Writer, _ *gorm.Statement, _ any) { _ = w.WriteByte('?') }

// QuoteTo implements gorm.Dialector: each part of a name by itself.
func (dialector) QuoteTo(w clause.Writer, name string) {
	for i, part := range strings.Split(name, ".") {
		if i > 0 {
			_ = w.WriteByte('.')
		}
		_, _ = w.WriteString("`" + strings.ReplaceAll(strings.Trim(part, "`"), "`", "``") + "`")
	}
}

// Explain implements gorm.Dialector.
func (dialector) Explain(query string, vars ...any) string {
	return logger.ExplainSQL(query, nil, `"`, vars...)
}

// SavePoint implements gorm.SavePointerDialectorInterface.
func (dialector) SavePoint(tx *gorm.DB, name string) error { return tx.Exec("SAVEPOINT " + name).Error }

// RollbackTo implements gorm.SavePointerDialectorInterface.
func (dialector) RollbackTo(tx *gorm.DB, name string) error {
	return tx.Exec("ROLLBACK TO SAVEPOINT " + name).Error
}

// tables makes tables, and adds columns and indices to those that are there. A column of a table is not changed.
type tables struct{ migrator.Migrator }

func (m tables) has(kind string, value any, name string) (found bool) {
	_ = m.RunWithValue(value, func(s *gorm.Statement) error {
		if name == "" {
			name = s.Table
		}
		var n int64
		err := m.DB.Raw("SELECT count(*) FROM sqlite_master WHERE type = ? AND name = ? AND tbl_name = ?", kind, name, s.Table).Scan(&n).Error
		found = n > 0
		return err
	})
	return found
}

// HasTable implements gorm.Migrator.
func (m tables) HasTable(value any) bool { return m.has("table", value, "") }

// HasIndex implements gorm.Migrator.
func (m tables) HasIndex(value any, name string) bool {
	_ = m.RunWithValue(value, func(s *gorm.Statement) error {
		if s.Schema != nil {
			if index := s.Schema.LookIndex(name); index != nil {
				name = index.Name
			}
		}
		return nil
	})
	return m.has("index", value, name)
}

// HasColumn implements gorm.Migrator.
func (m tables) HasColumn(value any, name string) (found bool) {
	_ = m.RunWithValue(value, func(s *gorm.Statement) error {
		if s.Schema != nil {
			if f := s.Schema.LookUpField(name); f != nil {
				name = f.DBName
			}
		}
		var n int64
		err := m.DB.Raw("SELECT count(*) FROM pragma_table_info(?) WHERE name = ?", s.Table, name).Scan(&n).Error
		found = n > 0
		return err
	})
	return found
}

// HasConstraint implements gorm.Migrator. Constraints are made with their table, and only then.
func (m tables) HasConstraint(any, string) bool { return true }

// MigrateColumn implements gorm.Migrator.
func (m tables) MigrateColumn(any, *schema.Field, gorm.ColumnType) error { return nil }

// MigrateColumnUnique implements gorm.Migrator.
func (m tables) MigrateColumnUnique(any, *schema.Field, gorm.ColumnType) error { return nil }

// CurrentDatabase implements gorm.Migrator.
func (m tables) CurrentDatabase() string { return "main" }

// GetTables implements gorm.Migrator.
func (m tables) GetTables() (names []string, err error) {
	err = m.DB.Raw("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'").Scan(&names).Error
	return names, err
}

// DropTable implements gorm.Migrator.
func (m tables) DropTable(values ...any) error {
	for i := len(values) - 1; i >= 0; i-- {
		if err := m.RunWithValue(values[i], func(s *gorm.Statement) error {
			return m.DB.Exec("DROP TABLE IF EXISTS ?", clause.Table{Name: s.Table}).Error
		}); err != nil {
			return err
		}
	}
	return nil
}

// DropIndex implements gorm.Migrator.
func (m tables) DropIndex(value any, name string) error {
	return m.RunWithValue(value, func(s *gorm.Statement) error {
		if s.Schema != nil {
			if index := s.Schema.LookIndex(name); index != nil {
				name = index.Name
			}
		}
		return m.DB.Exec("DROP INDEX ?", clause.Column{Name: name}).Error
	})
}
