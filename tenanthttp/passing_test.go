package tenanthttp_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
)

// The provider writes the next chunk only when the reader has told it that the last one has arrived: were a chunk kept
// back, both would wait for ever.
func TestStream_AChunkIsReadBeforeTheNextIsWritten(t *testing.T) {
	t.Parallel()
	for _, asked := range []bool{false, true} {
		arrived := make(chan struct{})
		b := newBench(t, setting{}, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "text/event-stream")
			for range 5 {
				_, _ = io.WriteString(w, events(chunk))
				w.(http.Flusher).Flush()
				select {
				case <-arrived:
				case <-r.Context().Done():
					return
				}
			}
			_, _ = io.WriteString(w, events(usageChunk, "[DONE]"))
		})
		body := askStream
		if asked {
			body = strings.Replace(body, `"stream":true`, `"stream":true,"stream_options":{"include_usage":true}`, 1)
		}
		resp, err := b.client.Do(b.request(b.ctx, http.MethodPost, chat, body))
		require.NoError(t, err)
		defer resp.Body.Close()
		lines := bufio.NewReader(resp.Body)
		for range 5 {
			line, err := lines.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "data: "+chunk+"\n", line)
			_, err = lines.ReadString('\n')
			require.NoError(t, err)
			arrived <- struct{}{}
		}
		_, err = io.Copy(io.Discard, lines)
		require.NoError(t, err)
		require.Equal(t, tenant.Usage{Input: 1000, Output: 500}, b.execution().Usage)
	}
}

func TestStream_TheUsageIsAskedForAndItsChunkTakenOutAgain(t *testing.T) {
	t.Parallel()
	var sent keeps
	b := newBench(t, setting{}, sent.then(replies("text/event-stream", events(chunk, lastChunk, usageChunk, "[DONE]"))))
	_, body := b.post(chat, askStream)
	require.Equal(t, events(chunk, lastChunk, "[DONE]"), body)
	require.JSONEq(t, strings.Replace(askStream, `"stream":true`, `"stream":true,"stream_options":{"include_usage":true}`, 1), sent.last())
	require.EqualValues(t, 2_000_000, b.execution().CostNano)
}

// A reply that says how long it is becomes shorter by the chunk.
func TestStream_WhoseChunkIsTakenOutHasNoLength(t *testing.T) {
	t.Parallel()
	var stated string
	b := newBench(t, setting{}, replies("text/event-stream", events(chunk, lastChunk, usageChunk, "[DONE]")))
	transport, err := tenanthttp.NewTransport(b.ledger, roundTrip(func(r *http.Request) (*http.Response, error) {
		resp, err := b.server.Client().Transport.RoundTrip(r)
		if err == nil {
			stated = resp.Header.Get("Content-Length")
		}
		return resp, err
	}))
	require.NoError(t, err)
	resp, err := transport.RoundTrip(b.request(b.ctx, http.MethodPost, chat, askStream))
	require.NoError(t, err)
	defer resp.Body.Close()
	require.NotEmpty(t, stated)
	require.Empty(t, resp.Header.Get("Content-Length"))
	require.EqualValues(t, -1, resp.ContentLength)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	sameBytes(t, events(chunk, lastChunk, "[DONE]"), string(body))
}

// Hints that come before the reply are the caller's alone.
func TestReply_AfterHints(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Link", "</style>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, answer)
	})
	var hints []int
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
		hints = append(hints, code)
		return nil
	}}
	_, body := b.do(b.request(httptrace.WithClientTrace(b.ctx, trace), http.MethodPost, chat, ask))
	sameBytes(t, answer, body)
	require.Equal(t, []int{http.StatusEarlyHints}, hints)
	require.EqualValues(t, 2_000_000, b.execution().CostNano)
}

