package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"

	"gorm.io/driver/postgres"
)

// workerArgument is the first argument of this program where it is another process of a measurement.
const workerArgument = "worker"

// task is what a worker is told: to keep callers busy for a while, or, where the duration is zero, to make one call for
// each tenant.
type task struct {
	URL              string
	Tenants, Callers int
	Duration         time.Duration
}

// result is what came of a task.
type result struct {
	PerSecond float64
	Heap      float64 // bytes in use after a collection, with the ledger still open
}

// work is a worker's life: it reads a task, opens a ledger, says so, waits for the word to begin, and writes its result.
// It ends with its input, so also when the process that started it dies.
func work(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	read, write := json.NewDecoder(in), json.NewEncoder(out)
	var t task
	if err := read.Decode(&t); err != nil {
		return err
	}
	keys := t.Tenants
	if t.Duration == 0 {
		keys = 0 // they would be counted as the ledger's
	}
	s, err := attach(postgres.Open(t.URL), keys)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	call := func(ctx context.Context, i int) error { return s.callFor(ctx, key(i)) }
	if err := every(ctx, min(t.Tenants, 64), call); err != nil { // connects the lanes
		return err
	}
	var word bool
	if err := errors.Join(write.Encode(true), read.Decode(&word)); err != nil {
		return err
	}
	go func() {
		_ = read.Decode(&word)
		cancel()
	}()
	if t.Duration == 0 {
		if err := every(ctx, t.Tenants, call); err != nil {
			return err
		}
		return write.Encode(result{Heap: heap()})
	}
	p, err := busy(ctx, t.Duration, t.Tenants, t.Callers, s.call)
	if err != nil {
		return err
	}
	return write.Encode(result{PerSecond: p.perSecond})
}

func heap() float64 {
	// The second collection takes what the first one has found in pools and finalizers.
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapInuse)
}

// worker is another process, as the one that started it sees it.
type worker struct {
	cmd   *exec.Cmd
	write *json.Encoder
	read  *json.Decoder
}

func startWorker(ctx context.Context) (*worker, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &worker{cmd: exec.CommandContext(ctx, program, workerArgument)}
	w.cmd.Stderr = os.Stderr
	in, err := w.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.write, w.read = json.NewEncoder(in), json.NewDecoder(out)
	return w, w.cmd.Start()
}

// together has so many workers do a task at the same time.
func together(ctx context.Context, n int, t task) (results []result, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var workers []*worker
	defer func() {
		cancel()
		for _, w := range workers {
			_ = w.cmd.Wait()
		}
	}()
	for range n {
		w, err := startWorker(ctx)
		if err != nil {
			return nil, err
		}
		workers = append(workers, w)
		if err := w.write.Encode(t); err != nil {
			return nil, err
		}
	}
	var ready bool
	for _, w := range workers {
		if err := w.read.Decode(&ready); err != nil {
			return nil, fmt.Errorf("a worker did not get ready: %w", err)
		}
	}
	for _, w := range workers {
		if err := w.write.Encode(ready); err != nil {
			return nil, err
		}
	}
	for _, w := range workers {
		var r result
		if err := w.read.Decode(&r); err != nil {
			return nil, fmt.Errorf("a worker ended without a result: %w", err)
		}
		results = append(results, r)
	}
	return results, nil
}

// processes measures how calls per second grow with the processes that have the ledger open. Each brings its callers.
func (b *bench) processes(ctx context.Context) ([]Figure, error) {
	return growth("processes", "one process", []int{1, 2, 4}, func(w workload, n int) (float64, error) {
		url, err := b.database(ctx)
		if err != nil {
			return 0, err
		}
		var sum float64
		err = w.with(ctx, postgres.Open(url), byLedger, func(call) error {
			results, err := together(ctx, n, task{URL: url, Tenants: w.tenants, Callers: w.callers, Duration: b.duration})
			for _, r := range results {
				sum += r.PerSecond
			}
			return err
		})
		return sum, err
	})
}

// memory measures the heap of a process that has made a call for each of many tenants.
func (b *bench) memory(ctx context.Context) ([]Figure, error) {
	few := asked
	measure := func(tenants int) (heap float64, err error) {
		url, err := b.database(ctx)
		if err != nil {
			return 0, err
		}
		err = workload{}.with(ctx, postgres.Open(url), way{call: func(*books) call { return nil }}, func(call) error {
			results, err := together(ctx, 1, task{URL: url, Tenants: tenants})
			if err == nil {
				heap = results[0].Heap
			}
			return err
		})
		return heap, err
	}
	small, err := measure(few)
	if err != nil {
		return nil, err
	}
	large, err := measure(b.tenants)
	return []Figure{{
		Key: "memory_heap_bytes", Name: fmt.Sprintf("heap of a ledger that has seen %d tenants", b.tenants), Unit: "B",
		Value: large, Baseline: small, Against: fmt.Sprintf("after %d tenants", few),
	}}, err
}
