package tenant

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/shopspring/decimal"

	"github.com/llmtenant/tenant/internal/callctx"
)

const (
	// DefaultMaxTokens is the most output of a call, in tokens, where neither the call, its agent nor its model says it.
	DefaultMaxTokens = 4096

	// hiddenInput is what providers add to the text of a request, at most, in tokens.
	hiddenInput = 1024
)

// Agent makes calls to one model, each admitted against the budgets of its tenant before it is made, and on the books
// before its reply is handed out. It is safe for concurrent use, and starts no goroutines.
type Agent struct {
	ledger        *Ledger
	model         Model
	info          ModelInfo
	tenantOf      func(context.Context, *Call) (Tenant, error)
	requireTenant bool
	defaults      callOptions
}

// NewAgent returns an agent on a model. Options are its own, such as [WithTenantFunc] and [RequireTenant], and defaults
// for its calls, such as [WithAgent]; an option of a call goes before the agent's. [WithIdempotencyKey] is one call's
// and no default.
//
// Errors: [ErrInvalidOption], which names what is invalid.
func NewAgent(ledger *Ledger, model Model, options ...AgentOption) (*Agent, error) {
	if ledger == nil {
		return nil, fmt.Errorf("%w: NewAgent: the ledger is nil", ErrInvalidOption)
	}
	if isNil(model) {
		return nil, fmt.Errorf("%w: NewAgent: the model is nil", ErrInvalidOption)
	}
	a := &Agent{ledger: ledger, model: model, info: model.Info(), defaults: newCallOptions()}
	if err := a.info.valid(); err != nil {
		return nil, fmt.Errorf("NewAgent: %w", err)
	}
	for _, option := range options {
		if option == nil {
			return nil, nilOption[AgentOption]("NewAgent")
		}
		if err := option.applyAgent(a); err != nil {
			return nil, err
		}
	}
	if a.defaults.idempotency != "" {
		return nil, fmt.Errorf("%w: NewAgent: WithIdempotencyKey is for one call, and every call of the agent would have it", ErrInvalidOption)
	}
	return a, nil
}

func isNil(model Model) bool {
	v := reflect.ValueOf(model)
	return !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil()
}

type agentOption func(*Agent) error

func (f agentOption) applyAgent(a *Agent) error { return f(a) }

// WithTenantFunc lets the agent decide itself whom each call is made for, before anything that the call or the context
// says. f may be a method value, such as support.TenantOf. The tenant that it returns is the call's, and nil is no
// tenant; an error fails the call, and nothing is charged. f is called from many goroutines. Defaults to none: then the
// tenant is that of [WithTenant], on the call, otherwise on the agent, otherwise the context's.
func WithTenantFunc(f func(ctx context.Context, call *Call) (Tenant, error)) AgentOption {
	return agentOption(func(a *Agent) error {
		if f == nil {
			return fmt.Errorf("%w: WithTenantFunc: the function is nil", ErrInvalidOption)
		}
		a.tenantOf = f
		return nil
	})
}

// RequireTenant makes a call without a tenant an [ErrTenantRequired]. Defaults to off: such a call is recorded without a
// tenant, and no limit counts it.
func RequireTenant() AgentOption {
	return agentOption(func(a *Agent) error {
		a.requireTenant = true
		return nil
	})
}

// Call is a call about to be made, as a function given to [WithTenantFunc] sees it. Its parameters are read with [Param].
type Call struct {
	Prompt string

	// Agent is the name by [WithAgent]; empty for none.
	Agent string

	// Tenant is whom the call would be made for without the function; nil for nobody.
	Tenant Tenant

	params map[string]any
}

// Param returns the parameter that the call or its agent was given with [WithParam]. It fails with [ErrInvalidOption]
// where there is none of that name, or one of another type; the error names both types.
func Param[T any](call *Call, name string) (T, error) {
	value, ok := call.params[name]
	if !ok {
		var none T
		return none, fmt.Errorf("%w: the call has no parameter %q, and one of type %v is wanted; WithParam gives it",
			ErrInvalidOption, name, reflect.TypeFor[T]())
	}
	t, ok := value.(T)
	if !ok {
		return t, fmt.Errorf("%w: the call's parameter %q is of type %T, and %v is wanted", ErrInvalidOption, name, value, reflect.TypeFor[T]())
	}
	return t, nil
}

