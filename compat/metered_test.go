package compat_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/compat/internal/harness"
	"github.com/llmtenant/tenant/tenanthttp"
	"github.com/llmtenant/tenant/tenanttest"
)

// metered is for what one provider has and the others do not: a server that says what a test wants, and a client that
// meters what goes there.
type metered struct {
	t      *testing.T
	db     *gorm.DB
	ledger *tenant.Ledger
	client *http.Client
	url    string
	ctx    context.Context //nolint:containedctx // of the test, with the tenant in it

	mu        sync.Mutex
	got       []*harness.Request
	unmetered int
}

const acme = tenant.ID("acme")

func newMetered(t *testing.T, limits tenant.Limits, answer func(*harness.Request) harness.Reply, options ...tenanthttp.Option) *metered {
	t.Helper()
	m := &metered{t: t, ctx: tenant.ContextWithTenant(t.Context(), acme)}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.serve(w, r, answer) }))
	t.Cleanup(server.Close)
	m.url = server.URL
	m.db, m.ledger = tenanttest.Open(t, tenant.WithPrices(anyModel{}), tenant.WithObserver(m),
		tenant.WithDefaultLimits(limits), tenant.WithDefaultEnforcement(tenant.Hard))
	transport, err := tenanthttp.NewTransport(m.ledger, server.Client().Transport, options...)
	require.NoError(t, err)
	t.Cleanup(transport.CloseIdleConnections)
	m.client = &http.Client{Transport: transport}
	return m
}

func (m *metered) serve(w http.ResponseWriter, r *http.Request, answer func(*harness.Request) harness.Reply) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller has gone
	}
	request := &harness.Request{Method: r.Method, Host: r.Host, Path: r.URL.RequestURI(), Header: r.Header.Clone(), Body: body}
	m.mu.Lock()
	m.got = append(m.got, request)
	m.mu.Unlock()
	reply := answer(request)
	for name, values := range reply.Header {
		w.Header()[name] = values
	}
	if reply.Status != 0 {
		w.WriteHeader(reply.Status)
	}
	for _, part := range reply.Parts {
		_, _ = io.WriteString(w, part.Data)
	}
}

// requests are those that the server has got.
func (m *metered) requests() []*harness.Request {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]*harness.Request(nil), m.got...)
}

// Observe implements tenant.Observer.
func (m *metered) Observe(_ context.Context, e tenant.Event) {
	if _, ok := e.(*tenant.UnmeteredEvent); ok {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.unmetered++
	}
}

// executions are all calls on the books, the oldest first. The books agree with them.
func (m *metered) executions() []tenant.Execution {
	m.t.Helper()
	var all []tenant.Execution
	require.NoError(m.t, tenant.Executions(m.ctx, m.db, acme).Order("id").Find(&all).Error)
	differences, err := m.ledger.Verify(m.ctx)
	require.NoError(m.t, err)
	require.Empty(m.t, differences)
	m.mu.Lock()
	defer m.mu.Unlock()
	require.Zero(m.t, m.unmetered, "a request was not recognised")
	return all
}

// execution is the one call on the books.
func (m *metered) execution() tenant.Execution {
	m.t.Helper()
	all := m.executions()
	require.Len(m.t, all, 1)
	return all[0]
}

// anyModel is a price book: $1 per million tokens of input, $2 of output, and a cent for a web search. What is called
// free costs nothing, and what is called unheard-of has no price.
type anyModel struct{}

// Price implements tenant.Prices.
func (anyModel) Price(_, model string, _ time.Time) (tenant.Price, bool) {
	const dollarPerMillion, cent = 1_000_000_000, 10_000_000
	switch model {
	case freeModel:
		return tenant.Price{Model: model}, true
	case unheardOf:
		return tenant.Price{}, false
	}
	return tenant.Price{Model: model, Rates: tenant.Rates{Input: dollarPerMillion, Output: 2 * dollarPerMillion, WebSearch: cent}}, true
}

const (
	freeModel = "free-model"
	unheardOf = "unheard-of"
)

var tenDollars = tenant.Limits{DailyCost: tenant.USD("10")}

// replies is a server that always says the same.
func replies(body string) func(*harness.Request) harness.Reply {
	return func(*harness.Request) harness.Reply {
		return harness.Reply{Header: http.Header{"Content-Type": {"application/json"}}, Parts: []harness.Part{{Data: body}}}
	}
}
