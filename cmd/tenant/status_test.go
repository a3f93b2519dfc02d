package main_test

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
)

func TestMigrate_MakesTheTablesOnce(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"postgres", "sqlite"} {
		b := open(t, name, false)
		if name == "postgres" {
			require.Contains(t, b.fails(1, "status"), "type `tenant migrate`")
			require.Contains(t, b.ok("migrate", "--dry-run"), "would be brought from version 0 to 2. Nothing was written.")
			require.Contains(t, b.fails(1, "status"), "type `tenant migrate`")
		} else {
			require.Contains(t, b.fails(1, "status"), "there is no file")
			require.Contains(t, b.fails(1, "migrate", "--dry-run"), "there is no file")
			require.NoFileExists(t, strings.TrimPrefix(b.url, "sqlite:"))
		}
		require.Contains(t, b.ok("migrate"), "was brought from version 0 to 2.")
		require.Contains(t, b.ok("migrate"), "is up to date: version 2.")
		require.Contains(t, b.ok("status"), "version 2")
		require.Contains(t, b.ok("tenant", "list"), "no tenants")
		require.Empty(t, b.ok("tenant", "list", "--json"))
	}
}

func TestTables_OfANewerVersionAreRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *books) {
		require.NoError(t, b.db.Exec(`INSERT INTO llm_migrations (version_id, is_applied) VALUES (9999, true)`).Error)
		for _, args := range [][]string{{"status"}, {"usage"}, {"migrate"}, {"migrate", "--dry-run"}, {"show", "acme"}} {
			require.Contains(t, b.fails(1, args...), "version 9999, and this command knows 2: it is too old")
		}
	})
}

func TestDatabase_ThatIsWrongIsNamedWithoutItsPassword(t *testing.T) {
	t.Parallel()
	const secret = "gehe1m-Wort"
	file := filepath.Join(t.TempDir(), "url")
	require.NoError(t, os.WriteFile(file, []byte("postgres://u:"+secret+"@127.0.0.1:1/db\n"), 0o600))
	text := filepath.Join(t.TempDir(), "text.db")
	require.NoError(t, os.WriteFile(text, []byte(strings.Repeat("no database at all ", 100)), 0o600))
	for _, c := range []struct {
		url  string
		args []string
		code int
		says string
	}{
		{"", nil, 2, "no database is given: set TENANT_DATABASE_URL, or give --database-file FILE or --database URL"},
		{"", []string{"--database=postgres://u:" + secret + "@127.0.0.1/db"}, 2, "every user of this machine sees in the list of processes; put the URL into $TENANT_DATABASE_URL"},
		{"", []string{"-d", "postgres://127.0.0.1/db?user=u&password=" + secret}, 2, "PGPASSFILE"},
		{"", []string{"-d", "mysql://u:" + secret + "@h/db"}, 2, "not on mysql://"},
		{"", []string{"-d", "host=h password=" + secret}, 2, "it is no URL; give postgres://user@host/database or sqlite:FILE"},
		{"", []string{"-d", "books.db"}, 2, "it is no URL"},
		{"", []string{"-d", "sqlite:"}, 2, "names no file"},
		{"", []string{"-d", "sqlite::memory:"}, 2, "needs a file"},
		{"", []string{"-d", "sqlite:" + t.TempDir() + "/none.db"}, 1, "there is no file"},
		{"", []string{"-d", "sqlite:" + t.TempDir()}, 1, "is a directory"},
		{"", []string{"-d", "sqlite:" + text}, 1, "not a database"},
		{"", []string{"--database-file", file}, 1, "connection refused"},
		{"", []string{"--database-file", file + ".none"}, 2, "no such file"},
		{"", []string{"--database-file", file, "-d", "sqlite:x"}, 2, "both given"},
		{"postgres://u:" + secret + "@127.0.0.1:1/db", nil, 1, "postgres://u@127.0.0.1:1/db cannot be used"},
		{"postgres://u:" + secret + "/x@127.0.0.1:1/db", nil, 2, "a password's special characters are written %40"},
		{"postgres://u:" + secret + "@127.0.0.1:1/db?sslmode=never", nil, 2, "sslmode is invalid"},
		{"postgres://u:" + secret + "@127.0.0.1:x1/db", nil, 2, "it is no URL that can be read"},
		{"redis://u:" + secret + "@h", nil, 2, "not on redis://"},
	} {
		var env []string
		if c.url != "" {
			env = []string{"TENANT_DATABASE_URL=" + c.url}
		}
		r := run(t, env, append(c.args, "status")...)
		require.Equal(t, c.code, r.code, "%v: %s", c, r.problems)
		require.Contains(t, r.problems, c.says, "%v", c)
		require.NotContains(t, r.problems+r.out, secret)
		require.Equal(t, 1, strings.Count(strings.TrimSpace(r.problems), "\n")+1, "%v: %s", c, r.problems)
	}
}

