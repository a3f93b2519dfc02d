package tenanthttp_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
)

// aborts is a handler that breaks the connection after it has written a part of a reply.
func aborts(contentType, part string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, part)
		if part != "" {
			w.(http.Flusher).Flush()
		}
		panic(http.ErrAbortHandler)
	}
}

func TestEnding_StatusesThatAreErrorsCostNothing(t *testing.T) {
	t.Parallel()
	const said = `{"error":{"message":"no","type":"x"}}`
	for _, c := range []struct {
		name      string
		status    int
		body      string
		estimated bool
		cost      int64
	}{
		{"too many requests", 429, said, false, 0},
		{"a bad request", 400, said, false, 0},
		{"the provider failed", 500, said, false, 0},
		{"an error without a body", 503, "", false, 0},
		{"the provider's own bad gateway", 502, said, false, 0},
		{"a proxy that has lost the provider", 504, "<html>timeout</html>", true, held},
		{"an error that states a usage", 500, `{"error":{},"model":"test-model","usage":{"prompt_tokens":10,"completion_tokens":5}}`, false, 20_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, setting{}, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			resp, body := b.post(chat, ask)
			require.Equal(t, c.status, resp.StatusCode)
			require.Equal(t, c.body, body)
			e := b.execution()
			require.Equal(t, "failed", e.Status)
			require.Equal(t, "http_"+strconv.Itoa(c.status), e.ErrorCode)
			require.Equal(t, c.cost, e.CostNano)
			require.Equal(t, c.estimated, e.Estimated)
			require.EqualValues(t, 1, e.Calls)
		})
	}
}

// There are SDKs that try again without reading or closing the error that has them do so.
func TestEnding_AnErrorThatNobodyReadsIsBooked(t *testing.T) {
	t.Parallel()
	said := `{"error":{"message":"` + strings.Repeat("no", 20_000) + `"}}`
	b := newBench(t, setting{}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, said)
	})
	resp, err := b.client.Do(b.request(b.ctx, http.MethodPost, chat, ask))
	require.NoError(t, err)
	e := b.execution()
	require.Equal(t, "failed", e.Status)
	require.Equal(t, "http_429", e.ErrorCode)
	require.Zero(t, e.CostNano)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, said, string(body), "it is still there to be read")
	require.NoError(t, resp.Body.Close())
}

func TestEnding_AnErrorThatIsCutShortOrVeryLongIsPassedOnAsItIs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		said string
		cut  bool
	}{"cut short": {`{"error":`, true}, "very long": {strings.Repeat("x", 300_000), false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, setting{}, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.WriteHeader(http.StatusInternalServerError)
				_, _ = io.WriteString(w, c.said)
				if c.cut {
					_ = http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler)
				}
			})
			resp, err := b.client.Do(b.request(b.ctx, http.MethodPost, chat, ask))
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.Equal(t, c.cut, errors.Is(err, io.ErrUnexpectedEOF))
			require.Equal(t, c.said, string(body))
			require.NoError(t, resp.Body.Close())
			e := b.execution()
			require.Equal(t, "failed", e.Status)
			require.Equal(t, "http_500", e.ErrorCode)
			require.Zero(t, e.CostNano)
		})
	}
}

// held is what the call in ask holds: its bytes and 1,024 of input, and 1,000 of output.
const held = (int64(len(ask))+1024)*1000 + 1000*2000

// Gateways begin a reply before they know that there will be none.
func TestEnding_AnErrorInPlaceOfAnAnswerCostsNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		typ, body string
		cost      int64
	}{
		{"application/json", `{"error":{"code":503,"message":"no provider"}}`, 0},
		{"text/event-stream", events(`{"error":{"code":503,"message":"no provider"}}`), 0},
		{"application/json", `{"error":{"code":503},"usage":{"prompt_tokens":10,"completion_tokens":5}}`, 10*1000 + 5*2000},
	} {
		b := newBench(t, setting{}, replies(c.typ, c.body))
		_, body := b.post(chat, ask)
		require.Equal(t, c.body, body)
		e := b.execution()
		require.Equal(t, c.cost, e.CostNano, c.body)
		require.False(t, e.Estimated)
		require.Equal(t, c.cost == 0, e.ErrorCode == "error", "a usage is charged whatever became of the call")
	}
}

func TestEnding_WhatNobodyKnowsIsChargedTheHold(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, aborts("", ""))
	_, err := b.client.Do(b.request(b.ctx, http.MethodPost, chat, ask)) //nolint:bodyclose // there is none
	require.Error(t, err)
	e := b.execution()
	require.Equal(t, "failed", e.Status)
	require.Equal(t, "connection", e.ErrorCode)
	require.True(t, e.Estimated)
	require.Equal(t, held, e.CostNano)
	require.Equal(t, held, e.HeldCostNano)
}

