package tenant_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/llmtenant/tenant"
)

// BenchmarkCall is one call's whole way through the books, reserve and settle, with nothing in between.
func BenchmarkCall(b *testing.B) {
	for _, dialect := range []string{"postgres", "sqlite"} {
		for _, c := range []struct{ tenants, callers int }{{1, 1}, {1, 64}, {1, 512}, {1000, 512}} {
			b.Run(fmt.Sprintf("%s/tenants=%d/callers=%d", dialect, c.tenants, c.callers), func(b *testing.B) {
				ledger := openLedger(b, openDatabase(b, dialect))
				ids := make([]tenant.ID, c.tenants)
				for i := range ids {
					ids[i] = tenant.ID(fmt.Sprintf("tenant-%d", i))
				}
				call := func(i int) {
					hold, err := ledger.Reserve(context.Background(), ids[i%len(ids)], tenant.Estimate{Cost: tenant.USD("0.01")})
					if err == nil {
						_, err = ledger.Settle(context.Background(), hold, tenant.Actual{Cost: tenant.USD("0.01")})
					}
					if err != nil {
						b.Error(err)
					}
				}
				for i := range ids {
					call(i)
				}
				b.ReportAllocs()
				b.SetParallelism((c.callers + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
				b.ResetTimer()
				if c.callers == 1 {
					for i := range b.N {
						call(i)
					}
				} else {
					b.RunParallel(func(pb *testing.PB) {
						for i := 0; pb.Next(); i++ {
							call(i * 7919)
						}
					})
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
				require.False(b, b.Failed())
			})
		}
	}
}
