package decide_test

import (
	"fmt"
	"testing"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
)

const benchmarked = 512 // operations in a batch

// benchmarkBatch decides the same batch over and over, each time on a fresh copy of the books.
func benchmarkBatch(b *testing.B, db *database, ops []*decide.Op, want decide.Code) {
	b.ReportAllocs()
	states := make([]*book.State, 0, 16)
	for b.Loop() {
		if len(states) == 0 {
			b.StopTimer()
			for range cap(states) {
				states = append(states, db.read(ops))
			}
			b.StartTimer()
		}
		state := states[len(states)-1]
		states = states[:len(states)-1]
		out, _ := decide.Batch(db.config, state, ops)
		if last := out[len(out)-1].Code; last != want {
			b.Fatalf("the last outcome is %d", last)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(ops)), "ns/operation")
}

// busy is books of many tenants with four limits each, the reserves of a batch spread over them, and their settles.
func busy(b *testing.B, tenants int) (db *database, reserves, settles []*decide.Op) {
	db = newDatabase(b)
	for i := range tenants {
		tenant := db.tenant(id(i+1), fmt.Sprint("tenant-", i), book.Hard,
			costs(day, 1_000_000), costs(month, 10_000_000), tokens(day, 10_000_000), costs(dayA, 1_000_000))
		tenant.OwnerType = ""
	}
	for n := range benchmarked {
		op := flexible(n, 10, 5, 500)
		op.Exec.Tenant = id(n%tenants + 1)
		reserves = append(reserves, op)
		op = settle(n, 10)
		op.Exec.Tenant = id(n%tenants + 1)
		settles = append(settles, op)
	}
	return db, reserves, settles
}

func BenchmarkBatch_ReservesOfOneTenant(b *testing.B) {
	db, reserves, _ := busy(b, 1)
	benchmarkBatch(b, db, reserves, decide.Granted)
}

func BenchmarkBatch_ReservesOfManyTenants(b *testing.B) {
	db, reserves, _ := busy(b, 500)
	benchmarkBatch(b, db, reserves, decide.Granted)
}

func BenchmarkBatch_SettlesOfOneTenant(b *testing.B) {
	db, reserves, settles := busy(b, 1)
	db.codes(reserves...)
	benchmarkBatch(b, db, settles, decide.Settled)
}

func BenchmarkBatch_SettlesOfManyTenants(b *testing.B) {
	db, reserves, settles := busy(b, 500)
	db.codes(reserves...)
	benchmarkBatch(b, db, settles, decide.Settled)
}

func BenchmarkBatch_OneReserve(b *testing.B) {
	db, reserves, _ := busy(b, 1)
	benchmarkBatch(b, db, reserves[:1], decide.Granted)
}