func TestEnding_WhatWasNeverSentIsReleased(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, replies("", ""))
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, nobody.Close())
	r, err := http.NewRequestWithContext(b.ctx, http.MethodPost, "http://"+nobody.Addr().String()+chat, strings.NewReader(ask))
	require.NoError(t, err)
	_, err = b.client.Do(r) //nolint:bodyclose // there is none
	require.Error(t, err)
	e := b.execution()
	require.Equal(t, "cancelled", e.Status)
	require.Zero(t, e.CostNano)
	require.Zero(t, e.Calls)
}

// A transport below that says nothing of its connections may have sent the request.
func TestEnding_ATransportBelowThatFails(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, replies("", ""))
	for code, below := range map[string]roundTrip{
		"connection":        func(*http.Request) (*http.Response, error) { return nil, errors.New("broken") },
		"canceled":          func(*http.Request) (*http.Response, error) { return nil, context.Canceled },
		"deadline_exceeded": func(*http.Request) (*http.Response, error) { return nil, context.DeadlineExceeded },
		"panic":             func(*http.Request) (*http.Response, error) { panic("below") },
	} {
		transport, err := tenanthttp.NewTransport(b.ledger, below)
		require.NoError(t, err)
		func() {
			defer func() { require.Equal(t, code == "panic", recover() != nil) }()
			_, err = transport.RoundTrip(b.request(b.ctx, http.MethodPost, chat, ask)) //nolint:bodyclose // there is none
			require.Error(t, err)
		}()
		all := b.executions()
		e := all[len(all)-1]
		require.Equal(t, code, e.ErrorCode)
		require.Equal(t, held, e.CostNano)
	}
	require.Len(t, b.executions(), 4)
}

func TestEnding_AStreamCutShortIsChargedWhatCame(t *testing.T) {
	t.Parallel()
	const start = `{"type":"message_start","message":{"id":"m","model":"test-model","content":[],"usage":{"input_tokens":700,"output_tokens":1}}}`
	text := strings.Repeat("word", 50) // 50 tokens, as they are counted
	for _, c := range []struct {
		name, path, part string
		usage            tenant.Usage
	}{
		{"a format that states nothing before its end", chat, events(strings.Replace(chunk, "Hello there", text, 1)), tenant.Usage{Input: int64(len(askStream))/3 + 1, Output: 50}},
		{"a format that states its input first", messages, events(start, `{"type":"content_block_delta","delta":{"type":"text_delta","text":"`+text+`"}}`), tenant.Usage{Input: 700, Output: 50}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, setting{}, aborts("text/event-stream", c.part))
			resp, err := b.client.Do(b.request(b.ctx, http.MethodPost, c.path, askStream))
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.Error(t, err)
			require.Equal(t, c.part, string(body), "all that came is passed on")
			require.NoError(t, resp.Body.Close())
			e := b.execution()
			require.Equal(t, c.usage, e.Usage)
			require.True(t, e.Estimated)
			require.Equal(t, "connection", e.ErrorCode)
			require.Equal(t, c.usage.Input*1000+c.usage.Output*2000, e.CostNano)
		})
	}
}

// A caller that stops a reply is not charged a context window because the provider had tools that it might have used.
func TestEnding_AStreamWithSearchesIsChargedForThoseThatWereMade(t *testing.T) {
	t.Parallel()
	const ask = `{"model":"test-model","input":"What is new?","max_output_tokens":500,"stream":true,"tools":[{"type":"web_search"}]}`
	search := `{"type":"response.output_item.done","item":{"type":"web_search_call","action":{"type":"search"}}}`
	b := newBench(t, setting{}, aborts("text/event-stream", events(search, search, `{"type":"response.output_text.delta","delta":"Nothing."}`)))
	resp, err := b.client.Do(b.request(b.ctx, http.MethodPost, "/v1/responses", ask))
	require.NoError(t, err)
	_, err = io.ReadAll(resp.Body)
	require.Error(t, err)
	require.NoError(t, resp.Body.Close())
	e := b.execution()
	require.Equal(t, tenant.Usage{Input: int64(len(ask))/3 + 1 + 3*16_000, Output: 2, WebSearches: 2}, e.Usage)
	require.True(t, e.Estimated)
}

// hangs is a stream that goes on until its reader has gone.
func hangs(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, events(chunk))
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

func TestEnding_ACallerThatGoesAwayIsCharged(t *testing.T) {
	t.Parallel()
	for code, leave := range map[string]func(cancel func(), body io.Closer){
		"closed":   func(_ func(), body io.Closer) { _ = body.Close() },
		"canceled": func(cancel func(), _ io.Closer) { cancel() }, // and neither reads nor closes
	} {
		b := newBench(t, setting{}, hangs)
		ctx, cancel := context.WithCancel(b.ctx)
		defer cancel()
		resp, err := b.client.Do(b.request(ctx, http.MethodPost, chat, askStream))
		require.NoError(t, err)
		defer resp.Body.Close()
		line, err := bufio.NewReader(resp.Body).ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "data: "+chunk+"\n", line)
		leave(cancel, resp.Body)
		soon, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		require.NoError(t, b.ledger.Close(soon), "Close waits for what is not settled")
		e := b.executionsRaw()[0]
		require.Equal(t, code, e.ErrorCode)
		require.True(t, e.Estimated)
		require.Positive(t, e.Usage.Output)
	}
}

