package compat_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/document"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/schemas"
	"github.com/aws/aws-sdk-go-v2/service/bedrockruntime/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/aws/smithy-go/transport/http/protocol/restjson1"

	"github.com/llmtenant/tenant/compat/internal/harness"
)

const awsSecret = "secret"

const signedNote = "Requests are signed, and so the transport never changes them: one whose output the budget has no room for is refused, not shortened."

var bedrockNotes = []string{
	signedNote,
	"two tenants: streams of one client at the same time race for a field of smithy-go's codec (v1.28.9), as `go test -race` shows " +
		"without the transport too. The tests give each stream a codec of its own: `o.Protocol = restjson1.New(schemas.AmazonBedrockFrontendService)`.",
}

var bedrockConverse = harness.SDK{
	Name: "aws-sdk-go-v2, Converse", Module: "github.com/aws/aws-sdk-go-v2/service/bedrockruntime", File: "bedrock_test.go",
	Wire: harness.BedrockConverse{}, Check: harness.Signed(awsSecret), Retries: 2, New: newConverse,
	Notes: bedrockNotes,
}

var bedrockInvoke = harness.SDK{
	Name: "aws-sdk-go-v2, InvokeModel", Module: "github.com/aws/aws-sdk-go-v2/service/bedrockruntime", File: "bedrock_test.go",
	Wire: harness.BedrockInvoke{}, Check: harness.Signed(awsSecret), Retries: 2, New: newInvoke,
	Notes: bedrockNotes,
}

func bedrockClient(client *http.Client, url string) *bedrockruntime.Client {
	atOnce := retry.NewStandard(func(o *retry.StandardOptions) {
		o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
	})

	// The transport under the SDK:
	sdk := bedrockruntime.New(bedrockruntime.Options{
		HTTPClient: client, BaseEndpoint: &url, Retryer: atOnce,
		Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("key", awsSecret, ""),
	})

	return sdk
}

// ownCodec is for a stream.
func ownCodec(o *bedrockruntime.Options) {
	o.Protocol = restjson1.New(schemas.AmazonBedrockFrontendService)
}

func bedrockStatus(err error) int {
	var said *smithyhttp.ResponseError
	if errors.As(err, &said) {
		return said.HTTPStatusCode()
	}
	return 0
}

func newConverse(_ testing.TB, client *http.Client, url string) harness.Calls {
	sdk := bedrockClient(client, url)
	input := func(prompt string) *bedrockruntime.ConverseInput {
		return &bedrockruntime.ConverseInput{
			ModelId: aws.String(harness.Model), InferenceConfig: &types.InferenceConfiguration{MaxTokens: aws.Int32(1000)},
			Messages: []types.Message{{Role: types.ConversationRoleUser, Content: []types.ContentBlock{&types.ContentBlockMemberText{Value: prompt}}}},
		}
	}
	ask := func(ctx context.Context, in *bedrockruntime.ConverseInput) (*types.Message, error) {
		reply, err := sdk.Converse(ctx, in)
		if err != nil {
			return nil, err
		}
		return &reply.Output.(*types.ConverseOutputMemberMessage).Value, nil
	}
	textOf := func(m *types.Message, err error) (string, error) {
		if err != nil {
			return "", err
		}
		return m.Content[0].(*types.ContentBlockMemberText).Value, nil
	}
	return harness.Calls{
		Plain: func(ctx context.Context, prompt string) (string, error) { return textOf(ask(ctx, input(prompt))) },
		Stream: func(ctx context.Context, prompt string, each func(string) error) error {
			in := input(prompt)
			reply, err := sdk.ConverseStream(ctx, &bedrockruntime.ConverseStreamInput{
				ModelId: in.ModelId, InferenceConfig: in.InferenceConfig, Messages: in.Messages,
			}, ownCodec)
			if err != nil {
				return err
			}
			stream := reply.GetStream()
			defer func() { _ = stream.Close() }()
			for event := range stream.Events() {
				delta, ok := event.(*types.ConverseStreamOutputMemberContentBlockDelta)
				if !ok {
					continue
				}
				if err := each(delta.Value.Delta.(*types.ContentBlockDeltaMemberText).Value); err != nil {
					return err
				}
			}
			return stream.Err()
		},
		Tool: func(ctx context.Context, prompt string, run func(name, arguments string) string) (string, error) {
			in := input(prompt)
			in.ToolConfig = &types.ToolConfiguration{Tools: []types.Tool{&types.ToolMemberToolSpec{Value: types.ToolSpecification{
				Name: aws.String(harness.ToolName), Description: aws.String(harness.ToolDescription),
				InputSchema: &types.ToolInputSchemaMemberJson{Value: document.NewLazyDocument(toolParameters())},
			}}}}
			message, err := ask(ctx, in)
			if err != nil {
				return "", err
			}
			results := types.Message{Role: types.ConversationRoleUser}
			for _, block := range message.Content {
				call, ok := block.(*types.ContentBlockMemberToolUse)
				if !ok {
					continue
				}
				arguments, err := call.Value.Input.MarshalSmithyDocument()
				if err != nil {
					return "", err
				}
				results.Content = append(results.Content, &types.ContentBlockMemberToolResult{Value: types.ToolResultBlock{
					ToolUseId: call.Value.ToolUseId, Content: []types.ToolResultContentBlock{
						&types.ToolResultContentBlockMemberText{Value: run(*call.Value.Name, string(arguments))},
					},
				}})
			}
			in.Messages = append(in.Messages, *message, results)
			return textOf(ask(ctx, in))
		},
		Status: bedrockStatus,
	}
}