func TestUsage_OfTheCommandThatIsWrongSaysWhatToType(t *testing.T) {
	t.Parallel()
	b := open(t, "sqlite", true)
	for _, c := range []struct{ args, says string }{
		{"nope", "nope"},
		{"status --nope", "unknown flag --nope"},
		{"status extra", "extra"},
		{"tenant show", "<tenant>"},
		{"tenant list --limit 0", "--limit: 0 is not between 1 and 1000"},
		{"tenant list --limit many", "many"},
		{"usage --by colour", `--by: "colour" is none of hour, day`},
		{"usage --by day,hour", "both of time"},
		{"usage --by day,agent,model", "more than two"},
		{"usage --period someday", `--period: "someday" is none of today`},
		{"usage --period 2026-02-30", "2026-02-30"},
		{"usage --period 2026-03-09..2026-03-01", "after its last date"},
		{"usage --period all --compare", "before"},
		{"usage --order-by beauty", `--order-by: "beauty" is none of cost`},
		{"usage --top -1", "--top"},
		{"usage acme --no-tenant", "give one"},
		{"usage --descendants", "--descendants is about one tenant"},
		{"usage --time-zone Mars/Olympus", `--time-zone: "Mars/Olympus" is no IANA name`},
		{"usage --week-start friday", "monday"},
	} {
		require.Contains(t, b.fails(2, strings.Fields(c.args)...), c.says, c.args)
	}
	require.Contains(t, run(t, nil).out, "Exit codes:")
	require.Contains(t, run(t, nil, "usage", "--help").out, "2026-03-08")
}

func TestTenant_ThatIsUnknownIsFourAndTheNearestIsNamed(t *testing.T) {
	t.Parallel()
	filled(t, func(t *testing.T, b *books) {
		require.Equal(t, "tenant: there is no tenant \"acne\"; did you mean \"acme\"?\n", b.fails(4, "tenant", "show", "acne"))
		require.Equal(t, "tenant: there is no tenant \"zzzzzz\"\n", b.fails(4, "usage", "zzzzzz"))
		require.Contains(t, b.fails(2, "show", "acme\x1b"), "control")
	})
}

func TestShow_HasTheSettingsAndWhatLimitsStandAt(t *testing.T) {
	t.Parallel()
	filled(t, func(t *testing.T, b *books) {
		_, err := b.Credit(t.Context(), tenant.ID("acme-support"), tenant.USD("2.000000005"), "outage")
		require.NoError(t, err)
		out := b.ok("tenant", "show", "acme-support")
		require.Equal(t, out, b.ok("show", "acme-support"))
		require.Equal(t, out, b.ok("-q", "show", "acme-support"))
		require.Contains(t, out, "Below        acme\n")
		require.Contains(t, out, "Enforcement  hard (from the tenant)")
		require.Regexp(t, `(?m)^acme-support  month cost  tenant  1000\.00  -2\.000000005  0\.00  +\S+ `, out)
		require.Regexp(t, `(?m)^acme +month cost  tenant  1000\.00  -2\.000000005 `, out)

		var s struct {
			Budget struct{ TenantID, Name, ParentID string }
			Status tenant.Status
		}
		require.NoError(t, json.Unmarshal([]byte(b.ok("tenant", "show", "acme", "--json")), &s))
		require.Equal(t, "Acme", s.Budget.Name)
		require.Len(t, s.Status.Limits, 1)
		require.Equal(t, "-2.000000005", s.Status.Limits[0].Spent.String())
		require.Contains(t, b.ok("show", "evil"), "times in Europe/Berlin")
	})
}

func TestUsage_IsExactAndTakenApart(t *testing.T) {
	t.Parallel()
	filled(t, func(t *testing.T, b *books) {
		out := b.ok("usage", "--period", "2026-03", "--by", "tenant,agent")
		require.Contains(t, out, "2026-03-01 00:00 to 2026-04-01 00:00 (times in UTC)")
		require.Regexp(t, `(?m)^acme +chat +0\.005000005 +0\.005000005 +0\.00 +6000 +5 +0 +0 +0$`, out)
		require.Regexp(t, `(?m)^All +0\.03000003 +0\.03000003 +0\.00 +36000 +30 `, out)
		require.Regexp(t, `(?m)^0\.01000001 `, b.ok("usage", "acme", "--period", "all"))
		require.Regexp(t, `(?m)^0\.02000002 `, b.ok("usage", "acme", "--descendants", "--period", "2026-03-02..2026-03-31"))
		require.Regexp(t, `(?m)^0\.002000002 `, b.ok("usage", "--period", "2026-03-02T10:00:00Z..2026-03-02T12:00:00Z"))
		require.Regexp(t, `(?m)^0\.00 `, b.ok("usage", "--no-tenant", "--period", "all"))
		require.Contains(t, b.ok("usage", "--period", "2026-03", "--by", "tag:feature", "--compare"), "Cost before")
		lines := strings.Split(strings.TrimSpace(b.ok("usage", "--period", "2026-03", "--by", "agent", "--csv")), "\n")
		require.Len(t, lines, 3)
		var answer tenant.UsageAnswer
		require.NoError(t, json.Unmarshal([]byte(b.ok("usage", "--period", "2026-03", "--by", "agent", "--top", "1", "--json")), &answer))
		require.Len(t, answer.Rows, 1)
		require.Equal(t, "0.03000003", answer.Total.Cost.String())
	})
}

