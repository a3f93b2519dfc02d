package tenanttest

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/llmtenant/tenant"
)

// Step is what a [Model] does at one call. Text, Fail and the steps of a [Gate] are steps; so is any function of a
// test's own.
type Step func(ctx context.Context, r *tenant.Request) (*tenant.Response, error)

// Text is a step that replies with a text and its usage. Like a real model it obeys the request's MaxTokens: it uses no
// more plain output than that leaves it, and then finishes for "length" instead of "stop".
func Text(text string, usage tenant.Usage) Step {
	return func(_ context.Context, r *tenant.Request) (*tenant.Response, error) {
		u, finish := usage, "stop"
		if over := u.OutputTokens() - r.MaxTokens; r.MaxTokens > 0 && over > 0 {
			u.Output, finish = max(u.Output-over, 0), "length"
		}
		return &tenant.Response{Text: text, FinishReason: finish, Usage: &u}, nil
	}
}

// Fail is a step that fails with an error. Where err wraps tenant.ErrNotBilled nothing is charged for the call;
// otherwise nobody knows what it used, and it is charged what it held.
func Fail(err error) Step {
	return func(context.Context, *tenant.Request) (*tenant.Response, error) { return nil, err }
}

// Gate holds calls until a test has seen them and lets them go on.
type Gate struct {
	arrived chan *tenant.Request
	opened  chan struct{}
	open    sync.Once
}

// NewGate returns a gate that is closed.
func NewGate() *Gate {
	return &Gate{arrived: make(chan *tenant.Request), opened: make(chan struct{})}
}

// Before is a step that waits at the gate and then does what then does. A call whose ctx ends while it waits fails with
// the ctx's error.
func (g *Gate) Before(then Step) Step {
	return func(ctx context.Context, r *tenant.Request) (*tenant.Response, error) {
		select {
		case g.arrived <- r:
		case <-g.opened:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		select {
		case <-g.opened:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		return then(ctx, r)
	}
}

// Arrived gives the request of each call that waits at the gate, once. It is to be received from before Open: calls that
// come to an open gate do not arrive.
func (g *Gate) Arrived() <-chan *tenant.Request { return g.arrived }

// Open lets all calls through, now and later. Opening again does nothing.
func (g *Gate) Open() { g.open.Do(func() { close(g.opened) }) }

// Model is a scripted [tenant.Model] that streams too. It is safe for concurrent use.
type Model struct {
	// ModelInfo is what Info returns. It may be changed before the model is given to an agent.
	ModelInfo tenant.ModelInfo

	mu       sync.Mutex
	steps    []Step
	requests []tenant.Request
}

// NewModel returns a model that takes the steps one after another, one for each call, and the last one again for every
// further call. Without steps it replies to every call with "ok" and a usage of 1,000 tokens of input and 500 of output,
// which cost $0.002 by [Prices]. Its name is that of the model that Prices knows.
func NewModel(steps ...Step) *Model {
	if len(steps) == 0 {
		steps = []Step{Text("ok", tenant.Usage{Input: 1000, Output: 500})}
	}
	return &Model{
		ModelInfo: tenant.ModelInfo{Provider: Provider, Name: ModelName},
		steps:     slices.Clone(steps),
	}
}

// Info implements [tenant.Model].
func (m *Model) Info() tenant.ModelInfo { return m.ModelInfo }

// Generate implements [tenant.Model]: it takes the next step. Its errors are those of the step.
func (m *Model) Generate(ctx context.Context, r *tenant.Request) (*tenant.Response, error) {
	return m.next(r)(ctx, r)
}

// Stream implements [tenant.Streamer]: it takes the next step, and hands over the text of its response word by word. Where
// the loop over it is left, nothing says what was used. Its errors are those of the step.
func (m *Model) Stream(ctx context.Context, r *tenant.Request, yield func(text string) bool) (*tenant.Response, error) {
	response, err := m.next(r)(ctx, r)
	if response == nil {
		return nil, err
	}
	part := *response
	part.Text = ""
	for word := range strings.SplitAfterSeq(response.Text, " ") {
		if !yield(word) {
			part.Usage = nil
			break
		}
	}
	return &part, err
}

func (m *Model) next(r *tenant.Request) Step {
	m.mu.Lock()
	defer m.mu.Unlock()
	step := m.steps[min(len(m.requests), len(m.steps)-1)]
	m.requests = append(m.requests, *r)
	return step
}

// Requests returns the requests of all calls so far, in the order in which they came.
func (m *Model) Requests() []tenant.Request {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.requests)
}

var _ tenant.Streamer = (*Model)(nil)
