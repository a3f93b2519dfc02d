package tenant

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/llmtenant/tenant/internal/callctx"
	"github.com/llmtenant/tenant/internal/meter"
)

// Handler makes a call, or has another one make it. The innermost makes one attempt: it has the call admitted, calls the
// model, and books what it used. A handler may be called several times for one call, also by several goroutines.
type Handler func(ctx context.Context, call *Call) (*Reply, error)

// Middleware puts something around the attempts of an agent's calls: it returns a handler that calls next as often as it
// likes, and is itself called from many goroutines. See [Use].
type Middleware func(next Handler) Handler

// Use puts middlewares around the attempts of the agent's calls, the first of them outermost, within those of earlier
// options. What the tenant is, is decided before; the budgets are asked by each attempt.
//
// A middleware that calls next again makes another attempt, which is admitted and booked by itself: the costs of all are in
// the reply's. One that returns a reply of its own without calling next has the call cost nothing, whatever that reply says
// its cost is, also for a tenant whose budget is used up; its ExecutionID stays that of the call that has paid for it, and it is
// marked Cached. In a stream such a reply is handed out as one piece.
//
// The error that next returns is a [*CallError] of that attempt where the model was called; other errors are refusals,
// which no further attempt cures.
//
// Defaults to none: one call is one attempt.
func Use(middlewares ...Middleware) AgentOption {
	return agentOption(func(a *Agent) error {
		for i, m := range middlewares {
			if m == nil {
				return fmt.Errorf("%w: Use: middleware %d of %d is nil", ErrInvalidOption, i+1, len(middlewares))
			}
		}
		a.around = append(a.around, middlewares...)
		return nil
	})
}

// WithFallback gives the agent other models that are called, in order, where the one before has failed: for whatever
// reason, but not where a budget has refused the call, where ctx has ended, or where a part of the text has been handed out
// already. It is a middleware: what is put around it by an earlier [Use] sees one call of all models; a later one, such as
// one that tries again, is around each. Defaults to none.
func WithFallback(models ...Model) AgentOption {
	return agentOption(func(a *Agent) error {
		others := make([]chosen, len(models))
		for i, m := range models {
			var err error
			if others[i], err = choose(m); err != nil {
				return fmt.Errorf("WithFallback: model %d of %d: %w", i+1, len(models), err)
			}
		}
		a.around = append(a.around, fallback(others))
		return nil
	})
}

func fallback(others []chosen) Middleware {
	return func(next Handler) Handler {
		return func(ctx context.Context, call *Call) (*Reply, error) {
			reply, err := next(ctx, call)
			for _, m := range others {
				if err == nil || ctx.Err() != nil || !call.made.open(err) {
					break
				}
				with := *call
				with.Model, with.model = m.info, m
				reply, err = next(ctx, &with)
			}
			return reply, err
		}
	}
}

// making is a call that is being made, with all its attempts.
type making struct {
	agent   *Agent
	options callOptions
	who     identity
	sink    *sink // of a stream; nil for none

	mu       sync.Mutex
	attempts []Settlement
	refused  error         // the last that no attempt was made for
	running  int           // attempts
	over     bool          // no further attempt is made
	idle     chan struct{} // closed when it is over and nothing runs, where somebody waits for that
}

// enter begins an attempt, unless the call is over.
func (m *making) enter() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.over {
		m.running++
	}
	return !m.over
}

func (m *making) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running--; m.running == 0 && m.idle != nil {
		close(m.idle)
	}
}

// end waits for attempts that a middleware has left running, as a hedge does, so that they are in what the call cost. It waits no
// longer than for the books, and reports whether all have ended.
func (m *making) end() bool {
	m.mu.Lock()
	m.over = true
	if m.running == 0 {
		m.mu.Unlock()
		return true
	}
	idle := make(chan struct{})
	m.idle = idle
	m.mu.Unlock()
	timer := m.agent.ledger.timers.Start(m.agent.ledger.options.settleWait)
	defer m.agent.ledger.timers.Stop(timer)
	select {
	case <-idle:
		return true
	case <-timer.C:
		return false
	}
}

