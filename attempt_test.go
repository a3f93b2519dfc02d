package tenant_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanttest"
)

// again is a middleware that tries again what is worth it, so many times.
func again(times int) tenant.Middleware {
	return func(next tenant.Handler) tenant.Handler {
		return func(ctx context.Context, call *tenant.Call) (*tenant.Reply, error) {
			reply, err := next(ctx, call)
			for range times {
				var failed *tenant.CallError
				if !errors.As(err, &failed) || !failed.Retryable() {
					break
				}
				reply, err = next(ctx, call)
			}
			return reply, err
		}
	}
}

var errBusy = fmt.Errorf("%w: %w", tenant.ErrNotBilled, statusError(429))

func TestAttempts_AreEachARowAndAllInTheCost(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	lost := errors.New("the connection broke")
	model := tenanttest.NewModel(tenanttest.Fail(errBusy), tenanttest.Fail(lost), tenanttest.Text("at last", tenant.Usage{Input: 1000, Output: 500}))
	agent := newAgent(t, ledger, model, tenant.WithTenant(acme), tenant.WithMaxTokens(500), tenant.Use(again(5)))
	reply, err := agent.Call(t.Context(), "Hi", tenant.WithIdempotencyKey("k"))
	require.NoError(t, err)
	require.Equal(t, "at last", reply.Text)
	require.Equal(t, tenant.Usage{Input: 1000, Output: 500}, reply.Usage)

	rows := executions(t, db)
	require.Len(t, rows, 3)
	const held = 1_000*1026 + 2_000*500
	var total int64
	for i, want := range []struct {
		status, code string
		cost         int64
	}{{"failed", "http_429", 0}, {"failed", "error", held}, {"succeeded", "", 2_000_000}} {
		require.Equal(t, want.status, rows[i].Status)
		require.Equal(t, want.code, rows[i].ErrorCode)
		require.Equal(t, want.cost, rows[i].Cost)
		require.Equal(t, want.cost, reply.Attempts[i].Cost.Shift(9).IntPart())
		total += want.cost
	}
	require.Len(t, reply.Attempts, 3)
	require.Equal(t, total, reply.Cost.Shift(9).IntPart())
	require.Equal(t, reply.Attempts[2].ExecutionID, reply.ExecutionID)
	require.True(t, reply.Estimated, "a part of the charge is an estimate")
	require.False(t, reply.Cached)

	_, err = agent.Call(t.Context(), "Hi", tenant.WithIdempotencyKey("k"))
	require.ErrorIs(t, err, tenant.ErrDuplicate, "the key is the attempt's that succeeded")
}

func TestAttempts_ThatAllFailAreInTheErrorsCost(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	lost := errors.New("the connection broke")
	model := tenanttest.NewModel(tenanttest.Fail(lost))
	_, err := newAgent(t, ledger, model, tenant.WithMaxTokens(500), tenant.Use(again(2))).Call(t.Context(), "Hi", tenant.WithTenant(acme))
	var failed *tenant.CallError
	require.ErrorAs(t, err, &failed)
	require.ErrorIs(t, err, lost)
	require.Len(t, failed.Attempts, 3)
	require.Equal(t, failed.Attempts[2].ExecutionID, failed.ExecutionID)
	require.Equal(t, "acme", failed.TenantID)
	require.Equal(t, int64(3*(1_000*1026+2_000*500)), failed.Cost.Shift(9).IntPart())
	require.Equal(t, fmt.Sprintf("tenant: the call failed (execution %s): the connection broke", failed.ExecutionID), err.Error(), "each is said once")
	require.Len(t, executions(t, db), 3)
}

