package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/pgtest"
)

// asMain makes the test binary the program itself.
const asMain = "SAAS_AS_MAIN"

const adminKey = "the-key-of-the-operators"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
		os.Exit(0)
	}
	pgtest.Main(m)
}

// instance is the service, as a process of its own.
type instance struct {
	url    string
	cmd    *exec.Cmd
	ended  chan error
	errors bytes.Buffer
}

// program is the program with arguments, without a key of a provider's.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, args...) //nolint:gosec // the test's own binary, which the test ends
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "OPENAI_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, asMain+"=1", "SAAS_ADMIN_KEY="+adminKey)
	return cmd
}

// start starts an instance on a database, and returns it when it serves.
func start(t *testing.T, db string, args ...string) *instance {
	t.Helper()
	i := &instance{ended: make(chan error, 1)}
	i.cmd = program(t, append([]string{"-addr", "127.0.0.1:0", "-db", db, "-lease", "3s", "-pace", "2ms"}, args...)...)
	i.cmd.Stderr = &i.errors
	out, err := i.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, i.cmd.Start())
	lines := bufio.NewScanner(out)
	for i.url == "" && lines.Scan() {
		if at, ok := strings.CutPrefix(lines.Text(), "Customers  "); ok {
			i.url = strings.TrimSuffix(at, "/")
		}
	}
	go func() {
		_, _ = io.Copy(io.Discard, out)
		i.ended <- i.cmd.Wait()
	}()
	if i.url == "" {
		t.Fatalf("it did not start: %v: %s", <-i.ended, i.errors.String())
	}
	t.Cleanup(func() { _ = i.cmd.Process.Kill() })
	return i
}

// kill ends it in the middle of what it does.
func (i *instance) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, i.cmd.Process.Kill())
	require.Error(t, <-i.ended)
}

// stop ends it as an operator does.
func (i *instance) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, i.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, <-i.ended, i.errors.String())
}

// customer is an organization that has signed up.
type customer struct {
	Organization, Key string
}

func signUp(t *testing.T, i *instance, name string) customer {
	t.Helper()
	got := i.post(t.Context(), t, "", "/signup", form, url.Values{"name": {name}}.Encode())
	require.Equal(t, http.StatusCreated, got.status, got.body)
	var c customer
	require.NoError(t, json.Unmarshal([]byte(got.body), &c))
	return c
}

func (i *instance) takePlan(t *testing.T, c customer, plan string) {
	t.Helper()
	require.Equal(t, http.StatusSeeOther, i.post(t.Context(), t, c.Key, "/plan", form, "plan="+plan).status)
}

const (
	form    = "application/x-www-form-urlencoded"
	asJSON  = "application/json"
	whyText = `{"question":"Why is the sky blue?"}`
)

// got is what a request was answered with.
type got struct {
	status int
	header http.Header
	body   string
}

var client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func (i *instance) post(ctx context.Context, t *testing.T, key, path, contentType, body string) got {
	t.Helper()
	g, err := i.try(ctx, key, path, contentType, body)
	require.NoError(t, err)
	return g
}

// try is post for an instance that may be killed meanwhile.
func (i *instance) try(ctx context.Context, key, path, contentType, body string) (got, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, i.url+path, strings.NewReader(body))
	if err != nil {
		return got{}, err
	}
	r.Header.Set("Accept", asJSON)
	r.Header.Set("Content-Type", contentType)
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	return answered(r)
}

// get asks for a page, as a browser does.
func (i *instance) get(t *testing.T, path, cookie, value string) got {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, i.url+path, http.NoBody)
	require.NoError(t, err)
	if value != "" {
		r.AddCookie(&http.Cookie{Name: cookie, Value: value})
	}
	g, err := answered(r)
	require.NoError(t, err)
	return g
}

func answered(r *http.Request) (got, error) {
	resp, err := client.Do(r)
	if err != nil {
		return got{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return got{resp.StatusCode, resp.Header, string(body)}, err
}

// load is many clients of all customers, on whichever instance there is.
type load struct {
	mu        sync.Mutex
	instances []*instance
	answers   map[string]answer // by execution
	owners    map[string]string // of executions
	refused   map[string]int    // by organization
	began     time.Time
	oneDay    bool // it did not go over a midnight, at which budgets begin again

	answered atomic.Int64
	stopped  atomic.Bool
	clients  sync.WaitGroup
}

func newLoad(t *testing.T, instances []*instance, customers []customer) *load {
	l := &load{instances: instances, answers: map[string]answer{}, owners: map[string]string{}, refused: map[string]int{}, began: time.Now().UTC()}
	for _, c := range customers {
		for n := range 2 {
			l.clients.Go(func() { l.chat(t, c, n) })
		}
	}
	t.Cleanup(l.stop)
	return l
}

func (l *load) use(instances ...*instance) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.instances = instances
}

func (l *load) stop() {
	l.stopped.Store(true)
	l.clients.Wait()
	l.oneDay = l.began.Day() == time.Now().UTC().Day()
}

// until waits until the clients have had so many more answers.
func (l *load) until(t *testing.T, more int64) {
	t.Helper()
	enough := l.answered.Load() + more
	require.Eventually(t, func() bool { return l.answered.Load() >= enough }, 2*time.Minute, 10*time.Millisecond)
}

// chat asks one question after the other, plain and streamed in turns, until the load ends. Whoever is refused goes on: his
// window may end, or his plan change.
func (l *load) chat(t *testing.T, c customer, n int) {
	for ; !l.stopped.Load(); n++ {
		l.mu.Lock()
		i := l.instances[n%len(l.instances)]
		l.mu.Unlock()
		path := "/api/chat"
		if n/2%2 == 1 {
			path += "/stream"
		}
		g, err := i.try(t.Context(), c.Key, path, asJSON, whyText)
		if err != nil {
			continue // the instance was killed
		}
		switch g.status {
		case http.StatusOK:
			if a, whole := answerIn(g.body); whole {
				l.mu.Lock()
				l.answers[a.Execution], l.owners[a.Execution] = a, c.Organization
				l.mu.Unlock()
				l.answered.Add(1)
			}
		case http.StatusPaymentRequired, http.StatusTooManyRequests:
			l.checkRefusal(t, c, g)
		default:
			assert.Failf(t, "a status that nobody expects", "%d %s", g.status, g.body)
			return
		}
	}
}

func (l *load) checkRefusal(t *testing.T, c customer, g got) {
	var shown struct {
		Error struct {
			Code, Message string
			Limit         struct{ Metric, Window, Limit string }
		}
	}
	if err := json.Unmarshal([]byte(g.body), &shown); err != nil {
		assert.Failf(t, "a refusal is JSON", "%v: %s", err, g.body)
		return
	}
	assert.NotEmpty(t, g.header.Get("Retry-After"))
	assert.NotEmpty(t, shown.Error.Message)
	assert.Equal(t, "cost", shown.Error.Limit.Metric, g.body)
	if g.status == http.StatusPaymentRequired {
		assert.Equal(t, "budget_exceeded", shown.Error.Code)
		l.mu.Lock()
		l.refused[c.Organization]++
		l.mu.Unlock()
	}
	select { // a client waits, so that those with room get through
	case <-time.After(20 * time.Millisecond):
	case <-t.Context().Done():
	}
}

// answerIn returns the answer in a body, plain or of events, and whether it came to its end.
func answerIn(text string) (a answer, whole bool) {
	if _, done, ok := strings.Cut(text, "event: done\ndata: "); ok {
		text, _, _ = strings.Cut(done, "\n")
	}
	return a, json.Unmarshal([]byte(text), &a) == nil && a.Execution != ""
}
