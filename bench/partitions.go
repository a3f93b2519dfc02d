package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"gorm.io/driver/postgres"
)

// partitions measures what it costs to keep executions by month. There are two databases with the same executions of a year, one of
// them with fourteen months apart. Both are measured by turns, statement after statement.
func (b *bench) partitions(ctx context.Context) (_ []Figure, err error) {
	const most = 1_000_000
	n, tenants := min(b.executions, most), asked
	var of [2]*books
	for i := range of {
		url, err := b.database(ctx)
		if err != nil {
			return nil, err
		}
		s, err := attach(postgres.Open(url), tenants)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, s.close(ctx)) }()
		if err := s.prepare(ctx); err != nil {
			return nil, err
		}
		if i == 1 {
			if err := s.apart(ctx); err != nil {
				return nil, err
			}
		}
		if err := s.spread(ctx, n); err != nil {
			return nil, err
		}
		of[i] = s
	}
	var there [2][]known
	for i, s := range of {
		if there[i], err = s.known(ctx); err != nil {
			return nil, err
		}
	}
	title := fmt.Sprintf(", %d executions of a year by month", n)
	sum := func(length time.Duration, byID bool) func(*books, *known) error {
		return func(s *books, k *known) error { return s.sum(ctx, k, length, byID) }
	}
	insert := func(s *books, _ *known) error { return s.insert(ctx, rand.IntN(tenants)) }
	settle := func(s *books, k *known) error {
		_, err := s.pool.ExecContext(ctx, `UPDATE llm_executions SET status = 'succeeded', cost = cost + 1, finished_at = now() WHERE tenant = $1 AND id = $2`, k.tenant, k.id)
		return err
	}
	var figures []Figure
	for _, m := range []struct {
		key, name, against string
		databases          [2]int
		do                 [2]func(*books, *known) error // the baseline, and what is measured
	}{
		{"partitions_insert", "INSERT of an execution", "the same in one table", [2]int{0, 1}, [2]func(*books, *known) error{insert, insert}},
		{"partitions_settle", "UPDATE of an execution by its id", "the same in one table", [2]int{0, 1}, [2]func(*books, *known) error{settle, settle}},
		{"partitions_sum_hour", "sum of a tenant's hour", "the same in one table", [2]int{0, 1}, [2]func(*books, *known) error{sum(time.Hour, false), sum(time.Hour, false)}},
		{"partitions_sum_month", "sum of a tenant's 30 days", "the same in one table", [2]int{0, 1}, [2]func(*books, *known) error{sum(month, false), sum(month, false)}},
		{"partitions_sum_hour_by_id", "sum of a tenant's hour by the least id too", "the same without the id", [2]int{1, 1}, [2]func(*books, *known) error{sum(time.Hour, false), sum(time.Hour, true)}},
	} {
		var took [2]time.Duration
		times := 0
		for start := time.Now(); time.Since(start) < b.duration; times++ {
			for i, d := range m.databases {
				from := time.Now()
				if err := m.do[i](of[d], &there[d][times%len(there[d])]); err != nil {
					return nil, fmt.Errorf("%s: %w", m.key, err)
				}
				took[i] += time.Since(from)
			}
		}
		each := func(i int) float64 { return float64(took[i].Microseconds()) / float64(times) }
		figures = append(figures, Figure{Key: m.key, Name: m.name + title, Unit: "us", Value: each(1), Baseline: each(0), Against: m.against})
	}

	const slices = 5
	var perSecond [2]float64
	for range slices {
		for i, s := range of {
			p, err := busy(ctx, b.duration/slices, tenants, many.callers, s.call)
			if err != nil {
				return nil, err
			}
			perSecond[i] += p.perSecond / slices
		}
	}
	return append(figures, Figure{
		Key: "partitions_calls_per_second", Name: "calls, " + many.title + ", 512 callers" + title, Unit: "calls/s",
		Value: perSecond[1], Baseline: perSecond[0], Against: "the same in one table",
	}), nil
}

// apart has executions kept by month, those of the year before too.
func (s *books) apart(ctx context.Context) error {
	if err := s.ledger.Partition(ctx); err != nil {
		return err
	}
	statements := []string{
		`ALTER TABLE llm_executions DETACH PARTITION llm_executions_past`,
	}
	now := time.Now().UTC().Add(48 * time.Hour)
	next := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC).AddDate(0, 1, 0)
	for m := next.AddDate(0, -14, 0); m.Before(next); m = m.AddDate(0, 1, 0) {
		statements = append(statements, fmt.Sprintf(`CREATE TABLE llm_executions_%s PARTITION OF llm_executions FOR VALUES FROM ('%s') TO ('%s')`,
			m.Format("2006_01"), leastID(m), leastID(m.AddDate(0, 1, 0))))
	}
	for _, statement := range append(statements, `INSERT INTO llm_executions SELECT * FROM llm_executions_past`, `DROP TABLE llm_executions_past`) {
		if _, err := s.pool.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// leastID is the least id of a time.
func leastID(t time.Time) (id uuid.UUID) {
	ms := t.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (8 * (5 - i)))
	}
	return id
}

// month is how long the sums of single calls are.
const month = 30 * 24 * time.Hour

// known is an execution that is there.
type known struct {
	tenant, id uuid.UUID
	at         time.Time
}

// known returns some executions, in no order.
func (s *books) known(ctx context.Context) (all []known, err error) {
	rows, err := s.pool.QueryContext(ctx, `SELECT tenant, id, admitted_at FROM llm_executions WHERE agent = 'support' ORDER BY md5(id::text) LIMIT 5000`)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var k known
		if err := rows.Scan(&k.tenant, &k.id, &k.at); err != nil {
			return nil, err
		}
		all = append(all, k)
	}
	return all, rows.Err()
}

// sum adds up single calls as the ledger does where a period cuts an hour. The least id is as far before the period as clocks of processes
// may be behind the database's.
func (s *books) sum(ctx context.Context, at *known, length time.Duration, byID bool) error {
	statement, args := `SELECT sum(cost), sum(tokens), count(*) FROM llm_executions WHERE tenant = $1 AND admitted_at >= $2 AND admitted_at < $3
		AND status <> 'running' AND status <> 'cancelled'`, []any{at.tenant, at.at, at.at.Add(length)}
	if byID {
		statement, args = statement+` AND id >= $4`, append(args, leastID(at.at.Add(-48*time.Hour)))
	}
	var cost, tokens sql.NullInt64
	var calls int64
	return s.pool.QueryRowContext(ctx, statement, args...).Scan(&cost, &tokens, &calls)
}
