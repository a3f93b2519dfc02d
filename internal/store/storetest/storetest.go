// Package storetest holds what every database of the ledger must do. Each of them runs it in its own tests.
package storetest

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/fault"
	"github.com/llmtenant/tenant/internal/sqldb"
	"github.com/llmtenant/tenant/internal/store"
)

// Open returns a store on a migrated database of the test's own, and a pool on the same database.
type Open func(testing.TB) (store.Store, *sql.DB)

// Run holds a store to the rules, each on a database of its own.
func Run(t *testing.T, open Open) {
	rules := []struct {
		name string
		hold func(*Books)
	}{
		{"effects are there after nil and none after an error", effectsAreAtomic},
		{"a batch without effects writes nothing", emptyWritesNothing},
		{"a panic of the decision leaves nothing behind", panicLeavesNothing},
		{"what is rehearsed is undone, and fails the batch where it cannot be written", rehearsalIsUndone},
		{"a session runs statements beside its batches", sessionRunsStatements},
		{"a cancelled context leaves nothing behind", cancelLeavesNothing},
		{"decide is not called when the state was not read", decideNotCalledOnError},
		{"tenants are found by key and by id", tenantsByKeyAndID},
		{"a tenant without an anchor is not there", anchorMakesTenant},
		{"calls without a tenant are booked out of the box", noTenantWorks},
		{"the defaults are read with every batch", defaultsAreRead},
		{"all above a tenant are locked and read with it", chainsAreRead},
		{"who moved since a session has met them is found where they are", movesAreSeen},
		{"the root is above all, if there is one", rootIsAboveAll},
		{"a call counts for all above its tenant at its admission", chainsAreBooked},
		{"a new limit counts what its window has seen", newLimitCounts},
		{"settings are read as they are stored", settingsRoundTrip},
		{"balances round-trip", balancesRoundTrip},
		{"now is of whole microseconds and never zero", nowIsMicroseconds},
		{"processes are read", processesAreRead},

		{"an execution is stored with every column", executionColumns},
		{"rows that are alike in part keep what is their own", alikeRows},
		{"an execution that is over is inserted with every column", finishedInsert},
		{"an execution is read as it was written", executionIsRead},
		{"strings are stored byte for byte", stringsRoundTrip},
		{"a cost that was not stated stays so", unstatedCost},
		{"idempotency keys are found while they are taken", idempotencyLookup},
		{"an execution has one copy in the state", oneCopy},
		{"an idempotency key is taken once", idempotencyIsUnique},
		{"an idempotency key is free again within the batch that frees it", idempotencyIsFreed},
		{"a tombstone does not need its idempotency key", tombstoneWithTakenKey},
		{"an idempotency key stays taken when its execution is gone", idempotencyOutlives},
		{"an execution id is taken once", executionIDIsUnique},
		{"a settled or changed execution fails the batch", guardOnUpdates},
		{"the roll-up adds up over batches", rollUpAddsUp},
		{"a roll-up beyond 64 bits fails the batch", rollUpOverflows},
		{"batches of 500 operations are booked whole", largeBatches},

		{"parallel sessions lose no update", parallelSessions},
		{"many tenants in parallel batches lose no update", parallelTenants},
	}
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			t.Parallel()
			s, db := open(t)
			rule.hold(New(t, s, db))
		})
	}
}

// Books are a store under test.
type Books struct {
	*testing.T
	Store   store.Store
	DB      *sql.DB
	Session store.Session
}

// New returns the books of a store with one session.
func New(t *testing.T, s store.Store, db *sql.DB) *Books {
	b := &Books{T: t, Store: s, DB: db}
	b.Session = b.NewSession()
	return b
}

// NewSession returns a session that ends with the test.
func (b *Books) NewSession() store.Session {
	s := b.Store.Session()
	b.Cleanup(func() { _ = s.Close() })
	return s
}

var config = decide.Config{Zone: func(string) *time.Location { return time.UTC }, WeekStart: time.Monday}

// Now is a time that makes a difference to every field of a time.
var now = time.Date(2026, 3, 4, 5, 6, 7, 89012000, time.UTC)

// ID returns an id that is not in use.
func ID() book.ID { return uuid.Must(uuid.NewV7()) }

const (
	stamp = "2006-01-02 15:04:05.000000+00:00"
	epoch = "1970-01-01 00:00:00.000000+00:00"
)

// Exec runs one statement.
func (b *Books) Exec(query string, args ...any) {
	b.Helper()
	_, err := b.DB.ExecContext(b.Context(), query, args...)
	require.NoError(b, err, query)
}

