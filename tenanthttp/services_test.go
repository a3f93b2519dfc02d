package tenanthttp_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
)

// throughHosts is a transport whose requests to any host end at the bench's provider.
func (b *bench) throughHosts(options ...tenanthttp.Option) *tenanthttp.Transport {
	b.t.Helper()
	transport, err := tenanthttp.NewTransport(b.ledger, roundTrip(func(out *http.Request) (*http.Response, error) {
		out = out.Clone(out.Context())
		out.URL.Scheme, out.URL.Host = "http", strings.TrimPrefix(b.server.URL, "http://")
		return b.server.Client().Transport.RoundTrip(out)
	}), options...)
	require.NoError(b.t, err)
	return transport
}

func (b *bench) through(t http.RoundTripper, method, url, body string, header ...string) (int, string) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.ctx, method, url, strings.NewReader(body))
	require.NoError(b.t, err)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := t.RoundTrip(r)
	require.NoError(b.t, err)
	read, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	require.NoError(b.t, resp.Body.Close())
	return resp.StatusCode, string(read)
}

func TestServices_ThatNobodyCountsAreNamed(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, replies("application/json", `{"request_id":"r"}`))
	through := b.throughHosts()
	_, got := b.through(through, http.MethodPost, "https://api.deepgram.com/v1/listen?model=nova-3", `{"url":"https://e.com/a.wav"}`)
	sameBytes(t, `{"request_id":"r"}`, got)
	heard := b.witness.unmetered()
	require.Len(t, heard, 1)
	require.Equal(t, "Deepgram, by seconds of audio and characters", heard[0].Service)
	require.Equal(t, "api.deepgram.com", heard[0].Host)

	b.through(through, http.MethodGet, "https://api.deepgram.com/v1/projects", "")
	require.Len(t, b.witness.unmetered(), 1, "what is there is read for nothing")
	b.through(through, http.MethodGet, "https://api.deepgram.com/v1/listen", "", "Connection", "Upgrade", "Upgrade", "websocket")
	require.Len(t, b.witness.unmetered(), 2, "but a session costs")

	status, refused := b.through(b.throughHosts(tenanthttp.RefuseUnmetered()), http.MethodPost, "https://api.replicate.com/v1/predictions?key=secret", `{}`)
	require.Equal(t, http.StatusPaymentRequired, status)
	require.Contains(t, refused, "POST api.replicate.com/v1/predictions: Replicate", "and the error says which request it was")
	require.Contains(t, refused, "Replicate, by the piece")
	require.Empty(t, b.executions())
}

func TestServices_WhatOnlyKeepsSomethingIsNeitherRefusedNorReported(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, replies("application/json", `{}`))
	strict := b.throughHosts(tenanthttp.RefuseUnmetered())
	for _, url := range []string{
		"https://api.openai.com/v1/conversations", "https://api.openai.com/v1/vector_stores", "https://api.openai.com/v1/skills",
		"https://api.anthropic.com/v1/agents", "https://api.mistral.ai/v1/agents", "https://generativelanguage.googleapis.com/v1beta/agents",
		"https://gateway.internal/v1/conversations", "https://gateway.internal/v1/vector_stores",
	} {
		status, _ := b.through(strict, http.MethodPost, url, `{"name":"x"}`)
		require.Equal(t, http.StatusOK, status, url)
	}
	require.Empty(t, b.witness.unmetered())
	require.Empty(t, b.executions())
}

// A model of one's own is served under the same path as one of text, and is not a call of it.
func TestServices_DatabricksServesOtherModelsToo(t *testing.T) {
	t.Parallel()
	b := newBench(t, setting{}, replies("application/json", answer))
	through := b.throughHosts()
	const serving = "https://adb-1.2.azuredatabricks.net/serving-endpoints/forest/invocations"
	b.through(through, http.MethodPost, serving, `{"dataframe_records":[{"a":1}]}`)
	require.Len(t, b.witness.unmetered(), 1)
	require.Contains(t, b.witness.unmetered()[0].Service, "Databricks")
	require.Empty(t, b.executions())
	b.through(through, http.MethodPost, serving, `{"messages":[{"role":"user","content":"Hello"}],"max_tokens":10}`)
	require.Len(t, b.witness.unmetered(), 1)
	e := b.execution()
	require.Equal(t, "databricks", e.Provider)
	require.Equal(t, tenant.Usage{Input: 800, CacheRead: 200, Output: 500}, e.Usage)
}
