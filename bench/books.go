package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/llmtenant/tenant"
	"github.com/llmtenant/tenant/internal/sqldb"
)

// call makes one call for a tenant, by its number.
type call func(ctx context.Context, i int) error

// books is a database with a ledger on it.
type books struct {
	db     *gorm.DB
	pool   *sql.DB
	ledger *tenant.Ledger

	// The tenants that calls are made for: their keys and, where they were prepared, their ids.
	keys []tenant.ID
	ids  []uuid.UUID

	zone string // of the first tenant; empty: the ledger's
}

const poolSize = 40

// What a call's estimate and its end say is made once, as a program does that knows its prices: what it takes to parse an
// amount is no part of a call.
var (
	estimate = tenant.Estimate{Provider: "openai", Model: "m", InputTokens: heldTokens, Cost: tenant.USD("0.01")}
	actual   = tenant.Actual{Cost: tenant.USD("0.008"), Usage: tenant.Usage{Input: paidTokens}}
)

func key(i int) tenant.ID { return tenant.ID(fmt.Sprintf("tenant-%06d", i)) }

// attach opens a ledger on a database as it is, to make calls for so many tenants.
func attach(dialector gorm.Dialector, tenants int, options ...tenant.OpenOption) (_ *books, err error) {
	s := &books{}
	for i := range tenants {
		s.keys = append(s.keys, key(i))
	}
	if s.db, err = gorm.Open(dialector, &gorm.Config{Logger: logger.Discard}); err != nil {
		return nil, err
	}
	if s.pool, err = s.db.DB(); err != nil {
		return nil, err
	}
	s.pool.SetMaxOpenConns(poolSize)
	s.pool.SetMaxIdleConns(poolSize)
	if s.ledger, err = tenant.Open(s.db, options...); err != nil {
		return nil, errors.Join(err, s.pool.Close())
	}
	return s, nil
}

// prepare makes the tables, and the tenants with limits that do not bite, and makes a call for each, so that their windows are
// open and every statement has been prepared.
func (s *books) prepare(ctx context.Context) error {
	if err := s.ledger.Migrate(ctx); err != nil {
		return err
	}
	err := every(ctx, len(s.keys), func(ctx context.Context, i int) error {
		return tenant.ConfigureBudget(ctx, s.db, s.keys[i], func(b *tenant.Budget) error {
			b.Enforcement = tenant.Hard
			if i == 0 {
				b.TimeZone = s.zone
			}
			b.Limits = tenant.Limits{DailyCost: tenant.USD("1000000000"), MonthlyTokens: tenant.Count(1 << 60)}
			return nil
		})
	})
	if err != nil {
		return err
	}
	if err := every(ctx, len(s.keys), s.call); err != nil {
		return err
	}
	var ids []string
	if err := s.db.WithContext(ctx).Raw(`SELECT id FROM llm_tenants WHERE tenant_id LIKE 'tenant-%' ORDER BY tenant_id`).Scan(&ids).Error; err != nil {
		return err
	}
	for _, id := range ids {
		parsed, err := uuid.Parse(id)
		if err != nil {
			return err
		}
		s.ids = append(s.ids, parsed)
	}
	// The baselines' executions need a process that is alive, or the ledger would take them for abandoned ones.
	dialect := s.dialect()
	_, err = s.pool.ExecContext(ctx, `INSERT INTO llm_processes (id, started_at, beat_at, lease_ms) VALUES ($1, `+
		dialect.Clock+`, `+dialect.Clock+`, 86400000)`, process)
	return err
}

func (s *books) dialect() *sqldb.Dialect { return sqldb.Of(s.db.Name()) }

// call is one call through the ledger: reserve and settle, with nothing in between.
func (s *books) call(ctx context.Context, i int) error { return s.callFor(ctx, s.keys[i]) }

func (s *books) callFor(ctx context.Context, t tenant.Tenant) error {
	hold, err := s.ledger.Reserve(ctx, t, estimate)
	if err != nil {
		return err
	}
	_, err = s.ledger.Settle(ctx, hold, actual)
	return err
}

// verify fails if the books are not the sum of the executions.
func (s *books) verify(ctx context.Context) error {
	differences, err := s.ledger.Verify(ctx)
	if err == nil && len(differences) > 0 {
		err = fmt.Errorf("the books differ in %d figures, the first: %v", len(differences), differences[0])
	}
	return err
}

func (s *books) close(ctx context.Context) error {
	return errors.Join(s.ledger.Close(ctx), s.pool.Close())
}

// every does something for each of so many tenants.
func every(ctx context.Context, tenants int, do call) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(32) // the pool has more connections than that
	for i := range tenants {
		group.Go(func() error { return do(ctx, i) })
	}
	return group.Wait()
}
