package tenanthttp_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
	"github.com/llmtenant/tenant/tenanthttp"
	"github.com/llmtenant/tenant/tenanttest"
)

// onServer is a bench on a server of PostgreSQL's that the test may stop.
func onServer(t *testing.T, handler http.HandlerFunc) (*bench, *pgtest.Server) {
	t.Helper()
	server := pgtest.Cluster(t)
	b := &bench{t: t, witness: &witness{}, ctx: tenant.ContextWithTenant(t.Context(), acme), server: httptest.NewServer(handler)}
	t.Cleanup(b.server.Close)
	var err error
	b.db, err = gorm.Open(postgres.Open(server.URL()), &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	pool, err := b.db.DB()
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	b.ledger, err = tenant.Open(b.db, tenant.WithObserver(b.witness), tenant.WithPrices(tenanttest.Prices()), tenant.WithSettleWait(50*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute) // a test that has failed may have left the server stopped
		defer cancel()
		require.NoError(t, b.ledger.Close(ctx))
	})
	b.transport, err = tenanthttp.NewTransport(b.ledger, b.server.Client().Transport)
	require.NoError(t, err)
	b.client = &http.Client{Transport: b.transport}
	return b, server
}

func (b *bench) requireBooked() {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return b.ledger.Pending() == tenant.PendingStatus{} }, time.Minute, 5*time.Millisecond)
	differs, err := b.ledger.Verify(b.t.Context())
	require.NoError(b.t, err)
	require.Empty(b.t, differs)
}

func (b *bench) requirePending(bookings int) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return b.ledger.Pending().Bookings == bookings }, time.Minute, 5*time.Millisecond, "%+v", b.ledger.Pending())
}

func TestBatch_WhoseDatabaseIsStoppedIsBookedWhenItIsBack(t *testing.T) {
	t.Parallel()
	const lines = 200
	b, server := onServer(t, replies("application/json", outcomes(lines)))
	server.Stop(pgtest.Immediate)
	_, body := b.do(b.request(b.ctx, http.MethodGet, outputFile, ""))
	require.Equal(t, outcomes(lines), body)
	b.requirePending(lines)
	require.Empty(t, b.witness.unmetered(), "they are going to be booked")
	server.Start()
	b.requireBooked()
	b.do(b.request(b.ctx, http.MethodGet, outputFile, ""))
	b.requireBooked()
	keys := map[string]bool{}
	for _, e := range b.executions() {
		keys[e.IdempotencyKey] = true
		require.EqualValues(t, 2_000_000, e.CostNano)
	}
	require.Len(t, keys, lines)
	require.Len(t, b.executions(), lines)
}

func TestJobs_WhoseResultIsReadWhileTheDatabaseIsStoppedAreCharged(t *testing.T) {
	t.Parallel()
	c := jobs()[0]
	p := &provider{made: c.made, result: c.done}
	b, server := onServer(t, p.ServeHTTP)
	db, err := gorm.Open(postgres.Open(server.URL()), &gorm.Config{Logger: logger.Discard})
	require.NoError(t, err)
	pool, err := db.DB()
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	maker, err := tenant.Open(db, tenant.WithPrices(tenanttest.Prices()), tenant.WithSettleWait(time.Minute)) // it is deferred, however long that takes
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, maker.Close(context.WithoutCancel(t.Context()))) })
	transport, err := tenanthttp.NewTransport(maker, b.server.Client().Transport)
	require.NoError(t, err)
	b.client = &http.Client{Transport: transport}
	b.post(c.create, c.request)
	require.Equal(t, "running", b.execution().Status)
	server.Stop(pgtest.Immediate)
	b.elsewhere(b.ctx, c.read)
	b.elsewhere(tenant.ContextWithTenant(b.ctx, tenant.ID("other")), c.read)
	b.requirePending(2)
	server.Start()
	b.requireBooked()
	e := b.execution()
	require.Equal(t, "succeeded", e.Status)
	require.Equal(t, c.usage, e.Usage)
	require.EqualValues(t, 2_000_000, e.CostNano)
}

// What another model used for a call has its own price, also where it cannot be booked at once.
func TestCall_WhatAnotherModelUsedIsBookedWhenTheDatabaseTakesIt(t *testing.T) {
	t.Parallel()
	var b *bench
	answer := replies("application/json", `{"id":"m-1","model":"test-model","content":[],"stop_reason":"end_turn","usage":{"input_tokens":1000,"output_tokens":500,"iterations":[
		{"type":"message","model":"test-model","input_tokens":1000,"output_tokens":500},
		{"type":"advisor_message","model":"other","input_tokens":50,"output_tokens":5}]}}`)
	b, _ = onServer(t, func(w http.ResponseWriter, r *http.Request) {
		if err := b.db.Exec(`ALTER TABLE llm_usage RENAME TO elsewhere`).Error; err != nil {
			t.Error(err)
		}
		answer(w, r)
	})
	ctx := tenanthttp.ContextWithCall(b.ctx)
	b.do(b.request(ctx, http.MethodPost, "/v1/messages", `{"model":"test-model","max_tokens":1000,"messages":[{"role":"user","content":"Hello"}]}`))
	b.requirePending(2)
	require.NoError(t, b.db.Exec(`ALTER TABLE elsewhere RENAME TO llm_usage`).Error)
	b.requireBooked()
	used := map[string]tenant.Usage{}
	for _, e := range b.executions() {
		used[e.BilledModel] = e.Usage
	}
	require.Equal(t, map[string]tenant.Usage{"test-model": {Input: 1000, Output: 500}, "other": {Input: 50, Output: 5}}, used)
	require.Eventually(t, func() bool {
		last, _ := tenanthttp.LastCall(ctx)
		return last.BilledModel == "test-model" && !last.Pending
	}, time.Minute, time.Millisecond)
}
