package failsafe_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/hedgepolicy"
	"github.com/failsafe-go/failsafe-go/timeout"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/adapters/failsafe"
	"github.com/llmtenant/tenant/tenanttest"
)

type answered struct {
	status int
	after  time.Duration
}

func (a answered) Error() string             { return fmt.Sprint("status ", a.status) }
func (a answered) StatusCode() int           { return a.status }
func (a answered) RetryAfter() time.Duration { return a.after }

func fails(a answered) tenanttest.Step {
	return tenanttest.Fail(fmt.Errorf("%w: %w", tenant.ErrNotBilled, a))
}

var ok = tenanttest.Text("ok", tenant.Usage{Input: 1000, Output: 500})

const acme = tenant.ID("acme")

func agent(t *testing.T, ledger *tenant.Ledger, model tenant.Model, options ...tenant.AgentOption) *tenant.Agent {
	t.Helper()
	a, err := tenant.NewAgent(ledger, model, append(options, tenant.WithTenant(acme), tenant.WithMaxTokens(500))...)
	require.NoError(t, err)
	return a
}

func quiet() tenant.OpenOption { return tenant.WithLogger(slog.New(slog.DiscardHandler)) }

// now is a policy of retries that waits as shortly as can be.
func now() failsafe.Policy {
	return failsafe.Retry().WithDelay(time.Nanosecond).Build()
}

// always tries again until it succeeds: where the machine is slow, a time-out can pass before the model was called.
func always() failsafe.Policy {
	return failsafe.Retry().WithMaxRetries(-1).WithDelay(time.Nanosecond).Build()
}

func TestRetry_TriesAgainWhatIsWorthIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		err      error
		attempts int
	}{
		{"busy", answered{status: 429}, 3},
		{"broken", answered{status: 503}, 3},
		{"no answer", errors.New("the connection broke"), 3},
		{"a bad request", answered{status: 400}, 1},
		{"a wrong key", answered{status: 401}, 1},
		{"a wait of hours", answered{429, 2 * time.Hour}, 1},
		{"given up", context.Canceled, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, ledger := tenanttest.Open(t, quiet())
			model := tenanttest.NewModel(tenanttest.Fail(c.err))
			_, err := agent(t, ledger, model, tenant.Use(failsafe.Around(now()))).Call(t.Context(), "Hi")
			var failed *tenant.CallError
			require.ErrorAs(t, err, &failed)
			require.ErrorIs(t, err, c.err)
			require.Len(t, failed.Attempts, c.attempts)
			require.Len(t, model.Requests(), c.attempts)
			require.Equal(t, fmt.Sprintf("tenant: the call failed (execution %s): %v", failed.ExecutionID, c.err), err.Error(), "it is the last attempt's")
		})
	}
}

func TestRetry_AllAttemptsAreInTheCost(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t, quiet())
	model := tenanttest.NewModel(fails(answered{status: 429}), tenanttest.Fail(errors.New("broke")), ok)
	reply, err := agent(t, ledger, model, tenant.Use(failsafe.Around(now()))).Call(t.Context(), "Hi")
	require.NoError(t, err)
	require.Len(t, reply.Attempts, 3)
	require.Equal(t, "0.004026", reply.Cost.String(), "nothing, the hold, and the usage")
	cost, err := tenant.CostToday(t.Context(), db, acme)
	require.NoError(t, err)
	require.Equal(t, reply.Cost.String(), cost.String())
}

func TestRetry_WaitsAsLongAsItIsAsked(t *testing.T) {
	t.Parallel()
	_, ledger := tenanttest.Open(t, quiet())
	var waited time.Duration
	policy := failsafe.Retry().OnRetryScheduled(func(e sdk.ExecutionScheduledEvent[*tenant.Reply]) { waited = e.Delay }).Build()
	const asked = 20 * time.Millisecond
	_, err := agent(t, ledger, tenanttest.NewModel(fails(answered{429, asked}), ok), tenant.Use(failsafe.Around(policy))).Call(t.Context(), "Hi")
	require.NoError(t, err)
	require.GreaterOrEqual(t, waited, asked)
	require.Less(t, waited, 2*asked)
}

func TestRetry_RefusalsOfTheBudgetAreFinal(t *testing.T) {
	t.Parallel()
	_, ledger := tenanttest.Open(t, quiet(), tenant.WithDefaultLimits(tenant.Limits{DailyCost: tenant.USD("0")}), tenant.WithDefaultEnforcement(tenant.Hard))
	breaker := circuitbreaker.NewBuilder[*tenant.Reply]().HandleIf(failsafe.Failed).Build()
	a := agent(t, ledger, tenanttest.NewModel(), tenant.Use(failsafe.Around(now(), breaker)))
	for range 3 {
		_, err := a.Call(t.Context(), "Hi")
		require.ErrorIs(t, err, tenant.ErrBudgetExceeded)
		require.NotErrorIs(t, err, circuitbreaker.ErrOpen)
	}
}

