package storetest

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/llmtenant/tenant/internal/book"
	"github.com/llmtenant/tenant/internal/decide"
	"github.com/llmtenant/tenant/internal/store"
)

// Benchmark measures a batch of reserves and the batch that settles them, on one session.
func Benchmark(b *testing.B, open func(testing.TB) (store.Store, *sql.DB)) {
	for _, n := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("operations=%d", n), func(b *testing.B) {
			s, _ := open(b)
			session := s.Session()
			defer func() { _ = session.Close() }()
			run := func(ops []*decide.Op) time.Duration {
				start := time.Now()
				if _, err := Decide(b.Context(), session, ops...); err != nil {
					b.Fatal(err)
				}
				return time.Since(start)
			}
			var reserving, settling time.Duration
			for b.Loop() {
				reserves, settles := make([]*decide.Op, n), make([]*decide.Op, n)
				for i := range reserves {
					reserves[i] = Reserve(book.NoTenant, book.Amount{Cost: 1000, Tokens: 100})
				}
				reserving += run(reserves)
				for i := range settles {
					settles[i] = Settle(reserves[i], book.Amount{Cost: 900, Tokens: 90, Calls: 1})
				}
				settling += run(settles)
			}
			b.ReportMetric(reserving.Seconds()*1000/float64(b.N), "ms/reserves")
			b.ReportMetric(settling.Seconds()*1000/float64(b.N), "ms/settles")
			b.ReportMetric(0, "ns/op")
		})
	}
}
