package main_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
)

func TestExport_WritesEveryCallOnceAndExactly(t *testing.T) {
	t.Parallel()
	filled(t, func(t *testing.T, b *books) {
		r := run(t, b.env, "export", "--period", "2026-03")
		require.Equal(t, 0, r.code, r.problems)
		require.Contains(t, r.problems, "30 rows were exported.\n")
		lines, err := csv.NewReader(strings.NewReader(r.out)).ReadAll()
		require.NoError(t, err)
		require.Len(t, lines, 31)
		require.Contains(t, r.out, "0.001000001")
		require.Empty(t, run(t, b.env, "export", "-q", "--period", "2026-03").problems)
		require.Equal(t, 20, strings.Count(b.ok("export", "acme", "--descendants", "--period", "all", "--format", "ndjson"), "\n"))
		require.Equal(t, 10, strings.Count(b.ok("export", "acme", "--period", "all", "--format", "ndjson"), "\n"))
		require.Equal(t, 15, strings.Count(b.ok("export", "--period", "all", "--format", "ndjson", "--agent", "chat", "--tag", "feature=f0"), "\n"))
		require.Empty(t, b.ok("export", "--no-tenant", "--period", "all", "--format", "ndjson"))

		file := filepath.Join(t.TempDir(), "calls.csv")
		var report tenant.ExportReport
		require.NoError(t, json.Unmarshal([]byte(b.ok("export", "--period", "2026-03", "-o", file, "--json")), &report))
		require.EqualValues(t, 30, report.Rows)
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, r.out, string(content))
		require.Contains(t, b.fails(2, "export", "--period", "2026-03", "-o", file), "is there already; to go on with it, give --after")
		require.Contains(t, b.fails(2, "export", "--period", "2026-03", "-o", filepath.Join(file, "x")), "--output")
		require.Contains(t, b.fails(2, "export", "--period", "2026-03", "--json"), "give --output FILE")
		require.Contains(t, b.fails(2, "export", "--after", "nonsense", "--period", "all"), "is no cursor")
		require.Contains(t, b.fails(2, "export", "--status", "running"), `"running" is none of`)
		require.Contains(t, b.fails(2, "export", "--format", "xml"), "xml")
		b.fails(4, "export", "nobody")
	})
}

var goOn = regexp.MustCompile(`--after (\S+)`)

// The command is interrupted while it writes into a pipe that nobody reads.
func TestExport_ThatIsInterruptedEndsAtAWholeLineAndGoesOn(t *testing.T) {
	t.Parallel()
	const calls = 8000 // so that there is a second page
	each(t, func(t *testing.T, b *books) {
		b.fill(calls)
		args := []string{"export", "acme", "--descendants", "--period", "all", "--format", "ndjson"}
		all := b.ok(args...)
		r := command(t, b.env, args...)
		r.Stdout = nil
		out, err := r.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, r.Start())
		first := make([]byte, 1)
		_, err = io.ReadFull(out, first)
		require.NoError(t, err)
		require.NoError(t, r.Process.Signal(syscall.SIGINT))
		rest, err := io.ReadAll(out)
		require.NoError(t, err)
		require.Error(t, r.Wait())
		require.Equal(t, 130, r.ProcessState.ExitCode(), r.problems)
		part := string(first) + string(rest)
		require.Less(t, len(part), len(all))
		require.True(t, strings.HasPrefix(all, part), "it is the beginning")
		require.True(t, strings.HasSuffix(part, "}\n"))
		cursor := goOn.FindStringSubmatch(r.problems.String())
		require.NotNil(t, cursor, r.problems.String())
		require.Contains(t, r.problems.String(), fmt.Sprint(strings.Count(part, "\n"), " rows were exported"))
		require.Equal(t, all, part+b.ok(append(args, "--after", cursor[1])...))

		t.Run("whose reader has gone ends quietly", func(t *testing.T) { leave(t, b) })
	})
}

