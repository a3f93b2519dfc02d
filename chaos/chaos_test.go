package main

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/pgtest"
)

func TestMain(m *testing.M) {
	if isWorker() {
		os.Exit(workerMain())
	}
	pgtest.Main(m)
}

// Its length is short for the sake of CI's time. "go run ./chaos" makes longer ones.
func TestChaos_BreaksNoPromise(t *testing.T) {
	t.Parallel()
	server, err := pgtest.Start(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	c := defaults()
	c.URL, c.Duration = server.URL(), 12*time.Second
	c.Restart = func(ctx context.Context) error { return server.Restart(ctx, pgtest.Immediate) }
	violations, err := run(t.Context(), c, t.Output())
	require.NoError(t, err)
	require.Empty(t, violations, report(violations))
}

func TestLargest_IsTheLargestAmountThatMayHaveBeenInForce(t *testing.T) {
	t.Parallel()
	at := func(second int64) time.Time { return time.Unix(second, 0) }
	history := []change{
		{began: at(0), done: at(1), amount: 10},
		{began: at(10), done: at(12), amount: 5},
		{began: at(20), amount: 30}, // its answer was lost
		{began: at(30), done: at(31), amount: 2},
	}
	for second, want := range map[int64]int64{1: 10, 9: 10, 11: 10, 12: 5, 19: 5, 20: 30, 29: 30, 30: 30, 31: 2, 99: 2} {
		require.Equal(t, want, largest(history, at(second)), "at second %d", second)
	}
	require.EqualValues(t, 10, largestWithin(history, at(1), at(9)))
	require.EqualValues(t, 30, largestWithin(history, at(13), at(99)))
	require.EqualValues(t, 2, largestWithin(history, at(31), at(99)))
}
