package openai

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"

	sdk "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

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

var _ tenant.Model = (*Model)(nil)

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
	var (
		sent   sending
		answer *http.Response
	)
	completion, err := m.client.Chat.Completions.New(sent.trace(ctx), m.params(r),
		option.WithMaxRetries(0), option.WithResponseInto(&answer), option.WithMiddleware(sent.middleware))
	if err != nil {
		return nil, failure(err, answer, sent.never())
	}
	response := m.response(completion, sent.request.Load(), answer)
	if len(completion.Choices) == 0 {
		return response, noChoices(completion, response.RequestID)
	}
	return response, nil
}

func (m *Model) params(r *tenant.Request) sdk.ChatCompletionNewParams {
	params := sdk.ChatCompletionNewParams{Model: m.info.Name}
	if r.System != "" {
		params.Messages = append(params.Messages, sdk.SystemMessage(r.System))
	}
	params.Messages = append(params.Messages, sdk.UserMessage(r.Prompt))
	switch {
	case r.MaxTokens <= 0:
	case m.maxTokens:
		params.MaxTokens = sdk.Int(r.MaxTokens)
	default:
		params.MaxCompletionTokens = sdk.Int(r.MaxTokens)
	}
	return params
}

func (m *Model) response(c *sdk.ChatCompletion, asked *http.Request, answer *http.Response) *tenant.Response {
	read, stated := tenanthttp.ReadReply(m.behind, asked, answer, []byte(c.RawJSON()))
	r := &tenant.Response{
		Model: cmp.Or(read.Model, c.Model), RequestID: cmp.Or(read.RequestID, answer.Header.Get("X-Request-Id"), c.ID),
		ServiceTier: read.ServiceTier, ReportedCost: read.ReportedCost,
	}
	if stated {
		r.Usage = &read.Usage
	}
	if len(c.Choices) > 0 {
		choice := c.Choices[0]
		r.Text, r.FinishReason = choice.Message.Content, choice.FinishReason
		if r.Text == "" {
			r.Text = choice.Message.Refusal
		}
	}
	return r
}

// sending watches how far a request gets.
type sending struct {
	request   atomic.Pointer[http.Request]
	reached   atomic.Bool // the SDK has handed it to the HTTP client
	asked     atomic.Bool // the HTTP client has asked for a connection, and so is one that can be watched
	connected atomic.Bool // it has got one, and from then on bytes may have left
}

func (s *sending) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { s.asked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { s.connected.Store(true) },
	})
}

func (s *sending) middleware(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if r.URL.Scheme != "http" && r.URL.Scheme != "https" || r.URL.Host == "" {
		return nil, errors.New("the client's base URL is no http or https URL with a host")
	}
	s.request.Store(r)
	s.reached.Store(true)
	return next(r)
}

// never reports whether the request has certainly not been sent.
func (s *sending) never() bool {
	return !s.reached.Load() || s.asked.Load() && !s.connected.Load()
}
