package tenantparquet_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	tenantparquet "github.com/llmtenant/tenant/parquet"
	"github.com/llmtenant/tenant/tenanttest"
)

const acme = tenant.ID("acme")

// book books calls that have what formats have trouble with: zeros, NULLs, the least and large amounts, and odd texts.
func book(t *testing.T, ledger *tenant.Ledger) {
	t.Helper()
	for i, text := range []string{"plain", `a "quoted", one`, "", "ünï", "=1+1"} {
		actual := tenant.Actual{Provider: "openai", Model: "m", RequestID: text, Cost: tenant.USD("0.000000001"), Usage: tenant.Usage{Input: int64(i)}}
		options := []tenant.RecordOption{tenant.WithAgent("a" + text)}
		if i%2 == 0 {
			actual.ReportedCost = tenant.USD("123456789.000000001")
			options = append(options, tenant.WithTag("text", text+"x"))
		}
		if i == 0 {
			actual.Cost = tenant.USD("0")
		}
		_, err := ledger.Record(t.Context(), acme, actual, options...)
		require.NoError(t, err)
	}
}

// cells reads a file of Parquet as NDJSON has it.
func cells(t *testing.T, file []byte) (columns []string, rows []map[string]any) {
	t.Helper()
	f, err := parquet.OpenFile(bytes.NewReader(file), int64(len(file)))
	require.NoError(t, err)
	fields := f.Schema().Fields()
	for _, field := range fields {
		columns = append(columns, field.Name())
	}
	for _, group := range f.RowGroups() {
		reader := group.Rows()
		buffer := make([]parquet.Row, 64)
		for {
			n, err := reader.ReadRows(buffer)
			for _, row := range buffer[:n] {
				read := map[string]any{}
				for _, v := range row {
					read[columns[v.Column()]] = shown(fields[v.Column()], v)
				}
				rows = append(rows, read)
			}
			if err != nil {
				break
			}
		}
		require.NoError(t, reader.Close())
	}
	return columns, rows
}

func shown(field parquet.Field, v parquet.Value) any {
	if v.IsNull() {
		return nil
	}
	if logical := field.Type().LogicalType(); logical != nil {
		switch logical.Value.(type) {
		case *format.DecimalType:
			return decimal.New(v.Int64(), -9).StringFixed(9)
		case *format.TimestampType:
			return time.UnixMicro(v.Int64()).UTC().Format("2006-01-02T15:04:05.000000Z")
		case *format.JsonType:
			var object any
			read := json.NewDecoder(bytes.NewReader(v.ByteArray()))
			read.UseNumber()
			_ = read.Decode(&object)
			return object
		}
	}
	switch {
	case v.Kind() == parquet.Boolean:
		return v.Boolean()
	case v.Kind() == parquet.Int64:
		return json.Number(strconv.FormatInt(v.Int64(), 10))
	}
	return string(v.ByteArray())
}

func TestFormat_HasEveryCellThatNDJSONHas(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	book(t, ledger)
	for name, what := range map[string]tenant.Exportable{
		"executions": tenant.ExecutionQuery{Tenant: acme},
		"FOCUS":      tenant.FOCUS{Tenant: acme, Period: tenant.ThisMonth, BillingAccountID: "org-1", By: []tenant.Group{tenant.ByAgent}},
		"an answer":  tenant.Query{Tenant: acme, Period: tenant.ThisMonth, By: []tenant.Group{tenant.ByAgent, tenant.ByDay}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var file, lines bytes.Buffer
			report, err := tenant.Export(t.Context(), db, &file, tenantparquet.Format(), what)
			require.NoError(t, err)
			require.EqualValues(t, file.Len(), report.Bytes)
			_, err = tenant.Export(t.Context(), db, &lines, tenant.NDJSON(), what)
			require.NoError(t, err)

			var want []map[string]any
			read := json.NewDecoder(&lines)
			read.UseNumber()
			for read.More() {
				var row map[string]any
				require.NoError(t, read.Decode(&row))
				for name, value := range row { // a whole second is the same time
					if at, err := time.Parse(time.RFC3339, fmt.Sprint(value)); err == nil {
						row[name] = at.Format("2006-01-02T15:04:05.000000Z")
					}
				}
				want = append(want, row)
			}
			columns, rows := cells(t, file.Bytes())
			require.NotEmpty(t, want)
			require.EqualValues(t, len(want), report.Rows)
			require.Len(t, columns, len(want[0]))
			require.Equal(t, want, rows)
		})
	}
}

func TestFormat_KeepsTheOrderOfTheColumnsAndTheirTypes(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	book(t, ledger)
	var file, text bytes.Buffer
	what := tenant.ExecutionQuery{Tenant: acme}
	_, err := tenant.Export(t.Context(), db, &file, tenantparquet.Format(), what)
	require.NoError(t, err)
	_, err = tenant.Export(t.Context(), db, &text, tenant.CSV(), what)
	require.NoError(t, err)
	header, _, _ := bytes.Cut(text.Bytes(), []byte("\n"))
	columns, _ := cells(t, file.Bytes())
	require.Equal(t, string(header), string(bytes.Join(inBytes(columns), []byte(","))))

	f, err := parquet.OpenFile(bytes.NewReader(file.Bytes()), int64(file.Len()))
	require.NoError(t, err)
	cost := f.Schema().Fields()[slices.Index(columns, "cost")]
	require.True(t, cost.Optional())
	require.Equal(t, parquet.Int64, cost.Type().Kind())
	require.Equal(t, &format.DecimalType{Scale: 9, Precision: 18}, cost.Type().LogicalType().Value)
	admitted := f.Schema().Fields()[slices.Index(columns, "admitted_at")].Type().LogicalType().Value
	require.IsType(t, &format.TimestampType{}, admitted)
	require.True(t, admitted.(*format.TimestampType).IsAdjustedToUTC)
}

