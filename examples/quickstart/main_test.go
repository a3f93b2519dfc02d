package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/glebarez/sqlite"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/examples/internal/database"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// asMain makes the test binary the program itself.
const asMain = "QUICKSTART_AS_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
		os.Exit(0)
	}
	pgtest.Main(m)
}

type result struct {
	code     int
	out, err string
}

// quickstart runs the program in a folder, as a process, without a key.
func quickstart(t *testing.T, folder string, env []string, args ...string) result {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = folder
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "OPENAI_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(append(cmd.Env, asMain+"=1"), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	if _, exited := err.(*exec.ExitError); !exited { //nolint:errorlint // Run returns it bare
		require.NoError(t, err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

func succeeds(t *testing.T, r result) string {
	t.Helper()
	require.Zero(t, r.code, r.err)
	require.Empty(t, r.err)
	return r.out
}

// fails checks that a run ended as a program should, and returns the line that says why.
func fails(t *testing.T, r result) string {
	t.Helper()
	require.Equal(t, 1, r.code, r.out)
	require.True(t, strings.HasPrefix(r.err, "quickstart: "), r.err)
	require.Equal(t, 1, strings.Count(r.err, "\n"), "one line: %s", r.err)
	require.NotContains(t, r.err, "panic")
	return r.err
}

// table returns the rows of a table that the program prints, by title.
func table(t *testing.T, out, title string) []string {
	t.Helper()
	_, rest, found := strings.Cut(out, "\n"+title+"\n")
	require.True(t, found, out)
	return strings.Split(rest, "\n")[1:3]
}

// verify checks the books, and returns the executions.
func verify(t *testing.T, dialector gorm.Dialector) []tenant.Execution {
	t.Helper()
	db, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	defer func() { require.NoError(t, database.Close(db)) }()
	ledger, err := tenant.Open(db)
	require.NoError(t, err)
	defer func() { require.NoError(t, ledger.Close(context.Background())) }()
	differences, err := ledger.Verify(t.Context())
	require.NoError(t, err)
	require.Empty(t, differences)
	var all []tenant.Execution
	for _, org := range []tenant.ID{"acme", "globex"} {
		var executions []tenant.Execution
		require.NoError(t, tenant.Executions(t.Context(), db, org).Order("admitted_at").Find(&executions).Error)
		all = append(all, executions...)
	}
	return all
}

func TestQuickstart_IsStoppedAtTheLimitAndTheSecondRunFindsTheBooks(t *testing.T) {
	t.Parallel()
	postgresURL := pgtest.Empty(t)
	for _, c := range []struct {
		name, books string
		args        []string
	}{
		{"SQLite", "tenant-quickstart.db (SQLite)", nil},
		{"PostgreSQL", "postgres://", []string{"-db", postgresURL}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			out := succeeds(t, quickstart(t, folder, nil, c.args...))
			require.Contains(t, out, c.books)
			require.Contains(t, out, "played by a local server")
			require.Regexp(t, `acme +\$0 +\$0 +0 +\$0.001 +\$0.001`, table(t, out, "So far")[0])
			acme, globex, found := strings.Cut(out, "Globex asks")
			require.True(t, found)
			require.Equal(t, 3, strings.Count(acme, "tokens in, "), "three calls, and the fourth is refused")
			require.Regexp(t, `refused before it was made: of the limit of \$0.001 a day, \$0.0002\d+ is spent and \$0 is held, `+
				`and the call could cost \$0.0007\d+;\s+the limit resets at .* 00:00:00 UTC`, acme)
			require.Equal(t, 2, strings.Count(globex, "tokens in, "), "the other one goes on")
			require.NotContains(t, globex, "refused")
			require.Regexp(t, `acme +\$0.0002\d+ +\$0.0002\d+ +3 `, table(t, out, "Now")[0])
			require.Regexp(t, `globex +\$0.0001\d+ +\$0.0001\d+ +2 +\$5 `, table(t, out, "Now")[1])

			again := succeeds(t, quickstart(t, folder, nil, c.args...))
			require.Equal(t, table(t, out, "Now"), table(t, again, "So far"), "the books have survived")
			acme, globex, _ = strings.Cut(again, "Globex asks")
			require.NotContains(t, acme, "tokens in, ")
			require.Contains(t, acme, "refused before it was made")
			require.Equal(t, 2, strings.Count(globex, "tokens in, "))

			if c.args == nil {
				require.Len(t, verify(t, sqlite.Open(filepath.Join(folder, "tenant-quickstart.db"))), 7)
			} else {
				require.Len(t, verify(t, postgres.Open(postgresURL)), 7)
			}
		})
	}
}

func TestQuickstart_AServerThatDiesInMidCallLeavesTheBooksConsistent(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	line := fails(t, quickstart(t, folder, nil, "-kill-server"))
	require.Regexp(t, `a call for acme failed: openai: no answer came: .*; nobody knows what it used, so acme is charged what the call held, `+
		`\$0.0007\d+ \(execution [0-9a-f-]{36}\)`, line)

	executions := verify(t, sqlite.Open(filepath.Join(folder, "tenant-quickstart.db")))
	require.Len(t, executions, 2)
	require.Equal(t, "succeeded", executions[0].Status)
	require.Equal(t, "failed", executions[1].Status)
	require.True(t, executions[1].Estimated)
	require.Contains(t, line, executions[1].ID)

	out := succeeds(t, quickstart(t, folder, nil))
	require.Regexp(t, `acme +\$0.0008\d+ +\$0.0008\d+ +2 `, table(t, out, "So far")[0])
}

func TestQuickstart_AKeyThatIsWrongIsSaidAndChargesNothing(t *testing.T) {
	t.Parallel()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer sk-wrong" {
			t.Error("the key is not sent")
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"error":{"message":"Incorrect API key provided: sk-wrong","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}`)
	}))
	t.Cleanup(api.Close)
	folder := t.TempDir()
	r := quickstart(t, folder, []string{"OPENAI_API_KEY=sk-wrong", "OPENAI_BASE_URL=" + api.URL + "/v1"})
	require.Contains(t, r.out, "gpt-4.1-mini at OpenAI")
	line := fails(t, r)
	require.Contains(t, line, "a call for acme failed: openai: 401 Unauthorized (invalid_api_key); nothing is charged for it")
	require.NotContains(t, r.out+line, "sk-wrong")

	executions := verify(t, sqlite.Open(filepath.Join(folder, "tenant-quickstart.db")))
	require.Len(t, executions, 1)
	require.Equal(t, "http_401", executions[0].ErrorCode)
	require.True(t, executions[0].Cost().IsZero())
}

