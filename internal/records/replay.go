package records

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"reflect"
)

// seen are the rows that a statement of the host's has returned, without the columns that the ledger has added.
type seen struct {
	columns []string
	types   []*sql.ColumnType
	rows    [][]any
	n       int64
	targets []any // what a row is scanned into
}

func newSeen(rows *sql.Rows, added int) (*seen, error) {
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, err
	}
	n := len(columns) - added
	s := &seen{columns: columns[:n], types: types[:n], targets: make([]any, n)}
	for i := range s.targets {
		s.targets[i] = new(any)
	}
	return s, nil
}

// add enters the row that was scanned into targets.
func (s *seen) add() {
	s.n++
	if len(s.targets) == 0 {
		return
	}
	values := make([]any, len(s.targets))
	for i, v := range s.targets {
		values[i] = *v.(*any) //nolint:forcetypeassert // of newSeen
	}
	s.rows = append(s.rows, values)
}

// replay gives the rows out as database/sql does. It has no way to make them but from a driver.
func (s *seen) replay(ctx context.Context) (*sql.Rows, error) {
	pool := sql.OpenDB(player{s})
	defer func() { _ = pool.Close() }() // the rows keep their connection until they are closed
	return pool.QueryContext(ctx, "")   //nolint:sqlclosecheck // whoever asked closes them
}

// player is a driver whose every query has the same answer.
type player struct{ *seen }

var errReplay = errors.New("what was seen of a statement can be read, and nothing else")

// Connect implements driver.Connector.
func (p player) Connect(context.Context) (driver.Conn, error) { return p, nil }

// Driver implements driver.Connector.
func (p player) Driver() driver.Driver { return p }

// Open implements driver.Driver.
func (p player) Open(string) (driver.Conn, error) { return p, nil }

// Prepare implements driver.Conn.
func (player) Prepare(string) (driver.Stmt, error) { return nil, errReplay }

// Begin implements driver.Conn.
func (player) Begin() (driver.Tx, error) { return nil, errReplay }

// Close implements driver.Conn.
func (player) Close() error { return nil }

// QueryContext implements driver.QueryerContext.
func (p player) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return &played{seen: p.seen}, nil
}

// played are rows that are read once more.
type played struct {
	*seen
	next int
}

// Columns implements driver.Rows.
func (p *played) Columns() []string { return p.columns }

// Close implements driver.Rows.
func (p *played) Close() error { return nil }

// Next implements driver.Rows.
func (p *played) Next(values []driver.Value) error {
	if p.next == len(p.seen.rows) {
		return io.EOF
	}
	for i, v := range p.seen.rows[p.next] {
		values[i] = v
	}
	p.next++
	return nil
}

// ColumnTypeScanType implements driver.RowsColumnTypeScanType.
func (p *played) ColumnTypeScanType(i int) reflect.Type { return p.types[i].ScanType() }

// ColumnTypeDatabaseTypeName implements driver.RowsColumnTypeDatabaseTypeName.
func (p *played) ColumnTypeDatabaseTypeName(i int) string { return p.types[i].DatabaseTypeName() }
