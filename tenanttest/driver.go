package tenanttest

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"
)

// connector opens connections to a SQLite file. It is used by itself and under no name: every driver of SQLite that there is
// takes the name "sqlite" or "sqlite3" for itself as it is imported, and a program that imports two of them panics.
type connector struct{ file string }

// busyTimeout is how long a connection waits for the write lock.
const busyTimeout = 5 * time.Second

// Driver implements driver.Connector.
func (c connector) Driver() driver.Driver { return c }

// Open implements driver.Driver.
func (c connector) Open(string) (driver.Conn, error) { return c.Connect(context.Background()) }

// Connect implements driver.Connector.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	db, err := sqlite3.OpenContext(ctx, c.file)
	if err != nil {
		return nil, err
	}
	db.SetInterrupt(context.Background())
	if err := db.BusyTimeout(busyTimeout); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &conn{db}, nil
}

type conn struct{ db *sqlite3.Conn }

// Close implements driver.Conn.
func (c *conn) Close() error { return c.db.Close() }

// Begin implements driver.Conn.
func (c *conn) Begin() (driver.Tx, error) { return c.BeginTx(context.Background(), driver.TxOptions{}) }

// BeginTx implements driver.ConnBeginTx. Every transaction of SQLite is serializable.
func (c *conn) BeginTx(ctx context.Context, _ driver.TxOptions) (driver.Tx, error) {
	_, err := c.ExecContext(ctx, "BEGIN", nil)
	return transaction{c}, err
}

type transaction struct{ *conn }

// Commit implements driver.Tx.
func (t transaction) Commit() error {
	_, err := t.ExecContext(context.Background(), "COMMIT", nil)
	if err != nil && !t.db.GetAutocommit() {
		err = errors.Join(err, t.Rollback())
	}
	return err
}

// Rollback implements driver.Tx. SQLite may have rolled back by itself.
func (t transaction) Rollback() error {
	if t.db.GetAutocommit() {
		return nil
	}
	_, err := t.ExecContext(context.Background(), "ROLLBACK", nil)
	return err
}

// Prepare implements driver.Conn.
func (c *conn) Prepare(query string) (driver.Stmt, error) {
	s, _, err := c.prepare(query)
	if err == nil && s.stmt == nil {
		err = errors.New("the statement is empty")
	}
	return s, err
}

func (c *conn) prepare(query string) (s *statement, rest string, err error) {
	stmt, rest, err := c.db.Prepare(query)
	return &statement{conn: c, stmt: stmt}, strings.TrimSpace(rest), err
}

// ExecContext implements driver.ExecerContext, of several statements too.
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	var result driver.Result = driver.ResultNoRows
	for rest := strings.TrimSpace(query); rest != ""; {
		s, after, err := c.prepare(rest)
		if err != nil {
			return nil, err
		}
		if rest = after; s.stmt == nil { // a comment
			continue
		}
		own := args
		if rest != "" {
			own = args[:min(s.stmt.BindCount(), len(args))]
			args = args[len(own):]
		}
		result, err = s.ExecContext(ctx, own)
		if err = errors.Join(err, s.Close()); err != nil {
			return nil, err
		}
	}
	return result, nil
}

// statement is a statement that was prepared.
type statement struct {
	conn *conn
	stmt *sqlite3.Stmt
}

// Close implements driver.Stmt.
func (s *statement) Close() error {
	if s.stmt == nil {
		return nil
	}
	return s.stmt.Close()
}

// NumInput implements driver.Stmt. Parameters may have names.
func (s *statement) NumInput() int { return -1 }

// Exec implements driver.Stmt.
func (s *statement) Exec(args []driver.Value) (driver.Result, error) {
	return s.ExecContext(context.Background(), numbered(args))
}

// Query implements driver.Stmt.
func (s *statement) Query(args []driver.Value) (driver.Rows, error) {
	return s.QueryContext(context.Background(), numbered(args))
}

