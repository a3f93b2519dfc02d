package fantasy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"

	"charm.land/fantasy"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
)

// Model is a language model of fantasy's. It is safe for concurrent use.
type Model struct {
	model  fantasy.LanguageModel
	info   tenant.ModelInfo
	behind string
}

var _ tenant.Streamer = (*Model)(nil)

// Option is an option of [NewModel].
type Option func(*Model) error

// WithProvider sets the provider's name under which the price book is asked for the model. Defaults to the one that fantasy
// says, such as "openai", "anthropic", "google", "azure", "bedrock", "openrouter" or "vercel".
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

// Client returns an HTTP client for a provider's WithHTTPClient: a copy of base, or of http.DefaultClient where that is nil,
// which reads what replies state. A call of a model without it is charged what it held, since fantasy's own usage does not
// say of each provider what is in it.
func Client(base *http.Client) *http.Client {
	if base == nil {
		base = http.DefaultClient
	}
	client := *base
	client.Transport = tenanthttp.Watch(base.Transport)
	return &client
}

// NewModel returns a language model of one of fantasy's providers, which has the client of [Client].
//
// Errors: [tenant.ErrInvalidOption], which names what is invalid.
func NewModel(model fantasy.LanguageModel, options ...Option) (*Model, error) {
	if v := reflect.ValueOf(model); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, fmt.Errorf("%w: NewModel: the model is nil", tenant.ErrInvalidOption)
	}
	m := &Model{model: model, info: tenant.ModelInfo{Provider: model.Provider(), Name: model.Model()}, behind: model.Provider()}
	if m.info.Name == "" {
		return nil, fmt.Errorf("%w: NewModel: the model's name is empty", tenant.ErrInvalidOption)
	}
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

const name = "fantasy" // before the text of errors

// Error is why a call failed.
type Error = tenanthttp.ExchangeError

// Generate implements [tenant.Model] by one request. Its errors are of type [*Error], but for what fantasy cannot ask for.
func (m *Model) Generate(ctx context.Context, r *tenant.Request) (*tenant.Response, error) {
	prompt, err := promptOf(r)
	if err != nil {
		return nil, err
	}
	ctx, x := tenanthttp.ContextWithExchange(ctx, m.behind)
	if r.Schema != nil {
		return m.object(ctx, x, r, prompt)
	}
	generated, err := m.model.Generate(ctx, fantasy.Call{Prompt: prompt, MaxOutputTokens: &r.MaxTokens, Temperature: r.Temperature})
	text := ""
	if err == nil && generated != nil {
		for _, content := range generated.Content {
			if part, ok := fantasy.AsContentType[fantasy.TextContent](content); ok {
				text += part.Text
			}
		}
	}
	response, err := end(x, false, err)
	if response != nil {
		response.Text = text
	}
	return response, err
}

// object has fantasy make an object of the schema, in the way that it knows for the provider.
func (m *Model) object(ctx context.Context, x *tenanthttp.Exchange, r *tenant.Request, prompt fantasy.Prompt) (*tenant.Response, error) {
	call := fantasy.ObjectCall{Prompt: prompt, SchemaName: r.Schema.Name, MaxOutputTokens: &r.MaxTokens, Temperature: r.Temperature}
	if err := readSchema(r.Schema.JSON, &call.Schema); err != nil {
		return nil, refused(fmt.Sprintf("its schemas do not take this one: %v", err))
	}
	generated, err := m.model.GenerateObject(ctx, call)
	text := ""
	if err == nil && generated != nil {
		text = generated.RawText
	}
	response, err := end(x, false, err)
	if response != nil {
		response.Text = text
	}
	return response, err
}

// Stream implements [tenant.Streamer] by one request. An object of a schema comes as a whole. Its errors are of type
// [*Error], but for what fantasy cannot ask for.
func (m *Model) Stream(ctx context.Context, r *tenant.Request, yield func(text string) bool) (*tenant.Response, error) {
	if r.Schema != nil {
		response, err := m.Generate(ctx, r)
		if response != nil && err == nil {
			yield(response.Text)
		}
		return response, err
	}
	prompt, err := promptOf(r)
	if err != nil {
		return nil, err
	}
	ctx, x := tenanthttp.ContextWithExchange(ctx, m.behind)
	parts, err := m.model.Stream(ctx, fantasy.Call{Prompt: prompt, MaxOutputTokens: &r.MaxTokens, Temperature: r.Temperature})
	if err != nil {
		return end(x, true, err)
	}
	for part := range parts {
		if part.Type == fantasy.StreamPartTypeError {
			err = part.Error
			break
		}
		if part.Type == fantasy.StreamPartTypeTextDelta && part.Delta != "" && !yield(part.Delta) {
			break
		}
	}
	return end(x, true, err)
}

// end is what the model returns for its call. A call that no client of [Client] has made has no usage, and nobody knows what is
// billed for it.
func end(x *tenanthttp.Exchange, streamed bool, err error) (*tenant.Response, error) {
	if x.Sent() {
		return x.End(name, streamed, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &tenant.Response{}, nil
}

// refused is the error for what fantasy cannot ask for.
func refused(why string) error {
	return fmt.Errorf("%w: %w: %s: %s", tenant.ErrNotBilled, tenant.ErrInvalidOption, name, why)
}

// promptOf is the conversation as fantasy has it.
func promptOf(r *tenant.Request) (fantasy.Prompt, error) {
	if len(r.Stop) > 0 {
		return nil, refused("its calls have no texts to stop at, and WithStop has given one")
	}
	var prompt fantasy.Prompt
	if r.System != "" {
		prompt = append(prompt, fantasy.NewSystemMessage(r.System))
	}
	for _, message := range r.Messages {
		m := fantasy.Message{Role: fantasy.MessageRoleUser}
		if message.Role == tenant.RoleAssistant {
			m.Role = fantasy.MessageRoleAssistant
		}
		for _, part := range message.Parts {
			switch image := part.Image; {
			case image == nil:
				m.Content = append(m.Content, fantasy.TextPart{Text: part.Text})
			case image.URL != "":
				return nil, refused("its images have bytes, and one has a URL")
			default:
				m.Content = append(m.Content, fantasy.FilePart{Data: image.Data, MediaType: image.MediaType})
			}
		}
		prompt = append(prompt, m)
	}
	return prompt, nil
}

// readSchema reads a JSON schema into fantasy's, which has a few of the keywords. That nothing else is allowed in an object, fantasy
// says itself where a provider wants it.
func readSchema(raw json.RawMessage, to *fantasy.Schema) error {
	var all any
	if err := json.Unmarshal(raw, &all); err != nil {
		return err
	}
	text, err := json.Marshal(open(all))
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(to)
}

// open takes "additionalProperties": false out of a schema.
func open(schema any) any {
	switch s := schema.(type) {
	case map[string]any:
		if s["additionalProperties"] == false {
			delete(s, "additionalProperties")
		}
		for k, v := range s {
			s[k] = open(v)
		}
	case []any:
		for i, v := range s {
			s[i] = open(v)
		}
	}
	return schema
}
