package pgtest

import (
	"fmt"
	"os"
	"testing"
)

// endVariable makes the test binary a helper of TestCluster_GoesWithItsBinary: it starts the shared cluster, prints where
// it is, and ends in the way that the variable says.
const endVariable = "PGTEST_HELPER_ENDS_BY"

func TestMain(m *testing.M) {
	if end := os.Getenv(endVariable); end != "" {
		help(end)
	}
	Main(m)
}

func help(end string) {
	if _, err := shared.open(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	fmt.Println(shared.cluster.dir)
	if end == "panic" {
		panic("as a failing test would")
	}
	select {}
}
