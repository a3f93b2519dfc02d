package tenant_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/pgtest"
)

// told is a model that answers when and as it is told.
type told struct {
	called func()
	answer <-chan string
}

var errUnbilled = errors.New("the provider is out of order")

func (told) Info() tenant.ModelInfo { return tenant.ModelInfo{Provider: "test", Name: "m"} }

func (m told) Generate(context.Context, *tenant.Request) (*tenant.Response, error) {
	m.called()
	if answer := <-m.answer; answer != "reply" {
		return nil, errors.Join(errUnbilled, tenant.ErrNotBilled)
	}
	return &tenant.Response{Text: "hello", Usage: &tenant.Usage{Output: 5}}, nil
}

// outcome is the result of a call in words.
func outcome(reply *tenant.Reply, err error) string {
	var duplicate *tenant.DuplicateError
	switch {
	case errors.As(err, &duplicate):
		return strings.Join([]string{"duplicate", duplicate.ExecutionID, duplicate.Status}, " ")
	case errors.Is(err, errUnbilled):
		return "failed"
	case err != nil:
		return "error " + err.Error()
	}
	return "replied " + reply.ExecutionID
}

func TestIdempotencyKey_MakesOneCallOfTwoProcesses(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	db := openAt(t, postgres.Open(dsn))
	one, other := start(t, "idempotent", dsn), start(t, "idempotent", dsn)
	for _, p := range []*peer{one, other} {
		require.Equal(t, "ready", p.hear(t))
	}
	for _, key := range []string{"a", "b", "c", "d", "e"} {
		one.tell(t, key)
		other.tell(t, key)
		// Whoever comes first is in the model until it is told what to answer.
		first, second := one, other
		said := []string{one.hear(t), other.hear(t)}
		if said[1] == "called" {
			first, second = other, one
			said[0], said[1] = said[1], said[0]
		}
		require.Equal(t, "called", said[0])
		duplicate := strings.Fields(said[1])
		require.Len(t, duplicate, 3, "%v", duplicate)
		require.Equal(t, []string{"duplicate", "running"}, []string{duplicate[0], duplicate[2]})

		// A call that failed frees its key.
		first.tell(t, "fail")
		require.Equal(t, "failed", first.hear(t))
		second.tell(t, key)
		require.Equal(t, "called", second.hear(t))
		second.tell(t, "reply")
		execution, ok := strings.CutPrefix(second.hear(t), "replied ")
		require.True(t, ok)
		require.NotEqual(t, duplicate[1], execution)

		// One that succeeded keeps it.
		for _, p := range []*peer{first, second} {
			p.tell(t, key)
			require.Equal(t, "duplicate "+execution+" succeeded", p.hear(t))
		}
		var ids []string
		require.NoError(t, db.Raw(`SELECT CAST(id AS text) FROM llm_executions WHERE idempotency_key = ? ORDER BY id`, key).Scan(&ids).Error)
		require.Equal(t, []string{duplicate[1], execution}, ids, "what the duplicate named, and what took its place")
	}
	for _, p := range []*peer{one, other} {
		require.NoError(t, p.in.Close())
		require.Empty(t, p.hearAll(), "the model was not called again")
	}
	requireConservation(t, db)
}

// callIdempotently makes a call for each key that it is told. The model is told how to answer in the same way.
func callIdempotently(t *testing.T, db *gorm.DB, _ []string) {
	ledger := openLedger(t, db)
	lines := commands()
	agent, err := tenant.NewAgent(ledger, told{func() { say("called") }, lines})
	require.NoError(t, err)
	say("ready")
	for key := range lines {
		say("%s", outcome(agent.Call(t.Context(), "Hello", tenant.WithTenant(tenant.ID("acme")), tenant.WithIdempotencyKey(key))))
	}
}

func TestIdempotencyKey_MakesOneCallOfManyGoroutines(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		var calls atomic.Int64
		answer := make(chan string)
		agent, err := tenant.NewAgent(ledger, told{func() { calls.Add(1) }, answer})
		require.NoError(t, err)
		call := func(outcomes chan<- string) {
			outcomes <- outcome(agent.Call(context.Background(), "Hello", tenant.WithTenant(tenant.ID("acme")), tenant.WithIdempotencyKey("k")))
		}
		for _, round := range []struct {
			answer, outcome string
			calls           int64
		}{{"fail", "failed", 1}, {"reply", "replied", 2}} {
			outcomes := make(chan string)
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() { call(outcomes) })
			}
			var execution string
			for i := range 7 {
				words := strings.Fields(<-outcomes)
				require.Len(t, words, 3, "%v", words)
				require.Equal(t, []string{"duplicate", "running"}, []string{words[0], words[2]})
				if i > 0 {
					require.Equal(t, execution, words[1])
				}
				execution = words[1]
			}
			answer <- round.answer
			last := <-outcomes
			wg.Wait()
			require.Equal(t, round.outcome, strings.Fields(last)[0], "%s", last)
			if round.answer == "reply" {
				require.Equal(t, "replied "+execution, last)
			}
			require.Equal(t, round.calls, calls.Load())
		}
		requireConservation(t, db)
	})
}

