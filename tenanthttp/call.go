package tenanthttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/meter"
	"github.com/llmtenant/tenant/internal/money"
	"github.com/llmtenant/tenant/internal/report"
	"github.com/llmtenant/tenant/units"
)

// A call is one request that was admitted.
type call struct {
	transport *Transport
	request   *http.Request // the caller's, whose context says whose call it is
	endpoint  meter.Endpoint
	plan      *plan
	hold      *tenant.Hold
	deferred  bool // any process can settle it
	sent      connection
	trace     httptrace.ClientTrace // that follows it
}

// call admits a call, makes it, and sees to it that it is booked.
func (t *Transport) call(r *http.Request, e meter.Endpoint, body []byte) (*http.Response, error) {
	ctx := r.Context()
	c := &call{transport: t, request: r, endpoint: e, plan: t.plan(r, e, body)}
	who, _ := tenant.TenantFromContext(ctx)
	if who == nil && t.options.requireTenant {
		return t.hostError(r, e, c.plan.request.Model, tenant.ErrTenantRequired), nil
	}
	var err error
	c.hold, err = t.books.Reserve(ctx, who, c.plan.estimate, scopeOf(ctx).calls()...)
	switch {
	case err == nil:
	case ctx.Err() != nil || !refuses(err):
		return nil, err
	default:
		return refuse(r, e, err), nil
	}

	if called := t.books.ReportCall(ctx, report.Call{Hold: c.hold}); called != ctx {
		c.request = r.WithContext(called)
	}
	returned := false
	defer func() {
		if !returned {
			c.broke(errPanicked)
		}
	}()
	c.plan.limit(e, c.hold.OutputTokens)
	scopeOf(ctx).refusal(nil)
	resp, err := t.send(c.outgoing())
	returned = true
	if err != nil {
		c.broke(err)
		return resp, err
	}
	if resp == nil {
		err = errNoResponse
		c.broke(err)
		return nil, err
	}
	resp.Request = r
	c.replied(resp)
	return resp, nil
}

var (
	errPanicked   = errors.New("tenanthttp: the transport below panicked")
	errNoResponse = errors.New("tenanthttp: the transport below returned neither a response nor an error")
	errClosed     = errors.New("tenanthttp: the reply was closed before its end")
)

// read returns the request's body, which it closes.
func read(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	const room = 1 << 20 // that is believed of a length which may be wrong
	body := make([]byte, 0, min(max(r.ContentLength, 0), room)+1)
	var err error
	for err == nil {
		body = slices.Grow(body, 1)
		var n int
		n, err = r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if closing := r.Body.Close(); err == nil {
		err = closing
	}
	return body, err
}

// again returns a copy of a request whose body was read, with a body in its place.
func again(ctx context.Context, r *http.Request, body []byte) *http.Request {
	r = r.Clone(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		// http.Transport sends the header and a body in memory at once, if the body is of just these types.
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		r.Body, _ = r.GetBody()
		if r.ContentLength > 0 { // otherwise it is of unknown length, and is to stay so
			r.ContentLength = int64(len(body))
		}
	}
	return r
}

// outgoing returns the request to make: the caller's is not the transport's to change.
func (c *call) outgoing() *http.Request {
	c.trace.GetConn = func(string) { c.sent.wanted.Store(true) }
	c.trace.GotConn = func(httptrace.GotConnInfo) { c.sent.got.Store(true) }
	r := again(httptrace.WithClientTrace(c.request.Context(), &c.trace), c.request, c.plan.body)
	if c.plan.filter {
		// What is to be taken out of the reply must be readable. http.Transport compresses and decompresses unasked.
		r.Header.Del("Accept-Encoding")
	}
	return r
}

// connection follows whether a request can have reached the provider. A transport that says nothing of its connections
// leaves that open.
type connection struct{ wanted, got atomic.Bool }

func (c *connection) never() bool { return c.wanted.Load() && !c.got.Load() }

// broke books a call that brought no reply. Unless it was never sent, nobody knows what the provider bills.
func (c *call) broke(err error) {
	if c.sent.never() {
		c.release()
		return
	}
	c.settle(c.unknown(tenant.Actual{ErrorCode: errorCode(err)}))
}

// replied books a call whose reply has no body, and otherwise has its body book it.
func (c *call) replied(resp *http.Response) {
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		// What follows is not HTTP, and its body is more than a reader.
		c.transport.report(c.request, c.endpoint.Service)
		c.settle(c.unknown(tenant.Actual{}))
		return
	case resp.StatusCode/100 == 3:
		c.release() // where it leads to, if anybody follows, is a call of its own
		return
	}
	reader := pooled[meter.Reader](&c.transport.replies)
	reader.Reset(c.endpoint, resp.StatusCode, resp.Header)
	b := &body{inner: resp.Body, status: resp.StatusCode, reader: reader}
	b.ended = func(b *body, err error) {
		c.ended(b, reader.Result(), err)
		c.transport.replies.Put(reader) // nobody writes to it any more: see end
	}
	if c.plan.filter && filterable(resp) {
		b.filter = meter.NewUsageFilter()
		resp.ContentLength = -1
		resp.Header.Del("Content-Length")
	}
	b.follow(c.request.Context(), resp)
	if resp.StatusCode >= http.StatusBadRequest {
		b.ahead(resp)
	}
}

