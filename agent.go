package tenant

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/shopspring/decimal"
)

// DefaultMaxTokens is the most output of a call, in tokens, where neither the call, its agent nor its model says it.
const DefaultMaxTokens = 4096

// Agent makes calls to one model, each admitted against the budgets of its tenant before it is made, and on the books
// before its reply is handed out. It is safe for concurrent use, and leaves no goroutines behind.
type Agent struct {
	ledger        *Ledger
	model         chosen
	tenantOf      func(context.Context, *Call) (Tenant, error)
	requireTenant bool
	defaults      callOptions
	around        []Middleware
	handler       Handler // the attempt, with the middlewares around it
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
	m, err := choose(model)
	if err != nil {
		return nil, fmt.Errorf("NewAgent: %w", err)
	}
	a := &Agent{ledger: ledger, model: m, defaults: newCallOptions()}
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
	a.handler = a.attempt
	for _, m := range slices.Backward(a.around) {
		if a.handler = m(a.handler); a.handler == nil {
			return nil, fmt.Errorf("%w: NewAgent: a Middleware in Use has returned nil", ErrInvalidOption)
		}
	}
	return a, nil
}

// chosen is a model that an attempt is made with.
type chosen struct {
	Model
	info ModelInfo
}

func choose(model Model) (chosen, error) {
	if v := reflect.ValueOf(model); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return chosen{}, fmt.Errorf("%w: the model is nil", ErrInvalidOption)
	}
	info := model.Info()
	return chosen{Model: model, info: info}, info.valid()
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

// Call is a call about to be made, as a function given to [WithTenantFunc] and each [Middleware] see it. Its parameters are
// read with [Param].
type Call struct {
	Prompt string

	// Agent is the name by [WithAgent]; empty for none.
	Agent string

	// Tenant is whom the call is made for; nil for nobody. A function of [WithTenantFunc] sees whom it would be made for
	// without it. A middleware that keeps replies has to keep them apart by tenant.
	Tenant Tenant

	// Model is the model that is called, unless a middleware within decides otherwise (see [WithFallback]).
	Model ModelInfo

	// Request is what the model is given, before the budgets have bounded its output. A middleware may hand on a copy of the
	// call with another one; it is checked like the caller's own.
	Request Request

	// Streamed: the text goes to the caller while it comes, so that a middleware sees it when it is too late to change it.
	Streamed bool

	params map[string]any
	model  chosen
	made   *making
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

	// Usage is what the model reported for the attempt that brought the text, or, where it reported none, what is charged.
	Usage Usage

	// Cost is what the provider bills for the call, and Charge what its tenant is charged for it, in US dollars: for all attempts
	// together. Both are zero for a reply that a [Middleware] has kept.
	Cost, Charge decimal.Decimal

	// ExecutionID names on the books the attempt that brought the text.
	ExecutionID string

	// Attempts are how the attempts of this call ended on the books, in order; see [Use] and [WithFallback].
	Attempts []Settlement

	// Cached: no attempt of this call has brought the text. A middleware has kept it, and ExecutionID is of the call that did.
	Cached bool

	// TenantID is whom the call was made for; empty for nobody.
	TenantID string

	// Shortened: the budget had room for less output than was asked for, so the model was given a lower cap. Whether the
	// text reached that cap is for FinishReason to say.
	Shortened bool

	// Pending: the cost, or a part of it, is not on the books yet. The call's hold stands for it, and is charged if the
	// booking never succeeds, unless the call is Unbooked.
	Pending bool

	// Unbooked: the call was admitted although the database could not be reached; see [WithAdmitWhenUnavailable].
	Unbooked bool

	// Estimated: cost and charge, or a part of them, are not by usage that the provider reported. Unpriced: no price was known,
	// and they are too low for want of one.
	Estimated, Unpriced bool
}

