package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"

	"github.com/llmtenant/tenant"
)

// imports measures how fast calls that were made elsewhere are booked, beside COPY of the rows that this has made.
func (b *bench) imports(ctx context.Context) ([]Figure, error) {
	const most = 200_000
	n, tenants := min(b.executions, most), asked
	url, err := b.database(ctx)
	if err != nil {
		return nil, err
	}
	s, err := attach(postgres.Open(url), tenants)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.close(ctx) }()
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	first := time.Now().Add(-time.Duration(n) * time.Second)
	calls := func(yield func(tenant.ImportedCall, error) bool) {
		for i := range n {
			call := tenant.ImportedCall{
				ID: fmt.Sprint("call-", i), Tenant: s.keys[i%tenants], At: first.Add(time.Duration(i) * time.Second), Agent: "support", Actual: actual,
			}
			call.Actual.Provider, call.Actual.Model = "openai", "m"
			if !yield(call, nil) {
				return
			}
		}
	}
	start := time.Now()
	report, err := s.ledger.Import(ctx, "bench", calls)
	perSecond := float64(n) / time.Since(start).Seconds()
	if err == nil && report.Booked != int64(n) {
		err = fmt.Errorf("%d of %d calls were booked", report.Booked, n)
	}
	if err == nil {
		err = s.verify(ctx)
	}
	if err != nil {
		return nil, err
	}
	copied, err := s.copyBack(ctx)
	if err != nil {
		return nil, err
	}
	return []Figure{{
		Key: "import_calls_per_second", Name: fmt.Sprintf("Import of %d calls of %d tenants", n, tenants), Unit: "calls/s",
		Value: perSecond, Baseline: copied, Against: "COPY of the rows of its executions",
	}}, nil
}

// copyBack copies the executions into a table of the same columns and indexes, and returns how many it took a second.
func (s *books) copyBack(ctx context.Context) (perSecond float64, err error) {
	conn, err := s.pool.Conn(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	err = conn.Raw(func(raw any) error {
		c := raw.(*stdlib.Conn).Conn()
		rows, err := c.Query(ctx, `SELECT * FROM llm_executions`)
		if err != nil {
			return err
		}
		var names []string
		for _, f := range rows.FieldDescriptions() {
			names = append(names, f.Name)
		}
		all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
		if err != nil {
			return err
		}
		if _, err := c.Exec(ctx, `CREATE TABLE copied (LIKE llm_executions INCLUDING ALL)`); err != nil {
			return err
		}
		start := time.Now()
		n, err := c.CopyFrom(ctx, pgx.Identifier{"copied"}, names, pgx.CopyFromRows(all))
		perSecond = float64(n) / time.Since(start).Seconds()
		return err
	})
	return perSecond, err
}
