package compat_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genai"

	"github.com/llmtenant/tenant/compat/internal/harness"
)

var geminiAPI = harness.SDK{
	Name: "genai, Gemini API", Module: "google.golang.org/genai", File: "genai_test.go",
	Wire: harness.Gemini{}, Retries: 2, New: newGemini,
	Notes: []string{"429 and 500: the SDK tries again only where it is given RetryOptions, as it is here."},
}

var vertexAI = harness.SDK{
	Name: "genai, Vertex AI", Module: "google.golang.org/genai", File: "genai_vertex_test.go",
	Wire: harness.Gemini{}, New: newVertex,
	Notes: []string{"A client that is given to the SDK has to sign in by itself: the transport with the credentials goes below the metering one, as `base` of `tenanthttp.NewTransport`."},
}

func newGemini(t testing.TB, client *http.Client, url string) harness.Calls {
	attempts, wait := int32(3), 0.0
	retries := &genai.HTTPRetryOptions{Attempts: &attempts, InitialDelay: &wait, Jitter: &wait}

	// The transport under the SDK:
	sdk, err := genai.NewClient(t.Context(), &genai.ClientConfig{
		Backend: genai.BackendGeminiAPI, HTTPClient: client, APIKey: "key",
		HTTPOptions: genai.HTTPOptions{BaseURL: url, RetryOptions: retries},
	})

	require.NoError(t, err)
	return geminiCalls(sdk)
}

func geminiCalls(sdk *genai.Client) harness.Calls {
	config := func(tools ...*genai.Tool) *genai.GenerateContentConfig {
		return &genai.GenerateContentConfig{MaxOutputTokens: 1000, Tools: tools}
	}
	return harness.Calls{
		Plain: func(ctx context.Context, prompt string) (string, error) {
			reply, err := sdk.Models.GenerateContent(ctx, harness.Model, genai.Text(prompt), config())
			if err != nil {
				return "", err
			}
			return reply.Text(), nil
		},
		Stream: func(ctx context.Context, prompt string, each func(string) error) error {
			for reply, err := range sdk.Models.GenerateContentStream(ctx, harness.Model, genai.Text(prompt), config()) {
				if err != nil {
					return err
				}
				if piece := reply.Text(); piece != "" {
					if err := each(piece); err != nil {
						return err
					}
				}
			}
			return nil
		},
		Tool: func(ctx context.Context, prompt string, run func(name, arguments string) string) (string, error) {
			offer := config(&genai.Tool{FunctionDeclarations: []*genai.FunctionDeclaration{{
				Name: harness.ToolName, Description: harness.ToolDescription, Parameters: &genai.Schema{
					Type: genai.TypeObject, Properties: map[string]*genai.Schema{harness.ToolParameter: {Type: genai.TypeString}},
				},
			}}})
			contents := genai.Text(prompt)
			reply, err := sdk.Models.GenerateContent(ctx, harness.Model, contents, offer)
			if err != nil {
				return "", err
			}
			contents = append(contents, reply.Candidates[0].Content)
			for _, call := range reply.FunctionCalls() {
				arguments, err := json.Marshal(call.Args)
				if err != nil {
					return "", err
				}
				result := map[string]any{"output": run(call.Name, string(arguments))}
				contents = append(contents, genai.NewContentFromFunctionResponse(call.Name, result, genai.RoleUser))
			}
			if reply, err = sdk.Models.GenerateContent(ctx, harness.Model, contents, offer); err != nil {
				return "", err
			}
			return reply.Text(), nil
		},
		Status: func(err error) int {
			var said genai.APIError
			if errors.As(err, &said) {
				return said.Code
			}
			return 0
		},
	}
}
