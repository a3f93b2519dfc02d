package compat_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared"

	"github.com/llmtenant/tenant/compat/internal/harness"
)

var openaiChat = harness.SDK{
	Name: "openai-go, chat completions", Module: "github.com/openai/openai-go/v3", File: "openai_test.go",
	Wire: harness.OpenAIChat{}, Retries: 2, New: newOpenAIChat,
}

var openaiResponses = harness.SDK{
	Name: "openai-go, responses", Module: "github.com/openai/openai-go/v3", File: "openai_test.go",
	Wire: harness.OpenAIResponses{}, Retries: 2, New: newOpenAIResponses,
}

func openaiClient(client *http.Client, url string) openai.Client {
	// The transport under the SDK:
	sdk := openai.NewClient(option.WithHTTPClient(client), option.WithBaseURL(url+"/v1"), option.WithAPIKey("key"))

	return sdk
}

func openaiStatus(err error) int {
	var said *openai.Error
	if errors.As(err, &said) {
		return said.StatusCode
	}
	return 0
}

func toolParameters() map[string]any {
	return map[string]any{
		"type": "object", "properties": map[string]any{harness.ToolParameter: map[string]any{"type": "string"}},
		"required": []string{harness.ToolParameter},
	}
}

var errNoChoices = errors.New("a chunk without choices, which only those expect who have asked for the usage")

func newOpenAIChat(_ testing.TB, client *http.Client, url string) harness.Calls {
	sdk := openaiClient(client, url)
	params := func(prompt string) openai.ChatCompletionNewParams {
		return openai.ChatCompletionNewParams{
			Model: harness.Model, MaxCompletionTokens: openai.Int(1000), Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(prompt)},
		}
	}
	return harness.Calls{
		Plain: func(ctx context.Context, prompt string) (string, error) {
			reply, err := sdk.Chat.Completions.New(ctx, params(prompt))
			if err != nil {
				return "", err
			}
			return reply.Choices[0].Message.Content, nil
		},
		Stream: func(ctx context.Context, prompt string, each func(string) error) error {
			stream := sdk.Chat.Completions.NewStreaming(ctx, params(prompt))
			defer func() { _ = stream.Close() }()
			for stream.Next() {
				choices := stream.Current().Choices
				if len(choices) == 0 {
					return errNoChoices
				}
				if piece := choices[0].Delta.Content; piece != "" {
					if err := each(piece); err != nil {
						return err
					}
				}
			}
			return stream.Err()
		},
		Tool: func(ctx context.Context, prompt string, run func(name, arguments string) string) (string, error) {
			p := params(prompt)
			p.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
				Name: harness.ToolName, Description: openai.String(harness.ToolDescription), Parameters: toolParameters(),
			})}
			reply, err := sdk.Chat.Completions.New(ctx, p)
			if err != nil {
				return "", err
			}
			said := reply.Choices[0].Message
			p.Messages = append(p.Messages, said.ToParam())
			for _, call := range said.ToolCalls {
				p.Messages = append(p.Messages, openai.ToolMessage(run(call.Function.Name, call.Function.Arguments), call.ID))
			}
			if reply, err = sdk.Chat.Completions.New(ctx, p); err != nil {
				return "", err
			}
			return reply.Choices[0].Message.Content, nil
		},
		Status: openaiStatus,
	}
}

func newOpenAIResponses(_ testing.TB, client *http.Client, url string) harness.Calls {
	sdk := openaiClient(client, url)
	params := func(prompt string) responses.ResponseNewParams {
		return responses.ResponseNewParams{
			Model: harness.Model, MaxOutputTokens: openai.Int(1000), Store: openai.Bool(false),
			Input: responses.ResponseNewParamsInputUnion{OfInputItemList: responses.ResponseInputParam{
				responses.ResponseInputItemParamOfMessage(prompt, responses.EasyInputMessageRoleUser),
			}},
		}
	}
	return harness.Calls{
		Plain: func(ctx context.Context, prompt string) (string, error) {
			reply, err := sdk.Responses.New(ctx, params(prompt))
			if err != nil {
				return "", err
			}
			return reply.OutputText(), nil
		},
		Stream: func(ctx context.Context, prompt string, each func(string) error) error {
			stream := sdk.Responses.NewStreaming(ctx, params(prompt))
			defer func() { _ = stream.Close() }()
			for stream.Next() {
				if event := stream.Current(); event.Type == "response.output_text.delta" {
					if err := each(event.Delta); err != nil {
						return err
					}
				}
			}
			return stream.Err()
		},
		Tool: func(ctx context.Context, prompt string, run func(name, arguments string) string) (string, error) {
			p := params(prompt)
			p.Tools = []responses.ToolUnionParam{responses.ToolParamOfFunction(harness.ToolName, toolParameters(), true)}
			reply, err := sdk.Responses.New(ctx, p)
			if err != nil {
				return "", err
			}
			input := &p.Input.OfInputItemList
			for _, item := range reply.Output {
				if item.Type == "function_call" {
					call := item.AsFunctionCall()
					result := responses.ResponseInputItemParamOfFunctionCallOutput(run(call.Name, call.Arguments))
					result.OfFunctionCallOutput.CallID = openai.String(call.CallID)
					*input = append(*input, responses.ResponseInputItemParamOfFunctionCall(call.Arguments, call.CallID, call.Name), result)
				}
			}
			if reply, err = sdk.Responses.New(ctx, p); err != nil {
				return "", err
			}
			return reply.OutputText(), nil
		},
		Status: openaiStatus,
	}
}
