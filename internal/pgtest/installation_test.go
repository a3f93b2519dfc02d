package pgtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBinaries_OnPathComeFirstAndLinksAreFollowed(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	installed := fakePostgres(t, root, "14")
	fakePostgres(t, root, "15")
	link := filepath.Join(root, "initdb")
	require.NoError(t, os.Symlink(filepath.Join(installed, "initdb"), link))

	bin, err := findBinaries(func(string) (string, error) { return link, nil }, []string{root + "/*/bin"})
	require.NoError(t, err)
	require.Equal(t, installed, bin)
}

func TestBinaries_OfTheNewestPackagedVersionAreTaken(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	fakePostgres(t, root, "9")
	newest := fakePostgres(t, root, "17")
	fakePostgres(t, root, "15")
	require.NoError(t, os.MkdirAll(filepath.Join(root, "18", "bin"), 0o755)) // its package was removed

	bin, err := findBinaries(nothingOnPath, []string{root + "/*/bin"})
	require.NoError(t, err)
	require.Equal(t, newest, bin)
}

func TestPostgres_ThatIsNamedIsTaken(t *testing.T) {
	named := fakePostgres(t, t.TempDir(), "18")
	t.Setenv(ProgramsVariable, named)
	found, err := findInstallation(t.Context())
	require.NoError(t, err)
	require.Equal(t, named, found.bin)

	t.Setenv(ProgramsVariable, t.TempDir())
	_, err = findInstallation(t.Context())
	require.ErrorContains(t, err, ProgramsVariable)
}

func TestPostgres_ThatIsMissingFailsWithTheLineToType(t *testing.T) {
	t.Parallel()
	_, cause := findBinaries(nothingOnPath, []string{t.TempDir() + "/*/bin"})
	require.ErrorContains(t, cause, "no initdb")

	err := noPostgresError(0, cause)
	require.ErrorIs(t, err, cause)
	require.ErrorContains(t, err, "\n\t"+installLine)
	require.ErrorContains(t, err, URLVariable)
	require.ErrorContains(t, noPostgresError(1000, cause), "\n\tsudo sh -c '"+installLine+"'")
}

func TestServer_DoesNotRunAsRoot(t *testing.T) {
	t.Parallel()
	asRoot, err := serverUser(0)
	require.NoError(t, err)
	require.NotZero(t, asRoot.Uid)

	asUser, err := serverUser(1000)
	require.NoError(t, err)
	require.Nil(t, asUser)
}

func TestFolders_OfOneUserAreNotOpenToAll(t *testing.T) {
	t.Parallel()
	parent := filepath.Join(t.TempDir(), "private")
	child := filepath.Join(parent, "child")
	require.NoError(t, os.MkdirAll(child, 0o755))
	require.NoError(t, os.Chmod(parent, 0o700))
	require.False(t, openToAll(child))
	require.True(t, openToAll("/"))
}

func nothingOnPath(string) (string, error) { return "", exec.ErrNotFound }

func fakePostgres(t *testing.T, root, version string) string {
	t.Helper()
	bin := filepath.Join(root, version, "bin")
	require.NoError(t, os.MkdirAll(bin, 0o755))
	for _, program := range []string{"initdb", "postgres"} {
		require.NoError(t, os.WriteFile(filepath.Join(bin, program), []byte("#!/bin/sh\n"), 0o755))
	}
	return bin
}
