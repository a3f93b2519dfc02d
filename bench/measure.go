package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/glebarez/sqlite"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/llmtenant/tenant"
)

// measurement is one entry of what can be asked for, by its name.
type measurement struct {
	name    string
	measure func(*bench, context.Context) ([]Figure, error)
}

var measurements = []measurement{
	{hot.name, func(b *bench, ctx context.Context) ([]Figure, error) { return b.calls(ctx, hot) }},
	{many.name, func(b *bench, ctx context.Context) ([]Figure, error) { return b.calls(ctx, many) }},
	{"root", (*bench).root},
	{"lone", (*bench).lone},
	{"load", (*bench).load},
	{"lanes", (*bench).lanes},
	{"processes", (*bench).processes},
	{"memory", (*bench).memory},
	{"sqlite", (*bench).sqlite},
	{"questions", (*bench).questions},
	{"dashboard", (*bench).dashboard},
	{"hooks", (*bench).hooks},
	{"telemetry", (*bench).telemetry},
	{"import", (*bench).imports},
	{"snapshot", (*bench).snapshot},
	{"export", (*bench).exports},
	{"partitions", (*bench).partitions},
	{"places", (*bench).places},
}

// workload is who calls.
type workload struct {
	name, title      string
	tenants, callers int
}

var (
	hot  = workload{"hot", "one hot tenant", 1, 512}
	many = workload{"many", "1,000 tenants", 1000, 512}
)

// way is how calls are made on prepared books.
type way struct {
	against string // as it is called where it is a baseline
	call    func(*books) call
	booked  bool // it keeps balances and roll-up, so that the books can be verified
}

var (
	byLedger = way{call: func(s *books) call { return s.call }, booked: true}
	bySteps  = way{"the same effects in a transaction per step", func(s *books) call { return newSteps(s).call }, true}
	byInsert = way{"one bare INSERT of the execution row per call", func(s *books) call { return s.insert }, false}
)

// with prepares books of a workload, does something with calls made in one way, and verifies the books.
func (w workload) with(ctx context.Context, dialector gorm.Dialector, how way, do func(call) error, options ...tenant.OpenOption) error {
	s, err := attach(dialector, w.tenants, options...)
	if err != nil {
		return err
	}
	if err = s.prepare(ctx); err == nil {
		err = do(how.call(s))
	}
	s.pool.SetMaxOpenConns(poolSize) // a baseline may have wanted fewer
	if err == nil && how.booked {
		err = s.verify(ctx)
	}
	return errors.Join(err, s.close(context.WithoutCancel(ctx)))
}

// busy measures the pace of a workload on a new database.
func (b *bench) busy(ctx context.Context, w workload, how way, options ...tenant.OpenOption) (p pace, err error) {
	url, err := b.database(ctx)
	if err != nil {
		return p, err
	}
	err = w.with(ctx, postgres.Open(url), how, func(do call) (err error) {
		p, err = busy(ctx, b.duration, w.tenants, w.callers, do)
		return err
	}, options...)
	return p, err
}

// calls measures calls per second and what they allocate.
func (b *bench) calls(ctx context.Context, w workload) ([]Figure, error) {
	ledger, err := b.busy(ctx, w, byLedger)
	if err != nil {
		return nil, err
	}
	stepped, err := b.busy(ctx, w, bySteps)
	if err != nil {
		return nil, err
	}
	bare, err := b.busy(ctx, w, byInsert)
	if err != nil {
		return nil, err
	}
	title := fmt.Sprintf("%s, %d callers", w.title, w.callers)
	return []Figure{
		{Key: w.name + "_calls_per_second", Name: "calls, " + title, Unit: "calls/s",
			Value: ledger.perSecond, Baseline: stepped.perSecond, Against: bySteps.against},
		{Key: w.name + "_calls_per_insert", Name: "calls, " + title, Unit: "calls/s",
			Value: ledger.perSecond, Baseline: bare.perSecond, Against: byInsert.against},
		{Key: w.name + "_allocations_per_call", Name: "allocations, " + title, Unit: "per call",
			Value: ledger.objects, Baseline: stepped.objects, Against: bySteps.against},
		{Key: w.name + "_bytes_per_call", Name: "allocated, " + title, Unit: "B per call",
			Value: ledger.bytes, Baseline: stepped.bytes, Against: bySteps.against},
	}, nil
}

// root measures what a budget that all tenants share costs.
func (b *bench) root(ctx context.Context) ([]Figure, error) {
	limits := tenant.Limits{DailyCost: tenant.USD("1000000"), MonthlyCost: tenant.USD("1000000"), DailyTokens: tenant.Count(1 << 60)}
	shared, err := b.busy(ctx, many, byLedger, tenant.WithRootBudget(limits, tenant.Hard))
	if err != nil {
		return nil, err
	}
	apart, err := b.busy(ctx, many, byLedger)
	if err != nil {
		return nil, err
	}
	return []Figure{{
		Key: "root_calls_per_second", Name: fmt.Sprintf("calls, %s under one root budget, %d callers", many.title, many.callers),
		Unit: "calls/s", Value: shared.perSecond, Baseline: apart.perSecond, Against: "the same without the root",
	}}, nil
}

