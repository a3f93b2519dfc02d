package tenanthttp_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
)

func TestReadReply_ReadsWhatTheTransportBooks(t *testing.T) {
	t.Parallel()
	streamed := events(chunk, lastChunk, usageChunk, "[DONE]")
	for _, c := range []struct{ path, ask, typ, body string }{
		{chat, ask, "application/json", answer},
		{chat, askStream, "text/event-stream", streamed},
		{messages, ask, "application/json", `{"id":"msg_1","model":"test-model","stop_reason":"end_turn","content":[{"type":"text","text":"Hi"}],"usage":{"input_tokens":9,"cache_read_input_tokens":4,"output_tokens":3}}`},
	} {
		b := newBench(t, setting{}, replies(c.typ, c.body))
		b.do(b.request(b.ctx, http.MethodPost, c.path, c.ask))
		booked := b.execution()
		r := b.request(t.Context(), http.MethodPost, c.path, "")
		a, stated := tenanthttp.ReadReply("", r, &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {c.typ}}}, []byte(c.body))
		require.True(t, stated)
		require.Equal(t, []any{booked.Usage, booked.BilledModel, booked.RequestID, false}, []any{a.Usage, a.Model, a.RequestID, a.Estimated})
		_, err := b.ledger.Record(b.ctx, acme, a)
		require.NoError(t, err)
		require.Equal(t, booked.CostNano, b.executions()[1].CostNano)
	}
}

// The cost is there without tokens too: an [tenant.Agent] charges it where the price does.
func TestReadReply_KeepsACostWithoutTokens(t *testing.T) {
	t.Parallel()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://api.x.ai/v1/images/generations", http.NoBody)
	require.NoError(t, err)
	a, _ := tenanthttp.ReadReply("", r, &http.Response{StatusCode: 200}, []byte(`{"data":[{"url":"a"}],"usage":{"cost_in_usd_ticks":210000000}}`))
	require.Equal(t, tenant.USD("0.021"), a.ReportedCost)
	require.Zero(t, a.Usage.TotalTokens())
}

func TestReadReply_SaysWhatIsNotStated(t *testing.T) {
	t.Parallel()
	post := func(address string) *http.Request {
		u, err := url.Parse(address)
		require.NoError(t, err)
		return &http.Request{Method: http.MethodPost, URL: u}
	}
	known, ok := post("https://api.x.ai/v1/chat/completions"), &http.Response{StatusCode: 200}
	for _, c := range []struct {
		name string
		r    *http.Request
		resp *http.Response
		body string
	}{
		{"no usage", known, ok, `{"id":"1","choices":[{"message":{"content":"Hi"}}]}`},
		{"an error", known, &http.Response{StatusCode: 429}, `{"error":{"message":"slow down"}}`},
		{"no body", known, ok, ``},
		{"no JSON", known, ok, `<html>`},
		{"no call", post("https://api.x.ai/v1/whatever"), ok, answer},
		{"no request", nil, ok, answer},
		{"no URL", &http.Request{}, ok, answer},
		{"no reply", known, nil, answer},
	} {
		a, stated := tenanthttp.ReadReply("", c.r, c.resp, []byte(c.body))
		require.False(t, stated, c.name)
		require.Zero(t, a.Usage, c.name)
	}
	a, _ := tenanthttp.ReadReply("", known, &http.Response{StatusCode: 429, Header: http.Header{"X-Request-Id": {"req-7"}}}, nil)
	require.Equal(t, tenant.Actual{Provider: "xai", RequestID: "req-7", ErrorCode: "http_429"}, a)

	// What cannot be true is for the ledger to refuse, loudly.
	a, stated := tenanthttp.ReadReply("", known, ok, []byte(`{"choices":[],"usage":{"prompt_tokens":-3,"completion_tokens":1}}`))
	require.True(t, stated)
	require.Equal(t, tenant.Usage{Input: -1}, a.Usage)
	b := newBench(t, setting{}, replies("", ""))
	_, err := b.ledger.Record(t.Context(), acme, a)
	require.ErrorIs(t, err, tenant.ErrInvalidOption)

	// A body that is cut short leaves what it has stated.
	a, stated = tenanthttp.ReadReply("", post("https://api.anthropic.com/v1/messages"), ok,
		[]byte("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"m\",\"usage\":{\"input_tokens\":77,\"output_tokens\":1}}}\n\n"))
	require.True(t, stated)
	require.True(t, a.Estimated)
	require.EqualValues(t, 77, a.Usage.Input)
}

func TestReadReply_Decompresses(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write([]byte(answer))
	require.NoError(t, w.Close())
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost:8080/v1/chat/completions", nil)
	require.NoError(t, err)
	a, stated := tenanthttp.ReadReply("my-gateway", r, &http.Response{StatusCode: 200, Header: http.Header{"Content-Encoding": {"gzip"}}}, packed.Bytes())
	require.True(t, stated)
	require.Equal(t, "my-gateway", a.Provider)
	require.Equal(t, tenant.Usage{Input: 800, CacheRead: 200, Output: 500}, a.Usage)
}

// Replies that a proxy has kept are booked as if they had passed through a transport.
func ExampleReadReply() {
	kept := []byte(`{"id":"chatcmpl-9","model":"test-model","choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":500}}`)
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "https://api.openai.com/v1/chat/completions", nil)
	if err != nil {
		log.Fatal(err)
	}
	actual, stated := tenanthttp.ReadReply("", r, &http.Response{StatusCode: http.StatusOK}, kept)
	fmt.Println(stated, actual.Provider, actual.Model, actual.RequestID, actual.Usage.Input, actual.Usage.Output)
	// Output: true openai test-model chatcmpl-9 1000 500
}
