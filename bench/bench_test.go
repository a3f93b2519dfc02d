package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/pgtest"
)

// The test binary is also the worker that its measurements start.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == workerArgument {
		main()
		return
	}
	hot.callers, many.callers, many.tenants, asked, days, repeated = 8, 8, 20, 20, 70, 3
	pgtest.Main(m)
}

// A figure that is not documented, or one that is documented and not measured, would break whoever reads the JSON.
func TestJSON_HasExactlyTheDocumentedKeysEachWithItsBaseline(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{
		"-json", "-db", pgtest.Empty(t), "-duration", "30ms", "-tenants", "40", "-age", "50ms", "-executions", "1000",
	}, &out))

	var report struct {
		Go, Server string
		CPUs       int
		Duration   time.Duration `json:"duration_ns"`
		Figures    map[string]Figure
	}
	read := json.NewDecoder(&out)
	read.DisallowUnknownFields()
	require.NoError(t, read.Decode(&report))
	require.Equal(t, 30*time.Millisecond, report.Duration)
	require.Contains(t, report.Server, "fsync on, synchronous_commit on")

	var measured, documented []string
	for key, f := range report.Figures {
		measured = append(measured, key)
		require.Positive(t, f.Value, key)
		require.Positive(t, f.Baseline, key)
		require.NotEmpty(t, f.Against, key)
		require.Equal(t, f.Value/f.Baseline, f.Ratio, key)
	}
	text, err := os.ReadFile("../docs/performance.md")
	require.NoError(t, err)
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\|").FindAllSubmatch(text, -1) {
		documented = append(documented, string(row[1]))
	}
	slices.Sort(measured)
	slices.Sort(documented)
	require.Equal(t, documented, measured)
}

func TestPace_SteadyCallsArriveWhateverThoseBeforeThemTake(t *testing.T) {
	t.Parallel()
	// No call ends before the last has arrived.
	const calls = 50
	var arrived atomic.Int64
	all := make(chan struct{})
	took, err := steady(t.Context(), calls*time.Millisecond, 1, 1000, func(context.Context, int) error {
		if arrived.Add(1) == calls {
			close(all)
		}
		<-all
		return nil
	})
	require.NoError(t, err)
	require.Len(t, took, calls)
	for i, d := range took {
		require.GreaterOrEqual(t, d, time.Duration(calls-1-i)*time.Millisecond, "call %d of %d", i, calls)
	}
}

func TestMeasurement_EndsWithTheErrorOfAFailedCall(t *testing.T) {
	t.Parallel()
	broken := errors.New("database is locked")
	var n atomic.Int64
	fail := func(context.Context, int) error {
		if n.Add(1)%100 == 0 {
			return broken
		}
		return nil
	}
	_, err := busy(t.Context(), time.Hour, 1, 4, fail)
	require.ErrorIs(t, err, broken)
	_, err = steady(t.Context(), time.Hour, 1, 10_000, fail)
	require.ErrorIs(t, err, broken)
}

func TestMeasurement_ThatIsUnknownIsAnErrorThatNamesTheKnown(t *testing.T) {
	t.Parallel()
	require.EqualError(t, run(t.Context(), []string{"-only", "hot,cold"}, io.Discard), `-only: there is no measurement "cold"; `+
		"there are hot, many, root, lone, load, lanes, processes, memory, sqlite, questions, dashboard, hooks, telemetry, import, snapshot, export, partitions, places")
}

func TestProfile_WritesBothProfiles(t *testing.T) { //nolint:paralleltest // a process has one CPU profile at a time
	folder := filepath.Join(t.TempDir(), "new")
	require.NoError(t, run(t.Context(), []string{"-profile", folder, "-db", pgtest.Empty(t), "-duration", "100ms"}, io.Discard))
	for _, name := range []string{"cpu.pprof", "allocs.pprof"} {
		info, err := os.Stat(filepath.Join(folder, name))
		require.NoError(t, err)
		require.Positive(t, info.Size())
	}
}
