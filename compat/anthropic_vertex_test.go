package compat_test

import (
	"net/http"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/anthropics/anthropic-sdk-go/vertex"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/llmtenant/tenant/compat/internal/harness"
)

var anthropicVertex = harness.SDK{
	Name: "anthropic-sdk-go, on Vertex AI", Module: "github.com/anthropics/anthropic-sdk-go", File: "anthropic_vertex_test.go",
	Wire: harness.Anthropic{}, Retries: 2, New: newAnthropicVertex,
	Notes: []string{"The HTTP client goes before the option of Vertex AI, which puts its credentials above the transport."},
}

func newAnthropicVertex(t testing.TB, client *http.Client, url string) harness.Calls {
	creds := &google.Credentials{TokenSource: oauth2.StaticTokenSource(&oauth2.Token{AccessToken: "token"})}

	// The transport under the SDK:
	sdk := anthropic.NewClient(option.WithHTTPClient(client), vertex.WithCredentials(t.Context(), "us-east5", "project", creds), option.WithBaseURL(url))

	return anthropicCalls(sdk)
}