func TestAttempts_EachAsksTheBudgets(t *testing.T) {
	t.Parallel()
	_, ledger := tenanttest.Open(t, hardDaily("0.003")...)
	lost := errors.New("the connection broke")
	model := tenanttest.NewModel(tenanttest.Fail(lost))
	_, err := newAgent(t, ledger, model, tenant.WithMaxTokens(500), tenant.Use(again(5)), tenant.WithFallback(tenanttest.NewModel())).
		Call(t.Context(), "Hi", tenant.WithTenant(acme), tenant.WithWait(0))
	require.ErrorIs(t, err, tenant.ErrBudgetExceeded)
	var failed *tenant.CallError
	require.ErrorAs(t, err, &failed, "and what was charged is said all the same")
	require.Len(t, failed.Attempts, 1)
	require.Equal(t, "0.002026", failed.Cost.String())
	require.Len(t, model.Requests(), 1)
}

func TestFallback_ModelsAreCalledInOrder(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	named := func(name string, steps ...tenanttest.Step) *tenanttest.Model {
		m := tenanttest.NewModel(steps...)
		m.ModelInfo.Provider, m.ModelInfo.MaxOutputTokens = name, 700
		return m
	}
	down := tenanttest.Fail(fmt.Errorf("%w: %w", tenant.ErrNotBilled, statusError(404)))
	first, second, third := named("first", down), named("second", down), named("third")
	agent := newAgent(t, ledger, first, tenant.WithTenant(acme), tenant.WithFallback(second, third, named("fourth")), tenant.Use(again(1)))
	for _, streamed := range []bool{false, true} {
		var reply *tenant.Reply
		var err error
		if streamed {
			_, reply, err = heard(t, agent)
		} else {
			reply, err = agent.Call(t.Context(), "Hi")
		}
		require.NoError(t, err)
		require.Equal(t, "third", reply.Provider)
		require.Len(t, reply.Attempts, 3)
		require.EqualValues(t, 700, third.Requests()[0].MaxTokens, "each model says itself how much it may produce")
	}
	rows := executions(t, db)
	require.Len(t, rows, 6)
	for i, provider := range []string{"first", "second", "third"} {
		require.Equal(t, provider, rows[i].Provider)
		require.Equal(t, provider, rows[3+i].Provider)
	}
}

func TestFallback_IsForFailuresOfTheModelAlone(t *testing.T) {
	t.Parallel()
	other := tenanttest.NewModel()
	ctx, cancel := context.WithCancel(t.Context())
	failing := func(ledger *tenant.Ledger, model tenant.Model) *tenant.Agent {
		return newAgent(t, ledger, model, tenant.WithFallback(other), tenant.WithTenant(acme))
	}
	_, ledger := tenanttest.Open(t, hardDaily("0")...)
	_, err := failing(ledger, tenanttest.NewModel()).Call(ctx, "Hi")
	require.ErrorIs(t, err, tenant.ErrBudgetExceeded)

	_, ledger = tenanttest.Open(t)
	_, _, err = heard(t, failing(ledger, streams(func(_ context.Context, _ *tenant.Request, yield func(string) bool) (*tenant.Response, error) {
		yield("a part")
		return nil, errBusy
	})))
	require.ErrorIs(t, err, errBusy, "a part of the text was handed out")

	_, err = failing(ledger, tenanttest.NewModel(func(ctx context.Context, _ *tenant.Request) (*tenant.Response, error) {
		cancel()
		return nil, ctx.Err()
	})).Call(ctx, "Hi")
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, other.Requests())

	open := errors.New("a circuit breaker is open")
	reply, err := newAgent(t, ledger, tenanttest.NewModel(), tenant.WithFallback(other), tenant.Use(func(next tenant.Handler) tenant.Handler {
		return func(ctx context.Context, call *tenant.Call) (*tenant.Reply, error) {
			if len(other.Requests()) == 0 && call.Model.MaxOutputTokens == 0 {
				other.ModelInfo.MaxOutputTokens = 1
				if call.Request.MaxTokens == 9 {
					call.Request.MaxTokens = 8
					return nil, open
				}
			}
			return next(ctx, call)
		}
	})).Call(t.Context(), "Hi", tenant.WithMaxTokens(9))
	require.NoError(t, err, "a middleware's own refusal is no budget's")
	require.Len(t, reply.Attempts, 1)
	require.Len(t, other.Requests(), 1)
}

