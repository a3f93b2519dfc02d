package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// fetchScript has apt-get download what the machine lacks to run Postgres, and unpacks it into a folder. It installs
// nothing, and it needs no root: lists, archives and locks are its own.
const fetchScript = `
set -eu
umask 022
cd "$1"
mkdir -p lists/partial archives/partial root
apt() {
	apt-get -q -y -o Dir::State::Lists="$PWD/lists" -o Dir::Cache="$PWD" -o Dir::Cache::Archives="$PWD/archives" \
		-o APT::Sandbox::User=root -o Debug::NoLocking=true "$@"
}
apt update
apt install --download-only --no-install-recommends postgresql
for package in archives/*.deb; do dpkg-deb -x "$package" root; done
rm -rf lists archives *.bin
`

// fetchBinaries returns the folder of Postgres's programs and the path to search for their libraries, from a cache that
// the first call on a machine fills.
func fetchBinaries(ctx context.Context) (bin, libraries string, err error) {
	for _, tool := range []string{"apt-get", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", "", errors.New("no apt-get to download it with")
		}
	}
	cache, err := cacheDir()
	if err != nil {
		return "", "", err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", "", err
	}
	// The test binaries of one "go test" come here together; the lock goes with the file, also when its holder dies.
	lock, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = lock.Close() }()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", "", err
	}

	unpacked := filepath.Join(cache, "postgres")
	if bin, libraries, err = unpackedBinaries(unpacked); err == nil {
		return bin, libraries, nil
	}
	fmt.Fprintln(os.Stderr, "pgtest: no PostgreSQL on this machine: downloading Debian's to", unpacked)
	draft, err := os.MkdirTemp(cache, "draft-")
	if err != nil {
		return "", "", err
	}
	defer func() { _ = os.RemoveAll(draft) }()
	if err := os.Chmod(draft, 0o755); err != nil { // for the user that the server runs as
		return "", "", err
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", fetchScript, "sh", draft)
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("apt-get could not download it: %w:\n%s", err, bytes.TrimSpace(output))
	}
	if err := errors.Join(os.RemoveAll(unpacked), os.Rename(draft, unpacked)); err != nil {
		return "", "", err
	}
	return unpackedBinaries(unpacked)
}

func unpackedBinaries(dir string) (bin, libraries string, err error) {
	notOnPath := func(string) (string, error) { return "", exec.ErrNotFound }
	bin, err = findBinaries(notOnPath, []string{filepath.Join(dir, "root", packaged[0])})
	if err != nil {
		return "", "", err
	}
	var found []string
	for _, pattern := range []string{"usr/lib/*-linux-gnu*", "lib/*-linux-gnu*"} {
		folders, err := filepath.Glob(filepath.Join(dir, "root", pattern))
		if err != nil {
			return "", "", err
		}
		found = append(found, folders...)
	}
	return bin, strings.Join(found, string(filepath.ListSeparator)), nil
}

// cacheDir is a folder that outlives the test binary and into which the server's user can reach. Root's home is not.
func cacheDir() (string, error) {
	parent := "/var/cache"
	if os.Geteuid() != 0 {
		var err error
		if parent, err = os.UserCacheDir(); err != nil {
			return "", err
		}
	}
	return filepath.Join(parent, "tenant-pgtest"), nil
}
