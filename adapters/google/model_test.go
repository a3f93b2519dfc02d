package google_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genai"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/adapters/google"
)

const hello = `{"candidates":[{"content":{"role":"model","parts":[{"text":"Hm.","thought":true},{"text":"Hello"},{"text":"!"}]},"finishReason":"STOP"}],
	"usageMetadata":{"promptTokenCount":40,"cachedContentTokenCount":10,"candidatesTokenCount":5,"thoughtsTokenCount":3,"totalTokenCount":48},
	"modelVersion":"gemini-test-001","responseId":"r-1"}`

func client(t *testing.T, config genai.ClientConfig, contentType, answer string) (*genai.Client, *map[string]any) {
	t.Helper()
	asked := &map[string]any{}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(asked); err != nil {
			t.Errorf("the request's body: %v", err)
		}
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(api.Close)
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	config.HTTPClient, config.HTTPOptions.BaseURL = &http.Client{Transport: base}, api.URL
	c, err := genai.NewClient(t.Context(), &config)
	require.NoError(t, err)
	return c, asked
}

var (
	gemini = genai.ClientConfig{Backend: genai.BackendGeminiAPI, APIKey: "sk-secret"}
	vertex = genai.ClientConfig{Backend: genai.BackendVertexAI, Project: "p", Location: "l"}
	hi     = &tenant.Request{Messages: []tenant.Message{tenant.UserMessage("Hi")}, MaxTokens: 50}
)

func TestNewModel_RefusesWhatCannotBeMeant(t *testing.T) {
	t.Parallel()
	c, _ := client(t, gemini, "application/json", hello)
	for _, f := range []struct {
		client *genai.Client
		model  string
		option []google.Option
		says   string
	}{
		{nil, "m", nil, "NewClient"},
		{&genai.Client{}, "m", nil, "NewClient"},
		{c, "", nil, "name is empty"},
		{c, "m", []google.Option{nil}, "nil Option"},
		{c, "m", []google.Option{google.WithProvider("")}, "WithProvider"},
		{c, "m", []google.Option{google.WithMaxOutputTokens(0)}, "WithMaxOutputTokens: 0"},
		{c, "m", []google.Option{google.WithMaxOutputTokens(1 << 31)}, "WithMaxOutputTokens: 2147483648"},
	} {
		_, err := google.NewModel(t.Context(), f.client, f.model, f.option...)
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		require.ErrorContains(t, err, f.says)
	}
	for provider, config := range map[string]genai.ClientConfig{google.DefaultProvider: gemini, google.DefaultVertexProvider: vertex} {
		c, _ := client(t, config, "application/json", hello)
		model, err := google.NewModel(t.Context(), c, "gemini-test")
		require.NoError(t, err)
		require.Equal(t, tenant.ModelInfo{Provider: provider, Name: "gemini-test"}, model.Info())
	}
}

func TestGenerate_SaysWhatTheAPISays(t *testing.T) {
	t.Parallel()
	for _, config := range []genai.ClientConfig{gemini, vertex} {
		c, asked := client(t, config, "application/json", hello)
		model, err := google.NewModel(t.Context(), c, "gemini-test")
		require.NoError(t, err)
		got, err := model.Generate(t.Context(), hi)
		require.NoError(t, err)
		require.Equal(t, &tenant.Response{
			Text: "Hello!", Model: "gemini-test-001", RequestID: "r-1", FinishReason: "STOP",
			Usage: &tenant.Usage{Input: 30, CacheRead: 10, Output: 5, Reasoning: 3},
		}, got)
		require.Equal(t, 50.0, (*asked)["generationConfig"].(map[string]any)["maxOutputTokens"])
	}
}

// A prompt that Gemini blocks has no candidates, and its input is billed.
func TestGenerate_BlockedPromptIsATextOfNothing(t *testing.T) {
	t.Parallel()
	c, _ := client(t, gemini, "application/json", `{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":40,"totalTokenCount":40}}`)
	model, err := google.NewModel(t.Context(), c, "gemini-test")
	require.NoError(t, err)
	got, err := model.Generate(t.Context(), hi)
	require.NoError(t, err)
	require.Empty(t, got.Text)
	require.Equal(t, &tenant.Usage{Input: 40}, got.Usage)
}

func TestStream_ErrorInItIsNotBilledBeforeAnyText(t *testing.T) {
	t.Parallel()
	c, _ := client(t, gemini, "text/event-stream", "data: {\"error\":{\"code\":503,\"message\":\"sk-secret\",\"status\":\"UNAVAILABLE\"}}\r\n\r\n")
	model, err := google.NewModel(t.Context(), c, "gemini-test")
	require.NoError(t, err)
	got, err := model.Stream(t.Context(), hi, func(string) bool { t.Error("there is no text"); return false })
	require.Nil(t, got)
	require.ErrorIs(t, err, tenant.ErrNotBilled)
	require.EqualError(t, err, "google: the answer is an error (UNAVAILABLE)")
}

func ExampleNewModel() {
	ctx := context.Background()
	client, err := genai.NewClient(ctx, &genai.ClientConfig{Backend: genai.BackendGeminiAPI, APIKey: "key"})
	if err != nil {
		fmt.Println(err)
		return
	}
	model, err := google.NewModel(ctx, client, "gemini-2.5-flash")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(model.Info().Provider, model.Info().Name)
	// Output:
	// google gemini-2.5-flash
}