func TestAround_CircuitBreakerLeadsToTheFallback(t *testing.T) {
	t.Parallel()
	_, ledger := tenanttest.Open(t, quiet())
	broken, other := tenanttest.NewModel(fails(answered{status: 500})), tenanttest.NewModel()
	other.ModelInfo.MaxOutputTokens = 1
	breaker := circuitbreaker.NewBuilder[*tenant.Reply]().HandleIf(failsafe.Failed).WithFailureThreshold(2).WithDelay(time.Hour).Build()
	around := failsafe.Around(breaker)
	a := agent(t, ledger, broken, tenant.WithFallback(other), tenant.Use(func(next tenant.Handler) tenant.Handler {
		guarded := around(next)
		return func(ctx context.Context, call *tenant.Call) (*tenant.Reply, error) {
			if call.Model.MaxOutputTokens == 1 { // the breaker is the first model's
				return next(ctx, call)
			}
			return guarded(ctx, call)
		}
	}))
	for range 5 {
		reply, err := a.Call(t.Context(), "Hi")
		require.NoError(t, err)
		require.Equal(t, "ok", reply.Text)
	}
	require.Len(t, broken.Requests(), 2, "then the breaker is open")
	require.Len(t, other.Requests(), 5)
}

func TestAround_TimeOutEndsAnAttemptThatIsBooked(t *testing.T) {
	t.Parallel()
	_, ledger := tenanttest.Open(t, quiet())
	hangs := func(ctx context.Context, _ *tenant.Request) (*tenant.Response, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	model := tenanttest.NewModel(hangs, ok)
	a := agent(t, ledger, model, tenant.Use(failsafe.Around(always(), timeout.New[*tenant.Reply](100*time.Millisecond))))
	var reply *tenant.Reply
	for chunk, err := range a.Stream(t.Context(), "Hi") {
		require.NoError(t, err)
		reply = chunk.Reply
	}
	require.GreaterOrEqual(t, len(reply.Attempts), 2)
	require.True(t, reply.Attempts[0].Estimated, "nobody knows what the provider bills")
	require.Equal(t, "0.002026", reply.Attempts[0].Cost.String())
}

func TestAround_ReplyThatCameTooLateIsHandedOut(t *testing.T) {
	t.Parallel()
	_, ledger := tenanttest.Open(t, quiet())
	late := tenanttest.NewModel(func(ctx context.Context, r *tenant.Request) (*tenant.Response, error) {
		<-ctx.Done() // and the reply comes all the same
		return ok(ctx, r)
	})
	reply, err := agent(t, ledger, late, tenant.Use(failsafe.Around(always(), timeout.New[*tenant.Reply](100*time.Millisecond)))).Call(t.Context(), "Hi")
	require.NoError(t, err)
	require.Equal(t, "ok", reply.Text)
	require.Equal(t, "0.002", reply.Cost.String(), "and it is not paid for twice")
}

func TestAround_BothAttemptsOfAHedgeAreInTheCost(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t, quiet())
	var calls atomic.Int64
	model := tenanttest.NewModel(func(ctx context.Context, r *tenant.Request) (*tenant.Response, error) {
		if calls.Add(1) == 1 { // it hangs until the hedge's reply has ended it
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return ok(ctx, r)
	})
	reply, err := agent(t, ledger, model, tenant.Use(failsafe.Around(hedgepolicy.NewWithDelay[*tenant.Reply](time.Millisecond)))).Call(t.Context(), "Hi")
	require.NoError(t, err)
	require.Len(t, reply.Attempts, 2)
	require.Equal(t, "0.004026", reply.Cost.String())
	cost, err := tenant.CostToday(t.Context(), db, acme)
	require.NoError(t, err)
	require.Equal(t, reply.Cost.String(), cost.String())
}

func TestAround_NilPoliciesAreRefused(t *testing.T) {
	t.Parallel()
	_, ledger := tenanttest.Open(t)
	for _, policies := range [][]failsafe.Policy{nil, {nil}, {now(), nil}} {
		_, err := tenant.NewAgent(ledger, tenanttest.NewModel(), tenant.Use(failsafe.Around(policies...)))
		require.ErrorIs(t, err, tenant.ErrInvalidOption)
		require.ErrorContains(t, err, "Use: middleware 1 of 1 is nil")
	}
}

func ExampleAround() {
	model := tenanttest.NewModel()
	options := []tenant.AgentOption{
		tenant.WithFallback(tenanttest.NewModel()),
		tenant.Use(failsafe.Around(
			failsafe.Retry().WithMaxRetries(3).Build(),
			timeout.New[*tenant.Reply](30*time.Second))),
	}
	fmt.Println(len(options), model.Info().Name) // for tenant.NewAgent(ledger, model, options...)
	// Output:
	// 2 test-model
}
