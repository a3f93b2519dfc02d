package compat_test

import (
	"context"
	"errors"
	"net/http"
	neturl "net/url"
	"testing"

	"github.com/ollama/ollama/api"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/compat/internal/harness"
)

var ollamaAPI = harness.SDK{
	Name: "ollama/api", Module: "github.com/ollama/ollama", File: "ollama_test.go",
	Wire: harness.Ollama{}, New: newOllama,
	Notes: []string{
		"cancelled: where the context ends in mid-stream, Chat and Generate return nil; that the last response was not Done tells it.",
		"429 and 500: the SDK never tries again.",
	},
}

// errNotDone says what the SDK does not: it takes the end of a connection for the end of a reply.
var errNotDone = errors.New("the last response was not done")

func newOllama(t testing.TB, client *http.Client, url string) harness.Calls {
	base, err := neturl.Parse(url)
	require.NoError(t, err)

	// The transport under the SDK:
	sdk := api.NewClient(base, client)

	request := func(stream bool, prompt string) *api.ChatRequest {
		return &api.ChatRequest{
			Model: harness.Model, Stream: &stream, Options: map[string]any{"num_predict": 1000},
			Messages: []api.Message{{Role: "user", Content: prompt}},
		}
	}
	whole := func(ctx context.Context, r *api.ChatRequest) (message api.Message, err error) {
		err = sdk.Chat(ctx, r, func(reply api.ChatResponse) error { message = reply.Message; return nil })
		return message, err
	}
	return harness.Calls{
		Plain: func(ctx context.Context, prompt string) (string, error) {
			message, err := whole(ctx, request(false, prompt))
			return message.Content, err
		},
		Stream: func(ctx context.Context, prompt string, each func(string) error) error {
			done := false
			err := sdk.Chat(ctx, request(true, prompt), func(reply api.ChatResponse) error {
				if done = reply.Done; reply.Message.Content == "" {
					return nil
				}
				return each(reply.Message.Content)
			})
			if err == nil && !done {
				return errNotDone
			}
			return err
		},
		Tool: func(ctx context.Context, prompt string, run func(name, arguments string) string) (string, error) {
			properties := api.NewToolPropertiesMap()
			properties.Set(harness.ToolParameter, api.ToolProperty{Type: api.PropertyType{"string"}})
			r := request(false, prompt)
			r.Tools = api.Tools{{Type: "function", Function: api.ToolFunction{
				Name: harness.ToolName, Description: harness.ToolDescription,
				Parameters: api.ToolFunctionParameters{Type: "object", Properties: properties, Required: []string{harness.ToolParameter}},
			}}}
			message, err := whole(ctx, r)
			if err != nil {
				return "", err
			}
			r.Messages = append(r.Messages, message)
			for _, call := range message.ToolCalls {
				result := run(call.Function.Name, call.Function.Arguments.String())
				r.Messages = append(r.Messages, api.Message{Role: "tool", Content: result, ToolName: call.Function.Name, ToolCallID: call.ID})
			}
			message, err = whole(ctx, r)
			return message.Content, err
		},
		Status: func(err error) int {
			var said api.StatusError
			if errors.As(err, &said) {
				return said.StatusCode
			}
			return 0
		},
	}
}