// Some servers refuse what they do not know.
func TestStream_TheUsageIsNotAskedForWhereTheHostSaysSo(t *testing.T) {
	t.Parallel()
	var sent keeps
	b := newBench(t, setting{options: []tenanthttp.Option{tenanthttp.WithoutIncludeUsage()}},
		sent.then(replies("text/event-stream", events(chunk, lastChunk, "[DONE]"))))
	_, body := b.post(chat, askStream)
	sameBytes(t, askStream, sent.last())
	sameBytes(t, events(chunk, lastChunk, "[DONE]"), body)
	require.True(t, b.execution().Estimated)
	require.Positive(t, b.execution().Usage.Output)
}

func TestStream_TheUsageStaysForACallerThatHasAskedForIt(t *testing.T) {
	t.Parallel()
	var sent keeps
	b := newBench(t, setting{}, sent.then(replies("text/event-stream", events(chunk, lastChunk, usageChunk, "[DONE]"))))
	body := strings.Replace(askStream, `"stream":true`, `"stream":true,"stream_options":{"include_usage":true}`, 1)
	_, reply := b.post(chat, body)
	require.Equal(t, events(chunk, lastChunk, usageChunk, "[DONE]"), reply)
	require.Equal(t, body, sent.last())
}

// Where the usage is asked for, its chunk has to be readable; where it is not, a caller that can read gzip gets gzip.
func TestStream_ACallerThatReadsGzipItself(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		var out io.Writer = w
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			packed := gzip.NewWriter(w)
			defer func() { _ = packed.Close() }()
			out = packed
		}
		_, _ = io.WriteString(out, events(chunk, usageChunk, "[DONE]"))
	})
	r := b.request(b.ctx, http.MethodPost, chat, askStream)
	r.Header.Set("Accept-Encoding", "gzip")
	resp, body := b.do(r)
	require.Empty(t, resp.Header.Get("Content-Encoding"))
	require.Equal(t, events(chunk, "[DONE]"), body)
	require.Equal(t, "gzip", r.Header.Get("Accept-Encoding"), "the caller's request is the caller's")

	r = b.request(b.ctx, http.MethodPost, messages, ask)
	r.Header.Set("Accept-Encoding", "gzip")
	resp, body = b.do(r)
	require.Equal(t, "gzip", resp.Header.Get("Content-Encoding"))
	plain, err := gzip.NewReader(strings.NewReader(body))
	require.NoError(t, err)
	text, err := io.ReadAll(plain)
	require.NoError(t, err)
	require.Equal(t, events(chunk, usageChunk, "[DONE]"), string(text))
}

func TestReply_InGzipIsPassedOnAsItIsAndRead(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = io.WriteString(w, answer)
	require.NoError(t, w.Close())
	b := newBench(t, setting{}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(packed.Bytes())
	})
	r := b.request(b.ctx, http.MethodPost, chat, ask)
	r.Header.Set("Accept-Encoding", "gzip")
	_, body := b.do(r)
	require.Equal(t, packed.String(), body)
	require.EqualValues(t, 2_000_000, b.execution().CostNano)
}

func TestReply_OverHTTP2WithTrailers(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{http2: true}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("X-Proto", r.Proto)
		_, _ = io.WriteString(w, answer)
		w.Header().Set("X-Sum", "7")
	})
	resp, body := b.post(chat, ask)
	sameBytes(t, answer, body)
	require.Equal(t, "HTTP/2.0", resp.Header.Get("X-Proto"))
	require.Equal(t, "7", resp.Trailer.Get("X-Sum"))
	require.EqualValues(t, 2_000_000, b.execution().CostNano)
}

func TestReply_WithoutABodyIsBookedAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })
	resp, err := b.client.Do(b.request(b.ctx, http.MethodPost, chat, ask))
	require.NoError(t, err)
	require.Equal(t, "succeeded", b.execution().Status)
	require.True(t, b.execution().Estimated)
	require.NoError(t, resp.Body.Close())

	none := roundTrip(func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: http.StatusOK}, nil })
	transport, err := tenanthttp.NewTransport(b.ledger, none)
	require.NoError(t, err)
	r := b.request(b.ctx, http.MethodPost, chat, ask)
	resp, err = transport.RoundTrip(r) //nolint:bodyclose // there is none
	require.NoError(t, err)
	require.Nil(t, resp.Body)
	require.Same(t, r, resp.Request)
	require.Len(t, b.executions(), 2)
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestRequest_WithoutABody(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, replies("application/json", answer))
	transport, err := tenanthttp.NewTransport(b.ledger, roundTrip(func(r *http.Request) (*http.Response, error) {
		require.Nil(t, r.Body)
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(answer))}, nil
	}))
	require.NoError(t, err)
	r, err := http.NewRequestWithContext(b.ctx, http.MethodPost, "https://generativelanguage.googleapis.com/v1beta/models/test-model:generateContent", nil)
	require.NoError(t, err)
	resp, err := transport.RoundTrip(r)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "test-model", b.execution().Model)
}

func TestRequest_OfTheHeadIsPassedOn(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{options: []tenanthttp.Option{tenanthttp.RefuseUnmetered()}}, replies("application/json", answer))
	resp, _ := b.do(b.request(b.ctx, http.MethodHead, chat, ""))
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Empty(t, b.executions())
}

// A redirect is no call, and what it leads to is one.
func TestReply_RedirectsAreReleasedAndTheirEndIsBooked(t *testing.T) {
	t.Parallel()
	var sent keeps
	b := newBench(t, setting{}, sent.then(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/old"+chat {
			http.Redirect(w, r, chat, http.StatusTemporaryRedirect)
			return
		}
		_, _ = io.WriteString(w, answer)
	}))
	_, body := b.post("/old"+chat, ask)
	sameBytes(t, answer, body)
	require.Equal(t, []string{ask, ask}, sent.bodies)
	all := b.executions()
	require.Len(t, all, 2)
	require.Equal(t, "cancelled", all[0].Status)
	require.Equal(t, "succeeded", all[1].Status)
	require.EqualValues(t, 2_000_000, all[1].CostNano)
	require.Zero(t, all[0].CostNano)
}

// After a switch, the body is written to as well.
func TestReply_ASwitchOfProtocolsIsHandedOverWholeAndReported(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		_ = rw.Flush()
		line, _ := rw.ReadString('\n')
		_, _ = rw.WriteString(line)
		_ = rw.Flush()
	})
	for _, path := range []string{"/v1/realtime", chat} {
		r := b.request(b.ctx, http.MethodPost, path, ask)
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "echo")
		resp, err := b.client.Do(r) //nolint:bodyclose // it is closed as what it is after the switch
		require.NoError(t, err)
		both, ok := resp.Body.(io.ReadWriteCloser)
		require.True(t, ok)
		_, err = io.WriteString(both, "ping\n")
		require.NoError(t, err)
		line, err := bufio.NewReader(both).ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "ping\n", line)
		require.NoError(t, both.Close())
	}
	require.Len(t, b.witness.unmetered(), 2)
	e := b.execution()
	require.True(t, e.Estimated)
	require.Equal(t, e.HeldCostNano, e.CostNano, "nobody knows what the session costs")
}

// The caller's request is not touched, whatever the transport sends in its place.
func TestRequest_IsNeverChanged(t *testing.T) {
	t.Parallel()
	var sent keeps
	var length int64
	var mu sync.Mutex
	b := newBench(t, setting{limits: tenant.Limits{DailyCost: tenant.USD("0.003")}}, sent.then(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		length = r.ContentLength
		mu.Unlock()
		replies("text/event-stream", events(chunk, usageChunk))(w, r)
	}))
	r := b.request(b.ctx, http.MethodPost, chat, askStream)
	header, url, body := r.Header.Clone(), *r.URL, r.Body
	b.do(r)
	require.Equal(t, header, r.Header)
	require.Equal(t, url, *r.URL)
	require.Equal(t, body, r.Body)
	require.EqualValues(t, len(askStream), r.ContentLength)
	again, err := r.GetBody()
	require.NoError(t, err)
	text, err := io.ReadAll(again)
	require.NoError(t, err)
	sameBytes(t, askStream, string(text))
	require.NotEqual(t, askStream, sent.last())
	mu.Lock()
	defer mu.Unlock()
	require.EqualValues(t, len(sent.last()), length)
}