// A key stays taken for as long as it is promised, also when its call is gone; and for as long as its call is kept.
func TestIdempotency_KeysOutliveTheirCalls(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, db *gorm.DB, ledger *tenant.Ledger) {
		settled, err := ledger.Record(t.Context(), acme, tenant.Actual{Cost: tenant.USD("0.25"), Charge: tenant.USD("0.5"), Usage: tenant.Usage{Input: 1}}, tenant.WithIdempotencyKey("order-9"))
		require.NoError(t, err)
		hold, err := ledger.Reserve(t.Context(), acme, tenant.Estimate{Cost: tenant.USD("1")}, tenant.WithIdempotencyKey("order-10"))
		require.NoError(t, err)
		_, err = ledger.Settle(t.Context(), hold, tenant.Actual{Cost: tenant.USD("0.75"), Usage: tenant.Usage{Input: 1}})
		require.NoError(t, err)
		_, err = ledger.Credit(t.Context(), acme, tenant.USD("3"), "goodwill", tenant.WithIdempotencyKey("credit-1"))
		require.NoError(t, err)
		d := dialectOf(db)
		age := func(table, column string, by time.Duration) {
			require.NoError(t, db.Exec(`UPDATE `+table+` SET `+column+` = ?`, d.Time(time.Now().UTC().Add(-by))).Error)
		}
		for _, column := range []string{"admitted_at", "finished_at", "settled_at"} {
			age("llm_executions", column, 200*24*time.Hour)
		}
		age("llm_idempotency", "taken_at", 99*24*time.Hour)
		duplicates := func() {
			t.Helper()
			for key, want := range map[string][]string{
				"order-9": {settled.ExecutionID, "succeeded", "0.25", "0.5"}, "order-10": {hold.ExecutionID, "succeeded", "0.75", "0.75"},
			} {
				_, err := ledger.Record(t.Context(), acme, tenant.Actual{Usage: tenant.Usage{Input: 1}}, tenant.WithIdempotencyKey(key))
				taken := (*tenant.DuplicateError)(nil)
				require.ErrorAs(t, err, &taken)
				require.Equal(t, want, []string{taken.ExecutionID, taken.Status, taken.Cost.String(), taken.Charge.String()})
			}
			s, err := ledger.Credit(t.Context(), acme, tenant.USD("3"), "goodwill", tenant.WithIdempotencyKey("credit-1"))
			require.NoError(t, err)
			require.Equal(t, []any{tenant.AlreadySettled, "-3"}, []any{s.Outcome, s.Charge.String()})
		}
		duplicates()
		report, err := ledger.Prune(t.Context(), time.Now().Add(-100*24*time.Hour))
		require.NoError(t, err)
		require.EqualValues(t, 3, report.Executions)
		require.Zero(t, countRows(t, db, "llm_executions"))
		duplicates()

		age("llm_idempotency", "taken_at", 101*24*time.Hour)
		_, err = ledger.Record(t.Context(), acme, tenant.Actual{Usage: tenant.Usage{Input: 1}}, tenant.WithIdempotencyKey("order-11"))
		require.NoError(t, err)
		age("llm_idempotency", "taken_at", 102*24*time.Hour)
		_, err = ledger.Prune(t.Context(), time.Now().Add(-100*24*time.Hour))
		require.NoError(t, err)
		require.EqualValues(t, 1, countRows(t, db, "llm_idempotency"), "that of a call that is kept")
		_, err = ledger.Record(t.Context(), acme, tenant.Actual{Usage: tenant.Usage{Input: 1}}, tenant.WithIdempotencyKey("order-9"))
		require.NoError(t, err, "it is free again")
		require.ErrorIs(t, second(ledger.Record(t.Context(), acme, tenant.Actual{}, tenant.WithIdempotencyKey("order-11"))), tenant.ErrDuplicate)
	}, tenant.WithKeysKept(100*24*time.Hour))
}
