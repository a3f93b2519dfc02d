package compat_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	goopenai "github.com/sashabaranov/go-openai"

	"github.com/llmtenant/tenant/compat/internal/harness"
)

var sashabaranov = harness.SDK{
	Name: "sashabaranov/go-openai", Module: "github.com/sashabaranov/go-openai", File: "sashabaranov_test.go",
	Wire: harness.OpenAIChat{}, New: newSashabaranov,
	Notes: []string{"429 and 500: it does not try again by itself; the test is a caller who does."},
}

func newSashabaranov(_ testing.TB, client *http.Client, url string) harness.Calls {
	// The transport under the SDK:
	config := goopenai.DefaultConfig("key")
	config.HTTPClient, config.BaseURL = client, url+"/v1"
	sdk := goopenai.NewClientWithConfig(config)

	request := func(prompt string) goopenai.ChatCompletionRequest {
		return goopenai.ChatCompletionRequest{
			Model: harness.Model, MaxCompletionTokens: 1000,
			Messages: []goopenai.ChatCompletionMessage{{Role: goopenai.ChatMessageRoleUser, Content: prompt}},
		}
	}
	return harness.Calls{
		Plain: func(ctx context.Context, prompt string) (string, error) {
			reply, err := sdk.CreateChatCompletion(ctx, request(prompt))
			if err != nil {
				return "", err
			}
			return reply.Choices[0].Message.Content, nil
		},
		Stream: func(ctx context.Context, prompt string, each func(string) error) error {
			stream, err := sdk.CreateChatCompletionStream(ctx, request(prompt))
			if err != nil {
				return err
			}
			defer func() { _ = stream.Close() }()
			for {
				chunk, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return err
				}
				if len(chunk.Choices) == 0 {
					return errNoChoices
				}
				if piece := chunk.Choices[0].Delta.Content; piece != "" {
					if err := each(piece); err != nil {
						return err
					}
				}
			}
		},
		Tool: func(ctx context.Context, prompt string, run func(name, arguments string) string) (string, error) {
			r := request(prompt)
			r.Tools = []goopenai.Tool{{Type: goopenai.ToolTypeFunction, Function: &goopenai.FunctionDefinition{
				Name: harness.ToolName, Description: harness.ToolDescription, Parameters: toolParameters(),
			}}}
			reply, err := sdk.CreateChatCompletion(ctx, r)
			if err != nil {
				return "", err
			}
			said := reply.Choices[0].Message
			r.Messages = append(r.Messages, said)
			for _, call := range said.ToolCalls {
				r.Messages = append(r.Messages, goopenai.ChatCompletionMessage{
					Role: goopenai.ChatMessageRoleTool, ToolCallID: call.ID, Content: run(call.Function.Name, call.Function.Arguments),
				})
			}
			if reply, err = sdk.CreateChatCompletion(ctx, r); err != nil {
				return "", err
			}
			return reply.Choices[0].Message.Content, nil
		},
		Status: func(err error) int {
			var said *goopenai.APIError
			if errors.As(err, &said) {
				return said.HTTPStatusCode
			}
			return 0
		},
	}
}