// lone measures the latency of one caller, who takes turns between the ledger and the baseline.
func (b *bench) lone(ctx context.Context) ([]Figure, error) {
	url, err := b.database(ctx)
	if err != nil {
		return nil, err
	}
	var ledger, stepped []time.Duration
	both := way{booked: true, call: func(s *books) call {
		return func(ctx context.Context, _ int) error {
			start := time.Now()
			if err := s.call(ctx, 0); err != nil {
				return err
			}
			middle := time.Now()
			err := newSteps(s).call(ctx, 1)
			ledger, stepped = append(ledger, middle.Sub(start)), append(stepped, time.Since(middle))
			return err
		}
	}}
	err = workload{tenants: 2}.with(ctx, postgres.Open(url), both, func(do call) error {
		_, err := busy(ctx, 2*b.duration, 1, 1, do)
		return err
	})
	if err != nil {
		return nil, err
	}
	return latencies("lone", "one caller", ledger, stepped), nil
}

// latencies are the figures of how long calls took.
func latencies(key, title string, ledger, stepped []time.Duration) (figures []Figure) {
	for _, p := range []struct {
		name string
		part float64
	}{{"p50", 0.5}, {"p99", 0.99}} {
		figures = append(figures, Figure{
			Key: key + "_" + p.name, Name: "reserve + settle, " + title + ", " + p.name, Unit: "us",
			Value: percentile(ledger, p.part), Baseline: percentile(stepped, p.part), Against: bySteps.against,
		})
	}
	return figures
}

// load measures the latency of calls that arrive steadily, at 70 % of what each way has just been measured to do at most.
func (b *bench) load(ctx context.Context) ([]Figure, error) {
	const part = 0.7
	under := func(w workload, how way) (took []time.Duration, arriving float64, err error) {
		url, err := b.database(ctx)
		if err != nil {
			return nil, 0, err
		}
		err = w.with(ctx, postgres.Open(url), how, func(do call) error {
			most, err := busy(ctx, b.duration, w.tenants, w.callers, do)
			if err != nil {
				return err
			}
			arriving = part * most.perSecond
			took, err = steady(ctx, b.duration, w.tenants, arriving, do)
			return err
		})
		return took, arriving, err
	}
	var figures []Figure
	for _, w := range []workload{hot, many} {
		ledger, arriving, err := under(w, byLedger)
		if err != nil {
			return nil, err
		}
		stepped, fewer, err := under(w, bySteps)
		if err != nil {
			return nil, err
		}
		key := "load_" + w.name
		figures = append(figures, Figure{Key: key + "_calls_per_second", Name: "70 % load, " + w.title, Unit: "calls/s",
			Value: arriving, Baseline: fewer, Against: bySteps.against})
		figures = append(figures, latencies(key, "70 % load, "+w.title, ledger, stepped)...)
	}
	return figures, nil
}

// lanes measures how calls per second grow with the lanes of one process.
func (b *bench) lanes(ctx context.Context) ([]Figure, error) {
	return growth("lanes", "one lane", []int{1, 2, 4, 8}, func(w workload, n int) (float64, error) {
		p, err := b.busy(ctx, w, byLedger, tenant.WithLanes(n))
		return p.perSecond, err
	})
}

// growth measures calls per second with a number of something, against the first of the numbers.
func growth(what, against string, numbers []int, measure func(workload, int) (float64, error)) (figures []Figure, err error) {
	for _, w := range []workload{hot, many} {
		var first float64
		for i, n := range numbers {
			perSecond, err := measure(w, n)
			if err != nil {
				return nil, err
			}
			if i == 0 {
				first = perSecond
				continue
			}
			figures = append(figures, Figure{
				Key:  fmt.Sprintf("%s_%d_%s_calls_per_second", what, n, w.name),
				Name: fmt.Sprintf("calls, %s, %d %s", w.title, n, what), Unit: "calls/s",
				Value: perSecond, Baseline: first, Against: against,
			})
		}
	}
	return figures, nil
}

// sqlite measures calls per second on SQLite.
func (b *bench) sqlite(ctx context.Context) ([]Figure, error) {
	embedded := workload{tenants: 1, callers: 64}
	measure := func(how way) (p pace, err error) {
		folder, err := os.MkdirTemp("", "bench")
		if err != nil {
			return p, err
		}
		defer func() { _ = os.RemoveAll(folder) }()
		file := sqlite.Open(filepath.Join(folder, "books.db") + "?_pragma=busy_timeout(5000)&_pragma=synchronous(full)&_txlock=immediate")
		err = embedded.with(ctx, file, how, func(do call) (err error) {
			p, err = busy(ctx, b.duration, embedded.tenants, embedded.callers, do)
			return err
		})
		return p, err
	}
	ledger, err := measure(byLedger)
	if err != nil {
		return nil, err
	}
	stepped, err := measure(bySteps)
	return []Figure{{
		Key: "sqlite_calls_per_second", Name: "calls on SQLite, one tenant, 64 callers", Unit: "calls/s",
		Value: ledger.perSecond, Baseline: stepped.perSecond, Against: bySteps.against,
	}}, err
}
