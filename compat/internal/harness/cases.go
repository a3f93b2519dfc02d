package harness

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanthttp"
)

// pieces are the text of a streamed reply. Each has a whole number of tokens, as the library counts a text of which
// nobody says how many tokens it has: four letters a token.
var pieces = []string{"Once upon a time", " there was a led", "ger.", " The end"}

var answer = strings.Join(pieces, "")

// usage is what the n-th reply states: no two replies the same, and no two of its classes.
func usage(n int64) tenant.Usage {
	return tenant.Usage{
		Input: 1_001 + n, CacheRead: 203 + 2*n, CacheWrite5m: 57 + 3*n, CacheWrite1h: 31 + 5*n, Output: 407 + 7*n, Reasoning: 89 + 11*n,
	}
}

// always answers every request alike, in the form that it asks for.
func (b *bench) always(u tenant.Usage) func(r *Request) Reply {
	return func(r *Request) Reply { return b.answer(r, u) }
}

func (b *bench) answer(r *Request, u tenant.Usage) Reply {
	if b.sdk.Wire.Streams(r) {
		return b.sdk.Wire.Stream(r, pieces, u)
	}
	return b.sdk.Wire.Reply(r, answer, u)
}

// requireAsSent checks that what an SDK has read is, byte for byte, what the server has sent; less the part for which the
// transport has asked, and the SDK has not.
func (b *bench) requireAsSent(read *exchange, got *Request, u tenant.Usage) {
	b.Helper()
	asked := slices.ContainsFunc(b.answer(read.request, u).Parts, func(p Part) bool { return p.Asked })
	var sent strings.Builder
	for _, p := range b.answer(got, u).Parts {
		if asked || !p.Asked {
			sent.WriteString(p.Data)
		}
	}
	// An SDK may stop where the format says that nothing follows.
	text := read.text()
	require.NotEmpty(b, text)
	require.Equal(b, sent.String()[:min(len(text), sent.Len())], text)
}

// plain: the reply is the provider's, and the call is on the books when the SDK returns it.
func plain(b *bench) {
	const who = tenant.ID("plain")
	p := b.server.play(&play{reply: b.always(usage(1))})
	b.tap.take()
	text, err := b.calls.Plain(b.context(who), Question)
	require.NoError(b, err)
	require.Equal(b, answer, text)
	all := b.executions(who)
	require.Len(b, all, 1)
	got := p.got()
	require.Len(b, got, 1)
	require.False(b, b.sdk.Wire.Streams(got[0]))
	b.requireBooked(&all[0], who, b.answer(got[0], usage(1)))
	b.requireAsSent(b.tap.take()[0], got[0], usage(1))
	spent, err := tenant.CostToday(b.Context(), b.db, who)
	require.NoError(b, err)
	require.Equal(b, decimal.New(cost(b.answer(got[0], usage(1)).Usage), -9).String(), spent.String())
}

// streamed: each piece of the text arrives before the next is sent, and the usage at the end is read, also where the SDK
// has not asked for it.
func streamed(b *bench) {
	const who = tenant.ID("streamed")
	p := b.server.play(&play{reply: b.always(usage(2)), seen: make(chan string)})
	b.tap.take()
	var seen []string
	err := b.calls.Stream(b.context(who), Question, func(piece string) error {
		seen = append(seen, piece)
		select {
		case p.seen <- piece:
			return nil
		case <-b.Context().Done():
			return b.Context().Err()
		}
	})
	require.NoError(b, err)
	require.Equal(b, pieces, seen)
	all := b.settled(who, 1)
	got := p.got()
	require.Len(b, got, 1)
	require.True(b, b.sdk.Wire.Streams(got[0]))
	b.requireBooked(&all[0], who, b.answer(got[0], usage(2)))
	b.requireAsSent(b.tap.take()[0], got[0], usage(2))
}

