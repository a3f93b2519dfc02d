package pgtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	superuser = "postgres"

	// restartTimeout bounds how long a start waits for what a killed server still holds: its port and its memory.
	restartTimeout = 2 * time.Minute

	// stopTimeout is how long a server gets before it is killed. Postgres gives its own children five seconds.
	stopTimeout = time.Minute

	// pollInterval is how often a starting server is tried: it has no other way to say that it takes connections.
	pollInterval = 20 * time.Millisecond
)

// launchScript leaves its process id in the folder before it turns into the command, so that there is no moment at
// which the watchdog could miss the process.
const launchScript = `echo $$ >"$1/pid" && shift && exec "$@"`

// watchScript waits for the end of its input, which comes when the test binary closes it or dies of whatever cause, and
// then removes the folder and the process that works in it.
const watchScript = `
read -r _
if pid=$(cat "$1/pid" 2>/dev/null); then
	kill -QUIT "$pid"
	tries=100
	while kill -0 "$pid" && [ "$tries" -gt 0 ]; do sleep 0.1; tries=$((tries - 1)); done
	kill -KILL "$pid"
fi 2>/dev/null
rm -rf "$1"
`

// cluster is a throw-away Postgres server. It listens on 127.0.0.1 alone: the path of a Unix socket may not be longer
// than about 100 bytes, and temporary folders often are.
type cluster struct {
	postgres *installation
	dir      string // holds all that the server writes; removed with it
	port     int
	password string // tells our server from another that took the port first

	watchdog *exec.Cmd
	leash    io.Closer // the watchdog's input

	process *os.Process   // of the server, or nil while it is stopped
	exited  chan struct{} // closed once process is gone
}