// tx runs statements as one transaction.
func (b *Books) tx(run func(exec func(query string, args ...any))) {
	b.Helper()
	tx, err := b.DB.BeginTx(b.Context(), nil)
	require.NoError(b, err)
	defer func() { _ = tx.Rollback() }()
	run(func(query string, args ...any) {
		b.Helper()
		_, err := tx.ExecContext(b.Context(), query, args...)
		require.NoError(b, err, query)
	})
	require.NoError(b, tx.Commit())
}

// Int returns the number that a query has for its result.
func (b *Books) Int(query string, args ...any) int64 {
	b.Helper()
	var n sql.NullInt64
	require.NoError(b, b.DB.QueryRowContext(b.Context(), query, args...).Scan(&n), query)
	return n.Int64
}

// Tenant creates a tenant with a key, and returns its id.
func (b *Books) Tenant(key string, limits ...book.Limit) book.ID {
	b.Helper()
	id := ID()
	b.tx(func(exec func(string, ...any)) {
		exec(`INSERT INTO llm_tenants (id, tenant_id, enforcement, inherit) VALUES ($1, $2, 'hard', $3)`, id.String(), key, true)
		stand(exec, id)
	})
	b.Limit(id, limits...)
	return id
}

// Anchor gives a tenant its standing balances.
func (b *Books) Anchor(id book.ID) {
	b.Helper()
	b.tx(func(exec func(string, ...any)) { stand(exec, id) })
}

func stand(exec func(string, ...any), id book.ID) {
	exec(`INSERT INTO llm_balances (tenant, window_unit, window_end) VALUES ($1, 'total', NULL)`, id.String())
}

// Limit adds limits to a tenant.
func (b *Books) Limit(id book.ID, limits ...book.Limit) {
	b.Helper()
	var document string
	require.NoError(b, b.DB.QueryRowContext(b.Context(), `SELECT CAST(limits AS text) FROM llm_tenants WHERE id = $1`, id.String()).Scan(&document))
	all, err := sqldb.ParseLimits(document)
	require.NoError(b, err)
	all.Own = append(all.Own, limits...)
	b.Exec(`UPDATE llm_tenants SET limits = $1 WHERE id = $2`, all.String(), id.String())
}

// Batch runs one batch of the session.
func (b *Books) Batch(want *book.Want, decide func(*book.State) book.Effects) error {
	return b.Session.Batch(b.Context(), want, decide)
}

// Write writes effects, whatever the state.
func (b *Books) Write(eff book.Effects) error {
	return b.Batch(&book.Want{}, func(*book.State) book.Effects { return eff })
}

// Read returns the state that a batch reads.
func (b *Books) Read(want *book.Want) *book.State {
	b.Helper()
	var state *book.State
	require.NoError(b, b.Batch(want, func(s *book.State) book.Effects { state = kept(s); return book.Effects{} }))
	return state
}

// kept is a copy of a state, which outlives its batch.
func kept(s *book.State) *book.State {
	c := *s
	c.Keys, c.Busy, c.Executions = maps.Clone(s.Keys), maps.Clone(s.Busy), maps.Clone(s.Executions)
	c.Idempotent, c.Processes, c.Tenants = maps.Clone(s.Idempotent), maps.Clone(s.Processes), maps.Clone(s.Tenants)
	for id, t := range c.Tenants {
		own := *t
		own.Balances = slices.Clone(t.Balances)
		c.Tenants[id] = &own
	}
	return &c
}

// Decide runs operations as one batch of a session.
func Decide(ctx context.Context, s store.Session, ops ...*decide.Op) ([]decide.Outcome, error) {
	want := &book.Want{}
	for _, op := range ops {
		if op.Key != "" {
			want.Keys = append(want.Keys, op.Key)
		} else {
			want.Tenants = append(want.Tenants, op.Exec.Tenant)
		}
		want.Tenants = append(want.Tenants, op.Exec.Ancestors...)
		want.Executions = append(want.Executions, book.ExecutionKey{Tenant: op.Exec.Tenant, ID: op.Exec.ID})
		if op.Exec.IdempotencyKey != "" {
			use := book.IdempotencyUse{IdempotencyKey: book.IdempotencyKey{Tenant: op.Exec.Tenant, Key: op.Exec.IdempotencyKey}}
			if op.ByKey() {
				use.TenantKey = op.Key
			}
			want.Idempotent = append(want.Idempotent, use)
		}
		want.Processes = append(want.Processes, op.Exec.Process)
	}
	want.Missing = func(state *book.State) []book.Sum { return decide.Missing(config, state) }
	var outcomes []decide.Outcome
	err := s.Batch(ctx, want, func(state *book.State) (eff book.Effects) {
		outcomes, eff = decide.Batch(config, state, ops)
		return eff
	})
	return outcomes, err
}