// Call makes one call. It finds out whom the call is for (see [WithTenantFunc]), has it admitted by the budgets, calls
// the model, and books what the call used, in that order.
//
// What is held is a bound on the call: an input of as many tokens as its texts have bytes, and 1,024 more, each image as the
// most tokens that the model can see in one, and the output asked for with [WithMaxTokens]. Where the budgets have room for
// less output, the model is told to produce less, down to 256 tokens or to what was asked for: the last call before a limit
// is shortened, not refused. Such a reply is marked Shortened, and has a FinishReason such as "length" if it did not fit.
//
// The call is booked whatever happens: when the model fails or panics, when ctx has ended, when its connection broke.
// Where nobody can say what the provider will bill, it is charged all that it held, and is marked Estimated: otherwise a
// limit could be passed by calls that fail late. A reply is never withheld because it could not be booked: it is marked
// Pending.
//
// One call is one attempt, unless a [Middleware] or [WithFallback] makes more of it. Each attempt is admitted and booked by
// itself, and all are in the reply's cost.
//
// Errors: those of [Ledger.Reserve], [ErrTenantRequired], and [ErrInvalidOption], which names what is invalid, before a
// model is called; a [*CallError] when it was called and failed. A reply comes with a CallError if the model brought a
// response together with its error.
func (a *Agent) Call(ctx context.Context, prompt string, options ...CallOption) (*Reply, error) {
	call, err := a.begin(ctx, "Call", prompt, options)
	if err != nil {
		return nil, err
	}
	return call.made.run(ctx, call)
}

// begin makes a call of a prompt and its options, and finds out whom it is for.
func (a *Agent) begin(ctx context.Context, verb, prompt string, options []CallOption) (*Call, error) {
	made := &making{agent: a, options: a.defaults.clone()}
	o := &made.options
	call, err := made.call(ctx, verb, prompt, options)
	if err != nil {
		t := o.tenant
		if !o.hasTenant {
			t, _ = TenantFromContext(ctx)
		}
		return nil, a.ledger.notAdmitted(ctx, t, HostErrorEvent{Agent: o.agent, Provider: a.model.info.Provider, Model: a.model.info.Name, Err: err})
	}
	return call, nil
}

// call is the call as the middlewares see it.
func (m *making) call(ctx context.Context, verb, prompt string, options []CallOption) (*Call, error) {
	a, o := m.agent, &m.options
	if err := applyAll(o, verb, options); err != nil {
		return nil, err
	}
	call := &Call{Prompt: prompt, Agent: o.agent, Model: a.model.info, Request: o.request(prompt), params: o.params, model: a.model, made: m}
	if err := call.Request.valid(); err != nil {
		return nil, fmt.Errorf("%s: %w", verb, err)
	}
	call.Tenant = o.tenant
	if !o.hasTenant {
		call.Tenant, _ = TenantFromContext(ctx)
	}
	if a.tenantOf != nil {
		seen := *call
		seen.made = nil
		t, err := a.tenantOf(ctx, &seen)
		if err != nil {
			return nil, fmt.Errorf("tenant: the agent's tenant function: %w", err)
		}
		call.Tenant = t
	}
	if call.Tenant == nil && a.requireTenant {
		return nil, ErrTenantRequired
	}
	var err error
	m.who, err = a.ledger.identify(call.Tenant)
	return call, err
}

// request is what a call asks of its model.
func (o *callOptions) request(prompt string) Request {
	r := Request{
		System: o.system, Messages: slices.Clone(o.messages), MaxTokens: o.maxTokens,
		Temperature: o.temperature, Stop: o.stop, Schema: o.schema,
	}
	if prompt != "" || len(o.images) > 0 {
		r.Messages = append(r.Messages, UserMessage(prompt, o.images...))
	}
	return r
}

// CallError says that a call was admitted and then failed. It wraps the model's error, that of the last attempt. The call
// is on the books all the same, and Cost and Charge, in US dollars, are what the provider bills and what the tenant is charged, for
// all attempts together: for what was used, nothing where the provider bills nothing, or all that was held where nobody knows; it is
// Estimated then.
type CallError struct {
	ExecutionID string // of the last attempt
	TenantID    string
	Cost        decimal.Decimal
	Charge      decimal.Decimal
	Estimated   bool

	// Attempts are how the attempts ended on the books, in order. Where a [Middleware] sees the error, it is the one attempt.
	Attempts []Settlement

	Err error

	begun bool
}

func (e *CallError) Error() string {
	return fmt.Sprintf("tenant: the call failed (execution %s): %v", e.ExecutionID, e.Err)
}

// Unwrap returns the model's error.
func (e *CallError) Unwrap() error { return e.Err }

// Retryable reports whether another attempt may fare better: no answer came, or the provider is busy or broken (the
// statuses 408, 409, 425, 429 and those from 500 on), none of the text was handed out, and nobody has given the call up. That an
// attempt ran out of time, which a middleware gave it, is worth another one.
func (e *CallError) Retryable() bool {
	if e.begun || errors.Is(e.Err, context.Canceled) || errors.Is(e.Err, ErrStreamLeft) {
		return false
	}
	switch status := statusOf(e.Err); status {
	case 0, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	default:
		return status >= http.StatusInternalServerError
	}
}

