package main_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/pricing"
)

// file writes a file of the test's own.
func file(t testing.TB, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file.json")
	require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
	return name
}

const dearer = `[{"provider":"openai","model":"gpt-4.1-mini","input":"0.5","cache_read":"0.1","output":"1.6","web_search":"0.01"},
	{"provider":"openai","model":"house-model","input":"7","output":"8"}]`

func TestPrices_AreShownAndCompared(t *testing.T) {
	t.Parallel()
	out := run(t, nil, "prices", "show", "gpt-4.1-mini", "--provider", "openai")
	require.Equal(t, 0, out.code, out.problems)
	require.Contains(t, out.out, "the book is of "+pricing.Default().AsOf().Format(time.DateOnly))
	require.Regexp(t, `(?m)^openai +gpt-4\.1-mini +0\.4 +0\.1 +1\.6 `, out.out)
	list := file(t, dearer)
	require.Contains(t, run(t, nil, "prices", "show", "house-model", "--prices", list).out, "house-model")
	var row pricing.Row
	require.NoError(t, json.Unmarshal([]byte(run(t, nil, "prices", "show", "house-model", "--prices", list, "--json").out), &row))
	require.Equal(t, "7", row.Input)
	require.Contains(t, run(t, nil, "prices", "show", "nothing-of-this-name").out, "no such price")

	out = run(t, nil, "prices", "diff", list)
	require.Equal(t, 0, out.code, out.problems)
	require.Regexp(t, `(?m)^openai +gpt-4\.1-mini +input +0\.40 +0\.50$`, out.out)
	require.Contains(t, out.out, "1 models are new; --new shows them.")
	require.Equal(t, 3, strings.Count(out.out, "\n"))
	require.Regexp(t, `(?m)^openai +house-model +input +none +7\.00$`, run(t, nil, "prices", "diff", list, "--new").out)
	require.Contains(t, run(t, nil, "prices", "diff", list, "--prices", list).out, "The list changes no price.")

	for _, c := range []struct {
		content, says string
	}{{`{`, "file.json"}, {`[{"provider":"openai","model":"m","input":"-1","output":"1"}]`, "file.json"}, {`[{"provider":"openai","modell":"m"}]`, "file.json"}, {`{"openai": 3}`, "file.json"}} {
		for _, args := range [][]string{{"prices", "diff", file(t, c.content)}, {"prices", "show", "--prices", file(t, c.content)}} {
			r := run(t, nil, args...)
			require.Equal(t, 2, r.code, "%s: %s", c.content, r.out)
			require.Contains(t, r.problems, c.says)
		}
	}
	require.Equal(t, 2, run(t, nil, "prices", "diff", "/no/such/file").code)
	require.Equal(t, 2, run(t, nil, "prices", "diff").code)
	require.Equal(t, 2, run(t, nil, "prices").code)
}

func TestPricesCheck_FindsModelsWithoutAPrice(t *testing.T) {
	t.Parallel()
	filled(t, func(t *testing.T, b *books) {
		require.Contains(t, b.ok("prices", "check"), "no calls")
		use := func(model string) {
			_, err := b.Record(t.Context(), tenant.ID("acme"), tenant.Actual{Provider: "openai", Model: model, Usage: tenant.Usage{Input: 1_000_000}})
			require.NoError(t, err)
		}
		use("gpt-4.1-mini")
		require.Regexp(t, `(?m)^openai +gpt-4\.1-mini +openai/gpt-4\.1-mini +1 +0 +0\.40$`, b.ok("prices", "check"))
		use("house-model")
		r := run(t, b.env, "prices", "check")
		require.Equal(t, 3, r.code)
		require.Regexp(t, `(?m)^openai +house-model +no price +1 +1 +0\.00$`, r.out)
		require.Equal(t, "tenant: differences were found: models without a price, or with calls without one: 1\n", r.problems)
		require.Equal(t, 3, run(t, b.env, "prices", "check", "--json", "--prices", file(t, dearer)).code, "the call was booked without one all the same")
		require.Regexp(t, `(?m)^openai +gpt-4\.1-mini +input +0\.40 +0\.50 +0\.40 +0\.50$`, b.ok("prices", "diff", file(t, dearer), "--used", "2"))
		b.fails(2, "prices", "check", "--days", "0")
		b.fails(2, "prices", "diff", file(t, dearer), "--used=-1")
	})
}