// ended books a call whose reply has ended, and says how: err is nil where it was read to its end.
func (c *call) ended(b *body, r *meter.Result, err error) {
	if c.endpoint.Format == meter.Conversations && r.ID != "" && r.Model != "" {
		c.transport.conversations.put(c.request.URL.Host, r.ID, r.Model)
	}
	if r.ID != "" && b.status/100 == 2 && (r.Pending || c.plan.request.Background && !r.Complete) {
		c.background(r.ID)
		return
	}
	c.settle(c.actual(b, r, err))
}

// actual says what a call is charged, by what its reply says.
func (c *call) actual(b *body, r *meter.Result, err error) tenant.Actual {
	a := tenant.Actual{Model: r.Model, RequestID: r.RequestID, ServiceTier: r.ServiceTier, ReportedCost: stated(r)}
	if !r.Complete {
		a.ErrorCode = errorCode(err)
	}
	if b.status >= http.StatusBadRequest {
		a.ErrorCode = "http_" + strconv.Itoa(b.status)
	}
	switch {
	case r.Replayed: // also where a call has a fee of its own
		a.Cost = tenant.USDFrom(decimal.Zero)
		return a
	case r.Implausible:
		return c.unknown(a)
	case r.Found:
	case (c.endpoint.Kind == meter.Video || c.endpoint.Format == meter.BedrockRerank) && r.Complete && !r.Failed && b.status/100 == 2:
		return c.made(a, r)
	case c.endpoint.Kind == meter.Speech && !r.Failed && b.status/100 == 2 && !c.plan.request.Units.IsZero():
		a.Usage.Units = c.plan.request.Units // all that is charged for was in the request
		return a
	case r.Failed && b.status < http.StatusBadRequest:
		a.ErrorCode = "error"
		return failed(a)
	case b.status >= http.StatusBadRequest && !b.lost():
		return failed(a)
	case b.status >= http.StatusBadRequest, !told(c.endpoint.Kind),
		c.plan.request.Background && r.OutputChars == 0, // it goes on, and nobody knows under which name
		c.missed(b, r, err):
		return c.unknown(a)
	}
	var u book.Usage
	likely := c.plan.input(r.Usage.WebSearches)
	u, a.Estimated = r.Charged(likely)
	if r.StatedChars > 0 && c.plan.request.Prompts > 1 { // only the first of the prompts was counted
		u.Input += max(likely-meter.Input(u), 0)
	}
	for i, also := range r.Also {
		if also.Model == "" || also.Model == a.Model || c.transport.record(c.request, fmt.Sprintf("%s/%d", c.hold.ExecutionID, i), c.endpoint.Provider, also, a) != nil {
			u = u.Plus(also.Usage)
		}
	}
	u.Units = said(u.Units, c.plan.request.Units)
	if c.endpoint.Kind == meter.Embeddings && c.endpoint.Format == meter.Invoke { // whose reply counts the text alone
		u.Units = c.plan.request.Units
	}
	a.Usage = tenant.Usage(u)
	return a
}

