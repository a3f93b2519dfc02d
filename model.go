package tenant

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/llmtenant/tenant/internal/text"
)

// Model is what an [Agent] calls: one model of one provider. The packages in adapters have those of the SDKs; a program's
// own is one type with these two methods. It is called from many goroutines. One that also streams is a [Streamer].
type Model interface {
	// Info says which model it is. It is asked once, by NewAgent.
	Info() ModelInfo

	// Generate makes one attempt at the call that r describes, and no second one: what is tried again is paid again, so
	// that trying again is for the agent, whose every attempt is admitted and booked.
	//
	// The answer decides what is charged. A Response with a Usage is charged by it, also when an error comes with it. An
	// error that wraps [ErrNotBilled] says that nothing was used: the request was never sent, or the provider answered
	// with an error. Everything else (no usage, any other error, a panic) leaves open what the provider will bill, so
	// the call is charged what it held.
	//
	// An error may have a method StatusCode() int, the status of the provider's answer, and RetryAfter() time.Duration,
	// how long the provider asks to wait; see [CallError.Retryable].
	Generate(ctx context.Context, r *Request) (*Response, error)
}

// Streamer is a [Model] that hands over its text while it comes.
type Streamer interface {
	Model

	// Stream is Generate, but that it gives each piece of the text to yield as it comes. Its Response is what is known in
	// the end, with an empty Text: the text is what was yielded.
	//
	// yield returns false where nobody wants more. Then Stream ends the request and returns, as after an error, what is
	// known by then: a usage of a part is one that is Estimated. Without a usage the call is charged by the text that was
	// yielded; what it held, where there was none.
	//
	// yield is called by the goroutine that calls Stream, and not after Stream has returned.
	Stream(ctx context.Context, r *Request, yield func(text string) bool) (*Response, error)
}

// ModelInfo says which model a [Model] calls.
type ModelInfo struct {
	// Provider and Name are looked up in the price book, for example "openai" and "gpt-4.1-mini". The name is required.
	Provider, Name string

	// MaxOutputTokens is the most output of one call, in tokens, where neither the call nor its agent says it (see
	// [WithMaxTokens]). Zero is [DefaultMaxTokens].
	MaxOutputTokens int64
}

func (i ModelInfo) valid() error {
	if err := text.Valid(ErrInvalidOption, "Name in the model's Info", i.Name, true); err != nil {
		return err
	}
	if err := text.Valid(ErrInvalidOption, "Provider in the model's Info", i.Provider, false); err != nil {
		return err
	}
	if i.MaxOutputTokens < 0 || i.MaxOutputTokens > maxPlausibleTokens {
		return fmt.Errorf("%w: the MaxOutputTokens in the model's Info, %d, is not between 0 and 2^40", ErrInvalidOption, i.MaxOutputTokens)
	}
	return nil
}

// Role says who speaks in a [Message].
type Role string

// The roles. What the system says is for [WithSystem].
const (
	RoleUser      Role = "user"
	RoleAssistant Role = "assistant"
)

// Message is one turn of a conversation: what one of the two has said, in one or several parts.
type Message struct {
	Role  Role
	Parts []Part
}

// Part is a part of a message: a text, or an image where Image is not nil.
type Part struct {
	Text  string
	Image *Image
}

// Image is an image that a model is shown: its bytes, or where they are, of which exactly one is said.
type Image struct {
	// MediaType is that of the Data, such as "image/png". With a URL it may be empty, unless the provider needs it (Google's).
	MediaType string

	Data []byte

	// URL is where the provider finds the image; http, https, or one of the provider's own, such as gs:.
	URL string
}

// UserMessage returns what the user says: a text, and images after it. An empty text is none.
func UserMessage(text string, images ...Image) Message {
	m := Message{Role: RoleUser}
	if text != "" {
		m.Parts = append(m.Parts, Part{Text: text})
	}
	for _, image := range images {
		m.Parts = append(m.Parts, Part{Image: &image})
	}
	return m
}

// AssistantMessage returns what the model has said.
func AssistantMessage(text string) Message {
	return Message{Role: RoleAssistant, Parts: []Part{{Text: text}}}
}