func TestUse_TheFirstIsOutermost(t *testing.T) {
	t.Parallel()
	_, ledger := tenanttest.Open(t)
	var order []string
	note := func(name string) tenant.Middleware {
		return func(next tenant.Handler) tenant.Handler {
			return func(ctx context.Context, call *tenant.Call) (*tenant.Reply, error) {
				order = append(order, name)
				reply, err := next(ctx, call)
				order = append(order, name+" ends")
				return reply, err
			}
		}
	}
	_, err := newAgent(t, ledger, tenanttest.NewModel(), tenant.Use(note("a"), note("b")), tenant.Use(note("c"))).Call(t.Context(), "Hi")
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b", "c", "c ends", "b ends", "a ends"}, order)
}

func TestUse_RefusesWhatCannotBeMeant(t *testing.T) {
	t.Parallel()
	_, ledger := tenanttest.Open(t)
	model := tenanttest.NewModel()
	for says, option := range map[string]tenant.AgentOption{
		"Use: middleware 1 of 1 is nil":          tenant.Use(nil),
		"a Middleware in Use has returned nil":   tenant.Use(func(tenant.Handler) tenant.Handler { return nil }),
		"WithFallback: model 2 of 2: ":           tenant.WithFallback(model, nil),
		"Name in the model's Info is empty":      tenant.WithFallback(&tenanttest.Model{}),
		"MaxOutputTokens in the model's Info, -": tenant.WithFallback(&tenanttest.Model{ModelInfo: tenant.ModelInfo{Name: "m", MaxOutputTokens: -1}}),
	} {
		_, err := tenant.NewAgent(ledger, model, option)
		require.ErrorIs(t, err, tenant.ErrInvalidOption, says)
		require.ErrorContains(t, err, says)
	}
	for says, handler := range map[string]tenant.Handler{
		"neither a reply nor an error": func(context.Context, *tenant.Call) (*tenant.Reply, error) { return nil, nil },
	} {
		_, err := newAgent(t, ledger, model, tenant.Use(func(tenant.Handler) tenant.Handler { return handler })).Call(t.Context(), "Hi")
		require.ErrorContains(t, err, says)
	}
	_, err := newAgent(t, ledger, model, tenant.Use(func(next tenant.Handler) tenant.Handler {
		return func(ctx context.Context, call *tenant.Call) (*tenant.Reply, error) {
			return next(ctx, &tenant.Call{Prompt: call.Prompt})
		}
	})).Call(t.Context(), "Hi")
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	require.ErrorContains(t, err, "no copy of the one it was given")
	require.Empty(t, model.Requests())
}

func TestUse_ChangesWhatTheModelIsAsked(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	model := tenanttest.NewModel()
	change := func(request func(tenant.Request) tenant.Request) tenant.AgentOption {
		return tenant.Use(func(next tenant.Handler) tenant.Handler {
			return func(ctx context.Context, call *tenant.Call) (*tenant.Reply, error) {
				changed := *call
				changed.Request = request(call.Request)
				return next(ctx, &changed)
			}
		})
	}
	_, err := newAgent(t, ledger, model, tenant.WithMaxTokens(5), change(func(r tenant.Request) tenant.Request {
		r.Messages = append([]tenant.Message{tenant.UserMessage("before")}, r.Messages...)
		return r
	})).Call(t.Context(), "Hi")
	require.NoError(t, err)
	require.Len(t, model.Requests()[0].Messages, 2)
	require.EqualValues(t, 6+2+1024+16+5, executions(t, db)[0].HeldTokens, "what is held is of what is asked")

	_, err = newAgent(t, ledger, model, change(func(r tenant.Request) tenant.Request {
		r.Messages = nil
		return r
	})).Call(t.Context(), "Hi")
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	require.Len(t, model.Requests(), 1)
}