func TestQuickstart_WhatCannotBeUsedIsSaidInOneLine(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "text.db"), []byte(strings.Repeat("not a database ", 10)), 0o600))
	for _, c := range []struct {
		name string
		env  []string
		args []string
		says string
	}{
		{"a folder that is not there", nil, []string{"-db", "nowhere/x.db"}, `-db: open .*nowhere/x.db: no such file or directory`},
		{"a folder", nil, []string{"-db", "."}, `-db: open .*: is a directory`},
		{"another kind of file", nil, []string{"-db", "text.db"}, `text.db \(SQLite\): .*not a database`},
		{"nothing", nil, []string{"-db", ""}, `-db is empty`},
		{"another database", nil, []string{"-db", "mysql://root:secret@h/x"}, `"mysql://" is neither`},
		{"a PostgreSQL that is not there", nil, []string{"-db", "postgres://u:secret@127.0.0.1:1/x"}, `open postgres://u:xxxxx@127.0.0.1:1/x: failed to connect .*connection refused`},
		{"a URL that is none", nil, []string{"-db", "postgres://u:secret%@h/x"}, `-db is no URL that can be read`},
		{"a flag that is none", nil, []string{"-nope"}, `not defined: -nope`},
		{"an argument", nil, []string{"nope"}, `unexpected argument "nope"`},
		{"a server that is not ours to kill", []string{"OPENAI_API_KEY=sk-secret"}, []string{"-kill-server"}, `unset it`},
		{"an API that is not there", []string{"OPENAI_API_KEY=sk-secret", "OPENAI_BASE_URL=http://127.0.0.1:1/v1"}, []string{"-db", "api.db"}, `the request was not sent: .*connection refused; nothing is charged`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			line := fails(t, quickstart(t, folder, c.env, c.args...))
			require.Regexp(t, c.says, line)
			require.NotContains(t, line, "secret")
		})
	}
}

func TestQuickstart_HelpIsNoError(t *testing.T) {
	t.Parallel()
	require.Contains(t, succeeds(t, quickstart(t, t.TempDir(), nil, "-h")), "-kill-server")
}
