package tenanthttp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/callctx"
	"github.com/llmtenant/tenant/internal/meter"
)

// Exchange watches one attempt of a [tenant.Model] on its way through an SDK: how far its request gets, and what its reply
// states, which is read while it passes by, as [Transport] reads it. So what a call is charged does not depend on what an SDK
// makes of the reply:
//
//	ctx, x := tenanthttp.ContextWithExchange(ctx, "")
//	completion, err := client.New(ctx, params, option.WithMiddleware(x.Do))
//	response, err := x.End("openai", false, err)
//	if response != nil {
//		response.Text = …
//	}
//	return response, err
//
// It makes one attempt of it: a second request, with which an SDK tries again, is not sent, unless the answer to the first has led
// there. An SDK that takes no middleware with a
// call takes an HTTP client with [Watch].
type Exchange struct {
	provider  string
	connected connection

	mu       sync.Mutex
	asked    *http.Request
	leads    bool // the answer leads elsewhere
	endpoint meter.Endpoint
	answer   *http.Response
	body     *body
	head     []byte // the beginning of the reply
	result   *meter.Result
	broken   error // that the reply ended with
}

// ContextWithExchange returns a context to make the call of an exchange with, and the exchange. The provider names who is behind hosts that are not
// known, for how usage is read; empty for none.
func ContextWithExchange(ctx context.Context, provider string) (context.Context, *Exchange) {
	x := &Exchange{provider: provider}
	return callctx.WithExchange(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { x.connected.wanted.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { x.connected.got.Store(true) },
	}), x), x
}

// Watch returns a transport over base, http.DefaultTransport where that is nil, that shows to their [Exchange] the requests
// that are made with the context of one. All others pass.
func Watch(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return watch{base}
}

type watch struct{ base http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (w watch) RoundTrip(r *http.Request) (*http.Response, error) {
	if x := callctx.Exchange[Exchange](r.Context()); x != nil {
		return x.Do(r, w.base.RoundTrip)
	}
	return w.base.RoundTrip(r)
}

var (
	errNoURL  = errors.New("the client's base URL is no http or https URL with a host")
	errSecond = errors.New("a call is one attempt, and its SDK has tried again")
)

// Do sends a request of the exchange by next: it is the middleware of an SDK. What is no call of a model, such as a request
// for a token, passes. Its errors are those of next, ctx's own, and those of a URL without a host and of a second request.
func (x *Exchange) Do(r *http.Request, next func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if r.URL.Scheme != "http" && r.URL.Scheme != "https" || r.URL.Host == "" {
		return nil, errNoURL
	}
	e, known := meter.Recognise(r.Method, r.URL)
	if !known {
		return next(r)
	}
	e.Provider = cmp.Or(e.Provider, x.provider)
	x.mu.Lock()
	again := x.asked != nil && !x.leads
	if !again {
		x.asked, x.endpoint, x.leads = r, e, false
	}
	x.mu.Unlock()
	if again {
		return nil, errSecond
	}
	answer, err := next(r)
	if err == nil && answer != nil {
		x.answered(r, answer)
	}
	return answer, err
}

// answered has the reply read while it passes.
func (x *Exchange) answered(r *http.Request, answer *http.Response) {
	reader := meter.NewReader(x.endpoint, answer.StatusCode, answer.Header)
	b := &body{inner: answer.Body, status: answer.StatusCode, reader: io.MultiWriter(reader, headOf{x})}
	b.ended = func(_ *body, err error) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.result, x.broken = reader.Result(), err
	}
	x.mu.Lock()
	kept := *answer
	x.answer, x.body, x.head, x.leads = &kept, b, nil, answer.StatusCode/100 == 3 && answer.Header.Get("Location") != ""
	x.mu.Unlock()
	b.follow(r.Context(), answer)
	if answer.StatusCode >= http.StatusBadRequest {
		answer.Header.Set("X-Should-Retry", "false")
		b.ahead(answer)
	}
}

// headOf keeps the beginning of a reply, which says what went wrong where something did.
type headOf struct{ x *Exchange }

