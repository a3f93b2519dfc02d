package harness

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// An Adapter makes a model of an SDK, which agents call. Its SDK has no transport under it.
type Adapter struct {
	Name string
	Wire Wire

	// New makes a model named [Model], whose client is the SDK's as a user makes it: with its retries.
	New func(t testing.TB, client *http.Client, url string) tenant.Model

	// Image is how the SDK sends an image of the bytes "png". NoURL and NoStop: it takes none by its URL, or no texts to stop at.
	// ByTool: it has a tool called with what is to be in the form of a schema, which no wire here does.
	Image                 string
	NoURL, NoStop, ByTool bool
}

// imageURL is where the second image of a conversation is.
const imageURL = "https://pictures.example/cat.png"

// RunAdapters has every adapter pass the suite, on Postgres.
func RunAdapters(t *testing.T, adapters []*Adapter) {
	for _, adapter := range adapters {
		t.Run(adapter.Name, func(t *testing.T) {
			t.Parallel()
			b := newAdapterBench(t, adapter)
			for _, c := range []struct {
				name string
				run  func(*adapterBench)
			}{
				{"a whole reply", adapterPlain},
				{"a stream", adapterStreamed},
				{"all that a call can say", adapterConversation},
				{"a JSON schema", adapterSchema},
				{"the last call before a limit", adapterShortened},
				{"no room in the budget", adapterRefused},
				{"turned down by the provider", adapterFailed},
				{"a stream that is left", adapterLeft},
				{"a reply that is cut", adapterCut},
				{"two tenants at once", adapterTenants},
			} {
				t.Run(c.name, func(t *testing.T) {
					on := *b
					inner := *b.bench
					inner.T = t
					on.bench = &inner
					c.run(&on)
				})
			}
			b.nothingIsLeft()
		})
	}
}

type adapterBench struct {
	*bench
	adapter *Adapter
	agent   *tenant.Agent
}

// everybody is the price book of a bench for any provider: adapters name theirs.
type everybody struct{ prices }

// Price implements tenant.Prices.
func (e everybody) Price(_, model string, at time.Time) (tenant.Price, bool) {
	return e.prices.Price("", model, at)
}

func newAdapterBench(t *testing.T, adapter *Adapter) *adapterBench {
	b := &bench{T: t, sdk: &SDK{Wire: adapter.Wire}, server: newServer(t, nil), witness: &witness{}}
	var err error
	b.db, err = gorm.Open(postgres.Open(pgtest.DSN(t)), &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	pool, err := b.db.DB()
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	b.ledger, err = tenant.Open(b.db, tenant.WithPrices(everybody{}), tenant.WithObserver(b.witness),
		tenant.WithDefaultLimits(tenant.Limits{DailyCost: tenant.USD("1000")}), tenant.WithDefaultEnforcement(tenant.Hard))
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, b.ledger.Close(ctx))
	})
	base := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(base.CloseIdleConnections)
	model := adapter.New(t, &http.Client{Transport: base}, b.server.URL)
	require.Equal(t, Model, model.Info().Name)
	require.Implements(t, (*tenant.Streamer)(nil), model)
	agent, err := tenant.NewAgent(b.ledger, model, tenant.WithMaxTokens(1000), tenant.RequireTenant())
	require.NoError(t, err)
	return &adapterBench{bench: b, adapter: adapter, agent: agent}
}

// ways are the two ways to make a call, each to its end.
func (b *adapterBench) ways() map[string]func(ctx context.Context, options ...tenant.CallOption) (*tenant.Reply, error) {
	return map[string]func(ctx context.Context, options ...tenant.CallOption) (*tenant.Reply, error){
		"plain": func(ctx context.Context, options ...tenant.CallOption) (*tenant.Reply, error) {
			return b.agent.Call(ctx, Question, options...)
		},
		"streamed": func(ctx context.Context, options ...tenant.CallOption) (reply *tenant.Reply, err error) {
			for chunk, e := range b.agent.Stream(ctx, Question, options...) {
				reply, err = chunk.Reply, e
			}
			return reply, err
		},
	}
}