func numbered(args []driver.Value) []driver.NamedValue {
	values := make([]driver.NamedValue, len(args))
	for i, v := range args {
		values[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return values
}

// ExecContext implements driver.StmtExecContext.
func (s *statement) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if err := s.bind(args); err != nil {
		return nil, err
	}
	defer s.conn.db.SetInterrupt(s.conn.db.SetInterrupt(ctx))
	before := s.conn.db.TotalChanges()
	if err := errors.Join(s.stmt.Exec(), s.stmt.ClearBindings()); err != nil {
		return nil, err
	}
	r := result{id: s.conn.db.LastInsertRowID()}
	if s.conn.db.TotalChanges() != before {
		r.rows = s.conn.db.Changes()
	}
	return r, nil
}

type result struct{ id, rows int64 }

// LastInsertId implements driver.Result.
func (r result) LastInsertId() (int64, error) { return r.id, nil }

// RowsAffected implements driver.Result.
func (r result) RowsAffected() (int64, error) { return r.rows, nil }

// timeLayout is how times are stored: as other drivers of Go do it.
const timeLayout = "2006-01-02 15:04:05.999999999-07:00"

func (s *statement) bind(args []driver.NamedValue) error {
	if want := s.stmt.BindCount(); len(args) < want {
		return fmt.Errorf("the statement has %d parameters, and %d values were given", want, len(args))
	}
	for i, a := range args {
		at := i + 1
		if a.Name != "" {
			for _, prefix := range []string{":", "@", "$"} {
				if i := s.stmt.BindIndex(prefix + a.Name); i > 0 {
					at = i
				}
			}
		}
		var err error
		switch v := a.Value.(type) {
		case nil:
			err = s.stmt.BindNull(at)
		case bool:
			err = s.stmt.BindBool(at, v)
		case int64:
			err = s.stmt.BindInt64(at, v)
		case float64:
			err = s.stmt.BindFloat(at, v)
		case string:
			err = s.stmt.BindText(at, v)
		case []byte:
			err = s.stmt.BindBlob(at, v)
		case time.Time:
			err = s.stmt.BindText(at, v.Format(timeLayout))
		default:
			err = fmt.Errorf("a value of the type %T cannot be stored", v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// QueryContext implements driver.StmtQueryContext.
func (s *statement) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if err := s.bind(args); err != nil {
		return nil, err
	}
	r := &rows{statement: s, ctx: ctx, isTime: make([]bool, s.stmt.ColumnCount())}
	for i := range r.isTime {
		r.names = append(r.names, s.stmt.ColumnName(i))
		switch strings.ToLower(s.stmt.ColumnDeclType(i)) {
		case "date", "datetime", "timestamp":
			r.isTime[i] = true
		}
	}
	return r, nil
}

type rows struct {
	*statement
	ctx    context.Context //nolint:containedctx // of the query, whose rows these are
	names  []string
	isTime []bool
}

// Columns implements driver.Rows.
func (r *rows) Columns() []string { return r.names }

// ColumnTypeDatabaseTypeName implements driver.RowsColumnTypeDatabaseTypeName.
func (r *rows) ColumnTypeDatabaseTypeName(i int) string {
	return strings.ToUpper(r.stmt.ColumnDeclType(i))
}

// Close implements driver.Rows.
func (r *rows) Close() error { return errors.Join(r.stmt.Reset(), r.stmt.ClearBindings()) }

// Next implements driver.Rows.
func (r *rows) Next(values []driver.Value) error {
	defer r.conn.db.SetInterrupt(r.conn.db.SetInterrupt(r.ctx))
	if !r.stmt.Step() {
		if err := r.stmt.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	for i := range values {
		switch r.stmt.ColumnType(i) {
		case sqlite3.INTEGER:
			values[i] = r.stmt.ColumnInt64(i)
		case sqlite3.FLOAT:
			values[i] = r.stmt.ColumnFloat(i)
		case sqlite3.BLOB:
			values[i] = r.stmt.ColumnBlob(i, []byte{})
		case sqlite3.TEXT:
			text := r.stmt.ColumnText(i)
			values[i] = text
			if r.isTime[i] {
				if t, err := sqlite3.TimeFormatAuto.Decode(text); err == nil {
					values[i] = t
				}
			}
		default:
			values[i] = nil
		}
	}
	return nil
}
