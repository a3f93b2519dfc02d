package tenant_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/units"
)

// odd is texts that formats have trouble with.
var odd = []string{`a "quoted", one`, `back\slash`, `(in brackets)`, "=1+1", "+49 30", "-x", "@SUM(A1)", " =2", "＝3", "ünï", "", "'", "a,b", "{}", `\"`, "null", "NULL"}

// oddCalls are calls of a tenant that carry such texts.
func oddCalls(who string) (calls []tenant.ImportedCall) {
	for i, text := range odd {
		calls = append(calls, tenant.ImportedCall{
			ID: fmt.Sprint(text, i), Tenant: tenant.ID(who), At: time.Date(2026, 5, 1, 10, i, 0, 1000*i, time.UTC), Agent: text, Actor: text,
			Tags: map[string]string{"text": text, "lines": "a\u2028b"},
			Actual: tenant.Actual{
				Provider: "openai", Model: "m", RequestID: text, Cost: tenant.USD("0.000000001"), ReportedCost: tenant.USD("12.5"),
				Usage: tenant.Usage{Input: int64(i), Units: units.Of(units.Pages, int64(i))},
			},
		})
	}
	return calls
}

// read takes an export apart that has a header.
func readCSV(t testing.TB, text string) []map[string]string {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	require.NoError(t, err)
	var out []map[string]string
	for _, row := range rows[1:] {
		named := map[string]string{}
		for i, name := range rows[0] {
			named[name] = row[i]
		}
		out = append(out, named)
	}
	return out
}

func readNDJSON(t testing.TB, text string) (out []map[string]any) {
	t.Helper()
	for line := range strings.Lines(text) {
		var row map[string]any
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		require.NoError(t, d.Decode(&row))
		out = append(out, row)
	}
	return out
}

func TestExport_HasEveryColumnOfEveryExecutionAsItIs(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		_, err := ledger.Import(t.Context(), "s", each(oddCalls("acme")...))
		require.NoError(t, err)
		hold, err := ledger.Reserve(t.Context(), acme, tenant.Estimate{Model: "m", Cost: tenant.USD("1")})
		require.NoError(t, err)
		defer func() { _, _ = ledger.Release(context.Background(), hold) }()
		_, err = ledger.Credit(t.Context(), acme, tenant.USD("2.5"), "=cmd|'/c calc'!A1")
		require.NoError(t, err)

		q := tenant.ExecutionQuery{Tenant: acme, Ascending: true}
		var text, lines bytes.Buffer
		report, err := tenant.Export(t.Context(), db, &text, tenant.CSV(), q)
		require.NoError(t, err)
		require.EqualValues(t, len(odd)+1, report.Rows, "what runs is not there")
		require.EqualValues(t, text.Len(), report.Bytes)
		_, err = tenant.Export(t.Context(), db, &lines, tenant.NDJSON(), q)
		require.NoError(t, err)

		rows, objects := readCSV(t, text.String()), readNDJSON(t, lines.String())
		var executions []tenant.Execution
		for e, err := range tenant.ListExecutions(t.Context(), db, q) {
			require.NoError(t, err)
			if e.Status != "running" {
				executions = append(executions, e)
			}
		}
		require.Len(t, rows, len(executions))
		require.Len(t, objects, len(executions))
		safe := func(s string) string {
			if s != "" && strings.ContainsAny(s[:1], "=+-@") || s == " =2" || s == "＝3" {
				return "'" + s
			}
			return s
		}
		for i := range executions {
			e, row, object := &executions[i], rows[i], objects[i]
			for name, want := range map[string]string{
				"id": e.ID, "tenant_id": "acme", "status": e.Status, "agent": e.Agent, "actor": e.Actor, "request_id": e.RequestID, "reason": e.Reason,
				"provider": e.Provider, "model": e.Model, "billed_model": e.BilledModel,
			} {
				require.Equal(t, safe(want), row[name], name)
				require.Equal(t, want, object[name], name)
			}
			require.Equal(t, e.Cost().StringFixed(9), row["cost"])
			require.Equal(t, e.Cost().StringFixed(9), object["cost"])
			require.Equal(t, e.AdmittedAt.UTC().Format("2006-01-02T15:04:05.000000Z"), row["admitted_at"])
			require.Equal(t, row["admitted_at"], object["admitted_at"])
			require.Equal(t, fmt.Sprint(e.Usage.Input), row["input_tokens"])
			require.Equal(t, json.Number(fmt.Sprint(e.Usage.Input)), object["input_tokens"])
			require.Equal(t, "false", row["unpriced"])
			require.Equal(t, false, object["unpriced"])
			if e.Status == "adjusted" {
				require.Equal(t, "-2.500000000", row["charge"], "a figure is no formula")
				require.Nil(t, object["tags"])
				require.Nil(t, object["reported_cost"])
				require.Empty(t, row["reported_cost"])
				continue
			}
			require.Equal(t, "12.500000000", row["reported_cost"])
			require.Equal(t, map[string]any{"text": e.Agent, "lines": "a\u2028b"}, object["tags"])
			var tags map[string]string
			require.NoError(t, json.Unmarshal([]byte(row["tags"]), &tags))
			require.Equal(t, e.Tags, tags)
		}
		// No column of the table is forgotten.
		var columns []string
		types, err := db.Migrator().ColumnTypes("llm_executions")
		require.NoError(t, err)
		for _, c := range types {
			if name := c.Name(); name != "tenant" && name != "parents" && name != "process" {
				columns = append(columns, name)
			}
		}
		var exported []string
		for name := range rows[0] {
			exported = append(exported, name)
		}
		require.ElementsMatch(t, columns, exported)
	})
}

