package anthropic_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	sdk "github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/adapters/anthropic"
)

const hello = `{"id":"msg_7","type":"message","role":"assistant","model":"claude-test-2026","content":[{"type":"thinking","thinking":"Hm.","signature":"s"},
	{"type":"text","text":"Hello"},{"type":"text","text":"!"}],"stop_reason":"end_turn","usage":{"input_tokens":12,"cache_read_input_tokens":70,
	"cache_creation_input_tokens":30,"cache_creation":{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":20},"output_tokens":9}}`

// events are a stream of messages, begun; what follows is the test's.
const events = `event: message_start
data: {"type":"message_start","message":{"id":"msg_8","type":"message","role":"assistant","model":"claude-test-2026","content":[],"usage":{"input_tokens":41,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

`

// server is an API of messages on loopback, which answers all requests alike.
type server struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []map[string]any
}

func newServer(t *testing.T, contentType, answer string) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Errorf("the request's body: %v", err)
		}
		s.mu.Lock()
		s.bodies = append(s.bodies, body)
		s.mu.Unlock()
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Request-Id", "req_9")
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) model(t *testing.T, options ...anthropic.Option) *anthropic.Model {
	t.Helper()
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	model, err := anthropic.NewModel(sdk.NewClient(option.WithBaseURL(s.URL), option.WithAPIKey("sk-secret"),
		option.WithHTTPClient(&http.Client{Transport: base})), "claude-test", options...)
	require.NoError(t, err)
	return model
}

func hi(most int64) *tenant.Request {
	return &tenant.Request{Messages: []tenant.Message{tenant.UserMessage("Hi")}, MaxTokens: most}
}

func TestNewModel_RefusesWhatCannotBeMeant(t *testing.T) {
	t.Parallel()
	client := sdk.NewClient(option.WithAPIKey("k"))
	for _, c := range []struct {
		client sdk.Client
		model  string
		option []anthropic.Option
		says   string
	}{
		{sdk.Client{}, "m", nil, "NewClient"},
		{client, "", nil, "name is empty"},
		{client, "m", []anthropic.Option{nil}, "nil Option"},
		{client, "m", []anthropic.Option{anthropic.WithProvider("")}, "WithProvider"},
		{client, "m", []anthropic.Option{anthropic.WithMaxOutputTokens(0)}, "WithMaxOutputTokens: 0"},
	} {
		_, err := anthropic.NewModel(c.client, c.model, c.option...)
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		require.ErrorContains(t, err, c.says)
	}
	model, err := anthropic.NewModel(client, "m", anthropic.WithProvider("bedrock"), anthropic.WithMaxOutputTokens(5))
	require.NoError(t, err)
	require.Equal(t, tenant.ModelInfo{Provider: "bedrock", Name: "m", MaxOutputTokens: 5}, model.Info())
}

func TestGenerate_SaysWhatTheAPISays(t *testing.T) {
	t.Parallel()
	got, err := newServer(t, "application/json", hello).model(t).Generate(t.Context(), hi(50))
	require.NoError(t, err)
	require.Equal(t, &tenant.Response{
		Text: "Hello!", Model: "claude-test-2026", RequestID: "req_9", FinishReason: "end_turn",
		Usage: &tenant.Usage{Input: 12, CacheRead: 70, CacheWrite5m: 10, CacheWrite1h: 20, Output: 9},
	}, got)
}

// The SDK refuses to wait for more output than it expects in ten minutes.
func TestGenerate_OfMuchOutputIsStreamedToTheAdapter(t *testing.T) {
	t.Parallel()
	_, refuses := sdk.CalculateNonStreamingTimeout(32_000, "claude-test", nil)
	require.Error(t, refuses)
	s := newServer(t, "text/event-stream", events+`event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello!"}}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}

event: message_stop
data: {"type":"message_stop"}

`)
	got, err := s.model(t).Generate(t.Context(), hi(32_000))
	require.NoError(t, err)
	require.Equal(t, "Hello!", got.Text)
	require.Equal(t, &tenant.Usage{Input: 41, Output: 9}, got.Usage)
	require.False(t, got.Estimated)
	require.Equal(t, true, s.bodies[0]["stream"])
	require.Equal(t, 32_000.0, s.bodies[0]["max_tokens"])
}

func TestStream_ErrorInItBeforeAnyTextIsNotBilled(t *testing.T) {
	t.Parallel()
	const overloaded = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"sk-secret\"}}\n\n"
	never := func(string) bool { t.Error("there is no text"); return false }
	got, err := newServer(t, "text/event-stream", overloaded).model(t).Stream(t.Context(), hi(50), never)
	require.Nil(t, got)
	require.ErrorIs(t, err, tenant.ErrNotBilled)
	require.EqualError(t, err, "anthropic: the answer is an error (overloaded_error)")

	text := ""
	got, err = newServer(t, "text/event-stream", events+`event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"`+strings.Repeat("word", 20)+`"}}

`+overloaded).model(t).Stream(t.Context(), hi(50), func(s string) bool { text += s; return true })
	require.Error(t, err)
	require.NotErrorIs(t, err, tenant.ErrNotBilled, "what was written before is billed")
	require.EqualError(t, err, "anthropic: the answer cannot be read (overloaded_error)")
	require.Len(t, text, 80)
	require.True(t, got.Estimated)
	require.Equal(t, &tenant.Usage{Input: 41, Output: 20}, got.Usage)
}

func ExampleNewModel() {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, hello) }))
	defer api.Close() // in a program: Anthropic's, which is the default

	client := sdk.NewClient(option.WithAPIKey("key"), option.WithBaseURL(api.URL))
	model, err := anthropic.NewModel(client, "claude-sonnet-4-5")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(model.Info().Provider, model.Info().Name)
	// Output:
	// anthropic claude-sonnet-4-5
}