func inBytes(texts []string) [][]byte {
	out := make([][]byte, len(texts))
	for i, s := range texts {
		out[i] = []byte(s)
	}
	return out
}

// encoded has an encoder write rows of one column.
func encoded(t *testing.T, kind tenant.ExportKind, rows ...string) error {
	t.Helper()
	e, err := tenantparquet.Format().Encoder(&bytes.Buffer{}, []tenant.ExportColumn{{Name: "x", Kind: kind}}, false)
	require.NoError(t, err)
	for _, row := range rows {
		if err := e.Row([][]byte{[]byte(row)}); err != nil {
			return err
		}
	}
	return e.Close()
}

func TestFormat_SaysWhatItCannotWrite(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	book(t, ledger)
	require.NoError(t, encoded(t, tenant.ExportMoney, "999999999999999999", "-999999999999999999"))
	require.ErrorContains(t, encoded(t, tenant.ExportMoney, "1000000000000000000"), `the column "x" has an amount of 1000000000000000000 nano-dollars`)
	require.ErrorContains(t, encoded(t, tenant.ExportMoney, "-1000000000000000000"), "billion")
	require.ErrorContains(t, encoded(t, tenant.ExportInteger, "1.5"), `"1.5" where a number is due`)

	_, err := tenantparquet.Format().Encoder(&bytes.Buffer{}, []tenant.ExportColumn{{Name: "x", Kind: 99}}, false)
	require.ErrorContains(t, err, `"x" is of a kind that Parquet does not know`)
	var text bytes.Buffer
	cut, err := tenant.Export(t.Context(), db, &text, tenant.NDJSON(), tenant.ExecutionQuery{Tenant: acme})
	require.NoError(t, err)
	_, err = tenant.Export(t.Context(), db, &text, tenantparquet.Format(), tenant.ExecutionQuery{Tenant: acme}, tenant.WithExportAfter(cut.Cursor))
	require.ErrorContains(t, err, "begin it anew")
}

// Groups are handed over meanwhile, so that memory does not grow with the file.
func TestFormat_HandsOverGroupsOfRows(t *testing.T) {
	t.Parallel()
	var file bytes.Buffer
	e, err := tenantparquet.Format().Encoder(&file, []tenant.ExportColumn{{Name: "n", Kind: tenant.ExportInteger}}, false)
	require.NoError(t, err)
	const rows = 150_000
	before := 0
	for n := range rows {
		require.NoError(t, e.Row([][]byte{[]byte(strconv.Itoa(n))}))
		if n%5000 == 4999 {
			require.NoError(t, e.Flush())
		}
		if n == rows/2 {
			before = file.Len()
		}
	}
	require.Greater(t, before, 1000)
	require.NoError(t, e.Close())
	_, read := cells(t, file.Bytes())
	require.Len(t, read, rows)
	require.Equal(t, json.Number(strconv.Itoa(rows-1)), read[rows-1]["n"])
}

// A tag has whatever name a host gives it.
func TestFormat_HasColumnsOfAnyName(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	names := []string{"a,b", "x,snappy", `q"u\ote`, "-", "(1)", " ", "ünï", "a.b"}
	for _, name := range names {
		_, err := ledger.Record(t.Context(), acme, tenant.Actual{Cost: tenant.USD("0.5")}, tenant.WithTag(name, "of "+name))
		require.NoError(t, err)
	}
	for _, name := range names {
		var file bytes.Buffer
		_, err := tenant.Export(t.Context(), db, &file, tenantparquet.Format(), tenant.Query{
			Tenant: acme, Period: tenant.Today, By: []tenant.Group{tenant.ByTag(name), tenant.ByDay}, Top: 1, OrderBy: tenant.CallsMeasure,
		})
		require.NoError(t, err, name)
		columns, rows := cells(t, file.Bytes())
		require.Equal(t, []string{"tag:" + name, "day", "cost"}, columns[:3])
		require.Len(t, rows, 1)
		require.Contains(t, []string{"", "of " + name}, rows[0]["tag:"+name])
	}
}

// Whatever the number of rows, a group of them is in memory, and not what compresses it.
func TestFormat_KeepsLittleInMemory(t *testing.T) { //nolint:paralleltest // it looks at the heap of the whole process
	const rows, columns, most = 150_000, 40, 20 << 20
	of := make([]tenant.ExportColumn, columns)
	cells := make([][]byte, columns)
	for i := range of {
		of[i] = tenant.ExportColumn{Name: fmt.Sprint("c", i), Kind: tenant.ExportText}
	}
	inUse := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := inUse()
	encoder, err := tenantparquet.Format().Encoder(io.Discard, of, false)
	require.NoError(t, err)
	for n := range rows {
		for i := range cells {
			cells[i] = strconv.AppendInt(cells[i][:0], int64(n*(i+1)%65_537), 10)
		}
		require.NoError(t, encoder.Row(cells))
		require.NoError(t, encoder.Flush())
		if n%20_000 == 19_999 {
			require.Less(t, int64(inUse())-int64(before), int64(most), "%d rows", n+1)
		}
	}
	require.NoError(t, encoder.Close())
}