// cache keeps replies by tenant and prompt.
type cache struct {
	mu      sync.Mutex
	replies map[string]*tenant.Reply
}

func (c *cache) around(next tenant.Handler) tenant.Handler {
	return func(ctx context.Context, call *tenant.Call) (*tenant.Reply, error) {
		key := call.Prompt
		if call.Tenant != nil {
			key = call.Tenant.LLMTenantID() + "\x00" + key
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if reply, ok := c.replies[key]; ok {
			return reply, nil
		}
		reply, err := next(ctx, call)
		if err == nil {
			c.replies[key] = reply
		}
		return reply, err
	}
}

func TestUse_ACachedReplyCostsNothingAndNamesItsExecution(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	model := tenanttest.NewModel(tenanttest.Text("one two", tenant.Usage{Input: 1000, Output: 500}))
	c := &cache{replies: map[string]*tenant.Reply{}}
	agent := newAgent(t, ledger, model, tenant.Use(c.around), tenant.WithTenant(acme))
	paid, err := agent.Call(t.Context(), "Hi")
	require.NoError(t, err)
	require.False(t, paid.Cached)

	kept, err := agent.Call(t.Context(), "Hi")
	require.NoError(t, err)
	require.True(t, kept.Cached)
	require.True(t, kept.Cost.IsZero())
	require.Empty(t, kept.Attempts)
	require.Equal(t, paid.ExecutionID, kept.ExecutionID)
	require.Equal(t, paid.Text, kept.Text)
	require.Equal(t, "0.002", paid.Cost.String(), "the reply that is kept stays as it is")

	text, kept, err := heard(t, agent)
	require.NoError(t, err)
	require.Equal(t, "one two", text)
	require.True(t, kept.Cached)
	require.Equal(t, paid.ExecutionID, kept.ExecutionID)

	require.Len(t, model.Requests(), 1)
	require.Len(t, executions(t, db), 1)
	other, err := agent.Call(t.Context(), "Hi", tenant.WithTenant(tenant.ID("globex")))
	require.NoError(t, err)
	require.False(t, other.Cached)
}

func TestUse_AStreamThatIsLeftIsAnErrorToItsMiddlewares(t *testing.T) {
	t.Parallel()
	_, ledger := tenanttest.Open(t)
	c := &cache{replies: map[string]*tenant.Reply{}}
	var seen error
	agent := newAgent(t, ledger, tenanttest.NewModel(tenanttest.Text("one two", tenant.Usage{Input: 1, Output: 1})), tenant.Use(c.around, func(next tenant.Handler) tenant.Handler {
		return func(ctx context.Context, call *tenant.Call) (*tenant.Reply, error) {
			reply, err := next(ctx, call)
			seen = err
			return reply, err
		}
	}))
	for range agent.Stream(t.Context(), "Hi") {
		break
	}
	require.ErrorIs(t, seen, tenant.ErrStreamLeft)
	require.Empty(t, c.replies, "half a reply is not kept")
}

// Two attempts of one stream at the same time, as a hedge makes them, never mix their texts.
func TestStream_OfTwoAttemptsAtOnceHandsOutTheTextOfOne(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	var mu sync.Mutex
	calls := 0
	both, begun := make(chan struct{}), make(chan struct{}) // attempts run; text was handed out
	model := streams(func(_ context.Context, _ *tenant.Request, yield func(string) bool) (*tenant.Response, error) {
		mu.Lock()
		calls++
		mine := calls
		mu.Unlock()
		if mine == 2 {
			close(both)
			<-begun
		} else {
			<-both
		}
		for i := range 3 {
			if !yield(fmt.Sprint(mine)) {
				return nil, tenant.ErrStreamLeft
			}
			if mine == 1 && i == 0 {
				close(begun)
			}
		}
		return &tenant.Response{Usage: &tenant.Usage{Input: 1, Output: 3}}, nil
	})
	hedge := func(next tenant.Handler) tenant.Handler {
		return func(ctx context.Context, call *tenant.Call) (*tenant.Reply, error) {
			var both sync.WaitGroup
			replies := make([]*tenant.Reply, 2)
			for i := range replies {
				both.Go(func() {
					if reply, err := next(ctx, call); err == nil {
						replies[i] = reply
					}
				})
			}
			both.Wait()
			for _, reply := range replies {
				if reply != nil {
					return reply, nil
				}
			}
			return nil, errors.New("neither")
		}
	}
	text, reply, err := heard(t, newAgent(t, ledger, model, tenant.Use(hedge)))
	require.NoError(t, err)
	require.Equal(t, "111", text)
	require.Equal(t, "111", reply.Text)
	require.Len(t, reply.Attempts, 2)
	require.Len(t, executions(t, db), 2)
}

// What a middleware leaves running is in the call's cost, and begins nothing afterwards.
func TestAttempts_ThatAreLeftRunningAreInTheCost(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	gate := tenanttest.NewGate()
	slow := tenanttest.NewModel(gate.Before(tenanttest.Text("slow", tenant.Usage{Input: 1000, Output: 500})))
	late, returned := make(chan error, 1), make(chan struct{})
	hasty := func(next tenant.Handler) tenant.Handler {
		return func(ctx context.Context, call *tenant.Call) (*tenant.Reply, error) {
			lost, cancel := context.WithCancel(ctx)
			go func() {
				_, _ = next(lost, call)
				<-returned
				_, err := next(ctx, call)
				late <- err
			}()
			<-gate.Arrived()
			cancel()
			return &tenant.Reply{Text: "mine"}, nil
		}
	}
	reply, err := newAgent(t, ledger, slow, tenant.WithMaxTokens(500), tenant.Use(hasty)).Call(t.Context(), "Hi")
	require.NoError(t, err)
	close(returned)
	require.Equal(t, "mine", reply.Text)
	require.True(t, reply.Cached)
	require.Len(t, reply.Attempts, 1)
	require.Equal(t, int64(1_000*1026+2_000*500), reply.Cost.Shift(9).IntPart())
	require.ErrorContains(t, <-late, "the call is over")
	require.Len(t, executions(t, db), 1)
}

type asking struct {
	error
	status int
	wait   time.Duration
}

func (a asking) StatusCode() int           { return a.status }
func (a asking) RetryAfter() time.Duration { return a.wait }

func TestCallError_SaysWhetherAndWhenToTryAgain(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for _, c := range []struct {
		err       error
		retryable bool
	}{
		{boom, true},
		{statusError(400), false},
		{statusError(401), false},
		{statusError(404), false},
		{statusError(408), true},
		{statusError(409), true},
		{statusError(422), false},
		{statusError(425), true},
		{statusError(429), true},
		{statusError(500), true},
		{statusError(529), true},
		{fmt.Errorf("%w: never sent", tenant.ErrNotBilled), true},
		{fmt.Errorf("post: %w", context.Canceled), false},
		{fmt.Errorf("post: %w", context.DeadlineExceeded), true},
		{tenant.ErrStreamLeft, false},
	} {
		require.Equal(t, c.retryable, (&tenant.CallError{Err: c.err}).Retryable(), "%v", c.err)
	}
	require.Equal(t, 7*time.Second, (&tenant.CallError{Err: fmt.Errorf("x: %w", asking{boom, 429, 7 * time.Second})}).RetryAfter())
	require.Zero(t, (&tenant.CallError{Err: asking{boom, 429, -time.Second}}).RetryAfter())
	require.Zero(t, (&tenant.CallError{Err: boom}).RetryAfter())
}
