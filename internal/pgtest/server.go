package pgtest

import (
	"syscall"
	"testing"
)

// Mode is a way to stop a Server.
type Mode syscall.Signal

const (
	// Fast ends all sessions and shuts the server down cleanly.
	Fast = Mode(syscall.SIGINT)
	// Immediate ends the server without a shutdown: the next start recovers from the log, as after a loss of power.
	Immediate = Mode(syscall.SIGQUIT)
	// Kill kills the server's main process. Its sessions end on their own a little later.
	Kill = Mode(syscall.SIGKILL)
)

// Server is a cluster of one test's own, for tests that take the database down. Its methods may not be called by
// several goroutines at once, and fail the test themselves, so that they belong on the test's goroutine.
type Server struct {
	t       testing.TB
	cluster *cluster
	url     string
}

// Cluster starts a server for this test alone, even if $TENANT_TEST_DATABASE_URL is set, with one database to which all
// migrations are applied. The server is removed when the test ends. It takes a second or two: tests that leave the
// server alone use DSN.
func Cluster(t testing.TB) *Server {
	t.Helper()
	server, err := Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Server{t: t, cluster: server.cluster, url: server.url}
}

// URL returns the URL of the migrated database. It stays the same when the server is stopped and started.
func (s *Server) URL() string { return s.url }

// Stop stops the server, and returns when it is gone. It does nothing to a stopped one.
func (s *Server) Stop(mode Mode) {
	s.t.Helper()
	if err := s.cluster.stop(syscall.Signal(mode)); err != nil {
		s.t.Fatalf("pgtest: stop the server: %v", err)
	}
}

// Start starts the server after a Stop, and returns when it takes connections. It does nothing to a running one.
func (s *Server) Start() {
	s.t.Helper()
	if s.cluster.process != nil {
		return
	}
	if err := s.cluster.restart(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}
