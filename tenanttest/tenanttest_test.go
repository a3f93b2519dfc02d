package tenanttest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanttest"
)

// recorder is a testing.TB that keeps its failures, and runs its clean-ups when it is told to.
type recorder struct {
	testing.TB
	folder   string
	cleanups []func()
	failures []string
}

// newT is a testing.TB for examples, which are given none.
func newT() *recorder {
	r := &recorder{}
	folder, err := os.MkdirTemp("", "tenanttest")
	if err != nil {
		panic(err)
	}
	r.folder = folder
	r.Cleanup(func() { _ = os.RemoveAll(folder) })
	return r
}

func (r *recorder) Helper()                  {}
func (r *recorder) Cleanup(f func())         { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Context() context.Context { return context.Background() }
func (r *recorder) Fatal(args ...any)        { panic(fmt.Sprint(args...)) }

func (r *recorder) TempDir() string {
	if r.TB != nil {
		return r.TB.TempDir()
	}
	return r.folder
}

func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) end() {
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
}

func TestOpen_FailsTheTestThatLeavesACallUnsettled(t *testing.T) {
	t.Parallel()
	rec := &recorder{TB: t}
	_, ledger := tenanttest.Open(rec)
	hold, err := ledger.Reserve(t.Context(), tenant.ID("acme"), tenant.Estimate{
		Provider: tenanttest.Provider, Model: tenanttest.ModelName, InputTokens: 10, OutputTokens: 10,
	})
	require.NoError(t, err)
	rec.end()
	require.Len(t, rec.failures, 1)
	require.Contains(t, rec.failures[0], hold.ExecutionID)
	require.Contains(t, rec.failures[0], `"acme"`)
}

func TestOpen_PassesTheTestThatSettlesItsCalls(t *testing.T) {
	t.Parallel()
	rec := &recorder{TB: t}
	_, ledger := tenanttest.Open(rec)
	agent, err := tenant.NewAgent(ledger, tenanttest.NewModel())
	require.NoError(t, err)
	_, err = agent.Call(t.Context(), "hi", tenant.WithTenant(tenant.ID("acme")))
	require.NoError(t, err)
	rec.end()
	require.Empty(t, rec.failures)
}

func TestOpen_OptionsGoBeforeItsOwn(t *testing.T) {
	t.Parallel()
	_, ledger := tenanttest.Open(t, tenant.WithPrices(twice{}))
	agent, err := tenant.NewAgent(ledger, tenanttest.NewModel())
	require.NoError(t, err)
	reply, err := agent.Call(t.Context(), "hi")
	require.NoError(t, err)
	require.Equal(t, "0.004", reply.Cost.String())
}

type twice struct{}

func (twice) Price(provider, model string, at time.Time) (tenant.Price, bool) {
	p, ok := tenanttest.Prices().Price(provider, model, at)
	p.Input, p.Output = 2*p.Input, 2*p.Output
	return p, ok
}

func TestPrices_KnowOneModelOfOneProvider(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		provider, model string
		known           bool
	}{
		{"test", "test-model", true}, {"", "test-model", true}, {"openai", "test-model", false}, {"test", "other", false},
	} {
		price, ok := tenanttest.Prices().Price(c.provider, c.model, time.Time{})
		require.Equal(t, c.known, ok, "%s %s", c.provider, c.model)
		if ok {
			require.EqualValues(t, 1_000_000_000, inNano(price.Cost(tenant.Usage{CacheRead: 1_000_000})))
			require.EqualValues(t, 2_000_000_000, inNano(price.Cost(tenant.Usage{Reasoning: 1_000_000})))
		}
	}
}

func TestModel_TakesItsStepsInOrderAndRepeatsTheLast(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	model := tenanttest.NewModel(tenanttest.Fail(boom), tenanttest.Text("a", tenant.Usage{}), tenanttest.Text("b", tenant.Usage{}))
	_, err := model.Generate(t.Context(), &tenant.Request{Messages: []tenant.Message{tenant.UserMessage("1")}})
	require.ErrorIs(t, err, boom)
	for i, want := range []string{"a", "b", "b"} {
		r, err := model.Generate(t.Context(), &tenant.Request{Messages: []tenant.Message{tenant.UserMessage(fmt.Sprint(i + 2))}})
		require.NoError(t, err)
		require.Equal(t, want, r.Text)
	}
	requests := model.Requests()
	require.Len(t, requests, 4)
	require.Equal(t, "1", requests[0].Prompt())
	require.Equal(t, "4", requests[3].Prompt())
}

func TestText_ObeysTheOutputCap(t *testing.T) {
	t.Parallel()
	step := tenanttest.Text("a", tenant.Usage{Input: 5, Output: 30, Reasoning: 70})
	for _, c := range []struct {
		cap, output int64
		finish      string
	}{{0, 30, "stop"}, {100, 30, "stop"}, {99, 29, "length"}, {60, 0, "length"}} {
		r, err := step(t.Context(), &tenant.Request{MaxTokens: c.cap})
		require.NoError(t, err)
		require.Equal(t, tenant.Usage{Input: 5, Output: c.output, Reasoning: 70}, *r.Usage)
		require.Equal(t, c.finish, r.FinishReason)
	}
}

func TestGate_HoldsCallsUntilItIsOpened(t *testing.T) {
	t.Parallel()
	gate := tenanttest.NewGate()
	model := tenanttest.NewModel(gate.Before(tenanttest.Text("through", tenant.Usage{})))
	var calls sync.WaitGroup
	for range 3 {
		calls.Go(func() {
			r, err := model.Generate(t.Context(), &tenant.Request{Messages: []tenant.Message{tenant.UserMessage("p")}})
			if err != nil || r.Text != "through" {
				t.Errorf("got %v, %v", r, err)
			}
		})
	}
	for range 3 {
		require.Equal(t, "p", (<-gate.Arrived()).Prompt())
	}
	gate.Open()
	gate.Open()
	calls.Wait()
	_, err := model.Generate(t.Context(), &tenant.Request{})
	require.NoError(t, err, "an open gate holds nothing")
}

func TestGate_LetsACallGoWhoseContextEnds(t *testing.T) {
	t.Parallel()
	gate := tenanttest.NewGate()
	step := gate.Before(tenanttest.Text("never", tenant.Usage{}))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := step(ctx, &tenant.Request{})
		done <- err
	}()
	<-gate.Arrived()
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)

	_, err := step(ctx, &tenant.Request{}) // nobody receives that it arrived
	require.ErrorIs(t, err, context.Canceled)
}

// inNano is an amount in nano-dollars.
func inNano(d decimal.Decimal) int64 { return d.Shift(9).IntPart() }
