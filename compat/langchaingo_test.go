package compat_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tmc/langchaingo/llms"
	langchain "github.com/tmc/langchaingo/llms/openai"

	"github.com/llmtenant/tenant/compat/internal/harness"
)

var langchaingo = harness.SDK{
	Name: "langchaingo, llms/openai", Module: "github.com/tmc/langchaingo", File: "langchaingo_test.go",
	Wire: harness.OpenAIChat{}, New: newLangchaingo, HidesCancel: true,
	Notes: []string{
		"cancelled: a stream whose context has ended can look to its caller like one that is complete: it returns no error. Ask the context.",
		"429 and 500: it does not try again by itself; the test is a caller who does.",
		"refused: its errors have no type: the status and the provider's message are in the text alone, where `AsBudgetError` finds the refusal.",
	},
}

func newLangchaingo(t testing.TB, client *http.Client, url string) harness.Calls {
	// The transport under the SDK:
	sdk, err := langchain.New(langchain.WithHTTPClient(client), langchain.WithBaseURL(url+"/v1"), langchain.WithToken("key"), langchain.WithModel(harness.Model))

	require.NoError(t, err)
	ask := func(prompt string) []llms.MessageContent {
		return []llms.MessageContent{llms.TextParts(llms.ChatMessageTypeHuman, prompt)}
	}
	limit := llms.WithMaxTokens(1000)
	return harness.Calls{
		Plain: func(ctx context.Context, prompt string) (string, error) {
			return llms.GenerateFromSinglePrompt(ctx, sdk, prompt, limit)
		},
		Stream: func(ctx context.Context, prompt string, each func(string) error) error {
			_, err := sdk.GenerateContent(ctx, ask(prompt), limit, llms.WithStreamingFunc(func(_ context.Context, piece []byte) error {
				if len(piece) == 0 {
					return nil
				}
				return each(string(piece))
			}))
			return err
		},
		Tool: func(ctx context.Context, prompt string, run func(name, arguments string) string) (string, error) {
			tools := llms.WithTools([]llms.Tool{{Type: "function", Function: &llms.FunctionDefinition{
				Name: harness.ToolName, Description: harness.ToolDescription, Parameters: toolParameters(),
			}}})
			messages := ask(prompt)
			reply, err := sdk.GenerateContent(ctx, messages, limit, tools)
			if err != nil {
				return "", err
			}
			for _, call := range reply.Choices[0].ToolCalls {
				messages = append(messages,
					llms.MessageContent{Role: llms.ChatMessageTypeAI, Parts: []llms.ContentPart{call}},
					llms.MessageContent{Role: llms.ChatMessageTypeTool, Parts: []llms.ContentPart{llms.ToolCallResponse{
						ToolCallID: call.ID, Name: call.FunctionCall.Name, Content: run(call.FunctionCall.Name, call.FunctionCall.Arguments),
					}}})
			}
			if reply, err = sdk.GenerateContent(ctx, messages, limit, tools); err != nil {
				return "", err
			}
			return reply.Choices[0].Content, nil
		},
		Status: func(err error) (status int) {
			_, after, _ := strings.Cut(err.Error(), "API returned unexpected status code: ")
			_, _ = fmt.Sscanf(after, "%d", &status)
			return status
		},
	}
}