// Text returns the texts of the message's parts, joined by line breaks.
func (m Message) Text() string {
	var texts []string
	for _, p := range m.Parts {
		if p.Image == nil {
			texts = append(texts, p.Text)
		}
	}
	return strings.Join(texts, "\n")
}

func (m Message) valid() error {
	if m.Role != RoleUser && m.Role != RoleAssistant {
		return fmt.Errorf("the role %.32q is neither RoleUser nor RoleAssistant", string(m.Role))
	}
	if len(m.Parts) == 0 {
		return fmt.Errorf("it has no parts")
	}
	for i, p := range m.Parts {
		if p.Image == nil {
			if p.Text == "" {
				return fmt.Errorf("part %d is empty", i+1)
			}
			continue
		}
		if p.Text != "" {
			return fmt.Errorf("part %d is a text and an image; they are parts of their own", i+1)
		}
		if m.Role == RoleAssistant {
			return fmt.Errorf("part %d is an image, and the role is the assistant's", i+1)
		}
		if err := p.Image.valid(); err != nil {
			return fmt.Errorf("the image in part %d: %w", i+1, err)
		}
	}
	return nil
}

func (i *Image) valid() error {
	switch {
	case len(i.Data) == 0 && i.URL == "":
		return fmt.Errorf("neither Data nor URL is set")
	case len(i.Data) > 0 && i.URL != "":
		return fmt.Errorf("both Data and URL are set")
	case len(i.Data) > 0 && i.MediaType == "":
		return fmt.Errorf("no MediaType is set for the Data")
	case i.MediaType != "" && !strings.HasPrefix(i.MediaType, "image/"):
		return fmt.Errorf("the MediaType %.64q is no image's", i.MediaType)
	case i.URL != "" && !strings.Contains(i.URL, ":"):
		return fmt.Errorf("the URL has no scheme")
	}
	return nil
}

// Schema is a JSON schema that a reply has to have the form of.
type Schema struct {
	// Name is the provider's to see, such as "invoice": at most 64 of a-z, A-Z, 0-9, _ and -.
	Name string

	// JSON is the schema, a JSON object.
	JSON json.RawMessage
}