// Decide runs operations as one batch, and returns the codes of their outcomes.
func (b *Books) Decide(ops ...*decide.Op) []decide.Code {
	b.Helper()
	outcomes, err := Decide(b.Context(), b.Session, ops...)
	require.NoError(b, err)
	codes := make([]decide.Code, len(outcomes))
	for i, out := range outcomes {
		codes[i] = out.Code
	}
	return codes
}

// Reserve is a reserve that holds an amount.
func Reserve(tenant book.ID, hold book.Amount) *decide.Op {
	if hold.Charge == 0 {
		hold.Charge = hold.Cost
	}
	return &decide.Op{
		Kind: decide.Reserve, Base: hold, Lifetime: time.Hour,
		Exec: book.Execution{Tenant: tenant, ID: ID(), Agent: "support", Model: "gpt", Process: ID(), Reported: -1},
	}
}

// Settle settles what a reserve has been granted. What is not said to be charged is what it costs.
func Settle(reserve *decide.Op, actual book.Amount) *decide.Op {
	if actual.Charge == 0 {
		actual.Charge = actual.Cost
	}
	op := &decide.Op{Kind: decide.Settle, Exec: reserve.Exec}
	op.Exec.Status, op.Exec.Charged, op.Exec.BilledModel = book.Succeeded, actual, "gpt-1"
	op.Exec.Usage.Input, op.Exec.Usage.Output = actual.Tokens, 1
	return op
}

// Release drops what a reserve has been granted.
func Release(reserve *decide.Op) *decide.Op {
	return &decide.Op{Kind: decide.Release, Exec: reserve.Exec}
}

// try runs operations until they do not lose against others any more.
func try(ctx context.Context, b *Books, s store.Session, ops ...*decide.Op) ([]decide.Outcome, error) {
	for {
		outcomes, err := Decide(ctx, s, ops...)
		if err == nil {
			return outcomes, nil
		}
		if class := b.Store.Classify(err); class != fault.Conflict && class != fault.Locked {
			return nil, fmt.Errorf("class %d: %w", class, err)
		}
	}
}

// parallel runs a function in n goroutines with a session each.
func (b *Books) parallel(n int, run func(i int, s store.Session) error) {
	b.Helper()
	var wg sync.WaitGroup
	failures := make([]error, n)
	for i := range n {
		session := b.NewSession()
		wg.Go(func() { failures[i] = run(i, session) })
	}
	wg.Wait()
	for _, err := range failures {
		require.NoError(b, err)
	}
}

// Conserved checks that the balances of a tenant are the sums of its executions and of its roll-up, and that it holds
// nothing.
func (b *Books) Conserved(tenant book.ID) {
	b.Helper()
	id := tenant.String()
	for _, metric := range []string{"cost", "tokens", "calls"} {
		executions := b.Int(fmt.Sprintf(`SELECT CAST(coalesce(sum(%s), 0) AS BIGINT) FROM llm_executions WHERE tenant = $1`, metric), id)
		require.Equal(b, executions,
			b.Int(fmt.Sprintf(`SELECT CAST(coalesce(sum(%s), 0) AS BIGINT) FROM llm_usage WHERE tenant = $1`, metric), id), metric)
		for _, window := range []string{"", "day_", "month_"} { // of the anchor
			require.Equal(b, executions, b.Int(fmt.Sprintf(`SELECT %sspent_%s FROM llm_balances
				WHERE tenant = $1 AND window_unit = 'total' AND agent = '' AND model = ''`, window, metric), id), window)
			require.Zero(b, b.Int(fmt.Sprintf(`SELECT CAST(sum(%sheld_%s) AS BIGINT) FROM llm_balances WHERE tenant = $1`, window, metric), id))
		}
	}
	require.Zero(b, b.Int(`SELECT count(*) FROM llm_executions WHERE tenant = $1 AND status = 'running'`, id))
}

// row returns the columns of the one row of a query, as texts.
func (b *Books) row(query string, args ...any) map[string]string {
	b.Helper()
	rows, err := b.DB.QueryContext(b.Context(), query, args...)
	require.NoError(b, err)
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	require.NoError(b, err)
	require.True(b, rows.Next(), "no row")
	values, targets := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		targets[i] = &values[i]
	}
	require.NoError(b, rows.Scan(targets...))
	require.False(b, rows.Next(), "more than one row")
	require.NoError(b, rows.Err())
	out := map[string]string{}
	for i, name := range columns {
		out[name] = text(values[i])
	}
	return out
}

func text(value any) string {
	switch v := value.(type) {
	case nil:
		return "NULL"
	case time.Time:
		return v.UTC().Format(stamp)
	case []byte:
		return string(v)
	case bool:
		if v {
			return "1"
		}
		return "0"
	}
	return strings.TrimSpace(fmt.Sprint(value))
}
