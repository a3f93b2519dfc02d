package compat_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/compat/internal/harness"
)

func askedMaxTokens(t *testing.T, r *harness.Request) (n int64) {
	t.Helper()
	var asked struct {
		MaxTokens int64 `json:"max_tokens"`
	}
	require.NoError(t, json.Unmarshal(r.Body, &asked))
	return asked.MaxTokens
}

// What the provider looks up by itself is input that nobody can see beforehand, and each search has a price.
func TestAnthropic_SearchesOfTheProvidersAreHeldAndCharged(t *testing.T) {
	t.Parallel()
	used := tenant.Usage{Input: 1000, CacheRead: 2000, CacheWrite1h: 500, Output: 500, WebSearches: 3}
	m := newMetered(t, tenDollars, func(r *harness.Request) harness.Reply {
		if wire := (harness.Anthropic{}); wire.Streams(r) {
			return wire.Stream(r, []string{"Hello"}, used)
		}
		return harness.Anthropic{}.Reply(nil, "Hello", used)
	})
	sdk := anthropicClient(m.client, m.url)
	p := anthropicParams("What is new?")
	p.Tools = []anthropic.ToolUnionParam{{OfWebSearchTool20250305: &anthropic.WebSearchTool20250305Param{}}}
	reply, err := sdk.Messages.New(m.ctx, p)
	require.NoError(t, err)
	require.EqualValues(t, 3, reply.Usage.ServerToolUse.WebSearchRequests)

	stream := sdk.Messages.NewStreaming(m.ctx, p)
	var whole anthropic.Message
	for stream.Next() {
		require.NoError(t, whole.Accumulate(stream.Current()))
	}
	require.NoError(t, stream.Err())
	require.NoError(t, stream.Close())
	require.EqualValues(t, 500, whole.Usage.OutputTokens)

	all := m.executions()
	require.Len(t, all, 2)
	for _, e := range all {
		require.Equal(t, used, e.Usage)
		require.Equal(t, "0.0345", e.Cost().String())
		require.GreaterOrEqual(t, e.HeldTokens, int64(200_000))
	}
}

// The provider may fail when it has said 200 already.
func TestAnthropic_AStreamThatEndsWithAnErrorIsChargedForWhatCame(t *testing.T) {
	t.Parallel()
	m := newMetered(t, tenDollars, func(r *harness.Request) harness.Reply {
		reply := harness.Anthropic{}.Stream(r, []string{"Once upon a time"}, tenant.Usage{Input: 1000, CacheRead: 500, Output: 500})
		reply.Parts = append(reply.Parts[:len(reply.Parts)-3], harness.Part{
			Data: "event: error\ndata: " + `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}` + "\n\n",
		})
		return reply
	})
	sdk := anthropicClient(m.client, m.url)
	stream := sdk.Messages.NewStreaming(m.ctx, anthropicParams("Hello"))
	text := ""
	for stream.Next() {
		text += stream.Current().Delta.Text
	}
	require.Equal(t, "Once upon a time", text)
	require.ErrorContains(t, stream.Err(), "overloaded_error")
	require.NoError(t, stream.Close())
	e := m.execution()
	require.True(t, e.Estimated)
	require.Equal(t, tenant.Usage{Input: 1000, CacheRead: 500, Output: 4}, e.Usage)
}

// The last call before a limit is made shorter, not refused, and the SDK need not know.
func TestAnthropic_TheLastCallBeforeALimitIsShortened(t *testing.T) {
	t.Parallel()
	m := newMetered(t, tenant.Limits{DailyCost: tenant.USD("0.003")}, func(r *harness.Request) harness.Reply {
		return harness.Anthropic{}.Reply(r, "Hello", tenant.Usage{Input: 10, Output: 10})
	})
	sdk := anthropicClient(m.client, m.url)
	p := anthropicParams("Hello")
	_, err := sdk.Messages.New(m.ctx, p)
	require.NoError(t, err)
	e := m.execution()
	cap := askedMaxTokens(t, m.requests()[0])
	require.Less(t, cap, p.MaxTokens)
	require.GreaterOrEqual(t, cap, int64(256))
	require.Equal(t, "0.003", e.HeldCost().StringFixed(3), "all of the budget is used")
}

func TestAnthropic_CountingTokensIsFree(t *testing.T) {
	t.Parallel()
	m := newMetered(t, tenDollars, replies(`{"input_tokens":14}`))
	sdk := anthropicClient(m.client, m.url)
	count, err := sdk.Messages.CountTokens(m.ctx, anthropic.MessageCountTokensParams{
		Model: harness.Model, Messages: anthropicParams("Hello").Messages,
	})
	require.NoError(t, err)
	require.EqualValues(t, 14, count.InputTokens)
	require.Empty(t, m.executions())
}

// The model and its advisor each have a price of their own.
func TestAnthropic_PassesOfAnotherModelAreExecutionsOfTheirOwn(t *testing.T) {
	t.Parallel()
	m := newMetered(t, tenDollars, replies(fmt.Sprintf(`{"id":"msg_1","type":"message","role":"assistant","model":%q,`+
		`"content":[{"type":"text","text":"Hello"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":100,"output_tokens":50,`+
		`"iterations":[{"type":"message","input_tokens":100,"output_tokens":50},`+
		`{"type":"advisor_message","model":%q,"input_tokens":1000,"output_tokens":500}]}}`, harness.Model, freeModel)))
	sdk := anthropicClient(m.client, m.url)
	_, err := sdk.Messages.New(m.ctx, anthropicParams("Hello"))
	require.NoError(t, err)
	all := m.executions()
	require.Len(t, all, 2)
	costs := map[string]string{}
	for _, e := range all {
		costs[e.BilledModel] = e.Cost().String()
	}
	require.Equal(t, map[string]string{harness.Model: "0.0002", freeModel: "0"}, costs)
}