// A reply that is no stream was made and is billed as a whole, however little of it is read.
func TestEnding_AWholeReplyThatIsNotReadIsChargedTheHold(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, replies("application/json", answer))
	resp, err := b.client.Do(b.request(b.ctx, http.MethodPost, chat, ask))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	e := b.execution()
	require.Equal(t, held, e.CostNano)
	require.True(t, e.Estimated)
}

// However the end of the body, its close and the end of the context fall together, the call is on the books once.
func TestEnding_HappensOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, replies("text/event-stream", events(chunk, lastChunk, usageChunk, "[DONE]")))
	const calls = 40
	for range calls {
		ctx, cancel := context.WithCancel(b.ctx)
		resp, err := b.client.Do(b.request(ctx, http.MethodPost, chat, askStream))
		require.NoError(t, err)
		var ends sync.WaitGroup
		ends.Go(func() { _, _ = io.Copy(io.Discard, resp.Body) })
		ends.Go(func() { _ = resp.Body.Close() })
		ends.Go(cancel)
		ends.Wait()
	}
	require.NoError(t, b.ledger.Close(t.Context()))
	var cost int64
	all := b.executionsRaw()
	require.Len(t, all, calls)
	for _, e := range all {
		require.NotEqual(t, "running", e.Status)
		require.Positive(t, e.CostNano)
		cost += e.CostNano
	}
	var spent int64
	require.NoError(t, b.db.Raw(`SELECT b.spent_cost FROM llm_balances b JOIN llm_tenants t ON t.id = b.tenant
		WHERE t.tenant_id = 'acme' AND b.window_unit = 'total' AND b.agent = '' AND b.model = ''`).Scan(&spent).Error)
	require.Equal(t, cost, spent)
}

func TestEnding_ABodyThatPanicsIsBooked(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, replies("", ""))
	transport, err := tenanthttp.NewTransport(b.ledger, roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: panics{}}, nil
	}))
	require.NoError(t, err)
	resp, err := transport.RoundTrip(b.request(b.ctx, http.MethodPost, chat, ask)) //nolint:bodyclose // it is closed below, where the linter does not see it
	require.NoError(t, err)
	require.Panics(t, func() { _, _ = resp.Body.Read(make([]byte, 10)) })
	require.Equal(t, "panic", b.execution().ErrorCode)
	require.NoError(t, resp.Body.Close())
}

type panics struct{}

func (panics) Read([]byte) (int, error) { panic("below") }
func (panics) Close() error             { return nil }

// What a reply leaves open is not charged at nothing.
func TestEnding_AReplyThatSaysNothingOfItsUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, path, request, contentType, reply string
		hold                                    bool
	}{
		{"text is counted", chat, ask, "application/json", `{"choices":[{"message":{"content":"Hello there"}}]}`, false},
		{"an encoding that nobody reads", chat, ask, "audio/wav", "RIFF", true},
		{"a stream in one", chat, askStream, "audio/wav", "RIFF", true},
		{"speech", "/v1/audio/speech", `{"model":"test-model","input":"Hello"}`, "audio/mpeg", "ID3", true},
		{"a usage that cannot be true", chat, ask, "application/json", `{"choices":[],"usage":{"prompt_tokens":-5,"completion_tokens":5}}`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, setting{}, replies(c.contentType, c.reply))
			b.post(c.path, c.request)
			e := b.execution()
			require.True(t, e.Estimated)
			require.Positive(t, e.CostNano)
			require.Equal(t, c.hold, e.CostNano == e.HeldCostNano)
		})
	}
}

func TestEnding_EachAttemptIsMetered(t *testing.T) {
	t.Parallel()
	attempts := 0
	b := newBench(t, setting{}, func(w http.ResponseWriter, r *http.Request) {
		if attempts++; attempts < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		replies("application/json", answer)(w, r)
	})
	ctx := tenanthttp.ContextWithCall(b.ctx, tenant.WithIdempotencyKey("one"))
	for range 3 { // as an SDK does, which knows nothing of the transport
		b.do(b.request(ctx, http.MethodPost, chat, ask))
	}
	var codes []string
	for _, e := range b.executions() {
		codes = append(codes, e.ErrorCode)
	}
	require.Equal(t, []string{"http_503", "http_503", ""}, codes)
	resp, _ := b.do(b.request(ctx, http.MethodPost, chat, ask))
	require.Equal(t, http.StatusPaymentRequired, resp.StatusCode, "the key is used up")
	require.Equal(t, 3, attempts)
}
