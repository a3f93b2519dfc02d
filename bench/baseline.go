package main

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/llmtenant/tenant/internal/sqldb"
)

// steps does what the ledger does, with the same effects on the same tables, in a transaction for each step: what a
// careful service would write without this library. All figures that say "a transaction per step" are against it.
type steps struct {
	*books
	lockBalances, addUsage string
}

const (
	readBalances = `SELECT spent_cost, spent_tokens, spent_calls, held_cost, held_tokens, held_calls,
			day_spent_cost, day_spent_tokens, day_spent_calls, day_held_cost, day_held_tokens, day_held_calls,
			month_spent_cost, month_spent_tokens, month_spent_calls, month_held_cost, month_held_tokens, month_held_calls
		FROM llm_balances WHERE tenant = $1`
	readLimits = `SELECT limits FROM llm_tenants WHERE id = $1`
	addHold    = `UPDATE llm_balances SET held_cost = held_cost + $2, held_tokens = held_tokens + $3, held_calls = held_calls + 1,
			day_held_cost = day_held_cost + $2, day_held_tokens = day_held_tokens + $3, day_held_calls = day_held_calls + 1,
			month_held_cost = month_held_cost + $2, month_held_tokens = month_held_tokens + $3, month_held_calls = month_held_calls + 1
		WHERE tenant = $1`
	insertRunning = `INSERT INTO llm_executions (tenant, id, tenant_id, status, agent, provider, model, process, admitted_at, deadline_at, held_cost, held_tokens)
		VALUES ($1, $2, $3, 'running', '', 'openai', 'm', $4, $5, $6, $7, $8)`
	settleExecution = `UPDATE llm_executions SET status = 'succeeded', billed_model = 'm', finished_at = $3, settled_at = $3,
		cost = $4, tokens = $5, calls = 1, input_tokens = $5 WHERE tenant = $1 AND id = $2 AND status = 'running'`
	moveHold = `UPDATE llm_balances SET held_cost = held_cost - $2, held_tokens = held_tokens - $3, held_calls = held_calls - 1,
			spent_cost = spent_cost + $4, spent_tokens = spent_tokens + $5, spent_calls = spent_calls + 1,
			day_held_cost = day_held_cost - $2, day_held_tokens = day_held_tokens - $3, day_held_calls = day_held_calls - 1,
			day_spent_cost = day_spent_cost + $4, day_spent_tokens = day_spent_tokens + $5, day_spent_calls = day_spent_calls + 1,
			month_held_cost = month_held_cost - $2, month_held_tokens = month_held_tokens - $3, month_held_calls = month_held_calls - 1,
			month_spent_cost = month_spent_cost + $4, month_spent_tokens = month_spent_tokens + $5, month_spent_calls = month_spent_calls + 1
		WHERE tenant = $1`
	usageKey = "tenant, hour, agent, model, billed_model, provider, service_tier, below"
	addUsage = `INSERT INTO llm_usage (tenant, hour, agent, model, billed_model, provider, calls, cost, tokens, input_tokens)
		VALUES ($1, $2, '', 'm', 'm', 'openai', 1, $3, $4, $4)
		ON CONFLICT (%s) DO UPDATE SET calls = llm_usage.calls + 1,
		cost = llm_usage.cost + excluded.cost, tokens = llm_usage.tokens + excluded.tokens, input_tokens = llm_usage.input_tokens + excluded.input_tokens`
)

const (
	heldCost, heldTokens = 10_000_000, 1_000
	paidCost, paidTokens = 8_000_000, 700
)

// process stands for the process in rows that the baselines write.
var process = uuid.MustParse("00000000-0000-7000-8000-000000000001")

// newSteps prepares for the database. On SQLite, where a transaction locks everything from its beginning (the database is
// opened so), callers wait in line for one connection: more would poll for the lock, and some would never get it.
func newSteps(s *books) steps {
	if s.dialect() == sqldb.SQLite {
		s.pool.SetMaxOpenConns(1)
		return steps{s, readBalances, fmt.Sprintf(addUsage, usageKey)}
	}
	return steps{s, readBalances + ` FOR NO KEY UPDATE`, fmt.Sprintf(addUsage, usageKey+", generation")}
}

func (s steps) call(ctx context.Context, i int) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	tenant, admitted, at := s.ids[i], time.Now().UTC(), s.dialect().Time
	if err := s.transaction(ctx, func(tx *sql.Tx) error {
		if err := drain(tx.QueryContext(ctx, s.lockBalances, tenant)); err != nil {
			return err
		}
		if err := drain(tx.QueryContext(ctx, readLimits, tenant)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, insertRunning, tenant, id, string(s.keys[i]), process,
			at(admitted), at(admitted.Add(time.Hour)), heldCost, heldTokens); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, addHold, tenant, heldCost, heldTokens)
		return err
	}); err != nil {
		return err
	}
	return s.transaction(ctx, func(tx *sql.Tx) error {
		if err := drain(tx.QueryContext(ctx, s.lockBalances, tenant)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, settleExecution, tenant, id, at(time.Now()), paidCost, paidTokens); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, moveHold, tenant, heldCost, heldTokens, paidCost, paidTokens); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, s.addUsage, tenant, at(admitted.Truncate(time.Hour)), paidCost, paidTokens)
		return err
	})
}

func (s steps) transaction(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := s.pool.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func drain(rows *sql.Rows, err error) error {
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		continue
	}
	return rows.Err()
}

// insert writes the execution row of a call, once, and nothing else: no admission, no balance.
func (s *books) insert(ctx context.Context, i int) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	_, err = s.pool.ExecContext(ctx, `INSERT INTO llm_executions (tenant, id, tenant_id, status, provider, model, billed_model, process,
			admitted_at, deadline_at, finished_at, settled_at, held_cost, held_tokens, cost, tokens, calls, input_tokens)
		VALUES ($1, $2, $3, 'succeeded', 'openai', 'm', 'm', $4, $5, $5, $5, $5, $6, $7, $8, $9, 1, $9)`,
		s.ids[i], id, string(s.keys[i]), process, time.Now(), heldCost, heldTokens, paidCost, paidTokens)
	return err
}
