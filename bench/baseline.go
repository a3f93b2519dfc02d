package main

import (
	"context"
	"database/sql"
	"time"

	"github.com/google/uuid"
)

// steps does what the ledger does, with the same effects on the same tables, in a transaction for each step: what a
// careful service would write without this library. All figures that say "a transaction per step" are against it.
type steps struct{ db *sql.DB }

// rows are the statements of the baseline for a dialect: in SQLite a transaction locks everything from its beginning.
const (
	lockBalances = `SELECT window_unit, spent_cost, spent_tokens, spent_calls, held_cost, held_tokens, held_calls
		FROM llm_balances WHERE tenant = $1 ORDER BY window_unit FOR NO KEY UPDATE`
	readLimits = `SELECT window_unit, metric, amount FROM llm_limits WHERE tenant = $1`
	addHold    = `UPDATE llm_balances SET held_cost = held_cost + $2, held_tokens = held_tokens + $3, held_calls = held_calls + 1
		WHERE tenant = $1`
	insertRunning = `INSERT INTO llm_executions (tenant, id, tenant_id, status, agent, provider, model, process, admitted_at, deadline_at, held_cost, held_tokens)
		VALUES ($1, $2, $3, 'running', '', 'openai', 'm', $4, clock_timestamp(), clock_timestamp() + interval '1 hour', $5, $6)`
	settleExecution = `UPDATE llm_executions SET status = 'succeeded', finished_at = clock_timestamp(), settled_at = clock_timestamp(),
		cost = $3, tokens = $4, calls = 1, input_tokens = $4 WHERE tenant = $1 AND id = $2 AND status = 'running'`
	moveHold = `UPDATE llm_balances SET held_cost = held_cost - $2, held_tokens = held_tokens - $3, held_calls = held_calls - 1,
		spent_cost = spent_cost + $4, spent_tokens = spent_tokens + $5, spent_calls = spent_calls + 1 WHERE tenant = $1`
	addUsage = `INSERT INTO llm_usage (tenant, hour, agent, model, billed_model, calls, cost, tokens, input_tokens)
		VALUES ($1, date_trunc('hour', clock_timestamp(), 'UTC'), '', 'm', 'm', 1, $2, $3, $3)
		ON CONFLICT (tenant, hour, agent, model, billed_model) DO UPDATE SET calls = llm_usage.calls + 1,
		cost = llm_usage.cost + excluded.cost, tokens = llm_usage.tokens + excluded.tokens, input_tokens = llm_usage.input_tokens + excluded.input_tokens`
)

const (
	heldCost, heldTokens = 10_000_000, 1_000
	paidCost, paidTokens = 8_000_000, 700
)

func (s steps) call(ctx context.Context, tenant uuid.UUID, key string) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	if err := s.transaction(ctx, func(tx *sql.Tx) error {
		if err := drain(tx.QueryContext(ctx, lockBalances, tenant)); err != nil {
			return err
		}
		if err := drain(tx.QueryContext(ctx, readLimits, tenant)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, insertRunning, tenant, id, key, process, heldCost, heldTokens); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, addHold, tenant, heldCost, heldTokens)
		return err
	}); err != nil {
		return err
	}
	return s.transaction(ctx, func(tx *sql.Tx) error {
		if err := drain(tx.QueryContext(ctx, lockBalances, tenant)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, settleExecution, tenant, id, paidCost, paidTokens); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, moveHold, tenant, heldCost, heldTokens, paidCost, paidTokens); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, addUsage, tenant, paidCost, paidTokens)
		return err
	})
}

func (s steps) transaction(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
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

// process stands for the process in rows that the baselines write.
var process = uuid.MustParse("00000000-0000-7000-8000-000000000001")

// insert writes the execution row of a call, once, and nothing else: no admission, no balance.
func insert(ctx context.Context, db *sql.DB, tenant uuid.UUID, key string) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	now := time.Now()
	_, err = db.ExecContext(ctx, `INSERT INTO llm_executions (tenant, id, tenant_id, status, provider, model, billed_model, process,
			admitted_at, deadline_at, finished_at, settled_at, held_cost, held_tokens, cost, tokens, calls, input_tokens)
		VALUES ($1, $2, $3, 'succeeded', 'openai', 'm', 'm', $4, $5, $5, $5, $5, $6, $7, $8, $9, 1, $9)`,
		tenant, id, key, process, now, heldCost, heldTokens, paidCost, paidTokens)
	return err
}
