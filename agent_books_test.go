package tenant_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/tenanttest"
)

func TestReply_ThatCannotBeBookedIsHandedOutAsPending(t *testing.T) {
	t.Parallel()
	db, ledger := tenanttest.Open(t, tenant.WithSettleWait(50*time.Millisecond), tenant.WithLogger(slog.New(slog.DiscardHandler)))
	pool, err := db.DB()
	require.NoError(t, err)
	writer, err := pool.Conn(t.Context())
	require.NoError(t, err)
	model := tenanttest.NewModel(func(ctx context.Context, _ *tenant.Request) (*tenant.Response, error) {
		_, err := writer.ExecContext(ctx, "BEGIN IMMEDIATE") // nobody else writes until it is rolled back
		return &tenant.Response{Text: "paid for", Usage: &tenant.Usage{Input: 1000, Output: 500}}, err
	})
	reply, err := newAgent(t, ledger, model).Call(t.Context(), "Hi", tenant.WithTenant(acme))
	require.NoError(t, err)
	require.Equal(t, "paid for", reply.Text)
	require.True(t, reply.Pending)
	require.Equal(t, "0.002", reply.Cost.String())

	_, err = writer.ExecContext(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	require.NoError(t, writer.Close())
	require.NoError(t, ledger.Close(t.Context()), "it is booked in the end")
	require.EqualValues(t, 2_000_000, executions(t, db)[0].Cost)
}

func TestReply_IsHandedOutAlsoWhenTheLedgerIsClosed(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	db, ledger := tenanttest.Open(t, tenant.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	model := tenanttest.NewModel(func(context.Context, *tenant.Request) (*tenant.Response, error) {
		var unsettled *tenant.UnsettledError
		require.ErrorAs(t, ledger.Close(ended), &unsettled)
		return &tenant.Response{Text: "paid for", Usage: &tenant.Usage{Input: 1000, Output: 500}}, nil
	})
	agent := newAgent(t, ledger, model, tenant.WithMaxTokens(500))
	reply, err := agent.Call(t.Context(), "Hi", tenant.WithTenant(acme))
	require.NoError(t, err)
	require.Equal(t, "paid for", reply.Text)
	require.True(t, reply.Pending)
	require.True(t, reply.Estimated)
	require.Equal(t, "0.002026", reply.Cost.String(), "its hold stands for it")
	require.Contains(t, log.String(), reply.ExecutionID)
	require.Equal(t, "running", executions(t, db)[0].Status)

	_, err = agent.Call(t.Context(), "Hi")
	require.ErrorIs(t, err, tenant.ErrClosed)
}

func TestAgent_NeverCallsTheModelForADuplicateKey(t *testing.T) {
	t.Parallel()
	_, ledger := tenanttest.Open(t)
	model := tenanttest.NewModel()
	agent := newAgent(t, ledger, model, tenant.WithTenant(acme))
	reply, err := agent.Call(t.Context(), "Hi", tenant.WithIdempotencyKey("k"))
	require.NoError(t, err)
	_, err = agent.Call(t.Context(), "Hi", tenant.WithIdempotencyKey("k"))
	var duplicate *tenant.DuplicateError
	require.ErrorAs(t, err, &duplicate)
	require.Equal(t, reply.ExecutionID, duplicate.ExecutionID)
	require.Len(t, model.Requests(), 1)
}

func TestAgent_ConcurrentCallsStayInTheBudget(t *testing.T) {
	t.Parallel()
	const callers = 32
	db, ledger := tenanttest.Open(t, hardDaily("0.02")...)
	agent := newAgent(t, ledger, tenanttest.NewModel(), tenant.WithTenant(acme), tenant.WithMaxTokens(500), tenant.WithParam("p", 0))
	results := make([]error, callers)
	var calls sync.WaitGroup
	for i := range callers {
		calls.Go(func() {
			_, results[i] = agent.Call(t.Context(), "Hi", tenant.WithParam("p", i), tenant.WithTag("i", fmt.Sprint(i)))
		})
	}
	calls.Wait()
	made := 0
	for _, err := range results {
		if err == nil {
			made++
			continue
		}
		require.ErrorIs(t, err, tenant.ErrBudgetExceeded)
	}
	var spent int64
	rows := executions(t, db)
	for _, row := range rows {
		spent += row.Cost
	}
	require.Len(t, rows, made)
	require.LessOrEqual(t, spent, int64(20_000_000))
	require.GreaterOrEqual(t, made, 9, "the budget pays for nine whole calls, and all of them are made")
}
