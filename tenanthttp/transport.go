package tenanthttp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/callctx"
	"github.com/llmtenant/tenant/internal/meter"
	"github.com/llmtenant/tenant/internal/report"
)

// ErrUnmetered says that a request cannot be metered, and that the transport refuses such; see [RefuseUnmetered].
var ErrUnmetered = errors.New("tenanthttp: the request cannot be metered, and the transport passes no such request on")

// Transport is an [http.RoundTripper] that admits calls of language models against the budgets of the tenant in their
// context, passes them on to another one, and books what the reply says was used. It is safe for concurrent use. It
// starts no goroutines but those that book the results of a batch, which end with the reply that has them.
type Transport struct {
	books   books
	base    http.RoundTripper
	options options
	late    late

	conversations conversations
	requests      sync.Pool // of *meter.RequestReader
	replies       sync.Pool // of *meter.Reader
}

// books is the ledger, as far as a transport needs it.
type books interface {
	Reserve(context.Context, tenant.Tenant, tenant.Estimate, ...tenant.ReserveOption) (*tenant.Hold, error)
	Settle(context.Context, *tenant.Hold, tenant.Actual) (tenant.Settlement, error)
	Release(context.Context, *tenant.Hold) (tenant.Settlement, error)
	Record(context.Context, tenant.Tenant, tenant.Actual, ...tenant.RecordOption) (tenant.Settlement, error)
	Defer(context.Context, *tenant.Hold, string) error
	SettleDeferred(context.Context, tenant.Tenant, string, tenant.Actual) (tenant.Settlement, error)
	ReportUnmetered(context.Context, report.Unmetered)
	ReportHostError(context.Context, report.HostError)
	ReportCall(context.Context, report.Call) context.Context
}

// NewTransport returns a transport over base; nil is [http.DefaultTransport].
//
// Errors: [tenant.ErrInvalidOption], which names the option.
func NewTransport(ledger *tenant.Ledger, base http.RoundTripper, options ...Option) (*Transport, error) {
	if ledger == nil {
		return nil, fmt.Errorf("%w: NewTransport: the ledger is nil", tenant.ErrInvalidOption)
	}
	return newTransport(ledger, base, options...)
}

// NewClient returns a client whose transport is a [Transport] over [http.DefaultTransport]. It is what the SDKs of
// providers take as their HTTP client. Errors are those of [NewTransport].
func NewClient(ledger *tenant.Ledger, options ...Option) (*http.Client, error) {
	t, err := NewTransport(ledger, nil, options...)
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: t}, nil
}

func newTransport(b books, base http.RoundTripper, opts ...Option) (*Transport, error) {
	t := &Transport{books: b, base: base, options: options{maxInput: DefaultMaxInput}}
	if base == nil {
		t.base = http.DefaultTransport
	}
	for _, option := range opts {
		if option == nil {
			return nil, fmt.Errorf("%w: NewTransport: a nil Option", tenant.ErrInvalidOption)
		}
		if err := option(&t.options); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// RoundTrip implements [http.RoundTripper]. A call that the ledger does not admit gets a reply of status 402 that the
// transport makes itself, in the form of the provider's errors; [AsRefusal] finds the ledger's error from what an SDK
// makes of it. An error of the ledger's that is no refusal is RoundTrip's own: where the database cannot be reached
// ([tenant.ErrUnavailable]), where the ledger is closed, and where the context has ended.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL == nil || callctx.Metered(r.Context()) {
		return t.send(r)
	}
	e, known := meter.Recognise(r.Method, r.URL)
	stranger := e.Strange()
	e.Provider = cmp.Or(e.Provider, t.options.provider)
	switch {
	case !known, e.Kind == meter.Free && r.Header.Get("Upgrade") != "": // a session, whose path says nothing
		return t.unmetered(r, e)
	case e.Kind == meter.Free, e.Kind == meter.Batch && !stranger:
		return t.send(r)
	case e.Kind == meter.BatchResults, e.Kind == meter.File:
		return t.fetch(r, e)
	case e.Retrieval:
		return t.retrieve(r, e)
	}
	body, err := read(r)
	switch {
	case err != nil:
		return nil, err
	case stranger && e.Format == meter.Conversations && !t.hasForm(e, body): // OpenAI's, which are free
		return t.send(again(r.Context(), r, body))
	case stranger && !t.hasForm(e, body):
		return t.unmetered(again(r.Context(), r, body), e)
	case e.Kind == meter.Batch:
		return t.send(again(r.Context(), r, body))
	}
	return t.call(r, e, body)
}

func (t *Transport) hasForm(e meter.Endpoint, body []byte) bool {
	reader := pooled[meter.RequestReader](&t.requests)
	defer t.requests.Put(reader)
	return reader.HasForm(e, body)
}

// pooled returns one of a pool, or a new one.
func pooled[T any](from *sync.Pool) *T {
	if t, ok := from.Get().(*T); ok {
		return t
	}
	return new(T)
}

// send passes a request on.
func (t *Transport) send(r *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(r)
	if err == nil && resp != nil && resp.StatusCode == http.StatusPaymentRequired {
		scopeOf(r.Context()).refusal(nil) // whoever asks about this status asks about the provider's
	}
	return resp, err
}

// CloseIdleConnections closes those of the transport below, if it can.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func (t *Transport) unmetered(r *http.Request, e meter.Endpoint) (*http.Response, error) {
	if t.options.refuseUnmetered {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return t.hostError(r, e, e.Model, unmeteredError(r, e)), nil
	}
	t.report(r, e.Service)
	return t.send(r)
}

// hostError refuses a call for what is wrong with the program.
func (t *Transport) hostError(r *http.Request, e meter.Endpoint, model string, err error) *http.Response {
	who, _ := tenant.TenantFromContext(r.Context())
	t.books.ReportHostError(r.Context(), report.HostError{
		Tenant: who, Provider: e.Provider, Model: model, Options: scopeOf(r.Context()).calls(), Err: err,
	})
	return refuse(r, e, err)
}

// report tells the ledger's observer of a request that is not metered. Its query may have a key in it.
func (t *Transport) report(r *http.Request, service string) {
	who, _ := tenant.TenantFromContext(r.Context())
	t.books.ReportUnmetered(r.Context(), report.Unmetered{
		Tenant: who, Method: r.Method, Host: r.URL.Host, Path: r.URL.Path, Service: service,
	})
}

// unmeteredError names the request without its query, which may have a key in it.
func unmeteredError(r *http.Request, e meter.Endpoint) error {
	err := fmt.Errorf("%w: %s %s%s", ErrUnmetered, r.Method, r.URL.Host, r.URL.Path)
	if e.Service != "" {
		err = fmt.Errorf("%w: %s", err, e.Service)
	}
	return err
}
