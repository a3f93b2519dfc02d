package storetest

import (
	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/fault"
)

func idempotencyLookup(b *Books) {
	id, other := b.Tenant("acme"), b.Tenant("other")
	var inserted []*book.Execution
	for _, status := range []book.Status{book.Running, book.Succeeded, book.Failed, book.Cancelled, book.Abandoned} {
		e := execution(id)
		e.Status, e.IdempotencyKey = status, string(status)
		inserted = append(inserted, e)
	}
	elsewhere := execution(other)
	elsewhere.IdempotencyKey = "elsewhere"
	require.NoError(b, b.Write(book.Effects{Insert: append(inserted, elsewhere)}))

	want := &book.Want{
		Keys: []string{"acme"}, Idempotent: uses("acme", "running", "succeeded", "failed", "cancelled", "abandoned", "elsewhere", "unused"),
	}
	s := b.Read(want)
	require.Len(b, s.Idempotent, 3)
	for _, i := range []int{0, 1, 4} {
		e := inserted[i]
		got := s.Idempotent[book.IdempotencyKey{Tenant: id, Key: e.IdempotencyKey}]
		require.NotNil(b, got, e.Status)
		require.Equal(b, e.ID, got.ID)
		require.Equal(b, e.Status, got.Status)
	}
	want.Keys, want.Tenants = nil, []book.ID{id, other}
	want.Idempotent = append(usesOf(id, "running", "succeeded", "failed", "cancelled", "abandoned"), usesOf(other, "elsewhere")...)
	require.Len(b, b.Read(want).Idempotent, 4)
}

func oneCopy(b *Books) {
	id := b.Tenant("acme")
	e := execution(id)
	require.NoError(b, b.Write(book.Effects{Insert: []*book.Execution{e}}))
	key := book.ExecutionKey{Tenant: id, ID: e.ID}
	s := b.Read(&book.Want{Tenants: []book.ID{id}, Executions: []book.ExecutionKey{key}, Idempotent: usesOf(id, e.IdempotencyKey)})
	require.Same(b, s.Executions[key], s.Idempotent[book.IdempotencyKey{Tenant: id, Key: e.IdempotencyKey}])
}

func idempotencyIsUnique(b *Books) {
	id := b.Tenant("acme")
	require.NoError(b, b.Write(book.Effects{Insert: []*book.Execution{begun(execution(id))}}))
	err := b.Write(book.Effects{Insert: []*book.Execution{begun(execution(id))}})
	require.Error(b, err)
	require.Equal(b, fault.Fatal, b.Store.Classify(err))

	none := []*book.Execution{begun(execution(id)), begun(execution(id))}
	none[0].IdempotencyKey, none[1].IdempotencyKey = "", ""
	require.NoError(b, b.Write(book.Effects{Insert: none}), "without a key")
	require.NoError(b, b.Write(book.Effects{Insert: []*book.Execution{begun(execution(book.NoTenant))}}), "another tenant's")
}

func idempotencyIsFreed(b *Books) {
	id := b.Tenant("acme")
	reserve := func() *decide.Op {
		op := Reserve(id, book.Amount{Cost: 1})
		op.Exec.IdempotencyKey = "order-17"
		return op
	}
	first, second, third := reserve(), reserve(), reserve()
	require.Equal(b, []decide.Code{decide.Granted}, b.Decide(first))
	require.Equal(b, []decide.Code{decide.Duplicate}, b.Decide(second))

	// A batch ends one that is stored, begins and ends one of its own, and begins a third.
	failed := Settle(first, book.Amount{})
	failed.Exec.Status = book.Failed
	require.Equal(b, []decide.Code{decide.Settled, decide.Granted, decide.Released, decide.Granted},
		b.Decide(failed, second, Release(second), third))
	s := b.Read(&book.Want{Tenants: []book.ID{id}, Idempotent: usesOf(id, "order-17")})
	require.Equal(b, third.Exec.ID, s.Idempotent[book.IdempotencyKey{Tenant: id, Key: "order-17"}].ID)
}

func tombstoneWithTakenKey(b *Books) {
	id := b.Tenant("acme")
	lost, taken := Reserve(id, book.Amount{Cost: 1}), Reserve(id, book.Amount{Cost: 1})
	lost.Exec.IdempotencyKey, taken.Exec.IdempotencyKey = "order-17", "order-17"
	require.Equal(b, []decide.Code{decide.Granted}, b.Decide(taken))
	require.Equal(b, []decide.Code{decide.Released}, b.Decide(Release(lost)))
	require.EqualValues(b, 1, b.Int(`SELECT count(*) FROM llm_executions WHERE status = 'cancelled'`))
}

// uses are idempotency keys of a tenant that is known by its key.
func uses(tenant string, keys ...string) []book.IdempotencyUse {
	out := make([]book.IdempotencyUse, len(keys))
	for i, key := range keys {
		out[i] = book.IdempotencyUse{TenantKey: tenant, IdempotencyKey: book.IdempotencyKey{Key: key}}
	}
	return out
}

// usesOf are those of a tenant that is known by its id.
func usesOf(id book.ID, keys ...string) []book.IdempotencyUse {
	out := uses("", keys...)
	for i := range out {
		out[i].Tenant = id
	}
	return out
}

// The key of a call that was pruned stays taken, and says how the call had ended.
func idempotencyOutlives(b *Books) {
	id := b.Tenant("acme")
	e := execution(id)
	require.NoError(b, b.Write(book.Effects{Insert: []*book.Execution{e}}))
	b.Exec(`DELETE FROM llm_executions`)
	s := b.Read(&book.Want{Tenants: []book.ID{id}, Idempotent: usesOf(id, e.IdempotencyKey, "unused")})
	require.Len(b, s.Idempotent, 1)
	got := s.Idempotent[book.IdempotencyKey{Tenant: id, Key: e.IdempotencyKey}]
	require.Equal(b, []any{e.ID, e.Status, e.Charged.Cost, e.Charged.Charge}, []any{got.ID, got.Status, got.Charged.Cost, got.Charged.Charge})

	again := Reserve(id, book.Amount{Cost: 1})
	again.Exec.IdempotencyKey = e.IdempotencyKey
	require.Equal(b, []decide.Code{decide.Duplicate}, b.Decide(again))
}
