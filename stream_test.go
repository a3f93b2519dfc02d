package tenant_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanttest"
)

// streamer is a model that streams what a test says.
type streamer struct {
	*tenanttest.Model
	stream func(ctx context.Context, r *tenant.Request, yield func(string) bool) (*tenant.Response, error)
}

func (s streamer) Stream(ctx context.Context, r *tenant.Request, yield func(string) bool) (*tenant.Response, error) {
	return s.stream(ctx, r, yield)
}

func streams(stream func(ctx context.Context, r *tenant.Request, yield func(string) bool) (*tenant.Response, error)) tenant.Model {
	return streamer{tenanttest.NewModel(), stream}
}

// heard reads a stream to its end.
func heard(t *testing.T, agent *tenant.Agent, options ...tenant.CallOption) (text string, reply *tenant.Reply, err error) {
	t.Helper()
	for chunk, e := range agent.Stream(t.Context(), "Hi", options...) {
		require.NoError(t, err, "an error is the last that comes")
		require.Nil(t, reply, "the reply is the last that comes")
		text, reply, err = text+chunk.Text, chunk.Reply, e
	}
	return text, reply, err
}

func TestStream_HandsOutTheTextAndThenTheReply(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	model := tenanttest.NewModel(tenanttest.Text("one two three", tenant.Usage{Input: 1000, Output: 500}))
	agent := newAgent(t, ledger, model, tenant.WithTenant(acme))
	var pieces []string
	var reply *tenant.Reply
	for chunk, err := range agent.Stream(t.Context(), "Hi", tenant.WithSystem("brief")) {
		require.NoError(t, err)
		if chunk.Reply != nil {
			require.Empty(t, chunk.Text)
			reply = chunk.Reply
			require.Equal(t, "succeeded", executions(t, db)[0].Status, "it is on the books by then")
			continue
		}
		pieces = append(pieces, chunk.Text)
	}
	require.Equal(t, []string{"one ", "two ", "three"}, pieces)
	require.Equal(t, "one two three", reply.Text)
	require.Equal(t, "stop", reply.FinishReason)
	require.Equal(t, "0.002", reply.Cost.String())
	require.Equal(t, "acme", reply.TenantID)
	require.Equal(t, tenant.Usage{Input: 1000, Output: 500}, reply.Usage)
	require.False(t, reply.Estimated)
	require.EqualValues(t, 5+2+1024+4096, executions(t, db)[0].HeldTokens, "it is held like a plain one")
}

func TestStream_EachLoopIsACallOfItsOwn(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	seq := newAgent(t, ledger, tenanttest.NewModel()).Stream(t.Context(), "Hi")
	require.Empty(t, executions(t, db), "nothing happens before the loop")
	for range 2 {
		for _, err := range seq {
			require.NoError(t, err)
		}
	}
	require.Len(t, executions(t, db), 2)
}

func TestStream_RefusalsComeAsTheOnlyChunk(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t, hardDaily("0")...)
	model := tenanttest.NewModel()
	text, reply, err := heard(t, newAgent(t, ledger, model, tenant.WithTenant(acme)))
	require.ErrorIs(t, err, tenant.ErrBudgetExceeded)
	require.Empty(t, text)
	require.Nil(t, reply)
	_, _, err = heard(t, newAgent(t, ledger, model, tenant.RequireTenant()))
	require.ErrorIs(t, err, tenant.ErrTenantRequired)
	require.Empty(t, model.Requests())
	require.Empty(t, executions(t, db))
}

func TestStream_OfAModelThatDoesNotStreamIsOneChunk(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	plain := struct{ tenant.Model }{tenanttest.NewModel(tenanttest.Text("one two", tenant.Usage{Input: 1000, Output: 500}))}
	text, reply, err := heard(t, newAgent(t, ledger, plain))
	require.NoError(t, err)
	require.Equal(t, "one two", text)
	require.Equal(t, "one two", reply.Text)
	require.EqualValues(t, 2_000_000, executions(t, db)[0].Cost)
}

