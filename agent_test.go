package tenant_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanttest"
)

func TestNewAgent_RefusesWhatCannotBeMeant(t *testing.T) {
	t.Parallel()
	_, ledger := tenanttest.Open(t)
	model := tenanttest.NewModel()
	info := func(i tenant.ModelInfo) tenant.Model {
		m := tenanttest.NewModel()
		m.ModelInfo = i
		return m
	}
	var typedNil *tenanttest.Model
	for _, c := range []struct {
		name    string
		ledger  *tenant.Ledger
		model   tenant.Model
		options []tenant.AgentOption
		says    string
	}{
		{"no ledger", nil, model, nil, "the ledger is nil"},
		{"no model", ledger, nil, nil, "the model is nil"},
		{"a nil pointer as model", ledger, typedNil, nil, "the model is nil"},
		{"a model without a name", ledger, info(tenant.ModelInfo{Provider: "test"}), nil, "Name in the model's Info is empty"},
		{"a provider with a control character", ledger, info(tenant.ModelInfo{Name: "m", Provider: "a\nb"}), nil, "Provider in the model's Info"},
		{"a negative output", ledger, info(tenant.ModelInfo{Name: "m", MaxOutputTokens: -1}), nil, "MaxOutputTokens in the model's Info, -1"},
		{"a nil option", ledger, model, []tenant.AgentOption{nil}, "nil AgentOption"},
		{"a nil tenant function", ledger, model, []tenant.AgentOption{tenant.WithTenantFunc(nil)}, "WithTenantFunc"},
		{"a bad default of its calls", ledger, model, []tenant.AgentOption{tenant.WithMaxTokens(0)}, "WithMaxTokens"},
		{"an idempotency key for all calls", ledger, model, []tenant.AgentOption{tenant.WithIdempotencyKey("k")}, "WithIdempotencyKey"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := tenant.NewAgent(c.ledger, c.model, c.options...)
			require.ErrorIs(t, err, tenant.ErrInvalidOption)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestAgent_MakesCallsForItsOwnTenantThenTheCallsThenTheContexts(t *testing.T) {
	t.Parallel()
	_, ledger := tenanttest.Open(t)
	is := func(id tenant.ID) tenant.AgentOption {
		return tenant.WithTenantFunc(func(context.Context, *tenant.Call) (tenant.Tenant, error) { return id, nil })
	}
	nobody := tenant.WithTenantFunc(func(context.Context, *tenant.Call) (tenant.Tenant, error) { return nil, nil })
	seen := tenant.WithTenantFunc(func(_ context.Context, call *tenant.Call) (tenant.Tenant, error) { return call.Tenant, nil })
	in := tenant.ID("context")
	for _, c := range []struct {
		name  string
		in    tenant.Tenant // the context's
		agent []tenant.AgentOption
		call  []tenant.CallOption
		want  string
	}{
		{"nobody", nil, nil, nil, ""},
		{"context", in, nil, nil, "context"},
		{"agent's default before the context", in, []tenant.AgentOption{tenant.WithTenant(tenant.ID("default"))}, nil, "default"},
		{"call before the agent's default", in, []tenant.AgentOption{tenant.WithTenant(tenant.ID("default"))}, []tenant.CallOption{tenant.WithTenant(tenant.ID("call"))}, "call"},
		{"an explicit nil is nobody", in, nil, []tenant.CallOption{tenant.WithTenant(nil)}, ""},
		{"the function before all", in, []tenant.AgentOption{is("function")}, []tenant.CallOption{tenant.WithTenant(tenant.ID("call"))}, "function"},
		{"the function's nil is nobody", in, []tenant.AgentOption{nobody}, []tenant.CallOption{tenant.WithTenant(tenant.ID("call"))}, ""},
		{"the function sees the context's", in, []tenant.AgentOption{seen}, nil, "context"},
		{"the function sees the call's", in, []tenant.AgentOption{seen}, []tenant.CallOption{tenant.WithTenant(tenant.ID("call"))}, "call"},
	} {
		t.Run(c.name, func(t *testing.T) {
			reply, err := newAgent(t, ledger, tenanttest.NewModel(), c.agent...).Call(tenant.ContextWithTenant(t.Context(), c.in), "hi", c.call...)
			require.NoError(t, err)
			require.Equal(t, c.want, reply.TenantID)
		})
	}
}

func TestAgent_MissesARequiredTenantBeforeAnythingHappens(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	model := tenanttest.NewModel()
	agent := newAgent(t, ledger, model, tenant.RequireTenant())
	_, err := agent.Call(t.Context(), "hi")
	require.ErrorIs(t, err, tenant.ErrTenantRequired)
	_, err = agent.Call(tenant.ContextWithTenant(t.Context(), acme), "hi", tenant.WithTenant(nil))
	require.ErrorIs(t, err, tenant.ErrTenantRequired)
	require.Empty(t, model.Requests())
	require.Empty(t, executions(t, db))

	_, err = agent.Call(tenant.ContextWithTenant(t.Context(), acme), "hi")
	require.NoError(t, err)
}

func TestAgent_FailsACallWhoseTenantCannotBeOne(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	model := tenanttest.NewModel()
	agent := newAgent(t, ledger, model)
	var org *organization
	for _, who := range []tenant.Tenant{org, tenant.ID(""), tenant.ID("a\x00b"), tenant.ID(strings.Repeat("x", 256))} {
		_, err := agent.Call(t.Context(), "hi", tenant.WithTenant(who))
		require.ErrorIs(t, err, tenant.ErrInvalidTenant)
	}
	boom := errors.New("boom")
	agent = newAgent(t, ledger, model, tenant.WithTenantFunc(
		func(context.Context, *tenant.Call) (tenant.Tenant, error) { return acme, boom }))
	_, err := agent.Call(t.Context(), "hi")
	require.ErrorIs(t, err, boom)
	require.Empty(t, model.Requests())
	require.Empty(t, executions(t, db))
}

type organization struct{ slug string }

func (o *organization) LLMTenantID() string { return o.slug }

func TestParam_SaysWhatIsWantedAndWhatWasFound(t *testing.T) {
	t.Parallel()
	_, ledger := tenanttest.Open(t)
	ask := func(f func(*tenant.Call) error, options ...tenant.CallOption) error {
		agent := newAgent(t, ledger, tenanttest.NewModel(), tenant.WithParam("user", 7), tenant.WithTenantFunc(
			func(_ context.Context, call *tenant.Call) (tenant.Tenant, error) { return nil, f(call) }))
		_, err := agent.Call(t.Context(), "hi", options...)
		return err
	}
	number := func(want int) func(*tenant.Call) error {
		return func(call *tenant.Call) error {
			got, err := tenant.Param[int](call, "user")
			if err == nil && got != want {
				return fmt.Errorf("got %d", got)
			}
			return err
		}
	}
	require.NoError(t, ask(number(7)), "the agent's default")
	require.NoError(t, ask(number(8), tenant.WithParam("user", 8)), "the call's own")
	require.NoError(t, ask(number(7)), "a call changes no default")

	err := ask(number(0), tenant.WithParam("user", "ann"))
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	require.ErrorContains(t, err, `"user" is of type string, and int is wanted`)
	err = ask(number(0), tenant.WithParam("user", nil))
	require.ErrorContains(t, err, `"user" is of type <nil>, and int is wanted`)
	err = ask(func(call *tenant.Call) error {
		_, err := tenant.Param[fmt.Stringer](call, "account")
		return err
	})
	require.ErrorIs(t, err, tenant.ErrInvalidOption)
	require.ErrorContains(t, err, `no parameter "account", and one of type fmt.Stringer is wanted`)
}

func TestAgent_CapsTheModelAtWhatIsHeld(t *testing.T) {
	t.Parallel()
	_, ledger := tenanttest.Open(t)
	for _, c := range []struct {
		name  string
		model int64
		agent []tenant.AgentOption
		call  []tenant.CallOption
		want  int64
	}{
		{"nobody says", 0, nil, nil, tenant.DefaultMaxTokens},
		{"the model says", 1000, nil, nil, 1000},
		{"the agent goes before the model", 1000, []tenant.AgentOption{tenant.WithMaxTokens(2000)}, nil, 2000},
		{"the call goes before the agent", 1000, []tenant.AgentOption{tenant.WithMaxTokens(2000)}, []tenant.CallOption{tenant.WithMaxTokens(1)}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			model := tenanttest.NewModel()
			model.ModelInfo.MaxOutputTokens = c.model
			reply, err := newAgent(t, ledger, model, c.agent...).Call(t.Context(), "hi", append(c.call, tenant.WithSystem("be brief"))...)
			require.NoError(t, err)
			require.False(t, reply.Shortened)
			require.Equal(t, []tenant.Request{{System: "be brief", Messages: []tenant.Message{tenant.UserMessage("hi")}, MaxTokens: c.want}}, model.Requests())
		})
	}
}

func TestAgent_HoldsForEveryByteOfThePrompts(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	_, err := newAgent(t, ledger, tenanttest.NewModel()).Call(t.Context(), "Grüß Gott", tenant.WithSystem("brief"),
		tenant.WithMaxTokens(100), tenant.WithTenant(acme))
	require.NoError(t, err)
	got := executions(t, db)[0]
	require.EqualValues(t, 5+11+1024+100, got.HeldTokens)
	require.EqualValues(t, 1_000*(5+11+1024)+2_000*100, got.HeldCost)
}

func TestAgent_ShortensTheLastCallBeforeTheLimit(t *testing.T) {
	t.Parallel()
	_, ledger := tenanttest.Open(t, hardDaily("0.004")...)
	model := tenanttest.NewModel()
	agent := newAgent(t, ledger, model, tenant.WithTenant(acme), tenant.WithMaxTokens(500))

	reply, err := agent.Call(t.Context(), "Hi")
	require.NoError(t, err)
	require.False(t, reply.Shortened)
	require.Equal(t, "stop", reply.FinishReason)

	reply, err = agent.Call(t.Context(), "Hi")
	require.NoError(t, err)
	require.True(t, reply.Shortened)
	require.Equal(t, "length", reply.FinishReason)
	require.EqualValues(t, 487, model.Requests()[1].MaxTokens)
	require.Equal(t, "0.001974", reply.Cost.String())

	_, err = agent.Call(t.Context(), "Hi")
	var exceeded *tenant.BudgetExceededError
	require.ErrorAs(t, err, &exceeded)
	require.Equal(t, "acme", exceeded.TenantID)
	require.Len(t, model.Requests(), 2, "a refused call is not made")
}

func TestReply_SaysWhatWasUsedAndCharged(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	model := tenanttest.NewModel(func(context.Context, *tenant.Request) (*tenant.Response, error) {
		return &tenant.Response{
			Text: "Hello!", Provider: "test", Model: "test-model-2026", RequestID: "req_1", FinishReason: "stop",
			Usage: &tenant.Usage{Input: 600, CacheRead: 400, Output: 300, Reasoning: 200}, ReportedCost: tenant.USD("0.0021"),
		}, nil
	}, tenanttest.Text("again", tenant.Usage{Input: 1}))
	agent := newAgent(t, ledger, model, tenant.WithAgent("support"))
	reply, err := agent.Call(t.Context(), "Hi", tenant.WithTenant(acme))
	require.NoError(t, err)
	require.NotEmpty(t, reply.ExecutionID)
	require.Equal(t, []string{"0.002", "0.002"}, []string{reply.Cost.String(), reply.Charge.String()})
	id := reply.ExecutionID
	require.Len(t, reply.Attempts, 1)
	require.Equal(t, id, reply.Attempts[0].ExecutionID)
	require.Equal(t, tenant.Settled, reply.Attempts[0].Outcome)
	reply.ExecutionID, reply.Cost, reply.Charge, reply.Attempts = "", tenant.Reply{}.Cost, tenant.Reply{}.Charge, nil
	require.Equal(t, &tenant.Reply{
		Text: "Hello!", Provider: "test", Model: "test-model-2026", RequestID: "req_1", FinishReason: "stop", TenantID: "acme",
		Usage: tenant.Usage{Input: 600, CacheRead: 400, Output: 300, Reasoning: 200},
	}, reply)

	got := executions(t, db)[0]
	require.Equal(t, execution{
		TenantID: "acme", Status: "succeeded", Agent: "support", Provider: "test", Model: "test-model",
		BilledModel: "test-model-2026", RequestID: "req_1", HeldCost: 1_000*1026 + 2_000*4096, HeldTokens: 1026 + 4096,
		Cost: 2_000_000, Tokens: 1500, Calls: 1, ReportedCost: got.ReportedCost,
	}, got)
	require.EqualValues(t, 2_100_000, *got.ReportedCost)

	reply, err = agent.Call(t.Context(), "Hi")
	require.NoError(t, err)
	require.NotEqual(t, id, reply.ExecutionID)
	require.Equal(t, "test", reply.Provider, "what the model does not say is as asked")
	require.Equal(t, "test-model", reply.Model)
	require.Empty(t, reply.TenantID)
}

type statusError int

func (e statusError) Error() string   { return "secret-key sk-123 was refused" }
func (e statusError) StatusCode() int { return int(e) }

func TestAgent_SettlesByUsageAndNeverByError(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	usage := &tenant.Usage{Input: 1000, Output: 500}
	const held, used = 1_000*1026 + 2_000*500, 2_000_000
	type response = tenant.Response
	for _, c := range []struct {
		name      string
		response  *response
		err       error
		status    string
		code      string
		cost      int64
		tokens    int64
		estimated bool
	}{
		{"usage", &response{Usage: usage}, nil, "succeeded", "", used, 1500, false},
		{"a usage of zero", &response{Usage: &tenant.Usage{}}, nil, "succeeded", "", 0, 0, false},
		{"no usage", &response{}, nil, "succeeded", "", held, 1526, true},
		{"no usage, but a cost that the provider states", &response{ReportedCost: tenant.USD("0.001")}, nil, "succeeded", "", held, 1526, true},
		{"usage and an error", &response{Usage: usage}, boom, "failed", "error", used, 1500, false},
		{"usage and an error that denies it", &response{Usage: usage}, fmt.Errorf("%w: odd", tenant.ErrNotBilled), "failed", "error", used, 1500, false},
		{"an error and no usage", &response{}, boom, "failed", "error", held, 1526, true},
		{"an error", nil, boom, "failed", "error", held, 1526, true},
		{"not billed", nil, fmt.Errorf("%w: %w", tenant.ErrNotBilled, boom), "failed", "error", 0, 0, false},
		{"not billed, with a status", nil, fmt.Errorf("%w: %w", tenant.ErrNotBilled, statusError(429)), "failed", "http_429", 0, 0, false},
		{"a status that is none", nil, statusError(-7), "failed", "error", held, 1526, true},
		{"cancelled on the way", nil, fmt.Errorf("post: %w", context.Canceled), "failed", "canceled", held, 1526, true},
		{"too late", nil, fmt.Errorf("post: %w", context.DeadlineExceeded), "failed", "deadline_exceeded", held, 1526, true},
		{"nothing at all", nil, nil, "failed", "error", held, 1526, true},
		{"a negative usage", &response{Usage: &tenant.Usage{Input: -1}}, nil, "failed", "implausible_usage", held, 1526, true},
		{"a cost that is none", &response{Usage: usage, ReportedCost: tenant.USD("-1")}, nil, "succeeded", "", used, 1500, false},
		{"odd names", &response{Usage: usage, Model: "a\x00\xff" + strings.Repeat("b", 300), RequestID: "\n"}, nil, "succeeded", "", used, 1500, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db, ledger := tenanttest.Open(t, tenant.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
			model := tenanttest.NewModel(func(context.Context, *tenant.Request) (*response, error) { return c.response, c.err })
			reply, err := newAgent(t, ledger, model, tenant.WithMaxTokens(500)).Call(t.Context(), "Hi", tenant.WithTenant(acme))

			row := executions(t, db)[0]
			require.Equal(t, c.status, row.Status)
			require.Equal(t, c.code, row.ErrorCode)
			require.Equal(t, c.cost, row.Cost)
			require.Equal(t, c.tokens, row.Tokens)
			require.Equal(t, c.estimated, row.Estimated)
			require.EqualValues(t, 1, row.Calls)

			if c.response == nil {
				require.Nil(t, reply)
			} else {
				require.Equal(t, row.Cost, reply.Cost.Shift(9).IntPart())
				require.Equal(t, c.estimated, reply.Estimated)
				require.False(t, reply.Pending)
			}
			if c.response != nil && c.err == nil {
				require.NoError(t, err)
				return
			}
			var failed *tenant.CallError
			require.ErrorAs(t, err, &failed)
			require.NotEmpty(t, failed.ExecutionID)
			require.ErrorContains(t, err, failed.ExecutionID)
			require.Equal(t, "acme", failed.TenantID)
			require.Equal(t, row.Cost, failed.Cost.Shift(9).IntPart())
			require.Equal(t, c.estimated, failed.Estimated)
			if c.err != nil {
				require.ErrorIs(t, err, c.err)
			}
		})
	}
}

func TestAgent_UnknownOutcomeWithoutAPriceIsUnpriced(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	model := tenanttest.NewModel(tenanttest.Fail(errors.New("boom")), tenanttest.Text("ok", tenant.Usage{Input: 5}))
	model.ModelInfo.Name = "house-8b"
	agent := newAgent(t, ledger, model, tenant.WithMaxTokens(500))
	_, err := agent.Call(t.Context(), "Hi")
	require.Error(t, err)
	reply, err := agent.Call(t.Context(), "Hi")
	require.NoError(t, err)
	require.True(t, reply.Unpriced)
	require.True(t, reply.Cost.IsZero())
	for i, tokens := range []int64{1526, 5} {
		row := executions(t, db)[i]
		require.True(t, row.Unpriced)
		require.Equal(t, tokens, row.Tokens)
	}
}

func TestAgent_SettlesAPanicOfTheModelAndLetsItGoOn(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	model := tenanttest.NewModel(func(context.Context, *tenant.Request) (*tenant.Response, error) { panic("ouch") })
	agent := newAgent(t, ledger, model, tenant.WithMaxTokens(500))
	require.PanicsWithValue(t, "ouch", func() { _, _ = agent.Call(t.Context(), "Hi") })
	row := executions(t, db)[0]
	require.Equal(t, "failed", row.Status)
	require.Equal(t, "panic", row.ErrorCode)
	require.EqualValues(t, 1_000*1026+2_000*500, row.Cost)
	require.True(t, row.Estimated)
}

func TestAgent_SettlesAGoroutineThatEndsInTheModel(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	model := tenanttest.NewModel(func(context.Context, *tenant.Request) (*tenant.Response, error) {
		runtime.Goexit()
		return nil, nil
	})
	agent := newAgent(t, ledger, model)
	var call sync.WaitGroup
	call.Go(func() { _, _ = agent.Call(t.Context(), "Hi") })
	call.Wait()
	require.Equal(t, "failed", executions(t, db)[0].Status)
}

func TestAgent_SettlesACallWhoseContextEnds(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	ctx, cancel := context.WithCancel(t.Context())
	model := tenanttest.NewModel(func(ctx context.Context, _ *tenant.Request) (*tenant.Response, error) {
		cancel()
		return &tenant.Response{Text: "in time", Usage: &tenant.Usage{Input: 1000, Output: 500}}, nil
	})
	agent := newAgent(t, ledger, model)
	reply, err := agent.Call(ctx, "Hi")
	require.NoError(t, err)
	require.Equal(t, "in time", reply.Text)
	require.EqualValues(t, 2_000_000, executions(t, db)[0].Cost)

	_, err = agent.Call(ctx, "Hi")
	require.ErrorIs(t, err, context.Canceled)
	require.Len(t, model.Requests(), 1)
	require.Len(t, executions(t, db), 1)
}
