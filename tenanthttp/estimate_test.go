package tenanthttp

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/meter"
)

func TestPlan_BoundsTheCallFromItsRequest(t *testing.T) {
	t.Parallel()
	const openAI, anthropic = "https://api.openai.com", "https://api.anthropic.com"
	data := strings.Repeat("QUJD", 1000)
	for _, c := range []struct {
		name, url, body string
		options         []Option
		media           int64 // tokens of input beside the body's text
		mediaBytes      int64 // that are no text
		open            int64
		all             bool // of the input can be media
		output, least   int64
	}{
		{name: "a closed request", url: openAI + "/v1/chat/completions", body: `{"model":"m","max_tokens":1000}`, output: 1000, least: 256},
		{name: "a small one is worth making", url: openAI + "/v1/chat/completions", body: `{"model":"m","max_tokens":100}`, output: 100, least: 100},
		{name: "answers", url: openAI + "/v1/completions", body: `{"model":"m","prompt":["a","b"],"n":3,"max_tokens":1000}`, output: 6000, least: 6 * 256},
		{name: "thinking has to fit", url: anthropic + "/v1/messages", body: `{"model":"m","max_tokens":9000,"thinking":{"type":"enabled","budget_tokens":4000}}`, output: 9000, least: 4001},
		{name: "no limit", url: openAI + "/v1/chat/completions", body: `{"model":"m"}`, output: DefaultMaxOutput, least: 256},
		{name: "no limit, but the host's", url: openAI + "/v1/chat/completions", body: `{"model":"m"}`, options: []Option{WithMaxOutput(77)}, output: 77, least: 77},
		{name: "a provider that searches", url: openAI + "/v1/responses", body: `{"model":"m","input":"x","tools":[{"type":"web_search"}],"max_output_tokens":1000}`, open: DefaultMaxInput, output: 1000, least: 256},
		{name: "a host with a smaller window", url: openAI + "/v1/responses", body: `{"model":"m","previous_response_id":"r","max_output_tokens":1000}`, options: []Option{WithMaxInput(32_000)}, open: 32_000, all: true, output: 1000, least: 256},
		{name: "an image", url: openAI + "/v1/chat/completions", body: `{"model":"m","max_tokens":10,"messages":[{"content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` + data + `"}}]}]}`,
			media: meter.ImageInput, mediaBytes: 22 + 4000, output: 10, least: 10},
		{name: "audio", url: openAI + "/v1/chat/completions", body: `{"model":"m","max_tokens":10,"messages":[{"content":[{"type":"input_audio","input_audio":{"data":"` + data + `"}}]}]}`,
			media: 250, mediaBytes: 4000, output: 10, least: 10},
		{name: "a document", url: openAI + "/v1/chat/completions", body: `{"model":"m","max_tokens":10,"messages":[{"content":[{"type":"file","file":{"file_data":"data:application/pdf;base64,` + data + `"}}]}]}`,
			media: 4 * 4028, mediaBytes: 4028, output: 10, least: 10},
		{name: "a document has no more than what a model reads", url: openAI + "/v1/chat/completions", body: `{"model":"m","max_tokens":10,"messages":[{"content":[{"type":"file","file":{"file_data":"data:application/pdf;base64,` + data + `"}}]}]}`,
			options: []Option{WithMaxInput(5000)}, media: 5000, mediaBytes: 4028, output: 10, least: 10},
		{name: "an image of a model that counts more of it", url: openAI + "/v1/chat/completions", body: `{"model":"gpt-4o-mini-2024-07-18","max_tokens":10,"messages":[{"content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` + data + `"}}]}]}`,
			media: meter.DearImage, mediaBytes: 22 + 4000, output: 10, least: 10},
		{name: "an image at its own size", url: openAI + "/v1/responses", body: `{"model":"m","max_output_tokens":16,"input":[{"content":[{"type":"input_image","detail":"original","image_url":"data:image/png;base64,` + data + `"}]}]}`,
			media: meter.FullImage, mediaBytes: 22 + 4000, output: 16, least: 16},
		{name: "each medium counts as what it is", url: openAI + "/v1/chat/completions", body: `{"model":"m","max_tokens":10,"messages":[{"content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` + data + `"}},{"type":"input_audio","input_audio":{"data":"` + data + `"}}]}]}`,
			media: meter.ImageInput + 250, mediaBytes: 22 + 8000, output: 10, least: 10},
		{name: "media that are stored can be all of the input", url: openAI + "/v1/chat/completions", body: `{"model":"m","max_tokens":10,"messages":[{"content":[{"type":"file","file":{"file_id":"f"}}]}]}`,
			open: DefaultMaxInput, all: true, output: 10, least: 10},
		{name: "a body that cannot be read", url: openAI + "/v1/chat/completions", body: `{"model":`, open: DefaultMaxInput, all: true, output: DefaultMaxOutput, least: DefaultMaxOutput},
		{name: "embeddings have no output", url: openAI + "/v1/embeddings", body: `{"model":"m","input":"x"}`},
		{name: "images cannot be shortened", url: openAI + "/v1/images/generations", body: `{"model":"m","prompt":"x","n":2}`, output: 2 * imageOutput, least: 2 * imageOutput},
		{name: "reasoning beside the limit", url: "https://api.x.ai/v1/responses", body: `{"model":"grok-9","input":"x","max_output_tokens":40}`, output: 40 + DefaultMaxOutput, least: 40 + DefaultMaxOutput},
		{name: "of which the host knows how much it is", url: "https://api.x.ai/v1/responses", body: `{"model":"grok-9","input":"x","max_output_tokens":4000}`, options: []Option{WithMaxOutput(3000)}, output: 7000, least: 3256},
		{name: "each turn has the limit to itself", url: anthropic + "/v1/messages", body: `{"model":"m","max_tokens":2000,"tools":[{"type":"web_search_20260209","max_uses":2}]}`, open: DefaultMaxInput, output: 6000, least: 3 * 256},
		{name: "of how many nobody says", url: anthropic + "/v1/messages", body: `{"model":"m","max_tokens":2000,"tools":[{"type":"web_search_20260209"}]}`, open: DefaultMaxInput, output: 20_000, least: 2560},
		{name: "a limit that nobody can mean", url: openAI + "/v1/chat/completions", body: `{"model":"m","max_tokens":9007199254740992,"n":9007199254740992}`, output: mostTokens, least: 256 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			transport, err := newTransport(&ledger{}, nil, c.options...)
			require.NoError(t, err)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url, strings.NewReader(c.body))
			require.NoError(t, err)
			e, ok := meter.Recognise(r.Method, r.URL)
			require.True(t, ok)
			p := transport.plan(r, e, []byte(c.body))
			input := int64(len(c.body)) - c.mediaBytes + hiddenInput + c.media
			require.Equal(t, max(input, c.open), p.estimate.InputTokens)
			if c.all {
				c.media = p.estimate.InputTokens
			}
			require.Equal(t, c.media, p.estimate.InputMediaTokens)
			require.Equal(t, c.output, p.estimate.OutputTokens)
			require.Equal(t, c.least, p.estimate.LeastOutputTokens)
			require.LessOrEqual(t, p.input(0), p.estimate.InputTokens)
			require.Positive(t, p.input(0))
			if c.all {
				require.Equal(t, p.estimate.InputTokens, p.input(0), "nobody knows what is stored")
			}
		})
	}
}

