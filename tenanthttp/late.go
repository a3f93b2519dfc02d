package tenanthttp

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/meter"
)

// late keeps the calls that go on in the background, by what a later request asks for: their holds stay until then, or
// until the ledger ends them.
type late struct {
	mu    sync.Mutex
	calls map[lateKey]*call
	order []lateKey // the oldest first; some may be gone
}

type lateKey struct{ host, id string }

const mostLate = 1024

// put keeps a call, and returns the one that has no room any more, if there is one.
func (l *late) put(host, id string, c *call) (evicted *call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.calls == nil {
		l.calls = make(map[lateKey]*call)
	}
	key := lateKey{host, id}
	evicted = l.calls[key]
	l.calls[key] = c
	l.order = append(l.order, key)
	for len(l.order) > mostLate {
		oldest := l.order[0]
		l.order = l.order[1:]
		if gone := l.calls[oldest]; gone != nil {
			delete(l.calls, oldest)
			return gone
		}
	}
	return evicted
}

// take returns the call, once.
func (l *late) take(host, id string) *call {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := lateKey{host, id}
	c := l.calls[key]
	delete(l.calls, key)
	return c
}

// retrieve passes on a request for a reply that an earlier request has made, and books what was not known then.
func (t *Transport) retrieve(r *http.Request, e meter.Endpoint) (*http.Response, error) {
	resp, err := t.base.RoundTrip(r)
	if err != nil || resp == nil || resp.StatusCode/100 != 2 {
		return resp, err
	}
	b := &body{inner: resp.Body, status: resp.StatusCode, reader: meter.NewReader(e, resp.StatusCode, resp.Header)}
	b.ended = func(b *body, err error) { t.retrieved(r, e, b, err) }
	b.follow(r.Context(), resp)
	return resp, nil
}

func (t *Transport) retrieved(r *http.Request, e meter.Endpoint, b *body, err error) {
	result := b.reader.Result()
	if e.Kind == meter.BatchResults {
		t.batch(r, e, result)
		return
	}
	if result.Pending || !result.Complete {
		return
	}
	if c := t.late.take(r.URL.Host, result.ID); c != nil {
		c.settle(c.actual(b, result, err))
	}
}

// batch books the results of a batch, by model, each time that they are fetched; the idempotency key makes that once.
func (t *Transport) batch(r *http.Request, e meter.Endpoint, result *meter.Result) {
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if !result.Complete || result.Implausible || !result.Found || len(path) < 2 {
		t.report(r) // not all of it is known; fetched again, it is
		return
	}
	ctx := r.Context()
	who, _ := tenant.FromContext(ctx)
	used := append([]meter.ModelUsage{{Model: result.Model, Usage: result.Usage}}, result.Also...)
	for _, m := range used {
		options := slices.Concat(scopeOf(ctx).options,
			[]tenant.CallOption{tenant.WithIdempotencyKey("batch/" + path[len(path)-2] + "/" + m.Model)})
		_, err := t.books.Record(ctx, who, tenant.Actual{
			Provider: e.Provider, Model: m.Model, Usage: tenant.Usage(m.Usage), ServiceTier: "batch",
		}, options...)
		if err != nil && !errors.Is(err, tenant.ErrDuplicate) {
			t.report(r)
		}
	}
}
