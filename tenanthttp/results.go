package tenanthttp

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/meter"
)

// mostBooking is how many results of one batch are on their way to the books at a time: enough for the ledger to put many
// of them into one transaction.
const mostBooking = 64

// A fetching books the results of a batch while they are fetched, each as an execution of its own. The idempotency key
// makes that once for however often they are fetched.
type fetching struct {
	transport *Transport
	request   *http.Request
	booking   chan struct{} // has an element for each result on its way
	all       sync.WaitGroup
	begun     bool
	failed    atomic.Bool // a result cannot be booked
	waiting   atomic.Bool // the books cannot be reached, and the booking goes on
}

// fetch passes on a request for the results of a batch, or for what may hold them.
func (t *Transport) fetch(r *http.Request, e meter.Endpoint) (*http.Response, error) {
	resp, err := t.send(r)
	if err != nil || resp == nil || resp.StatusCode/100 != 2 {
		return resp, err
	}
	f := &fetching{transport: t, request: r, booking: make(chan struct{}, mostBooking)}
	results := meter.NewResults(e, resp.StatusCode, resp.Header, f.book)
	b := &body{inner: resp.Body, status: resp.StatusCode, reader: results}
	b.ended = func(_ *body, err error) {
		known := results.Close(err == nil)
		f.all.Wait()
		if !known || f.failed.Load() {
			t.report(r, "results of a batch that are not booked") // fetched again, what is missing is booked
		}
	}
	b.follow(r.Context(), resp)
	return resp, nil
}

// book books a result. It waits for the first alone: where that cannot be booked, the others are not tried, and where the
// books cannot be reached nobody waits for them, so that the rest of the batch is not kept from its reader until they can.
func (f *fetching) book(l meter.Line) {
	switch {
	case f.failed.Load():
	case f.waiting.Load():
		f.all.Go(func() { f.line(&l) })
	case !f.begun:
		f.begun = true
		f.line(&l)
	default:
		f.booking <- struct{}{}
		f.all.Go(func() {
			defer func() { <-f.booking }()
			f.line(&l)
		})
	}
}

func (f *fetching) line(l *meter.Line) {
	used, _ := l.Result.Charged(0)
	f.record(l.Key, &l.Result, meter.ModelUsage{Model: l.Result.Model, Usage: used}, stated(&l.Result))
	for i, also := range l.Result.Also { // which other models used for it
		f.record(l.Key+"/"+strconv.Itoa(i), &l.Result, also, tenant.Money{})
	}
}

func (f *fetching) record(key string, r *meter.Result, used meter.ModelUsage, cost tenant.Money) {
	ctx := f.request.Context()
	who, _ := tenant.TenantFromContext(ctx)
	options := append(scopeOf(ctx).records(), tenant.WithIdempotencyKey(batchKey(key)))
	s, err := f.transport.books.Record(ctx, who, tenant.Actual{
		Provider: r.Provider, Model: used.Model, Usage: tenant.Usage(used.Usage), ServiceTier: batchTier(r.ServiceTier), RequestID: r.RequestID,
		ReportedCost: cost,
	}, options...)
	switch {
	case err == nil:
		if s.Outcome == tenant.Pending {
			f.waiting.Store(true)
		}
	case !errors.Is(err, tenant.ErrDuplicate):
		f.failed.Store(true)
	}
}

// batchTier is the tier of a result, whose reply states what it would be in a call of its own. Where it was served, and how
// fast, has its price in a batch too.
func batchTier(stated string) string {
	tier := "batch"
	for part := range strings.SplitSeq(stated, "+") {
		switch part {
		case "", "batch", "auto", "default", "standard", "flex", "priority":
		default:
			tier += "+" + part
		}
	}
	return tier
}

// batchKey is the idempotency key of a result. Its name is the caller's own choice, and may be no key.
func batchKey(key string) string { return plainKey("batch/", key) }

// plainKey makes a key of any text.
func plainKey(prefix, key string) string {
	const most = 200
	plain := len(key) <= most
	for i := 0; plain && i < len(key); i++ {
		plain = ' ' < key[i] && key[i] < 0x7f
	}
	if plain {
		return prefix + key
	}
	sum := sha256.Sum256([]byte(key))
	return prefix + hex.EncodeToString(sum[:])
}
