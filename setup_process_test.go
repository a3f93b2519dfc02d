package tenant_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// peer is another process that does one of the tasks below, and is talked to in lines. It ends with its input, so
// also when the process of the test dies.
type peer struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// tasks is what helper processes can do beside what TestHelperProcess_DoesWhatATestTellsIt does itself.
var tasks = map[string]func(t *testing.T, db *gorm.DB, args []string){
	"contend":    contend,
	"idempotent": callIdempotently,
	"history":    recordHistory,
	"locked":     lockAndWait,
	"unbooked":   callUnbooked,
	"hold":       holdAndWait,
	"move":       moveAndSay,
	"backfill":   backfillAndSay,
	"reprice":    repriceTold,
	"import":     importTold,
	"zones":      callInZone,
}

// start starts a helper process on a task, whose words are its name and its arguments, with more in its environment.
func start(t *testing.T, task, dsn string, env ...string) *peer {
	t.Helper()
	p := &peer{cmd: helper(t, task, dsn)}
	p.cmd.Env = append(p.cmd.Env, env...)
	var err error
	p.in, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.out = bufio.NewScanner(out)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	return p
}

// tell sends a line to the process.
func (p *peer) tell(t *testing.T, line string) {
	t.Helper()
	_, err := fmt.Fprintln(p.in, line)
	require.NoError(t, err)
}

// hear waits for the next line that the process says.
func (p *peer) hear(t *testing.T) string {
	t.Helper()
	var rest strings.Builder
	for p.out.Scan() {
		if line, ok := strings.CutPrefix(p.out.Text(), said); ok {
			return line
		}
		fmt.Fprintln(&rest, p.out.Text())
	}
	require.FailNow(t, "the process ended", "%v\n%s", p.out.Err(), &rest)
	return ""
}

// hearAll returns all that the process still says until it ends.
func (p *peer) hearAll() []string {
	var lines []string
	for p.out.Scan() {
		if line, ok := strings.CutPrefix(p.out.Text(), said); ok {
			lines = append(lines, line)
		}
	}
	return lines
}

// said begins the lines of a helper process that are not the testing package's.
const said = "> "

// say is a helper process's side of hear. It is one write, so that lines of several goroutines do not mix.
func say(format string, args ...any) {
	fmt.Printf(said+format+"\n", args...)
}

// commands returns the lines that the test tells this helper process. They end with the input.
func commands() <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			lines <- in.Text()
		}
	}()
	return lines
}

// The environment of a helper process: what it is to do, and on which database.
const (
	helperTask = "TENANT_TEST_HELPER"
	helperDSN  = "TENANT_TEST_HELPER_DSN"
)

// helper starts this test binary as another process, which does one of the tasks of TestHelperProcess_DoesWhatATestTellsIt.
func helper(t *testing.T, task, dsn string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperProcess_DoesWhatATestTellsIt$", "-test.v")
	cmd.Env = append(os.Environ(), helperTask+"="+task, helperDSN+"="+dsn)
	cmd.Stderr = os.Stderr
	return cmd
}

// TestHelperProcess_DoesWhatATestTellsIt is not a test: it is what the helper processes run.
//
//nolint:paralleltest // it is alone in its process
func TestHelperProcess_DoesWhatATestTellsIt(t *testing.T) {
	task := os.Getenv(helperTask)
	if task == "" {
		t.Skip("the body of the processes that other tests start")
	}
	dsn := os.Getenv(helperDSN)
	db := openAt(t, postgres.Open(dsn))
	if there, err := tenant.Places(t.Context(), db); err == nil && len(there) > 0 {
		db = openOverPlaces(t, dsn)
	}
	switch task {
	case "spend":
		ledger := openLedger(t, db)
		fmt.Println("admitted", spend(t, ledger, tenant.ID("acme"), 16))
	case "hang":
		options := []tenant.OpenOption{tenant.WithLease(time.Second)}
		if names := placesOver(db); names != nil {
			options = append(options, tenant.WithPlaces(names...))
		}
		ledger, err := tenant.Open(db, options...)
		require.NoError(t, err)
		_, err = ledger.Reserve(t.Context(), tenant.ID("acme"), tenant.Estimate{Cost: tenant.USD("0.25")})
		require.NoError(t, err)
		fmt.Println("holding")
		select {}
	default:
		words := strings.Fields(task)
		tasks[words[0]](t, db, words[1:])
	}
}
