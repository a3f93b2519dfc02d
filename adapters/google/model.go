package google

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"

	"google.golang.org/genai"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
)

// The providers' names in the price book, where [WithProvider] does not say another: of the Gemini API, and of Vertex AI.
const (
	DefaultProvider       = "google"
	DefaultVertexProvider = "vertex"
)

// Model is one model behind the Gemini API or Vertex AI. It is safe for concurrent use.
type Model struct {
	client *genai.Client
	info   tenant.ModelInfo
	behind string // whom WithProvider names: hosts that are known are told by their name
}

var _ tenant.Streamer = (*Model)(nil)

// Option is an option of [NewModel].
type Option func(*Model) error

// WithProvider sets the provider's name under which the price book is asked for the model. Defaults to [DefaultProvider], or to
// [DefaultVertexProvider] where the client is Vertex AI's.
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
		if n < 1 || n > math.MaxInt32 {
			return fmt.Errorf("%w: WithMaxOutputTokens: %d is not between 1 and 2^31-1", tenant.ErrInvalidOption, n)
		}
		m.info.MaxOutputTokens = n
		return nil
	}
}

// NewModel returns the model of that name behind a client of the SDK. The client decides the key or the credentials, the
// project, the base URL and the HTTP client; its retries are not used. What is called is a copy of the client, since the SDK
// takes an HTTP client only when it is made; ctx is for that.
//
// Errors: [tenant.ErrInvalidOption], which names what is invalid, and the SDK's own.
func NewModel(ctx context.Context, client *genai.Client, name string, options ...Option) (*Model, error) {
	if client == nil || client.Models == nil {
		return nil, fmt.Errorf("%w: NewModel: the client is none that the SDK's NewClient has made", tenant.ErrInvalidOption)
	}
	if name == "" {
		return nil, fmt.Errorf("%w: NewModel: the model's name is empty", tenant.ErrInvalidOption)
	}
	config := client.ClientConfig()
	m := &Model{info: tenant.ModelInfo{Provider: DefaultProvider, Name: name}}
	if config.Backend == genai.BackendVertexAI {
		m.info.Provider = DefaultVertexProvider
	}
	for _, option := range options {
		if option == nil {
			return nil, fmt.Errorf("%w: NewModel: a nil Option", tenant.ErrInvalidOption)
		}
		if err := option(m); err != nil {
			return nil, err
		}
	}
	watched := http.Client{}
	if config.HTTPClient != nil {
		watched = *config.HTTPClient
	}
	watched.Transport = tenanthttp.Watch(watched.Transport)
	config.HTTPClient = &watched
	config.HTTPOptions.RetryOptions = nil
	var err error
	if m.client, err = genai.NewClient(ctx, &config); err != nil {
		return nil, fmt.Errorf("google: NewModel: %w", err)
	}
	return m, nil
}

// Info implements [tenant.Model].
func (m *Model) Info() tenant.ModelInfo { return m.info }

const name = "google" // before the text of errors

// Error is why a call failed.
type Error = tenanthttp.ExchangeError

// Generate implements [tenant.Model] by one request. Its errors are of type [*Error].
func (m *Model) Generate(ctx context.Context, r *tenant.Request) (*tenant.Response, error) {
	config, err := params(r)
	if err != nil {
		return nil, err
	}
	ctx, x := tenanthttp.ContextWithExchange(ctx, m.behind)
	generated, err := m.client.Models.GenerateContent(ctx, m.info.Name, contents(r), config)
	response, failed := x.End(name, false, err)
	if response != nil {
		response.Text = textOf(generated)
	}
	return response, failed
}

// Stream implements [tenant.Streamer] by one request. Its errors are of type [*Error].
func (m *Model) Stream(ctx context.Context, r *tenant.Request, yield func(text string) bool) (*tenant.Response, error) {
	config, err := params(r)
	if err != nil {
		return nil, err
	}
	ctx, x := tenanthttp.ContextWithExchange(ctx, m.behind)
	for generated, err := range m.client.Models.GenerateContentStream(ctx, m.info.Name, contents(r), config) {
		if err != nil {
			return x.End(name, true, err)
		}
		if text := textOf(generated); text != "" && !yield(text) {
			break
		}
	}
	return x.End(name, true, nil)
}

// textOf is the text of the first candidate, without its thoughts. The SDK's own Text logs what is none.
func textOf(generated *genai.GenerateContentResponse) (text string) {
	if generated == nil || len(generated.Candidates) == 0 || generated.Candidates[0].Content == nil {
		return ""
	}
	for _, part := range generated.Candidates[0].Content.Parts {
		if part != nil && !part.Thought {
			text += part.Text
		}
	}
	return text
}

func params(r *tenant.Request) (*genai.GenerateContentConfig, error) {
	config := &genai.GenerateContentConfig{StopSequences: r.Stop, MaxOutputTokens: int32(min(r.MaxTokens, math.MaxInt32))}
	if r.System != "" {
		config.SystemInstruction = genai.NewContentFromText(r.System, genai.RoleUser)
	}
	if r.Temperature != nil {
		config.Temperature = genai.Ptr(float32(*r.Temperature))
	}
	if r.Schema != nil {
		config.ResponseMIMEType = "application/json"
		if err := json.Unmarshal(r.Schema.JSON, &config.ResponseJsonSchema); err != nil {
			return nil, fmt.Errorf("%w: %s: the JSON schema: %w", tenant.ErrNotBilled, name, err)
		}
	}
	return config, nil
}

func contents(r *tenant.Request) []*genai.Content {
	all := make([]*genai.Content, len(r.Messages))
	for i, message := range r.Messages {
		role := genai.Role(genai.RoleUser)
		if message.Role == tenant.RoleAssistant {
			role = genai.RoleModel
		}
		parts := make([]*genai.Part, len(message.Parts))
		for j, part := range message.Parts {
			switch image := part.Image; {
			case image == nil:
				parts[j] = genai.NewPartFromText(part.Text)
			case image.URL != "":
				parts[j] = genai.NewPartFromURI(image.URL, image.MediaType)
			default:
				parts[j] = genai.NewPartFromBytes(image.Data, image.MediaType)
			}
		}
		all[i] = genai.NewContentFromParts(parts, role)
	}
	return all
}
