package harness

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
	"github.com/llmtenant/tenant/tenanthttp"
)

// A bench is an SDK over the transport, between a ledger on Postgres and a server that plays the provider.
type bench struct {
	*testing.T // of the case that runs

	sdk     *SDK
	calls   Calls
	db      *gorm.DB
	ledger  *tenant.Ledger
	server  *server
	tap     *tap
	witness *witness
}

func newBench(t *testing.T, sdk *SDK) *bench {
	b := &bench{T: t, sdk: sdk, server: newServer(t, sdk.Check), witness: &witness{}}
	var err error
	b.db, err = gorm.Open(postgres.Open(pgtest.DSN(t)), &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	pool, err := b.db.DB()
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	// A hard limit, so that every call has to be held; one that no case reaches.
	b.ledger, err = tenant.Open(b.db, tenant.WithPrices(prices{}), tenant.WithObserver(b.witness),
		tenant.WithDefaultLimits(tenant.Limits{DailyCost: tenant.USD("1000")}), tenant.WithDefaultEnforcement(tenant.Hard))
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, b.ledger.Close(ctx))
	})
	base := http.DefaultTransport.(*http.Transport).Clone() // so that no connection of another SDK's is met
	t.Cleanup(base.CloseIdleConnections)
	transport, err := tenanthttp.NewTransport(b.ledger, base)
	require.NoError(t, err)
	b.tap = &tap{next: transport}
	b.calls = sdk.New(t, &http.Client{Transport: b.tap}, b.server.URL)
	return b
}

// context is that of a tenant's calls.
func (b *bench) context(who tenant.ID) context.Context {
	return tenant.ContextWithTenant(b.Context(), who)
}

// executions are a tenant's calls on the books, the oldest first.
func (b *bench) executions(who tenant.ID) []tenant.Execution {
	b.Helper()
	var all []tenant.Execution
	require.NoError(b, tenant.Executions(b.Context(), b.db, who).Order("id").Find(&all).Error)
	return all
}

// settled waits until a tenant has so many calls on the books, all of which have ended: an SDK need not wait for the end.
func (b *bench) settled(who tenant.ID, n int) []tenant.Execution {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		all := b.executions(who)
		if len(all) >= n && !slices.ContainsFunc(all, func(e tenant.Execution) bool { return e.FinishedAt == nil }) {
			require.Len(b, all, n)
			return all
		}
		select {
		case <-ctx.Done():
			require.Fail(b, "not all calls have ended", "of %d: %+v", n, all)
		case <-look.C:
		}
	}
}

// requireBooked checks that an execution is what a reply says, at its price.
func (b *bench) requireBooked(e *tenant.Execution, who tenant.ID, r Reply) {
	b.Helper()
	model := r.Model
	if model == "" {
		model = Model
	}
	require.Equal(b, string(who), e.TenantID)
	require.Equal(b, "succeeded", e.Status)
	require.Empty(b, e.ErrorCode)
	require.Equal(b, Model, e.Model)
	require.Equal(b, model, e.BilledModel)
	require.NotZero(b, r.Usage, "the server is to state a usage")
	require.Equal(b, r.Usage, e.Usage)
	require.False(b, e.Estimated)
	require.Equal(b, cost(r.Usage), e.CostNano)
	require.EqualValues(b, 1, e.Calls)
	require.Positive(b, e.HeldCostNano, "it was admitted before it was made")
}

// requireFailed checks that an execution is an attempt that the provider has turned down.
func (b *bench) requireFailed(e *tenant.Execution, code string) {
	b.Helper()
	require.Equal(b, "failed", e.Status)
	require.Equal(b, code, e.ErrorCode)
	require.Zero(b, e.CostNano)
	require.Zero(b, e.Tokens)
	require.False(b, e.Estimated)
}

// nothingIsLeft checks that the books agree with themselves, and that nothing is held any more.
func (b *bench) nothingIsLeft() {
	b.Helper()
	differences, err := b.ledger.Verify(b.Context())
	require.NoError(b, err)
	require.Empty(b, differences)
	var held struct{ Cost, Tokens, Calls, Running int64 }
	require.NoError(b, b.db.WithContext(b.Context()).Raw(`SELECT
		(SELECT coalesce(sum(held_cost), 0) FROM llm_balances) AS cost,
		(SELECT coalesce(sum(held_tokens), 0) FROM llm_balances) AS tokens,
		(SELECT coalesce(sum(held_calls), 0) FROM llm_balances) AS calls,
		(SELECT count(*) FROM llm_executions WHERE status = 'running') AS running`).Scan(&held).Error)
	require.Zero(b, held)
	require.Empty(b, b.witness.unmetered(), "a request was not recognised")
}

// witness keeps what the observer hears.
type witness struct {
	mu     sync.Mutex
	events []tenant.Event
}

// Observe implements tenant.Observer.
func (w *witness) Observe(_ context.Context, e tenant.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

func (w *witness) unmetered() []tenant.UnmeteredEvent { return heard[tenant.UnmeteredEvent](w) }

func (w *witness) refusals() []tenant.RefusalEvent { return heard[tenant.RefusalEvent](w) }

func heard[E any](w *witness) (all []E) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e, ok := e.(any).(*E); ok {
			all = append(all, *e)
		}
	}
	return all
}
