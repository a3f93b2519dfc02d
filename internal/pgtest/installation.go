package pgtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
)

// packaged is where packages put Postgres without putting it on PATH: Debian's, Red Hat's, and Homebrew's for both kinds
// of Mac.
var packaged = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/opt/homebrew/opt/postgresql@*/bin",
	"/usr/local/opt/postgresql@*/bin",
}

// installLine is what to type where there is no Postgres.
const installLine = "apt-get update && apt-get install -y --no-install-recommends postgresql"

// installation is a set of Postgres binaries, and the user that they run as.
type installation struct {
	bin       string
	libraries string              // the path to search for their shared libraries, or "" for the system's
	user      *syscall.Credential // nil for the user that runs the tests
}

// ProgramsVariable names the folder of the programs of a PostgreSQL, which is then taken in the place of the one that is installed.
const ProgramsVariable = "TENANT_TEST_POSTGRES"

func findInstallation(ctx context.Context) (*installation, error) {
	bin, err := findBinaries(exec.LookPath, packaged)
	libraries := ""
	if named := os.Getenv(ProgramsVariable); named != "" {
		if bin, err = named, nil; !complete(bin) {
			return nil, fmt.Errorf("pgtest: $%s is %q, where initdb and postgres are not, or may not be run", ProgramsVariable, named)
		}
	}
	if err != nil {
		if bin, libraries, err = fetchBinaries(ctx); err != nil {
			return nil, noPostgresError(os.Geteuid(), err)
		}
	}
	credential, err := serverUser(os.Geteuid())
	if err != nil {
		return nil, err
	}
	return &installation{bin: bin, libraries: libraries, user: credential}, nil
}

func noPostgresError(uid int, cause error) error {
	line := installLine
	if uid != 0 {
		line = "sudo sh -c '" + installLine + "'"
	}
	return fmt.Errorf("pgtest: the tests need PostgreSQL 13 or later and found none (%w); "+
		"set $%s to the URL of a server, or type:\n\n\t%s", cause, URLVariable, line)
}

// findBinaries returns the folder of initdb and postgres.
func findBinaries(lookPath func(string) (string, error), patterns []string) (string, error) {
	if initdb, err := lookPath("initdb"); err == nil {
		// On PATH there may be links to some of the programs; all of them are where the links lead.
		if initdb, err = filepath.EvalSymlinks(initdb); err == nil && complete(filepath.Dir(initdb)) {
			return filepath.Dir(initdb), nil
		}
	}
	var found []string
	for _, pattern := range patterns {
		folders, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		found = append(found, slices.DeleteFunc(folders, func(dir string) bool { return !complete(dir) })...)
	}
	if len(found) == 0 {
		return "", errors.New("no initdb on PATH nor where packages put it")
	}
	return slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(majorVersion(a), majorVersion(b)) }), nil
}

func complete(bin string) bool {
	for _, program := range []string{"initdb", "postgres"} {
		if _, err := exec.LookPath(filepath.Join(bin, program)); err != nil {
			return false
		}
	}
	return true
}

var majorPattern = regexp.MustCompile(`\d+`)

// majorVersion reads 15 from .../postgresql/15/bin, and 0 where there is no number.
func majorVersion(bin string) int {
	n, _ := strconv.Atoi(majorPattern.FindString(filepath.Base(filepath.Dir(bin))))
	return n
}

// serverUser returns whom the server runs as: Postgres refuses to run as root.
func serverUser(uid int) (*syscall.Credential, error) {
	if uid != 0 {
		return nil, nil
	}
	// Binaries without their package come without its user.
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("pgtest: user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("pgtest: user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("pgtest: PostgreSQL does not run as root, and there is no user postgres or nobody")
}

// own hands files to the user that the server runs as.
func (i *installation) own(paths ...string) error {
	if i.user == nil {
		return nil
	}
	for _, path := range paths {
		if err := os.Chown(path, int(i.user.Uid), int(i.user.Gid)); err != nil {
			return err
		}
	}
	return nil
}

// tempDir returns the folder for throw-away clusters: the usual one, unless the server's user could not reach into it.
func (i *installation) tempDir() string {
	if i.user == nil {
		return os.TempDir()
	}
	for _, dir := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		if openToAll(dir) {
			return dir
		}
	}
	return os.TempDir()
}

// openToAll reports whether every user may pass through a folder and all those above it.
func openToAll(dir string) bool {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return false
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return false
	}
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
		dir = filepath.Dir(dir)
	}
}

// environ is the environment of Postgres's programs. It has none of the caller's: PGPORT and its like would change what
// they do.
func (i *installation) environ() []string {
	env := []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	if i.libraries != "" {
		env = append(env, "LD_LIBRARY_PATH="+i.libraries)
	}
	return env
}
