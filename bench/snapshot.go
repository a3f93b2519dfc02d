package main

import (
	"context"
	"database/sql"
	"time"

	"gorm.io/driver/postgres"

	"github.com/llmtenant/tenant"
)

// snapshot measures what a transaction that stays open, with a snapshot of its own, costs a hot tenant. There are two databases
// alike. In one of them a REPEATABLE READ transaction is idle, as a report or pg_dump would be, while a caller makes one call after
// the other in both, until the snapshot has its age. Then both are measured by turns, so that whatever else the machine does
// is the same for both: PostgreSQL keeps old versions for the snapshots of the same database alone.
func (b *bench) snapshot(ctx context.Context) ([]Figure, error) {
	var urls [2]string
	for i := range urls {
		var err error
		if urls[i], err = b.database(ctx); err != nil {
			return nil, err
		}
	}
	var figures []Figure
	w := workload{tenants: 1}
	var beside, without *books
	keep := func(to **books) way {
		return way{booked: true, call: func(s *books) call {
			*to = s
			return s.call
		}}
	}
	err := w.with(ctx, postgres.Open(urls[0]), keep(&beside), func(call) error {
		return w.with(ctx, postgres.Open(urls[1]), keep(&without), func(call) (err error) {
			open, err := beside.pool.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
			if err != nil {
				return err
			}
			defer func() { _ = open.Rollback() }()
			if err := drain(open.QueryContext(ctx, readBalances, beside.ids[0])); err != nil { // takes the snapshot
				return err
			}
			if err := b.grow(ctx, beside, without); err != nil {
				return err
			}
			figures, err = b.compare(ctx, beside, without)
			return err
		})
	})
	return figures, err
}

// grow lets the snapshot reach its age.
func (b *bench) grow(ctx context.Context, all ...*books) error {
	start := time.Now()
	var group failing
	for _, s := range all {
		group.Go(func() error {
			for time.Since(start) < b.age && !group.failed() {
				if err := s.call(ctx, 0); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// compare measures two databases by turns: one caller, many callers, and one who asks.
func (b *bench) compare(ctx context.Context, beside, without *books) ([]Figure, error) {
	of := [2]*books{beside, without}
	var lone, look, sum [2]time.Duration
	calls := 0
	for start := time.Now(); time.Since(start) < 2*b.duration; calls++ {
		for i, s := range of {
			from := time.Now()
			if err := s.call(ctx, 0); err != nil {
				return nil, err
			}
			called := time.Now()
			if _, err := tenant.CostToday(ctx, s.db, s.keys[0]); err != nil {
				return nil, err
			}
			looked := time.Now()
			if _, err := tenant.QueryUsage(ctx, s.db, tenant.Query{Tenant: s.keys[0], Period: tenant.Today}); err != nil {
				return nil, err
			}
			lone[i] += called.Sub(from)
			look[i] += looked.Sub(called)
			sum[i] += time.Since(looked)
		}
	}
	const slices = 5
	var many [2]float64
	for range slices {
		for i, s := range of {
			p, err := busy(ctx, b.duration/slices, 1, hot.callers, s.call)
			if err != nil {
				return nil, err
			}
			many[i] += p.perSecond / slices
		}
	}
	perSecond := func(took time.Duration) float64 { return float64(calls) / took.Seconds() }
	average := func(took time.Duration) float64 { return float64(took.Microseconds()) / float64(calls) }
	const against = "the same without the snapshot"
	title := ", beside a snapshot of " + b.age.String()
	return []Figure{
		{Key: "snapshot_lone_calls_per_second", Name: "calls, one tenant, one caller" + title, Unit: "calls/s",
			Value: perSecond(lone[0]), Baseline: perSecond(lone[1]), Against: against},
		{Key: "snapshot_hot_calls_per_second", Name: "calls, " + hot.title + ", 512 callers" + title, Unit: "calls/s",
			Value: many[0], Baseline: many[1], Against: against},
		{Key: "snapshot_cost_today", Name: "CostToday" + title, Unit: "us",
			Value: average(look[0]), Baseline: average(look[1]), Against: against},
		{Key: "snapshot_questions_today", Name: "QueryUsage of today" + title, Unit: "us",
			Value: average(sum[0]), Baseline: average(sum[1]), Against: against},
	}, nil
}
