package tenant_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanttest"
)

func TestAdmitted_SaysWhatIsHeldAndEndsOnce(t *testing.T) {
	t.Parallel()
	eachWatched(t, func(t *testing.T, _ *gorm.DB, ledger *tenant.Ledger, w *witness) {
		estimate := tenant.Estimate{Provider: "openai", Model: "m", Cost: tenant.USD("2"), InputTokens: 10, OutputTokens: 300, Operation: "embeddings"}
		var holds []*tenant.Hold
		for range 3 {
			hold, err := ledger.Reserve(t.Context(), tenant.ID("acme"), estimate, tenant.WithAgent("support"))
			require.NoError(t, err)
			holds = append(holds, hold)
		}
		require.Equal(t, 3, ledger.Holds().Calls)
		require.Equal(t, "6", ledger.Holds().Cost.String())
		require.EqualValues(t, 930, ledger.Holds().Tokens)

		_, err := ledger.Settle(t.Context(), holds[0], tenant.Actual{Cost: tenant.USD("1")})
		require.NoError(t, err)
		for range 2 {
			_, err = ledger.Release(t.Context(), holds[1])
			require.NoError(t, err)
		}
		require.NoError(t, ledger.Defer(t.Context(), holds[2], "later"))
		require.Zero(t, ledger.Holds().Calls)
		require.True(t, ledger.Holds().Cost.IsZero())

		admitted := of[*tenant.AdmittedEvent](w)
		require.Len(t, admitted, 3)
		for i, e := range admitted {
			require.Positive(t, e.Waited)
			e.Waited = 0
			require.Equal(t, "2", e.HeldCost.String())
			require.Equal(t, tenant.AdmittedEvent{
				TenantID: "acme", ExecutionID: holds[i].ExecutionID, Agent: "support", Provider: "openai", Model: "m", Operation: "embeddings",
				HeldCost: e.HeldCost, HeldTokens: 310, OutputTokens: 300,
			}, *e)
		}
		settled := of[*tenant.SettledEvent](w)
		require.Len(t, settled, 1)
		require.Equal(t, "embeddings", settled[0].Operation)
		require.Equal(t, []*tenant.ReleasedEvent{{
			TenantID: "acme", ExecutionID: holds[1].ExecutionID, Agent: "support", Provider: "openai", Model: "m", Operation: "embeddings",
		}}, of[*tenant.ReleasedEvent](w))
		require.Equal(t, []*tenant.DeferredEvent{{
			TenantID: "acme", ExecutionID: holds[2].ExecutionID, Agent: "support", Provider: "openai", Model: "m", Operation: "embeddings",
		}}, of[*tenant.DeferredEvent](w))

		_, err = ledger.SettleDeferred(t.Context(), tenant.ID("acme"), "later", tenant.Actual{Cost: tenant.USD("1")})
		require.NoError(t, err)
		settled = of[*tenant.SettledEvent](w)
		require.Len(t, settled, 2)
		require.Equal(t, "chat", settled[1].Operation, "another process would not know it")

		n := 0
		for _, b := range of[*tenant.BatchEvent](w) {
			n += b.Operations
			require.NoError(t, b.Err)
			require.Positive(t, b.Duration)
		}
		require.GreaterOrEqual(t, n, 7, "each went to the database")
	})
}

func TestRefusals_ThatWereNotDecidedAreToldOfToo(t *testing.T) {
	t.Parallel()
	eachWatched(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, w *witness) {
		var holds []*tenant.Hold
		reserve := func(ctx context.Context, options ...tenant.ReserveOption) error {
			hold, err := ledger.Reserve(ctx, tenant.ID("acme"), tenant.Estimate{Model: "m", Cost: tenant.USD("1")}, options...)
			if err == nil {
				holds = append(holds, hold)
			}
			return err
		}
		require.NoError(t, reserve(t.Context(), tenant.WithIdempotencyKey("once")))
		require.ErrorIs(t, reserve(t.Context(), tenant.WithIdempotencyKey("once")), tenant.ErrDuplicate)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, reserve(gone), context.Canceled)
		require.NoError(t, tenant.ConfigureBudget(t.Context(), db, tenant.ID("acme"), func(b *tenant.Budget) error {
			b.Limits, b.Enforcement = tenant.Limits{DailyCost: tenant.USD("0.5")}, tenant.Hard
			return nil
		}))
		require.ErrorIs(t, reserve(t.Context()), tenant.ErrBudgetExceeded)
		require.ErrorIs(t, reserve(t.Context(), tenant.WithWait(-1)), tenant.ErrInvalidOption)
		for _, hold := range holds {
			_, err := ledger.Release(t.Context(), hold)
			require.NoError(t, err)
		}
		require.NoError(t, ledger.Close(t.Context()))
		require.ErrorIs(t, reserve(t.Context()), tenant.ErrClosed)

		var errs []error
		for _, e := range of[*tenant.RefusalEvent](w) {
			require.Equal(t, "acme", e.TenantID)
			require.Equal(t, "chat", e.Operation)
			errs = append(errs, e.Err)
		}
		require.Len(t, errs, 4)
		for i, want := range []error{tenant.ErrDuplicate, context.Canceled, tenant.ErrBudgetExceeded, tenant.ErrClosed} {
			require.ErrorIs(t, errs[i], want)
		}
		require.Len(t, of[*tenant.HostErrorEvent](w), 1, "what is wrong with the program is no refusal")
	})
}

