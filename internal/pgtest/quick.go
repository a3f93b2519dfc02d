package pgtest

import (
	"flag"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
)

const (
	// sharedMemory is a file system in memory that every Linux has.
	sharedMemory = "/dev/shm"

	// memoryNeeded is the room, in bytes, from which a memory file system is used: several times what the databases of one
	// test binary take, since others may run beside it.
	memoryNeeded = 4 << 30

	// testsPerProcessor is how many tests run at once for each processor. More bring little, and take a server's connections.
	testsPerProcessor = 3

	// heapGrowth is by how much per cent the heap may grow until it is collected. Tests make much that is soon garbage, of
	// a heap that is small: more collections than this take a sixth of their time.
	heapGrowth = 300
)

// collectLess has the garbage collected less often, unless GOGC says how often.
func collectLess() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
}

// inMemory has the temporary files of this process, and of those that it starts, in a file system in memory. It leaves
// things as they are where TMPDIR is set, and where there is no such file system, no room in it, or no leave to run programs
// from it, which tests build there.
func inMemory(folder string) error {
	if os.Getenv("TMPDIR") != "" || !roomy(folder) || !runsPrograms(folder) {
		return nil
	}
	return os.Setenv("TMPDIR", folder)
}

func roomy(folder string) bool {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(folder, &stat); err != nil {
		return false
	}
	return stat.Bavail*uint64(stat.Bsize) >= memoryNeeded
}

func runsPrograms(folder string) bool {
	probe, err := os.CreateTemp(folder, "pgtest-probe-")
	if err != nil {
		return false
	}
	defer func() { _ = os.Remove(probe.Name()) }()
	_, err = probe.WriteString("#!/bin/sh\n")
	if close := probe.Close(); err != nil || close != nil || os.Chmod(probe.Name(), 0o700) != nil {
		return false
	}
	return exec.Command(probe.Name()).Run() == nil
}

// runMore runs more tests at once than there are processors, unless -parallel says how many.
func runMore() error {
	flag.Parse()
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "test.parallel" })
	if said {
		return nil
	}
	return flag.Set("test.parallel", strconv.Itoa(testsPerProcessor*runtime.GOMAXPROCS(0)))
}