// toolCall: a call for each round, and the SDK reads the tool's call and hands over its result.
func toolCall(b *bench) {
	const who = tenant.ID("tool")
	replies := []func(r *Request) Reply{
		func(r *Request) Reply { return b.sdk.Wire.ToolCall(r, usage(3)) },
		func(r *Request) Reply { return b.sdk.Wire.Reply(r, answer, usage(4)) },
	}
	p := &play{}
	p.reply = func(r *Request) Reply { return replies[min(len(p.got()), 2)-1](r) }
	b.server.play(p)
	var called []string
	text, err := b.calls.Tool(b.context(who), "How is the weather in Paris?", func(name, arguments string) string {
		called = append(called, name)
		require.JSONEq(b, ToolArguments, arguments)
		return ToolResult
	})
	require.NoError(b, err)
	require.Equal(b, answer, text)
	require.Equal(b, []string{ToolName}, called)
	got := p.got()
	require.Len(b, got, 2)
	for _, r := range got {
		require.False(b, b.sdk.Wire.Streams(r))
		require.Contains(b, string(r.Body), ToolName)
	}
	require.Contains(b, string(got[1].Body), ToolResult)
	all := b.executions(who)
	require.Len(b, all, 2)
	for i := range all {
		b.requireBooked(&all[i], who, replies[i](got[i]))
	}
}

var errEnough = errors.New("the reader has had enough")

// cancelled: a stream that its reader gives up is given up by the server, and charged for what came.
func cancelled(b *bench) {
	for _, byContext := range []bool{true, false} {
		who, read := tenant.ID("closed"), 2
		if byContext {
			who = "cancelled"
		}
		var came []Part // all that the server has sent, or would if it were asked to
		p := &play{endless: true, seen: make(chan string, read)}
		p.reply = func(r *Request) Reply {
			reply := b.sdk.Wire.Stream(r, pieces, usage(5))
			upTo := 1 + slices.IndexFunc(reply.Parts, func(p Part) bool { return p.Text == pieces[read-1] })
			came, p.next = reply.Parts[:upTo], reply.Parts[upTo]
			reply.Parts = came
			return reply
		}
		late := !byContext && b.sdk.LetsGo == WithTheNextChunk
		if late {
			p.more = make(chan struct{})
		}
		b.server.play(p)
		ctx, cancel := context.WithCancel(b.context(who))
		defer cancel()
		seen := 0
		err := b.calls.Stream(ctx, Question, func(piece string) error {
			p.seen <- piece
			if seen++; seen < read {
				return nil
			}
			if byContext {
				cancel()
				return nil // and go on reading
			}
			return errEnough
		})
		if !byContext || !b.sdk.HidesCancel {
			require.Error(b, err)
		}
		require.Equal(b, read, seen)
		switch {
		case late:
			close(p.more)
		case b.sdk.LetsGo == WithTheContext:
			cancel()
		}
		select {
		case <-p.left:
		case <-time.After(patience):
			require.Fail(b, "the server has not seen that the reader has gone", who)
		}
		if late {
			came = append(came, p.next)
		}
		e := b.settled(who, 1)[0]
		require.Len(b, p.got(), 1)
		b.requireCutShort(&e, came, p.got()[0])
	}
}

// requireCutShort checks that an execution is charged for the parts of a stream that came, and says that it is an estimate.
func (b *bench) requireCutShort(e *tenant.Execution, came []Part, request *Request) {
	b.Helper()
	require.Equal(b, "failed", e.Status)
	require.Contains(b, []string{"canceled", "closed"}, e.ErrorCode)
	require.True(b, e.Estimated)
	require.EqualValues(b, 1, e.Calls)
	text := ""
	for _, p := range came {
		text += p.Text
	}
	stated := came[len(came)-1].Stated
	require.Equal(b, max(int64(len(text))/4, stated.OutputTokens()), e.Usage.OutputTokens())
	if stated.InputTokens() > 0 {
		require.Equal(b, stated.InputTokens(), e.Usage.InputTokens())
	} else {
		require.Positive(b, e.Usage.Input)
		require.Less(b, e.Usage.Input, int64(len(request.Body)), "a token has more than one byte")
	}
	require.Equal(b, cost(e.Usage), e.CostNano)
}