// made charges what the request has asked for by the piece, as far as it was made: some providers say no more of it.
func (c *call) made(a tenant.Actual, r *meter.Result) tenant.Actual {
	a.Estimated = true
	for unit, n := range c.plan.request.Units.All() {
		if asked := c.plan.request.Choices; r.Videos > 0 && r.Videos < asked {
			n = n / asked * r.Videos
		}
		a.Usage.Units = a.Usage.Units.Plus(units.Of(unit, n))
	}
	return a
}

// said adds to the units of a reply what their price depends on, where the request alone has said it.
func said(reply, request units.Counts) (all units.Counts) {
	for unit, n := range reply.All() {
		for asked := range request.All() {
			if unit.Covers(asked) {
				unit = asked
			}
		}
		all = all.Plus(units.Of(unit, n))
	}
	return all
}

// stated is the cost that a reply states, if it does.
func stated(r *meter.Result) tenant.Money {
	if r.ReportedCost < 0 {
		return tenant.Money{}
	}
	return tenant.USDFrom(money.Decimal(r.ReportedCost))
}

// failed charges nothing, unless the provider has stated a cost that the price charges.
func failed(a tenant.Actual) tenant.Actual {
	a.Cost, a.Estimated = tenant.USDFrom(decimal.Zero), a.ReportedCost != (tenant.Money{})
	return a
}

// missed reports whether a reply that states no usage may have had output which was not read.
func (c *call) missed(b *body, r *meter.Result, err error) bool {
	switch {
	case err != nil: // what came of a stream is known, and nothing of what was made as a whole
		return !r.Complete && !c.plan.request.Stream
	case r.Complete:
		return b.some && !r.Read && c.plan.answer > 0
	default: // Ollama sends one document that says it is not the last, where it has stopped the model
		return b.some && r.OutputChars == 0 || !c.plan.request.Stream && !r.Whole
	}
}

// told reports whether a reply of the kind shows how much output there is.
func told(k meter.Kind) bool {
	switch k {
	case meter.Images, meter.Speech, meter.Transcription, meter.OCR, meter.Video:
		return false
	}
	return true
}

// record books what another model used for the call, as an execution of its own, so that it has that model's price.
func (t *Transport) record(r *http.Request, key, provider string, m meter.ModelUsage, of tenant.Actual) error {
	ctx := r.Context()
	who, _ := tenant.TenantFromContext(ctx)
	options := append(scopeOf(ctx).records(), tenant.WithIdempotencyKey(key))
	_, err := t.books.Record(ctx, who, tenant.Actual{
		Provider: provider, Model: m.Model, Usage: tenant.Usage(m.Usage), ServiceTier: of.ServiceTier, RequestID: of.RequestID,
	}, options...)
	if errors.Is(err, tenant.ErrDuplicate) {
		return nil
	}
	return err
}

// unknown charges all that the call holds, unless the provider has stated a cost that the price charges.
func (c *call) unknown(a tenant.Actual) tenant.Actual {
	h := c.hold
	a.Usage = tenant.Usage{Input: max(h.Tokens-h.OutputTokens, 0), Output: h.OutputTokens, Units: c.plan.request.Units}
	a.Estimated = true
	if !h.Cost.IsZero() { // zero is for want of a price, which the ledger is to see
		a.Cost, a.Charge = tenant.USDFrom(h.Cost), tenant.USDFrom(h.Charge)
	}
	return a
}

// settle books the call. What the ledger cannot book at once it goes on booking, and a ledger that is closed has named
// the call: there is nobody here to tell.
func (c *call) settle(a tenant.Actual) {
	_, _ = c.transport.books.Settle(c.request.Context(), c.hold, a)
}

func (c *call) release() { _, _ = c.transport.books.Release(c.request.Context(), c.hold) }

// errorCode is a word for how a call ended, with nothing of the error's message in it.
func errorCode(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "deadline_exceeded"
	case errors.Is(err, errClosed):
		return "closed"
	case errors.Is(err, errPanicked):
		return "panic"
	}
	return "connection"
}
