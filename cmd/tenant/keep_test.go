package main_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/creack/pty"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
)

func TestVerifyAndRepair_FindMendAndSaySo(t *testing.T) {
	t.Parallel()
	filled(t, func(t *testing.T, b *books) {
		require.Equal(t, "The books agree with the executions.\n", b.ok("verify"))
		require.Contains(t, b.ok("status"), "differences: 0")
		require.Equal(t, "Nothing is to be mended.\n", b.writesNothing("repair", "--dry-run"))
		require.NoError(t, b.db.Exec(`UPDATE llm_balances SET spent_cost = spent_cost + 7 WHERE spent_cost = 10000010`).Error)
		broken := b.tables()
		for _, args := range [][]string{{"verify"}, {"repair", "--dry-run"}} {
			r := run(t, b.env, args...)
			require.Equal(t, 3, r.code, r.problems)
			require.Regexp(t, `(?m)^evil +[0-9a-f-]{36} +balance total agent "" model "" +spent_cost +10000017 +10000010$`, r.out)
			require.Contains(t, r.problems, "tenant: differences were found\n")
		}
		var d tenant.Difference
		r := run(t, b.env, "verify", "--json")
		require.Equal(t, 3, r.code)
		require.NoError(t, json.Unmarshal([]byte(strings.SplitN(r.out, "\n", 2)[0]), &d))
		require.EqualValues(t, 7, d.Have-d.Want)
		require.Contains(t, b.fails(2, "repair"), "There is no terminal to confirm it on; give --yes, or --dry-run to see first")
		now := b.tables()
		delete(broken, "llm_audit") // which has the verifications
		delete(now, "llm_audit")
		require.Equal(t, broken, now)
		out := run(t, b.env, "repair", "--yes")
		require.Equal(t, 0, out.code)
		require.Contains(t, out.problems, "This was mended.")
		require.Contains(t, b.ok("verify"), "agree")
		require.Equal(t, "Nothing was to be mended.\n", b.ok("repair", "-y"))
	})
}

func TestPrune_TakesOldExecutionsAndLeavesSums(t *testing.T) {
	t.Parallel()
	filled(t, func(t *testing.T, b *books) {
		usage := []string{"usage", "--period", "2026-03", "--by", "day,tenant"}
		before := b.ok(usage...)
		require.Contains(t, b.writesNothing("prune", "--before", "2026-03-03", "--dry-run"), "14 executions from before 2026-03-03T00:00:00Z would leave.")
		require.Contains(t, b.fails(2, "prune", "--before", "2026-03-03"), "give --yes")
		var r struct {
			Executions int64
			DryRun     bool
		}
		require.NoError(t, json.Unmarshal([]byte(b.ok("prune", "--before", "2026-03-03", "--yes", "--json")), &r))
		require.EqualValues(t, 14, r.Executions)
		require.Contains(t, b.ok("prune", "--before", "2026-03-03", "--yes", "--batch", "2", "--time", "1h"), "0 executions")
		require.Equal(t, 16, strings.Count(b.ok("export", "--period", "all", "--format", "ndjson"), "\n"))
		require.Equal(t, before, b.ok(usage...))
		require.Contains(t, b.ok("verify"), "agree")
		require.Contains(t, b.ok("prune", "--older-than", "30", "--yes"), "16 executions")
		require.Contains(t, b.fails(1, "usage", "--period", "2026-03-02T10:01:00Z..2026-03-02T12:00:00Z"), "pruned")
		for _, c := range []struct{ args, says string }{
			{"", "one of them"}, {"--before 2026-03-03 --older-than 3", "one of them"}, {"--before soon", `"soon" is neither a day`},
			{"--before 2126-01-01 --yes", "is to come"}, {"--older-than=-1", "less than a day"}, {"--before 2026-03-03 --yes --batch 0", "0 is not between 1 and 10000"},
			{"--before 2026-03-03 --yes --time=-1s", "is no time"}, {"--before 2026-03-03 --yes --time soon", "soon"},
		} {
			require.Contains(t, b.fails(2, append([]string{"prune"}, strings.Fields(c.args)...)...), c.says, c.args)
		}
	})
}

