package main

import (
	"context"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// pace is how calls went on average.
type pace struct {
	perSecond float64
	objects   float64 // allocated in this process per call, by whichever goroutine
	bytes     float64
}

// busy lets so many callers make one call after the other, each for a tenant drawn anew.
func busy(ctx context.Context, duration time.Duration, tenants, callers int, do call) (pace, error) {
	var (
		group         failing
		n             atomic.Int64
		before, after runtime.MemStats
	)
	runtime.ReadMemStats(&before)
	start := time.Now()
	for range callers {
		group.Go(func() error {
			for time.Since(start) < duration && !group.failed() {
				if err := do(ctx, rand.IntN(tenants)); err != nil {
					return err
				}
				n.Add(1)
			}
			return nil
		})
	}
	err := group.Wait()
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	calls := float64(n.Load())
	return pace{
		perSecond: calls / took.Seconds(),
		objects:   float64(after.Mallocs-before.Mallocs) / calls,
		bytes:     float64(after.TotalAlloc-before.TotalAlloc) / calls,
	}, err
}

// steady lets calls arrive by a schedule, so many in a second, however long those before them take. It returns how long
// each took from when it was due: one that starts late because of others has waited for them all the same.
func steady(ctx context.Context, duration time.Duration, tenants int, perSecond float64, do call) ([]time.Duration, error) {
	var group failing
	took := make([]time.Duration, max(1, int(perSecond*duration.Seconds())))
	timer := time.NewTimer(0)
	defer timer.Stop()
	start := time.Now()
	for i := range took {
		due := start.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			<-timer.C
		}
		if group.failed() {
			break
		}
		group.Go(func() error {
			err := do(ctx, rand.IntN(tenants))
			took[i] = time.Since(due)
			return err
		})
	}
	return took, group.Wait()
}

// failing is goroutines of which the first error counts.
type failing struct {
	sync.WaitGroup
	err atomic.Pointer[error]
}

func (f *failing) Go(do func() error) {
	f.WaitGroup.Go(func() {
		if err := do(); err != nil {
			f.err.CompareAndSwap(nil, &err)
		}
	})
}

func (f *failing) failed() bool { return f.err.Load() != nil }

func (f *failing) Wait() error {
	f.WaitGroup.Wait()
	if err := f.err.Load(); err != nil {
		return *err
	}
	return nil
}

// percentile is in microseconds. It sorts what it is given.
func percentile(all []time.Duration, part float64) float64 {
	slices.Sort(all)
	return float64(all[int(float64(len(all)-1)*part)].Nanoseconds()) / 1000
}
