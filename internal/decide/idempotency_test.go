package decide_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
)

func TestBatch_AnIdempotencyKeyIsTakenOnce(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard, costs(day, 1000))
	db.tenant(globex, "globex", book.Hard)

	out := db.run(idempotent("k", ask(1, 1)), idempotent("k", ask(2, 1)), idempotent("other", ask(3, 1)), ask(4, 1), ask(5, 1))
	require.Equal(t, decide.Duplicate, out[1].Code)
	require.Same(t, out[0].Exec, out[1].Exec)
	for _, i := range []int{0, 2, 3, 4} {
		require.Equal(t, decide.Granted, out[i].Code)
	}

	require.Equal(t, codes{decide.Duplicate, decide.Duplicate, decide.Granted}, db.codes(
		idempotent("k", ask(6, 1)), idempotent("k", record(7, 1)),
		idempotent("k", with(ask(8, 1), func(op *decide.Op) { op.Exec.Tenant = globex })),
	))
	require.Equal(t, codes{decide.Settled, decide.Duplicate}, db.codes(settle(1, 1), idempotent("k", ask(9, 1))))

	db.tenants[acme].Suspended = true
	require.Equal(t, codes{decide.Duplicate}, db.codes(idempotent("k", ask(10, 1))), "a duplicate is answered before anything else")
}

func TestBatch_ADuplicateShowsTheExecutionAsItStands(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard)
	db.codes(idempotent("k", ask(1, 5)))
	out := db.run(settle(1, 3), idempotent("k", ask(2, 1)))
	require.Equal(t, decide.Duplicate, out[1].Code)
	require.Equal(t, book.Succeeded, out[1].Exec.Status, "settled in the same batch")
	require.EqualValues(t, 3, out[1].Exec.Charged.Cost)
}

func TestBatch_AnIdempotencyKeyIsFreedByTheFailedAndTheCancelled(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		rule string
		end  []*decide.Op
		want decide.Code
	}{
		{"succeeded keeps it", []*decide.Op{settle(1, 1)}, decide.Duplicate},
		{"failed frees it", []*decide.Op{failed(1, 1)}, decide.Granted},
		{"cancelled frees it", []*decide.Op{release(1)}, decide.Granted},
		{"abandoned keeps it", []*decide.Op{expire(1)}, decide.Duplicate},
		{"corrected keeps it, whatever came of the call", []*decide.Op{expire(1), failed(1, 1)}, decide.Duplicate},
	} {
		for _, together := range []bool{false, true} {
			t.Run(c.rule, func(t *testing.T) {
				t.Parallel()

				db := newDatabase(t)
				db.tenant(acme, "acme", book.Hard)
				db.codes(idempotent("k", ask(1, 1)))
				db.now = db.now.Add(2 * time.Hour)
				ops := slices.Concat(c.end, []*decide.Op{idempotent("k", ask(2, 1))})
				if !together {
					db.codes(c.end...)
					ops = ops[len(ops)-1:]
				}
				got := db.codes(ops...)
				require.Equal(t, c.want, got[len(got)-1])
				require.Equal(t, c.want, db.run(idempotent("k", with(ask(2, 1), func(op *decide.Op) { op.Kind = decide.Record })))[0].Code, "again")
			})
		}
	}

	t.Run("a record that failed does not take it", func(t *testing.T) {
		t.Parallel()

		db := newDatabase(t)
		db.tenant(acme, "acme", book.Hard)
		unsuccessful := with(idempotent("k", failed(1, 1)), func(op *decide.Op) { op.Kind = decide.Record })
		require.Equal(t, codes{decide.Settled, decide.Settled, decide.Duplicate}, db.codes(unsuccessful, idempotent("k", record(2, 1)), idempotent("k", ask(3, 1))))
	})

	t.Run("the end of a former holder does not free it", func(t *testing.T) {
		t.Parallel()

		db := newDatabase(t)
		db.tenant(acme, "acme", book.Hard)
		require.Equal(t, codes{decide.Granted, decide.Released, decide.Granted, decide.AlreadyReleased, decide.Duplicate}, db.codes(
			idempotent("k", ask(1, 1)), release(1), idempotent("k", ask(2, 1)), release(1), idempotent("k", ask(3, 1)),
		))
		require.Equal(t, codes{decide.Released, decide.Duplicate}, db.codes(idempotent("k", release(4)), idempotent("k", ask(3, 1))), "nor does a tombstone")
	})
}

func TestSettle_OfALostRowDoesNotTakeAKeyThatIsTaken(t *testing.T) {
	t.Parallel()

	db := newDatabase(t)
	db.tenant(acme, "acme", book.Hard)
	db.codes(idempotent("k", ask(2, 1)))
	require.Equal(t, codes{decide.Settled, decide.Duplicate}, db.codes(idempotent("k", settle(1, 45)), idempotent("k", ask(3, 1))))
	require.Empty(t, db.execution(1).IdempotencyKey)

	require.Equal(t, codes{decide.Settled, decide.Duplicate}, db.codes(idempotent("l", settle(4, 45)), idempotent("l", ask(5, 1))))
	require.Equal(t, "l", db.execution(4).IdempotencyKey)
}