func (s *Schema) valid() error {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
	if s.Name == "" || len(s.Name) > 64 || strings.Trim(s.Name, allowed) != "" {
		return fmt.Errorf("the name %.70q is not of 1 to 64 of a-z, A-Z, 0-9, _ and -", s.Name)
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(s.JSON, &object); err != nil || object == nil {
		return fmt.Errorf("the schema is no JSON object")
	}
	return nil
}

// Request is one attempt as a [Model] gets it. Its texts, its images and its schema are all its input: the budget was
// asked for no more than a bound on these.
type Request struct {
	// System is the system prompt; empty for none.
	System string

	// Messages are the conversation. There is at least one, and the last one is the user's.
	Messages []Message

	// MaxTokens is the most output that the call's hold covers, reasoning included; at least 1. A model has to pass it to
	// its provider: what it produces beyond is an overrun of the budget. In a [Call] it is what is asked for, and zero where
	// the call leaves it to the model.
	MaxTokens int64

	// Temperature is nil where the call leaves it to the provider.
	Temperature *float64

	// Stop are texts before which the output ends.
	Stop []string

	// Schema is what the reply has to have the form of; nil for text of any form.
	Schema *Schema
}

// Prompt returns the text of the last message.
func (r *Request) Prompt() string {
	if len(r.Messages) == 0 {
		return ""
	}
	return r.Messages[len(r.Messages)-1].Text()
}

func (r *Request) valid() error {
	if len(r.Messages) == 0 {
		return fmt.Errorf("%w: the prompt is empty, and there are no messages", ErrInvalidOption)
	}
	for i, m := range r.Messages {
		if err := m.valid(); err != nil {
			return fmt.Errorf("%w: message %d of %d: %w", ErrInvalidOption, i+1, len(r.Messages), err)
		}
	}
	if r.Messages[len(r.Messages)-1].Role != RoleUser {
		return fmt.Errorf("%w: the prompt is empty, and the last of the messages is not the user's", ErrInvalidOption)
	}
	if t := r.Temperature; t != nil && !(*t >= 0 && *t <= mostTemperature) {
		return fmt.Errorf("%w: the temperature %v is not between 0 and %v", ErrInvalidOption, *t, mostTemperature)
	}
	if slices.Contains(r.Stop, "") {
		return fmt.Errorf("%w: an empty text to stop at", ErrInvalidOption)
	}
	if r.Schema != nil {
		if err := r.Schema.valid(); err != nil {
			return fmt.Errorf("%w: the JSON schema: %w", ErrInvalidOption, err)
		}
	}
	if r.MaxTokens < 0 || r.MaxTokens > maxPlausibleTokens {
		return fmt.Errorf("%w: MaxTokens: %d is not between 0 and 2^40", ErrInvalidOption, r.MaxTokens)
	}
	return nil
}

const mostTemperature = 2.0

// Response is what came of a call.
type Response struct {
	Text string

	// Provider and Model are those that the provider says it used. Empty: those of the model's Info.
	Provider, Model string

	// RequestID is the provider's name for the call, for its support.
	RequestID string

	// FinishReason is the provider's word for why the text ends, such as "stop" or "length".
	FinishReason string

	// Usage is what the provider reported. Nil: it reported none, and the call is charged what it held; a stream, by the
	// text that came.
	Usage *Usage

	// Estimated: the Usage is not what the provider reported for the whole of the call, such as of a stream that was cut
	// short. Without any input in it, and with less output than the text that came, it is completed from the request and
	// the text.
	Estimated bool

	// ServiceTier is the tier that the provider says it served the call in, as in [Price.ForService].
	ServiceTier string

	// ReportedCost is what the provider says that the call costs. It is stored beside the charge, and is the charge where
	// the price says so; see [Price].
	ReportedCost Money
}

// WithMessages sets what was said before the prompt: the conversation so far, or examples. The prompt is then the last
// message of the user's; with an empty prompt, the last of the messages has to be. Defaults to none.
func WithMessages(messages ...Message) CallOption {
	return callOption(func(o *callOptions) error {
		for i, m := range messages {
			if err := m.valid(); err != nil {
				return fmt.Errorf("%w: WithMessages: message %d of %d: %w", ErrInvalidOption, i+1, len(messages), err)
			}
		}
		o.messages = slices.Clone(messages)
		return nil
	})
}

// WithImages shows the model images beside the prompt. Each is held as the most tokens that the model can see in one.
// Defaults to none.
func WithImages(images ...Image) CallOption {
	return callOption(func(o *callOptions) error {
		for i := range images {
			if err := images[i].valid(); err != nil {
				return fmt.Errorf("%w: WithImages: image %d of %d: %w", ErrInvalidOption, i+1, len(images), err)
			}
		}
		o.images = slices.Clone(images)
		return nil
	})
}

// WithTemperature sets how much the output varies, from 0 to 2; some providers allow no more than 1. Defaults to the
// provider's own.
func WithTemperature(t float64) CallOption {
	return callOption(func(o *callOptions) error {
		if math.IsNaN(t) || t < 0 || t > mostTemperature {
			return fmt.Errorf("%w: WithTemperature: %v is not between 0 and %v", ErrInvalidOption, t, mostTemperature)
		}
		o.temperature = &t
		return nil
	})
}

// WithStop sets texts before which the output ends. Defaults to none.
func WithStop(texts ...string) CallOption {
	return callOption(func(o *callOptions) error {
		if slices.Contains(texts, "") {
			return fmt.Errorf("%w: WithStop: an empty text", ErrInvalidOption)
		}
		o.stop = slices.Clone(texts)
		return nil
	})
}

// WithJSONSchema has the reply be JSON in the form of a schema, so that its Text can be unmarshalled. The name is for the
// provider, such as "invoice". A reply that was cut short is no whole JSON: look at its FinishReason. Defaults to text of
// any form.
func WithJSONSchema(name string, schema []byte) CallOption {
	return callOption(func(o *callOptions) error {
		s := &Schema{Name: name, JSON: slices.Clone(schema)}
		if err := s.valid(); err != nil {
			return fmt.Errorf("%w: WithJSONSchema: %w", ErrInvalidOption, err)
		}
		o.schema = s
		return nil
	})
}