func TestErase_TakesTheTenantOut(t *testing.T) {
	t.Parallel()
	filled(t, func(t *testing.T, b *books) {
		total := b.ok("usage", "--period", "2026-03")
		require.Contains(t, b.writesNothing("erase", "acme-support", "--reason", "asked for", "--dry-run"), "10 executions would leave. What stays is known as ")
		require.Contains(t, b.fails(2, "erase", "acme-support", "--reason", "asked for"), "give --yes")
		require.Contains(t, b.fails(2, "erase", "acme-support", "--yes"), "--reason")
		b.fails(4, "erase", "nobody", "--reason", "x", "--yes")
		require.Contains(t, b.ok("erase", "acme-support", "--reason", "asked for", "--yes"), "10 executions left.")
		b.fails(4, "show", "acme-support")
		require.Equal(t, total, b.ok("usage", "--period", "2026-03"))
		require.NotContains(t, b.ok("export", "--period", "all"), "acme-support")
	})
}

// On a terminal it is asked first, and done when the answer is the one that was asked for.
func TestConfirmation_OnATerminal(t *testing.T) {
	t.Parallel()
	filled(t, func(t *testing.T, b *books) {
		type conversation struct {
			answer string
			code   int
			left   int
		}
		for _, c := range []conversation{{"yes\n", 1, 10}, {"\n", 1, 10}, {"\x04", 1, 10}, {"\x03", 130, 10}, {"acme\n", 0, 0}} {
			r := command(t, b.env, "erase", "acme", "--reason", "asked for")
			r.Stdin, r.Stdout, r.Stderr = nil, nil, nil
			terminal, err := pty.Start(r.Cmd)
			require.NoError(t, err)
			said := ""
			for piece := make([]byte, 512); !strings.Contains(said, "Type acme to go on: "); {
				n, err := terminal.Read(piece)
				require.NoError(t, err, said)
				said += string(piece[:n])
			}
			require.Contains(t, said, `Tenant "acme" (Acme) and its 10 executions leave`)
			_, err = terminal.WriteString(c.answer)
			require.NoError(t, err)
			for piece := make([]byte, 512); ; {
				n, err := terminal.Read(piece) // it ends with an error when the command has ended
				said += string(piece[:n])
				if err != nil {
					break
				}
			}
			_ = r.Wait()
			require.NoError(t, terminal.Close())
			require.Equal(t, c.code, r.ProcessState.ExitCode(), "%q: %s", c.answer, said)
			var left int64
			require.NoError(t, b.db.Model(&tenant.Execution{}).Where("tenant_id = 'acme'").Count(&left).Error)
			require.EqualValues(t, c.left, left, "%q", c.answer)
		}
	})
}

// A prune that is interrupted has left whole batches, and the next one goes on.
func TestPrune_ThatIsInterruptedGoesOn(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *books) {
		b.fill(3000)
		before := b.ok("usage", "--period", "2026-03", "--by", "tenant")
		r := start(t, b.env, "prune", "--before", "2026-06-01", "--yes", "--batch", "1")
		left := func() (n int64) {
			require.NoError(t, b.db.Model(&tenant.Execution{}).Count(&n).Error)
			return n
		}
		require.Eventually(t, func() bool { return left() < 3000 }, patience, tick)
		require.NoError(t, r.Process.Signal(os.Interrupt))
		ended := ended(t, r)
		require.Equal(t, 130, ended.code, ended.problems)
		require.Contains(t, ended.problems, "the same again goes on")
		require.Positive(t, left())
		require.Contains(t, b.ok("verify"), "agree")
		b.ok("prune", "--before", "2026-06-01", "--yes", "-q")
		require.Zero(t, left())
		require.Equal(t, before, b.ok("usage", "--period", "2026-03", "--by", "tenant"))
	})
}