// leave reads the beginning of what commands print, and goes.
func leave(t *testing.T, b *books) {
	for _, args := range [][]string{
		{"export", "--period", "all", "-q"}, {"usage", "--period", "2026-01-01..2026-12-31", "--by", "hour,tenant", "--json"},
	} {
		r := command(t, b.env, args...)
		r.Stdout = nil
		out, err := r.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, r.Start())
		_, err = io.ReadFull(out, make([]byte, 100))
		require.NoError(t, err)
		require.NoError(t, out.Close())
		require.Error(t, r.Wait())
		require.Equal(t, 141, r.ProcessState.ExitCode(), "%v: %s", args, r.problems)
		require.Empty(t, r.problems.String())
	}
}

// What one database exports, another imports: every total is the same, and a second time nothing is booked.
func TestImport_OfAnExportBooksTheSame(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"ndjson", "csv"} {
		filled(t, func(t *testing.T, b *books) {
			_, err := b.Credit(t.Context(), tenant.ID("acme"), tenant.USD("1"), "outage")
			require.NoError(t, err)
			file := filepath.Join(t.TempDir(), "calls")
			b.ok("export", "--period", "all", "--format", format, "-o", file)
			other := open(t, "sqlite", true)
			args := []string{"import", file, "--source", "old", "--format", format, "--create"}
			require.Equal(t, "30 would be booked, 0 of them without a price; 0 there already; 1 adjustments left out.\n", other.writesNothing(append(args, "--dry-run")...))
			require.Equal(t, "30 booked, 0 of them without a price; 0 there already; 1 adjustments left out.\n", other.ok(args...))
			require.Equal(t, "0 booked, 0 of them without a price; 30 there already; 1 adjustments left out.\n", other.ok(args...))
			by := []string{"usage", "--period", "2026-03", "--by", "tenant,agent"}
			require.Equal(t, b.ok(by...), other.ok(by...))
			by[4] = "tag:feature,day"
			require.Equal(t, b.ok(by...), other.ok(by...))
			require.Contains(t, other.ok("verify"), "agree")
		})
	}
}