func TestSweep_IsToldOfWithWhatItHasEnded(t *testing.T) {
	t.Parallel()
	eachWatched(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger, w *witness) {
		hold, err := ledger.Reserve(t.Context(), tenant.ID("acme"), cent)
		require.NoError(t, err)
		require.NoError(t, db.Exec(`UPDATE llm_executions SET deadline_at = admitted_at WHERE id = ?`, hold.ExecutionID).Error)
		require.Eventually(t, func() bool {
			n := 0
			for _, e := range of[*tenant.SweepEvent](w) {
				n += e.Abandoned
			}
			return n == 1
		}, time.Minute, 5*time.Millisecond)
		require.Equal(t, "abandoned", of[*tenant.SettledEvent](w)[0].Status)
		_, err = ledger.Release(t.Context(), hold)
		require.NoError(t, err)
		require.Empty(t, of[*tenant.ReleasedEvent](w), "it is charged")
	}, tenant.WithLease(200*time.Millisecond))
}

// spans puts the name of each call into its context, and keeps which contexts events come with.
type spans struct {
	mu   sync.Mutex
	seen map[string]any // by execution: what the context of its end has
	none bool           // it returns a nil context
}

type spanKey struct{}

func (s *spans) Observe(ctx context.Context, e tenant.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := e.(*tenant.SettledEvent); ok {
		s.seen[e.ExecutionID] = ctx.Value(spanKey{})
	}
}

func (s *spans) ContextOfCall(ctx context.Context, e *tenant.AdmittedEvent) context.Context {
	if s.none {
		return nil
	}
	return context.WithValue(ctx, spanKey{}, e.ExecutionID)
}

func TestCallObserver_HasItsContextInTheCallAndAtItsEnd(t *testing.T) {
	t.Parallel()
	for _, none := range []bool{false, true} {
		s, w := &spans{seen: map[string]any{}, none: none}, &witness{}
		_, ledger := tenanttest.Open(t, tenant.WithObserver(s), tenant.WithObserver(w))
		var inside any
		agent, err := tenant.NewAgent(ledger, within{tenanttest.NewModel(tenanttest.Text("Hi", tenant.Usage{Input: 1, Output: 1})), func(ctx context.Context) { inside = ctx.Value(spanKey{}) }})
		require.NoError(t, err)
		reply, err := agent.Call(t.Context(), "Hello", tenant.WithTenant(tenant.ID("acme")))
		require.NoError(t, err)
		want := any(reply.ExecutionID)
		if none {
			want = nil
		}
		require.Equal(t, want, inside)
		require.Equal(t, want, s.seen[reply.ExecutionID])
		require.Len(t, of[*tenant.SettledEvent](w), 1, "each observer hears")
	}
}

// within is a model that shows the context that it is called with.
type within struct {
	tenant.Model
	show func(context.Context)
}

func (m within) Generate(ctx context.Context, r *tenant.Request) (*tenant.Response, error) {
	m.show(ctx)
	return m.Model.Generate(ctx, r)
}

func TestLogObserver_CanBeGivenBesideAnother(t *testing.T) {
	t.Parallel()
	var (
		mu  sync.Mutex
		log bytes.Buffer
	)
	w := &witness{}
	to := slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return log.Write(p)
	}), nil))
	_, ledger := tenanttest.Open(t, tenant.WithObserver(panics{}), tenant.WithObserver(w), tenant.WithObserver(tenant.LogObserver(to)))
	_, err := ledger.Record(t.Context(), tenant.ID("acme"), tenant.Actual{Model: "nobody knows", Usage: tenant.Usage{Input: 1}})
	require.NoError(t, err)
	require.Len(t, of[*tenant.UnpricedEvent](w), 1, "also after one that panics")
	mu.Lock()
	defer mu.Unlock()
	require.Contains(t, log.String(), "booked without a cost")
}

type writer func([]byte) (int, error)

func (f writer) Write(p []byte) (int, error) { return f(p) }

type panics struct{}

func (panics) Observe(context.Context, tenant.Event) { panic(errors.New("not my day")) }

// Nobody pays for events that nobody hears of.
func TestEvents_AllocateNothingWhereNobodyListens(t *testing.T) { //nolint:paralleltest // it counts what the whole process allocates
	calls := func(options ...tenant.OpenOption) float64 {
		_, ledger := tenanttest.Open(t, options...)
		return testing.AllocsPerRun(200, func() {
			hold, err := ledger.Reserve(t.Context(), tenant.ID("acme"), cent)
			require.NoError(t, err)
			_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.001")})
			require.NoError(t, err)
		})
	}
	silent, heard := calls(), calls(tenant.WithObserver(&spans{seen: map[string]any{}}))
	require.Less(t, silent, heard, "an admission, a settle and two batches")
}