// newCluster makes and starts a server. Its caller closes it.
func newCluster(ctx context.Context) (_ *cluster, err error) {
	postgres, err := findInstallation(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(postgres.tempDir(), "pgtest-")
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	c := &cluster{postgres: postgres, dir: dir, password: rand.Text()}
	if err := c.watch(); err != nil {
		return nil, errors.Join(fmt.Errorf("pgtest: start the watchdog: %w", err), os.RemoveAll(dir))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	if err := c.initialise(ctx); err != nil {
		return nil, err
	}
	// Someone else may take a port between our look and the server's start; three in a row is another defect.
	for range 3 {
		if c.port, err = freePort(); err != nil {
			return nil, err
		}
		if err = c.start(ctx); err == nil {
			return c, nil
		}
	}
	return nil, err
}

func (c *cluster) url(database string) string {
	return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s?sslmode=disable", superuser, c.password, c.port, database)
}

// watch starts the process that outlives this one for as long as it takes to remove the cluster.
func (c *cluster) watch() error {
	c.watchdog = exec.Command("/bin/sh", "-c", watchScript, "sh", c.dir)
	c.watchdog.Dir = "/"
	// A session of its own: what kills the test binary's process group must not kill what cleans up after it.
	c.watchdog.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	leash, err := c.watchdog.StdinPipe()
	if err != nil {
		return err
	}
	c.leash = leash
	return c.watchdog.Start()
}

// close stops the server and returns when nothing of it is left.
func (c *cluster) close() error {
	err := c.stop(syscall.SIGQUIT)
	err = errors.Join(err, c.leash.Close(), c.watchdog.Wait())
	if err != nil {
		return fmt.Errorf("pgtest: stop the cluster: %w", err)
	}
	return nil
}

func (c *cluster) initialise(ctx context.Context) error {
	passwordFile := filepath.Join(c.dir, "password")
	if err := os.WriteFile(passwordFile, []byte(c.password+"\n"), 0o600); err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	if err := c.postgres.own(c.dir, passwordFile); err != nil {
		return fmt.Errorf("pgtest: %w", err)
	}
	// --no-sync spares the disk while there is nothing yet that a crash could lose; the server itself syncs. md5 tells our server from
	// another as well as scram-sha-256 does, whose thousands of rounds are most of what a test's connection takes of its client.
	done, err := c.launch("initdb", "--pgdata", c.data(), "--username", superuser, "--pwfile", passwordFile,
		"--auth", "md5", "--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions")
	if err != nil {
		return fmt.Errorf("pgtest: initdb: %w", err)
	}
	select {
	case <-done:
		c.process = nil
	case <-ctx.Done():
		return fmt.Errorf("pgtest: initdb: %w", ctx.Err())
	}
	if _, err := os.Stat(filepath.Join(c.data(), "global", "pg_control")); err != nil {
		return fmt.Errorf("pgtest: initdb failed; it said:\n%s", c.logTail())
	}
	return nil
}

// start starts the server, and returns when it takes connections.
func (c *cluster) start(ctx context.Context) error {
	exited, err := c.launch("postgres", "-D", c.data(), "-p", strconv.Itoa(c.port),
		"-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=",
		"-c", "max_connections=200",
		"-c", "timezone=GMT", // not the zone of whoever runs the tests; this name of UTC needs no zone files
		"-c", "update_process_title=off", // which it would write for each statement
		"-c", "jit=off", // its compiler is a library of its own, which downloaded binaries come without
	)
	if err != nil {
		return fmt.Errorf("pgtest: start postgres: %w", err)
	}
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		conn, err := pgx.Connect(ctx, c.url("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-exited:
			c.process = nil
			return fmt.Errorf("pgtest: postgres did not start; it said:\n%s", c.logTail())
		case <-ctx.Done():
			return fmt.Errorf("pgtest: postgres did not start: %w; it said:\n%s", err, c.logTail())
		case <-poll.C:
		}
	}
}

// restart starts a server that was stopped, at the same port.
func (c *cluster) restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, restartTimeout)
	defer cancel()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for {
		err := c.start(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		<-poll.C
	}
}

// stop sends the server a signal and waits until it is gone. It does nothing to a stopped one.
func (c *cluster) stop(signal syscall.Signal) error {
	if c.process == nil {
		return nil
	}
	process := c.process
	c.process = nil
	if err := process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timeout := time.NewTimer(stopTimeout)
	defer timeout.Stop()
	select {
	case <-c.exited:
		return nil
	case <-timeout.C:
		err := process.Kill()
		<-c.exited
		return errors.Join(fmt.Errorf("postgres ignored signal %v for %v and was killed", signal, stopTimeout), err)
	}
}

// launch starts one of Postgres's programs as the process that the watchdog watches. The channel is closed when it has
// ended.
func (c *cluster) launch(program string, args ...string) (<-chan struct{}, error) {
	log, err := os.OpenFile(c.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // ours; the program has its own
	program = filepath.Join(c.postgres.bin, program)
	cmd := exec.Command("/bin/sh", append([]string{"-c", launchScript, "sh", c.dir, program}, args...)...)
	// Its output is a file and not ours: "go test" waits for whoever holds the test's output.
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = c.dir // the test's own folder may be closed to the user that the server runs as
	cmd.Env = c.postgres.environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: c.postgres.user}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	exited := make(chan struct{})
	c.process, c.exited = cmd.Process, exited
	go func() {
		defer close(exited)
		_ = cmd.Wait() // what it was is in the log
		_ = os.Remove(filepath.Join(c.dir, "pid"))
	}()
	return exited, nil
}

func (c *cluster) data() string { return filepath.Join(c.dir, "data") }

func (c *cluster) log() string { return filepath.Join(c.dir, "log") }

// logTail returns the end of what the programs wrote, for an error message.
func (c *cluster) logTail() string {
	log, err := os.ReadFile(c.log())
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(log), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-20):], []byte("\n")))
}

// freePort returns a port that nothing listens on. It is below the range from which systems hand out ports to clients:
// a client could otherwise take it while the server is stopped.
func freePort() (int, error) {
	const first, end = 10240, 32768
	var err error
	for range 100 {
		port := first + mathrand.IntN(end-first)
		var listener net.Listener
		if listener, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, listener.Close()
		}
	}
	return 0, fmt.Errorf("pgtest: no free port: %w", err)
}