func (h headOf) Write(p []byte) (int, error) {
	h.x.mu.Lock()
	defer h.x.mu.Unlock()
	h.x.head = append(h.x.head, p[:min(len(p), mostAhead-len(h.x.head))]...)
	return len(p), nil
}

// end ends the reading of the reply, and returns what was read; nil where there was no reply.
func (x *Exchange) end() *meter.Result {
	x.mu.Lock()
	b := x.body
	x.mu.Unlock()
	if b == nil {
		return nil
	}
	if b.stop != nil {
		b.stop()
	}
	b.end(errClosed)
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.result
}

// Sent reports whether a call of a model was seen. It is false too where the SDK does not use the client of [Watch].
func (x *Exchange) Sent() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.asked != nil
}

// End ends the reading, and returns what the model is to return for its call, but for the Text: what the reply states, and why
// the call has failed. The name goes before the error's text, such as "openai"; err is the SDK's error.
//
// The usage is that of [ReadReply]. Of a stream that states none, or does not reach its end, it is what can be told of what
// came, and Estimated. A stream that breaks off, or has an error in it, is an error also where the SDK has not noticed. There is no
// response where nothing came, and none with an error where nothing can be told of it. The error is an [*ExchangeError].
func (x *Exchange) End(name string, streamed bool, err error) (*tenant.Response, error) {
	result := x.end()
	err = x.failure(name, result, err)
	if result == nil || x.answer.StatusCode/100 != 2 || result.Failed || err != nil && !streamed && !result.Complete {
		return nil, err
	}
	a, stated := statedBy(result, x.endpoint.Provider, x.answer.StatusCode)
	if streamed && !stated && result.OutputChars > 0 {
		stated, a.Estimated = true, true
		a.Usage.Output = result.OutputEstimate
	}
	if err != nil && !stated {
		return nil, err
	}
	r := &tenant.Response{Model: a.Model, ServiceTier: a.ServiceTier, ReportedCost: a.ReportedCost, RequestID: x.requestID(result)}
	if stated {
		r.Usage, r.Estimated = &a.Usage, a.Estimated
	}
	if len(result.FinishReasons) > 0 {
		r.FinishReason = result.FinishReasons[0]
	}
	return r, err
}

func (x *Exchange) requestID(result *meter.Result) string {
	return cmp.Or(x.answer.Header.Get("X-Request-Id"), x.answer.Header.Get("Request-Id"), result.RequestID)
}

// failure returns why the call has failed, by the SDK's error and what was seen; nil where it has not.
func (x *Exchange) failure(name string, result *meter.Result, err error) error {
	if err == nil && result != nil && result.Complete && !result.Failed {
		return nil
	}
	e := &ExchangeError{name: name, err: withoutURL(err)}
	if result == nil {
		switch {
		case err == nil:
			e.err = errUnseen
		case x.never():
			e.notBilled, e.err = true, fmt.Errorf("the request was not sent: %w", e.err)
		default:
			e.err = fmt.Errorf("no answer came: %w", e.err)
		}
		return e
	}
	said, own := readError(x.head)
	e.RequestID, e.after = x.requestID(result), retryAfter(x.answer.Header)
	if status := x.answer.StatusCode; status/100 != 2 {
		e.status, e.Code = status, cmp.Or(said, word(x.answer.Header.Get("X-Amzn-Errortype")))
		e.notBilled = own || !proxied(status)
		e.err = cmp.Or(e.err, errAnswer)
		return e
	}
	e.Code = said
	switch {
	case result.Failed:
		e.notBilled, e.text = true, errAnswer.Error()
	case e.err != nil:
		e.text = "the answer cannot be read" + known(e.err)
	default:
		e.err = x.broken
		if e.err == nil || errors.Is(e.err, errClosed) {
			e.err = io.ErrUnexpectedEOF
		}
		e.text = "the answer broke off" + known(e.err)
	}
	e.err = cmp.Or(e.err, errAnswer)
	return e
}

var errUnseen = errors.New("the answer was not seen on its way")

var errAnswer = errors.New("the answer is an error")

// never reports whether the request has certainly not been sent.
func (x *Exchange) never() bool { return !x.Sent() || x.connected.never() }
