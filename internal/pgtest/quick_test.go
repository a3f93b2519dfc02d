package pgtest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Not parallel: it sets the process's environment.
func TestInMemory_GoesThereOnlyWhereItCan(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("TMPDIR", "")
	require.NoError(t, inMemory(filepath.Join(folder, "missing")))
	require.Empty(t, os.Getenv("TMPDIR"))

	if roomy(folder) {
		require.NoError(t, inMemory(folder))
		require.Equal(t, folder, os.Getenv("TMPDIR"))
	}
	left, err := filepath.Glob(filepath.Join(folder, "*"))
	require.NoError(t, err)
	require.Empty(t, left, "the probe is gone")

	t.Setenv("TMPDIR", "/said/by/the/user")
	require.NoError(t, inMemory(folder))
	require.Equal(t, "/said/by/the/user", os.Getenv("TMPDIR"))
}

func TestInMemory_RunsNoProgramsWhereItMayNot(t *testing.T) {
	t.Parallel()
	require.True(t, runsPrograms(t.TempDir()))
	require.False(t, runsPrograms(filepath.Join(t.TempDir(), "missing")))
}
