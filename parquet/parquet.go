// Package tenantparquet writes exports of the ledger as Apache Parquet:
//
//	report, err := tenant.Export(ctx, db, file, tenantparquet.Format(), tenant.ExecutionQuery{Tenant: org, Period: tenant.LastMonth})
//
// It is a module of its own, so that those who export CSV do not build Parquet.
package tenantparquet

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"

	"github.com/parquet-go/parquet-go"

	"github.com/llmtenant/tenant"
)

// Format is Parquet: the columns of the export in their order, each of which may be NULL, compressed with Zstandard. Amounts are
// DECIMAL(18, 9) of US dollars, never floats; counts are INT64; times are TIMESTAMP in UTC, to the microsecond; objects are JSON.
//
// A file of Parquet has its index at its end: one that was cut off cannot be read, and cannot be gone on with. What was read is
// handed to the writer in groups of 65,536 rows, which is what an export keeps in memory.
//
// Errors of an export, beside its own: an amount of a billion dollars or more, which DECIMAL(18, 9) has no room for, and
// [tenant.WithExportAfter].
func Format() tenant.ExportFormat { return format{} }

type format struct{}

// groupRows is how many rows are in a group, the last one aside.
const groupRows = 1 << 16

// maxNano is the first amount that DECIMAL(18, 9) has no room for.
const maxNano = 1_000_000_000_000_000_000

// Encoder implements [tenant.ExportFormat].
func (format) Encoder(w io.Writer, columns []tenant.ExportColumn, continued bool) (tenant.ExportEncoder, error) {
	if continued {
		return nil, errors.New("a file of Parquet that was cut off cannot be gone on with: begin it anew, or export CSV or NDJSON")
	}
	schema, err := schemaOf(columns)
	if err != nil {
		return nil, err
	}
	return &encoder{
		columns: columns, row: make(parquet.Row, len(columns)),
		out: parquet.NewGenericWriter[any](w, schema, parquet.Compression(&parquet.Zstd), parquet.CreatedBy("tenant", "", "")),
	}, nil
}

// tags say what a column is, in the words of parquet-go, and types what a Go value of it is.
var (
	tags = map[tenant.ExportKind]string{
		tenant.ExportText: "", tenant.ExportInteger: "", tenant.ExportMoney: ",decimal(9:18)",
		tenant.ExportTime: ",timestamp(microsecond)", tenant.ExportSecond: ",timestamp(microsecond)", tenant.ExportBool: "", tenant.ExportJSON: ",json",
	}
	types = map[tenant.ExportKind]reflect.Type{
		tenant.ExportText: reflect.TypeFor[string](), tenant.ExportInteger: reflect.TypeFor[int64](), tenant.ExportMoney: reflect.TypeFor[int64](),
		tenant.ExportTime: reflect.TypeFor[int64](), tenant.ExportSecond: reflect.TypeFor[int64](), tenant.ExportBool: reflect.TypeFor[bool](), tenant.ExportJSON: reflect.TypeFor[string](),
	}
)

// schemaOf makes a schema by way of a struct, because only those keep the order of their columns.
func schemaOf(columns []tenant.ExportColumn) (*parquet.Schema, error) {
	fields := make([]reflect.StructField, len(columns))
	for i, c := range columns {
		t, ok := types[c.Kind]
		if !ok {
			return nil, fmt.Errorf("the column %q is of a kind that Parquet does not know: %d", c.Name, c.Kind)
		}
		fields[i] = reflect.StructField{
			Name: "F" + strconv.Itoa(i), Type: t,
			Tag: reflect.StructTag(`parquet:` + strconv.Quote(c.Name+",optional"+tags[c.Kind])),
		}
	}
	return parquet.NewSchema("tenant", parquet.SchemaOf(reflect.New(reflect.StructOf(fields)).Elem().Interface())), nil
}

// encoder writes rows of values: of an optional field, parquet-go would take a zero for NULL.
type encoder struct {
	columns []tenant.ExportColumn
	out     *parquet.GenericWriter[any]
	row     parquet.Row
	rows    int // of the group
}

// Row implements [tenant.ExportEncoder].
func (e *encoder) Row(cells [][]byte) error {
	for i, cell := range cells {
		if cell == nil {
			e.row[i] = parquet.NullValue().Level(0, 0, i)
			continue
		}
		v, err := value(e.columns[i], cell)
		if err != nil {
			return err
		}
		e.row[i] = v.Level(0, 1, i)
	}
	if _, err := e.out.WriteRows([]parquet.Row{e.row}); err != nil {
		return err
	}
	e.rows++
	return nil
}

func value(c tenant.ExportColumn, cell []byte) (parquet.Value, error) {
	switch c.Kind {
	case tenant.ExportBool:
		return parquet.BooleanValue(string(cell) == "t"), nil
	case tenant.ExportText, tenant.ExportJSON:
		return parquet.ByteArrayValue(cell), nil // which the writer copies
	}
	n, err := strconv.ParseInt(string(cell), 10, 64)
	if err != nil {
		return parquet.Value{}, fmt.Errorf("the column %q has %.60q where a number is due", c.Name, cell)
	}
	if c.Kind == tenant.ExportMoney && (n >= maxNano || n <= -maxNano) {
		return parquet.Value{}, fmt.Errorf("the column %q has an amount of %d nano-dollars, and DECIMAL(18, 9) ends before a billion dollars", c.Name, n)
	}
	return parquet.Int64Value(n), nil
}

// Flush implements [tenant.ExportEncoder]: a group is handed over when it is full.
func (e *encoder) Flush() error {
	if e.rows < groupRows {
		return nil
	}
	e.rows = 0
	return e.out.Flush()
}

// Close implements [tenant.ExportEncoder].
func (e *encoder) Close() error { return e.out.Close() }
