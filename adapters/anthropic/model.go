package anthropic

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strings"

	sdk "github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
)

// DefaultProvider is the provider's name in the price book, where [WithProvider] does not say another.
const DefaultProvider = "anthropic"

// Model is one model behind Anthropic's messages. It is safe for concurrent use.
type Model struct {
	client sdk.Client
	info   tenant.ModelInfo
	behind string // whom WithProvider names: hosts that are known are told by their name
}

var _ tenant.Streamer = (*Model)(nil)

// Option is an option of [NewModel].
type Option func(*Model) error

// WithProvider sets the provider's name under which the price book is asked for the model, such as "bedrock" or "vertex".
// Defaults to [DefaultProvider].
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

const name = "anthropic" // before the text of errors

// Error is why a call failed.
type Error = tenanthttp.ExchangeError

// Generate implements [tenant.Model] by one request: of a stream where the SDK refuses to wait for so much output at once.
// Its errors are of type [*Error].
func (m *Model) Generate(ctx context.Context, r *tenant.Request) (*tenant.Response, error) {
	params, err := m.params(r)
	if err != nil {
		return nil, err
	}
	if _, err := sdk.CalculateNonStreamingTimeout(int(min(r.MaxTokens, math.MaxInt32)), params.Model, m.client.Options); err != nil {
		var text strings.Builder
		response, err := m.Stream(ctx, r, func(piece string) bool {
			text.WriteString(piece)
			return true
		})
		if response != nil {
			response.Text = text.String()
		}
		return response, err
	}
	ctx, x := tenanthttp.ContextWithExchange(ctx, m.behind)
	message, err := m.client.Messages.New(ctx, params, option.WithMaxRetries(0), option.WithMiddleware(x.Do))
	response, failed := x.End(name, false, err)
	if response != nil && err == nil {
		for _, block := range message.Content {
			response.Text += block.Text
		}
	}
	return response, failed
}

// Stream implements [tenant.Streamer] by one request. Its errors are of type [*Error].
func (m *Model) Stream(ctx context.Context, r *tenant.Request, yield func(text string) bool) (*tenant.Response, error) {
	params, err := m.params(r)
	if err != nil {
		return nil, err
	}
	ctx, x := tenanthttp.ContextWithExchange(ctx, m.behind)
	stream := m.client.Messages.NewStreaming(ctx, params, option.WithMaxRetries(0), option.WithMiddleware(x.Do))
	defer stream.Close() //nolint:errcheck // it was only read
	for wanted := true; wanted && stream.Next(); {
		if event := stream.Current(); event.Type == "content_block_delta" && event.Delta.Text != "" {
			wanted = yield(event.Delta.Text)
		}
	}
	return x.End(name, true, stream.Err())
}

func (m *Model) params(r *tenant.Request) (sdk.MessageNewParams, error) {
	params := sdk.MessageNewParams{Model: m.info.Name, MaxTokens: r.MaxTokens, StopSequences: r.Stop}
	if r.System != "" {
		params.System = []sdk.TextBlockParam{{Text: r.System}}
	}
	for _, message := range r.Messages {
		params.Messages = append(params.Messages, said(message))
	}
	if r.Temperature != nil {
		params.Temperature = sdk.Float(*r.Temperature)
	}
	if r.Schema != nil {
		if err := json.Unmarshal(r.Schema.JSON, &params.OutputConfig.Format.Schema); err != nil {
			return params, fmt.Errorf("%w: %s: the JSON schema: %w", tenant.ErrNotBilled, name, err)
		}
	}
	return params, nil
}

// said is a message as the API has it.
func said(message tenant.Message) sdk.MessageParam {
	blocks := make([]sdk.ContentBlockParamUnion, len(message.Parts))
	for i, part := range message.Parts {
		switch image := part.Image; {
		case image == nil:
			blocks[i] = sdk.NewTextBlock(part.Text)
		case image.URL != "":
			blocks[i] = sdk.NewImageBlock(sdk.URLImageSourceParam{URL: image.URL})
		default:
			blocks[i] = sdk.NewImageBlockBase64(image.MediaType, base64.StdEncoding.EncodeToString(image.Data))
		}
	}
	if message.Role == tenant.RoleAssistant {
		return sdk.NewAssistantMessage(blocks...)
	}
	return sdk.NewUserMessage(blocks...)
}
