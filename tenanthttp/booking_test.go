package tenanthttp

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/callctx"
	"github.com/llmtenant/tenant/internal/meter"
)

// fetched fetches a batch of many results, and reads it to its end.
func fetched(t *testing.T, books *ledger, lines int) {
	t.Helper()
	var body strings.Builder
	for i := range lines {
		fmt.Fprintf(&body, `{"id":"batch_req_%d","custom_id":"a","response":{"status_code":200,"body":{"usage":{"prompt_tokens":1,"completion_tokens":1}}}}`+"\n", i)
	}
	transport, err := newTransport(books, roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body.String()))}, nil
	}))
	require.NoError(t, err)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.openai.com/v1/files/f-1/content", nil)
	require.NoError(t, err)
	resp, err := transport.RoundTrip(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, body.String(), string(got))
}

// However many results there are, some are booked at a time, and all of them are when the end is read.
func TestFetching_BooksManyResultsAtATime(t *testing.T) {
	t.Parallel()
	var first atomic.Bool
	var booking, most, booked atomic.Int64
	full := make(chan struct{})
	fetched(t, &ledger{record: func() error {
		if first.CompareAndSwap(false, true) {
			return nil
		}
		n := booking.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == mostBooking {
			close(full) // the first that are booked wait for each other
		}
		<-full
		booked.Add(1)
		booking.Add(-1)
		return nil
	}}, 1+mostBooking)
	require.EqualValues(t, mostBooking, most.Load())
	require.EqualValues(t, mostBooking, booked.Load())

	most.Store(0)
	booked.Store(0)
	fetched(t, &ledger{record: func() error {
		n := booking.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		booked.Add(1)
		booking.Add(-1)
		return nil
	}}, 1000)
	require.LessOrEqual(t, most.Load(), int64(mostBooking))
	require.EqualValues(t, 1000, booked.Load())
}

// Results are handed over although the books cannot be reached, and that they are not all booked is reported once.
func TestFetching_ResultsAreNotWithheldFromTheirReader(t *testing.T) {
	t.Parallel()
	var tries atomic.Int64
	books := &ledger{record: func() error {
		tries.Add(1)
		return tenant.ErrUnavailable
	}}
	fetched(t, books, 10_000)
	require.EqualValues(t, 1, books.reported.Load())
	require.EqualValues(t, 1, tries.Load(), "after the first that fails, no more are tried")

	books = &ledger{record: func() error { return &tenant.DuplicateError{} }}
	fetched(t, books, 10)
	require.Zero(t, books.reported.Load(), "they were fetched before")
}

// Where the books cannot be reached, all results are handed in, and none waits for another.
func TestFetching_NobodyWaitsForResultsThatArePending(t *testing.T) {
	t.Parallel()
	const lines = 5000
	var begun atomic.Int64
	all := make(chan struct{})
	books := &ledger{record: func() error {
		switch begun.Add(1) {
		case 1: // the first is waited for
			return nil
		case lines:
			close(all)
		}
		<-all
		return nil
	}}
	books.pending.Store(true)
	fetched(t, books, lines)
	require.EqualValues(t, lines, begun.Load())
	require.Zero(t, books.reported.Load(), "they are going to be booked")
}

// What other models used for a job follows when the job is known to be one, which may be after its result was read.
func TestRetrieved_WhatOtherModelsUsedFollowsTheJob(t *testing.T) {
	t.Parallel()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.openai.com/v1/responses/r-1", nil)
	require.NoError(t, err)
	result := &meter.Result{ID: "r-1", Found: true, Complete: true, Model: "m", Also: []meter.ModelUsage{{Model: "other", Usage: book.Usage{Input: 3}}}, ReportedCost: -1}
	retrieve := func(books *ledger) {
		transport, err := newTransport(books, roundTrip(nil))
		require.NoError(t, err)
		transport.retrieved(r, meter.Endpoint{Service: "a job"}, &body{status: http.StatusOK}, result, nil)
	}
	recorded := make(chan struct{}, 10)
	record := func() error {
		recorded <- struct{}{}
		return nil
	}
	var booked func()
	retrieve(&ledger{record: record, deferred: func(ctx context.Context) (tenant.Settlement, error) {
		scope := callctx.ScopeOf(ctx)
		booked = func() { scope.Settled(&tenant.SettledEvent{ExecutionID: "e"}) }
		return tenant.Settlement{Outcome: tenant.Pending}, nil
	}})
	require.Empty(t, recorded, "nobody knows whether there is such a job")
	booked()
	<-recorded
	booked()
	require.Empty(t, recorded)

	retrieve(&ledger{record: record, deferred: func(context.Context) (tenant.Settlement, error) {
		return tenant.Settlement{Outcome: tenant.AlreadySettled}, nil
	}})
	require.Len(t, recorded, 1)
	<-recorded
	retrieve(&ledger{record: record})
	require.Empty(t, recorded, "it is no job")
	closed := &ledger{record: func() error { return tenant.ErrClosed }, deferred: func(context.Context) (tenant.Settlement, error) {
		return tenant.Settlement{Outcome: tenant.Settled}, nil
	}}
	retrieve(closed)
	require.EqualValues(t, 1, closed.reported.Load(), "what cannot be booked is not passed over")
}

// A call that was pending and is booked at last is not the last call for that.
func TestScope_WhatIsBookedLateIsNotTheLastCall(t *testing.T) {
	t.Parallel()
	s := &scope{}
	pending := func(id string) { s.Settled(&tenant.SettledEvent{ExecutionID: id, Pending: true}) }
	settled := func(id string) { s.Settled(&tenant.SettledEvent{ExecutionID: id}) }
	pending("beside")
	pending("call")
	settled("call")
	settled("beside")
	require.Equal(t, &tenant.SettledEvent{ExecutionID: "call"}, s.last())
	pending("call")
	require.False(t, s.last().Pending)
	settled("next")
	require.Equal(t, "next", s.last().ExecutionID)
}

// What passes after the end of its context belongs to a fetching that is over.
func TestFetching_BooksNothingAfterItsEnd(t *testing.T) {
	t.Parallel()
	var booked atomic.Int64
	books := &ledger{record: func() error {
		booked.Add(1)
		return nil
	}}
	const line = `{"custom_id":"a","result":{"type":"succeeded","message":{"usage":{"input_tokens":1,"output_tokens":1}}}}` + "\n"
	transport, err := newTransport(books, roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(line))}, nil
	}))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api.anthropic.com/v1/messages/batches/b-1/results", nil)
	require.NoError(t, err)
	resp, err := transport.RoundTrip(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	cancel()
	require.Eventually(t, func() bool { return books.reported.Load() == 1 }, time.Minute, time.Millisecond)
	rest, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Len(t, rest, len(line))
	require.Zero(t, booked.Load())
}
