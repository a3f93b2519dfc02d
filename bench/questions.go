package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/driver/postgres"

	"github.com/llmtenant/tenant"
)

// questions measures what is asked of books with few and with many executions.
func (b *bench) questions(ctx context.Context) ([]Figure, error) {
	const few = 5_000
	small, err := b.ask(ctx, few)
	if err != nil {
		return nil, err
	}
	large, err := b.ask(ctx, b.executions)
	if err != nil {
		return nil, err
	}
	against := fmt.Sprintf("at %d executions", few)
	at := fmt.Sprintf(" at %d executions, p50", b.executions)
	return []Figure{
		{Key: "cost_today", Name: "CostToday" + at, Unit: "us", Value: large.today, Baseline: small.today, Against: against},
		{Key: "cost_this_month", Name: "CostThisMonth" + at, Unit: "us", Value: large.month, Baseline: small.month, Against: against},
		{Key: "cost_today_per_sum", Name: "CostToday" + at, Unit: "us", Value: large.today, Baseline: large.sum, Against: "SELECT sum(cost) over the month's executions"},
	}, nil
}

// answers are the medians, in microseconds, of CostToday, CostThisMonth and a sum over the executions.
type answers struct{ today, month, sum float64 }

func (b *bench) ask(ctx context.Context, executions int) (a answers, err error) {
	url, err := b.database(ctx)
	if err != nil {
		return a, err
	}
	s, err := attach(postgres.Open(url), 1)
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	if err := s.prepare(ctx); err != nil {
		return a, err
	}
	if err := s.fill(ctx, executions); err != nil {
		return a, err
	}
	for _, question := range []struct {
		to    *float64
		times int
		ask   func() error
	}{
		{&a.today, 501, func() error { _, err := tenant.CostToday(ctx, s.db, s.keys[0]); return err }},
		{&a.month, 501, func() error { _, err := tenant.CostThisMonth(ctx, s.db, s.keys[0]); return err }},
		{&a.sum, 5, func() error {
			return drain(s.pool.QueryContext(ctx, `SELECT sum(cost) FROM llm_executions WHERE tenant = $1
				AND admitted_at >= date_trunc('month', clock_timestamp(), 'UTC')`, s.ids[0]))
		}},
	} {
		took := make([]time.Duration, question.times)
		for i := range took {
			start := time.Now()
			if err := question.ask(); err != nil {
				return a, err
			}
			took[i] = time.Since(start)
		}
		*question.to = percentile(took, 0.5)
	}
	return a, nil
}

// fill books executions over the month up to now, and the balances and the roll-up with them.
func (s *books) fill(ctx context.Context, n int) error {
	if _, err := s.pool.ExecContext(ctx, fmt.Sprintf(`INSERT INTO llm_executions (tenant, id, tenant_id, status, provider, model,
			billed_model, process, admitted_at, deadline_at, finished_at, settled_at, cost, tokens, calls, input_tokens)
		SELECT '%s', gen_random_uuid(), '%s', 'succeeded', 'openai', 'm', 'm', '%s', t, t, t, t, 8000000, 700, 1, 700
		FROM (SELECT date_trunc('month', clock_timestamp(), 'UTC')
			+ (clock_timestamp() - date_trunc('month', clock_timestamp(), 'UTC')) * (g / %d.0) AS t FROM generate_series(1, %d) g) x`,
		s.ids[0], s.keys[0], process, n+1, n)); err != nil {
		return err
	}
	if _, err := s.ledger.Repair(ctx); err != nil {
		return err
	}
	_, err := s.pool.ExecContext(ctx, `VACUUM ANALYZE llm_executions`)
	return err
}
