package compat_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genai"

	sdkanthropic "github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	sdkopenai "github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/adapters/anthropic"
	"github.com/llmtenant/tenant/adapters/google"
	"github.com/llmtenant/tenant/adapters/openai"
	"github.com/llmtenant/tenant/compat/internal/harness"
)

const png = "cG5n" // in base64

func TestAdapters(t *testing.T) {
	t.Parallel()
	harness.RunAdapters(t, []*harness.Adapter{
		{
			Name: "openai", Wire: harness.OpenAIChat{}, Image: "data:image/png;base64," + png,
			New: func(t testing.TB, client *http.Client, url string) tenant.Model {
				model, err := openai.NewModel(sdkopenai.NewClient(openaioption.WithHTTPClient(client), openaioption.WithBaseURL(url+"/v1"),
					openaioption.WithAPIKey("key")), harness.Model)
				require.NoError(t, err)
				return model
			},
		},
		{
			Name: "anthropic", Wire: harness.Anthropic{}, Image: png,
			New: func(t testing.TB, client *http.Client, url string) tenant.Model {
				model, err := anthropic.NewModel(sdkanthropic.NewClient(anthropicoption.WithHTTPClient(client), anthropicoption.WithBaseURL(url),
					anthropicoption.WithAPIKey("key")), harness.Model)
				require.NoError(t, err)
				return model
			},
		},
		{
			Name: "google, Gemini API", Wire: harness.Gemini{}, Image: png,
			New: func(t testing.TB, client *http.Client, url string) tenant.Model {
				return googleModel(t, &genai.ClientConfig{Backend: genai.BackendGeminiAPI, HTTPClient: client, APIKey: "key"}, url)
			},
		},
		{
			Name: "google, Vertex AI", Wire: harness.Gemini{}, Image: png,
			New: func(t testing.TB, client *http.Client, url string) tenant.Model {
				return googleModel(t, &genai.ClientConfig{Backend: genai.BackendVertexAI, HTTPClient: client, Project: "p", Location: "us-central1"}, url)
			},
		},
	})
}

func googleModel(t testing.TB, config *genai.ClientConfig, url string) tenant.Model {
	attempts, wait := int32(3), 0.0
	config.HTTPOptions = genai.HTTPOptions{BaseURL: url, RetryOptions: &genai.HTTPRetryOptions{Attempts: &attempts, InitialDelay: &wait, Jitter: &wait}}
	client, err := genai.NewClient(t.Context(), config)
	require.NoError(t, err)
	model, err := google.NewModel(t.Context(), client, harness.Model)
	require.NoError(t, err)
	return model
}
