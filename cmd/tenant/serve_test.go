package main_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestServe_ShowsTheBooksToWhoHasTheAddressAlone(t *testing.T) {
	t.Parallel()
	filled(t, func(t *testing.T, b *books) {
		for _, acts := range []bool{false, true} {
			args := []string{"serve"}
			if acts {
				args = append(args, "--allow-acts")
			}
			r := command(t, b.env, args...)
			r.Stdout = nil
			out, err := r.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, r.Start())
			line, err := bufio.NewReader(out).ReadString('\n')
			require.NoError(t, err, r.problems)
			address := strings.TrimSpace(line)
			require.Regexp(t, `^http://127\.0\.0\.1:\d+/\?secret=[A-Z0-9]{26}$`, address)
			bare, _, _ := strings.Cut(address, "?")

			get := func(client *http.Client, address, host string) (int, string) {
				request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
				require.NoError(t, err)
				request.Host = host
				response, err := client.Do(request)
				require.NoError(t, err)
				defer func() { _ = response.Body.Close() }()
				body, err := io.ReadAll(response.Body)
				require.NoError(t, err)
				return response.StatusCode, string(body)
			}
			jar, err := cookiejar.New(nil)
			require.NoError(t, err)
			transport := &http.Transport{}
			stranger, viewer := &http.Client{Transport: transport}, &http.Client{Transport: transport, Jar: jar}
			for _, to := range []string{bare, bare + "tenants", bare + "?secret=", address + "x", bare + "assets/site.css"} {
				status, body := get(stranger, to, "")
				require.Equal(t, http.StatusForbidden, status, to)
				require.NotContains(t, body, "Acme")
			}
			status, _ := get(viewer, address, "evil.example")
			require.Equal(t, http.StatusMisdirectedRequest, status)
			status, body := get(viewer, address, "")
			require.Equal(t, http.StatusOK, status)
			require.NotContains(t, body, "secret=")
			status, body = get(viewer, bare+"tenant?id=acme", "")
			require.Equal(t, http.StatusOK, status)
			require.Contains(t, body, "Acme")
			require.Equal(t, acts, strings.Contains(body, "do=credit"))
			status, _ = get(viewer, bare+"act?do=credit&id=acme", "")
			require.Equal(t, map[bool]int{false: http.StatusForbidden, true: http.StatusOK}[acts], status)

			transport.CloseIdleConnections()
			require.NoError(t, r.Process.Signal(os.Interrupt))
			require.NoError(t, r.Wait(), r.problems)
		}
		require.Contains(t, b.fails(2, "serve", "--port", "70000"), "70000")
		taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		_, port, err := net.SplitHostPort(taken.Addr().String())
		require.NoError(t, err)
		require.Contains(t, b.fails(1, "serve", "--port", port), "in use")
		require.NoError(t, taken.Close())
	})
}

func TestCompletion_InBash(t *testing.T) {
	t.Parallel()
	script := run(t, nil, "completion", "bash").out
	complete := func(words ...string) string {
		bash := exec.CommandContext(t.Context(), "bash", "-c", script+`
			COMP_WORDS=(tenant "$@"); COMP_CWORD=$#; COMPREPLY=(); _tenant; echo "${COMPREPLY[*]}"`, "bash")
		bash.Args = append(bash.Args, words...)
		out, err := bash.CombinedOutput()
		require.NoError(t, err, string(out))
		return strings.TrimSpace(string(out))
	}
	for _, c := range []struct{ words, want string }{
		{"st", "status"}, {"tenant s", "show set-limit suspend"}, {"set-limit --win", "--window"}, {"tenant set-limit --window ", "hour day week month total"},
		{"--json export --format ", "csv ndjson focus"}, {"prices ", "show diff check"}, {"completion b", "bash"},
	} {
		got := complete(strings.Split(c.words, " ")...)
		got, _, _ = strings.Cut(got, " --help")
		require.Equal(t, c.want, got, c.words)
	}
	for shell, has := range map[string]string{"zsh": "#compdef tenant", "fish": "complete -c tenant"} {
		out := run(t, nil, "completion", shell).out
		for _, part := range []string{has, "set-limit", "reprice", "allow-acts"} {
			require.Contains(t, out, part, shell)
		}
	}
	require.Equal(t, 2, run(t, nil, "completion", "tcsh").code)
	require.Equal(t, 2, run(t, nil, "completion").code)
}

// No flag of any command is without a text, and none takes a password.
func TestHelp_OfEveryCommand(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/command.md")
	require.NoError(t, err)
	for _, name := range strings.Split("migrate|status|tenant|tenant list|tenant show|tenant history|tenant set-limit|tenant top-up|tenant credit|tenant debit|"+
		"tenant suspend|tenant resume|tenant rename|tenant move|usage|export|import|prices|prices show|prices diff|prices check|reprice|backfill|verify|repair|prune|erase|serve|completion", "|") {
		r := run(t, []string{"TENANT_DATABASE_URL=postgres://u:geheim@h/db"}, append(strings.Fields(name), "--help")...)
		require.Equal(t, 0, r.code, name)
		require.Contains(t, r.out, "Usage: tenant "+name)
		require.NotContains(t, r.out, "geheim")
		if name != "tenant" && name != "prices" {
			require.Contains(t, string(page), "tenant "+strings.TrimPrefix(name, "tenant "), "the page shows it")
		}
		require.NotRegexp(t, `\$\{(default|period)`, r.out)
	}
}