func TestReprice_BooksTheDifferenceOnce(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *books) {
		b.fill(0)
		for i := range 3 {
			_, err := b.Record(t.Context(), tenant.ID("acme"), tenant.Actual{Provider: "openai", Model: "gpt-4.1-mini", Usage: tenant.Usage{Input: 1000 + int64(i)}})
			require.NoError(t, err)
		}
		args := []string{"reprice", "--from", "2026-01-01", "--to", "2126-01-01", "--reason", "wrong list", "--prices", file(t, dearer), "--no-terms"}
		out := b.writesNothing(append(args, "--dry-run")...)
		require.Regexp(t, `(?m)^acme +openai +gpt-4\.1-mini +3 +3 +0 +0\.0012012 +0\.0015015 +0\.0012012 +0\.0015015$`, out)
		require.Contains(t, out, "Nothing was written.")
		var r struct{ Corrected int64 }
		require.NoError(t, json.Unmarshal([]byte(b.ok(append(args, "--json", "--tenant", "acme", "--model", "gpt-4.1-mini")...)), &r))
		require.EqualValues(t, 3, r.Corrected)
		require.Regexp(t, `(?m)^All +3 +0 +0 `, b.ok(args...))
		require.Regexp(t, `(?m)^0\.0015015 `, b.ok("usage", "acme", "--period", "all"))
		require.Contains(t, b.ok("verify"), "agree")
		terms := file(t, `{"acme": {"Factor": "2"}}`)
		args[len(args)-1] = "--terms=" + terms
		require.Regexp(t, `(?m)^All +3 +3 +0 +0\.0015015 +0\.0015015 +0\.0015015 +0\.003003$`, b.ok(args...))
		for _, c := range []struct{ args, says string }{
			{"--from 2026-01-01 --to 2026-02-01 --reason x", "give --terms FILE, or --no-terms"},
			{"--from 2026-01-01 --to 2026-02-01 --no-terms", "--reason"},
			{"--from 2026-01-01 --reason x --no-terms", "--to"},
			{"--from soon --to 2026-02-01 --reason x --no-terms", `--from: "soon" is neither`},
			{"--from 2026-03-01 --to 2026-02-01 --reason x --no-terms", "is not before"},
			{"--from 2026-01-01 --to 2026-02-01 --reason x --no-terms --prices /no/such", "no such file"},
		} {
			require.Contains(t, b.fails(2, append([]string{"reprice"}, strings.Fields(c.args)...)...), c.says, c.args)
		}
		b.fails(4, "reprice", "--from", "2026-01-01", "--to", "2026-02-01", "--reason", "x", "--no-terms", "--tenant", "nobody")
	})
}

func TestExport_OfFOCUSAddsUpToTheCost(t *testing.T) {
	t.Parallel()
	filled(t, func(t *testing.T, b *books) {
		r := run(t, b.env, "export", "--format", "focus", "--account-id", "org-4711", "--period", "2026-03", "-q")
		require.Equal(t, 0, r.code, r.problems)
		lines, err := csv.NewReader(strings.NewReader(r.out)).ReadAll()
		require.NoError(t, err)
		sum := decimal.Zero
		for i, name := range lines[0] {
			if name == "EffectiveCost" {
				for _, l := range lines[1:] {
					d, err := decimal.NewFromString(l[i])
					require.NoError(t, err)
					sum = sum.Add(d)
				}
			}
		}
		require.Equal(t, "0.03000003", sum.String())
		require.Contains(t, b.fails(2, "export", "--format", "focus"), "--account-id is missing")
		require.Contains(t, b.fails(2, "export", "--account-id", "x"), "for --format focus")
		require.Contains(t, b.fails(2, "export", "--format", "focus", "--account-id", "x", "--agent", "chat"), "all calls of the period")
	})
}

