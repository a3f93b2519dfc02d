package pgtest

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCluster_GoesWithItsBinary(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"kill", "panic"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			binary, err := os.Executable()
			require.NoError(t, err)
			helper := exec.CommandContext(t.Context(), binary)
			helper.Env = append(os.Environ(), endVariable+"="+end, URLVariable+"=")
			output, err := helper.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, helper.Start())

			line, err := bufio.NewReader(output).ReadString('\n')
			require.NoError(t, err)
			dir := strings.TrimSpace(line)
			postgres := 0
			if end == "kill" { // the other is over before there is time to look
				postgres = mainProcess(t, dir)
				require.NoError(t, syscall.Kill(postgres, 0), "the server runs")
				require.NoError(t, helper.Process.Kill())
			}
			_ = helper.Wait() // its exit code is what the way of its end makes it

			require.Eventually(t, func() bool {
				_, err := os.Stat(dir)
				return os.IsNotExist(err)
			}, time.Minute, 20*time.Millisecond, "the folder goes last")
			require.True(t, postgres == 0 || gone(postgres))
		})
	}
}

func TestCluster_KeepsItsDataAndURLOverEachKindOfStop(t *testing.T) {
	t.Parallel()
	server := Cluster(t)
	url := server.URL()
	conn := connect(t, url)
	require.True(t, hasTable(t, conn, "llm_migrations"))
	_, err := conn.Exec(t.Context(), "CREATE TABLE stops (mode int)")
	require.NoError(t, err)

	for _, mode := range []Mode{Fast, Immediate, Kill} {
		_, err := connect(t, url).Exec(t.Context(), "INSERT INTO stops VALUES ($1)", int(mode))
		require.NoError(t, err)

		server.Stop(mode)
		server.Stop(mode) // does nothing
		// A backend whose server was killed goes on until it notices.
		require.Eventually(t, func() bool { return conn.Ping(t.Context()) != nil }, time.Minute, time.Millisecond)

		server.Start()
		server.Start() // does nothing
		require.Equal(t, url, server.URL())
		conn = connect(t, url)
		var n int
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM stops WHERE mode = $1", int(mode)).Scan(&n))
		require.Equal(t, 1, n)
	}
}

func TestCluster_OfAStoppedServerIsRemoved(t *testing.T) {
	t.Parallel()
	var dir string
	t.Run("test", func(t *testing.T) {
		server := Cluster(t)
		dir = server.cluster.dir
		server.Stop(Immediate)
	})
	require.NoDirExists(t, dir)
}

func TestServer_ThatDoesNotStartSaysWhy(t *testing.T) {
	t.Parallel()
	server := Cluster(t)
	server.Stop(Fast)
	config := filepath.Join(server.cluster.data(), "postgresql.conf")
	require.NoError(t, os.WriteFile(config, []byte("no_such_setting = on\n"), 0o600))

	err := server.cluster.start(t.Context())
	require.ErrorContains(t, err, "no_such_setting")
}

func TestCluster_WorksInFoldersTooLongForASocket(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	require.NoError(t, os.MkdirAll(long, 0o755))
	t.Setenv("TMPDIR", long)
	server := Cluster(t)
	require.NoError(t, connect(t, server.URL()).Ping(t.Context()))
}

// mainProcess reads the process id that Postgres itself leaves in its folder.
func mainProcess(t *testing.T, dir string) int {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, "data", "postmaster.pid"))
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.SplitN(string(content), "\n", 2)[0])
	require.NoError(t, err)
	return pid
}

// gone reports whether a process has ended. One whose parent was killed may stay listed until init looks after it.
func gone(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err != nil || strings.Contains(string(status), ") Z ")
}