func TestPlan_NamesTheModelAsThePriceBookDoes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		url, body string
		want      tenant.Estimate
	}{
		{"https://api.openai.com/v1/chat/completions", `{"model":"gpt-x","service_tier":"flex"}`, tenant.Estimate{Provider: "openai", Model: "gpt-x", ServiceTier: "flex"}},
		{"https://x.openai.azure.com/openai/deployments/mine/chat/completions?api-version=2024-10-21", `{}`, tenant.Estimate{Provider: "azure", Model: "mine"}},
		{"https://bedrock-runtime.us-east-1.amazonaws.com/model/us.amazon.nova-lite-v1%3A0/converse", `{}`, tenant.Estimate{Provider: "bedrock", Model: "us.amazon.nova-lite-v1:0"}},
		{"https://generativelanguage.googleapis.com/v1beta/models/gemini-x:generateContent", `{}`, tenant.Estimate{Provider: "google", Model: "gemini-x"}},
		{"https://gateway.example/v1/chat/completions", `{"model":"m","messages":[]}`, tenant.Estimate{Provider: "own", Model: "m"}},
	} {
		transport, err := newTransport(&ledger{}, roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody}, nil
		}), WithProvider("own"))
		require.NoError(t, err)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url, strings.NewReader(c.body))
		require.NoError(t, err)
		resp, err := transport.RoundTrip(r)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		got := transport.books.(*ledger).asked
		require.Equal(t, c.want, tenant.Estimate{Provider: got.Provider, Model: got.Model, ServiceTier: got.ServiceTier})
	}
}

