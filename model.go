package tenant

import (
	"context"
	"fmt"

	"github.com/llmtenant/tenant/internal/text"
)

// Model is what an [Agent] calls: one model of one provider. adapters/openai has the first; a program's own is one type
// with these two methods. It is called from many goroutines.
type Model interface {
	// Info says which model it is. It is asked once, by NewAgent.
	Info() ModelInfo

	// Generate makes one attempt at the call that r describes, and no second one: what is tried again is paid again, so
	// trying again is for the caller of the agent, whose every call is admitted.
	//
	// The answer decides what is charged. A Response with a Usage is charged by it, also when an error comes with it. An
	// error that wraps [ErrNotBilled] says that nothing was used: the request was never sent, or the provider answered
	// with an error. Everything else (no usage, any other error, a panic) leaves open what the provider will bill, so
	// the call is charged what it held.
	Generate(ctx context.Context, r *Request) (*Response, error)
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

// Request is one call as a [Model] gets it. The two texts are all its input: the budget was asked for no more than
// their bytes and 1,024 tokens.
type Request struct {
	// System is the system prompt; empty for none.
	System string

	Prompt string

	// MaxTokens is the most output that the call's hold covers, reasoning included; at least 1. A model has to pass it to
	// its provider: what it produces beyond is an overrun of the budget.
	MaxTokens int64
}

// Response is what came of a call.
type Response struct {
	Text string

	// Provider and Model are those that the provider says it used. Empty: those of the model's Info.
	Provider, Model string

	// RequestID is the provider's name for the call, for its support.
	RequestID string

	// FinishReason is the provider's word for why the text ends, such as "stop" or "length".
	FinishReason string

	// Usage is what the provider reported. Nil: it reported none, and the call is charged what it held.
	Usage *Usage

	// ServiceTier is the tier that the provider says it served the call in, as in [Price.ForService].
	ServiceTier string

	// ReportedCost is what the provider says that the call costs. It is stored beside the charge, and is the charge where
	// the price says so; see [Price].
	ReportedCost Money
}