func TestBackfill_GivesTheRecordsOfATableTheirBudgets(t *testing.T) {
	t.Parallel()
	filled(t, func(t *testing.T, b *books) {
		kinds := map[bool][2]string{false: {"bigserial", "timestamptz"}, true: {"integer", "datetime"}}[strings.HasPrefix(b.url, "sqlite")]
		require.NoError(t, b.db.Exec(`CREATE TABLE companies (id `+kinds[0]+` PRIMARY KEY, slug text, name text, deleted_at `+kinds[1]+`)`).Error)
		for i, slug := range []string{"acme", "globex", "initech", "", "hooli"} {
			require.NoError(t, b.db.Exec(`INSERT INTO companies (id, slug, name) VALUES (?, ?, ?)`, i+1, slug, "The "+slug).Error)
		}
		args := []string{"backfill", "--table", "companies", "--key-column", "slug", "--limits", `{"DailyCost": "5"}`, "--enforcement", "hard", "--batch", "2"}
		out := b.writesNothing(append(args, "--dry-run")...)
		for _, line := range []string{"Records      5\n", "Made         3\n", "Linked       1 that", "Skipped      1\n", "4       invalid tenant: the tenant id is empty\n", "Nothing was written."} {
			require.Contains(t, out, line)
		}
		require.Contains(t, b.ok(args...), "Made         3\n")
		require.Contains(t, b.ok(args...), "Made         0\n")
		shown := b.ok("show", "globex")
		require.Contains(t, shown, "Record       companies 2\n")
		require.Contains(t, shown, "Name         The globex\n")
		require.Regexp(t, `(?m)^globex +day cost +tenant +5\.00 `, shown)
		require.Regexp(t, `(?m)^0\.01000001 `, b.ok("usage", "acme", "--period", "all"), "what it has spent is kept")
		require.NoError(t, b.db.Exec(`UPDATE companies SET deleted_at = CURRENT_TIMESTAMP WHERE slug = 'hooli'`).Error)
		require.Contains(t, b.ok(args...), "Updated      1\n")
		require.Contains(t, b.fails(4, "show", "hooli"), "was deleted")

		// The program that declares the model finds the same.
		type Company struct {
			ID        uint
			Slug      string
			Name      string
			DeletedAt gorm.DeletedAt
		}
		require.NoError(t, b.Register(&Company{}, tenant.WithKey("Slug"), tenant.WithBudget()))
		report, err := b.Backfill(t.Context(), &Company{})
		require.NoError(t, err)
		require.Zero(t, report.Made+report.Linked)

		require.NoError(t, b.db.Exec(`DELETE FROM companies WHERE slug = 'globex'`).Error)
		require.Contains(t, b.ok(args...), "Without a record  1, left; --remove-orphans removes them")
		require.Contains(t, b.ok(append(args, "--remove-orphans")...), "Without a record  1, removed")
		b.fails(4, "show", "globex")
		for _, c := range []struct{ args, says string }{
			{"--key-column slug", "--table"}, {"--table companies", "--key-column"},
			{"--table nothing --key-column slug", `there is no table "nothing"`},
			{"--table companies --key-column colour", `no column "colour"; it has id, slug, name, deleted_at`},
			{"--table companies --key-column slug --name-column colour", "--name-column"},
			{"--table companies --key-column slug --id-column colour", "--id-column"},
			{"--table companies --key-column slug --limits {}x", "--limits"},
			{`--table companies --key-column slug --limits {"DailyCots":"5"}`, "DailyCots"},
			{"--table companies --key-column slug --batch 0", "0 is not between 1 and 500"},
			{"--table companies --key-column slug --resume nonsense", "WithResume"},
			{`--table companies"; --key-column slug`, "is no name of a table"},
			{"--table companies --key-column slug --namespace a:b", "namespace"},
		} {
			require.Contains(t, strings.ToLower(b.fails(2, append([]string{"backfill"}, strings.Fields(c.args)...)...)), strings.ToLower(c.says), c.args)
		}
	})
}

func TestBackfill_ThatIsInterruptedGoesOn(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *books) {
		require.NoError(t, b.db.Exec(`CREATE TABLE teams (code varchar(20) PRIMARY KEY)`).Error)
		const teams = 400
		for i := range teams {
			require.NoError(t, b.db.Exec(`INSERT INTO teams VALUES (?)`, fmt.Sprintf("team-%03d", i)).Error)
		}
		args := []string{"backfill", "--table", "teams", "--key-column", "code", "--id-column", "code", "--batch", "1"}
		r := start(t, b.env, args...)
		made := func() (n int64) {
			require.NoError(t, b.db.Raw(`SELECT count(*) FROM llm_tenants WHERE owner_type = 'teams'`).Scan(&n).Error)
			return n
		}
		require.Eventually(t, func() bool { return made() > 0 }, patience, tick)
		require.NoError(t, r.Process.Signal(os.Interrupt))
		ended := ended(t, r)
		require.Equal(t, 130, ended.code, ended.problems)
		_, resume, found := strings.Cut(ended.problems, "--resume '")
		require.True(t, found, ended.problems)
		resume, _, _ = strings.Cut(resume, "'")
		require.Less(t, made(), int64(teams))
		b.ok(append(args[:len(args)-2], "--resume", resume)...)
		require.EqualValues(t, teams, made())
	})
}
