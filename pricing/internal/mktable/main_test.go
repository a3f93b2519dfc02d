package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The table in the repository is what this program makes of the lists: nobody has changed a row that it makes by hand.
func TestTable_IsWhatTheListsMakeOfIt(t *testing.T) {
	t.Parallel()
	const lists = "../../../../shared/prices"
	if _, err := os.Stat(lists); err != nil {
		t.Skipf("the public price lists are no part of the repository, and %s is not on this machine", lists)
	}
	before, err := os.ReadFile("../../book.json")
	require.NoError(t, err)
	name := filepath.Join(t.TempDir(), "book.json")
	require.NoError(t, os.WriteFile(name, before, 0o600))
	paths, err := filepath.Glob(filepath.Join(lists, "*.json"))
	require.NoError(t, err)
	var report strings.Builder
	require.NoError(t, run(&report, name, paths))
	after, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, string(before), string(after), report.String())
}
