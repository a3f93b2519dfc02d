package openai

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	sdk "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/shared"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
)

// DefaultProvider is the provider's name in the price book, where [WithProvider] does not say another.
const DefaultProvider = "openai"

// Model is one model behind the chat completions API. It is safe for concurrent use.
type Model struct {
	client    sdk.Client
	info      tenant.ModelInfo
	behind    string // whom WithProvider names: hosts that are known are told by their name
	maxTokens bool   // send max_tokens
}

var _ tenant.Streamer = (*Model)(nil)

// Option is an option of [NewModel].
type Option func(*Model) error

// WithProvider sets the provider's name under which the price book is asked for the model. Defaults to
// [DefaultProvider].
func WithProvider(name string) Option {
	return func(m *Model) error {
		if name == "" {
			return fmt.Errorf("%w: WithProvider: the name is empty", tenant.ErrInvalidOption)
		}
		m.info.Provider, m.behind = name, name
		return nil
	}
}

// WithMaxOutputTokens sets the most output of one call, in tokens, where neither the call nor its agent says it.
// Defaults to [tenant.DefaultMaxTokens].
func WithMaxOutputTokens(n int64) Option {
	return func(m *Model) error {
		if n < 1 {
			return fmt.Errorf("%w: WithMaxOutputTokens: %d is less than 1", tenant.ErrInvalidOption, n)
		}
		m.info.MaxOutputTokens = n
		return nil
	}
}

// WithMaxTokensField sends the output cap as max_tokens, for servers that do not know max_completion_tokens. OpenAI's
// reasoning models refuse it. Defaults to max_completion_tokens.
func WithMaxTokensField() Option {
	return func(m *Model) error {
		m.maxTokens = true
		return nil
	}
}

// NewModel returns the model of that name behind a client of the SDK. The client decides the key, the base URL and the
// HTTP client; its retries are not used.
//
// Errors: [tenant.ErrInvalidOption], which names what is invalid.
func NewModel(client sdk.Client, name string, options ...Option) (*Model, error) {
	if len(client.Options) == 0 {
		return nil, fmt.Errorf("%w: NewModel: the client is none that the SDK's NewClient has made", tenant.ErrInvalidOption)
	}
	if name == "" {
		return nil, fmt.Errorf("%w: NewModel: the model's name is empty", tenant.ErrInvalidOption)
	}
	m := &Model{client: client, info: tenant.ModelInfo{Provider: DefaultProvider, Name: name}}
	for _, option := range options {
		if option == nil {
			return nil, fmt.Errorf("%w: NewModel: a nil Option", tenant.ErrInvalidOption)
		}
		if err := option(m); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Info implements [tenant.Model].
func (m *Model) Info() tenant.ModelInfo { return m.info }

// Generate implements [tenant.Model] by one request. Its errors are of type [*Error].
func (m *Model) Generate(ctx context.Context, r *tenant.Request) (*tenant.Response, error) {
	ctx, x := tenanthttp.ContextWithExchange(ctx, m.behind)
	completion, err := m.client.Chat.Completions.New(ctx, m.params(r), option.WithMaxRetries(0), option.WithMiddleware(x.Do))
	if err == nil && len(completion.Choices) == 0 {
		err = errNoChoices
	}
	response, failed := x.End(name, false, err)
	if response != nil && err == nil {
		response.Text = cmp.Or(completion.Choices[0].Message.Content, completion.Choices[0].Message.Refusal)
	}
	return response, failed
}

// Stream implements [tenant.Streamer] by one request, which asks for the usage. Its errors are of type [*Error].
func (m *Model) Stream(ctx context.Context, r *tenant.Request, yield func(text string) bool) (*tenant.Response, error) {
	ctx, x := tenanthttp.ContextWithExchange(ctx, m.behind)
	params := m.params(r)
	params.StreamOptions.IncludeUsage = sdk.Bool(true)
	stream := m.client.Chat.Completions.NewStreaming(ctx, params, option.WithMaxRetries(0), option.WithMiddleware(x.Do))
	defer stream.Close() //nolint:errcheck // it was only read
	for wanted := true; wanted && stream.Next(); {
		for _, choice := range stream.Current().Choices {
			if text := choice.Delta.Content + choice.Delta.Refusal; text != "" && choice.Index == 0 {
				wanted = yield(text)
			}
		}
	}
	return x.End(name, true, stream.Err())
}

const name = "openai" // before the text of errors

var errNoChoices = errors.New("it has no choices")

// Error is why a call failed.
type Error = tenanthttp.ExchangeError

func (m *Model) params(r *tenant.Request) sdk.ChatCompletionNewParams {
	params := sdk.ChatCompletionNewParams{Model: m.info.Name}
	if r.System != "" {
		params.Messages = append(params.Messages, sdk.SystemMessage(r.System))
	}
	for _, message := range r.Messages {
		params.Messages = append(params.Messages, said(message))
	}
	switch {
	case r.MaxTokens <= 0:
	case m.maxTokens:
		params.MaxTokens = sdk.Int(r.MaxTokens)
	default:
		params.MaxCompletionTokens = sdk.Int(r.MaxTokens)
	}
	if r.Temperature != nil {
		params.Temperature = sdk.Float(*r.Temperature)
	}
	params.Stop.OfStringArray = r.Stop
	if r.Schema != nil {
		params.ResponseFormat.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{
			Name: r.Schema.Name, Schema: r.Schema.JSON, Strict: sdk.Bool(true),
		}}
	}
	return params
}

// said is a message as the API has it: a text of its own is a string, which every server knows.
func said(message tenant.Message) sdk.ChatCompletionMessageParamUnion {
	plain := len(message.Parts) == 1 && message.Parts[0].Image == nil
	switch {
	case message.Role == tenant.RoleAssistant:
		return sdk.AssistantMessage(message.Text())
	case plain:
		return sdk.UserMessage(message.Text())
	}
	parts := make([]sdk.ChatCompletionContentPartUnionParam, len(message.Parts))
	for i, part := range message.Parts {
		parts[i] = sdk.TextContentPart(part.Text)
		if image := part.Image; image != nil {
			at := image.URL
			if at == "" {
				at = "data:" + image.MediaType + ";base64," + base64.StdEncoding.EncodeToString(image.Data)
			}
			parts[i] = sdk.ImageContentPart(sdk.ChatCompletionContentPartImageImageURLParam{URL: at})
		}
	}
	return sdk.UserMessage(parts)
}
