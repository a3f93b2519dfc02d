package compat_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"

	"github.com/llmtenant/tenant/compat/internal/harness"
)

var anthropicMessages = harness.SDK{
	Name: "anthropic-sdk-go", Module: "github.com/anthropics/anthropic-sdk-go", File: "anthropic_test.go",
	Wire: harness.Anthropic{}, Retries: 2, New: newAnthropic,
}

func anthropicClient(client *http.Client, url string) anthropic.Client {
	// The transport under the SDK:
	sdk := anthropic.NewClient(option.WithHTTPClient(client), option.WithBaseURL(url), option.WithAPIKey("key"))

	return sdk
}

func anthropicParams(prompt string) anthropic.MessageNewParams {
	return anthropic.MessageNewParams{
		Model: harness.Model, MaxTokens: 1000, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(prompt))},
	}
}

func anthropicStatus(err error) int {
	var said *anthropic.Error
	if errors.As(err, &said) {
		return said.StatusCode
	}
	return 0
}

func newAnthropic(_ testing.TB, client *http.Client, url string) harness.Calls {
	return anthropicCalls(anthropicClient(client, url))
}

func anthropicCalls(sdk anthropic.Client) harness.Calls {
	return harness.Calls{
		Plain: func(ctx context.Context, prompt string) (string, error) {
			reply, err := sdk.Messages.New(ctx, anthropicParams(prompt))
			if err != nil {
				return "", err
			}
			return reply.Content[0].Text, nil
		},
		Stream: func(ctx context.Context, prompt string, each func(string) error) error {
			stream := sdk.Messages.NewStreaming(ctx, anthropicParams(prompt))
			defer func() { _ = stream.Close() }()
			for stream.Next() {
				if piece := stream.Current().Delta.Text; piece != "" {
					if err := each(piece); err != nil {
						return err
					}
				}
			}
			return stream.Err()
		},
		Tool: func(ctx context.Context, prompt string, run func(name, arguments string) string) (string, error) {
			p := anthropicParams(prompt)
			p.Tools = []anthropic.ToolUnionParam{{OfTool: &anthropic.ToolParam{
				Name: harness.ToolName, Description: anthropic.String(harness.ToolDescription), InputSchema: anthropic.ToolInputSchemaParam{
					Properties: map[string]any{harness.ToolParameter: map[string]any{"type": "string"}}, Required: []string{harness.ToolParameter},
				},
			}}}
			reply, err := sdk.Messages.New(ctx, p)
			if err != nil {
				return "", err
			}
			var results []anthropic.ContentBlockParamUnion
			for _, block := range reply.Content {
				if block.Type == "tool_use" {
					results = append(results, anthropic.NewToolResultBlock(block.ID, run(block.Name, string(block.Input)), false))
				}
			}
			p.Messages = append(p.Messages, reply.ToParam(), anthropic.NewUserMessage(results...))
			if reply, err = sdk.Messages.New(ctx, p); err != nil {
				return "", err
			}
			return reply.Content[0].Text, nil
		},
		Status: anthropicStatus,
	}
}
