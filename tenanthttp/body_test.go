package tenanthttp

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// The end of the body, its close and the end of the context, all at once: the call is settled once, and whoever reads the
// end or has closed finds it settled.
func TestBody_SettlesOnceHoweverItsEndsFallTogether(t *testing.T) {
	t.Parallel()
	for range 300 {
		books := &ledger{}
		transport, err := newTransport(books, roundTrip(func(*http.Request) (*http.Response, error) {
			header := http.Header{"Content-Type": {"text/event-stream"}}
			return &http.Response{StatusCode: http.StatusOK, Header: header, Body: io.NopCloser(strings.NewReader(benchChunk + benchUsage))}, nil
		}))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://api.openai.com/v1/chat/completions", strings.NewReader(benchAsk))
		require.NoError(t, err)
		resp, err := transport.RoundTrip(r)
		require.NoError(t, err)
		var read, closed int64
		var ends sync.WaitGroup
		ends.Go(func() {
			_, _ = io.Copy(io.Discard, resp.Body)
			read = books.settled.Load()
		})
		ends.Go(func() {
			_ = resp.Body.Close()
			closed = books.settled.Load()
		})
		ends.Go(cancel)
		ends.Wait()
		require.EqualValues(t, 1, read)
		require.EqualValues(t, 1, closed)
		require.EqualValues(t, 1, books.settled.Load())
	}
}

func TestLate_KeepsTheLastCallsAndGivesEachOutOnce(t *testing.T) {
	t.Parallel()
	var l late
	calls := make([]*call, mostLate+2)
	for i := range calls {
		calls[i] = &call{}
		evicted := l.put("host", fmt.Sprint(i), calls[i])
		switch {
		case i < mostLate:
			require.Nil(t, evicted)
		default:
			require.Same(t, calls[i-mostLate], evicted)
		}
	}
	require.Nil(t, l.take("host", "0"))
	require.Nil(t, l.take("another", "5"))
	require.Same(t, calls[5], l.take("host", "5"))
	require.Nil(t, l.take("host", "5"))
}

func TestRefusals_ForgetTheOldest(t *testing.T) {
	t.Parallel()
	var r refusals
	for i := range mostRecent + 1 {
		r.add(fmt.Sprint(i), io.EOF)
	}
	_, ok := r.find("0")
	require.False(t, ok)
	_, ok = r.find("1")
	require.True(t, ok)
	require.Len(t, r.byID, mostRecent)
}

// A call in the background that this process has no room for any more is charged its hold, unless another can settle it.
func TestLate_WhatHasNoRoomIsChargedUnlessItIsDeferred(t *testing.T) {
	t.Parallel()
	for _, defers := range []bool{true, false} {
		books, id := &ledger{defers: defers}, 0
		transport, err := newTransport(books, roundTrip(func(*http.Request) (*http.Response, error) {
			id++
			reply := fmt.Sprintf(`{"id":"resp_%d","object":"response","status":"queued","model":"m","usage":null}`, id)
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(reply))}, nil
		}))
		require.NoError(t, err)
		for range mostLate + 2 {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://api.openai.com/v1/responses",
				strings.NewReader(`{"model":"m","input":"Hello","background":true,"max_output_tokens":1000}`))
			require.NoError(t, err)
			resp, err := transport.RoundTrip(r)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
		}
		if defers {
			require.Zero(t, books.settled.Load())
			continue
		}
		require.EqualValues(t, 2, books.settled.Load())
		require.EqualValues(t, 1000, books.used.Output)
	}
}