// However the loop ends, what was used is on the books when it is over.
func TestStream_IsBookedHoweverItsLoopEnds(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	const input = (2+5)/3 + 1 // of "Hi" and "brief"
	for _, c := range []struct {
		name      string
		response  *tenant.Response // that the model says when it is left, or in the end
		err       error
		loop      func(ctx context.Context, cancel func(), agent *tenant.Agent)
		status    string
		code      string
		cost      int64
		estimated bool
	}{
		{
			"a break", nil, nil, func(ctx context.Context, _ func(), agent *tenant.Agent) {
				for range agent.Stream(ctx, "Hi") {
					break
				}
			}, "failed", "closed", 1_000*input + 2_000*7, true,
		},
		{
			"a break, where the provider has stated the input", &tenant.Response{Usage: &tenant.Usage{Input: 70, Output: 1}, Estimated: true}, nil,
			func(ctx context.Context, _ func(), agent *tenant.Agent) {
				for range agent.Stream(ctx, "Hi") {
					break
				}
			}, "failed", "closed", 1_000*70 + 2_000*7, true,
		},
		{
			"a break, and the model knows better than the text", &tenant.Response{Usage: &tenant.Usage{Output: 50}, Estimated: true}, boom,
			func(ctx context.Context, _ func(), agent *tenant.Agent) {
				for range agent.Stream(ctx, "Hi") {
					break
				}
			}, "failed", "closed", 1_000*input + 2_000*50, true,
		},
		{
			"a panic in its body", nil, nil, func(ctx context.Context, _ func(), agent *tenant.Agent) {
				defer func() { _ = recover() }()
				for range agent.Stream(ctx, "Hi") {
					panic("ouch")
				}
			}, "failed", "closed", 1_000*input + 2_000*7, true,
		},
		{
			"the end of its goroutine", nil, nil, func(ctx context.Context, _ func(), agent *tenant.Agent) {
				var loop sync.WaitGroup
				loop.Go(func() {
					for range agent.Stream(ctx, "Hi") {
						runtime.Goexit()
					}
				})
				loop.Wait()
			}, "failed", "closed", 1_000*input + 2_000*7, true,
		},
		{
			"a cancelled ctx", nil, context.Canceled, func(ctx context.Context, cancel func(), agent *tenant.Agent) {
				var last error
				for _, err := range agent.Stream(ctx, "Hi") {
					cancel()
					last = err
				}
				require.ErrorIs(t, last, context.Canceled)
			}, "failed", "canceled", 1_000*input + 2_000*7, true,
		},
		{
			"an error of the model's", &tenant.Response{Usage: &tenant.Usage{Input: 70}, Estimated: true}, boom,
			func(ctx context.Context, _ func(), agent *tenant.Agent) {
				var last error
				for _, err := range agent.Stream(ctx, "Hi") {
					last = err
				}
				require.ErrorIs(t, last, boom)
				var failed *tenant.CallError
				require.ErrorAs(t, last, &failed)
				require.True(t, failed.Estimated)
				require.False(t, failed.Retryable(), "a part of it was handed out")
			}, "failed", "error", 1_000*70 + 2_000*7, true,
		},
		{
			"its own end, without a usage", &tenant.Response{}, nil, func(ctx context.Context, _ func(), agent *tenant.Agent) {
				for _, err := range agent.Stream(ctx, "Hi") {
					require.NoError(t, err)
				}
			}, "succeeded", "", 1_000*input + 2_000*7, true,
		},
		{
			"its own end", &tenant.Response{Usage: &tenant.Usage{Input: 9, Output: 9}}, nil, func(ctx context.Context, _ func(), agent *tenant.Agent) {
				for _, err := range agent.Stream(ctx, "Hi") {
					require.NoError(t, err)
				}
			}, "succeeded", "", 1_000*9 + 2_000*9, false,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db, ledger := tenanttest.Open(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			agent := newAgent(t, ledger, streams(func(ctx context.Context, _ *tenant.Request, yield func(string) bool) (*tenant.Response, error) {
				for _, text := range []string{"12345678", "", "abcdefghijklmnopqrst"} { // 2 tokens and 5, as they are estimated, also where nobody takes them
					if !yield(text) {
						require.False(t, yield("more"), "it is over for good")
						break
					}
				}
				return c.response, c.err
			}), tenant.WithSystem("brief"), tenant.WithMaxTokens(500))
			c.loop(ctx, cancel, agent)
			row := executions(t, db)[0]
			require.Equal(t, c.status, row.Status)
			require.Equal(t, c.code, row.ErrorCode)
			require.Equal(t, c.cost, row.Cost)
			require.Equal(t, c.estimated, row.Estimated)
		})
	}
}

