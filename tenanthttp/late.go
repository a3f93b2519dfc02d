package tenanthttp

import (
	"errors"
	"net/http"
	"strconv"
	"sync"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/callctx"
	"github.com/llmtenant/tenant/internal/meter"
)

// background leaves a call that goes on in the background to the request that reads how it ended. Where that comes through
// another transport or another process, it is settled by the response's id, but for a call with an idempotency key of its
// own.
func (c *call) background(id string) {
	t := c.transport
	err := t.books.Defer(c.request.Context(), c.hold, backgroundKey(id))
	if errors.Is(err, tenant.ErrDuplicate) {
		c.release() // the provider has taken it for a call that it had: that one is charged
		return
	}
	c.deferred = err == nil
	if evicted := t.late.put(c.request.URL.Host, id, c); evicted != nil && !evicted.deferred {
		evicted.settle(evicted.unknown(tenant.Actual{}))
	}
}

// backgroundKey is the idempotency key of a call that goes on. Ids are opaque, and may be no keys.
func backgroundKey(id string) string { return plainKey("response/", id) }

// late keeps the calls that go on in the background, by what a later request asks for: their holds stay until then, or
// until the ledger ends them. Whoever has made a call knows more of it than its response says.
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
	resp, err := t.send(r)
	if err != nil || resp == nil || resp.StatusCode/100 != 2 {
		return resp, err
	}
	reader := meter.NewReader(e, resp.StatusCode, resp.Header)
	b := &body{inner: resp.Body, status: resp.StatusCode, reader: reader}
	b.ended = func(b *body, err error) { t.retrieved(r, e, b, reader.Result(), err) }
	b.follow(r.Context(), resp)
	return resp, nil
}

func (t *Transport) retrieved(r *http.Request, e meter.Endpoint, b *body, result *meter.Result, err error) {
	if result.Pending || !result.Complete && !e.Download {
		return
	}
	if c := t.late.take(r.URL.Host, result.ID); c != nil {
		if e.Download { // there is nothing to download before it is made
			c.settle(c.made(tenant.Actual{}, result))
		} else {
			c.settle(c.actual(b, result, err))
		}
		return
	}
	if result.ID == "" || result.Implausible {
		return // its hold is charged in the end
	}
	a := tenant.Actual{Model: result.Model, RequestID: result.RequestID, ServiceTier: result.ServiceTier, ReportedCost: stated(result)}
	if result.Found {
		var used book.Usage
		used, a.Estimated = result.Charged(0)
		a.Usage = tenant.Usage(used)
	}
	switch {
	case result.Failed:
		a.ErrorCode, a.Cost = "error", tenant.USDFrom(decimal.Zero)
	case e.Kind == meter.Video && !result.Found:
		a.AsHeld = true // its request has said how long it is to be, and its result does not
	case !result.Found && result.ReportedCost < 0:
		return
	}
	var others []meter.ModelUsage
	for _, also := range result.Also {
		if also.Model == "" || also.Model == a.Model {
			a.Usage = tenant.Usage(book.Usage(a.Usage).Plus(also.Usage))
		} else {
			others = append(others, also)
		}
	}
	ctx := r.Context()
	who, _ := tenant.TenantFromContext(ctx)
	key := backgroundKey(result.ID)
	also := sync.OnceFunc(func() {
		for i, also := range others {
			if t.record(r, key+"/"+strconv.Itoa(i), result.Provider, also, a) != nil {
				t.report(r, e.Service)
			}
		}
	})
	if len(others) > 0 {
		ctx = callctx.WithScope(ctx, &whenSettled{around: callctx.ScopeOf(ctx), do: also})
	}
	s, err := t.books.SettleDeferred(ctx, who, key, a)
	if err != nil || s.Outcome == tenant.Pending {
		return // most replies that can be read again were not made in the background
	}
	also()
}

// whenSettled is a scope of a call that something has to follow: also where the call is pending, and it is not known yet
// whether there is one.
type whenSettled struct {
	around callctx.Scope // nil where there is none
	do     func()
}

// Settled implements [callctx.Scope].
func (w *whenSettled) Settled(event any) {
	if w.around != nil {
		w.around.Settled(event)
	}
	if e, ok := event.(*tenant.SettledEvent); ok && !e.Pending {
		go w.do()
	}
}

// A conversation goes on with the model that it has begun with, which its later requests do not name.
type conversations struct {
	mu     sync.Mutex
	models map[lateKey]string
	order  []lateKey // the oldest first
}

const mostConversations = 4096

func (c *conversations) put(host, id, model string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.models == nil {
		c.models = make(map[lateKey]string)
	}
	key := lateKey{host, id}
	if _, known := c.models[key]; !known {
		c.order = append(c.order, key)
	}
	c.models[key] = model
	if len(c.order) > mostConversations {
		delete(c.models, c.order[0])
		c.order = c.order[1:]
	}
}

func (c *conversations) model(host, id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.models[lateKey{host, id}]
}