// full takes so many bytes, and then no more.
type full struct {
	bytes.Buffer
	room int
}

func (f *full) Write(p []byte) (int, error) {
	n := min(len(p), f.room-f.Len())
	_, _ = f.Buffer.Write(p[:n])
	if n < len(p) {
		return n, errors.New("no space left")
	}
	return n, nil
}

func TestExport_GoesOnWhereItWasCutOff(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		place(t, db, "company", "", "")
		place(t, db, "acme", "company", "")
		_, err := ledger.Import(t.Context(), "s", each(ago(12_000, "acme", "globex", "company")...))
		require.NoError(t, err)
		for name, q := range map[string]tenant.ExecutionQuery{
			"of one": {Tenant: acme}, "oldest first": {Tenant: acme, Ascending: true}, "of everybody": {Everybody: true, Ascending: true},
			"with those below": {Tenant: tenant.ID("company"), Descendants: true}, "with conditions": {Everybody: true, Agents: []string{"support"}, MinCost: tenant.USD("0.000001")},
		} {
			var whole bytes.Buffer
			all, err := tenant.Export(t.Context(), db, &whole, tenant.NDJSON(), q)
			require.NoError(t, err, name)
			require.Equal(t, map[bool]int64{false: 12_000, true: 4_000}[!q.Everybody && !q.Descendants]-map[bool]int64{true: 4000}[q.Descendants], all.Rows, name)
			seen := map[string]bool{}
			for _, row := range readNDJSON(t, whole.String()) {
				id := row["id"].(string)
				require.False(t, seen[id], "%s: %s is there twice", name, id)
				seen[id] = true
			}

			cut := &full{room: whole.Len() * 2 / 3}
			part, err := tenant.Export(t.Context(), db, cut, tenant.NDJSON(), q)
			require.ErrorContains(t, err, "no space left")
			require.NotEmpty(t, part.Cursor+name)
			var file bytes.Buffer
			file.Write(cut.Bytes()[:part.Bytes])
			options := []tenant.ExportOption{tenant.WithExportProgress(func(tenant.ExportReport) {})}
			if part.Cursor != "" {
				options = append(options, tenant.WithExportAfter(part.Cursor))
			}
			rest, err := tenant.Export(t.Context(), db, &file, tenant.NDJSON(), q, options...)
			require.NoError(t, err)
			if q.Everybody { // whose order is not certain
				require.ElementsMatch(t, slices.Collect(strings.Lines(whole.String())), slices.Collect(strings.Lines(file.String())), name)
			} else {
				require.Equal(t, whole.String(), file.String(), name)
			}
			require.Equal(t, all.Rows, part.Rows+rest.Rows)
			none, err := tenant.Export(t.Context(), db, io.Discard, tenant.CSV(), q, tenant.WithExportAfter(rest.Cursor))
			require.NoError(t, err)
			require.Zero(t, none.Bytes, "nothing is left, and no header is written")
		}
	})
}

func TestExport_OfAQueryHasItsRows(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		_, err := ledger.Import(t.Context(), "s", each(ago(100, "acme", "globex")...))
		require.NoError(t, err)
		q := tenant.Query{Everybody: true, Period: tenant.Between(time.Now().AddDate(0, 0, -2), time.Now().AddDate(0, 0, 1)), By: []tenant.Group{tenant.ByTenant, tenant.ByAskedModel}, Compare: true}
		answer, err := tenant.QueryUsage(t.Context(), db, q)
		require.NoError(t, err)
		var text bytes.Buffer
		report, err := tenant.Export(t.Context(), db, &text, tenant.CSV(), q)
		require.NoError(t, err)
		rows := readCSV(t, text.String())
		require.Len(t, rows, len(answer.Rows))
		require.EqualValues(t, len(rows), report.Rows)
		for i, r := range answer.Rows {
			require.Equal(t, []string{rows[i]["tenant"], rows[i]["asked_model"]}, r.Keys)
			require.Equal(t, string(r.Tenant), rows[i]["tenant_uuid"])
			require.Equal(t, r.Cost.StringFixed(9), rows[i]["cost"])
			require.Equal(t, fmt.Sprint(r.Calls), rows[i]["calls"])
			require.Equal(t, "0.000000000", rows[i]["before_cost"])
			cost, err := decimal.NewFromString(rows[i]["margin"])
			require.NoError(t, err)
			require.True(t, r.Margin.Equal(cost))
		}
	})
}

