package sqldb

import (
	"context"
	"database/sql"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
)

// Schema is a schema of PostgreSQL that has the tables of some tenants' books. Statements are written for tables that are found
// by a search_path. In a schema they are run with the names of their tables qualified, so that no connection has to be set up for
// it. The tables that say who is who, of all tenants, stand apart from it, and keep their names. Nil: all do, and there is no other place.
type Schema struct {
	Name string // empty: the home, whose tables keep their names, beside other places

	renamed sync.Map // the statements as they are run, by what was written
	known   atomic.Int64
}

// maxRenamed bounds how many statements are kept; few differ by more than their arguments.
const maxRenamed = 10_000

// partition is the name of a table with some of the executions.
var partition = regexp.MustCompile(`^llm_executions_(past|later|[0-9]{4}_[0-9]{2})$`)

// homeTenants is the view of the tenants whose books are in the home.
const homeTenants = "llm_home_tenants"

// tables are those that stand in a schema. Of the tenants it has a view of those whose books it has, which is for reading.
var tables = map[string]struct{ read bool }{
	"llm_tenants":  {read: true},
	"llm_balances": {}, "llm_executions": {}, "llm_idempotency": {}, "llm_pruned": {}, "llm_usage": {}, "llm_usage_units": {},
	"llm_usage_windows": {}, "llm_usage_folds": {}, "llm_usage_values": {}, "llm_usage_late": {}, "llm_processes": {}, "llm_thresholds": {},
}

// Statement returns a statement with the names of its tables qualified.
func (s *Schema) Statement(statement string) string {
	if s == nil {
		return statement
	}
	if renamed, ok := s.renamed.Load(statement); ok {
		return renamed.(string)
	}
	renamed := s.rename(statement)
	if s.known.Add(1) > maxRenamed {
		s.renamed.Clear()
		s.known.Store(1)
	}
	s.renamed.Store(statement, renamed)
	return renamed
}

// Table returns the name of a table of the schema, for statements about several schemas.
func (s *Schema) Table(name string) string {
	if s == nil || s.Name == "" {
		return name
	}
	return s.Name + "." + name
}

const prefix = "llm_"

func (s *Schema) rename(statement string) string {
	var b strings.Builder
	rest := statement
	for {
		i := strings.Index(rest, prefix)
		if i < 0 {
			b.WriteString(rest)
			return b.String()
		}
		end := i + len(prefix)
		for end < len(rest) && inName(rest[end]) {
			end++
		}
		before, name := rest[:i], rest[i:end]
		b.WriteString(before)
		t, ok := tables[name]
		ok = ok || partition.MatchString(name)
		column := end < len(rest) && rest[end] == '.' // of the table, which keeps its name in the statement
		part := i > 0 && (inName(rest[i-1]) || rest[i-1] == '.')
		switch {
		case !ok || column || part:
		case t.read && writes(statement[:len(statement)-len(rest)+i]):
		case s.Name != "":
			b.WriteString(s.Name + ".")
		case t.read:
			name = homeTenants
		}
		b.WriteString(name)
		rest = rest[end:]
	}
}

// inName reports whether a name can have a character.
func inName(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// writes reports whether the table that follows a piece of a statement is written.
func writes(before string) bool {
	words := strings.Fields(before[max(0, len(before)-40):])
	if len(words) == 0 {
		return false
	}
	switch last := words[len(words)-1]; {
	case last == "INTO":
		return true
	case strings.HasSuffix(last, "UPDATE"):
		return true
	default:
		return last == "FROM" && len(words) > 1 && strings.HasSuffix(words[len(words)-2], "DELETE")
	}
}

// On returns a connection whose statements are about the tables of the schema.
func (s *Schema) On(c Conn) Conn {
	if s == nil {
		return c
	}
	return &schemaConn{c, s}
}

type schemaConn struct {
	Conn
	schema *Schema
}

// ExecContext implements Conn.
func (c *schemaConn) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return c.Conn.ExecContext(ctx, c.schema.Statement(query), args...)
}

// QueryContext implements Conn.
func (c *schemaConn) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return c.Conn.QueryContext(ctx, c.schema.Statement(query), args...)
}

// QueryRowContext implements Conn.
func (c *schemaConn) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return c.Conn.QueryRowContext(ctx, c.schema.Statement(query), args...)
}

// Under returns the connection that a schema's statements are run on.
func Under(c Conn) Conn {
	if s, ok := c.(*schemaConn); ok {
		return s.Conn
	}
	return c
}
