package tenanthttp_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
	"github.com/llmtenant/tenant/tenanttest"
)

func TestUnmetered_RequestsPassAndAreReported(t *testing.T) {
	t.Parallel()
	var sent keeps
	b := newBench(t, setting{limits: tenant.Limits{DailyCost: tenant.USD("0")}}, sent.then(replies("text/plain", "done")))
	for _, c := range []struct {
		method, path string
		reported     bool
	}{
		{http.MethodPost, "/v1/videos?key=secret", true},
		{http.MethodPost, "/v1/messages", true}, // the body has not the form of a call
		{http.MethodPost, "/v1/batches", true},
		{http.MethodGet, "/v1/files/f-1/content", false}, // and they are not in this file
		{http.MethodGet, "/somewhere", true},
		{http.MethodGet, "/v1/models", false},
		{http.MethodPost, "/v1/messages/count_tokens", false},
		{http.MethodPost, "/v1/files", false},
	} {
		heard := len(b.witness.unmetered())
		resp, body := b.do(b.request(b.ctx, c.method, c.path, "{}"))
		require.Equal(t, http.StatusOK, resp.StatusCode, c.path)
		require.Equal(t, "done", body)
		now := b.witness.unmetered()
		require.Equal(t, c.reported, len(now) == heard+1, c.path)
		if c.reported {
			path, _, _ := strings.Cut(c.path, "?")
			require.Equal(t, tenant.UnmeteredEvent{
				TenantID: "acme", Method: c.method, Host: strings.TrimPrefix(b.server.URL, "http://"), Path: path,
			}, now[heard])
		}
	}
	require.Empty(t, b.executions())
}

// A host that is not known may be anybody's application, whose paths are not a provider's although they look so. What is
// not metered is passed on as it came.
func TestUnmetered_AStrangersPathIsACallByItsBodyAlone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, path, body        string
		called, reported, known bool
	}{
		{name: "a chat between people", path: "/rooms/7/messages", body: `{"text":"Hello","to":"bob"}`, reported: true},
		{name: "and one with a model of its own", path: "/messages", body: `{"model":"car","text":"Hello"}`, reported: true},
		{name: "an upload", path: "/v1/embeddings", body: "--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--x--\r\n", reported: true},
		{name: "no object", path: chat, body: `["messages"]`, reported: true},
		{name: "no JSON", path: chat, body: `messages`, reported: true},
		{name: "nothing to embed", path: "/v1/embeddings", body: `{"model":"m","input":null}`, reported: true},
		{name: "a batch of something", path: "/batches", body: `{"items":[1,2]}`, reported: true},
		{name: "a batch", path: "/v1/batches", body: `{"input_file_id":"f-1","endpoint":"/v1/chat/completions"}`},
		{name: "a message", path: messages, body: ask, called: true},
		{name: "a server of one model", path: chat, body: `{"messages":[]}`, called: true},
		{name: "embeddings", path: "/v1/embeddings", body: `{"model":"test-model","input":"Hello"}`, called: true},
		{name: "a known host", path: messages, body: `{}`, called: true, known: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var sent keeps
			b := newBench(t, setting{}, sent.then(replies("application/json", answer)))
			r := b.request(b.ctx, http.MethodPost, c.path, c.body)
			transport, err := tenanthttp.NewTransport(b.ledger, roundTrip(func(out *http.Request) (*http.Response, error) {
				require.EqualValues(t, len(c.body), out.ContentLength)
				require.NotNil(t, out.GetBody)
				out.URL.Scheme, out.URL.Host = "http", strings.TrimPrefix(b.server.URL, "http://")
				return b.server.Client().Transport.RoundTrip(out)
			}))
			require.NoError(t, err)
			if c.known {
				r.URL.Scheme, r.URL.Host = "https", "api.anthropic.com"
			}
			resp, err := transport.RoundTrip(r)
			require.NoError(t, err)
			got, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			sameBytes(t, answer, string(got))
			sameBytes(t, c.body, sent.last())
			require.Equal(t, c.called, len(b.executions()) == 1)
			require.Equal(t, c.reported, len(b.witness.unmetered()) == 1)
		})
	}
}

// A body that is not sent is closed all the same, as it is the duty of every http.RoundTripper.
func TestUnmetered_RefusedRequestsAreNotSent(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{options: []tenanthttp.Option{tenanthttp.RefuseUnmetered()}}, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/models" {
			t.Error("the request was made")
		}
	})
	body := &closes{Reader: strings.NewReader("{}")}
	r, err := http.NewRequestWithContext(b.ctx, http.MethodPost, b.server.URL+"/v1/videos", body)
	require.NoError(t, err)
	resp, _ := b.do(r)
	require.Equal(t, http.StatusPaymentRequired, resp.StatusCode)
	require.True(t, body.closed)
	resp, _ = b.do(b.request(b.ctx, http.MethodGet, "/v1/models", ""))
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

type closes struct {
	io.Reader
	closed bool
}

func (c *closes) Close() error { c.closed = true; return nil }

// An agent has admitted the call already, and books it.
func TestMetered_AnAgentsCallIsChargedOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, replies("application/json", answer))
	model := tenanttest.NewModel(func(ctx context.Context, _ *tenant.Request) (*tenant.Response, error) {
		b.do(b.request(ctx, http.MethodPost, chat, ask))
		return &tenant.Response{Usage: &tenant.Usage{Input: 1000, Output: 500}}, nil
	})
	agent, err := tenant.NewAgent(b.ledger, model, tenant.WithAgent("support"))
	require.NoError(t, err)
	_, err = agent.Call(b.ctx, "Hello")
	require.NoError(t, err)
	require.Equal(t, "support", b.execution().Agent)
}