// requireReply checks that what the agent returns is what the server has said, and is on the books.
func (b *adapterBench) requireReply(reply *tenant.Reply, e *tenant.Execution, who tenant.ID, said Reply) {
	b.Helper()
	b.requireBooked(e, who, said)
	require.Equal(b, answer, reply.Text)
	require.Equal(b, e.ID, reply.ExecutionID)
	require.Equal(b, said.Usage, reply.Usage)
	require.Equal(b, cost(said.Usage), reply.Cost.Shift(9).IntPart())
	require.NotEmpty(b, reply.FinishReason)
	require.False(b, reply.Estimated || reply.Shortened || reply.Pending || reply.Cached)
	if said.Model != "" {
		require.Equal(b, said.Model, reply.Model)
	}
}

func adapterPlain(b *adapterBench) {
	const who = tenant.ID("plain")
	p := b.server.play(&play{reply: b.always(usage(1))})
	reply, err := b.agent.Call(b.context(who), Question)
	require.NoError(b, err)
	got := p.got()
	require.Len(b, got, 1)
	require.False(b, b.sdk.Wire.Streams(got[0]))
	require.Contains(b, string(got[0].Body), "1000", "the cap of output")
	require.Contains(b, string(got[0].Body), Question)
	b.requireReply(reply, &b.settled(who, 1)[0], who, b.answer(got[0], usage(1)))
}

// adapterStreamed: each piece of the text arrives before the next is sent.
func adapterStreamed(b *adapterBench) {
	const who = tenant.ID("streamed")
	p := b.server.play(&play{reply: b.always(usage(2)), seen: make(chan string)})
	var seen []string
	var reply *tenant.Reply
	for chunk, err := range b.agent.Stream(b.context(who), Question) {
		require.NoError(b, err)
		if reply = chunk.Reply; reply != nil {
			continue
		}
		seen = append(seen, chunk.Text)
		select {
		case p.seen <- chunk.Text:
		case <-time.After(patience):
			require.Fail(b, "the server does not wait for what was seen")
		}
	}
	require.Equal(b, pieces, seen)
	got := p.got()
	require.Len(b, got, 1)
	require.True(b, b.sdk.Wire.Streams(got[0]))
	require.Contains(b, string(got[0].Body), "1000", "the cap of output")
	b.requireReply(reply, &b.settled(who, 1)[0], who, b.answer(got[0], usage(2)))
}

// adapterConversation: whatever a call says reaches the provider.
func adapterConversation(b *adapterBench) {
	const who = tenant.ID("conversation")
	options := []tenant.CallOption{
		tenant.WithSystem("Answer in rhymes."), tenant.WithTemperature(0.25),
		tenant.WithMessages(tenant.UserMessage("Who are you?"), tenant.AssistantMessage("A poet.")),
	}
	want := []string{"Answer in rhymes.", "0.25", "Who are you?", "A poet.", Question}
	images := []tenant.Image{{MediaType: "image/png", Data: []byte("png")}}
	want = append(want, b.adapter.Image)
	if !b.adapter.NoURL {
		images = append(images, tenant.Image{MediaType: "image/png", URL: imageURL})
		want = append(want, imageURL)
	}
	options = append(options, tenant.WithImages(images...))
	if !b.adapter.NoStop {
		options = append(options, tenant.WithStop("THE END"))
		want = append(want, "THE END")
	}
	for way, call := range b.ways() {
		p := b.server.play(&play{reply: b.always(usage(3))})
		_, err := call(b.context(who), options...)
		require.NoError(b, err, way)
		body := string(p.got()[0].Body)
		for _, s := range want {
			require.Contains(b, body, s, way)
		}
		require.Less(b, strings.Index(body, "Who are you?"), strings.Index(body, "A poet."), "in their order")
	}
	b.settled(who, 2)
}