// In several passes the input is read again, and what was written before with it.
func TestPlan_SeveralPassesReadTheInputAgain(t *testing.T) {
	t.Parallel()
	transport, err := newTransport(&ledger{}, nil)
	require.NoError(t, err)
	const body = `{"model":"m","input":"Name a river.","max_output_tokens":700,"reasoning":{"mode":"pro"}}`
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://api.openai.com/v1/responses", strings.NewReader(body))
	require.NoError(t, err)
	e, ok := meter.Recognise(r.Method, r.URL)
	require.True(t, ok)
	p := transport.plan(r, e, []byte(body))
	require.EqualValues(t, 8*(len(body)+hiddenInput+700), p.estimate.InputTokens)
	require.EqualValues(t, 700, p.estimate.OutputTokens)
	require.EqualValues(t, 8*(len(body)/meter.LikelyBytes+1), p.input(0))
}

// What is granted is shared among the turns, and what no limit binds is not in the limit.
func TestPlan_TheLimitIsOfWhatItBinds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		url, body string
		granted   int64
		want      string
	}{
		{"https://api.anthropic.com/v1/messages", `{"max_tokens":2000,"model":"m","tools":[{"type":"web_search_20260209","max_uses":1}]}`, 1200, `{"max_tokens":600,"model":"m","tools":[{"type":"web_search_20260209","max_uses":1}]}`},
		{"https://api.x.ai/v1/responses", `{"max_output_tokens":2000,"model":"grok-9"}`, DefaultMaxOutput + 500, `{"max_output_tokens":500,"model":"grok-9"}`},
		{"https://api.x.ai/v1/responses", `{"max_output_tokens":2000,"model":"grok-9"}`, 100, `{"max_output_tokens":1,"model":"grok-9"}`},
	} {
		transport, err := newTransport(&ledger{}, nil)
		require.NoError(t, err)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url, strings.NewReader(c.body))
		require.NoError(t, err)
		e, ok := meter.Recognise(r.Method, r.URL)
		require.True(t, ok)
		p := transport.plan(r, e, []byte(c.body))
		p.limit(e, c.granted)
		require.Equal(t, c.want, string(p.body))
	}
}

func TestPlan_HostsAddWhatTheyAreKnownToAdd(t *testing.T) {
	t.Parallel()
	transport, err := newTransport(&ledger{}, nil, WithHiddenInput("Gateway.internal", 9000), WithHiddenInput("a.gateway.internal", 20), WithHiddenInput("127.0.0.1:8080", 3))
	require.NoError(t, err)
	for host, want := range map[string]int64{
		"gateway.internal": 9000, "b.gateway.internal": 9000, "GATEWAY.internal:4000": 9000, "a.gateway.internal": 20, "othergateway.internal": hiddenInput,
		"127.0.0.1:8080": 3, "127.0.0.1:8081": hiddenInput, "api.venice.ai": 4096, "api.openai.com": hiddenInput,
	} {
		const body = `{"model":"m","max_tokens":10,"messages":[]}`
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+host+"/v1/chat/completions", strings.NewReader(body))
		require.NoError(t, err)
		e, ok := meter.Recognise(r.Method, r.URL)
		require.True(t, ok)
		require.Equal(t, int64(len(body))+want, transport.plan(r, e, []byte(body)).estimate.InputTokens, host)
	}
	for _, c := range []struct {
		host   string
		tokens int64
	}{{"", 5}, {"https://gateway.internal", 5}, {"gateway.internal/v1", 5}, {"a b", 5}, {":80", 5}, {"gateway.internal", 0}, {"gateway.internal", 1<<40 + 1}} {
		_, err := newTransport(&ledger{}, nil, WithHiddenInput(c.host, c.tokens))
		require.ErrorIs(t, err, tenant.ErrInvalidOption, c.host)
		require.ErrorContains(t, err, "WithHiddenInput")
	}
}