func TestNames_ThatWouldDriveATerminalAreWrittenAsEscapes(t *testing.T) {
	t.Parallel()
	filled(t, func(t *testing.T, b *books) {
		for _, args := range [][]string{{"tenant", "list"}, {"show", "evil"}, {"tenant", "list", "--json"}, {"show", "evil", "--json"}, {"status"}} {
			out := b.ok(args...)
			for _, r := range "\x1b\u009b\u202e" {
				require.NotContains(t, out, string(r), "%v", args)
			}
		}
		require.Contains(t, b.ok("show", "evil"), `Evil\x1b[2J\u009b2J\u202egnp.exe`)
		var listed struct{ Name string }
		require.NoError(t, json.Unmarshal([]byte(b.ok("tenant", "list", "--json", "--search", "evil")), &listed))
		require.Equal(t, hostile, listed.Name)
	})
}

func TestTables_AreBounded(t *testing.T) {
	t.Parallel()
	filled(t, func(t *testing.T, b *books) {
		out := b.ok("usage", "--period", "2026-01-01..2026-12-31", "--by", "hour")
		require.Less(t, strings.Count(out, "\n"), 1010)
		require.Contains(t, out, "… and 7760 more lines; --json has all")
		out = b.ok("tenant", "list", "--limit", "2")
		require.Contains(t, out, `There may be more: --after "acme-support"`)
		require.Regexp(t, `(?m)^evil `, b.ok("tenant", "list", "--after", "acme-support"))
	})
}

func TestStatus_OfBooksInPlacesCountsThemAll(t *testing.T) {
	t.Parallel()
	b := open(t, "postgres", true)
	require.NoError(t, b.Close(t.Context()))
	ledger, err := tenant.Open(b.db, tenant.WithPlaces("east", "west"), tenant.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	require.NoError(t, ledger.Migrate(t.Context()))
	for _, id := range []tenant.ID{"acme", "globex", "initech", "umbrella"} {
		_, err := ledger.Record(t.Context(), id, tenant.Actual{Cost: tenant.USD("0.25")})
		require.NoError(t, err)
	}
	require.NoError(t, ledger.Close(t.Context()))
	require.Contains(t, b.ok("usage", "--period", "all"), "1.00")
	require.Contains(t, b.ok("tenant", "show", "umbrella"), "umbrella")
	require.Contains(t, b.ok("status"), "Places         east, west\n")
	require.Contains(t, b.ok("migrate"), "is up to date")

	place := func() (name string) {
		require.NoError(t, b.db.Raw(`SELECT place FROM llm_tenants WHERE tenant_id = 'umbrella'`).Scan(&name).Error)
		return name
	}
	was := place()
	away := map[string]string{"east": "west", "west": "east"}[was]
	require.Contains(t, b.ok("tenant", "show", "umbrella"), "Place        "+was+"\n")
	require.Equal(t, []string{"place: " + was + " -> " + away}, b.tried("tenant", "move", "umbrella", away, "--reason", "room"))
	require.Equal(t, away, place())
	require.Equal(t, []string{"place: " + away + " -> the home"}, b.tried("tenant", "move", "umbrella", "--home", "--reason", "room"))
	require.Empty(t, place())
	require.Contains(t, b.ok("tenant", "history", "umbrella"), "room")
	require.Contains(t, b.ok("usage", "--period", "all"), "1.00")
	require.Contains(t, b.fails(2, "tenant", "move", "umbrella", "north", "--reason", "x"), `there is no place "north": the database has east, west`)
	require.Contains(t, b.fails(2, "tenant", "move", "umbrella", "--reason", "x"), "either moved to a PLACE or, with --home, to the home")
	b.fails(2, "tenant", "move", "umbrella", "east", "--home", "--reason", "x")
	b.fails(4, "tenant", "move", "nobody", "east", "--reason", "x")
	b.ok("verify")

	// A place that lags behind is named.
	require.NoError(t, b.db.Exec(`DELETE FROM west.llm_migrations WHERE version_id = (SELECT max(version_id) FROM west.llm_migrations)`).Error)
	require.Contains(t, b.fails(1, "status"), "the tables of the place west are older than version")
}