// invokedMessage is a model's own format, which a caller of InvokeModel writes and reads without help.
type invokedMessage struct {
	Content []invokedBlock `json:"content"`
}

type invokedBlock struct {
	Type      string          `json:"type"`
	Text      string          `json:"text,omitempty"`
	ID        string          `json:"id,omitempty"`
	Name      string          `json:"name,omitempty"`
	Input     json.RawMessage `json:"input,omitempty"`
	ToolUseID string          `json:"tool_use_id,omitempty"`
	Content   string          `json:"content,omitempty"`
}

func newInvoke(_ testing.TB, client *http.Client, url string) harness.Calls {
	sdk := bedrockClient(client, url)
	body := func(messages []any, tools ...any) []byte {
		text, _ := json.Marshal(map[string]any{
			"anthropic_version": "bedrock-2023-05-31", "max_tokens": 1000, "messages": messages, "tools": tools,
		})
		return text
	}
	said := func(role string, content any) any { return map[string]any{"role": role, "content": content} }
	ask := func(ctx context.Context, body []byte) (m invokedMessage, err error) {
		reply, err := sdk.InvokeModel(ctx, &bedrockruntime.InvokeModelInput{
			ModelId: aws.String(harness.Model), ContentType: aws.String("application/json"), Body: body,
		})
		if err != nil {
			return m, err
		}
		if err := json.Unmarshal(reply.Body, &m); err != nil || len(m.Content) == 0 {
			return m, fmt.Errorf("%w: %s", errors.Join(errNotDone, err), reply.Body)
		}
		return m, nil
	}
	return harness.Calls{
		Plain: func(ctx context.Context, prompt string) (string, error) {
			m, err := ask(ctx, body([]any{said("user", prompt)}))
			if err != nil {
				return "", err
			}
			return m.Content[0].Text, nil
		},
		Stream: func(ctx context.Context, prompt string, each func(string) error) error {
			reply, err := sdk.InvokeModelWithResponseStream(ctx, &bedrockruntime.InvokeModelWithResponseStreamInput{
				ModelId: aws.String(harness.Model), ContentType: aws.String("application/json"), Body: body([]any{said("user", prompt)}),
			}, ownCodec)
			if err != nil {
				return err
			}
			stream := reply.GetStream()
			defer func() { _ = stream.Close() }()
			for event := range stream.Events() {
				var chunk struct{ Delta struct{ Text string } }
				if err := json.Unmarshal(event.(*types.ResponseStreamMemberChunk).Value.Bytes, &chunk); err != nil {
					return err
				}
				if chunk.Delta.Text == "" {
					continue
				}
				if err := each(chunk.Delta.Text); err != nil {
					return err
				}
			}
			return stream.Err()
		},
		Tool: func(ctx context.Context, prompt string, run func(name, arguments string) string) (string, error) {
			tool := map[string]any{"name": harness.ToolName, "description": harness.ToolDescription, "input_schema": toolParameters()}
			messages := []any{said("user", prompt)}
			m, err := ask(ctx, body(messages, tool))
			if err != nil {
				return "", err
			}
			var results []invokedBlock
			for _, block := range m.Content {
				if block.Type == "tool_use" {
					results = append(results, invokedBlock{Type: "tool_result", ToolUseID: block.ID, Content: run(block.Name, string(block.Input))})
				}
			}
			if m, err = ask(ctx, body(append(messages, said("assistant", m.Content), said("user", results)), tool)); err != nil {
				return "", err
			}
			return m.Content[0].Text, nil
		},
		Status: bedrockStatus,
	}
}