// adapterSchema: the reply's text is JSON in the form that was asked for.
func adapterSchema(b *adapterBench) {
	const (
		who    = tenant.ID("schema")
		object = `{"verse":"Roses are red"}`
		schema = `{"type":"object","properties":{"verse":{"type":"string"}},"required":["verse"],"additionalProperties":false}`
	)
	for way, call := range b.ways() {
		p := b.server.play(&play{reply: func(r *Request) Reply {
			if b.sdk.Wire.Streams(r) {
				return b.sdk.Wire.Stream(r, []string{object[:9], object[9:]}, usage(4))
			}
			return b.sdk.Wire.Reply(r, object, usage(4))
		}})
		reply, err := call(b.context(who), tenant.WithJSONSchema("rhyme", []byte(schema)))
		require.Contains(b, string(p.got()[0].Body), `"verse"`, way)
		e := b.executions(who)
		require.Equal(b, p.reply(p.got()[0]).Usage, e[len(e)-1].Usage, way)
		if b.adapter.ByTool {
			require.Error(b, err, "%s: no tool was called", way)
			continue
		}
		require.NoError(b, err, way)
		require.JSONEq(b, object, reply.Text, way)
	}
}

// adapterShortened: what the budget has granted is the cap that the provider is given.
func adapterShortened(b *adapterBench) {
	const who = tenant.ID("shortened")
	require.NoError(b, tenant.ConfigureBudget(b.Context(), b.db, who, func(budget *tenant.Budget) error {
		budget.Limits.DailyTokens = tenant.Count(2000)
		return nil
	}))
	for way, call := range b.ways() {
		p := b.server.play(&play{reply: b.always(tenant.Usage{Input: 1, Output: 1})})
		reply, err := call(b.context(who))
		require.NoError(b, err, way)
		require.True(b, reply.Shortened, way)
		spent := int64(0)
		if len(b.executions(who)) == 2 {
			spent = 2
		}
		granted := 2000 - spent - int64(len(Question)) - 1024
		require.Contains(b, string(p.got()[0].Body), strconv.FormatInt(granted, 10), way)
	}
}

func adapterRefused(b *adapterBench) {
	const who = tenant.ID("refused")
	require.NoError(b, tenant.ConfigureBudget(b.Context(), b.db, who, func(budget *tenant.Budget) error {
		budget.Limits.DailyCost = tenant.USD("0")
		return nil
	}))
	for way, call := range b.ways() {
		p := b.server.play(&play{reply: b.always(usage(6))})
		reply, err := call(b.context(who))
		var exceeded *tenant.BudgetExceededError
		require.ErrorAs(b, err, &exceeded, way)
		require.Nil(b, reply)
		require.Empty(b, p.got(), way)
	}
	require.Empty(b, b.executions(who))
}

// adapterFailed: one call is one request, and one that the provider turns down costs nothing, and says whether it is to be
// tried again.
func adapterFailed(b *adapterBench) {
	for _, status := range []int{http.StatusTooManyRequests, http.StatusInternalServerError} {
		for way, call := range b.ways() {
			who := tenant.ID(fmt.Sprintf("failed-%d-%s", status, way))
			p := b.server.play(&play{reply: func(*Request) Reply {
				r := b.sdk.Wire.Error(status)
				r.Header.Set("Retry-After", "7")
				r.Header.Del("Retry-After-Ms")
				return r
			}})
			reply, err := call(b.context(who))
			require.Nil(b, reply, way)
			var failed *tenant.CallError
			require.ErrorAs(b, err, &failed, way)
			require.ErrorIs(b, err, tenant.ErrNotBilled, way)
			require.True(b, failed.Retryable(), way)
			require.Equal(b, 7*time.Second, failed.RetryAfter(), way)
			require.NotContains(b, err.Error(), "Try again later", "the provider's sentences can quote what is secret")
			require.Len(b, p.got(), 1, "%s: one call is one request", way)
			b.requireFailed(&b.settled(who, 1)[0], fmt.Sprintf("http_%d", status))
		}
	}
}