// A chunk that the provider sends unasked is the caller's, like all that it sends.
func TestPlan_TakesNoChunkOutThatComesUnasked(t *testing.T) {
	t.Parallel()
	transport, err := newTransport(&ledger{}, nil)
	require.NoError(t, err)
	for url, filters := range map[string]bool{
		"https://router.huggingface.co/novita/v3/openai/chat/completions": false,
		"https://api.novita.ai/openai/v1/chat/completions":                false,
		"https://router.huggingface.co/together/v1/chat/completions":      true,
		"https://api.openai.com/v1/chat/completions":                      true,
		"https://api.mistral.ai/v1/chat/completions":                      false,
	} {
		for body, unasked := range map[string]bool{`{"model":"m","stream":true}`: true, `{"model":"m","stream":true,"usage":{"include":true}}`: false, `{"model":"m","stream":true,"stream_options":{"include_usage":true}}`: false} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
			require.NoError(t, err)
			e, ok := meter.Recognise(r.Method, r.URL)
			require.True(t, ok)
			require.Equal(t, filters && unasked, transport.plan(r, e, []byte(body)).filter, "%s %s", url, body)
		}
	}
}

// A caller that stops a stream is not charged a whole context window because the provider might have searched.
func TestPlan_ToolsBringSomethingInEachTime(t *testing.T) {
	t.Parallel()
	transport, err := newTransport(&ledger{}, nil, WithMaxInput(50_000))
	require.NoError(t, err)
	const body = `{"model":"m","input":"What is new?","tools":[{"type":"web_search"}],"stream":true}`
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://api.openai.com/v1/responses", strings.NewReader(body))
	require.NoError(t, err)
	e, ok := meter.Recognise(r.Method, r.URL)
	require.True(t, ok)
	p := transport.plan(r, e, []byte(body))
	text := int64(len(body))/meter.LikelyBytes + 1
	require.Equal(t, text+likelyRound, p.input(0))
	require.Equal(t, text+3*likelyRound, p.input(2))
	require.Equal(t, int64(50_000), p.input(3), "never more than was held")
	require.Equal(t, int64(50_000), p.input(1<<40))
}

func TestPlan_SaysWhatTheRequestAsksFor(t *testing.T) {
	t.Parallel()
	transport, err := newTransport(&ledger{}, nil)
	require.NoError(t, err)
	for _, c := range []struct {
		url, body string
		header    http.Header
		tier      string
		long, all bool
	}{
		{url: "https://api.anthropic.com/v1/messages", body: `{"model":"m","max_tokens":9,"speed":"fast","cache_control":{"type":"ephemeral","ttl":"1h"}}`, tier: "fast", long: true},
		{url: "https://api.anthropic.com/v1/messages", body: `{"model":"m","max_tokens":9,"cache_control":{"type":"ephemeral"}}`},
		{url: "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/invoke", body: `{}`, header: http.Header{"X-Amzn-Bedrock-Service-Tier": {"priority"}}, tier: "priority"},
		{url: "https://aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/google/models/g:generateContent", body: `{}`, header: http.Header{"X-Vertex-Ai-Llm-Shared-Request-Type": {"flex"}}, tier: "flex"},
		{url: "https://api.openai.com/v1/audio/transcriptions", body: "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b--\r\n", all: true},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url, strings.NewReader(c.body))
		require.NoError(t, err)
		for name, v := range c.header {
			r.Header[name] = v
		}
		e, ok := meter.Recognise(r.Method, r.URL)
		require.True(t, ok)
		got := transport.plan(r, e, []byte(c.body)).estimate
		require.Equal(t, c.tier, got.ServiceTier, c.body)
		require.Equal(t, c.long, got.LongCache, c.body)
		require.Equal(t, c.all, got.InputMediaTokens == got.InputTokens, c.body)
	}
}
