package compat_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	einoopenai "github.com/cloudwego/eino-ext/components/model/openai"
	"github.com/cloudwego/eino/schema"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/compat/internal/harness"
)

var eino = harness.SDK{
	Name: "eino, eino-ext/components/model/openai", Module: "github.com/cloudwego/eino-ext/components/model/openai", File: "eino_test.go",
	Wire: harness.OpenAIChat{}, New: newEino, LetsGo: harness.WithTheNextChunk,
	Notes: []string{
		"cancelled: `Close` lets go of the reply only when the next chunk comes, which is then charged too. Cancel the context as well: that ends it at once.",
		"429 and 500: it does not try again by itself; the test is a caller who does.",
	},
}

func newEino(t testing.TB, client *http.Client, url string) harness.Calls {
	limit := 1000
	// The transport under the SDK:
	sdk, err := einoopenai.NewChatModel(t.Context(), &einoopenai.ChatModelConfig{
		HTTPClient: client, BaseURL: url + "/v1", APIKey: "key", Model: harness.Model, MaxCompletionTokens: &limit,
	})

	require.NoError(t, err)
	ask := func(prompt string) []*schema.Message { return []*schema.Message{schema.UserMessage(prompt)} }
	return harness.Calls{
		Plain: func(ctx context.Context, prompt string) (string, error) {
			reply, err := sdk.Generate(ctx, ask(prompt))
			if err != nil {
				return "", err
			}
			return reply.Content, nil
		},
		Stream: func(ctx context.Context, prompt string, each func(string) error) error {
			stream, err := sdk.Stream(ctx, ask(prompt))
			if err != nil {
				return err
			}
			defer stream.Close()
			for {
				message, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return err
				}
				if message.Content != "" {
					if err := each(message.Content); err != nil {
						return err
					}
				}
			}
		},
		Tool: func(ctx context.Context, prompt string, run func(name, arguments string) string) (string, error) {
			withTool, err := sdk.WithTools([]*schema.ToolInfo{{
				Name: harness.ToolName, Desc: harness.ToolDescription,
				ParamsOneOf: schema.NewParamsOneOfByParams(map[string]*schema.ParameterInfo{
					harness.ToolParameter: {Type: schema.String, Required: true},
				}),
			}})
			if err != nil {
				return "", err
			}
			messages := ask(prompt)
			reply, err := withTool.Generate(ctx, messages)
			if err != nil {
				return "", err
			}
			messages = append(messages, reply)
			for _, call := range reply.ToolCalls {
				messages = append(messages, schema.ToolMessage(run(call.Function.Name, call.Function.Arguments), call.ID))
			}
			if reply, err = withTool.Generate(ctx, messages); err != nil {
				return "", err
			}
			return reply.Content, nil
		},
		Status: func(err error) int {
			var said *einoopenai.APIError
			if errors.As(err, &said) {
				return said.HTTPStatusCode
			}
			return 0
		},
	}
}