// adapterLeft: a stream that its reader gives up is given up by the server, and charged for what came.
func adapterLeft(b *adapterBench) {
	const read = 2
	for _, how := range []string{"break", "panic", "cancelled"} {
		who := tenant.ID(how)
		var came []Part
		p := &play{endless: true}
		p.reply = func(r *Request) Reply {
			reply := b.sdk.Wire.Stream(r, pieces, usage(5))
			came = reply.Parts[:1+slices.IndexFunc(reply.Parts, func(p Part) bool { return p.Text == pieces[read-1] })]
			reply.Parts = came
			return reply
		}
		b.server.play(p)
		ctx, cancel := context.WithCancel(b.context(who))
		var last error
		func() {
			defer func() {
				if how == "panic" {
					require.Equal(b, "ouch", recover())
				}
			}()
			seen := 0
			for chunk, err := range b.agent.Stream(ctx, Question) {
				if last = err; err != nil {
					require.Empty(b, chunk.Text)
					continue
				}
				if seen++; seen < read {
					continue
				}
				switch how {
				case "break":
					return
				case "panic":
					panic("ouch") //nolint:forbidigo // the body of the loop is a host's
				default:
					cancel()
				}
			}
		}()
		if how == "cancelled" {
			require.ErrorIs(b, last, context.Canceled)
		}
		e := b.executions(who)[0]
		require.NotNil(b, e.FinishedAt, "it is on the books when the loop is over")
		b.requireCutShort(&e, came, p.got()[0])
		select {
		case <-p.left:
		case <-time.After(patience):
			require.Fail(b, "the server has not seen that the reader has gone", how)
		}
		cancel()
	}
}

// adapterCut: what the provider does not finish is an error, also where the connection ends as if all were well, and is
// charged for what came; all that it held, where nobody can say.
func adapterCut(b *adapterBench) {
	for _, abrupt := range []bool{true, false} {
		who := tenant.ID(fmt.Sprintf("cut-%v", abrupt))
		var came []Part
		b.server.play(&play{reply: func(r *Request) Reply {
			reply := b.sdk.Wire.Stream(r, pieces, usage(5))
			came = reply.Parts[:1+slices.IndexFunc(reply.Parts, func(p Part) bool { return p.Text == pieces[1] })]
			reply.Parts, reply.Abort = came, abrupt
			return reply
		}})
		reply, err := b.ways()["streamed"](b.context(who))
		var failed *tenant.CallError
		require.ErrorAs(b, err, &failed)
		require.NotErrorIs(b, err, tenant.ErrNotBilled)
		require.False(b, failed.Retryable(), "a part of it was handed out")
		require.Equal(b, pieces[0]+pieces[1], reply.Text)
		e := b.settled(who, 1)[0]
		require.Equal(b, "error", e.ErrorCode)
		e.ErrorCode = "closed"
		b.requireCutShort(&e, came, b.server.on.got()[0])
	}

	const who = tenant.ID("cut")
	b.server.play(&play{reply: func(r *Request) Reply {
		reply := b.answer(r, usage(5))
		reply.Parts[0].Data = reply.Parts[0].Data[:40]
		reply.Abort = true
		return reply
	}})
	reply, err := b.agent.Call(b.context(who), Question)
	require.Nil(b, reply)
	require.NotErrorIs(b, err, tenant.ErrNotBilled)
	e := b.settled(who, 1)[0]
	require.True(b, e.Estimated)
	require.Equal(b, e.HeldCostNano, e.CostNano)
}

var errWrong = errors.New("the reply is another tenant's")

func adapterTenants(b *adapterBench) {
	b.server.play(&play{reply: b.always(usage(8))})
	const each = 4
	ends := make(chan error, 4*each)
	for _, call := range b.ways() {
		for _, who := range []tenant.ID{"one", "other"} {
			for range each {
				go func() {
					reply, err := call(b.context(who))
					if err == nil && reply.TenantID != string(who) {
						err = errWrong
					}
					ends <- err
				}()
			}
		}
	}
	for range cap(ends) {
		require.NoError(b, <-ends)
	}
	b.settled("one", 2*each)
	b.settled("other", 2*each)
}