func TestStream_ModelIsCancelledWhenItsLoopIsLeft(t *testing.T) {
	t.Parallel()
	_, ledger := tenanttest.Open(t)
	var ended error
	agent := newAgent(t, ledger, streams(func(ctx context.Context, _ *tenant.Request, yield func(string) bool) (*tenant.Response, error) {
		yield("one")
		<-ctx.Done() // as one that waits for its provider
		ended = ctx.Err()
		return nil, ended
	}))
	for range agent.Stream(t.Context(), "Hi") {
		break
	}
	require.ErrorIs(t, ended, context.Canceled)
}

func TestStream_ThatBroughtNothingIsChargedWhatItHeld(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		err  error
		cost int64
	}{
		{"nobody knows", errors.New("boom"), 1_000*1026 + 2_000*500},
		{"not billed", fmt.Errorf("%w: busy", tenant.ErrNotBilled), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db, ledger := tenanttest.Open(t)
			_, reply, err := heard(t, newAgent(t, ledger, tenanttest.NewModel(tenanttest.Fail(c.err)), tenant.WithMaxTokens(500)))
			require.Nil(t, reply)
			require.ErrorIs(t, err, c.err)
			var failed *tenant.CallError
			require.ErrorAs(t, err, &failed)
			require.Equal(t, c.cost, failed.Cost.Shift(9).IntPart())
			require.Equal(t, c.cost, executions(t, db)[0].Cost)
		})
	}
}

func TestStream_PanicOfTheModelIsBookedAndGoesOnInTheLoopsGoroutine(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	agent := newAgent(t, ledger, streams(func(_ context.Context, _ *tenant.Request, yield func(string) bool) (*tenant.Response, error) {
		yield("1234")
		panic("ouch")
	}))
	require.PanicsWithValue(t, "ouch", func() {
		for range agent.Stream(t.Context(), "Hi") {
		}
	})
	row := executions(t, db)[0]
	require.Equal(t, "panic", row.ErrorCode)
	require.EqualValues(t, 1_000*1+2_000*1, row.Cost)

	agent = newAgent(t, ledger, streams(func(context.Context, *tenant.Request, func(string) bool) (*tenant.Response, error) {
		runtime.Goexit()
		return nil, nil
	}))
	_, _, err := heard(t, agent)
	require.ErrorContains(t, err, "ended its goroutine")
	require.Equal(t, "panic", executions(t, db)[1].ErrorCode)
}

func TestStream_ConcurrentLoopsStayInTheBudget(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t, hardDaily("0.02")...)
	agent := newAgent(t, ledger, tenanttest.NewModel(tenanttest.Text(strings.Repeat("word ", 50), tenant.Usage{Input: 1000, Output: 500})),
		tenant.WithTenant(acme), tenant.WithMaxTokens(500))
	var loops sync.WaitGroup
	for i := range 24 {
		loops.Go(func() {
			for range agent.Stream(t.Context(), "Hi") {
				if i%3 == 0 {
					break
				}
			}
		})
	}
	loops.Wait()
	var spent int64
	for _, row := range executions(t, db) {
		require.NotEqual(t, "running", row.Status)
		spent += row.Cost
	}
	require.LessOrEqual(t, spent, int64(20_000_000))
	cost, err := tenant.CostToday(t.Context(), db, acme)
	require.NoError(t, err)
	require.Equal(t, spent, cost.Shift(9).IntPart())
}

// images are held as what a model can see in them, whatever their bytes.
func TestCall_ImagesAndConversationsAreHeldByABound(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	image := tenant.Image{MediaType: "image/png", Data: []byte(strings.Repeat("x", 100_000))}
	_, err := newAgent(t, ledger, tenanttest.NewModel()).Call(t.Context(), "What?", tenant.WithImages(image, tenant.Image{URL: "https://a.example/b"}),
		tenant.WithMessages(tenant.UserMessage("1234", image), tenant.AssistantMessage("56")), tenant.WithMaxTokens(10),
		tenant.WithJSONSchema("a", []byte(`{"type":"object"}`)))
	require.NoError(t, err)
	const text, turns, schema, media = 5 + 4 + 2, 2 * 16, 17, 3 * 5000
	require.EqualValues(t, text+turns+schema+media+1024+10, executions(t, db)[0].HeldTokens)
}