// Reply is what a call brought and what it was charged.
type Reply struct {
	Text string

	// Provider and Model are those that the provider says it used, otherwise those that were asked for.
	Provider, Model string

	// FinishReason is the provider's word for why the text ends, such as "stop" or "length".
	FinishReason string

	// RequestID is the provider's name for the call.
	RequestID string

	// Usage is what the model reported, or, where it reported none, what the call held.
	Usage Usage

	// Cost is what the provider bills for the call, and Charge what its tenant is charged for it, in US dollars.
	Cost, Charge decimal.Decimal

	// ExecutionID names the call on the books.
	ExecutionID string

	// TenantID is whom the call was made for; empty for nobody.
	TenantID string

	// Shortened: the budget had room for less output than was asked for, so the model was given a lower cap. Whether the
	// text reached that cap is for FinishReason to say.
	Shortened bool

	// Pending: the cost is not on the books yet. The call's hold stands for it, and is charged if the booking never
	// succeeds, unless the call is Unbooked.
	Pending bool

	// Unbooked: the call was admitted although the database could not be reached; see [WithAdmitWhenUnavailable].
	Unbooked bool

	// Estimated: cost and charge are not by usage that the provider reported. Unpriced: no price was known, and they are zero
	// for want of one.
	Estimated, Unpriced bool
}

// CallError says that a call was admitted and then failed. It wraps the model's error. The call is on the books all the
// same, and Cost and Charge, in US dollars, are what the provider bills and what the tenant is charged: for what it used, nothing
// where the provider bills nothing, or all that it held where nobody knows; it is Estimated then.
type CallError struct {
	ExecutionID string
	TenantID    string
	Cost        decimal.Decimal
	Charge      decimal.Decimal
	Estimated   bool
	Err         error
}

func (e *CallError) Error() string {
	return fmt.Sprintf("tenant: the call failed (execution %s): %v", e.ExecutionID, e.Err)
}

// Unwrap returns the model's error.
func (e *CallError) Unwrap() error { return e.Err }

// Call makes one call. It finds out whom the call is for (see [WithTenantFunc]), has it admitted by the budgets, calls
// the model, and books what the call used, in that order.
//
// What is held is a bound on the call: an input of as many tokens as the prompts have bytes, and 1,024 more, and the
// output asked for with [WithMaxTokens]. Where the budgets have room for less output, the model is told to produce
// less, down to 256 tokens or to what was asked for: the last call before a limit is shortened, not refused. Such a reply
// is marked Shortened, and has a FinishReason such as "length" if it did not fit.
//
// The call is booked whatever happens: when the model fails or panics, when ctx has ended, when its connection broke.
// Where nobody can say what the provider will bill, it is charged all that it held, and is marked Estimated: otherwise a
// limit could be passed by calls that fail late. A reply is never withheld because it could not be booked: it is marked
// Pending.
//
// Errors: those of [Ledger.Reserve], and [ErrTenantRequired], before the model is called; a [*CallError] when the model
// failed. A reply comes with a CallError if the model brought a response together with its error.
func (a *Agent) Call(ctx context.Context, prompt string, options ...CallOption) (*Reply, error) {
	o := a.defaults.clone()
	hold, output, err := a.reserve(ctx, prompt, &o, options)
	if err != nil {
		t := o.tenant
		if !o.hasTenant {
			t, _ = TenantFromContext(ctx)
		}
		return nil, a.ledger.notAdmitted(ctx, t, HostErrorEvent{Agent: o.agent, Provider: a.info.Provider, Model: a.info.Name, Err: err})
	}

	ctx = a.ledger.contextOfCall(ctx, hold)
	request := &Request{System: o.system, Prompt: prompt, MaxTokens: hold.OutputTokens}
	response, err := a.generate(ctx, hold, request)
	actual := a.actual(hold, response, err)
	s := a.settle(ctx, hold, actual)
	if err != nil {
		err = &CallError{
			ExecutionID: hold.ExecutionID, TenantID: hold.TenantID, Cost: s.Cost, Charge: s.Charge, Estimated: s.Estimated, Err: err,
		}
	}
	if response == nil {
		return nil, err
	}
	return &Reply{
		Text: response.Text, FinishReason: response.FinishReason, RequestID: response.RequestID,
		Provider: first(response.Provider, a.info.Provider), Model: first(response.Model, a.info.Name),
		Usage: actual.Usage, Cost: s.Cost, Charge: s.Charge, ExecutionID: hold.ExecutionID, TenantID: hold.TenantID,
		Shortened: hold.OutputTokens < output,
		Pending:   s.Outcome == Pending, Unbooked: hold.Unbooked, Estimated: s.Estimated, Unpriced: s.Unpriced,
	}, err
}