// RetryAfter returns how long the provider asks to wait before another attempt, zero where it does not say.
func (e *CallError) RetryAfter() time.Duration {
	var asks interface {
		error
		RetryAfter() time.Duration
	}
	if errors.As(e.Err, &asks) {
		return max(asks.RetryAfter(), 0)
	}
	return 0
}

// Chunk is a piece of a reply that comes in pieces.
type Chunk struct {
	// Text is what has come since the chunk before.
	Text string

	// Reply is the whole reply, with what it was charged, in the last chunk, which has no Text; nil in all others, and with an
	// error of a call that brought nothing.
	Reply *Reply
}

// Stream makes one call, as [Agent.Call] does, and hands out the text while it comes. Each loop over what it returns is a
// call of its own:
//
//	for chunk, err := range agent.Stream(ctx, "Hello", tenant.WithTenant(org)) {
//		if err != nil {
//			return err
//		}
//		fmt.Fprint(w, chunk.Text)
//		if chunk.Reply != nil {
//			log.Println("cost", chunk.Reply.Cost)
//		}
//	}
//
// The call is on the books when the last chunk comes, and when the loop is over, however it ends: with the text, with an
// error, by a break or a return, by the end of ctx, or by a panic in its body. A stream that does not reach its end is
// charged what the provider has stated by then; otherwise the input that is likely and the text that came, marked
// Estimated; all that it held, where nothing came and nobody knows. Package tenanthttp's LastCall says what a call cost whose loop
// was left.
//
// Once a part of the text was handed out no further attempt is made. A [Model] that is no [Streamer], and a reply that a
// [Middleware] has kept, come as one chunk.
//
// Errors: those of [Agent.Call]. An error is the last that comes.
func (a *Agent) Stream(ctx context.Context, prompt string, options ...CallOption) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		call, err := a.begin(ctx, "Stream", prompt, options)
		if err != nil {
			yield(Chunk{}, err)
			return
		}
		call.Streamed = true
		s := &sink{texts: make(chan string), left: make(chan struct{})}
		call.made.sink = s
		ctx, cancel := context.WithCancel(ctx)
		end := make(chan streamed, 1)
		go func() {
			e := streamed{err: errEnded}
			defer func() {
				e.panicked = recover()
				end <- e
			}()
			e.reply, e.err = call.made.run(ctx, call)
		}()
		s.handOut(cancel, end, yield)
	}
}

var errEnded = errors.New("tenant: the model has ended its goroutine")

// streamed is how the goroutine of a stream ended.
type streamed struct {
	reply    *Reply
	err      error
	panicked any
}

// handOut is the loop of a stream. The goroutine of the call has ended when it returns, whatever the loop's body does.
func (s *sink) handOut(cancel context.CancelFunc, end <-chan streamed, yield func(Chunk, error) bool) {
	over := false
	defer func() {
		close(s.left)
		cancel()
		if !over {
			<-end
		}
	}()
	for {
		select {
		case text := <-s.texts:
			if !yield(Chunk{Text: text}, nil) {
				return
			}
		case e := <-end:
			over = true
			switch {
			case e.panicked != nil:
				panic(e.panicked) //nolint:forbidigo // the model's panic is its caller's, who is in this goroutine
			case e.reply != nil && e.err == nil && e.reply.Text != "" && !s.begun() && !yield(Chunk{Text: e.reply.Text}, nil):
			default:
				yield(Chunk{Reply: e.reply}, e.err)
			}
			return
		}
	}
}

// sink takes the text of a stream to the loop of its caller. It takes that of one attempt: the first that has any.
type sink struct {
	texts chan string
	left  chan struct{} // closed when the loop is over

	mu    sync.Mutex
	owner *attempt
}

// put hands out a piece of text, and reports whether more is wanted.
func (s *sink) put(by *attempt, text string) bool {
	s.mu.Lock()
	if s.owner == nil {
		s.owner = by
	}
	other := s.owner != by
	s.mu.Unlock()
	if other {
		return false
	}
	select {
	case s.texts <- text:
		return true
	case <-s.left:
		return false
	}
}

// begun reports whether any text was handed out.
func (s *sink) begun() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owner != nil
}

// over reports whether the loop is.
func (s *sink) over() bool {
	select {
	case <-s.left:
		return true
	default:
		return false
	}
}
