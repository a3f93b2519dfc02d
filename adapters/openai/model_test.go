package openai_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	sdk "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/adapters/openai"
	"github.com/llmtenant/tenant/tenanttest"
)

const hello = `{"id":"chatcmpl-1","object":"chat.completion","created":1760000000,"model":"test-model-2026-01-01","service_tier":"flex",
	"choices":[{"index":0,"message":{"role":"assistant","content":"Hello!"},"finish_reason":"stop"}],
	"usage":{"prompt_tokens":1000,"completion_tokens":500,"total_tokens":1500}}`

// server is a chat completions API on loopback.
type server struct {
	*httptest.Server
	client *http.Client

	mu       sync.Mutex
	requests []seen
}

type seen struct {
	path   string
	header http.Header
	body   map[string]any
}

func newServer(t *testing.T, answer http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body map[string]any
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Errorf("the request's body: %v", err)
		}
		s.mu.Lock()
		s.requests = append(s.requests, seen{r.URL.Path, r.Header.Clone(), body})
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	s.client = &http.Client{Transport: &http.Transport{}}
	t.Cleanup(s.client.CloseIdleConnections)
	return s
}

func (s *server) seen() []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

func (s *server) options() []option.RequestOption {
	return []option.RequestOption{option.WithBaseURL(s.URL + "/v1"), option.WithAPIKey("sk-secret"), option.WithHTTPClient(s.client)}
}

func (s *server) model(t *testing.T, options ...openai.Option) *openai.Model {
	t.Helper()
	return newModel(t, s.options(), options...)
}

func newModel(t *testing.T, client []option.RequestOption, options ...openai.Option) *openai.Model {
	t.Helper()
	model, err := openai.NewModel(sdk.NewClient(client...), "test-model", options...)
	require.NoError(t, err)
	return model
}

func reply(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

var hi = &tenant.Request{System: "be brief", Messages: []tenant.Message{tenant.UserMessage("Hi")}, MaxTokens: 77}

func TestNewModel_RefusesWhatCannotBeMeant(t *testing.T) {
	t.Parallel()
	client := sdk.NewClient(option.WithAPIKey("k"))
	for _, c := range []struct {
		name   string
		client sdk.Client
		model  string
		option []openai.Option
		says   string
	}{
		{"the zero client", sdk.Client{}, "m", nil, "NewClient"},
		{"no model", client, "", nil, "name is empty"},
		{"a nil option", client, "m", []openai.Option{nil}, "nil Option"},
		{"no provider", client, "m", []openai.Option{openai.WithProvider("")}, "WithProvider"},
		{"no output", client, "m", []openai.Option{openai.WithMaxOutputTokens(0)}, "WithMaxOutputTokens: 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := openai.NewModel(c.client, c.model, c.option...)
			require.ErrorIs(t, err, tenant.ErrInvalidOption)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestInfo_IsWhatPricesAreLookedUpBy(t *testing.T) {
	t.Parallel()
	client := []option.RequestOption{option.WithAPIKey("k")}
	require.Equal(t, tenant.ModelInfo{Provider: "openai", Name: "test-model"}, newModel(t, client).Info())
	require.Equal(t, tenant.ModelInfo{Provider: "groq", Name: "test-model", MaxOutputTokens: 9},
		newModel(t, client, openai.WithProvider("groq"), openai.WithMaxOutputTokens(9)).Info())
}

func TestRequest_CarriesThePromptsAndTheCap(t *testing.T) {
	t.Parallel()
	s := newServer(t, reply(200, hello))
	user := map[string]any{"role": "user", "content": "Hi"}
	system := map[string]any{"role": "system", "content": "be brief"}
	for i, c := range []struct {
		options []openai.Option
		request *tenant.Request
		want    map[string]any
	}{
		{nil, hi, map[string]any{"model": "test-model", "messages": []any{system, user}, "max_completion_tokens": 77.0}},
		{[]openai.Option{openai.WithMaxTokensField()}, hi, map[string]any{"model": "test-model", "messages": []any{system, user}, "max_tokens": 77.0}},
		{nil, &tenant.Request{Messages: []tenant.Message{tenant.UserMessage("Hi")}}, map[string]any{"model": "test-model", "messages": []any{user}}},
	} {
		_, err := s.model(t, c.options...).Generate(t.Context(), c.request)
		require.NoError(t, err)
		got := s.seen()[i]
		require.Equal(t, "/v1/chat/completions", got.path)
		require.Equal(t, "Bearer sk-secret", got.header.Get("Authorization"))
		require.Equal(t, c.want, got.body)
	}
}

func TestResponse_IsWhatTheAPISays(t *testing.T) {
	t.Parallel()
	s := newServer(t, reply(200, hello))
	got, err := s.model(t).Generate(t.Context(), hi)
	require.NoError(t, err)
	require.Equal(t, &tenant.Response{
		Text: "Hello!", Model: "test-model-2026-01-01", RequestID: "chatcmpl-1", FinishReason: "stop", ServiceTier: "flex",
		Usage: &tenant.Usage{Input: 1000, Output: 500},
	}, got)
}

func TestRequestID_OfTheHeaderGoesBeforeThatOfTheBody(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "req_7")
		reply(200, hello)(w, r)
	})
	got, err := s.model(t).Generate(t.Context(), hi)
	require.NoError(t, err)
	require.Equal(t, "req_7", got.RequestID)
}

func TestRefusal_IsTheText(t *testing.T) {
	t.Parallel()
	s := newServer(t, reply(200, `{"choices":[{"message":{"content":null,"refusal":"I will not."},"finish_reason":"stop"}],
		"usage":{"prompt_tokens":1,"completion_tokens":2}}`))
	got, err := s.model(t).Generate(t.Context(), hi)
	require.NoError(t, err)
	require.Equal(t, "I will not.", got.Text)
}

func TestGenerate_IsOneAttempt(t *testing.T) {
	t.Parallel()
	for _, status := range []int{408, 409, 429, 500, 503} {
		s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Should-Retry", "true")
			reply(status, `{"error":{"message":"later"}}`)(w, r)
		})
		model := newModel(t, append(s.options(), option.WithMaxRetries(5)))
		_, err := model.Generate(t.Context(), hi)
		require.Error(t, err)
		require.Len(t, s.seen(), 1, "status %d", status)
	}
}

func TestAgent_OnThisModelChargesWhatTheAPIReports(t *testing.T) {
	t.Parallel()
	s := newServer(t, reply(200, hello))
	_, ledger := tenanttest.Open(t)
	agent, err := tenant.NewAgent(ledger, s.model(t, openai.WithProvider(tenanttest.Provider)))
	require.NoError(t, err)
	got, err := agent.Call(t.Context(), "Hi", tenant.WithTenant(tenant.ID("acme")), tenant.WithMaxTokens(600))
	require.NoError(t, err)
	require.Equal(t, "Hello!", got.Text)
	require.Equal(t, "0.002", got.Cost.String(), "at the price of the model asked for, since that of the billed one is not known")
	require.Equal(t, 600.0, s.seen()[0].body["max_completion_tokens"])
}

func ExampleNewModel() {
	api := httptest.NewServer(reply(200, hello)) // in a program: OpenAI's, which is the default, or any like it
	defer api.Close()

	client := sdk.NewClient(option.WithAPIKey("key"), option.WithBaseURL(api.URL))
	model, err := openai.NewModel(client, "test-model", openai.WithProvider("test"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(model.Info().Provider, model.Info().Name)
	// Output:
	// test test-model
}