// http.Transport sends a body again where a connection that it had kept turns out to be closed.
func TestRequest_CanBeSentAgainByTheTransportBelow(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{limits: tenant.Limits{DailyCost: tenant.USD("0.003")}}, replies("application/json", answer))
	var bodies []string
	transport, err := tenanthttp.NewTransport(b.ledger, roundTrip(func(r *http.Request) (*http.Response, error) {
		for range 2 {
			body, err := r.GetBody()
			require.NoError(t, err)
			text, err := io.ReadAll(body)
			require.NoError(t, err)
			bodies = append(bodies, string(text))
		}
		text, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		bodies = append(bodies, string(text))
		rec := httptest.NewRecorder()
		_, _ = rec.WriteString(answer)
		return rec.Result(), nil
	}))
	require.NoError(t, err)
	resp, err := transport.RoundTrip(b.request(b.ctx, http.MethodPost, chat, ask))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Len(t, bodies, 3)
	require.Equal(t, bodies[0], bodies[1])
	require.Equal(t, bodies[0], bodies[2])
	require.NotEqual(t, ask, bodies[0], "the limit was lowered")
}

func TestRequest_OfUnknownLengthStaysSo(t *testing.T) {
	t.Parallel()
	var lengths []int64
	b := newBench(t, setting{}, func(w http.ResponseWriter, r *http.Request) {
		lengths = append(lengths, r.ContentLength)
		replies("application/json", answer)(w, r)
	})
	r, err := http.NewRequestWithContext(b.ctx, http.MethodPost, b.server.URL+chat, io.MultiReader(strings.NewReader(ask)))
	require.NoError(t, err)
	b.do(r)
	require.Equal(t, []int64{-1}, lengths)
	require.Equal(t, "test-model", b.execution().Model)
}

func TestRequest_WhoseBodyCannotBeReadIsNotSent(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, replies("application/json", answer))
	body := &broken{}
	r, err := http.NewRequestWithContext(b.ctx, http.MethodPost, b.server.URL+chat, body)
	require.NoError(t, err)
	_, err = b.transport.RoundTrip(r) //nolint:bodyclose // there is none
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.True(t, body.closed)
	require.Empty(t, b.executions())
}

type broken struct{ closed bool }

func (*broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
func (b *broken) Close() error           { b.closed = true; return nil }

func TestNewTransport_NamesWhatCannotBeMeant(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, replies("application/json", answer))
	for name, option := range map[string]tenanthttp.Option{
		"WithMaxInput": tenanthttp.WithMaxInput(0), "WithMaxOutput": tenanthttp.WithMaxOutput(-1), "WithProvider": tenanthttp.WithProvider(""),
		"nil Option": nil,
	} {
		_, err := tenanthttp.NewTransport(b.ledger, nil, option)
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		require.ErrorContains(t, err, name)
		_, err = tenanthttp.NewClient(b.ledger, option)
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
	}
	_, err := tenanthttp.NewTransport(nil, nil)
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	client, err := tenanthttp.NewClient(b.ledger)
	require.NoError(t, err)
	client.CloseIdleConnections()
}

// The books have the call's cost when the caller reads its end, and when the caller's Close returns.
func TestReply_IsOnTheBooksBeforeItsEndIsRead(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, replies("application/json", answer))
	for _, end := range []func(io.ReadCloser){
		func(body io.ReadCloser) {
			buf := make([]byte, 7)
			for {
				if _, err := body.Read(buf); err != nil {
					require.Equal(t, io.EOF, err)
					return
				}
			}
		},
		func(body io.ReadCloser) { require.NoError(t, body.Close()) },
	} {
		resp, err := b.client.Do(b.request(context.WithoutCancel(b.ctx), http.MethodPost, chat, ask))
		require.NoError(t, err)
		end(resp.Body)
		all := b.executions()
		require.NotNil(t, all[len(all)-1].FinishedAt)
		require.NoError(t, resp.Body.Close())
	}
}