// open reports whether another attempt makes sense after an error.
func (m *making) open(err error) bool {
	if m == nil || m.sink.begun() {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.refused == nil || !errors.Is(err, m.refused)
}

func (m *making) refuse(err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refused = err
	return err
}

// run has the middlewares and the attempts make a call, and sums up what they have cost.
func (m *making) run(ctx context.Context, call *Call) (*Reply, error) {
	reply, err := m.agent.handler(ctx, call)
	all := Settlement{}
	if !m.end() {
		all.Outcome = Pending
	}
	m.mu.Lock()
	attempts := slices.Clone(m.attempts)
	m.mu.Unlock()
	for _, s := range attempts {
		all.Cost, all.Charge = all.Cost.Add(s.Cost), all.Charge.Add(s.Charge)
		all.Estimated, all.Unpriced = all.Estimated || s.Estimated, all.Unpriced || s.Unpriced
		if s.Outcome == Pending {
			all.Outcome = Pending
		}
	}
	if err != nil && len(attempts) > 0 {
		err = &CallError{
			ExecutionID: attempts[len(attempts)-1].ExecutionID, TenantID: m.who.Key, Cost: all.Cost, Charge: all.Charge, Estimated: all.Estimated,
			Attempts: attempts, Err: cause(err), begun: m.sink.begun(),
		}
	}
	switch {
	case reply == nil && err == nil:
		return nil, fmt.Errorf("tenant: a middleware of the agent's has returned neither a reply nor an error")
	case reply == nil:
		return nil, err
	}
	r := *reply // which a middleware may keep
	r.TenantID, r.Attempts = m.who.Key, attempts
	r.Cost, r.Charge, r.Pending = all.Cost, all.Charge, all.Outcome == Pending
	r.Estimated, r.Unpriced = all.Estimated, all.Unpriced
	r.Cached = !slices.ContainsFunc(attempts, func(s Settlement) bool { return s.ExecutionID == r.ExecutionID })
	return &r, err
}

// cause returns what an attempt has failed of, where the error is that of an attempt.
func cause(err error) error {
	if failed, ok := err.(*CallError); ok { //nolint:errorlint // what a middleware has put around it is to stay
		return failed.Err
	}
	return err
}

// attempt makes one attempt at a call.
func (a *Agent) attempt(ctx context.Context, call *Call) (*Reply, error) {
	m := call.made
	if m == nil || m.agent != a {
		return nil, fmt.Errorf("%w: a middleware has called next with a Call that is no copy of the one it was given", ErrInvalidOption)
	}
	if m.sink.begun() {
		return nil, m.refuse(errBegun)
	}
	if !m.enter() {
		return nil, errOver
	}
	defer m.leave()
	request := call.Request
	asked := request.MaxTokens
	if asked == 0 {
		asked = call.model.output()
	}
	hold, err := m.reserve(ctx, call, &request, asked)
	if err != nil {
		return nil, a.ledger.notAdmitted(ctx, call.Tenant, HostErrorEvent{Agent: call.Agent, Provider: call.Model.Provider, Model: call.Model.Name, Err: m.refuse(err)})
	}
	request.MaxTokens = hold.OutputTokens
	ctx = a.ledger.contextOfCall(ctx, hold)

	t := attempt{making: m, model: call.model, hold: hold, request: &request}
	response, err := t.generate(ctx)
	actual := t.actual(response, err)
	s := t.settle(ctx, actual)
	if err != nil {
		err = &CallError{
			ExecutionID: hold.ExecutionID, TenantID: hold.TenantID, Cost: s.Cost, Charge: s.Charge, Estimated: s.Estimated,
			Attempts: []Settlement{s}, Err: err, begun: m.sink.begun(),
		}
	}
	if response == nil {
		return nil, err
	}
	info := call.model.info
	return &Reply{
		Text: response.Text, FinishReason: response.FinishReason, RequestID: response.RequestID,
		Provider: first(response.Provider, info.Provider), Model: first(response.Model, info.Name),
		Usage: actual.Usage, Cost: s.Cost, Charge: s.Charge, ExecutionID: hold.ExecutionID, Attempts: []Settlement{s}, TenantID: hold.TenantID,
		Shortened: hold.OutputTokens < asked,
		Pending:   s.Outcome == Pending, Unbooked: hold.Unbooked, Estimated: s.Estimated, Unpriced: s.Unpriced,
	}, err
}

// reserve has an attempt admitted.
func (m *making) reserve(ctx context.Context, call *Call, r *Request, output int64) (*Hold, error) {
	if err := r.valid(); err != nil {
		return nil, err
	}
	text, media := r.input(call.model.info.Name)
	return m.agent.ledger.reserve(ctx, m.who, Estimate{
		Provider: call.model.info.Provider, Model: call.model.info.Name,
		InputTokens: text + media + hiddenInput + int64(len(r.Messages)-1)*hiddenTurn, InputMediaTokens: media, OutputTokens: output,
	}, &m.options)
}

const (
	hiddenInput = 1024 // tokens that providers add to the text of a request, at most
	hiddenTurn  = 16   // and for each message of a conversation
)

// input bounds the input of a request, by the bytes of its text and the tokens of its images.
func (r *Request) input(model string) (text, media int64) {
	text = int64(len(r.System))
	for _, m := range r.Messages {
		for _, p := range m.Parts {
			text += int64(len(p.Text))
			if p.Image != nil {
				media += meter.ImageTokens(model, false)
			}
		}
	}
	if r.Schema != nil {
		text += int64(len(r.Schema.JSON))
	}
	return text, media
}

// output is the most output of a call that does not say it.
func (m chosen) output() int64 {
	if m.info.MaxOutputTokens > 0 {
		return m.info.MaxOutputTokens
	}
	return DefaultMaxTokens
}

var (
	errPanicked   = errors.New("the model panicked")
	errNoResponse = errors.New("the model returned neither a response nor an error")
	errOver       = errors.New("tenant: the call is over, so that no further attempt is made")
	errBegun      = errors.New("tenant: a part of the text was handed out already, so that no further attempt is made")
)

// ErrStreamLeft is what an attempt ends with whose caller has left the loop over [Agent.Stream]. Middlewares see it.
var ErrStreamLeft = errors.New("tenant: the caller has left the loop over the stream")

// attempt is one attempt that was admitted.
type attempt struct {
	*making
	model   chosen
	hold    *Hold
	request *Request
	text    strings.Builder // that was handed out
}

// generate calls the model. When the model does not return, because it panicked or ended its goroutine, it settles the
// hold and lets that go on.
func (t *attempt) generate(ctx context.Context) (response *Response, err error) {
	returned := false
	defer func() {
		if !returned {
			t.settle(ctx, t.actual(nil, errPanicked))
		}
	}()
	ctx = callctx.WithMetered(ctx)
	if t.sink == nil {
		response, err = t.model.Generate(ctx, t.request)
	} else {
		response, err = t.stream(ctx)
	}
	returned = true
	if response == nil && err == nil {
		err = errNoResponse
	}
	return response, err
}

// stream calls the model, and hands out its text.
func (t *attempt) stream(ctx context.Context) (*Response, error) {
	streamer, ok := t.model.Model.(Streamer)
	if !ok {
		response, err := t.model.Generate(ctx, t.request)
		if response != nil && err == nil {
			t.put(response.Text)
		}
		return response, err
	}
	wanted := true
	response, err := streamer.Stream(ctx, t.request, func(text string) bool {
		wanted = wanted && t.put(text)
		return wanted
	})
	if response != nil {
		r := *response
		r.Text, response = t.text.String(), &r
	}
	if t.sink.over() && (err != nil || response == nil || response.Usage == nil || response.Estimated) {
		err = ErrStreamLeft
	}
	return response, err
}

func (t *attempt) put(text string) bool {
	if text == "" {
		return true
	}
	t.text.WriteString(text)
	return t.sink.put(t, text)
}

// actual is what an attempt is charged. It goes by usage, never by error.
func (t *attempt) actual(r *Response, err error) Actual {
	h := t.hold
	actual := Actual{ErrorCode: errorCode(err)}
	if r != nil {
		actual.Provider, actual.Model, actual.RequestID, actual.ServiceTier = r.Provider, r.Model, r.RequestID, r.ServiceTier
		if r.ReportedCost.err == nil {
			actual.ReportedCost = r.ReportedCost
		}
	}
	switch {
	case r != nil && r.Usage != nil:
		actual.Usage, actual.Estimated = *r.Usage, r.Estimated
		if r.Estimated {
			actual.Usage = t.complete(actual.Usage)
		}
	case t.text.Len() > 0:
		actual.Usage, actual.Estimated = t.complete(Usage{}), true
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

// complete fills into the usage of a part of a call what is likely, where nobody has stated it.
func (t *attempt) complete(u Usage) Usage {
	if u.InputTokens() == 0 {
		text, media := t.request.input(t.model.info.Name)
		u.Input = text/meter.LikelyBytes + media + 1
	}
	if came := meter.TextTokens(t.text.String()); came > u.OutputTokens() {
		u.Output += came - u.OutputTokens()
	}
	return u
}

// settle books an attempt. What it cannot book is pending, and its hold stands for it.
func (t *attempt) settle(ctx context.Context, actual Actual) Settlement {
	l, h := t.agent.ledger, t.hold
	s, err := l.Settle(ctx, h, actual)
	if err != nil {
		l.options.log.Error("tenant: a call could not be booked; its hold stands for it",
			"execution", h.ExecutionID, "tenant", h.TenantID, "error", err)
		s = Settlement{
			Outcome: Pending, ExecutionID: h.ExecutionID, Cost: h.Cost, Charge: h.Charge, Tokens: h.Tokens, Estimated: true, Unpriced: h.exec.Unpriced,
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.attempts = append(t.attempts, s)
	return s
}

// statusOf returns the status of the answer that an error is of, zero for none.
func statusOf(err error) int {
	var answer interface {
		error
		StatusCode() int
	}
	if errors.As(err, &answer) {
		if status := answer.StatusCode(); status >= 100 && status <= 599 {
			return status
		}
	}
	return 0
}

// errorCode is a word for an error that has nothing of its message in it.
func errorCode(err error) string {
	if err == nil {
		return ""
	}
	if status := statusOf(err); status != 0 {
		return fmt.Sprintf("http_%d", status)
	}
	switch {
	case errors.Is(err, ErrStreamLeft):
		return "closed"
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
