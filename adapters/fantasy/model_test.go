package fantasy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	sdk "charm.land/fantasy"
	"charm.land/fantasy/providers/openai"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/adapters/fantasy"
)

const hello = `{"id":"c-1","object":"chat.completion","created":1767225600,"model":"m-2","choices":[{"index":0,"message":{"role":"assistant","content":"Hello!"},
	"finish_reason":"stop"}],"usage":{"prompt_tokens":30,"completion_tokens":4,"total_tokens":34,"prompt_tokens_details":{"cached_tokens":10}}}`

func language(t *testing.T, client func(*http.Client) *http.Client, status int, answer string) sdk.LanguageModel {
	t.Helper()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(api.Close)
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	provider, err := openai.New(openai.WithBaseURL(api.URL+"/v1"), openai.WithAPIKey("sk-secret"), openai.WithHTTPClient(client(&http.Client{Transport: base})))
	require.NoError(t, err)
	model, err := provider.LanguageModel(t.Context(), "gpt-test")
	require.NoError(t, err)
	return model
}

func model(t *testing.T, client func(*http.Client) *http.Client, status int, answer string) *fantasy.Model {
	t.Helper()
	m, err := fantasy.NewModel(language(t, client, status, answer))
	require.NoError(t, err)
	return m
}

func unwatched(c *http.Client) *http.Client { return c }

var hi = tenant.Request{Messages: []tenant.Message{tenant.UserMessage("Hi")}, MaxTokens: 50}

func TestNewModel_RefusesWhatCannotBeMeant(t *testing.T) {
	t.Parallel()
	l := language(t, fantasy.Client, 200, hello)
	for _, c := range []struct {
		model  sdk.LanguageModel
		option []fantasy.Option
		says   string
	}{
		{nil, nil, "the model is nil"},
		{l, []fantasy.Option{nil}, "nil Option"},
		{l, []fantasy.Option{fantasy.WithProvider("")}, "WithProvider"},
		{l, []fantasy.Option{fantasy.WithMaxOutputTokens(0)}, "WithMaxOutputTokens: 0"},
	} {
		_, err := fantasy.NewModel(c.model, c.option...)
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		require.ErrorContains(t, err, c.says)
	}
	m, err := fantasy.NewModel(l, fantasy.WithMaxOutputTokens(5))
	require.NoError(t, err)
	require.Equal(t, tenant.ModelInfo{Provider: "openai", Name: "gpt-test", MaxOutputTokens: 5}, m.Info())
}

func TestGenerate_SaysWhatTheAPISays(t *testing.T) {
	t.Parallel()
	got, err := model(t, fantasy.Client, 200, hello).Generate(t.Context(), &hi)
	require.NoError(t, err)
	require.Equal(t, &tenant.Response{
		Text: "Hello!", Model: "m-2", RequestID: "c-1", FinishReason: "stop", Usage: &tenant.Usage{Input: 20, CacheRead: 10, Output: 4},
	}, got)
}

// Nobody has seen what the provider stated, nor whether it bills an error.
func TestGenerate_WithoutItsClientHasNoUsage(t *testing.T) {
	t.Parallel()
	got, err := model(t, unwatched, 200, hello).Generate(t.Context(), &hi)
	require.NoError(t, err)
	require.Equal(t, &tenant.Response{Text: "Hello!"}, got)
	got, err = model(t, unwatched, 429, `{"error":{"message":"later"}}`).Generate(t.Context(), &hi)
	require.Nil(t, got)
	require.Error(t, err)
	require.NotErrorIs(t, err, tenant.ErrNotBilled)
}

func TestGenerate_RefusesWhatFantasyCannotAskFor(t *testing.T) {
	t.Parallel()
	m := model(t, fantasy.Client, 500, "it was asked")
	for says, change := range map[string]func(*tenant.Request){
		"WithStop": func(r *tenant.Request) { r.Stop = []string{"a"} },
		"one has a URL": func(r *tenant.Request) {
			r.Messages = []tenant.Message{tenant.UserMessage("a", tenant.Image{URL: "https://a.example"})}
		},
		`do not take this one: json: `: func(r *tenant.Request) { r.Schema = &tenant.Schema{Name: "a", JSON: []byte(`{"$ref":"#/a"}`)} },
	} {
		r := hi
		change(&r)
		_, err := m.Generate(t.Context(), &r)
		_, streamed := m.Stream(t.Context(), &r, func(string) bool { return false })
		for _, err := range []error{err, streamed} {
			require.ErrorIs(t, err, tenant.ErrInvalidOption, says)
			require.ErrorIs(t, err, tenant.ErrNotBilled, says)
			require.ErrorContains(t, err, says)
			require.NotErrorAs(t, err, new(*fantasy.Error), "nothing was sent")
		}
	}
}

func ExampleNewModel() {
	provider, err := openai.New(openai.WithAPIKey("key"), openai.WithHTTPClient(fantasy.Client(nil)))
	if err != nil {
		fmt.Println(err)
		return
	}
	language, err := provider.LanguageModel(context.Background(), "gpt-4.1-mini")
	if err != nil {
		fmt.Println(err)
		return
	}
	model, err := fantasy.NewModel(language)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(model.Info().Provider, model.Info().Name)
	// Output:
	// openai gpt-4.1-mini
}