// refused: a call that the budget has no room for is never made, nor tried again, and the ledger's error is in the SDK's.
func refused(b *bench) {
	const who = tenant.ID("refused")
	require.NoError(b, tenant.ConfigureBudget(b.Context(), b.db, who, func(budget *tenant.Budget) error {
		budget.Limits.DailyCost = tenant.USD("0")
		return nil
	}))
	for way, call := range map[string]func(ctx context.Context) error{
		"a whole reply": func(ctx context.Context) error {
			_, err := b.calls.Plain(ctx, Question)
			return err
		},
		"a stream": func(ctx context.Context) error {
			return b.calls.Stream(ctx, Question, func(piece string) error { return fmt.Errorf("there is a piece: %q", piece) })
		},
	} {
		p := b.server.play(&play{reply: b.always(usage(6))})
		before := len(b.witness.refusals())
		err := call(b.context(who))
		require.Error(b, err, way)
		require.Empty(b, p.got(), way)
		refusals := b.witness.refusals()[before:]
		require.Len(b, refusals, 1, way)
		require.Equal(b, string(who), refusals[0].TenantID)
		exceeded, ok := tenanthttp.AsBudgetError(context.Background(), err) // also far from the call
		require.True(b, ok, "%s: %T: %v", way, err, err)
		require.Equal(b, string(who), exceeded.TenantID)
		require.Equal(b, tenant.Day, exceeded.Limit.Window)
		require.Equal(b, tenant.CostMetric, exceeded.Limit.Metric)
		require.Equal(b, http.StatusPaymentRequired, b.calls.Status(err), "%s: the SDK's own error: %T: %v", way, err, err)
	}
	require.Empty(b, b.executions(who))
}

// failed: each attempt is a call of its own, and one that the provider turns down costs nothing.
func failed(b *bench) {
	statuses := []int{http.StatusTooManyRequests, http.StatusInternalServerError}
	for _, status := range statuses {
		who := tenant.ID(fmt.Sprintf("failed-%d", status))
		p := b.server.play(&play{reply: func(*Request) Reply { return b.sdk.Wire.Error(status) }})
		_, err := b.calls.Plain(b.context(who), Question)
		require.Error(b, err)
		require.Equal(b, status, b.calls.Status(err), "the SDK's own error: %T: %v", err, err)
		_, refused := tenanthttp.AsRefusal(context.Background(), err)
		require.False(b, refused)
		all := b.settled(who, 1+b.sdk.Retries)
		require.Len(b, p.got(), 1+b.sdk.Retries)
		for i := range all {
			b.requireFailed(&all[i], fmt.Sprintf("http_%d", status))
		}
	}

	const who = tenant.ID("recovered")
	p := &play{}
	p.reply = func(r *Request) Reply {
		if n := len(p.got()); n <= len(statuses) {
			return b.sdk.Wire.Error(statuses[n-1])
		}
		return b.answer(r, usage(7))
	}
	b.server.play(p)
	for range len(statuses) + 1 { // an SDK that does not try again by itself has a caller who does
		text, err := b.calls.Plain(b.context(who), Question)
		if err == nil {
			require.Equal(b, answer, text)
			break
		}
		require.Less(b, len(p.got()), len(statuses)+1)
	}
	all := b.settled(who, len(statuses)+1)
	for i, status := range statuses {
		b.requireFailed(&all[i], fmt.Sprintf("http_%d", status))
	}
	b.requireBooked(&all[len(statuses)], who, b.answer(p.got()[len(statuses)], usage(7)))
}

// tenants: calls of two tenants at the same time, through one client, are each on their own tenant's books.
func tenants(b *bench) {
	const each = 8
	whose := map[tenant.ID]int64{"acme": 100, "globex": 200}
	reply := func(r *Request) Reply {
		for who, n := range whose {
			if strings.Contains(string(r.Body), "of "+string(who)) {
				return b.answer(r, usage(n))
			}
		}
		return b.sdk.Wire.Error(http.StatusInternalServerError)
	}
	p := b.server.play(&play{reply: reply})
	var all sync.WaitGroup
	for who := range whose {
		for i := range each {
			all.Go(func() {
				prompt, text, err := "Tell me a story of "+string(who), "", error(nil)
				if i%2 == 0 {
					text, err = b.calls.Plain(b.context(who), prompt)
				} else {
					err = b.calls.Stream(b.context(who), prompt, func(piece string) error { text += piece; return nil })
				}
				if err != nil || text != answer {
					b.Errorf("%s: %q, %v", who, text, err)
				}
			})
		}
	}
	all.Wait()
	require.Len(b, p.got(), len(whose)*each)
	for who := range whose {
		booked, want := b.settled(who, each), decimal.Zero
		for i := range booked {
			b.requireBooked(&booked[i], who, reply(&Request{Body: []byte("of " + who)}))
			want = want.Add(booked[i].Cost())
		}
		spent, err := tenant.CostToday(b.Context(), b.db, who)
		require.NoError(b, err)
		require.Equal(b, want.String(), spent.String())
	}
}
