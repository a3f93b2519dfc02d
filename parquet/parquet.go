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
	"strconv"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"

	"github.com/llmtenant/tenant"
)

// Format is Parquet: the columns of the export in their order, each of which may be NULL, compressed with Zstandard. Amounts are
// DECIMAL(18, 9) of US dollars, never floats; counts are INT64; times are TIMESTAMP in UTC, to the microsecond; objects are JSON.
//
// A file of Parquet has its index at its end: one that was cut off cannot be read, and cannot be gone on with. What was read is
// handed to the writer in groups of 32,768 rows, which is what an export keeps in memory, compressed.
//
// Errors of an export, beside its own: an amount of a billion dollars or more, which DECIMAL(18, 9) has no room for, and
// [tenant.WithExportAfter].
func Format() tenant.ExportFormat { return format{} }

type format struct{}

// groupRows is how many rows are in a group, the last one aside.
const groupRows = 1 << 15

// pageBytes is about how large a page is, which is compressed by itself.
const pageBytes = 1 << 16

// codec is Zstandard with the memory that a page needs: the one of parquet-go keeps 16 MiB and more for each of its encoders.
type codec struct {
	compress.Codec
	pages *zstd.Encoder
}

// Encode implements [compress.Codec].
func (c codec) Encode(to, page []byte) ([]byte, error) { return c.pages.EncodeAll(page, to[:0]), nil }

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
	pages, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(pageBytes), zstd.WithLowerEncoderMem(true),
		zstd.WithZeroFrames(true), zstd.WithEncoderCRC(false)) // as parquet-go has them
	if err != nil {
		return nil, err
	}
	return &encoder{
		columns: columns, row: make(parquet.Row, len(columns)),
		out: parquet.NewGenericWriter[any](w, schema, parquet.PageBufferSize(pageBytes), parquet.Compression(codec{&parquet.Zstd, pages}), parquet.CreatedBy("tenant", "", "")),
	}, nil
}

// nodes say what a column is.
var nodes = map[tenant.ExportKind]parquet.Node{
	tenant.ExportText: parquet.String(), tenant.ExportInteger: parquet.Leaf(parquet.Int64Type), tenant.ExportMoney: parquet.Decimal(9, 18, parquet.Int64Type),
	tenant.ExportTime: parquet.Timestamp(parquet.Microsecond), tenant.ExportSecond: parquet.Timestamp(parquet.Microsecond),
	tenant.ExportBool: parquet.Leaf(parquet.BooleanType), tenant.ExportJSON: parquet.JSON(),
}

// inOrder is a group whose fields are in an order of their own: one of parquet-go has them by their names. A struct would keep the
// order too, but its tags have no room for a name with a comma.
type inOrder struct {
	parquet.Group
	fields []parquet.Field
}

// Fields implements [parquet.Node].
func (g inOrder) Fields() []parquet.Field { return g.fields }

func schemaOf(columns []tenant.ExportColumn) (*parquet.Schema, error) {
	group, at := parquet.Group{}, map[string]int{}
	for i, c := range columns {
		node, ok := nodes[c.Kind]
		switch _, twice := group[c.Name]; {
		case !ok:
			return nil, fmt.Errorf("the column %q is of a kind that Parquet does not know: %d", c.Name, c.Kind)
		case twice:
			return nil, fmt.Errorf("the column %q is there twice", c.Name)
		}
		group[c.Name], at[c.Name] = parquet.Optional(node), i
	}
	fields := make([]parquet.Field, len(columns))
	for _, f := range group.Fields() {
		fields[at[f.Name()]] = f
	}
	return parquet.NewSchema("tenant", inOrder{group, fields}), nil
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