// reserve has a call admitted, and returns the most output that it asks for.
func (a *Agent) reserve(ctx context.Context, prompt string, o *callOptions, options []CallOption) (*Hold, int64, error) {
	if err := applyAll(o, "Call", options); err != nil {
		return nil, 0, err
	}
	who, err := a.identify(ctx, prompt, o)
	if err != nil {
		return nil, 0, err
	}
	output := a.output(o)
	hold, err := a.ledger.reserve(ctx, who, Estimate{
		Provider: a.info.Provider, Model: a.info.Name,
		InputTokens:  int64(len(o.system)) + int64(len(prompt)) + hiddenInput,
		OutputTokens: output,
	}, o)
	return hold, output, err
}

// identify finds out whom a call is made for.
func (a *Agent) identify(ctx context.Context, prompt string, o *callOptions) (identity, error) {
	t := o.tenant
	if !o.hasTenant {
		t, _ = TenantFromContext(ctx)
	}
	if a.tenantOf != nil {
		var err error
		t, err = a.tenantOf(ctx, &Call{Prompt: prompt, Agent: o.agent, Tenant: t, params: o.params})
		if err != nil {
			return identity{}, fmt.Errorf("tenant: the agent's tenant function: %w", err)
		}
	}
	if t == nil && a.requireTenant {
		return identity{}, ErrTenantRequired
	}
	return a.ledger.identify(t)
}

// output is the most output that a call asks for.
func (a *Agent) output(o *callOptions) int64 {
	switch {
	case o.maxTokens > 0:
		return o.maxTokens
	case a.info.MaxOutputTokens > 0:
		return a.info.MaxOutputTokens
	}
	return DefaultMaxTokens
}

var (
	errPanicked   = errors.New("the model panicked")
	errNoResponse = errors.New("the model returned neither a response nor an error")
)

// generate calls the model. When the model does not return, because it panicked or ended its goroutine, it settles the
// hold and lets that go on.
func (a *Agent) generate(ctx context.Context, h *Hold, r *Request) (response *Response, err error) {
	returned := false
	defer func() {
		if !returned {
			a.settle(ctx, h, a.actual(h, nil, errPanicked))
		}
	}()
	response, err = a.model.Generate(callctx.WithMetered(ctx), r)
	returned = true
	if response == nil && err == nil {
		err = errNoResponse
	}
	return response, err
}

// actual is what a call is charged. It goes by usage, never by error.
func (a *Agent) actual(h *Hold, r *Response, err error) Actual {
	actual := Actual{ErrorCode: errorCode(err)}
	if r != nil {
		actual.Provider, actual.Model, actual.RequestID, actual.ServiceTier = r.Provider, r.Model, r.RequestID, r.ServiceTier
		if r.ReportedCost.err == nil {
			actual.ReportedCost = r.ReportedCost
		}
	}
	switch {
	case r != nil && r.Usage != nil:
		actual.Usage = *r.Usage
	case errors.Is(err, ErrNotBilled):
		actual.Cost, actual.Charge = nanoUSD(0), nanoUSD(0)
	default:
		actual.Usage, actual.Estimated = Usage{Input: h.Tokens - h.OutputTokens, Output: h.OutputTokens}, true
		if !h.exec.Unpriced {
			actual.Cost, actual.Charge = nanoUSD(h.exec.Held.Cost), nanoUSD(h.exec.Held.Charge)
		}
	}
	return actual
}

// settle books a call. What it cannot book is pending, and its hold stands for it.
func (a *Agent) settle(ctx context.Context, h *Hold, actual Actual) Settlement {
	s, err := a.ledger.Settle(ctx, h, actual)
	if err != nil {
		a.ledger.options.log.Error("tenant: a call could not be booked; its hold stands for it",
			"execution", h.ExecutionID, "tenant", h.TenantID, "error", err)
		return Settlement{
			Outcome: Pending, ExecutionID: h.ExecutionID, Cost: h.Cost, Charge: h.Charge, Tokens: h.Tokens, Estimated: true, Unpriced: h.exec.Unpriced,
		}
	}
	return s
}

// errorCode is a word for an error that has nothing of its message in it.
func errorCode(err error) string {
	if err == nil {
		return ""
	}
	var answer interface {
		error
		StatusCode() int
	}
	if errors.As(err, &answer) {
		if status := answer.StatusCode(); status >= 100 && status <= 599 {
			return fmt.Sprintf("http_%d", status)
		}
	}
	switch {
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "deadline_exceeded"
	case errors.Is(err, errPanicked):
		return "panic"
	}
	return "error"
}

func first(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}
