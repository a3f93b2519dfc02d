package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/llmtenant/tenant/internal/pgtest"
)

// binary is the command as users have it: the tests run nothing else of this package.
var binary = os.Getenv("TENANT_TEST_BINARY")

// TestMain builds the command, and runs the tests in a process of their own, so that the folder can be removed after them.
func TestMain(m *testing.M) {
	if binary != "" {
		pgtest.Main(m)
		return
	}
	code, err := inFolder()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 2
	}
	os.Exit(code)
}

func inFolder() (code int, err error) {
	folder, err := os.MkdirTemp("", "tenant-command-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	built := filepath.Join(folder, "tenant")
	args := []string{"build", "-buildvcs=false", "-o", built}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "-race" || s.Key == "-gcflags" {
				args = append(args, s.Key+"="+s.Value)
			}
		}
	}
	if output, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("go %v: %w\n%s", args, err, output)
	}
	tests := exec.Command(os.Args[0], os.Args[1:]...)
	tests.Env = append(os.Environ(), "TENANT_TEST_BINARY="+built)
	tests.Stdin, tests.Stdout, tests.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := tests.Run(); err != nil {
		if ended := (*exec.ExitError)(nil); errors.As(err, &ended) && ended.ExitCode() > 0 {
			return ended.ExitCode(), nil
		}
		return 0, err
	}
	return 0, nil
}

// result is what a command came to.
type result struct {
	out, problems string
	code          int
}

// run runs the command with an environment of its own.
func run(t testing.TB, env []string, args ...string) result {
	t.Helper()
	return ended(t, start(t, env, args...))
}

// running is a command that runs.
type running struct {
	*exec.Cmd
	out, problems *bytes.Buffer
}

func start(t testing.TB, env []string, args ...string) *running {
	t.Helper()
	r := command(t, env, args...)
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

func command(t testing.TB, env []string, args ...string) *running {
	t.Helper()
	r := &running{exec.CommandContext(t.Context(), binary, args...), &bytes.Buffer{}, &bytes.Buffer{}}
	r.Env = append([]string{"HOME=" + t.TempDir(), "USER=tester", "PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir()}, env...)
	r.Stdout, r.Stderr = r.out, r.problems
	return r
}

func ended(t testing.TB, r *running) result {
	t.Helper()
	err := r.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{r.out.String(), r.problems.String(), r.ProcessState.ExitCode()}
}