func TestImport_NamesTheLineThatIsWrong(t *testing.T) {
	t.Parallel()
	b := open(t, "sqlite", true)
	b.fill(0)
	good := `{"id":"%d","tenant_id":"acme","admitted_at":"2026-03-08T10:00:00Z","provider":"openai","model":"gpt-4.1-mini","input_tokens":1000,"cost":"0.5","charge":"0.75","tags":{"a":"b"}}` + "\n"
	imports := func(content string, args ...string) result {
		r := command(t, b.env, append([]string{"import", "-", "--source", "s"}, args...)...)
		r.Stdin = strings.NewReader(content)
		require.NoError(t, r.Start())
		return ended(t, r)
	}
	for i, c := range []struct{ line, says string }{
		{`nonsense`, "it is no JSON object"},
		{`[1]`, "it is no JSON object"},
		{`{"id":"x","tenant_id":"acme"}`, "admitted_at is missing"},
		{`{"id":"x","tenant_id":"acme","admitted_at":"yesterday"}`, `admitted_at: "yesterday" cannot be read`},
		{`{"id":"x","tenant_id":"acme","admitted_at":"2026-03-08T10:00:00Z","charge":"1","colour":"red"}`, `no column "colour"`},
		{`{"id":"x","tenant_id":"acme","admitted_at":"2026-03-08T10:00:00Z","charge":"1","cost":"1e-12"}`, "cost: "},
		{`{"id":"x","tenant_id":"acme","admitted_at":"2026-03-08T10:00:00Z","charge":"-1"}`, "charge: "},
		{`{"id":"x","tenant_id":"acme","admitted_at":"2026-03-08T10:00:00Z","charge":"1","input_tokens":1.5}`, `input_tokens: "1.5" cannot be read`},
		{`{"id":"x","tenant_id":"acme","admitted_at":"2026-03-08T10:00:00Z","charge":"1","input_tokens":-3}`, "cannot be the usage"},
		{`{"tenant_id":"acme","admitted_at":"2026-03-08T10:00:00Z","charge":"1","model":"m"}`, "the ID is empty"},
		{`{"id":"x","tenant_id":"acme","admitted_at":"2126-03-08T10:00:00Z","charge":"1","model":"m"}`, "to come"},
		{`{"id":"x","tenant_id":"acme","admitted_at":"2026-03-08T10:00:00Z","model":"m","cost":"1"}`, "give --terms FILE, or --no-terms"},
		{strings.Repeat("x", 1<<21), "too long"},
	} {
		r := imports(fmt.Sprintf(good, 2*i) + fmt.Sprintf(good, 2*i+1) + c.line + "\n")
		require.NotEqual(t, 0, r.code, c.line)
		require.Contains(t, r.problems, c.says)
		require.Contains(t, r.problems, "line 3")
		require.Contains(t, r.out, "2 booked", c.says)
	}
	require.Contains(t, imports(strings.ReplaceAll(fmt.Sprintf(good, 0), "acme", "acne")).problems, `did you mean "acme"?`)
	require.Equal(t, 4, imports(strings.ReplaceAll(fmt.Sprintf(good, 0), "acme", "acne")).code)
	require.Contains(t, imports(fmt.Sprintf(good, 900)+strings.ReplaceAll(fmt.Sprintf(good, 901), `,"charge":"0.75"`, ""), "--no-terms").out, "2 booked")
	terms := filepath.Join(t.TempDir(), "terms.json")
	require.NoError(t, os.WriteFile(terms, []byte(`{"acme": {"Factor": "+20%"}}`), 0o600))
	require.Contains(t, imports(strings.ReplaceAll(fmt.Sprintf(good, 902), `,"cost":"0.5","charge":"0.75"`, ""), "--terms", terms).out, "1 booked")
	var e tenant.Execution
	require.NoError(t, tenant.Executions(t.Context(), b.db, tenant.ID("acme")).Where("idempotency_key = 'import:s:902'").Take(&e).Error)
	require.Equal(t, []string{"0.0004", "0.00048"}, []string{e.Cost().String(), e.Charge().String()})

	require.Contains(t, b.fails(2, "import", "-"), "--source")
	require.Contains(t, b.fails(2, "import", "-", "--source", "a:b"), "colon")
	require.Contains(t, b.fails(2, "import", "/no/such/file", "--source", "s"), "no such file")
	require.NoError(t, os.WriteFile(terms, []byte(`{"acme": {"Faktor": "1.2"}}`), 0o600))
	require.Contains(t, b.fails(2, "import", "-", "--source", "s", "--terms", terms), "Faktor")
	require.Contains(t, b.fails(2, "import", "-", "--source", "s", "--terms", terms, "--no-terms"), "give one")
}

// What was read before the interrupt is booked, and the next run books the rest.
func TestImport_ThatIsInterruptedIsRunAgain(t *testing.T) {
	t.Parallel()
	filled(t, func(t *testing.T, b *books) {
		var all bytes.Buffer
		for i := range 3000 {
			fmt.Fprintf(&all, `{"id":"%d","tenant_id":"acme","admitted_at":"2026-03-08T10:00:00Z","model":"m","cost":"0.001","charge":"0.001"}`+"\n", i)
		}
		r := command(t, b.env, "import", "-", "--source", "s")
		in, err := r.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, r.Start())
		_, err = in.Write(all.Bytes()) // more than a pipe holds, so that it reads by now
		require.NoError(t, err)
		require.NoError(t, r.Process.Signal(syscall.SIGINT))
		require.Error(t, r.Wait(), "although more could come")
		require.Equal(t, 130, r.ProcessState.ExitCode(), r.problems)
		require.Contains(t, r.problems.String(), "run the same again")
		file := filepath.Join(t.TempDir(), "calls")
		require.NoError(t, os.WriteFile(file, all.Bytes(), 0o600))
		b.ok("import", file, "--source", "s")
		require.Contains(t, b.ok("import", file, "--source", "s"), "0 booked, 0 of them without a price; 3000 there already")
		require.Contains(t, b.ok("verify"), "agree")
	})
}