func TestExport_NamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		_, err := ledger.Import(t.Context(), "s", each(ago(2, "acme", "globex")...))
		require.NoError(t, err)
		of := tenant.ExecutionQuery{Tenant: acme}
		done, err := tenant.Export(t.Context(), db, io.Discard, tenant.CSV(), of)
		require.NoError(t, err)
		export := func(w io.Writer, f tenant.ExportFormat, what tenant.Exportable, options ...tenant.ExportOption) func() error {
			return func() error {
				_, err := tenant.Export(t.Context(), db, w, f, what, options...)
				return err
			}
		}
		for want, ask := range map[string]func() error{
			"the writer is nil":                   export(nil, tenant.CSV(), of),
			"the format is nil":                   export(io.Discard, nil, of),
			"there is nothing to export":          export(io.Discard, tenant.CSV(), nil),
			"executions are exported by time":     export(io.Discard, tenant.CSV(), tenant.ExecutionQuery{ByCost: true}),
			"ExecutionQuery.After":                export(io.Discard, tenant.CSV(), tenant.ExecutionQuery{After: "x"}),
			"what is running is not":              export(io.Discard, tenant.CSV(), tenant.ExecutionQuery{Statuses: []string{"running"}}),
			"ExecutionQuery.MinCost":              export(io.Discard, tenant.CSV(), tenant.ExecutionQuery{MinCost: tenant.USD("x")}),
			"Query.Period is nil":                 export(io.Discard, tenant.CSV(), tenant.Query{}),
			"the cursor is empty":                 export(io.Discard, tenant.CSV(), of, tenant.WithExportAfter("")),
			"\"nonsense\" is no cursor":           export(io.Discard, tenant.CSV(), of, tenant.WithExportAfter("nonsense")),
			"is no cursor of an export in this":   export(io.Discard, tenant.CSV(), tenant.ExecutionQuery{Tenant: acme, Ascending: true}, tenant.WithExportAfter(done.Cursor)),
			"is the cursor of another tenant's":   export(io.Discard, tenant.CSV(), tenant.ExecutionQuery{Tenant: tenant.ID("globex")}, tenant.WithExportAfter(done.Cursor)),
			"a Query is answered at once":         export(io.Discard, tenant.CSV(), tenant.Query{Period: tenant.Today}, tenant.WithExportAfter(done.Cursor)),
			"WithExportProgress: the function is": export(io.Discard, tenant.CSV(), of, tenant.WithExportProgress(nil)),
		} {
			err := ask()
			require.ErrorIs(t, err, tenant.ErrInvalidOption, want)
			require.ErrorContains(t, err, want)
		}
	})
}

// largest remembers the largest piece that it was given, and how many there were.
type largest struct{ bytes, pieces int }

func (l *largest) Write(p []byte) (int, error) {
	l.bytes, l.pieces = max(l.bytes, len(p)), l.pieces+1
	return len(p), nil
}

func TestExport_KeepsLittleInMemory(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		_, err := ledger.Import(t.Context(), "s", each(ago(12_000, "acme")...))
		require.NoError(t, err)
		for _, format := range []tenant.ExportFormat{tenant.CSV(), tenant.NDJSON()} {
			var w largest
			var last int64
			_, err = tenant.Export(t.Context(), db, &w, format, tenant.ExecutionQuery{Tenant: acme}, tenant.WithExportProgress(func(r tenant.ExportReport) {
				require.LessOrEqual(t, r.Rows-last, int64(5000))
				last = r.Rows
			}))
			require.NoError(t, err)
			require.EqualValues(t, 12_000, last)
			require.Less(t, w.bytes, 128<<10)
			require.Greater(t, w.pieces, 20)
		}
	})
}

func ExampleExport() {
	db, ledger, end := openBooks()
	defer end()
	ctx := context.Background()
	for _, call := range []tenant.Actual{
		{Provider: "openai", Model: "gpt-5", Cost: tenant.USD("0.0125"), Usage: tenant.Usage{Input: 1000, Output: 200}},
		{Provider: "openai", Model: "gpt-5-mini", Cost: tenant.USD("0.0005"), Usage: tenant.Usage{Input: 100, Output: 20}},
	} {
		if _, err := ledger.Record(ctx, tenant.ID("acme"), call); err != nil {
			fmt.Println(err)
		}
	}
	file, err := os.CreateTemp("", "executions")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.Remove(file.Name()) }()
	report, err := tenant.Export(ctx, db, file, tenant.CSV(), tenant.ExecutionQuery{Tenant: tenant.ID("acme"), Period: tenant.ThisMonth})
	fmt.Println(report.Rows, "executions", err)

	// Output:
	// 2 executions <nil>
}