func TestCall_BadInputIsNamedAndNothingHappens(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t)
	model := tenanttest.NewModel()
	agent := newAgent(t, ledger, model)
	png := tenant.Image{MediaType: "image/png", Data: []byte{1}}
	for _, c := range []struct {
		prompt  string
		options []tenant.CallOption
		says    string
	}{
		{"", nil, "the prompt is empty, and there are no messages"},
		{"", []tenant.CallOption{tenant.WithMessages(tenant.UserMessage("a"), tenant.AssistantMessage("b"))}, "the last of the messages is not the user's"},
		{"a", []tenant.CallOption{tenant.WithMessages(tenant.Message{Role: "system", Parts: []tenant.Part{{Text: "a"}}})}, `WithMessages: message 1 of 1: the role "system"`},
		{"a", []tenant.CallOption{tenant.WithMessages(tenant.UserMessage("a"), tenant.UserMessage(""))}, "WithMessages: message 2 of 2: it has no parts"},
		{"a", []tenant.CallOption{tenant.WithMessages(tenant.AssistantMessage(""))}, "part 1 is empty"},
		{"a", []tenant.CallOption{tenant.WithMessages(tenant.Message{Role: tenant.RoleUser, Parts: []tenant.Part{{Text: "a", Image: &png}}})}, "part 1 is a text and an image"},
		{"a", []tenant.CallOption{tenant.WithMessages(tenant.Message{Role: tenant.RoleAssistant, Parts: []tenant.Part{{Image: &png}}})}, "the role is the assistant's"},
		{"a", []tenant.CallOption{tenant.WithImages(png, tenant.Image{})}, "WithImages: image 2 of 2: neither Data nor URL is set"},
		{"a", []tenant.CallOption{tenant.WithImages(tenant.Image{Data: []byte{1}, URL: "https://a.example"})}, "both Data and URL are set"},
		{"a", []tenant.CallOption{tenant.WithImages(tenant.Image{Data: []byte{1}})}, "no MediaType is set for the Data"},
		{"a", []tenant.CallOption{tenant.WithImages(tenant.Image{Data: []byte{1}, MediaType: "application/pdf"})}, `the MediaType "application/pdf" is no image's`},
		{"a", []tenant.CallOption{tenant.WithImages(tenant.Image{URL: "cat.png"})}, "the URL has no scheme"},
		{"a", []tenant.CallOption{tenant.WithTemperature(-0.1)}, "WithTemperature: -0.1"},
		{"a", []tenant.CallOption{tenant.WithTemperature(2.1)}, "WithTemperature: 2.1"},
		{"a", []tenant.CallOption{tenant.WithStop("a", "")}, "WithStop: an empty text"},
		{"a", []tenant.CallOption{tenant.WithJSONSchema("a b", []byte(`{}`))}, `WithJSONSchema: the name "a b"`},
		{"a", []tenant.CallOption{tenant.WithJSONSchema("", []byte(`{}`))}, `WithJSONSchema: the name ""`},
		{"a", []tenant.CallOption{tenant.WithJSONSchema("a", []byte(`[]`))}, "the schema is no JSON object"},
		{"a", []tenant.CallOption{tenant.WithJSONSchema("a", []byte(`null`))}, "the schema is no JSON object"},
		{"a", []tenant.CallOption{tenant.WithJSONSchema("a", nil)}, "the schema is no JSON object"},
	} {
		_, err := agent.Call(t.Context(), c.prompt, c.options...)
		require.ErrorIs(t, err, tenant.ErrInvalidOption, c.says)
		require.ErrorContains(t, err, c.says)
		for chunk, streamed := range agent.Stream(t.Context(), c.prompt, c.options...) {
			require.Zero(t, chunk)
			require.ErrorContains(t, streamed, c.says)
		}
	}
	require.Empty(t, model.Requests())
	require.Empty(t, executions(t, db))

	_, err := agent.Call(t.Context(), "", tenant.WithMessages(tenant.UserMessage("a")))
	require.NoError(t, err, "the messages are enough")
	_, err = agent.Call(t.Context(), "", tenant.WithImages(png))
	require.NoError(t, err, "an image is enough")
}
