package tenanthttp_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
	"github.com/llmtenant/tenant/tenanttest"
)

const acme = tenant.ID("acme")

// A bench is a provider on loopback, a ledger, and a client that meters what goes from one to the other.
type bench struct {
	t         *testing.T
	db        *gorm.DB
	ledger    *tenant.Ledger
	server    *httptest.Server
	transport *tenanthttp.Transport
	client    *http.Client
	witness   *witness
	ctx       context.Context //nolint:containedctx // of the test, with the tenant in it
}

type setting struct {
	limits  tenant.Limits
	options []tenanthttp.Option
	prices  tenant.Prices // nil: tenanttest's
	http2   bool
}

func newBench(t *testing.T, s setting, handler http.HandlerFunc) *bench {
	t.Helper()
	b := &bench{t: t, witness: &witness{}, ctx: tenant.ContextWithTenant(t.Context(), acme)}
	b.server = httptest.NewUnstartedServer(handler)
	b.server.EnableHTTP2 = s.http2
	if s.http2 {
		b.server.StartTLS()
	} else {
		b.server.Start()
	}
	t.Cleanup(b.server.Close)
	open := []tenant.OpenOption{tenant.WithObserver(b.witness), tenant.WithDefaultLimits(s.limits), tenant.WithDefaultEnforcement(tenant.Hard)}
	if s.prices != nil {
		open = append(open, tenant.WithPrices(s.prices))
	}
	b.db, b.ledger = tenanttest.Open(t, open...)
	base := b.server.Client().Transport
	t.Cleanup(b.server.Client().CloseIdleConnections)
	var err error
	b.transport, err = tenanthttp.NewTransport(b.ledger, base, s.options...)
	require.NoError(t, err)
	b.client = &http.Client{Transport: b.transport}
	return b
}

// sameBytes is for what must not only mean the same.
func sameBytes(t *testing.T, want, got string) {
	t.Helper()
	require.Equal(t, want, got)
}

// request makes a request to the provider.
func (b *bench) request(ctx context.Context, method, path, body string) *http.Request {
	b.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, b.server.URL+path, strings.NewReader(body))
	require.NoError(b.t, err)
	r.Header.Set("Content-Type", "application/json")
	return r
}

// reply is a reply that was read to its end.
type reply struct {
	StatusCode      int
	Header, Trailer http.Header
}

// do sends a request, and reads all of the reply.
func (b *bench) do(r *http.Request) (reply, string) {
	b.t.Helper()
	resp, err := b.client.Do(r)
	require.NoError(b.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	return reply{resp.StatusCode, resp.Header, resp.Trailer}, string(body)
}

func (b *bench) post(path, body string) (reply, string) {
	b.t.Helper()
	return b.do(b.request(b.ctx, http.MethodPost, path, body))
}

// executions are all calls on the books, the oldest first.
func (b *bench) executions() []tenant.Execution {
	b.t.Helper()
	var all []tenant.Execution
	require.NoError(b.t, tenant.Executions(b.t.Context(), b.db, acme).Order("id").Find(&all).Error)
	return all
}

// execution is the one call on the books.
func (b *bench) execution() tenant.Execution {
	b.t.Helper()
	all := b.executions()
	require.Len(b.t, all, 1)
	return all[0]
}

// replies is a provider that always says the same.
func replies(contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, body)
	}
}

// keeps is a handler that keeps the bodies of the requests that it is given.
type keeps struct {
	mu     sync.Mutex
	bodies []string
}

func (k *keeps) then(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		k.mu.Lock()
		k.bodies = append(k.bodies, string(body))
		k.mu.Unlock()
		h(w, r)
	}
}

func (k *keeps) last() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.bodies[len(k.bodies)-1]
}

// witness keeps what the observer hears.
type witness struct {
	mu     sync.Mutex
	events []tenant.Event
}

func (w *witness) Observe(_ context.Context, e tenant.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

func (w *witness) hostErrors() (heard []tenant.HostErrorEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e, ok := e.(*tenant.HostErrorEvent); ok {
			heard = append(heard, *e)
		}
	}
	return heard
}

func (w *witness) unmetered() (heard []tenant.UnmeteredEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e, ok := e.(*tenant.UnmeteredEvent); ok {
			heard = append(heard, *e)
		}
	}
	return heard
}

const (
	chat     = "/v1/chat/completions"
	messages = "/v1/messages"

	ask       = `{"model":"test-model","max_tokens":1000,"messages":[{"role":"user","content":"Hello"}]}`
	askStream = `{"model":"test-model","max_tokens":1000,"stream":true,"messages":[{"role":"user","content":"Hello"}]}`

	// 1,000 of input and 500 of output cost $0.002.
	answer = `{"id":"chatcmpl-1","model":"test-model","choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],` +
		`"usage":{"prompt_tokens":1000,"completion_tokens":500,"prompt_tokens_details":{"cached_tokens":200}}}`
)

// events writes server-sent events.
func events(data ...string) string {
	var s strings.Builder
	for _, d := range data {
		s.WriteString("data: " + d + "\n\n")
	}
	return s.String()
}

const (
	chunk      = `{"id":"chatcmpl-1","model":"test-model","choices":[{"delta":{"content":"Hello there"}}]}`
	lastChunk  = `{"id":"chatcmpl-1","model":"test-model","choices":[{"delta":{},"finish_reason":"stop"}]}`
	usageChunk = `{"id":"chatcmpl-1","model":"test-model","choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":500}}`
)

// executionsRaw are all calls on the books of a ledger that is closed.
func (b *bench) executionsRaw() []tenant.Execution {
	b.t.Helper()
	var all []tenant.Execution
	require.NoError(b.t, b.db.Order("id").Find(&all).Error)
	return all
}
