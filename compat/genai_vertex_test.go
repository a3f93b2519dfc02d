package compat_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genai"

	"github.com/llmtenant/tenant/compat/internal/harness"
)

func newVertex(t testing.TB, client *http.Client, url string) harness.Calls {
	// The transport under the SDK:
	sdk, err := genai.NewClient(t.Context(), &genai.ClientConfig{
		Backend: genai.BackendVertexAI, HTTPClient: client, Project: "project", Location: "us-central1",
		HTTPOptions: genai.HTTPOptions{BaseURL: url},
	})

	require.NoError(t, err)
	return geminiCalls(sdk)
}
