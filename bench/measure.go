package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/glebarez/sqlite"
	"github.com/google/uuid"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/llmtenant/tenant"
)

const perStep = "the same effects in a transaction per step"

type measurement struct {
	key     string
	measure func(*bench, context.Context) ([]Figure, error)
}

var measurements = []measurement{
	{"hot", func(b *bench, ctx context.Context) ([]Figure, error) {
		return b.calls(ctx, "hot", "one hot tenant, 512 callers", 1, 512)
	}},
	{"many", func(b *bench, ctx context.Context) ([]Figure, error) {
		return b.calls(ctx, "many", "1,000 tenants, 512 callers", 1000, 512)
	}},
	{"lone", (*bench).lone},
	{"sqlite", (*bench).sqlite},
	{"questions", (*bench).questions},
}

// books is a database with a ledger on it, and tenants with limits that do not bite.
type books struct {
	db     *gorm.DB
	pool   *sql.DB
	ledger *tenant.Ledger
	keys   []tenant.ID
	ids    []uuid.UUID
}

func (b *bench) books(ctx context.Context, dialector gorm.Dialector, tenants int) (_ *books, err error) {
	s := &books{}
	if s.db, err = gorm.Open(dialector, &gorm.Config{Logger: logger.Discard}); err != nil {
		return nil, err
	}
	if s.pool, err = s.db.DB(); err != nil {
		return nil, err
	}
	s.pool.SetMaxOpenConns(40)
	s.pool.SetMaxIdleConns(40)
	if s.ledger, err = tenant.Open(s.db); err != nil {
		return nil, err
	}
	if err := s.ledger.Migrate(ctx); err != nil {
		return nil, err
	}
	for i := range tenants {
		s.keys = append(s.keys, tenant.ID(fmt.Sprintf("tenant-%04d", i)))
	}
	for _, key := range s.keys {
		if err := tenant.ConfigureBudget(ctx, s.db, key, func(b *tenant.Budget) error {
			b.Enforcement = tenant.Hard
			b.Limits = tenant.Limits{DailyCost: tenant.USD("1000000000"), MonthlyTokens: tenant.Count(1 << 60)}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	var ids []string
	if err := s.db.WithContext(ctx).Raw(`SELECT id FROM llm_tenants ORDER BY tenant_id`).Scan(&ids).Error; err != nil {
		return nil, err
	}
	for _, id := range ids {
		parsed, err := uuid.Parse(id)
		if err != nil {
			return nil, err
		}
		s.ids = append(s.ids, parsed)
	}
	return s, nil
}

// close verifies the books, and closes everything.
func (s *books) close(ctx context.Context, verify bool) error {
	var err error
	if verify {
		var differences []tenant.Difference
		if differences, err = s.ledger.Verify(ctx); err == nil && len(differences) > 0 {
			err = fmt.Errorf("the books differ in %d figures, the first: %v", len(differences), differences[0])
		}
	}
	return errors.Join(err, s.ledger.Close(ctx), s.pool.Close())
}

// call is one call through the ledger: reserve and settle, with nothing in between.
func (s *books) call(ctx context.Context, i int) error {
	hold, err := s.ledger.Reserve(ctx, s.keys[i], tenant.Estimate{
		Provider: "openai", Model: "m", InputTokens: heldTokens, Cost: tenant.USD("0.01"),
	})
	if err != nil {
		return err
	}
	_, err = s.ledger.Settle(ctx, hold, tenant.Actual{Cost: tenant.USD("0.008"), Usage: tenant.Usage{Input: paidTokens}})
	return err
}

// rate returns how often callers get something done in a second.
func (b *bench) rate(ctx context.Context, tenants, callers int, do func(context.Context, int) error) (float64, error) {
	var (
		wg     sync.WaitGroup
		n      atomic.Int64
		failed atomic.Pointer[error]
	)
	start := time.Now()
	until := start.Add(b.duration)
	for range callers {
		wg.Go(func() {
			for time.Now().Before(until) && failed.Load() == nil {
				if err := do(ctx, rand.IntN(tenants)); err != nil {
					failed.Store(&err)
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(n.Load()) / time.Since(start).Seconds(), nil
}

// calls measures calls per second against both baselines, on a new database each.
func (b *bench) calls(ctx context.Context, key, name string, tenants, callers int) ([]Figure, error) {
	measure := func(verify bool, with func(*books) func(context.Context, int) error) (float64, error) {
		url, err := b.database(ctx)
		if err != nil {
			return 0, err
		}
		s, err := b.books(ctx, postgres.Open(url), tenants)
		if err != nil {
			return 0, err
		}
		do := with(s)
		for i := range min(tenants, 50) {
			if err := do(ctx, i); err != nil {
				return 0, err
			}
		}
		rate, err := b.rate(ctx, tenants, callers, do)
		return rate, errors.Join(err, s.close(ctx, verify))
	}
	var allocations, bytes float64
	ledger, err := measure(true, func(s *books) func(context.Context, int) error { return s.call })
	if err != nil {
		return nil, err
	}
	stepped, err := measure(false, func(s *books) func(context.Context, int) error {
		return func(ctx context.Context, i int) error { return steps{s.pool}.call(ctx, s.ids[i], string(s.keys[i])) }
	})
	if err != nil {
		return nil, err
	}
	bare, err := measure(false, func(s *books) func(context.Context, int) error {
		return func(ctx context.Context, i int) error { return insert(ctx, s.pool, s.ids[i], string(s.keys[i])) }
	})
	if err != nil {
		return nil, err
	}
	allocations, bytes, err = b.allocations(ctx, tenants, callers)
	if err != nil {
		return nil, err
	}
	return []Figure{
		{Key: key + "_calls_per_second", Name: "calls, " + name, Unit: "calls/s", Value: ledger, Baseline: stepped, Against: perStep},
		{Key: key + "_calls_per_insert", Name: "calls, " + name, Unit: "calls/s", Value: ledger, Baseline: bare, Against: "one bare INSERT of the execution row per call"},
		{Key: key + "_allocations_per_call", Name: "allocations, " + name, Unit: "per call", Value: allocations},
		{Key: key + "_bytes_per_call", Name: "allocated, " + name, Unit: "B per call", Value: bytes},
	}, nil
}

// allocations counts what a call allocates in this process, the lanes' part included.
func (b *bench) allocations(ctx context.Context, tenants, callers int) (objects, bytes float64, err error) {
	url, err := b.database(ctx)
	if err != nil {
		return 0, 0, err
	}
	s, err := b.books(ctx, postgres.Open(url), tenants)
	if err != nil {
		return 0, 0, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	rate, err := b.rate(ctx, tenants, callers, s.call)
	runtime.ReadMemStats(&after)
	calls := rate * b.duration.Seconds()
	return float64(after.Mallocs-before.Mallocs) / calls, float64(after.TotalAlloc-before.TotalAlloc) / calls,
		errors.Join(err, s.close(ctx, false))
}

// lone measures the latency of one caller, who takes turns between the ledger and the baseline.
func (b *bench) lone(ctx context.Context) ([]Figure, error) {
	url, err := b.database(ctx)
	if err != nil {
		return nil, err
	}
	s, err := b.books(ctx, postgres.Open(url), 2)
	if err != nil {
		return nil, err
	}
	var ledger, stepped []time.Duration
	for until := time.Now().Add(2 * b.duration); time.Now().Before(until); {
		start := time.Now()
		if err := s.call(ctx, 0); err != nil {
			return nil, err
		}
		ledger = append(ledger, time.Since(start))
		start = time.Now()
		if err := (steps{s.pool}).call(ctx, s.ids[1], string(s.keys[1])); err != nil {
			return nil, err
		}
		stepped = append(stepped, time.Since(start))
	}
	micro := func(all []time.Duration, part float64) float64 {
		slices.Sort(all)
		return float64(all[int(float64(len(all)-1)*part)].Microseconds())
	}
	return []Figure{
		{Key: "lone_p50", Name: "reserve + settle, one caller, p50", Unit: "us", Value: micro(ledger, 0.5), Baseline: micro(stepped, 0.5), Against: perStep},
		{Key: "lone_p99", Name: "reserve + settle, one caller, p99", Unit: "us", Value: micro(ledger, 0.99), Baseline: micro(stepped, 0.99), Against: perStep},
	}, s.close(ctx, false)
}

// sqlite measures calls per second on SQLite, against a transaction per call: the same ledger with one caller, which
// shares its transactions with nobody.
func (b *bench) sqlite(ctx context.Context) ([]Figure, error) {
	measure := func(callers int) (float64, error) {
		folder, err := os.MkdirTemp("", "bench")
		if err != nil {
			return 0, err
		}
		defer func() { _ = os.RemoveAll(folder) }()
		s, err := b.books(ctx, sqlite.Open(filepath.Join(folder, "books.db")+"?_pragma=busy_timeout(5000)"), 1)
		if err != nil {
			return 0, err
		}
		rate, err := b.rate(ctx, 1, callers, s.call)
		return rate, errors.Join(err, s.close(ctx, true))
	}
	shared, err := measure(64)
	if err != nil {
		return nil, err
	}
	alone, err := measure(1)
	return []Figure{{
		Key: "sqlite_calls_per_second", Name: "calls on SQLite, 64 callers", Unit: "calls/s", Value: shared,
		Baseline: alone, Against: "the ledger's transactions with one call each",
	}}, err
}

// questions measures what is asked of books with few and with many executions.
func (b *bench) questions(ctx context.Context) ([]Figure, error) {
	const few = 5_000
	small, _, err := b.ask(ctx, few)
	if err != nil {
		return nil, err
	}
	large, sum, err := b.ask(ctx, b.executions)
	if err != nil {
		return nil, err
	}
	against := fmt.Sprintf("at %d executions", few)
	at := fmt.Sprintf(" at %d executions, p50", b.executions)
	return []Figure{
		{Key: "cost_today", Name: "CostToday" + at, Unit: "us", Value: large[0], Baseline: small[0], Against: against},
		{Key: "cost_this_month", Name: "CostThisMonth" + at, Unit: "us", Value: large[1], Baseline: small[1], Against: against},
		{Key: "cost_today_per_sum", Name: "CostToday" + at, Unit: "us", Value: large[0], Baseline: sum, Against: "SELECT sum(cost) over the executions"},
	}, nil
}

// ask returns the medians of CostToday, CostThisMonth and of a sum over the executions, in microseconds.
func (b *bench) ask(ctx context.Context, executions int) (answers [2]float64, sum float64, err error) {
	url, err := b.database(ctx)
	if err != nil {
		return answers, 0, err
	}
	s, err := b.books(ctx, postgres.Open(url), 1)
	if err != nil {
		return answers, 0, err
	}
	if err := s.fill(ctx, executions); err != nil {
		return answers, 0, err
	}
	median := func(times int, ask func() error) (float64, error) {
		all := make([]time.Duration, times)
		for i := range all {
			start := time.Now()
			if err := ask(); err != nil {
				return 0, err
			}
			all[i] = time.Since(start)
		}
		slices.Sort(all)
		return float64(all[times/2].Nanoseconds()) / 1000, nil
	}
	for i, ask := range []func() error{
		func() error { _, err := tenant.CostToday(ctx, s.db, s.keys[0]); return err },
		func() error { _, err := tenant.CostThisMonth(ctx, s.db, s.keys[0]); return err },
	} {
		if answers[i], err = median(501, ask); err != nil {
			return answers, 0, err
		}
	}
	sum, err = median(5, func() error {
		return drain(s.pool.QueryContext(ctx, `SELECT sum(cost) FROM llm_executions WHERE tenant = $1
			AND admitted_at >= date_trunc('month', clock_timestamp(), 'UTC')`, s.ids[0]))
	})
	return answers, sum, errors.Join(err, s.close(ctx, false))
}

// fill books executions over the month up to now, and the balances and the roll-up with them.
func (s *books) fill(ctx context.Context, n int) error {
	if err := s.call(ctx, 0); err != nil { // opens the windows
		return err
	}
	for _, statement := range []string{
		fmt.Sprintf(`INSERT INTO llm_executions (tenant, id, tenant_id, status, provider, model, billed_model, process, admitted_at, deadline_at,
				finished_at, settled_at, cost, tokens, calls, input_tokens)
			SELECT '%s', gen_random_uuid(), 'tenant-0000', 'succeeded', 'openai', 'm', 'm', '%s', t, t, t, t, 8000000, 700, 1, 700
			FROM (SELECT date_trunc('month', clock_timestamp(), 'UTC')
				+ (clock_timestamp() - date_trunc('month', clock_timestamp(), 'UTC')) * (g / %d.0) AS t FROM generate_series(1, %d) g) x`,
			s.ids[0], process, n+1, n),
	} {
		if _, err := s.pool.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	if _, err := s.ledger.Repair(ctx); err != nil {
		return err
	}
	_, err := s.pool.ExecContext(ctx, `VACUUM ANALYZE llm_executions`)
	return err
}