func TestResponses_InTheBackgroundAreChargedWhenTheyAreRead(t *testing.T) {
	t.Parallel()
	const (
		queued = `{"id":"resp_1","object":"response","status":"queued","background":true,"model":"test-model","output":[],"usage":null}`
		done   = `{"id":"resp_1","object":"response","status":"completed","background":true,"model":"test-model","output":[],"usage":{"input_tokens":1000,"output_tokens":500}}`
	)
	status := queued
	b := newBench(t, setting{}, func(w http.ResponseWriter, r *http.Request) { replies("application/json", status)(w, r) })
	b.post("/v1/responses", `{"model":"test-model","input":"Hello","background":true,"max_output_tokens":1000}`)
	read := func() { b.do(b.request(b.ctx, http.MethodGet, "/v1/responses/resp_1", "")) }
	require.Equal(t, "running", b.execution().Status)
	read()
	require.Equal(t, "running", b.execution().Status, "it is not ready yet")
	status = done
	for range 2 { // the second time it is known
		read()
		e := b.execution()
		require.Equal(t, "succeeded", e.Status)
		require.EqualValues(t, 2_000_000, e.CostNano)
		require.False(t, e.Estimated)
	}
}

// The transport that reads the response stands for another process: it knows nothing of the call but what is on the books.
func TestResponses_InTheBackgroundAreChargedWhoeverReadsThem(t *testing.T) {
	t.Parallel()
	const (
		queued = `{"id":"resp_1","object":"response","status":"queued","background":true,"model":"test-model","output":[],"usage":null}`
		done   = `{"id":"resp_1","object":"response","status":"completed","background":true,"model":"test-model","output":[],"usage":{"input_tokens":1000,"output_tokens":500}}`
		ended  = `{"id":"resp_1","object":"response","status":"cancelled","background":true,"model":"test-model","output":[],"usage":null}`
	)
	status := queued
	b := newBench(t, setting{}, func(w http.ResponseWriter, r *http.Request) { replies("application/json", status)(w, r) })
	create := func(ctx context.Context) {
		b.do(b.request(ctx, http.MethodPost, "/v1/responses", `{"model":"test-model","input":"Hello","background":true,"max_output_tokens":1000}`))
	}
	read := func(ctx context.Context) tenant.Execution {
		elsewhere, err := tenanthttp.NewTransport(b.ledger, b.server.Client().Transport)
		require.NoError(t, err)
		resp, err := elsewhere.RoundTrip(b.request(ctx, http.MethodGet, "/v1/responses/resp_1", ""))
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return b.execution()
	}
	create(b.ctx)
	require.Equal(t, "running", read(b.ctx).Status, "it is not ready yet")
	status = ended
	require.Equal(t, "running", read(b.ctx).Status, "nobody knows what it used")
	status = done
	require.Equal(t, "running", read(tenant.ContextWithTenant(b.ctx, tenant.ID("other"))).Status, "it is not theirs")
	for range 2 {
		e := read(b.ctx)
		require.Equal(t, "succeeded", e.Status)
		require.EqualValues(t, 2_000_000, e.CostNano)
		require.False(t, e.Estimated)
	}
	b.do(b.request(b.ctx, http.MethodGet, "/v1/responses/resp_1", "")) // by whoever has made it
	require.EqualValues(t, 2_000_000, b.execution().CostNano)
	require.NoError(t, b.ledger.Close(t.Context()))
}

func TestResponses_ReadAgainAreNotChargedAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, replies("application/json",
		`{"id":"resp_1","object":"response","status":"completed","model":"test-model","output":[],"usage":{"input_tokens":1000,"output_tokens":500}}`))
	b.post("/v1/responses", `{"model":"test-model","input":"Hello"}`)
	b.do(b.request(b.ctx, http.MethodGet, "/v1/responses/resp_1", ""))
	require.EqualValues(t, 2_000_000, b.execution().CostNano)
}

// What other models have used for a call has a price of its own, and so it is an execution of its own.
func TestReply_ThatOtherModelsHadAPartIn(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, replies("application/json", `{"model":"test-model","content":[],"usage":{"input_tokens":1000,"output_tokens":500,"iterations":[
		{"type":"compaction","input_tokens":300,"output_tokens":20},
		{"type":"advisor_message","model":"other","input_tokens":50,"output_tokens":5},
		{"type":"message","input_tokens":1000,"output_tokens":500}]}}`))
	b.do(b.request(tenanthttp.ContextWithCall(b.ctx, tenant.WithAgent("support"), tenant.WithIdempotencyKey("k")), http.MethodPost, messages, ask))
	all := b.executions()
	require.Len(t, all, 2)
	require.Equal(t, tenant.Usage{Input: 1300, Output: 520}, all[0].Usage)
	require.Equal(t, "k", all[0].IdempotencyKey)
	require.Equal(t, tenant.Usage{Input: 50, Output: 5}, all[1].Usage)
	require.Equal(t, "other", all[1].Model)
	require.Equal(t, "support", all[1].Agent)
	require.Equal(t, all[0].ID+"/1", all[1].IdempotencyKey)
}
